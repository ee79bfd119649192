/* jpt evaluate: the metrics that take a model, for a results file after the fact, or for files of texts. */
#include "cli.h"
#include "texts.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/evaluate.h>
#include <jpt/format.h>
#include <jpt/store.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: jpt evaluate results.db [--evaluator MODEL] [--embedder minilm] [-t TASK]...\n"
    "       jpt evaluate --hyp FILE [--prompt FILE] [--ref FILE] [--evaluator MODEL] [--embedder minilm] [--each] [--json]\n\n"
    "With an evaluator (any language model): coherence, the mean log-probability of the text after its prompt; ppl and\n"
    "bits_per_byte of the text alone; of open-ended tasks also MAUVE, of each setting's texts against the task's references,\n"
    "by the evaluator's last hidden states.  With an embedder (a sentence encoder): the cosine to the prompt and to the reference\n"
    "(of several the nearest).  In a results file the scores are added to each request and cell as METRIC@MODEL, which\n"
    "reports read; what is there already stays, so that it can be interrupted and run again.  References are the task's.\n"
    "FILE: a text a line, or .jsonl with {\"text\", \"prompt\", \"reference\"}.\n\n"
    "      --evaluator MODEL  a GGUF or llama2.c file, or a name that `jpt pull` knows\n"
    "      --embedder NAME    minilm, or a folder\n"
    "  -t, --task TASK        a task of the results file that is not found by its name: its file\n"
    "      --no-mauve         leave MAUVE away\n"
    "      --ctx N            positions of the evaluator's window (default 2048)\n"
    "      --each             a line a text, before the line of all\n"
    "      --device, --threads, --dtype, -q, -v as elsewhere";

enum { TASKS_MAX = 64 };

typedef struct models {
    jpt_model           *model;
    jpt_task            *task[TASKS_MAX];
    jpt_evaluate_options opt;
    cli_progress         progress;
} models;

/* "dir/name.gguf" becomes "name". */
static const char *short_name(const char *name, char *out, size_t cap) {
    size_t len = strlen(name);
    while (len > 1 && name[len - 1] == '/')
        len--;
    size_t at = len;
    while (at > 0 && name[at - 1] != '/')
        at--;
    snprintf(out, cap, "%.*s", (int)(len - at < 100 ? len - at : 100), name + at);
    char *dot = strrchr(out, '.');
    if (dot && dot != out && (strcmp(dot, ".gguf") == 0 || strcmp(dot, ".bin") == 0))
        *dot = '\0';
    return out;
}

static void on_progress(void *ud, int64_t done, int64_t total) {
    models *m = ud;
    m->progress.total = total;
    cli_progress_step(&m->progress, done, NULL);
}

static jpt_status open_models(const cli_engine *e, const char *embedder, const char *const *task, size_t n_tasks, long long n_ctx, models *m, jpt_error *err) {
    static char evaluator_name[128], embedder_name[128];
    char        path[4096];
    m->opt.tasks = m->task;
    for (; m->opt.n_tasks < n_tasks; m->opt.n_tasks++)
        JPT_TRY(jpt_task_open(task[m->opt.n_tasks], &m->task[m->opt.n_tasks], err));
    if (e->model) {
        const char *file = cli_model_path(e->model, err);
        if (!file)
            return err->code;
        JPT_TRY(jpt_model_open(file, &e->opt, &m->model, err));
        int32_t             train = jpt_model_get_info(m->model)->n_ctx_train;
        jpt_session_options so = {.n_ctx = n_ctx < train ? (int32_t)n_ctx : train, .n_outputs = 64, .n_seqs = JPT_EVALUATE_BATCH, .n_hidden = JPT_EVALUATE_BATCH};
        JPT_TRY(jpt_session_open(m->model, &so, &m->opt.evaluator, err));
        m->opt.evaluator_name = short_name(e->model, evaluator_name, sizeof evaluator_name);
    }
    if (embedder) {
        JPT_TRY(jpt_encoder_resolve(embedder, path, sizeof path, err));
        JPT_TRY(jpt_encoder_open(path, NULL, e->opt.n_threads, &m->opt.embedder, err));
        m->opt.embedder_name = short_name(embedder, embedder_name, sizeof embedder_name);
    }
    return JPT_OK;
}

