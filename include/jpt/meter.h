/* Meters: joules since some origin, with a stated step, coverage and error.
 *
 * An absent value is NAN, never 0; a modelled one says so.  A window is two readings and a verdict: its energy, the
 * half-width of its error, and whether it is valid, with reasons.  This module knows no model and no strategy: phases
 * are time-stamped events, and joules are attributed to them afterwards by a pure function.
 * docs/energy-method.md explains the choices.  Meters are not thread-safe. */
#ifndef JPT_METER_H
#define JPT_METER_H

#include <jpt/base.h>

typedef enum jpt_meter_kind {
    JPT_METER_NVML_COUNTER, /* total energy counter of one GPU */
    JPT_METER_NVML_INSTANT, /* integral of NVML's POWER_INSTANT field, sampled by a thread */
    JPT_METER_RAPL,         /* powercap: package and DRAM */
    JPT_METER_REPLAY,       /* a recorded trace */
    JPT_METER_MODEL,        /* CPU seconds x declared watts: modelled, not measured */
    JPT_METER_NONE,
    JPT_METER_COUNT
} jpt_meter_kind;

/* "nvml_counter", "nvml_instant_integral", "rapl", "replay", "model", "none" */
const char *jpt_meter_kind_name(jpt_meter_kind kind);
/* false: unknown name.  "auto" is resolved by jpt_meter_open. */
bool jpt_meter_kind_parse(const char *name, jpt_meter_kind *out);

/* What else a card tells; NAN, 0 and -1 where it does not. */
typedef struct jpt_card_state {
    double   temp_c, sm_mhz, mem_mhz;
    uint64_t throttle; /* NVML's clocks event reasons */
    int32_t  others;   /* processes on the card besides this one; -1 unknown */
} jpt_card_state;

/* Which card, for the records; "" and NAN where unknown. */
typedef struct jpt_card_info {
    char   name[96], uuid[96], driver[80];
    double power_limit_w;
    bool   mig;
} jpt_card_info;

typedef struct jpt_meter_options {
    int         gpu;             /* NVML index */
    const char *gpu_uuid;        /* the card by name ("GPU-..."), as CUDA tells it; NULL: by index */
    bool        prefer_gpu;      /* auto: try NVML first (the engine runs on the GPU) */
    double      watts;           /* model: a busy core; <= 0: $JPT_MODEL_WATTS, else 10 */
    const char *trace;           /* replay: CSV with header t_s,power_w or t_s,energy_j */
    const char *powercap_root;   /* tests; NULL: /sys/class/powercap */
    const char *nvml_library;    /* tests; NULL: $JPT_NVML_LIB, else libnvidia-ml.so.1 */
    double      sample_period_s; /* nvml_instant: <= 0: 0.02; nvml_counter's second instrument: <= 0: 0.05 */
    bool        no_thread;       /* tests: power is sampled by jpt_meter_poll alone */
} jpt_meter_options;

typedef struct jpt_meter_limits {
    jpt_meter_kind kind;
    const char    *name;   /* as jpt_meter_kind_name: the energy_source of every row */
    bool           modelled;
    double         step_s;      /* the counter moves this often; NAN unknown */
    double         call_cost_s; /* one reading, median of a few */
    double         declared_w;  /* model: watts a busy core; else NAN */
    double         shortest_s, short_s; /* windows below are refused, or warned of */
    bool           second;      /* power is sampled beside the counter */
    double         second_lag_s; /* a sample tells what was so long ago, on average: jpt_meter_samples takes it off */
    char           coverage[200], accuracy[200]; /* what it covers; how good it is */
} jpt_meter_limits;

typedef struct jpt_reading {
    double t_s;      /* jpt_now_s at the middle of the call */
    double energy_j; /* since the meter's origin; NAN when absent */
} jpt_reading;

typedef struct jpt_meter jpt_meter;

/* name: a kind's name or "auto" (nvml if prefer_gpu, else rapl, else model).  Errors: JPT_METER says why it is not
 * to be had; JPT_ARG for an unknown name (nearest suggested). */
