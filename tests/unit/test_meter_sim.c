/* The counter meter on a simulated card in simulated time: aligned windows, the second instrument, and everything that can be
 * wrong with a sensor.  Each failure has its verdict; none gives a wrong number. */
#include <dlfcn.h>
#include <jpt/meter.h>
#include <jpt/run.h>
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
    expect("sim 100\nzero_at 3\n", true, "warning: a gap of", 4800);         /* 0 W is no reading: it is dropped, and the counter stands */
    expect("sim 100\ngap_from 5\ngap_to 1e9\n", true, "warning: a gap of", 4800); /* NotSupported from then on */
    expect("sim 100\ngain 1.05\n", true, "warning: counter and sampled power differ by 4.9", 5040);
    expect("sim 100\ngain 1.3\n", false, "differ by", 6240);
    expect("sim 100\naverage_s 1\n", true, "warning: counter and sampled power differ by", 4800);
    expect("sim 100\ngap_from 5\ngap_to 7\n", true, "warning: a gap of", 4800); /* no cross-check, the counter stands */
    expect("sim 100\nfail power 3\n", true, NULL, 4800);                     /* NotSupported: no second instrument at all */
    expect("sim 100\nothers 2\n", false, "2 other processes used the card", 4800);
    expect("sim 100\nthrottle 64\nthrottle_at 6\n", false, "throttled (hardware thermal)", 4800); /* for one second, in the middle */
    expect("sim 100\nthrottle 4\n", true, "warning: the card ran at its power cap", 4800);
    expect("sim 100\nwarm_at 6\n", true, "warning: the card warmed by 15", 4800);
    /* not even opened */
    static const char *const scripts[][2] = {{"sim 100\nmig 1\n", "MIG"}, {"sim 100\nfail energy 3\n", "Not Supported"}, {"sim 100\nlost_at 0\n", "NVML energy counter"}};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        jpt_meter        *m;
        jpt_meter_options o = {.nvml_library = JPT_FAKE_NVML_LIB, .no_thread = true};
        jpt_error         err = {0};
        assert_int_equal(jpt_file_write(script_path, scripts[i][0], strlen(scripts[i][0]), NULL), JPT_OK);
        assert_int_equal(jpt_meter_open("nvml_counter", &o, &m, &err), JPT_METER);
        if (!strstr(err.msg, scripts[i][1]))
            fail_msg("'%s' lacks '%s'", err.msg, scripts[i][1]);
    }
}

/* The integral of sampled power alone, for boards without a counter: there is nothing to fall back on, so a hole voids the window. */
static void faults_without_a_counter(void **state) {
    (void)state;
    static const struct {
        const char *script, *reason;
        double      joules;
    } cases[] = {{"sim 100\n", NULL, 4800},           {"sim 100\nzero_at 6\n", "reads 0 W", NAN},          {"sim 100\ngap_from 5\ngap_to 7\n", "starved", NAN},
                 {"sim 100\nlost_at 6\n", "POWER_INSTANT", NAN}, {"sim 100\nstall_at 6\n", "starved", NAN}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jpt_meter_options o = {.nvml_library = JPT_FAKE_NVML_LIB, .no_thread = true};
        jpt_meter        *m;
        jpt_window        w;
        jpt_energy        e;
        assert_int_equal(jpt_file_write(script_path, cases[i].script, strlen(cases[i].script), NULL), JPT_OK);
        assert_int_equal(jpt_meter_open("nvml_instant_integral", &o, &m, NULL), JPT_OK);
        idle(m, 1);
        jpt_window_begin_aligned(&w, m);
        work(m, 12, 400);
        fake_load(70);
        jpt_window_end(&w, 70, &e);
        if (e.valid != !cases[i].reason || (cases[i].reason && !strstr(e.reasons, cases[i].reason)))
            fail_msg("%s: %s, '%s'", cases[i].script, e.valid ? "valid" : "invalid", e.reasons);
        if (cases[i].reason ? !isnan(e.energy_j) : fabs(e.energy_j - 4800) > 0.02 * 4800)
            fail_msg("%s: %.2f J", cases[i].script, e.energy_j);
        jpt_meter_close(m);
    }
}

/* Windows of three phases at known watts: the books close to 2 %, the phases are found by samples, and the regression over windows,
 * which knows nothing of the samples, says the same. */
