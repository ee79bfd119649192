/* Sessions: sequences over paged keys and values, and ragged forwards.
 *
 * Invariants: a page's reference count is the number of tables that hold it; a page that is written has count 1
 * (copied first otherwise); a forward reserves every page it needs before it computes, so it is all or nothing. */
#include "model_priv.h"
#include <stdlib.h>
#include <string.h>

/* ---- memory ---------------------------------------------------------------------------------------------- */

enum { PASS_ROWS = 512, CARD_PASS_ROWS = 2048 }; /* a card is busy with more */

static bool on_card(const jpt_model *m) { return m->be->ops->gpu_uuid && m->be->ops->gpu_uuid(m->be); }

static jpt_session_options resolve(const jpt_model *m, const jpt_session_options *opt) {
    jpt_session_options o = opt ? *opt : (jpt_session_options){0};
    if (o.n_ctx <= 0)
        o.n_ctx = m->file.hp.n_ctx_train < 4096 ? m->file.hp.n_ctx_train : 4096;
    if (o.n_seqs <= 0)
        o.n_seqs = 1;
    if (o.page_size <= 0)
        o.page_size = o.n_seqs > 1 || o.n_tree > 0 ? 1 : 16;
    int32_t most = INT32_MAX - o.page_size - o.n_seqs; /* pages are counted in 32 bits, a spare one a sequence among them */
    int64_t all = (o.n_tokens > 0 ? o.n_tokens : (int64_t)o.n_ctx * o.n_seqs) + o.n_tree;
    o.n_tokens = all < most ? (int32_t)all : most;
    if (o.n_outputs <= 0)
        o.n_outputs = o.n_batch > 0 ? o.n_batch : PASS_ROWS;
    if (o.n_batch <= 0)
        o.n_batch = !on_card(m) || all < PASS_ROWS ? PASS_ROWS : all < CARD_PASS_ROWS ? (int32_t)all : CARD_PASS_ROWS;
    if (o.n_hidden <= 0)
        o.n_hidden = o.n_outputs;
    return o;
}

static int32_t pages_for(const jpt_session_options *o, int32_t positions) { return (int32_t)(((int64_t)positions + o->page_size - 1) / o->page_size); }

/* Pages of a session: its positions, and one unfinished page more a sequence. */
static int32_t session_pages(const jpt_session_options *o) { return pages_for(o, o->n_tokens) + o->n_seqs; }

static size_t kv_bytes(const jpt_model *m, const jpt_session_options *o, int32_t n_pages) { /* of keys alone */
    return (size_t)m->file.hp.n_layers * (size_t)n_pages * (size_t)o->page_size * (size_t)m->file.hp.n_kv_heads * (size_t)m->file.hp.head_dim *
           (m->kv_dtype == JPT_F16 ? 2 : 4);
}

/* Floats of each activation buffer, in the order of the pointers in jpt_session. */
enum { N_BUFFERS = 12 };
static void buffer_sizes(const jpt_model *m, const jpt_session_options *o, size_t size[N_BUFFERS]) {
    const jpt_hparams *hp = &m->file.hp;
    size_t             B = (size_t)o->n_batch, D = (size_t)hp->n_embd, q = (size_t)hp->n_heads * (size_t)hp->head_dim,
           kv = (size_t)hp->n_kv_heads * (size_t)hp->head_dim, F = (size_t)hp->n_ff, O = (size_t)o->n_outputs, S = (size_t)o->n_hidden;
    size_t rows = B > O ? B : O;
    rows = rows > S ? rows : S;
    const size_t all[N_BUFFERS] = {B * D, rows * D, B * q, B * kv, B * kv, B * q, B * F, B * F, B * D, O * (size_t)hp->n_vocab, S * D, rows * D};
    memcpy(size, all, sizeof all);
}

size_t jpt_session_memory(const jpt_model *m, const jpt_session_options *opt) {
    jpt_session_options o = resolve(m, opt);
    size_t              size[N_BUFFERS], total = 2 * kv_bytes(m, &o, session_pages(&o));
    buffer_sizes(m, &o, size);
    for (int i = 0; i < N_BUFFERS; i++)
        total += size[i] * sizeof(float);
    return total;
}

