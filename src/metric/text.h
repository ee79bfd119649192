/* Text as Python's str sees it: what the reference implementations' split, strip, lower and regular expressions do.
 * Characters are code points; an invalid byte is a character of its own (-1) without any class. */
#ifndef JPT_METRIC_TEXT_H
#define JPT_METRIC_TEXT_H

#include <jpt/base.h>

/* The character at text.p[at], its length in *len; a fast path for ASCII. */
static inline int32_t text_char(jpt_str text, size_t at, size_t *len) {
    int32_t cp;
    if ((uint8_t)text.p[at] < 0x80) {
        *len = 1;
        return text.p[at];
    }
    *len = jpt_utf8_decode(text.p + at, text.n - at, &cp);
    return cp;
}

/* Does this code point separate words in str.split()? */
static inline bool is_space(int32_t c) {
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 ||
           (c >= 0x1680 && (c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
                            c == 0x205f || c == 0x3000));
}
static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
/* Python's string.punctuation. */
static inline bool is_ascii_punct(char c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/* General categories: \p{P}, \p{S}, \p{N}, and \w of Python's re (letters, numbers, underscore). */
bool is_unicode_punct(int32_t cp);
bool is_unicode_symbol(int32_t cp);
bool is_unicode_number(int32_t cp);
bool is_word_char(int32_t cp);

jpt_str text_rstrip(jpt_str text);
jpt_str text_strip(jpt_str text);
/* str.lower(): full mapping with the final sigma and the dotted capital I; appended. */
void text_lower(jpt_str text, jpt_buf *out);

/* The next word of str.split() from *at on; false at the end. */
bool text_next_word(jpt_str text, size_t *at, jpt_str *word);

static inline jpt_str text_of(const jpt_buf *b) { return (jpt_str){b->p ? b->p : "", b->n}; }

/* ---- tokenisation --------------------------------------------------------------------------------------- */

/* Tokens appended to *out, separated by white space.  Rules are applied as the references' regular expressions are: each one
 * pass, left to right, without overlap. */
void tokenize_13a(jpt_str text, jpt_buf *out);
void tokenize_intl(jpt_str text, jpt_buf *out);
void tokenize_zh(jpt_str text, jpt_buf *out);
void tokenize_char(jpt_str text, jpt_buf *out);
/* CodeXGLUE's words of a comment: mteval-v11a after splitting words from signs (metrics of code summaries). */
void tokenize_code_summary(jpt_str text, jpt_buf *out);

/* The rules that mteval-v13a, sacreBLEU's zh and tercom's normalisation share: signs, full stops and commas, hyphens after
 * digits. */
void split_western_punct(jpt_buf *text, bool possessives);
void replace_all(jpt_buf *b, const char *from, const char *to);

#endif
