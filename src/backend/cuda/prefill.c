/* Passes of many rows (prompts, scoring): the products by cuBLASLt, where it is installed.
 *
 * Weights lie in tiles for small products.  Here each matrix is first written out of them into rows of 16 bits (prefill.cu), in
 * pieces of at most WEIGHT_ROOM, and multiplied at once; both are float16 where the weights are, else bfloat16, whose range holds
 * what float16 may not: silu(gate) up of some models.  Sums are float32, and no algorithm is used that adds in an order of chance.
 *
 * Whatever is missing (the library, memory for a piece, an algorithm for a shape) is found before anything is written, and the
 * caller goes the way of small passes. */
#include "prefill.h"
#include "cublaslt.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE   ((size_t)64 << 20)
#define WEIGHT_ROOM ((size_t)128 << 20)
enum { KNOWN = 64, PIECE_ROWS = 128 }; /* pieces of a matrix have a multiple of so many rows, but for the last */

typedef struct product_key {
    int32_t rows, pitch, cols, n, type, out, bias, align; /* pitch: of y, whose rows may be longer than these */
} product_key;
typedef struct product { /* y[n, rows] = x[n, cols] w[rows, cols]^T in cuBLAS's terms: columns first, all transposed */
    product_key key;
    bool        works;
    lt_desc     desc;
    lt_layout   w, x, y;
    lt_algo     algo;
} product;

struct cuda_prefill {
    lt_library lt;
    lt_handle  handle;
    char       name[32];
    cu_pointer workspace, weight, x;
    size_t     weight_cap, x_cap;
    product    known[KNOWN];
    int        n_known, next; /* next: to be forgotten when the table is full */
    bool       failed;        /* a product did not start: never again */
};

/* ---- the library ------------------------------------------------------------------------------------------------------ */

static bool load(lt_library *lt) {
    const char *own = getenv("JPT_CUBLASLT_LIB"), *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    memset(lt, 0, sizeof *lt);
    if (own && *own)
        lt->lib = dlopen(own, RTLD_LAZY | RTLD_LOCAL);
    for (size_t i = 0; !(own && *own) && !lt->lib && i < sizeof names / sizeof *names; i++)
        lt->lib = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
    if (!lt->lib)
        return false;
    const struct {
        const char *symbol;
        void       *slot;
    } wanted[] = {
#define LT_ROW(symbol, name, result, arguments) {#symbol, &lt->name},
        LT_FUNCTIONS(LT_ROW)
#undef LT_ROW
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *p = dlsym(lt->lib, wanted[i].symbol);
        if (!p)
            return false;
        memcpy(wanted[i].slot, &p, sizeof p);
    }
    return true;
}

