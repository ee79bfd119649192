/* jpt audit: the rows against themselves.  Every rule is checked on every row it is about; the figures of the report are computed
 * again from the rows, by sums of their own; and a fingerprint of all rows tells whether any of them was touched since. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum rule {
    POSITIONS, TOKEN_IDS, PHASES, FATES, NET, REASONS, SILENT_ZERO, STOPS, BUDGET, SEEDS, TWICE, PAIRED, ITEMS, METERS, REFERENCES,
    OF_TOKENS, OF_REQUESTS, OF_NET, OF_SECONDS, MEAN_SCORE, CELL_SCORE,
    WINDOW_TIME, WINDOW_POWER, WINDOW_BOOKS, WINDOW_NET, WINDOW_RESIDUAL, WINDOW_PHASES, WINDOW_REASONS, WINDOW_SHARES, WINDOW_COUNTS, WINDOW_SAME, WINDOW_ATTEMPT, WINDOW_TWICE, WINDOW_IDLE,
    SAMPLES, INTEGRAL, FLOORS, CALIBRATIONS, LEDGERS, LOOKS, PLANS, N_RULES
} rule;

static const char *const says[N_RULES] = {
    [POSITIONS] = "positions computed are in the text or thrown away",
    [TOKEN_IDS] = "as many token ids as output tokens",
    [PHASES] = "joules of the phases add up to the request's",
    [FATES] = "joules kept, rejected, pruned and past the stop add up",
    [NET] = "net joules are gross less idle power x time",
    [REASONS] = "an invalid request says why",
    [SILENT_ZERO] = "no valid request or window has zero joules",
    [STOPS] = "a text ended by length has the most tokens",
    [BUDGET] = "a text stopped by its budget says so",
    [SEEDS] = "block b has the study's seed + b",
    [TWICE] = "no request stands in the file twice",
    [PAIRED] = "every setting of a task has the same items",
    [ITEMS] = "a request's item is one of its task",
    [METERS] = "joules come from the cell's meter and say so",
    [REFERENCES] = "study, model, task and meter of a row exist",
    [OF_TOKENS] = "J/token of the report is that of the rows",
    [OF_REQUESTS] = "J/request of the report is that of the rows",
    [OF_NET] = "net J/token of the report is that of the rows",
    [OF_SECONDS] = "s/request of the report is that of the rows",
    [MEAN_SCORE] = "quality of the report is that of the rows",
    [CELL_SCORE] = "a cell's score is in its interval, of its requests",
    [WINDOW_TIME] = "a window ends its duration after it begins",
    [WINDOW_POWER] = "mean power of a window is joules over seconds",
    [WINDOW_BOOKS] = "phases + idle + residual = counter",
    [WINDOW_NET] = "net joules of a window are gross less idle",
    [WINDOW_RESIDUAL] = "residual is (counter - integral) / counter",
    [WINDOW_PHASES] = "seconds of the phases fit into the window",
    [WINDOW_REASONS] = "an invalid window says why",
    [WINDOW_SHARES] = "requests' shares add up to their window",
    [WINDOW_COUNTS] = "a window counts its requests and tokens",
    [WINDOW_SAME] = "a request has its window's verdict, cell and block",
    [WINDOW_ATTEMPT] = "no answer is of a window that was repeated well",
    [WINDOW_TWICE] = "no window stands in the file twice",
    [WINDOW_IDLE] = "a window's idle watts are those of a baseline",
    [SAMPLES] = "samples of power lie around their window",
    [INTEGRAL] = "integrated power is that of the samples",
    [FLOORS] = "a floor is its bytes, FLOPs and idle at the prices",
    [CALIBRATIONS] = "a calibration has positive prices",
    [LEDGERS] = "a second opinion has windows and no negative price",
    [LOOKS] = "a look's difference is in its interval",
    [PLANS] = "a plan has as many cells as it says, or more",
};

/* Requests of a window. */
typedef struct shares { int64_t n, tokens; double joules; bool all; } shares;

typedef struct audit {
    jpt_buf      *out;
    const report *r;
    int           checked[N_RULES], failed[N_RULES];
    shares       *of_window; /* [n_windows] */
    /* of the cell at work */
    const cell *c;
    int64_t     last_block, last_item, last_seed, n, failed_requests;
    double        joules, token_joules, tokens, requests, net, net_tokens, seconds, timed;
} audit;

enum { TOLD = 3 }; /* failures of a rule that are named */

static bool counted(audit *a, rule r, bool ok) {
    a->checked[r]++;
    return !ok && a->failed[r]++ < TOLD;
}

static void vtell(audit *a, rule r, const char *where, const char *fmt, va_list ap) {
    char text[240];
    vsnprintf(text, sizeof text, fmt, ap);
    jpt_buf_printf(a->out, "FAILED %s: %s: %s\n", says[r], where, text);
}

