/* Files of a sentence encoder that are not what they should be: one line that names the file and the place.  The safetensors reader
 * refuses what the reference reader refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jpt/encoder.h>
#include <jpt/format.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Header length, header, n zero bytes; caller frees. */
static uint8_t *file_of(const char *header, size_t n, size_t *size) {
    size_t   len = strlen(header);
    uint8_t *p = calloc(1, 8 + len + n);
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(len >> 8 * i);
    memcpy(p + 8, header, len);
    *size = 8 + len + n;
    return p;
}

static void refused(const char *header, size_t n, const char *says) {
    size_t          size;
    uint8_t        *p = file_of(header, n, &size);
    jpt_safetensors s;
    jpt_error       err = {0};
    assert_int_equal(jpt_safetensors_parse("x.safetensors", p, size, &s, &err), JPT_FORMAT);
    if (!strstr(err.msg, says) || !strstr(err.msg, "x.safetensors"))
        fail_msg("'%s' does not say '%s'", err.msg, says);
    free(p);
}

static void broken_safetensors(void **unused) {
    (void)unused;
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", 8, "no JSON object");
    refused("[1]", 0, "no JSON object");
    refused("{\"a\":{\"dtype\":\"F3\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "type 'F3'");
    refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "type '?'");
    refused("{\"a\":7}", 8, "type '?'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,8]}}", 8, "shape");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "at most 8");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "incomplete");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "need 8");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "gap or an overlap");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "gap or an overlap");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 3, "have 2 bytes");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "duplicate");
    jpt_safetensors s;
    jpt_error       err = {0};
    const uint8_t   huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    assert_int_equal(jpt_safetensors_parse("h", huge, sizeof huge, &s, &err), JPT_FORMAT);
    assert_int_equal(jpt_safetensors_parse("h", huge, 5, &s, NULL), JPT_FORMAT);
}

static void types_of_safetensors(void **unused) {
    (void)unused;
    size_t          size;
    uint8_t        *p = file_of("{\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                                "\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]},\"none\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[8,8]}}", 16, &size);
    const uint8_t   data[8] = {0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3c, 0x00, 0xb8}; /* 1 -2 in bfloat16, 1 -0.5 in half */
    jpt_safetensors s;
    jpt_error       err = {0};
    float           v[2];
    memcpy(p + size - 16, data, sizeof data);
    assert_int_equal(jpt_safetensors_parse("t", p, size, &s, NULL), JPT_OK);
    assert_int_equal(s.n_tensors, 4);
    assert_string_equal(s.tensor[0].name, "b"); /* in the order of the data */
    assert_int_equal(jpt_safetensor_f32(jpt_safetensors_find(&s, "b"), v, NULL), JPT_OK);
    assert_true(v[0] == 1 && v[1] == -2);
    assert_int_equal(jpt_safetensor_f32(jpt_safetensors_find(&s, "h"), v, NULL), JPT_OK);
    assert_true(v[0] == 1 && v[1] == -0.5f);
    assert_int_equal(jpt_safetensors_find(&s, "i")->n_dims, 0);
    assert_int_equal(jpt_safetensor_f32(jpt_safetensors_find(&s, "i"), v, &err), JPT_UNSUPPORTED);
    assert_int_equal(jpt_safetensor_f32(jpt_safetensors_find(&s, "none"), v, NULL), JPT_OK);
    assert_null(jpt_safetensors_find(&s, "x"));
    jpt_safetensors_fini(&s);
    free(p);
}

static void vocabulary(const char *text, const char *says) {
    jpt_wordpiece *w;
    jpt_error      err = {0};
    assert_int_equal(jpt_wordpiece_new("vocab.txt", text, strlen(text), true, &w, &err), JPT_FORMAT);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void wordpiece_refusals(void **unused) {
    (void)unused;
    vocabulary("", "[UNK]");
    vocabulary("[UNK]\n[CLS]\na\n", "[SEP]");
    vocabulary("[UNK]\n[CLS]\n[SEP]\na\nb\na\n", "line 6 is the same token as line 4");
    jpt_wordpiece *w;
    jpt_ids        ids = {0};
    jpt_error      err = {0};
    const char     ok[] = "[UNK]\r\n[CLS]\r\n[SEP]\r\na\r\n##a";
    assert_int_equal(jpt_wordpiece_new("v", ok, sizeof ok - 1, true, &w, NULL), JPT_OK);
    assert_int_equal(jpt_wordpiece_n_vocab(w), 5);
    assert_int_equal(jpt_wordpiece_encode(w, "aaa", 3, 1, &ids, &err), JPT_ARG);
    assert_int_equal(jpt_wordpiece_encode(w, "AA\xff\xc3" "A", 5, 0, &ids, NULL), JPT_OK); /* bytes that are no UTF-8 are dropped */
    const int32_t want[] = {1, 3, 4, 4, 2};
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.p, want, sizeof want);
    jpt_ids_fini(&ids);
    jpt_wordpiece_free(w);
}

