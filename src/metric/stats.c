/* Intervals by resampling. */
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