/* About a request; q NULL: about the cell at work. */
static void check(audit *a, rule r, bool ok, const jpt_request_row *q, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void check(audit *a, rule r, bool ok, const jpt_request_row *q, const char *fmt, ...) {
    if (!counted(a, r, ok))
        return;
    char        where[200];
    const char *spec = a->c->row.spec ? a->c->row.spec : "?";
    if (q)
        snprintf(where, sizeof where, "cell %lld (%.80s), block %lld, item %lld", (long long)q->cell, spec, (long long)q->block, (long long)q->item_index);
    else
        snprintf(where, sizeof where, "cell %lld (%.80s)", (long long)a->c->row.id, spec);
    va_list ap;
    va_start(ap, fmt);
    vtell(a, r, where, fmt, ap);
    va_end(ap);
}

/* About a row of another table. */
static void check_row(audit *a, rule r, bool ok, const char *table, int64_t id, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static void check_row(audit *a, rule r, bool ok, const char *table, int64_t id, const char *fmt, ...) {
    if (!counted(a, r, ok))
        return;
    char where[64];
    snprintf(where, sizeof where, "%s %lld", table, (long long)id);
    va_list ap;
    va_start(ap, fmt);
    vtell(a, r, where, fmt, ap);
    va_end(ap);
}

static bool near(double x, double y, double tolerance) { return fabs(x - y) <= tolerance * fmax(1, fmax(fabs(x), fabs(y))); }
static double or_zero(double v) { return isfinite(v) ? v : 0; }

/* ---- requests ------------------------------------------------------------------------------------ */

static int64_t count_ids(const char *json) {
    int64_t n = json[0] && json[1] != ']';
    for (; *json; json++)
        n += *json == ',';
    return n;
}

static int by_window(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = ((const jpt_window_row *)b)->id;
    return (x > y) - (x < y);
}

/* Windows by id: they are read in order of time, which is that of ids in a file that one writer made. */
static const jpt_window_row *window_of(const report *r, int64_t id) {
    const jpt_window_row *w = r->n_windows ? bsearch(&id, r->windows, (size_t)r->n_windows, sizeof *r->windows, by_window) : NULL;
    for (int i = 0; !w && i < r->n_windows; i++)
        w = r->windows[i].id == id ? &r->windows[i] : NULL;
    return w;
}

static void audit_energy(audit *a, const jpt_request_row *q) {
    if (isnan(q->energy_j))
        return;
    double parts = q->prefill_energy_j + q->decode_energy_j + q->draft_energy_j + q->verify_energy_j + q->select_energy_j + or_zero(q->kv_energy_j) + q->other_energy_j;
    if (isfinite(parts))
        check(a, PHASES, near(parts, q->energy_j, 1e-6), q, "%.6f J in phases, %.6f J in all", parts, q->energy_j);
    double fates = q->kept_energy_j + q->rejected_energy_j + q->pruned_energy_j + q->past_stop_energy_j;
    if (isfinite(fates)) {
        bool negative = q->kept_energy_j < 0 || q->rejected_energy_j < 0 || q->pruned_energy_j < 0 || q->past_stop_energy_j < 0;
        check(a, FATES, !negative && near(fates, q->energy_j, 1e-6), q, "%.6f J by fate, %.6f J in all%s", fates, q->energy_j, negative ? ", one negative" : "");
    }
    if (isfinite(q->net_energy_j) && isfinite(q->idle_w) && q->window < 0) {
        /* the window is a little longer than the generation: the prompt's first byte to the meter's second reading */
        double window_s = (q->energy_j - q->net_energy_j) / q->idle_w;
        check(a, NET, q->idle_w > 0 && window_s >= q->duration_s - 1e-6 && window_s <= q->duration_s + 0.5, q, "%.3f J less %.3f J is %.3f s of %.2f W; the request took %.3f s",
              q->energy_j, q->net_energy_j, window_s, q->idle_w, q->duration_s);
    } else if (isfinite(q->net_energy_j))
        check(a, NET, q->net_energy_j <= q->energy_j + 1e-9, q, "%.6f J net of %.6f J gross", q->net_energy_j, q->energy_j);
    if (q->energy_valid == 1)
        check(a, SILENT_ZERO, q->energy_j > 0, q, "%.6f J in %.3f s", q->energy_j, q->duration_s);
}

static void audit_window_of(audit *a, const jpt_request_row *q) {
    const jpt_window_row *w = window_of(a->r, q->window);
    if (!w) {
        check(a, WINDOW_SAME, false, q, "window %lld is not in the file", (long long)q->window);
        return;
    }
    shares *s = &a->of_window[w - a->r->windows];
    s->n++, s->tokens += q->output_tokens > 0 ? q->output_tokens : 0;
    if (isfinite(q->energy_j))
        s->joules += q->energy_j;
    else
        s->all = false;
    check(a, WINDOW_SAME, w->cell == q->cell && w->block == q->block && w->valid == q->energy_valid && report_same(w->energy_source, q->energy_source), q,
          "window %lld is of cell %lld, block %lld, valid %lld, by %s; the request of %lld, by %s", (long long)w->id, (long long)w->cell, (long long)w->block, (long long)w->valid,
          w->energy_source ? w->energy_source : "none", (long long)q->energy_valid, q->energy_source ? q->energy_source : "none");
}

static void audit_places(audit *a, const jpt_request_row *q) {
    const jpt_item_row *it = NULL;
    if (a->r->n_items) {
        for (int i = 0; i < a->r->n_items && !it; i++)
            if (a->r->items[i].task == a->c->row.task && a->r->items[i].item_index == q->item_index)
                it = &a->r->items[i];
        check(a, ITEMS, it && (!q->item_id || report_same(q->item_id, it->item_id)), q, "item id %s, %s in the task", q->item_id ? q->item_id : "none", it && it->item_id ? it->item_id : "none");
    }
    for (int i = 0; i < a->r->n_meters; i++)
        if (a->r->meters[i].id == a->c->row.meter && isfinite(q->energy_j)) {
            const jpt_meter_row *m = &a->r->meters[i];
            bool                 same = (!q->energy_source || !m->kind || report_same(q->energy_source, m->kind) || report_same(q->energy_source, m->source)) && (q->modelled == 1) == (m->modelled == 1);
            check(a, METERS, same, q, "by %s%s, the meter is %s%s", q->energy_source ? q->energy_source : "none", q->modelled == 1 ? ", modelled" : "", m->kind ? m->kind : "none",
                  m->modelled == 1 ? ", modelled" : "");
        }
}

static jpt_status audit_request(void *ud, const jpt_request_row *q) {
    audit *a = ud;
    check(a, TWICE, !(q->block == a->last_block && q->item_index == a->last_item && q->seed == a->last_seed), q, "seed %lld stands there again", (long long)q->seed);
    a->last_block = q->block, a->last_item = q->item_index, a->last_seed = q->seed;
    a->n++;
    audit_places(a, q);
    if (q->window >= 0)
        audit_window_of(a, q);
    if (q->failed == 1) {
        a->failed_requests++;
        return JPT_OK;
    }
    if (q->positions_computed >= 0 && q->positions_discarded >= 0 && q->prompt_tokens >= 0 && q->output_tokens > 0) {
        int64_t kept = q->positions_computed - q->positions_discarded, most = q->prompt_tokens + q->output_tokens;
        check(a, POSITIONS, kept == most || kept == most - 1, q, "%lld computed, %lld thrown away, %lld + %lld kept", (long long)q->positions_computed,
              (long long)q->positions_discarded, (long long)q->prompt_tokens, (long long)q->output_tokens);
    }
    if (q->token_ids_json && q->output_tokens >= 0)
        check(a, TOKEN_IDS, count_ids(q->token_ids_json) == q->output_tokens, q, "%lld ids, %lld tokens", (long long)count_ids(q->token_ids_json), (long long)q->output_tokens);
    if (q->energy_valid == 0)
        check(a, REASONS, q->energy_reasons && *q->energy_reasons, q, "no reason");
    if (q->stop_reason && strcmp(q->stop_reason, "length") == 0 && a->c->row.max_new_tokens > 0)
        check(a, STOPS, q->output_tokens == a->c->row.max_new_tokens, q, "%lld tokens of %lld", (long long)q->output_tokens, (long long)a->c->row.max_new_tokens);
    if (q->stop_reason && strcmp(q->stop_reason, "budget") == 0)
        check(a, BUDGET, q->budget_note && *q->budget_note && isfinite(a->c->row.max_joules), q, "no note, or no budget");
    if (a->c->row.seeds && !strchr(a->c->row.seeds, ',')) {
        uint64_t first = strtoull(a->c->row.seeds, NULL, 10);
        check(a, SEEDS, (uint64_t)q->seed == first + (uint64_t)q->block, q, "seed %llu", (unsigned long long)q->seed);
    }
    audit_energy(a, q);
    if (isfinite(q->duration_s))
        a->seconds += q->duration_s, a->timed++;
    if (q->energy_valid != 0) {
        bool tokens = q->output_tokens >= 0;
        if (isfinite(q->energy_j))
            a->joules += q->energy_j, a->requests++;
        if (isfinite(q->energy_j) && tokens)
            a->token_joules += q->energy_j, a->tokens += (double)q->output_tokens;
        if (isfinite(q->net_energy_j) && tokens)
            a->net += q->net_energy_j, a->net_tokens += (double)q->output_tokens;
    }
    return JPT_OK;
}

/* ---- cells --------------------------------------------------------------------------------------- */

typedef struct mean { const char *metric; double sum; int n; } mean;

static jpt_status add_score(void *ud, const jpt_score_row *s) {
    mean *m = ud;
    if (m->metric && strcmp(s->metric, m->metric) == 0 && isfinite(s->value))
        m->sum += s->value, m->n++;
    return JPT_OK;
}

static jpt_status audit_cell_score(void *ud, const jpt_score_row *s) {
    audit *a = ud;
    bool   inside = !isfinite(s->ci_low) || !isfinite(s->value) || (s->ci_low <= s->value + 1e-9 && s->value <= s->ci_high + 1e-9);
    check(a, CELL_SCORE, inside && s->n <= a->n, NULL, "%s %.6g in [%.6g, %.6g] of %lld; the cell has %lld requests", s->metric, s->value, s->ci_low, s->ci_high, (long long)s->n, (long long)a->n);
    return JPT_OK;
}

static void figure_is(audit *a, rule r, double num, double den, figure f) {
    if (den > 0)
        check(a, r, near(num / den, a->c->fig[f].mean, 1e-9), NULL, "%.9g from the rows, %.9g in the report", num / den, a->c->fig[f].mean);
}

static bool exists(int64_t id, const void *rows, int n, size_t size) {
    for (int i = 0; i < n; i++) {
        int64_t at;
        memcpy(&at, (const char *)rows + (size_t)i * size, sizeof at); /* id comes first in every row */
        if (at == id)
            return true;
    }
    return false;
}

static jpt_status audit_cell(audit *a, const report *r, const cell *c, jpt_error *err) {
    mean m = {.metric = report_task(r, c->row.task)->primary_metric};
    a->c = c;
    a->last_block = a->last_item = a->last_seed = -1;
    a->joules = a->token_joules = a->tokens = a->requests = a->net = a->net_tokens = a->seconds = a->timed = 0;
    a->n = a->failed_requests = 0;
    bool there = exists(c->row.study, r->studies, r->n_studies, sizeof *r->studies) && exists(c->row.model, r->models, r->n_models, sizeof *r->models) &&
                 exists(c->row.task, r->tasks, r->n_tasks, sizeof *r->tasks) && exists(c->row.meter, r->meters, r->n_meters, sizeof *r->meters);
    check(a, REFERENCES, there, NULL, "study %lld, model %lld, task %lld, meter %lld", (long long)c->row.study, (long long)c->row.model, (long long)c->row.task, (long long)c->row.meter);
    JPT_TRY(jpt_store_each_request(r->store, c->row.id, audit_request, a, err));
    figure_is(a, OF_TOKENS, a->token_joules, a->tokens, J_TOKEN);
    figure_is(a, OF_REQUESTS, a->joules, a->requests, J_REQUEST);
    figure_is(a, OF_NET, a->net, a->net_tokens, NET_J_TOKEN);
    if (a->failed_requests == 0)
        figure_is(a, OF_SECONDS, a->seconds, a->timed, LATENCY);
    JPT_TRY(jpt_store_each_score(r->store, c->row.id, add_score, &m, err));
    if (m.n > 0 && !c->corpus && isfinite(c->fig[QUALITY].mean))
        check(a, MEAN_SCORE, near(m.sum / m.n, c->fig[QUALITY].mean, 1e-9), NULL, "%s %.9g from the rows, %.9g in the report", m.metric, m.sum / m.n, c->fig[QUALITY].mean);
    return jpt_store_each_cell_score(r->store, c->row.id, audit_cell_score, a, err);
}

static void audit_pairs(audit *a, const panel *p) {
    for (int i = 1; i < p->n_cells; i++) {
        const cell *x = p->cells[0], *y = p->cells[i];
        bool        same = x->n_items == y->n_items;
        for (int k = 0; same && k < p->n_items; k++) {
            bool has[2] = {false, false};
            for (int b = 0; b < p->n_blocks; b++)
                for (int side = 0; side < 2; side++)
                    has[side] = has[side] || (side ? y : x)->there[k * p->n_blocks + b];
            same = has[0] == has[1];
        }
        a->c = y;
        check(a, PAIRED, same, NULL, "%d items, %d of %s", y->n_items, x->n_items, x->label);
    }
}

/* ---- windows ------------------------------------------------------------------------------------- */

/* Trapezoid over the window, edges interpolated, or held for three samples' time at most; NAN where the samples do not reach so far. */
static double integrate(const jpt_power_row *p, int n, double t0, double t1) {
    double sum = 0, held = n < 2 ? 0 : 3 * (p[n - 1].t_s - p[0].t_s) / (n - 1);
    if (n < 2 || p[0].t_s > t0 + held || p[n - 1].t_s < t1 - held)
        return NAN;
    sum += fmax(p[0].t_s - t0, 0) * p[0].power_w + fmax(t1 - p[n - 1].t_s, 0) * p[n - 1].power_w;
    for (int i = 1; i < n; i++) {
        double a = fmax(p[i - 1].t_s, t0), b = fmin(p[i].t_s, t1), span = p[i].t_s - p[i - 1].t_s;
        if (b <= a || span <= 0)
            continue;
        double rise = (p[i].power_w - p[i - 1].power_w) / span;
        sum += (b - a) * (p[i - 1].power_w + rise * ((a + b) / 2 - p[i - 1].t_s));
    }
    return sum;
}

static void audit_samples(audit *a, const jpt_window_row *w, const jpt_power_row *p, int n) {
    double peak = -INFINITY, t0 = w->t_start_s, t1 = w->t_end_s;
    bool   around = true, sane = true;
    for (int i = 0; i < n; i++) {
        around = around && p[i].t_s >= t0 - 2 && p[i].t_s <= t1 + 2 && (i == 0 || p[i].t_s >= p[i - 1].t_s);
        sane = sane && p[i].power_w >= 0;
        peak = p[i].t_s >= t0 && p[i].t_s <= t1 ? fmax(peak, p[i].power_w) : peak;
    }
    check_row(a, SAMPLES, around && sane && (!isfinite(w->peak_w) || peak <= w->peak_w * 1.5 + 1), "window", w->id, "%d samples%s%s, highest %.4g W, peak %.4g W", n,
              around ? "" : ", some far from it or out of order", sane ? "" : ", some negative", peak, w->peak_w);
    int within = 0;
    for (int i = 0; i < n; i++)
        within += p[i].t_s >= t0 && p[i].t_s <= t1;
    /* all samples are here: the same sum.  Some are not, or the edges were the counter's own readings, up to a step outside of the work: what power may do there is the slack */
    double sum = integrate(p, n, t0, t1), slack = .02 * fabs(w->integral_j) + 2 * or_zero(w->step_s) * fmax(peak, 0) + fmax(peak, 0) * .2;
    if (w->n_samples == within)
        slack = 1e-6 * fabs(w->integral_j) + 1e-9;
    if (isfinite(sum) && isfinite(w->integral_j))
        check_row(a, INTEGRAL, fabs(sum - w->integral_j) <= slack, "window", w->id, "%.6g J from %d samples, %.6g J in the row", sum, n, w->integral_j);
}

/* Watts that a baseline of the same study and meter drew; a study without baselines has none to compare. */
static bool is_idle_of(const report *r, const jpt_window_row *w, double watts) {
    bool any = false;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *o = &r->windows[i];
        if (o->study != w->study || o->meter != w->meter || !report_same(o->kind, "idle"))
            continue;
        if (near(o->mean_w, watts, 1e-9))
            return true;
        any = true;
    }
    return !any;
}

static void audit_baselines(audit *a, const jpt_window_row *w) {
    const report *r = a->r;
    bool          twice = false;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *o = &r->windows[i];
        twice = twice || (o != w && o->study == w->study && o->meter == w->meter && o->t_start_s == w->t_start_s && o->t_end_s == w->t_end_s && o->energy_j == w->energy_j && o->cell == w->cell && o->block == w->block &&
                           o->order_in_block == w->order_in_block && report_same(o->kind, w->kind));
    }
    if (isfinite(w->t_start_s))
        check_row(a, WINDOW_TWICE, !twice, "window", w->id, "another of its cell and block begins at %.6f s too, with the same joules", w->t_start_s);
    if (report_same(w->kind, "idle"))
        return;
    if (isfinite(w->idle_before_w))
        check_row(a, WINDOW_IDLE, is_idle_of(r, w, w->idle_before_w), "window", w->id, "%.6f W before, no baseline has drawn them", w->idle_before_w);
    if (isfinite(w->idle_after_w))
        check_row(a, WINDOW_IDLE, is_idle_of(r, w, w->idle_after_w), "window", w->id, "%.6f W after, no baseline has drawn them", w->idle_after_w);
}

