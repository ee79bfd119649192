/* Products with weights in tiles, on the tensor cores.
 *
 * A matrix is rearranged at load so that what a lane of a warp needs for one mma lies in one place: a tile is 16 rows, a unit of it
 * 512 bytes (16-bit kinds: four of these), 16 a lane.  A warp reads a unit as one line of memory, whatever the type.
 *
 *   T16, TB16  64 columns; word i of lane (g, t): columns 16t + 4i .. + 3 of row g, then of row g + 8
 *   TF8        32 columns of FP8 (e4m3): T8's places, columns 4t + 1 and 4t + 2 exchanged; s (below) times 256
 *   T8*        32 columns; bytes 4 (2 half + h) + e: column 16 half + 4t + e of row g + 8h
 *   T4         64 columns: T8's places, the first 32 columns in the low nibbles
 *   T4C        as T4, for codes around 8
 *   scales     beside the units, for each g: T8, TF8 (s, s'), T8M (s, s', m, m'), T8H two of the halves (s, s', u, u'), T4 two of the groups
 *              (s, s', m, m'), T4C likewise (s, s'); s of row g, s' of row g + 8, float16;  w = s q + m, T4C: s (q - 8)
 *
 * A block of eight warps takes R tiles side by side (pairs: of the gate and of the up matrix); the warps share their units.  Up to
 * 8 x TILES rows of x go along, read once for all of the block's tiles.  Sums of eight-bit products are exact within a group.  A row's
 * sums have one order, whatever TILES and R are, so its bits do not depend on the batch.
 * A result leaves as the next product wants it (mm_job.out), so that no launch stands between two products of a layer.
 * STAGED: one row; each block brings it into shared memory: as it is, or of float32 (through the RMS norm where there is one). */
#ifndef JPT_CUDA_TILED_CUH
#define JPT_CUDA_TILED_CUH

template <int KIND> struct form {
    typedef int8_t T;
    enum { COLS = TILE_COLS(KIND), WORDS = 1, SCALES = TILE_WORDS(KIND), AHEAD = 8 }; /* WORDS: 16 bytes a lane; AHEAD: units in flight */
};
template <> struct form<K_T16> {
    typedef __half T;
    enum { COLS = 64, WORDS = 4, SCALES = 0, AHEAD = 4 };
};
template <> struct form<K_TB16> {
    typedef __nv_bfloat16 T;
    enum { COLS = 64, WORDS = 4, SCALES = 0, AHEAD = 4 };
};
template <> struct form<K_TF8> {
    typedef __half T;
    enum { COLS = 32, WORDS = 1, SCALES = 1, AHEAD = 8 };
};

/* Tiles that a block takes side by side: two where rows of x are many, and where the result may leave in groups of 32. */
__host__ __device__ constexpr int row_tiles(int kind, int tiles) { return kind >= K_T8 || tiles > 1 ? 2 : 1; }

__host__ __device__ constexpr int units_ahead(int n) { return n > 0 ? n : 1; }

/* ---- mma ------------------------------------------------------------------------------------------------------------ */

__device__ static void mma16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const __nv_bfloat16 *) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ static void mma16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const __half *) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ static void mma8(int (&d)[4], uint4 a, int2 b) { /* 32 columns */
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}
__device__ static void mma8_half(int (&d)[4], uint32_t a0, uint32_t a1, int b) { /* 16 columns */
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a0), "r"(a1), "r"(b));
}
__device__ static uint4 low_nibbles(uint4 v) { return {v.x & 0x0f0f0f0fu, v.y & 0x0f0f0f0fu, v.z & 0x0f0f0f0fu, v.w & 0x0f0f0f0fu}; }
__device__ static uint4 high_nibbles(uint4 v) { return low_nibbles({v.x >> 4, v.y >> 4, v.z >> 4, v.w >> 4}); }

__device__ static __nv_bfloat16 narrow_to(float v, const __nv_bfloat16 *) { return __float2bfloat16_rn(v); }
__device__ static __half narrow_to(float v, const __half *) { return to_half(v); }
__device__ static float narrow_to(float v, const int8_t *) { return v; }

