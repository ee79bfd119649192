/* Loops over a row of scores that selection spends its time in.  Compiled for plain x86-64 (or any machine), AVX2 and
 * AVX-512 and picked at run time; no multiply-add is fused and every sum has a fixed order, so that all of them give the
 * same bits: a text must not depend on the processor that chose its tokens. */
#ifndef JPT_REF_ROWS_H
#define JPT_REF_ROWS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct row_loops {
    /* Largest of z[0..n); -INFINITY when n = 0.  *nan: is there a NaN? */
    float (*max)(const float *z, int32_t n, bool *nan);
    /* w[i] = exp(z[i] - shift) in float32 (2 ulp; 0 below -104), w == NULL: not stored, w == z is fine.  Returns the sum in
     * float64; *dot (NULL: not wanted) gets the sum of w[i] (z[i] - shift), 0 where w[i] is. */
    double (*exp_sum)(const float *z, int32_t n, float shift, float *w, double *dot);
    /* - sum of p ln(p + eps), p = exp(logp[i]) */
    double (*entropy_eps)(const float *logp, int32_t n, float eps);
    double (*sum)(const float *w, int32_t n);
    /* sum of (z[i] - mean)^2 over z[i] > -INFINITY, or of z[i] - mean itself */
    double (*deviation)(const float *z, int32_t n, double mean, bool squared);
    /* out[i] = (z[i] - a) - b; out == z is fine */
    void (*sub)(const float *z, int32_t n, float a, float b, float *out);
    void (*divide)(float *z, int32_t n, float by);
    /* z[i] = max - square d^2 + cube d^3, d = z[i] - max, in float64; -INFINITY stays */
    void (*smooth)(float *z, int32_t n, double max, double square, double cube);
    /* z[i] = -INFINITY where p[i] < bound (as float64), p == z is fine */
    void (*cut_below)(float *z, const float *p, int32_t n, double bound);
    /* z[i] > -INFINITY */
    int32_t (*count_finite)(const float *z, int32_t n);
    /* index of the first largest, n >= 1 */
    int32_t (*argmax)(const float *z, int32_t n);
    /* most[g] = max of z[64 g .. 64 g + 63], n rounded up to whole groups */
    void (*group_max)(const float *z, int32_t n, float *most);
    /* id[0..) = ascending i with z[i] >= bound, at most cap; returns how many there are */
    int32_t (*at_least)(const float *z, int32_t n, float bound, int32_t *id, int32_t cap);
    /* bin[i] = floor((key[i] - low) * step) clamped to 0 .. most */
    void (*bins)(const float *key, int32_t n, float low, float step, int32_t most, int32_t *bin);
    float (*dot)(const float *a, const float *b, int32_t n);
} row_loops;

enum { ROW_GROUP = 64 };

const row_loops *rows(void); /* of this processor */

static inline float largest(const float *z, int32_t n) {
    bool nan;
    return rows()->max(z, n, &nan);
}

extern const row_loops row_loops_base;
#if defined(__x86_64__)
extern const row_loops row_loops_v3, row_loops_v4;
#endif

#endif
