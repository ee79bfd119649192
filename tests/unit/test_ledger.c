/* The books of windows: profiles, splits, and their second opinion by regression. */
#include <jpt/meter.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static double uniform(int i) { return jpt_rng_uniform((jpt_rng_key){2, 7, 1, (uint32_t)i}, 0); }
static double gauss(int i) { return sqrt(-2 * log(1 - uniform(2 * i))) * cos(2 * M_PI * uniform(2 * i + 1)); }

static void profiles(void **unused) {
    (void)unused;
    jpt_profile p;
    double      s[4];
    assert_int_equal(jpt_profile_init(&p, 3, NULL), JPT_OK);
    for (int pass = 0; pass < 2; pass++) { /* the second finds a clean profile */
        jpt_profile_start(&p, 100);
        jpt_profile_event(&p, 0, true, 100.5);
        jpt_profile_event(&p, 1, true, 101);    /* inside 0: the inner one counts */
        jpt_profile_event(&p, 1, false, 101.25);
        jpt_profile_event(&p, 0, false, 102);
        jpt_profile_event(&p, 2, false, 102.1); /* an end without a beginning says nothing */
        jpt_profile_event(&p, 9, true, 102.2);  /* nor does an unknown phase */
        jpt_profile_end(&p, 103);
        jpt_profile_seconds(&p, s);
        assert_float_equal(s[0], 1.25, 1e-9);
        assert_float_equal(s[1], 0.25, 1e-9);
        assert_float_equal(s[2], 0, 0);
        assert_float_equal(s[3], 1.5, 1e-9);
        assert_float_equal(p.slot_s, 0.025, 0);
    }
    /* an hour of 1 ms phases: the slots are merged, no second is lost */
    jpt_profile_start(&p, 5);
    for (int i = 0; i < 3600 * 100; i++) {
        jpt_profile_event(&p, 0, true, 5 + i * 0.01);
        jpt_profile_event(&p, 0, false, 5 + i * 0.01 + 0.001);
    }
    jpt_profile_end(&p, 3605);
    jpt_profile_seconds(&p, s);
    assert_float_equal(s[0], 360, 1e-5);
    assert_float_equal(s[3], 3240, 1e-5);
    assert_true(p.n_slots <= JPT_PROFILE_SLOTS && p.slot_s >= 0.875);
    jpt_profile_fini(&p);
}

static void split_by_time_and_by_samples(void **unused) {
    (void)unused;
    jpt_profile      p;
    jpt_ledger       l;
    jpt_power_sample s[600];
    assert_int_equal(jpt_profile_init(&p, 2, NULL), JPT_OK);
    jpt_profile_start(&p, 0);
    jpt_profile_event(&p, 0, true, 0);
    jpt_profile_event(&p, 0, false, 4);
    jpt_profile_event(&p, 1, true, 4);
    jpt_profile_event(&p, 1, false, 9);
    jpt_profile_end(&p, 10);
    /* 300 W in phase 0, 150 W in phase 1, 90 W on the host, 60 W of all that idle */
    double truth = 4 * 300 + 5 * 150 + 1 * 90;
    for (int i = 0; i < 600; i++) {
        s[i].t_s = -0.5 + i * 0.02;
        s[i].power_w = s[i].t_s < 4 ? 300 : s[i].t_s < 9 ? 150 : 90;
    }
    jpt_ledger_split(&p, s, 600, truth, 60, &l);
    assert_string_equal(l.method, "samples");
    assert_float_equal(l.phase_j[0], 4 * 240, 5);
    assert_float_equal(l.phase_j[1], 5 * 90, 5);
    assert_float_equal(l.phase_j[2], 1 * 30, 5);
    assert_float_equal(l.idle_j, 600, 1e-6);
    assert_true(fabs(l.residual_j) < 0.005 * truth);
    assert_float_equal(l.phase_j[0] + l.phase_j[1] + l.phase_j[2] + l.idle_j + l.residual_j, truth, 1e-6);
    /* a counter that shows 10 % more than the samples: the phases keep what was sampled, the residual says the rest */
    jpt_ledger_split(&p, s, 600, 1.1 * truth, 60, &l);
    assert_float_equal(l.phase_j[0], 4 * 240, 5);
    assert_float_equal(l.residual_j, 0.1 * truth, 5);
    /* no samples, or a hole in them: by time, and nothing is left over */
    jpt_ledger_split(&p, NULL, 0, truth, NAN, &l);
    assert_string_equal(l.method, "time");
    assert_float_equal(l.phase_j[0], truth * 0.4, 1e-6);
    assert_true(isnan(l.idle_j));
    assert_float_equal(l.residual_j, 0, 1e-9);
    for (int i = 200; i < 600; i++)
        s[i].t_s += 1;
    jpt_ledger_split(&p, s, 600, truth, 60, &l);
    assert_string_equal(l.method, "time");
    assert_float_equal(l.phase_j[1], 0.5 * truth - 60 * 5, 1e-6);
    jpt_profile_fini(&p);
}

