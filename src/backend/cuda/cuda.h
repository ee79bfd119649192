/* Inside the CUDA back-end. */
#ifndef JPT_CUDA_PRIV_H
#define JPT_CUDA_PRIV_H

#include "../host.h"
#include "driver.h"
#include "kernels.h"

enum { GRAPHS = 64, GRAPH_ROWS = 64, SLOTS = 4, ATTN_ROWS = 512 };

/* Files of kernels, each a module on the card, and the kernels that are in them; besides these, kernels.cu has the products (cuda.c). */
#define CUDA_FILES(X) X(attention) X(choose) X(contrast) X(flash) X(kernels) X(prefill) X(rank)
#define KERNELS(X)                                                                                                         \
    X(attention, rope) X(attention, kv_write) X(attention, rope_and_store) X(attention, attend_f16) X(attention, attend_f32) X(attention, attend_64_1) X(attention, attend_64_2) \
    X(attention, attend_64_3) X(attention, attend_64_4) X(attention, attend_128_1) X(attention, attend_128_2) X(attention, attend_128_3) X(attention, attend_128_4)         \
    X(attention, attend_shared_64) X(attention, attend_shared_128)                                                         \
    X(choose, choose)                                                                                                      \
    X(contrast, keep_rows) X(contrast, similarity_8) X(contrast, similarity_32) X(contrast, row_dots) X(contrast, contrast_stats) X(contrast, dola_divergence) X(contrast, contrast_write) \
    X(flash, flash_64) X(flash, flash_128)                                                                                 \
    X(kernels, bring_rows) X(kernels, narrow_weight) X(kernels, to_tiles) X(kernels, repack) X(kernels, embed) X(kernels, turn_rows) X(kernels, rmsnorm) X(kernels, swiglu)  \
    X(kernels, add) X(kernels, gather) X(kernels, argmax)                                                                  \
    X(prefill, untile_16) X(prefill, untile_f8) X(prefill, untile_i8) X(prefill, untile_i8m) X(prefill, untile_i8h) X(prefill, untile_i4) X(prefill, untile_i4c)             \
    X(prefill, rope_joined) X(prefill, narrow_16) X(prefill, swiglu_16)                                                    \
    X(rank, rank_stats) X(rank, rank_rows)
#define CUDA_FILE_ID(file)    CF_##file,
#define KERNEL_ID(file, name) KN_##name,
enum { CUDA_FILES(CUDA_FILE_ID) CF_COUNT };
enum { KERNELS(KERNEL_ID) KN_COUNT };
typedef struct cuda_weight {
    dev_weight w;
    cu_pointer block;
} cuda_weight;

/* What a recorded pass is known by: everything that its launches hold fixed. */
typedef struct graph_key {
    jpt_pass_shape shape;
    int32_t        chunks, tiles, skipped;
} graph_key;
typedef struct recorded {
    graph_key     key;
    cu_graph_exec exec; /* NULL: seen once, not recorded */
} recorded;

typedef struct rows_buffer {
    cu_pointer p;
    size_t     cap;
} rows_buffer;
typedef struct cuda_prefill cuda_prefill; /* prefill.c */

