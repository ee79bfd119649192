/* Pre-tokenizers: where a text is cut into words before byte-level BPE works inside each word. */
#ifndef JPT_TOKEN_PRETOK_H
#define JPT_TOKEN_PRETOK_H

#include <jpt/base.h>

typedef enum jpt_pretok { JPT_PRETOK_GPT2, JPT_PRETOK_SMOLLM, JPT_PRETOK_LLAMA3, JPT_PRETOK_QWEN2 } jpt_pretok;

/* By GGUF's name; false when unknown.  jpt_pretok_names: the known ones, for messages. */
bool              jpt_pretok_by_name(jpt_str name, jpt_pretok *out);
extern const char jpt_pretok_names[];

/* Length of the first word of text[0..n), n >= 1; always 1..n.  `text` begins at a word boundary and holds the rest of
 * the segment, for look-ahead. */
size_t jpt_pretok_next(jpt_pretok pre, const char *text, size_t n);

#endif
