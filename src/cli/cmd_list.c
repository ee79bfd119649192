/* jpt list models|datasets|tasks|strategies. */
#include "cli.h"
#include <jpt/dataset.h>
#include <jpt/decode.h>
#include <jpt/format.h>
#include <jpt/task.h>
#include <string.h>
#include <unistd.h>

/* What a family is for. */
static const struct {
    const char *name, *title, *use;
} families[] = {
    {"search", "Search", "Closed tasks with one right answer (translation, mathematics, code): repeatable, cheapest, prone to loops in long text."},
    {"sampling", "Sampling", "Open-ended text, and wherever several different answers are wanted. Costs a step of greedy; the cut decides between dull and wild."},
    {"beam", "Beam search", "Short answers whose likelihood tracks quality (translation, summaries). num_beams rows a step: nearly free while a step waits for memory, "
                            "num_beams times the work once it waits for arithmetic. Empty or dull in open-ended text."},
    {"representation", "Looking at the representation", "Long text without loops (contrastive search, FSD) or with fewer inventions (DoLa, contrastive decoding) from a deterministic rule."},
    {"speculative", "Speculation", "The text of greedy or of sampling, token for token, in fewer forwards: pays where guesses are good (copying, code, a good draft) and a step waits for memory."},
    {"answers", "Whole answers", "Quality for energy: n samples, then a vote (mathematics), a consensus (translation) or the most likely. Costs n rows a step."},
};

static void print_range(const jpt_param_def *p, const char *before) {
    if (p->type == JPT_PARAM_BOOL)
        printf("%strue or false", before);
    else if (p->type != JPT_PARAM_STRING)
        printf("%s%c%.9g, %.9g%c", before, p->min_open ? '(' : '[', p->min, p->max, p->max_open ? ')' : ']');
}

static void describe(const jpt_strategy *s) {
    printf("%s: %s\n", s->name, s->summary);
    if (s->source)
        printf("    source  %s\n", s->source);
    printf("    cost    %s\n", s->cost);
    printf("    device  %s%s\n", s->on_host ? "on the host: " : "tokens are chosen where the logits lie", s->on_host ? s->on_host : "");
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        if (strcmp(s->family, families[f].name) == 0)
            printf("    use     %s\n", families[f].use);
    for (int32_t k = 0; k < s->n_params; k++) {
        const jpt_param_def *p = &s->params[k];
        printf("    %-30s default %-8s %s", p->name, !p->fallback ? "(must be given)" : *p->fallback ? p->fallback : "none", p->help ? p->help : "");
        print_range(p, "; ");
        putchar('\n');
    }
}

static void list_strategies(void) {
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        printf("%s\n", families[f].title);
        for (size_t i = 0; i < jpt_strategy_count(); i++)
            if (strcmp(jpt_strategy_at(i)->family, families[f].name) == 0)
                printf("  %-21s %s\n", jpt_strategy_at(i)->name, jpt_strategy_at(i)->summary);
    }
    puts("\njpt list strategies NAME shows one with its parameters");
}

/* A cell of a table: a bar would end it. */
static void print_cell(const char *text) {
    for (; *text; text++)
        printf(*text == '|' ? "\\%c" : "%c", *text);
}

static void print_row(const jpt_param_def *p) {
    printf("| `%s` | ", p->name);
    print_cell(p->fallback && *p->fallback ? p->fallback : "none");
    fputs(" | ", stdout);
    print_range(p, "");
    fputs(" | ", stdout);
    print_cell(p->help ? p->help : "");
    puts(" |");
}

/* docs/strategies.md, made by `jpt list strategies --md`. */
static void document_strategies(void) {
    puts("# Strategies\n\nMade by `jpt list strategies --md`; the same table feeds the parser and `jpt list strategies NAME`. Every parameter has Hugging Face's name where\n"
         "it has one there. Tokens are chosen where the logits lie, on a card too, unless a strategy says what the host does. All strategies take the processors at the end; a SPEC is `name:key=value,key=value`, with `{a,b}` for a grid.");
    const jpt_strategy *greedy = jpt_strategy_find("greedy");
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        printf("\n## %s\n\n%s\n", families[f].title, families[f].use);
        for (size_t i = 0; i < jpt_strategy_count(); i++) {
            const jpt_strategy *s = jpt_strategy_at(i);
            if (strcmp(s->family, families[f].name) != 0)
                continue;
            printf("\n### `%s`\n\n%c%s. Cost: %s.%s%s%s%s%s%s\n", s->name, s->summary[0] >= 'a' && s->summary[0] <= 'z' ? s->summary[0] - 32 : s->summary[0], s->summary + 1, s->cost,
                   s->on_host ? " On the host, whatever the device: " : "", s->on_host ? s->on_host : "", s->on_host ? "." : "", s->source ? " Source: " : "", s->source ? s->source : "",
                   s->source ? "." : "");
            bool any = false;
            for (int32_t k = 0; k < s->n_params; k++) {
                const jpt_param_def *p = &s->params[k];
                bool                 shared = false;
                for (int32_t g = 0; s != greedy && g < greedy->n_params && !shared; g++)
                    shared = strcmp(greedy->params[g].name, p->name) == 0 && strcmp(greedy->params[g].fallback, p->fallback ? p->fallback : "") == 0;
                if (shared || s == greedy)
                    continue;
                if (!any)
                    puts("\n| parameter | default | range | |\n| --- | --- | --- | --- |");
                any = true;
                print_row(p);
            }
        }
    }
    puts("\n## Processors, on any strategy\n\n| parameter | default | range | |\n| --- | --- | --- | --- |");
    for (int32_t k = 0; k < greedy->n_params; k++)
        print_row(&greedy->params[k]);
}

