/* Models and sessions: the seam between decoding strategies and everything that computes.
 *
 * A model is loaded weights plus a tokenizer, read-only, on one back-end.  A session is the mutable
 * part: sequences (token histories with keys and values behind them, in pages) and the outputs of the
 * last forward pass.  Strategies see sequences and operations, never a device pointer.
 * Not thread-safe: one caller at a time per session (the back-end uses its own threads). */
#ifndef JPT_MODEL_H
#define JPT_MODEL_H

#include <jpt/base.h>
#include <jpt/select.h>
#include <jpt/token.h>

typedef struct jpt_model   jpt_model;
typedef struct jpt_session jpt_session;

/* ---- model ------------------------------------------------------------------------------------ */

typedef struct jpt_model_options {
    const char *device; /* NULL or "auto", "cpu", "ref" */
    const char *dtype;  /* NULL or "auto": the file's blocks times 8-bit activations; "f32": exact float32 */
    int         n_threads;
    bool        in_place; /* cpu: no repacked copy of the weights; see backend.h */
    const char *isa;      /* see backend.h */
} jpt_model_options;

typedef struct jpt_model_info {
    char     path[1024], name[128], architecture[32], quantization[32]; /* e.g. "Q4_1": the most frequent matrix type */
    char     backend[160], compute[16];
    char     gpu_uuid[64]; /* NVML's name of the card that computes; "" without one */
    char     chat_template[32]; /* "chatml", "llama2", "llama3", "mistral", "none" */
    int32_t  n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx_train;
    bool     tied; /* the LM head is the embedding */
    uint64_t n_params;
    size_t   file_bytes, weight_bytes; /* weight_bytes: memory taken beyond the mapping */
    double   load_s;
} jpt_model_info;

/* Open a GGUF or llama2.c file.  Refuses (JPT_NOMEM, with the numbers) a model that does not fit this
 * machine's memory.  JPT_FORMAT / JPT_UNSUPPORTED name the file and the place. */
jpt_status            jpt_model_open(const char *path, const jpt_model_options *opt, jpt_model **out, jpt_error *err);
void                  jpt_model_close(jpt_model *m);
const jpt_model_info *jpt_model_get_info(const jpt_model *m);
const jpt_tokenizer  *jpt_model_tokenizer(const jpt_model *m);
/* The chat template's raw text from the file; empty when there is none. */
jpt_str               jpt_model_chat_template(const jpt_model *m);

/* ---- session ---------------------------------------------------------------------------------- */

typedef struct jpt_session_options {
    int32_t n_ctx;     /* most positions of one sequence; 0: min(n_ctx_train, 4096) */
    int32_t n_seqs;    /* most live sequences; 0: 1 */
    int32_t n_tokens;  /* most distinct cached positions over all sequences; 0: n_ctx * n_seqs.  Forks share pages. */
    int32_t n_batch;   /* most rows of one pass over the weights; longer forwards are split; 0: 512, on a card up to 2048 where there is room */
    int32_t n_outputs; /* most logits rows of one forward; 0: n_batch, or 512 where that is 0, too */
    int32_t n_hidden;  /* most hidden rows of one forward; 0: n_outputs */
    int32_t n_tree;    /* most rows of guesses standing in trees at once, over all sequences; 0: no trees */
    int32_t page_size; /* positions a page of keys and values; 0: 16 for one sequence without trees, else 1, so that forks copy nothing */
} jpt_session_options;

/* Bytes a session with these options takes, before paying them. */
size_t     jpt_session_memory(const jpt_model *m, const jpt_session_options *opt);
jpt_status jpt_session_open(jpt_model *m, const jpt_session_options *opt, jpt_session **out, jpt_error *err);
void       jpt_session_close(jpt_session *s);
jpt_model *jpt_session_model(const jpt_session *s);
int32_t    jpt_session_n_ctx(const jpt_session *s);

/* Sequences.  A handle is small and may be copied; it is dead after jpt_seq_free. */
typedef int32_t jpt_seq;
jpt_status      jpt_seq_new(jpt_session *s, jpt_seq *out, jpt_error *err);
/* A second timeline with the same past: shares all pages, moves no KV bytes (where a page holds several positions, a
 * half-full last page is copied when one of the two next writes to it). */
jpt_status jpt_seq_fork(jpt_session *s, jpt_seq from, jpt_seq *out, jpt_error *err);
/* Append rows[0..n) of the tree that the last forward put after this sequence: a path from its root, each the next one's
 * parent.  The other rows are forgotten, as all are when the sequence is used in any other way before. */
jpt_status jpt_seq_keep(jpt_session *s, jpt_seq seq, const int32_t *rows, int32_t n, jpt_error *err);
/* Forget all but the first n positions (speculative rollback).  0 <= n <= length. */
jpt_status     jpt_seq_truncate(jpt_session *s, jpt_seq seq, int32_t n, jpt_error *err);
void           jpt_seq_free(jpt_session *s, jpt_seq seq);
int32_t        jpt_seq_length(const jpt_session *s, jpt_seq seq);
const int32_t *jpt_seq_tokens(const jpt_session *s, jpt_seq seq); /* [length], valid until seq changes */

