/* Body of the kernels, compiled once an instruction set: KERNELS and ISA_NAME are defined by the includer.
 *
 * Float sums run in 16 lanes (GCC vector extensions: one AVX-512 register, two AVX2, four SSE) that are
 * added up in a fixed tree, so the order of a sum does not depend on the number of rows or threads.  Where the set
 * has a fused multiply-add the compiler may use it (-ffp-contract=fast for these files alone), and 16 sums at once
 * have a tree of their own: last digits may differ between instruction sets, never between runs on one. */
#include "../exp16.h"
#include "kernels.h"
#include <math.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float f32x8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int   i32x8 __attribute__((vector_size(32), aligned(4), may_alias));

static inline float sum8(const f32x8 *v) {
    const f32x8 a = *v;
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

static inline float sum16(const f32x16 *v) {
    f32x8 h;
    for (int i = 0; i < 8; i++)
        h[i] = (*v)[i] + (*v)[i + 8];
    return sum8(&h);
}

#if defined(__AVX512F__)
/* s[p] = scale * (the lanes of a[p] added up): transposed in pairs, fours, then the four quarters of each vector. */
static inline __attribute__((always_inline)) void add_up_16(__m512 *a, float scale, float *s) {
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
}
#endif

static inline float half_value(jpt_half h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    return jpt_half_to_f32(h);
#endif
}

/* ---- unpacking 32 weights to unsigned bytes ------------------------------------------------------- */

/* w = scale[half] * q + min[half] for weights 16 * half ... + 15. */
typedef struct unpacked {
#if defined(__AVX2__)
    __m256i q;
#else
    uint8_t q[32];
#endif
    float scale[2], min[2];
} unpacked;

#if defined(__AVX2__)
static inline __m256i nibbles(const uint8_t *p) { /* low nibbles of 16 bytes, then their high nibbles */
    __m128i b = _mm_loadu_si128((const __m128i *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(b, 4), b), _mm256_set1_epi8(15));
}

static inline __m256i bits_to_16(const uint8_t *h) { /* bit i of 32 -> byte i = 16 or 0 */
    uint32_t u;
    memcpy(&u, h, 4);
    const __m256i pick = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i       v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)u), pick), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
}
#else
static inline void nibbles(const uint8_t *p, uint8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = p[i] & 15;
        q[i + 16] = p[i] >> 4;
    }
}

static inline void add_bits_16(const uint8_t *h, uint8_t *q) {
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)(q[i] | (h[i / 8] >> (i % 8) & 1) << 4);
}
#endif

static inline void both(float *pair, float v) { pair[0] = pair[1] = v; }

