/* jpt compare: two strategies of a results file, paired item by item. */
#include "cli.h"
#include <jpt/report.h>
#include <string.h>

int cmd_compare(int argc, char **argv) {
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: jpt compare results.db SPEC SPEC");
        return CLI_OK;
    }
    if (argc != 4)
        return cli_usage("compare: expected a results file and two strategies");
    jpt_error  err = {0};
    jpt_store *store = NULL;
    jpt_buf    out = {0};
    jpt_status status = jpt_store_open(argv[1], JPT_STORE_READ, &store, &err);
    if (status == JPT_OK)
        status = jpt_report_compare(store, argv[2], argv[3], &out, &err);
    jpt_store_close(store);
    if (status == JPT_OK)
        fputs(out.p, stdout);
    jpt_buf_fini(&out);
    return status == JPT_OK ? CLI_OK : cli_fail(&err);
}
