/* Reading tasks: the YAML file through libcyaml's schema, the items through jansson line by line. */
#include "task_priv.h"
#include <jansson.h>
#include <jpt/sandbox.h>
#include <jpt/yaml.h>
#include <stdlib.h>
#include <string.h>

const char *const task_metric_names[METRIC_COUNT] = {"chrf", "chrf++", "bleu", "exact_match", "passed", "diversity", "distinct_1",
                                                         "distinct_2", "distinct_3", "rep_2", "rep_3", "rep_4", "words"};

/* ---- YAML ------------------------------------------------------------------------------------------------------ */

typedef struct yaml_task {
    char   *name, *description, *license, *items, *prompt, *system;
    bool    chat;
    char  **stop, **metrics;
    unsigned stop_count, metrics_count;
    int     max_new_tokens, min_new_tokens;
} yaml_task;

static const cyaml_schema_value_t string_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};
static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, yaml_task, name, 1, 100),
    CYAML_FIELD_STRING_PTR("description", CYAML_FLAG_POINTER, yaml_task, description, 0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("license", CYAML_FLAG_POINTER, yaml_task, license, 0, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("items", CYAML_FLAG_POINTER, yaml_task, items, 1, 1000),
    CYAML_FIELD_STRING_PTR("prompt", CYAML_FLAG_POINTER, yaml_task, prompt, 1, CYAML_UNLIMITED),
    CYAML_FIELD_STRING_PTR("system", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_task, system, 0, CYAML_UNLIMITED),
    CYAML_FIELD_BOOL("chat", CYAML_FLAG_DEFAULT, yaml_task, chat),
    CYAML_FIELD_SEQUENCE("stop", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, yaml_task, stop, &string_entry, 0, 16),
    CYAML_FIELD_SEQUENCE("metrics", CYAML_FLAG_POINTER, yaml_task, metrics, &string_entry, 1, JPT_TASK_SCORES_MAX),
    CYAML_FIELD_INT("max_new_tokens", CYAML_FLAG_DEFAULT, yaml_task, max_new_tokens),
    CYAML_FIELD_INT("min_new_tokens", CYAML_FLAG_OPTIONAL, yaml_task, min_new_tokens),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, yaml_task, fields)};

static const char *copy(jpt_task *t, const char *s) { return s ? jpt_arena_strndup(&t->arena, s, strlen(s)) : NULL; }

static jpt_status apply_yaml(jpt_task *t, const yaml_task *y, const char *path, jpt_error *err) {
    jpt_task_info *i = &t->info;
    i->name = copy(t, y->name);
    i->description = copy(t, y->description);
    i->license = copy(t, y->license);
    i->system = copy(t, y->system);
    i->chat = y->chat;
    i->max_new_tokens = y->max_new_tokens;
    i->min_new_tokens = y->min_new_tokens;
    if (y->max_new_tokens < 1 || y->max_new_tokens > 1 << 20 || y->min_new_tokens < 0 || y->min_new_tokens > y->max_new_tokens)
        return JPT_FAIL(err, FORMAT, "%s: max_new_tokens %d, min_new_tokens %d: expected 1 <= max, 0 <= min <= max", path, y->max_new_tokens,
                        y->min_new_tokens);
    const char **stop = jpt_arena_alloc(&t->arena, (y->stop_count + 1) * sizeof *stop);
    if (!stop)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (unsigned k = 0; k < y->stop_count; k++)
        stop[i->n_stop++] = copy(t, y->stop[k]);
    i->stop = stop;
    for (unsigned k = 0; k < y->metrics_count; k++) {
        int m = 0;
        while (m < METRIC_COUNT && strcmp(task_metric_names[m], y->metrics[k]) != 0)
            m++;
        if (m == METRIC_COUNT) {
            const char *near = jpt_nearest(y->metrics[k], task_metric_names, METRIC_COUNT);
            return JPT_FAIL(err, FORMAT, "%s: unknown metric '%.40s'%s%s%s", path, y->metrics[k], near ? "; did you mean '" : "", near ? near : "",
                            near ? "'?" : "");
        }
        t->metric[t->n_metrics++] = (task_metric)m;
    }
    return JPT_OK;
}

/* ---- items ------------------------------------------------------------------------------------------------------- */

/* Replace {field} by the item's string; {{ and }} are braces. */
static jpt_status fill(const char *template, json_t *item, const char *path, int line, jpt_buf *out, jpt_error *err) {
    for (const char *p = template; *p; p++) {
        if ((p[0] == '{' && p[1] == '{') || (p[0] == '}' && p[1] == '}')) {
            jpt_buf_addc(out, *p++);
        } else if (*p == '{') {
            const char *end = strchr(p, '}');
            char        key[64];
            if (!end || end - p > 63)
                return JPT_FAIL(err, FORMAT, "%s:%d: cannot fill the task's prompt template, it has an unclosed '{'", path, line);
            snprintf(key, sizeof key, "%.*s", (int)(end - p - 1), p + 1);
            json_t *v = json_object_get(item, key);
            if (!json_is_string(v))
                return JPT_FAIL(err, FORMAT, "%s:%d: the prompt needs the field \"%s\", a string", path, line, key);
            jpt_buf_add(out, json_string_value(v), json_string_length(v));
            p = end;
        } else {
            jpt_buf_addc(out, *p);
        }
    }
    return JPT_OK;
}

