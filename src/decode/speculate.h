/* Inside speculation: the state that speculate.c verifies with and drafts.c guesses for. */
#ifndef JPT_SPECULATE_H
#define JPT_SPECULATE_H

#include "decode_priv.h"

typedef enum drafter { PROMPT_LOOKUP, DRAFT_MODEL, FIRST_LAYERS } drafter;
typedef enum schedule { CONSTANT, HEURISTIC, ENERGY } schedule;

enum { GUESS_MAX = 64 };
/* Random keys' sequence numbers of the guesses, and of their acceptance; the text's own is 0. */
enum { KEY_DRAFT = 0x40000000, KEY_ACCEPT };

typedef struct spec_state {
    built_chain chain;
    drafter     drafter;
    schedule    schedule;
    bool        sampling, prefilled, last_match;
    int32_t     limit, n_emitted, token;
    token_list  history;
    int32_t     most, width; /* guesses: most, and now */
    int32_t     max_ngram, exit_layer;
    float       threshold;
    int32_t     guess[GUESS_MAX + 1], n_guess; /* [0] is the last token of the text */
    /* draft model: its session and sequence, and how much of the text that holds */
    jpt_session *draft;
    jpt_seq      draft_seq;
    int32_t      draft_len;
    /* energy: seconds of a draft step and of a verify step by width, and acceptance, as running means */
    double t_draft_s, t_verify_s[GUESS_MAX + 1], t_sent_s, accepted, offered;
    /* acceptance by the ratio of probabilities: what each guess was drawn from, [most, V], and room [V] and for the chain */
    bool     ratio;
    int32_t  V, V_draft; /* what the vocabularies have in common is V_draft; the rest of the larger is padding */
    size_t   row; /* floats from one guess's q to the next */
    float   *q, *p, *logp;
    void    *scratch;
    bool     foreign; /* the draft model has another tokenizer: guesses go through the text */
} spec_state;

/* Guesses for the next tokens into guess[1..n_guess], at most `room`: the followers of the text's last tokens at an earlier place. */
void       jpt_draft_lookup(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room);
/* By the draft model, or by this model's first layers. */
jpt_status jpt_draft_run(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room, jpt_error *err);
/* The choice of a row as plain decoding would make it: history of the text, `ahead` steps on. */
jpt_status jpt_spec_choose(spec_state *s, const jpt_strategy_ctx *ctx, jpt_session *from, int32_t row, int32_t ahead, jpt_selected *out, jpt_error *err);
/* p[V] = what a row is drawn from after the chain, `ahead` steps on; logp (may be NULL) gets the model's own log-probabilities. */
jpt_status jpt_spec_distribution(spec_state *s, const jpt_strategy_ctx *ctx, jpt_session *from, int32_t row, int32_t ahead, float *p, float *logp, jpt_error *err);
/* The first token at which the running sum of w[n] passes u times its sum; the last with a weight if rounding keeps it below. */
int32_t    jpt_spec_draw(const float *w, int32_t n, double u);

#endif
