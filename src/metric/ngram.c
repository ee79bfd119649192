#include "ngram.h"
#include <stdlib.h>

bool ngram_init(ngram_table *t, size_t expected) {
    *t = (ngram_table){.cap = 16};
    while (t->cap < 2 * expected + 2)
        t->cap *= 2;
    t->key = calloc(t->cap, sizeof *t->key);
    t->count = calloc(t->cap, sizeof *t->count);
    t->other = calloc(t->cap, sizeof *t->other);
    return t->key && t->count && t->other;
}

void ngram_fini(ngram_table *t) {
    free(t->key);
    free(t->count);
    free(t->other);
    *t = (ngram_table){0};
}

size_t ngram_slot(ngram_table *t, uint64_t key) {
    key += key == 0; /* 0 marks a free slot */
    size_t i = (size_t)(key ^ key >> 32) & (t->cap - 1);
    while (t->key[i] && t->key[i] != key)
        i = (i + 1) & (t->cap - 1);
    if (!t->key[i]) {
        t->key[i] = key;
        t->n++;
    }
    return i;
}

static uint64_t mix(uint64_t x) { /* splitmix64's finaliser */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t ngram_hash(const char *p, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n;
    for (size_t i = 0; i < n; i++)
        h = mix(h ^ (uint8_t)p[i]) + 0x9e3779b97f4a7c15u;
    return mix(h);
}

uint64_t ngram_join(const uint64_t *h, int n) {
    uint64_t x = (uint64_t)n * 0x9e3779b97f4a7c15u;
    for (int i = 0; i < n; i++)
        x = mix(x ^ h[i]) + 0x9e3779b97f4a7c15u;
    return x;
}

bool symbols_push(symbols *s, uint64_t h) {
    if (s->n == s->cap) {
        size_t    cap = s->cap ? 2 * s->cap : 64;
        uint64_t *p = realloc(s->h, cap * sizeof *p);
        if (!p)
            return false;
        s->h = p;
        s->cap = cap;
    }
    s->h[s->n++] = h;
    return true;
}

void symbols_fini(symbols *s) {
    free(s->h);
    *s = (symbols){0};
}

bool is_space(int32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool symbols_words(symbols *s, jpt_str text) {
    size_t start = 0;
    for (size_t i = 0; i <= text.n;) {
        int32_t cp = ' ';
        size_t  len = i < text.n ? jpt_utf8_decode(text.p + i, text.n - i, &cp) : 1;
        if (i == text.n || is_space(cp)) {
            if (i > start && !symbols_push(s, ngram_hash(text.p + start, i - start)))
                return false;
            start = i + len;
        }
        i += len;
    }
    return true;
}
