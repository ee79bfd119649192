/* Last number, repetition, bootstrap, edges of BLEU and chrF.  The comparison with sacreBLEU is
 * tests/golden/test_metric_golden.c. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/metric.h>
#include <math.h>
#include <string.h>

static void last_number(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double      want; /* NAN: none */
    } cases[] = {
        {"She pays 3*5=15.\n#### 15", 15},
        {"The answer is $1,234.00.", 1234},
        {"#### 7 and #### 8", 8},
        {"It costs $ 5 . ok", 5},
        {"x = -3", -3},
        {"so 2/3 of 12 is 8.", 8},
        {"... done ...", NAN},
        {"#### 1,000.", 1000},
        {"", NAN},
        {"no digits, at all.", NAN},
        {"5", 5},
        {"-$7.50", -7.5},
        {"7 - 3", 3},
        {"7-3", -3},
        {"42 apples, 3.5 kg...", 3.5},
        {"12.", 12},
        {"$,.", NAN},
        {"=18", 18},
        {"version 1.2.3", NAN},
        {"4 then 1.2.3", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = -999;
        bool   found = jpt_last_number(jpt_str_z(cases[i].text), &got);
        if (found != !isnan(cases[i].want) || (found && got != cases[i].want))
            fail_msg("'%s': found %d, %g, expected %g", cases[i].text, found, got, cases[i].want);
    }
    char long_run[200]; /* no silent cut of a long run of digits */
    memset(long_run, '9', sizeof long_run);
    double v = -1;
    assert_false(jpt_last_number((jpt_str){long_run, sizeof long_run}, &v));
    assert_true(jpt_last_number((jpt_str){"125", 2}, &v)); /* respects the length */
    assert_true(v == 12);
}

static void close_to(double got, double want) {
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("got %.15g, expected %.15g", got, want);
}

static void repetition(void **state) {
    (void)state;
    jpt_repetition r;
    /* 10 words, by hand: 2-grams 9, distinct ab bc ca cd = 4; 3-grams 8, distinct abc bca cab bcd = 4; 4-grams 7, distinct 4 */
    assert_int_equal(jpt_repetition_of(jpt_str_z("a b c a b c\na b\tc d"), &r, NULL), JPT_OK);
    assert_int_equal(r.n_words, 10);
    close_to(r.distinct[0], 0.4);
    close_to(r.distinct[1], 4.0 / 9);
    close_to(r.distinct[2], 0.5);
    close_to(r.rep[0], 5.0 / 9);
    close_to(r.rep[1], 0.5);
    close_to(r.rep[2], 3.0 / 7);
    close_to(r.diversity, 4.0 / 9 * 0.5 * 4 / 7);
    const int32_t  id[] = {1, 2, 3, 1, 2, 3, 1, 2, 3, 4};
    jpt_repetition q;
    assert_int_equal(jpt_repetition_of_ids(id, 10, &q, NULL), JPT_OK);
    assert_memory_equal(&q, &r, sizeof q);
    assert_int_equal(jpt_repetition_of(jpt_str_z("all words differ in this text"), &r, NULL), JPT_OK);
    assert_true(r.diversity == 1 && r.rep[0] == 0 && r.distinct[2] == 1);
    assert_int_equal(jpt_repetition_of(jpt_str_z("too short"), &r, NULL), JPT_OK);
    assert_true(isnan(r.rep[1]) && isnan(r.diversity) && r.rep[0] == 0);
    assert_int_equal(jpt_repetition_of(jpt_str_z(""), &r, NULL), JPT_OK);
    assert_true(r.n_words == 0 && isnan(r.distinct[0]) && isnan(r.diversity));
}

