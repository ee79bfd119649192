#include "vote.h"
#include <ctype.h>
#include <jpt/metric.h>
#include <math.h>
#include <string.h>
#include <strings.h>

jpt_answer_kind jpt_answer_kind_named(const char *name) {
    static const char *const names[JPT_ANSWER_KINDS] = {"number", "string", "choice", "boolean", "text"};
    int                      k = 0;
    while (k < JPT_ANSWER_KINDS && strcmp(names[k], name) != 0)
        k++;
    return (jpt_answer_kind)k;
}

static bool of_number(char c) { return c == '$' || c == '.' || c == ',' || isdigit((unsigned char)c); }

/* The last match of (-?[$0-9.,]{2,})|(-?[0-9]+) with a digit in it, less a final point: as jpt_last_number finds it. */
static jpt_str last_run(jpt_str t) {
    jpt_str last = {0};
    for (size_t i = 0; i < t.n;) {
        size_t start = i + (t.p[i] == '-'), j = start;
        bool   digit = false;
        for (; j < t.n && of_number(t.p[j]); j++)
            digit = digit || isdigit((unsigned char)t.p[j]);
        if (digit)
            last = (jpt_str){t.p + i, j - i};
        i = j > start ? j : i + 1;
    }
    while (last.n && (last.p[last.n - 1] == '.' || last.p[last.n - 1] == ','))
        last.n--;
    return last;
}

static bool of_word(const jpt_str *t, size_t i) { return i < t->n && (isalnum((unsigned char)t->p[i]) || t->p[i] == '_' || t->p[i] == '\''); }

/* The last word that `is` accepts; its place, or t.n. */
static size_t last_word(jpt_str t, bool (*is)(const char *p, size_t n), size_t *length) {
    size_t found = t.n;
    for (size_t i = 0; i < t.n;) {
        size_t j = i;
        while (of_word(&t, j))
            j++;
        if (j > i && is(t.p + i, j - i)) {
            found = i;
            *length = j - i;
        }
        i = j > i ? j : i + 1;
    }
    return found;
}

static bool is_letter(const char *p, size_t n) { return n == 1 && *p >= 'A' && *p <= 'Z' && *p != 'I'; /* the pronoun */ }
static bool is_yes(const char *p, size_t n) { return (n == 3 && strncasecmp(p, "yes", 3) == 0) || (n == 4 && strncasecmp(p, "true", 4) == 0); }
static bool is_boolean(const char *p, size_t n) { return is_yes(p, n) || (n == 2 && strncasecmp(p, "no", 2) == 0) || (n == 5 && strncasecmp(p, "false", 5) == 0); }

void jpt_answer_of(jpt_answer_kind kind, jpt_str t, jpt_buf *out) {
    double  v;
    size_t  n = 0, at;
    switch (kind) {
    case JPT_ANSWER_NUMBER:
        if (jpt_last_number(t, &v))
            jpt_buf_printf(out, "%.17g", v == 0 ? 0 : v);
        break;
    case JPT_ANSWER_STRING: {
        jpt_str run = last_run(t);
        jpt_buf_add(out, run.p ? run.p : "", run.n);
        break;
    }
    case JPT_ANSWER_CHOICE:
        at = last_word(t, is_letter, &n);
        jpt_buf_add(out, at < t.n ? t.p + at : "", n);
        break;
    case JPT_ANSWER_BOOLEAN:
        at = last_word(t, is_boolean, &n);
        if (at < t.n)
            jpt_buf_addz(out, is_yes(t.p + at, n) ? "yes" : "no");
        break;
    default:
        while (t.n && isspace((unsigned char)t.p[t.n - 1]))
            t.n--;
        while (t.n && isspace((unsigned char)*t.p))
            t.p++, t.n--;
        jpt_buf_add(out, t.n ? t.p : "", t.n);
    }
}

double jpt_vote_certainty(int32_t first, int32_t second) {
    /* I(1/2; a, b) = P(at least a heads of a + b - 1 fair coins) */
    int32_t n = first + second + 1;
    double  tail = 0;
    for (int32_t k = first + 1; k <= n; k++)
        tail += exp(lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0) - n * log(2));
    return 1 - tail;
}
