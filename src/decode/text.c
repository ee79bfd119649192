#include "text.h"
#include <string.h>

void jpt_text_init(jpt_text *t, const jpt_tokenizer *tok, const jpt_request *r) {
    *t = (jpt_text){.stop = r->stop, .n_stop = r->n_stop, .on_text = r->on_text, .ud = r->ud};
    jpt_detok_init(&t->detok, tok, JPT_DECODE_SKIP_SPECIAL | JPT_DECODE_CONTINUE);
}

void jpt_text_fini(jpt_text *t) { *t = (jpt_text){0}; }

/* Earliest stop string that ends after byte `from`; SIZE_MAX when there is none. */
static size_t find_stop(const jpt_text *t, const jpt_buf *text, size_t from) {
    size_t best = SIZE_MAX;
    for (int32_t i = 0; i < t->n_stop; i++) {
        size_t n = strlen(t->stop[i]);
        if (n == 0 || n > text->n)
            continue;
        size_t      start = from > n - 1 ? from - (n - 1) : 0;
        const char *at = memmem(text->p + start, text->n - start, t->stop[i], n);
        if (at && (size_t)(at - text->p) < best)
            best = (size_t)(at - text->p);
    }
    return best;
}

/* Bytes at the end of the text that may be the beginning of a stop string. */
static size_t held_back(const jpt_text *t, const jpt_buf *text) {
    size_t most = 0;
    for (int32_t i = 0; i < t->n_stop; i++) {
        size_t n = strlen(t->stop[i]);
        for (size_t k = n > 0 ? n - 1 : 0; k > most; k--)
            if (k <= text->n && memcmp(text->p + text->n - k, t->stop[i], k) == 0) {
                most = k;
                break;
            }
    }
    return most;
}

static void release(jpt_text *t, const jpt_buf *text, size_t until) {
    if (t->on_text && until > t->n_released)
        t->on_text(t->ud, text->p + t->n_released, until - t->n_released);
    if (until > t->n_released)
        t->n_released = until;
}

static jpt_status after_push(jpt_text *t, size_t from, jpt_buf *out, bool *stopped, jpt_error *err) {
    if (out->oom)
        return JPT_FAIL(err, NOMEM, "out of memory for the text");
    size_t cut = out->n > from ? find_stop(t, out, from) : SIZE_MAX;
    *stopped = cut != SIZE_MAX;
    if (*stopped) {
        out->n = cut;
        out->p[cut] = '\0';
    }
    release(t, out, *stopped ? cut : out->n - held_back(t, out));
    return JPT_OK;
}

jpt_status jpt_text_push(jpt_text *t, int32_t token, jpt_buf *out, bool *stopped, jpt_error *err) {
    size_t from = out->n;
    JPT_TRY(jpt_detok_push(&t->detok, token, out, err));
    return after_push(t, from, out, stopped, err);
}

jpt_status jpt_text_flush(jpt_text *t, jpt_buf *out, jpt_error *err) {
    JPT_TRY(jpt_detok_flush(&t->detok, out, err));
    if (out->oom)
        return JPT_FAIL(err, NOMEM, "out of memory for the text");
    release(t, out, out->n);
    return JPT_OK;
}
