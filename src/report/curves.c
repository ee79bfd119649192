/* Hyperparameter curves: quality and joules of one strategy over its knob. */
#include "svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 300, H = 300, LEFT = 50, RIGHT = 12, TOP = 26, MIDDLE = 138, LOWER = 160, BOTTOM = 262, MAX_SERIES = 6 };

typedef struct knob {
    const char  *strategy;
    int64_t      model, batch;
    char         key[48];
    const cell **cells; /* sorted by series, then value */
    double      *values;
    int         *series, n, n_series;
    char         names[MAX_SERIES][96];
} knob;

/* The key of most distinct numeric values among the strategy's cells; false when none has two. */
static bool find_key(const panel *p, knob *k) {
    int  most = 1;
    char key[48], value[64];
    for (int c = 0; c < p->n_cells; c++)
        for (int i = 0; strcmp(p->cells[c]->strategy, k->strategy) == 0 && report_parameter_at(p->cells[c]->row.spec, i, key, value); i++) {
            double seen[64];
            int    n = 0;
            for (int o = 0; o < p->n_cells && n < 64; o++) {
                double v;
                bool   known = false;
                if (strcmp(p->cells[o]->strategy, k->strategy) != 0 || p->cells[o]->row.model != k->model || p->cells[o]->row.batch != k->batch || !report_parameter(p->cells[o]->row.spec, key, &v))
                    continue;
                for (int s = 0; s < n; s++)
                    known = known || seen[s] == v;
                if (!known)
                    seen[n++] = v;
            }
            if (n > most)
                most = n, snprintf(k->key, sizeof k->key, "%s", key);
        }
    return most > 1;
}

/* "top_k 25": the parameters besides the knob. */
static void series_name(const cell *c, const char *knob_key, char out[96]) {
    char key[48], value[64];
    int  n = 0;
    out[0] = '\0';
    for (int i = 0; report_parameter_at(c->row.spec, i, key, value); i++)
        if (strcmp(key, knob_key) != 0 && n < 90)
            n += snprintf(out + n, (size_t)(96 - n), "%s%s %s", n ? ", " : "", key, value);
    const char *more = c->label + strlen(c->row.spec ? c->row.spec : "");
    if (*more && n < 90)
        snprintf(out + n, (size_t)(96 - n), "%s", more);
}

static void gather(const panel *p, knob *k) {
    for (int c = 0; c < p->n_cells; c++) {
        const cell *at = p->cells[c];
        double      v;
        char        name[96];
        int         s = 0;
        if (strcmp(at->strategy, k->strategy) != 0 || at->row.model != k->model || at->row.batch != k->batch || !report_parameter(at->row.spec, k->key, &v))
            continue;
        series_name(at, k->key, name);
        while (s < k->n_series && strcmp(k->names[s], name) != 0)
            s++;
        if (s == MAX_SERIES)
            continue; /* the table has them */
        if (s == k->n_series)
            snprintf(k->names[k->n_series++], 96, "%s", name);
        int to = k->n;
        while (to > 0 && (k->series[to - 1] > s || (k->series[to - 1] == s && k->values[to - 1] > v))) {
            k->cells[to] = k->cells[to - 1], k->values[to] = k->values[to - 1], k->series[to] = k->series[to - 1];
            to--;
        }
        k->cells[to] = at, k->values[to] = v, k->series[to] = s, k->n++;
    }
}

static scale vertical(const knob *k, figure f, const cell *of, double from, double to) {
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < k->n; i++) {
        estimate e = k->cells[i]->fig[f];
        low = fmin(low, fmin(e.mean, e.low)), high = fmax(high, fmax(e.mean, e.high));
    }
    if (of && isfinite(of->fig[f].mean))
        low = fmin(low, of->fig[f].mean), high = fmax(high, of->fig[f].mean);
    return report_scale(low, high, low >= 0 ? 0 : -INFINITY, INFINITY, false, from, to, 3);
}