static void bleu_and_chrf_edges(void **state) {
    (void)state;
    jpt_bleu_stats b = {{9, 7, 5, 3}, {10, 8, 6, 4}, 11, 11};
    assert_true(fabs(jpt_bleu_score(&b, false) / 100 - 0.8375922397) < 1e-9); /* sacreBLEU's own test */
    jpt_str   ref[40];
    jpt_error err = {0};
    for (int i = 0; i < 40; i++)
        ref[i] = jpt_str_z("a test");
    assert_int_equal(jpt_bleu_segment(jpt_str_z("test"), ref, 0, &b, &err), JPT_ARG);
    assert_int_equal(jpt_bleu_segment(jpt_str_z("test"), ref, 40, &b, NULL), JPT_OK);
    assert_true(b.hyp_len == 1 && b.ref_len == 2 && b.match[0] == 1);
    jpt_chrf_stats c;
    assert_int_equal(jpt_chrf_segment(jpt_str_z("test"), ref, 0, 0, &c, NULL), JPT_ARG);
    assert_int_equal(jpt_chrf_segment(jpt_str_z("test"), ref, 1, 3, &c, NULL), JPT_ARG);
    /* invalid UTF-8 is text like any other */
    ref[0] = (jpt_str){"\xff\xfe ab \xc3", 7};
    assert_int_equal(jpt_bleu_segment(ref[0], ref, 1, &b, NULL), JPT_OK);
    assert_true(jpt_bleu_score(&b, true) > 99.9);
    assert_int_equal(jpt_chrf_segment(ref[0], ref, 1, JPT_CHRF_WORDS, &c, NULL), JPT_OK);
    assert_true(jpt_chrf_score(&c, JPT_CHRF_WORDS) > 99.9);
    c = (jpt_chrf_stats){{0}, {0}, {0}};
    assert_true(jpt_chrf_score(&c, 0) == 0);
}

static void bootstrap(void **state) {
    (void)state;
    enum { N = 400 };
    double a[N], b[N], low, high, low2, high2, mean = 0, var = 0;
    for (uint32_t i = 0; i < N; i++) {
        a[i] = jpt_rng_uniform((jpt_rng_key){1, i, 0, 0}, 0);
        b[i] = 2 * a[i];
        mean += a[i] / N;
    }
    for (int i = 0; i < N; i++)
        var += (a[i] - mean) * (a[i] - mean) / (N - 1);
    assert_int_equal(jpt_bootstrap_mean(a, N, 2000, 7, &low, &high, NULL), JPT_OK);
    double half = 1.96 * sqrt(var / N); /* the normal interval, which a bootstrap of 400 uniform draws comes near to */
    assert_true(fabs(low - (mean - half)) < 0.15 * half && fabs(high - (mean + half)) < 0.15 * half);
    assert_int_equal(jpt_bootstrap_mean(a, N, 2000, 7, &low2, &high2, NULL), JPT_OK);
    assert_true(low == low2 && high == high2);
    assert_int_equal(jpt_bootstrap_mean(a, N, 2000, 8, &low2, &high2, NULL), JPT_OK);
    assert_true(low != low2);
    /* a ratio of proportional quantities does not vary */
    assert_int_equal(jpt_bootstrap_ratio(b, a, N, 500, 7, &low, &high, NULL), JPT_OK);
    assert_true(fabs(low - 2) < 1e-12 && fabs(high - 2) < 1e-12);
    b[0] = 50;
    assert_int_equal(jpt_bootstrap_ratio(b, a, N, 500, 7, &low, &high, NULL), JPT_OK);
    assert_true(low < high && low < 2.25 && high > 2.2);
    assert_int_equal(jpt_bootstrap_mean(a, 1, 500, 7, &low, &high, NULL), JPT_OK);
    assert_true(isnan(low) && isnan(high));
}

static void answers(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool        same;
    } numbers[] = {{"18", "18.00", true}, {"$1,234.50", "1234.5", true},
                   {"-0", "0", true},     {"007", "7", true},
                   {"3.", "3", true},     {".5", "0.50", true},
                   {"-7", "7", false},    {"1.2.3", "1.2.3", false},
                   {"", "", false},       {"$", "$", false},
                   {"ten", "10", false},  {"12", "120", false},
                   {"0.10", "0.1", true}, {"- 4", "4", false},
                   {" 42 ", "42", true},  {"[invalid]", "[invalid]", false}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (jpt_answer_same_number(jpt_str_z(numbers[i].a), jpt_str_z(numbers[i].b)) != numbers[i].same)
            fail_msg("'%s' and '%s'", numbers[i].a, numbers[i].b);
    const jpt_str votes[] = {jpt_str_z("5"), jpt_str_z("7"), jpt_str_z("7"), jpt_str_z("5"), jpt_str_z("[invalid]")};
    size_t        n = 0;
    assert_int_equal(jpt_majority_vote(votes, 5, &n), 0); /* 5 and 7 tie: the first seen */
    assert_int_equal(n, 2);
    assert_int_equal(jpt_majority_vote(votes + 1, 3, &n), 0);
    assert_int_equal(jpt_majority_vote(votes + 1, 2, NULL), 0);
    bool right = false; /* the reference is the data set's whole answer */
    assert_int_equal(
        jpt_answer_match(JPT_ANSWER_FLEXIBLE, jpt_str_z("so $1,234."), jpt_str_z("2 * 617\n#### 1234"), &right, NULL), JPT_OK);
    assert_true(right);
    assert_int_equal(jpt_answer_match(JPT_ANSWER_STRICT, jpt_str_z("so 1234"), jpt_str_z("#### 1234"), &right, NULL), JPT_OK);
    assert_false(right);
    assert_true(isnan(jpt_pass_at_k(3, 1, 4)) && isnan(jpt_pass_at_k(3, 4, 1)) && isnan(jpt_pass_at_k(3, 1, 0)));
}

