/* jpt compare: strategies of a results file, paired item by item. */
#include "cli.h"
#include <getopt.h>
#include <jpt/decode.h>
#include <jpt/report.h>
#include <stdlib.h>
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
            puts("usage: jpt compare results.db SPEC... REFERENCE [--margin 1%]\n\n"
                 "each SPEC minus the last one, paired over items and blocks: lower, higher, not separable, or equivalent within\n"
                 "the margin; and the price of a point of quality.  With the REFERENCE alone, every other setting.  Several in a\n"
                 "task are judged by Holm's adjusted p values.");
            return CLI_OK;
        default: return cli_bad_option("compare", argv);
        }
    int n = argc - optind - 1;
    if (n < 1)
        return cli_usage("compare: expected a results file and two strategies");
    argv += optind;
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    jpt_status status = jpt_store_open(argv[0], JPT_STORE_READ, &store, &err);
    /* as the bench writes them: top_p=0.90 is top_p=0.9 */
    jpt_spec_list *specs = calloc((size_t)n, sizeof *specs);
    const char   **text = calloc((size_t)n, sizeof *text);
    if (status == JPT_OK && (!specs || !text))
        status = JPT_FAIL(&err, NOMEM, "out of memory");
    for (int i = 0; status == JPT_OK && i < n; i++)
        text[i] = jpt_spec_parse(argv[1 + i], &specs[i], NULL) == JPT_OK && specs[i].n == 1 ? specs[i].spec[0].text : argv[1 + i];
    if (status == JPT_OK)
        status = jpt_report_compare(store, text, (size_t)n, margin, &out, &err);
    for (int i = 0; specs && i < n; i++)
        jpt_spec_list_fini(&specs[i]);
    free(specs);
    free(text);
    jpt_store_close(store);
    if (status == JPT_OK)
        fputs(out.p, stdout);
    jpt_buf_fini(&out);
    return status == JPT_OK ? CLI_OK : cli_fail(&err);
}
