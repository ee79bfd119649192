/* nvidia-smi's CSV: lines to samples, samples to joules by the rules asked for. */
#include <jpt/import.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_COLUMNS = 64, MAX_GPUS = 32, KEY = 80 };

typedef struct sample { double t_s, power_w, busy; } sample; /* busy: utilisation, NAN unknown */
typedef struct card { char key[3][KEY]; sample *v; int n, cap; } card; /* key: index, uuid, bus id */
typedef struct columns { int time, power, busy, index, uuid, bus, n; } columns;
typedef struct reading {
    const char *path;
    columns     at;
    card        cards[MAX_GPUS];
    int         n_cards, n_bad, n_repeated, line;
    bool        any_busy;
    int         with_unit; /* of the first good line: a later one that differs is cut */
} reading;

/* ---- lines --------------------------------------------------------------------------------------- */

static int split(char *line, char *field[MAX_COLUMNS]) {
    int n = 0;
    for (char *at = line; at && n < MAX_COLUMNS;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma = '\0';
        while (isspace((unsigned char)*at))
            at++;
        char *end = at + strlen(at);
        while (end > at && isspace((unsigned char)end[-1]))
            *--end = '\0';
        field[n++] = at;
        at = comma ? comma + 1 : NULL;
    }
    return n;
}

static bool begins(const char *z, const char *with) { return strncmp(z, with, strlen(with)) == 0; }

static void read_columns(char **field, int n, columns *c) {
    *c = (columns){-1, -1, -1, -1, -1, -1, n};
    for (int i = 0; i < n; i++) {
        if (begins(field[i], "timestamp"))
            c->time = i;
        else if (begins(field[i], "power.draw.instant") || (begins(field[i], "power.draw") && c->power < 0))
            c->power = i; /* the instant one where both are there */
        else if (begins(field[i], "utilization.gpu"))
            c->busy = i;
        else if (strcmp(field[i], "index") == 0)
            c->index = i;
        else if (begins(field[i], "uuid") || begins(field[i], "gpu_uuid"))
            c->uuid = i;
        else if (begins(field[i], "pci.bus_id") || begins(field[i], "gpu_bus_id"))
            c->bus = i;
    }
}

/* "108.12 W", "108.12", "97 %"; false for [N/A], [Not Supported], ERR! and what is cut. */
static bool read_number(const char *z, const char *unit, double *out) {
    char *end;
    *out = strtod(z, &end);
    if (end == z || !isfinite(*out))
        return false;
    while (*end == ' ')
        end++;
    return *end == '\0' || strcmp(end, unit) == 0;
}

/* "2025/03/12 14:22:07.123" */
static bool read_time(const char *z, double *out) {
    int       y, mo, d, h, mi, used = 0;
    double    s;
    struct tm tm = {0};
    if (sscanf(z, "%4d/%2d/%2d %2d:%2d:%lf%n", &y, &mo, &d, &h, &mi, &s, &used) != 6 || z[used] != '\0' || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s < 0 || s >= 61)
        return false;
    tm.tm_year = y - 1900, tm.tm_mon = mo - 1, tm.tm_mday = d, tm.tm_hour = h, tm.tm_min = mi;
    *out = (double)timegm(&tm) + s;
    return true;
}

static card *card_of(reading *r, char **field) {
    const int   at[3] = {r->at.index, r->at.uuid, r->at.bus};
    const char *key[3];
    for (int k = 0; k < 3; k++)
        key[k] = at[k] >= 0 ? field[at[k]] : "";
    for (int i = 0; i < r->n_cards; i++) {
        bool same = true;
        for (int k = 0; k < 3; k++)
            same = same && strncmp(r->cards[i].key[k], key[k], KEY - 1) == 0;
        if (same)
            return &r->cards[i];
    }
    if (r->n_cards == MAX_GPUS)
        return NULL;
    card *c = &r->cards[r->n_cards++];
    for (int k = 0; k < 3; k++)
        snprintf(c->key[k], KEY, "%s", key[k]);
    return c;
}

