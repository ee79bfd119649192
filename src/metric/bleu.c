/* BLEU as sacreBLEU 2.x computes it: 13a tokenisation, clipped n-gram counts, closest reference length, "exp" smoothing. */
#include "ngram.h"
#include <jpt/metric.h>
#include <math.h>
#include <string.h>

/* ---- mteval-v13a ------------------------------------------------------------------------------------------ */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Characters that always stand alone: !"#$%&()*+/:;<=>?@[\]^_`{|}~ (the ranges of mteval-v13a.pl) */
static bool stands_alone(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

static void replace_all(jpt_buf *b, const char *from, const char *to) {
    jpt_buf out = {0};
    size_t  n = strlen(from);
    for (size_t i = 0; i < b->n;)
        if (i + n <= b->n && memcmp(b->p + i, from, n) == 0) {
            jpt_buf_addz(&out, to);
            i += n;
        } else {
            jpt_buf_addc(&out, b->p[i++]);
        }
    out.oom |= b->oom;
    jpt_buf_fini(b);
    *b = out;
}

/* Length without white space at the end. */
static size_t trimmed(jpt_str text) {
    size_t end = 0;
    for (size_t i = 0; i < text.n;) {
        int32_t cp;
        i += jpt_utf8_decode(text.p + i, text.n - i, &cp);
        if (!is_space(cp))
            end = i;
    }
    return end;
}

void jpt_bleu_tokenize_13a(jpt_str text, jpt_buf *out) {
    jpt_buf a = {0}, b = {0};
    text.n = trimmed(text); /* sacreBLEU strips the end of a segment first */
    jpt_buf_addc(&a, ' ');
    jpt_buf_add(&a, text.p, text.n);
    jpt_buf_addc(&a, ' ');
    replace_all(&a, "<skipped>", "");
    replace_all(&a, "-\n", "");
    replace_all(&a, "\n", " ");
    if (memchr(a.p ? a.p : "", '&', a.n)) {
        replace_all(&a, "&quot;", "\"");
        replace_all(&a, "&amp;", "&");
        replace_all(&a, "&lt;", "<");
        replace_all(&a, "&gt;", ">");
    }
    /* each rule is one pass of a non-overlapping regular expression, left to right */
    for (size_t i = 0; i < a.n; i++) {
        if (stands_alone(a.p[i])) {
            jpt_buf_addc(&b, ' ');
            jpt_buf_addc(&b, a.p[i]);
            jpt_buf_addc(&b, ' ');
        } else {
            jpt_buf_addc(&b, a.p[i]);
        }
    }
    jpt_buf_reset(&a);
    for (size_t i = 0; i < b.n;) { /* ([^0-9])([.,]) -> \1 \2_ */
        int32_t cp;
        size_t  len = jpt_utf8_decode(b.p + i, b.n - i, &cp);
        if (!is_digit(b.p[i]) && i + len < b.n && (b.p[i + len] == '.' || b.p[i + len] == ',')) {
            jpt_buf_add(&a, b.p + i, len);
            jpt_buf_addc(&a, ' ');
            jpt_buf_addc(&a, b.p[i + len]);
            jpt_buf_addc(&a, ' ');
            i += len + 1;
        } else {
            jpt_buf_add(&a, b.p + i, len);
            i += len;
        }
    }
    jpt_buf_reset(&b);
    for (size_t i = 0; i < a.n;) { /* ([.,])([^0-9]) -> _\1 \2 */
        int32_t cp;
        if ((a.p[i] == '.' || a.p[i] == ',') && i + 1 < a.n && !is_digit(a.p[i + 1])) {
            size_t len = jpt_utf8_decode(a.p + i + 1, a.n - i - 1, &cp);
            jpt_buf_addc(&b, ' ');
            jpt_buf_addc(&b, a.p[i]);
            jpt_buf_addc(&b, ' ');
            jpt_buf_add(&b, a.p + i + 1, len);
            i += 1 + len;
        } else {
            jpt_buf_addc(&b, a.p[i++]);
        }
    }
    jpt_buf_reset(&a);
    for (size_t i = 0; i < b.n; i++) { /* ([0-9])(-) -> \1 \2_ */
        jpt_buf_addc(&a, b.p[i]);
        if (is_digit(b.p[i]) && i + 1 < b.n && b.p[i + 1] == '-') {
            jpt_buf_addz(&a, " - ");
            i++;
        }
    }
    bool pending = false, any = false;
    for (size_t i = 0; i < a.n;) { /* split at white space, join with one blank */
        int32_t cp;
        size_t  len = jpt_utf8_decode(a.p + i, a.n - i, &cp);
        if (is_space(cp)) {
            pending = any;
        } else {
            if (pending)
                jpt_buf_addc(out, ' ');
            jpt_buf_add(out, a.p + i, len);
            pending = false;
            any = true;
        }
        i += len;
    }
    out->oom |= a.oom || b.oom;
    jpt_buf_fini(&a);
    jpt_buf_fini(&b);
}

/* ---- statistics ---------------------------------------------------------------------------------------------- */

static bool tokens_of(jpt_str text, symbols *s) {
    jpt_buf b = {0};
    jpt_bleu_tokenize_13a(text, &b);
    bool ok = !b.oom && symbols_words(s, (jpt_str){b.p ? b.p : "", b.n});
    jpt_buf_fini(&b);
    return ok;
}

static bool count_segment(const symbols *hyp, const symbols *ref, size_t n_refs, jpt_bleu_stats *out) {
    size_t all = hyp->n;
    for (size_t r = 0; r < n_refs; r++)
        all += ref[r].n;
    for (int order = 1; order <= 4; order++) {
        ngram_table t;
        bool        ok = ngram_init(&t, all);
        for (size_t i = 0; ok && i + (size_t)order <= hyp->n; i++)
            t.count[ngram_slot(&t, ngram_join(hyp->h + i, order))]++;
        for (size_t r = 0; ok && r < n_refs; r++) {
            ngram_table one;
            ok = ngram_init(&one, ref[r].n);
            for (size_t i = 0; ok && i + (size_t)order <= ref[r].n; i++) {
                uint64_t key = ngram_join(ref[r].h + i, order);
                int64_t  c = ++one.count[ngram_slot(&one, key)];
                size_t   s = ngram_slot(&t, key);
                t.other[s] = c > t.other[s] ? c : t.other[s];
            }
            ngram_fini(&one);
        }
        for (size_t s = 0; ok && s < t.cap; s++)
            out->match[order - 1] += t.count[s] < t.other[s] ? t.count[s] : t.other[s];
        out->total[order - 1] = (int64_t)hyp->n - order + 1 > 0 ? (int64_t)hyp->n - order + 1 : 0;
        ngram_fini(&t);
        if (!ok)
            return false;
    }
    return true;
}

jpt_status jpt_bleu_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out, jpt_error *err) {
    enum { REFS_MAX = 32 };
    symbols h = {0}, r[REFS_MAX] = {0};
    *out = (jpt_bleu_stats){0};
    if (n_refs < 1 || n_refs > REFS_MAX)
        return JPT_FAIL(err, ARG, "BLEU takes 1 to %d references a segment, not %zu", REFS_MAX, n_refs);
    bool ok = tokens_of(hyp, &h);
    for (size_t i = 0; ok && i < n_refs; i++)
        ok = tokens_of(refs[i], &r[i]);
    ok = ok && count_segment(&h, r, n_refs, out);
    out->hyp_len = (int64_t)h.n;
    int64_t best = -1;
    for (size_t i = 0; i < n_refs; i++) {
        int64_t len = (int64_t)r[i].n, d = len > out->hyp_len ? len - out->hyp_len : out->hyp_len - len;
        int64_t b = best > out->hyp_len ? best - out->hyp_len : out->hyp_len - best;
        if (best < 0 || d < b || (d == b && len < best))
            best = len;
    }
    out->ref_len = best;
    symbols_fini(&h);
    for (size_t i = 0; i < n_refs; i++)
        symbols_fini(&r[i]);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for BLEU");
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

double jpt_bleu_score(const jpt_bleu_stats *s, bool effective_order) { return jpt_bleu_score_smoothed(s, effective_order, JPT_BLEU_EXP, 0); }
