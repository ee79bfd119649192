/* Panels: quantised matrices rearranged so that 16 rows lie side by side.
 *
 * A panel is 16 rows (the last one of a matrix is filled up with zero rows).  It runs over the columns in blocks of 32;
 * weight (row r, column 4g + k) of a block is byte 4r + k of group g: one 64-byte vector holds four columns of all 16
 * rows, and one broadcast of four activations feeds them all.
 *
 *   block   scales, 16 of each, then the codes, unsigned:
 *           4 bits: 4 vectors, group g in the low nibbles and g + 4 in the high ones
 *           fifth bit: before them 8 words of 64 bits, one a group;  sixth and fifth bit (Q6_K): after them 2 vectors,
 *           group g in bits 2 (g % 4) of vector g / 4;  8 bits: 8 vectors
 *   Q4_0, Q5_0, Q8_0  half d              w = d (code - 8 | 16 | 128)
 *   Q4_1, Q5_1        half d, half m      w = d code + m
 *   Q4_K, Q5_K        uint8 sc, uint8 mn  w = d sc code - dmin mn;      before 8 blocks: half d, half dmin
 *   Q6_K              int8 sc0, int8 sc1  w = d sc (code - 32), sc0 for columns 0..15;   before 8 blocks: half d
 *
 * No bit is lost or added beyond Q4_K's and Q5_K's scales (8 bits where the file has 6: 2.8 and 2.3 % more bytes). */
#ifndef JPT_CPU_PACK_H
#define JPT_CPU_PACK_H

#include <jpt/tensor.h>

enum { PANEL_ROWS = 16, PANEL_BLOCK = 32 };

/* Can this type be packed?  True for every type with blocks. */
static inline bool panel_packs(jpt_dtype t) { return t != JPT_F32 && t != JPT_F16 && t != JPT_BF16; }

static inline bool panel_is_k(jpt_dtype t) { return t == JPT_Q4_K || t == JPT_Q5_K || t == JPT_Q6_K; }

/* Bytes before 8 blocks (K types). */
static inline size_t panel_head_bytes(jpt_dtype t) { return t == JPT_Q6_K ? 32 : panel_is_k(t) ? 64 : 0; }

/* Bytes of one block of 32 columns. */
static inline size_t panel_block_bytes(jpt_dtype t) {
    switch (t) {
    case JPT_Q4_0: return 32 + 256;
    case JPT_Q4_1: return 64 + 256;
    case JPT_Q5_0: return 32 + 64 + 256;
    case JPT_Q5_1: return 64 + 64 + 256;
    case JPT_Q8_0: return 32 + 512;
    case JPT_Q4_K: return 32 + 256;
    case JPT_Q5_K: return 32 + 64 + 256;
    default: return 32 + 256 + 128; /* Q6_K */
    }
}

static inline size_t panel_bytes(jpt_dtype t, int32_t cols) {
    return (size_t)(cols / PANEL_BLOCK) * panel_block_bytes(t) + (panel_is_k(t) ? (size_t)(cols / 256) * panel_head_bytes(t) : 0);
}

/* Where block b of a panel begins; *head: the start of its group of 8 (K types). */
static inline const uint8_t *panel_block(jpt_dtype t, const uint8_t *panel, int32_t b, const uint8_t **head) {
    if (!panel_is_k(t))
        return panel + (size_t)b * panel_block_bytes(t);
    *head = panel + (size_t)(b / 8) * (panel_head_bytes(t) + 8 * panel_block_bytes(t));
    return *head + panel_head_bytes(t) + (size_t)(b % 8) * panel_block_bytes(t);
}

/* Pack rows [0, n_rows) (1..16), row_bytes apart, into a panel of panel_bytes(t, cols). */
void panel_pack(jpt_dtype t, const uint8_t *rows, size_t row_bytes, int32_t n_rows, int32_t cols, uint8_t *panel);

#endif
