/* Loading: model file to weights on a back-end and a tokenizer. */
#include "model_priv.h"
#include "rope.h"
#include <stdlib.h>
#include <string.h>

static const char *const compute_names[] = {"auto", "f32", "q8", "fp8"}; /* as jpt_compute */
#include <sys/mman.h>
#include <unistd.h>

/* Bytes that could still be taken without swapping; 0 when unknown.  JPT_TEST_MEMORY_BYTES overrides (tests). */
static uint64_t available_memory(void) {
    const char *test = getenv("JPT_TEST_MEMORY_BYTES");
    if (test)
        return strtoull(test, NULL, 10);
    uint64_t bytes = 0;
    FILE    *f = fopen("/proc/meminfo", "r");
    char     line[256];
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "MemAvailable:", 13) == 0)
            bytes = strtoull(line + 13, NULL, 10) * 1024;
    if (f)
        fclose(f);
    static const char *const limits[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
    for (size_t i = 0; i < 2; i++) {
        uint64_t v[2] = {0, 0};
        bool     ok = true;
        for (int k = 0; k < 2; k++) {
            FILE *g = fopen(limits[i][k], "r");
            ok = g && fgets(line, sizeof line, g) && (v[k] = strtoull(line, NULL, 10)) > 0 && ok;
            if (g)
                fclose(g);
        }
        if (ok && v[0] > v[1] && v[0] - v[1] < bytes)
            bytes = v[0] - v[1];
    }
    return bytes;
}

static jpt_status check_memory(const jpt_model *m, const char *path, jpt_error *err) {
    uint64_t need = m->file.map.n, have = available_memory();
    bool     f32 = m->be->opt.compute == JPT_COMPUTE_F32;
    if (f32)
        need += m->file.n_params * 4;
    if (have && need > have)
        return JPT_FAIL(err, NOMEM, "%s: needs %.1f GB%s, this machine has %.1f GB free; use a smaller or more quantised model%s", path,
                        (double)need * 1e-9, f32 ? " with --dtype f32" : "", (double)have * 1e-9, f32 ? " or --dtype auto" : "");
    return JPT_OK;
}

/* ---- weights -------------------------------------------------------------------------------------------- */

/* The back-end has its own copy: the file's pages need not stay in memory (a later look reads them again). */
static void forget_pages(const void *data, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)data + page - 1) / page * page, to = ((uintptr_t)data + bytes) / page * page;
    if (to > from)
        (void)madvise((void *)from, to - from, MADV_DONTNEED); /* a hint; the mapping is read-only */
}

static jpt_status load_matrix(jpt_model *m, const char *name, jpt_weight **out, jpt_error *err) {
    const jpt_tensor_view *t = jpt_model_file_tensor(&m->file, name);
    size_t                 bytes = 0;
    JPT_ASSERT(t); /* jpt_model_file_open checked */
    JPT_TRY(m->be->ops->weight_new(m->be, t->dtype, (int32_t)t->ne[1], (int32_t)t->ne[0], t->data, out, &bytes, err));
    if (bytes)
        forget_pages(t->data, t->bytes);
    m->info.weight_bytes += bytes;
    return JPT_OK;
}

/* A float32 vector on the device; *out = NULL when the file has none. */
static jpt_status load_vector(jpt_model *m, const char *name, float **out, jpt_error *err) {
    const jpt_tensor_view *t = jpt_model_file_tensor(&m->file, name);
    *out = NULL;
    if (!t)
        return JPT_OK;
    *out = m->be->ops->alloc(m->be, t->bytes);
    if (!*out)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for tensor '%s'", m->file.path, name);
    m->be->ops->upload(m->be, *out, t->data, t->bytes);
    m->info.weight_bytes += t->bytes;
    return JPT_OK;
}

static jpt_status load_layer(jpt_model *m, int32_t l, jpt_error *err) {
    model_layer *y = &m->layer[l];
    char         name[64];
    const struct {
        const char  *part;
        jpt_weight **out;
    } matrix[] = {{"attn_q", &y->q}, {"attn_k", &y->k}, {"attn_v", &y->v}, {"attn_output", &y->o},
                  {"ffn_gate", &y->gate}, {"ffn_up", &y->up}, {"ffn_down", &y->down}};
    const struct {
        const char *part;
        float     **out;
    } vector[] = {{"attn_norm.weight", &y->d_attn_norm}, {"ffn_norm.weight", &y->d_ffn_norm}, {"attn_q.bias", &y->d_q_bias},
                  {"attn_k.bias", &y->d_k_bias}, {"attn_v.bias", &y->d_v_bias}};
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", l, matrix[i].part);
        JPT_TRY(load_matrix(m, name, matrix[i].out, err));
    }
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++) {
        snprintf(name, sizeof name, "blk.%d.%s", l, vector[i].part);
        JPT_TRY(load_vector(m, name, vector[i].out, err));
    }
    return JPT_OK;
}

