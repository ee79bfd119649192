/* Operations of the CUDA back-end against ref, where a card is: odd shapes, every type, and rows whose bits do not depend on
 * their neighbours.  Skipped, with the reason, where there is none. */
#include "ops.h"

static jpt_backend *ref, *gpu, *gpu32;

static void matmul(void **ud) {
    (void)ud;
    static const int32_t shapes[][3] = {{1, 1, 1}, {3, 1, 2}, {33, 3, 5}, {65, 2, 9}, {7, 18, 67}, {257, 9, 3}, {16400, 1, 2}, {40, 64, 66}};
    for (int f32 = 0; f32 < 2; f32++)
        for (size_t d = 0; d < jpt_dtype_count(); d++) {
            const jpt_dtype_info *info = jpt_dtype_at(d);
            jpt_backend          *be = f32 ? gpu32 : gpu;
            bool                  eight = !f32 && info->block > 1;
            double                limit = eight ? 5e-4 : !f32 && info->dtype == JPT_BF16 ? 1e-5 : !f32 && info->dtype == JPT_F16 ? 1e-6 : 1e-10; /* activations of 8 or 16 bits */
            double                worst = 0;
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                int32_t  rows = shapes[s][0], cols = shapes[s][1] * (info->block > 1 ? info->block : s == 4 || s == 5 || s == 2 ? 64 : s % 2 ? 17 : 24), n = shapes[s][2];
                size_t   size = (size_t)n * (size_t)rows;
                uint8_t *w = random_weight(info->dtype, rows, cols);
                float   *x = random_floats((size_t)n * (size_t)cols), *bias = random_floats((size_t)rows), *want = malloc(size * 4), *got = malloc(size * 4);
                matmul_on(ref, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, want);
                matmul_on(be, info->dtype, rows, cols, w, x, n, s % 2 ? bias : NULL, got);
                worst = fmax(worst, error2(want, got, size, energy(info->dtype, rows, cols, w, x, n)));
                /* each row alone has the same bits */
                for (int32_t i = 0; i < n; i += 3) {
                    float *alone = malloc((size_t)rows * 4);
                    matmul_on(be, info->dtype, rows, cols, w, x + (size_t)i * (size_t)cols, 1, s % 2 ? bias : NULL, alone);
                    if (memcmp(alone, got + (size_t)i * (size_t)rows, (size_t)rows * 4) != 0)
                        fail_msg("%s %d x %d: row %d of %d is not what it is alone", info->name, rows, cols, i, n);
                    free(alone);
                }
                free(w), free(x), free(bias), free(want), free(got);
            }
            print_message("matmul %-4s %-5s worst NMSE %.2e\n", f32 ? "f32" : "auto", info->name, worst);
            assert_true(worst <= limit);
        }
}

/* Weights of 16 and 32 bits that become 8-bit ones at load, alone and in pairs of tiles. */
static void narrowed(void **ud) {
    (void)ud;
    static const jpt_dtype   types[] = {JPT_F32, JPT_F16, JPT_BF16};
    static const jpt_compute computes[] = {JPT_COMPUTE_Q8, JPT_COMPUTE_FP8};
    static const int32_t     shapes[][3] = {{33, 32, 1}, {100, 96, 3}, {300, 512, 20}, {48, 1024, 40}, {64, 256, 70}, {96, 320, 140}};
    for (size_t k = 0; k < 2; k++) {
        jpt_backend        *be = NULL;
        jpt_error           err = {0};
        jpt_backend_options o = {.compute = computes[k]};
        double              worst = 0;
        if (jpt_backend_open("cuda", &o, &be, &err) != JPT_OK)
            fail_msg("%s", err.msg);
        for (size_t t = 0; t < 3; t++)
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                int32_t  rows = shapes[s][0], cols = shapes[s][1], n = shapes[s][2];
                size_t   size = (size_t)n * (size_t)rows;
                uint8_t *w = random_weight(types[t], rows, cols);
                float   *x = random_floats((size_t)n * (size_t)cols), *want = malloc(size * 4), *got = malloc(size * 4), *alone = malloc((size_t)rows * 4);
                matmul_on(ref, types[t], rows, cols, w, x, n, NULL, want);
                matmul_on(be, types[t], rows, cols, w, x, n, NULL, got);
                worst = fmax(worst, error2(want, got, size, energy(types[t], rows, cols, w, x, n)));
                matmul_on(be, types[t], rows, cols, w, x + (size_t)(n - 1) * (size_t)cols, 1, NULL, alone);
                if (n < 128 && memcmp(alone, got + (size_t)(n - 1) * (size_t)rows, (size_t)rows * 4) != 0) /* passes of more may go by cuBLASLt */
                    fail_msg("%s %d x %d: the last of %d rows is not what it is alone", k ? "fp8" : "q8", rows, cols, n);
                free(w), free(x), free(want), free(got), free(alone);
            }
        print_message("matmul %s worst NMSE %.2e\n", k ? "fp8" : "q8", worst);
        assert_true(worst <= (k ? 2e-3 : 2e-4) && worst > 0);
        jpt_backend_close(be);
    }
}