/* One unit of one matrix times eight rows of x from row i on: acc[0], [1] are row g with x rows i + 2t, + 1; [2], [3] row g + 8. */
template <int KIND> struct unit_of {
    uint4    w[form<KIND>::WORDS];
    uint32_t s[form<KIND>::SCALES > 0 ? form<KIND>::SCALES : 1];

    __device__ void load(const uint4 *q, const uint32_t *scales) {
#pragma unroll
        for (int i = 0; i < form<KIND>::WORDS; i++)
            w[i] = load16(q + i * WARP);
        if constexpr (form<KIND>::SCALES == 1)
            s[0] = __ldg(scales);
        else if constexpr (form<KIND>::SCALES == 2) {
            uint2 t = __ldg((const uint2 *)scales);
            s[0] = t.x, s[1] = t.y;
        } else if constexpr (form<KIND>::SCALES == 4) {
            uint4 t = __ldg((const uint4 *)scales);
            s[0] = t.x, s[1] = t.y, s[2] = t.z, s[3] = t.w;
        }
    }
};

/* acc += xs (s d) (+ m xt), for scales of row g and row g + 8 and two rows of x; ONE: there is but the first. */
template <bool ONE> __device__ static void add_scaled(float (&acc)[4], const int (&d)[4], float2 s, float2 xs) {
    acc[0] = fmaf((float)d[0], s.x * xs.x, acc[0]);
    acc[2] = fmaf((float)d[2], s.y * xs.x, acc[2]);
    if constexpr (!ONE) {
        acc[1] = fmaf((float)d[1], s.x * xs.y, acc[1]);
        acc[3] = fmaf((float)d[3], s.y * xs.y, acc[3]);
    }
}
template <bool ONE> __device__ static void add_least(float (&acc)[4], float2 m, float2 xt) {
    acc[0] = fmaf(m.x, xt.x, acc[0]);
    acc[2] = fmaf(m.y, xt.x, acc[2]);
    if constexpr (!ONE) {
        acc[1] = fmaf(m.x, xt.y, acc[1]);
        acc[3] = fmaf(m.y, xt.y, acc[3]);
    }
}

/* Eight-bit rows of x and their scales (quantize_group). */
struct rows8 {
    const int8_t *q;
    const float  *s, *t;
    int           n, cols, pad;
};

template <int KIND, bool ONE> __device__ static void multiply(float (&acc)[4], const unit_of<KIND> &u, const rows8 &x, int unit, int row, int two, int t) {
    static_assert(KIND >= K_T8, "eight-bit x");
    constexpr int GROUPS = form<KIND>::COLS / 32;
#pragma unroll
    for (int at = 0; at < GROUPS; at++) {
        int group = unit * GROUPS + at, d[4] = {};
        if (GROUPS > 1 && group * 32 >= x.cols)
            break;
        int2   b = row < x.n ? *(const int2 *)(x.q + (size_t)row * x.cols + group * 32 + 8 * t) : int2{0, 0};
        float2 xs = *(const float2 *)(x.s + (size_t)group * x.pad + two);
        if constexpr (KIND == K_T8H) {
            int e[4] = {};
            mma8_half(d, u.w[0].x, u.w[0].y, b.x);
            mma8_half(e, u.w[0].z, u.w[0].w, b.y);
            add_scaled<ONE>(acc, d, halves(u.s[0]), xs);
            add_scaled<ONE>(acc, e, halves(u.s[1]), xs);
        } else if constexpr (KIND == K_T4 || KIND == K_T4C) {
            float2 scale = halves(u.s[KIND == K_T4 ? 2 * at : at]), least = {-8 * scale.x, -8 * scale.y};
            if constexpr (KIND == K_T4)
                least = halves(u.s[2 * at + 1]);
            mma8(d, at ? high_nibbles(u.w[0]) : low_nibbles(u.w[0]), b);
            add_scaled<ONE>(acc, d, scale, xs);
            add_least<ONE>(acc, least, *(const float2 *)(x.t + (size_t)group * x.pad + two));
        } else {
            mma8(d, u.w[0], b);
            add_scaled<ONE>(acc, d, halves(u.s[0]), xs);
            if constexpr (KIND == K_T8M)
                add_least<ONE>(acc, halves(u.s[1]), *(const float2 *)(x.t + (size_t)group * x.pad + two));
        }
    }
}

