/* The CUDA back-end's kernels.  Shapes and meaning are those of jpt/backend.h.
 *
 * A row's result never depends on how many rows are in a launch: each (weight row, activation row) pair has its own
 * accumulators, fed in the same order whatever the tile.  Weights are read with 16-byte loads that stay out of L1; up to eight
 * activation rows share one reading.  Kernels may start before their predecessor ends (programmatic dependent launch): before
 * `after_predecessor` they touch nothing but weights, and what the host sent before the pass.  Each lets its successor start at
 * once: that one's blocks come when this one's have all begun, and fetch their first weights while the last of these work. */
#include <cuda_fp8.h>

#include "rows.cuh"

/* ---- matmul -------------------------------------------------------------------------------------------------------- */

/* y (+)= x w^T: one warp a weight row (two with R = 2), all warps of a block side by side. */

__device__ static float one(const __nv_bfloat16 *p) { return __bfloat162float(*p); }
__device__ static float one(const __half *p) { return __half2float(*p); }
__device__ static float one(const float *p) { return *p; }

/* What was there before, where the product is added to it. */
__device__ static float before(const mm_job &j, const mm_part &p, int row, int i) { return j.accumulate ? p.y[(size_t)i * p.w.rows + row] : 0.0f; }
__device__ static float finish(const mm_job &j, const mm_part &p, int row, int i, float sum, float old) {
    float v = sum + (p.bias ? p.bias[row] : 0.0f);
    return p.y[(size_t)i * p.w.rows + row] = j.accumulate ? old + v : v;
}

__device__ static float silu(float v) { return v / (1.0f + __expf(-v)); }

/* Sums over the warp to their places; a pair is a row of the gate and the same row of the up matrix. */
template <int NX, int R, bool PAIR> __device__ static void write_out(const mm_job &j, const mm_part &p, float (&acc)[R][NX], int row0, int i0, int lane) {
#pragma unroll
    for (int i = 0; i < NX; i++) {
        float sum[R];
#pragma unroll
        for (int r = 0; r < R; r++)
            sum[r] = warp_sum(acc[r][i]);
        if (lane != 0 || i0 + i >= j.n)
            continue;
        if constexpr (PAIR) {
            if (row0 < p.w.rows)
                p.y[(size_t)(i0 + i) * p.w.rows + row0] = silu(sum[0]) * sum[R - 1];
        } else {
#pragma unroll
            for (int r = 0; r < R; r++)
                if (row0 + r < p.w.rows)
                    finish(j, p, row0 + r, i0 + i, sum[r], before(j, p, row0 + r, i0 + i));
        }
    }
}

template <typename T, int NX, int R, bool PAIR> __device__ static void matmul_float(const mm_job &j) {
    constexpr int PER = 16 / sizeof(T), U = 4 / R > 1 ? 4 / R : 2;
    let_successor_start();
    int           part = 0, block = blockIdx.x;
    while (!PAIR && part + 1 < j.n_parts && block >= j.part[part + 1].first_block)
        part++;
    const mm_part &p = j.part[part];
    int            lane = threadIdx.x % WARP, row0 = ((block - p.first_block) * (blockDim.x / WARP) + threadIdx.x / WARP) * (PAIR ? 1 : R), cols = p.w.cols;
    const T       *w[R];
    for (int r = 0; r < R; r++)
        w[r] = (const T *)j.part[PAIR ? r : part].w.q + (size_t)min(row0 + (PAIR ? 0 : r), p.w.rows - 1) * cols;
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
    write_out<NX, R, PAIR>(j, p, acc, row0, i0, lane);
}

#define ONE(kind, nx, name, r, pair, body)                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) matmul_##kind##_##nx##_##name(const __grid_constant__ mm_job j) { body(nx, r, pair); }
#define MATMUL(kind, body)                                                                                                                     \
    ONE(kind, 1, one, 1, false, body) ONE(kind, 2, one, 1, false, body) ONE(kind, 4, one, 1, false, body) ONE(kind, 8, one, 1, false, body)     \
    ONE(kind, 1, two, 2, false, body) ONE(kind, 2, two, 2, false, body) ONE(kind, 4, two, 2, false, body) ONE(kind, 8, two, 2, false, body)     \
    ONE(kind, 1, pair, 2, true, body) ONE(kind, 2, pair, 2, true, body) ONE(kind, 4, pair, 2, true, body) ONE(kind, 8, pair, 2, true, body)
