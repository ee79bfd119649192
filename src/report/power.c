/* Power over time with the windows' edges, and the drift of the sentinel. */
#include "svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 1120, H = 260, LEFT = 54, RIGHT = 14, TOP = 30, BOTTOM = 44, MOST_WINDOWS = 2500, TRACED = 14 };

static bool is(const jpt_window_row *w, const char *kind) { return w->kind && strcmp(w->kind, kind) == 0; }
static bool is_sentinel(const jpt_window_row *w) { return w->kind && strncmp(w->kind, "sentinel", 8) == 0; }
static const char *class_of(const jpt_window_row *w) { return w->valid == 0 ? "bad" : is(w, "idle") ? "idle" : is_sentinel(w) ? "guard" : "work"; }

static void describe(const report *r, const jpt_window_row *w, jpt_buf *b) {
    const cell *c = w->cell >= 0 ? report_cell(r, w->cell) : NULL;
    report_escape(b, w->kind);
    if (c) {
        jpt_buf_addz(b, ", ");
        report_escape(b, c->label ? c->label : c->row.spec);
        jpt_buf_addz(b, ", ");
        report_escape(b, report_task(r, c->row.task)->name);
    }
    if (w->block >= 0)
        jpt_buf_printf(b, ", block %lld", (long long)w->block);
    if (isfinite(w->energy_j))
        jpt_buf_printf(b, ": %.4g J in %.3g s", w->energy_j, w->duration_s);
    if (isfinite(w->residual))
        jpt_buf_printf(b, ", residual %+.2f %%", 100 * w->residual);
    if (w->valid == 0) {
        jpt_buf_addz(b, "; not valid: ");
        report_escape(b, w->reasons);
    }
}

static void axes(const scale *x, const scale *y, const char *x_title, const char *y_title, jpt_buf *b) {
    for (int i = 0; i < y->n_ticks; i++)
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>", LEFT, report_at(y, y->ticks[i]), W - RIGHT, LEFT - 7,
                       report_at(y, y->ticks[i]) + 4, y->ticks[i]);
    for (int i = 0; i < x->n_ticks; i++)
        jpt_buf_printf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>", report_at(x, x->ticks[i]), H - BOTTOM + 18, x->ticks[i]);
    jpt_buf_printf(b, "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text><text class=\"axis\" x=\"6\" y=\"17\">%s</text>", (W + LEFT) / 2, H - 7, x_title, y_title);
}

/* Every window of the study: its mean power over its time. */
static void whole_study(const report *r, bool modelled, jpt_buf *b) {
    double t0 = INFINITY, t1 = -INFINITY, w1 = 0;
    int    every = 1 + r->n_windows / MOST_WINDOWS;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (isfinite(w->mean_w) && isfinite(w->t_start_s))
            t0 = fmin(t0, w->t_start_s), t1 = fmax(t1, w->t_end_s), w1 = fmax(w1, w->mean_w);
    }
    if (!(t1 > t0))
        return;
    bool  hours = t1 - t0 > 7200;
    scale x = report_scale(0, (t1 - t0) / (hours ? 3600 : 60), 0, INFINITY, false, LEFT, W - RIGHT, 8), y = report_scale(0, w1, 0, INFINITY, false, H - BOTTOM, TOP, 5);
    jpt_buf_printf(b, "<figure class=\"wide\"><figcaption>Mean power of every window</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"mean power of each window over the study's time\">", W, H);
    axes(&x, &y, hours ? "hours since the first window" : "minutes since the first window", modelled ? "W (modelled, not measured)" : "W", b);
    for (int i = 0; i < r->n_windows; i += every) {
        const jpt_window_row *w = &r->windows[i];
        if (!isfinite(w->mean_w) || !isfinite(w->t_start_s))
            continue;
        double a = report_at(&x, (w->t_start_s - t0) / (hours ? 3600 : 60)), z = report_at(&x, (w->t_end_s - t0) / (hours ? 3600 : 60));
        jpt_buf_printf(b, "<path class=\"win %s\"", class_of(w));
        if (w->cell >= 0)
            jpt_buf_printf(b, " data-c=\"%lld\"", (long long)w->cell);
        jpt_buf_printf(b, " d=\"M%.1f %.1fH%.1f\"><title>", a, report_at(&y, w->mean_w), fmax(z, a + 2));
        describe(r, w, b);
        jpt_buf_printf(b, ": %.4g W</title></path>", w->mean_w);
    }
    jpt_buf_addz(b, "</svg><p class=\"note\"><i class=\"swatch work\"></i>requests <i class=\"swatch guard\"></i>sentinel <i class=\"swatch idle\"></i>idle <i class=\"swatch bad\"></i>not valid");
    if (every > 1)
        jpt_buf_printf(b, "; one window in %d is drawn", every);
    jpt_buf_addz(b, "</p></figure>");
}