static void audit_window(audit *a, const jpt_window_row *w) {
    const report *r = a->r;
    double        e = w->energy_j;
    bool          there = exists(w->study, r->studies, r->n_studies, sizeof *r->studies) && exists(w->meter, r->meters, r->n_meters, sizeof *r->meters) && (w->cell < 0 || report_cell(r, w->cell));
    check_row(a, REFERENCES, there, "window", w->id, "study %lld, meter %lld, cell %lld", (long long)w->study, (long long)w->meter, (long long)w->cell);
    if (isfinite(w->t_start_s) && isfinite(w->t_end_s))
        check_row(a, WINDOW_TIME, near(w->t_end_s - w->t_start_s, w->duration_s, 1e-6), "window", w->id, "%.6f s to %.6f s, duration %.6f s", w->t_start_s, w->t_end_s, w->duration_s);
    if (w->valid == 0)
        check_row(a, WINDOW_REASONS, w->reasons && *w->reasons, "window", w->id, "no reason");
    if (w->valid == 1 && isfinite(e))
        check_row(a, SILENT_ZERO, e > 0, "window", w->id, "%.6f J in %.3f s", e, w->duration_s);
    if (isfinite(e) && isfinite(w->mean_w) && w->duration_s > 0)
        check_row(a, WINDOW_POWER, fabs(w->mean_w * w->duration_s - e) <= .02 * fabs(e) + fabs(or_zero(w->edge_correction_j)) + fabs(or_zero(w->energy_error_j)) + 1e-6, "window", w->id,
                  "%.6g W for %.6g s, %.6g J", w->mean_w, w->duration_s, e);
    double phases = w->prefill_energy_j + w->decode_energy_j + w->draft_energy_j + w->verify_energy_j + w->select_energy_j + w->kv_energy_j + w->host_energy_j;
    double books = phases + or_zero(w->idle_energy_j) + w->residual_energy_j;
    if (isfinite(books) && isfinite(e))
        check_row(a, WINDOW_BOOKS, near(books, e, 1e-6), "window", w->id, "%.6f + %.6f + %.6f J, counter %.6f J", phases, or_zero(w->idle_energy_j), w->residual_energy_j, e);
    double idle = isfinite(w->idle_before_w) && isfinite(w->idle_after_w) ? (w->idle_before_w + w->idle_after_w) / 2 : isfinite(w->idle_before_w) ? w->idle_before_w : w->idle_after_w;
    if (isfinite(idle) && isfinite(w->net_energy_j) && isfinite(e))
        check_row(a, WINDOW_NET, near(w->net_energy_j, e - idle * w->duration_s, 1e-4), "window", w->id, "%.6f J net; %.6f J less %.6f W x %.6f s", w->net_energy_j, e, idle, w->duration_s);
    if (isfinite(idle) && isfinite(w->idle_energy_j))
        check_row(a, WINDOW_NET, near(w->idle_energy_j, idle * w->duration_s, 1e-4), "window", w->id, "%.6f J idle; %.6f W x %.6f s", w->idle_energy_j, idle, w->duration_s);
    if (isfinite(w->residual) && isfinite(w->integral_j) && e != 0)
        check_row(a, WINDOW_RESIDUAL, near(w->residual, (e - w->integral_j) / e, 1e-6), "window", w->id, "%.6f; counter %.6f J, integral %.6f J", w->residual, e, w->integral_j);
    double seconds = w->prefill_s + w->decode_s + w->draft_s + w->verify_s + w->select_s + w->kv_s + w->host_s;
    if (isfinite(seconds))
        check_row(a, WINDOW_PHASES, seconds <= w->duration_s * 1.001 + .01 && w->prefill_s >= 0 && w->host_s >= -1e-6, "window", w->id, "%.6f s in phases of %.6f s", seconds, w->duration_s);
    shares *s = &a->of_window[w - r->windows];
    if (s->n == 0)
        return;
    double times = w->replications > 0 ? (double)w->replications : 1;
    if (s->all && isfinite(e))
        check_row(a, WINDOW_SHARES, near(s->joules * times, e, 1e-6), "window", w->id, "%.6f J in %lld shares x %.0f, %.6f J in all", s->joules, (long long)s->n, times, e);
    check_row(a, WINDOW_COUNTS, (w->n_requests < 0 || w->n_requests == s->n) && (w->output_tokens < 0 || s->tokens == 0 || w->output_tokens == s->tokens), "window", w->id,
              "%lld requests and %lld tokens; its rows have %lld and %lld", (long long)w->n_requests, (long long)w->output_tokens, (long long)s->n, (long long)s->tokens);
    bool better = false;
    for (int i = 0; w->valid == 0 && i < r->n_windows; i++) {
        const jpt_window_row *o = &r->windows[i];
        better = better || (o->cell == w->cell && o->block == w->block && report_same(o->kind, w->kind) && o->attempt > w->attempt && o->valid == 1 && o->order_in_block == w->order_in_block &&
                            a->of_window[i].n > 0 && a->of_window[i].n == s->n);
    }
    check_row(a, WINDOW_ATTEMPT, !better, "window", w->id, "attempt %lld is not valid, a later one is", (long long)w->attempt);
}

