/* BLEU, chrF and TER with every option against sacreBLEU (tools/golden/corpus_sacrebleu.py): corpora, sentences, signatures,
 * tokens. */
#include <jansson.h>
#include <jpt/metric.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static const double TOLERANCE = 1e-9;

static json_t *load(void) {
    json_t *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/corpus.json", 0, NULL);
    assert_non_null(all);
    return all;
}

static jpt_str text(json_t *j) { return (jpt_str){json_string_value(j), json_string_length(j)}; }

static int index_of(const char *name, const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (name && strcmp(name, names[i]) == 0)
            return i;
    fail_msg("unknown name %s", name ? name : "(none)");
    return -1;
}

static const char *const tokenizers[] = {"13a", "intl", "zh", "char", "none"}, *const smoothings[] = {"none", "floor", "exp",
                                                                                                      "add-k"};

static jpt_corpus_metric metric_of(json_t *row) {
    json_t           *o = json_object_get(row, "options"), *value = json_object_get(o, "smooth_value");
    jpt_corpus_metric m;
    assert_true(jpt_corpus_metric_named(json_string_value(json_object_get(row, "metric")), &m));
    if (m.kind == JPT_CORPUS_BLEU) {
        m.bleu.tokenizer = (jpt_bleu_tokenizer)index_of(json_string_value(json_object_get(o, "tokenize")), tokenizers, 5);
        m.smoothing = (jpt_bleu_smoothing)index_of(json_string_value(json_object_get(o, "smooth_method")), smoothings, 4);
        m.smooth_value = value ? json_number_value(value) : m.smoothing == JPT_BLEU_FLOOR ? 0.1 : 1;
    }
    m.bleu.lowercase = m.chrf.lowercase = json_is_true(json_object_get(o, "lowercase"));
    m.chrf.word_order = (int)json_integer_value(json_object_get(o, "word_order"));
    m.chrf.whitespace = json_is_true(json_object_get(o, "whitespace"));
    m.chrf.eps_smoothing = json_is_true(json_object_get(o, "eps_smoothing"));
    m.ter.normalized = json_is_true(json_object_get(o, "normalized"));
    m.ter.no_punct = json_is_true(json_object_get(o, "no_punct"));
    m.ter.asian_support = json_is_true(json_object_get(o, "asian_support"));
    m.ter.case_sensitive = json_is_true(json_object_get(o, "case_sensitive"));
    return m;
}

static void compare(double got, double want, double *worst, const char *what, size_t i) {
    if (!(fabs(got - want) <= TOLERANCE))
        print_error("%s %zu: %.12f, sacreBLEU %.12f\n", what, i, got, want);
    *worst = fmax(*worst, fabs(got - want));
}

static double value_at(json_t *row, const char *key, size_t i) {
    return json_number_value(json_array_get(json_object_get(row, key), i));
}

static void equal_to_sacrebleu(void **unused) {
    (void)unused;
    json_t *all = load(), *row, *s, *segments = json_object_get(all, "segments");
    size_t  r, i, n = json_array_size(segments), scores[3] = {0};
    double  worst[3] = {0}, stats[JPT_CORPUS_STATS_MAX];
    assert_true(n > 100);
    json_array_foreach(json_object_get(all, "rows"), r, row) {
        jpt_corpus_metric m = metric_of(row), single = m;
        size_t            n_refs = (size_t)json_integer_value(json_object_get(row, "n_refs"));
        double            sum[JPT_CORPUS_STATS_MAX] = {0}, ten[JPT_CORPUS_STATS_MAX] = {0}, *w = &worst[m.kind];
        jpt_buf           sig = {0};
        jpt_corpus_signature(&m, n_refs, 0, 0, 0, &sig);
        assert_string_equal(sig.p, json_string_value(json_object_get(row, "signature")));
        single.effective_order = true;
        json_array_foreach(segments, i, s) {
            jpt_str ref[2] = {text(json_array_get(s, 1)), text(json_array_get(s, 2))};
            assert_int_equal(jpt_corpus_segment(&m, text(json_array_get(s, 0)), ref, n_refs, stats, NULL), JPT_OK);
            compare(jpt_corpus_score(&single, stats), value_at(row, "sentence", i), w, sig.p, i);
            for (int k = 0; k < jpt_corpus_n_stats(&m); k++) {
                sum[k] += stats[k];
                ten[k] += stats[k];
            }
            if (i % 10 == 9 || i == n - 1) {
                compare(jpt_corpus_score(&m, ten), value_at(row, "ten", i / 10), w, sig.p, i);
                memset(ten, 0, sizeof ten);
                scores[m.kind]++;
            }
            scores[m.kind]++;
        }
        compare(jpt_corpus_score(&m, sum), json_number_value(json_object_get(row, "corpus")), w, sig.p, n);
        scores[m.kind]++;
        if (m.kind == JPT_CORPUS_BLEU) {
            jpt_buf_reset(&sig);
            jpt_corpus_signature(&single, n_refs, 0, 0, 0, &sig);
            assert_string_equal(sig.p, json_string_value(json_object_get(row, "sentence_signature")));
        }
        jpt_buf_fini(&sig);
    }
    static const char *const names[] = {"BLEU", "chrF", "TER"};
    for (int k = 0; k < 3; k++) {
        printf("golden: %s against sacreBLEU %s: %zu scores of sentences and corpora, largest difference %.1e\n", names[k],
               json_string_value(json_object_get(all, "sacrebleu")), scores[k], worst[k]);
        assert_true(worst[k] <= TOLERANCE);
    }
    json_decref(all);
}

static void equal_tokens(void **unused) {
    (void)unused;
    json_t *all = load(), *row, *base;
    size_t  r, i;
    json_array_foreach(json_object_get(all, "tokens"), r, row) {
        jpt_bleu_options opt = {(jpt_bleu_tokenizer)index_of(json_string_value(json_object_get(row, "tokenize")), tokenizers, 5),
                                true};
        json_array_foreach(json_object_get(all, "base"), i, base) {
            jpt_buf got = {0};
            jpt_bleu_tokenize(text(base), &opt, &got);
            assert_string_equal(got.p ? got.p : "", json_string_value(json_array_get(json_object_get(row, "tokens"), i)));
            jpt_buf_fini(&got);
        }
    }
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_to_sacrebleu), cmocka_unit_test(equal_tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
