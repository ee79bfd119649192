/* jpt advise: the cheapest setting that is good enough, and how sure that is.
 *
 * Good enough is a share of the best setting's quality, or of a named one's.  The same resamples of items go to all settings
 * (their noise is shared, as in paired comparisons); a setting's confidence is the share of resamples in which it is good enough and
 * none that is good enough is cheaper. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000, SEED = 12345 };

typedef struct advice {
    const panel              *p;
    const jpt_advise_options *o;
    int                       n_items, *items, *drawn; /* 0..n_items-1; a resample of them */
    const item              **item;                    /* [n_cells, n_items] those that all settings have */
    double                   *quality, *joules;        /* [n_cells] over the items looked at last */
    int                      *wins, *good;             /* [n_cells] resamples in which it is the cheapest good one; a good one */
} advice;

static const item *item_of(const cell *c, int64_t index) {
    for (int i = 0; i < c->n_items; i++)
        if (c->items[i].index == index)
            return &c->items[i];
    return NULL;
}

/* Quality and joules of setting c over drawn items; NAN without. */
static void value_of(advice *a, int c, const int *drawn) {
    double score = 0, e = 0, d = 0;
    int    scored = 0;
    for (int i = 0; i < a->n_items; i++) {
        const item *it = a->item[(size_t)c * (size_t)a->n_items + (size_t)drawn[i]];
        if (it->n_scores > 0) {
            score += it->score / it->n_scores;
            scored++;
        }
        if (it->n_energy > 0) {
            e += it->energy_j;
            d += a->o->per_token ? it->energy_tokens : it->n_energy;
        }
    }
    a->quality[c] = scored ? score / scored : NAN;
    a->joules[c] = d > 0 ? e / d : NAN;
}

/* Which setting the others are measured by: the named one, or the best. */
static int measure_of(const advice *a) {
    bool higher = a->p->task->higher_is_better != 0;
    int  best = -1;
    for (int i = 0; i < a->p->n_cells; i++) {
        if (a->o->of && strcmp(a->p->cells[i]->row.spec ? a->p->cells[i]->row.spec : "", a->o->of) == 0)
            return i;
        if (!a->o->of && isfinite(a->quality[i]) && (best < 0 || (higher ? a->quality[i] > a->quality[best] : a->quality[i] < a->quality[best])))
            best = i;
    }
    return best;
}

/* The cheapest that is good enough on these items, -1: none; good[i] counts, where it is given. */
static int cheapest(advice *a, const int *items, int *good) {
    bool higher = a->p->task->higher_is_better != 0;
    int  winner = -1;
    for (int i = 0; i < a->p->n_cells; i++)
        value_of(a, i, items);
    int    measure = measure_of(a);
    double bar = measure < 0 ? NAN : higher ? a->quality[measure] * a->o->min_quality : a->quality[measure] / a->o->min_quality;
    for (int i = 0; i < a->p->n_cells; i++) {
        bool enough = higher ? a->quality[i] >= bar : a->quality[i] <= bar; /* false for what is absent */
        if (!enough || !isfinite(a->joules[i]))
            continue;
        if (good)
            good[i]++;
        if (winner < 0 || a->joules[i] < a->joules[winner])
            winner = i;
    }
    return winner;
}

static jpt_status common_items(advice *a, jpt_error *err) {
    const cell *first = a->p->cells[0];
    int         n = 0;
    for (int k = 0; k < first->n_items; k++) { /* places of the common ones in the first setting, for now */
        bool all = true;
        for (int i = 1; all && i < a->p->n_cells; i++)
            all = item_of(a->p->cells[i], first->items[k].index) != NULL;
        if (all)
            a->items[n++] = k;
    }
    a->n_items = n;
    if (n == 0)
        return JPT_FAIL(err, NOT_FOUND, "%s: the settings have no item in common; finish the bench", a->p->title);
    if (!(a->item = malloc((size_t)a->p->n_cells * (size_t)n * sizeof *a->item)))
        return JPT_FAIL(err, NOMEM, "out of memory for resamples");
    for (int i = 0; i < a->p->n_cells; i++)
        for (int k = 0; k < n; k++)
            a->item[(size_t)i * (size_t)n + (size_t)k] = item_of(a->p->cells[i], first->items[a->items[k]].index);
    for (int k = 0; k < n; k++)
        a->items[k] = k;
    return JPT_OK;
}

