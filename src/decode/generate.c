/* The driver: runs requests over the strategies' propose and consume, several at a time.
 *
 * A round: every live request proposes rows, one forward computes them, each consumes its own and emits tokens,
 * and the driver checks each token: end of generation, stop string, length.  Prompts (prefill) and decoding share rounds
 * only when n_batch > 1; times and phases are then those of the round. */
#include "decode_priv.h"
#include "text.h"
#include <jpt/decode.h>
#include <stdlib.h>
#include <string.h>

typedef struct live_request {
    int32_t          index; /* in the caller's arrays, -1: free slot */
    jpt_strategy_ctx ctx;
    jpt_request      request;
    jpt_generation  *out;
    void            *state;
    jpt_proposal     proposal;
    jpt_emission     emission;
    jpt_text         text;
    jpt_work         work;
    double           t_start_s, t_asked_s, joules_at_start;
    bool             opened, done, waits, runs; /* waits for the round's forward; is in the forward at hand */
} live_request;

const char *jpt_stop_reason_name(jpt_stop_reason r) {
    static const char *const names[] = {"none", "eos", "stop_string", "length", "context", "budget"};
    return names[r];
}

static void free_alternatives(jpt_alternative *a, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        free(a[i].tokens);
        jpt_buf_fini(&a[i].text);
    }
    free(a);
}

void jpt_generation_fini(jpt_generation *g) {
    free(g->tokens);
    free(g->logprobs);
    jpt_buf_fini(&g->text);
    free_alternatives(g->alternatives, g->n_alternatives);
    *g = (jpt_generation){0};
}

static jpt_status propose_item(jpt_proposal *p, jpt_batch_item item, jpt_error *err) {
    if (p->n_items == p->cap) {
        int32_t         cap = p->cap ? 2 * p->cap : 4;
        jpt_batch_item *grown = realloc(p->items, (size_t)cap * sizeof *grown);
        if (!grown)
            return JPT_FAIL(err, NOMEM, "out of memory for %d batch items", cap);
        p->items = grown;
        p->cap = cap;
    }
    p->items[p->n_items++] = item;
    return JPT_OK;
}

jpt_status jpt_propose(jpt_proposal *p, jpt_seq seq, const int32_t *tokens, int32_t n, jpt_rows logits, jpt_rows hidden, jpt_error *err) {
    return propose_item(p, (jpt_batch_item){.seq = seq, .tokens = tokens, .n_tokens = n, .logits = logits, .hidden = hidden}, err);
}

jpt_status jpt_propose_tree(jpt_proposal *p, jpt_seq seq, const int32_t *tokens, const int32_t *parent, const bool *marked, int32_t n, jpt_error *err) {
    return propose_item(p, (jpt_batch_item){.seq = seq, .tokens = tokens, .n_tokens = n, .parent = parent, .marked = marked, .logits = JPT_ROWS_MARKED}, err);
}

jpt_status jpt_emit(jpt_emission *e, int32_t token, float logprob, jpt_error *err) {
    if (e->n == e->cap) {
        int32_t  cap = e->cap ? 2 * e->cap : 8;
        int32_t *t = realloc(e->tokens, (size_t)cap * sizeof *t);
        if (t)
            e->tokens = t;
        float *l = t ? realloc(e->logprobs, (size_t)cap * sizeof *l) : NULL;
        if (!l)
            return JPT_FAIL(err, NOMEM, "out of memory for %d tokens", cap);
        e->logprobs = l;
        e->cap = cap;
    }
    e->tokens[e->n] = token;
    e->logprobs[e->n++] = logprob;
    return JPT_OK;
}

jpt_status jpt_emit_alternative(jpt_emission *e, const int32_t *tokens, int32_t n, double score, jpt_error *err) {
    jpt_alternative *grown = realloc(e->alternatives, (size_t)(e->n_alternatives + 1) * sizeof *grown);
    int32_t         *copy = malloc((size_t)(n > 0 ? n : 1) * sizeof *copy);
    if (grown)
        e->alternatives = grown;
    if (!grown || !copy) {
        free(copy);
        return JPT_FAIL(err, NOMEM, "out of memory for an answer of %d tokens", n);
    }
    memcpy(copy, tokens, (size_t)n * sizeof *copy);
    e->alternatives[e->n_alternatives++] = (jpt_alternative){.tokens = copy, .n = n, .score = score};
    return JPT_OK;
}

