/* Prompts byte for byte as others logged or published them: the study's, lm-evaluation-harness's, Shi et al.'s.  Needs JPT_DATA (77). */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <jpt/dataset.h>
#include <jpt/task.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <task/task_priv.h>

static jpt_task *open_with(const char *name, const char *compat) {
    jpt_task        *t = NULL;
    jpt_error        err = {0};
    jpt_task_options o = {.compat = compat};
    if (jpt_task_open_with(name, &o, &t, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return t;
}

static char *data_text(const char *path) { /* of a file in $JPT_DATA; released by the caller */
    char    full[4096];
    jpt_buf b = {0};
    snprintf(full, sizeof full, "%s/%s", getenv("JPT_DATA"), path);
    if (jpt_file_read(full, &b, NULL) != JPT_OK)
        fail_msg("cannot read %s", full);
    return b.p;
}

static json_t *data_lines(const char *path) {
    char   *text = data_text(path), *save = NULL;
    json_t *all = json_array();
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        json_array_append_new(all, json_loads(line, 0, NULL));
    free(text);
    return all;
}

static const char *get(json_t *all, size_t i, const char *key) { return json_string_value(json_object_get(json_array_get(all, i), key)); }

static void same(const char *got, const char *want, const char *task, size_t i) {
    if (strcmp(got, want) != 0)
        fail_msg("%s, item %zu:\n<<<%s>>>\nexpected\n<<<%s>>>", task, i, got, want);
}

static void stops(const jpt_task *t, const char *const *want, int n) {
    assert_int_equal(jpt_task_get_info(t)->n_stop, n);
    for (int i = 0; i < n; i++)
        assert_string_equal(jpt_task_get_info(t)->stop[i], want[i]);
}

static void gsm8k_study(void **state) {
    (void)state;
    static const char *const until[] = {"Question:", "</s>", "<|im_end|>"};
    json_t                  *logged = data_lines("gsm8k/study_5shot_first100.jsonl");
    jpt_task                *t = open_with("gsm8k", "paper"), *five = open_with("gsm8k-5shot", NULL);
    assert_string_equal(jpt_task_get_info(t)->name, "gsm8k-paper");
    assert_false(jpt_task_get_info(t)->chat);
    assert_int_equal(jpt_task_get_info(t)->max_new_tokens, 256);
    assert_int_equal(jpt_task_get_info(t)->n_items, 100);
    assert_int_equal(json_array_size(logged), 100);
    stops(t, until, 3);
    for (size_t i = 0; i < 100; i++) {
        const char *want = get(logged, i, "prompt"), *mine = jpt_task_get_item(five, i)->prompt;
        same(jpt_task_get_item(t, i)->prompt, want, "gsm8k-paper", i);
        assert_string_equal(jpt_task_get_item(t, i)->references[0], get(logged, i, "answer"));
        /* gsm8k-5shot has other examples, the same form: the question is the end of both, five stand before it */
        const char *question = strstr(want, "Question: "), *last = question;
        while ((question = strstr(question + 1, "Question: ")))
            last = question;
        same(mine + strlen(mine) - strlen(last), last, "gsm8k-5shot", i);
    }
    jpt_task_close(t);
    jpt_task_close(five);
    json_decref(logged);
}

/* The full training set is not among the files, but its first 500 items are: wherever the harness's draw falls on one of them, the logged
 * prompt has it at that place, and nowhere else. */
static void gsm8k_draw(void **state) {
    (void)state;
    json_t     *logged = data_lines("gsm8k/study_5shot_first100.jsonl"), *train = data_lines("gsm8k/train_first500.jsonl");
    task_random r;
    int         seen = 0;
    task_random_seed(&r, 1234);
    for (size_t i = 0; i < 100; i++) {
        size_t      index[5];
        const char *at = get(logged, i, "prompt");
        task_random_sample(&r, 7473, 5, index);
        for (int k = 0; k < 5; k++) {
            const char *end = strstr(at, "\n\nQuestion: ");
            assert_non_null(end);
            size_t n = (size_t)(end + 2 - at), found = 500;
            for (size_t j = 0; j < 500; j++) {
                jpt_buf b = {0};
                assert_int_equal(task_fill("Question: {question}\nAnswer: {answer}\n\n", json_array_get(train, j), "train", &b, NULL), JPT_OK);
                if (b.n == n && memcmp(b.p, at, n) == 0)
                    found = j;
                jpt_buf_fini(&b);
            }
            seen += index[k] < 500;
            assert_int_equal(found, index[k] < 500 ? index[k] : 500);
            at = end + 2;
        }
    }
    assert_int_equal(seen, 34);
    json_decref(logged);
    json_decref(train);
}

static void gsm8k_cot(void **state) {
    (void)state;
    char     *prefix = data_text("gsm8k/cot8_prompt_prefix.txt");
    json_t   *test = data_lines("gsm8k/test.jsonl");
    jpt_task *t = open_with("gsm8k-8shot-cot", NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 1319);
    for (size_t i = 0; i < 1319; i++) {
        jpt_buf b = {0};
        jpt_buf_printf(&b, "%sQuestion: %s\nAnswer:", prefix, get(test, i, "question"));
        same(jpt_task_get_item(t, i)->prompt, b.p, "gsm8k-8shot-cot", i);
        jpt_buf_fini(&b);
    }
    jpt_task_close(t);
    json_decref(test);
    free(prefix);
}

static void mbpp(void **state) {
    (void)state;
    char     *prefix = data_text("mbpp/mbpp_3shot_prompt_prefix.txt");
    json_t   *test = data_lines("mbpp/mbpp_test500.jsonl");
    jpt_task *t = open_with("mbpp", NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 500);
    for (size_t i = 0; i < 500; i++) {
        json_t *tests = json_object_get(json_array_get(test, i), "test_list");
        jpt_buf b = {0};
        jpt_buf_printf(&b, "%sYou are an expert Python programmer, and here is your task: %s Your code should pass these tests:\n\n%s\n%s\n%s\n[BEGIN]\n", prefix,
                       get(test, i, "text"), json_string_value(json_array_get(tests, 0)), json_string_value(json_array_get(tests, 1)), json_string_value(json_array_get(tests, 2)));
        same(jpt_task_get_item(t, i)->prompt, b.p, "mbpp", i);
        jpt_buf_fini(&b);
    }
    jpt_task_close(t);
    json_decref(test);
    free(prefix);
    t = open_with("mbpp-sanitized", NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 427);
    assert_string_equal(jpt_task_get_item(t, 0)->id, "2");
    jpt_task_close(t);
}

static void wikitext(void **state) {
    (void)state;
    json_t   *study = data_lines("wikitext/study_prompts100.jsonl");
    jpt_task *t = open_with("wikitext", "paper"), *plain = open_with("wikitext", NULL);
    assert_int_equal(jpt_task_get_info(t)->max_total_tokens, 270);
    assert_int_equal(jpt_task_get_info(t)->n_items, 100);
    for (size_t i = 0; i < 100; i++) {
        const char *beginning = get(study, i, "instruction"), *gold = get(study, i, "gold_ref");
        jpt_buf     b = {0};
        jpt_buf_printf(&b, "[INST] Please help me complete the text continuation based on the following content.\n\n%s [/INST]", beginning);
        same(jpt_task_get_item(t, i)->prompt, b.p, "wikitext-paper", i);
        same(jpt_task_get_item(plain, i)->prompt, beginning, "wikitext", i);
        if (strncmp(gold, beginning, strlen(beginning)) == 0)
            same(jpt_task_get_item(plain, i)->references[0], gold + strlen(beginning), "wikitext", i);
        jpt_buf_fini(&b);
    }
    jpt_task_close(t);
    jpt_task_close(plain);
    json_decref(study);
    for (int k = 0; k < 2; k++) {
        const char *name = k ? "wikinews" : "wikitext";
        char        path[64], task[64];
        snprintf(path, sizeof path, "%s/prompts500.jsonl", name);
        snprintf(task, sizeof task, "%s-500", name);
        json_t *shi = data_lines(path);
        t = open_with(task, NULL);
        assert_int_equal(jpt_task_get_info(t)->n_items, 500);
        for (size_t i = 0; i < 500; i++)
            same(jpt_task_get_item(t, i)->prompt, get(shi, i, "instructions"), task, i);
        jpt_task_close(t);
        json_decref(shi);
    }
}

static void wmt16(void **state) {
    (void)state;
    static const char *const newline[] = {"\n"};
    json_t                  *pairs = data_lines("wmt16/newstest2016_first500.de-en.jsonl");
    jpt_task                *de = open_with("wmt16-de-en", "paper"), *en = open_with("wmt16-en-de", "paper");
    assert_int_equal(jpt_task_get_info(de)->n_items, 500);
    assert_int_equal(jpt_task_get_info(de)->max_new_tokens, 256);
    stops(de, newline, 1);
    for (size_t i = 0; i < 500; i++) {
        jpt_buf b = {0};
        jpt_buf_printf(&b, "German phrase: %s\nEnglish phrase:", get(pairs, i, "de"));
        same(jpt_task_get_item(de, i)->prompt, b.p, "wmt16-de-en-paper", i);
        same(jpt_task_get_item(de, i)->references[0], get(pairs, i, "en"), "wmt16-de-en-paper", i);
        jpt_buf_reset(&b);
        jpt_buf_printf(&b, "English phrase: %s\nGerman phrase:", get(pairs, i, "en"));
        same(jpt_task_get_item(en, i)->prompt, b.p, "wmt16-en-de-paper", i);
        jpt_buf_fini(&b);
    }
    jpt_task_close(de);
    jpt_task_close(en);
    json_decref(pairs);
}

static void code2text(void **state) {
    (void)state;
    static const char *const end[] = {"</s>"};
    for (int k = 0; k < 2; k++) {
        const char *name = k ? "code2text-javascript" : "code2text-python";
        json_t     *logged = data_lines(k ? "code2text/javascript_first100.jsonl" : "code2text/python_first100.jsonl");
        jpt_task   *t = open_with(name, "paper");
        assert_int_equal(jpt_task_get_info(t)->n_items, 100);
        assert_int_equal(jpt_task_get_info(t)->max_new_tokens, 250);
        stops(t, end, 1);
        for (size_t i = 0; i < 100; i++) {
            same(jpt_task_get_item(t, i)->prompt, get(logged, i, "prompt"), name, i);
            same(jpt_task_get_item(t, i)->references[0], get(logged, i, "target"), name, i);
        }
        jpt_task_close(t);
        json_decref(logged);
    }
}

static void humaneval(void **state) {
    (void)state;
    json_t   *all = data_lines("humaneval/HumanEval.jsonl");
    jpt_task *t = open_with("humaneval", NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 164);
    for (size_t i = 0; i < 164; i++) {
        same(jpt_task_get_item(t, i)->prompt, get(all, i, "prompt"), "humaneval", i);
        assert_string_equal(jpt_task_get_item(t, i)->id, get(all, i, "task_id"));
    }
    jpt_task_close(t);
    json_decref(all);
}

static void parallel(void **state) {
    (void)state;
    static const struct {
        const char *task, *first, *reference;
        size_t      n, refs;
    } want[] = {{"wmt22-de-en", "Die Ware hat unter 20 Euro gekostet.", "The merchandise was less than 20 EURO.", 1984, 2},
                {"wmt22-en-de", "You can come back any time as our chat service window is open 24/7", "Sie k\xc3\xb6nnen uns jederzeit wieder kontaktieren, da unser Chatservice rund um die Uhr verf\xc3\xbcgbar ist.", 2037, 2},
                {"wmt22-zh-en", "\xe6\x98\xaf\xe5\x90\xa6\xe6\x9c\x89\xe9\x80\x94\xe5\xbe\x84\xe5\xa4\x84\xe7\xbd\x9a\xe4\xbb\x96", "Is there any means to punish him?", 1875, 2},
                {"wmt22-en-zh", "I'm sorry that your order is running late.", NULL, 2037, 1},
                {"multi30k-en-de", "A man in an orange hat starring at something.", "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.", 1000, 1},
                {"multi30k-en-fr", "A man in an orange hat starring at something.", "Un homme avec un chapeau orange regardant quelque chose.", 1000, 1}};
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        jpt_task            *t = open_with(want[k].task, NULL);
        const jpt_task_item *it = jpt_task_get_item(t, 0);
        assert_int_equal(jpt_task_get_info(t)->n_items, want[k].n);
        assert_int_equal(it->n_references, want[k].refs);
        assert_non_null(strstr(it->prompt, want[k].first));
        if (want[k].reference)
            assert_string_equal(it->references[want[k].refs - 1], want[k].reference);
        assert_non_null(jpt_task_get_info(t)->citation);
        jpt_task_close(t);
    }
}

/* Every task opens, or says which data set it needs. */
static void all_open(void **state) {
    (void)state;
    char **names = NULL;
    size_t n = 0, open = 0;
    assert_int_equal(jpt_task_list(&names, &n, NULL), JPT_OK);
    for (size_t i = 0; i < n; i++)
        for (int paper = 0; paper < 2; paper++) {
            jpt_task        *t = NULL;
            jpt_error        err = {0};
            jpt_task_options o = {.compat = paper ? "paper" : NULL};
            jpt_status       st = jpt_task_open_with(names[i], &o, &t, &err);
            if (st == JPT_OK) {
                assert_true(!paper || !jpt_task_get_info(t)->chat);
                open++;
            } else if (!(st == JPT_NOT_FOUND && strstr(err.msg, "jpt pull gsm8k-train")) && !(st == JPT_ARG && strstr(err.msg, "no items of its own"))) {
                fail_msg("%s: %s", names[i], err.msg);
            }
            jpt_task_close(t);
        }
    assert_true(open >= 2 * n - 3);
    jpt_task_list_free(names, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gsm8k_study), cmocka_unit_test(gsm8k_draw), cmocka_unit_test(gsm8k_cot), cmocka_unit_test(mbpp), cmocka_unit_test(wikitext),
                                       cmocka_unit_test(wmt16), cmocka_unit_test(code2text), cmocka_unit_test(humaneval), cmocka_unit_test(parallel), cmocka_unit_test(all_open)};
    const char *data = getenv("JPT_DATA");
    if (!data || !*data) {
        fprintf(stderr, "skipped: JPT_DATA is not set\n");
        return 77;
    }
    setenv("JPT_TASKS", JPT_SOURCE_DIR "/tasks", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
