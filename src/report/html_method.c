/* The page's last part: is it valid, what does it cost, how was it done. */
#include "html.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEDGER_ALIKE = 30 }; /* condition of a fit from which on its windows tell phases apart no longer (docs/energy-method.md) */

/* ---- validity ------------------------------------------------------------------------------------- */

typedef struct reason { char text[160]; int n; } reason;
enum { REASONS = 40 };

/* "counter and integral differ by 12 %; short" : each part once, numbers blanked so that like goes to like.  prefix: before those that lack it. */
static void count_reasons(reason *v, int *n, const char *text, const char *prefix) {
    for (const char *end; text && *text; text = *end ? end + 1 : end) {
        end = text + strcspn(text, ";");
        char   one[160];
        const char *from = text + (*text == ' ');
        size_t      k = (size_t)snprintf(one, sizeof one, "%s", strncmp(from, prefix, strlen(prefix)) == 0 ? "" : prefix);
        for (const char *c = from; c < end && k + 4 < sizeof one; c++) {
            bool digit = *c >= '0' && *c <= '9';
            if (digit && k && one[k - 1] == '#')
                continue;
            if (*c == '.' && k && one[k - 1] == '#' && c + 1 < end && c[1] >= '0' && c[1] <= '9')
                continue;
            one[k++] = digit ? '#' : *c;
        }
        one[k] = '\0';
        int at = 0;
        while (at < *n && strcmp(v[at].text, one) != 0)
            at++;
        if (at == REASONS)
            continue;
        if (at == *n)
            snprintf(v[(*n)++].text, 160, "%s", one);
        v[at].n++;
    }
}

