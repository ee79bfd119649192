/* The CPU back-end: threads, scratch and the choice of instruction set around the kernels.
 *
 * Work is split by output rows (matmul), by heads (attention) or by rows (norms): never inside one sum. */
#include "cpu.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static void cpu_close(jpt_backend *be) {
    cpu_backend *c = (cpu_backend *)be;
    jpt_pool_close(c->pool);
    cpu_matmul_fini(c);
    free(c->thread_f32);
    free(c->angles.cos_sin);
    free(c->angles.pos);
    free(c->angles.inv_freq);
    host_fini(&c->host);
    free(c);
}

static void cpu_describe(const jpt_backend *be, char *out, size_t cap) {
    const cpu_backend *c = (const cpu_backend *)be;
    snprintf(out, cap, "cpu (%s, %d thread%s)", c->k->isa, jpt_pool_threads(c->pool), jpt_pool_threads(c->pool) == 1 ? "" : "s");
}

void cpu_thread_room(cpu_backend *c, size_t n) {
    if (n <= c->thread_cap)
        return;
    free(c->thread_f32);
    n = (n + 1023) & ~(size_t)1023;
    c->thread_f32 = aligned_alloc(64, (size_t)jpt_pool_threads(c->pool) * n * sizeof(float));
    JPT_ASSERT(c->thread_f32);
    c->thread_cap = n;
}

void cpu_share(cpu_backend *c, jpt_pool_fn fn, void *job, int32_t n_chunks, double work) {
    if (work < ALONE)
        for (int32_t i = 0; i < n_chunks; i++)
            fn(job, i, 0);
    else
        jpt_pool_run(c->pool, fn, job, n_chunks);
}

/* Values are read and written once: a row of a few thousand is done before the others have heard of it. */
static void each_row(cpu_backend *c, jpt_pool_fn fn, void *job, int32_t n, int32_t width) { cpu_share(c, fn, job, n, 8.0 * n * width); }

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
    each_row(c, norm_row, &job, n, D);
}

enum { ADD_CHUNK = 16384 };

typedef struct add_job {
    float       *x;
    const float *y;
    size_t       n;
} add_job;

static void add_chunk(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    add_job *j = ud;
    size_t   at = (size_t)chunk * ADD_CHUNK;
    host_add(NULL, j->x + at, j->y + at, j->n - at < ADD_CHUNK ? j->n - at : ADD_CHUNK);
}

