/* Passes of many rows on the CUDA back-end against ref, where a card is: products by cuBLASLt, attention of long runs, layers of
 * both, and the same without the library.  Skipped, with the reason, where there is no card. */
#include "ops.h"
#include <stdio.h>

static jpt_backend *ref, *gpu, *without; /* without: no cuBLASLt */
static bool         fast;                /* gpu has it */

static bool has_library(jpt_backend *be) {
    char line[256];
    be->ops->describe(be, line, sizeof line);
    print_message("%s\n", line);
    return strstr(line, "cuBLASLt") != NULL;
}

/* Rounding to 8 bits, as small products do, or 16: of the activations, and of quantised weights too. */
static double product_limit(jpt_dtype t) { return t == JPT_F32 ? 1e-10 : t == JPT_F16 ? 1e-6 : t == JPT_BF16 || fast ? 1e-5 : 5e-4; }

static void products(void **ud) {
    (void)ud;
    static const int32_t n[] = {128, 129, 200, 517}, rows[] = {40, 257, 1000, 33}, blocks[] = {1, 2, 2, 1}, cols16[] = {64, 72, 192, 520}; /* 72, 520: not in tiles */
    for (size_t d = 0; d < jpt_dtype_count(); d++) {
        const jpt_dtype_info *info = jpt_dtype_at(d);
        double                worst = 0;
        for (int s = 0; s < 4; s++) {
            int32_t  cols = info->block == 1 ? cols16[s] : info->block == 32 ? 32 * (2 * s + 1) : info->block * blocks[s]; /* of 32: an odd number */
            size_t   size = (size_t)n[s] * (size_t)rows[s];
            uint8_t *w = random_weight(info->dtype, rows[s], cols);
            float   *x = random_floats((size_t)n[s] * (size_t)cols), *bias = random_floats((size_t)rows[s]), *want = malloc(size * 4), *got = malloc(size * 4);
            matmul_on(ref, info->dtype, rows[s], cols, w, x, n[s], s % 2 ? bias : NULL, want);
            matmul_on(gpu, info->dtype, rows[s], cols, w, x, n[s], s % 2 ? bias : NULL, got);
            worst = fmax(worst, error2(want, got, size, energy(info->dtype, rows[s], cols, w, x, n[s])));
            free(w), free(x), free(bias), free(want), free(got);
        }
        print_message("product %-5s worst NMSE %.2e\n", info->name, worst);
        assert_true(worst <= product_limit(info->dtype));
    }
}

/* A head of a large vocabulary, which is written out of its tiles in pieces; rows of weights come again after 61.  Logits that do not
 * begin at an even place. */
static void pieces(void **ud) {
    (void)ud;
    enum { ROWS = 131172, COLS = 512, N = 130, OWN = 61 };
    static const jpt_dtype types[] = {JPT_F16, JPT_Q8_0, JPT_Q4_0};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t   bytes, size = (size_t)N * ROWS;
        uint8_t *few = random_weight(types[t], OWN, COLS), *all;
        float   *x = random_floats((size_t)N * COLS), *want = malloc((size_t)N * OWN * 4);
        double   scale = energy(types[t], OWN, COLS, few, x, N), worst = 0;
        assert_true(jpt_dtype_row_bytes(types[t], COLS, &bytes));
        all = malloc(bytes * ROWS);
        for (size_t r = 0; r < ROWS; r++)
            memcpy(all + r * bytes, few + r % OWN * bytes, bytes);
        matmul_on(ref, types[t], OWN, COLS, few, x, N, NULL, want);
        jpt_weight *w = NULL;
        jpt_error   err = {0};
        if (gpu->ops->weight_new(gpu, types[t], ROWS, COLS, all, &w, NULL, &err) != JPT_OK)
            fail_msg("%s", err.msg);
        float *dx = put(gpu, x, (size_t)N * COLS), *dy = poisoned(gpu, size + 2);
        gpu->ops->matmul(gpu, w, dx, N, NULL, dy + 1);
        float *got = get(gpu, dy, size + 2);
        assert_true(isnan(got[0]) && isnan(got[size + 1]));
        for (size_t i = 0; i < size; i++) {
            double e = (double)got[i + 1] - (double)want[i / ROWS * OWN + i % ROWS % OWN];
            if (!isfinite(got[i + 1]) || e * e > 0.02 * scale / (N * OWN))
                fail_msg("%s: row %zu, product %zu: %g, expected %g", jpt_dtype_name(types[t]), i / ROWS, i % ROWS, (double)got[i + 1], (double)want[i / ROWS * OWN + i % ROWS % OWN]);
            worst += e * e;
        }
        worst /= scale * ROWS / OWN;
        print_message("product %-5s of %d rows: NMSE %.2e\n", jpt_dtype_name(types[t]), ROWS, worst);
        assert_true(worst <= product_limit(types[t]));
        gpu->ops->weight_free(gpu, w), gpu->ops->free(gpu, dx), gpu->ops->free(gpu, dy);
        free(few), free(all), free(x), free(want), free(got);
    }
}

