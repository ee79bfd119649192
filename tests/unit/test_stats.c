/* Statistics: values by hand, coverage of intervals and error rates of tests by simulation.  Golden values of sacreBLEU:
 * tests/golden/test_paired_golden.c. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/stats.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void close_to(double got, double want) {
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("got %.15g, expected %.15g", got, want);
}

static void mcnemar(void **state) {
    (void)state;
    close_to(jpt_mcnemar(0, 0), 1);
    close_to(jpt_mcnemar(3, 3), 1);
    close_to(jpt_mcnemar(1, 0), 1);
    close_to(jpt_mcnemar(0, 5), 2 / 32.0);
    close_to(jpt_mcnemar(5, 0), 2 / 32.0);
    close_to(jpt_mcnemar(1, 9), 2 * 11 / 1024.0);
    close_to(jpt_mcnemar(2, 8), 2 * 56 / 1024.0);
    /* SciPy 1.17's binomtest(100, 300) and (480, 1000) */
    assert_true(fabs(jpt_mcnemar(100, 200) / 8.014875216538921e-09 - 1) < 1e-9);
    assert_true(fabs(jpt_mcnemar(520, 480) / 0.2174482932041415 - 1) < 1e-9);
}

static void holm(void **state) {
    (void)state;
    const double p[] = {0.01, 0.04, 0.03, 0.005, 0.9}, want[] = {0.04, 0.09, 0.09, 0.025, 0.9};
    double       got[5];
    assert_int_equal(jpt_holm(p, 5, got, NULL), JPT_OK);
    for (int i = 0; i < 5; i++)
        close_to(got[i], want[i]);
    double one[] = {0.6, 0.6};
    assert_int_equal(jpt_holm(one, 2, one, NULL), JPT_OK); /* in place, capped, equal values */
    assert_true(one[0] == 1 && one[1] == 1);
    assert_int_equal(jpt_holm(NULL, 0, NULL, NULL), JPT_OK);
}

static void wilson(void **state) {
    (void)state;
    double low, high;
    jpt_wilson(50, 100, &low, &high);
    assert_true(fabs(low - 0.4038315) < 1e-7 && fabs(high - 0.5961685) < 1e-7);
    jpt_wilson(0, 10, &low, &high);
    assert_true(fabs(low) < 1e-12 && fabs(high - 0.2775328) < 1e-7);
    jpt_wilson(10, 10, &low, &high);
    assert_true(fabs(low - 0.7224672) < 1e-7 && fabs(high - 1) < 1e-12);
    jpt_wilson(0, 0, &low, &high);
    assert_true(isnan(low) && isnan(high));
    /* coverage over binomial draws with n = 60, share 0.3: 95 % on average over shares, never far from it */
    int held = 0;
    enum { TRIALS = 4000 };
    for (uint32_t t = 0; t < TRIALS; t++) {
        int64_t k = 0;
        for (uint32_t i = 0; i < 60; i++)
            k += jpt_rng_uniform((jpt_rng_key){5, t, 0, i}, 0) < 0.3;
        jpt_wilson(k, 60, &low, &high);
        held += low <= 0.3 && 0.3 <= high;
    }
    printf("stats: Wilson's interval holds the share in %.1f %% of %d samples\n", 100.0 * held / TRIALS, TRIALS);
    assert_true(held > 0.93 * TRIALS && held < 0.97 * TRIALS);
}

/* ---- statistics that add up: hits and weights, the score is 100 hits / weight -------------------------------------- */

static double quotient(void *ud, const double *sum) {
    (void)ud;
    return sum[1] > 0 ? 100 * sum[0] / sum[1] : 0;
}

enum { N = 80, K = 2 };

/* Items of random length, of which a share of about `rate` is hit, more or less by item; the same items for both systems when
 * `items` is the same. */
static void draw(double stats[N * K], uint64_t seed, uint32_t items, uint32_t system, double rate) {
    for (uint32_t i = 0; i < N; i++) {
        jpt_rng_key item = {seed, items, 0, i}, own = {seed, items, 1 + system, i};
        double      length = 5 + floor(20 * jpt_rng_uniform(item, 0)), hard = 0.4 * (jpt_rng_uniform(item, 1) - 0.5);
        double      share = rate + hard + 0.3 * (jpt_rng_uniform(own, 0) - 0.5);
        stats[K * i] = floor(length * fmin(fmax(share, 0), 1));
        stats[K * i + 1] = length;
    }
}

