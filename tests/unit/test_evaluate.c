/* What a model says about texts: a prompted likelihood is a difference of two plain ones, features are the last hidden state whatever
 * stands beside, cosines are those of the vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jpt/evaluate.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static jpt_model *open_model(void) {
    jpt_model              *m;
    jpt_error               err = {0};
    const jpt_model_options o = {.dtype = "f32", .n_threads = 1};
    if (jpt_model_open(JPT_SOURCE_DIR "/tests/golden/logits_tiny_llama.gguf", &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return m;
}
static jpt_session *open_session(jpt_model *m, int32_t n_ctx) {
    jpt_session_options so = {.n_ctx = n_ctx, .n_seqs = 3, .n_outputs = 64};
    jpt_session        *s;
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    return s;
}
static jpt_encoder *open_encoder(void) {
    jpt_encoder *e;
    jpt_error    err = {0};
    if (jpt_encoder_open(JPT_SOURCE_DIR "/tests/golden/encoder_tiny", NULL, 1, &e, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return e;
}

/* -ln p of tokens[1..n), one forward and no windows: what all is compared with. */
static double plain_nll(jpt_session *s, const int32_t *tokens, int32_t n, int32_t first) {
    int32_t        V = jpt_model_get_info(jpt_session_model(s))->n_vocab;
    float         *z = malloc((size_t)V * sizeof *z);
    double         nll = 0;
    jpt_seq        q;
    assert_int_equal(jpt_seq_new(s, &q, NULL), JPT_OK);
    for (int32_t i = 0; i + 1 < n; i++) {
        jpt_batch_item it = {.seq = q, .tokens = tokens + i, .n_tokens = 1, .logits = JPT_ROWS_LAST};
        jpt_batch      b = {.items = &it, .n_items = 1};
        double         sum = 0;
        assert_int_equal(jpt_session_forward(s, &b, NULL), JPT_OK);
        assert_int_equal(jpt_session_logits(s, it.logits_row, z, NULL), JPT_OK);
        for (int32_t v = 0; v < V; v++)
            sum += exp((double)z[v]);
        if (i + 1 >= first)
            nll += log(sum) - (double)z[tokens[i + 1]];
    }
    jpt_seq_free(s, q);
    free(z);
    return nll;
}

static void likelihoods(void **unused) {
    (void)unused;
    jpt_model           *m = open_model();
    jpt_session         *s = open_session(m, 200);
    const jpt_tokenizer *tok = jpt_model_tokenizer(m);
    char                 long_text[121];
    memset(long_text, 'q', 120);
    long_text[120] = '\0';
    const char *const pairs[][2] = {{"", "a text"}, {"the prompt ", "and what follows"}, {"x", "y"}, {long_text, "short"}, {"short", "sixty-four bytes and more, so that the rows take two forwards and a bit"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        jpt_ids ids = {0};
        int32_t start = jpt_tokenizer_bos(tok) >= 0 ? jpt_tokenizer_bos(tok) : jpt_tokenizer_eos(tok), count;
        double  nll;
        assert_true(start >= 0);
        jpt_ids_push(&ids, start);
        jpt_tokenizer_encode(tok, pairs[i][0], strlen(pairs[i][0]), 0, &ids, NULL);
        int32_t first = (int32_t)ids.n;
        jpt_tokenizer_encode(tok, pairs[i][1], strlen(pairs[i][1]), 0, &ids, NULL);
        assert_int_equal(jpt_model_text_nll(s, jpt_str_z(pairs[i][0]), jpt_str_z(pairs[i][1]), &nll, &count, NULL), JPT_OK);
        assert_int_equal(count, (int32_t)ids.n - first);
        double want = plain_nll(s, ids.p, (int32_t)ids.n, first);
        if (!(fabs(nll - want) < 1e-5 * want))
            fail_msg("pair %zu: %.9g, expected %.9g", i, nll, want);
        jpt_ids_fini(&ids);
    }
    double  nll;
    int32_t count = -1;
    assert_int_equal(jpt_model_text_nll(s, jpt_str_z("prompt"), jpt_str_z(""), &nll, &count, NULL), JPT_OK);
    assert_true(count == 0 && nll == 0);
    /* a prompt that does not fit loses its beginning, and the text is scored all the same */
    jpt_session *narrow = open_session(m, 64);
    assert_int_equal(jpt_model_text_nll(narrow, jpt_str_z(long_text), jpt_str_z("the text"), &nll, &count, NULL), JPT_OK);
    jpt_ids ids = {0};
    jpt_tokenizer_encode(tok, "the text", 8, 0, &ids, NULL);
    assert_int_equal(count, ids.n);
    assert_true(isfinite(nll) && nll > 0);
    jpt_ids_fini(&ids);
    jpt_session_close(narrow);
    jpt_session_close(s);
    jpt_model_close(m);
}

static void features(void **unused) {
    (void)unused;
    jpt_model    *m = open_model();
    jpt_session  *s = open_session(m, 100);
    const int32_t D = jpt_model_get_info(m)->n_embd;
    const jpt_str t[5] = {jpt_str_z("one"), jpt_str_z(""), jpt_str_z("three texts in a batch"), jpt_str_z("four"), jpt_str_z("a text that is longer than the limit of tokens below")};
    float        *all = calloc((size_t)(5 * D), sizeof *all), *alone = calloc((size_t)D, sizeof *alone);
    int32_t       n[5], one;
    assert_int_equal(jpt_model_features(s, t, 5, 3, 20, all, n, NULL), JPT_OK);
    assert_true(n[1] >= 1 && n[4] == 20);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(jpt_model_features(s, &t[i], 1, 1, 20, alone, &one, NULL), JPT_OK);
        assert_int_equal(one, n[i]);
        assert_memory_equal(alone, all + i * D, (size_t)D * sizeof *alone);
    }
    jpt_seq        q;
    jpt_ids        ids = {0};
    jpt_tokenizer_encode(jpt_model_tokenizer(m), t[2].p, t[2].n, JPT_ENCODE_ADD_SPECIAL, &ids, NULL);
    int32_t        cut = ids.n < 20 ? (int32_t)ids.n : 20;
    assert_int_equal(jpt_seq_new(s, &q, NULL), JPT_OK);
    jpt_batch_item it = {.seq = q, .tokens = ids.p, .n_tokens = cut, .hidden = JPT_ROWS_ALL};
    jpt_batch      b = {.items = &it, .n_items = 1};
    assert_int_equal(jpt_session_forward(s, &b, NULL), JPT_OK);
    assert_int_equal(jpt_session_hidden(s, it.hidden_row + cut - 1, alone, NULL), JPT_OK);
    assert_memory_equal(alone, all + 2 * D, (size_t)D * sizeof *alone);
    jpt_ids_fini(&ids);
    free(all);
    free(alone);
    jpt_session_close(s);
    jpt_model_close(m);
}

