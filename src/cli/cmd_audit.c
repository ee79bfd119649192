/* jpt audit, jpt advise and jpt status: questions to a results file. */
#include "cli.h"
#include <getopt.h>
#include <jpt/decode.h>
#include <jpt/report.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int print_and_close(jpt_store *store, jpt_buf *out, jpt_status st, int done, jpt_error *err) {
    jpt_store_close(store);
    if (out->p)
        fputs(out->p, stdout);
    jpt_buf_fini(out);
    return st == JPT_OK ? done : cli_fail(err);
}

int cmd_audit(int argc, char **argv) {
    static const struct option options[] = {{"fingerprint", required_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char                *expected = NULL;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        switch (c) {
        case 'f':
            if (strlen(optarg) != 64 || strspn(optarg, "0123456789abcdef") != 64)
                return cli_usage("--fingerprint %s: expected 64 hexadecimal digits as an earlier audit printed them", optarg);
            expected = optarg;
            break;
        case 'h':
            puts("usage: jpt audit results.db [--fingerprint SHA256]\n\n"
                 "rows against each other, figures against rows; then a fingerprint of all rows, which changes with any of them.\n"
                 "exit 1 when a rule fails, or the fingerprint is another");
            return CLI_OK;
        default: return cli_bad_option("audit", argv);
        }
    if (optind + 1 != argc)
        return cli_usage("audit: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    int        failed = 0;
    jpt_status st = jpt_store_open(argv[optind], JPT_STORE_READ, &store, &err);
    if (st == JPT_OK)
        st = jpt_report_audit(store, expected, &out, &failed, &err);
    return print_and_close(store, &out, st, failed ? CLI_FAILED : CLI_OK, &err);
}

int cmd_advise(int argc, char **argv) {
    static const struct option options[] = {{"task", required_argument, NULL, 't'}, {"min-quality", required_argument, NULL, 'q'}, {"of", required_argument, NULL, 'o'},
                                            {"per", required_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'}, {0}};
    jpt_advise_options         o = {.min_quality = 0.99};
    jpt_spec_list              spec = {0};
    for (int c; (c = getopt_long(argc, argv, "t:h", options, NULL)) != -1;)
        switch (c) {
        case 't': o.task = optarg; break;
        case 'q':
            if (!cli_parse_share(optarg, &o.min_quality))
                return cli_usage("--min-quality %s: expected a share like 99%% or 0.99", optarg);
            break;
        case 'o': o.of = optarg; break;
        case 'p':
            if (strcmp(optarg, "token") != 0 && strcmp(optarg, "request") != 0)
                return cli_usage("--per %s: expected token or request", optarg);
            o.per_token = strcmp(optarg, "token") == 0;
            break;
        case 'h':
            puts("usage: jpt advise results.db [options]\n\n"
                 "the cheapest setting that is good enough, and in how many resamples of the items that holds\n\n"
                 "  -t, --task NAME         one task; default: each\n"
                 "      --min-quality 99%   of the best setting's quality\n"
                 "      --of SPEC           of this setting's quality instead\n"
                 "      --per request       or token: joules a what");
            return CLI_OK;
        default: return cli_bad_option("advise", argv);
        }
    if (optind + 1 != argc)
        return cli_usage("advise: expected one results file");
    if (o.of && jpt_spec_parse(o.of, &spec, NULL) == JPT_OK && spec.n == 1)
        o.of = spec.spec[0].text; /* as the bench writes it */
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    jpt_status st = jpt_store_open(argv[optind], JPT_STORE_READ, &store, &err);
    if (st == JPT_OK)
        st = jpt_report_advise(store, &o, &out, &err);
    jpt_spec_list_fini(&spec);
    return print_and_close(store, &out, st, CLI_OK, &err);
}

/* ---- status ---------------------------------------------------------------------------------------------------------- */

typedef struct counts {
    int64_t n, failed, invalid, tokens;
    double  joules, valid_tokens, seconds, first_s, last_s;
    bool    modelled;
} counts;

static jpt_status count_request(void *ud, const jpt_request_row *r) {
    counts *c = ud;
    c->n++;
    c->failed += r->failed == 1;
    c->invalid += r->energy_valid == 0;
    c->modelled = c->modelled || r->modelled == 1;
    if (r->output_tokens > 0)
        c->tokens += r->output_tokens;
    if (r->energy_valid == 1 && isfinite(r->energy_j) && r->output_tokens > 0) {
        c->joules += r->energy_j;
        c->valid_tokens += (double)r->output_tokens;
    }
    if (isfinite(r->duration_s))
        c->seconds += r->duration_s;
    return JPT_OK;
}

typedef struct cells {
    jpt_store *store;
    int64_t    n, empty;
    jpt_error *err;
} cells;

static jpt_status count_cell(void *ud, const jpt_cell_row *r) {
    cells *c = ud;
    counts k = {0};
    c->n++;
    jpt_status st = jpt_store_each_request(c->store, r->id, count_request, &k, c->err);
    c->empty += k.n == 0;
    return st;
}

int cmd_status(int argc, char **argv) {
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: jpt status results.db");
        return CLI_OK;
    }
    if (argc != 2)
        return cli_usage("status: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL, *writer = NULL;
    counts     c = {0};
    jpt_buf    out = {0};
    jpt_status st = jpt_store_open(argv[1], JPT_STORE_READ, &store, &err);
    cells      all = {.store = store, .err = &err};
    if (st == JPT_OK)
        st = jpt_store_each_request(store, -1, count_request, &c, &err);
    if (st == JPT_OK)
        st = jpt_store_each_cell(store, count_cell, &all, &err);
    if (st == JPT_OK) {
        bool busy = jpt_store_open(argv[1], JPT_STORE_APPEND, &writer, NULL) == JPT_BUSY;
        jpt_store_close(writer);
        jpt_buf_printf(&out, "%lld requests in %lld settings%s, %s\n", (long long)c.n, (long long)all.n, all.empty ? "" : ", each has some", busy ? "a bench is writing" : "nobody is writing");
        if (all.empty)
            jpt_buf_printf(&out, "%lld settings have none yet\n", (long long)all.empty);
        jpt_buf_printf(&out, "%lld tokens in %.1f s of requests, %.4g tok/s\n", (long long)c.tokens, c.seconds, c.seconds > 0 ? (double)c.tokens / c.seconds : 0.0);
        if (c.valid_tokens > 0)
            jpt_buf_printf(&out, "%.4g J, %.4g J/token%s\n", c.joules, c.joules / c.valid_tokens, c.modelled ? " (modelled, not measured)" : "");
        if (c.failed || c.invalid)
            jpt_buf_printf(&out, "%lld failed, %lld without valid energy\n", (long long)c.failed, (long long)c.invalid);
    }
    return print_and_close(store, &out, st, CLI_OK, &err);
}
