/* What a task's YAML can say: templates, examples, parallel texts, programs, forms of the study; and what its data can have wrong. */
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
#include <sys/stat.h>
#include <task/task_priv.h>
#include <unistd.h>

static char folder[64];

static const char *at(const char *name) {
    static char path[4][300];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", folder, name);
    return path[k];
}

static const char *put(const char *name, const char *text) {
    jpt_error err = {0};
    if (jpt_file_write(at(name), text, strlen(text), &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return at(name);
}

/* A task's YAML with these lines more. */
static const char *form(const char *lines) {
    char text[4000];
    snprintf(text, sizeof text, "name: t\ndescription: d\nchat: true\nmax_new_tokens: 9\n%s", lines);
    return put("t.yaml", text);
}

static jpt_task *open_as(const char *path, const jpt_task_options *o) {
    jpt_task *t = NULL;
    jpt_error err = {0};
    if (jpt_task_open_with(path, o, &t, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void refused(const char *path, jpt_status want, const char *text) {
    jpt_task *t = NULL;
    jpt_error err = {0};
    assert_int_equal(jpt_task_open(path, &t, &err), want);
    assert_null(t);
    if (!strstr(err.msg, text) || strchr(err.msg, '\n'))
        fail_msg("'%s' lacks '%s'", err.msg, text);
}

static void python_random(void **state) {
    (void)state;
    /* CPython 3.11: random.Random(seed).sample(range(n), k), again and again */
    static const size_t first[5] = {6374, 3610, 957, 61, 742}, second[5] = {7462, 6610, 4769, 286, 5501}, last[5] = {220, 4179, 6064, 5599, 5541};
    static const size_t small[5] = {12, 13, 1, 8, 15}, eight[8] = {12, 25, 26, 9, 15, 11, 18, 6}, all[5] = {4, 1, 3, 0, 2}, other[5] = {327, 57, 12, 379, 140};
    task_random r;
    size_t      got[8];
    task_random_seed(&r, 1234);
    for (int i = 0; i < 1319; i++) {
        task_random_sample(&r, 7473, 5, got);
        if (i < 2)
            assert_memory_equal(got, i ? second : first, sizeof first);
    }
    assert_memory_equal(got, last, sizeof last);
    task_random_seed(&r, 0); /* small populations take CPython's other way */
    task_random_sample(&r, 20, 5, got);
    assert_memory_equal(got, small, sizeof small);
    task_random_sample(&r, 30, 8, got);
    assert_memory_equal(got, eight, sizeof eight);
    task_random_sample(&r, 5, 5, got);
    assert_memory_equal(got, all, sizeof all);
    task_random_seed(&r, 42);
    task_random_sample(&r, 500, 5, got);
    assert_memory_equal(got, other, sizeof other);
}

static void templates(void **state) {
    (void)state;
    put("i.jsonl", "{\"n\": 7, \"l\": [\"a\", \"b\"], \"s\": \" x\\r\\ny\\n\", \"whole\": \"Once \\u00fcpon a time\", \"start\": \"Once \\u00fc\", \"e\": []}\n");
    jpt_task *t = open_as(form("license: l\nitems: i.jsonl\nid: \"no-{n}\"\nprompt: \"{n}/{l}/{l[1]}/{s|strip}/{s|lf|strip}/{e}/{{n}}\"\nreference: \"{whole|after:start}\"\nmetrics: [chrf]\n"), NULL);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "7/a\nb/b/x\r\ny/x\ny//{n}");
    assert_string_equal(jpt_task_get_item(t, 0)->references[0], "pon a time");
    assert_string_equal(jpt_task_get_item(t, 0)->id, "no-7");
    jpt_task_close(t);
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{x}\"\nmetrics: [words]\n"), JPT_FORMAT, "i.jsonl:1: the task needs the field \"x\"");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{l[zz]}\"\nmetrics: [words]\n"), JPT_FORMAT, "{l[zz]}: expected a number");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{l[2]}\"\nmetrics: [words]\n"), JPT_FORMAT, "\"l[2]\"");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{s|trim}\"\nmetrics: [words]\n"), JPT_FORMAT, "the filter 'trim'");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{s|after:x}\"\nmetrics: [words]\n"), JPT_FORMAT, "\"x\"");
    refused(form("prompt: \"{s}\"\nitems: i.jsonl\nmetrics: [words]\n"), JPT_FORMAT, "needs 'license', or 'dataset'");
    refused(form("license: l\nprompt: \"{s}\"\nmetrics: [words]\n"), JPT_ARG, "-t t=FILE.jsonl");
    refused(form("dataset: gsm9k\nprompt: \"{s}\"\nmetrics: [words]\n"), JPT_FORMAT, "did you mean 'gsm8k'?");
    refused(put("flase.yaml", "name: t\ndescription: d\nchat: flase\nmax_new_tokens: 9\nlicense: l\nitems: i.jsonl\nprompt: \"{n}\"\nmetrics: [words]\n"), JPT_FORMAT, "Invalid ENUM value: flase; in mapping field 'chat'");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{n}\"\nmetrics: [words, chrf, words]\n"), JPT_FORMAT, "metrics: 'words' is there twice");
    put("words.jsonl", "{\"n\": 1, \"reference\": \"#### 12\"}\n{\"n\": 2, \"reference\": \"yes\"}\n");
    refused(form("license: l\nitems: words.jsonl\nprompt: \"{n}\"\nmetrics: [gsm8k_flexible]\n"), JPT_FORMAT, "words.jsonl:2: the reference holds no number");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{n}\"\nstop: [\"\"]\nmetrics: [words]\n"), JPT_FORMAT, "STRING length < 1");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{n}\"\nextract: fenced\nmetrics: [words]\n"), JPT_FORMAT, "extract: 'fenced'");
    refused(form("license: l\nitems: i.jsonl\nprompt: \"{n}\"\nprogram: \"{n}\"\nmetrics: [words]\n"), JPT_FORMAT, "must hold {answer}");
}

