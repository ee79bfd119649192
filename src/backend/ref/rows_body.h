/* Body of the loops in rows.h; ROWS is the table's name. */
#include "../exp16.h"
#include "rows.h"
#include <math.h>
#include <string.h>

typedef double f64x8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t i64x8 __attribute__((vector_size(64), aligned(8), may_alias));
#define LOAD(p) (*(const f32x16 *)(p))

static inline __attribute__((always_inline)) f32x16 pick(i32x16 mask, f32x16 a, f32x16 b) { return (f32x16)(((i32x16)a & mask) | ((i32x16)b & ~mask)); }

/* Is a lane of the mask set? */
static inline __attribute__((always_inline)) bool any(i32x16 mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    uint64_t half[8];
    memcpy(half, &mask, sizeof half);
    return ((half[0] | half[1]) | (half[2] | half[3])) | ((half[4] | half[5]) | (half[6] | half[7]));
#endif
}

/* The last n % 16 values, the rest filled with `fill`. */
static inline __attribute__((always_inline)) f32x16 tail(const float *z, int32_t n, float fill) {
    f32x16 v = (f32x16){0} + fill;
    memcpy(&v, z, (size_t)n * sizeof *z);
    return v;
}

static float max_of(const float *z, int32_t n, bool *nan) {
    f32x16  most = (f32x16){0} - INFINITY;
    i32x16  bad = {0};
    int32_t i = 0;
    for (; i < n; i += 16) {
        f32x16 v = n - i >= 16 ? LOAD(z + i) : tail(z + i, n - i, -INFINITY);
        bad |= v != v;
        most = pick(v > most, v, most);
    }
    float max = -INFINITY;
    for (int k = 0; k < 16; k++)
        max = most[k] > max ? most[k] : max;
    *nan = any(bad);
    return max;
}

/* float64 sums of 16 floats: lanes k and k + 8 share one */
#define ADD_WIDE(sum, v)                                                        \
    do {                                                                        \
        f32x16 v_ = (v);                                                        \
        sum += __builtin_convertvector(((halves){v_}).half[0], f64x8);          \
        sum += __builtin_convertvector(((halves){v_}).half[1], f64x8);          \
    } while (0)
typedef float f32x8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef union halves {
    f32x16 all;
    f32x8  half[2];
} halves;

static inline double sum_of(const f64x8 *s) {
    const f64x8 v = *s;
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

static double exp_sum(const float *z, int32_t n, float shift, float *w, double *dot) {
    f64x8 sum = {0}, with_x = {0};
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 x = (n - i >= 16 ? LOAD(z + i) : tail(z + i, n - i, -INFINITY)) - shift, e = {0};
        if (any(~(x < -104.0f))) { /* most are gone after a cut: they add nothing */
            e = exp16_with(x, 1);
            ADD_WIDE(sum, e);
            if (dot)
                ADD_WIDE(with_x, pick(e > 0, e * x, (f32x16){0}));
        }
        if (w && n - i >= 16)
            *(f32x16 *)(w + i) = e;
        else if (w)
            memcpy(w + i, &e, (size_t)(n - i) * sizeof *w);
    }
    if (dot)
        *dot = sum_of(&with_x);
    return sum_of(&sum);
}

static double entropy_eps(const float *logp, int32_t n, float eps) {
    f64x8 sum = {0};
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 p = exp16_with(n - i >= 16 ? LOAD(logp + i) : tail(logp + i, n - i, -INFINITY), 1);
        ADD_WIDE(sum, p * log16(p + eps));
    }
    return -sum_of(&sum);
}

static double sum_row(const float *w, int32_t n) {
    f64x8 sum = {0};
    for (int32_t i = 0; i < n; i += 16)
        ADD_WIDE(sum, n - i >= 16 ? LOAD(w + i) : tail(w + i, n - i, 0));
    return sum_of(&sum);
}

