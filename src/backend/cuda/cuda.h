/* Inside the CUDA back-end. */
#ifndef JPT_CUDA_PRIV_H
#define JPT_CUDA_PRIV_H

#include "../host.h"
#include "driver.h"
#include "kernels.h"

enum { GRAPHS = 64, GRAPH_ROWS = 16, SLOTS = 4 };

#define KERNELS(X)                                                                                                         \
    X(quantize_rows) X(norm_quantize) X(narrow_weight) X(to_tiles) X(repack) X(embed) X(rmsnorm) X(rope) X(kv_write) X(attend_f16) X(attend_f32) X(narrow)                     \
    X(attend_64_1) X(attend_64_2) X(attend_64_3) X(attend_64_4) X(attend_128_1) X(attend_128_2) X(attend_128_3) X(attend_128_4)                   \
    X(swiglu) X(add) X(gather) X(argmax) X(rope_and_store) X(choose) X(best_k)
#define KERNEL_ID(name) KN_##name,
enum { KERNELS(KERNEL_ID) KN_COUNT };
typedef struct cuda_weight {
    dev_weight w;
    cu_pointer block;
} cuda_weight;

/* What a recorded pass is known by: everything that its launches hold fixed. */
typedef struct graph_key {
    jpt_pass_shape shape;
    int32_t        chunks;
} graph_key;
typedef struct recorded {
    graph_key     key;
    cu_graph_exec exec; /* NULL: seen once, not recorded */
} recorded;

typedef struct cuda_backend {
    jpt_backend   base;
    host_backend  host; /* selection on the host: scratch */
    cu_driver     cu;
    cu_device     device;
    cu_context    context;
    cu_module     module;
    cu_stream     stream;
    cu_function   kernel[KN_COUNT], matmul[K_PLAIN][4][3]; /* by rows of x (1, 2, 4, 8); one or two weight rows a warp, or a pair of gate and up */
    cu_function   tiled[K_COUNT - K_PLAIN][5][2];          /* 8, 16, 32, 64 rows of x, 8 with the norm before (16 bits alone); pairs */
    int           n_sm;
    bool          overlap; /* sm_90: kernels may start before their predecessor ends */
    char          name[96], uuid[48];
    cu_result     broken;
    /* a pass's inputs: on the host twice over, since the card may still read the last one's */
    int32_t      *in_host[SLOTS];
    cu_pointer    in_dev;
    size_t        in_cap; /* int32 */
    int           slot;
    const int32_t *tokens, *pos; /* host arrays that are on the card now */
    const jpt_row_run *runs;
    const int32_t *rows[2];
    size_t         at_tok, at_pos, at_table, at_tables, at_rows[2];
    int32_t        n, chunks;
    bool           in_pass, apart; /* apart: no row of the pass attends to another of it */
    /* scratch */
    cu_pointer xq, x16, y16, attn, done, work, arg, arg_done;
    size_t     xq_cap, x16_cap, y16_cap, attn_cap, done_cap, work_cap, arg_cap, arg_done_cap;
    /* selection: what the card reads and writes there, and the number of the call */
    char    *pick_host;
    unsigned call;
    size_t   pick_host_cap, host_row_cap;
    float *host_row;
    recorded graph[GRAPHS];
    int      n_graphs;
    bool     recording;
    float   *inv_freq_dev;
    const float *inv_freq_host;
} cuda_backend;

static inline cuda_backend *cuda_of(jpt_backend *be) { return (cuda_backend *)be; }

/* Keeps the first error; whether this call went well. */
bool       cuda_ok(cuda_backend *c, cu_result r);
jpt_status cuda_check(cuda_backend *c, jpt_error *err);
void       cuda_launch(cuda_backend *c, cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned threads, size_t shared, void **args);
#define LAUNCH(c, id, gx, gy, gz, threads, shared, ...) cuda_launch(c, (c)->kernel[KN_##id], (unsigned)(gx), (unsigned)(gy), (unsigned)(gz), threads, shared, (void *[]){__VA_ARGS__})
/* Scratch that grows; never while a pass is recorded (the first time a pass is seen it is run plainly). */
bool       cuda_room(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes);
void       cuda_download(jpt_backend *be, void *host, const void *d, size_t bytes);

/* Selection (select.c): on the card where the chain can run there, else on the host. */
jpt_status cuda_select(jpt_backend *be, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err);
jpt_status cuda_topk(jpt_backend *be, const float *d_logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                     float *out_score, int32_t *n_out, jpt_error *err);

#endif
