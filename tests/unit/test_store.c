/* The results file: what is committed stays, what is foreign is refused, one writer at a time. */
#include <fcntl.h>
#include <jpt/report.h>
#include <jpt/store.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static char dir[] = "/tmp/jpt-store-XXXXXX";

static const char *path_of(const char *name) {
    static char p[4][256];
    static int  i;
    i = (i + 1) % 4;
    snprintf(p[i], sizeof p[i], "%s/%s", dir, name);
    return p[i];
}

static jpt_store *open_store(const char *name) {
    jpt_store *s;
    jpt_error  err = {0};
    if (jpt_store_open(path_of(name), JPT_STORE_CREATE, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return s;
}

/* The rows a request hangs on; the same call again gives the same ids. */
static int64_t make_cell(jpt_store *s, const char *spec) {
    jpt_study_row st;
    jpt_model_row m;
    jpt_task_row  t;
    jpt_meter_row me;
    jpt_cell_row  c;
    jpt_error     err = {0};
    jpt_study_row_init(&st), jpt_model_row_init(&m), jpt_task_row_init(&t), jpt_meter_row_init(&me), jpt_cell_row_init(&c);
    st.jpt_version = "test", m.name = "tiny", t.name = "a task", t.primary_metric = "chrf", t.higher_is_better = 1, me.kind = me.source = "model", me.modelled = 1;
    if (jpt_store_put_study(s, &st, &c.study, &err) || jpt_store_put_model(s, &m, &c.model, &err) || jpt_store_put_task(s, &t, &c.task, &err) ||
        jpt_store_put_meter(s, &me, &c.meter, &err))
        fail_msg("%s", err.msg);
    c.spec = c.strategy = spec;
    c.device = "cpu";
    c.params_json = "{}";
    c.batch = 1;
    c.seeds = "0";
    c.max_new_tokens = 8;
    int64_t id = 0;
    if (jpt_store_put_cell(s, &c, &id, &err))
        fail_msg("%s", err.msg);
    return id;
}

static jpt_status put(jpt_store *s, int64_t cell, int64_t item, const char *text, jpt_error *err) {
    jpt_request_row r;
    jpt_score_row   score = {.metric = "chrf", .value = 10.0 + (double)item, .ci_low = NAN, .ci_high = NAN, .n = -1};
    int64_t         id;
    jpt_request_row_init(&r);
    r.cell = cell;
    r.block = 0;
    r.item_index = item;
    r.seed = 7;
    r.item_id = "x";
    r.text = text;
    r.output_tokens = 10;
    r.prompt_tokens = 3;
    r.energy_j = 2.5 + (double)item;
    r.energy_source = "model";
    r.modelled = 1;
    r.energy_valid = 1;
    r.failed = 0;
    return jpt_store_put_request(s, &r, &score, 1, &id, err);
}

static jpt_status look(void *ud, const jpt_request_row *r) {
    int *n = ud;
    assert_float_equal(r->energy_j, 2.5 + (double)r->item_index, 1e-9);
    assert_true(isnan(r->net_energy_j)); /* absent came back absent */
    assert_int_equal(r->kv_bytes_moved, -1);
    assert_null(r->error);
    (*n)++;
    return JPT_OK;
}

static void round_trip_and_resume(void **unused) {
    (void)unused;
    jpt_store *s = open_store("a.db");
    int64_t    cell = make_cell(s, "greedy"), again;
    bool       exists;
    int        n = 0;
    jpt_error  err = {0};
    assert_int_equal(put(s, cell, 0, "text 'quoted' \xe6\x9d\xb1", NULL), JPT_OK);
    assert_int_equal(put(s, cell, 1, "two", NULL), JPT_OK);
    assert_int_equal(put(s, cell, 1, "two", &err), JPT_ARG); /* it is there already */
    jpt_store_close(s);
    s = open_store("a.db");
    again = make_cell(s, "greedy");
    assert_int_equal(again, cell);
    assert_int_not_equal(make_cell(s, "top-p"), cell);
    assert_int_equal(jpt_store_request_exists(s, cell, 0, 1, 7, &exists, NULL), JPT_OK);
    assert_true(exists);
    assert_int_equal(jpt_store_request_exists(s, cell, 0, 2, 7, &exists, NULL), JPT_OK);
    assert_false(exists);
    assert_int_equal(jpt_store_each_request(s, cell, look, &n, NULL), JPT_OK);
    assert_int_equal(n, 2);
    jpt_store_close(s);
}

static jpt_status count_score(void *ud, const jpt_score_row *r) {
    double *sum = ud;
    *sum += r->value;
    return JPT_OK;
}

/* What is computed after the run is added beside what is there, all of it or nothing. */
static void scores_afterwards(void **unused) {
    (void)unused;
    jpt_store *s = open_store("late.db");
    int64_t    cell = make_cell(s, "greedy");
    jpt_error  err = {0};
    double     sum = 0;
    put(s, cell, 0, "x", NULL); /* chrf 10 and 11 */
    put(s, cell, 1, "y", NULL);
    jpt_score_row late[] = {{.owner = 1, .metric = "coherence", .value = -1}, {.owner = 1, .metric = "ppl", .value = 100}, {.owner = 2, .metric = "ppl", .value = 1000}};
    assert_int_equal(jpt_store_put_scores(s, late, 3, NULL), JPT_OK);
    assert_int_equal(jpt_store_each_score(s, cell, count_score, &sum, NULL), JPT_OK);
    assert_float_equal(sum, 10 + 11 - 1 + 1100, 1e-9);
    const jpt_score_row again[] = {{.owner = 2, .metric = "coherence", .value = -2}, {.owner = 1, .metric = "chrf", .value = 99}};
    assert_int_equal(jpt_store_put_scores(s, again, 2, &err), JPT_ARG); /* chrf is there: nothing of this is kept */
    late[0].owner = 77;
    assert_int_not_equal(jpt_store_put_scores(s, late, 1, NULL), JPT_OK); /* no such request */
    sum = 0;
    jpt_store_each_score(s, cell, count_score, &sum, NULL);
    assert_float_equal(sum, 10 + 11 - 1 + 1100, 1e-9);
    jpt_store_close(s);
}

static void one_writer(void **unused) {
    (void)unused;
    jpt_store *s = open_store("lock.db"), *second;
    int64_t    cell = make_cell(s, "greedy");
    put(s, cell, 0, "x", NULL);
    pid_t pid = fork();
    if (pid == 0) {
        jpt_error e = {0};
        int       rc = jpt_store_open(path_of("lock.db"), JPT_STORE_CREATE, &second, &e) == JPT_BUSY && strstr(e.msg, "lock.db") ? 0 : 1;
        if (rc == 0) /* but reading goes on beside the writer */
            rc = jpt_store_open(path_of("lock.db"), JPT_STORE_READ, &second, &e) == JPT_OK ? 0 : 2;
        _exit(rc);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    jpt_store_close(s);
    s = open_store("lock.db"); /* free again */
    jpt_store_close(s);
}

static void killed_at_any_moment(void **unused) {
    (void)unused;
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        jpt_store *s = open_store("kill.db");
        int64_t    cell = make_cell(s, "greedy");
        for (int64_t i = 0; i < 100000; i++) {
            if (put(s, cell, i, "some text", NULL) != JPT_OK)
                _exit(3);
            if (write(pipes[1], &i, sizeof i) != sizeof i) /* said only after it is committed */
                _exit(4);
        }
        _exit(0);
    }
    close(pipes[1]);
    int64_t last = -1, i;
    while (last < 40 && read(pipes[0], &i, sizeof i) == sizeof i)
        last = i;
    kill(pid, SIGKILL);
    while (read(pipes[0], &i, sizeof i) == sizeof i)
        last = i;
    waitpid(pid, NULL, 0);
    close(pipes[0]);
    jpt_store *s = open_store("kill.db"); /* the lock died with the process */
    int64_t    n;
    assert_int_equal(jpt_store_n_requests(s, &n, NULL), JPT_OK);
    assert_true(n == last + 1 || n == last + 2);
    jpt_store_close(s);
}

static void refused(const char *name, jpt_status want, const char *words) {
    jpt_store *s;
    jpt_error  err = {0};
    assert_int_equal(jpt_store_open(path_of(name), JPT_STORE_CREATE, &s, &err), want);
    if (!strstr(err.msg, words) || !strstr(err.msg, name))
        fail_msg("'%s' lacks '%s'", err.msg, words);
}

static void sql(const char *name, const char *text) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path_of(name), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void foreign_files(void **unused) {
    (void)unused;
    static const char junk[] = "this is a text file, long enough to have no SQLite header at its beginning, and then some more of it ..............";
    assert_int_equal(jpt_file_write(path_of("junk.db"), junk, sizeof junk, NULL), JPT_OK);
    refused("junk.db", JPT_FORMAT, "");
    sql("other.db", "CREATE TABLE t(x); INSERT INTO t VALUES(1);");
    refused("other.db", JPT_FORMAT, "");
    jpt_store_close(open_store("newer.db"));
    sql("newer.db", "PRAGMA user_version = 99;");
    refused("newer.db", JPT_UNSUPPORTED, "99");
    jpt_store *s;
    jpt_error  err = {0};
    assert_int_equal(jpt_store_open(path_of("missing.db"), JPT_STORE_READ, &s, &err), JPT_NOT_FOUND);
    err = (jpt_error){0};
    assert_int_equal(jpt_store_open("/proc/no/such/place.db", JPT_STORE_CREATE, &s, &err), JPT_IO);
}

/* A file of schema 1: a reader sees its rows and leaves it as it is, a writer brings it up to date. */
static void older_file(void **unused) {
    (void)unused;
    sqlite3   *db;
    jpt_store *s;
    jpt_error  err = {0};
    int        n = 0;
    assert_int_equal(sqlite3_open(path_of("v1.db"), &db), SQLITE_OK);
    jpt_buf text = {0};
    assert_int_equal(jpt_file_read(JPT_SOURCE_DIR "/tests/fixtures/store/schema1.sql", &text, NULL), JPT_OK);
    assert_int_equal(sqlite3_exec(db, text.p, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    jpt_buf_fini(&text);
    for (int pass = 0; pass < 2; pass++) { /* the second reading shows that the first left the file alone */
        if (jpt_store_open(path_of("v1.db"), JPT_STORE_READ, &s, &err) != JPT_OK)
            fail_msg("%s", err.msg);
        n = 0;
        assert_int_equal(jpt_store_each_request(s, -1, look, &n, &err), JPT_OK);
        assert_int_equal(n, 2);
        jpt_store_close(s);
        assert_int_equal(sqlite3_open(path_of("v1.db"), &db), SQLITE_OK);
        sqlite3_stmt *st;
        sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(st, 0), 1);
        sqlite3_finalize(st);
        sqlite3_close(db);
    }
    s = open_store("v1.db");
    n = 0;
    assert_int_equal(jpt_store_each_request(s, -1, look, &n, &err), JPT_OK);
    assert_int_equal(n, 2);
    jpt_window_row w;
    int64_t        id = 0, valid = 0, all = 0;
    jpt_window_row_init(&w);
    w.study = w.meter = 1, w.kind = "idle", w.block = 0, w.valid = 1, w.energy_j = 20;
    const jpt_power_row power[] = {{.t_s = 1, .power_w = 60}, {.t_s = 1.05, .power_w = 61}};
    if (jpt_store_put_window(s, &w, power, 2, &id, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(jpt_store_n_windows(s, 1, -1, 0, "idle", &all, &valid, &err), JPT_OK);
    assert_true(all == 1 && valid == 1);
    jpt_store_close(s);
}

static jpt_status look_window(void *ud, const jpt_window_row *r) {
    int64_t *sum = ud;
    assert_true(isnan(r->residual) && r->attempt == -1); /* absent */
    assert_string_equal(r->kind, "requests");
    *sum += r->n_requests;
    return JPT_OK;
}
static jpt_status look_power(void *ud, const jpt_power_row *r) {
    *(double *)ud += r->power_w;
    return JPT_OK;
}

/* What stands between begin and end stays or goes together, and an inner failure takes back the inner part alone. */
static void windows_and_transactions(void **unused) {
    (void)unused;
    jpt_store     *s = open_store("w.db");
    int64_t        cell = make_cell(s, "greedy"), id = 0, n = 0, sum = 0;
    jpt_error      err = {0};
    jpt_window_row w;
    double         watts = 0;
    jpt_power_row  power[40];
    for (int i = 0; i < 40; i++)
        power[i] = (jpt_power_row){.t_s = i, .power_w = 2};
    jpt_window_row_init(&w);
    w.study = w.meter = 1, w.cell = cell, w.kind = "requests", w.block = 0, w.n_requests = 3;
    for (int keep = 0; keep < 2; keep++) {
        assert_int_equal(jpt_store_begin(s, &err), JPT_OK);
        assert_int_equal(jpt_store_put_window(s, &w, power, 40, &id, &err), JPT_OK);
        assert_int_equal(put(s, cell, 0, "a", &err), JPT_OK);
        assert_int_equal(put(s, cell, 0, "a", NULL), JPT_ARG); /* twice: this one alone goes */
        assert_int_equal(put(s, cell, 1, "b", &err), JPT_OK);
        assert_int_equal(jpt_store_end(s, keep ? JPT_OK : JPT_INTERRUPTED, &err), keep ? JPT_OK : JPT_INTERRUPTED);
        assert_int_equal(jpt_store_n_requests(s, &n, &err), JPT_OK);
        assert_int_equal(n, keep ? 2 : 0);
    }
    assert_int_equal(jpt_store_each_window(s, cell, look_window, &sum, &err), JPT_OK);
    assert_int_equal(sum, 3);
    assert_int_equal(jpt_store_each_power(s, id, look_power, &watts, &err), JPT_OK);
    assert_float_equal(watts, 80, 1e-9);
    w.cell = 99; /* no such cell */
    assert_int_equal(jpt_store_put_window(s, &w, power, 40, &id, &err), JPT_ARG);
    jpt_store_close(s);
}

static void full_disk(void **unused) {
    (void)unused;
    pid_t pid = fork();
    if (pid == 0) { /* a file-size limit stands in for a full disk */
        jpt_store *s = open_store("full.db");
        int64_t    cell = make_cell(s, "greedy"), n, done = 0;
        jpt_error  err = {0};
        put(s, cell, 0, "first", NULL);
        struct rlimit r = {300000, 300000};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &r);
        static char big[20000];
        memset(big, 'x', sizeof big - 1);
        for (done = 1; done < 1000 && put(s, cell, done, big, &err) == JPT_OK; done++)
            ;
        bool said = err.code == JPT_IO && strstr(err.msg, "full.db");
        bool kept = jpt_store_n_requests(s, &n, NULL) == JPT_OK && n == done;
        _exit(done < 1000 && said && kept ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static jpt_buf report_file(const char *name) {
    jpt_buf b = {0};
    assert_int_equal(jpt_file_read(path_of(name), &b, NULL), JPT_OK);
    return b;
}

static void report_of_hostile_texts(void **unused) {
    (void)unused;
    jpt_store *s = open_store("rep.db");
    jpt_error  err = {0};
    assert_int_equal(jpt_report_write(s, path_of("out"), JPT_REPORT_HTML, NULL, &err), JPT_NOT_FOUND);
    int64_t a = make_cell(s, "greedy"), b = make_cell(s, "top-p");
    for (int64_t i = 0; i < 6; i++) {
        put(s, a, i, "<script>alert(1)</script> & \"quotes\", commas\nlines", NULL);
        put(s, b, i, "plain", NULL);
    }
    const jpt_score_row sa = {.metric = "chrf", .value = 20, .ci_low = 15, .ci_high = 25, .n = 6}, sb = {.metric = "chrf", .value = 30, .ci_low = 25, .ci_high = 35, .n = 6};
    jpt_store_put_cell_scores(s, a, &sa, 1, NULL);
    jpt_store_put_cell_scores(s, b, &sb, 1, NULL);
    err = (jpt_error){0};
    if (jpt_report_write(s, path_of("out"), JPT_REPORT_HTML | JPT_REPORT_MD | JPT_REPORT_CSV, NULL, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    jpt_buf html = report_file("out/report.html"), md = report_file("out/report.md"), csv = report_file("out/requests.csv");
    assert_null(strstr(html.p, "<script>alert"));
    assert_non_null(strstr(html.p, "&lt;script&gt;alert"));
    assert_non_null(strstr(html.p, "modelled, not measured"));
    assert_null(strstr(html.p, "http://www.w3.org/1999/xlink"));
    assert_null(strstr(html.p, "src=\"http"));
    assert_non_null(strstr(md.p, "modelled, not measured"));
    assert_non_null(strstr(md.p, "30"));
    assert_non_null(strstr(csv.p, "\"<script>alert(1)</script> & \"\"quotes\"\", commas\nlines\""));
    jpt_buf words = {0};
    assert_int_equal(jpt_report_compare(s, (const char *const[]){"greedy", "top-p"}, 2, 0.01, &words, &err), JPT_OK);
    assert_true(words.n > 20);
    jpt_buf_fini(&words), jpt_buf_fini(&html), jpt_buf_fini(&md), jpt_buf_fini(&csv);
    jpt_store_close(s);
}

int main(void) {
    if (!mkdtemp(dir))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_and_resume), cmocka_unit_test(scores_afterwards), cmocka_unit_test(one_writer), cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(foreign_files), cmocka_unit_test(older_file), cmocka_unit_test(windows_and_transactions), cmocka_unit_test(full_disk),
        cmocka_unit_test(report_of_hostile_texts),
    };
    int  rc = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) || rc;
}
