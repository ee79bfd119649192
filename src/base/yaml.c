#include <jpt/yaml.h>
#include <string.h>

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

static const cyaml_config_t quiet = {.mem_fn = cyaml_mem};

jpt_status jpt_yaml_load(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, void **out, jpt_error *err) {
    jpt_buf        log = {0};
    cyaml_config_t config = {.log_fn = collect_log, .log_ctx = &log, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};
    cyaml_data_t  *data = NULL;
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