/* A copy of the tiny encoder in which one file has other text. */
static void folder_with(const char *file, const char *find, const char *put, jpt_status code, const char *says) {
    static const char *const files[] = {"config.json", "vocab.txt", "model.safetensors"};
    char                     dir[] = "/tmp/jpt-encoder-XXXXXX", path[1200];
    jpt_error                err = {0};
    jpt_encoder             *e;
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++) {
        jpt_buf b = {0};
        snprintf(path, sizeof path, "%s/tests/golden/encoder_tiny/%s", JPT_SOURCE_DIR, files[i]);
        assert_int_equal(jpt_file_read(path, &b, NULL), JPT_OK);
        if (strcmp(files[i], file) == 0) {
            char *at = find ? memmem(b.p, b.n, find, strlen(find)) : NULL;
            if (find) {
                assert_non_null(at);
                assert_int_equal(strlen(find), strlen(put));
                memcpy(at, put, strlen(put));
            } else
                b.n = b.n / 2;
        }
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        assert_int_equal(jpt_file_write(path, b.p, b.n, NULL), JPT_OK);
        jpt_buf_fini(&b);
    }
    if (find == NULL && put)
        unlink(path); /* the last: the weights */
    jpt_status st = jpt_encoder_open(dir, NULL, 1, &e, &err);
    if (st != code || (code && (!strstr(err.msg, says) || !strstr(err.msg, dir))))
        fail_msg("%d '%s', expected %d '%s'", st, err.msg, code, says);
    if (st == JPT_OK)
        jpt_encoder_close(e);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void broken_folders(void **unused) {
    (void)unused;
    jpt_error    err = {0};
    jpt_encoder *e;
    folder_with("", "", "", JPT_OK, "");
    folder_with("config.json", "\"bert\"", "\"gpt2\"", JPT_UNSUPPORTED, "'model_type' is 'gpt2'");
    folder_with("config.json", "\"gelu\"", "\"relu\"", JPT_UNSUPPORTED, "hidden_act");
    folder_with("config.json", "_size\": 32", "_size\": 33", JPT_FORMAT, "make no sense");
    folder_with("config.json", "_size\": 32", "_size\": 36", JPT_FORMAT, "shape [743, 32], expected [743, 36]");
    folder_with("config.json", "hidden_layers\": 2", "hidden_layers\": 3", JPT_FORMAT, "layer.2");
    folder_with("config.json", "hidden_layers\": 2", "hidden_layers\":-2", JPT_FORMAT, "not from 1");
    folder_with("config.json", "{", "[", JPT_FORMAT, "line");
    folder_with("config.json", "vocab_size\": 743", "vocab_size\": 742", JPT_FORMAT, "has 743 tokens, the model knows 742");
    folder_with("vocab.txt", "[CLS]", "[CLX]", JPT_FORMAT, "[CLS]");
    folder_with("model.safetensors", NULL, NULL, JPT_FORMAT, "incomplete");
    folder_with("model.safetensors", NULL, "unlink", JPT_IO, "model.safetensors");
    folder_with("model.safetensors", "layer.0.attention.output.dense.bias", "layer.0.attention.output.dense.bios", JPT_FORMAT, "is missing");
    assert_int_equal(jpt_encoder_open("/nonexistent", NULL, 1, &e, &err), JPT_IO);
    err = (jpt_error){0};
    assert_int_equal(jpt_encoder_open(JPT_SOURCE_DIR "/tests/golden/encoder_tiny", "sse9", 1, &e, &err), JPT_UNSUPPORTED);
    char path[64];
    err = (jpt_error){0};
    assert_int_equal(jpt_encoder_resolve("smollm2-135m", path, sizeof path, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "language model"));
    err = (jpt_error){0};
    assert_int_equal(jpt_encoder_resolve("minillm", path, sizeof path, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "did you mean 'minilm'"));
    err = (jpt_error){0};
    assert_int_equal(jpt_model_resolve("minilm", path, sizeof path, &err), JPT_NOT_FOUND);
    assert_non_null(strstr(err.msg, "sentence encoder"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(broken_safetensors), cmocka_unit_test(types_of_safetensors), cmocka_unit_test(wordpiece_refusals), cmocka_unit_test(broken_folders)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
