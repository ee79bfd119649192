/* Text to ids: cut out special tokens, then byte-level BPE word by word, or SentencePiece on the whole
 * stretch. */
#include "tokenizer.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_TEXT_BYTES = 1 << 30 };

void jpt_ids_fini(jpt_ids *v) {
    free(v->p);
    *v = (jpt_ids){0};
}

bool jpt_ids_push(jpt_ids *v, int32_t id) {
    if (v->n == v->cap) {
        size_t   cap = v->cap ? 2 * v->cap : 64;
        int32_t *p = cap > SIZE_MAX / 2 / sizeof *p ? NULL : realloc(v->p, cap * sizeof *p);
        if (!p)
            return false;
        v->p = p;
        v->cap = cap;
    }
    v->p[v->n++] = id;
    return true;
}

/* What one encode call works with.  Functions below return false when out of memory. */
struct work {
    const jpt_tokenizer *tok;
    struct jpt_merger    merger;
    jpt_buf              buf;
    jpt_ids             *out;
};

/* ---- special tokens --------------------------------------------------------------------------- */

/* The longest special token at the start of p[0..n), or -1: the range of the sorted list that agrees with the
 * text is narrowed byte by byte. */
static int32_t special_at(const jpt_tokenizer *tok, const char *p, size_t n, bool control) {
    size_t  lo = 0, hi = tok->n_special;
    int32_t best = -1;
    for (size_t d = 0; lo < hi; d++) {
        int32_t first = tok->special[lo];
        if (tok->text[first].n == d) { /* the shortest sorts first, and texts are unique */
            if (control || tok->type[first] == JPT_TOKEN_USER)
                best = first;
            lo++;
        }
        if (d == n)
            break;
        unsigned char c = (unsigned char)p[d];
        size_t        a = lo, b = hi;
        while (a < b) { /* first with byte >= c */
            size_t mid = a + (b - a) / 2;
            if ((unsigned char)tok->text[tok->special[mid]].p[d] < c)
                a = mid + 1;
            else
                b = mid;
        }
        lo = a;
        b = hi;
        while (a < b) { /* first with byte > c */
            size_t mid = a + (b - a) / 2;
            if ((unsigned char)tok->text[tok->special[mid]].p[d] <= c)
                a = mid + 1;
            else
                b = mid;
        }
        hi = a;
    }
    return best;
}

/* ---- byte-level BPE --------------------------------------------------------------------------- */

/* The token that is this word as a whole, or -1. */
static int32_t whole_word(struct work *w, const char *p, size_t n) {
    if (n > w->tok->max_text)
        return -1;
    w->buf.n = 0;
    for (size_t i = 0; i < n; i++) {
        char   two[2];
        size_t k = jpt_utf8_put(jpt_byte_to_cp((unsigned char)p[i]), two);
        jpt_buf_add(&w->buf, two, k);
    }
    return w->buf.oom ? -1 : jpt_tokenizer_find(w->tok, (jpt_str){w->buf.p, w->buf.n});
}

static bool bpe_word(struct work *w, const char *p, size_t n) {
    if (w->tok->ignore_merges) {
        int32_t id = whole_word(w, p, n);
        if (w->buf.oom)
            return false;
        if (id >= 0)
            return jpt_ids_push(w->out, id);
    }
    w->merger.n_symbols = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = w->tok->byte_id[(unsigned char)p[i]];
        if (id >= 0 && !jpt_merger_add(&w->merger, i, 1, id))
            return false;
    }
    if (!w->merger.n_symbols)
        return true;
    if (!jpt_merger_run(&w->merger, w->tok, p))
        return false;
    for (int32_t i = 0; i >= 0; i = w->merger.symbol[i].next)
        if (!jpt_ids_push(w->out, w->merger.symbol[i].id))
            return false;
    return true;
}

static bool bpe_text(struct work *w, const char *p, size_t n) {
    while (n) {
        size_t k = jpt_pretok_next(w->tok->pre, p, n);
        JPT_ASSERT(k >= 1 && k <= n);
        if (!bpe_word(w, p, k))
            return false;
        p += k;
        n -= k;
    }
    return true;
}

static bool is_ascii(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] & 0x80)
            return false;
    return true;
}

/* NFC of the valid stretches; bytes that are no UTF-8 pass unchanged. */
static bool nfc_text(const char *p, size_t n, jpt_buf *out) {
    while (n) {
        size_t k = jpt_utf8_valid_prefix(p, n);
        if (k) {
            utf8proc_uint8_t *nfc = NULL;
            utf8proc_ssize_t  len = utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)k, &nfc,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE);
            if (len < 0)
                return false;
            jpt_buf_add(out, nfc, (size_t)len);
            free(nfc);
        } else {
            jpt_buf_addc(out, p[0]);
            k = 1;
        }
        p += k;
        n -= k;
    }
    return !out->oom;
}

