/* Looking back on the card: launches of contrast.cu.  Only similarities and products come back to the host. */
#include "cuda.h"
#include <assert.h>
#include <math.h>
#include <string.h>

static unsigned threads_for(int32_t D) { return D >= 2048 ? 1024 : 256; }

static void keep(cuda_backend *c, const float *x, int32_t n, int32_t D, int unit, float *y, unsigned *best) {
    LAUNCH(c, keep_rows, n, 1, 1, threads_for(D), 0, &x, &D, &unit, &y, &best);
}

void cuda_keep_rows(jpt_backend *be, const float *x, int32_t n, int32_t D, bool unit, float *y) { keep(cuda_of(be), x, n, D, unit, y, NULL); }

static float unsorted(uint32_t u) {
    float z;
    u = u & 0x80000000u ? u & 0x7fffffffu : ~u;
    memcpy(&z, &u, sizeof z);
    return z;
}

jpt_status cuda_similarity(jpt_backend *be, const float *x, int32_t n, int32_t D, const float *h, int32_t m, float *out, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    size_t        down = (size_t)n * sizeof(unsigned);
    void         *back;
    JPT_TRY(cuda_check(c, err));
    JPT_TRY(cuda_stage(c, 0, down, err));
    cuda_room(c, &c->look, &c->look_cap, (size_t)n * (size_t)D * sizeof(float));
    JPT_TRY(cuda_check(c, err));
    float    *unit = (void *)(uintptr_t)c->look;
    unsigned *best = cuda_staged(c, 0);
    int       few = n <= 8, rows = few ? 4 : 2, wide = few ? 8 : 32;
    keep(c, x, n, D, 1, unit, best);
    cuda_launch(c, c->kernel[few ? KN_similarity_8 : KN_similarity_32], (unsigned)((m + rows - 1) / rows), (unsigned)((n + wide - 1) / wide), 1, 256, 0,
                (void *[]){&unit, &h, &n, &D, &m, &best});
    JPT_TRY(cuda_receive(c, 0, down, &back, err));
    for (int32_t i = 0; i < n; i++)
        out[i] = unsorted(((const uint32_t *)back)[i]);
    return JPT_OK;
}

jpt_status cuda_row_dots(jpt_backend *be, const float *h, int32_t D, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    size_t        half = (size_t)n * sizeof(int), up = 2 * half, down = (size_t)n * sizeof(float);
    void         *back;
    JPT_TRY(cuda_check(c, err));
    JPT_TRY(cuda_stage(c, up, down, err));
    memcpy(c->pick_host, a, half);
    memcpy(c->pick_host + half, b, half);
    cuda_send(c, up);
    void *d_a = cuda_staged(c, 0), *d_b = cuda_staged(c, half), *d_out = cuda_staged(c, cuda_back(up));
    LAUNCH(c, row_dots, n, 1, 1, 256, 0, &h, &D, &d_a, &d_b, &d_out);
    JPT_TRY(cuda_receive(c, up, down, &back, err));
    memcpy(out, back, down);
    return JPT_OK;
}

jpt_status cuda_contrast(jpt_backend *be, const jpt_contrast *how, float *logits, int32_t V, const int32_t *rows, int32_t n, float *base, int32_t n_base, int32_t stride,
                         const int32_t *base_rows, float *logp, jpt_error *err) {
    static_assert((int)C_DOLA == (int)JPT_CONTRAST_DOLA && (int)C_LOGITS == (int)JPT_CONTRAST_LOGITS && (int)C_LOGPROBS == (int)JPT_CONTRAST_LOGPROBS, "one numbering");
    static_assert((int)CONTRAST_BASES == (int)JPT_CONTRAST_BASES, "one limit");
    cuda_backend *c = cuda_of(be);
    int32_t       n_parts = (V + ROW_PART - 1) / ROW_PART, most = n < CONTRAST_ROWS ? n : CONTRAST_ROWS;
    JPT_ASSERT(n_base >= 1 && n_base <= CONTRAST_BASES);
    size_t at_parts = (size_t)most * (size_t)n_parts * (size_t)n_base * sizeof(double), at_chosen = at_parts + (size_t)most * (size_t)(1 + n_base) * (size_t)n_parts * sizeof(row_part);
    JPT_TRY(cuda_check(c, err));
    cuda_room(c, &c->look, &c->look_cap, at_chosen + (size_t)most * sizeof(int));
    cuda_zeros(c, &c->look_done, &c->look_done_cap, (size_t)most * sizeof(unsigned));
    JPT_TRY(cuda_check(c, err));
    for (int32_t i = 0; i < n; i += CONTRAST_ROWS) {
        contrast_job j = {.logits = logits, .logp = logp, .base = base, .js = (void *)(uintptr_t)c->look, .parts = (void *)(uintptr_t)(c->look + at_parts),
                          .chosen = (void *)(uintptr_t)(c->look + at_chosen), .done = (void *)(uintptr_t)c->look_done, .V = V, .n_parts = n_parts, .n_base = n_base,
                          .stride = stride, .form = (int)how->form, .beta = how->beta, .temperature = how->temperature, .log_top = logf(how->relative_top)};
        int32_t      now = n - i < CONTRAST_ROWS ? n - i : CONTRAST_ROWS;
        memcpy(j.row, rows + i, (size_t)now * sizeof *rows);
        memcpy(j.base_row, base_rows + i, (size_t)now * sizeof *rows);
        LAUNCH(c, contrast_stats, n_parts, 1 + n_base, now, ROW_THREADS, 0, &j);
        if (n_base > 1)
            LAUNCH(c, dola_divergence, n_parts, now, 1, ROW_THREADS, 0, &j);
        LAUNCH(c, contrast_write, n_parts, now, 1, ROW_THREADS, 0, &j);
    }
    return cuda_check(c, err);
}
