/* Looking back on the card: similarity of hidden states with those before (contrastive search, FSD), and distributions contrasted
 * with earlier layers' or an amateur's (DoLa, contrastive decoding).  Meanings are those of jpt/backend.h and jpt/select.h. */
#include "device.cuh"

/* ---- hidden states --------------------------------------------------------------------------------------------- */

/* Sum over a block of at most 1024 threads, in a fixed order, in every thread. */
__device__ static float block_sum(float v) {
    __shared__ float part[WARP];
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % WARP < blockDim.x / WARP ? part[threadIdx.x % WARP] : 0.0f);
}

/* Block a row: y = x, or x / |x|.  best (may be null): similarity's results, emptied. */
extern "C" __global__ void __launch_bounds__(1024) keep_rows(const float *x, int D, int unit, float *y, unsigned *best) {
    after_predecessor();
    let_successor_start();
    const float *row = x + (size_t)blockIdx.x * D;
    float       *out = y + (size_t)blockIdx.x * D, norm = 0;
    if (best && threadIdx.x == 0)
        best[blockIdx.x] = 0;
    if (unit) {
        for (int k = threadIdx.x; k < D; k += blockDim.x)
            norm = fmaf(row[k], row[k], norm);
        norm = sqrtf(block_sum(norm));
    }
    float by = norm > 0 ? norm : 1.0f;
    for (int k = threadIdx.x; k < D; k += blockDim.x)
        out[k] = row[k] / by;
}

/* Totals over the warp of 32 values a lane: lane l gets that of value l. */
template <int O> __device__ static float totals(float (&v)[2 * O]) {
    bool  upper = threadIdx.x & O;
    float half[O];
#pragma unroll
    for (int i = 0; i < O; i++) {
        float keep = upper ? v[i + O] : v[i], give = upper ? v[i] : v[i + O];
        half[i] = keep + __shfl_xor_sync(FULL, give, O);
    }
    if constexpr (O > 1)
        return totals<O / 2>(half);
    else
        return half[0];
}

/* Block (R rows of the history, NC candidates): all threads share the columns, so that the history is read once and in long lines
 * while the candidates come from L1.  best[c]: sortable maximum. */
template <int NC, int R> __device__ static void similarity(const float *x, const float *h, int n, int D, int m, unsigned *best) {
    static_assert(NC * R % WARP == 0 && NC <= WARP, "whole warps of values, a history row in one");
    __shared__ float red[8][NC * R];
    after_predecessor();
    let_successor_start();
    int          c0 = blockIdx.y * NC, nc = min(NC, n - c0), tid = threadIdx.x, warp = tid / WARP, lane = tid % WARP;
    const float *row[R];
    float        acc[R][NC] = {};
#pragma unroll
    for (int r = 0; r < R; r++)
        row[r] = h + (size_t)min((int)(blockIdx.x * R + r), m - 1) * D;
    x += (size_t)c0 * D;
    if (D % 4 == 0) {
        for (int k = tid * 4; k < D; k += 256 * 4) {
            float4 a[R];
#pragma unroll
            for (int r = 0; r < R; r++)
                a[r] = *(const float4 *)(row[r] + k);
#pragma unroll
            for (int c = 0; c < NC; c++) {
                if (c >= nc)
                    break;
                float4 b = *(const float4 *)(x + (size_t)c * D + k);
#pragma unroll
                for (int r = 0; r < R; r++)
                    acc[r][c] = fmaf(a[r].w, b.w, fmaf(a[r].z, b.z, fmaf(a[r].y, b.y, fmaf(a[r].x, b.x, acc[r][c]))));
            }
        }
    } else {
        for (int k = tid; k < D; k += 256)
#pragma unroll
            for (int c = 0; c < NC; c++) {
                if (c >= nc)
                    break;
#pragma unroll
                for (int r = 0; r < R; r++)
                    acc[r][c] = fmaf(row[r][k], x[(size_t)c * D + k], acc[r][c]);
            }
    }
#pragma unroll
    for (int g = 0; g < NC * R / WARP; g++) {
        float v[WARP];
#pragma unroll
        for (int i = 0; i < WARP; i++)
            v[i] = acc[(g * WARP + i) / NC][(g * WARP + i) % NC];
        red[warp][g * WARP + lane] = totals<WARP / 2>(v);
    }
    __syncthreads();
    if (tid >= nc)
        return;
    float most = -INFINITY;
    for (int r = 0; r < R; r++) {
        float dot = 0;
        for (int w = 0; w < 8; w++)
            dot += red[w][r * NC + tid];
        most = fmaxf(most, dot);
    }
    atomicMax(&best[c0 + tid], sortable(most));
}
extern "C" __global__ void __launch_bounds__(256) similarity_8(const float *x, const float *h, int n, int D, int m, unsigned *best) { similarity<8, 4>(x, h, n, D, m, best); }
extern "C" __global__ void __launch_bounds__(256) similarity_32(const float *x, const float *h, int n, int D, int m, unsigned *best) { similarity<32, 2>(x, h, n, D, m, best); }

