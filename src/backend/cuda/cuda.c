/* The CUDA back-end: memory, weights and operations as kernel launches on one stream.
 *
 * Operations of a pass that comes again (decoding steps) are recorded once and replayed as a graph: what changes from step to
 * step (tokens, positions, page tables, rows wanted) lies in a fixed place on the card and is uploaded before.
 * The first error is kept; operations after it do nothing; selections, and `status`, report it. */
#include "cuda.h"
#include "prefill.h"
#include <stdlib.h>
#include <string.h>

static const char *const kernel_name[KN_COUNT] = {
#define KERNEL_NAME(name) #name,
    KERNELS(KERNEL_NAME)
};

_Thread_local cu_context cuda_current;

static cuda_backend *of(jpt_backend *be) { return cuda_of(be); }

bool cuda_ok(cuda_backend *c, cu_result r) {
    if (r != CU_OK && c->broken == CU_OK)
        c->broken = r;
    return r == CU_OK;
}

jpt_status cuda_check(cuda_backend *c, jpt_error *err) {
    return c->broken == CU_OK ? JPT_OK : JPT_FAIL(err, DEVICE, "%s: %s; what was finished is kept", c->name, cu_text(&c->cu, c->broken));
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

void cuda_launch(cuda_backend *c, cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned threads, size_t shared, void **args) {
    cu_launch_attribute a = {.id = CU_LAUNCH_OVERLAP, .value.overlap = 1};
    cu_launch_config    k = {gx, gy, gz, threads, 1, 1, (unsigned)shared, c->stream, &a, c->overlap ? 1u : 0u};
    if (c->broken == CU_OK && gx > 0)
        cuda_ok(c, c->cu.launch(&k, f, args, NULL));
}

static unsigned blocks(size_t n, unsigned threads) { return (unsigned)((n + threads - 1) / threads); }

bool cuda_room(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes) {
    if (bytes <= *cap)
        return true;
    if (*p) {
        cuda_ok(c, c->cu.stream_sync(c->stream));
        c->cu.memory_free(*p);
    }
    *p = 0;
    *cap = 0;
    bytes = (bytes + 4095) & ~(size_t)4095;
    if (!cuda_ok(c, c->cu.memory_alloc(p, bytes)))
        return false;
    *cap = bytes;
    for (int i = 0; i < c->n_graphs; i++) { /* they hold the old address */
        if (c->graph[i].exec)
            c->cu.graph_exec_destroy(c->graph[i].exec);
        c->graph[i].exec = NULL;
    }
    return true;
}

bool cuda_zeros(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes) {
    size_t before = *cap;
    return cuda_room(c, p, cap, bytes) && (*cap == before || cuda_ok(c, c->cu.set(*p, 0, *cap, c->stream)));
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

static void *cuda_alloc(jpt_backend *be, size_t bytes) {
    cuda_backend *c = of(be);
    cu_pointer    p = 0;
    if (c->cu.memory_alloc(&p, bytes ? bytes : 1) != CU_OK)
        return NULL;
    cuda_ok(c, c->cu.set(p, 0, bytes ? bytes : 1, c->stream));
    return (void *)(uintptr_t)p;
}

static void cuda_free(jpt_backend *be, void *d) {
    cuda_backend *c = of(be);
    if (!d)
        return;
    c->cu.stream_sync(c->stream);
    c->cu.memory_free((cu_pointer)(uintptr_t)d);
    for (int i = 0; i < c->n_graphs; i++) /* a session ends: its passes will not come again */
        if (c->graph[i].exec)
            c->cu.graph_exec_destroy(c->graph[i].exec);
    c->n_graphs = 0;
}

static void cuda_upload(jpt_backend *be, void *d, const void *host, size_t bytes) {
    cuda_backend *c = of(be);
    if (c->broken == CU_OK && bytes) {
        cuda_ok(c, c->cu.upload((cu_pointer)(uintptr_t)d, host, bytes, c->stream));
        cuda_ok(c, c->cu.stream_sync(c->stream)); /* the host's memory is the caller's again */
    }
}

void cuda_download(jpt_backend *be, void *host, const void *d, size_t bytes) {
    cuda_backend *c = of(be);
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.download(host, (cu_pointer)(uintptr_t)d, bytes, c->stream));
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.stream_sync(c->stream));
    if (c->broken != CU_OK)
        memset(host, 0xff, bytes); /* NaN: no reader takes it for a result */
}

static void cuda_sync(jpt_backend *be) { cuda_ok(of(be), of(be)->cu.stream_sync(of(be)->stream)); }

static void cuda_describe(const jpt_backend *be, char *out, size_t cap) {
    const cuda_backend *c = (const cuda_backend *)be;
    const char         *products = cuda_prefill_name(c);
    snprintf(out, cap, "cuda (%s%s%s)", c->name, products ? ", " : "", products ? products : "");
}

static const char *cuda_uuid(const jpt_backend *be) { return ((const cuda_backend *)be)->uuid; }

/* ---- weights ------------------------------------------------------------------------------------------------------- */

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
            LAUNCH(c, narrow_weight, blocks(groups, 256), 1, 1, 256, 0, &raw, &type, &fp8, &groups, &codes, &s);
        else
            LAUNCH(c, repack, blocks(groups, 256), 1, 1, 256, 0, &raw, &type, &groups, &codes, &s, &m);
    }
    size_t units = (size_t)((w->rows + 15) / 16) * (size_t)((w->cols + per - 1) / per);
    LAUNCH(c, to_tiles, blocks(units, 8), 1, 1, 256, 0, &codes, &s, &m, (void *)w);
    cuda_ok(c, c->cu.stream_sync(c->stream));
    if (planes)
        c->cu.memory_free(planes);
    return true;
}

