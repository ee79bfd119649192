/* The results file: one SQLite database a study, rows only ever added, everything a report needs.
 *
 * A finished request and its scores are one transaction, so a killed run loses at most the request that
 * was running.  One writer at a time (an open-file-description lock on PATH.lock, which the kernel drops
 * when the process dies); readers may look on.  Not a cache and not a log: nothing is rewritten.
 *
 * Absent is not zero.  A row begins with its _init function, which makes every value absent: counts -1,
 * reals NAN, texts NULL; they are stored as NULL and read back the same way.
 * Texts given are borrowed for the call; texts handed to a callback live until it returns. */
#ifndef JPT_STORE_H
#define JPT_STORE_H

#include <jpt/base.h>

#define JPT_STORE_SCHEMA 2
#define JPT_STORE_APPLICATION_ID 0x6a707472 /* "jptr" */

/* Columns of each table: X(kind, name).  KEY is an integer that is never absent. */
#define JPT_STUDY_MAP(X)                                                                                 \
    X(TEXT, jpt_version) X(TEXT, cpu) X(INT, threads) X(TEXT, sampler_order)                             \
    X(TEXT, protocol) X(TEXT, leaves_out)
#define JPT_MODEL_MAP(X)                                                                                 \
    X(TEXT, name) X(TEXT, file) X(TEXT, sha256) X(TEXT, architecture) X(INT, n_params)                   \
    X(INT, file_bytes) X(TEXT, dtype) X(TEXT, backend) X(TEXT, compute_dtype)
#define JPT_TASK_MAP(X)                                                                                  \
    X(TEXT, name) X(TEXT, sha256) X(INT, n_items) X(TEXT, primary_metric) X(INT, higher_is_better)       \
    X(TEXT, license) X(TEXT, citation)
/* What was asked: once a task and place. */
#define JPT_ITEM_MAP(X) X(KEY, task) X(KEY, item_index) X(TEXT, item_id) X(TEXT, prompt)
/* modelled: 1 when joules are computed from a declared wattage and not read from a counter.  card: of a card's meter. */
#define JPT_METER_MAP(X)                                                                                 \
    X(TEXT, kind) X(TEXT, source) X(INT, modelled) X(TEXT, coverage) X(REAL, step_s) X(TEXT, accuracy)   \
    X(REAL, declared_w) X(TEXT, card) X(TEXT, card_uuid) X(TEXT, driver) X(REAL, power_limit_w)
/* What was planned, added by every run whose plan differs: text is the plan's YAML, or the command line in the same form; budgets
 * and the stop rule are of the whole study. */
#define JPT_PLAN_MAP(X)                                                                                  \
    X(KEY, study) X(TEXT, name) X(TEXT, text) X(INT, blocks) X(INT, n_cells) X(INT, n_requests)          \
    X(REAL, max_joules_total) X(REAL, max_hours) X(TEXT, stop_rule)
/* max_joules: budget of a request.  draft_model: file and SHA-256 of the second model, where there is one.  spec: canonical text of the strategy; seeds: the list as text, "0,1,2". */
#define JPT_CELL_MAP(X)                                                                                  \
    X(KEY, study) X(KEY, model) X(KEY, task) X(KEY, meter) X(TEXT, spec) X(TEXT, strategy)               \
    X(TEXT, params_json) X(TEXT, device) X(INT, batch) X(TEXT, seeds) X(INT, max_new_tokens)     \
    X(TEXT, draft_model) X(REAL, max_joules)
/* item_index: place in the task; seed: the 64 bits of the seed.  output_tokens counts kept tokens.
 * failed: 1 when the request gave no text (error says why).  energy_valid: 1 or 0; budget_note: what a budget changed.
 * window: where its joules were metered; share_rule: how its part was taken (absent: the window is its own), of all replications'
 * mean.  By phase: prefill + decode + draft + verify + select + kv + other = energy_j (kv absent in older files, then in other).
 * By fate: kept + rejected (drafts) + pruned (beams, candidates) + past_stop (tokens after the end) = energy_j by fate_rule. */