static void examples(void **state) {
    (void)state;
    put("pool.jsonl", "{\"q\": \"1+1\", \"a\": 2}\n{\"q\": \"2+2\", \"a\": 4}\n{\"q\": \"3+3\", \"a\": 6}\n");
    put("i.jsonl", "{\"q\": \"4+4\"}\n{\"q\": \"5+5\"}\n");
    put("prefix.txt", "Sums.\n\n");
    jpt_task *t = open_as(form("license: l\nitems: i.jsonl\nprefix: prefix.txt\nshots:\n  items: pool.jsonl\n  n: 2\n  draw: first\n  template: \"{q}={a}\\n\"\nprompt: \"{q}=\"\nmetrics: [words]\n"), NULL);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "Sums.\n\n1+1=2\n2+2=4\n4+4=");
    assert_string_equal(jpt_task_get_item(t, 1)->prompt, "Sums.\n\n1+1=2\n2+2=4\n5+5=");
    jpt_task_close(t);
    /* random.Random(3): sample(range(3), 2) is [0, 2], then [1, 2] */
    t = open_as(form("license: l\nitems: i.jsonl\nshots:\n  items: pool.jsonl\n  n: 2\n  draw: python-random\n  seed: 3\n  template: \"{q}={a}\\n\"\nprompt: \"{q}=\"\nmetrics: [words]\n"), NULL);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "1+1=2\n3+3=6\n4+4=");
    assert_string_equal(jpt_task_get_item(t, 1)->prompt, "2+2=4\n3+3=6\n5+5=");
    char before[65];
    snprintf(before, sizeof before, "%s", jpt_task_get_info(t)->sha256);
    jpt_task_close(t);
    put("pool.jsonl", "{\"q\": \"1+1\", \"a\": 2}\n{\"q\": \"2+2\", \"a\": 4}\n{\"q\": \"3+3\", \"a\": 7}\n");
    t = open_as(at("t.yaml"), NULL);
    assert_string_not_equal(before, jpt_task_get_info(t)->sha256); /* the examples are part of what is asked */
    jpt_task_close(t);
    refused(form("license: l\nitems: i.jsonl\nshots:\n  items: pool.jsonl\n  n: 4\n  draw: first\n  template: \"{q}\"\nprompt: \"{q}\"\nmetrics: [words]\n"), JPT_FORMAT, "pool.jsonl: has 3 examples, 4 are to be drawn");
    refused(form("license: l\nitems: i.jsonl\nshots:\n  items: pool.jsonl\n  n: 1\n  draw: anyhow\n  template: \"{q}\"\nprompt: \"{q}\"\nmetrics: [words]\n"), JPT_FORMAT, "draw: 'anyhow'");
    refused(form("license: l\nitems: i.jsonl\nshots:\n  items: pool.jsonl\n  n: 0\n  draw: first\n  template: \"{q}\"\nprompt: \"{q}\"\nmetrics: [words]\n"), JPT_FORMAT, "n 0: expected 1 to 64");
}

