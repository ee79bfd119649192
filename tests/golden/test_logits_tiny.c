/* Tiny models whose logits transformers computed (tools/golden/logits_tiny.py): the arithmetic of llama and qwen2, of RoPE and its
 * scalings, grouped heads, biases, tied and untied heads, on every CPU path; needs no download.  And stories260K, whose greedy
 * text is known from llama2.c, where JPT_DATA has it. */
#include <jansson.h>
#include <jpt/model.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static json_t *golden;

static jpt_model *open_model(const char *path, const char *device, const char *dtype) {
    jpt_model_options o = {.device = device, .dtype = dtype, .n_threads = 2};
    jpt_model        *m;
    jpt_error         err = {0};
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return m;
}

/* Largest |difference| over all stored logits of one case. */
static double worst_of(json_t *c, const char *device, const char *dtype, size_t *n_values) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/logits_tiny_%s.gguf", JPT_SOURCE_DIR, json_string_value(json_object_get(c, "name")));
    jpt_model          *m = open_model(path, device, dtype);
    jpt_session_options so = {.n_ctx = 256, .n_batch = 48, .n_outputs = 200}; /* several passes */
    jpt_session        *s;
    jpt_seq             seq;
    json_t             *ids = json_object_get(c, "ids"), *at = json_object_get(c, "positions"), *want = json_object_get(c, "z"), *p;
    size_t              n = json_array_size(ids), i;
    int32_t             V = jpt_model_get_info(m)->n_vocab, tok[200];
    float              *z = malloc((size_t)V * sizeof *z);
    double              worst = 0;
    assert_int_equal(n, 200);
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    for (i = 0; i < n; i++)
        tok[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    assert_int_equal(jpt_seq_new(s, &seq, NULL), JPT_OK);
    jpt_batch_item item = {.seq = seq, .tokens = tok, .n_tokens = (int32_t)n, .logits = JPT_ROWS_ALL};
    jpt_batch      batch = {.items = &item, .n_items = 1};
    assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
    assert_int_equal(jpt_session_work(s).passes, 5);
    json_array_foreach(at, i, p) {
        json_t *row = json_array_get(want, i);
        assert_int_equal(json_array_size(row), V);
        assert_int_equal(jpt_session_logits(s, item.logits_row + (int32_t)json_integer_value(p), z, NULL), JPT_OK);
        for (int32_t v = 0; v < V; v++, (*n_values)++) {
            double d = fabs((double)z[v] - json_number_value(json_array_get(row, (size_t)v)));
            worst = d <= worst ? worst : d; /* a NaN stays */
        }
    }
    free(z);
    jpt_session_close(s);
    jpt_model_close(m);
    return worst;
}

static void tiny_models_equal_transformers(void **unused) {
    (void)unused;
    size_t  i, n = 0;
    json_t *c;
    assert_int_equal(json_array_size(json_object_get(golden, "cases")), 6);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        double ref = worst_of(c, "ref", "f32", &n), cpu = worst_of(c, "cpu", "f32", &n), fast = worst_of(c, "cpu", "auto", &n);
        printf("golden: tiny %-12s against transformers, max |difference|: ref f32 %.1e, cpu f32 %.1e, cpu auto %.1e\n",
               json_string_value(json_object_get(c, "name")), ref, cpu, fast);
        assert_true(ref <= 1e-4);
        assert_true(cpu <= 1e-4);
        assert_true(fast <= 5e-2); /* the cache is float16 */
    }
    assert_int_equal(n, 6 * 3 * 10 * 264);
}

static void stories_equal_llama2c(void **unused) {
    (void)unused;
    const char *data = getenv("JPT_DATA");
    char        path[1024];
    snprintf(path, sizeof path, "%s/stories260K/stories260K.bin", data ? data : "");
    if (!data || access(path, R_OK) != 0) {
        printf("skipped: JPT_DATA names no folder with stories260K/stories260K.bin\n");
        skip();
    }
    static const char known[] = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red "
                                "ball. She wanted to play with it, but it was too high.";
    for (int f32 = 0; f32 < 2; f32++) {
        jpt_model   *m = open_model(path, "cpu", f32 ? "f32" : "auto");
        jpt_session *s;
        jpt_seq      seq;
        int32_t      V = jpt_model_get_info(m)->n_vocab, next = jpt_tokenizer_bos(jpt_model_tokenizer(m));
        float       *z = malloc((size_t)V * sizeof *z);
        jpt_buf      text = {0};
        jpt_ids      ids = {0};
        assert_int_equal(jpt_session_open(m, NULL, &s, NULL), JPT_OK);
        assert_int_equal(jpt_seq_new(s, &seq, NULL), JPT_OK);
        for (int k = 0; k < 120; k++) {
            jpt_batch_item item = {.seq = seq, .tokens = &next, .n_tokens = 1, .logits = JPT_ROWS_LAST};
            jpt_batch      batch = {.items = &item, .n_items = 1};
            assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
            assert_int_equal(jpt_session_logits(s, item.logits_row, z, NULL), JPT_OK);
            next = 0;
            for (int32_t v = 1; v < V; v++)
                next = z[v] > z[next] ? v : next;
            assert_true(jpt_ids_push(&ids, next));
        }
        assert_int_equal(jpt_tokenizer_decode(jpt_model_tokenizer(m), ids.p, ids.n, JPT_DECODE_SKIP_SPECIAL, &text, NULL), JPT_OK);
        if (text.n < sizeof known - 1 || memcmp(text.p, known, sizeof known - 1) != 0)
            fail_msg("stories260K begins: %s", text.p);
        printf("golden: stories260K %s gives llama2.c's greedy text\n", f32 ? "f32" : "auto");
        free(z);
        jpt_buf_fini(&text);
        jpt_ids_fini(&ids);
        jpt_session_close(s);
        jpt_model_close(m);
    }
}

int main(void) {
    golden = json_load_file(JPT_SOURCE_DIR "/tests/golden/logits_tiny.json", 0, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny_models_equal_transformers), cmocka_unit_test(stories_equal_llama2c)};
    int rc = golden ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    json_decref(golden);
    return rc;
}
