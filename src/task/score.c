/* Scoring texts against a task's items. */
#include "task_priv.h"
#include <jpt/metric.h>
#include <jpt/sandbox.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Code of an answer: the first fenced block, else the whole text. */
static jpt_str code_of(jpt_str text) {
    const char *open = memmem(text.p, text.n, "```", 3);
    if (!open)
        return text;
    const char *start = memchr(open, '\n', text.n - (size_t)(open - text.p));
    if (!start)
        return (jpt_str){text.p, 0};
    start++;
    size_t      left = text.n - (size_t)(start - text.p);
    const char *close = memmem(start, left, "```", 3);
    return (jpt_str){start, close ? (size_t)(close - start) : left};
}

/* CPU time decides, so that a busy machine changes no verdict; MBPP's own slowest solution (123) takes 4 to 7 s of it. */
static const jpt_sandbox_limits code_limits = {.cpu_s = 20, .wall_s = 60};

static jpt_status run_tests(const task_item *it, task_extract extract, jpt_str text, double *passed, jpt_error *err) {
    jpt_buf            program = {0};
    jpt_str            code = extract == EXTRACT_CODE ? code_of(text) : text;
    jpt_sandbox_result r = {0};
    jpt_buf_addz(&program, it->before);
    jpt_buf_add(&program, code.p, code.n);
    jpt_buf_addc(&program, '\n');
    jpt_status st = program.oom ? JPT_FAIL(err, NOMEM, "out of memory")
                                : jpt_sandbox_test((jpt_str){program.p, program.n}, jpt_str_z(it->tests), &code_limits, &r, err);
    *passed = r.passed;
    jpt_sandbox_result_fini(&r);
    jpt_buf_fini(&program);
    return st;
}

static double exact_match(const task_item *it, jpt_str text) {
    double got, want;
    if (!jpt_last_number(text, &got))
        return 0;
    for (size_t i = 0; i < it->pub.n_references; i++)
        if (jpt_last_number(jpt_str_z(it->pub.references[i]), &want) && got == want)
            return 1;
    return 0;
}

static jpt_status segment(const task_item *it, jpt_str text, jpt_bleu_stats *bleu, jpt_chrf_stats *chrf, int words, jpt_error *err) {
    enum { REFS_MAX = 32 };
    jpt_str ref[REFS_MAX];
    size_t  n = it->pub.n_references < REFS_MAX ? it->pub.n_references : REFS_MAX;
    for (size_t i = 0; i < n; i++)
        ref[i] = jpt_str_z(it->pub.references[i]);
    if (bleu)
        JPT_TRY(jpt_bleu_segment(text, ref, n, bleu, err));
    return chrf ? jpt_chrf_segment(text, ref, n, words, chrf, err) : JPT_OK;
}

jpt_status jpt_task_score_item(const jpt_task *t, size_t item, jpt_str text, jpt_task_score out[JPT_TASK_SCORES_MAX], int32_t *n,
                               jpt_error *err) {
    const task_item *it = &t->item[item];
    jpt_repetition   rep;
    JPT_TRY(jpt_repetition_of(text, &rep, err));
    for (*n = 0; *n < t->n_metrics; (*n)++) {
        jpt_task_score *s = &out[*n];
        task_metric     m = t->metric[*n];
        *s = (jpt_task_score){.name = task_metric_names[m], .value = NAN, .ci_low = NAN, .ci_high = NAN, .n = 1};
        switch (m) {
        case METRIC_BLEU: {
            jpt_bleu_stats b;
            JPT_TRY(segment(it, text, &b, NULL, 0, err));
            s->value = jpt_bleu_score(&b, true);
            break;
        }
        case METRIC_CHRF: {
            jpt_chrf_stats c;
            JPT_TRY(segment(it, text, NULL, &c, 0, err));
            s->value = jpt_chrf_score(&c, 0);
            break;
        }
        case METRIC_CHRF_WORDS: {
            jpt_chrf_stats c;
            JPT_TRY(segment(it, text, NULL, &c, JPT_CHRF_WORDS, err));
            s->value = jpt_chrf_score(&c, JPT_CHRF_WORDS);
            break;
        }
        case METRIC_EXACT_MATCH:
            s->value = exact_match(it, text);
            break;
        case METRIC_PASSED:
            JPT_TRY(run_tests(it, t->extract, text, &s->value, err));
            break;
        case METRIC_DIVERSITY:
            s->value = rep.diversity;
            break;
        case METRIC_DISTINCT_1:
        case METRIC_DISTINCT_2:
        case METRIC_DISTINCT_3:
            s->value = rep.distinct[m - METRIC_DISTINCT_1];
            break;
        case METRIC_REP_2:
        case METRIC_REP_3:
        case METRIC_REP_4:
            s->value = rep.rep[m - METRIC_REP_2];
            break;
        case METRIC_WORDS:
            s->value = (double)rep.n_words;
            break;
        case METRIC_COUNT:
            break;
        }
    }
    return JPT_OK;
}

