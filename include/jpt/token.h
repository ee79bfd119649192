/* Tokenizers: text to token ids and back, and the chat templates that wrap messages into text.
 *
 * Two kinds of model: byte-level BPE (GPT-2, Llama 3, Qwen 2, SmolLM) and SentencePiece BPE as Llama 2
 * uses it (merges by score, byte fallback).  A tokenizer is built from plain arrays, so this module knows
 * no file format.  The arrays come from untrusted files: everything is checked in jpt_tokenizer_new.
 *
 * The definition of "right" is HF `tokenizers` (byte-level BPE) and `sentencepiece` (SPM): same ids.
 * Input that is not valid UTF-8, which neither reference accepts, is taken byte by byte: an invalid byte is a
 * symbol that is no letter, number or space, and is encoded as its byte token, so that it comes back.
 *
 * A jpt_tokenizer is immutable: any number of threads may use one at a time. */
#ifndef JPT_TOKEN_H
#define JPT_TOKEN_H

#include <jpt/base.h>

/* ---- construction ----------------------------------------------------------------------------- */

typedef enum jpt_token_kind { JPT_TOKEN_BPE, JPT_TOKEN_SPM } jpt_token_kind;

/* Token types, with GGUF's numbers (0, undefined, is read as normal). */
enum {
    JPT_TOKEN_NORMAL = 1,
    JPT_TOKEN_UNKNOWN = 2,
    JPT_TOKEN_CONTROL = 3, /* never made from text, unless JPT_ENCODE_PARSE_SPECIAL */
    JPT_TOKEN_USER = 4,    /* always found in text, never merged */
    JPT_TOKEN_UNUSED = 5,
    JPT_TOKEN_BYTE = 6, /* SPM: <0xNN> */
};

/* Special ids are -1 when absent; start from JPT_TOKEN_SPEC_INIT. */
typedef struct jpt_token_spec {
    jpt_token_kind kind;
    jpt_str        pre; /* BPE: "gpt-2", "smollm", "llama-bpe", "qwen2"; ignored for SPM */

    const jpt_str *tokens; /* [n_tokens]; byte-level BPE: in GPT-2's byte-to-Unicode writing */
    const int32_t *types;  /* [n_tokens] or NULL: special ids are control, SPM "<0xNN>" are bytes */
    const float   *scores; /* [n_tokens], SPM only (required there); else NULL */
    size_t         n_tokens;
    const jpt_str *merges; /* [n_merges] "left right", best first; BPE only */
    size_t         n_merges;

    int32_t        bos, eos, unk, pad, eot, eom;
    const int32_t *eog; /* [n_eog] further end-of-generation ids, may be NULL */
    size_t         n_eog;
    bool           add_bos, add_eos;
    bool           add_space_prefix; /* SPM: a space goes before the text (Llama 2: true) */
    bool           plain_space;      /* SPM: the vocabulary writes a space as ' ', not as U+2581 (llama2.c) */
    jpt_str        chat_template;    /* Jinja text of the model's metadata, may be empty */
} jpt_token_spec;

#define JPT_TOKEN_SPEC_INIT {.bos = -1, .eos = -1, .unk = -1, .pad = -1, .eot = -1, .eom = -1}

typedef struct jpt_tokenizer jpt_tokenizer;

/* Check *spec and build a tokenizer.  Everything is copied: the spec's arrays may go away afterwards.
 * Errors: JPT_FORMAT (two tokens alike, an id out of range, a merge of absent tokens, a score that is not
 * a number, too many or too long: the message names the index), JPT_UNSUPPORTED (a pre-tokenizer that jpt
 * does not know: named, with the known ones), JPT_NOMEM. */
jpt_status jpt_tokenizer_new(const jpt_token_spec *spec, jpt_tokenizer **out, jpt_error *err);
void       jpt_tokenizer_free(jpt_tokenizer *tok); /* NULL accepted */

/* ---- questions -------------------------------------------------------------------------------- */

