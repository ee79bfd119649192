/* Links of the chain on given distributions: vectors of upstream tests (llama.cpp's test-sampling, transformers' processors)
 * and values worked out by hand; what HF has is compared with HF itself in tests/golden/test_select_golden.c. */
#include <jpt/select.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

enum { MAX = 16 };

/* Probabilities after one link on ln(p) of `in`, renormalised; history may be NULL. */
static void run(jpt_link l, const double *in, int n, const int32_t *history, int32_t n_history, uint32_t step, double *out) {
    float           z[MAX];
    static char     scratch[1 << 17];
    jpt_chain       c = {.link = {l}, .n_links = 1, .min_tokens_to_keep = 1};
    jpt_select_item it = {.history = history, .n_history = n_history, .key = {11, 0, 0, step}};
    double          sum = 0;
    assert_true(jpt_select_scratch_bytes(n) <= sizeof scratch);
    for (int i = 0; i < n; i++)
        z[i] = (float)log(in[i]);
    assert_int_equal(jpt_chain_apply(&c, &it, z, n, scratch, NULL), JPT_OK);
    for (int i = 0; i < n; i++)
        sum += exp((double)z[i]);
    for (int i = 0; i < n; i++)
        out[i] = exp((double)z[i]) / sum;
}

static void expect(const char *what, jpt_link l, const double *in, int n, const int32_t *history, int32_t n_history, const double *want) {
    double got[MAX];
    run(l, in, n, history, n_history, 0, got);
    for (int i = 0; i < n; i++)
        if (fabs(got[i] - want[i]) > 2e-6)
            fail_msg("%s: p[%d] is %.7f, expected %.7f", what, i, got[i], want[i]);
}
#define P(...) (const double[]){__VA_ARGS__}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, (int32_t)(sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t))

static void allowed(void **state) {
    (void)state;
    static const int32_t ids[] = {2, 0, 2, 99, -1};
    jpt_link             l = {.kind = JPT_LINK_ALLOWED, .ids = ids, .n_ids = 5};
    expect("allowed", l, P(.4, .3, .2, .1), 4, NULL, 0, P(2. / 3, 0, 1. / 3, 0));
}

static void xtc(void **state) {
    (void)state;
    jpt_link l = {.kind = JPT_LINK_XTC, .value = 1};
    l.value2 = .09;
    expect("xtc .09", l, P(.4, .3, .2, .1), 4, NULL, 0, P(0, 0, 0, 1));
    l.value2 = .19;
    expect("xtc .19", l, P(.4, .3, .2, .1), 4, NULL, 0, P(0, 0, 2. / 3, 1. / 3));
    l.value2 = .29;
    expect("xtc .29", l, P(.4, .3, .2, .1), 4, NULL, 0, P(0, .5, 1. / 3, 1. / 6));
    l.value2 = .39;
    expect("xtc .39", l, P(.4, .3, .2, .1), 4, NULL, 0, P(.4, .3, .2, .1));
    l.value2 = .51;
    expect("xtc off", l, P(.6, .3, .05, .05), 4, NULL, 0, P(.6, .3, .05, .05));
    /* it acts as often as it is told to */
    int acted = 0;
    l = (jpt_link){.kind = JPT_LINK_XTC, .value = .3, .value2 = .09};
    for (uint32_t i = 0; i < 20000; i++) {
        double got[4];
        run(l, P(.4, .3, .2, .1), 4, NULL, 0, i, got);
        acted += got[0] == 0;
    }
    assert_true(abs(acted - 6000) < 4 * 65); /* 4 standard deviations */
}

