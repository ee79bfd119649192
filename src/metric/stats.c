/* Intervals and tests by resampling, exact tests, corrections. */
#include "numpy_rng.h"
#include <jpt/stats.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

jpt_status jpt_bootstrap(jpt_resample_fn value, void *ud, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                         double *high, jpt_error *err) {
    *low = *high = NAN;
    if (n < 2 || n_resamples < 2)
        return JPT_OK;
    int32_t *index = malloc((size_t)n * sizeof *index);
    double  *v = malloc((size_t)n_resamples * sizeof *v);
    int32_t  kept = 0;
    if (index && v) {
        for (int32_t r = 0; r < n_resamples; r++) {
            for (int32_t i = 0; i < n; i++) {
                jpt_rng_key key = {seed, (uint32_t)r, 0, (uint32_t)i};
                index[i] = (int32_t)(jpt_rng_uniform(key, 0) * n);
            }
            double x = value(ud, index, n);
            if (!isnan(x))
                v[kept++] = x;
        }
        if (kept >= 2) {
            qsort(v, (size_t)kept, sizeof *v, by_value);
            *low = v[(int32_t)(0.025 * (kept - 1) + 0.5)];
            *high = v[(int32_t)(0.975 * (kept - 1) + 0.5)];
        }
    }
    bool ok = index && v;
    free(index);
    free(v);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for a bootstrap of %d items", n);
}

typedef struct ratio {
    const double *a, *b;
} ratio;

static double ratio_of(void *ud, const int32_t *index, int32_t n) {
    const ratio *r = ud;
    double       a = 0, b = 0;
    for (int32_t i = 0; i < n; i++) {
        a += r->a[index[i]];
        b += r->b ? r->b[index[i]] : 1;
    }
    return b != 0 ? a / b : NAN;
}

jpt_status jpt_bootstrap_mean(const double *a, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high,
                              jpt_error *err) {
    return jpt_bootstrap(ratio_of, &(ratio){a, NULL}, n, n_resamples, seed, low, high, err);
}

jpt_status jpt_bootstrap_ratio(const double *a, const double *b, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                               double *high, jpt_error *err) {
    return jpt_bootstrap(ratio_of, &(ratio){a, b}, n, n_resamples, seed, low, high, err);
}

void jpt_wilson(int64_t k, int64_t n, double *low, double *high) {
    const double z = 1.959963984540054; /* 97.5 % of the normal distribution */
    double       size = (double)n, share = (double)k / size, centre = share + z * z / (2 * size);
    double       spread = z * sqrt(share * (1 - share) / size + z * z / (4 * size * size));
    *low = n > 0 ? (centre - spread) / (1 + z * z / size) : NAN;
    *high = n > 0 ? (centre + spread) / (1 + z * z / size) : NAN;
}

/* ---- corpus metrics ----------------------------------------------------------------------------------------------- */

/* n_resamples scores of each of n_systems, on the same draws: out [n_systems, n_resamples]. */
static jpt_status resample(jpt_sum_score_fn score, void *ud, const double *const *stats, int32_t n_systems, int32_t n, int32_t k,
                           int32_t n_resamples, uint64_t seed, double *out, jpt_error *err) {
    if (n < 1 || k < 1 || n_resamples < 1)
        return JPT_FAIL(err, ARG, "resampling needs at least one item and one resample, not %d and %d", n, n_resamples);
    double   *sum = malloc((size_t)n_systems * (size_t)k * sizeof *sum);
    numpy_rng rng;
    if (!sum)
        return JPT_FAIL(err, NOMEM, "out of memory for %d resamples", n_resamples);
    numpy_rng_seed(&rng, seed);
    for (int32_t b = 0; b < n_resamples; b++) {
        memset(sum, 0, (size_t)n_systems * (size_t)k * sizeof *sum);
        for (int32_t i = 0; i < n; i++) {
            size_t at = (size_t)numpy_rng_below(&rng, (uint32_t)n) * (size_t)k;
            for (int32_t s = 0; s < n_systems; s++)
                for (int32_t j = 0; j < k; j++)
                    sum[s * k + j] += stats[s][at + (size_t)j];
        }
        for (int32_t s = 0; s < n_systems; s++)
            out[(size_t)s * (size_t)n_resamples + (size_t)b] = score(ud, sum + (ptrdiff_t)s * k);
    }
    free(sum);
    return JPT_OK;
}

/* Sorts v. */
static jpt_confidence confidence_of(double *v, int32_t n) {
    jpt_confidence c = {0};
    int32_t        low = n / 40;
    for (int32_t i = 0; i < n; i++)
        c.mean += v[i];
    c.mean /= n;
    qsort(v, (size_t)n, sizeof *v, by_value);
    c.half_width = 0.5 * (v[n - low - 1] - v[low]);
    return c;
}

jpt_status jpt_bootstrap_confidence(jpt_sum_score_fn score, void *ud, const double *stats, int32_t n, int32_t k,
                                    int32_t n_resamples, uint64_t seed, jpt_confidence *out, jpt_error *err) {
    double *v = malloc((size_t)(n_resamples > 0 ? n_resamples : 1) * sizeof *v);
    if (!v)
        return JPT_FAIL(err, NOMEM, "out of memory for %d resamples", n_resamples);
    jpt_status st = resample(score, ud, &stats, 1, n, k, n_resamples, seed, v, err);
    if (st == JPT_OK)
        *out = confidence_of(v, n_resamples);
    free(v);
    return st;
}

