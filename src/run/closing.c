/* What is computed at the end of a run: the ledger's second opinion by regression, and the floor of each cell. */
#include "run_priv.h"

/* ---- watts of each phase from the windows --------------------------------------------------------------------- */

enum { PHASES = JPT_PHASE_COUNT + 1 };
static const char *const phase_names[PHASES] = {"prefill", "decode", "draft", "verify", "select", "kv", "host"};

typedef struct windows {
    int64_t study, meter;
    double *seconds, *joules; /* [n][PHASES], [n] */
    int32_t n, cap;
} windows;

static jpt_status gather_window(void *ud, const jpt_window_row *r) {
    windows *w = ud;
    if (r->study != w->study || r->meter != w->meter || r->valid != 1 || !isfinite(r->energy_j) || !isfinite(r->host_s) || !(r->duration_s > 0))
        return JPT_OK;
    if (w->n == w->cap) {
        int32_t cap = w->cap ? 2 * w->cap : 256;
        void   *s = realloc(w->seconds, (size_t)cap * PHASES * sizeof *w->seconds);
        if (s)
            w->seconds = s;
        void *j = realloc(w->joules, (size_t)cap * sizeof *w->joules);
        if (j)
            w->joules = j;
        if (!s || !j)
            return JPT_NOMEM;
        w->cap = cap;
    }
    /* divided by its length: windows count alike, whatever they hold */
    const double s[PHASES] = {r->prefill_s, r->decode_s, r->draft_s, r->verify_s, r->select_s, r->kv_s, r->host_s};
    for (int k = 0; k < PHASES; k++)
        w->seconds[w->n * PHASES + k] = s[k] / r->duration_s;
    w->joules[w->n++] = (r->energy_j - (isfinite(r->idle_energy_j) ? r->idle_energy_j : 0)) / r->duration_s;
    return JPT_OK;
}

/* The calibration's phases alone, beside what the windows of the study say. */
static jpt_status put_alone(bench *b, const jpt_calibration *k, jpt_error *err) {
    const struct {
        const char *method, *entry, *unit;
        double      value, error;
    } rows[] = {{"replication", "prefill", "J/position", k->prefill_j, NAN}, {"replication", "decode", "J/step", k->decode_j, NAN}, {"amplification", "select", "J/call", k->select_j, k->select_error_j}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        jpt_ledger_row row;
        if (isnan(rows[i].value))
            continue;
        jpt_ledger_row_init(&row);
        row.study = b->study;
        row.method = rows[i].method;
        row.entry = rows[i].entry;
        row.unit = rows[i].unit;
        row.value = rows[i].value;
        row.error_value = rows[i].error;
        row.n = 1;
        JPT_TRY(jpt_store_add_ledger(b->store, &row, err));
    }
    return JPT_OK;
}

jpt_status run_put_ledger(bench *b, jpt_error *err) {
    JPT_TRY(jpt_store_clear_ledger(b->store, b->study, err));
    for (size_t i = 0; i < b->opt->n_engines; i++)
        if (b->engine[i].e->calibration)
            JPT_TRY(put_alone(b, b->engine[i].e->calibration, err));
    for (size_t i = 0; i < b->opt->n_engines; i++) {
        windows        w = {.study = b->study, .meter = b->engine[i].meter};
        jpt_regression r;
        bool           seen = false;
        for (size_t k = 0; k < i; k++)
            seen = seen || b->engine[k].meter == w.meter;
        if (seen)
            continue;
        jpt_status st = jpt_store_each_window(b->store, -1, gather_window, &w, err);
        if (st == JPT_OK && w.n > 2 * PHASES && jpt_ledger_regress(w.seconds, w.joules, w.n, PHASES, &r)) {
            for (int k = 0; st == JPT_OK && k < PHASES; k++) {
                jpt_ledger_row row;
                if (isnan(r.watts[k]))
                    continue;
                jpt_ledger_row_init(&row);
                row.study = b->study;
                row.method = "nnls";
                row.entry = phase_names[k];
                row.value = r.watts[k];
                row.error_value = r.error_w[k];
                row.unit = "W";
                row.n = r.n_windows;
                row.condition = r.condition;
                row.residual = r.residual;
                st = jpt_store_add_ledger(b->store, &row, err);
            }
        }
        free(w.seconds);
        free(w.joules);
        JPT_TRY(st);
    }
    return JPT_OK;
}

