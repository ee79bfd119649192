/* jpt bench: models x tasks x strategies into results.db; the same command again resumes. */
#include "cli.h"
#include <getopt.h>
#include <jpt/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS_MAX = 64, ENGINES_MAX = 16, BATCHES_MAX = 64 };

typedef struct options {
    cli_engine    engine;
    jpt_spec_list specs;
    char         *task[TASKS_MAX];
    size_t        n_tasks, n_batches;
    const char   *out, *compat;
    jpt_plan     *plan;
    bool          dry;
    int32_t       limit, blocks, batch[BATCHES_MAX], max_new_tokens, n_ctx;
    uint64_t      seed;
    double        max_joules, max_joules_total, max_hours;
    jpt_buf       text; /* the command line as a plan */
} options;

static const char help[] =
    "usage: jpt bench -m MODEL -t TASK[,TASK...] -s SPEC [-s SPEC...] -o results.db [options]\n"
    "       jpt bench PLAN.yaml -o results.db [options]      options win over the plan (plans/ has some, docs/formats.md the keys)\n\n"
    "      --dry-run          configurations, requests, and an estimate of time and joules\n"
    "  -t, --tasks LIST       names (jpt list tasks), .yaml or .jsonl files, NAME=FILE (your items in a task's form), by commas\n"
    "      --compat paper     ask as the study did: its prompts, no chat template, its caps and stop rule (tasks/README.md)\n"
    "  -s, --strategy SPEC    may be repeated; {a,b} makes a grid\n"
    "  -o, --output FILE      results, SQLite; run the same command again to resume\n"
    "      --limit N          first N items of each task\n"
    "      --blocks N         repeats in random order; sampled strategies get new seeds each (default 1; 5 and more for a table)\n"
    "      --batch N[,N...]   requests of a cell at a time, same texts; they share passes over the weights (default 1)\n"
    "  -n, --max-new-tokens N instead of the task's own\n"
    "      --ctx N            context, default min(the model's, 4096)\n"
    "      --max-joules J     budget of a request: beams narrow, drafts go, the text ends (docs/energy-aware.md)\n"
    "      --max-joules-total J, --max-hours H   budget of the whole study: a block that does not fit is not begun\n"
    "      --seed S           default 0\n" CLI_ENGINE_HELP;

enum { O_LIMIT = 0x200, O_BLOCKS, O_SEED, O_CTX, O_DRY, O_JOULES, O_BATCH, O_COMPAT, O_TOTAL, O_HOURS };

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

static int add_batches(options *o, const char *list) {
    char  copy[400], *rest = copy;
    snprintf(copy, sizeof copy, "%s", list);
    o->n_batches = 0;
    for (char *word; (word = strsep(&rest, ","));) {
        long long v;
        if (o->n_batches == BATCHES_MAX || !cli_parse_int(word, 1, 1024, &v))
            return cli_usage("--batch %s: expected numbers from 1 to 1024", list);
        o->batch[o->n_batches++] = (int32_t)v;
    }
    return 0;
}

/* A plan's values where the command line has none. */
static int take_plan(options *o, const char *path, bool has_seed) {
    jpt_error     err = {0};
    jpt_spec_list planned = {0};
    int           rc;
    if (jpt_plan_load(path, &o->plan, &planned, &err) != JPT_OK) {
        jpt_spec_list_fini(&planned);
        return cli_fail(&err);
    }
    if (o->specs.n)
        jpt_spec_list_fini(&planned);
    else
        o->specs = planned;
    if (!o->engine.draft)
        o->engine.draft = o->plan->draft_model;
    for (unsigned i = 0, add = o->n_tasks == 0; add && i < o->plan->tasks_count; i++)
        if ((rc = add_tasks(o, o->plan->tasks[i])))
            return rc;
    for (unsigned i = 0, add = o->n_batches == 0; add && i < o->plan->batch_sizes_count && i < BATCHES_MAX; i++)
        o->batch[o->n_batches++] = o->plan->batch_sizes[i];
    o->compat = o->compat ? o->compat : o->plan->compat;
    o->limit = o->limit ? o->limit : o->plan->limit;
    o->blocks = o->blocks ? o->blocks : o->plan->blocks;
    o->max_new_tokens = o->max_new_tokens ? o->max_new_tokens : o->plan->max_new_tokens;
    o->n_ctx = o->n_ctx ? o->n_ctx : o->plan->ctx;
    o->max_joules = o->max_joules > 0 ? o->max_joules : o->plan->max_joules;
    if (o->plan->budget) {
        o->max_joules_total = o->max_joules_total > 0 ? o->max_joules_total : o->plan->budget->joules;
        o->max_hours = o->max_hours > 0 ? o->max_hours : o->plan->budget->hours;
    }
    if (!has_seed)
        o->seed = o->plan->seed;
    return 0;
}

