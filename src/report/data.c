/* Loads a store into cells: sums an item and block. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const report_phases[N_PHASES] = {"prefill", "decode", "draft", "verify", "select", "kv", "other"};
const char *const report_fates[N_FATES] = {"kept", "rejected", "pruned", "past_stop"};

const char *report_keep(report *r, const char *z) { return z == NULL ? NULL : jpt_arena_strndup(&r->arena, z, strlen(z)); }

#define KEEP_KEY(f)
#define KEEP_INT(f)
#define KEEP_REAL(f)
#define KEEP_TEXT(f) to->f = report_keep(r, row->f);
#define KEEP(k, f) KEEP_##k(f)
#define LOAD(name, plural, MAP, row_of)                                                                       \
    static jpt_status load_##name(void *ud, const jpt_##name##_row *row) {                                    \
        report *r = ud;                                                                                       \
        if ((r->n_##plural & (r->n_##plural - 1)) == 0) { /* full at every power of two */                    \
            void *grown = realloc(r->plural, (size_t)(r->n_##plural ? 2 * r->n_##plural : 1) * sizeof *r->plural); \
            if (grown == NULL)                                                                                \
                return JPT_NOMEM;                                                                             \
            r->plural = grown;                                                                                \
        }                                                                                                     \
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
LOAD(plan, plans, JPT_PLAN_MAP, )
LOAD(window, windows, JPT_WINDOW_MAP, )
LOAD(power, powers, JPT_POWER_MAP, )
LOAD(ledger, ledgers, JPT_LEDGER_MAP, )
LOAD(calibration, calibrations, JPT_CALIBRATION_MAP, )
LOAD(floor, floors, JPT_FLOOR_MAP, )
LOAD(look, looks, JPT_LOOK_MAP, )

const cell *report_cell(const report *r, int64_t id) {
    for (int i = 0; i < r->n_cells; i++)
        if (r->cells[i].row.id == id)
            return &r->cells[i];
    return NULL;
}
const jpt_floor_row *report_floor(const report *r, const cell *c) {
    for (int i = r->n_floors - 1; i >= 0; i--)
        if (r->floors[i].cell == c->row.id)
            return &r->floors[i];
    return NULL;
}

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

bool        report_same(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : "") == 0; }
const char *report_source(const cell *c) { return c->modelled ? "modelled, not measured" : c->energy_source ? c->energy_source : "none"; }
const char *report_metric(const jpt_task_row *t) { return t->primary_metric ? t->primary_metric : "score"; }

/* ---- requests of a cell ------------------------------------------------------------------------ */

typedef struct loading {
    report     *r;
    cell       *c;
    int64_t    *ids; /* of requests, as read */
    int        *seen_of; /* the observation of each */
    int         n, cap;
    const char *metric;
    bool        scored; /* the cell's own score is of all its requests */
} loading;

/* Room for one more in an array that grows by doubling. */
static bool grow(void **p, int n, int *cap, size_t size) {
    if (n < *cap)
        return true;
    int   more = *cap ? 2 * *cap : 32;
    void *grown = realloc(*p, (size_t)more * size);
    if (grown == NULL)
        return false;
    *p = grown, *cap = more;
    return true;
}

/* The observation of (item, block): rows come by block, so a new one goes to the end, to be sorted later. */
static observation *observe(cell *c, int64_t item, int64_t block) {
    if (c->n_seen && c->seen[c->n_seen - 1].item == item && c->seen[c->n_seen - 1].block == block)
        return &c->seen[c->n_seen - 1];
    void *seen = c->seen;
    if (!grow(&seen, c->n_seen, &c->cap, sizeof *c->seen))
        return NULL;
    c->seen = seen;
    c->seen[c->n_seen] = (observation){.item = item, .block = block};
    return &c->seen[c->n_seen++];
}

