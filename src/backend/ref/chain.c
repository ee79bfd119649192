/* Logits processors and warpers: the definition.  Semantics follow transformers 4.46's LogitsProcessor
 * classes; probabilities are float32 as there, sums float64 (torch's CPU cumsum accumulates in float64 too).
 *
 * Nothing is sorted: cuts by cumulative mass are found by weighted quickselect, O(V), with HF's order and ties. */
#include "choose.h"
#include "rows.h"
#include <jpt/select.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* r->p = softmax(z) in float32; -inf gives 0.  Returns false when no logit is finite or one is NaN / +inf. */
static bool softmax(const float *z, int32_t n, bool with_dot, select_room *r) {
    bool nan = false;
    if (!r->known) {
        r->max = rows()->max(z, n, &nan);
        if (nan || !isfinite(r->max))
            return false;
        r->sum = rows()->exp_sum(z, n, r->max, r->p, with_dot ? &r->dot : NULL);
    }
    r->known = false;
    rows()->divide(r->p, n, (float)r->sum);
    return true;
}

/* Of that softmax, nats. */
static double entropy_of(const select_room *r) { return log(r->sum) - r->dot / r->sum; }

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

/* Followers of the text's last size - 1 ids in the prompt. */
static void encoder_no_repeat_ngram(float *z, int32_t n_vocab, const jpt_select_item *it, int32_t size) {
    const int32_t *h = it->history, *tail = h + it->n_history - (size - 1);
    for (int32_t i = 0; it->n_history + 1 >= size && i + size <= it->n_prompt; i++)
        if (memcmp(h + i, tail, (size_t)(size - 1) * sizeof *tail) == 0 && h[i + size - 1] >= 0 && h[i + size - 1] < n_vocab)
            z[h[i + size - 1]] = -INFINITY;
}

