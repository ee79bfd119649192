/* What all kernels share: the order of launches, and sums over a warp and a block. */
#ifndef JPT_CUDA_DEVICE_CUH
#define JPT_CUDA_DEVICE_CUH

#include <stdint.h>

#include "kernels.h"

#define WARP 32
#define FULL 0xffffffffu

/* Kernels may start before their predecessor ends (programmatic dependent launch): before this they touch nothing it writes. */
__device__ static inline void after_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ static inline void let_successor_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ static inline float warp_sum(float v) {
    for (int o = WARP / 2; o > 0; o /= 2)
        v += __shfl_xor_sync(FULL, v, o);
    return v;
}
__device__ static inline float warp_max(float v) {
    for (int o = WARP / 2; o > 0; o /= 2)
        v = fmaxf(v, __shfl_xor_sync(FULL, v, o));
    return v;
}

/* Scores order as unsigned integers; 0 is below all of them. */
__device__ static inline unsigned sortable(float z) {
    unsigned u = __float_as_uint(z);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The host, which watches, may read what this thread wrote before. */
__device__ static inline void hand_over(unsigned *ready, unsigned call) {
    __threadfence_system();
    *(volatile unsigned *)ready = call;
}

/* A score after an edit of its id. */
__device__ static inline float edited(float z, const edit &d) {
    switch (d.op) {
    case E_ADD: return z + d.value;
    case E_PENALTY: return z < 0 ? z * d.value : z / d.value;
    case E_GROW: return z == -INFINITY ? z : fminf(1e30f, __fadd_rn(z, __fmul_rn(fabsf(z), d.value)));
    case E_SET: return d.value;
    default: return -INFINITY;
    }
}

/* ---- rows of scores in parts: one block of ROW_THREADS a part of ROW_PART values, ROW_EACH a thread -------------------- */

typedef struct part_room {
    float most[ROW_THREADS / WARP], sum[ROW_THREADS / WARP];
} part_room;

/* This block's values of a row, -inf past its end: value e of a thread is number part * ROW_PART + threadIdx.x + e * ROW_THREADS. */
__device__ static inline void load_part(const float *z, int V, float (&x)[ROW_EACH]) {
    int from = blockIdx.x * ROW_PART + threadIdx.x;
#pragma unroll
    for (int e = 0; e < ROW_EACH; e++)
        x[e] = from + e * ROW_THREADS < V ? z[from + e * ROW_THREADS] : -INFINITY;
}

/* The largest value of the block's part and the sum of exp(x - it), in every thread. */
__device__ static inline row_part sum_part(part_room &s, const float (&x)[ROW_EACH]) {
    int   warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, bad = 0;
    float most = -INFINITY, sum = 0;
#pragma unroll
    for (int e = 0; e < ROW_EACH; e++) {
        bad |= x[e] != x[e];
        most = fmaxf(most, x[e]);
    }
    most = warp_max(most);
    if (lane == 0)
        s.most[warp] = most;
    bad = __syncthreads_or(bad);
    most = s.most[0];
    for (int w = 1; w < ROW_THREADS / WARP; w++)
        most = fmaxf(most, s.most[w]);
#pragma unroll
    for (int e = 0; e < ROW_EACH; e++)
        sum += x[e] > -INFINITY ? expf(x[e] - most) : 0.0f;
    sum = warp_sum(sum);
    if (lane == 0)
        s.sum[warp] = sum;
    __syncthreads();
    sum = s.sum[0];
    for (int w = 1; w < ROW_THREADS / WARP; w++)
        sum += s.sum[w];
    return {most, sum, bad};
}

/* A row's largest value and ln of its sum of exp(z - it) from its parts, by each warp for itself.  false: a NaN, or nothing finite
 * (*finite: at least no NaN). */
__device__ static inline bool merge_parts(const row_part *part, int n, float *most, float *log_sum, bool *no_nan) {
    int    lane = threadIdx.x % WARP, bad = 0;
    float  m = -INFINITY;
    double sum = 0;
    for (int i = lane; i < n; i += WARP) {
        bad |= __ldcg(&part[i].bad);
        m = fmaxf(m, __ldcg(&part[i].most));
    }
    m = warp_max(m);
    bad = __any_sync(FULL, bad);
    for (int i = lane; i < n; i += WARP) {
        float own = __ldcg(&part[i].most);
        sum += own > -INFINITY ? exp((double)own - (double)m) * (double)__ldcg(&part[i].sum) : 0.0;
    }
    for (int o = WARP / 2; o > 0; o /= 2)
        sum += __shfl_xor_sync(FULL, sum, o);
    *most = m;
    *log_sum = (float)log(sum);
    *no_nan = !bad;
    return !bad && m > -INFINITY && m < INFINITY;
}

#endif
