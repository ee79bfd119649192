/* The metrics a task may name, and what each says of one text. */
#include "task_priv.h"
#include <jpt/sandbox.h>
#include <math.h>
#include <string.h>

enum { REFS_MAX = 32 };

const task_metric_def task_metrics[METRIC_COUNT] = {
    [METRIC_CHRF] = {"chrf", true, true, false},
    [METRIC_CHRF_WORDS] = {"chrf++", true, true, false},
    [METRIC_BLEU] = {"bleu", true, true, false},
    [METRIC_BLEU_ZH] = {"bleu_zh", true, true, false},
    [METRIC_TER] = {"ter", true, true, true},
    [METRIC_SMOOTHED_BLEU_4] = {"smoothed_bleu_4", false, true, false},
    [METRIC_ROUGE_1] = {"rouge1", false, true, false},
    [METRIC_ROUGE_2] = {"rouge2", false, true, false},
    [METRIC_ROUGE_L] = {"rougeL", false, true, false},
    [METRIC_ROUGE_LSUM] = {"rougeLsum", false, true, false},
    [METRIC_EXACT_MATCH] = {"exact_match", false, true, false},
    [METRIC_GSM8K_STRICT] = {"gsm8k_strict", false, true, false},
    [METRIC_GSM8K_FLEXIBLE] = {"gsm8k_flexible", false, true, false},
    [METRIC_GSM8K_COT] = {"gsm8k_cot", false, true, false},
    [METRIC_GSM8K_INVALID] = {"gsm8k_invalid", false, false, true},
    [METRIC_PASSED] = {"passed", false, false, false},
    [METRIC_DIVERSITY] = {"diversity", false, false, false},
    [METRIC_DISTINCT_1] = {"distinct_1", false, false, false},
    [METRIC_DISTINCT_2] = {"distinct_2", false, false, false},
    [METRIC_DISTINCT_3] = {"distinct_3", false, false, false},
    [METRIC_REP_2] = {"rep_2", false, false, true},
    [METRIC_REP_3] = {"rep_3", false, false, true},
    [METRIC_REP_4] = {"rep_4", false, false, true},
    [METRIC_SELF_BLEU] = {"self_bleu", false, false, true},
    [METRIC_ZIPF] = {"zipf", false, false, false},
    [METRIC_WORDS] = {"words", false, false, false},
};

task_metric task_metric_named(const char *name, const char **near) {
    const char *names[METRIC_COUNT];
    int         m = 0;
    while (m < METRIC_COUNT && strcmp(task_metrics[m].name, name) != 0)
        m++;
    for (int i = 0; i < METRIC_COUNT; i++)
        names[i] = task_metrics[i].name;
    *near = m < METRIC_COUNT ? NULL : jpt_nearest(name, names, METRIC_COUNT);
    return (task_metric)m;
}

bool jpt_task_open_ended(const char *primary_metric) {
    const char *near;
    task_metric m = primary_metric ? task_metric_named(primary_metric, &near) : METRIC_COUNT;
    return m >= METRIC_DIVERSITY && m < METRIC_COUNT;
}

/* ---- code ------------------------------------------------------------------------------------------------------------ */

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

/* ---- texts against references ------------------------------------------------------------------------------------------- */

static size_t references_of(const task_item *it, jpt_str ref[REFS_MAX]) {
    size_t n = it->pub.n_references < REFS_MAX ? it->pub.n_references : REFS_MAX;
    for (size_t i = 0; i < n; i++)
        ref[i] = jpt_str_z(it->pub.references[i]);
    return n;
}

void task_corpus_metric(task_metric m, jpt_corpus_metric *out) {
    jpt_corpus_metric_named(m == METRIC_BLEU_ZH ? "bleu" : task_metrics[m].name, out);
    if (m == METRIC_BLEU_ZH)
        out->bleu.tokenizer = JPT_BLEU_TOK_ZH;
}

jpt_status task_corpus_stats(const task_item *it, const jpt_corpus_metric *m, jpt_str text, double *stats, jpt_error *err) {
    jpt_str ref[REFS_MAX];
    return jpt_corpus_segment(m, text, ref, references_of(it, ref), stats, err);
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

static jpt_status answer(const task_item *it, jpt_answer_filter filter, jpt_str text, double *out, jpt_error *err) {
    bool right = false;
    for (size_t i = 0; i < it->pub.n_references && !right; i++)
        JPT_TRY(jpt_answer_match(filter, text, jpt_str_z(it->pub.references[i]), &right, err));
    *out = right;
    return JPT_OK;
}

static jpt_status rouge(const task_item *it, int kind, jpt_str text, double *out, jpt_error *err) {
    jpt_str   ref[REFS_MAX];
    jpt_rouge r;
    JPT_TRY(jpt_rouge_segment(true, text, ref, references_of(it, ref), &r, err)); /* with stems, as summaries are scored */
    *out = 100 * r.of[kind].f;
    return JPT_OK;
}

static jpt_status repetition(task_metric m, jpt_str text, double *out, jpt_error *err) {
    jpt_repetition r;
    JPT_TRY(jpt_repetition_of(text, &r, err));
    *out = m == METRIC_DIVERSITY ? r.diversity : m == METRIC_WORDS ? (double)r.n_words : m >= METRIC_REP_2 ? r.rep[m - METRIC_REP_2] : r.distinct[m - METRIC_DISTINCT_1];
    return JPT_OK;
}

jpt_status task_score_text(const jpt_task *t, size_t item, task_metric m, jpt_str text, double *out, jpt_error *err) {
    const task_item *it = &t->item[item];
    jpt_str          ref[REFS_MAX];
    *out = NAN;
    if (task_metrics[m].corpus) {
        jpt_corpus_metric c;
        double            stats[JPT_CORPUS_STATS_MAX];
        task_corpus_metric(m, &c);
        c.effective_order = true; /* a sentence */
        JPT_TRY(task_corpus_stats(it, &c, text, stats, err));
        *out = jpt_corpus_score(&c, stats);
        return JPT_OK;
    }
    switch (m) {
    case METRIC_SMOOTHED_BLEU_4: return jpt_bleu_code_summary(text, ref, references_of(it, ref), out, err);
    case METRIC_ROUGE_1:
    case METRIC_ROUGE_2:
    case METRIC_ROUGE_L:
    case METRIC_ROUGE_LSUM: return rouge(it, (int)m - METRIC_ROUGE_1, text, out, err);
    case METRIC_GSM8K_STRICT: return answer(it, JPT_ANSWER_STRICT, text, out, err);
    case METRIC_GSM8K_FLEXIBLE: return answer(it, JPT_ANSWER_FLEXIBLE, text, out, err);
    case METRIC_GSM8K_COT: return answer(it, JPT_ANSWER_COT, text, out, err);
    case METRIC_PASSED: return run_tests(it, t->extract, text, out, err);
    case METRIC_EXACT_MATCH: *out = exact_match(it, text); return JPT_OK;
    case METRIC_GSM8K_INVALID: *out = !jpt_answer_extract(JPT_ANSWER_STRICT, text, &ref[0]); return JPT_OK;
    case METRIC_SELF_BLEU:
    case METRIC_ZIPF: return JPT_OK;
    default: return repetition(m, text, out, err);
    }
}
