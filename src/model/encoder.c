/* Sentence encoder: opening and checking a folder, and the forward pass over a pack of texts. */
#include "encoder.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the folder's small files ---------------------------------------------------------------------- */

static jpt_status folder_path(const jpt_encoder *e, const char *name, char out[1200], jpt_error *err) {
    if (snprintf(out, 1200, "%s/%s", e->info.path, name) >= 1200)
        return JPT_FAIL(err, ARG, "%s: the path is too long", e->info.path);
    return JPT_OK;
}

/* *out stays NULL when the file is not there and need not be. */
static jpt_status read_json(const jpt_encoder *e, const char *name, bool needed, json_t **out, jpt_error *err) {
    char         path[1200];
    jpt_buf      text = {0};
    json_error_t why;
    JPT_TRY(folder_path(e, name, path, err));
    if (!needed && access(path, F_OK) != 0)
        return JPT_OK;
    JPT_TRY(jpt_file_read(path, &text, err));
    *out = json_loadb(text.p ? text.p : "", text.n, 0, &why);
    jpt_buf_fini(&text);
    if (json_is_object(*out))
        return JPT_OK;
    json_decref(*out);
    *out = NULL;
    return JPT_FAIL(err, FORMAT, "%s: line %d: %s", path, why.line, why.text[0] ? why.text : "expected a JSON object");
}

static jpt_status need_int(const jpt_encoder *e, const json_t *j, const char *key, int32_t max, int32_t *out, jpt_error *err) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max)
        return JPT_FAIL(err, FORMAT, "%s/config.json: '%s' is missing or not from 1 to %d", e->info.path, key, max);
    *out = (int32_t)json_integer_value(v);
    return JPT_OK;
}

static jpt_status need_word(const jpt_encoder *e, const json_t *j, const char *key, const char *word, jpt_error *err) {
    const json_t *v = json_object_get(j, key);
    if (v && (!json_is_string(v) || strcmp(json_string_value(v), word) != 0))
        return JPT_FAIL(err, UNSUPPORTED, "%s/config.json: '%s' is '%.40s', supported is '%s'", e->info.path, key, json_is_string(v) ? json_string_value(v) : "?", word);
    return JPT_OK;
}

static jpt_status read_config(jpt_encoder *e, const json_t *j, jpt_error *err) {
    jpt_encoder_info *i = &e->info;
    const json_t     *eps = json_object_get(j, "layer_norm_eps");
    JPT_TRY(need_word(e, j, "model_type", "bert", err));
    JPT_TRY(need_word(e, j, "hidden_act", "gelu", err));
    JPT_TRY(need_word(e, j, "position_embedding_type", "absolute", err));
    JPT_TRY(need_int(e, j, "num_hidden_layers", 256, &i->n_layers, err));
    JPT_TRY(need_int(e, j, "hidden_size", 1 << 14, &i->n_embd, err));
    JPT_TRY(need_int(e, j, "intermediate_size", 1 << 16, &i->n_ff, err));
    JPT_TRY(need_int(e, j, "num_attention_heads", 1024, &i->n_heads, err));
    JPT_TRY(need_int(e, j, "vocab_size", 1 << 22, &i->n_vocab, err));
    JPT_TRY(need_int(e, j, "max_position_embeddings", 1 << 20, &i->max_tokens, err));
    e->eps = json_is_number(eps) ? (float)json_number_value(eps) : 1e-12f;
    if (i->n_embd % i->n_heads != 0 || !(e->eps >= 0 && e->eps < 1))
        return JPT_FAIL(err, FORMAT, "%s/config.json: width %d, %d heads, layer_norm_eps %g make no sense", i->path, i->n_embd, i->n_heads, (double)e->eps);
    return JPT_OK;
}

