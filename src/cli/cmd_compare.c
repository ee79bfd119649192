/* jpt compare: two strategies of a results file, paired item by item. */
#include "cli.h"
#include <getopt.h>
#include <jpt/decode.h>
#include <jpt/report.h>
#include <string.h>

int cmd_compare(int argc, char **argv) {
    static const struct option options[] = {{"margin", required_argument, NULL, 'm'}, {"help", no_argument, NULL, 'h'}, {0}};
    double                     margin = 0.01;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;)
        switch (c) {
        case 'm':
            if (!cli_parse_share(optarg, &margin))
                return cli_usage("--margin %s: expected a share like 1%% or 0.01", optarg);
            break;
        case 'h':
            puts("usage: jpt compare results.db SPEC SPEC [--margin 1%]\n\n"
                 "the first minus the second, paired over items: lower, higher, not separable, or equivalent within the margin");
            return CLI_OK;
        default: return cli_bad_option("compare", argv);
        }
    if (optind + 3 != argc)
        return cli_usage("compare: expected a results file and two strategies");
    argv += optind - 1;
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    jpt_status status = jpt_store_open(argv[1], JPT_STORE_READ, &store, &err);
    /* as the bench writes them: top_p=0.90 is top_p=0.9 */
    jpt_spec_list specs[2] = {{0}};
    const char   *text[2];
    for (int i = 0; i < 2; i++)
        text[i] = jpt_spec_parse(argv[2 + i], &specs[i], NULL) == JPT_OK && specs[i].n == 1 ? specs[i].spec[0].text : argv[2 + i];
    if (status == JPT_OK)
        status = jpt_report_compare(store, text[0], text[1], margin, &out, &err);
    for (int i = 0; i < 2; i++)
        jpt_spec_list_fini(&specs[i]);
    jpt_store_close(store);
    if (status == JPT_OK)
        fputs(out.p, stdout);
    jpt_buf_fini(&out);
    return status == JPT_OK ? CLI_OK : cli_fail(&err);
}