static jpt_status keep_text(loading *l, const jpt_request_row *q) {
    cell *c = l->c;
    if (c->n_texts && (c->texts[c->n_texts - 1].item >= q->item_index)) /* a later block */
        return JPT_OK;
    void *texts = c->texts;
    if (!grow(&texts, c->n_texts, &c->texts_cap, sizeof *c->texts))
        return JPT_NOMEM;
    c->texts = texts;
    const char *text = report_keep(l->r, q->text);
    c->texts[c->n_texts++] = (shown_text){q->item_index, text, NAN, q->output_tokens, q->energy_valid != 0 ? q->energy_j : NAN};
    return q->text && !text ? JPT_NOMEM : JPT_OK;
}

static void add_energy(loading *l, const jpt_request_row *q, double *sum) {
    cell        *c = l->c;
    const double phase[N_PHASES] = {q->prefill_energy_j, q->decode_energy_j, q->draft_energy_j, q->verify_energy_j, q->select_energy_j,
                                     isfinite(q->kv_energy_j) ? q->kv_energy_j : 0 /* older files: in other */, q->other_energy_j};
    const double fate_j[N_FATES] = {q->kept_energy_j, q->rejected_energy_j, q->pruned_energy_j, q->past_stop_energy_j};
    if (q->energy_valid == 0) {
        c->n_invalid++;
        return;
    }
    bool tokens = q->output_tokens >= 0; /* imported runs may not tell them */
    if (isfinite(q->energy_j))
        sum[SUM_ENERGY] += q->energy_j, sum[SUM_ENERGIES]++, c->n_metered++;
    if (isfinite(q->energy_j) && tokens)
        sum[SUM_TOKENS_ENERGY] += q->energy_j, sum[SUM_TOKENS] += (double)q->output_tokens;
    if (isfinite(q->net_energy_j))
        sum[SUM_NET] += q->net_energy_j, sum[SUM_NETS]++;
    if (isfinite(q->net_energy_j) && tokens)
        sum[SUM_TOKENS_NET] += q->net_energy_j, sum[SUM_NET_TOKENS] += (double)q->output_tokens;
    double all = 0;
    for (int k = 0; k < N_PHASES; k++)
        all += phase[k];
    if (isfinite(all) && isfinite(q->energy_j)) {
        for (int k = 0; k < N_PHASES; k++)
            c->phase_j[k] += phase[k];
        c->phases_of++;
    }
    all = 0;
    for (int k = 0; k < N_FATES; k++)
        all += fate_j[k];
    if (isfinite(all) && isfinite(q->energy_j)) {
        for (int k = 0; k < N_FATES; k++)
            c->fate_j[k] += fate_j[k];
        c->fates_of++;
    }
}

static jpt_status load_request(void *ud, const jpt_request_row *q) {
    loading     *l = ud;
    cell        *c = l->c;
    observation *o = observe(c, q->item_index, q->block);
    void        *ids = l->ids, *seen_of = l->seen_of;
    int          cap = l->cap;
    if (o == NULL || keep_text(l, q) != JPT_OK || !grow(&ids, l->n, &cap, sizeof *l->ids))
        return JPT_NOMEM;
    l->ids = ids;
    if (!grow(&seen_of, l->n, &l->cap, sizeof *l->seen_of))
        return JPT_NOMEM;
    l->seen_of = seen_of;
    l->ids[l->n] = q->id, l->seen_of[l->n++] = (int)(o - c->seen);
    c->n_requests++;
    c->n_failed += q->failed == 1;
    c->modelled = c->modelled || q->modelled == 1;
    if (c->energy_source == NULL)
        c->energy_source = report_keep(l->r, q->energy_source);
    c->computed += q->positions_computed > 0 ? (double)q->positions_computed : 0;
    c->discarded += q->positions_discarded > 0 ? (double)q->positions_discarded : 0;
    c->drafted += q->draft_positions > 0 ? (double)q->draft_positions : 0;
    if (isfinite(q->duration_s))
        c->seconds += q->duration_s, o->sum[SUM_SECONDS] += q->duration_s, o->sum[SUM_DURATIONS]++;
    if (isfinite(q->ttft_s))
        o->sum[SUM_TTFT] += q->ttft_s, o->sum[SUM_TTFTS]++;
    if (q->output_tokens >= 0)
        c->tokens += (double)q->output_tokens;
    if (q->energy_reasons && *q->energy_reasons && q->window < 0)
        jpt_buf_printf(&l->r->reasons, "%s%s\n", q->energy_valid == 0 ? "" : "warning: ", q->energy_reasons);
    add_energy(l, q, o->sum);
    return JPT_OK;
}