static jpt_status read_tokenizer(jpt_encoder *e, jpt_error *err) {
    char    path[1200];
    jpt_buf text = {0};
    JPT_TRY(folder_path(e, "vocab.txt", path, err));
    JPT_TRY(jpt_file_read(path, &text, err));
    jpt_status st = jpt_wordpiece_new(path, text.p ? text.p : "", text.n, e->info.lower, &e->tok, err);
    jpt_buf_fini(&text);
    if (st == JPT_OK && jpt_wordpiece_n_vocab(e->tok) > e->info.n_vocab)
        st = JPT_FAIL(err, FORMAT, "%s: has %d tokens, the model knows %d", path, jpt_wordpiece_n_vocab(e->tok), e->info.n_vocab);
    return st;
}

static jpt_status read_settings(jpt_encoder *e, jpt_error *err) {
    json_t    *config = NULL, *tok = NULL, *sentence = NULL, *pooling = NULL;
    jpt_status st = read_json(e, "config.json", true, &config, err);
    if (st == JPT_OK)
        st = read_config(e, config, err);
    if (st == JPT_OK)
        st = read_json(e, "tokenizer_config.json", false, &tok, err);
    if (st == JPT_OK)
        st = read_json(e, "sentence_bert_config.json", false, &sentence, err);
    if (st == JPT_OK)
        st = read_json(e, "1_Pooling/config.json", false, &pooling, err);
    e->info.lower = !json_is_false(json_object_get(tok, "do_lower_case"));
    json_int_t most = json_integer_value(json_object_get(sentence, "max_seq_length"));
    if (most >= 2 && most < e->info.max_tokens)
        e->info.max_tokens = (int32_t)most;
    e->info.cls_pooling = json_is_true(json_object_get(pooling, "pooling_mode_cls_token"));
    if (st == JPT_OK && pooling && !e->info.cls_pooling && !json_is_true(json_object_get(pooling, "pooling_mode_mean_tokens")))
        st = JPT_FAIL(err, UNSUPPORTED, "%s/1_Pooling/config.json: asks for a pooling that is neither the mean of the tokens nor [CLS]", e->info.path);
    if (st == JPT_OK && (e->info.max_tokens > ENCODER_ROWS || e->info.max_tokens < 2)) {
        if (e->info.max_tokens < 2)
            st = JPT_FAIL(err, FORMAT, "%s/config.json: %d positions hold no text", e->info.path, e->info.max_tokens);
        e->info.max_tokens = ENCODER_ROWS;
    }
    json_decref(config);
    json_decref(tok);
    json_decref(sentence);
    json_decref(pooling);
    return st;
}

/* ---- weights ------------------------------------------------------------------------------------- */

/* The tensor's values as float32: in the mapping where they stand so, aligned; else a copy.  rows 0: a vector; more: the
 * matrix may have more rows. */
static jpt_status tensor(jpt_encoder *e, const char *name, uint64_t rows, bool more, uint64_t cols, const float **out, jpt_error *err) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", e->prefix, name);
    const jpt_safetensor *t = jpt_safetensors_find(&e->file, full);
    if (!t)
        return JPT_FAIL(err, FORMAT, "%s/model.safetensors: tensor '%s' is missing", e->info.path, full);
    bool fits = rows ? t->n_dims == 2 && (t->shape[0] == rows || (more && t->shape[0] > rows)) && t->shape[1] == cols : t->n_dims == 1 && t->shape[0] == cols;
    if (!fits)
        return JPT_FAIL(err, FORMAT, "%s/model.safetensors: tensor '%s' has shape [%llu, %llu], expected [%llu, %llu]", e->info.path, full,
                        (unsigned long long)(t->n_dims ? t->shape[0] : 0), (unsigned long long)(t->n_dims > 1 ? t->shape[1] : 0), (unsigned long long)rows, (unsigned long long)cols);
    uint64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++)
        n *= t->shape[i];
    e->info.n_params += n;
    if (strcmp(t->dtype, "F32") == 0 && (uintptr_t)t->data % sizeof(float) == 0) {
        *out = (const float *)(const void *)t->data;
        return JPT_OK;
    }
    float *copy = jpt_arena_alloc(&e->arena, (size_t)n * sizeof *copy);
    if (!copy)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for %s", e->info.path, full);
    *out = copy;
    return jpt_safetensor_f32(t, copy, err);
}

