/* Opening and reading meters, windows and their verdicts. */
#include "meter_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const meter_ops *const all[JPT_METER_COUNT] = {&meter_nvml_counter, &meter_nvml_instant, &meter_rapl, &meter_replay, &meter_model, &meter_none};
static const char *const      names[JPT_METER_COUNT] = {"nvml_counter", "nvml_instant_integral", "rapl", "replay", "model", "none"};

const char *jpt_meter_kind_name(jpt_meter_kind kind) { return kind < JPT_METER_COUNT ? names[kind] : "?"; }

bool jpt_meter_kind_parse(const char *name, jpt_meter_kind *out) {
    for (int i = 0; i < JPT_METER_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (jpt_meter_kind)i;
            return true;
        }
    return false;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_call_cost(jpt_meter *m) {
    enum { N = 9 };
    double cost[N], energy;
    for (int i = 0; i < N; i++) {
        double t0 = jpt_now_s();
        if (m->ops->read(m, &energy, NULL) != JPT_OK)
            return;
        cost[i] = jpt_now_s() - t0;
    }
    qsort(cost, N, sizeof *cost, by_value);
    m->limits.call_cost_s = cost[N / 2];
}

static jpt_status open_kind(jpt_meter_kind kind, const jpt_meter_options *opt, jpt_meter **out, jpt_error *err) {
    jpt_meter *m = calloc(1, sizeof *m);
    if (!m)
        return JPT_FAIL(err, NOMEM, "out of memory for a meter");
    m->ops = all[kind];
    m->limits = (jpt_meter_limits){.kind = kind, .name = names[kind], .step_s = NAN, .call_cost_s = NAN, .declared_w = NAN};
    jpt_status st = m->ops->open(m, opt, err);
    if (st != JPT_OK) {
        free(m);
        return st;
    }
    measure_call_cost(m);
    *out = m;
    return JPT_OK;
}

jpt_status jpt_meter_open(const char *name, const jpt_meter_options *opt, jpt_meter **out, jpt_error *err) {
    static const jpt_meter_options defaults;
    jpt_meter_kind                 kind;
    if (!opt)
        opt = &defaults;
    if (name && strcmp(name, "auto") != 0) {
        if (jpt_meter_kind_parse(name, &kind))
            return open_kind(kind, opt, out, err);
        const char *near = jpt_nearest(name, names, JPT_METER_COUNT);
        return JPT_FAIL(err, ARG, "unknown meter '%.64s'%s%s%s (known: auto, nvml_counter, nvml_instant_integral, rapl, replay, model, none)", name,
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (opt->prefer_gpu && (open_kind(JPT_METER_NVML_COUNTER, opt, out, NULL) == JPT_OK || open_kind(JPT_METER_NVML_INSTANT, opt, out, NULL) == JPT_OK))
        return JPT_OK;
    if (open_kind(JPT_METER_RAPL, opt, out, NULL) == JPT_OK)
        return JPT_OK;
    return open_kind(JPT_METER_MODEL, opt, out, err);
}

void jpt_meter_close(jpt_meter *m) {
    if (m)
        m->ops->close(m);
    free(m);
}

const jpt_meter_limits *jpt_meter_get_limits(const jpt_meter *m) { return &m->limits; }

jpt_status jpt_meter_read(jpt_meter *m, jpt_reading *out, jpt_error *err) {
    double t0 = jpt_now_s();
    out->energy_j = NAN;
    jpt_status st = m->ops->read(m, &out->energy_j, err);
    out->t_s = 0.5 * (t0 + jpt_now_s());
    return st;
}

/* ---- windows ------------------------------------------------------------------------------------------ */

static void add_reason(jpt_energy *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_reason(jpt_energy *e, const char *fmt, ...) {
    size_t  n = strlen(e->reasons);
    va_list ap;
    if (n && n + 3 < sizeof e->reasons) {
        memcpy(e->reasons + n, "; ", 3);
        n += 2;
    }
    va_start(ap, fmt);
    vsnprintf(e->reasons + n, sizeof e->reasons - n, fmt, ap);
    va_end(ap);
}

void jpt_energy_judge(const jpt_meter_limits *l, jpt_reading begin, jpt_reading end, double idle_w, jpt_energy *e) {
    *e = (jpt_energy){.energy_j = NAN, .error_j = NAN, .net_energy_j = NAN, .idle_w = idle_w, .mean_w = NAN, .source = l->name,
                      .modelled = l->modelled, .duration_s = end.t_s - begin.t_s, .valid = true};
    if (l->kind == JPT_METER_NONE) {
        e->valid = false;
        add_reason(e, "no meter");
        return;
    }
    double joules = end.energy_j - begin.energy_j;
    if (isnan(joules)) {
        e->valid = false;
        add_reason(e, "the meter gave no reading");
        return;
    }
    if (joules < 0) {
        e->valid = false;
        add_reason(e, "the counter went backwards by %.3f J (reset?)", -joules);
        return;
    }
    e->energy_j = joules;
    e->mean_w = e->duration_s > 0 ? joules / e->duration_s : NAN;
    double step = isnan(l->step_s) ? 0 : l->step_s;
    /* unaligned edges: each is off by up to one step of the mean power */
    e->error_j = isnan(e->mean_w) ? NAN : e->mean_w * step;
    if (joules == 0 && e->duration_s > 2 * step) {
        e->valid = false;
        add_reason(e, "the counter did not move in %.3f s", e->duration_s);
    } else if (e->duration_s < 20 * step) {
        e->valid = false;
        add_reason(e, "window of %.3f s is shorter than 20 steps of %.3f s", e->duration_s, step);
    }
    if (!isnan(idle_w))
        e->net_energy_j = joules - idle_w * e->duration_s;
}

void jpt_window_begin(jpt_window *w, jpt_meter *m) {
    jpt_error err = {0};
    *w = (jpt_window){.meter = m};
    w->status = jpt_meter_read(m, &w->begin, &err);
    snprintf(w->why, sizeof w->why, "%s", err.msg);
}

void jpt_window_end(jpt_window *w, double idle_w, jpt_energy *out) {
    jpt_error   err = {0};
    jpt_reading end = {.energy_j = NAN};
    jpt_status  st = jpt_meter_read(w->meter, &end, &err);
    if (w->status != JPT_OK || st != JPT_OK) {
        double duration = end.t_s - w->begin.t_s;
        w->begin.energy_j = NAN;
        jpt_energy_judge(&w->meter->limits, w->begin, end, idle_w, out);
        out->duration_s = duration;
        out->reasons[0] = '\0';
        add_reason(out, "%s", w->status != JPT_OK ? w->why : err.msg);
        return;
    }
    jpt_energy_judge(&w->meter->limits, w->begin, end, idle_w, out);
}

jpt_status jpt_meter_idle(jpt_meter *m, double seconds, double *idle_w, jpt_error *err) {
    *idle_w = NAN;
    if (m->limits.modelled || m->limits.kind == JPT_METER_NONE)
        return JPT_OK;
    jpt_reading a, b;
    JPT_TRY(jpt_meter_read(m, &a, err));
    double until = a.t_s + seconds;
    while (jpt_now_s() < until && !jpt_stop_requested()) {
        struct timespec ts = {0, 20000000};
        nanosleep(&ts, NULL);
    }
    if (jpt_stop_requested())
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    JPT_TRY(jpt_meter_read(m, &b, err));
    jpt_energy e;
    jpt_energy_judge(&m->limits, a, b, NAN, &e);
    if (!e.valid)
        return JPT_FAIL(err, METER, "the idle baseline is not valid: %s", e.reasons);
    *idle_w = e.mean_w;
    return JPT_OK;
}
