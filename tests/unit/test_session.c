/* Sessions on tiny models: forks, cuts, batches and splits change nothing of what is computed, bit for bit. */
#include "tiny_model.h"
#include "model/model_priv.h"
#include <jpt/model.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

enum { V = 264, N = 37 };
static int32_t text[N];

static jpt_model *open_tiny(const tiny_model *t, const jpt_model_options *o) {
    char      *path = tiny_model_file(t);
    jpt_model *m;
    jpt_error  err = {0};
    if (jpt_model_open(path, o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    unlink(path);
    free(path);
    for (int i = 0; i < N; i++)
        text[i] = (i * 37 + 11) % 250;
    return m;
}

static jpt_session *open_session(jpt_model *m, int32_t n_seqs, int32_t n_batch, int32_t n_tokens) {
    jpt_session_options o = {.n_ctx = 128, .n_seqs = n_seqs, .n_batch = n_batch, .n_outputs = 64, .n_tokens = n_tokens};
    jpt_session        *s;
    jpt_error           err = {0};
    if (jpt_session_open(m, &o, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    return s;
}

/* Append tokens, return the last position's logits. */
static void feed(jpt_session *s, jpt_seq q, const int32_t *tok, int32_t n, float *z) {
    jpt_batch_item it = {.seq = q, .tokens = tok, .n_tokens = n, .logits = JPT_ROWS_LAST};
    jpt_batch      b = {.items = &it, .n_items = 1};
    jpt_error      err = {0};
    if (jpt_session_forward(s, &b, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(jpt_session_logits(s, it.logits_row, z, NULL), JPT_OK);
}

static void splits_change_nothing(void **unused) {
    (void)unused;
    static const char *const archs[] = {"llama", "qwen2"};
    for (int a = 0; a < 2; a++)
        for (int d = 0; d < 3; d++) {
            tiny_model t = {.architecture = archs[a], .dtype = d == 0 ? JPT_F32 : d == 1 ? JPT_Q4_1 : JPT_Q8_0, .untied = d == 1};
            jpt_model_options two = {.n_threads = 2}, one = {.n_threads = 1};
            jpt_model   *m = open_tiny(&t, &two), *m1 = open_tiny(&t, &one);
            jpt_session *s = open_session(m, 4, 64, 0), *small = open_session(m, 4, 5, 0), *single = open_session(m1, 1, 64, 0);
            float        whole[V], other[V];
            jpt_seq      q, r;
            assert_int_equal(jpt_seq_new(s, &q, NULL), JPT_OK);
            feed(s, q, text, N, whole);
            assert_int_equal(jpt_seq_new(small, &r, NULL), JPT_OK);
            feed(small, r, text, N, other); /* passes of 5 rows */
            assert_memory_equal(whole, other, sizeof whole);
            assert_int_equal(jpt_seq_truncate(small, r, 0, NULL), JPT_OK);
            for (int i = 0; i < N; i++)
                feed(small, r, text + i, 1, other); /* token by token */
            assert_memory_equal(whole, other, sizeof whole);
            assert_int_equal(jpt_seq_new(single, &r, NULL), JPT_OK);
            feed(single, r, text, N, other); /* one thread */
            assert_memory_equal(whole, other, sizeof whole);
            /* three sequences of different lengths in one batch */
            jpt_seq b[3];
            for (int i = 0; i < 3; i++)
                assert_int_equal(jpt_seq_new(s, &b[i], NULL), JPT_OK);
            jpt_batch_item it[3] = {{.seq = b[0], .tokens = text + 5, .n_tokens = 9, .logits = JPT_ROWS_LAST},
                                    {.seq = b[1], .tokens = text, .n_tokens = N, .logits = JPT_ROWS_ALL},
                                    {.seq = b[2], .tokens = text + 1, .n_tokens = 1, .logits = JPT_ROWS_NONE}};
            jpt_batch      batch = {.items = it, .n_items = 3};
            assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
            assert_int_equal(it[2].logits_row, -1);
            assert_int_equal(jpt_session_logits(s, it[1].logits_row + N - 1, other, NULL), JPT_OK);
            assert_memory_equal(whole, other, sizeof whole);
            jpt_session_close(s), jpt_session_close(small), jpt_session_close(single);
            jpt_model_close(m), jpt_model_close(m1);
        }
}

/* A row of a tree computes what it would at the end of its own line, and a kept path is that line. */
static void trees(void **unused) {
    (void)unused;
    tiny_model           t = {.dtype = JPT_Q4_1};
    jpt_model           *m = open_tiny(&t, NULL);
    jpt_session         *s, *line = open_session(m, 1, 64, 0);
    jpt_session_options  so = {.n_ctx = 128, .n_seqs = 2, .n_batch = 4, .n_outputs = 64, .n_tree = 9};
    static const int32_t tok[9] = {5, 6, 7, 6, 8, 9, 10, 11, 12}, parent[9] = {-1, 0, 0, 1, 1, 2, 5, -1, 6};
    static const bool    marked[9] = {true, false, true, true, false, true, true, true, true};
    float                a[V], b[V];
    jpt_seq              q, l, other;
    jpt_error            err = {0};
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    jpt_seq_new(s, &q, NULL), jpt_seq_new(s, &other, NULL), jpt_seq_new(line, &l, NULL);
    feed(s, other, text + 3, 11, a);
    feed(s, q, text, 20, a);
    for (int round = 0; round < 2; round++) { /* passes of 4 rows: the tree is split, beside a line in round 1 */
        jpt_batch_item it[2] = {{.seq = q, .tokens = tok, .n_tokens = 9, .parent = parent, .marked = marked, .logits = JPT_ROWS_MARKED},
                                {.seq = other, .tokens = text, .n_tokens = 3, .logits = JPT_ROWS_LAST}};
        jpt_batch      batch = {.items = it, .n_items = 1 + round};
        assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
        assert_int_equal(jpt_seq_length(s, q), 20);
        for (int k = 0, row = 0; k < 9; k++) {
            int32_t path[9], n = 0;
            for (int p = k; p >= 0; p = parent[p])
                path[n++] = tok[p];
            for (int i = 0; i < n / 2; i++) {
                int32_t x = path[i];
                path[i] = path[n - 1 - i];
                path[n - 1 - i] = x;
            }
            if (!marked[k])
                continue;
            assert_int_equal(jpt_seq_truncate(line, l, 0, NULL), JPT_OK);
            feed(line, l, text, 20, b);
            feed(line, l, path, n, b);
            assert_int_equal(jpt_session_logits(s, it[0].logits_row + row++, a, NULL), JPT_OK);
            assert_memory_equal(a, b, sizeof a);
        }
    }
    assert_int_equal(jpt_seq_keep(s, q, (int32_t[]){0, 5}, 2, &err), JPT_ARG); /* 5 stands after 2 */
    assert_non_null(strstr(err.msg, "row 5"));
    assert_int_equal(jpt_seq_keep(s, q, (int32_t[]){0, 2, 5, 6}, 4, NULL), JPT_OK);
    assert_int_equal(jpt_seq_length(s, q), 24);
    assert_int_equal(jpt_seq_tokens(s, q)[23], 10);
    assert_int_equal(jpt_seq_keep(s, q, (int32_t[]){0}, 1, NULL), JPT_ARG); /* the rest is forgotten */
    feed(s, q, text, 2, a);
    assert_int_equal(jpt_seq_truncate(line, l, 20, NULL), JPT_OK);
    feed(line, l, (int32_t[]){5, 7, 9, 10}, 4, b);
    feed(line, l, text, 2, b);
    assert_memory_equal(a, b, sizeof a);
    /* no page is lost, whatever becomes of a tree */
    for (int i = 0; i < 200; i++) {
        jpt_batch_item it = {.seq = q, .tokens = tok, .n_tokens = 9, .parent = parent, .marked = marked, .logits = JPT_ROWS_MARKED};
        jpt_batch      batch = {.items = &it, .n_items = 1};
        assert_int_equal(jpt_session_forward(s, &batch, NULL), JPT_OK);
        if (i % 3 == 1)
            assert_int_equal(jpt_seq_truncate(s, q, 24, NULL), JPT_OK);
        if (i % 3 == 2) {
            jpt_seq_free(s, q);
            jpt_seq_new(s, &q, NULL);
            feed(s, q, text, 24, a);
        }
    }
    /* what is wrong is said, and nothing changes */
    jpt_batch_item wrong = {.seq = q, .tokens = tok, .n_tokens = 2, .parent = (int32_t[]){-1, 1}, .marked = marked, .logits = JPT_ROWS_NONE};
    jpt_batch      batch = {.items = &wrong, .n_items = 1};
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "does not stand before it"));
    wrong.parent = (int32_t[]){-1, 0};
    wrong.seq = l;
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(line, &batch, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "room for 0"));
    jpt_session_close(s), jpt_session_close(line);
    jpt_model_close(m);
}

static void forks_and_cuts_with(int32_t page_size) {
    tiny_model   t = {0};
    jpt_model   *m = open_tiny(&t, NULL);
    jpt_session *s;
    jpt_session_options so = {.n_ctx = 128, .n_seqs = 3, .n_batch = 64, .page_size = page_size};
    assert_int_equal(jpt_session_open(m, &so, &s, NULL), JPT_OK);
    float        a[V], b[V], c[V];
    jpt_seq      q, f, g;
    jpt_seq_new(s, &q, NULL);
    feed(s, q, text, 20, a); /* 20 = one full page of 16 and a half-full one */
    assert_int_equal(jpt_seq_fork(s, q, &f, NULL), JPT_OK);
    assert_true(jpt_session_work(s).kv_bytes_moved == 0); /* a fork moves nothing */
    int32_t left = 7, right = 8;
    feed(s, f, &left, 1, b);
    /* a shared half-full page is copied; a page of one position is never half full */
    assert_int_equal(jpt_session_work(s).kv_bytes_moved > 0, page_size > 1);
    uint64_t moved = jpt_session_work(s).kv_bytes_moved;
    feed(s, q, &right, 1, a);
    assert_true(jpt_session_work(s).kv_bytes_moved == moved); /* now it is q's own */
    jpt_seq_new(s, &g, NULL);
    int32_t fresh[21];
    memcpy(fresh, text, 20 * sizeof *text);
    fresh[20] = left;
    feed(s, g, fresh, 21, c);
    assert_memory_equal(b, c, sizeof b);
    assert_int_equal(jpt_seq_truncate(s, f, 20, NULL), JPT_OK);
    feed(s, f, &right, 1, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(jpt_seq_length(s, f), 21);
    assert_int_equal(jpt_seq_tokens(s, f)[20], right);
    /* all in use, then stale */
    jpt_error err = {0};
    assert_int_equal(jpt_seq_fork(s, q, &g, &err), JPT_CTX_FULL);
    jpt_seq_free(s, f);
    jpt_batch_item it = {.seq = f, .tokens = text, .n_tokens = 1};
    jpt_batch      batch = {.items = &it, .n_items = 1};
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_ARG);
    assert_string_equal(err.msg, "sequence 1 is not live");
    jpt_session_close(s);
    jpt_model_close(m);
}

static void forks_and_cuts(void **unused) {
    (void)unused;
    forks_and_cuts_with(16);
    forks_and_cuts_with(1);
    forks_and_cuts_with(0); /* the default of several sequences is 1 */
}

static void refusals_change_nothing(void **unused) {
    (void)unused;
    tiny_model   t = {0};
    jpt_model   *m = open_tiny(&t, NULL);
    jpt_session *s = open_session(m, 2, 64, 48); /* three pages and one more a sequence: 5 */
    float        a[V], b[V];
    jpt_seq      q, r;
    jpt_error    err = {0};
    jpt_seq_new(s, &q, NULL);
    jpt_seq_new(s, &r, NULL);
    feed(s, q, text, N, a);
    static int32_t many[128];
    jpt_batch_item it[2] = {{.seq = q, .tokens = many, .n_tokens = 1, .logits = JPT_ROWS_LAST}, {.seq = r, .tokens = many, .n_tokens = 60}};
    jpt_batch      batch = {.items = it, .n_items = 2};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_CTX_FULL); /* pages */
    assert_int_equal(jpt_seq_length(s, q), N);
    it[1].n_tokens = 128 + 1;
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_CTX_FULL); /* context */
    assert_non_null(strstr(err.msg, "context of 128"));
    many[0] = V;
    it[1].n_tokens = 1;
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_ARG); /* id */
    many[0] = 0;
    it[1].seq = q;
    err = (jpt_error){0};
    assert_int_equal(jpt_session_forward(s, &batch, &err), JPT_ARG); /* twice */
    assert_int_equal(jpt_seq_truncate(s, q, N + 1, NULL), JPT_ARG);
    jpt_seq_truncate(s, q, 0, NULL);
    feed(s, q, text, N, b);
    assert_memory_equal(a, b, sizeof a);
    jpt_session_close(s);
    jpt_model_close(m);
}

