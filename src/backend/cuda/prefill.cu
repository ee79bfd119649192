/* What a pass of many rows needs beside its products (prefill.c): matrices out of their tiles (tiled.cuh) into rows of 16 bits,
 * rotation, and activations in 16 bits. */
#include "rows.cuh"

/* ---- out of the tiles ----------------------------------------------------------------------------------------------- */

/* One warp a unit, of 16 rows.  Rows first_tile * 16 .. + n_rows of w go to `out`, [n_rows, cols].  16-bit kinds keep their bits. */
extern "C" __global__ void __launch_bounds__(256) untile_16(const __grid_constant__ dev_weight w, int first_tile, int n_rows, uint16_t *out) {
    let_successor_start();
    const int      lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, units = w.cols / 64;
    const unsigned at = blockIdx.x * 8 + threadIdx.x / WARP, tile = at / units, unit = at % units;
    const bool     here = (int)tile * 16 < n_rows;
    uint4          v[4];
    if (here) {
        const uint4 *q = (const uint4 *)w.q + ((size_t)first_tile * units + at) * 4 * WARP + lane;
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = load16(q + i * WARP);
    }
    after_predecessor(); /* a product may still read what was in `out` */
    if (!here)
        return;
    const int row = (int)tile * 16 + g;
    uint16_t *to = out + (size_t)row * w.cols + unit * 64 + 16 * t; /* this lane has 16 columns of two rows */
    if (row < n_rows) {
        ((uint4 *)to)[0] = {v[0].x, v[0].y, v[1].x, v[1].y};
        ((uint4 *)to)[1] = {v[2].x, v[2].y, v[3].x, v[3].y};
    }
    to += (size_t)8 * w.cols;
    if (row + 8 < n_rows) {
        ((uint4 *)to)[0] = {v[0].z, v[0].w, v[1].z, v[1].w};
        ((uint4 *)to)[1] = {v[2].z, v[2].w, v[3].z, v[3].w};
    }
}

/* Byte i of u as a number, signed or (BIAS 0) not: 2^23 + byte, less that. */
template <unsigned BIAS> __device__ static float code(uint32_t u, int i) {
    return __uint_as_float(__byte_perm(u ^ BIAS * 0x01010101u, 0x4b000000u, 0x7440 | i)) - (8388608.0f + BIAS);
}
/* Eight codes of one row, as bfloat16: s q + m. */
template <unsigned BIAS> __device__ static uint4 widen_codes(uint32_t low, uint32_t high, float s, float m) {
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t       u = i < 2 ? low : high;
        __nv_bfloat162 b = __floats2bfloat162_rn(fmaf(s, code<BIAS>(u, i % 2 * 2), m), fmaf(s, code<BIAS>(u, i % 2 * 2 + 1), m));
        r[i] = *(const uint32_t *)&b;
    }
    return {r[0], r[1], r[2], r[3]};
}

/* Eight FP8 codes of one row, columns 1 and 2 of each four exchanged, as bfloat16. */
__device__ static uint4 widen_f8(uint32_t low, uint32_t high, float s) {
    const uint32_t pair[4] = {f8_pair(low << 8), f8_pair(low), f8_pair(high << 8), f8_pair(high)};
    uint32_t       r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2         v = halves(pair[i]);
        __nv_bfloat162 b = __floats2bfloat162_rn(s * v.x, s * v.y);
        r[i] = *(const uint32_t *)&b;
    }
    return {r[0], r[1], r[2], r[3]};
}

/* Codes of eight and of four bits to bfloat16 (float16 could not hold what follows them: silu(gate) up of some models).  Lanes 2i and
 * 2i + 1 swap columns, so that each has eight side by side: of the first 16 of a group, or of the others. */
