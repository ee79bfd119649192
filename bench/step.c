/* One loaded model that obeys a line at a time and answers with two times, seconds of the clock and of processors: what
 * bench/cpu.py holds against a peer's.
 *   bench-step MODEL THREADS [f32]
 *   prefill N            a prompt of N tokens, logits of the last
 *   decode N STEPS       after N tokens: STEPS forwards of one token; no selection
 *   batch B N STEPS      B sequences that share a prompt of N: STEPS forwards of B rows
 *   spec SPEC N STEPS    the strategy after a prompt of N, EOS ignored: the decode of STEPS tokens; a third number: seconds of
 *                        the clock in selection, which is all that is no forward, also what a strategy does with rows itself
 *   read MB              read bandwidth of all threads, GB/s
 *   nll FILE N           perplexity of the first N tokens of a text
 *   memory               peak resident set, file, packed weights, a cache of 1024 positions; MB */
#include <jpt/decode.h>
#include <jpt/pool.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void must(jpt_status st, const jpt_error *err) {
    if (st != JPT_OK) {
        fprintf(stderr, "bench-step: %s\n", err->msg);
        exit(1);
    }
}

/* Seconds of the clock and of all threads' processors. */
typedef struct spent {
    double clock, processor;
} spent;

static spent now(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (spent){jpt_now_s(), (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)};
}

static spent since(spent t) {
    spent n = now();
    return (spent){n.clock - t.clock, n.processor - t.processor};
}

static void answer(spent t) { printf("%.9f %.9f\n", t.clock, t.processor); }

static int32_t token_at(int32_t i) { return 100 + i * 37 % 8000; }

static void forward(jpt_session *s, const jpt_seq *seq, int32_t n_seqs, const int32_t *tokens, int32_t n) {
    jpt_batch_item item[64];
    jpt_batch      b = {.items = item, .n_items = n_seqs};
    jpt_error      err = {0};
    for (int32_t i = 0; i < n_seqs; i++)
        item[i] = (jpt_batch_item){.seq = seq[i], .tokens = tokens + (n_seqs > 1 ? i : 0), .n_tokens = n, .logits = JPT_ROWS_LAST};
    must(jpt_session_forward(s, &b, &err), &err);
}

static jpt_session *open_session(jpt_model *m, int32_t n_seqs, int32_t n_outputs, int32_t n_ctx) {
    jpt_session_options o = {.n_ctx = n_ctx, .n_seqs = n_seqs, .n_outputs = n_outputs};
    jpt_session        *s = NULL;
    jpt_error           err = {0};
    must(jpt_session_open(m, &o, &s, &err), &err);
    return s;
}

static void tokens_of(int32_t *t, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        t[i] = token_at(i);
}

static spent prefill(jpt_model *m, int32_t n) {
    jpt_session *s = open_session(m, 1, 1, n + 1);
    int32_t     *t = malloc((size_t)n * sizeof *t);
    jpt_seq      seq;
    tokens_of(t, n);
    jpt_seq_new(s, &seq, NULL);
    spent t0 = now();
    forward(s, &seq, 1, t, n);
    t0 = since(t0);
    jpt_session_close(s);
    free(t);
    return t0;
}

static spent batch(jpt_model *m, int32_t n_seqs, int32_t n, int32_t steps) {
    jpt_session *s = open_session(m, n_seqs, n_seqs, n + steps);
    int32_t     *t = malloc((size_t)(n + 64) * sizeof *t);
    jpt_seq      seq[64];
    tokens_of(t, n);
    jpt_seq_new(s, &seq[0], NULL);
    forward(s, &seq[0], 1, t, n);
    for (int32_t i = 1; i < n_seqs; i++)
        jpt_seq_fork(s, seq[0], &seq[i], NULL);
    spent t0 = now();
    for (int32_t k = 0; k < steps; k++) {
        for (int32_t i = 0; i < n_seqs; i++)
            t[i] = token_at(k * n_seqs + i);
        forward(s, seq, n_seqs, t, 1);
    }
    t0 = since(t0);
    jpt_session_close(s);
    free(t);
    return t0;
}

/* The decode begins where the prompt's last pass ends. */
typedef struct phases {
    spent  begun;
    double forward_at, forward_s;
} phases;

static void on_phase(void *ud, jpt_phase phase, bool begin, int64_t ns) {
    phases *p = ud;
    if (phase == JPT_PHASE_PREFILL && !begin)
        *p = (phases){.begun = now()};
    else if (phase == JPT_PHASE_DECODE && begin)
        p->forward_at = 1e-9 * (double)ns;
    else if (phase == JPT_PHASE_DECODE)
        p->forward_s += 1e-9 * (double)ns - p->forward_at;
}