/* ---- attention ------------------------------------------------------------------------------------------------------------ */

typedef struct sequence {
    int32_t past, rows;
} sequence;

/* Sequences on shuffled pages, each with a past, and a pass over all of them. */
static void attend(int32_t E, int32_t K, int32_t group, int32_t page, const sequence *seq, int32_t n_seqs) {
    enum { L = 2 };
    int32_t        H = K * group, n = 0, n_past = 0, pages = 3;
    jpt_attn_shape shape = {H, K, E, 1 / sqrtf((float)E)};
    jpt_row_run   *runs = malloc((size_t)n_seqs * sizeof *runs), *before = malloc((size_t)n_seqs * sizeof *before);
    int32_t        n_before = 0, at = 0;
    for (int32_t s = 0; s < n_seqs; s++)
        pages += (seq[s].past + seq[s].rows + page - 1) / page;
    int32_t *table = malloc((size_t)pages * sizeof *table);
    for (int32_t i = 0; i < pages; i++)
        table[i] = i;
    for (int32_t i = pages - 1; i > 0; i--) {
        int32_t k = (int32_t)((uniform() + 1) * 0.5f * (float)(i + 1)) % (i + 1), t = table[i];
        table[i] = table[k], table[k] = t;
    }
    for (int32_t s = 0; s < n_seqs; s++) {
        if (seq[s].past)
            before[n_before++] = (jpt_row_run){n_past, seq[s].past, 0, table + at};
        runs[s] = (jpt_row_run){n, seq[s].rows, seq[s].past, table + at};
        n += seq[s].rows, n_past += seq[s].past;
        at += (seq[s].past + seq[s].rows + page - 1) / page;
    }
    size_t      bytes = (size_t)L * (size_t)pages * (size_t)page * (size_t)K * (size_t)E * 2, kv = (size_t)(n > n_past ? n : n_past) * (size_t)K * (size_t)E, nq = (size_t)n * (size_t)H * (size_t)E;
    float      *k = random_floats(kv), *v = random_floats(kv), *q = random_floats(nq), *want = malloc(nq * 4);
    jpt_kv_view rv = {ref->ops->alloc(ref, bytes), ref->ops->alloc(ref, bytes), JPT_F16, pages, page}, gv = rv;
    for (size_t i = 0; i < nq; i++) /* scores of several units, so that the softmax is not flat */
        q[i] *= 4;
    for (int i = 0; i < 2; i++) {
        ref->ops->kv_write(ref, &rv, 1, &shape, i ? runs : before, i ? n_seqs : n_before, k, v);
        for (size_t e = 0; e < kv; e++)
            k[e] = uniform(), v[e] = uniform();
    }
    gv.d_k = gpu->ops->alloc(gpu, bytes), gv.d_v = gpu->ops->alloc(gpu, bytes);
    gpu->ops->upload(gpu, gv.d_k, rv.d_k, bytes), gpu->ops->upload(gpu, gv.d_v, rv.d_v, bytes);
    float *dq = put(gpu, q, nq), *dy = poisoned(gpu, nq);
    ref->ops->attention(ref, &rv, 1, &shape, runs, n_seqs, q, want);
    gpu->ops->attention(gpu, &gv, 1, &shape, runs, n_seqs, dq, dy);
    float *got = get(gpu, dy, nq);
    double e = nmse(want, got, nq);
    print_message("attention, head width %3d, %d heads a kv head, pages of %2d, %3d runs, %4d rows: NMSE %.2e\n", E, group, page, n_seqs, n, e);
    for (int32_t s = 0; s < n_seqs; s++) { /* none of them hides in the sum */
        size_t row = (size_t)H * (size_t)E, from = (size_t)runs[s].first_row * row;
        for (int32_t i = 0; i < runs[s].n_rows; i++)
            if (!(nmse(want + from + (size_t)i * row, got + from + (size_t)i * row, row) <= 1e-5))
                fail_msg("run %d: row %d of %d is wrong", s, i, runs[s].n_rows);
    }
    assert_true(e <= 2e-6);
    gpu->ops->free(gpu, gv.d_k), gpu->ops->free(gpu, gv.d_v), gpu->ops->free(gpu, dq), gpu->ops->free(gpu, dy), ref->ops->free(ref, rv.d_k), ref->ops->free(ref, rv.d_v);
    free(k), free(v), free(q), free(want), free(got), free(table), free(runs), free(before);
}

