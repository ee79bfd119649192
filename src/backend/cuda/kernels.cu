/* The CUDA back-end's kernels.  Shapes and meaning are those of jpt/backend.h.
 *
 * A row's result never depends on how many rows are in a launch: each (weight row, activation row) pair has its own
 * accumulators, fed in the same order whatever the tile.  Weights are read with 16-byte loads that stay out of L1; up to eight
 * activation rows share one reading.  Kernels may start before their predecessor ends (programmatic dependent launch): before
 * `after_predecessor` they touch nothing but weights. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include "kernels.h"

#define WARP 32
#define FULL 0xffffffffu

__device__ static void after_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ static void let_successor_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ static float warp_sum(float v) {
    for (int o = WARP / 2; o > 0; o /= 2)
        v += __shfl_xor_sync(FULL, v, o);
    return v;
}
__device__ static float warp_max(float v) {
    for (int o = WARP / 2; o > 0; o /= 2)
        v = fmaxf(v, __shfl_xor_sync(FULL, v, o));
    return v;
}

__device__ static uint4 load16(const void *p) {
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

/* ---- matmul -------------------------------------------------------------------------------------------------------- */

/* y (+)= x w^T: one warp a weight row (two with R = 2), all warps of a block side by side. */

__device__ static void widen(uint4 v, const __nv_bfloat16 *, float f[8]) {
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        f[2 * i] = __uint_as_float(u[i] << 16);
        f[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
}
__device__ static void widen(uint4 v, const __half *, float f[8]) {
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        float2 t = __half22float2(*(const __half2 *)&u[i]);
        f[2 * i] = t.x;
        f[2 * i + 1] = t.y;
    }
}
__device__ static void widen(uint4 v, const float *, float f[4]) {
    f[0] = __uint_as_float(v.x), f[1] = __uint_as_float(v.y), f[2] = __uint_as_float(v.z), f[3] = __uint_as_float(v.w);
}
__device__ static float one(const __nv_bfloat16 *p) { return __bfloat162float(*p); }
__device__ static float one(const __half *p) { return __half2float(*p); }
__device__ static float one(const float *p) { return *p; }

__device__ static void finish(const mm_job &j, const mm_part &p, int row, int i, float sum) {
    float *y = p.y + (size_t)i * p.w.rows + row;
    float  v = sum + (p.bias ? p.bias[row] : 0.0f);
    *y = j.accumulate ? *y + v : v;
}

