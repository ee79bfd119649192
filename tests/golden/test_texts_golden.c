/* ROUGE, Porter's stemmer, answers, smoothed BLEU-4, self-BLEU, repetition, Zipf and pass@k against their reference
 * implementations (tools/golden/texts_reference.py). */
#include <jansson.h>
#include <jpt/metric.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>
#include "metric/porter.h"

static json_t *all;

static int load(void **state) {
    (void)state;
    all = json_load_file(JPT_SOURCE_DIR "/tests/golden/texts.json", 0, NULL);
    return all ? 0 : -1;
}

static int unload(void **state) {
    (void)state;
    json_decref(all);
    return 0;
}

static jpt_str text(json_t *j) { return (jpt_str){json_string_value(j), json_string_length(j)}; }
static double  at(json_t *a, size_t i) { return json_number_value(json_array_get(a, i)); }

static double worst;
static void   compare(double got, double want, double tolerance, const char *what, size_t i) {
      if (!(fabs(got - want) <= tolerance))
        fail_msg("%s %zu: %.15g, reference %.15g", what, i, got, want);
    worst = fmax(worst, fabs(got - want));
}

static void say(const char *what, size_t cases, const char *package) {
    printf("golden: %s against %s %s: %zu cases, largest difference %.1e\n", what, package,
           json_string_value(json_object_get(json_object_get(all, "versions"), package)), cases, worst);
    worst = 0;
}

static void stems(void **unused) {
    (void)unused;
    json_t *words = json_object_get(all, "words"), *w;
    size_t  i;
    json_array_foreach(words, i, w) {
        char   buf[PORTER_MAX];
        size_t n = json_string_length(json_array_get(w, 0));
        memcpy(buf, json_string_value(json_array_get(w, 0)), n);
        buf[porter_stem(buf, n)] = '\0';
        if (strcmp(buf, json_string_value(json_array_get(w, 1))) != 0)
            fail_msg("%s: %s, NLTK %s", json_string_value(json_array_get(w, 0)), buf, json_string_value(json_array_get(w, 1)));
    }
    say("stems", i, "nltk");
}

static void rouge(void **unused) {
    (void)unused;
    json_t *rows = json_object_get(all, "rouge"), *row;
    size_t  i, cases = 0;
    json_array_foreach(rows, i, row) {
        json_t *refs = json_object_get(row, "refs");
        jpt_str ref[2] = {text(json_array_get(refs, 0)), text(json_array_get(refs, 1))};
        for (size_t stem = 0; stem < 2; stem++)
            for (size_t n = 1; n <= 2; n++) {
                json_t   *want = json_array_get(json_object_get(row, stem ? "stem" : "plain"), n - 1);
                jpt_rouge r = {0};
                assert_int_equal(jpt_rouge_segment(stem, text(json_object_get(row, "hyp")), ref, n, &r, NULL), JPT_OK);
                for (size_t k = 0; k < JPT_ROUGE_COUNT; k++, cases++) {
                    compare(r.of[k].precision, at(json_array_get(want, k), 0), 1e-12, "ROUGE precision", i);
                    compare(r.of[k].recall, at(json_array_get(want, k), 1), 1e-12, "ROUGE recall", i);
                    compare(r.of[k].f, at(json_array_get(want, k), 2), 1e-12, "ROUGE F", i);
                }
            }
    }
    say("ROUGE-1, -2, -L, -Lsum", cases, "rouge-score");
}

static void summaries(void **unused) {
    (void)unused;
    json_t *rows = json_object_get(all, "summaries"), *row;
    size_t  i;
    json_array_foreach(rows, i, row) {
        jpt_str ref = text(json_array_get(row, 1));
        double  v;
        assert_int_equal(jpt_bleu_code_summary(text(json_array_get(row, 0)), &ref, 1, &v, NULL), JPT_OK);
        compare(v, at(row, 2), 1e-9, "smoothed BLEU-4", i);
    }
    say("smoothed BLEU-4 of code summaries", i, "lm_eval");
}

