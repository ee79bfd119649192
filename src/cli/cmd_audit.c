/* jpt audit and jpt advise: questions to a results file. */
#include "cli.h"
#include <getopt.h>
#include <jpt/decode.h>
#include <jpt/report.h>
#include <jpt/run.h>
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
                 "texts scored again where their task is here, rows against each other, figures against rows; then a fingerprint of all rows, which changes with any of them.\n"
                 "exit 1 when a rule fails, or the fingerprint is another");
            return CLI_OK;
        default: return cli_bad_option("audit", argv);
        }
    if (optind + 1 != argc)
        return cli_usage("audit: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    int        failed = 0, scores = 0;
    jpt_status st = jpt_store_open(argv[optind], JPT_STORE_READ, &store, &err);
    if (st == JPT_OK)
        st = jpt_run_audit_scores(store, &out, &scores, &err);
    if (st == JPT_OK)
        st = jpt_report_audit(store, expected, &out, &failed, &err);
    return print_and_close(store, &out, st, failed || scores ? CLI_FAILED : CLI_OK, &err);
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
