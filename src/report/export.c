/* jpt export: runs.csv, requests.jsonl, power.csv and results.json, with the names that other energy tools' users parse already. */
#include "data.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scored { int64_t request; double value; } scored;

/* What requests of one window (or one request) add up to. */
typedef struct run {
    int64_t prompt, output, computed, ok, failed, seed;
    double  ttft, ttfts, decode_s, decoded, e2e, e2es, score, scores, phase_j[N_PHASES], phased;
} run;

typedef struct exporting {
    const report *r;
    jpt_buf       runs, jsonl;
    run          *of_window;
    scored       *scores;
    int           n_scores, cap;
    const char   *metric;  /* of the cell whose scores are read */
    int           number;  /* run_id */
} exporting;

/* ---- scores -------------------------------------------------------------------------------------- */

static jpt_status keep_score(void *ud, const jpt_score_row *s) {
    exporting *x = ud;
    if (!x->metric || strcmp(s->metric, x->metric) != 0)
        return JPT_OK;
    if (x->n_scores == x->cap) {
        int   cap = x->cap ? 2 * x->cap : 256;
        void *grown = realloc(x->scores, (size_t)cap * sizeof *x->scores);
        if (!grown)
            return JPT_NOMEM;
        x->scores = grown, x->cap = cap;
    }
    x->scores[x->n_scores++] = (scored){s->owner, s->value};
    return JPT_OK;
}
static int by_request(const void *a, const void *b) {
    int64_t x = ((const scored *)a)->request, y = ((const scored *)b)->request;
    return (x > y) - (x < y);
}
static double score_of(const exporting *x, int64_t request) {
    const scored  key = {.request = request};
    const scored *s = x->n_scores ? bsearch(&key, x->scores, (size_t)x->n_scores, sizeof key, by_request) : NULL;
    return s ? s->value : NAN;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static void add(run *w, const jpt_request_row *q, double score) {
    const double phase[N_PHASES] = {q->prefill_energy_j, q->decode_energy_j, q->draft_energy_j, q->verify_energy_j, q->select_energy_j, isfinite(q->kv_energy_j) ? q->kv_energy_j : 0, q->other_energy_j};
    double       all = 0;
    w->prompt += q->prompt_tokens > 0 ? q->prompt_tokens : 0, w->output += q->output_tokens > 0 ? q->output_tokens : 0, w->computed += q->positions_computed > 0 ? q->positions_computed : 0;
    *(q->failed == 1 ? &w->failed : &w->ok) += 1;
    w->seed = q->seed;
    if (isfinite(q->ttft_s))
        w->ttft += q->ttft_s, w->ttfts++;
    if (isfinite(q->ttft_s) && isfinite(q->duration_s) && q->output_tokens > 1)
        w->decode_s += (q->duration_s - q->ttft_s) / (double)(q->output_tokens - 1), w->decoded++;
    if (isfinite(q->duration_s))
        w->e2e += q->duration_s, w->e2es++;
    if (isfinite(score))
        w->score += score, w->scores++;
    for (int k = 0; k < N_PHASES; k++)
        all += phase[k];
    if (isfinite(all)) {
        for (int k = 0; k < N_PHASES; k++)
            w->phase_j[k] += phase[k];
        w->phased++;
    }
}

static void real(jpt_buf *b, double v) {
    if (isfinite(v))
        jpt_buf_printf(b, "%.9g", v);
    jpt_buf_addc(b, ',');
}
static void whole(jpt_buf *b, int64_t v) {
    if (v >= 0)
        jpt_buf_printf(b, "%lld", (long long)v);
    jpt_buf_addc(b, ',');
}
static void text(jpt_buf *b, const char *z) {
    report_csv_field(b, z);
    jpt_buf_addc(b, ',');
}

static const char columns[] =
    "schema_version,run_id,kind,task,block,order,attempt,replications,strategy,spec,params_json,seed,model,dtype,device,batch,prompt_tokens,output_tokens,forward_tokens,accepted_tokens,requests_ok,"
    "requests_failed,t_start_mono_s,duration_s,ttft_ms_mean,tpot_ms_mean,e2el_ms_mean,output_throughput,energy_source,modelled,energy_j,gpu_energy_j,gpu_energy_integral_j,residual_frac,"
    "edge_correction_j,idle_w,net_energy_j,avg_power_w,peak_power_w,mem_energy_j,cpu_energy_j,dram_energy_j,prefill_energy_j,decode_energy_j,draft_energy_j,verify_energy_j,sampler_energy_j,"
    "kv_energy_j,other_energy_j,joules_per_output_token,joules_per_total_token,joules_per_request,joules_per_successful_query,edp_js,quality_metric,quality_value,temp_start_c,temp_end_c,sm_mhz_mean,"
    "throttle_bits,n_samples,max_gap_s,power_valid,power_invalid_reasons\r\n";

static double mean(double sum, double n) { return n > 0 ? sum / n : NAN; }
static double over(double v, double n) { return n > 0 ? v / n : NAN; }

/* A window's row; a request that was metered alone comes as a window of its own. */
static void put_run(exporting *x, const jpt_window_row *w, const cell *c, const run *q) {
    jpt_buf    *b = &x->runs;
    double      times = w->replications > 0 ? (double)w->replications : 1, e = w->energy_j / times, s = w->duration_s / times, n = (double)(q->ok + q->failed);
    bool        gpu = w->energy_source && strncmp(w->energy_source, "nvml", 4) == 0, cpu = w->energy_source && strcmp(w->energy_source, "rapl") == 0;
    double      output = q->output > 0 ? (double)q->output : w->output_tokens > 0 ? (double)w->output_tokens : NAN;
    double      mhz = isfinite(w->sm_mhz_start) && isfinite(w->sm_mhz_end) ? (w->sm_mhz_start + w->sm_mhz_end) / 2 : isfinite(w->sm_mhz_start) ? w->sm_mhz_start : w->sm_mhz_end;
    double      idle = isfinite(w->idle_before_w) && isfinite(w->idle_after_w) ? (w->idle_before_w + w->idle_after_w) / 2 : isfinite(w->idle_before_w) ? w->idle_before_w : w->idle_after_w;
    const jpt_model_row *m = c ? report_model(x->r, c->row.model) : NULL;
    jpt_buf_printf(b, "%d,%d,", JPT_STORE_SCHEMA, ++x->number);
    text(b, w->kind), text(b, c ? report_task(x->r, c->row.task)->name : NULL);
    whole(b, w->block), whole(b, w->order_in_block), whole(b, w->attempt), whole(b, w->replications);
    text(b, c ? c->strategy : NULL), text(b, c ? c->row.spec : NULL), text(b, c ? c->row.params_json : NULL);
    n > 0 ? whole(b, q->seed) : jpt_buf_addc(b, ',');
    text(b, m ? m->name : NULL), text(b, m ? m->dtype : NULL), text(b, c ? c->row.device : NULL);
    whole(b, c ? (c->row.batch < 1 ? 1 : c->row.batch) : -1);
    whole(b, n > 0 ? q->prompt : -1), real(b, output), whole(b, q->computed > 0 ? q->computed : -1);
    jpt_buf_addc(b, ','); /* accepted_tokens: not in the file */
    whole(b, n > 0 ? q->ok : -1), whole(b, n > 0 ? q->failed : -1);
    real(b, w->t_start_s), real(b, w->duration_s), real(b, 1e3 * mean(q->ttft, q->ttfts)), real(b, 1e3 * mean(q->decode_s, q->decoded)), real(b, 1e3 * mean(q->e2e, q->e2es)), real(b, over(output, s));
    text(b, w->energy_source), whole(b, w->modelled);
    real(b, w->energy_j), real(b, gpu ? w->energy_j : NAN), real(b, w->integral_j), real(b, w->residual), real(b, w->edge_correction_j), real(b, idle), real(b, w->net_energy_j), real(b, w->mean_w),
        real(b, w->peak_w);
    real(b, NAN), real(b, cpu ? w->energy_j : NAN), real(b, NAN);
    for (int k = 0; k < N_PHASES; k++)
        real(b, q->phased > 0 ? q->phase_j[k] : NAN);
    real(b, over(e, output)), real(b, over(e, q->prompt > 0 ? output + (double)q->prompt : 0)), real(b, over(e, n)), real(b, over(e, (double)q->ok)), real(b, over(e * s, n * n));
    text(b, q->scores > 0 ? report_metric(report_task(x->r, c->row.task)) : NULL);
    real(b, mean(q->score, q->scores)), real(b, w->temp_start_c), real(b, w->temp_end_c), real(b, mhz), whole(b, w->throttle_bits), whole(b, w->n_samples), real(b, w->max_gap_s), whole(b, w->valid);
    report_csv_field(b, w->reasons);
    jpt_buf_addz(b, "\r\n");
}

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }
static json_t *whole_or_null(int64_t v) { return v >= 0 ? json_integer(v) : json_null(); }
static json_t *text_or_null(const char *z) {
    json_t *t = z ? json_string(z) : json_null();
    return t ? t : json_string("(not UTF-8)");
}

