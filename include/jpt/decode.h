/* Decoding strategies: the registry, SPEC strings, and the driver that runs requests.
 *
 * A strategy is a state machine over a session.  Each round it says which rows it wants computed
 * (`propose`), the driver runs one forward for all live requests together, and it reads the result and
 * emits zero, one or many tokens (`consume`).  Because proposing and consuming are apart, requests can
 * share a forward (continuous batching) and no strategy knows whether they do.
 * docs/adding-a-strategy.md walks through one. */
#ifndef JPT_DECODE_H
#define JPT_DECODE_H

#include <jpt/model.h>

/* ---- parameters and SPECs ---------------------------------------------------------------------- */

typedef enum jpt_param_type { JPT_PARAM_FLOAT, JPT_PARAM_INT, JPT_PARAM_BOOL, JPT_PARAM_STRING } jpt_param_type;

typedef struct jpt_param_def {
    const char    *name; /* HF's spelling */
    jpt_param_type type;
    double         min, max;         /* numeric range */
    bool           min_open, max_open; /* bound excluded */
    const char    *fallback;         /* default as text; NULL: must be given */
    const char    *help;
} jpt_param_def;

enum { JPT_SPEC_PARAMS_MAX = 64 };
typedef struct jpt_param_value {
    const jpt_param_def *def;
    double               number; /* FLOAT, INT, BOOL */
    const char          *text;   /* STRING, in the spec's arena */
    bool                 given;  /* written by the user, not the default */
} jpt_param_value;

typedef struct jpt_strategy jpt_strategy;

/* One strategy with every parameter resolved. */
typedef struct jpt_spec {
    const jpt_strategy *strategy;
    jpt_param_value     value[JPT_SPEC_PARAMS_MAX];
    int32_t             n_values;
    char                text[1024]; /* canonical: name, then the given parameters in table order; a cell's identity */
    jpt_arena           arena;
} jpt_spec;

typedef struct jpt_spec_list {
    jpt_spec *spec;
    size_t    n;
} jpt_spec_list;

/* Parse `name[:key=value[,key=value]...]` with {a,b,c} grids: appends the cross product in order (last
 * key fastest).  Duplicates of specs already in the list are dropped.  JPT_ARG: unknown name or key
 * (nearest suggested), value out of range (range stated), syntax (position stated). */
jpt_status jpt_spec_parse(const char *text, jpt_spec_list *list, jpt_error *err);
void       jpt_spec_list_fini(jpt_spec_list *list);
double     jpt_spec_number(const jpt_spec *spec, const char *name); /* asserts that the parameter exists */
const char *jpt_spec_text(const jpt_spec *spec, const char *name);
/* JSON object of the full effective configuration, defaults included. */
void jpt_spec_json(const jpt_spec *spec, jpt_buf *out);

/* ---- requests ---------------------------------------------------------------------------------- */

typedef enum jpt_stop_reason { JPT_STOP_NONE, JPT_STOP_EOS, JPT_STOP_STRING, JPT_STOP_LENGTH, JPT_STOP_CONTEXT, JPT_STOP_BUDGET } jpt_stop_reason;
const char *jpt_stop_reason_name(jpt_stop_reason r); /* "eos", "stop_string", "length", "context", "budget" */

typedef struct jpt_request {
    const jpt_spec *spec;
    const int32_t  *prompt; /* [n_prompt] >= 1 */
    int32_t         n_prompt;
    int32_t         max_new_tokens, min_new_tokens;
    const char *const *stop; /* [n_stop] stop strings, searched in the text of kept tokens only */
    int32_t         n_stop;
    bool            ignore_eos;
    uint64_t        seed;
    uint32_t        prompt_index; /* for the RNG key */
    /* Budgeted decoding (docs/energy-aware.md): joules(joules_ud) gives the joules spent so far on any scale; from half of
     * max_joules on strategies narrow, near the end the text stops at a sentence's end, at the end it stops.  0: no budget. */
    double   max_joules;
    double (*joules)(void *joules_ud);
    void    *joules_ud;
    /* Called for each kept token's text as it becomes certain; may be NULL.  Text that might begin a stop
     * string is held back. */
    void (*on_text)(void *ud, const char *text, size_t n);
    void *ud;
} jpt_request;

/* A whole answer of a strategy that finds several (beams, samples). */
typedef struct jpt_alternative {
    int32_t *tokens; /* [n] */
    int32_t  n;
    double   score; /* what the strategy ranks by */
    jpt_buf  text;
} jpt_alternative;

typedef struct jpt_generation {
    int32_t        *tokens; /* [n_tokens] kept output tokens, EOS included when it ended the text */
    float          *logprobs; /* [n_tokens] */
    int32_t         n_tokens;
    jpt_buf         text;   /* without special tokens, cut before the stop string */
    jpt_stop_reason stop;
    int32_t         n_past_stop; /* of work.positions_discarded: computed, but past the end of the text */
    jpt_work        work;   /* this request's; sums to the session's over requests run alone */
    jpt_alternative *alternatives; /* [n_alternatives] best first, the text itself among them; none for most strategies */
    int32_t          n_alternatives;
    double          prefill_s, decode_s, ttft_s, duration_s;
    /* This request's part of the rounds it took part in: a round's forward is divided over all its rows, the rows of prompts
     * are charged to their owners and the rest equally to the requests that decode.  Alone: prefill_s and decode_s. */
    double          prefill_share_s, decode_share_s;
    char            budget_note[160]; /* what the budget changed; empty: nothing */
} jpt_generation;
void jpt_generation_fini(jpt_generation *g);