typedef struct cuda_backend {
    jpt_backend   base;
    host_backend  host; /* selection on the host: scratch */
    cu_driver     cu;
    cu_device     device;
    cu_context    context;
    cu_module     module[CF_COUNT];
    cu_stream     stream;
    cu_function   kernel[KN_COUNT], matmul[K_PLAIN][4][3]; /* by rows of x (1, 2, 4, 8); one or two weight rows a warp, or a pair of gate and up */
    cu_function   tiled[K_COUNT - K_PLAIN][5][2];          /* 8, 16, 32, 64 rows of x, one that is staged; pairs */
    int           n_sm, shared_most; /* bytes of shared memory that a block of `attend` may have */
    bool          overlap; /* sm_90: kernels may start before their predecessor ends */
    char          name[96], uuid[48];
    cu_result     broken;
    char          why[256]; /* what broke, where it is not the driver's word */
    /* a pass's inputs: on the host SLOTS times over, since the card may still read the last one's */
    int32_t      *in_host[SLOTS];
    cu_pointer    in_dev;
    size_t        in_cap; /* int32 */
    int           slot;
    const int32_t *tokens, *pos; /* host arrays that are on the card now */
    const jpt_row_run *runs;
    const int32_t *rows[2];
    size_t         at_tok, at_pos, at_table, at_tables, at_rows[2], at_skip, at_tiles;
    int32_t        n, chunks, n_tiles, skipped; /* n_tiles: of rows that share a past; skipped: chunks that all of them leave to these */
    bool           in_pass, apart; /* apart: no row of the pass attends to another of it */
    /* scratch */
    rows_buffer normed, acts, brought; /* rows for products: of the next norm; attention's and the gate's; of anything else */
    cu_pointer turns, attn, done, work, pick, arg, arg_done, look, look_done;
    size_t     turns_cap, attn_cap, done_cap, work_cap, pick_cap, arg_cap, arg_done_cap, look_cap, look_done_cap;
    struct {
        const float *x, *gain;
        int          n, to;
    } ready; /* what `normed` holds: rows of x with the gain; x NULL: nothing */
    /* selection: what goes to the card and what comes back, host side */
    char    *pick_host;
    unsigned call; /* the number of a choice that the card reports into host memory */
    size_t   pick_host_cap, host_row_cap;
    float *host_row;
    recorded graph[GRAPHS];
    int      n_graphs;
    bool     recording, plainly; /* plainly: no memory for recorded passes, until a session ends */
    cu_event mark[JPT_MARKS], origin; /* marks.c */
    int64_t  origin_ns;
    int      n_marks;
    float   *inv_freq_dev;
    const float *inv_freq_host;
    int          half;
    bool         turned; /* this pass's angles are in `turns` */
    cuda_prefill *prefill; /* cuBLASLt for passes of many rows; NULL: it is not there */
    bool          flash;   /* flash.cu's kernels run here */
} cuda_backend;

/* The thread's context becomes this back-end's: there may be several cards, and several threads. */
extern _Thread_local cu_context cuda_current;
static inline cuda_backend     *cuda_of(jpt_backend *be) {
    cuda_backend *c = (cuda_backend *)be;
    if (c->context && c->context != cuda_current && c->cu.context_set(c->context) == CU_OK)
        cuda_current = c->context;
    return c;
}

/* Keeps the first error; whether this call went well. */
bool       cuda_ok(cuda_backend *c, cu_result r);
jpt_status cuda_check(cuda_backend *c, jpt_error *err);
void       cuda_launch(cuda_backend *c, cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned threads, size_t shared, void **args);
static inline unsigned cuda_blocks(size_t n, unsigned each) { return (unsigned)((n + each - 1) / each); }
#define LAUNCH(c, id, gx, gy, gz, threads, shared, ...) cuda_launch(c, (c)->kernel[KN_##id], (unsigned)(gx), (unsigned)(gy), (unsigned)(gz), threads, shared, (void *[]){__VA_ARGS__})
/* Scratch that grows; never while a pass is recorded (the first time a pass is seen it is run plainly). */
bool       cuda_room(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes);
void      *cuda_alloc(jpt_backend *be, size_t bytes);
void       cuda_upload(jpt_backend *be, void *d, const void *host, size_t bytes);
void       cuda_download(jpt_backend *be, void *host, const void *d, size_t bytes);

/* Room for `up` bytes to the card and `down` bytes back (select.c): the host writes c->pick_host, cuda_send takes it to c->pick; what
 * kernels write from cuda_back(up) on comes back with cuda_receive, which waits. */
jpt_status cuda_stage(cuda_backend *c, size_t up, size_t down, jpt_error *err);
void       cuda_send(cuda_backend *c, size_t up);
jpt_status cuda_receive(cuda_backend *c, size_t up, size_t down, void **out, jpt_error *err);
static inline size_t cuda_back(size_t up) { return (up + 255) & ~(size_t)255; }
static inline void  *cuda_staged(const cuda_backend *c, size_t at) { return (void *)(uintptr_t)(c->pick + at); }
/* Scratch of counters: zeroed when it grows. */
bool cuda_zeros(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes);

/* When the card passed places in its stream (marks.c). */
void cuda_mark(jpt_backend *be);
void cuda_marks(jpt_backend *be, int64_t *t_ns, int32_t n);
void cuda_marks_fini(cuda_backend *c);

/* Weights (weights.c). */
jpt_status cuda_weight_new(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data, jpt_weight **out, size_t *bytes_out, jpt_error *err);
void       cuda_weight_free(jpt_backend *be, jpt_weight *weight);
static inline const dev_weight *cuda_dev(const jpt_weight *w) { return &((const cuda_weight *)w)->w; }