static jpt_status cuda_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out, size_t *bytes_out, jpt_error *err) {
    cuda_backend *c = of(be);
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

static void cuda_weight_free(jpt_backend *be, jpt_weight *weight) {
    cuda_weight *w = (cuda_weight *)weight;
    if (w)
        of(be)->cu.memory_free(w->block);
    free(w);
}

/* ---- inputs of a pass ------------------------------------------------------------------------------------------------ */

static bool input_room(cuda_backend *c, size_t n) {
    size_t bytes = c->in_cap * sizeof(int32_t);
    if (n <= c->in_cap)
        return true;
    n = 2 * n + 4096;
    c->in_cap = 0; /* until all of it is there */
    if (!cuda_room(c, &c->in_dev, &bytes, n * sizeof(int32_t)))
        return false;
    for (int i = 0; i < SLOTS; i++) {
        if (c->in_host[i])
            c->cu.host_free(c->in_host[i]);
        c->in_host[i] = NULL;
        void *p = NULL;
        if (!cuda_ok(c, c->cu.host_alloc(&p, bytes)))
            return false;
        c->in_host[i] = p;
    }
    c->in_cap = n;
    return true;
}

/* Whole chunks of positions, before its own, whose pages a run of one row shares with the next one. */
static int32_t common_chunks(const jpt_row_run *a, const jpt_row_run *b, int32_t page_size) {
    int32_t least = a->first_pos < b->first_pos ? a->first_pos : b->first_pos, chunks = 0;
    while ((chunks + 1) * ATTN_CHUNK <= least) {
        int32_t first = chunks * ATTN_CHUNK / page_size, end = ((chunks + 1) * ATTN_CHUNK - 1) / page_size + 1;
        if (memcmp(a->table + first, b->table + first, (size_t)(end - first) * sizeof *a->table) != 0)
            break;
        chunks++;
    }
    return chunks;
}

/* Neighbours that share their past, in tiles for attend_shared: skip[row] chunks are done there.  Which rows lie together depends on what
 * forked from what alone, not on who else is in the batch. */
static int32_t share(const jpt_row_run *runs, int32_t n_runs, int32_t page_size, int32_t *skip, int32_t *tiles) {
    int32_t n_tiles = 0;
    for (int32_t r = 0, end; r < n_runs; r = end) {
        int32_t shared = INT32_MAX, next;
        for (end = r + 1; end < n_runs && (next = common_chunks(&runs[end - 1], &runs[end], page_size)) > 0; end++)
            shared = next < shared ? next : shared;
        for (int32_t i = r; i < end && end - r > 1; i += SHARED_ROWS) {
            int32_t rows = end - i < SHARED_ROWS ? end - i : SHARED_ROWS;
            tiles[2 * n_tiles] = runs[i].first_row, tiles[2 * n_tiles++ + 1] = rows + 256 * shared;
            for (int32_t k = 0; k < rows; k++)
                skip[runs[i].first_row + k] = shared;
        }
    }
    return n_tiles;
}

/* Tokens, positions, page tables and wanted rows to their places on the card: fixed offsets for a number of rows, tables last. */
static void put_inputs(cuda_backend *c, const int32_t *tokens, const int32_t *pos, int32_t n, const jpt_row_run *runs, int32_t n_runs, int32_t page_size,
                       const int32_t *rows0, int32_t n0, const int32_t *rows1, int32_t n1) {
    size_t N = (size_t)n, tables = 0;
    int32_t longest = 1;
    for (int32_t r = 0; r < n_runs; r++) {
        int32_t positions = runs[r].first_pos + runs[r].n_rows;
        tables += (size_t)((positions + page_size - 1) / page_size);
        longest = positions > longest ? positions : longest;
    }
    c->at_tok = 0, c->at_pos = N, c->at_table = 2 * N, c->at_rows[0] = 3 * N, c->at_rows[1] = 4 * N, c->at_skip = 5 * N, c->at_tiles = 6 * N, c->at_tables = 8 * N;
    if (!input_room(c, 8 * N + tables))
        return;
    c->slot = (c->slot + 1) % SLOTS;
    if (c->slot == 0)
        cuda_ok(c, c->cu.stream_sync(c->stream));
    int32_t *h = c->in_host[c->slot];
    memset(h, 0, 8 * N * sizeof *h);
    if (tokens)
        memcpy(h + c->at_tok, tokens, N * sizeof *h);
    memcpy(h + c->at_pos, pos, N * sizeof *h);
    if (n0)
        memcpy(h + c->at_rows[0], rows0, (size_t)n0 * sizeof *h);
    if (n1)
        memcpy(h + c->at_rows[1], rows1, (size_t)n1 * sizeof *h);
    size_t at = 0;
    for (int32_t r = 0; r < n_runs; r++) {
        size_t len = (size_t)((runs[r].first_pos + runs[r].n_rows + page_size - 1) / page_size);
        memcpy(h + c->at_tables + at, runs[r].table, len * sizeof *h);
        for (int32_t i = 0; i < runs[r].n_rows; i++)
            h[c->at_table + (size_t)(runs[r].first_row + i)] = (int32_t)at;
        at += len;
    }
    c->n_tiles = c->apart ? share(runs, n_runs, page_size, h + c->at_skip, h + c->at_tiles) : 0;
    cuda_ok(c, c->cu.upload(c->in_dev, h, (8 * N + tables) * sizeof *h, c->stream));
    c->tokens = tokens, c->pos = pos, c->runs = runs, c->rows[0] = rows0, c->rows[1] = rows1, c->n = n;
    c->chunks = (longest + ATTN_CHUNK - 1) / ATTN_CHUNK;
    if (n <= GRAPH_ROWS) /* few sizes, so that recorded passes fit for a while */
        c->chunks = (c->chunks + 1) & ~1;
    c->skipped = n > 0 ? INT32_MAX : 0;
    for (int32_t i = 0; i < n; i++)
        c->skipped = h[c->at_skip + (size_t)i] < c->skipped ? h[c->at_skip + (size_t)i] : c->skipped;
}

static int *input(cuda_backend *c, size_t at) { return (int *)(uintptr_t)(c->in_dev + at * sizeof(int32_t)); }

/* ---- operations ---------------------------------------------------------------------------------------------------------- */

static void cuda_embed(jpt_backend *be, const jpt_weight *weight, const int32_t *tokens, int32_t n, float *y) {
    cuda_backend *c = of(be);
    dev_weight    w = ((const cuda_weight *)weight)->w;
    if (!c->in_pass || tokens != c->tokens) { /* on its own: in tests */
        int32_t     *zero = calloc((size_t)n, sizeof *zero);
        JPT_ASSERT(zero);
        put_inputs(c, tokens, zero, n, NULL, 0, 1, NULL, 0, NULL, 0);
        c->pos = NULL;
        free(zero);
    }
    int *tok = input(c, c->at_tok);
    c->ready.x = NULL;
    bool turns = c->in_pass && c->inv_freq_host && cuda_room(c, &c->turns, &c->turns_cap, (size_t)n * (size_t)c->half * 2 * sizeof(float)); /* the model's, from the last pass */
    int       *pos = input(c, c->at_pos), half = turns ? c->half : 0;
    cu_pointer to = turns ? c->turns : 0;
    c->turned = turns;
    LAUNCH(c, embed, n, blocks((size_t)w.cols, 256), 1, 256, 0, &w, &tok, &y, &pos, &c->inv_freq_dev, &half, &to);
}

static void norm_to(cuda_backend *c, const float *x, const float *gain, int32_t n, int32_t D, float eps, void *y, int to) {
    LAUNCH(c, rmsnorm, n, 1, 1, 256, 0, &x, &gain, &D, &eps, &y, &to);
}
static void cuda_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y) { norm_to(of(be), x, gain, n, D, eps, y, 0); }

