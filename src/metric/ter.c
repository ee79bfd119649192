/* Translation edit rate (Snover et al. 2006) as sacreBLEU 2.x computes it, which follows tercom: edits are shifts of word blocks,
 * found greedily, plus the Levenshtein distance that remains, computed within a beam around the diagonal.  The heuristics (which
 * shifts are tried, their ranking, the limits) are kept as they are there: they decide the number. */
#include "ngram.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHIFT_SIZE_MAX = 10, SHIFT_DISTANCE_MAX = 50, BEAM = 25, CANDIDATES_MAX = 1000, INFINITE = 1 << 28 };
enum op { OP_NONE, OP_KEEP, OP_REPLACE, OP_DELETE, OP_INSERT };

/* ---- tercom's tokenisation ------------------------------------------------------------------------------ */

static bool in_ranges(int32_t c, const int32_t (*range)[2], size_t n) {
    for (size_t i = 0; i < n; i++)
        if (c >= range[i][0] && c <= range[i][1])
            return true;
    return false;
}

static bool is_asian_punct(int32_t c) { /* full-width signs included */
    static const int32_t range[][2] = {{0x3001, 0x3002}, {0x3008, 0x3011}, {0x3014, 0x301f}, {0xff61, 0xff65},
                                       {0x30fb, 0x30fb}, {0xff0e, 0xff0e}, {0xff0c, 0xff0c}, {0xff1f, 0xff1f},
                                       {0xff1a, 0xff1b}, {0xff01, 0xff02}, {0xff08, 0xff09}};
    return c >= 0x3001 && in_ranges(c, range, sizeof range / sizeof *range);
}

/* Sets off ideographs, strokes, compatibility forms and enclosed letters.  sacreBLEU's rules for runs of kana match at the very
 * start of a text alone, where its padding puts a blank, so they never do. */
static bool is_asian_alone(int32_t c) {
    static const int32_t range[][2] = {{0x2e80, 0x2eff}, {0x31c0, 0x31ef}, {0x3200, 0x3f22}, {0x3400, 0x4dbf},
                                       {0x4e00, 0x9fff}, {0xf900, 0xfaff}, {0xfe30, 0xfe4f}};
    return c >= 0x2e80 && (in_ranges(c, range, sizeof range / sizeof *range) || is_asian_punct(c));
}

static void tokenize_tercom(jpt_str text, const jpt_ter_options *opt, jpt_buf *out) {
    size_t len;
    text = text_rstrip(text);
    if (opt->case_sensitive)
        jpt_buf_add(out, text.p, text.n);
    else
        text_lower(text, out);
    if (opt->normalized && out->n) {
        jpt_buf b = {0};
        replace_all(out, "\n-", "");
        replace_all(out, "\n", " ");
        replace_all(out, "&quot;", "\"");
        replace_all(out, "&amp;", "&");
        replace_all(out, "&lt;", "<");
        replace_all(out, "&gt;", ">");
        jpt_buf_addc(&b, ' ');
        jpt_buf_add(&b, out->p, out->n);
        jpt_buf_addc(&b, ' ');
        split_western_punct(&b, true);
        jpt_buf_reset(out);
        jpt_str t = text_of(&b);
        for (size_t i = 0; i < t.n; i += len) {
            bool alone = is_asian_alone(text_char(t, i, &len)) && opt->asian_support;
            if (alone)
                jpt_buf_addc(out, ' ');
            jpt_buf_add(out, t.p + i, len);
            if (alone)
                jpt_buf_addc(out, ' ');
        }
        out->oom |= b.oom;
        jpt_buf_fini(&b);
    }
    if (opt->no_punct && out->n) {
        size_t kept = 0;
        for (size_t i = 0; i < out->n; i += len) {
            int32_t c = text_char(text_of(out), i, &len);
            bool    drop = (c > 0 && c < 0x80 && strchr(".,?:;!\"()", c)) || (opt->asian_support && is_asian_punct(c));
            if (!drop) {
                memmove(out->p + kept, out->p + i, len);
                kept += len;
            }
        }
        out->n = kept;
        out->p[kept] = '\0';
    }
}

