/* Rotation, the cache, and attention over it: which kernels, over which rows. */
#include "cuda.h"
#include "prefill.h"
#include <stdlib.h>

static void bring_frequencies(jpt_backend *be, const float *inv_freq, int32_t half) {
    cuda_backend *c = cuda_of(be);
    if (c->inv_freq_host == inv_freq && c->half == half && c->in_pass) /* a model has one; tests have many */
        return;
    if (!c->inv_freq_dev)
        c->inv_freq_dev = cuda_alloc(be, 4096 * sizeof(float));
    JPT_ASSERT(c->inv_freq_dev && half <= 4096);
    cuda_upload(be, c->inv_freq_dev, inv_freq, (size_t)half * sizeof(float));
    c->inv_freq_host = inv_freq, c->half = half, c->turned = false;
}

void cuda_rope(jpt_backend *be, float *x, int32_t n, int32_t heads, int32_t E, int32_t rope_dim, jpt_rope_kind kind, const int32_t *pos, const float *inv_freq) {
    cuda_backend *c = cuda_of(be);
    int           half = rope_dim / 2, neox = kind == JPT_ROPE_NEOX;
    bring_frequencies(be, inv_freq, half);
    if (!c->in_pass || pos != c->pos)
        cuda_put_inputs(c, NULL, pos, n, NULL, 0, 1, NULL, 0, NULL, 0);
    int *p = cuda_input(c, c->at_pos);
    LAUNCH(c, rope, cuda_blocks((size_t)n * (size_t)heads * (size_t)half, 256), 1, 1, 256, 0, &x, &n, &heads, &E, &half, &neox, &p, &c->inv_freq_dev);
}

static dev_kv view(const jpt_kv_view *kv, const jpt_attn_shape *s) {
    return (dev_kv){kv->d_k, kv->d_v, kv->n_pages, kv->page_size, s->n_kv_heads * s->head_dim, kv->kv_dtype == JPT_F16};
}

/* Runs that were not announced by pass_begin: in tests. */
static int32_t bring_runs(cuda_backend *c, const jpt_kv_view *kv, const jpt_row_run *runs, int32_t n_runs) {
    int32_t n = 0;
    for (int32_t r = 0; r < n_runs; r++)
        n += runs[r].n_rows;
    if (c->in_pass && runs == c->runs)
        return n;
    int32_t *pos = malloc((size_t)(n ? n : 1) * sizeof *pos);
    JPT_ASSERT(pos);
    for (int32_t r = 0; r < n_runs; r++)
        for (int32_t i = 0; i < runs[r].n_rows; i++)
            pos[runs[r].first_row + i] = runs[r].first_pos + i;
    cuda_put_inputs(c, NULL, pos, n, runs, n_runs, kv->page_size, NULL, 0, NULL, 0);
    c->pos = NULL, c->runs = NULL;
    free(pos);
    return n;
}

void cuda_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *k,
                          const float *v) {
    cuda_backend *c = cuda_of(be);
    int32_t       n = bring_runs(c, kv, runs, n_runs);
    dev_kv        d = view(kv, shape);
    int          *pos = cuda_input(c, c->at_pos), *table = cuda_input(c, c->at_table), *tables = cuda_input(c, c->at_tables);
    LAUNCH(c, kv_write, n, 1, 1, 128, 0, &d, &layer, &pos, &table, &tables, &k, &v);
}

/* k, v, inv_freq: rotate and store the rows' own keys and values too; NULL: it has been done.  The result goes to y in the form `to`. */
typedef struct attn_io {
    const float *q, *k, *v;
    int          half, neox, to;
    dev_rows     y;
} attn_io;

bool cuda_attends_wide(jpt_dtype kv_dtype, int E) { return kv_dtype == JPT_F16 && (E == 64 || E == 128); }

/* The other kernels hold a kv head's queries and their scores of a chunk. */
static size_t plain_shared_bytes(const jpt_attn_shape *s) {
    size_t G = (size_t)(s->n_heads / s->n_kv_heads);
    return (G * ((size_t)s->head_dim + ATTN_CHUNK) + ATTN_CHUNK) * sizeof(float);
}

jpt_status cuda_suits(jpt_backend *be, const jpt_attn_shape *s, jpt_dtype kv_dtype, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    size_t        bytes = plain_shared_bytes(s);
    if (cuda_attends_wide(kv_dtype, s->head_dim) || bytes <= (size_t)c->shared_most)
        return JPT_OK;
    return JPT_FAIL(err, UNSUPPORTED, "%s: attention of %d heads of width %d that share a key-value head needs %zu bytes of shared memory a block, the card gives %d; use --device cpu", c->name,
                    s->n_heads / s->n_kv_heads, s->head_dim, bytes, c->shared_most);
}