/* ---- one request ------------------------------------------------------------------------------------------ */

static jpt_status check_request(jpt_session *s, const jpt_request *r, jpt_error *err) {
    int32_t ctx = jpt_session_n_ctx(s);
    if (r->n_prompt < 1)
        return JPT_FAIL(err, ARG, "the prompt is empty: no token to start from");
    if (r->n_prompt >= ctx)
        return JPT_FAIL(err, CTX_FULL, "the prompt has %d tokens, but the context holds %d and the answer needs room; shorten the prompt or use a larger context",
                        r->n_prompt, ctx);
    if (r->max_new_tokens < 1 || r->min_new_tokens < 0 || r->min_new_tokens > r->max_new_tokens)
        return JPT_FAIL(err, ARG, "max_new_tokens %d, min_new_tokens %d: expected 1 <= max and 0 <= min <= max", r->max_new_tokens, r->min_new_tokens);
    return JPT_OK;
}

static jpt_status start(jpt_session *s, const jpt_request *r, int32_t index, jpt_generation *out, live_request *q, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(s));
    *q = (live_request){.index = index, .request = *r, .out = out, .t_start_s = jpt_now_s()};
    q->ctx = (jpt_strategy_ctx){.session = s, .request = &q->request, .seq = -1, .work = &q->work, .budget_note = out->budget_note};
    if (r->max_joules > 0 && r->joules)
        q->joules_at_start = r->joules(r->joules_ud);
    if (!r->ignore_eos)
        for (int32_t id = 0, V = jpt_tokenizer_n_vocab(tok); id < V && q->ctx.n_eos < JPT_EOS_MAX; id++)
            if (jpt_tokenizer_is_eog(tok, id))
                q->ctx.eos[q->ctx.n_eos++] = id;
    jpt_text_init(&q->text, tok, &q->request);
    int32_t left = jpt_session_n_ctx(s) - r->n_prompt, room = r->max_new_tokens < left ? r->max_new_tokens : left;
    out->tokens = malloc((size_t)room * sizeof *out->tokens);
    out->logprobs = malloc((size_t)room * sizeof *out->logprobs);
    q->state = calloc(1, r->spec->strategy->state_bytes ? r->spec->strategy->state_bytes : 1);
    if (!out->tokens || !out->logprobs || !q->state)
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    JPT_TRY(jpt_seq_new(s, &q->ctx.seq, err));
    q->opened = true; /* close is called after a failed open too */
    return r->spec->strategy->open(q->state, &q->ctx, r->spec, err);
}

static void finish(jpt_session *s, live_request *q) {
    if (q->opened)
        q->request.spec->strategy->close(q->state, &q->ctx);
    jpt_seq_free(s, q->ctx.seq);
    free(q->state);
    free(q->proposal.items);
    free(q->emission.tokens);
    free(q->emission.logprobs);
    free_alternatives(q->emission.alternatives, q->emission.n_alternatives);
    jpt_text_fini(&q->text);
    if (q->out) {
        q->out->work = q->work;
        q->out->duration_s = jpt_now_s() - q->t_start_s;
    }
    q->index = -1;
}

void jpt_budget_note(const jpt_strategy_ctx *ctx, const char *text) {
    size_t n = strlen(ctx->budget_note);
    if (!strstr(ctx->budget_note, text))
        snprintf(ctx->budget_note + n, 160 - n, "%s%s at %.0f %% of the budget", n ? "; " : "", text, 100 * ctx->spent);
}

/* Asked at most every 20 ms: reading a counter costs too. */
static void look_at_budget(live_request *q) {
    double now = jpt_now_s();
    if (!(q->request.max_joules > 0) || !q->request.joules || now - q->t_asked_s < 0.02)
        return;
    q->t_asked_s = now;
    double spent = (q->request.joules(q->request.joules_ud) - q->joules_at_start) / q->request.max_joules;
    q->ctx.spent = spent > q->ctx.spent ? spent : q->ctx.spent; /* NAN leaves it */
}

static bool at_sentence_end(const jpt_buf *text) {
    size_t n = text->n;
    while (n > 0 && (text->p[n - 1] == ' ' || text->p[n - 1] == '"' || text->p[n - 1] == ')'))
        n--;
    return n > 0 && strchr(".!?\n", text->p[n - 1]);
}