static void embedding(void **ud) {
    (void)ud;
    static const int32_t tokens[] = {4, 0, 4, 2};
    for (size_t d = 0; d < jpt_dtype_count(); d++) {
        const jpt_dtype_info *info = jpt_dtype_at(d);
        int32_t               cols = info->block > 1 ? info->block : 19;
        uint8_t              *data = random_weight(info->dtype, 5, cols);
        jpt_weight           *a, *b;
        assert_int_equal(ref->ops->weight_new(ref, info->dtype, 5, cols, data, &a, NULL, NULL), JPT_OK);
        assert_int_equal(gpu->ops->weight_new(gpu, info->dtype, 5, cols, data, &b, NULL, NULL), JPT_OK);
        size_t n = 4 * (size_t)cols;
        float *want = malloc(n * 4), *dy = poisoned(gpu, n);
        ref->ops->embed(ref, a, tokens, 4, want);
        gpu->ops->embed(gpu, b, tokens, 4, dy);
        float *got = get(gpu, dy, n);
        double e = nmse(want, got, n);
        print_message("embed %-5s NMSE %.2e\n", info->name, e);
        assert_true(e <= (info->dtype == JPT_Q4_K || info->dtype == JPT_Q5_K || info->dtype == JPT_Q6_K ? 1e-6 : 1e-12)); /* scales of K blocks are halves there */
        ref->ops->weight_free(ref, a), gpu->ops->weight_free(gpu, b), gpu->ops->free(gpu, dy);
        free(data), free(want), free(got);
    }
}

static void rowwise(void **ud) {
    (void)ud;
    static const int32_t sizes[] = {1, 15, 16, 67, 576, 4096, 8211};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t D = (size_t)sizes[s], n = 9 * D;
        float *x = random_floats(n), *u = random_floats(n), *g = random_floats(D), *want = malloc(n * 4), *got, *dx = put(gpu, x, n), *du = put(gpu, u, n), *dg = put(gpu, g, D), *dy = poisoned(gpu, n);
        ref->ops->rmsnorm(ref, x, g, 9, sizes[s], 1e-5f, want);
        gpu->ops->rmsnorm(gpu, dx, dg, 9, sizes[s], 1e-5f, dy);
        got = get(gpu, dy, n);
        assert_true(nmse(want, got, n) <= 1e-10);
        free(got);
        for (size_t i = 0; i < n; i++)
            x[i] *= i % 7 ? 5.0f : 200.0f;
        gpu->ops->upload(gpu, dx, x, n * 4);
        ref->ops->swiglu(ref, x, u, n, want);
        gpu->ops->swiglu(gpu, dx, du, n, dy);
        got = get(gpu, dy, n);
        assert_true(nmse(want, got, n) <= 1e-10);
        free(got);
        ref->ops->add(ref, x, u, n);
        gpu->ops->add(gpu, dx, du, n);
        got = get(gpu, dx, n);
        assert_memory_equal(got, x, n * 4);
        free(got);
        static const int32_t rows[] = {8, 0, 3};
        ref->ops->gather(ref, u, rows, 3, sizes[s], want);
        gpu->ops->gather(gpu, du, rows, 3, sizes[s], dy);
        got = get(gpu, dy, 3 * D);
        assert_memory_equal(got, want, 3 * D * 4);
        gpu->ops->free(gpu, dx), gpu->ops->free(gpu, du), gpu->ops->free(gpu, dg), gpu->ops->free(gpu, dy);
        free(x), free(u), free(g), free(want), free(got);
    }
}

static void rotation(void **ud) {
    (void)ud;
    enum { N = 5, H = 3, E = 24, ROPE = 16 };
    static const int32_t pos[N] = {0, 1, 17, 900, 4000};
    float                freq[ROPE / 2];
    for (int i = 0; i < ROPE / 2; i++)
        freq[i] = powf(10000.0f, -2.0f * (float)i / ROPE);
    for (int kind = 0; kind < 2; kind++) {
        float *x = random_floats(N * H * E), *dx = put(gpu, x, N * H * E);
        ref->ops->rope(ref, x, N, H, E, ROPE, (jpt_rope_kind)kind, pos, freq);
        gpu->ops->rope(gpu, dx, N, H, E, ROPE, (jpt_rope_kind)kind, pos, freq);
        float *got = get(gpu, dx, N * H * E);
        assert_true(nmse(x, got, N * H * E) <= 1e-10);
        gpu->ops->free(gpu, dx);
        free(x), free(got);
    }
}