static int doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void report_validity(const report *r, jpt_buf *b) {
    int     requests = 0, failed = 0, invalid = 0, unmetered = 0, kinds = 0, bad[8] = {0}, all[8] = {0}, warned[8] = {0}, n_reasons = 0, n_res = 0, open_books = 0, books = 0;
    const char *kind[8];
    reason *why = calloc(REASONS, sizeof *why);
    double *residual = malloc(((size_t)r->n_windows + 1) * sizeof *residual);
    for (int i = 0; i < r->n_cells; i++)
        requests += r->cells[i].n_requests, failed += r->cells[i].n_failed, invalid += r->cells[i].n_invalid, unmetered += r->cells[i].n_requests - r->cells[i].n_metered - r->cells[i].n_invalid;
    for (int i = 0; why && residual && i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        int                   k = 0;
        while (k < kinds && !report_same(kind[k], w->kind))
            k++;
        if (k == 8)
            continue;
        if (k == kinds)
            kind[kinds++] = w->kind;
        all[k]++, bad[k] += w->valid == 0, warned[k] += w->valid == 1 && w->reasons && *w->reasons;
        count_reasons(why, &n_reasons, w->reasons, w->valid == 0 ? "" : "warning: ");
        if (isfinite(w->residual) && w->valid != 0)
            residual[n_res++] = fabs(w->residual);
        double sum = w->prefill_energy_j + w->decode_energy_j + w->draft_energy_j + w->verify_energy_j + w->select_energy_j + w->kv_energy_j + w->host_energy_j +
                     (isfinite(w->idle_energy_j) ? w->idle_energy_j : 0) + w->residual_energy_j;
        if (isfinite(sum) && isfinite(w->energy_j))
            books++, open_books += fabs(sum - w->energy_j) > 1e-6 * fmax(1, fabs(w->energy_j));
    }
    for (const char *line = r->reasons.p; why && line && *line;) {
        char   one[400];
        size_t n = strcspn(line, "\n");
        snprintf(one, sizeof one, "%.*s", (int)n, line);
        bool warning = strncmp(one, "warning: ", 9) == 0;
        count_reasons(why, &n_reasons, one + (warning ? 9 : 0), warning ? "warning: " : "");
        line += n + (line[n] == '\n');
    }
    jpt_buf_printf(b, "<section id=\"validity\"><h2>Is it valid?</h2><div class=\"method\"><div><h3>requests</h3><dl><dt>finished</dt><dd>%d</dd><dt>failed, kept in the file</dt><dd>%d</dd>"
                      "<dt>energy not valid: left out of every mean, kept in the file</dt><dd>%d</dd><dt>energy not measured</dt><dd>%d</dd></dl></div>",
                   requests, failed, invalid, unmetered < 0 ? 0 : unmetered);
    jpt_buf_addz(b, "<div><h3>windows</h3>");
    if (kinds == 0)
        jpt_buf_addz(b, "<p>None in this file: each request was its own.</p>");
    else
        jpt_buf_addz(b, "<table class=\"small\"><thead><tr><th scope=\"col\">kind</th><th scope=\"col\">all</th><th scope=\"col\">not valid</th><th scope=\"col\">warned</th></tr></thead><tbody>");
    for (int k = 0; k < kinds; k++) {
        jpt_buf_addz(b, "<tr><th scope=\"row\">");
        report_escape(b, kind[k]);
        jpt_buf_printf(b, "</th><td>%d</td><td>%d</td><td>%d</td></tr>", all[k], bad[k], warned[k]);
    }
    if (kinds)
        jpt_buf_addz(b, "</tbody></table>");
    jpt_buf_addz(b, "</div><div><h3>cross-checks</h3><dl><dt>counter against integrated power, median and largest residual</dt><dd>");
    if (n_res) {
        qsort(residual, (size_t)n_res, sizeof *residual, doubles);
        jpt_buf_printf(b, "%.2f %% and %.2f %% (%d windows)", 100 * residual[n_res / 2], 100 * residual[n_res - 1], n_res);
    } else
        jpt_buf_addz(b, "not measured: one instrument only");
    jpt_buf_addz(b, "</dd><dt>phases + idle + residual = counter</dt><dd>");
    if (books)
        jpt_buf_printf(b, "%s in %d windows", open_books ? "broken" : "holds", open_books ? open_books : books);
    else
        jpt_buf_addz(b, "no ledger in this file");
    jpt_buf_printf(b, "</dd><dt>floor of each setting</dt><dd>%s</dd></dl><p class=\"note\">jpt audit checks every row.</p></div><div><h3>reasons</h3><dl>",
                   r->n_floors ? "in the tables" : "none: no calibration of this device with this meter that explains three quarters of its joules (jpt calibrate)");
    for (int k = 0; k < n_reasons; k++) {
        jpt_buf_addz(b, "<dt>");
        report_escape(b, why[k].text);
        jpt_buf_printf(b, "</dt><dd>%d</dd>", why[k].n);
    }
    jpt_buf_addz(b, n_reasons ? "</dl></div></div></section>" : "<dt>none</dt><dd>no window is doubtful</dd></dl></div></div></section>");
    free(why);
    free(residual);
}

/* ---- cost ----------------------------------------------------------------------------------------- */