/* A pass's inputs to the card (inputs.c): n rows' tokens (NULL: none) and positions, runs with their page tables, and two lists of
 * rows; cuda_input: where one of them lies (c->at_...), until the next call. */
void cuda_put_inputs(cuda_backend *c, const int32_t *tokens, const int32_t *pos, int32_t n, const jpt_row_run *runs, int32_t n_runs, int32_t page_size, const int32_t *rows0, int32_t n0,
                     const int32_t *rows1, int32_t n1);
int *cuda_input(cuda_backend *c, size_t at);

/* Products and layers (layer.c); row by row (cuda.c). */
void cuda_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y);
void cuda_matmul(jpt_backend *be, const jpt_weight *weight, const float *x, int32_t n, const float *bias, float *y);
void cuda_layer(jpt_backend *be, const jpt_layer_job *l);
void cuda_logits(jpt_backend *be, const jpt_weight *weight, const float *d_x, int32_t n_x, const int32_t *rows, int32_t n, const float *gain, float eps, float *d_gather, float *d_norm,
                 float *d_y);
void cuda_swiglu(jpt_backend *be, const float *gate, const float *up, size_t n, float *y);
void cuda_gather(jpt_backend *be, const float *x, const int32_t *rows, int32_t n, int32_t D, float *y);

/* Attention (attend.c). */
void cuda_rope(jpt_backend *be, float *x, int32_t n, int32_t heads, int32_t E, int32_t rope_dim, jpt_rope_kind kind, const int32_t *pos, const float *inv_freq);
void cuda_kv_write(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *k, const float *v);
void cuda_attention(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape, const jpt_row_run *runs, int32_t n_runs, const float *q, float *y);
void cuda_kv_copy_page(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape, int32_t from, int32_t to);
/* Keys and values of a chunk, and the queries of four warps: what attend_shared takes of a block's memory. */
static inline size_t cuda_shared_attention_bytes(int E) { return (size_t)(2 * ATTN_CHUNK + 4 * SHARED_ROWS) * (size_t)(E + 8) * 2; }
/* Whether attention of this shape can run: how much shared memory a block of `attend` takes depends on the model. */
jpt_status cuda_suits(jpt_backend *be, const jpt_attn_shape *shape, jpt_dtype kv_dtype, jpt_error *err);
/* Whether attention has a kernel for heads of this width, which rotates, stores and writes in any form. */
bool cuda_attends_wide(jpt_dtype kv_dtype, int E);
/* From a layer's projections in d_q, d_k, d_v to attention's result y, in the form `to`, through the cache. */
void cuda_attend_layer(cuda_backend *c, const jpt_layer_job *l, const dev_rows *y, int to);
/* The same from all three side by side, [n, H + 2K, E], to which biases are still to be added. */
void cuda_attend_joined(cuda_backend *c, const jpt_layer_job *l, const float *qkv, void *y, int to);

/* Looking back (look.c). */
void       cuda_keep_rows(jpt_backend *be, const float *d_x, int32_t n, int32_t D, bool unit, float *d_y);
jpt_status cuda_similarity(jpt_backend *be, const float *d_x, int32_t n, int32_t D, const float *d_h, int32_t m, float *out, jpt_error *err);
jpt_status cuda_row_dots(jpt_backend *be, const float *d_h, int32_t D, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err);
jpt_status cuda_contrast(jpt_backend *be, const jpt_contrast *how, float *d_logits, int32_t V, const int32_t *rows, int32_t n, float *d_base, int32_t n_base, int32_t stride,
                         const int32_t *base_rows, float *d_logp, jpt_error *err);

/* A chain as the card runs it (links.c): link[DEV_LINKS], their edits appended to e (its e is the caller's to free).  *known becomes false where
 * it has too many links. */
typedef struct edits {
    edit  *e;
    size_t n, cap;
    bool   oom;
} edits;
jpt_status cuda_links(cuda_backend *c, const jpt_select_item *it, int32_t V, dev_link *link, int *n, edits *e, bool *known, jpt_error *err);

/* Selection (select.c): on the card where the chain can run there, else on the host. */
jpt_status cuda_select(jpt_backend *be, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err);
jpt_status cuda_topk(jpt_backend *be, const float *d_logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                     float *out_score, int32_t *n_out, jpt_error *err);

#endif
