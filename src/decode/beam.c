/* The beam family: beam search, beam sampling, diverse (group) beam search, constrained beam search with
 * constrained.c, and contrastive decoding's with cd_beam.c.
 *
 * Beam search follows transformers' vectorised _beam_search (4.50 and later), the others the BeamSearchScorers of 4.46
 * (group_beam_search, constrained_beam_search).  A beam is a sequence of the session: growing forks page tables, never keys and values.
 * Running sums are float32 sums of processed log-probabilities; ties go to the lower beam, then the lower id. */
#include "beam.h"
#include "text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *array(jpt_arena *a, size_t n, size_t size) {
    size_t bytes;
    return jpt_mul_size(n ? n : 1, size, &bytes) ? jpt_arena_alloc(a, bytes) : NULL;
}

static bool new_hypothesis(jpt_arena *a, int32_t limit, hypothesis *h) {
    h->tokens = array(a, (size_t)limit, sizeof *h->tokens);
    h->logprobs = array(a, (size_t)limit, sizeof *h->logprobs);
    return h->tokens && h->logprobs;
}

static void copy_hypothesis(hypothesis *to, const hypothesis *from) {
    to->score = from->score;
    to->n = from->n;
    memcpy(to->tokens, from->tokens, (size_t)from->n * sizeof *to->tokens);
    memcpy(to->logprobs, from->logprobs, (size_t)from->n * sizeof *to->logprobs);
}

static jpt_status beam_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    beam_state        *s = state;
    const jpt_request *r = ctx->request;
    int32_t            n_beams = (int32_t)spec_value(spec, "num_beams", 1), room = jpt_session_n_ctx(ctx->session) - r->n_prompt;
    const char        *when = spec_string(spec, "early_stopping");
    s->n_groups = (int32_t)spec_value(spec, "num_beam_groups", 1);
    s->width = n_beams / s->n_groups;
    s->now = s->width;
    s->n_return = (int32_t)spec_value(spec, "num_return_sequences", 1);
    s->length_penalty = (float)spec_value(spec, "length_penalty", 1);
    s->diversity_penalty = (float)spec_value(spec, "diversity_penalty", 0);
    s->early_stopping = strcmp(when, "true") == 0 ? EARLY_TRUE : strcmp(when, "never") == 0 ? EARLY_NEVER : EARLY_FALSE;
    s->sampling = spec->strategy->samples;
    if (n_beams == 1) /* one beam is greedy search, as in generate(): the first answer is the answer */
        s->early_stopping = EARLY_TRUE;
    s->limit = r->max_new_tokens < room ? r->max_new_tokens : room;
    s->n_candidates = (ctx->n_eos > 1 ? 1 + ctx->n_eos : 2) * s->width;
    JPT_TRY(jpt_chain_build(spec, ctx, s->sampling, &s->chain, err));
    int32_t keep = ctx->n_eos > 0 ? ctx->n_eos + 1 : 2; /* a continuation that is no end survives every cut */
    if (s->chain.chain.min_tokens_to_keep < keep)
        s->chain.chain.min_tokens_to_keep = keep;
    jpt_arena *a = &s->chain.arena;
    size_t     w = (size_t)s->width;
    bool       ok = (s->group = array(a, (size_t)s->n_groups, sizeof *s->group)) && (s->next = array(a, w, sizeof *s->next)) &&
              (s->history = array(a, w * (size_t)(r->n_prompt + s->limit), sizeof *s->history)) && (s->picked = array(a, (size_t)n_beams, sizeof *s->picked)) &&
              (s->penalty = array(a, (size_t)n_beams, sizeof *s->penalty)) && (s->c_index = array(a, (size_t)s->n_candidates, sizeof *s->c_index)) &&
              (s->c_token = array(a, (size_t)s->n_candidates, sizeof *s->c_token)) && (s->c_score = array(a, (size_t)s->n_candidates, sizeof *s->c_score)) &&
              (s->items = array(a, w, sizeof *s->items));
    for (int32_t i = 0; ok && i < s->width; i++) {
        s->next[i].seq = s->next[i].amateur = -1;
        ok = new_hypothesis(a, s->limit, &s->next[i].h);
    }
    for (int32_t g = 0; ok && g < s->n_groups; g++) {
        group *q = &s->group[g];
        q->open = true;
        q->n_run = 1;
        ok = (q->run = array(a, w, sizeof *q->run)) && (q->done = array(a, w + 1, sizeof *q->done));
        for (int32_t i = 0; q->run && i < s->width; i++)
            q->run[i].seq = q->run[i].amateur = -1;
        for (int32_t i = 0; ok && i < s->width; i++)
            ok = new_hypothesis(a, s->limit, &q->run[i].h);
        for (int32_t i = 0; ok && i <= s->width; i++)
            ok = new_hypothesis(a, s->limit, &q->done[i]);
        if (ok)
            jpt_detok_init(&q->run[0].detok, jpt_model_tokenizer(jpt_session_model(ctx->session)), JPT_DECODE_SKIP_SPECIAL | JPT_DECODE_CONTINUE);
    }
    if (!ok)
        return JPT_FAIL(err, NOMEM, "out of memory for %d beams of %d tokens", n_beams, s->limit);
    s->group[0].run[0].seq = ctx->seq;
    JPT_TRY(jpt_contrast_open(spec, ctx, s, &s->contrast, err));
    return jpt_forced_words_open(spec, ctx, s, &s->forced, err);
}

