/* Counting n-grams of 64-bit symbols with a small open-addressing table. */
#ifndef JPT_METRIC_NGRAM_H
#define JPT_METRIC_NGRAM_H

#include <jpt/base.h>

typedef struct ngram_table {
    uint64_t *key;
    int64_t  *count, *other; /* two counts a key: hypothesis and (largest) reference */
    size_t    cap, n;
} ngram_table;

bool ngram_init(ngram_table *t, size_t expected);
void ngram_fini(ngram_table *t);
/* Slot of a key, added with zero counts when new; the table has room for `expected` keys. */
size_t ngram_slot(ngram_table *t, uint64_t key);

/* Hash of a byte string and of a sequence of hashes; 64 bits, so a collision is no concern for texts. */
uint64_t ngram_hash(const char *p, size_t n);
uint64_t ngram_join(const uint64_t *h, int n);

typedef struct symbols {
    uint64_t *h;
    size_t    n, cap;
} symbols;
bool symbols_push(symbols *s, uint64_t h);
void symbols_fini(symbols *s);
/* One hash a whitespace-separated word (Unicode blanks that Python's str.split knows). */
bool symbols_words(symbols *s, jpt_str text);

/* Does this code point separate words in Python's str.split()? */
bool is_space(int32_t cp);

#endif
