/* Bootstrap intervals and paired tests of BLEU, chrF, chrF++ and TER against sacreBLEU (tools/golden/paired_sacrebleu.py), and
 * NumPy's generator. */
#include <jansson.h>
#include <jpt/metric.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>
#include "metric/numpy_rng.h"

/* sacreBLEU divides the resampled statistics in single precision. */
static const double SINGLE = 5e-6;

static json_t *all;

static int load(void **state) {
    (void)state;
    all = json_load_file(JPT_SOURCE_DIR "/tests/golden/paired.json", 0, NULL);
    return all ? 0 : -1;
}

static int unload(void **state) {
    (void)state;
    json_decref(all);
    return 0;
}

static double at(json_t *o, const char *key, size_t i) { return json_number_value(json_array_get(json_object_get(o, key), i)); }

static void draws(void **unused) {
    (void)unused;
    json_t   *d = json_object_get(all, "draws");
    numpy_rng r;
    numpy_rng_seed(&r, 12345);
    for (size_t i = 0; i < 3; i++)
        assert_true(numpy_rng_64(&r) == strtoull(json_string_value(json_array_get(json_object_get(d, "raw"), i)), NULL, 16));
    numpy_rng_seed(&r, 12345);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(numpy_rng_below(&r, 500), (int)at(d, "choice500", i));
    numpy_rng_seed(&r, (uint64_t)7 << 40);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(numpy_rng_below(&r, 3), (int)at(d, "choice3", i));
    numpy_rng_seed(&r, 12345);
    for (size_t i = 0; i < 80; i++)
        assert_int_equal(numpy_rng_coin(&r), (int)at(d, "coins", i));
}

static double score(void *ud, const double *sum) { return jpt_corpus_score(ud, sum); }

/* The system of that name, made as the maker of the golden file makes it. */
static size_t column_of(const char *system, size_t i, size_t n, size_t *row) {
    *row = i;
    if (strcmp(system, "third") == 0)
        return 2;
    if (strcmp(system, "every-4th") == 0)
        return i % 4 == 0 ? 2 : 0;
    if (strcmp(system, "every-9th") == 0)
        return i % 9 == 0 ? 2 : 0;
    if (strcmp(system, "last") == 0)
        return i + 20 >= n ? 2 : 0;
    if (strcmp(system, "swapped") == 0) {
        *row = i % 4 != 1 && i % 12 == 2 ? i - 1 : i;
        return i % 4 == 1 ? 2 : 0;
    }
    return strcmp(system, "s2") == 0 ? 2 : 0;
}

/* Segment i of column c: the first and third columns are systems, the second is the reference. */
static jpt_str segment(json_t *corpus, bool c5, size_t i, size_t column) {
    json_t *s = c5 ? json_array_get(json_array_get(corpus, column), i) : json_array_get(json_array_get(corpus, i), column);
    return (jpt_str){json_string_value(s), json_string_length(s)};
}

static void compare(double got, double want, double tolerance, double *worst, const char *what, const char *metric) {
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s of %s: %.12g, sacreBLEU %.12g", what, metric, got, want);
    *worst = fmax(*worst, fabs(got - want));
}

static void signature(const jpt_corpus_metric *m, int32_t bs, int32_t ar, json_t *want) {
    jpt_buf sig = {0};
    jpt_corpus_signature(m, 1, bs, ar, 12345, &sig);
    assert_string_equal(sig.p, json_string_value(json_object_get(want, "signature")));
    jpt_buf_fini(&sig);
}

