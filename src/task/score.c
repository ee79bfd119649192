/* Scoring texts against a task's items, one by one and all of a cell. */
#include "task_priv.h"
#include <jpt/stats.h>
#include <math.h>
#include <stdlib.h>

jpt_status jpt_task_score_item(const jpt_task *t, size_t item, jpt_str text, jpt_task_score out[JPT_TASK_SCORES_MAX], int32_t *n,
                               jpt_error *err) {
    for (*n = 0; *n < t->n_metrics; (*n)++) {
        jpt_task_score *s = &out[*n];
        *s = (jpt_task_score){.name = task_metrics[t->metric[*n]].name, .value = NAN, .ci_low = NAN, .ci_high = NAN, .n = 1};
        JPT_TRY(task_score_text(t, item, t->metric[*n], text, &s->value, err));
    }
    return JPT_OK;
}

/* ---- a whole cell ------------------------------------------------------------------------------------------ */

/* What is resampled is items: the texts of one item (seeds, blocks) are no independent evidence. */
typedef struct resample {
    bool              corpus;
    jpt_corpus_metric metric; /* of a corpus */
    double           *stats;  /* [items, n_stats] sums over an item's texts: statistics of a corpus metric, or score and count */
    int               n_stats;
} resample;

static double value_of(void *ud, const int32_t *index, int32_t n) {
    const resample *r = ud;
    double          sum[JPT_CORPUS_STATS_MAX] = {0};
    for (int32_t i = 0; i < n; i++)
        for (int k = 0; k < r->n_stats; k++)
            sum[k] += r->stats[(size_t)index[i] * (size_t)r->n_stats + (size_t)k];
    return r->corpus ? jpt_corpus_score(&r->metric, sum) : sum[1] > 0 ? sum[0] / sum[1] : NAN;
}

/* What a cell's texts are of: row_of [n] numbers the items in order of appearance, first [n_items] is an item's first text. */
typedef struct grouped {
    int32_t *row_of, *first, n_items;
} grouped;

static jpt_status group(const jpt_task *t, const int32_t *item, int32_t n, grouped *g, jpt_error *err) {
    size_t   items = t->info.n_items + 1;
    int32_t *row = malloc(items * sizeof *row);
    g->row_of = malloc(((size_t)n + 1) * sizeof *g->row_of);
    g->first = malloc(((size_t)n + 1) * sizeof *g->first);
    jpt_status st = row && g->row_of && g->first ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    for (size_t i = 0; row && i < items; i++)
        row[i] = -1;
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        if (row[item[i]] < 0) {
            g->first[g->n_items] = i;
            row[item[i]] = g->n_items++;
        }
        g->row_of[i] = row[item[i]];
    }
    free(row);
    return st;
}

/* self_bleu: the first text of each item against those of the others; zipf: the coefficient of their words.  NAN for fewer than two.  Texts
 * of one item are no part of it: a setting that draws nothing gives the same text again in every block. */
static jpt_status of_all(task_metric m, const jpt_str *text, const grouped *g, double *out, jpt_error *err) {
    size_t   n = (size_t)g->n_items;
    double  *each = malloc((n + 1) * sizeof *each), sum = 0;
    jpt_str *one = malloc((n + 1) * sizeof *one);
    *out = NAN;
    jpt_status st = each && one ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu scores", n);
    for (size_t i = 0; st == JPT_OK && i < n; i++)
        one[i] = text[g->first[i]];
    if (st == JPT_OK && n > 1 && m == METRIC_ZIPF) {
        jpt_corpus_repetition r;
        st = jpt_corpus_repetition_of(one, n, &r, err);
        *out = st == JPT_OK ? r.zipf : NAN;
    } else if (st == JPT_OK && n > 1 && (st = jpt_self_bleu(NULL, one, n, each, err)) == JPT_OK) {
        for (size_t i = 0; i < n; i++)
            sum += each[i];
        *out = sum / (double)n;
    }
    free(each);
    free(one);
    return st;
}

