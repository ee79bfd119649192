/* Links whose aim a sampler with a memory moves from step to step: mirostat's cut by Zipf's law, adaptive-p's scores, GUARD's penalties. */
#include "choose.h"
#include "rows.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

double jpt_mirostat_k(const float *p, int32_t n, int32_t terms, bool guarded, double vocabulary, double mu) {
    double tb = 0, tt = 0;
    for (int32_t i = 0; i < terms && i + 1 < n && (guarded || p[i + 1] > 0); i++) {
        double t = log((i + 2.0) / (i + 1.0)), ratio = (double)p[i] / ((double)p[i + 1] + (guarded ? 1e-9 : 0)), b = log(guarded && ratio < 1 ? 1 : ratio);
        tb += t * b;
        tt += t * t;
    }
    double zipf = tt > 0 ? tb / tt : 0, e = zipf - 1;
    if (zipf <= 0)
        return INFINITY;
    if (fabs(e) < 1e-9)
        return pow(pow(2, mu) / log(vocabulary), 1 / zipf);
    return pow(e * pow(2, mu) / (1 - pow(vocabulary, -e)), 1 / zipf);
}

/* paper: the authors' code (100 terms, N = 50,000, k rounded + 1); shi: that with guarded ratios and N = V; llama.cpp: 99 terms, N = V,
 * k truncated.  All keep everything where the arithmetic fails. */
static int32_t zipf_keeps(const jpt_link *l, const float *logp, int32_t V, const select_room *r) {
    bool    paper = l->count != JPT_ZIPF_LLAMA_CPP, shi = l->count == JPT_ZIPF_SHI;
    float   p[101] = {0};
    int32_t n = V < 101 ? V : 101, found = jpt_best_entries(logp, V, n, r);
    for (int32_t i = 0; i < found; i++)
        p[i] = expf(-r->e[i].key);
    double k = jpt_mirostat_k(p, n, paper ? 100 : 99, shi, paper && !shi ? 50000 : V, l->value);
    if (!(k <= V))
        return V;
    int32_t whole = paper ? (int32_t)round(k) + 1 : (int32_t)k;
    return whole < 1 ? 1 : whole > V ? V : whole;
}

static int by_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* torch's median of the last n entropies: of an even number the lower of the two middle values. */
static double lower_median(const float *before, int32_t n_before, float h, int32_t n) {
    float room[JPT_GUARD_WINDOW];
    if (n > 1) /* else `before` may be NULL */
        memcpy(room, before + n_before - (n - 1), (size_t)(n - 1) * sizeof *room);
    room[n - 1] = h;
    qsort(room, (size_t)n, sizeof *room, by_float);
    return (double)room[(n - 1) / 2];
}

static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* GUARD's blend of a local and a global change of entropy, both in units of log(scale). */
static double guard_value(double local, double global, double q) {
    double l = q * atanh(clamp(local, -1 + 1e-4, 1 - 1e-4)), g = q * atanh(clamp(global, -1 + 1e-4, 1 - 1e-4));
    double share = fabs(l) / (fabs(g) + fabs(l) + 1e-4), x = share * l + (1 - share) * g;
    return 1 / (1 + exp(-x));
}

void jpt_guard_step(const float *before, int32_t n, float now, int32_t w, int32_t n_vocab, double *k, double *alpha) {
    double sum = 0, weight = 0, h = (double)now, local, far = 0, q = 0;
    for (int32_t i = 0; i < n; i++) {
        sum = 0.95 * sum + (double)before[i];
        weight = 0.95 * weight + 1;
    }
    double global = (0.95 * sum + h) / (0.95 * weight + 1);
    if (n + 1 < w) {
        local = h - lower_median(before, n, now, n + 1);
    } else {
        double brief = lower_median(before, n, now, w - 1);
        local = h - lower_median(before, n, now, w);
        far = brief - global;
        q += clamp(fabs(brief - global) / (brief + 1e-4), 0, 1);
    }
    if (n > 0)
        q += clamp(fabs(h - (double)before[n - 1]) / ((double)before[n - 1] + 1e-4), 0, 1);
    q = 0.9 + 0.1 * (1 + q);
    *k = 10 * guard_value(local / log(n_vocab), far / log(n_vocab), q) + 5;
    double scale = log(*k + 1e-4);
    *alpha = clamp(guard_value(local / scale, far / scale, q), 0, 1);
}

/* p times alpha^count, the k best of the original p. */
static void guard(const jpt_link *l, const jpt_select_item *it, float *z, int32_t n, select_room *r) {
    double k, alpha;
    JPT_ASSERT(l->count >= 2 && l->count <= JPT_GUARD_WINDOW);
    r->entropy = (float)jpt_entropy_eps(r->p, n, 1e-5f);
    jpt_guard_step(l->values, l->n_ids, r->entropy, l->count, n, &k, &alpha);
    double  each = log(alpha > 1e-30 ? alpha : 1e-30);
    int32_t kept = jpt_best_entries(r->p, n, (int32_t)fmax(1, floor(k)), r); /* k <= 15; not a number where the vocabulary is one token */
    for (int32_t v = 0; v < n; v++)
        z[v] = -INFINITY;
    for (int32_t i = 0; i < kept; i++) {
        int32_t id = r->e[i].id, count = 0;
        for (int32_t j = 0; j < it->n_history; j++)
            count += it->history[j] == id;
        z[id] = r->p[id] + (count > 0 ? (float)(count * each) : 0);
    }
}

bool jpt_link_aims(jpt_link_kind k) { return k == JPT_LINK_ZIPF || k == JPT_LINK_AIM || k == JPT_LINK_GUARD; }

bool jpt_aim(const jpt_link *l, const jpt_select_item *it, float *z, int32_t n, select_room *r) {
    if (r->measured)
        rows()->sub(z, n, r->max, (float)log(r->sum), z);
    else if (!jpt_log_softmax(z, n, z))
        return false;
    memcpy(r->p, z, (size_t)n * sizeof *z);
    r->entropy = NAN;
    if (l->kind == JPT_LINK_AIM)
        jpt_aim_row(z, n, (float)l->value, z);
    else if (l->kind == JPT_LINK_GUARD)
        guard(l, it, z, n, r);
    else
        jpt_keep_best_in(z, n, zipf_keeps(l, z, n, r), r);
    return true;
}