template <typename T, int NX, int R> __device__ static void matmul_float(const mm_job &j) {
    constexpr int PER = 16 / sizeof(T), U = 4 / R > 1 ? 4 / R : 2;
    int           part = 0, block = blockIdx.x;
    while (part + 1 < j.n_parts && block >= j.part[part + 1].first_block)
        part++;
    const mm_part &p = j.part[part];
    int            lane = threadIdx.x % WARP, row0 = ((block - p.first_block) * (blockDim.x / WARP) + threadIdx.x / WARP) * R, cols = p.w.cols;
    const T       *w[R];
    for (int r = 0; r < R; r++)
        w[r] = (const T *)p.w.q + (size_t)min(row0 + r, p.w.rows - 1) * cols;
    float acc[R][NX] = {};
    int   i0 = blockIdx.y * NX;
    if (cols % PER == 0) {
        uint4 v[U][R];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int r = 0; r < R; r++) {
                int k = (u * WARP + lane) * PER;
                if (k < cols)
                    v[u][r] = load16(w[r] + k);
            }
        after_predecessor();
        for (int k0 = lane * PER; k0 < cols; k0 += U * WARP * PER) {
            uint4 now[U][R];
#pragma unroll
            for (int u = 0; u < U; u++)
#pragma unroll
                for (int r = 0; r < R; r++) {
                    int k = k0 + (U + u) * WARP * PER;
                    now[u][r] = v[u][r];
                    if (k < cols)
                        v[u][r] = load16(w[r] + k);
                }
#pragma unroll
            for (int u = 0; u < U; u++) {
                int k = k0 + u * WARP * PER;
                if (k >= cols)
                    break;
                float f[R][PER];
#pragma unroll
                for (int r = 0; r < R; r++)
                    widen(now[u][r], (const T *)nullptr, f[r]);
#pragma unroll
                for (int i = 0; i < NX; i++) {
                    if (i0 + i >= j.n)
                        break;
                    const float *x = j.x + (size_t)(i0 + i) * cols + k;
#pragma unroll
                    for (int e = 0; e < PER; e += 4) {
                        float4 t = *(const float4 *)(x + e);
#pragma unroll
                        for (int r = 0; r < R; r++) {
                            acc[r][i] = fmaf(f[r][e], t.x, acc[r][i]);
                            acc[r][i] = fmaf(f[r][e + 1], t.y, acc[r][i]);
                            acc[r][i] = fmaf(f[r][e + 2], t.z, acc[r][i]);
                            acc[r][i] = fmaf(f[r][e + 3], t.w, acc[r][i]);
                        }
                    }
                }
            }
        }
    } else {
        after_predecessor();
        for (int k = lane; k < cols; k += WARP)
            for (int r = 0; r < R; r++)
                for (int i = 0; i < NX && i0 + i < j.n; i++)
                    acc[r][i] = fmaf(one(w[r] + k), j.x[(size_t)(i0 + i) * cols + k], acc[r][i]);
    }
    let_successor_start();
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < NX; i++) {
            float s = warp_sum(acc[r][i]);
            if (lane == 0 && row0 + r < p.w.rows && i0 + i < j.n)
                finish(j, p, row0 + r, i0 + i, s);
        }
}

/* Eight-bit weights, eight-bit activations: sums of products are exact, a group's scales are applied to them. */
template <int NX, int R> __device__ static void matmul_i8(const mm_job &j) {
    constexpr int U = 4 / R > 1 ? 4 / R : 2;
    int           part = 0, block = blockIdx.x;
    while (part + 1 < j.n_parts && block >= j.part[part + 1].first_block)
        part++;
    const mm_part &p = j.part[part];
    int            lane = threadIdx.x % WARP, row0 = ((block - p.first_block) * (blockDim.x / WARP) + threadIdx.x / WARP) * R, cols = p.w.cols, shift = p.w.group_shift;
    const int8_t  *w[R];
    const __half  *s[R], *m[R];
    int            groups = cols >> shift;
    for (int r = 0; r < R; r++) {
        size_t row = min(row0 + r, p.w.rows - 1);
        w[r] = (const int8_t *)p.w.q + row * cols;
        s[r] = (const __half *)p.w.s + row * groups;
        m[r] = p.w.m ? (const __half *)p.w.m + row * groups : nullptr;
    }
    float acc[R][NX] = {};
    int   i0 = blockIdx.y * NX;
    uint4 v[U][R];
#pragma unroll
    for (int u = 0; u < U; u++)
#pragma unroll
        for (int r = 0; r < R; r++)
            if ((u * WARP + lane) * 16 < cols)
                v[u][r] = load16(w[r] + (u * WARP + lane) * 16);
    after_predecessor();
    for (int k0 = lane * 16; k0 < cols; k0 += U * WARP * 16) {
        uint4 now[U][R];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int r = 0; r < R; r++) {
                int k = k0 + (U + u) * WARP * 16;
                now[u][r] = v[u][r];
                if (k < cols)
                    v[u][r] = load16(w[r] + k);
            }
#pragma unroll
        for (int u = 0; u < U; u++) {
            int k = k0 + u * WARP * 16;
            if (k >= cols)
                break;
            float scale[R], low[R];
#pragma unroll
            for (int r = 0; r < R; r++) {
                scale[r] = __half2float(s[r][k >> shift]);
                low[r] = m[r] ? __half2float(m[r][k >> shift]) : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < NX; i++) {
                if (i0 + i >= j.n)
                    break;
                uint4 x = *(const uint4 *)(j.xq + (size_t)(i0 + i) * cols + k);
                float xs = j.xs[(size_t)(i0 + i) * (cols / 32) + k / 32];
                int   total = 0;
                if (p.w.m) {
                    total = __dp4a(0x01010101, (int)x.x, total), total = __dp4a(0x01010101, (int)x.y, total);
                    total = __dp4a(0x01010101, (int)x.z, total), total = __dp4a(0x01010101, (int)x.w, total);
                }
#pragma unroll
                for (int r = 0; r < R; r++) {
                    int d = __dp4a((int)now[u][r].x, (int)x.x, 0);
                    d = __dp4a((int)now[u][r].y, (int)x.y, d);
                    d = __dp4a((int)now[u][r].z, (int)x.z, d);
                    d = __dp4a((int)now[u][r].w, (int)x.w, d);
                    acc[r][i] = fmaf(xs, fmaf(scale[r], (float)d, low[r] * (float)total), acc[r][i]);
                }
            }
        }
    }
    let_successor_start();
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < NX; i++) {
            float sum = warp_sum(acc[r][i]);
            if (lane == 0 && row0 + r < p.w.rows && i0 + i < j.n)
                finish(j, p, row0 + r, i0 + i, sum);
        }
}

