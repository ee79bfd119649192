/* A row of scores that is shared out to blocks: what they know together (sums, ranks, where a running weight passes a limit).  Used by
 * choose.cu, whose head says how blocks wait for each other. */
#ifndef JPT_CUDA_PICK_CUH
#define JPT_CUDA_PICK_CUH

#include "device.cuh"

typedef unsigned long long u64;

enum { PICK_WARPS = PICK_THREADS / WARP, PICK_EACH = PICK_PART / PICK_THREADS, PICK_LINES = PICK_PART / WARP, LINES_EACH = PICK_LINES / WARP, BIN_BITS = 10, BINS_EACH = PICK_BINS / PICK_THREADS,
       TOP_H = 100 };
static_assert(1 << BIN_BITS == PICK_BINS && PICK_EACH * PICK_THREADS == PICK_PART && PICK_LINES >= TOP_H && PICK_PARTS % WARP == 0, "shares come out even");

/* What blocks tell each other: sums, the range of what is left, counts, the lowest id of something. */
typedef struct __align__(16) tally {
    double a, b, c;
    float  most, least;
    u64    low;
    int    count, more, where, bad;
} tally;
static_assert(sizeof(tally) == PICK_SLOT, "a slot holds a tally");
enum { SUMS = 1, DOT = 2, RANGE = 4, COUNTS = 8, FIRST = 16 }; /* a and b; c; most, least and bad; count and more; low and where */

/* How entries are ordered: by score, by score from the best down, or by how far the surprise is from the entropy (typical sampling). */
enum { UP, DOWN, FAR };
/* When a running weight has passed: it reaches a number of entries, exceeds a probability or reaches one. */
enum { MANY, ABOVE, REACHED };

/* A block's place in its row, and all it works with.  What is not an array changes between two __syncthreads, by one thread.
 * Line l of a part: its scores l * WARP to l * WARP + WARP - 1.  A warp takes the lines warp, warp + PICK_WARPS, ... */
typedef struct pick_room {
    float      z[PICK_PART], p[PICK_PART]; /* scores; probabilities, weights or marks */
    unsigned   low[PICK_BINS], high[PICK_BINS];
    tally      warp[PICK_WARPS], total;
    u64        scan[PICK_WARPS], before, own;
    double     sums[PICK_LINES], run, all;
    int        ranks[PICK_LINES], rank_before, rank_all;
    choose_job job;
    unsigned   digit;
    int        found, ticket, last, owner, keep;
    /* the row */
    int       part, parts, from, count, V;
    unsigned *arrived, phase, searches;
    tally    *slots;
    u64      *bins;
    float     top, least; /* the largest score and a lower bound of those that are left, where `known` */
    bool      known, dirty;
    float     log_sum, entropy; /* of FAR */
} pick_room;
static __shared__ pick_room s;

#define EACH(i) _Pragma("unroll 1") for (int i = threadIdx.x; i < s.count; i += PICK_THREADS)
#define SMALL __device__ static __noinline__ /* one copy: code that is run once comes at the memory's pace */

/* exp in float32 as the host's exp16_with(x, 1), step by step. */
__device__ static float exp_of(float x) {
    float y = x < -104.0f ? -104.0f : x > 88.3f ? 88.3f : x;
    float rounded = __fadd_rn(__fmul_rn(y, 1.44269504088896341f), 12582912.0f), kf = __fsub_rn(rounded, 12582912.0f);
    int   k = __float_as_int(rounded) - 0x4b400000, first = k >> 1;
    float t = __fsub_rn(y, __fmul_rn(kf, 0.693359375f));
    t = __fsub_rn(t, __fmul_rn(kf, -2.12194440e-4f));
    float p = __fadd_rn(__fmul_rn(t, 1.3888889e-3f), 8.3333333e-3f);
    p = __fadd_rn(__fmul_rn(p, t), 4.16666667e-2f);
    p = __fadd_rn(__fmul_rn(p, t), 1.66666667e-1f);
    p = __fadd_rn(__fmul_rn(p, t), 0.5f);
    p = __fadd_rn(__fmul_rn(p, t), 1.0f);
    p = __fadd_rn(__fmul_rn(p, t), 1.0f);
    p = __fmul_rn(p, __int_as_float((first + 127) << 23));
    p = __fmul_rn(p, __int_as_float((k - first + 127) << 23));
    return x < -104.0f ? 0.0f : p;
}

/* Scores as unsigned integers in their order, -0 and 0 alike, and back. */
__device__ static unsigned key_of(float z) { return sortable(__fadd_rn(z, 0.0f)); }
__device__ static float score_of(unsigned key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

/* Probabilities in fixed point: their sum stays below 2. */
__device__ static u64 fixed_point(float p) { return (u64)(p * 0x1p62f); }
__device__ static float from_fixed(u64 w) { return (float)((double)w * 0x1p-62); }

/* ---- over the row's blocks ---------------------------------------------------------------------------------------- */

SMALL void row_wait() {
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned all = ++s.phase * (unsigned)s.parts;
        __threadfence();
        atomicAdd(s.arrived, 1u);
        while (*(volatile unsigned *)s.arrived < all)
            __nanosleep(20);
        __threadfence();
    }
    __syncthreads();
}

