/* Tiny random models for tests: real GGUF files, deterministic, made in a moment. */
#ifndef JPT_TINY_MODEL_H
#define JPT_TINY_MODEL_H

#include <jpt/base.h>
#include <jpt/tensor.h>

typedef struct tiny_model {
    const char *architecture; /* NULL: "llama"; or "qwen2" (with QKV bias) */
    jpt_dtype   dtype;        /* of matrices; default F32 */
    int32_t     n_embd, n_ff, n_layers, n_heads, n_kv_heads, n_ctx; /* 0: 64, 96, 2, 4, 2, 256 */
    bool        untied;
    bool        other_tokens; /* the tokens of more than a byte have other ids: another tokenizer */
    uint64_t    seed;
} tiny_model;

/* The file's bytes appended to *out. */
void tiny_model_bytes(const tiny_model *t, jpt_buf *out);
/* Everything before the weights; returns the size that the whole file would have. */
uint64_t tiny_model_header(const tiny_model *t, jpt_buf *out);
/* The whole in a temporary file; free() the path after unlink(). */
char *tiny_model_file(const tiny_model *t);

#endif
