/* jpt audit and jpt advise on made-up results: what is wrong is found and named, and advice follows from the numbers. */
#include <jpt/report.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static char path[64];
static jpt_store *store;
static int64_t study, model, task, meter;

static int set_up(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/jpt-questions-XXXXXX");
    close(mkstemp(path));
    unlink(path);
    assert_int_equal(jpt_store_open(path, JPT_STORE_CREATE, &store, NULL), JPT_OK);
    jpt_study_row s;
    jpt_model_row m;
    jpt_task_row  t;
    jpt_meter_row e;
    jpt_study_row_init(&s), jpt_model_row_init(&m), jpt_task_row_init(&t), jpt_meter_row_init(&e);
    m.name = "m", t.name = "sums", t.primary_metric = "exact_match", t.higher_is_better = 1, t.n_items = 40, e.source = "rapl", e.kind = "rapl", e.modelled = 0;
    assert_int_equal(jpt_store_put_study(store, &s, &study, NULL), JPT_OK);
    assert_int_equal(jpt_store_put_model(store, &m, &model, NULL), JPT_OK);
    assert_int_equal(jpt_store_put_task(store, &t, &task, NULL), JPT_OK);
    assert_int_equal(jpt_store_put_meter(store, &e, &meter, NULL), JPT_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char other[80];
    static const char *const more[] = {"", "-wal", "-shm", ".lock"};
    jpt_store_close(store);
    for (int i = 0; i < 4; i++) {
        snprintf(other, sizeof other, "%s%s", path, more[i]);
        unlink(other);
    }
    return 0;
}

static int64_t make_cell(const char *spec) {
    jpt_cell_row c;
    int64_t      id;
    jpt_cell_row_init(&c);
    c.study = study, c.model = model, c.task = task, c.meter = meter, c.spec = spec, c.strategy = spec, c.seeds = "5", c.max_new_tokens = 20;
    assert_int_equal(jpt_store_put_cell(store, &c, &id, NULL), JPT_OK);
    return id;
}

/* A request as the bench writes it: 10 tokens of a prompt of 4. */
static jpt_request_row sound(int64_t cell, int64_t item, double joules) {
    jpt_request_row r;
    jpt_request_row_init(&r);
    r.cell = cell, r.block = 0, r.item_index = item, r.seed = 5, r.prompt_tokens = 4, r.output_tokens = 10, r.stop_reason = "eos", r.text = "x";
    r.token_ids_json = "[1,2,3,4,5,6,7,8,9,10]", r.duration_s = 2, r.energy_j = joules, r.energy_source = "rapl", r.modelled = 0, r.energy_valid = 1, r.idle_w = 1;
    r.net_energy_j = joules - 2.1, r.prefill_energy_j = 0.25 * joules, r.decode_energy_j = 0.5 * joules, r.draft_energy_j = r.verify_energy_j = r.select_energy_j = 0;
    r.other_energy_j = 0.25 * joules, r.positions_computed = 20, r.positions_discarded = 7, r.failed = 0;
    return r;
}

static void put(const jpt_request_row *r, double score) {
    jpt_score_row s = {.metric = "exact_match", .value = score, .ci_low = NAN, .ci_high = NAN, .n = -1};
    int64_t       id;
    jpt_error     err = {0};
    if (jpt_store_put_request(store, r, &s, 1, &id, &err) != JPT_OK)
        fail_msg("%s", err.msg);
}

static void audit(int expected, const char *line) {
    jpt_buf   out = {0};
    jpt_error err = {0};
    int       failed;
    if (jpt_report_audit(store, NULL, &out, &failed, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    if (failed != expected || (line && !strstr(out.p, line)))
        fail_msg("%d failures, expected %d, '%s' in:\n%s", failed, expected, line ? line : "", out.p);
    jpt_buf_fini(&out);
}

static void every_rule_finds_its_failure(void **state) {
    (void)state;
    int64_t cell = make_cell("greedy");
    for (int64_t i = 0; i < 4; i++) {
        jpt_request_row r = sound(cell, i, 30);
        put(&r, 1);
    }
    audit(0, "positions computed are in the text or thrown away            holds, 4 checked");
    int64_t         item = 4;
    jpt_request_row r = sound(cell, item++, 30);
    r.positions_discarded = 3;
    put(&r, 1);
    audit(1, "item 4: 20 computed, 3 thrown away, 4 + 10 kept");
    r = sound(cell, item++, 30);
    r.token_ids_json = "[1,2]";
    put(&r, 1);
    audit(2, "2 ids, 10 tokens");
    r = sound(cell, item++, 30);
    r.decode_energy_j = 1;
    put(&r, 1);
    audit(3, "joules of the phases add up");
    r = sound(cell, item++, 30);
    r.net_energy_j = 12;
    put(&r, 1);
    audit(4, "net joules are gross less idle power");
    r = sound(cell, item++, 30);
    r.energy_valid = 0;
    put(&r, 1);
    audit(5, "an invalid request says why");
    r = sound(cell, item++, 0);
    r.net_energy_j = NAN;
    put(&r, 1);
    audit(6, "no valid request or window has zero joules");
    r = sound(cell, item++, 30);
    r.stop_reason = "length";
    put(&r, 1);
    audit(7, "10 tokens of 20");
    r = sound(cell, item++, 30);
    r.stop_reason = "budget";
    put(&r, 1);
    audit(8, "a text stopped by its budget says so");
    r = sound(cell, item++, 30);
    r.seed = 6;
    put(&r, 1);
    audit(9, "seed 6");
    int64_t other = make_cell("top-p");
    r = sound(other, 0, 30);
    put(&r, 1);
    audit(10, "every setting of a task has the same items");
}

static void advise(const jpt_advise_options *o, const char *line) {
    jpt_buf   out = {0};
    jpt_error err = {0};
    if (jpt_report_advise(store, o, &out, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    if (!strstr(out.p, line))
        fail_msg("no '%s' in:\n%s", line, out.p);
    jpt_buf_fini(&out);
}

static void advice(void **state) {
    (void)state;
    /* beam: 38 of 40 right for 60 J; greedy: 37 for 30 J; sample: 20 for 10 J */
    static const struct {
        const char *spec;
        int         right;
        double      joules;
    } settings[] = {{"beam", 38, 60}, {"greedy", 37, 30}, {"sample", 20, 10}};
    for (int s = 0; s < 3; s++) {
        int64_t cell = make_cell(settings[s].spec);
        for (int64_t i = 0; i < 40; i++) {
            jpt_request_row r = sound(cell, i, settings[s].joules);
            put(&r, i < settings[s].right);
        }
    }
    advise(&(jpt_advise_options){.min_quality = 0.97}, "take greedy.");
    advise(&(jpt_advise_options){.min_quality = 0.97}, "the best, beam has 0.95 at 60 J/request: 50 % less.");
    advise(&(jpt_advise_options){.min_quality = 1}, "take beam.");
    advise(&(jpt_advise_options){.min_quality = 0.5}, "take sample.");
    advise(&(jpt_advise_options){.min_quality = 0.5}, "and is the cheapest that does in");
    advise(&(jpt_advise_options){.min_quality = 0.5, .of = "greedy", .per_token = true}, "greedy has 0.925 at 3 J/token: 67 % less.");
    jpt_buf   out = {0};
    jpt_error err = {0};
    assert_int_equal(jpt_report_advise(store, &(jpt_advise_options){.min_quality = 1, .of = "dola"}, &out, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no setting 'dola'"));
    err = (jpt_error){0};
    assert_int_equal(jpt_report_advise(store, &(jpt_advise_options){.min_quality = 1, .task = "maths"}, &out, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no task 'maths'"));
    jpt_buf_fini(&out);
}

static void compare(const char *a, const char *b, double margin, const char *line) {
    jpt_buf   out = {0};
    jpt_error err = {0};
    if (jpt_report_compare(store, (const char *const[]){a, b}, 2, margin, &out, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    if (!strstr(out.p, line))
        fail_msg("no '%s' in:\n%s", line, out.p);
    jpt_buf_fini(&out);
}

static void verdicts(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        int         right;
        double      joules;
    } settings[] = {{"beam", 38, 60}, {"greedy", 20, 30}, {"again", 20, 30.06}};
    for (int s = 0; s < 3; s++) {
        int64_t cell = make_cell(settings[s].spec);
        for (int64_t i = 0; i < 40 * 3; i++) { /* three blocks: one alone gives no verdict on joules */
            jpt_request_row r = sound(cell, i % 40, settings[s].joules + 0.01 * (double)(i % 7) + 0.002 * (double)((i / 40 + s) % 3 - 1));
            r.block = (int32_t)(i / 40);
            put(&r, i % 40 < settings[s].right);
        }
    }
    compare("beam", "greedy", 0.01, "J/request: +30 (+99.9 %)");
    compare("beam", "greedy", 0.01, "over 40 items and 3 blocks (five are wanted): higher\n");
    compare("greedy", "beam", 0.01, "over 40 items and 3 blocks (five are wanted): lower\n");
    compare("beam", "greedy", 0.01, "price: 66.67 J a request for a point of exact_match");
    compare("again", "greedy", 0.01, "J/request: +0.06 (+0.2 %)");
    compare("again", "greedy", 0.01, "higher, but equivalent within 1 %");
    compare("again", "greedy", 0.001, "over 40 items and 3 blocks (five are wanted): higher\n");
    compare("again", "greedy", 0.01, "exact_match: +0, 95 % interval [+0, +0] over 40 items and 3 blocks: equivalent within 1 %");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_rule_finds_its_failure, set_up, tear_down), cmocka_unit_test_setup_teardown(advice, set_up, tear_down), cmocka_unit_test_setup_teardown(verdicts, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
