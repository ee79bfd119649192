/* Logits processors, warpers and the draw: the definition.  Semantics follow transformers 4.46's LogitsProcessor
 * classes; probabilities are float32 as there, sums float64 (torch's CPU cumsum accumulates in float64 too).
 *
 * Nothing is sorted: cuts by cumulative mass are found by weighted quickselect, O(V), with HF's order and ties. */
#include <jpt/select.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    float   key, weight;
    int32_t id;
} entry;

size_t jpt_select_scratch_bytes(int32_t n_vocab) { return (size_t)n_vocab * (sizeof(entry) + sizeof(float)); }

/* p = softmax(z) in float32; -inf gives 0.  Returns false when no logit is finite or one is NaN / +inf. */
static bool softmax(const float *z, int32_t n, float *p) {
    float  max = -INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(z[i]))
            return false;
        max = z[i] > max ? z[i] : max;
    }
    if (!isfinite(max))
        return false;
    for (int32_t i = 0; i < n; i++) {
        p[i] = expf(z[i] - max);
        sum += (double)p[i];
    }
    float inverse = (float)sum;
    for (int32_t i = 0; i < n; i++)
        p[i] /= inverse;
    return true;
}

static bool before(const entry *a, const entry *b) { return a->key < b->key || (a->key == b->key && a->id < b->id); }

static void swap(entry *a, entry *b) {
    entry t = *a;
    *a = *b;
    *b = t;
}

/* With e[0..n) ordered by (key, id): the first entry at which the running weight, rounded to float32, exceeds
 * `limit` (or reaches it, when `reach`); n when none does.  Reorders e: entries before the result come first. */
static int32_t mass_cut(entry *e, int32_t n, float limit, bool reach) {
    int32_t lo = 0, hi = n;
    double  base = 0;
    while (lo < hi) {
        /* median of three as pivot, moved to the front */
        int32_t mid = lo + (hi - lo) / 2;
        if (before(&e[mid], &e[lo]))
            swap(&e[mid], &e[lo]);
        if (before(&e[hi - 1], &e[lo]))
            swap(&e[hi - 1], &e[lo]);
        if (before(&e[hi - 1], &e[mid]))
            swap(&e[hi - 1], &e[mid]);
        swap(&e[lo], &e[mid]);
        entry   pivot = e[lo];
        int32_t cut = lo;
        double  left = 0;
        for (int32_t i = lo + 1; i < hi; i++)
            if (before(&e[i], &pivot)) {
                left += (double)e[i].weight;
                swap(&e[++cut], &e[i]);
            }
        swap(&e[lo], &e[cut]); /* pivot in its place */
        float with_left = (float)(base + left), with_pivot = (float)(base + left + (double)pivot.weight);
        if (cut > lo && (reach ? with_left >= limit : with_left > limit)) {
            hi = cut;
        } else if (reach ? with_pivot >= limit : with_pivot > limit) {
            return cut;
        } else {
            base += left + (double)pivot.weight;
            lo = cut + 1;
        }
    }
    return lo;
}

static void fill_entries(entry *e, const float *key, const float *weight, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        e[i] = (entry){key[i], weight ? weight[i] : 1, i};
}

/* Value of the k-th largest score, 1 <= k <= n. */
static float kth_largest(const float *z, int32_t n, int32_t k, entry *e) {
    if (k == 1) {
        float max = -INFINITY;
        for (int32_t i = 0; i < n; i++)
            max = z[i] > max ? z[i] : max;
        return max;
    }
    for (int32_t i = 0; i < n; i++)
        e[i] = (entry){-z[i], 1, i};
    return -e[mass_cut(e, n, (float)k, true)].key;
}

/* ---- processors ------------------------------------------------------------------------------------- */

static void repetition_penalty(float *z, int32_t n_vocab, const int32_t *history, int32_t n, float penalty, entry *e) {
    /* once an id, whatever its count: remember what is done in the scratch */
    for (int32_t i = 0; i < n; i++)
        if (history[i] >= 0 && history[i] < n_vocab)
            e[history[i]].id = -1;
    for (int32_t i = 0; i < n; i++) {
        int32_t v = history[i];
        if (v >= 0 && v < n_vocab && e[v].id == -1) {
            e[v].id = 0;
            z[v] = z[v] < 0 ? z[v] * penalty : z[v] / penalty;
        }
    }
}