static jpt_status open_session(jpt_model *m, const jpt_session_options *o, jpt_session **out, jpt_error *err) {
    jpt_session *s = calloc(1, sizeof *s);
    if (!s)
        return JPT_FAIL(err, NOMEM, "out of memory for a session");
    s->model = m;
    s->opt = *o;
    s->phase = JPT_PHASE_DECODE;
    s->n_pages = session_pages(&s->opt);
    s->pages_per_seq = pages_for(&s->opt, s->opt.n_ctx);
    size_t  size[N_BUFFERS], kv = kv_bytes(m, &s->opt, s->n_pages);
    float **buffer[N_BUFFERS] = {&s->d_x, &s->d_norm, &s->d_q, &s->d_k, &s->d_v, &s->d_attn, &s->d_gate, &s->d_up, &s->d_proj,
                                 &s->d_logits, &s->d_hidden, &s->d_gather};
    buffer_sizes(m, &s->opt, size);
    bool ok = true;
    for (int i = 0; i < N_BUFFERS; i++)
        ok = (*buffer[i] = m->be->ops->alloc(m->be, size[i] * sizeof(float))) != NULL && ok;
    s->logits_cap = (size_t)s->opt.n_outputs;
    s->kv = (jpt_kv_view){.kv_dtype = m->kv_dtype, .n_pages = s->n_pages, .page_size = s->opt.page_size};
    ok = (s->kv.d_k = m->be->ops->alloc(m->be, kv)) && (s->kv.d_v = m->be->ops->alloc(m->be, kv)) && ok;
    s->page_refs = calloc((size_t)s->n_pages, sizeof *s->page_refs);
    s->free_page = malloc((size_t)s->n_pages * sizeof *s->free_page);
    s->seq = calloc((size_t)s->opt.n_seqs, sizeof *s->seq);
    s->tok = malloc((size_t)s->opt.n_batch * sizeof *s->tok);
    s->pos = malloc((size_t)s->opt.n_batch * sizeof *s->pos);
    s->pick = malloc((size_t)s->opt.n_batch * 2 * sizeof *s->pick);
    s->run = malloc((size_t)s->opt.n_batch * sizeof *s->run);
    ok = ok && s->page_refs && s->free_page && s->seq && s->tok && s->pos && s->pick && s->run;
    for (int32_t i = 0; ok && i < s->opt.n_seqs; i++) {
        s->seq[i].tokens = malloc((size_t)s->opt.n_ctx * sizeof(int32_t));
        s->seq[i].table = malloc((size_t)s->pages_per_seq * sizeof(int32_t));
        ok = s->seq[i].tokens && s->seq[i].table;
        size_t rows = (size_t)s->opt.n_tree;
        if (ok && rows > 0) /* four lists in one block */
            ok = (s->seq[i].tree_token = malloc(4 * rows * sizeof(int32_t)));
        if (ok && rows > 0) {
            s->seq[i].tree_parent = s->seq[i].tree_token + rows;
            s->seq[i].tree_depth = s->seq[i].tree_parent + rows;
            s->seq[i].tree_page = s->seq[i].tree_depth + rows;
        }
    }
    if (ok && s->opt.n_tree > 0)
        ok = (s->tree_table = malloc((size_t)s->opt.n_tree * (size_t)s->opt.n_ctx * sizeof *s->tree_table));
    if (!ok) {
        size_t need = jpt_session_memory(m, &s->opt);
        jpt_session_close(s);
        return JPT_FAIL(err, NOMEM, "out of memory: a session of %d sequences x %d positions takes %zu MB; use a smaller context", o->n_seqs, o->n_ctx, need >> 20);
    }
    for (int32_t i = 0; i < s->n_pages; i++)
        s->free_page[i] = s->n_pages - 1 - i;
    s->n_free = s->n_pages;
    *out = s;
    return JPT_OK;
}

jpt_status jpt_session_open(jpt_model *m, const jpt_session_options *opt, jpt_session **out, jpt_error *err) {
    jpt_session_options o = resolve(m, opt);
    if ((!opt || opt->n_batch <= 0) && o.n_batch > PASS_ROWS) { /* smaller passes rather than none */
        if (open_session(m, &o, out, NULL) == JPT_OK)
            return JPT_OK;
        o.n_batch = PASS_ROWS;
    }
    return open_session(m, &o, out, err);
}

