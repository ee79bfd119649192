/* Data sets: the table's own consistency, fetching from a local server in every condition, making files from sources, pulling. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jpt/dataset.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <task/dataset_priv.h>
#include <unistd.h>
#include <zlib.h>

static char  folder[64], base[64];
static pid_t server;

static const char *in_folder(const char *name) {
    static char path[4][300];
    static int  k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", folder, name);
    return path[k];
}

static void put(const char *name, const void *p, size_t n) {
    jpt_error err = {0};
    if (jpt_file_write(in_folder(name), p, n, &err) != JPT_OK)
        fail_msg("%s", err.msg);
}

static void put_z(const char *name, const char *text) { put(name, text, strlen(text)); }

static void holds(const char *name, const void *p, size_t n) {
    jpt_buf b = {0};
    assert_int_equal(jpt_file_read(in_folder(name), &b, NULL), JPT_OK);
    assert_int_equal(b.n, n);
    assert_memory_equal(b.p, p, n);
    jpt_buf_fini(&b);
}

static int setup(void **state) {
    (void)state;
    int fd[2];
    snprintf(folder, sizeof folder, "/tmp/jpt-dataset-XXXXXX");
    if (!mkdtemp(folder) || pipe(fd) != 0)
        return -1;
    server = fork();
    if (server == 0) {
        dup2(fd[1], 1);
        execlp("python3", "python3", JPT_SOURCE_DIR "/tests/support/range_server.py", folder, NULL);
        _exit(127);
    }
    close(fd[1]);
    char    port[16] = "";
    ssize_t n = read(fd[0], port, sizeof port - 1);
    close(fd[0]);
    if (n < 2)
        return -1;
    snprintf(base, sizeof base, "http://127.0.0.1:%d", atoi(port));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[100];
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- the table ----------------------------------------------------------------------------------------------------- */

static void table(void **state) {
    (void)state;
    const char *before = "";
    assert_true(jpt_dataset_count() >= 10);
    for (size_t i = 0; i < jpt_dataset_count(); i++) {
        const jpt_dataset *d = jpt_dataset_at(i);
        assert_true(strcmp(before, d->name) < 0);
        before = d->name;
        assert_ptr_equal(jpt_dataset_find(d->name), d);
        assert_true(*d->description && *d->license && *d->citation && d->n_files > 0);
        for (size_t k = 0; k < d->n_files; k++) {
            const jpt_dataset_file *f = &d->file[k];
            assert_int_equal(strlen(f->sha256), 64);
            assert_true(f->bytes > 0 && strchr(f->path, '/'));
            assert_true(f->recipe == JPT_RECIPE_FOLDER ? !f->url : strncmp(f->url, "https://", 8) == 0);
            assert_true((f->recipe == JPT_RECIPE_HEAD) == (f->lines > 0));
            assert_true((f->recipe == JPT_RECIPE_JOIN) == (f->url2 != NULL));
        }
    }
    assert_null(jpt_dataset_at(jpt_dataset_count()));
    assert_null(jpt_dataset_find("gsm9k"));
    assert_string_equal(jpt_dataset_nearest("gsm9k"), "gsm8k");
}

/* ---- fetching ------------------------------------------------------------------------------------------------------ */

enum { SIZE = 300000 };
static char big[SIZE], big_sha[65];

static void make_big(void) {
    jpt_sha256 s;
    for (int i = 0; i < SIZE; i++)
        big[i] = (char)(i * 31 + i / 251);
    jpt_sha256_init(&s);
    jpt_sha256_update(&s, big, SIZE);
    jpt_sha256_final(&s, big_sha);
    put("big", big, SIZE);
}

static uint64_t seen;
static void on_progress(void *ud, uint64_t done, uint64_t total) {
    (void)ud;
    assert_true(total == 0 || done <= total);
    seen = done;
}

static jpt_status fetch(const char *where, uint64_t bytes, const char *sha, jpt_error *err) {
    char url[300];
    snprintf(url, sizeof url, "%s%s", base, where);
    *err = (jpt_error){0};
    seen = 0;
    jpt_fetch f = {.url = url, .path = in_folder("got"), .bytes = bytes, .sha256 = sha, .on_progress = on_progress};
    return jpt_fetch_file(&f, err);
}