/* What a lane holds of a row of 16 bits for a unit, and its products. */
template <int KIND> struct rows16 {
    typedef typename form<KIND>::T T;
    struct piece {
        uint4 b0, b1;
    };
    __device__ static piece load(const T *x) { return {*(const uint4 *)x, *(const uint4 *)(x + 8)}; }
    __device__ static void  multiply(float (&acc)[4], const unit_of<KIND> &u, const piece &x) {
        mma16(acc, u.w[0].x, u.w[0].z, u.w[0].y, u.w[0].w, x.b0.x, x.b0.y, (const T *)nullptr);
        mma16(acc, u.w[1].x, u.w[1].z, u.w[1].y, u.w[1].w, x.b0.z, x.b0.w, (const T *)nullptr);
        mma16(acc, u.w[2].x, u.w[2].z, u.w[2].y, u.w[2].w, x.b1.x, x.b1.y, (const T *)nullptr);
        mma16(acc, u.w[3].x, u.w[3].z, u.w[3].y, u.w[3].w, x.b1.z, x.b1.w, (const T *)nullptr);
    }
};
template <> struct rows16<K_TF8> {
    struct piece {
        uint2 b0, b1;
    };
    __device__ static piece load(const __half *x) { return {*(const uint2 *)x, *(const uint2 *)(x + 16)}; }
    __device__ static void  multiply(float (&acc)[4], const unit_of<K_TF8> &u, const piece &x) {
        float        d[4] = {};
        const uint4  w = u.w[0];
        const float2 s = halves(u.s[0]);
        mma16(d, f8_pair(w.x << 8), f8_pair(w.y << 8), f8_pair(w.x), f8_pair(w.y), x.b0.x, x.b0.y, (const __half *)nullptr);
        mma16(d, f8_pair(w.z << 8), f8_pair(w.w << 8), f8_pair(w.z), f8_pair(w.w), x.b1.x, x.b1.y, (const __half *)nullptr);
        acc[0] = fmaf(d[0], s.x, acc[0]), acc[1] = fmaf(d[1], s.x, acc[1]);
        acc[2] = fmaf(d[2], s.y, acc[2]), acc[3] = fmaf(d[3], s.y, acc[3]);
    }
};

/* Row i's norm, from the sums of squares that came with it: by a warp, the same bits wherever the row stands. */
__device__ static float scale_of_row(const float *squares, int cols, float eps) {
    float sum = 0;
    for (int k = threadIdx.x % WARP; k < cols / 16; k += WARP)
        sum += squares[k];
    return rsqrtf(warp_sum(sum) / cols + eps);
}

/* One value a lane, row `row` of the product, `later`: for a norm with this gain that is still to be taken; 16 lanes hold a tile's 16 rows for the same i, a warp (8 bits) a group of 32. */
template <typename T, bool EIGHT> __device__ static void write_next(const dev_rows &out, float gain, bool later, float v, int row, int i, int rows, bool here) {
    if (later) {
        float sum = here ? __fmul_rn(v, v) : 0.0f;
#pragma unroll
        for (int o = 8; o > 0; o /= 2)
            sum += __shfl_xor_sync(FULL, sum, o);
        if (here && row % 16 == 0)
            out.squares[(size_t)i * (rows / 16) + row / 16] = sum;
        v = here ? __fmul_rn(v, gain) : 0.0f;
    }
    if constexpr (EIGHT) {
        if (here)
            quantize_group(v, i, row / 32, rows, out.pad, (int8_t *)out.q, out.s, out.t);
    } else if (here) {
        ((T *)out.q)[(size_t)i * rows + row] = narrow_to(v, (const T *)nullptr);
    }
}