static inline __attribute__((always_inline)) void unpack(jpt_dtype dtype, const uint8_t *row, int32_t b, unpacked *u) {
    switch (dtype) {
    case JPT_Q4_0: {
        const jpt_block_q4_0 *w = (const jpt_block_q4_0 *)(row + (size_t)b * sizeof *w);
        jpt_half d;
        memcpy(&d, &w->d, 2);
#if defined(__AVX2__)
        u->q = nibbles(w->q);
#else
        nibbles(w->q, u->q);
#endif
        both(u->scale, half_value(d));
        both(u->min, -8 * u->scale[0]);
        break;
    }
    case JPT_Q4_1: {
        const uint8_t *p = row + (size_t)b * sizeof(jpt_block_q4_1);
        jpt_half d, m;
        memcpy(&d, p, 2);
        memcpy(&m, p + 2, 2);
#if defined(__AVX2__)
        u->q = nibbles(p + 4);
#else
        nibbles(p + 4, u->q);
#endif
        both(u->scale, half_value(d));
        both(u->min, half_value(m));
        break;
    }
    case JPT_Q5_0: {
        const uint8_t *p = row + (size_t)b * sizeof(jpt_block_q5_0);
        jpt_half d;
        memcpy(&d, p, 2);
#if defined(__AVX2__)
        u->q = _mm256_or_si256(nibbles(p + 6), bits_to_16(p + 2));
#else
        nibbles(p + 6, u->q);
        add_bits_16(p + 2, u->q);
#endif
        both(u->scale, half_value(d));
        both(u->min, -16 * u->scale[0]);
        break;
    }
    case JPT_Q5_1: {
        const uint8_t *p = row + (size_t)b * sizeof(jpt_block_q5_1);
        jpt_half d, m;
        memcpy(&d, p, 2);
        memcpy(&m, p + 2, 2);
#if defined(__AVX2__)
        u->q = _mm256_or_si256(nibbles(p + 8), bits_to_16(p + 4));
#else
        nibbles(p + 8, u->q);
        add_bits_16(p + 4, u->q);
#endif
        both(u->scale, half_value(d));
        both(u->min, half_value(m));
        break;
    }
    case JPT_Q8_0: { /* q + 128 as an unsigned byte */
        const uint8_t *p = row + (size_t)b * sizeof(jpt_block_q8_0);
        jpt_half d;
        memcpy(&d, p, 2);
#if defined(__AVX2__)
        u->q = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(p + 2)), _mm256_set1_epi8((char)0x80));
#else
        for (int i = 0; i < 32; i++)
            u->q[i] = p[2 + i] ^ 0x80;
#endif
        both(u->scale, half_value(d));
        both(u->min, -128 * u->scale[0]);
        break;
    }
    case JPT_Q4_K:
    case JPT_Q5_K: {
        size_t         bytes = dtype == JPT_Q4_K ? sizeof(jpt_block_q4_k) : sizeof(jpt_block_q5_k);
        const uint8_t *p = row + (size_t)(b / 8) * bytes, *q = p + bytes - 128 + 32 * (b % 8 / 2);
        int            j = b % 8;
        jpt_half d, dmin;
        uint8_t  sc, mn;
        memcpy(&d, p, 2);
        memcpy(&dmin, p + 2, 2);
        jpt_k_scale_min(j, p + 4, &sc, &mn);
#if defined(__AVX2__)
        __m256i raw = _mm256_loadu_si256((const __m256i *)q);
        u->q = _mm256_and_si256(j % 2 ? _mm256_srli_epi16(raw, 4) : raw, _mm256_set1_epi8(15));
        if (dtype == JPT_Q5_K) {
            __m256i bit = _mm256_set1_epi8((char)(1 << j)), h = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(p + 16)), bit);
            u->q = _mm256_or_si256(u->q, _mm256_and_si256(_mm256_cmpeq_epi8(h, bit), _mm256_set1_epi8(16)));
        }
#else
        for (int i = 0; i < 32; i++) {
            u->q[i] = j % 2 ? q[i] >> 4 : q[i] & 15;
            if (dtype == JPT_Q5_K)
                u->q[i] = (uint8_t)(u->q[i] | (p[16 + i] >> j & 1) << 4);
        }
#endif
        both(u->scale, half_value(d) * (float)sc);
        both(u->min, -half_value(dmin) * (float)mn);
        break;
    }
    default: { /* Q6_K */
        const uint8_t *p = row + (size_t)(b / 8) * sizeof(jpt_block_q6_k);
        int            half = b % 8 / 4, quarter = b % 4;
        const uint8_t *ql = p + 64 * half + 32 * (quarter & 1), *qh = p + 128 + 32 * half;
        const int8_t  *sc = (const int8_t *)(p + 192) + 8 * half + 2 * quarter;
        jpt_half d;
        memcpy(&d, p + 208, 2);
#if defined(__AVX2__)
        __m256i lo = _mm256_loadu_si256((const __m256i *)ql), hi = _mm256_loadu_si256((const __m256i *)qh);
        lo = _mm256_and_si256(quarter < 2 ? lo : _mm256_srli_epi16(lo, 4), _mm256_set1_epi8(15));
        hi = _mm256_and_si256(_mm256_srl_epi16(hi, _mm_cvtsi32_si128(2 * quarter)), _mm256_set1_epi8(3));
        u->q = _mm256_or_si256(lo, _mm256_slli_epi16(hi, 4));
#else
        for (int i = 0; i < 32; i++)
            u->q[i] = (uint8_t)((quarter < 2 ? ql[i] & 15 : ql[i] >> 4) | (qh[i] >> (2 * quarter) & 3) << 4);
#endif
        for (int i = 0; i < 2; i++) {
            u->scale[i] = half_value(d) * (float)sc[i];
            u->min[i] = -32 * u->scale[i];
        }
    }
    }
}

