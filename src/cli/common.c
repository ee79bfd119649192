/* What the subcommands share: messages, numbers, engine options, the progress line. */
#include "cli.h"
#include <errno.h>
#include <getopt.h>
#include <jpt/format.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int verbosity = 1;

int  cli_verbosity(void) { return verbosity; }
void cli_set_verbosity(int level) { verbosity = level; }

int cli_fail(const jpt_error *err) {
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    fprintf(stderr, "jpt: %s\n", err->msg[0] ? err->msg : jpt_status_text(err->code));
    if (verbosity > 1 && err->file)
        fprintf(stderr, "jpt: (%s, %s:%d)\n", jpt_status_text(err->code), err->file, err->line);
    return err->code == JPT_INTERRUPTED ? CLI_INTERRUPTED : CLI_FAILED;
}

int cli_usage(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("jpt: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs(" (jpt COMMAND --help tells more)\n", stderr);
    va_end(ap);
    return CLI_USAGE;
}

int cli_bad_option(const char *command, char **argv) {
    const char *word = optind > 0 && argv[optind - 1] ? argv[optind - 1] : "?";
    return cli_usage("%s: '%s' is no option here, or its value is missing", command, word);
}

const char *cli_model_path(const char *name, jpt_error *err) {
    static char path[4096];
    return jpt_model_resolve(name, path, sizeof path, err) == JPT_OK ? path : NULL;
}

jpt_status cli_open_models(const cli_engine *e, jpt_model **model, jpt_model **draft, jpt_error *err) {
    const char *path = cli_model_path(e->model, err);
    if (!path)
        return err->code;
    JPT_TRY(jpt_model_open(path, &e->opt, model, err));
    if (!e->draft)
        return JPT_OK;
    path = cli_model_path(e->draft, err);
    return path ? jpt_model_open(path, &e->opt, draft, err) : err->code;
}

bool cli_parse_int(const char *text, long long min, long long max, long long *out) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max)
        return false;
    *out = v;
    return true;
}

/* "99%" or "0.99". */
bool cli_parse_share(const char *text, double *out) {
    char  *end;
    double v = strtod(text, &end);
    if (*end == '%' && end[1] == '\0')
        v /= 100;
    else if (*end || end == text)
        return false;
    *out = v;
    return v > 0 && v <= 1;
}

bool cli_parse_double(const char *text, double min, double max, double *out) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(v) || v < min || v > max)
        return false;
    *out = v;
    return true;
}

int cli_engine_option(cli_engine *e, int c, const char *arg) {
    long long n;
    switch (c) {
    case 'm':
        e->model = arg;
        return 1;
    case 0x100:
        e->opt.device = arg;
        return 1;
    case 0x101:
        if (!cli_parse_int(arg, 1, 1024, &n))
            return -cli_usage("--threads %s: expected a number from 1 to 1024", arg);
        e->opt.n_threads = (int)n;
        return 1;
    case 0x102:
        if (strcmp(arg, "auto") != 0 && strcmp(arg, "f32") != 0 && strcmp(arg, "q8") != 0 && strcmp(arg, "fp8") != 0)
            return -cli_usage("--dtype %s: expected auto, f32, q8 or fp8", arg);
        e->opt.dtype = arg;
        return 1;
    case 0x103:
        e->meter = arg;
        return 1;
    case 0x104:
        if (!cli_parse_double(arg, 0.001, 1e6, &e->watts))
            return -cli_usage("--watts %s: expected watts above 0", arg);
        return 1;
    case 0x105:
        e->require_energy = true;
        return 1;
    case 0x106:
        e->draft = arg;
        return 1;
    case 0x107:
        e->opt.in_place = true;
        return 1;
    case 'q':
        cli_set_verbosity(0);
        return 1;
    case 'v':
        cli_set_verbosity(2);
        return 1;
    default:
        return 0;
    }
}

void cli_progress_start(cli_progress *p, const char *what, long long total) {
    *p = (cli_progress){.what = what, .total = total, .t_start_s = jpt_now_s()};
}

static void format_duration(double s, char out[32]) {
    long t = s < 0 || s > 1e7 ? 0 : (long)(s + 0.5);
    if (t >= 3600)
        snprintf(out, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, 32, "%ld:%02ld", t / 60, t % 60);
}

void cli_progress_step(cli_progress *p, long long done, const char *detail) {
    p->done = done;
    if (verbosity == 0 || p->total <= 0)
        return;
    double    now = jpt_now_s(), elapsed = now - p->t_start_s;
    long long fresh = done - p->skipped, left = p->total - done;
    char      eta[32];
    format_duration(fresh > 0 ? elapsed / (double)fresh * (double)left : 0, eta);
    int tenth = (int)(10 * done / p->total);
    if (isatty(STDERR_FILENO)) {
        if (now - p->t_drawn_s < 0.1 && done < p->total)
            return;
        struct winsize ws = {0};
        int            width = ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : 80;
        char           line[512], bar[25];
        for (int i = 0; i < 24; i++)
            bar[i] = i < (int)(24 * done / p->total) ? '#' : '.';
        bar[24] = '\0';
        snprintf(line, sizeof line, "%s [%s] %lld/%lld  %s left  %s", p->what, bar, done, p->total, eta, detail ? detail : "");
        fprintf(stderr, "\r%.*s\033[K", width - 1, line);
        fflush(stderr);
        p->t_drawn_s = now;
    } else if (tenth != p->last_tenth) {
        fprintf(stderr, "%s: %lld of %lld, %s left%s%s\n", p->what, done, p->total, eta, detail && *detail ? ", " : "",
                detail ? detail : "");
    }
    p->last_tenth = tenth;
}

void cli_progress_end(cli_progress *p) {
    if (verbosity && isatty(STDERR_FILENO) && p->total > 0)
        fputs("\r\033[K", stderr);
}
