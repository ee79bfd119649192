/* The tokenisers of sacreBLEU (13a, intl, zh, char) and of code summaries. */
#include "text.h"
#include <jpt/metric.h>
#include <stdlib.h>
#include <string.h>

void replace_all(jpt_buf *b, const char *from, const char *to) {
    size_t n = strlen(from);
    if (b->n < n || !memmem(b->p, b->n, from, n))
        return;
    jpt_buf out = {0};
    for (size_t i = 0; i < b->n;)
        if (i + n <= b->n && memcmp(b->p + i, from, n) == 0) {
            jpt_buf_addz(&out, to);
            i += n;
        } else {
            jpt_buf_addc(&out, b->p[i++]);
        }
    out.oom |= b->oom;
    jpt_buf_fini(b);
    *b = out;
}

/* ---- western punctuation -------------------------------------------------------------------------------- */

/* Characters that always stand alone: !"#$%&()*+/:;<=>?@[\]^_`{|}~ and the blank (the ranges of mteval-v13a.pl). */
static bool stands_alone(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
           (c >= ':' && c <= '@') || c == '/';
}

static bool is_stop(char c) { return c == '.' || c == ','; }

/* Each pass reads in[0..n) and writes out, which has room for 3n bytes; returns the length.  Bytes stand for characters: no byte
 * of a longer character is a digit or a sign, and blanks are put at character boundaries only. */
typedef size_t pass(const char *in, size_t n, char *out);

static size_t signs(const char *in, size_t n, char *out) {
    char *o = out;
    for (size_t i = 0; i < n; i++)
        if (in[i] == ' ') {
            *o++ = ' '; /* blanks around a blank change no token */
        } else if (stands_alone(in[i])) {
            *o++ = ' ';
            *o++ = in[i];
            *o++ = ' ';
        } else {
            *o++ = in[i];
        }
    return (size_t)(o - out);
}

static size_t stop_after_other(const char *in, size_t n, char *out) { /* ([^0-9])([.,]) -> \1 \2_ */
    char *o = out;
    for (size_t i = 0; i < n; i++) {
        *o++ = in[i];
        if (!is_digit(in[i]) && i + 1 < n && is_stop(in[i + 1])) {
            *o++ = ' ';
            *o++ = in[++i];
            *o++ = ' ';
        }
    }
    return (size_t)(o - out);
}

static size_t stop_before_other(const char *in, size_t n, char *out) { /* ([.,])([^0-9]) -> _\1 \2 */
    char *o = out;
    for (size_t i = 0; i < n; i++)
        if (is_stop(in[i]) && i + 1 < n && !is_digit(in[i + 1])) {
            *o++ = ' ';
            *o++ = in[i];
            *o++ = ' ';
            *o++ = in[++i];
        } else {
            *o++ = in[i];
        }
    return (size_t)(o - out);
}

static size_t hyphen_after_digit(const char *in, size_t n, char *out) { /* ([0-9])(-) -> \1 \2_ */
    char *o = out;
    for (size_t i = 0; i < n; i++) {
        *o++ = in[i];
        if (is_digit(in[i]) && i + 1 < n && in[i + 1] == '-') {
            *o++ = ' ';
            *o++ = in[++i];
            *o++ = ' ';
        }
    }
    return (size_t)(o - out);
}

static void apply(jpt_buf *text, jpt_buf *other, pass *rule) {
    jpt_buf_reset(other);
    if (text->oom || text->n > SIZE_MAX / 4 || !jpt_buf_reserve(other, 3 * text->n)) {
        text->oom = true;
        return;
    }
    other->n = rule(text->p, text->n, other->p);
    other->p[other->n] = '\0';
    jpt_buf swap = *text;
    *text = *other;
    *other = swap;
}

void split_western_punct(jpt_buf *text, bool possessives) {
    jpt_buf other = {0};
    if (text->n) {
        apply(text, &other, signs);
        if (possessives)
            replace_all(text, "'s ", " 's ");
        apply(text, &other, stop_after_other);
        apply(text, &other, stop_before_other);
        apply(text, &other, hyphen_after_digit);
    }
    jpt_buf_fini(&other);
}

/* ---- the tokenisers ------------------------------------------------------------------------------------- */

void tokenize_13a(jpt_str text, jpt_buf *out) {
    jpt_buf b = {0};
    jpt_buf_addc(&b, ' ');
    jpt_buf_add(&b, text.p, text.n);
    jpt_buf_addc(&b, ' ');
    replace_all(&b, "<skipped>", "");
    replace_all(&b, "-\n", "");
    replace_all(&b, "\n", " ");
    if (!b.oom && memchr(b.p, '&', b.n)) {
        replace_all(&b, "&quot;", "\"");
        replace_all(&b, "&amp;", "&");
        replace_all(&b, "&lt;", "<");
        replace_all(&b, "&gt;", ">");
    }
    split_western_punct(&b, false);
    jpt_buf_add(out, b.p, b.n);
    out->oom |= b.oom;
    jpt_buf_fini(&b);
}