#define JPT_REQUEST_MAP(X)                                                                               \
    X(KEY, cell) X(KEY, block) X(KEY, item_index) X(KEY, seed) X(INT, order_in_block) X(TEXT, item_id)   \
    X(INT, prompt_tokens) X(INT, output_tokens) X(TEXT, stop_reason) X(TEXT, text)                       \
    X(TEXT, token_ids_json) X(REAL, t_start_s) X(REAL, duration_s) X(REAL, ttft_s) X(REAL, prefill_s)    \
    X(REAL, decode_s) X(REAL, energy_j) X(REAL, energy_error_j) X(TEXT, energy_source) X(INT, modelled)  \
    X(REAL, net_energy_j) X(REAL, idle_w) X(REAL, prefill_energy_j) X(REAL, decode_energy_j)             \
    X(REAL, draft_energy_j) X(REAL, verify_energy_j) X(REAL, select_energy_j) X(REAL, other_energy_j)   \
    X(INT, energy_valid) X(TEXT, energy_reasons)        \
    X(INT, forwards) X(INT, positions_computed) X(INT, positions_discarded) X(INT, logits_rows)          \
    X(INT, kv_bytes_moved) X(INT, draft_forwards) X(INT, draft_positions) X(TEXT, budget_note)       \
    X(INT, failed) X(TEXT, error)                                                                        \
    X(INT, window) X(TEXT, share_rule) X(REAL, kv_energy_j) X(TEXT, fate_rule) X(REAL, kept_energy_j)    \
    X(REAL, rejected_energy_j) X(REAL, pruned_energy_j) X(REAL, past_stop_energy_j)
/* One metered window.  kind: "requests" (of a cell in a block), "sentinel_before", "sentinel_after" (greedy at the ends of a
 * block), "idle" (weights resident, nothing running), "calibration".  Times are of the monotonic clock.
 * attempt: 0, then repeats of an invalid one, which stays; cell is absent where a window is no cell's.  The ledger is above idle
 * and closes: prefill + decode + draft + verify + select + kv + host + idle + residual = energy_j; see docs/formats.md. */
#define JPT_WINDOW_MAP(X)                                                                                \
    X(KEY, study) X(KEY, meter) X(INT, cell) X(TEXT, kind) X(INT, block) X(INT, order_in_block)          \
    X(INT, attempt) X(REAL, t_start_s) X(REAL, t_end_s) X(REAL, duration_s) X(INT, replications)         \
    X(INT, n_requests) X(INT, output_tokens) X(TEXT, energy_source) X(INT, modelled) X(REAL, energy_j)   \
    X(REAL, energy_error_j) X(REAL, edge_correction_j) X(REAL, integral_j) X(REAL, residual)             \
    X(REAL, net_energy_j) X(REAL, mean_w) X(REAL, peak_w) X(REAL, idle_before_w) X(REAL, idle_after_w)   \
    X(REAL, step_s) X(INT, n_samples) X(REAL, max_gap_s) X(REAL, temp_start_c) X(REAL, temp_end_c)       \
    X(REAL, sm_mhz_start) X(REAL, sm_mhz_end) X(REAL, mem_mhz_start) X(REAL, mem_mhz_end)                \
    X(INT, throttle_bits) X(INT, other_processes) X(INT, valid) X(TEXT, reasons) X(REAL, warm_up_s)      \
    X(TEXT, ledger_method) X(REAL, prefill_energy_j) X(REAL, decode_energy_j) X(REAL, draft_energy_j)    \
    X(REAL, verify_energy_j) X(REAL, select_energy_j) X(REAL, kv_energy_j) X(REAL, host_energy_j)        \
    X(REAL, idle_energy_j) X(REAL, residual_energy_j) X(REAL, prefill_s) X(REAL, decode_s)               \
    X(REAL, draft_s) X(REAL, verify_s) X(REAL, select_s) X(REAL, kv_s) X(REAL, host_s)
/* Sampled power in and around a window (the second instrument). */
#define JPT_POWER_MAP(X) X(KEY, window) X(REAL, t_s) X(REAL, power_w)
/* A second opinion on what a phase costs: method "nnls", "replication" or "amplification"; entry "prefill" ... "host" (watts above
 * idle) or a kernel; value with its unit ("W", "J/token"), error_value its standard error, n the windows behind it. */