/* Rows [at, at + rows) of *out from a matrix and its bias. */
static jpt_status pack(jpt_encoder *e, int32_t layer, const char *part, int32_t rows, encoder_linear *out, int32_t at, jpt_error *err) {
    char         name[128];
    const float *w, *bias;
    snprintf(name, sizeof name, "encoder.layer.%d.%s.weight", layer, part);
    JPT_TRY(tensor(e, name, (uint64_t)rows, false, (uint64_t)out->cols, &w, err));
    snprintf(name, sizeof name, "encoder.layer.%d.%s.bias", layer, part);
    JPT_TRY(tensor(e, name, 0, false, (uint64_t)rows, &bias, err));
    for (int32_t r = 0; r < rows; r++) {
        int32_t to = at + r;
        float  *lane = out->panel + (size_t)(to / ENCODER_PANEL) * ENCODER_PANEL * (size_t)out->cols + to % ENCODER_PANEL;
        for (int32_t c = 0; c < out->cols; c++)
            lane[(size_t)c * ENCODER_PANEL] = w[(size_t)r * (size_t)out->cols + (size_t)c];
        out->bias[to] = bias[r];
    }
    return JPT_OK;
}

static jpt_status room_for(jpt_encoder *e, int32_t rows, int32_t cols, encoder_linear *out, jpt_error *err) {
    size_t panels = ((size_t)rows + ENCODER_PANEL - 1) / ENCODER_PANEL;
    *out = (encoder_linear){rows, cols, jpt_arena_alloc(&e->arena, panels * ENCODER_PANEL * (size_t)cols * sizeof(float)), jpt_arena_alloc(&e->arena, panels * ENCODER_PANEL * sizeof(float))};
    return out->panel && out->bias ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory for the weights", e->info.path);
}

static jpt_status linear(jpt_encoder *e, int32_t layer, const char *part, int32_t rows, int32_t cols, encoder_linear *out, jpt_error *err) {
    JPT_TRY(room_for(e, rows, cols, out, err));
    return pack(e, layer, part, rows, out, 0, err);
}

static jpt_status norm(jpt_encoder *e, const char *where, encoder_norm *out, jpt_error *err) {
    char name[128];
    snprintf(name, sizeof name, "%s.weight", where);
    JPT_TRY(tensor(e, name, 0, false, (uint64_t)e->info.n_embd, &out->gain, err));
    snprintf(name, sizeof name, "%s.bias", where);
    return tensor(e, name, 0, false, (uint64_t)e->info.n_embd, &out->bias, err);
}

