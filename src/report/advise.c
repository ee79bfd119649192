/* jpt advise: the cheapest setting that is good enough, and how sure that is.
 *
 * Good enough is a share of the best setting's quality, or of a named one's.  A setting's confidence is the share of the panel's
 * replicates (the same items and blocks for all settings) in which it is good enough and none that is good enough is cheaper. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct advice {
    const panel              *p;
    const jpt_advise_options *o;
    figure                    joules;
    int                      *wins, *good; /* [n_cells] replicates in which it is the cheapest good one; a good one */
} advice;

/* In replicate r, or as estimated when r < 0; NAN for a setting that is not finished. */
static double value(const advice *a, int cell_at, figure f, int r) {
    const cell *c = a->p->cells[cell_at];
    if (c->n_items < a->p->n_items || !isfinite(c->fig[QUALITY].mean) || !isfinite(c->fig[a->joules].mean))
        return NAN;
    return r < 0 ? c->fig[f].mean : c->rep[f][r];
}

/* Which setting the others are measured by: the named one, or the best. */
static int measure_of(const advice *a, int r) {
    bool   higher = a->p->task->higher_is_better != 0;
    int    best = -1;
    double most = 0;
    for (int i = 0; i < a->p->n_cells; i++) {
        double q = value(a, i, QUALITY, r);
        if (a->o->of && report_same(a->p->cells[i]->row.spec, a->o->of))
            return i;
        if (!a->o->of && isfinite(q) && (best < 0 || (higher ? q > most : q < most)))
            best = i, most = q;
    }
    return best;
}

/* The cheapest that is good enough, -1: none; good[i] counts, where it is given. */
static int cheapest(const advice *a, int r, int *good) {
    bool   higher = a->p->task->higher_is_better != 0;
    int    winner = -1, measure = measure_of(a, r);
    double best = measure < 0 ? NAN : value(a, measure, QUALITY, r), bar = higher ? best * a->o->min_quality : best / a->o->min_quality, least = INFINITY;
    for (int i = 0; i < a->p->n_cells; i++) {
        double q = value(a, i, QUALITY, r), j = value(a, i, a->joules, r);
        if (!(higher ? q >= bar : q <= bar) || !isfinite(j)) /* false for what is absent */
            continue;
        if (good)
            good[i]++;
        if (j < least)
            winner = i, least = j;
    }
    return winner;
}

enum { FEW_ITEMS = 5 }; /* resampling fewer says 100 % of what one text happened to be */

static void tell(advice *a, jpt_buf *out) {
    const panel *p = a->p;
    const char  *unit = report_figures[a->joules].name;
    int          unfinished = 0, pick = cheapest(a, -1, NULL), measure = measure_of(a, -1);
    for (int r = 0; r < REPLICATES; r++) {
        int w = cheapest(a, r, a->good);
        if (w >= 0)
            a->wins[w]++;
    }
    for (int i = 0; i < p->n_cells; i++)
        unfinished += p->cells[i]->n_items < p->n_items;
    jpt_buf_printf(out, "%s: ", p->title);
    if (pick < 0) {
        jpt_buf_printf(out, "no setting has quality and valid energy on all %d items.\n", p->n_items);
        return;
    }
    const cell *c = p->cells[pick], *m = p->cells[measure];
    jpt_buf_printf(out, "take %s.\n  %s %.4g, %.4g %s (%s); ", c->label, report_metric(p->task), c->fig[QUALITY].mean, c->fig[a->joules].mean, unit, report_source(c));
    if (pick == measure)
        jpt_buf_printf(out, "it is %s itself.\n", a->o->of ? "the named setting" : "the best");
    else
        jpt_buf_printf(out, "%s%s has %.4g at %.4g %s: %.0f %% less.\n", a->o->of ? "" : "the best, ", m->label, m->fig[QUALITY].mean, m->fig[a->joules].mean, unit,
                       100 * (1 - c->fig[a->joules].mean / m->fig[a->joules].mean));
    if (!(m->fig[QUALITY].mean > 0) && p->task->higher_is_better != 0)
        jpt_buf_printf(out, "  But the best %s is %.4g: every setting is as good as that, and this advice is worth nothing.\n", report_metric(p->task), m->fig[QUALITY].mean);
    if (p->n_items < FEW_ITEMS) {
        jpt_buf_printf(out, "  %d item%s: too few for a confidence; at least %d are wanted.\n", p->n_items, p->n_items == 1 ? "" : "s", FEW_ITEMS);
    } else {
        jpt_buf_printf(out, "  It reaches %.4g %% of that in %.0f %% of %d resamples of %d items", 100 * a->o->min_quality, 100.0 * a->good[pick] / REPLICATES, REPLICATES, p->n_items);
        if (p->n_blocks > 1)
            jpt_buf_printf(out, " and %d blocks", p->n_blocks);
        jpt_buf_printf(out, ", and is the cheapest that does in %.0f %%.\n", 100.0 * a->wins[pick] / REPLICATES);
    }
    for (int i = 0; i < p->n_cells && p->n_items >= FEW_ITEMS; i++)
        if (i != pick && a->wins[i] >= REPLICATES / 20)
            jpt_buf_printf(out, "  Or %s: cheapest in %.0f %%.\n", p->cells[i]->label, 100.0 * a->wins[i] / REPLICATES);
    if (unfinished)
        jpt_buf_printf(out, "  %d settings are not finished and left out.\n", unfinished);
}

static jpt_status advise_panel(const panel *p, const jpt_advise_options *o, jpt_buf *out, jpt_error *err) {
    advice a = {.p = p, .o = o, .joules = o->per_token ? J_TOKEN : J_REQUEST, .wins = calloc(2 * (size_t)p->n_cells, sizeof(int))};
    if (!a.wins)
        return JPT_FAIL(err, NOMEM, "out of memory for resamples");
    a.good = a.wins + p->n_cells;
    jpt_status st = JPT_OK;
    if (o->of && measure_of(&a, -1) < 0)
        st = JPT_FAIL(err, NOT_FOUND, "%s: no setting '%s'", p->title, o->of);
    if (st == JPT_OK)
        tell(&a, out);
    free(a.wins);
    return st;
}

jpt_status jpt_report_advise(jpt_store *s, const jpt_advise_options *o, jpt_buf *out, jpt_error *err) {
    report     r;
    jpt_status st = report_load(&r, s, err);
    int        told = 0;
    for (int i = 0; st == JPT_OK && i < r.n_panels; i++) {
        if (o->task && !report_same(r.panels[i].task->name, o->task))
            continue;
        st = advise_panel(&r.panels[i], o, out, err);
        told++;
    }
    if (st == JPT_OK && told == 0)
        st = JPT_FAIL(err, NOT_FOUND, "the results file has no task '%s'", o->task ? o->task : "");
    report_free(&r);
    return st;
}