/* Two sequences on shuffled pages of one and of several positions, long enough for several chunks. */
static void attention(void **ud) {
    (void)ud;
    enum { L = 2, K = 2, ROWS_A = 300, ROWS_B = 9, ROWS = ROWS_A + ROWS_B };
    static const int32_t widths[] = {16, 24, 64, 128, 24}, groups[] = {1, 3, 4, 7, 100}; /* the last take more than 48 KB of shared memory a block */
    for (int page = 1; page <= 16; page *= 16)
        for (int t = 0; t < 10; t++) {
            int32_t        E = widths[t / 2], H = K * groups[t / 2], pages = (ROWS_A + page - 1) / page + (ROWS_B + page - 1) / page + 1, n_a = (ROWS_A + page - 1) / page;
            int32_t       *table = malloc((size_t)pages * sizeof *table);
            jpt_dtype      type = t % 2 ? JPT_F16 : JPT_F32;
            jpt_attn_shape shape = {H, K, E, 1 / sqrtf((float)E)};
            for (int32_t i = 0; i < pages; i++) /* a permutation */
                table[i] = (int32_t)((i * 7 + 3) % pages);
            if (pages % 7 == 0)
                for (int32_t i = 0; i < pages; i++)
                    table[i] = pages - 1 - i;
            jpt_row_run runs[2] = {{0, ROWS_A, 0, table}, {ROWS_A, ROWS_B, 0, table + n_a}}, tail[2] = {{0, 1, ROWS_A - 1, table}, {1, 2, ROWS_B - 2, table + n_a}};
            size_t      bytes = (size_t)L * (size_t)pages * (size_t)page * K * (size_t)E * 4, q_row = (size_t)H * (size_t)E, kv = (size_t)ROWS * K * (size_t)E;
            float      *k = random_floats(kv), *v = random_floats(kv), *q = random_floats(ROWS * q_row), *want = malloc(ROWS * q_row * 4);
            float      *dk = put(gpu, k, kv), *dv = put(gpu, v, kv), *dq = put(gpu, q, ROWS * q_row), *dy = poisoned(gpu, ROWS * q_row), *dt = poisoned(gpu, 3 * q_row);
            jpt_kv_view rv = {ref->ops->alloc(ref, bytes), ref->ops->alloc(ref, bytes), type, pages, page}, gv = rv;
            gv.d_k = gpu->ops->alloc(gpu, bytes), gv.d_v = gpu->ops->alloc(gpu, bytes);
            ref->ops->kv_write(ref, &rv, 1, &shape, runs, 2, k, v);
            gpu->ops->kv_write(gpu, &gv, 1, &shape, runs, 2, dk, dv);
            uint8_t *cache = malloc(bytes);
            gpu->ops->download(gpu, cache, gv.d_k, bytes);
            assert_memory_equal(cache, rv.d_k, bytes);
            ref->ops->attention(ref, &rv, 1, &shape, runs, 2, q, want);
            gpu->ops->attention(gpu, &gv, 1, &shape, runs, 2, dq, dy);
            float *got = get(gpu, dy, ROWS * q_row);
            double e = nmse(want, got, ROWS * q_row);
            print_message("attention %s head width %d, %d heads a kv head, pages of %d: NMSE %.2e\n", jpt_dtype_name(type), E, groups[t / 2], page, e);
            bool tensor = type == JPT_F16 && E >= 64; /* the long run goes by the tensor cores: test_cuda_prefill */
            assert_true(e <= (tensor ? 1e-6 : 1e-10));
            /* the last rows alone: the same bits */
            gpu->ops->upload(gpu, dq, q + (ROWS_A - 1) * q_row, q_row * 4);
            gpu->ops->upload(gpu, dq + q_row, q + (ROWS - 2) * q_row, 2 * q_row * 4);
            gpu->ops->attention(gpu, &gv, 1, &shape, tail, 2, dq, dt);
            float *last = get(gpu, dt, 3 * q_row);
            if (tensor)
                assert_true(nmse(got + (ROWS_A - 1) * q_row, last, q_row) <= 1e-6);
            else
                assert_memory_equal(last, got + (ROWS_A - 1) * q_row, q_row * 4);
            assert_memory_equal(last + q_row, got + (ROWS - 2) * q_row, 2 * q_row * 4);
            /* a copied page reads the same */
            int32_t spare = pages - 1, copy[512];
            for (int32_t i = 0; i < n_a; i++)
                copy[i] = table[i];
            for (int32_t i = 0; i < pages; i++) { /* the page nobody uses */
                bool used = false;
                for (int32_t j = 0; j + 1 < pages; j++)
                    used = used || table[j] == i;
                spare = used ? spare : i;
            }
            gpu->ops->kv_copy_page(gpu, &gv, L, &shape, copy[n_a - 1], spare);
            copy[n_a - 1] = spare;
            jpt_row_run forked = {0, 1, ROWS_A - 1, copy};
            gpu->ops->attention(gpu, &gv, 1, &shape, &forked, 1, dq, dt);
            float *again = get(gpu, dt, q_row);
            assert_memory_equal(again, last, q_row * 4);
            ref->ops->free(ref, rv.d_k), ref->ops->free(ref, rv.d_v), gpu->ops->free(gpu, gv.d_k), gpu->ops->free(gpu, gv.d_v);
            gpu->ops->free(gpu, dk), gpu->ops->free(gpu, dv), gpu->ops->free(gpu, dq), gpu->ops->free(gpu, dy), gpu->ops->free(gpu, dt);
            free(k), free(v), free(q), free(want), free(got), free(last), free(again), free(cache), free(table);
        }
    const jpt_attn_shape large = {2000 * K, K, 24, 1};
    jpt_error            err = {0};
    assert_int_equal(gpu->ops->suits(gpu, &large, JPT_F16, &err), JPT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "attention of 2000 heads of width 24"));
}