static int parse(int argc, char **argv, options *o) {
    static const struct option longs[] = {CLI_ENGINE_LONG,
                                          {"tasks", required_argument, NULL, 't'},
                                          {"task", required_argument, NULL, 't'},
                                          {"strategy", required_argument, NULL, 's'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"limit", required_argument, NULL, O_LIMIT},
                                          {"blocks", required_argument, NULL, O_BLOCKS},
                                          {"max-new-tokens", required_argument, NULL, 'n'},
                                          {"seed", required_argument, NULL, O_SEED},
                                          {"ctx", required_argument, NULL, O_CTX},
                                          {"batch", required_argument, NULL, O_BATCH},
                                          {"dry-run", no_argument, NULL, O_DRY},
                                          {"compat", required_argument, NULL, O_COMPAT},
                                          {"max-joules", required_argument, NULL, O_JOULES},
                                          {"max-joules-total", required_argument, NULL, O_TOTAL},
                                          {"max-hours", required_argument, NULL, O_HOURS},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    long long v;
    bool      has_seed = false;
    int       rc;
    *o = (options){0};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "t:s:o:n:h", longs, NULL)) != -1;) {
        int       engine = cli_engine_option(&o->engine, c, optarg);
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
            if ((rc = add_batches(o, optarg)))
                return rc;
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
        case O_TOTAL:
            if (!cli_parse_double(optarg, 1e-9, 1e15, &o->max_joules_total))
                return cli_usage("--max-joules-total %s: expected joules above 0", optarg);
            break;
        case O_HOURS:
            if (!cli_parse_double(optarg, 1e-9, 1e6, &o->max_hours))
                return cli_usage("--max-hours %s: expected hours above 0", optarg);
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
    if (optind + 1 < argc)
        return cli_usage("bench: unexpected '%s'", argv[optind + 1]);
    if (optind < argc && (rc = take_plan(o, argv[optind], has_seed)))
        return rc;
    if (o->blocks == 0)
        o->blocks = 1;
    if ((!o->engine.model && !o->plan) || !o->n_tasks || !o->specs.n || (!o->out && !o->dry))
        return cli_usage("bench: needs -m MODEL, -t TASK, -s SPEC and -o results.db, or a plan and -o results.db");
    if (o->out && !*o->out)
        return cli_usage("bench: -o needs a file's name");
    return 0;
}

/* ---- engines: every model on every device, a meter for each device --------------------------------------------- */

typedef struct engines {
    jpt_run_engine  e[ENGINES_MAX];
    jpt_calibration calibration[ENGINES_MAX];
    char            uuid[ENGINES_MAX][64], sha256[ENGINES_MAX][65];
    size_t          n;
} engines;

