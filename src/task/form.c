/* The YAML of a task, through libcyaml's schema. */
#include "task_priv.h"
#include <jpt/yaml.h>

static const cyaml_schema_value_t string_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, CYAML_UNLIMITED)};

typedef struct task_parallel task_parallel;
typedef struct task_shots    task_shots;

/* libcyaml's own booleans take every other word for true. */
static const cyaml_strval_t truth[] = {{"true", 1}, {"false", 0}, {"yes", 1}, {"no", 0}};

static const cyaml_schema_field_t parallel_fields[] = {
    CYAML_FIELD_STRING_PTR("source", CYAML_FLAG_POINTER, task_parallel, source, 1, 1000),
    CYAML_FIELD_SEQUENCE("references", CYAML_FLAG_POINTER, task_parallel, references, &string_entry, 1, 16),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t shots_fields[] = {
    CYAML_FIELD_STRING_PTR("items", CYAML_FLAG_POINTER, task_shots, items, 1, 1000),
    CYAML_FIELD_STRING_PTR("draw", CYAML_FLAG_POINTER, task_shots, draw, 1, 100),
    CYAML_FIELD_STRING_PTR("template", CYAML_FLAG_POINTER, task_shots, template, 1, CYAML_UNLIMITED),
    CYAML_FIELD_INT("n", CYAML_FLAG_DEFAULT, task_shots, n),
    CYAML_FIELD_INT("seed", CYAML_FLAG_OPTIONAL, task_shots, seed),
    CYAML_FIELD_END,
};

#define TEXT(name, flags, least) CYAML_FIELD_STRING_PTR(#name, CYAML_FLAG_POINTER | (flags), task_form, name, least, CYAML_UNLIMITED)
static const cyaml_schema_field_t fields[] = {
    TEXT(name, 0, 1),
    TEXT(description, 0, 0),
    TEXT(license, CYAML_FLAG_OPTIONAL, 0),
    TEXT(citation, CYAML_FLAG_OPTIONAL, 1),
    TEXT(dataset, CYAML_FLAG_OPTIONAL, 1),
    TEXT(items, CYAML_FLAG_OPTIONAL, 1),
    CYAML_FIELD_MAPPING_PTR("parallel", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, task_form, parallel, parallel_fields),
    TEXT(id, CYAML_FLAG_OPTIONAL, 1),
    TEXT(prefix, CYAML_FLAG_OPTIONAL, 1),
    CYAML_FIELD_MAPPING_PTR("shots", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, task_form, shots, shots_fields),
    TEXT(prompt, 0, 1),
    TEXT(reference, CYAML_FLAG_OPTIONAL, 1),
    TEXT(program, CYAML_FLAG_OPTIONAL, 1),
    TEXT(extract, CYAML_FLAG_OPTIONAL, 1),
    TEXT(system, CYAML_FLAG_OPTIONAL, 0),
    TEXT(paper, CYAML_FLAG_OPTIONAL, 1),
    CYAML_FIELD_ENUM("chat", CYAML_FLAG_STRICT, task_form, chat, truth, sizeof truth / sizeof *truth),
    CYAML_FIELD_SEQUENCE("stop", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, task_form, stop, &string_entry, 0, 16),
    CYAML_FIELD_SEQUENCE("metrics", CYAML_FLAG_POINTER, task_form, metrics, &string_entry, 1, JPT_TASK_SCORES_MAX),
    CYAML_FIELD_INT("max_new_tokens", CYAML_FLAG_DEFAULT, task_form, max_new_tokens),
    CYAML_FIELD_INT("min_new_tokens", CYAML_FLAG_OPTIONAL, task_form, min_new_tokens),
    CYAML_FIELD_INT("max_total_tokens", CYAML_FLAG_OPTIONAL, task_form, max_total_tokens),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, task_form, fields)};

static jpt_status check(const task_form *f, const char *path, jpt_error *err) {
    if (f->max_new_tokens < 1 || f->max_new_tokens > 1 << 20 || f->min_new_tokens < 0 || f->min_new_tokens > f->max_new_tokens)
        return JPT_FAIL(err, FORMAT, "%s: max_new_tokens %d, min_new_tokens %d: expected 1 <= max, 0 <= min <= max", path, f->max_new_tokens, f->min_new_tokens);
    if (f->max_total_tokens < 0 || (f->max_total_tokens && f->max_total_tokens < 2))
        return JPT_FAIL(err, FORMAT, "%s: max_total_tokens %d: expected 2 or more, or leave it away", path, f->max_total_tokens);
    if (f->items && f->parallel)
        return JPT_FAIL(err, FORMAT, "%s: 'items' and 'parallel' exclude each other", path);
    if (!f->license && !f->dataset)
        return JPT_FAIL(err, FORMAT, "%s: needs 'license', or 'dataset' whose licence counts", path);
    if (f->shots && (f->shots->n < 1 || f->shots->n > 64))
        return JPT_FAIL(err, FORMAT, "%s: shots: n %d: expected 1 to 64", path, f->shots->n);
    return JPT_OK;
}

jpt_status task_form_load(const char *path, const jpt_buf *text, task_form **out, jpt_error *err) {
    void      *data = NULL;
    jpt_status st = jpt_yaml_load(path, text, &schema, &data, err);
    if (st == JPT_OK)
        st = check(data, path, err);
    if (st != JPT_OK)
        task_form_free(data);
    else
        *out = data;
    return st;
}

void task_form_free(task_form *f) { jpt_yaml_free(&schema, f); }
