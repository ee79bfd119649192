/* Inside the model module: loaded weights and sessions. */
#ifndef JPT_MODEL_PRIV_H
#define JPT_MODEL_PRIV_H

#include <jpt/backend.h>
#include <jpt/format.h>
#include <jpt/model.h>

typedef struct model_layer {
    float      *d_attn_norm, *d_ffn_norm;         /* [D] */
    jpt_weight *q, *k, *v, *o, *gate, *up, *down; /* [HE, D] [KE, D] [KE, D] [D, HE] [F, D] [F, D] [D, F] */
    float      *d_q_bias, *d_k_bias, *d_v_bias;   /* NULL without bias */
} model_layer;

typedef struct marked_phase {
    jpt_session *session;
    jpt_phase    phase;
    bool         begin;
} marked_phase;

struct jpt_model {
    jpt_model_file file;
    jpt_backend   *be;
    jpt_tokenizer *tok;
    jpt_model_info info;
    model_layer   *layer; /* [L] */
    jpt_weight    *embed, *head; /* head == embed when tied */
    float         *d_out_norm;
    float         *inv_freq; /* [rope_dim / 2], scaling applied */
    jpt_dtype      kv_dtype;
    jpt_attn_shape shape;
    marked_phase   marked[JPT_MARKS]; /* phases whose times the back-end has to tell yet */
    int32_t        n_marked;
};

typedef struct sequence {
    bool     live;
    int32_t  n;      /* positions */
    int32_t *tokens; /* [n_ctx] */
    int32_t *table;  /* [n_ctx / page_size, rounded up] page numbers */
    /* a tree after the sequence, until a path of it is kept: [n_tree], room for the session's n_tree */
    int32_t  n_tree, *tree_token, *tree_parent, *tree_depth, *tree_page;
} sequence;

struct jpt_session {
    jpt_model          *model;
    jpt_session_options opt;
    int32_t             n_pages, pages_per_seq;
    jpt_kv_view         kv;
    int32_t            *page_refs; /* [n_pages] */
    int32_t            *free_page; /* stack of unused pages */
    int32_t             n_free;
    sequence           *seq; /* [n_seqs] */

    /* activations for n_batch rows */
    float *d_x, *d_norm, *d_q, *d_k, *d_v, *d_attn, *d_gate, *d_up, *d_proj;
    /* outputs of the last forward: [1 + n_exit, n_logits, V], the last layer first, and [n_hidden, D] */
    float  *d_logits, *d_hidden, *d_gather;
    float  *d_heads;               /* with exits: what the LM head reads, [1 + n_exit, n_logits, D] of one pass */
    size_t  logits_cap, heads_cap; /* rows */
    int32_t n_logits, n_hidden, n_exit, all_logits; /* all_logits: n_logits once the forward is done */
    float       *d_expert, *d_amateur; /* [n_outputs, V], made when asked for: ln p of contrasted rows; logits of an amateur elsewhere */
    jpt_states  *spare;                /* freed lists of hidden states, to be used again */
    /* host lists of one pass, [n_batch] */
    int32_t     *tok, *pos, *pick;
    jpt_row_run *run;
    int32_t     *tree_table; /* [n_tree, n_ctx] page tables of the rows of trees in a pass */

    jpt_session *assistant; /* borrowed */
    bool         assistant_shares; /* its ids mean the same tokens */
    jpt_work     work;
    jpt_phase    phase;
    jpt_phase_fn observe;
    void        *observe_ud;
    int64_t      told_ns; /* the last phase's time */
};

/* One pass over the weights: rows [0, n) of s->tok/pos/run through all layers.  pick[0..n_pick) are the rows that
 * want logits (written at s->d_logits row first_logits ...), likewise hidden. */
typedef struct pass {
    int32_t        n, n_runs;
    bool           apart; /* no row attends to another one of the pass */
    const int32_t *logits_rows, *hidden_rows;
    int32_t        n_logits, n_hidden, first_logits, first_hidden;
    const int32_t *exit_layers;
    int32_t        n_exit;
    bool           exit_without_norm;
    int32_t        n_layers;
} pass;
void jpt_pass_run(jpt_session *s, const pass *p);

jpt_status jpt_check_row(int32_t row, int32_t n, const char *what, jpt_error *err);
void       jpt_states_fini(jpt_session *s); /* the spare lists */

/* JPT_DEVICE when the card failed in what was asked of it so far. */
jpt_status jpt_device_status(const jpt_session *s, jpt_error *err);

/* A phase begins or ends behind the work handed to the back-end so far. */
void jpt_session_event(jpt_session *s, jpt_phase phase, bool begin);
/* It ends now: the host has waited for its result. */
void jpt_session_waited(jpt_session *s, jpt_phase phase);

#endif
