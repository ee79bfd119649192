/* Attention, part of kernels_body.h.  Scores of 16 positions are summed together and land in one vector; every sum has a
 * fixed order: over the head width in 16 lanes and a tree, over positions one after the other. */

static void load_block(const cpu_kv *kv, const void *base, const size_t *slots, int32_t n) {
    for (int32_t p = 0; p < n; p++) {
        float *dst = kv->block + (size_t)p * (size_t)kv->width;
        if (kv->dtype == JPT_F32)
            memcpy(dst, (const float *)base + slots[p], (size_t)kv->head_dim * sizeof *dst);
        else
            to_f32(JPT_F16, (const uint8_t *)((const jpt_half *)base + slots[p]), dst, kv->head_dim);
    }
}

/* s[p] = scale * (row p of block . q), 16 rows. */
static void dot_16(const float *block, int32_t width, const float *q, float scale, float *s) {
#if defined(__AVX512F__)
    __m512 a[16];
    {
        __m512 x = _mm512_loadu_ps(q);
#pragma GCC unroll 16
        for (int p = 0; p < 16; p++)
            a[p] = _mm512_mul_ps(x, _mm512_loadu_ps(block + (size_t)p * (size_t)width));
    }
    for (int32_t e = 16; e < width; e += 16) {
        __m512 x = _mm512_loadu_ps(q + e);
#pragma GCC unroll 16
        for (int p = 0; p < 16; p++)
            a[p] = _mm512_fmadd_ps(x, _mm512_loadu_ps(block + (size_t)p * (size_t)width + e), a[p]);
    }
    /* transpose and add: pairs, fours, then the four quarters of each vector */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(a[2 * i]), y = _mm512_castps_pd(a[2 * i + 1]);
        a[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    for (int i = 0; i < 2; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88), _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xdd));
    a[0] = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x88), _mm512_shuffle_f32x4(a[0], a[1], 0xdd));
    _mm512_storeu_ps(s, _mm512_mul_ps(a[0], _mm512_set1_ps(scale)));
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
                    a[k] += *(const f32x16 *)(block + (size_t)p * (size_t)width + e + 16 * k) * weight[p];
            for (int k = 0; k < 4; k++)
                *(f32x16 *)(acc + e + 16 * k) = a[k];
            continue;
        }
        for (int k = 0; k < lanes; k++) {
            a[0] = *(const f32x16 *)(acc + e + 16 * k);
            for (int32_t p = 0; p < n; p++)
                a[0] += *(const f32x16 *)(block + (size_t)p * (size_t)width + e + 16 * k) * weight[p];
            *(f32x16 *)(acc + e + 16 * k) = a[0];
        }
    }
}

static void attend_values(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, const cpu_query *query, int32_t n) {
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
