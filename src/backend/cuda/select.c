/* Selection of the CUDA back-end: choices after a chain (choose.cu), and the k best of rows, with noise or not (rank.cu).  What the card
 * cannot run (chains of more than DEV_LINKS links, a ranking of more than 4,096, a vocabulary too large for its multiprocessors) fetches the rows
 * and runs the host's definition. */
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
    memset(*out, 0, down); /* what a longer request left there may look like this call's number */
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
        out[i] = (jpt_selected){.token = g->token, .logprob = g->logprob, .entropy = g->entropy, .n_kept = V, .kept_prob = expf(g->logprob), .seen_logprob = NAN, .seen_entropy = NAN};
    }
    return JPT_OK;
}

/* ---- chains ----------------------------------------------------------------------------------------------------------- */

/* A row's blocks wait for each other: they must fit the card at once, two a multiprocessor. */
static bool row_fits(const cuda_backend *c, int32_t V) {
    int32_t parts = (V + PICK_PART - 1) / PICK_PART;
    return parts <= PICK_PARTS && parts <= 2 * c->n_sm;
}

/* What `choose` needs on the card; jobs lie there where they are more than PICK_INLINE. */
static void launch_choose(cuda_backend *c, const float *d_logits, int32_t V, const choose_job *jobs, int32_t n, const void *d_jobs, const void *d_edits, float *write, void *out) {
    int32_t parts = (V + PICK_PART - 1) / PICK_PART;
    size_t  bins = (size_t)n * 3 * PICK_BINS * sizeof(unsigned long long);
    cuda_room(c, &c->arg, &c->arg_cap, (size_t)n * 2 * (size_t)parts * PICK_SLOT);
    cuda_zeros(c, &c->arg_done, &c->arg_done_cap, bins + (size_t)(2 + n) * sizeof(unsigned));
    choose_args a = {.logits = d_logits, .jobs = d_jobs, .edits = d_edits, .write = write, .slots = (void *)(uintptr_t)c->arg, .bins = (void *)(uintptr_t)c->arg_done,
                     .arrived = (void *)(uintptr_t)(c->arg_done + bins), .out = out, .V = V, .n = n, .parts = parts, .call = c->call};
    for (int32_t i = 0; i < n && n <= PICK_INLINE; i++)
        a.job[i] = jobs[i];
    LAUNCH(c, choose, n * parts, 1, 1, PICK_THREADS, 0, &a);
}

/* Few jobs without edits travel with the launch; more go over before it. */
static jpt_status choose_by_chain(cuda_backend *c, const float *d_logits, int32_t V, const jpt_select_item *items, const choose_job *jobs, const edits *e, int32_t n, jpt_selected *out,
                                  jpt_error *err) {
    size_t at_edits = n <= PICK_INLINE ? 0 : cuda_back((size_t)n * sizeof *jobs), up = at_edits + e->n * sizeof *e->e;
    void  *back;
    JPT_TRY(share(c, up, (size_t)n * sizeof(choose_result), &back, err));
    if (up) {
        cuda_room(c, &c->pick, &c->pick_cap, up);
        if (at_edits)
            memcpy(c->pick_host, jobs, (size_t)n * sizeof *jobs);
        if (e->n)
            memcpy(c->pick_host + at_edits, e->e, e->n * sizeof *e->e);
        JPT_TRY(cuda_check(c, err));
        cuda_send(c, up);
    }
    launch_choose(c, d_logits, V, jobs, n, cuda_staged(c, 0), cuda_staged(c, at_edits), NULL, back);
    JPT_TRY(wait_for(c, &((choose_result *)back)->ready, sizeof(choose_result), n, err));
    for (int32_t i = 0; i < n; i++) {
        const choose_result *r = (const choose_result *)back + i;
        if (r->status)
            return JPT_FAIL(err, DEVICE, "%s", r->status == 1 ? "the model produced no finite logit" : r->status == 2 ? "the chain of processors left no token to choose from"
                                                                                                                        : "the model produced a logit that is not a number");
        const jpt_chain *chain = items[i].chain; /* jobs lack the links that do nothing now */
        jpt_link_kind    last = chain && chain->n_links ? chain->link[chain->n_links - 1].kind : JPT_LINK_NORMALIZE;
        bool             aimed = jpt_link_aims(last);
        out[i] = (jpt_selected){.token = r->token, .logprob = r->logprob, .entropy = r->entropy, .n_kept = r->n_kept, .kept_prob = r->kept_prob,
                                .seen_logprob = aimed ? r->seen : NAN, .seen_entropy = last == JPT_LINK_GUARD ? r->seen_entropy : NAN};
    }
    return JPT_OK;
}

/* ---- on the host -------------------------------------------------------------------------------------------------------- */