static void no_repeat_ngram(float *z, int32_t n_vocab, const int32_t *history, int32_t n, int32_t size) {
    if (n + 1 < size)
        return;
    const int32_t *tail = history + n - (size - 1);
    for (int32_t i = 0; i + size <= n; i++)
        if (memcmp(history + i, tail, (size_t)(size - 1) * sizeof *tail) == 0) {
            int32_t follower = history[i + size - 1];
            if (follower >= 0 && follower < n_vocab)
                z[follower] = -INFINITY;
        }
}

/* ---- warpers ---------------------------------------------------------------------------------------- */

static void top_k(float *z, int32_t n, int32_t k, int32_t keep, entry *e) {
    k = k > keep ? k : keep;
    if (k >= n)
        return;
    float bound = kth_largest(z, n, k, e);
    for (int32_t i = 0; i < n; i++)
        if (z[i] < bound)
            z[i] = -INFINITY;
}

/* HF sorts ascending and removes while the running mass is <= 1 - p, but never the last `keep`. */
static void top_p(float *z, int32_t n, double mass, int32_t keep, const float *p, entry *e) {
    fill_entries(e, z, p, n);
    int32_t cut = mass_cut(e, n, (float)(1 - mass), false);
    if (cut > n - keep) { /* the boundary must be the keep-th largest */
        for (int32_t i = 0; i < n; i++)
            e[i].weight = 1;
        cut = keep >= n ? 0 : mass_cut(e, n, (float)(n - keep), false);
    }
    for (int32_t i = 0; i < cut; i++)
        z[e[i].id] = -INFINITY;
}

/* Remove what is below the bound, but not the `keep` best (ties of the last of them stay). */
static void probability_floor(float *z, int32_t n, float bound, int32_t keep, const float *p, entry *e) {
    float kept = kth_largest(z, n, keep < n ? keep : n, e);
    for (int32_t i = 0; i < n; i++)
        if (p[i] < bound && z[i] < kept)
            z[i] = -INFINITY;
}

static void min_p(float *z, int32_t n, double min, int32_t keep, const float *p, entry *e) {
    float top = 0;
    for (int32_t i = 0; i < n; i++)
        top = p[i] > top ? p[i] : top;
    float bound = (float)min * top;
    if (keep == 1) { /* the best is never below min * best, min <= 1 */
        for (int32_t i = 0; i < n; i++)
            if (p[i] < bound)
                z[i] = -INFINITY;
        return;
    }
    for (int32_t i = 0; i < n; i++)
        e[i] = (entry){-z[i], 1, i};
    int32_t first = keep < n ? mass_cut(e, n, (float)keep, true) + 1 : n; /* e[0..first) are kept whatever their p */
    for (int32_t i = first; i < n; i++)
        if (p[e[i].id] < bound)
            z[e[i].id] = -INFINITY;
}

static void typical(float *z, int32_t n, double mass, int32_t keep, const float *p, entry *e) {
    double entropy = 0, sum = 0;
    float  max = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    for (int32_t i = 0; i < n; i++)
        sum += (double)expf(z[i] - max);
    float log_sum = (float)log(sum) + max;
    for (int32_t i = 0; i < n; i++)
        if (p[i] > 0)
            entropy -= (double)p[i] * (double)(z[i] - log_sum);
    for (int32_t i = 0; i < n; i++)
        e[i] = (entry){isfinite(z[i]) ? fabsf(-(z[i] - log_sum) - (float)entropy) : INFINITY, p[i], i};
    int32_t last = mass_cut(e, n, (float)mass, true);
    float   bound;
    if (last < n) {
        bound = e[last].key;
    } else { /* rounding kept the sum below the mass: everything stays */
        return;
    }
    if (keep > 1) {
        for (int32_t i = 0; i < n; i++)
            e[i].weight = 1;
        int32_t k = mass_cut(e, n, (float)(keep < n ? keep : n), true);
        if (e[k].key > bound) { /* the `keep` first in this order stay, and only they */
            for (int32_t i = k + 1; i < n; i++)
                z[e[i].id] = -INFINITY;
            return;
        }
    }
    for (int32_t i = 0; i < n; i++)
        if (e[i].key > bound)
            z[e[i].id] = -INFINITY;
}

