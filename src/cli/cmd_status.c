/* jpt status: how far a study is, from another terminal. */
#include "cli.h"
#include <jpt/store.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct counts {
    int64_t n, failed, invalid, tokens;
    double  joules, valid_tokens;
    bool    modelled;
    /* of windows */
    int64_t        n_windows, n_idle, n_void, repeats;
    double         window_j, window_s, request_s; /* all; all; those that served requests */
    jpt_window_row last;
    char           spec[256], task[128];
    int64_t        last_task;
    /* of cells, the newest plan and the newest look */
    int64_t      n_cells;
    int64_t     *cell;   /* [n_cells] ids that have requests */
    int64_t      n_seen; /* of them */
    jpt_plan_row plan;
    char         plan_name[120];
    bool         has_plan, has_look;
    char         look[400];
} counts;

static jpt_status count_request(void *ud, const jpt_request_row *r) {
    counts *c = ud;
    c->n++;
    c->failed += r->failed == 1;
    c->invalid += r->energy_valid == 0;
    c->modelled = c->modelled || r->modelled == 1;
    if (r->output_tokens > 0)
        c->tokens += r->output_tokens;
    if (r->energy_valid == 1 && isfinite(r->energy_j) && r->output_tokens > 0) {
        c->joules += r->energy_j;
        c->valid_tokens += (double)r->output_tokens;
    }
    if (c->n_seen == 0 || c->cell[c->n_seen - 1] != r->cell) { /* they come by cell */
        int64_t *grown = realloc(c->cell, (size_t)(c->n_seen + 1) * sizeof *grown);
        if (!grown)
            return JPT_NOMEM;
        c->cell = grown;
        c->cell[c->n_seen++] = r->cell;
    }
    return JPT_OK;
}

static jpt_status count_window(void *ud, const jpt_window_row *r) {
    counts *c = ud;
    c->n_windows++;
    c->n_idle += strcmp(r->kind, "idle") == 0;
    c->n_void += r->valid == 0;
    c->repeats += r->attempt > 0;
    c->window_j += isfinite(r->energy_j) ? r->energy_j : 0;
    c->window_s += isfinite(r->duration_s) ? r->duration_s : 0;
    if (strcmp(r->kind, "requests") == 0) {
        c->request_s += isfinite(r->duration_s) ? r->duration_s : 0;
        if (r->id > c->last.id)
            c->last = *r;
    }
    return JPT_OK;
}

static jpt_status count_cell(void *ud, const jpt_cell_row *r) {
    counts *c = ud;
    c->n_cells++;
    if (r->id == c->last.cell) {
        snprintf(c->spec, sizeof c->spec, "%s", r->spec);
        c->last_task = r->task;
    }
    return JPT_OK;
}

static jpt_status find_task(void *ud, const jpt_task_row *r) {
    counts *c = ud;
    if (r->id == c->last_task)
        snprintf(c->task, sizeof c->task, "%s", r->name);
    return JPT_OK;
}

static jpt_status find_plan(void *ud, const jpt_plan_row *r) {
    counts *c = ud;
    c->plan = *r;
    c->has_plan = true;
    snprintf(c->plan_name, sizeof c->plan_name, "%s", r->name ? r->name : "");
    return JPT_OK;
}

static jpt_status find_look(void *ud, const jpt_look_row *r) {
    counts *c = ud;
    c->has_look = true;
    snprintf(c->look, sizeof c->look, "%s against %s after %lld blocks: %+.2f %% J/token, %+.2f to %+.2f %% (%.3g %% wanted in all): %s", r->spec_b, r->spec_a, (long long)r->blocks,
             100 * r->difference, 100 * r->ci_low, 100 * r->ci_high, 100 * r->wanted_width, r->decision);
    return JPT_OK;
}

static void add_left(jpt_buf *out, double s) {
    if (s < 100)
        jpt_buf_printf(out, "; about %.0f s left", ceil(s));
    else
        jpt_buf_printf(out, "; about %ld h %02ld min left", lround(s / 60) / 60, lround(s / 60) % 60);
}