void jpt_session_close(jpt_session *s) {
    if (!s)
        return;
    if (s->observe)
        jpt_session_observe(s, NULL, NULL);
    jpt_backend *be = s->model->be;
    void        *d[] = {s->d_x, s->d_norm, s->d_q, s->d_k, s->d_v, s->d_attn, s->d_gate, s->d_up, s->d_proj,
                        s->d_logits, s->d_hidden, s->d_gather, s->d_heads, s->d_expert, s->d_amateur, s->kv.d_k, s->kv.d_v};
    jpt_states_fini(s);
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        be->ops->free(be, d[i]);
    for (int32_t i = 0; s->seq && i < s->opt.n_seqs; i++) {
        free(s->seq[i].tokens);
        free(s->seq[i].table);
        free(s->seq[i].tree_token);
    }
    free(s->seq);
    free(s->tree_table);
    free(s->page_refs);
    free(s->free_page);
    free(s->tok);
    free(s->pos);
    free(s->pick);
    free(s->run);
    free(s);
}

jpt_model *jpt_session_model(const jpt_session *s) { return s->model; }
int32_t    jpt_session_n_ctx(const jpt_session *s) { return s->opt.n_ctx; }

/* ---- sequences ---------------------------------------------------------------------------------------------- */

static sequence *live(const jpt_session *s, jpt_seq seq) {
    return seq >= 0 && seq < s->opt.n_seqs && s->seq[seq].live ? &s->seq[seq] : NULL;
}

static void free_page(jpt_session *s, int32_t page) {
    if (--s->page_refs[page] == 0)
        s->free_page[s->n_free++] = page;
}

static void drop_pages(jpt_session *s, sequence *q, int32_t keep) {
    for (int32_t i = keep; i < pages_for(&s->opt, q->n); i++)
        free_page(s, q->table[i]);
}

static void drop_tree(jpt_session *s, sequence *q) {
    for (int32_t k = 0; k < q->n_tree; k++)
        free_page(s, q->tree_page[k]);
    q->n_tree = 0;
}

jpt_status jpt_seq_new(jpt_session *s, jpt_seq *out, jpt_error *err) {
    for (int32_t i = 0; i < s->opt.n_seqs; i++)
        if (!s->seq[i].live) {
            s->seq[i].live = true;
            s->seq[i].n = 0;
            *out = i;
            return JPT_OK;
        }
    return JPT_FAIL(err, CTX_FULL, "all %d sequences of the session are in use", s->opt.n_seqs);
}

jpt_status jpt_seq_fork(jpt_session *s, jpt_seq from, jpt_seq *out, jpt_error *err) {
    sequence *q = live(s, from);
    if (!q)
        return JPT_FAIL(err, ARG, "sequence %d is not live", from);
    JPT_TRY(jpt_seq_new(s, out, err));
    sequence *c = &s->seq[*out];
    c->n = q->n;
    memcpy(c->tokens, q->tokens, (size_t)q->n * sizeof *q->tokens);
    for (int32_t i = 0; i < pages_for(&s->opt, q->n); i++) {
        c->table[i] = q->table[i];
        s->page_refs[q->table[i]]++;
    }
    return JPT_OK;
}

jpt_status jpt_seq_truncate(jpt_session *s, jpt_seq seq, int32_t n, jpt_error *err) {
    sequence *q = live(s, seq);
    if (!q || n < 0 || n > q->n)
        return JPT_FAIL(err, ARG, "cannot cut sequence %d to %d positions", seq, n);
    drop_tree(s, q);
    drop_pages(s, q, pages_for(&s->opt, n));
    q->n = n;
    return JPT_OK;
}

jpt_status jpt_seq_keep(jpt_session *s, jpt_seq seq, const int32_t *rows, int32_t n, jpt_error *err) {
    sequence *q = live(s, seq);
    for (int32_t i = 0; i < n; i++)
        if (!q || rows[i] < 0 || rows[i] >= q->n_tree || q->tree_parent[rows[i]] != (i > 0 ? rows[i - 1] : -1))
            return JPT_FAIL(err, ARG, "row %d does not go on from row %d in the tree after sequence %d", rows[i], i > 0 ? rows[i - 1] : -1, seq);
    if (!q)
        return JPT_FAIL(err, ARG, "sequence %d is not live", seq);
    for (int32_t i = 0; i < n; i++) {
        q->tokens[q->n] = q->tree_token[rows[i]];
        q->table[q->n++] = q->tree_page[rows[i]]; /* pages hold one position */
        s->page_refs[q->tree_page[rows[i]]]++;
    }
    drop_tree(s, q);
    return JPT_OK;
}

