/* BLEU, chrF and chrF++ against sacreBLEU (tools/golden/metric_sacrebleu.py); the other metrics against hand values. */
#include <jansson.h>
#include <jpt/metric.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static double number(json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static void equal_to_sacrebleu(void **unused) {
    (void)unused;
    json_t        *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/metric.json", 0, NULL), *s;
    jpt_bleu_stats bleu = {0}, b;
    jpt_chrf_stats chrf[2] = {{{0}, {0}, {0}}}, c;
    double         worst[2] = {0, 0};
    size_t         i;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "segments"), i, s) {
        json_t *h = json_object_get(s, "hyp"), *refs = json_object_get(s, "refs");
        jpt_str hyp = {json_string_value(h), json_string_length(h)}, ref[2];
        for (size_t k = 0; k < 2; k++)
            ref[k] = (jpt_str){json_string_value(json_array_get(refs, k)), json_string_length(json_array_get(refs, k))};
        assert_int_equal(jpt_bleu_segment(hyp, ref, 2, &b, NULL), JPT_OK);
        worst[0] = fmax(worst[0], fabs(jpt_bleu_score(&b, true) - number(s, "bleu")));
        if (fabs(jpt_bleu_score(&b, true) - number(s, "bleu")) > 0.01)
            printf("segment %zu: BLEU %.4f, sacreBLEU %.4f\n", i, jpt_bleu_score(&b, true), number(s, "bleu"));
        jpt_bleu_add(&bleu, &b);
        for (int w = 0; w < 2; w++) {
            const char *key = w ? "chrf++" : "chrf";
            assert_int_equal(jpt_chrf_segment(hyp, ref, 2, w ? JPT_CHRF_WORDS : 0, &c, NULL), JPT_OK);
            double got = jpt_chrf_score(&c, w ? JPT_CHRF_WORDS : 0);
            worst[0] = fmax(worst[0], fabs(got - number(s, key)));
            if (fabs(got - number(s, key)) > 0.01)
                printf("segment %zu: %s %.4f, sacreBLEU %.4f\n", i, key, got, number(s, key));
            jpt_chrf_add(&chrf[w], &c);
        }
    }
    worst[1] = fmax(fabs(jpt_bleu_score(&bleu, false) - number(all, "bleu")),
                    fmax(fabs(jpt_chrf_score(&chrf[0], 0) - number(all, "chrf")), fabs(jpt_chrf_score(&chrf[1], 2) - number(all, "chrf++"))));
    printf("golden: BLEU, chrF, chrF++ against sacreBLEU %s: %zu segments, worst difference %.1e; corpus %.1e\n",
           json_string_value(json_object_get(all, "sacrebleu")), json_array_size(json_object_get(all, "segments")), worst[0], worst[1]);
    assert_true(worst[0] <= 0.01 && worst[1] <= 0.01);
    json_decref(all);
}

static void last_numbers(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        double      want; /* NAN: none */
    } c[] = {{"The answer is 42.", 42}, {"$1,234.50 in all", 1234.5}, {"3 + 4 = 7 apples", 7}, {"it is -5", -5}, {"no digits", NAN}, {"7. ", 7}, {"from 1 to 10, so 9.", 9}, {"...", NAN}, {"x = 3.5.", 3.5}, {"", NAN}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double v = NAN;
        bool   found = jpt_last_number(jpt_str_z(c[i].text), &v);
        assert_int_equal(found, !isnan(c[i].want));
        if (found)
            assert_float_equal(v, c[i].want, 1e-9);
    }
}

static void repetition(void **unused) {
    (void)unused;
    jpt_repetition r;
    assert_int_equal(jpt_repetition_of(jpt_str_z("a b a b a b"), &r, NULL), JPT_OK);
    assert_float_equal(r.distinct[0], 2.0 / 6, 1e-9);
    assert_float_equal(r.rep[0], 1 - 2.0 / 5, 1e-9);
    assert_float_equal(r.rep[1], 1 - 2.0 / 4, 1e-9);
    assert_float_equal(r.rep[2], 1 - 2.0 / 3, 1e-9);
    assert_float_equal(r.diversity, 2.0 / 5 * 2 / 4 * 2 / 3, 1e-9);
    assert_int_equal(jpt_repetition_of(jpt_str_z("one"), &r, NULL), JPT_OK);
    assert_true(isnan(r.diversity) && r.distinct[0] == 1);
}

static double mean(void *ud, const int32_t *index, int32_t n) {
    double s = 0;
    for (int32_t i = 0; i < n; i++)
        s += ((const double *)ud)[index[i]] / n;
    return s;
}

/* Coverage: of 300 samples of 30 normal values, the 95 % interval should hold the true mean about 280 times (the percentile
 * bootstrap is a little narrow at n = 30). */
static void bootstrap_covers(void **unused) {
    (void)unused;
    int held = 0;
    for (uint32_t t = 0; t < 300; t++) {
        double v[30], low, high;
        for (uint32_t i = 0; i < 30; i++) {
            jpt_rng_key k = {99, t, 0, i};
            double      s = 0;
            for (uint32_t d = 0; d < 12; d++)
                s += jpt_rng_uniform(k, d);
            v[i] = s - 6;
        }
        assert_int_equal(jpt_bootstrap(mean, v, 30, 400, t, &low, &high, NULL), JPT_OK);
        held += low <= 0 && 0 <= high;
    }
    printf("golden: bootstrap interval holds the mean in %d of 300 samples\n", held);
    assert_true(held >= 268 && held <= 295);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_to_sacrebleu), cmocka_unit_test(last_numbers), cmocka_unit_test(repetition), cmocka_unit_test(bootstrap_covers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