/* sacreBLEU tokenises references twice, with single blanks between the words of the first pass; with `normalized` the second can
 * split what the first brought together ("it's<tab>so"), so that a reference may differ from itself.  Kept, for its numbers. */
static bool words_of(jpt_str text, const jpt_ter_options *opt, bool reference, symbols *s) {
    jpt_buf b = {0}, twice = {0};
    jpt_str word;
    tokenize_tercom(text, opt, &b);
    if (reference && opt->normalized) {
        for (size_t at = 0; text_next_word(text_of(&b), &at, &word);) {
            jpt_buf_add(&twice, " ", twice.n > 0);
            jpt_buf_add(&twice, word.p, word.n);
        }
        jpt_buf_reset(&b);
        tokenize_tercom(text_of(&twice), opt, &b);
    }
    bool ok = !b.oom && !twice.oom && symbols_words(s, text_of(&b));
    jpt_buf_fini(&b);
    jpt_buf_fini(&twice);
    return ok;
}

/* ---- edit distance within the beam ---------------------------------------------------------------------- */

typedef struct ter_work {
    const uint64_t *ref;
    int32_t         n_ref, n_hyp;
    uint64_t       *hyp, *shifted, *best; /* [n_hyp] words now, of a candidate, of the best candidate */
    int32_t        *cost;   /* [n_hyp + 1, n_ref + 1] distance of the first i words to the first j of the reference */
    uint8_t        *op;     /* how each was reached */
    int32_t        *row[2]; /* [n_ref + 2] of a candidate */
    int32_t        *align;  /* [n_ref] word of the hypothesis at or before which a word of the reference stands, or -1 */
    uint8_t        *ref_err, *hyp_err;
    double          ratio;
    int32_t         beam;
} ter_work;

static void window(const ter_work *w, int32_t i, int32_t *low, int32_t *high) {
    int32_t diagonal = (int32_t)floor(i * w->ratio);
    *low = diagonal > w->beam ? diagonal - w->beam : 0;
    *high = diagonal + w->beam < w->n_ref + 1 && i < w->n_hyp ? diagonal + w->beam : w->n_ref + 1;
}

/* The whole table for w->hyp. */
static int32_t distance(ter_work *w) {
    int32_t width = w->n_ref + 1, low, high;
    for (int32_t j = 0; j < width; j++) {
        w->cost[j] = j;
        w->op[j] = OP_INSERT;
    }
    for (int32_t i = 1; i <= w->n_hyp; i++) {
        int32_t *row = w->cost + (size_t)i * (size_t)width, *above = row - width;
        uint8_t *op = w->op + (size_t)i * (size_t)width;
        window(w, i, &low, &high);
        for (int32_t j = 0; j < width; j++)
            row[j] = INFINITE;
        memset(op, OP_NONE, (size_t)width);
        for (int32_t j = low; j < high; j++) {
            if (j == 0) {
                row[0] = above[0] + 1;
                op[0] = OP_DELETE;
                continue;
            }
            bool same = w->hyp[i - 1] == w->ref[j - 1];
            if (above[j - 1] + !same < row[j]) {
                row[j] = above[j - 1] + !same;
                op[j] = same ? OP_KEEP : OP_REPLACE;
            }
            if (above[j] + 1 < row[j]) {
                row[j] = above[j] + 1;
                op[j] = OP_DELETE;
            }
            if (row[j - 1] + 1 < row[j]) {
                row[j] = row[j - 1] + 1;
                op[j] = OP_INSERT;
            }
        }
    }
    return w->cost[(size_t)w->n_hyp * (size_t)width + (size_t)w->n_ref];
}

/* The distance alone, for w->shifted, whose first `same` words are those of w->hyp. */
static int32_t distance_of_shifted(ter_work *w, int32_t same) {
    int32_t        width = w->n_ref + 1, low, high, next_low, next_high;
    const int32_t *above = w->cost + (size_t)same * (size_t)width;
    for (int32_t i = same + 1; i <= w->n_hyp; i++) {
        int32_t *row = w->row[i & 1];
        window(w, i, &low, &high);
        window(w, i < w->n_hyp ? i + 1 : i, &next_low, &next_high);
        int32_t left = INFINITE, j = low;
        if (low == 0) {
            left = row[0] = above[0] + 1;
            j = 1;
        } else {
            row[low - 1] = INFINITE;
        }
        uint64_t word = w->shifted[i - 1];
        for (; j < high; j++) {
            int32_t a = above[j - 1] + (word != w->ref[j - 1]), b = above[j] + 1;
            a = a < b ? a : b;
            left = left + 1 < a ? left + 1 : a;
            left = left < INFINITE ? left : INFINITE;
            row[j] = left;
        }
        for (; j < next_high; j++)
            row[j] = INFINITE;
        above = row;
    }
    return above[w->n_ref];
}

