/* Rotation, the cache of keys and values, and attention over it. */
#include "mma.cuh"
#include "rows.cuh"

/* Pairs (2i, 2i+1) or (i, i + half) of each head; one thread a pair. */
extern "C" __global__ void rope(float *x, int n, int heads, int E, int half, int neox, const int *pos, const float *inv_freq) {
    let_successor_start();
    after_predecessor();
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n * heads * half)
        return;
    int    i = t % half, h = t / half % heads, row = t / half / heads, a = neox ? i : 2 * i, b = neox ? i + half : 2 * i + 1;
    float *v = x + ((size_t)row * heads + h) * E;
    rotate(v[a], v[b], turn(__fmul_rn((float)pos[row], inv_freq[i])), &v[a], &v[b]);
}

extern "C" __global__ void kv_write(const __grid_constant__ dev_kv kv, int layer, const int *pos, const int *row_table, const int *tables, const float *k, const float *v) {
    let_successor_start();
    after_predecessor();
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

/* Queries rotated in place, keys rotated into the cache, values into the cache: block (row, head), heads of q, then of k, then of v. */
extern "C" __global__ void rope_and_store(const __grid_constant__ dev_kv kv, const __grid_constant__ rope_job j) {
    let_successor_start();
    after_predecessor();
    int    row = blockIdx.x, h = blockIdx.y, E = j.E;
    size_t at = slot_of(kv, j.layer, j.tables + j.row_table[row], j.pos[row]);
    if (h >= j.heads + j.kv_heads) { /* a value head */
        h -= j.heads + j.kv_heads;
        const float *v = j.v + ((size_t)row * j.kv_heads + h) * E;
        for (int e = threadIdx.x; e < E; e += blockDim.x)
            if (kv.f16)
                ((__half *)kv.v)[at + (size_t)h * E + e] = __float2half_rn(v[e]);
            else
                ((float *)kv.v)[at + (size_t)h * E + e] = v[e];
        return;
    }
    bool   key = h >= j.heads;
    int    head = key ? h - j.heads : h;
    float *x = key ? j.k + ((size_t)row * j.kv_heads + head) * E : j.q + ((size_t)row * j.heads + head) * E;
    for (int i = threadIdx.x; i < E / 2 + (E - 2 * j.half) / 2 + 1; i += blockDim.x) {
        int a, b;
        if (i < j.half) {
            a = j.neox ? i : 2 * i, b = j.neox ? i + j.half : 2 * i + 1;
            rotate(x[a], x[b], ((const float2 *)j.turns)[(size_t)row * j.half + i], &x[a], &x[b]);
        } else { /* what is not rotated */
            a = 2 * j.half + 2 * (i - j.half), b = a + 1;
        }
        for (int side = 0; key && side < 2; side++) {
            int e = side ? b : a;
            if (e < E && kv.f16)
                ((__half *)kv.k)[at + (size_t)head * E + e] = __float2half_rn(x[e]);
            else if (e < E)
                ((float *)kv.k)[at + (size_t)head * E + e] = x[e];
        }
    }
}

/* ---- attention ------------------------------------------------------------------------------------------------------------ */

/* Block (row, kv head, chunk of ATTN_CHUNK positions): the G query heads of that kv head, partial softmax.  Chunks begin at
 * multiples of ATTN_CHUNK whatever the batch, and the block that ends last adds them in order. */
template <typename T> __device__ static float kv_dot(const T *k, const float *q, int E) {
    float s[4] = {};
    for (int e = 0; e < E; e++)
        s[e % 4] = fmaf((float)k[e], q[e], s[e % 4]);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

template <typename T> __device__ static void attend(const attn_job &j) {
    extern __shared__ float room[];
    __shared__ int          last;
    let_successor_start();
    after_predecessor();
    int row = blockIdx.x, head = blockIdx.y, chunk = blockIdx.z, n = j.pos[row] + 1, first = chunk * ATTN_CHUNK, G = j.group, E = j.E, tid = threadIdx.x;
    if (first >= n)
        return;
    int        count = min(ATTN_CHUNK, n - first), n_chunks = (n + ATTN_CHUNK - 1) / ATTN_CHUNK;
    const int *table = j.tables + j.row_table[row];
    float     *q = room, *score = q + G * E;              /* [G][E], [G][ATTN_CHUNK] */
    unsigned  *slot = (unsigned *)(score + G * ATTN_CHUNK); /* position of the chunk to its place, in widths */
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
    /* one thread an element of a head, eight positions at a time */
    for (int e = tid; e < G * E; e += blockDim.x) {
        int          g = e / E, d = e % E, p = 0;
        const float *w = score + g * ATTN_CHUNK;
        float        s[4] = {};
        for (; p + 8 <= count; p += 8) {
            float v[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                v[i] = (float)V[(size_t)slot[p + i] * j.kv.width + d];
#pragma unroll
            for (int i = 0; i < 8; i++)
                s[i % 4] = fmaf(w[p + i], v[i], s[i % 4]);
        }
        for (int i = 0; p < count; p++, i++)
            s[i % 4] = fmaf(w[p], (float)V[(size_t)slot[p] * j.kv.width + d], s[i % 4]);
        j.out[(part0 + (size_t)g * j.chunks) * E + d] = (s[0] + s[1]) + (s[2] + s[3]);
    }
    /* the block that ends last adds the chunks up, in their order */
    if (n_chunks > 1) {
        __threadfence();
        __syncthreads();
        if (tid == 0)
            last = atomicInc(&j.done[(size_t)row * gridDim.y + head], (unsigned)n_chunks - 1) == (unsigned)n_chunks - 1;
        __syncthreads();
        if (!last)
            return;
        __threadfence();
    } else {
        __syncthreads();
    }
    for (int e = tid; e < G * E; e += blockDim.x) {
        size_t at = ((size_t)row * j.heads + head * G + e / E) * j.chunks;
        float  most = -INFINITY, total = 0, s = 0;
        for (int c = 0; c < n_chunks; c++)
            most = fmaxf(most, __ldcg(&j.most[at + c]));
        for (int c = 0; c < n_chunks; c++) {
            float f = __expf(__ldcg(&j.most[at + c]) - most);
            total = fmaf(__ldcg(&j.sum[at + c]), f, total);
            s = fmaf(__ldcg(&j.out[(at + c) * E + e % E]), f, s);
        }
        store_as(j.y.q, ((size_t)row * j.heads + head * G) * E + e, s / total, j.to);
    }
}
extern "C" __global__ void __launch_bounds__(128) attend_f16(const __grid_constant__ attn_job j) { attend<__half>(j); }
extern "C" __global__ void __launch_bounds__(128) attend_f32(const __grid_constant__ attn_job j) { attend<float>(j); }

/* Element i of the result; whole warps come with 32 elements of one group. */
__device__ static void store_attended(const attn_job &j, size_t i, float v) {
    if (j.to == TO_Q8)
        quantize_group(v, (int)(i / (j.heads * j.E)), (int)(i % (j.heads * j.E)) / 32, j.heads * j.E, j.y.pad, (int8_t *)j.y.q, j.y.s, j.y.t);
    else
        store_as(j.y.q, i, v, j.to);
}

/* The same for caches in float16 whose heads are 64 or 128 wide, the usual case: E / 8 lanes read a position's key or value side by
 * side.  A block takes GT query heads of a kv head; keys and values of the whole chunk are fetched at once.
 * j.fused: no row attends to another one of this pass.  Then the block rotates its queries itself, the block of the last chunk
 * rotates and stores the row's own key and value, and all older ones are fetched before the projections are done. */
template <int E, int GT> __device__ static void attend_wide(const attn_job &j) {
    constexpr int LANES = E / 8, SIDE = WARP / LANES, WARPS = 8, AT_ONCE = WARPS * SIDE, STEPS = ATTN_CHUNK / AT_ONCE;
    __shared__ __align__(16) float  q[GT][E], score[GT][ATTN_CHUNK], red[WARPS][GT][E];
    __shared__ __align__(16) __half own_k[E], own_v[E];
    __shared__ unsigned             slot[ATTN_CHUNK];
    __shared__ float                total_of[GT];
    __shared__ int                  last;
    let_successor_start();
    if (!j.fused)
        after_predecessor();
    const int row = blockIdx.x, kv_head = blockIdx.y / j.parts, part = blockIdx.y % j.parts, chunk = blockIdx.z + j.skipped, tid = threadIdx.x, warp = tid / WARP, lane = tid % WARP,
              side = lane / LANES, sub = lane % LANES, n = j.pos[row] + 1, first = chunk * ATTN_CHUNK, skip = j.fused ? j.skip[row] : 0, G = j.group, head0 = kv_head * G + part * GT, heads = min(GT, G - part * GT);
    if (first >= n || chunk < skip) {
        if (j.fused)
            after_predecessor();
        return;
    }
    const int  count = min(ATTN_CHUNK, n - first), n_chunks = (n + ATTN_CHUNK - 1) / ATTN_CHUNK, own = j.fused && first + count == n ? count - 1 : -1;
    const int *table = j.tables + j.row_table[row];
    for (int p = tid; p < count; p += blockDim.x)
        slot[p] = (unsigned)(slot_of(j.kv, j.layer, table, first + p) / j.kv.width);
    __syncthreads();
    const __half *K = (const __half *)j.kv.k + (size_t)kv_head * E + sub * 8, *V = (const __half *)j.kv.v + (size_t)kv_head * E + sub * 8;
    uint4         key[STEPS], value[STEPS];
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        int p = i * AT_ONCE + warp * SIDE + side;
        if (p < count && p != own)
            key[i] = *(const uint4 *)(K + (size_t)slot[p] * j.kv.width);
    }
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        int p = i * AT_ONCE + warp * SIDE + side;
        if (p < count && p != own)
            value[i] = *(const uint4 *)(V + (size_t)slot[p] * j.kv.width);
        else
            value[i] = {0, 0, 0, 0};
    }
    if (j.fused) {
        after_predecessor();
        constexpr int PAIRS = E / 2;
#pragma unroll 2
        for (int e = tid; e < (heads + (own >= 0)) * PAIRS; e += blockDim.x) {
            int          h = e / PAIRS, i = e % PAIRS, a = i < j.half ? (j.neox ? i : 2 * i) : 2 * j.half + 2 * (i - j.half), b = i < j.half && j.neox ? i + j.half : a + 1;
            const float *x = h < heads ? j.q + ((size_t)row * j.heads + head0 + h) * E : j.k + ((size_t)row * (j.heads / G) + kv_head) * E;
            float        u = x[a], w = x[b];
            if (i < j.half)
                rotate(u, w, ((const float2 *)j.turns)[(size_t)row * j.half + i], &u, &w);
            if (h < heads)
                q[h][a] = u * j.scale, q[h][b] = w * j.scale;
            else
                own_k[a] = __float2half_rn(u), own_k[b] = __float2half_rn(w);
        }
        if (own >= 0)
            for (int e = tid; e < E; e += blockDim.x)
                own_v[e] = __float2half_rn(j.v[((size_t)row * (j.heads / G) + kv_head) * E + e]);
    } else {
        for (int e = tid; e < heads * E; e += blockDim.x)
            q[e / E][e % E] = j.q[((size_t)row * j.heads + head0) * E + e] * j.scale;
    }
    __syncthreads();
    if (own >= 0 && part == 0 && tid < 2 * LANES) { /* into the cache */
        __half *to = (__half *)(tid < LANES ? j.kv.k : j.kv.v) + (size_t)slot[own] * j.kv.width + (size_t)kv_head * E + tid % LANES * 8;
        *(uint4 *)to = *(const uint4 *)((tid < LANES ? own_k : own_v) + tid % LANES * 8);
    }
    float mine[GT][8];
#pragma unroll
    for (int g = 0; g < GT; g++)
#pragma unroll
        for (int e = 0; e < 8; e++)
            mine[g][e] = q[g < heads ? g : 0][sub * 8 + e];
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        int   p = i * AT_ONCE + warp * SIDE + side;
        float f[8], s[GT];
        if (p == own)
            key[i] = *(const uint4 *)(own_k + sub * 8), value[i] = *(const uint4 *)(own_v + sub * 8);
        if (i * AT_ONCE >= count) /* the whole block */
            break;
        widen(key[i], (const __half *)nullptr, f);
#pragma unroll
        for (int g = 0; g < GT; g++) {
            s[g] = 0;
#pragma unroll
            for (int e = 0; e < 8; e++)
                s[g] = fmaf(f[e], mine[g][e], s[g]);
        }
#pragma unroll
        for (int o = LANES / 2; o > 0; o /= 2)
#pragma unroll
            for (int g = 0; g < GT; g++)
                s[g] += __shfl_xor_sync(FULL, s[g], o);
        if (sub == 0 && p < count)
#pragma unroll
            for (int g = 0; g < GT; g++)
                score[g][p] = s[g];
    }
    __syncthreads();
    const size_t part0 = ((size_t)row * j.heads + head0) * j.chunks + chunk;
    if (warp < heads) {
        float most = -INFINITY, sum = 0;
        for (int p = lane; p < count; p += WARP)
            most = fmaxf(most, score[warp][p]);
        most = warp_max(most);
        for (int p = lane; p < count; p += WARP) {
            float w = __expf(score[warp][p] - most);
            score[warp][p] = w;
            sum += w;
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            total_of[warp] = sum;
            j.most[part0 + (size_t)warp * j.chunks] = most;
            j.sum[part0 + (size_t)warp * j.chunks] = sum;
        }
    }
    __syncthreads();
    float acc[GT][8] = {};
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        int   p = i * AT_ONCE + warp * SIDE + side;
        float f[8];
        if (i * AT_ONCE >= count)
            break;
        widen(value[i], (const __half *)nullptr, f);
#pragma unroll
        for (int g = 0; g < GT; g++) {
            float w = p < count ? score[g < heads ? g : 0][p] : 0;
#pragma unroll
            for (int e = 0; e < 8; e++)
                acc[g][e] = fmaf(w, f[e], acc[g][e]);
        }
    }
