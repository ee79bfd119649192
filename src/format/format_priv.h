/* Between the two formats of this folder. */
#ifndef JPT_FORMAT_PRIV_H
#define JPT_FORMAT_PRIV_H

#include <jpt/format.h>

/* Do these bytes look like a llama2.c version-0 checkpoint (plausible header that fits the size)? */
bool jpt_llama2c_sniff(const uint8_t *p, size_t n);
/* Fill hyper-parameters, tensors and vocabulary of *f from a checkpoint and its tokenizer. */
jpt_status jpt_llama2c_parse(jpt_model_file *f, const uint8_t *p, size_t n, const uint8_t *vocab, size_t n_vocab, jpt_error *err);

#endif
