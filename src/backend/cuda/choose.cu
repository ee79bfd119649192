/* The choice of a token: a chain of links over a row of scores, then the best or a draw (jpt_select_row, jpt/select.h).
 *
 * A row is shared out to blocks.  Each keeps its part in shared memory from the first link to the draw, so that the row is read once;
 * what a link must know of the whole row, sums and the score where a running mass passes a limit, goes through global memory and a
 * barrier of the row's blocks (row_wait).  Blocks number themselves as they start: all blocks of a row start before any of a later
 * row, and so a barrier never waits for a block that finds no room (the host sees to it that a row's blocks fit the card at once).
 * Every block adds up the same numbers in the same order, and so all of them take the same way.
 *
 * The same tokens as the host's for equal logits: exp is the host's bit for bit (exp16.h), as are the steps in float32; sums are float64
 * or, where a limit is searched, fixed-point, which no order of adding changes.  Nothing is sorted: a limit is found among the keys that order
 * the scores, ten bits at a time. */
#include "pick.cuh"

/* ---- what links need ----------------------------------------------------------------------------------------------------- */

__device__ static void set_range(float top, float least, bool known) {
    __syncthreads();
    if (threadIdx.x == 0)
        s.top = top, s.least = least, s.known = known;
    __syncthreads();
}
__device__ static void forget_range() { set_range(0, 0, false); }

/* s.top and s.least; false: nothing that is left is finite. */
SMALL bool range() {
    if (!s.known) {
        tally t = nothing();
        EACH(i) {
            t.most = fmaxf(t.most, s.z[i]);
            t.least = s.z[i] > -INFINITY ? fminf(t.least, s.z[i]) : t.least;
        }
        t = total<RANGE>(t);
        set_range(t.most, t.least, true);
    }
    return s.top > -INFINITY && s.top < INFINITY;
}

/* s.p = exp(z - top); the sum (a) and the sum of exp(x) x (b). */
SMALL tally exps() {
    tally t = nothing();
#pragma unroll 4
    for (int i = threadIdx.x; i < s.count; i += PICK_THREADS) {
        float x = s.z[i] - s.top, e = exp_of(x);
        s.p[i] = e;
        t.a += (double)e;
        t.b += e > 0 ? (double)__fmul_rn(e, x) : 0;
    }
    return total<SUMS>(t);
}

SMALL double ln(double x) { return log(x); }
SMALL float  exp_exactly(float x) { return (float)exp((double)x); }

typedef struct shape {
    float  whole; /* p = exp(z - top) / whole */
    double entropy, log_normalizer;
} shape;

SMALL shape probabilities() {
    tally t = exps();
    float whole = (float)t.a;
    EACH(i)
        s.p[i] = __fdiv_rn(s.p[i], whole);
    double log_sum = ln(t.a);
    return {whole, log_sum - t.b / t.a, log_sum + (double)s.top};
}

SMALL void cut_keys_below(unsigned bound) {
    EACH(i)
        if (key_of(s.z[i]) < bound)
            s.z[i] = -INFINITY;
}

/* Where p < bound, but no score whose key is `safe` or above. */
SMALL void cut_unlikely(double bound, unsigned safe) {
    EACH(i)
        if ((double)s.p[i] < bound && key_of(s.z[i]) < safe)
            s.z[i] = -INFINITY;
}

/* ---- links ------------------------------------------------------------------------------------------------------------------- */

__device__ static void edit_ids(const dev_link &k, const edit *edits) {
    __syncthreads();
    for (int e = k.first + (int)threadIdx.x; e < k.first + k.count; e += PICK_THREADS) {
        edit d = edits[e];
        int  i = d.id - s.from;
        if (i >= 0 && i < s.count)
            s.z[i] = edited(s.z[i], d);
    }
    forget_range();
}

