/* Numbers that others publish: Philox's and SHA-256's known answers; and the small tools that everything leans on. */
#include <jpt/base.h>
#include <jpt/error.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

/* Random123's kat_vectors, philox4x32 with 10 rounds. */
static void philox_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t got[4];
        jpt_philox4x32(kat[i].counter, kat[i].key, got);
        assert_memory_equal(got, kat[i].want, sizeof got);
    }
}

static void uniform_numbers(void **state) {
    (void)state;
    double sum = 0, sum2 = 0;
    int    n = 100000, cell[16] = {0};
    for (int i = 0; i < n; i++) {
        double u = jpt_rng_uniform((jpt_rng_key){7, 1, 0, (uint32_t)i}, 0);
        assert_true(u >= 0 && u < 1);
        sum += u, sum2 += u * u, cell[(int)(u * 16)]++;
    }
    double chi2 = 0, expect = n / 16.0;
    for (int i = 0; i < 16; i++)
        chi2 += (cell[i] - expect) * (cell[i] - expect) / expect;
    assert_true(chi2 < 37.7); /* 15 degrees of freedom, p = 0.001 */
    assert_true(sum / n > 0.497 && sum / n < 0.503);
    assert_true(sum2 / n > 0.330 && sum2 / n < 0.337);
    /* each part of the key counts */
    double base = jpt_rng_uniform((jpt_rng_key){7, 1, 2, 3}, 0);
    assert_true(base == jpt_rng_uniform((jpt_rng_key){7, 1, 2, 3}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){8, 1, 2, 3}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){7 + (1ull << 32), 1, 2, 3}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){7, 2, 2, 3}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){7, 1, 3, 3}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){7, 1, 2, 4}, 0));
    assert_true(base != jpt_rng_uniform((jpt_rng_key){7, 1, 2, 3}, 1));
}

/* FIPS 180-4's examples. */
static void sha256_known_answers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int         times;
        const char *want;
    } kat[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        jpt_sha256 s;
        char       hex[65];
        jpt_sha256_init(&s);
        for (int k = 0; k < kat[i].times; k++)
            jpt_sha256_update(&s, kat[i].text, strlen(kat[i].text));
        jpt_sha256_final(&s, hex);
        assert_string_equal(hex, kat[i].want);
    }
}

static void utf8(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t      n, valid;
    } cases[] = {
        {"abc", 3, 3},           {"\xc3\xa9", 2, 2},          {"\xe4\xbd\xa0x", 4, 4},   {"\xf0\x9f\x98\x80", 4, 4}, {"a\xff", 2, 1},
        {"\xc3", 1, 0},          {"\xc0\x80", 2, 0} /* overlong */, {"\xe0\x9f\xbf", 3, 0}, {"\xed\xa0\x80", 3, 0} /* surrogate */,
        {"\xf4\x90\x80\x80", 4, 0} /* past U+10FFFF */, {"\xf0\x9f\x98", 3, 0}, {"a\0b", 3, 3}, {"", 0, 0}, {"\x80", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(jpt_utf8_valid_prefix(cases[i].s, cases[i].n), cases[i].valid);
    int32_t cp;
    assert_int_equal(jpt_utf8_decode("\xe4\xbd\xa0", 3, &cp), 3);
    assert_int_equal(cp, 0x4f60);
    assert_int_equal(jpt_utf8_decode("\xe4\xbd", 2, &cp), 1);
    assert_int_equal(cp, -1);
}

static void nearest_name(void **state) {
    (void)state;
    static const char *const names[] = {"greedy", "sample", "top-k", "top-p", "typical"};
    assert_string_equal(jpt_nearest("gredy", names, 5), "greedy");
    assert_string_equal(jpt_nearest("topp", names, 5), "top-p");
    assert_string_equal(jpt_nearest("typicl", names, 5), "typical");
    assert_null(jpt_nearest("contrastive", names, 5));
    assert_null(jpt_nearest("x", names, 0));
}

static void sizes(void **state) {
    (void)state;
    size_t r;
    assert_true(jpt_mul_size(SIZE_MAX / 2, 2, &r) && r == SIZE_MAX - 1);
    assert_false(jpt_mul_size(SIZE_MAX / 2 + 1, 2, &r));
    assert_true(jpt_add_size(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
    assert_false(jpt_add_size(SIZE_MAX, 1, &r));
}

static void arena_and_buffer(void **state) {
    (void)state;
    jpt_arena a = {0};
    for (size_t n = 1; n < 100000; n = n * 3 + 1) {
        unsigned char *p = jpt_arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xab, n);
    }
    assert_null(jpt_arena_alloc(&a, SIZE_MAX));
    assert_string_equal(jpt_arena_strndup(&a, "abcdef", 3), "abc");
    jpt_arena_fini(&a);
    jpt_buf b = {0};
    for (int i = 0; i < 1000; i++)
        jpt_buf_printf(&b, "%d,", i);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(b.p[b.n], 0);
    assert_false(jpt_buf_reserve(&b, SIZE_MAX - 10));
    assert_true(b.oom);
    jpt_buf_fini(&b);
}

/* A write that fails leaves what was there. */
static void file_write_keeps_the_old(void **state) {
    (void)state;
    char      dir[] = "/tmp/jpt-base-XXXXXX", path[64];
    jpt_error err = {0};
    jpt_buf   b = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a/b", dir);
    assert_int_equal(jpt_file_write(path, "x", 1, &err), JPT_IO);
    assert_non_null(strstr(err.msg, path));
    snprintf(path, sizeof path, "%s/f", dir);
    assert_int_equal(jpt_file_write(path, "one", 3, &err), JPT_OK);
    assert_int_equal(jpt_file_write(path, "two!", 4, &err), JPT_OK);
    assert_int_equal(jpt_file_read(path, &b, &err), JPT_OK);
    assert_string_equal(b.p, "two!");
    jpt_buf_fini(&b);
    char        link[64];
    struct stat sb;
    snprintf(link, sizeof link, "%s/link", dir);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(jpt_file_write(link, "three", 5, &err), JPT_OK);
    assert_true(lstat(link, &sb) == 0 && S_ISLNK(sb.st_mode));
    b.n = 0;
    assert_int_equal(jpt_file_read(path, &b, &err), JPT_OK);
    assert_string_equal(b.p, "three");
    unlink(link);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* no temporary file stays */
    err = (jpt_error){0};
    assert_int_equal(jpt_file_write("/dev/full", "x", 1, &err), JPT_IO);
    assert_non_null(strstr(err.msg, "/dev/full"));
    assert_true(stat("/dev/full", &sb) == 0 && S_ISCHR(sb.st_mode)); /* and it is still a device */
    err = (jpt_error){0};
    assert_int_equal(jpt_file_read("/nonexistent/x", &b, &err), JPT_IO);
    assert_non_null(strstr(err.msg, "/nonexistent/x"));
    assert_int_equal(jpt_file_read("/", &b, &err), JPT_IO);
    jpt_buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers), cmocka_unit_test(uniform_numbers), cmocka_unit_test(sha256_known_answers), cmocka_unit_test(utf8),
        cmocka_unit_test(nearest_name),         cmocka_unit_test(sizes),           cmocka_unit_test(arena_and_buffer),     cmocka_unit_test(file_write_keeps_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
