/* Scalar (de)quantisation of every block format: the definition that kernels are tested against.
 * Formats: ggml (see tensor.h).  Blocks are copied out before use, so src may have any alignment. */
#include <float.h>
#include <jpt/tensor.h>
#include <math.h>
#include <string.h>

static void dequantize_block(jpt_dtype dtype, const void *src, float *y) {
    switch (dtype) {
    case JPT_Q4_0: {
        jpt_block_q4_0 b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d);
        for (int i = 0; i < 16; i++) {
            y[i] = d * (float)((b.q[i] & 15) - 8);
            y[i + 16] = d * (float)((b.q[i] >> 4) - 8);
        }
        break;
    }
    case JPT_Q4_1: {
        jpt_block_q4_1 b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d), m = jpt_half_to_f32(b.m);
        for (int i = 0; i < 16; i++) {
            y[i] = d * (float)(b.q[i] & 15) + m;
            y[i + 16] = d * (float)(b.q[i] >> 4) + m;
        }
        break;
    }
    case JPT_Q5_0: {
        jpt_block_q5_0 b;
        memcpy(&b, src, sizeof b);
        float    d = jpt_half_to_f32(b.d);
        uint32_t h = (uint32_t)b.h[0] | (uint32_t)b.h[1] << 8 | (uint32_t)b.h[2] << 16 | (uint32_t)b.h[3] << 24;
        for (int i = 0; i < 16; i++) {
            y[i] = d * (float)((int)((b.q[i] & 15) | (h >> i & 1) << 4) - 16);
            y[i + 16] = d * (float)((int)((b.q[i] >> 4) | (h >> (i + 16) & 1) << 4) - 16);
        }
        break;
    }
    case JPT_Q5_1: {
        jpt_block_q5_1 b;
        memcpy(&b, src, sizeof b);
        float    d = jpt_half_to_f32(b.d), m = jpt_half_to_f32(b.m);
        uint32_t h = (uint32_t)b.h[0] | (uint32_t)b.h[1] << 8 | (uint32_t)b.h[2] << 16 | (uint32_t)b.h[3] << 24;
        for (int i = 0; i < 16; i++) {
            y[i] = d * (float)((b.q[i] & 15) | (h >> i & 1) << 4) + m;
            y[i + 16] = d * (float)((b.q[i] >> 4) | (h >> (i + 16) & 1) << 4) + m;
        }
        break;
    }
    case JPT_Q8_0: {
        jpt_block_q8_0 b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d);
        for (int i = 0; i < 32; i++)
            y[i] = d * (float)b.q[i];
        break;
    }
    case JPT_Q4_K: {
        jpt_block_q4_k b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d), dmin = jpt_half_to_f32(b.dmin);
        for (int j = 0; j < 8; j++) {
            uint8_t sc, mn;
            jpt_k_scale_min(j, b.scales, &sc, &mn);
            const uint8_t *q = b.q + 32 * (j / 2);
            float          dj = d * (float)sc, mj = dmin * (float)mn;
            for (int i = 0; i < 32; i++)
                y[32 * j + i] = dj * (float)(j % 2 ? q[i] >> 4 : q[i] & 15) - mj;
        }
        break;
    }
    case JPT_Q5_K: {
        jpt_block_q5_k b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d), dmin = jpt_half_to_f32(b.dmin);
        for (int j = 0; j < 8; j++) {
            uint8_t sc, mn;
            jpt_k_scale_min(j, b.scales, &sc, &mn);
            const uint8_t *q = b.q + 32 * (j / 2);
            float          dj = d * (float)sc, mj = dmin * (float)mn;
            for (int i = 0; i < 32; i++)
                y[32 * j + i] = dj * (float)((j % 2 ? q[i] >> 4 : q[i] & 15) + ((b.h[i] >> j & 1) << 4)) - mj;
        }
        break;
    }
    case JPT_Q6_K: {
        jpt_block_q6_k b;
        memcpy(&b, src, sizeof b);
        float d = jpt_half_to_f32(b.d);
        for (int half = 0; half < 2; half++)
            for (int quarter = 0; quarter < 4; quarter++)
                for (int i = 0; i < 32; i++) {
                    uint8_t low = b.ql[64 * half + 32 * (quarter & 1) + i];
                    int     q = (quarter < 2 ? low & 15 : low >> 4) | (b.qh[32 * half + i] >> (2 * quarter) & 3) << 4;
                    int     at = 128 * half + 32 * quarter + i;
                    y[at] = d * (float)b.scales[at / 16] * (float)(q - 32);
                }
        break;
    }
    default:
        JPT_ASSERT(!"dtype has no blocks");
    }
}