/* ---- a whole cell ------------------------------------------------------------------------------------------ */

typedef struct resample {
    const jpt_bleu_stats *bleu;
    const jpt_chrf_stats *chrf;
    const jpt_task_score *scores;
    int32_t               stride, metric, words; /* words: order of chrF++ */
} resample;

static double value_of(void *ud, const int32_t *index, int32_t n) {
    const resample *r = ud;
    if (r->bleu) {
        jpt_bleu_stats sum = {0};
        for (int32_t i = 0; i < n; i++)
            jpt_bleu_add(&sum, &r->bleu[index[i]]);
        return jpt_bleu_score(&sum, false);
    }
    if (r->chrf) {
        jpt_chrf_stats sum = {0};
        for (int32_t i = 0; i < n; i++)
            jpt_chrf_add(&sum, &r->chrf[index[i]]);
        return jpt_chrf_score(&sum, r->words);
    }
    double  sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
        double v = r->scores[(size_t)index[i] * (size_t)r->stride + (size_t)r->metric].value;
        if (!isnan(v)) {
            sum += v;
            count++;
        }
    }
    return count ? sum / count : NAN;
}

jpt_status jpt_task_score_all(const jpt_task *t, const int32_t *item, const jpt_str *text, const jpt_task_score *item_scores,
                              int32_t n_item_scores, int32_t n, jpt_task_score out[JPT_TASK_SCORES_MAX], int32_t *n_out, jpt_error *err) {
    enum { RESAMPLES = 1000, SEED = 12345 };
    size_t          count = n > 0 ? (size_t)n : 1;
    jpt_bleu_stats *bleu = calloc(count, sizeof *bleu);
    jpt_chrf_stats *chrf = calloc(count, sizeof *chrf), *chrf_words = calloc(count, sizeof *chrf_words);
    int32_t        *all = calloc(count, sizeof *all);
    jpt_status      st = bleu && chrf && chrf_words && all ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d scores", n);
    *n_out = 0;
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        all[i] = i;
        if (t->item[item[i]].pub.n_references)
            st = segment(&t->item[item[i]], text[i], &bleu[i], &chrf[i], 0, err);
        if (st == JPT_OK && t->item[item[i]].pub.n_references)
            st = segment(&t->item[item[i]], text[i], NULL, &chrf_words[i], JPT_CHRF_WORDS, err);
    }
    for (int32_t m = 0; st == JPT_OK && m < t->n_metrics; m++) {
        task_metric     kind = t->metric[m];
        resample        r = {.scores = item_scores, .stride = n_item_scores, .metric = m};
        r.bleu = kind == METRIC_BLEU ? bleu : NULL;
        r.chrf = kind == METRIC_CHRF ? chrf : kind == METRIC_CHRF_WORDS ? chrf_words : NULL;
        r.words = kind == METRIC_CHRF_WORDS ? JPT_CHRF_WORDS : 0;
        jpt_task_score *s = &out[(*n_out)++];
        *s = (jpt_task_score){.name = task_metric_names[t->metric[m]], .value = value_of(&r, all, n), .ci_low = NAN, .ci_high = NAN, .n = n};
        if (n > 0)
            st = jpt_bootstrap(value_of, &r, n, RESAMPLES, SEED, &s->ci_low, &s->ci_high, err);
    }
    free(bleu);
    free(chrf);
    free(chrf_words);
    free(all);
    return st;
}
