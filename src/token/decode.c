/* Ids to text: exact bytes at once, or valid UTF-8 token by token. */
#include "tokenizer.h"
#include "unicode.h"

#include <string.h>

/* The bytes of one token under the flags; *strip says whether it loses a leading space, and is brought up
 * to date for the next token. */
static jpt_status piece(const jpt_tokenizer *tok, int32_t id, unsigned flags, bool *strip, jpt_str *out, jpt_error *err) {
    if (id < 0 || id >= tok->n_vocab)
        return JPT_FAIL(err, ARG, "token id %d is outside the vocabulary of %d", id, tok->n_vocab);
    *out = tok->raw[id];
    if (tok->type[id] == JPT_TOKEN_CONTROL) {
        *strip = tok->add_space_prefix;
        if (flags & JPT_DECODE_SKIP_SPECIAL)
            out->n = 0;
    } else if (out->n) {
        if (*strip && out->p[0] == ' ' && tok->type[id] == JPT_TOKEN_NORMAL) {
            out->p++;
            out->n--;
        }
        *strip = false;
    }
    return JPT_OK;
}

jpt_status jpt_tokenizer_decode(const jpt_tokenizer *tok, const int32_t *ids, size_t n, unsigned flags, jpt_buf *out,
                                jpt_error *err) {
    bool strip = tok->add_space_prefix && !(flags & JPT_DECODE_CONTINUE);
    for (size_t i = 0; i < n; i++) {
        jpt_str p = {0};
        JPT_TRY(piece(tok, ids[i], flags, &strip, &p, err));
        jpt_buf_add(out, p.p, p.n);
    }
    return out->oom ? JPT_FAIL(err, NOMEM, "out of memory while decoding %zu tokens", n) : JPT_OK;
}

void jpt_detok_init(jpt_detok *d, const jpt_tokenizer *tok, unsigned flags) {
    *d = (jpt_detok){.tok = tok, .flags = flags, .strip = tok->add_space_prefix && !(flags & JPT_DECODE_CONTINUE)};
}

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* One byte in, whole characters out. */
static void push_byte(jpt_detok *d, char byte, jpt_buf *out) {
    d->held[d->n_held++] = byte;
    while (d->n_held) {
        size_t             len;
        enum jpt_utf8_what what = jpt_utf8_look(d->held, d->n_held, &len);
        if (what == JPT_UTF8_CUT)
            return;
        if (what == JPT_UTF8_WHOLE)
            jpt_buf_add(out, d->held, len);
        else
            jpt_buf_addz(out, replacement);
        d->n_held = (uint8_t)(d->n_held - len);
        memmove(d->held, d->held + len, d->n_held);
    }
}

jpt_status jpt_detok_push(jpt_detok *d, int32_t id, jpt_buf *out, jpt_error *err) {
    jpt_str p = {0};
    JPT_TRY(piece(d->tok, id, d->flags, &d->strip, &p, err));
    for (size_t i = 0; i < p.n; i++)
        push_byte(d, p.p[i], out);
    return out->oom ? JPT_FAIL(err, NOMEM, "out of memory while decoding token %d", id) : JPT_OK;
}

jpt_status jpt_detok_flush(jpt_detok *d, jpt_buf *out, jpt_error *err) {
    if (d->n_held)
        jpt_buf_addz(out, replacement); /* what is held is one maximal part */
    d->n_held = 0;
    return out->oom ? JPT_FAIL(err, NOMEM, "out of memory while decoding") : JPT_OK;
}
