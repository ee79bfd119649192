/* SPEC strings, the driver's rules, sampling laws: on a tiny model. */
#include "tiny_model.h"
#include <jpt/decode.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

/* ---- SPECs --------------------------------------------------------------------------------------------- */

static void grids(void **unused) {
    (void)unused;
    jpt_spec_list l = {0};
    assert_int_equal(jpt_spec_parse("sample:temperature={0.7,1.0},top_k={0,50}", &l, NULL), JPT_OK);
    assert_int_equal(l.n, 4);
    assert_string_equal(l.spec[0].text, "sample:temperature=0.7");
    assert_string_equal(l.spec[1].text, "sample:temperature=0.7,top_k=50");
    assert_string_equal(l.spec[3].text, "sample:temperature=1,top_k=50");
    assert_int_equal(jpt_spec_parse("sample:temperature=0.70", &l, NULL), JPT_OK);
    assert_int_equal(l.n, 4); /* the same setting */
    assert_true(jpt_spec_number(&l.spec[1], "top_k") == 50);
    jpt_buf json = {0};
    jpt_spec_json(&l.spec[1], &json);
    assert_non_null(strstr(json.p, "\"top_k\":50,\"top_p\":1,"));
    jpt_buf_fini(&json);
    jpt_spec_list_fini(&l);
}

