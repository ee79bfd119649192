/* Passes of many rows: products by cuBLASLt, attention of whole runs by flash.cu. */
#ifndef JPT_CUDA_PREFILL_H
#define JPT_CUDA_PREFILL_H

#include "cuda.h"

/* From so many rows on, a pass takes this way: there a product is bound by arithmetic, and weights may be written out of their
 * tiles first.  A run of a sequence within it counts as long from MANY_IN_RUN rows on. */
enum { MANY_ROWS = 128, MANY_IN_RUN = 16 };

/* Open what is there: without cuBLASLt c->prefill stays NULL, and nothing else changes.  Close before the context goes. */
void cuda_prefill_open(cuda_backend *c);
void cuda_prefill_close(cuda_backend *c);
/* "cuBLASLt 13.1.0", or NULL. */
const char *cuda_prefill_name(const cuda_backend *c);

/* Whether a product of n rows in this pass goes this way, where its matrix does. */
bool cuda_prefill_wants(const cuda_backend *c, int32_t n);
/* y[n, rows] = x w^T (+ bias); false: not done, nothing written, take the other way. */
bool cuda_prefill_matmul(cuda_backend *c, const dev_weight *w, const float *x, int32_t n, const float *bias, float *y);
/* A layer; false: as above. */
bool cuda_prefill_layer(cuda_backend *c, const jpt_layer_job *l);

/* Attention of the runs that are long in a pass of n rows, the rest is the caller's; false: of none (rows too few, another form of
 * cache or result).  `job` holds all but the runs. */
bool               cuda_flash(cuda_backend *c, const flash_job *job, int32_t E, int32_t n, const jpt_row_run *runs, int32_t n_runs);
static inline bool cuda_run_is_long(const jpt_row_run *r) { return r->n_rows >= MANY_IN_RUN; }

#endif
