/* Answers of arithmetic word problems: extraction, comparison, votes; and pass@k. */
#include "text.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool jpt_last_number(jpt_str text, double *out) {
    /* the expression of lm-evaluation-harness: (-?[$0-9.,]{2,})|(-?[0-9]+), last match, then strip "$" and ","
     * and a final "."; a run without a digit is no number */
    bool found = false;
    for (size_t i = 0; i < text.n;) {
        size_t j = i;
        if (text.p[j] == '-')
            j++;
        size_t start = j;
        while (j < text.n && (text.p[j] == '$' || text.p[j] == '.' || text.p[j] == ',' || (text.p[j] >= '0' && text.p[j] <= '9')))
            j++;
        if (j == start) {
            i++;
            continue;
        }
        char   digits[64];
        size_t n = 0;
        bool   any = false, whole = true;
        if (start > i)
            digits[n++] = '-';
        for (size_t k = start; k < j; k++)
            if (text.p[k] != '$' && text.p[k] != ',') {
                if (n == sizeof digits - 1) {
                    whole = false; /* longer than any number worth comparing */
                    break;
                }
                digits[n++] = text.p[k];
                any = any || (text.p[k] >= '0' && text.p[k] <= '9');
            }
        while (n && digits[n - 1] == '.')
            n--;
        digits[n] = '\0';
        char  *end;
        double v = strtod(digits, &end);
        if (any && whole && *end == '\0') {
            *out = v;
            found = true;
        }
        i = j;
    }
    return found;
}

/* ---- lm-evaluation-harness's regular expressions, by hand ------------------------------------------------ */

static size_t run_of(jpt_str t, size_t at, const char *set) { /* [set0-9]* */
    size_t i = at;
    while (i < t.n && (is_digit(t.p[i]) || (t.p[i] && strchr(set, t.p[i]))))
        i++;
    return i - at;
}

/* (-?[$0-9.,]{2,})|(-?[0-9]+) at `at`: its length, 0 for no match. */
static size_t flexible_at(jpt_str t, size_t at) {
    size_t minus = t.p[at] == '-', run = run_of(t, at + minus, "$.,");
    if (run >= 2)
        return minus + run;
    return run == 1 && is_digit(t.p[at + minus]) ? minus + 1 : 0;
}

static bool find(jpt_str t, size_t from, const char *what, size_t *at) {
    const char *p = from < t.n ? memmem(t.p + from, t.n - from, what, strlen(what)) : NULL;
    if (p)
        *at = (size_t)(p - t.p);
    return p != NULL;
}

/* What follows the lead-in at `at`: the group's length, 0 for no match. */
static size_t group_at(jpt_answer_filter filter, jpt_str t, size_t at) {
    if (at >= t.n)
        return 0;
    if (filter == JPT_ANSWER_LLAMA)
        return flexible_at(t, at);
    size_t minus = t.p[at] == '-', run = run_of(t, at + minus, ".,");
    if (filter == JPT_ANSWER_VOTE) /* ends with a digit */
        while (run && !is_digit(t.p[at + minus + run - 1]))
            run--;
    if (filter == JPT_ANSWER_COT && (at + minus + run == t.n || t.p[at + minus + run] == '\n'))
        run -= run > 0; /* one more character must follow: the group gives one back */
    return run ? minus + run : 0;
}

bool jpt_answer_extract(jpt_answer_filter filter, jpt_str text, jpt_str *out) {
    static const char *const lead[] = {[JPT_ANSWER_STRICT] = "#### ",
                                       [JPT_ANSWER_COT] = "The answer is ",
                                       [JPT_ANSWER_VOTE] = "The answer is ",
                                       [JPT_ANSWER_LLAMA] = "The final answer is "};
    bool                     found = false;
    if (filter == JPT_ANSWER_FLEXIBLE) {
        for (size_t i = 0, n; i < text.n; i += n ? n : 1)
            if ((n = flexible_at(text, i))) {
                *out = (jpt_str){text.p + i, n};
                found = true;
            }
        return found;
    }
    size_t skip = strlen(lead[filter]);
    for (size_t i = 0, at; find(text, i, lead[filter], &at);) {
        size_t n = group_at(filter, text, at + skip);
        i = n ? at + skip + n : at + 1;
        if (n) {
            *out = (jpt_str){text.p + at + skip, n};
            found = true;
            if (filter != JPT_ANSWER_LLAMA)
                return true;
        }
    }
    return found;
}

