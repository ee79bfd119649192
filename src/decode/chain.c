/* From a spec's parameters to a chain of links, in the order of transformers' _get_logits_processor:
 * repetition penalty, no-repeat n-gram, min new tokens, then (sampling only) temperature, top-k, top-p, min-p, typical,
 * epsilon, eta. */
#include "decode_priv.h"
#include <string.h>

static double value(const jpt_spec *spec, const char *name, double neutral) {
    for (int32_t i = 0; i < spec->n_values; i++)
        if (strcmp(spec->value[i].def->name, name) == 0)
            return spec->value[i].number;
    return neutral;
}

static void add(jpt_chain *c, jpt_link_kind kind, double v) {
    c->link[c->n_links++] = (jpt_link){.kind = kind, .value = v, .count = (int32_t)v};
}

void jpt_chain_build(const jpt_spec *spec, const jpt_strategy_ctx *ctx, bool warpers, jpt_chain *c) {
    *c = (jpt_chain){.min_tokens_to_keep = 1, .n_eos = ctx->n_eos};
    memcpy(c->eos, ctx->eos, sizeof c->eos);
    double v;
    if ((v = value(spec, "repetition_penalty", 1)) != 1)
        add(c, JPT_LINK_REPETITION_PENALTY, v);
    if ((v = value(spec, "no_repeat_ngram_size", 0)) > 0)
        add(c, JPT_LINK_NO_REPEAT_NGRAM, v);
    if (ctx->request->min_new_tokens > 0 && ctx->n_eos > 0)
        add(c, JPT_LINK_MIN_NEW_TOKENS, ctx->request->min_new_tokens);
    if (!warpers)
        return;
    if ((v = value(spec, "temperature", 1)) != 1)
        add(c, JPT_LINK_TEMPERATURE, v);
    if ((v = value(spec, "top_k", 0)) > 0)
        add(c, JPT_LINK_TOP_K, v);
    if ((v = value(spec, "top_p", 1)) < 1)
        add(c, JPT_LINK_TOP_P, v);
    if ((v = value(spec, "min_p", 0)) > 0)
        add(c, JPT_LINK_MIN_P, v);
    if ((v = value(spec, "typical_p", 1)) < 1)
        add(c, JPT_LINK_TYPICAL, v);
    if ((v = value(spec, "epsilon_cutoff", 0)) > 0)
        add(c, JPT_LINK_EPSILON, v);
    if ((v = value(spec, "eta_cutoff", 0)) > 0)
        add(c, JPT_LINK_ETA, v);
}