static jpt_status beam_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    beam_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (s->contrast && (p->exit_layers[0] = jpt_contrast_layer(s->contrast, NULL)) > 0) {
        p->n_exit_layers = 1;
        p->exit_without_norm = false;
    }
    if (!s->prefilled)
        return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    for (int32_t g = 0; g < s->n_groups; g++)
        for (int32_t i = 0; i < s->group[g].n_run; i++) {
            beam *b = &s->group[g].run[i];
            JPT_TRY(jpt_propose(p, b->seq, &b->h.tokens[b->h.n - 1], 1, JPT_ROWS_LAST, JPT_ROWS_NONE, err));
            s->n_rows++;
        }
    return JPT_OK;
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

jpt_score_item beam_score_item(beam_state *s, const jpt_request *r, const beam *b, int32_t i, const jpt_chain *chain) {
    int32_t *h = s->history + (size_t)i * (size_t)(r->n_prompt + s->limit);
    memcpy(h, r->prompt, (size_t)r->n_prompt * sizeof *h);
    memcpy(h + r->n_prompt, b->h.tokens, (size_t)b->h.n * sizeof *h);
    return (jpt_score_item){.from = {.row = b->row, .chain = chain, .history = h, .n_history = r->n_prompt + b->h.n, .n_prompt = r->n_prompt},
                            .bias = b->h.score, .log_first = s->width * s->n_groups > 1, .scored = s->contrast, .perturb = s->sampling};
}

/* The group's best continuations into c_*; returns how many in *n. */
static jpt_status rank_candidates(beam_state *s, const jpt_strategy_ctx *ctx, group *q, int32_t g, int32_t *n, jpt_error *err) {
    const jpt_request *r = ctx->request;
    jpt_chain          chain = s->chain.chain;
    if (s->n_picked && chain.n_links < JPT_CHAIN_MAX) { /* Hamming diversity comes first */
        memmove(chain.link + 1, chain.link, (size_t)chain.n_links * sizeof *chain.link);
        chain.link[0] = (jpt_link){.kind = JPT_LINK_BIAS, .ids = s->picked, .values = s->penalty, .n_ids = s->n_picked};
        chain.n_links++;
    }
    for (int32_t i = 0; i < q->n_run; i++) {
        s->items[i] = beam_score_item(s, r, &q->run[i], i, chain.n_links ? &chain : NULL);
        s->items[i].from.key = (jpt_rng_key){r->seed, r->prompt_index, (uint32_t)(g * s->width + i), (uint32_t)s->step};
    }
    JPT_TRY(jpt_session_topk(ctx->session, s->items, q->n_run, s->n_candidates, s->c_index, s->c_token, s->c_score, n, err));
    return *n > 0 ? JPT_OK : JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
}

