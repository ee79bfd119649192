/* The CPU back-end: threads, scratch and the choice of instruction set around the kernels.
 *
 * Work is split by output rows (matmul), by heads (attention) or by rows (norms): never inside one sum. */
#include "../host.h"
#include "kernels.h"
#include <jpt/pool.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { ROWS_PER_CHUNK = 32, ACT_TILE = 64 };

typedef struct cpu_backend {
    host_backend       host;
    const cpu_kernels *k;
    jpt_pool          *pool;
    /* scratch, grown between calls and never shrunk */
    float  *thread_f32;
    size_t *thread_slots;
    size_t  thread_cap; /* floats a thread */
} cpu_backend;

static void cpu_close(jpt_backend *be) {
    cpu_backend *c = (cpu_backend *)be;
    jpt_pool_close(c->pool);
    free(c->thread_f32);
    free(c->thread_slots);
    host_fini(&c->host);
    free(c);
}

static void cpu_describe(const jpt_backend *be, char *out, size_t cap) {
    const cpu_backend *c = (const cpu_backend *)be;
    snprintf(out, cap, "cpu (%s, %d thread%s)", c->k->isa, jpt_pool_threads(c->pool), jpt_pool_threads(c->pool) == 1 ? "" : "s");
}

/* Scratch cannot be reported as a status from an operation; running out of a few MB here is fatal. */
static void thread_room(cpu_backend *c, size_t n) {
    if (n <= c->thread_cap)
        return;
    size_t t = (size_t)jpt_pool_threads(c->pool);
    free(c->thread_f32);
    free(c->thread_slots);
    n = (n + 1023) & ~(size_t)1023;
    c->thread_f32 = aligned_alloc(64, t * n * sizeof(float));
    c->thread_slots = malloc(t * n * sizeof(size_t));
    JPT_ASSERT(c->thread_f32 && c->thread_slots);
    c->thread_cap = n;
}

/* ---- weights ---------------------------------------------------------------------------------------- */

typedef struct dequant_job {
    jpt_weight *w;
    const uint8_t *src;
    jpt_dtype      dtype;
    size_t         row_bytes;
} dequant_job;

static void dequant_chunk(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    dequant_job *j = ud;
    int32_t      end = (chunk + 1) * ROWS_PER_CHUNK < j->w->rows ? (chunk + 1) * ROWS_PER_CHUNK : j->w->rows;
    for (int32_t r = chunk * ROWS_PER_CHUNK; r < end; r++)
        jpt_dequantize_row(j->dtype, j->src + (size_t)r * j->row_bytes, j->w->owned + (size_t)r * (size_t)j->w->cols, (size_t)j->w->cols);
}

