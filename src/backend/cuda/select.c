/* Selection of the CUDA back-end.  Greedy choice, draws after the usual chains, and the k best of rows (with noise or not) are found
 * on the card; other chains (DRY, typical and the rarer cuts, cuts before a ranking) fetch the row and run the host's definition.
 *
 * What a processor does depends on the text, not on the scores, so it goes over as a list of edits of single ids. */
#include "cuda.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- staging ------------------------------------------------------------------------------------------------------ */

static bool host_room(cuda_backend *c, size_t all) {
    if (all > c->pick_host_cap) {
        void *p = NULL;
        if (c->pick_host)
            c->cu.host_free(c->pick_host);
        c->pick_host = NULL, c->pick_host_cap = 0;
        if (cuda_ok(c, c->cu.host_alloc(&p, 2 * all))) {
            memset(p, 0, 2 * all);
            c->pick_host = p, c->pick_host_cap = 2 * all;
        }
    }
    return c->broken == CU_OK;
}

/* Room for `up` bytes to the card and `down` bytes back; the card's side lies in c->pick, `down` after `up`. */
jpt_status cuda_stage(cuda_backend *c, size_t up, size_t down, jpt_error *err) {
    size_t all = ((up + 255) & ~(size_t)255) + down;
    if (host_room(c, all))
        cuda_room(c, &c->pick, &c->pick_cap, all);
    return cuda_check(c, err);
}

void cuda_send(cuda_backend *c, size_t up) { cuda_ok(c, c->cu.upload(c->pick, c->pick_host, up, c->stream)); }

jpt_status cuda_receive(cuda_backend *c, size_t up, size_t down, void **out, jpt_error *err) {
    size_t at = (up + 255) & ~(size_t)255;
    cuda_ok(c, c->cu.download(c->pick_host + at, c->pick + at, down, c->stream));
    cuda_ok(c, c->cu.stream_sync(c->stream));
    *out = c->pick_host + at;
    return cuda_check(c, err);
}

/* The choice of every token goes another way: its kernel reads c->pick_host and writes *out itself, in host memory that the card
 * sees.  A few hundred bytes cost less so than two copies and a wait for the stream do. */
static jpt_status share(cuda_backend *c, size_t up, size_t down, void **out, jpt_error *err) {
    size_t at = (up + 255) & ~(size_t)255;
    host_room(c, at + down);
    JPT_TRY(cuda_check(c, err));
    *out = c->pick_host + at;
    if (++c->call == 0)
        c->call = 1;
    return JPT_OK;
}

/* Until ready[i], `stride` bytes apart, all hold this call's number; now and then a look whether the card still works. */
static jpt_status wait_for(cuda_backend *c, void *ready, size_t stride, int32_t n, jpt_error *err) {
    uint32_t looks = 0;
    for (int32_t i = 0; i < n && c->broken == CU_OK;) {
        if (__atomic_load_n((const unsigned *)((const char *)ready + (size_t)i * stride), __ATOMIC_ACQUIRE) == c->call) {
            i++;
        } else if (++looks % 65536 == 0) {
            cu_result r = c->cu.stream_query(c->stream);
            if (r == CU_OK && __atomic_load_n((const unsigned *)((const char *)ready + (size_t)i * stride), __ATOMIC_ACQUIRE) != c->call)
                r = CU_UNKNOWN; /* it ended and did not say so */
            if (r != CU_NOT_READY)
                cuda_ok(c, r);
        } else {
            jpt_cpu_relax();
        }
    }
    return cuda_check(c, err);
}

/* ---- greedy --------------------------------------------------------------------------------------------------------- */

static jpt_status choose_greedily(cuda_backend *c, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    size_t parts = (size_t)n * ARGMAX_PARTS * sizeof(greedy_part), before;
    void  *back;
    JPT_TRY(share(c, (size_t)n * sizeof(int), (size_t)n * sizeof(greedy_result), &back, err));
    cuda_room(c, &c->arg, &c->arg_cap, parts);
    before = c->arg_done_cap;
    cuda_room(c, &c->arg_done, &c->arg_done_cap, (size_t)n * sizeof(unsigned));
    if (c->arg_done_cap != before)
        cuda_ok(c, c->cu.set(c->arg_done, 0, c->arg_done_cap, c->stream));
    JPT_TRY(cuda_check(c, err));
    for (int32_t i = 0; i < n; i++)
        ((int *)c->pick_host)[i] = items[i].row;
    LAUNCH(c, argmax, ARGMAX_PARTS, n, 1, 256, 0, &d_logits, &V, &c->pick_host, &c->arg, &c->arg_done, &c->call, &back);
    JPT_TRY(wait_for(c, &((greedy_result *)back)->ready, sizeof(greedy_result), n, err));
    for (int32_t i = 0; i < n; i++) {
        const greedy_result *g = (const greedy_result *)back + i;
        if (!g->finite)
            return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
        out[i] = (jpt_selected){.token = g->token, .logprob = g->logprob, .entropy = g->entropy, .n_kept = V, .kept_prob = expf(g->logprob)};
    }
    return JPT_OK;
}

