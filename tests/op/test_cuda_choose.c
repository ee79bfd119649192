/* Choices and rankings of the CUDA back-end after every link of a chain, against ref, where a card is: the same tokens and the same number
 * left, over vocabularies of one part and of many, flat, peaked, tied and half forbidden scores, and rows whose choice does not depend on
 * their neighbours.  Skipped, with the reason, where there is none. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/backend.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static jpt_backend *ref, *gpu;
static uint32_t     state = 7;

static float uniform(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *put(const float *x, size_t n) {
    float *d = gpu->ops->alloc(gpu, n * sizeof *d);
    assert_non_null(d);
    gpu->ops->upload(gpu, d, x, n * sizeof *d);
    return d;
}

enum { SHAPES = 6, HISTORY = 10, PROMPT = 4 };
static const int32_t history[HISTORY] = {7, 9, 7, 11, 9, 7, 9, 7, 11, 9};

static void fill(float *z, int32_t V, int shape) {
    for (int32_t v = 0; v < V; v++) {
        float u = uniform();
        switch (shape) {
        case 0: z[v] = 3 * u; break;
        case 1: z[v] = 12 * u * u * u; break;
        case 2: z[v] = floorf(4 * u); break; /* ties */
        case 3: z[v] = 0.01f * u; break;     /* nearly flat */
        case 4: z[v] = -3; break;            /* all alike */
        default: z[v] = v % 3 == 1 ? -INFINITY : v % 5 == 2 ? -0.0f : 6 * u * (float)(u > 0); /* forbidden, and zeros of both signs */
        }
    }
}