#define BODY_F32(nx, r, pair) matmul_float<float, nx, r, pair>(j)
#define BODY_F16(nx, r, pair) matmul_float<__half, nx, r, pair>(j)
#define BODY_BF16(nx, r, pair) matmul_float<__nv_bfloat16, nx, r, pair>(j)
MATMUL(f32, BODY_F32)
MATMUL(f16, BODY_F16)
MATMUL(bf16, BODY_BF16)

/* ---- the RMS norm of a row ---------------------------------------------------------------------------------------------- */

/* What a row is multiplied by, in a block of 256 threads: the same bits wherever it stands.  v: its first `held` pieces, where they
 * have been read (D a multiple of 4). */
template <int N> __device__ static float norm_scale(const float *x, int D, float eps, const float4 (&v)[N], int held) {
    __shared__ float part[8];
    float            sum = 0;
    int              tid = threadIdx.x;
    auto add = [&](float4 r) { sum = __fmaf_rn(r.x, r.x, __fmaf_rn(r.y, r.y, __fmaf_rn(r.z, r.z, __fmaf_rn(r.w, r.w, sum)))); };
    if (D % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (i < held && 4 * tid + 1024 * i < D)
                add(v[i]);
        for (int k = 4 * tid + 1024 * held; k < D; k += 1024)
            add(*(const float4 *)(x + k));
    } else {
        for (int k = tid; k < D; k += 256)
            sum = __fmaf_rn(x[k], x[k], sum);
    }
    sum = warp_sum(sum);
    __syncthreads(); /* part may still be read for the row before */
    if (tid % WARP == 0)
        part[tid / WARP] = sum;
    __syncthreads();
    sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    return rsqrtf(sum / D + eps);
}

/* y and gain may be in shared memory; y is not synchronised. */
template <typename T> __device__ static void norm_row(const float *x, const float *gain, int D, float eps, T *y) {
    int tid = threadIdx.x;
    if (D % 4 == 0) {
        enum { HELD = 4 }; /* as much of the row as registers hold is read once */
        float4 v[HELD];
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (4 * tid + 1024 * i < D)
                v[i] = *(const float4 *)(x + 4 * tid + 1024 * i);
        float scale = norm_scale(x, D, eps, v, HELD);
        auto  put = [&](int k, float4 r) {
            float4 u = *(const float4 *)(gain + k);
            store_to(y + k, __fmul_rn(__fmul_rn(r.x, scale), u.x)), store_to(y + k + 1, __fmul_rn(__fmul_rn(r.y, scale), u.y));
            store_to(y + k + 2, __fmul_rn(__fmul_rn(r.z, scale), u.z)), store_to(y + k + 3, __fmul_rn(__fmul_rn(r.w, scale), u.w));
        };
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (4 * tid + 1024 * i < D)
                put(4 * tid + 1024 * i, v[i]);
        for (int k = 4 * tid + 1024 * HELD; k < D; k += 1024)
            put(k, *(const float4 *)(x + k));
    } else {
        float4 none[1];
        float  scale = norm_scale(x, D, eps, none, 0);
        for (int k = tid; k < D; k += 256)
            store_to(y + k, __fmul_rn(__fmul_rn(x[k], scale), gain[k]));
    }
}

#include "tiled.cuh"

/* Row i of the result is row rows[i] (NULL: i) of x, narrowed to `to`, with a gain for the norm that is still to be taken.  One warp 32
 * columns: D is a multiple of 32. */
