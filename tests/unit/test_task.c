/* Tasks: finding, reading, refusing with file and line, scoring. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/sandbox.h>
#include <jpt/task.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static const char *put(const char *name, const char *text) {
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    jpt_error err = {0};
    if (jpt_file_write(path, text, strlen(text), &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return path;
}

static void refused(const char *path, jpt_status want, const char *word1, const char *word2) {
    jpt_task *t = NULL;
    jpt_error err = {0};
    assert_int_equal(jpt_task_open(path, &t, &err), want);
    assert_null(t);
    if (!strstr(err.msg, word1) || !strstr(err.msg, word2))
        fail_msg("'%s' lacks '%s' or '%s'", err.msg, word1, word2);
}

static jpt_task *open_task(const char *name) {
    jpt_task *t = NULL;
    jpt_error err = {0};
    if (jpt_task_open(name, &t, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return t;
}

#define YAML "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a} and {{b}}: {b}\"\nchat: true\nstop: [\"\\n\", END]\nmetrics: [chrf, chrf++, bleu]\nmax_new_tokens: 9\n"

static void yaml_is_read(void **state) {
    (void)state;
    put("i.jsonl", "{\"a\": \"x\", \"b\": \"y {a}\", \"reference\": [\"r1\", \"r2\"], \"id\": \"one\"}\n\n{\"a\": \"\\u00e9\", \"b\": \"\", \"reference\": \"r\"}");
    jpt_task            *t = open_task(put("t.yaml", YAML));
    const jpt_task_info *i = jpt_task_get_info(t);
    assert_string_equal(i->name, "t");
    assert_null(i->system);
    assert_true(i->chat);
    assert_int_equal(i->n_stop, 2);
    assert_string_equal(i->stop[0], "\n");
    assert_string_equal(i->stop[1], "END");
    assert_int_equal(i->max_new_tokens, 9);
    assert_int_equal(i->min_new_tokens, 0);
    assert_int_equal(i->n_items, 2);
    assert_string_equal(i->primary_metric, "chrf");
    assert_true(i->higher_is_better);
    assert_int_equal(strlen(i->sha256), 64);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "x and {b}: y {a}"); /* what is filled in is not a template */
    assert_string_equal(jpt_task_get_item(t, 0)->id, "one");
    assert_int_equal(jpt_task_get_item(t, 0)->n_references, 2);
    assert_string_equal(jpt_task_get_item(t, 1)->prompt, "\xc3\xa9 and {b}: ");
    assert_string_equal(jpt_task_get_item(t, 1)->id, "1");
    assert_null(jpt_task_get_item(t, 2));
    assert_int_equal(jpt_task_check(t, NULL), JPT_OK);
    char before[65];
    snprintf(before, sizeof before, "%s", i->sha256);
    jpt_task_close(t);
    put("i.jsonl", "{\"a\": \"x\", \"b\": \"z\", \"reference\": \"r\"}\n");
    char path[300];
    snprintf(path, sizeof path, "%s/t.yaml", folder);
    t = open_task(path);
    assert_string_not_equal(before, jpt_task_get_info(t)->sha256);
    jpt_task_close(t);
}

