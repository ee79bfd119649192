/* Choosing from rows of scores, and the measures that strategies choose by: the definition. */
#include "choose.h"
#include "rows.h"
#include <jpt/select.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- choice ----------------------------------------------------------------------------------------- */

/* The first token at which the running sum of w exceeds u; the last with a weight when rounding kept it below. */
static int32_t draw(const float *w, int32_t n, double u) {
    enum { STRIDE = 512 };
    double  run = 0;
    int32_t last = 0;
    for (int32_t from = 0; from < n; from += STRIDE) {
        int32_t m = n - from < STRIDE ? n - from : STRIDE;
        double  block = rows()->sum(w + from, m);
        if (block == 0)
            continue;
        double before = run;
        for (int32_t i = from; i < from + m && before + block > u; i++) {
            run += (double)w[i];
            if (w[i] > 0 && run > u)
                return i;
        }
        run = before + block;
        last = from;
    }
    for (int32_t i = last; i < n && i < last + STRIDE; i++)
        last = w[i] > 0 ? i : last;
    return last;
}

jpt_status jpt_select_row(const jpt_select_item *item, const float *logits, int32_t n, float *work, void *scratch, jpt_selected *out,
                          jpt_error *err) {
    const row_loops *r = rows();
    bool             nan;
    float            max = r->max(logits, n, &nan);
    double           dot, sum, total;
    if (nan)
        return JPT_FAIL(err, DEVICE, "the model produced a logit that is not a number");
    if (!isfinite(max))
        return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
    const float *z = logits;
    select_room  room = jpt_select_room(scratch, n);
    room.known = item->chain && item->chain->n_links > 0 && jpt_link_reads_p(item->chain->link[0].kind); /* it sees the row as it is */
    total = sum = r->exp_sum(logits, n, max, item->chain ? (room.known ? room.p : NULL) : item->sample ? work : NULL, &dot);
    if (item->chain) {
        room.max = max, room.sum = sum, room.dot = dot, room.measured = true;
        memcpy(work, logits, (size_t)n * sizeof *work);
        JPT_TRY(jpt_chain_run(item->chain, item, work, n, &room, err));
        z = work;
    }
    int32_t best = r->find(z, n, item->chain ? largest(z, n) : max), kept = r->count_finite(z, n), chosen = best;
    if (!isfinite(z[best]))
        return JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
    if (item->chain)
        total = r->exp_sum(work, n, work[best], item->sample ? work : NULL, NULL);
    if (item->sample)
        chosen = draw(work, n, jpt_rng_uniform(item->key, 0) * total);
    double log_sum = log(sum);
    *out = (jpt_selected){.token = chosen, .logprob = (float)((double)(logits[chosen] - max) - log_sum), .entropy = (float)(log_sum - dot / sum),
                          .n_kept = kept, .kept_prob = (float)((item->sample ? (double)work[chosen] : 1) / total), .seen_logprob = room.aimed ? room.p[chosen] : NAN,
                          .seen_entropy = room.aimed ? room.entropy : NAN};
    return JPT_OK;
}

/* ---- for strategies over several rows ------------------------------------------------------------------ */

typedef struct ranked {
    float   rank, score; /* rank: the score, or with noise */
    int32_t index, token;
} ranked;

static bool worse(const ranked *a, const ranked *b) {
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return a->index != b->index ? a->index > b->index : a->token > b->token;
}

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index != y->index ? (x->index > y->index ? 1 : -1) : (x->token > y->token) - (x->token < y->token);
}

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

bool jpt_log_softmax(const float *z, int32_t n, float *out) {
    bool  nan;
    float max = rows()->max(z, n, &nan);
    if (nan || !isfinite(max))
        return false;
    rows()->sub(z, n, max, (float)log(rows()->exp_sum(z, n, max, NULL, NULL)), out);
    return true;
}

/* The best k so far of all rows. */
typedef struct best_k {
    ranked *heap;
    int32_t n, k;
} best_k;

