/* Back-end operations: cpu (every instruction set of this processor) against ref.
 *
 * Tolerances (normalised mean squared error, sum (a-b)^2 / sum a^2; matmul: over sum (w x)^2): 5e-4 where AUTO quantises activations to 8 bits,
 * 1e-10 (1e-5 relative) for float32 sums.  Determinism is bitwise: rows in a batch and threads must not show. */
#include "ops.h"

static const char *const isas[] = {"scalar", "avx2", "avx512"};

/* NULL when this processor lacks the instruction set. */
static jpt_backend *open_cpu(const char *isa, int threads, jpt_compute compute) {
    jpt_backend_options opt = {.n_threads = threads, .compute = compute, .isa = isa};
    jpt_backend        *be = NULL;
    jpt_error           err = {0};
    jpt_status          st = jpt_backend_open("cpu", &opt, &be, &err);
    if (st == JPT_UNSUPPORTED)
        return NULL;
    assert_int_equal(st, JPT_OK);
    return be;
}

static jpt_backend *open_ref(void) {
    jpt_backend *be = NULL;
    assert_int_equal(jpt_backend_open("ref", NULL, &be, NULL), JPT_OK);
    return be;
}

static void matmul(jpt_backend *be, jpt_dtype t, int32_t rows, int32_t cols, const void *data, const float *x, int32_t n,
                   const float *bias, float *y) {
    jpt_weight *w = NULL;
    assert_int_equal(be->ops->weight_new(be, t, rows, cols, data, &w, NULL, NULL), JPT_OK);
    be->ops->matmul(be, w, x, n, bias, y);
    be->ops->sync(be);
    be->ops->weight_free(be, w);
}

/* Round x to d * q with |q| <= 127 a block of 32, so that quantising it again loses nothing and the kernels' own
 * arithmetic shows without the error of 8-bit activations. */
static void to_grid(float *x, size_t n) {
    for (size_t b = 0; b + 32 <= n; b += 32) {
        float max = 0;
        for (size_t i = b; i < b + 32; i++)
            max = fmaxf(max, fabsf(x[i]));
        for (size_t i = b; i < b + 32; i++)
            x[i] = rintf(x[i] * 127 / max) * (max / 127);
    }
}

static const int32_t shapes[][3] = {{1, 1, 1}, {3, 1, 2}, {33, 3, 5}, {65, 2, 9}, {7, 18, 67}}; /* rows, blocks, n */

static void test_matmul(void **ud) {
    (void)ud;
    jpt_backend *ref = open_ref();
    for (int compute = JPT_COMPUTE_AUTO; compute <= JPT_COMPUTE_F32; compute++)
        for (size_t a = 0; a < sizeof isas / sizeof *isas; a++) {
            jpt_backend *cpu = open_cpu(isas[a], 2, (jpt_compute)compute);
            if (!cpu) {
                print_message("skipped: no %s here\n", isas[a]);
                continue;
            }
            for (size_t d = 0; d < jpt_dtype_count(); d++) {
                const jpt_dtype_info *info = jpt_dtype_at(d);
                bool   direct = compute == JPT_COMPUTE_AUTO && info->block > 1;
                double worst = 0, grid = 0, outlier = 0;
                for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                    int32_t  rows = shapes[s][0], cols = shapes[s][1] * (info->block > 1 ? info->block : 17), n = shapes[s][2];
                    size_t   size = (size_t)n * (size_t)rows;
                    uint8_t *w = random_weight(info->dtype, rows, cols);
                    float   *x = random_floats((size_t)n * (size_t)cols), *bias = random_floats((size_t)rows);
                    float   *want = malloc(size * sizeof *want), *got = malloc(size * sizeof *got);
                    assert_true(want && got);
                    matmul(ref, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, want);
                    matmul(cpu, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, got);
                    double e = error2(want, got, size, energy(info->dtype, rows, cols, w, x, n));
                    if (getenv("JPT_TEST_VERBOSE"))
                        print_message("  %d x %d, n = %d: %.2e\n", rows, cols, n, e);
                    worst = fmax(worst, e);
                    if (direct) { /* one large value must not spoil what the others say */
                        double quiet = energy(info->dtype, rows, cols, w, x, n);
                        for (int32_t i = 0; i < n; i += 2)
                            x[(size_t)i * (size_t)cols + (size_t)(7 * i % cols)] = i % 4 ? 100 : -1000;
                        matmul(ref, info->dtype, rows, cols, w, x, n, NULL, want);
                        matmul(cpu, info->dtype, rows, cols, w, x, n, NULL, got);
                        outlier = fmax(outlier, error2(want, got, size, quiet));
                        for (int32_t i = 0; i < n; i += 2)
                            x[(size_t)i * (size_t)cols + (size_t)(7 * i % cols)] = 0.5f;
                        to_grid(x, (size_t)n * (size_t)cols);
                        matmul(ref, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, want);
                        matmul(cpu, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, got);
                        grid = fmax(grid, error2(want, got, size, energy(info->dtype, rows, cols, w, x, n)));
                    }
                    free(w), free(x), free(bias), free(want), free(got);
                }
                print_message("matmul %-6s %-4s %-5s worst NMSE %.2e (8-bit grid %.2e, outliers %.2e)\n", isas[a], compute ? "f32" : "auto", info->name, worst, grid, outlier);
                assert_true(grid <= 1e-9);
                assert_true(worst <= (direct ? 5e-4 : 1e-10));
                assert_true(outlier <= 5e-4);
            }
            jpt_backend_close(cpu);
        }
    jpt_backend_close(ref);
}