static void close_models(models *m) {
    jpt_session_close(m->opt.evaluator);
    jpt_model_close(m->model);
    jpt_encoder_close(m->opt.embedder);
    for (size_t i = 0; i < m->opt.n_tasks; i++)
        jpt_task_close(m->task[i]);
}

static void put(json_t *j, const char *name, double v) { json_object_set_new(j, name, isfinite(v) ? json_real(v) : json_null()); }

static void print(json_t *j, bool json) {
    const char *key;
    json_t     *v;
    if (json)
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    else
        json_object_foreach(j, key, v) {
            if (json_is_real(v))
                printf("%s %.6g  ", key, json_real_value(v));
            else if (json_is_integer(v))
                printf("%s %lld  ", key, (long long)json_integer_value(v));
        }
    putchar('\n');
    json_decref(j);
}

/* ---- a results file ------------------------------------------------------------------------------ */

/* The newest score of each cell and metric, for the table. */
typedef struct cells {
    json_t *row, *task; /* by id: {"task", "spec", scores}; task names */
} cells;

static const char *key_of(int64_t id, char out[24]) {
    snprintf(out, 24, "%lld", (long long)id);
    return out;
}
static jpt_status see_task(void *ud, const jpt_task_row *r) {
    char key[24];
    return json_object_set_new(((cells *)ud)->task, key_of(r->id, key), json_string(r->name ? r->name : "?")) ? JPT_NOMEM : JPT_OK;
}
static jpt_status see_cell(void *ud, const jpt_cell_row *r) {
    cells  *c = ud;
    char    key[24];
    json_t *j = json_object();
    json_object_set(j, "task", json_object_get(c->task, key_of(r->task, key)));
    json_object_set_new(j, "spec", json_string(r->spec ? r->spec : "?"));
    return json_object_set_new(c->row, key_of(r->id, key), j) ? JPT_NOMEM : JPT_OK;
}
static jpt_status see_score(void *ud, const jpt_score_row *r) {
    char    key[24];
    json_t *cell = json_object_get(((cells *)ud)->row, key_of(r->owner, key));
    if (!strchr(r->metric, '@') || !isfinite(r->value))
        return JPT_OK;
    json_t *v = json_pack("{s:f,s:I}", "value", r->value, "n", (json_int_t)r->n);
    if (isfinite(r->ci_low) && isfinite(r->ci_high))
        json_object_set_new(v, "ci", json_pack("[ff]", r->ci_low, r->ci_high));
    return json_object_set_new(cell, r->metric, v) ? JPT_NOMEM : JPT_OK;
}

static void print_cell(const json_t *cell) {
    const char *metric;
    json_t     *v;
    printf("%s  %s\n", json_string_value(json_object_get(cell, "task")), json_string_value(json_object_get(cell, "spec")));
    json_object_foreach((json_t *)(uintptr_t)cell, metric, v) {
        const json_t *ci = json_object_get(v, "ci");
        if (!json_is_object(v))
            continue;
        printf("    %-32s %.5g", metric, json_real_value(json_object_get(v, "value")));
        if (ci)
            printf("  [%.5g, %.5g]", json_real_value(json_array_get(ci, 0)), json_real_value(json_array_get(ci, 1)));
        printf("  %lld texts\n", (long long)json_integer_value(json_object_get(v, "n")));
    }
}

/* What the file says of its cells now. */
static jpt_status print_cells(const char *db, const jpt_evaluate_summary *sum, bool json, jpt_error *err) {
    cells       c = {json_object(), json_object()};
    jpt_store  *s = NULL;
    const char *key;
    json_t     *j, *list = json_array();
    jpt_status  st = jpt_store_open(db, JPT_STORE_READ, &s, err);
    if (st == JPT_OK)
        st = jpt_store_each_task(s, see_task, &c, err);
    if (st == JPT_OK)
        st = jpt_store_each_cell(s, see_cell, &c, err);
    if (st == JPT_OK)
        st = jpt_store_each_cell_score(s, -1, see_score, &c, err);
    if (st == JPT_NOMEM)
        JPT_FAIL(err, NOMEM, "%s: out of memory", db);
    json_object_foreach(c.row, key, j)
        if (st == JPT_OK && json)
            json_array_append(list, j);
        else if (st == JPT_OK)
            print_cell(j);
    if (st == JPT_OK && json)
        print(json_pack("{s:I,s:I,s:I,s:I,s:O}", "requests", (json_int_t)sum->requests, "scored", (json_int_t)sum->scored, "had", (json_int_t)sum->had, "without_reference",
                        (json_int_t)sum->without_reference, "cells", list), true);
    json_decref(list);
    json_decref(c.row);
    json_decref(c.task);
    jpt_store_close(s);
    return st;
}