static int n_samples(const report *r, int64_t window) {
    int n = 0;
    for (int i = 0; i < r->n_powers; i++)
        n += r->powers[i].window == window;
    return n;
}

/* The first windows that have samples, one after the other. */
static void trace(const report *r, bool modelled, jpt_buf *b) {
    const jpt_window_row *of[TRACED];
    int                   n = 0;
    for (int i = 0; i < r->n_windows && n < TRACED; i++)
        if (isfinite(r->windows[i].t_start_s) && n_samples(r, r->windows[i].id) > 1 && (n == 0 || r->windows[i].t_start_s - of[0]->t_start_s < 240))
            of[n++] = &r->windows[i];
    if (n == 0) {
        jpt_buf_addz(b, "<p class=\"none\">Power over time: not measured (no samples of power in this file).</p>");
        return;
    }
    double t0 = of[0]->t_start_s - .5, t1 = of[n - 1]->t_end_s + .5, w1 = 0;
    for (int i = 0; i < r->n_powers; i++)
        for (int k = 0; k < n; k++)
            if (r->powers[i].window == of[k]->id)
                w1 = fmax(w1, r->powers[i].power_w), t0 = fmin(t0, r->powers[i].t_s), t1 = fmax(t1, r->powers[i].t_s);
    scale x = report_scale(0, t1 - t0, 0, INFINITY, false, LEFT, W - RIGHT, 8), y = report_scale(0, w1, 0, INFINITY, false, H - BOTTOM, TOP, 5);
    jpt_buf_printf(b, "<figure class=\"wide\"><figcaption>Power trace with window edges: the first %d windows</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"sampled power over time; bands are windows\">", n, W, H);
    axes(&x, &y, "seconds", modelled ? "W (modelled, not measured)" : "W, sampled", b);
    for (int k = 0; k < n; k++) {
        double a = report_at(&x, of[k]->t_start_s - t0), z = report_at(&x, of[k]->t_end_s - t0);
        jpt_buf_printf(b, "<path class=\"band %s\" d=\"M%.1f %dH%.1fV%dH%.1fz\"><title>", class_of(of[k]), a, TOP, z, H - BOTTOM, a);
        describe(r, of[k], b);
        jpt_buf_addz(b, "</title></path>");
    }
    jpt_buf_addz(b, "<path class=\"trace\" d=\"");
    for (int k = 0; k < n; k++) {
        bool begun = false;
        for (int i = 0; i < r->n_powers; i++)
            if (r->powers[i].window == of[k]->id && isfinite(r->powers[i].power_w)) {
                jpt_buf_printf(b, "%c%.1f %.1f", begun ? 'L' : 'M', report_at(&x, r->powers[i].t_s - t0), report_at(&y, r->powers[i].power_w));
                begun = true;
            }
    }
    jpt_buf_addz(b, "\"/></svg></figure>");
}

void report_chart_power(const report *r, jpt_buf *b) {
    bool modelled = false;
    for (int i = 0; i < r->n_windows; i++)
        modelled = modelled || r->windows[i].modelled == 1;
    if (r->n_windows == 0) {
        jpt_buf_addz(b, "<p class=\"none\">Power over time: not measured (the file has no windows of its own: requests were metered one by one).</p>");
        return;
    }
    whole_study(r, modelled, b);
    trace(r, modelled, b);
}

/* ---- drift --------------------------------------------------------------------------------------- */

static double per_token(const jpt_window_row *w) {
    return w->valid != 0 && isfinite(w->energy_j) && w->output_tokens > 0 ? w->energy_j / ((double)w->output_tokens * (double)(w->replications > 0 ? w->replications : 1)) : NAN;
}