static void evaluations(void **unused) {
    (void)unused;
    jpt_model           *m = open_model();
    jpt_session         *s = open_session(m, 200);
    jpt_encoder         *e = open_encoder();
    jpt_evaluate_options o = {.evaluator = s, .embedder = e};
    const jpt_str        prompt = jpt_str_z("what is the capital of france"), same = jpt_str_z("Paris is!"), refs[2] = {jpt_str_z("zebra, 99"), jpt_str_z("PARIS is !")};
    jpt_evaluate_item    item[3] = {{.text = same, .prompt = &prompt, .references = refs, .n_references = 2}, {.text = same}, {.text = {"", 0}, .prompt = &prompt}};
    jpt_evaluation       v[3];
    assert_int_equal(jpt_evaluate(&o, item, 3, v, NULL), JPT_OK);
    double  nll;
    int32_t n;
    jpt_model_text_nll(s, prompt, same, &nll, &n, NULL);
    assert_float_equal(v[0].coherence, -nll / n, 1e-12);
    jpt_model_text_nll(s, (jpt_str){"", 0}, same, &nll, &n, NULL);
    assert_float_equal(v[0].ppl, exp(nll / n), 1e-9 * v[0].ppl);
    assert_float_equal(v[0].bits_per_byte, nll / log(2) / 9, 1e-12);
    assert_float_equal(v[1].coherence, -nll / n, 1e-12); /* no prompt: of the text alone */
    assert_true(isnan(v[1].cos_prompt) && isnan(v[1].cos_reference));
    assert_float_equal(v[0].cos_reference, 1, 1e-6); /* the nearest of two, which is the same to BERT */
    assert_true(v[0].cos_prompt < 0.999 && v[0].cos_prompt > -1);
    assert_true(isnan(v[2].coherence) && isnan(v[2].ppl) && isnan(v[2].bits_per_byte) && isfinite(v[2].cos_prompt));
    o.evaluator = NULL;
    assert_int_equal(jpt_evaluate(&o, item, 1, v, NULL), JPT_OK);
    assert_true(isnan(v[0].coherence) && isfinite(v[0].cos_prompt));
    jpt_stop_request();
    assert_int_equal(jpt_evaluate(&o, item, 1, v, NULL), JPT_INTERRUPTED);
    jpt_stop_clear();
    jpt_encoder_close(e);
    jpt_session_close(s);
    jpt_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(likelihoods), cmocka_unit_test(features), cmocka_unit_test(evaluations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