/* Four-bit weights in groups of 32: low nibbles are weights 0..15 of the group, high ones 16..31; w = s q + m. */
template <int NX, int R> __device__ static void matmul_i4(const mm_job &j) {
    constexpr int U = 4 / R > 1 ? 4 / R : 2;
    int           part = 0, block = blockIdx.x;
    while (part + 1 < j.n_parts && block >= j.part[part + 1].first_block)
        part++;
    const mm_part &p = j.part[part];
    int            lane = threadIdx.x % WARP, row0 = ((block - p.first_block) * (blockDim.x / WARP) + threadIdx.x / WARP) * R, groups = p.w.cols / 32;
    const uint8_t *w[R];
    const __half2 *sm[R];
    for (int r = 0; r < R; r++) {
        size_t row = min(row0 + r, p.w.rows - 1);
        w[r] = (const uint8_t *)p.w.q + row * groups * 16;
        sm[r] = (const __half2 *)p.w.s + row * groups;
    }
    float   acc[R][NX] = {};
    int     i0 = blockIdx.y * NX;
    uint4   v[U][R];
    __half2 vs[U][R];
#pragma unroll
    for (int u = 0; u < U; u++)
#pragma unroll
        for (int r = 0; r < R; r++)
            if (u * WARP + lane < groups) {
                v[u][r] = load16(w[r] + (u * WARP + lane) * 16);
                vs[u][r] = __ldg(sm[r] + u * WARP + lane);
            }
    after_predecessor();
    for (int g0 = lane; g0 < groups; g0 += U * WARP) {
        uint4   now[U][R];
        __half2 scales[U][R];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int r = 0; r < R; r++) {
                int g = g0 + (U + u) * WARP;
                now[u][r] = v[u][r];
                scales[u][r] = vs[u][r];
                if (g < groups) {
                    v[u][r] = load16(w[r] + g * 16);
                    vs[u][r] = __ldg(sm[r] + g);
                }
            }
#pragma unroll
        for (int u = 0; u < U; u++) {
            int g = g0 + u * WARP;
            if (g >= groups)
                break;
#pragma unroll
            for (int i = 0; i < NX; i++) {
                if (i0 + i >= j.n)
                    break;
                const uint4 *x = (const uint4 *)(j.xq + (size_t)(i0 + i) * p.w.cols + g * 32);
                uint4        lo = x[0], hi = x[1];
                float        xs = j.xs[(size_t)(i0 + i) * groups + g], total = j.xt[(size_t)(i0 + i) * groups + g];
#pragma unroll
                for (int r = 0; r < R; r++) {
                    const uint4 q = now[u][r];
                    float2      t = __half22float2(scales[u][r]);
                    int         d = __dp4a((int)(q.x & 0x0f0f0f0f), (int)lo.x, 0);
                    d = __dp4a((int)(q.y & 0x0f0f0f0f), (int)lo.y, d);
                    d = __dp4a((int)(q.z & 0x0f0f0f0f), (int)lo.z, d);
                    d = __dp4a((int)(q.w & 0x0f0f0f0f), (int)lo.w, d);
                    d = __dp4a((int)((q.x >> 4) & 0x0f0f0f0f), (int)hi.x, d);
                    d = __dp4a((int)((q.y >> 4) & 0x0f0f0f0f), (int)hi.y, d);
                    d = __dp4a((int)((q.z >> 4) & 0x0f0f0f0f), (int)hi.z, d);
                    d = __dp4a((int)((q.w >> 4) & 0x0f0f0f0f), (int)hi.w, d);
                    acc[r][i] = fmaf(t.x * xs, (float)d, fmaf(t.y, total, acc[r][i]));
                }
            }
        }
    }
    let_successor_start();
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < NX; i++) {
            float sum = warp_sum(acc[r][i]);
            if (lane == 0 && row0 + r < p.w.rows && i0 + i < j.n)
                finish(j, p, row0 + r, i0 + i, sum);
        }
}