/* Rows rows[0..n) of the card's logits, one after the other in memory that the card writes to itself; one wait. */
static jpt_status fetch(cuda_backend *c, const float *d_logits, int32_t V, const int32_t *rows, int32_t n, jpt_error *err) {
    size_t need = (size_t)n * (size_t)V, bytes = (size_t)V * sizeof(float);
    if (need > c->host_row_cap) {
        void *p = NULL;
        if (c->host_row)
            c->cu.host_free(c->host_row);
        c->host_row = NULL, c->host_row_cap = 0;
        if (cuda_ok(c, c->cu.host_alloc(&p, need * sizeof(float))))
            c->host_row = p, c->host_row_cap = need;
        JPT_TRY(cuda_check(c, err));
    }
    for (int32_t i = 0; i < n && c->broken == CU_OK; i++)
        cuda_ok(c, c->cu.download(c->host_row + (size_t)i * (size_t)V, (cu_pointer)(uintptr_t)(d_logits + (size_t)rows[i] * (size_t)V), bytes, c->stream));
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.stream_sync(c->stream));
    return cuda_check(c, err);
}

static jpt_status select_on_host(cuda_backend *c, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    int32_t *rows = malloc((size_t)n * sizeof *rows);
    if (!rows)
        return JPT_FAIL(err, NOMEM, "out of memory for %d choices", n);
    for (int32_t i = 0; i < n; i++)
        rows[i] = items[i].row;
    jpt_status st = fetch(c, d_logits, V, rows, n, err);
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        jpt_select_item it = items[i];
        it.row = i;
        st = host_select(&c->host.base, c->host_row, V, &it, 1, &out[i], err);
    }
    free(rows);
    return st;
}