static void offer(best_k *b, ranked c) {
    if (b->n < b->k) {
        b->heap[b->n++] = c;
        if (b->n == b->k)
            for (int32_t h = b->k / 2; h-- > 0;)
                sift_down(b->heap, b->k, h);
    } else if (worse(&b->heap[0], &c)) {
        b->heap[0] = c;
        sift_down(b->heap, b->k, 0);
    }
}

/* Offer what can be among the k best of row i: tokens below a bound that k others reach cannot. */
static void offer_row(best_k *b, const jpt_score_item *it, int32_t i, const float *z, int32_t n_vocab, void *scratch) {
    int32_t *id = scratch, n = n_vocab;
    if (it->perturb) { /* one key a row, one draw a token */
        for (int32_t v = 0; v < n; v++) {
            ranked c = {0, it->bias + z[v], i, v};
            c.rank = c.score - (float)log(-log(jpt_rng_uniform(it->from.key, 2 + (uint32_t)v) + 0x1p-54));
            if (z[v] > -INFINITY)
                offer(b, c);
        }
        return;
    }
    float bound = jpt_kth_bound(z, n, b->k, (float *)scratch);
    if (b->n == b->k && b->heap[0].score - it->bias > bound)
        bound = b->heap[0].score - it->bias;
    bound -= 0x1p-21f * (fabsf(it->bias) + fabsf(bound)); /* scores that only rounding makes equal */
    int32_t found = rows()->between(z, n, isfinite(bound) ? bound : -INFINITY, INFINITY, id);
    for (int32_t c = 0; c < found; c++)
        if (z[id[c]] > -INFINITY)
            offer(b, (ranked){it->bias + z[id[c]], it->bias + z[id[c]], i, id[c]});
}

jpt_status jpt_topk_scores(const jpt_score_item *items, int32_t n, const float *logits, int32_t n_vocab, int32_t k, float *work, void *scratch,
                           int32_t *out_index, int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err) {
    enum { FEW = 64 };
    ranked     few[FEW], *many = NULL;
    best_k     b = {.heap = k <= FEW ? few : (many = malloc((size_t)k * sizeof *many)), .k = k};
    jpt_status st = b.heap ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d candidates", k);
    for (int32_t i = 0; st == JPT_OK && i < n && k > 0; i++) {
        const jpt_score_item *it = &items[i];
        const float          *z = logits + (size_t)it->from.row * (size_t)n_vocab;
        if (it->log_first && !it->scored) {
            if (!jpt_log_softmax(z, n_vocab, work))
                st = JPT_FAIL(err, DEVICE, "the model produced no finite logit");
            z = work;
        } else if (it->from.chain || it->scored) {
            memcpy(work, z, (size_t)n_vocab * sizeof *work);
            z = work;
        }
        if (st == JPT_OK && it->from.chain)
            st = jpt_chain_apply(it->from.chain, &it->from, work, n_vocab, scratch, err);
        if (st == JPT_OK && !it->log_first && !it->scored && !jpt_log_softmax(z, n_vocab, work))
            st = JPT_FAIL(err, DEVICE, "no finite score is left to choose from");
        if (st == JPT_OK)
            offer_row(&b, it, i, work, n_vocab, scratch);
    }
    if (st == JPT_OK)
        qsort(b.heap, (size_t)b.n, sizeof *b.heap, by_score);
    for (int32_t i = 0; st == JPT_OK && i < b.n; i++) {
        out_index[i] = b.heap[i].index;
        out_token[i] = b.heap[i].token;
        out_score[i] = b.heap[i].score;
    }
    *n_out = st == JPT_OK ? b.n : 0;
    free(many);
    return st;
}

float jpt_dot(const float *a, const float *b, int32_t n) { return rows()->dot(a, b, n); }

void jpt_unit_row(float *x, int32_t n) {
    float norm = sqrtf(jpt_dot(x, x, n));
    for (int32_t i = 0; norm > 0 && i < n; i++)
        x[i] /= norm;
}