/* ---- floors ------------------------------------------------------------------------------------------------------ */

void jpt_run_cost(const jpt_model *m, double passes, double rows, double logits_rows, double kv_positions, double *bytes, double *flops) {
    const jpt_model_info *i = jpt_model_get_info(m);
    double embedding = (double)i->n_vocab * i->n_embd, layers = (double)i->n_params - (i->tied ? 1 : 2) * embedding;
    double a_weight = i->n_params ? (double)i->file_bytes / (double)i->n_params : 0;
    double kv_bytes = 2.0 * i->n_layers * i->n_kv_heads * i->head_dim * 2; /* 16 bits at best */
    *bytes = passes * (layers + embedding) * a_weight + kv_positions * kv_bytes;
    *flops = 2 * (rows * layers + logits_rows * embedding) + 4.0 * kv_positions * i->n_layers * i->n_heads * i->head_dim;
}

typedef struct floors {
    const cell *c;
    double      bytes, flops;
    int64_t     n;
} floors;

static jpt_status add_request(void *ud, const jpt_request_row *r) {
    floors *f = ud;
    double  bytes, flops;
    if (r->failed == 1 || r->forwards < 0 || r->positions_computed < 0 || r->prompt_tokens < 0)
        return JPT_OK;
    /* every position after the prompt reads the keys and values of those before it */
    double decoded = (double)(r->positions_computed - r->prompt_tokens), kv = decoded > 0 ? decoded * ((double)r->prompt_tokens + decoded / 2) : 0;
    double shared = f->c->n_batch < f->c->n_items * f->c->n_seeds ? f->c->n_batch : f->c->n_items * f->c->n_seeds;
    jpt_run_cost(f->c->e->e->model, (double)r->forwards / shared, (double)r->positions_computed, (double)(r->logits_rows > 0 ? r->logits_rows : 0), kv, &bytes, &flops);
    f->bytes += bytes;
    f->flops += flops;
    f->n++;
    return JPT_OK;
}

jpt_status run_put_floors(bench *b, jpt_error *err) {
    for (size_t i = 0; i < b->n_cells; i++) {
        const cell            *c = &b->cell[i];
        const jpt_calibration *k = c->e->e->calibration;
        jpt_needs              needs = {0};
        if (c->spec->strategy->needs)
            c->spec->strategy->needs(c->spec, &needs);
        if (!k || needs.assistant) /* a second model's work is not in these counts */
            continue;
        floors f = {.c = c};
        JPT_TRY(jpt_store_each_request(b->store, c->id, add_request, &f, err));
        if (f.n == 0)
            continue;
        jpt_floor_row r;
        jpt_floor_row_init(&r);
        r.cell = c->id;
        r.calibration = c->e->calibration;
        r.bytes = f.bytes / (double)f.n;
        r.flops = f.flops / (double)f.n;
        r.seconds = fmax(r.bytes / k->bytes_per_s, r.flops / k->flops_per_s);
        r.bytes_j = r.bytes * k->pj_per_byte * 1e-12;
        r.flops_j = r.flops * k->pj_per_flop * 1e-12;
        r.idle_j = isfinite(k->idle_w) ? k->idle_w * r.seconds : 0;
        r.floor_j = r.bytes_j + r.flops_j + r.idle_j;
        r.n = f.n;
        JPT_TRY(jpt_store_add_floor(b->store, &r, err));
    }
    return JPT_OK;
}