#pragma unroll
    for (int g = 0; g < GT; g++)
#pragma unroll
        for (int e = 0; e < 8; e++) {
#pragma unroll
            for (int o = LANES; o < WARP; o *= 2)
                acc[g][e] += __shfl_xor_sync(FULL, acc[g][e], o);
            if (side == 0)
                red[warp][g][sub * 8 + e] = acc[g][e];
        }
    __syncthreads();
    for (int e = tid; e < heads * E; e += blockDim.x) {
        float s = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            s += red[w][e / E][e % E];
        if (n_chunks > 1)
            j.out[(part0 + (size_t)(e / E) * j.chunks) * E + e % E] = s;
        else
            store_attended(j, ((size_t)row * j.heads + head0) * E + e, s / total_of[e / E]);
    }
    if (n_chunks == 1)
        return;
    /* the block that ends last adds the chunks up, in their order */
    if (n_chunks - skip > 1) {
        __threadfence();
        __syncthreads();
        if (tid == 0)
            last = atomicInc(&j.done[(size_t)row * gridDim.y + blockIdx.y], (unsigned)(n_chunks - skip) - 1) == (unsigned)(n_chunks - skip) - 1;
        __syncthreads();
        if (!last)
            return;
        __threadfence();
    }
    /* chunks' weights, 32 at a time: a warp a head; then their sums, eight in flight */
    float *weight = &score[0][0], most = -INFINITY, total = 0, sum[(GT * E + 255) / 256] = {};
    size_t at = ((size_t)row * j.heads + head0 + (warp < heads ? warp : 0)) * j.chunks;
    for (int c = lane; c < n_chunks; c += WARP)
        most = fmaxf(most, __ldcg(&j.most[at + c]));
    most = warp_max(most);
    for (int c0 = 0; c0 < n_chunks; c0 += WARP) {
        float f = c0 + lane < n_chunks ? __expf(__ldcg(&j.most[at + c0 + lane]) - most) : 0.0f;
        total += warp_sum(c0 + lane < n_chunks ? __ldcg(&j.sum[at + c0 + lane]) * f : 0.0f);
        __syncthreads();
        if (warp < heads)
            weight[warp * ATTN_CHUNK + lane] = f, total_of[warp] = total;
        __syncthreads();
#pragma unroll
        for (int o = 0; o < (GT * E + 255) / 256; o++) {
            const int e = tid + o * 256;
            if (e >= heads * E)
                break;
            const float *v = j.out + (((size_t)row * j.heads + head0 + e / E) * j.chunks + c0) * E + e % E, *w = weight + e / E * ATTN_CHUNK;
            for (int c = 0; c < min(WARP, n_chunks - c0); c += 8) {
                float part[8];
#pragma unroll
                for (int i = 0; i < 8; i++)
                    part[i] = c0 + c + i < n_chunks ? __ldcg(v + (size_t)(c + i) * E) : 0.0f;
#pragma unroll
                for (int i = 0; i < 8; i++)
                    sum[o] = fmaf(part[i], w[c + i], sum[o]);
            }
        }
    }
