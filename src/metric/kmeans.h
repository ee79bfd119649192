/* k-means as faiss's Clustering runs it, draw for draw: random points as first centres, single precision, empty clusters split
 * off large ones, several starts of which the one with the least distortion counts. */
#ifndef JPT_METRIC_KMEANS_H
#define JPT_METRIC_KMEANS_H

#include <jpt/base.h>

/* x [n, d], k <= n; centre [k, d] receives the best centres, label [n] the nearest of them.  JPT_NOMEM, JPT_INTERRUPTED. */
jpt_status kmeans(const float *x, int32_t n, int32_t d, int32_t k, int32_t n_redo, int32_t max_iter, int32_t seed, float *centre,
                  int32_t *label, jpt_error *err);

#endif
