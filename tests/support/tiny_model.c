#include "tiny_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void u32(jpt_buf *b, uint32_t v) { jpt_buf_add(b, &v, 4); }
static void u64(jpt_buf *b, uint64_t v) { jpt_buf_add(b, &v, 8); }
static void str(jpt_buf *b, const char *s) {
    u64(b, strlen(s));
    jpt_buf_addz(b, s);
}
static void kv_u32(jpt_buf *b, const char *key, uint32_t v) {
    str(b, key);
    u32(b, 4);
    u32(b, v);
}
static void kv_f32(jpt_buf *b, const char *key, float v) {
    str(b, key);
    u32(b, 6);
    jpt_buf_add(b, &v, 4);
}
static void kv_str(jpt_buf *b, const char *key, const char *v) {
    str(b, key);
    u32(b, 8);
    str(b, v);
}

/* GPT-2's writing of a byte as a printable character. */
static void byte_token(int byte, char out[4]) {
    int cp = byte, extra = 0;
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    if (!printable) {
        for (int i = 0; i < byte; i++)
            extra += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || (i >= 174 && i <= 255));
        cp = 256 + extra;
    }
    if (cp < 0x80) {
        out[0] = (char)cp;
        out[1] = 0;
    } else {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 63));
        out[2] = 0;
    }
}

static const char *const merged[] = {"he", "in", "th", "er", "an"};
static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
enum { N_VOCAB = 256 + 5 + 3 };

typedef struct tensor_spec {
    char    name[48];
    int32_t rows, cols; /* rows 0: a vector */
    bool    one;        /* around 1: norms */
} tensor_spec;

