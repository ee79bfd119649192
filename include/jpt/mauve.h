/* MAUVE (Pillutla et al. 2021; JMLR 2023): how close two sets of texts are, from features of each text, usually a language
 * model's last hidden state.  The arithmetic is the mauve-text package's 0.4: rows normalised, PCA to 90 % of the variance,
 * k-means on both sets together, histograms over the clusters, the divergence curve and its area.
 *
 * Only compare values with the same features, numbers of texts and lengths, and the same seed; fewer than about 1,000 texts a
 * set are noise.  The clustering is ours, drawn and split as faiss does: equal labels except where float rounding decides a tie. */
#ifndef JPT_MAUVE_H
#define JPT_MAUVE_H

#include <jpt/base.h>

typedef struct jpt_mauve {
    double  mauve, frontier_integral;           /* 0..1: higher, lower is closer */
    double  mauve_star, frontier_integral_star; /* with half a text added to every bucket */
    int32_t n_buckets, n_components;            /* clusters; principal components kept (0 from counts) */
} jpt_mauve;

/* Zeros: the package's defaults. */
typedef struct jpt_mauve_options {
    int32_t n_buckets; /* 0: max(2, round(min(n_p, n_q) / 10)), halves to even */
    int32_t seed;      /* as it is; the package's default is 25 */
    int32_t n_redo;    /* 0: 5 */
    int32_t max_iter;  /* 0: 500 */
} jpt_mauve_options;

/* From counts of texts in n buckets of the reference set P and the model's set Q; exact arithmetic of the package (scaling 5, 25
 * points), except that equal sets have MAUVE 1, where the package may say 0.75. JPT_ARG: an empty set, n < 1. */
jpt_status jpt_mauve_of_counts(const int64_t *p, const int64_t *q, int32_t n, jpt_mauve *out, jpt_error *err);

/* From features: p [n_p, d], q [n_q, d] row-major, finite.  opt NULL: defaults with seed 25.  label_p [n_p] and label_q [n_q]
 * receive the clusters, NULL accepted.  Time grows with min(n, d)^3 and with n * buckets * components * iterations;
 * JPT_INTERRUPTED when a stop is asked for.  JPT_ARG (no text, a value that is not finite, more buckets than texts), JPT_NOMEM. */
jpt_status jpt_mauve_of_features(const double *p, int32_t n_p, const double *q, int32_t n_q, int32_t d,
                                 const jpt_mauve_options *opt, jpt_mauve *out, int32_t *label_p, int32_t *label_q,
                                 jpt_error *err);

#endif
