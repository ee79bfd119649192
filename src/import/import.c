/* One foreign run to rows: study, meter, cell, window with samples, requests with scores. */
#include "harness.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHARE "equal parts of the run: the trace tells no requests apart"
#define SOURCE "imported: nvidia-smi power.draw"

typedef struct rows {
    jpt_store        *s;
    const jpt_import *i;
    jpt_trace         trace;
    harness_log       log;
    const char       *metric;
    bool              corpus; /* chrf of the log's texts */
    char              rules[160], source[240], study_protocol[300];
    int64_t           cell, study, meter, task, window;
} rows;

static jpt_status refer(rows *r, jpt_error *err) {
    jpt_study_row study;
    jpt_model_row model;
    jpt_task_row  task;
    jpt_meter_row meter;
    jpt_cell_row  cell;
    int64_t       model_id;
    jpt_study_row_init(&study), jpt_model_row_init(&model), jpt_task_row_init(&task), jpt_meter_row_init(&meter), jpt_cell_row_init(&cell);
    snprintf(r->study_protocol, sizeof r->study_protocol, "imported: run by others; %s", r->i->samples ? "texts and scores of lm-evaluation-harness" : "no log of answers");
    study.jpt_version = JPT_VERSION, study.protocol = r->study_protocol, study.leaves_out = "not told by the files";
    model.name = r->i->model;
    task.name = r->i->task, task.primary_metric = r->metric, task.higher_is_better = 1;
    if (r->i->trace) {
        jpt_trace_rules_text(&r->i->rules, r->rules, sizeof r->rules);
        snprintf(r->source, sizeof r->source, SOURCE ", %s", r->rules);
        meter.kind = r->source, meter.source = r->source, meter.modelled = 0, meter.coverage = r->i->rules.gpu ? "one card's board, as its driver told it" : "the boards of all cards in the trace, as their driver told it";
        meter.accuracy = "not told; about 5 % of gain on a card, and what its window of averaging misses";
    } else
        meter.kind = "none", meter.source = "none: no trace was imported", meter.modelled = 0;
    JPT_TRY(jpt_store_put_study(r->s, &study, &r->study, err));
    JPT_TRY(jpt_store_put_model(r->s, &model, &model_id, err));
    JPT_TRY(jpt_store_put_task(r->s, &task, &r->task, err));
    JPT_TRY(jpt_store_put_meter(r->s, &meter, &r->meter, err));
    cell.study = r->study, cell.model = model_id, cell.task = r->task, cell.meter = r->meter, cell.spec = r->i->spec, cell.device = r->i->device, cell.batch = r->i->batch;
    char strategy[64];
    snprintf(strategy, sizeof strategy, "%.*s", (int)strcspn(r->i->spec, ":"), r->i->spec);
    cell.strategy = strategy;
    return jpt_store_put_cell(r->s, &cell, &r->cell, err);
}

static jpt_status put_window(rows *r, int64_t n_requests, jpt_error *err) {
    const jpt_trace *t = &r->trace;
    jpt_window_row   w;
    jpt_power_row   *power = calloc(t->n + 1, sizeof *power);
    if (!power)
        return JPT_FAIL(err, NOMEM, "out of memory for the trace");
    size_t n = 0;
    for (size_t k = 0; k < t->n; k++) /* half a second and two samples around, as the bench keeps them */
        if (t->sample[k].t_s >= t->t_start_s - 2 && t->sample[k].t_s <= t->t_end_s + 2)
            power[n++] = (jpt_power_row){.t_s = t->sample[k].t_s, .power_w = t->sample[k].power_w};
    jpt_window_row_init(&w);
    w.study = r->study, w.meter = r->meter, w.cell = r->cell, w.kind = "requests", w.block = r->i->block, w.attempt = 0, w.replications = 1;
    w.t_start_s = t->t_start_s, w.t_end_s = t->t_start_s + t->duration_s, w.duration_s = t->duration_s, w.n_requests = n_requests, w.output_tokens = r->i->output_tokens;
    w.energy_source = r->source, w.modelled = 0, w.energy_j = t->energy_j, w.net_energy_j = t->net_energy_j, w.mean_w = t->mean_w, w.peak_w = t->peak_w, w.idle_before_w = t->idle_w;
    w.n_samples = t->n_samples, w.max_gap_s = t->max_gap_s, w.valid = t->valid, w.reasons = t->reasons[0] ? t->reasons : NULL;
    jpt_status st = jpt_store_put_window(r->s, &w, power, n, &r->window, err);
    free(power);
    return st;
}