static void cpu_add(jpt_backend *be, float *x, const float *y, size_t n) {
    add_job job = {x, y, n};
    jpt_pool_run(((cpu_backend *)be)->pool, add_chunk, &job, (int32_t)((n + ADD_CHUNK - 1) / ADD_CHUNK));
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

/* ---- rope ------------------------------------------------------------------------------------------------- */

/* cos and sin of every row's angles; the layers of a pass ask for the same ones. */
static void angles_for(cpu_backend *c, int32_t n, int32_t half, const int32_t *pos, const float *inv_freq) {
    cpu_angles *a = &c->angles;
    if (a->n == n && a->half == half && memcmp(a->pos, pos, (size_t)n * sizeof *pos) == 0 && memcmp(a->inv_freq, inv_freq, (size_t)half * sizeof *inv_freq) == 0)
        return;
    size_t need = (size_t)n * (size_t)half;
    a->n = 0;
    if (need > a->cap || n > a->cap_n || half > a->cap_half) {
        free(a->cos_sin);
        free(a->pos);
        free(a->inv_freq);
        a->cap = need, a->cap_n = n, a->cap_half = half;
        a->cos_sin = malloc(2 * need * sizeof *a->cos_sin);
        a->pos = malloc((size_t)n * sizeof *a->pos);
        a->inv_freq = malloc((size_t)half * sizeof *a->inv_freq);
        JPT_ASSERT(a->cos_sin && a->pos && a->inv_freq);
    }
    for (int32_t i = 0; i < n; i++)
        for (int32_t p = 0; p < half; p++) {
            float angle = (float)pos[i] * inv_freq[p];
            a->cos_sin[2 * ((size_t)i * (size_t)half + (size_t)p)] = cosf(angle);
            a->cos_sin[2 * ((size_t)i * (size_t)half + (size_t)p) + 1] = sinf(angle);
        }
    memcpy(a->pos, pos, (size_t)n * sizeof *pos);
    memcpy(a->inv_freq, inv_freq, (size_t)half * sizeof *inv_freq);
    a->n = n, a->half = half;
}

typedef struct rope_job {
    cpu_backend  *c;
    float        *x;
    int32_t       n_heads, head_dim, half;
    jpt_rope_kind kind;
} rope_job;

static void rope_row(void *ud, int32_t i, int32_t thread) {
    (void)thread;
    rope_job    *j = ud;
    const float *cs = j->c->angles.cos_sin + 2 * (size_t)i * (size_t)j->half;
    for (int32_t h = 0; h < j->n_heads; h++) {
        float *v = j->x + ((size_t)i * (size_t)j->n_heads + (size_t)h) * (size_t)j->head_dim;
        for (int32_t p = 0; p < j->half; p++) {
            int32_t a = j->kind == JPT_ROPE_NEOX ? p : 2 * p, b = j->kind == JPT_ROPE_NEOX ? p + j->half : 2 * p + 1;
            float   va = v[a], vb = v[b], c = cs[2 * p], s = cs[2 * p + 1];
            v[a] = va * c - vb * s;
            v[b] = va * s + vb * c;
        }
    }
}

static void cpu_rope(jpt_backend *be, float *x, int32_t n, int32_t n_heads, int32_t head_dim, int32_t rope_dim, jpt_rope_kind kind, const int32_t *pos,
                     const float *inv_freq) {
    cpu_backend *c = (cpu_backend *)be;
    rope_job     job = {c, x, n_heads, head_dim, rope_dim / 2, kind};
    angles_for(c, n, rope_dim / 2, pos, inv_freq);
    each_row(c, rope_row, &job, n, n_heads * head_dim);
}

/* ---- keys and values ------------------------------------------------------------------------------------------ */

typedef struct kv_job {
    cpu_backend       *c;
    const jpt_kv_view *kv;
    const jpt_row_run *runs;
    const jpt_attn_shape *shape;
    int32_t            layer;
    const float       *k, *v;
} kv_job;

static void kv_row(void *ud, int32_t i, int32_t thread) {
    (void)thread;
    kv_job            *j = ud;
    const jpt_row_run *r = j->runs;
    size_t             width = (size_t)j->shape->n_kv_heads * (size_t)j->shape->head_dim;
    for (; i >= r->n_rows; r++)
        i -= r->n_rows;
    size_t at = kv_slot(j->kv, j->shape, j->layer, r->table, r->first_pos + i), row = (size_t)(r->first_row + i) * width;
    if (j->kv->kv_dtype == JPT_F16) {
        j->c->k->to_f16(j->k + row, width, (jpt_half *)j->kv->d_k + at);
        j->c->k->to_f16(j->v + row, width, (jpt_half *)j->kv->d_v + at);
    } else {
        memcpy((float *)j->kv->d_k + at, j->k + row, width * sizeof(float));
        memcpy((float *)j->kv->d_v + at, j->v + row, width * sizeof(float));
    }
}

static void cpu_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs,
                         const float *k, const float *v) {
    cpu_backend *c = (cpu_backend *)be;
    kv_job       job = {c, kv, runs, shape, layer, k, v};
    int32_t      n = 0;
    for (int32_t r = 0; r < n_runs; r++)
        n += runs[r].n_rows;
    each_row(c, kv_row, &job, n, shape->n_kv_heads * shape->head_dim);
}

/* ---- looking back ------------------------------------------------------------------------------------------------ */

static jpt_status cpu_similarity(jpt_backend *be, const float *x, int32_t n, int32_t D, const float *h, int32_t m, float *out, jpt_error *err) {
    return host_similarity((host_backend *)be, ((cpu_backend *)be)->pool, x, n, D, h, m, out, err);
}

static jpt_status cpu_contrast(jpt_backend *be, const jpt_contrast *how, float *logits, int32_t V, const int32_t *rows, int32_t n, float *base, int32_t n_base, int32_t stride,
                               const int32_t *base_rows, float *logp, jpt_error *err) {
    return host_contrast(((cpu_backend *)be)->pool, how, logits, V, rows, n, base, n_base, stride, base_rows, logp, err);
}

static const jpt_backend_ops cpu_ops = {
    .name = "cpu", .close = cpu_close, .describe = cpu_describe, .alloc = host_alloc, .free = host_free, .upload = host_upload,
    .download = host_download, .sync = host_sync, .weight_new = cpu_weight_new, .weight_free = cpu_weight_free, .embed = host_embed,
    .rmsnorm = cpu_rmsnorm, .matmul = cpu_matmul, .matmul_many = cpu_matmul_many, .rope = cpu_rope, .kv_write = cpu_kv_write, .attention = cpu_attention,
    .kv_copy_page = host_kv_copy_page, .swiglu = cpu_swiglu, .add = cpu_add, .gather = host_gather, .select = host_select,
    .topk = host_topk, .keep_rows = host_keep_rows, .similarity = cpu_similarity, .row_dots = host_row_dots, .contrast = cpu_contrast,
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
