/* The CUDA back-end: memory, weights and operations as kernel launches on one stream.
 *
 * Operations of a pass that comes again (decoding steps) are recorded once and replayed as a graph: what changes from step to
 * step (tokens, positions, page tables, rows wanted) lies in a fixed place on the card and is uploaded before.
 * The first error is kept; operations after it do nothing; selections, and `status`, report it. */
#include "cuda.h"
#include "prefill.h"
#include <stdlib.h>
#include <string.h>

typedef struct kernel_place {
    int         file;
    const char *name;
} kernel_place;
static const kernel_place kernel_of[KN_COUNT] = {
#define KERNEL_PLACE(file, name) {CF_##file, #name},
    KERNELS(KERNEL_PLACE)
};

_Thread_local cu_context cuda_current;

static cuda_backend *of(jpt_backend *be) { return cuda_of(be); }

bool cuda_ok(cuda_backend *c, cu_result r) {
    if (r != CU_OK && c->broken == CU_OK)
        c->broken = r;
    return r == CU_OK;
}

jpt_status cuda_check(cuda_backend *c, jpt_error *err) {
    return c->broken == CU_OK ? JPT_OK : JPT_FAIL(err, DEVICE, "%s: %s; what was finished is kept", c->name, c->why[0] ? c->why : cu_text(&c->cu, c->broken));
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

void cuda_launch(cuda_backend *c, cu_function f, unsigned gx, unsigned gy, unsigned gz, unsigned threads, size_t shared, void **args) {
    cu_launch_attribute a = {.id = CU_LAUNCH_OVERLAP, .value.overlap = 1};
    cu_launch_config    k = {gx, gy, gz, threads, 1, 1, (unsigned)shared, c->stream, &a, c->overlap ? 1u : 0u};
    if (c->broken == CU_OK && gx > 0)
        cuda_ok(c, c->cu.launch(&k, f, args, NULL));
}

/* Recorded passes go; what was seen once stays known. */
static void drop_graphs(cuda_backend *c) {
    for (int i = 0; i < c->n_graphs; i++) {
        if (c->graph[i].exec)
            c->cu.graph_exec_destroy(c->graph[i].exec);
        c->graph[i].exec = NULL;
    }
}

bool cuda_room(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes) {
    if (bytes <= *cap)
        return true;
    if (*p) {
        cuda_ok(c, c->cu.stream_sync(c->stream));
        c->cu.memory_free(*p);
    }
    *p = 0;
    *cap = 0;
    bytes = (bytes + 4095) & ~(size_t)4095;
    if (!cuda_ok(c, c->cu.memory_alloc(p, bytes)))
        return false;
    *cap = bytes;
    drop_graphs(c); /* they hold the old address */
    return true;
}

bool cuda_zeros(cuda_backend *c, cu_pointer *p, size_t *cap, size_t bytes) {
    size_t before = *cap;
    return cuda_room(c, p, cap, bytes) && (*cap == before || cuda_ok(c, c->cu.set(*p, 0, *cap, c->stream)));
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

void *cuda_alloc(jpt_backend *be, size_t bytes) {
    cuda_backend *c = of(be);
    cu_pointer    p = 0;
    if (c->cu.memory_alloc(&p, bytes ? bytes : 1) != CU_OK)
        return NULL;
    cuda_ok(c, c->cu.set(p, 0, bytes ? bytes : 1, c->stream));
    return (void *)(uintptr_t)p;
}

static void cuda_free(jpt_backend *be, void *d) {
    cuda_backend *c = of(be);
    if (!d)
        return;
    c->cu.stream_sync(c->stream);
    c->cu.memory_free((cu_pointer)(uintptr_t)d);
    drop_graphs(c); /* a session ends: its passes will not come again */
    c->n_graphs = 0, c->plainly = false;
}

void cuda_upload(jpt_backend *be, void *d, const void *host, size_t bytes) {
    cuda_backend *c = of(be);
    if (c->broken == CU_OK && bytes) {
        cuda_ok(c, c->cu.upload((cu_pointer)(uintptr_t)d, host, bytes, c->stream));
        cuda_ok(c, c->cu.stream_sync(c->stream)); /* the host's memory is the caller's again */
    }
}

void cuda_download(jpt_backend *be, void *host, const void *d, size_t bytes) {
    cuda_backend *c = of(be);
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.download(host, (cu_pointer)(uintptr_t)d, bytes, c->stream));
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.stream_sync(c->stream));
    if (c->broken != CU_OK)
        memset(host, 0xff, bytes); /* NaN: no reader takes it for a result */
}

