/* The books of a window: who ran when, what the sampled power was meanwhile, and a second opinion by regression.  Pure. */
#include <jpt/meter.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- profiles -------------------------------------------------------------------------------------------------- */

static const double first_slot_s = 0.025;

jpt_status jpt_profile_init(jpt_profile *p, int32_t n_phases, jpt_error *err) {
    *p = (jpt_profile){.n_phases = n_phases, .slot_s = first_slot_s};
    p->slot = calloc(JPT_PROFILE_SLOTS, sizeof *p->slot);
    return p->slot ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for a window's phases");
}

void jpt_profile_fini(jpt_profile *p) {
    free(p->slot);
    p->slot = NULL;
}

void jpt_profile_start(jpt_profile *p, double t0) {
    memset(p->slot, 0, p->n_slots * sizeof *p->slot);
    p->n_slots = 0;
    p->depth = 0;
    p->slot_s = first_slot_s;
    p->t0 = p->at = t0;
}

static void merge(jpt_profile *p) {
    size_t half = (p->n_slots + 1) / 2;
    for (size_t i = 0; i < half; i++)
        for (int32_t k = 0; k <= p->n_phases; k++)
            p->slot[i][k] = p->slot[2 * i][k] + (2 * i + 1 < p->n_slots ? p->slot[2 * i + 1][k] : 0);
    memset(p->slot + half, 0, (p->n_slots - half) * sizeof *p->slot);
    p->n_slots = half;
    p->slot_s *= 2;
}

/* The phase on top ran from p->at to t. */
static void pass_time(jpt_profile *p, double t) {
    int32_t phase = p->depth ? p->stack[p->depth - 1] : p->n_phases;
    while (t > p->at) {
        size_t i = (size_t)((p->at - p->t0) / p->slot_s);
        i += p->t0 + (double)(i + 1) * p->slot_s <= p->at; /* at stands on an edge, and the division was rounded down */
        if (i >= JPT_PROFILE_SLOTS) {
            merge(p);
            continue;
        }
        double until = p->t0 + (double)(i + 1) * p->slot_s;
        until = fmin(until, t);
        p->slot[i][phase] += until - p->at;
        p->n_slots = i + 1 > p->n_slots ? i + 1 : p->n_slots;
        p->at = until;
    }
}

void jpt_profile_event(jpt_profile *p, int32_t phase, bool begin, double t_s) {
    pass_time(p, t_s);
    if (begin && phase >= 0 && phase < p->n_phases && p->depth < (int32_t)(sizeof p->stack / sizeof *p->stack))
        p->stack[p->depth++] = phase;
    else if (!begin && p->depth > 0 && p->stack[p->depth - 1] == phase)
        p->depth--;
}

void jpt_profile_end(jpt_profile *p, double t1) { pass_time(p, t1); }

void jpt_profile_seconds(const jpt_profile *p, double *out_s) {
    for (int32_t k = 0; k <= p->n_phases; k++) {
        out_s[k] = 0;
        for (size_t i = 0; i < p->n_slots; i++)
            out_s[k] += p->slot[i][k];
    }
}

/* ---- one window --------------------------------------------------------------------------------------------------- */

static const double gap_s = 0.5;

/* Joules from a to b; before the first sample and after the last power is held.  NAN: a hole. */
static double integrate_held(const jpt_power_sample *s, size_t n, double a, double b) {
    if (a >= s[n - 1].t_s)
        return a - s[n - 1].t_s > gap_s ? NAN : s[n - 1].power_w * (b - a);
    if (b <= s[0].t_s)
        return s[0].t_s - b > gap_s ? NAN : s[0].power_w * (b - a);
    return jpt_integrate(s, n, a, b, gap_s);
}

/* Joules of each phase from samples: false when they do not cover the profile. */
static bool lay_over(const jpt_profile *p, const jpt_power_sample *s, size_t n, double *out_j) {
    size_t from = 0;
    memset(out_j, 0, (size_t)(p->n_phases + 1) * sizeof *out_j);
    for (size_t i = 0; i < p->n_slots; i++) {
        double a = p->t0 + (double)i * p->slot_s, b = fmin(a + p->slot_s, p->at), total = 0;
        while (from + 1 < n && s[from + 1].t_s <= a)
            from++;
        size_t to = from;
        while (to < n && s[to].t_s < b)
            to++;
        double joules = integrate_held(s + from, (to < n ? to + 1 : n) - from, a, b);
        for (int32_t k = 0; k <= p->n_phases; k++)
            total += p->slot[i][k];
        if (total <= 0)
            continue;
        if (isnan(joules))
            return false;
        for (int32_t k = 0; k <= p->n_phases; k++)
            out_j[k] += joules * p->slot[i][k] / total;
    }
    return true;
}

