/* Scores of whole cells (corpus BLEU, means) from the rows of their requests. */
#include "run_priv.h"
#include <jpt/stats.h>

typedef struct gathered {
    const jpt_task *task;
    int32_t         n, cap;
    int32_t        *item;
    jpt_str        *text;
    int64_t        *request;
    jpt_task_score *scores; /* [n][n_metrics], in the task's order */
    int32_t         n_metrics;
    double         *cut; /* [task items, 2] texts that reached the cap, texts: the truncation rate */
    jpt_task_score  names[JPT_TASK_CELL_SCORES_MAX];
    jpt_arena       arena;
} gathered;

static jpt_status gather_request(void *ud, const jpt_request_row *r) {
    gathered *g = ud;
    if (r->failed == 1 || !r->text || r->item_index < 0 || (size_t)r->item_index >= jpt_task_get_info(g->task)->n_items)
        return JPT_OK;
    if (g->n == g->cap) {
        int32_t cap = g->cap ? 2 * g->cap : 64;
        void   *a = realloc(g->item, (size_t)cap * sizeof *g->item);
        if (a)
            g->item = a;
        void *t = realloc(g->text, (size_t)cap * sizeof *g->text);
        if (t)
            g->text = t;
        void *q = realloc(g->request, (size_t)cap * sizeof *g->request);
        if (q)
            g->request = q;
        if (!a || !t || !q)
            return JPT_NOMEM;
        g->cap = cap;
    }
    char *copy = jpt_arena_strndup(&g->arena, r->text, strlen(r->text));
    if (!copy)
        return JPT_NOMEM;
    g->item[g->n] = (int32_t)r->item_index;
    g->text[g->n] = (jpt_str){copy, strlen(copy)};
    g->request[g->n++] = r->id;
    g->cut[2 * r->item_index] += r->stop_reason && strcmp(r->stop_reason, "length") == 0;
    g->cut[2 * r->item_index + 1] += r->stop_reason != NULL;
    return JPT_OK;
}

static jpt_status gather_score(void *ud, const jpt_score_row *r) {
    gathered *g = ud;
    for (int32_t i = 0; i < g->n; i++)
        for (int32_t m = 0; g->request[i] == r->owner && m < g->n_metrics; m++)
            if (strcmp(g->names[m].name, r->metric) == 0)
                g->scores[(size_t)i * (size_t)g->n_metrics + (size_t)m].value = r->value;
    return JPT_OK;
}

/* The share of texts that reached the cap, and did not end: of every task, as it explains joules and scores alike. */
static jpt_status truncation(const gathered *g, jpt_score_row *row, jpt_error *err) {
    size_t  items = jpt_task_get_info(g->task)->n_items;
    int32_t n = 0;
    double *a = malloc((2 * items + 2) * sizeof *a), *b = a + items + 1, cut = 0, all = 0;
    if (!a)
        return JPT_FAIL(err, NOMEM, "out of memory for scores");
    for (size_t i = 0; i < items; i++)
        if (g->cut[2 * i + 1] > 0) {
            a[n] = g->cut[2 * i], b[n] = g->cut[2 * i + 1];
            cut += a[n], all += b[n];
            n++;
        }
    *row = (jpt_score_row){.metric = "truncated", .value = all > 0 ? cut / all : NAN, .ci_low = NAN, .ci_high = NAN, .n = (int64_t)all};
    jpt_status st = n ? jpt_bootstrap_ratio(a, b, n, 1000, 12345, &row->ci_low, &row->ci_high, err) : JPT_OK;
    free(a);
    return st;
}

