/* GGUF v2/v3 parser over a byte range.  Invariant: `at` never passes `n`, and every pointer stored in the
 * result lies in [p, p + n). */
#include <jpt/format.h>
#include <string.h>

typedef struct reader {
    const char    *path;
    const uint8_t *p;
    size_t         n, at;
    jpt_error     *err;
} reader;

static const uint8_t type_bytes[JPT_GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

const char *jpt_gguf_type_name(jpt_gguf_type t) {
    static const char *const names[JPT_GGUF_TYPE_COUNT] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32",
                                                           "bool", "string", "array", "u64", "i64", "f64"};
    return t < JPT_GGUF_TYPE_COUNT ? names[t] : "?";
}

static jpt_status truncated(reader *r, const char *what) {
    return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: the file ends inside %s; the download may be incomplete", r->path, r->at, what);
}

static jpt_status read_bytes(reader *r, size_t n, const char *what, const uint8_t **out) {
    if (n > r->n - r->at)
        return truncated(r, what);
    *out = r->p + r->at;
    r->at += n;
    return JPT_OK;
}

static jpt_status read_u32(reader *r, const char *what, uint32_t *out) {
    const uint8_t *p = NULL;
    JPT_TRY(read_bytes(r, 4, what, &p));
    memcpy(out, p, 4);
    return JPT_OK;
}

static jpt_status read_u64(reader *r, const char *what, uint64_t *out) {
    const uint8_t *p = NULL;
    JPT_TRY(read_bytes(r, 8, what, &p));
    memcpy(out, p, 8);
    return JPT_OK;
}

static jpt_status read_string(reader *r, const char *what, jpt_str *out) {
    uint64_t n = 0;
    JPT_TRY(read_u64(r, what, &n));
    if (n > r->n - r->at)
        return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: %s says %llu bytes, only %zu are left in the file", r->path, r->at - 8, what,
                        (unsigned long long)n, r->n - r->at);
    const uint8_t *p = NULL;
    JPT_TRY(read_bytes(r, (size_t)n, what, &p));
    *out = (jpt_str){(const char *)p, (size_t)n};
    return JPT_OK;
}

static jpt_status read_name(reader *r, const char *what, jpt_str *out) {
    size_t at = r->at;
    JPT_TRY(read_string(r, what, out));
    if (out->n == 0 || out->n > 65535)
        return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: %s has %zu bytes, expected 1 to 65535", r->path, at, what, out->n);
    if (jpt_utf8_valid_prefix(out->p, out->n) != out->n || memchr(out->p, 0, out->n))
        return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: %s is not valid UTF-8", r->path, at, what);
    return JPT_OK;
}

/* Skip n values of a type; arrays nest at most 4 deep. */
static jpt_status skip_values(reader *r, uint32_t type, uint64_t n, int depth) {
    const uint8_t *p = NULL;
    if (type >= JPT_GGUF_TYPE_COUNT)
        return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: unknown metadata type %u (known: 0 to 12)", r->path, r->at - 4, type);
    if (type == JPT_GGUF_STRING) {
        if (n > (r->n - r->at) / 8)
            return truncated(r, "an array of strings");
        jpt_str s;
        for (uint64_t i = 0; i < n; i++)
            JPT_TRY(read_string(r, "a metadata string", &s));
        return JPT_OK;
    }
    if (type == JPT_GGUF_ARRAY) {
        if (depth >= 4)
            return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: metadata arrays nest deeper than 4", r->path, r->at);
        if (n > (r->n - r->at) / 12)
            return truncated(r, "an array of arrays");
        for (uint64_t i = 0; i < n; i++) {
            uint32_t inner = 0;
            uint64_t count = 0;
            JPT_TRY(read_u32(r, "an array type", &inner));
            JPT_TRY(read_u64(r, "an array length", &count));
            JPT_TRY(skip_values(r, inner, count, depth + 1));
        }
        return JPT_OK;
    }
    size_t total;
    if (n > r->n || !jpt_mul_size((size_t)n, type_bytes[type], &total))
        return truncated(r, "a metadata array");
    JPT_TRY(read_bytes(r, total, "a metadata value", &p));
    if (type == JPT_GGUF_BOOL)
        for (size_t i = 0; i < total; i++)
            if (p[i] > 1)
                return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: a boolean is %u, expected 0 or 1", r->path, r->at - total + i, p[i]);
    return JPT_OK;
}