static jpt_status add_engine(engines *all, const options *o, const char *model, const char *device, jpt_error *err) {
    cli_engine      c = o->engine;
    jpt_run_engine *e = &all->e[all->n];
    if (all->n == ENGINES_MAX)
        return JPT_FAIL(err, ARG, "more than %d models on devices at once", ENGINES_MAX);
    c.model = model;
    c.opt.device = device;
    *e = (jpt_run_engine){.device = device && strcmp(device, "auto") != 0 ? device : "cpu"};
    all->n++;
    JPT_TRY(cli_open_models(&c, &e->model, &e->draft, err));
    snprintf(all->uuid[all->n - 1], sizeof all->uuid[0], "%s", jpt_model_get_info(e->model)->gpu_uuid);
    for (size_t i = 0; i + 1 < all->n && !e->meter; i++)
        if (strcmp(all->uuid[i], all->uuid[all->n - 1]) == 0)
            e->meter = all->e[i].meter;
    if (!e->meter) {
        const char       *uuid = all->uuid[all->n - 1];
        jpt_meter_options mo = {.watts = c.watts, .prefer_gpu = *uuid, .gpu_uuid = uuid};
        JPT_TRY(jpt_meter_open(c.meter, &mo, &e->meter, err));
        const jpt_meter_limits *l = jpt_meter_get_limits(e->meter);
        if (cli_verbosity() > 0)
            fprintf(stderr, "meter: %s (%s)%s\n", l->name, l->coverage, l->modelled ? ": modelled, not measured" : "");
    }
    if (!o->dry)
        JPT_TRY(jpt_sha256_file(jpt_model_get_info(e->model)->path, all->sha256[all->n - 1], err));
    e->model_sha256 = all->sha256[all->n - 1];
    jpt_error  why = {0};
    jpt_status found = jpt_calibration_find(e->device, all->uuid[all->n - 1], jpt_meter_get_limits(e->meter)->name, e->model_sha256, &all->calibration[all->n - 1], &why);
    if (found == JPT_OK)
        e->calibration = &all->calibration[all->n - 1];
    else if (found == JPT_METER)
        jpt_log(JPT_LOG_WARN, "%s", why.msg);
    return JPT_OK;
}

static jpt_status open_engines(engines *all, const options *o, jpt_error *err) {
    bool     one_model = o->engine.model || !o->plan->models, one_device = o->engine.opt.device || !o->plan || !o->plan->devices;
    unsigned n_models = one_model ? 1 : o->plan->models_count, n_devices = one_device ? 1 : o->plan->devices_count;
    for (unsigned d = 0; d < n_devices; d++)
        for (unsigned m = 0; m < n_models; m++)
            JPT_TRY(add_engine(all, o, o->engine.model ? o->engine.model : one_model ? o->plan->model : o->plan->models[m],
                               one_device ? o->engine.opt.device : o->plan->devices[d], err));
    return JPT_OK;
}

static void close_engines(engines *all) {
    for (size_t i = 0; i < all->n; i++) {
        bool shared = false;
        for (size_t k = 0; k < i; k++)
            shared = shared || all->e[k].meter == all->e[i].meter;
        if (!shared)
            jpt_meter_close(all->e[i].meter);
        jpt_model_close(all->e[i].model);
        jpt_model_close(all->e[i].draft);
    }
}

/* ---- what the run module wants ----------------------------------------------------------------------------------- */

/* The command line in the form of a plan, for the records. */
static void describe(options *o) {
    jpt_buf *b = &o->text;
    if (o->plan && o->plan->text)
        jpt_buf_addz(b, o->plan->text);
    jpt_buf_printf(b, "%s# as run\n", o->plan ? "\n" : "");
    if (o->engine.model)
        jpt_buf_printf(b, "model: %s\n", o->engine.model);
    jpt_buf_addz(b, "tasks: [");
    for (size_t i = 0; i < o->n_tasks; i++)
        jpt_buf_printf(b, "%s%s", i ? ", " : "", o->task[i]);
    jpt_buf_addz(b, "]\nstrategies:\n");
    for (size_t i = 0; i < o->specs.n; i++)
        jpt_buf_printf(b, "  - %s\n", o->specs.spec[i].text);
    jpt_buf_printf(b, "blocks: %d\nseed: %llu\n", o->blocks, (unsigned long long)o->seed);
    if (o->limit)
        jpt_buf_printf(b, "limit: %d\n", o->limit);
    if (o->max_new_tokens)
        jpt_buf_printf(b, "max_new_tokens: %d\n", o->max_new_tokens);
}