static void selection(void **ud) {
    (void)ud;
    static const int32_t sizes[] = {1, 31, 1000, 49152, 128256};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t         V = sizes[s];
        float          *z = random_floats(3 * (size_t)V), *dz;
        jpt_selected    a[3], b[3];
        jpt_chain       chain = {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TOP_K, .value = 5, .count = 5}}};
        jpt_select_item items[3] = {{.row = 2}, {.row = 0}, {.row = 1}}, drawn[3];
        for (int32_t v = 0; v < V; v++)
            z[v] = (float)(v % 7); /* ties: the lowest id */
        dz = put(gpu, z, 3 * (size_t)V);
        assert_int_equal(ref->ops->select(ref, z, V, items, 3, a, NULL), JPT_OK);
        assert_int_equal(gpu->ops->select(gpu, dz, V, items, 3, b, NULL), JPT_OK);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(a[i].token, b[i].token);
            assert_float_equal(a[i].logprob, b[i].logprob, 2e-5);
            assert_float_equal(a[i].entropy, b[i].entropy, 2e-4);
            drawn[i] = items[i];
            drawn[i].chain = &chain;
            drawn[i].sample = true;
            drawn[i].key = (jpt_rng_key){5, 6, 7, (uint32_t)i};
        }
        assert_int_equal(ref->ops->select(ref, z, V, drawn, 3, a, NULL), JPT_OK);
        assert_int_equal(gpu->ops->select(gpu, dz, V, drawn, 3, b, NULL), JPT_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(a[i].token, b[i].token);
        jpt_score_item rank[2] = {{.from = {.row = 1}}, {.from = {.row = 2}, .bias = 0.25f}};
        int32_t        ia[4], ta[4], na, ib[4], tb[4], nb;
        float          sa[4], sb[4];
        assert_int_equal(ref->ops->topk(ref, z, V, rank, 2, 4, ia, ta, sa, &na, NULL), JPT_OK);
        assert_int_equal(gpu->ops->topk(gpu, dz, V, rank, 2, 4, ib, tb, sb, &nb, NULL), JPT_OK);
        assert_int_equal(na, nb);
        assert_memory_equal(ta, tb, (size_t)na * sizeof *ta);
        assert_memory_equal(ia, ib, (size_t)na * sizeof *ia);
        z[V + V / 2] = NAN;
        gpu->ops->upload(gpu, dz, z, 3 * (size_t)V * 4);
        jpt_error err = {0};
        assert_int_equal(gpu->ops->select(gpu, dz, V, items, 3, b, &err), JPT_DEVICE);
        gpu->ops->free(gpu, dz);
        free(z);
    }
}

/* Every chain that the card runs, on flat, peaked and tied scores: the token of the host's definition, draw by draw. */
static void chains(void **ud) {
    (void)ud;
    static const int32_t V = 5003, history[] = {7, 9, 7, 11, 9, 7, 9, 7, 11, 9};
    static const jpt_chain c[] = {
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TEMPERATURE, .value = 0.7}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TOP_K, .value = 50, .count = 50}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TOP_P, .value = 0.9}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TOP_P, .value = 0}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_MIN_P, .value = 0.05}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_EPSILON, .value = 0.001}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_ETA, .value = 0.002}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TYPICAL, .value = 0.9}}},
        {.n_links = 3, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TEMPERATURE, .value = 1.4}, {.kind = JPT_LINK_TOP_K, .value = 40, .count = 40}, {.kind = JPT_LINK_TOP_P, .value = 0.8}}},
        {.n_links = 5, .min_tokens_to_keep = 1, .eos = {3, 4}, .n_eos = 2, .link = {{.kind = JPT_LINK_REPETITION_PENALTY, .value = 1.3}, {.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 0.5},
         {.kind = JPT_LINK_PRESENCE_PENALTY, .value = 0.4}, {.kind = JPT_LINK_NO_REPEAT_NGRAM, .value = 2, .count = 2}, {.kind = JPT_LINK_MIN_NEW_TOKENS, .value = 20, .count = 20}}},
    };
    for (int shape = 0; shape < 4; shape++) {
        float *z = random_floats((size_t)V), *dz;
        for (int32_t v = 0; v < V; v++)
            z[v] = shape == 0 ? 3 * z[v] : shape == 1 ? 12 * z[v] * z[v] * z[v] : shape == 2 ? floorf(4 * z[v]) : 0.01f * z[v];
        dz = put(gpu, z, (size_t)V);
        int tokens = 0, same = 0, kept = 0;
        for (size_t i = 0; i < sizeof c / sizeof *c; i++)
            for (uint32_t d = 0; d < 60; d++) {
                jpt_select_item it = {.chain = &c[i], .history = history, .n_history = 10, .n_prompt = 4, .sample = d > 0, .key = {1, 2, 3, d}};
                jpt_selected    a, b;
                assert_int_equal(ref->ops->select(ref, z, V, &it, 1, &a, NULL), JPT_OK);
                assert_int_equal(gpu->ops->select(gpu, dz, V, &it, 1, &b, NULL), JPT_OK);
                tokens++, same += a.token == b.token, kept += a.n_kept == b.n_kept;
                assert_float_equal(a.logprob, b.logprob, a.token == b.token ? 1e-4 : 100);
                if (a.token != b.token || a.n_kept != b.n_kept)
                    print_message("shape %d, chain %zu, draw %u: token %d (%d kept) against %d (%d kept)\n", shape, i, d, b.token, b.n_kept, a.token, a.n_kept);
            }
        print_message("chains, shape %d: %d of %d tokens and %d kept sets the same\n", shape, same, tokens, kept);
        assert_true(same >= tokens - 2 && kept >= tokens - 60); /* exp differs in its last bit: a cut or a draw may fall on the other side */
        gpu->ops->free(gpu, dz);
        free(z);
    }
}