#define MATMUL(kind, body)                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_1_1(const __grid_constant__ mm_job j) { body(1, 1); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_2_1(const __grid_constant__ mm_job j) { body(2, 1); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_4_1(const __grid_constant__ mm_job j) { body(4, 1); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_8_1(const __grid_constant__ mm_job j) { body(8, 1); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_1_2(const __grid_constant__ mm_job j) { body(1, 2); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_2_2(const __grid_constant__ mm_job j) { body(2, 2); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_4_2(const __grid_constant__ mm_job j) { body(4, 2); }                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_8_2(const __grid_constant__ mm_job j) { body(8, 2); }
#define BODY_F32(nx, r) matmul_float<float, nx, r>(j)
#define BODY_F16(nx, r) matmul_float<__half, nx, r>(j)
#define BODY_BF16(nx, r) matmul_float<__nv_bfloat16, nx, r>(j)
#define BODY_I8(nx, r) matmul_i8<nx, r>(j)
#define BODY_I4(nx, r) matmul_i4<nx, r>(j)
MATMUL(f32, BODY_F32)
MATMUL(f16, BODY_F16)
MATMUL(bf16, BODY_BF16)
MATMUL(i8, BODY_I8)
MATMUL(i4, BODY_I4)

/* Activations to eight bits in groups of 32: x = xs q; xt = xs times the sum of q.  One warp a group. */
extern "C" __global__ void quantize_rows(const float *x, int n_groups, int8_t *q, float *xs, float *xt) {
    after_predecessor();
    let_successor_start();
    int g = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (g >= n_groups)
        return;
    float v = x[(size_t)g * 32 + lane], most = warp_max(fabsf(v)), scale = most / 127.0f;
    int   k = scale > 0 ? __float2int_rn(v / scale) : 0;
    q[(size_t)g * 32 + lane] = (int8_t)k;
    int total = k;
    for (int o = WARP / 2; o > 0; o /= 2)
        total += __shfl_xor_sync(FULL, total, o);
    if (lane == 0) {
        xs[g] = scale;
        xt[g] = scale * (float)total;
    }
}

/* ---- weights at load ------------------------------------------------------------------------------------------------- */

__device__ static float half_at(const uint8_t *p) { return __half2float(__ushort_as_half((unsigned short)(p[0] | p[1] << 8))); }

/* The 6-bit scale and minimum of sub-block i of a Q4_K or Q5_K block. */
__device__ static void scale_min(const uint8_t *q, int i, float *s, float *m) {
    if (i < 4) {
        *s = (float)(q[i] & 63), *m = (float)(q[i + 4] & 63);
    } else {
        *s = (float)((q[i + 4] & 15) | (q[i - 4] >> 6 << 4)), *m = (float)((q[i + 4] >> 4) | (q[i] >> 6 << 4));
    }
}

