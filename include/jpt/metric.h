/* Metrics: pure functions, text in, numbers out.
 *
 * BLEU and chrF follow sacreBLEU 2.x (Post 2018; Popović 2015, 2017): the same tokenisation (13a), smoothing
 * and effective order, hence the same numbers.  Texts are UTF-8; invalid bytes count as characters of their own. */
#ifndef JPT_METRIC_H
#define JPT_METRIC_H

#include <jpt/base.h>

/* ---- BLEU --------------------------------------------------------------------------------------- */

/* Sufficient statistics of one segment: add them up for a corpus (and for a cheap bootstrap). */
typedef struct jpt_bleu_stats {
    int64_t match[4], total[4], hyp_len, ref_len;
} jpt_bleu_stats;

/* 13a-tokenised n-gram counts of a hypothesis against its references (clipped by the largest count in one reference;
 * closest reference length, the shorter on a tie).  JPT_NOMEM. */
jpt_status jpt_bleu_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out, jpt_error *err);
void       jpt_bleu_add(jpt_bleu_stats *sum, const jpt_bleu_stats *s);
/* 0..100, smoothing "exp" as sacreBLEU's default; effective_order true for sentences. */
double jpt_bleu_score(const jpt_bleu_stats *s, bool effective_order);
/* The same with another smoothing of orders without a match: none, floor (value n-grams, sacreBLEU 0.1), exp, or
 * add-k (value added to matches and totals of orders above 1, sacreBLEU 1).  `value` counts for floor and add-k alone. */
typedef enum jpt_bleu_smoothing { JPT_BLEU_NONE, JPT_BLEU_FLOOR, JPT_BLEU_EXP, JPT_BLEU_ADD_K } jpt_bleu_smoothing;
double jpt_bleu_score_smoothed(const jpt_bleu_stats *s, bool effective_order, jpt_bleu_smoothing smoothing, double value);
/* sacreBLEU's mteval-v13a tokenisation: tokens separated by single blanks, appended to *out. */
void jpt_bleu_tokenize_13a(jpt_str text, jpt_buf *out);

/* ---- chrF --------------------------------------------------------------------------------------- */

enum { JPT_CHRF_ORDER = 6, JPT_CHRF_WORDS = 2, JPT_CHRF_ALL = JPT_CHRF_ORDER + JPT_CHRF_WORDS };
typedef struct jpt_chrf_stats {
    int64_t hyp[JPT_CHRF_ALL], ref[JPT_CHRF_ALL], match[JPT_CHRF_ALL]; /* character orders, then word orders */
} jpt_chrf_stats;

/* word_order 0: chrF, 2: chrF++.  Of several references the one with the best segment score counts. */
jpt_status jpt_chrf_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, int word_order, jpt_chrf_stats *out, jpt_error *err);
void       jpt_chrf_add(jpt_chrf_stats *sum, const jpt_chrf_stats *s);
double     jpt_chrf_score(const jpt_chrf_stats *s, int word_order); /* 0..100, beta = 2 */

/* ---- answers ------------------------------------------------------------------------------------ */

/* The last number of a text, as lm-evaluation-harness's flexible GSM8K extraction sees it: "$1,234.50" gives 1234.5;
 * false when there is none. */
bool jpt_last_number(jpt_str text, double *out);

/* ---- repetition and diversity -------------------------------------------------------------------- */

/* rep[n-2] for n = 2, 3, 4: 1 - distinct n-grams / n-grams (Welleck et al. 2020); diversity = prod(1 - rep_n)
 * (Su et al. 2022); distinct[n-1] for n = 1, 2, 3: distinct n-grams / n-grams (Li et al. 2016).  Units are
 * whitespace-separated words.  Values of an order with no n-gram are NAN; diversity needs all three. */
typedef struct jpt_repetition {
    double rep[3], diversity, distinct[3];
    int64_t n_words;
} jpt_repetition;
jpt_status jpt_repetition_of(jpt_str text, jpt_repetition *out, jpt_error *err);
/* The same over n token ids; n_words counts ids. */
jpt_status jpt_repetition_of_ids(const int32_t *id, size_t n, jpt_repetition *out, jpt_error *err);

/* ---- intervals ------------------------------------------------------------------------------------ */

/* 95 % percentile bootstrap over n items: resample item indices `n_resamples` times, value(ud, index, n).
 * Deterministic: Philox with `seed`.  NAN values of resamples are left out; fewer than 2 items give NAN bounds. */
typedef double (*jpt_resample_fn)(void *ud, const int32_t *index, int32_t n);
jpt_status jpt_bootstrap(jpt_resample_fn value, void *ud, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high,
                         jpt_error *err);
/* Of mean(a) and of sum(a)/sum(b), b and a [n]. */
jpt_status jpt_bootstrap_mean(const double *a, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high, jpt_error *err);
jpt_status jpt_bootstrap_ratio(const double *a, const double *b, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high, jpt_error *err);

#endif