/* ---- forward ---------------------------------------------------------------------------------- */

typedef enum jpt_rows { JPT_ROWS_NONE, JPT_ROWS_LAST, JPT_ROWS_ALL, JPT_ROWS_MARKED } jpt_rows;

/* Append tokens to a sequence and say what is wanted of their positions.
 * With `parent` they are a tree of guesses instead: row k stands after row parent[k] < k, or after the sequence where that is
 * -1, and sees its ancestors alone.  The sequence stays as it is until jpt_seq_keep appends a path.  Needs n_tree and pages of
 * one position. */
typedef struct jpt_batch_item {
    jpt_seq        seq;
    const int32_t *tokens; /* [n_tokens], borrowed for the call */
    int32_t        n_tokens;
    const int32_t *parent;   /* [n_tokens] borrowed, NULL: a line */
    const bool    *marked;   /* [n_tokens] borrowed, for JPT_ROWS_MARKED */
    jpt_rows       logits, hidden; /* hidden = last layer's state after the final norm, [D] */
    int32_t        logits_row, hidden_row; /* out: first row of this item's outputs, -1 when none */
} jpt_batch_item;

/* How many rows of an item `rows` (its logits or hidden) names. */
int32_t jpt_rows_count(const jpt_batch_item *item, jpt_rows rows);

enum { JPT_EXIT_MAX = 64 };
typedef struct jpt_batch {
    jpt_batch_item *items; /* a sequence may appear once */
    int32_t         n_items;
    /* Early-exit logits (final norm and LM head on the state after layer j, 1 <= j <= n_layers) for every
     * row that has logits; read with jpt_session_exit_logits. */
    int32_t exit_layers[JPT_EXIT_MAX], n_exit_layers;
    bool    exit_without_norm; /* LM head on the bare state, as DoLa's reference does */
    int32_t n_layers;          /* run the first n layers only, then norm and head (self-speculation); 0: all */
} jpt_batch;

/* Run one ragged batch.  All or nothing: on JPT_CTX_FULL (a sequence would pass n_ctx, or pages are used
 * up), JPT_ARG (token id out of range, sequence twice, too many outputs) nothing has changed.
 * JPT_INTERRUPTED when jpt_stop_requested() turned true between passes (sequences unchanged).
 * Outputs stay valid until the next forward. */
jpt_status jpt_session_forward(jpt_session *s, jpt_batch *batch, jpt_error *err);

/* Selection on rows of the last forward's logits. */
jpt_status jpt_session_select(jpt_session *s, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err);
jpt_status jpt_session_topk(jpt_session *s, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                            float *out_score, int32_t *n_out, jpt_error *err);
/* Copies to the host, for tests, perplexity and strategies that have no op yet. */
jpt_status jpt_session_logits(jpt_session *s, int32_t row, float *out_V, jpt_error *err);
jpt_status jpt_session_hidden(jpt_session *s, int32_t row, float *out_D, jpt_error *err);
jpt_status jpt_session_exit_logits(jpt_session *s, int32_t i_exit, int32_t row, float *out_V, jpt_error *err);
/* Replace a row of the last forward's logits, for strategies that combine distributions before they choose. */
jpt_status jpt_session_set_logits(jpt_session *s, int32_t row, const float *z_V, jpt_error *err);

/* Hidden states kept where they were computed: a list of rows [D] in the back-end's memory, for strategies that look back
 * (contrastive search, FSD).  Belongs to the session and must be freed before it is closed; its memory is used again by the next. */
typedef struct jpt_states jpt_states;
/* room: most rows (JPT_NOMEM); unit: rows are kept divided by their length. */
jpt_status jpt_states_new(jpt_session *s, int32_t room, bool unit, jpt_states **out, jpt_error *err);
void       jpt_states_free(jpt_states *h); /* NULL accepted */
int32_t    jpt_states_count(const jpt_states *h);
/* Append hidden rows [first_row, first_row + n) of the last forward.  JPT_CTX_FULL: no room. */
jpt_status jpt_states_add(jpt_states *h, int32_t first_row, int32_t n, jpt_error *err);
/* out[i] = the largest cosine of the last forward's hidden row first_row + i with the (unit) rows kept, i < n; needs one kept. */
jpt_status jpt_states_similarity(const jpt_states *h, int32_t first_row, int32_t n, float *out_n, jpt_error *err);
/* out[i] = row a[i] . row b[i] of the list. */
jpt_status jpt_states_dots(const jpt_states *h, const int32_t *a, const int32_t *b, int32_t n, float *out_n, jpt_error *err);

