/* What changes from pass to pass: tokens, positions, page tables, rows wanted, and which rows share a past.  All of it goes over in
 * one piece to a fixed place, where recorded passes find it. */
#include "cuda.h"
#include <string.h>

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
 * forked from what, not on who else is in the batch; none do in a pass with a prompt or a tree (c->apart). */
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
void cuda_put_inputs(cuda_backend *c, const int32_t *tokens, const int32_t *pos, int32_t n, const jpt_row_run *runs, int32_t n_runs, int32_t page_size,
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

int *cuda_input(cuda_backend *c, size_t at) { return (int *)(uintptr_t)(c->in_dev + at * sizeof(int32_t)); }