#define JPT_LEDGER_MAP(X)                                                                                \
    X(KEY, study) X(INT, cell) X(TEXT, method) X(TEXT, entry) X(REAL, value) X(REAL, error_value)        \
    X(TEXT, unit) X(INT, n) X(REAL, condition) X(REAL, residual)
/* What this device pays at rest, a byte, a FLOP and while it waits for launches; taken: UTC. */
#define JPT_CALIBRATION_MAP(X)                                                                           \
    X(TEXT, device) X(TEXT, backend) X(TEXT, card_uuid) X(TEXT, model_sha256) X(TEXT, energy_source)     \
    X(INT, modelled) X(REAL, idle_w) X(REAL, pj_per_byte) X(REAL, pj_per_flop) X(REAL, launch_w)         \
    X(REAL, bytes_per_s) X(REAL, flops_per_s) X(REAL, launch_s) X(REAL, residual) X(TEXT, jpt_version)   \
    X(TEXT, taken)
/* The predicted floor of a cell by a calibration: bytes and FLOPs its requests must move and do, and the joules of those at the
 * device's best; '% of floor' is measured joules over these.  All a request's mean. */
#define JPT_FLOOR_MAP(X)                                                                                 \
    X(KEY, cell) X(KEY, calibration) X(REAL, floor_j) X(REAL, bytes_j) X(REAL, flops_j) X(REAL, idle_j)  \
    X(REAL, seconds) X(REAL, bytes) X(REAL, flops) X(INT, n)
/* A look at the wanted comparison after a block (sequential stopping): relative difference of b to a with the interval that holds
 * for all looks together, and what was decided: "go on", "narrow enough", "budget spent". */
#define JPT_LOOK_MAP(X)                                                                                  \
    X(KEY, study) X(INT, task) X(TEXT, spec_a) X(TEXT, spec_b) X(TEXT, quantity) X(INT, blocks)                \
    X(REAL, difference) X(REAL, ci_low) X(REAL, ci_high) X(REAL, wanted_width) X(TEXT, decision)

#define JPT_FIELD_KEY(name) int64_t name;
#define JPT_FIELD_INT(name) int64_t name;
#define JPT_FIELD_REAL(name) double name;
#define JPT_FIELD_TEXT(name) const char *name;
#define JPT_FIELD(kind, name) JPT_FIELD_##kind(name)

/* id is set by reading; put functions ignore it.  created is UTC, set by the store. */
typedef struct jpt_study_row { int64_t id; JPT_STUDY_MAP(JPT_FIELD) } jpt_study_row;
typedef struct jpt_model_row { int64_t id; JPT_MODEL_MAP(JPT_FIELD) } jpt_model_row;
typedef struct jpt_task_row { int64_t id; JPT_TASK_MAP(JPT_FIELD) } jpt_task_row;
typedef struct jpt_item_row { int64_t id; JPT_ITEM_MAP(JPT_FIELD) } jpt_item_row;
typedef struct jpt_meter_row { int64_t id; JPT_METER_MAP(JPT_FIELD) } jpt_meter_row;
typedef struct jpt_cell_row { int64_t id; JPT_CELL_MAP(JPT_FIELD) } jpt_cell_row;
typedef struct jpt_request_row { int64_t id; JPT_REQUEST_MAP(JPT_FIELD) } jpt_request_row;
typedef struct jpt_plan_row { int64_t id; JPT_PLAN_MAP(JPT_FIELD) } jpt_plan_row;
typedef struct jpt_window_row { int64_t id; JPT_WINDOW_MAP(JPT_FIELD) } jpt_window_row;
typedef struct jpt_power_row { int64_t id; JPT_POWER_MAP(JPT_FIELD) } jpt_power_row;
typedef struct jpt_ledger_row { int64_t id; JPT_LEDGER_MAP(JPT_FIELD) } jpt_ledger_row;
typedef struct jpt_calibration_row { int64_t id; JPT_CALIBRATION_MAP(JPT_FIELD) } jpt_calibration_row;
typedef struct jpt_floor_row { int64_t id; JPT_FLOOR_MAP(JPT_FIELD) } jpt_floor_row;
typedef struct jpt_look_row { int64_t id; JPT_LOOK_MAP(JPT_FIELD) } jpt_look_row;