static void exits_and_hidden(void **unused) {
    (void)unused;
    tiny_model     t = {.n_layers = 3};
    jpt_model     *m = open_tiny(&t, NULL);
    jpt_session   *s = open_session(m, 1, 64, 0);
    float          last[V], early[V], hidden[64];
    jpt_seq        q;
    jpt_batch_item it = {.seq = 0, .tokens = text, .n_tokens = 6, .logits = JPT_ROWS_LAST, .hidden = JPT_ROWS_ALL};
    jpt_batch      b = {.items = &it, .n_items = 1, .exit_layers = {1, 3}, .n_exit_layers = 2};
    jpt_seq_new(s, &q, NULL);
    it.seq = q;
    assert_int_equal(jpt_session_forward(s, &b, NULL), JPT_OK);
    jpt_session_logits(s, 0, last, NULL);
    jpt_session_exit_logits(s, 1, 0, early, NULL);
    assert_memory_equal(last, early, sizeof last); /* the last layer's exit is the model's own output */
    jpt_session_exit_logits(s, 0, 0, early, NULL);
    assert_memory_not_equal(last, early, sizeof last);
    assert_int_equal(jpt_session_hidden(s, 5, hidden, NULL), JPT_OK);
    assert_int_equal(jpt_session_hidden(s, 6, hidden, NULL), JPT_ARG);
    jpt_work w = jpt_session_work(s);
    assert_true(w.forwards == 1 && w.passes == 1 && w.positions_computed == 6 && w.logits_rows == 3);
    /* as many as there may be: the same bits as one, for a row that comes again and again */
    float     one[4][V];
    jpt_error err = {0};
    for (int32_t round = 0; round < 3; round++)
        for (int32_t n = 1; n <= JPT_EXIT_MAX; n += JPT_EXIT_MAX - 1) {
            jpt_seq_truncate(s, q, 0, NULL);
            b.n_exit_layers = n;
            for (int32_t e = 0; e < n; e++)
                b.exit_layers[e] = n == 1 ? round + 1 : e % 4;
            if (jpt_session_forward(s, &b, &err) != JPT_OK)
                fail_msg("%s", err.msg);
            for (int32_t e = 0; e < n; e++) {
                jpt_session_exit_logits(s, e, 0, early, NULL);
                if (n == 1)
                    memcpy(one[round + 1], early, sizeof early);
                else if (e % 4 > 0 && e % 4 <= round + 1)
                    assert_memory_equal(one[e % 4], early, sizeof early);
            }
        }
    b.n_exit_layers = JPT_EXIT_MAX + 1;
    assert_int_equal(jpt_session_forward(s, &b, &err), JPT_ARG);
    assert_string_equal(err.msg, "65 exit layers in one forward: at most 64");
    jpt_session_close(s);
    jpt_model_close(m);
}

