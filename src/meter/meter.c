/* Opening and reading meters, windows and their verdicts. */
#include "meter_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* NVML's reasons for lower clocks that spoil a comparison; the power cap (4) is told, it is part of how a card works. */
enum { THROTTLE_CAP = 0x4, THROTTLE_BAD = 0x8 | 0x20 | 0x40 | 0x80 };
static const struct {
    unsigned    bit;
    const char *name;
} throttle_names[] = {{0x8, "hardware slowdown"}, {0x20, "software thermal"}, {0x40, "hardware thermal"}, {0x80, "power brake"}};

static void refuse(jpt_energy *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void refuse(jpt_energy *e, const char *fmt, ...) {
    char    text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    e->valid = false;
    add_reason(e, "%s", text);
}

static void judge_card(const jpt_window_facts *f, jpt_energy *e) {
    for (size_t i = 0; i < sizeof throttle_names / sizeof *throttle_names; i++)
        if (f->after.throttle & throttle_names[i].bit)
            refuse(e, "the card throttled (%s)", throttle_names[i].name);
    if (f->after.throttle & THROTTLE_CAP)
        add_reason(e, "warning: the card ran at its power cap");
    int32_t others = f->before.others > f->after.others ? f->before.others : f->after.others;
    if (others > 0)
        refuse(e, "%d other process%s used the card", others, others == 1 ? "" : "es");
    if (f->after.temp_c - f->before.temp_c > 10)
        add_reason(e, "warning: the card warmed by %.0f degrees", f->after.temp_c - f->before.temp_c);
}

/* Counter against integral; too short a window tells nothing. */
static void judge_residual(const jpt_meter_limits *l, const jpt_window_facts *f, jpt_energy *e) {
    if (f->max_gap_s > 0.35) {
        add_reason(e, "warning: a gap of %.2f s between power samples, no cross-check", f->max_gap_s);
        return;
    }
    if (isnan(f->integral_j))
        return;
    e->integral_j = f->integral_j;
    e->residual = (e->energy_j - f->integral_j) / e->energy_j;
    if (e->duration_s < 5 || !(e->energy_j > 0))
        return;
    if (fabs(e->residual) > 0.10)
        refuse(e, "%s and sampled power differ by %.1f %%", l->name, 100 * fabs(e->residual));
    else if (fabs(e->residual) > 0.03)
        add_reason(e, "warning: counter and sampled power differ by %.1f %%", 100 * fabs(e->residual));
}

void jpt_energy_verdict(const jpt_meter_limits *l, const jpt_window_facts *f, double idle_w, jpt_energy *e) {
    *e = (jpt_energy){.energy_j = NAN, .error_j = NAN, .net_energy_j = NAN, .idle_w = idle_w, .mean_w = NAN, .edge_correction_j = 0, .integral_j = NAN, .residual = NAN,
                      .max_gap_s = f->max_gap_s, .n_samples = f->n_samples, .before = f->before, .after = f->after, .source = l->name, .modelled = l->modelled,
                      .duration_s = f->work_end_s - f->begin.t_s, .valid = true};
    double joules = f->end.energy_j - f->begin.energy_j, overhang = f->end.t_s - f->work_end_s, step = isnan(l->step_s) ? 0 : l->step_s;
    if (l->kind == JPT_METER_NONE) {
        refuse(e, "no meter");
        return;
    }
    if (isnan(joules)) {
        refuse(e, "the meter gave no reading");
        return;
    }
    if (joules < 0) {
        refuse(e, "the counter went backwards by %.3f J (reset?)", -joules);
        return;
    }
    /* from the work's end to the step the card idles; what it drew then is not the work's */
    double total_s = f->end.t_s - f->begin.t_s, rest_w = isnan(idle_w) ? joules / total_s : idle_w;
    if (overhang > 0)
        e->edge_correction_j = rest_w * overhang;
    e->energy_j = joules - e->edge_correction_j;
    e->mean_w = e->duration_s > 0 ? e->energy_j / e->duration_s : NAN;
    /* unaligned edges are off by up to a step of the mean power each way; aligned ones by how well a step is timed, and by what is
     * not known of the overhang: a tenth of the idle power, all of it without a baseline */
    if (f->aligned)
        e->error_j = 2 * e->mean_w * f->edge_s + (overhang > 0 ? (isnan(idle_w) ? 1 : 0.1) * e->edge_correction_j : 0);
    else
        e->error_j = isnan(e->mean_w) ? NAN : e->mean_w * step;
    double shortest = l->shortest_s > 20 * step ? l->shortest_s : 20 * step;
    if (joules == 0 && e->duration_s > 2 * step)
        refuse(e, "the counter did not move in %.3f s", e->duration_s);
    else if (e->energy_j < 0)
        refuse(e, "less energy than idling takes (%.3f J after the edge correction)", e->energy_j);
    else if (e->duration_s < 20 * step)
        refuse(e, "window of %.3f s is shorter than 20 steps of %.3f s", e->duration_s, step);
    else if (e->duration_s < shortest)
        refuse(e, "window of %.3f s is shorter than %.3g s", e->duration_s, shortest);
    else if (e->duration_s < l->short_s)
        add_reason(e, "warning: window of %.1f s is shorter than %.3g s", e->duration_s, l->short_s);
    judge_residual(l, f, e);
    judge_card(f, e);
    if (!isnan(idle_w))
        e->net_energy_j = e->energy_j - idle_w * e->duration_s;
}

static jpt_window_facts no_facts(void) {
    jpt_card_state none = {NAN, NAN, NAN, 0, -1};
    return (jpt_window_facts){.integral_j = NAN, .max_gap_s = NAN, .before = none, .after = none};
}

void jpt_energy_judge(const jpt_meter_limits *l, jpt_reading begin, jpt_reading end, double idle_w, jpt_energy *e) {
    jpt_window_facts f = no_facts();
    f.begin = begin;
    f.end = end;
    f.work_end_s = end.t_s;
    jpt_energy_verdict(l, &f, idle_w, e);
}

const jpt_card_info *jpt_meter_card(const jpt_meter *m) { return m->ops->card ? m->ops->card(m) : NULL; }

void jpt_meter_card_state(jpt_meter *m, bool processes, jpt_card_state *out) {
    *out = (jpt_card_state){NAN, NAN, NAN, 0, -1};
    if (m->ops->card_state)
        m->ops->card_state(m, processes, out);
}

void jpt_meter_poll(jpt_meter *m) {
    if (m->ops->poll)
        m->ops->poll(m);
}

size_t jpt_meter_samples(jpt_meter *m, double t0, double t1, jpt_power_sample *out, size_t cap) {
    double lag = m->limits.second_lag_s;
    size_t n = m->ops->samples ? m->ops->samples(m, t0 + lag, t1 + lag, out, cap) : 0;
    for (size_t i = 0; i < n; i++)
        out[i].t_s -= lag;
    return n;
}

/* The counter's next step: *at stands on it. */
static jpt_status wait_step(jpt_meter *m, jpt_reading *at, double *edge_s, jpt_error *err) {
    jpt_reading first, before;
    JPT_TRY(jpt_meter_read(m, &first, err));
    double most = first.t_s + (10 * m->limits.step_s > 1 ? 10 * m->limits.step_s : 1);
    for (before = first;; before = *at) {
        jpt_sleep_s(2e-4);
        jpt_meter_poll(m);
        JPT_TRY(jpt_meter_read(m, at, err));
        if (at->energy_j != first.energy_j)
            break;
        if (at->t_s > most)
            return JPT_FAIL(err, METER, "the counter did not move in %.1f s", at->t_s - first.t_s);
    }
    at->t_s = 0.5 * (at->t_s + before.t_s); /* it moved between these two */
    *edge_s = at->t_s - before.t_s;
    return JPT_OK;
}

static void open_window(jpt_window *w, jpt_meter *m, bool aligned) {
    jpt_error err = {0};
    *w = (jpt_window){.meter = m, .facts = no_facts()};
    jpt_meter_card_state(m, true, &w->facts.before);
    w->facts.aligned = aligned && m->limits.step_s >= 0.005;
    w->status = w->facts.aligned ? wait_step(m, &w->facts.begin, &w->facts.edge_s, &err) : jpt_meter_read(m, &w->facts.begin, &err);
    snprintf(w->why, sizeof w->why, "%s", err.msg);
}

void jpt_window_begin(jpt_window *w, jpt_meter *m) { open_window(w, m, false); }
void jpt_window_begin_aligned(jpt_window *w, jpt_meter *m) { open_window(w, m, true); }

/* Sampled power over the window, where there is such. */
static void cross_check(jpt_window *w) {
    enum { CAP = 1 << 16 };
    jpt_window_facts *f = &w->facts;
    jpt_power_sample *s = w->meter->limits.second ? malloc(CAP * sizeof *s) : NULL;
    if (!s)
        return;
    size_t n = jpt_meter_samples(w->meter, f->begin.t_s - 0.5, f->work_end_s + 0.5, s, CAP);
    /* from the window's beginning to the first sample and from the last to its end count, too */
    f->max_gap_s = n ? fmax(0, fmax(s[0].t_s - f->begin.t_s, f->work_end_s - s[n - 1].t_s)) : f->work_end_s - f->begin.t_s;
    for (size_t i = 0; i < n; i++) {
        f->n_samples += s[i].t_s >= f->begin.t_s && s[i].t_s <= f->work_end_s;
        if (i > 0 && s[i].t_s - s[i - 1].t_s > f->max_gap_s)
            f->max_gap_s = s[i].t_s - s[i - 1].t_s;
    }
    f->integral_j = jpt_integrate(s, n, f->begin.t_s, f->work_end_s, 0.5);
    free(s);
}

void jpt_window_end(jpt_window *w, double idle_w, jpt_energy *out) {
    jpt_error         err = {0};
    jpt_window_facts *f = &w->facts;
    double            edge = 0;
    f->work_end_s = jpt_now_s();
    f->end.energy_j = NAN;
    jpt_status st = f->aligned && w->status == JPT_OK ? wait_step(w->meter, &f->end, &edge, &err) : jpt_meter_read(w->meter, &f->end, &err);
    f->edge_s = edge > f->edge_s ? edge : f->edge_s;
    if (!f->aligned)
        f->work_end_s = f->end.t_s;
    jpt_meter_card_state(w->meter, true, &f->after);
    cross_check(w);
    if (w->status != JPT_OK || st != JPT_OK) {
        f->begin.energy_j = NAN;
        jpt_energy_verdict(&w->meter->limits, f, idle_w, out);
        out->reasons[0] = '\0';
        add_reason(out, "%s", w->status != JPT_OK ? w->why : err.msg);
        return;
    }
    jpt_energy_verdict(&w->meter->limits, f, idle_w, out);
}

bool jpt_meter_measures(const jpt_meter *m) { return !m->limits.modelled && m->limits.kind != JPT_METER_NONE; }

jpt_status jpt_meter_idle_window(jpt_meter *m, double seconds, jpt_energy *out, double *t_start_s, jpt_error *err) {
    jpt_window w;
    jpt_window_begin_aligned(&w, m);
    *t_start_s = w.facts.begin.t_s;
    for (double until = jpt_now_s() + seconds; jpt_now_s() < until && !jpt_stop_requested();) {
        jpt_sleep_s(0.02);
        jpt_meter_poll(m);
    }
    jpt_window_end(&w, NAN, out);
    return jpt_stop_requested() ? JPT_FAIL(err, INTERRUPTED, "interrupted") : JPT_OK;
}

jpt_status jpt_meter_idle(jpt_meter *m, double seconds, double *idle_w, jpt_error *err) {
    jpt_energy e;
    double     begun;
    *idle_w = NAN;
    if (!jpt_meter_measures(m))
        return JPT_OK;
    JPT_TRY(jpt_meter_idle_window(m, seconds, &e, &begun, err));
    if (!e.valid)
        return JPT_FAIL(err, METER, "the idle baseline is not valid: %s", e.reasons);
    *idle_w = e.mean_w;
    return JPT_OK;
}
