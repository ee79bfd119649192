/* Products, and what a layer is made of. */
#include "cuda.h"
#include "prefill.h"

static void norm_to(cuda_backend *c, const float *x, const float *gain, int32_t n, int32_t D, float eps, void *y, int to) {
    LAUNCH(c, rmsnorm, n, 1, 1, 256, 0, &x, &gain, &D, &eps, &y, &to);
}
void cuda_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y) { norm_to(cuda_of(be), x, gain, n, D, eps, y, 0); }
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
    LAUNCH(c, bring_rows, cuda_blocks((size_t)n * (size_t)cols / 32, 8), 1, 1, 256, 0, &x, &rows, &gain, &n, &cols, &to, (void *)out);
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

void cuda_matmul(jpt_backend *be, const jpt_weight *weight, const float *x, int32_t n, const float *bias, float *y) {
    mm_job j = {.part = {{((const cuda_weight *)weight)->w, bias, y, 0}}, .x = x, .n_parts = 1, .n = n};
    if (n > 0 && !cuda_prefill_matmul(cuda_of(be), &j.part[0].w, x, n, bias, y))
        matmul_job(cuda_of(be), &j, false);
}

/* ---- fused: a layer in five to nine launches --------------------------------------------------------------------------------- */

static bool alike(const dev_weight *a, const dev_weight *b) { return a->kind == b->kind; }

/* y[i] = x w[i]^T (+ bias[i]), x as `in` has it: one launch where the matrices lie alike. */
static void project(cuda_backend *c, const mm_job *in, const jpt_weight *const *w, const float *const *bias, float *const *y, int n_w) {
    mm_job j = *in;
    for (int i = 0; i < n_w; i++) {
        if (j.n_parts && !alike(cuda_dev(w[i]), &j.part[0].w)) {
            matmul_job(c, &j, false);
            j = *in;
        }
        j.part[j.n_parts++] = (mm_part){*cuda_dev(w[i]), bias ? bias[i] : NULL, y[i], 0};
    }
    matmul_job(c, &j, false);
}

/* The form that all seven matrices want their rows in, -1: they differ, or lie plainly. */
static int layer_form(const jpt_layer_job *l) {
    const jpt_weight *w[] = {l->q, l->k, l->v, l->o, l->gate, l->up, l->down};
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        if (cuda_dev(w[i])->kind < K_PLAIN || form_of(cuda_dev(w[i])->kind) != form_of(cuda_dev(l->q)->kind))
            return -1;
    return alike(cuda_dev(l->gate), cuda_dev(l->up)) ? form_of(cuda_dev(l->q)->kind) : -1;
}

/* c->normed holds the rows of d_x with this gain. */
static bool is_ready(const cuda_backend *c, const float *d_x, const float *gain, int n, int to) {
    return c->ready.x == d_x && c->ready.gain == gain && c->ready.n == n && c->ready.to == to;
}

/* Five launches: what stands between two products is done at the end of the first.  Norms are taken behind products, but for float16,
 * whose range the rows before the norm might leave. */
static void layer_tiled(cuda_backend *c, const jpt_layer_job *l, int to) {
    int      n = l->n, heads = l->shape->n_heads * l->shape->head_dim;
    bool     later = to != TO_F16, wide = cuda_attends_wide(l->kv->kv_dtype, l->shape->head_dim);
    dev_rows normed = {0}, attn, act;
    if ((later && !rows_room(c, &c->normed, n, l->D, to, true, &normed)) || !rows_room(c, &c->acts, n, heads > l->F ? heads : l->F, to, false, &act) ||
        !rows_room(c, &c->acts, n, heads, to, false, &attn) || !rows_room(c, &c->acts, n, l->F, to, false, &act))
        return;
    if (later && !is_ready(c, l->d_x, l->d_attn_norm, n, to))
        bring(c, l->d_x, NULL, l->d_attn_norm, n, l->D, to, &normed);
    c->ready.x = NULL;
    mm_job q = {.in = normed, .x = l->d_x, .gain = l->d_attn_norm, .eps = l->eps, .n = n};
    project(c, &q, (const jpt_weight *const[]){l->q, l->k, l->v}, (const float *const[]){l->d_q_bias, l->d_k_bias, l->d_v_bias}, (float *const[]){l->d_q, l->d_k, l->d_v}, 3);
    cuda_attend_layer(c, l, wide ? &attn : &(dev_rows){.q = l->d_attn}, wide ? to : TO_F32);
    mm_job o = {.part = {{*cuda_dev(l->o), NULL, l->d_x, 0}}, .in = wide ? attn : (dev_rows){0}, .x = l->d_attn, .out = normed, .out_gain = l->d_ffn_norm, .n_parts = 1, .n = n, .accumulate = 1};
    tiled_job(c, &o, false);
    mm_job g = {.part = {{*cuda_dev(l->gate), NULL, NULL, 0}, {*cuda_dev(l->up), NULL, NULL, 0}}, .in = normed, .x = l->d_x, .gain = l->d_ffn_norm, .eps = l->eps, .out = act, .n_parts = 2, .n = n};
    tiled_job(c, &g, true);
    mm_job d = {.part = {{*cuda_dev(l->down), NULL, l->d_x, 0}}, .in = act, .n_parts = 1, .n = n, .accumulate = 1};
    if (later && l->d_next_norm) {
        d.out = normed, d.out_gain = l->d_next_norm;
        c->ready.x = l->d_x, c->ready.gain = l->d_next_norm, c->ready.n = n, c->ready.to = to;
    }
    tiled_job(c, &d, false);
}

void cuda_layer(jpt_backend *be, const jpt_layer_job *l) {
    cuda_backend *c = cuda_of(be);
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
    cuda_attend_layer(c, l, &(dev_rows){.q = l->d_attn}, TO_F32);
    mm_job o = {.part = {{*cuda_dev(l->o), NULL, l->d_x, 0}}, .x = l->d_attn, .n_parts = 1, .n = l->n, .accumulate = 1};
    matmul_job(c, &o, false);
    cuda_rmsnorm(be, l->d_x, l->d_ffn_norm, l->n, l->D, l->eps, l->d_norm);
    if (alike(cuda_dev(l->gate), cuda_dev(l->up))) {
        mm_job g = {.part = {{*cuda_dev(l->gate), NULL, l->d_gate, 0}, {*cuda_dev(l->up), NULL, l->d_up, 0}}, .x = l->d_norm, .n_parts = 2, .n = l->n};
        matmul_job(c, &g, true);
    } else {
        project(c, &in, (const jpt_weight *const[]){l->gate, l->up}, NULL, (float *const[]){l->d_gate, l->d_up}, 2);
        cuda_swiglu(be, l->d_gate, l->d_up, (size_t)l->n * (size_t)l->F, l->d_gate);
    }
    mm_job d = {.part = {{*cuda_dev(l->down), NULL, l->d_x, 0}}, .x = l->d_gate, .n_parts = 1, .n = l->n, .accumulate = 1};
    matmul_job(c, &d, false);
}

void cuda_logits(jpt_backend *be, const jpt_weight *weight, const float *d_x, int32_t n_x, const int32_t *rows, int32_t n, const float *gain, float eps, float *d_gather, float *d_norm, float *d_y) {
    cuda_backend     *c = cuda_of(be);
    const dev_weight *w = cuda_dev(weight);
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
        bring(c, d_x, cuda_input(c, c->at_rows[0]), gain, n, w->cols, to, &j.in);
    tiled_job(c, &j, false);
}
