/* What can be wrong with a bench before anything is opened or measured. */
#include "run_priv.h"

/* Two that are the same would be counted twice, and run once. */
static jpt_status check_twice(const jpt_run_options *o, jpt_error *err) {
    for (size_t i = 0; i < o->n_tasks; i++)
        for (size_t k = 0; k < i; k++) {
            const jpt_task_info *a = jpt_task_get_info(o->tasks[i]), *b = jpt_task_get_info(o->tasks[k]);
            if (strcmp(a->name, b->name) == 0)
                return strcmp(a->sha256, b->sha256) == 0 ? JPT_FAIL(err, ARG, "task '%s' stands twice", a->name)
                                                         : JPT_FAIL(err, ARG, "two tasks are called '%s': rename one of the files", a->name);
        }
    for (size_t i = 0; i < o->n_batches; i++)
        for (size_t k = 0; k < i; k++)
            if (o->batches[i] == o->batches[k])
                return JPT_FAIL(err, ARG, "batch size %d stands twice", o->batches[i]);
    for (size_t i = 0; i < o->n_seeds; i++) {
        if (o->seeds[i] > INT64_MAX - 1000000)
            return JPT_FAIL(err, ARG, "seed %llu: expected 0 to %lld", (unsigned long long)o->seeds[i], (long long)(INT64_MAX - 1000000));
        for (size_t k = 0; k < i; k++)
            if (o->seeds[i] == o->seeds[k])
                return JPT_FAIL(err, ARG, "seed %llu stands twice", (unsigned long long)o->seeds[i]);
    }
    for (size_t i = 0; i < o->n_engines; i++)
        for (size_t k = 0; k < i; k++) {
            const char *path = jpt_model_get_info(o->engines[i].model)->path;
            if (strcmp(path, jpt_model_get_info(o->engines[k].model)->path) == 0 && strcmp(o->engines[i].device, o->engines[k].device) == 0)
                return JPT_FAIL(err, ARG, "model '%s' stands twice on '%s'", path, o->engines[i].device);
        }
    return JPT_OK;
}

static jpt_status check_stop(const jpt_run_options *o, jpt_error *err) {
    if (!o->stop.a)
        return JPT_OK;
    for (int k = 0; k < 2; k++) {
        const char *spec = k ? o->stop.b : o->stop.a;
        bool        found = false;
        for (size_t i = 0; i < o->specs->n; i++)
            found = found || strcmp(o->specs->spec[i].text, spec) == 0;
        if (!found)
            return JPT_FAIL(err, ARG, "the stop rule compares '%s', which is none of the strategies", spec);
    }
    if (strcmp(o->stop.a, o->stop.b) == 0)
        return JPT_FAIL(err, ARG, "the stop rule compares '%s' with itself", o->stop.a);
    bool found = !o->stop.task;
    for (size_t t = 0; t < o->n_tasks && !found; t++)
        found = strcmp(jpt_task_get_info(o->tasks[t])->name, o->stop.task) == 0;
    return found ? JPT_OK : JPT_FAIL(err, ARG, "the stop rule's task '%s' is none of the tasks ('%s'%s)", o->stop.task, jpt_task_get_info(o->tasks[0])->name, o->n_tasks > 1 ? ", ..." : "");
}

/* An exclusion that matches nothing is a slip of the pen, and runs what was not wanted. */
static jpt_status check_exclusions(const jpt_run_options *o, jpt_error *err) {
    for (size_t x = 0; x < o->n_exclude; x++) {
        const jpt_run_exclusion *e = &o->exclude[x];
        jpt_run_options          alone = *o;
        bool                     found = false;
        char                     name[256] = "";
        alone.exclude = e, alone.n_exclude = 1;
        for (size_t i = 0; i < o->n_engines; i++) {
            run_model_name(o->engines[i].model, name);
            for (size_t t = 0; t < o->n_tasks; t++)
                for (size_t k = 0; k < o->specs->n; k++)
                    for (size_t q = 0; q < (o->n_batches ? o->n_batches : 1); q++)
                        found = found || run_excluded(&alone, name, o->engines[i].device, jpt_task_get_info(o->tasks[t])->name, o->specs->spec[k].text, o->n_batches ? o->batches[q] : 1);
        }
        const char *first = e->strategy ? e->strategy : e->model ? e->model : e->task ? e->task : e->device ? e->device : "batch_size";
        if (!found)
            return JPT_FAIL(err, ARG, "exclusion %zu ('%s'%s) matches no cell; a model is called '%s' here, a task '%s'", x + 1, first,
                            (e->strategy != NULL) + (e->model != NULL) + (e->task != NULL) + (e->device != NULL) + (e->batch != 0) > 1 ? ", ..." : "", name,
                            jpt_task_get_info(o->tasks[0])->name);
    }
    return JPT_OK;
}

jpt_status run_check_options(const jpt_run_options *o, jpt_error *err) {
    if (o->n_engines == 0 || o->n_tasks == 0 || o->specs->n == 0 || o->n_blocks < 1)
        return JPT_FAIL(err, ARG, "a bench needs at least one model, one task, one strategy and one block");
    for (size_t i = 0; i < o->n_batches && o->max_joules > 0; i++)
        if (o->batches[i] > 1)
            return JPT_FAIL(err, ARG, "a budget of joules is one request's, which a batch does not tell apart while it runs: use --batch 1 with --max-joules");
    for (size_t i = 0; i < o->n_engines; i++) {
        const jpt_meter_limits *l = jpt_meter_get_limits(o->engines[i].meter);
        double                  least = fmax(l->shortest_s, isnan(l->step_s) ? 0 : 20 * l->step_s); /* what a verdict asks for */
        const struct {
            const char *what;
            double      seconds;
        } wanted[] = {{"a window", o->windows.seconds}, {"an idle baseline", o->windows.idle_s}};
        for (int k = 0; k < 2 && jpt_meter_measures(o->engines[i].meter); k++)
            if (wanted[k].seconds > 0 && wanted[k].seconds < least)
                return JPT_FAIL(err, ARG, "%s of %g s tells nothing on meter '%s': at least %.3g s", wanted[k].what, wanted[k].seconds, l->name, ceil(10 * least) / 10);
    }
    for (size_t t = 0; t < o->n_tasks; t++)
        JPT_TRY(jpt_task_check(o->tasks[t], err));
    JPT_TRY(check_twice(o, err));
    JPT_TRY(check_stop(o, err));
    return check_exclusions(o, err);
}