int32_t        jpt_tokenizer_n_vocab(const jpt_tokenizer *tok);
jpt_token_kind jpt_tokenizer_kind(const jpt_tokenizer *tok);
int32_t        jpt_tokenizer_bos(const jpt_tokenizer *tok); /* -1 when absent; so are the next three */
int32_t        jpt_tokenizer_eos(const jpt_tokenizer *tok);
int32_t        jpt_tokenizer_unk(const jpt_tokenizer *tok);
int32_t        jpt_tokenizer_pad(const jpt_tokenizer *tok);

/* Does this id end a generation?  eos, eot, eom, spec.eog, and control or user-defined tokens with a text
 * known for it (<|im_end|>, <|endoftext|>, <|eot_id|>, <|end_of_text|>, <end_of_turn>, ...). */
bool jpt_tokenizer_is_eog(const jpt_tokenizer *tok, int32_t id);
bool jpt_tokenizer_is_control(const jpt_tokenizer *tok, int32_t id);

/* Id of the token whose vocabulary text is exactly `text`; -1 when there is none. */
int32_t jpt_tokenizer_find(const jpt_tokenizer *tok, jpt_str text);

/* The token's text as the vocabulary writes it ("\u0120the", "\u2581the", "<0x0A>"); empty for an id out of range.
 * Borrowed from tok, as are the next two. */
jpt_str jpt_token_text(const jpt_tokenizer *tok, int32_t id);

/* The raw bytes the token stands for (" the", "\n"); a control token gives its text.  They need not be whole
 * UTF-8.  Empty for an id out of range. */
jpt_str jpt_token_piece(const jpt_tokenizer *tok, int32_t id);

jpt_str jpt_tokenizer_chat_template(const jpt_tokenizer *tok);

/* ---- encode ----------------------------------------------------------------------------------- */

/* Growable ids.  Zero-initialise; release with jpt_ids_fini. */
typedef struct jpt_ids {
    int32_t *p;
    size_t   n, cap;
} jpt_ids;
void jpt_ids_fini(jpt_ids *v);
bool jpt_ids_push(jpt_ids *v, int32_t id); /* false: out of memory, v unchanged */

enum {
    JPT_ENCODE_ADD_SPECIAL = 1,   /* bos before and eos after, where the model wants them */
    JPT_ENCODE_PARSE_SPECIAL = 2, /* control tokens written in the text ("<|im_end|>") become their ids */
};

/* Append the ids of text[0..n) to *out.  Cost: O(n log n); with Qwen 2 the NFC step (utf8proc) may be quadratic in
 * the length of one run of combining marks.
 *
 * A byte that has no token (SmolLM2 lacks a few that cannot occur in UTF-8 or hardly do) is left out by
 * BPE, as HF leaves it out; SPM uses unk where byte tokens are absent.  Qwen 2 normalises valid UTF-8 to NFC first.
 * SPM cannot tell U+2581 in a text from a space.
 * Errors: JPT_ARG (more than 2^30 bytes), JPT_NOMEM; *out keeps its old content then. */
jpt_status jpt_tokenizer_encode(const jpt_tokenizer *tok, const char *text, size_t n, unsigned flags, jpt_ids *out,
                                jpt_error *err);

/* ---- decode ----------------------------------------------------------------------------------- */

enum {
    JPT_DECODE_SKIP_SPECIAL = 1, /* control tokens give no text */
    JPT_DECODE_CONTINUE = 2,     /* text came before: SPM keeps the space at the very start */
};

/* Append the raw bytes of ids[0..n) to *out: the inverse of encode.  With SPM and add_space_prefix the one
 * space that encode put at the start and after a control token is taken away again.
 * Errors: JPT_ARG (an id out of range, named), JPT_NOMEM. */
jpt_status jpt_tokenizer_decode(const jpt_tokenizer *tok, const int32_t *ids, size_t n, unsigned flags, jpt_buf *out,
                                jpt_error *err);

/* Streaming: the same bytes token by token, made into valid UTF-8.  Bytes of an unfinished character are held
 * back; bytes that can never become one turn into U+FFFD (one for each maximal part, as Python's
 * errors="replace" and Unicode chapter 3.9 have it).  Nothing to release. */
