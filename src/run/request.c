/* Requests: prompt to ids, generation inside a metered window, and whose the joules are. */
#include "run_priv.h"
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

/* ---- a metered window over a session ------------------------------------------------------------------------------ */

static void observe(void *ud, jpt_phase phase, bool begin, int64_t t_ns) { jpt_profile_event(ud, (int32_t)phase, begin, (double)t_ns * 1e-9); }

static double joules_of(void *ud) {
    jpt_reading r;
    return jpt_meter_read(ud, &r, NULL) == JPT_OK ? r.energy_j : NAN;
}

jpt_status run_window_init(run_window *w, jpt_error *err) {
    *w = (run_window){0};
    w->samples = malloc(RUN_SAMPLES * sizeof *w->samples);
    if (!w->samples)
        return JPT_FAIL(err, NOMEM, "out of memory for power samples");
    return jpt_profile_init(&w->profile, JPT_PHASE_COUNT, err);
}

void run_window_fini(run_window *w) {
    free(w->samples);
    jpt_profile_fini(&w->profile);
    *w = (run_window){0};
}

void run_window_open(run_window *w, jpt_session *s, jpt_meter *meter) {
    jpt_session *assistant = jpt_session_assistant(s);
    w->session = s;
    w->n_samples = 0;
    jpt_window_begin_aligned(&w->window, meter);
    jpt_profile_start(&w->profile, w->window.facts.begin.t_s);
    jpt_session_observe(s, observe, &w->profile);
    if (assistant) {
        jpt_session_observe(assistant, observe, &w->profile);
        jpt_session_set_phase(assistant, JPT_PHASE_DRAFT);
    }
}

void run_window_close(run_window *w, double idle_w, jpt_energy *out) {
    jpt_session *assistant = jpt_session_assistant(w->session);
    jpt_window_end(&w->window, idle_w, out);
    jpt_session_observe(w->session, NULL, NULL);
    if (assistant)
        jpt_session_observe(assistant, NULL, NULL);
    double t0 = w->window.facts.begin.t_s, t1 = t0 + out->duration_s;
    jpt_profile_end(&w->profile, t1);
    w->n_samples = out->max_gap_s <= 0.5 ? jpt_meter_samples(w->window.meter, t0 - 0.5, t1 + 0.5, w->samples, RUN_SAMPLES) : 0;
}

void run_window_books(const run_window *w, double idle_w, jpt_energy *e, jpt_ledger *out) {
    e->idle_w = idle_w;
    e->net_energy_j = isnan(idle_w) ? NAN : e->energy_j - idle_w * e->duration_s;
    jpt_ledger_split(&w->profile, w->samples, w->n_samples, e->energy_j, idle_w, out);
}

jpt_status run_generate(run_window *w, const jpt_request *r, int32_t n, int32_t n_batch, jpt_generation *g, jpt_error *err) {
    jpt_request *metered = malloc((size_t)n * sizeof *metered);
    if (!metered)
        return JPT_FAIL(err, NOMEM, "out of memory for %d requests", n);
    memcpy(metered, r, (size_t)n * sizeof *r);
    for (int32_t i = 0; i < n; i++)
        if (metered[i].max_joules > 0 && !metered[i].joules)
            metered[i].joules = joules_of, metered[i].joules_ud = w->window.meter;
    jpt_status st = jpt_generate(w->session, metered, n, n_batch, g, NULL, NULL, err);
    free(metered);
    return st;
}

/* ---- whose joules ------------------------------------------------------------------------------------------------------ */

void run_share(const jpt_energy *w, const jpt_ledger *l, const jpt_generation *g, int32_t n, int32_t replications, jpt_run_request_energy *out) {
    double prefill_s = 0, decode_s = 0, gross[JPT_PHASE_COUNT + 1];
    for (int32_t i = 0; i < n; i++) {
        prefill_s += g[i].prefill_share_s;
        decode_s += g[i].decode_share_s;
    }
    for (int p = 0; p <= JPT_PHASE_COUNT; p++) /* gross again: a phase carries the idle power of its own time */
        gross[p] = (l->phase_j[p] + (isnan(l->idle_j) ? 0 : w->idle_w * l->phase_s[p]) + (p == JPT_PHASE_COUNT ? l->residual_j : 0)) / replications;
    for (int32_t i = 0; i < n; i++) {
        double own = g[i].prefill_share_s + g[i].decode_share_s, part = prefill_s + decode_s > 0 ? own / (prefill_s + decode_s) : 1.0 / n, joules = 0;
        for (int p = 0; p <= JPT_PHASE_COUNT; p++) {
            double f = p == JPT_PHASE_COUNT || (p == JPT_PHASE_PREFILL ? prefill_s : decode_s) <= 0 ? part
                       : p == JPT_PHASE_PREFILL                                                     ? g[i].prefill_share_s / prefill_s
                                                                                                    : g[i].decode_share_s / decode_s;
            out[i].phase_j[p] = n == 1 ? gross[p] : f * gross[p];
            joules += out[i].phase_j[p];
        }
        out[i].energy = *w;
        if (n == 1 && replications == 1)
            continue;
        double all_j = w->energy_j / replications, f = all_j > 0 ? joules / all_j : part;
        out[i].energy.energy_j = joules;
        out[i].energy.error_j *= f / replications;
        out[i].energy.net_energy_j = joules - w->idle_w * w->duration_s / replications * part; /* NAN without a baseline */
        out[i].energy.edge_correction_j *= f / replications;
        out[i].energy.integral_j *= f / replications;
    }
}

jpt_status jpt_run_requests(jpt_session *s, jpt_meter *meter, double idle_w, const jpt_request *r, int32_t n, int32_t n_batch, jpt_generation *g,
                            jpt_run_request_energy *out, jpt_error *err) {
    run_window w;
    jpt_energy energy;
    jpt_ledger books;
    jpt_status st = run_window_init(&w, err);
    if (st == JPT_OK) {
        run_window_open(&w, s, meter);
        st = run_generate(&w, r, n, n_batch, g, err);
        run_window_close(&w, idle_w, &energy);
        run_window_books(&w, idle_w, &energy, &books);
        run_share(&energy, &books, g, n, 1, out);
    }
    run_window_fini(&w);
    return st;
}

void jpt_run_fate(const jpt_spec *spec, int32_t n_prompt, const jpt_generation *g, const jpt_run_request_energy *e, jpt_run_fates *out) {
    double decoded = (double)g->work.positions_computed - n_prompt, gone = (double)g->work.positions_discarded, past = g->n_past_stop;
    double rest_j = e->energy.energy_j - e->phase_j[JPT_PHASE_PREFILL];
    double f_past = decoded > 0 ? fmin(past / decoded, 1) : 0, f_gone = decoded > 0 ? fmin(fmax(gone - past, 0) / decoded, 1 - f_past) : 0;
    bool   drafts = strcmp(spec->strategy->family, "speculative") == 0;
    out->past_stop_j = f_past * rest_j;
    out->rejected_j = drafts ? f_gone * rest_j : 0 * rest_j;
    out->pruned_j = drafts ? 0 * rest_j : f_gone * rest_j;
    out->kept_j = e->energy.energy_j - out->past_stop_j - out->rejected_j - out->pruned_j;
}
