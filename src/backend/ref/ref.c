/* The reference back-end: what each operation means, in plain C.  Sums are accumulated in float64, so that it is a
 * better oracle than any float32 order.  Slow on purpose. */
#include "../host.h"
#include <math.h>
#include <stdlib.h>

static void ref_close(jpt_backend *be) {
    host_fini((host_backend *)be);
    free(be);
}

static void ref_describe(const jpt_backend *be, char *out, size_t cap) {
    (void)be;
    snprintf(out, cap, "ref (plain C, float64 sums, 1 thread)");
}

static jpt_status ref_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out,
                                 size_t *bytes_out, jpt_error *err) {
    (void)be;
    jpt_weight *w = calloc(1, sizeof *w);
    if (!w)
        return JPT_FAIL(err, NOMEM, "out of memory for a weight");
    *w = (jpt_weight){.dtype = dtype, .rows = rows, .cols = cols, .data = data};
    JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)cols, &w->row_bytes));
    if (bytes_out)
        *bytes_out = 0;
    *out = w;
    return JPT_OK;
}

static void ref_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y) {
    (void)be;
    for (int32_t i = 0; i < n; i++) {
        const float *xi = x + (size_t)i * (size_t)D;
        float       *yi = y + (size_t)i * (size_t)D;
        double       sum = 0;
        for (int32_t j = 0; j < D; j++)
            sum += (double)xi[j] * (double)xi[j];
        double scale = 1 / sqrt(sum / D + (double)eps);
        for (int32_t j = 0; j < D; j++)
            yi[j] = (float)((double)xi[j] * scale * (double)gain[j]);
    }
}

static void ref_matmul(jpt_backend *be, const jpt_weight *w, const float *x, int32_t n, const float *bias, float *y) {
    (void)be;
    float *row = malloc((size_t)w->cols * sizeof *row);
    JPT_ASSERT(row);
    for (int32_t r = 0; r < w->rows; r++) {
        jpt_dequantize_row(w->dtype, w->data + (size_t)r * w->row_bytes, row, (size_t)w->cols);
        for (int32_t i = 0; i < n; i++) {
            const float *xi = x + (size_t)i * (size_t)w->cols;
            double       sum = bias ? (double)bias[r] : 0;
            for (int32_t j = 0; j < w->cols; j++)
                sum += (double)row[j] * (double)xi[j];
            y[(size_t)i * (size_t)w->rows + (size_t)r] = (float)sum;
        }
    }
    free(row);
}

static float kv_at(const jpt_kv_view *kv, const void *base, size_t i) {
    return kv->kv_dtype == JPT_F16 ? jpt_half_to_f32(((const jpt_half *)base)[i]) : ((const float *)base)[i];
}

static void ref_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs,
                          int32_t n_runs, const float *q, float *y) {
    (void)be;
    int32_t E = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    for (int32_t r = 0; r < n_runs; r++)
        for (int32_t i = 0; i < runs[r].n_rows; i++)
            for (int32_t h = 0; h < shape->n_heads; h++) {
                int32_t      n = runs[r].first_pos + i + 1;
                size_t       at = ((size_t)(runs[r].first_row + i) * (size_t)shape->n_heads + (size_t)h) * (size_t)E;
                size_t       head = (size_t)(h / group) * (size_t)E;
                double      *score = malloc((size_t)n * sizeof *score), max = -INFINITY, sum = 0;
                JPT_ASSERT(score);
                for (int32_t p = 0; p < n; p++) {
                    size_t slot = kv_slot(kv, shape, layer, runs[r].table, p) + head;
                    score[p] = 0;
                    for (int32_t e = 0; e < E; e++)
                        score[p] += (double)q[at + (size_t)e] * (double)kv_at(kv, kv->d_k, slot + (size_t)e);
                    score[p] *= (double)shape->scale;
                    max = fmax(max, score[p]);
                }
                for (int32_t p = 0; p < n; p++)
                    sum += score[p] = exp(score[p] - max);
                for (int32_t e = 0; e < E; e++) {
                    double o = 0;
                    for (int32_t p = 0; p < n; p++)
                        o += score[p] * (double)kv_at(kv, kv->d_v, kv_slot(kv, shape, layer, runs[r].table, p) + head + (size_t)e);
                    y[at + (size_t)e] = (float)(o / sum);
                }
                free(score);
            }
}

static void ref_swiglu(jpt_backend *be, const float *gate, const float *up, size_t n, float *y) {
    (void)be;
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i]);
}

static jpt_status ref_similarity(jpt_backend *be, const float *x, int32_t n, int32_t D, const float *h, int32_t m, float *out, jpt_error *err) {
    return host_similarity((host_backend *)be, NULL, x, n, D, h, m, out, err);
}

static jpt_status ref_contrast(jpt_backend *be, const jpt_contrast *how, float *logits, int32_t V, const int32_t *rows, int32_t n, float *base, int32_t n_base, int32_t stride,
                               const int32_t *base_rows, float *logp, jpt_error *err) {
    (void)be;
    return host_contrast(NULL, how, logits, V, rows, n, base, n_base, stride, base_rows, logp, err);
}

static const jpt_backend_ops ref_ops = {
    .name = "ref", .close = ref_close, .describe = ref_describe, .alloc = host_alloc, .free = host_free, .upload = host_upload,
    .download = host_download, .sync = host_sync, .weight_new = ref_weight_new, .weight_free = host_weight_free, .embed = host_embed,
    .rmsnorm = ref_rmsnorm, .matmul = ref_matmul, .rope = host_rope, .kv_write = host_kv_write, .attention = ref_attention,
    .kv_copy_page = host_kv_copy_page, .swiglu = ref_swiglu, .add = host_add, .gather = host_gather, .select = host_select,
    .topk = host_topk, .keep_rows = host_keep_rows, .similarity = ref_similarity, .row_dots = host_row_dots, .contrast = ref_contrast,
};

jpt_status jpt_ref_open(const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    host_backend *h = calloc(1, sizeof *h);
    if (!h)
        return JPT_FAIL(err, NOMEM, "out of memory for a back-end");
    h->base = (jpt_backend){&ref_ops, *opt};
    *out = &h->base;
    return JPT_OK;
}
