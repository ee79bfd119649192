/* jpt audit: the rows against themselves.  Every rule is checked on every row it is about; the figures of the report are computed
 * again from the rows, by sums of their own. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum rule {
    POSITIONS, TOKEN_IDS, PHASES, NET, REASONS, SILENT_ZERO, STOPS, BUDGET, SEEDS, TWICE, PAIRED, OF_TOKENS, MEAN_SCORE, N_RULES
} rule;

static const char *const says[N_RULES] = {
    [POSITIONS] = "positions computed are in the text or thrown away",
    [TOKEN_IDS] = "as many token ids as output tokens",
    [PHASES] = "joules of the phases add up to the window's",
    [NET] = "net joules are gross less idle power x time",
    [REASONS] = "an invalid window says why",
    [SILENT_ZERO] = "no valid window has zero joules",
    [STOPS] = "a text ended by length has the most tokens",
    [BUDGET] = "a text stopped by its budget says so",
    [SEEDS] = "block b has the study's seed + b",
    [TWICE] = "no request stands in the file twice",
    [PAIRED] = "every setting of a task has the same items",
    [OF_TOKENS] = "J/token of the report is that of the rows",
    [MEAN_SCORE] = "quality of the report is that of the rows",
};

typedef struct audit {
    jpt_buf *out;
    int      checked[N_RULES], failed[N_RULES];
    /* of the cell at work */
    const cell *c;
    int64_t     last_block, last_item, last_seed;
    double      joules, tokens;
} audit;

enum { TOLD = 3 }; /* failures of a rule that are named */

