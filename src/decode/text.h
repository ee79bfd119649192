/* The text side of a running request: detokenisation, and stop strings that may span tokens. */
#ifndef JPT_DECODE_TEXT_H
#define JPT_DECODE_TEXT_H

#include <jpt/decode.h>

typedef struct jpt_text {
    jpt_detok          detok;
    const char *const *stop;
    int32_t            n_stop;
    size_t             n_released; /* bytes of the text already given to on_text */
    void (*on_text)(void *ud, const char *text, size_t n);
    void *ud;
} jpt_text;

void jpt_text_init(jpt_text *t, const jpt_tokenizer *tok, const jpt_request *r);
/* Append a kept token's text to *out; on a stop string cut *out before it and set *stopped. */
jpt_status jpt_text_push(jpt_text *t, int32_t token, jpt_buf *out, bool *stopped, jpt_error *err);
/* The end: held bytes and held-back text come out. */
jpt_status jpt_text_flush(jpt_text *t, jpt_buf *out, jpt_error *err);
void       jpt_text_fini(jpt_text *t);

#endif
