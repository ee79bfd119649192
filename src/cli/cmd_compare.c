/* jpt compare: two strategies of a results file, paired item by item. */
#include "cli.h"
#include <jpt/decode.h>
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
    /* as the bench writes them: top_p=0.90 is top_p=0.9 */
    jpt_spec_list specs[2] = {{0}};
    const char   *text[2];
    for (int i = 0; i < 2; i++)
        text[i] = jpt_spec_parse(argv[2 + i], &specs[i], NULL) == JPT_OK && specs[i].n == 1 ? specs[i].spec[0].text : argv[2 + i];
    if (status == JPT_OK)
        status = jpt_report_compare(store, text[0], text[1], &out, &err);
    for (int i = 0; i < 2; i++)
        jpt_spec_list_fini(&specs[i]);
    jpt_store_close(store);
    if (status == JPT_OK)
        fputs(out.p, stdout);
    jpt_buf_fini(&out);
    return status == JPT_OK ? CLI_OK : cli_fail(&err);
}
