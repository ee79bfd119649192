/* Model-based metrics: of texts, and afterwards of every request of a results file. */
#include <jpt/evaluate.h>
#include <jpt/stats.h>
#include <jpt/store.h>
#include <jpt/task.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PART = 32, RESAMPLES = 1000, SEED = 12345 }; /* texts between two commits */

/* ---- texts --------------------------------------------------------------------------------------- */

static double cosine(const float *a, const float *b, int32_t D) {
    double s = 0;
    for (int32_t d = 0; d < D; d++)
        s += (double)a[d] * (double)b[d];
    return s;
}

static jpt_status likelihood(const jpt_evaluate_options *opt, const jpt_evaluate_item *it, jpt_evaluation *out, jpt_error *err) {
    jpt_str none = {"", 0};
    JPT_TRY(jpt_model_text_nll(opt->evaluator, none, it->text, &out->nll, &out->n_alone_tokens, err));
    out->prompted_nll = out->nll;
    out->n_tokens = out->n_alone_tokens;
    if (it->prompt)
        JPT_TRY(jpt_model_text_nll(opt->evaluator, *it->prompt, it->text, &out->prompted_nll, &out->n_tokens, err));
    if (out->n_tokens > 0)
        out->coherence = -out->prompted_nll / out->n_tokens;
    if (out->n_alone_tokens > 0) {
        out->ppl = exp(out->nll / out->n_alone_tokens);
        out->bits_per_byte = out->nll / (log(2) * (double)it->text.n);
    }
    return JPT_OK;
}

/* Text, prompt and references of an item go through the encoder together. */
static jpt_status likeness(const jpt_evaluate_options *opt, const jpt_evaluate_item *it, jpt_evaluation *out, jpt_error *err) {
    size_t     n = 1 + (it->prompt != NULL) + it->n_references, D = (size_t)jpt_encoder_get_info(opt->embedder)->n_embd, at = 0;
    jpt_str   *text = calloc(n, sizeof *text);
    float     *vector = malloc(n * D * sizeof *vector);
    jpt_status st = text && vector ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu texts", n);
    if (st == JPT_OK) {
        text[at++] = it->text;
        if (it->prompt)
            text[at++] = *it->prompt;
        for (size_t i = 0; i < it->n_references; i++)
            text[at++] = it->references[i];
        st = jpt_encoder_embed(opt->embedder, text, (int32_t)n, vector, NULL, err);
    }
    if (st == JPT_OK && it->prompt)
        out->cos_prompt = cosine(vector, vector + D, (int32_t)D);
    for (size_t i = n - it->n_references; st == JPT_OK && i < n; i++)
        out->cos_reference = fmax(out->cos_reference, cosine(vector, vector + i * D, (int32_t)D)); /* fmax leaves NAN out */
    free(text);
    free(vector);
    return st;
}

jpt_status jpt_evaluate(const jpt_evaluate_options *opt, const jpt_evaluate_item *item, size_t n, jpt_evaluation *out, jpt_error *err) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (jpt_evaluation){.coherence = NAN, .ppl = NAN, .bits_per_byte = NAN, .cos_prompt = NAN, .cos_reference = NAN};
        if (jpt_stop_requested())
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
        if (opt->evaluator)
            JPT_TRY(likelihood(opt, &item[i], &out[i], err));
        if (opt->embedder)
            JPT_TRY(likeness(opt, &item[i], &out[i], err));
    }
    return JPT_OK;
}

/* ---- a results file ------------------------------------------------------------------------------ */

enum { COHERENCE, PPL, BITS, COS_PROMPT, COS_REFERENCE, N_METRICS };
static const char *const metric_names[N_METRICS] = {"coherence", "ppl", "bits_per_byte", "cos_prompt", "cos_reference"};

typedef struct request {
    int64_t     id, item;
    const char *text;
    double      value[N_METRICS];
    bool        has[N_METRICS];
} request;

typedef struct asked { /* an item row */
    int64_t     task, item;
    const char *prompt;
} asked;

typedef struct cell_ref {
    int64_t id, task;
} cell_ref;

typedef struct work {
    const jpt_evaluate_options *opt;
    jpt_store                  *store;
    jpt_arena                   arena; /* texts of the cell at work */
    jpt_arena                   kept;  /* prompts, names */
    char                        metric[N_METRICS][160]; /* "" when not asked for */
    cell_ref                   *cell;
    asked                      *asked;
    jpt_task_row               *task;
    jpt_task                  **opened; /* [n_tasks] by us */
    const jpt_task            **found;  /* [n_tasks] NULL: no references */
    request                    *request;
    size_t                      n_cells, n_asked, n_tasks, n_requests;
    int64_t                     done, total;
    double                     *human; /* features of people's texts of [n_human] items of a task */
    int64_t                    *human_item, human_task;
    size_t                      n_human;
    jpt_evaluate_summary       *sum;
} work;

