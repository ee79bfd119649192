/* Plans: a bench as a YAML file, and what it will take before it runs. */
#include <jpt/run.h>
#include <jpt/yaml.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cyaml_schema_value_t string_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};
static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, jpt_plan, name, 1, 100),
    CYAML_FIELD_STRING_PTR("description", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, description, 0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("model", CYAML_FLAG_POINTER, jpt_plan, model, 1, 4000),
    CYAML_FIELD_STRING_PTR("draft_model", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, draft_model, 1, 4000),
    CYAML_FIELD_STRING_PTR("compat", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, compat, 1, 100),
    CYAML_FIELD_SEQUENCE("tasks", CYAML_FLAG_POINTER, jpt_plan, tasks, &string_entry, 1, 64),
    CYAML_FIELD_SEQUENCE("strategies", CYAML_FLAG_POINTER, jpt_plan, strategies, &string_entry, 1, 4096),
    CYAML_FIELD_INT("seed", CYAML_FLAG_OPTIONAL, jpt_plan, seed),
    CYAML_FIELD_INT("blocks", CYAML_FLAG_OPTIONAL, jpt_plan, blocks),
    CYAML_FIELD_INT("limit", CYAML_FLAG_OPTIONAL, jpt_plan, limit),
    CYAML_FIELD_INT("max_new_tokens", CYAML_FLAG_OPTIONAL, jpt_plan, max_new_tokens),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, jpt_plan, fields)};

jpt_status jpt_plan_load(const char *path, jpt_plan **out, jpt_spec_list *specs, jpt_error *err) {
    jpt_buf    text = {0};
    void      *data = NULL;
    jpt_error  why = {0};
    jpt_status st = jpt_text_read(path, &text, err);
    if (st == JPT_OK)
        st = jpt_yaml_load(path, &text, &schema, &data, err);
    jpt_plan *p = data;
    for (unsigned i = 0; st == JPT_OK && i < p->strategies_count; i++)
        if (jpt_spec_parse(p->strategies[i], specs, &why) != JPT_OK)
            st = JPT_FAIL(err, FORMAT, "%s: %s", path, why.msg);
    if (st == JPT_OK && (p->seed < 0 || p->blocks < 0 || p->limit < 0 || p->max_new_tokens < 0))
        st = JPT_FAIL(err, FORMAT, "%s: seed %d, blocks %d, limit %d, max_new_tokens %d: expected none below 0", path, p->seed, p->blocks, p->limit, p->max_new_tokens);
    jpt_buf_fini(&text);
    if (st != JPT_OK)
        jpt_plan_free(p);
    else
        *out = p;
    return st;
}

void jpt_plan_free(jpt_plan *p) { jpt_yaml_free(&schema, p); }

/* ---- dry run ------------------------------------------------------------------------------------------------- */

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
        best = fmin(best, jpt_now_s() - t0);
        JPT_TRY(jpt_seq_truncate(s, seq, before, err));
    }
    *out = best;
    return JPT_OK;
}

static jpt_status run_probe(const jpt_run_options *o, probe *p, jpt_error *err) {
    jpt_session_options so = {.n_ctx = 256, .n_outputs = 64};
    jpt_session        *s;
    jpt_seq             seq;
    jpt_window          w;
    jpt_energy          e;
    int32_t             tokens[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++)
        tokens[i] = (i * 37 + 11) % jpt_model_get_info(o->model)->n_vocab;
    JPT_TRY(jpt_session_open(o->model, &so, &s, err));
    jpt_status st = jpt_seq_new(s, &seq, err);
    double     prefill = 0;
    if (st == JPT_OK)
        st = time_forward(s, seq, tokens, PROMPT, &prefill, err); /* warms up, too */
    p->prefill_s = prefill / PROMPT;
    jpt_window_begin(&w, o->meter);
    double begun = jpt_now_s();
    for (bool again = true; st == JPT_OK && again; again = jpt_now_s() - begun < 2.5 && !jpt_meter_get_limits(o->meter)->modelled)
        for (int i = 0; st == JPT_OK && i < WIDTHS; i++)
            st = time_forward(s, seq, tokens, 1 << i, &p->step_s[i], err);
    jpt_window_end(&w, NAN, &e);
    p->watts = e.valid ? e.mean_w : NAN;
    jpt_session_close(s);
    return st;
}

static double step_of(const probe *p, double rows) {
    double  at = log2(rows < 1 ? 1 : rows > 64 ? 64 : rows);
    int     i = (int)at < WIDTHS - 1 ? (int)at : WIDTHS - 2;
    double  f = at - i;
    return (1 - f) * p->step_s[i] + f * p->step_s[i + 1];
}

jpt_status jpt_run_dry(const jpt_run_options *o, jpt_run_estimate *out, jpt_error *err) {
    probe p = {0};
    *out = (jpt_run_estimate){.configurations = (int64_t)o->specs->n, .seconds = 0, .energy_j = NAN, .modelled = jpt_meter_get_limits(o->meter)->modelled};
    JPT_TRY(run_probe(o, &p, err));
    for (size_t t = 0; t < o->n_tasks; t++) {
        const jpt_task_info *ti = jpt_task_get_info(o->tasks[t]);
        int64_t              items = o->limit > 0 && (size_t)o->limit < ti->n_items ? o->limit : (int64_t)ti->n_items;
        int32_t              n_new = o->max_new_tokens > 0 ? o->max_new_tokens : ti->max_new_tokens; /* max_total_tokens may end it earlier */
        double               prompt = 0;
        for (int64_t i = 0; i < items; i++) {
            jpt_ids ids = {0};
            JPT_TRY(jpt_run_encode_prompt(o->model, ti->system, jpt_task_get_item(o->tasks[t], (size_t)i)->prompt, ti->chat, &ids, err));
            prompt += (double)ids.n;
            jpt_ids_fini(&ids);
        }
        for (size_t k = 0; k < o->specs->n; k++) {
            const jpt_strategy *st = o->specs->spec[k].strategy;
            jpt_needs           needs = {.n_outputs = 1};
            if (st->needs && strcmp(st->family, "speculative") != 0)
                st->needs(&o->specs->spec[k], &needs);
            out->requests += items * o->n_blocks;
            out->seconds += o->n_blocks * (prompt * p.prefill_s + (double)items * n_new * step_of(&p, needs.n_outputs));
        }
    }
    out->step_s = p.step_s[0];
    out->watts = p.watts;
    out->energy_j = p.watts * out->seconds;
    return JPT_OK;
}
