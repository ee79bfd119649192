/* jpt list models|tasks|strategies. */
#include "cli.h"
#include <jpt/decode.h>
#include <jpt/format.h>
#include <jpt/task.h>
#include <string.h>

static void print_range(const jpt_param_def *p) {
    if (p->type == JPT_PARAM_BOOL || p->type == JPT_PARAM_STRING)
        return;
    printf("  %c%g, %g%c", p->min_open ? '(' : '[', p->min, p->max, p->max_open ? ')' : ']');
}

static void list_strategies(void) {
    for (size_t i = 0; i < jpt_strategy_count(); i++) {
        const jpt_strategy *s = jpt_strategy_at(i);
        printf("%s  %s\n", s->name, s->summary);
        if (s->source)
            printf("    source: %s\n", s->source);
        for (int32_t k = 0; k < s->n_params; k++) {
            const jpt_param_def *p = &s->params[k];
            printf("    %-22s default %s", p->name, p->fallback ? p->fallback : "(must be given)");
            print_range(p);
            printf("  %s\n", p->help ? p->help : "");
        }
    }
}

static void list_models(void) {
    for (size_t i = 0; i < jpt_catalog_count(); i++) {
        const jpt_catalog_entry *e = jpt_catalog_at(i);
        char                     path[4096];
        bool                     here = jpt_model_resolve(e->name, path, sizeof path, NULL) == JPT_OK;
        printf("%-16s %s (%s)%s\n", e->name, e->description, e->license, here ? ", here" : "");
    }
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
        if (jpt_task_open(names[i], &t, &err) != JPT_OK) {
            status = cli_fail(&err);
            continue;
        }
        const jpt_task_info *info = jpt_task_get_info(t);
        printf("%-18s %s; %zu items; %s; %s\n", names[i], info->description, info->n_items, info->primary_metric, info->license);
        jpt_task_close(t);
    }
    jpt_task_list_free(names, n);
    return status;
}

int cmd_list(int argc, char **argv) {
    static const char *const kinds[] = {"models", "tasks", "strategies"};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        puts("usage: jpt list models|tasks|strategies");
        return CLI_OK;
    }
    if (argc != 2)
        return cli_usage("list: expected one of models, tasks, strategies");
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
    const char *near = jpt_nearest(argv[1], kinds, 3);
    return near ? cli_usage("list: unknown kind '%s'; did you mean '%s'?", argv[1], near)
                : cli_usage("list: unknown kind '%s': expected models, tasks or strategies", argv[1]);
}