static jpt_status add_item(jpt_task *t, json_t *o, const char *template, const char *path, int line, jpt_error *err) {
    if (t->info.n_items == t->cap) {
        size_t     cap = t->cap ? 2 * t->cap : 64;
        task_item *p = realloc(t->item, cap * sizeof *p);
        if (!p)
            return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
        t->item = p;
        t->cap = cap;
    }
    task_item *it = &t->item[t->info.n_items];
    *it = (task_item){0};
    jpt_buf    b = {0};
    jpt_status st = fill(template ? template : "{prompt}", o, path, line, &b, err);
    if (st == JPT_OK && b.n == 0)
        st = JPT_FAIL(err, FORMAT, "%s:%d: the prompt is empty", path, line);
    it->pub.prompt = copy(t, b.p);
    jpt_buf_fini(&b);
    JPT_TRY(st);
    json_t *id = json_object_get(o, "id"), *ref = json_object_get(o, "reference");
    char    number[32];
    snprintf(number, sizeof number, "%zu", t->info.n_items);
    it->pub.id = copy(t, json_is_string(id) ? json_string_value(id) : number);
    it->tests = copy(t, json_string_value(json_object_get(o, "tests")));
    it->entry_point = copy(t, json_string_value(json_object_get(o, "entry_point")));
    size_t       n = json_is_array(ref) ? json_array_size(ref) : ref && !json_is_null(ref) ? 1 : 0;
    const char **refs = jpt_arena_alloc(&t->arena, (n + 1) * sizeof *refs);
    for (size_t k = 0; refs && k < n; k++) {
        json_t *r = json_is_array(ref) ? json_array_get(ref, k) : ref;
        if (!json_is_string(r))
            return JPT_FAIL(err, FORMAT, "%s:%d: \"reference\" must be a string or a list of strings", path, line);
        refs[k] = copy(t, json_string_value(r));
    }
    it->pub.references = refs;
    it->pub.n_references = n;
    t->info.n_items++;
    return refs && it->pub.id && it->pub.prompt ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory", path);
}

static jpt_status load_items(jpt_task *t, const char *path, const char *template, jpt_sha256 *sha, jpt_error *err) {
    jpt_buf text = {0};
    JPT_TRY(jpt_text_read(path, &text, err));
    jpt_sha256_update(sha, text.p, text.n);
    jpt_status st = JPT_OK;
    int        line = 0;
    for (size_t at = 0; st == JPT_OK && at < text.n;) {
        const char *eol = memchr(text.p + at, '\n', text.n - at);
        size_t      n = eol ? (size_t)(eol - text.p) - at : text.n - at;
        line++;
        bool blank = true;
        for (size_t i = 0; i < n && blank; i++)
            blank = strchr(" \t\r", text.p[at + i]) != NULL;
        if (!blank) {
            json_error_t je;
            json_t      *o = json_loadb(text.p + at, n, JSON_REJECT_DUPLICATES, &je);
            if (!json_is_object(o))
                st = JPT_FAIL(err, FORMAT, "%s:%d: %s", path, line, o ? "expected one JSON object a line" : je.text);
            else
                st = add_item(t, o, template, path, line, err);
            json_decref(o);
        }
        at += n + 1;
    }
    jpt_buf_fini(&text);
    if (st == JPT_OK && t->info.n_items == 0)
        st = JPT_FAIL(err, FORMAT, "%s: holds no item", path);
    return st;
}

/* ---- open ----------------------------------------------------------------------------------------------------------- */

static jpt_status open_yaml(jpt_task *t, const char *path, jpt_sha256 *sha, jpt_error *err) {
    jpt_buf    text = {0};
    yaml_task *y = NULL;
    void      *data = NULL;
    jpt_status st = jpt_text_read(path, &text, err);
    if (st == JPT_OK) {
        jpt_sha256_update(sha, text.p, text.n);
        st = jpt_yaml_load(path, &text, &schema, &data, err);
        y = data;
    }
    if (st == JPT_OK)
        st = apply_yaml(t, y, path, err);
    if (st == JPT_OK) {
        const char *slash = strrchr(path, '/');
        char        items[2048];
        snprintf(items, sizeof items, "%.*s%s", slash && y->items[0] != '/' ? (int)(slash - path + 1) : 0, path, y->items);
        st = load_items(t, items, y->prompt, sha, err);
    }
    jpt_yaml_free(&schema, data);
    jpt_buf_fini(&text);
    return st;
}

