/* Contrasting two distributions: DoLa takes an earlier layer's from the last one's, contrastive decoding an amateur's (a second
 * model, or the model's own early exit) from the expert's. */
#include "decode_priv.h"
#include <stdlib.h>
#include <string.h>

typedef struct contrast_state {
    built_chain chain;
    bool        prefilled, norm, sampling;
    int32_t     exit[JPT_EXIT_MAX], n_exit;
    jpt_contrast how;
    int32_t     token, n_emitted;
    token_list  history;
    jpt_session *amateur; /* NULL: the model's own exit */
    int32_t      amateur_from; /* first token of the prompt that it sees */
    jpt_seq      amateur_seq;
} contrast_state;

/* ---- layers ------------------------------------------------------------------------------------------------- */

/* transformers' buckets: hidden states by number, 0 is the embedding. */
static jpt_status dola_buckets(const char *text, int32_t L, bool tied, contrast_state *s, jpt_error *err) {
    int32_t first = !tied ? 0 : L > 2 ? 2 : L == 2 ? 1 : 0, from, to, step = 2;
    if (strcmp(text, "low") == 0) {
        from = first;
        to = L <= 40 ? L / 2 : 20;
        if (first >= L / 2) /* the one layer there is; with three tied layers transformers finds none and fails */
            to = first + 1;
    } else if (strcmp(text, "high") == 0) {
        from = L <= 40 ? L / 2 : L - 20;
        to = L;
    } else {
        for (const char *p = text; *p;) {
            char *end;
            long  layer = strtol(p, &end, 10);
            if (s->n_exit == JPT_EXIT_MAX)
                return JPT_FAIL(err, ARG, "dola_layers=%.64s...: at most %d layers", text, JPT_EXIT_MAX);
            if (end == p || (*end && *end != '/') || layer < 0)
                return JPT_FAIL(err, ARG, "dola_layers=%.64s: expected low, high or layers joined by / (0 is the embedding)", text);
            if (layer < L)
                s->exit[s->n_exit++] = (int32_t)layer;
            p = end + (*end == '/');
        }
        return s->n_exit ? JPT_OK : JPT_FAIL(err, ARG, "dola_layers=%.64s: none of them is below the model's last layer %d", text, L);
    }
    for (; from < to && s->n_exit < JPT_EXIT_MAX; from += step)
        s->exit[s->n_exit++] = from;
    return JPT_OK;
}

static jpt_status open_common(contrast_state *s, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    s->amateur_seq = -1;
    s->how.relative_top = (float)spec_value(spec, "relative_top", 0.1);
    s->sampling = spec->strategy->samples;
    JPT_TRY(jpt_chain_build(spec, ctx, s->sampling, &s->chain, err));
    return token_list_init(&s->history, ctx, err);
}

static jpt_status dola_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    contrast_state       *s = state;
    const jpt_model_info *i = jpt_model_get_info(jpt_session_model(ctx->session));
    JPT_TRY(open_common(s, ctx, spec, err));
    s->how.form = JPT_CONTRAST_DOLA;
    s->norm = spec_value(spec, "early_norm", 0) != 0;
    return dola_buckets(spec_string(spec, "dola_layers"), i->n_layers, i->tied, s, err);
}

jpt_status jpt_amateur(const jpt_spec *spec, const jpt_strategy_ctx *ctx, jpt_session **session, int32_t *layer, jpt_error *err) {
    int32_t L = jpt_model_get_info(jpt_session_model(ctx->session))->n_layers;
    *layer = (int32_t)spec_value(spec, "amateur_layer", 0);
    if (*layer > 0 && spec_value(spec, "ignore_prefix", 0) != 0)
        return JPT_FAIL(err, ARG, "ignore_prefix=true needs a draft model: the model's own layer %d has seen the prompt", *layer);
    *session = *layer > 0 ? NULL : jpt_session_assistant(ctx->session);
    if (!*session && *layer == 0)
        return JPT_FAIL(err, ARG, "contrastive decoding needs an amateur: --draft-model MODEL, or amateur_layer=N for the model's own layer N");
    if (*session && !jpt_session_assistant_shares_tokens(ctx->session))
        return JPT_FAIL(err, ARG, "contrastive decoding needs an amateur with the model's own tokenizer; %s has another",
                        jpt_model_get_info(jpt_session_model(*session))->path);
    if (*layer >= L)
        return JPT_FAIL(err, ARG, "amateur_layer=%d: expected a layer below the last, %d", *layer, L);
    return JPT_OK;
}

int32_t jpt_amateur_from(const jpt_spec *spec, const jpt_strategy_ctx *ctx) { return spec_value(spec, "ignore_prefix", 0) != 0 ? ctx->request->n_prompt - 1 : 0; }

static jpt_status cd_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    contrast_state *s = state;
    int32_t         layer;
    const char     *form = spec_string(spec, "form");
    JPT_TRY(open_common(s, ctx, spec, err));
    s->how.form = strcmp(form, "obrien") == 0 ? JPT_CONTRAST_LOGITS : JPT_CONTRAST_LOGPROBS;
    s->how.beta = (float)spec_value(spec, "beta", 0.5);
    s->how.temperature = (float)spec_value(spec, "amateur_temperature", 1);
    s->norm = true;
    JPT_TRY(jpt_amateur(spec, ctx, &s->amateur, &layer, err));
    s->amateur_from = jpt_amateur_from(spec, ctx);
    if (s->amateur)
        return jpt_seq_new(s->amateur, &s->amateur_seq, err);
    s->exit[s->n_exit++] = layer;
    return JPT_OK;
}