static float entropy_of(const float *p, int32_t n) {
    double h = 0;
    for (int32_t i = 0; i < n; i++)
        if (p[i] > 0)
            h -= (double)p[i] * log((double)p[i]);
    return (float)h;
}

static bool is_warper(jpt_link_kind k) { return k >= JPT_LINK_TOP_P; }

jpt_status jpt_chain_apply(const jpt_chain *chain, float *z, int32_t n, const int32_t *history, int32_t n_history, int32_t n_prompt,
                           void *scratch, jpt_error *err) {
    entry  *e = scratch;
    float  *p = (float *)(e + n);
    int32_t keep = chain->min_tokens_to_keep > 0 ? chain->min_tokens_to_keep : 1;
    for (int32_t l = 0; l < chain->n_links; l++) {
        const jpt_link *link = &chain->link[l];
        if (is_warper(link->kind) && !softmax(z, n, p))
            return JPT_FAIL(err, DEVICE, l ? "the chain of processors left no token to choose from" : "the model produced no finite logit");
        switch (link->kind) {
        case JPT_LINK_REPETITION_PENALTY:
            repetition_penalty(z, n, history, n_history, (float)link->value, e);
            break;
        case JPT_LINK_NO_REPEAT_NGRAM:
            no_repeat_ngram(z, n, history, n_history, link->count);
            break;
        case JPT_LINK_MIN_NEW_TOKENS:
            if (n_history - n_prompt < link->count)
                for (int32_t i = 0; i < chain->n_eos; i++)
                    if (chain->eos[i] >= 0 && chain->eos[i] < n)
                        z[chain->eos[i]] = -INFINITY;
            break;
        case JPT_LINK_TEMPERATURE:
            for (int32_t i = 0; i < n; i++)
                z[i] /= (float)link->value;
            break;
        case JPT_LINK_TOP_K:
            top_k(z, n, link->count, keep, e);
            break;
        case JPT_LINK_TOP_P:
            top_p(z, n, link->value, keep, p, e);
            break;
        case JPT_LINK_MIN_P:
            min_p(z, n, link->value, keep, p, e);
            break;
        case JPT_LINK_TYPICAL:
            typical(z, n, link->value, keep, p, e);
            break;
        case JPT_LINK_EPSILON:
            probability_floor(z, n, (float)link->value, keep, p, e);
            break;
        case JPT_LINK_ETA: {
            float eps = (float)link->value, bound = sqrtf(eps) * expf(-entropy_of(p, n));
            probability_floor(z, n, bound < eps ? bound : eps, keep, p, e);
            break;
        }
        }
    }
    return JPT_OK;
}

/* ---- choice ----------------------------------------------------------------------------------------- */

static int32_t argmax(const float *z, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

jpt_status jpt_select_row(const jpt_select_item *item, const float *logits, int32_t n, float *work, void *scratch, jpt_selected *out,
                          jpt_error *err) {
    float  max = -INFINITY;
    double sum = 0, dot = 0;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(logits[i]))
            return JPT_FAIL(err, DEVICE, "the model produced a logit that is not a number");
        max = logits[i] > max ? logits[i] : max;
    }
    if (!isfinite(max))
        return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
    for (int32_t i = 0; i < n; i++) {
        float x = logits[i] - max, w = expf(x);
        sum += (double)w;
        if (w > 0)
            dot += (double)w * (double)x;
    }
    double log_sum = log(sum);
    memcpy(work, logits, (size_t)n * sizeof *work);
    if (item->chain)
        JPT_TRY(jpt_chain_apply(item->chain, work, n, item->history, item->n_history, item->n_prompt, scratch, err));
    int32_t best = argmax(work, n), chosen = best, kept = 0;
    if (!isfinite(work[best]))
        return JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
    double total = 0;
    for (int32_t i = 0; i < n; i++)
        if (work[i] > -INFINITY) {
            kept++;
            total += (double)expf(work[i] - work[best]);
        }
    if (item->sample) {
        double u = jpt_rng_uniform(item->key, 0) * total, run = 0;
        for (int32_t i = 0; i < n; i++) {
            if (work[i] == -INFINITY)
                continue;
            double w = (double)expf(work[i] - work[best]);
            if (w == 0)
                continue;
            run += w;
            chosen = i;
            if (run > u)
                break;
        }
    }
    *out = (jpt_selected){.token = chosen, .logprob = (float)((double)(logits[chosen] - max) - log_sum), .entropy = (float)(log_sum - dot / sum),
                          .n_kept = kept, .kept_prob = (float)((double)expf(work[chosen] - work[best]) / total)};
    return JPT_OK;
}