static void attention(void **ud) {
    (void)ud;
    static const sequence mixed[] = {{0, 150}, {130, 20}, {75, 3}, {0, 16}, {300, 1}, {5, 1}, {63, 65}, {64, 15}}, one[] = {{0, 128}}, later[] = {{700, 517}}, whole[] = {{0, 517}};
    static const int32_t  pages[] = {1, 16, 7}, groups[] = {1, 3, 4, 8};
    for (int32_t E = 64; E <= 128; E += 64) {
        for (int p = 0; p < 3; p++)
            for (int g = 0; g < 4; g++)
                attend(E, g == 1 ? 3 : 2, groups[g], pages[p], mixed, sizeof mixed / sizeof *mixed);
        attend(E, 1, 2, 16, one, 1);
        attend(E, 1, 2, 1, later, 1);
        attend(E, 2, 1, 32, whole, 1);
        sequence many[70]; /* more long runs than one launch takes */
        for (int32_t s = 0; s < 70; s++)
            many[s] = (sequence){s % 5 * 17, s % 7 == 3 ? 2 : 16 + s % 4};
        attend(E, 1, 4, 1, many, 70);
    }
}

/* ---- a layer ----------------------------------------------------------------------------------------------------------------- */

typedef struct layer_types {
    const char *name;
    jpt_dtype   t[7]; /* q, k, v, o, gate, up, down */
    double      limit, limit8; /* without the library, where activations have eight bits */
} layer_types;