static jpt_status contrast_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    contrast_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    p->n_exit_layers = s->n_exit;
    memcpy(p->exit_layers, s->exit, sizeof s->exit);
    p->exit_without_norm = !s->norm;
    if (s->prefilled)
        return jpt_propose(p, ctx->seq, &s->token, 1, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
}

/* One forward of the amateur over what the expert has just read. */
static jpt_status ask_amateur(contrast_state *s, const jpt_strategy_ctx *ctx, int32_t *row, jpt_error *err) {
    jpt_batch_item item = {.seq = s->amateur_seq, .tokens = s->prefilled ? &s->token : ctx->request->prompt + s->amateur_from,
                           .n_tokens = s->prefilled ? 1 : ctx->request->n_prompt - s->amateur_from,
                           .logits = JPT_ROWS_LAST};
    jpt_batch      batch = {.items = &item, .n_items = 1};
    JPT_TRY(jpt_session_forward(s->amateur, &batch, err));
    ctx->work->draft_forwards++;
    ctx->work->draft_positions += (uint64_t)item.n_tokens;
    *row = item.logits_row;
    return JPT_OK;
}

static jpt_status contrast_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    contrast_state *s = state;
    int32_t         row = p->items[0].logits_row, amateur_row = 0;
    if (s->amateur)
        JPT_TRY(ask_amateur(s, ctx, &amateur_row, err));
    JPT_TRY(jpt_session_contrast(ctx->session, &s->how, &row, 1, s->amateur, &amateur_row, err));
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, s->sampling, s->n_emitted);
    jpt_selected    chosen;
    float           logprob;
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    JPT_TRY(jpt_session_expert(ctx->session, row, chosen.token, &logprob, err));
    s->prefilled = true;
    s->token = chosen.token;
    s->n_emitted++;
    token_list_add(&s->history, chosen.token);
    return jpt_emit(e, chosen.token, logprob, err);
}

static void contrast_close(void *state, const jpt_strategy_ctx *ctx) {
    (void)ctx;
    contrast_state *s = state;
    if (s->amateur && s->amateur_seq >= 0)
        jpt_seq_free(s->amateur, s->amateur_seq);
    free(s->history.p);
    jpt_chain_fini(&s->chain);
}

static jpt_status cd_check(const jpt_spec *spec, jpt_error *err) {
    const char *form = spec_string(spec, "form");
    if (strcmp(form, "li") != 0 && strcmp(form, "obrien") != 0)
        return JPT_FAIL(err, ARG, "form=%.32s: expected li or obrien", form);
    return jpt_chain_check(spec, err);
}

static jpt_status dola_check(const jpt_spec *spec, jpt_error *err) {
    contrast_state s = {0};
    JPT_TRY(dola_buckets(spec_string(spec, "dola_layers"), 1 << 20, false, &s, err));
    return jpt_chain_check(spec, err);
}

#define DOLA_PARAMS                                                                                                                  \
    {"dola_layers", JPT_PARAM_STRING, 0, 0, false, false, "low", "low, high, or layers joined by / (0 is the embedding)"}, JPT_PARAM_RELATIVE_TOP, \
        {"early_norm", JPT_PARAM_BOOL, 0, 1, false, false, "false", "final norm before the early head; the reference leaves it out"}, \
        JPT_PARAMS_PENALTIES("1.2"), JPT_PARAMS_DRY("0")
#define CUTS                                                                                                                         \
    JPT_PARAM_TEMPERATURE, {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},                      \
        {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"}
static const jpt_param_def dola_params[] = {DOLA_PARAMS};
static const jpt_param_def dola_sample_params[] = {DOLA_PARAMS, CUTS};
#define CD_PARAMS                                                                                                                    \
    {"form", JPT_PARAM_STRING, 0, 0, false, false, "obrien", "obrien: (1 + beta) expert - beta amateur, on logits; li: log p of the expert - beta log p of the amateur"}, \
        JPT_PARAMS_AMATEUR("0.5"), JPT_PARAMS_PROCESSORS
static const jpt_param_def cd_params[] = {CD_PARAMS};
static const jpt_param_def cd_sample_params[] = {CD_PARAMS, CUTS};

#define CONTRAST(id, cli_name, table, how, tells, draws, text, origin, price)                                                        \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "representation", .summary = (text), .source = (origin), .cost = (price),    \
                                            .params = (table), .n_params = sizeof(table) / sizeof(table)[0], .samples = (draws),      \
                                            .state_bytes = sizeof(contrast_state), .check = tells, .open = how, .propose = contrast_propose, \
                                            .consume = contrast_consume, .close = contrast_close}
CONTRAST(dola, "dola", dola_params, dola_open, dola_check, false, "the last layer's distribution against an early layer's", "Chuang et al. 2023; transformers 4.46 _dola_decoding",
         "1 forward of 1 row a token, and an LM head for each layer");
CONTRAST(dola_sample, "dola-sample", dola_sample_params, dola_open, dola_check, true, "DoLa, drawn", "Chuang et al. 2023; transformers 4.46 _dola_decoding",
         "1 forward of 1 row a token, and an LM head for each layer");
CONTRAST(cd, "cd", cd_params, cd_open, cd_check, false, "contrastive decoding: the expert against an amateur", "Li et al. 2023; O'Brien and Lewis 2023",
         "1 forward of 1 row a token, and one of the amateur");
CONTRAST(cd_sample, "cd-sample", cd_sample_params, cd_open, cd_check, true, "contrastive decoding, drawn", "O'Brien and Lewis 2023",
         "1 forward of 1 row a token, and one of the amateur");
