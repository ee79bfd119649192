/* Back-end: where tensors live and the operations on them.  One vtable; `ref` (plain C) is the
 * definition of every operation, `cpu` and later `cuda` are tested against it op by op.
 *
 * Pointers named d_* are in the back-end's memory (host memory for ref and cpu) and come from alloc();
 * offsets into them are allowed.  Everything else is host memory.  Activations are float32, row-major,
 * one row a position.  Operations enqueue: those that
 * give a result to the host wait (download, select, topk, similarity, row_dots, marks; on cuda upload and free, too).  Shape letters:
 * n rows, D model width, F ffn width, H heads, K kv heads, E head width, V vocabulary, L layers.
 *
 * Determinism, part of the contract: the result of a row does not depend on how many other rows
 * are in the call, on the number of threads, or on which sequences stand beside it.
 * One exception, on cuda but not in JPT_COMPUTE_F32: passes (outside of passes: calls) of 128 rows and more multiply
 * and attend in another order, in 16 bits what small passes do in 8 or 32 (activations on quantised weights and these
 * weights; queries, softmax weights, gate and up).  There a row differs from the same row in a pass of another size in the
 * last bits of such values; the same pass has the same bits every time.  Likewise rows of sequences that forked from one and
 * share their first 128 positions and more attend to these on the tensor cores (queries and softmax weights in 16 bits), a row that
 * is alone with them does not; nor do any where a prompt or a tree is in the same pass, or more than 512 rows. */
#ifndef JPT_BACKEND_H
#define JPT_BACKEND_H

#include <jpt/base.h>
#include <jpt/select.h>
#include <jpt/tensor.h>

typedef struct jpt_backend jpt_backend;
typedef struct jpt_weight  jpt_weight; /* a matrix [rows, cols] in the back-end's own layout */

typedef enum jpt_compute {
    JPT_COMPUTE_AUTO, /* the file's own codes times activations of 8 bits; cache in float16 */
    JPT_COMPUTE_F32,  /* weights dequantised to float32 at load, cache in float32: the exact path */
    JPT_COMPUTE_Q8,   /* cuda: as AUTO, and weights of 16 and 32 bits become 8-bit codes at load, a scale every 32 (as Q8_0) */
    JPT_COMPUTE_FP8,  /* cuda: likewise, to FP8 (e4m3) with a scale every 32; activations in float16 */
} jpt_compute;

typedef struct jpt_backend_options {
    int         n_threads; /* 0: one a physical core this process may use */
    jpt_compute compute;
    bool        in_place; /* cpu: leave weights where the file has them instead of repacking them at load: slower, same results */
    const char *isa; /* NULL: best; "avx2", "avx512", "scalar" to force one (tests) */
} jpt_backend_options;

typedef enum jpt_rope_kind { JPT_ROPE_NORMAL, JPT_ROPE_NEOX } jpt_rope_kind; /* pairs (2i,2i+1) | (i, i+E/2) */

/* Where the keys and values of a batch's rows live.  A page holds page_size positions of one layer;
 * position p of a sequence is slot p % page_size of page table[p / page_size].  K and V of layer l,
 * page g, slot s, kv head k start at ((((l * n_pages + g) * page_size + s) * K) + k) * E elements of
 * d_k / d_v, whose element type is kv_dtype (F16 or F32). */
typedef struct jpt_kv_view {
    void     *d_k, *d_v;
    jpt_dtype kv_dtype;
    int32_t   n_pages, page_size;
} jpt_kv_view;

/* One run of consecutive rows of one sequence in a batch. */
typedef struct jpt_row_run {
    int32_t        first_row, n_rows; /* rows of this sequence in the activation matrix */
    int32_t        first_pos;         /* position of the first of them; row i is at first_pos + i */
    const int32_t *table;             /* page table, covers first_pos + n_rows positions (already written pages included) */
} jpt_row_run;

typedef struct jpt_attn_shape {
    int32_t n_heads, n_kv_heads, head_dim;
    float   scale; /* usually 1/sqrt(head_dim) */
} jpt_attn_shape;

/* A whole layer: what the operations from the first norm to the second residual sum read and write. */
typedef struct jpt_layer_job {
    int32_t            layer, n, D, F, n_runs, rope_dim;
    float              eps;
    jpt_rope_kind      rope;
    const int32_t     *pos;      /* [n] host */
    const float       *inv_freq; /* [rope_dim / 2] host */
    const jpt_kv_view *kv;
    const jpt_attn_shape *shape;
    const jpt_row_run *runs;
    const float       *d_attn_norm, *d_ffn_norm, *d_next_norm; /* gains; the next one is that of the norm after this layer, if any */
    const float       *d_q_bias, *d_k_bias, *d_v_bias; /* biases NULL without */
    const jpt_weight  *q, *k, *v, *o, *gate, *up, *down;
    float             *d_x, *d_norm, *d_q, *d_k, *d_v, *d_attn, *d_gate, *d_up; /* d_x in and out, the others room */
} jpt_layer_job;

