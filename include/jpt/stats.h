/* Statistics over scores: intervals, paired tests, corrections.  Pure functions; random ones are fixed by their seed. */
#ifndef JPT_STATS_H
#define JPT_STATS_H

#include <jpt/base.h>

/* ---- intervals ------------------------------------------------------------------------------------ */

/* 95 % percentile bootstrap over n items: resample item indices `n_resamples` times, value(ud, index, n).
 * Deterministic: Philox with `seed`.  NAN values of resamples are left out; fewer than 2 items give NAN bounds. */
typedef double (*jpt_resample_fn)(void *ud, const int32_t *index, int32_t n);
jpt_status jpt_bootstrap(jpt_resample_fn value, void *ud, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                         double *high, jpt_error *err);
/* Of mean(a) and of sum(a)/sum(b), b and a [n]. */
jpt_status jpt_bootstrap_mean(const double *a, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high,
                              jpt_error *err);
jpt_status jpt_bootstrap_ratio(const double *a, const double *b, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                               double *high, jpt_error *err);

#endif
