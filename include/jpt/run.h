/* The bench: engines x tasks x strategies x batch sizes, requests in metered windows, into a results file.
 *
 * Run it again with the same arguments to resume: what is finished is skipped, and because random numbers are keyed by
 * (seed, item, sequence, step) the rows are the same as of an undisturbed run.  docs/energy-method.md has the protocol. */
#ifndef JPT_RUN_H
#define JPT_RUN_H

#include <jpt/decode.h>
#include <jpt/meter.h>
#include <jpt/store.h>
#include <jpt/model.h>
#include <jpt/task.h>

/* ---- what to run ---------------------------------------------------------------------------------- */

/* What a device pays (jpt calibrate); NAN where unknown. */
typedef struct jpt_calibration {
    char   device[64], backend[160], card_uuid[64], model_sha256[65], energy_source[32], taken[32];
    bool   modelled;
    double idle_w, pj_per_byte, pj_per_flop, launch_w; /* above idle, but launch_w: all of it */
    double bytes_per_s, flops_per_s, launch_s;         /* best seen; seconds of a step that waits for launches */
    double residual;                                   /* root mean square of the fit, as a share */
    /* phases alone, above idle: a position of a long prompt, a step of one row, one choice from a row of logits (by amplification) */
    double prefill_j, decode_j, select_j, select_error_j;
} jpt_calibration;

/* A model on a device with the meter that watches it. */
typedef struct jpt_run_engine {
    jpt_model             *model, *draft; /* draft: second model of strategies that ask one; NULL: none */
    jpt_meter             *meter;
    const char            *model_sha256; /* NULL: computed from the file */
    const char            *device;       /* for the records */
    const jpt_calibration *calibration;  /* NULL: cells show no floor */
} jpt_run_engine;

/* How windows are made.  0: by the meter.  Meters that count joules (cards, RAPL) get windows over several requests, idle
 * baselines between them, sentinels and repeats; modelled and absent ones a window a request (a few rounds of a batch) and none of these. */
typedef struct jpt_run_windows {
    double  seconds;   /* fill a window to so long: 10 on cards, 2 on RAPL */
    double  idle_s;    /* baseline between windows: 3 on cards, 1 on RAPL */
    double  warm_up_s; /* at most so long until steps and temperature are steady: 60 on cards, 10 on RAPL */
    int32_t repeats;   /* of an invalid window: 2 */
    int32_t sentinel;  /* greedy at both ends of each block: -1 never, 1 always, 0 on meters that count */
} jpt_run_windows;

/* Go on adding blocks until the difference in J/token between two settings is known well enough (jpt_stopping_interval). */
typedef struct jpt_run_stop {
    const char *a, *b;      /* SPECs as jpt_spec.text has them; NULL: no such rule */
    const char *task;       /* NULL: all tasks together */
    double      width;      /* of the whole interval, relative: 0.02 is 2 % */
    int32_t     max_blocks; /* 0: 100 */
} jpt_run_stop;

/* Leaves out the cells that match all that is given; names may have * and ?; batch 0: any. */
typedef struct jpt_run_exclusion {
    const char *model, *task, *strategy, *device;
    int32_t     batch;
} jpt_run_exclusion;

typedef struct jpt_run_progress {
    int64_t     total, done, resumed; /* requests */
    int32_t     block;
    const char *task, *spec; /* of the window just finished */
    int32_t     batch;
    double      energy_j;    /* of this run so far; NAN when absent */
    int64_t     tokens;
    double      tokens_per_s, watts, joules_per_token; /* of the cell: in this window; over its windows */
    double      width;       /* of the wanted comparison, else of the cell's J/token over blocks: whole interval, relative; NAN: not yet */
    const char *note;        /* something to say now ("window repeated: ..."); NULL: nothing */
} jpt_run_progress;