/* passed [items, 2]: programs that passed, and how many there are. */
static jpt_status pass_at_k(const double *passed, int32_t n_items, int32_t n_texts, jpt_task_score *out, int32_t *n_out, uint64_t seed, int32_t resamples, jpt_error *err) {
    static const struct {
        int64_t     k;
        const char *name;
    } at[] = {{2, "pass@2"}, {5, "pass@5"}, {10, "pass@10"}, {25, "pass@25"}, {50, "pass@50"}, {100, "pass@100"}};
    double    *each = malloc(((size_t)n_items + 1) * sizeof *each), least = INFINITY;
    jpt_status st = each ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d scores", n_items);
    for (int32_t i = 0; i < n_items; i++)
        least = fmin(least, passed[2 * i + 1]);
    for (size_t a = 0; st == JPT_OK && n_items > 0 && a < sizeof at / sizeof *at && (double)at[a].k <= least; a++) {
        jpt_task_score *s = &out[(*n_out)++];
        *s = (jpt_task_score){.name = at[a].name, .value = 0, .n = n_texts};
        for (int32_t i = 0; i < n_items; i++) {
            each[i] = jpt_pass_at_k((int64_t)passed[2 * i + 1], (int64_t)passed[2 * i], at[a].k);
            s->value += each[i] / n_items;
        }
        st = jpt_bootstrap_mean(each, n_items, resamples, seed, &s->ci_low, &s->ci_high, err);
    }
    free(each);
    return st;
}

/* stats of metric m; score: of text i at score[i * stride]. */
static jpt_status collect(const jpt_task *t, task_metric m, const int32_t *item, const jpt_str *text, const jpt_task_score *score,
                          int32_t stride, int32_t n, const grouped *g, resample *r, jpt_error *err) {
    double one[JPT_CORPUS_STATS_MAX];
    r->corpus = task_metrics[m].corpus;
    if (r->corpus)
        task_corpus_metric(m, &r->metric);
    r->n_stats = r->corpus ? jpt_corpus_n_stats(&r->metric) : 2;
    r->stats = calloc(((size_t)g->n_items + 1) * (size_t)r->n_stats, sizeof *r->stats);
    if (!r->stats)
        return JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    for (int32_t i = 0; i < n; i++) {
        double *sum = r->stats + (size_t)g->row_of[i] * (size_t)r->n_stats;
        if (r->corpus)
            JPT_TRY(task_corpus_stats(&t->item[item[i]], &r->metric, text[i], one, err));
        one[0] = r->corpus ? one[0] : score[(size_t)i * (size_t)stride].value;
        one[1] = r->corpus ? one[1] : 1;
        for (int k = 0; k < r->n_stats && (r->corpus || !isnan(one[0])); k++)
            sum[k] += one[k];
    }
    return JPT_OK;
}

jpt_status jpt_task_score_all(const jpt_task *t, const int32_t *item, const jpt_str *text, const jpt_task_score *item_scores,
                              int32_t n_item_scores, int32_t n, jpt_task_score out[JPT_TASK_CELL_SCORES_MAX], int32_t *n_out, jpt_error *err) {
    enum { RESAMPLES = 1000, SEED = 12345 };
    grouped    g = {0};
    double    *passed = NULL; /* stats of that metric */
    jpt_status st = group(t, item, n, &g, err);
    int32_t   *all = malloc(((size_t)g.n_items + 1) * sizeof *all);
    if (st == JPT_OK && !all)
        st = JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    *n_out = 0;
    for (int32_t i = 0; st == JPT_OK && i < g.n_items; i++)
        all[i] = i;
    for (int32_t m = 0; st == JPT_OK && m < t->n_metrics; m++) {
        task_metric     kind = t->metric[m];
        resample        r = {0};
        jpt_task_score *s = &out[(*n_out)++];
        *s = (jpt_task_score){.name = task_metrics[kind].name, .value = NAN, .ci_low = NAN, .ci_high = NAN, .n = n};
        if (kind == METRIC_SELF_BLEU || kind == METRIC_ZIPF) {
            st = of_all(kind, text, &g, &s->value, err);
            continue; /* no interval: texts drawn twice would be their own references */
        }
        if (n > 0)
            st = collect(t, kind, item, text, item_scores + m, n_item_scores, n, &g, &r, err);
        if (st == JPT_OK && n > 0) {
            s->value = value_of(&r, all, g.n_items);
            st = jpt_bootstrap(value_of, &r, g.n_items, RESAMPLES, SEED, &s->ci_low, &s->ci_high, err);
        }
        if (kind == METRIC_PASSED && !passed)
            passed = r.stats;
        else
            free(r.stats);
    }
    if (st == JPT_OK && passed)
        st = pass_at_k(passed, g.n_items, n, out, n_out, SEED, RESAMPLES, err);
    free(passed);
    free(all);
    free(g.row_of);
    free(g.first);
    return st;
}
