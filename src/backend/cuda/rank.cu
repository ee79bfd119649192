/* The k best of rows of scores, over all their blocks: beam search's and contrastive search's step (jpt_topk_scores).
 *
 * A block holds a part of a row in shared memory: the chain's edits fall on it there, it finds its own k best by radix selection, and
 * the block of a row that ends last picks the row's k best among the parts'.  Of equals the lower id wins; the order in which the k
 * come out is left to the host. */
#include "device.cuh"

enum { DIGITS = 256 }; /* of eight bits; one a thread */

typedef struct rank_room {
    part_room part;
    float     z[ROW_PART];
    unsigned  key[ROW_PART], bin[DIGITS], warp[ROW_THREADS / WARP], digit, above, n_out;
    int       last;
} rank_room;

/* The k-th largest of the keys that are not 0, of which there are at least k >= 1; *greater: how many are above it. */
template <typename Key> __device__ static unsigned kth_key(rank_room &s, int n, Key key, unsigned k, unsigned *greater) {
    int      tid = threadIdx.x, lane = tid % WARP;
    unsigned prefix = 0, left = k;
    for (int shift = 24; shift >= 0; shift -= 8) {
        s.bin[tid] = 0;
        __syncthreads();
        for (int first = 0; first < n; first += ROW_THREADS) { /* all lanes go along */
            unsigned u = first + tid < n ? key(first + tid) : 0, d = u >> shift & (DIGITS - 1);
            bool     in = u != 0 && (shift == 24 || u >> (shift + 8) == prefix);
            unsigned there = __ballot_sync(FULL, in);
            if (in) { /* scores crowd in few bins: one addition for all lanes of one */
                unsigned peers = __match_any_sync(there, d);
                if (lane == __ffs(peers) - 1)
                    atomicAdd(&s.bin[d], (unsigned)__popc(peers));
            }
            __syncwarp();
        }
        __syncthreads();
        unsigned own = s.bin[DIGITS - 1 - tid], run = own; /* running sums from the largest digit down */
        for (int o = 1; o < WARP; o *= 2) {
            unsigned t = __shfl_up_sync(FULL, run, o);
            run += lane >= o ? t : 0;
        }
        if (lane == WARP - 1)
            s.warp[tid / WARP] = run;
        __syncthreads();
        for (int w = 0; w < tid / WARP; w++)
            run += s.warp[w];
        if (run >= left && run - own < left)
            s.digit = DIGITS - 1 - tid, s.above = run - own;
        __syncthreads();
        prefix = prefix << 8 | s.digit;
        left -= s.above;
    }
    *greater = k - left;
    return prefix;
}

/* take(place, i) for the k best of n entries (all that have a key when there are fewer), the lower id first among equals; the places are
 * 0, 1, ... in no order.  Returns how many. */
template <typename Key, typename Id, typename Take> __device__ static unsigned k_best(rank_room &s, int n, Key key, Id id, unsigned k, Take take) {
    int      tid = threadIdx.x;
    unsigned K = 1, I = 0, greater = 0;
    int      have = 0;
    for (int first = 0; first < n; first += ROW_THREADS)
        have += __syncthreads_count(first + tid < n && key(first + tid) != 0);
    if ((unsigned)have > k) {
        K = kth_key(s, n, key, k, &greater);
        int ties = 0;
        for (int first = 0; first < n; first += ROW_THREADS)
            ties += __syncthreads_count(first + tid < n && key(first + tid) == K);
        if ((unsigned)ties > k - greater) {
            unsigned above;
            I = kth_key(s, n, [&](int i) { return key(i) == K ? ~(unsigned)id(i) : 0u; }, k - greater, &above);
        }
    }
    if (tid == 0)
        s.n_out = 0;
    __syncthreads();
    for (int i = tid; i < n; i += ROW_THREADS) {
        unsigned u = key(i);
        if (u > K || (u == K && ~(unsigned)id(i) >= I))
            take(atomicAdd(&s.n_out, 1u), i);
    }
    __syncthreads();
    unsigned n_out = s.n_out;
    __syncthreads();
    return n_out;
}

/* Philox 4x32-10 as in src/base/rng.c: Gumbel noise of a token by the row's key. */
__device__ static float gumbel(const rank_job &j, int token) {
    uint32_t c0 = j.step, c1 = j.sequence, c2 = j.prompt, c3 = 2u + (uint32_t)token, k0 = j.seed_low, k1 = j.seed_high;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b, c3 = (uint32_t)a, c0 = n0, c2 = n2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    double u = (double)(((uint64_t)c0 << 32 | c1) >> 11) * 0x1p-53;
    return -(float)log(-log(u + 0x1p-54));
}

