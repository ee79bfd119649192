/* Damaged model files: each prefix, thousands of flipped bits, and one case for each thing that is checked.  A refusal is
 * one line that names the file and what is wrong; nothing crashes (run under ASan too). */
#include "tiny_model.h"
#include <jpt/format.h>
#include <jpt/model.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static const tiny_model small = {.n_embd = 32, .n_ff = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .dtype = JPT_Q8_0};

static jpt_status parse(const jpt_buf *b, size_t n, jpt_error *err) {
    jpt_model_file f;
    /* a copy of exactly n bytes, so that ASan sees a read past the end */
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, b->p, n);
    *err = (jpt_error){0};
    jpt_status st = jpt_model_file_parse("m.gguf", p, n, NULL, 0, &f, err);
    if (st == JPT_OK)
        jpt_model_file_close(&f);
    free(p);
    return st;
}

static void one_line(const jpt_error *err) {
    assert_true(strncmp(err->msg, "m.gguf: ", 8) == 0);
    assert_null(strchr(err->msg, '\n'));
    assert_true(strlen(err->msg) > 15);
}

static void every_prefix_is_refused(void **state) {
    (void)state;
    jpt_buf   b = {0};
    jpt_error err;
    size_t    n = 0;
    tiny_model_bytes(&small, &b);
    assert_int_equal(parse(&b, b.n, &err), JPT_OK);
    for (size_t i = 0; i + 32 < b.n; i += i < 1024 ? 1 : 61, n++) {
        assert_true(parse(&b, i, &err) != JPT_OK);
        one_line(&err);
    }
    printf("%zu prefixes of a file of %zu bytes refused\n", n, b.n);
    jpt_buf_fini(&b);
}

static void flipped_bits_do_no_harm(void **state) {
    (void)state;
    jpt_buf   b = {0};
    jpt_error err;
    size_t    refused = 0, n = 20000;
    tiny_model_bytes(&small, &b);
    size_t head = b.n < 16384 ? b.n : 16384; /* metadata and tensor table; weights may be anything */
    for (size_t i = 0; i < n; i++) {
        jpt_rng_key key = {1, 2, 3, (uint32_t)i};
        size_t      bit = (size_t)(jpt_rng_uniform(key, 0) * (double)(8 * head));
        b.p[bit / 8] ^= (char)(1 << bit % 8);
        if (parse(&b, b.n, &err) != JPT_OK) {
            one_line(&err);
            refused++;
        }
        b.p[bit / 8] ^= (char)(1 << bit % 8);
    }
    printf("%zu of %zu flipped bits refused\n", refused, n);
    assert_true(refused > n / 10);
    jpt_buf_fini(&b);
}

/* ---- one damage each --------------------------------------------------------------------------------------- */

static jpt_buf bytes;

/* The place right after the first length-prefixed string `s`. */
static char *after(const char *s) {
    uint64_t n = strlen(s);
    for (size_t i = 0; i + 8 + n < bytes.n; i++)
        if (memcmp(bytes.p + i, &n, 8) == 0 && memcmp(bytes.p + i + 8, s, n) == 0)
            return bytes.p + i + 8 + n;
    fail_msg("'%s' is not in the file", s);
    return NULL;
}

static void damaged(jpt_status want, const char *text) {
    jpt_error  err;
    jpt_status st = parse(&bytes, bytes.n, &err);
    if (getenv("JPT_TEST_VERBOSE"))
        printf("%s\n", err.msg);
    if (st != want || !strstr(err.msg, text))
        fail_msg("status %d, expected %d with '%s': %s", st, want, text, err.msg);
    one_line(&err);
    jpt_buf_fini(&bytes);
    tiny_model_bytes(&small, &bytes);
}

static void put(char *at, uint64_t v, size_t n) { memcpy(at, &v, n); }