#pragma unroll
    for (int o = 0; o < (GT * E + 255) / 256; o++)
        if (tid + o * 256 < heads * E)
            store_attended(j, ((size_t)row * j.heads + head0) * E + tid + o * 256, sum[o] / total_of[(tid + o * 256) / E]);
}
#define WIDE(E, GT) \
    extern "C" __global__ void __launch_bounds__(256) attend_##E##_##GT(const __grid_constant__ attn_job j) { attend_wide<E, GT>(j); }
WIDE(64, 1) WIDE(64, 2) WIDE(64, 3) WIDE(64, 4) WIDE(128, 1) WIDE(128, 2) WIDE(128, 3) WIDE(128, 4)

/* ---- small ------------------------------------------------------------------------------------------------------------------- */

/* ---- what rows have in common ------------------------------------------------------------------------------------------------- */

/* Rows that share the pages of their first positions (beams, candidates, samples of one prompt) read these once, on the tensor cores:
 * block (tile of SHARED_ROWS rows, kv head, chunk), each warp a query head of all the rows.  Partial results go where attend_wide, which
 * does the rows' own chunks and then adds up, finds them.  Queries and weights are rounded to float16. */
template <int E> __device__ static void attend_shared(const attn_job &j) {
    constexpr int            STRIDE = E + 8, PIECES = E / 8, WARPS = 4, NP = ATTN_CHUNK / 8;
    extern __shared__ uint4  kept[];
    __shared__ unsigned      slot[ATTN_CHUNK];
    let_successor_start();
    const int row0 = j.tiles[2 * blockIdx.x], rows = j.tiles[2 * blockIdx.x + 1] & 255, kv_head = blockIdx.y, chunk = blockIdx.z, tid = threadIdx.x, warp = tid / WARP, lane = tid % WARP, g = lane / 4,
              t = lane % 4, G = j.group;
    if (chunk >= j.tiles[2 * blockIdx.x + 1] >> 8) {
        after_predecessor();
        return;
    }
    __half *K = (__half *)kept, *V = K + ATTN_CHUNK * STRIDE, *Q = V + ATTN_CHUNK * STRIDE + warp * SHARED_ROWS * STRIDE;
    slot[tid] = (unsigned)(slot_of(j.kv, j.layer, j.tables + j.row_table[row0], chunk * ATTN_CHUNK + tid) / j.kv.width);
    __syncthreads();
    for (int i = tid; i < ATTN_CHUNK * PIECES; i += WARPS * WARP) {
        const int    p = i / PIECES, e = i % PIECES * 8;
        const size_t from = (size_t)slot[p] * j.kv.width + (size_t)kv_head * E + e;
        copy16(shared_address(K + p * STRIDE + e), (const __half *)j.kv.k + from);
        copy16(shared_address(V + p * STRIDE + e), (const __half *)j.kv.v + from);
    }
    copies_end_group();
    after_predecessor();
    constexpr int PAIRS = E / 2;
    for (int h0 = 0; h0 < G; h0 += WARPS) {
        const int h = h0 + warp;
        __syncwarp();
#pragma unroll 8
        for (int e = lane; e < (h < G ? SHARED_ROWS * PAIRS : 0); e += WARP) {
            const int r = e / PAIRS, i = e % PAIRS, a = i < j.half ? (j.neox ? i : 2 * i) : 2 * j.half + 2 * (i - j.half), b = i < j.half && j.neox ? i + j.half : a + 1;
            float     u = 0, w = 0;
            if (r < rows) {
                const float *x = j.q + ((size_t)(row0 + r) * j.heads + kv_head * G + h) * E;
                u = x[a], w = x[b];
                if (i < j.half)
                    rotate(u, w, ((const float2 *)j.turns)[(size_t)(row0 + r) * j.half + i], &u, &w);
            }
            Q[r * STRIDE + a] = __float2half_rn(u * j.scale), Q[r * STRIDE + b] = __float2half_rn(w * j.scale);
        }
        if (h0 == 0) {
            copies_wait();
            __syncthreads();
        }
        __syncwarp();
        if (h >= G)
            continue;
        float s[NP][4] = {};
#pragma unroll
        for (int k = 0; k < E / 16; k++) {
            uint32_t a[4], b[4];
            load4(a, shared_address(Q + lane % 16 * STRIDE + k * 16 + lane / 16 * 8));
#pragma unroll
            for (int n = 0; n < NP; n += 2) {
                load4(b, shared_address(K + (n * 8 + lane / 16 * 8 + lane % 8) * STRIDE + k * 16 + lane / 8 % 2 * 8));
                multiply_add(s[n], a, b[0], b[1]);
                multiply_add(s[n + 1], a, b[2], b[3]);
            }
        }
        float most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
#pragma unroll
        for (int n = 0; n < NP; n++)
            most[0] = fmaxf(most[0], fmaxf(s[n][0], s[n][1])), most[1] = fmaxf(most[1], fmaxf(s[n][2], s[n][3]));
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int o = 1; o < 4; o *= 2)
                most[i] = fmaxf(most[i], __shfl_xor_sync(FULL, most[i], o));
#pragma unroll
        for (int n = 0; n < NP; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[n][e] = __expf(s[n][e] - most[e / 2]);
                sum[e / 2] += s[n][e];
            }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int o = 1; o < 4; o *= 2)
                sum[i] += __shfl_xor_sync(FULL, sum[i], o);
        float y[E / 8][4] = {};