/* One study under one meter: % of the sentinel's mean, over time. */
static bool drift(const report *r, int64_t study, int64_t meter, jpt_buf *b) {
    int    n = 0;
    double t0 = INFINITY, t1 = -INFINITY, mean = 0, low = 0, high = 0, st = 0, stt = 0, sty = 0;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (w->study != study || w->meter != meter || !is_sentinel(w) || !isfinite(per_token(w)) || !isfinite(w->t_start_s))
            continue;
        n++, mean += per_token(w), st += w->t_start_s, t0 = fmin(t0, w->t_start_s), t1 = fmax(t1, w->t_start_s);
    }
    if (n < 2)
        return false;
    mean /= n, st /= n;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (w->study != study || w->meter != meter || !is_sentinel(w) || !isfinite(per_token(w)) || !isfinite(w->t_start_s))
            continue;
        double y = 100 * (per_token(w) / mean - 1), t = w->t_start_s - st;
        stt += t * t, sty += t * y, low = fmin(low, y), high = fmax(high, y);
    }
    double slope = stt > 0 ? sty / stt : 0, rss = 0;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (w->study == study && w->meter == meter && is_sentinel(w) && isfinite(per_token(w)) && isfinite(w->t_start_s)) {
            double e = 100 * (per_token(w) / mean - 1) - slope * (w->t_start_s - st);
            rss += e * e;
        }
    }
    double whole = slope * (t1 - t0), half = n > 2 && stt > 0 ? report_student_quantile(n - 2) * sqrt(rss / (n - 2) / stt) * (t1 - t0) : NAN;
    scale  x = report_scale(0, (t1 - t0) / 60, 0, INFINITY, false, LEFT, W - RIGHT, 8), y = report_scale(fmin(low, -.5), fmax(high, .5), -INFINITY, INFINITY, false, H - BOTTOM, TOP, 5);
    jpt_buf_printf(b, "<figure class=\"wide\"><figcaption>Sentinel drift: greedy at both ends of every block</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"sentinel joules a token over time, per cent of its mean\">", W, H);
    axes(&x, &y, "minutes", "% of the sentinel's mean J/token", b);
    jpt_buf_printf(b, "<path class=\"front\" d=\"M%.1f %.1fL%.1f %.1f\"/>", report_at(&x, 0), report_at(&y, slope * (t0 - st)), report_at(&x, (t1 - t0) / 60), report_at(&y, slope * (t1 - st)));
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (w->study != study || w->meter != meter || !is_sentinel(w) || !isfinite(per_token(w)) || !isfinite(w->t_start_s))
            continue;
        jpt_buf_printf(b, "<g class=\"pt s0\"><title>block %lld, %s: %.4g J a token%s</title>", (long long)w->block, is(w, "sentinel_before") ? "before" : "after", per_token(w),
                       w->modelled == 1 ? " (modelled)" : "");
        report_mark(b, is(w, "sentinel_before") ? 0 : 3, report_at(&x, (w->t_start_s - t0) / 60), report_at(&y, 100 * (per_token(w) / mean - 1)), 5, "class=\"mark\"");
        jpt_buf_addz(b, "</g>");
    }
    jpt_buf_printf(b, "</svg><p class=\"note\">From first to last %+.2f %%", whole);
    if (isfinite(half))
        jpt_buf_printf(b, " [%+.2f, %+.2f]: %s", whole - half, whole + half, fabs(whole) > half ? "a drift; comparisons are paired within blocks, which takes most of it out" : "not separable from none");
    jpt_buf_printf(b, " (%d windows, mean %.4g J a token). Circle: before a block; diamond: after.</p></figure>", n, mean);
    return true;
}

void report_chart_drift(const report *r, jpt_buf *b) {
    bool any = false;
    for (int s = 0; s < r->n_studies; s++)
        for (int m = 0; m < r->n_meters; m++)
            any = drift(r, r->studies[s].id, r->meters[m].id, b) || any;
    if (!any)
        jpt_buf_addz(b, "<p class=\"none\">Sentinel drift: not measured (fewer than two valid sentinel windows in this file).</p>");
}
