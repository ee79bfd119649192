/* ROUGE (Lin 2004) with rouge-score's numbers: its tokeniser, ROUGE-1, ROUGE-2, ROUGE-L and the summary-level ROUGE-Lsum. */
#include "ngram.h"
#include "porter.h"
#include <jpt/metric.h>
#include <stdlib.h>
#include <string.h>

/* Runs of a-z and 0-9 of the lower-cased text; words of more than 3 letters are stemmed on request. */
static bool tokens_of(jpt_str text, bool stem, symbols *s) {
    jpt_buf low = {0};
    bool    ok = true;
    text_lower(text, &low);
    for (size_t i = 0, start = 0; ok && i <= low.n; i++) {
        bool in = i < low.n && ((low.p[i] >= 'a' && low.p[i] <= 'z') || is_digit(low.p[i]));
        if (in)
            continue;
        size_t n = i - start;
        if (n && stem && n > 3 && n < PORTER_MAX - 2) {
            char w[PORTER_MAX];
            memcpy(w, low.p + start, n);
            n = porter_stem(w, n);
            ok = symbols_push(s, ngram_hash(w, n));
        } else if (n) {
            ok = symbols_push(s, ngram_hash(low.p + start, n));
        }
        start = i + 1;
    }
    ok = ok && !low.oom;
    jpt_buf_fini(&low);
    return ok;
}

static jpt_prf score(double hits, double n_hyp, double n_ref) {
    jpt_prf s = {.precision = hits / (n_hyp > 1 ? n_hyp : 1), .recall = hits / (n_ref > 1 ? n_ref : 1)};
    if (s.precision + s.recall > 0)
        s.f = 2 * s.precision * s.recall / (s.precision + s.recall);
    return s;
}

/* ---- longest common subsequences ------------------------------------------------------------------------ */

/* The way back through the table of lengths: bit (i - 1) * n_hyp + j - 1 says that length[i][j - 1] > length[i - 1][j].  A bit a cell, so
 * that a book as one sentence costs 1/32 of the lengths themselves. */
static bool lcs_ways(const uint64_t *ref, size_t n_ref, const uint64_t *hyp, size_t n_hyp, uint64_t **left) {
    size_t    cells;
    uint32_t *rows = calloc(2 * (n_hyp + 1), sizeof *rows), *above = rows, *row = rows + n_hyp + 1;
    *left = rows && jpt_mul_size(n_ref, n_hyp, &cells) ? calloc(cells / 64 + 1, sizeof **left) : NULL;
    for (size_t i = 0, at = 0; *left && i < n_ref; i++) {
        uint32_t *swap = above;
        for (size_t j = 1; j <= n_hyp; j++, at++) {
            bool is_left = row[j - 1] > above[j];
            row[j] = ref[i] == hyp[j - 1] ? above[j - 1] + 1 : is_left ? row[j - 1] : above[j];
            (*left)[at / 64] |= (uint64_t)is_left << at % 64;
        }
        above = row;
        row = swap;
    }
    free(rows);
    return *left != NULL;
}

static bool rouge_l(const symbols *ref, const symbols *hyp, jpt_prf *out) {
    uint32_t *rows = calloc(2 * (hyp->n + 1), sizeof *rows);
    if (!rows)
        return false;
    uint32_t *above = rows, *row = rows + hyp->n + 1;
    for (size_t i = 0; i < ref->n; i++) {
        uint32_t *swap = above;
        for (size_t j = 1; j <= hyp->n; j++)
            row[j] = ref->h[i] == hyp->h[j - 1] ? above[j - 1] + 1 : above[j] > row[j - 1] ? above[j] : row[j - 1];
        above = row;
        row = swap;
    }
    *out = score(above[hyp->n], (double)hyp->n, (double)ref->n);
    free(rows);
    return true;
}

typedef struct sentences {
    symbols all; /* of every sentence, one after the other */
    size_t *end;
    size_t  n;
} sentences;

static bool sentences_of(jpt_str text, bool stem, sentences *s) {
    size_t lines = 1;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    if (!(s->end = malloc(lines * sizeof *s->end)))
        return false;
    for (size_t at = 0; at < text.n;) {
        const char *eol = memchr(text.p + at, '\n', text.n - at);
        size_t      n = eol ? (size_t)(eol - text.p) - at : text.n - at;
        if (!tokens_of((jpt_str){text.p + at, n}, stem, &s->all))
            return false;
        s->end[s->n++] = s->all.n;
        at += n + 1;
    }
    return true;
}