static jpt_status read_weights(jpt_encoder *e, jpt_error *err) {
    char     path[1200], name[128];
    int32_t  D = e->info.n_embd, F = e->info.n_ff;
    uint64_t width = (uint64_t)D;
    JPT_TRY(folder_path(e, "model.safetensors", path, err));
    JPT_TRY(jpt_map_file(path, &e->map, err));
    JPT_TRY(jpt_safetensors_parse(path, e->map.p, e->map.n, &e->file, err));
    e->prefix = jpt_safetensors_find(&e->file, "bert.embeddings.word_embeddings.weight") ? "bert." : "";
    if (!(e->layer = jpt_arena_alloc(&e->arena, (size_t)e->info.n_layers * sizeof *e->layer)))
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    JPT_TRY(tensor(e, "embeddings.word_embeddings.weight", (uint64_t)e->info.n_vocab, false, width, &e->token, err));
    JPT_TRY(tensor(e, "embeddings.position_embeddings.weight", (uint64_t)e->info.max_tokens, true, width, &e->position, err));
    JPT_TRY(tensor(e, "embeddings.token_type_embeddings.weight", 1, true, width, &e->segment, err));
    JPT_TRY(norm(e, "embeddings.LayerNorm", &e->norm, err));
    for (int32_t l = 0; l < e->info.n_layers; l++) {
        encoder_layer *y = &e->layer[l];
        JPT_TRY(room_for(e, 3 * D, D, &y->qkv, err));
        JPT_TRY(pack(e, l, "attention.self.query", D, &y->qkv, 0, err));
        JPT_TRY(pack(e, l, "attention.self.key", D, &y->qkv, D, err));
        JPT_TRY(pack(e, l, "attention.self.value", D, &y->qkv, 2 * D, err));
        JPT_TRY(linear(e, l, "attention.output.dense", D, D, &y->o, err));
        JPT_TRY(linear(e, l, "intermediate.dense", F, D, &y->up, err));
        JPT_TRY(linear(e, l, "output.dense", D, F, &y->down, err));
        snprintf(name, sizeof name, "encoder.layer.%d.attention.output.LayerNorm", l);
        JPT_TRY(norm(e, name, &y->attn_norm, err));
        snprintf(name, sizeof name, "encoder.layer.%d.output.LayerNorm", l);
        JPT_TRY(norm(e, name, &y->ffn_norm, err));
    }
    return JPT_OK;
}

jpt_status encoder_choose_ops(const char *isa, const encoder_ops **out, jpt_error *err) {
    const encoder_ops *have[3] = {&encoder_ops_scalar};
    int                n = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2)
        have[n++] = &encoder_ops_avx2;
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) /* what the build lets these files use */
        have[n++] = &encoder_ops_avx512;
#endif
    while (n > 1 && isa && strcmp(isa, have[n - 1]->isa) != 0)
        n--;
    if (isa && strcmp(isa, have[n - 1]->isa) != 0)
        return JPT_FAIL(err, UNSUPPORTED, "instruction set '%.32s' is not available here (known: scalar, avx2, avx512)", isa);
    *out = have[n - 1];
    return JPT_OK;
}

static jpt_status open_into(jpt_encoder *e, const char *isa, int n_threads, jpt_error *err) {
    JPT_TRY(encoder_choose_ops(isa, &e->ops, err));
    JPT_TRY(read_settings(e, err));
    JPT_TRY(read_tokenizer(e, err));
    JPT_TRY(jpt_pool_open(n_threads, &e->pool, err));
    JPT_TRY(read_weights(e, err));
    size_t D = (size_t)e->info.n_embd, rows = ENCODER_ROWS * sizeof(float);
    e->room_each = (D / (size_t)e->info.n_heads + 16) * ENCODER_ROWS;
    e->x = jpt_arena_alloc(&e->arena, D * rows);
    e->y = jpt_arena_alloc(&e->arena, D * rows);
    e->attn = jpt_arena_alloc(&e->arena, D * rows);
    e->qkv = jpt_arena_alloc(&e->arena, 3 * D * rows);
    e->ff = jpt_arena_alloc(&e->arena, (size_t)e->info.n_ff * rows);
    e->room = jpt_arena_alloc(&e->arena, e->room_each * (size_t)jpt_pool_threads(e->pool) * sizeof(float));
    return e->x && e->y && e->attn && e->qkv && e->ff && e->room ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory", e->info.path);
}

jpt_status jpt_encoder_open(const char *folder, const char *isa, int n_threads, jpt_encoder **out, jpt_error *err) {
    jpt_encoder *e = calloc(1, sizeof *e);
    if (!e)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", folder);
    jpt_status st = JPT_OK;
    if (snprintf(e->info.path, sizeof e->info.path, "%s", folder) >= (int)sizeof e->info.path)
        st = JPT_FAIL(err, ARG, "the encoder's path is too long");
    if (st == JPT_OK)
        st = open_into(e, isa, n_threads, err);
    if (st != JPT_OK)
        jpt_encoder_close(e);
    else
        *out = e;
    return st;
}

