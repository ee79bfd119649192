/* Loads a store into cells and computes their intervals: bootstrap over items. */
#include "data.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 1000 };

enum { SEED = 12345 };

typedef struct pair {
    const double *na, *da, *nb, *db; /* nb NULL: one side alone */
} pair;

static double value_of(void *ud, const int32_t *index, int32_t n) {
    const pair *p = ud;
    double      t[4] = {0};
    for (int32_t i = 0; i < n; i++) {
        int32_t k = index ? index[i] : i;
        t[0] += p->na[k], t[1] += p->da[k];
        if (p->nb != NULL)
            t[2] += p->nb[k], t[3] += p->db[k];
    }
    return t[1] > 0 && (p->nb == NULL || t[3] > 0) ? t[0] / t[1] - (p->nb != NULL ? t[2] / t[3] : 0) : NAN;
}

static estimate resample(pair p, int n) {
    estimate e = {value_of(&p, NULL, n), NAN, NAN, n};
    if (n >= 2 && isfinite(e.mean) && jpt_bootstrap(value_of, &p, n, RESAMPLES, SEED, &e.low, &e.high, NULL) != JPT_OK)
        e.low = e.high = NAN;
    return e;
}

estimate report_bootstrap(const double *num, const double *den, int n) { return resample((pair){num, den, NULL, NULL}, n); }
estimate report_paired(const double *na, const double *da, const double *nb, const double *db, int n) {
    return resample((pair){na, da, nb, db}, n);
}

void report_pareto(const double *quality, const double *joules, int n, bool higher_is_better, bool *front) {
    for (int i = 0; i < n; i++) {
        front[i] = isfinite(quality[i]) && isfinite(joules[i]);
        for (int k = 0; k < n && front[i]; k++) {
            double gain = higher_is_better ? quality[k] - quality[i] : quality[i] - quality[k];
            if (k != i && gain >= 0 && joules[k] <= joules[i] && (gain > 0 || joules[k] < joules[i]))
                front[i] = false;
        }
    }
}

/* ---- loading ---------------------------------------------------------------------------------- */

