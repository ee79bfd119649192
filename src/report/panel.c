/* Panels: the cells that may stand in one chart, what tells them apart, and whom each is compared with. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- specs ------------------------------------------------------------------------------------- */

bool report_parameter_at(const char *spec, int i, char key[48], char value[64]) {
    const char *at = spec ? strchr(spec, ':') : NULL;
    for (; at; i--) {
        const char *equals = strchr(++at, '=');
        const char *end = at + strcspn(at, ",");
        if (!equals || equals > end)
            return false;
        if (i == 0) {
            snprintf(key, 48, "%.*s", (int)(equals - at), at);
            snprintf(value, 64, "%.*s", (int)(end - equals - 1), equals + 1);
            return true;
        }
        at = *end ? end : NULL;
    }
    return false;
}

bool report_parameter(const char *spec, const char *key, double *value) {
    char k[48], v[64], *end;
    for (int i = 0; report_parameter_at(spec, i, k, v); i++)
        if (strcmp(k, key) == 0) {
            *value = strtod(v, &end);
            return end != v && *end == '\0' && isfinite(*value);
        }
    return false;
}

/* "top-p 0.9", "beam 5", "contrastive penalty_alpha 0.6, top_k 5". */
static const char *short_label(report *r, const cell *c) {
    char    key[48], value[64], second[48], other[64];
    jpt_buf b = {0};
    jpt_buf_addz(&b, c->strategy);
    bool several = report_parameter_at(c->row.spec, 1, second, other);
    for (int i = 0; report_parameter_at(c->row.spec, i, key, value); i++)
        if (several || strcmp(c->strategy, "greedy") == 0)
            jpt_buf_printf(&b, "%s %s %s", i ? "," : "", key, value);
        else
            jpt_buf_printf(&b, " %s", value);
    const char *label = b.oom ? NULL : report_keep(r, b.p);
    jpt_buf_fini(&b);
    return label;
}

/* ---- who is comparable ------------------------------------------------------------------------- */

static bool same_budget(const cell *a, const cell *b) {
    return isfinite(a->row.max_joules) == isfinite(b->row.max_joules) && (!isfinite(a->row.max_joules) || a->row.max_joules == b->row.max_joules);
}

bool report_comparable(const cell *a, const cell *b) {
    return a != b && a->row.model == b->row.model && a->row.study == b->row.study && a->row.max_new_tokens == b->row.max_new_tokens && a->row.batch == b->row.batch &&
           report_same(a->row.seeds, b->row.seeds) && report_same(a->row.draft_model, b->row.draft_model) && same_budget(a, b) && report_same(a->row.device, b->row.device);
}

const cell *report_reference(const panel *p, const cell *of) {
    const cell *found = NULL;
    if (strcmp(of->strategy, "greedy") == 0 && strcmp(of->row.spec ? of->row.spec : "", "greedy") == 0)
        return of;
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        /* the reference needs no second model and no budget */
        if (strcmp(c->strategy, "greedy") != 0 || c->row.model != of->row.model || c->row.study != of->row.study || c->row.batch != of->row.batch ||
            c->row.max_new_tokens != of->row.max_new_tokens || !report_same(c->row.seeds, of->row.seeds) || !report_same(c->row.device, of->row.device))
            continue;
        bool plain = strcmp(c->row.spec ? c->row.spec : "", "greedy") == 0 && !isfinite(c->row.max_joules);
        if (found == NULL || plain)
            found = c;
        if (plain)
            break;
    }
    return found;
}

/* ---- labels ------------------------------------------------------------------------------------ */

static const jpt_study_row *study_of(const report *r, const cell *c) {
    for (int i = 0; i < r->n_studies; i++)
        if (r->studies[i].id == c->row.study)
            return &r->studies[i];
    return NULL;
}

/* "greedy" or "greedy [seeds 2, 64 tokens]": what differs among the panel's cells of this spec and model. */
static jpt_status name_cell(report *r, const panel *p, cell *c) {
    bool seeds = false, tokens = false, device = false, study = false, budget = false, draft = false, batch = false;
    for (int i = 0; i < p->n_cells; i++) {
        const cell *o = p->cells[i];
        if (o == c || !report_same(o->row.spec, c->row.spec) || o->row.model != c->row.model)
            continue;
        seeds = seeds || !report_same(o->row.seeds, c->row.seeds);
        tokens = tokens || o->row.max_new_tokens != c->row.max_new_tokens;
        device = device || !report_same(o->row.device, c->row.device);
        study = study || o->row.study != c->row.study;
        budget = budget || !same_budget(o, c);
        draft = draft || !report_same(o->row.draft_model, c->row.draft_model);
        batch = batch || o->row.batch != c->row.batch;
    }
    jpt_buf              b = {0};
    const char          *sep = " [";
    const jpt_study_row *st = study_of(r, c);
    if (seeds)
        jpt_buf_printf(&b, "%sseed %s", sep, c->row.seeds ? c->row.seeds : "?"), sep = ", ";
    if (tokens)
        jpt_buf_printf(&b, "%s%lld tokens", sep, (long long)c->row.max_new_tokens), sep = ", ";
    if (device)
        jpt_buf_printf(&b, "%s%s", sep, c->row.device ? c->row.device : "?"), sep = ", ";
    if (batch)
        jpt_buf_printf(&b, "%sbatch %lld", sep, (long long)(c->row.batch < 1 ? 1 : c->row.batch)), sep = ", ";
    if (budget && isfinite(c->row.max_joules))
        jpt_buf_printf(&b, "%s%g J a request", sep, c->row.max_joules), sep = ", ";
    else if (budget)
        jpt_buf_printf(&b, "%sno budget", sep), sep = ", ";
    if (draft)
        jpt_buf_printf(&b, "%sdraft %.*s", sep, (int)strcspn(c->row.draft_model ? c->row.draft_model : "none", " "), c->row.draft_model ? c->row.draft_model : "none"), sep = ", ";
    if (study && st)
        jpt_buf_printf(&b, "%sstudy %lld, %lld threads", sep, (long long)st->id, (long long)st->threads), sep = ", ";
    if (sep[0] == ',')
        jpt_buf_addc(&b, ']');
    jpt_buf     whole = {0}, brief = {0};
    const char *spoken = short_label(r, c);
    jpt_buf_printf(&whole, "%s%s", c->row.spec ? c->row.spec : "?", b.n ? b.p : "");
    jpt_buf_printf(&brief, "%s%s", spoken ? spoken : "", b.n ? b.p : "");
    bool ok = spoken && !b.oom && !whole.oom && !brief.oom;
    c->label = ok ? report_keep(r, whole.p) : NULL;
    c->short_label = ok ? report_keep(r, brief.p) : NULL;
    jpt_buf_fini(&b), jpt_buf_fini(&whole), jpt_buf_fini(&brief);
    return c->label && c->short_label ? JPT_OK : JPT_NOMEM;
}

