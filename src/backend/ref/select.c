/* Choosing from rows of scores, and the measures that strategies choose by: the definition. */
#include <jpt/select.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
        JPT_TRY(jpt_chain_apply(item->chain, item, work, n, scratch, err));
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
    float  max = -INFINITY;
    double sum = 0;
    for (int32_t v = 0; v < n; v++) {
        if (isnan(z[v]))
            return false;
        max = z[v] > max ? z[v] : max;
    }
    if (!isfinite(max))
        return false;
    for (int32_t v = 0; v < n; v++)
        sum += (double)expf(z[v] - max);
    float log_sum = (float)log(sum);
    for (int32_t v = 0; v < n; v++)
        out[v] = (z[v] - max) - log_sum;
    return true;
}

jpt_status jpt_topk_scores(const jpt_score_item *items, int32_t n, const float *logits, int32_t n_vocab, int32_t k, float *work, void *scratch,
                           int32_t *out_index, int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err) {
    ranked    *heap = malloc((size_t)(k > 0 ? k : 1) * sizeof *heap);
    int32_t    count = 0;
    jpt_status st = heap ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d candidates", k);
    for (int32_t i = 0; st == JPT_OK && i < n && k > 0; i++) {
        const jpt_score_item *it = &items[i];
        memcpy(work, logits + (size_t)it->from.row * (size_t)n_vocab, (size_t)n_vocab * sizeof *work);
        if (it->log_first && !it->scored && !jpt_log_softmax(work, n_vocab, work))
            st = JPT_FAIL(err, DEVICE, "the model produced no finite logit");
        if (st == JPT_OK && it->from.chain)
            st = jpt_chain_apply(it->from.chain, &it->from, work, n_vocab, scratch, err);
        if (st == JPT_OK && !it->log_first && !it->scored && !jpt_log_softmax(work, n_vocab, work))
            st = JPT_FAIL(err, DEVICE, "no finite score is left to choose from");
        for (int32_t v = 0; st == JPT_OK && v < n_vocab; v++) {
            if (work[v] == -INFINITY)
                continue;
            ranked c = {0, it->bias + work[v], i, v};
            c.rank = c.score;
            if (it->perturb) /* one key a row, one draw a token */
                c.rank -= (float)log(-log(jpt_rng_uniform(it->from.key, 2 + (uint32_t)v) + 0x1p-54));
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
    if (st == JPT_OK)
        qsort(heap, (size_t)count, sizeof *heap, by_score);
    for (int32_t i = 0; st == JPT_OK && i < count; i++) {
        out_index[i] = heap[i].index;
        out_token[i] = heap[i].token;
        out_score[i] = heap[i].score;
    }
    *n_out = st == JPT_OK ? count : 0;
    free(heap);
    return st;
}

float jpt_dot(const float *a, const float *b, int32_t n) {
    float   part[16] = {0};
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++)
            part[k] += a[i + k] * b[i + k];
    for (int k = 0; i < n; i++, k++)
        part[k] += a[i] * b[i];
    for (int half = 8; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            part[k] += part[k + half];
    return part[0];
}

void jpt_unit_row(float *x, int32_t n) {
    float norm = sqrtf(jpt_dot(x, x, n));
    for (int32_t i = 0; norm > 0 && i < n; i++)
        x[i] /= norm;
}
