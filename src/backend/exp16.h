/* exp and ln of 16 floats at once, in GCC's vector extensions: one AVX-512 register, two AVX2, four SSE. */
#ifndef JPT_EXP16_H
#define JPT_EXP16_H

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

typedef float f32x16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int   i32x16 __attribute__((vector_size(64), aligned(4), may_alias));

/* exp in float32, 2 ulp: 2^k * p(r), |r| <= ln2/2, degree-6 Taylor with Cody-Waite reduction; clamped above 88.3.  Exact 0
 * below -87.3, or with `denormals`, which is for x <= 88.3, below -104. */
static inline __attribute__((always_inline)) f32x16 exp16_with(f32x16 x, const int denormals) {
    const f32x16 lo = (f32x16){0} + (denormals ? -104.0f : -87.3f), hi = (f32x16){0} + 88.3f;
#if defined(__AVX512F__) /* the same bits in fewer instructions */
    __mmask16 in = _mm512_cmp_ps_mask((__m512)x, (__m512)lo, _CMP_NLT_UQ);
    if (!denormals)
        x = (f32x16)_mm512_max_ps((__m512)lo, _mm512_min_ps((__m512)hi, (__m512)x)); /* NaN stays */
#else
    i32x16 under = x < lo, over = x > hi;
    x = (f32x16)(((i32x16)x & ~under & ~over) | ((i32x16)lo & under) | ((i32x16)hi & over));
#endif
    f32x16 t = x * 1.44269504088896341f;
    f32x16 rounded = t + 12582912.0f; /* 1.5 * 2^23: the integer part lands in the low bits */
    f32x16 kf = rounded - 12582912.0f;
    f32x16 r = x - kf * 0.693359375f;
    r = r - kf * -2.12194440e-4f;
    f32x16 p = r * 1.3888889e-3f + 8.3333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
#if defined(__AVX512F__)
    return (f32x16)_mm512_maskz_scalef_ps(in, (__m512)p, (__m512)kf);
#else
    i32x16 k = (i32x16)rounded - 0x4b400000;
    if (denormals) { /* in two steps: 2^k itself may be none */
        i32x16 first = k >> 1;
        p = p * (f32x16)((first + 127) << 23);
        k = k - first;
    }
    f32x16 e = p * (f32x16)((k + 127) << 23);
    return (f32x16)((i32x16)e & ~under);
#endif
}

static inline __attribute__((always_inline)) f32x16 exp16(f32x16 x) { return exp16_with(x, 0); }

/* ln of positive normal numbers, 3 ulp: x = 2^k m, m in [1/sqrt2, sqrt2), ln m = 2 artanh((m - 1) / (m + 1)) by its series. */
static inline __attribute__((always_inline)) f32x16 log16(f32x16 x) {
    i32x16 k = ((i32x16)x - 0x3f3504f3) >> 23; /* bits of 1/sqrt2 */
    f32x16 m = (f32x16)((i32x16)x - (k << 23)), s = (m - 1.0f) / (m + 1.0f), s2 = s * s, kf = __builtin_convertvector(k, f32x16);
    f32x16 p = s2 * (2.0f / 9) + 2.0f / 7;
    p = p * s2 + 2.0f / 5;
    p = p * s2 + 2.0f / 3;
    return kf * 0.693359375f + (s * 2.0f + (s * s2 * p + kf * -2.12194440e-4f));
}

#endif