static bool wants_q8(const dev_weight *w) { return w->kind >= K_T8; }

/* Activations for products with a matrix of this kind. */
static int form_of(int kind) { return kind >= K_T8 ? TO_Q8 : kind == K_TB16 ? TO_BF16 : TO_F16; }

static size_t scales_of(int n, int cols) {
    size_t pad = n <= 2 ? 2 : (size_t)((n + 7) & ~7);
    return ((size_t)(cols / 32) * pad + SCALES_SLACK + 3) & ~(size_t)3; /* lanes read the scales of eight rows, of which the last may not be there */
}

/* Room for n rows in a buffer, and where its parts lie; `squares`: their norm is to be taken later. */
static bool rows_room(cuda_backend *c, rows_buffer *b, int n, int cols, int to, bool squares, dev_rows *out) {
    size_t codes = ((size_t)n * (size_t)cols * (to == TO_Q8 ? 1 : 2) + 15) & ~(size_t)15, scales = to == TO_Q8 ? scales_of(n, cols) : 0, sums = squares ? (size_t)n * (size_t)(cols / 16) : 0;
    if (!cuda_room(c, &b->p, &b->cap, codes + (2 * scales + sums) * sizeof(float)))
        return false;
    float *s = (void *)(uintptr_t)(b->p + codes);
    *out = (dev_rows){.q = (void *)(uintptr_t)b->p, .s = s, .t = s + scales, .squares = squares ? s + 2 * scales : NULL, .pad = n <= 2 ? 2 : (n + 7) & ~7};
    return true;
}

/* Rows of x (those numbered on the card, NULL: the first n) as products want them; with a gain, for a norm that is taken behind them. */
static void bring(cuda_backend *c, const float *x, const int *rows, const float *gain, int n, int cols, int to, const dev_rows *out) {
    LAUNCH(c, bring_rows, blocks((size_t)n * (size_t)cols / 32, 8), 1, 1, 256, 0, &x, &rows, &gain, &n, &cols, &to, (void *)out);
}

/* Shared memory that each block of a product takes to hold its single row itself; 0: it does not. */
static size_t staged_bytes(const mm_job *j) {
    const dev_weight *w = &j->part[0].w;
    size_t D = (size_t)w->cols, gain = !j->in.q && j->gain && D <= STAGED_GAIN ? D * sizeof(float) : 0, bytes = wants_q8(w) ? D + 16 + 2 * scales_of(1, w->cols) * sizeof(float) : 2 * D + gain;
    return j->n == 1 && bytes <= 38 << 10 ? bytes : 0;
}

/* Matrices in tiles. */
static void tiled_job(cuda_backend *c, mm_job *j, bool pair) {
    int  n_blocks = 0, tiles = j->n <= 8 ? 0 : j->n <= 16 ? 1 : j->n <= 32 ? 2 : 3, kind = j->part[0].w.kind, to = form_of(kind), per = 16 * (to == TO_Q8 || tiles > 0 ? 2 : 1);
    bool staged = staged_bytes(j) > 0;
    for (int i = 0; i < (pair ? 1 : j->n_parts); i++) {
        j->part[i].first_block = n_blocks;
        n_blocks += (j->part[i].w.rows + per - 1) / per;
    }
    if (!j->in.q && !(staged && to != TO_Q8)) {
        if (!rows_room(c, &c->brought, j->n, j->part[0].w.cols, to, false, &j->in))
            return;
        if (j->gain)
            norm_to(c, j->x, j->gain, j->n, j->part[0].w.cols, j->eps, j->in.q, to);
        else
            bring(c, j->x, NULL, NULL, j->n, j->part[0].w.cols, to, &j->in);
    }
    cuda_launch(c, c->tiled[kind - K_PLAIN][staged ? 4 : tiles][pair], (unsigned)n_blocks, (unsigned)((j->n + (8 << tiles) - 1) / (8 << tiles)), 1, 256, staged_bytes(j), (void *[]){j});
}

/* Parts side by side, or (pair) gate and up row by row with SwiGLU. */
static void matmul_job(cuda_backend *c, mm_job *j, bool pair) {
    int n_blocks = 0, most = 0;
    if (j->part[0].w.kind >= K_PLAIN) {
        tiled_job(c, j, pair);
        return;
    }
    for (int i = 0; i < j->n_parts; i++)
        most = j->part[i].w.rows > most ? j->part[i].w.rows : most;
    int form = pair ? 2 : most >= 16384 ? 1 : 0, per_block = form == 1 ? 16 : 8, nx = j->n == 1 ? 0 : j->n == 2 ? 1 : j->n <= 4 ? 2 : 3;
    for (int i = 0; i < (pair ? 1 : j->n_parts); i++) {
        j->part[i].first_block = n_blocks;
        n_blocks += (j->part[i].w.rows + per_block - 1) / per_block;
    }
    cuda_launch(c, c->matmul[j->part[0].w.kind][nx][form], (unsigned)n_blocks, (unsigned)((j->n + (1 << nx) - 1) >> nx), 1, 256, 0, (void *[]){j});
}