/* The harness's task as it is, over a made-up GSM8K of the real one's size: all prompts are those of its own sampler
 * (tools/golden/gsm8k_harness.py). */
static void harness_draws(void **state) {
    (void)state;
    jpt_buf    yaml = {0}, all = {0};
    jpt_sha256 h;
    char       sha[65];
    assert_int_equal(jpt_file_read(JPT_SOURCE_DIR "/tasks/gsm8k-5shot-harness.yaml", &yaml, NULL), JPT_OK);
    char *line = strstr(yaml.p, "dataset: gsm8k-train");
    assert_non_null(line);
    memcpy(line, "license: of nobody..", 20);
    put("harness.yaml", yaml.p);
    for (int test = 0; test < 2; test++) {
        jpt_buf_reset(&all);
        for (int i = 0; i < (test ? 1319 : 7473); i++)
            if (test)
                jpt_buf_printf(&all, "{\"question\": \"test %d?\", \"answer\": \"#### %d\"}\n", i, i);
            else
                jpt_buf_printf(&all, "{\"question\": \"train %d?\", \"answer\": \"%d so\\n#### %d\"}\n", i, i * i, i);
        assert_int_equal(jpt_mkdirs(at("gsm8k"), NULL), JPT_OK);
        put(test ? "gsm8k/test.jsonl" : "gsm8k/train.jsonl", all.p);
    }
    jpt_task *t = open_as(at("harness.yaml"), NULL);
    jpt_sha256_init(&h);
    assert_int_equal(jpt_task_get_info(t)->n_items, 1319);
    for (size_t i = 0; i < 1319; i++) {
        const char *p = jpt_task_get_item(t, i)->prompt;
        jpt_sha256_update(&h, p, strlen(p));
        jpt_sha256_update(&h, "\n", 1);
    }
    jpt_sha256_final(&h, sha);
    assert_string_equal(sha, "a821ac4e5f5b2a6c5d01d26fc1f009cbe6f636636b95435248341ef2e59b525b");
    jpt_task_close(t);
    jpt_buf_fini(&yaml);
    jpt_buf_fini(&all);
}

static void parallel_texts(void **state) {
    (void)state;
    put("s.de", "eins\r\nzwei\n");
    put("a.en", "one\ntwo\n");
    put("b.en", "1\n2\n");
    const char *yaml = "license: l\nparallel:\n  source: s.de\n  references: [a.en, b.en]\nprompt: \"{source}\"\nmetrics: [chrf]\n";
    jpt_task   *t = open_as(form(yaml), NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 2);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "eins");
    assert_int_equal(jpt_task_get_item(t, 1)->n_references, 2);
    assert_string_equal(jpt_task_get_item(t, 1)->references[0], "two");
    assert_string_equal(jpt_task_get_item(t, 1)->references[1], "2");
    jpt_task_close(t);
    put("b.en", "1\n2\n3\n");
    refused(at("t.yaml"), JPT_FORMAT, "b.en has 3: they must belong together line by line");
    put("b.en", "1\n\xff\n");
    refused(at("t.yaml"), JPT_FORMAT, "b.en:2: not valid UTF-8 at byte 0");
    put("b.en", "");
    refused(at("t.yaml"), JPT_FORMAT, "b.en: holds no item");
    refused(form("license: l\nitems: s.de\nparallel:\n  source: s.de\n  references: [a.en]\nprompt: \"{source}\"\nmetrics: [chrf]\n"), JPT_FORMAT, "exclude each other");
}