static double deviation(const float *z, int32_t n, double mean, bool squared) {
    f64x8 sum = {0};
    for (int32_t i = 0; i < n; i += 16) {
        halves h = {n - i >= 16 ? LOAD(z + i) : tail(z + i, n - i, -INFINITY)};
        for (int k = 0; k < 2; k++) {
            f64x8 d = __builtin_convertvector(h.half[k], f64x8) - mean;
            if (squared)
                d *= d;
            sum += (f64x8)((i64x8)d & __builtin_convertvector(h.half[k] > -INFINITY, i64x8));
        }
    }
    return sum_of(&sum);
}

static void sub(const float *z, int32_t n, float a, float b, float *out) {
    for (int32_t i = 0; i < n; i++)
        out[i] = (z[i] - a) - b;
}

static void divide(float *z, int32_t n, float by) {
    for (int32_t i = 0; i < n; i++)
        z[i] /= by;
}

static void smooth(float *z, int32_t n, double max, double square, double cube) {
    for (int32_t i = 0; i < n; i++) {
        double d = (double)z[i] - max, y = max - square * d * d + cube * d * d * d;
        z[i] = z[i] == -INFINITY ? -INFINITY : (float)y;
    }
}

static void cut_below(float *z, const float *p, int32_t n, double bound) {
    for (int32_t i = 0; i < n; i++)
        z[i] = (double)p[i] < bound ? -INFINITY : z[i];
}

static int32_t count_finite(const float *z, int32_t n) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += z[i] > -INFINITY;
    return count;
}

static int32_t argmax(const float *z, int32_t n) {
    bool  nan;
    float max = max_of(z, n, &nan);
    int32_t i = 0;
    while (i + 16 <= n && !any(LOAD(z + i) == max))
        i += 16;
    for (; i < n; i++)
        if (z[i] == max)
            return i;
    return 0;
}

static void group_max(const float *z, int32_t n, float *most) {
    for (int32_t i = 0; i < n; i += ROW_GROUP) {
        f32x16 m = (f32x16){0} - INFINITY;
        for (int32_t k = i; k < i + ROW_GROUP && k < n; k += 16) {
            f32x16 v = n - k >= 16 ? LOAD(z + k) : tail(z + k, n - k, -INFINITY);
            m = pick(v > m, v, m);
        }
        float max = m[0];
        for (int k = 1; k < 16; k++)
            max = m[k] > max ? m[k] : max;
        most[i / ROW_GROUP] = max;
    }
}

static int32_t at_least(const float *z, int32_t n, float bound, int32_t *id, int32_t cap) {
    int32_t found = 0;
    for (int32_t i = 0; i < n; i += 16) {
        i32x16 ge = (n - i >= 16 ? LOAD(z + i) : tail(z + i, n - i, NAN)) >= bound;
        if (!any(ge))
            continue;
        for (int k = 0; k < 16 && i + k < n; k++)
            if (ge[k]) {
                if (found < cap)
                    id[found] = i + k;
                found++;
            }
    }
    return found;
}

static void bins(const float *key, int32_t n, float low, float step, int32_t most, int32_t *bin) {
    const float top = (float)most;
    for (int32_t i = 0; i < n; i++) {
        float b = (key[i] - low) * step;
        b = b > 0 ? b : 0;
        b = b < top ? b : top;
        bin[i] = (int32_t)b;
    }
}

static float dot(const float *a, const float *b, int32_t n) {
    f32x16  part = {0};
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        part += LOAD(a + i) * LOAD(b + i);
    for (int k = 0; i < n; i++, k++)
        part[k] += a[i] * b[i];
    float p[16];
    memcpy(p, &part, sizeof p);
    for (int half = 8; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            p[k] += p[k + half];
    return p[0];
}

const row_loops ROWS = {max_of, exp_sum, entropy_eps, sum_row, deviation, sub, divide, smooth, cut_below, count_finite, argmax, group_max, at_least, bins, dot};