/* Whether the token completes a stop string after the beam's text; the text with it goes to *tail. */
static jpt_status meets_stop(const jpt_request *r, const beam *b, int32_t token, jpt_detok *detok, jpt_buf *tail, bool *stops, jpt_error *err) {
    size_t longest = 1;
    *stops = false;
    for (int32_t i = 0; i < r->n_stop; i++)
        longest = strlen(r->stop[i]) > longest ? strlen(r->stop[i]) : longest;
    size_t keep = b->tail.n < longest - 1 ? b->tail.n : longest - 1;
    *detok = b->detok;
    jpt_buf_reset(tail);
    jpt_buf_add(tail, b->tail.n ? b->tail.p + b->tail.n - keep : "", keep);
    JPT_TRY(jpt_detok_push(detok, token, tail, err));
    for (int32_t i = 0; i < r->n_stop && !*stops; i++)
        *stops = r->stop[i][0] && tail->n && memmem(tail->p, tail->n, r->stop[i], strlen(r->stop[i]));
    return tail->oom ? JPT_FAIL(err, NOMEM, "out of memory for a beam's text") : JPT_OK;
}

static float normalised(const beam_state *s, float sum, int32_t length) { return sum / powf((float)length, s->length_penalty); }

/* What is reported as a token's log-probability: what it added to the score, but the expert's own under contrast. */
static float logprob_of(const beam_state *s, const beam *parent, int32_t token, float sum) {
    return s->contrast ? jpt_contrast_logprob(s->contrast, parent->row, token) : sum - parent->h.score;
}

/* Add a finished answer, keep the `width` best (a tie: the earlier stays before). */
static void finish_answer(beam_state *s, group *q, const beam *parent, int32_t token, float sum, float score) {
    int32_t at = q->n_done;
    while (at > 0 && q->done[at - 1].score < score)
        at--;
    if (at == s->width)
        return;
    hypothesis spare = q->done[s->width];
    memmove(q->done + at + 1, q->done + at, (size_t)(s->width - at) * sizeof *q->done);
    copy_hypothesis(&spare, &parent->h);
    if (token >= 0) {
        spare.tokens[spare.n] = token;
        spare.logprobs[spare.n++] = logprob_of(s, parent, token, sum);
    }
    spare.score = score;
    q->done[at] = spare;
    q->n_done += q->n_done < s->width;
}

/* next[k] = candidate c of the group, without its sequence yet. */
static jpt_status extend(beam_state *s, const jpt_strategy_ctx *ctx, group *q, int32_t c, int32_t k, jpt_error *err) {
    const beam *parent = &q->run[s->c_index[c]];
    beam       *b = &s->next[k];
    copy_hypothesis(&b->h, &parent->h);
    b->h.tokens[b->h.n] = s->c_token[c];
    b->h.logprobs[b->h.n++] = logprob_of(s, parent, s->c_token[c], s->c_score[c]);
    b->h.score = s->c_score[c];
    b->row = s->c_index[c]; /* for now: the parent */
    bool stops;
    return ctx->request->n_stop ? meets_stop(ctx->request, parent, s->c_token[c], &b->detok, &b->tail, &stops, err) : JPT_OK;
}

/* The request's own sequence is the driver's: it is emptied, not ended. */
static void release(const jpt_strategy_ctx *ctx, jpt_seq *seq) {
    if (*seq == ctx->seq)
        (void)jpt_seq_truncate(ctx->session, *seq, 0, NULL);
    else if (*seq >= 0)
        jpt_seq_free(ctx->session, *seq);
    *seq = -1;
}

static void end_beam(const beam_state *s, const jpt_strategy_ctx *ctx, beam *b) {
    jpt_session *amateur;
    release(ctx, &b->seq);
    if (b->amateur >= 0 && jpt_contrast_layer(s->contrast, &amateur) == 0)
        jpt_seq_free(amateur, b->amateur);
    b->amateur = -1;
}

