/* Attention of the CPU back-end: tiles of rows that are computed together, so that keys and values which they share are
 * read once: rows of one run share their past, rows of several runs the pages with which their tables begin. */
#include "cpu.h"
#include <string.h>

enum { TILE_QUERIES = 24 };

typedef struct attn_job {
    cpu_backend          *c;
    const jpt_kv_view    *kv;
    const jpt_attn_shape *shape;
    const jpt_row_run    *runs;
    int32_t               layer, n_rows, tile_rows;
    size_t                longest; /* positions of a row, with room for 32 more */
    const float          *q;
    float                *y;
} attn_job;

typedef struct scratch {
    float     *q, *acc, *score, *block;
    size_t    *slots;
    cpu_query *query;
} scratch;

static int32_t width_of(const attn_job *j) { return (j->shape->head_dim + 15) & ~15; }

static size_t scratch_floats(const attn_job *j) {
    size_t queries = (size_t)j->tile_rows * (size_t)(j->shape->n_heads / j->shape->n_kv_heads), width = (size_t)width_of(j);
    return 2 * queries * width + queries * j->longest + 16 * width + j->longest * (sizeof(size_t) / sizeof(float)) +
           queries * (sizeof(cpu_query) / sizeof(float) + 1) + 16;
}

static scratch scratch_of(const attn_job *j, int32_t thread) {
    size_t  queries = (size_t)j->tile_rows * (size_t)(j->shape->n_heads / j->shape->n_kv_heads), width = (size_t)width_of(j);
    float  *p = cpu_thread_scratch(j->c, thread);
    scratch s = {.q = p, .acc = p + queries * width, .block = p + 2 * queries * width};
    s.slots = (size_t *)(void *)(s.block + 16 * width);
    s.query = (cpu_query *)(void *)(s.slots + j->longest);
    s.score = (float *)(void *)(s.query + queries);
    return s;
}

/* Slots of positions [from, to) of a run. */
static void find_slots(const attn_job *j, const jpt_row_run *r, int32_t from, int32_t to, size_t *slots) {
    const int32_t *table = r->table, page = j->kv->page_size;
    const size_t   first = (size_t)j->layer * (size_t)j->kv->n_pages;
    for (int32_t p = from; page == 1 && p < to; p++)
        slots[p] = first + (size_t)table[p];
    for (int32_t p = from; page > 1 && p < to;) {
        int32_t end = (p / page + 1) * page < to ? (p / page + 1) * page : to;
        for (size_t at = (first + (size_t)table[p / page]) * (size_t)page + (size_t)(p % page); p < end; p++, at++)
            slots[p] = at;
    }
}

/* Positions with which the pages of both runs begin alike. */
static int32_t common_prefix(const attn_job *j, const jpt_row_run *a, const jpt_row_run *b) {
    int32_t na = a->first_pos + a->n_rows, nb = b->first_pos + b->n_rows, n = na < nb ? na : nb, p = 0;
    while (p < n && a->table[p / j->kv->page_size] == b->table[p / j->kv->page_size])
        p += j->kv->page_size;
    return p < n ? p : n;
}

typedef struct tile_part { /* the tile's rows of one run */
    const jpt_row_run *run;
    int32_t            query, n_queries, last; /* last: positions its last row sees */
} tile_part;

