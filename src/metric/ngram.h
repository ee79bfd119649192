/* Symbols (64-bit hashes of words or characters) and a table that counts their n-grams. */
#ifndef JPT_METRIC_NGRAM_H
#define JPT_METRIC_NGRAM_H

#include "text.h"

typedef struct symbols {
    uint64_t *h;
    size_t    n, cap;
} symbols;
bool symbols_push(symbols *s, uint64_t h);
void symbols_fini(symbols *s);
/* One hash a whitespace-separated word (Unicode blanks that Python's str.split knows). */
bool symbols_words(symbols *s, jpt_str text);

/* Hash of a byte string; 64 bits, so a collision is no concern for texts. */
uint64_t ngram_hash(const char *p, size_t n);
uint64_t ngram_hash_char(int32_t cp, char invalid_byte);

/* An n-gram's key from the key of its first n-1 symbols (NGRAM_START for none) and the next symbol. */
#define NGRAM_START 0x9e3779b97f4a7c15u
static inline uint64_t ngram_mix(uint64_t x) { /* splitmix64's finaliser */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static inline uint64_t ngram_extend(uint64_t key, uint64_t symbol) { return ngram_mix(key ^ symbol) + NGRAM_START; }

/* Open addressing; `count` belongs to the text that is scored, the rest to what it is scored against. */
typedef struct ngram_slot {
    uint64_t key; /* 0: free */
    int32_t  count, best, now, stamp;
} ngram_slot;
typedef struct ngram_table {
    ngram_slot *slot;
    size_t      cap, n;
} ngram_table;

/* Room for `expected` different keys. */
bool ngram_init(ngram_table *t, size_t expected);
void ngram_fini(ngram_table *t);
/* Makes room for so many more; no slot stays where it was. */
bool ngram_reserve(ngram_table *t, size_t more);
/* The key's slot, added when new: there must be room. */
ngram_slot *ngram_add(ngram_table *t, uint64_t key);
/* The key's slot, or NULL. */
ngram_slot *ngram_find(const ngram_table *t, uint64_t key);

/* The number of n-grams in n symbols. */
static inline int64_t ngram_total(size_t n, int order) { return n >= (size_t)order ? (int64_t)n - order + 1 : 0; }

/* All n-grams of orders 1..orders of s into the table (count). */
void ngram_count(ngram_table *t, const symbols *s, int orders);
/* Adds the n-grams, and to distinct[order-1] how many of them were new; to but_last (NULL accepted) the same without each order's
 * last n-gram. */
void ngram_distinct(ngram_table *t, const symbols *s, int orders, int64_t *distinct, int64_t *but_last);
/* Clipped matches of a reference's n-grams: match[order-1] grows by what this reference adds to the largest reference count
 * so far, up to the table's count.  stamp: 1, 2, ... for the references of one text. */
void ngram_match(ngram_table *t, const symbols *ref, int orders, int32_t stamp, int64_t *match);

#endif