typedef struct jpt_detok {
    const jpt_tokenizer *tok;
    unsigned             flags;
    bool                 strip; /* the next piece loses one leading space */
    uint8_t              n_held;
    char                 held[4];
} jpt_detok;

void       jpt_detok_init(jpt_detok *d, const jpt_tokenizer *tok, unsigned flags); /* JPT_DECODE_* */
jpt_status jpt_detok_push(jpt_detok *d, int32_t id, jpt_buf *out, jpt_error *err);
jpt_status jpt_detok_flush(jpt_detok *d, jpt_buf *out, jpt_error *err); /* held bytes become U+FFFD */

/* ---- chat ------------------------------------------------------------------------------------- */

typedef enum jpt_chat_kind {
    JPT_CHAT_NONE, /* no template, or one that jpt does not know */
    JPT_CHAT_CHATML,
    JPT_CHAT_LLAMA2,
    JPT_CHAT_LLAMA3,
    JPT_CHAT_MISTRAL,
} jpt_chat_kind;

typedef struct jpt_chat_message {
    jpt_str role; /* "system", "user", "assistant" */
    jpt_str content;
} jpt_chat_message;

jpt_chat_kind jpt_chat_detect(jpt_str chat_template);
const char   *jpt_chat_name(jpt_chat_kind kind); /* "chatml", ...; never NULL */

/* The system message that a ChatML template puts in when the conversation starts without one (SmolLM2 and
 * Qwen 2.5 have one), copied to *out, escapes resolved; nothing is written when there is none. */
void jpt_chat_default_system(jpt_str chat_template, jpt_buf *out);

/* Append the conversation as the model's template writes it.  bos and eos texts come from tok, and the
 * default system message from its chat template.  The text holds its own bos: encode it with
 * JPT_ENCODE_PARSE_SPECIAL and without JPT_ENCODE_ADD_SPECIAL.
 * Errors: JPT_UNSUPPORTED (JPT_CHAT_NONE), JPT_ARG (roles that the template refuses), JPT_NOMEM. */
jpt_status jpt_chat_format(jpt_chat_kind kind, const jpt_tokenizer *tok, const jpt_chat_message *messages,
                           size_t n_messages, bool add_generation_prompt, jpt_buf *out, jpt_error *err);

/* ---- WordPiece -------------------------------------------------------------------------------- */

/* BERT's tokenizer: cleaning, lower case without accents, blanks around CJK characters, words and punctuation, then the
 * longest known pieces of each word from the left (Devlin et al. 2018).  The definition is HF `tokenizers`
 * (BertNormalizer, BertPreTokenizer, WordPiece): same ids.  Bytes that are no UTF-8 count as U+FFFD, which BERT drops.
 * Immutable, as a jpt_tokenizer. */
typedef struct jpt_wordpiece jpt_wordpiece;

/* From a vocab.txt: a token a line, its id the line's number.  `name` is for messages.  lower: also strips accents, as HF does.
 * Errors: JPT_FORMAT (no [UNK], [CLS] or [SEP], a token twice, none at all: named with the line), JPT_NOMEM. */
jpt_status jpt_wordpiece_new(const char *name, const char *vocab, size_t n, bool lower, jpt_wordpiece **out, jpt_error *err);
void       jpt_wordpiece_free(jpt_wordpiece *w); /* NULL accepted */
int32_t    jpt_wordpiece_n_vocab(const jpt_wordpiece *w);

/* Append [CLS], the text's ids and [SEP] to *out, at most `limit` in all, the text cut where it is longer; 0: no limit.
 * "[CLS]", "[SEP]", "[UNK]", "[PAD]" and "[MASK]" in the text become those tokens, as HF has it.
 * Errors: JPT_ARG (limit 1), JPT_NOMEM; *out keeps its old content then. */
jpt_status jpt_wordpiece_encode(const jpt_wordpiece *w, const char *text, size_t n, int32_t limit, jpt_ids *out, jpt_error *err);

#endif
