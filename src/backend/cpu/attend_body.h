/* Attention, part of kernels_body.h.  Scores of 16 positions are summed together and land in one vector; every sum has a
 * fixed order: over the head width in 16 lanes and a tree, over positions one after the other. */

static void load_block(const cpu_kv *kv, const void *base, const size_t *slots, int32_t n) {
    for (int32_t p = 0; p < n; p++) {
        float *dst = kv->block + (size_t)p * (size_t)kv->width;
        if (kv->dtype == JPT_F32)
            memcpy(dst, (const float *)base + slots[p] * kv->step, (size_t)kv->head_dim * sizeof *dst);
        else
            to_f32(JPT_F16, (const uint8_t *)((const jpt_half *)base + slots[p] * kv->step), dst, kv->head_dim);
    }
}

#if defined(__AVX512F__)
/* ---- few queries on float16: keys and values are widened in registers, a row for all queries; sums in the order of the rest -------- */

enum { FEW = 4, CHUNK = 64 };

static inline __attribute__((always_inline)) void scores_of_few(const cpu_kv *kv, const size_t *slots, int32_t count, float scale, const cpu_query *query, const int n, int32_t p) {
    __m512 a[FEW][16];
    for (int32_t r = 0; r < 16; r++) {
        const jpt_half *row = (const jpt_half *)kv->k + slots[r < count ? r : 0] * kv->step; /* nobody reads the scores beyond */
        __m512          sum[FEW];
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            sum[i] = _mm512_setzero_ps();
        for (int32_t e = 0; e < kv->width; e += CHUNK)
#pragma GCC unroll 4
            for (int c = 0; c < CHUNK; c += 16) {
                __m512 k = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + e + c)));
#pragma GCC unroll 4
                for (int i = 0; i < n; i++)
                    sum[i] = _mm512_fmadd_ps(_mm512_loadu_ps(query[i].q + e + c), k, sum[i]);
            }
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            a[i][r] = sum[i];
    }
    for (int i = 0; i < n; i++)
        add_up_16(a[i], scale, query[i].score + p);
}

static inline __attribute__((always_inline)) void values_of_few(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, const cpu_query *query, const int n) {
    for (int32_t e = 0; e < kv->width; e += CHUNK) {
        __m512 a[FEW][4];
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++)
                a[i][c] = _mm512_loadu_ps(query[i].acc + e + 16 * c);
        for (int32_t p = from; p < to; p++) {
            const jpt_half *row = (const jpt_half *)kv->v + slots[p] * kv->step + e;
            __m512          w[FEW];
#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
                w[i] = _mm512_set1_ps(query[i].score[p]);
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 16 * c)));
#pragma GCC unroll 4
                for (int i = 0; i < n; i++)
                    a[i][c] = _mm512_fmadd_ps(v, w[i], a[i][c]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++)
                _mm512_storeu_ps(query[i].acc + e + 16 * c, a[i][c]);
    }
}

/* All see the whole range, and there is no block to be shared by many. */
static bool are_few(const cpu_kv *kv, int32_t to, const cpu_query *query, int32_t n) {
    bool few = n <= 2 * FEW && kv->dtype == JPT_F16 && kv->head_dim % CHUNK == 0;
    for (int32_t i = 0; few && i < n; i++)
        few = query[i].n >= to;
    return few;
}

#define BY_FOURS(n, f)                                 \
    do {                                               \
        int32_t i_ = 0;                                \
        for (; i_ + 4 <= (n); i_ += 4)                 \
            f(i_, 4);                                  \
        switch ((n) - i_) {                            \
        case 3: f(i_, 3); break;                       \
        case 2: f(i_, 2); break;                       \
        case 1: f(i_, 1); break;                       \
        default: break;                                \
        }                                              \
    } while (0)
#endif

/* s[p] = scale * (row p of block . q), 16 rows. */
static void dot_16(const float *block, int32_t width, const float *q, float scale, float *s) {
#if defined(__AVX512F__)
    __m512 a[16];
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++)
        a[p] = _mm512_setzero_ps();
    for (int32_t e = 0; e < width; e += 16) {
        __m512 x = _mm512_loadu_ps(q + e);
#pragma GCC unroll 16
        for (int p = 0; p < 16; p++)
            a[p] = _mm512_fmadd_ps(x, _mm512_loadu_ps(block + (size_t)p * (size_t)width + e), a[p]);
    }
    add_up_16(a, scale, s);
#else
    for (int p = 0; p < 16; p++) {
        f32x16 acc = {0};
        for (int32_t e = 0; e < width; e += 16)
            acc += *(const f32x16 *)(q + e) * *(const f32x16 *)(block + (size_t)p * (size_t)width + e);
        s[p] = sum16(&acc) * scale;
    }
