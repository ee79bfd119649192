/* Inside the beam family: the state that beam.c runs and constrained.c steers. */
#ifndef JPT_BEAM_H
#define JPT_BEAM_H

#include "decode_priv.h"

typedef enum early { EARLY_FALSE, EARLY_TRUE, EARLY_NEVER } early;

typedef struct hypothesis {
    float    score; /* running sum; of finished ones divided by length^penalty */
    int32_t  n;     /* generated tokens */
    int32_t *tokens; /* [limit] */
    float   *logprobs;
} hypothesis;

typedef struct beam {
    hypothesis h;
    jpt_seq    seq, amateur; /* -1: none; amateur: contrastive decoding's, in the assistant's session */
    int32_t    row; /* of the round's logits */
    jpt_detok  detok; /* with stop strings: the text's end */
    jpt_buf    tail;
} beam;

/* One group of beams with the answers it has found. */
typedef struct group {
    beam       *run; /* [n_run] */
    int32_t     n_run;
    hypothesis *done; /* best first, at most width */
    int32_t     n_done;
    bool        open, finished;
} group;

typedef struct beam_state {
    built_chain chain;
    int32_t     width, n_groups, n_return, n_candidates; /* a group's beams; candidates a group and step */
    float       length_penalty, diversity_penalty;
    early       early_stopping;
    bool        sampling, prefilled;
    int32_t     limit, step; /* most tokens; tokens so far */
    int32_t     now;         /* beams kept now: the width, or fewer under a budget */
    group      *group;
    beam       *next;      /* [width]: the group's beams of the next step */
    int32_t    *history;   /* [width][n_prompt + limit] of the group at work */
    int32_t    *picked;    /* ids that the earlier groups picked in this step */
    float      *penalty;   /* their penalties */
    int32_t     n_picked;
    int32_t    *c_index, *c_token; /* [n_candidates] */
    float      *c_score;
    jpt_score_item *items; /* [width] */
    uint64_t    n_rows;
    struct contrast     *contrast; /* contrastive decoding; NULL: none */
    struct forced_words *forced; /* constrained beam search; NULL: none */
} beam_state;

/* Contrastive decoding with a second model or an early exit, from a spec with amateur_layer; NULL in *out without one.  Lives in
 * the chain's arena. */
jpt_status jpt_contrast_open(const jpt_spec *spec, const jpt_strategy_ctx *ctx, beam_state *s, struct contrast **out, jpt_error *err);
/* Ask the amateur about the group's beams and put contrasted scores in the place of their logits. */
jpt_status jpt_contrast_rows(beam_state *s, const jpt_strategy_ctx *ctx, group *q, jpt_error *err);
/* The expert's own log-probability of a token in a row of the round at work. */
float      jpt_contrast_logprob(const struct contrast *c, int32_t row, int32_t token);
/* The layer whose exit is the amateur, 0: a second model, whose session is then in *amateur. */
int32_t    jpt_contrast_layer(const struct contrast *c, jpt_session **amateur);
/* Words that the text must hold, from a spec's force_words; NULL in *out when it names none.  Lives in the chain's arena. */
jpt_status jpt_forced_words_open(const jpt_spec *spec, const jpt_strategy_ctx *ctx, beam_state *s, struct forced_words **out, jpt_error *err);
/* Whether a text holds them all. */
bool       jpt_forced_words_met(const struct forced_words *f, const int32_t *tokens, int32_t n);
/* Replace the group's *n picked continuations (c_index, c_token, c_score) by as many that balance likelihood and progress with
 * the words.  The rows of q->run must be the last forward's. */
jpt_status jpt_forced_words_steer(beam_state *s, const jpt_strategy_ctx *ctx, const group *q, int32_t *n, jpt_error *err);


/* One row to rank of beam i: its history behind `chain` (may be NULL), its running sum as bias. */
jpt_score_item beam_score_item(beam_state *s, const jpt_request *r, const beam *b, int32_t i, const jpt_chain *chain);

#endif