static void answers(void **unused) {
    (void)unused;
    json_t *rows = json_object_get(all, "answers"), *row;
    size_t  i;
    json_array_foreach(rows, i, row) {
        jpt_buf b = {0};
        for (size_t f = JPT_ANSWER_STRICT; f <= JPT_ANSWER_LLAMA; f++) {
            jpt_str got;
            if (!jpt_answer_extract((jpt_answer_filter)f, text(json_array_get(row, 0)), &got))
                got = jpt_str_z("[invalid]");
            if (!jpt_str_eq(got, text(json_array_get(row, 1 + f))))
                fail_msg("filter %zu of '%s': '%.*s', harness '%s'", f, json_string_value(json_array_get(row, 0)), (int)got.n,
                         got.p, json_string_value(json_array_get(row, 1 + f)));
            jpt_buf_reset(&b);
            jpt_answer_normalize(got, &b);
            assert_string_equal(b.p ? b.p : "", json_string_value(json_array_get(row, 6 + f)));
            bool right = false;
            assert_int_equal(jpt_answer_match((jpt_answer_filter)f, text(json_array_get(row, 0)),
                                              text(json_array_get(row, 6 + f)), &right, NULL),
                             JPT_OK);
            jpt_buf again = {0};
            jpt_answer_normalize(text(json_array_get(row, 6 + f)), &again);
            assert_int_equal(right, strcmp(again.p ? again.p : "", b.p ? b.p : "") == 0);
            jpt_buf_fini(&again);
        }
        jpt_buf_reset(&b);
        jpt_answer_normalize(text(json_array_get(row, 0)), &b);
        assert_string_equal(b.p ? b.p : "", json_string_value(json_array_get(row, 11)));
        jpt_buf_fini(&b);
    }
    say("five extractions and the normal form of answers", i, "lm_eval");
}

static void corpora(void **unused) {
    (void)unused;
    json_t *rows = json_object_get(all, "corpora"), *row, *t;
    size_t  i, k, cases = 0;
    json_array_foreach(rows, i, row) {
        json_t *texts = json_object_get(row, "texts");
        size_t  n = json_array_size(texts);
        jpt_str s[32];
        double  self[32];
        assert_true(n <= 32);
        json_array_foreach(texts, k, t) s[k] = text(t);
        assert_int_equal(jpt_self_bleu(NULL, s, n, self, NULL), JPT_OK);
        for (k = 0; k < n; k++, cases++)
            compare(self[k], at(json_object_get(row, "self_bleu"), k), 1e-9, "self-BLEU", k);
    }
    say("self-BLEU", cases, "sacrebleu");
    json_array_foreach(rows, i, row) {
        json_t               *texts = json_object_get(row, "texts"), *simctg = json_object_get(row, "simctg");
        jpt_str               s[32];
        jpt_corpus_repetition r;
        json_array_foreach(texts, k, t) s[k] = text(t);
        assert_int_equal(jpt_corpus_repetition_of(s, json_array_size(texts), &r, NULL), JPT_OK);
        for (k = 0; k < 3; k++) {
            compare(100 * r.rep_simctg[k], at(simctg, k), 1e-9, "SimCTG's rep", k);
            compare(r.rep[k], at(json_object_get(row, "rep"), k), 1e-12, "rep", k);
        }
        compare(r.diversity_simctg, at(simctg, 3), 1e-12, "SimCTG's diversity", i);
        compare(r.diversity, (1 - r.rep[0]) * (1 - r.rep[1]) * (1 - r.rep[2]), 1e-12, "diversity", i);
        for (k = 0; k < 4; k++)
            compare(r.distinct[k], at(json_object_get(row, "distinct"), k), 1e-12, "distinct", k);
        compare(r.zipf, json_number_value(json_object_get(row, "zipf")), 1e-9, "Zipf coefficient", i);
        assert_int_equal(r.n_words, json_integer_value(json_object_get(row, "words")));
        assert_int_equal(r.n_distinct_words, json_integer_value(json_object_get(row, "distinct_words")));
    }
    say("rep-n, distinct-n, diversity, Zipf coefficient", i, "scipy");
}

static void passed(void **unused) {
    (void)unused;
    json_t *rows = json_object_get(all, "pass_at_k"), *row;
    size_t  i;
    json_array_foreach(rows, i, row)
        compare(jpt_pass_at_k((int64_t)at(row, 0), (int64_t)at(row, 1), (int64_t)at(row, 2)), at(row, 3), 1e-14, "pass@k", i);
    say("pass@k", i, "numpy");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stems),   cmocka_unit_test(rouge),   cmocka_unit_test(summaries),
                                       cmocka_unit_test(answers), cmocka_unit_test(corpora), cmocka_unit_test(passed)};
    return cmocka_run_group_tests(tests, load, unload);
}
