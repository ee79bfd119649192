/* Token selection: the chain of logits processors and warpers, and the draw.
 *
 * A chain is plain data, so that a back-end can run it where the logits live.  The plain C functions
 * declared here are the definition (src/backend/ref/chain.c, select.c); other back-ends are tested against them.
 * Semantics, order and tie rules are those of Hugging Face transformers' LogitsProcessor classes:
 * docs/adding-a-strategy.md says where jpt differs and why.  All arithmetic is float32 as there; the
 * sampling sum is float64. */
#ifndef JPT_SELECT_H
#define JPT_SELECT_H

#include <jpt/base.h>

/* Source of each link in brackets: HF's class, llama.cpp's sampler or the paper.  Links run in array order; each sees
 * what the last one left; tokens at -inf are gone. */
typedef enum jpt_link_kind {
    /* processors: change scores */
    JPT_LINK_BIAS,               /* [SequenceBias, llama.cpp logit_bias] values[i] is added to ids[i] */
    JPT_LINK_SEQUENCE_BIAS,      /* [SequenceBiasLogitsProcessor]        values[i] is added to the last id of the i-th sequence where the
                                  * others end the text; ids = length, ids, length, ids, ... */
    JPT_LINK_ENCODER_REPETITION_PENALTY, /* [EncoderRepetitionPenalty]   value > 0: above 1 favours the prompt's ids */
    JPT_LINK_REPETITION_PENALTY, /* [RepetitionPenaltyLogitsProcessor]   value = penalty > 0; prompt included.  Of the next three, count2
                                  * [llama.cpp penalty_last_n]: looks at so many last tokens, prompt included; -1: all; 0: as said */
    JPT_LINK_FREQUENCY_PENALTY,  /* [OpenAI, vLLM]                       minus value * count among generated tokens */
    JPT_LINK_PRESENCE_PENALTY,   /* [OpenAI, vLLM]                       minus value if generated before */
    JPT_LINK_DRY,                /* [llama.cpp dry]                      value = multiplier, value2 = base, count = allowed
                                  * length, count2 = window (-1: all), ids = breakers of one token, ascending; tails = breakers of
                                  * several: ids after the first, first, these ids, the next, ... */
    JPT_LINK_NO_REPEAT_NGRAM,    /* [NoRepeatNGramLogitsProcessor]       count = ngram_size >= 1; prompt included */
    JPT_LINK_ENCODER_NO_REPEAT_NGRAM, /* [EncoderNoRepeatNGram]          count = n >= 1: bans what followed the text's last n - 1 ids in the prompt */
    JPT_LINK_BAD_WORDS,          /* [NoBadWordsLogitsProcessor]          ids = length, ids, length, ids, ... */
    JPT_LINK_ALLOWED,            /* [PrefixConstrainedLogitsProcessor]   only ids stay */
    JPT_LINK_MIN_NEW_TOKENS,     /* [MinNewTokensLengthLogitsProcessor]  count = min_new_tokens */
    JPT_LINK_FORCED,             /* [ForcedBOS, ForcedEOSLogitsProcessor] only ids[0], at score 0, after `count` generated tokens */
    JPT_LINK_EXPONENTIAL_DECAY,  /* [ExponentialDecayLengthPenalty]      after more than `count` generated tokens, t more: an end id's score
                                  * grows by |score| (value^t - 1) */
    JPT_LINK_SUPPRESS,           /* [SuppressTokens(AtBegin)LogitsProcessor] ids go; count >= 0: only after so many generated tokens */
    /* warpers: shape or cut the distribution */
    JPT_LINK_TEMPERATURE,         /* [TemperatureLogitsWarper]           value = temperature > 0 */
    JPT_LINK_DYNAMIC_TEMPERATURE, /* [llama.cpp temp_ext]                value = temperature, value2 = range, value3 = exponent */
    JPT_LINK_SMOOTHING,           /* [text-generation-webui quadratic]   value = factor, value2 = curve */
    JPT_LINK_TOP_K,               /* [TopKLogitsWarper]                  count = top_k >= 1; ties of the k-th stay */
    JPT_LINK_TOP_N_SIGMA,         /* [llama.cpp top_n_sigma]             value = n > 0: keeps z >= max - n sigma */
    JPT_LINK_TOP_P,               /* [TopPLogitsWarper]                  value in [0, 1] */
    JPT_LINK_MIN_P,               /* [MinPLogitsWarper]                  value in [0, 1] */
    JPT_LINK_TOP_A,               /* [KoboldAI top-a]                    value in [0, 1]: keeps p >= value * max p squared */
    JPT_LINK_P_LESS,              /* [Tan et al. 2025]                   keeps p >= sum of p squared */
    JPT_LINK_TOP_H,               /* [TopHLogitsWarper]                  value in (0, 1]: best prefix of the 100 best with entropy <= value * theirs */
    JPT_LINK_TYPICAL,             /* [TypicalLogitsWarper]               value in (0, 1) */
    JPT_LINK_EPSILON,             /* [EpsilonLogitsWarper]               value in (0, 1) */
    JPT_LINK_ETA,                 /* [EtaLogitsWarper]                   value in (0, 1) */
    JPT_LINK_XTC,                 /* [llama.cpp xtc]                     value = probability, value2 = threshold */
    JPT_LINK_SURPRISE,            /* [llama.cpp mirostat v2]             value = bits: keeps -log2 p <= value, and the best */
    JPT_LINK_NORMALIZE,           /* [LogitNormalization]                log-softmax */
    /* of samplers with a memory, the last of a chain: they see log-probabilities, and jpt_selected tells what they saw */
    JPT_LINK_ZIPF,                /* [Basu et al. 2021, llama.cpp mirostat] value = bits aimed at: keeps the k best that Zipf's law gives; count: a jpt_zipf_form */
    JPT_LINK_AIM,                 /* [llama.cpp adaptive-p]              value = probability aimed at: jpt_aim_row */
    JPT_LINK_GUARD,               /* [GUARD 2025]                        values[n_ids]: entropies of the steps before; count = window, 2 to JPT_GUARD_WINDOW */
} jpt_link_kind;