/* Alternatives with their texts, cut at the first stop string like the text itself. */
static jpt_status take_alternatives(jpt_session *s, live_request *q, jpt_error *err) {
    q->out->alternatives = q->emission.alternatives;
    q->out->n_alternatives = q->emission.n_alternatives;
    q->emission.alternatives = NULL;
    q->emission.n_alternatives = 0;
    for (int32_t i = 0; i < q->out->n_alternatives; i++) {
        jpt_alternative *a = &q->out->alternatives[i];
        jpt_request      quiet = q->request;
        jpt_text         text;
        bool             stopped = false;
        quiet.on_text = NULL;
        jpt_text_init(&text, jpt_model_tokenizer(jpt_session_model(s)), &quiet);
        for (int32_t k = 0; k < a->n && !stopped; k++)
            if (!is_eos(&q->ctx, a->tokens[k]))
                JPT_TRY(jpt_text_push(&text, a->tokens[k], &a->text, &stopped, err));
        if (!stopped)
            JPT_TRY(jpt_text_flush(&text, &a->text, err));
        jpt_text_fini(&text);
    }
    return JPT_OK;
}

/* Take the emitted tokens one by one until the text is done; what comes after is discarded. */
static jpt_status keep_tokens(jpt_session *s, live_request *q, jpt_error *err) {
    jpt_generation *g = q->out;
    int32_t         i = 0;
    for (; i < q->emission.n && !q->done; i++) {
        int32_t token = q->emission.tokens[i];
        if (g->n_tokens == 0)
            g->ttft_s = jpt_now_s() - q->t_start_s;
        g->tokens[g->n_tokens] = token;
        g->logprobs[g->n_tokens++] = q->emission.logprobs[i];
        bool stopped = false;
        if (is_eos(&q->ctx, token))
            g->stop = JPT_STOP_EOS;
        else
            JPT_TRY(jpt_text_push(&q->text, token, &g->text, &stopped, err));
        if (stopped)
            g->stop = JPT_STOP_STRING;
        else if (g->stop == JPT_STOP_NONE && g->n_tokens == q->request.max_new_tokens)
            g->stop = JPT_STOP_LENGTH;
        else if (g->stop == JPT_STOP_NONE && q->request.n_prompt + g->n_tokens >= jpt_session_n_ctx(s))
            g->stop = JPT_STOP_CONTEXT;
        if (g->stop == JPT_STOP_NONE && !q->emission.finished && (q->ctx.spent >= 1 || (q->ctx.spent >= 0.85 && at_sentence_end(&g->text)))) {
            g->stop = JPT_STOP_BUDGET;
            jpt_budget_note(&q->ctx, q->ctx.spent >= 1 ? "stopped" : "stopped at a sentence's end");
        }
        q->done = g->stop != JPT_STOP_NONE;
    }
    q->work.positions_discarded += (uint64_t)(q->emission.n - i); /* computed, but past the stop */
    g->n_past_stop += q->emission.n - i;
    if (!q->done && q->emission.finished) {
        g->stop = q->ctx.spent >= 1 ? JPT_STOP_BUDGET : JPT_STOP_EOS;
        q->done = true;
    }
    if (q->done && g->stop != JPT_STOP_STRING)
        JPT_TRY(jpt_text_flush(&q->text, &g->text, err));
    return q->done ? take_alternatives(s, q, err) : JPT_OK;
}

/* ---- rounds ---------------------------------------------------------------------------------------------------- */

typedef struct driver {
    jpt_session    *s;
    live_request   *live;
    int32_t         n_live;
    jpt_batch_item *items; /* the round's batch */
    int32_t         cap;
} driver;

/* All requests propose. */
static jpt_status propose_all(driver *d, jpt_error *err) {
    for (int32_t i = 0; i < d->n_live; i++) {
        live_request *q = &d->live[i];
        look_at_budget(q);
        q->proposal.n_items = q->proposal.n_exit_layers = 0;
        q->proposal.exit_without_norm = false;
        JPT_TRY(q->request.spec->strategy->propose(q->state, &q->ctx, &q->proposal, err));
        if (q->proposal.n_items == 0)
            return JPT_FAIL(err, ARG, "strategy '%s' proposed nothing (a defect of the strategy)", q->request.spec->strategy->name);
        q->waits = true;
    }
    return JPT_OK;
}

