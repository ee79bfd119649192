/* From a parsed file to a model: hyper-parameters, tokenizer arrays, and one check of every tensor the
 * architecture needs, so that the model code can trust shapes and types. */
#include "format_priv.h"
#include <jpt/format.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const architectures[] = {"llama", "qwen2"};

/* Metadata key "<architecture>.<suffix>". */
static const char *arch_key(const jpt_model_file *f, const char *suffix, char buf[96]) {
    snprintf(buf, 96, "%s.%s", f->hp.architecture, suffix);
    return buf;
}

static jpt_status need_int(const jpt_model_file *f, const char *suffix, int64_t max, int32_t *out, jpt_error *err) {
    char     key[96];
    uint64_t v;
    if (!jpt_gguf_u64(&f->gguf, arch_key(f, suffix, key), &v))
        return JPT_FAIL(err, FORMAT, "%s: metadata key '%s' is missing or no number", f->path, key);
    if (v < 1 || v > (uint64_t)max)
        return JPT_FAIL(err, FORMAT, "%s: %s is %llu, expected 1 to %lld", f->path, key, (unsigned long long)v, (long long)max);
    *out = (int32_t)v;
    return JPT_OK;
}

static float number_or(const jpt_model_file *f, const char *suffix, double fallback) {
    char   key[96];
    double v = fallback;
    jpt_gguf_f64(&f->gguf, arch_key(f, suffix, key), &v);
    return (float)v;
}

static jpt_status read_rope_scaling(jpt_model_file *f, jpt_error *err) {
    char    key[96];
    jpt_str type;
    f->hp.rope_factor = 1;
    if (!jpt_gguf_str(&f->gguf, arch_key(f, "rope.scaling.type", key), &type) || jpt_str_eqz(type, "none"))
        return JPT_OK;
    if (jpt_str_eqz(type, "linear")) {
        f->hp.rope_scaling = JPT_ROPE_SCALING_LINEAR;
    } else if (jpt_str_eqz(type, "llama3")) {
        f->hp.rope_scaling = JPT_ROPE_SCALING_LLAMA3;
        f->hp.rope_low_freq_factor = number_or(f, "rope.scaling.low_freq_factor", 1);
        f->hp.rope_high_freq_factor = number_or(f, "rope.scaling.high_freq_factor", 4);
        f->hp.rope_original_ctx = (int32_t)number_or(f, "rope.scaling.original_context_length", 8192);
        if (!(f->hp.rope_high_freq_factor > f->hp.rope_low_freq_factor) || f->hp.rope_original_ctx < 1)
            return JPT_FAIL(err, FORMAT, "%s: the llama3 RoPE scaling parameters make no sense", f->path);
    } else {
        return JPT_FAIL(err, UNSUPPORTED, "%s: RoPE scaling '%.*s' is not supported (known: none, linear, llama3)", f->path,
                        (int)(type.n < 32 ? type.n : 32), type.p);
    }
    f->hp.rope_factor = number_or(f, "rope.scaling.factor", 1);
    if (!isfinite(f->hp.rope_factor) || f->hp.rope_factor < 1e-3f || f->hp.rope_factor > 1e4f)
        return JPT_FAIL(err, FORMAT, "%s: %s is %g, expected 0.001 to 10000", f->path, arch_key(f, "rope.scaling.factor", key),
                        (double)f->hp.rope_factor);
    return JPT_OK;
}