static jpt_status put_line(exporting *x, const jpt_request_row *q, const cell *c, double score) {
    json_t *o = json_object();
#define SET(name, value) json_object_set_new(o, name, value)
    SET("request", json_integer(q->id)), SET("cell", json_integer(q->cell)), SET("task", text_or_null(report_task(x->r, c->row.task)->name)), SET("model", text_or_null(c->model));
    SET("spec", text_or_null(c->row.spec)), SET("block", json_integer(q->block)), SET("prompt_id", text_or_null(q->item_id)), SET("item_index", json_integer(q->item_index)), SET("seed", json_integer(q->seed));
    SET("prompt_tokens", whole_or_null(q->prompt_tokens)), SET("output_tokens", whole_or_null(q->output_tokens)), SET("forward_tokens", whole_or_null(q->positions_computed));
    SET("discarded_tokens", whole_or_null(q->positions_discarded)), SET("draft_tokens", whole_or_null(q->draft_positions)), SET("stop_reason", text_or_null(q->stop_reason));
    SET("ttft_ms", real_or_null(1e3 * q->ttft_s)), SET("e2el_ms", real_or_null(1e3 * q->duration_s));
    SET("tpot_ms", q->output_tokens > 1 ? real_or_null(1e3 * (q->duration_s - q->ttft_s) / (double)(q->output_tokens - 1)) : json_null());
    SET("energy_j", real_or_null(q->energy_j)), SET("net_energy_j", real_or_null(q->net_energy_j)), SET("energy_source", text_or_null(q->energy_source)), SET("modelled", q->modelled >= 0 ? json_boolean(q->modelled == 1) : json_null());
    SET("share_rule", text_or_null(q->share_rule)), SET("window", whole_or_null(q->window)), SET("power_valid", whole_or_null(q->energy_valid)), SET("power_invalid_reasons", text_or_null(q->energy_reasons));
    SET("quality_metric", text_or_null(isfinite(score) ? report_metric(report_task(x->r, c->row.task)) : NULL)), SET("quality_value", real_or_null(score));
    SET("failed", json_boolean(q->failed == 1)), SET("error", text_or_null(q->error)), SET("text", text_or_null(q->text));
    char *line = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(o);
    if (!line)
        return JPT_NOMEM;
    jpt_buf_addz(&x->jsonl, line);
    jpt_buf_addc(&x->jsonl, '\n');
    free(line);
    return JPT_OK;
}

