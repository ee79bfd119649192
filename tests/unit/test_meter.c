/* Meters against scripted sensors: exact joules, and a reason for every failure. */
#include <jpt/meter.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static char dir[] = "/tmp/jpt-meter-XXXXXX";

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(jpt_file_write(path, text, strlen(text), NULL), JPT_OK);
}

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* ---- NVML -------------------------------------------------------------------------------------------------- */

static jpt_status open_nvml(const char *kind, const char *script, int gpu, jpt_meter **m, jpt_error *err) {
    jpt_meter_options o = {.nvml_library = JPT_FAKE_NVML_LIB, .gpu = gpu, .sample_period_s = 0.005};
    put("nvml", script);
    setenv("JPT_FAKE_NVML", path_of("nvml"), 1);
    *err = (jpt_error){0};
    return jpt_meter_open(kind, &o, m, err);
}

static void nvml_failures(void **unused) {
    (void)unused;
    jpt_meter *m;
    jpt_error  err;
    assert_int_equal(open_nvml("nvml_counter", "fail energy 3\n", 0, &m, &err), JPT_METER);
    assert_string_equal(err.msg, "NVML energy counter: Not Supported");
    assert_int_equal(open_nvml("nvml_counter", "fail init 9\n", 0, &m, &err), JPT_METER);
    assert_string_equal(err.msg, "NVML does not start: Driver Not Loaded");
    assert_int_equal(open_nvml("nvml_counter", "count 2\nenergy 1\n", 5, &m, &err), JPT_METER);
    assert_string_equal(err.msg, "NVML sees 2 GPUs; there is no GPU 5");
    assert_int_equal(open_nvml("nvml_counter", "count 0\n", 0, &m, &err), JPT_METER);
    assert_int_equal(open_nvml("nvml_instant_integral", "power 100000\ntype 77\n", 0, &m, &err), JPT_METER);
    assert_non_null(strstr(err.msg, "value type 77 is unknown"));
    jpt_meter_options o = {.nvml_library = "libno-such-thing.so"};
    err = (jpt_error){0};
    assert_int_equal(jpt_meter_open("nvml_counter", &o, &m, &err), JPT_METER);
    assert_non_null(strstr(err.msg, "no NVML"));
    err = (jpt_error){0};
    assert_int_equal(jpt_meter_open("rapple", NULL, &m, &err), JPT_ARG);
}

static void nvml_counter_counts(void **unused) {
    (void)unused;
    jpt_meter  *m;
    jpt_error   err;
    jpt_reading a, b;
    /* the counter moves at every call: its step is the time between calls */
    jpt_buf script = {0};
    for (int i = 0; i < 4000; i++)
        jpt_buf_printf(&script, "energy %d\n", 1000000 + 250 * i);
    assert_int_equal(open_nvml("nvml_counter", script.p, 0, &m, &err), JPT_OK);
    assert_int_equal(jpt_meter_read(m, &a, &err), JPT_OK);
    assert_int_equal(jpt_meter_read(m, &b, &err), JPT_OK);
    assert_float_equal(b.energy_j - a.energy_j, 0.25, 1e-9);
    assert_non_null(strstr(jpt_meter_get_limits(m)->coverage, "Fake H100"));
    assert_false(jpt_meter_get_limits(m)->modelled);
    jpt_meter_close(m);
    jpt_buf_fini(&script);
}

static void nvml_instant_integrates(void **unused) {
    (void)unused;
    static const char *const scripts[] = {"power 200000\n", "power 200000\ntype 3\n", "power 200000\ntype 0\n"};
    for (int i = 0; i < 3; i++) {
        jpt_meter *m;
        jpt_error  err;
        jpt_window w;
        jpt_energy e;
        assert_int_equal(open_nvml("nvml_instant_integral", scripts[i], 0, &m, &err), JPT_OK);
        jpt_window_begin(&w, m);
        usleep(60000);
        jpt_window_end(&w, NAN, &e);
        assert_float_equal(e.mean_w, 200, 2);
        assert_false(e.valid); /* 60 ms against a step of 100 ms */
        assert_non_null(strstr(e.reasons, "shorter than 20 steps"));
        jpt_meter_close(m);
    }
}

/* ---- RAPL ---------------------------------------------------------------------------------------------------- */

static void zone(const char *name, const char *kind, const char *energy, const char *range) {
    char path[128];
    mkdir(path_of(name), 0777);
    snprintf(path, sizeof path, "%s/name", name);
    put(path, kind);
    snprintf(path, sizeof path, "%s/energy_uj", name);
    put(path, energy);
    snprintf(path, sizeof path, "%s/max_energy_range_uj", name);
    put(path, range);
}

