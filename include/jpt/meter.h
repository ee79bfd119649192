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

typedef struct jpt_meter_options {
    int         gpu;             /* NVML index */
    bool        prefer_gpu;      /* auto: try NVML first (the engine runs on the GPU) */
    double      watts;           /* model: a busy core; <= 0: $JPT_MODEL_WATTS, else 10 */
    const char *trace;           /* replay: CSV with header t_s,power_w or t_s,energy_j */
    const char *powercap_root;   /* tests; NULL: /sys/class/powercap */
    const char *nvml_library;    /* tests; NULL: $JPT_NVML_LIB, else libnvidia-ml.so.1 */
    double      sample_period_s; /* nvml_instant; <= 0: 0.02 */
} jpt_meter_options;

typedef struct jpt_meter_limits {
    jpt_meter_kind kind;
    const char    *name;   /* as jpt_meter_kind_name: the energy_source of every row */
    bool           modelled;
    double         step_s;      /* the counter moves this often; NAN unknown */
    double         call_cost_s; /* one reading, median of a few */
    double         declared_w;  /* model: watts a busy core; else NAN */
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
jpt_status              jpt_meter_read(jpt_meter *m, jpt_reading *out, jpt_error *err);

/* ---- windows ----------------------------------------------------------------------------------- */

enum { JPT_REASONS_MAX = 240 };

typedef struct jpt_energy {
    double      energy_j, error_j; /* gross; half-width of the error that the meter's step causes */
    double      net_energy_j;      /* idle taken off; NAN without a baseline */
    double      idle_w, duration_s, mean_w;
    const char *source; /* jpt_meter_limits.name */
    bool        modelled, valid;
    char        reasons[JPT_REASONS_MAX]; /* "; "-separated; may be set on a valid window (warnings) */
} jpt_energy;

typedef struct jpt_window {
    jpt_meter  *meter;
    jpt_reading begin;
    jpt_status  status;
    char        why[JPT_REASONS_MAX];
} jpt_window;

/* Never fail: a meter error makes the window invalid with the reason. */
void jpt_window_begin(jpt_window *w, jpt_meter *m);
void jpt_window_end(jpt_window *w, double idle_w, jpt_energy *out);

/* Pure: the verdict on two readings (tests, re-analysis). */
void jpt_energy_judge(const jpt_meter_limits *l, jpt_reading begin, jpt_reading end, double idle_w, jpt_energy *out);

/* Mean watts over `seconds` of doing nothing.  NAN for modelled and absent meters. */
jpt_status jpt_meter_idle(jpt_meter *m, double seconds, double *idle_w, jpt_error *err);

/* ---- integration and attribution: pure functions ------------------------------------------------ */

typedef struct jpt_power_sample {
    double t_s, power_w;
} jpt_power_sample;

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

#endif