__device__ static void only_ids(const dev_link &k, const edit *edits) {
    EACH(i)
        s.p[i] = 0;
    __syncthreads();
    for (int e = k.first + (int)threadIdx.x; e < k.first + k.count; e += PICK_THREADS) {
        int i = edits[e].id - s.from;
        if (i >= 0 && i < s.count)
            s.p[i] = 1;
    }
    __syncthreads();
    EACH(i)
        s.z[i] = s.p[i] > 0 ? s.z[i] : -INFINITY;
    forget_range();
}

SMALL void divide(float by) {
    EACH(i)
        s.z[i] = __fdiv_rn(s.z[i], by);
    float least = __fdiv_rn(s.least, by);
    set_range(__fdiv_rn(s.top, by), least, s.known && least > -INFINITY);
}

__device__ static void top_k(int k) {
    if (k >= s.V || !range())
        return;
    crossing c = {true, key_of(s.top), 0, 0};
    if (k > 1)
        c = kth(k);
    if (c.found)
        cut_keys_below(c.key);
}

/* HF sorts ascending, equals by id, and removes while the running mass is <= 1 - p, but never the last `keep`. */
__device__ static void top_p(double mass, int keep) {
    if (keep >= s.V)
        return;
    shape    f = probabilities();
    float    limit = (float)(1 - mass);
    crossing c = cross(UP, key_of(s.least), key_of(s.top), ABOVE, 0, limit);
    u64      drop = 0; /* of the entries with this key, the first so many in the order of ids */
    if (c.found) {
        u64 w = fixed_point(__fdiv_rn(exp_of(score_of(c.key) - s.top), f.whole)), most = w ? c.own / w - 1 : 0;
        while (drop < most) { /* the least d with before + (d + 1) w > limit */
            u64 d = drop + (most - drop) / 2;
            if (from_fixed(c.before + (d + 1) * w) > limit)
                most = d;
            else
                drop = d + 1;
        }
    }
    if (!c.found || keep > 1) { /* the last `keep`: of equals the higher ids */
        crossing l = kth(keep);
        if (!l.found)
            return;
        u64 last = l.own - ((u64)keep - l.before);
        if (!c.found || l.key < c.key)
            c.key = l.key, drop = last;
        else if (l.key == c.key && last < drop)
            drop = last;
    }
    if (drop > 0)
        by_rank(UP, c.key, 0, drop, nullptr);
    cut_keys_below(c.key);
}

/* Whatever is less likely than the bound goes, but not the `keep` best, of equals the lower ids; `ties`: nor any equal of the last. */
__device__ static void probability_floor(const shape &f, double bound, int keep, bool ties) {
    unsigned safe = key_of(s.top);
    if (keep > 1) {
        crossing c = kth(keep < s.V ? keep : s.V);
        if (!c.found || (keep >= s.V && !ties))
            return;
        safe = c.key;
        if (!ties && c.before + c.own > (u64)keep && (double)__fdiv_rn(exp_of(score_of(safe) - s.top), f.whole) < bound)
            by_rank(UP, safe, (u64)keep - c.before, ~0ull, nullptr);
    }
    cut_unlikely(bound, safe);
}

__device__ static void typical(double mass, int keep) {
    shape f = probabilities();
    __syncthreads();
    if (threadIdx.x == 0)
        s.log_sum = (float)f.log_normalizer, s.entropy = (float)f.entropy;
    __syncthreads();
    unsigned a = far_of(s.top), b = far_of(s.least), most = a > b ? a : b;
    crossing c = cross(FAR, 0, most, REACHED, 0, (float)mass);
    if (!c.found)
        return; /* rounding kept the sum below the mass: everything stays */
    if (keep > 1) {
        crossing l = cross(FAR, 0, most, MANY, keep, 0);
        if (!l.found)
            return;
        if (l.key > c.key) { /* the `keep` first in this order stay, and only they */
            c.key = l.key;
            if (l.before + l.own > (u64)keep)
                by_rank(FAR, l.key, (u64)keep - l.before, ~0ull, nullptr);
        }
    }
    EACH(i)
        if (far_of(s.z[i]) > c.key)
            s.z[i] = -INFINITY;
    forget_range();
}