static void likelihood(void **state) {
    (void)state;
    close_to(jpt_bits_per_byte(8 * log(2), 4), 2);
    close_to(jpt_perplexity(3 * log(7), 3), 7);
    assert_true(isnan(jpt_bits_per_byte(1, 0)) && isnan(jpt_perplexity(1, 0)));
    const int64_t length[] = {3, 8, 9, 8};
    close_to(jpt_truncation_rate(length, 4, 8), 0.75);
    assert_true(isnan(jpt_truncation_rate(length, 0, 8)));
}

static void ter_and_others_edges(void **state) {
    (void)state;
    jpt_str       ref[2] = {jpt_str_z("a b c d e f g h"), jpt_str_z("a b")};
    jpt_ter_stats t;
    jpt_rouge     r;
    jpt_error     err = {0};
    double        v;
    assert_int_equal(jpt_ter_segment(NULL, jpt_str_z("d e f g h a b c"), ref, 1, &t, NULL), JPT_OK);
    assert_true(t.edits == 1 && t.ref_len == 8 && jpt_ter_score(&t) == 12.5); /* one shift: sacreBLEU's own test */
    assert_int_equal(jpt_ter_segment(NULL, jpt_str_z("a b"), ref, 2, &t, NULL), JPT_OK);
    assert_true(t.edits == 0 && t.ref_len == 5); /* fewest edits, mean length */
    assert_int_equal(jpt_ter_segment(NULL, ref[0], ref, 0, &t, NULL), JPT_ARG);
    const jpt_str tabbed = jpt_str_z("it's\tcat"), blank = jpt_str_z("it's cat"); /* sacreBLEU 2.6.0 tokenises references twice */
    assert_int_equal(jpt_ter_segment(&(jpt_ter_options){.normalized = true}, tabbed, &tabbed, 1, &t, NULL), JPT_OK);
    assert_true(t.edits == 2 && t.ref_len == 3);
    assert_int_equal(jpt_ter_segment(&(jpt_ter_options){.normalized = true}, blank, &blank, 1, &t, NULL), JPT_OK);
    assert_true(t.edits == 0 && t.ref_len == 3);
    jpt_buf words = {0};
    for (int i = 0; i < JPT_TER_WORDS_MAX; i++)
        jpt_buf_addz(&words, "w ");
    assert_int_equal(jpt_ter_segment(NULL, (jpt_str){words.p, words.n}, ref, 1, &t, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "at most 10000 words"));
    jpt_buf_fini(&words);
    assert_int_equal(jpt_rouge_segment(true, ref[0], ref, 0, &r, NULL), JPT_ARG);
    assert_int_equal(jpt_rouge_segment(true, (jpt_str){"\xff\xfe", 2}, ref, 2, &r, NULL), JPT_OK);
    assert_true(r.of[JPT_ROUGE_1].f == 0 && r.of[JPT_ROUGE_LSUM].f == 0);
    assert_int_equal(jpt_bleu_code_summary(ref[0], ref, 0, &v, NULL), JPT_ARG);
    assert_int_equal(jpt_bleu_code_summary(jpt_str_z(""), &(jpt_str){"a b c d", 7}, 1, &v, NULL), JPT_OK);
    assert_true(fabs(v - 1.831563889) < 1e-9); /* an empty answer is not worth nothing */
    assert_int_equal(jpt_self_bleu(NULL, ref, 1, &v, NULL), JPT_ARG);
    jpt_corpus_metric m;
    assert_false(jpt_corpus_metric_named("bleus", &m));
    assert_true(jpt_corpus_metric_named("ter", &m) && !jpt_corpus_higher_is_better(&m));
}

