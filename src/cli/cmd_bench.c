/* jpt bench: tasks x strategies on one model into results.db; the same command again resumes. */
#include "cli.h"
#include <getopt.h>
#include <jpt/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS_MAX = 64 };

typedef struct options {
    cli_engine    engine;
    jpt_spec_list specs;
    char         *task[TASKS_MAX];
    size_t        n_tasks;
    const char   *out, *compat;
    jpt_plan     *plan;
    bool          dry;
    int32_t       limit, blocks, batch, max_new_tokens, n_ctx;
    uint64_t      seed;
    double        max_joules;
} options;

static const char help[] =
    "usage: jpt bench -m MODEL -t TASK[,TASK...] -s SPEC [-s SPEC...] -o results.db [options]\n"
    "       jpt bench PLAN.yaml -o results.db [options]      options win over the plan (plans/ has some)\n\n"
    "      --dry-run          configurations, requests, and an estimate of time and joules\n"
    "  -t, --tasks LIST       names (jpt list tasks), .yaml or .jsonl files, NAME=FILE (your items in a task's form), by commas\n"
    "      --compat paper     ask as the study did: its prompts, no chat template, its caps and stop rule (tasks/README.md)\n"
    "  -s, --strategy SPEC    may be repeated; {a,b} makes a grid\n"
    "  -o, --output FILE      results, SQLite; run the same command again to resume\n"
    "      --limit N          first N items of each task\n"
    "      --blocks N         repeats; sampled strategies get a new seed each (default 1)\n"
    "      --batch N          requests of a cell at a time, same texts; they share passes over the weights (default 1)\n"
    "  -n, --max-new-tokens N instead of the task's own\n"
    "      --ctx N            context, default min(the model's, 4096)\n"
    "      --max-joules J     budget of a request: beams narrow, drafts go, the text ends (docs/energy-aware.md)\n"
    "      --seed S           default 0\n" CLI_ENGINE_HELP;

enum { O_LIMIT = 0x200, O_BLOCKS, O_SEED, O_CTX, O_DRY, O_JOULES, O_BATCH, O_COMPAT };

static int add_tasks(options *o, const char *list) {
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        if (n == 0 || o->n_tasks == TASKS_MAX)
            return cli_usage("-t %s: expected 1 to %d task names separated by commas", list, TASKS_MAX);
        if (!(o->task[o->n_tasks] = strndup(p, n)))
            return CLI_FAILED;
        o->n_tasks++;
        p += n + (p[n] == ',');
    }
    return 0;
}

