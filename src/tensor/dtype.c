/* The table of element types and the float16 / bfloat16 conversions. */
#include <jpt/tensor.h>
#include <string.h>

static const jpt_dtype_info table[] = {
    {JPT_F32, "F32", 1, 4},       {JPT_F16, "F16", 1, 2},       {JPT_BF16, "BF16", 1, 2},     {JPT_Q4_0, "Q4_0", 32, 18},
    {JPT_Q4_1, "Q4_1", 32, 20},   {JPT_Q5_0, "Q5_0", 32, 22},   {JPT_Q5_1, "Q5_1", 32, 24},   {JPT_Q8_0, "Q8_0", 32, 34},
    {JPT_Q4_K, "Q4_K", 256, 144}, {JPT_Q5_K, "Q5_K", 256, 176}, {JPT_Q6_K, "Q6_K", 256, 210},
};
enum { N = sizeof table / sizeof table[0] };

size_t                jpt_dtype_count(void) { return N; }
const jpt_dtype_info *jpt_dtype_at(size_t i) { return i < N ? &table[i] : NULL; }

const jpt_dtype_info *jpt_dtype_find(uint32_t ggml_type) {
    for (size_t i = 0; i < N; i++)
        if ((uint32_t)table[i].dtype == ggml_type)
            return &table[i];
    return NULL;
}

const char *jpt_dtype_name(jpt_dtype dtype) {
    const jpt_dtype_info *info = jpt_dtype_find((uint32_t)dtype);
    return info ? info->name : "?";
}

bool jpt_dtype_row_bytes(jpt_dtype dtype, uint64_t n, size_t *bytes) {
    const jpt_dtype_info *info = jpt_dtype_find((uint32_t)dtype);
    if (!info || n % (uint64_t)info->block != 0)
        return false;
    return jpt_mul_size(n / (uint64_t)info->block, (size_t)info->block_bytes, bytes);
}

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t to_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float jpt_half_to_f32(jpt_half h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 0x1f, man = h & 0x3ff;
    if (exp == 31)
        return from_bits(sign | 0x7f800000 | man << 13);
    if (exp == 0) /* zero and subnormals: man * 2^-24, exact */
        return from_bits(sign | to_bits((float)man * 0x1p-24f));
    return from_bits(sign | (exp + 112) << 23 | man << 13);
}

jpt_half jpt_f32_to_half(float f) {
    uint32_t u = to_bits(f), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000) /* NaN stays NaN */
        return (jpt_half)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000) /* rounds past the largest half */
        return (jpt_half)(sign | 0x7c00);
    if (mag < 0x38800000) { /* subnormal half: the float adder does the rounding */
        float shifted = from_bits(mag) + 0.5f;
        return (jpt_half)(sign | (to_bits(shifted) - 0x3f000000));
    }
    uint32_t odd = mag >> 13 & 1;
    return (jpt_half)(sign | (mag - 0x38000000 + 0xfff + odd) >> 13);
}

float jpt_bf16_to_f32(uint16_t b) { return from_bits((uint32_t)b << 16); }

uint16_t jpt_f32_to_bf16(float f) {
    uint32_t u = to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