static double one_layer(jpt_backend *be, const layer_types *y, int32_t n, int32_t F, bool in_pass, bool biased) {
    enum { D = 256, H = 8, K = 2, E = 64, PAGE = 16, PAST = 70 };
    const int32_t        shapes[7][2] = {{H * E, D}, {K * E, D}, {K * E, D}, {D, H * E}, {F, D}, {F, D}, {D, F}};
    int32_t              first = n - 20, rows[3] = {first, 18, 2}, past[3] = {0, PAST, PAST}, *pos = malloc((size_t)n * sizeof *pos), *table, pages = 0, at = 0; /* long from nothing, long, short */
    float                freq[E / 2];
    jpt_weight          *a[7], *b[7];
    uint8_t             *data[7];
    jpt_error            err = {0};
    jpt_attn_shape       shape = {H, K, E, 0.125f};
    jpt_row_run          runs[3];
    for (int i = 0; i < E / 2; i++)
        freq[i] = powf(10000.0f, -2.0f * (float)i / E);
    for (int s = 0; s < 3; s++)
        pages += (rows[s] + past[s] + PAGE - 1) / PAGE;
    table = malloc((size_t)pages * sizeof *table);
    for (int32_t i = 0; i < pages; i++)
        table[i] = pages - 1 - i;
    for (int s = 0, used = 0; s < 3; s++) {
        runs[s] = (jpt_row_run){at, rows[s], past[s], table + used};
        for (int32_t i = 0; i < rows[s]; i++)
            pos[at + i] = past[s] + i;
        at += rows[s], used += (rows[s] + past[s] + PAGE - 1) / PAGE;
    }
    size_t      cache = (size_t)pages * PAGE * K * E, N = (size_t)n;
    float      *x = random_floats(N * D), *gain = random_floats(2 * D), *bias = random_floats((H + 2 * K) * E), *want = malloc(N * D * 4), *norm = malloc(N * D * 4), *q = malloc(N * H * E * 4),
               *k = malloc(N * K * E * 4), *v = malloc(N * K * E * 4), *attn = malloc(N * H * E * 4), *gate = malloc(N * (size_t)F * 4), *up = malloc(N * (size_t)F * 4);
    jpt_kv_view rv = {ref->ops->alloc(ref, cache * 2), ref->ops->alloc(ref, cache * 2), JPT_F16, pages, PAGE}, gv = rv;
    for (int i = 0; i < 7; i++) {
        data[i] = random_weight(y->t[i], shapes[i][0], shapes[i][1]);
        if (ref->ops->weight_new(ref, y->t[i], shapes[i][0], shapes[i][1], data[i], &a[i], NULL, &err) != JPT_OK ||
            be->ops->weight_new(be, y->t[i], shapes[i][0], shapes[i][1], data[i], &b[i], NULL, &err) != JPT_OK)
            fail_msg("%s", err.msg);
    }
    for (size_t i = 0; i < cache; i++)
        ((jpt_half *)rv.d_k)[i] = jpt_f32_to_half(uniform()), ((jpt_half *)rv.d_v)[i] = jpt_f32_to_half(uniform());
    gv.d_k = be->ops->alloc(be, cache * 2), gv.d_v = be->ops->alloc(be, cache * 2);
    be->ops->upload(be, gv.d_k, rv.d_k, cache * 2), be->ops->upload(be, gv.d_v, rv.d_v, cache * 2);
    const float *bq = biased ? bias : NULL, *bk = biased ? bias + H * E : NULL, *bv = biased ? bias + (H + K) * E : NULL;
    memcpy(want, x, N * D * 4);
    ref->ops->rmsnorm(ref, want, gain, n, D, 1e-5f, norm);
    ref->ops->matmul(ref, a[0], norm, n, bq, q), ref->ops->matmul(ref, a[1], norm, n, bk, k), ref->ops->matmul(ref, a[2], norm, n, bv, v);
    ref->ops->rope(ref, q, n, H, E, E, JPT_ROPE_NEOX, pos, freq), ref->ops->rope(ref, k, n, K, E, E, JPT_ROPE_NEOX, pos, freq);
    ref->ops->kv_write(ref, &rv, 0, &shape, runs, 3, k, v);
    ref->ops->attention(ref, &rv, 0, &shape, runs, 3, q, attn);
    ref->ops->matmul(ref, a[3], attn, n, NULL, norm);
    ref->ops->add(ref, want, norm, N * D);
    ref->ops->rmsnorm(ref, want, gain + D, n, D, 1e-5f, norm);
    ref->ops->matmul(ref, a[4], norm, n, NULL, gate), ref->ops->matmul(ref, a[5], norm, n, NULL, up);
    ref->ops->swiglu(ref, gate, up, N * (size_t)F, gate);
    ref->ops->matmul(ref, a[6], gate, n, NULL, norm);
    ref->ops->add(ref, want, norm, N * D);
    float *dx = put(be, x, N * D), *dg = put(be, gain, 2 * D), *dbq = put(be, bias, H * E), *dbk = put(be, bias + H * E, K * E), *dbv = put(be, bias + (H + K) * E, K * E), *dn = poisoned(be, N * D),
          *dq = poisoned(be, N * H * E), *dk = poisoned(be, N * K * E), *dv = poisoned(be, N * K * E), *da = poisoned(be, N * H * E), *dgate = poisoned(be, N * (size_t)F), *dup = poisoned(be, N * (size_t)F);
    jpt_pass_inputs in = {.tokens = pos, .pos = pos, .runs = runs, .n_runs = 3, .page_size = PAGE};
    memset(&in.shape, 0, sizeof in.shape);
    in.shape.session = dx, in.shape.n = n, in.shape.n_layers = 1;
    if (in_pass)
        assert_false(be->ops->pass_begin(be, &in));
    be->ops->layer(be, &(jpt_layer_job){0, n, D, F, 3, E, 1e-5f, JPT_ROPE_NEOX, pos, freq, &gv, &shape, runs, dg, dg + D, NULL, biased ? dbq : NULL, biased ? dbk : NULL, biased ? dbv : NULL,
                                        b[0], b[1], b[2], b[3], b[4], b[5], b[6], dx, dn, dq, dk, dv, da, dgate, dup});
    if (in_pass)
        be->ops->pass_end(be, &in);
    float *got = get(be, dx, N * D);
    double e = nmse(want, got, N * D);
    for (int i = 0; i < 7; i++)
        ref->ops->weight_free(ref, a[i]), be->ops->weight_free(be, b[i]), free(data[i]);
    float *d[] = {dx, dg, dbq, dbk, dbv, dn, dq, dk, dv, da, dgate, dup, gv.d_k, gv.d_v}, *h[] = {x, gain, bias, want, norm, q, k, v, attn, gate, up, got};
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        be->ops->free(be, d[i]);
    for (size_t i = 0; i < sizeof h / sizeof *h; i++)
        free(h[i]);
    ref->ops->free(ref, rv.d_k), ref->ops->free(ref, rv.d_v);
    free(pos), free(table);
    return e;
}

