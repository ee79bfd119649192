/* Body of the loops in rows.h; ROWS is the table's name. */
#include "../exp16.h"
#include "rows.h"
#include <math.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

typedef float   f32x8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double  f64x8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef int64_t i64x8 __attribute__((vector_size(64), aligned(8), may_alias));
typedef union halves {
    f32x16 all;
    f32x8  half[2];
} halves;
#define LOAD(p) (*(const f32x16 *)(p))

/* ---- which of 16 lanes, and how many: gcc 12 makes twice the instructions of vectors of masks with AVX-512 ------------- */

#if defined(__AVX512F__)
typedef __mmask16 lanes;
typedef int32_t   tally;
#define COMPARE(a, op, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), op)
ALWAYS lanes  less(f32x16 a, f32x16 b) { return COMPARE(a, _CMP_LT_OQ, b); }
ALWAYS lanes  equal(f32x16 a, f32x16 b) { return COMPARE(a, _CMP_EQ_OQ, b); }
ALWAYS lanes  at_least(f32x16 a, f32x16 b) { return COMPARE(a, _CMP_GE_OQ, b); }
ALWAYS lanes  not_less(f32x16 a, f32x16 b) { return COMPARE(a, _CMP_NLT_UQ, b); }
ALWAYS lanes  nans(f32x16 a) { return COMPARE(a, _CMP_UNORD_Q, a); }
ALWAYS bool   any(lanes m) { return m != 0; }
ALWAYS f32x16 pick(lanes m, f32x16 a, f32x16 b) { return (f32x16)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
ALWAYS void   add_count(tally *t, lanes m) { *t += __builtin_popcount(m); }
ALWAYS int32_t total(tally t) { return t; }
ALWAYS f64x8  wide(f32x8 v) { return (f64x8)_mm512_cvtps_pd((__m256)v); }
ALWAYS f32x8  narrow(f64x8 v) { return (f32x8)_mm512_cvtpd_ps((__m512d)v); }
#else
typedef i32x16 lanes, tally;
ALWAYS lanes less(f32x16 a, f32x16 b) { return a < b; }
ALWAYS lanes equal(f32x16 a, f32x16 b) { return a == b; }
ALWAYS lanes at_least(f32x16 a, f32x16 b) { return a >= b; }
ALWAYS lanes not_less(f32x16 a, f32x16 b) { return ~(a < b); }
ALWAYS lanes nans(f32x16 a) { return a != a; }
ALWAYS bool  any(lanes m) {
    uint64_t half[8];
    memcpy(half, &m, sizeof half);
    return ((half[0] | half[1]) | (half[2] | half[3])) | ((half[4] | half[5]) | (half[6] | half[7]));
}
ALWAYS f32x16  pick(lanes m, f32x16 a, f32x16 b) { return (f32x16)(((i32x16)a & m) | ((i32x16)b & ~m)); }
ALWAYS void    add_count(tally *t, lanes m) { *t -= m; }
ALWAYS int32_t total(tally t) {
    int32_t n = 0;
    for (int k = 0; k < 16; k++)
        n += t[k];
    return n;
}
ALWAYS f64x8 wide(f32x8 v) { return __builtin_convertvector(v, f64x8); }
ALWAYS f32x8 narrow(f64x8 v) { return __builtin_convertvector(v, f32x8); }
#endif

ALWAYS f32x16 all(float v) { return (f32x16){0} + v; }

/* z[i..i + 16), what lies past n filled with `fill`; and the same stored. */
ALWAYS f32x16 load(const float *z, int32_t i, int32_t n, float fill) {
    if (n - i >= 16)
        return LOAD(z + i);
    f32x16 v = all(fill);
    memcpy(&v, z + i, (size_t)(n - i) * sizeof *z);
    return v;
}

ALWAYS void store(float *z, int32_t i, int32_t n, f32x16 v) {
    if (n - i >= 16)
        *(f32x16 *)(z + i) = v;
    else
        memcpy(z + i, &v, (size_t)(n - i) * sizeof *z);
}

/* ---- sums in float64: lanes 0 to 7 and 8 to 15 have one of eight each ----------------------------------------------- */

typedef struct sums {
    f64x8 half[2];
} sums;

ALWAYS void add(sums *s, f32x16 v) {
    halves h = {v};
    s->half[0] += wide(h.half[0]);
    s->half[1] += wide(h.half[1]);
}

ALWAYS double sum_of(const sums *s) {
    const f64x8 v = s->half[0] + s->half[1];
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* ---- the loops --------------------------------------------------------------------------------------------------- */

static float max_of(const float *z, int32_t n, bool *nan) {
    f32x16 most = all(-INFINITY);
    lanes  bad = nans(most);
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 v = load(z, i, n, -INFINITY);
        bad |= nans(v);
        most = pick(less(most, v), v, most);
    }
    float max = -INFINITY;
    for (int k = 0; k < 16; k++)
        max = most[k] > max ? most[k] : max;
    *nan = any(bad);
    return max;
}

ALWAYS f32x16 exp_step(f32x16 x, sums *sum, sums *with_x, const bool dot) {
    f32x16 e = {0};
    if (any(not_less(x, all(-104)))) { /* most are gone after a cut: they add nothing */
        e = exp16_with(x, 1);
        add(sum, e);
        if (dot)
            add(with_x, pick(less(all(0), e), e * x, all(0)));
    }
    return e;
}

ALWAYS double exp_sum_as(const float *z, int32_t n, float shift, float *w, double *dot, const bool stored, const bool with_dot) {
    sums    sum = {0}, with_x = {0};
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f32x16 e = exp_step(LOAD(z + i) - shift, &sum, &with_x, with_dot);
        if (stored)
            *(f32x16 *)(w + i) = e;
    }
    if (i < n) {
        f32x16 e = exp_step(load(z, i, n, -INFINITY) - shift, &sum, &with_x, with_dot);
        if (stored)
            store(w, i, n, e);
    }
    if (with_dot)
        *dot = sum_of(&with_x);
    return sum_of(&sum);
}