template <int KIND> __device__ static void untile_codes(const dev_weight &w, int first_tile, int n_rows, __nv_bfloat16 *out) {
    constexpr int COLS = TILE_COLS(KIND), SCALES = TILE_WORDS(KIND);
    let_successor_start();
    const int      lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, units = (w.cols + COLS - 1) / COLS;
    const unsigned at = blockIdx.x * 8 + threadIdx.x / WARP, tile = at / units, unit = at % units;
    const bool     here = (int)tile * 16 < n_rows, odd = t & 1; /* here: the whole warp */
    uint4          v = {0, 0, 0, 0};
    uint32_t       s[SCALES] = {};
    if (here) {
        const size_t    all = (size_t)first_tile * units + at;
        const uint32_t *scales = (const uint32_t *)w.s + (all * 8 + g) * SCALES;
        v = load16((const uint4 *)w.q + all * WARP + lane);
#pragma unroll
        for (int i = 0; i < SCALES; i++)
            s[i] = __ldg(scales + i);
    }
    after_predecessor();
    if (!here)
        return;
    /* v: row g, first half; row g + 8, first half; then the second half */
    uint32_t mine[2] = {odd ? v.z : v.x, odd ? v.w : v.y}, other[2] = {odd ? v.x : v.z, odd ? v.y : v.w};
    other[0] = __shfl_xor_sync(FULL, other[0], 1), other[1] = __shfl_xor_sync(FULL, other[1], 1);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint32_t low = odd ? other[h] : mine[h], high = odd ? mine[h] : other[h];
        const int      row = (int)tile * 16 + g + 8 * h, column = 16 * odd + 4 * (t & 2);
        auto           of = [&](uint32_t u) { return h ? halves(u).y : halves(u).x; };
        if (row >= n_rows)
            continue;
        __nv_bfloat16 *to = out + (size_t)row * w.cols + unit * COLS + column;
        if constexpr (KIND == K_T4 || KIND == K_T4C) {
            const float s0 = of(s[0]), s1 = of(s[SCALES / 2]), m0 = KIND == K_T4 ? of(s[1]) : -8 * s0, m1 = KIND == K_T4 ? of(s[SCALES - 1]) : -8 * s1;
            *(uint4 *)to = widen_codes<0>(low & 0x0f0f0f0fu, high & 0x0f0f0f0fu, s0, m0);
            if ((int)unit * COLS + 32 < w.cols) /* an odd number of groups: the last unit has one */
                *(uint4 *)(to + 32) = widen_codes<0>(low >> 4 & 0x0f0f0f0fu, high >> 4 & 0x0f0f0f0fu, s1, m1);
        } else if constexpr (KIND == K_TF8) {
            *(uint4 *)to = widen_f8(low, high, of(s[0]));
        } else {
            *(uint4 *)to = widen_codes<128>(low, high, of(KIND == K_T8H && odd ? s[SCALES - 1] : s[0]), KIND == K_T8M ? of(s[SCALES - 1]) : 0.0f);
        }
    }
}
#define UNTILE(name, kind)                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) untile_##name(const __grid_constant__ dev_weight w, int first_tile, int n_rows, uint16_t *out) { \
        untile_codes<kind>(w, first_tile, n_rows, (__nv_bfloat16 *)out);                                                                            \
    }
UNTILE(f8, K_TF8) UNTILE(i8, K_T8) UNTILE(i8m, K_T8M) UNTILE(i8h, K_T8H) UNTILE(i4, K_T4) UNTILE(i4c, K_T4C)

/* ---- rotation ------------------------------------------------------------------------------------------------------- */

__device__ static void keep(void *cache, bool f16, size_t i, float v) {
    if (f16)
        ((__half *)cache)[i] = __float2half_rn(v);
    else
        ((float *)cache)[i] = v;
}

