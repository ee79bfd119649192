/* What the host and the kernels of the CUDA back-end both know: plain structs, passed by value. */
#ifndef JPT_CUDA_KERNELS_H
#define JPT_CUDA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { ATTN_CHUNK = 128, SHARED_ROWS = 16, MM_PARTS = 3, STAGED_GAIN = 4096, SCALES_SLACK = 8 };

/* How activations are written: eight bits in groups of 32 with a scale and a scaled sum each. */
enum { TO_F32, TO_F16, TO_BF16, TO_Q8 };

/* GGUF's type numbers, for repack */
enum { T_Q4_0 = 2, T_Q4_1 = 3, T_Q5_0 = 6, T_Q5_1 = 7, T_Q8_0 = 8, T_Q4_K = 12, T_Q5_K = 13, T_Q6_K = 14 };

/* How a matrix lies on the card: rows side by side, or in tiles for the tensor cores (tiled.cuh). */
enum { K_F32, K_F16, K_BF16, K_T16, K_TB16, K_TF8, K_T8, K_T8M, K_T8H, K_T4, K_T4C, K_COUNT, K_PLAIN = K_T16 };

/* Columns of a unit of a tile, and 32-bit words of scales a pair of its rows. */
#define TILE_COLS(kind)  ((kind) <= K_TB16 || (kind) >= K_T4 ? 64 : 32)
#define TILE_WORDS(kind) ((kind) <= K_TB16 ? 0 : (kind) == K_T8 || (kind) == K_TF8 ? 1 : (kind) == K_T4 ? 4 : 2)

typedef struct dev_weight {
    const void *q, *s; /* s: scales, float16 */
    int         rows, cols, kind;
} dev_weight;

/* y[n, rows] (+)= x[n, cols] w^T (+ bias), for up to three matrices of one kind that share x. */
typedef struct mm_part {
    dev_weight   w;
    const float *bias;
    float       *y;
    int          first_block;
} mm_part;
/* Rows as the tensor cores take them: in 16 bits, or in eight with a scale and a scaled sum a group of 32 columns.  Rows with `squares`
 * carry the norm's gain, not yet its scale, which is the same for a whole row: products of them are multiplied by it. */
typedef struct dev_rows {
    void  *q;       /* [n, cols] */
    float *s, *t;   /* of 8 bits: [cols / 32, pad], and SCALES_SLACK behind */
    float *squares; /* [n, cols / 16] sums of squares before the gain; NULL: nothing is to be done */
    int    pad;
} dev_rows;
typedef struct mm_job {
    mm_part      part[MM_PARTS];
    const float *x;        /* rows in float32 */
    const float *gain;     /* tiles of float16, one row: of the RMS norm that comes before, NULL: none */
    dev_rows     in;       /* tiles: the rows; q NULL: one row of x, to be brought by each block */
    dev_rows     out;      /* a pair's result, or (out_gain) y for the norm that comes next; q NULL: not wanted */
    const float *out_gain;
    float        eps;
    int          n_parts, n, accumulate;
} mm_job;

typedef struct dev_kv {
    void *k, *v;
    int   n_pages, page_size, width, f16; /* width: kv heads x head size */
} dev_kv;

typedef struct rope_job {
    float       *q, *k;
    const float *v, *turns; /* turns: [n, half] cosine and sine of the rows' angles */
    const int   *pos, *row_table, *tables;
    int          layer, heads, kv_heads, E, half, neox;
} rope_job;

/* Many rows whose projections lie side by side: [n, heads of q, of k, of v, E]; half <= JOINED_PAIRS. */
enum { JOINED_PAIRS = 128 };
typedef struct joined_job {
    rope_job     r; /* r.q gets the rotated queries; r.k, r.v are not used */
    const float *x, *q_bias, *k_bias, *v_bias; /* biases, which x lacks: NULL without */
} joined_job;

typedef struct attn_job {
    dev_kv       kv;
    const float *q, *k, *v, *turns; /* k, v, turns (as rope_job): fused */
    const int   *pos, *row_table, *tables; /* row i: position pos[i], page table at tables + row_table[i] */
    const int   *tiles, *skip;             /* attend_shared: pairs (first row, rows + 256 x chunks that are common to them); chunks of row i that it does */
    float       *out, *most, *sum;         /* partial results, [n, heads, chunks] (x E) */
    unsigned    *done;                     /* [n, kv heads x parts] chunks that are there; zero between launches */
    dev_rows     y;                        /* [n, heads, E] in the form `to` */
    float        scale;
    int          layer, heads, group, E, chunks, to, parts, fused, half, neox, skipped; /* parts: blocks that share a kv head's queries; skipped: chunks that no row does here */
} attn_job;

/* ---- attention of whole runs (flash.cu): a block takes FLASH_ROWS rows of one run and one head */
enum { FLASH_ROWS = 128, FLASH_KEYS = 64, FLASH_THREADS = 128, FLASH_RUNS = 64 };
typedef struct flash_run {
    int first_row, n_rows, first_tile; /* rows first_row .. of the pass; its blocks begin at first_tile */
} flash_run;
typedef struct flash_job {
    dev_kv       kv;
    const float *q;                        /* [n, heads, E], rotated */
    const int   *pos, *row_table, *tables; /* as in attn_job */
    void        *y;                        /* [n, heads, E] in the form `to`, not TO_Q8 */
    float        scale;
    int          layer, heads, group, to, n_runs, n_tiles;
    flash_run    run[FLASH_RUNS];
} flash_job;
/* Queries, and two tiles of keys and of values, and where their rows lie. */
#define FLASH_SHARED(E) ((FLASH_ROWS + 4 * FLASH_KEYS) * (E) * 2 + 2 * FLASH_KEYS * 4)