/* Whatever the bytes: nothing breaks, a text equals itself, and scores stay in their range. */
static void any_bytes(void **state) {
    (void)state;
    static const char *const pieces[] = {
        " ", "a", "b",   ".",  ",",        "-",     "&amp;", "\xc3\xa9",     "\xff",          "\xe4\xb8\xad", "\xf0\x9f\x98\x80",
        "7", "$", "'s ", "\n", "\xce\xa3", "#### ", "\xc3",  "\xef\xbc\x8c", "The answer is "};
    enum { N_PIECES = sizeof pieces / sizeof *pieces };
    for (uint32_t t = 0; t < 600; t++) {
        jpt_buf  b[2] = {{0}, {0}};
        uint32_t length = (uint32_t)(jpt_rng_uniform((jpt_rng_key){1, t, 0, 0}, 0) * 60);
        for (uint32_t i = 0; i < 2 * length; i++)
            jpt_buf_addz(&b[i & 1], pieces[(int)(jpt_rng_uniform((jpt_rng_key){1, t, 1, i}, 0) * N_PIECES)]);
        jpt_str text = {b[0].p ? b[0].p : "", b[0].n}, both[2] = {{b[1].p ? b[1].p : "", b[1].n}, text}, got;
        for (int option = 0; option < 8; option++)
            for (int kind = JPT_CORPUS_BLEU; kind <= JPT_CORPUS_TER; kind++) {
                double            stats[JPT_CORPUS_STATS_MAX];
                jpt_corpus_metric m = {.kind = (jpt_corpus_kind)kind, .smoothing = JPT_BLEU_EXP, .effective_order = true};
                m.bleu = (jpt_bleu_options){(jpt_bleu_tokenizer)(option % 5), option & 1};
                m.chrf = (jpt_chrf_options){option % 3, option & 1, option & 2, option & 4};
                m.ter = (jpt_ter_options){option & 1, option & 2, option & 4, option == 3};
                assert_int_equal(jpt_corpus_segment(&m, text, both, 1, stats, NULL), JPT_OK);
                double v = jpt_corpus_score(&m, stats);
                assert_true(v >= 0 && (kind == JPT_CORPUS_TER || v <= 100 + 1e-9));
                assert_int_equal(jpt_corpus_segment(&m, text, &both[1], 1, stats, NULL), JPT_OK);
                v = jpt_corpus_score(&m, stats);
                assert_true(kind == JPT_CORPUS_TER ? v == 0 || m.ter.normalized : fabs(v - 100) < 1e-9 || v < 1e-9 || m.chrf.eps_smoothing);
            }
        jpt_rouge r = {0};
        assert_int_equal(jpt_rouge_segment(t & 1, text, both, 2, &r, NULL), JPT_OK);
        for (int k = 0; k < JPT_ROUGE_COUNT; k++)
            assert_true(r.of[k].f == 0 || fabs(r.of[k].f - 1) < 1e-12); /* the best of two references is itself */
        for (int f = JPT_ANSWER_STRICT; f <= JPT_ANSWER_LLAMA; f++)
            if (jpt_answer_extract((jpt_answer_filter)f, text, &got))
                assert_true(got.n > 0 && got.p >= text.p && got.p + got.n <= text.p + text.n);
        double                self[2], v;
        jpt_corpus_repetition rep;
        assert_int_equal(jpt_self_bleu(NULL, both, 2, self, NULL), JPT_OK);
        assert_int_equal(jpt_corpus_repetition_of(both, 2, &rep, NULL), JPT_OK);
        assert_int_equal(jpt_bleu_code_summary(text, both, 2, &v, NULL), JPT_OK);
        assert_true(self[0] >= 0 && self[0] <= 100 + 1e-9 && v >= 0 && v <= 100 + 1e-9 && rep.n_texts == 2);
        jpt_buf_fini(&b[0]);
        jpt_buf_fini(&b[1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(last_number),         cmocka_unit_test(answers),
                                       cmocka_unit_test(likelihood),          cmocka_unit_test(ter_and_others_edges),
                                       cmocka_unit_test(any_bytes),           cmocka_unit_test(repetition),
                                       cmocka_unit_test(bleu_and_chrf_edges), cmocka_unit_test(bootstrap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