static bool same_exits(const jpt_proposal *a, const jpt_proposal *b) {
    return a->n_exit_layers == b->n_exit_layers && a->exit_without_norm == b->exit_without_norm &&
           memcmp(a->exit_layers, b->exit_layers, (size_t)a->n_exit_layers * sizeof *a->exit_layers) == 0;
}

/* One batch of the first waiting request and all others that ask for the same exit layers, as a forward has one list of them. */
static jpt_status gather(driver *d, jpt_batch *b, jpt_phase *phase, jpt_error *err) {
    const jpt_proposal *first = NULL;
    *b = (jpt_batch){0};
    *phase = JPT_PHASE_PREFILL;
    for (int32_t i = 0; i < d->n_live; i++) {
        live_request *q = &d->live[i];
        q->runs = q->waits && (!first || same_exits(first, &q->proposal));
        if (!q->runs)
            continue;
        first = first ? first : &q->proposal;
        if (q->proposal.phase != JPT_PHASE_PREFILL)
            *phase = q->proposal.phase;
        if (b->n_items + q->proposal.n_items > d->cap) {
            int32_t         cap = 2 * (b->n_items + q->proposal.n_items);
            jpt_batch_item *grown = realloc(d->items, (size_t)cap * sizeof *grown);
            if (!grown)
                return JPT_FAIL(err, NOMEM, "out of memory for %d batch items", cap);
            d->items = grown;
            d->cap = cap;
        }
        memcpy(d->items + b->n_items, q->proposal.items, (size_t)q->proposal.n_items * sizeof *d->items);
        b->n_items += q->proposal.n_items;
    }
    b->n_exit_layers = first->n_exit_layers;
    memcpy(b->exit_layers, first->exit_layers, sizeof b->exit_layers);
    b->exit_without_norm = first->exit_without_norm;
    b->items = d->items;
    return JPT_OK;
}

/* One forward, and what its requests make of it. */
static jpt_status forward_of(driver *d, jpt_error *err) {
    jpt_batch b;
    jpt_phase phase;
    JPT_TRY(gather(d, &b, &phase, err));
    double   t0 = jpt_now_s();
    jpt_work before = jpt_session_work(d->s);
    jpt_session_set_phase(d->s, phase);
    JPT_TRY(jpt_session_forward(d->s, &b, err));
    jpt_work spent = jpt_work_sub(jpt_session_work(d->s), before);
    double   forward_s = jpt_now_s() - t0;
    int32_t  n_decoding = 0;
    uint64_t prompt_rows = 0;
    for (int32_t i = 0; i < d->n_live; i++) {
        const jpt_proposal *p = &d->live[i].proposal;
        n_decoding += d->live[i].runs && p->phase != JPT_PHASE_PREFILL;
        for (int32_t k = 0; k < p->n_items && d->live[i].runs && p->phase == JPT_PHASE_PREFILL; k++)
            prompt_rows += (uint64_t)p->items[k].n_tokens;
    }
    double row_s = spent.positions_computed ? forward_s / (double)spent.positions_computed : 0;
    for (int32_t i = 0, at = 0; i < d->n_live; i++) {
        live_request *q = &d->live[i];
        uint64_t      rows = 0, logits = 0;
        if (!q->runs)
            continue;
        q->waits = false;
        for (int32_t k = 0; k < q->proposal.n_items; k++) {
            q->proposal.items[k] = b.items[at++];
            rows += (uint64_t)q->proposal.items[k].n_tokens;
            logits += (uint64_t)jpt_rows_count(&q->proposal.items[k], q->proposal.items[k].logits);
        }
        /* rows and logits are the request's own; forwards and passes count the rounds it took part in */
        q->work.forwards++;
        q->work.passes += spent.passes;
        q->work.positions_computed += rows;
        q->work.logits_rows += logits * (1 + (uint64_t)b.n_exit_layers);
        q->work.kv_bytes_moved += d->n_live == 1 ? spent.kv_bytes_moved : 0;
        double   t1 = jpt_now_s();
        uint64_t selects = jpt_session_work(d->s).selects;
        q->emission.n = 0;
        JPT_TRY(q->request.spec->strategy->consume(q->state, &q->ctx, &q->proposal, &q->emission, err));
        q->work.selects += jpt_session_work(d->s).selects - selects;
        JPT_TRY(keep_tokens(d->s, q, err));
        double own_s = jpt_now_s() - t1;
        if (q->proposal.phase == JPT_PHASE_PREFILL) {
            q->out->prefill_s += forward_s + own_s;
            q->out->prefill_share_s += row_s * (double)rows + own_s;
        } else {
            q->out->decode_s += forward_s + own_s;
            q->out->decode_share_s += (forward_s - row_s * (double)prompt_rows) / n_decoding + own_s;
        }
    }
    return JPT_OK;
}