/* Rows first .. + n of a pass, each by itself. */
static void attend_span(cuda_backend *c, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, int32_t first, int32_t n, const attn_io *io) {
    int32_t H = shape->n_heads, E = shape->head_dim, K = shape->n_kv_heads, G = H / K;
    size_t  at = (size_t)first * (size_t)H * (size_t)E, at_kv = (size_t)first * (size_t)K * (size_t)E, size = io->to == TO_F32 ? 4 : io->to == TO_Q8 ? 1 : 2;
    int     wide = cuda_attends_wide(kv->kv_dtype, E), n_parts = wide ? (G + 3) / 4 : 1;
    size_t  parts = (size_t)n * (size_t)H * (size_t)c->chunks, counters = (size_t)n * (size_t)K * (size_t)n_parts * sizeof(unsigned), before = c->done_cap;
    if (!cuda_room(c, &c->attn, &c->attn_cap, parts * (size_t)(E + 2) * sizeof(float)) || !cuda_room(c, &c->done, &c->done_cap, counters))
        return;
    if (c->done_cap != before)
        cuda_ok(c, c->cu.set(c->done, 0, c->done_cap, c->stream));
    float   *out = (void *)(uintptr_t)c->attn;
    dev_rows y = io->y;
    y.q = (char *)y.q + at * size;
    if (io->to == TO_Q8)
        y.s += first, y.t += first;
    attn_job j = {.kv = view(kv, shape), .q = io->q + at, .k = io->k ? io->k + at_kv : NULL, .v = io->k ? io->v + at_kv : NULL, .turns = (const float *)(uintptr_t)c->turns, .half = io->half, .neox = io->neox,
                  .fused = io->k != NULL, .pos = cuda_input(c, c->at_pos) + first, .row_table = cuda_input(c, c->at_table) + first, .tables = cuda_input(c, c->at_tables),
                  .tiles = cuda_input(c, c->at_tiles), .skip = cuda_input(c, c->at_skip) + first, .out = out, .most = out + parts * (size_t)E,
                  .sum = out + parts * (size_t)(E + 1), .done = (void *)(uintptr_t)c->done, .y = y, .to = io->to, .scale = shape->scale,
                  .layer = layer, .heads = H, .group = G, .E = E, .chunks = c->chunks, .parts = n_parts, .skipped = io->k ? c->skipped : 0};
    if (wide && j.fused && c->n_tiles > 0)
        cuda_launch(c, c->kernel[E == 64 ? KN_attend_shared_64 : KN_attend_shared_128], (unsigned)c->n_tiles, (unsigned)K, (unsigned)c->chunks, 128, cuda_shared_attention_bytes(E), (void *[]){&j});
    if (wide) {
        int gt = (G + n_parts - 1) / n_parts;
        cuda_launch(c, c->kernel[(E == 64 ? KN_attend_64_1 : KN_attend_128_1) + gt - 1], (unsigned)n, (unsigned)(K * n_parts), (unsigned)(c->chunks - j.skipped), 256, 0, (void *[]){&j});
        return;
    }
    cuda_launch(c, c->kernel[kv->kv_dtype == JPT_F16 ? KN_attend_f16 : KN_attend_f32], (unsigned)n, (unsigned)K, (unsigned)c->chunks, 128, plain_shared_bytes(shape), (void *[]){&j});
}

/* In spans of at most ATTN_ROWS rows, and (not where rows store their own keys, all at once) of 256 MB of partial results. */
static void attend_rows(cuda_backend *c, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, int32_t first, int32_t n, const attn_io *io) {
    size_t  a_row = (size_t)shape->n_heads * (size_t)c->chunks * (size_t)(shape->head_dim + 2) * sizeof(float), fit = ((size_t)256 << 20) / a_row;
    int32_t most = io->k || fit >= ATTN_ROWS ? ATTN_ROWS : fit > 0 ? (int32_t)fit : 1;
    for (int32_t m; n > 0; first += m, n -= m) {
        m = n < most ? n : most;
        attend_span(c, kv, layer, shape, first, m, io);
    }
}

static void attention_to(cuda_backend *c, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const attn_io *io) {
    int32_t   n = bring_runs(c, kv, runs, n_runs);
    flash_job j = {.kv = view(kv, shape), .q = io->q, .pos = cuda_input(c, c->at_pos), .row_table = cuda_input(c, c->at_table), .tables = cuda_input(c, c->at_tables), .y = io->y.q, .scale = shape->scale,
                   .layer = layer, .heads = shape->n_heads, .group = shape->n_heads / shape->n_kv_heads, .to = io->to};
    if (io->k || !cuda_flash(c, &j, shape->head_dim, n, runs, n_runs)) {
        attend_rows(c, kv, layer, shape, 0, n, io);
        return;
    }
    for (int32_t r = 0, m; r < n_runs; r += m) { /* the short ones, neighbours together */
        int32_t rows = 0;
        for (m = 0; r + m < n_runs && !cuda_run_is_long(&runs[r + m]) && runs[r + m].first_row == runs[r].first_row + rows; m++)
            rows += runs[r + m].n_rows;
        attend_rows(c, kv, layer, shape, runs[r].first_row, rows, io);
        m = m > 0 ? m : 1;
    }
}

