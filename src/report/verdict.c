/* Verdicts in words: each setting against greedy on the report's first screen, and settings against each other in jpt compare.
 * Where several are judged at once, p values are Holm's (1979). */
#include "data.h"
#include <jpt/stats.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct rival { const cell *c; difference q, j; double pq, pj; } rival; /* p: adjusted */

/* Holm's adjusted values in place; what is not finite stays out. */
static bool holm(double **p, int n) {
    double *v = malloc((2 * (size_t)n + 2) * sizeof *v), *to = v + n + 1;
    size_t  m = 0;
    for (int i = 0; v && i < n; i++)
        if (isfinite(*p[i]))
            v[m++] = *p[i];
    bool ok = v && (m == 0 || jpt_holm(v, m, to, NULL) == JPT_OK);
    m = 0;
    for (int i = 0; ok && i < n; i++)
        if (isfinite(*p[i]))
            *p[i] = to[m++];
    free(v);
    return ok;
}

static bool adjust(rival *v, int n) {
    double **p = malloc(((size_t)n + 1) * sizeof *p);
    bool     ok = p != NULL;
    for (int of_j = 0; ok && of_j < 2; of_j++) {
        for (int i = 0; i < n; i++)
            p[i] = of_j ? &v[i].pj : &v[i].pq;
        ok = holm(p, n);
    }
    free(p);
    return ok;
}

static bool found(estimate e, double p) { return p <= .05 && report_separable(e); }

/* 1 better or cheaper, -1 worse or dearer, 0 not separable. */
static int quality_of(const panel *p, const rival *v) {
    return !found(v->q.delta, v->pq) ? 0 : (v->q.delta.mean > 0) == (p->task->higher_is_better != 0) ? 1 : -1;
}
static int joules_of(const rival *v) { return !found(v->j.delta, v->pj) ? 0 : v->j.delta.mean < 0 ? 1 : -1; }

/* "98 to 101 %" of something. */
static void add_range(jpt_buf *b, estimate ratio) {
    double low = 100 * ratio.low, high = 100 * ratio.high;
    int    digits = fabs(high - low) < 1 ? 1 : 0;
    if (!isfinite(low))
        jpt_buf_printf(b, "%.0f %%", 100 * ratio.mean);
    else if (fabs(high - low) < .05)
        jpt_buf_printf(b, "%.4g %%", 100 * ratio.mean);
    else
        jpt_buf_printf(b, "%.*f to %.*f %%", digits, low, digits, high);
}

/* "19 % more joules" */
static void add_joules(jpt_buf *b, estimate ratio) {
    double more = 100 * (ratio.mean - 1);
    jpt_buf_printf(b, "%.*f %% %s joules a request", fabs(more) < 10 ? 1 : 0, fabs(more), more < 0 ? "fewer" : "more");
}

static void add_quality(jpt_buf *b, const panel *p, const rival *v, const cell *of) {
    if (isfinite(v->q.ratio.low)) {
        add_range(b, v->q.ratio);
        jpt_buf_printf(b, " of %s's %s", of->short_label, report_metric(p->task));
    } else
        jpt_buf_printf(b, "%+.3g %s", v->q.delta.mean, report_metric(p->task));
}

/* ---- the first screen ---------------------------------------------------------------------------- */

static void say_reference(jpt_buf *b, const panel *p, const cell *c) {
    jpt_buf_printf(b, "%s%s%s: ", p->many_models && c->model ? c->model : "", p->many_models ? ", " : "", c->short_label);
    if (isfinite(c->fig[QUALITY].mean))
        jpt_buf_printf(b, "%s %.4g", report_metric(p->task), c->fig[QUALITY].mean);
    else
        jpt_buf_printf(b, "%s not measured", report_metric(p->task));
    if (isfinite(c->fig[J_REQUEST].mean))
        jpt_buf_printf(b, " for %.4g J a request and %.3g J a token%s.\n", c->fig[J_REQUEST].mean, c->fig[J_TOKEN].mean, p->modelled ? " (modelled, not measured)" : "");
    else
        jpt_buf_addz(b, "; energy not measured.\n");
}

