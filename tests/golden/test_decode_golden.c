/* Whole decodings against transformers' generate() (tools/golden/decode_hf.py): tiny llama and qwen2 in float32, 20 prompts a
 * SPEC; and SmolLM2 where JPT_MODEL names it.  A difference is a failure unless the two best choices were closer than 1e-5
 * there; how many are identical is printed for each strategy. */
#include <jansson.h>
#include <jpt/decode.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

typedef struct tally {
    char name[64];
    int  compared, identical;
} tally;
static tally  tallies[64];
static size_t n_tallies;

static tally *tally_of(const char *spec) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(spec, ":"), spec);
    for (size_t i = 0; i < n_tallies; i++)
        if (strcmp(tallies[i].name, name) == 0)
            return &tallies[i];
    assert_true(n_tallies < 64);
    snprintf(tallies[n_tallies].name, sizeof name, "%s", name);
    return &tallies[n_tallies++];
}

static jpt_model *open_tiny(const char *name) {
    char              path[512];
    jpt_error         err = {0};
    jpt_model_options o = {.dtype = "f32", .n_threads = 1};
    jpt_model        *m;
    snprintf(path, sizeof path, "%s/tests/golden/decode_tiny_%s.gguf", JPT_SOURCE_DIR, name);
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return m;
}

enum { PROMPTS = 64, PROMPT = 128 };