/* The next beams take over: the first child of a beam gets its sequence, the others fork it, childless ones end. */
static jpt_status take_over(beam_state *s, const jpt_strategy_ctx *ctx, group *q, int32_t n, jpt_error *err) {
    for (int32_t i = 0; i < q->n_run; i++) {
        bool used = false;
        for (int32_t k = 0; k < n; k++)
            used = used || s->next[k].row == i;
        if (!used)
            end_beam(s, ctx, &q->run[i]);
    }
    for (int32_t k = 0; k < n; k++)
        s->next[k].seq = s->next[k].amateur = -1;
    jpt_status   st = JPT_OK;
    jpt_session *amateur = NULL;
    if (s->contrast)
        (void)jpt_contrast_layer(s->contrast, &amateur);
    for (int32_t k = 0; st == JPT_OK && k < n; k++) {
        beam *parent = &q->run[s->next[k].row];
        bool  more = false;
        for (int32_t j = k + 1; j < n; j++)
            more = more || s->next[j].row == s->next[k].row;
        if (more) {
            st = jpt_seq_fork(ctx->session, parent->seq, &s->next[k].seq, err);
            if (st == JPT_OK && amateur)
                st = jpt_seq_fork(amateur, parent->amateur, &s->next[k].amateur, err);
        } else {
            s->next[k].seq = parent->seq;
            s->next[k].amateur = parent->amateur;
            parent->seq = parent->amateur = -1;
        }
    }
    for (int32_t i = 0; i < s->width; i++) { /* swap: arrays stay with the state */
        beam t = q->run[i];
        q->run[i] = s->next[i];
        s->next[i] = t;
    }
    q->n_run = n;
    return st;
}

/* ---- beam search, beam sampling --------------------------------------------------------------------------- */

/* Under a budget: half the beams from half of it on, one from three quarters on, an end at the end. */
static void narrow(beam_state *s, const jpt_strategy_ctx *ctx) {
    int32_t now = ctx->spent < 0.5 ? s->width : ctx->spent < 0.75 ? (s->width + 1) / 2 : 1;
    if (now < s->now) {
        s->now = now;
        jpt_budget_note(ctx, now == 1 ? "narrowed the beam to 1" : "halved the beam");
    }
    if (ctx->spent >= 1 && s->limit > s->step + 1) {
        s->limit = s->step + 1;
        jpt_budget_note(ctx, "stopped");
    }
}

static jpt_status search_step(beam_state *s, const jpt_strategy_ctx *ctx, jpt_error *err) {
    narrow(s, ctx);
    group     *q = &s->group[0];
    int32_t    n, k = 0, hits = 0, length = s->step + 1;
    jpt_detok  detok;
    jpt_buf    tail = {0};
    jpt_status st = s->contrast ? jpt_contrast_rows(s, ctx, q, err) : JPT_OK;
    if (st == JPT_OK)
        st = rank_candidates(s, ctx, q, 0, &n, err);
    bool       full = q->n_done >= s->now && s->early_stopping == EARLY_TRUE;
    for (int32_t c = 0; st == JPT_OK && c < n; c++) {
        bool hit = is_eos(ctx, s->c_token[c]) || length >= s->limit;
        if (!hit && ctx->request->n_stop)
            st = meets_stop(ctx->request, &q->run[s->c_index[c]], s->c_token[c], &detok, &tail, &hit, err);
        hits += hit;
        if (st == JPT_OK && hit && c < s->width && q->open && !full)
            finish_answer(s, q, &q->run[s->c_index[c]], s->c_token[c], s->c_score[c], normalised(s, s->c_score[c], length));
        else if (st == JPT_OK && !hit && k < s->now)
            st = extend(s, ctx, q, c, k++, err);
    }
    jpt_buf_fini(&tail);
    if (st != JPT_OK)
        return st;
    s->step = length;
    if (k > 0) {
        float best = normalised(s, s->next[0].h.score, s->early_stopping == EARLY_NEVER && s->length_penalty > 0 ? s->limit : length);
        float worst = q->n_done >= s->now ? q->done[s->now - 1].score : -1e9f;
        q->open = q->open && best > worst;
    }
    bool enough = q->n_done >= s->now && s->early_stopping == EARLY_TRUE;
    q->finished = k == 0 || hits == n || !q->open || enough;
    return q->finished ? JPT_OK : take_over(s, ctx, q, k, err);
}