static void plot(const report *r, const knob *k, figure f, const cell *of, const scale *x, double top, double bottom, const char *title, jpt_buf *b) {
    bool any = false;
    for (int i = 0; i < k->n; i++)
        any = any || isfinite(k->cells[i]->fig[f].mean);
    jpt_buf_printf(b, "<text class=\"axis\" x=\"6\" y=\"%.0f\">", top - 9);
    report_escape(b, title);
    jpt_buf_addz(b, any ? "</text>" : ": not measured</text>");
    if (!any)
        return;
    scale y = vertical(k, f, of, bottom, top);
    for (int i = 0; i < y.n_ticks; i++)
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>", LEFT, report_at(&y, y.ticks[i]), W - RIGHT, LEFT - 6,
                       report_at(&y, y.ticks[i]) + 4, y.ticks[i]);
    if (of && isfinite(of->fig[f].mean))
        jpt_buf_printf(b, "<path class=\"front\" d=\"M%d %.1fH%d\"><title>%s: %.4g</title></path>", LEFT, report_at(&y, of->fig[f].mean), W - RIGHT, "greedy", of->fig[f].mean);
    int colour = report_colour(r, k->strategy);
    for (int s = 0; s < k->n_series; s++) {
        jpt_buf_printf(b, "<path class=\"line l%d s%d\" d=\"", s, colour % N_COLOURS);
        bool begun = false;
        for (int i = 0; i < k->n; i++)
            if (k->series[i] == s && isfinite(k->cells[i]->fig[f].mean)) {
                jpt_buf_printf(b, "%c%.1f %.1f", begun ? 'L' : 'M', report_at(x, k->values[i]), report_at(&y, k->cells[i]->fig[f].mean));
                begun = true;
            }
        jpt_buf_addz(b, "\"/>");
    }
    for (int i = 0; i < k->n; i++) {
        estimate e = k->cells[i]->fig[f];
        if (!isfinite(e.mean))
            continue;
        double px = report_at(x, k->values[i]), py = report_at(&y, e.mean);
        jpt_buf_printf(b, "<g data-c=\"%lld\" data-x=\"%.1f\" data-y=\"%.1f\" class=\"pt s%d\"><title>", (long long)k->cells[i]->row.id, px, py, colour % N_COLOURS);
        report_escape(b, k->cells[i]->label);
        jpt_buf_printf(b, ": %.4g", e.mean);
        if (isfinite(e.low))
            jpt_buf_printf(b, " [%.3g, %.3g]</title><path class=\"bar\" d=\"M%.1f %.1fV%.1f\"/>", e.low, e.high, px, report_at(&y, e.low), report_at(&y, e.high));
        else
            jpt_buf_addz(b, "</title>");
        report_mark(b, colour, px, py, 3.6, "class=\"mark\"");
        jpt_buf_addz(b, "</g>");
    }
}

static void draw(const report *r, const panel *p, const knob *k, jpt_buf *b) {
    double      low = INFINITY, high = -INFINITY;
    const cell *of = report_reference(p, k->cells[0]);
    for (int i = 0; i < k->n; i++)
        low = fmin(low, k->values[i]), high = fmax(high, k->values[i]);
    scale x = report_scale(low, high, -INFINITY, INFINITY, high / low > 12, LEFT, W - RIGHT, 4);
    jpt_buf_printf(b, "<figure data-s=\"");
    report_escape(b, k->strategy);
    jpt_buf_addz(b, "\"><figcaption>");
    report_escape(b, k->strategy);
    if (p->many_models && k->cells[0]->model) {
        jpt_buf_addz(b, ", ");
        report_escape(b, k->cells[0]->model);
    }
    jpt_buf_printf(b, "</figcaption><svg class=\"points\" viewBox=\"0 0 %d %d\" role=\"img\" tabindex=\"0\" aria-label=\"", W, H);
    report_escape(b, k->strategy);
    jpt_buf_printf(b, ": quality and joules a request over %s\">", k->key);
    for (int i = 0; i < x.n_ticks; i++) {
        double px = report_at(&x, x.ticks[i]);
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%.1f %dV%dM%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>", px, TOP, MIDDLE, px, LOWER, BOTTOM, px, BOTTOM + 16, x.ticks[i]);
    }
    jpt_buf_printf(b, "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (W + LEFT) / 2, H - 4);
    report_escape(b, k->key);
    jpt_buf_addz(b, "</text>");
    plot(r, k, QUALITY, of, &x, TOP, MIDDLE, report_metric(p->task), b);
    plot(r, k, J_REQUEST, of, &x, LOWER, BOTTOM, p->modelled ? "J/request, modelled" : "J/request", b);
    jpt_buf_addz(b, "</svg>");
    if (k->n_series > 1) {
        jpt_buf_printf(b, "<p class=\"note s%d\">", report_colour(r, k->strategy) % N_COLOURS);
        for (int s = 0; s < k->n_series; s++) {
            jpt_buf_printf(b, "<svg class=\"dash\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path class=\"line l%d\" d=\"M0 4H26\"/></svg> ", s);
            report_escape(b, k->names[s]);
            jpt_buf_addz(b, " ");
        }
        jpt_buf_addz(b, "</p>");
    }
    jpt_buf_addz(b, "</figure>");
}

void report_chart_curves(const report *r, const panel *p, jpt_buf *b) {
    size_t n = (size_t)p->n_cells + 1;
    knob   k = {.cells = malloc(n * sizeof *k.cells), .values = malloc(n * sizeof *k.values), .series = malloc(n * sizeof *k.series)};
    bool   begun = false;
    for (int c = 0; k.cells && k.values && k.series && c < p->n_cells; c++) {
        const cell *at = p->cells[c];
        bool        known = false;
        for (int o = 0; o < c && !known; o++)
            known = strcmp(p->cells[o]->strategy, at->strategy) == 0 && p->cells[o]->row.model == at->row.model && p->cells[o]->row.batch == at->row.batch;
        k.strategy = at->strategy, k.model = at->row.model, k.batch = at->row.batch, k.n = k.n_series = 0;
        if (known || !find_key(p, &k))
            continue;
        gather(p, &k);
        if (k.n < 2)
            continue;
        if (!begun)
            jpt_buf_addz(b, "<h3>Over each strategy's knob</h3><p class=\"note\">Dashed: greedy. Bars: 95 % intervals.</p><div class=\"curves\">");
        begun = true;
        draw(r, p, &k, b);
    }
    if (begun)
        jpt_buf_addz(b, "</div>");
    free(k.cells), free(k.values), free(k.series);
}