static double exp_sum(const float *z, int32_t n, float shift, float *w, double *dot) {
    if (w)
        return dot ? exp_sum_as(z, n, shift, w, dot, true, true) : exp_sum_as(z, n, shift, w, dot, true, false);
    return dot ? exp_sum_as(z, n, shift, w, dot, false, true) : exp_sum_as(z, n, shift, w, dot, false, false);
}

static double entropy_eps(const float *logp, int32_t n, float eps) {
    sums sum = {0};
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 p = exp16_with(load(logp, i, n, -INFINITY), 1);
        add(&sum, p * log16(p + eps));
    }
    return -sum_of(&sum);
}

static double sum_row(const float *w, int32_t n) {
    sums sum = {0};
    for (int32_t i = 0; i < n; i += 16)
        add(&sum, load(w, i, n, 0));
    return sum_of(&sum);
}

static double sum_below(const float *key, const float *w, int32_t n, float bound, int32_t *count) {
    sums  sum = {0};
    tally found = {0};
    for (int32_t i = 0; i < n; i += 16) {
        lanes below = less(load(key, i, n, NAN), all(bound));
        add_count(&found, below);
        if (w && any(below))
            add(&sum, pick(below, load(w, i, n, 0), all(0)));
    }
    *count = total(found);
    return w ? sum_of(&sum) : *count;
}

