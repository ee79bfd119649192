/* The default model's logits and perplexity against transformers (tools/golden/logits_smollm2.py).  Needs JPT_MODEL, the path of
 * SmolLM2-135M-Instruct Q4_1; skips without. */
#include <jansson.h>
#include <jpt/model.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static json_t *golden;

static jpt_model *open_model(const char *dtype) {
    const char       *path = getenv("JPT_MODEL");
    jpt_model_options o = {.dtype = dtype};
    jpt_model        *m;
    jpt_error         err = {0};
    if (!path || !*path) {
        printf("skipped: JPT_MODEL is not set\n");
        skip();
    }
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return m;
}

static void logits_equal_transformers(void **unused) {
    (void)unused;
    jpt_model          *m = open_model("f32");
    jpt_session_options so = {.n_ctx = 64, .n_seqs = 1, .n_outputs = 64};
    jpt_session        *s;
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    int32_t V = jpt_model_get_info(m)->n_vocab;
    float  *z = malloc((size_t)V * sizeof *z);
    double  worst = 0;
    size_t  i, n_values = 0;
    json_t *p, *places = json_object_get(golden, "places");
    json_array_foreach(json_object_get(golden, "prompts"), i, p) {
        int32_t ids[64];
        jpt_seq seq;
        for (size_t k = 0; k < 64; k++)
            ids[k] = (int32_t)json_integer_value(json_array_get(json_object_get(p, "ids"), k));
        assert_int_equal(jpt_seq_new(s, &seq, NULL), JPT_OK);
        jpt_batch_item item = {.seq = seq, .tokens = ids, .n_tokens = 64, .logits = JPT_ROWS_ALL};
        jpt_batch      batch = {.items = &item, .n_items = 1};
        assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
        for (size_t t = 0; t < 64; t++) {
            assert_int_equal(jpt_session_logits(s, item.logits_row + (int32_t)t, z, NULL), JPT_OK);
            double max = -INFINITY, sum = 0;
            for (int32_t v = 0; v < V; v++)
                max = fmax(max, (double)z[v]);
            for (int32_t v = 0; v < V; v++)
                sum += exp((double)z[v] - max);
            worst = fmax(worst, fabs(max + log(sum) - json_number_value(json_array_get(json_object_get(p, "lse"), t))));
            json_t *top = json_array_get(json_object_get(p, "top"), t), *top_z = json_array_get(json_object_get(p, "top_z"), t),
                   *at = json_array_get(json_object_get(p, "z"), t);
            for (size_t k = 0; k < json_array_size(top); k++, n_values++)
                worst = fmax(worst, fabs((double)z[json_integer_value(json_array_get(top, k))] - json_number_value(json_array_get(top_z, k))));
            for (size_t k = 0; k < json_array_size(places); k++, n_values++)
                worst = fmax(worst, fabs((double)z[json_integer_value(json_array_get(places, k))] - json_number_value(json_array_get(at, k))));
        }
        jpt_seq_free(s, seq);
    }
    printf("golden: logits of SmolLM2 against transformers %s, f32: %zu values over 5 prompts x 64 positions, max |difference| %.2e\n",
           json_string_value(json_object_get(golden, "transformers")), n_values, worst);
    assert_true(n_values == 5 * 64 * 16);
    assert_true(worst <= 1e-3);
    free(z);
    jpt_session_close(s);
    jpt_model_close(m);
}

static double perplexity(const char *dtype, int32_t *n) {
    jpt_model          *m = open_model(dtype);
    jpt_session_options so = {.n_ctx = 2048, .n_outputs = 64};
    jpt_session        *s;
    jpt_buf             text = {0};
    jpt_ids             ids = {0};
    double              nll;
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    assert_int_equal(jpt_file_read(JPT_SOURCE_DIR "/tests/golden/ppl_text.txt", &text, NULL), JPT_OK);
    assert_int_equal(jpt_tokenizer_encode(jpt_model_tokenizer(m), text.p, text.n, 0, &ids, NULL), JPT_OK);
    assert_int_equal(jpt_model_nll(s, ids.p, (int32_t)ids.n, &nll, n, NULL), JPT_OK);
    jpt_ids_fini(&ids);
    jpt_buf_fini(&text);
    jpt_session_close(s);
    jpt_model_close(m);
    return exp(nll / *n);
}

static void perplexity_equals_transformers(void **unused) {
    (void)unused;
    int32_t n;
    double  want = json_number_value(json_object_get(golden, "ppl")), exact = perplexity("f32", &n);
    assert_int_equal(n, json_integer_value(json_object_get(golden, "ppl_tokens")));
    double fast = perplexity("auto", &n);
    printf("golden: perplexity of 4 KB: transformers %.5f, f32 %.5f (%.4f %%), auto %.5f (%.4f %%)\n", want, exact, 100 * (exact / want - 1), fast, 100 * (fast / want - 1));
    assert_true(fabs(exact / want - 1) <= 1e-3);
    assert_true(fabs(fast / want - 1) <= 5e-3);
}

int main(void) {
    golden = json_load_file(JPT_SOURCE_DIR "/tests/golden/logits_smollm2.json", 0, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_transformers), cmocka_unit_test(perplexity_equals_transformers)};
    int rc = golden ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    json_decref(golden);
    return rc;
}
