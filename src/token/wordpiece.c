/* WordPiece as BERT has it.  A text goes through in one pass, code point by code point: cleaned, decomposed, stripped,
 * lowered, and collected into words; a finished word is cut into the longest pieces of the vocabulary.
 * Source of every rule: HF tokenizers, normalizers/bert.rs, pre_tokenizers/bert.rs, models/wordpiece. */
#include "unicode.h"
#include <jpt/token.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { WORD_CHARS = 100, N_SPECIAL = 5, VOCAB_MAX = 1 << 22 }; /* a longer word is [UNK] */

struct jpt_wordpiece {
    jpt_arena arena;
    jpt_str  *token; /* [n_vocab] */
    int32_t  *slot;  /* open addressing over token, -1 empty; n_slots a power of two */
    size_t    n_slots, longest;
    int32_t   n_vocab, unk, cls, sep;
    int32_t   special[N_SPECIAL];
    bool      lower;
};
static const char *const special_names[N_SPECIAL] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};

static uint64_t hash(const char *p, size_t n) { /* FNV-1a */
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

/* The slot that holds the text, or the empty one where it would go. */
static size_t slot_of(const jpt_wordpiece *w, const char *p, size_t n) {
    size_t i = (size_t)hash(p, n) & (w->n_slots - 1);
    while (w->slot[i] >= 0 && !jpt_str_eq(w->token[w->slot[i]], (jpt_str){p, n}))
        i = (i + 1) & (w->n_slots - 1);
    return i;
}
static int32_t find(const jpt_wordpiece *w, const char *p, size_t n) { return n > w->longest ? -1 : w->slot[slot_of(w, p, n)]; }

static jpt_status fill(jpt_wordpiece *w, const char *name, const char *vocab, size_t n, jpt_error *err) {
    size_t lines = 0;
    for (size_t at = 0; at < n; lines++) {
        const char *eol = memchr(vocab + at, '\n', n - at);
        at = eol ? (size_t)(eol - vocab) + 1 : n;
    }
    if (lines > VOCAB_MAX)
        return JPT_FAIL(err, FORMAT, "%s: has %zu tokens, expected at most %d", name, lines, VOCAB_MAX);
    for (w->n_slots = 16; w->n_slots < 2 * lines; w->n_slots *= 2)
        ;
    char *copy = jpt_arena_strndup(&w->arena, vocab, n);
    w->token = jpt_arena_alloc(&w->arena, (lines + 1) * sizeof *w->token);
    w->slot = jpt_arena_alloc(&w->arena, w->n_slots * sizeof *w->slot);
    if (!copy || !w->token || !w->slot)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for %zu tokens", name, lines);
    memset(w->slot, 0xff, w->n_slots * sizeof *w->slot);
    for (size_t at = 0; at < n; w->n_vocab++) {
        const char *eol = memchr(copy + at, '\n', n - at);
        size_t      len = (eol ? (size_t)(eol - copy) : n) - at, next = at + len + 1;
        len -= len && copy[at + len - 1] == '\r';
        size_t i = slot_of(w, copy + at, len);
        if (w->slot[i] >= 0)
            return JPT_FAIL(err, FORMAT, "%s: line %d is the same token as line %d: '%.*s'", name, w->n_vocab + 1, w->slot[i] + 1, (int)(len < 64 ? len : 64), copy + at);
        w->token[w->n_vocab] = (jpt_str){copy + at, len};
        w->slot[i] = w->n_vocab;
        w->longest = len > w->longest ? len : w->longest;
        at = next;
    }
    for (int i = 0; i < N_SPECIAL; i++) {
        w->special[i] = find(w, special_names[i], strlen(special_names[i]));
        if (i < 3 && w->special[i] < 0)
            return JPT_FAIL(err, FORMAT, "%s: has no line '%s'; it is no vocabulary of a BERT model", name, special_names[i]);
    }
    w->unk = w->special[0];
    w->cls = w->special[1];
    w->sep = w->special[2];
    return JPT_OK;
}

jpt_status jpt_wordpiece_new(const char *name, const char *vocab, size_t n, bool lower, jpt_wordpiece **out, jpt_error *err) {
    jpt_wordpiece *w = calloc(1, sizeof *w);
    if (!w)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", name);
    w->lower = lower;
    jpt_status st = fill(w, name, vocab, n, err);
    if (st != JPT_OK)
        jpt_wordpiece_free(w);
    else
        *out = w;
    return st;
}

void jpt_wordpiece_free(jpt_wordpiece *w) {
    if (w)
        jpt_arena_fini(&w->arena);
    free(w);
}

int32_t jpt_wordpiece_n_vocab(const jpt_wordpiece *w) { return w->n_vocab; }

/* ---- encoding ------------------------------------------------------------------------------------ */

/* A code point on its way: combining ones wait until their run is complete, to be put in canonical order. */
typedef struct waiting {
    int32_t  cp, ccc;
    uint32_t order;
} waiting;

typedef struct encoder {
    const jpt_wordpiece *w;
    jpt_ids             *ids;
    size_t               most; /* ids before [SEP] */
    jpt_buf              word;
    size_t               n_chars;
    waiting             *run;
    size_t               n_run, cap_run;
    bool                 oom;
} encoder;

static bool full(const encoder *e) { return e->ids->n >= e->most || e->oom; }

static void push(encoder *e, int32_t id) {
    if (!full(e) && !jpt_ids_push(e->ids, id))
        e->oom = true;
}

/* Greedy longest match; one piece that is not there makes the whole word unknown. */
static void end_word(encoder *e) {
    const jpt_wordpiece *w = e->w;
    size_t               n = e->word.n, before = e->ids->n;
    const char          *p = e->word.p;
    char                 piece[4 * WORD_CHARS + 2] = "##";
    bool                 unknown = e->n_chars > WORD_CHARS;
    for (size_t at = 0; at < n && !unknown && !e->oom;) {
        size_t  len = n - at;
        int32_t id = -1;
        if (at)
            memcpy(piece + 2, p + at, len);
        for (;; len--) {
            id = at ? find(w, piece, len + 2) : find(w, p, len);
            if (id >= 0)
                break;
            while (len > 1 && ((uint8_t)p[at + len - 1] & 0xC0) == 0x80) /* to the start of the last character */
                len--;
            if (len <= 1)
                break;
        }
        unknown = id < 0;
        at += len;
        if (!unknown)
            push(e, id);
    }
    if (n && unknown) {
        e->ids->n = before;
        push(e, w->unk);
    }
    e->oom = e->oom || e->word.oom;
    jpt_buf_reset(&e->word);
    e->n_chars = 0;
}

/* A code point of the normalised text. */
static void take(encoder *e, int32_t cp) {
    unsigned what = jpt_uc_find(jpt_wp_ranges, jpt_wp_n_ranges, cp);
    if (e->w->lower && (what & JPT_WP_MARK))
        return;
    if (e->w->lower)
        cp = utf8proc_tolower(cp);
    if (what & (JPT_WP_PUNCT | JPT_WP_SPACE))
        end_word(e);
    if (what & JPT_WP_SPACE)
        return;
    if (++e->n_chars <= WORD_CHARS) { /* beyond, the word is unknown whatever follows */
        utf8proc_uint8_t utf8[4];
        jpt_buf_add(&e->word, utf8, (size_t)utf8proc_encode_char(cp, utf8));
    }
    if (what & JPT_WP_PUNCT)
        end_word(e);
}

static int by_class(const void *a, const void *b) {
    const waiting *x = a, *y = b;
    return x->ccc != y->ccc ? (x->ccc > y->ccc) - (x->ccc < y->ccc) : (x->order > y->order) - (x->order < y->order);
}

static void end_run(encoder *e) {
    if (e->n_run > 1)
        qsort(e->run, e->n_run, sizeof *e->run, by_class);
    for (size_t i = 0; i < e->n_run; i++)
        take(e, e->run[i].cp);
    e->n_run = 0;
}

/* A code point of the decomposed text. */
static void order(encoder *e, int32_t cp) {
    int32_t ccc = utf8proc_get_property(cp)->combining_class;
    if (ccc == 0) {
        end_run(e);
        take(e, cp);
        return;
    }
    if (e->n_run == e->cap_run) {
        size_t   cap = e->cap_run ? 2 * e->cap_run : 16;
        waiting *grown = realloc(e->run, cap * sizeof *grown);
        if (!grown) {
            e->oom = true;
            return;
        }
        e->run = grown;
        e->cap_run = cap;
    }
    e->run[e->n_run] = (waiting){cp, ccc, (uint32_t)e->n_run};
    e->n_run++;
}

/* A code point of the text. */
static void clean(encoder *e, int32_t cp) {
    unsigned what = jpt_uc_find(jpt_wp_ranges, jpt_wp_n_ranges, cp);
    if (what & JPT_WP_DROP)
        return;
    if (what & JPT_WP_SPACE)
        cp = ' ';
    if (!e->w->lower || (what & (JPT_WP_SPACE | JPT_WP_WHOLE)) || cp < 0x80) {
        end_run(e);
        if (what & JPT_WP_CJK)
            end_word(e);
        take(e, cp);
    } else {
        utf8proc_int32_t part[8];
        int              last = 0;
        if (what & JPT_WP_CJK) {
            end_run(e);
            end_word(e);
        }
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, part, 8, UTF8PROC_DECOMPOSE, &last);
        for (utf8proc_ssize_t i = 0; i < n && i < 8; i++)
            order(e, part[i]);
    }
    if (what & JPT_WP_CJK) {
        end_run(e);
        end_word(e);
    }
}