enum { PREFETCH_BYTES = 4096 };

/* Blocks to float32: w = scale * q + min, 16 at a time. */
static inline __attribute__((always_inline)) void expand(const unpacked *u, float *dst) {
    for (int half = 0; half < 2; half++) {
#if defined(__AVX512F__)
        __m128i q = half ? _mm256_extracti128_si256(u->q, 1) : _mm256_castsi256_si128(u->q);
        f32x16  w = (f32x16)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q));
#elif defined(__AVX2__)
        __m128i q = half ? _mm256_extracti128_si256(u->q, 1) : _mm256_castsi256_si128(u->q);
        f32x16  w;
        _mm256_storeu_ps((float *)&w, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q)));
        _mm256_storeu_ps((float *)&w + 8, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(q, 8))));
#else
        f32x16 w;
        for (int i = 0; i < 16; i++)
            w[i] = (float)u->q[16 * half + i];
#endif
        *(f32x16 *)(dst + 16 * half) = w * u->scale[half] + u->min[half];
    }
}

/* Inlined once a dtype, so that `unpack` loses its switch. */
static inline __attribute__((always_inline)) void blocks_to_f32(jpt_dtype dtype, const uint8_t *src, float *dst, int32_t n) {
    /* Rows follow each other in memory; the hardware prefetcher stops at each 4 KiB page, so ask ahead. */
    const jpt_dtype_info *info = jpt_dtype_find((uint32_t)dtype);
    const size_t          bytes32 = (size_t)info->block_bytes * 32 / (size_t)info->block;
    for (int32_t b = 0; b < n / 32; b++) {
        unpacked u;
        __builtin_prefetch(src + (size_t)b * bytes32 + PREFETCH_BYTES);
        unpack(dtype, src, b, &u);
        expand(&u, dst + 32 * b);
    }
}

static void to_f32(jpt_dtype dtype, const uint8_t *src, float *dst, int32_t n) {
    int32_t i = 0;
    switch (dtype) {
#define CASE(T)                         \
    case T:                             \
        blocks_to_f32(T, src, dst, n);  \
        return;
        CASE(JPT_Q4_0)
        CASE(JPT_Q4_1)
        CASE(JPT_Q5_0)
        CASE(JPT_Q5_1)
        CASE(JPT_Q8_0)
        CASE(JPT_Q4_K)
        CASE(JPT_Q5_K)
        CASE(JPT_Q6_K)
#undef CASE
    case JPT_F16:
#if defined(__F16C__)
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + 2 * i))));
#endif
        break;
    case JPT_BF16:
#if defined(__AVX2__)
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_si256((__m256i *)(dst + i),
                                _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(src + 2 * i))), 16));
#endif
        break;
    case JPT_F32:
        break;
    }
    jpt_dequantize_row(dtype, src + (dtype == JPT_F32 ? 4 : 2) * i, dst + i, (size_t)(n - i));
}

/* ---- float32 --------------------------------------------------------------------------------------- */

/* Weights i..i + 15 of a row. */
static inline __attribute__((always_inline)) f32x16 weights_at(const jpt_dtype t, const uint8_t *row, int32_t i) {
#if defined(__AVX512F__)
    if (t != JPT_F32) {
        __m256i h = _mm256_loadu_si256((const __m256i *)(row + 2 * (size_t)i));
        return t == JPT_F16 ? (f32x16)_mm512_cvtph_ps(h) : (f32x16)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
    }
#endif
    (void)t;
    return *(const f32x16 *)(row + sizeof(float) * (size_t)i);
}