static int parse(int argc, char **argv, options *o) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"tasks", required_argument, NULL, 't'}, {"task", required_argument, NULL, 't'},
        {"strategy", required_argument, NULL, 's'}, {"output", required_argument, NULL, 'o'}, {"limit", required_argument, NULL, O_LIMIT},
        {"blocks", required_argument, NULL, O_BLOCKS}, {"max-new-tokens", required_argument, NULL, 'n'}, {"seed", required_argument, NULL, O_SEED}, {"ctx", required_argument, NULL, O_CTX}, {"batch", required_argument, NULL, O_BATCH}, {"dry-run", no_argument, NULL, O_DRY}, {"compat", required_argument, NULL, O_COMPAT}, {"max-joules", required_argument, NULL, O_JOULES},
        {"help", no_argument, NULL, 'h'}, {0}};
    long long v;
    bool      has_seed = false;
    *o = (options){0};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "t:s:o:n:h", longs, NULL)) != -1;) {
        int       engine = cli_engine_option(&o->engine, c, optarg), rc;
        jpt_error err = {0};
        if (engine < 0)
            return -engine;
        if (engine)
            continue;
        switch (c) {
        case 't':
            if ((rc = add_tasks(o, optarg)))
                return rc;
            break;
        case 's':
            if (jpt_spec_parse(optarg, &o->specs, &err) != JPT_OK) {
                cli_fail(&err);
                return CLI_USAGE;
            }
            break;
        case 'o': o->out = optarg; break;
        case O_LIMIT:
            if (!cli_parse_int(optarg, 1, 1 << 30, &v))
                return cli_usage("--limit %s: expected a number from 1", optarg);
            o->limit = (int32_t)v;
            break;
        case O_BLOCKS:
            if (!cli_parse_int(optarg, 1, 100000, &v))
                return cli_usage("--blocks %s: expected a number from 1 to 100000", optarg);
            o->blocks = (int32_t)v;
            break;
        case O_BATCH:
            if (!cli_parse_int(optarg, 1, 1024, &v))
                return cli_usage("--batch %s: expected a number from 1 to 1024", optarg);
            o->batch = (int32_t)v;
            break;
        case O_DRY: o->dry = true; break;
        case O_COMPAT:
            if (strcmp(optarg, "paper") != 0)
                return cli_usage("--compat %s: only 'paper' is known", optarg);
            o->compat = optarg;
            break;
        case O_JOULES:
            if (!cli_parse_double(optarg, 1e-9, 1e12, &o->max_joules))
                return cli_usage("--max-joules %s: expected joules above 0", optarg);
            break;
        case O_CTX:
            if (!cli_parse_int(optarg, 16, 1 << 24, &v))
                return cli_usage("--ctx %s: expected a number from 16", optarg);
            o->n_ctx = (int32_t)v;
            break;
        case 'n':
            if (!cli_parse_int(optarg, 1, 1 << 20, &v))
                return cli_usage("-n %s: expected a number from 1 to 1048576", optarg);
            o->max_new_tokens = (int32_t)v;
            break;
        case O_SEED:
            if (!cli_parse_int(optarg, 0, INT64_MAX - 100000, &v))
                return cli_usage("--seed %s: expected a whole number from 0", optarg);
            o->seed = (uint64_t)v;
            has_seed = true;
            break;
        case 'h': fputs(help, stdout); return -1;
        default: return cli_bad_option("bench", argv);
        }
    }
    if (optind < argc) {
        jpt_error     err = {0};
        jpt_spec_list planned = {0};
        int           rc;
        if (optind + 1 < argc)
            return cli_usage("bench: unexpected '%s'", argv[optind + 1]);
        if (jpt_plan_load(argv[optind], &o->plan, &planned, &err) != JPT_OK) {
            jpt_spec_list_fini(&planned);
            return cli_fail(&err);
        }
        if (o->specs.n)
            jpt_spec_list_fini(&planned);
        else
            o->specs = planned;
        if (!o->engine.model)
            o->engine.model = o->plan->model;
        if (!o->engine.draft)
            o->engine.draft = o->plan->draft_model;
        for (unsigned i = 0, add = o->n_tasks == 0; add && i < o->plan->tasks_count; i++)
            if ((rc = add_tasks(o, o->plan->tasks[i])))
                return rc;
        o->compat = o->compat ? o->compat : o->plan->compat;
        o->limit = o->limit ? o->limit : o->plan->limit;
        o->blocks = o->blocks ? o->blocks : o->plan->blocks;
        o->max_new_tokens = o->max_new_tokens ? o->max_new_tokens : o->plan->max_new_tokens;
        if (!has_seed)
            o->seed = (uint64_t)o->plan->seed;
    }
    if (o->blocks == 0)
        o->blocks = 1;
    if (!o->engine.model || !o->n_tasks || !o->specs.n || (!o->out && !o->dry))
        return cli_usage("bench: needs -m MODEL, -t TASK, -s SPEC and -o results.db, or a plan and -o results.db");
    if (o->out && !*o->out)
        return cli_usage("bench: -o needs a file's name");
    return 0;
}

static void on_progress(void *ud, const jpt_run_progress *p) {
    cli_progress *bar = ud;
    char          detail[200];
    bar->total = p->total;
    bar->skipped = p->resumed;
    if (isnan(p->energy_j))
        snprintf(detail, sizeof detail, "%.40s  %.60s", p->task, p->spec);
    else
        snprintf(detail, sizeof detail, "%.3g J/token  %.40s  %.60s", p->energy_j / (double)(p->tokens ? p->tokens : 1), p->task, p->spec);
    cli_progress_step(bar, p->done, detail);
}

static void print_estimate(const options *o, const jpt_run_estimate *e) {
    for (size_t i = 0; i < o->specs.n; i++)
        printf("%s\n", o->specs.spec[i].text);
    printf("\n%lld configurations x %zu tasks x %d block%s: %lld requests\n", (long long)e->configurations, o->n_tasks, o->blocks, o->blocks == 1 ? "" : "s",
           (long long)e->requests);
    long minutes = lround(e->seconds / 60);
    printf("about %ld h %02ld min", minutes / 60, minutes % 60);
    if (isnan(e->energy_j))
        printf(", joules unknown (the meter gave no valid power)");
    else
        printf(" and %.3g kJ (%s)", e->energy_j * 1e-3, e->modelled ? "modelled, not measured" : "at the power measured now");
    printf(", if every answer takes its full length\nprobe: %.2f ms a step of one row, %.3g W\n", e->step_s * 1e3, e->watts);
}