/* ---- shifts ---------------------------------------------------------------------------------------------- */

/* Walks the best path back: the alignment, and which words are not kept. */
static void align(ter_work *w) {
    int32_t i = w->n_hyp, j = w->n_ref, width = w->n_ref + 1;
    while (i > 0 || j > 0)
        switch (w->op[(size_t)i * (size_t)width + (size_t)j]) {
        case OP_KEEP:
        case OP_REPLACE: {
            bool err = w->op[(size_t)i * (size_t)width + (size_t)j] == OP_REPLACE;
            i--, j--;
            w->align[j] = i;
            w->ref_err[j] = w->hyp_err[i] = err;
            break;
        }
        case OP_INSERT: /* a reference word that the hypothesis lacks */
            j--;
            w->align[j] = i - 1;
            w->ref_err[j] = 1;
            break;
        case OP_DELETE:
            i--;
            w->hyp_err[i] = 1;
            break;
        default: JPT_ASSERT(!"a path within the beam");
        }
}

static bool any(const uint8_t *flag, int32_t from, int32_t n) { return memchr(flag + from, 1, (size_t)n) != NULL; }

static void shift(ter_work *w, int32_t start, int32_t length, int32_t target) {
    const uint64_t *in = w->hyp;
    uint64_t       *out = w->shifted;
    size_t          word = sizeof *in;
    memcpy(out, in, (size_t)w->n_hyp * word);
    if (target < start) {
        memcpy(out + target, in + start, (size_t)length * word);
        memcpy(out + target + length, in + target, (size_t)(start - target) * word);
    } else if (target > start + length) {
        memcpy(out + start, in + start + length, (size_t)(target - start - length) * word);
        memcpy(out + target - length, in + start, (size_t)length * word);
    } else { /* within the block: it moves on by target - start, past what follows it, as far as there is any */
        int32_t follow = target - start;
        follow = start + length + follow <= w->n_hyp ? follow : w->n_hyp - start - length;
        memcpy(out + start, in + start + length, (size_t)follow * word);
        memcpy(out + start + follow, in + start, (size_t)length * word);
    }
}

typedef struct candidate {
    int32_t gain, length, start, target;
} candidate;

static bool better(candidate a, candidate b) {
    if (a.gain != b.gain)
        return a.gain > b.gain;
    if (a.length != b.length)
        return a.length > b.length;
    return a.start != b.start ? a.start < b.start : a.target < b.target;
}

/* Tries the places for one block of the hypothesis that also stands in the reference. */
static void try_block(ter_work *w, int32_t now, int32_t start_h, int32_t start_r, int32_t length, candidate *best, bool *found,
                      int32_t *checked) {
    int32_t before = -1;
    if (!any(w->hyp_err, start_h, length) || !any(w->ref_err, start_r, length))
        return; /* both sides must be wrong */
    if (start_h <= w->align[start_r] && w->align[start_r] < start_h + length)
        return; /* no shift within the block */
    for (int32_t offset = -1; offset < length; offset++) {
        int32_t target = start_r + offset == -1 ? 0 : w->align[start_r + offset] + 1;
        if (target == before)
            continue;
        before = target;
        shift(w, start_h, length, target);
        candidate c = {now - distance_of_shifted(w, target < start_h ? target : start_h), length, start_h, target};
        ++*checked;
        if (!*found || better(c, *best)) {
            *best = c;
            *found = true;
            memcpy(w->best, w->shifted, (size_t)w->n_hyp * sizeof *w->best);
        }
    }
}

