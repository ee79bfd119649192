/* What a bench will take, before it runs. */
#include "run_priv.h"

enum { WIDTHS = 7, PROMPT = 64, REPEATS = 4 }; /* 1, 2, 4, ... 64 rows */

typedef struct probe {
    double step_s[WIDTHS]; /* a forward of 2^i rows */
    double prefill_s;      /* a position of a prompt */
    double watts;
} probe;

static jpt_status time_forward(jpt_session *s, jpt_seq seq, const int32_t *tokens, int32_t n, double *out, jpt_error *err) {
    double best = INFINITY;
    for (int i = 0; i < REPEATS; i++) {
        jpt_batch_item item = {.seq = seq, .tokens = tokens, .n_tokens = n, .logits = JPT_ROWS_ALL};
        jpt_batch      batch = {.items = &item, .n_items = 1};
        int32_t        before = jpt_seq_length(s, seq);
        double         t0 = jpt_now_s();
        JPT_TRY(jpt_session_forward(s, &batch, err));
        jpt_session_wait(s);
        best = fmin(best, jpt_now_s() - t0);
        JPT_TRY(jpt_seq_truncate(s, seq, before, err));
    }
    *out = best;
    return JPT_OK;
}

static jpt_status run_probe(const jpt_run_engine *e, probe *p, jpt_error *err) {
    jpt_session_options so = {.n_ctx = 256, .n_outputs = 64};
    jpt_session        *s;
    jpt_seq             seq;
    jpt_window          w;
    jpt_energy          energy;
    int32_t             tokens[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++)
        tokens[i] = (i * 37 + 11) % jpt_model_get_info(e->model)->n_vocab;
    JPT_TRY(jpt_session_open(e->model, &so, &s, err));
    jpt_status st = jpt_seq_new(s, &seq, err);
    double     prefill = 0;
    if (st == JPT_OK)
        st = time_forward(s, seq, tokens, PROMPT, &prefill, err); /* warms up, too */
    p->prefill_s = prefill / PROMPT;
    jpt_window_begin(&w, e->meter);
    double begun = jpt_now_s();
    for (bool again = true; st == JPT_OK && again; again = jpt_now_s() - begun < 2.5 && !jpt_meter_get_limits(e->meter)->modelled)
        for (int i = 0; st == JPT_OK && i < WIDTHS; i++)
            st = time_forward(s, seq, tokens, 1 << i, &p->step_s[i], err);
    jpt_window_end(&w, NAN, &energy);
    p->watts = energy.valid ? energy.mean_w : NAN;
    jpt_session_close(s);
    return st;
}

static double step_of(const probe *p, double rows) {
    double  at = log2(rows < 1 ? 1 : rows > 64 ? 64 : rows);
    int     i = (int)at < WIDTHS - 1 ? (int)at : WIDTHS - 2;
    double  f = at - i;
    return (1 - f) * p->step_s[i] + f * p->step_s[i + 1];
}

/* Seconds of a cell's requests in one block. */
static double cell_seconds(const probe *p, const jpt_spec *spec, int32_t n_batch, double prompt, double items, double n_new) {
    const jpt_strategy *st = spec->strategy;
    jpt_needs           needs = {.n_outputs = 1};
    if (st->needs && strcmp(st->family, "speculative") != 0)
        st->needs(spec, &needs);
    double together = n_batch < items ? n_batch : items;
    return prompt * p->prefill_s + items / together * n_new * step_of(p, needs.n_outputs * together);
}

jpt_status jpt_run_dry(const jpt_run_options *o, jpt_run_estimate *out, jpt_error *err) {
    JPT_TRY(run_check_options(o, err));
    *out = (jpt_run_estimate){.configurations = (int64_t)o->specs->n, .energy_j = 0};
    for (size_t i = 0; i < o->n_engines; i++) {
        const jpt_run_engine *e = &o->engines[i];
        char                  name[256];
        probe                 p = {0};
        bool                  counts = jpt_meter_measures(e->meter);
        jpt_run_windows       rule = run_window_rule(o, e->meter);
        double                engine_s = 0, idle_s = 0;
        run_model_name(e->model, name);
        JPT_TRY(run_probe(e, &p, err));
        for (size_t t = 0; t < o->n_tasks; t++) {
            const jpt_task_info *ti = jpt_task_get_info(o->tasks[t]);
            int32_t              items = run_n_items(o, o->tasks[t]), n_new = o->max_new_tokens > 0 ? o->max_new_tokens : ti->max_new_tokens;
            double               prompt = 0;
            for (int32_t k = 0; k < items; k++) {
                jpt_ids ids = {0};
                JPT_TRY(jpt_run_encode_prompt(e->model, ti->system, jpt_task_get_item(o->tasks[t], (size_t)k)->prompt, ti->chat, &ids, err));
                prompt += (double)ids.n;
                jpt_ids_fini(&ids);
            }
            for (size_t k = 0; k < o->specs->n; k++)
                for (size_t q = 0; q < (o->n_batches ? o->n_batches : 1); q++) {
                    const jpt_spec *spec = &o->specs->spec[k];
                    int32_t         n_batch = o->n_batches ? o->batches[q] : 1, seeds = spec->strategy->samples && o->n_seeds > 1 ? (int32_t)o->n_seeds : 1;
                    if (run_excluded(o, name, e->device, ti->name, spec->text, n_batch))
                        continue;
                    double s = seeds * cell_seconds(&p, spec, n_batch, prompt, items, n_new), windows = counts ? fmax(1, floor(s / rule.seconds)) : 0;
                    if (counts && s < rule.seconds)
                        s = ceil(rule.seconds / s) * s; /* whole replications */
                    out->cells++;
                    out->requests += (int64_t)items * seeds * o->n_blocks;
                    out->windows += (int64_t)windows * o->n_blocks;
                    engine_s += s * o->n_blocks;
                    idle_s += windows * rule.idle_s * o->n_blocks;
                }
        }
        if (counts && rule.sentinel >= 0) {
            out->windows += 2 * o->n_blocks;
            engine_s += 2 * rule.seconds * o->n_blocks;
            idle_s += 2 * rule.idle_s * o->n_blocks;
        }
        out->seconds += engine_s + idle_s;
        out->energy_j += p.watts * engine_s + 0.5 * p.watts * idle_s; /* idle power is not probed */
        out->modelled = out->modelled || jpt_meter_get_limits(e->meter)->modelled;
        if (i == 0) {
            out->step_s = p.step_s[0];
            out->watts = p.watts;
        }
    }
    return JPT_OK;
}
