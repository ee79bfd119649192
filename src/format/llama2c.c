/* llama2.c's export format, version 0: seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads,
 * vocab_size, seq_len; a negative vocab_size means an untied classifier), then float32 tensors in a fixed
 * order.  Tokenizer: int32 longest token, then per token float score, int32 length, bytes.
 * Source: llama2.c's export.py (legacy_export) and run.c. */
#include "format_priv.h"
#include <math.h>
#include <string.h>

typedef struct header {
    int32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len;
} header;

/* Elements of each tensor in file order; false when the header is not plausible. */
static bool layout(const header *h, bool tied, uint64_t *total) {
    if (h->dim < 2 || h->dim > 1 << 16 || h->hidden_dim < 1 || h->hidden_dim > 1 << 18 || h->n_layers < 1 || h->n_layers > 512 ||
        h->n_heads < 1 || h->n_heads > h->dim || h->n_kv_heads < 1 || h->n_kv_heads > h->n_heads || h->vocab_size < 2 ||
        h->vocab_size > 1 << 22 || h->seq_len < 1 || h->seq_len > 1 << 20 || h->dim % h->n_heads || h->n_heads % h->n_kv_heads ||
        h->dim / h->n_heads % 2)
        return false;
    uint64_t D = (uint64_t)h->dim, F = (uint64_t)h->hidden_dim, L = (uint64_t)h->n_layers, E = D / (uint64_t)h->n_heads,
             kv = E * (uint64_t)h->n_kv_heads, V = (uint64_t)h->vocab_size;
    *total = V * D + L * (D + D * D + 2 * D * kv + D * D + D + 3 * D * F) + D + (uint64_t)h->seq_len * E + (tied ? 0 : V * D);
    return true;
}

static bool read_header(const uint8_t *p, size_t n, header *h, bool *tied, uint64_t *total) {
    if (n < sizeof *h)
        return false;
    memcpy(h, p, sizeof *h);
    *tied = h->vocab_size > 0;
    if (h->vocab_size == INT32_MIN)
        return false;
    if (!*tied)
        h->vocab_size = -h->vocab_size;
    return layout(h, *tied, total);
}

bool jpt_llama2c_sniff(const uint8_t *p, size_t n) {
    header   h;
    bool     tied;
    uint64_t total;
    return read_header(p, n, &h, &tied, &total);
}

typedef struct cursor {
    jpt_model_file *f;
    const uint8_t  *at;
    size_t          i;
} cursor;

static bool add_tensor(cursor *c, int32_t layer, const char *part, uint64_t rows, uint64_t cols) {
    char name[64];
    int  len = layer < 0 ? snprintf(name, sizeof name, "%s", part) : snprintf(name, sizeof name, "blk.%d.%s", layer, part);
    jpt_tensor_view *t = &c->f->tensor[c->i++];
    *t = (jpt_tensor_view){.dtype = JPT_F32, .n_dims = rows ? 2 : 1, .ne = {cols, rows ? rows : 1, 1, 1}, .data = c->at};
    t->bytes = (size_t)(cols * (rows ? rows : 1) * 4);
    c->at += t->bytes;
    t->name = (jpt_str){jpt_arena_strndup(&c->f->arena, name, (size_t)len), (size_t)len};
    return t->name.p != NULL;
}

