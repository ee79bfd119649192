/* libFuzzer target of the tokenizers.  The input makes a small hostile spec and a text: nothing may crash, and every
 * accepted spec encodes and decodes.  The text also goes through a fixed good spec (256 byte tokens, some merges) under
 * each pre-tokenizer, where decode(encode(x)) = x must hold (not for qwen2, which normalises).
 * Input: flag byte, then tokens and merges as length-prefixed strings, then the text. */
#include <jpt/token.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

static jpt_tokenizer *good(size_t k) {
    static jpt_tokenizer *made[4];
    if (made[k])
        return made[k];
    static char    text[256][3];
    jpt_str        tokens[264];
    int32_t        types[264];
    jpt_str        merges[] = {jpt_str_z("t h"), jpt_str_z("th e"), jpt_str_z("a a"), jpt_str_z("aa aa")};
    jpt_token_spec spec = JPT_TOKEN_SPEC_INIT;
    for (int b = 0, next = 0; b < 256; b++) {
        bool plain = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
        int  cp = plain ? b : 0x100 + next++;
        int  len = cp < 0x80 ? 1 : 2;
        text[b][0] = (char)(len == 1 ? cp : 0xC0 | cp >> 6);
        text[b][1] = (char)(0x80 | (cp & 0x3F));
        tokens[b] = (jpt_str){text[b], (size_t)len};
    }
    const char *more[] = {"th", "the", "aa", "aaaa", "<|im_end|>", "<sep>", "<sep><sep>", "<s>"};
    for (int i = 0; i < 264; i++)
        types[i] = i < 260 ? JPT_TOKEN_NORMAL : i % 2 ? JPT_TOKEN_USER : JPT_TOKEN_CONTROL;
    for (int i = 0; i < 8; i++)
        tokens[256 + i] = jpt_str_z(more[i]);
    spec.kind = JPT_TOKEN_BPE;
    spec.pre = jpt_str_z(pres[k]);
    spec.tokens = tokens;
    spec.types = types;
    spec.n_tokens = 264;
    spec.merges = merges;
    spec.n_merges = 4;
    JPT_ASSERT(jpt_tokenizer_new(&spec, &made[k], NULL) == JPT_OK);
    return made[k];
}

static void through(const jpt_tokenizer *tok, jpt_str text, bool exact) {
    for (unsigned flags = 0; flags < 4; flags++) {
        jpt_ids   ids = {0};
        jpt_buf   bytes = {0}, stream = {0};
        jpt_detok d;
        JPT_ASSERT(jpt_tokenizer_encode(tok, text.p, text.n, flags, &ids, NULL) == JPT_OK);
        JPT_ASSERT(jpt_tokenizer_decode(tok, ids.p, ids.n, 0, &bytes, NULL) == JPT_OK);
        if (exact)
            JPT_ASSERT(bytes.n == text.n && (!text.n || !memcmp(bytes.p, text.p, text.n)));
        jpt_detok_init(&d, tok, flags);
        for (size_t i = 0; i < ids.n; i++)
            JPT_ASSERT(jpt_detok_push(&d, ids.p[i], &stream, NULL) == JPT_OK);
        JPT_ASSERT(jpt_detok_flush(&d, &stream, NULL) == JPT_OK);
        JPT_ASSERT(jpt_utf8_valid_prefix(stream.p, stream.n) == stream.n);
        jpt_ids_fini(&ids);
        jpt_buf_fini(&bytes);
        jpt_buf_fini(&stream);
    }
}

struct input {
    const uint8_t *p;
    size_t         n;
};

static uint8_t byte(struct input *in) {
    return in->n ? (in->n--, *in->p++) : 0;
}

static jpt_str string(struct input *in) {
    size_t  n = byte(in) % 16;
    jpt_str s = {(const char *)in->p, n < in->n ? n : in->n};
    in->p += s.n;
    in->n -= s.n;
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct input   in = {data, n};
    jpt_str        tokens[64], merges[32];
    int32_t        types[64], eog[1];
    float          scores[64];
    jpt_token_spec spec = JPT_TOKEN_SPEC_INIT;
    uint8_t        flags = byte(&in);
    spec.kind = flags & 1 ? JPT_TOKEN_SPM : JPT_TOKEN_BPE;
    spec.pre = jpt_str_z(pres[flags >> 1 & 3]);
    spec.add_bos = flags & 8;
    spec.add_eos = flags & 16;
    spec.add_space_prefix = flags & 32;
    spec.plain_space = flags & 64;
    spec.n_tokens = byte(&in) % 64;
    spec.n_merges = byte(&in) % 32;
    spec.bos = (int8_t)byte(&in);
    spec.eos = (int8_t)byte(&in);
    spec.unk = (int8_t)byte(&in);
    eog[0] = (int8_t)byte(&in);
    spec.eog = eog;
    spec.n_eog = 1;
    for (size_t i = 0; i < spec.n_tokens; i++) {
        uint8_t t = byte(&in);
        types[i] = t & 7;
        scores[i] = (float)(int8_t)t;
        tokens[i] = string(&in);
    }
    for (size_t i = 0; i < spec.n_merges; i++)
        merges[i] = string(&in);
    spec.tokens = tokens;
    spec.types = flags & 128 ? types : NULL;
    spec.scores = scores;
    spec.merges = merges;
    jpt_str text = {(const char *)in.p, in.n};
    spec.chat_template = text;

    jpt_tokenizer *tok = NULL;
    jpt_error      err = {0};
    if (jpt_tokenizer_new(&spec, &tok, &err) == JPT_OK) {
        through(tok, text, false);
        jpt_buf          out = {0};
        jpt_chat_message m[] = {{jpt_str_z("user"), text}, {jpt_str_z("assistant"), text}};
        jpt_chat_format(jpt_chat_detect(text), tok, m, 2, true, &out, NULL);
        jpt_buf_fini(&out);
        jpt_tokenizer_free(tok);
    } else {
        JPT_ASSERT(err.code != JPT_OK && err.msg[0] && !tok);
    }
    for (size_t k = 0; k < 4; k++)
        through(good(k), text, k < 3);
    return 0;
}