void cuda_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *q,
                           float *y) {
    attention_to(cuda_of(be), kv, layer, shape, runs, n_runs, &(attn_io){.q = q, .y.q = y});
}

void cuda_kv_copy_page(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape, int32_t from, int32_t to) {
    cuda_backend *c = cuda_of(be);
    size_t        bytes = (size_t)kv->page_size * (size_t)shape->n_kv_heads * (size_t)shape->head_dim * (kv->kv_dtype == JPT_F16 ? 2 : 4);
    for (int32_t l = 0; l < n_layers && c->broken == CU_OK; l++) {
        cu_pointer layer = (cu_pointer)l * (cu_pointer)kv->n_pages * bytes, k = (cu_pointer)(uintptr_t)kv->d_k + layer, v = (cu_pointer)(uintptr_t)kv->d_v + layer;
        cuda_ok(c, c->cu.copy(k + (cu_pointer)to * bytes, k + (cu_pointer)from * bytes, bytes, c->stream));
        cuda_ok(c, c->cu.copy(v + (cu_pointer)to * bytes, v + (cu_pointer)from * bytes, bytes, c->stream));
    }
}

/* Places of the rows, and their angles unless the embedding has brought them (not in a model's first pass, nor in tests). */
static bool bring_turns(cuda_backend *c, const jpt_layer_job *l) {
    int n = l->n, half = l->rope_dim / 2;
    bring_frequencies(&c->base, l->inv_freq, half);
    bring_runs(c, l->kv, l->runs, l->n_runs);
    if (c->in_pass && c->turned)
        return true;
    if (!cuda_room(c, &c->turns, &c->turns_cap, (size_t)n * (size_t)half * 2 * sizeof(float)))
        return false;
    int *pos = cuda_input(c, c->at_pos);
    LAUNCH(c, turn_rows, cuda_blocks((size_t)n * (size_t)half, 256), 1, 1, 256, 0, &n, &pos, &c->inv_freq_dev, &half, &c->turns);
    c->turned = true;
    return true;
}

/* From projections to attention's result, through the cache. */
void cuda_attend_layer(cuda_backend *c, const jpt_layer_job *l, const dev_rows *y, int to) {
    int     E = l->shape->head_dim, H = l->shape->n_heads, KH = l->shape->n_kv_heads, half = l->rope_dim / 2, neox = l->rope == JPT_ROPE_NEOX;
    attn_io io = {.q = l->d_q, .half = half, .neox = neox, .to = to, .y = *y};
    if (!bring_turns(c, l))
        return;
    if (c->in_pass && c->apart && cuda_attends_wide(l->kv->kv_dtype, E)) {
        io.k = l->d_k, io.v = l->d_v;
    } else {
        dev_kv   kv = view(l->kv, l->shape);
        rope_job r = {l->d_q, l->d_k, l->d_v, (const float *)(uintptr_t)c->turns, cuda_input(c, c->at_pos), cuda_input(c, c->at_table), cuda_input(c, c->at_tables), l->layer, H, KH, E, half, neox};
        LAUNCH(c, rope_and_store, l->n, H + 2 * KH, 1, E <= 64 ? 32 : 64, 0, &kv, &r);
    }
    attention_to(c, l->kv, l->layer, l->shape, l->runs, l->n_runs, &io);
}

void cuda_attend_joined(cuda_backend *c, const jpt_layer_job *l, const float *qkv, void *y, int to) {
    if (!bring_turns(c, l))
        return;
    dev_kv     kv = view(l->kv, l->shape);
    joined_job j = {.r = {.q = l->d_q, .turns = (const float *)(uintptr_t)c->turns, .pos = cuda_input(c, c->at_pos), .row_table = cuda_input(c, c->at_table), .tables = cuda_input(c, c->at_tables), .layer = l->layer,
                          .heads = l->shape->n_heads, .kv_heads = l->shape->n_kv_heads, .E = l->shape->head_dim, .half = l->rope_dim / 2, .neox = l->rope == JPT_ROPE_NEOX},
                    .x = qkv, .q_bias = l->d_q_bias, .k_bias = l->d_k_bias, .v_bias = l->d_v_bias};
    LAUNCH(c, rope_joined, l->n, 1, 1, 256, 0, &kv, &j);
    attention_to(c, l->kv, l->layer, l->shape, l->runs, l->n_runs, &(attn_io){.q = l->d_q, .y.q = y, .to = to});
}
