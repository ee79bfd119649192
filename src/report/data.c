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

typedef struct loading {
    report *r;
    cell   *c;
    int64_t *ids; /* request id -> item, in the order read */
    int    *item_of;
    int     n, cap;
    const char *metric;
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
    if (l->metric != NULL && strcmp(s->metric, l->metric) == 0 && isfinite(s->value)) {
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

static jpt_status load_cell_rows(report *r, cell *c, jpt_error *err) {
    loading    l = {.r = r, .c = c, .metric = report_task(r, c->row.task)->primary_metric};
    jpt_status status = jpt_store_each_request(r->store, c->row.id, load_request, &l, err);
    if (status == JPT_OK)
        status = jpt_store_each_score(r->store, c->row.id, load_score, &l, err);
    if (status == JPT_OK)
        status = estimate_cell(c);
    if (status == JPT_OK)
        status = jpt_store_each_cell_score(r->store, c->row.id, load_cell_score, &l, err);
    for (int i = 0; i < r->n_meters; i++)
        if (r->meters[i].id == c->row.meter && r->meters[i].modelled == 1)
            c->modelled = true;
    r->modelled = r->modelled || c->modelled;
    free(l.ids);
    free(l.item_of);
    return status;
}

static jpt_status mark_fronts(report *r) {
    size_t  n = (size_t)r->n_cells + 1;
    double *q = calloc(2 * n, sizeof *q), *j = q + n;
    bool   *front = calloc(n, sizeof *front);
    int    *of = calloc(n, sizeof *of);
    bool    ok = q != NULL && front != NULL && of != NULL;
    for (int t = 0; ok && t < r->n_tasks; t++)
        for (int per_request = 0; per_request < 2; per_request++) {
            int k = 0;
            for (int i = 0; i < r->n_cells; i++)
                if (r->cells[i].row.task == r->tasks[t].id) {
                    of[k] = i, q[k] = r->cells[i].quality.mean;
                    j[k++] = per_request ? r->cells[i].j_request.mean : r->cells[i].j_token.mean;
                }
            report_pareto(q, j, k, r->tasks[t].higher_is_better != 0, front);
            for (int i = 0; i < k; i++)
                *(per_request ? &r->cells[of[i]].front_request : &r->cells[of[i]].front_token) = front[i];
        }
    free(q);
    free(front);
    free(of);
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
        status = jpt_store_each_meter(s, load_meter, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_cell(s, load_cell, r, err);
    for (int i = 0; i < r->n_cells && status == JPT_OK; i++)
        status = load_cell_rows(r, &r->cells[i], err);
    if (status == JPT_OK)
        status = mark_fronts(r);
    return status == JPT_NOMEM ? JPT_FAIL(err, NOMEM, "out of memory while reading the results file") : status;
}

void report_free(report *r) {
    for (int i = 0; i < r->n_cells; i++)
        free(r->cells[i].items);
    free(r->cells);
    free(r->tasks);
    free(r->models);
    free(r->meters);
    free(r->studies);
    jpt_arena_fini(&r->arena);
}