static void check(audit *a, rule r, bool ok, const jpt_request_row *q, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void check(audit *a, rule r, bool ok, const jpt_request_row *q, const char *fmt, ...) {
    a->checked[r]++;
    if (ok || a->failed[r]++ >= TOLD)
        return;
    char    text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (q)
        jpt_buf_printf(a->out, "FAILED %s: cell %lld (%s), block %lld, item %lld: %s\n", says[r], (long long)q->cell, a->c->row.spec ? a->c->row.spec : "?", (long long)q->block,
                       (long long)q->item_index, text);
    else
        jpt_buf_printf(a->out, "FAILED %s: cell %lld (%s): %s\n", says[r], (long long)a->c->row.id, a->c->row.spec ? a->c->row.spec : "?", text);
}

static bool near(double x, double y, double tolerance) { return fabs(x - y) <= tolerance * fmax(1, fmax(fabs(x), fabs(y))); }

static int64_t count_ids(const char *json) {
    int64_t n = json[0] && json[1] != ']';
    for (; *json; json++)
        n += *json == ',';
    return n;
}

static void audit_energy(audit *a, const jpt_request_row *q) {
    if (isnan(q->energy_j))
        return;
    double parts = q->prefill_energy_j + q->decode_energy_j + q->draft_energy_j + q->verify_energy_j + q->select_energy_j + q->other_energy_j +
                   (isnan(q->kv_energy_j) ? 0 : q->kv_energy_j);
    if (isfinite(parts))
        check(a, PHASES, near(parts, q->energy_j, 1e-6), q, "%.6f J in phases, %.6f J in all", parts, q->energy_j);
    if (isfinite(q->net_energy_j) && isfinite(q->idle_w) && !q->share_rule) {
        /* the window is a little longer than the generation: the prompt's first byte to the meter's second reading */
        double window_s = (q->energy_j - q->net_energy_j) / q->idle_w;
        check(a, NET, q->idle_w > 0 && window_s >= q->duration_s - 1e-6 && window_s <= q->duration_s + 0.5, q, "%.3f J less %.3f J is %.3f s of %.2f W; the request took %.3f s",
              q->energy_j, q->net_energy_j, window_s, q->idle_w, q->duration_s);
    }
    if (q->energy_valid == 1)
        check(a, SILENT_ZERO, q->energy_j > 0, q, "%.6f J in %.3f s", q->energy_j, q->duration_s);
}

static jpt_status audit_request(void *ud, const jpt_request_row *q) {
    audit *a = ud;
    check(a, TWICE, !(q->block == a->last_block && q->item_index == a->last_item && q->seed == a->last_seed), q, "seed %lld stands there again", (long long)q->seed);
    a->last_block = q->block, a->last_item = q->item_index, a->last_seed = q->seed;
    if (q->failed == 1)
        return JPT_OK;
    if (q->positions_computed >= 0 && q->positions_discarded >= 0 && q->prompt_tokens >= 0 && q->output_tokens > 0) {
        int64_t kept = q->positions_computed - q->positions_discarded, most = q->prompt_tokens + q->output_tokens;
        check(a, POSITIONS, kept == most || kept == most - 1, q, "%lld computed, %lld thrown away, %lld + %lld kept", (long long)q->positions_computed,
              (long long)q->positions_discarded, (long long)q->prompt_tokens, (long long)q->output_tokens);
    }
    if (q->token_ids_json && q->output_tokens >= 0)
        check(a, TOKEN_IDS, count_ids(q->token_ids_json) == q->output_tokens, q, "%lld ids, %lld tokens", (long long)count_ids(q->token_ids_json), (long long)q->output_tokens);
    if (q->energy_valid == 0)
        check(a, REASONS, q->energy_reasons && *q->energy_reasons, q, "no reason");
    if (q->stop_reason && strcmp(q->stop_reason, "length") == 0 && a->c->row.max_new_tokens > 0)
        check(a, STOPS, q->output_tokens == a->c->row.max_new_tokens, q, "%lld tokens of %lld", (long long)q->output_tokens, (long long)a->c->row.max_new_tokens);
    if (q->stop_reason && strcmp(q->stop_reason, "budget") == 0)
        check(a, BUDGET, q->budget_note && *q->budget_note && isfinite(a->c->row.max_joules), q, "no note, or no budget");
    if (a->c->row.seeds && !strchr(a->c->row.seeds, ',')) {
        uint64_t first = strtoull(a->c->row.seeds, NULL, 10);
        check(a, SEEDS, (uint64_t)q->seed == first + (uint64_t)q->block, q, "seed %llu", (unsigned long long)q->seed);
    }
    audit_energy(a, q);
    if (q->energy_valid != 0 && isfinite(q->energy_j) && q->output_tokens > 0) {
        a->joules += q->energy_j;
        a->tokens += (double)q->output_tokens;
    }
    return JPT_OK;
}

typedef struct mean {
    const char *metric;
    double      sum;
    int         n;
} mean;

static jpt_status add_score(void *ud, const jpt_score_row *s) {
    mean *m = ud;
    if (m->metric && strcmp(s->metric, m->metric) == 0 && isfinite(s->value)) {
        m->sum += s->value;
        m->n++;
    }
    return JPT_OK;
}

static jpt_status audit_cell(audit *a, const report *r, const cell *c, jpt_error *err) {
    mean m = {.metric = report_task(r, c->row.task)->primary_metric};
    a->c = c;
    a->last_block = a->last_item = a->last_seed = -1;
    a->joules = a->tokens = 0;
    JPT_TRY(jpt_store_each_request(r->store, c->row.id, audit_request, a, err));
    if (a->tokens > 0)
        check(a, OF_TOKENS, near(a->joules / a->tokens, c->fig[J_TOKEN].mean, 1e-9), NULL, "%.9g from the rows, %.9g in the report", a->joules / a->tokens, c->fig[J_TOKEN].mean);
    JPT_TRY(jpt_store_each_score(r->store, c->row.id, add_score, &m, err));
    if (m.n > 0 && !c->corpus && isfinite(c->fig[QUALITY].mean))
        check(a, MEAN_SCORE, near(m.sum / m.n, c->fig[QUALITY].mean, 1e-9), NULL, "%s %.9g from the rows, %.9g in the report", m.metric, m.sum / m.n, c->fig[QUALITY].mean);
    return JPT_OK;
}

static void audit_pairs(audit *a, const panel *p) {
    for (int i = 1; i < p->n_cells; i++) {
        const cell *x = p->cells[0], *y = p->cells[i];
        bool        same = x->n_items == y->n_items;
        for (int k = 0; same && k < p->n_items; k++) {
            bool has[2] = {false, false};
            for (int b = 0; b < p->n_blocks; b++)
                for (int side = 0; side < 2; side++)
                    has[side] = has[side] || (side ? y : x)->there[k * p->n_blocks + b];
            same = has[0] == has[1];
        }
        a->c = y;
        check(a, PAIRED, same, NULL, "%d items, %d of %s", y->n_items, x->n_items, x->label);
    }
}

jpt_status jpt_report_audit(jpt_store *s, jpt_buf *out, int *n_failed, jpt_error *err) {
    report     r;
    audit      a = {.out = out};
    jpt_status st = report_load(&r, s, err);
    *n_failed = 0;
    for (int i = 0; st == JPT_OK && i < r.n_cells; i++)
        if (r.cells[i].n_requests)
            st = audit_cell(&a, &r, &r.cells[i], err);
    for (int i = 0; st == JPT_OK && i < r.n_panels; i++)
        audit_pairs(&a, &r.panels[i]);
    for (int k = 0; st == JPT_OK && k < N_RULES; k++) {
        if (a.checked[k] == 0)
            continue;
        *n_failed += a.failed[k];
        jpt_buf_printf(out, "%-60s %s, %d checked", says[k], a.failed[k] ? "FAILED" : "holds", a.checked[k]);
        if (a.failed[k])
            jpt_buf_printf(out, ", %d failed", a.failed[k]);
        jpt_buf_addc(out, '\n');
    }
    report_free(&r);
    return st == JPT_OK && out->oom ? JPT_FAIL(err, NOMEM, "out of memory for the audit") : st;
}