static void confidence_covers(void **state) {
    (void)state;
    enum { TRIALS = 400 };
    double         stats[N * K], truth = 0, sum[K] = {0};
    int            held = 0;
    jpt_confidence c;
    for (uint32_t t = 0; t < 3000; t++) { /* the true score, from many more items */
        draw(stats, 77, t, 0, 0.5);
        for (int i = 0; i < N; i++) {
            sum[0] += stats[K * i];
            sum[1] += stats[K * i + 1];
        }
    }
    truth = quotient(NULL, sum);
    for (uint32_t t = 0; t < TRIALS; t++) {
        draw(stats, 78, t, 0, 0.5);
        assert_int_equal(jpt_bootstrap_confidence(quotient, NULL, stats, N, K, 400, t, &c, NULL), JPT_OK);
        held += fabs(c.mean - truth) <= c.half_width;
    }
    printf("stats: sacreBLEU's interval holds the true score in %.1f %% of %d samples of %d items\n", 100.0 * held / TRIALS,
           TRIALS, N);
    assert_true(held >= 0.91 * TRIALS && held <= 0.98 * TRIALS);
}

static void tests_err_as_they_say(void **state) {
    (void)state;
    enum { TRIALS = 400 };
    double base[N * K], same[N * K], better[N * K];
    int    wrong[2] = {0}, found[2] = {0};
    for (uint32_t t = 0; t < TRIALS; t++) {
        jpt_paired p;
        draw(base, 79, t, 0, 0.5);
        draw(same, 79, t, 1, 0.5);
        draw(better, 79, t, 2, 0.56);
        assert_int_equal(jpt_paired_randomization(quotient, NULL, base, same, N, K, 399, t, &p, NULL), JPT_OK);
        wrong[0] += p.p <= 0.05;
        assert_int_equal(jpt_paired_bootstrap(quotient, NULL, base, same, N, K, 399, t, &p, NULL), JPT_OK);
        wrong[1] += p.p <= 0.05;
        assert_int_equal(jpt_paired_randomization(quotient, NULL, base, better, N, K, 399, t, &p, NULL), JPT_OK);
        found[0] += p.p <= 0.05;
        assert_int_equal(jpt_paired_bootstrap(quotient, NULL, base, better, N, K, 399, t, &p, NULL), JPT_OK);
        found[1] += p.p <= 0.05;
    }
    printf("stats: at 5 %%, equal systems differ in %.1f %% (randomisation) and %.1f %% (bootstrap) of %d trials; 6 points are "
           "seen in %.0f %% and %.0f %%\n",
           100.0 * wrong[0] / TRIALS, 100.0 * wrong[1] / TRIALS, TRIALS, 100.0 * found[0] / TRIALS, 100.0 * found[1] / TRIALS);
    /* randomisation is exact; sacreBLEU's bootstrap subtracts the mean of absolute differences, which makes it liberal */
    assert_true(wrong[0] <= 0.08 * TRIALS && wrong[0] >= 0.02 * TRIALS);
    assert_true(wrong[1] >= 0.02 * TRIALS);
    assert_true(found[0] > 0.8 * TRIALS && found[1] > 0.8 * TRIALS);
}

static void edges(void **state) {
    (void)state;
    double         one[K] = {3, 4};
    jpt_confidence c;
    jpt_paired     p;
    jpt_error      err = {0};
    assert_int_equal(jpt_bootstrap_confidence(quotient, NULL, one, 1, K, 10, 1, &c, NULL), JPT_OK);
    assert_true(c.mean == 75 && c.half_width == 0);
    assert_int_equal(jpt_bootstrap_confidence(quotient, NULL, one, 0, K, 10, 1, &c, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "at least one item"));
    assert_int_equal(jpt_paired_bootstrap(quotient, NULL, one, one, 1, K, 0, 1, &p, NULL), JPT_ARG);
    assert_int_equal(jpt_paired_randomization(quotient, NULL, one, one, 1, K, 0, 1, &p, NULL), JPT_ARG);
    /* a system against itself: no shuffle differs by more than nothing */
    assert_int_equal(jpt_paired_randomization(quotient, NULL, one, one, 1, K, 99, 1, &p, NULL), JPT_OK);
    close_to(p.p, 0.01);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mcnemar),
                                       cmocka_unit_test(holm),
                                       cmocka_unit_test(wilson),
                                       cmocka_unit_test(confidence_covers),
                                       cmocka_unit_test(tests_err_as_they_say),
                                       cmocka_unit_test(edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
