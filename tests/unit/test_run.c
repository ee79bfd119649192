/* The bench's protocol on a simulated card in simulated time: windows filled by replication, idle baselines between them, sentinels,
 * repeats of invalid windows, a driver that is lost and comes back, refusals before the first joule. */
#include <dlfcn.h>
#include <jpt/run.h>
#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static int64_t    virtual_ns, polled_ns;
static jpt_meter *watched; /* its sampler is the clock: it looks every 50 ms */
static bool       looking;

static int64_t now(void *ud) {
    (void)ud;
    virtual_ns += 1000000; /* work takes time because it looks at the clock */
    if (watched && !looking && virtual_ns - polled_ns >= 50000000) {
        looking = true;
        polled_ns = virtual_ns;
        jpt_meter_poll(watched);
        looking = false;
    }
    return virtual_ns;
}
static void pass(void *ud, int64_t ns) {
    (void)ud;
    virtual_ns += ns;
}

static char       folder[] = "/tmp/jpt-run-XXXXXX", script[64], items[64], store[64];
static jpt_model *model;
static jpt_task  *task;

static int set_up(void **state) {
    (void)state;
    void (*fake_clock)(int64_t(*)(void *), void (*)(void *, int64_t), void *);
    static const char three[] = "{\"prompt\":\"tell me 0\",\"reference\":\"x\"}\n{\"prompt\":\"tell me 1\",\"reference\":\"x\"}\n{\"prompt\":\"tell me 2\",\"reference\":\"x\"}\n";
    jpt_error err = {0};
    void     *lib = dlopen(JPT_FAKE_NVML_LIB, RTLD_NOW), *p = lib ? dlsym(lib, "fake_nvml_clock") : NULL;
    assert_non_null(p);
    memcpy(&fake_clock, &p, sizeof p);
    assert_non_null(mkdtemp(folder));
    snprintf(script, sizeof script, "%s/card", folder);
    snprintf(items, sizeof items, "%s/ask.jsonl", folder);
    snprintf(store, sizeof store, "%s/r.db", folder);
    setenv("JPT_FAKE_NVML", script, 1);
    assert_int_equal(jpt_file_write(items, three, strlen(three), NULL), JPT_OK);
    virtual_ns = 1000000000000;
    jpt_clock_replace(now, pass, NULL);
    fake_clock(now, pass, NULL);
    if (jpt_model_open(JPT_SOURCE_DIR "/tests/golden/logits_tiny_llama.gguf", &(jpt_model_options){.n_threads = 1}, &model, &err) != JPT_OK ||
        jpt_task_open_with(items, &(jpt_task_options){0}, &task, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return 0;
}

static void forget_store(void) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    for (int i = 0; i < 4; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s%s", store, ends[i]);
        unlink(name);
    }
}

static int tear_down(void **state) {
    (void)state;
    jpt_clock_replace(NULL, NULL, NULL);
    jpt_task_close(task);
    jpt_model_close(model);
    forget_store();
    unlink(script), unlink(items), rmdir(folder);
    return 0;
}

/* A bench of one block with what `o` asks beside, on a card that behaves so. */
static jpt_status bench(const char *card, const char *specs, jpt_run_options o, jpt_run_summary *sum, jpt_error *err) {
    jpt_meter_options mo = {.nvml_library = JPT_FAKE_NVML_LIB, .no_thread = true};
    jpt_spec_list     list = {0};
    jpt_meter        *m = NULL;
    assert_int_equal(jpt_file_write(script, card, strlen(card), NULL), JPT_OK);
    if (jpt_meter_open("nvml_counter", &mo, &m, err) != JPT_OK)
        fail_msg("%s", err->msg);
    for (const char *p = specs; *p; p += strcspn(p, ";"), p += *p == ';') { /* SPECs separated by semicolons */
        char one[80];
        snprintf(one, sizeof one, "%.*s", (int)strcspn(p, ";"), p);
        assert_int_equal(jpt_spec_parse(one, &list, err), JPT_OK);
    }
    jpt_run_engine e = {.model = model, .meter = m, .model_sha256 = "0", .device = "cpu"};
    watched = m;
    o.engines = &e, o.n_engines = 1, o.specs = &list, o.out = store, o.max_new_tokens = 6;
    o.tasks = o.n_tasks ? o.tasks : &task, o.n_tasks = o.n_tasks ? o.n_tasks : 1, o.n_blocks = o.n_blocks ? o.n_blocks : 1;
    jpt_status st = jpt_run_bench(&o, sum, err);
    watched = NULL;
    jpt_meter_close(m);
    jpt_spec_list_fini(&list);
    return st;
}

/* The first column of the first row. */
static double number(const char *sql) {
    sqlite3      *db;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open_v2(store, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK || sqlite3_step(st) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    double v = sqlite3_column_type(st, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return v;
}

#define ALL(sql) assert_true(number("SELECT count(*) FROM " sql) == 0)

static void windows_on_a_counter(void **state) {
    (void)state;
    jpt_run_summary sum;
    jpt_error       err = {0};
    forget_store();
    if (bench("sim 100\n", "greedy", (jpt_run_options){.n_blocks = 2}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(sum.done == 6 && sum.windows_invalid == 0 && sum.blocks == 2);
    assert_true(number("SELECT count(*) FROM window WHERE kind='requests' AND valid=1") == 2);
    assert_true(number("SELECT count(*) FROM window WHERE kind='sentinel_before' AND valid=1") == 2);
    assert_true(number("SELECT count(*) FROM window WHERE kind='sentinel_after' AND valid=1") == 2);
    assert_true(number("SELECT count(*) FROM window WHERE kind='idle' AND valid=1") == 7); /* before the first, after each */
    /* filled to 10 s by the same requests again; the card draws 70 W whatever it does */
    ALL("window WHERE kind != 'idle' AND NOT (duration_s >= 10 AND duration_s < 10.5 AND replications > 1 AND n_requests = 3)");
    ALL("window WHERE NOT abs(energy_j / duration_s - 70) < 0.5");
    ALL("window WHERE kind != 'idle' AND NOT (abs(idle_before_w - 70) < 0.5 AND abs(idle_after_w - 70) < 0.5 AND abs(net_energy_j) < 0.02 * energy_j)");
    ALL("window WHERE kind != 'idle' AND NOT abs(prefill_energy_j + decode_energy_j + draft_energy_j + verify_energy_j + select_energy_j + kv_energy_j + host_energy_j"
        " + idle_energy_j + residual_energy_j - energy_j) < 1e-6");
    ALL("window WHERE kind != 'idle' AND NOT (n_samples > 90 AND max_gap_s < 0.2 AND abs(residual) < 0.02 AND abs(residual_energy_j) < 0.02 * energy_j)");
    ALL("window w WHERE kind = 'requests' AND NOT abs(energy_j / replications - (SELECT sum(energy_j) FROM request WHERE window = w.id)) < 1e-9");
    ALL("request WHERE share_rule IS NULL OR window IS NULL OR energy_valid != 1");
    assert_true(number("SELECT count(*) FROM power") > 700);
    /* the same again: nothing is left to do, and nothing is measured */
    double windows = number("SELECT count(*) FROM window");
    if (bench("sim 100\n", "greedy", (jpt_run_options){.n_blocks = 2}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(sum.done == 0 && sum.resumed == 6 && number("SELECT count(*) FROM window") == windows);
}

static void an_invalid_window_is_repeated_and_kept(void **state) {
    (void)state;
    jpt_run_summary sum;
    jpt_error       err = {0};
    forget_store();
    if (bench("sim 100\nothers 1\n", "greedy", (jpt_run_options){.windows = {.sentinel = -1}}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(sum.windows_invalid == 3 && sum.invalid_energy == 3);
    assert_true(number("SELECT count(*) FROM window WHERE kind='requests' AND valid=0 AND reasons LIKE '%1 other process used the card%'") == 3);
    assert_true(number("SELECT group_concat(attempt, '') FROM (SELECT attempt FROM window WHERE kind='requests' ORDER BY attempt)") == 12);
    assert_true(number("SELECT count(*) FROM request WHERE energy_valid=0 AND energy_reasons LIKE '%other process%'") == 3);
    forget_store(); /* the card throttles for a second in the first try: the second is good, and the answers are its */
    if (bench("sim 100\nthrottle 64\nthrottle_at 20\n", "greedy", (jpt_run_options){.windows = {.sentinel = -1}}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(sum.windows_invalid == 1 && sum.invalid_energy == 0);
    assert_true(number("SELECT attempt FROM window WHERE id = (SELECT window FROM request LIMIT 1)") == 1);
    assert_true(number("SELECT count(*) FROM window WHERE kind='requests' AND attempt=0 AND valid=0 AND reasons LIKE '%throttled%'") == 1);
}

static void a_lost_driver_gives_no_number(void **state) {
    (void)state;
    jpt_run_summary sum;
    jpt_error       err = {0};
    forget_store();
    assert_int_equal(bench("sim 100\nlost_at 55\n", "greedy", (jpt_run_options){.n_blocks = 2}, &sum, &err), JPT_METER);
    assert_non_null(strstr(err.msg, "the meter gives no reading any more (NVML energy counter"));
    assert_true(number("SELECT count(*) FROM request WHERE energy_j IS NULL OR energy_valid != 1") == 0);
    assert_true(number("SELECT count(*) FROM window WHERE valid=0 AND energy_j IS NULL") >= 3);
    double kept = number("SELECT count(*) FROM request");
    assert_true(kept < 6);
    err = (jpt_error){0};
    if (bench("sim 100\n", "greedy", (jpt_run_options){.n_blocks = 2}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true((double)sum.resumed == kept && number("SELECT count(*) FROM request WHERE energy_valid=1") == 6);
}

static void a_budget_ends_with_whole_blocks(void **state) {
    (void)state;
    jpt_run_summary sum;
    jpt_error       err = {0};
    forget_store();
    if (bench("sim 100\n", "greedy", (jpt_run_options){.n_blocks = 9, .max_hours = 100.0 / 3600, .windows = {.sentinel = -1}}, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_true(sum.budget_spent && sum.blocks >= 5 && sum.blocks <= 7 && sum.done == 3 * sum.blocks);
    assert_true(number("SELECT sum(duration_s) FROM window") <= 100);
}

static void refused(const char *specs, jpt_run_options o, const char *words) {
    jpt_run_summary sum;
    jpt_error       err = {0};
    forget_store();
    assert_int_equal(bench("sim 100\n", specs, o, &sum, &err), JPT_ARG);
    if (!strstr(err.msg, words))
        fail_msg("'%s' has no '%s'", err.msg, words);
    if (access(store, F_OK) == 0)
        assert_true(number("SELECT count(*) FROM window") == 0);
}

static void mistakes_are_refused_before_the_first_joule(void **state) {
    (void)state;
    jpt_task *twice[] = {task, task};
    refused("greedy", (jpt_run_options){.tasks = twice, .n_tasks = 2}, "task 'ask' stands twice");
    refused("greedy", (jpt_run_options){.batches = (int32_t[]){1, 2, 1}, .n_batches = 3}, "batch size 1 stands twice");
    refused("sample", (jpt_run_options){.seeds = (uint64_t[]){4, 4}, .n_seeds = 2}, "seed 4 stands twice");
    refused("sample", (jpt_run_options){.seeds = (uint64_t[]){UINT64_MAX}, .n_seeds = 1}, "seed");
    refused("greedy", (jpt_run_options){.windows = {.idle_s = 0.5}}, "idle baseline of 0.5 s");
    refused("greedy", (jpt_run_options){.windows = {.seconds = 1}}, "window of 1 s");
    refused("greedy;sample", (jpt_run_options){.stop = {.a = "greedy", .b = "greedy", .width = 0.1}}, "with itself");
    refused("greedy;beam:num_beams=4", (jpt_run_options){.stop = {.a = "greedy", .b = "beam:num_beams=4", .task = "nope", .width = 0.1}}, "'nope' is none of the tasks");
    refused("greedy;beam:num_beams=4", (jpt_run_options){.stop = {.a = "greedy", .b = "beam:num_beams=4", .width = 0.1}, .exclude = &(jpt_run_exclusion){.strategy = "beam*"}, .n_exclude = 1},
            "has no cell of 'beam");
    refused("greedy", (jpt_run_options){.exclude = &(jpt_run_exclusion){.strategy = "beem*", .batch = 2}, .n_exclude = 1}, "'beem*'");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows_on_a_counter), cmocka_unit_test(an_invalid_window_is_repeated_and_kept), cmocka_unit_test(a_lost_driver_gives_no_number),
                                       cmocka_unit_test(a_budget_ends_with_whole_blocks), cmocka_unit_test(mistakes_are_refused_before_the_first_joule)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