static void layers(void **ud) {
    (void)ud;
#define SAME(t) {t, t, t, t, t, t, t}
    static const layer_types types[] = {
        {"F32", SAME(JPT_F32), 2e-5, 2e-5}, /* long runs attend in float16 */
        {"F16", SAME(JPT_F16), 4e-5, 4e-5},
        {"BF16", SAME(JPT_BF16), 2e-3, 2e-3},
        {"Q8_0", SAME(JPT_Q8_0), 4e-3, 1e-2},
        {"Q5_1", SAME(JPT_Q5_1), 4e-3, 1e-2},
        {"Q4_0", SAME(JPT_Q4_0), 4e-3, 1e-2},
        {"Q6_K", SAME(JPT_Q6_K), 4e-3, 1e-2},
        {"Q4_K_M", {JPT_Q4_K, JPT_Q4_K, JPT_Q6_K, JPT_Q4_K, JPT_Q4_K, JPT_Q4_K, JPT_Q6_K}, 4e-3, 1e-2},
        {"F16 and Q8_0", {JPT_F16, JPT_F16, JPT_F16, JPT_Q8_0, JPT_Q8_0, JPT_Q8_0, JPT_F16}, 1e-2, 1e-2}, /* the way of small passes */
    };
    static const int32_t n[] = {128, 129, 200, 517};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int i = 0; i < 5; i++) {
            jpt_backend *be = i < 4 ? gpu : without;
            int32_t      rows = n[i % 4];
            int32_t      F = i < 2 ? 768 : 512; /* room for queries, keys and values side by side, or none */
            double       e = one_layer(be, &types[t], rows, F, i != 1, i % 2);
            print_message("layer %-12s %3d rows%s%s%s: NMSE %.2e\n", types[t].name, rows, i < 2 ? "" : ", narrow", i % 2 ? ", biases" : "", i < 4 ? "" : ", no library", e);
            assert_true(e <= (i < 4 && fast ? types[t].limit : types[t].limit8));
        }
}

int main(void) {
    jpt_error err = {0};
    if (jpt_backend_open("cuda", NULL, &gpu, &err) != JPT_OK) {
        print_message("skipped: %s\n", err.msg);
        return 77;
    }
    const char *own = getenv("JPT_CUBLASLT_LIB");
    char       *kept = own ? strdup(own) : NULL;
    setenv("JPT_CUBLASLT_LIB", "/nowhere/libcublasLt.so", 1);
    if (jpt_backend_open("cuda", NULL, &without, &err) != JPT_OK || jpt_backend_open("ref", NULL, &ref, &err) != JPT_OK)
        return 1;
    if (kept)
        setenv("JPT_CUBLASLT_LIB", kept, 1);
    else
        unsetenv("JPT_CUBLASLT_LIB");
    free(kept);
    fast = has_library(gpu);
    if (has_library(without))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(pieces), cmocka_unit_test(attention), cmocka_unit_test(layers)};
    int                     rc = cmocka_run_group_tests(tests, NULL, NULL);
    jpt_backend_close(gpu), jpt_backend_close(without), jpt_backend_close(ref);
    return rc;
}
