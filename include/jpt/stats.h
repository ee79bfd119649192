/* Statistics over scores: intervals, paired tests, corrections.  Pure functions; random ones are fixed by their seed.
 *
 * Corpus metrics are no means of item scores: they are computed from statistics that add up over items (jpt_corpus_segment in
 * jpt/metric.h).  Tests on them take the items' statistics and a function that scores a sum. */
#ifndef JPT_STATS_H
#define JPT_STATS_H

#include <jpt/base.h>

/* ---- intervals ------------------------------------------------------------------------------------ */

/* 95 % percentile bootstrap over n items: resample item indices `n_resamples` times, value(ud, index, n).
 * Deterministic: Philox with `seed`.  NAN values of resamples are left out; fewer than 2 items give NAN bounds.  JPT_NOMEM, all
 * three. */
typedef double (*jpt_resample_fn)(void *ud, const int32_t *index, int32_t n);
jpt_status jpt_bootstrap(jpt_resample_fn value, void *ud, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                         double *high, jpt_error *err);
/* Of mean(a) and of sum(a)/sum(b), b and a [n]. */
jpt_status jpt_bootstrap_mean(const double *a, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high,
                              jpt_error *err);
jpt_status jpt_bootstrap_ratio(const double *a, const double *b, int32_t n, int32_t n_resamples, uint64_t seed, double *low,
                               double *high, jpt_error *err);

/* Wilson's 95 % interval of a share: k of n.  n = 0 gives NAN. */
void jpt_wilson(int64_t k, int64_t n, double *low, double *high);

/* ---- corpus metrics, as sacreBLEU's --confidence, --paired-bs and --paired-ar ------------------------------- */

/* Score of added-up statistics, sum [k]. */
typedef double (*jpt_sum_score_fn)(void *ud, const double *sum);

typedef struct jpt_confidence {
    double mean, half_width; /* of the resampled scores; half the distance of their 2.5 % and 97.5 % order statistics */
} jpt_confidence;

/* stats [n, k] row-major.  Items are drawn with NumPy's generator (PCG64 of `seed`), so that the indices, and with them mean and
 * width, are sacreBLEU's (its defaults: 1000 resamples, seed 12345).  JPT_ARG (n or n_resamples < 1), JPT_NOMEM. */
jpt_status jpt_bootstrap_confidence(jpt_sum_score_fn score, void *ud, const double *stats, int32_t n, int32_t k,
                                    int32_t n_resamples, uint64_t seed, jpt_confidence *out, jpt_error *err);

typedef struct jpt_paired {
    double         base, system;       /* scores on all items */
    double         p;                  /* of a difference at least this large by chance, two-sided */
    jpt_confidence of_base, of_system; /* paired bootstrap; NAN from randomisation */
} jpt_paired;

/* Paired bootstrap (Koehn 2004; sacreBLEU's variant): on each of n_resamples draws of items both systems are scored; p is the
 * share of draws whose absolute difference, less its mean over the draws, exceeds the observed one ((count + 1) / (n_resamples +
 * 1)).
 * stats as above, base and system [n, k]; JPT_ARG, JPT_NOMEM, as the next.
 * Liberal: equal systems differ at 5 % in about 14 % of trials (tests/unit/test_stats.c). */
jpt_status jpt_paired_bootstrap(jpt_sum_score_fn score, void *ud, const double *base, const double *system, int32_t n, int32_t k,
                                int32_t n_resamples, uint64_t seed, jpt_paired *out, jpt_error *err);
/* Paired approximate randomisation (Riezler & Maxwell 2005): the systems' items change places by a coin, n_shuffles times; p is
 * the share of shuffles with a larger absolute difference than the observed one ((count + 1) / (n_shuffles + 1)). */
jpt_status jpt_paired_randomization(jpt_sum_score_fn score, void *ud, const double *base, const double *system, int32_t n,
                                    int32_t k, int32_t n_shuffles, uint64_t seed, jpt_paired *out, jpt_error *err);

/* ---- accuracies, many comparisons ---------------------------------------------------------------------------- */

/* Exact McNemar test of two accuracies on the same items: n_first items that only the first got right, n_second only the second.
 * Two-sided binomial p; 1 without discordant items. */
double jpt_mcnemar(int64_t n_first, int64_t n_second);

/* Holm's step-down correction (1979): adjusted[i] of p[i], n of them; compare with the level wanted for the family.  May be in
 * place.  JPT_NOMEM. */
jpt_status jpt_holm(const double *p, size_t n, double *adjusted, jpt_error *err);

#endif