int cmd_bench(int argc, char **argv) {
    options         o;
    jpt_error       err = {0};
    jpt_model      *m = NULL, *draft = NULL;
    jpt_meter      *meter = NULL;
    jpt_task       *task[TASKS_MAX] = {0};
    jpt_run_summary sum = {0};
    cli_progress    bar;
    int             rc = parse(argc, argv, &o);
    jpt_status      st = JPT_OK;
    if (rc)
        goto out;
    for (size_t i = 0; i < o.n_tasks && st == JPT_OK; i++)
        st = jpt_task_open_with(o.task[i], &(jpt_task_options){.compat = o.compat}, &task[i], &err);
    if (st == JPT_OK)
        st = cli_open_models(&o.engine, &m, &draft, &err);
    if (st == JPT_OK) {
        const char       *uuid = jpt_model_get_info(m)->gpu_uuid;
        jpt_meter_options mo = {.watts = o.engine.watts, .prefer_gpu = *uuid, .gpu_uuid = uuid};
        st = jpt_meter_open(o.engine.meter, &mo, &meter, &err);
    }
    if (st == JPT_OK) {
        const jpt_meter_limits *l = jpt_meter_get_limits(meter);
        if (o.engine.require_energy && (l->modelled || l->kind == JPT_METER_NONE)) {
            fprintf(stderr, "jpt: energy was demanded, but the only meter here is '%s' (%s)\n", l->name, l->accuracy);
            rc = CLI_NO_ENERGY;
            goto out;
        }
        if (cli_verbosity() > 0)
            fprintf(stderr, "meter: %s (%s)%s\n", l->name, l->coverage, l->modelled ? ": modelled, not measured" : "");
        cli_progress_start(&bar, "bench", 0);
        jpt_run_options ro = {.model = m, .draft = draft, .meter = meter, .tasks = task, .n_tasks = o.n_tasks, .specs = &o.specs, .limit = o.limit, .n_blocks = o.blocks, .n_batch = o.batch,
                              .max_new_tokens = o.max_new_tokens, .seed = o.seed, .out = o.out,
                              .max_joules = o.max_joules, .n_ctx = o.n_ctx, .device = o.engine.opt.device && strcmp(o.engine.opt.device, "auto") != 0 ? o.engine.opt.device : "cpu", .on_progress = on_progress, .ud = &bar};
        if (o.dry) {
            jpt_run_estimate e;
            st = jpt_run_dry(&ro, &e, &err);
            if (st == JPT_OK)
                print_estimate(&o, &e);
            goto out;
        }
        st = jpt_run_bench(&ro, &sum, &err);
        cli_progress_end(&bar);
        if (cli_verbosity() > 0 && (st == JPT_OK || st == JPT_INTERRUPTED))
            fprintf(stderr, "%s: %lld of %lld requests, %lld of them from an earlier run%s\n", o.out, (long long)(sum.done + sum.resumed), (long long)sum.total,
                    (long long)sum.resumed, sum.invalid_energy ? "; some without valid energy (see the report)" : "");
        if (cli_verbosity() > 0 && (st == JPT_OK || st == JPT_INTERRUPTED) && sum.others > 0 && sum.resumed == 0)
            fprintf(stderr, "%s: its %lld earlier requests are of other settings, seeds, devices, threads, models or a jpt of another version; they stay beside\n", o.out,
                    (long long)sum.others);
        if (st == JPT_INTERRUPTED)
            fprintf(stderr, "jpt: interrupted; what is finished is kept, the same command goes on\n");
        if (st == JPT_OK && o.engine.require_energy && sum.invalid_energy) {
            fprintf(stderr, "jpt: energy was demanded, but %lld requests have no valid energy\n", (long long)sum.invalid_energy);
            rc = CLI_NO_ENERGY;
        }
    }
out:
    jpt_meter_close(meter);
    jpt_model_close(m);
    jpt_model_close(draft);
    for (size_t i = 0; i < TASKS_MAX; i++)
        jpt_task_close(task[i]);
    for (size_t i = 0; i < o.n_tasks; i++)
        free(o.task[i]);
    jpt_spec_list_fini(&o.specs);
    jpt_plan_free(o.plan);
    if (rc)
        return rc < 0 ? CLI_OK : rc;
    if (st == JPT_INTERRUPTED)
        return CLI_INTERRUPTED;
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