extern "C" __global__ void bring_rows(const float *x, const int *rows, const float *gain, int n, int D, int to, const __grid_constant__ dev_rows out) {
    let_successor_start();
    after_predecessor();
    int groups = D / 32, at = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, i = at / groups, k = at % groups * 32 + threadIdx.x % WARP;
    if (i >= n)
        return;
    float v = x[(size_t)(rows ? rows[i] : i) * D + k], own = gain ? gain[k] : 0.0f;
    if (to == TO_Q8)
        write_next<int8_t, true>(out, own, gain != NULL, v, k, i, D, true);
    else if (to == TO_F16)
        write_next<__half, false>(out, own, gain != NULL, v, k, i, D, true);
    else
        write_next<__nv_bfloat16, false>(out, own, gain != NULL, v, k, i, D, true);
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

/* A row's group of 32 to eight bits, integers or (fp8) e4m3 with 256 times its scale: one thread a group.  dtype: 0 float32, 1 float16,
 * 30 bfloat16 (GGUF's numbers). */
extern "C" __global__ void narrow_weight(const void *raw, int dtype, int fp8, size_t n_groups, int8_t *q, __half *s) {
    after_predecessor();
    size_t g = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (g >= n_groups)
        return;
    float v[32], most = 0;
    for (int i = 0; i < 32; i++) {
        size_t at = g * 32 + i;
        v[i] = dtype == 0 ? ((const float *)raw)[at] : dtype == 1 ? __half2float(((const __half *)raw)[at]) : __bfloat162float(((const __nv_bfloat16 *)raw)[at]);
        most = fmaxf(most, fabsf(v[i]));
    }
    __half h = __float2half_rn(fp8 ? most / 448.0f * 256.0f : most / 127.0f);
    float  scale = fp8 ? __half2float(h) / 256.0f : __half2float(h);
    for (int i = 0; i < 32 && fp8; i++)
        q[g * 32 + i] = (int8_t)(scale > 0 ? __nv_cvt_float_to_fp8(v[i] / scale, __NV_SATFINITE, __NV_E4M3) : 0);
    for (int i = 0; i < 32 && !fp8; i++)
        q[g * 32 + i] = (int8_t)(scale > 0 ? max(-127, min(127, __float2int_rn(v[i] / scale))) : 0);
    s[g] = h;
}

/* Blocks of a file to planes: one thread a group of 32 weights. */
extern "C" __global__ void repack(const uint8_t *raw, int dtype, size_t n_groups, uint8_t *q, __half *s, __half *m) {
    after_predecessor();
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
    default: return tiled_weight(w, row, k);
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------------------- */

/* Grid rows x pieces of 256 columns.  turns (NULL: not wanted): cosine and sine of the rows' angles, [n, half]. */
extern "C" __global__ void embed(const __grid_constant__ dev_weight w, const int *tokens, float *y, const int *pos, const float *inv_freq, int half, float2 *turns) {
    let_successor_start();
    after_predecessor();
    int row = blockIdx.x, k = blockIdx.y * blockDim.x + threadIdx.x;
    if (k < w.cols)
        y[(size_t)row * w.cols + k] = weight_at(w, tokens[row], k);
    for (int i = threadIdx.x; turns && blockIdx.y == 0 && i < half; i += blockDim.x)
        turns[(size_t)row * half + i] = turn(__fmul_rn((float)pos[row], inv_freq[i]));
}

extern "C" __global__ void turn_rows(int n, const int *pos, const float *inv_freq, int half, float2 *turns) {
    let_successor_start();
    after_predecessor();
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n * half)
        turns[at] = turn(__fmul_rn((float)pos[at / half], inv_freq[at % half]));
}

extern "C" __global__ void __launch_bounds__(256) rmsnorm(const float *x, const float *gain, int D, float eps, void *y, int to) {
    let_successor_start();
    after_predecessor();
    const float *row = x + (size_t)blockIdx.x * D;
    size_t       at = (size_t)blockIdx.x * D;
    if (to == 0)
        norm_row(row, gain, D, eps, (float *)y + at);
    else if (to == 1)
        norm_row(row, gain, D, eps, (__half *)y + at);
    else
        norm_row(row, gain, D, eps, (__nv_bfloat16 *)y + at);
}

extern "C" __global__ void swiglu(const float *gate, const float *up, size_t n, float *y) {
    let_successor_start();
    after_predecessor();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = silu(gate[i]) * up[i];
}

extern "C" __global__ void add(float *x, const float *y, size_t n) {
    let_successor_start();
    after_predecessor();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        x[i] += y[i];
}

extern "C" __global__ void gather(const float *x, const int *rows, int D, float *y) {
    let_successor_start();
    after_predecessor();
    for (int k = threadIdx.x; k < D; k += blockDim.x)
        y[(size_t)blockIdx.x * D + k] = x[(size_t)rows[blockIdx.x] * D + k];
}

/* The best token of a row (the lowest of equals), and sums for its log-probability and the entropy: ARGMAX_PARTS blocks a row, the
 * last of them adds up. */
extern "C" __global__ void __launch_bounds__(256) argmax(const float *logits, int V, const int *rows, greedy_part *parts, unsigned *done, unsigned call, greedy_result *out) {
    __shared__ float top[8], sums[8], dots[8];
    __shared__ int   where[8], bad[8], last;
    let_successor_start();
    after_predecessor();
    const float *z = logits + (size_t)rows[blockIdx.y] * V;
    int          per = (V + ARGMAX_PARTS - 1) / ARGMAX_PARTS, from = blockIdx.x * per, to = min(V, from + per), lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, at = 0x7fffffff, nan = 0;
    float        best = -INFINITY;
#pragma unroll 8
    for (int v = from + (int)threadIdx.x; v < to; v += blockDim.x) {
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
    for (int w = 1; w < 8; w++) {
        nan |= bad[w];
        if (top[w] > best || (top[w] == best && where[w] < at))
            best = top[w], at = where[w];
    }
    float sum = 0, dot = 0;
#pragma unroll 8
    for (int v = from + (int)threadIdx.x; v < to; v += blockDim.x) {
        float d = z[v] - best, e = best > -INFINITY ? expf(d) : 0;
        sum += e;
        dot += e > 0 ? e * d : 0;
    }
    sum = warp_sum(sum), dot = warp_sum(dot);
    if (lane == 0)
        sums[warp] = sum, dots[warp] = dot;
    __syncthreads();
    greedy_part *mine = parts + (size_t)blockIdx.y * ARGMAX_PARTS;
    if (threadIdx.x == 0) {
        sum = dot = 0;
        for (int w = 0; w < 8; w++)
            sum += sums[w], dot += dots[w];
        mine[blockIdx.x] = {at, nan, best, sum, dot};
        __threadfence();
        last = atomicInc(&done[blockIdx.y], ARGMAX_PARTS - 1) == ARGMAX_PARTS - 1;
        __threadfence();
    }
    __syncthreads();
    if (!last || warp != 0)
        return;
    static_assert(ARGMAX_PARTS == WARP, "a lane a part");
    greedy_part p;
    p.token = __ldcg(&mine[lane].token), p.best = __ldcg(&mine[lane].best), p.sum = __ldcg(&mine[lane].sum), p.dot = __ldcg(&mine[lane].dot);
    nan = __any_sync(FULL, __ldcg(&mine[lane].nan));
    best = warp_max(p.best);
    at = (int)__reduce_min_sync(FULL, p.best == best ? (unsigned)p.token : 0x7fffffffu);
    float  d = p.best - best;
    double f = p.best > -INFINITY ? exp((double)d) : 0, S = f > 0 ? f * (double)p.sum : 0, D = f > 0 ? f * ((double)p.dot + (double)d * (double)p.sum) : 0;
    for (int o = WARP / 2; o > 0; o /= 2)
        S += __shfl_xor_sync(FULL, S, o), D += __shfl_xor_sync(FULL, D, o);
    if (lane != 0)
        return;
    greedy_result *r = &out[blockIdx.y];
    r->token = at, r->finite = !nan && best > -INFINITY && best < INFINITY, r->logprob = (float)-log(S), r->entropy = (float)(log(S) - D / S);
    hand_over(&r->ready, call);
}