/* ---- selection */
enum { D_EDITS, D_TEMPERATURE, D_TOP_K, D_TOP_P, D_MIN_P, D_EPSILON, D_ETA, D_TYPICAL, D_TOP_H, D_TOP_N_SIGMA, D_TOP_A, D_P_LESS, D_XTC, D_SURPRISE, D_NORMALIZE, D_DYNAMIC_TEMPERATURE, D_SMOOTHING,
       D_ALLOWED, /* the edits' ids stay */
       D_ZIPF, D_AIM, D_GUARD }; /* D_GUARD: edits of ids with their counts, then n = min(second, value) more with the last entropies; value: the
                                  * window, mass and third: weighted sum and weight of all `second` of them */
enum { E_ADD, E_PENALTY, E_BAN, E_GROW, E_SET };
typedef struct edit { /* of one id's score */
    int   id, op;
    float value;
} edit;
typedef struct dev_link {
    int    kind, count, first; /* edits [first, first + count) */
    float  value;              /* the link's three values, the first as float too */
    double mass, second, third;
} dev_link;
enum { DEV_LINKS = 20 };

/* A row is shared out to blocks of PICK_THREADS, PICK_PART scores each, at most PICK_PARTS. */
enum { PICK_PART = 4096, PICK_THREADS = 512, PICK_PARTS = 128, PICK_BINS = 1024, PICK_SLOT = 64, PICK_INLINE = 4 };
typedef struct choose_job {
    int      row, n_links, sample, keep; /* keep: min_tokens_to_keep */
    double   u;
    dev_link link[DEV_LINKS];
} choose_job;
/* Results lie in host memory; `ready` is written last, the number of the call. */
typedef struct choose_result {
    int      status, token, n_kept; /* status 1: no finite logit; 2: nothing is left; 3: a NaN */
    float    logprob, entropy, kept_prob, seen, seen_entropy; /* seen: ln p in what the last of D_ZIPF, D_AIM, D_GUARD saw */
    unsigned ready;
} choose_result;
typedef struct choose_args {
    const float        *logits;
    const choose_job   *jobs; /* [n], where they are more than PICK_INLINE */
    const edit         *edits;
    float              *write;   /* not NULL: [n, V] gets the rows after their chains, and nothing is chosen */
    void               *slots;   /* [n, 2, parts] of PICK_SLOT bytes: what a part tells the others */
    unsigned long long *bins;    /* [n, 3, PICK_BINS], zero between launches, as is */
    unsigned           *arrived; /* [2 + n]: blocks begun, rows done, blocks at a row's barriers */
    choose_result      *out;
    int                 V, n, parts;
    unsigned            call;
    choose_job          job[PICK_INLINE];
} choose_args;

/* ---- rows of scores in parts, a block a part */
enum { ROW_PART = 4096, ROW_THREADS = 256, ROW_EACH = ROW_PART / ROW_THREADS };
typedef struct row_part {
    float most, sum; /* the largest, and the sum of exp(z - it) */
    int   bad;       /* a NaN */
} row_part;

/* ---- the k best */
typedef struct rank_job {
    int      row, n_links, log_first, scored, perturb; /* as in jpt_score_item */
    float    bias;
    uint32_t seed_low, seed_high, prompt, sequence, step; /* of the noise */
    dev_link link[DEV_LINKS];
} rank_job;
typedef struct rank_entry {
    float z, noise;
    int   id;
} rank_entry;
typedef struct rank_row {
    int   status, n;     /* status 1: no finite logit; 2: nothing is left */
    float most, log_sum; /* score = bias + (z - most) - log_sum; 0 where z is a score */
} rank_row;

/* ---- contrast */
enum { C_DOLA, C_LOGITS, C_LOGPROBS }; /* as jpt_contrast_form */
enum { CONTRAST_ROWS = 64, CONTRAST_BASES = 64 };
typedef struct contrast_job {
    float       *logits, *logp;
    const float *base;   /* base e of row i: row e * stride + base_row[i] */
    row_part    *parts;  /* [rows, 1 + n_base, n_parts] */
    double      *js;     /* [rows, n_parts, n_base] */
    int         *chosen; /* [rows] */
    unsigned    *done;   /* [rows] parts that are there; zero between launches */
    int          V, n_parts, n_base, stride, form;
    float        beta, temperature, log_top;
    int          row[CONTRAST_ROWS], base_row[CONTRAST_ROWS];
} contrast_job;

enum { ARGMAX_PARTS = 32 };
typedef struct greedy_part {
    int   token, nan;
    float best, sum, dot;
} greedy_part;
typedef struct greedy_result {
    int      token, finite;
    float    logprob, entropy;
    unsigned ready;
} greedy_result;

#endif