static void broken_data(void **state) {
    (void)state;
    const char *yaml = "license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [words]\n";
    put("i.jsonl", "");
    refused(form(yaml), JPT_FORMAT, "i.jsonl: holds no item");
    put("i.jsonl", "{\"q\": \"a\"}\n{\"q\": \"b"); /* half a download of a user's */
    refused(at("t.yaml"), JPT_FORMAT, "i.jsonl:2: ");
    put("i.jsonl", "{\"q\": \"a\"}\n{\"q\": \"\xc3\x28\"}\n");
    refused(at("t.yaml"), JPT_FORMAT, "i.jsonl:2: not valid UTF-8 at byte 7");
    put("i.jsonl", "{\"q\": \"a\"}\n{\"q\": \"b\", \"q\": \"c\"}\n");
    refused(at("t.yaml"), JPT_FORMAT, "i.jsonl:2: duplicate object key");
    jpt_buf b = {0};
    jpt_buf_addz(&b, "{\"q\": \"a\"}\n{\"q\": \"");
    for (int i = 0; i < 17; i++) {
        assert_true(jpt_buf_reserve(&b, 1 << 20));
        memset(b.p + b.n, 'x', 1 << 20);
        b.n += 1 << 20;
    }
    b.p[b.n] = '\0';
    jpt_buf_addz(&b, "\"}\n");
    assert_int_equal(jpt_file_write(at("i.jsonl"), b.p, b.n, NULL), JPT_OK);
    jpt_buf_fini(&b);
    refused(at("t.yaml"), JPT_FORMAT, "i.jsonl:2: the line has 17825801 bytes");
    put("i.json", "[{\"q\": \"a\"}, 3]");
    refused(form("license: l\nitems: i.json\nprompt: \"{q}\"\nmetrics: [words]\n"), JPT_FORMAT, "i.json: entry 2 is no JSON object");
    put("i.json", "[{\"q\": \"a\"},\n{\"q\": ");
    refused(at("t.yaml"), JPT_FORMAT, "i.json:2: ");
    put("i.json", "[{\"q\": \"a\"}, {\"q\": \"b\"}]");
    jpt_task *t = open_as(at("t.yaml"), NULL);
    assert_int_equal(jpt_task_get_info(t)->n_items, 2);
    jpt_task_close(t);
    put("i.txt", "a\n\nb\n"); /* lines of text: an empty one is an item, whose prompt would be empty */
    refused(form("license: l\nitems: i.txt\nprompt: \"{text}\"\nmetrics: [words]\n"), JPT_FORMAT, "i.txt:2: the prompt is empty");
    /* a public data set with other bytes than pinned */
    mkdir(at("wikinews"), 0777);
    put("wikinews/prompts500.jsonl", "{\"instructions\": \"a\", \"gold_ref\": \"a b\"}\n");
    setenv("JPT_DATA", folder, 1);
    refused("wikinews-500", JPT_FORMAT, "half a download? jpt pull wikinews --force");
    setenv("JPT_DATA", "/nonexistent", 1);
    refused("wikinews-500", JPT_NOT_FOUND, "jpt pull wikinews");
    unsetenv("JPT_DATA");
    t = open_as("wikinews-500", &(jpt_task_options){.header_only = true});
    assert_string_equal(jpt_task_get_info(t)->dataset, "wikinews");
    assert_string_equal(jpt_task_get_info(t)->license, "CC BY 2.5");
    assert_non_null(strstr(jpt_task_get_info(t)->citation, "Li et al. 2023"));
    assert_int_equal(jpt_task_get_info(t)->n_items, 0);
    jpt_task_close(t);
}

static void own_items(void **state) {
    (void)state;
    char name[400];
    put("docs.jsonl", "{\"document\": \"Long.\", \"reference\": \"Short.\"}\n");
    snprintf(name, sizeof name, "summarization=%s", at("docs.jsonl"));
    jpt_task *t = open_as(name, NULL);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "Summarise this text in one sentence.\n\nLong.");
    assert_string_equal(jpt_task_get_item(t, 0)->references[0], "Short.");
    jpt_task_close(t);
    put("mine.jsonl", "{\"id\": \"x\", \"instructions\": \"a\", \"gold_ref\": \"a b\"}\n");
    snprintf(name, sizeof name, "wikinews-500=%s", at("mine.jsonl")); /* without the public items */
    t = open_as(name, NULL);
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, "a");
    assert_string_equal(jpt_task_get_item(t, 0)->id, "x");
    assert_null(strstr(jpt_task_get_info(t)->license, "CC BY"));
    jpt_task_close(t);
    put("mine.jsonl", "{\"prompt\": \"a\"}\n");
    refused(name, JPT_FORMAT, "mine.jsonl:1: the task needs the field \"instructions\"");
    refused("wikinews-500=/nonexistent.jsonl", JPT_IO, "/nonexistent.jsonl");
}

