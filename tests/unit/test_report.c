/* The report's intervals on made-up noise: a setting against itself is seldom separable, a real difference nearly always is; the
 * front's probabilities; Student's t; parameters of a spec. */
#include <report/data.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

enum { CELLS = 3, MOST = 40 * 8 };

typedef struct made {
    panel        p;
    jpt_task_row task;
    cell         cells[CELLS];
    cell        *of[CELLS];
    double       sums[CELLS][MOST][N_SUMS];
} made;

static double normal(int a, int b, int c, int d) {
    jpt_rng_key k = {9, (uint32_t)a, (uint32_t)b, (uint32_t)(c * 64 + d)};
    return sqrt(-2 * log(1 - jpt_rng_uniform(k, 0))) * cos(6.283185307179586 * jpt_rng_uniform(k, 1));
}

/* Energies of items that differ by a third, `single` noise of each request, `block` noise that a cell's whole block shares. */
static made *make(int study, int n_cells, int items, int blocks, double single, double block, const double *factor) {
    made *m = calloc(1, sizeof *m);
    m->task = (jpt_task_row){.higher_is_better = 1, .primary_metric = "exact_match"};
    m->p = (panel){.task = &m->task, .cells = m->of, .n_cells = n_cells, .n_items = items, .n_blocks = blocks, .modelled = blocks < 2}; /* with windows of requests' own */
    for (int c = 0; c < n_cells; c++) {
        m->of[c] = &m->cells[c];
        m->cells[c] = (cell){.sums = m->sums[c], .corpus_scale = 1, .best_score = 1, .worst_score = 0};
        for (figure f = 0; f < N_FIGURES; f++)
            m->cells[c].fig[f] = (estimate){NAN, NAN, NAN, 0};
        for (int i = 0; i < items; i++)
            for (int b = 0; b < blocks; b++) {
                double *s = m->sums[c][i * blocks + b], size = 30 * exp(.3 * normal(study, 900, i, 1));
                s[SUM_ENERGY] = s[SUM_TOKENS_ENERGY] = factor[c] * size * (1 + single * normal(study, c, i, b + 2) + block * normal(study, c, 999, b + 20));
                s[SUM_ENERGIES] = 1, s[SUM_TOKENS] = size, s[SUM_SCORE] = (i * 7 + study) % 10 < 6, s[SUM_SCORES] = 1;
            }
    }
    assert_int_equal(report_bootstrap(&m->p), JPT_OK);
    return m;
}

static void release(made *m) {
    for (int c = 0; c < CELLS; c++)
        for (figure f = 0; f < N_FIGURES; f++)
            free(m->cells[c].rep[f]);
    free(m);
}

static int separable(int studies, int items, int blocks, double single, double block, double factor) {
    int found = 0;
    for (int s = 0; s < studies; s++) {
        made      *m = make(s, 2, items, blocks, single, block, (const double[]){1, factor});
        difference d = report_difference(&m->p, m->of[1], m->of[0], J_REQUEST);
        assert_true(isfinite(d.delta.low) && d.delta.low <= d.delta.mean && d.delta.mean <= d.delta.high);
        assert_true(report_separable(d.delta) == (d.p < .05) || fabs(d.p - .05) < .03);
        found += report_separable(d.delta);
        release(m);
    }
    return found;
}

/* Measured requests share their window's joules: 50 % more in one block may be the window's. */
static void one_block_of_windows_is_no_verdict(void **state) {
    (void)state;
    made *m = make(1, 2, 20, 1, .01, 0, (const double[]){1, 1.5});
    assert_true(report_separable(report_difference(&m->p, m->of[1], m->of[0], J_REQUEST).delta));
    m->p.modelled = false;
    difference d = report_difference(&m->p, m->of[1], m->of[0], J_REQUEST), q = report_difference(&m->p, m->of[1], m->of[0], QUALITY);
    assert_true(isnan(d.delta.low) && isnan(d.p) && !report_separable(d.delta) && fabs(d.ratio.mean - 1.5) < .05 && isfinite(q.delta.low));
    release(m);
}

