/* See texts.h. */
#include "texts.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bool copy(cli_texts *t, const json_t *j, jpt_str *out) {
    out->n = json_string_length(j);
    out->p = jpt_arena_strndup(&t->arena, json_string_value(j), out->n);
    return out->p != NULL;
}

static jpt_status from_json(cli_texts *t, const char *path, size_t line, const json_t *j, jpt_error *err) {
    cli_text     *c = &t->item[t->n];
    const json_t *text = json_is_string(j) ? j : json_object_get(j, "text"), *prompt = json_object_get(j, "prompt"), *ref = json_object_get(j, "reference");
    size_t        n_ref = json_is_array(ref) ? json_array_size(ref) : ref != NULL;
    if (!json_is_string(text) || (prompt && !json_is_string(prompt)))
        return JPT_FAIL(err, FORMAT, "%s: line %zu: expected a string, or an object with \"text\" (and \"prompt\") as strings", path, line);
    *c = (cli_text){.reference = jpt_arena_alloc(&t->arena, (n_ref + 1) * sizeof *c->reference)};
    if (!c->reference || !copy(t, text, &c->text) || (prompt && !copy(t, prompt, &c->prompt)))
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (size_t i = 0; i < n_ref; i++) {
        const json_t *r = json_is_array(ref) ? json_array_get(ref, i) : ref;
        if (!json_is_string(r))
            return JPT_FAIL(err, FORMAT, "%s: line %zu: \"reference\" is no string and no list of strings", path, line);
        if (!copy(t, r, &c->reference[c->n_references++]))
            return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    }
    t->n++;
    return JPT_OK;
}

static jpt_status read_line(cli_texts *t, const char *path, bool json, size_t line, const char *p, size_t n, jpt_error *err) {
    if (!json) {
        char *text = jpt_arena_strndup(&t->arena, p, n);
        t->item[t->n++] = (cli_text){.text = {text, n}};
        return text ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    }
    if (strspn(p, " \t\r") >= n)
        return JPT_OK;
    json_error_t why;
    json_t      *j = json_loadb(p, n, JSON_DECODE_ANY, &why);
    if (!j)
        return JPT_FAIL(err, FORMAT, "%s: line %zu: %s", path, line, why.text);
    jpt_status st = from_json(t, path, line, j, err);
    json_decref(j);
    return st;
}

jpt_status cli_texts_read(const char *path, cli_texts *out, jpt_error *err) {
    jpt_buf    b = {0};
    size_t     len = strlen(path), lines = 1;
    bool       json = len > 6 && strcmp(path + len - 6, ".jsonl") == 0;
    jpt_status st = jpt_text_read(path, &b, err);
    size_t     valid = st == JPT_OK ? jpt_utf8_valid_prefix(b.p ? b.p : "", b.n) : 0;
    *out = (cli_texts){0};
    for (size_t i = 0; i < b.n; i++) {
        if (st == JPT_OK && i == valid)
            st = JPT_FAIL(err, FORMAT, "%s: line %zu: not valid UTF-8; convert it first (iconv)", path, lines);
        lines += b.p[i] == '\n';
    }
    if (st == JPT_OK && !(out->item = calloc(lines, sizeof *out->item)))
        st = JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (size_t at = 0, line = 1; st == JPT_OK && at < b.n; line++) {
        const char *eol = memchr(b.p + at, '\n', b.n - at);
        size_t      n = eol ? (size_t)(eol - b.p) - at : b.n - at;
        st = read_line(out, path, json, line, b.p + at, n && b.p[at + n - 1] == '\r' ? n - 1 : n, err);
        at += n + 1;
    }
    jpt_buf_fini(&b);
    if (st == JPT_OK && out->n == 0)
        st = JPT_FAIL(err, ARG, "%s: has no text", path);
    if (st != JPT_OK)
        cli_texts_fini(out);
    return st;
}

void cli_texts_fini(cli_texts *t) {
    free(t->item);
    jpt_arena_fini(&t->arena);
    *t = (cli_texts){0};
}
