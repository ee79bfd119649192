/* Inside the decode module. */
#ifndef JPT_DECODE_PRIV_H
#define JPT_DECODE_PRIV_H

#include <jpt/decode.h>

/* A growing list of ids: prompt and text of a sequence.  Sized to the context once. */
typedef struct token_list {
    int32_t *p;
    int32_t  n, cap;
} token_list;
jpt_status token_list_init(token_list *l, const jpt_strategy_ctx *ctx, jpt_error *err); /* holds the prompt */
void       token_list_add(token_list *l, int32_t token); /* what passes the context is left out: the driver ends the text there */

/* Most tokens that a request's text can have: max_new_tokens, or what the context leaves. */
int32_t jpt_text_limit(const jpt_strategy_ctx *ctx);

/* Parameters every strategy has. */
#define JPT_PARAMS_PENALTIES(repetition)                                                                                                         \
    {"repetition_penalty", JPT_PARAM_FLOAT, 0, 100, true, false, repetition, "divides or multiplies the score of every id in prompt and text"}, \
        {"no_repeat_ngram_size", JPT_PARAM_INT, 0, 1000, false, false, "0", "bans the follower of a repeated n-gram; 0: off"},           \
        {"encoder_repetition_penalty", JPT_PARAM_FLOAT, 0, 100, true, false, "1", "above 1 favours the prompt's ids, below 1 avoids them"},      \
        {"encoder_no_repeat_ngram_size", JPT_PARAM_INT, 0, 1000, false, false, "0", "bans the follower that an n-gram has in the prompt; 0: off"}, \
        {"frequency_penalty", JPT_PARAM_FLOAT, -2, 2, false, false, "0", "minus this times an id's count in the text so far"},           \
        {"presence_penalty", JPT_PARAM_FLOAT, -2, 2, false, false, "0", "minus this for every id in the text so far"},                   \
        {"penalty_last_n", JPT_PARAM_INT, -1, 1 << 24, false, false, "0", "tokens that these three penalties look at, prompt included, as llama.cpp; -1: all; 0: repetition all, the others the text alone"}, \
        {"logit_bias", JPT_PARAM_STRING, 0, 0, false, false, "", "id:bias/id:bias, added to scores"},                                    \
        {"sequence_bias", JPT_PARAM_STRING, 0, 0, false, false, "", "id+id:bias/id:bias, added to the score of a sequence's last id after the others"}, \
        {"bad_words", JPT_PARAM_STRING, 0, 0, false, false, "", "word/word, never written (with or without a space before)"},            \
        {"min_length", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "no end before prompt and text have so many tokens"},               \
        {"forced_bos_token_id", JPT_PARAM_INT, -1, 1 << 24, false, false, "-1", "the text's first id after a prompt of one token; -1: off"}, \
        {"forced_eos_token_id", JPT_PARAM_INT, -1, 1 << 24, false, false, "-1", "the last id of a text of full length; -1: off"},        \
        {"exponential_decay_length_penalty", JPT_PARAM_STRING, 0, 0, false, false, "", "start/factor: from start tokens on an end's score grows by |score| (factor^t - 1)"}, \
        {"suppress_tokens", JPT_PARAM_STRING, 0, 0, false, false, "", "id/id, never chosen"},                                            \
        {"begin_suppress_tokens", JPT_PARAM_STRING, 0, 0, false, false, "", "id/id, not the text's first"},                              \
        {"renormalize_logits", JPT_PARAM_BOOL, 0, 1, false, false, "false", "log-softmax after everything else: matters to beams' scores alone"}
#define JPT_PARAMS_DRY(multiplier)                                                                                                   \
    {"dry_multiplier", JPT_PARAM_FLOAT, 0, 100, false, false, multiplier, "DRY: strength of the penalty on lengthening a repeat; 0: off"}, \
        {"dry_base", JPT_PARAM_FLOAT, 1, 10, false, false, "1.75", "DRY: growth a token of repeat"},                                     \
        {"dry_allowed_length", JPT_PARAM_INT, 1, 1000, false, false, "2", "DRY: repeats up to this length are free"},                    \
        {"dry_penalty_last_n", JPT_PARAM_INT, -1, 1 << 24, false, false, "-1", "DRY: tokens looked at; -1: all"},                  \
        {"dry_sequence_breakers", JPT_PARAM_STRING, 0, 0, false, false, "\\n/:/\"/*", "DRY: text/text that end a repeat (\\n: new line, \\s: slash); none: nothing does"}
#define JPT_PARAMS_PROCESSORS JPT_PARAMS_PENALTIES("1"), JPT_PARAMS_DRY("0")

#define JPT_PARAM_TEMPERATURE {"temperature", JPT_PARAM_FLOAT, 1e-6, 100, false, false, "1", "divides the scores before truncation"}
#define JPT_PARAM_KEEP {"min_tokens_to_keep", JPT_PARAM_INT, 1, 1 << 20, false, false, "1", "a cut leaves at least so many tokens"}