jpt_status              jpt_meter_open(const char *name, const jpt_meter_options *opt, jpt_meter **out, jpt_error *err);
void                    jpt_meter_close(jpt_meter *m); /* NULL accepted */
const jpt_meter_limits *jpt_meter_get_limits(const jpt_meter *m);
const jpt_card_info    *jpt_meter_card(const jpt_meter *m); /* NULL: the meter is no card's */
/* What the card says now (a process list costs milliseconds: outside windows). */
void                    jpt_meter_card_state(jpt_meter *m, bool processes, jpt_card_state *out);
/* Take the sample that is due, for meters without a thread. */
void                    jpt_meter_poll(jpt_meter *m);
jpt_status              jpt_meter_read(jpt_meter *m, jpt_reading *out, jpt_error *err);

/* ---- windows ----------------------------------------------------------------------------------- */

enum { JPT_REASONS_MAX = 240 };

typedef struct jpt_energy {
    double      energy_j, error_j; /* gross; half-width of the error that edges cause */
    double      net_energy_j;      /* idle taken off; NAN without a baseline */
    double      idle_w, duration_s, mean_w;
    double      edge_correction_j; /* what was taken off for the time from the work's end to the counter's next step */
    /* the second instrument: power integrated over the same time; residual = (counter - integral) / counter.  NAN without. */
    double      integral_j, residual, max_gap_s;
    int32_t     n_samples;
    jpt_card_state before, after; /* after.throttle: any reason seen during the window */
    const char *source; /* jpt_meter_limits.name */
    bool        modelled, valid;
    char        reasons[JPT_REASONS_MAX]; /* "; "-separated; may be set on a valid window (warnings) */
} jpt_energy;

/* What a window saw; the verdict is a pure function of it. */
typedef struct jpt_window_facts {
    jpt_reading    begin, end;
    double         work_end_s; /* when the work was over: end.t_s, or earlier in an aligned window */
    bool           aligned;    /* both readings stand on a step of the counter */
    double         edge_s;     /* how well a step is timed */
    double         integral_j, max_gap_s; /* NAN without a second instrument */
    int32_t        n_samples;
    jpt_card_state before, after;
} jpt_window_facts;

typedef struct jpt_window {
    jpt_meter       *meter;
    jpt_window_facts facts;
    jpt_status       status;
    char             why[JPT_REASONS_MAX];
} jpt_window;

/* Never fail: a meter error makes the window invalid with the reason.  The aligned form waits for a step of the counter at
 * both ends (at most a second; then the counter is stuck), where the meter has steps worth it: 5 ms and more. */
void jpt_window_begin(jpt_window *w, jpt_meter *m);
void jpt_window_begin_aligned(jpt_window *w, jpt_meter *m);
void jpt_window_end(jpt_window *w, double idle_w, jpt_energy *out);

/* Pure: the verdict on a window (tests, re-analysis), and on two readings alone.  docs/energy-method.md has the rules. */
void jpt_energy_verdict(const jpt_meter_limits *l, const jpt_window_facts *f, double idle_w, jpt_energy *out);
void jpt_energy_judge(const jpt_meter_limits *l, jpt_reading begin, jpt_reading end, double idle_w, jpt_energy *out);

/* An aligned window of `seconds` of doing nothing (JPT_INTERRUPTED when a stop was asked meanwhile).  *out says what it was. */
jpt_status jpt_meter_idle_window(jpt_meter *m, double seconds, jpt_energy *out, double *t_start_s, jpt_error *err);
/* Whether joules are measured: neither computed from declared watts nor absent. */
bool jpt_meter_measures(const jpt_meter *m);

/* Mean watts over `seconds` of doing nothing.  NAN for modelled and absent meters. */
jpt_status jpt_meter_idle(jpt_meter *m, double seconds, double *idle_w, jpt_error *err);

/* ---- integration and attribution: pure functions ------------------------------------------------ */

typedef struct jpt_power_sample {
    double t_s, power_w;
} jpt_power_sample;

/* Power sampled beside the counter (or by it) in [t0, t1], oldest first: at most cap into out, the count is returned.  Stamps are the
 * middle of what a sample looked at. */
size_t jpt_meter_samples(jpt_meter *m, double t0, double t1, jpt_power_sample *out, size_t cap);

/* Trapezoid over [t0, t1] with interpolated edges; samples sorted by time, repeated stamps allowed (the last counts).
 * NAN when the samples do not reach both edges within max_gap_s or leave a larger gap inside. */