static void a_setting_against_itself_is_not_separable(void **state) {
    (void)state;
    /* of 200 studies 10 are due; 20 and more would come once in 700 times by chance */
    const struct { int items, blocks; double single, block; } noise[] = {{20, 5, .01, 0}, {20, 5, .01, .005}, {20, 5, .001, .01}, {1, 5, .01, 0}, {20, 1, .02, 0}, {30, 3, .005, .005}};
    for (size_t k = 0; k < sizeof noise / sizeof *noise; k++) {
        int n = separable(200, noise[k].items, noise[k].blocks, noise[k].single, noise[k].block, 1);
        if (n > 20)
            fail_msg("case %zu: %d of 200 studies separate a setting from itself", k, n);
    }
}

static void a_real_difference_is_found(void **state) {
    (void)state;
    assert_true(separable(100, 20, 5, .01, .003, 1.02) >= 95);
    assert_true(separable(100, 20, 1, .01, 0, .97) >= 95);
}

static void fronts_have_probabilities(void **state) {
    (void)state;
    made *m = make(1, 3, 20, 5, .02, 0, (const double[]){1, 1.5, 1.001});
    assert_true(m->cells[1].p_front[1] < .01 && !m->cells[1].front[1]); /* same quality, half as much again */
    double two = m->cells[0].p_front[1] + m->cells[2].p_front[1];
    assert_true(two > .99 && two < 1.1 && m->cells[0].p_front[1] > .05 && m->cells[2].p_front[1] > .02);
    assert_true(m->cells[0].fig[J_REQUEST].low < m->cells[0].fig[J_REQUEST].mean && m->cells[0].sd[1] > 0);
    assert_true(isnan(m->cells[0].fig[LATENCY].mean) && isnan(m->cells[0].fig[NET_J_TOKEN].mean)); /* absent, not zero */
    release(m);
}

static void missing_items_are_left_out_of_a_difference(void **state) {
    (void)state;
    made *m = make(2, 2, 20, 3, .01, 0, (const double[]){1, 1});
    for (int k = 0; k < 30; k++) /* the second lacks the first ten items */
        memset(m->sums[1][k], 0, sizeof m->sums[1][k]);
    difference d = report_difference(&m->p, m->of[1], m->of[0], J_REQUEST);
    assert_int_equal(d.delta.n, 10);
    assert_true(isfinite(d.delta.low) && fabs(d.ratio.mean - 1) < .02);
    release(m);
}

static void students_t(void **state) {
    (void)state;
    /* tables */
    assert_true(fabs(report_student_quantile(4) - 2.7764) < 1e-3 && fabs(report_student_quantile(1) - 12.706) < 1e-2 && fabs(report_student_quantile(1e6) - 1.95996) < 1e-3);
    assert_true(fabs(report_student_p(2.7764, 4) - .05) < 1e-4 && report_student_p(0, 7) > .999999 && report_student_p(-40, 30) < 1e-12);
}

static void parameters(void **state) {
    (void)state;
    double v;
    char   key[48], value[64];
    assert_true(report_parameter("contrastive:penalty_alpha=0.6,top_k=5", "top_k", &v) && v == 5);
    assert_true(report_parameter_at("contrastive:penalty_alpha=0.6,top_k=5", 0, key, value) && strcmp(key, "penalty_alpha") == 0 && strcmp(value, "0.6") == 0);
    assert_false(report_parameter("dola:dola_layers=high", "dola_layers", &v));
    assert_false(report_parameter("greedy", "top_k", &v));
    assert_false(report_parameter_at("greedy", 0, key, value));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_block_of_windows_is_no_verdict), cmocka_unit_test(a_setting_against_itself_is_not_separable), cmocka_unit_test(a_real_difference_is_found), cmocka_unit_test(fronts_have_probabilities),
                                       cmocka_unit_test(missing_items_are_left_out_of_a_difference), cmocka_unit_test(students_t), cmocka_unit_test(parameters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