/* For each reference sentence the union of its longest common subsequences with the hypothesis's sentences; a hit uses up one of
 * the token's occurrences on both sides. */
static bool rouge_lsum(const sentences *ref, const sentences *hyp, jpt_prf *out) {
    ngram_table unused;
    double      hits = 0;
    bool        ok = ngram_init(&unused, ref->all.n + hyp->all.n), *in_union = calloc(ref->all.n + 1, 1);
    ok = ok && in_union;
    for (size_t i = 0; ok && i < hyp->all.n; i++)
        ngram_add(&unused, hyp->all.h[i])->count++;
    for (size_t i = 0; ok && i < ref->all.n; i++)
        ngram_add(&unused, ref->all.h[i])->best++;
    for (size_t r = 0, start = 0; ok && r < ref->n; start = ref->end[r++]) {
        const uint64_t *a = ref->all.h + start;
        size_t          n = ref->end[r] - start;
        for (size_t c = 0, from = 0; ok && n && c < hyp->n; from = hyp->end[c++]) {
            const uint64_t *b = hyp->all.h + from;
            size_t          m = hyp->end[c] - from, i = n, j = m;
            uint64_t       *left;
            if (m == 0)
                continue;
            if (!(ok = lcs_ways(a, n, b, m, &left)))
                break;
            while (i > 0 && j > 0) {
                size_t at = (i - 1) * m + j - 1;
                if (a[i - 1] == b[j - 1]) {
                    in_union[start + --i] = true;
                    j--;
                } else if (left[at / 64] >> at % 64 & 1) {
                    j--;
                } else {
                    i--;
                }
            }
            free(left);
        }
        for (size_t i = 0; ok && i < n; i++) {
            ngram_slot *s = in_union[start + i] ? ngram_find(&unused, a[i]) : NULL;
            if (s && s->count > 0 && s->best > 0) {
                s->count--;
                s->best--;
                hits++;
            }
        }
    }
    if (ok)
        *out = score(hits, (double)hyp->all.n, (double)ref->all.n);
    ngram_fini(&unused);
    free(in_union);
    return ok;
}

/* ---- one segment ---------------------------------------------------------------------------------------- */

static bool against(const symbols *h, const sentences *hs, ngram_table *t, jpt_str text, bool stem, int32_t stamp,
                    jpt_rouge *out) {
    symbols   r = {0};
    sentences rs = {0};
    int64_t   match[2] = {0};
    bool      ok = tokens_of(text, stem, &r) && sentences_of(text, stem, &rs);
    if (ok) {
        for (size_t i = 0; i < t->cap; i++)
            t->slot[i].best = 0;
        ngram_match(t, &r, 2, stamp, match);
        for (int n = 0; n < 2; n++)
            out->of[n] = score((double)match[n], (double)ngram_total(h->n, n + 1), (double)ngram_total(r.n, n + 1));
        ok = rouge_l(&r, h, &out->of[JPT_ROUGE_L]) && rouge_lsum(&rs, hs, &out->of[JPT_ROUGE_LSUM]);
    }
    symbols_fini(&r);
    symbols_fini(&rs.all);
    free(rs.end);
    return ok;
}

jpt_status jpt_rouge_segment(bool stem, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_rouge *out, jpt_error *err) {
    symbols     h = {0};
    sentences   hs = {0};
    ngram_table t = {0};
    if (n_refs < 1)
        return JPT_FAIL(err, ARG, "ROUGE takes at least one reference a segment");
    bool ok = tokens_of(hyp, stem, &h) && sentences_of(hyp, stem, &hs) && ngram_init(&t, 2 * h.n);
    if (ok)
        ngram_count(&t, &h, 2);
    for (size_t i = 0; ok && i < n_refs; i++) {
        jpt_rouge one = {0};
        ok = against(&h, &hs, &t, refs[i], stem, (int32_t)i + 1, &one);
        for (int k = 0; k < JPT_ROUGE_COUNT; k++)
            if (i == 0 || one.of[k].f > out->of[k].f)
                out->of[k] = one.of[k];
    }
    symbols_fini(&h);
    symbols_fini(&hs.all);
    free(hs.end);
    ngram_fini(&t);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for ROUGE");
}