static void dry(void **state) {
    (void)state;
    jpt_link l = {.kind = JPT_LINK_DRY, .value = 1, .value2 = 1.1, .count = 2, .count2 = -1};
    expect("dry", l, P(.25, .25, .25, .25), 4, IDS(0, 1, 2, 0, 1), P(.296923, .296923, .109231, .296923));
    l.value = 2;
    expect("dry m 2", l, P(.2, .2, .2, .2, .2), 5, IDS(0, 1, 2, 0, 1), P(.241818, .241818, .032727, .241818, .241818));
    const int32_t breaker[] = {3};
    l.ids = breaker, l.n_ids = 1;
    expect("dry breaker", l, P(.2, .2, .2, .2, .2), 5, IDS(0, 1, 3, 4, 0, 1), P(.2, .2, .2, .2, .2));
    l.n_ids = 0, l.count = 4;
    expect("dry allowed", l, P(.2, .2, .2, .2, .2), 5, IDS(0, 1, 2, 0, 1), P(.2, .2, .2, .2, .2));
    /* history 1 2 3 1 2 3 1 2: token 3 loses 0.8 * 1.75^3 = 4.2875 */
    float           z[8] = {0};
    static char     scratch[1 << 17];
    jpt_chain       c = {.link = {{.kind = JPT_LINK_DRY, .value = .8, .value2 = 1.75, .count = 2, .count2 = -1}}, .n_links = 1};
    const int32_t   h[] = {1, 2, 3, 1, 2, 3, 1, 2};
    jpt_select_item it = {.history = h, .n_history = 8};
    assert_int_equal(jpt_chain_apply(&c, &it, z, 8, scratch, NULL), JPT_OK);
    for (int i = 0; i < 8; i++)
        assert_float_equal(z[i], i == 3 ? -4.2875 : 0, 1e-6);
}

static void penalties(void **state) {
    (void)state;
    /* vLLM counts generated tokens: ids 0 1 2 0 0, frequency 5 and presence 5 */
    jpt_chain       c = {.link = {{.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 5}, {.kind = JPT_LINK_PRESENCE_PENALTY, .value = 5}}, .n_links = 2};
    float           z[5] = {0};
    static char     scratch[1 << 17];
    const int32_t   h[] = {4, 4, 0, 1, 2, 0, 0};
    jpt_select_item it = {.history = h, .n_history = 7, .n_prompt = 2};
    assert_int_equal(jpt_chain_apply(&c, &it, z, 5, scratch, NULL), JPT_OK);
    assert_float_equal(z[0], -20, 1e-6);
    assert_float_equal(z[1], -10, 1e-6);
    assert_float_equal(z[2], -10, 1e-6);
    assert_float_equal(z[3], 0, 1e-6);
    assert_float_equal(z[4], 0, 1e-6); /* the prompt's do not count */
    const float   values[] = {1.5f, -2};
    const int32_t ids[] = {3, 1, 99}, words[] = {1, 2, 2, 0, 4};
    c = (jpt_chain){.link = {{.kind = JPT_LINK_BIAS, .ids = ids, .values = values, .n_ids = 2}, {.kind = JPT_LINK_BAD_WORDS, .ids = words, .n_ids = 5}}, .n_links = 2};
    float b[5] = {0};
    assert_int_equal(jpt_chain_apply(&c, &it, b, 5, scratch, NULL), JPT_OK);
    assert_float_equal(b[3], 1.5, 0);
    assert_float_equal(b[1], -2, 0);
    assert_true(b[2] == -INFINITY); /* a word of one token */
    assert_true(b[4] == -INFINITY); /* 0 4, and the text ends in 0 */
    it.n_history = 6, it.history = h, b[4] = 0, b[2] = 0;
    const int32_t other[] = {4, 4, 0, 1, 2, 1};
    it.history = other;
    assert_int_equal(jpt_chain_apply(&c, &it, b, 5, scratch, NULL), JPT_OK);
    assert_float_equal(b[4], 0, 0); /* the word has not begun */
}

