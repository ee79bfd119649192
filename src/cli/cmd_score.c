/* jpt score: metrics from files, a segment a line. */
#include "cli.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REFS_MAX = 16 };

typedef struct lines {
    jpt_buf  text;
    jpt_str *line;
    size_t   n;
} lines;

static jpt_status read_lines(const char *path, lines *l, jpt_error *err) {
    JPT_TRY(jpt_text_read(path, &l->text, err));
    size_t count = 1;
    for (size_t i = 0; i < l->text.n; i++)
        count += l->text.p[i] == '\n';
    l->line = malloc(count * sizeof *l->line);
    if (!l->line)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (size_t at = 0; at < l->text.n;) {
        const char *eol = memchr(l->text.p + at, '\n', l->text.n - at);
        size_t      n = eol ? (size_t)(eol - l->text.p) - at : l->text.n - at;
        l->line[l->n++] = (jpt_str){l->text.p + at, n && l->text.p[at + n - 1] == '\r' ? n - 1 : n};
        at += n + 1;
    }
    return JPT_OK;
}

static void put(json_t *j, const char *name, double v) { json_object_set_new(j, name, isnan(v) ? json_null() : json_real(v)); }

static jpt_status score(const char *metric, const lines *hyp, const lines *ref, size_t n_refs, json_t *out, jpt_error *err) {
    jpt_bleu_stats bleu = {0};
    jpt_chrf_stats chrf = {0};
    int            words = strcmp(metric, "chrf++") == 0 ? JPT_CHRF_WORDS : 0;
    size_t         right = 0;
    jpt_status     st = JPT_OK;
    for (size_t i = 0; i < hyp->n && st == JPT_OK; i++) {
        jpt_str r[REFS_MAX];
        for (size_t k = 0; k < n_refs; k++)
            r[k] = ref[k].line[i];
        if (strcmp(metric, "bleu") == 0) {
            jpt_bleu_stats s;
            if ((st = jpt_bleu_segment(hyp->line[i], r, n_refs, &s, err)) == JPT_OK)
                jpt_bleu_add(&bleu, &s);
        } else if (strncmp(metric, "chrf", 4) == 0) {
            jpt_chrf_stats s;
            if ((st = jpt_chrf_segment(hyp->line[i], r, n_refs, words, &s, err)) == JPT_OK)
                jpt_chrf_add(&chrf, &s);
        } else if (strcmp(metric, "exact-match") == 0) {
            double a, b;
            bool   hit = false;
            for (size_t k = 0; k < n_refs && jpt_last_number(hyp->line[i], &a); k++)
                hit = hit || (jpt_last_number(r[k], &b) && a == b);
            right += hit;
        }
    }
    if (st == JPT_OK && strcmp(metric, "diversity") == 0) {
        jpt_repetition r;
        double         sum[7] = {0};
        int            n[7] = {0};
        for (size_t i = 0; i < hyp->n && st == JPT_OK; i++) {
            st = jpt_repetition_of(hyp->line[i], &r, err);
            const double v[7] = {r.diversity, r.rep[0], r.rep[1], r.rep[2], r.distinct[0], r.distinct[1], r.distinct[2]};
            for (int k = 0; k < 7; k++)
                if (!isnan(v[k])) {
                    sum[k] += v[k];
                    n[k]++;
                }
        }
        static const char *const names[7] = {"diversity", "rep-2", "rep-3", "rep-4", "distinct-1", "distinct-2", "distinct-3"};
        for (int k = 0; k < 7; k++)
            put(out, names[k], n[k] ? sum[k] / n[k] : NAN);
    } else if (st == JPT_OK && strcmp(metric, "bleu") == 0) {
        put(out, "bleu", jpt_bleu_score(&bleu, false));
        json_object_set_new(out, "signature", json_sprintf("nrefs:%d|case:mixed|eff:no|tok:13a|smooth:exp|impl:jpt", (int)n_refs));
    } else if (st == JPT_OK && strncmp(metric, "chrf", 4) == 0) {
        put(out, metric, jpt_chrf_score(&chrf, words));
        json_object_set_new(out, "signature", json_sprintf("nrefs:%d|case:mixed|eff:yes|nc:6|nw:%d|space:no|impl:jpt", (int)n_refs, words));
    } else if (st == JPT_OK) {
        put(out, "exact-match", hyp->n ? (double)right / (double)hyp->n : NAN);
    }
    return st;
}

int cmd_score(int argc, char **argv) {
    static const char *const   metrics[] = {"bleu", "chrf", "chrf++", "exact-match", "diversity"};
    static const struct option longs[] = {{"ref", required_argument, NULL, 'r'}, {"hyp", required_argument, NULL, 'y'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *ref_path[REFS_MAX], *hyp_path = NULL;
    size_t      n_refs = 0;
    bool        json = false;
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;)
        switch (c) {
        case 'r':
            if (n_refs == REFS_MAX)
                return cli_usage("score: at most %d references", REFS_MAX);
            ref_path[n_refs++] = optarg;
            while (optind < argc && argv[optind][0] != '-' && n_refs < REFS_MAX) /* --ref a b */
                ref_path[n_refs++] = argv[optind++];
            break;
        case 'y': hyp_path = optarg; break;
        case 'j': json = true; break;
        case 'h':
            puts("usage: jpt score bleu|chrf|chrf++|exact-match|diversity --hyp FILE [--ref FILE...] [--json]\n\n"
                 "a segment a line; BLEU and chrF are sacreBLEU's (13a, exp smoothing; chrF2)");
            return CLI_OK;
        default: return cli_bad_option("score", argv);
        }
    if (argc - optind != 1)
        return cli_usage("score: give one metric: bleu, chrf, chrf++, exact-match or diversity");
    const char *metric = argv[optind];
    bool        known = false;
    for (size_t i = 0; i < 5; i++)
        known = known || strcmp(metric, metrics[i]) == 0;
    if (!known) {
        const char *near = jpt_nearest(metric, metrics, 5);
        return cli_usage("score: unknown metric '%s'%s%s%s", metric, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (!hyp_path || (n_refs == 0 && strcmp(metric, "diversity") != 0))
        return cli_usage("score: %s needs --hyp FILE and --ref FILE", metric);
    lines      hyp = {0}, ref[REFS_MAX] = {0};
    jpt_error  err = {0};
    json_t    *out = json_object();
    jpt_status st = read_lines(hyp_path, &hyp, &err);
    for (size_t i = 0; i < n_refs && st == JPT_OK; i++) {
        st = read_lines(ref_path[i], &ref[i], &err);
        if (st == JPT_OK && ref[i].n != hyp.n)
            st = JPT_FAIL(&err, FORMAT, "%s has %zu lines, %s has %zu: they must belong together line by line", ref_path[i], ref[i].n, hyp_path, hyp.n);
    }
    if (st == JPT_OK)
        st = score(metric, &hyp, ref, n_refs, out, &err);
    if (st == JPT_OK && json) {
        json_object_set_new(out, "segments", json_integer((json_int_t)hyp.n));
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (st == JPT_OK) {
        const char *key;
        json_t     *v;
        json_object_foreach(out, key, v) {
            if (json_is_real(v))
                printf("%s %.4f\n", key, json_real_value(v));
        }
    }
    json_decref(out);
    free(hyp.line);
    jpt_buf_fini(&hyp.text);
    for (size_t i = 0; i < n_refs; i++) {
        free(ref[i].line);
        jpt_buf_fini(&ref[i].text);
    }
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