static void cuda_matmul(jpt_backend *be, const jpt_weight *weight, const float *x, int32_t n, const float *bias, float *y) {
    mm_job j = {.part = {{((const cuda_weight *)weight)->w, bias, y, 0}}, .x = x, .n_parts = 1, .n = n};
    if (n > 0 && !cuda_prefill_matmul(of(be), &j.part[0].w, x, n, bias, y))
        matmul_job(of(be), &j, false);
}

static void bring_frequencies(jpt_backend *be, const float *inv_freq, int32_t half) {
    cuda_backend *c = of(be);
    if (c->inv_freq_host == inv_freq && c->half == half && c->in_pass) /* a model has one; tests have many */
        return;
    if (!c->inv_freq_dev)
        c->inv_freq_dev = cuda_alloc(be, 4096 * sizeof(float));
    JPT_ASSERT(c->inv_freq_dev && half <= 4096);
    cuda_upload(be, c->inv_freq_dev, inv_freq, (size_t)half * sizeof(float));
    c->inv_freq_host = inv_freq, c->half = half, c->turned = false;
}

static void cuda_rope(jpt_backend *be, float *x, int32_t n, int32_t heads, int32_t E, int32_t rope_dim, jpt_rope_kind kind, const int32_t *pos, const float *inv_freq) {
    cuda_backend *c = of(be);
    int           half = rope_dim / 2, neox = kind == JPT_ROPE_NEOX;
    bring_frequencies(be, inv_freq, half);
    if (!c->in_pass || pos != c->pos)
        put_inputs(c, NULL, pos, n, NULL, 0, 1, NULL, 0, NULL, 0);
    int *p = input(c, c->at_pos);
    LAUNCH(c, rope, blocks((size_t)n * (size_t)heads * (size_t)half, 256), 1, 1, 256, 0, &x, &n, &heads, &E, &half, &neox, &p, &c->inv_freq_dev);
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
    put_inputs(c, NULL, pos, n, runs, n_runs, kv->page_size, NULL, 0, NULL, 0);
    c->pos = NULL, c->runs = NULL;
    free(pos);
    return n;
}

static void cuda_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *k,
                          const float *v) {
    cuda_backend *c = of(be);
    int32_t       n = bring_runs(c, kv, runs, n_runs);
    dev_kv        d = view(kv, shape);
    int          *pos = input(c, c->at_pos), *table = input(c, c->at_table), *tables = input(c, c->at_tables);
    LAUNCH(c, kv_write, n, 1, 1, 128, 0, &d, &layer, &pos, &table, &tables, &k, &v);
}

/* k, v, inv_freq: rotate and store the rows' own keys and values too; NULL: it has been done.  The result goes to y in the form `to`. */
typedef struct attn_io {
    const float *q, *k, *v;
    int          half, neox, to;
    dev_rows     y;
} attn_io;

/* Whether attention has a kernel for heads of this width, which rotates, stores and writes in any form. */
static bool attends_wide(const jpt_kv_view *kv, int E) { return kv->kv_dtype == JPT_F16 && (E == 64 || E == 128); }

/* Keys and values of a chunk, and the queries of four warps. */
static size_t shared_attention_bytes(int E) { return (size_t)(2 * ATTN_CHUNK + 4 * SHARED_ROWS) * (size_t)(E + 8) * 2; }

/* Rows first .. + n of a pass, each by itself. */
static void attend_span(cuda_backend *c, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, int32_t first, int32_t n, const attn_io *io) {
    int32_t H = shape->n_heads, E = shape->head_dim, K = shape->n_kv_heads, G = H / K;
    size_t  at = (size_t)first * (size_t)H * (size_t)E, at_kv = (size_t)first * (size_t)K * (size_t)E, size = io->to == TO_F32 ? 4 : io->to == TO_Q8 ? 1 : 2;
    int     wide = attends_wide(kv, E), n_parts = wide ? (G + 3) / 4 : 1;
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
                  .fused = io->k != NULL, .pos = input(c, c->at_pos) + first, .row_table = input(c, c->at_table) + first, .tables = input(c, c->at_tables),
                  .tiles = input(c, c->at_tiles), .skip = input(c, c->at_skip) + first, .out = out, .most = out + parts * (size_t)E,
                  .sum = out + parts * (size_t)(E + 1), .done = (void *)(uintptr_t)c->done, .y = y, .to = io->to, .scale = shape->scale,
                  .layer = layer, .heads = H, .group = G, .E = E, .chunks = c->chunks, .parts = n_parts, .skipped = io->k ? c->skipped : 0};
    if (wide && j.fused && c->n_tiles > 0)
        cuda_launch(c, c->kernel[E == 64 ? KN_attend_shared_64 : KN_attend_shared_128], (unsigned)c->n_tiles, (unsigned)K, (unsigned)c->chunks, 128, shared_attention_bytes(E), (void *[]){&j});
    if (wide) {
        int gt = (G + n_parts - 1) / n_parts;
        cuda_launch(c, c->kernel[(E == 64 ? KN_attend_64_1 : KN_attend_128_1) + gt - 1], (unsigned)n, (unsigned)(K * n_parts), (unsigned)(c->chunks - j.skipped), 256, 0, (void *[]){&j});
        return;
    }
    size_t shared = ((size_t)G * (size_t)(E + ATTN_CHUNK) + ATTN_CHUNK) * sizeof(float);
    cuda_launch(c, c->kernel[kv->kv_dtype == JPT_F16 ? KN_attend_f16 : KN_attend_f32], (unsigned)n, (unsigned)K, (unsigned)c->chunks, 128, shared, (void *[]){&j});
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
    flash_job j = {.kv = view(kv, shape), .q = io->q, .pos = input(c, c->at_pos), .row_table = input(c, c->at_table), .tables = input(c, c->at_tables), .y = io->y.q, .scale = shape->scale,
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

static void cuda_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *q,
                           float *y) {
    attention_to(of(be), kv, layer, shape, runs, n_runs, &(attn_io){.q = q, .y.q = y});
}