static int power_order(const void *a, const void *b) {
    const jpt_power_row *x = a, *y = b;
    return x->window != y->window ? (x->window > y->window) - (x->window < y->window) : (x->t_s > y->t_s) - (x->t_s < y->t_s);
}

static void audit_windows(audit *a, const report *r) {
    for (int i = 0; i < r->n_windows; i++) {
        audit_window(a, &r->windows[i]);
        audit_baselines(a, &r->windows[i]);
    }
    if (r->n_powers)
        qsort(r->powers, (size_t)r->n_powers, sizeof *r->powers, power_order);
    for (int i = 0, n; i < r->n_powers; i += n) {
        for (n = 1; i + n < r->n_powers && r->powers[i + n].window == r->powers[i].window; n++)
            ;
        const jpt_window_row *w = window_of(r, r->powers[i].window);
        check_row(a, REFERENCES, w != NULL, "power", r->powers[i].id, "window %lld is not in the file", (long long)r->powers[i].window);
        if (w)
            audit_samples(a, w, &r->powers[i], n);
    }
}

/* ---- the rest ------------------------------------------------------------------------------------- */

static void audit_others(audit *a, const report *r) {
    for (int i = 0; i < r->n_tasks; i++) {
        int n = 0;
        for (int k = 0; k < r->n_items; k++)
            n += r->items[k].task == r->tasks[i].id;
        check_row(a, ITEMS, r->tasks[i].n_items < 0 || n <= r->tasks[i].n_items, "task", r->tasks[i].id, "%lld items, %d in the file", (long long)r->tasks[i].n_items, n);
    }
    for (int i = 0; i < r->n_calibrations; i++) {
        const jpt_calibration_row *c = &r->calibrations[i];
        check_row(a, CALIBRATIONS, !(c->pj_per_byte < 0) && !(c->pj_per_flop < 0) && !(c->idle_w < 0) && !(c->launch_w < 0) && !(c->bytes_per_s <= 0) && !(c->flops_per_s <= 0), "calibration", c->id,
                  "%.4g pJ a byte, %.4g pJ a FLOP, %.4g W idle", c->pj_per_byte, c->pj_per_flop, c->idle_w);
    }
    for (int i = 0; i < r->n_floors; i++) {
        const jpt_floor_row       *f = &r->floors[i];
        const jpt_calibration_row *c = NULL;
        for (int k = 0; k < r->n_calibrations; k++)
            c = r->calibrations[k].id == f->calibration ? &r->calibrations[k] : c;
        check_row(a, REFERENCES, c && report_cell(r, f->cell), "floor", f->id, "cell %lld, calibration %lld", (long long)f->cell, (long long)f->calibration);
        check_row(a, FLOORS, near(f->floor_j, f->bytes_j + f->flops_j + or_zero(f->idle_j), 1e-6), "floor", f->id, "%.6g J; %.6g + %.6g + %.6g", f->floor_j, f->bytes_j, f->flops_j, f->idle_j);
        if (c && isfinite(c->pj_per_byte) && isfinite(f->bytes))
            check_row(a, FLOORS, near(f->bytes_j, f->bytes * c->pj_per_byte * 1e-12, 1e-6), "floor", f->id, "%.6g J of %.6g bytes at %.6g pJ", f->bytes_j, f->bytes, c->pj_per_byte);
        if (c && isfinite(c->pj_per_flop) && isfinite(f->flops))
            check_row(a, FLOORS, near(f->flops_j, f->flops * c->pj_per_flop * 1e-12, 1e-6), "floor", f->id, "%.6g J of %.6g FLOPs at %.6g pJ", f->flops_j, f->flops, c->pj_per_flop);
        if (c && c->bytes_per_s > 0 && c->flops_per_s > 0 && isfinite(f->seconds))
            check_row(a, FLOORS, near(f->seconds, fmax(f->bytes / c->bytes_per_s, f->flops / c->flops_per_s), 1e-6) && near(or_zero(f->idle_j), or_zero(c->idle_w) * f->seconds, 1e-6), "floor", f->id,
                      "%.6g s and %.6g J of idling for %.6g bytes and %.6g FLOPs", f->seconds, f->idle_j, f->bytes, f->flops);
    }
    for (int i = 0; i < r->n_ledgers; i++) {
        const jpt_ledger_row *l = &r->ledgers[i];
        check_row(a, LEDGERS, l->n != 0 && !(l->error_value < 0) && !(report_same(l->method, "nnls") && l->value < 0), "ledger", l->id, "%s %s: %.6g, error %.6g, of %lld windows",
                  l->method ? l->method : "?", l->entry ? l->entry : "?", l->value, l->error_value, (long long)l->n);
    }
    for (int i = 0; i < r->n_looks; i++) {
        const jpt_look_row *l = &r->looks[i];
        check_row(a, LOOKS, !isfinite(l->ci_low) || (l->ci_low <= l->difference && l->difference <= l->ci_high), "look", l->id, "%.6g in [%.6g, %.6g]", l->difference, l->ci_low, l->ci_high);
    }
    for (int i = 0; i < r->n_plans; i++) {
        const jpt_plan_row *p = &r->plans[i];
        int                 cells = 0;
        for (int k = 0; k < r->n_cells; k++)
            cells += r->cells[k].row.study == p->study;
        check_row(a, PLANS, p->n_cells <= cells && (p->n_requests < 0 || p->blocks < 0 || p->n_requests >= p->blocks * (p->n_cells > 0 ? 1 : 0)), "plan", p->id, "%lld cells, %d in the file",
                  (long long)p->n_cells, cells);
    }
}