/* Contrast rows of the last forward's logits in place, where they lie (jpt_contrast_row in select.h): against the same rows of the
 * forward's early exits (DOLA: the one that diverges most; else the first), or, with `amateur`, against rows amateur_rows[n] of that
 * session's last forward.  Exit and amateur logits are undefined afterwards.  A row that is no distribution is told here or by the
 * selection that follows. */
jpt_status jpt_session_contrast(jpt_session *s, const jpt_contrast *how, const int32_t *rows, int32_t n, jpt_session *amateur, const int32_t *amateur_rows, jpt_error *err);
/* The expert's own ln p of a token in a contrasted row. */
jpt_status jpt_session_expert(jpt_session *s, int32_t row, int32_t token, float *logprob, jpt_error *err);

/* A second model that strategies may ask (draft, amateur): its own session, borrowed; NULL: none. */
jpt_status   jpt_session_set_assistant(jpt_session *s, jpt_session *assistant, jpt_error *err);
jpt_session *jpt_session_assistant(const jpt_session *s);
/* Whether an id means the same token to both; the larger vocabulary may go on with others (padding).  false without one. */
bool         jpt_session_assistant_shares_tokens(const jpt_session *s);

/* ---- work ------------------------------------------------------------------------------------- */

/* What was computed since the session was opened; energy is explained by these counts. */
typedef struct jpt_work {
    uint64_t forwards;           /* calls of jpt_session_forward */
    uint64_t passes;             /* times the weights were read (a long prompt takes several) */
    uint64_t positions_computed; /* rows put through the layers */
    uint64_t positions_discarded;/* rows later truncated away or freed without being kept: counted by strategies */
    uint64_t logits_rows;        /* rows put through the LM head, early exits included */
    uint64_t kv_bytes_moved;     /* copy-on-write copies */
    uint64_t selects;            /* rows chosen from */
    /* of a second model or of the model's own first layers, not in the counts above: by strategies */
    uint64_t draft_forwards, draft_positions;
} jpt_work;
jpt_work jpt_session_work(const jpt_session *s);
jpt_work jpt_work_sub(jpt_work after, jpt_work before); /* inline difference, field by field */

/* Time-stamped phases for energy attribution.  NULL: none.  A phase's time is that of its work: on a card, which works on while the host
 * goes on, from events in its stream, told late (when the host next waits for a result) and in order. */
typedef enum jpt_phase { JPT_PHASE_PREFILL, JPT_PHASE_DECODE, JPT_PHASE_DRAFT, JPT_PHASE_VERIFY, JPT_PHASE_SELECT, JPT_PHASE_KV, JPT_PHASE_COUNT } jpt_phase;
typedef void (*jpt_phase_fn)(void *ud, jpt_phase phase, bool begin, int64_t t_ns);
void jpt_session_observe(jpt_session *s, jpt_phase_fn fn, void *ud);
/* Wait until the device has done all that was asked of it: a forward may return when its work is queued. */
void jpt_session_wait(jpt_session *s);
/* Which phase the next forwards count as (default JPT_PHASE_DECODE); strategies set it. */
void jpt_session_set_phase(jpt_session *s, jpt_phase phase);

/* Sum of -ln p(token | past) over tokens[1..n) and how many were scored: perplexity = exp(nll / count).
 * Windows of n_ctx positions, no overlap; adds nothing (pass BOS yourself). */
jpt_status jpt_model_nll(jpt_session *s, const int32_t *tokens, int32_t n, double *nll, int32_t *count, jpt_error *err);

/* The same over tokens[first..n), 1 <= first: what stands before is only conditioned on.  Where n is more than n_ctx, the first
 * window drops tokens from the left until at least half of it is left for those scored. */
jpt_status jpt_model_nll_from(jpt_session *s, const int32_t *tokens, int32_t n, int32_t first, double *nll, int32_t *count, jpt_error *err);

/* How likely a text is after a prompt: start token (BOS, or EOS where the vocabulary has none; lm-evaluation-harness's rule), the
 * prompt's tokens, the text's tokens, tokenised apart (Su and Xu 2022: coherence = -nll / count; with an empty prompt, perplexity =
 * exp(nll / count)).  A session for these functions needs n_outputs >= 64.  count 0: a text without tokens. */
jpt_status jpt_model_text_nll(jpt_session *s, jpt_str prompt, jpt_str text, double *nll, int32_t *count, jpt_error *err);

/* Features of texts for MAUVE (Pillutla et al. 2021): the last layer's state, after the final norm, of each text's last token, texts
 * cut at max_tokens (0: 1024) or n_ctx.  An empty text gives that of the start token.  n_batch texts share a pass over the weights:
 * the session needs n_seqs and n_hidden >= n_batch.  out [n, n_embd]; n_tokens [n] or NULL. */
jpt_status jpt_model_features(jpt_session *s, const jpt_str *texts, int32_t n, int32_t n_batch, int32_t max_tokens, float *out, int32_t *n_tokens, jpt_error *err);

#endif