template <int KIND, int TILES, bool PAIR, bool STAGED> __device__ static void matmul_tiled(const mm_job &j) {
    typedef form<KIND>    F;
    typedef typename F::T T;
    constexpr bool          EIGHT = KIND >= K_T8;
    constexpr int           R = row_tiles(KIND, TILES), M = PAIR ? 2 * R : R, U = units_ahead(F::AHEAD / M / (TILES == 8 || TILES == 4 || (EIGHT && TILES > 1) ? 2 : 1)), WARPS = 8, N = 8 * TILES;
    constexpr int           CH = N < 32 ? N : 32; /* rows of x whose sums are added up at a time */
    __shared__ float        red[WARPS][16 * R][CH + 1], scale[N];
    extern __shared__ uint4 staged[]; /* STAGED: the gain where there is room for it, then the rows */
    let_successor_start();
    int part = 0, block = blockIdx.x;
    while (!PAIR && part + 1 < j.n_parts && block >= j.part[part + 1].first_block)
        part++;
    const mm_part &p = j.part[part];
    const int      lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4, cols = p.w.cols, tile0 = (block - p.first_block) * R, tiles = (p.w.rows + 15) / 16,
              units = (cols + F::COLS - 1) / F::COLS;
    const uint4   *w[M];
    const uint32_t *s[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
        const dev_weight &own = j.part[PAIR ? m / R : part].w;
        const size_t      tile = min(tile0 + m % R, tiles - 1);
        w[m] = (const uint4 *)own.q + tile * units * F::WORDS * WARP + lane;
        s[m] = (const uint32_t *)own.s + (tile * units * 8 + g) * F::SCALES;
    }
    unit_of<KIND> v[U][M];
#pragma unroll
    for (int u = 0; u < U; u++)
#pragma unroll
        for (int m = 0; m < M; m++) {
            int k = warp + u * WARPS;
            if (k < units)
                v[u][m].load(w[m] + (size_t)k * F::WORDS * WARP, s[m] + (size_t)k * 8 * F::SCALES);
        }
    const int    i0 = blockIdx.y * N;
    const float *gain = j.in.q ? nullptr : j.gain;
    char        *at = (char *)staged;
    if (STAGED && !EIGHT && gain && cols <= STAGED_GAIN) {
        for (int k = 4 * threadIdx.x; k < cols; k += 1024)
            *(float4 *)((float *)at + k) = *(const float4 *)(gain + k);
        gain = (const float *)at;
        at += cols * sizeof(float);
    }
    constexpr int OWN = KIND == K_TF8 ? 4 : 16; /* a lane's first column of a unit */
    const T *x = (const T *)j.in.q + t * OWN;
    rows8    x8 = {(const int8_t *)j.in.q, j.in.s, j.in.t, j.n, cols, j.in.pad};
    /* with few rows, a thread's one result: what is added to it and its next gain are fetched early */
    const bool mine = TILES == 1 && !PAIR && threadIdx.x / (16 * R) < CH && i0 + threadIdx.x / (16 * R) < j.n && tile0 * 16 + threadIdx.x % (16 * R) < p.w.rows;
    float      early = 0, next_gain = 0;
    if (mine && j.out.q)
        next_gain = j.out_gain[tile0 * 16 + threadIdx.x % (16 * R)];
    after_predecessor();
    if (mine)
        early = before(j, p, tile0 * 16 + threadIdx.x % (16 * R), i0 + threadIdx.x / (16 * R));
    const bool scales_apart = STAGED && j.in.squares; /* the last warp takes the norm while the others bring the row */
    const int  movers = scales_apart ? 256 - WARP : 256;
    if (!scales_apart || warp == WARPS - 1)
        for (int i = scales_apart ? 0 : warp; i < N && i0 + i < j.n; i += WARPS) {
            float own = j.in.squares ? scale_of_row(j.in.squares + (size_t)(i0 + i) * (cols / 16), cols, j.eps) : 1.0f;
            if (lane == 0)
                scale[i] = own;
        }
    if constexpr (STAGED && !EIGHT) {
        if (j.in.q)
            for (int k = threadIdx.x; k < cols / 8 && threadIdx.x < movers; k += movers)
                ((uint4 *)at)[k] = ((const uint4 *)j.in.q)[k];
        else if (gain)
            norm_row(j.x, gain, cols, j.eps, (T *)at);
        else
            for (int k = threadIdx.x; k < cols; k += 256)
                store_to((T *)at + k, j.x[k]);
        x = (const T *)at + t * OWN;
    } else if constexpr (STAGED) { /* codes, scales and sums lie one behind the other there, and here */
        const int q16 = (cols + 15) / 16, s4 = (cols / 32 * j.in.pad + SCALES_SLACK + 3) / 4;
        for (int k = threadIdx.x; k < q16 && threadIdx.x < movers; k += movers)
            ((uint4 *)at)[k] = ((const uint4 *)j.in.q)[k];
        float4 *scales = (float4 *)(at + q16 * 16);
        for (int k = threadIdx.x; k < 2 * s4 && threadIdx.x < movers; k += movers)
            scales[k] = ((const float4 *)j.in.s)[k];
        x8.q = (const int8_t *)at, x8.s = (const float *)scales, x8.t = (const float *)(scales + s4);
    }
    if (STAGED)
        __syncthreads();
    float acc[M][TILES][4] = {};
    constexpr bool AHEAD_X = !EIGHT && !STAGED && TILES <= 4; /* rows of x come from L2 as far ahead as the weights */
    typename rows16<KIND>::piece b[AHEAD_X ? U : 1][AHEAD_X ? TILES : 1];
    auto                         fetch = [&](int n, int k) { /* eight rows' columns of unit k */
        int row = i0 + n * 8 + g;
        return row < j.n && k < units ? rows16<KIND>::load(x + (size_t)row * cols + k * F::COLS) : typename rows16<KIND>::piece{};
    };
    if constexpr (AHEAD_X)
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int n = 0; n < TILES; n++)
                b[u][n] = fetch(n, warp + u * WARPS);
    auto step = [&](int u, int k) { /* unit k, which is in v[u]; then v[u] is filled again */
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            if constexpr (!EIGHT) {
                if constexpr (!AHEAD_X)
                    b[0][0] = fetch(n, k);
#pragma unroll
                for (int m = 0; m < M; m++)
                    rows16<KIND>::multiply(acc[m][n], v[u][m], b[AHEAD_X ? u : 0][AHEAD_X ? n : 0]);
                if constexpr (AHEAD_X)
                    b[u][n] = fetch(n, k + U * WARPS);
            } else {
#pragma unroll
                for (int m = 0; m < M; m++)
                    multiply<KIND, STAGED>(acc[m][n], v[u][m], x8, k, i0 + n * 8 + g, i0 + n * 8 + 2 * t, t);
            }
        }
        int next = k + U * WARPS;
        if (next < units)