static void cuda_kv_copy_page(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape, int32_t from, int32_t to) {
    cuda_backend *c = of(be);
    size_t        bytes = (size_t)kv->page_size * (size_t)shape->n_kv_heads * (size_t)shape->head_dim * (kv->kv_dtype == JPT_F16 ? 2 : 4);
    for (int32_t l = 0; l < n_layers && c->broken == CU_OK; l++) {
        cu_pointer layer = (cu_pointer)l * (cu_pointer)kv->n_pages * bytes, k = (cu_pointer)(uintptr_t)kv->d_k + layer, v = (cu_pointer)(uintptr_t)kv->d_v + layer;
        cuda_ok(c, c->cu.copy(k + (cu_pointer)to * bytes, k + (cu_pointer)from * bytes, bytes, c->stream));
        cuda_ok(c, c->cu.copy(v + (cu_pointer)to * bytes, v + (cu_pointer)from * bytes, bytes, c->stream));
    }
}

static void cuda_swiglu(jpt_backend *be, const float *gate, const float *up, size_t n, float *y) {
    LAUNCH(of(be), swiglu, blocks(n, 256), 1, 1, 256, 0, &gate, &up, &n, &y);
}

static void cuda_add(jpt_backend *be, float *x, const float *y, size_t n) { LAUNCH(of(be), add, blocks(n, 256), 1, 1, 256, 0, &x, &y, &n); }

static void cuda_gather(jpt_backend *be, const float *x, const int32_t *rows, int32_t n, int32_t D, float *y) {
    cuda_backend *c = of(be);
    int           which = c->in_pass && rows == c->rows[0] ? 0 : c->in_pass && rows == c->rows[1] ? 1 : -1;
    if (which < 0) {
        int32_t *zero = calloc((size_t)(n ? n : 1), sizeof *zero);
        JPT_ASSERT(zero);
        put_inputs(c, NULL, zero, n, NULL, 0, 1, rows, n, NULL, 0);
        c->pos = NULL;
        free(zero);
        which = 0;
    }
    int *r = input(c, c->at_rows[which]);
    LAUNCH(c, gather, n, 1, 1, 256, 0, &x, &r, &D, &y);
}

/* ---- fused: a layer in five to nine launches --------------------------------------------------------------------------------- */

static const dev_weight *dev(const jpt_weight *w) { return &((const cuda_weight *)w)->w; }
static bool alike(const dev_weight *a, const dev_weight *b) { return a->kind == b->kind; }

/* y[i] = x w[i]^T (+ bias[i]), x as `in` has it: one launch where the matrices lie alike. */
static void project(cuda_backend *c, const mm_job *in, const jpt_weight *const *w, const float *const *bias, float *const *y, int n_w) {
    mm_job j = *in;
    for (int i = 0; i < n_w; i++) {
        if (j.n_parts && !alike(dev(w[i]), &j.part[0].w)) {
            matmul_job(c, &j, false);
            j = *in;
        }
        j.part[j.n_parts++] = (mm_part){*dev(w[i]), bias ? bias[i] : NULL, y[i], 0};
    }
    matmul_job(c, &j, false);
}

/* The form that all seven matrices want their rows in, -1: they differ, or lie plainly. */
static int layer_form(const jpt_layer_job *l) {
    const jpt_weight *w[] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        if (dev(w[i])->kind < K_PLAIN || form_of(dev(w[i])->kind) != form_of(dev(l->q)->kind))
            return -1;
    return alike(dev(l->gate), dev(l->up)) ? form_of(dev(l->q)->kind) : -1;
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
    int *pos = input(c, c->at_pos);
    LAUNCH(c, turn_rows, blocks((size_t)n * (size_t)half, 256), 1, 1, 256, 0, &n, &pos, &c->inv_freq_dev, &half, &c->turns);
    c->turned = true;
    return true;
}

/* From projections to attention's result, through the cache. */
static void attend_layer(cuda_backend *c, const jpt_layer_job *l, const attn_io *result) {
    int     E = l->shape->head_dim, H = l->shape->n_heads, KH = l->shape->n_kv_heads, half = l->rope_dim / 2, neox = l->rope == JPT_ROPE_NEOX;
    attn_io io = *result;
    io.q = l->d_q, io.half = half, io.neox = neox;
    if (!bring_turns(c, l))
        return;
    if (c->in_pass && c->apart && attends_wide(l->kv, E)) {
        io.k = l->d_k, io.v = l->d_v;
    } else {
        dev_kv   kv = view(l->kv, l->shape);
        rope_job r = {l->d_q, l->d_k, l->d_v, (const float *)(uintptr_t)c->turns, input(c, c->at_pos), input(c, c->at_table), input(c, c->at_tables), l->layer, H, KH, E, half, neox};
        LAUNCH(c, rope_and_store, l->n, H + 2 * KH, 1, E <= 64 ? 32 : 64, 0, &kv, &r);
    }
    attention_to(c, l->kv, l->layer, l->shape, l->runs, l->n_runs, &io);
}

void cuda_attend_layer(cuda_backend *c, const jpt_layer_job *l, void *y, int to) { attend_layer(c, l, &(attn_io){.y.q = y, .to = to}); }

void cuda_attend_joined(cuda_backend *c, const jpt_layer_job *l, const float *qkv, void *y, int to) {
    if (!bring_turns(c, l))
        return;
    dev_kv     kv = view(l->kv, l->shape);
    joined_job j = {.r = {.q = l->d_q, .turns = (const float *)(uintptr_t)c->turns, .pos = input(c, c->at_pos), .row_table = input(c, c->at_table), .tables = input(c, c->at_tables), .layer = l->layer,
                          .heads = l->shape->n_heads, .kv_heads = l->shape->n_kv_heads, .E = l->shape->head_dim, .half = l->rope_dim / 2, .neox = l->rope == JPT_ROPE_NEOX},
                    .x = qkv, .q_bias = l->d_q_bias, .k_bias = l->d_k_bias, .v_bias = l->d_v_bias};
    LAUNCH(c, rope_joined, l->n, 1, 1, 256, 0, &kv, &j);
    attention_to(c, l->kv, l->layer, l->shape, l->runs, l->n_runs, &(attn_io){.q = l->d_q, .y.q = y, .to = to});
}

