/* jpt report: a results file to HTML, Markdown, LaTeX, CSV and JSON. */
#include "cli.h"
#include <getopt.h>
#include <jpt/report.h>
#include <string.h>

int cmd_report(int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {"format", required_argument, NULL, 'F'},
                                            {"help", no_argument, NULL, 'h'}, {0}};
    const char *dir = ".";
    unsigned    formats = JPT_REPORT_HTML | JPT_REPORT_MD | JPT_REPORT_CSV | JPT_REPORT_LATEX | JPT_REPORT_JSON;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "o:h", options, NULL)) != -1;) {
        if (c == 'h') {
            puts("usage: jpt report results.db [-o DIR] [--format html,md,csv,latex,json]");
            return CLI_OK;
        }
        if (c == 'o')
            dir = optarg;
        else if (c == 'F') {
            formats = 0;
            for (char *save = NULL, *f = strtok_r(optarg, ",", &save); f != NULL; f = strtok_r(NULL, ",", &save)) {
                unsigned bit = strcmp(f, "html") == 0  ? JPT_REPORT_HTML
                               : strcmp(f, "md") == 0  ? JPT_REPORT_MD
                               : strcmp(f, "csv") == 0 ? JPT_REPORT_CSV
                               : strcmp(f, "latex") == 0 ? JPT_REPORT_LATEX
                               : strcmp(f, "json") == 0 ? JPT_REPORT_JSON
                                                       : 0;
                if (bit == 0)
                    return cli_usage("--format: unknown '%s', expected html, md, csv, latex or json", f);
                formats |= bit;
            }
            if (formats == 0)
                return cli_usage("--format: empty, expected html, md, csv, latex or json");
        } else
            return cli_bad_option("report", argv);
    }
    if (optind + 1 != argc)
        return cli_usage("report: expected one results file");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    paths = {0};
    jpt_status status = jpt_store_open(argv[optind], JPT_STORE_READ, &store, &err);
    if (status == JPT_OK)
        status = jpt_report_write(store, dir, formats, &paths, &err);
    jpt_store_close(store);
    if (status == JPT_OK && paths.n > 0)
        fputs(paths.p, stdout);
    jpt_buf_fini(&paths);
    return status == JPT_OK ? CLI_OK : cli_fail(&err);
}