static void equal_to_sacrebleu(void **unused) {
    (void)unused;
    json_t *texts = json_load_file(JPT_SOURCE_DIR "/tests/golden/corpus.json", 0, NULL), *row;
    size_t  r, tests = 0, values = 0;
    double  worst_p = 0, worst = 0;
    assert_non_null(texts);
    json_array_foreach(json_object_get(all, "rows"), r, row) {
        const char *name = json_string_value(json_object_get(row, "metric"));
        bool        c5 = strcmp(json_string_value(json_object_get(row, "corpus")), "c5") == 0;
        json_t     *corpus = c5 ? json_object_get(all, "c5") : json_object_get(texts, "segments"),
               *systems = json_object_get(row, "systems");
        json_t *bs = json_object_get(row, "bs"), *ar = json_object_get(row, "ar"), *ci = json_object_get(row, "confidence");
        size_t  n = c5 ? 5 : json_array_size(corpus), n_systems = json_array_size(systems);
        jpt_corpus_metric m;
        assert_true(jpt_corpus_metric_named(name, &m));
        size_t  k = (size_t)jpt_corpus_n_stats(&m);
        double *base = calloc(2 * n * k, sizeof *base), *system = base + n * k;
        assert_true(base && n_systems > 0);
        for (size_t i = 0; i < n; i++) {
            jpt_str ref = segment(corpus, c5, i, 1);
            assert_int_equal(jpt_corpus_segment(&m, segment(corpus, c5, i, 0), &ref, 1, base + i * k, NULL), JPT_OK);
        }
        jpt_confidence c;
        int32_t        count = (int32_t)json_integer_value(json_object_get(ci, "n"));
        assert_int_equal(jpt_bootstrap_confidence(score, &m, base, (int32_t)n, (int32_t)k, count, 12345, &c, NULL), JPT_OK);
        compare(c.mean, json_number_value(json_object_get(ci, "mean")), SINGLE, &worst, "mean", name);
        compare(c.half_width, json_number_value(json_object_get(ci, "half_width")), SINGLE, &worst, "interval", name);
        signature(&m, count, 0, ci);
        for (size_t s = 0; s < n_systems; s++) {
            for (size_t i = 0; i < n; i++) {
                size_t  from, column = column_of(json_string_value(json_array_get(systems, s)), i, n, &from);
                jpt_str ref = segment(corpus, c5, i, 1);
                assert_int_equal(jpt_corpus_segment(&m, segment(corpus, c5, from, column), &ref, 1, system + i * k, NULL),
                                 JPT_OK);
            }
            jpt_paired p;
            count = (int32_t)json_integer_value(json_object_get(bs, "n"));
            assert_int_equal(jpt_paired_bootstrap(score, &m, base, system, (int32_t)n, (int32_t)k, count, 12345, &p, NULL),
                             JPT_OK);
            compare(p.p, at(bs, "p", s), 1e-12, &worst_p, "bootstrap p", name);
            compare(p.base, at(bs, "score", 0), 1e-9, &worst, "score", name);
            compare(p.system, at(bs, "score", s + 1), 1e-9, &worst, "score", name);
            compare(p.of_base.mean, at(bs, "mean", 0), SINGLE, &worst, "mean", name);
            compare(p.of_system.mean, at(bs, "mean", s + 1), SINGLE, &worst, "mean", name);
            compare(p.of_system.half_width, at(bs, "half_width", s + 1), SINGLE, &worst, "interval", name);
            signature(&m, count, 0, bs);
            count = (int32_t)json_integer_value(json_object_get(ar, "n"));
            assert_int_equal(jpt_paired_randomization(score, &m, base, system, (int32_t)n, (int32_t)k, count, 12345, &p, NULL),
                             JPT_OK);
            compare(p.p, at(ar, "p", s), 1e-12, &worst_p, "randomisation p", name);
            assert_true(isnan(p.of_system.mean));
            signature(&m, 0, count, ar);
            tests += 2;
            values += 5;
        }
        free(base);
    }
    printf("golden: paired tests against sacreBLEU %s: %zu p-values, largest difference %.1e; %zu scores, means and intervals, "
           "%.1e\n",
           json_string_value(json_object_get(all, "sacrebleu")), tests, worst_p, values, worst);
    json_decref(texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(draws), cmocka_unit_test(equal_to_sacrebleu)};
    return cmocka_run_group_tests(tests, load, unload);
}
