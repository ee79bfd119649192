#include "host.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large arrays come from the kernel: zero, and in memory only where they have been touched (a cache is sized for the longest
 * texts, most are short).  The size stands before the array, 0 for those of malloc. */
enum { HEADER = 64, MAPPED_FROM = 1 << 20 };

void *host_alloc(jpt_backend *be, size_t bytes) {
    (void)be;
    size_t n;
    if (!jpt_add_size(bytes ? bytes : 1, HEADER + 63, &n))
        return NULL;
    n &= ~(size_t)63;
    bool  mapped = n >= MAPPED_FROM;
    void *p = mapped ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : aligned_alloc(64, n);
    if (!p || p == MAP_FAILED)
        return NULL;
    if (mapped)
        (void)madvise(p, n, MADV_HUGEPAGE); /* a hint */
    else
        memset(p, 0, n);
    *(size_t *)p = mapped ? n : 0;
    return (char *)p + HEADER;
}

void host_free(jpt_backend *be, void *d) {
    (void)be;
    if (!d)
        return;
    void  *p = (char *)d - HEADER;
    size_t n = *(size_t *)p;
    if (n)
        munmap(p, n);
    else
        free(p);
}

void host_upload(jpt_backend *be, void *d, const void *host, size_t bytes) {
    (void)be;
    memcpy(d, host, bytes);
}

void host_download(jpt_backend *be, void *host, const void *d, size_t bytes) {
    (void)be;
    memcpy(host, d, bytes);
}

void host_sync(jpt_backend *be) { (void)be; }

void host_weight_free(jpt_backend *be, jpt_weight *w) {
    (void)be;
    if (w)
        free(w->owned);
    free(w);
}

void host_embed(jpt_backend *be, const jpt_weight *w, const int32_t *tokens, int32_t n, float *y) {
    (void)be;
    for (int32_t i = 0; i < n; i++)
        jpt_dequantize_row(w->dtype, w->data + (size_t)tokens[i] * w->row_bytes, y + (size_t)i * (size_t)w->cols, (size_t)w->cols);
}

void host_rope(jpt_backend *be, float *x, int32_t n, int32_t n_heads, int32_t head_dim, int32_t rope_dim, jpt_rope_kind kind,
               const int32_t *pos, const float *inv_freq) {
    (void)be;
    int32_t half = rope_dim / 2;
    for (int32_t i = 0; i < n; i++)
        for (int32_t p = 0; p < half; p++) {
            float angle = (float)pos[i] * inv_freq[p], c = cosf(angle), s = sinf(angle);
            int32_t a = kind == JPT_ROPE_NEOX ? p : 2 * p, b = kind == JPT_ROPE_NEOX ? p + half : 2 * p + 1;
            for (int32_t h = 0; h < n_heads; h++) {
                float *v = x + ((size_t)i * (size_t)n_heads + (size_t)h) * (size_t)head_dim;
                float  va = v[a], vb = v[b];
                v[a] = va * c - vb * s;
                v[b] = va * s + vb * c;
            }
        }
}

void host_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs,
                   int32_t n_runs, const float *k, const float *v) {
    (void)be;
    size_t width = (size_t)shape->n_kv_heads * (size_t)shape->head_dim;
    for (int32_t r = 0; r < n_runs; r++)
        for (int32_t i = 0; i < runs[r].n_rows; i++) {
            size_t at = kv_slot(kv, shape, layer, runs[r].table, runs[r].first_pos + i), row = (size_t)(runs[r].first_row + i) * width;
            size_t bytes = kv->kv_dtype == JPT_F16 ? 2 : 4;
            jpt_quantize_row(kv->kv_dtype, k + row, (char *)kv->d_k + at * bytes, width);
            jpt_quantize_row(kv->kv_dtype, v + row, (char *)kv->d_v + at * bytes, width);
        }
}

void host_kv_copy_page(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape, int32_t from, int32_t to) {
    (void)be;
    size_t bytes = (size_t)kv->page_size * (size_t)shape->n_kv_heads * (size_t)shape->head_dim * (kv->kv_dtype == JPT_F16 ? 2 : 4);
    for (int32_t l = 0; l < n_layers; l++) {
        size_t layer = (size_t)l * (size_t)kv->n_pages;
        memcpy((char *)kv->d_k + (layer + (size_t)to) * bytes, (char *)kv->d_k + (layer + (size_t)from) * bytes, bytes);
        memcpy((char *)kv->d_v + (layer + (size_t)to) * bytes, (char *)kv->d_v + (layer + (size_t)from) * bytes, bytes);
    }
}

void host_add(jpt_backend *be, float *x, const float *y, size_t n) {
    (void)be;
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

void host_gather(jpt_backend *be, const float *x, const int32_t *rows, int32_t n, int32_t D, float *y) {
    (void)be;
    for (int32_t i = 0; i < n; i++)
        memcpy(y + (size_t)i * (size_t)D, x + (size_t)rows[i] * (size_t)D, (size_t)D * sizeof *y);
}

/* ---- selection: the definition, row by row ------------------------------------------------------ */

jpt_status host_select_room(host_backend *h, int32_t V, jpt_error *err) {
    if (h->select_vocab >= V)
        return JPT_OK;
    free(h->select_scratch);
    free(h->select_work);
    h->select_scratch = malloc(jpt_select_scratch_bytes(V));
    h->select_work = malloc((size_t)V * sizeof(float));
    h->select_vocab = h->select_scratch && h->select_work ? V : 0;
    return h->select_vocab ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for selecting among %d tokens", V);
}

jpt_status host_select(jpt_backend *be, const float *logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out,
                       jpt_error *err) {
    host_backend *h = (host_backend *)be;
    JPT_TRY(host_select_room(h, V, err));
    for (int32_t i = 0; i < n; i++)
        JPT_TRY(jpt_select_row(&items[i], logits + (size_t)items[i].row * (size_t)V, V, h->select_work, h->select_scratch, &out[i], err));
    return JPT_OK;
}

jpt_status host_topk(jpt_backend *be, const float *logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index,
                     int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err) {
    host_backend *h = (host_backend *)be;
    JPT_TRY(host_select_room(h, V, err));
    return jpt_topk_scores(items, n, logits, V, k, h->select_work, h->select_scratch, out_index, out_token, out_score, n_out, err);
}

void host_fini(host_backend *h) {
    free(h->select_scratch);
    free(h->select_work);
    free(h->look);
}
