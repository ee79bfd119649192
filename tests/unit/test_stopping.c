/* Sequential stopping: the interval may be looked at after each block.  Simulated studies: how often is a difference seen that is not
 * there, how often does the interval miss the truth, and what does it cost against a fixed number of blocks. */
#include <jpt/run.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static uint32_t study;
static double   uniform(int i) { return jpt_rng_uniform((jpt_rng_key){31, 4, study, (uint32_t)i}, 0); }
static double   gauss(int i) { return sqrt(-2 * log(1 - uniform(2 * i))) * cos(2 * M_PI * uniform(2 * i + 1)); }

static void by_hand(void **unused) {
    (void)unused;
    const double x[] = {1, 2, 3, 4, 5};
    double       low, high;
    jpt_stopping_interval(x, 4, 0.05, &low, &high);
    assert_true(isinf(low) && isinf(high));
    jpt_stopping_interval(x, 5, 0.05, &low, &high);
    /* k = 51, r = (sqrt(51) / 0.05)^(2/5) = 7.2766, sum of squares 10: half = sqrt((r - 1) / (1 - r / 51) * 10 / 5) */
    assert_float_equal(high - 3, 3.826518, 1e-4);
    assert_float_equal(3 - low, high - 3, 1e-12);
    /* shift and scale of the data are shift and scale of the interval */
    const double y[] = {107, 117, 127, 137, 147};
    double       low_y, high_y;
    jpt_stopping_interval(y, 5, 0.05, &low_y, &high_y);
    assert_float_equal(low_y, 97 + 10 * low, 1e-9);
    assert_float_equal(high_y, 97 + 10 * high, 1e-9);
    /* it is where the likelihood ratio is 1 / alpha */
    double k = 51, t2 = (high - 3) * (high - 3) / (10.0 / 4 / 5), ratio = pow((1 + t2 / 4) / (1 + t2 / 4 / k), 2.5) / sqrt(k);
    assert_float_equal(ratio, 20, 1e-9);
}

/* 2,000 studies of 60 blocks with a look after each: in how many does any interval leave out the truth? */
static double missed(double (*noise)(int), double truth, double *naive) {
    enum { STUDIES = 2000, BLOCKS = 60 };
    static const double t975[] = {12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23};
    int                 n_missed = 0, n_naive = 0;
    for (study = 0; study < STUDIES; study++) {
        double x[BLOCKS], low, high, mean = 0, square = 0;
        bool   any = false, any_naive = false;
        for (int n = 1; n <= BLOCKS; n++) {
            x[n - 1] = truth + 0.01 * noise(n);
            double d = x[n - 1] - mean;
            mean += d / n;
            square += d * (x[n - 1] - mean);
            jpt_stopping_interval(x, n, 0.05, &low, &high);
            any = any || low > truth || high < truth;
            if (n >= 5) /* the usual interval, looked at again and again */
                any_naive = any_naive || fabs(mean - truth) > (n - 2 < 10 ? t975[n - 2] : 2.05) * sqrt(square / (n - 1) / n);
        }
        n_missed += any;
        n_naive += any_naive;
    }
    *naive = (double)n_naive / STUDIES;
    return (double)n_missed / STUDIES;
}

static double flat(int i) { return sqrt(12) * (uniform(i) - 0.5); }

static void peeking(void **unused) {
    (void)unused;
    double naive, naive_flat, rate = missed(gauss, 0, &naive), rate_flat = missed(flat, 0.03, &naive_flat);
    printf("golden: a difference that is not there is seen in %.1f %% of 2,000 studies with 60 looks (uniform noise: %.1f %%); the usual t interval says so in %.0f %%\n", 100 * rate,
           100 * rate_flat, 100 * naive);
    assert_true(rate <= 0.05);
    assert_true(rate_flat <= 0.05);
    assert_true(naive > 0.12); /* the correction is needed */
}

/* Blocks until an interval of 1 % in all, at a noise of 0.3 % a block: more than a fixed design, but not many. */
static void price(void **unused) {
    (void)unused;
    double sum = 0;
    int    worst = 0;
    for (study = 5000; study < 5400; study++) {
        double x[200], low = -INFINITY, high = INFINITY;
        int    n = 0;
        while (n < 200 && high - low >= 0.01) {
            x[n] = 0.003 * gauss(n);
            n++;
            jpt_stopping_interval(x, n, 0.05, &low, &high);
        }
        sum += n;
        worst = n > worst ? n : worst;
    }
    printf("golden: an interval of 1 %% in all at 0.3 %% a block takes %.1f blocks on average, at most %d (a fixed design: 4)\n", sum / 400, worst);
    assert_true(sum / 400 < 14 && worst < 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(peeking), cmocka_unit_test(price)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
