/* Element types of tensors and their block formats, as GGUF stores them.
 *
 * A row of a quantised matrix is a sequence of blocks; each block holds a fixed number of weights and
 * its own scales.  Layouts are ggml's (GGUF specification, ggml-common.h of ggml); all little-endian. */
#ifndef JPT_TENSOR_H
#define JPT_TENSOR_H

#include <jpt/base.h>

/* Values are ggml's type ids, as they stand in a GGUF file. */
typedef enum jpt_dtype {
    JPT_F32 = 0,
    JPT_F16 = 1,
    JPT_Q4_0 = 2,
    JPT_Q4_1 = 3,
    JPT_Q5_0 = 6,
    JPT_Q5_1 = 7,
    JPT_Q8_0 = 8,
    JPT_Q4_K = 12,
    JPT_Q5_K = 13,
    JPT_Q6_K = 14,
    JPT_BF16 = 30,
} jpt_dtype;

typedef struct jpt_dtype_info {
    jpt_dtype   dtype;
    const char *name;        /* "Q4_K" */
    int32_t     block;       /* weights a block */
    int32_t     block_bytes; /* bytes a block */
} jpt_dtype_info;

/* NULL for an id that jpt does not know. */
const jpt_dtype_info *jpt_dtype_find(uint32_t ggml_type);
const char           *jpt_dtype_name(jpt_dtype dtype); /* "?" when unknown */
size_t                jpt_dtype_count(void);
const jpt_dtype_info *jpt_dtype_at(size_t i);

/* Bytes of a row of n weights; false when n is no multiple of the block or the size overflows. */
bool jpt_dtype_row_bytes(jpt_dtype dtype, uint64_t n, size_t *bytes);

/* ---- blocks ------------------------------------------------------------------------------------ */

typedef uint16_t jpt_half; /* IEEE binary16 bits */

/* w = d * (q - 8), q = low nibbles for weights 0..15, high nibbles for 16..31 */
typedef struct jpt_block_q4_0 {
    jpt_half d;
    uint8_t  q[16];
} jpt_block_q4_0;
/* w = d * q + m, nibbles as in Q4_0 */
typedef struct jpt_block_q4_1 {
    jpt_half d, m;
    uint8_t  q[16];
} jpt_block_q4_1;
/* w = d * (q - 16), fifth bit of weight i = bit i of h */
typedef struct jpt_block_q5_0 {
    jpt_half d;
    uint8_t  h[4];
    uint8_t  q[16];
} jpt_block_q5_0;
/* w = d * q + m */
typedef struct jpt_block_q5_1 {
    jpt_half d, m;
    uint8_t  h[4];
    uint8_t  q[16];
} jpt_block_q5_1;
/* w = d * q */
typedef struct jpt_block_q8_0 {
    jpt_half d;
    int8_t   q[32];
} jpt_block_q8_0;
/* 256 weights in 8 sub-blocks of 32: w = d * sc[j] * q - dmin * mn[j].  scales packs eight 6-bit sc and
 * eight 6-bit mn in 12 bytes.  q: for each pair of sub-blocks 32 bytes, low nibbles the first, high the second. */
typedef struct jpt_block_q4_k {
    jpt_half d, dmin;
    uint8_t  scales[12];
    uint8_t  q[128];
} jpt_block_q4_k;
/* As Q4_K with a fifth bit: bit j of h[l] belongs to weight l of sub-block j. */
typedef struct jpt_block_q5_k {
    jpt_half d, dmin;
    uint8_t  scales[12];
    uint8_t  h[32];
    uint8_t  q[128];
} jpt_block_q5_k;
/* 256 weights in 16 sub-blocks of 16: w = d * sc[j] * (q - 32), q = 4 low bits in ql, 2 high bits in qh. */
typedef struct jpt_block_q6_k {
    uint8_t  ql[128], qh[64];
    int8_t   scales[16];
    jpt_half d;
} jpt_block_q6_k;

_Static_assert(sizeof(jpt_block_q4_0) == 18 && sizeof(jpt_block_q4_1) == 20, "packed");
_Static_assert(sizeof(jpt_block_q5_0) == 22 && sizeof(jpt_block_q5_1) == 24 && sizeof(jpt_block_q8_0) == 34, "packed");
_Static_assert(sizeof(jpt_block_q4_k) == 144 && sizeof(jpt_block_q5_k) == 176 && sizeof(jpt_block_q6_k) == 210, "packed");

/* Scale and minimum of sub-block j (0..7) of the 12 packed bytes of Q4_K and Q5_K. */
static inline void jpt_k_scale_min(int j, const uint8_t s[12], uint8_t *scale, uint8_t *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (uint8_t)((s[j + 4] & 0xF) | (s[j - 4] >> 6) << 4);
        *min = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

/* ---- conversions ------------------------------------------------------------------------------- */

float    jpt_half_to_f32(jpt_half h);
jpt_half jpt_f32_to_half(float f); /* round to nearest even */
float    jpt_bf16_to_f32(uint16_t b);
uint16_t jpt_f32_to_bf16(float f); /* round to nearest even, NaN kept quiet */

/* dst[0..n) = the weights of n/block blocks at src (any alignment); n a multiple of the block. */
void jpt_dequantize_row(jpt_dtype dtype, const void *src, float *dst, size_t n);

/* The inverse for F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 (ggml's reference rounding) and, by
 * plain per-sub-block rounding, for Q4_K, Q5_K, Q6_K (valid blocks, not the best possible). */
void jpt_quantize_row(jpt_dtype dtype, const float *src, void *dst, size_t n);

#endif
