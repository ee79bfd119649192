/* chrF and chrF++ as sacreBLEU 2.x computes them: character n-grams 1..6, word n-grams 1..2, beta 2. */
#include "ngram.h"
#include <jpt/metric.h>
#include <string.h>

static bool characters(jpt_str text, bool whitespace, symbols *s) {
    size_t len;
    for (size_t i = 0; i < text.n; i += len) {
        int32_t cp = text_char(text, i, &len);
        if ((whitespace || !is_space(cp)) && !symbols_push(s, ngram_hash_char(cp, text.p[i])))
            return false;
    }
    return true;
}

/* sacreBLEU splits one punctuation mark off a word: the last character first, else the first. */
static bool chrf_words(jpt_str text, symbols *s) {
    jpt_str w;
    bool    ok = true;
    for (size_t at = 0; ok && text_next_word(text, &at, &w);) {
        size_t first;
        text_char(w, 0, &first);
        bool single = first == w.n;
        if (!single && is_ascii_punct(w.p[w.n - 1]))
            ok = symbols_push(s, ngram_hash(w.p, w.n - 1)) && symbols_push(s, ngram_hash(w.p + w.n - 1, 1));
        else if (!single && is_ascii_punct(w.p[0]))
            ok = symbols_push(s, ngram_hash(w.p, 1)) && symbols_push(s, ngram_hash(w.p + 1, w.n - 1));
        else
            ok = symbols_push(s, ngram_hash(w.p, w.n));
    }
    return ok;
}

static bool symbols_of(jpt_str text, const jpt_chrf_options *opt, symbols *chars, symbols *words) {
    jpt_buf low = {0};
    if (opt->lowercase) {
        text_lower(text, &low);
        text = text_of(&low);
    }
    bool ok = !low.oom && characters(text, opt->whitespace, chars) && (opt->word_order == 0 || chrf_words(text, words));
    jpt_buf_fini(&low);
    return ok;
}

double jpt_chrf_score_as(const jpt_chrf_options *opt, const jpt_chrf_stats *s) {
    const double factor = 4, eps = 1e-16; /* beta^2 */
    double       precision = 0, recall = 0, sum = 0;
    int          effective = 0, orders = JPT_CHRF_ORDER + opt->word_order;
    for (int n = 0; n < orders; n++) {
        double p = s->hyp[n] > 0 ? (double)s->match[n] / (double)s->hyp[n] : eps,
               r = s->ref[n] > 0 ? (double)s->match[n] / (double)s->ref[n] : eps;
        double denom = factor * p + r;
        sum += denom > 0 ? (1 + factor) * p * r / denom : eps;
        if (s->hyp[n] > 0 && s->ref[n] > 0) {
            precision += p;
            recall += r;
            effective++;
        }
    }
    if (opt->eps_smoothing)
        return 100 * sum / orders;
    if (effective == 0 || precision + recall == 0)
        return 0;
    precision /= effective;
    recall /= effective;
    return 100 * ((1 + factor) * precision * recall / (factor * precision + recall));
}

double jpt_chrf_score(const jpt_chrf_stats *s, int word_order) {
    return jpt_chrf_score_as(&(jpt_chrf_options){.word_order = word_order}, s);
}

jpt_status jpt_chrf_segment_as(const jpt_chrf_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_chrf_stats *out,
                               jpt_error *err) {
    symbols     hc = {0}, hw = {0};
    ngram_table tc = {0}, tw = {0};
    double      best = -1;
    opt = opt ? opt : &(jpt_chrf_options){0};
    if (n_refs < 1 || opt->word_order < 0 || opt->word_order > JPT_CHRF_WORDS)
        return JPT_FAIL(err, ARG, "chrF takes at least one reference and word order 0 to %d", JPT_CHRF_WORDS);
    bool ok = symbols_of(hyp, opt, &hc, &hw) && ngram_init(&tc, hc.n * JPT_CHRF_ORDER) && ngram_init(&tw, hw.n * JPT_CHRF_WORDS);
    if (ok) {
        ngram_count(&tc, &hc, JPT_CHRF_ORDER);
        ngram_count(&tw, &hw, opt->word_order);
    }
    *out = (jpt_chrf_stats){0};
    for (size_t i = 0; ok && i < n_refs; i++) {
        symbols        rc = {0}, rw = {0};
        jpt_chrf_stats s = {0};
        ok = symbols_of(refs[i], opt, &rc, &rw);
        if (ok && i > 0) { /* each reference for itself */
            for (size_t k = 0; k < tc.cap; k++)
                tc.slot[k].best = 0;
            for (size_t k = 0; k < tw.cap; k++)
                tw.slot[k].best = 0;
        }
        if (ok) {
            ngram_match(&tc, &rc, JPT_CHRF_ORDER, (int32_t)i + 1, s.match);
            ngram_match(&tw, &rw, opt->word_order, (int32_t)i + 1, s.match + JPT_CHRF_ORDER);
        }
        for (int n = 0; n < JPT_CHRF_ORDER + opt->word_order; n++) {
            bool word = n >= JPT_CHRF_ORDER;
            int  order = word ? n - JPT_CHRF_ORDER + 1 : n + 1;
            s.ref[n] = ngram_total(word ? rw.n : rc.n, order);
            /* without a reference n-gram of this order the hypothesis's do not count either */
            s.hyp[n] = s.ref[n] ? ngram_total(word ? hw.n : hc.n, order) : 0;
        }
        double score = jpt_chrf_score_as(opt, &s);
        if (ok && score > best) {
            best = score;
            *out = s;
        }
        symbols_fini(&rc);
        symbols_fini(&rw);
    }
    symbols_fini(&hc);
    symbols_fini(&hw);
    ngram_fini(&tc);
    ngram_fini(&tw);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for chrF");
}

jpt_status jpt_chrf_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, int word_order, jpt_chrf_stats *out,
                            jpt_error *err) {
    return jpt_chrf_segment_as(&(jpt_chrf_options){.word_order = word_order}, hyp, refs, n_refs, out, err);
}

void jpt_chrf_add(jpt_chrf_stats *sum, const jpt_chrf_stats *s) {
    for (int i = 0; i < JPT_CHRF_ALL; i++) {
        sum->hyp[i] += s->hyp[i];
        sum->ref[i] += s->ref[i];
        sum->match[i] += s->match[i];
    }
}
