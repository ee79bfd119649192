/* Rows of numbers: reading and widening them, writing them in the forms that products take, rotating them, and where the cache keeps them. */
#ifndef JPT_CUDA_ROWS_CUH
#define JPT_CUDA_ROWS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "device.cuh"

__device__ static inline uint4 load16(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

__device__ static inline void widen(uint4 v, const __nv_bfloat16 *, float f[8]) {
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        f[2 * i] = __uint_as_float(u[i] << 16);
        f[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
}
__device__ static inline void widen(uint4 v, const __half *, float f[8]) {
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        float2 t = __half22float2(*(const __half2 *)&u[i]);
        f[2 * i] = t.x;
        f[2 * i + 1] = t.y;
    }
}
__device__ static inline void widen(uint4 v, const float *, float f[4]) {
    f[0] = __uint_as_float(v.x), f[1] = __uint_as_float(v.y), f[2] = __uint_as_float(v.z), f[3] = __uint_as_float(v.w);
}

__device__ static inline float2 halves(uint32_t u) { return __half22float2(*(const __half2 *)&u); }

/* The second and fourth of four FP8 (e4m3) codes as float16, 256 times too small: the exponents' ranges differ, the layout does not. */
__device__ static inline uint32_t f8_pair(uint32_t codes) { return (codes & 0x80008000u) | (codes & 0x7f007f00u) >> 1; }

/* To float16; what is beyond its range (silu(gate) up of some models) becomes its largest value, NaN stays. */
__device__ static inline __half to_half(float v) { return __float2half_rn(v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v); }

__device__ static inline void store_to(float *y, float v) { *y = v; }
__device__ static inline void store_to(__half *y, float v) { *y = to_half(v); }
__device__ static inline void store_to(__nv_bfloat16 *y, float v) { *y = __float2bfloat16_rn(v); }

/* to: 0 float32, 1 float16, 2 bfloat16. */
__device__ static inline void store_as(void *y, size_t i, float v, int to) {
    if (to == 0)
        ((float *)y)[i] = v;
    else if (to == 1)
        ((__half *)y)[i] = to_half(v);
    else
        ((__nv_bfloat16 *)y)[i] = __float2bfloat16_rn(v);
}

/* Activations to eight bits in groups of 32: x = xs q; xt = xs times the sum of q; scales by groups, `pad` rows each.  A group's
 * bytes lie as an mma wants them: columns 4t .. + 3 and 16 + 4t .. + 3 side by side.  A warp brings a group, its lanes in order. */
__device__ static inline void quantize_group(float v, int row, int group, int cols, int pad, int8_t *q, float *xs, float *xt) {
    int   lane = threadIdx.x % WARP;
    float most = warp_max(fabsf(v)), scale = most / 127.0f;
    int   k = scale > 0 ? __float2int_rn(v / scale) : 0, total = k;
    q[(size_t)row * cols + group * 32 + lane % 16 / 4 * 8 + lane / 16 * 4 + lane % 4] = (int8_t)k;
    for (int o = WARP / 2; o > 0; o /= 2)
        total += __shfl_xor_sync(FULL, total, o);
    if (lane == 0) {
        xs[(size_t)group * pad + row] = scale;
        xt[(size_t)group * pad + row] = scale * (float)total;
    }
}

/* Rotation by an angle whose cosine and sine are given: the same bits wherever it stands. */
__device__ static inline float2 turn(float angle) {
    float2 t;
    sincosf(angle, &t.y, &t.x);
    return t;
}
__device__ static inline void rotate(float p, float q, float2 t, float *a, float *b) {
    *a = __fmaf_rn(p, t.x, -__fmul_rn(q, t.y));
    *b = __fmaf_rn(p, t.y, __fmul_rn(q, t.x));
}

/* Where the cache keeps a position, in elements. */
__device__ static inline size_t slot_of(const dev_kv &kv, int layer, const int *table, int pos) {
    size_t page = table[pos / kv.page_size];
    return (((size_t)layer * kv.n_pages + page) * kv.page_size + pos % kv.page_size) * kv.width;
}

#endif