static jpt_status read_hparams(jpt_model_file *f, jpt_error *err) {
    jpt_hparams *hp = &f->hp;
    jpt_str      s;
    char         key[96];
    uint64_t     v;
    if (!jpt_gguf_str(&f->gguf, "general.architecture", &s))
        return JPT_FAIL(err, FORMAT, "%s: metadata key 'general.architecture' is missing", f->path);
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (jpt_str_eqz(s, architectures[i]))
            snprintf(hp->architecture, sizeof hp->architecture, "%s", architectures[i]);
    if (!hp->architecture[0])
        return JPT_FAIL(err, UNSUPPORTED, "%s: architecture '%.*s' is not supported (known: llama, qwen2)", f->path,
                        (int)(s.n < 32 ? s.n : 32), s.p);
    if (jpt_gguf_str(&f->gguf, "general.name", &s))
        snprintf(hp->name, sizeof hp->name, "%.*s", (int)(jpt_utf8_valid_prefix(s.p, s.n) < 120 ? jpt_utf8_valid_prefix(s.p, s.n) : 120), s.p);
    JPT_TRY(need_int(f, "block_count", 1024, &hp->n_layers, err));
    JPT_TRY(need_int(f, "embedding_length", 1 << 17, &hp->n_embd, err));
    JPT_TRY(need_int(f, "feed_forward_length", 1 << 20, &hp->n_ff, err));
    JPT_TRY(need_int(f, "attention.head_count", 4096, &hp->n_heads, err));
    JPT_TRY(need_int(f, "context_length", 1 << 26, &hp->n_ctx_train, err));
    hp->n_kv_heads = hp->n_heads;
    if (jpt_gguf_find(&f->gguf, arch_key(f, "attention.head_count_kv", key)))
        JPT_TRY(need_int(f, "attention.head_count_kv", 4096, &hp->n_kv_heads, err));
    if (jpt_gguf_u64(&f->gguf, arch_key(f, "attention.key_length", key), &v)) {
        uint64_t value_length = v;
        jpt_gguf_u64(&f->gguf, arch_key(f, "attention.value_length", key), &value_length);
        if (value_length != v)
            return JPT_FAIL(err, UNSUPPORTED, "%s: key and value heads differ in width (%llu, %llu)", f->path, (unsigned long long)v,
                            (unsigned long long)value_length);
        JPT_TRY(need_int(f, "attention.key_length", 4096, &hp->head_dim, err));
    } else {
        if (hp->n_embd % hp->n_heads != 0)
            return JPT_FAIL(err, FORMAT, "%s: width %d is no multiple of %d heads", f->path, hp->n_embd, hp->n_heads);
        hp->head_dim = hp->n_embd / hp->n_heads;
    }
    if (hp->n_heads % hp->n_kv_heads != 0 || hp->head_dim % 2 != 0 || hp->head_dim > 4096)
        return JPT_FAIL(err, FORMAT, "%s: %d heads, %d kv heads, head width %d: heads must be a multiple of kv heads and the width even", f->path,
                        hp->n_heads, hp->n_kv_heads, hp->head_dim);
    if (jpt_gguf_u64(&f->gguf, arch_key(f, "expert_count", key), &v) && v != 0)
        return JPT_FAIL(err, UNSUPPORTED, "%s: is a mixture of %llu experts, which jpt does not run", f->path, (unsigned long long)v);
    hp->rms_eps = number_or(f, "attention.layer_norm_rms_epsilon", 1e-5);
    hp->rope_theta = number_or(f, "rope.freq_base", 10000);
    hp->attn_scale = 1 / sqrtf((float)hp->head_dim);
    hp->rope_dim = hp->head_dim;
    if (jpt_gguf_u64(&f->gguf, arch_key(f, "rope.dimension_count", key), &v)) {
        if (v < 2 || v % 2 != 0 || v > (uint64_t)hp->head_dim)
            return JPT_FAIL(err, FORMAT, "%s: %s is %llu, expected an even number up to %d", f->path, key, (unsigned long long)v, hp->head_dim);
        hp->rope_dim = (int32_t)v;
    }
    if (!(hp->rms_eps >= 0 && hp->rms_eps < 1) || !(hp->rope_theta > 1 && hp->rope_theta < 1e12f))
        return JPT_FAIL(err, FORMAT, "%s: norm epsilon %g or RoPE base %g makes no sense", f->path, (double)hp->rms_eps, (double)hp->rope_theta);
    hp->rope_neox = strcmp(hp->architecture, "qwen2") == 0;
    return read_rope_scaling(f, err);
}