static void yaml_is_refused(void **state) {
    (void)state;
    put("i.jsonl", "{\"a\": \"x\", \"b\": \"y\", \"reference\": \"r\"}\n");
    refused(put("bad.yaml", "name: t\nflavour: 3\n"), JPT_FORMAT, "flavour", "line ");
    refused(put("bad.yaml", "name: [t\n"), JPT_FORMAT, "bad.yaml", "");
    refused(put("bad.yaml", ""), JPT_FORMAT, "bad.yaml", "");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a}\"\nchat: true\nmetrics: [chrf]\nmax_new_tokens: nine\n"), JPT_FORMAT, "max_new_tokens", "line 8");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a}\"\nchat: true\nmetrics: [chfr]\nmax_new_tokens: 9\n"), JPT_FORMAT, "chfr", "did you mean 'chrf'");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a}\"\nchat: true\nmetrics: [chrf]\nmax_new_tokens: 0\n"), JPT_FORMAT, "max_new_tokens 0", "bad.yaml");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{c}\"\nchat: true\nmetrics: [chrf]\nmax_new_tokens: 5\n"), JPT_FORMAT, "i.jsonl:1", "\"c\"");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a\"\nchat: true\nmetrics: [chrf]\nmax_new_tokens: 5\n"), JPT_FORMAT, "template", "'{'");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: none.jsonl\nprompt: \"{a}\"\nchat: true\nmetrics: [chrf]\nmax_new_tokens: 5\n"), JPT_IO, "none.jsonl", "");
    refused(put("bad.yaml", "name: t\ndescription: d\nlicense: l\nitems: i.jsonl\nprompt: \"{a}\"\nchat: true\nmetrics: [passed]\nmax_new_tokens: 5\n"), JPT_FORMAT, "tests", "i.jsonl:1");
}

static void json_lines(void **state) {
    (void)state;
    jpt_task *t = open_task(put("mine.jsonl", "{\"prompt\": \"Say {x}\", \"reference\": \"a text\"}\r\n"));
    assert_string_equal(jpt_task_get_info(t)->name, "mine");
    assert_string_equal(jpt_task_get_info(t)->primary_metric, "chrf");
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "Say {x}"); /* a user's text is no template */
    jpt_task_close(t);
    t = open_task(put("mine.jsonl", "{\"prompt\": \"p\", \"reference\": \"1,200\"}\n{\"prompt\": \"q\", \"reference\": \"3*5=15\\n#### 15\"}\n"));
    assert_string_equal(jpt_task_get_info(t)->primary_metric, "exact_match");
    jpt_task_close(t);
    t = open_task(put("mine.jsonl", "{\"prompt\": \"p\"}\n"));
    assert_string_equal(jpt_task_get_info(t)->primary_metric, "diversity");
    jpt_task_close(t);
    t = open_task(put("mine.jsonl", "{\"prompt\": \"p\", \"tests\": \"assert f(1)\", \"entry_point\": \"f\"}\n"));
    assert_string_equal(jpt_task_get_info(t)->primary_metric, "passed");
    assert_int_equal(jpt_task_check(t, NULL), jpt_sandbox_probe(NULL));
    jpt_task_close(t);
    refused(put("bad.jsonl", "{\"prompt\": \"p\"}\n{\"prompt\": \n"), JPT_FORMAT, "bad.jsonl:2", "");
    refused(put("bad.jsonl", "{\"prompt\": \"p\"}\n\n[1]\n"), JPT_FORMAT, "bad.jsonl:3", "object");
    refused(put("bad.jsonl", "{\"question\": \"p\"}\n"), JPT_FORMAT, "bad.jsonl:1", "\"prompt\"");
    refused(put("bad.jsonl", "{\"prompt\": \"\"}\n"), JPT_FORMAT, "bad.jsonl:1", "empty");
    refused(put("bad.jsonl", "{\"prompt\": \"p\", \"reference\": {}}\n"), JPT_FORMAT, "bad.jsonl:1", "reference");
    jpt_task *numbers = open_task(put("numbers.jsonl", "{\"prompt\": \"p\", \"reference\": 3}\n{\"prompt\": \"q\", \"reference\": [2.5, \"two\"]}\n"));
    assert_string_equal(jpt_task_get_item(numbers, 0)->references[0], "3");
    assert_string_equal(jpt_task_get_item(numbers, 1)->references[0], "2.5");
    jpt_task_close(numbers);
    refused(put("bad.jsonl", "\n\n"), JPT_FORMAT, "bad.jsonl", "no item");
    refused(put("bad.jsonl", "{\"prompt\": \"\xff\"}\n"), JPT_FORMAT, "bad.jsonl:1", "");
    refused("/nonexistent/x.jsonl", JPT_IO, "/nonexistent/x.jsonl", "");
}