/* ---- fingerprint ---------------------------------------------------------------------------------- */

#define PRINT_KEY(f) jpt_buf_printf(&p->b, "%lld|", (long long)row->f);
#define PRINT_INT(f) jpt_buf_printf(&p->b, "%lld|", (long long)row->f);
#define PRINT_REAL(f) jpt_buf_printf(&p->b, "%.17g|", isnan(row->f) ? -0.0 : row->f);
#define PRINT_TEXT(f) jpt_buf_printf(&p->b, "%zu:%s|", row->f ? strlen(row->f) : 0, row->f ? row->f : "");
#define PRINT(k, f) PRINT_##k(f)
typedef struct print { jpt_sha256 sha; jpt_buf b; } print;
static jpt_status print_out(print *p) {
    bool oom = p->b.oom;
    if (!oom)
        jpt_sha256_update(&p->sha, p->b.p, p->b.n);
    jpt_buf_reset(&p->b);
    return oom ? JPT_NOMEM : JPT_OK;
}
#define PRINTED(name, MAP)                                                  \
    static jpt_status print_##name(void *ud, const jpt_##name##_row *row) { \
        print *p = ud;                                                      \
        jpt_buf_printf(&p->b, #name " %lld|", (long long)row->id);          \
        MAP(PRINT)                                                          \
        return print_out(p);                                                \
    }