static jpt_status read_line(reading *r, char **field, int n, jpt_error *err) {
    sample s = {.busy = NAN};
    int unit = n > r->at.power && strchr(field[r->at.power], 'W') ? 1 : -1;
    if (n != r->at.n || (r->with_unit && unit != r->with_unit) || !read_time(field[r->at.time], &s.t_s) || !read_number(field[r->at.power], "W", &s.power_w) || s.power_w < 0 || (r->at.index >= 0 && !*field[r->at.index])) {
        r->n_bad++;
        return JPT_OK;
    }
    r->with_unit = unit;
    if (r->at.busy >= 0 && read_number(field[r->at.busy], "%", &s.busy))
        r->any_busy = true;
    card *c = card_of(r, field);
    if (!c) {
        r->n_bad++;
        return JPT_OK;
    }
    if (c->n && s.t_s <= c->v[c->n - 1].t_s) {
        r->n_repeated++;
        return JPT_OK;
    }
    if (c->n == c->cap) {
        int   cap = c->cap ? 2 * c->cap : 512;
        void *grown = realloc(c->v, (size_t)cap * sizeof *c->v);
        if (!grown)
            return JPT_FAIL(err, NOMEM, "%s: out of memory", r->path);
        c->v = grown, c->cap = cap;
    }
    c->v[c->n++] = s;
    return JPT_OK;
}

static jpt_status read_lines(reading *r, char *text, const char *given_columns, jpt_error *err) {
    char *field[MAX_COLUMNS], names[512];
    bool  known = false;
    if (given_columns) {
        snprintf(names, sizeof names, "%s", given_columns);
        read_columns(field, split(names, field), &r->at);
        known = true;
    }
    for (char *at = text, *next; at && *at; at = next) {
        next = strchr(at, '\n');
        if (next)
            *next++ = '\0';
        r->line++;
        if (at[strspn(at, " \r\t")] == '\0')
            continue;
        int n = split(at, field);
        if (!known && r->line > 20)
            break;
        if (n && begins(field[0], "timestamp")) { /* again where a script appended */
            read_columns(field, n, &r->at);
            known = true;
        } else if (!known && n > 1) {
            bool header = false;
            for (int i = 0; i < n; i++)
                header = header || begins(field[i], "timestamp");
            if (header)
                read_columns(field, n, &r->at), known = true;
        } else if (known) {
            if (r->at.time < 0 || r->at.power < 0)
                break;
            JPT_TRY(read_line(r, field, n, err));
        }
        if (known && (r->at.time < 0 || r->at.power < 0))
            break;
    }
    if (!known)
        return JPT_FAIL(err, FORMAT, "%s: no header with 'timestamp' in its first lines: expected the CSV of nvidia-smi --query-gpu=timestamp,power.draw; name the columns if it has no header", r->path);
    if (r->at.time < 0 || r->at.power < 0)
        return JPT_FAIL(err, FORMAT, "%s: line %d: no column %s, which a trace of power needs", r->path, r->line, r->at.time < 0 ? "'timestamp'" : "'power.draw'");
    return JPT_OK;
}

/* ---- rules --------------------------------------------------------------------------------------- */

void jpt_trace_rules_text(const jpt_trace_rules *r, char *out, size_t cap) {
    static const char *const segment[] = {"whole trace", "from first to last busy sample", "longest busy stretch"};
    char                     idle[64];
    snprintf(idle, sizeof idle, r->idle == JPT_IDLE_GIVEN ? "idle %g W given" : r->idle == JPT_IDLE_OUTSIDE ? "idle from outside of it" : "no idle taken off", r->idle_w);
    if (r->integration == JPT_SUM && r->period_s > 0)
        snprintf(out, cap, "sum of samples x %g s, %s, %s", r->period_s, segment[r->segment], idle);
    else
        snprintf(out, cap, "%s, %s, %s", r->integration == JPT_SUM ? "sum of samples x their median gap" : "trapezoid", segment[r->segment], idle);
}

static int doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    if (n == 0)
        return NAN;
    qsort(v, (size_t)n, sizeof *v, doubles);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static bool busy_at(card *const *of, int n, int *place, double t, double reach) {
    bool busy = false;
    for (int i = 0; i < n; i++) {
        while (place[i] + 1 < of[i]->n && fabs(of[i]->v[place[i] + 1].t_s - t) <= fabs(of[i]->v[place[i]].t_s - t))
            place[i]++;
        const sample *s = &of[i]->v[place[i]];
        busy = busy || (fabs(s->t_s - t) <= reach && s->busy > 0);
    }
    return busy;
}