/* ---- for strategies over several rows ------------------------------------------------------------------ */

typedef struct ranked {
    float   score;
    int32_t index, token;
} ranked;

static bool worse(const ranked *a, const ranked *b) {
    if (a->score != b->score)
        return a->score < b->score;
    return a->index != b->index ? a->index > b->index : a->token > b->token;
}

static int by_rank(const void *a, const void *b) { return worse(a, b) ? 1 : -1; }

/* heap[0] is the worst of the best */
static void sift_down(ranked *heap, int32_t n, int32_t i) {
    for (;;) {
        int32_t least = i, l = 2 * i + 1, r = l + 1;
        if (l < n && worse(&heap[l], &heap[least]))
            least = l;
        if (r < n && worse(&heap[r], &heap[least]))
            least = r;
        if (least == i)
            return;
        ranked t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

int32_t jpt_topk_logprob(const float *const *rows, const float *bias, int32_t n, int32_t n_vocab, int32_t k, int32_t *out_index,
                         int32_t *out_token, float *out_score) {
    ranked *heap = k > 0 ? malloc((size_t)k * sizeof *heap) : NULL;
    int32_t count = 0;
    if (!heap)
        return 0;
    for (int32_t i = 0; i < n; i++) {
        float  max = -INFINITY;
        double sum = 0;
        for (int32_t v = 0; v < n_vocab; v++)
            max = rows[i][v] > max ? rows[i][v] : max;
        for (int32_t v = 0; v < n_vocab; v++)
            sum += (double)expf(rows[i][v] - max);
        float log_sum = (float)log(sum) + max;
        for (int32_t v = 0; v < n_vocab; v++) {
            ranked c = {(bias ? bias[i] : 0) + (rows[i][v] - log_sum), i, v};
            if (count < k) {
                heap[count++] = c;
                if (count == k)
                    for (int32_t h = k / 2; h-- > 0;)
                        sift_down(heap, k, h);
            } else if (worse(&heap[0], &c)) {
                heap[0] = c;
                sift_down(heap, k, 0);
            }
        }
    }
    qsort(heap, (size_t)count, sizeof *heap, by_rank);
    for (int32_t i = 0; i < count; i++) {
        out_index[i] = heap[i].index;
        out_token[i] = heap[i].token;
        out_score[i] = heap[i].score;
    }
    free(heap);
    return count;
}

float jpt_max_cosine(const float *h, const float *history, int32_t n, int32_t d) {
    double hh = 0, best = -INFINITY;
    for (int32_t i = 0; i < d; i++)
        hh += (double)h[i] * (double)h[i];
    for (int32_t j = 0; j < n; j++) {
        const float *x = history + (size_t)j * (size_t)d;
        double       xx = 0, hx = 0;
        for (int32_t i = 0; i < d; i++) {
            xx += (double)x[i] * (double)x[i];
            hx += (double)h[i] * (double)x[i];
        }
        double c = hh > 0 && xx > 0 ? hx / sqrt(hh * xx) : 0;
        best = c > best ? c : best;
    }
    return n > 0 ? (float)best : 0;
}

static double log_normalizer(const float *z, int32_t n) {
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        max = (double)z[i] > max ? (double)z[i] : max;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)z[i] - max);
    return max + log(sum);
}

float jpt_js_divergence(const float *a, const float *b, int32_t n) {
    double la = log_normalizer(a, n), lb = log_normalizer(b, n), js = 0;
    for (int32_t i = 0; i < n; i++) {
        double p = exp((double)a[i] - la), q = exp((double)b[i] - lb), m = 0.5 * (p + q);
        if (p > 0)
            js += 0.5 * p * log(p / m);
        if (q > 0)
            js += 0.5 * q * log(q / m);
    }
    return (float)(js > 0 ? js : 0);
}