/* ---- diverse and constrained beam search ------------------------------------------------------------------ */

/* Only a text with all forced words is an answer. */
static bool may_end(const beam_state *s, const hypothesis *h) { return !s->forced || jpt_forced_words_met(s->forced, h->tokens, h->n); }

static jpt_status group_step(beam_state *s, const jpt_strategy_ctx *ctx, int32_t g, jpt_error *err) {
    group  *q = &s->group[g];
    int32_t n, k = 0, length = s->step + 1;
    JPT_TRY(rank_candidates(s, ctx, q, g, &n, err));
    float top = s->c_score[0];
    for (int32_t c = 0; c < n && k < s->width; c++) {
        const beam *parent = &q->run[s->c_index[c]];
        if (!is_eos(ctx, s->c_token[c])) { /* the picked ones move to the front */
            s->c_index[k] = s->c_index[c], s->c_token[k] = s->c_token[c], s->c_score[k] = s->c_score[c];
            k++;
        } else if (c < s->width && may_end(s, &parent->h)) {
            finish_answer(s, q, parent, s->c_token[c], s->c_score[c], normalised(s, s->c_score[c], length));
        }
    }
    if (s->forced)
        JPT_TRY(jpt_forced_words_steer(s, ctx, q, &k, err));
    for (int32_t i = 0; i < k; i++)
        JPT_TRY(extend(s, ctx, q, i, i, err));
    for (int32_t i = 0; i < k; i++) {
        s->picked[s->n_picked] = s->next[i].h.tokens[s->next[i].h.n - 1];
        s->penalty[s->n_picked++] = -s->diversity_penalty;
    }
    if (q->n_done == s->width) {
        float best = normalised(s, top, s->early_stopping == EARLY_NEVER && s->length_penalty > 0 ? s->limit : length);
        q->finished = s->early_stopping == EARLY_TRUE || q->done[s->width - 1].score >= best;
    }
    q->finished = q->finished || k == 0;
    /* a text that meets a stop string is an answer; the reference has no stop strings here */
    for (int32_t i = 0; i < k && ctx->request->n_stop && !q->finished; i++)
        for (int32_t j = 0; j < ctx->request->n_stop; j++)
            if (s->next[i].tail.n && may_end(s, &s->next[i].h) && memmem(s->next[i].tail.p, s->next[i].tail.n, ctx->request->stop[j], strlen(ctx->request->stop[j]))) {
                finish_answer(s, q, &s->next[i], -1, 0, normalised(s, s->next[i].h.score, length));
                q->finished = q->n_done == s->width;
                break;
            }
    if (!q->finished)
        return take_over(s, ctx, q, k, err);
    for (int32_t i = 0; i < q->n_run; i++)
        end_beam(s, ctx, &q->run[i]);
    q->n_run = 0;
    return JPT_OK;
}

/* Open beams are answers too at the end; without all forced words only when there is no other. */
static void add_open_beams(beam_state *s, group *q) {
    for (int pass = 0; pass < 2 && !q->finished && (pass == 0 || q->n_done == 0); pass++)
        for (int32_t i = 0; i < q->n_run; i++)
            if (may_end(s, &q->run[i].h) == (pass == 0))
                finish_answer(s, q, &q->run[i], -1, 0, normalised(s, q->run[i].h.score, s->step));
}

static jpt_status groups_step(beam_state *s, const jpt_strategy_ctx *ctx, bool *finished, jpt_error *err) {
    if (ctx->spent >= 1 && s->limit > s->step + 1) {
        s->limit = s->step + 1;
        jpt_budget_note(ctx, "stopped");
    }
    s->n_picked = 0;
    *finished = true;
    for (int32_t g = 0; g < s->n_groups; g++) {
        if (!s->group[g].finished)
            JPT_TRY(group_step(s, ctx, g, err));
        *finished = *finished && s->group[g].finished;
    }
    s->step++;
    if (s->step >= s->limit && !*finished) {
        for (int32_t g = 0; g < s->n_groups; g++)
            add_open_beams(s, &s->group[g]);
        *finished = true;
    }
    return JPT_OK;
}