static void rapl_wraps_and_adds(void **unused) {
    (void)unused;
    jpt_meter        *m;
    jpt_error         err = {0};
    jpt_reading       a, b;
    char              root[64];
    snprintf(root, sizeof root, "%s", dir);
    jpt_meter_options o = {.powercap_root = root};
    zone("intel-rapl:0", "package-0\n", "1000000\n", "10000000\n");
    zone("intel-rapl:1", "package-1\n", "9000000\n", "10000000\n");
    zone("intel-rapl:0:0", "dram\n", "500000\n", "4000000\n");
    zone("intel-rapl:0:1", "core\n", "1\n", "4000000\n");   /* is in the package already */
    zone("intel-rapl:2", "psys\n", "1\n", "4000000\n");     /* holds everything again */
    assert_int_equal(jpt_meter_open("rapl", &o, &m, &err), JPT_OK);
    assert_non_null(strstr(jpt_meter_get_limits(m)->coverage, "2 CPU packages and DRAM"));
    jpt_meter_read(m, &a, NULL);
    put("intel-rapl:0/energy_uj", "3000000\n");   /* +2 J */
    put("intel-rapl:1/energy_uj", "500000\n");    /* wrapped: +1.5 J */
    put("intel-rapl:0:0/energy_uj", "750000\n");  /* +0.25 J */
    put("intel-rapl:0:1/energy_uj", "999999\n");
    put("intel-rapl:2/energy_uj", "999999\n");
    jpt_meter_read(m, &b, NULL);
    assert_float_equal(b.energy_j - a.energy_j, 3.75, 1e-9);
    unlink(path_of("intel-rapl:1/energy_uj"));
    assert_int_equal(jpt_meter_read(m, &b, &err), JPT_METER);
    assert_true(isnan(b.energy_j));
    jpt_window w;
    jpt_energy e;
    jpt_window_begin(&w, m);
    jpt_window_end(&w, NAN, &e);
    assert_false(e.valid);
    assert_true(isnan(e.energy_j)); /* never a silent zero */
    assert_non_null(strstr(e.reasons, "energy_uj"));
    jpt_meter_close(m);
    o.powercap_root = "/nonexistent";
    err = (jpt_error){0};
    assert_int_equal(jpt_meter_open("rapl", &o, &m, &err), JPT_METER);
}

/* ---- pure ------------------------------------------------------------------------------------------------------ */

static void verdicts(void **unused) {
    (void)unused;
    jpt_meter_limits l = {.kind = JPT_METER_NVML_COUNTER, .name = "nvml_counter", .step_s = 0.1};
    jpt_energy       e;
    jpt_energy_judge(&l, (jpt_reading){10, 100}, (jpt_reading){20, 1100}, 30, &e);
    assert_true(e.valid);
    assert_float_equal(e.energy_j, 1000, 1e-9);
    assert_float_equal(e.mean_w, 100, 1e-9);
    assert_float_equal(e.error_j, 10, 1e-9); /* one step of the mean power: 1 % */
    assert_float_equal(e.net_energy_j, 700, 1e-9);
    jpt_energy_judge(&l, (jpt_reading){10, 100}, (jpt_reading){11, 200}, NAN, &e);
    assert_false(e.valid); /* short */
    assert_true(isnan(e.net_energy_j));
    jpt_energy_judge(&l, (jpt_reading){10, 100}, (jpt_reading){20, 100}, NAN, &e);
    assert_false(e.valid);
    assert_non_null(strstr(e.reasons, "did not move"));
    jpt_energy_judge(&l, (jpt_reading){10, 100}, (jpt_reading){20, 40}, NAN, &e);
    assert_false(e.valid);
    assert_true(isnan(e.energy_j));
    assert_non_null(strstr(e.reasons, "backwards by 60.000 J"));
}

static void integration(void **unused) {
    (void)unused;
    const jpt_power_sample s[] = {{0, 100}, {1, 100}, {1, 200}, {2, 200}, {3, 0}};
    assert_float_equal(jpt_integrate(s, 5, 0, 3, 2), 100 + 200 + 100, 1e-9);
    assert_float_equal(jpt_integrate(s, 5, 0.5, 2.5, 2), 50 + 200 + 75, 1e-9);
    assert_float_equal(jpt_integrate(s, 5, -1, 0.5, 2), 150, 1e-9); /* the first sample is held back to the edge */
    assert_true(isnan(jpt_integrate(s, 5, 0, 3, 0.5)));              /* a gap of 1 s */
    assert_true(isnan(jpt_integrate(s, 5, 0, 9, 2)));
    assert_true(isnan(jpt_integrate(s, 1, 0, 1, 2)));
}

