/* The bench loop: blocks of cells in random order, requests one by one (or a batch of one cell in one
 * window), each finished one in the store at once. */
#include <jpt/run.h>
#include <jpt/store.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct cell {
    jpt_task       *task;
    const jpt_spec *spec;
    int64_t         id;
    int32_t         n_items, max_new_tokens;
} cell;

typedef struct bench {
    const jpt_run_options *opt;
    jpt_store             *store;
    jpt_session           *session, *draft_session;
    char                   draft_model[200]; /* file and hash, "" without one */
    cell                  *cell;
    size_t                 n_cells;
    int64_t                study, model, meter;
    double                 idle_w;
    jpt_run_progress       progress;
    jpt_run_summary       *sum;
} bench;

/* ---- what the rows refer to -------------------------------------------------------------------------- */

static void cpu_name(char out[128]) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char  line[512];
    snprintf(out, 128, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(out, 128, "%.120s", strchr(line, ':') + 2);
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    if (f)
        fclose(f);
}

#define BLOCKS "blocks hold each cell once, order drawn from the seed; one unmeasured warm-up request; block b uses seed + b"

static jpt_status put_study(bench *b, jpt_error *err) {
    jpt_study_row  r;
    char           cpu[128];
    jpt_study_row_init(&r);
    cpu_name(cpu);
    r.jpt_version = JPT_VERSION;
    r.cpu = cpu; /* the host's name and kernel change from one container to the next and are no part of a cell's identity */
    r.sampler_order = "as the cell's chain= says; by default Hugging Face's: processors, min_new_tokens, temperature, then the cuts";
    r.protocol = b->opt->n_batch > 1 ? "one window for a few rounds of a batch, shared by " JPT_RUN_SHARE "; " BLOCKS : "one window a request; " BLOCKS;
    r.leaves_out = "model loading, tokenisation of the prompt, scoring";
    return jpt_store_put_study(b->store, &r, &b->study, err);
}

static jpt_status put_model(bench *b, jpt_error *err) {
    const jpt_model_info *i = jpt_model_get_info(b->opt->model);
    jpt_model_row         r;
    char                  sha[65];
    jpt_model_row_init(&r);
    if (!b->opt->model_sha256)
        JPT_TRY(jpt_sha256_file(i->path, sha, err));
    r.file = strrchr(i->path, '/') ? strrchr(i->path, '/') + 1 : i->path;
    /* the file's stem tells quantisations apart; GGUF's general.name does not */
    char name[256];
    snprintf(name, sizeof name, "%s", r.file);
    char *dot = strrchr(name, '.');
    if (dot && dot != name)
        *dot = '\0';
    r.name = name;
    r.sha256 = b->opt->model_sha256 ? b->opt->model_sha256 : sha;
    r.architecture = i->architecture;
    r.n_params = (int64_t)i->n_params;
    r.file_bytes = (int64_t)i->file_bytes;
    r.dtype = i->quantization;
    r.backend = i->backend;
    r.compute_dtype = i->compute;
    return jpt_store_put_model(b->store, &r, &b->model, err);
}