static void study_forms(void **state) {
    (void)state;
    const jpt_task_options paper = {.compat = "paper"}, other = {.compat = "book"};
    jpt_task              *t = open_as("demo-math", &paper), *plain = open_as("demo-math", NULL);
    jpt_error              err = {0};
    assert_false(jpt_task_get_info(t)->chat);
    assert_int_equal(jpt_task_get_info(t)->max_new_tokens, 256);
    assert_string_equal(jpt_task_get_info(t)->stop[jpt_task_get_info(t)->n_stop - 1], "<|im_end|>");
    assert_string_equal(jpt_task_get_item(t, 0)->prompt, jpt_task_get_item(plain, 0)->prompt);
    assert_string_not_equal(jpt_task_get_info(t)->sha256, jpt_task_get_info(plain)->sha256);
    jpt_task_close(t);
    jpt_task_close(plain);
    t = open_as("wikitext", &(jpt_task_options){.compat = "paper", .header_only = true}); /* the form that its YAML names */
    assert_string_equal(jpt_task_get_info(t)->name, "wikitext-paper");
    assert_int_equal(jpt_task_get_info(t)->max_total_tokens, 270);
    jpt_task_close(t);
    t = NULL;
    assert_int_equal(jpt_task_open_with("demo-math", &other, &t, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "only 'paper' is known"));
    t = open_as(put("u.jsonl", "{\"prompt\": \"p\", \"reference\": \"r\"}\n"), &paper);
    assert_false(jpt_task_get_info(t)->chat);
    jpt_task_close(t);
}

static double value(const jpt_task_score *s, int32_t n, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (strcmp(s[i].name, name) == 0)
            return s[i].value;
    fail_msg("no metric '%s'", name);
    return NAN;
}

static void near(double got, double want, double eps) {
    if (!(fabs(got - want) <= eps))
        fail_msg("%.9g, expected %.9g", got, want);
}

