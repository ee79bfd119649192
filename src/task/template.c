/* Prompt templates. */
#include "task_priv.h"
#include <stdlib.h>
#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

static jpt_status value_of(json_t *item, const char *name, const char *path, jpt_buf *out, jpt_error *err) {
    char        key[64];
    const char *bracket = strchr(name, '[');
    snprintf(key, sizeof key, "%.*s", bracket ? (int)(bracket - name) : 63, name);
    json_t *v = json_object_get(item, key), *part;
    size_t  i;
    bool    strings = true;
    if (bracket && (bracket[1] < '0' || bracket[1] > '9' || bracket[1 + strspn(bracket + 1, "0123456789")] != ']'))
        return JPT_FAIL(err, FORMAT, "%s:%d: the task's template has {%s}: expected a number in the brackets", path, task_item_line(item), name);
    if (bracket)
        v = json_array_get(v, strtoul(bracket + 1, NULL, 10));
    json_array_foreach(v, i, part)
        strings = strings && json_is_string(part);
    if (json_is_string(v))
        jpt_buf_add(out, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        jpt_buf_printf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        jpt_buf_printf(out, "%.15g", json_real_value(v));
    else if (json_is_array(v) && strings)
        json_array_foreach(v, i, part)
            jpt_buf_printf(out, "%s%s", i ? "\n" : "", json_string_value(part));
    else
        return JPT_FAIL(err, FORMAT, "%s:%d: the task needs the field \"%s\", a string, a number or a list of strings", path, task_item_line(item), name);
    return JPT_OK;
}

static jpt_status filter(const char *name, json_t *item, const char *path, jpt_buf *b, size_t at, jpt_error *err) {
    char  *p = b->p + at;
    size_t n = b->n - at, from = 0, kept = 0;
    if (strcmp(name, "strip") == 0) {
        while (n && is_space(p[n - 1]))
            n--;
        while (from < n && is_space(p[from]))
            from++;
    } else if (strcmp(name, "lf") == 0) {
        for (size_t i = 0; i < n; i++)
            if (p[i] != '\r' || i + 1 == n || p[i + 1] != '\n')
                p[kept++] = p[i];
        n = kept;
    } else if (strncmp(name, "after:", 6) == 0) {
        jpt_buf other = {0};
        JPT_TRY(value_of(item, name + 6, path, &other, err));
        from = other.n < n ? other.n : n; /* by length where the white space differs */
        while (from < n && ((unsigned char)p[from] & 0xc0) == 0x80)
            from++;
        jpt_buf_fini(&other);
    } else {
        return JPT_FAIL(err, FORMAT, "%s:%d: the task's template has the filter '%s'; known are strip, lf and after:FIELD", path, task_item_line(item), name);
    }
    memmove(p, p + from, n - from);
    b->n = at + n - from;
    b->p[b->n] = '\0';
    return JPT_OK;
}

jpt_status task_fill(const char *template, json_t *item, const char *path, jpt_buf *out, jpt_error *err) {
    for (const char *p = template; *p; p++) {
        if ((p[0] == '{' && p[1] == '{') || (p[0] == '}' && p[1] == '}')) {
            jpt_buf_addc(out, *p++);
            continue;
        }
        if (*p != '{') {
            jpt_buf_addc(out, *p);
            continue;
        }
        const char *end = strchr(p, '}');
        char        key[128];
        size_t      at = out->n;
        if (!end || end - p > 127)
            return JPT_FAIL(err, FORMAT, "%s:%d: cannot fill the task's prompt template, it has an unclosed '{'", path, task_item_line(item));
        snprintf(key, sizeof key, "%.*s", (int)(end - p - 1), p + 1);
        char *bar = strchr(key, '|');
        if (bar)
            *bar++ = '\0';
        jpt_buf_add(out, "", 0);
        JPT_TRY(value_of(item, key, path, out, err));
        while (bar) {
            char *next = strchr(bar, '|');
            if (next)
                *next++ = '\0';
            if (out->p)
                JPT_TRY(filter(bar, item, path, out, at, err));
            bar = next;
        }
        p = end;
    }
    return JPT_OK;
}
