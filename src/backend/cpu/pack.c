#include "pack.h"
#include <string.h>

/* The 32 codes of block b of a row, unsigned, in order. */
static void codes_of(jpt_dtype t, const uint8_t *row, int32_t b, uint8_t code[32]) {
    const uint8_t *q, *h;
    switch (t) {
    case JPT_Q8_0:
        q = row + (size_t)b * sizeof(jpt_block_q8_0) + 2;
        for (int i = 0; i < 32; i++)
            code[i] = q[i] ^ 0x80;
        return;
    case JPT_Q4_0:
    case JPT_Q4_1:
    case JPT_Q5_0:
    case JPT_Q5_1: {
        size_t bytes = t == JPT_Q4_0 ? 18 : t == JPT_Q4_1 ? 20 : t == JPT_Q5_0 ? 22 : 24;
        q = row + (size_t)(b + 1) * bytes - 16;
        for (int i = 0; i < 16; i++) {
            code[i] = q[i] & 15;
            code[i + 16] = q[i] >> 4;
        }
        if (t == JPT_Q5_0 || t == JPT_Q5_1)
            for (int i = 0; i < 32; i++)
                code[i] = (uint8_t)(code[i] | (q[i / 8 - 4] >> (i % 8) & 1) << 4);
        return;
    }
    case JPT_Q4_K:
    case JPT_Q5_K: {
        int j = b % 8, shift = 4 * (j % 2);
        q = row + (size_t)(b / 8 + 1) * (t == JPT_Q4_K ? sizeof(jpt_block_q4_k) : sizeof(jpt_block_q5_k)) - 128 + 32 * (j / 2);
        for (int i = 0; i < 32; i++)
            code[i] = q[i] >> shift & 15;
        if (t == JPT_Q5_K) {
            h = row + (size_t)(b / 8) * sizeof(jpt_block_q5_k) + 16;
            for (int i = 0; i < 32; i++)
                code[i] = (uint8_t)(code[i] | (h[i] >> j & 1) << 4);
        }
        return;
    }
    default: { /* Q6_K */
        int half = b % 8 / 4, quarter = b % 4, shift = quarter < 2 ? 0 : 4;
        q = row + (size_t)(b / 8) * sizeof(jpt_block_q6_k) + 64 * half + 32 * (quarter & 1);
        h = row + (size_t)(b / 8) * sizeof(jpt_block_q6_k) + 128 + 32 * half;
        for (int i = 0; i < 32; i++)
            code[i] = (uint8_t)((q[i] >> shift & 15) | (h[i] >> (2 * quarter) & 3) << 4);
    }
    }
}

/* Scales of block b: two bytes a row, or two halves. */
static void pack_scales(jpt_dtype t, const uint8_t *row, int32_t b, int32_t r, uint8_t *head, uint8_t *block) {
    switch (t) {
    case JPT_Q4_0: memcpy(block + 2 * r, row + (size_t)b * 18, 2); break;
    case JPT_Q5_0: memcpy(block + 2 * r, row + (size_t)b * 22, 2); break;
    case JPT_Q8_0: memcpy(block + 2 * r, row + (size_t)b * 34, 2); break;
    case JPT_Q4_1:
    case JPT_Q5_1: {
        const uint8_t *p = row + (size_t)b * (t == JPT_Q4_1 ? 20 : 24);
        memcpy(block + 2 * r, p, 2);
        memcpy(block + 32 + 2 * r, p + 2, 2);
        break;
    }
    case JPT_Q4_K:
    case JPT_Q5_K: {
        const uint8_t *p = row + (size_t)(b / 8) * (t == JPT_Q4_K ? sizeof(jpt_block_q4_k) : sizeof(jpt_block_q5_k));
        jpt_k_scale_min(b % 8, p + 4, block + r, block + 16 + r);
        memcpy(head + 2 * r, p, 2);
        memcpy(head + 32 + 2 * r, p + 2, 2);
        break;
    }
    default: {
        const uint8_t *p = row + (size_t)(b / 8) * sizeof(jpt_block_q6_k);
        block[r] = p[192 + 2 * (b % 8)];
        block[16 + r] = p[193 + 2 * (b % 8)];
        memcpy(head + 2 * r, p + 208, 2);
    }
    }
}

void panel_pack(jpt_dtype t, const uint8_t *rows, size_t row_bytes, int32_t n_rows, int32_t cols, uint8_t *panel) {
    const bool   five = t == JPT_Q5_0 || t == JPT_Q5_1 || t == JPT_Q5_K;
    const size_t codes_at = t == JPT_Q4_1 || t == JPT_Q5_1 ? 64 : 32;
    if (n_rows < PANEL_ROWS)
        memset(panel, 0, panel_bytes(t, cols));
    for (int32_t b = 0; b < cols / PANEL_BLOCK; b++) {
        const uint8_t *head_at = NULL;
        uint8_t       *block = panel + (panel_block(t, panel, b, &head_at) - panel), *q = block + codes_at;
        uint8_t       *head = head_at ? panel + (head_at - panel) : NULL;
        uint8_t        group[8][64] = {{0}};
        for (int32_t r = 0; r < n_rows; r++) {
            uint8_t code[32];
            pack_scales(t, rows + (size_t)r * row_bytes, b, r, head, block);
            codes_of(t, rows + (size_t)r * row_bytes, b, code);
            for (int g = 0; g < 8; g++)
                memcpy(&group[g][4 * r], &code[4 * g], 4);
        }
        if (t == JPT_Q8_0) {
            memcpy(q, group, 512);
            continue;
        }
        if (five) {
            for (int g = 0; g < 8; g++) {
                uint64_t bits = 0;
                for (int i = 0; i < 64; i++)
                    bits |= (uint64_t)(group[g][i] >> 4 & 1) << i;
                memcpy(q + 8 * g, &bits, 8);
            }
            q += 64;
        }
        for (int g = 0; g < 4; g++)
            for (int i = 0; i < 64; i++)
                q[64 * g + i] = (uint8_t)((group[g][i] & 15) | (group[g + 4][i] & 15) << 4);
        if (t == JPT_Q6_K)
            for (int v = 0; v < 2; v++)
                for (int i = 0; i < 64; i++)
                    q[256 + 64 * v + i] = (uint8_t)(group[4 * v][i] >> 4 | group[4 * v + 1][i] >> 4 << 2 | group[4 * v + 2][i] >> 4 << 4 |
                                                    group[4 * v + 3][i] >> 4 << 6);
    }
}