void jpt_answer_normalize(jpt_str answer, jpt_buf *out) {
    jpt_buf b = {0};
    for (size_t i = 0; i < answer.n; i++)
        if (answer.p[i] != ',' && answer.p[i] != '$')
            jpt_buf_addc(&b, answer.p[i]);
    jpt_str t = text_of(&b);
    for (size_t at; find(t, 0, "#### ", &at);)
        t = (jpt_str){t.p + at + 5, t.n - at - 5};
    bool eol = t.n && t.p[t.n - 1] == '\n'; /* $ matches before a final line break as well */
    if (t.n && t.p[t.n - 1] == '.') {
        text_lower((jpt_str){t.p, t.n - 1}, out);
    } else if (eol && t.n > 1 && t.p[t.n - 2] == '.') {
        text_lower((jpt_str){t.p, t.n - 2}, out);
        jpt_buf_addc(out, '\n');
    } else {
        text_lower(t, out);
    }
    out->oom |= b.oom;
    jpt_buf_fini(&b);
}

jpt_status jpt_answer_match(jpt_answer_filter filter, jpt_str text, jpt_str reference, bool *right, jpt_error *err) {
    jpt_buf a = {0}, b = {0};
    jpt_str answer;
    if (!jpt_answer_extract(filter, text, &answer))
        answer = jpt_str_z("[invalid]");
    jpt_answer_normalize(answer, &a);
    jpt_answer_normalize(reference, &b);
    bool ok = !a.oom && !b.oom;
    *right = ok && jpt_str_eq(text_of(&a), text_of(&b));
    jpt_buf_fini(&a);
    jpt_buf_fini(&b);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for an answer");
}

/* A decimal number in parts: sign, digits before the point without leading zeros, digits after it without trailing ones. */
typedef struct decimal {
    bool    minus;
    jpt_buf whole, part;
} decimal;

static bool parse_decimal(jpt_str t, decimal *d) {
    bool point = false, digits = false;
    t = text_strip(t);
    size_t end = t.n;
    while (end && (t.p[end - 1] == '.' || t.p[end - 1] == ','))
        end--;
    size_t i = 0;
    for (; i < end && (t.p[i] == '$' || t.p[i] == '-' || t.p[i] == '+'); i++)
        d->minus |= t.p[i] == '-';
    for (; i < end; i++) {
        if (t.p[i] == '.' && !point) {
            point = true;
        } else if (is_digit(t.p[i])) {
            digits = true;
            if (point)
                jpt_buf_addc(&d->part, t.p[i]);
            else if (d->whole.n || t.p[i] != '0')
                jpt_buf_addc(&d->whole, t.p[i]);
        } else if (t.p[i] != ',' && t.p[i] != '$') {
            return false;
        }
    }
    while (d->part.n && d->part.p[d->part.n - 1] == '0')
        d->part.n--;
    if (d->whole.n == 0 && d->part.n == 0)
        d->minus = false;
    return digits && !d->whole.oom && !d->part.oom;
}

bool jpt_answer_same_number(jpt_str a, jpt_str b) {
    decimal x = {0}, y = {0};
    bool    same = parse_decimal(a, &x) && parse_decimal(b, &y) && x.minus == y.minus &&
                jpt_str_eq(text_of(&x.whole), text_of(&y.whole)) && jpt_str_eq(text_of(&x.part), text_of(&y.part));
    jpt_buf_fini(&x.whole);
    jpt_buf_fini(&x.part);
    jpt_buf_fini(&y.whole);
    jpt_buf_fini(&y.part);
    return same;
}

size_t jpt_majority_vote(const jpt_str *answer, size_t n, size_t *votes) {
    size_t best = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        size_t count = 0;
        for (size_t k = i; k < n; k++)
            count += jpt_str_eq(answer[i], answer[k]);
        if (count > most) {
            most = count;
            best = i;
        }
    }
    if (votes)
        *votes = most;
    return best;
}

double jpt_pass_at_k(int64_t n, int64_t c, int64_t k) {
    if (n < k || k < 1 || c < 0 || c > n)
        return NAN;
    if (n - c < k)
        return 1;
    double all_fail = 1;
    for (int64_t i = n - c + 1; i <= n; i++)
        all_fail *= 1 - (double)k / (double)i;
    return 1 - all_fail;
}
