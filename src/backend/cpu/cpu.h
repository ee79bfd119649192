/* Inside the CPU back-end: what its files share. */
#ifndef JPT_CPU_H
#define JPT_CPU_H

#include "../host.h"
#include "kernels.h"
#include "pack.h"
#include <jpt/pool.h>

enum { CPU_ACT_SETS = 4 };

/* Rotations of the last rope: [n, half, 2], for positions pos[n] and frequencies inv_freq[half]. */
typedef struct cpu_angles {
    float   *cos_sin, *inv_freq;
    int32_t *pos;
    size_t   cap;
    int32_t  n, half, cap_n, cap_half;
} cpu_angles;

typedef struct cpu_backend {
    host_backend       host;
    const cpu_kernels *k;
    jpt_pool          *pool;
    struct slab       *slab; /* of packed weights, newest first */
    /* scratch, grown between calls and never shrunk */
    float *thread_f32;
    size_t thread_cap; /* floats a thread */
    cpu_acts acts[CPU_ACT_SETS];
    size_t   act_cap[CPU_ACT_SETS]; /* activations */
    cpu_angles angles;
} cpu_backend;

/* At least n floats a thread, 64-byte aligned.  Running out of a few MB in the middle of an operation is fatal. */
void cpu_thread_room(cpu_backend *c, size_t n);
static inline float *cpu_thread_scratch(const cpu_backend *c, int32_t thread) { return c->thread_f32 + (size_t)thread * c->thread_cap; }

/* Chunks of a job to the threads; or, where `work` (about as many multiply-adds) is less than waking them costs, one after the other. */
enum { ALONE = 40000 };
void cpu_share(cpu_backend *c, jpt_pool_fn fn, void *job, int32_t n_chunks, double work);

/* weights.c */
jpt_status cpu_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out, size_t *bytes_out,
                          jpt_error *err);
void       cpu_weight_free(jpt_backend *be, jpt_weight *w);

/* matmul.c */
void cpu_matmul(jpt_backend *be, const jpt_weight *w, const float *x, int32_t n, const float *bias, float *y);
void cpu_matmul_many(jpt_backend *be, const jpt_weight *const *w, int32_t n_w, const float *x, int32_t n, const float *const *bias, float *const *y);
void cpu_matmul_fini(cpu_backend *c);

/* attention.c */
void cpu_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs,
                   const float *q, float *y);

#endif