static jpt_status load_weights(jpt_model *m, jpt_error *err) {
    const jpt_hparams *hp = &m->file.hp;
    m->layer = calloc((size_t)hp->n_layers, sizeof *m->layer);
    if (!m->layer)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", m->file.path);
    JPT_TRY(load_matrix(m, "token_embd.weight", &m->embed, err));
    if (hp->tied)
        m->head = m->embed;
    else
        JPT_TRY(load_matrix(m, "output.weight", &m->head, err));
    JPT_TRY(load_vector(m, "output_norm.weight", &m->d_out_norm, err));
    for (int32_t l = 0; l < hp->n_layers; l++) {
        if (jpt_stop_requested())
            return JPT_FAIL(err, INTERRUPTED, "interrupted while loading %s", m->file.path);
        JPT_TRY(load_layer(m, l, err));
    }
    const jpt_tensor_view *t = jpt_model_file_tensor(&m->file, "rope_freqs.weight");
    float                 *factors = NULL;
    if (t && (factors = malloc(t->bytes)))
        memcpy(factors, t->data, t->bytes);
    m->inv_freq = t && !factors ? NULL : jpt_rope_inv_freq(hp, factors);
    free(factors);
    return m->inv_freq ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory", m->file.path);
}

/* ---- tokenizer -------------------------------------------------------------------------------------------- */

static jpt_status make_tokenizer(jpt_model *m, jpt_error *err) {
    const jpt_vocab_view *v = &m->file.vocab;
    jpt_token_spec        spec = JPT_TOKEN_SPEC_INIT;
    if (jpt_str_eqz(v->model, "gpt2"))
        spec.kind = JPT_TOKEN_BPE;
    else if (jpt_str_eqz(v->model, "llama"))
        spec.kind = JPT_TOKEN_SPM;
    else
        return JPT_FAIL(err, UNSUPPORTED, "%s: tokenizer model '%.*s' is not supported (known: gpt2, llama)", m->file.path,
                        (int)(v->model.n < 32 ? v->model.n : 32), v->model.p);
    bool spm = spec.kind == JPT_TOKEN_SPM;
    spec.pre = v->pre;
    spec.tokens = v->tokens;
    spec.types = v->types;
    spec.scores = spm ? v->scores : NULL;
    spec.n_tokens = v->n;
    spec.merges = spm ? NULL : v->merges;
    spec.n_merges = spm ? 0 : v->n_merges;
    spec.bos = v->bos;
    spec.eos = v->eos;
    spec.unk = v->unk;
    spec.pad = v->pad;
    spec.eot = v->eot;
    /* llama.cpp's defaults where the file is silent: SentencePiece and Llama 3 begin with BOS */
    spec.add_bos = v->add_bos >= 0 ? v->add_bos : spm || jpt_str_eqz(v->pre, "llama-bpe");
    spec.add_eos = v->add_eos > 0;
    spec.add_space_prefix = v->add_space_prefix >= 0 ? v->add_space_prefix : spm;
    spec.chat_template = v->chat_template;
    jpt_error why = {0};
    if (jpt_tokenizer_new(&spec, &m->tok, &why) != JPT_OK)
        return jpt_fail(err, why.code, why.file, why.line, "%s: tokenizer: %s", m->file.path, why.msg);
    return JPT_OK;
}

/* ---- open -------------------------------------------------------------------------------------------------- */

/* The matrix type that holds the most weights. */
static const char *main_quantization(const jpt_model_file *f) {
    uint64_t best = 0;
    jpt_dtype dtype = JPT_F32;
    for (size_t k = 0; k < jpt_dtype_count(); k++) {
        uint64_t n = 0;
        for (size_t i = 0; i < f->n_tensors; i++)
            if (f->tensor[i].n_dims == 2 && f->tensor[i].dtype == jpt_dtype_at(k)->dtype)
                n += f->tensor[i].ne[0] * f->tensor[i].ne[1];
        if (n > best) {
            best = n;
            dtype = jpt_dtype_at(k)->dtype;
        }
    }
    return jpt_dtype_name(dtype);
}

static void fill_info(jpt_model *m) {
    const jpt_hparams *hp = &m->file.hp;
    jpt_model_info    *i = &m->info;
    snprintf(i->path, sizeof i->path, "%s", m->file.path);
    snprintf(i->name, sizeof i->name, "%s", hp->name);
    snprintf(i->architecture, sizeof i->architecture, "%s", hp->architecture);
    snprintf(i->quantization, sizeof i->quantization, "%s", main_quantization(&m->file));
    snprintf(i->compute, sizeof i->compute, "%s", compute_names[m->be->opt.compute]);
    snprintf(i->chat_template, sizeof i->chat_template, "%s", jpt_chat_name(jpt_chat_detect(m->file.vocab.chat_template)));
    m->be->ops->describe(m->be, i->backend, sizeof i->backend);
    snprintf(i->gpu_uuid, sizeof i->gpu_uuid, "%s", m->be->ops->gpu_uuid ? m->be->ops->gpu_uuid(m->be) : "");
    i->n_layers = hp->n_layers;
    i->n_embd = hp->n_embd;
    i->n_ff = hp->n_ff;
    i->n_heads = hp->n_heads;
    i->n_kv_heads = hp->n_kv_heads;
    i->head_dim = hp->head_dim;
    i->n_vocab = hp->n_vocab;
    i->n_ctx_train = hp->n_ctx_train;
    i->tied = hp->tied;
    i->n_params = m->file.n_params;
    i->file_bytes = m->file.map.n;
}