#pragma unroll
        for (int k = 0; k < ATTN_CHUNK / 16; k++) {
            const uint32_t a[4] = {pack(s[2 * k][0], s[2 * k][1]), pack(s[2 * k][2], s[2 * k][3]), pack(s[2 * k + 1][0], s[2 * k + 1][1]), pack(s[2 * k + 1][2], s[2 * k + 1][3])};
            uint32_t       b[4];
#pragma unroll
            for (int n = 0; n < E / 8; n += 2) {
                load4_transposed(b, shared_address(V + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * STRIDE + n * 8 + lane / 16 * 8));
                multiply_add(y[n], a, b[0], b[1]);
                multiply_add(y[n + 1], a, b[2], b[3]);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (g + 8 * i >= rows)
                continue;
            const size_t at = ((size_t)(row0 + g + 8 * i) * j.heads + kv_head * G + h) * j.chunks + chunk;
#pragma unroll
            for (int n = 0; n < E / 8; n++)
                *(float2 *)(j.out + at * E + n * 8 + 2 * t) = {y[n][2 * i], y[n][2 * i + 1]};
            if (t == 0)
                j.most[at] = most[i], j.sum[at] = sum[i];
        }
    }
}
extern "C" __global__ void __launch_bounds__(128) attend_shared_64(const __grid_constant__ attn_job j) { attend_shared<64>(j); }
extern "C" __global__ void __launch_bounds__(128) attend_shared_128(const __grid_constant__ attn_job j) { attend_shared<128>(j); }