static const int32_t ids[] = {9, 7, 9, 4000, 3}, sequences[] = {1, 5, 2, 9, 3, 3, 7, 11, 9, 2, 9, 3};
static const float   values[] = {-1.5f, 0.25f, -0.5f, 3, -1}, entropies[] = {2.5f, 3, 1.25f, 4, 2.5f, 0.5f, 3.5f, 3, 2};
#define CHAIN(keep, n, ...) {.n_links = n, .min_tokens_to_keep = keep, .eos = {3, 4}, .n_eos = 2, .link = {__VA_ARGS__}}
#define ONE(keep, name, v) CHAIN(keep, 1, {.kind = JPT_LINK_##name, .value = v, .count = (int32_t)(v)})
#define LINK(name, v) {.kind = JPT_LINK_##name, .value = v, .count = (int32_t)(v)}
static const jpt_chain chains[] = {
    ONE(1, TEMPERATURE, 0.7), ONE(1, TOP_K, 1), ONE(1, TOP_K, 2), ONE(1, TOP_K, 50), ONE(1, TOP_P, 0.9), ONE(1, TOP_P, 0), ONE(1, TOP_P, 1), ONE(1, TOP_P, 0.999999), ONE(1, MIN_P, 0.05),
    ONE(1, EPSILON, 0.001), ONE(1, ETA, 0.002), ONE(1, TYPICAL, 0.9), ONE(1, TYPICAL, 0.2), ONE(1, TOP_H, 0.4), ONE(1, TOP_H, 0.9), ONE(1, TOP_N_SIGMA, 1), ONE(1, TOP_A, 0.2),
    ONE(1, P_LESS, 1), ONE(1, NORMALIZE, 0),
    ONE(3, TOP_P, 0.1), ONE(7, MIN_P, 0.9), ONE(5, EPSILON, 0.3), ONE(5, ETA, 0.3), ONE(9, TYPICAL, 0.05), ONE(40, TOP_K, 3), ONE(300, TYPICAL, 0.5), ONE(300, TOP_P, 0.5), ONE(300, MIN_P, 0.5),
    CHAIN(1, 1, {.kind = JPT_LINK_XTC, .value = 1, .value2 = 0.0001}), CHAIN(2, 1, {.kind = JPT_LINK_XTC, .value = 0.5, .value2 = 0.05}),
    CHAIN(1, 1, {.kind = JPT_LINK_DYNAMIC_TEMPERATURE, .value = 1, .value2 = 0.5, .value3 = 1}), CHAIN(1, 1, {.kind = JPT_LINK_SMOOTHING, .value = 0.3, .value2 = 1.5}),
    CHAIN(1, 3, LINK(TEMPERATURE, 1.4), LINK(TOP_K, 40), LINK(TOP_P, 0.8)),
    CHAIN(2, 5, LINK(TEMPERATURE, 1.4), LINK(TOP_K, 90), LINK(TOP_H, 0.8), LINK(TYPICAL, 0.9), LINK(MIN_P, 0.01)),
    CHAIN(1, 5, LINK(REPETITION_PENALTY, 1.3), LINK(FREQUENCY_PENALTY, 0.5), LINK(PRESENCE_PENALTY, 0.4), LINK(NO_REPEAT_NGRAM, 2), LINK(MIN_NEW_TOKENS, 20)),
    CHAIN(1, 5, {.kind = JPT_LINK_SUPPRESS, .ids = ids, .n_ids = 5, .count = -1}, LINK(ENCODER_REPETITION_PENALTY, 1.5), {.kind = JPT_LINK_REPETITION_PENALTY, .value = 1.2, .count2 = 3},
          {.kind = JPT_LINK_FREQUENCY_PENALTY, .value = 0.7, .count2 = -1}, LINK(ENCODER_NO_REPEAT_NGRAM, 2)),
    CHAIN(1, 1, {.kind = JPT_LINK_BIAS, .ids = ids, .values = values, .n_ids = 5}), CHAIN(1, 1, {.kind = JPT_LINK_SEQUENCE_BIAS, .ids = sequences, .values = values, .n_ids = 12}),
    CHAIN(1, 2, {.kind = JPT_LINK_ALLOWED, .ids = ids, .n_ids = 5}, LINK(TOP_K, 2)), CHAIN(1, 1, {.kind = JPT_LINK_DRY, .value = 0.8, .value2 = 1.75, .count = 1, .count2 = -1}),
    CHAIN(1, 2, {.kind = JPT_LINK_FORCED, .ids = ids, .n_ids = 1, .count = HISTORY - PROMPT}, LINK(TEMPERATURE, 2)), CHAIN(1, 1, {.kind = JPT_LINK_EXPONENTIAL_DECAY, .value = 1.5, .count = 2}),
    CHAIN(1, 1, {.kind = JPT_LINK_AIM, .value = 0.5}), CHAIN(1, 3, LINK(TEMPERATURE, 1.4), LINK(MIN_P, 0.01), {.kind = JPT_LINK_AIM, .value = 0.2}),
    CHAIN(1, 1, {.kind = JPT_LINK_ZIPF, .value = 10}), CHAIN(1, 2, LINK(TEMPERATURE, 0.8), {.kind = JPT_LINK_ZIPF, .value = 4, .count = JPT_ZIPF_PAPER}),
    CHAIN(1, 1, {.kind = JPT_LINK_ZIPF, .value = 3, .count = JPT_ZIPF_SHI}), CHAIN(1, 1, {.kind = JPT_LINK_GUARD, .values = entropies, .n_ids = 0, .count = 4}),
    CHAIN(1, 1, {.kind = JPT_LINK_GUARD, .values = entropies, .n_ids = 2, .count = 4}), CHAIN(1, 1, {.kind = JPT_LINK_GUARD, .values = entropies, .n_ids = 3, .count = 4}),
    CHAIN(1, 2, LINK(TEMPERATURE, 1.2), {.kind = JPT_LINK_GUARD, .values = entropies, .n_ids = 9, .count = 4}), CHAIN(1, 1, {.kind = JPT_LINK_GUARD, .values = entropies, .n_ids = 9, .count = 64}),
    CHAIN(1, 2, {.kind = JPT_LINK_ZIPF, .value = 4}, {.kind = JPT_LINK_XTC}), CHAIN(1, 2, {.kind = JPT_LINK_GUARD, .count = 4}, LINK(TEMPERATURE, 0.7)),
    CHAIN(1, 1, {.kind = JPT_LINK_SURPRISE, .value = 0.5}), CHAIN(1, 1, {.kind = JPT_LINK_SURPRISE, .value = 9}),
    CHAIN(1, 0, {0}),
};
enum { CHAINS = sizeof chains / sizeof *chains };