/* ---- chains ----------------------------------------------------------------------------------------------------------- */

typedef struct edits {
    edit   *e;
    size_t  n, cap;
    bool    oom;
} edits;

static void add_edit(edits *l, int32_t id, int32_t V, int op, float value) {
    if (id < 0 || id >= V)
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        edit  *grown = realloc(l->e, cap * sizeof *grown);
        l->oom = l->oom || !grown;
        if (!grown)
            return;
        l->e = grown;
        l->cap = cap;
    }
    l->e[l->n++] = (edit){id, op, value};
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Each distinct id of ids[0..n) once, with its count. */
static void count_ids(edits *l, const int32_t *ids, int32_t n, int32_t V, int op, float value, float each) {
    int32_t *sorted = malloc((size_t)(n ? n : 1) * sizeof *sorted);
    l->oom = l->oom || !sorted;
    if (!sorted)
        return;
    memcpy(sorted, ids, (size_t)n * sizeof *ids);
    qsort(sorted, (size_t)n, sizeof *sorted, by_id);
    for (int32_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && sorted[k] == sorted[i]; k++)
            ;
        add_edit(l, sorted[i], V, op, value + each * (float)(k - i));
    }
    free(sorted);
}

/* The edits of a processor; false: it is none that is known here. */
static bool edits_of(const jpt_link *l, const jpt_chain *chain, const jpt_select_item *it, int32_t V, edits *out) {
    const int32_t *h = it->history, n = it->n_history, own = it->n_history - it->n_prompt;
    bool           counts = l->kind == JPT_LINK_REPETITION_PENALTY || l->kind == JPT_LINK_FREQUENCY_PENALTY || l->kind == JPT_LINK_PRESENCE_PENALTY;
    if (counts && l->count2 != 0) /* a window of its own */
        return false;
    switch (l->kind) {
    case JPT_LINK_REPETITION_PENALTY: count_ids(out, h, n, V, E_PENALTY, (float)l->value, 0); return true;
    case JPT_LINK_FREQUENCY_PENALTY: count_ids(out, h + it->n_prompt, own, V, E_ADD, 0, -(float)l->value); return true;
    case JPT_LINK_PRESENCE_PENALTY: count_ids(out, h + it->n_prompt, own, V, E_ADD, -(float)l->value, 0); return true;
    case JPT_LINK_NO_REPEAT_NGRAM:
        if (n + 1 >= l->count)
            for (int32_t i = 0; i + l->count <= n; i++)
                if (memcmp(h + i, h + n - (l->count - 1), (size_t)(l->count - 1) * sizeof *h) == 0)
                    add_edit(out, h[i + l->count - 1], V, E_BAN, 0);
        return true;
    case JPT_LINK_BAD_WORDS:
        for (int32_t at = 0; at < l->n_ids; at += 1 + l->ids[at]) {
            int32_t len = l->ids[at];
            if (len >= 1 && len - 1 <= n && memcmp(h + n - (len - 1), l->ids + at + 1, (size_t)(len - 1) * sizeof *h) == 0)
                add_edit(out, l->ids[at + len], V, E_BAN, 0);
        }
        return true;
    case JPT_LINK_ALLOWED:
        for (int32_t i = 0; i < l->n_ids; i++)
            add_edit(out, l->ids[i], V, E_BAN, 0);
        return true;
    case JPT_LINK_MIN_NEW_TOKENS:
        if (own < l->count)
            for (int32_t i = 0; i < chain->n_eos; i++)
                add_edit(out, chain->eos[i], V, E_BAN, 0);
        return true;
    default: return false;
    }
}