/* Grid (parts, rows): what a row's log-softmax needs. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS) rank_stats(const float *logits, int V, const rank_job *jobs, row_part *parts) {
    __shared__ part_room s;
    float                x[ROW_EACH];
    after_predecessor();
    let_successor_start();
    load_part(logits + (size_t)jobs[blockIdx.y].row * V, V, x);
    row_part p = sum_part(s, x);
    if (threadIdx.x == 0)
        parts[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = p;
}

/* Grid (parts, rows).  before: rank_stats'; after: [rows, parts] room; entries: [rows, parts, k] room; done: [rows], zero between launches. */
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    rank_rows(const float *logits, int V, const rank_job *jobs, const edit *edits, const row_part *before, row_part *after, rank_entry *entries, unsigned *done, int k,
              rank_row *info, rank_entry *out) {
    __shared__ rank_room s;
    after_predecessor();
    let_successor_start();
    const rank_job &j = jobs[blockIdx.y];
    int             tid = threadIdx.x, n_parts = gridDim.x, from = blockIdx.x * ROW_PART, count = min(ROW_PART, V - from);
    bool            plain = !j.scored && (j.log_first || j.n_links == 0), no_nan; /* log-probabilities before the chain, or no chain */
    float           most, log_sum, x[ROW_EACH];
    bool            ok = merge_parts(before + (size_t)blockIdx.y * n_parts, n_parts, &most, &log_sum, &no_nan);
    ok = j.scored ? no_nan : ok;
    load_part(logits + (size_t)j.row * V, V, x);
#pragma unroll
    for (int e = 0; e < ROW_EACH; e++)
        s.z[tid + e * ROW_THREADS] = plain ? (x[e] - most) - log_sum : x[e];
    __syncthreads();
    for (int l = 0; l < j.n_links; l++) {
        const dev_link &link = j.link[l];
        if (link.kind == D_TEMPERATURE) {
            for (int i = tid; i < ROW_PART; i += ROW_THREADS)
                s.z[i] /= link.value;
        } else if (link.kind == D_ALLOWED) {
            for (int i = tid; i < ROW_PART; i += ROW_THREADS)
                s.key[i] = 0;
            __syncthreads();
            for (int e = link.first + tid; e < link.first + link.count; e += ROW_THREADS)
                if (edits[e].id >= from && edits[e].id < from + count)
                    s.key[edits[e].id - from] = 1;
            __syncthreads();
            for (int i = tid; i < ROW_PART; i += ROW_THREADS)
                s.z[i] = s.key[i] ? s.z[i] : -INFINITY;
        } else { /* D_EDITS */
            for (int e = link.first + tid; e < link.first + link.count; e += ROW_THREADS) {
                edit d = edits[e];
                if (d.id < from || d.id >= from + count)
                    continue;
                s.z[d.id - from] = edited(s.z[d.id - from], d);
            }
        }
        __syncthreads();
    }
    bool later = !plain && !j.scored; /* the chain worked on logits: the log-softmax follows it */
    if (later) {
#pragma unroll
        for (int e = 0; e < ROW_EACH; e++)
            x[e] = s.z[tid + e * ROW_THREADS];
        row_part p = sum_part(s.part, x);
        if (tid == 0)
            after[(size_t)blockIdx.y * n_parts + blockIdx.x] = p;
    }
    /* what a score is ranked by: rounding may make equal what differs without the bias */
    float bias = later ? 0.0f : j.bias;
    bool  perturb = j.perturb;
#pragma unroll
    for (int e = 0; e < ROW_EACH; e++) {
        int   i = tid + e * ROW_THREADS;
        float v = s.z[i];
        s.key[i] = ok && i < count && v > -INFINITY ? sortable(bias + v + (perturb ? gumbel(j, from + i) : 0.0f)) : 0u;
    }
    __syncthreads();
    rank_entry *row = entries + (size_t)blockIdx.y * n_parts * k, *mine = row + (size_t)blockIdx.x * k;
    unsigned    found = k_best(s, count, [&](int i) { return s.key[i]; }, [&](int i) { return from + i; }, (unsigned)k, [&](unsigned at, int i) {
        mine[at] = {s.z[i], perturb ? gumbel(j, from + i) : 0.0f, from + i};
    });
    for (int i = (int)found + tid; i < k; i += ROW_THREADS)
        mine[i] = {-INFINITY, 0.0f, -1};
    __threadfence();
    __syncthreads();
    if (tid == 0)
        s.last = atomicInc(&done[blockIdx.y], (unsigned)n_parts - 1) == (unsigned)n_parts - 1;
    __syncthreads();
    if (!s.last)
        return;
    __threadfence();
    rank_entry *best = out + (size_t)blockIdx.y * k;
    found = k_best(
        s, n_parts * k,
        [&](int i) {
            float v = __ldcg(&row[i].z);
            return v > -INFINITY ? sortable(bias + v + __ldcg(&row[i].noise)) : 0u;
        },
        [&](int i) { return __ldcg(&row[i].id); }, (unsigned)k,
        [&](unsigned at, int i) { best[at] = {__ldcg(&row[i].z), __ldcg(&row[i].noise), __ldcg(&row[i].id)}; });
    float m = 0, l = 0;
    bool  after_ok = !later || merge_parts(after + (size_t)blockIdx.y * n_parts, n_parts, &m, &l, &no_nan);
    if (tid == 0)
        info[blockIdx.y] = {!ok ? 1 : !after_ok ? 2 : 0, (int)found, m, l};
}