/* Block a pair: h[a] . h[b]. */
extern "C" __global__ void __launch_bounds__(256) row_dots(const float *h, int D, const int *a, const int *b, float *out) {
    after_predecessor();
    let_successor_start();
    const float *x = h + (size_t)a[blockIdx.x] * D, *y = h + (size_t)b[blockIdx.x] * D;
    float        sum = 0;
    if (D % 4 == 0) {
        for (int k = threadIdx.x * 4; k < D; k += blockDim.x * 4) {
            float4 p = *(const float4 *)(x + k), q = *(const float4 *)(y + k);
            sum = fmaf(p.w, q.w, fmaf(p.z, q.z, fmaf(p.y, q.y, fmaf(p.x, q.x, sum))));
        }
    } else {
        for (int k = threadIdx.x; k < D; k += blockDim.x)
            sum = fmaf(x[k], y[k], sum);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[blockIdx.x] = sum;
}

/* ---- contrast ------------------------------------------------------------------------------------------------------ */

__device__ static const float *base_row(const contrast_job &j, int i, int e) { return j.base + ((size_t)e * j.stride + j.base_row[i]) * j.V; }

__device__ static row_part *parts_of(const contrast_job &j, int i, int b) { return j.parts + ((size_t)i * (1 + j.n_base) + b) * j.n_parts; }

/* Grid (parts, 1 + bases, rows): what the log-softmax of the expert's row and of its bases needs. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) contrast_stats(const __grid_constant__ contrast_job j) {
    __shared__ part_room s;
    float                x[ROW_EACH];
    after_predecessor();
    let_successor_start();
    int i = blockIdx.z, b = blockIdx.y;
    load_part(b == 0 ? j.logits + (size_t)j.row[i] * j.V : base_row(j, i, b - 1), j.V, x);
    if (b > 0 && j.form == C_LOGPROBS)
#pragma unroll
        for (int e = 0; e < ROW_EACH; e++)
            x[e] /= j.temperature;
    row_part p = sum_part(s, x);
    if (threadIdx.x == 0)
        parts_of(j, i, b)[blockIdx.x] = p;
}

__device__ static float log_cosh(float x) {
    x = fabsf(x);
    if (x > 0.5f)
        return x + log1pf(expf(-2.0f * x)) - 0.69314718f;
    float q = x * x; /* x^2/2 - x^4/12 + x^6/45 - 17 x^8/2520 + 31 x^10/14175 */
    return q * (0.5f + q * (-8.3333333e-2f + q * (2.2222222e-2f + q * (-6.7460317e-3f + q * 2.1869489e-3f))));
}