static int list_one(const char *name) {
    const char *names[128];
    size_t      n = 0;
    for (size_t i = 0; i < jpt_strategy_count() && i < 128; i++)
        names[n++] = jpt_strategy_at(i)->name;
    const jpt_strategy *s = jpt_strategy_find(name);
    if (s) {
        describe(s);
        return CLI_OK;
    }
    const char *near = jpt_nearest(name, names, n);
    return near ? cli_usage("list: unknown strategy '%s'; did you mean '%s'?", name, near) : cli_usage("list: unknown strategy '%s'; jpt list strategies shows them", name);
}

static void list_models(void) {
    for (size_t i = 0; i < jpt_catalog_count(); i++) {
        const jpt_catalog_entry *e = jpt_catalog_at(i);
        char                     path[4096];
        bool                     here = jpt_catalog_path(e, path, sizeof path, NULL) == JPT_OK && access(path, F_OK) == 0;
        printf("%-16s %s (%s)%s\n", e->name, e->description, e->license, here ? ", here" : "");
    }
}

static void list_datasets(void) {
    for (size_t i = 0; i < jpt_dataset_count(); i++) {
        const jpt_dataset *d = jpt_dataset_at(i);
        printf("%-15s %s%s\n%15s licence: %s\n%15s cite %s\n", d->name, d->description, jpt_dataset_is_here(d) ? ", here" : "", "", d->license, "", d->citation);
    }
}

static int list_dataset(const char *name) {
    const jpt_dataset *d = jpt_dataset_find(name);
    if (!d) {
        const char *near = jpt_dataset_nearest(name);
        return near ? cli_usage("list: unknown data set '%s'; did you mean '%s'?", name, near) : cli_usage("list: unknown data set '%s'; jpt list datasets shows them", name);
    }
    printf("%s: %s\n    licence  %s\n    cite     %s\n", d->name, d->description, d->license, d->citation);
    for (size_t i = 0; i < d->n_files; i++) {
        char path[4096];
        bool here = jpt_dataset_locate(d, d->file[i].path, path, sizeof path, NULL) == JPT_OK;
        printf("    file     %s, %llu bytes, SHA-256 %s\n             from %s\n             %s%s\n", d->file[i].path, (unsigned long long)d->file[i].bytes, d->file[i].sha256,
               d->file[i].url ? d->file[i].url : "a folder", here ? "here: " : "not here", here ? path : "");
    }
    return CLI_OK;
}

static int list_tasks(void) {
    jpt_error err = {0};
    char    **names;
    size_t    n;
    if (jpt_task_list(&names, &n, &err) != JPT_OK)
        return cli_fail(&err);
    int status = CLI_OK;
    for (size_t i = 0; i < n; i++) {
        jpt_task *t;
        err = (jpt_error){0};
        if (jpt_task_open_with(names[i], &(jpt_task_options){.header_only = true}, &t, &err) != JPT_OK) {
            status = cli_fail(&err);
            continue;
        }
        const jpt_task_info *info = jpt_task_get_info(t);
        const jpt_dataset *d = info->dataset ? jpt_dataset_find(info->dataset) : NULL;
        printf("%-26s %s; %s; %s%s%s\n", names[i], info->description, info->primary_metric, info->license,
               !d ? "" : jpt_dataset_is_here(d) ? "; here" : "; jpt pull ", !d || jpt_dataset_is_here(d) ? "" : d->name);
        jpt_task_close(t);
    }
    jpt_task_list_free(names, n);
    return status;
}

int cmd_list(int argc, char **argv) {
    static const char *const kinds[] = {"models", "datasets", "tasks", "strategies"};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: jpt list models|datasets|tasks|strategies\n"
             "       jpt list strategies NAME|--md     one with its parameters; all as Markdown (docs/strategies.md)\n"
             "       jpt list datasets NAME            its files, addresses and hashes");
        return CLI_OK;
    }
    if (argc == 3 && strcmp(argv[1], "strategies") == 0) {
        if (strcmp(argv[2], "--md") != 0)
            return list_one(argv[2]);
        document_strategies();
        return CLI_OK;
    }
    if (argc == 3 && strcmp(argv[1], "datasets") == 0)
        return list_dataset(argv[2]);
    if (argc != 2)
        return cli_usage("list: expected one of models, datasets, tasks, strategies");
    if (strcmp(argv[1], "datasets") == 0) {
        list_datasets();
        return CLI_OK;
    }
    if (strcmp(argv[1], "strategies") == 0) {
        list_strategies();
        return CLI_OK;
    }
    if (strcmp(argv[1], "models") == 0) {
        list_models();
        return CLI_OK;
    }
    if (strcmp(argv[1], "tasks") == 0)
        return list_tasks();
    const char *near = jpt_nearest(argv[1], kinds, 4);
    return near ? cli_usage("list: unknown kind '%s'; did you mean '%s'?", argv[1], near)
                : cli_usage("list: unknown kind '%s': expected models, datasets, tasks or strategies", argv[1]);
}
