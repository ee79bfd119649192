/* Plans: a study as a YAML file. */
#include <jpt/run.h>
#include <jpt/yaml.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cyaml_schema_value_t string_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, CYAML_UNLIMITED)};
static const cyaml_schema_value_t int_entry = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int)};
static const cyaml_schema_value_t seed_entry = {CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, uint64_t)};

#define OPTIONAL_TEXT(type, name) CYAML_FIELD_STRING_PTR(#name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, name, 1, 4000)
#define TEXTS(type, name, flags, least) CYAML_FIELD_SEQUENCE(#name, CYAML_FLAG_POINTER | (flags), type, name, &string_entry, least, 4096)

static const cyaml_schema_field_t windows_fields[] = {
    CYAML_FIELD_FLOAT("seconds", CYAML_FLAG_OPTIONAL, jpt_plan_windows, seconds),
    CYAML_FIELD_FLOAT("idle_seconds", CYAML_FLAG_OPTIONAL, jpt_plan_windows, idle_seconds),
    CYAML_FIELD_FLOAT("warm_up_seconds", CYAML_FLAG_OPTIONAL, jpt_plan_windows, warm_up_seconds),
    CYAML_FIELD_INT("repeats", CYAML_FLAG_OPTIONAL, jpt_plan_windows, repeats),
    OPTIONAL_TEXT(jpt_plan_windows, sentinel),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t budget_fields[] = {
    CYAML_FIELD_FLOAT("joules", CYAML_FLAG_OPTIONAL, jpt_plan_budget, joules),
    CYAML_FIELD_FLOAT("hours", CYAML_FLAG_OPTIONAL, jpt_plan_budget, hours),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t stop_fields[] = {
    TEXTS(jpt_plan_stop, compare, CYAML_FLAG_DEFAULT, 2),
    OPTIONAL_TEXT(jpt_plan_stop, task),
    CYAML_FIELD_FLOAT("width", CYAML_FLAG_DEFAULT, jpt_plan_stop, width),
    CYAML_FIELD_INT("blocks", CYAML_FLAG_OPTIONAL, jpt_plan_stop, blocks),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t exclusion_fields[] = {
    OPTIONAL_TEXT(jpt_plan_exclusion, model),
    OPTIONAL_TEXT(jpt_plan_exclusion, task),
    OPTIONAL_TEXT(jpt_plan_exclusion, strategy),
    OPTIONAL_TEXT(jpt_plan_exclusion, device),
    CYAML_FIELD_INT("batch_size", CYAML_FLAG_OPTIONAL, jpt_plan_exclusion, batch),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t exclusion_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, jpt_plan_exclusion, exclusion_fields)};

static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, jpt_plan, name, 1, 100),
    CYAML_FIELD_STRING_PTR("description", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, description, 0, CYAML_UNLIMITED),
    OPTIONAL_TEXT(jpt_plan, model),
    TEXTS(jpt_plan, models, CYAML_FLAG_OPTIONAL, 1),
    OPTIONAL_TEXT(jpt_plan, draft_model),
    OPTIONAL_TEXT(jpt_plan, compat),
    TEXTS(jpt_plan, devices, CYAML_FLAG_OPTIONAL, 1),
    TEXTS(jpt_plan, tasks, CYAML_FLAG_DEFAULT, 1),
    TEXTS(jpt_plan, strategies, CYAML_FLAG_DEFAULT, 1),
    CYAML_FIELD_SEQUENCE("batch_sizes", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, batch_sizes, &int_entry, 1, 64),
    CYAML_FIELD_UINT("seed", CYAML_FLAG_OPTIONAL, jpt_plan, seed),
    CYAML_FIELD_SEQUENCE("seeds", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, seeds, &seed_entry, 1, 4096),
    CYAML_FIELD_INT("blocks", CYAML_FLAG_OPTIONAL, jpt_plan, blocks),
    CYAML_FIELD_INT("limit", CYAML_FLAG_OPTIONAL, jpt_plan, limit),
    CYAML_FIELD_INT("max_new_tokens", CYAML_FLAG_OPTIONAL, jpt_plan, max_new_tokens),
    CYAML_FIELD_INT("ctx", CYAML_FLAG_OPTIONAL, jpt_plan, ctx),
    CYAML_FIELD_FLOAT("max_joules", CYAML_FLAG_OPTIONAL, jpt_plan, max_joules),
    CYAML_FIELD_MAPPING_PTR("windows", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, windows, windows_fields),
    CYAML_FIELD_MAPPING_PTR("budget", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, budget, budget_fields),
    CYAML_FIELD_MAPPING_PTR("stop", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, stop, stop_fields),
    CYAML_FIELD_SEQUENCE("exclude", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, jpt_plan, exclude, &exclusion_entry, 1, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, jpt_plan, fields)};

/* The line where a text first stands: for values that the schema cannot judge. */
static int line_of(const char *text, const char *what) {
    const char *at = strstr(text, what);
    int         line = 1;
    for (const char *p = text; at && p < at; p++)
        line += *p == '\n';
    return at ? line : 0;
}

