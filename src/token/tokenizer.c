/* Construction of a tokenizer from untrusted arrays, and the plain questions about it. */
#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TOKENS = 1 << 22,
    MAX_MERGES = 1 << 23,
    MAX_TOKEN_BYTES = 1 << 16,
    MAX_TOTAL_BYTES = 1 << 30,
};

/* ---- GPT-2's byte writing --------------------------------------------------------------------- */

/* Printable Latin-1 bytes stand for themselves, the other 68 for U+0100, U+0101, ... in order. */
int32_t jpt_byte_to_cp(unsigned b) {
    if ((b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD))
        return (int32_t)b;
    if (b <= 0x20)
        return (int32_t)(0x100 + b);
    if (b < 0xA1)
        return (int32_t)(0x121 + (b - 0x7F));
    return 0x143; /* 0xAD */
}

static int cp_to_byte(int32_t cp) {
    if (cp < 0 || cp > 0x143)
        return -1;
    int b = cp < 0x100 ? cp : cp <= 0x120 ? cp - 0x100 : cp < 0x143 ? cp - 0x121 + 0x7F : 0xAD;
    return jpt_byte_to_cp((unsigned)b) == cp ? b : -1;
}

size_t jpt_utf8_put(int32_t cp, char out[2]) {
    if (cp < 0x80)
        return out[0] = (char)cp, 1;
    out[0] = (char)(0xC0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 0x3F));
    return 2;
}

/* ---- hash tables ------------------------------------------------------------------------------ */

static size_t hash_bytes(const char *p, size_t n) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a, then mixed */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return (size_t)(h ^ h >> 29);
}

static size_t hash_pair(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (size_t)(h ^ h >> 31);
}

static size_t table_size(size_t n) {
    size_t s = 16;
    while (s < 2 * n)
        s *= 2;
    return s;
}

/* The slot that holds `text`, or the empty one where it would go. */
static size_t slot_of(const jpt_tokenizer *tok, jpt_str text) {
    size_t i = hash_bytes(text.p, text.n) & (tok->n_slots - 1);
    while (tok->slot[i] >= 0 && !jpt_str_eq(tok->text[tok->slot[i]], text))
        i = (i + 1) & (tok->n_slots - 1);
    return i;
}

int32_t jpt_tokenizer_find(const jpt_tokenizer *tok, jpt_str text) {
    return text.n && text.n <= tok->max_text ? tok->slot[slot_of(tok, text)] : -1;
}

static struct jpt_merge *merge_slot(const jpt_tokenizer *tok, int32_t left, int32_t right) {
    size_t i = hash_pair(left, right) & (tok->n_merge_slots - 1);
    while (tok->merge[i].left >= 0 && (tok->merge[i].left != left || tok->merge[i].right != right))
        i = (i + 1) & (tok->n_merge_slots - 1);
    return &tok->merge[i];
}

const struct jpt_merge *jpt_merge_find(const jpt_tokenizer *tok, int32_t left, int32_t right) {
    const struct jpt_merge *m = merge_slot(tok, left, right);
    return m->left >= 0 ? m : NULL;
}

/* ---- construction ----------------------------------------------------------------------------- */

static jpt_status no_memory(jpt_error *err, size_t n_tokens) {
    return JPT_FAIL(err, NOMEM, "tokenizer of %zu tokens: out of memory", n_tokens);
}

/* The byte N of an SPM token "<0xNN>", else -1. */
static int byte_token(jpt_str t) {
    static const char hex[] = "0123456789ABCDEF";
    if (t.n != 6 || memcmp(t.p, "<0x", 3) || t.p[5] != '>' || !t.p[3] || !t.p[4])
        return -1;
    const char *hi = strchr(hex, t.p[3]), *lo = strchr(hex, t.p[4]);
    return hi && lo ? (int)((hi - hex) * 16 + (lo - hex)) : -1;
}