#endif
}

static void attend_scores(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, float scale, const cpu_query *query, int32_t n) {
#if defined(__AVX512F__)
    if (are_few(kv, to, query, n)) {
        for (int32_t p = from; p < to; p += 16) {
            int32_t count = to - p < 16 ? to - p : 16;
#define SCORES(first, k) scores_of_few(kv, slots + p, count, scale, query + (first), k, p)
            BY_FOURS(n, SCORES);
#undef SCORES
        }
        return;
    }
#endif
    for (int32_t p = from; p < to; p += 16) {
        load_block(kv, kv->k, slots + p, to - p < 16 ? to - p : 16);
        for (int32_t i = 0; i < n; i++)
            if (p < query[i].n)
                dot_16(kv->block, kv->width, query[i].q, scale, query[i].score + p);
    }
}

static void attend_softmax(cpu_query *query, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        cpu_query *c = &query[i];
        f32x16     sum = {0}, most;
        for (int k = 0; k < 16; k++) {
            c->score[c->n + k] = -INFINITY;
            most[k] = -INFINITY;
        }
        for (int32_t p = 0; p < c->n; p += 16) {
            f32x16 s = *(const f32x16 *)(c->score + p);
            i32x16 more = s > most;
            most = (f32x16)(((i32x16)s & more) | ((i32x16)most & ~more));
        }
        float max = -INFINITY;
        for (int k = 0; k < 16; k++)
            max = most[k] > max ? most[k] : max;
        for (int32_t p = 0; p < c->n; p += 16) {
            f32x16 s = exp16(*(const f32x16 *)(c->score + p) - max);
            *(f32x16 *)(c->score + p) = s;
            sum += s;
        }
        c->sum = sum16(&sum);
    }
}

/* a + x w.  Fused where the kernels above say so themselves, however this is compiled: the two must give the same bits. */
static inline __attribute__((always_inline)) f32x16 add_times(f32x16 a, f32x16 x, float w) {
#if defined(__AVX512F__)
    return (f32x16)_mm512_fmadd_ps((__m512)x, _mm512_set1_ps(w), (__m512)a);
#else
    return a + x * w;
#endif
}

/* acc += weights . rows of block */
static inline __attribute__((always_inline)) void mix(const float *block, const int32_t width, const float *weight, int32_t n, float *acc) {
    for (int32_t e = 0; e < width; e += 64) {
        const int lanes = width - e < 64 ? (width - e) / 16 : 4;
        f32x16    a[4];
        if (lanes == 4) {
            for (int k = 0; k < 4; k++)
                a[k] = *(const f32x16 *)(acc + e + 16 * k);
            for (int32_t p = 0; p < n; p++)
                for (int k = 0; k < 4; k++)
                    a[k] = add_times(a[k], *(const f32x16 *)(block + (size_t)p * (size_t)width + e + 16 * k), weight[p]);
            for (int k = 0; k < 4; k++)
                *(f32x16 *)(acc + e + 16 * k) = a[k];
            continue;
        }
        for (int k = 0; k < lanes; k++) {
            a[0] = *(const f32x16 *)(acc + e + 16 * k);
            for (int32_t p = 0; p < n; p++)
                a[0] = add_times(a[0], *(const f32x16 *)(block + (size_t)p * (size_t)width + e + 16 * k), weight[p]);
            *(f32x16 *)(acc + e + 16 * k) = a[0];
        }
    }
}

static void attend_values(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, const cpu_query *query, int32_t n) {
#if defined(__AVX512F__)
    if (are_few(kv, to, query, n)) {
#define VALUES(first, k) values_of_few(kv, slots, from, to, query + (first), k)
        BY_FOURS(n, VALUES);
#undef VALUES
        return;
    }
#undef BY_FOURS
#endif
    for (int32_t p = from; p < to; p += 16) {
        int32_t count = to - p < 16 ? to - p : 16;
        load_block(kv, kv->v, slots + p, count);
        for (int32_t i = 0; i < n; i++) {
            int32_t seen = query[i].n - p < count ? query[i].n - p : count;
            if (seen == 16 && kv->width == 64)
                mix(kv->block, 64, query[i].score + p, 16, query[i].acc);
            else if (seen > 0)
                mix(kv->block, kv->width, query[i].score + p, seen, query[i].acc);
        }
    }
}

static void to_f16(const float *x, size_t n, jpt_half *y) {
    size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; i < n; i++)
        y[i] = jpt_f32_to_half(x[i]);
}