static void nothing_is_allocated_a_token(void **unused) {
    if (getenv("JPT_DEVICE") && *getenv("JPT_DEVICE"))
        skip(); /* a driver's memory is its own affair */
    (void)unused;
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* mallinfo2 does not see ASan's allocator */
#else
    tiny_model   t = {0};
    jpt_model   *m = open_tiny(&t, NULL);
    jpt_session *s = open_session(m, 1, 64, 0);
    float        z[V];
    jpt_seq      q;
    jpt_seq_new(s, &q, NULL);
    feed(s, q, text, N, z);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 20; i++)
        feed(s, q, text + i, 1, z);
    assert_int_equal(mallinfo2().uordblks, before);
    jpt_session_close(s);
    jpt_model_close(m);
#endif
}

static void a_model_larger_than_memory(void **unused) {
    (void)unused;
    tiny_model t = {0};
    char      *path = tiny_model_file(&t);
    jpt_model *m;
    jpt_error  err = {0};
    setenv("JPT_TEST_MEMORY_BYTES", "100000", 1);
    assert_int_equal(jpt_model_open(path, NULL, &m, &err), JPT_NOMEM);
    assert_non_null(strstr(err.msg, "this machine has 0.0 GB free"));
    unsetenv("JPT_TEST_MEMORY_BYTES");
    unlink(path);
    free(path);
}

