/* Sentence encoders: a text to one vector of length 1, so that a dot product is a cosine.
 *
 * A BERT (Devlin et al. 2018) in float32 on the CPU: token, position and segment embeddings, layers of attention over the whole
 * text and a GELU network, each with a residual sum and a layer norm; the last layer's states averaged over the text's tokens
 * (or that of [CLS], where the folder says so), then scaled to length 1 (Reimers and Gurevych 2019).
 * The definition is sentence-transformers: the same vectors up to float32 rounding.  A text's vector does not depend on the
 * texts beside it or on the number of threads.  One caller at a time. */
#ifndef JPT_ENCODER_H
#define JPT_ENCODER_H

#include <jpt/base.h>
#include <jpt/token.h>

typedef struct jpt_encoder jpt_encoder;

typedef struct jpt_encoder_info {
    char     path[1024];
    int32_t  n_layers, n_embd, n_ff, n_heads, n_vocab;
    int32_t  max_tokens; /* longer texts are cut, [CLS] and [SEP] counted */
    bool     lower, cls_pooling;
    uint64_t n_params;
} jpt_encoder_info;

/* A folder as Hugging Face lays it out: config.json, vocab.txt, model.safetensors, and where they are there
 * tokenizer_config.json (do_lower_case), sentence_bert_config.json (max_seq_length) and 1_Pooling/config.json.
 * isa: NULL for the best; "scalar", "avx2" or "avx512" to force one (tests).  n_threads 0: all that this process may use.
 * Errors name the file: JPT_FORMAT, JPT_UNSUPPORTED (another architecture, activation, pooling or isa), JPT_IO, JPT_NOMEM. */
jpt_status              jpt_encoder_open(const char *folder, const char *isa, int n_threads, jpt_encoder **out, jpt_error *err);
void                    jpt_encoder_close(jpt_encoder *e); /* NULL accepted */
const jpt_encoder_info *jpt_encoder_get_info(const jpt_encoder *e);
const jpt_wordpiece    *jpt_encoder_tokenizer(const jpt_encoder *e);

/* out [n, n_embd]: row i is texts[i]'s vector.  An empty text has one too, that of [CLS] [SEP].
 * n_tokens [n] or NULL: tokens that were read of each.  JPT_INTERRUPTED when jpt_stop_requested() turned true between passes. */
jpt_status jpt_encoder_embed(jpt_encoder *e, const jpt_str *texts, int32_t n, float *out, int32_t *n_tokens, jpt_error *err);

#endif
