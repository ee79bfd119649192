/* jpt score: its input files. */
#include "score.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

static size_t count_lines(const jpt_buf *b) {
    size_t lines = b->n && b->p[b->n - 1] != '\n';
    for (size_t i = 0; i < b->n; i++)
        lines += b->p[i] == '\n';
    return lines;
}

/* What Python's rstrip takes for white space, as UTF-8. */
static const char *const white[] = {" ", "\t", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82",
                                    "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9",
                                    "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};

/* Without white space at the end of a line, as sacreBLEU reads it. */
static size_t without_end(const char *p, size_t n) {
    for (size_t k = 0; k < sizeof white / sizeof *white; k++) {
        size_t m = strlen(white[k]);
        if (m <= n && memcmp(p + n - m, white[k], m) == 0)
            return without_end(p, n - m);
    }
    return n;
}

/* 18 as "18": owned by the file. */
static json_t *as_string(score_file *f, json_t *number) {
    char   *digits = json_dumps(number, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_t *s = digits ? json_string(digits) : NULL;
    free(digits);
    return s && json_array_append_new(f->json, s) == 0 ? s : NULL;
}

static jpt_status add_json(score_file *f, json_t *line, const char *field, score_role role, size_t number, size_t *room,
                           jpt_error *err) {
    bool reference = role != SCORE_HYP;
    json_t *v = line;
    if (json_is_object(line)) {
        v = json_object_get(line, field ? field : reference ? "reference" : "text");
        if (!v && !field && reference)
            v = json_object_get(line, "answer");
        if (!v)
            return JPT_FAIL(err, FORMAT, "%s:%zu: has no field '%s'; --%s-field names another", f->path, number,
                            field       ? field
                            : reference ? "reference"
                                        : "text",
                            reference ? "ref" : "hyp");
    }
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (f->n_segments + n > *room) {
        *room = 2 * (f->n_segments + n);
        jpt_str *p = realloc(f->segment, *room * sizeof *p);
        if (!p)
            return JPT_FAIL(err, NOMEM, "%s: out of memory", f->path);
        f->segment = p;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_number(s) && role == SCORE_NUMBERS && !(s = as_string(f, s)))
            return JPT_FAIL(err, NOMEM, "%s: out of memory", f->path);
        if (!json_is_string(s))
            return JPT_FAIL(err, FORMAT, "%s:%zu: expected a string%s", f->path, number, json_is_array(v) ? " in the list" : "");
        f->segment[f->n_segments++] = (jpt_str){json_string_value(s), json_string_length(s)};
    }
    if (n == 0)
        return JPT_FAIL(err, FORMAT, "%s:%zu: the list is empty", f->path, number);
    f->first[++f->n] = f->n_segments;
    return JPT_OK;
}

jpt_status score_file_read(const char *path, const char *field, score_role role, score_file *f, jpt_error *err) {
    f->path = path;
    JPT_TRY(jpt_text_read(path, &f->text, err));
    size_t lines = count_lines(&f->text), room = lines + 1, valid = jpt_utf8_valid_prefix(f->text.p ? f->text.p : "", f->text.n);
    if (valid < f->text.n) {
        size_t line = 1;
        for (size_t i = 0; i < valid; i++)
            line += f->text.p[i] == '\n';
        return JPT_FAIL(err, FORMAT, "%s:%zu: not valid UTF-8", path, line);
    }
    f->segment = malloc(room * sizeof *f->segment);
    f->first = malloc((lines + 1) * sizeof *f->first);
    bool json = ends_with(path, ".jsonl");
    f->json = json_array();
    if (!f->segment || !f->first || !f->json)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    f->first[0] = 0;
    for (size_t at = 0, number = 1; at < f->text.n; number++) {
        const char *eol = memchr(f->text.p + at, '\n', f->text.n - at);
        size_t      n = eol ? (size_t)(eol - f->text.p) - at : f->text.n - at;
        if (json) {
            json_error_t je;
            json_t      *line = json_loadb(f->text.p + at, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
            if (!line || json_array_append_new(f->json, line) != 0)
                return JPT_FAIL(err, FORMAT, "%s:%zu: no JSON: %s", path, number, je.text);
            JPT_TRY(add_json(f, line, field, role, number, &room, err));
        } else {
            f->segment[f->n_segments++] = (jpt_str){f->text.p + at, without_end(f->text.p + at, n)};
            f->first[++f->n] = f->n_segments;
        }
        at += n + 1;
    }
    return f->n ? JPT_OK : JPT_FAIL(err, FORMAT, "%s: holds no line", path);
}

void score_file_free(score_file *f) {
    jpt_buf_fini(&f->text);
    json_decref(f->json);
    free(f->segment);
    free(f->first);
    *f = (score_file){0};
}

/* ---- features ------------------------------------------------------------------------------------------- */

/* The value of a key in the Python dictionary that heads a .npy file. */
static const char *npy_key(const char *header, const char *key) {
    const char *p = strstr(header, key);
    p = p ? strchr(p, ':') : NULL;
    return p ? p + 1 + strspn(p + 1, " ") : NULL;
}

static jpt_status read_npy(const char *path, const jpt_buf *b, double **out, int32_t *n, int32_t *d, jpt_error *err) {
    size_t skip = b->n >= 12 && b->p[6] >= 2 ? 12 : 10, length = 0;
    char   header[1024];
    if (b->n < skip || memcmp(b->p, "\x93NUMPY", 6) != 0)
        return JPT_FAIL(err, FORMAT, "%s: not a .npy file", path);
    for (size_t i = skip - 8; i-- > 0;)
        length = length << 8 | (uint8_t)b->p[8 + i];
    if (length >= sizeof header || length > b->n - skip)
        return JPT_FAIL(err, FORMAT, "%s: its .npy header of %zu bytes does not fit", path, length);
    memcpy(header, b->p + skip, length);
    header[length] = '\0';
    const char *type = npy_key(header, "'descr'"), *order = npy_key(header, "'fortran_order'"),
               *shape = npy_key(header, "'shape'");
    int rows = 0, columns = 0, end = 0;
    if (!type || !order || !shape || sscanf(shape, "(%d, %d)%n", &rows, &columns, &end) != 2 || !end || rows < 1 || columns < 1)
        return JPT_FAIL(err, FORMAT, "%s: expected an array of two dimensions, rows and features", path);
    size_t width = strncmp(type, "'<f4'", 5) == 0 ? 4 : strncmp(type, "'<f8'", 5) == 0 ? 8 : 0, cells, bytes;
    if (!width || strncmp(order, "False", 5) != 0)
        return JPT_FAIL(err, FORMAT, "%s: expected float32 or float64 in C order", path);
    if (!jpt_mul_size((size_t)rows, (size_t)columns, &cells) || !jpt_mul_size(cells, width, &bytes) ||
        bytes != b->n - skip - length)
        return JPT_FAIL(err, FORMAT, "%s: %d x %d values of %zu bytes are promised, %zu bytes are there", path, rows, columns,
                        width, b->n - skip - length);
    double *v = malloc(cells * sizeof *v);
    if (!v)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (size_t i = 0; i < cells; i++) {
        float single;
        if (width == 4) {
            memcpy(&single, b->p + skip + length + 4 * i, 4);
            v[i] = (double)single;
        } else {
            memcpy(&v[i], b->p + skip + length + 8 * i, 8);
        }
    }
    *out = v;
    *n = rows;
    *d = columns;
    return JPT_OK;
}

static jpt_status read_rows(const char *path, const jpt_buf *b, double **out, int32_t *n, int32_t *d, jpt_error *err) {
    double *v = NULL;
    size_t  cells = 0, room = 0;
    int32_t rows = 0, columns = 0, here = 0;
    char   *p = b->p, *end;
    for (size_t line = 1; p && *p;) {
        p += strspn(p, " \t,\r");
        if (*p == '\n' || *p == '\0') {
            if (here && columns && here != columns) {
                free(v);
                return JPT_FAIL(err, FORMAT, "%s:%zu: %d values, %d in the rows before", path, line, here, columns);
            }
            columns = here ? here : columns;
            rows += here > 0;
            here = 0;
            line++;
            p += *p == '\n';
            continue;
        }
        double x = strtod(p, &end);
        if (cells == room) {
            room = room ? 2 * room : 1024;
            double *more = realloc(v, room * sizeof *v);
            if (!more) {
                free(v);
                return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
            }
            v = more;
        }
        if (end == p || !isfinite(x)) {
            free(v);
            return JPT_FAIL(err, FORMAT, "%s:%zu: '%.20s' is no number", path, line, p);
        }
        v[cells++] = x;
        here++;
        p = end;
        if (*p == '\0') { /* the last line without its end */
            if (columns && here != columns) {
                free(v);
                return JPT_FAIL(err, FORMAT, "%s:%zu: %d values, %d in the rows before", path, line, here, columns);
            }
            columns = here;
            rows++;
        }
    }
    if (!rows)
        return JPT_FAIL(err, FORMAT, "%s: holds no row of features", path);
    *out = v;
    *n = rows;
    *d = columns;
    return JPT_OK;
}

jpt_status score_features_read(const char *path, double **out, int32_t *n, int32_t *d, jpt_error *err) {
    jpt_buf    b = {0};
    jpt_status st = ends_with(path, ".npy") ? jpt_file_read(path, &b, err) : jpt_text_read(path, &b, err);
    if (st == JPT_OK)
        st = ends_with(path, ".npy") ? read_npy(path, &b, out, n, d, err) : read_rows(path, &b, out, n, d, err);
    jpt_buf_fini(&b);
    return st;
}
