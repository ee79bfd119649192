/* The CPU back-end's inner loops, once for each instruction set (kernels_scalar.c, kernels_avx2.c,
 * kernels_avx512.c compile kernels_body.h with their own flags); cpu.c picks a table at run time. */
#ifndef JPT_CPU_KERNELS_H
#define JPT_CPU_KERNELS_H

#include <jpt/tensor.h>

typedef struct cpu_kernels {
    const char *isa;
    /* n weights of a row, n a multiple of the block. */
    void (*to_f32)(jpt_dtype dtype, const uint8_t *src, float *dst, int32_t n);
    /* out[j] = row . x[j], j < n_x.  Each output is summed in the same order whatever n_x is. */
    void (*dot_f32)(const float *row, int32_t cols, const float *const *x, int32_t n_x, float *out);
    void (*rmsnorm)(const float *x, const float *gain, int32_t n, float eps, float *y);
    void (*swiglu)(const float *gate, const float *up, size_t n, float *y);
    /* One query head over n positions: score[n] is scratch, slots[p] the element offset of position p. */
    void (*attend)(const float *q, int32_t head_dim, float scale, jpt_dtype kv_dtype, const void *k, const void *v, const size_t *slots,
                   int32_t n, float *score, float *y);
} cpu_kernels;

extern const cpu_kernels cpu_kernels_scalar;
#if defined(__x86_64__)
extern const cpu_kernels cpu_kernels_avx2, cpu_kernels_avx512;
#endif

#endif