/* How often ids[i] stands before place i. */
static int32_t earlier(const int32_t *ids, int32_t i) {
    int32_t count = 0;
    for (int32_t k = 0; k < i; k++)
        count += ids[k] == ids[i];
    return count;
}

/* Edits of one link happen at once, so that an id's second bias is a link of its own. */
static bool add_bias(const jpt_link *l, int32_t V, dev_link *link, int *n, edits *e) {
    int32_t times = 0;
    for (int32_t i = 0; i < l->n_ids; i++)
        times = earlier(l->ids, i) > times ? earlier(l->ids, i) : times;
    for (int32_t t = 0; t <= times; t++) {
        if (*n == DEV_LINKS)
            return false;
        link[*n] = (dev_link){.kind = D_EDITS, .first = (int)e->n};
        for (int32_t i = 0; i < l->n_ids; i++)
            if (earlier(l->ids, i) == t)
                add_edit(e, l->ids[i], V, E_ADD, l->values[i]);
        link[*n].count = (int)e->n - link[*n].first;
        ++*n;
    }
    return true;
}

/* A chain as the card runs it; false: it holds a link that only the host knows.  Rankings know edits, temperatures and lists of
 * what is allowed; choices know cuts instead of the last. */
static bool translate(const jpt_select_item *it, int32_t V, bool ranking, dev_link *link, int *n, edits *e) {
    for (int32_t i = 0; it->chain && i < it->chain->n_links; i++) {
        const jpt_link *l = &it->chain->link[i];
        dev_link        d = {.kind = D_EDITS, .value = (float)l->value, .mass = l->value, .count = l->count, .first = (int)e->n};
        if (l->kind == JPT_LINK_BIAS) {
            if (!add_bias(l, V, link, n, e))
                return false;
            continue;
        }
        switch (l->kind) {
        case JPT_LINK_TEMPERATURE: d.kind = D_TEMPERATURE; break;
        case JPT_LINK_TOP_K: d.kind = D_TOP_K; break;
        case JPT_LINK_TOP_P: d.kind = D_TOP_P; break;
        case JPT_LINK_MIN_P: d.kind = D_MIN_P; break;
        case JPT_LINK_EPSILON: d.kind = D_EPSILON; break;
        case JPT_LINK_ETA: d.kind = D_ETA; break;
        default:
            if ((l->kind == JPT_LINK_ALLOWED && !ranking) || !edits_of(l, it->chain, it, V, e))
                return false;
            d.kind = l->kind == JPT_LINK_ALLOWED ? D_ALLOWED : D_EDITS;
            d.count = (int)e->n - d.first;
        }
        bool cut = d.kind != D_EDITS && d.kind != D_TEMPERATURE && d.kind != D_ALLOWED;
        if (*n == DEV_LINKS || (cut && (ranking || it->chain->min_tokens_to_keep > 1)))
            return false;
        link[(*n)++] = d;
    }
    return !e->oom;
}

static jpt_status choose_by_chain(cuda_backend *c, const float *d_logits, int32_t V, const choose_job *jobs, const edits *e, int32_t n, jpt_selected *out, jpt_error *err) {
    size_t at_edits = ((size_t)n * sizeof *jobs + 255) & ~(size_t)255;
    void  *back;
    JPT_TRY(share(c, at_edits + e->n * sizeof *e->e, (size_t)n * sizeof(choose_result), &back, err));
    cuda_room(c, &c->work, &c->work_cap, (size_t)n * (size_t)V * sizeof(float));
    JPT_TRY(cuda_check(c, err));
    memcpy(c->pick_host, jobs, (size_t)n * sizeof *jobs);
    if (e->n)
        memcpy(c->pick_host + at_edits, e->e, e->n * sizeof *e->e);
    void *d_edits = c->pick_host + at_edits;
    LAUNCH(c, choose, n, 1, 1, 1024, 0, &d_logits, &V, &c->pick_host, &d_edits, &c->work, &c->call, &back);
    JPT_TRY(wait_for(c, &((choose_result *)back)->ready, sizeof(choose_result), n, err));
    for (int32_t i = 0; i < n; i++) {
        const choose_result *r = (const choose_result *)back + i;
        if (r->status)
            return JPT_FAIL(err, DEVICE, "%s", r->status == 1 ? "the model produced no finite logit" : "the chain of processors left no token to choose from");
        out[i] = (jpt_selected){.token = r->token, .logprob = r->logprob, .entropy = r->entropy, .n_kept = r->n_kept, .kept_prob = r->kept_prob};
    }
    return JPT_OK;
}