/* Grid (parts, rows): DoLa's divergence of each base from the expert, (p + q) / 2 ln cosh((ln p - ln q) / 2) summed over the
 * vocabulary; the block that ends last adds the parts up in their order and picks the first of the largest. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) dola_divergence(const __grid_constant__ contrast_job j) {
    __shared__ float  most[1 + CONTRAST_BASES], log_sum[1 + CONTRAST_BASES], red[ROW_THREADS / WARP][CONTRAST_BASES];
    __shared__ double total[CONTRAST_BASES];
    __shared__ int    last;
    after_predecessor();
    let_successor_start();
    int i = blockIdx.y, tid = threadIdx.x, warp = tid / WARP, lane = tid % WARP, from = blockIdx.x * ROW_PART + tid;
    for (int b = warp; b <= j.n_base; b += ROW_THREADS / WARP) {
        float m, l;
        bool  no_nan;
        merge_parts(parts_of(j, i, b), j.n_parts, &m, &l, &no_nan);
        if (lane == 0)
            most[b] = m, log_sum[b] = l;
    }
    float x[ROW_EACH], p[ROW_EACH];
    load_part(j.logits + (size_t)j.row[i] * j.V, j.V, x);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < ROW_EACH; k++) {
        x[k] = (x[k] - most[0]) - log_sum[0];
        p[k] = expf(x[k]);
    }
    for (int e = 0; e < j.n_base; e++) {
        float y[ROW_EACH], sum = 0;
        load_part(base_row(j, i, e), j.V, y);
#pragma unroll
        for (int k = 0; k < ROW_EACH; k++) {
            float q = (y[k] - most[1 + e]) - log_sum[1 + e], a = 0.5f * (p[k] + expf(q));
            if (from + k * ROW_THREADS < j.V && a > 0)
                sum += a * log_cosh(0.5f * (x[k] - q));
        }
        sum = warp_sum(sum);
        if (lane == 0)
            red[warp][e] = sum;
    }
    __syncthreads();
    double *js = j.js + (size_t)i * j.n_parts * j.n_base;
    if (tid < j.n_base) {
        double sum = 0;
        for (int w = 0; w < ROW_THREADS / WARP; w++)
            sum += (double)red[w][tid];
        js[(size_t)blockIdx.x * j.n_base + tid] = sum;
    }
    __threadfence();
    __syncthreads();
    if (tid == 0)
        last = atomicInc(&j.done[i], (unsigned)j.n_parts - 1) == (unsigned)j.n_parts - 1;
    __syncthreads();
    if (!last)
        return;
    __threadfence();
    if (tid < j.n_base) {
        double sum = 0;
        for (int part = 0; part < j.n_parts; part++)
            sum += __ldcg(&js[(size_t)part * j.n_base + tid]);
        total[tid] = sum;
    }
    __syncthreads();
    if (tid == 0) {
        int best = 0;
        for (int e = 1; e < j.n_base; e++)
            best = total[e] > total[best] ? e : best;
        j.chosen[i] = best;
    }
}

/* Grid (parts, rows): contrasted scores over the logits, the expert's ln p beside them. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) contrast_write(const __grid_constant__ contrast_job j) {
    after_predecessor();
    let_successor_start();
    int   i = blockIdx.y, e = j.n_base > 1 ? j.chosen[i] : 0, from = blockIdx.x * ROW_PART + threadIdx.x;
    float m, l, mb, lb, x[ROW_EACH], y[ROW_EACH], *z = j.logits + (size_t)j.row[i] * j.V, *logp = j.logp + (size_t)j.row[i] * j.V;
    bool  no_nan, ok = merge_parts(parts_of(j, i, 0), j.n_parts, &m, &l, &no_nan), base_ok = merge_parts(parts_of(j, i, 1 + e), j.n_parts, &mb, &lb, &no_nan);
    load_part(z, j.V, x);
    load_part(base_row(j, i, e), j.V, y);
    ok = ok && (base_ok || j.form == C_LOGITS);
    float bound = j.log_top - l;
#pragma unroll
    for (int k = 0; k < ROW_EACH; k++) {
        int   v = from + k * ROW_THREADS;
        float p = (x[k] - m) - l, c;
        if (j.form == C_LOGITS)
            c = (1.0f + j.beta) * x[k] - j.beta * y[k];
        else if (j.form == C_DOLA)
            c = p - ((y[k] - mb) - lb);
        else
            c = p - j.beta * ((y[k] / j.temperature - mb) - lb);
        if (v < j.V) {
            z[v] = !ok ? NAN : p < bound ? -INFINITY : c;
            logp[v] = ok ? p : NAN;
        }
    }
}