/* First and last time of the segment, by the card with most samples. */
static bool find_segment(card *const *of, int n, jpt_segment rule, double period, double *t0, double *t1) {
    int         place[MAX_GPUS] = {0}, first = -1, last = -1, from = -1;
    const card *c = of[0];
    for (int i = 1; i < n; i++)
        c = of[i]->n > c->n ? of[i] : c;
    if (rule == JPT_SEGMENT_ALL)
        first = 0, last = c->n - 1;
    for (int k = 0; k <= c->n && rule != JPT_SEGMENT_ALL; k++) {
        bool busy = k < c->n && busy_at(of, n, place, c->v[k].t_s, period);
        if (busy && from < 0)
            from = k;
        if (rule == JPT_SEGMENT_BUSY && busy)
            first = first < 0 ? k : first, last = k;
        if (!busy && from >= 0) {
            if (rule == JPT_SEGMENT_LONGEST && (first < 0 || k - 1 - from > last - first))
                first = from, last = k - 1;
            from = -1;
        }
    }
    if (first < 0 || last <= first)
        return false;
    *t0 = c->v[first].t_s, *t1 = c->v[last].t_s;
    return true;
}

static void add_reason(jpt_trace *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_reason(jpt_trace *t, const char *fmt, ...) {
    size_t  n = strlen(t->reasons);
    va_list ap;
    if (n)
        n += (size_t)snprintf(t->reasons + n, sizeof t->reasons - n, "; ");
    va_start(ap, fmt);
    if (n < sizeof t->reasons)
        vsnprintf(t->reasons + n, sizeof t->reasons - n, fmt, ap);
    va_end(ap);
}

/* One card's part: joules, samples, idle. */
static jpt_status add_card(const reading *r, const card *c, const jpt_trace_rules *rules, double t0, double t1, double period, jpt_trace *out, jpt_error *err) {
    jpt_power_sample *v = malloc(((size_t)c->n + 1) * sizeof *v);
    double           *idle = malloc(((size_t)c->n + 1) * sizeof *idle), sum = 0, last = NAN;
    int               n_idle = 0, n = 0;
    if (!v || !idle) {
        free(v), free(idle);
        return JPT_FAIL(err, NOMEM, "%s: out of memory", r->path);
    }
    for (int i = 0; i < c->n; i++) {
        const sample *s = &c->v[i];
        v[i] = (jpt_power_sample){s->t_s, s->power_w};
        if (s->t_s >= t0 - 1e-9 && s->t_s <= t1 + 1e-9) {
            sum += s->power_w, n++;
            out->peak_w = fmax(out->peak_w, s->power_w);
            if (isfinite(last))
                out->max_gap_s = fmax(out->max_gap_s, s->t_s - last);
            last = s->t_s;
        } else if (s->busy == 0)
            idle[n_idle++] = s->power_w;
    }
    double joules = rules->integration == JPT_SUM ? sum * period : jpt_integrate(v, (size_t)c->n, t0, t1, 1e9);
    out->energy_j += joules;
    out->n_samples += n;
    if (rules->idle == JPT_IDLE_OUTSIDE)
        out->idle_w += median(idle, n_idle);
    if (out->sample == NULL) {
        out->sample = v, out->n = (size_t)c->n;
        v = NULL;
    }
    free(v), free(idle);
    return JPT_OK;
}

static jpt_status apply(reading *r, const jpt_trace_rules *rules, jpt_trace *out, jpt_error *err) {
    card *of[MAX_GPUS];
    int   n = 0;
    for (int i = 0; i < r->n_cards; i++) {
        bool named = false;
        for (int k = 0; k < 3 && rules->gpu; k++)
            named = named || strcmp(r->cards[i].key[k], rules->gpu) == 0;
        if ((!rules->gpu || named) && r->cards[i].n >= 2)
            of[n++] = &r->cards[i];
    }
    if (n == 0 && rules->gpu && r->n_cards)
        return JPT_FAIL(err, NOT_FOUND, "%s: no gpu '%s' with two samples; the first has index '%s'", r->path, rules->gpu, r->cards[0].key[0]);
    if (n == 0)
        return JPT_FAIL(err, FORMAT, "%s: fewer than two lines with a time and a power in %d lines (%d bad)", r->path, r->line, r->n_bad);
    if (rules->segment != JPT_SEGMENT_ALL && !r->any_busy)
        return JPT_FAIL(err, FORMAT, "%s: no column utilization.gpu with a number in it, by which the busy part is found; use the whole trace", r->path);
    double *gaps = malloc((size_t)of[0]->n * sizeof *gaps), period, t0, t1;
    if (!gaps)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", r->path);
    for (int i = 1; i < of[0]->n; i++)
        gaps[i - 1] = of[0]->v[i].t_s - of[0]->v[i - 1].t_s;
    double gap = median(gaps, of[0]->n - 1);
    free(gaps);
    period = rules->period_s > 0 ? rules->period_s : gap;
    if (!find_segment(of, n, rules->segment, gap / 2, &t0, &t1))
        return JPT_FAIL(err, FORMAT, "%s: no stretch of two samples with utilisation above 0", r->path);
    *out = (jpt_trace){.n_gpus = n, .n_bad = r->n_bad, .n_repeated = r->n_repeated, .peak_w = 0, .max_gap_s = 0, .valid = true, .idle_w = rules->idle == JPT_IDLE_GIVEN ? rules->idle_w : 0};
    for (int i = 0; i < n; i++)
        JPT_TRY(add_card(r, of[i], rules, t0, t1, period, out, err));
    double origin = out->sample[0].t_s;
    for (size_t i = 0; i < out->n; i++)
        out->sample[i].t_s -= origin;
    out->t_start_s = t0 - origin, out->t_end_s = t1 - origin;
    out->duration_s = rules->integration == JPT_SUM ? period * out->n_samples / n : t1 - t0;
    if (rules->idle == JPT_IDLE_NONE)
        out->idle_w = NAN;
    out->net_energy_j = out->energy_j - out->idle_w * out->duration_s;
    out->mean_w = out->energy_j / out->duration_s;
    if (!isfinite(out->energy_j) || out->energy_j <= 0)
        out->valid = false, add_reason(out, "no joules in the segment");
    if (out->max_gap_s > 3 * gap && out->max_gap_s > .2 * out->duration_s)
        out->valid = false, add_reason(out, "a gap of %.3g s in %.3g s", out->max_gap_s, out->duration_s);
    else if (out->max_gap_s > 3 * gap)
        add_reason(out, "a gap of %.3g s", out->max_gap_s);
    if (out->n_bad)
        add_reason(out, "%d bad lines left out", out->n_bad);
    if (out->n_repeated)
        add_reason(out, "%d lines of a repeated or earlier time left out", out->n_repeated);
    if (out->duration_s < 10)
        add_reason(out, "shorter than 10 s");
    if (rules->idle == JPT_IDLE_OUTSIDE && !isfinite(out->idle_w))
        add_reason(out, "no idle sample outside");
    return JPT_OK;
}

jpt_status jpt_trace_read(const char *path, const jpt_trace_rules *rules, jpt_trace *out, jpt_error *err) {
    jpt_buf  text = {0};
    reading *r = calloc(1, sizeof *r);
    if (!r)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    r->path = path;
    *out = (jpt_trace){0};
    jpt_status st = jpt_text_read(path, &text, err);
    if (st == JPT_OK && text.n && strlen(text.p) != text.n)
        st = JPT_FAIL(err, FORMAT, "%s: a NUL byte at %zu, expected the CSV of nvidia-smi", path, strlen(text.p));
    if (st == JPT_OK && text.n == 0)
        st = JPT_FAIL(err, FORMAT, "%s: empty, expected the CSV of nvidia-smi", path);
    if (st == JPT_OK)
        st = read_lines(r, text.p, rules->columns, err);
    if (st == JPT_OK)
        st = apply(r, rules, out, err);
    if (st != JPT_OK)
        jpt_trace_fini(out);
    for (int i = 0; i < r->n_cards; i++)
        free(r->cards[i].v);
    free(r);
    jpt_buf_fini(&text);
    return st;
}

void jpt_trace_fini(jpt_trace *t) {
    free(t->sample);
    t->sample = NULL, t->n = 0;
}
