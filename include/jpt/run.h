/* The bench: tasks x strategies on one model, each request in a metered window, into a results file.
 *
 * Run it again with the same arguments to resume: what is finished is skipped, and because random numbers are keyed by
 * (seed, item, sequence, step) the rows are the same as of an undisturbed run. */
#ifndef JPT_RUN_H
#define JPT_RUN_H

#include <jpt/decode.h>
#include <jpt/meter.h>
#include <jpt/model.h>
#include <jpt/task.h>

typedef struct jpt_run_progress {
    int64_t     total, done, resumed; /* requests */
    int32_t     block;
    const char *task, *spec; /* of the request just finished */
    double      energy_j;    /* of this run so far; NAN when absent */
    int64_t     tokens;
} jpt_run_progress;

typedef struct jpt_run_options {
    jpt_model           *model, *draft; /* draft: second model of strategies that ask one; NULL: none */
    jpt_meter           *meter;
    const char          *model_sha256; /* NULL: computed from the file */
    jpt_task *const     *tasks;
    size_t               n_tasks;
    const jpt_spec_list *specs;
    int32_t              limit;    /* items a task; 0: all */
    int32_t              n_batch;  /* requests of a cell at a time, sharing passes over the weights; 0: 1 */
    int32_t              n_blocks; /* every block holds each cell once, in an order drawn from the seed */
    int32_t              max_new_tokens; /* 0: the task's own */
    uint64_t             seed;     /* block b uses seed + b */
    double               max_joules; /* budget of a request; 0: none */
    int32_t              n_ctx;    /* 0: the model's, at most 4096 */
    double               idle_s;   /* length of the idle baseline; 0: 5 s on measured meters */
    const char          *out;      /* results.db */
    const char          *device;   /* for the records */
    void (*on_progress)(void *ud, const jpt_run_progress *p);
    void *ud;
} jpt_run_options;

typedef struct jpt_run_summary {
    int64_t total, done, resumed; /* requests of this bench; done in this run, in earlier ones */
    int64_t invalid_energy;       /* of all of them */
    int64_t others;               /* requests that were in the file already and belong to other cells */
} jpt_run_summary;

/* JPT_INTERRUPTED keeps all finished requests.  Other errors: of model, task, store, sandbox. */
jpt_status jpt_run_bench(const jpt_run_options *opt, jpt_run_summary *out, jpt_error *err);

/* ---- plans ------------------------------------------------------------------------------------- */

/* A bench as a YAML file: name, description (optional), model, draft_model (optional), tasks, strategies (SPECs), seed, blocks,
 * limit, max_new_tokens, compat (optional; as jpt_task_options).  Texts live in the plan. */
typedef struct jpt_plan {
    char    *name, *description, *model, *draft_model, *compat;
    char   **tasks, **strategies;
    unsigned tasks_count, strategies_count;
    int      seed, blocks, limit, max_new_tokens;
} jpt_plan;
/* JPT_FORMAT names the file and the place; a SPEC that does not parse is named with the file. */
jpt_status jpt_plan_load(const char *path, jpt_plan **out, jpt_spec_list *specs, jpt_error *err);
void       jpt_plan_free(jpt_plan *p); /* NULL accepted */

/* What a bench will take if every answer has its full length, from a probe of the model on this machine: forwards of
 * 1 to 64 rows after a prompt of 64 tokens.  Speculation is taken at one token a forward, its worst. */
typedef struct jpt_run_estimate {
    int64_t configurations, requests;
    double  seconds, energy_j; /* NAN when absent */
    double  watts, step_s;     /* of the probe: mean power; a forward of one row */
    bool    modelled;
} jpt_run_estimate;
jpt_status jpt_run_dry(const jpt_run_options *opt, jpt_run_estimate *out, jpt_error *err);

/* A prompt as the model wants it: chat template where `chat` is set and the model has one.  Appends ids. */
jpt_status jpt_run_encode_prompt(const jpt_model *m, const char *system, const char *prompt, bool chat, jpt_ids *out, jpt_error *err);

/* Sessions for a set of strategies: one on the model, and one on the draft model (may be NULL) that assists it.  Close
 * both.  JPT_ARG when a strategy needs a draft model and there is none, or the vocabularies differ. */
jpt_status jpt_run_open_sessions(jpt_model *m, jpt_model *draft, const jpt_spec *const *spec, size_t n, int32_t n_batch, int32_t n_ctx, jpt_session **out,
                                 jpt_session **out_draft, jpt_error *err);

/* The energy of one request, split over phases (JPT_PHASE_COUNT entries, then the rest). */
typedef struct jpt_run_request_energy {
    jpt_energy energy;
    double     phase_j[JPT_PHASE_COUNT + 1];
} jpt_run_request_energy;
/* n requests in one metered window, n_batch of them at a time.  Each gets its part of the window's joules by the rule
 * JPT_RUN_SHARE: phase by phase, prefill in proportion to jpt_generation's prefill_share_s, all else to decode_share_s.  The
 * parts add up to the window; its verdict is each one's.  JPT_INTERRUPTED: those that are done (stop != JPT_STOP_NONE) count. */
#define JPT_RUN_SHARE "a step's forward over its rows: prompts to their owners, the rest equally to the requests that decode"
jpt_status jpt_run_requests(jpt_session *s, jpt_meter *meter, double idle_w, const jpt_request *r, int32_t n, int32_t n_batch, jpt_generation *g,
                            jpt_run_request_energy *out, jpt_error *err);

#endif
