/* Meters without hardware: none, model (CPU seconds x declared watts), replay of a trace. */
#include "meter_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void free_state(jpt_meter *m) { free(m->state); }

/* ---- none ----------------------------------------------------------------------------------------------- */

static jpt_status none_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    (void)opt;
    (void)err;
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "nothing");
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy, "no energy is reported");
    return JPT_OK;
}

static jpt_status none_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    (void)m;
    (void)err;
    *energy_j = NAN;
    return JPT_OK;
}

const meter_ops meter_none = {.kind = JPT_METER_NONE, .open = none_open, .read = none_read, .close = free_state};

/* ---- model ---------------------------------------------------------------------------------------------- */

static jpt_status model_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    double      watts = opt->watts;
    const char *env = getenv("JPT_MODEL_WATTS");
    if (!(watts > 0) && env && *env) {
        char *end;
        watts = strtod(env, &end);
        if (*end || !(watts > 0) || !isfinite(watts))
            return JPT_FAIL(err, ARG, "JPT_MODEL_WATTS=%.32s: expected watts above 0", env);
    }
    if (!(watts > 0))
        watts = 10;
    m->limits.modelled = true;
    m->limits.declared_w = watts;
    m->limits.step_s = 1e-6;
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "CPU seconds of this process x %g W a busy core", watts);
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy, "modelled, not measured: right only as far as the declared watts are");
    return JPT_OK;
}

static jpt_status model_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    (void)err;
    *energy_j = jpt_process_cpu_s() * m->limits.declared_w;
    return JPT_OK;
}

const meter_ops meter_model = {.kind = JPT_METER_MODEL, .open = model_open, .read = model_read, .close = free_state};

/* ---- replay --------------------------------------------------------------------------------------------- */

typedef struct replay {
    double *t, *energy; /* cumulated joules at t */
    size_t  n;
    double  started_s; /* jpt_now_s at open: the trace's first stamp */
} replay;

static void replay_close(jpt_meter *m) {
    replay *r = m->state;
    if (r) {
        free(r->t);
        free(r->energy);
    }
    free(r);
}

static jpt_status replay_parse(replay *r, const char *path, const char *text, double *largest_gap, jpt_error *err) {
    bool        power;
    const char *p = text;
    if (strncmp(p, "t_s,power_w", 11) == 0)
        power = true;
    else if (strncmp(p, "t_s,energy_j", 12) == 0)
        power = false;
    else
        return JPT_FAIL(err, FORMAT, "%s: line 1: expected the header t_s,power_w or t_s,energy_j", path);
    double last_w = 0;
    size_t cap = 0;
    for (int line = 2; (p = strchr(p, '\n')) && p[1]; line++) {
        char *end;
        p++;
        if (*p == '\n' || *p == '\r' || *p == '#') {
            continue;
        }
        double t = strtod(p, &end), v = NAN;
        if (*end == ',') {
            const char *second = end + 1;
            v = strtod(second, &end);
        }
        if ((*end && *end != '\n' && *end != '\r' && *end != ',') || !isfinite(t) || !isfinite(v) || v < 0)
            return JPT_FAIL(err, FORMAT, "%s: line %d: expected two numbers, seconds and %s", path, line, power ? "watts" : "joules");
        if (r->n && t < r->t[r->n - 1])
            return JPT_FAIL(err, FORMAT, "%s: line %d: time goes backwards", path, line);
        if (r->n == cap) {
            cap = cap ? 2 * cap : 256;
            double *a = realloc(r->t, cap * sizeof *a);
            if (a)
                r->t = a;
            double *b = a ? realloc(r->energy, cap * sizeof *b) : NULL;
            if (!b)
                return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
            r->energy = b;
        }
        double dt = r->n ? t - r->t[r->n - 1] : 0;
        *largest_gap = fmax(*largest_gap, dt);
        r->t[r->n] = t;
        r->energy[r->n] = power ? (r->n ? r->energy[r->n - 1] + 0.5 * (last_w + v) * dt : 0) : v;
        r->n++;
        last_w = v;
    }
    return r->n >= 2 ? JPT_OK : JPT_FAIL(err, FORMAT, "%s: a trace needs at least two lines of data", path);
}

static jpt_status replay_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    if (!opt->trace)
        return JPT_FAIL(err, ARG, "the replay meter needs a trace file");
    replay    *r = calloc(1, sizeof *r);
    jpt_buf    text = {0};
    double     gap = 0;
    m->state = r;
    jpt_status st = r ? jpt_text_read(opt->trace, &text, err) : JPT_FAIL(err, NOMEM, "out of memory for a meter");
    if (st == JPT_OK)
        st = replay_parse(r, opt->trace, text.p ? text.p : "", &gap, err);
    jpt_buf_fini(&text);
    if (st != JPT_OK) {
        replay_close(m);
        return st;
    }
    r->started_s = jpt_now_s();
    m->limits.step_s = gap;
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "the recorded trace %.150s", opt->trace);
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy, "as recorded; linear between samples");
    return JPT_OK;
}

static jpt_status replay_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    replay *r = m->state;
    double  t = r->t[0] + (jpt_now_s() - r->started_s);
    size_t  i = 0;
    if (t > r->t[r->n - 1])
        return JPT_FAIL(err, METER, "the recorded trace ended after %.3f s", r->t[r->n - 1] - r->t[0]);
    while (i + 1 < r->n && r->t[i + 1] <= t)
        i++;
    double span = i + 1 < r->n ? r->t[i + 1] - r->t[i] : 0;
    *energy_j = r->energy[i] + (span > 0 ? (r->energy[i + 1] - r->energy[i]) * (t - r->t[i]) / span : 0);
    return JPT_OK;
}

const meter_ops meter_replay = {.kind = JPT_METER_REPLAY, .open = replay_open, .read = replay_read, .close = replay_close};
