/* Reading items: JSON lines, a JSON list, or lines of text.  Everything a file can have wrong is one line with its place. */
#include "task_priv.h"
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 16 << 20 };
#define LINE_KEY "" /* no data set has a field of this name */

int task_item_line(json_t *item) { return (int)json_integer_value(json_object_get(item, LINE_KEY)); }

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n > m && strcmp(s + n - m, tail) == 0;
}

static jpt_status add(json_t *all, json_t *o, int line, const char *path, jpt_error *err) {
    if (json_object_set_new(o, LINE_KEY, json_integer(line)) == 0 && json_array_append_new(all, o) == 0)
        return JPT_OK;
    return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
}

static jpt_status read_lines(const char *path, const jpt_buf *text, bool json, json_t *all, jpt_error *err) {
    int line = 0;
    for (size_t at = 0; at < text->n;) {
        const char *p = text->p + at, *eol = memchr(p, '\n', text->n - at);
        size_t      n = eol ? (size_t)(eol - p) : text->n - at, blank = 0;
        line++;
        at += n + 1;
        if (n > LINE_MAX_BYTES)
            return JPT_FAIL(err, FORMAT, "%s:%d: the line has %zu bytes, at most %d are read; is it one item a line?", path, line, n, LINE_MAX_BYTES);
        if (jpt_utf8_valid_prefix(p, n) != n)
            return JPT_FAIL(err, FORMAT, "%s:%d: not valid UTF-8 at byte %zu of the line; convert it first (iconv)", path, line, jpt_utf8_valid_prefix(p, n));
        while (blank < n && strchr(" \t\r", p[blank]))
            blank++;
        if (json && blank == n)
            continue;
        json_error_t je;
        json_t      *o;
        if (json) {
            o = json_loadb(p, n, JSON_REJECT_DUPLICATES, &je);
            if (!json_is_object(o)) {
                JPT_FAIL(err, FORMAT, "%s:%d: %s", path, line, o ? "expected one JSON object a line" : je.text);
                json_decref(o);
                return JPT_FORMAT;
            }
        } else {
            o = json_pack("{s:s%}", "text", p, n && p[n - 1] == '\r' ? n - 1 : n);
            if (!o)
                return JPT_FAIL(err, FORMAT, "%s:%d: holds a zero byte; is it a text file?", path, line);
        }
        JPT_TRY(add(all, o, line, path, err));
    }
    return JPT_OK;
}

static jpt_status read_list(const char *path, const jpt_buf *text, json_t *all, jpt_error *err) {
    json_error_t je;
    json_t      *list = json_loadb(text->p ? text->p : "", text->n, JSON_REJECT_DUPLICATES, &je), *o;
    size_t       i;
    jpt_status   st = JPT_OK;
    if (!json_is_array(list))
        st = JPT_FAIL(err, FORMAT, "%s:%d: %s", path, list ? 1 : je.line, list ? "expected a list of JSON objects" : je.text);
    json_array_foreach(list, i, o) {
        if (st == JPT_OK && !json_is_object(o))
            st = JPT_FAIL(err, FORMAT, "%s: entry %zu is no JSON object", path, i + 1);
        if (st == JPT_OK)
            st = add(all, json_incref(o), (int)i + 1, path, err);
    }
    json_decref(list);
    return st;
}

jpt_status task_items_read(const char *path, jpt_sha256 *sha, json_t **out, jpt_error *err) {
    jpt_buf    text = {0};
    jpt_status st = jpt_text_read(path, &text, err);
    json_t    *all = st == JPT_OK ? json_array() : NULL;
    if (st == JPT_OK) {
        jpt_sha256_update(sha, text.p ? text.p : "", text.n);
        size_t first = strspn(text.p ? text.p : "", " \t\r\n");
        bool   list = ends_with(path, ".json") && text.n > first && text.p[first] == '[';
        st = list ? read_list(path, &text, all, err) : read_lines(path, &text, ends_with(path, ".jsonl") || ends_with(path, ".json"), all, err);
    }
    jpt_buf_fini(&text);
    if (st == JPT_OK && json_array_size(all) == 0)
        st = JPT_FAIL(err, FORMAT, "%s: holds no item", path);
    if (st != JPT_OK)
        json_decref(all);
    else
        *out = all;
    return st;
}