static jpt_status evaluate_file(models *m, const char *db, bool json, jpt_error *err) {
    jpt_evaluate_summary s;
    m->opt.on_progress = on_progress;
    m->opt.ud = m;
    cli_progress_start(&m->progress, "evaluate", 1);
    jpt_status st = jpt_evaluate_store(db, &m->opt, &s, err);
    cli_progress_end(&m->progress);
    if (st != JPT_OK)
        return st;
    if (s.missing_task[0] && cli_verbosity() > 0)
        fprintf(stderr, "evaluate: the references of task '%s' are not to be had (no task of that name, or with other items; -t FILE names one): no cos_reference and no MAUVE for it\n", s.missing_task);
    if (!json)
        printf("%lld requests with a text: %lld scored, %lld had their scores\n", (long long)s.requests, (long long)s.scored, (long long)s.had);
    return print_cells(db, &s, json, err);
}

/* ---- files of texts ------------------------------------------------------------------------------ */

static void add(double v, double *sum, int *n) {
    if (isfinite(v)) {
        *sum += v;
        (*n)++;
    }
}

/* Means over texts; perplexity and bits per byte of all of them together. */
static json_t *of_all(const models *m, const jpt_evaluation *v, const jpt_evaluate_item *item, size_t n) {
    double  coherence = 0, nll = 0, bytes = 0, tokens = 0, prompt = 0, reference = 0;
    int     n_coherence = 0, n_prompt = 0, n_reference = 0;
    json_t *j = json_object();
    for (size_t i = 0; i < n; i++) {
        add(v[i].coherence, &coherence, &n_coherence);
        add(v[i].cos_prompt, &prompt, &n_prompt);
        add(v[i].cos_reference, &reference, &n_reference);
        nll += v[i].nll;
        tokens += v[i].n_alone_tokens;
        bytes += v[i].n_alone_tokens ? (double)item[i].text.n : 0;
    }
    json_object_set_new(j, "texts", json_integer((json_int_t)n));
    if (m->opt.evaluator) {
        put(j, "coherence", coherence / n_coherence);
        put(j, "ppl", exp(nll / tokens));
        put(j, "bits_per_byte", nll / log(2) / bytes);
        json_object_set_new(j, "tokens", json_integer((json_int_t)tokens));
        json_object_set_new(j, "evaluator", json_string(m->opt.evaluator_name));
    }
    if (m->opt.embedder) {
        put(j, "cos_prompt", prompt / n_prompt);
        put(j, "cos_reference", reference / n_reference);
        json_object_set_new(j, "embedder", json_string(m->opt.embedder_name));
    }
    return j;
}

static void print_each(const models *m, const jpt_evaluation *v, size_t n, bool json) {
    for (size_t i = 0; i < n; i++) {
        json_t *j = json_object();
        json_object_set_new(j, "index", json_integer((json_int_t)i));
        if (m->opt.evaluator) {
            put(j, "coherence", v[i].coherence);
            put(j, "ppl", v[i].ppl);
            put(j, "bits_per_byte", v[i].bits_per_byte);
        }
        if (m->opt.embedder) {
            put(j, "cos_prompt", v[i].cos_prompt);
            put(j, "cos_reference", v[i].cos_reference);
        }
        print(j, json);
    }
}

static jpt_status as_many(const char *a, size_t n_a, const char *b, size_t n_b, jpt_error *err) {
    return n_a == n_b ? JPT_OK : JPT_FAIL(err, FORMAT, "%s has %zu texts, %s has %zu: they must belong together one by one", a, n_a, b, n_b);
}

