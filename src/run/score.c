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

jpt_status run_score_cell(bench *b, const cell *c, jpt_error *err) {
    gathered       g = {.task = c->task};
    jpt_task_score out[JPT_TASK_CELL_SCORES_MAX];
    jpt_score_row  rows[JPT_TASK_CELL_SCORES_MAX + 1];
    int32_t        n_out = 0;
    g.cut = calloc(2 * jpt_task_get_info(c->task)->n_items + 2, sizeof *g.cut);
    jpt_status     st = !g.cut ? JPT_FAIL(err, NOMEM, "out of memory for scores") : jpt_store_each_request(b->store, c->id, gather_request, &g, err);
    if (st == JPT_OK && g.n) {
        st = jpt_task_score_all(c->task, NULL, NULL, NULL, 0, 0, g.names, &g.n_metrics, err); /* the names alone */
        g.scores = calloc((size_t)g.n * JPT_TASK_SCORES_MAX, sizeof *g.scores);
        if (!g.scores)
            st = JPT_FAIL(err, NOMEM, "out of memory for scores");
        for (int32_t i = 0; st == JPT_OK && i < g.n * g.n_metrics; i++)
            g.scores[i].value = NAN;
        if (st == JPT_OK)
            st = jpt_store_each_score(b->store, c->id, gather_score, &g, err);
        if (st == JPT_OK)
            st = jpt_task_score_all(c->task, g.item, g.text, g.scores, g.n_metrics, g.n, out, &n_out, err);
        for (int32_t i = 0; i < n_out; i++)
            rows[i] = (jpt_score_row){.owner = c->id, .metric = out[i].name, .value = out[i].value, .ci_low = out[i].ci_low, .ci_high = out[i].ci_high, .n = out[i].n};
        if (st == JPT_OK)
            st = truncation(&g, &rows[n_out], err);
        if (st == JPT_OK)
            st = jpt_store_put_cell_scores(b->store, c->id, rows, (size_t)n_out + 1, err);
    }
    free(g.item);
    free(g.cut);
    free(g.text);
    free(g.request);
    free(g.scores);
    jpt_arena_fini(&g.arena);
    return st;
}