#pragma unroll
            for (int m = 0; m < M; m++)
                v[u][m].load(w[m] + (size_t)next * F::WORDS * WARP, s[m] + (size_t)next * 8 * F::SCALES);
    };
    int k0 = warp;
    for (; k0 + (U - 1) * WARPS < units; k0 += U * WARPS) /* whole rounds, without a branch between units */
#pragma unroll
        for (int u = 0; u < U; u++)
            step(u, k0 + u * WARPS);
#pragma unroll
    for (int u = 0; u < U; u++)
        if (k0 + u * WARPS < units)
            step(u, k0 + u * WARPS);
    constexpr int OUT = (16 * R * CH + 255) / 256, HALVES = PAIR ? 2 : 1;
    float         gate[OUT];
#pragma unroll
    for (int c = 0; c < N / CH; c++)
#pragma unroll
        for (int h = 0; h < HALVES; h++) {
            __syncthreads();
#pragma unroll
            for (int r = 0; r < R; r++)
#pragma unroll
                for (int n = 0; n < CH / 8; n++) {
                    const float(&a)[4] = acc[h * R + r][c * (CH / 8) + n];
                    red[warp][16 * r + g][n * 8 + 2 * t] = a[0], red[warp][16 * r + g][n * 8 + 2 * t + 1] = a[1];
                    red[warp][16 * r + g + 8][n * 8 + 2 * t] = a[2], red[warp][16 * r + g + 8][n * 8 + 2 * t + 1] = a[3];
                }
            __syncthreads();
#pragma unroll
            for (int o = 0; o < OUT; o++) {
                const int  e = threadIdx.x + o * 256, r = e % (16 * R), own = e / (16 * R), i = i0 + c * CH + own, row = tile0 * 16 + r;
                const bool here = own < CH && i < j.n && row < p.w.rows;
                float      sum = 0;
                if (here) {
                    for (int k = 0; k < WARPS; k++)
                        sum += red[k][r][own];
                    if (j.in.squares)
                        sum *= scale[c * CH + own];
                }
                if (PAIR && h == 0) {
                    gate[o] = sum;
                } else if (PAIR) {
                    sum = here ? silu(gate[o]) * sum : 0.0f;
                    if (j.out.q)
                        write_next<T, EIGHT>(j.out, 0.0f, false, sum, row, i, p.w.rows, here);
                    else if (here)
                        p.y[(size_t)i * p.w.rows + row] = sum;
                } else {
                    if (here)
                        sum = finish(j, p, row, i, sum, TILES == 1 ? early : before(j, p, row, i));
                    if (j.out.q)
                        write_next<T, EIGHT>(j.out, TILES == 1 || !here ? next_gain : j.out_gain[row], true, sum, row, i, p.w.rows, here);
                }
            }
        }
}