void jpt_study_row_init(jpt_study_row *r);
void jpt_model_row_init(jpt_model_row *r);
void jpt_task_row_init(jpt_task_row *r);
void jpt_item_row_init(jpt_item_row *r);
void jpt_meter_row_init(jpt_meter_row *r);
void jpt_cell_row_init(jpt_cell_row *r);
void jpt_request_row_init(jpt_request_row *r);
void jpt_plan_row_init(jpt_plan_row *r);
void jpt_window_row_init(jpt_window_row *r);
void jpt_power_row_init(jpt_power_row *r);
void jpt_ledger_row_init(jpt_ledger_row *r);
void jpt_calibration_row_init(jpt_calibration_row *r);
void jpt_floor_row_init(jpt_floor_row *r);
void jpt_look_row_init(jpt_look_row *r);

/* One score of a request, or of a whole cell (then with interval and n; NAN and -1 when absent). */
typedef struct jpt_score_row {
    int64_t     owner; /* request or cell id; set by reading */
    const char *metric;
    double      value, ci_low, ci_high;
    int64_t     n;
} jpt_score_row;

typedef struct jpt_store jpt_store;
typedef enum jpt_store_mode {
    JPT_STORE_READ,   /* must exist; never changed */
    JPT_STORE_APPEND, /* must exist */
    JPT_STORE_CREATE  /* made when missing, else as APPEND: what a resumable bench wants */
} jpt_store_mode;

/* Open; on success *out is closed with jpt_store_close.  A file of an older schema is brought up to date by a writer; a reader
 * gets an up-to-date copy in memory and leaves the file as it is.
 * Errors: JPT_NOT_FOUND, JPT_IO (path, disk), JPT_FORMAT (not SQLite, not jpt's, damaged),
 * JPT_UNSUPPORTED (schema of another jpt), JPT_BUSY (another process is writing). */
jpt_status jpt_store_open(const char *path, jpt_store_mode mode, jpt_store **out, jpt_error *err);
/* Is somebody writing to it now?  Looks at the lock and takes none. */
bool       jpt_store_is_busy(const char *path);
void       jpt_store_close(jpt_store *s); /* NULL accepted */