/* Of mirostat: llama.cpp's; the authors' code; theirs with guarded ratios (Shi et al. 2024). */
typedef enum jpt_zipf_form { JPT_ZIPF_LLAMA_CPP, JPT_ZIPF_PAPER, JPT_ZIPF_SHI } jpt_zipf_form;
enum { JPT_GUARD_WINDOW = 64 };

typedef struct jpt_link {
    jpt_link_kind  kind;
    double         value;
    int32_t        count;
    double         value2, value3;
    int32_t        count2;
    const int32_t *ids;    /* [n_ids], borrowed */
    const float   *values; /* [n_ids] for JPT_LINK_BIAS, one a sequence for JPT_LINK_SEQUENCE_BIAS, borrowed */
    int32_t        n_ids;
    const int32_t *tails; /* [n_tails] for JPT_LINK_DRY, borrowed */
    int32_t        n_tails;
} jpt_link;

enum { JPT_CHAIN_MAX = 40, JPT_EOS_MAX = 8 };

typedef struct jpt_chain {
    jpt_link link[JPT_CHAIN_MAX];
    int32_t  n_links;
    int32_t  min_tokens_to_keep; /* >= 1; beams use 1 + number of EOS ids */
    int32_t  eos[JPT_EOS_MAX];   /* what JPT_LINK_MIN_NEW_TOKENS masks and JPT_LINK_EXPONENTIAL_DECAY raises */
    int32_t  n_eos;
} jpt_chain;

/* One row to choose from. */
typedef struct jpt_select_item {
    int32_t          row;     /* row of the last forward's logits */
    const jpt_chain *chain;   /* may be NULL: no processor */
    const int32_t   *history; /* [n_history] prompt + generated so far; borrowed */
    int32_t          n_history, n_prompt;
    bool             sample; /* false: argmax (lowest id wins a tie); true: draw by `key` */
    jpt_rng_key      key;
} jpt_select_item;

typedef struct jpt_selected {
    int32_t token;
    float   logprob;        /* ln p of the token in the model's own distribution (before the chain) */
    float   entropy;        /* of the model's own distribution, nats */
    int32_t n_kept;         /* tokens with a score above -inf after the chain */
    float   kept_prob;      /* probability of the token after the chain and renormalisation */
    float   seen_logprob;   /* ln p of the token in what the chain's last link saw, where that is JPT_LINK_ZIPF, AIM or GUARD; NAN: it is not */
    float   seen_entropy;   /* - sum p ln(p + 1e-5) of what JPT_LINK_GUARD saw, nats; NAN: the last link is another */
} jpt_selected;

/* JPT_LINK_ZIPF, AIM and GUARD: the links that tell what they saw. */
bool jpt_link_aims(jpt_link_kind k);

/* Apply the chain to logits[V] in place (what is masked becomes -INFINITY).  `item` gives history, prompt length and
 * random key; its row and chain are not read.  scratch is used for sorting, at least jpt_select_scratch_bytes(V).
 * -INFINITY, ties and V = 1 are fine; a NaN logit or a row without a finite value is JPT_DEVICE ("the model produced no
 * finite logit"). */
