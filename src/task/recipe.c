/* Making a data set's file from what its address holds.  Every result is checked against the pinned hash afterwards, so a
 * source that changed its form is noticed, not guessed at. */
#include "dataset_priv.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { UNPACKED_MAX = 256 << 20 };

static jpt_status gunzip(const jpt_dataset_file *f, const char *source, jpt_buf *out, jpt_error *err) {
    gzFile     g = gzopen(source, "rb");
    char       chunk[65536];
    int        n = 0, code = Z_OK;
    jpt_status st = JPT_OK;
    if (!g)
        return JPT_FAIL(err, IO, "%s: cannot read: %s", source, strerror(errno));
    while (st == JPT_OK && (n = gzread(g, chunk, sizeof chunk)) > 0) {
        jpt_buf_add(out, chunk, (size_t)n);
        if (out->n > UNPACKED_MAX)
            st = JPT_FAIL(err, FORMAT, "%s: unpacks to more than %d MB", f->url, UNPACKED_MAX >> 20);
    }
    gzerror(g, &code);
    if (st == JPT_OK && (n < 0 || code != Z_OK || gzdirect(g)))
        st = JPT_FAIL(err, FORMAT, "%s: what came is no whole gzip file", f->url);
    gzclose(g);
    return st;
}

static jpt_status head(const jpt_dataset_file *f, const jpt_buf *text, jpt_buf *out, jpt_error *err) {
    size_t at = 0;
    for (int i = 0; i < f->lines; i++) {
        const char *eol = text->n > at ? memchr(text->p + at, '\n', text->n - at) : NULL;
        if (!eol)
            return JPT_FAIL(err, FORMAT, "%s: has %d lines, %d are wanted", f->url, i, f->lines);
        at = (size_t)(eol - text->p) + 1;
    }
    jpt_buf_add(out, text->p, at);
    return JPT_OK;
}

/* A value by "a.b.0.c"; borrowed, NULL when it is not there. */
static json_t *at_path(json_t *v, const char *path, size_t n) {
    while (v && n) {
        const char *dot = memchr(path, '.', n);
        size_t      len = dot ? (size_t)(dot - path) : n;
        char        key[64];
        snprintf(key, sizeof key, "%.*s", (int)(len < 63 ? len : 63), path);
        v = json_is_array(v) ? json_array_get(v, strtoul(key, NULL, 10)) : json_object_get(v, key);
        path += dot ? len + 1 : len;
        n -= dot ? len + 1 : len;
    }
    return v;
}

static jpt_status add_fields(const jpt_dataset_file *f, json_t *from, size_t item, jpt_buf *out, jpt_error *err) {
    json_t    *o = json_object();
    jpt_status st = o ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory");
    for (const char *p = f->detail; st == JPT_OK && *p;) {
        size_t      n = strcspn(p, ",");
        const char *eq = memchr(p, '=', n), *path = eq ? eq + 1 : p;
        char        name[64];
        snprintf(name, sizeof name, "%.*s", (int)((eq ? eq : p + n) - p), p);
        json_t *v = at_path(from, path, (size_t)(p + n - path));
        if (!v)
            st = JPT_FAIL(err, FORMAT, "%s: item %zu has no %.*s", f->url, item, (int)(p + n - path), path);
        else
            json_object_set(o, name, v);
        p += n + (p[n] == ',');
    }
    char *line = st == JPT_OK ? json_dumps(o, 0) : NULL;
    if (line) {
        jpt_buf_addz(out, line);
        jpt_buf_addc(out, '\n');
    } else if (st == JPT_OK) {
        st = JPT_FAIL(err, NOMEM, "out of memory");
    }
    free(line);
    json_decref(o);
    return st;
}

/* JSON lines, or one list of objects. */
static json_t *parse_items(const char *url, const jpt_buf *text, jpt_error *err) {
    json_error_t je = {0};
    json_t      *all = json_array();
    size_t       blank = strspn(text->p ? text->p : "", " \t\r\n");
    if (text->n > blank && text->p[blank] == '[') {
        json_decref(all);
        all = json_loadb(text->p, text->n, 0, &je);
        if (!json_is_array(all)) {
            JPT_FAIL(err, FORMAT, "%s: what came is no JSON (line %d: %s)", url, je.line, je.text);
            json_decref(all);
            return NULL;
        }
        return all;
    }
    for (size_t at = 0, line = 1; at < text->n; line++) {
        const char *eol = memchr(text->p + at, '\n', text->n - at);
        size_t      n = eol ? (size_t)(eol - text->p) - at : text->n - at;
        json_t     *o = n ? json_loadb(text->p + at, n, 0, &je) : NULL;
        if (n && !o) {
            JPT_FAIL(err, FORMAT, "%s: line %zu: %s", url, line, je.text);
            json_decref(all);
            return NULL;
        }
        if (o)
            json_array_append_new(all, o);
        at += n + 1;
    }
    return all;
}

