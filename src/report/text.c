/* Words, Markdown and CSV of a loaded report, the paired comparison, and the files of jpt report. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *source_of(const cell *c) { return c->modelled ? "modelled, not measured" : c->energy_source ? c->energy_source : "none"; }

static void add_estimate(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "–");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "%.4g (%d)", e.mean, e.n);
    else
        jpt_buf_printf(b, "%.4g ± %.2g (%d)", e.mean, (e.high - e.low) / 2, e.n);
}

/* a - b over the items that both have; kind 0 quality, 1 J/token, 2 J/request. */
static estimate paired(const cell *a, const cell *b, int kind) {
    estimate none = {NAN, NAN, NAN, 0};
    double  *v = calloc(4 * ((size_t)a->n_items + 1), sizeof *v);
    if (v == NULL || (kind == 0 && (a->corpus || b->corpus))) {
        free(v);
        return none;
    }
    int m = a->n_items + 1, n = 0;
    for (int i = 0; i < a->n_items; i++)
        for (int k = 0; k < b->n_items; k++) {
            const item *x = &a->items[i], *y = &b->items[k];
            if (x->index != y->index)
                continue;
            double dx = kind == 0 ? x->n_scores : kind == 1 ? x->energy_tokens : x->n_energy;
            double dy = kind == 0 ? y->n_scores : kind == 1 ? y->energy_tokens : y->n_energy;
            if (dx <= 0 || dy <= 0)
                continue;
            v[n] = kind == 0 ? x->score / dx : x->energy_j, v[m + n] = kind == 0 ? 1 : dx;
            v[2 * m + n] = kind == 0 ? y->score / dy : y->energy_j, v[3 * m + n++] = kind == 0 ? 1 : dy;
        }
    estimate e = report_paired(v, v + m, v + 2 * m, v + 3 * m, n);
    free(v);
    return e;
}

static bool separable(estimate e) { return isfinite(e.low) && (e.low > 0 || e.high < 0); }

void report_verdict(const report *r, int64_t task, jpt_buf *b) {
    const jpt_task_row *t = report_task(r, task);
    const cell         *best = NULL, *cheap = NULL;
    for (int i = 0; i < r->n_cells; i++) {
        const cell *c = &r->cells[i];
        if (c->row.task != task)
            continue;
        double sign = t->higher_is_better != 0 ? 1 : -1;
        if (isfinite(c->quality.mean) && (best == NULL || sign * c->quality.mean > sign * best->quality.mean))
            best = c;
        if (isfinite(c->j_token.mean) && (cheap == NULL || c->j_token.mean < cheap->j_token.mean))
            cheap = c;
    }
    if (best == NULL)
        jpt_buf_addz(b, "No score yet. ");
    else
        jpt_buf_printf(b, "%s has the highest-ranked %s (%.3g). ", best->row.spec,
                       t->primary_metric ? t->primary_metric : "score", best->quality.mean);
    if (cheap == NULL)
        jpt_buf_addz(b, "No valid energy. ");
    else
        jpt_buf_printf(b, "%s costs the fewest joules a kept token (%.3g J, %s). ", cheap->row.spec, cheap->j_token.mean,
                       source_of(cheap));
    if (best != NULL && cheap != NULL && best != cheap) {
        estimate q = paired(best, cheap, 0), j = paired(best, cheap, 1);
        if (isfinite(q.mean))
            jpt_buf_printf(b, "Between the two, quality is %s", separable(q) ? "different" : "not separable");
        else
            jpt_buf_addz(b, "Between the two, quality has no paired interval");
        jpt_buf_printf(b, " and J/token is %s at 95 %%.", separable(j) ? "different" : "not separable");
    }
}

