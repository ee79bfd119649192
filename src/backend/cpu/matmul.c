/* Matrix products of the CPU back-end.  Work is split by output rows, never inside one sum; several matrices on the same
 * activations are one piece of work for the threads. */
#include "cpu.h"
#include <stdlib.h>
#include <string.h>

/* How a type's codes are offset, and whether its blocks have two scales. */
static int32_t code_offset(jpt_dtype t) { return t == JPT_Q4_0 ? 8 : t == JPT_Q5_0 ? 16 : t == JPT_Q8_0 ? 128 : t == JPT_Q6_K ? 32 : 0; }

/* ---- activations -------------------------------------------------------------------------------------------- */

static void act_free(cpu_acts *a) {
    free(a->q);
    free(a->block);
    free(a->fine);
    free(a->fine_q);
    free(a->fine_block);
}

static void act_room(cpu_backend *c, int32_t set, int32_t n, int32_t cols) {
    cpu_acts *a = &c->acts[set];
    size_t    need = (size_t)(n + ACT_TILE - 1) / ACT_TILE * ACT_TILE * (size_t)cols, tiles = need / PANEL_BLOCK / ACT_TILE;
    if (need > c->act_cap[set]) {
        act_free(a);
        a->q = aligned_alloc(64, need);
        a->fine_q = aligned_alloc(64, need);
        a->block = malloc(need / PANEL_BLOCK * sizeof *a->block);
        a->fine_block = malloc(need / PANEL_BLOCK * sizeof *a->fine_block);
        a->fine = malloc(tiles * sizeof *a->fine);
        JPT_ASSERT(a->q && a->fine_q && a->block && a->fine_block && a->fine);
        c->act_cap[set] = need;
    }
    memset(a->fine, 0, tiles * sizeof *a->fine);
    a->cols = cols;
    a->n = n;
}

void cpu_matmul_fini(cpu_backend *c) {
    for (int32_t i = 0; i < CPU_ACT_SETS; i++)
        act_free(&c->acts[i]);
}

typedef struct quant_job {
    cpu_backend *c;
    const float *x;
    cpu_acts    *a;
    jpt_dtype    dtype;
} quant_job;

static void quant_row(void *ud, int32_t i, int32_t thread) {
    (void)thread;
    quant_job *j = ud;
    j->c->k->quantize(j->x + (size_t)i * (size_t)j->a->cols, code_offset(j->dtype), j->dtype == JPT_Q6_K, j->a, i);
}

/* ---- products ----------------------------------------------------------------------------------------------------- */

typedef struct part {
    const jpt_weight *w;
    const float      *bias;
    float            *y;
    const cpu_acts   *acts; /* NULL: not quantised */
    int32_t           chunks, rows_per_chunk;
} part;

typedef struct matmul_job {
    cpu_backend *c;
    part         part[CPU_ACT_SETS];
    const float *x;
    int32_t      n, n_parts;
} matmul_job;

static void dense_rows(const matmul_job *j, const part *p, int32_t first, int32_t end, int32_t thread) {
    const jpt_weight *w = p->w;
    cpu_backend      *c = j->c;
    float            *room = cpu_thread_scratch(c, thread), out[ACT_TILE * DOT_ROWS];
    const float      *x[ACT_TILE];
    /* a tile of activations stays in cache while this chunk's weights pass over it */
    for (int32_t i0 = 0; i0 < j->n; i0 += ACT_TILE) {
        int32_t n = j->n - i0 < ACT_TILE ? j->n - i0 : ACT_TILE;
        for (int32_t i = 0; i < n; i++)
            x[i] = j->x + (size_t)(i0 + i) * (size_t)w->cols;
        /* few rows do not repay a copy of the weights */
        const bool direct = w->dtype == JPT_F32 || (n <= 4 && w->cols % 16 == 0 && (w->dtype == JPT_F16 || w->dtype == JPT_BF16) && c->k->halves);
        for (int32_t r = first; r < end; r += DOT_ROWS) {
            int32_t        width = end - r < DOT_ROWS ? end - r : DOT_ROWS;
            const uint8_t *row[DOT_ROWS];
            for (int32_t k = 0; k < DOT_ROWS; k++) { /* past the end the last once more */
                row[k] = w->data + (size_t)(r + (k < width ? k : width - 1)) * w->row_bytes;
                if (direct)
                    continue;
                float *f = room + (size_t)k * (size_t)w->cols;
                c->k->to_f32(w->dtype, row[k], f, w->cols);
                row[k] = (const uint8_t *)f;
            }
            c->k->dot(direct ? w->dtype : JPT_F32, row, w->cols, x, n, out);
            for (int32_t i = 0; i < n; i++) {
                float *y = p->y + (size_t)(i0 + i) * (size_t)w->rows + r;
                for (int32_t k = 0; k < width; k++)
                    y[k] = out[DOT_ROWS * i + k] + (p->bias ? p->bias[r + k] : 0);
            }
        }
    }
}