static void say_gain(jpt_buf *b, const panel *p, const cell *of, const rival *v, int n) {
    const rival *best = NULL, *cheap = NULL;
    double       sign = p->task->higher_is_better != 0 ? 1 : -1;
    for (int i = 0; i < n; i++)
        if (quality_of(p, &v[i]) > 0) {
            if (!best || sign * v[i].q.delta.mean > sign * best->q.delta.mean)
                best = &v[i];
            if (isfinite(v[i].j.ratio.mean) && (!cheap || v[i].j.ratio.mean < cheap->j.ratio.mean))
                cheap = &v[i];
        }
    if (!best) {
        jpt_buf_printf(b, "No setting is separably better than %s in %s.\n", of->short_label, report_metric(p->task));
        return;
    }
    for (int second = 0; second < 2; second++) {
        const rival *s = second ? cheap : best;
        if (!s || (second && s == best))
            continue;
        jpt_buf_printf(b, "%s buys %+.3g %s", s->c->short_label, s->q.delta.mean, report_metric(p->task));
        int j = joules_of(s);
        if (!isfinite(s->j.ratio.mean))
            jpt_buf_addz(b, "; its energy is not measured");
        else if (j) {
            jpt_buf_addz(b, " for ");
            add_joules(b, s->j.ratio);
        } else {
            jpt_buf_addz(b, " for ");
            add_range(b, s->j.ratio);
            jpt_buf_addz(b, " of the joules: not separable");
        }
        jpt_buf_addz(b, ".\n");
    }
}

static void say_saving(jpt_buf *b, const panel *p, const cell *of, const rival *v, int n) {
    const rival *pick = NULL;
    for (int i = 0; i < n; i++) {
        if (joules_of(&v[i]) <= 0)
            continue;
        bool worse = quality_of(p, &v[i]) < 0, before = pick && quality_of(p, pick) < 0;
        if (!pick || (before && !worse) || (before == worse && v[i].j.ratio.mean < pick->j.ratio.mean))
            pick = &v[i];
    }
    if (!pick) {
        jpt_buf_printf(b, "No setting costs separably less than %s a request.\n", of->short_label);
        return;
    }
    jpt_buf_printf(b, "%s costs ", pick->c->short_label);
    add_joules(b, pick->j.ratio);
    jpt_buf_addz(b, " and ");
    int q = quality_of(p, pick);
    if (!isfinite(pick->q.delta.mean))
        jpt_buf_addz(b, "its quality is not measured");
    else if (q == 0) {
        jpt_buf_addz(b, "gives ");
        add_quality(b, p, pick, of);
        jpt_buf_addz(b, ": not separable");
    } else
        jpt_buf_printf(b, "%s %.3g %s", q > 0 ? "gains" : "loses", fabs(pick->q.delta.mean), report_metric(p->task));
    jpt_buf_addz(b, ".\n");
}

static void say_equal(jpt_buf *b, const panel *p, const cell *of, const rival *v, int n) {
    const rival *pick = NULL;
    for (int i = 0; i < n; i++) { /* the one that is known best to be alike */
        double width = v[i].j.ratio.high - v[i].j.ratio.low;
        if (isfinite(v[i].q.delta.low) && isfinite(width) && quality_of(p, &v[i]) == 0 && joules_of(&v[i]) == 0 &&
            (!pick || width < pick->j.ratio.high - pick->j.ratio.low))
            pick = &v[i];
    }
    if (!pick)
        return;
    jpt_buf_printf(b, "%s gives ", pick->c->short_label);
    add_quality(b, p, pick, of);
    jpt_buf_addz(b, " for ");
    add_range(b, pick->j.ratio);
    jpt_buf_addz(b, " of its joules: not separable.\n");
}