static jpt_run_options run_options(options *o, const engines *all, jpt_task *const *task, jpt_run_exclusion *exclude) {
    const jpt_plan *p = o->plan;
    jpt_run_options r = {.engines = all->e, .n_engines = all->n, .tasks = task, .n_tasks = o->n_tasks, .specs = &o->specs, .batches = o->batch, .n_batches = o->n_batches,
                         .seeds = &o->seed, .n_seeds = 1, .limit = o->limit, .n_blocks = o->blocks, .max_new_tokens = o->max_new_tokens, .max_joules = o->max_joules,
                         .n_ctx = o->n_ctx, .max_joules_total = o->max_joules_total, .max_hours = o->max_hours, .out = o->out};
    describe(o);
    r.plan_text = o->text.p;
    r.plan_name = p ? p->name : "command line";
    if (!p)
        return r;
    if (p->seeds)
        r.seeds = p->seeds, r.n_seeds = p->seeds_count;
    if (p->windows)
        r.windows = (jpt_run_windows){.seconds = p->windows->seconds, .idle_s = p->windows->idle_seconds, .warm_up_s = p->windows->warm_up_seconds, .repeats = p->windows->repeats,
                                      .sentinel = !p->windows->sentinel ? 0 : *p->windows->sentinel == 'n' ? -1 : p->windows->sentinel[1] == 'l'};
    if (p->stop)
        r.stop = (jpt_run_stop){.a = p->stop->compare[0], .b = p->stop->compare[1], .task = p->stop->task, .width = p->stop->width, .max_blocks = p->stop->blocks};
    for (unsigned i = 0; i < p->exclude_count; i++)
        exclude[i] = (jpt_run_exclusion){p->exclude[i].model, p->exclude[i].task, p->exclude[i].strategy, p->exclude[i].device, p->exclude[i].batch};
    r.exclude = exclude;
    r.n_exclude = p->exclude_count;
    return r;
}

static void on_progress(void *ud, const jpt_run_progress *p) {
    cli_progress *bar = ud;
    char          detail[300], joules[48] = "", watts[24] = "", width[24] = "", batch[16] = "";
    if (p->note) {
        if (cli_verbosity() > 0)
            fprintf(stderr, "%sbench: %s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", p->note);
        return;
    }
    bar->total = p->total;
    bar->skipped = p->resumed;
    if (!isnan(p->joules_per_token))
        snprintf(joules, sizeof joules, "  %.3g J/token", p->joules_per_token);
    if (!isnan(p->watts))
        snprintf(watts, sizeof watts, "  %.3g W", p->watts);
    if (!isnan(p->width))
        snprintf(width, sizeof width, " +-%.2g %%", isinf(p->width) ? INFINITY : 50 * p->width);
    if (p->batch > 1)
        snprintf(batch, sizeof batch, " x%d", p->batch);
    snprintf(detail, sizeof detail, "%.3g tok/s%s%s%s  %.40s%s  %.60s", p->tokens_per_s, watts, joules, width, p->task, batch, p->spec);
    cli_progress_step(bar, p->done, detail);
}

static void print_estimate(const options *o, const engines *all, const jpt_run_estimate *e) {
    for (size_t i = 0; i < o->specs.n; i++)
        printf("%s\n", o->specs.spec[i].text);
    printf("\n%lld configurations x %zu tasks", (long long)e->configurations, o->n_tasks);
    if (all->n > 1)
        printf(" x %zu models on devices", all->n);
    if (o->n_batches > 1)
        printf(" x %zu batch sizes", o->n_batches);
    printf(" x %d block%s: %lld cells, %lld requests\n", o->blocks, o->blocks == 1 ? "" : "s", (long long)e->cells, (long long)e->requests);
    long minutes = lround(e->seconds / 60);
    printf("about %ld h %02ld min", minutes / 60, minutes % 60);
    if (isnan(e->energy_j))
        printf(", joules unknown (the meter gave no valid power)");
    else
        printf(" and %.3g kJ (%s)", e->energy_j * 1e-3, e->modelled ? "modelled, not measured" : "at the power measured now");
    printf(", if every answer takes its full length\nprobe: %.2f ms a step of one row, %.3g W\n", e->step_s * 1e3, e->watts);
    if (o->max_joules_total > 0 && e->energy_j > o->max_joules_total)
        printf("more than the budget of %.3g kJ: the last blocks will be missing\n", o->max_joules_total * 1e-3);
    if (o->max_hours > 0 && e->seconds > 3600 * o->max_hours)
        printf("more than the budget of %.3g h: the last blocks will be missing\n", o->max_hours);
    if (o->blocks < 5 && !e->modelled)
        printf("%d block%s: five and more are wanted for intervals\n", o->blocks, o->blocks == 1 ? "" : "s");
}