/* Everything that shapes or cuts the distribution, and the order. */
#define JPT_PARAMS_WARPERS                                                                                                          \
    {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},                                             \
        {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},                         \
        {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p"},                                             \
        {"typical_p", JPT_PARAM_FLOAT, 0, 1, true, false, "1", "keeps this mass nearest to the entropy"},                            \
        {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= epsilon"},                                           \
        {"eta_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= min(eta, sqrt(eta) exp(-entropy))"},                     \
        {"top_h", JPT_PARAM_FLOAT, 0, 1, true, false, "1", "keeps the best up to this share of the entropy of the 100 best; 1: off"}, \
        {"top_n_sigma", JPT_PARAM_FLOAT, 0, 100, false, false, "0", "keeps scores within n standard deviations of the best; 0: off"}, \
        {"top_a", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= top_a * (max p)^2"},                                         \
        {"p_less", JPT_PARAM_BOOL, 0, 1, false, false, "false", "keeps p >= sum of p^2"},                                            \
        {"xtc_probability", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "how often the top choices are excluded"},                     \
        {"xtc_threshold", JPT_PARAM_FLOAT, 0, 1, false, false, "0.1", "of tokens with at least this p only the least likely stays"}, \
        {"dynatemp_range", JPT_PARAM_FLOAT, 0, 100, false, false, "0", "temperature - range to + range, by the entropy"},            \
        {"dynatemp_exponent", JPT_PARAM_FLOAT, 0.01, 100, false, false, "1", "of the normalised entropy"},                           \
        {"smoothing_factor", JPT_PARAM_FLOAT, 0, 100, false, false, "0", "quadratic smoothing; 0: off"},                             \
        {"smoothing_curve", JPT_PARAM_FLOAT, 1, 10, false, false, "1", "above 1: a cubic part"},                                     \
        JPT_PARAM_KEEP, {"chain", JPT_PARAM_STRING, 0, 0, false, false, "hf", "order: hf, llama.cpp, vllm, or links joined by +"}

/* Greedy or drawn, for strategies that can be either. */
#define JPT_PARAMS_DO_SAMPLE                                                                                                                     \
    {"do_sample", JPT_PARAM_BOOL, 0, 1, false, false, "false", "draw instead of the most likely token"}, JPT_PARAM_TEMPERATURE,      \
        {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},                                         \
        {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},                         \
        {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p"}, JPT_PARAMS_PROCESSORS

#define JPT_PARAM_RELATIVE_TOP {"relative_top", JPT_PARAM_FLOAT, 0, 1, true, false, "0.1", "keeps tokens with at least this share of the best one's probability"}
#define JPT_PARAMS_AMATEUR(beta)                                                                                                     \
    {"beta", JPT_PARAM_FLOAT, 0, 10, false, false, beta, "weight of the amateur; 0: the expert alone"}, JPT_PARAM_RELATIVE_TOP,      \
        {"amateur_layer", JPT_PARAM_INT, 0, 4096, false, false, "0", "the amateur is the model's own exit after so many layers; 0: the draft model"}, \
        {"amateur_temperature", JPT_PARAM_FLOAT, 0.01, 100, false, false, "1", "of the amateur (log-probabilities, Li et al.)"}, \
        {"ignore_prefix", JPT_PARAM_BOOL, 0, 1, false, false, "false", "the draft model sees the prompt's last token alone, as in the authors' code"}

/* A spec's chain of links with the arrays it points into.  Zero-initialise; keep it where it is once built. */
typedef struct built_chain {
    jpt_chain chain;
    jpt_arena arena;
} built_chain;

/* Build the chain of a spec: processors, and warpers if asked for, in the order of `chain=` (HF's unless given); neutral
 * values leave their link out.  Parameters that the strategy does not have count as neutral. */
jpt_status jpt_chain_build(const jpt_spec *spec, const jpt_strategy_ctx *ctx, bool warpers, built_chain *out, jpt_error *err);
void       jpt_chain_fini(built_chain *c);
/* The usual choice from a row: greedy or a draw, after the chain, by the request's key for its step-th token. */
jpt_select_item jpt_pick(const built_chain *c, const jpt_strategy_ctx *ctx, const token_list *history, int32_t row, bool sample, int32_t step);
/* Ids written "id/id" in a parameter: *ids in the arena, *n 0 when there are none.  JPT_ARG: another form, an id out of the vocabulary. */
jpt_status jpt_ids_param(const jpt_spec *spec, const char *name, int32_t n_vocab, jpt_arena *arena, const int32_t **ids, int32_t *n, jpt_error *err);
/* What can be wrong with a spec's texts (chain, logit_bias), told when it is read. */
jpt_status jpt_chain_check(const jpt_spec *spec, jpt_error *err);

/* Contrastive decoding's amateur by a spec: the assistant's session, or NULL and the model's own exit after *layer layers. */
jpt_status jpt_amateur(const jpt_spec *spec, const jpt_strategy_ctx *ctx, jpt_session **session, int32_t *layer, jpt_error *err);
/* The part of the prompt that the amateur sees: from this token on. */
int32_t jpt_amateur_from(const jpt_spec *spec, const jpt_strategy_ctx *ctx);

/* A parameter's value, or `neutral` when the strategy has none of that name. */
double      spec_value(const jpt_spec *spec, const char *name, double neutral);
const char *spec_string(const jpt_spec *spec, const char *name); /* "" when absent */

/* Arithmetic of strategies on given numbers, for tests against their authors' code.
 * Adaptive contrastive search: the sigmoid of a relative change of entropy. */
double jpt_acs_squash(double q, double delta);
double jpt_median(const float *v, int32_t n, float *room_n); /* mean of the two middle values */
/* FSD-d's penalty of a token after history[n]. */
double jpt_ngram_penalty(const int32_t *history, int32_t n, int32_t n_gram, double beta, int32_t token);

bool is_eos(const jpt_strategy_ctx *ctx, int32_t token);

#endif
