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
    /* of w[i] where key[i] < bound, and *count of these i; w == NULL: the count itself */
    double (*sum_below)(const float *key, const float *w, int32_t n, float bound, int32_t *count);
    /* sum of (z[i] - mean)^2 over z[i] > -INFINITY, or of z[i] - mean itself */
    double (*deviation)(const float *z, int32_t n, double mean, bool squared);
    /* out[i] = (z[i] - a) - b; out == z is fine */
    void (*sub)(const float *z, int32_t n, float a, float b, float *out);
    void (*divide)(float *z, int32_t n, float by);
    /* z[i] = max - square d^2 + cube d^3, d = z[i] - max, in float64; -INFINITY stays */
    void (*smooth)(float *z, int32_t n, double max, double square, double cube);
    /* score[i] = 5 - 10 x^2 / (1 + x), x = |exp(logp[i]) - at| / 0.3; -INFINITY stays */
    void (*aim)(const float *logp, int32_t n, float at, float *score);
    /* gap[i] = |-(z[i] - log_sum) - entropy|: how far a token's surprise is from the mean one */
    void (*surprise_gap)(const float *z, int32_t n, float log_sum, float entropy, float *gap);
    /* z[i] = -INFINITY where p[i] < bound (as float64), p == z is fine */
    void (*cut_below)(float *z, const float *p, int32_t n, double bound);
    /* and where key[i] > bound */
    void (*cut_above)(float *z, const float *key, int32_t n, float bound);
    /* and where z[i] < score, or z[i] == score and i < id */
    void (*cut_before)(float *z, int32_t n, float score, int32_t id);
    /* z[i] > -INFINITY */
    int32_t (*count_finite)(const float *z, int32_t n);
    /* first i with z[i] == value; 0 when there is none */
    int32_t (*find)(const float *z, int32_t n, float value);
    /* most[g] = max of z[64 g .. 64 g + 63], n rounded up to whole groups */
    void (*group_max)(const float *z, int32_t n, float *most);
    /* id[0..) = ascending i with low <= z[i] < high; returns how many */
    int32_t (*between)(const float *z, int32_t n, float low, float high, int32_t *id);
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
