/* The CPU back-end's inner loops, once for each instruction set (kernels_scalar.c, kernels_avx2.c,
 * kernels_avx512.c compile kernels_body.h with their own flags); cpu.c picks a table at run time. */
#ifndef JPT_CPU_KERNELS_H
#define JPT_CPU_KERNELS_H

#include <jpt/tensor.h>

enum { ACT_TILE = 64, ACT_ROWS = 8, DOT_ROWS = 4 }; /* rows of activations that stay near while weights pass over them; and that a kernel takes at once; rows of float weights too */

/* Activations rounded to 8 bits in blocks of 32: x = d * q, |q| <= 127.  ACT_ROWS rows at a time (the last ones may be fewer) lie
 * together, their first blocks, then their second ones, ...: what a block of weights meets is one piece of memory. */
typedef struct cpu_act_block {
    float   d, sum;    /* sum = d * (q added up) */
    int32_t offset[2]; /* minus the weights' offset times the q added up: of all in [0], or of each half of the block */
} cpu_act_block;
typedef struct cpu_acts {
    int8_t        *q;     /* [n, cols / 32, 32] in the order said */
    cpu_act_block *block; /* [n, cols / 32] so too */
    int32_t        cols, n;
    /* What rounding left of blocks with outliers, rounded in its turn: bit i of fine[k * cols / 32 + b] says that row
     * ACT_TILE * k + i has it of block b. */
    uint64_t      *fine;
    int8_t        *fine_q;     /* as q */
    cpu_act_block *fine_block; /* as block */
} cpu_acts;

/* Where block b of a row is. */
static inline size_t act_block_at(const cpu_acts *a, int32_t row, int32_t b) {
    int32_t first = row & ~(ACT_ROWS - 1), together = a->n - first < ACT_ROWS ? a->n - first : ACT_ROWS;
    return (size_t)first * (size_t)(a->cols / 32) + (size_t)b * (size_t)together + (size_t)(row - first);
}

/* Keys and values of a kv head, and room for a block of them in float32. */
typedef struct cpu_kv {
    jpt_dtype   dtype; /* F16 or F32 */
    const void *k, *v;           /* of slot 0 */
    size_t      step;            /* elements from a slot to the next */
    int32_t     head_dim, width; /* width: head_dim rounded up to 16 */
    float      *block;           /* [16, width], zeros beyond head_dim */
} cpu_kv;
typedef struct cpu_query {
    float  *q;     /* [width], zeros beyond head_dim */
    float  *acc;   /* [width]: weighted values, zeroed by the caller */
    float  *score; /* [n + 16] */
    float  *y;     /* [head_dim]: where the result goes */
    float   sum;   /* of the weights */
    int32_t n;     /* positions it sees */
} cpu_query;

typedef struct cpu_kernels {
    const char *isa;
    /* n weights of a row, n a multiple of the block. */
    void (*to_f32)(jpt_dtype dtype, const uint8_t *src, float *dst, int32_t n);
    /* out[4 j + r] = row[r] . x[j], r < DOT_ROWS, j < n_x <= ACT_TILE.  Each output is summed in the same order whatever n_x is.
     * dtype: F32, or where `halves` F16 and BF16 too, cols a multiple of 16. */
    void (*dot)(jpt_dtype dtype, const uint8_t *const *row, int32_t cols, const float *const *x, int32_t n_x, float *out);
    bool halves;
    void (*rmsnorm)(const float *x, const float *gain, int32_t n, float eps, float *y);
    void (*swiglu)(const float *gate, const float *up, size_t n, float *y);
    /* Attention over positions [from, to) of one kv head, blocks of 16 at a time, each block read once for all queries.
     * Results of a query do not depend on its neighbours, nor on where a range is cut.  slots[p]: where position p is. */
    void (*attend_scores)(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, float scale, const cpu_query *query, int32_t n);
    void (*attend_softmax)(cpu_query *query, int32_t n);
    void (*attend_values)(const cpu_kv *kv, const size_t *slots, int32_t from, int32_t to, const cpu_query *query, int32_t n);
    void (*to_f16)(const float *x, size_t n, jpt_half *y); /* round to nearest even */
    /* Row `row` of the activations, `fine` being zero before; not finite ones make the block's d NAN.  Rows may be done at once. */
    void (*quantize)(const float *x, int32_t offset, bool halves, cpu_acts *a, int32_t row);
    /* out[i, 0..16) = panel (pack.h) times activation row first + i, i < n <= ACT_TILE, first a multiple of it: the same
     * bits whatever n is. */
    void (*panel_dot)(jpt_dtype dtype, const uint8_t *panel, const cpu_acts *x, int32_t first, int32_t n, float *out);
} cpu_kernels;

extern const cpu_kernels cpu_kernels_scalar;
#if defined(__x86_64__)
extern const cpu_kernels cpu_kernels_avx2, cpu_kernels_avx512;
#endif

#endif