/* The array with room for one more of `each` bytes, NULL when there is no memory; arrays grow to powers of two. */
static void *grown(void *array, size_t n, size_t each) { return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * each); }
static const char *keep(jpt_arena *a, const char *z) { return z ? jpt_arena_strndup(a, z, strlen(z)) : ""; }

static jpt_status see_cell(void *ud, const jpt_cell_row *r) {
    work *w = ud;
    void *more = grown(w->cell, w->n_cells, sizeof *w->cell);
    if (!more)
        return JPT_NOMEM;
    w->cell = more;
    w->cell[w->n_cells++] = (cell_ref){r->id, r->task};
    return JPT_OK;
}
static jpt_status see_item(void *ud, const jpt_item_row *r) {
    work *w = ud;
    void *more = grown(w->asked, w->n_asked, sizeof *w->asked);
    if (!more)
        return JPT_NOMEM;
    w->asked = more;
    w->asked[w->n_asked++] = (asked){r->task, r->item_index, keep(&w->kept, r->prompt)};
    return w->asked[w->n_asked - 1].prompt ? JPT_OK : JPT_NOMEM;
}
static jpt_status see_task(void *ud, const jpt_task_row *r) {
    work *w = ud;
    void *more = grown(w->task, w->n_tasks, sizeof *w->task);
    if (!more)
        return JPT_NOMEM;
    w->task = more;
    w->task[w->n_tasks] = (jpt_task_row){.id = r->id, .name = keep(&w->kept, r->name), .sha256 = keep(&w->kept, r->sha256), .primary_metric = keep(&w->kept, r->primary_metric)};
    return w->task[w->n_tasks].name && w->task[w->n_tasks++].sha256 ? JPT_OK : JPT_NOMEM;
}
static jpt_status see_request(void *ud, const jpt_request_row *r) {
    work *w = ud;
    if (r->failed == 1 || !r->text)
        return JPT_OK;
    void *more = grown(w->request, w->n_requests, sizeof *w->request);
    if (!more)
        return JPT_NOMEM;
    w->request = more;
    request *q = &w->request[w->n_requests++];
    *q = (request){.id = r->id, .item = r->item_index, .text = keep(&w->arena, r->text)};
    for (int m = 0; m < N_METRICS; m++)
        q->value[m] = NAN;
    return q->text ? JPT_OK : JPT_NOMEM;
}

static int by_id(const void *a, const void *b) {
    const request *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}
static int by_item(const void *a, const void *b) {
    const request *x = a, *y = b;
    return x->item != y->item ? (x->item > y->item) - (x->item < y->item) : by_id(a, b);
}

/* Requests are sorted by id here. */
static jpt_status see_score(void *ud, const jpt_score_row *r) {
    work    *w = ud;
    request  key = {.id = r->owner};
    request *q = bsearch(&key, w->request, w->n_requests, sizeof key, by_id);
    for (int m = 0; q && m < N_METRICS; m++)
        if (strcmp(r->metric, w->metric[m]) == 0) {
            q->has[m] = true;
            q->value[m] = r->value;
        }
    return JPT_OK;
}