/* out[4 j + r] = row r . x[j] */
static inline __attribute__((always_inline)) void dot_rows(const jpt_dtype t, const uint8_t *const *row, int32_t cols, const float *const *x, const int n_x, float *out) {
    const size_t size = t == JPT_F32 ? 4 : 2, ahead = DOT_ROWS * size * (size_t)cols; /* the next rows, for the memory's sake */
    f32x16       acc[16];
    int32_t      i = 0;
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++)
        acc[k] = (f32x16){0};
    for (; i + 16 <= cols; i += 16) {
        f32x16 w[DOT_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < DOT_ROWS; r++) {
            w[r] = weights_at(t, row[r], i);
            __builtin_prefetch(row[r] + ahead + size * (size_t)i);
        }
#pragma GCC unroll 4
        for (int j = 0; j < n_x; j++) {
            f32x16 v = *(const f32x16 *)(x[j] + i);
#pragma GCC unroll 4
            for (int r = 0; r < DOT_ROWS; r++)
                acc[DOT_ROWS * j + r] += w[r] * v;
        }
    }
#if defined(__AVX512F__)
    float sum[16];
    add_up_16((__m512 *)acc, 1, sum);
    memcpy(out, sum, (size_t)(DOT_ROWS * n_x) * sizeof *out);
#else
    for (int k = 0; k < DOT_ROWS * n_x; k++)
        out[k] = sum16(&acc[k]);
#endif
    for (int k = 0; i < cols && k < DOT_ROWS * n_x; k++) { /* of float32: of the others cols is a multiple of 16 */
        const float *w = (const float *)(const void *)row[k % DOT_ROWS];
        float        tail = 0;
        for (int32_t c = i; c < cols; c++)
            tail += w[c] * x[k / DOT_ROWS][c];
        out[k] += tail;
    }
}

static inline __attribute__((always_inline)) void dot_as(const jpt_dtype t, const uint8_t *const *row, int32_t cols, const float *const *x, int32_t n_x, float *out) {
    int32_t j = 0;
#if defined(__AVX512F__) /* registers for 16 sums; the others have them for 4 */
    for (; j + 4 <= n_x; j += 4)
        dot_rows(t, row, cols, x + j, 4, out + DOT_ROWS * j);
#endif
    for (; j < n_x; j++)
        dot_rows(t, row, cols, x + j, 1, out + DOT_ROWS * j);
}

static void dot(jpt_dtype t, const uint8_t *const *row, int32_t cols, const float *const *x, int32_t n_x, float *out) {
#if defined(__AVX512F__)
    if (t == JPT_F16 || t == JPT_BF16) {
        if (t == JPT_F16)
            dot_as(JPT_F16, row, cols, x, n_x, out);
        else
            dot_as(JPT_BF16, row, cols, x, n_x, out);
        return;
    }
#endif
    (void)t;
    dot_as(JPT_F32, row, cols, x, n_x, out);
}

#if defined(__AVX512F__)
enum { HALVES = true };
#else
enum { HALVES = false };
#endif

static void rmsnorm(const float *x, const float *gain, int32_t n, float eps, float *y) {
    f32x16  acc = {0};
    float   tail = 0;
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f32x16 v = *(const f32x16 *)(x + i);
        acc += v * v;
    }
    for (; i < n; i++)
        tail += x[i] * x[i];
    float scale = 1 / sqrtf((sum16(&acc) + tail) / (float)n + eps);
    for (i = 0; i < n; i++)
        y[i] = x[i] * scale * gain[i];
}

static void swiglu(const float *gate, const float *up, size_t n, float *y) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f32x16 g = *(const f32x16 *)(gate + i);
        *(f32x16 *)(y + i) = g / (1.0f + exp16(-g)) * *(const f32x16 *)(up + i);
    }
    for (; i < n; i++)
        y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

#include "attend_body.h"
#include "panel_body.h"

const cpu_kernels KERNELS = {ISA_NAME, to_f32, dot, HALVES, rmsnorm, swiglu, attend_scores, attend_softmax, attend_values, to_f16, quantize, panel_dot};