/* Run n requests together on one session, at most n_batch at a time (continuous batching; 1 = one after
 * the other).  Texts do not depend on n_batch.  out[n] zeroed by the caller.  on_done (may be NULL) is
 * called as each finishes.  JPT_INTERRUPTED: those already done are in out, the rest have stop =
 * JPT_STOP_NONE.  Prompts longer than the context: JPT_CTX_FULL naming both numbers. */
typedef void (*jpt_done_fn)(void *ud, int32_t i, const jpt_generation *g);
jpt_status jpt_generate(jpt_session *s, const jpt_request *req, int32_t n, int32_t n_batch, jpt_generation *out,
                        jpt_done_fn on_done, void *ud, jpt_error *err);

/* Session options that a set of specs needs (sequences a request, outputs), for jpt_session_open. */
void jpt_spec_session_options(const jpt_spec *const *spec, size_t n, int32_t n_batch, jpt_session_options *opt);

/* ---- writing a strategy ------------------------------------------------------------------------ */

/* What a running strategy may use.  `seq` holds the prompt's sequence (empty at open). */
typedef struct jpt_strategy_ctx {
    jpt_session       *session;
    const jpt_request *request;
    jpt_seq            seq;
    int32_t            eos[JPT_EOS_MAX], n_eos; /* end-of-generation ids; none when ignore_eos */
    jpt_work          *work;                    /* add positions_discarded here */
    double             spent;                   /* share of max_joules spent, 0 without a budget; at 1 finish with what there is */
    char              *budget_note;             /* [160], append with jpt_budget_note */
} jpt_strategy_ctx;

/* Say what the budget made the strategy do, once a text. */
void jpt_budget_note(const jpt_strategy_ctx *ctx, const char *text);

/* Rows a strategy asks for.  Append items; `tokens` must live until consume. */
typedef struct jpt_proposal {
    jpt_batch_item *items;
    int32_t         n_items, cap;
    int32_t         exit_layers[JPT_EXIT_MAX], n_exit_layers;
    bool            exit_without_norm;
    jpt_phase       phase;
} jpt_proposal;
jpt_status jpt_propose(jpt_proposal *p, jpt_seq seq, const int32_t *tokens, int32_t n, jpt_rows logits, jpt_rows hidden,
                       jpt_error *err);
/* A tree of guesses after seq (jpt_batch_item.parent) with logits of the marked rows; all arrays must live until consume. */
jpt_status jpt_propose_tree(jpt_proposal *p, jpt_seq seq, const int32_t *tokens, const int32_t *parent, const bool *marked, int32_t n, jpt_error *err);

/* Tokens that the strategy is certain of this round.  The driver checks EOS, stop strings and length
 * after each and tells the strategy to close when the text is done; tokens past the stop are dropped
 * and counted as discarded. */
typedef struct jpt_emission {
    int32_t *tokens;
    float   *logprobs;
    int32_t  n, cap;
    bool     finished; /* the strategy itself is done (beam search) */
    jpt_alternative *alternatives;
    int32_t          n_alternatives;
} jpt_emission;
jpt_status jpt_emit(jpt_emission *e, int32_t token, float logprob, jpt_error *err);
jpt_status jpt_emit_alternative(jpt_emission *e, const int32_t *tokens, int32_t n, double score, jpt_error *err); /* copied */

typedef struct jpt_needs {
    int32_t n_seqs;     /* live at once */
    int32_t n_outputs;  /* rows of logits in one round */
    int32_t n_tree;     /* rows of guesses in trees in one round */
    bool    all_hidden; /* hidden states of the whole prompt */
    bool    assistant;  /* a second model (jpt_session_set_assistant) */
    int32_t n_assistant_seqs; /* sequences, and rows of logits in one round, in that model's session; 0: 1 */
} jpt_needs;

struct jpt_strategy {
    const char          *name, *family, *summary, *source; /* source: paper or reference implementation */
    const char          *cost;          /* in forwards and rows a token, for people */
    const char          *on_host;       /* what the host does with whole rows or texts, whatever the device, for people; NULL: nothing, tokens are
                                         * chosen where the logits lie */
    const jpt_param_def *params;
    int32_t              n_params;
    bool                 samples;        /* uses the seed */
    size_t               state_bytes;    /* zeroed state given to the calls below */
    /* what is wrong with a spec beyond its ranges, told when it is read; may be NULL */
    jpt_status (*check)(const jpt_spec *spec, jpt_error *err);
    /* close is called after a failed open too: the state is zeroed before */
    jpt_status (*open)(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err);
    jpt_status (*propose)(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err);
    /* items: the proposal's, with logits_row/hidden_row filled in */
    jpt_status (*consume)(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err);
    void (*close)(void *state, const jpt_strategy_ctx *ctx);
    /* what a request needs of the session with these parameters; NULL: one sequence, one row */
    void (*needs)(const jpt_spec *spec, jpt_needs *needs);
};

size_t              jpt_strategy_count(void);
const jpt_strategy *jpt_strategy_at(size_t i);
const jpt_strategy *jpt_strategy_find(const char *name); /* NULL when unknown */

#endif
