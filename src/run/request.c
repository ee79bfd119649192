/* One request: prompt to ids, and generation inside a metered window. */
#include <jpt/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

jpt_status jpt_run_encode_prompt(const jpt_model *m, const char *system, const char *prompt, bool chat, jpt_ids *out, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(m);
    jpt_chat_kind        kind = chat ? jpt_chat_detect(jpt_model_chat_template(m)) : JPT_CHAT_NONE;
    if (kind == JPT_CHAT_NONE)
        return jpt_tokenizer_encode(tok, prompt, strlen(prompt), JPT_ENCODE_ADD_SPECIAL, out, err);
    jpt_chat_message msg[2];
    size_t           n = 0;
    jpt_buf          text = {0};
    if (system && *system)
        msg[n++] = (jpt_chat_message){jpt_str_z("system"), jpt_str_z(system)};
    msg[n++] = (jpt_chat_message){jpt_str_z("user"), jpt_str_z(prompt)};
    jpt_status st = jpt_chat_format(kind, tok, msg, n, true, &text, err);
    if (st == JPT_OK)
        st = jpt_tokenizer_encode(tok, text.p ? text.p : "", text.n, JPT_ENCODE_PARSE_SPECIAL, out, err);
    jpt_buf_fini(&text);
    return st;
}

jpt_status jpt_run_open_sessions(jpt_model *m, jpt_model *draft, const jpt_spec *const *spec, size_t n, int32_t n_batch, int32_t n_ctx, jpt_session **out,
                                 jpt_session **out_draft, jpt_error *err) {
    jpt_session_options so = {.n_ctx = n_ctx}, dso;
    *out = *out_draft = NULL;
    jpt_spec_session_options(spec, n, n_batch, &so);
    int32_t draft_seqs = 1;
    for (size_t i = 0; i < n; i++) {
        jpt_needs needs = {0};
        if (spec[i]->strategy->needs)
            spec[i]->strategy->needs(spec[i], &needs);
        draft_seqs = needs.n_assistant_seqs > draft_seqs ? needs.n_assistant_seqs : draft_seqs;
        if (needs.assistant && !draft)
            return JPT_FAIL(err, ARG, "strategy '%s' needs a second model: --draft-model MODEL", spec[i]->text);
    }
    JPT_TRY(jpt_session_open(m, &so, out, err));
    if (!draft)
        return JPT_OK;
    dso = (jpt_session_options){.n_ctx = jpt_session_n_ctx(*out), .n_seqs = draft_seqs * n_batch, .n_outputs = draft_seqs, .page_size = draft_seqs > 1 ? 1 : 16};
    jpt_status st = jpt_session_open(draft, &dso, out_draft, err);
    if (st == JPT_OK)
        st = jpt_session_set_assistant(*out, *out_draft, err);
    if (st != JPT_OK) {
        jpt_session_close(*out);
        jpt_session_close(*out_draft);
        *out = *out_draft = NULL;
    }
    return st;
}

typedef struct events {
    jpt_phase_event *e;
    size_t           n, cap;
} events;

static void record(void *ud, jpt_phase phase, bool begin, int64_t t_ns) {
    events *v = ud;
    if (v->n == v->cap)
        return; /* sized for the longest request below; later events count as "other" */
    v->e[v->n++] = (jpt_phase_event){(double)t_ns * 1e-9, (int32_t)phase, begin};
}

static double joules_of(void *ud) {
    jpt_reading r;
    return jpt_meter_read(ud, &r, NULL) == JPT_OK ? r.energy_j : NAN;
}

jpt_status jpt_run_request(jpt_session *s, jpt_meter *meter, double idle_w, const jpt_request *r, jpt_generation *g,
                           jpt_run_request_energy *out, jpt_error *err) {
    events v = {.cap = 64 + 64 * (size_t)(r->max_new_tokens < 1 << 20 ? r->max_new_tokens : 1 << 20)};
    v.e = malloc(v.cap * sizeof *v.e);
    if (!v.e)
        return JPT_FAIL(err, NOMEM, "out of memory for phase events");
    jpt_window w;
    jpt_session *assistant = jpt_session_assistant(s);
    jpt_session_observe(s, record, &v);
    if (assistant) {
        jpt_session_observe(assistant, record, &v);
        jpt_session_set_phase(assistant, JPT_PHASE_DRAFT);
    }
    jpt_window_begin_aligned(&w, meter);
    jpt_request metered = *r;
    if (metered.max_joules > 0 && !metered.joules)
        metered.joules = joules_of, metered.joules_ud = meter;
    jpt_status st = jpt_generate(s, &metered, 1, 1, g, NULL, NULL, err);
    jpt_window_end(&w, idle_w, &out->energy);
    jpt_session_observe(s, NULL, NULL);
    if (assistant)
        jpt_session_observe(assistant, NULL, NULL);
    jpt_attribute(v.e, v.n, w.facts.begin.t_s, w.facts.begin.t_s + out->energy.duration_s, out->energy.energy_j, JPT_PHASE_COUNT, out->phase_j);
    free(v.e);
    return st;
}
