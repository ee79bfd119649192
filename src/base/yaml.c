#include <errno.h>
#include <jpt/yaml.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* libcyaml tells the line of an error only through its log: keep the first lines. */
static void collect_log(cyaml_log_t level, void *ud, const char *fmt, va_list args) {
    jpt_buf *b = ud;
    char     line[300];
    (void)level;
    vsnprintf(line, sizeof line, fmt, args);
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "Load: Backtrace", 15) != 0 && strncmp(line, "Load: ", 6) == 0 && b->n < 300)
        jpt_buf_printf(b, "%s%s", b->n ? "; " : "", line + 6);
    else if (strncmp(line, "  in ", 5) == 0 && b->n < 300 && !strstr(b->p ? b->p : "", "; in ")) /* the innermost place */
        jpt_buf_printf(b, "; %s", line + 2);
}

/* Every key of a schema, at any depth. */
enum { KEYS_MAX = 200 };
static size_t collect_keys(const cyaml_schema_value_t *v, const char **keys, size_t n) {
    if (v->type == CYAML_SEQUENCE || v->type == CYAML_SEQUENCE_FIXED)
        return collect_keys(v->sequence.entry, keys, n);
    if (v->type == CYAML_MAPPING)
        for (const cyaml_schema_field_t *f = v->mapping.fields; f->key && n < KEYS_MAX; f++) {
            keys[n++] = f->key;
            n = collect_keys(&f->value, keys, n);
        }
    return n;
}

/* The line of `key:` as a key, 0 when it is nowhere. */
static int line_of_key(const jpt_buf *text, const char *key) {
    size_t n = strlen(key);
    int    line = 1;
    for (const char *p = text->p; p && *p; p++) {
        bool begins = p == text->p || strchr(" \n\t{,-\"'", p[-1]);
        if (begins && strncmp(p, key, n) == 0 && strchr(": \"'", p[n]) && p[n])
            return line;
        line += *p == '\n';
    }
    return 0;
}

/* libcyaml tells an unknown key without the place where it stands, and knows no near one. */
static bool unknown_key(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, const char *log, jpt_error *err) {
    const char *words = "Unexpected key: ", *at = log ? strstr(log, words) : NULL, *keys[KEYS_MAX], *near;
    char        key[80];
    if (!at)
        return false;
    at += strlen(words);
    snprintf(key, sizeof key, "%.*s", (int)strcspn(at, ";"), at);
    size_t n = collect_keys(schema, keys, 0);
    near = jpt_nearest(key, keys, n);
    for (size_t i = 0; i < n && !near; i++) /* "batch" for "batch_size" */
        if (strncmp(keys[i], key, strlen(key)) == 0)
            near = keys[i];
    int line = line_of_key(text, key);
    if (near)
        JPT_FAIL(err, FORMAT, "%s: line %d: unknown key '%s'; did you mean '%s'?", path, line, key, near);
    else
        JPT_FAIL(err, FORMAT, "%s: line %d: unknown key '%s'", path, line, key);
    return true;
}

/* libcyaml takes a number's beginning for all of it ("1e3" is 1, "5 min" is 5), 010 for 8, and -1 for 2^64 - 1. */
static jpt_status check_number(const char *path, const yaml_node_t *node, const char *key, cyaml_type_e type, jpt_error *err) {
    const char *text = (const char *)node->data.scalar.value, *digits = text + (*text == '-');
    size_t      line = node->start_mark.line + 1;
    char       *end = NULL;
    errno = 0;
    if (type == CYAML_FLOAT) {
        double v = strtod(text, &end);
        return end != text && !*end && isfinite(v) ? JPT_OK : JPT_FAIL(err, FORMAT, "%s: line %zu: %s: '%.40s', expected a number", path, line, key, text);
    }
    long long v = strtoll(text, &end, 10);
    bool      whole = *digits && strspn(digits, "0123456789") == strlen(digits) && !(digits[0] == '0' && digits[1]) && errno == 0;
    if (!whole || (type == CYAML_INT && (v > INT32_MAX || v < INT32_MIN)))
        return JPT_FAIL(err, FORMAT, "%s: line %zu: %s: '%.40s', expected a whole number", path, line, key, text);
    return type == CYAML_UINT && v < 0 ? JPT_FAIL(err, FORMAT, "%s: line %zu: %s: '%.40s', expected none below 0", path, line, key, text) : JPT_OK;
}

static jpt_status check_numbers(const char *path, yaml_document_t *d, const yaml_node_t *node, const char *key, const cyaml_schema_value_t *v, jpt_error *err) {
    bool number = v->type == CYAML_INT || v->type == CYAML_UINT || v->type == CYAML_FLOAT;
    if (!node)
        return JPT_OK;
    if (number && node->type == YAML_SCALAR_NODE)
        return check_number(path, node, key, v->type, err);
    if (v->type == CYAML_SEQUENCE && node->type == YAML_SEQUENCE_NODE)
        for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
            JPT_TRY(check_numbers(path, d, yaml_document_get_node(d, *i), key, v->sequence.entry, err));
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; v->type == CYAML_MAPPING && node->type == YAML_MAPPING_NODE && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *name = yaml_document_get_node(d, p->key);
        for (const cyaml_schema_field_t *f = v->mapping.fields; f->key && name && name->type == YAML_SCALAR_NODE; f++)
            if (strcmp(f->key, (const char *)name->data.scalar.value) == 0)
                JPT_TRY(check_numbers(path, d, yaml_document_get_node(d, p->value), f->key, &f->value, err));
    }
    return JPT_OK;
}

static jpt_status check_all_numbers(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, jpt_error *err) {
    yaml_parser_t   parser;
    yaml_document_t d;
    jpt_status      st = JPT_OK;
    if (!yaml_parser_initialize(&parser))
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text->p ? text->p : ""), text->n);
    if (yaml_parser_load(&parser, &d)) { /* what is no YAML is libcyaml's to tell */
        st = check_numbers(path, &d, yaml_document_get_root_node(&d), "", schema, err);
        yaml_document_delete(&d);
    }
    yaml_parser_delete(&parser);
    return st;
}

static const cyaml_config_t quiet = {.mem_fn = cyaml_mem};

jpt_status jpt_yaml_load(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, void **out, jpt_error *err) {
    jpt_buf        log = {0};
    cyaml_config_t config = {.log_fn = collect_log, .log_ctx = &log, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};
    cyaml_data_t  *data = NULL;
    JPT_TRY(check_all_numbers(path, text, schema, err));
    cyaml_err_t    rc = cyaml_load_data((const uint8_t *)(text->p ? text->p : ""), text->n, &config, schema, &data, NULL);
    jpt_status     st = JPT_OK;
    if (rc != CYAML_OK && unknown_key(path, text, schema, log.p, err))
        st = JPT_FORMAT;
    else if (rc != CYAML_OK)
        st = JPT_FAIL(err, FORMAT, "%s: %s", path, log.n ? log.p : cyaml_strerror(rc));
    else if (!data)
        st = JPT_FAIL(err, FORMAT, "%s: is empty", path);
    if (st != JPT_OK)
        jpt_yaml_free(schema, data);
    else
        *out = data;
    jpt_buf_fini(&log);
    return st;
}

void jpt_yaml_free(const cyaml_schema_value_t *schema, void *data) {
    if (data)
        cyaml_free(&quiet, schema, data, 0);
}
