/* The counter meter on a simulated card in simulated time: aligned windows, the second instrument, and everything that can be
 * wrong with a sensor.  Each failure has its verdict; none gives a wrong number. */
#include <dlfcn.h>
#include <jpt/meter.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static int64_t virtual_ns;
/* Looking at the clock takes a little time, so that loops which wait come to an end. */
static int64_t now(void *ud) {
    (void)ud;
    return virtual_ns += 2000;
}
static void pass(void *ud, int64_t ns) {
    (void)ud;
    virtual_ns += ns;
}

static void (*fake_clock)(int64_t (*)(void *), void (*)(void *, int64_t), void *);
static void (*fake_load)(double);
static char script_path[64];

static int set_up(void **state) {
    (void)state;
    void *lib = dlopen(JPT_FAKE_NVML_LIB, RTLD_NOW);
    void *p;
    assert_non_null(lib);
    p = dlsym(lib, "fake_nvml_clock"), memcpy(&fake_clock, &p, sizeof p);
    p = dlsym(lib, "fake_nvml_load"), memcpy(&fake_load, &p, sizeof p);
    snprintf(script_path, sizeof script_path, "/tmp/jpt-meter-sim-XXXXXX");
    close(mkstemp(script_path));
    setenv("JPT_FAKE_NVML", script_path, 1);
    virtual_ns = 1000000000000;
    jpt_clock_replace(now, pass, NULL);
    fake_clock(now, pass, NULL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    jpt_clock_replace(NULL, NULL, NULL);
    fake_clock(NULL, NULL, NULL);
    unlink(script_path);
    return 0;
}

static jpt_meter *open_sim(const char *script, double idle_w) {
    jpt_meter_options o = {.nvml_library = JPT_FAKE_NVML_LIB, .no_thread = true};
    jpt_error         err = {0};
    jpt_meter        *m;
    assert_int_equal(jpt_file_write(script_path, script, strlen(script), NULL), JPT_OK);
    if (jpt_meter_open("nvml_counter", &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    fake_load(idle_w);
    return m;
}

/* So many seconds at so many watts, with the sampler at work. */
static void work(jpt_meter *m, double seconds, double watts) {
    fake_load(watts);
    for (double left = seconds; left > 0; left -= 0.01) {
        jpt_sleep_s(left < 0.01 ? left : 0.01);
        jpt_meter_poll(m);
    }
}

static void idle(jpt_meter *m, double seconds) { work(m, seconds, 70); }

static double uniform(int i) { return jpt_rng_uniform((jpt_rng_key){3, 1, 4, (uint32_t)i}, 0); }

/* sd of the energy of 2 s of 500 W on a counter of 100 ms steps. */
static double spread(bool aligned, double *mean, double *worst_error) {
    enum { N = 60 };
    jpt_meter *m = open_sim("sim 100\n", 70);
    double     sum = 0, squares = 0;
    *worst_error = 0;
    for (int i = 0; i < N; i++) {
        jpt_window w;
        jpt_energy e;
        idle(m, 0.5 + uniform(i));
        if (aligned)
            jpt_window_begin_aligned(&w, m);
        else
            jpt_window_begin(&w, m);
        work(m, 2, 500);
        fake_load(70);
        jpt_window_end(&w, 70, &e);
        if (aligned && !e.valid)
            fail_msg("%s", e.reasons);
        double off = fabs(e.energy_j - 1000);
        if (aligned && off > e.error_j + 1e-9)
            fail_msg("window %d: %.4f J, off by %.4f, stated error %.4f", i, e.energy_j, off, e.error_j);
        *worst_error = off > *worst_error ? off : *worst_error;
        sum += e.energy_j;
        squares += e.energy_j * e.energy_j;
    }
    jpt_meter_close(m);
    *mean = sum / N;
    return sqrt(fmax(0, squares / N - *mean * *mean));
}

static void aligned_windows_are_quieter(void **state) {
    (void)state;
    double mean_a, mean_u, worst_a, worst_u, a = spread(true, &mean_a, &worst_a), u = spread(false, &mean_u, &worst_u);
    printf("golden: 2 s windows of 1000 J on a counter of 100 ms: sd %.2f J unaligned, %.3f J aligned (%.0f times less); worst error %.1f and %.2f J\n", u, a, u / a, worst_u, worst_a);
    assert_true(u > 5 * a);
    assert_true(fabs(mean_a - 1000) < 1);
}

static void second_instrument(void **state) {
    (void)state;
    jpt_meter        *m = open_sim("sim 100\n", 70);
    jpt_window        w;
    jpt_energy        e;
    jpt_power_sample  s[512];
    double            idle_w;
    const jpt_card_info *card = jpt_meter_card(m);
    assert_string_equal(card->uuid, "GPU-fake");
    assert_string_equal(card->driver, "999.1");
    assert_float_equal(card->power_limit_w, 700, 0);
    assert_true(jpt_meter_get_limits(m)->second);
    assert_int_equal(jpt_meter_idle(m, 10, &idle_w, NULL), JPT_OK);
    assert_float_equal(idle_w, 70, 0.8);
    jpt_window_begin_aligned(&w, m);
    for (int i = 0; i < 50; i++) { /* 10 s of 300 and 500 W in turn, 100 ms each */
        work(m, 0.1, 300);
        work(m, 0.1, 500);
    }
    fake_load(70);
    jpt_window_end(&w, idle_w, &e);
    assert_true(e.valid);
    assert_float_equal(e.energy_j, 4000, 2);
    assert_float_equal(e.net_energy_j, 4000 - idle_w * e.duration_s, 2);
    assert_true(fabs(e.residual) < 0.03);
    assert_true(e.n_samples >= 150 && e.max_gap_s < 0.2);
    assert_float_equal(e.before.temp_c, 40, 0);
    assert_float_equal(e.after.sm_mhz, 1980, 0);
    assert_int_equal(e.after.others, 0);
    size_t n = jpt_meter_samples(m, w.facts.begin.t_s, w.facts.begin.t_s + 1, s, 512);
    assert_true(n >= 15 && n <= 21);
    jpt_meter_close(m);
}

/* One window of 12 s at 400 W under a script. */
static void expect(const char *script, bool valid, const char *reason, double joules) {
    jpt_meter *m = open_sim(script, 70);
    jpt_window w;
    jpt_energy e;
    idle(m, 1);
    jpt_window_begin_aligned(&w, m);
    work(m, 12, 400);
    fake_load(70);
    jpt_window_end(&w, 70, &e);
    if (e.valid != valid || (reason ? !strstr(e.reasons, reason) : e.reasons[0] != '\0'))
        fail_msg("%s: %s, '%s'; expected %s, '%s'", script, e.valid ? "valid" : "invalid", e.reasons, valid ? "valid" : "invalid", reason ? reason : "");
    if (isnan(joules) ? !isnan(e.energy_j) : fabs(e.energy_j - joules) > 0.01 * joules)
        fail_msg("%s: %.2f J, expected %.2f", script, e.energy_j, joules);
    jpt_meter_close(m);
}

static void faults(void **state) {
    (void)state;
    /* opening takes about a second, idling one more: the window runs from about 2 to 14 s */
    expect("sim 100\n", true, NULL, 4800);
    expect("sim 20\n", true, NULL, 4800);
    expect("sim 100\nstuck_at 6\n", false, "did not move in", NAN);          /* at the end there is no step */
    expect("sim 100\nstuck_at 1.5\n", false, "did not move in", NAN);        /* nor at the beginning */
    expect("sim 100\nback_at 8\n", false, "differ by", 3800);                /* 1000 J vanish: the samples tell */
    expect("sim 100\nreset_at 8\n", false, "went backwards", NAN);
    expect("sim 100\nlost_at 8\n", false, "NVML energy counter", NAN);
    expect("sim 100\nzero_at 3\n", false, "differ by", 4800);                /* which one is right cannot be told */
    expect("sim 100\ngain 1.05\n", true, "warning: counter and sampled power differ by 5", 5040);
    expect("sim 100\ngain 1.3\n", false, "differ by", 6240);
    expect("sim 100\naverage_s 1\n", true, "warning: counter and sampled power differ by", 4800);
    expect("sim 100\ngap_from 5\ngap_to 7\n", true, "warning: a gap of", 4800); /* no cross-check, the counter stands */
    expect("sim 100\nfail power 3\n", true, NULL, 4800);                     /* NotSupported: no second instrument at all */
    expect("sim 100\nothers 2\n", false, "2 other processes used the card", 4800);
    expect("sim 100\nthrottle 64\nthrottle_at 6\n", false, "throttled (hardware thermal)", 4800); /* for one second, in the middle */
    expect("sim 100\nthrottle 4\n", true, "warning: the card ran at its power cap", 4800);
    expect("sim 100\nwarm_at 6\n", true, "warning: the card warmed by 15", 4800);
    jpt_meter        *m;
    jpt_meter_options o = {.nvml_library = JPT_FAKE_NVML_LIB, .no_thread = true};
    jpt_error         err = {0};
    assert_int_equal(jpt_file_write(script_path, "sim 100\nmig 1\n", 14, NULL), JPT_OK);
    assert_int_equal(jpt_meter_open("nvml_counter", &o, &m, &err), JPT_METER);
    assert_non_null(strstr(err.msg, "MIG"));
}

/* A call of the sampler that hangs for 3 s leaves a gap, and the work meanwhile is still counted. */
static void a_stall(void **state) {
    (void)state;
    jpt_meter *m = open_sim("sim 100\nstall_at 6\n", 70);
    jpt_window w;
    jpt_energy e;
    idle(m, 1);
    jpt_window_begin_aligned(&w, m);
    work(m, 12, 400);
    fake_load(70);
    jpt_window_end(&w, 70, &e);
    assert_true(e.valid);
    if (!strstr(e.reasons, "warning: a gap of 1.5"))
        fail_msg("\'%s\'", e.reasons);
    assert_float_equal(e.energy_j, 15 * 400, 10);
    jpt_meter_close(m);
}

static void short_windows_are_refused(void **state) {
    (void)state;
    jpt_meter *m = open_sim("sim 20\n", 70);
    jpt_window w;
    jpt_energy e;
    idle(m, 1);
    jpt_window_begin_aligned(&w, m);
    work(m, 1.5, 400);
    fake_load(70);
    jpt_window_end(&w, 70, &e);
    assert_false(e.valid);
    if (!strstr(e.reasons, "is shorter than 2 s"))
        fail_msg("\'%s\'", e.reasons);
    idle(m, 1);
    jpt_window_begin_aligned(&w, m);
    work(m, 4, 400);
    fake_load(70);
    jpt_window_end(&w, 70, &e);
    assert_true(e.valid);
    if (!strstr(e.reasons, "warning: window of 4.0 s is shorter than 10 s"))
        fail_msg("\'%s\'", e.reasons);
    jpt_meter_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(aligned_windows_are_quieter), cmocka_unit_test(second_instrument), cmocka_unit_test(faults), cmocka_unit_test(a_stall),
                                       cmocka_unit_test(short_windows_are_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
