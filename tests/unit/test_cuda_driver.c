/* What the CUDA back-end does when the driver or cuBLASLt refuses: on a stand-in for both (fixtures/cuda), whose kernels do nothing. */
#include "../fixtures/cuda/fake_cuda.h"
#include "tiny_model.h"
#include <dlfcn.h>
#include <jpt/backend.h>
#include <jpt/model.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

static fake_cuda *fake;
static char       logged[1024]; /* all warnings so far */
static int        n_logged;

static void listen(void *ud, jpt_log_level level, const char *line) {
    (void)ud;
    if (level > JPT_LOG_WARN)
        return;
    snprintf(logged, sizeof logged, "%s", line);
    n_logged++;
}

static int reset(void **ud) {
    (void)ud;
    *fake = (fake_cuda){.shared_most = 232448};
    n_logged = 0;
    return 0;
}

static jpt_status open_tiny(tiny_model t, jpt_model **m, jpt_error *err) {
    char             *path = tiny_model_file(&t);
    jpt_model_options o = {.device = "cuda"};
    jpt_status        st = jpt_model_open(path, &o, m, err);
    unlink(path);
    free(path);
    return st;
}

/* The same pass n times: seen, recorded, replayed ... */
static void steps(jpt_session *s, int n) {
    static const int32_t token = 5;
    jpt_seq              q;
    jpt_error            err = {0};
    if (jpt_seq_new(s, &q, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; i < n; i++) {
        jpt_batch_item it = {.seq = q, .tokens = &token, .n_tokens = 1, .logits = JPT_ROWS_LAST};
        jpt_batch      b = {.items = &it, .n_items = 1};
        float          z[264];
        if (jpt_session_forward(s, &b, &err) != JPT_OK || jpt_session_logits(s, 0, z, &err) != JPT_OK) /* the logits' reader sees errors */
            fail_msg("step %d: %s", i, err.msg);
    }
    jpt_seq_free(s, q);
}

static jpt_session *open_session(jpt_model *m) {
    jpt_session_options o = {.n_ctx = 64, .n_seqs = 1};
    jpt_session        *s;
    jpt_error           err = {0};
    if (jpt_session_open(m, &o, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return s;
}

static jpt_model *open_model(void) {
    jpt_model *m;
    jpt_error  err = {0};
    if (open_tiny((tiny_model){0}, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return m;
}

static void passes_are_replayed(void **ud) {
    (void)ud;
    jpt_model   *m = open_model();
    jpt_session *s = open_session(m);
    steps(s, 1);
    int plain = fake->launches;
    steps(s, 9);
    assert_true(fake->graphs == 1 && fake->replays == 9 && fake->launches == plain);
    jpt_session_close(s);
    assert_true(fake->graphs_left == 0 && n_logged == 0);
    jpt_model_close(m);
}

static void other_recorded_passes_make_room(void **ud) {
    (void)ud;
    jpt_model   *m = open_model();
    jpt_session *s = open_session(m), *other = open_session(m);
    fake->graphs_fail_from = 2, fake->graphs_fail = 1;
    steps(s, 3);
    steps(other, 3);
    assert_true(fake->graphs == 3 && fake->graphs_left == 1 && fake->replays == 4 && n_logged == 0);
    jpt_session_close(s);
    jpt_session_close(other);
    jpt_model_close(m);
}

static void without_room_passes_run_plainly(void **ud) {
    (void)ud;
    jpt_model   *m = open_model();
    jpt_session *s = open_session(m);
    fake->graphs_fail_from = 1, fake->graphs_fail = 2;
    int before = fake->launches;
    steps(s, 1);
    int once = fake->launches - before;
    steps(s, 4);
    assert_true(once > 0 && fake->graphs == 2 && fake->replays == 0);
    if (n_logged != 1 || !strstr(logged, "Fake card: no memory to record passes, 3 of 1024 MB are free"))
        fail_msg("%d lines: %s", n_logged, logged);
    int after = fake->launches;
    steps(s, 1);
    assert_int_equal(fake->launches - after, once - 1); /* the first pass brings the angles by a kernel of their own */
    jpt_session_close(s);
    s = open_session(m); /* there may be room again */
    steps(s, 3);
    assert_true(fake->graphs == 3 && fake->replays == 2 && n_logged == 1);
    /* a recorded pass that finds no room when it runs */
    fake->replays_fail_from = fake->replays + 1, fake->replays_fail = 1;
    after = fake->launches;
    steps(s, 1);
    assert_true(fake->launches - after == once - 1 && fake->graphs_left == 0 && n_logged == 2);
    jpt_session_close(s);
    jpt_model_close(m);
}

static void shapes_too_large_are_refused(void **ud) {
    (void)ud;
    jpt_model *m;
    jpt_error  err = {0};
    fake->shared_most = 1024;
    assert_int_equal(open_tiny((tiny_model){.n_heads = 4, .n_kv_heads = 1}, &m, &err), JPT_UNSUPPORTED);
    assert_string_equal(err.msg, "Fake card: attention of 4 heads of width 16 that share a key-value head needs 2816 bytes of shared memory a block, the card gives 768; use --device cpu");
}

/* y of n rows by a float16 matrix; what the back-end says of it. */
static jpt_status product(jpt_backend *be, int32_t rows, int32_t cols, int32_t n, jpt_error *err) {
    void       *data = calloc((size_t)rows * (size_t)cols, 2);
    jpt_weight *w;
    assert_non_null(data);
    assert_int_equal(be->ops->weight_new(be, JPT_F16, rows, cols, data, &w, NULL, err), JPT_OK);
    float *x = be->ops->alloc(be, (size_t)n * (size_t)cols * sizeof *x), *y = be->ops->alloc(be, (size_t)n * (size_t)rows * sizeof *y);
    be->ops->matmul(be, w, x, n, NULL, y);
    be->ops->free(be, x);
    be->ops->free(be, y);
    be->ops->weight_free(be, w);
    free(data);
    return be->ops->status(be, err);
}

static void products_that_fail(void **ud) {
    (void)ud;
    jpt_backend *be;
    jpt_error    err = {0};
    char         name[160];
    assert_int_equal(jpt_backend_open("cuda", NULL, &be, &err), JPT_OK);
    be->ops->describe(be, name, sizeof name);
    assert_string_equal(name, "cuda (Fake card, cuBLASLt 13.1.0)");
    assert_int_equal(product(be, 64, 64, 128, &err), JPT_OK);
    assert_int_equal(fake->products, 1);
    fake->products_fail_from = 2, fake->products_fail = 1; /* nothing was written: jpt's own kernels do it */
    int before = fake->launches;
    assert_int_equal(product(be, 64, 64, 128, &err), JPT_OK);
    assert_true(fake->launches > before + 2);
    assert_string_equal(logged, "Fake card: cuBLASLt 13.1.0: CUBLAS_STATUS_EXECUTION_FAILED (13) for 128 rows times rows 0 to 64 of a 64 x 64 matrix; products go without the library from here on, large ones slower");
    assert_int_equal(product(be, 64, 64, 128, &err), JPT_OK);
    assert_true(fake->products == 2 && n_logged == 1);
    jpt_backend_close(be);
    /* in pieces, of which the second fails */
    assert_int_equal(jpt_backend_open("cuda", NULL, &be, &err), JPT_OK);
    fake->products_fail_from = 4;
    assert_int_equal(product(be, 2 * 65536, 576, 128, &err), JPT_DEVICE);
    assert_string_equal(err.msg, "Fake card: cuBLASLt 13.1.0: CUBLAS_STATUS_EXECUTION_FAILED (13) for 128 rows times rows 65536 to 131072 of a 131072 x 576 matrix; "
                                 "JPT_CUBLASLT_LIB=none does without the library; what was finished is kept");
    jpt_backend_close(be);
}

/* Phases are told on the host's clock though the card's drifts from it: by 200 us here while they are timed. */
static int64_t told[64];
static int     n_told;
static void note(void *ud, jpt_phase phase, bool begin, int64_t t_ns) {
    (void)ud, (void)phase, (void)begin;
    if (n_told < 64)
        told[n_told++] = t_ns;
}

static void clocks_that_drift(void **ud) {
    (void)ud;
    jpt_model   *m = open_model();
    jpt_session *s = open_session(m);
    jpt_seq      q;
    jpt_error    err = {0};
    n_told = 0;
    fake->drift = 1e-3;
    assert_int_equal(jpt_seq_new(s, &q, &err), JPT_OK);
    jpt_session_observe(s, note, NULL);
    for (int i = 0; i < 8; i++) {
        static const int32_t token = 5;
        jpt_batch_item       it = {.seq = q, .tokens = &token, .n_tokens = 1, .logits = JPT_ROWS_LAST};
        jpt_batch            b = {.items = &it, .n_items = 1};
        float                z[264];
        usleep(25000);
        int64_t before = jpt_now_ns();
        int     first = n_told;
        assert_int_equal(jpt_session_forward(s, &b, &err), JPT_OK);
        assert_int_equal(jpt_session_logits(s, 0, z, &err), JPT_OK);
        jpt_score_item   of = {.from = {.row = 0}};
        int32_t          index, id, n;
        float            score;
        (void)jpt_session_topk(s, &of, 1, 1, &index, &id, &score, &n, &err); /* waits, and so tells */
        assert_true(n_told > first);
        assert_true(told[first] > before - 60000 && told[first] < jpt_now_ns() + 60000); /* 25 us by the drift since the clocks were compared */
    }
    jpt_session_observe(s, NULL, NULL);
    jpt_session_close(s);
    jpt_model_close(m);
}

int main(void) {
    jpt_backend *be;
    jpt_error    err = {0};
    void        *lib = dlopen(JPT_FAKE_CUDA_LIB, RTLD_NOW | RTLD_LOCAL);
    fake = lib ? dlsym(lib, "fake_cuda_state") : NULL;
    setenv("JPT_CUDA_LIB", JPT_FAKE_CUDA_LIB, 1);
    setenv("JPT_CUBLASLT_LIB", JPT_FAKE_CUDA_LIB, 1);
    if (!fake || jpt_backend_open("cuda", NULL, &be, &err) != JPT_OK) {
        printf("skipped: %s\n", fake ? err.msg : dlerror());
        return fake ? 77 : 1;
    }
    jpt_backend_close(be);
    jpt_log_set(listen, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(passes_are_replayed, reset), cmocka_unit_test_setup(other_recorded_passes_make_room, reset),
                                       cmocka_unit_test_setup(without_room_passes_run_plainly, reset), cmocka_unit_test_setup(shapes_too_large_are_refused, reset),
                                       cmocka_unit_test_setup(products_that_fail, reset), cmocka_unit_test_setup(clocks_that_drift, reset)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