static const asked *asked_of(const work *w, int64_t task, int64_t item) {
    size_t lo = 0, hi = w->n_asked; /* the store gives them in order of task and item */
    while (lo < hi) {
        size_t       mid = lo + (hi - lo) / 2;
        const asked *a = &w->asked[mid];
        if (a->task == task && a->item == item)
            return a;
        if (a->task < task || (a->task == task && a->item < item))
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* The task's references for an item, in the arena; false when there is no memory. */
static bool references_of(work *w, int64_t task, int64_t index, jpt_evaluate_item *out) {
    for (size_t t = 0; t < w->n_tasks; t++) {
        if (w->task[t].id != task || !w->found[t] || index < 0 || (size_t)index >= jpt_task_get_info(w->found[t])->n_items)
            continue;
        const jpt_task_item *it = jpt_task_get_item(w->found[t], (size_t)index);
        jpt_str             *r = jpt_arena_alloc(&w->arena, (it->n_references + 1) * sizeof *r);
        if (!r)
            return false;
        for (size_t i = 0; i < it->n_references; i++)
            r[i] = jpt_str_z(it->references[i]);
        out->references = r;
        out->n_references = it->n_references;
    }
    return true;
}

/* Open-ended, and MAUVE is asked for. */
static bool wants_mauve(const work *w, size_t t) { return w->opt->evaluator && !w->opt->no_mauve && jpt_task_open_ended(w->task[t].primary_metric); }

/* Score requests[0..n), n <= PART, and commit. */
static jpt_status score_part(work *w, const cell_ref *c, request *const *q, size_t n, jpt_error *err) {
    jpt_evaluate_item item[PART] = {0};
    jpt_evaluation    got[PART] = {0};
    jpt_str           prompt[PART];
    jpt_score_row     row[PART * N_METRICS];
    size_t            n_rows = 0;
    for (size_t i = 0; i < n; i++) {
        const asked *a = asked_of(w, c->task, q[i]->item);
        item[i] = (jpt_evaluate_item){.text = jpt_str_z(q[i]->text)};
        if (a) {
            prompt[i] = jpt_str_z(a->prompt);
            item[i].prompt = &prompt[i];
        }
        if (w->opt->embedder && !references_of(w, c->task, q[i]->item, &item[i]))
            return JPT_FAIL(err, NOMEM, "out of memory for references");
        w->sum->without_reference += w->opt->embedder && item[i].n_references == 0;
    }
    JPT_TRY(jpt_evaluate(w->opt, item, n, got, err));
    for (size_t i = 0; i < n; i++) {
        const double v[N_METRICS] = {got[i].coherence, got[i].ppl, got[i].bits_per_byte, got[i].cos_prompt, got[i].cos_reference};
        for (int m = 0; m < N_METRICS; m++) {
            if (!w->metric[m][0] || q[i]->has[m] || (m == COS_REFERENCE && item[i].n_references == 0) || (m == COS_PROMPT && !item[i].prompt))
                continue;
            row[n_rows++] = (jpt_score_row){.owner = q[i]->id, .metric = w->metric[m], .value = v[m], .ci_low = NAN, .ci_high = NAN, .n = -1};
            q[i]->value[m] = v[m];
            q[i]->has[m] = true;
        }
    }
    JPT_TRY(jpt_store_put_scores(w->store, row, n_rows, err));
    w->sum->scored += (int64_t)n;
    w->done += (int64_t)n;
    if (w->opt->on_progress)
        w->opt->on_progress(w->opt->ud, w->done, w->total);
    return JPT_OK;
}

/* A metric of all texts: sum(a) / sum(b), its 95 % bootstrap over items.  Requests are sorted by item here. */
static jpt_status cell_metric(const work *w, int m, jpt_score_row *out, jpt_error *err) {
    double *a = calloc(2 * w->n_requests + 2, sizeof *a), *b = a + w->n_requests + 1, sum_a = 0, sum_b = 0;
    int32_t n = -1, count = 0;
    if (!a)
        return JPT_FAIL(err, NOMEM, "out of memory for the scores");
    int64_t last = -1;
    for (size_t i = 0; i < w->n_requests; i++) {
        const request *q = &w->request[i];
        double         x = q->value[m], y = 1;
        if (!isfinite(x))
            continue;
        if (m == PPL || m == BITS) { /* back to the sums they were made of */
            double nll = q->value[BITS] * log(2) * (double)strlen(q->text);
            y = m == BITS ? (double)strlen(q->text) : log(q->value[PPL]) > 0 ? nll / log(q->value[PPL]) : NAN;
            x = m == BITS ? nll / log(2) : nll;
            if (!isfinite(x) || !(y > 0))
                continue;
        }
        if (n < 0 || q->item != last)
            n++;
        last = q->item;
        a[n] += x;
        b[n] += y;
        sum_a += x;
        sum_b += y;
        count++;
    }
    *out = (jpt_score_row){.metric = w->metric[m], .value = sum_b > 0 ? sum_a / sum_b : NAN, .ci_low = NAN, .ci_high = NAN, .n = count};
    jpt_status st = n > 0 ? jpt_bootstrap_ratio(a, b, n + 1, RESAMPLES, SEED, &out->ci_low, &out->ci_high, err) : JPT_OK;
    if (m == PPL) {
        out->value = exp(out->value);
        out->ci_low = exp(out->ci_low);
        out->ci_high = exp(out->ci_high);
    }
    free(a);
    return st;
}

/* ---- MAUVE ---------------------------------------------------------------------------------------- */

/* What is stored of this metric and cell is of n texts already. */
typedef struct stored { const char *metric; int64_t n; } stored;
static jpt_status see_stored(void *ud, const jpt_score_row *r) {
    stored *s = ud;
    if (strcmp(r->metric, s->metric) == 0 && isfinite(r->value))
        s->n = r->n;
    return JPT_OK;
}

static bool joined(work *w, const char *prompt, jpt_str end, jpt_str *out) {
    jpt_buf b = {0};
    jpt_buf_addz(&b, prompt);
    jpt_buf_add(&b, end.p, end.n);
    *out = (jpt_str){b.oom ? NULL : jpt_arena_strndup(&w->arena, b.p ? b.p : "", b.n), b.n};
    jpt_buf_fini(&b);
    return out->p != NULL;
}

/* The items' texts: of cells that answered the same items the features of people's are known. */
static jpt_status mauve_features(work *w, const cell_ref *c, const int64_t *item, const jpt_str *human, const jpt_str *text, size_t n, jpt_evaluation_mauve *out, jpt_error *err) {
    size_t D = (size_t)jpt_model_get_info(jpt_session_model(w->opt->evaluator))->n_embd;
    bool   known = w->human && w->human_task == c->task && w->n_human == n && memcmp(w->human_item, item, n * sizeof *item) == 0;
    if (!known) {
        free(w->human);
        free(w->human_item);
        w->human = malloc(n * D * sizeof *w->human);
        w->human_item = malloc(n * sizeof *item);
        if (!w->human || !w->human_item)
            return JPT_FAIL(err, NOMEM, "out of memory for the features of %zu texts", n);
        memcpy(w->human_item, item, n * sizeof *item);
        w->human_task = c->task, w->n_human = 0; /* nothing is known until they are whole */
    }
    JPT_TRY(jpt_evaluate_mauve(w->opt, human, text, n, w->human, known, out, err));
    w->n_human = n;
    return JPT_OK;
}

/* Requests are sorted by item here.  Fewer than two items have no distribution. */
static jpt_status cell_mauve(work *w, const cell_ref *c, jpt_error *err) {
    bool wanted = false;
    for (size_t t = 0; t < w->n_tasks; t++)
        wanted = wanted || (w->task[t].id == c->task && w->found[t] && wants_mauve(w, t));
    if (!wanted)
        return JPT_OK;
    char     metric[160];
    stored   had = {metric, -1};
    size_t   n = 0;
    int64_t  last = -1, *item = calloc(w->n_requests + 1, sizeof *item);
    jpt_str *human = calloc(w->n_requests + 1, sizeof *human), *text = calloc(w->n_requests + 1, sizeof *text);
    snprintf(metric, sizeof metric, "mauve@%.120s", w->opt->evaluator_name);
    jpt_status st = item && human && text ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu texts", w->n_requests);
    for (size_t i = 0; st == JPT_OK && i < w->n_requests; i++) {
        const request    *q = &w->request[i];
        const asked      *a = asked_of(w, c->task, q->item);
        jpt_evaluate_item it = {0};
        if (q->item == last || !a)
            continue;
        last = q->item;
        bool ok = references_of(w, c->task, q->item, &it);
        if (ok && it.n_references == 0)
            continue;
        if (!ok || !joined(w, a->prompt, it.references[0], &human[n]) || !joined(w, a->prompt, jpt_str_z(q->text), &text[n]))
            st = JPT_FAIL(err, NOMEM, "out of memory for %zu texts", w->n_requests);
        item[n++] = q->item;
    }
    if (st == JPT_OK)
        st = jpt_store_each_cell_score(w->store, c->id, see_stored, &had, err);
    if (st == JPT_OK && n > 1 && had.n != (int64_t)n) {
        jpt_evaluation_mauve m;
        st = mauve_features(w, c, item, human, text, n, &m, err);
        jpt_score_row row = {.owner = c->id, .metric = metric, .value = m.mauve.mauve, .ci_low = m.ci_low, .ci_high = m.ci_high, .n = (int64_t)n};
        if (st == JPT_OK)
            st = jpt_store_put_cell_scores(w->store, c->id, &row, 1, err);
    }
    free(item);
    free(human);
    free(text);
    return st;
}

static jpt_status read_cell(work *w, const cell_ref *c, jpt_error *err) {
    jpt_arena_fini(&w->arena);
    w->n_requests = 0;
    JPT_TRY(jpt_store_each_request(w->store, c->id, see_request, w, err));
    if (w->n_requests)
        qsort(w->request, w->n_requests, sizeof *w->request, by_id);
    return w->n_requests ? jpt_store_each_score(w->store, c->id, see_score, w, err) : JPT_OK;
}

/* A request lacks a metric that it could have.  A reference that is not to be had is not lacking. */
static bool lacks(work *w, const cell_ref *c, const request *q) {
    for (int m = 0; m < COS_REFERENCE; m++)
        if (w->metric[m][0] && !q->has[m] && (m != COS_PROMPT || asked_of(w, c->task, q->item)))
            return true;
    jpt_evaluate_item it = {0};
    return w->metric[COS_REFERENCE][0] && !q->has[COS_REFERENCE] && references_of(w, c->task, q->item, &it) && it.n_references > 0;
}

static jpt_status score_cell(work *w, const cell_ref *c, jpt_error *err) {
    request *part[PART];
    size_t   n = 0;
    int64_t  before = w->sum->scored;
    JPT_TRY(read_cell(w, c, err));
    w->sum->requests += (int64_t)w->n_requests;
    for (size_t i = 0; i <= w->n_requests; i++) {
        if (n == PART || (i == w->n_requests && n)) {
            JPT_TRY(score_part(w, c, part, n, err));
            n = 0;
        }
        if (i == w->n_requests)
            break;
        if (lacks(w, c, &w->request[i]))
            part[n++] = &w->request[i];
        else {
            w->sum->had++;
            w->done++;
        }
    }
    if (w->n_requests)
        qsort(w->request, w->n_requests, sizeof *w->request, by_item);
    JPT_TRY(cell_mauve(w, c, err));
    if (w->sum->scored == before)
        return JPT_OK;
    jpt_score_row row[N_METRICS];
    size_t        n_rows = 0;
    for (int m = 0; m < N_METRICS; m++) {
        if (!w->metric[m][0])
            continue;
        JPT_TRY(cell_metric(w, m, &row[n_rows], err));
        n_rows += row[n_rows].n > 0;
    }
    return jpt_store_put_cell_scores(w->store, c->id, row, n_rows, err);
}

/* A task gives references when it is one of those given or can be opened by its name, and is the one that was asked. */
static void find_tasks(work *w) {
    for (size_t t = 0; t < w->n_tasks; t++) {
        const char *sha = w->task[t].sha256;
        if (!w->opt->embedder && !wants_mauve(w, t))
            continue;
        for (size_t k = 0; k < w->opt->n_tasks; k++)
            if (strcmp(jpt_task_get_info(w->opt->tasks[k])->sha256, sha) == 0)
                w->found[t] = w->opt->tasks[k];
        if (!w->found[t] && jpt_task_open(w->task[t].name, &w->opened[t], NULL) == JPT_OK && strcmp(jpt_task_get_info(w->opened[t])->sha256, sha) == 0)
            w->found[t] = w->opened[t];
        if (!w->found[t])
            snprintf(w->sum->missing_task, sizeof w->sum->missing_task, "%s", w->task[t].name);
    }
}

static jpt_status score_store(work *w, jpt_error *err) {
    JPT_TRY(jpt_store_n_requests(w->store, &w->total, err));
    JPT_TRY(jpt_store_each_task(w->store, see_task, w, err));
    JPT_TRY(jpt_store_each_item(w->store, see_item, w, err));
    JPT_TRY(jpt_store_each_cell(w->store, see_cell, w, err));
    w->opened = calloc(w->n_tasks + 1, sizeof *w->opened);
    w->found = calloc(w->n_tasks + 1, sizeof *w->found);
    if (!w->opened || !w->found)
        return JPT_FAIL(err, NOMEM, "out of memory for the tasks");
    find_tasks(w);
    for (size_t c = 0; c < w->n_cells; c++)
        JPT_TRY(score_cell(w, &w->cell[c], err));
    return JPT_OK;
}

jpt_status jpt_evaluate_store(const char *path, const jpt_evaluate_options *opt, jpt_evaluate_summary *out, jpt_error *err) {
    work w = {.opt = opt, .sum = out};
    *out = (jpt_evaluate_summary){0};
    for (int m = 0; m < N_METRICS; m++)
        if (m < COS_PROMPT ? opt->evaluator != NULL : opt->embedder != NULL)
            snprintf(w.metric[m], sizeof w.metric[m], "%s@%.120s", metric_names[m], m < COS_PROMPT ? opt->evaluator_name : opt->embedder_name);
    JPT_TRY(jpt_store_open(path, JPT_STORE_APPEND, &w.store, err));
    jpt_status st = score_store(&w, err);
    if (st == JPT_NOMEM) /* of a callback, which has no words */
        JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    for (size_t t = 0; w.opened && t < w.n_tasks; t++)
        jpt_task_close(w.opened[t]);
    free(w.opened);
    free(w.found);
    free(w.cell);
    free(w.asked);
    free(w.task);
    free(w.request);
    free(w.human);
    free(w.human_item);
    jpt_arena_fini(&w.arena);
    jpt_arena_fini(&w.kept);
    jpt_store_close(w.store);
    return st;
}