jpt_status jpt_model_open(const char *path, const jpt_model_options *opt, jpt_model **out, jpt_error *err) {
    static const jpt_model_options defaults;
    double                         t0 = jpt_now_s();
    if (!opt)
        opt = &defaults;
    jpt_backend_options bopt = {.n_threads = opt->n_threads, .isa = opt->isa, .in_place = opt->in_place};
    size_t              compute = 0, n_computes = sizeof compute_names / sizeof *compute_names;
    while (opt->dtype && compute < n_computes && strcmp(opt->dtype, compute_names[compute]) != 0)
        compute++;
    bopt.compute = (jpt_compute)compute;
    if (compute == n_computes)
        return JPT_FAIL(err, ARG, "dtype '%s': expected auto, f32 or (on cuda) q8, fp8", opt->dtype);
    jpt_model *m = calloc(1, sizeof *m);
    if (!m)
        return JPT_FAIL(err, NOMEM, "out of memory");
    jpt_status st = jpt_backend_open(opt->device, &bopt, &m->be, err);
    if (st == JPT_OK && bopt.compute >= JPT_COMPUTE_Q8 && strcmp(m->be->ops->name, "cuda") != 0)
        st = JPT_FAIL(err, ARG, "dtype '%s' is for --device cuda; the %s back-end computes a file's own blocks: use a Q8_0 file, or --dtype auto", opt->dtype, m->be->ops->name);
    if (st == JPT_OK)
        st = jpt_model_file_open(path, &m->file, err);
    if (st == JPT_OK)
        st = check_memory(m, path, err);
    if (st == JPT_OK)
        st = make_tokenizer(m, err);
    const jpt_hparams *hp = &m->file.hp;
    m->kv_dtype = bopt.compute == JPT_COMPUTE_F32 ? JPT_F32 : JPT_F16;
    m->shape = (jpt_attn_shape){hp->n_heads, hp->n_kv_heads, hp->head_dim, hp->attn_scale};
    if (st == JPT_OK && m->be->ops->suits)
        st = m->be->ops->suits(m->be, &m->shape, m->kv_dtype, err);
    if (st == JPT_OK)
        st = load_weights(m, err);
    if (st != JPT_OK) {
        jpt_model_close(m);
        return st;
    }
    fill_info(m);
    m->info.load_s = jpt_now_s() - t0;
    jpt_log(JPT_LOG_INFO, "loaded in %.2f s, %.1f MB beside the file's %.1f for repacked weights and vectors", m->info.load_s, 1e-6 * (double)m->info.weight_bytes,
            1e-6 * (double)m->info.file_bytes);
    *out = m;
    return JPT_OK;
}

void jpt_model_close(jpt_model *m) {
    if (!m)
        return;
    for (int32_t l = 0; m->layer && l < m->file.hp.n_layers; l++) {
        model_layer *y = &m->layer[l];
        jpt_weight  *w[] = {y->q, y->k, y->v, y->o, y->gate, y->up, y->down};
        float       *v[] = {y->d_attn_norm, y->d_ffn_norm, y->d_q_bias, y->d_k_bias, y->d_v_bias};
        for (size_t i = 0; i < sizeof w / sizeof *w; i++)
            m->be->ops->weight_free(m->be, w[i]);
        for (size_t i = 0; i < sizeof v / sizeof *v; i++)
            m->be->ops->free(m->be, v[i]);
    }
    free(m->layer);
    if (m->be) {
        if (m->head != m->embed)
            m->be->ops->weight_free(m->be, m->head);
        m->be->ops->weight_free(m->be, m->embed);
        m->be->ops->free(m->be, m->d_out_norm);
    }
    free(m->inv_freq);
    jpt_tokenizer_free(m->tok);
    jpt_model_file_close(&m->file);
    jpt_backend_close(m->be);
    free(m);
}

const jpt_model_info *jpt_model_get_info(const jpt_model *m) { return &m->info; }
const jpt_tokenizer  *jpt_model_tokenizer(const jpt_model *m) { return m->tok; }
jpt_str               jpt_model_chat_template(const jpt_model *m) { return m->file.vocab.chat_template; }
