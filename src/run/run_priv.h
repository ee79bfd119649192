/* Inside the run module: a bench at work. */
#ifndef JPT_RUN_PRIV_H
#define JPT_RUN_PRIV_H

#include <jpt/run.h>
#include <jpt/store.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_SAMPLES = 1 << 16 };

/* A metered window over a session: opened, any number of run_generate, closed; the books are made once the idle power is known. */
typedef struct run_window {
    jpt_window        window;
    jpt_session      *session;
    jpt_profile       profile;
    jpt_power_sample *samples;
    size_t            n_samples;
} run_window;
jpt_status run_window_init(run_window *w, jpt_error *err);
void       run_window_fini(run_window *w);
void       run_window_open(run_window *w, jpt_session *s, jpt_meter *meter);
jpt_status run_generate(run_window *w, const jpt_request *r, int32_t n, int32_t n_batch, jpt_generation *g, jpt_error *err);
void       run_window_close(run_window *w, double idle_w, jpt_energy *out);
void       run_window_books(const run_window *w, double idle_w, jpt_energy *e, jpt_ledger *out);
/* Divide a window among the n requests of its first replication; see JPT_RUN_SHARE. */
void       run_share(const jpt_energy *w, const jpt_ledger *l, const jpt_generation *g, int32_t n, int32_t replications, jpt_run_request_energy *out);

/* Joules and tokens of a cell in one block, from its valid windows. */
typedef struct block_sum {
    double joules, tokens;
} block_sum;

typedef struct engine {
    const jpt_run_engine *e;
    jpt_session          *session, *draft_session;
    char                  draft_model[200]; /* file and hash, "" without one */
    char                  name[256];        /* the model's, as its row has it */
    int64_t               model, meter, calibration; /* calibration: -1 none */
    bool                  counts;           /* the meter counts joules */
    jpt_run_windows       rule;             /* of windows, defaults filled in */
    double                idle_w;           /* of the last baseline; NAN: none that is fresh */
    double                warm_up_s;        /* to be told by the next window */
    bool                  warm, steady;
} engine;

typedef struct cell {
    engine         *e;
    jpt_task       *task;
    const jpt_spec *spec;
    int64_t         id;
    int32_t         n_items, max_new_tokens, n_batch, n_seeds;
    block_sum      *block; /* [most_blocks] */
} cell;

typedef struct bench {
    const jpt_run_options *opt;
    jpt_store             *store;
    engine                *engine;
    cell                  *cell;
    size_t                 n_cells;
    int64_t                study;
    int64_t               *task; /* [n_tasks] ids */
    uint64_t               first_seed, seed_stride;
    int32_t                most_blocks;
    jpt_spec_list          sentinel; /* greedy */
    run_window             window;
    engine                *last; /* whose window was the last */
    double                 spent_j, spent_s, begun_s; /* of the study, earlier runs included */
    jpt_run_progress       progress;
    jpt_run_summary       *sum;
} bench;

/* records.c: rows that say what was run */
jpt_status run_put_all(bench *b, jpt_error *err);
bool       run_excluded(const jpt_run_options *o, const char *model, const char *device, const char *task, const char *spec, int32_t batch);
uint64_t   run_seed(const bench *b, const cell *c, int32_t block, int32_t i);
/* ... and what came out.  A window with its requests (none: NULL) is one transaction. */
typedef struct window_facts {
    const char *kind;
    int64_t     cell; /* -1: no cell's */
    int32_t     block, order, attempt, replications, n;
    double      idle_before_w, idle_after_w;
} window_facts;
typedef struct asked { /* the requests of a window */
    const int32_t        *item;  /* [n] */
    const uint64_t       *seed;  /* [n] */
    const int32_t        *n_prompt;
    const jpt_generation *g;
} asked;
jpt_status run_put_window(bench *b, engine *e, const cell *c, const window_facts *f, const asked *a, bool with_requests, const jpt_energy *energy, const jpt_ledger *books,
                          jpt_error *err);

/* score.c: metrics of a whole cell, when all is done */
jpt_status run_score_cell(bench *b, const cell *c, jpt_error *err);

/* closing.c: the second opinion on the ledger, and floors */
jpt_status run_put_ledger(bench *b, jpt_error *err);
jpt_status run_put_floors(bench *b, jpt_error *err);

/* stopping.c: after a block; *done: narrow enough */
jpt_status run_look(bench *b, int32_t blocks, bool budget_spent, bool *done, jpt_error *err);

/* check.c: refuses what cannot be meant */
jpt_status run_check_options(const jpt_run_options *o, jpt_error *err);
void       run_model_name(const jpt_model *m, char out[256]);
/* defaults of windows on a meter */
jpt_run_windows run_window_rule(const jpt_run_options *o, const jpt_meter *m);
bool            run_wants_sentinel(const engine *e);
int32_t         run_n_items(const jpt_run_options *o, const jpt_task *t);

#endif