static void resample(advice *a) {
    for (int s = 0; s < RESAMPLES; s++) {
        for (int i = 0; i < a->n_items; i++)
            a->drawn[i] = (int)(jpt_rng_uniform((jpt_rng_key){SEED, (uint32_t)s, 0xad11u, (uint32_t)i}, 0) * a->n_items);
        int w = cheapest(a, a->drawn, a->good);
        if (w >= 0)
            a->wins[w]++;
    }
}

static void tell(advice *a, jpt_buf *out) {
    const panel *p = a->p;
    const char  *unit = a->o->per_token ? "J/token" : "J/request";
    resample(a);
    int pick = cheapest(a, a->items, NULL), measure = measure_of(a); /* on the items themselves, last */
    jpt_buf_printf(out, "%s: ", p->title);
    if (pick < 0) {
        jpt_buf_printf(out, "no setting has quality and valid energy on the %d items that all have.\n", a->n_items);
        return;
    }
    jpt_buf_printf(out, "take %s.\n  %s%s %.4g, %.4g %s (%s); ", p->cells[pick]->label, p->cells[pick]->corpus ? "mean segment " : "",
                   p->task->primary_metric ? p->task->primary_metric : "score", a->quality[pick], a->joules[pick], unit, report_source(p->cells[pick]));
    if (pick == measure)
        jpt_buf_printf(out, "it is %s itself.\n", a->o->of ? "the named setting" : "the best");
    else
        jpt_buf_printf(out, "%s%s has %.4g at %.4g %s: %.0f %% less.\n", a->o->of ? "" : "the best, ", p->cells[measure]->label, a->quality[measure], a->joules[measure], unit,
                       100 * (1 - a->joules[pick] / a->joules[measure]));
    jpt_buf_printf(out, "  It reaches %.4g %% of that in %.0f %% of %d resamples of %d items, and is the cheapest that does in %.0f %%.\n", 100 * a->o->min_quality,
                   100.0 * a->good[pick] / RESAMPLES, RESAMPLES, a->n_items, 100.0 * a->wins[pick] / RESAMPLES);
    for (int i = 0; i < p->n_cells; i++)
        if (i != pick && a->wins[i] >= RESAMPLES / 20)
            jpt_buf_printf(out, "  Or %s: cheapest in %.0f %%.\n", p->cells[i]->label, 100.0 * a->wins[i] / RESAMPLES);
}

static jpt_status advise_panel(const panel *p, const jpt_advise_options *o, jpt_buf *out, jpt_error *err) {
    size_t     n = (size_t)p->cells[0]->n_items, cells = (size_t)p->n_cells;
    int       *counts = calloc(2 * n + 2 * cells, sizeof *counts);
    double    *values = calloc(2 * cells, sizeof *values);
    jpt_status st = counts && values ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for resamples");
    advice     a = {.p = p, .o = o, .items = counts, .drawn = counts + n, .wins = counts + 2 * n, .good = counts + 2 * n + cells, .quality = values, .joules = values + cells};
    if (st == JPT_OK && o->of && measure_of(&a) < 0)
        st = JPT_FAIL(err, NOT_FOUND, "%s: no setting '%s'", p->title, o->of);
    if (st == JPT_OK)
        st = common_items(&a, err);
    if (st == JPT_OK)
        tell(&a, out);
    free(a.item);
    free(counts);
    free(values);
    return st;
}

jpt_status jpt_report_advise(jpt_store *s, const jpt_advise_options *o, jpt_buf *out, jpt_error *err) {
    report     r;
    jpt_status st = report_load(&r, s, err);
    int        told = 0;
    for (int i = 0; st == JPT_OK && i < r.n_panels; i++) {
        if (o->task && strcmp(r.panels[i].task->name ? r.panels[i].task->name : "", o->task) != 0)
            continue;
        st = advise_panel(&r.panels[i], o, out, err);
        told++;
    }
    if (st == JPT_OK && told == 0)
        st = JPT_FAIL(err, NOT_FOUND, "the results file has no task '%s'", o->task ? o->task : "");
    report_free(&r);
    return st;
}
