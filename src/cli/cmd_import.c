/* jpt import: a run of others, as nvidia-smi's trace and lm-evaluation-harness's log, into a results file. */
#include "cli.h"
#include <getopt.h>
#include <jpt/decode.h>
#include <jpt/import.h>
#include <math.h>
#include <string.h>

static const char help[] =
    "usage: jpt import -o results.db --task NAME --model NAME -s SPEC [--power TRACE.csv] [--samples samples.jsonl] [options]\n\n"
    "one run of others as rows of a results file; call it once a run, then jpt report, compare and audit as usual\n\n"
    "      --power FILE         CSV of nvidia-smi --query-gpu=timestamp,power.draw,... (utilization.gpu and index help)\n"
    "      --samples FILE       samples_*.jsonl of lm-evaluation-harness (--log_samples)\n"
    "      --block N            which repeat this is (0)\n"
    "      --batch N            how many requests ran at a time (1)\n"
    "      --device NAME        where it ran, in words\n"
    "      --output-tokens N    of the whole run, where known; else joules a token stay absent\n"
    "      --metric NAME        the log's number that counts as quality; chrf is computed from its texts\n"
    "      --filter NAME        of the log's filters; default: the first\n"
    "rules of the analysis, named in every row (other rules make another meter, beside the first):\n"
    "      --integrate RULE     trapezoid (by time stamps) or sum (of samples x --period)\n"
    "      --period S           seconds a sample stands for; default: the median gap\n"
    "      --segment RULE       all, busy (first to last sample with utilisation) or longest (busy stretch)\n"
    "      --idle RULE          none, outside (median power where idle) or watts\n"
    "      --gpu ID             one card by index, UUID or bus id; default: all, added up\n"
    "      --columns LIST       of a trace without a header: timestamp,index,power.draw";

enum { POWER = 1, SAMPLES, BLOCK, BATCH, DEVICE, TOKENS, METRIC, FILTER, INTEGRATE, PERIOD, SEGMENT, IDLE, GPU, COLUMNS, MODEL, TASK };

static int one_of(const char *word, const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    return -1;
}

int cmd_import(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'},        {"power", required_argument, NULL, POWER},       {"samples", required_argument, NULL, SAMPLES},   {"block", required_argument, NULL, BLOCK},
        {"batch", required_argument, NULL, BATCH},       {"device", required_argument, NULL, DEVICE},     {"output-tokens", required_argument, NULL, TOKENS}, {"metric", required_argument, NULL, METRIC},
        {"filter", required_argument, NULL, FILTER},     {"integrate", required_argument, NULL, INTEGRATE}, {"period", required_argument, NULL, PERIOD},   {"segment", required_argument, NULL, SEGMENT},
        {"idle", required_argument, NULL, IDLE},         {"gpu", required_argument, NULL, GPU},           {"columns", required_argument, NULL, COLUMNS},   {"model", required_argument, NULL, MODEL},
        {"task", required_argument, NULL, TASK},         {"spec", required_argument, NULL, 's'},          {"help", no_argument, NULL, 'h'},                {0}};
    static const char *const integrations[] = {"trapezoid", "sum"}, *const segments[] = {"all", "busy", "longest"}, *const idles[] = {"none", "", "outside"};
    jpt_import  i = {.batch = 1, .output_tokens = -1, .rules = {.segment = JPT_SEGMENT_ALL}};
    const char *out = NULL;
    long long   n;
    int         k;
    for (int c; (c = getopt_long(argc, argv, "o:s:m:t:h", options, NULL)) != -1;)
        switch (c) {
        case 'o': out = optarg; break;
        case 's': i.spec = optarg; break;
        case 'm':
        case MODEL: i.model = optarg; break;
        case 't':
        case TASK: i.task = optarg; break;
        case POWER: i.trace = optarg; break;
        case SAMPLES: i.samples = optarg; break;
        case DEVICE: i.device = optarg; break;
        case METRIC: i.metric = optarg; break;
        case FILTER: i.filter = optarg; break;
        case GPU: i.rules.gpu = optarg; break;
        case COLUMNS: i.rules.columns = optarg; break;
        case BLOCK:
        case BATCH:
        case TOKENS:
            if (!cli_parse_int(optarg, c == BLOCK ? 0 : 1, c == TOKENS ? 1000000000000 : 1000000, &n))
                return cli_usage("%s: expected a whole number", optarg);
            if (c == BLOCK)
                i.block = (int32_t)n;
            else if (c == BATCH)
                i.batch = (int32_t)n;
            else
                i.output_tokens = n;
            break;
        case INTEGRATE:
            if ((k = one_of(optarg, integrations, 2)) < 0)
                return cli_usage("--integrate %s: expected trapezoid or sum", optarg);
            i.rules.integration = (jpt_integration)k;
            break;
        case SEGMENT:
            if ((k = one_of(optarg, segments, 3)) < 0)
                return cli_usage("--segment %s: expected all, busy or longest", optarg);
            i.rules.segment = (jpt_segment)k;
            break;
        case PERIOD:
            if (!cli_parse_double(optarg, 1e-4, 3600, &i.rules.period_s))
                return cli_usage("--period %s: expected seconds", optarg);
            break;
        case IDLE:
            if ((k = one_of(optarg, idles, 3)) == 0 || k == 2)
                i.rules.idle = (jpt_idle_rule)k;
            else if (cli_parse_double(optarg, 0, 1e6, &i.rules.idle_w))
                i.rules.idle = JPT_IDLE_GIVEN;
            else
                return cli_usage("--idle %s: expected none, outside or watts", optarg);
            break;
        case 'h': puts(help); return CLI_OK;
        default: return cli_bad_option("import", argv);
        }
    if (optind != argc || !out || !i.task || !i.model || !i.spec)
        return cli_usage("import: expected -o FILE, --task, --model and -s SPEC, and no other words");
    if (!i.trace && !i.samples)
        return cli_usage("import: nothing to import; give --power, --samples or both");
    jpt_error          err = {0};
    jpt_store         *store = NULL;
    jpt_import_summary sum;
    jpt_spec_list      spec = {0};
    if (jpt_spec_parse(i.spec, &spec, NULL) == JPT_OK && spec.n == 1)
        i.spec = spec.spec[0].text; /* as the bench writes it; a name that jpt does not know stays as it is */
    jpt_status st = jpt_store_open(out, JPT_STORE_CREATE, &store, &err);
    if (st == JPT_OK)
        st = jpt_import_run(store, &i, &sum, &err);
    jpt_store_close(store);
    if (st == JPT_OK) {
        char rules[200];
        jpt_trace_rules_text(&i.rules, rules, sizeof rules);
        printf("%s on %s, block %d: %lld request%s", i.spec, i.task, i.block, (long long)sum.n_requests, sum.n_requests == 1 ? "" : "s");
        if (isfinite(sum.score))
            printf(", %s %.4g", sum.metric, sum.score);
        if (i.trace)
            printf("; %.6g J in %.4g s, %.4g W, %d samples (%s)%s%s%s", sum.trace.energy_j, sum.trace.duration_s, sum.trace.mean_w, sum.trace.n_samples, rules, sum.trace.valid ? "" : "; not valid",
                   sum.trace.reasons[0] ? ": " : "", sum.trace.reasons);
        if (i.trace && isfinite(sum.trace.net_energy_j))
            printf("; %.6g J net of %.4g W idle", sum.trace.net_energy_j, sum.trace.idle_w);
        if (sum.n_bad_lines)
            printf("; %lld lines of the log left out", (long long)sum.n_bad_lines);
        putchar('\n');
    }
    jpt_spec_list_fini(&spec);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