static void cuda_sync(jpt_backend *be) { cuda_ok(of(be), of(be)->cu.stream_sync(of(be)->stream)); }

static void cuda_describe(const jpt_backend *be, char *out, size_t cap) {
    const cuda_backend *c = (const cuda_backend *)be;
    const char         *products = cuda_prefill_name(c);
    snprintf(out, cap, "cuda (%s%s%s)", c->name, products ? ", " : "", products ? products : "");
}

static const char *cuda_uuid(const jpt_backend *be) { return ((const cuda_backend *)be)->uuid; }

/* ---- row by row -------------------------------------------------------------------------------------------------------------- */

static void cuda_embed(jpt_backend *be, const jpt_weight *weight, const int32_t *tokens, int32_t n, float *y) {
    cuda_backend *c = of(be);
    dev_weight    w = ((const cuda_weight *)weight)->w;
    if (!c->in_pass || tokens != c->tokens) { /* on its own: in tests */
        int32_t     *zero = calloc((size_t)n, sizeof *zero);
        JPT_ASSERT(zero);
        cuda_put_inputs(c, tokens, zero, n, NULL, 0, 1, NULL, 0, NULL, 0);
        c->pos = NULL;
        free(zero);
    }
    int *tok = cuda_input(c, c->at_tok);
    c->ready.x = NULL;
    bool turns = c->in_pass && c->inv_freq_host && cuda_room(c, &c->turns, &c->turns_cap, (size_t)n * (size_t)c->half * 2 * sizeof(float)); /* the model's, from the last pass */
    int       *pos = cuda_input(c, c->at_pos), half = turns ? c->half : 0;
    cu_pointer to = turns ? c->turns : 0;
    c->turned = turns;
    LAUNCH(c, embed, n, cuda_blocks((size_t)w.cols, 256), 1, 256, 0, &w, &tok, &y, &pos, &c->inv_freq_dev, &half, &to);
}

void cuda_swiglu(jpt_backend *be, const float *gate, const float *up, size_t n, float *y) {
    LAUNCH(of(be), swiglu, cuda_blocks(n, 256), 1, 1, 256, 0, &gate, &up, &n, &y);
}

static void cuda_add(jpt_backend *be, float *x, const float *y, size_t n) { LAUNCH(of(be), add, cuda_blocks(n, 256), 1, 1, 256, 0, &x, &y, &n); }

void cuda_gather(jpt_backend *be, const float *x, const int32_t *rows, int32_t n, int32_t D, float *y) {
    cuda_backend *c = of(be);
    int           which = c->in_pass && rows == c->rows[0] ? 0 : c->in_pass && rows == c->rows[1] ? 1 : -1;
    if (which < 0) {
        int32_t *zero = calloc((size_t)(n ? n : 1), sizeof *zero);
        JPT_ASSERT(zero);
        cuda_put_inputs(c, NULL, zero, n, NULL, 0, 1, rows, n, NULL, 0);
        c->pos = NULL;
        free(zero);
        which = 0;
    }
    int *r = cuda_input(c, c->at_rows[which]);
    LAUNCH(c, gather, n, 1, 1, 256, 0, &x, &r, &D, &y);
}

/* ---- passes ---------------------------------------------------------------------------------------------------------------- */

static recorded *find_graph(cuda_backend *c, const graph_key *key) {
    for (int i = 0; i < c->n_graphs; i++)
        if (memcmp(&c->graph[i].key, key, sizeof *key) == 0)
            return &c->graph[i];
    return NULL;
}

/* Out of memory for recorded passes: the one that shall run and those to come do without. */
static void go_plainly(cuda_backend *c) {
    size_t free_bytes = 0, total = 0;
    c->cu.stream_sync(c->stream); /* what still runs keeps its memory */
    drop_graphs(c);
    c->plainly = true;
    c->cu.memory_info(&free_bytes, &total);
    jpt_log(JPT_LOG_WARN, "%s: no memory to record passes, %zu of %zu MB are free: they run kernel by kernel, small ones slower; fewer sequences or a shorter context leave room", c->name,
            free_bytes >> 20, total >> 20);
}