typedef struct jpt_run_options {
    const jpt_run_engine    *engines;
    size_t                   n_engines;
    jpt_task *const         *tasks;
    size_t                   n_tasks;
    const jpt_spec_list     *specs;
    const int32_t           *batches; /* requests of a cell at a time, sharing passes over the weights; none: 1 */
    size_t                   n_batches;
    const uint64_t          *seeds;   /* block b adds b x (their span + 1) to each (1 seed: b), so that none comes twice; none: 0 */
    size_t                   n_seeds; /* strategies that draw nothing use the first alone */
    const jpt_run_exclusion *exclude;
    size_t                   n_exclude;
    int32_t                  limit;    /* items a task; 0: all */
    int32_t                  n_blocks; /* every block holds each cell once, in an order drawn from the first seed */
    int32_t                  max_new_tokens; /* 0: the task's own */
    double                   max_joules; /* budget of a request; 0: none */
    int32_t                  n_ctx;    /* 0: the model's, at most 4096 */
    jpt_run_windows          windows;
    jpt_run_stop             stop;
    double                   max_joules_total, max_hours; /* budget of the study, earlier runs of it included; 0: none */
    const char              *plan_name, *plan_text; /* for the records; may be NULL */
    const char              *out;      /* results.db */
    void (*on_progress)(void *ud, const jpt_run_progress *p);
    void *ud;
} jpt_run_options;

typedef struct jpt_run_summary {
    int64_t total, done, resumed; /* requests of this bench; done in this run, in earlier ones */
    int64_t invalid_energy;       /* of all of them */
    int64_t others;               /* requests that were in the file already and belong to other cells */
    int64_t windows_invalid;      /* in this run, repeats counted */
    int32_t blocks;               /* that are whole */
    bool    budget_spent;         /* the study's: blocks are missing for that */
    bool    narrow_enough;        /* the stop rule's end */
    double  difference, ci_low, ci_high; /* the stop rule's comparison, relative; NAN without */
} jpt_run_summary;

/* JPT_INTERRUPTED keeps all finished windows, and so does JPT_METER: a meter that counts stopped giving readings.  Other errors: of
 * model, task, store, sandbox. */
jpt_status jpt_run_bench(const jpt_run_options *opt, jpt_run_summary *out, jpt_error *err);

/* ---- plans ------------------------------------------------------------------------------------- */

/* A bench as a YAML file; docs/formats.md describes the keys.  Texts live in the plan. */
typedef struct jpt_plan_windows { double seconds, idle_seconds, warm_up_seconds; int repeats; char *sentinel; } jpt_plan_windows;
typedef struct jpt_plan_budget { double joules, hours; } jpt_plan_budget;
typedef struct jpt_plan_stop { char **compare; unsigned compare_count; char *task; double width; int blocks; } jpt_plan_stop;
typedef struct jpt_plan_exclusion { char *model, *task, *strategy, *device; int batch; } jpt_plan_exclusion;
typedef struct jpt_plan {
    char    *name, *description, *model, *draft_model, *compat; /* compat: as jpt_task_options */
    char   **models, **tasks, **strategies, **devices;
    unsigned models_count, tasks_count, strategies_count, devices_count;
    int     *batch_sizes;
    uint64_t *seeds;
    unsigned batch_sizes_count, seeds_count;
    uint64_t seed;
    int      blocks, limit, max_new_tokens, ctx;
    double   max_joules;
    jpt_plan_windows *windows;
    jpt_plan_budget  *budget;
    jpt_plan_stop    *stop;
    jpt_plan_exclusion *exclude;
    unsigned exclude_count;
    char    *text; /* the file's */
} jpt_plan;
/* JPT_FORMAT names the file, the line and, for a key, the nearest valid one. */
jpt_status jpt_plan_load(const char *path, jpt_plan **out, jpt_spec_list *specs, jpt_error *err);
void       jpt_plan_free(jpt_plan *p); /* NULL accepted */

/* What a bench will take if every answer has its full length, from a probe of the models on this machine: forwards of
 * 1 to 64 rows after a prompt of 64 tokens.  Speculation is taken at one token a forward, its worst.  Idle baselines, fillings of
 * windows and sentinels are counted, warming up and repeats are not. */
