/* The loops of selection give the same bits on every instruction set that this processor has. */
#include "backend/ref/choose.h"
#include "backend/ref/rows.h"
#include <jpt/select.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 5003 };
static float a[N], x[N], y[N];

static void fill(float *z, int32_t n, uint64_t seed) {
    for (int32_t i = 0; i < n; i++) {
        double u = jpt_rng_uniform((jpt_rng_key){seed, 0, 0, (uint32_t)i}, 0);
        z[i] = u < 0.05 ? -INFINITY : u < 0.06 ? -120 : (float)(40 * u - 30);
    }
    for (int32_t i = n / 2; i < n / 2 + n / 8; i++) /* as after a cut */
        z[i] = -INFINITY;
}

static void same_row(const row_loops *l, int32_t n) {
    const row_loops *b = &row_loops_base;
    bool             nan[2];
    double           dot[2], s[2];
    float            max = b->max(a, n, &nan[0]);
    int32_t          id[2][N], count[2];
    assert_true(max == l->max(a, n, &nan[1]) && nan[0] == nan[1]);
    s[0] = b->exp_sum(a, n, max, x, &dot[0]);
    s[1] = l->exp_sum(a, n, max, y, &dot[1]);
    assert_true(s[0] == s[1] && dot[0] == dot[1]);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    for (int32_t i = 0; i < n; i++) { /* what the loop says of itself: 2 ulp, 0 below -104 */
        double e = exp((double)(a[i] - max));
        assert_true(a[i] - max < -104 ? x[i] == 0 : fabs((double)x[i] - e) <= 3e-7 * e + 1e-44);
    }
    assert_true(b->sum(x, n) == l->sum(x, n));
    b->sub(a, n, max, (float)log(s[0]), x);
    s[0] = b->entropy_eps(x, n, 1e-5f);
    assert_true(s[0] == l->entropy_eps(x, n, 1e-5f));
    double exact = 0;
    for (int32_t i = 0; i < n; i++)
        exact -= exp((double)x[i]) * log(exp((double)x[i]) + 1e-5);
    assert_true(fabs(exact - s[0]) < 1e-5 * (1 + exact));
    assert_int_equal(b->find(a, n, max), l->find(a, n, max));
    assert_true(a[b->find(a, n, max)] == max);
    assert_int_equal(b->find(a, n, 77), 0);
    assert_int_equal(b->count_finite(a, n), l->count_finite(a, n));
    assert_true(b->deviation(a, n, -3, true) == l->deviation(a, n, -3, true));
    static const float edges[][2] = {{-INFINITY, INFINITY}, {-1, INFINITY}, {-20, -1}, {3, 3}};
    for (size_t k = 0; k < sizeof edges / sizeof *edges; k++) {
        float   low = edges[k][0], high = edges[k][1];
        int32_t found = b->between(a, n, low, high, id[0]), expected = 0;
        assert_int_equal(found, l->between(a, n, low, high, id[1]));
        assert_memory_equal(id[0], id[1], (size_t)found * sizeof id[0][0]);
        for (int32_t i = 0; i < n; i++)
            if (a[i] >= low && a[i] < high)
                assert_int_equal(id[0][expected++], i);
        assert_int_equal(found, expected);
        s[0] = b->sum_below(a, x, n, high, &count[0]);
        s[1] = l->sum_below(a, x, n, high, &count[1]);
        assert_true(s[0] == s[1] && count[0] == count[1]);
        assert_int_equal(l->sum_below(a, NULL, n, high, &count[0]), b->between(a, n, -INFINITY, high, id[0]));
        exact = 0;
        for (int32_t i = 0; i < count[1]; i++)
            exact += (double)x[id[0][i]];
        assert_true(fabs(s[0] - exact) <= 1e-12 * (1 + fabs(exact)) || isnan(exact) || isinf(exact));
    }
    memcpy(x, a, (size_t)n * sizeof *a);
    memcpy(y, a, (size_t)n * sizeof *a);
    b->smooth(x, n, (double)max, 0.3, 0.01);
    l->smooth(y, n, (double)max, 0.3, 0.01);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    b->cut_before(x, n, -4, n / 3);
    l->cut_before(y, n, -4, n / 3);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    b->sub(a, n, max, 1, x);
    b->sub(a, n, max, 1, y);
    b->aim(x, n, 0.3f, x);
    l->aim(y, n, 0.3f, y);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    for (int32_t i = 0; i < n; i++) {
        double distance = fabs(exp((double)(a[i] - max - 1)) - (double)0.3f) / 0.3, score = 5 - 10 * distance * distance / (1 + distance);
        assert_true(a[i] == -INFINITY ? x[i] == -INFINITY : fabs((double)x[i] - score) < 1e-4);
    }
    b->group_max(a, n, x);
    l->group_max(a, n, y);
    assert_memory_equal(x, y, (size_t)((n + ROW_GROUP - 1) / ROW_GROUP) * sizeof *x);
}