/* The same row alone, among 7 and among 64, with 1 and 2 threads: the same bits. */
static void test_matmul_deterministic(void **ud) {
    (void)ud;
    enum { ROWS = 45, N = 64 };
    static const int32_t counts[] = {1, 2, 3, 4, 5, 7, 9, 16, 29, N};
    for (size_t a = 0; a < sizeof isas / sizeof *isas; a++)
        for (size_t d = 0; d < jpt_dtype_count(); d++) {
            const jpt_dtype_info *info = jpt_dtype_at(d);
            int32_t  cols = info->block > 1 ? 3 * info->block : info->dtype == JPT_F32 ? 83 : 96; /* halves: a way of their own for few rows */
            uint8_t *w = random_weight(info->dtype, ROWS, cols);
            float   *x = random_floats((size_t)N * (size_t)cols), want[N * ROWS], got[N * ROWS];
            for (int32_t i = 0; i < N; i += 3) /* outliers take a way of their own */
                x[(size_t)i * (size_t)cols + (size_t)(i * 37 % cols)] = 50;
            jpt_backend *one = open_cpu(isas[a], 1, JPT_COMPUTE_AUTO), *two = open_cpu(isas[a], 2, JPT_COMPUTE_AUTO);
            if (one) {
                assert_non_null(two);
                matmul(one, info->dtype, ROWS, cols, w, x, N, NULL, want);
                for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                    for (int32_t i = 0; i + counts[c] <= N; i += counts[c])
                        for (int t = 0; t < 2; t++) {
                            matmul(t ? two : one, info->dtype, ROWS, cols, w, x + (size_t)i * (size_t)cols, counts[c], NULL, got);
                            if (memcmp(got, want + i * ROWS, (size_t)counts[c] * ROWS * sizeof *got) != 0)
                                fail_msg("%s %s: row %d of a call with n = %d, %d threads differs", isas[a], info->name, i, counts[c], t + 1);
                        }
            }
            jpt_backend_close(one), jpt_backend_close(two);
            free(w), free(x);
        }
}