/* The k best stay, of equals the lower ids. */
SMALL void keep_best(int k) {
    crossing c = {false, 0, 0, 0};
    if (k < s.V)
        c = kth(k);
    if (!c.found)
        return;
    if (c.before + c.own > (u64)k)
        by_rank(UP, c.key, (u64)k - c.before, ~0ull, nullptr);
    cut_keys_below(c.key);
}

/* All that are left, at most PICK_LINES, best first, as keys and ids: in every block.  Returns how many. */
SMALL int gather(u64 *all) {
    /* they come in bins that are read by nobody now and zeroed before they are used again */
    __syncthreads();
    if (threadIdx.x == 0)
        s.dirty = true;
    u64 *list = s.bins + (s.searches + 2) % 3 * PICK_BINS;
    int  n = by_rank(UP, 0, 0, 0, list), tid = threadIdx.x, rank = 0;
    row_wait();
    if (tid < n)
        all[tid] = __ldcg(&list[tid]);
    __syncthreads();
    u64 mine = tid < n ? all[tid] : 0;
    for (int i = 0; i < n; i++)
        rank += all[i] > mine;
    __syncthreads();
    if (tid < n)
        all[rank] = mine;
    __syncthreads();
    return n;
}
__device__ static float gathered(u64 entry) { return score_of((unsigned)(entry >> 32)); }

/* Among the 100 best, renormalised, the longest prefix whose entropy stays within alpha times theirs; the first always stays. */
__device__ static void top_h(double alpha) {
    if (!range())
        return;
    keep_best(TOP_H);
    u64 *all = (u64 *)s.low;
    int  n = gather(all), tid = threadIdx.x;
    double sum = 0, w = tid < n ? (double)exp_exactly(gathered(all[tid]) - s.top) : 0;
    if (tid < n)
        s.sums[tid] = w;
    __syncthreads();
    for (int i = 0; i < n; i++)
        sum += s.sums[i];
    __syncthreads();
    if (tid < n) {
        double q = w / sum;
        s.sums[tid] = q > 0 ? q * ln(q) : 0;
    }
    __syncthreads();
    if (tid == 0) {
        double whole = 0, run = 0;
        int    keep = 1;
        for (int i = 0; i < n; i++)
            whole -= s.sums[i];
        for (int i = 0; i < n; i++) {
            run -= s.sums[i];
            if (i > 0 && run > alpha * whole)
                break;
            keep = i + 1;
        }
        s.keep = keep;
    }
    __syncthreads();
    u64 last = all[s.keep - 1];
    EACH(i)
        if (s.z[i] > -INFINITY && ((u64)key_of(s.z[i]) << 32 | ~(unsigned)(s.from + i)) < last)
            s.z[i] = -INFINITY;
    __syncthreads();
}

__device__ static void top_n_sigma(double n) {
    if (!range())
        return;
    tally t = nothing(), d = nothing();
    EACH(i)
        if (s.z[i] > -INFINITY) {
            t.a += (double)s.z[i];
            t.b += 1;
        }
    t = total<SUMS>(t);
    double mean = t.a / t.b;
    EACH(i)
        if (s.z[i] > -INFINITY)
            d.a += ((double)s.z[i] - mean) * ((double)s.z[i] - mean);
    d = total<SUMS>(d);
    float bound = s.top - (float)(n * sqrt(d.a / t.b));
    EACH(i)
        if (s.z[i] < bound)
            s.z[i] = -INFINITY;
}

/* Of the tokens with p >= threshold all but the least likely go; of equal ones the higher id is the less likely.  Whether at all is
 * the host's draw. */