/* ---- both ---------------------------------------------------------------------------------------------------- */

/* Every group begins with the prompt's one row. */
static jpt_status begin(beam_state *s, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_error *err) {
    for (int32_t g = 0; g < s->n_groups; g++) {
        s->group[g].run[0].row = p->items[0].logits_row;
        if (g > 0)
            JPT_TRY(jpt_seq_fork(ctx->session, ctx->seq, &s->group[g].run[0].seq, err));
    }
    s->prefilled = true;
    return JPT_OK;
}

static jpt_status emit_best(beam_state *s, const jpt_strategy_ctx *ctx, jpt_emission *e, jpt_error *err) {
    for (int32_t k = 0; k < s->n_return; k++) {
        group *from = NULL; /* of equal scores the later group's comes first, as sorted().pop() has it */
        for (int32_t g = 0; g < s->n_groups; g++)
            if (s->group[g].n_done > 0 && (!from || s->group[g].done[0].score >= from->done[0].score))
                from = &s->group[g];
        if (!from)
            break;
        hypothesis *h = &from->done[0], first = *h;
        for (int32_t i = 0; k == 0 && i < h->n; i++)
            JPT_TRY(jpt_emit(e, h->tokens[i], h->logprobs[i], err));
        JPT_TRY(jpt_emit_alternative(e, h->tokens, h->n, h->score, err));
        if (k == 0)
            ctx->work->positions_discarded += s->n_rows - (uint64_t)(h->n - 1);
        memmove(from->done, from->done + 1, (size_t)s->width * sizeof *from->done);
        from->done[s->width] = first;
        from->n_done--;
    }
    e->finished = true;
    return JPT_OK;
}

static jpt_status beam_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    beam_state *s = state;
    bool        finished;
    if (!s->prefilled)
        JPT_TRY(begin(s, ctx, p, err));
    else
        for (int32_t g = 0, at = 0; g < s->n_groups; g++)
            for (int32_t i = 0; i < s->group[g].n_run; i++)
                s->group[g].run[i].row = p->items[at++].logits_row;
    if (s->diversity_penalty > 0 || s->forced) {
        JPT_TRY(groups_step(s, ctx, &finished, err));
    } else {
        JPT_TRY(search_step(s, ctx, err));
        finished = s->group[0].finished;
    }
    return finished ? emit_best(s, ctx, e, err) : JPT_OK;
}

static void beam_close(void *state, const jpt_strategy_ctx *ctx) {
    beam_state *s = state;
    for (int32_t g = 0; s->group && g < s->n_groups; g++)
        for (int32_t i = 0; s->group[g].run && i < s->width; i++) {
            beam *b = &s->group[g].run[i];
            end_beam(s, ctx, b);
            jpt_buf_fini(&b->tail);
        }
    for (int32_t i = 0; s->next && i < s->width; i++)
        jpt_buf_fini(&s->next[i].tail);
    jpt_chain_fini(&s->chain);
}

static void beam_needs(const jpt_spec *spec, jpt_needs *needs) {
    needs->n_outputs = (int32_t)spec_value(spec, "num_beams", 1);
    needs->n_seqs = needs->n_outputs + 1; /* the request's own may stand empty beside the beams */
    needs->n_assistant_seqs = needs->n_outputs;
}