static void share(const rows *r, int64_t n, jpt_request_row *q) {
    const jpt_trace *t = &r->trace;
    if (!r->i->trace)
        return;
    q->window = r->window, q->energy_source = r->source, q->modelled = 0, q->energy_valid = t->valid, q->energy_reasons = t->reasons[0] ? t->reasons : NULL;
    q->energy_j = t->energy_j / (double)n, q->net_energy_j = t->net_energy_j / (double)n, q->idle_w = t->idle_w;
    q->share_rule = n > 1 ? SHARE : NULL;
    if (n == 1)
        q->duration_s = t->duration_s;
    /* of many, the mean time a request: a run was one after the other, or it was not, and the trace does not tell */
}

static jpt_status put_run(rows *r, jpt_error *err) {
    jpt_request_row q;
    int64_t         id;
    jpt_request_row_init(&q);
    q.cell = r->cell, q.block = r->i->block, q.item_index = 0, q.seed = r->i->block, q.item_id = "the whole run", q.output_tokens = r->i->output_tokens, q.failed = 0;
    share(r, 1, &q);
    jpt_item_row it;
    jpt_item_row_init(&it);
    it.task = r->task, it.item_index = 0, it.item_id = q.item_id;
    JPT_TRY(jpt_store_put_item(r->s, &it, &id, err));
    return jpt_store_put_request(r->s, &q, NULL, 0, &id, err);
}

static jpt_status put_doc(rows *r, const harness_doc *d, jpt_chrf_stats *of_corpus, double *score, jpt_error *err) {
    jpt_request_row q;
    jpt_item_row    it;
    jpt_score_row   scores[HARNESS_SCORES + 1];
    int64_t         id;
    size_t          n = 0;
    char            name[32];
    jpt_request_row_init(&q), jpt_item_row_init(&it);
    snprintf(name, sizeof name, "%lld", (long long)d->doc_id);
    it.task = r->task, it.item_index = d->doc_id, it.item_id = name, it.prompt = d->prompt;
    JPT_TRY(jpt_store_put_item(r->s, &it, &id, err));
    q.cell = r->cell, q.block = r->i->block, q.item_index = d->doc_id, q.seed = r->i->block, q.item_id = name, q.text = d->text, q.failed = 0;
    share(r, (int64_t)r->log.n, &q);
    *score = NAN;
    for (int k = 0; k < d->n_scores; k++) {
        scores[n++] = (jpt_score_row){.metric = d->names[k], .value = d->scores[k], .ci_low = NAN, .ci_high = NAN, .n = -1};
        if (r->metric && strcmp(d->names[k], r->metric) == 0)
            *score = d->scores[k];
    }
    if (r->corpus && d->reference) {
        jpt_chrf_stats stats;
        const jpt_str  ref = jpt_str_z(d->reference);
        JPT_TRY(jpt_chrf_segment(jpt_str_z(d->text), &ref, 1, 0, &stats, err));
        jpt_chrf_add(of_corpus, &stats);
        *score = jpt_chrf_score(&stats, 0);
        scores[n++] = (jpt_score_row){.metric = "chrf", .value = *score, .ci_low = NAN, .ci_high = NAN, .n = -1};
    }
    return jpt_store_put_request(r->s, &q, scores, n, &id, err);
}

