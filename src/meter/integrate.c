/* Pure functions over samples and events. */
#include <jpt/meter.h>
#include <math.h>

double jpt_integrate(const jpt_power_sample *s, size_t n, double t0, double t1, double max_gap_s) {
    double joules = 0;
    bool   started = false;
    if (!(t1 > t0) || n < 2)
        return NAN;
    if (s[0].t_s > t0 + max_gap_s || s[n - 1].t_s < t1 - max_gap_s)
        return NAN;
    /* before the first and after the last sample power is held */
    if (s[0].t_s > t0)
        joules += s[0].power_w * (fmin(s[0].t_s, t1) - t0);
    for (size_t i = 0; i + 1 < n; i++) {
        double a = s[i].t_s, b = s[i + 1].t_s;
        if (b <= a || b <= t0 || a >= t1)
            continue;
        if (b - a > max_gap_s)
            return NAN;
        double from = fmax(a, t0), to = fmin(b, t1), slope = (s[i + 1].power_w - s[i].power_w) / (b - a);
        double pf = s[i].power_w + slope * (from - a), pt = s[i].power_w + slope * (to - a);
        joules += 0.5 * (pf + pt) * (to - from);
        started = true;
    }
    if (s[n - 1].t_s < t1)
        joules += s[n - 1].power_w * (t1 - fmax(s[n - 1].t_s, t0));
    return started ? joules : NAN;
}

void jpt_attribute(const jpt_phase_event *e, size_t n, double t0, double t1, double energy_j, int32_t n_phases, double *out_j) {
    enum { DEPTH = 16 };
    int32_t stack[DEPTH], depth = 0;
    double  at = t0, total = t1 - t0;
    for (int32_t i = 0; i <= n_phases; i++)
        out_j[i] = 0;
    if (isnan(energy_j) || !(total > 0)) {
        for (int32_t i = 0; i <= n_phases; i++)
            out_j[i] = NAN;
        return;
    }
    for (size_t i = 0; i <= n; i++) {
        double t = i < n ? fmin(fmax(e[i].t_s, t0), t1) : t1;
        if (t > at) {
            out_j[depth ? stack[depth - 1] : n_phases] += t - at;
            at = t;
        }
        if (i == n)
            break;
        if (e[i].begin && depth < DEPTH && e[i].phase >= 0 && e[i].phase < n_phases)
            stack[depth++] = e[i].phase;
        else if (!e[i].begin && depth > 0 && stack[depth - 1] == e[i].phase)
            depth--;
    }
    for (int32_t i = 0; i <= n_phases; i++)
        out_j[i] *= energy_j / total;
}
