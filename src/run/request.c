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
    n_batch = n_batch < 1 ? 1 : n_batch;
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

/* Divide a window among its requests; see JPT_RUN_SHARE. */
static void share(const jpt_energy *w, const double phase_j[JPT_PHASE_COUNT + 1], const jpt_generation *g, int32_t n, jpt_run_request_energy *out) {
    double prefill_s = 0, decode_s = 0;
    for (int32_t i = 0; i < n; i++) {
        prefill_s += g[i].prefill_share_s;
        decode_s += g[i].decode_share_s;
    }
    for (int32_t i = 0; i < n; i++) {
        double own = g[i].prefill_share_s + g[i].decode_share_s, part = prefill_s + decode_s > 0 ? own / (prefill_s + decode_s) : 1.0 / n, joules = 0;
        for (int p = 0; p <= JPT_PHASE_COUNT; p++) {
            double f = p == JPT_PHASE_COUNT || (p == JPT_PHASE_PREFILL ? prefill_s : decode_s) <= 0 ? part
                       : p == JPT_PHASE_PREFILL                                                     ? g[i].prefill_share_s / prefill_s
                                                                                                    : g[i].decode_share_s / decode_s;
            out[i].phase_j[p] = n == 1 ? phase_j[p] : f * phase_j[p];
            joules += out[i].phase_j[p];
        }
        out[i].energy = *w;
        if (n == 1)
            continue;
        double f = w->energy_j > 0 ? joules / w->energy_j : part;
        out[i].energy.energy_j = joules;
        out[i].energy.error_j *= f;
        out[i].energy.net_energy_j *= f;
        out[i].energy.edge_correction_j *= f;
        out[i].energy.integral_j *= f;
    }
}

jpt_status jpt_run_requests(jpt_session *s, jpt_meter *meter, double idle_w, const jpt_request *r, int32_t n, int32_t n_batch, jpt_generation *g,
                            jpt_run_request_energy *out, jpt_error *err) {
    size_t tokens = 0;
    for (int32_t i = 0; i < n; i++)
        tokens += (size_t)(r[i].max_new_tokens < 1 << 20 ? r[i].max_new_tokens : 1 << 20);
    events       v = {.cap = 64 * (size_t)n + 64 * tokens};
    jpt_request *metered = malloc((size_t)n * sizeof *metered);
    v.e = malloc(v.cap * sizeof *v.e);
    if (!v.e || !metered) {
        free(v.e);
        free(metered);
        return JPT_FAIL(err, NOMEM, "out of memory for phase events");
    }
    jpt_window   w;
    jpt_energy   energy;
    double       phase_j[JPT_PHASE_COUNT + 1];
    jpt_session *assistant = jpt_session_assistant(s);
    jpt_session_observe(s, record, &v);
    if (assistant) {
        jpt_session_observe(assistant, record, &v);
        jpt_session_set_phase(assistant, JPT_PHASE_DRAFT);
    }
    memcpy(metered, r, (size_t)n * sizeof *r);
    for (int32_t i = 0; i < n; i++)
        if (metered[i].max_joules > 0 && !metered[i].joules)
            metered[i].joules = joules_of, metered[i].joules_ud = meter;
    jpt_window_begin_aligned(&w, meter);
    jpt_status st = jpt_generate(s, metered, n, n_batch, g, NULL, NULL, err);
    jpt_window_end(&w, idle_w, &energy);
    jpt_session_observe(s, NULL, NULL);
    if (assistant)
        jpt_session_observe(assistant, NULL, NULL);
    jpt_attribute(v.e, v.n, w.facts.begin.t_s, w.facts.begin.t_s + energy.duration_s, energy.energy_j, JPT_PHASE_COUNT, phase_j);
    share(&energy, phase_j, g, n, out);
    free(v.e);
    free(metered);
    return st;
}