/* Similarities and products of hidden states, over widths that are and are not of four, one and many candidates. */
static void looking_back(void **ud) {
    (void)ud;
    static const int32_t widths[] = {1, 15, 64, 67, 576, 1028, 4096}, counts[][2] = {{1, 1}, {5, 63}, {8, 130}, {9, 1}, {25, 131}, {33, 1027}, {70, 3}};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t s = 0; s < sizeof counts / sizeof *counts; s++) {
            int32_t D = widths[w], n = counts[s][0], m = counts[s][1], a[5] = {m - 1, 0, m / 2, m / 3, m - 1}, b[5] = {0, 0, m - 1, m / 2, m - 1};
            size_t  nx = (size_t)n * (size_t)D, nh = (size_t)m * (size_t)D;
            float  *x = random_floats(nx), *h = random_floats(nh), *unit = random_floats(nh), want[70], got[70], dots[5], again[5];
            float  *dx = put(gpu, x, nx), *dh = put(gpu, h, nh), *du = poisoned(gpu, nh);
            ref->ops->keep_rows(ref, h, m, D, true, unit);
            gpu->ops->keep_rows(gpu, dh, m, D, true, du);
            float *kept = get(gpu, du, nh);
            if (!(nmse(unit, kept, nh) <= 1e-11))
                fail_msg("keep_rows, %d rows of %d: NMSE %.2e", m, D, nmse(unit, kept, nh));
            assert_int_equal(ref->ops->similarity(ref, x, n, D, unit, m, want, NULL), JPT_OK);
            assert_int_equal(gpu->ops->similarity(gpu, dx, n, D, du, m, got, NULL), JPT_OK);
            for (int32_t i = 0; i < n; i++)
                if (!(fabsf(want[i] - got[i]) <= 1e-5f))
                    fail_msg("similarity, %d columns, candidate %d of %d, %d rows of history: %.7f, expected %.7f", D, i, n, m, got[i], want[i]);
            for (int32_t i = 0; i < n; i += 7) { /* a candidate alone: the same bits */
                float alone;
                assert_int_equal(gpu->ops->similarity(gpu, dx + (size_t)i * (size_t)D, 1, D, du, m, &alone, NULL), JPT_OK);
                if (alone != got[i])
                    fail_msg("similarity, %d columns: candidate %d of %d is %.9g and alone %.9g", D, i, n, got[i], alone);
            }
            assert_int_equal(ref->ops->row_dots(ref, h, D, a, b, 5, dots, NULL), JPT_OK);
            assert_int_equal(gpu->ops->row_dots(gpu, dh, D, a, b, 5, again, NULL), JPT_OK);
            for (int i = 0; i < 5; i++)
                if (!(fabsf(dots[i] - again[i]) <= 1e-5f * (float)D))
                    fail_msg("row_dots, %d columns, rows %d and %d: %.7f, expected %.7f", D, a[i], b[i], again[i], dots[i]);
            gpu->ops->keep_rows(gpu, dh, m, D, false, du);
            free(kept);
            kept = get(gpu, du, nh);
            assert_memory_equal(kept, h, nh * sizeof *h);
            gpu->ops->free(gpu, dx), gpu->ops->free(gpu, dh), gpu->ops->free(gpu, du);
            free(x), free(h), free(unit), free(kept);
        }
}

/* Contrasted rows of every form; DoLa with one and several layers, one of them far from the last. */
static void contrasts(void **ud) {
    (void)ud;
    enum { ROWS = 3 };
    static const int32_t sizes[] = {1, 31, 4096, 4097, 128256}, rows[2] = {2, 0}, base_rows[2] = {1, 2};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int form = 0; form < 3; form++)
            for (int n_base = 1; n_base <= (form == JPT_CONTRAST_DOLA ? 13 : 1); n_base += 6) {
                int32_t      V = sizes[s];
                jpt_contrast how = {(jpt_contrast_form)form, 0.5f, 1.5f, 0.1f};
                size_t       n = (size_t)V, all = (size_t)(ROWS * (1 + n_base)) * n;
                float       *z = random_floats(all), *p = random_floats(ROWS * n), *dz, *dp = poisoned(gpu, ROWS * n);
                for (size_t i = 0; i < all; i++)
                    z[i] *= i / n < ROWS ? 8.0f : 6.0f + (float)(i / n % 5);
                dz = put(gpu, z, all);
                assert_int_equal(ref->ops->contrast(ref, &how, z, V, rows, 2, z + ROWS * n, n_base, ROWS, base_rows, p, NULL), JPT_OK);
                assert_int_equal(gpu->ops->contrast(gpu, &how, dz, V, rows, 2, dz + ROWS * n, n_base, ROWS, base_rows, dp, NULL), JPT_OK);
                float *got = get(gpu, dz, ROWS * n), *own = get(gpu, dp, ROWS * n);
                for (int r = 0; r < 2; r++) {
                    double  worst = 0;
                    int32_t edge = 0; /* tokens on the other side of the bound */
                    for (size_t i = (size_t)rows[r] * n; i < (size_t)(rows[r] + 1) * n; i++) {
                        if (!(fabsf(own[i] - p[i]) <= 2e-5f))
                            fail_msg("form %d, V %d, row %d, token %zu: ln p %.7f, expected %.7f", form, V, rows[r], i % n, own[i], p[i]);
                        if ((got[i] == -INFINITY) != (z[i] == -INFINITY))
                            edge++;
                        else if (z[i] > -INFINITY)
                            worst = isfinite(got[i]) ? fmax(worst, fabs((double)got[i] - (double)z[i])) : INFINITY;
                    }
                    if (!(worst <= 1e-4) || edge > 1)
                        fail_msg("form %d, V %d, %d layers, row %d: worst difference %.2e, %d tokens across the bound (a difference of whole units: another layer was chosen)", form, V,
                                 n_base, rows[r], worst, edge);
                }
                for (size_t i = n; i < 2 * n; i++) /* the row that was not named */
                    assert_true(got[i] == z[i]);
                free(got), free(own);
                float bad = NAN; /* told by what selects */
                gpu->ops->upload(gpu, dz + 2 * n + n / 2, &bad, sizeof bad);
                assert_int_equal(gpu->ops->contrast(gpu, &how, dz, V, rows, 2, dz + ROWS * n, n_base, ROWS, base_rows, dp, NULL), JPT_OK);
                jpt_select_item it = {.row = 2};
                jpt_selected    chosen;
                assert_int_equal(gpu->ops->select(gpu, dz, V, &it, 1, &chosen, NULL), JPT_DEVICE);
                gpu->ops->free(gpu, dz), gpu->ops->free(gpu, dp);
                free(z), free(p);
            }
}