PRINTED(study, JPT_STUDY_MAP)
PRINTED(plan, JPT_PLAN_MAP)
PRINTED(model, JPT_MODEL_MAP)
PRINTED(task, JPT_TASK_MAP)
PRINTED(item, JPT_ITEM_MAP)
PRINTED(meter, JPT_METER_MAP)
PRINTED(cell, JPT_CELL_MAP)
PRINTED(window, JPT_WINDOW_MAP)
PRINTED(power, JPT_POWER_MAP)
PRINTED(request, JPT_REQUEST_MAP)
PRINTED(ledger, JPT_LEDGER_MAP)
PRINTED(calibration, JPT_CALIBRATION_MAP)
PRINTED(floor, JPT_FLOOR_MAP)
PRINTED(look, JPT_LOOK_MAP)
static jpt_status print_score(void *ud, const jpt_score_row *s) {
    print *p = ud;
    jpt_buf_printf(&p->b, "score %lld|%s|%.17g|%.17g|%.17g|%lld|", (long long)s->owner, s->metric, s->value, isnan(s->ci_low) ? -0.0 : s->ci_low, isnan(s->ci_high) ? -0.0 : s->ci_high, (long long)s->n);
    return print_out(p);
}

static jpt_status fingerprint(jpt_store *s, char hex[65], jpt_error *err) {
    print      p = {.b = {0}};
    jpt_status st = JPT_OK;
    jpt_sha256_init(&p.sha);
#define OF(call)                \
    if (st == JPT_OK)           \
        st = call;
    OF(jpt_store_each_study(s, print_study, &p, err))
    OF(jpt_store_each_plan(s, print_plan, &p, err))
    OF(jpt_store_each_model(s, print_model, &p, err))
    OF(jpt_store_each_task(s, print_task, &p, err))
    OF(jpt_store_each_item(s, print_item, &p, err))
    OF(jpt_store_each_meter(s, print_meter, &p, err))
    OF(jpt_store_each_cell(s, print_cell, &p, err))
    OF(jpt_store_each_window(s, -1, print_window, &p, err))
    OF(jpt_store_each_power(s, -1, print_power, &p, err))
    OF(jpt_store_each_request(s, -1, print_request, &p, err))
    OF(jpt_store_each_score(s, -1, print_score, &p, err))
    OF(jpt_store_each_cell_score(s, -1, print_score, &p, err))
    OF(jpt_store_each_ledger(s, print_ledger, &p, err))
    OF(jpt_store_each_calibration(s, print_calibration, &p, err))
    OF(jpt_store_each_floor(s, print_floor, &p, err))
    OF(jpt_store_each_look(s, print_look, &p, err))
    jpt_sha256_final(&p.sha, hex);
    jpt_buf_fini(&p.b);
    return st;
}

