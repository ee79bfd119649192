/* jpt export: a results file as runs.csv, requests.jsonl, power.csv and results.json. */
#include "cli.h"
#include <getopt.h>
#include <jpt/report.h>

int cmd_export(int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char                *dir = ".";
    for (int c; (c = getopt_long(argc, argv, "o:h", options, NULL)) != -1;)
        switch (c) {
        case 'o': dir = optarg; break;
        case 'h':
            puts("usage: jpt export results.db [-o DIR]\n\n"
                 "runs.csv (a row a metered window), requests.jsonl, power.csv, results.json; docs/formats.md names the columns");
            return CLI_OK;
        default: return cli_bad_option("export", argv);
        }
    if (optind + 1 != argc)
        return cli_usage("export: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    paths = {0};
    jpt_status st = jpt_store_open(argv[optind], JPT_STORE_READ, &store, &err);
    if (st == JPT_OK)
        st = jpt_report_export(store, dir, &paths, &err);
    jpt_store_close(store);
    if (st == JPT_OK && paths.p)
        fputs(paths.p, stdout);
    jpt_buf_fini(&paths);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
