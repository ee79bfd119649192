/* Words, Markdown and CSV of a loaded report, the paired comparison, and the files of jpt report. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *report_source(const cell *c) { return c->modelled ? "modelled, not measured" : c->energy_source ? c->energy_source : "none"; }

static void add_estimate(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "–");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "%.4g", e.mean);
    else
        jpt_buf_printf(b, "%.4g [%.3g, %.3g]", e.mean, e.low, e.high);
}

estimate report_difference(const cell *a, const cell *b, compared what) {
    int      m = a->n_items + 1, n = 0;
    double  *v = calloc(4 * (size_t)m, sizeof *v);
    estimate none = {NAN, NAN, NAN, 0};
    if (v == NULL)
        return none;
    for (int i = 0; i < a->n_items; i++)
        for (int k = 0; k < b->n_items; k++) {
            const item *x = &a->items[i], *y = &b->items[k];
            if (x->index != y->index)
                continue;
            bool   quality = what == COMPARED_QUALITY;
            double dx = quality ? x->n_scores : what == COMPARED_J_TOKEN ? x->energy_tokens : x->n_energy;
            double dy = quality ? y->n_scores : what == COMPARED_J_TOKEN ? y->energy_tokens : y->n_energy;
            if (dx <= 0 || dy <= 0)
                continue;
            v[n] = quality ? x->score / dx : x->energy_j, v[m + n] = quality ? 1 : dx;
            v[2 * m + n] = quality ? y->score / dy : y->energy_j, v[3 * m + n++] = quality ? 1 : dy;
        }
    estimate e = n ? report_paired(v, v + m, v + 2 * m, v + 3 * m, n) : none;
    free(v);
    return e;
}

bool report_separable(estimate e) { return isfinite(e.low) && (e.low > 0 || e.high < 0); }

static const char *metric_of(const jpt_task_row *t) { return t->primary_metric ? t->primary_metric : "score"; }

static void add_difference(jpt_buf *b, const char *what, estimate e) {
    if (!isfinite(e.low))
        jpt_buf_printf(b, "%s: no interval (%d shared items)", what, e.n);
    else
        jpt_buf_printf(b, "%s %+.3g [%+.3g, %+.3g], %s", what, e.mean, e.low, e.high, report_separable(e) ? "different at 95 %" : "not separable");
}

void report_verdict(const panel *p, jpt_buf *b) {
    const jpt_task_row *t = p->task;
    const cell         *best = NULL, *cheap = NULL;
    bool                partial = false;
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        double      sign = t->higher_is_better != 0 ? 1 : -1;
        partial = partial || c->partial;
        if (isfinite(c->quality.mean) && (best == NULL || sign * c->quality.mean > sign * best->quality.mean))
            best = c;
        if (isfinite(c->j_token.mean) && (cheap == NULL || c->j_token.mean < cheap->j_token.mean))
            cheap = c;
    }
    if (partial)
        jpt_buf_printf(b, "The run is not finished: settings without a %s of all their texts have none; run jpt bench again. ", metric_of(t));
    if (best == NULL)
        jpt_buf_addz(b, "No score yet. ");
    else
        jpt_buf_printf(b, "Best %s: %s, %.3g. ", metric_of(t), best->label, best->quality.mean);
    if (cheap == NULL)
        jpt_buf_addz(b, "No valid energy. ");
    else
        jpt_buf_printf(b, "Fewest joules a kept token: %s, %.3g J (%s). ", cheap->label, cheap->j_token.mean, report_source(cheap));
    if (best != NULL && best == cheap)
        jpt_buf_addz(b, "One setting is both.");
    else if (best != NULL && cheap != NULL) {
        jpt_buf_addz(b, "The first against the second, on the same items: ");
        jpt_buf what = {0};
        jpt_buf_printf(&what, "%s%s", best->corpus ? "mean segment " : "", metric_of(t));
        add_difference(b, what.p ? what.p : "quality", report_difference(best, cheap, COMPARED_QUALITY));
        jpt_buf_fini(&what);
        jpt_buf_addz(b, "; ");
        add_difference(b, "J/token", report_difference(best, cheap, COMPARED_J_TOKEN));
        jpt_buf_addz(b, ".");
    }
}

/* A pipe ends a cell of a Markdown table. */
static void md_cell(jpt_buf *b, const char *z) {
    for (z = z ? z : "–"; *z; z++) {
        if (*z == '|')
            jpt_buf_addc(b, '\\');
        jpt_buf_addc(b, *z == '\n' ? ' ' : *z);
    }
}