static void print_summary(const options *o, const jpt_run_summary *s, jpt_status st) {
    if (cli_verbosity() == 0)
        return;
    fprintf(stderr, "%s: %lld of %lld requests, %lld of them from an earlier run%s\n", o->out, (long long)(s->done + s->resumed), (long long)s->total, (long long)s->resumed,
            s->invalid_energy ? "; some without valid energy (see the report)" : "");
    if (s->windows_invalid)
        fprintf(stderr, "%s: %lld windows were not valid; they are kept with their reasons\n", o->out, (long long)s->windows_invalid);
    if (s->others > 0 && s->resumed == 0)
        fprintf(stderr, "%s: its %lld earlier requests are of other settings, seeds, devices, threads, models or a jpt of another version; they stay beside\n", o->out,
                (long long)s->others);
    if (!isnan(s->difference))
        fprintf(stderr, "%s against %s: %+.2f %% J/token, %+.2f to %+.2f %% over all looks, %d blocks%s\n", o->plan->stop->compare[1], o->plan->stop->compare[0], 100 * s->difference,
                100 * s->ci_low, 100 * s->ci_high, s->blocks, s->narrow_enough ? ": narrow enough" : "");
    if (s->budget_spent)
        fprintf(stderr, "the study's budget is spent after %d whole block%s; a larger one goes on from here\n", s->blocks, s->blocks == 1 ? "" : "s");
    if (st == JPT_INTERRUPTED)
        fprintf(stderr, "jpt: interrupted; what is finished is kept, the same command goes on\n");
}

/* 0, or the exit status when energy was demanded and cannot be had. */
static int check_demand(const options *o, const engines *all) {
    for (size_t i = 0; i < all->n && o->engine.require_energy; i++) {
        const jpt_meter_limits *l = jpt_meter_get_limits(all->e[i].meter);
        if (!jpt_meter_measures(all->e[i].meter)) {
            fprintf(stderr, "jpt: energy was demanded, but the only meter here is '%s' (%s)\n", l->name, l->accuracy);
            return CLI_NO_ENERGY;
        }
    }
    return 0;
}

int cmd_bench(int argc, char **argv) {
    options            o;
    jpt_error          err = {0};
    engines            all = {0};
    jpt_task          *task[TASKS_MAX] = {0};
    jpt_run_exclusion *exclude = NULL;
    int                rc = parse(argc, argv, &o);
    jpt_status         st = JPT_OK;
    if (rc)
        goto out;
    for (size_t i = 0; i < o.n_tasks && st == JPT_OK; i++)
        st = jpt_task_open_with(o.task[i], &(jpt_task_options){.compat = o.compat}, &task[i], &err);
    if (st == JPT_OK)
        st = open_engines(&all, &o, &err);
    if (st == JPT_OK && (rc = check_demand(&o, &all)))
        goto out;
    exclude = calloc(o.plan && o.plan->exclude_count ? o.plan->exclude_count : 1, sizeof *exclude);
    if (st == JPT_OK && !exclude)
        st = JPT_FAIL(&err, NOMEM, "out of memory");
    if (st == JPT_OK) {
        jpt_run_options ro = run_options(&o, &all, task, exclude);
        cli_progress    bar;
        if (o.dry) {
            jpt_run_estimate e;
            st = jpt_run_dry(&ro, &e, &err);
            if (st == JPT_OK)
                print_estimate(&o, &all, &e);
            goto out;
        }
        jpt_run_summary sum = {0};
        cli_progress_start(&bar, "bench", 0);
        ro.on_progress = on_progress;
        ro.ud = &bar;
        st = jpt_run_bench(&ro, &sum, &err);
        cli_progress_end(&bar);
        if (st == JPT_OK || st == JPT_INTERRUPTED)
            print_summary(&o, &sum, st);
        if (st == JPT_OK && o.engine.require_energy && sum.invalid_energy) {
            fprintf(stderr, "jpt: energy was demanded, but %lld requests have no valid energy\n", (long long)sum.invalid_energy);
            rc = CLI_NO_ENERGY;
        }
    }
out:
    close_engines(&all);
    for (size_t i = 0; i < TASKS_MAX; i++)
        jpt_task_close(task[i]);
    for (size_t i = 0; i < o.n_tasks; i++)
        free(o.task[i]);
    free(exclude);
    jpt_buf_fini(&o.text);
    jpt_spec_list_fini(&o.specs);
    jpt_plan_free(o.plan);
    if (rc)
        return rc < 0 ? CLI_OK : rc;
    if (st == JPT_INTERRUPTED)
        return CLI_INTERRUPTED;
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