/* (\P{N})(\p{P}) -> \1 \2_, then (\p{P})(\P{N}) -> _\1 \2, then (\p{S}) -> _\1_ */
void tokenize_intl(jpt_str text, jpt_buf *out) {
    jpt_buf a = {0}, b = {0};
    size_t  len, next;
    for (size_t i = 0; i < text.n; i += len) {
        int32_t cp = text_char(text, i, &len);
        jpt_buf_add(&a, text.p + i, len);
        if (i + len < text.n && !is_unicode_number(cp) && is_unicode_punct(text_char(text, i + len, &next))) {
            jpt_buf_addc(&a, ' ');
            jpt_buf_add(&a, text.p + i + len, next);
            jpt_buf_addc(&a, ' ');
            len += next;
        }
    }
    jpt_str t = text_of(&a);
    for (size_t i = 0; i < t.n; i += len) {
        int32_t cp = text_char(t, i, &len);
        bool    split = i + len < t.n && is_unicode_punct(cp) && !is_unicode_number(text_char(t, i + len, &next));
        if (split)
            jpt_buf_addc(&b, ' ');
        jpt_buf_add(&b, t.p + i, len);
        if (split) {
            jpt_buf_addc(&b, ' ');
            jpt_buf_add(&b, t.p + i + len, next);
            len += next;
        }
    }
    t = text_of(&b);
    for (size_t i = 0; i < t.n; i += len) {
        bool symbol = is_unicode_symbol(text_char(t, i, &len));
        if (symbol)
            jpt_buf_addc(out, ' ');
        jpt_buf_add(out, t.p + i, len);
        if (symbol)
            jpt_buf_addc(out, ' ');
    }
    out->oom |= a.oom || b.oom;
    jpt_buf_fini(&a);
    jpt_buf_fini(&b);
}

/* sacreBLEU's ranges.  Two of them are five-digit escapes that Python reads as a four-digit one and a digit, which makes them
 * U+2001..2A6D and U+2F81..2FA1 for a single character: kept, for its numbers. */
static bool is_chinese(int32_t c) {
    static const struct {
        int32_t first, last;
    } range[] = {{0x2001, 0x2a6d}, {0x2e80, 0x2eff}, {0x2f00, 0x2fdf}, {0x2ff0, 0x303f}, {0x3100, 0x312f}, {0x31a0, 0x31bf},
                 {0x31c0, 0x31ef}, {0x3200, 0x33ff}, {0x3400, 0x4db5}, {0x4e00, 0x9fbb}, {0xf900, 0xfa2d}, {0xfa30, 0xfa6a},
                 {0xfa70, 0xfad9}, {0xfe10, 0xfe1f}, {0xfe30, 0xfe4f}, {0xff00, 0xffef}};
    if (c < range[0].first)
        return false;
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (c >= range[i].first && c <= range[i].last)
            return true;
    return false;
}

void tokenize_zh(jpt_str text, jpt_buf *out) {
    jpt_buf b = {0};
    size_t  len;
    text = text_strip(text);
    for (size_t i = 0; i < text.n; i += len) {
        bool alone = is_chinese(text_char(text, i, &len));
        if (alone)
            jpt_buf_addc(&b, ' ');
        jpt_buf_add(&b, text.p + i, len);
        if (alone)
            jpt_buf_addc(&b, ' ');
    }
    split_western_punct(&b, false);
    jpt_buf_add(out, b.p, b.n);
    out->oom |= b.oom;
    jpt_buf_fini(&b);
}

void tokenize_char(jpt_str text, jpt_buf *out) {
    size_t len;
    for (size_t i = 0; i < text.n; i += len) {
        text_char(text, i, &len);
        jpt_buf_add(out, text.p + i, len);
        jpt_buf_addc(out, ' ');
    }
}

/* CodeXGLUE splits [\w]+|[^\s\w] before it normalises as mteval-v11a does, of whose rules the one on signs can then still apply,
 * to the underscore. */
void tokenize_code_summary(jpt_str text, jpt_buf *out) {
    jpt_buf low = {0};
    size_t  len;
    bool    in_word = false;
    text_lower(text_strip(text), &low);
    jpt_str t = text_of(&low);
    for (size_t i = 0; i < t.n; i += len) {
        int32_t cp = text_char(t, i, &len);
        bool    word = cp >= 0 && cp != '_' && is_word_char(cp);
        if (!word || !in_word)
            jpt_buf_addc(out, ' ');
        if (!is_space(cp))
            jpt_buf_add(out, t.p + i, len);
        in_word = word;
    }
    out->oom |= low.oom;
    jpt_buf_fini(&low);
}