void jpt_encoder_close(jpt_encoder *e) {
    if (!e)
        return;
    jpt_pool_close(e->pool);
    jpt_wordpiece_free(e->tok);
    jpt_safetensors_fini(&e->file);
    jpt_arena_fini(&e->arena);
    jpt_unmap(&e->map);
    free(e);
}

const jpt_encoder_info *jpt_encoder_get_info(const jpt_encoder *e) { return &e->info; }
const jpt_wordpiece    *jpt_encoder_tokenizer(const jpt_encoder *e) { return e->tok; }

/* ---- forward ------------------------------------------------------------------------------------- */

typedef struct multiply_job {
    const encoder_ops    *ops;
    const encoder_linear *l;
    const float          *x;
    float                *y;
    int32_t               n;
    bool                  gelu;
} multiply_job;

static void multiply_panel(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    const multiply_job   *j = ud;
    const encoder_linear *l = j->l;
    int32_t               at = chunk * ENCODER_PANEL;
    j->ops->multiply(l->panel + (size_t)at * (size_t)l->cols, l->bias + at, l->cols, j->x, j->n, j->y + at, (size_t)l->rows, l->rows - at, j->gelu);
}

/* y[n, rows] = x[n, cols] w^T + bias, then GELU when asked. */
static void multiply(jpt_encoder *e, const encoder_linear *l, const float *x, int32_t n, float *y, bool gelu) {
    multiply_job j = {e->ops, l, x, y, n, gelu};
    jpt_pool_run(e->pool, multiply_panel, &j, (l->rows + ENCODER_PANEL - 1) / ENCODER_PANEL);
}

typedef struct attend_job {
    jpt_encoder   *e;
    const int32_t *first;
} attend_job;

static void attend_head(void *ud, int32_t chunk, int32_t thread) {
    const attend_job  *j = ud;
    const jpt_encoder *e = j->e;
    int32_t            text = chunk / e->info.n_heads, head = chunk % e->info.n_heads, E = e->info.n_embd / e->info.n_heads;
    size_t             D = (size_t)e->info.n_embd, row = (size_t)j->first[text], at = (size_t)head * (size_t)E;
    const float       *q = e->qkv + row * 3 * D + at;
    e->ops->attend(q, q + D, q + 2 * D, 3 * D, e->attn + row * D + at, D, j->first[text + 1] - j->first[text], E, e->room + (size_t)thread * e->room_each);
}

typedef struct norm_job {
    jpt_encoder        *e;
    const encoder_norm *norm;
    bool                add;
} norm_job;

static void norm_row(void *ud, int32_t i, int32_t thread) {
    (void)thread;
    const norm_job *j = ud;
    int32_t         D = j->e->info.n_embd;
    float          *x = j->e->x + (size_t)i * (size_t)D;
    const float    *y = j->e->y + (size_t)i * (size_t)D;
    double          mean = 0, square = 0;
    for (int32_t d = 0; j->add && d < D; d++)
        x[d] += y[d];
    for (int32_t d = 0; d < D; d++)
        mean += (double)x[d];
    mean /= D;
    for (int32_t d = 0; d < D; d++)
        square += ((double)x[d] - mean) * ((double)x[d] - mean);
    double scale = 1 / sqrt(square / D + (double)j->e->eps);
    for (int32_t d = 0; d < D; d++)
        x[d] = (float)(((double)x[d] - mean) * scale) * j->norm->gain[d] + j->norm->bias[d];
}

/* x = (x + y - mean) / sqrt(variance + eps) * gain + bias, row-wise; without `add` nothing is added. */
static void add_norm(jpt_encoder *e, const encoder_norm *norm, bool add, int32_t n) {
    norm_job j = {e, norm, add};
    jpt_pool_run(e->pool, norm_row, &j, n);
}