static void say_waste(jpt_buf *b, const panel *p, const rival *v, int n) {
    const rival *pick = NULL;
    for (int i = 0; i < n; i++)
        if (isfinite(v[i].q.delta.low) && joules_of(&v[i]) < 0 && quality_of(p, &v[i]) <= 0 && (!pick || v[i].j.ratio.mean > pick->j.ratio.mean))
            pick = &v[i];
    if (!pick)
        return;
    jpt_buf_printf(b, "%s costs ", pick->c->short_label);
    add_joules(b, pick->j.ratio);
    if (quality_of(p, pick) < 0)
        jpt_buf_printf(b, " and loses %.3g %s.\n", fabs(pick->q.delta.mean), report_metric(p->task));
    else
        jpt_buf_printf(b, " and its %s is not separable.\n", report_metric(p->task));
}

static void say_count(jpt_buf *b, const panel *p, const rival *v, int n) {
    int q[3] = {0}, j[3] = {0}, nq = 0, nj = 0;
    for (int i = 0; i < n; i++) {
        if (isfinite(v[i].q.delta.low))
            q[quality_of(p, &v[i]) + 1]++, nq++;
        if (isfinite(v[i].j.delta.low))
            j[joules_of(&v[i]) + 1]++, nj++;
    }
    if (n < 3 || !(nq || nj))
        return;
    jpt_buf_printf(b, "Of %d other settings", n);
    if (nq)
        jpt_buf_printf(b, ", in %s %d are better, %d worse, %d not separable", report_metric(p->task), q[2], q[0], q[1]);
    if (nj)
        jpt_buf_printf(b, "%s in joules a request %d are lower, %d higher, %d not separable", nq ? ";" : ",", j[2], j[0], j[1]);
    jpt_buf_printf(b, " (95 %%, Holm over %d).\n", n);
}

/* Without a reference: the best and the cheapest. */
static void say_extremes(jpt_buf *b, const panel *p) {
    const cell *best = NULL, *cheap = NULL;
    double      sign = p->task->higher_is_better != 0 ? 1 : -1;
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        if (isfinite(c->fig[QUALITY].mean) && (!best || sign * c->fig[QUALITY].mean > sign * best->fig[QUALITY].mean))
            best = c;
        if (isfinite(c->fig[J_REQUEST].mean) && (!cheap || c->fig[J_REQUEST].mean < cheap->fig[J_REQUEST].mean))
            cheap = c;
    }
    if (best)
        jpt_buf_printf(b, "Best %s: %s, %.4g.\n", report_metric(p->task), best->short_label, best->fig[QUALITY].mean);
    else
        jpt_buf_printf(b, "%s is not measured.\n", report_metric(p->task));
    if (cheap)
        jpt_buf_printf(b, "Fewest joules a request: %s, %.4g J (%s).\n", cheap->short_label, cheap->fig[J_REQUEST].mean, report_source(cheap));
    else
        jpt_buf_addz(b, "Energy is not measured.\n");
    if (best && cheap && best != cheap) {
        difference q = report_difference(p, best, cheap, QUALITY), j = report_difference(p, best, cheap, J_REQUEST);
        if (isfinite(q.delta.low) && isfinite(j.delta.low))
            jpt_buf_printf(b, "Between the two: %+.3g %s [%+.3g, %+.3g], %s; %+.3g J a request [%+.3g, %+.3g], %s.\n", q.delta.mean, report_metric(p->task), q.delta.low, q.delta.high,
                           report_separable(q.delta) ? "separable" : "not separable", j.delta.mean, j.delta.low, j.delta.high, report_separable(j.delta) ? "separable" : "not separable");
    }
}