/* c->normed holds the rows of d_x with this gain. */
static bool is_ready(const cuda_backend *c, const float *d_x, const float *gain, int n, int to) {
    return c->ready.x == d_x && c->ready.gain == gain && c->ready.n == n && c->ready.to == to;
}

/* Five launches: what stands between two products is done at the end of the first.  Norms are taken behind products, but for float16,
 * whose range the rows before the norm might leave. */
static void layer_tiled(cuda_backend *c, const jpt_layer_job *l, int to) {
    int      n = l->n, heads = l->shape->n_heads * l->shape->head_dim;
    bool     later = to != TO_F16, wide = attends_wide(l->kv, l->shape->head_dim);
    dev_rows normed = {0}, attn, act;
    if ((later && !rows_room(c, &c->normed, n, l->D, to, true, &normed)) || !rows_room(c, &c->acts, n, heads > l->F ? heads : l->F, to, false, &act) ||
        !rows_room(c, &c->acts, n, heads, to, false, &attn) || !rows_room(c, &c->acts, n, l->F, to, false, &act))
        return;
    if (later && !is_ready(c, l->d_x, l->d_attn_norm, n, to))
        bring(c, l->d_x, NULL, l->d_attn_norm, n, l->D, to, &normed);
    c->ready.x = NULL;
    mm_job q = {.in = normed, .x = l->d_x, .gain = l->d_attn_norm, .eps = l->eps, .n = n};
    project(c, &q, (const jpt_weight *const[]){l->q, l->k, l->v}, (const float *const[]){l->d_q_bias, l->d_k_bias, l->d_v_bias}, (float *const[]){l->d_q, l->d_k, l->d_v}, 3);
    attend_layer(c, l, &(attn_io){.y = wide ? attn : (dev_rows){.q = l->d_attn}, .to = wide ? to : TO_F32});
    mm_job o = {.part = {{*dev(l->o), NULL, l->d_x, 0}}, .in = wide ? attn : (dev_rows){0}, .x = l->d_attn, .out = normed, .out_gain = l->d_ffn_norm, .n_parts = 1, .n = n, .accumulate = 1};
    tiled_job(c, &o, false);
    mm_job g = {.part = {{*dev(l->gate), NULL, NULL, 0}, {*dev(l->up), NULL, NULL, 0}}, .in = normed, .x = l->d_x, .gain = l->d_ffn_norm, .eps = l->eps, .out = act, .n_parts = 2, .n = n};
    tiled_job(c, &g, true);
    mm_job d = {.part = {{*dev(l->down), NULL, l->d_x, 0}}, .in = act, .n_parts = 1, .n = n, .accumulate = 1};
    if (later && l->d_next_norm) {
        d.out = normed, d.out_gain = l->d_next_norm;
        c->ready.x = l->d_x, c->ready.gain = l->d_next_norm, c->ready.n = n, c->ready.to = to;
    }
    tiled_job(c, &d, false);
}

static void cuda_layer(jpt_backend *be, const jpt_layer_job *l) {
    cuda_backend *c = of(be);
    int           to = layer_form(l);
    if (cuda_prefill_layer(c, l))
        return;
    if (to >= 0) {
        layer_tiled(c, l, to);
        return;
    }
    c->ready.x = NULL;
    mm_job in = {.x = l->d_norm, .n = l->n};
    cuda_rmsnorm(be, l->d_x, l->d_attn_norm, l->n, l->D, l->eps, l->d_norm);
    project(c, &in, (const jpt_weight *const[]){l->q, l->k, l->v}, (const float *const[]){l->d_q_bias, l->d_k_bias, l->d_v_bias}, (float *const[]){l->d_q, l->d_k, l->d_v}, 3);
    attend_layer(c, l, &(attn_io){.y.q = l->d_attn});
    mm_job o = {.part = {{*dev(l->o), NULL, l->d_x, 0}}, .x = l->d_attn, .n_parts = 1, .n = l->n, .accumulate = 1};
    matmul_job(c, &o, false);
    cuda_rmsnorm(be, l->d_x, l->d_ffn_norm, l->n, l->D, l->eps, l->d_norm);
    if (alike(dev(l->gate), dev(l->up))) {
        mm_job g = {.part = {{*dev(l->gate), NULL, l->d_gate, 0}, {*dev(l->up), NULL, l->d_up, 0}}, .x = l->d_norm, .n_parts = 2, .n = l->n};
        matmul_job(c, &g, true);
    } else {
        project(c, &in, (const jpt_weight *const[]){l->gate, l->up}, NULL, (float *const[]){l->d_gate, l->d_up}, 2);
        cuda_swiglu(be, l->d_gate, l->d_up, (size_t)l->n * (size_t)l->F, l->d_gate);
    }
    mm_job d = {.part = {{*dev(l->down), NULL, l->d_x, 0}}, .x = l->d_gate, .n_parts = 1, .n = l->n, .accumulate = 1};
    matmul_job(c, &d, false);
}

static void cuda_logits(jpt_backend *be, const jpt_weight *weight, const float *d_x, int32_t n_x, const int32_t *rows, int32_t n, const float *gain, float eps, float *d_gather, float *d_norm, float *d_y) {
    cuda_backend     *c = of(be);
    const dev_weight *w = dev(weight);
    int               to = form_of(w->kind);
    mm_job            j = {.part = {{*w, NULL, d_y, 0}}, .eps = eps, .n_parts = 1, .n = n};
    if (w->kind < K_PLAIN || to == TO_F16 || cuda_prefill_wants(c, n) || !c->in_pass || rows != c->rows[0]) {
        cuda_gather(be, d_x, rows, n, w->cols, d_gather);
        cuda_rmsnorm(be, d_gather, gain, n, w->cols, eps, d_norm);
        cuda_matmul(be, weight, d_norm, n, NULL, d_y);
        return;
    }
    bool ready = n == n_x && is_ready(c, d_x, gain, n, to); /* all rows: they are in order */
    if (!rows_room(c, ready ? &c->normed : &c->brought, n, w->cols, to, true, &j.in))
        return;
    if (!ready)
        bring(c, d_x, input(c, c->at_rows[0]), gain, n, w->cols, to, &j.in);
    tiled_job(c, &j, false);
}