/* A chunk is one kv head of a tile of rows. */
static void attn_chunk(void *ud, int32_t chunk, int32_t thread) {
    attn_job             *j = ud;
    const jpt_attn_shape *s = j->shape;
    const jpt_row_run    *r = j->runs;
    const int32_t         E = s->head_dim, width = width_of(j), group = s->n_heads / s->n_kv_heads, kv_head = chunk % s->n_kv_heads;
    int32_t               row = chunk / s->n_kv_heads * j->tile_rows, n_rows = j->n_rows - row < j->tile_rows ? j->n_rows - row : j->tile_rows;
    scratch               t = scratch_of(j, thread);
    const size_t          head = (size_t)kv_head * (size_t)E * (j->kv->kv_dtype == JPT_F16 ? sizeof(jpt_half) : sizeof(float));
    cpu_kv                kv = {.dtype = j->kv->kv_dtype, .k = (const char *)j->kv->d_k + head, .v = (const char *)j->kv->d_v + head,
                                .step = (size_t)s->n_kv_heads * (size_t)E, .head_dim = E, .width = width, .block = t.block};
    tile_part             part[TILE_QUERIES] = {{0}};
    int32_t               n_parts = 0, n = 0, shared = 0;
    memset(t.acc, 0, (size_t)(n_rows * group) * (size_t)width * sizeof(float));
    if (width > E) {
        memset(t.block, 0, 16 * (size_t)width * sizeof(float));
        memset(t.q, 0, (size_t)(n_rows * group) * (size_t)width * sizeof(float));
    }
    for (; row >= r->n_rows; r++)
        row -= r->n_rows;
    for (int32_t i = 0; i < n_rows; i++, row++) {
        if (row == r->n_rows) {
            r++;
            row = 0;
        }
        if (n_parts == 0 || part[n_parts - 1].run != r)
            part[n_parts++] = (tile_part){r, n, 0, 0};
        for (int32_t g = 0; g < group; g++, n++) {
            size_t at = ((size_t)(r->first_row + row) * (size_t)s->n_heads + (size_t)(kv_head * group + g)) * (size_t)E, k = (size_t)n * (size_t)width;
            t.query[n] = (cpu_query){.q = t.q + k, .acc = t.acc + k, 
                                      .score = t.score + (size_t)n * j->longest, .y = j->y + at, .n = r->first_pos + row + 1};
            memcpy(t.query[n].q, j->q + at, (size_t)E * sizeof(float));
        }
        part[n_parts - 1].n_queries = n - part[n_parts - 1].query;
        part[n_parts - 1].last = r->first_pos + row + 1;
    }
    shared = part[0].last;
    for (int32_t i = 1; i < n_parts; i++) {
        int32_t both = common_prefix(j, part[0].run, part[i].run);
        shared = both < shared ? both : shared;
    }
    find_slots(j, part[0].run, 0, shared, t.slots);
    j->c->k->attend_scores(&kv, t.slots, 0, shared, s->scale, t.query, n);
    for (int32_t i = 0; i < n_parts; i++) {
        find_slots(j, part[i].run, shared, part[i].last, t.slots);
        j->c->k->attend_scores(&kv, t.slots, shared, part[i].last, s->scale, t.query + part[i].query, part[i].n_queries);
    }
    j->c->k->attend_softmax(t.query, n);
    j->c->k->attend_values(&kv, t.slots, 0, shared, t.query, n);
    for (int32_t i = 0; i < n_parts; i++) {
        find_slots(j, part[i].run, shared, part[i].last, t.slots);
        j->c->k->attend_values(&kv, t.slots, shared, part[i].last, t.query + part[i].query, part[i].n_queries);
    }
    for (int32_t i = 0; i < n; i++)
        for (int32_t e = 0; e < E; e++)
            t.query[i].y[e] = t.query[i].acc[e] / t.query[i].sum;
}

void cpu_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs,
                   const float *q, float *y) {
    cpu_backend *c = (cpu_backend *)be;
    attn_job     job = {.c = c, .kv = kv, .shape = shape, .runs = runs, .layer = layer, .q = q, .y = y};
    double       work = 0;
    for (int32_t r = 0; r < n_runs; r++) {
        size_t n = (size_t)runs[r].first_pos + (size_t)runs[r].n_rows;
        job.n_rows += runs[r].n_rows;
        job.longest = n > job.longest ? n : job.longest;
        work += (double)runs[r].n_rows * (double)n;
    }
    work *= 4.0 * shape->n_heads * shape->head_dim;
    job.longest = (job.longest + 47) & ~(size_t)15;
    /* tiles as large as the threads leave it: two chunks a thread at least */
    int32_t group = shape->n_heads / shape->n_kv_heads, most = TILE_QUERIES / group > 1 ? TILE_QUERIES / group : 1;
    int32_t rows = job.n_rows * shape->n_kv_heads / (2 * jpt_pool_threads(c->pool));
    rows = rows < 1 ? 1 : rows > most ? most : rows;
    int32_t tiles = (job.n_rows + rows - 1) / rows;
    job.tile_rows = tiles ? (job.n_rows + tiles - 1) / tiles : 1;
    cpu_thread_room(c, scratch_floats(&job));
    cpu_share(c, attn_chunk, &job, (tiles ? (job.n_rows + job.tile_rows - 1) / job.tile_rows : 0) * shape->n_kv_heads, work);
}
