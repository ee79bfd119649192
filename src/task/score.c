/* Scoring texts against a task's items, one by one and all of a cell. */
#include "task_priv.h"
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

typedef struct resample {
    jpt_corpus_metric     metric;
    const double         *stats; /* [n][n_stats] of a corpus metric; NULL: means of scores */
    int                   n_stats;
    const jpt_task_score *scores;
    int32_t               stride, column;
} resample;

static double value_of(void *ud, const int32_t *index, int32_t n) {
    const resample *r = ud;
    if (r->stats) {
        double sum[JPT_CORPUS_STATS_MAX] = {0};
        for (int32_t i = 0; i < n; i++)
            for (int k = 0; k < r->n_stats; k++)
                sum[k] += r->stats[(size_t)index[i] * (size_t)r->n_stats + (size_t)k];
        return jpt_corpus_score(&r->metric, sum);
    }
    double  sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        double v = r->scores[(size_t)index[i] * (size_t)r->stride + (size_t)r->column].value;
        if (!isnan(v)) {
            sum += v;
            count++;
        }
    }
    return count ? sum / count : NAN;
}

/* Every text against the others of the cell; NAN for fewer than two. */
static jpt_status self_bleu(const jpt_str *text, int32_t n, double *out, jpt_error *err) {
    double *each = n > 1 ? malloc((size_t)n * sizeof *each) : NULL, sum = 0;
    *out = NAN;
    if (n < 2)
        return JPT_OK;
    if (!each)
        return JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    jpt_status st = jpt_self_bleu(NULL, text, (size_t)n, each, err);
    for (int32_t i = 0; st == JPT_OK && i < n; i++)
        sum += each[i];
    free(each);
    *out = sum / n;
    return st;
}

/* The statistics of all texts; *out [n][n_stats], released by the caller. */
static jpt_status collect(const jpt_task *t, const int32_t *item, const jpt_str *text, int32_t n, resample *r, double **out, jpt_error *err) {
    size_t count = n > 0 ? (size_t)n : 1;
    r->n_stats = jpt_corpus_n_stats(&r->metric);
    double *stats = calloc(count * (size_t)r->n_stats, sizeof *stats);
    if (!stats)
        return JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    jpt_status st = JPT_OK;
    for (int32_t i = 0; st == JPT_OK && i < n; i++)
        st = task_corpus_stats(&t->item[item[i]], &r->metric, text[i], stats + (size_t)i * (size_t)r->n_stats, err);
    *out = stats;
    r->stats = stats;
    return st;
}

jpt_status jpt_task_score_all(const jpt_task *t, const int32_t *item, const jpt_str *text, const jpt_task_score *item_scores,
                              int32_t n_item_scores, int32_t n, jpt_task_score out[JPT_TASK_SCORES_MAX], int32_t *n_out, jpt_error *err) {
    enum { RESAMPLES = 1000, SEED = 12345 };
    int32_t   *all = calloc(n > 0 ? (size_t)n : 1, sizeof *all);
    jpt_status st = all ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    *n_out = 0;
    for (int32_t i = 0; st == JPT_OK && i < n; i++)
        all[i] = i;
    for (int32_t m = 0; st == JPT_OK && m < t->n_metrics; m++) {
        task_metric     kind = t->metric[m];
        resample        r = {.scores = item_scores, .stride = n_item_scores, .column = m};
        double         *stats = NULL;
        jpt_task_score *s = &out[(*n_out)++];
        *s = (jpt_task_score){.name = task_metrics[kind].name, .value = NAN, .ci_low = NAN, .ci_high = NAN, .n = n};
        if (kind == METRIC_SELF_BLEU) {
            st = self_bleu(text, n, &s->value, err);
            continue; /* no interval: texts drawn twice would be their own references */
        }
        if (task_metrics[kind].corpus && n > 0) {
            task_corpus_metric(kind, &r.metric);
            st = collect(t, item, text, n, &r, &stats, err);
        }
        if (st == JPT_OK && n > 0) {
            s->value = value_of(&r, all, n);
            st = jpt_bootstrap(value_of, &r, n, RESAMPLES, SEED, &s->ci_low, &s->ci_high, err);
        }
        free(stats);
    }
    free(all);
    return st;
}