static jpt_status beam_check(const jpt_spec *spec, jpt_error *err) {
    int32_t     beams = (int32_t)spec_value(spec, "num_beams", 1), groups = (int32_t)spec_value(spec, "num_beam_groups", 1);
    const char *when = spec_string(spec, "early_stopping");
    if (strcmp(when, "true") != 0 && strcmp(when, "false") != 0 && strcmp(when, "never") != 0)
        return JPT_FAIL(err, ARG, "early_stopping=%.32s: expected true, false or never", when);
    if (beams % groups != 0)
        return JPT_FAIL(err, ARG, "num_beams=%d, num_beam_groups=%d: the beams must divide into groups of one size", beams, groups);
    if ((int32_t)spec_value(spec, "num_return_sequences", 1) > beams)
        return JPT_FAIL(err, ARG, "num_return_sequences=%d: expected at most num_beams=%d", (int32_t)spec_value(spec, "num_return_sequences", 1), beams);
    for (int32_t i = 0; i < spec->n_values; i++)
        if (strcmp(spec->value[i].def->name, "force_words") == 0 && strspn(spec_string(spec, "force_words"), "/|") == strlen(spec_string(spec, "force_words")))
            return JPT_FAIL(err, ARG, "force_words: expected word/word, alternatives joined by |");
    return jpt_chain_check(spec, err);
}

#define NUM_BEAMS {"num_beams", JPT_PARAM_INT, 1, 256, false, false, "4", "hypotheses kept at each step"}
#define BEAM_PARAMS                                                                                                                  \
    {"length_penalty", JPT_PARAM_FLOAT, -10, 10, false, false, "1", "scores are divided by length^this; above 0 favours long"},      \
        {"early_stopping", JPT_PARAM_STRING, 0, 0, false, false, "false", "true: stop at num_beams answers; false: when none better is likely; never: when none better is possible"}, \
        {"num_return_sequences", JPT_PARAM_INT, 1, 256, false, false, "1", "answers given back, best first"}, JPT_PARAMS_PROCESSORS

static const jpt_param_def search_params[] = {NUM_BEAMS, BEAM_PARAMS};
static const jpt_param_def sample_params[] = {NUM_BEAMS, JPT_PARAM_TEMPERATURE, {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},
                                              {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"}, BEAM_PARAMS};
static const jpt_param_def diverse_params[] = {NUM_BEAMS, {"num_beam_groups", JPT_PARAM_INT, 1, 256, false, false, "2", "groups that avoid each other's tokens"},
                                               {"diversity_penalty", JPT_PARAM_FLOAT, 0, 100, true, false, "1", "minus this for each earlier group's beam that picked the token"},
                                               BEAM_PARAMS};
static const jpt_param_def constrained_params[] = {{"num_beams", JPT_PARAM_INT, 2, 256, false, false, "4", "hypotheses kept at each step"},
                                                   {"force_words", JPT_PARAM_STRING, 0, 0, false, false, NULL, "word/word, each must stand in the text; one|other: either"},
                                                   {"push_progress", JPT_PARAM_BOOL, 0, 1, false, false, "true", "beams that hold all words stay in the race; false: as transformers"},
                                                   BEAM_PARAMS};
static const jpt_param_def cd_params[] = {NUM_BEAMS, JPT_PARAMS_AMATEUR("0.5"), BEAM_PARAMS};

#define BEAM(id, cli_name, table, does_sample, text, origin)                                                                        \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "beam", .summary = (text), .source = (origin), .params = (table),           \
                                            .cost = "1 forward of num_beams rows a token", .n_params = sizeof(table) / sizeof(table)[0], .samples = (does_sample), \
                                            .state_bytes = sizeof(beam_state), .check = beam_check, .open = beam_open, .propose = beam_propose, \
                                            .consume = beam_consume, .close = beam_close, .needs = beam_needs}
BEAM(beam, "beam", search_params, false, "the most likely text that a beam of hypotheses finds", "transformers _beam_search");
BEAM(beam_sample, "beam-sample", sample_params, true, "beam search over draws instead of the best", "transformers beam sampling; Kool et al. 2019");
BEAM(diverse_beam, "diverse-beam", diverse_params, false, "groups of beams that avoid each other's tokens", "Vijayakumar et al. 2018; transformers 4.46 group_beam_search");
BEAM(constrained_beam, "constrained-beam", constrained_params, false, "beam search for a text that holds given words", "Hokamp and Liu 2017; transformers 4.46 constrained_beam_search");
BEAM(cd_beam, "cd-beam", cd_params, false, "contrastive decoding as published: beams ranked by expert minus amateur", "Li et al. 2023");