void report_verdict(const panel *p, jpt_buf *b) {
    rival *v = calloc((size_t)p->n_cells, sizeof *v);
    bool   partial = false, told = false;
    b->oom = b->oom || !v;
    for (int i = 0; i < p->n_cells; i++)
        partial = partial || p->cells[i]->partial;
    if (partial)
        jpt_buf_printf(b, "The run is not finished: settings without a %s of all their texts have none; run jpt bench again.\n", report_metric(p->task));
    for (int r = 0; v && r < p->n_cells; r++) {
        const cell *of = p->cells[r];
        int         n = 0;
        if (strcmp(of->strategy, "greedy") != 0)
            continue;
        for (int i = 0; i < p->n_cells; i++)
            if (p->cells[i] != of && report_reference(p, p->cells[i]) == of) {
                difference q = report_difference(p, p->cells[i], of, QUALITY), j = report_difference(p, p->cells[i], of, J_REQUEST);
                v[n++] = (rival){p->cells[i], q, j, q.p, j.p};
            }
        if (n == 0 || !adjust(v, n))
            continue;
        told = true;
        say_reference(b, p, of);
        say_gain(b, p, of, v, n);
        say_saving(b, p, of, v, n);
        say_equal(b, p, of, v, n);
        say_waste(b, p, v, n);
        say_count(b, p, v, n);
    }
    if (!told)
        say_extremes(b, p);
    free(v);
}

/* ---- jpt compare --------------------------------------------------------------------------------- */

/* Lower or higher when the interval does not hold zero; equivalent when all of it lies within margin x |reference| of zero. */
static const char *verdict_of(estimate e, double p, double reference, double margin, char room[64]) {
    bool within = isfinite(reference) && fmax(fabs(e.low), fabs(e.high)) <= margin * fabs(reference);
    if (within)
        snprintf(room, 64, "%sequivalent within %g %%", found(e, p) ? e.mean > 0 ? "higher, but " : "lower, but " : "", 100 * margin);
    else
        snprintf(room, 64, "%s", found(e, p) ? e.mean > 0 ? "higher" : "lower" : "not separable");
    return room;
}

enum { COMPARED = 3 };
static const figure compared[COMPARED] = {QUALITY, J_TOKEN, J_REQUEST};
typedef struct comparison { const panel *p; const cell *a, *b; difference d[COMPARED]; double adjusted[COMPARED]; } comparison;

static void add_comparison(const comparison *c, double margin, int of, jpt_buf *out) {
    const panel *p = c->p;
    jpt_buf_printf(out, "%s: %s minus %s%s\n", p->title, c->a->label, c->b->label, p->modelled ? " (energy modelled, not measured)" : "");
    for (int k = 0; k < COMPARED; k++) {
        const difference *d = &c->d[k];
        estimate          e = d->delta;
        char              what[96], room[64];
        if (k == 0)
            snprintf(what, sizeof what, "%s%s", d->segments ? "mean segment " : "", report_metric(p->task));
        else
            snprintf(what, sizeof what, "%s", report_figures[compared[k]].name);
        if (!isfinite(e.low)) {
            if (k > 0 && e.n > 1 && p->n_blocks < 2 && isfinite(d->ratio.mean))
                jpt_buf_printf(out, "  %s: %+.4g (%+.1f %%), no interval: one block tells nothing of how windows differ\n", what, e.mean, 100 * (d->ratio.mean - 1));
            else
                jpt_buf_printf(out, "  %s: no paired interval (%d shared items)\n", what, e.n);
            continue;
        }
        jpt_buf_printf(out, "  %s: %+.4g", what, e.mean);
        if (k > 0 && isfinite(d->ratio.mean))
            jpt_buf_printf(out, " (%+.1f %%)", 100 * (d->ratio.mean - 1));
        jpt_buf_printf(out, ", 95 %% interval [%+.4g, %+.4g] over %d items", e.low, e.high, e.n);
        if (p->n_blocks > 1)
            jpt_buf_printf(out, " and %d blocks%s", p->n_blocks, k > 0 && p->n_blocks < 5 ? " (five are wanted)" : "");
        jpt_buf_printf(out, ": %s", verdict_of(e, c->adjusted[k], c->b->fig[compared[k]].mean, margin, room));
        if (of > 1)
            jpt_buf_printf(out, " (p %.2g, Holm over %d: %.2g)", d->p, of, c->adjusted[k]);
        jpt_buf_addc(out, '\n');
    }
    const estimate dq = c->d[0].delta, dj = c->d[2].delta;
    bool           higher = p->task->higher_is_better != 0;
    if (found(dq, c->adjusted[0]) && found(dj, c->adjusted[2]) && (dq.mean > 0) == ((dj.mean > 0) == higher)) /* better for more, or worse for less */
        jpt_buf_printf(out, "  price: %.4g J a request for a point of %s\n", fabs(dj.mean / dq.mean), report_metric(p->task));
}