double jpt_integrate(const jpt_power_sample *s, size_t n, double t0, double t1, double max_gap_s);

typedef struct jpt_phase_event {
    double  t_s;
    int32_t phase; /* 0 <= phase < n_phases */
    bool    begin;
} jpt_phase_event;

/* Split a window's joules over phases by time: phases may nest (the inner one counts), what lies in none goes to
 * out_j[n_phases].  The parts add up to energy_j.  out_j is [n_phases + 1]. */
void jpt_attribute(const jpt_phase_event *e, size_t n, double t0, double t1, double energy_j, int32_t n_phases, double *out_j);

/* ---- the ledger ---------------------------------------------------------------------------------- */

/* When each phase ran: its seconds in slots of a window, so that sampled power can be laid over them.  Memory does not grow
 * with the window: past JPT_PROFILE_SLOTS slots they are merged two by two. */
enum { JPT_PHASES_MAX = 8, JPT_PROFILE_SLOTS = 4096 };
typedef struct jpt_profile {
    int32_t n_phases, depth, stack[16];
    double  t0, at, slot_s;
    double (*slot)[JPT_PHASES_MAX + 1]; /* [JPT_PROFILE_SLOTS] seconds a phase; [n_phases]: in none */
    size_t  n_slots;
} jpt_profile;

/* n_phases <= JPT_PHASES_MAX; slots of 25 ms to begin with.  JPT_NOMEM. */
jpt_status jpt_profile_init(jpt_profile *p, int32_t n_phases, jpt_error *err);
void       jpt_profile_fini(jpt_profile *p);
/* Begin again at t0; then events in order of time; then the end. */
void jpt_profile_start(jpt_profile *p, double t0);
void jpt_profile_event(jpt_profile *p, int32_t phase, bool begin, double t_s);
void jpt_profile_end(jpt_profile *p, double t1);
void jpt_profile_seconds(const jpt_profile *p, double *out_s); /* [n_phases + 1] */

/* A window's books: phases above idle, idle and what is left over; all together energy_j, always.  With samples that cover the
 * window power is integrated over each phase, and residual_j is what the counter has beyond that; else power is taken as
 * constant and residual_j is 0.  Without an idle power (NAN) idle_j is NAN and the phases are gross. */
typedef struct jpt_ledger {
    double      phase_j[JPT_PHASES_MAX + 1], phase_s[JPT_PHASES_MAX + 1]; /* [n_phases]: in none (the host) */
    double      idle_j, residual_j;
    const char *method; /* "samples" or "time" */
} jpt_ledger;
void jpt_ledger_split(const jpt_profile *p, const jpt_power_sample *s, size_t n, double energy_j, double idle_w, jpt_ledger *out);

/* Non-negative least squares: x >= 0 with the least |A x - b|; A is [m][n] row-major, n <= 16 (Lawson and Hanson, Solving
 * Least Squares Problems, 1974, chapter 23).  Returns the norm of what is left, NAN when n is out of range or numbers are not finite. */
double jpt_nnls(const double *a, const double *b, int32_t m, int32_t n, double *x);

/* Watts of each phase from many windows: joules[m] = sum over phases of watts x seconds[m][n].  A check on jpt_ledger_split from
 * other information: only how joules go with the mix of phases from one window to the next. */
typedef struct jpt_regression {
    double watts[JPT_PHASES_MAX + 1], error_w[JPT_PHASES_MAX + 1]; /* standard error; NAN: phase absent, or without freedom */
    double condition; /* of the columns, scaled to one length; above 30 the phases cannot be told apart */
    double residual;  /* share of the joules left over, root mean square */
    int32_t n_windows, n_phases_seen;
} jpt_regression;
/* false: fewer windows than phases, or nothing to explain. */
bool jpt_ledger_regress(const double *seconds, const double *joules, int32_t m, int32_t n, jpt_regression *out);

/* Amplification: a loop with its small kernel run once a step, and k times.  Joules of one call, and the standard error from those
 * of the two windows: (e_k - e_1) / (steps (k - 1)). */
double jpt_amplify(double joules_1, double error_1, double joules_k, double error_k, int32_t k, double steps, double *error_j);

#endif