static double score_all(jpt_sum_score_fn score, void *ud, const double *stats, int32_t n, int32_t k, double *sum) {
    memset(sum, 0, (size_t)k * sizeof *sum);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < k; j++)
            sum[j] += stats[(size_t)i * (size_t)k + (size_t)j];
    return score(ud, sum);
}

jpt_status jpt_paired_bootstrap(jpt_sum_score_fn score, void *ud, const double *base, const double *system, int32_t n, int32_t k,
                                int32_t n_resamples, uint64_t seed, jpt_paired *out, jpt_error *err) {
    const double *const both[] = {base, system};
    size_t              count = (size_t)(n_resamples > 0 ? n_resamples : 1);
    double             *v = malloc((2 * count + (size_t)(k > 0 ? k : 1)) * sizeof *v);
    if (!v)
        return JPT_FAIL(err, NOMEM, "out of memory for %d resamples", n_resamples);
    jpt_status st = resample(score, ud, both, 2, n, k, n_resamples, seed, v, err);
    if (st == JPT_OK) {
        double mean = 0, *sum = v + 2 * count, *w = v + count;
        *out = (jpt_paired){.base = score_all(score, ud, base, n, k, sum), .system = score_all(score, ud, system, n, k, sum)};
        double  observed = fabs(out->base - out->system);
        int32_t larger = 0;
        for (int32_t b = 0; b < n_resamples; b++)
            mean += fabs(w[b] - v[b]) / n_resamples;
        for (int32_t b = 0; b < n_resamples; b++)
            larger += fabs(w[b] - v[b]) - mean > observed;
        out->p = (larger + 1.0) / (n_resamples + 1.0);
        out->of_base = confidence_of(v, n_resamples);
        out->of_system = confidence_of(w, n_resamples);
    }
    free(v);
    return st;
}

jpt_status jpt_paired_randomization(jpt_sum_score_fn score, void *ud, const double *base, const double *system, int32_t n,
                                    int32_t k, int32_t n_shuffles, uint64_t seed, jpt_paired *out, jpt_error *err) {
    if (n < 1 || k < 1 || n_shuffles < 1)
        return JPT_FAIL(err, ARG, "approximate randomisation needs at least one item and one shuffle, not %d and %d", n,
                        n_shuffles);
    double *sum = malloc(2 * (size_t)k * sizeof *sum);
    if (!sum)
        return JPT_FAIL(err, NOMEM, "out of memory for a test over %d items", n);
    numpy_rng rng;
    double   *other = sum + k;
    int32_t   larger = 0;
    *out = (jpt_paired){.base = score_all(score, ud, base, n, k, sum),
                        .system = score_all(score, ud, system, n, k, sum),
                        .of_base = {NAN, NAN},
                        .of_system = {NAN, NAN}};
    double observed = fabs(out->base - out->system);
    numpy_rng_seed(&rng, seed);
    for (int32_t t = 0; t < n_shuffles; t++) {
        memset(sum, 0, 2 * (size_t)k * sizeof *sum);
        for (int32_t i = 0; i < n; i++) {
            size_t        at = (size_t)i * (size_t)k;
            bool          keep = numpy_rng_coin(&rng);
            const double *a = (keep ? base : system) + at, *b = (keep ? system : base) + at;
            for (int32_t j = 0; j < k; j++) {
                sum[j] += a[j];
                other[j] += b[j];
            }
        }
        larger += fabs(score(ud, sum) - score(ud, other)) > observed;
    }
    out->p = (larger + 1.0) / (n_shuffles + 1.0);
    free(sum);
    return JPT_OK;
}

/* ---- accuracies, many comparisons ------------------------------------------------------------------------------------ */

double jpt_mcnemar(int64_t n_first, int64_t n_second) {
    int64_t n = n_first + n_second, k = n_first < n_second ? n_first : n_second;
    double  p = 0;
    for (int64_t i = 0; i <= k; i++)
        p += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) - (double)n * log(2));
    return 2 * p < 1 ? 2 * p : 1;
}

typedef struct ranked {
    double p;
    size_t at;
} ranked;

static int by_p(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->p != y->p ? (x->p > y->p) - (x->p < y->p) : (x->at > y->at) - (x->at < y->at);
}

jpt_status jpt_holm(const double *p, size_t n, double *adjusted, jpt_error *err) {
    ranked *r = malloc((n ? n : 1) * sizeof *r);
    if (!r)
        return JPT_FAIL(err, NOMEM, "out of memory for %zu p-values", n);
    for (size_t i = 0; i < n; i++)
        r[i] = (ranked){p[i], i};
    qsort(r, n, sizeof *r, by_p);
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)(n - i) * r[i].p;
        most = v > most ? v : most;
        adjusted[r[i].at] = most < 1 ? most : 1;
    }
    free(r);
    return JPT_OK;
}
