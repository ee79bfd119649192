#ifndef JPT_DATASET_PRIV_H
#define JPT_DATASET_PRIV_H

#include <jpt/dataset.h>

extern const jpt_dataset dataset_table[];
extern const size_t      dataset_table_n;

/* Make a file of `f` from what was fetched (file `source`, and `source2` of a join) and append it to *out.  Messages name `f->url`. */
jpt_status dataset_make(const jpt_dataset_file *f, const char *source, const char *source2, jpt_buf *out, jpt_error *err);

#endif