/* ---- passes ---------------------------------------------------------------------------------------------------------------- */

static recorded *find_graph(cuda_backend *c, const graph_key *key) {
    for (int i = 0; i < c->n_graphs; i++)
        if (memcmp(&c->graph[i].key, key, sizeof *key) == 0)
            return &c->graph[i];
    return NULL;
}

static bool cuda_pass_begin(jpt_backend *be, const jpt_pass_inputs *in) {
    cuda_backend *c = of(be);
    c->in_pass = true;
    c->ready.x = NULL;
    c->turned = false;
    c->apart = in->shape.apart && in->shape.n <= ATTN_ROWS; /* one span of rows, so that tiles of shared pasts fit it */
    put_inputs(c, in->tokens, in->pos, in->shape.n, in->runs, in->n_runs, in->page_size, in->logits_rows, in->shape.n_logits, in->hidden_rows, in->shape.n_hidden);
    c->recording = false;
    if (in->shape.n > GRAPH_ROWS || c->broken != CU_OK)
        return false;
    graph_key key;
    memset(&key, 0, sizeof key);
    key.shape = in->shape;
    key.chunks = c->chunks;
    key.tiles = c->n_tiles, key.skipped = c->skipped;
    recorded *g = find_graph(c, &key);
    if (g && g->exec) {
        cuda_ok(c, c->cu.graph_launch(g->exec, c->stream));
        c->in_pass = c->apart = false;
        return true;
    }
    if (!g) { /* the first time it runs plainly, and scratch grows */
        if (c->n_graphs == GRAPHS) {
            for (int i = 0; i < GRAPHS; i++)
                if (c->graph[i].exec)
                    c->cu.graph_exec_destroy(c->graph[i].exec);
            c->n_graphs = 0;
        }
        c->graph[c->n_graphs].exec = NULL;
        c->graph[c->n_graphs++].key = key;
        return false;
    }
    c->recording = cuda_ok(c, c->cu.capture_begin(c->stream, CU_CAPTURE_RELAXED));
    return false;
}

static void cuda_pass_end(jpt_backend *be, const jpt_pass_inputs *in) {
    cuda_backend *c = of(be);
    cu_graph      graph = NULL;
    c->in_pass = c->apart = false;
    if (!c->recording)
        return;
    c->recording = false;
    graph_key key;
    memset(&key, 0, sizeof key);
    key.shape = in->shape;
    key.chunks = c->chunks;
    key.tiles = c->n_tiles, key.skipped = c->skipped;
    recorded *g = find_graph(c, &key);
    if (cuda_ok(c, c->cu.capture_end(c->stream, &graph)) && g && cuda_ok(c, c->cu.graph_instantiate(&g->exec, graph, 0)))
        cuda_ok(c, c->cu.graph_launch(g->exec, c->stream));
    if (graph)
        c->cu.graph_destroy(graph);
}

/* ---- open ------------------------------------------------------------------------------------------------------------------------ */

static void cuda_close(jpt_backend *be) {
    cuda_backend *c = of(be);
    if (c->context) {
        if (c->stream)
            c->cu.stream_sync(c->stream);
        cuda_prefill_close(c);
        for (int i = 0; i < c->n_graphs; i++)
            if (c->graph[i].exec)
                c->cu.graph_exec_destroy(c->graph[i].exec);
        cu_pointer d[] = {c->in_dev, c->normed.p, c->acts.p, c->brought.p, c->turns, c->attn, c->done, c->work, c->pick, c->arg, c->arg_done, c->look, c->look_done, (cu_pointer)(uintptr_t)c->inv_freq_dev};
        for (size_t i = 0; i < sizeof d / sizeof *d; i++)
            if (d[i])
                c->cu.memory_free(d[i]);
        for (int i = 0; i < SLOTS; i++)
            if (c->in_host[i])
                c->cu.host_free(c->in_host[i]);
        if (c->host_row)
            c->cu.host_free(c->host_row);
        if (c->pick_host)
            c->cu.host_free(c->pick_host);
        for (int i = 0; i < CUDA_MODULES; i++)
            if (c->module[i])
                c->cu.module_unload(c->module[i]);
        cuda_marks_fini(c);
        if (c->stream)
            c->cu.stream_destroy(c->stream);
        c->cu.context_release(c->device);
        cuda_current = NULL;
    }
    host_fini(&c->host);
    cu_driver_close(&c->cu);
    free(c);
}

static jpt_status cuda_status(jpt_backend *be, jpt_error *err) { return cuda_check(of(be), err); }

static const jpt_backend_ops cuda_ops = {
    .name = "cuda", .close = cuda_close, .describe = cuda_describe, .gpu_uuid = cuda_uuid, .alloc = cuda_alloc, .free = cuda_free, .upload = cuda_upload,
    .download = cuda_download, .sync = cuda_sync, .weight_new = cuda_weight_new, .weight_free = cuda_weight_free, .embed = cuda_embed,
    .rmsnorm = cuda_rmsnorm, .matmul = cuda_matmul, .rope = cuda_rope, .kv_write = cuda_kv_write, .attention = cuda_attention,
    .kv_copy_page = cuda_kv_copy_page, .swiglu = cuda_swiglu, .add = cuda_add, .gather = cuda_gather, .select = cuda_select,
    .topk = cuda_topk, .keep_rows = cuda_keep_rows, .similarity = cuda_similarity, .row_dots = cuda_row_dots, .contrast = cuda_contrast, .layer = cuda_layer, .logits = cuda_logits, .pass_begin = cuda_pass_begin, .pass_end = cuda_pass_end,
    .mark = cuda_mark, .marks = cuda_marks, .status = cuda_status,
};