/* Scores after one link on `in` (V = 6), a prompt of n_prompt; eos 5. */
static void scores(const char *what, jpt_link l, const int32_t *h, int32_t n, int32_t n_prompt, const float *in, const float *want) {
    float           z[6];
    static char     scratch[1 << 17];
    jpt_chain       c = {.link = {l}, .n_links = 1, .min_tokens_to_keep = 1, .eos = {5}, .n_eos = 1};
    jpt_select_item it = {.history = h, .n_history = n, .n_prompt = n_prompt};
    memcpy(z, in, sizeof z);
    assert_int_equal(jpt_chain_apply(&c, &it, z, 6, scratch, NULL), JPT_OK);
    for (int v = 0; v < 6; v++)
        if (!(z[v] == want[v] || fabsf(z[v] - want[v]) < 1e-6f))
            fail_msg("%s: z[%d] is %g, expected %g", what, v, (double)z[v], (double)want[v]);
}
#define Z(...) (const float[6]){__VA_ARGS__}
#define GONE -INFINITY

/* transformers' processors, worked out by hand; whole texts with them are in tests/golden/decode_tiny_more.json. */
static void transformers_processors(void **state) {
    (void)state;
    const int32_t h[] = {1, 2, 3, 4, 1, 2}, pairs[] = {2, 2, 3, 2, 4, 0, 1, 4, 3, 4, 1, 2}, bad[] = {3, 0};
    const float   by[] = {1.5f, 9, -2, 7}, one[6] = {1, 1, 1, 1, 1, 1}, mixed[6] = {.5f, 1, -2, 3, -4, -1};
    scores("sequence bias", (jpt_link){.kind = JPT_LINK_SEQUENCE_BIAS, .ids = pairs, .n_ids = 12, .values = by}, h, 6, 4, one, Z(1, 1, 1, 2.5f, -1, 1));
    scores("encoder repetition", (jpt_link){.kind = JPT_LINK_ENCODER_REPETITION_PENALTY, .value = 2}, h, 6, 2, mixed, Z(.5f, 2, -1, 3, -4, -1));
    scores("encoder n-gram", (jpt_link){.kind = JPT_LINK_ENCODER_NO_REPEAT_NGRAM, .count = 3}, h, 6, 4, one, Z(1, 1, 1, GONE, 1, 1));
    scores("encoder n-gram, short prompt", (jpt_link){.kind = JPT_LINK_ENCODER_NO_REPEAT_NGRAM, .count = 3}, h, 6, 2, one, Z(1, 1, 1, 1, 1, 1));
    scores("forced", (jpt_link){.kind = JPT_LINK_FORCED, .ids = bad, .n_ids = 1, .count = 2}, h, 6, 4, mixed, Z(GONE, GONE, GONE, 0, GONE, GONE));
    scores("forced, not now", (jpt_link){.kind = JPT_LINK_FORCED, .ids = bad, .n_ids = 1, .count = 3}, h, 6, 4, mixed, mixed);
    scores("decay", (jpt_link){.kind = JPT_LINK_EXPONENTIAL_DECAY, .value = 3, .count = 1}, h, 6, 3, mixed, Z(.5f, 1, -2, 3, -4, -1 + 8));
    scores("decay, not yet", (jpt_link){.kind = JPT_LINK_EXPONENTIAL_DECAY, .value = 3, .count = 3}, h, 6, 3, mixed, mixed);
    scores("suppress", (jpt_link){.kind = JPT_LINK_SUPPRESS, .ids = bad, .n_ids = 2, .count = -1}, h, 6, 3, one, Z(GONE, 1, 1, GONE, 1, 1));
    scores("suppress first", (jpt_link){.kind = JPT_LINK_SUPPRESS, .ids = bad, .n_ids = 2, .count = 0}, h, 6, 6, one, Z(GONE, 1, 1, GONE, 1, 1));
    scores("suppress first, later", (jpt_link){.kind = JPT_LINK_SUPPRESS, .ids = bad, .n_ids = 2, .count = 0}, h, 6, 5, one, one);
    const float halves[6] = {0, 1.3862944f, -50, 1.3862944f, 0.6931472f, 0}; /* p of 1/12, 1/3, 0, 1/3, 1/6, 1/12: 3.58, 1.58, 1.58, 2.58 and 3.58 bits */
    scores("surprise", (jpt_link){.kind = JPT_LINK_SURPRISE, .value = 2.6}, h, 6, 4, halves, Z(GONE, 1.3862944f, GONE, 1.3862944f, 0.6931472f, GONE));
    scores("surprise, the best alone", (jpt_link){.kind = JPT_LINK_SURPRISE, .value = 1}, h, 6, 4, halves, Z(GONE, 1.3862944f, GONE, GONE, GONE, GONE));
    scores("renormalise", (jpt_link){.kind = JPT_LINK_NORMALIZE}, h, 6, 5, one, Z(-1.7917595f, -1.7917595f, -1.7917595f, -1.7917595f, -1.7917595f, -1.7917595f));
}