static void refused(jpt_status st, jpt_status want, const jpt_error *err, const char *text) {
    assert_int_equal(st, want);
    if (!strstr(err->msg, text) || strchr(err->msg, '\n'))
        fail_msg("'%s' lacks '%s'", err->msg, text);
}

static bool last_request_has(const char *text) {
    jpt_buf b = {0};
    assert_int_equal(jpt_file_read(in_folder(".log"), &b, NULL), JPT_OK);
    b.p[b.n - 1] = '\0';
    bool has = strstr(strrchr(b.p, '\n') ? strrchr(b.p, '\n') : b.p, text) != NULL;
    jpt_buf_fini(&b);
    return has;
}

static void fetching(void **state) {
    (void)state;
    jpt_error err;
    make_big();
    /* complete */
    assert_int_equal(fetch("/big", SIZE, big_sha, &err), JPT_OK);
    assert_int_equal(seen, SIZE);
    holds("got", big, SIZE);
    assert_int_equal(access(in_folder("got.part"), F_OK), -1);
    unlink(in_folder("got"));
    /* cut off, then resumed where it stopped */
    refused(fetch("/cut/100000/big", SIZE, big_sha, &err), JPT_IO, &err, "cut off after 100000 bytes");
    assert_int_equal(access(in_folder("got"), F_OK), -1);
    holds("got.part", big, 100000);
    assert_int_equal(fetch("/big", SIZE, big_sha, &err), JPT_OK);
    assert_true(last_request_has("bytes=100000-"));
    holds("got", big, SIZE);
    unlink(in_folder("got"));
    /* resumed from a server that has no ranges: from the start */
    put("got.part", big, 5000);
    assert_int_equal(fetch("/norange/big", SIZE, big_sha, &err), JPT_OK);
    holds("got", big, SIZE);
    unlink(in_folder("got"));
    /* a partial file of something else: once more, from the start */
    put("got.part", "something else", 14);
    assert_int_equal(fetch("/big", SIZE, big_sha, &err), JPT_OK);
    assert_true(last_request_has(" -"));
    holds("got", big, SIZE);
    unlink(in_folder("got"));
    /* a partial file that is whole: nothing is fetched */
    put("got.part", big, SIZE);
    assert_int_equal(fetch("/404/big", SIZE, big_sha, &err), JPT_OK);
    holds("got", big, SIZE);
    unlink(in_folder("got"));
    /* the size is not known beforehand; the partial file is whole, the server says 416 */
    put("got.part", big, SIZE);
    assert_int_equal(fetch("/big", 0, NULL, &err), JPT_OK);
    holds("got", big, SIZE);
    unlink(in_folder("got"));
    /* other bytes */
    put("other", big + 1, SIZE - 1);
    refused(fetch("/other", SIZE - 1, big_sha, &err), JPT_FORMAT, &err, "not the file that jpt knows");
    assert_int_equal(access(in_folder("got.part"), F_OK), -1);
    refused(fetch("/long/big", SIZE, big_sha, &err), JPT_FORMAT, &err, "more than the expected 300000 bytes");
    refused(fetch("/other", SIZE, big_sha, &err), JPT_IO, &err, "cut off after 299999 bytes"); /* shorter than known, and no error of the server's */
    unlink(in_folder("got.part"));
    refused(fetch("/404/big", SIZE, big_sha, &err), JPT_IO, &err, "the server answers 404");
    refused(fetch("/to/big", SIZE, big_sha, &err), JPT_IO, &err, "/to/big: "); /* a redirect to http */
    assert_int_equal(access(in_folder("got"), F_OK), -1);
    /* a folder that is not there */
    jpt_fetch f = {.url = base, .path = "/nonexistent/got"};
    err = (jpt_error){0};
    refused(jpt_fetch_file(&f, &err), JPT_IO, &err, "/nonexistent/got.part: cannot write");
}

static void offline(void **state) {
    (void)state;
    jpt_error err = {0};
    jpt_fetch f = {.url = "http://127.0.0.1:1/x", .path = in_folder("got")};
    refused(jpt_fetch_file(&f, &err), JPT_IO, &err, "cannot reach 127.0.0.1:1");
    err = (jpt_error){0};
    f.url = "https://nowhere.invalid/x";
    refused(jpt_fetch_file(&f, &err), JPT_IO, &err, "cannot reach nowhere.invalid");
    assert_non_null(strstr(err.msg, "--from DIR"));
    err = (jpt_error){0};
    f.url = "file:///etc/passwd";
    refused(jpt_fetch_file(&f, &err), JPT_IO, &err, "file:///etc/passwd");
    jpt_stop_request();
    char url[100];
    snprintf(url, sizeof url, "%s/big", base);
    f.url = url;
    err = (jpt_error){0};
    assert_int_equal(jpt_fetch_file(&f, &err), JPT_INTERRUPTED);
    jpt_stop_clear();
}