static void print(const counts *c, bool busy, jpt_buf *out) {
    int64_t planned = c->has_plan ? c->plan.n_requests : -1, empty = c->n_cells - c->n_seen;
    jpt_buf_printf(out, "%lld requests in %lld settings%s, %s\n", (long long)c->n, (long long)c->n_cells, empty ? "" : ", each has some", busy ? "a bench is writing" : "nobody is writing");
    if (empty)
        jpt_buf_printf(out, "%lld settings have none yet\n", (long long)empty);
    if (planned > 0) {
        jpt_buf_printf(out, "plan '%s': %lld cells x %lld blocks, %lld requests", c->plan_name, (long long)c->plan.n_cells, (long long)c->plan.blocks, (long long)planned);
        if (c->n > 0 && c->n < planned && c->window_s > 0)
            add_left(out, (double)(planned - c->n) * c->window_s / (double)c->n);
        jpt_buf_addc(out, '\n');
        if (isfinite(c->plan.max_joules_total))
            jpt_buf_printf(out, "budget: %.4g of %.4g J\n", c->window_j, c->plan.max_joules_total);
        if (isfinite(c->plan.max_hours))
            jpt_buf_printf(out, "budget: %.3g of %.3g h\n", c->window_s / 3600, c->plan.max_hours);
    }
    jpt_buf_printf(out, "%lld tokens", (long long)c->tokens);
    if (c->valid_tokens > 0)
        jpt_buf_printf(out, ", %.4g J, %.4g J/token%s", c->joules, c->joules / c->valid_tokens, c->modelled ? " (modelled, not measured)" : "");
    jpt_buf_addc(out, '\n');
    if (c->request_s > 0)
        jpt_buf_printf(out, "metered: %.1f s that served requests, over and over where they are short; %.1f s and %.4g J with all the rest\n", c->request_s, c->window_s, c->window_j);
    if (c->last.id > 0 && c->last.duration_s > 0) {
        jpt_buf_printf(out, "last: %s, %s, block %lld", c->task, c->spec, (long long)c->last.block);
        if (c->last.output_tokens >= 0) /* an imported run may not tell */
            jpt_buf_printf(out, ": %.4g tok/s", (double)(c->last.output_tokens * c->last.replications) / c->last.duration_s);
        if (isfinite(c->last.mean_w))
            jpt_buf_printf(out, ", %.4g W", c->last.mean_w);
        jpt_buf_addc(out, '\n');
    }
    if (c->n_windows)
        jpt_buf_printf(out, "%lld windows, %lld of them idle, %lld repeated, %lld not valid\n", (long long)c->n_windows, (long long)c->n_idle, (long long)c->repeats, (long long)c->n_void);
    if (c->failed || c->invalid)
        jpt_buf_printf(out, "%lld failed, %lld without valid energy\n", (long long)c->failed, (long long)c->invalid);
    if (c->has_look)
        jpt_buf_printf(out, "%s\n", c->look);
}

int cmd_status(int argc, char **argv) {
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: jpt status results.db");
        return CLI_OK;
    }
    if (argc != 2)
        return cli_usage("status: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    counts     c = {.last_task = -1};
    jpt_buf    out = {0};
    jpt_status st = jpt_store_open(argv[1], JPT_STORE_READ, &store, &err);
    if (st == JPT_OK)
        st = jpt_store_each_request(store, -1, count_request, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_window(store, -1, count_window, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_cell(store, count_cell, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_task(store, find_task, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_plan(store, find_plan, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_look(store, find_look, &c, &err);
    if (st == JPT_OK) {
        print(&c, jpt_store_is_busy(argv[1]), &out);
    }
    jpt_store_close(store);
    free(c.cell);
    if (st == JPT_OK && out.oom)
        st = JPT_FAIL(&err, NOMEM, "out of memory");
    if (st == JPT_OK)
        fputs(out.p, stdout);
    jpt_buf_fini(&out);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