static jpt_status fields(const jpt_dataset_file *f, json_t *all, jpt_buf *out, jpt_error *err) {
    size_t      i;
    json_t     *o;
    jpt_status  st = JPT_OK;
    json_int_t  last = -1;
    json_array_foreach(all, i, o) {
        json_t *id = json_object_get(o, "doc_id");
        if (st == JPT_OK && (!json_is_integer(id) || json_integer_value(id) != last))
            st = add_fields(f, o, i, out, err);
        last = json_is_integer(id) ? json_integer_value(id) : -1;
    }
    return st;
}

static jpt_status prefix(const jpt_dataset_file *f, json_t *all, jpt_buf *out, jpt_error *err) {
    const char *first = json_string_value(json_object_get(json_array_get(all, 0), f->detail));
    size_t      n = first ? strlen(first) : 0, i;
    json_t     *o;
    json_array_foreach(all, i, o) {
        const char *s = json_string_value(json_object_get(o, f->detail));
        size_t      same = 0;
        while (s && same < n && s[same] == first[same])
            same++;
        n = same;
    }
    while (n >= 2 && memcmp(first + n - 2, "\n\n", 2) != 0)
        n--;
    if (n < 2)
        return JPT_FAIL(err, FORMAT, "%s: the prompts have no examples in common", f->url);
    jpt_buf_add(out, first, n);
    return JPT_OK;
}

static jpt_status join(const jpt_dataset_file *f, json_t *a, json_t *b, jpt_buf *out, jpt_error *err) {
    static const char open[] = "[INST] Please help me complete the text continuation based on the following content.\n\n", close[] = " [/INST]";
    const char       *comma = strchr(f->detail, ',');
    char              key[64];
    snprintf(key, sizeof key, "%.*s", (int)(comma - f->detail), f->detail);
    if (json_array_size(a) != json_array_size(b))
        return JPT_FAIL(err, FORMAT, "%s has %zu lines, %s has %zu", f->url, json_array_size(a), f->url2, json_array_size(b));
    for (size_t i = 0; i < json_array_size(a); i++) {
        const char *text = json_string_value(json_object_get(json_array_get(a, i), key));
        const char *gold = json_string_value(json_object_get(json_array_get(b, i), comma + 1));
        size_t      n = text ? strlen(text) : 0;
        if (!gold || n < sizeof open + sizeof close - 2 || strncmp(text, open, sizeof open - 1) != 0 || strcmp(text + n - (sizeof close - 1), close) != 0)
            return JPT_FAIL(err, FORMAT, "%s: line %zu is not of the study's form", f->url, i + 1);
        json_t *o = json_pack("{s:s%,s:s}", "instruction", text + sizeof open - 1, n - (sizeof open - 1) - (sizeof close - 1), "gold_ref", gold);
        char   *line = o ? json_dumps(o, 0) : NULL;
        json_decref(o);
        if (!line)
            return JPT_FAIL(err, NOMEM, "out of memory");
        jpt_buf_printf(out, "%s\n", line);
        free(line);
    }
    return JPT_OK;
}

jpt_status dataset_make(const jpt_dataset_file *f, const char *source, const char *source2, jpt_buf *out, jpt_error *err) {
    jpt_buf text = {0}, text2 = {0};
    if (f->recipe == JPT_RECIPE_GUNZIP)
        return gunzip(f, source, out, err);
    jpt_status st = jpt_file_read(source, &text, err);
    json_t    *a = NULL, *b = NULL;
    if (st == JPT_OK && (f->recipe == JPT_RECIPE_FIELDS || f->recipe == JPT_RECIPE_PREFIX || f->recipe == JPT_RECIPE_JOIN))
        st = (a = parse_items(f->url, &text, err)) ? JPT_OK : err ? err->code : JPT_FORMAT;
    if (st == JPT_OK && f->recipe == JPT_RECIPE_JOIN) {
        st = jpt_file_read(source2, &text2, err);
        if (st == JPT_OK)
            st = (b = parse_items(f->url2, &text2, err)) ? JPT_OK : err ? err->code : JPT_FORMAT;
    }
    if (st == JPT_OK)
        switch (f->recipe) {
        case JPT_RECIPE_HEAD: st = head(f, &text, out, err); break;
        case JPT_RECIPE_FIELDS: st = fields(f, a, out, err); break;
        case JPT_RECIPE_PREFIX: st = prefix(f, a, out, err); break;
        case JPT_RECIPE_JOIN: st = join(f, a, b, out, err); break;
        case JPT_RECIPE_AS_IS: jpt_buf_add(out, text.p, text.n); break;
        case JPT_RECIPE_GUNZIP:
        case JPT_RECIPE_FOLDER: break;
        }
    json_decref(a);
    json_decref(b);
    jpt_buf_fini(&text);
    jpt_buf_fini(&text2);
    return st == JPT_OK && out->oom ? JPT_FAIL(err, NOMEM, "out of memory") : st;
}