/* The special token that stands written at p[0..n); -1: none. */
static int32_t special_at(const jpt_wordpiece *w, const char *p, size_t n, size_t *len) {
    for (int i = 0; i < N_SPECIAL; i++) {
        *len = strlen(special_names[i]);
        if (w->special[i] >= 0 && *len <= n && memcmp(p, special_names[i], *len) == 0)
            return w->special[i];
    }
    return -1;
}

jpt_status jpt_wordpiece_encode(const jpt_wordpiece *w, const char *text, size_t n, int32_t limit, jpt_ids *out, jpt_error *err) {
    if (limit == 1 || limit < 0)
        return JPT_FAIL(err, ARG, "a limit of %d tokens leaves no room for [CLS] and [SEP]", limit);
    size_t  before = out->n;
    encoder e = {.w = w, .ids = out, .most = limit ? before + (size_t)limit - 1 : SIZE_MAX};
    push(&e, w->cls);
    for (size_t at = 0, len; at < n && !full(&e); at += len) {
        int32_t id = text[at] == '[' ? special_at(w, text + at, n - at, &len) : -1, cp;
        if (id >= 0) {
            end_run(&e);
            end_word(&e);
            push(&e, id);
            continue;
        }
        len = jpt_utf8_decode(text + at, n - at, &cp);
        clean(&e, cp < 0 ? 0xFFFD : cp);
    }
    end_run(&e);
    end_word(&e);
    e.most = SIZE_MAX;
    push(&e, w->sep);
    bool oom = e.oom;
    jpt_buf_fini(&e.word);
    free(e.run);
    if (!oom)
        return JPT_OK;
    out->n = before;
    return JPT_FAIL(err, NOMEM, "out of memory for a text of %zu bytes", n);
}