/* Names reach the functions they mean; the numbers are the references' (sacreBLEU 2.6, rouge-score, CodeXGLUE, lm-evaluation-harness). */
static void metrics_by_name(void **state) {
    (void)state;
    put("i.jsonl", "{\"q\": \"1\", \"reference\": \"The cat is sitting on the mat.\"}\n{\"q\": \"2\", \"reference\": \"A dog is in the garden.\"}\n"
                   "{\"q\": \"3\", \"reference\": \"It costs 3.50 euros, not 4.\"}\n{\"q\": \"4\", \"reference\": \"Empty here\"}\n{\"q\": \"5\", \"reference\": \"Hello there\"}\n");
    jpt_task      *t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [ter, bleu, chrf++, self_bleu, rouge1, words]\n"), NULL);
    const jpt_str  text[5] = {jpt_str_z("The cat sat on the mat."), jpt_str_z("There is a dog, in the garden!"), jpt_str_z("It costs 3.50 euros - not 4."), jpt_str_z(""), jpt_str_z("Hello")};
    const int32_t  item[5] = {0, 1, 2, 3, 4};
    jpt_task_score each[5][JPT_TASK_SCORES_MAX], flat[30], all[JPT_TASK_CELL_SCORES_MAX];
    int32_t        n = 0;
    assert_false(jpt_task_get_info(t)->higher_is_better); /* of TER less is better */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(jpt_task_score_item(t, (size_t)i, text[i], each[i], &n, NULL), JPT_OK);
        assert_int_equal(n, 6);
        memcpy(flat + 6 * i, each[i], 6 * sizeof *flat);
    }
    near(value(each[0], n, "ter"), 28.571429, 1e-6);
    near(value(each[4], n, "bleu"), 36.787944, 1e-6);
    assert_true(isnan(value(each[0], n, "self_bleu")));
    assert_int_equal(jpt_task_score_all(t, item, text, flat, 6, 5, all, &n, NULL), JPT_OK);
    near(value(all, n, "ter"), 47.8260869565, 1e-9);
    near(value(all, n, "bleu"), 33.6672433094, 1e-9);
    near(value(all, n, "chrf++"), 56.9260349054, 1e-9);
    assert_true(value(all, n, "self_bleu") >= 0 && isnan(all[3].ci_low) && all[0].ci_low < all[0].value && all[0].value < all[0].ci_high);
    /* the same texts in two blocks more are no evidence more: equal scores, equal intervals */
    jpt_str        texts[15];
    int32_t        items[15];
    jpt_task_score flats[90], thrice[JPT_TASK_CELL_SCORES_MAX];
    for (int i = 0; i < 15; i++) {
        texts[i] = text[i % 5], items[i] = item[i % 5];
        memcpy(flats + 6 * i, flat + 6 * (i % 5), 6 * sizeof *flat);
    }
    assert_int_equal(jpt_task_score_all(t, items, texts, flats, 6, 15, thrice, &n, NULL), JPT_OK);
    for (int i = 0; i < n; i++) {
        near(thrice[i].value, all[i].value, 1e-12);
        double slack = i == 1 ? 5 : 1e-9; /* BLEU's smoothing of no match knows the number of n-grams */
        assert_true(i == 3 || (fabs(thrice[i].ci_low - all[i].ci_low) < slack && fabs(thrice[i].ci_high - all[i].ci_high) < slack && thrice[i].n == 15));
    }
    assert_int_equal(jpt_task_score_all(t, items, texts, flats, 6, 1, thrice, &n, NULL), JPT_OK);
    assert_true(isnan(thrice[0].ci_low) && isnan(thrice[3].value)); /* one item says nothing of others */
    jpt_task_close(t);

    put("i.jsonl", "{\"q\": \"1\", \"reference\": \"Return the sum of two numbers .\"}\n");
    t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [smoothed_bleu_4, bleu_zh]\n"), NULL);
    assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z("Returns the sum of two numbers"), all, &n, NULL), JPT_OK);
    near(value(all, n, "smoothed_bleu_4"), 69.6474340414, 1e-6);
    jpt_task_close(t);

    put("i.jsonl", "{\"q\": \"1\", \"reference\": \"testing one\"}\n");
    t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [rouge1, rouge2, rougeL, rougeLsum]\n"), NULL);
    assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z("testing one two"), all, &n, NULL), JPT_OK);
    near(value(all, n, "rouge1"), 80, 1e-9);
    near(value(all, n, "rouge2"), 200.0 / 3, 1e-9);
    near(value(all, n, "rougeL"), 80, 1e-9);
    near(value(all, n, "rougeLsum"), 80, 1e-9);
    jpt_task_close(t);

    put("i.jsonl", "{\"q\": \"1\", \"reference\": \"3*5=<<3*5=15>>15 dollars.\\n#### 1,200\"}\n");
    t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [gsm8k_flexible, gsm8k_strict, gsm8k_cot, gsm8k_invalid, exact_match]\n"), NULL);
    static const struct {
        const char *text;
        double      flexible, strict, cot, invalid, exact;
    } gsm[] = {{"so it is\n#### 1200", 1, 1, 0, 0, 1}, {"The answer is 1,200. Then 7.", 0, 0, 1, 1, 0}, {"I get $1,200.", 1, 0, 0, 1, 1}, {"#### 1200 and #### 8", 0, 1, 0, 0, 0}, {"1200.00", 0, 0, 0, 1, 1}};
    for (size_t i = 0; i < sizeof gsm / sizeof *gsm; i++) {
        assert_int_equal(jpt_task_score_item(t, 0, jpt_str_z(gsm[i].text), all, &n, NULL), JPT_OK);
        near(value(all, n, "gsm8k_flexible"), gsm[i].flexible, 0);
        near(value(all, n, "gsm8k_strict"), gsm[i].strict, 0);
        near(value(all, n, "gsm8k_cot"), gsm[i].cot, 0);
        near(value(all, n, "gsm8k_invalid"), gsm[i].invalid, 0);
        near(value(all, n, "exact_match"), gsm[i].exact, 0);
    }
    jpt_task_close(t);
}