__device__ static void xtc(double threshold, int keep) {
    (void)probabilities();
    tally t = nothing();
    EACH(i)
        if (s.z[i] > -INFINITY) {
            t.more++;
            if ((double)s.p[i] >= threshold) {
                u64 rank = (u64)__float_as_uint(s.p[i]) << 32 | ~(unsigned)(s.from + i);
                t.count++;
                t.low = rank < t.low ? rank : t.low;
            }
        }
    t = total<COUNTS | FIRST>(t);
    if (t.count < 2 || t.more - (t.count - 1) < keep)
        return;
    EACH(i)
        if (s.from + i != (int)~(unsigned)t.low && (double)s.p[i] >= threshold)
            s.z[i] = -INFINITY;
    forget_range();
}

/* Where p < bound, but not the best, of equals the lowest id. */
__device__ static void surprise(double bound) {
    tally t = nothing();
    EACH(i)
        if (s.z[i] == s.top)
            t.where = min(t.where, s.from + i);
    t = total<FIRST>(t);
    EACH(i)
        if ((double)s.p[i] < bound && s.from + i != t.where)
            s.z[i] = -INFINITY;
}

__device__ static void normalize() {
    if (!range())
        return;
    float log_sum = (float)ln(exps().a), least = __fsub_rn(__fsub_rn(s.least, s.top), log_sum);
    EACH(i)
        s.z[i] = __fsub_rn(__fsub_rn(s.z[i], s.top), log_sum);
    set_range(__fsub_rn(0, log_sum), least, least > -INFINITY);
}

__device__ static void dynamic_temperature(double t, double spread, double exponent) {
    if (!range())
        return;
    double low = t > spread ? t - spread : 0, high = t + spread;
    tally  n = nothing(), e;
    EACH(i)
        n.count += s.z[i] > -INFINITY;
    n = total<COUNTS>(n);
    e = exps();
    if (n.count > 1)
        t = low + (high - low) * pow((ln(e.a) - e.b / e.a) / ln((double)n.count), exponent);
    divide((float)(t > 1e-6 ? t : 1e-6));
}

__device__ static void smoothing(double factor, double curve) {
    if (!range())
        return;
    double k = __dmul_rn((3 - curve) / 2, factor), c = __dmul_rn((curve - 1) / 2, factor), top = (double)s.top;
    EACH(i) {
        double d = (double)s.z[i] - top;
        if (d > -INFINITY)
            s.z[i] = (float)__dadd_rn(__dsub_rn(top, __dmul_rn(__dmul_rn(k, d), d)), __dmul_rn(__dmul_rn(__dmul_rn(c, d), d), d));
    }
    forget_range();
}

/* ---- links of samplers with a memory: log-probabilities stay in s.p until a token is chosen ------------------------- */

__device__ static void aim(float at) {
    EACH(i) {
        float x = __fdiv_rn(fabsf(__fsub_rn(exp_of(s.z[i]), at)), 0.3f);
        if (s.z[i] > -INFINITY)
            s.z[i] = __fsub_rn(5, __fdiv_rn(__fmul_rn(__fmul_rn(10, x), x), __fadd_rn(1, x)));
    }
    forget_range();
}

/* Mirostat's k: see zipf_keeps in src/backend/ref/aim.c. */
__device__ static int zipf_keeps(double mu, int form, int n_left) {
    enum { FROM = 101 };
    bool    paper = form != 0, guarded = form == 2;
    u64    *all = (u64 *)s.low;
    double *tb = (double *)s.high, *tt = tb + PICK_LINES;
    int     tid = threadIdx.x, n = min(s.V, FROM), terms = min(n - 1, paper ? 100 : 99);
    if (tid < n)
        s.sums[tid] = tid < n_left ? (double)exp_exactly(gathered(all[tid])) : 0;
    __syncthreads();
    if (tid < terms) {
        double t = ln((tid + 2.0) / (tid + 1.0)), ratio = s.sums[tid] / (s.sums[tid + 1] + (guarded ? 1e-9 : 0));
        tb[tid] = t * ln(guarded && ratio < 1 ? 1 : ratio), tt[tid] = t * t;
    }
    __syncthreads();
    if (tid == 0) {
        double b = 0, t = 0, k = INFINITY, N = paper && !guarded ? 50000 : s.V;
        for (int i = 0; i < terms && (guarded || s.sums[i + 1] > 0); i++)
            b += tb[i], t += tt[i];
        double zipf = t > 0 ? b / t : 0, e = zipf - 1;
        if (zipf > 0)
            k = pow(fabs(e) < 1e-9 ? pow(2.0, mu) / ln(N) : e * pow(2.0, mu) / (1 - pow(N, -e)), 1 / zipf);
        s.keep = k <= s.V ? (paper ? (int)round(k) + 1 : (int)k) : s.V;
        s.keep = max(1, min(s.keep, s.V));
    }
    __syncthreads();
    return s.keep;
}

