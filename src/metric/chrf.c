/* chrF and chrF++ as sacreBLEU 2.x computes them: character n-grams 1..6 without blanks, word n-grams 1..2, beta 2,
 * averaged over the orders that exist (effective order). */
#include "ngram.h"
#include <jpt/metric.h>
#include <string.h>

static bool characters(jpt_str text, symbols *s) {
    for (size_t i = 0; i < text.n;) {
        int32_t cp;
        size_t  len = jpt_utf8_decode(text.p + i, text.n - i, &cp);
        if (!is_space(cp) && !symbols_push(s, ngram_hash(text.p + i, len)))
            return false;
        i += len;
    }
    return true;
}

static bool is_punct(char c) { return c && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", c) != NULL; }

/* sacreBLEU splits one punctuation mark off a word: the last character first, else the first. */
static bool chrf_words(jpt_str text, symbols *s) {
    size_t start = 0;
    bool   ok = true;
    for (size_t i = 0; i <= text.n && ok;) {
        int32_t cp = ' ';
        size_t  len = i < text.n ? jpt_utf8_decode(text.p + i, text.n - i, &cp) : 1;
        if (i == text.n || is_space(cp)) {
            const char *w = text.p + start;
            size_t      n = i - start;
            int32_t     first;
            bool        single = n && jpt_utf8_decode(w, n, &first) == n;
            if (n && !single && is_punct(w[n - 1]))
                ok = symbols_push(s, ngram_hash(w, n - 1)) && symbols_push(s, ngram_hash(w + n - 1, 1));
            else if (n && !single && is_punct(w[0]))
                ok = symbols_push(s, ngram_hash(w, 1)) && symbols_push(s, ngram_hash(w + 1, n - 1));
            else if (n)
                ok = symbols_push(s, ngram_hash(w, n));
            start = i + len;
        }
        i += len;
    }
    return ok;
}

static bool count_orders(const symbols *h, const symbols *r, int orders, int64_t *hyp, int64_t *ref, int64_t *match) {
    for (int n = 1; n <= orders; n++) {
        ngram_table t;
        if (!ngram_init(&t, h->n + r->n)) {
            ngram_fini(&t);
            return false;
        }
        for (size_t i = 0; i + (size_t)n <= h->n; i++)
            t.count[ngram_slot(&t, ngram_join(h->h + i, n))]++;
        for (size_t i = 0; i + (size_t)n <= r->n; i++)
            t.other[ngram_slot(&t, ngram_join(r->h + i, n))]++;
        hyp[n - 1] = ref[n - 1] = match[n - 1] = 0;
        for (size_t s = 0; s < t.cap; s++) {
            hyp[n - 1] += t.count[s];
            ref[n - 1] += t.other[s];
            match[n - 1] += t.count[s] < t.other[s] ? t.count[s] : t.other[s];
        }
        /* without a reference n-gram of this order the hypothesis's do not count either */
        if (ref[n - 1] == 0)
            hyp[n - 1] = 0;
        ngram_fini(&t);
    }
    return true;
}

double jpt_chrf_score(const jpt_chrf_stats *s, int word_order) {
    const double factor = 4, eps = 1e-16; /* beta^2 */
    double       precision = 0, recall = 0;
    int          effective = 0;
    for (int n = 0; n < JPT_CHRF_ORDER + word_order; n++)
        if (s->hyp[n] > 0 && s->ref[n] > 0) {
            precision += (double)s->match[n] / (double)s->hyp[n];
            recall += (double)s->match[n] / (double)s->ref[n];
            effective++;
        }
    if (effective == 0)
        return 0;
    precision /= effective;
    recall /= effective;
    if (precision + recall < eps)
        return 0;
    return 100 * (1 + factor) * precision * recall / (factor * precision + recall);
}

jpt_status jpt_chrf_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, int word_order, jpt_chrf_stats *out, jpt_error *err) {
    symbols hc = {0}, hw = {0};
    double  best = -1;
    bool    ok = characters(hyp, &hc) && chrf_words(hyp, &hw);
    if (n_refs < 1 || (word_order != 0 && word_order != JPT_CHRF_WORDS)) {
        symbols_fini(&hc);
        symbols_fini(&hw);
        return JPT_FAIL(err, ARG, "chrF takes at least one reference and word order 0 or %d", JPT_CHRF_WORDS);
    }
    *out = (jpt_chrf_stats){0};
    for (size_t i = 0; ok && i < n_refs; i++) {
        symbols        rc = {0}, rw = {0};
        jpt_chrf_stats s = {0};
        ok = characters(refs[i], &rc) && chrf_words(refs[i], &rw) && count_orders(&hc, &rc, JPT_CHRF_ORDER, s.hyp, s.ref, s.match) &&
             count_orders(&hw, &rw, word_order, s.hyp + JPT_CHRF_ORDER, s.ref + JPT_CHRF_ORDER, s.match + JPT_CHRF_ORDER);
        double score = jpt_chrf_score(&s, word_order);
        if (ok && score > best) {
            best = score;
            *out = s;
        }
        symbols_fini(&rc);
        symbols_fini(&rw);
    }
    symbols_fini(&hc);
    symbols_fini(&hw);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for chrF");
}

void jpt_chrf_add(jpt_chrf_stats *sum, const jpt_chrf_stats *s) {
    for (int i = 0; i < JPT_CHRF_ALL; i++) {
        sum->hyp[i] += s->hyp[i];
        sum->ref[i] += s->ref[i];
        sum->match[i] += s->match[i];
    }
}