/* ---- vocabulary ---------------------------------------------------------------------------------- */

static jpt_status string_array(jpt_model_file *f, const char *key, const jpt_str **out, size_t *n, jpt_error *err) {
    const jpt_gguf_kv *kv = jpt_gguf_find(&f->gguf, key);
    if (!kv)
        return JPT_OK;
    if (kv->type != JPT_GGUF_ARRAY || kv->item_type != JPT_GGUF_STRING)
        return JPT_FAIL(err, FORMAT, "%s: '%s' is no array of strings", f->path, key);
    jpt_str *s = jpt_arena_alloc(&f->arena, (size_t)kv->n_items * sizeof *s); /* n_items <= file size / 8 */
    if (!s)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for '%s'", f->path, key);
    const uint8_t *p = kv->data;
    for (uint64_t i = 0; i < kv->n_items; i++) {
        uint64_t len;
        memcpy(&len, p, 8);
        s[i] = (jpt_str){(const char *)p + 8, (size_t)len};
        p += 8 + len;
    }
    *out = s;
    *n = (size_t)kv->n_items;
    return JPT_OK;
}

/* Array of 4-byte numbers, copied for alignment. */
static jpt_status number_array(jpt_model_file *f, const char *key, jpt_gguf_type type, size_t n, const void **out, jpt_error *err) {
    const jpt_gguf_kv *kv = jpt_gguf_find(&f->gguf, key);
    if (!kv)
        return JPT_OK;
    if (kv->type != JPT_GGUF_ARRAY || kv->item_type != type || kv->n_items != n)
        return JPT_FAIL(err, FORMAT, "%s: '%s' is no array of %zu %s", f->path, key, n, jpt_gguf_type_name(type));
    void *p = jpt_arena_alloc(&f->arena, kv->size);
    if (!p)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for '%s'", f->path, key);
    memcpy(p, kv->data, kv->size);
    *out = p;
    return JPT_OK;
}

static jpt_status token_id(const jpt_model_file *f, const char *key, int32_t *out, jpt_error *err) {
    uint64_t v;
    *out = -1;
    if (!jpt_gguf_u64(&f->gguf, key, &v) || v == UINT32_MAX)
        return JPT_OK;
    if (v >= f->vocab.n)
        return JPT_FAIL(err, FORMAT, "%s: %s is %llu, but there are %zu tokens", f->path, key, (unsigned long long)v, f->vocab.n);
    *out = (int32_t)v;
    return JPT_OK;
}

static int tri_state(const jpt_model_file *f, const char *key) {
    bool b;
    return jpt_gguf_bool(&f->gguf, key, &b) ? b : -1;
}