static void names(void **state) {
    (void)state;
    char **list = NULL;
    size_t n = 0;
    int    seen = 0;
    setenv("JPT_TASKS", JPT_SOURCE_DIR "/tasks", 1);
    assert_int_equal(jpt_task_list(&list, &n, NULL), JPT_OK);
    for (size_t i = 0; i < n; i++)
        seen += strncmp(list[i], "demo-", 5) == 0;
    assert_true(seen >= 4);
    jpt_task_list_free(list, n);
    refused("demo-meth", JPT_NOT_FOUND, "demo-meth", "did you mean 'demo-math'");
    static const struct {
        const char *name, *primary;
        size_t      n;
    } demo[] = {{"demo-translation", "chrf", 16}, {"demo-math", "exact_match", 16}, {"demo-coding", "passed", 12}, {"demo-open", "diversity", 16}};
    for (size_t i = 0; i < 4; i++) {
        jpt_task *t = open_task(demo[i].name);
        assert_int_equal(jpt_task_get_info(t)->n_items, demo[i].n);
        assert_string_equal(jpt_task_get_info(t)->primary_metric, demo[i].primary);
        assert_non_null(strstr(jpt_task_get_info(t)->license, "CC0"));
        jpt_task_close(t);
    }
}

static double value(const jpt_task_score *s, int32_t n, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (strcmp(s[i].name, name) == 0)
            return s[i].value;
    fail_msg("no metric '%s'", name);
    return NAN;
}

static void scores(void **state) {
    (void)state;
    put("i.jsonl", "{\"a\": \"1\", \"b\": \"\", \"reference\": \"The cat is sitting on the mat.\"}\n{\"a\": \"2\", \"b\": \"\", \"reference\": \"A dog is in the garden.\"}\n"
                   "{\"a\": \"3\", \"b\": \"\", \"reference\": \"It costs 3.50 euros, not 4.\"}\n{\"a\": \"4\", \"b\": \"\", \"reference\": \"Empty here\"}\n{\"a\": \"5\", \"b\": \"\", \"reference\": \"Hello there\"}\n");
    jpt_task      *t = open_task(put("t.yaml", YAML));
    const jpt_str  text[5] = {jpt_str_z("The cat sat on the mat."), jpt_str_z("There is a dog, in the garden!"), jpt_str_z("It costs 3.50 euros - not 4."), jpt_str_z(""), jpt_str_z("Hello")};
    const int32_t  item[5] = {0, 1, 2, 3, 4};
    jpt_task_score each[5][JPT_TASK_SCORES_MAX], flat[15], all[JPT_TASK_CELL_SCORES_MAX];
    int32_t        n = 0;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(jpt_task_score_item(t, (size_t)i, text[i], each[i], &n, NULL), JPT_OK);
        assert_int_equal(n, 3);
        memcpy(flat + 3 * i, each[i], 3 * sizeof *flat);
    }
    assert_true(fabs(value(each[0], 3, "bleu") - 42.383656) < 1e-6); /* sacreBLEU 2.6 */
    assert_true(fabs(value(each[0], 3, "chrf++") - 54.255186) < 1e-6);
    assert_true(value(each[3], 3, "chrf") == 0);
    assert_int_equal(jpt_task_score_all(t, item, text, flat, 3, 5, all, &n, NULL), JPT_OK);
    assert_int_equal(n, 3);
    assert_true(fabs(value(all, 3, "bleu") - 33.6672433094) < 1e-9);
    assert_true(fabs(value(all, 3, "chrf") - 55.5578495947) < 1e-9);
    assert_true(fabs(value(all, 3, "chrf++") - 56.9260349054) < 1e-9);
    for (int i = 0; i < 3; i++)
        assert_true(all[i].n == 5 && all[i].ci_low < all[i].value && all[i].value < all[i].ci_high);
    assert_int_equal(jpt_task_score_all(t, NULL, NULL, NULL, 0, 0, all, &n, NULL), JPT_OK); /* the names alone */
    assert_string_equal(all[0].name, "chrf");
    jpt_task_close(t);

    t = open_task(put("mine.jsonl", "{\"prompt\": \"p\", \"reference\": \"1,200\"}\n"));
    jpt_task_score s[JPT_TASK_SCORES_MAX];
    assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z("5 * 240 = $1200."), s, &n, NULL), JPT_OK);
    assert_true(value(s, n, "exact_match") == 1);
    assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z("1200, or rather 1201"), s, &n, NULL), JPT_OK);
    assert_true(value(s, n, "exact_match") == 0);
    assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z(""), s, &n, NULL), JPT_OK);
    assert_true(value(s, n, "exact_match") == 0 && isnan(value(s, n, "diversity")));
    jpt_task_close(t);
}

