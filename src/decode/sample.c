/* Greedy search and ancestral sampling with truncation: one position, one row, one token a step.
 * Greedy applies processors but no warper; its ties go to the lowest id. */
#include "decode_priv.h"
#include <stdlib.h>

typedef struct sample_state {
    jpt_chain chain;
    int32_t   token;     /* last token, the next to be computed */
    int32_t   n_emitted; /* = step of the RNG key */
    bool      prefilled;
    int32_t  *history; /* prompt and text */
    int32_t   n_history, history_cap;
} sample_state;

static jpt_status sample_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    sample_state      *s = state;
    const jpt_request *r = ctx->request;
    jpt_chain_build(spec, ctx, spec->strategy->samples, &s->chain);
    s->history_cap = jpt_session_n_ctx(ctx->session); /* prompt and text fit the context */
    s->history = malloc((size_t)s->history_cap * sizeof *s->history);
    if (!s->history)
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    for (; s->n_history < r->n_prompt; s->n_history++)
        s->history[s->n_history] = r->prompt[s->n_history];
    return JPT_OK;
}

static jpt_status sample_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    sample_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (s->prefilled)
        return jpt_propose(p, ctx->seq, &s->token, 1, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
}

static jpt_status sample_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    sample_state      *s = state;
    const jpt_request *r = ctx->request;
    jpt_select_item    item = {.row = p->items[0].logits_row,
                               .chain = s->chain.n_links ? &s->chain : NULL,
                               .history = s->history,
                               .n_history = s->n_history,
                               .n_prompt = r->n_prompt,
                               .sample = r->spec->strategy->samples,
                               .key = {r->seed, r->prompt_index, 0, (uint32_t)s->n_emitted}};
    jpt_selected       chosen;
    s->prefilled = true;
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    s->token = chosen.token;
    if (s->n_history < s->history_cap)
        s->history[s->n_history++] = chosen.token;
    s->n_emitted++;
    return jpt_emit(e, chosen.token, chosen.logprob, err);
}

static void sample_close(void *state, const jpt_strategy_ctx *ctx) {
    (void)ctx;
    free(((sample_state *)state)->history);
}

#define TEMPERATURE {"temperature", JPT_PARAM_FLOAT, 1e-6, 100, false, false, "1", "divides the logits before truncation"}

static const jpt_param_def greedy_params[] = {JPT_PARAMS_PROCESSORS};
static const jpt_param_def sample_params[] = {
    TEMPERATURE,
    {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},
    {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},
    {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p"},
    {"typical_p", JPT_PARAM_FLOAT, 0, 1, true, false, "1", "keeps this mass nearest to the entropy"},
    {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= epsilon"},
    {"eta_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= min(eta, sqrt(eta) exp(-entropy))"},
    JPT_PARAMS_PROCESSORS,
};
static const jpt_param_def top_k_params[] = {
    {"top_k", JPT_PARAM_INT, 1, 1 << 24, false, false, "50", "keeps the k best (ties of the k-th stay)"}, TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def top_p_params[] = {
    {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0.9", "keeps the smallest set of at least this mass"}, TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def min_p_params[] = {
    {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0.05", "keeps p >= min_p * max p"}, TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def typical_params[] = {
    {"typical_p", JPT_PARAM_FLOAT, 0, 1, true, false, "0.95", "keeps this mass nearest to the entropy"}, TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def epsilon_params[] = {
    {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, true, true, "0.0006", "keeps p >= epsilon"}, TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def eta_params[] = {
    {"eta_cutoff", JPT_PARAM_FLOAT, 0, 1, true, true, "0.0006", "keeps p >= min(eta, sqrt(eta) exp(-entropy))"}, TEMPERATURE,
    JPT_PARAMS_PROCESSORS};

#define STRATEGY(id, cli_name, does_sample, table, text, origin)                                                                    \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .summary = (text), .source = (origin), .params = (table),            \
                                            .n_params = sizeof(table) / sizeof(table)[0], .samples = (does_sample), .n_seqs = 1,     \
                                            .state_bytes = sizeof(sample_state), .open = sample_open, .propose = sample_propose,     \
                                            .consume = sample_consume, .close = sample_close}

STRATEGY(greedy, "greedy", false, greedy_params, "the most likely token each step", NULL);
STRATEGY(sample, "sample", true, sample_params, "draw from the distribution, with any truncation in HF's order", "transformers 4.46 LogitsWarpers");
STRATEGY(top_k, "top-k", true, top_k_params, "draw among the k best", "Fan et al. 2018");
STRATEGY(top_p, "top-p", true, top_p_params, "nucleus sampling", "Holtzman et al. 2020");
STRATEGY(min_p, "min-p", true, min_p_params, "draw among tokens near the best", "Nguyen et al. 2024");
STRATEGY(typical, "typical", true, typical_params, "locally typical sampling", "Meister et al. 2022");
STRATEGY(epsilon, "epsilon", true, epsilon_params, "draw among tokens above a probability", "Hewitt et al. 2022");
STRATEGY(eta, "eta", true, eta_params, "epsilon that adapts to the entropy", "Hewitt et al. 2022");