__device__ static void zipf(double mu, int form) {
    keep_best(101);
    int k = zipf_keeps(mu, form, gather((u64 *)s.low));
    EACH(i)
        s.z[i] = s.p[i];
    __syncthreads();
    keep_best(k);
}

__device__ static double clamped(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
__device__ static double guard_value(double local, double global, double q) {
    double l = q * atanh(clamped(local, -1 + 1e-4, 1 - 1e-4)), g = q * atanh(clamped(global, -1 + 1e-4, 1 - 1e-4));
    double share = fabs(l) / (fabs(g) + fabs(l) + 1e-4), x = share * l + (1 - share) * g;
    return 1 / (1 + exp(-x));
}
/* Of the entropies last[0..n): the lower of the middle two. */
__device__ static double lower_median(const float *last, int n) {
    for (int i = 0; i < n; i++) {
        int below = 0;
        for (int k = 0; k < n; k++)
            below += last[k] < last[i] || (last[k] == last[i] && k < i);
        if (below == (n - 1) / 2)
            return (double)last[i];
    }
    return NAN; /* an entropy is not a number */
}

/* p alpha^count, the k best of p: jpt_guard_step in src/backend/ref/aim.c is the definition. */
__device__ static void guard(const dev_link &l, const edit *edits) {
    int    window = (int)l.value, t = (int)l.second + 1, held = min((int)l.second, window);
    tally  sum = nothing();
    float *last = (float *)s.ranks; /* the latest entropies, this step's at the end */
    EACH(i) {
        float p = exp_of(s.z[i]);
        sum.a += (double)__fmul_rn(p, logf(p + 1e-5f));
    }
    sum = total<SUMS>(sum);
    if ((int)threadIdx.x < held)
        last[threadIdx.x] = edits[l.first + l.count + threadIdx.x].value;
    __syncthreads();
    if (threadIdx.x == 0) {
        float  now = (float)-sum.a;
        double h = (double)now, global = (0.95 * l.mass + h) / (0.95 * l.third + 1), local, far = 0, q = 0, scale, log_V = ln((double)s.V);
        last[held] = now;
        if (t < window) {
            local = h - lower_median(last, t);
        } else {
            double brief = lower_median(last + held + 1 - (window - 1), window - 1);
            local = h - lower_median(last + held + 1 - window, window);
            far = brief - global;
            q = clamped(fabs(brief - global) / (brief + 1e-4), 0, 1);
        }
        if (t > 1)
            q += clamped(fabs(h - (double)last[held - 1]) / ((double)last[held - 1] + 1e-4), 0, 1);
        q = 0.9 + 0.1 * (1 + q);
        double k = 10 * guard_value(local / log_V, far / log_V, q) + 5;
        scale = ln(k + 1e-4);
        double alpha = clamped(guard_value(local / scale, far / scale, q), 0, 1);
        s.keep = (int)fmax(1.0, floor(k)), s.run = ln(alpha > 1e-30 ? alpha : 1e-30), s.entropy = now;
    }
    __syncthreads();
    double each = s.run;
    keep_best(s.keep);
    __syncthreads();
    for (int e = l.first + (int)threadIdx.x; e < l.first + l.count; e += PICK_THREADS) {
        int i = edits[e].id - s.from;
        if (i >= 0 && i < s.count && s.z[i] > -INFINITY)
            s.z[i] = __fadd_rn(s.z[i], (float)((double)edits[e].value * each));
    }
    forget_range();
}

SMALL bool apply_aim(const dev_link &k, const edit *edits) {
    if (!range())
        return false;
    normalize();
    EACH(i)
        s.p[i] = s.z[i];
    if (!range())
        return false;
    if (k.kind == D_AIM)
        aim((float)k.mass);
    else if (k.kind == D_ZIPF)
        zipf(k.mass, k.count);
    else
        guard(k, edits);
    return true;
}

/* false: no token is left where the link needs one. */
SMALL bool apply(const dev_link &k, int keep, const edit *edits) {
    switch (k.kind) {
    case D_EDITS: edit_ids(k, edits); return true;
    case D_ALLOWED: only_ids(k, edits); return true;
    case D_TEMPERATURE: divide(k.value); return true;
    case D_DYNAMIC_TEMPERATURE: dynamic_temperature(k.mass, k.second, k.third); return true;
    case D_SMOOTHING: smoothing(k.mass, k.second); return true;
    case D_NORMALIZE: normalize(); return true;
    case D_TOP_K: top_k(k.count > keep ? k.count : keep); return true;
    case D_TOP_N_SIGMA: top_n_sigma(k.mass); return true;
    case D_TOP_H: top_h(k.mass); return true;
    case D_ZIPF:
    case D_AIM:
    case D_GUARD: return apply_aim(k, edits);
    default: break;
    }
    if (!range())
        return false;
    if (k.kind == D_TOP_P || k.kind == D_TYPICAL || k.kind == D_XTC) {
        if (k.kind == D_TOP_P)
            top_p(k.mass, keep);
        else if (k.kind == D_TYPICAL)
            typical(k.mass, keep);
        else
            xtc(k.second, keep);
        return true;
    }
    shape f = probabilities();
    float best = __fdiv_rn(1.0f, f.whole); /* its exp is 1 */
    if (k.kind == D_MIN_P) {
        probability_floor(f, (double)__fmul_rn(k.value, best), keep, false);
    } else if (k.kind == D_EPSILON || k.kind == D_ETA) {
        float other = __fmul_rn(__fsqrt_rn(k.value), exp_exactly(-(float)f.entropy));
        probability_floor(f, (double)(k.kind == D_ETA && other < k.value ? other : k.value), keep, true);
    } else if (k.kind == D_TOP_A) {
        cut_unlikely(__dmul_rn(__dmul_rn(k.mass, (double)best), (double)best), ~0u);
    } else if (k.kind == D_SURPRISE) {
        surprise(k.mass);
    } else { /* D_P_LESS */
        tally t = nothing();
        EACH(i)
            t.a += (double)s.p[i] * (double)s.p[i];
        cut_unlikely(total<SUMS>(t).a * (1 - 1e-6), ~0u);
    }
    return true;
}

/* ---- the choice --------------------------------------------------------------------------------------------------------------- */

/* The part in which the running sum of the parts' weights (their slots' a) passes u of the whole, and the sum before it; the last with a
 * weight where rounding kept it below.  Warp 0. */
SMALL void find_part(double u) {
    int    lane = threadIdx.x, per = (s.parts + WARP - 1) / WARP, at = lane * per, mine = -1, last = -1;
    double own = 0, run, begin = 0, last_begin = 0;
    for (int k = 0; k < per; k++)
        own += at + k < s.parts ? __ldcg(&last_slots()[at + k].a) : 0;
    run = own;
    for (int d = 1; d < WARP; d *= 2) {
        double t = __shfl_up_sync(FULL, run, d);
        run += lane >= d ? t : 0;
    }
    double all = __shfl_sync(FULL, run, WARP - 1), before = __shfl_up_sync(FULL, run, 1);
    before = lane ? before : 0;
    u *= all;
    for (int k = 0; k < per; k++) {
        double w = at + k < s.parts ? __ldcg(&last_slots()[at + k].a) : 0, with = before + w;
        if (w > 0) {
            last = at + k, last_begin = before;
            if (mine < 0 && with > u)
                mine = at + k, begin = before;
        }
        before = with;
    }
    unsigned hit = __ballot_sync(FULL, mine >= 0), any = __ballot_sync(FULL, last >= 0);
    int      from = hit ? __ffs(hit) - 1 : 31 - __clz(any);
    if (lane == from)
        s.owner = hit ? mine : last, s.run = hit ? begin : last_begin, s.all = all;
}

/* The place in the part at which the running sum of the weights s.p passes u, begun at s.run; s.sums: of its lines.  Warp 0. */
SMALL int find_place(double u) {
    int    lane = threadIdx.x, mine = -1, last = -1;
    double own = 0, run, begin = 0, last_begin = 0;
    for (int k = 0; k < LINES_EACH; k++)
        own += s.sums[lane * LINES_EACH + k];
    run = own;
    for (int d = 1; d < WARP; d *= 2) {
        double t = __shfl_up_sync(FULL, run, d);
        run += lane >= d ? t : 0;
    }
    double before = __shfl_up_sync(FULL, run, 1);
    before = s.run + (lane ? before : 0);
    for (int k = 0; k < LINES_EACH; k++) {
        double w = s.sums[lane * LINES_EACH + k], with = before + w;
        if (w > 0) {
            last = lane * LINES_EACH + k, last_begin = before;
            if (mine < 0 && with > u)
                mine = last, begin = before;
        }
        before = with;
    }
    unsigned hit = __ballot_sync(FULL, mine >= 0), any = __ballot_sync(FULL, last >= 0);
    int      from = hit ? __ffs(hit) - 1 : 31 - __clz(any);
    int      line = __shfl_sync(FULL, hit ? mine : last, from);
    begin = __shfl_sync(FULL, hit ? begin : last_begin, from);
    float w = s.p[line * WARP + lane];
    run = (double)w;
    for (int d = 1; d < WARP; d *= 2) {
        double t = __shfl_up_sync(FULL, run, d);
        run += lane >= d ? t : 0;
    }
    hit = __ballot_sync(FULL, w > 0 && begin + run > u), any = __ballot_sync(FULL, w > 0);
    return line * WARP + (hit ? __ffs(hit) - 1 : 31 - __clz(any));
}

/* Blocks of a row leave: the last one makes its counters zero again. */
SMALL void leave(const choose_args &a) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        s.last = atomicAdd(s.arrived, 1u) == (s.phase + 1) * (unsigned)s.parts - 1;
    }
    __syncthreads();
    if (!s.last)
        return;
    for (int b = threadIdx.x; s.dirty && b < 3 * PICK_BINS; b += PICK_THREADS)
        s.bins[b] = 0;
    if (threadIdx.x == 0) {
        *s.arrived = 0;
        if (atomicAdd(&a.arrived[1], 1u) == (unsigned)a.n - 1)
            a.arrived[0] = a.arrived[1] = 0;
    }
}

