/* Reading quantised blocks, against the gguf package (tools/golden/tensor_gguf.py), bit for bit; and writing them. */
#include <jansson.h>
#include <jpt/tensor.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static size_t unhex(const char *hex, uint8_t *out, size_t cap) {
    size_t n = strlen(hex) / 2;
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

static void blocks_equal_gguf(void **state) {
    (void)state;
    json_error_t e;
    json_t      *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/tensor.json", 0, &e), *c;
    size_t       i, values = 0, same = 0;
    static uint8_t blocks[8192];
    static float   want[1024], got[1024];
    if (!all)
        fail_msg("tensor.json: %s", e.text);
    assert_int_equal(json_array_size(json_object_get(all, "cases")), 10);
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        size_t    n = (size_t)json_integer_value(json_object_get(c, "n")), bytes = 0;
        jpt_dtype t = (jpt_dtype)json_integer_value(json_object_get(c, "type"));
        assert_true(n <= 1024);
        assert_string_equal(jpt_dtype_name(t), json_string_value(json_object_get(c, "name")));
        assert_true(jpt_dtype_row_bytes(t, n, &bytes));
        assert_int_equal(unhex(json_string_value(json_object_get(c, "blocks")), blocks + 1, sizeof blocks - 1), bytes);
        assert_int_equal(unhex(json_string_value(json_object_get(c, "f32")), (uint8_t *)want, sizeof want), n * 4);
        jpt_dequantize_row(t, blocks + 1, got, n); /* unaligned on purpose */
        for (size_t k = 0; k < n; k++, values++) {
            same += memcmp(&got[k], &want[k], 4) == 0;
            if (fabsf(got[k] - want[k]) > 1e-6f * fabsf(want[k]))
                fail_msg("%s: weight %zu is %.9g, expected %.9g", jpt_dtype_name(t), k, (double)got[k], (double)want[k]);
        }
    }
    printf("golden: quantised blocks against gguf, 10 types: %zu of %zu weights identical, the rest within 1e-6\n", same, values);
    assert_true(same * 100 >= values * 99);
    json_decref(all);
}

/* Half a step of the grid, at most, for the types that have one scale a block. */
static void written_blocks_read_back(void **state) {
    (void)state;
    enum { N = 512 };
    static float   x[N], y[N];
    static uint8_t q[N * 4];
    for (size_t i = 0; i < jpt_dtype_count(); i++) {
        const jpt_dtype_info *t = jpt_dtype_at(i);
        double                err = 0, norm = 0;
        for (int k = 0; k < N; k++)
            x[k] = (float)(jpt_rng_uniform((jpt_rng_key){3, 0, 0, (uint32_t)k}, 0) * 2 - 1);
        jpt_quantize_row(t->dtype, x, q, N);
        jpt_dequantize_row(t->dtype, q, y, N);
        for (int k = 0; k < N; k++)
            err += (double)(x[k] - y[k]) * (double)(x[k] - y[k]), norm += (double)x[k] * (double)x[k];
        double nmse = err / norm, limit;
        switch (t->dtype) {
        case JPT_F32: limit = 0; break;
        case JPT_F16: limit = 1e-6; break;
        case JPT_BF16: limit = 1e-5; break;
        case JPT_Q8_0: limit = 1e-4; break;
        case JPT_Q6_K: limit = 1e-3; break;
        case JPT_Q5_0: case JPT_Q5_1: case JPT_Q5_K: limit = 2.5e-3; break;
        default: limit = 1e-2; /* 4 bits */
        }
        if (!(nmse <= limit))
            fail_msg("%s: normalised error %.2e, limit %.0e", t->name, nmse, limit);
    }
}

static void halves(void **state) {
    (void)state;
    /* every half survives the way to float32 and back; NaN stays NaN */
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = jpt_half_to_f32((jpt_half)h);
        if (isnan(f))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        else
            assert_int_equal(jpt_f32_to_half(f), h);
    }
    assert_int_equal(jpt_f32_to_half(65520), 0x7c00);           /* rounds to infinity */
    assert_int_equal(jpt_f32_to_half(1.0f + 1.0f / 2048), 0x3c00); /* a tie goes to even */
    assert_int_equal(jpt_f32_to_half(1.0f + 3.0f / 2048), 0x3c02);
    assert_int_equal(jpt_f32_to_bf16(1.0f + 1.0f / 256), 0x3f80);
    assert_int_equal(jpt_f32_to_bf16(1.0f + 3.0f / 256), 0x3f82);
}

static void sizes(void **state) {
    (void)state;
    size_t bytes;
    assert_false(jpt_dtype_row_bytes(JPT_Q4_K, 128, &bytes));
    assert_false(jpt_dtype_row_bytes(JPT_F32, UINT64_MAX / 2, &bytes));
    assert_true(jpt_dtype_row_bytes(JPT_Q6_K, 512, &bytes) && bytes == 420);
    assert_null(jpt_dtype_find(4));
    assert_null(jpt_dtype_find(4000000000u));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_equal_gguf), cmocka_unit_test(written_blocks_read_back), cmocka_unit_test(halves), cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