static void spec(jpt_model *m, const char *text, int32_t n, int32_t steps) {
    jpt_spec_list       list = {0};
    jpt_error           err = {0};
    jpt_generation      g = {0};
    jpt_session        *s = NULL;
    jpt_session_options o = {.n_ctx = n + steps + 8};
    int32_t            *t = malloc((size_t)n * sizeof *t);
    must(jpt_spec_parse(text, &list, &err), &err);
    const jpt_spec *one = &list.spec[0];
    jpt_spec_session_options(&one, 1, 1, &o);
    must(jpt_session_open(m, &o, &s, &err), &err);
    tokens_of(t, n);
    jpt_request r = {.spec = one, .prompt = t, .n_prompt = n, .max_new_tokens = steps, .ignore_eos = true, .seed = 1};
    phases      p = {0};
    jpt_session_observe(s, on_phase, &p);
    must(jpt_generate(s, &r, 1, 1, &g, NULL, NULL, &err), &err);
    spent  t0 = since(p.begun);
    double share = steps / (double)g.n_tokens;
    printf("%.9f %.9f %.9f\n", t0.clock * share, t0.processor * share, (t0.clock - p.forward_s) * share);
    jpt_generation_fini(&g);
    jpt_session_close(s);
    jpt_spec_list_fini(&list);
    free(t);
}

typedef uint64_t u64x8 __attribute__((vector_size(64), may_alias));
enum { READ_CHUNK = 1 << 20 };
typedef struct reading {
    const char *p;
    uint64_t    sum[1024];
} reading;

static void read_chunk(void *ud, int32_t chunk, int32_t thread) {
    reading     *r = ud;
    const u64x8 *p = (const u64x8 *)(const void *)(r->p + (size_t)chunk * READ_CHUNK);
    u64x8        a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < READ_CHUNK / sizeof *p; i += 4) {
        for (size_t k = 0; k < 4; k++) /* as the kernels do: the hardware's own prefetch ends at a page */
            __builtin_prefetch(p + i + 32 + k);
        a ^= p[i];
        b ^= p[i + 1];
        c ^= p[i + 2];
        d ^= p[i + 3];
    }
    a ^= b ^ c ^ d;
    r->sum[thread] ^= a[0];
}

static double read_bandwidth(int threads, int32_t mb) {
    jpt_pool *pool = NULL;
    jpt_error err = {0};
    reading   r = {0};
    char     *p = aligned_alloc((size_t)2 << 20, (size_t)mb << 20);
    must(jpt_pool_open(threads, &pool, &err), &err);
    madvise(p, (size_t)mb << 20, MADV_HUGEPAGE); /* as weights that are packed at load */
    memset(p, 1, (size_t)mb << 20);
    r.p = p;
    double t0 = jpt_now_s();
    jpt_pool_run(pool, read_chunk, &r, mb);
    t0 = jpt_now_s() - t0;
    jpt_pool_close(pool);
    free(p);
    return (double)mb * 0x1p20 * 1e-9 / t0;
}

static double perplexity(jpt_model *m, const char *path, int32_t n) {
    jpt_session *s = open_session(m, 1, 64, 1024);
    jpt_error    err = {0};
    jpt_mapping  map = {0};
    jpt_ids      ids = {0};
    double       nll = 0;
    int32_t      count = 0;
    must(jpt_map_file(path, &map, &err), &err);
    must(jpt_tokenizer_encode(jpt_model_tokenizer(m), (const char *)map.p, map.n, JPT_ENCODE_ADD_SPECIAL, &ids, &err), &err);
    must(jpt_model_nll(s, ids.p, (int32_t)ids.n < n ? (int32_t)ids.n : n, &nll, &count, &err), &err);
    jpt_session_close(s);
    jpt_ids_fini(&ids);
    jpt_unmap(&map);
    return exp(nll / count);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: bench-step MODEL THREADS [f32]\n");
        return 2;
    }
    jpt_model_options o = {.device = "cpu", .n_threads = atoi(argv[2]), .dtype = argc > 3 ? argv[3] : NULL};
    jpt_model        *m = NULL;
    jpt_error         err = {0};
    char              line[4096], a[4000];
    int               x, y, z;
    must(jpt_model_open(argv[1], &o, &m, &err), &err);
    printf("ready %s; %s; load %.3f s\n", jpt_model_get_info(m)->backend, jpt_model_get_info(m)->quantization, jpt_model_get_info(m)->load_s);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "prefill %d", &x) == 1)
            answer(prefill(m, x));
        else if (sscanf(line, "decode %d %d", &x, &y) == 2)
            answer(batch(m, 1, x, y));
        else if (sscanf(line, "batch %d %d %d", &z, &x, &y) == 3 && z <= 64)
            answer(batch(m, z, x, y));
        else if (sscanf(line, "spec %3999s %d %d", a, &x, &y) == 3)
            spec(m, a, x, y);
        else if (sscanf(line, "read %d", &x) == 1)
            printf("%.3f\n", read_bandwidth(o.n_threads, x));
        else if (sscanf(line, "nll %3999s %d", a, &x) == 2)
            printf("%.6f\n", perplexity(m, a, x));
        else if (strncmp(line, "memory", 6) == 0) {
            struct rusage u;
            getrusage(RUSAGE_SELF, &u);
            const jpt_model_info *i = jpt_model_get_info(m);
            printf("%.1f %.1f %.1f %.1f\n", (double)u.ru_maxrss / 1024, (double)i->file_bytes * 0x1p-20, (double)i->weight_bytes * 0x1p-20,
                   2.0 * 2 * i->n_layers * i->n_kv_heads * i->head_dim * 1024 * 0x1p-20);
        } else
            printf("unknown: %s", line);
        fflush(stdout);
    }
    jpt_model_close(m);
    return 0;
}
