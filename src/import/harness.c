/* lm-evaluation-harness's sample log: prompt, text, the numbers it gave; BLEU and chrF texts come as [reference, hypothesis]. */
#include "harness.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The first text inside nested lists and objects. */
static const char *first_text(const json_t *v) {
    if (json_is_string(v))
        return json_string_value(v);
    if (json_is_array(v) && json_array_size(v))
        return first_text(json_array_get(v, 0));
    if (json_is_object(v)) {
        const json_t *arg = json_object_get(v, "gen_args_0");
        if (!arg)
            arg = json_object_get(v, "arg_0");
        return arg ? first_text(arg) : NULL;
    }
    return NULL;
}

static char *copy(const char *z) { return z ? strdup(z) : NULL; }

static const char *const not_scores[] = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"};

static bool is_score(const char *key) {
    for (size_t i = 0; i < sizeof not_scores / sizeof *not_scores; i++)
        if (strcmp(key, not_scores[i]) == 0)
            return false;
    return true;
}

/* [reference or [references], hypothesis] */
static bool texts_of(const json_t *v, const char **reference, const char **hypothesis) {
    if (!json_is_array(v) || json_array_size(v) != 2)
        return false;
    *reference = first_text(json_array_get(v, 0)), *hypothesis = first_text(json_array_get(v, 1));
    return *reference && *hypothesis;
}

static jpt_status read_doc(const json_t *line, harness_doc *d, jpt_error *err) {
    const char *key;
    json_t     *value;
    const char *text = first_text(json_object_get(line, "filtered_resps"));
    *d = (harness_doc){.doc_id = json_integer_value(json_object_get(line, "doc_id"))};
    if (!text)
        text = first_text(json_object_get(line, "resps"));
    d->prompt = copy(first_text(json_object_get(line, "arguments")));
    d->text = copy(text);
    json_object_foreach((json_t *)line, key, value) {
        const char *reference, *hypothesis;
        if (!is_score(key) || d->n_scores == HARNESS_SCORES)
            continue;
        if (json_is_number(value) || json_is_boolean(value)) {
            snprintf(d->names[d->n_scores], sizeof d->names[0], "%s", key);
            d->scores[d->n_scores++] = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
        } else if (!d->reference && texts_of(value, &reference, &hypothesis)) {
            d->reference = copy(reference);
            free(d->text);
            d->text = copy(hypothesis);
        }
    }
    return d->text ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for a log");
}

static bool good_line(const json_t *line, const char *wanted, char chosen[64]) {
    const char *filter = json_string_value(json_object_get(line, "filter"));
    if (!json_is_object(line) || !json_is_integer(json_object_get(line, "doc_id")) || json_integer_value(json_object_get(line, "doc_id")) < 0 ||
        !first_text(json_object_get(line, json_object_get(line, "filtered_resps") ? "filtered_resps" : "resps")))
        return false;
    if (!*chosen && filter)
        snprintf(chosen, 64, "%s", wanted ? wanted : filter);
    return true;
}

jpt_status harness_read(const char *path, const char *filter, harness_log *out, jpt_error *err) {
    jpt_buf    text = {0};
    size_t     cap = 0;
    jpt_status st = jpt_text_read(path, &text, err);
    *out = (harness_log){0};
    for (size_t at = 0; st == JPT_OK && at < text.n;) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        size_t      n = end ? (size_t)(end - text.p) - at : text.n - at;
        json_t     *line = json_loadb(text.p + at, n, 0, NULL);
        bool        blank = strspn(text.p + at, " \r\t") >= n;
        at += n + 1;
        if (!good_line(line, filter, out->filter)) {
            out->n_bad += !blank;
            json_decref(line);
            continue;
        }
        const char *of = json_string_value(json_object_get(line, "filter"));
        if (of && strncmp(of, out->filter, 63) != 0) { /* the same document under another filter */
            json_decref(line);
            continue;
        }
        if (out->n == cap) {
            size_t more = cap ? 2 * cap : 64;
            void  *grown = realloc(out->doc, more * sizeof *out->doc);
            if (grown)
                out->doc = grown, cap = more;
            else
                st = JPT_FAIL(err, NOMEM, "%s: out of memory", path);
        }
        int64_t id = json_integer_value(json_object_get(line, "doc_id"));
        for (size_t k = 0; st == JPT_OK && k < out->n; k++)
            if (out->doc[k].doc_id == id)
                st = JPT_FAIL(err, FORMAT, "%s: doc_id %lld stands twice; expected the log of one run", path, (long long)id);
        if (st == JPT_OK)
            st = read_doc(line, &out->doc[out->n++], err);
        json_decref(line);
    }
    jpt_buf_fini(&text);
    if (st == JPT_OK && out->n == 0)
        st = JPT_FAIL(err, FORMAT, "%s: no line of lm-evaluation-harness with doc_id and resps%s%s (%lld bad lines); expected samples_*.jsonl of --log_samples", path,
                      filter ? " of filter " : "", filter ? filter : "", (long long)out->n_bad);
    if (st != JPT_OK)
        harness_fini(out);
    return st;
}

void harness_fini(harness_log *l) {
    for (size_t i = 0; i < l->n; i++)
        free(l->doc[i].prompt), free(l->doc[i].text), free(l->doc[i].reference);
    free(l->doc);
    l->doc = NULL, l->n = 0;
}