void jpt_seq_free(jpt_session *s, jpt_seq seq) {
    sequence *q = live(s, seq);
    if (q) {
        drop_tree(s, q);
        drop_pages(s, q, 0);
        q->live = false;
    }
}

int32_t jpt_seq_length(const jpt_session *s, jpt_seq seq) {
    sequence *q = live(s, seq);
    return q ? q->n : 0;
}

const int32_t *jpt_seq_tokens(const jpt_session *s, jpt_seq seq) {
    sequence *q = live(s, seq);
    return q ? q->tokens : NULL;
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

static void tell(jpt_session *s, jpt_phase phase, bool begin, int64_t t_ns) {
    s->told_ns = t_ns > s->told_ns ? t_ns : s->told_ns; /* two clocks agree within microseconds only */
    s->observe(s->observe_ud, phase, begin, s->told_ns);
}

/* Phases of the model's sessions whose times the back-end knows by now. */
static void tell_marked(jpt_model *m) {
    int64_t t[JPT_MARKS];
    if (m->n_marked == 0)
        return;
    m->be->ops->marks(m->be, t, m->n_marked);
    for (int32_t i = 0; i < m->n_marked; i++)
        tell(m->marked[i].session, m->marked[i].phase, m->marked[i].begin, t[i]);
    m->n_marked = 0;
}

void jpt_session_event(jpt_session *s, jpt_phase phase, bool begin) {
    jpt_model *m = s->model;
    if (!s->observe)
        return;
    if (!m->be->ops->mark) {
        tell(s, phase, begin, jpt_now_ns());
        return;
    }
    if (m->n_marked == JPT_MARKS)
        tell_marked(m);
    m->be->ops->mark(m->be);
    m->marked[m->n_marked++] = (marked_phase){s, phase, begin};
}

void jpt_session_waited(jpt_session *s, jpt_phase phase) {
    if (!s->observe)
        return;
    tell_marked(s->model);
    tell(s, phase, false, jpt_now_ns());
}

void jpt_session_wait(jpt_session *s) { s->model->be->ops->sync(s->model->be); }

/* Is the page that position q->n falls into half full and shared with another sequence? */
static bool must_copy(const jpt_session *s, const sequence *q) {
    return q->n % s->opt.page_size != 0 && s->page_refs[q->table[q->n / s->opt.page_size]] > 1;
}

int32_t jpt_rows_count(const jpt_batch_item *it, jpt_rows rows) {
    int32_t n = 0;
    for (int32_t k = 0; rows == JPT_ROWS_MARKED && k < it->n_tokens; k++)
        n += it->marked[k];
    return rows == JPT_ROWS_ALL ? it->n_tokens : rows == JPT_ROWS_LAST ? 1 : n;
}

/* Trees are well made and fit; their rows' depths go to the sequence. */
static jpt_status check_tree(const jpt_session *s, const jpt_batch_item *it, sequence *q, int64_t *rows, jpt_error *err) {
    *rows += it->n_tokens;
    if (*rows > s->opt.n_tree)
        return JPT_FAIL(err, ARG, "trees of %lld rows: the session has room for %d", (long long)*rows, s->opt.n_tree);
    if (s->opt.page_size != 1)
        return JPT_FAIL(err, ARG, "trees need pages of one position, the session's hold %d", s->opt.page_size);
    for (int32_t k = 0; k < it->n_tokens; k++) {
        if (it->parent[k] < -1 || it->parent[k] >= k)
            return JPT_FAIL(err, ARG, "row %d of a tree: its parent %d does not stand before it", k, it->parent[k]);
        q->tree_depth[k] = it->parent[k] < 0 ? 0 : q->tree_depth[it->parent[k]] + 1;
        if (q->n + q->tree_depth[k] >= s->opt.n_ctx)
            return JPT_FAIL(err, CTX_FULL, "%d tokens after %d do not fit the context of %d", q->tree_depth[k] + 1, q->n, s->opt.n_ctx);
    }
    return JPT_OK;
}

static jpt_status check_batch(const jpt_session *s, const jpt_batch *b, jpt_error *err) {
    int64_t pages = 0, logits = 0, hidden = 0, tree_rows = 0;
    for (int32_t i = 0; i < b->n_items; i++) {
        const jpt_batch_item *it = &b->items[i];
        sequence             *q = live(s, it->seq);
        if (!q)
            return JPT_FAIL(err, ARG, "sequence %d is not live", it->seq);
        for (int32_t k = 0; k < i; k++)
            if (b->items[k].seq == it->seq)
                return JPT_FAIL(err, ARG, "sequence %d stands in one batch twice", it->seq);
        if (it->n_tokens < 1)
            return JPT_FAIL(err, ARG, "a batch item without tokens");
        if (it->parent)
            JPT_TRY(check_tree(s, it, q, &tree_rows, err));
        else if (it->n_tokens > s->opt.n_ctx - q->n)
            return JPT_FAIL(err, CTX_FULL, "%d tokens after %d do not fit the context of %d", it->n_tokens, q->n, s->opt.n_ctx);
        for (int32_t k = 0; k < it->n_tokens; k++)
            if (it->tokens[k] < 0 || it->tokens[k] >= s->model->file.hp.n_vocab)
                return JPT_FAIL(err, ARG, "token id %d is outside the vocabulary of %d", it->tokens[k], s->model->file.hp.n_vocab);
        pages += it->parent ? it->n_tokens : pages_for(&s->opt, q->n + it->n_tokens) - pages_for(&s->opt, q->n) + must_copy(s, q);
        logits += jpt_rows_count(it, it->logits);
        hidden += jpt_rows_count(it, it->hidden);
    }
    if (pages > s->n_free)
        return JPT_FAIL(err, CTX_FULL, "the session's cache of %d positions is used up", s->opt.n_tokens);
    if (logits > s->opt.n_outputs || hidden > s->opt.n_hidden)
        return JPT_FAIL(err, ARG, "%lld rows of logits and %lld hidden ones asked for, the session has room for %d and %d", (long long)logits, (long long)hidden,
                        s->opt.n_outputs, s->opt.n_hidden);
    if (b->n_exit_layers < 0 || b->n_exit_layers > JPT_EXIT_MAX)
        return JPT_FAIL(err, ARG, "%d exit layers in one forward: at most %d", b->n_exit_layers, JPT_EXIT_MAX);
    for (int32_t e = 0; e < b->n_exit_layers; e++)
        if (b->exit_layers[e] < 0 || b->exit_layers[e] > s->model->file.hp.n_layers)
            return JPT_FAIL(err, ARG, "exit layer %d is outside 0..%d", b->exit_layers[e], s->model->file.hp.n_layers);
    if (b->n_layers < 0 || b->n_layers > s->model->file.hp.n_layers)
        return JPT_FAIL(err, ARG, "%d layers asked for, the model has %d", b->n_layers, s->model->file.hp.n_layers);
    return JPT_OK;
}

/* *d holds at least `need` rows of `width` floats; what it held is lost.  A buffer that cannot grow stays. */
static bool more_rows(jpt_session *s, float **d, size_t *cap, size_t need, size_t room, size_t width) {
    jpt_backend *be = s->model->be;
    if (need <= *cap)
        return true;
    float *grown = be->ops->alloc(be, room * width * sizeof *grown);
    if (!grown)
        return false;
    be->ops->free(be, *d);
    *d = grown;
    *cap = room;
    return true;
}

/* Exits' logits lie behind the last layer's. */
static jpt_status exit_room(jpt_session *s, int32_t n_exit, int32_t n_logits, jpt_error *err) {
    const jpt_hparams *hp = &s->model->file.hp;
    int32_t            most = 2 * n_logits < s->opt.n_outputs ? 2 * n_logits : s->opt.n_outputs;
    size_t             need = (size_t)(1 + n_exit) * (size_t)n_logits, room = (size_t)(1 + n_exit) * (size_t)most;
    if (n_exit == 0 || n_logits == 0)
        return JPT_OK;
    if (!more_rows(s, &s->d_logits, &s->logits_cap, need, room, (size_t)hp->n_vocab) || !more_rows(s, &s->d_heads, &s->heads_cap, need, room, (size_t)hp->n_embd))
        return JPT_FAIL(err, NOMEM, "out of memory for the logits of %d exit layers", n_exit);
    return JPT_OK;
}

/* Pages for n new positions; the half-full last page becomes the sequence's own. */
static void take_pages(jpt_session *s, sequence *q, int32_t n) {
    jpt_model *m = s->model;
    if (must_copy(s, q)) {
        int32_t *entry = &q->table[q->n / s->opt.page_size], fresh = s->free_page[--s->n_free];
        m->be->ops->kv_copy_page(m->be, &s->kv, m->file.hp.n_layers, &m->shape, *entry, fresh);
        s->work.kv_bytes_moved += 2 * kv_bytes(m, &s->opt, 1);
        s->page_refs[*entry]--;
        s->page_refs[fresh] = 1;
        *entry = fresh;
    }
    for (int32_t i = pages_for(&s->opt, q->n); i < pages_for(&s->opt, q->n + n); i++) {
        q->table[i] = s->free_page[--s->n_free];
        s->page_refs[q->table[i]] = 1;
    }
}

static void plant_tree(jpt_session *s, sequence *q, const jpt_batch_item *it) {
    q->n_tree = it->n_tokens;
    memcpy(q->tree_token, it->tokens, (size_t)q->n_tree * sizeof *q->tree_token);
    memcpy(q->tree_parent, it->parent, (size_t)q->n_tree * sizeof *q->tree_parent);
    for (int32_t k = 0; k < q->n_tree; k++) {
        q->tree_page[k] = s->free_page[--s->n_free];
        s->page_refs[q->tree_page[k]] = 1;
    }
}

/* A row of a tree is a run of its own, whose table holds the sequence's pages and its ancestors'. */
static jpt_row_run tree_run(const sequence *q, int32_t row, int32_t k, int32_t *table) {
    memcpy(table, q->table, (size_t)q->n * sizeof *table);
    for (int32_t a = k; a >= 0; a = q->tree_parent[a])
        table[q->n + q->tree_depth[a]] = q->tree_page[a];
    return (jpt_row_run){row, 1, q->n + q->tree_depth[k], table};
}

static bool wanted(const jpt_batch_item *it, jpt_rows rows, int32_t k) {
    return rows == JPT_ROWS_ALL || (rows == JPT_ROWS_LAST && k == it->n_tokens - 1) || (rows == JPT_ROWS_MARKED && it->marked[k]);
}

/* Fill one pass from item *i, token *k onwards; advances both. */
static void fill_pass(jpt_session *s, const jpt_batch *b, int32_t *i, int32_t *k, pass *p) {
    int32_t *logits = s->pick, *hidden = s->pick + s->opt.n_batch, *table = s->tree_table;
    *p = (pass){.logits_rows = logits, .hidden_rows = hidden, .first_logits = s->n_logits, .first_hidden = s->n_hidden,
                .apart = true, .exit_layers = b->exit_layers, .n_exit = b->n_exit_layers, .exit_without_norm = b->exit_without_norm,
                .n_layers = b->n_layers ? b->n_layers : s->model->file.hp.n_layers};
    while (*i < b->n_items && p->n < s->opt.n_batch) {
        const jpt_batch_item *it = &b->items[*i];
        const sequence       *q = &s->seq[it->seq];
        int32_t               room = s->opt.n_batch - p->n, n = it->n_tokens - *k < room ? it->n_tokens - *k : room;
        p->apart = p->apart && !it->parent && n == 1;
        if (!it->parent)
            s->run[p->n_runs++] = (jpt_row_run){p->n, n, q->n + *k, q->table};
        for (int32_t r = 0; r < n; r++, (*k)++, p->n++) {
            s->tok[p->n] = it->tokens[*k];
            s->pos[p->n] = q->n + *k;
            if (it->parent) {
                s->run[p->n_runs++] = tree_run(q, p->n, *k, table);
                s->pos[p->n] = q->n + q->tree_depth[*k];
                table += s->opt.n_ctx;
            }
            if (wanted(it, it->logits, *k))
                logits[p->n_logits++] = p->n;
            if (wanted(it, it->hidden, *k))
                hidden[p->n_hidden++] = p->n;
        }
        if (*k == it->n_tokens) {
            (*i)++;
            *k = 0;
        }
    }
    s->n_logits += p->n_logits;
    s->n_hidden += p->n_hidden;
}

jpt_status jpt_session_forward(jpt_session *s, jpt_batch *b, jpt_error *err) {
    JPT_TRY(check_batch(s, b, err));
    int32_t n_logits = 0, n_hidden = 0;
    for (int32_t i = 0; i < b->n_items; i++)
        n_logits += jpt_rows_count(&b->items[i], b->items[i].logits);
    JPT_TRY(exit_room(s, b->n_exit_layers, n_logits, err));
    s->all_logits = n_logits;
    n_logits = 0;
    bool copies = false; /* of pages, one after another: one phase */
    for (int32_t i = 0; i < b->n_items; i++) {
        jpt_batch_item *it = &b->items[i];
        sequence *q = &s->seq[it->seq];
        drop_tree(s, q);
        if (!it->parent && !copies && must_copy(s, q))
            jpt_session_event(s, JPT_PHASE_KV, copies = true);
        if (it->parent)
            plant_tree(s, q, it);
        else
            take_pages(s, q, it->n_tokens);
        it->logits_row = it->logits == JPT_ROWS_NONE ? -1 : n_logits;
        it->hidden_row = it->hidden == JPT_ROWS_NONE ? -1 : n_hidden;
        n_logits += jpt_rows_count(it, it->logits);
        n_hidden += jpt_rows_count(it, it->hidden);
    }
    if (copies)
        jpt_session_event(s, JPT_PHASE_KV, false);
    s->n_logits = s->n_hidden = 0;
    s->n_exit = b->n_exit_layers;
    jpt_session_event(s, s->phase, true);
    bool stopped = false;
    for (int32_t i = 0, k = 0; i < b->n_items && !stopped;) {
        pass p;
        fill_pass(s, b, &i, &k, &p);
        jpt_pass_run(s, &p);
        stopped = i < b->n_items && jpt_stop_requested();
    }
    jpt_session_event(s, s->phase, false);
    for (int32_t i = 0; i < b->n_items; i++) {
        sequence *q = &s->seq[b->items[i].seq];
        int32_t   n = b->items[i].n_tokens, before = q->n;
        if (b->items[i].parent) {
            if (stopped)
                drop_tree(s, q);
            continue;
        }
        q->n += n;
        if (stopped) { /* give the pages back: the sequence is as it was */
            drop_pages(s, q, pages_for(&s->opt, before));
            q->n = before;
        } else {
            memcpy(q->tokens + before, b->items[i].tokens, (size_t)n * sizeof *q->tokens);
        }
    }
    if (stopped)
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    s->work.forwards++;
    return JPT_OK;
}

/* ---- outputs ---------------------------------------------------------------------------------------------------- */

jpt_status jpt_check_row(int32_t row, int32_t n, const char *what, jpt_error *err) {
    if (row < 0 || row >= n)
        return JPT_FAIL(err, ARG, "%s row %d: the last forward has %d", what, row, n);
    return JPT_OK;
}

jpt_status jpt_session_select(jpt_session *s, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    for (int32_t i = 0; i < n; i++)
        JPT_TRY(jpt_check_row(items[i].row, s->n_logits, "logits", err));
    jpt_backend *be = s->model->be;
    jpt_session_event(s, JPT_PHASE_SELECT, true);
    jpt_status st = be->ops->select(be, s->d_logits, s->model->file.hp.n_vocab, items, n, out, err);
    jpt_session_waited(s, JPT_PHASE_SELECT);
    s->work.selects += (uint64_t)n;
    return st;
}

jpt_status jpt_session_topk(jpt_session *s, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                            float *out_score, int32_t *n_out, jpt_error *err) {
    for (int32_t i = 0; i < n; i++)
        JPT_TRY(jpt_check_row(items[i].from.row, s->n_logits, "logits", err));
    jpt_backend *be = s->model->be;
    jpt_session_event(s, JPT_PHASE_SELECT, true);
    jpt_status st = be->ops->topk(be, s->d_logits, s->model->file.hp.n_vocab, items, n, k, out_index, out_token, out_score, n_out, err);
    jpt_session_waited(s, JPT_PHASE_SELECT);
    s->work.selects += (uint64_t)n;
    return st;
}

jpt_status jpt_session_set_logits(jpt_session *s, int32_t row, const float *z, jpt_error *err) {
    size_t V = (size_t)s->model->file.hp.n_vocab;
    JPT_TRY(jpt_check_row(row, s->n_logits, "logits", err));
    s->model->be->ops->upload(s->model->be, s->d_logits + (size_t)row * V, z, V * sizeof *z);
    return JPT_OK;
}

/* Ids of both vocabularies that stand for the same bytes, up to the end of the smaller one. */
static bool same_tokens(const jpt_tokenizer *a, const jpt_tokenizer *b) {
    int32_t n = jpt_tokenizer_n_vocab(a), m = jpt_tokenizer_n_vocab(b);
    if (jpt_tokenizer_kind(a) != jpt_tokenizer_kind(b))
        return false;
    for (int32_t id = 0; id < (n < m ? n : m); id++)
        if (!jpt_str_eq(jpt_token_text(a, id), jpt_token_text(b, id)))
            return false;
    return true;
}

jpt_status jpt_session_set_assistant(jpt_session *s, jpt_session *assistant, jpt_error *err) {
    (void)err;
    s->assistant = assistant;
    s->assistant_shares = assistant && same_tokens(s->model->tok, assistant->model->tok);
    return JPT_OK;
}

bool jpt_session_assistant_shares_tokens(const jpt_session *s) { return s->assistant_shares; }

jpt_session *jpt_session_assistant(const jpt_session *s) { return s->assistant; }

jpt_status jpt_device_status(const jpt_session *s, jpt_error *err) {
    jpt_backend *be = s->model->be;
    return be->ops->status ? be->ops->status(be, err) : JPT_OK;
}

jpt_status jpt_session_logits(jpt_session *s, int32_t row, float *out, jpt_error *err) {
    size_t V = (size_t)s->model->file.hp.n_vocab;
    JPT_TRY(jpt_check_row(row, s->n_logits, "logits", err));
    s->model->be->ops->download(s->model->be, out, s->d_logits + (size_t)row * V, V * sizeof *out);
    return jpt_device_status(s, err);
}

jpt_status jpt_session_hidden(jpt_session *s, int32_t row, float *out, jpt_error *err) {
    size_t D = (size_t)s->model->file.hp.n_embd;
    JPT_TRY(jpt_check_row(row, s->n_hidden, "hidden", err));
    s->model->be->ops->download(s->model->be, out, s->d_hidden + (size_t)row * D, D * sizeof *out);
    return jpt_device_status(s, err);
}

jpt_status jpt_session_exit_logits(jpt_session *s, int32_t i_exit, int32_t row, float *out, jpt_error *err) {
    size_t V = (size_t)s->model->file.hp.n_vocab;
    JPT_TRY(jpt_check_row(i_exit, s->n_exit, "exit layer", err));
    JPT_TRY(jpt_check_row(row, s->n_logits, "logits", err));
    s->model->be->ops->download(s->model->be, out, s->d_logits + ((size_t)(1 + i_exit) * (size_t)s->n_logits + (size_t)row) * V, V * sizeof *out);
    return jpt_device_status(s, err);
}

/* ---- work and phases --------------------------------------------------------------------------------------------- */

jpt_work jpt_session_work(const jpt_session *s) { return s->work; }

jpt_work jpt_work_sub(jpt_work a, jpt_work b) {
    a.forwards -= b.forwards;
    a.passes -= b.passes;
    a.positions_computed -= b.positions_computed;
    a.positions_discarded -= b.positions_discarded;
    a.logits_rows -= b.logits_rows;
    a.kv_bytes_moved -= b.kv_bytes_moved;
    a.selects -= b.selects;
    a.draft_forwards -= b.draft_forwards;
    a.draft_positions -= b.draft_positions;
    return a;
}

void jpt_session_observe(jpt_session *s, jpt_phase_fn fn, void *ud) {
    tell_marked(s->model);
    if (fn && s->model->be->ops->marks)
        s->model->be->ops->marks(s->model->be, NULL, 0);
    s->told_ns = 0;
    s->observe = fn;
    s->observe_ud = ud;
}

void jpt_session_set_phase(jpt_session *s, jpt_phase phase) { s->phase = phase; }