void jpt_dequantize_row(jpt_dtype dtype, const void *src, float *dst, size_t n) {
    const uint8_t *p = src;
    switch (dtype) {
    case JPT_F32:
        memcpy(dst, src, n * sizeof *dst);
        return;
    case JPT_F16:
    case JPT_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t u;
            memcpy(&u, p + 2 * i, 2);
            dst[i] = dtype == JPT_F16 ? jpt_half_to_f32(u) : jpt_bf16_to_f32(u);
        }
        return;
    default: {
        const jpt_dtype_info *info = jpt_dtype_find((uint32_t)dtype);
        JPT_ASSERT(info && n % (size_t)info->block == 0);
        for (size_t i = 0; i < n; i += (size_t)info->block, p += info->block_bytes)
            dequantize_block(dtype, p, dst + i);
    }
    }
}

/* ---- quantisation ------------------------------------------------------------------------------ */

static int clamp_int(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

/* Q4_0, Q5_0: the scale maps the weight of largest magnitude to the most negative code. */
static float signed_max(const float *x, int n) {
    float best = 0, max = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > best) {
            best = fabsf(x[i]);
            max = x[i];
        }
    return max;
}

static void min_max(const float *x, int n, float *lo, float *hi) {
    *lo = FLT_MAX;
    *hi = -FLT_MAX;
    for (int i = 0; i < n; i++) {
        *lo = fminf(*lo, x[i]);
        *hi = fmaxf(*hi, x[i]);
    }
}

/* Q4_K and Q5_K: each sub-block gets a range [-m, ...] and a step, then both are rounded to 6 bits. */
static void quantize_k45(const float *x, int bits, jpt_half *d_out, jpt_half *dmin_out, uint8_t scales[12], uint8_t code[256]) {
    const float levels = (float)((1 << bits) - 1);
    float       step[8], min[8], max_step = 0, max_min = 0;
    for (int j = 0; j < 8; j++) {
        float lo, hi;
        min_max(x + 32 * j, 32, &lo, &hi);
        lo = fminf(lo, 0);
        step[j] = (hi - lo) / levels;
        min[j] = -lo;
        max_step = fmaxf(max_step, step[j]);
        max_min = fmaxf(max_min, min[j]);
    }
    *d_out = jpt_f32_to_half(max_step / 63);
    *dmin_out = jpt_f32_to_half(max_min / 63);
    memset(scales, 0, 12);
    float d = jpt_half_to_f32(*d_out), dmin = jpt_half_to_f32(*dmin_out);
    for (int j = 0; j < 8; j++) {
        int sc = d > 0 ? clamp_int((int)lrintf(step[j] / d), 0, 63) : 0;
        int mn = dmin > 0 ? clamp_int((int)lrintf(min[j] / dmin), 0, 63) : 0;
        if (j < 4) {
            scales[j] |= (uint8_t)sc;
            scales[j + 4] |= (uint8_t)mn;
        } else {
            scales[j + 4] |= (uint8_t)((sc & 15) | (mn & 15) << 4);
            scales[j - 4] |= (uint8_t)(sc >> 4 << 6);
            scales[j] |= (uint8_t)(mn >> 4 << 6);
        }
        float dj = d * (float)sc, mj = dmin * (float)mn;
        for (int i = 0; i < 32; i++)
            code[32 * j + i] = dj > 0 ? (uint8_t)clamp_int((int)lrintf((x[32 * j + i] + mj) / dj), 0, (int)levels) : 0;
    }
}