static bool has_spec(const cell *c, const char *spec) { return c->row.spec != NULL && strcmp(c->row.spec, spec) == 0; }

static bool wanted(const cell *c, const char *const *specs, size_t n) {
    bool any = n == 1; /* every other setting */
    for (size_t i = 0; i + 1 < n && !any; i++)
        any = has_spec(c, specs[i]);
    return any;
}

/* Each comparison of one panel, Holm over those of each figure. */
static jpt_status compare_panel(const panel *p, const char *const *specs, size_t n, double margin, int *told, jpt_buf *out) {
    size_t      cap = (size_t)p->n_cells * (size_t)p->n_cells + 1;
    comparison *v = malloc(cap * sizeof *v);
    double    **ps = malloc(cap * sizeof *ps);
    int         k = 0;
    bool        ok = v && ps;
    for (int i = 0; ok && i < p->n_cells; i++)
        for (int j = 0; j < p->n_cells; j++) {
            const cell *a = p->cells[i], *b = p->cells[j];
            if (!has_spec(b, specs[n - 1]) || !report_comparable(a, b) || !wanted(a, specs, n) || (n == 1 && has_spec(a, specs[0])))
                continue;
            comparison *c = &v[k++];
            *c = (comparison){.p = p, .a = a, .b = b};
            for (int f = 0; f < COMPARED; f++)
                c->d[f] = report_difference(p, a, b, compared[f]), c->adjusted[f] = c->d[f].p;
        }
    for (int f = 0; ok && f < COMPARED; f++) {
        for (int i = 0; i < k; i++)
            ps[i] = &v[i].adjusted[f];
        ok = holm(ps, k);
    }
    for (int i = 0; ok && i < k; i++)
        add_comparison(&v[i], margin, k, out);
    *told += k;
    free(v), free(ps);
    return ok ? JPT_OK : JPT_NOMEM;
}

jpt_status jpt_report_compare(jpt_store *s, const char *const *specs, size_t n, double margin, jpt_buf *out, jpt_error *err) {
    report     r = {0};
    int        told = 0;
    jpt_status st = n < 1 ? JPT_FAIL(err, ARG, "nothing to compare: no strategy given") : report_load(&r, s, err);
    for (int i = 0; st == JPT_OK && i < r.n_panels; i++)
        st = compare_panel(&r.panels[i], specs, n, margin, &told, out);
    for (size_t k = 0; st == JPT_OK && k < n; k++) {
        bool has = false;
        for (int i = 0; i < r.n_cells && !has; i++)
            has = r.cells[i].n_requests && has_spec(&r.cells[i], specs[k]);
        if (!has)
            st = JPT_FAIL(err, NOT_FOUND, "nothing to compare: %s is not in the file; give two strategies as jpt report shows them", specs[k]);
    }
    if (st == JPT_OK && told == 0)
        st = JPT_FAIL(err, NOT_FOUND, "nothing to compare: no task has both under the same model, meter, seed and length; give two strategies as jpt report shows them");
    report_free(&r);
    return st == JPT_NOMEM || (st == JPT_OK && out->oom) ? JPT_FAIL(err, NOMEM, "out of memory while comparing") : st;
}