#define TILED1(name, kind, tiles, pair, norm, blocks) \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const __grid_constant__ mm_job j) { matmul_tiled<kind, tiles, pair, norm>(j); }
#define TILED(name, kind)                                                                                         \
    TILED1(tiled_##name##_1, kind, 1, false, false, 2) TILED1(tiled_##name##_1_pair, kind, 1, true, false, 2)     \
    TILED1(tiled_##name##_2, kind, 2, false, false, 2) TILED1(tiled_##name##_2_pair, kind, 2, true, false, 2)     \
    TILED1(tiled_##name##_4, kind, 4, false, false, 2) TILED1(tiled_##name##_4_pair, kind, 4, true, false, 1)     \
    TILED1(tiled_##name##_8, kind, 8, false, false, 1) TILED1(tiled_##name##_8_pair, kind, 8, true, false, 1)     \
    TILED1(tiled_##name##_staged, kind, 1, false, true, 2) TILED1(tiled_##name##_staged_pair, kind, 1, true, true, 2)
TILED(f16, K_T16) TILED(bf16, K_TB16) TILED(f8, K_TF8) TILED(i8, K_T8) TILED(i8m, K_T8M) TILED(i8h, K_T8H) TILED(i4, K_T4) TILED(i4c, K_T4C)

/* ---- into tiles, and a weight out of them ------------------------------------------------------------------------------ */

/* One warp a unit.  in: rows side by side, of 16 bits, of 8, or (T4, T4C) 16 bytes a group of 32; s, m: float16 a group (T8H: of 16),
 * T4, T4C: pairs in s.  Rows and groups past the matrix's end are zeros. */
extern "C" __global__ void to_tiles(const void *in, const __half *s, const __half *m, const __grid_constant__ dev_weight w) {
    after_predecessor();
    const int    cols = w.cols, per = TILE_COLS(w.kind), units = (cols + per - 1) / per, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const size_t at = (size_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, tile = at / units;
    const int    unit = (int)(at % units);
    if (tile >= (size_t)(w.rows + 15) / 16)
        return;
    const size_t row[2] = {tile * 16 + g, tile * 16 + g + 8};
    if (w.kind <= K_TB16) {
        for (int i = 0; i < 4; i++) {
            uint2 part[2] = {};
            for (int h = 0; h < 2; h++)
                if (row[h] < (size_t)w.rows)
                    part[h] = *(const uint2 *)((const uint16_t *)in + row[h] * cols + unit * 64 + 16 * t + 4 * i);
            ((uint4 *)w.q)[(at * 4 + i) * WARP + lane] = {part[0].x, part[0].y, part[1].x, part[1].y};
        }
        return;
    }
    const int groups = cols / 32;
    __align__(16) uint8_t byte[16];
    for (int half = 0; half < 2; half++)
        for (int h = 0; h < 2; h++)
            for (int e = 0; e < 4; e++) {
                uint8_t b = 0;
                if (row[h] < (size_t)w.rows && w.kind < K_T4)
                    b = ((const uint8_t *)in)[row[h] * cols + unit * 32 + half * 16 + 4 * t + (w.kind == K_TF8 && (e == 1 || e == 2) ? 3 - e : e)];
                for (int k = 0; k < 2 && row[h] < (size_t)w.rows && w.kind >= K_T4; k++)
                    if (2 * unit + k < groups)
                        b |= (((const uint8_t *)in)[(row[h] * groups + 2 * unit + k) * 16 + 4 * t + e] >> (4 * half) & 15) << (4 * k);
                byte[4 * (2 * half + h) + e] = b;
            }
    ((uint4 *)w.q)[at * WARP + lane] = *(const uint4 *)byte;
    if (t != 0)
        return;
    __half *out = (__half *)w.s + (at * 8 + g) * 2 * TILE_WORDS(w.kind);
    for (int h = 0; h < 2; h++) {
        bool   here = row[h] < (size_t)w.rows;
        size_t group = row[h] * groups;
        if (w.kind >= K_T4) {
            int step = w.kind == K_T4 ? 4 : 2;
            for (int k = 0; k < 2; k++) {
                bool there = here && 2 * unit + k < groups;
                out[step * k + h] = there ? s[2 * (group + 2 * unit + k)] : __half(0.0f);
                if (w.kind == K_T4)
                    out[4 * k + 2 + h] = there ? s[2 * (group + 2 * unit + k) + 1] : __half(0.0f);
            }
        } else if (w.kind == K_T8H) {
            out[h] = here ? s[2 * (group + unit)] : __half(0.0f);
            out[2 + h] = here ? s[2 * (group + unit) + 1] : __half(0.0f);
        } else {
            out[h] = here ? s[group + unit] : __half(0.0f);
            if (w.kind == K_T8M)
                out[2 + h] = here ? m[group + unit] : __half(0.0f);
        }
    }
}

__device__ static float tiled_weight(const dev_weight &w, size_t row, int k) {
    const int    per = TILE_COLS(w.kind), units = (w.cols + per - 1) / per, r = (int)(row % 16), g = r % 8, h = r / 8, c = k % per;
    const size_t at = row / 16 * units + k / per;
    if (w.kind <= K_TB16) {
        size_t i = ((at * 4 + c % 16 / 4) * WARP + 4 * g + c / 16) * 8 + 4 * h + c % 4;
        return w.kind == K_T16 ? __half2float(((const __half *)w.q)[i]) : __bfloat162float(((const __nv_bfloat16 *)w.q)[i]);
    }
    const int     half = c % 32 / 16, second = c / 32;
    const int     e = c % 4, place = w.kind == K_TF8 && (e == 1 || e == 2) ? 3 - e : e;
    const uint8_t b = ((const uint8_t *)w.q)[(at * WARP + 4 * g + c % 16 / 4) * 16 + 4 * (2 * half + h) + place];
    const __half *s = (const __half *)w.s + (at * 8 + g) * 2 * TILE_WORDS(w.kind);
    if (w.kind == K_TF8)
        return __half2float(s[h]) * __half2float(__ushort_as_half((unsigned short)((b & 0x80) << 8 | (b & 0x7f) << 7)));
    if (w.kind == K_T4C)
        return __half2float(s[2 * second + h]) * (float)((second ? b >> 4 : b & 15) - 8);
    if (w.kind == K_T4)
        return fmaf(__half2float(s[4 * second + h]), (float)(second ? b >> 4 : b & 15), __half2float(s[4 * second + 2 + h]));
    return fmaf(__half2float(s[w.kind == K_T8H ? 2 * half + h : h]), (float)(int8_t)b, w.kind == K_T8M ? __half2float(s[2 + h]) : 0.0f);
}

#endif