/* human_eval's estimator: of 10 programs 3 pass, of 11 none. */
static void pass_at_k(void **state) {
    (void)state;
    put("i.jsonl", "{\"q\": \"1\", \"tests\": \"t\"}\n{\"q\": \"2\", \"tests\": \"t\"}\n");
    jpt_task      *t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{q}\"\nmetrics: [passed, zipf]\n"), NULL);
    jpt_str        text[21];
    int32_t        item[21], n = 0;
    jpt_task_score each[42] = {0}, all[JPT_TASK_CELL_SCORES_MAX];
    for (int i = 0; i < 21; i++) {
        text[i] = jpt_str_z(i % 2 ? "a a b" : "a c");
        item[i] = i >= 10;
        each[2 * i].value = i == 2 || i == 5 || i == 9;
        each[2 * i + 1].value = NAN;
    }
    assert_int_equal(jpt_task_score_all(t, item, text, each, 2, 21, all, &n, NULL), JPT_OK);
    assert_int_equal(n, 5); /* passed, zipf, pass@2, @5, @10: one item has ten programs */
    near(value(all, n, "passed"), 3.0 / 21, 1e-12);
    near(value(all, n, "pass@2"), (1 - 7.0 * 6 / (10 * 9)) / 2, 1e-12);
    near(value(all, n, "pass@5"), .916666666667 / 2, 1e-12);
    near(value(all, n, "pass@10"), .5, 1e-12);
    assert_true(isfinite(value(all, n, "zipf")) && all[3].ci_low == 0 && all[3].n == 21);
    jpt_task_close(t);
}

static double passed(const jpt_task *t, const char *answer) {
    jpt_task_score s[JPT_TASK_SCORES_MAX];
    jpt_error      err = {0};
    int32_t        n = 0;
    if (jpt_task_score_item(t, 0, jpt_str_z(answer), s, &n, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return s[0].value;
}

static void programs(void **state) {
    (void)state;
    if (jpt_sandbox_probe(NULL) != JPT_OK) {
        print_message("no sandbox here\n");
        skip();
    }
    put("i.jsonl", "{\"start\": \"def f(x):\\n    'doc'\\n\", \"t\": \"def check(g):\\n    assert g(2) == 4\\n\", \"e\": \"f\"}\n");
    jpt_task *t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{start}\"\nprogram: \"{start}{answer}\\n{t}\\ncheck({e})\"\nextract: none\nmetrics: [passed]\n"), NULL);
    assert_true(passed(t, "    return x * 2\n") == 1);
    assert_true(passed(t, "    return x * 3\n") == 0);
    assert_true(passed(t, "```\n    return x * 2\n```") == 0);
    assert_true(passed(t, "") == 0);
    jpt_task_close(t);
    t = open_as(form("license: l\nitems: i.jsonl\nprompt: \"{start}\"\nprogram: \"{start}\\n{answer}\\n{t}\\ncheck({e})\"\nextract: code\nmetrics: [passed]\n"), NULL);
    assert_true(passed(t, "Sure:\n```python\ndef f(x):\n    return x + x\n```\nDone.") == 1);
    assert_true(passed(t, "Sure:\n```python\ndef f(x):\n    return x\n```\n") == 0);
    jpt_task_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(python_random), cmocka_unit_test(templates), cmocka_unit_test(examples), cmocka_unit_test(harness_draws), cmocka_unit_test(parallel_texts),
                                       cmocka_unit_test(broken_data), cmocka_unit_test(own_items), cmocka_unit_test(study_forms), cmocka_unit_test(pass_at_k), cmocka_unit_test(programs), cmocka_unit_test(metrics_by_name)};
    snprintf(folder, sizeof folder, "/tmp/jpt-forms-XXXXXX");
    if (!mkdtemp(folder))
        return 1;
    setenv("JPT_TASKS", JPT_SOURCE_DIR "/tasks", 1);
    setenv("JPT_HOME", "/nonexistent", 1);
    unsetenv("JPT_DATA");
    int  bad = cmocka_run_group_tests(tests, NULL, NULL);
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? bad : 1;
}