void report_md(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "# jpt report\n\n");
    if (r->modelled)
        jpt_buf_addz(b, "**Energy here is modelled, not measured.**\n\n");
    jpt_buf_addz(b, "J/token is joules a kept output token. Mean and [95 % bootstrap interval over items]; – is absent.\n");
    for (int i = 0; i < r->n_panels; i++) {
        const panel *p = &r->panels[i];
        jpt_buf_printf(b, "\n## %s\n\n", p->title);
        report_verdict(p, b);
        jpt_buf_printf(b, "\n\n| strategy | model | %s | J/token gross | J/token net | J/request gross | J/request net | items | energy |\n"
                          "|---|---|--:|--:|--:|--:|--:|--:|---|\n",
                       metric_of(p->task));
        for (int k = 0; k < p->n_cells; k++) {
            const cell    *c = p->cells[k];
            const estimate es[] = {c->quality, c->j_token, c->net_j_token, c->j_request, c->net_j_request};
            jpt_buf_addz(b, "| ");
            md_cell(b, c->label);
            jpt_buf_addz(b, " | ");
            md_cell(b, report_model(r, c->row.model)->name);
            jpt_buf_addz(b, " | ");
            for (int e = 0; e < 5; e++) {
                add_estimate(b, es[e]);
                jpt_buf_addz(b, " | ");
            }
            jpt_buf_printf(b, "%d | %s |\n", c->n_items, report_source(c));
        }
    }
}

void report_csv_field(jpt_buf *b, const char *z) {
    if (z == NULL)
        return;
    if (strpbrk(z, ",\"\r\n") == NULL) {
        jpt_buf_addz(b, z);
        return;
    }
    jpt_buf_addc(b, '"');
    for (; *z; z++) {
        if (*z == '"')
            jpt_buf_addc(b, '"');
        jpt_buf_addc(b, *z);
    }
    jpt_buf_addc(b, '"');
}

static void csv_real(jpt_buf *b, double v) {
    if (isfinite(v))
        jpt_buf_printf(b, "%.9g", v);
}

void report_csv(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "task,strategy,model,metric,quality,quality_ci_low,quality_ci_high,j_per_token,j_per_token_ci_low,"
                    "j_per_token_ci_high,net_j_per_token,j_per_request,j_per_request_ci_low,j_per_request_ci_high,"
                    "net_j_per_request,positions_computed,positions_discarded,draft_positions,n_items,n_requests,n_failed,n_energy_invalid,energy_source,modelled\r\n");
    for (int i = 0; i < r->n_cells; i++) {
        const cell         *c = &r->cells[i];
        const jpt_task_row *t = report_task(r, c->row.task);
        if (c->n_requests == 0)
            continue;
        const char         *names[] = {t->name, c->label, report_model(r, c->row.model)->name, t->primary_metric};
        for (int k = 0; k < 4; k++) {
            report_csv_field(b, names[k]);
            jpt_buf_addc(b, ',');
        }
        const double values[] = {c->quality.mean, c->quality.low, c->quality.high, c->j_token.mean, c->j_token.low,
                                 c->j_token.high, c->net_j_token.mean, c->j_request.mean, c->j_request.low,
                                 c->j_request.high, c->net_j_request.mean};
        for (int k = 0; k < 11; k++) {
            csv_real(b, values[k]);
            jpt_buf_addc(b, ',');
        }
        jpt_buf_printf(b, "%.0f,%.0f,%.0f,", c->computed, c->discarded, c->drafted);
        jpt_buf_printf(b, "%d,%d,%d,%d,", c->n_items, c->n_requests, c->n_failed, c->n_invalid);
        report_csv_field(b, report_source(c));
        jpt_buf_printf(b, ",%d\r\n", c->modelled);
    }
}