typedef struct jpt_run_estimate {
    int64_t configurations, cells, requests, windows; /* of all blocks, but configurations (strategies) and cells */
    double  seconds, energy_j; /* NAN when absent */
    double  watts, step_s;     /* of the first engine's probe: mean power; a forward of one row */
    bool    modelled;
} jpt_run_estimate;
jpt_status jpt_run_dry(const jpt_run_options *opt, jpt_run_estimate *out, jpt_error *err);

/* ---- sequential stopping --------------------------------------------------------------------------- */

/* Interval for the mean of x[0..n) that holds at confidence 1 - alpha for all n at once, so that one may look after each value and
 * stop when one likes: an always-valid t interval (docs/energy-method.md derives it).  Infinite for n < 5 and while the data are too few. */
void jpt_stopping_interval(const double *x, int32_t n, double alpha, double *low, double *high);

/* ---- audit ------------------------------------------------------------------------------------------- */

/* The part of an audit that needs the tasks: every stored text is scored again (not where that runs code), and every cell from its texts,
 * value and interval, and held against what the file says.  Lines in the form of jpt_report_audit are added to out, a line says so where
 * the task that was asked is not here; *n_failed counts what differs.  JPT_NOMEM, and what a metric or the store refuses. */
jpt_status jpt_run_audit_scores(jpt_store *s, jpt_buf *out, int *n_failed, jpt_error *err);

/* ---- calibration ------------------------------------------------------------------------------------ */

/* A fit that leaves more than this share of the joules unexplained gives no floor. */
#define JPT_CALIBRATION_RESIDUAL 0.25

/* Measure what the engine's device pays, in at most `seconds` (a modelled meter takes a tenth): idle with the weights resident, forwards of 1
 * to 512 rows fitted as bytes and FLOPs, one layer at a time as launch-bound work, and choices by amplification.  JPT_METER: no joules here, or no valid window. */
jpt_status jpt_run_calibrate(const jpt_run_engine *e, double seconds, jpt_calibration *out, jpt_error *err);
/* Bytes and FLOPs of work: passes over the weights, rows through the layers and through the head, positions of keys and values read. */
void jpt_run_cost(const jpt_model *m, double passes, double rows, double logits_rows, double kv_positions, double *bytes, double *flops);
/* Keep it under $JPT_HOME (calibration.jsonl), and find the newest of a device and meter: of this model where there is one, else of another.
 * One that leaves a quarter of the joules unexplained is no calibration.  JPT_NOT_FOUND: none. */
jpt_status jpt_calibration_save(const jpt_calibration *c, jpt_error *err);
jpt_status jpt_calibration_find(const char *device, const char *card_uuid, const char *energy_source, const char *model_sha256, jpt_calibration *out, jpt_error *err);

/* ---- requests ---------------------------------------------------------------------------------------- */

/* A prompt as the model wants it: chat template where `chat` is set and the model has one.  Appends ids. */
jpt_status jpt_run_encode_prompt(const jpt_model *m, const char *system, const char *prompt, bool chat, jpt_ids *out, jpt_error *err);

/* Sessions for a set of strategies: one on the model, and one on the draft model (may be NULL) that assists it.  Close
 * both.  JPT_ARG when a strategy needs a draft model and there is none, or the vocabularies differ. */
jpt_status jpt_run_open_sessions(jpt_model *m, jpt_model *draft, const jpt_spec *const *spec, size_t n, int32_t n_batch, int32_t n_ctx, jpt_session **out,
                                 jpt_session **out_draft, jpt_error *err);

/* The energy of one request, split over phases (JPT_PHASE_COUNT entries, then the rest: the host and what the meters leave over). */
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

/* Joules of a request by what became of the work; they add up to its energy_j.  JPT_RUN_FATE is the rule. */
#define JPT_RUN_FATE "prefill is kept; the rest goes by positions computed after the prompt: kept, or thrown away as drafts, as beams and candidates, or past the end"
typedef struct jpt_run_fates {
    double kept_j, rejected_j, pruned_j, past_stop_j;
} jpt_run_fates;
void jpt_run_fate(const jpt_spec *spec, int32_t n_prompt, const jpt_generation *g, const jpt_run_request_energy *e, jpt_run_fates *out);

#endif