static jpt_status refuse(const char *path, const jpt_plan *p, const char *at, jpt_error *err, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static jpt_status refuse(const char *path, const jpt_plan *p, const char *at, jpt_error *err, const char *fmt, ...) {
    char    why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    int line = line_of(p->text, at);
    return line ? JPT_FAIL(err, FORMAT, "%s: line %d: %s", path, line, why) : JPT_FAIL(err, FORMAT, "%s: %s", path, why);
}

/* A SPEC of the plan in its canonical spelling, in the plan's memory. */
static jpt_status canonical(const char *path, const jpt_plan *p, char **spec, jpt_error *err) {
    jpt_spec_list list = {0};
    jpt_error     why = {0};
    jpt_status    st = JPT_OK;
    if (jpt_spec_parse(*spec, &list, &why) != JPT_OK)
        st = refuse(path, p, *spec, err, "%s", why.msg);
    else if (list.n != 1)
        st = refuse(path, p, *spec, err, "'%s' is a grid, and a comparison is of two settings", *spec);
    char *copy = st == JPT_OK ? strdup(list.spec[0].text) : NULL;
    if (st == JPT_OK && !copy)
        st = JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    if (st == JPT_OK) {
        free(*spec);
        *spec = copy;
    }
    jpt_spec_list_fini(&list);
    return st;
}

static jpt_status check(const char *path, jpt_plan *p, jpt_spec_list *specs, jpt_error *err) {
    jpt_error why = {0};
    if (!p->model == !p->models)
        return refuse(path, p, "models", err, "expected either model or models");
    if (p->seeds && p->seed)
        return refuse(path, p, "seeds", err, "expected either seed or seeds");
    for (unsigned i = 0; i < p->strategies_count; i++)
        if (jpt_spec_parse(p->strategies[i], specs, &why) != JPT_OK)
            return refuse(path, p, p->strategies[i], err, "%s", why.msg);
    const struct {
        const char *name;
        double      value;
    } positive[] = {{"blocks", p->blocks}, {"limit", p->limit}, {"max_new_tokens", p->max_new_tokens}, {"ctx", p->ctx}, {"max_joules", p->max_joules},
                    {"seconds", p->windows ? p->windows->seconds : 0}, {"idle_seconds", p->windows ? p->windows->idle_seconds : 0},
                    {"warm_up_seconds", p->windows ? p->windows->warm_up_seconds : 0}, {"repeats", p->windows ? p->windows->repeats : 0},
                    {"joules", p->budget ? p->budget->joules : 0}, {"hours", p->budget ? p->budget->hours : 0}, {"blocks", p->stop ? p->stop->blocks : 0}};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (!(positive[i].value >= 0) || !isfinite(positive[i].value))
            return refuse(path, p, positive[i].name, err, "%s: %g, expected none below 0", positive[i].name, positive[i].value);
    if (p->blocks > 100000 || (p->stop && p->stop->blocks > 100000))
        return refuse(path, p, "blocks", err, "blocks: %d, expected at most 100000", p->blocks > 100000 ? p->blocks : p->stop->blocks);
    if (p->budget && !(p->budget->joules > 0) && !(p->budget->hours > 0))
        return refuse(path, p, "budget", err, "budget: expected joules or hours above 0");
    for (unsigned i = 0; i < p->batch_sizes_count; i++)
        if (p->batch_sizes[i] < 1 || p->batch_sizes[i] > 1024)
            return refuse(path, p, "batch_sizes", err, "batch_sizes: %d, expected 1 to 1024", p->batch_sizes[i]);
    if (p->windows && p->windows->seconds > 0 && p->windows->seconds < 2)
        return refuse(path, p, "seconds", err, "seconds: %g, but a window shorter than 2 s tells nothing on a card", p->windows->seconds);
    if (p->windows && p->windows->sentinel && strcmp(p->windows->sentinel, "always") != 0 && strcmp(p->windows->sentinel, "never") != 0 && strcmp(p->windows->sentinel, "auto") != 0)
        return refuse(path, p, "sentinel", err, "sentinel: '%.40s', expected auto, always or never", p->windows->sentinel);
    for (unsigned i = 0; i < p->exclude_count; i++)
        if (!p->exclude[i].model && !p->exclude[i].task && !p->exclude[i].strategy && !p->exclude[i].device && !p->exclude[i].batch)
            return refuse(path, p, "exclude", err, "an entry of exclude that names nothing would leave out everything");
    if (!p->stop)
        return JPT_OK;
    if (p->stop->compare_count != 2)
        return refuse(path, p, "compare", err, "compare: %u strategies, expected two", p->stop->compare_count);
    if (!(p->stop->width > 0 && p->stop->width < 1))
        return refuse(path, p, "width", err, "width: %g, expected a share between 0 and 1 (0.02 is 2 %%)", p->stop->width);
    for (int k = 0; k < 2; k++) {
        JPT_TRY(canonical(path, p, &p->stop->compare[k], err));
        bool found = false;
        for (size_t i = 0; i < specs->n; i++)
            found = found || strcmp(specs->spec[i].text, p->stop->compare[k]) == 0;
        if (!found)
            return refuse(path, p, "compare", err, "compare: '%s' is none of the strategies", p->stop->compare[k]);
    }
    return JPT_OK;
}

jpt_status jpt_plan_load(const char *path, jpt_plan **out, jpt_spec_list *specs, jpt_error *err) {
    jpt_buf    text = {0};
    void      *data = NULL;
    jpt_status st = jpt_text_read(path, &text, err);
    if (st == JPT_OK)
        st = jpt_yaml_load(path, &text, &schema, &data, err);
    jpt_plan *p = data;
    if (st == JPT_OK) {
        p->text = text.p; /* moved */
        text = (jpt_buf){0};
        st = check(path, p, specs, err);
    }
    jpt_buf_fini(&text);
    if (st != JPT_OK)
        jpt_plan_free(p);
    else
        *out = p;
    return st;
}

void jpt_plan_free(jpt_plan *p) {
    if (p)
        free(p->text);
    jpt_yaml_free(&schema, p);
}