/* ---- on the host -------------------------------------------------------------------------------------------------------- */

static jpt_status fetch(cuda_backend *c, const float *d_logits, int32_t V, int32_t row, jpt_error *err) {
    if ((size_t)V > c->host_row_cap) {
        void *p = NULL;
        if (c->host_row)
            c->cu.host_free(c->host_row);
        c->host_row = NULL, c->host_row_cap = 0;
        if (cuda_ok(c, c->cu.host_alloc(&p, (size_t)V * sizeof(float))))
            c->host_row = p, c->host_row_cap = (size_t)V;
        JPT_TRY(cuda_check(c, err));
    }
    cuda_download(&c->base, c->host_row, d_logits + (size_t)row * (size_t)V, (size_t)V * sizeof(float));
    return cuda_check(c, err);
}

jpt_status cuda_select(jpt_backend *be, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    bool          greedy = true, known = true;
    edits         e = {0};
    JPT_TRY(cuda_check(c, err));
    for (int32_t i = 0; i < n; i++)
        greedy = greedy && !items[i].sample && (!items[i].chain || items[i].chain->n_links == 0);
    if (greedy)
        return choose_greedily(c, d_logits, V, items, n, out, err);
    choose_job *jobs = malloc((size_t)n * sizeof *jobs);
    if (!jobs)
        return JPT_FAIL(err, NOMEM, "out of memory for %d choices", n);
    for (int32_t i = 0; known && i < n; i++) {
        jobs[i] = (choose_job){.row = items[i].row, .sample = items[i].sample, .u = items[i].sample ? jpt_rng_uniform(items[i].key, 0) : 0};
        known = translate(&items[i], V, false, jobs[i].link, &jobs[i].n_links, &e);
    }
    jpt_status st = known ? choose_by_chain(c, d_logits, V, jobs, &e, n, out, err) : JPT_OK;
    for (int32_t i = 0; !known && st == JPT_OK && i < n; i++) {
        jpt_select_item it = items[i];
        it.row = 0;
        st = fetch(c, d_logits, V, items[i].row, err);
        if (st == JPT_OK)
            st = host_select(&c->host.base, c->host_row, V, &it, 1, &out[i], err);
    }
    free(jobs);
    free(e.e);
    return st;
}

/* ---- the k best ------------------------------------------------------------------------------------------------------------ */

typedef struct ranked {
    float   rank, score; /* rank: the score, or with noise */
    int32_t index, token;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? 1 : -1;
    return x->index != y->index ? (x->index > y->index ? 1 : -1) : (x->token > y->token) - (x->token < y->token);
}

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index != y->index ? (x->index > y->index ? 1 : -1) : (x->token > y->token) - (x->token < y->token);
}

/* The k best of each row's k best. */
static jpt_status merge_rows(const jpt_score_item *items, int32_t n, int32_t k, int32_t per, const rank_row *info, const rank_entry *entry, int32_t *out_index, int32_t *out_token,
                             float *out_score, int32_t *n_out, jpt_error *err) {
    size_t  count = 0;
    ranked *all = malloc((size_t)n * (size_t)per * sizeof *all);
    if (!all)
        return JPT_FAIL(err, NOMEM, "out of memory for %d candidates", k);
    for (int32_t i = 0; i < n; i++) {
        const rank_row *r = &info[i];
        if (r->status) {
            free(all);
            return JPT_FAIL(err, DEVICE, "%s", r->status == 1 ? "the model produced no finite logit" : "no finite score is left to choose from");
        }
        for (int32_t m = 0; m < r->n; m++) {
            const rank_entry *e = entry + (size_t)i * (size_t)per + m;
            float             score = items[i].bias + ((e->z - r->most) - r->log_sum);
            all[count++] = (ranked){score + e->noise, score, i, e->id};
        }
    }
    qsort(all, count, sizeof *all, by_rank);
    *n_out = count < (size_t)k ? (int32_t)count : k;
    qsort(all, (size_t)*n_out, sizeof *all, by_score);
    for (int32_t i = 0; i < *n_out; i++) {
        out_index[i] = all[i].index;
        out_token[i] = all[i].token;
        out_score[i] = all[i].score;
    }
    free(all);
    return JPT_OK;
}

