/* BLEU as sacreBLEU 2.x computes it: its tokenisers, clipped n-gram counts, closest reference length, its smoothing; and the
 * smoothed BLEU-4 of code summaries (CodeXGLUE). */
#include "bleu.h"
#include <float.h>
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void tokenize(jpt_str text, const jpt_bleu_options *opt, jpt_buf *out) {
    jpt_buf low = {0};
    if (opt->lowercase) {
        text_lower(text, &low);
        text = text_of(&low);
    }
    text = text_rstrip(text);
    switch (opt->tokenizer) {
    case JPT_BLEU_TOK_13A: tokenize_13a(text, out); break;
    case JPT_BLEU_TOK_INTL: tokenize_intl(text, out); break;
    case JPT_BLEU_TOK_ZH: tokenize_zh(text, out); break;
    case JPT_BLEU_TOK_CHAR: tokenize_char(text, out); break;
    case JPT_BLEU_TOK_NONE: jpt_buf_add(out, text.p, text.n); break;
    }
    out->oom |= low.oom;
    jpt_buf_fini(&low);
}

void jpt_bleu_tokenize(jpt_str text, const jpt_bleu_options *opt, jpt_buf *out) {
    jpt_buf b = {0};
    tokenize(text, opt ? opt : &(jpt_bleu_options){0}, &b);
    jpt_str word, t = text_of(&b);
    bool    any = false;
    for (size_t at = 0; text_next_word(t, &at, &word); any = true) {
        if (any)
            jpt_buf_addc(out, ' ');
        jpt_buf_add(out, word.p, word.n);
    }
    out->oom |= b.oom;
    jpt_buf_fini(&b);
}

bool bleu_tokens(jpt_str text, const jpt_bleu_options *opt, symbols *s) {
    jpt_buf b = {0};
    tokenize(text, opt, &b);
    bool ok = !b.oom && symbols_words(s, text_of(&b));
    jpt_buf_fini(&b);
    return ok;
}

int64_t bleu_closest_length(int64_t hyp, int64_t best, int64_t len) {
    int64_t d = llabs(hyp - len), b = llabs(hyp - best);
    return best < 0 || d < b || (d == b && len < best) ? len : best;
}

jpt_status jpt_bleu_segment_as(const jpt_bleu_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out,
                               jpt_error *err) {
    symbols     h = {0};
    ngram_table t = {0};
    *out = (jpt_bleu_stats){.ref_len = -1};
    if (n_refs < 1)
        return JPT_FAIL(err, ARG, "BLEU takes at least one reference a segment");
    opt = opt ? opt : &(jpt_bleu_options){0};
    bool ok = bleu_tokens(hyp, opt, &h) && ngram_init(&t, h.n * 4);
    if (ok)
        ngram_count(&t, &h, 4);
    out->hyp_len = (int64_t)h.n;
    for (int n = 1; n <= 4; n++)
        out->total[n - 1] = ngram_total(h.n, n);
    for (size_t i = 0; ok && i < n_refs; i++) {
        symbols r = {0};
        ok = bleu_tokens(refs[i], opt, &r);
        if (ok)
            ngram_match(&t, &r, 4, (int32_t)i + 1, out->match);
        out->ref_len = bleu_closest_length(out->hyp_len, out->ref_len, (int64_t)r.n);
        symbols_fini(&r);
    }
    symbols_fini(&h);
    ngram_fini(&t);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for BLEU");
}

jpt_status jpt_bleu_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out, jpt_error *err) {
    return jpt_bleu_segment_as(NULL, hyp, refs, n_refs, out, err);
}

void jpt_bleu_add(jpt_bleu_stats *sum, const jpt_bleu_stats *s) {
    for (int i = 0; i < 4; i++) {
        sum->match[i] += s->match[i];
        sum->total[i] += s->total[i];
    }
    sum->hyp_len += s->hyp_len;
    sum->ref_len += s->ref_len;
}

double jpt_bleu_score_smoothed(const jpt_bleu_stats *s, bool effective_order, jpt_bleu_smoothing smoothing, double value) {
    double halving = 1, log_sum = 0;
    int    order = effective_order ? 0 : 4, n = 0;
    if (s->match[0] + s->match[1] + s->match[2] + s->match[3] == 0)
        return 0;
    for (; n < 4; n++) {
        double k = smoothing == JPT_BLEU_ADD_K && n > 0 ? value : 0;
        double match = (double)s->match[n] + k, total = (double)s->total[n] + k, p;
        if (total == 0)
            break;
        if (effective_order)
            order = n + 1;
        if (match > 0)
            p = 100 * match / total;
        else if (smoothing == JPT_BLEU_EXP)
            p = 100 / ((halving *= 2) * total);
        else if (smoothing == JPT_BLEU_FLOOR)
            p = 100 * value / total;
        else
            p = 0;
        if (p <= 0)
            return 0;
        log_sum += log(p);
    }
    if (n < order) /* an order without any n-gram: a precision of 0 */
        return 0;
    double brevity = 1;
    if (s->hyp_len < s->ref_len)
        brevity = s->hyp_len > 0 ? exp(1 - (double)s->ref_len / (double)s->hyp_len) : 0;
    return brevity * exp(log_sum / order);
}

double jpt_bleu_score(const jpt_bleu_stats *s, bool effective_order) {
    return jpt_bleu_score_smoothed(s, effective_order, JPT_BLEU_EXP, 0);
}

/* ---- code summaries ------------------------------------------------------------------------------------- */

jpt_status jpt_bleu_code_summary(jpt_str hyp, const jpt_str *refs, size_t n_refs, double *out, jpt_error *err) {
    symbols     h = {0};
    ngram_table t = {0};
    jpt_buf     b = {0};
    int64_t     match[4] = {0}, ref_len = INT64_MAX;
    if (n_refs < 1)
        return JPT_FAIL(err, ARG, "smoothed BLEU-4 takes at least one reference a segment");
    tokenize_code_summary(hyp, &b);
    bool ok = !b.oom && symbols_words(&h, text_of(&b)) && ngram_init(&t, h.n * 4);
    if (ok)
        ngram_count(&t, &h, 4);
    for (size_t i = 0; ok && i < n_refs; i++) {
        symbols r = {0};
        jpt_buf_reset(&b);
        tokenize_code_summary(refs[i], &b);
        ok = !b.oom && symbols_words(&r, text_of(&b));
        if (ok)
            ngram_match(&t, &r, 4, (int32_t)i + 1, match);
        ref_len = (int64_t)r.n < ref_len ? (int64_t)r.n : ref_len; /* the shortest reference */
        symbols_fini(&r);
    }
    if (ok) {
        double sum = 0;
        for (int n = 1; n <= 4; n++) {
            double smooth = n > 1;
            sum += log((double)match[n - 1] + smooth + DBL_MIN) - log((double)ngram_total(h.n, n) + smooth + DBL_MIN);
        }
        *out = 100 * exp(sum / 4 + fmin(0, 1 - (double)(ref_len + 1) / (double)(h.n + 1)));
    }
    symbols_fini(&h);
    ngram_fini(&t);
    jpt_buf_fini(&b);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for smoothed BLEU-4");
}
