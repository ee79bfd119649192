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

static const cyaml_config_t quiet = {.mem_fn = cyaml_mem};

jpt_status jpt_yaml_load(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, void **out, jpt_error *err) {
    jpt_buf        log = {0};
    cyaml_config_t config = {.log_fn = collect_log, .log_ctx = &log, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};
    cyaml_data_t  *data = NULL;
    cyaml_err_t    rc = cyaml_load_data((const uint8_t *)(text->p ? text->p : ""), text->n, &config, schema, &data, NULL);
    jpt_status     st = JPT_OK;
    if (rc != CYAML_OK)
        st = JPT_FAIL(err, FORMAT, "%s: %s%s%s", path, cyaml_strerror(rc), log.n ? ": " : "", log.n ? log.p : "");
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