static jpt_status put_request(void *ud, const jpt_request_row *q) {
    exporting  *x = ud;
    const cell *c = report_cell(x->r, q->cell);
    double      score = score_of(x, q->id);
    for (int i = 0; q->window >= 0 && i < x->r->n_windows; i++) {
        int at = (int)((q->window - 1 + i) % x->r->n_windows); /* ids are places nearly always */
        if (x->r->windows[at].id == q->window) {
            add(&x->of_window[at], q, score);
            return put_line(x, q, c, score);
        }
    }
    run            alone = {0};
    jpt_window_row w;
    jpt_window_row_init(&w);
    add(&alone, q, score);
    w.kind = "requests", w.cell = q->cell, w.block = q->block, w.order_in_block = q->order_in_block, w.replications = 1, w.t_start_s = q->t_start_s, w.duration_s = q->duration_s;
    w.energy_j = q->energy_j, w.net_energy_j = q->net_energy_j, w.idle_before_w = q->idle_w, w.energy_source = q->energy_source, w.modelled = q->modelled, w.valid = q->energy_valid, w.reasons = q->energy_reasons;
    w.mean_w = q->energy_j / q->duration_s;
    put_run(x, &w, c, &alone);
    return put_line(x, q, c, score);
}

/* ---- power --------------------------------------------------------------------------------------- */