static void the_same_bits(void **state) {
    (void)state;
    static const int32_t sizes[] = {1, 15, 16, 17, 64, 100, 1024, N};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        fill(a, sizes[k], k);
        a[0] = 9;
        same_row(rows(), sizes[k]);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2"))
            same_row(&row_loops_v3, sizes[k]);
#endif
    }
}

static int descending(const void *p, const void *q) {
    int32_t i = *(const int32_t *)p, j = *(const int32_t *)q;
    return a[i] != a[j] ? (a[i] < a[j] ? 1 : -1) : (i > j) - (i < j);
}

/* Against sorting, with many equal scores. */
static void the_best(void **state) {
    (void)state;
    static int32_t order[N], id[N];
    void          *scratch = malloc(jpt_select_scratch_bytes(N));
    fill(a, N, 7);
    for (int32_t i = 0; i < N; i++) {
        a[i] = rintf(4 * a[i]) / 4;
        order[i] = i;
    }
    qsort(order, N, sizeof *order, descending);
    int32_t finite = row_loops_base.count_finite(a, N);
    static const int32_t ks[] = {1, 2, 15, 101, 1000, N - 1};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        int32_t k = ks[i], found = jpt_best_scores(a, N, k, scratch, id);
        assert_int_equal(found, k < finite ? k : finite);
        assert_memory_equal(id, order, (size_t)found * sizeof *id);
        memcpy(x, a, sizeof x);
        jpt_keep_best(x, N, k, scratch);
        for (int32_t r = 0; r < N; r++)
            assert_true(x[order[r]] == (r < k ? a[order[r]] : -INFINITY));
    }
    free(scratch);
}

/* The place where a running weight passes a limit, against sorting; equal keys stand in the order of their ids. */
static int ascending(const void *p, const void *q) { return a[*(const int32_t *)p] == a[*(const int32_t *)q] ? descending(p, q) : -descending(p, q); }

static void the_boundary(void **state) {
    (void)state;
    static int32_t order[N];
    void          *scratch = malloc(jpt_select_scratch_bytes(N));
    select_room    room = jpt_select_room(scratch, N);
    for (uint64_t seed = 0; seed < 24; seed++) {
        int32_t n = seed % 3 ? N : 200 + (int32_t)seed;
        bool    nan;
        fill(a, n, seed);
        for (int32_t i = 0; i < n; i++) { /* many equal, or all of them */
            a[i] = seed % 4 == 1 ? rintf(a[i]) : seed == 6 ? 1.5f : a[i];
            order[i] = i;
        }
        qsort(order, (size_t)n, sizeof *order, ascending);
        float  max = row_loops_base.max(a, n, &nan);
        double sum = row_loops_base.exp_sum(a, n, max, x, NULL);
        row_loops_base.divide(x, n, (float)sum);
        static const float limits[] = {0, 0.001f, 0.1f, 0.5f, 0.95f, 0.999f, 2};
        for (size_t k = 0; k < sizeof limits / sizeof *limits; k++)
            for (int weighted = 0; weighted < 2; weighted++)
                for (int reach = 0; reach < 2; reach++) {
                    float  limit = weighted ? limits[k] : rintf(limits[k] * (float)n);
                    double run = 0;
                    int32_t at = 0;
                    for (; at < n; at++) {
                        run += weighted ? (double)x[order[at]] : 1;
                        if (reach ? (float)run >= limit : (float)run > limit)
                            break;
                    }
                    entry got;
                    bool  found = jpt_mass_boundary(a, weighted ? x : NULL, n, max - SPAN_NATS, max, limit, reach, &room, &got);
                    assert_int_equal(found, at < n);
                    if (found)
                        assert_int_equal(got.id, order[at]);
                }
    }
    free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_bits), cmocka_unit_test(the_best), cmocka_unit_test(the_boundary)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
