/* Weights to the card: into tiles where a kernel wants them so, from whatever blocks the file has. */
#include "cuda.h"
#include <stdlib.h>

static jpt_status no_room(cuda_backend *c, size_t bytes, int32_t rows, int32_t cols, jpt_error *err) {
    size_t free_bytes = 0, total = 0;
    c->cu.memory_info(&free_bytes, &total);
    return JPT_FAIL(err, NOMEM, "%s: out of memory: %zu MB for a %d x %d matrix, %zu of %zu MB are free; use a smaller or more quantised model, or --device cpu", c->name,
                    bytes >> 20, rows, cols, free_bytes >> 20, total >> 20);
}

/* Where a matrix goes, and the planes that a quantised file's blocks become on the way (bytes of codes, scales, minima). */
static int layout(jpt_dtype t, int32_t cols, jpt_compute compute, size_t n, size_t plane[3]) {
    size_t groups = n / 32;
    plane[0] = n, plane[1] = 2 * groups, plane[2] = 0;
    switch (t) {
    case JPT_F32:
    case JPT_F16:
    case JPT_BF16:
        if ((compute == JPT_COMPUTE_Q8 || compute == JPT_COMPUTE_FP8) && cols % 32 == 0)
            return compute == JPT_COMPUTE_FP8 ? K_TF8 : K_T8;
        plane[0] = plane[1] = 0;
        return t == JPT_F32 ? K_F32 : cols % 64 != 0 ? (t == JPT_F16 ? K_F16 : K_BF16) : t == JPT_F16 ? K_T16 : K_TB16;
    case JPT_Q4_0:
    case JPT_Q4_1:
    case JPT_Q4_K: plane[0] = n / 2, plane[1] = 4 * groups; return t == JPT_Q4_0 ? K_T4C : K_T4;
    case JPT_Q5_1:
    case JPT_Q5_K: plane[2] = 2 * groups; return K_T8M;
    case JPT_Q6_K: plane[1] = 4 * groups; return K_T8H;
    default: return K_T8;
    }
}

/* Bytes of codes and scales of `rows` x `cols` in tiles. */
static void tile_bytes(int kind, int32_t rows, int32_t cols, size_t *codes, size_t *scales) {
    size_t units = (size_t)((rows + 15) / 16) * (size_t)((cols + TILE_COLS(kind) - 1) / TILE_COLS(kind));
    *codes = units * (kind <= K_TB16 ? 2048 : 512);
    *scales = units * 32 * TILE_WORDS(kind);
}

/* The file's bytes, on the card, into w. */
static bool arrange(cuda_backend *c, const dev_weight *w, jpt_dtype dtype, cu_pointer raw, const size_t plane[3]) {
    size_t     n = (size_t)w->rows * (size_t)w->cols, groups = n / 32, at = (plane[0] + 255) & ~(size_t)255, at_m = at + ((plane[1] + 255) & ~(size_t)255);
    cu_pointer planes = 0, codes = raw, s = 0, m = 0;
    int        type = (int)dtype, fp8 = w->kind == K_TF8, per = TILE_COLS(w->kind);
    if (plane[0]) {
        if (c->cu.memory_alloc(&planes, at_m + plane[2] + 256) != CU_OK)
            return false;
        codes = planes, s = planes + at, m = planes + at_m;
        if (dtype == JPT_F32 || dtype == JPT_F16 || dtype == JPT_BF16)
            LAUNCH(c, narrow_weight, cuda_blocks(groups, 256), 1, 1, 256, 0, &raw, &type, &fp8, &groups, &codes, &s);
        else
            LAUNCH(c, repack, cuda_blocks(groups, 256), 1, 1, 256, 0, &raw, &type, &groups, &codes, &s, &m);
    }
    size_t units = (size_t)((w->rows + 15) / 16) * (size_t)((w->cols + per - 1) / per);
    LAUNCH(c, to_tiles, cuda_blocks(units, 8), 1, 1, 256, 0, &codes, &s, &m, (void *)w);
    cuda_ok(c, c->cu.stream_sync(c->stream));
    if (planes)
        c->cu.memory_free(planes);
    return true;
}

jpt_status cuda_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out, size_t *bytes_out, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    cuda_weight  *w = calloc(1, sizeof *w);
    size_t        n = (size_t)rows * (size_t)cols, row_bytes, plane[3] = {0}, codes, scales = 0;
    bool          expand = be->opt.compute == JPT_COMPUTE_F32 && dtype != JPT_F32;
    float        *f32 = NULL;
    if (!w)
        return JPT_FAIL(err, NOMEM, "out of memory for a weight");
    JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)cols, &row_bytes));
    if (expand) {
        f32 = malloc(n * sizeof *f32);
        if (!f32) {
            free(w);
            return JPT_FAIL(err, NOMEM, "out of memory for a float32 copy of a %d x %d matrix", rows, cols);
        }
        for (int32_t r = 0; r < rows; r++)
            jpt_dequantize_row(dtype, (const char *)data + (size_t)r * row_bytes, f32 + (size_t)r * (size_t)cols, (size_t)cols);
        dtype = JPT_F32;
        data = f32;
        row_bytes = (size_t)cols * sizeof(float);
    }
    w->w = (dev_weight){.rows = rows, .cols = cols, .kind = layout(dtype, cols, be->opt.compute, n, plane)};
    bool plain = w->w.kind < K_PLAIN;
    if (plain)
        codes = row_bytes * (size_t)rows;
    else
        tile_bytes(w->w.kind, rows, cols, &codes, &scales);
    size_t     file = row_bytes * (size_t)rows, at = (codes + 255) & ~(size_t)255, total = at + scales + 256; /* loads of 16 bytes may look past the end, never past this */
    jpt_status st = JPT_OK;
    cu_pointer raw = 0;
    bool       room = c->cu.memory_alloc(&w->block, total) == CU_OK && (plain || c->cu.memory_alloc(&raw, file) == CU_OK);
    if (room) {
        w->w.q = (void *)(uintptr_t)w->block;
        w->w.s = scales ? (void *)(uintptr_t)(w->block + at) : NULL;
        cuda_upload(be, (void *)(uintptr_t)(plain ? w->block : raw), data, file);
        room = plain || arrange(c, &w->w, dtype, raw, plane);
        st = cuda_check(c, err);
    }
    if (!room)
        st = no_room(c, total + (plain ? 0 : file + plane[0] + plane[1] + plane[2]), rows, cols, err);
    if (raw)
        c->cu.memory_free(raw);
    free(f32);
    if (st != JPT_OK) {
        if (w->block)
            c->cu.memory_free(w->block);
        free(w);
        return st;
    }
    if (bytes_out)
        *bytes_out = total;
    *out = (jpt_weight *)w;
    return JPT_OK;
}

void cuda_weight_free(jpt_backend *be, jpt_weight *weight) {
    cuda_weight *w = (cuda_weight *)weight;
    if (w)
        cuda_of(be)->cu.memory_free(w->block);
    free(w);
}