jpt_status jpt_report_audit(jpt_store *s, const char *expected, jpt_buf *out, int *n_failed, jpt_error *err) {
    report     r;
    audit      a = {.out = out, .r = &r};
    char       hex[65];
    jpt_status st = report_load(&r, s, err);
    *n_failed = 0;
    if (st == JPT_OK && (a.of_window = calloc((size_t)r.n_windows + 1, sizeof *a.of_window)) == NULL)
        st = JPT_NOMEM;
    for (int i = 0; st == JPT_OK && i < r.n_windows; i++)
        a.of_window[i].all = true;
    for (int i = 0; st == JPT_OK && i < r.n_cells; i++)
        if (r.cells[i].n_requests)
            st = audit_cell(&a, &r, &r.cells[i], err);
    if (st == JPT_OK) {
        for (int i = 0; i < r.n_panels; i++)
            audit_pairs(&a, &r.panels[i]);
        audit_windows(&a, &r);
        audit_others(&a, &r);
        st = fingerprint(s, hex, err);
    }
    for (int k = 0; st == JPT_OK && k < N_RULES; k++) {
        if (a.checked[k] == 0)
            continue;
        *n_failed += a.failed[k];
        jpt_buf_printf(out, "%-60s %s, %d checked", says[k], a.failed[k] ? "FAILED" : "holds", a.checked[k]);
        if (a.failed[k])
            jpt_buf_printf(out, ", %d failed", a.failed[k]);
        jpt_buf_addc(out, '\n');
    }
    if (st == JPT_OK) {
        bool same = !expected || strcmp(expected, hex) == 0;
        jpt_buf_printf(out, "fingerprint of all rows %s%s\n", hex, same ? "" : ": FAILED, another one was expected");
        *n_failed += !same;
    }
    free(a.of_window);
    report_free(&r);
    return st == JPT_NOMEM || (st == JPT_OK && out->oom) ? JPT_FAIL(err, NOMEM, "out of memory for the audit") : st;
}