size_t     jpt_select_scratch_bytes(int32_t n_vocab);
jpt_status jpt_chain_apply(const jpt_chain *chain, const jpt_select_item *item, float *logits, int32_t n_vocab, void *scratch, jpt_error *err);

/* Choose from one row of logits[V] (not modified; work[V] is overwritten). */
jpt_status jpt_select_row(const jpt_select_item *item, const float *logits, int32_t n_vocab, float *work,
                          void *scratch, jpt_selected *out, jpt_error *err);

/* One row to rank tokens of. */
typedef struct jpt_score_item {
    jpt_select_item from; /* row, chain, history; key and sample: see `perturb` */
    float           bias; /* added to every score: a beam's running sum */
    bool            log_first; /* the chain works on log-probabilities and nothing is renormalised after it, as HF's beam search
                                * does; else it works on logits and log-softmax follows */
    bool            scored;    /* the row holds scores already (contrasted ones): nothing is normalised */
    bool            perturb;   /* rank by score plus Gumbel noise of from.key: draws without replacement (Kool et al. 2019) */
} jpt_score_item;

/* The k best (index of item, token) by score, over all rows together: score descending, then item, then token id.  Tokens
 * at -inf are never among them.  Scores returned are without noise, in descending order.  out_* are [k]; *n_out is how
 * many were written.  work [V] and scratch as above.  Beam search's and contrastive search's step. */
jpt_status jpt_topk_scores(const jpt_score_item *items, int32_t n, const float *logits, int32_t n_vocab, int32_t k, float *work, void *scratch,
                           int32_t *out_index, int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err);

/* out = ln softmax(z), in place too: float32 steps, float64 sum.  false: a NaN, or nothing finite. */
bool jpt_log_softmax(const float *z, int32_t n, float *out);

/* For strategies that filter a row on their own; scratch as above.
 * Ids of the k best scores above -INFINITY to id[k], best first (ties: lower id first); returns how many there are. */
int32_t jpt_best_scores(const float *z, int32_t n, int32_t k, void *scratch, int32_t *id);
/* All but the k >= 1 best become -INFINITY (of equal ones the lowest ids stay). */
void jpt_keep_best(float *z, int32_t n, int32_t k, void *scratch);
/* adaptive-p's scores from log-probabilities, llama.cpp's in float32: 5 - 10 x^2 / (1 + x) with x = |p - at| / 0.3, so that they
 * fall with the distance of p from the aim; -INFINITY stays.  score == logp is fine. */
void jpt_aim_row(const float *logp, int32_t n, float at, float *score);
/* - sum p ln(p + eps), p = exp(logp) in float32, the sum in float64; 1e-30 <= eps. */
double jpt_entropy_eps(const float *logp, int32_t n, float eps);

/* a . b in float32, 16 partial sums: the same on every machine. */
float jpt_dot(const float *a, const float *b, int32_t n);
/* x / |x| in place; a zero row stays. */
void jpt_unit_row(float *x, int32_t n);

/* ---- contrast: a row of the expert's logits against another distribution's ------------------------------------ */

typedef enum jpt_contrast_form {
    JPT_CONTRAST_DOLA,     /* [Chuang et al. 2023] ln p - ln q; q: of several bases the one that diverges most */
    JPT_CONTRAST_LOGITS,   /* [O'Brien and Lewis 2023] (1 + beta) z - beta y, on logits */
    JPT_CONTRAST_LOGPROBS, /* [Li et al. 2023] ln p - beta ln q, q at `temperature` */
} jpt_contrast_form;

typedef struct jpt_contrast {
    jpt_contrast_form form;
    float             beta, temperature; /* temperature: of the base's logits, JPT_CONTRAST_LOGPROBS */
    float             relative_top;      /* tokens below this share of the best one's probability become -inf */
} jpt_contrast;

/* The reference's "Jensen-Shannon divergence" (transformers _dola_select_contrast): torch's kl_div of the mixture against each of two
 * rows of log-probabilities, mean over the vocabulary.  Equals the mean of (p + q) / 2 ln cosh((ln p - ln q) / 2). */
double jpt_dola_divergence(const float *log_m, const float *log_p, int32_t n_vocab);

/* Contrast logits[V] in place; logp[V] gets the expert's own ln p.  base[V]: the other distribution's logits, overwritten; DOLA: its
 * log-probabilities.  JPT_DEVICE: a NaN, or nothing finite. */
jpt_status jpt_contrast_row(const jpt_contrast *how, float *logits, float *base, int32_t n_vocab, float *logp, jpt_error *err);

#endif