static const char *title_of(report *r, const panel *p) {
    jpt_buf b = {0};
    int     of_task = 0;
    for (int i = 0; i < r->n_panels; i++)
        of_task += r->panels[i].task == p->task;
    jpt_buf_addz(&b, p->task->name ? p->task->name : "?");
    if (of_task > 1)
        jpt_buf_printf(&b, ", meter %s", p->meter->source ? p->meter->source : "?");
    if (of_task > 1 && isfinite(p->meter->declared_w))
        jpt_buf_printf(&b, " at %g W", p->meter->declared_w);
    const char *title = b.oom ? NULL : report_keep(r, b.p);
    jpt_buf_fini(&b);
    return title;
}

/* ---- sums over one grid of items and blocks ------------------------------------------------------ */

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int distinct(int64_t *v, int n) {
    int k = 0;
    qsort(v, (size_t)n, sizeof *v, by_number);
    for (int i = 0; i < n; i++)
        if (k == 0 || v[k - 1] != v[i])
            v[k++] = v[i];
    return k;
}

static int place_of(const int64_t *v, int n, int64_t what) {
    const int64_t *at = bsearch(&what, v, (size_t)n, sizeof *v, by_number);
    return (int)(at - v);
}

static jpt_status lay_out(report *r, panel *p) {
    int n = 0;
    for (int c = 0; c < p->n_cells; c++)
        n += p->cells[c]->n_seen;
    p->items = jpt_arena_alloc(&r->arena, (size_t)n * sizeof *p->items);
    p->blocks = jpt_arena_alloc(&r->arena, (size_t)n * sizeof *p->blocks);
    if (!p->items || !p->blocks)
        return JPT_NOMEM;
    n = 0;
    for (int c = 0; c < p->n_cells; c++)
        for (int k = 0; k < p->cells[c]->n_seen; k++)
            p->items[n] = p->cells[c]->seen[k].item, p->blocks[n++] = p->cells[c]->seen[k].block;
    p->n_items = distinct(p->items, n), p->n_blocks = distinct(p->blocks, n);
    for (int c = 0; c < p->n_cells; c++) {
        cell *at = p->cells[c];
        at->sums = calloc((size_t)p->n_items * (size_t)p->n_blocks, sizeof *at->sums);
        at->there = calloc((size_t)p->n_items * (size_t)p->n_blocks, 1);
        if (!at->sums || !at->there)
            return JPT_NOMEM;
        for (int k = 0; k < at->n_seen; k++) {
            int     where = place_of(p->items, p->n_items, at->seen[k].item) * p->n_blocks + place_of(p->blocks, p->n_blocks, at->seen[k].block);
            double *to = at->sums[where];
            at->there[where] = true;
            for (int s = 0; s < N_SUMS; s++)
                to[s] += at->seen[k].sum[s];
        }
    }
    return JPT_OK;
}

/* Joules of different meters are different things: board watts stand in no chart with CPU seconds. */
jpt_status report_panels(report *r) {
    size_t n = (size_t)r->n_cells + 1;
    if ((r->panels = jpt_arena_alloc(&r->arena, ((size_t)r->n_tasks * (size_t)r->n_meters + 1) * sizeof *r->panels)) == NULL)
        return JPT_NOMEM;
    for (int t = 0; t < r->n_tasks; t++)
        for (int m = 0; m < r->n_meters; m++) {
            panel p = {.task = &r->tasks[t], .meter = &r->meters[m], .cells = jpt_arena_alloc(&r->arena, n * sizeof *p.cells)};
            if (p.cells == NULL)
                return JPT_NOMEM;
            for (int i = 0; i < r->n_cells; i++) {
                cell *c = &r->cells[i];
                if (c->row.task != p.task->id || c->row.meter != p.meter->id || c->n_requests == 0)
                    continue;
                p.many_models = p.many_models || (p.n_cells && p.cells[0]->row.model != c->row.model);
                p.many_batches = p.many_batches || (p.n_cells && p.cells[0]->row.batch != c->row.batch);
                p.modelled = p.modelled || c->modelled;
                p.cells[p.n_cells++] = c;
                c->number = p.n_cells;
            }
            if (p.n_cells)
                r->panels[r->n_panels++] = p;
        }
    for (int i = 0; i < r->n_panels; i++) {
        panel *p = &r->panels[i];
        JPT_TRY(lay_out(r, p));
        if ((p->title = title_of(r, p)) == NULL)
            return JPT_NOMEM;
        for (int k = 0; k < p->n_cells; k++)
            JPT_TRY(name_cell(r, p, p->cells[k]));
    }
    return JPT_OK;
}
