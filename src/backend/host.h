/* What the back-ends on host memory share: memory, copies, selection.  Operations whose definition and fast
 * version are the same code live here once. */
#ifndef JPT_BACKEND_HOST_H
#define JPT_BACKEND_HOST_H

#include <jpt/backend.h>
#include <jpt/pool.h>

typedef struct host_backend {
    jpt_backend base;
    void       *select_scratch; /* sized for select_vocab */
    float      *select_work;
    int32_t     select_vocab;
    float      *look; /* similarity's scratch */
    size_t      look_cap;
} host_backend;

struct jpt_weight {
    jpt_dtype      dtype; /* of `data` */
    int32_t        rows, cols;
    size_t         row_bytes;
    const uint8_t *data;
    float         *owned; /* dequantised copy, or NULL: data lies in the mapping */
    /* of the CPU back-end: rows rearranged (cpu/pack.h), or NULL */
    const uint8_t *panels;
    struct slab   *slab;
};

void      *host_alloc(jpt_backend *be, size_t bytes);
void       host_free(jpt_backend *be, void *d);
void       host_upload(jpt_backend *be, void *d, const void *host, size_t bytes);
void       host_download(jpt_backend *be, void *host, const void *d, size_t bytes);
void       host_sync(jpt_backend *be);
void       host_weight_free(jpt_backend *be, jpt_weight *w);
void       host_embed(jpt_backend *be, const jpt_weight *w, const int32_t *tokens, int32_t n, float *y);
void       host_rope(jpt_backend *be, float *x, int32_t n, int32_t n_heads, int32_t head_dim, int32_t rope_dim, jpt_rope_kind kind,
                     const int32_t *pos, const float *inv_freq);
void       host_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs,
                         int32_t n_runs, const float *k, const float *v);
void       host_kv_copy_page(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape, int32_t from,
                             int32_t to);
void       host_add(jpt_backend *be, float *x, const float *y, size_t n);
void       host_gather(jpt_backend *be, const float *x, const int32_t *rows, int32_t n, int32_t D, float *y);
jpt_status host_select_room(host_backend *h, int32_t V, jpt_error *err); /* select_work and select_scratch */
jpt_status host_select(jpt_backend *be, const float *logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out,
                       jpt_error *err);
jpt_status host_topk(jpt_backend *be, const float *logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index,
                     int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err);
void       host_keep_rows(jpt_backend *be, const float *x, int32_t n, int32_t D, bool unit, float *y);
jpt_status host_row_dots(jpt_backend *be, const float *h, int32_t D, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err);
/* With a pool the history, and DoLa's layers, are shared out: the same bits.  NULL: alone. */
jpt_status host_similarity(host_backend *b, jpt_pool *pool, const float *x, int32_t n, int32_t D, const float *h, int32_t m, float *out, jpt_error *err);
jpt_status host_contrast(jpt_pool *pool, const jpt_contrast *how, float *logits, int32_t V, const int32_t *rows, int32_t n, float *base, int32_t n_base,
                         int32_t stride, const int32_t *base_rows, float *logp, jpt_error *err);
void       host_fini(host_backend *h);

/* Element index of (layer, page, slot, kv head 0) in a KV array. */
static inline size_t kv_slot(const jpt_kv_view *kv, const jpt_attn_shape *s, int32_t layer, const int32_t *table, int32_t pos) {
    size_t page = (size_t)table[pos / kv->page_size], slot = (size_t)(pos % kv->page_size);
    return (((size_t)layer * (size_t)kv->n_pages + page) * (size_t)kv->page_size + slot) * (size_t)s->n_kv_heads * (size_t)s->head_dim;
}

jpt_status jpt_ref_open(const jpt_backend_options *opt, jpt_backend **out, jpt_error *err);
jpt_status jpt_cuda_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err); /* "cuda" or "cuda:N" */
jpt_status jpt_cpu_open(const jpt_backend_options *opt, jpt_backend **out, jpt_error *err);

#endif
