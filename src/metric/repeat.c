/* Repetition and diversity of texts, self-BLEU, likelihoods. */
#include "ngram.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static jpt_status repetition(symbols s, bool ok, jpt_repetition *out, jpt_error *err) {
    int64_t     distinct[4] = {0};
    ngram_table t = {0};
    *out = (jpt_repetition){.diversity = 1, .n_words = (int64_t)s.n};
    if ((ok = ok && ngram_init(&t, 4 * s.n)))
        ngram_distinct(&t, &s, 4, distinct, NULL);
    for (int n = 1; n <= 4; n++) {
        double ratio = ngram_total(s.n, n) ? (double)distinct[n - 1] / (double)ngram_total(s.n, n) : NAN;
        if (n <= 3)
            out->distinct[n - 1] = ratio;
        if (n >= 2) {
            out->rep[n - 2] = 1 - ratio;
            out->diversity *= ratio;
        }
    }
    ngram_fini(&t);
    symbols_fini(&s);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for n-grams");
}

jpt_status jpt_repetition_of(jpt_str text, jpt_repetition *out, jpt_error *err) {
    symbols s = {0};
    bool    ok = symbols_words(&s, text);
    return repetition(s, ok, out, err);
}

jpt_status jpt_repetition_of_ids(const int32_t *id, size_t n, jpt_repetition *out, jpt_error *err) {
    symbols s = {0};
    bool    ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = symbols_push(&s, ngram_hash((const char *)&id[i], sizeof id[i]));
    return repetition(s, ok, out, err);
}

/* ---- a corpus -------------------------------------------------------------------------------------------- */

static double ratio(int64_t a, int64_t b) { return b ? (double)a / (double)b : NAN; }

/* Python's round(x, 2). */
static double round_2(double x) {
    char text[64];
    if (isnan(x))
        return x;
    snprintf(text, sizeof text, "%.2f", x);
    return strtod(text, NULL);
}

static int descending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y);
}

/* Minus the slope of the least-squares line through (log rank, log count). */
static double zipf_of(int32_t *count, size_t n) {
    enum { WORDS = 5000 };
    qsort(count, n, sizeof *count, descending);
    n = n < WORDS ? n : WORDS;
    double mx = 0, my = 0, xy = 0, xx = 0;
    for (size_t i = 0; i < n; i++) {
        mx += log((double)i + 1) / (double)n;
        my += log(count[i]) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        double x = log((double)i + 1) - mx;
        xy += x * (log(count[i]) - my);
        xx += x * x;
    }
    return n >= 2 ? -xy / xx : NAN;
}

jpt_status jpt_corpus_repetition_of(const jpt_str *text, size_t n, jpt_corpus_repetition *out, jpt_error *err) {
    int64_t     unique[4] = {0}, total[4] = {0}, unique_short[4] = {0}, total_short[4] = {0}, everywhere[4] = {0};
    ngram_table all = {0}, words = {0};
    int32_t    *count = NULL;
    bool        ok = ngram_init(&all, 1024) && ngram_init(&words, 1024);
    *out = (jpt_corpus_repetition){.n_texts = (int64_t)n, .diversity = 1, .diversity_simctg = 1};
    for (size_t i = 0; ok && i < n; i++) {
        symbols     s = {0};
        ngram_table one = {0};
        ok =
            symbols_words(&s, text[i]) && ngram_init(&one, 4 * s.n) && ngram_reserve(&all, 4 * s.n) && ngram_reserve(&words, s.n);
        if (ok) {
            for (size_t k = 0; k < s.n; k++)
                ngram_add(&words, ngram_extend(NGRAM_START, s.h[k]))->count++;
            ngram_distinct(&all, &s, 4, everywhere, NULL);
            for (int order = 1; order <= 4; order++) {
                total[order - 1] += ngram_total(s.n, order);
                total_short[order - 1] += ngram_total(s.n, order + 1);
            }
            ngram_distinct(&one, &s, 4, unique, unique_short);
        }
        out->n_words += (int64_t)s.n;
        out->n_empty += s.n == 0;
        ngram_fini(&one);
        symbols_fini(&s);
    }
    for (int order = 1; order <= 4; order++) {
        out->distinct[order - 1] = ratio(everywhere[order - 1], total[order - 1]);
        if (order >= 2) {
            double kept = ratio(unique[order - 1], total[order - 1]),
                   rounded = round_2(100 * (1 - ratio(unique_short[order - 1], total_short[order - 1]))) / 100;
            out->rep[order - 2] = 1 - kept;
            out->diversity *= kept;
            out->rep_simctg[order - 2] = rounded;
            out->diversity_simctg *= 1 - rounded;
        }
    }
    out->mean_words = ratio(out->n_words, out->n_texts);
    out->n_distinct_words = (int64_t)words.n;
    ok = ok && (count = malloc((words.n + 1) * sizeof *count));
    if (ok) {
        size_t k = 0;
        for (size_t i = 0; i < words.cap; i++)
            if (words.slot[i].key)
                count[k++] = words.slot[i].count;
        out->zipf = zipf_of(count, k);
    }
    free(count);
    ngram_fini(&all);
    ngram_fini(&words);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for n-grams of %zu texts", n);
}

double jpt_truncation_rate(const int64_t *length, size_t n, int64_t cap) {
    int64_t cut = 0;
    for (size_t i = 0; i < n; i++)
        cut += length[i] >= cap;
    return ratio(cut, (int64_t)n);
}

/* ---- likelihood ------------------------------------------------------------------------------------------ */

double jpt_perplexity(double nll, int64_t n) { return n > 0 ? exp(nll / (double)n) : NAN; }
double jpt_bits_per_byte(double nll, int64_t n_bytes) { return n_bytes > 0 ? nll / ((double)n_bytes * log(2)) : NAN; }