static jpt_status load_score(void *ud, const jpt_score_row *s) {
    loading *l = ud;
    cell    *c = l->c;
    if (l->metric == NULL || strcmp(s->metric, l->metric) != 0 || !isfinite(s->value))
        return JPT_OK;
    for (int low = 0, high = l->n - 1; low <= high;) { /* sorted by sort_ids */
        int mid = (low + high) / 2;
        if (l->ids[mid] == s->owner) {
            observation *o = &c->seen[l->seen_of[mid]];
            o->sum[SUM_SCORE] += s->value, o->sum[SUM_SCORES]++;
            c->best_score = fmax(c->best_score, s->value), c->worst_score = fmin(c->worst_score, s->value);
            for (int k = 0; k < c->n_texts; k++)
                if (c->texts[k].item == o->item && !isfinite(c->texts[k].score))
                    c->texts[k].score = s->value;
            return JPT_OK;
        }
        *(l->ids[mid] < s->owner ? &low : &high) = l->ids[mid] < s->owner ? mid + 1 : mid - 1;
    }
    return JPT_OK;
}

static jpt_status load_cell_score(void *ud, const jpt_score_row *s) {
    loading *l = ud;
    if (report_score_add(l->r, l->c, s) != JPT_OK)
        return JPT_NOMEM;
    if (l->metric == NULL || strcmp(s->metric, l->metric) != 0)
        return JPT_OK;
    l->scored = s->n == (int64_t)(l->c->n_requests - l->c->n_failed); /* not of an earlier, shorter run */
    if (l->scored && isfinite(s->value))
        l->c->fig[QUALITY] = (estimate){s->value, s->ci_low, s->ci_high, s->n >= 0 ? (int)s->n : l->c->n_items};
    return JPT_OK;
}

static bool of_corpus(const char *metric) {
    static const char *const names[] = {"bleu", "bleu_zh", "chrf", "chrf++", "ter"};
    bool                     found = false;
    for (size_t i = 0; metric && i < sizeof names / sizeof *names; i++)
        found = found || strcmp(metric, names[i]) == 0;
    return found;
}

/* The corpus score stands for itself; how it would move with the items is taken from its segments, to scale. */
static void corpus_score(cell *c, bool scored, const char *metric) {
    double n = 0, score = 0;
    for (int i = 0; i < c->n_seen; i++)
        n += c->seen[i].sum[SUM_SCORES], score += c->seen[i].sum[SUM_SCORE];
    c->corpus_scale = 1;
    c->corpus = scored && n > 0 && isfinite(c->fig[QUALITY].mean) && !(fabs(score / n - c->fig[QUALITY].mean) <= 1e-9 * fabs(c->fig[QUALITY].mean));
    if (c->corpus && score > 0)
        c->corpus_scale = fmin(4, fmax(.25, c->fig[QUALITY].mean / (score / n)));
    c->partial = !scored && of_corpus(metric); /* a killed run: a mean of segments is no BLEU */
}

static int by_item(const void *a, const void *b) {
    const observation *x = a, *y = b;
    return x->item != y->item ? (x->item > y->item) - (x->item < y->item) : (x->block > y->block) - (x->block < y->block);
}