static double deviation(const float *z, int32_t n, double mean, bool squared) {
    sums sum = {0};
    for (int32_t i = 0; i < n; i += 16) {
        halves h = {load(z, i, n, -INFINITY)};
        for (int k = 0; k < 2; k++) {
            f64x8 d = wide(h.half[k]) - mean;
            if (squared)
                d *= d;
            sum.half[k] += (f64x8)((i64x8)d & __builtin_convertvector(h.half[k] > -INFINITY, i64x8));
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
    for (int32_t i = 0; i < n; i += 16) {
        halves h = {load(z, i, n, -INFINITY)}, y;
        for (int k = 0; k < 2; k++) {
            f64x8 d = wide(h.half[k]) - max;
            y.half[k] = narrow(max - square * d * d + cube * d * d * d);
        }
        store(z, i, n, pick(less(all(-INFINITY), h.all), y.all, h.all));
    }
}

static void aim(const float *logp, int32_t n, float at, float *score) {
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 z = load(logp, i, n, -INFINITY), x = exp16_with(z, 1) - at;
        x = (f32x16)((i32x16)x & 0x7fffffff) / 0.3f;
        store(score, i, n, pick(less(all(-INFINITY), z), 5 - 10 * x * x / (1 + x), z));
    }
}

static void surprise_gap(const float *z, int32_t n, float log_sum, float entropy, float *gap) {
    for (int32_t i = 0; i < n; i++)
        gap[i] = fabsf(-(z[i] - log_sum) - entropy);
}

static void cut_below(float *z, const float *p, int32_t n, double bound) {
    for (int32_t i = 0; i < n; i++)
        z[i] = (double)p[i] < bound ? -INFINITY : z[i];
}

static void cut_above(float *z, const float *key, int32_t n, float bound) {
    for (int32_t i = 0; i < n; i++)
        z[i] = key[i] > bound ? -INFINITY : z[i];
}

static void cut_before(float *z, int32_t n, float score, int32_t id) {
    for (int32_t i = 0; i < n; i++)
        z[i] = (z[i] < score) | ((z[i] == score) & (i < id)) ? -INFINITY : z[i];
}

static int32_t count_finite(const float *z, int32_t n) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += z[i] > -INFINITY;
    return count;
}

static int32_t find(const float *z, int32_t n, float value) {
    int32_t i = 0;
    while (i + 16 <= n && !any(equal(LOAD(z + i), all(value))))
        i += 16;
    for (; i < n; i++)
        if (z[i] == value)
            return i;
    return 0;
}

static void group_max(const float *z, int32_t n, float *most) {
    for (int32_t i = 0; i < n; i += ROW_GROUP) {
        f32x16 m = all(-INFINITY);
        for (int32_t k = i; k < i + ROW_GROUP && k < n; k += 16) {
            f32x16 v = load(z, k, n, -INFINITY);
            m = pick(less(m, v), v, m);
        }
        float max = m[0];
        for (int k = 1; k < 16; k++)
            max = m[k] > max ? m[k] : max;
        most[i / ROW_GROUP] = max;
    }
}

/* id[found..) gets i + k for each lane k of m; returns how many there are now. */
ALWAYS int32_t add_lanes(lanes m, int32_t i, int32_t *id, int32_t found) {
#if defined(__AVX512F__)
    const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    _mm512_mask_compressstoreu_epi32(id + found, m, (__m512i)(lane + i));
    return found + __builtin_popcount(m);
#else
    for (int k = 0; k < 16; k++)
        if (m[k])
            id[found++] = i + k;
    return found;
#endif
}

static int32_t between(const float *z, int32_t n, float low, float high, int32_t *id) {
    int32_t found = 0;
    for (int32_t i = 0; i < n; i += 16) {
        f32x16 v = load(z, i, n, NAN);
        lanes  in = at_least(v, all(low)) & less(v, all(high));
        if (any(in))
            found = add_lanes(in, i, id, found);
    }
    return found;
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

const row_loops ROWS = {.max = max_of,         .exp_sum = exp_sum,     .entropy_eps = entropy_eps,   .sum = sum_row,           .sum_below = sum_below,
                        .deviation = deviation, .sub = sub,             .divide = divide,             .smooth = smooth,         .aim = aim,
                        .surprise_gap = surprise_gap, .cut_below = cut_below, .cut_above = cut_above, .cut_before = cut_before, .count_finite = count_finite,
                        .find = find,           .group_max = group_max, .between = between,           .dot = dot};
