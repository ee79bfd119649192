/* Inside the sentence encoder: weights as loaded (encoder.c), and the arithmetic on rows (encoder_body.h, compiled once for each
 * instruction set). */
#ifndef JPT_MODEL_ENCODER_H
#define JPT_MODEL_ENCODER_H

#include <jpt/encoder.h>
#include <jpt/format.h>
#include <jpt/pool.h>

enum {
    ENCODER_ROWS = 512, /* rows of one pass over the weights; a text is never split */
    ENCODER_PANEL = 32, /* outputs that are computed side by side */
};

/* Nothing here is split inside a sum, so no result depends on what is computed beside it. */
typedef struct encoder_ops {
    const char *isa;
    /* y[n, ENCODER_PANEL] = x[n, cols] panel + bias, the first `width` of the columns written, rows of y ldy apart; then GELU
     * when asked.  panel [cols, ENCODER_PANEL], bias [ENCODER_PANEL]. */
    void (*multiply)(const float *panel, const float *bias, int32_t cols, const float *x, int32_t n, float *y, size_t ldy, int32_t width, bool gelu);
    /* One head of one text: all T rows attend to all T rows.  q, k, v, y: the head's first element, E wide; rows
     * of q, k and v are ld apart, those of y ldy.  room: [E + 1, T rounded up to 16] floats. */
    void (*attend)(const float *q, const float *k, const float *v, size_t ld, float *y, size_t ldy, int32_t T, int32_t E, float *room);
} encoder_ops;
extern const encoder_ops encoder_ops_scalar;
#if defined(__x86_64__)
extern const encoder_ops encoder_ops_avx2, encoder_ops_avx512;
#endif
/* isa NULL: the best that this processor has.  JPT_UNSUPPORTED. */
jpt_status encoder_choose_ops(const char *isa, const encoder_ops **out, jpt_error *err);

typedef struct encoder_linear { /* out = in w^T + bias, repacked: ceil(rows / ENCODER_PANEL) panels [cols, ENCODER_PANEL], zeros beyond rows */
    int32_t rows, cols;
    float  *panel, *bias;
} encoder_linear;
typedef struct encoder_norm {
    const float *gain, *bias; /* [D] */
} encoder_norm;
typedef struct encoder_layer {
    encoder_linear qkv, o, up, down; /* qkv: the three side by side, [3 D, D] */
    encoder_norm   attn_norm, ffn_norm;
} encoder_layer;

struct jpt_encoder {
    jpt_encoder_info   info;
    float              eps;
    const encoder_ops *ops;
    jpt_mapping        map;
    jpt_safetensors    file;
    jpt_arena          arena; /* layers, buffers, repacked weights */
    jpt_wordpiece     *tok;
    jpt_pool          *pool;
    const char        *prefix; /* of tensor names: "" or "bert." */
    const float       *token, *position, *segment; /* [n_vocab, D], [*, D], row 0 of [*, D] */
    encoder_norm       norm;
    encoder_layer     *layer;
    float             *x, *y, *attn, *qkv, *ff; /* [ENCODER_ROWS, D] three times, [.., 3 D], [.., F] */
    float             *room;             /* [threads, room_each] for attention */
    size_t             room_each;
};

#endif
