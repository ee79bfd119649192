/* SPEC strings: name[:key=value[,key=value]...], values may be {a,b,c} grids. */
#include <ctype.h>
#include <jpt/decode.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRID_MAX = 64, SPECS_MAX = 4096 };

typedef struct setting {
    const jpt_param_def *def;
    jpt_str              choice[GRID_MAX];
    int32_t              n_choices;
} setting;

typedef struct parsed {
    const jpt_strategy *strategy;
    setting             set[JPT_SPEC_PARAMS_MAX];
    int32_t             n_set;
} parsed;

static jpt_status unknown_strategy(const char *name, jpt_error *err) {
    const char *names[64];
    size_t      n = jpt_strategy_count();
    for (size_t i = 0; i < n && i < 64; i++)
        names[i] = jpt_strategy_at(i)->name;
    const char *near = jpt_nearest(name, names, n < 64 ? n : 64);
    return JPT_FAIL(err, ARG, "unknown strategy '%.64s'%s%s%s; jpt list strategies shows them", name, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

static jpt_status unknown_key(const jpt_strategy *s, const char *key, jpt_error *err) {
    const char *names[JPT_SPEC_PARAMS_MAX];
    jpt_buf     all = {0};
    for (int32_t i = 0; i < s->n_params; i++) {
        names[i] = s->params[i].name;
        jpt_buf_printf(&all, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = jpt_nearest(key, names, (size_t)s->n_params);
    jpt_status  st = JPT_FAIL(err, ARG, "strategy '%s' has no parameter '%.64s'%s%s%s (it has: %s)", s->name, key, near ? "; did you mean '" : "",
                              near ? near : "", near ? "'?" : "", all.p ? all.p : "none");
    jpt_buf_fini(&all);
    return st;
}

static bool name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.' || c == '/'; }

static jpt_status parse_value(const char *text, const char **at, setting *s, jpt_error *err) {
    const char *p = *at;
    bool        grid = *p == '{', empty = s->def->type == JPT_PARAM_STRING; /* a text may be empty */
    p += grid;
    for (;;) {
        const char *start = p;
        while (*p && *p != ',' && *p != '}' && *p != '{')
            p++;
        if (p == start && !empty)
            return JPT_FAIL(err, ARG, "SPEC '%.100s': a value is missing at character %zu", text, (size_t)(p - text) + 1);
        if (s->n_choices == GRID_MAX)
            return JPT_FAIL(err, ARG, "SPEC '%.100s': more than %d values in one grid", text, GRID_MAX);
        s->choice[s->n_choices++] = (jpt_str){start, (size_t)(p - start)};
        if (!grid)
            break;
        if (*p == '}') {
            p++;
            break;
        }
        if (*p != ',')
            return JPT_FAIL(err, ARG, "SPEC '%.100s': the brace opened for '%s' is not closed", text, s->def->name);
        p++;
    }
    *at = p;
    return JPT_OK;
}

static jpt_status parse(const char *text, parsed *out, jpt_error *err) {
    char        word[65];
    const char *p = text;
    while (name_char(*p))
        p++;
    if (p == text || p - text > 64)
        return JPT_FAIL(err, ARG, "SPEC '%.100s': expected a strategy's name", text);
    snprintf(word, sizeof word, "%.*s", (int)(p - text), text);
    if (*p && *p != ':')
        return JPT_FAIL(err, ARG, "SPEC '%.100s': unexpected '%c' at character %zu; the form is name:key=value,key=value", text, *p, (size_t)(p - text) + 1);
    *out = (parsed){.strategy = jpt_strategy_find(word)};
    if (!out->strategy)
        return unknown_strategy(word, err);
    while (*p) {
        const char *key = ++p; /* past ':' or ',' */
        while (name_char(*p))
            p++;
        if (p == key || p - key > 64 || *p != '=')
            return JPT_FAIL(err, ARG, "SPEC '%.100s': expected key=value at character %zu", text, (size_t)(key - text) + 1);
        snprintf(word, sizeof word, "%.*s", (int)(p - key), key);
        if (out->n_set == JPT_SPEC_PARAMS_MAX)
            return JPT_FAIL(err, ARG, "SPEC '%.100s': more than %d parameters", text, JPT_SPEC_PARAMS_MAX);
        setting *s = &out->set[out->n_set];
        for (int32_t i = 0; i < out->strategy->n_params && !s->def; i++)
            if (strcmp(out->strategy->params[i].name, word) == 0)
                s->def = &out->strategy->params[i];
        if (!s->def)
            return unknown_key(out->strategy, word, err);
        for (int32_t i = 0; i < out->n_set; i++)
            if (out->set[i].def == s->def)
                return JPT_FAIL(err, ARG, "SPEC '%.100s': '%s' is given twice", text, word);
        p++;
        JPT_TRY(parse_value(text, &p, s, err));
        out->n_set++;
        if (*p && *p != ',')
            return JPT_FAIL(err, ARG, "SPEC '%.100s': unexpected '%c' at character %zu", text, *p, (size_t)(p - text) + 1);
    }
    return JPT_OK;
}

static jpt_status read_value(const jpt_param_def *d, const char *text, jpt_spec *spec, jpt_param_value *out, jpt_error *err) {
    char *end;
    switch (d->type) {
    case JPT_PARAM_STRING:
        out->text = jpt_arena_strndup(&spec->arena, text, strlen(text));
        return out->text ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory");
    case JPT_PARAM_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return JPT_FAIL(err, ARG, "%s=%.64s: expected true or false", d->name, text);
        out->number = text[0] == 't';
        return JPT_OK;
    case JPT_PARAM_INT:
    case JPT_PARAM_FLOAT:
        break;
    }
    out->number = strtod(text, &end);
    bool is_number = end != text && *end == '\0' && isfinite(out->number);
    if (!is_number || (d->type == JPT_PARAM_INT && out->number != floor(out->number)))
        return JPT_FAIL(err, ARG, "%s=%.64s: expected %s number", d->name, text, d->type == JPT_PARAM_INT ? "a whole" : "a");
    if (out->number < d->min || out->number > d->max || (d->min_open && out->number == d->min) || (d->max_open && out->number == d->max))
        return JPT_FAIL(err, ARG, "%s=%.64s is out of range: expected a value in %c%.9g, %.9g%c", d->name, text, d->min_open ? '(' : '[', d->min, d->max,
                        d->max_open ? ')' : ']');
    return JPT_OK;
}

/* Shortest decimal text that reads back as the same double. */
static void print_number(jpt_buf *b, double v) {
    char text[40];
    if (v == 0)
        v = 0; /* no minus zero */
    if (v == floor(v) && fabs(v) < 1e15) {
        jpt_buf_printf(b, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    jpt_buf_addz(b, text);
}

static void print_value(jpt_buf *b, const jpt_param_value *v) {
    if (v->def->type == JPT_PARAM_STRING)
        jpt_buf_addz(b, v->text);
    else if (v->def->type == JPT_PARAM_BOOL)
        jpt_buf_addz(b, v->number != 0 ? "true" : "false");
    else
        print_number(b, v->number);
}

/* One point of the grid: choice pick[i] of setting i. */
static jpt_status make_spec(const parsed *p, const int32_t *pick, jpt_spec *spec, jpt_error *err) {
    *spec = (jpt_spec){.strategy = p->strategy, .n_values = p->strategy->n_params};
    jpt_buf text = {0};
    jpt_buf_addz(&text, p->strategy->name);
    jpt_status st = JPT_OK;
    char       sep = ':';
    for (int32_t i = 0; i < spec->n_values && st == JPT_OK; i++) {
        jpt_param_value *v = &spec->value[i];
        v->def = &p->strategy->params[i];
        char word[sizeof spec->text];
        snprintf(word, sizeof word, "%s", v->def->fallback ? v->def->fallback : "");
        for (int32_t k = 0; k < p->n_set && st == JPT_OK; k++)
            if (p->set[k].def == v->def) {
                jpt_str c = p->set[k].choice[pick[k]];
                v->given = true;
                if (c.n >= sizeof word)
                    st = JPT_FAIL(err, ARG, "%s: its text has %zu characters, expected at most %zu", v->def->name, c.n, sizeof word - 1);
                else
                    snprintf(word, sizeof word, "%.*s", (int)c.n, c.p);
            }
        if (st != JPT_OK)
            break;
        if (!v->given && !v->def->fallback)
            st = JPT_FAIL(err, ARG, "strategy '%s' needs %s=...", p->strategy->name, v->def->name);
        else
            st = read_value(v->def, word, spec, v, err);
        jpt_param_value neutral = {0};
        if (st == JPT_OK && v->given && v->def->fallback)
            st = read_value(v->def, v->def->fallback, spec, &neutral, err);
        bool is_default = v->def->fallback && (v->def->type == JPT_PARAM_STRING ? strcmp(v->text ? v->text : "", neutral.text ? neutral.text : "") == 0
                                                                              : v->number == neutral.number);
        /* a value equal to the default is no part of the identity, but a strategy's own knob is always shown: one setting, one
         * name */
        bool own = i == 0 && strcmp(v->def->name, "repetition_penalty") != 0;
        if (st == JPT_OK && ((v->given && !is_default) || own)) {
            jpt_buf_printf(&text, "%c%s=", sep, v->def->name);
            print_value(&text, v);
            sep = ',';
        }
    }
    if (st == JPT_OK && p->strategy->check)
        st = p->strategy->check(spec, err);
    if (st == JPT_OK && text.n >= sizeof spec->text)
        st = JPT_FAIL(err, ARG, "a SPEC is longer than %zu characters", sizeof spec->text - 1);
    if (st == JPT_OK)
        snprintf(spec->text, sizeof spec->text, "%s", text.p ? text.p : "");
    jpt_buf_fini(&text);
    if (st != JPT_OK)
        jpt_arena_fini(&spec->arena);
    return st;
}

static jpt_status append(jpt_spec_list *list, jpt_spec *spec, jpt_error *err) {
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->spec[i].text, spec->text) == 0) {
            jpt_arena_fini(&spec->arena);
            return JPT_OK;
        }
    jpt_spec *grown = list->n < SPECS_MAX ? realloc(list->spec, (list->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        jpt_arena_fini(&spec->arena);
        return JPT_FAIL(err, ARG, "more than %d strategy settings", SPECS_MAX);
    }
    list->spec = grown;
    list->spec[list->n++] = *spec;
    return JPT_OK;
}

jpt_status jpt_spec_parse(const char *text, jpt_spec_list *list, jpt_error *err) {
    parsed *p = calloc(1, sizeof *p);
    if (!p)
        return JPT_FAIL(err, NOMEM, "out of memory");
    jpt_status st = parse(text, p, err);
    int32_t    pick[JPT_SPEC_PARAMS_MAX] = {0};
    size_t     points = 1;
    for (int32_t i = 0; st == JPT_OK && i < p->n_set; i++) {
        points *= (size_t)p->set[i].n_choices;
        if (points > SPECS_MAX)
            st = JPT_FAIL(err, ARG, "SPEC '%.100s': its grid has more than %d points", text, SPECS_MAX);
    }
    for (bool more = true; st == JPT_OK && more;) {
        jpt_spec spec;
        st = make_spec(p, pick, &spec, err);
        if (st == JPT_OK)
            st = append(list, &spec, err);
        more = false;
        for (int32_t i = p->n_set; i-- > 0 && !more;) {
            more = ++pick[i] < p->set[i].n_choices;
            if (!more)
                pick[i] = 0;
        }
    }
    free(p);
    return st;
}

void jpt_spec_list_fini(jpt_spec_list *list) {
    for (size_t i = 0; i < list->n; i++)
        jpt_arena_fini(&list->spec[i].arena);
    free(list->spec);
    *list = (jpt_spec_list){0};
}

static const jpt_param_value *find_value(const jpt_spec *spec, const char *name) {
    for (int32_t i = 0; i < spec->n_values; i++)
        if (strcmp(spec->value[i].def->name, name) == 0)
            return &spec->value[i];
    JPT_ASSERT(!"the strategy has this parameter");
    return NULL;
}

double      jpt_spec_number(const jpt_spec *spec, const char *name) { return find_value(spec, name)->number; }
const char *jpt_spec_text(const jpt_spec *spec, const char *name) { return find_value(spec, name)->text; }

void jpt_spec_json(const jpt_spec *spec, jpt_buf *out) {
    jpt_buf_printf(out, "{\"strategy\":\"%s\"", spec->strategy->name);
    for (int32_t i = 0; i < spec->n_values; i++) {
        const jpt_param_value *v = &spec->value[i];
        bool                   quoted = v->def->type == JPT_PARAM_STRING;
        jpt_buf_printf(out, ",\"%s\":%s", v->def->name, quoted ? "\"" : "");
        if (quoted)
            for (const char *c = v->text; *c; c++)
                jpt_buf_printf(out, *c == '"' || *c == '\\' ? "\\%c" : (unsigned char)*c < 0x20 ? "\\u%04x" : "%c", *c);
        else
            print_value(out, v);
        if (quoted)
            jpt_buf_addc(out, '"');
    }
    jpt_buf_addc(out, '}');
}