static jpt_status name_draft(bench *b, jpt_error *err) {
    if (!b->opt->draft)
        return JPT_OK;
    const char *path = jpt_model_get_info(b->opt->draft)->path;
    char        sha[65];
    JPT_TRY(jpt_sha256_file(path, sha, err));
    snprintf(b->draft_model, sizeof b->draft_model, "%.100s %.64s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path, sha);
    return JPT_OK;
}

static jpt_status put_meter(bench *b, jpt_error *err) {
    const jpt_meter_limits *l = jpt_meter_get_limits(b->opt->meter);
    jpt_meter_row           r;
    jpt_meter_row_init(&r);
    r.kind = r.source = l->name;
    r.modelled = l->modelled;
    r.coverage = l->coverage;
    r.accuracy = l->modelled || l->kind == JPT_METER_NONE ? l->accuracy : NULL; /* measured steps differ from run to run */
    r.declared_w = l->declared_w;
    return jpt_store_put_meter(b->store, &r, &b->meter, err);
}

static jpt_status put_cells(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    char                   seeds[64];
    snprintf(seeds, sizeof seeds, "%llu", (unsigned long long)o->seed);
    for (size_t t = 0; t < o->n_tasks; t++) {
        const jpt_task_info *ti = jpt_task_get_info(o->tasks[t]);
        jpt_task_row         tr;
        int64_t              task;
        jpt_task_row_init(&tr);
        tr.name = ti->name;
        tr.sha256 = ti->sha256;
        tr.n_items = (int64_t)ti->n_items;
        tr.primary_metric = ti->primary_metric;
        tr.higher_is_better = ti->higher_is_better;
        tr.license = ti->license;
        JPT_TRY(jpt_store_put_task(b->store, &tr, &task, err));
        for (size_t i = 0; i < ti->n_items && (o->limit < 1 || i < (size_t)o->limit); i++) {
            const jpt_task_item *it = jpt_task_get_item(o->tasks[t], i);
            jpt_item_row         row;
            int64_t              id;
            jpt_item_row_init(&row);
            row.task = task, row.item_index = (int64_t)i, row.item_id = it->id, row.prompt = it->prompt;
            JPT_TRY(jpt_store_put_item(b->store, &row, &id, err));
        }
        for (size_t s = 0; s < o->specs->n; s++) {
            cell        *c = &b->cell[b->n_cells++];
            jpt_cell_row r;
            jpt_buf      json = {0};
            *c = (cell){.task = o->tasks[t], .spec = &o->specs->spec[s], .n_items = (int32_t)ti->n_items};
            if (o->limit > 0 && o->limit < c->n_items)
                c->n_items = o->limit;
            c->max_new_tokens = o->max_new_tokens > 0 ? o->max_new_tokens : ti->max_new_tokens;
            jpt_spec_json(c->spec, &json);
            jpt_cell_row_init(&r);
            r.study = b->study;
            r.model = b->model;
            r.task = task;
            r.meter = b->meter;
            r.spec = c->spec->text;
            r.strategy = c->spec->strategy->name;
            r.params_json = json.p;
            r.device = o->device;
            r.batch = o->n_batch > 1 ? o->n_batch : 1;
            r.seeds = seeds;
            r.max_new_tokens = c->max_new_tokens;
            r.max_joules = o->max_joules > 0 ? o->max_joules : NAN;
            r.draft_model = b->draft_model[0] ? b->draft_model : NULL;
            jpt_status st = jpt_store_put_cell(b->store, &r, &c->id, err);
            jpt_buf_fini(&json);
            JPT_TRY(st);
            b->progress.total += (int64_t)c->n_items * o->n_blocks;
        }
    }
    return JPT_OK;
}

/* ---- requests ------------------------------------------------------------------------------------------ */

static jpt_request request_of(const bench *b, const cell *c, int32_t item, uint64_t seed, const jpt_ids *ids) {
    const jpt_task_info *t = jpt_task_get_info(c->task);
    int32_t              cap = c->max_new_tokens, left = t->max_total_tokens - (int32_t)ids->n;
    if (t->max_total_tokens && left < cap)
        cap = left < 1 ? 1 : left;
    return (jpt_request){.spec = c->spec, .prompt = ids->p, .n_prompt = (int32_t)ids->n, .max_new_tokens = cap,
                         .min_new_tokens = t->min_new_tokens < cap ? t->min_new_tokens : cap, .stop = t->stop, .n_stop = t->n_stop, .seed = seed, .prompt_index = (uint32_t)item,
                         .max_joules = b->opt->max_joules};
}

static void fill_energy(jpt_request_row *r, const jpt_run_request_energy *e) {
    r->energy_j = e->energy.energy_j;
    r->energy_error_j = e->energy.error_j;
    r->energy_source = e->energy.source;
    r->modelled = e->energy.modelled;
    r->net_energy_j = e->energy.net_energy_j;
    r->idle_w = e->energy.idle_w;
    r->prefill_energy_j = e->phase_j[JPT_PHASE_PREFILL];
    r->decode_energy_j = e->phase_j[JPT_PHASE_DECODE];
    r->draft_energy_j = e->phase_j[JPT_PHASE_DRAFT];
    r->verify_energy_j = e->phase_j[JPT_PHASE_VERIFY];
    r->select_energy_j = e->phase_j[JPT_PHASE_SELECT];
    r->kv_energy_j = e->phase_j[JPT_PHASE_KV];
    r->other_energy_j = e->energy.energy_j - r->prefill_energy_j - r->decode_energy_j - r->draft_energy_j - r->verify_energy_j - r->select_energy_j - r->kv_energy_j;
    r->energy_valid = e->energy.valid;
    r->energy_reasons = e->energy.reasons[0] ? e->energy.reasons : NULL;
}

static void fill_generation(jpt_request_row *r, const jpt_generation *g, jpt_buf *ids) {
    jpt_buf_addc(ids, '[');
    for (int32_t i = 0; i < g->n_tokens; i++)
        jpt_buf_printf(ids, "%s%d", i ? "," : "", g->tokens[i]);
    jpt_buf_addc(ids, ']');
    r->output_tokens = g->n_tokens;
    r->stop_reason = jpt_stop_reason_name(g->stop);
    r->text = g->text.p ? g->text.p : "";
    r->token_ids_json = ids->p;
    r->duration_s = g->duration_s;
    r->ttft_s = g->ttft_s;
    r->prefill_s = g->prefill_s;
    r->decode_s = g->decode_s;
    r->forwards = (int64_t)g->work.forwards;
    r->positions_computed = (int64_t)g->work.positions_computed;
    r->positions_discarded = (int64_t)g->work.positions_discarded;
    r->logits_rows = (int64_t)g->work.logits_rows;
    r->kv_bytes_moved = (int64_t)g->work.kv_bytes_moved;
    r->draft_forwards = (int64_t)g->work.draft_forwards;
    r->draft_positions = (int64_t)g->work.draft_positions;
    r->budget_note = g->budget_note[0] ? g->budget_note : NULL;
    r->failed = 0;
}

/* Score and store a finished request. */
static jpt_status put_request(bench *b, const cell *c, int32_t block, int32_t item, int32_t order, double t_start_s, size_t n_prompt, const jpt_generation *g,
                              const jpt_run_request_energy *e, jpt_error *err) {
    const jpt_task_info *t = jpt_task_get_info(c->task);
    jpt_buf              id_json = {0};
    jpt_task_score       scores[JPT_TASK_SCORES_MAX];
    jpt_score_row        rows[JPT_TASK_SCORES_MAX];
    int32_t              n = 0;
    int64_t              row;
    jpt_request_row      r;
    jpt_request_row_init(&r);
    JPT_TRY(jpt_task_score_item(c->task, (size_t)item, (jpt_str){g->text.p ? g->text.p : "", g->text.n}, scores, &n, err));
    r.cell = c->id;
    r.block = block;
    r.item_index = item;
    r.item_id = jpt_task_get_item(c->task, (size_t)item)->id;
    r.seed = (int64_t)(b->opt->seed + (uint64_t)block);
    r.order_in_block = order;
    r.prompt_tokens = (int64_t)n_prompt;
    r.t_start_s = t_start_s;
    fill_generation(&r, g, &id_json);
    fill_energy(&r, e);
    for (int32_t i = 0; i < n; i++)
        rows[i] = (jpt_score_row){.metric = scores[i].name, .value = scores[i].value, .ci_low = NAN, .ci_high = NAN, .n = -1};
    jpt_status st = jpt_store_put_request(b->store, &r, rows, (size_t)n, &row, err);
    jpt_buf_fini(&id_json);
    JPT_TRY(st);
    b->sum->done++;
    b->progress.done++;
    if (e->energy.valid) {
        b->progress.tokens += g->n_tokens;
        b->progress.energy_j += e->energy.energy_j;
    }
    b->progress.block = block;
    b->progress.task = t->name;
    b->progress.spec = c->spec->text;
    if (b->opt->on_progress)
        b->opt->on_progress(b->opt->ud, &b->progress);
    return JPT_OK;
}

/* Generate items[0..n) of a cell in one window, n_batch at a time; what is finished is stored, after an interruption too. */
static jpt_status run_items(bench *b, cell *c, int32_t block, const int32_t *items, int32_t n, int32_t order, jpt_error *err) {
    const jpt_task_info    *t = jpt_task_get_info(c->task);
    uint64_t                seed = b->opt->seed + (uint64_t)block;
    jpt_ids                *ids = calloc((size_t)n, sizeof *ids);
    jpt_request            *q = calloc((size_t)n, sizeof *q);
    jpt_generation         *g = calloc((size_t)n, sizeof *g);
    jpt_run_request_energy *e = calloc((size_t)n, sizeof *e);
    jpt_status              st = ids && q && g && e ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d requests", n);
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        st = jpt_run_encode_prompt(b->opt->model, t->system, jpt_task_get_item(c->task, (size_t)items[i])->prompt, t->chat, &ids[i], err);
        q[i] = request_of(b, c, items[i], seed, &ids[i]);
    }
    double t_start_s = jpt_now_s();
    if (st == JPT_OK)
        st = jpt_run_requests(b->session, b->opt->meter, b->idle_w, q, n, b->opt->n_batch, g, e, err);
    for (int32_t i = 0; (st == JPT_OK || st == JPT_INTERRUPTED) && i < n; i++) {
        jpt_error  why = {0};
        jpt_status put = g[i].stop == JPT_STOP_NONE ? JPT_OK : put_request(b, c, block, items[i], order, t_start_s, ids[i].n, &g[i], &e[i], &why);
        if (put != JPT_OK) {
            st = put;
            *err = why;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        if (g)
            jpt_generation_fini(&g[i]);
        if (ids)
            jpt_ids_fini(&ids[i]);
    }
    free(ids);
    free(q);
    free(g);
    free(e);
    return st;
}

/* An unmeasured request: caches, clocks and threads are awake before the first window. */
static jpt_status warm_up(bench *b, jpt_error *err) {
    jpt_ids        ids = {0};
    jpt_generation g = {0};
    jpt_status     st = jpt_run_encode_prompt(b->opt->model, NULL, jpt_task_get_item(b->cell[0].task, 0)->prompt, true, &ids, err);
    if (st == JPT_OK) {
        jpt_request q = request_of(b, &b->cell[0], 0, b->opt->seed, &ids);
        q.max_new_tokens = 16;
        q.min_new_tokens = 0;
        st = jpt_generate(b->session, &q, 1, 1, &g, NULL, NULL, err);
    }
    jpt_generation_fini(&g);
    jpt_ids_fini(&ids);
    return st;
}

/* Fisher-Yates by Philox: the same block has the same order after a resume. */
static void shuffle(size_t *order, size_t n, uint64_t seed, uint32_t block) {
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t i = n; i > 1; i--) {
        jpt_rng_key key = {seed ^ 0x6a7074u, block, 0xb10cu, (uint32_t)i};
        size_t      k = (size_t)(jpt_rng_uniform(key, 0) * (double)i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* Requests of one window: a few rounds of the batch, so that a kill loses little and slots seldom stand empty. */
static int32_t window_requests(const bench *b) { return b->opt->n_batch > 1 ? 8 * b->opt->n_batch : 1; }

/* The items of a cell in a block that are not stored yet, window by window. */
static jpt_status run_cell(bench *b, cell *c, int32_t block, int32_t order, int32_t *items, bool *warm, jpt_error *err) {
    for (int32_t item = 0; item < c->n_items;) {
        int32_t n = 0;
        for (; item < c->n_items && n < window_requests(b); item++) {
            bool exists;
            JPT_TRY(jpt_store_request_exists(b->store, c->id, block, item, (int64_t)(b->opt->seed + (uint64_t)block), &exists, err));
            if (exists) {
                b->progress.done++;
                b->progress.resumed++;
                b->sum->resumed++;
            } else {
                items[n++] = item;
            }
        }
        if (n == 0)
            continue;
        if (jpt_stop_requested())
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
        if (!*warm) {
            JPT_TRY(warm_up(b, err));
            JPT_TRY(jpt_meter_idle(b->opt->meter, b->opt->idle_s > 0 ? b->opt->idle_s : 5, &b->idle_w, err));
            *warm = true;
        }
        JPT_TRY(run_items(b, c, block, items, n, order, err));
    }
    return JPT_OK;
}

static jpt_status run_blocks(bench *b, jpt_error *err) {
    size_t    *order = malloc((b->n_cells ? b->n_cells : 1) * sizeof *order);
    int32_t   *items = malloc((size_t)window_requests(b) * sizeof *items);
    bool       warm = false;
    jpt_status st = order && items ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory");
    for (int32_t block = 0; st == JPT_OK && block < b->opt->n_blocks; block++) {
        shuffle(order, b->n_cells, b->opt->seed, (uint32_t)block);
        for (size_t k = 0; st == JPT_OK && k < b->n_cells; k++)
            st = run_cell(b, &b->cell[order[k]], block, (int32_t)k, items, &warm, err);
    }
    free(order);
    free(items);
    return st;
}

/* ---- scores of whole cells ------------------------------------------------------------------------------- */

typedef struct gathered {
    const jpt_task *task;
    int32_t         n, cap;
    int32_t        *item;
    jpt_str        *text;
    int64_t        *request;
    jpt_task_score *scores; /* [n][n_metrics], in the task's order */
    int32_t         n_metrics;
    jpt_task_score  names[JPT_TASK_SCORES_MAX];
    jpt_arena       arena;
} gathered;

static jpt_status gather_request(void *ud, const jpt_request_row *r) {
    gathered *g = ud;
    if (r->failed == 1 || !r->text || r->item_index < 0 || (size_t)r->item_index >= jpt_task_get_info(g->task)->n_items)
        return JPT_OK;
    if (g->n == g->cap) {
        int32_t cap = g->cap ? 2 * g->cap : 64;
        void   *a = realloc(g->item, (size_t)cap * sizeof *g->item);
        if (a)
            g->item = a;
        void *t = realloc(g->text, (size_t)cap * sizeof *g->text);
        if (t)
            g->text = t;
        void *q = realloc(g->request, (size_t)cap * sizeof *g->request);
        if (q)
            g->request = q;
        if (!a || !t || !q)
            return JPT_NOMEM;
        g->cap = cap;
    }
    char *copy = jpt_arena_strndup(&g->arena, r->text, strlen(r->text));
    if (!copy)
        return JPT_NOMEM;
    g->item[g->n] = (int32_t)r->item_index;
    g->text[g->n] = (jpt_str){copy, strlen(copy)};
    g->request[g->n++] = r->id;
    return JPT_OK;
}

static jpt_status gather_score(void *ud, const jpt_score_row *r) {
    gathered *g = ud;
    for (int32_t i = 0; i < g->n; i++)
        for (int32_t m = 0; g->request[i] == r->owner && m < g->n_metrics; m++)
            if (strcmp(g->names[m].name, r->metric) == 0)
                g->scores[(size_t)i * (size_t)g->n_metrics + (size_t)m].value = r->value;
    return JPT_OK;
}

static jpt_status score_cell(bench *b, const cell *c, jpt_error *err) {
    gathered       g = {.task = c->task};
    jpt_task_score out[JPT_TASK_SCORES_MAX];
    jpt_score_row  rows[JPT_TASK_SCORES_MAX];
    int32_t        n_out = 0;
    jpt_status     st = jpt_store_each_request(b->store, c->id, gather_request, &g, err);
    if (st == JPT_OK && g.n) {
        st = jpt_task_score_all(c->task, NULL, NULL, NULL, 0, 0, g.names, &g.n_metrics, err); /* the names alone */
        g.scores = calloc((size_t)g.n * JPT_TASK_SCORES_MAX, sizeof *g.scores);
        if (!g.scores)
            st = JPT_FAIL(err, NOMEM, "out of memory for scores");
        for (int32_t i = 0; st == JPT_OK && i < g.n * g.n_metrics; i++)
            g.scores[i].value = NAN;
        if (st == JPT_OK)
            st = jpt_store_each_score(b->store, c->id, gather_score, &g, err);
        if (st == JPT_OK)
            st = jpt_task_score_all(c->task, g.item, g.text, g.scores, g.n_metrics, g.n, out, &n_out, err);
        for (int32_t i = 0; i < n_out; i++)
            rows[i] = (jpt_score_row){.owner = c->id, .metric = out[i].name, .value = out[i].value, .ci_low = out[i].ci_low, .ci_high = out[i].ci_high, .n = out[i].n};
        if (st == JPT_OK)
            st = jpt_store_put_cell_scores(b->store, c->id, rows, (size_t)n_out, err);
    }
    free(g.item);
    free(g.text);
    free(g.request);
    free(g.scores);
    jpt_arena_fini(&g.arena);
    return st;
}

/* ---- all ----------------------------------------------------------------------------------------------------- */

static jpt_status open_session(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    const jpt_spec       **specs = malloc((o->specs->n ? o->specs->n : 1) * sizeof *specs);
    if (!specs)
        return JPT_FAIL(err, NOMEM, "out of memory");
    for (size_t i = 0; i < o->specs->n; i++)
        specs[i] = &o->specs->spec[i];
    jpt_status st = jpt_run_open_sessions(o->model, o->draft, specs, o->specs->n, o->n_batch, o->n_ctx, &b->session, &b->draft_session, err);
    free(specs);
    return st;
}

/* Every prompt fits the context: known before the first joule is spent, not after half a night. */
static jpt_status check_prompts(const bench *b, jpt_error *err) {
    int32_t n_ctx = jpt_session_n_ctx(b->session);
    for (size_t k = 0; k < b->opt->n_tasks; k++) {
        const jpt_task_info *t = jpt_task_get_info(b->opt->tasks[k]);
        for (size_t i = 0; i < t->n_items && (b->opt->limit < 1 || i < (size_t)b->opt->limit); i++) {
            const jpt_task_item *it = jpt_task_get_item(b->opt->tasks[k], i);
            jpt_ids              ids = {0};
            jpt_status           st = jpt_run_encode_prompt(b->opt->model, t->system, it->prompt, t->chat, &ids, err);
            size_t               n = ids.n;
            jpt_ids_fini(&ids);
            JPT_TRY(st);
            if (n >= (size_t)n_ctx)
                return JPT_FAIL(err, CTX_FULL, "task '%s', item '%s': the prompt has %zu tokens, but the context holds %d and the answer needs room; shorten it or use a larger --ctx",
                                t->name, it->id, n, n_ctx);
        }
    }
    return JPT_OK;
}

jpt_status jpt_run_bench(const jpt_run_options *opt, jpt_run_summary *out, jpt_error *err) {
    bench b = {.opt = opt, .idle_w = NAN, .sum = out};
    *out = (jpt_run_summary){0};
    if (opt->n_tasks == 0 || opt->specs->n == 0 || opt->n_blocks < 1)
        return JPT_FAIL(err, ARG, "a bench needs at least one task, one strategy and one block");
    if (opt->n_batch > 1 && opt->max_joules > 0)
        return JPT_FAIL(err, ARG, "a budget of joules is one request's, which a batch does not tell apart while it runs: use --batch 1 with --max-joules");
    for (size_t t = 0; t < opt->n_tasks; t++)
        JPT_TRY(jpt_task_check(opt->tasks[t], err));
    b.cell = calloc(opt->n_tasks * opt->specs->n, sizeof *b.cell);
    jpt_status st = b.cell ? jpt_store_open(opt->out, JPT_STORE_CREATE, &b.store, err) : JPT_FAIL(err, NOMEM, "out of memory");
    if (st == JPT_OK)
        st = put_study(&b, err);
    if (st == JPT_OK)
        st = put_model(&b, err);
    if (st == JPT_OK)
        st = put_meter(&b, err);
    if (st == JPT_OK)
        st = name_draft(&b, err);
    if (st == JPT_OK)
        st = put_cells(&b, err);
    if (st == JPT_OK)
        st = open_session(&b, err);
    if (st == JPT_OK)
        st = check_prompts(&b, err);
    out->total = b.progress.total;
    int64_t before = 0;
    if (st == JPT_OK)
        st = jpt_store_n_requests(b.store, &before, err);
    if (st == JPT_OK)
        st = run_blocks(&b, err);
    /* scores of what there is, after an interruption too */
    for (size_t i = 0; (st == JPT_OK || st == JPT_INTERRUPTED) && b.store && i < b.n_cells; i++) {
        jpt_error  e = {0};
        jpt_status s = score_cell(&b, &b.cell[i], &e);
        if (s != JPT_OK && st == JPT_OK) {
            st = s;
            *err = e;
        }
    }
    out->others = before - out->resumed;
    for (size_t i = 0; (st == JPT_OK || st == JPT_INTERRUPTED) && b.store && i < b.n_cells; i++) {
        int64_t n = 0;
        if (jpt_store_n_invalid(b.store, b.cell[i].id, &n, NULL) == JPT_OK)
            out->invalid_energy += n;
    }
    jpt_session_close(b.session);
    jpt_session_close(b.draft_session);
    jpt_store_close(b.store);
    free(b.cell);
    return st;
}