#define HEAD(k, f) #f ","
#define CSV_KEY(f) jpt_buf_printf(b, "%lld,", (long long)q->f);
#define CSV_INT(f) if (q->f >= 0) jpt_buf_printf(b, "%lld", (long long)q->f); jpt_buf_addc(b, ',');
#define CSV_REAL(f) csv_real(b, q->f); jpt_buf_addc(b, ',');
#define CSV_TEXT(f) report_csv_field(b, q->f); jpt_buf_addc(b, ',');
#define CSV(k, f) CSV_##k(f)
static jpt_status csv_request(void *ud, const jpt_request_row *q) {
    jpt_buf *b = ud;
    JPT_REQUEST_MAP(CSV)
    jpt_buf_printf(b, "%lld\r\n", (long long)q->id);
    return JPT_OK;
}
jpt_status report_requests_csv(const report *r, jpt_buf *b, jpt_error *err) {
    jpt_buf_addz(b, JPT_REQUEST_MAP(HEAD) "id\r\n");
    return jpt_store_each_request(r->store, -1, csv_request, b, err);
}

static jpt_status write_one(const char *dir, const char *name, const jpt_buf *b, jpt_buf *paths, jpt_error *err) {
    jpt_buf path = {0};
    jpt_buf_printf(&path, "%s/%s", dir, name);
    jpt_status status = b->oom || path.oom ? JPT_FAIL(err, NOMEM, "out of memory while writing %s", name)
                                           : jpt_file_write(path.p, b->p ? b->p : "", b->n, err);
    if (status == JPT_OK && paths != NULL)
        jpt_buf_printf(paths, "%s\n", path.p);
    jpt_buf_fini(&path);
    return status;
}

jpt_status jpt_report_write(jpt_store *s, const char *dir, unsigned formats, jpt_buf *paths, jpt_error *err) {
    report     r;
    jpt_buf    b = {0};
    jpt_status status = report_load(&r, s, err);
    if (status == JPT_OK)
        status = jpt_mkdirs(dir, err);
    if (status == JPT_OK && (formats & JPT_REPORT_HTML)) {
        report_html(&r, &b);
        status = write_one(dir, "report.html", &b, paths, err);
    }
    if (status == JPT_OK && (formats & JPT_REPORT_MD)) {
        jpt_buf_reset(&b);
        report_md(&r, &b);
        status = write_one(dir, "report.md", &b, paths, err);
    }
    if (status == JPT_OK && (formats & JPT_REPORT_CSV)) {
        jpt_buf_reset(&b);
        report_csv(&r, &b);
        status = write_one(dir, "report.csv", &b, paths, err);
        jpt_buf_reset(&b);
        if (status == JPT_OK)
            status = report_requests_csv(&r, &b, err);
        if (status == JPT_OK)
            status = write_one(dir, "requests.csv", &b, paths, err);
    }
    jpt_buf_fini(&b);
    report_free(&r);
    return status;
}

static bool has_spec(const cell *c, const char *spec) { return c->row.spec != NULL && strcmp(c->row.spec, spec) == 0; }

static bool same(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : "") == 0; }

/* Alike but for the strategy. */
static bool comparable(const cell *a, const cell *b) {
    return a != b && a->row.model == b->row.model && a->row.study == b->row.study && a->row.max_new_tokens == b->row.max_new_tokens &&
           same(a->row.seeds, b->row.seeds) && same(a->row.draft_model, b->row.draft_model) &&
           (a->row.max_joules == b->row.max_joules || (isnan(a->row.max_joules) && isnan(b->row.max_joules))) && same(a->row.device, b->row.device);
}