static void quantize_block(jpt_dtype dtype, const float *x, void *dst) {
    switch (dtype) {
    case JPT_Q4_0: {
        jpt_block_q4_0 b;
        float          d = signed_max(x, 32) / -8, id = d != 0 ? 1 / d : 0;
        b.d = jpt_f32_to_half(d);
        for (int i = 0; i < 16; i++) {
            int lo = clamp_int((int)(x[i] * id + 8.5f), 0, 15), hi = clamp_int((int)(x[i + 16] * id + 8.5f), 0, 15);
            b.q[i] = (uint8_t)(lo | hi << 4);
        }
        memcpy(dst, &b, sizeof b);
        break;
    }
    case JPT_Q4_1: {
        jpt_block_q4_1 b;
        float          lo, hi;
        min_max(x, 32, &lo, &hi);
        float d = (hi - lo) / 15, id = d != 0 ? 1 / d : 0;
        b.d = jpt_f32_to_half(d);
        b.m = jpt_f32_to_half(lo);
        for (int i = 0; i < 16; i++) {
            int a = clamp_int((int)((x[i] - lo) * id + 0.5f), 0, 15), c = clamp_int((int)((x[i + 16] - lo) * id + 0.5f), 0, 15);
            b.q[i] = (uint8_t)(a | c << 4);
        }
        memcpy(dst, &b, sizeof b);
        break;
    }
    case JPT_Q5_0:
    case JPT_Q5_1: {
        float lo = 0, hi = 0, d, offset;
        if (dtype == JPT_Q5_0) {
            d = signed_max(x, 32) / -16;
            offset = 16.5f;
        } else {
            min_max(x, 32, &lo, &hi);
            d = (hi - lo) / 31;
            offset = 0.5f;
        }
        float    id = d != 0 ? 1 / d : 0;
        uint32_t h = 0;
        uint8_t  q[16];
        for (int i = 0; i < 16; i++) {
            int a = clamp_int((int)((x[i] - lo) * id + offset), 0, 31), c = clamp_int((int)((x[i + 16] - lo) * id + offset), 0, 31);
            q[i] = (uint8_t)((a & 15) | (c & 15) << 4);
            h |= (uint32_t)(a >> 4) << i | (uint32_t)(c >> 4) << (i + 16);
        }
        const uint8_t bits[4] = {(uint8_t)h, (uint8_t)(h >> 8), (uint8_t)(h >> 16), (uint8_t)(h >> 24)};
        if (dtype == JPT_Q5_0) {
            jpt_block_q5_0 b = {.d = jpt_f32_to_half(d)};
            memcpy(b.h, bits, 4);
            memcpy(b.q, q, 16);
            memcpy(dst, &b, sizeof b);
        } else {
            jpt_block_q5_1 b = {.d = jpt_f32_to_half(d), .m = jpt_f32_to_half(lo)};
            memcpy(b.h, bits, 4);
            memcpy(b.q, q, 16);
            memcpy(dst, &b, sizeof b);
        }
        break;
    }
    case JPT_Q8_0: {
        jpt_block_q8_0 b;
        float          d = fabsf(signed_max(x, 32)) / 127, id = d != 0 ? 1 / d : 0;
        b.d = jpt_f32_to_half(d);
        for (int i = 0; i < 32; i++)
            b.q[i] = (int8_t)clamp_int((int)roundf(x[i] * id), -127, 127);
        memcpy(dst, &b, sizeof b);
        break;
    }
    case JPT_Q4_K: {
        jpt_block_q4_k b;
        uint8_t        code[256];
        quantize_k45(x, 4, &b.d, &b.dmin, b.scales, code);
        for (int j = 0; j < 8; j += 2)
            for (int i = 0; i < 32; i++)
                b.q[16 * j + i] = (uint8_t)(code[32 * j + i] | code[32 * j + 32 + i] << 4);
        memcpy(dst, &b, sizeof b);
        break;
    }
    case JPT_Q5_K: {
        jpt_block_q5_k b = {0};
        uint8_t        code[256];
        quantize_k45(x, 5, &b.d, &b.dmin, b.scales, code);
        for (int j = 0; j < 8; j++)
            for (int i = 0; i < 32; i++) {
                uint8_t c = code[32 * j + i];
                b.q[32 * (j / 2) + i] |= (uint8_t)((c & 15) << (j % 2 ? 4 : 0));
                b.h[i] |= (uint8_t)((c >> 4) << j);
            }
        memcpy(dst, &b, sizeof b);
        break;
    }
    case JPT_Q6_K: {
        jpt_block_q6_k b = {0};
        float          step[16], max_step = 0;
        for (int j = 0; j < 16; j++) {
            step[j] = signed_max(x + 16 * j, 16) / -32;
            max_step = fmaxf(max_step, fabsf(step[j]));
        }
        b.d = jpt_f32_to_half(max_step / 127);
        float d = jpt_half_to_f32(b.d);
        for (int j = 0; j < 16; j++)
            b.scales[j] = (int8_t)(d > 0 ? clamp_int((int)lrintf(step[j] / d), -127, 127) : 0);
        for (int at = 0; at < 256; at++) {
            float dj = d * (float)b.scales[at / 16];
            int   q = dj != 0 ? clamp_int((int)lrintf(x[at] / dj), -32, 31) + 32 : 32;
            int   half = at / 128, quarter = at / 32 % 4, i = at % 32;
            b.ql[64 * half + 32 * (quarter & 1) + i] |= (uint8_t)((q & 15) << (quarter < 2 ? 0 : 4));
            b.qh[32 * half + i] |= (uint8_t)((q >> 4) << (2 * quarter));
        }
        memcpy(dst, &b, sizeof b);
        break;
    }
    default:
        JPT_ASSERT(!"dtype has no blocks");
    }
}

void jpt_quantize_row(jpt_dtype dtype, const float *src, void *dst, size_t n) {
    uint8_t *p = dst;
    switch (dtype) {
    case JPT_F32:
        memcpy(dst, src, n * sizeof *src);
        return;
    case JPT_F16:
    case JPT_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t u = dtype == JPT_F16 ? jpt_f32_to_half(src[i]) : jpt_f32_to_bf16(src[i]);
            memcpy(p + 2 * i, &u, 2);
        }
        return;
    default: {
        const jpt_dtype_info *info = jpt_dtype_find((uint32_t)dtype);
        JPT_ASSERT(info && n % (size_t)info->block == 0);
        for (size_t i = 0; i < n; i += (size_t)info->block, p += info->block_bytes)
            quantize_block(dtype, src + i, p);
    }
    }
}
