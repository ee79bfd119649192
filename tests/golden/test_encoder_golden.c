/* The sentence encoder against transformers and sentence-transformers (tools/golden/make_encoder.py): ids of more than 200 texts,
 * vectors of more than 30.  A tiny model lies beside the goldens; MiniLM itself is tested where `jpt pull minilm` has put it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "token_fixture.h"
#include <jpt/encoder.h>
#include <jpt/format.h>
#include <math.h>

static json_t  *golden;
static jpt_str *texts;
static size_t   n_texts;

static void read_texts(void) {
    golden = fixture_json("encoder.json");
    const json_t *hex = json_object_get(golden, "texts");
    n_texts = json_array_size(hex);
    texts = calloc(n_texts, sizeof *texts);
    for (size_t i = 0; i < n_texts; i++) {
        const char *h = json_string_value(json_array_get(hex, i));
        size_t      n = strlen(h) / 2;
        char       *p = malloc(n + 1);
        for (size_t k = 0; k < n; k++) {
            unsigned v;
            sscanf(h + 2 * k, "%2x", &v);
            p[k] = (char)v;
        }
        texts[i] = (jpt_str){p, n};
    }
}

static void compare_ids(const jpt_encoder *e, const char *which) {
    const json_t *want = json_object_get(golden, which);
    int           wrong = 0;
    for (size_t i = 0; i < n_texts; i++) {
        const json_t *w = json_array_get(want, i);
        jpt_ids       ids = {0}, cut = {0};
        assert_int_equal(jpt_wordpiece_encode(jpt_encoder_tokenizer(e), texts[i].p, texts[i].n, 0, &ids, NULL), JPT_OK);
        bool same = ids.n == json_array_size(w);
        for (size_t k = 0; same && k < ids.n; k++)
            same = ids.p[k] == json_integer_value(json_array_get(w, k));
        if (!same)
            fprintf(stderr, "%s: text %zu: %.*s\n", which, i, (int)texts[i].n, texts[i].p);
        wrong += !same;
        /* a limit cuts the text and keeps [SEP] */
        assert_int_equal(jpt_wordpiece_encode(jpt_encoder_tokenizer(e), texts[i].p, texts[i].n, 6, &cut, NULL), JPT_OK);
        assert_int_equal(cut.n, ids.n < 6 ? ids.n : 6);
        assert_memory_equal(cut.p, ids.p, (cut.n - 1) * sizeof *cut.p);
        assert_int_equal(cut.p[cut.n - 1], ids.p[ids.n - 1]);
        jpt_ids_fini(&ids);
        jpt_ids_fini(&cut);
    }
    printf("golden: WordPiece ids, %s: %zu texts, %d differ\n", which + 4, n_texts, wrong);
    assert_int_equal(wrong, 0);
    assert_true(n_texts >= 200);
}

static void compare_vectors(jpt_encoder *e, const char *name, double tolerance) {
    const json_t *which = json_object_get(golden, "embedded");
    size_t        n = json_array_size(which), D = (size_t)jpt_encoder_get_info(e)->n_embd;
    char          file[64], path[1024];
    jpt_buf       want = {0};
    jpt_str      *t = calloc(n, sizeof *t);
    float        *all = calloc(n * D, sizeof *all), *alone = calloc(D, sizeof *alone);
    double        worst = 0;
    snprintf(file, sizeof file, "encoder_%s.f32", name);
    snprintf(path, sizeof path, "%s/tests/golden/%s", JPT_SOURCE_DIR, file);
    assert_int_equal(jpt_file_read(path, &want, NULL), JPT_OK);
    assert_int_equal(want.n, n * D * sizeof(float));
    for (size_t i = 0; i < n; i++)
        t[i] = texts[json_integer_value(json_array_get(which, i))];
    assert_int_equal(jpt_encoder_embed(e, t, (int32_t)n, all, NULL, NULL), JPT_OK);
    for (size_t i = 0; i < n * D; i++) {
        float w;
        memcpy(&w, want.p + i * sizeof w, sizeof w);
        worst = fmax(worst, fabs((double)all[i] - (double)w));
    }
    printf("golden: sentence vectors, %s: %zu texts, largest difference %.2g\n", name, n, worst);
    assert_true(n >= 30);
    assert_true(worst < tolerance);
    for (size_t i = 0; i < n; i += 5) { /* the same bits alone as among others */
        int32_t tokens = 0;
        assert_int_equal(jpt_encoder_embed(e, &t[i], 1, alone, &tokens, NULL), JPT_OK);
        assert_memory_equal(alone, all + i * D, D * sizeof *alone);
        assert_in_range(tokens, 2, jpt_encoder_get_info(e)->max_tokens);
    }
    jpt_buf_fini(&want);
    free(t);
    free(all);
    free(alone);
}

static jpt_encoder *open_encoder(const char *folder, const char *isa, int threads) {
    jpt_encoder *e;
    jpt_error    err = {0};
    if (jpt_encoder_open(folder, isa, threads, &e, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return e;
}

static void tiny(void **unused) {
    (void)unused;
    static const char *const isa[] = {"scalar", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        jpt_encoder *e;
        if (jpt_encoder_open(JPT_SOURCE_DIR "/tests/golden/encoder_tiny", isa[i], 1 + i, &e, NULL) != JPT_OK && i)
            continue; /* not on this processor */
        assert_int_equal(jpt_encoder_get_info(e)->max_tokens, 64);
        compare_ids(e, "ids_tiny");
        compare_vectors(e, "tiny", 1e-5);
        jpt_encoder_close(e);
    }
}

static void minilm(void **unused) {
    (void)unused;
    char path[4096];
    if (jpt_encoder_resolve("minilm", path, sizeof path, NULL) != JPT_OK) {
        fputs("MiniLM is not here (jpt pull minilm): not compared\n", stderr);
        skip();
    }
    jpt_encoder *e = open_encoder(path, NULL, 0);
    assert_int_equal(jpt_encoder_get_info(e)->max_tokens, 256);
    assert_int_equal(jpt_encoder_get_info(e)->n_params, 22565376);
    compare_ids(e, "ids_minilm");
    compare_vectors(e, "minilm", 1e-5);
    jpt_encoder_close(e);
}

int main(void) {
    read_texts();
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny), cmocka_unit_test(minilm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