/* Of a cell's stored texts, with the item scores that stand beside them: rows as the store keeps them, their metrics in g->names or out. */
static jpt_status score_texts(jpt_store *store, const jpt_task *task, int64_t id, gathered *g, jpt_score_row rows[JPT_TASK_CELL_SCORES_MAX + 1], size_t *n_rows, jpt_error *err) {
    jpt_task_score out[JPT_TASK_CELL_SCORES_MAX];
    int32_t        n_out = 0;
    *n_rows = 0;
    *g = (gathered){.task = task};
    g->cut = calloc(2 * jpt_task_get_info(task)->n_items + 2, sizeof *g->cut);
    if (!g->cut)
        return JPT_FAIL(err, NOMEM, "out of memory for scores");
    JPT_TRY(jpt_store_each_request(store, id, gather_request, g, err));
    if (!g->n)
        return JPT_OK;
    JPT_TRY(jpt_task_score_all(task, NULL, NULL, NULL, 0, 0, g->names, &g->n_metrics, err)); /* the names alone */
    g->scores = calloc((size_t)g->n * JPT_TASK_SCORES_MAX, sizeof *g->scores);
    if (!g->scores)
        return JPT_FAIL(err, NOMEM, "out of memory for scores");
    for (int32_t i = 0; i < g->n * g->n_metrics; i++)
        g->scores[i].value = NAN;
    JPT_TRY(jpt_store_each_score(store, id, gather_score, g, err));
    JPT_TRY(jpt_task_score_all(task, g->item, g->text, g->scores, g->n_metrics, g->n, out, &n_out, err));
    for (int32_t i = 0; i < n_out; i++)
        rows[i] = (jpt_score_row){.owner = id, .metric = out[i].name, .value = out[i].value, .ci_low = out[i].ci_low, .ci_high = out[i].ci_high, .n = out[i].n};
    JPT_TRY(truncation(g, &rows[n_out], err));
    *n_rows = (size_t)n_out + 1;
    return JPT_OK;
}

static void gathered_fini(gathered *g) {
    free(g->item);
    free(g->cut);
    free(g->text);
    free(g->request);
    free(g->scores);
    jpt_arena_fini(&g->arena);
}

jpt_status run_score_cell(bench *b, const cell *c, jpt_error *err) {
    gathered      g;
    jpt_score_row rows[JPT_TASK_CELL_SCORES_MAX + 1];
    size_t        n;
    jpt_status    st = score_texts(b->store, c->task, c->id, &g, rows, &n, err);
    if (st == JPT_OK && n)
        st = jpt_store_put_cell_scores(b->store, c->id, rows, n, err);
    gathered_fini(&g);
    return st;
}

/* ---- again, for the audit -------------------------------------------------------------------------------------------- */

typedef enum again { OF_TEXT, OF_CELL, N_AGAIN } again;
static const char *const again_says[N_AGAIN] = {"a text's scores are those of the text", "a cell's scores and intervals are those of its texts"};
enum { TOLD = 3 };

typedef struct rescoring {
    jpt_buf       *out;
    int            checked[N_AGAIN], failed[N_AGAIN];
    jpt_score_row *rows; /* of the cell at work */
    size_t         n_rows;
    int64_t        cell;
    char           spec[120];
} rescoring;

typedef struct store_lists {
    struct { int64_t id; char name[256], sha256[65]; } *task;
    struct { int64_t id, task; char spec[120]; } *cell;
    size_t n_tasks, n_cells;
} store_lists;

static jpt_status list_task(void *ud, const jpt_task_row *r) {
    store_lists *l = ud;
    void        *grown = realloc(l->task, (l->n_tasks + 1) * sizeof *l->task);
    if (!grown)
        return JPT_NOMEM;
    l->task = grown;
    l->task[l->n_tasks].id = r->id;
    snprintf(l->task[l->n_tasks].name, sizeof l->task->name, "%s", r->name ? r->name : "");
    snprintf(l->task[l->n_tasks++].sha256, sizeof l->task->sha256, "%s", r->sha256 ? r->sha256 : "");
    return JPT_OK;
}

static jpt_status list_cell(void *ud, const jpt_cell_row *r) {
    store_lists *l = ud;
    void        *grown = realloc(l->cell, (l->n_cells + 1) * sizeof *l->cell);
    if (!grown)
        return JPT_NOMEM;
    l->cell = grown;
    l->cell[l->n_cells].id = r->id;
    l->cell[l->n_cells].task = r->task;
    snprintf(l->cell[l->n_cells++].spec, sizeof l->cell->spec, "%s", r->spec ? r->spec : "");
    return JPT_OK;
}

static bool alike(double x, double y) { return (isnan(x) && isnan(y)) || x == y || fabs(x - y) <= 1e-9 * fmax(1, fmax(fabs(x), fabs(y))); }

static void compare(rescoring *w, again what, bool ok, const char *metric, double stored, double again_is) {
    w->checked[what]++;
    if (!ok && w->failed[what]++ < TOLD)
        jpt_buf_printf(w->out, "FAILED %s: cell %lld (%.80s): %s is %.9g in the file, %.9g of the text\n", again_says[what], (long long)w->cell, w->spec, metric, stored, again_is);
}

