/* Processors and warpers against transformers 4.46 (tools/golden/select_hf.py): same tokens kept, same scores. */
#include <jansson.h>
#include <jpt/select.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

static jpt_link_kind kind_of(const char *name) {
    static const struct {
        const char   *name;
        jpt_link_kind kind;
    } known[] = {{"repetition_penalty", JPT_LINK_REPETITION_PENALTY}, {"no_repeat_ngram", JPT_LINK_NO_REPEAT_NGRAM}, {"min_new_tokens", JPT_LINK_MIN_NEW_TOKENS},
                 {"temperature", JPT_LINK_TEMPERATURE}, {"top_k", JPT_LINK_TOP_K}, {"top_p", JPT_LINK_TOP_P}, {"min_p", JPT_LINK_MIN_P},
                 {"typical", JPT_LINK_TYPICAL}, {"epsilon", JPT_LINK_EPSILON}, {"eta", JPT_LINK_ETA}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].kind;
    fail_msg("unknown link %s", name);
    return JPT_LINK_BIAS;
}

static float *floats(const char *hex, int32_t *n) {
    *n = (int32_t)(strlen(hex) / 8);
    float *out = malloc((size_t)*n * sizeof *out);
    for (int32_t i = 0; i < *n; i++) {
        uint32_t u = 0;
        for (int b = 0; b < 4; b++) {
            unsigned byte;
            assert_int_equal(sscanf(hex + 8 * i + 2 * b, "%2x", &byte), 1);
            u |= (uint32_t)byte << (8 * b);
        }
        memcpy(&out[i], &u, 4);
    }
    return out;
}

static void matches_transformers(void **unused) {
    (void)unused;
    json_error_t je;
    json_t      *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/select.json", 0, &je), *c;
    size_t       i, same_sets = 0, n_cases = 0;
    double       worst = 0;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "cases"), i, c) {
        jpt_chain chain = {.min_tokens_to_keep = (int32_t)json_integer_value(json_object_get(c, "keep")), .eos = {0, 1}, .n_eos = 2};
        size_t    l;
        json_t   *link;
        json_array_foreach(json_object_get(c, "chain"), l, link) {
            double v = json_number_value(json_array_get(link, 1));
            chain.link[chain.n_links++] = (jpt_link){.kind = kind_of(json_string_value(json_array_get(link, 0))), .value = v, .count = (int32_t)v};
        }
        int32_t n, m, history[64], n_history = 0;
        json_t *h;
        size_t  k;
        json_array_foreach(json_object_get(c, "history"), k, h) history[n_history++] = (int32_t)json_integer_value(h);
        float *z = floats(json_string_value(json_object_get(c, "logits")), &n), *want = floats(json_string_value(json_object_get(c, "out")), &m);
        void  *scratch = malloc(jpt_select_scratch_bytes(n));
        assert_int_equal(n, m);
        jpt_error err = {0};
        if (jpt_chain_apply(&chain, &(jpt_select_item){.history = history, .n_history = n_history, .n_prompt = (int32_t)json_integer_value(json_object_get(c, "n_prompt"))}, z, n, scratch, &err) != JPT_OK)
            fail_msg("%s: %s", json_string_value(json_object_get(c, "name")), err.msg);
        bool same = true;
        for (int32_t t = 0; t < n; t++) {
            if ((z[t] == -INFINITY) != (want[t] == -INFINITY))
                same = false;
            else if (z[t] != -INFINITY)
                worst = fmax(worst, fabs((double)z[t] - (double)want[t]) / fmax(1, fabs((double)want[t])));
        }
        if (!same)
            printf("not the same set: case %zu: %s, V = %d, keep %d\n", i, json_string_value(json_object_get(c, "name")), n, chain.min_tokens_to_keep);
        same_sets += same;
        n_cases++;
        free(z), free(want), free(scratch);
    }
    printf("golden: selection against transformers %s: %zu of %zu kept sets identical, worst score difference %.1e\n",
           json_string_value(json_object_get(all, "transformers")), same_sets, n_cases, worst);
    assert_true(n_cases >= 200);
    assert_int_equal(same_sets, n_cases);
    assert_true(worst <= 1e-6);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