/* llama.cpp's penalty_last_n: a window that the prompt is part of; its test-sampling vectors. */
static void penalty_windows(void **state) {
    (void)state;
    expect("repeat 50", (jpt_link){.kind = JPT_LINK_REPETITION_PENALTY, .value = 50, .count2 = -1}, P(.2, .2, .2, .2, .2), 5, IDS(0), P(0, .25, .25, .25, .25));
    const int32_t h[] = {0, 1, 1, 2, 3};
    const float   one[6] = {1, 1, 1, 1, 1, 1};
    scores("repetition of two", (jpt_link){.kind = JPT_LINK_REPETITION_PENALTY, .value = 2, .count2 = 2}, h, 5, 5, one, Z(1, 1, .5f, .5f, 1, 1));
    scores("frequency of four", (jpt_link){.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 1, .count2 = 4}, h, 5, 5, one, Z(1, -1, 0, 0, 1, 1));
    scores("frequency of the text", (jpt_link){.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 1}, h, 5, 2, one, Z(1, 0, 0, 0, 1, 1));
    scores("presence of all", (jpt_link){.kind = JPT_LINK_PRESENCE_PENALTY, .value = 1, .count2 = -1}, h, 5, 5, one, Z(0, 0, 0, 0, 1, 1));
}

/* Breakers of several tokens: 4 then 0 breaks where both stand, not where 4 stands alone. */
static void dry_breakers(void **state) {
    (void)state;
    const int32_t tails[] = {1, 4, 0};
    const float   zero[6] = {0};
    jpt_link      l = {.kind = JPT_LINK_DRY, .value = 1, .value2 = 2, .count = 1, .count2 = -1, .tails = tails, .n_tails = 3};
    const int32_t free_text[] = {1, 4, 2, 3, 1, 4, 2}, broken[] = {1, 4, 0, 2, 3, 1, 4, 0, 2};
    scores("dry, no breaker", l, free_text, 7, 0, zero, Z(0, 0, 0, -4, 0, 0)); /* a run of three */
    scores("dry, broken", l, broken, 9, 0, zero, Z(0, 0, 0, -1, 0, 0));        /* of one: 2 after the breaker */
}

/* Which ids stay, as a bit mask. */
static unsigned kept(jpt_link l, const float *logits, int n) {
    float           z[MAX];
    static char     scratch[1 << 17];
    jpt_chain       c = {.link = {l}, .n_links = 1, .min_tokens_to_keep = 1};
    jpt_select_item it = {0};
    unsigned        mask = 0;
    memcpy(z, logits, (size_t)n * sizeof *z);
    assert_int_equal(jpt_chain_apply(&c, &it, z, n, scratch, NULL), JPT_OK);
    for (int i = 0; i < n; i++)
        mask |= (unsigned)(z[i] > -INFINITY) << i;
    return mask;
}
#define UP_TO(k) ((1u << ((k) + 1)) - 1)
#define LOGP(a, b, c, d) (const float[]){logf(a), logf(b), logf(c), logf(d)}, 4