/* A device that works on while the host goes on: what is queued takes 20 ms, paid by the first that waits. */
static jpt_backend_ops        late;
static const jpt_backend_ops *real;
static bool                   queued;

static void late_sync(jpt_backend *be) {
    (void)be;
    if (queued)
        jpt_sleep_s(0.02);
    queued = false;
}

static void late_rmsnorm(jpt_backend *be, const float *x, const float *gain, int32_t n, int32_t D, float eps, float *y) {
    queued = true;
    real->rmsnorm(be, x, gain, n, D, eps, y);
}

static jpt_status late_select(jpt_backend *be, const float *z, int32_t n_vocab, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    late_sync(be);
    return real->select(be, z, n_vocab, items, n, out, err);
}

static int64_t marked[JPT_MARKS];
static int     n_marked;

static void late_mark(jpt_backend *be) {
    (void)be;
    marked[n_marked++] = jpt_now_ns() + (queued ? 20000000 : 0);
}

static void late_marks(jpt_backend *be, int64_t *t_ns, int32_t n) {
    (void)be;
    if (n)
        memcpy(t_ns, marked, (size_t)n * sizeof *t_ns);
    n_marked = 0;
}

static void add_phase(void *ud, jpt_phase phase, bool begin, int64_t t_ns) { ((double *)ud)[phase] += (begin ? -1e-9 : 1e-9) * (double)t_ns; }