/* The bytes that a token stands for; at most as many as its text has. */
static size_t raw_bytes(const jpt_tokenizer *tok, int32_t id, char *out) {
    jpt_str t = tok->text[id];
    size_t  n = 0;
    if (tok->type[id] == JPT_TOKEN_CONTROL || tok->type[id] == JPT_TOKEN_UNKNOWN)
        return memcpy(out, t.p, t.n), t.n;
    if (tok->kind == JPT_TOKEN_SPM) {
        if (tok->type[id] == JPT_TOKEN_BYTE)
            return out[0] = (char)byte_token(t), 1;
        for (size_t i = 0; i < t.n;) {
            if (!tok->plain_space && t.n - i >= 3 && !memcmp(t.p + i, "\xE2\x96\x81", 3)) {
                out[n++] = ' ';
                i += 3;
            } else {
                out[n++] = t.p[i++];
            }
        }
        return n;
    }
    if (tok->type[id] == JPT_TOKEN_USER)
        return memcpy(out, t.p, t.n), t.n;
    for (size_t i = 0; i < t.n;) {
        int32_t cp;
        i += jpt_utf8_decode(t.p + i, t.n - i, &cp);
        int b = cp_to_byte(cp);
        if (b < 0) /* not in byte writing after all: it stands for itself, as in HF */
            return memcpy(out, t.p, t.n), t.n;
        out[n++] = (char)b;
    }
    return n;
}

static jpt_status check_id(int32_t id, const char *what, size_t n_tokens, jpt_error *err) {
    if (id < -1 || (id >= 0 && (size_t)id >= n_tokens))
        return JPT_FAIL(err, FORMAT, "tokenizer: %s id is %d, but there are %zu tokens", what, id, n_tokens);
    return JPT_OK;
}

