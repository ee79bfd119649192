/* safetensors: a JSON header and the tensors' bytes.  The header is untrusted: each number is checked before it is used, and
 * the tensors together must be the data, neither more nor less, as the reference reader demands. */
#include <jansson.h>
#include <jpt/format.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100000000, NAME_SHOWN = 80 }; /* the reference's limit */

static const struct {
    const char *name;
    uint32_t    bytes;
} dtypes[] = {{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8}};

static bool natural(const json_t *j, uint64_t *out) {
    if (!json_is_integer(j) || json_integer_value(j) < 0)
        return false;
    *out = (uint64_t)json_integer_value(j);
    return true;
}

static jpt_status read_tensor(const char *path, const char *name, const json_t *j, const uint8_t *data, size_t n, jpt_safetensors *s, jpt_error *err) {
    jpt_safetensor *t = &s->tensor[s->n_tensors];
    const json_t   *shape = json_object_get(j, "shape"), *offsets = json_object_get(j, "data_offsets");
    const char     *dtype = json_string_value(json_object_get(j, "dtype"));
    size_t          each = 0, want;
    uint64_t        begin, end;
    for (size_t i = 0; dtype && i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtype, dtypes[i].name) == 0) {
            each = want = dtypes[i].bytes;
            t->dtype = dtypes[i].name;
        }
    if (!each)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s': type '%.32s' is not known", path, NAME_SHOWN, name, dtype ? dtype : "?");
    if (!json_is_array(shape) || json_array_size(shape) > JPT_SAFETENSORS_DIMS_MAX)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s': expected a shape of at most %d numbers", path, NAME_SHOWN, name, JPT_SAFETENSORS_DIMS_MAX);
    t->n_dims = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < t->n_dims; i++)
        if (!natural(json_array_get(shape, (size_t)i), &t->shape[i]) || !jpt_mul_size(want, t->shape[i], &want))
            return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s': its shape makes no sense", path, NAME_SHOWN, name);
    if (json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &begin) || !natural(json_array_get(offsets, 1), &end) || begin > end)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s': expected data_offsets of two rising numbers", path, NAME_SHOWN, name);
    if (end > n)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s': its data end at byte %llu of %zu; the download may be incomplete", path, NAME_SHOWN, name, (unsigned long long)end, n);
    if (end - begin != want)
        return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s' has %llu bytes, its shape and type %s need %zu", path, NAME_SHOWN, name, (unsigned long long)(end - begin), t->dtype, want);
    t->name = jpt_arena_strndup(&s->arena, name, strlen(name));
    t->data = data + begin;
    t->bytes = want;
    if (!t->name)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the tensors", path);
    s->n_tensors++;
    return JPT_OK;
}

static int by_place(const void *a, const void *b) {
    const jpt_safetensor *x = a, *y = b;
    return x->data != y->data ? (x->data > y->data) - (x->data < y->data) : (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static jpt_status read_header(const char *path, json_t *header, const uint8_t *data, size_t n, jpt_safetensors *s, jpt_error *err) {
    const char *name;
    json_t     *j;
    s->tensor = jpt_arena_alloc(&s->arena, (json_object_size(header) + 1) * sizeof *s->tensor);
    if (!s->tensor)
        return JPT_FAIL(err, NOMEM, "%s: out of memory for the tensors", path);
    json_object_foreach(header, name, j)
        if (strcmp(name, "__metadata__") != 0)
            JPT_TRY(read_tensor(path, name, j, data, n, s, err));
    qsort(s->tensor, s->n_tensors, sizeof *s->tensor, by_place);
    const uint8_t *at = data;
    for (size_t i = 0; i < s->n_tensors; at += s->tensor[i++].bytes)
        if (s->tensor[i].data != at)
            return JPT_FAIL(err, FORMAT, "%s: tensor '%.*s' begins at byte %zu of the data, expected %zu: there is a gap or an overlap", path, NAME_SHOWN, s->tensor[i].name,
                            (size_t)(s->tensor[i].data - data), (size_t)(at - data));
    if (at != data + n)
        return JPT_FAIL(err, FORMAT, "%s: the tensors have %zu bytes of data, the file %zu", path, (size_t)(at - data), n);
    return JPT_OK;
}

jpt_status jpt_safetensors_parse(const char *path, const uint8_t *p, size_t n, jpt_safetensors *out, jpt_error *err) {
    uint64_t     length = 0;
    json_error_t why;
    *out = (jpt_safetensors){0};
    for (size_t i = 0; i < 8 && i < n; i++)
        length |= (uint64_t)p[i] << 8 * i;
    if (n < 8 || length > HEADER_MAX || length > n - 8)
        return JPT_FAIL(err, FORMAT, "%s: is no safetensors file, or cut off: its header should have %llu bytes, the file has %zu", path, (unsigned long long)length, n);
    json_t *header = json_loadb((const char *)p + 8, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(header)) {
        json_decref(header);
        return JPT_FAIL(err, FORMAT, "%s: the safetensors header is no JSON object (byte %d: %s)", path, header ? 8 : 8 + why.position, header ? "no object" : why.text);
    }
    jpt_status st = read_header(path, header, p + 8 + length, n - 8 - (size_t)length, out, err);
    json_decref(header);
    if (st != JPT_OK)
        jpt_safetensors_fini(out);
    return st;
}

void jpt_safetensors_fini(jpt_safetensors *s) {
    jpt_arena_fini(&s->arena);
    *s = (jpt_safetensors){0};
}

const jpt_safetensor *jpt_safetensors_find(const jpt_safetensors *s, const char *name) {
    for (size_t i = 0; i < s->n_tensors; i++)
        if (strcmp(s->tensor[i].name, name) == 0)
            return &s->tensor[i];
    return NULL;
}

jpt_status jpt_safetensor_f32(const jpt_safetensor *t, float *out, jpt_error *err) {
    if (strcmp(t->dtype, "F32") == 0)
        return t->bytes ? memcpy(out, t->data, t->bytes) : NULL, JPT_OK;
    if (strcmp(t->dtype, "F16") != 0 && strcmp(t->dtype, "BF16") != 0)
        return JPT_FAIL(err, UNSUPPORTED, "tensor '%s' is %s, expected F32, F16 or BF16", t->name, t->dtype);
    jpt_dequantize_row(t->dtype[0] == 'F' ? JPT_F16 : JPT_BF16, t->data, out, t->bytes / 2);
    return JPT_OK;
}