/* The k best of rows after every chain that the card ranks by, with ties, with noise, before and after the log-softmax. */
static void rankings(void **ud) {
    (void)ud;
    static const int32_t history[] = {7, 9, 7, 11, 9, 7, 9, 7, 11, 9}, ids[] = {9, 7, 9, 4000, 3}, ks[] = {1, 2, 20, 300}, sizes[] = {11, 4096, 5003, 49152, 128256};
    static const float   values[] = {-1.5f, 0.25f, -0.5f, 3, -1};
    static const jpt_chain c[] = {
        {.n_links = 0, .min_tokens_to_keep = 1},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_BIAS, .ids = ids, .values = values, .n_ids = 5}}},
        {.n_links = 2, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_REPETITION_PENALTY, .value = 1.3}, {.kind = JPT_LINK_TEMPERATURE, .value = 0.7}}},
        {.n_links = 4, .min_tokens_to_keep = 1, .eos = {3, 4}, .n_eos = 2, .link = {{.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 0.5}, {.kind = JPT_LINK_PRESENCE_PENALTY, .value = 0.4},
         {.kind = JPT_LINK_NO_REPEAT_NGRAM, .value = 2, .count = 2}, {.kind = JPT_LINK_MIN_NEW_TOKENS, .value = 20, .count = 20}}},
        {.n_links = 1, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_ALLOWED, .ids = ids, .n_ids = 3}}},
        {.n_links = 1, .min_tokens_to_keep = 3, .link = {{.kind = JPT_LINK_TOP_K, .value = 5, .count = 5}}}, /* on the host */
    };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int shape = 0; shape < 3; shape++) {
            int32_t V = sizes[s];
            float  *z = random_floats(3 * (size_t)V), *dz;
            for (int32_t v = 0; v < 3 * V; v++)
                z[v] = shape == 0 ? 4 * z[v] : shape == 1 ? floorf(4 * z[v]) : -3.0f; /* ties; all alike */
            dz = put(gpu, z, 3 * (size_t)V);
            for (size_t i = 0; i < sizeof c / sizeof *c; i++)
                for (int way = 0; way < 6; way++)
                    for (size_t q = 0; q < sizeof ks / sizeof *ks; q++) {
                        jpt_score_item it[2];
                        int32_t        ia[300], ta[300], na, ib[300], tb[300], nb, same = 0;
                        float          sa[300], sb[300];
                        for (int r = 0; r < 2; r++)
                            it[r] = (jpt_score_item){.from = {.row = 2 - 2 * r, .chain = &c[i], .history = history, .n_history = 10, .n_prompt = 4, .key = {1, 2, (uint32_t)r, 3}},
                                                     .bias = way % 2 ? -0.75f * (float)r : 0, .log_first = way / 2 == 1, .scored = way / 2 == 2, .perturb = way % 2};
                        assert_int_equal(ref->ops->topk(ref, z, V, it, 2, ks[q], ia, ta, sa, &na, NULL), JPT_OK);
                        assert_int_equal(gpu->ops->topk(gpu, dz, V, it, 2, ks[q], ib, tb, sb, &nb, NULL), JPT_OK);
                        if (na != nb)
                            fail_msg("V %d, shape %d, chain %zu, way %d, k %d: %d found, expected %d", V, shape, i, way, ks[q], nb, na);
                        for (int32_t k = 0; k < na; k++) {
                            for (int32_t m = 0; m < na; m++) /* of scores that rounding alone tells apart the order may differ */
                                same += ia[k] == ib[m] && ta[k] == tb[m];
                            if (!(fabsf(sa[k] - sb[k]) <= (way % 2 ? 1.0f : 2e-5f)))
                                fail_msg("V %d, shape %d, chain %zu, way %d, k %d, place %d: row %d token %d score %.7f, expected row %d token %d score %.7f", V, shape, i, way, ks[q], k,
                                         ib[k], tb[k], sb[k], ia[k], ta[k], sa[k]);
                        }
                        if (same < na - (way % 2 ? 4 : 2)) /* and at the end of the list fall on either side */
                            fail_msg("V %d, shape %d, chain %zu, way %d, k %d: %d of %d the same", V, shape, i, way, ks[q], same, na);
                    }
            gpu->ops->free(gpu, dz);
            free(z);
        }
}

/* A whole layer and the head as the card fuses them, run plainly, recorded and replayed, against the operations one by one: one row and
 * several, each alone in its sequence or side by side in one; logits of all rows, and of the last, which has the same bits.  520 rows
 * are more than attend to their common past together, and are not recorded. */