static void nnls(void **unused) {
    (void)unused;
    /* by hand: the unconstrained solution has x1 < 0, so x1 = 0 and x0 = (a0.b)/(a0.a0) */
    const double a[] = {1, 1, 1, 2, 1, 3}, b[] = {3, 2, 1};
    double       x[2], worse;
    double       left = jpt_nnls(a, b, 3, 2, x);
    assert_float_equal(x[0], 2, 1e-12);
    assert_float_equal(x[1], 0, 0);
    assert_float_equal(left, sqrt(2), 1e-12);
    /* the optimum against many guesses, on random problems with a column that is another's double */
    for (int trial = 0; trial < 50; trial++) {
        double m[12 * 4], y[12], z[4], g[4];
        for (int i = 0; i < 12; i++) {
            for (int k = 0; k < 3; k++)
                m[i * 4 + k] = uniform(1000 * trial + i * 4 + k) - 0.3;
            m[i * 4 + 3] = 2 * m[i * 4];
            y[i] = 2 * uniform(1000 * trial + 500 + i) - 1;
        }
        double best = jpt_nnls(m, y, 12, 4, z);
        assert_true(isfinite(best));
        for (int k = 0; k < 4; k++)
            assert_true(z[k] >= 0);
        for (int guess = 0; guess < 400; guess++) {
            worse = 0;
            for (int k = 0; k < 4; k++)
                g[k] = fmax(0, z[k] + (guess < 200 ? 0.01 : 1) * gauss(trial * 5000 + guess * 4 + k));
            for (int i = 0; i < 12; i++) {
                double d = y[i];
                for (int k = 0; k < 4; k++)
                    d -= m[i * 4 + k] * g[k];
                worse += d * d;
            }
            assert_true(sqrt(worse) >= best - 1e-9);
        }
    }
    assert_true(isnan(jpt_nnls(a, b, 3, 17, x)));
}

/* Windows of different mixes, 1 % noise: the watts come back, and the standard errors are about right. */
static void regression(void **unused) {
    (void)unused;
    enum { M = 40, N = 4 };
    const double   watts[N] = {420, 180, 95, 0};
    double         seconds[M * N] = {0}, joules[M], worst = 0;
    jpt_regression r;
    for (int i = 0; i < M; i++) {
        joules[i] = 0;
        for (int k = 0; k < 3; k++) { /* the last phase never ran */
            seconds[i * N + k] = 0.5 + 9 * uniform(i * N + k);
            joules[i] += watts[k] * seconds[i * N + k];
        }
        joules[i] *= 1 + 0.01 * gauss(900 + i);
    }
    assert_true(jpt_ledger_regress(seconds, joules, M, N, &r));
    for (int k = 0; k < 3; k++) {
        worst = fmax(worst, fabs(r.watts[k] - watts[k]) / r.error_w[k]);
        assert_true(fabs(r.watts[k] - watts[k]) < 0.06 * watts[k]);
    }
    assert_true(worst < 3.5 && worst > 0.05);
    assert_true(isnan(r.watts[3]) && r.n_phases_seen == 3 && r.n_windows == M);
    assert_true(r.condition > 1 && r.condition < 10);
    assert_true(r.residual < 0.02);
    /* phases that always go together cannot be told apart, and the condition says so */
    for (int i = 0; i < M; i++)
        seconds[i * N + 1] = seconds[i * N] * (1 + 1e-4 * gauss(i));
    assert_true(jpt_ledger_regress(seconds, joules, M, N, &r));
    assert_true(r.condition > 1000);
    assert_false(jpt_ledger_regress(seconds, joules, 2, N, &r));
}

static void amplification(void **unused) {
    (void)unused;
    double error, e = jpt_amplify(1000, 3, 1000 + 500 * 32 * 0.02, 4, 33, 500, &error);
    assert_float_equal(e, 0.02, 1e-12);
    assert_float_equal(error, 5.0 / (500 * 32), 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(profiles), cmocka_unit_test(split_by_time_and_by_samples), cmocka_unit_test(nnls), cmocka_unit_test(regression),
                                       cmocka_unit_test(amplification)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