static void each_damage_is_named(void **state) {
    (void)state;
    enum { TYPE = 4, DIMS = 4, DIM0 = 4, DIM1 = 12, DTYPE = 20, OFFSET = 24 };
    tiny_model_bytes(&small, &bytes);
    put(bytes.p, 'X', 1);
    damaged(JPT_FORMAT, "is no GGUF file");
    put(bytes.p + 4, 4, 4);
    damaged(JPT_UNSUPPORTED, "is GGUF version 4");
    put(bytes.p + 4, 0x03000000, 4);
    damaged(JPT_UNSUPPORTED, "big-endian");
    put(bytes.p + 8, UINT64_MAX, 8);
    damaged(JPT_FORMAT, "cannot be in a file");
    put(bytes.p + 16, 1ull << 61, 8);
    damaged(JPT_FORMAT, "cannot be in a file");
    put(after("general.architecture") - 20 - 8, UINT64_MAX - 3, 8);
    damaged(JPT_FORMAT, "are left in the file");
    memcpy(after("general.architecture") + 12, "mamba", 5);
    damaged(JPT_UNSUPPORTED, "architecture 'mamba' is not supported (known: llama, qwen2)");
    put(after("llama.block_count"), 99, 4);
    damaged(JPT_FORMAT, "unknown metadata type 99");
    put(after("llama.block_count") + TYPE, 0, 4);
    damaged(JPT_FORMAT, "llama.block_count is 0");
    put(after("llama.block_count") + TYPE, 2, 4);
    damaged(JPT_FORMAT, "tensor 'blk.1.attn_norm.weight' is missing");
    put(after("llama.embedding_length") + TYPE, 64, 4);
    damaged(JPT_FORMAT, "has shape");
    put(after("llama.embedding_length") + TYPE, 33, 4);
    damaged(JPT_FORMAT, "33 is no multiple of 2 heads");
    put(after("llama.attention.head_count_kv") + TYPE, 3, 4);
    damaged(JPT_FORMAT, "heads must be a multiple of kv heads");
    put(after("llama.attention.layer_norm_rms_epsilon") + TYPE, 0x7fc00000, 4);
    damaged(JPT_FORMAT, "makes no sense");
    put(after("tokenizer.ggml.tokens") + TYPE, 9, 4); /* an array of arrays */
    damaged(JPT_FORMAT, "the file ends inside");
    put(after("tokenizer.ggml.tokens") + TYPE + 4, 1ull << 60, 8);
    damaged(JPT_FORMAT, "the file ends inside an array of strings");
    put(after("tokenizer.ggml.bos_token_id") + TYPE, 100000, 4);
    damaged(JPT_FORMAT, "but there are 264 tokens");
    put(after("tokenizer.ggml.add_bos_token") + TYPE, 2, 1);
    damaged(JPT_FORMAT, "a boolean is 2");
    memcpy(after("tokenizer.ggml.eos_token_id") - 12, "bos_token_id", 12);
    damaged(JPT_FORMAT, "metadata key 'tokenizer.ggml.bos_token_id' stands in the file twice");
    memcpy(after("blk.0.attn_k.weight") - 19, "blk.0.attn_q.weight", 19);
    damaged(JPT_FORMAT, "tensor 'blk.0.attn_q.weight' stands in the file twice");
    put(after("blk.0.attn_q.weight"), 5, 4);
    damaged(JPT_FORMAT, "has 5 dimensions");
    put(after("blk.0.attn_q.weight") + DIM0, 0, 8);
    damaged(JPT_FORMAT, "dimension 0 is 0");
    put(after("blk.0.attn_q.weight") + DIM0, 1ull << 40, 8);
    put(after("blk.0.attn_q.weight") + DIM1, 1ull << 40, 8);
    damaged(JPT_FORMAT, "dimension 0 is 1099511627776");
    put(after("blk.0.attn_q.weight") + DIM0, 1ull << 30, 8);
    put(after("blk.0.attn_q.weight") + DIM1, 1ull << 30, 8);
    damaged(JPT_FORMAT, "of the weights, of which the file has");
    put(after("blk.0.attn_q.weight") + DIM0, 33, 8);
    damaged(JPT_FORMAT, "no multiple of Q8_0's block of 32");
    put(after("blk.0.attn_q.weight") + DTYPE, 19, 4); /* IQ1_S */
    damaged(JPT_UNSUPPORTED, "tensor 'blk.0.attn_q.weight'");
    put(after("blk.0.attn_q.weight") + DTYPE, 4000, 4);
    damaged(JPT_UNSUPPORTED, "tensor 'blk.0.attn_q.weight'");
    put(after("blk.0.attn_q.weight") + OFFSET, 7, 8);
    damaged(JPT_FORMAT, "is not aligned to 32");
    put(after("blk.0.attn_q.weight") + OFFSET, 1ull << 40, 8);
    damaged(JPT_FORMAT, "of the weights, of which the file has");
    put(after("blk.0.attn_q.weight") + OFFSET, UINT64_MAX - 31, 8);
    damaged(JPT_FORMAT, "of the weights, of which the file has");
    put(after("output_norm.weight") + DIM0 + 8, 8, 4); /* a vector: n_dims 1, then its type */
    damaged(JPT_UNSUPPORTED, "expected F32");
    jpt_buf_fini(&bytes);
}

/* A sparse file whose header is a valid model of 100 GB and more: refused before anything is read. */
static void larger_than_memory(void **state) {
    (void)state;
    tiny_model        huge = {.n_embd = 32768, .n_ff = 131072, .n_layers = 12, .n_heads = 32, .n_kv_heads = 32, .dtype = JPT_F32};
    jpt_buf           b = {0};
    char              path[] = "/tmp/jpt-huge-XXXXXX";
    jpt_error         err = {0};
    jpt_model        *m = NULL;
    jpt_model_options o = {0};
    uint64_t          size = tiny_model_header(&huge, &b);
    int               fd = mkstemp(path);
    assert_true(fd >= 0 && size > 100000000000ull);
    assert_int_equal(write(fd, b.p, b.n), b.n);
    if (ftruncate(fd, (off_t)size) != 0) {
        unlink(path);
        close(fd);
        printf("skipped: this file system holds no sparse file of %llu bytes\n", (unsigned long long)size);
        skip();
    }
    close(fd);
    jpt_status st = jpt_model_open(path, &o, &m, &err);
    unlink(path);
    jpt_buf_fini(&b);
    if (st == JPT_OK) { /* a machine with that much memory */
        jpt_model_close(m);
        skip();
    }
    assert_int_equal(st, JPT_NOMEM);
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.msg, "use a smaller or more quantised model"));
}

/* A context that cannot be held is refused too. */
static void context_larger_than_memory(void **state) {
    (void)state;
    tiny_model          t = small;
    char               *path = tiny_model_file(&t);
    jpt_error           err = {0};
    jpt_model          *m;
    jpt_session        *s = NULL;
    jpt_session_options so = {.n_ctx = 2000000000, .n_seqs = 8};
    assert_int_equal(jpt_model_open(path, NULL, &m, &err), JPT_OK);
    jpt_status st = jpt_session_open(m, &so, &s, &err);
    assert_int_equal(st, JPT_NOMEM);
    assert_non_null(strstr(err.msg, "use a smaller context"));
    jpt_model_close(m);
    unlink(path);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prefix_is_refused), cmocka_unit_test(flipped_bits_do_no_harm), cmocka_unit_test(each_damage_is_named),
        cmocka_unit_test(larger_than_memory),      cmocka_unit_test(context_larger_than_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