/* What tells this pass's launches from another's; compared as bytes, so the padding is zeroed. */
static void key_of(const cuda_backend *c, const jpt_pass_inputs *in, graph_key *key) {
    memset(key, 0, sizeof *key);
    key->shape = in->shape;
    key->chunks = c->chunks;
    key->tiles = c->n_tiles, key->skipped = c->skipped;
}

static bool cuda_pass_begin(jpt_backend *be, const jpt_pass_inputs *in) {
    cuda_backend *c = of(be);
    c->in_pass = true;
    c->ready.x = NULL;
    c->turned = false;
    c->apart = in->shape.apart && in->shape.n <= ATTN_ROWS; /* one span of rows, so that tiles of shared pasts fit it */
    cuda_put_inputs(c, in->tokens, in->pos, in->shape.n, in->runs, in->n_runs, in->page_size, in->logits_rows, in->shape.n_logits, in->hidden_rows, in->shape.n_hidden);
    c->recording = false;
    if (in->shape.n > GRAPH_ROWS || c->plainly || c->broken != CU_OK)
        return false;
    graph_key key;
    key_of(c, in, &key);
    recorded *g = find_graph(c, &key);
    if (g && g->exec) {
        cu_result r = c->cu.graph_launch(g->exec, c->stream);
        if (r == CU_OUT_OF_MEMORY) {
            go_plainly(c);
            return false;
        }
        cuda_ok(c, r);
        c->in_pass = c->apart = false;
        return true;
    }
    if (!g) { /* the first time it runs plainly, and scratch grows */
        if (c->n_graphs == GRAPHS) {
            drop_graphs(c);
            c->n_graphs = 0;
        }
        c->graph[c->n_graphs].exec = NULL;
        c->graph[c->n_graphs++].key = key;
        return false;
    }
    c->recording = cuda_ok(c, c->cu.capture_begin(c->stream, CU_CAPTURE_RELAXED));
    return false;
}

/* The recorded pass becomes g's, in the room of all others where there is no other, and runs. */
static cu_result run_recorded(cuda_backend *c, cu_graph graph, recorded *g) {
    cu_result r = c->cu.graph_instantiate(&g->exec, graph, 0);
    if (r == CU_OUT_OF_MEMORY) {
        g->exec = NULL;
        c->cu.stream_sync(c->stream);
        drop_graphs(c);
        r = c->cu.graph_instantiate(&g->exec, graph, 0);
    }
    if (r == CU_OK)
        return c->cu.graph_launch(g->exec, c->stream);
    g->exec = NULL;
    return r;
}

static bool cuda_pass_end(jpt_backend *be, const jpt_pass_inputs *in) {
    cuda_backend *c = of(be);
    cu_graph      graph = NULL;
    cu_result     r = CU_OK;
    if (c->recording) {
        c->recording = false;
        graph_key key;
        key_of(c, in, &key);
        recorded *g = find_graph(c, &key);
        if (cuda_ok(c, c->cu.capture_end(c->stream, &graph)) && g)
            r = run_recorded(c, graph, g);
        if (graph)
            c->cu.graph_destroy(graph);
    }
    if (r == CU_OUT_OF_MEMORY) {
        go_plainly(c);
        c->ready.x = NULL, c->turned = false; /* as a pass begins: nothing has run */
        return false;
    }
    cuda_ok(c, r);
    c->in_pass = c->apart = false;
    return true;
}

/* ---- open ------------------------------------------------------------------------------------------------------------------------ */

