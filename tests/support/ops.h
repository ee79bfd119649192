/* What tests of a back-end's operations share: random inputs, memory of the back-end, errors against a reference. */
#ifndef JPT_TEST_OPS_H
#define JPT_TEST_OPS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/backend.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state = 7;

static inline float uniform(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static inline float *random_floats(size_t n) {
    float *p = malloc((n ? n : 1) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = uniform();
    return p;
}

static inline double error2(const float *want, const float *got, size_t n, double scale) {
    double d = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        d += ((double)want[i] - (double)got[i]) * ((double)want[i] - (double)got[i]);
    }
    return scale > 0 ? d / scale : d;
}

static inline double nmse(const float *want, const float *got, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)want[i] * (double)want[i];
    return error2(want, got, n, s);
}

/* Host floats on the card, and back; poison shows what was not written. */
static inline float *put(jpt_backend *be, const float *x, size_t n) {
    float *d = be->ops->alloc(be, (n ? n : 1) * sizeof *d);
    assert_non_null(d);
    if (x)
        be->ops->upload(be, d, x, n * sizeof *d);
    return d;
}
static inline float *poisoned(jpt_backend *be, size_t n) {
    float *x = malloc((n ? n : 1) * sizeof *x), *d;
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
    d = put(be, x, n);
    free(x);
    return d;
}
static inline float *get(jpt_backend *be, float *d, size_t n) {
    float *x = malloc((n ? n : 1) * sizeof *x);
    be->ops->download(be, x, d, n * sizeof *x);
    return x;
}

static inline uint8_t *random_weight(jpt_dtype t, int32_t rows, int32_t cols) {
    size_t bytes;
    assert_true(jpt_dtype_row_bytes(t, (uint64_t)cols, &bytes));
    uint8_t *data = malloc(bytes * (size_t)rows);
    float   *row = malloc((size_t)cols * sizeof *row);
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t j = 0; j < cols; j++)
            row[j] = uniform();
        jpt_quantize_row(t, row, data + (size_t)r * bytes, (size_t)cols);
    }
    free(row);
    return data;
}

/* The sum of the squares of all products that x w^T adds up: what its errors are measured by. */
static inline double energy(jpt_dtype t, int32_t rows, int32_t cols, const uint8_t *w, const float *x, int32_t n) {
    size_t  bytes;
    double  sum = 0, *of_x = calloc((size_t)cols, sizeof *of_x);
    float  *row = malloc((size_t)cols * sizeof *row);
    assert_true(of_x && row && jpt_dtype_row_bytes(t, (uint64_t)cols, &bytes));
    for (size_t i = 0; i < (size_t)n * (size_t)cols; i++)
        of_x[i % (size_t)cols] += (double)x[i] * (double)x[i];
    for (int32_t r = 0; r < rows; r++) {
        jpt_dequantize_row(t, w + (size_t)r * bytes, row, (size_t)cols);
        for (int32_t k = 0; k < cols; k++)
            sum += (double)row[k] * (double)row[k] * of_x[k];
    }
    free(row), free(of_x);
    return sum;
}

static inline void matmul_on(jpt_backend *be, jpt_dtype t, int32_t rows, int32_t cols, const void *data, const float *x, int32_t n, const float *bias, float *y) {
    jpt_weight *w = NULL;
    jpt_error   err = {0};
    if (be->ops->weight_new(be, t, rows, cols, data, &w, NULL, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    float *dx = put(be, x, (size_t)n * (size_t)cols), *db = bias ? put(be, bias, (size_t)rows) : NULL, *dy = poisoned(be, (size_t)n * (size_t)rows);
    be->ops->matmul(be, w, dx, n, db, dy);
    be->ops->download(be, y, dy, (size_t)n * (size_t)rows * sizeof *y);
    be->ops->free(be, dx), be->ops->free(be, db), be->ops->free(be, dy);
    be->ops->weight_free(be, w);
}

#endif
