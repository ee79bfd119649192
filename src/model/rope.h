#ifndef JPT_MODEL_ROPE_H
#define JPT_MODEL_ROPE_H

#include <jpt/format.h>

/* [rope_dim / 2] inverse frequencies with scaling applied; `factors` (may be NULL) is rope_freqs.weight.
 * malloc'd; NULL when out of memory. */
float *jpt_rope_inv_freq(const jpt_hparams *hp, const float *factors);

#endif