void jpt_ledger_split(const jpt_profile *p, const jpt_power_sample *s, size_t n, double energy_j, double idle_w, jpt_ledger *out) {
    double total_s = 0, booked = 0;
    *out = (jpt_ledger){.idle_j = NAN, .residual_j = NAN, .method = "time"};
    jpt_profile_seconds(p, out->phase_s);
    for (int32_t k = 0; k <= p->n_phases; k++)
        total_s += out->phase_s[k];
    if (n >= 2 && lay_over(p, s, n, out->phase_j))
        out->method = "samples";
    else
        for (int32_t k = 0; k <= p->n_phases; k++)
            out->phase_j[k] = total_s > 0 ? energy_j * out->phase_s[k] / total_s : k == p->n_phases ? energy_j : 0;
    if (!isnan(idle_w)) {
        out->idle_j = idle_w * total_s;
        for (int32_t k = 0; k <= p->n_phases; k++)
            out->phase_j[k] -= idle_w * out->phase_s[k];
        booked = out->idle_j;
    }
    for (int32_t k = 0; k <= p->n_phases; k++)
        booked += out->phase_j[k];
    out->residual_j = energy_j - booked;
}

/* ---- many windows ---------------------------------------------------------------------------------------------------- */

enum { MOST = 16 };

/* Solve the normal equations of the columns in `use` by Cholesky; false when they are not independent. */
static bool solve(const double gram[MOST][MOST], const double *rhs, const bool *use, int32_t n, double *x) {
    int32_t index[MOST], k = 0;
    double  l[MOST][MOST] = {{0}}, y[MOST];
    for (int32_t i = 0; i < n; i++)
        if (use[i])
            index[k++] = i;
    for (int32_t i = 0; i < k; i++)
        for (int32_t j = 0; j <= i; j++) {
            double sum = gram[index[i]][index[j]];
            for (int32_t q = 0; q < j; q++)
                sum -= l[i][q] * l[j][q];
            if (i == j && !(sum > 1e-12 * gram[index[i]][index[i]]))
                return false;
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
        }
    for (int32_t i = 0; i < k; i++) {
        y[i] = rhs[index[i]];
        for (int32_t q = 0; q < i; q++)
            y[i] -= l[i][q] * y[q];
        y[i] /= l[i][i];
    }
    for (int32_t i = k - 1; i >= 0; i--) {
        for (int32_t q = i + 1; q < k; q++)
            y[i] -= l[q][i] * y[q];
        y[i] /= l[i][i];
    }
    memset(x, 0, (size_t)n * sizeof *x);
    for (int32_t i = 0; i < k; i++)
        x[index[i]] = y[i];
    return true;
}

double jpt_nnls(const double *a, const double *b, int32_t m, int32_t n, double *x) {
    double gram[MOST][MOST], rhs[MOST], scale = 0, z[MOST];
    bool   use[MOST] = {false}, dead[MOST] = {false};
    if (n < 1 || n > MOST)
        return NAN;
    for (int32_t i = 0; i < n; i++) {
        rhs[i] = 0;
        for (int32_t r = 0; r < m; r++)
            rhs[i] += a[r * n + i] * b[r];
        for (int32_t j = 0; j < n; j++) {
            gram[i][j] = 0;
            for (int32_t r = 0; r < m; r++)
                gram[i][j] += a[r * n + i] * a[r * n + j];
        }
        if (!isfinite(rhs[i]) || !isfinite(gram[i][i]))
            return NAN;
        scale = fmax(scale, fabs(rhs[i]));
        x[i] = 0;
    }
    for (int32_t round = 0; round < 3 * MOST; round++) {
        int32_t best = -1;
        double  most = 1e-10 * scale;
        for (int32_t i = 0; i < n; i++) {
            double w = rhs[i];
            for (int32_t j = 0; j < n; j++)
                w -= gram[i][j] * x[j];
            if (!use[i] && !dead[i] && w > most) {
                most = w;
                best = i;
            }
        }
        if (best < 0)
            break;
        use[best] = true;
        for (;;) {
            if (!solve(gram, rhs, use, n, z)) { /* it says nothing that the others do not */
                use[best] = false;
                dead[best] = true;
                break;
            }
            double step = 1;
            for (int32_t i = 0; i < n; i++)
                if (use[i] && z[i] <= 0)
                    step = fmin(step, x[i] / (x[i] - z[i]));
            for (int32_t i = 0; i < n; i++)
                if (use[i]) {
                    x[i] += step * (z[i] - x[i]);
                    if (step < 1 && z[i] <= 0 && x[i] <= 1e-14 * fabs(z[i])) {
                        x[i] = 0;
                        use[i] = false;
                    }
                }
            if (step == 1)
                break;
        }
    }
    double left = 0;
    for (int32_t r = 0; r < m; r++) {
        double d = b[r];
        for (int32_t i = 0; i < n; i++)
            d -= a[r * n + i] * x[i];
        left += d * d;
    }
    return sqrt(left);
}