static const char *keep(report *r, const char *z) {
    return z == NULL ? NULL : jpt_arena_strndup(&r->arena, z, strlen(z));
}
#define KEEP_KEY(f)
#define KEEP_INT(f)
#define KEEP_REAL(f)
#define KEEP_TEXT(f) to->f = keep(r, row->f);
#define KEEP(k, f) KEEP_##k(f)
#define LOAD(name, plural, MAP, row_of)                                                                       \
    static jpt_status load_##name(void *ud, const jpt_##name##_row *row) {                                    \
        report *r = ud;                                                                                       \
        void   *grown = realloc(r->plural, (size_t)(r->n_##plural + 1) * sizeof *r->plural);                  \
        if (grown == NULL)                                                                                    \
            return JPT_NOMEM;                                                                                 \
        r->plural = grown;                                                                                    \
        memset(&r->plural[r->n_##plural], 0, sizeof *r->plural);                                              \
        jpt_##name##_row *to = &r->plural[r->n_##plural++] row_of;                                            \
        *to = *row;                                                                                           \
        MAP(KEEP)                                                                                             \
        return JPT_OK;                                                                                        \
    }
LOAD(study, studies, JPT_STUDY_MAP, )
LOAD(model, models, JPT_MODEL_MAP, )
LOAD(task, tasks, JPT_TASK_MAP, )
LOAD(item, items, JPT_ITEM_MAP, )
LOAD(meter, meters, JPT_METER_MAP, )
LOAD(cell, cells, JPT_CELL_MAP, .row)

const jpt_task_row *report_task(const report *r, int64_t id) {
    for (int i = 0; i < r->n_tasks; i++)
        if (r->tasks[i].id == id)
            return &r->tasks[i];
    return &r->tasks[0];
}
const jpt_model_row *report_model(const report *r, int64_t id) {
    for (int i = 0; i < r->n_models; i++)
        if (r->models[i].id == id)
            return &r->models[i];
    return &r->models[0];
}

const char *report_prompt(const report *r, int64_t task, int64_t item_index, const char **id) {
    for (int i = 0; i < r->n_items; i++)
        if (r->items[i].task == task && r->items[i].item_index == item_index) {
            *id = r->items[i].item_id ? r->items[i].item_id : "";
            return r->items[i].prompt ? r->items[i].prompt : "";
        }
    *id = "";
    return "";
}

typedef struct loading {
    report *r;
    cell   *c;
    int64_t *ids; /* request id -> item, in the order read */
    int    *item_of;
    int     n, cap;
    const char *metric;
    bool        scored; /* the cell's own score is of all its requests */
} loading;

static jpt_status load_request(void *ud, const jpt_request_row *q) {
    loading *l = ud;
    cell    *c = l->c;
    int      at = 0;
    while (at < c->n_items && c->items[at].index != q->item_index)
        at++;
    if (at == c->n_items) {
        if (c->n_items == c->cap) {
            int   cap = c->cap ? 2 * c->cap : 32;
            void *grown = realloc(c->items, (size_t)cap * sizeof(item));
            if (grown == NULL)
                return JPT_NOMEM;
            c->items = grown, c->cap = cap;
        }
        c->items[c->n_items++] = (item){.index = q->item_index, .text = keep(l->r, q->text)};
    }
    if (l->n == l->cap) {
        int   cap = l->cap ? 2 * l->cap : 64;
        void *ids = realloc(l->ids, (size_t)cap * sizeof *l->ids);
        if (ids != NULL)
            l->ids = ids;
        void *items = realloc(l->item_of, (size_t)cap * sizeof *l->item_of);
        if (items != NULL)
            l->item_of = items;
        if (ids == NULL || items == NULL)
            return JPT_NOMEM;
        l->cap = cap;
    }
    l->ids[l->n] = q->id, l->item_of[l->n++] = at;
    item *it = &c->items[at];
    c->n_requests++;
    c->n_failed += q->failed == 1;
    c->n_invalid += q->energy_valid == 0;
    c->modelled = c->modelled || q->modelled == 1;
    if (c->energy_source == NULL)
        c->energy_source = keep(l->r, q->energy_source);
    c->computed += q->positions_computed > 0 ? (double)q->positions_computed : 0;
    c->discarded += q->positions_discarded > 0 ? (double)q->positions_discarded : 0;
    c->drafted += q->draft_positions > 0 ? (double)q->draft_positions : 0;
    if (isfinite(q->duration_s))
        c->seconds += q->duration_s, c->n_seconds++;
    if (q->output_tokens >= 0)
        c->tokens += (double)q->output_tokens, c->n_tokens++;
    if (q->energy_valid != 0 && q->output_tokens >= 0) {
        if (isfinite(q->energy_j))
            it->energy_j += q->energy_j, it->energy_tokens += (double)q->output_tokens, it->n_energy++;
        if (isfinite(q->net_energy_j))
            it->net_j += q->net_energy_j, it->net_tokens += (double)q->output_tokens, it->n_net++;
    }
    return JPT_OK;
}

static jpt_status load_score(void *ud, const jpt_score_row *s) {
    loading *l = ud;
    if (l->metric == NULL || strcmp(s->metric, l->metric) != 0 || !isfinite(s->value))
        return JPT_OK;
    for (int i = 0; i < l->n; i++)
        if (l->ids[i] == s->owner) {
            l->c->items[l->item_of[i]].score += s->value;
            l->c->items[l->item_of[i]].n_scores++;
        }
    return JPT_OK;
}

static jpt_status load_cell_score(void *ud, const jpt_score_row *s) {
    loading *l = ud;
    if (l->metric == NULL || strcmp(s->metric, l->metric) != 0)
        return JPT_OK;
    l->scored = s->n == (int64_t)(l->c->n_requests - l->c->n_failed); /* not of an earlier, shorter run */
    if (l->scored && isfinite(s->value)) {
        l->c->corpus = !(fabs(s->value - l->c->quality.mean) <= 1e-9 * fabs(s->value)); /* of the corpus, not a mean of items */
        l->c->quality = (estimate){s->value, s->ci_low, s->ci_high, s->n >= 0 ? (int)s->n : l->c->n_items};
    }
    return JPT_OK;
}

static jpt_status estimate_cell(cell *c) {
    double *v = calloc((size_t)c->n_items * 2 + 2, sizeof *v), *w = v + c->n_items + 1;
    if (v == NULL)
        return JPT_NOMEM;
#define ESTIMATE(target, num, den, have)                                                                      \
    do {                                                                                                      \
        int n = 0;                                                                                            \
        for (int i = 0; i < c->n_items; i++) {                                                                \
            const item *it = &c->items[i];                                                                    \
            if ((have) && (den) > 0)                                                                          \
                v[n] = (num), w[n++] = (den);                                                                 \
        }                                                                                                     \
        c->target = report_bootstrap(v, w, n);                                                                \
    } while (0)
    ESTIMATE(quality, it->score / it->n_scores, 1.0, it->n_scores > 0);
    ESTIMATE(j_token, it->energy_j, it->energy_tokens, it->n_energy > 0);
    ESTIMATE(net_j_token, it->net_j, it->net_tokens, it->n_net > 0);
    ESTIMATE(j_request, it->energy_j, (double)it->n_energy, it->n_energy > 0);
    ESTIMATE(net_j_request, it->net_j, (double)it->n_net, it->n_net > 0);
    free(v);
    return JPT_OK;
}

static bool of_corpus(const char *metric) {
    return metric && (strcmp(metric, "bleu") == 0 || strcmp(metric, "chrf") == 0 || strcmp(metric, "chrf++") == 0);
}

static jpt_status load_cell_rows(report *r, cell *c, jpt_error *err) {
    loading    l = {.r = r, .c = c, .metric = report_task(r, c->row.task)->primary_metric};
    jpt_status status = jpt_store_each_request(r->store, c->row.id, load_request, &l, err);
    if (status == JPT_OK)
        status = jpt_store_each_score(r->store, c->row.id, load_score, &l, err);
    if (status == JPT_OK)
        status = estimate_cell(c);
    if (status == JPT_OK)
        status = jpt_store_each_cell_score(r->store, c->row.id, load_cell_score, &l, err);
    if (!l.scored && of_corpus(l.metric)) { /* a killed run: a mean of segments is no BLEU */
        c->quality = (estimate){NAN, NAN, NAN, 0};
        c->partial = true;
    }
    for (int i = 0; i < r->n_meters; i++)
        if (r->meters[i].id == c->row.meter && r->meters[i].modelled == 1)
            c->modelled = true;
    r->modelled = r->modelled || c->modelled;
    free(l.ids);
    free(l.item_of);
    return status;
}

/* ---- panels ------------------------------------------------------------------------------------ */

static const jpt_study_row *study_of(const report *r, const cell *c) {
    for (int i = 0; i < r->n_studies; i++)
        if (r->studies[i].id == c->row.study)
            return &r->studies[i];
    return NULL;
}

/* "greedy" or "greedy [seeds 2, 64 tokens]": what differs among the panel's cells of this spec and model. */
static const char *label_of(report *r, const panel *p, const cell *c) {
    bool seeds = false, tokens = false, device = false, study = false, budget = false, draft = false;
    for (int i = 0; i < p->n_cells; i++) {
        const cell *o = p->cells[i];
        if (o == c || strcmp(o->row.spec, c->row.spec) != 0 || o->row.model != c->row.model)
            continue;
        seeds = seeds || strcmp(o->row.seeds ? o->row.seeds : "", c->row.seeds ? c->row.seeds : "") != 0;
        tokens = tokens || o->row.max_new_tokens != c->row.max_new_tokens;
        device = device || strcmp(o->row.device ? o->row.device : "", c->row.device ? c->row.device : "") != 0;
        study = study || o->row.study != c->row.study;
        budget = budget || isfinite(o->row.max_joules) != isfinite(c->row.max_joules) || (isfinite(c->row.max_joules) && o->row.max_joules != c->row.max_joules);
        draft = draft || strcmp(o->row.draft_model ? o->row.draft_model : "", c->row.draft_model ? c->row.draft_model : "") != 0;
    }
    jpt_buf b = {0};
    jpt_buf_addz(&b, c->row.spec ? c->row.spec : "?");
    const char *sep = " [";
    const jpt_study_row *st = study_of(r, c);
    if (seeds)
        jpt_buf_printf(&b, "%sseed %s", sep, c->row.seeds ? c->row.seeds : "?"), sep = ", ";
    if (tokens)
        jpt_buf_printf(&b, "%s%lld tokens", sep, (long long)c->row.max_new_tokens), sep = ", ";
    if (device)
        jpt_buf_printf(&b, "%s%s", sep, c->row.device ? c->row.device : "?"), sep = ", ";
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
    const char *label = b.oom ? NULL : keep(r, b.p);
    jpt_buf_fini(&b);
    return label;
}

static void mark_front(panel *p, double *q, double *j, bool *front) {
    for (int per_request = 0; per_request < 2; per_request++) {
        for (int i = 0; i < p->n_cells; i++) {
            q[i] = p->cells[i]->quality.mean;
            j[i] = per_request ? p->cells[i]->j_request.mean : p->cells[i]->j_token.mean;
        }
        report_pareto(q, j, p->n_cells, p->task->higher_is_better != 0, front);
        for (int i = 0; i < p->n_cells; i++)
            *(per_request ? &p->cells[i]->front_request : &p->cells[i]->front_token) = front[i];
    }
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
    const char *title = b.oom ? NULL : keep(r, b.p);
    jpt_buf_fini(&b);
    return title;
}

/* Joules of different meters are different things: board watts stand in no chart with CPU seconds. */
static jpt_status make_panels(report *r) {
    size_t  n = (size_t)r->n_cells + 1;
    double *q = calloc(2 * n, sizeof *q);
    bool   *front = calloc(n, sizeof *front);
    bool    ok = q != NULL && front != NULL &&
              (r->panels = jpt_arena_alloc(&r->arena, ((size_t)r->n_tasks * (size_t)r->n_meters + 1) * sizeof *r->panels)) != NULL;
    for (int t = 0; ok && t < r->n_tasks; t++)
        for (int m = 0; ok && m < r->n_meters; m++) {
            panel p = {.task = &r->tasks[t], .meter = &r->meters[m], .cells = jpt_arena_alloc(&r->arena, n * sizeof *p.cells)};
            ok = p.cells != NULL;
            for (int i = 0; ok && i < r->n_cells; i++) {
                cell *c = &r->cells[i];
                if (c->row.task != p.task->id || c->row.meter != p.meter->id || c->n_requests == 0)
                    continue;
                p.many_models = p.many_models || (p.n_cells && p.cells[0]->row.model != c->row.model);
                p.modelled = p.modelled || c->modelled;
                p.cells[p.n_cells++] = c;
            }
            if (ok && p.n_cells)
                r->panels[r->n_panels++] = p;
        }
    for (int i = 0; ok && i < r->n_panels; i++) {
        panel *p = &r->panels[i];
        mark_front(p, q, q + n, front);
        ok = (p->title = title_of(r, p)) != NULL;
        for (int k = 0; ok && k < p->n_cells; k++)
            ok = (p->cells[k]->label = label_of(r, p, p->cells[k])) != NULL;
    }
    free(q);
    free(front);
    return ok ? JPT_OK : JPT_NOMEM;
}

jpt_status report_load(report *r, jpt_store *s, jpt_error *err) {
    *r = (report){.store = s};
    int64_t n = 0;
    JPT_TRY(jpt_store_n_requests(s, &n, err));
    if (n == 0)
        return JPT_FAIL(err, NOT_FOUND, "the results file has no finished request yet; run jpt bench first");
    jpt_status status = jpt_store_each_study(s, load_study, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_model(s, load_model, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_task(s, load_task, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_item(s, load_item, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_meter(s, load_meter, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_cell(s, load_cell, r, err);
    for (int i = 0; i < r->n_cells && status == JPT_OK; i++)
        status = load_cell_rows(r, &r->cells[i], err);
    if (status == JPT_OK)
        status = make_panels(r);
    return status == JPT_NOMEM ? JPT_FAIL(err, NOMEM, "out of memory while reading the results file") : status;
}

void report_free(report *r) {
    for (int i = 0; i < r->n_cells; i++)
        free(r->cells[i].items);
    free(r->cells);
    free(r->tasks);
    free(r->models);
    free(r->items);
    free(r->meters);
    free(r->studies);
    jpt_arena_fini(&r->arena);
}