static jpt_status read_kv(reader *r, jpt_gguf_kv *kv) {
    uint32_t type = 0;
    JPT_TRY(read_name(r, "a metadata key", &kv->key));
    JPT_TRY(read_u32(r, "a metadata type", &type));
    kv->type = (jpt_gguf_type)type;
    kv->n_items = 1;
    uint32_t item = type;
    if (type == JPT_GGUF_ARRAY) {
        JPT_TRY(read_u32(r, "an array type", &item));
        JPT_TRY(read_u64(r, "an array length", &kv->n_items));
    }
    kv->item_type = (jpt_gguf_type)item;
    kv->data = r->p + r->at;
    size_t before = r->at;
    JPT_TRY(skip_values(r, item, kv->n_items, 1));
    kv->size = r->at - before;
    return JPT_OK;
}

static jpt_status read_tensor_info(reader *r, jpt_tensor_view *t, uint64_t *offset, uint64_t alignment) {
    uint32_t n_dims = 0, type = 0;
    JPT_TRY(read_name(r, "a tensor name", &t->name));
    JPT_TRY(read_u32(r, "a tensor's dimensions", &n_dims));
#define NAME (int)(t->name.n < 64 ? t->name.n : 64), t->name.p
    if (n_dims < 1 || n_dims > 4)
        return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: tensor '%.*s' has %u dimensions, expected 1 to 4", r->path, r->at - 4, NAME, n_dims);
    t->n_dims = (int32_t)n_dims;
    uint64_t rows = 1;
    for (uint32_t i = 0; i < 4; i++) {
        t->ne[i] = 1;
        if (i < n_dims) {
            JPT_TRY(read_u64(r, "a tensor's dimensions", &t->ne[i]));
            if (t->ne[i] == 0 || t->ne[i] > INT32_MAX)
                return JPT_FAIL(r->err, FORMAT, "%s: byte %zu: tensor '%.*s': dimension %u is %llu", r->path, r->at - 8, NAME, i,
                                (unsigned long long)t->ne[i]);
            if (i > 0 && __builtin_mul_overflow(rows, t->ne[i], &rows))
                return JPT_FAIL(r->err, FORMAT, "%s: tensor '%.*s': its size overflows", r->path, NAME);
        }
    }
    JPT_TRY(read_u32(r, "a tensor's type", &type));
    const jpt_dtype_info *info = jpt_dtype_find(type);
    if (!info)
        return JPT_FAIL(r->err, UNSUPPORTED,
                        "%s: tensor '%.*s' has element type %u, which jpt does not read (it reads F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 "
                        "Q8_0 Q4_K Q5_K Q6_K); requantise the model",
                        r->path, NAME, type);
    t->dtype = info->dtype;
    JPT_TRY(read_u64(r, "a tensor's offset", offset));
    size_t row_bytes;
    if (!jpt_dtype_row_bytes(t->dtype, t->ne[0], &row_bytes) || !jpt_mul_size(row_bytes, (size_t)rows, &t->bytes))
        return JPT_FAIL(r->err, FORMAT, "%s: tensor '%.*s': %llu columns are no multiple of %s's block of %d", r->path, NAME,
                        (unsigned long long)t->ne[0], info->name, info->block);
    if (*offset % alignment != 0)
        return JPT_FAIL(r->err, FORMAT, "%s: tensor '%.*s': offset %llu is not aligned to %llu", r->path, NAME,
                        (unsigned long long)*offset, (unsigned long long)alignment);
    return JPT_OK;
}

/* ---- name index (FNV-1a, open addressing) ------------------------------------------------------- */