/* assistant: the other tiny model, or NULL.  n_batch prompts at a time, which changes no text and reads the weights less often. */
static int run_case(jpt_model *m, jpt_model *assistant, json_t *prompts, json_t *c, int32_t max_new, int32_t n_batch, size_t n_prompts) {
    const char         *text = json_string_value(json_object_get(c, "spec"));
    jpt_error           err = {0};
    jpt_spec_list       specs = {0};
    jpt_session_options so = {.n_ctx = 256}, ao = {.n_ctx = 256, .n_seqs = 8, .n_outputs = 8};
    jpt_session        *s, *a = NULL;
    static int32_t      ids[PROMPTS][PROMPT];
    jpt_request         r[PROMPTS];
    jpt_generation      all[PROMPTS] = {0};
    size_t              of[PROMPTS], i;
    int32_t             n_asked = 0;
    int                 wrong = 0;
    json_t             *p;
    if (jpt_spec_parse(text, &specs, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    const jpt_spec *spec = &specs.spec[0];
    jpt_spec_session_options(&spec, 1, n_batch, &so);
    if (jpt_session_open(m, &so, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    if (assistant && (jpt_session_open(assistant, &ao, &a, &err) != JPT_OK || jpt_session_set_assistant(s, a, &err) != JPT_OK))
        fail_msg("%s", err.msg);
    tally *t = tally_of(text);
    json_array_foreach(prompts, i, p) {
        int32_t n = (int32_t)json_array_size(p);
        assert_true(n <= PROMPT && i < PROMPTS);
        if (i >= n_prompts || json_is_null(json_array_get(json_object_get(c, "out"), i))) /* the maker says why */
            continue;
        for (int32_t k = 0; k < n; k++)
            ids[i][k] = (int32_t)json_integer_value(json_array_get(p, (size_t)k));
        of[n_asked] = i;
        r[n_asked++] = (jpt_request){.spec = spec, .prompt = ids[i], .n_prompt = n, .max_new_tokens = max_new};
    }
    if (jpt_generate(s, r, n_asked, n_batch, all, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s: %s", text, err.msg);
    for (int32_t at = 0; at < n_asked; at++) {
        jpt_generation g = all[at];
        json_t        *want = json_array_get(json_object_get(c, "out"), i = of[at]);
        int32_t        n = r[at].n_prompt;
        size_t same = 0, n_want = json_array_size(want);
        /* 4.46's beam scorer writes the first end id whichever was met */
        const jpt_tokenizer *tok = jpt_model_tokenizer(m);
        for (; same < n_want && same < (size_t)g.n_tokens; same++) {
            int32_t w = (int32_t)json_integer_value(json_array_get(want, same));
            if (g.tokens[same] != w && !(jpt_tokenizer_is_eog(tok, g.tokens[same]) && jpt_tokenizer_is_eog(tok, w)))
                break;
        }
        bool ok = same == n_want && same == (size_t)g.n_tokens;
        t->compared++;
        t->identical += ok;
        if (!ok) {
            wrong++;
            printf("%s, prompt %zu: differs at token %zu (%d against %zu tokens)\n", text, i, same, g.n_tokens, n_want);
        }
        /* the work adds up: what was computed is in the text (its last token may not have been run) or was thrown away */
        uint64_t kept = g.work.positions_computed - g.work.positions_discarded, most = (uint64_t)(n + g.n_tokens);
        if (kept != most && kept != most - 1)
            fail_msg("%s, prompt %zu: %llu computed, %llu thrown away, %d + %d kept", text, i, (unsigned long long)g.work.positions_computed,
                     (unsigned long long)g.work.positions_discarded, n, g.n_tokens);
        jpt_generation_fini(&g);
    }
    jpt_session_close(s);
    jpt_session_close(a);
    jpt_spec_list_fini(&specs);
    return wrong;
}

/* by: what the golden texts were made with. */
static void print_tallies(const char *what, json_t *all) {
    const char *by = json_string_value(json_object_get(all, "by")), *version = json_string_value(json_object_get(all, "transformers"));
    for (size_t i = 0; i < n_tallies; i++)
        printf("golden: %s %s against %s%s: %d of %d texts identical\n", what, tallies[i].name, by ? by : "transformers ", by ? "" : version, tallies[i].identical, tallies[i].compared);
    n_tallies = 0;
    memset(tallies, 0, sizeof tallies);
}

static void tiny_models(const char *file) {
    json_error_t e;
    json_t      *all = json_load_file(file, 0, &e), *model, *c;
    size_t       i, k;
    int          wrong = 0;
    if (!all)
        fail_msg("%s: %s", file, e.text);
    json_array_foreach(json_object_get(all, "models"), i, model) {
        const char *name = json_string_value(json_object_get(model, "name"));
        jpt_model  *m = open_tiny(name), *other = NULL;
        json_array_foreach(json_object_get(model, "cases"), k, c) {
            const char *assistant = json_string_value(json_object_get(c, "assistant"));
            if (assistant && !other)
                other = open_tiny(assistant);
            wrong += run_case(m, assistant ? other : NULL, json_object_get(model, "prompts"), c, (int32_t)json_integer_value(json_object_get(all, "max_new_tokens")), 1, getenv("JPT_SKIP_SLOW") ? 5 : PROMPTS);
        }
        jpt_model_close(m);
        jpt_model_close(other);
    }
    print_tallies("tiny", all);
    json_decref(all);
    assert_int_equal(wrong, 0);
}

static void tiny_models_equal_transformers(void **state) {
    (void)state;
    tiny_models(JPT_SOURCE_DIR "/tests/golden/decode_tiny.json");
}

/* 4.46 leaves out beams that reach the length in the very step in which the last answer ends (early_stopping=true); the
 * vectorised search of 4.50 and later, which jpt follows, counts them. */
static void beams_equal_vectorised_search(void **state) {
    (void)state;
    tiny_models(JPT_SOURCE_DIR "/tests/golden/decode_tiny_beam.json");
    tiny_models(JPT_SOURCE_DIR "/tests/golden/decode_tiny_beam_more.json");
}

/* The processors that few use, on greedy search, group beams and beams; prompt lookup. */
static void processors_equal_transformers(void **state) {
    (void)state;
    tiny_models(JPT_SOURCE_DIR "/tests/golden/decode_tiny_more.json");
}

/* What transformers does not have, by the rules of the authors' code (tools/golden/decode_authors.py). */
static void authors_strategies(void **state) {
    (void)state;
    tiny_models(JPT_SOURCE_DIR "/tests/golden/decode_tiny_authors.json");
}

/* The default model in float32: prompts of 64 tokens, 10 by greedy search, 3 (JPT_TEST_ALL: 10) by the others. */
static void smollm2(const char *file) {
    const char       *path = getenv("JPT_MODEL");
    jpt_model_options o = {.dtype = "f32"};
    jpt_error         err = {0};
    jpt_model        *m;
    json_t           *all, *c;
    size_t            k;
    int               wrong = 0;
    if (!path || !*path || getenv("JPT_SKIP_SLOW")) {
        printf("smollm2: skipped, JPT_MODEL is not set or JPT_SKIP_SLOW is\n");
        skip();
    }
    all = json_load_file(file, 0, NULL);
    assert_non_null(all);
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    size_t few = getenv("JPT_TEST_ALL") ? 10 : 3; /* the tiny models have 20 of each; greedy search has all here, too */
    json_array_foreach(json_object_get(all, "cases"), k, c)
        wrong += run_case(m, NULL, json_object_get(all, "prompts"), c, (int32_t)json_integer_value(json_object_get(all, "max_new_tokens")), 10, k == 0 ? 10 : few);
    /* speculation of every kind writes greedy search's text */
    static const char *const same[] = {"prompt-lookup:prompt_lookup_num_tokens=5,max_matching_ngram_size=3", "self-speculation:exit_layer=24", "lookahead:window=5,ngram=3,guess_set=5"};
    json_t *first = json_array_get(json_object_get(all, "cases"), 0);
    for (size_t i = 0; i < sizeof same / sizeof *same && strcmp(json_string_value(json_object_get(first, "spec")), "greedy") == 0; i++) {
        json_t *twin = json_pack("{s:s,s:O}", "spec", same[i], "out", json_object_get(first, "out"));
        wrong += run_case(m, NULL, json_object_get(all, "prompts"), twin, (int32_t)json_integer_value(json_object_get(all, "max_new_tokens")), 10, few);
        json_decref(twin);
    }
    jpt_model_close(m);
    print_tallies("SmolLM2", all);
    json_decref(all);
    assert_int_equal(wrong, 0);
}

static void smollm2_equals_transformers(void **state) {
    (void)state;
    smollm2(JPT_SOURCE_DIR "/tests/golden/decode_smollm2.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny_models_equal_transformers), cmocka_unit_test(beams_equal_vectorised_search), cmocka_unit_test(processors_equal_transformers),
                                       cmocka_unit_test(authors_strategies),
                                       cmocka_unit_test(smollm2_equals_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