/* Requests are read in order of (block, item, seed): sort them by id for load_score. */
typedef struct by_id { int64_t id; int seen; } by_id;
static int id_order(const void *a, const void *b) {
    int64_t x = ((const by_id *)a)->id, y = ((const by_id *)b)->id;
    return (x > y) - (x < y);
}
static jpt_status sort_ids(loading *l) {
    by_id *v = malloc(((size_t)l->n + 1) * sizeof *v);
    if (v == NULL)
        return JPT_NOMEM;
    for (int i = 0; i < l->n; i++)
        v[i] = (by_id){l->ids[i], l->seen_of[i]};
    qsort(v, (size_t)l->n, sizeof *v, id_order);
    for (int i = 0; i < l->n; i++)
        l->ids[i] = v[i].id, l->seen_of[i] = v[i].seen;
    free(v);
    return JPT_OK;
}

static jpt_status load_cell_rows(report *r, cell *c, jpt_error *err) {
    loading l = {.r = r, .c = c, .metric = report_task(r, c->row.task)->primary_metric};
    for (figure f = 0; f < N_FIGURES; f++)
        c->fig[f] = (estimate){NAN, NAN, NAN, 0};
    c->best_score = -INFINITY, c->worst_score = INFINITY;
    c->sd[0] = c->sd[1] = c->cov[0] = c->cov[1] = c->sd_quality = c->p_front[0] = c->p_front[1] = NAN;
    jpt_status status = jpt_store_each_request(r->store, c->row.id, load_request, &l, err);
    if (status == JPT_OK)
        status = sort_ids(&l);
    if (status == JPT_OK)
        status = jpt_store_each_score(r->store, c->row.id, load_score, &l, err);
    if (status == JPT_OK)
        status = jpt_store_each_cell_score(r->store, c->row.id, load_cell_score, &l, err);
    corpus_score(c, l.scored, l.metric);
    if (c->n_seen)
        qsort(c->seen, (size_t)c->n_seen, sizeof *c->seen, by_item);
    for (int i = 0; i < c->n_seen; i++)
        c->n_items += i == 0 || c->seen[i].item != c->seen[i - 1].item;
    for (int i = 0; i < r->n_meters; i++)
        if (r->meters[i].id == c->row.meter && r->meters[i].modelled == 1)
            c->modelled = true;
    c->strategy = c->row.strategy ? c->row.strategy : c->row.spec ? c->row.spec : "?";
    c->model = report_model(r, c->row.model)->name;
    r->modelled = r->modelled || c->modelled;
    free(l.ids);
    free(l.seen_of);
    return status;
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
    if (status == JPT_OK)
        status = jpt_store_each_plan(s, load_plan, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_window(s, -1, load_window, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_power(s, -1, load_power, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_ledger(s, load_ledger, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_calibration(s, load_calibration, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_floor(s, load_floor, r, err);
    if (status == JPT_OK)
        status = jpt_store_each_look(s, load_look, r, err);
    for (int i = 0; i < r->n_cells && status == JPT_OK; i++)
        status = load_cell_rows(r, &r->cells[i], err);
    if (status == JPT_OK)
        status = report_panels(r);
    for (int i = 0; i < r->n_panels && status == JPT_OK; i++)
        status = report_bootstrap(&r->panels[i]);
    return status == JPT_NOMEM ? JPT_FAIL(err, NOMEM, "out of memory while reading the results file") : status;
}

void report_free(report *r) {
    for (int i = 0; i < r->n_cells; i++) {
        free(r->cells[i].seen);
        free(r->cells[i].texts);
        free(r->cells[i].sums);
        free(r->cells[i].scores);
        free(r->cells[i].there);
        for (figure f = 0; f < N_FIGURES; f++)
            free(r->cells[i].rep[f]);
    }
    free(r->cells);
    free(r->tasks);
    free(r->models);
    free(r->items);
    free(r->meters);
    free(r->studies);
    free(r->plans);
    free(r->windows);
    free(r->powers);
    free(r->ledgers);
    free(r->calibrations);
    free(r->floors);
    free(r->looks);
    jpt_buf_fini(&r->reasons);
    jpt_arena_fini(&r->arena);
}