/* Blocks of a file to planes: one thread a group of 32 weights. */
extern "C" __global__ void repack(const uint8_t *raw, int dtype, size_t n_groups, uint8_t *q, __half *s, __half *m) {
    size_t g = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= n_groups)
        return;
    uint8_t *out4 = q + g * 16;
    int8_t  *out8 = (int8_t *)q + g * 32;
    switch (dtype) {
    case T_Q4_0: {
        const uint8_t *b = raw + g * 18;
        float          d = half_at(b);
        for (int i = 0; i < 16; i++)
            out4[i] = b[2 + i];
        s[2 * g] = __float2half(d), s[2 * g + 1] = __float2half(-8.0f * d);
        break;
    }
    case T_Q4_1: {
        const uint8_t *b = raw + g * 20;
        for (int i = 0; i < 16; i++)
            out4[i] = b[4 + i];
        s[2 * g] = __float2half(half_at(b)), s[2 * g + 1] = __float2half(half_at(b + 2));
        break;
    }
    case T_Q5_0:
    case T_Q5_1: {
        bool           with_min = dtype == T_Q5_1;
        const uint8_t *b = raw + g * (with_min ? 24 : 22), *high = b + (with_min ? 4 : 2), *low = high + 4;
        uint32_t       h = high[0] | high[1] << 8 | high[2] << 16 | (uint32_t)high[3] << 24;
        for (int i = 0; i < 32; i++) {
            int v = (i < 16 ? low[i] & 15 : low[i - 16] >> 4) | (int)(h >> i & 1) << 4;
            out8[i] = (int8_t)(with_min ? v : v - 16);
        }
        s[g] = __float2half(half_at(b));
        if (with_min)
            m[g] = __float2half(half_at(b + 2));
        break;
    }
    case T_Q8_0: {
        const uint8_t *b = raw + g * 34;
        for (int i = 0; i < 32; i++)
            out8[i] = (int8_t)b[2 + i];
        s[g] = __float2half(half_at(b));
        break;
    }
    case T_Q4_K: {
        const uint8_t *b = raw + g / 8 * 144;
        int            i = (int)(g % 8);
        float          d = half_at(b), dm = half_at(b + 2), sc, mn;
        scale_min(b + 4, i, &sc, &mn);
        const uint8_t *src = b + 16 + i / 2 * 32; /* 32 bytes hold two sub-blocks: low and high nibbles */
        for (int k = 0; k < 16; k++) {
            int lo = i % 2 ? src[k] >> 4 : src[k] & 15, hi = i % 2 ? src[k + 16] >> 4 : src[k + 16] & 15;
            out4[k] = (uint8_t)(lo | hi << 4);
        }
        s[2 * g] = __float2half(d * sc), s[2 * g + 1] = __float2half(-dm * mn);
        break;
    }
    case T_Q5_K: {
        const uint8_t *b = raw + g / 8 * 176;
        int            i = (int)(g % 8);
        float          d = half_at(b), dm = half_at(b + 2), sc, mn;
        scale_min(b + 4, i, &sc, &mn);
        const uint8_t *high = b + 16, *src = b + 48 + i / 2 * 32;
        for (int k = 0; k < 32; k++)
            out8[k] = (int8_t)((i % 2 ? src[k] >> 4 : src[k] & 15) | (high[k] >> i & 1) << 4);
        s[g] = __float2half(d * sc);
        m[g] = __float2half(-dm * mn);
        break;
    }
    case T_Q6_K: { /* 16 sub-blocks of 16 weights: two scales a group of 32 */
        const uint8_t *b = raw + g / 8 * 210;
        int            i = (int)(g % 8), n = i / 4, part = i % 4; /* half of the block, quarter of that half */
        const uint8_t *ql = b + n * 64, *qh = b + 128 + n * 32;
        const int8_t  *sc = (const int8_t *)(b + 192) + n * 8;
        float          d = half_at(b + 208);
        for (int k = 0; k < 32; k++) {
            int low = part == 0 ? ql[k] & 15 : part == 1 ? ql[k + 32] & 15 : part == 2 ? ql[k] >> 4 : ql[k + 32] >> 4;
            out8[k] = (int8_t)((low | (qh[k] >> (2 * part) & 3) << 4) - 32);
        }
        s[2 * g] = __float2half(d * (float)sc[2 * part]);
        s[2 * g + 1] = __float2half(d * (float)sc[2 * part + 1]);
        break;
    }
    }
}