static void kept_sets(void **state) {
    (void)state;
    static const float z[12] = {4, 3.5f, 3.5f, 3, 2, 1, .5f, 0, -1, -2, -4, -6};
    const struct {
        jpt_link_kind kind;
        double        value;
        unsigned      want;
    } cases[] = {
        {JPT_LINK_TOP_H, .2, UP_TO(0)}, {JPT_LINK_TOP_H, .4, UP_TO(0)}, {JPT_LINK_TOP_H, .6, UP_TO(1)}, {JPT_LINK_TOP_H, .9, UP_TO(4)},
        {JPT_LINK_TOP_N_SIGMA, .5, UP_TO(3)}, {JPT_LINK_TOP_N_SIGMA, 1, UP_TO(5)}, {JPT_LINK_TOP_N_SIGMA, 1.5, UP_TO(7)}, {JPT_LINK_TOP_N_SIGMA, 2, UP_TO(9)},
        {JPT_LINK_P_LESS, 1, UP_TO(0)}, {JPT_LINK_TOP_A, .2, UP_TO(4)} /* bound .0251 */, {JPT_LINK_TOP_A, 1, UP_TO(3)} /* .1254 */,
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned got = kept((jpt_link){.kind = cases[i].kind, .value = cases[i].value}, z, 12);
        if (got != cases[i].want)
            fail_msg("case %zu (link %d, %g): kept %#x, expected %#x", i, cases[i].kind, cases[i].value, got, cases[i].want);
    }
    /* transformers' own cases of top-H */
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_H, .value = .3}, LOGP(.97f, .01f, .01f, .01f)), 1);
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_H, .value = .7}, LOGP(.4f, .3f, .2f, .1f)), 3);
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_H, .value = 1}, LOGP(.25f, .25f, .25f, .25f)), 15);
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_H, .value = .4}, LOGP(.75f, .25f, 1e-30f, 1e-30f)), 1);
    /* llama.cpp's of top-n-sigma */
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_N_SIGMA, .value = 1}, LOGP(.1f, .2f, .3f, .4f)), 12);
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_TOP_N_SIGMA, .value = 3}, LOGP(.1f, .2f, .3f, .4f)), 15);
    /* a flat distribution is all or nothing: p-less keeps all */
    assert_int_equal(kept((jpt_link){.kind = JPT_LINK_P_LESS, .value = 1}, LOGP(.25f, .25f, .25f, .25f)), 15);
}

static void shapes(void **state) {
    (void)state;
    /* dynamic temperature: a flat distribution gets T + range, a point T - range */
    float           z[4] = {0, -.2f, -.1f, -.3f}, d[4] = {9, -90, -95, -99};
    static char     scratch[1 << 17];
    jpt_chain       c = {.link = {{.kind = JPT_LINK_DYNAMIC_TEMPERATURE, .value = 1, .value2 = .5, .value3 = 1}}, .n_links = 1};
    jpt_select_item it = {0};
    assert_int_equal(jpt_chain_apply(&c, &it, z, 4, scratch, NULL), JPT_OK);
    assert_float_equal(z[1], -.2 / 1.5, 2e-3);
    assert_int_equal(jpt_chain_apply(&c, &it, d, 4, scratch, NULL), JPT_OK);
    assert_float_equal(d[0], 18, 1e-4);
    /* smoothing, curve 1: max - factor d^2 */
    float s[3] = {2, 1, -1};
    c = (jpt_chain){.link = {{.kind = JPT_LINK_SMOOTHING, .value = .5, .value2 = 1}}, .n_links = 1};
    assert_int_equal(jpt_chain_apply(&c, &it, s, 3, scratch, NULL), JPT_OK);
    assert_float_equal(s[0], 2, 1e-6);
    assert_float_equal(s[1], 1.5, 1e-6);
    assert_float_equal(s[2], 2 - .5 * 9, 1e-6);
    float t[2] = {0, -2}; /* curve 3: k = 0, s = 1: cubic alone */
    c.link[0].value2 = 3;
    assert_int_equal(jpt_chain_apply(&c, &it, t, 2, scratch, NULL), JPT_OK);
    assert_float_equal(t[1], -4, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(allowed), cmocka_unit_test(xtc), cmocka_unit_test(dry), cmocka_unit_test(dry_breakers), cmocka_unit_test(transformers_processors), cmocka_unit_test(penalty_windows), cmocka_unit_test(penalties), cmocka_unit_test(kept_sets), cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