/* Extreme eigenvalues of a small symmetric matrix by Jacobi rotations. */
static void eigen_range(double g[MOST][MOST], int32_t n, double *low, double *high) {
    for (int32_t sweep = 0; sweep < 60; sweep++) {
        double off = 0;
        for (int32_t p = 0; p < n; p++)
            for (int32_t q = p + 1; q < n; q++) {
                off += g[p][q] * g[p][q];
                if (fabs(g[p][q]) < 1e-15)
                    continue;
                double theta = (g[q][q] - g[p][p]) / (2 * g[p][q]), t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int32_t k = 0; k < n; k++) {
                    double x = g[k][p], y = g[k][q];
                    g[k][p] = c * x - s * y, g[k][q] = s * x + c * y;
                }
                for (int32_t k = 0; k < n; k++) {
                    double x = g[p][k], y = g[q][k];
                    g[p][k] = c * x - s * y, g[q][k] = s * x + c * y;
                }
            }
        if (off < 1e-24)
            break;
    }
    *low = *high = g[0][0];
    for (int32_t i = 1; i < n; i++)
        *low = fmin(*low, g[i][i]), *high = fmax(*high, g[i][i]);
}

bool jpt_ledger_regress(const double *seconds, const double *joules, int32_t m, int32_t n, jpt_regression *out) {
    int32_t column[MOST], k = 0;
    double  x[MOST], gram[MOST][MOST] = {{0}}, inverse[MOST][MOST], sum = 0;
    *out = (jpt_regression){.condition = NAN, .residual = NAN, .n_windows = m};
    if (n < 1 || n > JPT_PHASES_MAX + 1 || m < 1)
        return false;
    for (int32_t i = 0; i < n; i++) {
        double total = 0;
        out->watts[i] = out->error_w[i] = NAN;
        for (int32_t r = 0; r < m; r++)
            total += seconds[r * n + i];
        if (total > 0)
            column[k++] = i;
    }
    out->n_phases_seen = k;
    for (int32_t r = 0; r < m; r++)
        sum += joules[r] * joules[r];
    double *a = malloc((size_t)m * (size_t)(k ? k : 1) * sizeof *a);
    if (!a || k == 0 || m < k || !(sum > 0)) {
        free(a);
        return false;
    }
    for (int32_t r = 0; r < m; r++)
        for (int32_t i = 0; i < k; i++)
            a[r * k + i] = seconds[r * n + column[i]];
    double left = jpt_nnls(a, joules, m, k, x);
    for (int32_t i = 0; i < k; i++)
        for (int32_t j = 0; j < k; j++)
            for (int32_t r = 0; r < m; r++)
                gram[i][j] += a[r * k + i] * a[r * k + j];
    free(a);
    if (isnan(left))
        return false;
    bool   use[MOST] = {false};
    int32_t free_n = 0;
    double unit[MOST];
    for (int32_t i = 0; i < k; i++)
        free_n += use[i] = x[i] > 0;
    double variance = m > free_n ? left * left / (m - free_n) : NAN;
    for (int32_t i = 0; i < k; i++) {
        memset(unit, 0, sizeof unit);
        unit[i] = 1;
        bool ok = use[i] && solve(gram, unit, use, k, inverse[i]);
        out->watts[column[i]] = x[i];
        out->error_w[column[i]] = ok ? sqrt(variance * inverse[i][i]) : NAN;
    }
    double length[MOST], low, high;
    for (int32_t i = 0; i < k; i++)
        length[i] = sqrt(gram[i][i]);
    for (int32_t i = 0; i < k; i++)
        for (int32_t j = 0; j < k; j++)
            gram[i][j] /= length[i] * length[j];
    eigen_range(gram, k, &low, &high);
    out->condition = low > 0 ? sqrt(high / low) : INFINITY;
    out->residual = left / sqrt(sum);
    return true;
}

double jpt_amplify(double joules_1, double error_1, double joules_k, double error_k, int32_t k, double steps, double *error_j) {
    double calls = steps * (k - 1);
    *error_j = sqrt(error_1 * error_1 + error_k * error_k) / calls;
    return (joules_k - joules_1) / calls;
}