/* Two sequences on shuffled, interleaved pages; ragged runs; then a page copy must read the same. */
static void test_attention(void **ud) {
    (void)ud;
    enum { L = 2, PAGES = 9, PAGE = 4, K = 2, H = 6, ROWS = 22 };
    static const int32_t  widths[] = {16, 24, 64, 128};
    static const int32_t  ta[] = {5, 0, 7, 2}, tb[] = {3, 8};
    static const jpt_dtype types[] = {JPT_F32, JPT_F16};
    jpt_backend *ref = open_ref();
    for (size_t a = 0; a < sizeof isas / sizeof *isas; a++) {
        jpt_backend *cpu = open_cpu(isas[a], 2, JPT_COMPUTE_AUTO);
        if (!cpu)
            continue;
        for (size_t t = 0; t < 8; t++) {
            int32_t        E = widths[t / 2];
            jpt_attn_shape shape = {H, K, E, 1 / sqrtf((float)E)};
            jpt_row_run    all[2] = {{0, 15, 0, ta}, {15, 7, 0, tb}}, tail[2] = {{0, 1, 14, ta}, {1, 2, 5, tb}};
            size_t         bytes = (size_t)L * PAGES * PAGE * K * (size_t)E * 4, q_row = (size_t)H * (size_t)E;
            float *k = random_floats((size_t)ROWS * K * (size_t)E), *v = random_floats((size_t)ROWS * K * (size_t)E);
            float *q = random_floats(ROWS * q_row), *want = calloc(ROWS, q_row * 4), *got = calloc(ROWS, q_row * 4);
            float *q2 = calloc(3, q_row * 4), *got2 = calloc(3, q_row * 4);
            assert_true(want && got && q2 && got2);
            jpt_kv_view rv = {ref->ops->alloc(ref, bytes), ref->ops->alloc(ref, bytes), types[t % 2], PAGES, PAGE}, cv = rv;
            cv.d_k = cpu->ops->alloc(cpu, bytes), cv.d_v = cpu->ops->alloc(cpu, bytes);
            ref->ops->kv_write(ref, &rv, 1, &shape, all, 2, k, v);
            cpu->ops->kv_write(cpu, &cv, 1, &shape, all, 2, k, v);
            assert_memory_equal(rv.d_k, cv.d_k, bytes);
            assert_memory_equal(rv.d_v, cv.d_v, bytes);
            ref->ops->attention(ref, &rv, 1, &shape, all, 2, q, want);
            cpu->ops->attention(cpu, &cv, 1, &shape, all, 2, q, got);
            double e = nmse(want, got, ROWS * q_row);
            print_message("attention %-6s %s head width %d NMSE %.2e\n", isas[a], jpt_dtype_name(types[t % 2]), E, e);
            assert_true(e <= 1e-10);
            memcpy(q2, q + 14 * q_row, q_row * 4);
            memcpy(q2 + q_row, q + 20 * q_row, 2 * q_row * 4);
            cpu->ops->attention(cpu, &cv, 1, &shape, tail, 2, q2, got2); /* the last rows alone: the same bits */
            assert_memory_equal(got2, got + 14 * q_row, q_row * 4);
            assert_memory_equal(got2 + q_row, got + 20 * q_row, 2 * q_row * 4);
            static const int32_t tc[] = {5, 0, 7, 6};
            jpt_row_run          forked = {0, 1, 14, tc};
            cpu->ops->kv_copy_page(cpu, &cv, L, &shape, 2, 6);
            memset(got2, 0, q_row * 4);
            cpu->ops->attention(cpu, &cv, 1, &shape, &forked, 1, q2, got2);
            assert_memory_equal(got2, got + 14 * q_row, q_row * 4);
            ref->ops->free(ref, rv.d_k), ref->ops->free(ref, rv.d_v), cpu->ops->free(cpu, cv.d_k), cpu->ops->free(cpu, cv.d_v);
            free(k), free(v), free(q), free(want), free(got), free(q2), free(got2);
        }
        jpt_backend_close(cpu);
    }
    jpt_backend_close(ref);
}

static void test_rowwise(void **ud) {
    (void)ud;
    static const int32_t sizes[] = {1, 15, 16, 67, 576, 8211};
    jpt_backend *ref = open_ref();
    for (size_t a = 0; a < sizeof isas / sizeof *isas; a++) {
        jpt_backend *cpu = open_cpu(isas[a], 2, JPT_COMPUTE_AUTO);
        if (!cpu)
            continue;
        double worst[2] = {0};
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t D = (size_t)sizes[s], n = 9 * D;
            float *x = random_floats(n), *u = random_floats(n), *g = random_floats(D), *want = random_floats(n), *got = random_floats(n);
            ref->ops->rmsnorm(ref, x, g, 9, sizes[s], 1e-5f, want);
            cpu->ops->rmsnorm(cpu, x, g, 9, sizes[s], 1e-5f, got);
            worst[0] = fmax(worst[0], nmse(want, got, n));
            for (size_t i = 0; i < n; i++)
                x[i] *= i % 7 ? 5.0f : 200.0f; /* saturating gates too */
            ref->ops->swiglu(ref, x, u, n, want);
            cpu->ops->swiglu(cpu, x, u, n, got);
            worst[1] = fmax(worst[1], nmse(want, got, n));
            free(x), free(u), free(g), free(want), free(got);
        }
        print_message("%-6s rmsnorm worst NMSE %.2e, swiglu %.2e\n", isas[a], worst[0], worst[1]);
        assert_true(worst[0] <= 1e-10 && worst[1] <= 1e-10);
        jpt_backend_close(cpu);
    }
    jpt_backend_close(ref);
}

/* Similarities, products and contrasted rows: cpu's threads give the bits of ref, whose code is the definition; ref itself against sums
 * in float64 and the formula of jpt_dola_divergence in its other form, the mean of (p + q) / 2 ln cosh((ln p - ln q) / 2). */