static void the_ledger_closes(void **state) {
    (void)state;
    enum { WINDOWS = 14, PHASES = 3 }; /* 0 and 1; 2 is the host */
    const double     watts[PHASES] = {500, 320, 120};
    jpt_meter       *m = open_sim("sim 100\n", 70);
    jpt_profile      p;
    jpt_power_sample s[4096];
    double           seconds[WINDOWS * PHASES], above[WINDOWS], by_samples[PHASES] = {0}, truth[PHASES] = {0}, worst = 0;
    jpt_regression   r;
    assert_int_equal(jpt_profile_init(&p, 2, NULL), JPT_OK);
    for (int i = 0; i < WINDOWS; i++) {
        jpt_window w;
        jpt_energy e;
        jpt_ledger l;
        idle(m, 1);
        jpt_window_begin_aligned(&w, m);
        jpt_profile_start(&p, w.facts.begin.t_s);
        for (int k = 0; k < 20; k++) /* prefill, decode, host, again and again, in a mix of the window's own */
            for (int phase = 0; phase < PHASES; phase++) {
                double length = (phase == 0 ? 0.3 : phase == 1 ? 0.8 : 0.15) * (0.4 + 2 * uniform(1000 + 10 * i + phase)), begun = jpt_now_s();
                if (phase < 2)
                    jpt_profile_event(&p, phase, true, begun);
                work(m, length, watts[phase]);
                if (phase < 2)
                    jpt_profile_event(&p, phase, false, jpt_now_s());
                truth[phase] += (watts[phase] - 70) * (jpt_now_s() - begun);
            }
        fake_load(70);
        jpt_window_end(&w, 70, &e);
        assert_true(e.valid);
        jpt_profile_end(&p, w.facts.begin.t_s + e.duration_s);
        size_t n = jpt_meter_samples(m, w.facts.begin.t_s - 0.5, w.facts.begin.t_s + e.duration_s + 0.5, s, 4096);
        jpt_ledger_split(&p, s, n, e.energy_j, 70, &l);
        assert_string_equal(l.method, "samples");
        assert_float_equal(l.phase_j[0] + l.phase_j[1] + l.phase_j[2] + l.idle_j + l.residual_j, e.energy_j, 1e-6);
        worst = fmax(worst, fabs(l.residual_j) / e.energy_j);
        for (int k = 0; k < PHASES; k++) {
            by_samples[k] += l.phase_j[k];
            seconds[i * PHASES + k] = l.phase_s[k];
        }
        above[i] = e.energy_j - l.idle_j;
    }
    jpt_profile_fini(&p);
    jpt_meter_close(m);
    assert_true(jpt_ledger_regress(seconds, above, WINDOWS, PHASES, &r));
    printf("golden: books of %d windows close to %.2f %%; joules above idle by samples %.1f, %.1f, %.1f %% off; watts by regression %.1f, %.1f, %.1f of 430, 250, 50 (condition %.1f)\n", WINDOWS,
           100 * worst, 100 * (by_samples[0] / truth[0] - 1), 100 * (by_samples[1] / truth[1] - 1), 100 * (by_samples[2] / truth[2] - 1), r.watts[0], r.watts[1], r.watts[2], r.condition);
    assert_true(worst <= 0.02);
    assert_true(fabs(by_samples[0] / truth[0] - 1) < 0.12 && fabs(by_samples[1] / truth[1] - 1) < 0.12); /* the sampled field lags and sees a quarter of the time */
    for (int k = 0; k < 2; k++)
        assert_true(fabs(r.watts[k] - (watts[k] - 70)) < 0.03 * watts[k]);
}

/* Greedy against itself under two names: 100 studies of 6 blocks, windows of 2 s in random order, 0.5 % of noise between windows and a
 * card that drifts by 3 % over the study. */
static void the_same_is_not_separable(void **state) {
    (void)state;
    enum { STUDIES = 100, BLOCKS = 6 };
    int same = 0;
    for (int study = 0; study < STUDIES; study++) {
        jpt_meter *m = open_sim("sim 100\n", 70);
        double     x[BLOCKS], low, high;
        for (int block = 0; block < BLOCKS; block++) {
            double joules[2];
            int    first = uniform(100000 + 100 * study + block) < 0.5;
            for (int k = 0; k < 2; k++) {
                jpt_window w;
                jpt_energy e;
                int        at = 1000000 + 1000 * study + 10 * block + 4 * k;
                double     noise = sqrt(-2 * log(1 - uniform(at))) * cos(2 * M_PI * uniform(at + 1));
                idle(m, 0.3 + uniform(at + 2));
                jpt_window_begin_aligned(&w, m);
                work(m, 2, 400 * (1 + 0.03 * (2 * block + k) / (2 * BLOCKS) + 0.005 * noise));
                fake_load(70);
                jpt_window_end(&w, 70, &e);
                assert_true(e.valid);
                joules[k ^ first] = e.energy_j;
            }
            x[block] = log(joules[1] / joules[0]);
        }
        jpt_meter_close(m);
        jpt_stopping_interval(x, BLOCKS, 0.05, &low, &high);
        same += low <= 0 && high >= 0;
    }
    printf("golden: greedy against itself under two names is not separable in %d of %d simulated studies\n", same, STUDIES);
    assert_true(same >= 95);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(aligned_windows_are_quieter), cmocka_unit_test(second_instrument), cmocka_unit_test(faults), cmocka_unit_test(faults_without_a_counter), cmocka_unit_test(a_stall),
                                       cmocka_unit_test(short_windows_are_refused), cmocka_unit_test(the_ledger_closes), cmocka_unit_test(the_same_is_not_separable)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