static void packed_rows(const matmul_job *j, const part *p, int32_t first, int32_t end, int32_t thread) {
    const jpt_weight *w = p->w;
    size_t            bytes = panel_bytes(w->dtype, w->cols);
    float             out[ACT_TILE * PANEL_ROWS];
    for (int32_t r = first; r < end; r += PANEL_ROWS) {
        int32_t        width = w->rows - r < PANEL_ROWS ? w->rows - r : PANEL_ROWS;
        const uint8_t *panel = w->panels ? w->panels + (size_t)(r / PANEL_ROWS) * bytes : NULL;
        if (!panel) {
            uint8_t *packed = (uint8_t *)cpu_thread_scratch(j->c, thread);
            panel_pack(w->dtype, w->data + (size_t)r * w->row_bytes, w->row_bytes, width, w->cols, packed);
            panel = packed;
        }
        for (int32_t i0 = 0; i0 < j->n; i0 += ACT_TILE) {
            int32_t n = j->n - i0 < ACT_TILE ? j->n - i0 : ACT_TILE;
            j->c->k->panel_dot(w->dtype, panel, p->acts, i0, n, out);
            for (int32_t i = 0; i < n; i++) {
                float *y = p->y + (size_t)(i0 + i) * (size_t)w->rows + r;
                if (width == PANEL_ROWS && !p->bias)
                    memcpy(y, out + PANEL_ROWS * i, PANEL_ROWS * sizeof *y);
                else
                    for (int32_t k = 0; k < width; k++)
                        y[k] = p->bias ? out[PANEL_ROWS * i + k] + p->bias[r + k] : out[PANEL_ROWS * i + k];
            }
        }
    }
}

static void matmul_chunk(void *ud, int32_t chunk, int32_t thread) {
    const matmul_job *j = ud;
    const part       *p = j->part;
    while (chunk >= p->chunks)
        chunk -= p++->chunks;
    int32_t first = chunk * p->rows_per_chunk, end = p->w->rows - first < p->rows_per_chunk ? p->w->rows : first + p->rows_per_chunk;
    if (p->acts)
        packed_rows(j, p, first, end, thread);
    else
        dense_rows(j, p, first, end, thread);
}

/* The activations as `w` wants them: a set that another part has already, or a new one. */
static const cpu_acts *acts_for(matmul_job *j, int32_t k) {
    const jpt_weight *w = j->part[k].w;
    if (!panel_packs(w->dtype))
        return NULL;
    for (int32_t i = 0; i < k; i++)
        if (j->part[i].acts && code_offset(j->part[i].w->dtype) == code_offset(w->dtype))
            return j->part[i].acts;
    act_room(j->c, k, j->n, w->cols);
    quant_job job = {j->c, j->x, &j->c->acts[k], w->dtype};
    cpu_share(j->c, quant_row, &job, j->n, 16.0 * j->n * w->cols);
    return &j->c->acts[k];
}

void cpu_matmul_many(jpt_backend *be, const jpt_weight *const *w, int32_t n_w, const float *x, int32_t n, const float *const *bias, float *const *y) {
    cpu_backend *c = (cpu_backend *)be;
    matmul_job   job = {.c = c, .x = x, .n = n, .n_parts = n_w};
    int64_t      rows = 0;
    int32_t      chunks = 0;
    JPT_ASSERT(n_w <= CPU_ACT_SETS);
    if (n < 1)
        return;
    for (int32_t k = 0; k < n_w; k++)
        rows += w[k]->rows;
    /* about 8 chunks a thread: threads that lose their processor for a while leave work to the others */
    int64_t per = rows / (8 * jpt_pool_threads(c->pool)) / (2 * PANEL_ROWS) * (2 * PANEL_ROWS);
    per = per < 2 * PANEL_ROWS ? 2 * PANEL_ROWS : per;
    for (int32_t k = 0; k < n_w; k++) {
        part *p = &job.part[k];
        *p = (part){.w = w[k], .bias = bias ? bias[k] : NULL, .y = y[k], .rows_per_chunk = (int32_t)per};
        p->chunks = (w[k]->rows + p->rows_per_chunk - 1) / p->rows_per_chunk;
        p->acts = acts_for(&job, k);
        chunks += p->chunks;
        size_t scratch = !p->acts ? DOT_ROWS * (size_t)w[k]->cols : w[k]->panels ? 0 : panel_bytes(w[k]->dtype, w[k]->cols) / sizeof(float);
        cpu_thread_room(c, scratch);
    }
    cpu_share(c, matmul_chunk, &job, chunks, (double)rows * w[0]->cols * n);
}

void cpu_matmul(jpt_backend *be, const jpt_weight *w, const float *x, int32_t n, const float *bias, float *y) {
    cpu_matmul_many(be, &w, 1, x, n, &bias, &y);
}