jpt_status cuda_select(jpt_backend *be, const float *d_logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    cuda_backend *c = cuda_of(be);
    bool          greedy = true, known = row_fits(c, V);
    edits         e = {0};
    jpt_status    st = JPT_OK;
    JPT_TRY(cuda_check(c, err));
    for (int32_t i = 0; i < n; i++)
        greedy = greedy && !items[i].sample && (!items[i].chain || items[i].chain->n_links == 0);
    if (greedy || n <= 0)
        return n > 0 ? choose_greedily(c, d_logits, V, items, n, out, err) : JPT_OK;
    choose_job *jobs = malloc((size_t)n * sizeof *jobs);
    if (!jobs)
        return JPT_FAIL(err, NOMEM, "out of memory for %d choices", n);
    for (int32_t i = 0; known && st == JPT_OK && i < n; i++) {
        jobs[i] = (choose_job){.row = items[i].row, .sample = items[i].sample, .u = items[i].sample ? jpt_rng_uniform(items[i].key, 0) : 0};
        jobs[i].keep = items[i].chain && items[i].chain->min_tokens_to_keep > 1 ? items[i].chain->min_tokens_to_keep : 1;
        st = cuda_links(c, &items[i], V, jobs[i].link, &jobs[i].n_links, &e, &known, err);
    }
    if (st == JPT_OK)
        st = known ? choose_by_chain(c, d_logits, V, items, jobs, &e, n, out, err) : select_on_host(c, d_logits, V, items, n, out, err);
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

/* chosen: the rows' chains for `choose`, which writes what they leave where the ranking reads it; NULL: the ranking runs them. */
static jpt_status rank_on_card(cuda_backend *c, const float *d_logits, int32_t V, const jpt_score_item *items, const rank_job *jobs, const choose_job *chosen, const edits *e, int32_t n,
                               int32_t k, int32_t *out_index, int32_t *out_token, float *out_score, int32_t *n_out, jpt_error *err) {
    int32_t per = k < V ? k : V, n_parts = (V + ROW_PART - 1) / ROW_PART;
    size_t  at_chosen = cuda_back((size_t)n * sizeof *jobs), at_edits = at_chosen + (chosen ? cuda_back((size_t)n * sizeof *chosen) : 0), up = at_edits + e->n * sizeof *e->e;
    size_t  at_entries = cuda_back((size_t)n * sizeof(rank_row)), down = at_entries + (size_t)n * (size_t)per * sizeof(rank_entry), stats = cuda_back((size_t)n * (size_t)n_parts * sizeof(row_part));
    void   *back;
    JPT_TRY(cuda_stage(c, up, down, err));
    cuda_room(c, &c->look, &c->look_cap, 2 * stats + (size_t)n * (size_t)n_parts * (size_t)per * sizeof(rank_entry));
    cuda_zeros(c, &c->look_done, &c->look_done_cap, (size_t)n * sizeof(unsigned));
    if (chosen)
        cuda_room(c, &c->work, &c->work_cap, (size_t)n * (size_t)V * sizeof(float));
    JPT_TRY(cuda_check(c, err));
    memcpy(c->pick_host, jobs, (size_t)n * sizeof *jobs);
    if (chosen)
        memcpy(c->pick_host + at_chosen, chosen, (size_t)n * sizeof *chosen);
    if (e->n)
        memcpy(c->pick_host + at_edits, e->e, e->n * sizeof *e->e);
    cuda_send(c, up);
    void *d_jobs = cuda_staged(c, 0), *d_edits = cuda_staged(c, at_edits), *info = cuda_staged(c, cuda_back(up)), *out = cuda_staged(c, cuda_back(up) + at_entries);
    void *before = (void *)(uintptr_t)c->look, *after = (void *)(uintptr_t)(c->look + stats), *entries = (void *)(uintptr_t)(c->look + 2 * stats);
    if (chosen) {
        float *rows = (void *)(uintptr_t)c->work;
        launch_choose(c, d_logits, V, chosen, n, cuda_staged(c, at_chosen), d_edits, rows, NULL);
        d_logits = rows;
    }
    LAUNCH(c, rank_stats, n_parts, n, 1, ROW_THREADS, 0, &d_logits, &V, &d_jobs, &before);
    LAUNCH(c, rank_rows, n_parts, n, 1, ROW_THREADS, 0, &d_logits, &V, &d_jobs, &d_edits, &before, &after, &entries, &c->look_done, &per, &info, &out);
    JPT_TRY(cuda_receive(c, up, down, &back, err));
    return merge_rows(items, n, k, per, back, (const rank_entry *)((const char *)back + at_entries), out_index, out_token, out_score, n_out, err);
}

/* What the ranking itself runs; the rest is left to `choose`. */
static bool simple(const dev_link *link, int n) {
    bool all = true;
    for (int i = 0; i < n; i++)
        all = all && (link[i].kind == D_EDITS || link[i].kind == D_TEMPERATURE || link[i].kind == D_ALLOWED);
    return all;
}

/* The chains of rows that are to be ranked; *chosen: by `choose`. */
static jpt_status rank_links(cuda_backend *c, const jpt_score_item *items, int32_t n, int32_t V, rank_job *jobs, choose_job *chains, edits *e, bool *known, bool *chosen, jpt_error *err) {
    *chosen = false;
    for (int32_t i = 0; *known && i < n; i++) {
        const jpt_score_item *it = &items[i];
        jobs[i] = (rank_job){.row = it->from.row, .log_first = it->log_first, .scored = it->scored, .perturb = it->perturb, .bias = it->bias, .seed_low = (uint32_t)it->from.key.seed,
                             .seed_high = (uint32_t)(it->from.key.seed >> 32), .prompt = it->from.key.prompt, .sequence = it->from.key.sequence, .step = it->from.key.step};
        JPT_TRY(cuda_links(c, &it->from, V, jobs[i].link, &jobs[i].n_links, e, known, err));
        *chosen = *chosen || !simple(jobs[i].link, jobs[i].n_links);
    }
    *known = *known && (!*chosen || row_fits(c, V));
    for (int32_t i = 0; *known && *chosen && i < n; i++) {
        const jpt_score_item *it = &items[i];
        int                   first = it->log_first && !it->scored; /* a log-softmax before the chain */
        choose_job           *j = &chains[i];
        *j = (choose_job){.row = it->from.row, .n_links = jobs[i].n_links + first, .keep = it->from.chain && it->from.chain->min_tokens_to_keep > 1 ? it->from.chain->min_tokens_to_keep : 1};
        if (j->n_links > DEV_LINKS) {
            *known = false;
            break;
        }
        j->link[0] = (dev_link){.kind = D_NORMALIZE};
        memcpy(j->link + first, jobs[i].link, (size_t)jobs[i].n_links * sizeof *j->link);
        jobs[i].row = i, jobs[i].n_links = 0, jobs[i].scored = it->scored || it->log_first;
    }
    return JPT_OK;
}

jpt_status cuda_topk(jpt_backend *be, const float *d_logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token,
                     float *out_score, int32_t *n_out, jpt_error *err) {
    enum { MOST = 4096 }; /* larger k: the parts' own lists would take the memory of the rows */
    cuda_backend *c = cuda_of(be);
    bool          known = k > 0 && k <= MOST && n > 0, chosen = false;
    edits         e = {0};
    size_t        room = (size_t)(n > 0 ? n : 1);
    JPT_TRY(cuda_check(c, err));
    rank_job       *jobs = calloc(room, sizeof *jobs);
    choose_job     *chains = calloc(room, sizeof *chains);
    jpt_score_item *local = malloc(room * sizeof *local);
    int32_t        *rows = malloc(room * sizeof *rows);
    jpt_status      st = jobs && chains && local && rows ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d rows to rank", n);
    if (st == JPT_OK)
        st = rank_links(c, items, n, V, jobs, chains, &e, &known, &chosen, err);
    if (st == JPT_OK && known)
        st = rank_on_card(c, d_logits, V, items, jobs, chosen ? chains : NULL, &e, n, k, out_index, out_token, out_score, n_out, err);
    for (int32_t i = 0; st == JPT_OK && !known && i < n; i++) {
        local[i] = items[i];
        local[i].from.row = i;
        rows[i] = items[i].from.row;
    }
    if (st == JPT_OK && !known) { /* all rows at once: they are ranked together */
        st = fetch(c, d_logits, V, rows, n > 0 ? n : 0, err);
        if (st == JPT_OK)
            st = host_topk(&c->host.base, c->host_row, V, local, n, k, out_index, out_token, out_score, n_out, err);
    }
    free(jobs);
    free(chains);
    free(local);
    free(rows);
    free(e.e);
    return st;
}