static void a_phase_has_the_time_of_its_work(void **unused) {
    (void)unused;
    tiny_model        t = {0};
    jpt_model_options ref = {.device = "ref"};
    jpt_model        *m = open_tiny(&t, &ref);
    jpt_session      *s = open_session(m, 1, 8, 0);
    jpt_seq           q;
    jpt_selected      chosen;
    double            spent[JPT_PHASE_COUNT] = {0};
    real = m->be->ops;
    late = *real;
    late.sync = late_sync, late.rmsnorm = late_rmsnorm, late.select = late_select, late.mark = late_mark, late.marks = late_marks;
    m->be->ops = &late;
    assert_int_equal(jpt_seq_new(s, &q, NULL), JPT_OK);
    jpt_session_observe(s, add_phase, spent);
    jpt_session_set_phase(s, JPT_PHASE_DECODE);
    jpt_batch_item  it = {.seq = q, .tokens = text, .n_tokens = 1, .logits = JPT_ROWS_LAST};
    jpt_batch       b = {.items = &it, .n_items = 1};
    jpt_select_item pick = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jpt_session_forward(s, &b, NULL), JPT_OK);
        assert_true(queued); /* the host does not wait for it */
        assert_int_equal(jpt_session_select(s, &pick, 1, &chosen, NULL), JPT_OK);
    }
    assert_true(spent[JPT_PHASE_DECODE] >= 0.06 && spent[JPT_PHASE_SELECT] >= 0 && spent[JPT_PHASE_SELECT] < spent[JPT_PHASE_DECODE] - 0.04);
    jpt_session_observe(s, NULL, NULL); /* nobody looks: nobody waits */
    assert_int_equal(jpt_session_forward(s, &b, NULL), JPT_OK);
    assert_true(queued);
    jpt_session_wait(s);
    assert_false(queued);
    m->be->ops = real;
    jpt_session_close(s);
    jpt_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_phase_has_the_time_of_its_work),
        cmocka_unit_test(trees), cmocka_unit_test(splits_change_nothing), cmocka_unit_test(forks_and_cuts), cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(exits_and_hidden), cmocka_unit_test(nothing_is_allocated_a_token), cmocka_unit_test(a_model_larger_than_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