__device__ static float weight_at(const dev_weight &w, size_t row, int k) {
    size_t i = row * w.cols + k;
    switch (w.kind) {
    case K_F32: return ((const float *)w.q)[i];
    case K_F16: return __half2float(((const __half *)w.q)[i]);
    case K_BF16: return __bfloat162float(((const __nv_bfloat16 *)w.q)[i]);
    case K_I8: {
        size_t g = i >> w.group_shift;
        return fmaf(__half2float(((const __half *)w.s)[g]), (float)((const int8_t *)w.q)[i], w.m ? __half2float(((const __half *)w.m)[g]) : 0.0f);
    }
    default: {
        size_t  g = i / 32;
        int     e = k % 32;
        uint8_t b = ((const uint8_t *)w.q)[g * 16 + e % 16];
        float2  t = __half22float2(((const __half2 *)w.s)[g]);
        return fmaf(t.x, (float)(e < 16 ? b & 15 : b >> 4), t.y);
    }
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

extern "C" __global__ void embed(const __grid_constant__ dev_weight w, const int *tokens, float *y) {
    after_predecessor();
    let_successor_start();
    for (int k = threadIdx.x; k < w.cols; k += blockDim.x)
        y[(size_t)blockIdx.x * w.cols + k] = weight_at(w, tokens[blockIdx.x], k);
}

extern "C" __global__ void __launch_bounds__(1024) rmsnorm(const float *x, const float *gain, int D, float eps, float *y) {
    __shared__ float part[WARP];
    after_predecessor();
    let_successor_start();
    const float *row = x + (size_t)blockIdx.x * D;
    float        sum = 0;
    for (int k = threadIdx.x; k < D; k += blockDim.x)
        sum = fmaf(row[k], row[k], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = sum;
    __syncthreads();
    sum = threadIdx.x % WARP < blockDim.x / WARP ? part[threadIdx.x % WARP] : 0;
    float scale = rsqrtf(warp_sum(sum) / D + eps);
    for (int k = threadIdx.x; k < D; k += blockDim.x)
        y[(size_t)blockIdx.x * D + k] = row[k] * scale * gain[k];
}

/* Pairs (2i, 2i+1) or (i, i + half) of each head; one thread a pair. */
extern "C" __global__ void rope(float *x, int n, int heads, int E, int half, int neox, const int *pos, const float *inv_freq) {
    after_predecessor();
    let_successor_start();
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n * heads * half)
        return;
    int    i = t % half, h = t / half % heads, row = t / half / heads, a = neox ? i : 2 * i, b = neox ? i + half : 2 * i + 1;
    float *v = x + ((size_t)row * heads + h) * E, c, s;
    sincosf((float)pos[row] * inv_freq[i], &s, &c);
    float p = v[a], q = v[b];
    v[a] = p * c - q * s;
    v[b] = p * s + q * c;
}

__device__ static size_t slot_of(const dev_kv &kv, int layer, const int *table, int pos) {
    size_t page = table[pos / kv.page_size];
    return (((size_t)layer * kv.n_pages + page) * kv.page_size + pos % kv.page_size) * kv.width;
}

extern "C" __global__ void kv_write(const __grid_constant__ dev_kv kv, int layer, const int *pos, const int *row_table, const int *tables, const float *k, const float *v) {
    after_predecessor();
    let_successor_start();
    int    row = blockIdx.x;
    size_t at = slot_of(kv, layer, tables + row_table[row], pos[row]);
    for (int e = threadIdx.x; e < kv.width; e += blockDim.x) {
        if (kv.f16) {
            ((__half *)kv.k)[at + e] = __float2half_rn(k[(size_t)row * kv.width + e]);
            ((__half *)kv.v)[at + e] = __float2half_rn(v[(size_t)row * kv.width + e]);
        } else {
            ((float *)kv.k)[at + e] = k[(size_t)row * kv.width + e];
            ((float *)kv.v)[at + e] = v[(size_t)row * kv.width + e];
        }
    }
}

/* ---- attention ------------------------------------------------------------------------------------------------------------ */

/* Block (row, kv head, chunk of ATTN_CHUNK positions): the G query heads of that kv head, partial softmax.  Chunks begin at
 * multiples of ATTN_CHUNK whatever the batch, and combine_attention adds them in order. */
template <typename T> __device__ static float kv_dot(const T *k, const float *q, int E);
template <> __device__ float kv_dot<__half>(const __half *k, const float *q, int E) {
    float s = 0;
    if (E % 8 == 0) {
        for (int e = 0; e < E; e += 8) {
            float f[8];
            widen(*(const uint4 *)(k + e), k, f);
#pragma unroll
            for (int i = 0; i < 8; i++)
                s = fmaf(f[i], q[e + i], s);
        }
    } else {
        for (int e = 0; e < E; e++)
            s = fmaf(__half2float(k[e]), q[e], s);
    }
    return s;
}
template <> __device__ float kv_dot<float>(const float *k, const float *q, int E) {
    float s = 0;
    for (int e = 0; e < E; e++)
        s = fmaf(k[e], q[e], s);
    return s;
}

template <typename T> __device__ static void attend(const attn_job &j) {
    extern __shared__ float room[];
    after_predecessor();
    let_successor_start();
    int row = blockIdx.x, head = blockIdx.y, chunk = blockIdx.z, n = j.pos[row] + 1, first = chunk * ATTN_CHUNK, G = j.group, E = j.E, tid = threadIdx.x;
    if (first >= n)
        return;
    int       count = min(ATTN_CHUNK, n - first);
    const int *table = j.tables + j.row_table[row];
    float    *q = room, *score = q + G * E;        /* [G][E], [G][ATTN_CHUNK] */
    unsigned *slot = (unsigned *)(score + G * ATTN_CHUNK); /* position of the chunk to its place, in widths */
    for (int e = tid; e < G * E; e += blockDim.x)
        q[e] = j.q[((size_t)row * j.heads + head * G) * E + e] * j.scale;
    for (int p = tid; p < count; p += blockDim.x)
        slot[p] = (unsigned)(slot_of(j.kv, j.layer, table, first + p) / j.kv.width);
    __syncthreads();
    const T *K = (const T *)j.kv.k + (size_t)head * E, *V = (const T *)j.kv.v + (size_t)head * E;
    for (int p = tid; p < count; p += blockDim.x)
        for (int g = 0; g < G; g++)
            score[g * ATTN_CHUNK + p] = kv_dot(K + (size_t)slot[p] * j.kv.width, q + g * E, E);
    __syncthreads();
    int    warp = tid / WARP, lane = tid % WARP;
    size_t part0 = ((size_t)row * j.heads + head * G) * j.chunks + chunk;
    for (int g = warp; g < G; g += blockDim.x / WARP) {
        float most = -INFINITY, sum = 0;
        for (int p = lane; p < count; p += WARP)
            most = fmaxf(most, score[g * ATTN_CHUNK + p]);
        most = warp_max(most);
        for (int p = lane; p < count; p += WARP) {
            float w = __expf(score[g * ATTN_CHUNK + p] - most);
            score[g * ATTN_CHUNK + p] = w;
            sum += w;
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            j.most[part0 + (size_t)g * j.chunks] = most;
            j.sum[part0 + (size_t)g * j.chunks] = sum;
        }
    }
    __syncthreads();
    /* one thread an element of a head: positions in order */
    for (int e = tid; e < G * E; e += blockDim.x) {
        int   g = e / E, d = e % E;
        float s = 0;
        for (int p = 0; p < count; p++)
            s = fmaf(score[g * ATTN_CHUNK + p], (float)V[(size_t)slot[p] * j.kv.width + d], s);
        j.out[(part0 + (size_t)g * j.chunks) * E + d] = s;
    }
}
extern "C" __global__ void __launch_bounds__(128) attend_f16(const __grid_constant__ attn_job j) { attend<__half>(j); }
extern "C" __global__ void __launch_bounds__(128) attend_f32(const __grid_constant__ attn_job j) { attend<float>(j); }

extern "C" __global__ void combine_attention(const __grid_constant__ attn_job j, float *y) {
    after_predecessor();
    let_successor_start();
    int    row = blockIdx.x, h = blockIdx.y, n = (j.pos[row] + ATTN_CHUNK) / ATTN_CHUNK;
    size_t at = ((size_t)row * j.heads + h) * j.chunks;
    float  most = -INFINITY, total = 0;
    for (int c = 0; c < n; c++)
        most = fmaxf(most, j.most[at + c]);
    for (int c = 0; c < n; c++)
        total = fmaf(j.sum[at + c], __expf(j.most[at + c] - most), total);
    for (int d = threadIdx.x; d < j.E; d += blockDim.x) {
        float s = 0;
        for (int c = 0; c < n; c++)
            s = fmaf(j.out[(at + c) * j.E + d], __expf(j.most[at + c] - most), s);
        y[((size_t)row * j.heads + h) * j.E + d] = s / total;
    }
}

/* ---- small ------------------------------------------------------------------------------------------------------------------- */

extern "C" __global__ void swiglu(const float *gate, const float *up, size_t n, float *y) {
    after_predecessor();
    let_successor_start();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = gate[i] / (1.0f + __expf(-gate[i])) * up[i];
}

extern "C" __global__ void add(float *x, const float *y, size_t n) {
    after_predecessor();
    let_successor_start();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        x[i] += y[i];
}

extern "C" __global__ void gather(const float *x, const int *rows, int D, float *y) {
    after_predecessor();
    let_successor_start();
    for (int k = threadIdx.x; k < D; k += blockDim.x)
        y[(size_t)blockIdx.x * D + k] = x[(size_t)rows[blockIdx.x] * D + k];
}

/* The best token of a row (the lowest of equals), and sums for its log-probability and the entropy.  NaN shows in `finite`. */
extern "C" __global__ void __launch_bounds__(1024) argmax(const float *logits, int V, const int *rows, greedy_result *out) {
    __shared__ float    top[WARP], sums[WARP], dots[WARP];
    __shared__ int      where[WARP], bad[WARP];
    after_predecessor();
    let_successor_start();
    const float *z = logits + (size_t)rows[blockIdx.x] * V;
    int          lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, at = 0x7fffffff, nan = 0;
    float        best = -INFINITY;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        float t = z[v];
        nan |= t != t;
        if (t > best)
            best = t, at = v;
    }
    for (int o = WARP / 2; o > 0; o /= 2) {
        float t = __shfl_xor_sync(FULL, best, o);
        int   a = __shfl_xor_sync(FULL, at, o);
        nan |= __shfl_xor_sync(FULL, nan, o);
        if (t > best || (t == best && a < at))
            best = t, at = a;
    }
    if (lane == 0)
        top[warp] = best, where[warp] = at, bad[warp] = nan;
    __syncthreads();
    best = top[0], at = where[0], nan = bad[0];
    for (int w = 1; w < blockDim.x / WARP; w++) {
        nan |= bad[w];
        if (top[w] > best || (top[w] == best && where[w] < at))
            best = top[w], at = where[w];
    }
    float sum = 0, dot = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        float d = z[v] - best, e = expf(d);
        sum += e;
        dot += e > 0 ? e * d : 0;
    }
    sum = warp_sum(sum), dot = warp_sum(dot);
    __syncthreads();
    if (lane == 0)
        sums[warp] = sum, dots[warp] = dot;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = dot = 0;
        for (int w = 0; w < blockDim.x / WARP; w++)
            sum += sums[w], dot += dots[w];
        out[blockIdx.x] = {at, !nan && best > -INFINITY && best < INFINITY, -logf(sum), logf(sum) - dot / sum};
    }
}