static jpt_status read_vocab(jpt_model_file *f, jpt_error *err) {
    jpt_vocab_view *v = &f->vocab;
    if (!jpt_gguf_str(&f->gguf, "tokenizer.ggml.model", &v->model))
        return JPT_FAIL(err, FORMAT, "%s: has no tokenizer (metadata key 'tokenizer.ggml.model' is missing)", f->path);
    jpt_gguf_str(&f->gguf, "tokenizer.ggml.pre", &v->pre);
    jpt_gguf_str(&f->gguf, "tokenizer.chat_template", &v->chat_template);
    JPT_TRY(string_array(f, "tokenizer.ggml.tokens", &v->tokens, &v->n, err));
    if (v->n < 1 || v->n > 1 << 24)
        return JPT_FAIL(err, FORMAT, "%s: the tokenizer has %zu tokens, expected 1 to 16777216", f->path, v->n);
    JPT_TRY(string_array(f, "tokenizer.ggml.merges", &v->merges, &v->n_merges, err));
    const void *p = NULL;
    JPT_TRY(number_array(f, "tokenizer.ggml.scores", JPT_GGUF_F32, v->n, &p, err));
    v->scores = p;
    p = NULL;
    JPT_TRY(number_array(f, "tokenizer.ggml.token_type", JPT_GGUF_I32, v->n, &p, err));
    v->types = p;
    JPT_TRY(token_id(f, "tokenizer.ggml.bos_token_id", &v->bos, err));
    JPT_TRY(token_id(f, "tokenizer.ggml.eos_token_id", &v->eos, err));
    JPT_TRY(token_id(f, "tokenizer.ggml.unknown_token_id", &v->unk, err));
    JPT_TRY(token_id(f, "tokenizer.ggml.padding_token_id", &v->pad, err));
    JPT_TRY(token_id(f, "tokenizer.ggml.eot_token_id", &v->eot, err));
    v->add_bos = tri_state(f, "tokenizer.ggml.add_bos_token");
    v->add_eos = tri_state(f, "tokenizer.ggml.add_eos_token");
    v->add_space_prefix = tri_state(f, "tokenizer.ggml.add_space_prefix");
    f->hp.n_vocab = (int32_t)v->n;
    return JPT_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------- */

const jpt_tensor_view *jpt_model_file_tensor(const jpt_model_file *f, const char *name) {
    if (f->gguf.n_tensors)
        return jpt_gguf_tensor(&f->gguf, name);
    for (size_t i = 0; i < f->n_tensors; i++)
        if (jpt_str_eqz(f->tensor[i].name, name))
            return &f->tensor[i];
    return NULL;
}

/* rows == 0: a vector of `cols`, which must be F32. */
static jpt_status check_tensor(const jpt_model_file *f, const char *name, int64_t rows, int64_t cols, jpt_error *err) {
    const jpt_tensor_view *t = jpt_model_file_tensor(f, name);
    if (!t)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%s' is missing", f->path, name);
    int32_t dims = rows ? 2 : 1;
    if (t->n_dims != dims || t->ne[0] != (uint64_t)cols || (rows && t->ne[1] != (uint64_t)rows))
        return JPT_FAIL(err, FORMAT, "%s: tensor '%s' has shape [%llu, %llu], expected [%lld, %lld]", f->path, name,
                        (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (long long)cols, (long long)(rows ? rows : 1));
    if (!rows && t->dtype != JPT_F32)
        return JPT_FAIL(err, UNSUPPORTED, "%s: tensor '%s' is %s, expected F32", f->path, name, jpt_dtype_name(t->dtype));
    return JPT_OK;
}

static jpt_status check_tensors(jpt_model_file *f, jpt_error *err) {
    jpt_hparams *hp = &f->hp;
    int64_t      D = hp->n_embd, F = hp->n_ff, q = (int64_t)hp->n_heads * hp->head_dim, kv = (int64_t)hp->n_kv_heads * hp->head_dim;
    char         name[64];
    hp->tied = !jpt_model_file_tensor(f, "output.weight");
    hp->qkv_bias = jpt_model_file_tensor(f, "blk.0.attn_q.bias") != NULL;
    JPT_TRY(check_tensor(f, "token_embd.weight", hp->n_vocab, D, err));
    JPT_TRY(check_tensor(f, "output_norm.weight", 0, D, err));
    if (!hp->tied)
        JPT_TRY(check_tensor(f, "output.weight", hp->n_vocab, D, err));
    if (jpt_model_file_tensor(f, "rope_freqs.weight"))
        JPT_TRY(check_tensor(f, "rope_freqs.weight", 0, hp->rope_dim / 2, err));
    const struct {
        const char *name;
        int64_t     rows, cols;
        bool        wanted;
    } part[] = {
        {"attn_norm.weight", 0, D, true},    {"attn_q.weight", q, D, true},          {"attn_k.weight", kv, D, true},
        {"attn_v.weight", kv, D, true},      {"attn_output.weight", D, q, true},     {"ffn_norm.weight", 0, D, true},
        {"ffn_gate.weight", F, D, true},     {"ffn_up.weight", F, D, true},          {"ffn_down.weight", D, F, true},
        {"attn_q.bias", 0, q, hp->qkv_bias}, {"attn_k.bias", 0, kv, hp->qkv_bias},   {"attn_v.bias", 0, kv, hp->qkv_bias},
    };
    for (int32_t l = 0; l < hp->n_layers; l++)
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            snprintf(name, sizeof name, "blk.%d.%s", l, part[i].name);
            if (part[i].wanted)
                JPT_TRY(check_tensor(f, name, part[i].rows, part[i].cols, err));
        }
    for (size_t i = 0; i < f->n_tensors; i++)
        f->n_params += f->tensor[i].ne[0] * f->tensor[i].ne[1] * f->tensor[i].ne[2] * f->tensor[i].ne[3];
    return JPT_OK;
}

/* ---- open ---------------------------------------------------------------------------------------- */

static jpt_status parse_into(jpt_model_file *f, const uint8_t *p, size_t n, const uint8_t *vocab, size_t n_vocab, jpt_error *err) {
    if (vocab) {
        JPT_TRY(jpt_llama2c_parse(f, p, n, vocab, n_vocab, err));
    } else {
        JPT_TRY(jpt_gguf_parse(f->path, p, n, &f->gguf, err));
        f->kind = f->gguf.version == 2 ? "GGUF v2" : "GGUF v3";
        f->tensor = f->gguf.tensor;
        f->n_tensors = f->gguf.n_tensors;
        JPT_TRY(read_hparams(f, err));
        JPT_TRY(read_vocab(f, err));
    }
    return check_tensors(f, err);
}

jpt_status jpt_model_file_parse(const char *path, const uint8_t *p, size_t n, const uint8_t *vocab, size_t n_vocab_bytes,
                                jpt_model_file *out, jpt_error *err) {
    *out = (jpt_model_file){.path = strdup(path)};
    if (!out->path)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    jpt_status st = parse_into(out, p, n, vocab, n_vocab_bytes, err);
    if (st != JPT_OK)
        jpt_model_file_close(out);
    return st;
}

/* The tokenizer that lies beside a llama2.c checkpoint. */
static jpt_status map_llama2c_vocab(jpt_model_file *f, jpt_error *err) {
    static const char *const names[] = {"tok512.bin", "tokenizer.bin"};
    const char              *slash = strrchr(f->path, '/');
    int                      dir = slash ? (int)(slash - f->path + 1) : 0;
    char                     path[4096];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.*s%s", dir, f->path, names[i]);
        if (jpt_map_file(path, &f->vocab_map, NULL) == JPT_OK)
            return JPT_OK;
    }
    return JPT_FAIL(err, NOT_FOUND, "%s: looks like a llama2.c checkpoint, but neither tok512.bin nor tokenizer.bin lies beside it", f->path);
}

jpt_status jpt_model_file_open(const char *path, jpt_model_file *out, jpt_error *err) {
    *out = (jpt_model_file){.path = strdup(path)};
    if (!out->path)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    jpt_status st = jpt_map_file(path, &out->map, err);
    if (st == JPT_OK && out->map.n >= 4 && memcmp(out->map.p, "GGUF", 4) != 0) {
        if (jpt_llama2c_sniff(out->map.p, out->map.n))
            st = map_llama2c_vocab(out, err);
        else if (out->map.n > 16 && out->map.p[8] == '{')
            st = JPT_FAIL(err, UNSUPPORTED, "%s: looks like safetensors, which jpt does not read yet; convert it to GGUF", path);
    }
    if (st == JPT_OK)
        st = parse_into(out, out->map.p, out->map.n, out->vocab_map.p, out->vocab_map.n, err);
    if (st != JPT_OK)
        jpt_model_file_close(out);
    return st;
}

void jpt_model_file_close(jpt_model_file *f) {
    jpt_gguf_fini(&f->gguf);
    jpt_arena_fini(&f->arena);
    jpt_unmap(&f->map);
    jpt_unmap(&f->vocab_map);
    free(f->path);
    *f = (jpt_model_file){0};
}