static void every_link(void **ud) {
    (void)ud;
    static const int32_t sizes[] = {1, 31, 257, 4096, 4097, 49152, 128256, 151936};
    enum { DRAWS = 6 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t V = sizes[s];
        float  *z = malloc((size_t)V * sizeof *z);
        long    all = 0, same = 0, kept = 0;
        double  logprob = 0, entropy = 0, prob = 0, seen = 0;
        for (int shape = 0; shape < SHAPES; shape++) {
            fill(z, V, shape);
            float *dz = put(z, (size_t)V);
            for (int i = 0; i < CHAINS; i++) {
                jpt_select_item it[DRAWS];
                jpt_selected    a[DRAWS], b[DRAWS];
                jpt_error       ea = {0}, eb = {0};
                for (int d = 0; d < DRAWS; d++)
                    it[d] = (jpt_select_item){.chain = &chains[i], .history = history, .n_history = HISTORY, .n_prompt = PROMPT, .sample = d > 0, .key = {1, 2, 3, (uint32_t)d}};
                jpt_status want = ref->ops->select(ref, z, V, it, DRAWS, a, &ea), got = gpu->ops->select(gpu, dz, V, it, DRAWS, b, &eb);
                if (want != got || strcmp(ea.msg, eb.msg) != 0)
                    fail_msg("V %d, shape %d, chain %d: '%s', expected '%s'", V, shape, i, eb.msg, ea.msg);
                for (int d = 0; d < DRAWS && want == JPT_OK; d++) {
                    all++, same += a[d].token == b[d].token, kept += a[d].n_kept == b[d].n_kept;
                    entropy = fmax(entropy, fabs((double)a[d].entropy - (double)b[d].entropy));
                    if (a[d].token != b[d].token || a[d].n_kept != b[d].n_kept) {
                        print_message("V %d, shape %d, chain %d, draw %d: token %d (%d kept), expected %d (%d kept)\n", V, shape, i, d, b[d].token, b[d].n_kept, a[d].token, a[d].n_kept);
                        continue;
                    }
                    logprob = fmax(logprob, fabs((double)a[d].logprob - (double)b[d].logprob));
                    prob = fmax(prob, fabs((double)a[d].kept_prob - (double)b[d].kept_prob));
                    if (isnan(a[d].seen_logprob) != isnan(b[d].seen_logprob) || isnan(a[d].seen_entropy) != isnan(b[d].seen_entropy))
                        fail_msg("V %d, shape %d, chain %d: a link that tells what it saw, or not", V, shape, i);
                    if (!isnan(a[d].seen_logprob))
                        seen = fmax(seen, fabs((double)a[d].seen_logprob - (double)b[d].seen_logprob));
                    if (!isnan(a[d].seen_entropy))
                        seen = fmax(seen, fabs((double)a[d].seen_entropy - (double)b[d].seen_entropy));
                }
            }
            gpu->ops->free(gpu, dz);
        }
        print_message("V %d: of %ld choices %ld the same, %ld as many left; ln p within %.1e, entropy %.1e, p %.1e, what was seen %.1e\n", V, all, same, kept, logprob, entropy, prob, seen);
        assert_true(same >= all - 2 && kept >= all - 2); /* log and pow differ in their last bit: a bound made of an entropy may */
        assert_true(logprob <= 1e-5 && entropy <= 1e-5 && prob <= 1e-5 && seen <= 2e-5);
        free(z);
    }
}

/* Many rows at once: each as it is alone, whatever the others' chains. */
static void many_rows(void **ud) {
    (void)ud;
    enum { ROWS = 64 };
    static const int32_t sizes[] = {257, 4097, 128256}, counts[] = {1, 4, 5, 33, 64};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t V = sizes[s];
        float  *z = malloc(ROWS * (size_t)V * sizeof *z);
        for (int r = 0; r < ROWS; r++)
            fill(z + (size_t)r * (size_t)V, V, r % 4);
        float *dz = put(z, ROWS * (size_t)V);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            jpt_select_item it[ROWS];
            jpt_selected    together[ROWS], alone;
            int32_t         n = counts[c];
            for (int32_t i = 0; i < n; i++)
                it[i] = (jpt_select_item){.row = (7 * i + 3) % ROWS, .chain = &chains[(5 * i + (int32_t)c) % CHAINS], .history = history, .n_history = HISTORY, .n_prompt = PROMPT, .sample = i % 8 != 1,
                                          .key = {1, 2, (uint32_t)i, 4}};
            assert_int_equal(gpu->ops->select(gpu, dz, V, it, n, together, NULL), JPT_OK);
            for (int32_t i = 0; i < n; i++) {
                assert_int_equal(gpu->ops->select(gpu, dz, V, &it[i], 1, &alone, NULL), JPT_OK);
                const jpt_selected *t = &together[i]; /* plain greedy alone goes another way, whose sums may round differently */
                if (alone.token != t->token || alone.n_kept != t->n_kept || fabsf(alone.logprob - t->logprob) > 1e-5f || fabsf(alone.entropy - t->entropy) > 1e-5f || fabsf(alone.kept_prob - t->kept_prob) > 1e-5f)
                    fail_msg("V %d, row %d of %d: token %d of %d, alone %d of %d", V, i, n, together[i].token, together[i].n_kept, alone.token, alone.n_kept);
            }
        }
        gpu->ops->free(gpu, dz);
        free(z);
    }
}

