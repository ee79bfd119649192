#include "text.h"
#include <utf8proc.h>

bool is_unicode_punct(int32_t cp) {
    utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_unicode_symbol(int32_t cp) {
    utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_SM && c <= UTF8PROC_CATEGORY_SO;
}

bool is_unicode_number(int32_t cp) {
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    utf8proc_category_t c = utf8proc_category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool is_word_char(int32_t cp) {
    if (cp < 0x80)
        return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || cp == '_';
    utf8proc_category_t c = utf8proc_category(cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) || (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
}

jpt_str text_rstrip(jpt_str text) {
    size_t end = text.n, len;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && end - start < 4 && ((uint8_t)text.p[start] & 0xc0) == 0x80)
            start--;
        int32_t cp = text_char((jpt_str){text.p, end}, start, &len);
        if (!is_space(cp) || start + len != end)
            break;
        end = start;
    }
    return (jpt_str){text.p, end};
}

jpt_str text_strip(jpt_str text) {
    size_t at = 0, len;
    while (at < text.n && is_space(text_char(text, at, &len)))
        at += len;
    return text_rstrip((jpt_str){text.p + at, text.n - at});
}

bool text_next_word(jpt_str text, size_t *at, jpt_str *word) {
    size_t len, start;
    while (*at < text.n && is_space(text_char(text, *at, &len)))
        *at += len;
    for (start = *at; *at < text.n && !is_space(text_char(text, *at, &len));)
        *at += len;
    *word = (jpt_str){text.p + start, *at - start};
    return *at > start;
}

/* ---- str.lower() ---------------------------------------------------------------------------------------- */

/* Unicode's Cased and Case_Ignorable, as Final_Sigma (SpecialCasing.txt) asks for them. */
static bool is_cased(int32_t cp) {
    utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           (cp >= 0x2160 && cp <= 0x217f) || (cp >= 0x24b6 && cp <= 0x24e9) || cp == 0xaa || cp == 0xba;
}

static bool is_case_ignorable(int32_t cp) {
    static const int32_t word_break[] = {'\'',   '.',    ':',    0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                         0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    for (size_t i = 0; i < sizeof word_break / sizeof *word_break; i++)
        if (cp == word_break[i])
            return true;
    utf8proc_category_t c = cp < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_LM ||
           c == UTF8PROC_CATEGORY_SK;
}

/* A sigma at [at, at+2) ends a word: a cased letter before it, none after it, case-ignorable characters aside. */
static bool ends_word(jpt_str text, size_t at) {
    size_t  len, i = at;
    int32_t cp = -1;
    do {
        if (i == 0)
            return false;
        i--;
        while (i > 0 && ((uint8_t)text.p[i] & 0xc0) == 0x80)
            i--;
        cp = text_char(text, i, &len);
    } while (is_case_ignorable(cp));
    if (!is_cased(cp))
        return false;
    for (i = at + 2; i < text.n; i += len)
        if (!is_case_ignorable(cp = text_char(text, i, &len)))
            return !is_cased(cp);
    return true;
}

void text_lower(jpt_str text, jpt_buf *out) {
    if (text.n && !jpt_buf_reserve(out, text.n))
        return;
    for (size_t i = 0; i < text.n;) {
        size_t  len;
        int32_t cp = text_char(text, i, &len);
        char    c = (char)cp;
        if (cp >= 0 && cp < 0x80) {
            c = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
            jpt_buf_add(out, &c, 1);
        } else if (cp == 0x130) { /* I with a dot: i and a combining dot */
            jpt_buf_addz(out, "i\xcc\x87");
        } else if (cp == 0x3a3) {
            jpt_buf_addz(out, ends_word(text, i) ? "\xcf\x82" : "\xcf\x83");
        } else {
            int32_t          low = cp < 0 ? -1 : utf8proc_tolower(cp);
            utf8proc_uint8_t bytes[4];
            if (low == cp || low < 0)
                jpt_buf_add(out, text.p + i, len);
            else
                jpt_buf_add(out, bytes, (size_t)utf8proc_encode_char(low, bytes));
        }
        i += len;
    }
}