static int32_t edits_of(ter_work *w) {
    int32_t shifts = 0, checked = 0;
    for (;;) {
        candidate best = {0};
        bool      found = false;
        int32_t   now = distance(w);
        align(w);
        for (int32_t h = 0; h < w->n_hyp && checked < CANDIDATES_MAX; h++)
            for (int32_t r = 0; r < w->n_ref && checked < CANDIDATES_MAX; r++)
                for (int32_t n = 1; abs(r - h) <= SHIFT_DISTANCE_MAX && n <= SHIFT_SIZE_MAX && h + n <= w->n_hyp &&
                                    r + n <= w->n_ref && w->hyp[h + n - 1] == w->ref[r + n - 1] && checked < CANDIDATES_MAX;
                     n++)
                    try_block(w, now, h, r, n, &best, &found, &checked);
        if (checked >= CANDIDATES_MAX || !found || best.gain <= 0)
            return shifts + now;
        shifts++;
        uint64_t *swap = w->hyp;
        w->hyp = w->best;
        w->best = swap;
    }
}

/* ---- segments and scores -------------------------------------------------------------------------------- */

static bool edits_to(const symbols *hyp, const symbols *ref, int64_t *edits) {
    if (ref->n == 0 || hyp->n == 0) {
        *edits = (int64_t)(ref->n + hyp->n);
        return true;
    }
    size_t   words = hyp->n, width = ref->n + 1, cells = (words + 1) * width;
    ter_work w = {
        .ref = ref->h, .n_ref = (int32_t)ref->n, .n_hyp = (int32_t)words, .ratio = (double)ref->n / (double)words, .beam = BEAM};
    uint64_t *all = malloc(3 * words * sizeof *all);
    int32_t  *ints = malloc((cells + 2 * (width + 1) + ref->n) * sizeof *ints);
    uint8_t  *bytes = malloc(cells + ref->n + words);
    bool      ok = all && ints && bytes;
    if (ok) {
        if (BEAM < w.ratio / 2)
            w.beam = (int32_t)ceil(w.ratio / 2 + BEAM);
        w.hyp = all;
        w.shifted = all + words;
        w.best = all + 2 * words;
        w.cost = ints;
        w.row[0] = ints + cells;
        w.row[1] = w.row[0] + width + 1;
        w.align = w.row[1] + width + 1;
        w.op = bytes;
        w.ref_err = bytes + cells;
        w.hyp_err = w.ref_err + ref->n;
        memcpy(w.hyp, hyp->h, words * sizeof *w.hyp);
        *edits = edits_of(&w);
    }
    free(all);
    free(ints);
    free(bytes);
    return ok;
}

jpt_status jpt_ter_segment(const jpt_ter_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_ter_stats *out,
                           jpt_error *err) {
    symbols h = {0};
    int64_t least = INT64_MAX, length = 0;
    if (n_refs < 1)
        return JPT_FAIL(err, ARG, "TER takes at least one reference a segment");
    opt = opt ? opt : &(jpt_ter_options){0};
    bool ok = words_of(hyp, opt, false, &h), fits = h.n < JPT_TER_WORDS_MAX;
    for (size_t i = 0; ok && fits && i < n_refs; i++) {
        symbols r = {0};
        int64_t edits = 0;
        ok = words_of(refs[i], opt, true, &r);
        fits = r.n < JPT_TER_WORDS_MAX;
        ok = ok && fits && edits_to(&h, &r, &edits);
        least = edits < least ? edits : least;
        length += (int64_t)r.n;
        symbols_fini(&r);
    }
    size_t n = h.n;
    symbols_fini(&h);
    if (!fits)
        return JPT_FAIL(err, ARG, "TER takes segments of at most %d words, here are %zu or more", JPT_TER_WORDS_MAX, n);
    if (!ok)
        return JPT_FAIL(err, NOMEM, "out of memory for TER");
    *out = (jpt_ter_stats){.edits = least, .ref_len = (double)length / (double)n_refs};
    return JPT_OK;
}

void jpt_ter_add(jpt_ter_stats *sum, const jpt_ter_stats *s) {
    sum->edits += s->edits;
    sum->ref_len += s->ref_len;
}

double jpt_ter_score(const jpt_ter_stats *s) {
    if (s->ref_len > 0)
        return 100 * ((double)s->edits / s->ref_len);
    return s->edits > 0 ? 100 : 0;
}