static jpt_status rank_on_card(cuda_backend *c, const float *d_logits, int32_t V, const jpt_score_item *items, const rank_job *jobs, const edits *e, int32_t n, int32_t k,
                               int32_t *out_index, int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err) {
    int32_t per = k < V ? k : V, n_parts = (V + ROW_PART - 1) / ROW_PART;
    size_t  at_edits = cuda_back((size_t)n * sizeof *jobs), up = at_edits + e->n * sizeof *e->e, at_entries = cuda_back((size_t)n * sizeof(rank_row));
    size_t  down = at_entries + (size_t)n * (size_t)per * sizeof(rank_entry), stats = cuda_back((size_t)n * (size_t)n_parts * sizeof(row_part));
    void   *back;
    JPT_TRY(cuda_stage(c, up, down, err));
    cuda_room(c, &c->look, &c->look_cap, 2 * stats + (size_t)n * (size_t)n_parts * (size_t)per * sizeof(rank_entry));
    cuda_zeros(c, &c->look_done, &c->look_done_cap, (size_t)n * sizeof(unsigned));
    JPT_TRY(cuda_check(c, err));
    memcpy(c->pick_host, jobs, (size_t)n * sizeof *jobs);
    if (e->n)
        memcpy(c->pick_host + at_edits, e->e, e->n * sizeof *e->e);
    cuda_send(c, up);
    void *d_jobs = cuda_staged(c, 0), *d_edits = cuda_staged(c, at_edits), *info = cuda_staged(c, cuda_back(up)), *out = cuda_staged(c, cuda_back(up) + at_entries);
    void *before = (void *)(uintptr_t)c->look, *after = (void *)(uintptr_t)(c->look + stats), *entries = (void *)(uintptr_t)(c->look + 2 * stats);
    LAUNCH(c, rank_stats, n_parts, n, 1, ROW_THREADS, 0, &d_logits, &V, &d_jobs, &before);
    LAUNCH(c, rank_rows, n_parts, n, 1, ROW_THREADS, 0, &d_logits, &V, &d_jobs, &d_edits, &before, &after, &entries, &c->look_done, &per, &info, &out);
    JPT_TRY(cuda_receive(c, up, down, &back, err));
    return merge_rows(items, n, k, per, back, (const rank_entry *)((const char *)back + at_entries), out_index, out_token, out_score, n_out, err);
}

jpt_status cuda_topk(jpt_backend *be, const float *d_logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                     float *out_score, int32_t *n_out, jpt_error *err) {
    enum { MOST = 4096 }; /* larger k: the parts' own lists would take the memory of the rows */
    cuda_backend *c = cuda_of(be);
    bool          known = k > 0 && k <= MOST && n > 0;
    edits         e = {0};
    JPT_TRY(cuda_check(c, err));
    rank_job *jobs = calloc((size_t)(n ? n : 1), sizeof *jobs);
    if (!jobs)
        return JPT_FAIL(err, NOMEM, "out of memory for %d rows to rank", n);
    for (int32_t i = 0; known && i < n; i++) {
        const jpt_score_item *it = &items[i];
        jobs[i] = (rank_job){.row = it->from.row, .log_first = it->log_first, .scored = it->scored, .perturb = it->perturb, .bias = it->bias, .seed_low = (uint32_t)it->from.key.seed,
                             .seed_high = (uint32_t)(it->from.key.seed >> 32), .prompt = it->from.key.prompt, .sequence = it->from.key.sequence, .step = it->from.key.step};
        known = translate(&it->from, V, true, jobs[i].link, &jobs[i].n_links, &e);
    }
    jpt_status on_card = known ? rank_on_card(c, d_logits, V, items, jobs, &e, n, k, out_index, out_token, out_score, n_out, err) : JPT_OK;
    free(jobs);
    free(e.e);
    if (known)
        return on_card;
    /* all rows at once: they are ranked together */
    float          *rows = malloc((size_t)n * (size_t)V * sizeof *rows);
    jpt_score_item *local = malloc((size_t)n * sizeof *local);
    jpt_status      st = rows && local ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d rows of scores", n);
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        local[i] = items[i];
        local[i].from.row = i;
        cuda_download(be, rows + (size_t)i * (size_t)V, d_logits + (size_t)items[i].from.row * (size_t)V, (size_t)V * sizeof *rows);
        st = cuda_check(c, err);
    }
    if (st == JPT_OK)
        st = host_topk(&c->host.base, rows, V, local, n, k, out_index, out_token, out_score, n_out, err);
    free(rows);
    free(local);
    return st;
}
