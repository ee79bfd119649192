/* Likelihoods after a prompt and last hidden states against transformers (tools/golden/make_evaluate.py).  Needs JPT_MODEL, the path of
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

static void as_transformers(void **unused) {
    (void)unused;
    const char       *path = getenv("JPT_MODEL");
    jpt_model_options o = {.dtype = "f32"};
    jpt_session_options so = {.n_ctx = 256, .n_seqs = 4, .n_outputs = 64};
    jpt_model        *m;
    jpt_session      *s;
    jpt_error         err = {0};
    if (!path || !*path) {
        printf("skipped: JPT_MODEL is not set\n");
        skip();
    }
    json_t *golden = json_load_file(JPT_SOURCE_DIR "/tests/golden/evaluate_smollm2.json", 0, NULL), *p, *pairs = json_object_get(golden, "pairs");
    size_t  i, n = json_array_size(pairs);
    assert_true(n >= 6 && n <= 16);
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK || jpt_session_open(m, &so, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    size_t  D = (size_t)jpt_model_get_info(m)->n_embd;
    double  worst_nll = 0, worst_feature = 0;
    jpt_str text[16];
    float  *f = calloc(n * D, sizeof *f);
    json_array_foreach(pairs, i, p) {
        jpt_str prompt = jpt_str_z(json_string_value(json_object_get(p, "prompt")));
        double  nll, alone;
        int32_t count;
        text[i] = jpt_str_z(json_string_value(json_object_get(p, "text")));
        assert_int_equal(jpt_model_text_nll(s, (jpt_str){"", 0}, text[i], &alone, &count, NULL), JPT_OK);
        assert_int_equal(jpt_model_text_nll(s, prompt, text[i], &nll, &count, NULL), JPT_OK);
        assert_int_equal(count, json_integer_value(json_object_get(p, "tokens")));
        worst_nll = fmax(worst_nll, fabs(nll - json_real_value(json_object_get(p, "prompted_nll"))) / count);
        worst_nll = fmax(worst_nll, fabs(alone - json_real_value(json_object_get(p, "nll"))) / count);
    }
    assert_int_equal(jpt_model_features(s, text, (int32_t)n, 4, 0, f, NULL, NULL), JPT_OK);
    json_array_foreach(pairs, i, p) {
        double off = 0, all = 0;
        for (size_t d = 0; d < D; d++) {
            double w = json_number_value(json_array_get(json_object_get(p, "feature"), d));
            off += (w - (double)f[i * D + d]) * (w - (double)f[i * D + d]);
            all += w * w;
        }
        worst_feature = fmax(worst_feature, sqrt(off / all));
    }
    printf("golden: log-probability a token after a prompt: %zu pairs, largest difference %.2g; MAUVE features: relative %.2g\n", n, worst_nll, worst_feature);
    assert_true(worst_nll < 1e-4);
    assert_true(worst_feature < 1e-4);
    free(f);
    json_decref(golden);
    jpt_session_close(s);
    jpt_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