enum { JPT_CONTRAST_BASES = 64, JPT_MARKS = 32 }; /* bases: early exits of a pass, all of which may be contrasted */

/* One pass over the weights as a back-end sees it coming.  `shape` is all that its operations hold fixed apart from tokens,
 * positions, tables and row numbers: passes of equal shape (compared as bytes) are the same sequence of operations. */
typedef struct jpt_pass_shape {
    const void *session, *d_k, *d_logits, *d_hidden, *d_heads; /* the session's buffers */
    int32_t     n, n_logits, n_hidden, first_logits, first_hidden, all_logits, n_layers, n_exit, exit_without_norm, exit_layers[JPT_CONTRAST_BASES];
    int32_t     apart; /* no row attends to another row of the pass */
} jpt_pass_shape;
typedef struct jpt_pass_inputs {
    jpt_pass_shape     shape;
    const int32_t     *tokens, *pos;              /* [n] */
    const jpt_row_run *runs;                      /* [n_runs] */
    const int32_t     *logits_rows, *hidden_rows; /* [n_logits], [n_hidden] */
    int32_t            n_runs, page_size;
} jpt_pass_inputs;

typedef struct jpt_backend_ops {
    const char *name; /* "ref", "cpu", "cuda" */
    void (*close)(jpt_backend *be);
    /* One line for people and results: instruction set, threads, device name. */
    void (*describe)(const jpt_backend *be, char *out, size_t cap);
    const char *(*gpu_uuid)(const jpt_backend *be); /* NVML's name of the card, "GPU-..."; NULL: no card */

    void *(*alloc)(jpt_backend *be, size_t bytes); /* 64-byte aligned, zeroed; NULL when out of memory */
    void (*free)(jpt_backend *be, void *d);
    void (*upload)(jpt_backend *be, void *d, const void *host, size_t bytes);
    void (*download)(jpt_backend *be, void *host, const void *d, size_t bytes); /* waits */
    void (*sync)(jpt_backend *be);

    /* Optional (NULL: any): whether attention of this shape over such a cache can run here.  JPT_UNSUPPORTED says what it lacks. */
    jpt_status (*suits)(jpt_backend *be, const jpt_attn_shape *shape, jpt_dtype kv_dtype, jpt_error *err);

    /* A matrix from a mapped file.  `data` stays valid for the weight's life and may be used in place.
     * bytes_out (may be NULL) gets the memory it takes beyond the mapping. */
    jpt_status (*weight_new)(jpt_backend *be, jpt_dtype dtype, int32_t rows, int32_t cols, const void *data,
                             jpt_weight **out, size_t *bytes_out, jpt_error *err);
    void (*weight_free)(jpt_backend *be, jpt_weight *w);

    /* y[i, :] = row tokens[i] of w as float32 (dequantised exactly as jpt_dequantize_row). */
    void (*embed)(jpt_backend *be, const jpt_weight *w, const int32_t *tokens, int32_t n, float *d_y);
    /* y = x / sqrt(mean(x^2) + eps) * gain, row-wise; gain [D] f32. */
    void (*rmsnorm)(jpt_backend *be, const float *d_x, const float *d_gain, int32_t n, int32_t D, float eps, float *d_y);
    /* y[n, rows] = x[n, cols] w^T (+ bias[rows] when non-NULL). */
    void (*matmul)(jpt_backend *be, const jpt_weight *w, const float *d_x, int32_t n, const float *d_bias, float *d_y);
    /* y[k] = x w[k]^T (+ bias[k]) for 1 to 4 matrices on the same x, the same bits as one by one.  NULL: use matmul.  bias may be NULL. */
    void (*matmul_many)(jpt_backend *be, const jpt_weight *const *w, int32_t n_w, const float *d_x, int32_t n, const float *const *d_bias,
                        float *const *d_y);
    /* Rotate x[n, n_heads, E] in place.  pos[n] host; inv_freq [rope_dim/2] host f32, already divided by
     * any scaling factor; dimensions >= rope_dim stay. */
    void (*rope)(jpt_backend *be, float *d_x, int32_t n, int32_t n_heads, int32_t head_dim, int32_t rope_dim,
                 jpt_rope_kind kind, const int32_t *pos, const float *inv_freq);
    /* Store k, v [n, K, E] of layer `layer` at the rows' positions. */
    void (*kv_write)(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape,
                     const jpt_row_run *runs, int32_t n_runs, const float *d_k, const float *d_v);
    /* Causal attention of q [n, H, E] over each row's own sequence up to and including its position. */
    void (*attention)(jpt_backend *be, const jpt_kv_view *kv, int32_t layer, const jpt_attn_shape *shape,
                      const jpt_row_run *runs, int32_t n_runs, const float *d_q, float *d_y);
    /* Copy one page (all layers, keys and values) to another: the one copy of a copy-on-write fork. */
    void (*kv_copy_page)(jpt_backend *be, const jpt_kv_view *kv, int32_t n_layers, const jpt_attn_shape *shape,
                         int32_t from, int32_t to);
    /* y = silu(gate) * up, n floats. */
    void (*swiglu)(jpt_backend *be, const float *d_gate, const float *d_up, size_t n, float *d_y);
    /* x += y, n floats. */
    void (*add)(jpt_backend *be, float *d_x, const float *d_y, size_t n);
    /* y[i, :] = x[rows[i], :]; rows host. */
    void (*gather)(jpt_backend *be, const float *d_x, const int32_t *rows, int32_t n, int32_t D, float *d_y);

    /* Selection over d_logits [*, V]; semantics of select.h, every field of out (NAN where it says so); waits for the result. */
    jpt_status (*select)(jpt_backend *be, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n,
                         jpt_selected *out, jpt_error *err);
    jpt_status (*topk)(jpt_backend *be, const float *d_logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index,
                       int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err);
    /* y[i, :] = x[i, :], with `unit` divided by its length (a zero row stays).  D columns. */
    void (*keep_rows)(jpt_backend *be, const float *d_x, int32_t n, int32_t D, bool unit, float *d_y);
    /* out[i] = the largest of h[j] . x[i] / |x[i]| over j < m; n, m >= 1; h [m, D] holds unit rows.  Contrastive search's penalty
     * (Su et al. 2022).  Waits. */
    jpt_status (*similarity)(jpt_backend *be, const float *d_x, int32_t n, int32_t D, const float *d_h, int32_t m, float *out, jpt_error *err);
    /* out[i] = h[a[i]] . h[b[i]], i < n; a, b host.  Waits. */
    jpt_status (*row_dots)(jpt_backend *be, const float *d_h, int32_t D, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err);
    /* Contrast rows[0..n) of d_logits [*, V] in place (jpt_contrast_row); row rows[i] of d_logp gets the expert's ln p.  Its bases are
     * rows e * stride + base_rows[i] of d_base, e < n_base <= JPT_CONTRAST_BASES, undefined afterwards; several only for DOLA.  A
     * back-end that does not wait leaves rows of NaN where the logits are no distribution: selection tells. */
    jpt_status (*contrast)(jpt_backend *be, const jpt_contrast *how, float *d_logits, int32_t V, const int32_t *rows, int32_t n, float *d_base, int32_t n_base,
                           int32_t stride, const int32_t *base_rows, float *d_logp, jpt_error *err);
    /* Optional (NULL): a layer in one call, for back-ends that fuse.  The same bits as the operations one by one, unless the back-end
     * says otherwise. */
    void (*layer)(jpt_backend *be, const jpt_layer_job *job);
    /* Optional (NULL): the LM head, y[i, :] = rmsnorm(x[rows[i], :]) w^T for n of the n_x rows of a pass, rows ascending; d_gather and
     * d_norm are room for n rows. */
    void (*logits)(jpt_backend *be, const jpt_weight *w, const float *d_x, int32_t n_x, const int32_t *rows, int32_t n, const float *d_gain, float eps, float *d_gather,
                   float *d_norm, float *d_y);
    /* Optional (NULL): a pass begins, and true when it is done already, so that its operations must not be called: a recorded one
     * was replayed.  Otherwise the operations follow, then pass_end with the same inputs; false: the pass was recorded but not done, its
     * operations are to be called once more, and pass_end after them. */
    bool (*pass_begin)(jpt_backend *be, const jpt_pass_inputs *in);
    bool (*pass_end)(jpt_backend *be, const jpt_pass_inputs *in);
    /* Optional (NULL: nothing fails behind the host's back): the first error of operations so far; they did nothing after it. */
    jpt_status (*status)(jpt_backend *be, jpt_error *err);
    /* Optional (NULL: operations are done when they return, the host's clock tells): a mark behind everything enqueued so far, at
     * most JPT_MARKS before their times are asked for. */
    void (*mark)(jpt_backend *be);
    /* When the back-end passed its n marks, oldest first, on the host's clock (jpt_now_ns); waits for them and forgets them.  n = 0:
     * waits for everything and compares the clocks anew. */
    void (*marks)(jpt_backend *be, int64_t *t_ns, int32_t n);
} jpt_backend_ops;

struct jpt_backend {
    const jpt_backend_ops *ops;
    jpt_backend_options    opt;
};

/* Open a back-end by name: "ref", "cpu" ("cuda" when built in), "cuda:N", or "auto": $JPT_DEVICE, else cpu.
 * JPT_UNSUPPORTED says why not. */
jpt_status jpt_backend_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err);
void       jpt_backend_close(jpt_backend *be); /* NULL accepted */

#endif