void report_md(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "# jpt report\n\n");
    if (r->modelled)
        jpt_buf_addz(b, "**Energy here is modelled, not measured.**\n\n");
    jpt_buf_addz(b, "J/token is joules a kept output token. Mean ± half-width of the 95 % bootstrap interval over "
                    "items (n items); – is absent.\n");
    for (int t = 0; t < r->n_tasks; t++) {
        jpt_buf_printf(b, "\n## %s\n\n", r->tasks[t].name ? r->tasks[t].name : "?");
        report_verdict(r, r->tasks[t].id, b);
        jpt_buf_printf(b, "\n\n| strategy | model | %s | J/token gross | J/token net | J/request gross | J/request net | source |\n"
                          "|---|---|---|---|---|---|---|---|\n",
                       r->tasks[t].primary_metric ? r->tasks[t].primary_metric : "score");
        for (int i = 0; i < r->n_cells; i++) {
            const cell *c = &r->cells[i];
            if (c->row.task != r->tasks[t].id)
                continue;
            const char *model = report_model(r, c->row.model)->name;
            jpt_buf_printf(b, "| `%s` | %s | ", c->row.spec ? c->row.spec : "?", model ? model : "?");
            const estimate es[] = {c->quality, c->j_token, c->net_j_token, c->j_request, c->net_j_request};
            for (int k = 0; k < 5; k++) {
                add_estimate(b, es[k]);
                jpt_buf_addz(b, " | ");
            }
            jpt_buf_printf(b, "%s |\n", source_of(c));
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
                    "net_j_per_request,n_items,n_requests,n_failed,n_energy_invalid,energy_source,modelled\r\n");
    for (int i = 0; i < r->n_cells; i++) {
        const cell         *c = &r->cells[i];
        const jpt_task_row *t = report_task(r, c->row.task);
        const char         *names[] = {t->name, c->row.spec, report_model(r, c->row.model)->name, t->primary_metric};
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
        jpt_buf_printf(b, "%d,%d,%d,%d,", c->n_items, c->n_requests, c->n_failed, c->n_invalid);
        report_csv_field(b, source_of(c));
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

jpt_status jpt_report_compare(jpt_store *s, const char *spec_a, const char *spec_b, jpt_buf *out, jpt_error *err) {
    report     r;
    jpt_status status = report_load(&r, s, err);
    int        found = 0, has_a = 0, has_b = 0;
    for (int i = 0; status == JPT_OK && i < r.n_cells; i++) {
        has_a += has_spec(&r.cells[i], spec_a);
        has_b += has_spec(&r.cells[i], spec_b);
        for (int k = 0; k < r.n_cells; k++) {
            const cell *a = &r.cells[i], *b = &r.cells[k];
            if (!has_spec(a, spec_a) || !has_spec(b, spec_b) || a->row.task != b->row.task || a->row.model != b->row.model)
                continue;
            const jpt_task_row *t = report_task(&r, a->row.task);
            jpt_buf_printf(out, "%s: %s minus %s%s\n", t->name ? t->name : "?", spec_a, spec_b,
                           a->modelled || b->modelled ? " (energy modelled, not measured)" : "");
            const char *what[] = {t->primary_metric ? t->primary_metric : "score", "J/token", "J/request"};
            for (int m = 0; m < 3; m++) {
                estimate e = paired(a, b, m);
                if (!isfinite(e.low))
                    jpt_buf_printf(out, "  %s: no paired interval (%d shared items)\n", what[m], e.n);
                else
                    jpt_buf_printf(out, "  %s: %+.4g, 95 %% interval [%+.4g, %+.4g] over %d items: %s\n", what[m], e.mean,
                                   e.low, e.high, e.n, separable(e) ? e.mean > 0 ? "higher" : "lower" : "not separable");
            }
            found++;
        }
    }
    if (status == JPT_OK && found == 0)
        status = JPT_FAIL(err, NOT_FOUND, "no task has both '%s' and '%s': %s%s; give the specs as jpt report shows them",
                          spec_a, spec_b, has_a ? "the second" : "the first", has_a && has_b ? " is of another task" : " is not in the file");
    report_free(&r);
    return status;
}