static bool bpe_segment(struct work *w, const char *p, size_t n) {
    if (!w->tok->nfc || is_ascii(p, n))
        return bpe_text(w, p, n);
    jpt_buf nfc = {0};
    bool    ok = nfc_text(p, n, &nfc) && bpe_text(w, nfc.p, nfc.n);
    jpt_buf_fini(&nfc);
    return ok;
}

/* ---- SentencePiece ---------------------------------------------------------------------------- */

static bool spm_bytes(struct work *w, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = w->tok->byte_id[(unsigned char)p[i]];
        if (id < 0)
            id = w->tok->unk;
        if (id >= 0 && !jpt_ids_push(w->out, id))
            return false;
    }
    return true;
}

static bool spm_segment(struct work *w, const char *p, size_t n, bool prefix) {
    const char *space = w->tok->plain_space ? " " : "\xE2\x96\x81";
    w->buf.n = 0;
    if (prefix)
        jpt_buf_addz(&w->buf, space);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == ' ')
            jpt_buf_addz(&w->buf, space);
        else
            jpt_buf_addc(&w->buf, p[i]);
    }
    if (w->buf.oom)
        return false;
    const char *text = w->buf.p;
    w->merger.n_symbols = 0;
    for (size_t i = 0, k; i < w->buf.n; i += k) {
        jpt_utf8_look(text + i, w->buf.n - i, &k);
        int32_t id = jpt_tokenizer_find(w->tok, (jpt_str){text + i, k});
        if (id >= 0 && w->tok->type[id] != JPT_TOKEN_NORMAL)
            id = -1;
        if (!jpt_merger_add(&w->merger, i, k, id))
            return false;
    }
    if (!jpt_merger_run(&w->merger, w->tok, text))
        return false;
    for (int32_t i = 0; i >= 0; i = w->merger.symbol[i].next) {
        const struct jpt_symbol *s = &w->merger.symbol[i];
        if (!(s->id >= 0 ? jpt_ids_push(w->out, s->id) : spm_bytes(w, text + s->start, s->len)))
            return false;
    }
    return true;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static bool encode(struct work *w, const char *text, size_t n, unsigned flags) {
    const jpt_tokenizer *tok = w->tok;
    bool                 control = flags & JPT_ENCODE_PARSE_SPECIAL, prefix = tok->add_space_prefix;
    if ((flags & JPT_ENCODE_ADD_SPECIAL) && tok->add_bos && tok->bos >= 0 && !jpt_ids_push(w->out, tok->bos))
        return false;
    for (size_t begin = 0, i = 0; begin < n;) {
        int32_t id = i < n ? special_at(tok, text + i, n - i, control) : -1;
        if (id < 0 && i < n) {
            i++;
            continue;
        }
        bool user = id >= 0 && tok->type[id] == JPT_TOKEN_USER;
        /* sentencepiece puts the space before a user-defined token too, when that comes first */
        if (tok->kind == JPT_TOKEN_SPM && (i > begin || (prefix && user))) {
            if (!spm_segment(w, text + begin, i - begin, prefix))
                return false;
            prefix = false;
        } else if (i > begin && !bpe_segment(w, text + begin, i - begin)) {
            return false;
        }
        if (id >= 0) {
            if (!jpt_ids_push(w->out, id))
                return false;
            i += tok->text[id].n;
            if (!user)
                prefix = tok->add_space_prefix;
        }
        begin = i;
    }
    return !((flags & JPT_ENCODE_ADD_SPECIAL) && tok->add_eos && tok->eos >= 0) || jpt_ids_push(w->out, tok->eos);
}

jpt_status jpt_tokenizer_encode(const jpt_tokenizer *tok, const char *text, size_t n, unsigned flags, jpt_ids *out,
                                jpt_error *err) {
    if (n > MAX_TEXT_BYTES)
        return JPT_FAIL(err, ARG, "text of %zu bytes is too long to tokenize; at most %d", n, MAX_TEXT_BYTES);
    struct work w = {.tok = tok, .out = out};
    size_t      before = out->n;
    bool        ok = encode(&w, text, n, flags);
    jpt_merger_fini(&w.merger);
    jpt_buf_fini(&w.buf);
    if (!ok) {
        out->n = before;
        return JPT_FAIL(err, NOMEM, "out of memory while tokenizing a text of %zu bytes", n);
    }
    return JPT_OK;
}
