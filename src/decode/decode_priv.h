/* Inside the decode module. */
#ifndef JPT_DECODE_PRIV_H
#define JPT_DECODE_PRIV_H

#include <jpt/decode.h>

extern const jpt_strategy jpt_strategy_greedy, jpt_strategy_sample, jpt_strategy_top_k, jpt_strategy_top_p, jpt_strategy_min_p,
    jpt_strategy_typical, jpt_strategy_epsilon, jpt_strategy_eta;

/* Parameters every strategy has. */
#define JPT_PARAMS_PROCESSORS                                                                                                        \
    {"repetition_penalty", JPT_PARAM_FLOAT, 0, 100, true, false, "1", "divides or multiplies the score of every id in prompt and text"}, \
        {"no_repeat_ngram_size", JPT_PARAM_INT, 0, 1000, false, false, "0", "bans the follower of a repeated n-gram; 0: off"}

/* Build the chain of a spec in HF's order; neutral values leave their link out.  Parameters that the strategy
 * does not have count as neutral. */
void jpt_chain_build(const jpt_spec *spec, const jpt_strategy_ctx *ctx, bool warpers, jpt_chain *out);

#endif
