#include "ngram.h"
#include <stdlib.h>
#include <string.h>

bool ngram_init(ngram_table *t, size_t expected) {
    *t = (ngram_table){.cap = 16};
    while (t->cap < 2 * expected + 2)
        t->cap *= 2;
    t->slot = calloc(t->cap, sizeof *t->slot);
    return t->slot != NULL;
}

void ngram_fini(ngram_table *t) {
    free(t->slot);
    *t = (ngram_table){0};
}

static inline size_t home(const ngram_table *t, uint64_t key) { return (size_t)(key ^ key >> 32) & (t->cap - 1); }

ngram_slot *ngram_add(ngram_table *t, uint64_t key) {
    key += key == 0;
    size_t i = home(t, key);
    while (t->slot[i].key && t->slot[i].key != key)
        i = (i + 1) & (t->cap - 1);
    if (!t->slot[i].key) {
        t->slot[i].key = key;
        t->n++;
    }
    return &t->slot[i];
}

ngram_slot *ngram_find(const ngram_table *t, uint64_t key) {
    key += key == 0;
    for (size_t i = home(t, key); t->slot[i].key; i = (i + 1) & (t->cap - 1))
        if (t->slot[i].key == key)
            return &t->slot[i];
    return NULL;
}

bool ngram_reserve(ngram_table *t, size_t more) {
    if (2 * (t->n + more) + 2 <= t->cap)
        return true;
    ngram_table bigger;
    if (!ngram_init(&bigger, 2 * (t->n + more)))
        return false;
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i].key)
            *ngram_add(&bigger, t->slot[i].key) = t->slot[i];
    free(t->slot);
    *t = bigger;
    return true;
}

void ngram_distinct(ngram_table *t, const symbols *s, int orders, int64_t *distinct, int64_t *but_last) {
    for (size_t i = 0; i < s->n; i++) {
        uint64_t key = NGRAM_START;
        for (int n = 0; n < orders && i + (size_t)n < s->n; n++) {
            size_t before = t->n;
            key = ngram_extend(key, s->h[i + (size_t)n]);
            ngram_add(t, key);
            distinct[n] += t->n > before;
            if (but_last && i + (size_t)n + 1 < s->n)
                but_last[n] += t->n > before;
        }
    }
}

void ngram_count(ngram_table *t, const symbols *s, int orders) {
    for (size_t i = 0; i < s->n; i++) {
        uint64_t key = NGRAM_START;
        for (int n = 0; n < orders && i + (size_t)n < s->n; n++) {
            key = ngram_extend(key, s->h[i + (size_t)n]);
            ngram_add(t, key)->count++;
        }
    }
}

void ngram_match(ngram_table *t, const symbols *ref, int orders, int32_t stamp, int64_t *match) {
    for (size_t i = 0; i < ref->n; i++) {
        uint64_t key = NGRAM_START;
        for (int n = 0; n < orders && i + (size_t)n < ref->n; n++) {
            key = ngram_extend(key, ref->h[i + (size_t)n]);
            ngram_slot *s = ngram_find(t, key);
            if (!s)
                break; /* what the text lacks it lacks with every continuation */
            if (s->stamp != stamp) {
                s->stamp = stamp;
                s->now = 0;
            }
            if (++s->now > s->best) {
                s->best = s->now;
                match[n] += s->best <= s->count;
            }
        }
    }
}

uint64_t ngram_hash(const char *p, size_t n) {
    uint64_t h = NGRAM_START ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = ngram_mix(h ^ w) + NGRAM_START;
    }
    w = 0;
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)(uint8_t)p[i] << 8 * i;
    return ngram_mix(h ^ w);
}

uint64_t ngram_hash_char(int32_t cp, char invalid_byte) {
    return ngram_mix((cp < 0 ? 0x110000u + (uint8_t)invalid_byte : (uint64_t)cp) + NGRAM_START);
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

bool symbols_words(symbols *s, jpt_str text) {
    jpt_str word;
    for (size_t at = 0; text_next_word(text, &at, &word);)
        if (!symbols_push(s, ngram_hash(word.p, word.n)))
            return false;
    return true;
}
