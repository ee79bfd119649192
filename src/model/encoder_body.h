/* The sentence encoder's inner loops, in GCC's vector extensions of 16 floats: one AVX-512 register, two AVX2, four SSE.
 * A file an instruction set defines OPS, ISA_NAME, TILE_ROWS and TILE_VECTORS (accumulators that fit its registers) and
 * includes this. */
#include "encoder.h"
#include <math.h>
#include <string.h>

typedef float   f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))

/* e^x for x <= 0: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; 0 below -87. */
INLINE f16 exp_negative(f16 x) {
    i16 under = x < -87.0f;
    x = (f16)(((i16)x & ~under) | ((i16)((f16){0} - 87.0f) & under));
    f16 rounded = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer part lands in the low bits */
    i16 power = ((i16)rounded - 0x4b400000 + 127) << 23;
    f16 n = rounded - 12582912.0f, r = x - n * 0.693359375f - n * -2.12194440e-4f;
    f16 p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (f16)((i16)(p * (f16)power) & ~under);
}

/* x Phi(x), with erf by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7). */
INLINE f16 gelu_of(f16 x) {
    i16 negative = x < 0.0f;
    f16 z = (f16)((i16)x & 0x7fffffff) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
    f16 p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    f16 tail = 0.5f * p * exp_negative(-(z * z)); /* Phi(-|x|) */
    return x * (f16)(((i16)tail & negative) | ((i16)(1.0f - tail) & ~negative));
}

/* ---- products ------------------------------------------------------------------------------------ */

/* n rows by `vectors` times 16 columns, all in registers; n and vectors are constants where this is inlined. */
INLINE void tile(const float *panel, const float *bias, int32_t cols, const float *x, const int n, const int vectors, float *y, size_t ldy, int32_t width, bool gelu) {
    f16 sum[TILE_ROWS * TILE_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < n; r++)
#pragma GCC unroll 2
        for (int c = 0; c < vectors; c++)
            sum[r * vectors + c] = *(const f16 *)(bias + 16 * c);
    for (int32_t k = 0; k < cols; k++) {
        f16 w[TILE_VECTORS];
#pragma GCC unroll 2
        for (int c = 0; c < vectors; c++)
            w[c] = *(const f16 *)(panel + (size_t)k * ENCODER_PANEL + 16 * c);
#pragma GCC unroll 16
        for (int r = 0; r < n; r++)
#pragma GCC unroll 2
            for (int c = 0; c < vectors; c++)
                sum[r * vectors + c] += w[c] * x[(size_t)r * (size_t)cols + (size_t)k];
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; r++)
#pragma GCC unroll 2
        for (int c = 0; c < vectors; c++) {
            f16     s = gelu ? gelu_of(sum[r * vectors + c]) : sum[r * vectors + c];
            int32_t left = width - 16 * c;
            if (left > 0)
                memcpy(y + (size_t)r * ldy + 16 * c, &s, (size_t)(left < 16 ? left : 16) * sizeof(float));
        }
}

static void multiply(const float *panel, const float *bias, int32_t cols, const float *x, int32_t n, float *y, size_t ldy, int32_t width, bool gelu) {
    for (int32_t c = 0; c < ENCODER_PANEL / 16; c += TILE_VECTORS) {
        int32_t r = 0;
#define TILES(N)                                                                                                                    \
    for (; r + (N) <= n; r += (N))                                                                                                  \
        tile(panel + 16 * c, bias + 16 * c, cols, x + (size_t)r * (size_t)cols, N, TILE_VECTORS, y + (size_t)r * ldy + 16 * c, ldy, width - 16 * c, gelu);
        TILES(TILE_ROWS)
        TILES(TILE_ROWS / 2)
        TILES(1)
#undef TILES
    }
}

/* ---- attention ----------------------------------------------------------------------------------- */

/* y = sum over k of p[k] v[k], rows of v ld apart. */
INLINE void mix(const float *p, const float *v, float *y, int32_t T, int32_t E, size_t ld) {
    int32_t e = 0;
    for (; e + 32 <= E; e += 32) {
        f16 a = {0}, b = {0};
        for (int32_t k = 0; k < T; k++) {
            a += *(const f16 *)(v + (size_t)k * ld + e) * p[k];
            b += *(const f16 *)(v + (size_t)k * ld + e + 16) * p[k];
        }
        *(f16 *)(y + e) = a;
        *(f16 *)(y + e + 16) = b;
    }
    for (; e < E; e++) {
        float a = 0;
        for (int32_t k = 0; k < T; k++)
            a += v[(size_t)k * ld + (size_t)e] * p[k];
        y[e] = a;
    }
}

static void attend(const float *q, const float *k, const float *v, size_t ld, float *y, size_t ldy, int32_t T, int32_t E, float *room) {
    int32_t wide = (T + 15) / 16 * 16;
    float  *across = room, *p = room + (size_t)E * (size_t)wide, scale = 1 / sqrtf((float)E); /* keys, transposed: [E, wide] */
    memset(across, 0, (size_t)E * (size_t)wide * sizeof *across);
    for (int32_t t = 0; t < T; t++)
        for (int32_t e = 0; e < E; e++)
            across[(size_t)e * (size_t)wide + (size_t)t] = k[(size_t)t * ld + (size_t)e];
    for (int32_t i = 0; i < T; i++) {
        float max = -INFINITY, sum = 0;
        for (int32_t t = 0; t < wide; t += 16) {
            f16 s = {0};
            for (int32_t e = 0; e < E; e++)
                s += *(const f16 *)(across + (size_t)e * (size_t)wide + t) * q[(size_t)i * ld + (size_t)e];
            *(f16 *)(p + t) = s * scale;
        }
        for (int32_t t = 0; t < T; t++)
            max = p[t] > max ? p[t] : max;
        for (int32_t t = 0; t < wide; t += 16)
            *(f16 *)(p + t) = exp_negative(*(const f16 *)(p + t) - max);
        for (int32_t t = 0; t < T; t++)
            sum += p[t];
        for (int32_t t = 0; t < T; t++)
            p[t] /= sum;
        mix(p, v, y + (size_t)i * ldy, T, E, ld);
    }
}

const encoder_ops OPS = {ISA_NAME, multiply, attend};