/* ids [first[n_texts]]: the texts' tokens end to end; the last layer's states are left in e->x. */
static void forward(jpt_encoder *e, const int32_t *ids, const int32_t *first, int32_t n_texts) {
    int32_t    n = first[n_texts], D = e->info.n_embd;
    attend_job job = {e, first};
    for (int32_t t = 0; t < n_texts; t++)
        for (int32_t r = first[t]; r < first[t + 1]; r++) {
            const float *token = e->token + (size_t)ids[r] * (size_t)D, *position = e->position + (size_t)(r - first[t]) * (size_t)D;
            float       *x = e->x + (size_t)r * (size_t)D;
            for (int32_t d = 0; d < D; d++)
                x[d] = token[d] + e->segment[d] + position[d];
        }
    add_norm(e, &e->norm, false, n);
    for (int32_t l = 0; l < e->info.n_layers; l++) {
        const encoder_layer *y = &e->layer[l];
        multiply(e, &y->qkv, e->x, n, e->qkv, false);
        jpt_pool_run(e->pool, attend_head, &job, n_texts * e->info.n_heads);
        multiply(e, &y->o, e->attn, n, e->y, false);
        add_norm(e, &y->attn_norm, true, n);
        multiply(e, &y->up, e->x, n, e->ff, true);
        multiply(e, &y->down, e->ff, n, e->y, false);
        add_norm(e, &y->ffn_norm, true, n);
    }
}

/* The mean of a text's rows (or its first one), scaled to length 1. */
static void pool_rows(const jpt_encoder *e, int32_t first, int32_t end, float *out) {
    int32_t D = e->info.n_embd;
    double  square = 0;
    end = e->info.cls_pooling ? first + 1 : end;
    for (int32_t d = 0; d < D; d++) {
        double sum = 0;
        for (int32_t r = first; r < end; r++)
            sum += (double)e->x[(size_t)r * (size_t)D + (size_t)d];
        out[d] = (float)(sum / (end - first));
        square += (double)out[d] * (double)out[d];
    }
    double scale = 1 / fmax(sqrt(square), 1e-12);
    for (int32_t d = 0; d < D; d++)
        out[d] = (float)((double)out[d] * scale);
}

jpt_status jpt_encoder_embed(jpt_encoder *e, const jpt_str *texts, int32_t n, float *out, int32_t *n_tokens, jpt_error *err) {
    jpt_ids    ids = {0}, next = {0};
    int32_t    first[ENCODER_ROWS / 2 + 1] = {0}, packed = 0; /* a text has two tokens or more */
    jpt_status st = JPT_OK;
    for (int32_t i = 0; i <= n && st == JPT_OK; i++) {
        next.n = 0;
        if (i < n)
            st = jpt_wordpiece_encode(e->tok, texts[i].p, texts[i].n, e->info.max_tokens, &next, err);
        if (st != JPT_OK)
            break;
        if (packed && (i == n || ids.n + next.n > ENCODER_ROWS)) { /* the pack is full */
            forward(e, ids.p, first, packed);
            for (int32_t t = 0; t < packed; t++)
                pool_rows(e, first[t], first[t + 1], out + (size_t)(i - packed + t) * (size_t)e->info.n_embd);
            ids.n = 0;
            packed = 0;
            if (jpt_stop_requested())
                st = JPT_FAIL(err, INTERRUPTED, "interrupted");
        }
        for (size_t k = 0; k < next.n && i < n && st == JPT_OK; k++)
            if (!jpt_ids_push(&ids, next.p[k]))
                st = JPT_FAIL(err, NOMEM, "out of memory for the texts' tokens");
        if (i == n)
            break;
        first[++packed] = (int32_t)ids.n;
        if (n_tokens)
            n_tokens[i] = (int32_t)next.n;
    }
    jpt_ids_fini(&ids);
    jpt_ids_fini(&next);
    return st;
}