static uint64_t write_model(const tiny_model *t, bool weights, jpt_buf *out) {
    const char *arch = t->architecture ? t->architecture : "llama";
    int32_t     D = t->n_embd ? t->n_embd : 64, F = t->n_ff ? t->n_ff : 96, L = t->n_layers ? t->n_layers : 2, H = t->n_heads ? t->n_heads : 4,
            K = t->n_kv_heads ? t->n_kv_heads : 2, ctx = t->n_ctx ? t->n_ctx : 256, E = D / H;
    bool        bias = strcmp(arch, "qwen2") == 0;
    tensor_spec spec[256];
    int         n = 0;
#define ADD(one_, rows_, cols_, ...)                                                                \
    do {                                                                                            \
        snprintf(spec[n].name, sizeof spec[n].name, __VA_ARGS__);                                   \
        spec[n].rows = (rows_), spec[n].cols = (cols_), spec[n].one = (one_);                       \
        n++;                                                                                        \
    } while (0)
    ADD(false, N_VOCAB, D, "token_embd.weight");
    ADD(true, 0, D, "output_norm.weight");
    if (t->untied)
        ADD(false, N_VOCAB, D, "output.weight");
    for (int l = 0; l < L; l++) {
        ADD(true, 0, D, "blk.%d.attn_norm.weight", l);
        ADD(false, H * E, D, "blk.%d.attn_q.weight", l);
        ADD(false, K * E, D, "blk.%d.attn_k.weight", l);
        ADD(false, K * E, D, "blk.%d.attn_v.weight", l);
        ADD(false, D, H * E, "blk.%d.attn_output.weight", l);
        ADD(true, 0, D, "blk.%d.ffn_norm.weight", l);
        ADD(false, F, D, "blk.%d.ffn_gate.weight", l);
        ADD(false, F, D, "blk.%d.ffn_up.weight", l);
        ADD(false, D, F, "blk.%d.ffn_down.weight", l);
        if (bias) {
            ADD(false, 0, H * E, "blk.%d.attn_q.bias", l);
            ADD(false, 0, K * E, "blk.%d.attn_k.bias", l);
            ADD(false, 0, K * E, "blk.%d.attn_v.bias", l);
        }
    }
    jpt_buf_addz(out, "GGUF");
    u32(out, 3);
    u64(out, (uint64_t)n);
    u64(out, 19);
    char key[64];
#define KEY(suffix) (snprintf(key, sizeof key, "%s." suffix, arch), key)
    kv_str(out, "general.architecture", arch);
    kv_str(out, "general.name", "tiny");
    kv_u32(out, KEY("block_count"), (uint32_t)L);
    kv_u32(out, KEY("embedding_length"), (uint32_t)D);
    kv_u32(out, KEY("feed_forward_length"), (uint32_t)F);
    kv_u32(out, KEY("attention.head_count"), (uint32_t)H);
    kv_u32(out, KEY("attention.head_count_kv"), (uint32_t)K);
    kv_u32(out, KEY("context_length"), (uint32_t)ctx);
    kv_f32(out, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    kv_f32(out, KEY("rope.freq_base"), 10000);
    kv_str(out, "tokenizer.ggml.model", "gpt2");
    kv_str(out, "tokenizer.ggml.pre", bias ? "qwen2" : "smollm");
    str(out, "tokenizer.ggml.tokens");
    u32(out, 9);
    u32(out, 8);
    u64(out, N_VOCAB);
    for (int i = 0; i < 256; i++) {
        char c[4];
        byte_token(i, c);
        str(out, c);
    }
    for (int i = 0; i < 5; i++)
        str(out, merged[t->other_tokens ? 4 - i : i]);
    for (int i = 0; i < 3; i++)
        str(out, special[i]);
    str(out, "tokenizer.ggml.token_type");
    u32(out, 9);
    u32(out, 5);
    u64(out, N_VOCAB);
    for (int i = 0; i < N_VOCAB; i++)
        u32(out, i < 261 ? 1 : 3);
    str(out, "tokenizer.ggml.merges");
    u32(out, 9);
    u32(out, 8);
    u64(out, 5);
    for (int i = 0; i < 5; i++) {
        char m[4] = {merged[i][0], ' ', merged[i][1], 0};
        str(out, m);
    }
    kv_u32(out, "tokenizer.ggml.bos_token_id", 261);
    kv_u32(out, "tokenizer.ggml.eos_token_id", 263);
    str(out, "tokenizer.ggml.add_bos_token");
    u32(out, 7);
    jpt_buf_addc(out, 0);
    kv_str(out, "tokenizer.chat_template", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}");
    uint64_t offset = 0;
    for (int i = 0; i < n; i++) {
        jpt_dtype dtype = spec[i].rows ? t->dtype : JPT_F32;
        size_t    row = 0;
        JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)spec[i].cols, &row));
        str(out, spec[i].name);
        u32(out, spec[i].rows ? 2 : 1);
        u64(out, (uint64_t)spec[i].cols);
        if (spec[i].rows)
            u64(out, (uint64_t)spec[i].rows);
        u32(out, dtype);
        u64(out, offset);
        offset += ((uint64_t)row * (uint64_t)(spec[i].rows ? spec[i].rows : 1) + 31) / 32 * 32;
    }
    while (out->n % 32)
        jpt_buf_addc(out, 0);
    uint64_t size = out->n + offset;
    if (!weights)
        return size;
    float   *f = malloc((size_t)(D + F + H * E) * sizeof *f);
    uint8_t *q = malloc((size_t)(D + F + H * E) * sizeof *f);
    JPT_ASSERT(f && q);
    for (int i = 0; i < n; i++) {
        jpt_dtype dtype = spec[i].rows ? t->dtype : JPT_F32;
        for (int r = 0; r < (spec[i].rows ? spec[i].rows : 1); r++) {
            size_t bytes = 0;
            for (int c = 0; c < spec[i].cols; c++) {
                jpt_rng_key k = {t->seed + 77, (uint32_t)i, (uint32_t)r, (uint32_t)c};
                float       u = (float)(jpt_rng_uniform(k, 0) - 0.5);
                f[c] = spec[i].one ? 1 + 0.2f * u : u * 4 / sqrtf((float)D);
            }
            jpt_quantize_row(dtype, f, q, (size_t)spec[i].cols);
            JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)spec[i].cols, &bytes));
            jpt_buf_add(out, q, bytes);
        }
        while (out->n % 32)
            jpt_buf_addc(out, 0);
    }
    free(f);
    free(q);
    return size;
}

void     tiny_model_bytes(const tiny_model *t, jpt_buf *out) { write_model(t, true, out); }
uint64_t tiny_model_header(const tiny_model *t, jpt_buf *out) { return write_model(t, false, out); }

char *tiny_model_file(const tiny_model *t) {
    char    path[] = "/tmp/jpt-tiny-XXXXXX.gguf";
    jpt_buf b = {0};
    int     fd = mkstemps(path, 5);
    JPT_ASSERT(fd >= 0);
    close(fd);
    tiny_model_bytes(t, &b);
    JPT_ASSERT(!b.oom && jpt_file_write(path, b.p, b.n, NULL) == JPT_OK);
    jpt_buf_fini(&b);
    return strdup(path);
}