static jpt_status evaluate_texts(models *m, const char *hyp, const char *prompt, const char *ref, bool each, bool json, jpt_error *err) {
    enum { PART = 32 };
    cli_texts          h = {0}, p = {0}, r = {0};
    jpt_evaluate_item *item = NULL;
    jpt_evaluation    *v = NULL;
    jpt_status         st = cli_texts_read(hyp, &h, err);
    if (st == JPT_OK && prompt && (st = cli_texts_read(prompt, &p, err)) == JPT_OK)
        st = as_many(hyp, h.n, prompt, p.n, err);
    if (st == JPT_OK && ref && (st = cli_texts_read(ref, &r, err)) == JPT_OK)
        st = as_many(hyp, h.n, ref, r.n, err);
    if (st == JPT_OK) {
        item = calloc(h.n, sizeof *item);
        v = calloc(h.n, sizeof *v);
        st = item && v ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu texts", h.n);
    }
    for (size_t i = 0; st == JPT_OK && i < h.n; i++) {
        const cli_text *t = &h.item[i];
        item[i] = (jpt_evaluate_item){.text = t->text, .prompt = prompt ? &p.item[i].text : t->prompt.p ? &t->prompt : NULL, .references = t->reference, .n_references = t->n_references};
        if (ref) {
            item[i].references = &r.item[i].text;
            item[i].n_references = 1;
        }
    }
    cli_progress_start(&m->progress, "evaluate", (long long)h.n);
    for (size_t at = 0; st == JPT_OK && at < h.n; at += PART) {
        size_t n = h.n - at < PART ? h.n - at : PART;
        st = jpt_evaluate(&m->opt, item + at, n, v + at, err);
        cli_progress_step(&m->progress, (long long)(at + n), NULL);
    }
    cli_progress_end(&m->progress);
    if (st == JPT_OK && each)
        print_each(m, v, h.n, json);
    if (st == JPT_OK)
        print(of_all(m, v, item, h.n), json);
    free(item);
    free(v);
    cli_texts_fini(&h);
    cli_texts_fini(&p);
    cli_texts_fini(&r);
    return st;
}

int cmd_evaluate(int argc, char **argv) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"evaluator", required_argument, NULL, 'm'}, {"embedder", required_argument, NULL, 'E'}, {"hyp", required_argument, NULL, 'y'}, {"prompt", required_argument, NULL, 'p'}, {"ref", required_argument, NULL, 'r'}, {"task", required_argument, NULL, 't'}, {"ctx", required_argument, NULL, 'C'}, {"each", no_argument, NULL, 'e'}, {"no-mauve", no_argument, NULL, 'N'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    cli_engine  e = {0};
    const char *embedder = NULL, *hyp = NULL, *prompt = NULL, *ref = NULL, *task[TASKS_MAX];
    size_t      n_tasks = 0;
    long long   n_ctx = 2048;
    bool        each = false, json = false;
    models      m = {0};
    jpt_error   err = {0};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "t:h", longs, NULL)) != -1;) {
        int engine = cli_engine_option(&e, c, optarg);
        if (engine < 0)
            return -engine;
        if (engine && (e.meter || e.watts > 0 || e.require_energy || e.draft))
            return cli_usage("evaluate: takes no meter and no draft model");
        if (engine)
            continue;
        switch (c) {
        case 'E': embedder = optarg; break;
        case 'y': hyp = optarg; break;
        case 'p': prompt = optarg; break;
        case 'r': ref = optarg; break;
        case 't':
            if (n_tasks == TASKS_MAX)
                return cli_usage("evaluate: at most %d tasks", TASKS_MAX);
            task[n_tasks++] = optarg;
            break;
        case 'e': each = true; break;
        case 'N': m.opt.no_mauve = true; break;
        case 'j': json = true; break;
        case 'C':
            if (!cli_parse_int(optarg, 16, 1 << 20, &n_ctx))
                return cli_usage("--ctx %s: expected a number from 16 to 1048576", optarg);
            break;
        case 'h': puts(help); return CLI_OK;
        default: return cli_bad_option("evaluate", argv);
        }
    }
    if (!e.model && !embedder)
        return cli_usage("evaluate: give --evaluator MODEL, --embedder NAME, or both");
    if ((argc - optind == 1) == (hyp != NULL) || argc - optind > 1)
        return cli_usage("evaluate: give one results file, or --hyp FILE");
    if (hyp && n_tasks)
        return cli_usage("evaluate: --task goes with a results file; texts have their --ref");
    if (!hyp && (prompt || ref || each))
        return cli_usage("evaluate: --prompt, --ref and --each go with --hyp; a results file has its own");
    jpt_status st = open_models(&e, embedder, task, n_tasks, n_ctx, &m, &err);
    if (st == JPT_OK)
        st = hyp ? evaluate_texts(&m, hyp, prompt, ref, each, json, &err) : evaluate_file(&m, argv[optind], json, &err);
    close_models(&m);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