static void layers(void **ud) {
    (void)ud;
    enum { D = 256, F = 512, H = 8, K = 2, E = 64, PAST = 130, V = 300, MOST = 520, W = 8 }; /* multiples of 256 for the K types */
    static const jpt_dtype types[] = {JPT_F32, JPT_F16, JPT_BF16, JPT_Q8_0, JPT_Q5_1, JPT_Q4_0, JPT_Q4_K, JPT_Q6_K};
    static const int32_t   shapes[W][2] = {{H * E, D}, {K * E, D}, {K * E, D}, {D, H * E}, {F, D}, {F, D}, {D, F}, {V, D}};
    float                  freq[E / 2];
    for (int i = 0; i < E / 2; i++)
        freq[i] = powf(10000.0f, -2.0f * (float)i / E);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int form = 0; form < 7; form++) { /* 1 row; 3 sequences; 3 rows of one; 11, 20, 40 and 520 sequences */
            int32_t        n = form == 0 ? 1 : form == 3 ? 11 : form == 4 ? 20 : form == 5 ? 40 : form == 6 ? MOST : 3, rows_a_run = form == 2 ? 3 : 1, n_runs = n / rows_a_run, table[MOST][PAST + 4], pos[MOST], all[MOST];
            jpt_weight    *a[W], *b[W];
            uint8_t       *data[W];
            jpt_error      err = {0};
            jpt_attn_shape shape = {H, K, E, 0.03f}; /* mild: sharp scores would make a product's rounding 400 times larger */
            jpt_row_run    runs[MOST];
            int32_t        pages = 8 + n_runs;
            size_t         cache = (size_t)pages * 32 * K * E;
            float         *x = random_floats((size_t)n * D), *gain = random_floats(3 * D), *past = random_floats(cache), *want = malloc((size_t)n * D * 4);
            float         *norm = malloc((size_t)n * D * 4), *q = malloc((size_t)n * H * E * 4), *k = malloc((size_t)n * K * E * 4), *v = malloc((size_t)n * K * E * 4),
                  *attn = malloc((size_t)n * H * E * 4), *gate = malloc((size_t)n * F * 4), *up = malloc((size_t)n * F * 4);
            for (int i = 0; i < W; i++) {
                data[i] = random_weight(types[t], shapes[i][0], shapes[i][1]);
                if (ref->ops->weight_new(ref, types[t], shapes[i][0], shapes[i][1], data[i], &a[i], NULL, &err) != JPT_OK ||
                    gpu->ops->weight_new(gpu, types[t], shapes[i][0], shapes[i][1], data[i], &b[i], NULL, &err) != JPT_OK)
                    fail_msg("%s", err.msg);
            }
            for (int32_t r = 0; r < n_runs; r++) { /* pages of 32 positions: a shared past, own last pages */
                for (int32_t i = 0; i < (PAST + 35) / 32; i++)
                    table[r][i] = i < PAST / 32 ? i : 8 + r;
                runs[r] = (jpt_row_run){r * rows_a_run, rows_a_run, PAST, table[r]};
                for (int32_t i = 0; i < rows_a_run; i++)
                    pos[r * rows_a_run + i] = PAST + i;
            }
            jpt_kv_view rv = {ref->ops->alloc(ref, cache * 2), ref->ops->alloc(ref, cache * 2), JPT_F16, pages, 32}, gv = rv;
            jpt_half   *half = malloc(cache * 2);
            for (size_t i = 0; i < cache; i++)
                half[i] = jpt_f32_to_half(past[i]);
            memcpy(rv.d_k, half, cache * 2), memcpy(rv.d_v, half, cache * 2);
            gv.d_k = gpu->ops->alloc(gpu, cache * 2), gv.d_v = gpu->ops->alloc(gpu, cache * 2);
            gpu->ops->upload(gpu, gv.d_k, half, cache * 2), gpu->ops->upload(gpu, gv.d_v, half, cache * 2);
            memcpy(want, x, (size_t)n * D * 4);
            ref->ops->rmsnorm(ref, want, gain, n, D, 1e-5f, norm);
            ref->ops->matmul(ref, a[0], norm, n, NULL, q), ref->ops->matmul(ref, a[1], norm, n, NULL, k), ref->ops->matmul(ref, a[2], norm, n, NULL, v);
            ref->ops->rope(ref, q, n, H, E, E, JPT_ROPE_NEOX, pos, freq), ref->ops->rope(ref, k, n, K, E, E, JPT_ROPE_NEOX, pos, freq);
            ref->ops->kv_write(ref, &rv, 0, &shape, runs, n_runs, k, v);
            ref->ops->attention(ref, &rv, 0, &shape, runs, n_runs, q, attn);
            ref->ops->matmul(ref, a[3], attn, n, NULL, norm);
            ref->ops->add(ref, want, norm, (size_t)n * D);
            ref->ops->rmsnorm(ref, want, gain + D, n, D, 1e-5f, norm);
            ref->ops->matmul(ref, a[4], norm, n, NULL, gate), ref->ops->matmul(ref, a[5], norm, n, NULL, up);
            ref->ops->swiglu(ref, gate, up, (size_t)n * F, gate);
            ref->ops->matmul(ref, a[6], gate, n, NULL, norm);
            ref->ops->add(ref, want, norm, (size_t)n * D);
            float *logits = malloc((size_t)n * V * 4);
            ref->ops->rmsnorm(ref, want, gain + 2 * D, n, D, 1e-5f, norm);
            ref->ops->matmul(ref, a[7], norm, n, NULL, logits);
            for (int32_t i = 0; i < n; i++)
                all[i] = i;
            float          *dx = put(gpu, x, (size_t)n * D), *dg = put(gpu, gain, 3 * D), *dz = poisoned(gpu, (size_t)n * V), *droom = poisoned(gpu, (size_t)n * D), *last = NULL, *dn = poisoned(gpu, (size_t)n * D), *dq = poisoned(gpu, (size_t)n * H * E), *dk = poisoned(gpu, (size_t)n * K * E),
                  *dv = poisoned(gpu, (size_t)n * K * E), *da = poisoned(gpu, (size_t)n * H * E), *dgate = poisoned(gpu, (size_t)n * F), *dup = poisoned(gpu, (size_t)n * F);
            jpt_pass_inputs in = {.tokens = pos, .pos = pos, .runs = runs, .n_runs = n_runs, .page_size = 32};
            memset(&in.shape, 0, sizeof in.shape);
            in.shape.session = dx, in.shape.n = n, in.shape.n_layers = 1, in.shape.apart = rows_a_run == 1;
            double worst = 0, worst_logits = 0;
            for (int round = 0; round < 8; round++) { /* plain, recorded, replayed twice; all rows' logits, then the last's */
                const int32_t first = round < 4 || n == MOST ? 0 : n - 1; /* many go by cuBLASLt, which adds in another order */
                in.logits_rows = all + first, in.shape.n_logits = n - first;
                gpu->ops->upload(gpu, dx, x, (size_t)n * D * 4);
                if (!gpu->ops->pass_begin(gpu, &in)) {
                    gpu->ops->layer(gpu, &(jpt_layer_job){0, n, D, F, n_runs, E, 1e-5f, JPT_ROPE_NEOX, pos, freq, &gv, &shape, runs, dg, dg + D, dg + 2 * D, NULL, NULL, NULL,
                                                          b[0], b[1], b[2], b[3], b[4], b[5], b[6], dx, dn, dq, dk, dv, da, dgate, dup});
                    gpu->ops->logits(gpu, b[7], dx, n, in.logits_rows, n - first, dg + 2 * D, 1e-5f, droom, dn, dz);
                    gpu->ops->pass_end(gpu, &in);
                }
                float *got = get(gpu, dx, (size_t)n * D), *z = get(gpu, dz, (size_t)(n - first) * V);
                worst = fmax(worst, nmse(want, got, (size_t)n * D));
                worst_logits = fmax(worst_logits, nmse(logits + (size_t)first * V, z, (size_t)(n - first) * V));
                if (!last)
                    last = memcpy(malloc(V * 4), z + (size_t)(n - 1) * V, V * 4);
                if (memcmp(last, z + (size_t)(n - first - 1) * V, V * 4) != 0)
                    fail_msg("layer %s, %d rows, round %d: the last row's logits changed", jpt_dtype_name(types[t]), n, round);
                free(got), free(z);
            }
            uint8_t *cached = malloc(cache * 2);
            gpu->ops->download(gpu, cached, gv.d_k, cache * 2);
            size_t differ = 0;
            for (size_t i = 0; i < cache; i++)
{
                float was = jpt_half_to_f32(((jpt_half *)rv.d_k)[i]), is = jpt_half_to_f32(((jpt_half *)(void *)cached)[i]);
                differ += fabsf(is - was) > (types[t] == JPT_F32 ? 0.001f * (1 + fabsf(was)) : 0.05f); /* a float16 may round the other way */
            }
            print_message("layer %-5s %2d rows in %2d sequences: NMSE %.2e, logits %.2e, %zu keys differ\n", jpt_dtype_name(types[t]), n, n_runs, worst, worst_logits, differ);
            double limit = types[t] == JPT_F32 ? (n_runs > 1 ? 1e-5 : 1e-7) : /* a common past: queries in float16 */
                           types[t] == JPT_F16 ? 4e-5 : types[t] == JPT_BF16 ? 2e-3 : 1e-2; /* a row's own key may weigh much: that makes a product's rounding 100 times larger */
            assert_true(worst <= limit && worst_logits <= 4 * limit);
            assert_true(differ <= (types[t] < JPT_Q4_0 ? 0u : cache / 100));
            for (int i = 0; i < W; i++)
                ref->ops->weight_free(ref, a[i]), gpu->ops->weight_free(gpu, b[i]), free(data[i]);
            float *d[] = {dx, dg, dz, droom, dn, dq, dk, dv, da, dgate, dup, gv.d_k, gv.d_v};
            for (size_t i = 0; i < sizeof d / sizeof *d; i++)
                gpu->ops->free(gpu, d[i]);
            ref->ops->free(ref, rv.d_k), ref->ops->free(ref, rv.d_v);
            float *h[] = {x, gain, past, want, norm, logits, last, q, k, v, attn, gate, up};
            for (size_t i = 0; i < sizeof h / sizeof *h; i++)
                free(h[i]);
            free(half), free(cached);
        }
}

int main(void) {
    jpt_error           err = {0};
    jpt_backend_options exact = {.compute = JPT_COMPUTE_F32};
    if (jpt_backend_open("cuda", NULL, &gpu, &err) != JPT_OK) {
        print_message("skipped: %s\n", err.msg);
        return 77;
    }
    if (jpt_backend_open("cuda", &exact, &gpu32, &err) != JPT_OK || jpt_backend_open("ref", NULL, &ref, &err) != JPT_OK)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(matmul), cmocka_unit_test(narrowed), cmocka_unit_test(embedding), cmocka_unit_test(rowwise), cmocka_unit_test(rotation),
                                       cmocka_unit_test(attention), cmocka_unit_test(layers), cmocka_unit_test(selection), cmocka_unit_test(chains), cmocka_unit_test(looking_back), cmocka_unit_test(contrasts), cmocka_unit_test(rankings)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    jpt_backend_close(gpu), jpt_backend_close(gpu32), jpt_backend_close(ref);
    return rc;
}