static jpt_status cpu_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out,
                                 size_t *bytes_out, jpt_error *err) {
    cpu_backend *c = (cpu_backend *)be;
    jpt_weight  *w = calloc(1, sizeof *w);
    size_t       bytes = 0;
    if (!w)
        return JPT_FAIL(err, NOMEM, "out of memory for a weight");
    *w = (jpt_weight){.dtype = dtype, .rows = rows, .cols = cols, .data = data};
    JPT_ASSERT(jpt_dtype_row_bytes(dtype, (uint64_t)cols, &w->row_bytes));
    if (be->opt.compute == JPT_COMPUTE_F32 && dtype != JPT_F32) {
        if (!jpt_mul_size((size_t)rows * (size_t)cols, sizeof(float), &bytes) || !(w->owned = aligned_alloc(64, (bytes + 63) & ~(size_t)63))) {
            free(w);
            return JPT_FAIL(err, NOMEM, "out of memory: %zu MB for a float32 copy of a %d x %d matrix; try --dtype auto", bytes >> 20, rows, cols);
        }
        dequant_job job = {w, data, dtype, w->row_bytes};
        jpt_pool_run(c->pool, dequant_chunk, &job, (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK);
        w->dtype = JPT_F32;
        w->row_bytes = (size_t)cols * sizeof(float);
        w->data = (const uint8_t *)w->owned;
    }
    if (bytes_out)
        *bytes_out = bytes;
    *out = w;
    return JPT_OK;
}

/* ---- matmul ----------------------------------------------------------------------------------------- */

typedef struct matmul_job {
    cpu_backend      *c;
    const jpt_weight *w;
    const float      *x, *bias;
    float            *y;
    int32_t           n;
} matmul_job;

static void matmul_chunk(void *ud, int32_t chunk, int32_t thread) {
    matmul_job       *j = ud;
    const jpt_weight *w = j->w;
    cpu_backend      *c = j->c;
    size_t            cols = (size_t)w->cols;
    float            *row_f32 = c->thread_f32 + (size_t)thread * c->thread_cap, out[ACT_TILE];
    const float      *x[ACT_TILE];
    int32_t           end = (chunk + 1) * ROWS_PER_CHUNK < w->rows ? (chunk + 1) * ROWS_PER_CHUNK : w->rows;
    /* a tile of activations stays in cache while this chunk's weights pass over it */
    for (int32_t i0 = 0; i0 < j->n; i0 += ACT_TILE) {
        int32_t n = j->n - i0 < ACT_TILE ? j->n - i0 : ACT_TILE;
        for (int32_t i = 0; i < n; i++)
            x[i] = j->x + (size_t)(i0 + i) * cols;
        for (int32_t r = chunk * ROWS_PER_CHUNK; r < end; r++) {
            const uint8_t *data = w->data + (size_t)r * w->row_bytes;
            const float   *row = row_f32;
            if (w->dtype == JPT_F32)
                row = (const float *)(const void *)data;
            else
                c->k->to_f32(w->dtype, data, row_f32, w->cols);
            c->k->dot_f32(row, w->cols, x, n, out);
            float bias = j->bias ? j->bias[r] : 0;
            for (int32_t i = 0; i < n; i++)
                j->y[(size_t)(i0 + i) * (size_t)w->rows + (size_t)r] = out[i] + bias;
        }
    }
}

static void cpu_matmul(jpt_backend *be, const jpt_weight *w, const float *x, int32_t n, const float *bias, float *y) {
    cpu_backend *c = (cpu_backend *)be;
    matmul_job   job = {c, w, x, bias, y, n};
    thread_room(c, (size_t)w->cols);
    if (n > 0)
        jpt_pool_run(c->pool, matmul_chunk, &job, (w->rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK);
}

/* ---- row-wise operations ------------------------------------------------------------------------------ */

typedef struct norm_job {
    cpu_backend *c;
    const float *x, *gain;
    float       *y;
    int32_t      D;
    float        eps;
} norm_job;

static void norm_row(void *ud, int32_t i, int32_t thread) {
    (void)thread;
    norm_job *j = ud;
    j->c->k->rmsnorm(j->x + (size_t)i * (size_t)j->D, j->gain, j->D, j->eps, j->y + (size_t)i * (size_t)j->D);
}

static void cpu_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y) {
    cpu_backend *c = (cpu_backend *)be;
    norm_job     job = {c, x, gain, y, D, eps};
    if (n < 8)
        for (int32_t i = 0; i < n; i++)
            norm_row(&job, i, 0);
    else
        jpt_pool_run(c->pool, norm_row, &job, n);
}

enum { SWIGLU_CHUNK = 8192 };

typedef struct swiglu_job {
    cpu_backend *c;
    const float *gate, *up;
    float       *y;
    size_t       n;
} swiglu_job;

static void swiglu_chunk(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    swiglu_job *j = ud;
    size_t      at = (size_t)chunk * SWIGLU_CHUNK, n = j->n - at < SWIGLU_CHUNK ? j->n - at : SWIGLU_CHUNK;
    j->c->k->swiglu(j->gate + at, j->up + at, n, j->y + at);
}

static void cpu_swiglu(jpt_backend *be, const float *gate, const float *up, size_t n, float *y) {
    cpu_backend *c = (cpu_backend *)be;
    swiglu_job   job = {c, gate, up, y, n};
    jpt_pool_run(c->pool, swiglu_chunk, &job, (int32_t)((n + SWIGLU_CHUNK - 1) / SWIGLU_CHUNK));
}

/* ---- attention ------------------------------------------------------------------------------------------ */

typedef struct attn_job {
    cpu_backend          *c;
    const jpt_kv_view    *kv;
    const jpt_attn_shape *shape;
    const jpt_row_run    *runs;
    int32_t               n_runs, layer;
    const float          *q;
    float                *y;
} attn_job;

/* A chunk is one kv head of one row: its query heads share keys and values. */
static void attn_chunk(void *ud, int32_t chunk, int32_t thread) {
    attn_job             *j = ud;
    const jpt_attn_shape *s = j->shape;
    int32_t               row = chunk / s->n_kv_heads, kv_head = chunk % s->n_kv_heads, group = s->n_heads / s->n_kv_heads, r = 0;
    while (row >= j->runs[r].n_rows)
        row -= j->runs[r++].n_rows;
    int32_t n = j->runs[r].first_pos + row + 1;
    float  *score = j->c->thread_f32 + (size_t)thread * j->c->thread_cap;
    size_t *slots = j->c->thread_slots + (size_t)thread * j->c->thread_cap;
    for (int32_t p = 0; p < n; p++)
        slots[p] = kv_slot(j->kv, s, j->layer, j->runs[r].table, p) + (size_t)kv_head * (size_t)s->head_dim;
    for (int32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
        size_t at = ((size_t)(j->runs[r].first_row + row) * (size_t)s->n_heads + (size_t)h) * (size_t)s->head_dim;
        j->c->k->attend(j->q + at, s->head_dim, s->scale, j->kv->kv_dtype, j->kv->d_k, j->kv->d_v, slots, n, score, j->y + at);
    }
}

static void cpu_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs,
                          int32_t n_runs, const float *q, float *y) {
    cpu_backend *c = (cpu_backend *)be;
    attn_job     job = {c, kv, shape, runs, n_runs, layer, q, y};
    int32_t      rows = 0;
    size_t       longest = 0;
    for (int32_t r = 0; r < n_runs; r++) {
        size_t n = (size_t)runs[r].first_pos + (size_t)runs[r].n_rows;
        rows += runs[r].n_rows;
        longest = n > longest ? n : longest;
    }
    thread_room(c, longest + 16);
    jpt_pool_run(c->pool, attn_chunk, &job, rows * shape->n_kv_heads);
}

