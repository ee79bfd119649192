/* Foreign runs: nvidia-smi traces with and without units, bad lines and several cards, by each rule; the harness's logs; and what
 * report, compare and audit make of them. */
#include <jpt/import.h>
#include <jpt/report.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static char dir[64], path[96];

static const char *file(const char *name, const char *text) {
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(jpt_file_write(path, text, strlen(text), NULL), JPT_OK);
    return path;
}

static int set_up(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/jpt-import-XXXXXX");
    return mkdtemp(dir) == NULL;
}
static int tear_down(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

#define HEAD "timestamp, index, utilization.gpu [%], power.draw [W]\n"
/* idle 30 W for 3 s; 100 W for 4 samples; idle again; then one busy sample alone */
#define BODY                                                                                                                            \
    "2025/03/12 14:22:00.000, 0, 0 %, 30.00 W\n2025/03/12 14:22:01.000, 0, 0 %, 32.00 W\n2025/03/12 14:22:02.000, 0, 90 %, 100.00 W\n" \
    "2025/03/12 14:22:03.000, 0, 91 %, 110.00 W\n2025/03/12 14:22:04.000, 0, 95 %, 120.00 W\n2025/03/12 14:22:05.000, 0, 90 %, 110.00 W\n" \
    "2025/03/12 14:22:06.000, 0, 0 %, 31.00 W\n2025/03/12 14:22:07.000, 0, 3 %, 50.00 W\n2025/03/12 14:22:08.000, 0, 0 %, 30.00 W\n"

static jpt_trace read_trace(const char *text, jpt_trace_rules rules) {
    jpt_trace t;
    jpt_error err = {0};
    if (jpt_trace_read(file("t.csv", text), &rules, &t, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void near(double got, double want) {
    if (!(fabs(got - want) < 1e-9 * fmax(1, fabs(want))))
        fail_msg("%.12g, expected %.12g", got, want);
}

static void rules_by_hand(void **state) {
    (void)state;
    jpt_trace t = read_trace(HEAD BODY, (jpt_trace_rules){.segment = JPT_SEGMENT_LONGEST, .integration = JPT_SUM, .period_s = 1}); /* the study's own */
    near(t.energy_j, 440), near(t.duration_s, 4), near(t.mean_w, 110), near(t.peak_w, 120);
    assert_int_equal(t.n_samples, 4);
    assert_true(isnan(t.net_energy_j) && t.valid);
    jpt_trace_fini(&t);
    t = read_trace(HEAD BODY, (jpt_trace_rules){.segment = JPT_SEGMENT_LONGEST, .integration = JPT_TRAPEZOID, .idle = JPT_IDLE_OUTSIDE});
    near(t.energy_j, 335), near(t.duration_s, 3), near(t.idle_w, 30.5), near(t.net_energy_j, 335 - 91.5);
    jpt_trace_fini(&t);
    t = read_trace(HEAD BODY, (jpt_trace_rules){.segment = JPT_SEGMENT_BUSY, .integration = JPT_TRAPEZOID, .idle = JPT_IDLE_GIVEN, .idle_w = 20});
    near(t.energy_j, 335 + 70.5 + 40.5), near(t.duration_s, 5), near(t.net_energy_j, 446 - 100);
    jpt_trace_fini(&t);
    t = read_trace(HEAD BODY, (jpt_trace_rules){.segment = JPT_SEGMENT_ALL, .integration = JPT_SUM});
    near(t.energy_j, 613), near(t.duration_s, 9);
    assert_non_null(strstr(t.reasons, "shorter than 10 s"));
    jpt_trace_fini(&t);
}

static void units_and_bad_lines(void **state) {
    (void)state;
    /* no units; a NUL-free mess: N/A, a cut line, a repeated time, an earlier time, an error text, the header again */
    jpt_trace t = read_trace("timestamp, power.draw [W], utilization.gpu [%]\n2025/03/12 14:22:00.000, 30.0, 5\n2025/03/12 14:22:01.000, [N/A], 5\n2025/03/12 14:22:01.500, 40.0\n"
                             "2025/03/12 14:22:02.000, 50.0, 5\n2025/03/12 14:22:02.000, 70.0, 5\n2025/03/12 14:21:59.000, 70.0, 5\nUnable to determine the device handle\n"
                             "timestamp, power.draw [W], utilization.gpu [%]\n2025/03/12 14:22:03.000, 60.0, 5\n2025/03/12 14:22:04.000, 6",
                             (jpt_trace_rules){.segment = JPT_SEGMENT_ALL});
    near(t.energy_j, 80 + 55);
    assert_int_equal(t.n_bad, 4), assert_int_equal(t.n_repeated, 2);
    assert_non_null(strstr(t.reasons, "4 bad lines left out"));
    jpt_trace_fini(&t);
    /* with units, a value that lost its own is cut */
    t = read_trace(HEAD BODY "2025/03/12 14:22:09.000, 0, 0 %, 3", (jpt_trace_rules){.segment = JPT_SEGMENT_ALL});
    assert_int_equal(t.n_bad, 1);
    jpt_trace_fini(&t);
    /* no header, columns named; a gap */
    t = read_trace("2025/03/12 14:22:00.000, 100\n2025/03/12 14:22:01.000, 100\n2025/03/12 14:22:02.000, 100\n2025/03/12 14:22:03.000, 100\n2025/03/12 14:22:33.000, 100\n",
                   (jpt_trace_rules){.columns = "timestamp,power.draw"});
    near(t.energy_j, 3300), near(t.max_gap_s, 30);
    assert_false(t.valid);
    assert_non_null(strstr(t.reasons, "a gap of 30 s in 33 s"));
    jpt_trace_fini(&t);
}

#define TWO                                                                                                                         \
    "2025/03/12 14:22:00.000, 0, 50 %, 100 W\n2025/03/12 14:22:00.003, 1, 0 %, 20 W\n2025/03/12 14:22:01.000, 0, 50 %, 100 W\n" \
    "2025/03/12 14:22:01.003, 1, 0 %, 20 W\n2025/03/12 14:22:02.000, 0, 50 %, 100 W\n2025/03/12 14:22:02.003, 1, 0 %, 20 W\n"

static void several_cards(void **state) {
    (void)state;
    jpt_trace t = read_trace(HEAD TWO, (jpt_trace_rules){.integration = JPT_SUM, .period_s = 1, .gpu = "1"});
    near(t.energy_j, 60);
    jpt_trace_fini(&t);
    t = read_trace(HEAD TWO, (jpt_trace_rules){.integration = JPT_SUM, .period_s = 1, .gpu = "0"});
    near(t.energy_j, 300);
    assert_int_equal(t.n_gpus, 1);
    jpt_trace_fini(&t);
    t = read_trace(HEAD TWO "2025/03/12 14:22:03.003, 1, 0 %, 20 W\n", (jpt_trace_rules){.integration = JPT_TRAPEZOID, .segment = JPT_SEGMENT_ALL});
    assert_int_equal(t.n_gpus, 2);
    jpt_trace_fini(&t);
    jpt_error err = {0};
    assert_int_equal(jpt_trace_read(file("t.csv", HEAD TWO), &(jpt_trace_rules){.gpu = "7"}, &t, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no gpu '7'"));
}

static void refuse(const char *text, jpt_trace_rules rules, const char *words) {
    jpt_trace t;
    jpt_error err = {0};
    assert_int_equal(jpt_trace_read(file("bad.csv", text), &rules, &t, &err), JPT_FORMAT);
    if (!strstr(err.msg, words) || !strstr(err.msg, "bad.csv"))
        fail_msg("no '%s' in: %s", words, err.msg);
}

static void what_is_no_trace(void **state) {
    (void)state;
    refuse("", (jpt_trace_rules){0}, "empty");
    refuse("hello\nworld\n", (jpt_trace_rules){0}, "no header");
    refuse("timestamp, temperature.gpu\n2025/03/12 14:22:00.000, 30\n", (jpt_trace_rules){0}, "no column 'power.draw'");
    refuse("index, power.draw [W], timestamp\n0, 30 W, yesterday\n", (jpt_trace_rules){0}, "fewer than two lines");
    refuse("timestamp, power.draw [W]\n2025/03/12 14:22:00.000, 30\n2025/03/12 14:22:01.000, 30\n", (jpt_trace_rules){.segment = JPT_SEGMENT_LONGEST}, "utilization.gpu");
    refuse("timestamp, utilization.gpu [%], power.draw [W]\n2025/03/12 14:22:00.000, 0, 30\n2025/03/12 14:22:01.000, 0, 30\n", (jpt_trace_rules){.segment = JPT_SEGMENT_BUSY}, "no stretch");
}

#define DOC(id, text, score) "{\"doc_id\": " #id ", \"doc\": {\"q\": 1}, \"target\": \"4\", \"arguments\": [[\"2+2=\", {\"until\": [\"\\n\"]}]], \"resps\": [[\"" text "\"]], \"filtered_resps\": [\"" text "\"], \"filter\": \"strict\", \"exact_match\": " #score "}\n"
#define FLEXIBLE(id, text, score) "{\"doc_id\": " #id ", \"arguments\": {\"gen_args_0\": {\"arg_0\": \"2+2=\"}}, \"resps\": [[\"" text "\"]], \"filtered_resps\": [\"" text "\"], \"filter\": \"flexible\", \"exact_match\": " #score "}\n"

static jpt_store *store_of(const char *name) {
    jpt_store *s = NULL;
    char       at[96];
    snprintf(at, sizeof at, "%s/%s", dir, name);
    assert_int_equal(jpt_store_open(at, JPT_STORE_CREATE, &s, NULL), JPT_OK);
    return s;
}

static void a_study_of_others(void **state) {
    (void)state;
    jpt_store         *s = store_of("r.db");
    jpt_import_summary sum;
    jpt_error          err = {0};
    char               trace[96], log[96], bad[96];
    snprintf(log, sizeof log, "%s", file("log.jsonl", DOC(0, "4", 1.0) FLEXIBLE(0, "4", 1.0) DOC(1, "5", 0.0) FLEXIBLE(1, "5", 1.0)));
    snprintf(bad, sizeof bad, "%s", file("bad.jsonl", DOC(0, "4", 1.0) FLEXIBLE(0, "4", 1.0) "not json\n" DOC(1, "5", 0.0) FLEXIBLE(1, "5", 1.0) "{\"doc_id\": \"x\"}\n"));
    for (int block = 0; block < 3; block++)
        for (int beam = 0; beam < 2; beam++) {
            jpt_buf b = {0};
            jpt_buf_addz(&b, HEAD);
            for (int t = 0; t < 20; t++)
                jpt_buf_printf(&b, "2025/03/12 14:22:%02d.000, 0, 80 %%, %d.%d W\n", t, beam ? 150 : 100, block);
            snprintf(trace, sizeof trace, "%s", file("t.csv", b.p));
            jpt_buf_fini(&b);
            jpt_import i = {.task = "gsm8k", .model = "m", .spec = beam ? "beam:num_beams=5" : "greedy", .batch = 1, .block = block, .trace = trace, .samples = log, .output_tokens = -1};
            if (jpt_import_run(s, &i, &sum, &err) != JPT_OK)
                fail_msg("%s", err.msg);
            assert_int_equal(sum.n_requests, 2), assert_int_equal(sum.n_bad_lines, 0);
            near(sum.score, .5);
            assert_string_equal(sum.metric, "exact_match");
        }
    jpt_import again = {.task = "gsm8k", .model = "m", .spec = "greedy", .batch = 1, .block = 1, .trace = trace, .samples = log, .output_tokens = -1};
    assert_int_equal(jpt_import_run(s, &again, &sum, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "block 1 of 'greedy' on 'gsm8k' is in the file already"));
    jpt_import flexible = {.task = "flexible", .model = "m", .spec = "greedy", .batch = 1, .samples = log, .filter = "flexible", .output_tokens = -1};
    err = (jpt_error){0};
    assert_int_equal(jpt_import_run(s, &flexible, &sum, &err), JPT_OK);
    near(sum.score, 1);
    /* lines that cannot be read are requests without their share of the joules: no number comes of it */
    jpt_import damaged = {.task = "damaged", .model = "m", .spec = "greedy", .batch = 1, .trace = trace, .samples = bad, .output_tokens = -1};
    assert_int_equal(jpt_import_run(s, &damaged, &sum, &err), JPT_OK);
    assert_true(sum.n_requests == 2 && sum.n_bad_lines == 2 && !sum.trace.valid && strstr(sum.trace.reasons, "2 lines of the log cannot be read"));
    jpt_import twice = {.task = "twice", .model = "m", .spec = "greedy", .batch = 1, .samples = file("twice.jsonl", DOC(0, "4", 1.0) DOC(0, "5", 1.0)), .output_tokens = -1};
    assert_int_equal(jpt_import_run(s, &twice, &sum, &err), JPT_FORMAT);
    assert_non_null(strstr(err.msg, "doc_id 0 stands twice"));
    err = (jpt_error){0};
    jpt_buf out = {0};
    int     failed;
    if (jpt_report_audit(s, NULL, &out, &failed, &err) != JPT_OK || failed)
        fail_msg("audit: %s%s", err.msg, out.p ? out.p : "");
    jpt_buf_reset(&out);
    assert_int_equal(jpt_report_compare(s, (const char *const[]){"beam:num_beams=5", "greedy"}, 2, .01, &out, &err), JPT_OK);
    if (!strstr(out.p, "J/request") || !strstr(out.p, ": higher") || !strstr(out.p, "J/token: no paired interval"))
        fail_msg("%s", out.p);
    jpt_buf_fini(&out);
    assert_int_equal(jpt_report_write(s, dir, JPT_REPORT_HTML | JPT_REPORT_MD, NULL, &err), JPT_OK);
    jpt_buf md = {0};
    snprintf(path, sizeof path, "%s/report.md", dir);
    assert_int_equal(jpt_file_read(path, &md, NULL), JPT_OK);
    if (!strstr(md.p, "imported: nvidia-smi power.draw, trapezoid, whole trace")) /* the source and the rule stand in every row */
        fail_msg("%s", md.p);
    jpt_buf_fini(&md);
    jpt_store_close(s);
}

static void corpus_texts(void **state) {
    (void)state;
    jpt_store         *s = store_of("c.db");
    jpt_import_summary sum;
    jpt_error          err = {0};
    const char *log = file("mt.jsonl", "{\"doc_id\":0,\"arguments\":[[\"de\",{}]],\"resps\":[[\"the cat\"]],\"filtered_resps\":[\"the cat\"],\"bleu\":[\"the cat sat\",\"the cat\"],\"chrf\":[\"the cat sat\",\"the cat\"]}\n"
                                       "{\"doc_id\":1,\"arguments\":[[\"de\",{}]],\"resps\":[[\"a dog\"]],\"filtered_resps\":[\"a dog\"],\"bleu\":[[\"a dog\"],\"a dog\"]}\n");
    jpt_import  i = {.task = "wmt", .model = "m", .spec = "greedy", .batch = 1, .samples = log, .output_tokens = -1};
    if (jpt_import_run(s, &i, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(sum.metric, "chrf");
    assert_true(sum.score > 60 && sum.score < 100);
    i.metric = "rouge", i.block = 1;
    err = (jpt_error){0};
    assert_int_equal(jpt_import_run(s, &i, &sum, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "no metric 'rouge'"));
    /* a run without a log is one request */
    jpt_import run = {.task = "whole", .model = "m", .spec = "greedy", .batch = 1, .trace = file("t.csv", HEAD BODY), .output_tokens = 100};
    err = (jpt_error){0};
    if (jpt_import_run(s, &run, &sum, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(sum.n_requests, 1);
    jpt_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_by_hand), cmocka_unit_test(units_and_bad_lines), cmocka_unit_test(several_cards), cmocka_unit_test(what_is_no_trace),
                                       cmocka_unit_test(a_study_of_others), cmocka_unit_test(corpus_texts)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