void report_cost(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"cost\"><h2>What it costs</h2><p>kWh = joules / 3,600,000; CO₂e = kWh × PUE × g/kWh; money = kWh × PUE × price. Joules are the meter's alone: hosts, networks and what else the "
                    "meter leaves out are not in it. Set the factors to your own place:</p><form class=\"filters\" id=\"factors\" aria-label=\"factors\">"
                    "<label>price a kWh<input id=\"price\" type=\"number\" min=\"0\" step=\"0.01\" value=\"0.25\"></label><label>PUE<input id=\"pue\" type=\"number\" min=\"1\" step=\"0.01\" value=\"1.20\"></label>"
                    "<label>g CO₂e a kWh<input id=\"grams\" type=\"number\" min=\"0\" step=\"1\" value=\"475\"></label><label>requests<input id=\"many\" type=\"number\" min=\"1\" step=\"1\" value=\"1000000\"></label></form>"
                    "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"cost\"><table id=\"costs\"><thead><tr><th scope=\"col\">task and setting</th><th scope=\"col\">J a request</th>"
                    "<th scope=\"col\">kWh, all requests</th><th scope=\"col\">money</th><th scope=\"col\">kg CO₂e</th></tr></thead><tbody>");
    for (int i = 0; i < r->n_panels; i++)
        for (int k = 0; k < r->panels[i].n_cells; k++) {
            const panel *p = &r->panels[i];
            const cell  *c = p->cells[k];
            double       j = c->fig[J_REQUEST].mean, kwh = j * 1e6 / 3.6e6 * 1.2;
            if (!isfinite(j) || !(c->front[1] || report_reference(p, c) == c))
                continue;
            jpt_buf_printf(b, "<tr data-c=\"%lld\" data-j=\"%.9g\"><th scope=\"row\">", (long long)c->row.id, j);
            report_escape(b, p->title);
            jpt_buf_addz(b, ": ");
            report_escape(b, c->label);
            if (p->many_models && c->model) {
                jpt_buf_addz(b, ", ");
                report_escape(b, c->model);
            }
            jpt_buf_printf(b, "</th><td>%.4g%s</td><td>%.4g</td><td>%.4g</td><td>%.4g</td></tr>", j, c->modelled ? " (modelled)" : "", kwh, kwh * .25, kwh * .475);
        }
    jpt_buf_addz(b, "</tbody></table></div><p class=\"note\">Greedy and the settings on the front. 475 g/kWh is a world mean of generation, 1.20 and 0.25 are examples: none of the three was measured here.</p></section>");
}

/* ---- method --------------------------------------------------------------------------------------- */

#define SHOW_KEY(f)
#define SHOW_INT(f) if (row->f >= 0) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%lld</dd>", (long long)row->f);
#define SHOW_REAL(f) if (isfinite(row->f)) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%.6g</dd>", row->f);
#define SHOW_TEXT(f) if (row->f) { jpt_buf_addz(b, "<dt>" #f "</dt><dd>"); report_escape(b, row->f); jpt_buf_addz(b, "</dd>"); }
#define SHOW(k, f) SHOW_##k(f)
#define SHOW_ALL(name, plural, MAP)                                                                           \
    for (int i = 0; i < r->n_##plural; i++) {                                                                 \
        const jpt_##name##_row *row = &r->plural[i];                                                          \
        jpt_buf_addz(b, "<div><h3>" #name "</h3><dl>");                                                       \
        MAP(SHOW)                                                                                             \
        jpt_buf_addz(b, "</dl></div>");                                                                       \
    }

/* Each setting once, whatever its tasks. */
static void settings(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<div><h3>settings</h3><dl>");
    for (int i = 0; i < r->n_cells; i++) {
        const jpt_cell_row *c = &r->cells[i].row;
        bool                seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = report_same(r->cells[k].row.spec, c->spec) && report_same(r->cells[k].row.seeds, c->seeds);
        if (seen)
            continue;
        jpt_buf_addz(b, "<dt>");
        report_escape(b, c->spec);
        jpt_buf_addz(b, "</dt><dd>");
        report_escape(b, c->params_json);
        jpt_buf_addz(b, "; seeds ");
        report_escape(b, c->seeds);
        jpt_buf_addz(b, "</dd>");
    }
    jpt_buf_addz(b, "</dl></div>");
}

/* min to max of what the windows of requests say. */
static void window_facts(const report *r, jpt_buf *b) {
    double low[5], high[5];
    int    n = 0;
    for (int k = 0; k < 5; k++)
        low[k] = INFINITY, high[k] = -INFINITY;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (!w->kind || strcmp(w->kind, "requests") != 0)
            continue;
        n++;
        const double v[] = {w->duration_s, w->idle_before_w, w->temp_start_c, w->sm_mhz_start, w->replications > 0 ? (double)w->replications : NAN};
        for (int k = 0; k < 5; k++)
            low[k] = fmin(low[k], v[k]), high[k] = fmax(high[k], v[k]);
        low[2] = fmin(low[2], w->temp_end_c), high[2] = fmax(high[2], w->temp_end_c);
    }
    if (n == 0)
        return;
    static const char *const names[] = {"length, s", "idle power before, W", "temperature, °C", "SM clock, MHz", "replications"};
    jpt_buf_printf(b, "<div><h3>windows</h3><dl><dt>of requests</dt><dd>%d</dd>", n);
    for (int k = 0; k < 5; k++) {
        jpt_buf_printf(b, "<dt>%s</dt><dd>", names[k]);
        if (high[k] >= low[k])
            jpt_buf_printf(b, "%.4g to %.4g</dd>", low[k], high[k]);
        else
            jpt_buf_addz(b, "not measured</dd>");
    }
    jpt_buf_addz(b, "</dl></div>");
}

