/* What self-BLEU shares with BLEU. */
#ifndef JPT_METRIC_BLEU_H
#define JPT_METRIC_BLEU_H

#include "ngram.h"
#include <jpt/metric.h>

bool bleu_tokens(jpt_str text, const jpt_bleu_options *opt, symbols *s);
/* The reference length closest to hyp's, the shorter on a tie: best (-1: none yet) or len. */
int64_t bleu_closest_length(int64_t hyp, int64_t best, int64_t len);

#endif