void cuda_prefill_open(cuda_backend *c) {
    static const int shared[] = {FLASH_SHARED(64), FLASH_SHARED(128)};
    c->flash = c->cu.function_set(c->kernel[KN_flash_64], CU_FUNC_MAX_DYNAMIC_SHARED, shared[0]) == CU_OK &&
               c->cu.function_set(c->kernel[KN_flash_128], CU_FUNC_MAX_DYNAMIC_SHARED, shared[1]) == CU_OK;
    if (c->base.opt.compute == JPT_COMPUTE_F32) /* exact: no 16 bits anywhere */
        return;
    cuda_prefill *p = calloc(1, sizeof *p);
    if (!p)
        return;
    c->prefill = p;
    if (!load(&p->lt) || p->lt.create(&p->handle) != LT_OK || c->cu.memory_alloc(&p->workspace, WORKSPACE) != CU_OK) {
        cuda_prefill_close(c);
        return;
    }
    size_t v = p->lt.version(); /* 120100; of old 11.x: 11101 */
    snprintf(p->name, sizeof p->name, "cuBLASLt %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

static void forget(cuda_prefill *p, product *k) {
    if (k->desc)
        p->lt.desc_destroy(k->desc);
    lt_layout l[] = {k->w, k->x, k->y};
    for (int i = 0; i < 3; i++)
        if (l[i])
            p->lt.layout_destroy(l[i]);
    memset(k, 0, sizeof *k);
}

void cuda_prefill_close(cuda_backend *c) {
    cuda_prefill *p = c->prefill;
    if (!p)
        return;
    c->prefill = NULL;
    for (int i = 0; i < p->n_known; i++)
        forget(p, &p->known[i]);
    if (p->handle)
        p->lt.destroy(p->handle);
    cu_pointer d[] = {p->workspace, p->weight, p->x};
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        if (d[i])
            c->cu.memory_free(d[i]);
    /* The library stays loaded: it has threads and exit handlers of its own. */
    free(p);
}

const char *cuda_prefill_name(const cuda_backend *c) { return c->prefill && !c->prefill->failed ? c->prefill->name : NULL; }

/* ---- products ----------------------------------------------------------------------------------------------------------- */

/* As cuda_room, but not to have it is no error. */
static bool room(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes) {
    if (bytes <= *cap)
        return true;
    if (*p) {
        cuda_ok(c, c->cu.stream_sync(c->stream));
        c->cu.memory_free(*p);
    }
    *p = 0, *cap = 0;
    if (c->cu.memory_alloc(p, bytes) != CU_OK) {
        *p = 0;
        return false;
    }
    *cap = bytes;
    return true;
}

static bool describe_product(cuda_prefill *p, product *k) {
    const product_key *key = &k->key;
    const lt_library  *lt = &p->lt;
    lt_preference      prefer = NULL;
    lt_found           found = {0};
    int32_t            transpose = LT_TRANSPOSE, type32 = LT_R_32F;
    uint32_t           epilogue = LT_EPILOGUE_BIAS, reductions = LT_REDUCE_APART, align = (uint32_t)key->align;
    uint64_t           workspace = WORKSPACE, rows = (uint64_t)key->rows, cols = (uint64_t)key->cols, n = (uint64_t)key->n;
    const void        *bias = (const void *)(uintptr_t)p->workspace; /* any that is aligned; each product brings its own */
    int                count = 0;
    bool ok = lt->desc_create(&k->desc, LT_COMPUTE_32F, LT_R_32F) == LT_OK && lt->desc_set(k->desc, LT_DESC_TRANSPOSE_A, &transpose, sizeof transpose) == LT_OK &&
              lt->layout_create(&k->w, key->type, cols, rows, (int64_t)cols) == LT_OK && lt->layout_create(&k->x, key->type, cols, n, (int64_t)cols) == LT_OK &&
              lt->layout_create(&k->y, key->out, rows, n, (int64_t)key->pitch) == LT_OK;
    if (ok && key->bias)
        ok = lt->desc_set(k->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue) == LT_OK && lt->desc_set(k->desc, LT_DESC_BIAS_TYPE, &type32, sizeof type32) == LT_OK &&
             lt->desc_set(k->desc, LT_DESC_BIAS, &bias, sizeof bias) == LT_OK;
    ok = ok && lt->preference_create(&prefer) == LT_OK && lt->preference_set(prefer, LT_PREFER_WORKSPACE, &workspace, sizeof workspace) == LT_OK &&
         lt->preference_set(prefer, LT_PREFER_REDUCTIONS, &reductions, sizeof reductions) == LT_OK && lt->preference_set(prefer, LT_PREFER_ALIGN_C, &align, sizeof align) == LT_OK &&
         lt->preference_set(prefer, LT_PREFER_ALIGN_D, &align, sizeof align) == LT_OK &&
         lt->heuristic(p->handle, k->desc, k->w, k->x, k->y, k->y, prefer, 1, &found, &count) == LT_OK && count == 1 && found.state == LT_OK && found.workspace <= WORKSPACE;
    if (prefer)
        lt->preference_destroy(prefer);
    k->algo = found.algo;
    return ok;
}

/* How a product of this shape is done; NULL: it is not.  Valid until the next call. */
static product *known(cuda_prefill *p, const product_key *key) {
    for (int i = 0; i < p->n_known; i++)
        if (memcmp(&p->known[i].key, key, sizeof *key) == 0)
            return p->known[i].works ? &p->known[i] : NULL;
    product *k;
    if (p->n_known < KNOWN) {
        k = &p->known[p->n_known++];
    } else {
        k = &p->known[p->next];
        p->next = (p->next + 1) % KNOWN;
        forget(p, k);
    }
    k->key = *key;
    k->works = describe_product(p, k);
    return k->works ? k : NULL;
}

/* The type of 16 bits in which a matrix is multiplied; -1: it is not. */
static int type_of(const dev_weight *w) {
    bool plain = w->kind == K_F16 || w->kind == K_BF16;
    if (w->kind == K_F32 || (plain && w->cols % 8 != 0))
        return -1;
    return w->kind == K_F16 || w->kind == K_T16 ? LT_R_16F : LT_R_16BF;
}

/* y[n, rows] (+)= x w^T (+ bias), x in w's 16 bits, y in `out`. */
typedef struct task {
    const dev_weight *w;
    const void       *x;
    const float      *bias;
    void             *y;
    int32_t           n, out;
    bool              accumulate;
} task;

/* Rows of w that go together. */
static int32_t piece_rows(const dev_weight *w) {
    int32_t most = (int32_t)(WEIGHT_ROOM / ((size_t)w->cols * 2)) / PIECE_ROWS * PIECE_ROWS, count, each;
    if (w->kind < K_PLAIN)
        return w->rows;
    most = most > 0 ? most : PIECE_ROWS;
    count = (w->rows + most - 1) / most;
    each = (w->rows + count - 1) / count;
    return (each + PIECE_ROWS - 1) / PIECE_ROWS * PIECE_ROWS;
}

static product *how(cuda_prefill *p, const task *t, int32_t rows) {
    product_key key = {.rows = rows, .pitch = t->w->rows, .cols = t->w->cols, .n = t->n, .type = type_of(t->w), .out = t->out, .bias = t->bias != NULL, .align = 256};
    while (key.align > 1 && (uintptr_t)t->y % (uintptr_t)key.align != 0)
        key.align /= 2;
    return known(p, &key);
}

static bool aligned(const void *p) { return (uintptr_t)p % 256 == 0; }

/* Whether all that a task needs is there. */
static bool ready(cuda_backend *c, const task *t) {
    cuda_prefill *p = c->prefill;
    int32_t       each = piece_rows(t->w), last = t->w->rows % each;
    if (!aligned(t->x) || !aligned(t->bias) || (t->w->rows >= each && !how(p, t, each)) || (last > 0 && !how(p, t, last)))
        return false;
    return t->w->kind < K_PLAIN || room(c, &p->weight, &p->weight_cap, (size_t)each * (size_t)t->w->cols * 2);
}

/* Rows first .. + n of w in 16 bits, behind `behind` rows that are there already. */
static const void *rows_of(cuda_backend *c, const dev_weight *w, int32_t first, int32_t n, int32_t behind) {
    static const int kernel[K_COUNT - K_PLAIN] = {KN_untile_16, KN_untile_16, KN_untile_f8, KN_untile_i8, KN_untile_i8m, KN_untile_i8h, KN_untile_i4, KN_untile_i4c};
    if (w->kind < K_PLAIN)
        return (const char *)w->q + (size_t)first * (size_t)w->cols * 2;
    int    per = TILE_COLS(w->kind), tile = first / 16;
    void  *out = (char *)(uintptr_t)c->prefill->weight + (size_t)behind * (size_t)w->cols * 2;
    size_t units = (size_t)((n + 15) / 16) * (size_t)((w->cols + per - 1) / per);
    cuda_launch(c, c->kernel[kernel[w->kind - K_PLAIN]], cuda_blocks(units, 8), 1, 1, 256, 0, (void *[]){(void *)(uintptr_t)w, &tile, &n, &out});
    return out;
}

/* Rows at .. + rows of the product; w: these rows of the matrix. */
static bool run(cuda_backend *c, const task *t, int32_t at, int32_t rows, const void *w) {
    cuda_prefill *p = c->prefill;
    product      *k = how(p, t, rows);
    const float   one = 1, beta = t->accumulate ? 1 : 0, *bias = t->bias ? t->bias + at : NULL;
    char         *y = (char *)t->y + (size_t)at * (t->out == LT_R_32F ? 4 : 2);
    if (c->broken != CU_OK)
        return true;
    int status = k ? LT_OK : LT_NOT_SUPPORTED;
    if (k && bias)
        status = p->lt.desc_set(k->desc, LT_DESC_BIAS, &bias, sizeof bias);
    if (status == LT_OK)
        status = p->lt.matmul(p->handle, k->desc, &one, w, k->w, t->x, k->x, &beta, y, k->y, y, k->y, &k->algo, (void *)(uintptr_t)p->workspace, WORKSPACE, c->stream);
    if (status == LT_OK)
        return true;
    char what[200];
    snprintf(what, sizeof what, "%s: %s (%d) for %d rows times rows %d to %d of a %d x %d matrix", p->name, p->lt.status_name(status), status, t->n, at, at + rows, t->w->rows, t->w->cols);
    p->failed = true;
    if (at == 0) {
        jpt_log(JPT_LOG_WARN, "%s: %s; products go without the library from here on, large ones slower", c->name, what);
        return false;
    }
    snprintf(c->why, sizeof c->why, "%s; JPT_CUBLASLT_LIB=none does without the library", what);
    cuda_ok(c, CU_UNKNOWN); /* half a product: no result is better than a wrong one */
    return true;
}

/* false: nothing was written. */
static bool multiply(cuda_backend *c, const task *t) {
    int32_t each = piece_rows(t->w);
    for (int32_t at = 0; at < t->w->rows; at += each) {
        int32_t rows = t->w->rows - at < each ? t->w->rows - at : each;
        if (!run(c, t, at, rows, rows_of(c, t->w, at, rows, 0)))
            return false;
    }
    return true;
}

bool cuda_prefill_wants(const cuda_backend *c, int32_t n) {
    return c->prefill && !c->prefill->failed && n >= MANY_ROWS && (!c->in_pass || c->n >= MANY_ROWS); /* in_pass: the pass has as many */
}

bool cuda_prefill_matmul(cuda_backend *c, const dev_weight *w, const float *x, int32_t n, const float *bias, float *y) {
    if (!cuda_prefill_wants(c, n) || type_of(w) < 0)
        return false;
    cuda_prefill *p = c->prefill;
    size_t        size = (size_t)n * (size_t)w->cols, pieces = size / 8;
    int           bf16 = type_of(w) == LT_R_16BF;
    if (!room(c, &p->x, &p->x_cap, size * 2))
        return false;
    void *x16 = (void *)(uintptr_t)p->x;
    task  t = {.w = w, .x = x16, .bias = bias, .y = y, .n = n, .out = LT_R_32F};
    if (!ready(c, &t))
        return false;
    LAUNCH(c, narrow_16, cuda_blocks(pieces, 256), 1, 1, 256, 0, &x, &pieces, &bf16, &x16);
    return multiply(c, &t);
}

/* ---- a layer ------------------------------------------------------------------------------------------------------------- */


static bool all_ready(cuda_backend *c, const task *t, int n) {
    for (int i = 0; i < n; i++)
        if (!ready(c, &t[i]))
            return false;
    return true;
}

static void norm(cuda_backend *c, const jpt_layer_job *l, const float *gain, int to) {
    float *x = l->d_x, *y = l->d_norm, eps = l->eps;
    int    D = l->D;
    LAUNCH(c, rmsnorm, l->n, 1, 1, 256, 0, &x, &gain, &D, &eps, &y, &to);
}

/* Queries, keys and values by one product into d_gate, which stands empty: the matrices of keys and values are too small to keep a
 * card busy.  -1: they do not fit together. */
static int joined(cuda_backend *c, const jpt_layer_job *l, int to) {
    const dev_weight *w[] = {cuda_dev(l->q), cuda_dev(l->k), cuda_dev(l->v)};
    dev_weight        all = *w[0];
    all.rows += w[1]->rows + w[2]->rows;
    const task t = {.w = &all, .x = l->d_norm, .y = l->d_gate, .n = l->n, .out = LT_R_32F};
    if (w[0]->kind < K_PLAIN || w[1]->kind < K_PLAIN || w[2]->kind < K_PLAIN || all.rows > l->F || piece_rows(&all) < all.rows || l->rope_dim / 2 > JOINED_PAIRS || l->shape->head_dim % 2 ||
        !ready(c, &t))
        return -1;
    norm(c, l, l->d_attn_norm, to);
    for (int32_t i = 0, behind = 0; i < 3; behind += w[i++]->rows)
        rows_of(c, w[i], 0, w[i]->rows, behind);
    if (!run(c, &t, 0, all.rows, (void *)(uintptr_t)c->prefill->weight))
        return false;
    cuda_attend_joined(c, l, l->d_gate, l->d_attn, to);
    return true;
}

static bool apart(cuda_backend *c, const jpt_layer_job *l, int to) {
    const task t[] = {{cuda_dev(l->q), l->d_norm, l->d_q_bias, l->d_q, l->n, LT_R_32F, false},
                      {cuda_dev(l->k), l->d_norm, l->d_k_bias, l->d_k, l->n, LT_R_32F, false},
                      {cuda_dev(l->v), l->d_norm, l->d_v_bias, l->d_v, l->n, LT_R_32F, false}};
    if (!all_ready(c, t, 3))
        return false;
    norm(c, l, l->d_attn_norm, to);
    if (!multiply(c, &t[0]) || !multiply(c, &t[1]) || !multiply(c, &t[2]))
        return false;
    cuda_attend_layer(c, l, &(dev_rows){.q = l->d_attn}, to);
    return true;
}

/* The activations' rooms hold 16 bits where the products read them. */
static bool attention_half(cuda_backend *c, const jpt_layer_job *l, int type) {
    const task o = {cuda_dev(l->o), l->d_attn, NULL, l->d_x, l->n, LT_R_32F, true};
    int        to = type == LT_R_16F ? TO_F16 : TO_BF16, done;
    if (!ready(c, &o))
        return false;
    done = joined(c, l, to);
    return (done < 0 ? apart(c, l, to) : done) && ready(c, &o) && multiply(c, &o); /* the room may have been lost in growing */
}

static bool ffn_half(cuda_backend *c, const jpt_layer_job *l, int type) {
    const task t[] = {{cuda_dev(l->gate), l->d_norm, NULL, l->d_gate, l->n, type, false},
                      {cuda_dev(l->up), l->d_norm, NULL, l->d_up, l->n, type, false},
                      {cuda_dev(l->down), l->d_gate, NULL, l->d_x, l->n, LT_R_32F, true}};
    float     *gate = l->d_gate, *up = l->d_up;
    int        bf16 = type == LT_R_16BF;
    size_t     pieces = (size_t)l->n * (size_t)l->F / 8;
    if (l->F % 8 != 0 || !all_ready(c, t, 3))
        return false;
    norm(c, l, l->d_ffn_norm, bf16 ? TO_BF16 : TO_F16);
    if (!multiply(c, &t[0]) || !multiply(c, &t[1]))
        return false;
    LAUNCH(c, swiglu_16, cuda_blocks(pieces, 256), 1, 1, 256, 0, &gate, &up, &pieces, &bf16);
    return multiply(c, &t[2]);
}

/* The same by the operations one by one, for what cuBLASLt does not do. */
static void attention_plainly(jpt_backend *be, const jpt_layer_job *l) {
    const jpt_backend_ops *op = be->ops;
    const jpt_attn_shape  *s = l->shape;
    op->rmsnorm(be, l->d_x, l->d_attn_norm, l->n, l->D, l->eps, l->d_norm);
    op->matmul(be, l->q, l->d_norm, l->n, l->d_q_bias, l->d_q);
    op->matmul(be, l->k, l->d_norm, l->n, l->d_k_bias, l->d_k);
    op->matmul(be, l->v, l->d_norm, l->n, l->d_v_bias, l->d_v);
    op->rope(be, l->d_q, l->n, s->n_heads, s->head_dim, l->rope_dim, l->rope, l->pos, l->inv_freq);
    op->rope(be, l->d_k, l->n, s->n_kv_heads, s->head_dim, l->rope_dim, l->rope, l->pos, l->inv_freq);
    op->kv_write(be, l->kv, l->layer, s, l->runs, l->n_runs, l->d_k, l->d_v);
    op->attention(be, l->kv, l->layer, s, l->runs, l->n_runs, l->d_q, l->d_attn);
    op->matmul(be, l->o, l->d_attn, l->n, NULL, l->d_norm);
    op->add(be, l->d_x, l->d_norm, (size_t)l->n * (size_t)l->D);
}

static void ffn_plainly(jpt_backend *be, const jpt_layer_job *l) {
    const jpt_backend_ops *op = be->ops;
    op->rmsnorm(be, l->d_x, l->d_ffn_norm, l->n, l->D, l->eps, l->d_norm);
    op->matmul(be, l->gate, l->d_norm, l->n, NULL, l->d_gate);
    op->matmul(be, l->up, l->d_norm, l->n, NULL, l->d_up);
    op->swiglu(be, l->d_gate, l->d_up, (size_t)l->n * (size_t)l->F, l->d_gate);
    op->matmul(be, l->down, l->d_gate, l->n, NULL, l->d_norm);
    op->add(be, l->d_x, l->d_norm, (size_t)l->n * (size_t)l->D);
}

bool cuda_prefill_layer(cuda_backend *c, const jpt_layer_job *l) {
    const jpt_weight *w[] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};
    int               type = type_of(cuda_dev(l->q));
    if (!cuda_prefill_wants(c, l->n) || type < 0)
        return false;
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        if (type_of(cuda_dev(w[i])) != type)
            return false;
    c->ready.x = NULL;
    if (!attention_half(c, l, type)) /* d_x is as it was */
        attention_plainly(&c->base, l);
    if (!ffn_half(c, l, type))
        ffn_plainly(&c->base, l);
    return true;
}

/* ---- attention --------------------------------------------------------------------------------------------------------------- */

bool cuda_flash(cuda_backend *c, const flash_job *job, int32_t E, int32_t n, const jpt_row_run *runs, int32_t n_runs) {
    flash_job j = *job;
    bool      any = false;
    if (!c->flash || n < MANY_ROWS || !j.kv.f16 || (E != 64 && E != 128) || j.to == TO_Q8)
        return false;
    j.n_runs = j.n_tiles = 0;
    for (int32_t r = 0; r <= n_runs; r++) {
        if (j.n_runs == FLASH_RUNS || (r == n_runs && j.n_runs > 0)) {
            cuda_launch(c, c->kernel[E == 64 ? KN_flash_64 : KN_flash_128], (unsigned)j.heads, (unsigned)j.n_tiles, 1, FLASH_THREADS, E == 64 ? FLASH_SHARED(64) : FLASH_SHARED(128),
                        (void *[]){&j});
            j.n_runs = j.n_tiles = 0;
        }
        if (r == n_runs || !cuda_run_is_long(&runs[r]))
            continue;
        j.run[j.n_runs++] = (flash_run){runs[r].first_row, runs[r].n_rows, j.n_tiles};
        j.n_tiles += (runs[r].n_rows + FLASH_ROWS - 1) / FLASH_ROWS;
        any = true;
    }
    return any;
}