static uint64_t hash_bytes(const char *p, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static const jpt_str *entry_name(const jpt_gguf *g, bool tensors, size_t i) { return tensors ? &g->tensor[i].name : &g->kv[i].key; }

/* Slot of a name: its entry or the free place for it. */
static uint32_t *slot_of(const jpt_gguf *g, bool tensors, jpt_str name) {
    uint32_t *index = tensors ? g->tensor_index : g->kv_index;
    size_t    cap = tensors ? g->tensor_index_cap : g->kv_index_cap;
    if (!cap)
        return NULL;
    size_t i = (size_t)hash_bytes(name.p, name.n) & (cap - 1);
    while (index[i] && !jpt_str_eq(*entry_name(g, tensors, index[i] - 1), name))
        i = (i + 1) & (cap - 1);
    return &index[i];
}

static jpt_status build_index(jpt_gguf *g, bool tensors, jpt_error *err) {
    size_t count = tensors ? g->n_tensors : g->n_kv, cap = 16;
    while (cap < 2 * count)
        cap *= 2;
    uint32_t *index = jpt_arena_alloc(&g->arena, cap * sizeof *index);
    if (!index)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the index of names", g->path);
    if (tensors) {
        g->tensor_index = index;
        g->tensor_index_cap = cap;
    } else {
        g->kv_index = index;
        g->kv_index_cap = cap;
    }
    for (size_t i = 0; i < count; i++) {
        jpt_str   name = *entry_name(g, tensors, i);
        uint32_t *slot = slot_of(g, tensors, name);
        if (*slot)
            return JPT_FAIL(err, FORMAT, "%s: %s '%.*s' stands in the file twice", g->path, tensors ? "tensor" : "metadata key",
                            (int)(name.n < 64 ? name.n : 64), name.p);
        *slot = (uint32_t)i + 1;
    }
    return JPT_OK;
}

const jpt_gguf_kv *jpt_gguf_find(const jpt_gguf *g, const char *key) {
    uint32_t *slot = slot_of(g, false, jpt_str_z(key));
    return slot && *slot ? &g->kv[*slot - 1] : NULL;
}

const jpt_tensor_view *jpt_gguf_tensor(const jpt_gguf *g, const char *name) {
    uint32_t *slot = slot_of(g, true, jpt_str_z(name));
    return slot && *slot ? &g->tensor[*slot - 1] : NULL;
}

/* ---- parse -------------------------------------------------------------------------------------- */

static jpt_status parse(reader *r, jpt_gguf *g) {
    const uint8_t *magic = NULL;
    uint64_t       n_tensors = 0, n_kv = 0;
    JPT_TRY(read_bytes(r, 4, "the magic number", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return JPT_FAIL(r->err, FORMAT, "%s: is no GGUF file (it begins with %02x %02x %02x %02x)", r->path, magic[0], magic[1], magic[2], magic[3]);
    JPT_TRY(read_u32(r, "the version", &g->version));
    if ((g->version & 0xffff) == 0 && g->version)
        return JPT_FAIL(r->err, UNSUPPORTED, "%s: is a big-endian GGUF file; convert it to little-endian", r->path);
    if (g->version != 2 && g->version != 3)
        return JPT_FAIL(r->err, UNSUPPORTED, "%s: is GGUF version %u; jpt reads 2 and 3", r->path, g->version);
    JPT_TRY(read_u64(r, "the tensor count", &n_tensors));
    JPT_TRY(read_u64(r, "the metadata count", &n_kv));
    /* the smallest entry of either kind takes 13 bytes: counts beyond the file are caught before allocating */
    if (n_kv > (r->n - r->at) / 13 || n_tensors > (r->n - r->at) / 13)
        return JPT_FAIL(r->err, FORMAT, "%s: byte 8: %llu tensors and %llu metadata entries cannot be in a file of %zu bytes", r->path,
                        (unsigned long long)n_tensors, (unsigned long long)n_kv, r->n);
    g->kv = jpt_arena_alloc(&g->arena, (size_t)n_kv * sizeof *g->kv);
    g->tensor = jpt_arena_alloc(&g->arena, (size_t)n_tensors * sizeof *g->tensor);
    uint64_t *offset = jpt_arena_alloc(&g->arena, (size_t)n_tensors * sizeof *offset);
    if (!g->kv || !g->tensor || !offset)
        return JPT_FAIL(r->err, NOMEM, "%s: out of memory for %llu tensors", r->path, (unsigned long long)n_tensors);
    for (; g->n_kv < n_kv; g->n_kv++)
        JPT_TRY(read_kv(r, &g->kv[g->n_kv]));
    JPT_TRY(build_index(g, false, r->err));

    g->alignment = 32;
    if (jpt_gguf_find(g, "general.alignment") && !jpt_gguf_u64(g, "general.alignment", &g->alignment))
        return JPT_FAIL(r->err, FORMAT, "%s: general.alignment is no number", r->path);
    if (g->alignment == 0 || g->alignment > 1 << 20 || (g->alignment & (g->alignment - 1)) != 0)
        return JPT_FAIL(r->err, FORMAT, "%s: general.alignment is %llu, expected a power of two up to 1048576", r->path,
                        (unsigned long long)g->alignment);
    for (; g->n_tensors < n_tensors; g->n_tensors++)
        JPT_TRY(read_tensor_info(r, &g->tensor[g->n_tensors], &offset[g->n_tensors], g->alignment));
    JPT_TRY(build_index(g, true, r->err));

    g->data_offset = (r->at + g->alignment - 1) / g->alignment * g->alignment;
    size_t room = g->data_offset < r->n ? r->n - g->data_offset : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        jpt_tensor_view *t = &g->tensor[i];
        if (offset[i] > room || t->bytes > room - offset[i])
            return JPT_FAIL(r->err, FORMAT, "%s: tensor '%.*s' needs %zu bytes at offset %llu of the weights, of which the file has %zu; the download may be incomplete",
                            r->path, NAME, t->bytes, (unsigned long long)offset[i], room);
        t->data = r->p + g->data_offset + offset[i];
    }
#undef NAME
    return JPT_OK;
}

jpt_status jpt_gguf_parse(const char *path, const uint8_t *p, size_t n, jpt_gguf *out, jpt_error *err) {
    *out = (jpt_gguf){.path = path};
    reader     r = {.path = path, .p = p, .n = n, .err = err};
    jpt_status st = parse(&r, out);
    if (st != JPT_OK)
        jpt_gguf_fini(out);
    return st;
}

void jpt_gguf_fini(jpt_gguf *g) {
    jpt_arena_fini(&g->arena);
    *g = (jpt_gguf){0};
}

/* ---- getters ------------------------------------------------------------------------------------ */

bool jpt_gguf_u64(const jpt_gguf *g, const char *key, uint64_t *out) {
    const jpt_gguf_kv *kv = jpt_gguf_find(g, key);
    int64_t            v;
    if (!kv)
        return false;
#define INT(T)                          \
    {                                   \
        T t;                            \
        memcpy(&t, kv->data, sizeof t); \
        v = (int64_t)t;                 \
        break;                          \
    }
    switch (kv->type) {
    case JPT_GGUF_U8: INT(uint8_t)
    case JPT_GGUF_I8: INT(int8_t)
    case JPT_GGUF_U16: INT(uint16_t)
    case JPT_GGUF_I16: INT(int16_t)
    case JPT_GGUF_U32: INT(uint32_t)
    case JPT_GGUF_I32: INT(int32_t)
    case JPT_GGUF_U64: INT(uint64_t)
    case JPT_GGUF_I64: INT(int64_t)
    default:
        return false;
    }
#undef INT
    if (v < 0)
        return false;
    *out = (uint64_t)v;
    return true;
}

bool jpt_gguf_f64(const jpt_gguf *g, const char *key, double *out) {
    const jpt_gguf_kv *kv = jpt_gguf_find(g, key);
    uint64_t           u;
    if (kv && kv->type == JPT_GGUF_F32) {
        float f;
        memcpy(&f, kv->data, 4);
        *out = (double)f;
        return true;
    }
    if (kv && kv->type == JPT_GGUF_F64) {
        memcpy(out, kv->data, 8);
        return true;
    }
    if (!jpt_gguf_u64(g, key, &u))
        return false;
    *out = (double)u;
    return true;
}

bool jpt_gguf_bool(const jpt_gguf *g, const char *key, bool *out) {
    const jpt_gguf_kv *kv = jpt_gguf_find(g, key);
    if (!kv || kv->type != JPT_GGUF_BOOL)
        return false;
    *out = kv->data[0] != 0;
    return true;
}

bool jpt_gguf_str(const jpt_gguf *g, const char *key, jpt_str *out) {
    const jpt_gguf_kv *kv = jpt_gguf_find(g, key);
    if (!kv || kv->type != JPT_GGUF_STRING)
        return false;
    *out = (jpt_str){(const char *)kv->data + 8, kv->size - 8};
    return true;
}