/* Lower or higher when the interval does not hold zero; equivalent when all of it lies within margin x |reference| of zero. */
static const char *verdict_of(estimate e, double reference, double margin, char room[64]) {
    bool within = isfinite(reference) && fmax(fabs(e.low), fabs(e.high)) <= margin * fabs(reference);
    if (within)
        snprintf(room, 64, "%sequivalent within %g %%", report_separable(e) ? e.mean > 0 ? "higher, but " : "lower, but " : "", 100 * margin);
    else
        snprintf(room, 64, "%s", report_separable(e) ? e.mean > 0 ? "higher" : "lower" : "not separable");
    return room;
}

static void add_comparison(const panel *p, const cell *a, const cell *b, double margin, jpt_buf *out) {
    estimate dq = report_difference(a, b, COMPARED_QUALITY), dj = report_difference(a, b, COMPARED_J_REQUEST);
    jpt_buf_printf(out, "%s: %s minus %s%s\n", p->title, a->label, b->label, p->modelled ? " (energy modelled, not measured)" : "");
    for (compared m = COMPARED_QUALITY; m <= COMPARED_J_REQUEST; m++) {
        estimate e = report_difference(a, b, m);
        jpt_buf  what = {0};
        if (m == COMPARED_QUALITY)
            jpt_buf_printf(&what, "%s%s", a->corpus || b->corpus || a->partial || b->partial ? "mean segment " : "", metric_of(p->task));
        else
            jpt_buf_addz(&what, m == COMPARED_J_TOKEN ? "J/token" : "J/request");
        if (!isfinite(e.low))
            jpt_buf_printf(out, "  %s: no paired interval (%d shared items)\n", what.p, e.n);
        else {
            double reference = m == COMPARED_QUALITY ? b->quality.mean : m == COMPARED_J_TOKEN ? b->j_token.mean : b->j_request.mean;
            char   room[64];
            jpt_buf_printf(out, "  %s: %+.4g", what.p, e.mean);
            if (m != COMPARED_QUALITY && reference > 0)
                jpt_buf_printf(out, " (%+.1f %%)", 100 * e.mean / reference);
            jpt_buf_printf(out, ", 95 %% interval [%+.4g, %+.4g] over %d items: %s\n", e.low, e.high, e.n, verdict_of(e, reference, margin, room));
        }
        out->oom = out->oom || what.oom;
        jpt_buf_fini(&what);
    }
    bool higher = p->task->higher_is_better != 0;
    if (report_separable(dq) && report_separable(dj) && (dq.mean > 0) == ((dj.mean > 0) == higher)) /* better for more, or worse for less */
        jpt_buf_printf(out, "  price: %.4g J a request for a point of %s\n", fabs(dj.mean / dq.mean), metric_of(p->task));
}

jpt_status jpt_report_compare(jpt_store *s, const char *spec_a, const char *spec_b, double margin, jpt_buf *out, jpt_error *err) {
    report     r;
    jpt_status status = report_load(&r, s, err);
    int        found = 0, has_a = 0, has_b = 0;
    for (int i = 0; status == JPT_OK && i < r.n_panels; i++) {
        const panel *p = &r.panels[i];
        for (int k = 0; k < p->n_cells; k++) {
            has_a += has_spec(p->cells[k], spec_a);
            has_b += has_spec(p->cells[k], spec_b);
            for (int j = 0; j < p->n_cells; j++)
                if (has_spec(p->cells[k], spec_a) && has_spec(p->cells[j], spec_b) && comparable(p->cells[k], p->cells[j])) {
                    add_comparison(p, p->cells[k], p->cells[j], margin, out);
                    found++;
                }
        }
    }
    if (status == JPT_OK && found == 0)
        status = JPT_FAIL(err, NOT_FOUND, "nothing to compare: %s%s; give two strategies as jpt report shows them",
                          has_a && has_b ? "no task has both under the same model, meter, seed and length" : has_a ? spec_b : spec_a,
                          has_a && has_b ? "" : " is not in the file");
    report_free(&r);
    return status;
}