static jpt_status compare_cell(void *ud, const jpt_score_row *stored) {
    rescoring *w = ud;
    for (size_t i = 0; i < w->n_rows; i++) {
        const jpt_score_row *r = &w->rows[i];
        if (strcmp(r->metric, stored->metric) == 0)
            compare(w, OF_CELL, alike(r->value, stored->value) && alike(r->ci_low, stored->ci_low) && alike(r->ci_high, stored->ci_high) && r->n == stored->n, r->metric, stored->value, r->value);
    }
    return JPT_OK;
}

/* The task as it was asked: its own form or the paper's; NULL: another one, or none, is here. */
static jpt_task *task_as_asked(const char *name, const char *sha256) {
    static const char *const forms[] = {NULL, "paper"};
    for (int i = 0; i < 2; i++) {
        jpt_task_options o = {.compat = forms[i]};
        jpt_task        *t = NULL;
        if (jpt_task_open_with(name, &o, &t, NULL) == JPT_OK && strcmp(jpt_task_get_info(t)->sha256, sha256) == 0)
            return t;
        jpt_task_close(t);
    }
    return NULL;
}

static bool runs_code(const gathered *g) {
    for (int32_t m = 0; m < g->n_metrics; m++)
        if (strcmp(g->names[m].name, "passed") == 0)
            return true;
    return false;
}

static jpt_status rescore(rescoring *w, jpt_store *s, const jpt_task *t, jpt_error *err) {
    gathered      g;
    jpt_score_row rows[JPT_TASK_CELL_SCORES_MAX + 1];
    w->rows = rows;
    jpt_status st = score_texts(s, t, w->cell, &g, rows, &w->n_rows, err);
    for (int32_t i = 0; st == JPT_OK && !runs_code(&g) && i < g.n; i++) {
        jpt_task_score own[JPT_TASK_SCORES_MAX];
        int32_t        n = 0;
        st = jpt_task_score_item(t, (size_t)g.item[i], g.text[i], own, &n, err);
        for (int32_t m = 0; st == JPT_OK && m < g.n_metrics; m++)
            for (int32_t k = 0; k < n; k++) {
                double stored = g.scores[(size_t)i * (size_t)g.n_metrics + (size_t)m].value;
                if (strcmp(own[k].name, g.names[m].name) == 0 && isfinite(stored))
                    compare(w, OF_TEXT, alike(own[k].value, stored), own[k].name, stored, own[k].value);
            }
    }
    if (st == JPT_OK)
        st = jpt_store_each_cell_score(s, w->cell, compare_cell, w, err);
    gathered_fini(&g);
    return st;
}

jpt_status jpt_run_audit_scores(jpt_store *s, jpt_buf *out, int *n_failed, jpt_error *err) {
    rescoring   w = {.out = out};
    store_lists l = {0};
    jpt_status  st = jpt_store_each_task(s, list_task, &l, err);
    *n_failed = 0;
    if (st == JPT_OK)
        st = jpt_store_each_cell(s, list_cell, &l, err);
    for (size_t i = 0; st == JPT_OK && i < l.n_tasks; i++) {
        jpt_task *t = task_as_asked(l.task[i].name, l.task[i].sha256);
        if (!t)
            jpt_buf_printf(out, "texts of task %s are not scored again: the task that was asked is not here\n", l.task[i].name);
        for (size_t k = 0; st == JPT_OK && t && k < l.n_cells; k++)
            if (l.cell[k].task == l.task[i].id) {
                w.cell = l.cell[k].id;
                snprintf(w.spec, sizeof w.spec, "%s", l.cell[k].spec);
                st = rescore(&w, s, t, err);
            }
        jpt_task_close(t);
    }
    for (int k = 0; st == JPT_OK && k < N_AGAIN; k++)
        if (w.checked[k]) {
            *n_failed += w.failed[k];
            jpt_buf_printf(out, "%-60s %s, %d checked", again_says[k], w.failed[k] ? "FAILED" : "holds", w.checked[k]);
            jpt_buf_printf(out, w.failed[k] ? ", %d failed\n" : "\n", w.failed[k]);
        }
    free(l.task);
    free(l.cell);
    return st == JPT_NOMEM || (st == JPT_OK && out->oom) ? JPT_FAIL(err, NOMEM, "out of memory for the audit") : st;
}
