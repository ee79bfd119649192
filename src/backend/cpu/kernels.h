/* The CPU back-end's inner loops, once for each instruction set (kernels_scalar.c, kernels_avx2.c,
 * kernels_avx512.c compile kernels_body.h with their own flags); cpu.c picks a table at run time. */
#ifndef JPT_CPU_KERNELS_H
#define JPT_CPU_KERNELS_H

#include <jpt/tensor.h>

/* Activations of one row quantised to 8 bits in blocks of 32: x ~ d * q, |q| <= 127.  s holds d * sum(q)
 * of each half block, for formats with a minimum or an offset. */
typedef struct act_row {
    const int8_t *q;
    const float  *d; /* [cols / 32] */
    const float  *s; /* [cols / 32][2] */
} act_row;

typedef struct cpu_kernels {
    const char *isa;
    void (*quantize_act)(const float *x, int32_t n, int8_t *q, float *d, float *s);
    /* out[j] = row . act[j], j < n_act.  Each output is summed in the same order whatever n_act is. */
    void (*dot_quant)(jpt_dtype dtype, const uint8_t *row, int32_t cols, const act_row *act, int32_t n_act, float *out);
    void (*dot_f32)(const float *row, int32_t cols, const float *const *x, int32_t n_x, float *out);
    void (*to_f32)(jpt_dtype dtype, const uint8_t *src, float *dst, int32_t n); /* F16, BF16 */
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

/* Formats that dot_quant takes. */
static inline bool cpu_dtype_direct(jpt_dtype t) { return t != JPT_F32 && t != JPT_F16 && t != JPT_BF16; }

#endif