static void cuda_close(jpt_backend *be) {
    cuda_backend *c = of(be);
    if (c->context) {
        if (c->stream)
            c->cu.stream_sync(c->stream);
        cuda_prefill_close(c);
        drop_graphs(c);
        cu_pointer d[] = {c->in_dev, c->normed.p, c->acts.p, c->brought.p, c->turns, c->attn, c->done, c->work, c->pick, c->arg, c->arg_done, c->look, c->look_done, (cu_pointer)(uintptr_t)c->inv_freq_dev};
        for (size_t i = 0; i < sizeof d / sizeof *d; i++)
            if (d[i])
                c->cu.memory_free(d[i]);
        for (int i = 0; i < SLOTS; i++)
            if (c->in_host[i])
                c->cu.host_free(c->in_host[i]);
        if (c->host_row)
            c->cu.host_free(c->host_row);
        if (c->pick_host)
            c->cu.host_free(c->pick_host);
        for (int i = 0; i < CF_COUNT; i++)
            if (c->module[i])
                c->cu.module_unload(c->module[i]);
        cuda_marks_fini(c);
        if (c->stream)
            c->cu.stream_destroy(c->stream);
        c->cu.context_release(c->device);
        cuda_current = NULL;
    }
    host_fini(&c->host);
    cu_driver_close(&c->cu);
    free(c);
}

static jpt_status cuda_status(jpt_backend *be, jpt_error *err) { return cuda_check(of(be), err); }

static const jpt_backend_ops cuda_ops = {
    .name = "cuda", .close = cuda_close, .describe = cuda_describe, .gpu_uuid = cuda_uuid, .suits = cuda_suits, .alloc = cuda_alloc, .free = cuda_free, .upload = cuda_upload,
    .download = cuda_download, .sync = cuda_sync, .weight_new = cuda_weight_new, .weight_free = cuda_weight_free, .embed = cuda_embed,
    .rmsnorm = cuda_rmsnorm, .matmul = cuda_matmul, .rope = cuda_rope, .kv_write = cuda_kv_write, .attention = cuda_attention,
    .kv_copy_page = cuda_kv_copy_page, .swiglu = cuda_swiglu, .add = cuda_add, .gather = cuda_gather, .select = cuda_select,
    .topk = cuda_topk, .keep_rows = cuda_keep_rows, .similarity = cuda_similarity, .row_dots = cuda_row_dots, .contrast = cuda_contrast, .layer = cuda_layer, .logits = cuda_logits, .pass_begin = cuda_pass_begin, .pass_end = cuda_pass_end,
    .mark = cuda_mark, .marks = cuda_marks, .status = cuda_status,
};

#if defined(JPT_HAVE_CUDA) /* a file's fatbin: made by the build */
#define CUDA_FILE_CODE(file) extern const unsigned char jpt_cuda_##file[];
CUDA_FILES(CUDA_FILE_CODE)
#define CUDA_FILE_ROW(file) jpt_cuda_##file,
#else
#define CUDA_FILE_ROW(file) NULL,
#endif
static const unsigned char *const file_code[CF_COUNT] = {CUDA_FILES(CUDA_FILE_ROW)};

static jpt_status find_kernel(cuda_backend *c, int file, const char *name, cu_function *f, jpt_error *err) {
    cu_result r = c->cu.module_function(f, c->module[file], name);
    return r == CU_OK ? JPT_OK : JPT_FAIL(err, UNSUPPORTED, "%s: kernel %s: %s", c->name, name, cu_text(&c->cu, r));
}

static jpt_status load_kernels(cuda_backend *c, jpt_error *err) {
    static const char *const kinds[K_PLAIN] = {"f32", "f16", "bf16"}, *const tiles[K_COUNT - K_PLAIN] = {"f16", "bf16", "f8", "i8", "i8m", "i8h", "i4", "i4c"};
    for (int i = 0; i < CF_COUNT; i++) {
        cu_result r = c->cu.module_load(&c->module[i], file_code[i]);
        if (r != CU_OK)
            return JPT_FAIL(err, UNSUPPORTED, "%s does not take jpt's kernels: %s", c->name, cu_text(&c->cu, r));
    }
    for (int i = 0; i < KN_COUNT; i++)
        JPT_TRY(find_kernel(c, kernel_of[i].file, kernel_of[i].name, &c->kernel[i], err));
    const struct {
        int kernel, bytes;
    } shared[] = {{KN_attend_shared_128, (int)cuda_shared_attention_bytes(128)}, {KN_attend_f16, c->shared_most}, {KN_attend_f32, c->shared_most}};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        if (!cuda_ok(c, c->cu.function_set(c->kernel[shared[i].kernel], CU_FUNC_MAX_DYNAMIC_SHARED, shared[i].bytes)))
            return JPT_FAIL(err, UNSUPPORTED, "%s gives a block less than %d bytes of shared memory: %s", c->name, shared[i].bytes, cu_text(&c->cu, c->broken));
    for (int k = 0; k < K_PLAIN; k++)
        for (int x = 0; x < 4; x++)
            for (int w = 0; w < 3; w++) {
                static const char *const forms[] = {"one", "two", "pair"};
                char                     name[64];
                snprintf(name, sizeof name, "matmul_%s_%d_%s", kinds[k], 1 << x, forms[w]);
                JPT_TRY(find_kernel(c, CF_kernels, name, &c->matmul[k][x][w], err));
            }
    for (int k = 0; k < K_COUNT - K_PLAIN; k++)
        for (int x = 0; x < 5; x++)
            for (int pair = 0; pair < 2; pair++) {
                static const char *const forms[] = {"1", "2", "4", "8", "staged"};
                char                     name[64];
                snprintf(name, sizeof name, "tiled_%s_%s%s", tiles[k], forms[x], pair ? "_pair" : "");
                JPT_TRY(find_kernel(c, CF_kernels, name, &c->tiled[k][x][pair], err));
            }
    return JPT_OK;
}