/* Grid rows x parts, in any order. */
extern "C" __global__ void __launch_bounds__(PICK_THREADS, 2) choose(const __grid_constant__ choose_args a) {
    int tid = threadIdx.x;
    let_successor_start();
    after_predecessor();
    if (tid == 0)
        s.ticket = (int)atomicAdd(&a.arrived[0], 1u);
    __syncthreads();
    int            row = s.ticket / a.parts;
    const int     *from = (const int *)(a.n <= PICK_INLINE ? &a.job[row] : &a.jobs[row]);
    choose_result *out = a.write ? nullptr : &a.out[row];
    for (int i = tid; i < (int)(sizeof s.job / sizeof(int)); i += PICK_THREADS)
        ((int *)&s.job)[i] = from[i];
    if (tid == 0) {
        s.part = s.ticket % a.parts, s.parts = a.parts, s.V = a.V, s.from = s.part * PICK_PART, s.count = min(PICK_PART, a.V - s.from);
        s.arrived = a.arrived + 2 + row, s.phase = s.searches = 0, s.dirty = false;
        s.slots = (tally *)a.slots + (size_t)row * 2 * a.parts, s.bins = a.bins + (size_t)row * 3 * PICK_BINS;
    }
    __syncthreads();
    const choose_job &j = s.job;
    const float      *given = a.logits + (size_t)j.row * a.V;
    float             x[PICK_EACH], most;
    tally             t = nothing();
#pragma unroll
    for (int e = 0; e < PICK_EACH; e++)
        x[e] = tid + e * PICK_THREADS < s.count ? given[s.from + tid + e * PICK_THREADS] : -INFINITY;
#pragma unroll
    for (int e = 0; e < PICK_EACH; e++) {
        s.z[tid + e * PICK_THREADS] = x[e];
        t.bad |= x[e] != x[e];
        t.most = fmaxf(t.most, x[e]);
        t.least = x[e] > -INFINITY ? fminf(t.least, x[e]) : t.least;
    }
    t = total<RANGE>(t);
    most = t.most;
    int status = t.bad ? 3 : most > -INFINITY && most < INFINITY ? 0 : 1;
    set_range(most, t.least, true);
    t = nothing();
    for (int e = 0; e < PICK_EACH && status == 0 && out; e++) { /* of the model's own distribution; added up at the end */
        float d = s.z[tid + e * PICK_THREADS] - most, w = exp_of(d);
        t.b += (double)w;
        t.c += w > 0 ? (double)__fmul_rn(w, d) : 0;
    }
    for (int l = 0; l < j.n_links && status == 0; l++)
        status = apply(j.link[l], j.keep, a.edits) ? 0 : 2;
    if (!out) {
        EACH(i)
            a.write[(size_t)row * a.V + s.from + i] = status ? NAN : s.z[i]; /* ranking tells */
        leave(a);
        return;
    }
    if (status == 0 && !range())
        status = 2;
    if (status) {
        if (s.part == 0 && tid == 0) {
            out->status = status;
            hand_over(&out->ready, a.call);
        }
        leave(a);
        return;
    }
#pragma unroll 2
    for (int e = 0; e < PICK_EACH; e++) { /* all lanes go along */
        int    i = tid + e * PICK_THREADS;
        float  z = i < s.count ? s.z[i] : -INFINITY, w = exp_of(z - s.top);
        double line = (double)w;
        s.z[i] = s.p[i], s.p[i] = w; /* z: what apply_aim has left there */
        t.a += (double)w;
        t.count += z > -INFINITY;
        if (z == s.top)
            t.where = min(t.where, s.from + i);
        for (int d = WARP / 2; d > 0; d /= 2)
            line += __shfl_xor_sync(FULL, line, d);
        if (tid % WARP == 0)
            s.sums[i / WARP] = line;
    }
    t = total<SUMS | DOT | COUNTS | FIRST>(t);
    if (tid < WARP)
        find_part(j.u);
    __syncthreads();
    if (s.part == (j.sample ? s.owner : t.where / PICK_PART) && tid < WARP) {
        int place = j.sample ? find_place(j.u * s.all) : t.where - s.from;
        if (tid == 0) {
            double log_sum = ln(t.b);
            out->status = 0, out->token = s.from + place, out->n_kept = t.count;
            out->logprob = (float)((double)(given[s.from + place] - most) - log_sum), out->entropy = (float)(log_sum - t.c / t.b);
            out->kept_prob = (float)((j.sample ? (double)s.p[place] : 1.0) / s.all);
            out->seen = s.z[place], out->seen_entropy = s.entropy;
            hand_over(&out->ready, a.call);
        }
    }
    leave(a);
}
