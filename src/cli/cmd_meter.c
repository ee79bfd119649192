/* jpt meter: joules, seconds and mean watts of any command.  The command's streams stay its own: jpt's result goes to
 * stderr, or to -o FILE. */
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <jpt/meter.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPEAT_MAX = 10000 };

static volatile sig_atomic_t child, signalled;
static const int             passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
enum { N_PASSED_ON = sizeof passed_on / sizeof *passed_on };

/* What the terminal sends reaches the command by itself (same process group); what another process sends is passed on. */
static void forward(int sig, siginfo_t *info, void *context) {
    (void)context;
    signalled = sig;
    if (child > 0 && info->si_code != SI_KERNEL)
        kill((pid_t)child, sig);
}

/* Run once; exit status as a shell gives it.  cpu_s: the child's own, for the modelled meter. */
static int run_child(char **command, double *cpu_s, jpt_error *err) {
    int ready[2]; /* tells an exec that failed from a command that returned 127 */
    if (pipe(ready) != 0)
        return JPT_FAIL(err, IO, "cannot start '%s': %s", command[0], strerror(errno)), -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        if (dup2(ready[1], 200) >= 0) {
            close(ready[1]);
            ready[1] = 200;
        }
        signal(SIGPIPE, SIG_DFL);
        for (int i = 0; i < N_PASSED_ON; i++)
            signal(passed_on[i], SIG_DFL);
        fcntl(ready[1], F_SETFD, FD_CLOEXEC);
        execvp(command[0], command);
        int why = errno;
        if (write(ready[1], &why, sizeof why) < 0)
            _exit(126);
        _exit(127);
    }
    close(ready[1]);
    if (pid < 0) {
        close(ready[0]);
        return JPT_FAIL(err, IO, "cannot start '%s': %s", command[0], strerror(errno)), -1;
    }
    child = pid;
    int     why = 0, status = 0;
    ssize_t n;
    while ((n = read(ready[0], &why, sizeof why)) < 0 && errno == EINTR)
        ;
    close(ready[0]);
    struct rusage u = {0};
    while (wait4(pid, &status, 0, &u) < 0 && errno == EINTR)
        ;
    child = 0;
    *cpu_s = (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    if (n == (ssize_t)sizeof why)
        return JPT_FAIL(err, NOT_FOUND, "cannot start '%s': %s", command[0], strerror(why)), -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

typedef struct summary {
    double mean, sd, half; /* half-width of the 95 % t interval; NAN below 2 */
} summary;

/* Two-sided 95 % quantile of Student's t, by Hill's (1970) expansion; exact enough (1e-3) for 1 <= df. */
static double t95(int df) {
    static const double small[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228};
    if (df <= 10)
        return small[df - 1];
    double z = 1.959964, g = (z * z * z + z) / 4 / df, h = (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / 96 / df / df;
    return z + g + h;
}

static summary summarise(const double *v, int n) {
    summary s = {0, NAN, NAN};
    for (int i = 0; i < n; i++)
        s.mean += v[i] / n;
    if (n > 1) {
        double ss = 0;
        for (int i = 0; i < n; i++)
            ss += (v[i] - s.mean) * (v[i] - s.mean);
        s.sd = sqrt(ss / (n - 1));
        s.half = t95(n - 1) * s.sd / sqrt(n);
    }
    return s;
}

static json_t *number(double v) { return isnan(v) ? json_null() : json_real(v); }

static void print_json(FILE *f, char **command, int n, summary joules, summary seconds, const jpt_energy *e, bool valid, int status) {
    json_t *j = json_object(), *c = json_array();
    for (char **a = command; *a; a++)
        json_array_append_new(c, json_string_nocheck(*a));
    json_object_set_new(j, "command", c);
    json_object_set_new(j, "n", json_integer(n));
    json_object_set_new(j, "energy_j", number(joules.mean));
    json_object_set_new(j, "energy_sd_j", number(joules.sd));
    json_object_set_new(j, "energy_ci95_half_j", number(joules.half));
    json_object_set_new(j, "energy_error_j", number(e->error_j));
    json_object_set_new(j, "duration_s", number(seconds.mean));
    json_object_set_new(j, "mean_w", number(joules.mean / seconds.mean));
    json_object_set_new(j, "energy_source", json_string(e->source));
    json_object_set_new(j, "modelled", json_boolean(e->modelled));
    json_object_set_new(j, "valid", json_boolean(valid));
    json_object_set_new(j, "reasons", e->reasons[0] ? json_string(e->reasons) : json_null());
    json_object_set_new(j, "exit_status", json_integer(status));
    json_dumpf(j, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', f);
    json_decref(j);
}

int cmd_meter(int argc, char **argv) {
    static const struct option longs[] = {{"repeat", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'}, {"meter", required_argument, NULL, 'm'},
        {"watts", required_argument, NULL, 'w'}, {"gpu", required_argument, NULL, 'g'}, {"trace", required_argument, NULL, 't'},
        {"output", required_argument, NULL, 'o'}, {"require-energy", no_argument, NULL, 'R'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char       *meter_name = "auto", *out_path = NULL;
    jpt_meter_options mo = {.prefer_gpu = true};
    long long         repeat = 1, v;
    bool              json = false, demand = false, gpu_named = false;
    jpt_error         err = {0};
    for (int c; (c = getopt_long(argc, argv, "+r:o:h", longs, NULL)) != -1;)
        switch (c) {
        case 'r':
            if (!cli_parse_int(optarg, 1, REPEAT_MAX, &repeat))
                return cli_usage("--repeat %s: expected a number from 1 to %d", optarg, REPEAT_MAX);
            break;
        case 'j': json = true; break;
        case 'm': meter_name = optarg; break;
        case 'w':
            if (!cli_parse_double(optarg, 0.001, 1e6, &mo.watts))
                return cli_usage("--watts %s: expected watts above 0", optarg);
            break;
        case 'g':
            if (!cli_parse_int(optarg, 0, 1000, &v))
                return cli_usage("--gpu %s: expected a GPU's number", optarg);
            mo.gpu = (int)v;
            gpu_named = true;
            break;
        case 't': mo.trace = optarg; break;
        case 'o': out_path = optarg; break;
        case 'R': demand = true; break;
        case 'h':
            puts("usage: jpt meter [options] -- COMMAND...\n\n"
                 "joules, seconds and mean watts of a command; its exit status and signals pass through\n\n"
                 "  -r, --repeat N      run it N times: mean, standard deviation, 95 % interval\n"
                 "      --json          one JSON object\n"
                 "  -o, --output FILE   result there instead of on standard error\n"
                 "      --meter KIND    auto, nvml_counter, nvml_instant_integral, rapl, replay, model, none\n"
                 "      --gpu N         which GPU     --watts W  of the modelled meter     --trace FILE  of replay\n"
                 "      --require-energy exit 3 when the energy is modelled, absent or not valid");
            return CLI_OK;
        default: return cli_bad_option("meter", argv);
        }
    char **command = argv + optind;
    if (!*command)
        return cli_usage("meter: no command; jpt meter -- COMMAND...");
    if (mo.trace && strcmp(meter_name, "replay") != 0)
        return cli_usage("meter: --trace is for --meter replay");
    if (gpu_named && strcmp(meter_name, "auto") == 0)
        meter_name = "nvml_counter"; /* who names a GPU wants no other meter in its place */
    jpt_meter *m;
    if (jpt_meter_open(meter_name, &mo, &m, &err) != JPT_OK)
        return cli_fail(&err);
    FILE *f = out_path ? fopen(out_path, "w") : stderr; /* before the command runs: nobody waits an hour for "cannot write" */
    if (!f) {
        JPT_FAIL(&err, IO, "%s: cannot write: %s", out_path, strerror(errno));
        jpt_meter_close(m);
        return cli_fail(&err);
    }
    struct sigaction sa = {.sa_sigaction = forward, .sa_flags = SA_SIGINFO};
    for (int i = 0; i < N_PASSED_ON; i++)
        sigaction(passed_on[i], &sa, NULL);
    double    *joules = malloc((size_t)repeat * sizeof *joules), *seconds = malloc((size_t)repeat * sizeof *seconds);
    jpt_energy e = {0};
    char       reasons[sizeof e.reasons] = ""; /* of the first run that is not valid, else that has a warning */
    int        status = 0, n = 0;
    bool       valid = true;
    for (; joules && seconds && n < repeat && status == 0 && !signalled; n++) {
        jpt_window w;
        double     cpu_s = 0;
        jpt_window_begin_aligned(&w, m);
        status = run_child(command, &cpu_s, &err);
        jpt_window_end(&w, NAN, &e);
        if (status < 0)
            break;
        const jpt_meter_limits *l = jpt_meter_get_limits(m);
        if (l->kind == JPT_METER_MODEL) { /* the command's CPU seconds, not jpt's */
            e.energy_j = cpu_s * l->declared_w;
            e.error_j = NAN;
        }
        if (e.reasons[0] && (valid ? !e.valid || !reasons[0] : false))
            memcpy(reasons, e.reasons, sizeof reasons);
        valid = valid && e.valid;
        joules[n] = e.energy_j;
        seconds[n] = e.duration_s;
    }
    if (n == 0 && status == 0 && signalled)
        status = 128 + signalled;
    if (status >= 0 && n > 0) {
        summary j = summarise(joules, n), s = summarise(seconds, n);
        memcpy(e.reasons, reasons, sizeof reasons);
        if (json) {
            print_json(f, command, n, j, s, &e, valid, status);
        } else if (isnan(j.mean)) {
            fprintf(f, "no energy (%s), %.3f s\n", e.reasons, s.mean);
        } else {
            fprintf(f, "%.4g J", j.mean);
            if (!isnan(j.half))
                fprintf(f, " +- %.2g (95 %%, n = %d)", j.half, n);
            fprintf(f, ", %.3f s, %.4g W (%s%s)%s%s\n", s.mean, j.mean / s.mean, e.source, e.modelled ? ": modelled, not measured" : "",
                    !valid ? "; not valid: " : e.reasons[0] ? "; " : "", e.reasons);
        }
        if (f != stderr && fclose(f) != 0) {
            JPT_FAIL(&err, IO, "%s: writing failed: %s", out_path, strerror(errno));
            cli_fail(&err);
            status = status ? status : CLI_FAILED;
        }
        if (status == 0 && demand && (!valid || e.modelled)) {
            fprintf(stderr, "jpt: energy was demanded, but it is %s\n", e.modelled ? "modelled, not measured" : e.reasons);
            status = CLI_NO_ENERGY;
        }
    }
    free(joules);
    free(seconds);
    jpt_meter_close(m);
    if (status < 0) {
        cli_fail(&err);
        return 127;
    }
    return status;
}