/* Biases added, queries rotated, keys rotated into the cache, values into the cache: a block a row, whose angles all heads share. */
extern "C" __global__ void __launch_bounds__(256) rope_joined(const __grid_constant__ dev_kv kv, const __grid_constant__ joined_job j) {
    __shared__ float2 angle[JOINED_PAIRS];
    let_successor_start();
    const int    row = blockIdx.x, tid = threadIdx.x, E = j.r.E, half = j.r.half, pairs = E / 2, q_size = j.r.heads * E, kv_size = j.r.kv_heads * E;
    const float *x = j.x + (size_t)row * (q_size + 2 * kv_size);
    const size_t at = slot_of(kv, j.r.layer, j.r.tables + j.r.row_table[row], j.r.pos[row]);
    after_predecessor();
    for (int i = tid; i < half; i += 256)
        angle[i] = ((const float2 *)j.r.turns)[(size_t)row * half + i];
    __syncthreads();
#pragma unroll 4
    for (int e = tid; e < (j.r.heads + j.r.kv_heads) * pairs; e += 256) {
        const int h = e / pairs, i = e % pairs, a = i >= half ? 2 * i : j.r.neox ? i : 2 * i, b = i < half && j.r.neox ? i + half : a + 1; /* i >= half: not rotated */
        const bool   key = h >= j.r.heads;
        const int    from = h * E, own = key ? from - q_size : from;
        const float *bias = key ? j.k_bias : j.q_bias;
        float        p = x[from + a], q = x[from + b];
        if (bias)
            p += bias[own + a], q += bias[own + b];
        if (i < half)
            rotate(p, q, angle[i], &p, &q);
        if (key)
            keep(kv.k, kv.f16, at + own + a, p), keep(kv.k, kv.f16, at + own + b, q);
        else
            j.r.q[(size_t)row * q_size + own + a] = p, j.r.q[(size_t)row * q_size + own + b] = q;
    }
    for (int e = tid; e < kv_size; e += 256)
        keep(kv.v, kv.f16, at + e, x[q_size + kv_size + e] + (j.v_bias ? j.v_bias[e] : 0.0f));
}

/* ---- activations --------------------------------------------------------------------------------------------------------- */

__device__ static float2 both(uint32_t u, const __half *) { return halves(u); }
__device__ static float2 both(uint32_t u, const __nv_bfloat16 *) { return {__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u)}; }
__device__ static uint32_t narrow2(float a, float b, const __half *) {
    __half2 h = __halves2half2(to_half(a), to_half(b));
    return *(const uint32_t *)&h;
}
__device__ static uint32_t narrow2(float a, float b, const __nv_bfloat16 *) {
    __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *(const uint32_t *)&h;
}

template <typename T> __device__ static uint4 swiglu8(uint4 gate, uint4 up) {
    const uint32_t g[4] = {gate.x, gate.y, gate.z, gate.w}, u[4] = {up.x, up.y, up.z, up.w};
    uint32_t       y[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 a = both(g[i], (const T *)nullptr), b = both(u[i], (const T *)nullptr);
        y[i] = narrow2(__fdividef(a.x, 1.0f + __expf(-a.x)) * b.x, __fdividef(a.y, 1.0f + __expf(-a.y)) * b.y, (const T *)nullptr);
    }
    return {y[0], y[1], y[2], y[3]};
}

/* gate = silu(gate) up, pieces of eight. */
extern "C" __global__ void __launch_bounds__(256) swiglu_16(uint4 *gate, const uint4 *up, size_t n, int bf16) {
    let_successor_start();
    after_predecessor();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        gate[i] = bf16 ? swiglu8<__nv_bfloat16>(gate[i], up[i]) : swiglu8<__half>(gate[i], up[i]);
}

/* float32 to 16 bits, pieces of eight. */
extern "C" __global__ void __launch_bounds__(256) narrow_16(const float4 *x, size_t n, int bf16, uint4 *y) {
    let_successor_start();
    after_predecessor();
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float4         a = x[2 * i], b = x[2 * i + 1];
    const __half        *h = nullptr;
    const __nv_bfloat16 *t = nullptr;
    y[i] = bf16 ? uint4{narrow2(a.x, a.y, t), narrow2(a.z, a.w, t), narrow2(b.x, b.y, t), narrow2(b.z, b.w, t)}
                : uint4{narrow2(a.x, a.y, h), narrow2(a.z, a.w, h), narrow2(b.x, b.y, h), narrow2(b.z, b.w, h)};
}
