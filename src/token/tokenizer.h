/* Inside of a tokenizer, shared by construction, encoding and decoding. */
#ifndef JPT_TOKEN_TOKENIZER_H
#define JPT_TOKEN_TOKENIZER_H

#include <jpt/token.h>
#include "pretok.h"

struct jpt_merge {
    int32_t  left, right; /* left = -1: empty slot */
    uint32_t rank;
    int32_t  id;
};

struct jpt_tokenizer {
    jpt_token_kind kind;
    jpt_pretok     pre;
    bool           nfc, ignore_merges, add_bos, add_eos, add_space_prefix, plain_space;
    int32_t        n_vocab, bos, eos, unk, pad;
    size_t         max_text; /* longest token text */

    jpt_arena arena; /* holds everything below */
    jpt_str  *text;  /* [V] as the vocabulary writes it */
    jpt_str  *raw;   /* [V] the bytes it stands for */
    uint8_t  *type;  /* [V] */
    uint8_t  *eog;   /* [V] */
    float    *score; /* [V], SPM */

    int32_t *slot; /* open addressing over text, -1 empty; n_slots a power of two */
    size_t   n_slots;
    int32_t  byte_id[256]; /* token of a lone byte, -1 */

    struct jpt_merge *merge; /* open addressing over (left, right) */
    size_t            n_merge_slots;

    int32_t *special; /* control and user-defined ids, sorted by text */
    size_t   n_special;

    jpt_str chat_template;
};

/* GPT-2's writing of a byte: a code point below U+0144 for each. */
int32_t jpt_byte_to_cp(unsigned byte);
size_t  jpt_utf8_put(int32_t cp, char out[2]); /* cp < 0x800 */

const struct jpt_merge *jpt_merge_find(const jpt_tokenizer *tok, int32_t left, int32_t right); /* NULL: none */

/* ---- the merge engine (merge.c) --------------------------------------------------------------- */

struct jpt_symbol {
    size_t  start, len; /* bytes in the text that is worked on */
    int32_t id;         /* token, -1 when there is none for it */
    int32_t prev, next; /* -1 at the ends */
};
struct jpt_candidate {
    uint64_t order; /* smaller goes first; the lower half is the place, so that ties go left */
    size_t   len;   /* of both together; another length means it is out of date */
    int32_t  left, right, id;
};
/* Scratch memory of one encode call. */
struct jpt_merger {
    struct jpt_symbol    *symbol;
    struct jpt_candidate *heap;
    size_t                n_symbols, cap_symbols, n_heap, cap_heap;
};
void jpt_merger_fini(struct jpt_merger *m);
bool jpt_merger_add(struct jpt_merger *m, size_t start, size_t len, int32_t id); /* false: out of memory */

/* Merge the symbols until nothing more merges; walk the result from symbol[0] by .next.  `text` is what
 * starts and lengths refer to.  false: out of memory. */
bool jpt_merger_run(struct jpt_merger *m, const jpt_tokenizer *tok, const char *text);

#endif
