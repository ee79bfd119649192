/* Thread pool: every chunk once, across many short steps, with more threads than processors and after sleeping. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jpt/pool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { MAX_CHUNKS = 257 };

typedef struct tally {
    atomic_int hits[MAX_CHUNKS], bad_thread;
    int        n_threads;
} tally;

static void count(void *ud, int32_t chunk, int32_t thread) {
    tally *t = ud;
    atomic_fetch_add(&t->hits[chunk], 1);
    if (thread < 0 || thread >= t->n_threads)
        atomic_fetch_add(&t->bad_thread, 1);
}

static void check(int n_threads, int rounds, int n_chunks, useconds_t pause) {
    jpt_pool *p = NULL;
    tally     t = {0};
    assert_int_equal(jpt_pool_open(n_threads, &p, NULL), JPT_OK);
    t.n_threads = jpt_pool_threads(p);
    for (int r = 0; r < rounds; r++) {
        if (pause)
            usleep(pause);
        jpt_pool_run(p, count, &t, n_chunks);
        for (int c = 0; c < n_chunks; c++) /* done when run returns, not later */
            assert_int_equal(atomic_load(&t.hits[c]), r + 1);
    }
    for (int c = n_chunks; c < MAX_CHUNKS; c++)
        assert_int_equal(atomic_load(&t.hits[c]), 0);
    assert_int_equal(atomic_load(&t.bad_thread), 0);
    jpt_pool_close(p);
}

static void test_every_chunk_once(void **ud) {
    (void)ud;
    static const int chunks[] = {0, 1, 2, 3, 64, MAX_CHUNKS};
    for (int n = 1; n <= 3; n++)
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
            check(n, 200, chunks[c], 0);
}

static void test_oversubscribed(void **ud) {
    (void)ud;
    check(jpt_cpu_count() * 4, 50, 64, 0);
}

static void test_wakes_sleepers(void **ud) {
    (void)ud;
    check(2, 50, 8, 1000); /* far longer than the spin */
}

/* Workers that are late with their last chunk: the caller sleeps until they are done. */
static void dawdle(void *ud, int32_t chunk, int32_t thread) {
    if (thread > 0)
        usleep(500); /* far longer than the spin */
    count(ud, chunk, thread);
}

static void test_waits_for_the_last(void **ud) {
    (void)ud;
    jpt_pool *p = NULL;
    tally     t = {.n_threads = 4};
    assert_int_equal(jpt_pool_open(4, &p, NULL), JPT_OK);
    for (int r = 0; r < 100; r++) {
        jpt_pool_run(p, dawdle, &t, 8);
        for (int c = 0; c < 8; c++)
            assert_int_equal(atomic_load(&t.hits[c]), r + 1);
    }
    assert_int_equal(atomic_load(&t.bad_thread), 0);
    jpt_pool_close(p);
}

/* Two pools at once, each with a thread a processor. */
static void *short_steps(void *ud) {
    tally    *t = ud;
    jpt_pool *p = NULL;
    if (jpt_pool_open(0, &p, NULL) != JPT_OK)
        return NULL;
    t->n_threads = jpt_pool_threads(p);
    for (int r = 0; r < 2000; r++)
        jpt_pool_run(p, count, t, 16);
    jpt_pool_close(p);
    return t;
}

static void test_two_at_once(void **ud) {
    (void)ud;
    static tally t[2];
    pthread_t    thread[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, short_steps, &t[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *done;
        assert_int_equal(pthread_join(thread[i], &done), 0);
        assert_ptr_equal(done, &t[i]);
        for (int c = 0; c < 16; c++)
            assert_int_equal(atomic_load(&t[i].hits[c]), 2000);
        assert_int_equal(atomic_load(&t[i].bad_thread), 0);
    }
}

static void test_default_threads(void **ud) {
    (void)ud;
    jpt_pool *p = NULL;
    assert_int_equal(jpt_pool_open(0, &p, NULL), JPT_OK);
    assert_int_equal(jpt_pool_threads(p), jpt_cpu_count());
    jpt_pool_close(p);
    jpt_pool_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_chunk_once),
        cmocka_unit_test(test_oversubscribed),
        cmocka_unit_test(test_wakes_sleepers),
        cmocka_unit_test(test_waits_for_the_last),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_default_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