static void test_looking_back(void **ud) {
    (void)ud;
    static const int32_t widths[] = {1, 15, 64, 67, 576}, counts[][2] = {{1, 1}, {5, 63}, {3, 64}, {25, 131}};
    jpt_backend *ref = open_ref(), *cpu = open_cpu(NULL, 2, JPT_COMPUTE_AUTO);
    double       worst = 0;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t s = 0; s < sizeof counts / sizeof *counts; s++) {
            int32_t D = widths[w], n = counts[s][0], m = counts[s][1], a[3] = {m - 1, 0, m / 2}, b[3] = {0, 0, m - 1};
            float  *x = random_floats((size_t)(n * D)), *h = random_floats((size_t)(m * D)), *unit = random_floats((size_t)(m * D)), want[25], got[25], dots[3], again[3];
            ref->ops->keep_rows(ref, h, m, D, true, unit);
            assert_int_equal(ref->ops->similarity(ref, x, n, D, unit, m, want, NULL), JPT_OK);
            assert_int_equal(cpu->ops->similarity(cpu, x, n, D, unit, m, got, NULL), JPT_OK);
            assert_memory_equal(want, got, (size_t)n * sizeof *got);
            for (int32_t i = 0; i < n; i++) {
                double most = -INFINITY;
                for (int32_t j = 0; j < m; j++) {
                    double xh = 0, xx = 0, hh = 0;
                    for (int32_t d = 0; d < D; d++)
                        xh += (double)x[i * D + d] * (double)h[j * D + d], xx += pow((double)x[i * D + d], 2), hh += pow((double)h[j * D + d], 2);
                    most = fmax(most, xh / sqrt(xx * hh));
                }
                worst = fmax(worst, fabs(most - (double)want[i]));
            }
            assert_int_equal(ref->ops->row_dots(ref, h, D, a, b, 3, dots, NULL), JPT_OK);
            assert_int_equal(cpu->ops->row_dots(cpu, h, D, a, b, 3, again, NULL), JPT_OK);
            assert_memory_equal(dots, again, sizeof dots);
            free(x), free(h), free(unit);
        }
    print_message("similarity: worst difference from float64 %.1e\n", worst);
    assert_true(worst < 2e-6);
    enum { ROWS = 3, BASES = 4, V = 1003 };
    static const int32_t rows[2] = {2, 0}, base_rows[2] = {1, 2};
    for (int form = 0; form < 3; form++) {
        jpt_contrast how = {(jpt_contrast_form)form, 0.5f, 1.5f, 0.1f};
        size_t       all = ROWS * (1 + BASES) * V;
        float       *z = random_floats(all), *y = random_floats(all), *p = random_floats(ROWS * V), *q = random_floats(ROWS * V), *log_p = random_floats(V), *log_q = random_floats(V);
        for (size_t i = 0; i < all; i++)
            z[i] = 6 * z[i];
        memcpy(y, z, all * sizeof *z);
        assert_true(jpt_log_softmax(z + 2 * V, V, log_p) && jpt_log_softmax(z + (ROWS + 1) * V, V, log_q));
        double js = 0;
        for (int v = 0; v < V; v++)
            js += (exp((double)log_p[v]) + exp((double)log_q[v])) / 2 * log(cosh(((double)log_p[v] - (double)log_q[v]) / 2)) / V;
        assert_float_equal(js, jpt_dola_divergence(log_p, log_q, V), 1e-9);
        int n_base = form == JPT_CONTRAST_DOLA ? BASES : 1;
        assert_int_equal(ref->ops->contrast(ref, &how, z, V, rows, 2, z + ROWS * V, n_base, ROWS, base_rows, p, NULL), JPT_OK);
        assert_int_equal(cpu->ops->contrast(cpu, &how, y, V, rows, 2, y + ROWS * V, n_base, ROWS, base_rows, q, NULL), JPT_OK);
        assert_memory_equal(z, y, all * sizeof *z);
        for (int i = 0; i < 2; i++)
            assert_memory_equal(p + rows[i] * V, q + rows[i] * V, V * sizeof *p);
        assert_memory_equal(p + 2 * V, log_p, V * sizeof *p); /* the expert's own */
        y[2 * V + 5] = NAN;
        assert_int_equal(cpu->ops->contrast(cpu, &how, y, V, rows, 2, y + ROWS * V, n_base, ROWS, base_rows, q, NULL), JPT_DEVICE);
        free(z), free(y), free(p), free(q), free(log_p), free(log_q);
    }
    jpt_backend_close(cpu), jpt_backend_close(ref);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_matmul_deterministic),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_rowwise),
        cmocka_unit_test(test_looking_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