void report_method(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"method\"><h2>How it was done</h2><p>Joules a kept output token: energy of whole requests over the tokens they kept. Gross is what the meter moved; net takes the idle power off. "
                    "– is absent, never zero. Intervals are 95 %: a bootstrap crossed over items and blocks, the same draws for every setting, scaled to the two-way cluster-robust standard error with Student's t. "
                    "A corpus score (BLEU, chrF) moves as the mean of its segments does, to scale. Differences are paired; several at once are judged by Holm's p values. An interval is no accuracy: the sensor's own gain "
                    "(about ± 5 % on a card) is the same for all rows of one card and in none of the intervals.</p><div class=\"method\">");
    SHOW_ALL(meter, meters, JPT_METER_MAP)
    window_facts(r, b);
    SHOW_ALL(model, models, JPT_MODEL_MAP)
    SHOW_ALL(study, studies, JPT_STUDY_MAP)
    SHOW_ALL(calibration, calibrations, JPT_CALIBRATION_MAP)
    for (int i = 0; i < r->n_tasks; i++) {
        const jpt_task_row *row = &r->tasks[i];
        jpt_buf_addz(b, "<div><h3>task</h3><dl>");
        JPT_TASK_MAP(SHOW)
        jpt_buf_addz(b, "</dl></div>");
    }
    if (r->n_ledgers) {
        jpt_buf_addz(b, "<div><h3>second opinions on phases</h3><dl>");
        for (int i = 0; i < r->n_ledgers; i++) {
            const jpt_ledger_row *l = &r->ledgers[i];
            jpt_buf_addz(b, "<dt>");
            report_escape(b, l->method), jpt_buf_addz(b, ", "), report_escape(b, l->entry);
            jpt_buf_printf(b, "%s</dt><dd>%.4g ", report_same(l->method, "nnls") ? "" : ", of the model that calibrated", l->value);
            if (isfinite(l->error_value))
                jpt_buf_printf(b, "± %.2g ", l->error_value);
            report_escape(b, l->unit);
            if (l->condition > LEDGER_ALIKE)
                jpt_buf_printf(b, " (condition %.0f: the windows' mixes of phases are too alike to tell them apart)", l->condition);
            jpt_buf_addz(b, "</dd>");
        }
        jpt_buf_addz(b, "</dl></div>");
    }
    if (r->n_looks) {
        jpt_buf_addz(b, "<div><h3>sequential stopping</h3><dl>");
        for (int i = 0; i < r->n_looks; i++) {
            const jpt_look_row *l = &r->looks[i];
            jpt_buf_printf(b, "<dt>after %lld blocks, ", (long long)l->blocks);
            report_escape(b, l->spec_b), jpt_buf_addz(b, " to "), report_escape(b, l->spec_a);
            jpt_buf_printf(b, "</dt><dd>%+.2f %% [%+.2f, %+.2f]: ", 100 * l->difference, 100 * l->ci_low, 100 * l->ci_high);
            report_escape(b, l->decision);
            jpt_buf_addz(b, "</dd>");
        }
        jpt_buf_addz(b, "</dl></div>");
    }
    settings(r, b);
    jpt_buf_addz(b, "</div></section>");
}