static jpt_status parse_vocab(jpt_model_file *f, const uint8_t *p, size_t n, jpt_error *err) {
    jpt_vocab_view *v = &f->vocab;
    size_t          V = (size_t)f->hp.n_vocab, at = 4;
    jpt_str        *tokens = jpt_arena_alloc(&f->arena, V * sizeof *tokens);
    float          *scores = jpt_arena_alloc(&f->arena, V * sizeof *scores);
    int32_t        *types = jpt_arena_alloc(&f->arena, V * sizeof *types);
    if (!tokens || !scores || !types)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the tokenizer", f->path);
    for (size_t i = 0; i < V; i++) {
        int32_t len;
        if (n < 8 || at > n - 8)
            return JPT_FAIL(err, FORMAT, "%s: its tokenizer file ends inside token %zu of %zu", f->path, i, V);
        memcpy(&scores[i], p + at, 4);
        memcpy(&len, p + at + 4, 4);
        at += 8;
        if (len < 0 || (size_t)len > n - at || !isfinite(scores[i]))
            return JPT_FAIL(err, FORMAT, "%s: its tokenizer file: token %zu has length %d", f->path, i, len);
        tokens[i] = (jpt_str){(const char *)p + at, (size_t)len};
        at += (size_t)len;
        /* ids as SentencePiece exports them: unknown, BOS, EOS, 256 bytes, then pieces */
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    }
    if (V < 259)
        return JPT_FAIL(err, FORMAT, "%s: %zu tokens are too few for a byte-fallback vocabulary", f->path, V);
    /* llama2.c strips the markers: byte tokens read "<0xNN>", pieces hold plain blanks. */
    static const char  hex[] = "0123456789ABCDEF";
    for (size_t i = 3; i < 259; i++) {
        char text[7] = {'<', '0', 'x', hex[(i - 3) >> 4], hex[(i - 3) & 15], '>', 0};
        tokens[i] = (jpt_str){jpt_arena_strndup(&f->arena, text, 6), 6};
        if (!tokens[i].p)
            return JPT_FAIL(err, NOMEM, "%s: out of memory for the tokenizer", f->path);
    }
    for (size_t i = 259; i < V; i++) { /* blanks back to U+2581, as the tokenizer expects */
        jpt_buf b = {0};
        for (size_t k = 0; k < tokens[i].n; k++)
            if (tokens[i].p[k] == ' ')
                jpt_buf_addz(&b, "\xe2\x96\x81");
            else
                jpt_buf_addc(&b, tokens[i].p[k]);
        tokens[i] = (jpt_str){jpt_arena_strndup(&f->arena, b.p ? b.p : "", b.n), b.n};
        bool bad = b.oom || !tokens[i].p;
        jpt_buf_fini(&b);
        if (bad)
            return JPT_FAIL(err, NOMEM, "%s: out of memory for the tokenizer", f->path);
    }
    tokens[0] = jpt_str_z("<unk>");
    tokens[1] = jpt_str_z("<s>");
    tokens[2] = jpt_str_z("</s>");
    *v = (jpt_vocab_view){.model = jpt_str_z("llama"), .pre = jpt_str_z("default"), .tokens = tokens, .n = V, .scores = scores,
                          .types = types, .bos = 1, .eos = 2, .unk = 0, .pad = -1, .eot = -1, .add_bos = 1, .add_eos = 0,
                          .add_space_prefix = 1, .chat_template = jpt_str_z("")};
    return JPT_OK;
}

jpt_status jpt_llama2c_parse(jpt_model_file *f, const uint8_t *p, size_t n, const uint8_t *vocab, size_t n_vocab, jpt_error *err) {
    header   h;
    bool     tied;
    uint64_t total;
    if (!read_header(p, n, &h, &tied, &total))
        return JPT_FAIL(err, FORMAT, "%s: is neither GGUF nor a llama2.c checkpoint", f->path);
    if ((n - sizeof h) / 4 < total)
        return JPT_FAIL(err, FORMAT, "%s: a llama2.c checkpoint of this shape has %llu bytes, the file has %zu; the download may be incomplete",
                        f->path, (unsigned long long)(total * 4 + sizeof h), n);
    uint64_t D = (uint64_t)h.dim, F = (uint64_t)h.hidden_dim, E = D / (uint64_t)h.n_heads, kv = E * (uint64_t)h.n_kv_heads,
             V = (uint64_t)h.vocab_size;
    f->kind = "llama2.c";
    f->hp = (jpt_hparams){.architecture = "llama", .name = "llama2.c", .n_layers = h.n_layers, .n_embd = h.dim, .n_ff = h.hidden_dim,
                          .n_heads = h.n_heads, .n_kv_heads = h.n_kv_heads, .head_dim = (int32_t)E, .n_vocab = h.vocab_size,
                          .n_ctx_train = h.seq_len, .rms_eps = 1e-5f, .rope_theta = 10000, .attn_scale = 1 / sqrtf((float)E),
                          .rope_dim = (int32_t)E, .rope_factor = 1};
    f->tensor = jpt_arena_alloc(&f->arena, ((size_t)h.n_layers * 9 + 3) * sizeof *f->tensor);
    if (!f->tensor)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the tensors", f->path);
    cursor c = {f, p + sizeof h, 0};
    bool   ok = add_tensor(&c, -1, "token_embd.weight", V, D);
    const struct {
        const char *name;
        uint64_t    rows, cols;
    } part[] = {{"attn_norm.weight", 0, D},   {"attn_q.weight", D, D},   {"attn_k.weight", kv, D},
                {"attn_v.weight", kv, D},     {"attn_output.weight", D, D}, {"ffn_norm.weight", 0, D},
                {"ffn_gate.weight", F, D},    {"ffn_down.weight", D, F}, {"ffn_up.weight", F, D}};
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        for (int32_t l = 0; l < h.n_layers; l++)
            ok = add_tensor(&c, l, part[k].name, part[k].rows, part[k].cols) && ok;
    ok = add_tensor(&c, -1, "output_norm.weight", 0, D) && ok;
    c.at += (uint64_t)h.seq_len * E * 4; /* freq_cis_real and freq_cis_imag, recomputed by us */
    if (!tied)
        ok = add_tensor(&c, -1, "output.weight", V, D) && ok;
    if (!ok)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the tensors", f->path);
    f->n_tensors = c.i;
    return parse_vocab(f, vocab, n_vocab, err);
}