/* The given metric, else the log's first number, else chrF where it has references. */
static jpt_status choose_metric(rows *r, jpt_error *err) {
    const harness_log *l = &r->log;
    if (l->n == 0)
        return JPT_OK;
    bool has = false, texts = l->doc[0].reference != NULL;
    for (int k = 0; k < l->doc[0].n_scores && r->i->metric; k++)
        has = has || strcmp(l->doc[0].names[k], r->i->metric) == 0;
    r->metric = r->i->metric ? r->i->metric : l->doc[0].n_scores ? l->doc[0].names[0] : texts ? "chrf" : NULL;
    r->corpus = texts && r->metric && strcmp(r->metric, "chrf") == 0 && !has && !(l->doc[0].n_scores && !r->i->metric);
    if (r->i->metric && !has && !r->corpus)
        return JPT_FAIL(err, ARG, "%s: no metric '%s'; its first line has %s%s", r->i->samples, r->i->metric, l->doc[0].n_scores ? l->doc[0].names[0] : "no number", texts ? " and texts for chrf" : "");
    return JPT_OK;
}

static jpt_status put_all(rows *r, jpt_import_summary *out, jpt_error *err) {
    bool           there = false;
    double         sum = 0, score;
    int64_t        scored = 0, n = r->log.n ? (int64_t)r->log.n : 1;
    jpt_chrf_stats corpus = {0};
    JPT_TRY(refer(r, err));
    JPT_TRY(jpt_store_request_exists(r->s, r->cell, r->i->block, r->log.n ? r->log.doc[0].doc_id : 0, r->i->block, &there, err));
    if (there)
        return JPT_FAIL(err, ARG, "block %d of '%s' on '%s' is in the file already; give another --block", r->i->block, r->i->spec, r->i->task);
    if (r->i->trace)
        JPT_TRY(put_window(r, n, err));
    if (r->log.n == 0)
        JPT_TRY(put_run(r, err));
    for (size_t k = 0; k < r->log.n; k++) {
        JPT_TRY(put_doc(r, &r->log.doc[k], &corpus, &score, err));
        if (isfinite(score))
            sum += score, scored++;
    }
    out->n_requests = n;
    out->score = scored == 0 ? NAN : r->corpus ? jpt_chrf_score(&corpus, 0) : sum / (double)scored;
    if (r->corpus && r->i->block == 0 && scored == n) { /* of a second block there is no corpus score of both: a mean of segments stands */
        jpt_score_row row = {.owner = r->cell, .metric = "chrf", .value = out->score, .ci_low = NAN, .ci_high = NAN, .n = n};
        JPT_TRY(jpt_store_put_cell_scores(r->s, r->cell, &row, 1, err));
    }
    return JPT_OK;
}

jpt_status jpt_import_run(jpt_store *s, const jpt_import *i, jpt_import_summary *out, jpt_error *err) {
    rows r = {.s = s, .i = i, .window = -1};
    *out = (jpt_import_summary){.score = NAN};
    if (!i->trace && !i->samples)
        return JPT_FAIL(err, ARG, "nothing to import: neither a trace of power nor a log of samples is given");
    jpt_status st = i->trace ? jpt_trace_read(i->trace, &i->rules, &r.trace, err) : JPT_OK;
    if (st == JPT_OK && i->samples)
        st = harness_read(i->samples, i->filter, &r.log, err);
    if (r.log.n_bad && i->trace) { /* their joules are in the trace: the others' would be too high */
        size_t n = strlen(r.trace.reasons);
        snprintf(r.trace.reasons + n, sizeof r.trace.reasons - n, "%s%lld lines of the log cannot be read: their requests are missing", n ? "; " : "", (long long)r.log.n_bad);
        r.trace.valid = false;
    }
    if (st == JPT_OK)
        st = choose_metric(&r, err);
    if (st == JPT_OK && (st = jpt_store_begin(s, err)) == JPT_OK)
        st = jpt_store_end(s, put_all(&r, out, err), err);
    out->n_bad_lines = r.log.n_bad;
    snprintf(out->metric, sizeof out->metric, "%s", r.metric ? r.metric : "");
    out->trace = r.trace;
    out->trace.sample = NULL, out->trace.n = 0;
    jpt_trace_fini(&r.trace);
    harness_fini(&r.log);
    return st;
}