/* Where the parts of the next phase write, and those of the last one wrote: two phases later they are written again, when all have
 * passed the barrier between and so read. */
__device__ static tally *next_slots() { return s.slots + (s.phase & 1) * s.parts; }
__device__ static const tally *last_slots() { return s.slots + (~s.phase & 1) * s.parts; }

__device__ static tally nothing() { return {0, 0, 0, -INFINITY, INFINITY, ~0ull, 0, 0, 0x7fffffff, 0}; }

template <int WHAT> __device__ static void join(tally &t, const tally &o) {
    if constexpr ((WHAT & SUMS) != 0)
        t.a += o.a, t.b += o.b;
    if constexpr ((WHAT & DOT) != 0)
        t.c += o.c;
    if constexpr ((WHAT & RANGE) != 0)
        t.most = fmaxf(t.most, o.most), t.least = fminf(t.least, o.least), t.bad |= o.bad;
    if constexpr ((WHAT & COUNTS) != 0)
        t.count += o.count, t.more += o.more;
    if constexpr ((WHAT & FIRST) != 0)
        t.low = t.low < o.low ? t.low : o.low, t.where = min(t.where, o.where);
}

template <int WHAT> __device__ static tally fold(tally t) {
#pragma unroll 1
    for (int d = WARP / 2; d > 0; d /= 2) {
        tally o;
        if constexpr ((WHAT & SUMS) != 0)
            o.a = __shfl_xor_sync(FULL, t.a, d), o.b = __shfl_xor_sync(FULL, t.b, d);
        if constexpr ((WHAT & DOT) != 0)
            o.c = __shfl_xor_sync(FULL, t.c, d);
        if constexpr ((WHAT & RANGE) != 0)
            o.most = __shfl_xor_sync(FULL, t.most, d), o.least = __shfl_xor_sync(FULL, t.least, d), o.bad = __shfl_xor_sync(FULL, t.bad, d);
        if constexpr ((WHAT & COUNTS) != 0)
            o.count = __shfl_xor_sync(FULL, t.count, d), o.more = __shfl_xor_sync(FULL, t.more, d);
        if constexpr ((WHAT & FIRST) != 0)
            o.low = __shfl_xor_sync(FULL, t.low, d), o.where = __shfl_xor_sync(FULL, t.where, d);
        join<WHAT>(t, o);
    }
    return t;
}

__device__ static tally told(const tally *slot) { /* by another block: not from L1 */
    union {
        int4  raw[PICK_SLOT / 16];
        tally t;
    } u;
#pragma unroll
    for (int i = 0; i < PICK_SLOT / 16; i++)
        u.raw[i] = __ldcg((const int4 *)slot + i);
    return u.t;
}

/* The threads' tallies of the whole row, in every thread. */
template <int WHAT> SMALL tally total(tally t) {
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    t = fold<WHAT>(t);
    __syncthreads();
    if (lane == 0)
        s.warp[warp] = t;
    __syncthreads();
    if (warp == 0) {
        t = fold<WHAT>(lane < PICK_WARPS ? s.warp[lane] : nothing());
        if (lane == 0)
            next_slots()[s.part] = t;
    }
    row_wait();
    if (warp == 0) {
        t = nothing();
#pragma unroll 1
        for (int i = lane; i < s.parts; i += WARP)
            join<WHAT>(t, told(last_slots() + i));
        t = fold<WHAT>(t);
        if (lane == 0)
            s.total = t;
    }
    __syncthreads();
    return s.total;
}

/* ---- order, ranks, and where a running weight passes ------------------------------------------------------------------ */

__device__ static unsigned far_of(float z) { return __float_as_uint(fabsf(__fsub_rn(-__fsub_rn(z, s.log_sum), s.entropy))); } /* not negative: ordered as they are */
__device__ static unsigned key(int order, int i) { return order == FAR ? far_of(s.z[i]) : order == UP ? key_of(s.z[i]) : ~key_of(s.z[i]); }

/* Entries with this key have ranks in the order of ids over all of the row: those of rank from to to - 1 go.  With a list: it gets
 * all that are left, by rank, instead.  Returns how many there are. */