/* Id of the row with exactly these values, added when there is none.  Errors: JPT_IO, JPT_ARG. */
jpt_status jpt_store_put_study(jpt_store *s, const jpt_study_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_model(jpt_store *s, const jpt_model_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_task(jpt_store *s, const jpt_task_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_meter(jpt_store *s, const jpt_meter_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_cell(jpt_store *s, const jpt_cell_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_item(jpt_store *s, const jpt_item_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_plan(jpt_store *s, const jpt_plan_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_calibration(jpt_store *s, const jpt_calibration_row *r, int64_t *id, jpt_error *err);
jpt_status jpt_store_put_look(jpt_store *s, const jpt_look_row *r, int64_t *id, jpt_error *err);

/* A study's ledger is written anew as a whole: the rows of an earlier run go first.  Of a cell's floors the newest stands. */
jpt_status jpt_store_clear_ledger(jpt_store *s, int64_t study, jpt_error *err);
jpt_status jpt_store_add_ledger(jpt_store *s, const jpt_ledger_row *r, jpt_error *err);
jpt_status jpt_store_add_floor(jpt_store *s, const jpt_floor_row *r, jpt_error *err);

/* Add a window with its samples power[0..n) (window is filled in), one transaction; alone, or inside jpt_store_begin. */
jpt_status jpt_store_put_window(jpt_store *s, const jpt_window_row *r, const jpt_power_row *power, size_t n, int64_t *id, jpt_error *err);
/* Windows of this kind, cell (-1: no cell's) and block: how many there are, and how many of them are valid. */
jpt_status jpt_store_n_windows(jpt_store *s, int64_t study, int64_t cell, int64_t block, const char *kind, int64_t *n, int64_t *n_valid, jpt_error *err);

/* Several rows as one transaction: what is put between begin and end stays or goes together.  jpt_store_end commits when status is
 * JPT_OK, else takes everything back and returns status. */
jpt_status jpt_store_begin(jpt_store *s, jpt_error *err);
jpt_status jpt_store_end(jpt_store *s, jpt_status status, jpt_error *err);

/* Is (cell, block, item, seed) finished?  For resume. */
jpt_status jpt_store_request_exists(jpt_store *s, int64_t cell, int64_t block, int64_t item_index, int64_t seed,
                                    bool *exists, jpt_error *err);

/* Add a finished request with scores[0..n) in one transaction.  JPT_ARG when it is there already; on
 * any error nothing of it is kept and the store stays usable. */
jpt_status jpt_store_put_request(jpt_store *s, const jpt_request_row *r, const jpt_score_row *scores, size_t n,
                                 int64_t *id, jpt_error *err);

/* Further scores of requests that are in the store (row.owner = request id), in one transaction: what was computed after the
 * run.  A metric that a request has already is refused (JPT_ARG): nothing is rewritten. */
jpt_status jpt_store_put_scores(jpt_store *s, const jpt_score_row *scores, size_t n, jpt_error *err);

/* Scores of a whole cell (corpus BLEU ...): the newest value of a metric stands. */
jpt_status jpt_store_put_cell_scores(jpt_store *s, int64_t cell, const jpt_score_row *scores, size_t n,
                                     jpt_error *err);

/* Walk rows in order of id (requests: block, item, seed); a callback that returns other than JPT_OK
 * stops the walk, which returns that status.  cell < 0 walks the rows of every cell. */
typedef jpt_status (*jpt_study_fn)(void *ud, const jpt_study_row *r);
typedef jpt_status (*jpt_model_fn)(void *ud, const jpt_model_row *r);
typedef jpt_status (*jpt_task_fn)(void *ud, const jpt_task_row *r);
typedef jpt_status (*jpt_item_fn)(void *ud, const jpt_item_row *r);
typedef jpt_status (*jpt_meter_fn)(void *ud, const jpt_meter_row *r);
typedef jpt_status (*jpt_cell_fn)(void *ud, const jpt_cell_row *r);
typedef jpt_status (*jpt_request_fn)(void *ud, const jpt_request_row *r);
typedef jpt_status (*jpt_score_fn)(void *ud, const jpt_score_row *r);
jpt_status jpt_store_each_study(jpt_store *s, jpt_study_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_model(jpt_store *s, jpt_model_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_task(jpt_store *s, jpt_task_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_item(jpt_store *s, jpt_item_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_meter(jpt_store *s, jpt_meter_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_cell(jpt_store *s, jpt_cell_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_request(jpt_store *s, int64_t cell, jpt_request_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_score(jpt_store *s, int64_t cell, jpt_score_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_cell_score(jpt_store *s, int64_t cell, jpt_score_fn fn, void *ud, jpt_error *err);
typedef jpt_status (*jpt_plan_fn)(void *ud, const jpt_plan_row *r);
typedef jpt_status (*jpt_window_fn)(void *ud, const jpt_window_row *r);
typedef jpt_status (*jpt_power_fn)(void *ud, const jpt_power_row *r);
typedef jpt_status (*jpt_ledger_fn)(void *ud, const jpt_ledger_row *r);
typedef jpt_status (*jpt_calibration_fn)(void *ud, const jpt_calibration_row *r);
typedef jpt_status (*jpt_floor_fn)(void *ud, const jpt_floor_row *r);
typedef jpt_status (*jpt_look_fn)(void *ud, const jpt_look_row *r);
jpt_status jpt_store_each_plan(jpt_store *s, jpt_plan_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_window(jpt_store *s, int64_t cell, jpt_window_fn fn, void *ud, jpt_error *err); /* by block and time */
jpt_status jpt_store_each_power(jpt_store *s, int64_t window, jpt_power_fn fn, void *ud, jpt_error *err); /* window < 0: all */
jpt_status jpt_store_each_ledger(jpt_store *s, jpt_ledger_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_calibration(jpt_store *s, jpt_calibration_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_floor(jpt_store *s, jpt_floor_fn fn, void *ud, jpt_error *err);
jpt_status jpt_store_each_look(jpt_store *s, jpt_look_fn fn, void *ud, jpt_error *err);

/* Requests of a cell that have energy but not valid energy. */
jpt_status jpt_store_n_invalid(jpt_store *s, int64_t cell, int64_t *n, jpt_error *err);
/* Finished requests, failed ones counted. */
jpt_status jpt_store_n_requests(jpt_store *s, int64_t *n, jpt_error *err);

#endif
