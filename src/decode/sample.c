/* Greedy search and ancestral sampling with truncation: one position, one row, one token a step.
 * Greedy applies processors but no warper; its ties go to the lowest id. */
#include "decode_priv.h"
#include <stdlib.h>

typedef struct sample_state {
    built_chain chain;
    int32_t     token;     /* last token, the next to be computed */
    int32_t     n_emitted; /* = step of the RNG key */
    bool        prefilled;
    token_list  history;
} sample_state;

static jpt_status sample_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    sample_state *s = state;
    JPT_TRY(jpt_chain_build(spec, ctx, spec->strategy->samples, &s->chain, err));
    return token_list_init(&s->history, ctx, err);
}

static jpt_status sample_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    sample_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (s->prefilled)
        return jpt_propose(p, ctx->seq, &s->token, 1, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
}

static jpt_status sample_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    sample_state   *s = state;
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, p->items[0].logits_row, ctx->request->spec->strategy->samples, s->n_emitted);
    jpt_selected    chosen;
    s->prefilled = true;
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    s->token = chosen.token;
    token_list_add(&s->history, chosen.token);
    s->n_emitted++;
    return jpt_emit(e, chosen.token, chosen.logprob, err);
}

static void sample_close(void *state, const jpt_strategy_ctx *ctx) {
    (void)ctx;
    sample_state *s = state;
    jpt_chain_fini(&s->chain);
    free(s->history.p);
}

static const jpt_param_def greedy_params[] = {JPT_PARAMS_PROCESSORS};
static const jpt_param_def sample_params[] = {JPT_PARAM_TEMPERATURE, JPT_PARAMS_WARPERS, JPT_PARAMS_PROCESSORS};
/* One method with its own knob first, then temperature and the processors. */
#define OWN(id, ...) static const jpt_param_def id##_params[] = {__VA_ARGS__, JPT_PARAM_TEMPERATURE, JPT_PARAMS_PROCESSORS}
OWN(top_k, {"top_k", JPT_PARAM_INT, 1, 1 << 24, false, false, "50", "keeps the k best (ties of the k-th stay)"});
OWN(top_p, {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0.9", "keeps the smallest set of at least this mass"});
OWN(min_p, {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0.05", "keeps p >= min_p * max p"});
OWN(typical, {"typical_p", JPT_PARAM_FLOAT, 0, 1, true, false, "0.95", "keeps this mass nearest to the entropy"}, JPT_PARAM_KEEP);
OWN(epsilon, {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, true, true, "0.0006", "keeps p >= epsilon"});
OWN(eta, {"eta_cutoff", JPT_PARAM_FLOAT, 0, 1, true, true, "0.0006", "keeps p >= min(eta, sqrt(eta) exp(-entropy))"});
OWN(top_h, {"top_h", JPT_PARAM_FLOAT, 0, 1, true, false, "0.4", "keeps the best tokens up to this share of the entropy of the 100 best"});
OWN(top_n_sigma, {"top_n_sigma", JPT_PARAM_FLOAT, 0, 100, true, false, "1", "keeps scores within n standard deviations of the best"});
OWN(top_a, {"top_a", JPT_PARAM_FLOAT, 0, 1, false, false, "0.2", "keeps p >= top_a * (max p)^2"});
OWN(p_less, {"p_less", JPT_PARAM_BOOL, 0, 1, false, false, "true", "keeps p >= sum of p^2; no parameter of its own"});
OWN(xtc, {"xtc_probability", JPT_PARAM_FLOAT, 0, 1, false, false, "0.5", "how often the top choices are excluded"},
    {"xtc_threshold", JPT_PARAM_FLOAT, 0, 1, false, false, "0.1", "of tokens with at least this p only the least likely stays; above 0.5: off"},
    {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0.02", "keeps p >= min_p * max p before"});
static const jpt_param_def dry_params[] = {JPT_PARAMS_DRY("0.8"), {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},
                                           JPT_PARAM_TEMPERATURE, JPT_PARAMS_PENALTIES("1")};
OWN(dynatemp, {"dynatemp_range", JPT_PARAM_FLOAT, 0, 100, false, false, "0.5", "temperature - range to temperature + range, by the entropy"},
    {"dynatemp_exponent", JPT_PARAM_FLOAT, 0.01, 100, false, false, "1", "of the normalised entropy"});
OWN(smoothing, {"smoothing_factor", JPT_PARAM_FLOAT, 0, 100, true, false, "0.3", "of the quadratic transformation"},
    {"smoothing_curve", JPT_PARAM_FLOAT, 1, 10, false, false, "1", "above 1: a cubic part"});

#define STRATEGY(id, cli_name, does_sample, text, origin)                                                                           \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = does_sample ? "sampling" : "search", .summary = (text), .source = (origin),  \
                                            .params = id##_params, .n_params = sizeof(id##_params) / sizeof(id##_params)[0],         \
                                            .cost = "1 forward of 1 row a token", .samples = (does_sample),             \
                                            .state_bytes = sizeof(sample_state), .check = jpt_chain_check, .open = sample_open,      \
                                            .propose = sample_propose, .consume = sample_consume, .close = sample_close}

STRATEGY(greedy, "greedy", false, "the most likely token each step", "transformers greedy search");
STRATEGY(sample, "sample", true, "draw from the distribution, with any truncation, in HF's order or another", "transformers 4.46 LogitsWarpers; llama.cpp samplers");
STRATEGY(top_k, "top-k", true, "draw among the k best", "Fan et al. 2018");
STRATEGY(top_p, "top-p", true, "nucleus sampling", "Holtzman et al. 2020");
STRATEGY(min_p, "min-p", true, "draw among tokens near the best", "Nguyen et al. 2024");
STRATEGY(typical, "typical", true, "locally typical sampling", "Meister et al. 2022");
STRATEGY(epsilon, "epsilon", true, "draw among tokens above a probability", "Hewitt et al. 2022");
STRATEGY(eta, "eta", true, "epsilon that adapts to the entropy", "Hewitt et al. 2022");
STRATEGY(top_h, "top-h", true, "draw among the best tokens within a share of the entropy", "Potraghloo et al. 2025; transformers TopHLogitsWarper");
STRATEGY(top_n_sigma, "top-n-sigma", true, "draw among scores near the best, in standard deviations", "Tang et al. 2024; llama.cpp");
STRATEGY(top_a, "top-a", true, "min-p with a squared bound", "KoboldAI top-a");
STRATEGY(p_less, "p-less", true, "draw among tokens above the collision probability", "Tan et al. 2025");
STRATEGY(xtc, "xtc", true, "now and then exclude the top choices", "p-e-w 2024; llama.cpp xtc");
STRATEGY(dry, "dry", true, "don't repeat yourself: penalise lengthening a repeat", "p-e-w 2024; llama.cpp dry");
STRATEGY(dynatemp, "dynatemp", true, "temperature that follows the entropy", "llama.cpp dynamic temperature");
STRATEGY(smoothing, "smoothing", true, "quadratic smoothing of the scores", "kalomaze 2024; text-generation-webui");