SMALL int by_rank(int order, unsigned wanted, u64 from, u64 to, u64 *list) {
    int      lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned there[PICK_EACH];
#pragma unroll
    for (int e = 0; e < PICK_EACH; e++) {
        int i = (int)threadIdx.x + e * PICK_THREADS;
        there[e] = __ballot_sync(FULL, i < s.count && (list ? s.z[i] > -INFINITY : key(order, i) == wanted));
        if (lane == 0)
            s.ranks[e * PICK_WARPS + warp] = __popc(there[e]);
    }
    __syncthreads();
    if (warp == 0) { /* counts to running counts */
        int own = 0, run;
        for (int k = 0; k < LINES_EACH; k++)
            own += s.ranks[lane * LINES_EACH + k];
        run = own;
        for (int d = 1; d < WARP; d *= 2) {
            int t = __shfl_up_sync(FULL, run, d);
            run += lane >= d ? t : 0;
        }
        if (lane == WARP - 1)
            next_slots()[s.part].count = run;
        run -= own;
        for (int k = 0; k < LINES_EACH; k++) {
            int c = s.ranks[lane * LINES_EACH + k];
            s.ranks[lane * LINES_EACH + k] = run;
            run += c;
        }
    }
    row_wait();
    if (warp == 0) {
        int before = 0, all = 0;
        for (int i = lane; i < s.parts; i += WARP) {
            int c = __ldcg(&last_slots()[i].count);
            all += c;
            before += i < s.part ? c : 0;
        }
        for (int d = WARP / 2; d > 0; d /= 2) {
            before += __shfl_xor_sync(FULL, before, d);
            all += __shfl_xor_sync(FULL, all, d);
        }
        if (lane == 0)
            s.rank_before = before, s.rank_all = all;
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < PICK_EACH; e++) {
        int i = (int)threadIdx.x + e * PICK_THREADS;
        u64 rank = (u64)(s.rank_before + s.ranks[e * PICK_WARPS + warp] + __popc(there[e] & ((1u << lane) - 1)));
        if (!(there[e] >> lane & 1))
            continue;
        if (list)
            list[rank] = (u64)key_of(s.z[i]) << 32 | ~(unsigned)(s.from + i);
        else if (rank >= from && rank < to)
            s.z[i] = -INFINITY;
    }
    __syncthreads();
    return s.rank_all;
}

typedef struct crossing {
    bool     found;
    unsigned key;
    u64      before, own; /* weight of the keys below, and of this one */
} crossing;

/* Of the entries with keys in [lo, hi], in their order: the one at which the running weight (MANY: their number, else s.p) passes. */
SMALL crossing cross(int order, unsigned lo, unsigned hi, int how, int n, float limit) {
    int  tid = threadIdx.x, lane = tid % WARP, warp = tid / WARP;
    u64  base = 0;
    auto passes = [&](u64 run) { return how == MANY ? run >= (u64)n : how == ABOVE ? from_fixed(run) > limit : from_fixed(run) >= limit; };
    for (;;) {
        int  bits = 32 - __clz(hi - lo), shift = bits > BIN_BITS ? bits - BIN_BITS : 0;
        u64 *bins = s.bins + s.searches % 3 * PICK_BINS, *next = s.bins + (s.searches + 1) % 3 * PICK_BINS;
        for (int b = tid; b < PICK_BINS; b += PICK_THREADS)
            s.low[b] = s.high[b] = 0;
        __syncthreads();
        EACH(i) {
            unsigned k = key(order, i);
            if (k < lo || k > hi)
                continue;
            u64      w = how == MANY ? 1 : fixed_point(s.p[i]);
            unsigned b = (k - lo) >> shift, low = (unsigned)w, high = (unsigned)(w >> 32);
            if (low)
                high += atomicAdd(&s.low[b], low) > ~low; /* a carry */
            if (high)
                atomicAdd(&s.high[b], high);
        }
        __syncthreads();
        for (int b = tid; b < PICK_BINS; b += PICK_THREADS) {
            u64 w = (u64)s.high[b] << 32 | s.low[b];
            if (w)
                atomicAdd(&bins[b], w);
        }
        for (int b = s.part * PICK_THREADS + tid; b < PICK_BINS; b += s.parts * PICK_THREADS)
            next[b] = 0; /* last read before the last barrier */
        row_wait();
        u64 own[BINS_EACH], mine = 0, run;
#pragma unroll
        for (int k = 0; k < BINS_EACH; k++) {
            own[k] = __ldcg(&bins[tid * BINS_EACH + k]);
            mine += own[k];
        }
        run = mine;
        for (int d = 1; d < WARP; d *= 2) {
            u64 t = __shfl_up_sync(FULL, run, d);
            run += lane >= d ? t : 0;
        }
        if (lane == WARP - 1)
            s.scan[warp] = run;
        if (tid == 0)
            s.found = 0, s.searches++, s.dirty = true;
        __syncthreads();
        for (int w = 0; w < warp; w++)
            run += s.scan[w];
        u64 at = base + run - mine;
        if (passes(base + run) && !passes(at)) { /* one thread */
            int k = 0;
#pragma unroll
            for (int c = 0; c + 1 < BINS_EACH; c++)
                if (k == c && !passes(at + own[c]))
                    at += own[c], k++;
            s.found = 1, s.digit = (unsigned)(tid * BINS_EACH + k), s.before = at, s.own = own[k];
        }
        __syncthreads();
        if (!s.found)
            return {false, 0, 0, 0};
        lo += s.digit << shift;
        base = s.before;
        if (shift == 0)
            return {true, lo, base, s.own};
        unsigned end = lo + ((1u << shift) - 1);
        hi = end < hi ? end : hi;
    }
}

/* The k-th largest score that is left, its key upwards; not found where there are fewer. */
__device__ static crossing kth(int k) {
    crossing c = cross(DOWN, ~key_of(s.top), ~key_of(s.least), MANY, k, 0);
    c.key = ~c.key;
    return c;
}

#endif
