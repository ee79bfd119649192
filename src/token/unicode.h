/* Classes of code points as the pre-tokenizers' regular expressions see them; table in unicode_table.c. */
#ifndef JPT_TOKEN_UNICODE_H
#define JPT_TOKEN_UNICODE_H

#include <jpt/base.h>

enum {
    JPT_UC_LETTER = 1, /* \p{L} */
    JPT_UC_NUMBER = 2, /* \p{N} */
    JPT_UC_SPACE = 4,  /* \s */
    JPT_UC_DIGIT = 8,  /* HF's Digits: Rust's char::is_numeric */
};

struct jpt_uc_range {
    int32_t first, last;
    uint8_t mask;
};
extern const struct jpt_uc_range jpt_uc_ranges[]; /* sorted, disjoint */
extern const size_t              jpt_uc_n_ranges;

/* What BERT's normaliser and pre-tokenizer do with a code point; table in wordpiece_table.c. */
enum {
    JPT_WP_DROP = 1,   /* control, format and private-use characters, U+0000, U+FFFD */
    JPT_WP_SPACE = 2,  /* becomes a blank */
    JPT_WP_CJK = 4,    /* stands between blanks */
    JPT_WP_MARK = 8,   /* non-spacing mark: dropped after decomposition */
    JPT_WP_PUNCT = 16, /* a word of its own */
    JPT_WP_WHOLE = 32, /* not decomposed */
};
extern const struct jpt_uc_range jpt_wp_ranges[];
extern const size_t              jpt_wp_n_ranges;

/* Mask of a code point in a sorted table; 0 outside of it. */
unsigned jpt_uc_find(const struct jpt_uc_range *range, size_t n, int32_t cp);
/* Mask of JPT_UC_* for a code point; 0 for -1 (an invalid byte) and for everything else. */
unsigned jpt_uc_class(int32_t cp);

/* What stands at p[0..n), n >= 1: a whole character (JPT_UTF8_WHOLE), the beginning of one that n cut off
 * (JPT_UTF8_CUT), or bytes that can never be one (JPT_UTF8_BAD).  *len is its length; for CUT and BAD that of
 * the maximal subpart, which one U+FFFD stands for (Unicode 3.9). */
enum jpt_utf8_what { JPT_UTF8_WHOLE, JPT_UTF8_CUT, JPT_UTF8_BAD };
enum jpt_utf8_what jpt_utf8_look(const char *p, size_t n, size_t *len);

#endif
