/* Weights of the CPU back-end: float32 copies (--dtype f32), panels (the default), or the file's own blocks.
 *
 * Panels lie in slabs of 32 MB on huge pages, several matrices each: thousands of small matrices of one model would
 * otherwise miss the address translation cache at every row. */
#include "cpu.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { ROWS_PER_CHUNK = 32, SLAB_ALIGN = 2 << 20, SLAB_BYTES = 32 << 20 };

struct slab {
    struct slab *next;
    uint8_t     *p;
    size_t       n, used;
    int32_t      users;
};

static uint8_t *slab_take(cpu_backend *c, size_t bytes, struct slab **from) {
    bytes = (bytes + 63) & ~(size_t)63;
    struct slab *s = c->slab;
    if (!s || s->n - s->used < bytes) {
        size_t n = bytes > SLAB_BYTES ? (bytes + SLAB_ALIGN - 1) & ~(size_t)(SLAB_ALIGN - 1) : SLAB_BYTES;
        s = calloc(1, sizeof *s);
        if (!s || !(s->p = aligned_alloc(SLAB_ALIGN, n))) {
            free(s);
            return NULL;
        }
        (void)madvise(s->p, n, MADV_HUGEPAGE); /* a hint */
        s->n = n;
        s->next = c->slab;
        c->slab = s;
    }
    uint8_t *p = s->p + s->used;
    s->used += bytes;
    s->users++;
    *from = s;
    return p;
}

static void slab_leave(cpu_backend *c, struct slab *s) {
    if (--s->users > 0)
        return;
    struct slab **at = &c->slab;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s->p);
    free(s);
}

typedef struct load_job {
    jpt_weight *w;
    uint8_t    *panels;
    float      *f32;
} load_job;

static void dequant_chunk(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    load_job   *j = ud;
    jpt_weight *w = j->w;
    int32_t     end = (chunk + 1) * ROWS_PER_CHUNK < w->rows ? (chunk + 1) * ROWS_PER_CHUNK : w->rows;
    for (int32_t r = chunk * ROWS_PER_CHUNK; r < end; r++)
        jpt_dequantize_row(w->dtype, w->data + (size_t)r * w->row_bytes, j->f32 + (size_t)r * (size_t)w->cols, (size_t)w->cols);
}

static void pack_chunk(void *ud, int32_t panel, int32_t thread) {
    (void)thread;
    load_job   *j = ud;
    jpt_weight *w = j->w;
    int32_t     first = panel * PANEL_ROWS, n = w->rows - first < PANEL_ROWS ? w->rows - first : PANEL_ROWS;
    panel_pack(w->dtype, w->data + (size_t)first * w->row_bytes, w->row_bytes, n, w->cols, j->panels + (size_t)panel * panel_bytes(w->dtype, w->cols));
}

static jpt_status to_f32(cpu_backend *c, jpt_weight *w, size_t *bytes, jpt_error *err) {
    if (!jpt_mul_size((size_t)w->rows * (size_t)w->cols, sizeof(float), bytes) || !(w->owned = aligned_alloc(64, (*bytes + 63) & ~(size_t)63)))
        return JPT_FAIL(err, NOMEM, "out of memory: %zu MB for a float32 copy of a %d x %d matrix; try --dtype auto", *bytes >> 20, w->rows, w->cols);
    load_job job = {.w = w, .f32 = w->owned};
    jpt_pool_run(c->pool, dequant_chunk, &job, (w->rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK);
    w->dtype = JPT_F32;
    w->row_bytes = (size_t)w->cols * sizeof(float);
    w->data = (const uint8_t *)w->owned;
    return JPT_OK;
}

static jpt_status to_panels(cpu_backend *c, jpt_weight *w, size_t *bytes, jpt_error *err) {
    int32_t  panels = (w->rows + PANEL_ROWS - 1) / PANEL_ROWS;
    uint8_t *p = NULL;
    if (!jpt_mul_size((size_t)panels, panel_bytes(w->dtype, w->cols), bytes) || !(p = slab_take(c, *bytes, &w->slab)))
        return JPT_FAIL(err, NOMEM, "out of memory: %zu MB for a packed copy of a %d x %d matrix; try --no-repack", *bytes >> 20, w->rows, w->cols);
    w->panels = p;
    load_job job = {.w = w, .panels = p};
    jpt_pool_run(c->pool, pack_chunk, &job, panels);
    return JPT_OK;
}

jpt_status cpu_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out, size_t *bytes_out,
                          jpt_error *err) {
    cpu_backend *c = (cpu_backend *)be;
    jpt_weight  *w = calloc(1, sizeof *w);
    size_t       bytes = 0;
    jpt_status   st = JPT_OK;
    if (!w)
        return JPT_FAIL(err, NOMEM, "out of memory for a weight");
    *w = (jpt_weight){.dtype = dtype, .rows = rows, .cols = cols, .data = data};
    JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)cols, &w->row_bytes));
    if (be->opt.compute == JPT_COMPUTE_F32 && dtype != JPT_F32)
        st = to_f32(c, w, &bytes, err);
    else if (panel_packs(dtype) && !be->opt.in_place)
        st = to_panels(c, w, &bytes, err);
    if (st != JPT_OK) {
        free(w);
        return st;
    }
    if (bytes_out)
        *bytes_out = bytes;
    *out = w;
    return JPT_OK;
}

void cpu_weight_free(jpt_backend *be, jpt_weight *w) {
    if (w && w->slab)
        slab_leave((cpu_backend *)be, w->slab);
    host_weight_free(be, w);
}