static jpt_status start(cuda_backend *c, int number, jpt_error *err) {
    int count = 0, major = 0, minor = 0;
    JPT_TRY(cu_driver_open(&c->cu, err));
    cu_result r = c->cu.device_count(&count);
    if (r != CU_OK || count == 0)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA sees no card%s%s; use --device cpu", r ? ": " : "", r ? cu_text(&c->cu, r) : "");
    if (number >= count)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA sees %d card%s; there is no cuda:%d", count, count == 1 ? "" : "s", number);
    if ((r = c->cu.device_get(&c->device, number)) == CU_OK)
        r = c->cu.device_name(c->name, sizeof c->name, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&major, CU_MAJOR, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&minor, CU_MINOR, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&c->n_sm, CU_SM_COUNT, c->device);
    if (r == CU_OK)
        r = c->cu.device_attribute(&c->shared_most, CU_SHARED_MOST, c->device);
    c->shared_most -= 256; /* the kernels' own fixed variables */
    if (r != CU_OK)
        return JPT_FAIL(err, UNSUPPORTED, "CUDA card %d: %s", number, cu_text(&c->cu, r));
    if (major < 8)
        return JPT_FAIL(err, UNSUPPORTED, "%s is of compute capability %d.%d; jpt needs 8.0 (Ampere) or later; use --device cpu", c->name, major, minor);
    unsigned char u[16];
    if (c->cu.device_uuid(u, c->device) == CU_OK)
        snprintf(c->uuid, sizeof c->uuid, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
                 u[10], u[11], u[12], u[13], u[14], u[15]);
    c->overlap = major >= 9;
    if ((r = c->cu.context_retain(&c->context, c->device)) == CU_OK && (r = c->cu.context_set(c->context)) == CU_OK)
        r = c->cu.stream_create(&c->stream, 1);
    if (r != CU_OK)
        return JPT_FAIL(err, UNSUPPORTED, "%s does not start: %s", c->name, cu_text(&c->cu, r));
    JPT_TRY(load_kernels(c, err));
    cuda_prefill_open(c);
    return JPT_OK;
}

jpt_status jpt_cuda_open(const char *name, const jpt_backend_options *opt, jpt_backend **out, jpt_error *err) {
    long number = 0;
    if (name[4] == ':') {
        char *end;
        number = strtol(name + 5, &end, 10);
        if (end == name + 5 || *end || number < 0 || number > 1023)
            return JPT_FAIL(err, ARG, "device '%s': expected cuda or cuda:N", name);
    } else if (name[4]) {
        return JPT_FAIL(err, ARG, "device '%s': expected cuda or cuda:N", name);
    }
    if (!file_code[0])
        return JPT_FAIL(err, UNSUPPORTED, "device '%s': this build has no CUDA kernels (nvcc was not there); use --device cpu", name);
    cuda_backend *c = calloc(1, sizeof *c);
    if (!c)
        return JPT_FAIL(err, NOMEM, "out of memory for a back-end");
    c->base = (jpt_backend){&cuda_ops, *opt};
    jpt_status st = start(c, (int)number, err);
    if (st != JPT_OK) {
        cuda_close(&c->base);
        return st;
    }
    *out = &c->base;
    return JPT_OK;
}
