/* The arithmetic of strategies on given numbers: values that their authors' code gives (worked out with it, see the comments). */
#include "backend/ref/choose.h"
#include "decode/decode_priv.h"
#include "decode/vote.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

/* basusourya/mirostat on softmax(4, 3.5, 3.5, 3, 2, 1, .5, 0, -1, -2, -4, -6), all 11 ratios. */
static void mirostat(void **state) {
    (void)state;
    static const double z[12] = {4, 3.5, 3.5, 3, 2, 1, .5, 0, -1, -2, -4, -6};
    float               p[12];
    double              sum = 0;
    for (int i = 0; i < 12; i++)
        sum += exp(z[i]);
    for (int i = 0; i < 12; i++)
        p[i] = (float)(exp(z[i]) / sum);
    const double want[3][3] = {{3, 2.811440, 2.811345}, {5, 6.020004, 6.019800}, {10, 40.389321, 40.387956}};
    for (int i = 0; i < 3; i++) {
        assert_float_equal(jpt_mirostat_k(p, 12, 100, false, 32000, want[i][0]), want[i][1], 2e-5 * want[i][1]);
        assert_float_equal(jpt_mirostat_k(p, 12, 100, false, 50000, want[i][0]), want[i][2], 2e-5 * want[i][2]);
    }
    /* Zipf's exponent 1: the quotient's limit */
    float zipf[5] = {1, 1.f / 2, 1.f / 3, 1.f / 4, 1.f / 5};
    assert_float_equal(jpt_mirostat_k(zipf, 5, 100, false, 1000, 6), 64 / log(1000), 1e-3);
}

/* YecanLee/GUARD with V = 32000 and a window of 4. */
static void guard(void **state) {
    (void)state;
    const float  h[6] = {2, 3, 1, 4, 2.5f, .5f};
    const double want[6][2] = {{10, .5}, {10, .618292}, {9, .376920}, {10, .776301}, {9, .497690}, {9, .482855}};
    for (int t = 1; t <= 6; t++) {
        double k, alpha;
        jpt_guard_step(h, t - 1, h[t - 1], 4, 32000, &k, &alpha);
        assert_int_equal((int)floor(k), (int)want[t - 1][0]);
        assert_float_equal(alpha, want[t - 1][1], 2e-6);
    }
}

/* YecanLee/Adaptive-Contrastive-Search with q = 1. */
static void adaptive(void **state) {
    (void)state;
    const float  h[6] = {2, 3, 1, 4, 2.5f, .5f}, hk[4] = {1, 1.5f, .5f, 1.9f};
    const double want[6] = {.5, .524156, .463659, .548656, .5, .451344}, alpha[4] = {.50, .55, .41, .60};
    const int    k[4] = {10, 10, 9, 11};
    float        room[8];
    for (int t = 0; t < 6; t++)
        assert_float_equal(jpt_acs_squash(1, t ? (h[t] - jpt_median(h, t, room)) / log(32000) : 0), want[t], 1e-6);
    for (int t = 0; t < 4; t++)
        assert_float_equal(rint(100 * jpt_acs_squash(1, t ? (hk[t] - jpt_median(hk, t, room)) / log(k[t]) : 0)) / 100, alpha[t], 1e-9);
}

/* LHRYANG/FSD's n-gram model on 5 6 7 5 6 8 5 6. */
static void fsd(void **state) {
    (void)state;
    const int32_t t[9] = {5, 6, 7, 5, 6, 8, 5, 6, 7};
    const struct {
        int32_t n, gram, token;
        double  want;
    } cases[] = {{8, 3, 5, .375}, {8, 3, 6, .375}, {8, 3, 7, .33125}, {8, 3, 8, .33125}, {8, 3, 9, 0}, {9, 3, 5, .498333}, {9, 3, 6, .333333}, {9, 3, 7, .222222},
                 {9, 3, 8, .111111}, {8, 2, 7, .3125}, {8, 1, 7, .125}, {1, 3, 5, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (fabs(jpt_ngram_penalty(t, cases[i].n, cases[i].gram, .9, cases[i].token) - cases[i].want) > 2e-6)
            fail_msg("case %zu: %.6f, expected %.6f", i, jpt_ngram_penalty(t, cases[i].n, cases[i].gram, .9, cases[i].token), cases[i].want);
}

/* transformers 4.46 _dola_select_contrast: last row (4, 3.5, 2, 1, -1) against three layers. */
static void dola(void **state) {
    (void)state;
    const float  rows[4][5] = {{4, 3.5f, 2, 1, -1}, {1, 1, 1, 1, 1}, {4.5f, 2, 2, -1, -1}, {3.8f, 3.4f, 2.1f, 1, -1}};
    const double want[3] = {.05091318, .01611583, .00019990};
    float        logp[4][5];
    for (int r = 0; r < 4; r++) {
        double sum = 0;
        for (int v = 0; v < 5; v++)
            sum += exp((double)rows[r][v]);
        for (int v = 0; v < 5; v++)
            logp[r][v] = (float)((double)rows[r][v] - log(sum));
    }
    for (int r = 0; r < 3; r++)
        assert_float_equal(jpt_dola_divergence(logp[0], logp[r + 1], 5), want[r], 1e-7);
}

/* What texts answer, and Adaptive-Consistency's stopping rule (Beta with a flat prior at one half). */
static void votes(void **state) {
    (void)state;
    static const struct {
        jpt_answer_kind kind;
        const char     *text, *want;
    } cases[] = {{JPT_ANSWER_NUMBER, "so 18.00", "18"}, {JPT_ANSWER_NUMBER, "it is $1,234.50.", "1234.5"}, {JPT_ANSWER_NUMBER, "none", ""}, {JPT_ANSWER_STRING, "so 18.00", "18.00"},
                 {JPT_ANSWER_STRING, "first 3, then -7.", "-7"}, {JPT_ANSWER_STRING, "none.", ""}, {JPT_ANSWER_CHOICE, "The answer is (C).", "C"}, {JPT_ANSWER_CHOICE, "I think B, I do", "B"},
                 {JPT_ANSWER_CHOICE, "nothing", ""}, {JPT_ANSWER_BOOLEAN, "No. Well, yes!", "yes"}, {JPT_ANSWER_BOOLEAN, "It is FALSE", "no"}, {JPT_ANSWER_BOOLEAN, "nobody yesterday", ""},
                 {JPT_ANSWER_TEXT, " \n two words ", "two words"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jpt_buf b = {0};
        jpt_answer_of(cases[i].kind, jpt_str_z(cases[i].text), &b);
        assert_string_equal(b.n ? b.p : "", cases[i].want);
        jpt_buf_fini(&b);
    }
    assert_int_equal(jpt_answer_kind_named("choice"), JPT_ANSWER_CHOICE);
    assert_int_equal(jpt_answer_kind_named("letter"), JPT_ANSWER_KINDS);
    assert_float_equal(jpt_vote_certainty(1, 1), .5, 1e-12);
    assert_float_equal(jpt_vote_certainty(3, 0), 1 - 1 / 16., 1e-12); /* 1 - 2^-4 */
    assert_float_equal(jpt_vote_certainty(4, 1), 1 - 7 / 64., 1e-12); /* P(5 or 6 heads of 6) = 7/64 */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mirostat), cmocka_unit_test(guard), cmocka_unit_test(adaptive), cmocka_unit_test(fsd), cmocka_unit_test(dola), cmocka_unit_test(votes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