static void attribution(void **unused) {
    (void)unused;
    /* prefill 0-2, decode 2-8 with a select inside 4-5, nothing 8-10 */
    const jpt_phase_event e[] = {{0, 0, true}, {2, 0, false}, {2, 1, true}, {4, 2, true}, {5, 2, false}, {8, 1, false}};
    double                j[4];
    jpt_attribute(e, 6, 0, 10, 100, 3, j);
    assert_float_equal(j[0], 20, 1e-9);
    assert_float_equal(j[1], 50, 1e-9);
    assert_float_equal(j[2], 10, 1e-9);
    assert_float_equal(j[3], 20, 1e-9);
    jpt_attribute(e, 6, 0, 10, NAN, 3, j);
    assert_true(isnan(j[0]));
}

static void replay_and_model(void **unused) {
    (void)unused;
    jpt_meter        *m;
    jpt_error         err = {0};
    jpt_reading       a, b;
    char              trace[300];
    put("trace.csv", "t_s,energy_j\n0,5\n100,1005\n");
    snprintf(trace, sizeof trace, "%s", path_of("trace.csv"));
    jpt_meter_options o = {.trace = trace};
    assert_int_equal(jpt_meter_open("replay", &o, &m, &err), JPT_OK);
    jpt_meter_read(m, &a, NULL);
    usleep(50000);
    jpt_meter_read(m, &b, NULL);
    assert_float_equal((b.energy_j - a.energy_j) / (b.t_s - a.t_s), 10, 0.01);
    jpt_meter_close(m);
    put("trace.csv", "t_s,power_w\n0,5\nx,6\n");
    assert_int_equal(jpt_meter_open("replay", &o, &m, &err), JPT_FORMAT);
    assert_non_null(strstr(err.msg, "line 3"));
    o.watts = 7;
    assert_int_equal(jpt_meter_open("model", &o, &m, NULL), JPT_OK);
    assert_true(jpt_meter_get_limits(m)->modelled);
    double c0 = jpt_process_cpu_s();
    jpt_meter_read(m, &a, NULL);
    while (jpt_process_cpu_s() < c0 + 0.05)
        ;
    jpt_meter_read(m, &b, NULL);
    assert_true(b.energy_j - a.energy_j >= 0.049 * 7);
    jpt_meter_close(m);
    assert_int_equal(jpt_meter_open("none", NULL, &m, NULL), JPT_OK);
    jpt_window w;
    jpt_energy e;
    jpt_window_begin(&w, m);
    jpt_window_end(&w, NAN, &e);
    assert_true(isnan(e.energy_j) && !e.valid);
    jpt_meter_close(m);
}

/* A counter that wraps many times within a window: the keeper reads in between. */
static void rapl_keeps_up(void **unused) {
    (void)unused;
    jpt_meter_options o = {.powercap_root = dir};
    jpt_error         err = {0};
    jpt_meter        *m;
    jpt_reading       a, b;
    char              text[32];
    zone("intel-rapl:0", "package-0\n", "0\n", "100000000\n"); /* 100 J: read every 20 ms at least */
    assert_int_equal(jpt_meter_open("rapl", &o, &m, &err), JPT_OK);
    assert_int_equal(jpt_meter_read(m, &a, &err), JPT_OK);
    for (int step = 1; step <= 16; step++) { /* 40 J each 60 ms */
        snprintf(text, sizeof text, "%d\n", step * 40000000 % 100000000);
        put("intel-rapl:0/energy_uj.new", text);
        char from[512], to[512];
        snprintf(from, sizeof from, "%s", path_of("intel-rapl:0/energy_uj.new"));
        snprintf(to, sizeof to, "%s", path_of("intel-rapl:0/energy_uj"));
        assert_int_equal(rename(from, to), 0);
        usleep(60000);
    }
    assert_int_equal(jpt_meter_read(m, &b, &err), JPT_OK);
    assert_float_equal(b.energy_j - a.energy_j, 640, 1e-6);
    jpt_meter_close(m);
}

int main(void) {
    if (!mkdtemp(dir))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nvml_failures), cmocka_unit_test(nvml_counter_counts), cmocka_unit_test(nvml_instant_integrates), cmocka_unit_test(rapl_keeps_up), cmocka_unit_test(rapl_wraps_and_adds),
        cmocka_unit_test(verdicts), cmocka_unit_test(integration), cmocka_unit_test(attribution), cmocka_unit_test(replay_and_model),
    };
    int  rc = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) || rc;
}