static void put_power(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "t_mono_s,gpu,source,power_w,energy_mj,temp_c,sm_mhz,mem_mhz,throttle_bits,window\r\n");
    for (int i = 0, at = 0; i < r->n_powers; i++) {
        const jpt_power_row *p = &r->powers[i];
        if (at >= r->n_windows || r->windows[at].id != p->window)
            for (at = 0; at < r->n_windows && r->windows[at].id != p->window; at++)
                ;
        const jpt_meter_row *m = NULL;
        for (int k = 0; at < r->n_windows && k < r->n_meters; k++)
            m = r->meters[k].id == r->windows[at].meter ? &r->meters[k] : m;
        real(b, p->t_s);
        text(b, m ? m->card_uuid : NULL), text(b, !m || m->modelled == 1 ? "model" : m->kind && strncmp(m->kind, "nvml", 4) == 0 ? "nvml_instant" : m->kind);
        real(b, p->power_w);
        jpt_buf_printf(b, ",,,,,%lld\r\n", (long long)p->window);
    }
}

/* ---- files --------------------------------------------------------------------------------------- */

static jpt_status write_one(const char *dir, const char *name, jpt_buf *b, jpt_buf *paths, jpt_error *err) {
    jpt_buf path = {0};
    jpt_buf_printf(&path, "%s/%s", dir, name);
    jpt_status st = b->oom || path.oom ? JPT_FAIL(err, NOMEM, "out of memory while writing %s", name) : jpt_file_write(path.p, b->p ? b->p : "", b->n, err);
    if (st == JPT_OK && paths)
        jpt_buf_printf(paths, "%s\n", path.p);
    jpt_buf_fini(&path);
    return st;
}

jpt_status jpt_report_export(jpt_store *s, const char *dir, jpt_buf *paths, jpt_error *err) {
    report     r;
    exporting  x = {.r = &r};
    jpt_buf    other = {0};
    jpt_status st = report_load(&r, s, err);
    if (st == JPT_OK)
        st = jpt_mkdirs(dir, err);
    if (st == JPT_OK && (x.of_window = calloc((size_t)r.n_windows + 1, sizeof *x.of_window)) == NULL)
        st = JPT_NOMEM;
    jpt_buf_addz(&x.runs, columns);
    for (int i = 0; st == JPT_OK && i < r.n_cells; i++) {
        x.metric = report_task(&r, r.cells[i].row.task)->primary_metric, x.n_scores = 0;
        st = jpt_store_each_score(s, r.cells[i].row.id, keep_score, &x, err);
        if (x.n_scores)
            qsort(x.scores, (size_t)x.n_scores, sizeof *x.scores, by_request);
        if (st == JPT_OK)
            st = jpt_store_each_request(s, r.cells[i].row.id, put_request, &x, err);
    }
    for (int i = 0; st == JPT_OK && i < r.n_windows; i++)
        put_run(&x, &r.windows[i], report_cell(&r, r.windows[i].cell), &x.of_window[i]);
    if (st == JPT_OK)
        st = write_one(dir, "runs.csv", &x.runs, paths, err);
    if (st == JPT_OK)
        st = write_one(dir, "requests.jsonl", &x.jsonl, paths, err);
    if (st == JPT_OK) {
        put_power(&r, &other);
        st = write_one(dir, "power.csv", &other, paths, err);
        jpt_buf_reset(&other);
    }
    if (st == JPT_OK)
        st = report_json(&r, &other, err);
    if (st == JPT_OK)
        st = write_one(dir, "results.json", &other, paths, err);
    free(x.of_window);
    free(x.scores);
    jpt_buf_fini(&x.runs), jpt_buf_fini(&x.jsonl), jpt_buf_fini(&other);
    report_free(&r);
    return st == JPT_NOMEM ? JPT_FAIL(err, NOMEM, "out of memory while exporting") : st;
}