static jpt_status round_of(driver *d, jpt_error *err) {
    if (jpt_stop_requested())
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    JPT_TRY(propose_all(d, err));
    for (bool more = true; more;) {
        JPT_TRY(forward_of(d, err));
        more = false;
        for (int32_t i = 0; i < d->n_live; i++)
            more = more || d->live[i].waits;
    }
    return JPT_OK;
}

jpt_status jpt_generate(jpt_session *s, const jpt_request *req, int32_t n, int32_t n_batch, jpt_generation *out, jpt_done_fn on_done,
                        void *ud, jpt_error *err) {
    for (int32_t i = 0; i < n; i++)
        JPT_TRY(check_request(s, &req[i], err));
    if (n_batch < 1)
        n_batch = 1;
    driver     d = {.s = s, .live = calloc((size_t)n_batch, sizeof *d.live)};
    jpt_status st = d.live ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d requests", n_batch);
    int32_t    next = 0;
    while (st == JPT_OK && (next < n || d.n_live)) {
        while (st == JPT_OK && d.n_live < n_batch && next < n) {
            live_request *q = &d.live[d.n_live++];
            st = start(s, &req[next], next, &out[next], q, err);
            q->ctx.request = &q->request;
            next++;
        }
        if (st == JPT_OK)
            st = round_of(&d, err);
        for (int32_t i = 0; st == JPT_OK && i < d.n_live;) {
            if (!d.live[i].done) {
                i++;
                continue;
            }
            int32_t index = d.live[i].index;
            finish(s, &d.live[i]);
            if (on_done)
                on_done(ud, index, &out[index]);
            /* keep the order of the others: their rows must not depend on who left */
            for (int32_t k = i; k + 1 < d.n_live; k++) {
                d.live[k] = d.live[k + 1];
                d.live[k].ctx.request = &d.live[k].request;
                d.live[k].ctx.work = &d.live[k].work;
            }
            d.n_live--;
        }
    }
    for (int32_t i = 0; i < d.n_live; i++) {
        int32_t index = d.live[i].index;
        finish(s, &d.live[i]);
        if (index >= 0)
            out[index].stop = JPT_STOP_NONE;
    }
    free(d.live);
    free(d.items);
    return st;
}

void jpt_spec_session_options(const jpt_spec *const *spec, size_t n, int32_t n_batch, jpt_session_options *opt) {
    jpt_needs most = {.n_seqs = 1, .n_outputs = 1};
    for (size_t i = 0; i < n; i++) {
        jpt_needs one = {.n_seqs = 1, .n_outputs = 1};
        if (spec[i]->strategy->needs)
            spec[i]->strategy->needs(spec[i], &one);
        most.n_seqs = one.n_seqs > most.n_seqs ? one.n_seqs : most.n_seqs;
        most.n_outputs = one.n_outputs > most.n_outputs ? one.n_outputs : most.n_outputs;
        most.n_tree = one.n_tree > most.n_tree ? one.n_tree : most.n_tree;
        most.all_hidden = most.all_hidden || one.all_hidden;
    }
    if (n_batch < 1)
        n_batch = 1;
    opt->n_seqs = most.n_seqs * n_batch;
    opt->n_outputs = most.n_outputs * n_batch;
    opt->n_tree = most.n_tree * n_batch;
    opt->n_hidden = opt->n_outputs;
    if (opt->page_size <= 0 && most.n_seqs == 1 && most.n_tree == 0) /* nobody forks */
        opt->page_size = 16;
    if (most.all_hidden) /* a prompt may fill the context */
        opt->n_hidden = (opt->n_ctx > 0 ? opt->n_ctx : 4096) * n_batch;
}