#if defined(JPT_HAVE_CUDA)
extern const unsigned char *const jpt_cuda_modules[]; /* a fatbin a file of kernels, NULL at the end: made by the build */
static const unsigned char *const *modules(void) { return jpt_cuda_modules; }
#else
static const unsigned char *const *modules(void) { return NULL; }
#endif

/* A kernel by its name, in whatever module it is. */
static jpt_status find_kernel(cuda_backend *c, const char *name, cu_function *f, jpt_error *err) {
    cu_result r = CU_OK;
    for (int i = 0; i < CUDA_MODULES && c->module[i]; i++)
        if ((r = c->cu.module_function(f, c->module[i], name)) == CU_OK)
            return JPT_OK;
    return JPT_FAIL(err, UNSUPPORTED, "%s: kernel %s: %s", c->name, name, cu_text(&c->cu, r));
}

static jpt_status load_kernels(cuda_backend *c, jpt_error *err) {
    static const char *const kinds[K_PLAIN] = {"f32", "f16", "bf16"}, *const tiles[K_COUNT - K_PLAIN] = {"f16", "bf16", "f8", "i8", "i8m", "i8h", "i4", "i4c"};
    for (int i = 0; modules()[i]; i++) {
        JPT_ASSERT(i < CUDA_MODULES);
        cu_result r = c->cu.module_load(&c->module[i], modules()[i]);
        if (r != CU_OK)
            return JPT_FAIL(err, UNSUPPORTED, "%s does not take jpt's kernels: %s", c->name, cu_text(&c->cu, r));
    }
    for (int i = 0; i < KN_COUNT; i++)
        JPT_TRY(find_kernel(c, kernel_name[i], &c->kernel[i], err));
    if (!cuda_ok(c, c->cu.function_set(c->kernel[KN_attend_shared_128], CU_FUNC_MAX_DYNAMIC_SHARED, (int)shared_attention_bytes(128))))
        return JPT_FAIL(err, UNSUPPORTED, "%s gives a block less than %zu bytes of shared memory: %s", c->name, shared_attention_bytes(128), cu_text(&c->cu, c->broken));
    for (int k = 0; k < K_PLAIN; k++)
        for (int x = 0; x < 4; x++)
            for (int w = 0; w < 3; w++) {
                static const char *const forms[] = {"one", "two", "pair"};
                char                     name[64];
                snprintf(name, sizeof name, "matmul_%s_%d_%s", kinds[k], 1 << x, forms[w]);
                JPT_TRY(find_kernel(c, name, &c->matmul[k][x][w], err));
            }
    for (int k = 0; k < K_COUNT - K_PLAIN; k++)
        for (int x = 0; x < 5; x++)
            for (int pair = 0; pair < 2; pair++) {
                static const char *const forms[] = {"1", "2", "4", "8", "staged"};
                char                     name[64];
                snprintf(name, sizeof name, "tiled_%s_%s%s", tiles[k], forms[x], pair ? "_pair" : "");
                JPT_TRY(find_kernel(c, name, &c->tiled[k][x][pair], err));
            }
    return JPT_OK;
}

static jpt_status start(cuda_backend *c, int number, jpt_error *err) {
    int count = 0, major = 0, minor = 0;
    JPT_TRY(cu_driver_open(&c->cu, err));
    cu_result r = c->cu.device_count(&count);
    if (r != CU_OK || count == 0)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA sees no card%s%s; use --device cpu", r ? ": " : "", r ? cu_text(&c->cu, r) : "");
    if (number >= count)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA sees %d card%s; there is no cuda:%d", count, count == 1 ? "" : "s", number);
    if ((r = c->cu.device_get(&c->device, number)) == CU_OK)
        r = c->cu.device_name(c->name, sizeof c->name, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&major, CU_MAJOR, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&minor, CU_MINOR, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&c->n_sm, CU_SM_COUNT, c->device);
    if (r != CU_OK)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA card %d: %s", number, cu_text(&c->cu, r));
    if (major < 8)
        return JPT_FAIL(err, UNSUPPORTED, "%s is of compute capability %d.%d; jpt needs 8.0 (Ampere) or later; use --device cpu", c->name, major, minor);
    unsigned char u[16];
    if (c->cu.device_uuid(u, c->device) == CU_OK)
        snprintf(c->uuid, sizeof c->uuid, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
                 u[10], u[11], u[12], u[13], u[14], u[15]);
    c->overlap = major >= 9;
    if ((r = c->cu.context_retain(&c->context, c->device)) == CU_OK && (r = c->cu.context_set(c->context)) == CU_OK)
        r = c->cu.stream_create(&c->stream, 1);
    if (r != CU_OK)
        return JPT_FAIL(err, UNSUPPORTED, "%s does not start: %s", c->name, cu_text(&c->cu, r));
    JPT_TRY(load_kernels(c, err));
    cuda_prefill_open(c);
    return JPT_OK;
}

jpt_status jpt_cuda_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    long number = 0;
    if (name[4] == ':') {
        char *end;
        number = strtol(name + 5, &end, 10);
        if (end == name + 5 || *end || number < 0 || number > 1023)
            return JPT_FAIL(err, ARG, "device '%s': expected cuda or cuda:N", name);
    } else if (name[4]) {
        return JPT_FAIL(err, ARG, "device '%s': expected cuda or cuda:N", name);
    }
    if (!modules())
        return JPT_FAIL(err, UNSUPPORTED, "device '%s': this build has no CUDA kernels (nvcc was not there); use --device cpu", name);
    cuda_backend *c = calloc(1, sizeof *c);
    if (!c)
        return JPT_FAIL(err, NOMEM, "out of memory for a back-end");
    c->base = (jpt_backend){&cuda_ops, *opt};
    jpt_status st = start(c, (int)number, err);
    if (st != JPT_OK) {
        cuda_close(&c->base);
        return st;
    }
    *out = &c->base;
    return JPT_OK;
}
