/* Reads the golden files of the tokenizers (tools/golden/make_token.py) and the tokenizer arrays of a GGUF file,
 * for tests only: it trusts its input. */
#ifndef JPT_TEST_TOKEN_FIXTURE_H
#define JPT_TEST_TOKEN_FIXTURE_H

#include <jansson.h>
#include <jpt/token.h>
#include <stdlib.h>
#include <string.h>

static inline json_t *fixture_json(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/%s", JPT_SOURCE_DIR, name);
    json_error_t e;
    json_t      *j = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!j) {
        fprintf(stderr, "%s:%d: %s\n", path, e.line, e.text);
        abort();
    }
    return j;
}

static inline jpt_str *fixture_strings(const json_t *array, size_t *n) {
    *n = json_array_size(array);
    jpt_str *s = calloc(*n + 1, sizeof *s);
    for (size_t i = 0; i < *n; i++) {
        const json_t *j = json_array_get(array, i);
        s[i] = (jpt_str){json_string_value(j), json_string_length(j)};
    }
    return s;
}

/* A tokenizer from tests/golden/token_vocab_<name>.json. */
static inline jpt_tokenizer *fixture_tokenizer(const char *name) {
    char file[256];
    snprintf(file, sizeof file, "token_vocab_%s.json", name);
    json_t        *j = fixture_json(file);
    jpt_token_spec spec = JPT_TOKEN_SPEC_INIT;
    jpt_str       *tokens = fixture_strings(json_object_get(j, "tokens"), &spec.n_tokens), *merges = NULL;
    int32_t       *types = calloc(spec.n_tokens, sizeof *types);
    float         *scores = calloc(spec.n_tokens, sizeof *scores);
    for (size_t i = 0; i < spec.n_tokens; i++) {
        types[i] = (int32_t)json_integer_value(json_array_get(json_object_get(j, "types"), i));
        scores[i] = (float)json_number_value(json_array_get(json_object_get(j, "scores"), i));
    }
    const char *pre = json_string_value(json_object_get(j, "pre"));
    spec.kind = pre ? JPT_TOKEN_BPE : JPT_TOKEN_SPM;
    spec.pre = jpt_str_z(pre);
    spec.tokens = tokens;
    spec.types = types;
    if (pre) {
        merges = fixture_strings(json_object_get(j, "merges"), &spec.n_merges);
        spec.merges = merges;
    } else {
        spec.scores = scores;
        spec.unk = 0;
        spec.bos = 1;
        spec.eos = 2;
        spec.add_bos = true;
        spec.add_space_prefix = true;
    }
    jpt_error      err = {0};
    jpt_tokenizer *tok = NULL;
    if (jpt_tokenizer_new(&spec, &tok, &err) != JPT_OK) {
        fprintf(stderr, "%s: %s\n", file, err.msg);
        abort();
    }
    free(tokens);
    free(merges);
    free(types);
    free(scores);
    json_decref(j);
    return tok;
}

/* ---- the tokenizer arrays of a GGUF file ------------------------------------------------------ */

static inline uint64_t gguf_uint(const uint8_t **p, size_t n) {
    uint64_t v = 0;
    memcpy(&v, *p, n);
    *p += n;
    return v;
}

static inline jpt_str gguf_string(const uint8_t **p) {
    size_t  n = gguf_uint(p, 8);
    jpt_str s = {(const char *)*p, n};
    *p += n;
    return s;
}

/* A byte-level BPE tokenizer from the metadata of a GGUF file; NULL when the file is not such a one. */
static inline jpt_tokenizer *fixture_gguf(const char *path, jpt_error *err) {
    static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    jpt_mapping         map;
    if (jpt_map_file(path, &map, err) != JPT_OK)
        return NULL;
    const uint8_t *p = map.p + 16;
    size_t         n_kv = gguf_uint(&p, 8);
    jpt_token_spec spec = JPT_TOKEN_SPEC_INIT;
    jpt_str       *tokens = NULL, *merges = NULL;
    for (size_t k = 0; k < n_kv; k++) {
        jpt_str  key = gguf_string(&p), text = {0}, *strings = NULL;
        uint64_t type = gguf_uint(&p, 4), n = 0, element = 0, number = 0;
        const uint8_t *data = p;
        if (type == 9) {
            element = gguf_uint(&p, 4);
            n = gguf_uint(&p, 8);
            data = p;
            if (element == 8) {
                strings = calloc(n + 1, sizeof *strings);
                for (size_t i = 0; i < n; i++)
                    strings[i] = gguf_string(&p);
            } else {
                p += n * size[element];
            }
        } else if (type == 8) {
            text = gguf_string(&p);
        } else {
            number = gguf_uint(&p, size[type]);
        }
        if (jpt_str_eqz(key, "tokenizer.ggml.tokens")) {
            spec.tokens = tokens = strings;
            spec.n_tokens = n;
            strings = NULL;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.merges")) {
            spec.merges = merges = strings;
            spec.n_merges = n;
            strings = NULL;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.token_type")) {
            int32_t *types = calloc(n + 1, sizeof *types);
            memcpy(types, data, n * sizeof *types); /* unaligned in the file */
            spec.types = types;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.pre")) {
            spec.pre = text;
        } else if (jpt_str_eqz(key, "tokenizer.chat_template")) {
            spec.chat_template = text;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.bos_token_id")) {
            spec.bos = (int32_t)number;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.eos_token_id")) {
            spec.eos = (int32_t)number;
        } else if (jpt_str_eqz(key, "tokenizer.ggml.unknown_token_id")) {
            spec.unk = (int32_t)number;
        }
        free(strings);
    }
    jpt_tokenizer *tok = NULL;
    jpt_tokenizer_new(&spec, &tok, err);
    free(tokens);
    free(merges);
    free((void *)(uintptr_t)spec.types);
    jpt_unmap(&map);
    return tok;
}

#endif