static void refused_specs(void **unused) {
    (void)unused;
    static const char *const bad[][2] = {
        {"gredy", "did you mean 'greedy'?"},
        {"sample:temprature=1", "did you mean 'temperature'?"},
        {"top-p:top_p=1.5", "out of range: expected a value in [0, 1]"},
        {"sample:temperature=0", "out of range"},
        {"top-k:top_k=2.5", "expected a whole number"},
        {"top-k:top_k=abc", "expected a whole number"},
        {"sample:top_p={0.8,0.9", "is not closed"},
        {"sample:top_p=", "a value is missing"},
        {"sample:top_p=0.9,top_p=0.8", "given twice"},
        {"sample top_p=1", "unexpected ' ' at character 7"},
        {"", "expected a strategy's name"},
        {"greedy:suppress_tokens=1//2", "expected id/id"},
        {"greedy:begin_suppress_tokens=1/x", "expected id/id"},
        {"greedy:sequence_bias=1+2", "expected id+id:bias"},
        {"greedy:logit_bias=1:1e9", "biases in [-1e6, 1e6]"},
        {"greedy:exponential_decay_length_penalty=3", "expected start/factor"},
        {"fsd:stop_words_ids=a", "expected id/id"},
        {"assisted:acceptance=ratio", "add do_sample=true"},
        {"assisted:acceptance=x,do_sample=true", "expected draw or ratio"},
        {"self-consistency:early_stop=x", "expected never, decided or likely"},
        {"self-consistency:answer=x", "expected number, string, choice, boolean or text"},
        {"mirostat:form=x", "expected llama.cpp, paper or shi"},
        {"sample:chain=forced_eos+forced_eos", "stands in it twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        jpt_spec_list l = {0};
        jpt_error     err = {0};
        assert_int_equal(jpt_spec_parse(bad[i][0], &l, &err), JPT_ARG);
        if (!strstr(err.msg, bad[i][1]))
            fail_msg("'%s': got '%s', expected '%s'", bad[i][0], err.msg, bad[i][1]);
        jpt_spec_list_fini(&l);
    }
}

/* ---- the driver ------------------------------------------------------------------------------------------ */

typedef struct fixture {
    jpt_model   *m;
    jpt_session *s;
} fixture;

static int set_up(void **state) {
    static fixture f;
    tiny_model     t = {.seed = 5};
    char          *path = tiny_model_file(&t);
    jpt_error      err = {0};
    jpt_session_options o = {.n_ctx = 128, .n_seqs = 4, .n_outputs = 8};
    if (jpt_model_open(path, NULL, &f.m, &err) != JPT_OK || jpt_session_open(f.m, &o, &f.s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    unlink(path);
    free(path);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    jpt_session_close(f->s);
    jpt_model_close(f->m);
    return 0;
}

static const int32_t prompts[4][6] = {{5, 6, 7, 8, 9, 10}, {100, 20, 30}, {1, 2, 3, 4, 5}, {77}};
static const int32_t prompt_n[4] = {6, 3, 5, 1};

static jpt_request request(const jpt_spec *spec, int32_t i, int32_t n, uint64_t seed) {
    return (jpt_request){.spec = spec, .prompt = prompts[i], .n_prompt = prompt_n[i], .max_new_tokens = n, .seed = seed, .prompt_index = (uint32_t)i, .ignore_eos = true};
}

static void generate(fixture *f, const char *spec, int32_t i, int32_t n, uint64_t seed, jpt_generation *g) {
    jpt_spec_list l = {0};
    jpt_error     err = {0};
    if (jpt_spec_parse(spec, &l, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    jpt_request r = request(&l.spec[0], i, n, seed);
    *g = (jpt_generation){0};
    if (jpt_generate(f->s, &r, 1, 1, g, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    jpt_spec_list_fini(&l);
}

static void same_tokens(fixture *f, const char *a, const char *b, bool same) {
    jpt_generation x, y;
    generate(f, a, 0, 40, 3, &x);
    generate(f, b, 0, 40, 3, &y);
    bool equal = x.n_tokens == y.n_tokens && memcmp(x.tokens, y.tokens, (size_t)x.n_tokens * sizeof *x.tokens) == 0;
    if (equal != same)
        fail_msg("'%s' and '%s': %s", a, b, equal ? "the same text" : "different texts");
    jpt_generation_fini(&x);
    jpt_generation_fini(&y);
}

static void laws(void **state) {
    fixture *f = *state;
    same_tokens(f, "sample", "sample:top_p=1,min_p=0,typical_p=1", true);
    same_tokens(f, "sample", "top-k:top_k=264", true);
    same_tokens(f, "sample", "top-p:top_p=1", true);
    same_tokens(f, "greedy", "sample:temperature=0.00001", true);
    same_tokens(f, "greedy", "top-k:top_k=1", true);
    same_tokens(f, "greedy", "top-p:top_p=0", true);
    same_tokens(f, "greedy", "min-p:min_p=1", true);
    same_tokens(f, "greedy", "sample", false);
    same_tokens(f, "greedy", "greedy:repetition_penalty=5", false);
    jpt_generation g;
    generate(f, "greedy:no_repeat_ngram_size=1", 0, 40, 0, &g);
    for (int i = 0; i < g.n_tokens; i++)
        for (int k = 0; k < i; k++)
            assert_int_not_equal(g.tokens[i], g.tokens[k]);
    jpt_generation_fini(&g);
}

static void batches_and_seeds(void **state) {
    fixture      *f = *state;
    jpt_spec_list l = {0};
    jpt_spec_parse("sample:temperature=1.3,top_p=0.98", &l, NULL);
    jpt_request    r[4];
    jpt_generation one[4] = {0}, all[4] = {0}, other = {0};
    for (int i = 0; i < 4; i++)
        r[i] = request(&l.spec[0], i, 10 + 7 * i, 42);
    assert_int_equal(jpt_generate(f->s, r, 4, 1, one, NULL, NULL, NULL), JPT_OK);
    assert_int_equal(jpt_generate(f->s, r, 4, 3, all, NULL, NULL, NULL), JPT_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(one[i].n_tokens, 10 + 7 * i);
        assert_int_equal(all[i].n_tokens, one[i].n_tokens);
        assert_memory_equal(all[i].tokens, one[i].tokens, (size_t)one[i].n_tokens * sizeof(int32_t));
        assert_string_equal(all[i].text.p, one[i].text.p);
        assert_true(one[i].work.positions_computed == (uint64_t)(prompt_n[i] + one[i].n_tokens - 1)); /* computed = kept: nothing is thrown away */
        assert_true(one[i].work.positions_discarded == 0 && one[i].work.forwards == (uint64_t)one[i].n_tokens);
        assert_true(jpt_utf8_valid_prefix(one[i].text.p, one[i].text.n) == one[i].text.n);
    }
    r[0].seed = 43;
    assert_int_equal(jpt_generate(f->s, r, 1, 1, &other, NULL, NULL, NULL), JPT_OK);
    assert_memory_not_equal(other.tokens, one[0].tokens, 10 * sizeof(int32_t));
    jpt_generation_fini(&other);
    for (int i = 0; i < 4; i++) {
        jpt_generation_fini(&one[i]);
        jpt_generation_fini(&all[i]);
    }
    jpt_spec_list_fini(&l);
}

static void collect(void *ud, const char *p, size_t n) { jpt_buf_add(ud, p, n); }

static void stop_strings(void **state) {
    fixture       *f = *state;
    jpt_spec_list  l = {0};
    jpt_generation full = {0}, cut = {0};
    jpt_buf        streamed = {0};
    jpt_spec_parse("sample:temperature=1.5", &l, NULL);
    jpt_request r = request(&l.spec[0], 1, 60, 9);
    assert_int_equal(jpt_generate(f->s, &r, 1, 1, &full, NULL, NULL, NULL), JPT_OK);
    /* a stop text from the middle of the answer, long enough to span tokens */
    size_t at = full.text.n / 2;
    while (at && ((unsigned char)full.text.p[at] & 0xc0) == 0x80)
        at--;
    char stop[8] = {0};
    memcpy(stop, full.text.p + at, 5);
    const char *stops[] = {"never in the text", stop};
    size_t      first = (size_t)(strstr(full.text.p, stop) - full.text.p);
    r.stop = stops;
    r.n_stop = 2;
    r.on_text = collect;
    r.ud = &streamed;
    assert_int_equal(jpt_generate(f->s, &r, 1, 1, &cut, NULL, NULL, NULL), JPT_OK);
    assert_int_equal(cut.stop, JPT_STOP_STRING);
    assert_int_equal(cut.text.n, first);
    assert_memory_equal(cut.text.p, full.text.p, first);
    assert_true(cut.n_tokens < full.n_tokens);
    assert_int_equal(streamed.n, first); /* nothing of the stop text leaked */
    jpt_generation_fini(&full);
    jpt_generation_fini(&cut);
    jpt_buf_fini(&streamed);
    jpt_spec_list_fini(&l);
}

static void ends_and_refusals(void **state) {
    fixture       *f = *state;
    jpt_spec_list  l = {0};
    jpt_generation g = {0};
    jpt_error      err = {0};
    jpt_spec_parse("sample:temperature=3", &l, NULL);
    int ended = 0;
    for (uint64_t seed = 0; seed < 20; seed++) { /* near-uniform over 264 ids, some of them end the text */
        jpt_request r = request(&l.spec[0], 0, 100, seed);
        r.ignore_eos = false;
        assert_int_equal(jpt_generate(f->s, &r, 1, 1, &g, NULL, NULL, NULL), JPT_OK);
        ended += g.stop == JPT_STOP_EOS;
        int32_t n = g.n_tokens;
        if (g.stop == JPT_STOP_EOS && n < 50) { /* min_new_tokens forbids it */
            jpt_generation h = {0};
            r.min_new_tokens = 50;
            assert_int_equal(jpt_generate(f->s, &r, 1, 1, &h, NULL, NULL, NULL), JPT_OK);
            assert_true(h.n_tokens >= 50);
            jpt_generation_fini(&h);
        }
        jpt_generation_fini(&g);
    }
    assert_true(ended > 0);
    static int32_t long_prompt[200];
    jpt_request    r = request(&l.spec[0], 0, 10, 0);
    r.prompt = long_prompt;
    r.n_prompt = 200;
    assert_int_equal(jpt_generate(f->s, &r, 1, 1, &g, NULL, NULL, &err), JPT_CTX_FULL);
    assert_non_null(strstr(err.msg, "200 tokens"));
    assert_non_null(strstr(err.msg, "holds 128"));
    r.n_prompt = 120; /* the context ends the text */
    r.max_new_tokens = 100;
    assert_int_equal(jpt_generate(f->s, &r, 1, 1, &g, NULL, NULL, NULL), JPT_OK);
    assert_int_equal(g.stop, JPT_STOP_CONTEXT);
    assert_int_equal(g.n_tokens, 8);
    jpt_generation_fini(&g);
    jpt_stop_request();
    err = (jpt_error){0};
    r.n_prompt = 3;
    assert_int_equal(jpt_generate(f->s, &r, 1, 1, &g, NULL, NULL, &err), JPT_INTERRUPTED);
    jpt_stop_clear();
    jpt_generation_fini(&g);
    jpt_spec_list_fini(&l);
}

/* ---- frequencies --------------------------------------------------------------------------------------------- */

/* Upper tail of chi-square by Wilson and Hilferty's normal approximation. */
static double chi_square_p(double x, int df) {
    double z = (cbrt(x / df) - (1 - 2.0 / (9 * df))) / sqrt(2.0 / (9 * df));
    return 0.5 * erfc(z / sqrt(2));
}

static void frequencies(void **unused) {
    (void)unused;
    enum { N = 40, DRAWS = 100000 };
    float z[N], work[N];
    for (int i = 0; i < N; i++)
        z[i] = 2.5f * sinf((float)i * 1.7f);
    static const jpt_chain chains[] = {
        {.n_links = 1, .link = {{.kind = JPT_LINK_TEMPERATURE, .value = 0.8, .count = 0}}},
        {.n_links = 1, .link = {{.kind = JPT_LINK_TOP_K, .value = 12, .count = 12}}},
        {.n_links = 2, .link = {{.kind = JPT_LINK_TEMPERATURE, .value = 1.4, .count = 1}, {.kind = JPT_LINK_TOP_P, .value = 0.9, .count = 0}}},
        {.n_links = 1, .link = {{.kind = JPT_LINK_TYPICAL, .value = 0.8, .count = 0}}},
        {.n_links = 1, .link = {{.kind = JPT_LINK_MIN_P, .value = 0.05, .count = 0}}},
    };
    void *scratch = malloc(jpt_select_scratch_bytes(N));
    for (size_t c = 0; c < sizeof chains / sizeof *chains; c++) {
        int            count[N] = {0}, df = -1;
        double         p[N], sum = 0, chi = 0;
        jpt_select_item item = {.chain = &chains[c], .sample = true};
        for (uint32_t d = 0; d < DRAWS; d++) {
            jpt_selected out;
            item.key = (jpt_rng_key){7, 1, 0, d};
            assert_int_equal(jpt_select_row(&item, z, N, work, scratch, &out, NULL), JPT_OK);
            count[out.token]++;
        }
        memcpy(work, z, sizeof z);
        jpt_chain_apply(&chains[c], &(jpt_select_item){0}, work, N, scratch, NULL);
        for (int i = 0; i < N; i++)
            sum += p[i] = exp((double)work[i]);
        for (int i = 0; i < N; i++) {
            double want = DRAWS * p[i] / sum;
            if (want == 0)
                assert_int_equal(count[i], 0);
            else {
                chi += (count[i] - want) * (count[i] - want) / want;
                df++;
            }
        }
        printf("golden: chain %zu: chi-square %.1f with %d degrees of freedom, p = %.3f\n", c, chi, df, chi_square_p(chi, df));
        assert_true(chi_square_p(chi, df) > 1e-4);
    }
    free(scratch);
}

/* Links of samplers with a memory: what the chain before them left is told, and GUARD's penalty is what its entropies make of it. */
static void what_links_see(void **unused) {
    (void)unused;
    static const float z[6] = {2, 1, 0, -1, 3, -2}, before[3] = {1, 1.5f, .5f};
    static const int32_t history[5] = {4, 4, 0, 1, 4};
    float                work[6], want[6];
    static char          scratch[1 << 17];
    const jpt_link       half = {.kind = JPT_LINK_TEMPERATURE, .value = 0.5}, last[] = {{.kind = JPT_LINK_ZIPF, .value = 3}, {.kind = JPT_LINK_GUARD, .count = 4}, {.kind = JPT_LINK_AIM, .value = 0.3},
                                                                                        {.kind = JPT_LINK_GUARD, .values = before, .n_ids = 3, .count = 4}, {.kind = JPT_LINK_SURPRISE, .value = 9}};
    for (int v = 0; v < 6; v++)
        want[v] = z[v] / 0.5f;
    assert_true(jpt_log_softmax(want, 6, want));
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        for (uint32_t draw = 0; draw < 50; draw++) {
            jpt_chain       c = {.n_links = 2, .link = {half, last[i]}};
            jpt_select_item it = {.chain = &c, .history = history, .n_history = 5, .n_prompt = 2, .sample = true, .key = {1, 2, 0, draw}};
            jpt_selected    out;
            assert_int_equal(jpt_select_row(&it, z, 6, work, scratch, &out, NULL), JPT_OK);
            if (last[i].kind == JPT_LINK_SURPRISE) {
                assert_true(isnan(out.seen_logprob) && isnan(out.seen_entropy));
                continue;
            }
            assert_float_equal(out.seen_logprob, want[out.token], 1e-6);
            assert_true(isnan(out.seen_entropy) == (last[i].kind != JPT_LINK_GUARD));
            if (last[i].kind == JPT_LINK_GUARD)
                assert_float_equal(out.seen_entropy, jpt_entropy_eps(want, 6, 1e-5f), 1e-6);
            assert_int_equal(jpt_select_row(&it, z, 1, work, scratch, &out, NULL), JPT_OK); /* a vocabulary of one token */
            assert_true(out.token == 0 && out.seen_logprob == 0);
        }
}

static void bad_logits(void **unused) {
    (void)unused;
    float           nan_row[3] = {1, NAN, 2}, empty[3] = {-INFINITY, -INFINITY, -INFINITY}, work[3];
    char            scratch[256];
    jpt_select_item item = {0};
    jpt_selected    out;
    assert_int_equal(jpt_select_row(&item, nan_row, 3, work, scratch, &out, NULL), JPT_DEVICE);
    assert_int_equal(jpt_select_row(&item, empty, 3, work, scratch, &out, NULL), JPT_DEVICE);
    const float  rows[6] = {1, 0, 0, 1, 0, 0};
    const jpt_score_item items[2] = {{.from = {.row = 0}}, {.from = {.row = 1}, .bias = 0.5f}};
    int32_t      index[4], token[4], n_out;
    float        score[4], row[3];
    static char  room[1 << 16];
    assert_int_equal(jpt_topk_scores(items, 2, rows, 3, 4, row, room, index, token, score, &n_out, NULL), JPT_OK);
    assert_int_equal(n_out, 4);
    assert_int_equal(index[0], 1);
    assert_int_equal(token[0], 0);
    assert_int_equal(index[1], 0);
    assert_int_equal(token[2], 1); /* a tie of row 1: the lower id first */
    assert_int_equal(token[3], 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids), cmocka_unit_test(refused_specs), cmocka_unit_test_setup_teardown(laws, set_up, tear_down),
        cmocka_unit_test_setup_teardown(batches_and_seeds, set_up, tear_down), cmocka_unit_test_setup_teardown(stop_strings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ends_and_refusals, set_up, tear_down), cmocka_unit_test(frequencies), cmocka_unit_test(what_links_see), cmocka_unit_test(bad_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