static const jpt_backend_ops cpu_ops = {
    .name = "cpu", .close = cpu_close, .describe = cpu_describe, .alloc = host_alloc, .free = host_free, .upload = host_upload,
    .download = host_download, .sync = host_sync, .weight_new = cpu_weight_new, .weight_free = host_weight_free, .embed = host_embed,
    .rmsnorm = cpu_rmsnorm, .matmul = cpu_matmul, .rope = host_rope, .kv_write = host_kv_write, .attention = cpu_attention,
    .kv_copy_page = host_kv_copy_page, .swiglu = cpu_swiglu, .add = host_add, .gather = host_gather, .select = host_select,
    .topk = host_topk,
};

static jpt_status choose_isa(const char *isa, const cpu_kernels **out, jpt_error *err) {
    *out = &cpu_kernels_scalar;
    bool wanted_found = isa && strcmp(isa, "scalar") == 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    unsigned a, b, leaf1_ecx = 0, d; /* clang 14 does not know "f16c" */
    __get_cpuid(1, &a, &b, &leaf1_ecx, &d);
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (leaf1_ecx & bit_F16C);
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    if (avx2 && (!isa || strcmp(isa, "avx2") == 0)) {
        *out = &cpu_kernels_avx2;
        wanted_found = true;
    }
    if (avx512 && (!isa || strcmp(isa, "avx512") == 0)) {
        *out = &cpu_kernels_avx512;
        wanted_found = true;
    }
#endif
    if (isa && !wanted_found)
        return JPT_FAIL(err, UNSUPPORTED, "instruction set '%s' is not available on this processor (known: scalar, avx2, avx512)", isa);
    return JPT_OK;
}

jpt_status jpt_cpu_open(const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    cpu_backend *c = calloc(1, sizeof *c);
    if (!c)
        return JPT_FAIL(err, NOMEM, "out of memory for a back-end");
    c->host.base = (jpt_backend){&cpu_ops, *opt};
    jpt_status st = choose_isa(opt->isa, &c->k, err);
    if (st == JPT_OK)
        st = jpt_pool_open(opt->n_threads, &c->pool, err);
    if (st != JPT_OK) {
        free(c);
        return st;
    }
    *out = &c->host.base;
    return JPT_OK;
}