static jpt_status check_sizes(const jpt_token_spec *spec, jpt_error *err) {
    if (spec->kind != JPT_TOKEN_BPE && spec->kind != JPT_TOKEN_SPM)
        return JPT_FAIL(err, ARG, "tokenizer: kind %d is neither BPE nor SPM", (int)spec->kind);
    if (!spec->n_tokens || !spec->tokens || spec->n_tokens > MAX_TOKENS)
        return JPT_FAIL(err, FORMAT, "tokenizer: %zu tokens; expected 1 to %d", spec->n_tokens, MAX_TOKENS);
    if (spec->n_merges > MAX_MERGES || (spec->n_merges && !spec->merges))
        return JPT_FAIL(err, FORMAT, "tokenizer: %zu merges; expected at most %d", spec->n_merges, MAX_MERGES);
    if (spec->kind == JPT_TOKEN_SPM && !spec->scores)
        return JPT_FAIL(err, FORMAT, "tokenizer: a SentencePiece vocabulary needs scores, and there are none");
    size_t total = 0;
    for (size_t i = 0; i < spec->n_tokens; i++) {
        jpt_str t = spec->tokens[i];
        if (t.n > MAX_TOKEN_BYTES || (t.n && !t.p))
            return JPT_FAIL(err, FORMAT, "tokenizer: token %zu has %zu bytes; expected at most %d", i, t.n,
                            MAX_TOKEN_BYTES);
        total += t.n;
        if (total > MAX_TOTAL_BYTES)
            return JPT_FAIL(err, FORMAT, "tokenizer: the texts of tokens 0 to %zu pass %d bytes", i, MAX_TOTAL_BYTES);
        if (spec->types && (spec->types[i] < 0 || spec->types[i] > JPT_TOKEN_BYTE))
            return JPT_FAIL(err, FORMAT, "tokenizer: token %zu has type %d; expected 1 to 6", i, spec->types[i]);
        if (spec->kind == JPT_TOKEN_SPM && !isfinite(spec->scores[i]))
            return JPT_FAIL(err, FORMAT, "tokenizer: the score of token %zu is not a finite number", i);
    }
    if (spec->chat_template.n > MAX_TOTAL_BYTES)
        return JPT_FAIL(err, FORMAT, "tokenizer: the chat template has %zu bytes", spec->chat_template.n);
    const struct {
        int32_t     id;
        const char *what;
    } ids[] = {{spec->bos, "bos"}, {spec->eos, "eos"}, {spec->unk, "unk"},
               {spec->pad, "pad"}, {spec->eot, "eot"}, {spec->eom, "eom"}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        JPT_TRY(check_id(ids[i].id, ids[i].what, spec->n_tokens, err));
    for (size_t i = 0; i < spec->n_eog; i++)
        JPT_TRY(check_id(spec->eog[i], "end-of-generation", spec->n_tokens, err));
    return JPT_OK;
}

static uint8_t type_of(const jpt_token_spec *spec, size_t i) {
    if (spec->types)
        return spec->types[i] ? (uint8_t)spec->types[i] : JPT_TOKEN_NORMAL;
    int32_t id = (int32_t)i;
    if (id == spec->unk)
        return JPT_TOKEN_UNKNOWN;
    if (id == spec->bos || id == spec->eos || id == spec->pad || id == spec->eot || id == spec->eom)
        return JPT_TOKEN_CONTROL;
    if (spec->kind == JPT_TOKEN_SPM && byte_token(spec->tokens[i]) >= 0)
        return JPT_TOKEN_BYTE;
    return JPT_TOKEN_NORMAL;
}

static jpt_status copy_tokens(jpt_tokenizer *tok, const jpt_token_spec *spec, jpt_error *err) {
    size_t n = spec->n_tokens, total = 0;
    for (size_t i = 0; i < n; i++) {
        total += spec->tokens[i].n;
        if (spec->tokens[i].n > tok->max_text)
            tok->max_text = spec->tokens[i].n;
    }
    tok->n_slots = table_size(n);
    tok->text = jpt_arena_alloc(&tok->arena, n * sizeof *tok->text);
    tok->raw = jpt_arena_alloc(&tok->arena, n * sizeof *tok->raw);
    tok->type = jpt_arena_alloc(&tok->arena, n);
    tok->eog = jpt_arena_alloc(&tok->arena, n);
    tok->slot = jpt_arena_alloc(&tok->arena, tok->n_slots * sizeof *tok->slot);
    char *bytes = jpt_arena_alloc(&tok->arena, 2 * total + 1);
    if (!tok->text || !tok->raw || !tok->type || !tok->eog || !tok->slot || !bytes)
        return no_memory(err, n);
    if (spec->kind == JPT_TOKEN_SPM) {
        if (!(tok->score = jpt_arena_alloc(&tok->arena, n * sizeof *tok->score)))
            return no_memory(err, n);
        memcpy(tok->score, spec->scores, n * sizeof *tok->score);
    }
    memset(tok->slot, 0xFF, tok->n_slots * sizeof *tok->slot);
    memset(tok->byte_id, 0xFF, sizeof tok->byte_id);

    for (size_t i = 0; i < n; i++) {
        int32_t id = (int32_t)i;
        tok->type[i] = type_of(spec, i);
        tok->text[i] = (jpt_str){bytes, spec->tokens[i].n};
        if (spec->tokens[i].n)
            memcpy(bytes, spec->tokens[i].p, spec->tokens[i].n);
        bytes += spec->tokens[i].n;
        int byte = spec->kind == JPT_TOKEN_SPM ? byte_token(tok->text[i]) : -1;
        if (spec->kind == JPT_TOKEN_SPM && tok->type[i] == JPT_TOKEN_BYTE) {
            if (byte < 0)
                return JPT_FAIL(err, FORMAT, "tokenizer: token %zu ('%.*s') has type byte; expected a text like <0x0A>", i,
                                (int)(tok->text[i].n < 40 ? tok->text[i].n : 40), tok->text[i].p);
            tok->byte_id[byte] = id;
        }
        tok->raw[i] = (jpt_str){bytes, raw_bytes(tok, id, bytes)};
        bytes += tok->raw[i].n;
        if (!tok->text[i].n)
            continue; /* an empty token is never found in a text */
        size_t s = slot_of(tok, tok->text[i]);
        if (tok->slot[s] >= 0)
            return JPT_FAIL(err, FORMAT, "tokenizer: tokens %d and %zu have the same text '%.*s'", tok->slot[s], i,
                            (int)(tok->text[i].n < 40 ? tok->text[i].n : 40), tok->text[i].p);
        tok->slot[s] = id;
    }
    if (spec->kind == JPT_TOKEN_BPE)
        for (unsigned b = 0; b < 256; b++) {
            char   text[2];
            size_t len = jpt_utf8_put(jpt_byte_to_cp(b), text);
            tok->byte_id[b] = jpt_tokenizer_find(tok, (jpt_str){text, len});
        }
    return JPT_OK;
}

static jpt_status copy_merges(jpt_tokenizer *tok, const jpt_token_spec *spec, jpt_error *err) {
    size_t n = spec->kind == JPT_TOKEN_BPE ? spec->n_merges : 0;
    tok->n_merge_slots = table_size(n);
    tok->merge = jpt_arena_alloc(&tok->arena, tok->n_merge_slots * sizeof *tok->merge);
    if (!tok->merge)
        return no_memory(err, spec->n_tokens);
    for (size_t i = 0; i < tok->n_merge_slots; i++)
        tok->merge[i].left = -1;
    char *both = jpt_arena_alloc(&tok->arena, tok->max_text + 1);
    if (!both)
        return no_memory(err, spec->n_tokens);
    for (size_t i = 0; i < n; i++) {
        jpt_str     m = spec->merges[i];
        int         shown = (int)(m.n < 60 ? m.n : 60);
        const char *gap = m.n ? memchr(m.p, ' ', m.n) : NULL;
        if (!gap || gap == m.p || gap == m.p + m.n - 1)
            return JPT_FAIL(err, FORMAT, "tokenizer: merge %zu is '%.*s'; expected two tokens with a space between", i,
                            shown, m.n ? m.p : "");
        jpt_str left = {m.p, (size_t)(gap - m.p)}, right = {gap + 1, m.n - left.n - 1};
        int32_t l = jpt_tokenizer_find(tok, left), r = jpt_tokenizer_find(tok, right), id = -1;
        if (l >= 0 && r >= 0 && left.n + right.n <= tok->max_text) {
            memcpy(both, left.p, left.n);
            memcpy(both + left.n, right.p, right.n);
            id = jpt_tokenizer_find(tok, (jpt_str){both, left.n + right.n});
        }
        if (id < 0)
            return JPT_FAIL(err, FORMAT, "tokenizer: merge %zu ('%.*s') has %s that is not in the vocabulary", i, shown, m.p,
                            l < 0 ? "a left part" : r < 0 ? "a right part" : "a result");
        struct jpt_merge *slot = merge_slot(tok, l, r);
        if (slot->left < 0) /* of two alike the better one counts */
            *slot = (struct jpt_merge){l, r, (uint32_t)i, id};
    }
    return JPT_OK;
}

static int by_text(const void *a, const void *b, void *ud) {
    const jpt_tokenizer *tok = ud;
    jpt_str              x = tok->text[*(const int32_t *)a], y = tok->text[*(const int32_t *)b];
    int                  c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

static jpt_status note_specials(jpt_tokenizer *tok, const jpt_token_spec *spec, jpt_error *err) {
    static const char *const eog_texts[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>",    "<|eom_id|>", "<|end_of_text|>",
                                            "<|end|>",    "<|eot|>",       "<end_of_turn>", "<EOT>",      "<|END_OF_TURN_TOKEN|>"};
    tok->special = jpt_arena_alloc(&tok->arena, spec->n_tokens * sizeof *tok->special);
    if (!tok->special)
        return no_memory(err, spec->n_tokens);
    for (size_t i = 0; i < spec->n_tokens; i++) {
        if ((tok->type[i] != JPT_TOKEN_CONTROL && tok->type[i] != JPT_TOKEN_USER) || !tok->text[i].n)
            continue;
        tok->special[tok->n_special++] = (int32_t)i;
        for (size_t e = 0; e < sizeof eog_texts / sizeof eog_texts[0]; e++)
            if (jpt_str_eqz(tok->text[i], eog_texts[e]))
                tok->eog[i] = 1;
    }
    if (tok->n_special)
        qsort_r(tok->special, tok->n_special, sizeof *tok->special, by_text, tok);
    const int32_t ends[] = {spec->eos, spec->eot, spec->eom};
    for (size_t i = 0; i < 3; i++)
        if (ends[i] >= 0)
            tok->eog[ends[i]] = 1;
    for (size_t i = 0; i < spec->n_eog; i++)
        if (spec->eog[i] >= 0)
            tok->eog[spec->eog[i]] = 1;
    return JPT_OK;
}

static jpt_status build(jpt_tokenizer *tok, const jpt_token_spec *spec, jpt_error *err) {
    JPT_TRY(copy_tokens(tok, spec, err));
    JPT_TRY(copy_merges(tok, spec, err));
    JPT_TRY(note_specials(tok, spec, err));
    if (spec->chat_template.n) {
        char *t = jpt_arena_strndup(&tok->arena, spec->chat_template.p, spec->chat_template.n);
        if (!t)
            return no_memory(err, spec->n_tokens);
        tok->chat_template = (jpt_str){t, spec->chat_template.n};
    }
    return JPT_OK;
}

jpt_status jpt_tokenizer_new(const jpt_token_spec *spec, jpt_tokenizer **out, jpt_error *err) {
    JPT_TRY(check_sizes(spec, err));
    jpt_pretok pre = JPT_PRETOK_GPT2;
    if (spec->kind == JPT_TOKEN_BPE && !jpt_pretok_by_name(spec->pre, &pre))
        return JPT_FAIL(err, UNSUPPORTED, "tokenizer: pre-tokenizer '%.*s' is not known; known are %s",
                        (int)(spec->pre.n < 60 ? spec->pre.n : 60), spec->pre.n ? spec->pre.p : "", jpt_pretok_names);
    jpt_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok)
        return no_memory(err, spec->n_tokens);
    tok->kind = spec->kind;
    tok->pre = pre;
    tok->nfc = spec->kind == JPT_TOKEN_BPE && pre == JPT_PRETOK_QWEN2;
    tok->ignore_merges = spec->kind == JPT_TOKEN_BPE && pre == JPT_PRETOK_LLAMA3;
    tok->n_vocab = (int32_t)spec->n_tokens;
    tok->bos = spec->bos;
    tok->eos = spec->eos;
    tok->unk = spec->unk;
    tok->pad = spec->pad;
    tok->add_bos = spec->add_bos;
    tok->add_eos = spec->add_eos;
    tok->add_space_prefix = spec->kind == JPT_TOKEN_SPM && spec->add_space_prefix;
    tok->plain_space = spec->plain_space;
    jpt_status s = build(tok, spec, err);
    if (s != JPT_OK)
        return jpt_tokenizer_free(tok), s;
    *out = tok;
    return JPT_OK;
}

void jpt_tokenizer_free(jpt_tokenizer *tok) {
    if (!tok)
        return;
    jpt_arena_fini(&tok->arena);
    free(tok);
}

/* ---- questions -------------------------------------------------------------------------------- */

static bool in_range(const jpt_tokenizer *tok, int32_t id) {
    return id >= 0 && id < tok->n_vocab;
}

int32_t jpt_tokenizer_n_vocab(const jpt_tokenizer *tok) { return tok->n_vocab; }
jpt_token_kind jpt_tokenizer_kind(const jpt_tokenizer *tok) { return tok->kind; }
int32_t jpt_tokenizer_bos(const jpt_tokenizer *tok) { return tok->bos; }
int32_t jpt_tokenizer_eos(const jpt_tokenizer *tok) { return tok->eos; }
int32_t jpt_tokenizer_unk(const jpt_tokenizer *tok) { return tok->unk; }
int32_t jpt_tokenizer_pad(const jpt_tokenizer *tok) { return tok->pad; }
jpt_str jpt_tokenizer_chat_template(const jpt_tokenizer *tok) { return tok->chat_template; }

bool jpt_tokenizer_is_eog(const jpt_tokenizer *tok, int32_t id) {
    return in_range(tok, id) && tok->eog[id];
}

bool jpt_tokenizer_is_control(const jpt_tokenizer *tok, int32_t id) {
    return in_range(tok, id) && tok->type[id] == JPT_TOKEN_CONTROL;
}

jpt_str jpt_token_text(const jpt_tokenizer *tok, int32_t id) {
    return in_range(tok, id) ? tok->text[id] : (jpt_str){"", 0};
}

jpt_str jpt_token_piece(const jpt_tokenizer *tok, int32_t id) {
    return in_range(tok, id) ? tok->raw[id] : (jpt_str){"", 0};
}
