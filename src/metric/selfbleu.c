/* Self-BLEU in time linear in the words: for every n-gram the largest and the second largest count in one text, so that the
 * largest among the others is known without looking at them again. */
#include "bleu.h"
#include "ngram.h"
#include <jpt/metric.h>
#include <stdlib.h>
#include <string.h>

/* In the table of all texts: count is the largest count in one text, now that text's number, best the largest in another. */
static void note(ngram_table *all, uint64_t key, int32_t count, int32_t text) {
    ngram_slot *s = ngram_add(all, key);
    if (count > s->count) {
        s->best = s->count;
        s->count = count;
        s->now = text;
    } else if (count > s->best) {
        s->best = count;
    }
}

static int by_length(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Closest of the sorted lengths to own, which is one of them and is left out once. */
static int64_t closest_other(const int64_t *sorted, size_t n, int64_t own) {
    const int64_t *p = bsearch(&own, sorted, n, sizeof *sorted, by_length);
    int64_t        best = -1;
    if (p > sorted)
        best = bleu_closest_length(own, best, p[-1]);
    if (p + 1 < sorted + n)
        best = bleu_closest_length(own, best, p[1]);
    return best;
}

jpt_status jpt_self_bleu(const jpt_bleu_options *opt, const jpt_str *text, size_t n, double *score, jpt_error *err) {
    if (n < 2 || n > INT32_MAX)
        return JPT_FAIL(err, ARG, "self-BLEU compares texts with each other: it takes at least 2, not %zu", n);
    symbols    *s = calloc(n, sizeof *s);
    int64_t    *sorted = malloc(n * sizeof *sorted);
    ngram_table all = {0}, one = {0};
    opt = opt ? opt : &(jpt_bleu_options){0};
    bool ok = s && sorted && ngram_init(&all, 1024);
    for (size_t i = 0; ok && i < n; i++) {
        ok = bleu_tokens(text[i], opt, &s[i]) && ngram_init(&one, 4 * s[i].n) && ngram_reserve(&all, 4 * s[i].n);
        if (ok) {
            ngram_count(&one, &s[i], 4);
            for (size_t k = 0; k < one.cap; k++)
                if (one.slot[k].key)
                    note(&all, one.slot[k].key, one.slot[k].count, (int32_t)i);
            sorted[i] = (int64_t)s[i].n;
        }
        ngram_fini(&one);
    }
    if (ok)
        qsort(sorted, n, sizeof *sorted, by_length);
    for (size_t i = 0; ok && i < n; i++) {
        jpt_bleu_stats b = {.hyp_len = (int64_t)s[i].n, .ref_len = closest_other(sorted, n, (int64_t)s[i].n)};
        ok = ngram_init(&one, 4 * s[i].n);
        for (size_t k = 0; ok && k < s[i].n; k++) {
            uint64_t key = NGRAM_START;
            for (size_t o = 0; o < 4 && k + o < s[i].n; o++) {
                key = ngram_extend(key, s[i].h[k + o]);
                const ngram_slot *g = ngram_find(&all, key);
                int32_t           others = g->now == (int32_t)i ? g->best : g->count;
                b.match[o] += ++ngram_add(&one, key)->now <= others;
            }
        }
        for (int o = 1; o <= 4; o++)
            b.total[o - 1] = ngram_total(s[i].n, o);
        score[i] = jpt_bleu_score(&b, true);
        ngram_fini(&one);
    }
    for (size_t i = 0; s && i < n; i++)
        symbols_fini(&s[i]);
    free(s);
    free(sorted);
    ngram_fini(&all);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for self-BLEU of %zu texts", n);
}