static void sequence_bias(float *z, int32_t n_vocab, const int32_t *history, int32_t n, const jpt_link *l) {
    for (int32_t at = 0, k = 0; at < l->n_ids; at += 1 + l->ids[at], k++) {
        int32_t        len = l->ids[at];
        const int32_t *s = l->ids + at + 1;
        if (len >= 1 && len - 1 <= n && s[len - 1] >= 0 && s[len - 1] < n_vocab && memcmp(history + n - (len - 1), s, (size_t)(len - 1) * sizeof *s) == 0)
            z[s[len - 1]] += l->values[k];
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

/* Where the window of a penalty begins: its own rule with count2 = 0, else so many last tokens. */
static int32_t window_from(const jpt_link *l, const jpt_select_item *it, int32_t own_rule) {
    return l->count2 == 0 ? own_rule : l->count2 < 0 || l->count2 > it->n_history ? 0 : it->n_history - l->count2;
}

/* Each id of the window once, with its count.  The scratch holds the counts. */
static void count_penalty(float *z, int32_t n_vocab, const jpt_select_item *it, const jpt_link *l, float frequency, float presence, entry *e) {
    int32_t from = window_from(l, it, it->n_prompt);
    for (int32_t i = from; i < it->n_history; i++)
        if (it->history[i] >= 0 && it->history[i] < n_vocab)
            e[it->history[i]].id = 0;
    for (int32_t i = from; i < it->n_history; i++)
        if (it->history[i] >= 0 && it->history[i] < n_vocab)
            e[it->history[i]].id++;
    for (int32_t i = from; i < it->n_history; i++) {
        int32_t v = it->history[i];
        if (v >= 0 && v < n_vocab && e[v].id > 0) {
            z[v] -= frequency * (float)e[v].id + presence;
            e[v].id = 0;
        }
    }
}

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool breaks(const jpt_link *l, int32_t id) { return l->n_ids && bsearch(&id, l->ids, (size_t)l->n_ids, sizeof id, ascending); }

/* Ids of the longest breaker that begins at the i-th newest token (newest: end[-1]), its first not counted; -1: none does. */
static int32_t breaker_at(const jpt_link *l, const int32_t *end, int32_t i) {
    int32_t longest = breaks(l, end[-1 - i]) ? 0 : -1;
    for (int32_t at = 0; at < l->n_tails; at += 2 + l->tails[at]) {
        int32_t n = l->tails[at];
        if (l->tails[at + 1] == end[-1 - i] && n <= i && n > longest && memcmp(end - i, l->tails + at + 2, (size_t)n * sizeof *end) == 0)
            longest = n;
    }
    return longest;
}

/* "Don't repeat yourself": a token that would lengthen a run which stood in the text before, by allowed length or more,
 * loses multiplier * base^(run - allowed).  r[i] is the i-th newest token; runs are found with the Z-function of r, in
 * O(window).  Breakers end a run. */
static void dry(float *z, int32_t n_vocab, const jpt_select_item *it, const jpt_link *l, entry *e) {
    int32_t n = it->n_history, allowed = l->count;
    if (l->count2 >= 0 && n > l->count2)
        n = l->count2;
    if (n > jpt_scratch_entries(n_vocab))
        n = jpt_scratch_entries(n_vocab);
    if (n <= allowed)
        return;
#define R(i) it->history[it->n_history - 1 - (i)]
    int32_t limit = n;
    for (int32_t i = 0, tail = -1; i < n && tail < 0; i++)
        if ((tail = breaker_at(l, it->history + it->n_history, i)) >= 0)
            limit = i - tail;
    if (limit < allowed)
        return;
    /* Z-function in e[k].id: length of the common run of r[0..] and r[k..] */
    for (int32_t k = 1, from = 0, to = 0; k < n; k++) {
        int32_t len = k < to ? (to - k < e[k - from].id ? to - k : e[k - from].id) : 0;
        while (k + len < n && R(len) == R(k + len))
            len++;
        e[k].id = len;
        if (k + len > to)
            from = k, to = k + len;
    }
    /* longest run a token would lengthen: kept in e[token].weight */
    for (int32_t k = 1; k < n; k++)
        if (R(k - 1) >= 0 && R(k - 1) < n_vocab)
            e[R(k - 1)].weight = -1;
    for (int32_t k = 1; k < n; k++) {
        int32_t v = R(k - 1), len = e[k].id < limit ? e[k].id : limit;
        if (v >= 0 && v < n_vocab && len >= allowed && (float)len > e[v].weight)
            e[v].weight = (float)len;
    }
    double most = l->value2 > 1.000001 ? floor(88.7228391 / log(l->value2)) : INFINITY;
    for (int32_t k = 1; k < n; k++) {
        int32_t v = R(k - 1);
        if (v < 0 || v >= n_vocab || e[v].weight < 0)
            continue;
        double over = (double)e[v].weight - allowed;
        e[v].weight = -1;
        if (!breaks(l, v))
            z[v] -= (float)(l->value * pow(l->value2, over < most ? over : most));
    }
#undef R
}

static void bad_words(float *z, int32_t n_vocab, const int32_t *history, int32_t n, const int32_t *ids, int32_t n_ids) {
    for (int32_t at = 0; at < n_ids; at += 1 + ids[at]) {
        int32_t        len = ids[at];
        const int32_t *word = ids + at + 1;
        if (len < 1 || len - 1 > n || word[len - 1] < 0 || word[len - 1] >= n_vocab)
            continue;
        if (memcmp(history + n - (len - 1), word, (size_t)(len - 1) * sizeof *word) == 0)
            z[word[len - 1]] = -INFINITY;
    }
}

static void only(float *z, int32_t n, const int32_t *ids, int32_t n_ids, entry *e) {
    n_ids = n_ids < n ? n_ids : n; /* what e holds */
    for (int32_t i = 0; i < n_ids; i++)
        e[i].key = ids[i] >= 0 && ids[i] < n ? z[ids[i]] : -INFINITY;
    for (int32_t v = 0; v < n; v++)
        z[v] = -INFINITY;
    for (int32_t i = 0; i < n_ids; i++)
        if (ids[i] >= 0 && ids[i] < n)
            z[ids[i]] = e[i].key;
}

/* ---- warpers ---------------------------------------------------------------------------------------- */

static void top_k(float *z, int32_t n, int32_t k, int32_t keep, const select_room *r) {
    k = k > keep ? k : keep;
    if (k >= n)
        return;
    rows()->cut_below(z, z, n, (double)jpt_kth_largest(z, n, k, r));
}

/* HF sorts ascending and removes while the running mass is <= 1 - p, but never the last `keep`. */
static void top_p(float *z, int32_t n, double mass, int32_t keep, const select_room *r) {
    entry first; /* the first that stays */
    if (keep >= n)
        return;
    bool found = jpt_mass_boundary(z, r->p, n, r->max - 2 * LIKELY_NATS, r->max, (float)(1 - mass), false, r, &first);
    if (!found || keep > 1) {
        entry last = jpt_kth_entry(z, n, keep, r);
        if (!found || entry_before(&last, &first))
            first = last;
    }
    rows()->cut_before(z, n, first.key, first.id);
}

/* Remove what is below the bound, but not the `keep` best (ties of the last of them stay). */
static void probability_floor(float *z, int32_t n, float bound, int32_t keep, const select_room *r) {
    float kept = jpt_kth_largest(z, n, keep < n ? keep : n, r);
    for (int32_t i = 0; i < n; i++)
        z[i] = ((r->p[i] < bound) & (z[i] < kept)) ? -INFINITY : z[i];
}

static void min_p(float *z, int32_t n, double min, int32_t keep, const select_room *r) {
    float bound = (float)min * largest(r->p, n);
    if (keep == 1) { /* the best is never below min * best, min <= 1 */
        rows()->cut_below(z, r->p, n, (double)bound);
        return;
    }
    entry *e = r->e;
    for (int32_t i = 0; i < n; i++)
        e[i] = (entry){-z[i], 1, i};
    int32_t first = keep < n ? jpt_mass_cut(e, n, 0, (float)keep, true) + 1 : n; /* e[0..first) are kept whatever their p */
    for (int32_t i = first; i < n; i++)
        if (r->p[e[i].id] < bound)
            z[e[i].id] = -INFINITY;
}

static void typical(float *z, int32_t n, double mass, int32_t keep, const select_room *r) {
    entry last;
    rows()->surprise_gap(z, n, (float)(log(r->sum) + (double)r->max), (float)entropy_of(r), r->key); /* +inf where the score is -inf */
    if (!jpt_mass_boundary(r->key, r->p, n, 0, LIKELY_NATS, (float)mass, true, r, &last))
        return; /* rounding kept the sum below the mass: everything stays */
    float bound = last.key;
    if (keep > 1) {
        entry *e = r->e;
        for (int32_t i = 0; i < n; i++)
            e[i] = (entry){r->key[i], 1, i};
        int32_t k = jpt_mass_cut(e, n, 0, (float)(keep < n ? keep : n), true);
        if (e[k].key > bound) { /* the `keep` first in this order stay, and only they */
            for (int32_t i = k + 1; i < n; i++)
                z[e[i].id] = -INFINITY;
            return;
        }
    }
    rows()->cut_above(z, r->key, n, bound);
}

enum { TOP_H = 100 };

/* HF's TopHLogitsWarper: among the 100 best, renormalised, the longest prefix whose entropy stays within alpha times
 * theirs; the first always stays. */
static void top_h(float *z, int32_t n, double alpha, const select_room *r) {
    entry  *e = r->e;
    int32_t m = jpt_best_entries(z, n, TOP_H, r);
    double  sum = 0, total = 0, run = 0;
    for (int32_t i = 0; i < m; i++)
        sum += (double)expf(-e[i].key + e[0].key);
    for (int32_t i = 0; i < m; i++) {
        double q = (double)expf(-e[i].key + e[0].key) / sum;
        total -= q > 0 ? q * log(q) : 0;
    }
    int32_t keep = 1;
    for (int32_t i = 0; i < m; i++) {
        double q = (double)expf(-e[i].key + e[0].key) / sum;
        run -= q > 0 ? q * log(q) : 0;
        if (i > 0 && run > alpha * total)
            break;
        keep = i + 1;
    }
    float   bound = -e[keep - 1].key;
    int32_t last = e[keep - 1].id, equal = rows()->between(z, n, bound, nextafterf(bound, INFINITY), r->bin);
    rows()->cut_below(z, z, n, (double)bound);
    for (int32_t i = 0; i < equal; i++)
        if (r->bin[i] > last)
            z[r->bin[i]] = -INFINITY;
}

static void top_n_sigma(float *z, int32_t n, double n_sigma) {
    int32_t left = rows()->count_finite(z, n);
    double  mean = left ? rows()->deviation(z, n, 0, false) / left : 0;
    float   bound = largest(z, n) - (float)(n_sigma * sqrt(left ? rows()->deviation(z, n, mean, true) / left : 0));
    rows()->cut_below(z, z, n, (double)bound);
}

/* With probability `chance`: of the tokens with p >= threshold all but the least likely go. */
static void xtc(float *z, int32_t n, const jpt_link *l, int32_t keep, const jpt_select_item *it, const select_room *r) {
    if (l->value <= 0 || l->value2 > 0.5 || jpt_rng_uniform(it->key, 1) > l->value)
        return;
    const float *p = r->p;
    int32_t     *id = r->bin, found = rows()->between(p, n, nextafterf((float)l->value2, 0), INFINITY, id), above = 0, last = -1;
    for (int32_t k = 0; k < found; k++) {
        int32_t i = id[k];
        if (z[i] > -INFINITY && (double)p[i] >= l->value2) {
            id[above++] = i;
            if (last < 0 || p[i] <= p[last]) /* of equal ones the higher id is the less likely */
                last = i;
        }
    }
    if (above < 2 || rows()->count_finite(z, n) - (above - 1) < keep)
        return;
    for (int32_t k = 0; k < above; k++)
        if (id[k] != last)
            z[id[k]] = -INFINITY;
}

static double dynamic_temperature(const float *z, int32_t n, const jpt_link *l, const select_room *r) {
    double      low = l->value > l->value2 ? l->value - l->value2 : 0, high = l->value + l->value2;
    int32_t     left = rows()->count_finite(z, n);
    select_room of = *r;
    if (!of.measured) {
        of.max = largest(z, n);
        of.sum = rows()->exp_sum(z, n, of.max, NULL, &of.dot);
    }
    double t = left > 1 ? low + (high - low) * pow(entropy_of(&of) / log(left), l->value3) : l->value;
    return t > 1e-6 ? t : 1e-6;
}

/* z' = max - k f d^2 + s f d^3 with d = z - max, k = (3 - curve) / 2, s = (curve - 1) / 2. */
static void smoothing(float *z, int32_t n, double factor, double curve) {
    rows()->smooth(z, n, (double)largest(z, n), (3 - curve) / 2 * factor, (curve - 1) / 2 * factor);
}

/* Links that read probabilities. */
bool jpt_link_reads_p(jpt_link_kind k) {
    return k == JPT_LINK_TOP_P || k == JPT_LINK_MIN_P || k == JPT_LINK_TOP_A || k == JPT_LINK_P_LESS ||
           k == JPT_LINK_TYPICAL || k == JPT_LINK_EPSILON || k == JPT_LINK_ETA || k == JPT_LINK_XTC || k == JPT_LINK_SURPRISE;
}

static void apply(const jpt_link *l, const jpt_chain *chain, const jpt_select_item *it, float *z, int32_t n, const select_room *r) {
    const float *p = r->p;
    entry       *e = r->e;
   
    int32_t keep = chain->min_tokens_to_keep > 0 ? chain->min_tokens_to_keep : 1;
    switch (l->kind) {
    case JPT_LINK_BIAS:
        for (int32_t i = 0; i < l->n_ids; i++)
            if (l->ids[i] >= 0 && l->ids[i] < n)
                z[l->ids[i]] += l->values[i];
        break;
    case JPT_LINK_SEQUENCE_BIAS: sequence_bias(z, n, it->history, it->n_history, l); break;
    case JPT_LINK_ENCODER_REPETITION_PENALTY: repetition_penalty(z, n, it->history, it->n_prompt, (float)(1 / l->value), e); break;
    case JPT_LINK_REPETITION_PENALTY: {
        int32_t from = window_from(l, it, 0);
        repetition_penalty(z, n, it->history + from, it->n_history - from, (float)l->value, e);
        break;
    }
    case JPT_LINK_FREQUENCY_PENALTY: count_penalty(z, n, it, l, (float)l->value, 0, e); break;
    case JPT_LINK_PRESENCE_PENALTY: count_penalty(z, n, it, l, 0, (float)l->value, e); break;
    case JPT_LINK_DRY: dry(z, n, it, l, e); break;
    case JPT_LINK_NO_REPEAT_NGRAM: no_repeat_ngram(z, n, it->history, it->n_history, l->count); break;
    case JPT_LINK_ENCODER_NO_REPEAT_NGRAM: encoder_no_repeat_ngram(z, n, it, l->count); break;
    case JPT_LINK_BAD_WORDS: bad_words(z, n, it->history, it->n_history, l->ids, l->n_ids); break;
    case JPT_LINK_ALLOWED: only(z, n, l->ids, l->n_ids, e); break;
    case JPT_LINK_MIN_NEW_TOKENS:
        if (it->n_history - it->n_prompt < l->count)
            for (int32_t i = 0; i < chain->n_eos; i++)
                if (chain->eos[i] >= 0 && chain->eos[i] < n)
                    z[chain->eos[i]] = -INFINITY;
        break;
    case JPT_LINK_FORCED:
        if (it->n_history - it->n_prompt == l->count) {
            only(z, n, l->ids, l->n_ids, e);
            for (int32_t i = 0; i < l->n_ids; i++)
                if (l->ids[i] >= 0 && l->ids[i] < n)
                    z[l->ids[i]] = 0;
        }
        break;
    case JPT_LINK_EXPONENTIAL_DECAY: {
        int32_t over = it->n_history - it->n_prompt - l->count;
        for (int32_t i = 0; i < chain->n_eos && over > 0; i++)
            if (chain->eos[i] >= 0 && chain->eos[i] < n && isfinite(z[chain->eos[i]]))
                z[chain->eos[i]] = fminf(1e30f, z[chain->eos[i]] + fabsf(z[chain->eos[i]]) * (float)fmin(1e30, pow(l->value, over) - 1));
        break;
    }
    case JPT_LINK_SUPPRESS:
        for (int32_t i = 0; i < l->n_ids && (l->count < 0 || it->n_history - it->n_prompt == l->count); i++)
            if (l->ids[i] >= 0 && l->ids[i] < n)
                z[l->ids[i]] = -INFINITY;
        break;
    case JPT_LINK_NORMALIZE: (void)jpt_log_softmax(z, n, z); break;
    case JPT_LINK_TEMPERATURE: rows()->divide(z, n, (float)l->value); break;
    case JPT_LINK_DYNAMIC_TEMPERATURE: rows()->divide(z, n, (float)dynamic_temperature(z, n, l, r)); break;
    case JPT_LINK_SMOOTHING: smoothing(z, n, l->value, l->value2); break;
    case JPT_LINK_TOP_K: top_k(z, n, l->count, keep, r); break;
    case JPT_LINK_TOP_N_SIGMA: top_n_sigma(z, n, l->value); break;
    case JPT_LINK_TOP_P: top_p(z, n, l->value, keep, r); break;
    case JPT_LINK_MIN_P: min_p(z, n, l->value, keep, r); break;
    case JPT_LINK_TOP_A: {
        double top = (double)largest(p, n);
        rows()->cut_below(z, p, n, l->value * top * top);
        break;
    }
    case JPT_LINK_P_LESS: /* a flat distribution keeps all */
        rows()->cut_below(z, p, n, rows()->deviation(p, n, 0, true) * (1 - 1e-6));
        break;
    case JPT_LINK_TOP_H: top_h(z, n, l->value, r); break;
    case JPT_LINK_TYPICAL: typical(z, n, l->value, keep, r); break;
    case JPT_LINK_EPSILON: probability_floor(z, n, (float)l->value, keep, r); break;
    case JPT_LINK_ETA: {
        float eps = (float)l->value, bound = sqrtf(eps) * expf(-(float)entropy_of(r));
        probability_floor(z, n, bound < eps ? bound : eps, keep, r);
        break;
    }
    case JPT_LINK_XTC: xtc(z, n, l, keep, it, r); break;
    case JPT_LINK_SURPRISE: { /* of equals the lowest id is the best */
        int32_t best = rows()->find(z, n, r->max);
        float   score = z[best];
        rows()->cut_below(z, p, n, exp2(-l->value));
        z[best] = score;
        break;
    }
    case JPT_LINK_ZIPF:
    case JPT_LINK_AIM:
    case JPT_LINK_GUARD: break; /* jpt_aim */
    }
}

jpt_status jpt_chain_run(const jpt_chain *chain, const jpt_select_item *item, float *z, int32_t n, select_room *r, jpt_error *err) {
    for (int32_t l = 0; l < chain->n_links; l++) {
        jpt_link_kind k = chain->link[l].kind;
        bool          ok = jpt_link_reads_p(k) ? softmax(z, n, k == JPT_LINK_TYPICAL || k == JPT_LINK_ETA, r) : true;
        r->aimed = jpt_link_aims(k);
        if (r->aimed)
            ok = jpt_aim(&chain->link[l], item, z, n, r);
        else if (ok)
            apply(&chain->link[l], chain, item, z, n, r);
        if (!ok)
            return JPT_FAIL(err, DEVICE, l ? "the chain of processors left no token to choose from" : "the model produced no finite logit");
        r->measured = false;
    }
    return JPT_OK;
}

jpt_status jpt_chain_apply(const jpt_chain *chain, const jpt_select_item *item, float *z, int32_t n, void *scratch, jpt_error *err) {
    select_room r = jpt_select_room(scratch, n);
    return jpt_chain_run(chain, item, z, n, &r, err);
}