/* "12", "-3.5", "$1,200", or an answer that ends in GSM8K's "#### 12". */
static bool is_number(const char *s) {
    const char *mark = strstr(s, "#### ");
    for (s = mark ? mark + 5 : s; *s == ' ';)
        s++;
    return *s && strspn(s, "0123456789.,$- ") == strlen(s) && strpbrk(s, "0123456789");
}

/* A user's JSON lines: metrics from what the items have. */
static jpt_status open_jsonl(jpt_task *t, const char *path, jpt_sha256 *sha, jpt_error *err) {
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *dot = strrchr(base, '.');
    t->info.name = jpt_arena_strndup(&t->arena, base, dot ? (size_t)(dot - base) : strlen(base));
    t->info.description = "user's JSON lines";
    t->info.license = "not stated";
    t->info.chat = true;
    t->info.max_new_tokens = 128;
    JPT_TRY(load_items(t, path, NULL, sha, err));
    bool refs = true, tests = true, numbers = true;
    for (size_t i = 0; i < t->info.n_items; i++) {
        refs = refs && t->item[i].pub.n_references > 0;
        tests = tests && t->item[i].tests != NULL;
        for (size_t k = 0; k < t->item[i].pub.n_references; k++)
            numbers = numbers && is_number(t->item[i].pub.references[k]);
    }
    static const task_metric with_refs[] = {METRIC_CHRF, METRIC_BLEU}, open[] = {METRIC_DIVERSITY, METRIC_DISTINCT_2, METRIC_REP_4};
    if (tests)
        t->metric[t->n_metrics++] = METRIC_PASSED;
    if (refs && numbers) /* answers, not texts: GSM8K and its like */
        t->metric[t->n_metrics++] = METRIC_EXACT_MATCH;
    for (int i = 0; refs && !numbers && i < 2; i++)
        t->metric[t->n_metrics++] = with_refs[i];
    for (int i = 0; i < 3; i++)
        t->metric[t->n_metrics++] = open[i];
    return JPT_OK;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n > m && strcmp(s + n - m, tail) == 0;
}

jpt_status jpt_task_open(const char *name_or_path, jpt_task **out, jpt_error *err) {
    char path[2048];
    bool jsonl = ends_with(name_or_path, ".jsonl") || ends_with(name_or_path, ".json");
    if (jsonl || ends_with(name_or_path, ".yaml") || ends_with(name_or_path, ".yml"))
        snprintf(path, sizeof path, "%s", name_or_path);
    else
        JPT_TRY(task_find(name_or_path, path, sizeof path, err));
    jpt_task *t = calloc(1, sizeof *t);
    if (!t)
        return JPT_FAIL(err, NOMEM, "out of memory for a task");
    jpt_sha256 sha;
    jpt_sha256_init(&sha);
    jpt_status st = jsonl ? open_jsonl(t, path, &sha, err) : open_yaml(t, path, &sha, err);
    jpt_sha256_final(&sha, t->info.sha256);
    t->info.path = copy(t, path);
    for (size_t i = 0; st == JPT_OK && i < t->info.n_items; i++)
        for (int32_t m = 0; st == JPT_OK && m < t->n_metrics; m++) {
            if (t->metric[m] == METRIC_PASSED && !t->item[i].tests)
                st = JPT_FAIL(err, FORMAT, "%s: item '%s' has no \"tests\", which the metric 'passed' needs", path, t->item[i].pub.id);
            if (t->metric[m] <= METRIC_EXACT_MATCH && t->item[i].pub.n_references == 0)
                st = JPT_FAIL(err, FORMAT, "%s: item '%s' has no \"reference\", which the metric '%s' needs", path, t->item[i].pub.id,
                              task_metric_names[t->metric[m]]);
        }
    if (st != JPT_OK) {
        jpt_task_close(t);
        return st;
    }
    t->info.primary_metric = task_metric_names[t->metric[0]];
    t->info.higher_is_better = t->metric[0] < METRIC_REP_2 || t->metric[0] > METRIC_REP_4;
    *out = t;
    return JPT_OK;
}

void jpt_task_close(jpt_task *t) {
    if (!t)
        return;
    free(t->item);
    jpt_arena_fini(&t->arena);
    free(t);
}

const jpt_task_info *jpt_task_get_info(const jpt_task *t) { return &t->info; }
const jpt_task_item *jpt_task_get_item(const jpt_task *t, size_t i) { return i < t->info.n_items ? &t->item[i].pub : NULL; }

jpt_status jpt_task_check(const jpt_task *t, jpt_error *err) {
    for (int32_t m = 0; m < t->n_metrics; m++)
        if (t->metric[m] == METRIC_PASSED)
            return jpt_sandbox_probe(err);
    return JPT_OK;
}