/* Rows that are no distribution, in every part: told, and the next choice is right again. */
static void bad_rows(void **ud) {
    (void)ud;
    enum { V = 9001 };
    static const int32_t at[] = {0, 4095, 4096, V - 1};
    float               *z = malloc(V * sizeof *z);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        for (int what = 0; what < 3; what++) { /* a NaN; infinity; nothing finite */
            fill(z, V, 0);
            for (int32_t v = 0; v < V && what == 2; v++)
                z[v] = -INFINITY;
            z[at[i]] = what == 0 ? NAN : what == 1 ? INFINITY : -INFINITY;
            float          *dz = put(z, V);
            jpt_select_item it = {.chain = &chains[4], .sample = true, .key = {1, 2, 3, 4}};
            jpt_selected    a, b;
            jpt_error       ea = {0}, eb = {0};
            assert_int_equal(ref->ops->select(ref, z, V, &it, 1, &a, &ea), JPT_DEVICE);
            assert_int_equal(gpu->ops->select(gpu, dz, V, &it, 1, &b, &eb), JPT_DEVICE);
            assert_string_equal(ea.msg, eb.msg);
            fill(z, V, 0);
            gpu->ops->upload(gpu, dz, z, V * sizeof *z);
            assert_int_equal(ref->ops->select(ref, z, V, &it, 1, &a, NULL), JPT_OK);
            assert_int_equal(gpu->ops->select(gpu, dz, V, &it, 1, &b, NULL), JPT_OK);
            assert_int_equal(a.token, b.token);
            gpu->ops->free(gpu, dz);
        }
    free(z);
}

/* Rankings of what cuts leave: beam sampling's step. */
static void rankings_after_cuts(void **ud) {
    (void)ud;
    static const int32_t sizes[] = {31, 4097, 128256}, cuts[] = {3, 4, 8, 11, 13, 15, 19, 32, 33};
    enum { ROWS = 3, K = 20 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int shape = 0; shape < 3; shape++) {
            int32_t V = sizes[s];
            float  *z = malloc(ROWS * (size_t)V * sizeof *z);
            for (int r = 0; r < ROWS; r++)
                fill(z + (size_t)r * (size_t)V, V, shape);
            float *dz = put(z, ROWS * (size_t)V);
            for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
                for (int way = 0; way < 6; way++) {
                    jpt_score_item it[ROWS];
                    int32_t        ia[K], ta[K], na, ib[K], tb[K], nb, same = 0;
                    float          sa[K], sb[K];
                    for (int r = 0; r < ROWS; r++)
                        it[r] = (jpt_score_item){.from = {.row = ROWS - 1 - r, .chain = &chains[cuts[i]], .history = history, .n_history = HISTORY, .n_prompt = PROMPT, .key = {1, 2, (uint32_t)r, 3}},
                                                 .bias = -0.75f * (float)r, .log_first = way / 2 == 1, .scored = way / 2 == 2, .perturb = way % 2};
                    assert_int_equal(ref->ops->topk(ref, z, V, it, ROWS, K, ia, ta, sa, &na, NULL), JPT_OK);
                    assert_int_equal(gpu->ops->topk(gpu, dz, V, it, ROWS, K, ib, tb, sb, &nb, NULL), JPT_OK);
                    if (na != nb)
                        fail_msg("V %d, shape %d, chain %d, way %d: %d found, expected %d", V, shape, cuts[i], way, nb, na);
                    for (int32_t k = 0; k < na; k++) {
                        for (int32_t m = 0; m < na; m++)
                            same += ia[k] == ib[m] && ta[k] == tb[m];
                        if (!(fabsf(sa[k] - sb[k]) <= (way % 2 ? 1.0f : 2e-5f)))
                            fail_msg("V %d, shape %d, chain %d, way %d, place %d: row %d token %d score %.7f, expected row %d token %d score %.7f", V, shape, cuts[i], way, k, ib[k], tb[k], sb[k],
                                     ia[k], ta[k], sa[k]);
                    }
                    if (same < na - 2) /* scores that rounding alone tells apart, at the end of the list */
                        fail_msg("V %d, shape %d, chain %d, way %d: %d of %d the same", V, shape, cuts[i], way, same, na);
                }
            gpu->ops->free(gpu, dz);
            free(z);
        }
}

int main(void) {
    jpt_error err = {0};
    if (jpt_backend_open("cuda", NULL, &gpu, &err) != JPT_OK) {
        print_message("skipped: %s\n", err.msg);
        return 77;
    }
    if (jpt_backend_open("ref", NULL, &ref, &err) != JPT_OK)
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_link), cmocka_unit_test(many_rows), cmocka_unit_test(bad_rows), cmocka_unit_test(rankings_after_cuts)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    jpt_backend_close(gpu), jpt_backend_close(ref);
    return rc;
}