/* ---- making ---------------------------------------------------------------------------------------------------------- */

static void made(jpt_dataset_file f, const char *source, const char *source2, const char *want) {
    jpt_buf   b = {0};
    jpt_error err = {0};
    f.url = "https://example.org/x";
    f.url2 = "https://example.org/y";
    if (dataset_make(&f, source, source2, &b, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(b.p, want);
    jpt_buf_fini(&b);
}

static void not_made(jpt_dataset_file f, const char *source, const char *source2, const char *text) {
    jpt_buf   b = {0};
    jpt_error err = {0};
    f.url = "https://example.org/x";
    f.url2 = "https://example.org/y";
    jpt_status st = dataset_make(&f, source, source2, &b, &err);
    refused(st, JPT_FORMAT, &err, text);
    jpt_buf_fini(&b);
}

static void making(void **state) {
    (void)state;
    jpt_dataset_file head = {.recipe = JPT_RECIPE_HEAD, .lines = 2}, pick = {.recipe = JPT_RECIPE_FIELDS, .detail = "doc_id,de=doc.translation.de,p=arguments.0.0,until=a.until"};
    put_z("s", "1\n2\n3\n");
    made(head, in_folder("s"), NULL, "1\n2\n");
    head.lines = 4;
    not_made(head, in_folder("s"), NULL, "has 3 lines, 4 are wanted");
    /* the harness logs an item once a filter */
    put_z("s", "{\"doc_id\": 0, \"doc\": {\"translation\": {\"de\": \"\\u00fc \\\"x\\\"\"}}, \"arguments\": [[\"p\\n\", {}]], \"a\": {\"until\": [\"u\"]}, \"more\": 1}\n"
               "{\"doc_id\": 0, \"doc\": {\"translation\": {\"de\": \"again\"}}, \"arguments\": [[\"p\"]], \"a\": {\"until\": []}}\n"
               "{\"doc_id\": 1, \"doc\": {\"translation\": {\"de\": \"b\"}}, \"arguments\": [[\"q\"]], \"a\": {\"until\": []}}\n");
    made(pick, in_folder("s"), NULL, "{\"doc_id\": 0, \"de\": \"\xc3\xbc \\\"x\\\"\", \"p\": \"p\\n\", \"until\": [\"u\"]}\n{\"doc_id\": 1, \"de\": \"b\", \"p\": \"q\", \"until\": []}\n");
    put_z("s", "[{\"doc_id\": 7, \"doc\": {\"translation\": {\"de\": \"c\"}}, \"arguments\": [[\"r\"]], \"a\": {\"until\": 3}}]");
    made(pick, in_folder("s"), NULL, "{\"doc_id\": 7, \"de\": \"c\", \"p\": \"r\", \"until\": 3}\n");
    put_z("s", "{\"doc_id\": 0}\n");
    not_made(pick, in_folder("s"), NULL, "item 0 has no doc.translation.de");
    put_z("s", "{\"doc_id\": \n");
    not_made(pick, in_folder("s"), NULL, "line 1");
    jpt_dataset_file prefix = {.recipe = JPT_RECIPE_PREFIX, .detail = "i"};
    put_z("s", "{\"i\": \"Q: a\\n\\nQ: b\\n\\nQ: one\"}\n{\"i\": \"Q: a\\n\\nQ: b\\n\\nQ: other\"}\n");
    made(prefix, in_folder("s"), NULL, "Q: a\n\nQ: b\n\n");
    put_z("s", "{\"i\": \"x\"}\n{\"i\": \"y\"}\n");
    not_made(prefix, in_folder("s"), NULL, "no examples in common");
    jpt_dataset_file join = {.recipe = JPT_RECIPE_JOIN, .detail = "instructions,gold_ref"};
    put_z("s", "{\"instructions\": \"[INST] Please help me complete the text continuation based on the following content.\\n\\nOnce [/INST]\"}\n");
    put_z("t", "{\"gold_ref\": \"Once upon\"}\n");
    made(join, in_folder("s"), in_folder("t"), "{\"instruction\": \"Once\", \"gold_ref\": \"Once upon\"}\n");
    put_z("t", "{\"gold_ref\": \"Once upon\"}\n{\"gold_ref\": \"a time\"}\n");
    not_made(join, in_folder("s"), in_folder("t"), "has 1 lines");
    put_z("s", "{\"instructions\": \"bare\"}\n{\"instructions\": \"bare\"}\n");
    not_made(join, in_folder("s"), in_folder("t"), "not of the study's form");
    jpt_dataset_file gz = {.recipe = JPT_RECIPE_GUNZIP};
    gzFile           g = gzopen(in_folder("s.gz"), "wb");
    gzputs(g, "packed\n");
    gzclose(g);
    made(gz, in_folder("s.gz"), NULL, "packed\n");
    jpt_buf b = {0};
    jpt_file_read(in_folder("s.gz"), &b, NULL);
    put("s.gz", b.p, b.n - 6);
    jpt_buf_fini(&b);
    not_made(gz, in_folder("s.gz"), NULL, "no whole gzip file");
    put_z("s.gz", "not packed\n");
    not_made(gz, in_folder("s.gz"), NULL, "no whole gzip file");
}

/* ---- pulling ---------------------------------------------------------------------------------------------------------- */

/* A data set of our own, so that no public file is needed. */
static void pulling(void **state) {
    (void)state;
    make_big();
    mkdir(in_folder("set"), 0777);
    put("set/a.jsonl", big, SIZE);
    jpt_dataset_file file = {.path = "set/a.jsonl", .bytes = SIZE, .sha256 = big_sha, .url = "https://nowhere.invalid/a"};
    jpt_dataset      d = {.name = "mine", .file = &file, .n_files = 1};
    jpt_pull_options o = {.mirror = base};
    jpt_error        err = {0};
    char             where[4096];
    setenv("JPT_HOME", in_folder("home"), 1);
    unsetenv("JPT_DATA");
    refused(jpt_dataset_locate(&d, "set/a.jsonl", where, sizeof where, &err), JPT_NOT_FOUND, &err, "jpt pull mine");
    assert_false(jpt_dataset_is_here(&d));
    err = (jpt_error){0};
    assert_int_equal(jpt_dataset_pull(&d, &o, &err), JPT_OK);
    holds("home/data/set/a.jsonl", big, SIZE);
    assert_true(jpt_dataset_is_here(&d));
    assert_int_equal(jpt_dataset_locate(&d, "set/a.jsonl", where, sizeof where, &err), JPT_OK);
    assert_non_null(strstr(where, "/home/data/set/a.jsonl"));
    /* what is there is left alone, without a network */
    o.mirror = NULL;
    assert_int_equal(jpt_dataset_pull(&d, &o, &err), JPT_OK);
    o.force = true;
    refused(jpt_dataset_pull(&d, &o, &err), JPT_IO, &err, "cannot reach nowhere.invalid");
    /* half a download, other bytes: seen when a task asks */
    put("home/data/set/a.jsonl", big, 1000);
    err = (jpt_error){0};
    refused(jpt_dataset_locate(&d, "set/a.jsonl", where, sizeof where, &err), JPT_FORMAT, &err, "has 1000 of 300000 bytes: half a download?");
    big[7] ^= 1;
    put("home/data/set/a.jsonl", big, SIZE);
    big[7] ^= 1;
    err = (jpt_error){0};
    refused(jpt_dataset_locate(&d, "set/a.jsonl", where, sizeof where, &err), JPT_FORMAT, &err, "jpt pull mine --force");
    err = (jpt_error){0};
    refused(jpt_dataset_locate(&d, "set/b.jsonl", where, sizeof where, &err), JPT_FORMAT, &err, "has no file 'set/b.jsonl'");
    /* from a folder: with its layout, or bare */
    o = (jpt_pull_options){.from = folder};
    err = (jpt_error){0};
    assert_int_equal(jpt_dataset_pull(&d, &o, &err), JPT_OK); /* repairs what is wrong */
    holds("home/data/set/a.jsonl", big, SIZE);
    o.force = true;
    o.from = in_folder("set");
    assert_int_equal(jpt_dataset_pull(&d, &o, &err), JPT_OK);
    o.from = "/nonexistent";
    refused(jpt_dataset_pull(&d, &o, &err), JPT_NOT_FOUND, &err, "/nonexistent: no such folder");
    put("set/a.jsonl", big, 10);
    o.from = folder;
    err = (jpt_error){0};
    refused(jpt_dataset_pull(&d, &o, &err), JPT_FORMAT, &err, "set/a.jsonl: has 10 of 300000 bytes");
    err = (jpt_error){0};
    big[0]++;
    put("set/a.jsonl", big, SIZE);
    big[0]--;
    refused(jpt_dataset_pull(&d, &o, &err), JPT_FORMAT, &err, "not the file that jpt knows");
    holds("home/data/set/a.jsonl", big, SIZE); /* and the good one stays */
    /* made from what the address holds, over the network; the sources are gone afterwards */
    char   url[2][100];
    gzFile g = gzopen(in_folder("a.gz"), "wb");
    gzwrite(g, big, SIZE);
    gzclose(g);
    snprintf(url[0], sizeof url[0], "%s/a.gz", base);
    file.url = url[0];
    file.recipe = JPT_RECIPE_GUNZIP;
    o = (jpt_pull_options){.force = true};
    err = (jpt_error){0};
    if (jpt_dataset_pull(&d, &o, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    holds("home/data/set/a.jsonl", big, SIZE);
    assert_int_equal(access(in_folder("home/data/set/a.jsonl.source"), F_OK), -1);
    snprintf(url[0], sizeof url[0], "%s/cut/500/a.gz", base);
    refused(jpt_dataset_pull(&d, &o, &err), JPT_IO, &err, "cut off after 500 bytes");
    snprintf(url[0], sizeof url[0], "%s/a.gz", base);
    err = (jpt_error){0};
    assert_int_equal(jpt_dataset_pull(&d, &o, &err), JPT_OK); /* goes on */
    assert_true(last_request_has("bytes=500-"));
    put("other.gz", "not packed", 10);
    snprintf(url[0], sizeof url[0], "%s/other.gz", base);
    refused(jpt_dataset_pull(&d, &o, &err), JPT_FORMAT, &err, "no whole gzip file");
    holds("home/data/set/a.jsonl", big, SIZE);
    /* two sources of one file */
    put_z("p", "{\"i\": \"[INST] Please help me complete the text continuation based on the following content.\\n\\nOnce [/INST]\"}\n");
    put_z("q", "{\"g\": \"Once upon\"}\n");
    const char *joined = "{\"instruction\": \"Once\", \"gold_ref\": \"Once upon\"}\n";
    char        sha[65];
    jpt_sha256  s;
    jpt_sha256_init(&s);
    jpt_sha256_update(&s, joined, strlen(joined));
    jpt_sha256_final(&s, sha);
    snprintf(url[0], sizeof url[0], "%s/p", base);
    snprintf(url[1], sizeof url[1], "%s/q", base);
    jpt_dataset_file two = {.path = "set/j.jsonl", .bytes = strlen(joined), .sha256 = sha, .url = url[0], .url2 = url[1], .recipe = JPT_RECIPE_JOIN, .detail = "i,g"};
    jpt_dataset      dj = {.name = "joined", .file = &two, .n_files = 1};
    err = (jpt_error){0};
    if (jpt_dataset_pull(&dj, &o, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    holds("home/data/set/j.jsonl", joined, strlen(joined));
    /* $JPT_DATA comes before the cache */
    file.url = "https://nowhere.invalid/a";
    put("set/a.jsonl", big, SIZE);
    setenv("JPT_DATA", folder, 1);
    assert_int_equal(jpt_dataset_locate(&d, "set/a.jsonl", where, sizeof where, NULL), JPT_OK);
    assert_null(strstr(where, "/home/"));
    file.recipe = JPT_RECIPE_FOLDER;
    o = (jpt_pull_options){.force = true};
    err = (jpt_error){0};
    refused(jpt_dataset_pull(&d, &o, &err), JPT_NOT_FOUND, &err, "jpt pull mine --from DIR");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(fetching), cmocka_unit_test(offline), cmocka_unit_test(making), cmocka_unit_test(pulling)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