/* Right and wrong answers to every coding item: the tests of the task tell them apart. */
static void coding(void **state) {
    (void)state;
    if (jpt_sandbox_probe(NULL) != JPT_OK) {
        print_message("no sandbox here: the coding task is not scored\n");
        skip();
    }
    static const char *const body[12] = {
        "def add(a, b):\n    return a + b", "def is_even(n):\n    return n % 2 == 0", "def largest(numbers):\n    return max(numbers)", "def reverse_text(text):\n    return text[::-1]",
        "def count_vowels(text):\n    return sum(c in 'aeiou' for c in text)", "def square(x):\n    return x * x", "def first_word(sentence):\n    return sentence.split()[0]",
        "def total(numbers):\n    return sum(numbers)", "def absolute(x):\n    return abs(x)", "def double_all(numbers):\n    return [2 * n for n in numbers]", "def to_upper(text):\n    return text.upper()",
        "def factorial(n):\n    return 1 if n == 0 else n * factorial(n - 1)"};
    jpt_task      *t = open_task(JPT_SOURCE_DIR "/tasks/demo-coding.yaml");
    jpt_task_score s[JPT_TASK_SCORES_MAX];
    int32_t        n;
    for (size_t i = 0; i < 12; i++) {
        char text[400];
        snprintf(text, sizeof text, "Here it is:\n\n```python\n%s\n```\nDone.", body[i]);
        assert_int_equal(jpt_task_score_item(t, i, jpt_str_z(text), s, &n, NULL), JPT_OK);
        if (value(s, n, "passed") != 1)
            fail_msg("%s: a right answer fails", jpt_task_get_item(t, i)->id);
        snprintf(text, sizeof text, "%.*s    return None\n", (int)(strchr(body[i], '\n') - body[i] + 1), body[i]);
        assert_int_equal(jpt_task_score_item(t, i, jpt_str_z(text), s, &n, NULL), JPT_OK);
        assert_true(value(s, n, "passed") == 0);
    }
    static const char *const wrong[] = {"", "```python\nimport sys\nsys.exit(0)\n```", "```", "I cannot write code.", "```python\ndef add(a, b):\n    return a - b\n```", "```python\nwhile True: print(1)\n```",
                                        "import os\nos._exit(0)", "print('all tests passed')\nraise SystemExit(0)"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z(wrong[i]), s, &n, NULL), JPT_OK);
        if (value(s, n, "passed") != 0)
            fail_msg("passes: %s", wrong[i]);
    }
    jpt_task_close(t);
}

int main(void) {
    snprintf(folder, sizeof folder, "/tmp/jpt-task-XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(yaml_is_read), cmocka_unit_test(yaml_is_refused), cmocka_unit_test(json_lines),
                                       cmocka_unit_test(names), cmocka_unit_test(scores), cmocka_unit_test(coding)};
    int                     bad = cmocka_run_group_tests(tests, NULL, NULL);
    for (const char *const *name = (const char *const[]){"i.jsonl", "t.yaml", "bad.yaml", "mine.jsonl", "bad.jsonl", NULL}; *name; name++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", folder, *name);
        unlink(path);
    }
    rmdir(folder);
    return bad;
}
