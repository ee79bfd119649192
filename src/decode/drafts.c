/* Where guesses come from: the text itself, a smaller model, this model's first layers. */
#include "speculate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

jpt_status jpt_spec_choose(spec_state *s, const jpt_strategy_ctx *ctx, jpt_session *from, int32_t row, int32_t ahead, jpt_selected *out, jpt_error *err) {
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, s->sampling, s->n_emitted + ahead);
    return jpt_session_select(from, &item, 1, out, err);
}

jpt_status jpt_spec_distribution(spec_state *s, const jpt_strategy_ctx *ctx, jpt_session *from, int32_t row, int32_t ahead, float *p, float *logp, jpt_error *err) {
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, true, s->n_emitted + ahead);
    int32_t         n = from == s->draft ? s->V_draft : s->V;
    JPT_TRY(jpt_session_logits(from, row, p, err));
    if (logp && !jpt_log_softmax(p, n, logp))
        return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
    if (item.chain)
        JPT_TRY(jpt_chain_apply(item.chain, &item, p, n, s->scratch, err));
    if (!jpt_log_softmax(p, n, p))
        return JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
    for (int32_t v = 0; v < n; v++)
        p[v] = expf(p[v]);
    for (int32_t v = n; v < s->V; v++)
        p[v] = 0;
    return JPT_OK;
}

int32_t jpt_spec_draw(const float *w, int32_t n, double u) {
    double  total = 0, run = 0;
    int32_t last = 0;
    for (int32_t v = 0; v < n; v++)
        total += (double)w[v];
    for (int32_t v = 0; v < n; v++) {
        run += (double)w[v];
        last = w[v] > 0 ? v : last;
        if (w[v] > 0 && run > u * total)
            return v;
    }
    return last;
}

/* A guess by random numbers of its own, and what it was drawn from. */
static jpt_status draw_guess(spec_state *s, const jpt_strategy_ctx *ctx, jpt_session *from, int32_t row, int32_t i, jpt_selected *out, jpt_error *err) {
    const jpt_request *r = ctx->request;
    float             *q = s->q + (size_t)i * s->row;
    JPT_TRY(jpt_spec_distribution(s, ctx, from, row, i, q, NULL, err));
    out->token = jpt_spec_draw(q, s->V, jpt_rng_uniform((jpt_rng_key){r->seed, r->prompt_index, KEY_DRAFT, (uint32_t)(s->n_emitted + i)}, 0));
    out->kept_prob = q[out->token];
    return JPT_OK;
}

/* transformers' PromptLookupCandidateGenerator: the followers of the first (or last) place where the text's last n tokens
 * stood before, longest n first, up to the end of the text, cut before an end-of-sequence id. */
void jpt_draft_lookup(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room) {
    const int32_t *h = s->history.p;
    int32_t        t = s->history.n, longest = s->max_ngram < t - 1 ? s->max_ngram : t - 1;
    s->n_guess = 0;
    for (int32_t n = longest; n > 0 && s->n_guess == 0; n--)
        for (int32_t k = 0; k + n < t; k++) {
            int32_t i = s->last_match ? t - n - 1 - k : k;
            if (memcmp(h + i, h + t - n, (size_t)n * sizeof *h) != 0)
                continue;
            int32_t from = i + n, to = from + s->width < t ? from + s->width : t;
            to = to - from > room ? from + room : to;
            for (int32_t j = from; j < to && !is_eos(ctx, h[j]); j++)
                s->guess[++s->n_guess] = h[j];
            break;
        }
}

/* One token after the other by the draft model, or by this model's first layers; stops where it is unsure. */
static jpt_status draft(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room, jpt_error *err) {
    bool         own = s->drafter == FIRST_LAYERS;
    jpt_session *from = own ? ctx->session : s->draft;
    jpt_seq      seq = own ? ctx->seq : s->draft_seq;
    int32_t      most = s->width < room ? s->width : room, base = s->history.n, length = jpt_seq_length(from, seq);
    double       begun = jpt_now_s();
    s->n_guess = 0;
    jpt_session_set_phase(from, JPT_PHASE_DRAFT);
    for (int32_t i = 0; i < most; i++) {
        int32_t        at = own ? base - 1 + i : (i == 0 ? s->draft_len : base - 1 + i);
        jpt_batch_item item = {.seq = seq, .tokens = s->history.p + at, .n_tokens = base + i - at, .logits = JPT_ROWS_LAST};
        jpt_batch      batch = {.items = &item, .n_items = 1, .n_layers = own ? s->exit_layer : 0};
        jpt_selected   chosen;
        JPT_TRY(jpt_session_forward(from, &batch, err));
        ctx->work->draft_forwards++;
        ctx->work->draft_positions += (uint64_t)item.n_tokens;
        JPT_TRY(s->ratio ? draw_guess(s, ctx, from, item.logits_row, i, &chosen, err) : jpt_spec_choose(s, ctx, from, item.logits_row, i, &chosen, err));
        if (chosen.token >= s->V) /* a padding row of the draft's: nothing that the model could say */
            break;
        s->history.p[s->history.n++] = chosen.token; /* the chain of the next guess sees it */
        s->guess[++s->n_guess] = chosen.token;
        if (is_eos(ctx, chosen.token) || chosen.kept_prob < s->threshold)
            break;
    }
    s->history.n = base;
    if (own)
        JPT_TRY(jpt_seq_truncate(from, seq, length, err));
    else
        s->draft_len = jpt_seq_length(from, seq);
    if (s->n_guess > 0) {
        double one = (jpt_now_s() - begun) / s->n_guess;
        s->t_draft_s = s->t_draft_s > 0 ? 0.9 * s->t_draft_s + 0.1 * one : one;
    }
    return JPT_OK;
}

/* ---- a draft model with another tokenizer ------------------------------------------------------------------------ */

/* The last ids of `ids` that stand for exactly the last n bytes; 0 when no boundary falls there. */
static size_t ids_of_last_bytes(const jpt_tokenizer *tok, const jpt_ids *ids, size_t n) {
    size_t bytes = 0, k = ids->n;
    while (k > 0 && bytes < n)
        bytes += jpt_token_piece(tok, ids->p[--k]).n;
    return bytes == n ? ids->n - k : 0;
}

/* Text that may follow, in the model's own tokens: encoded behind the text's last few tokens, or alone where these join with it. */
static jpt_status take_text(spec_state *s, const jpt_tokenizer *tok, const jpt_buf *more, int32_t most, jpt_error *err) {
    enum { BEFORE = 8 };
    jpt_status st = JPT_OK;
    size_t     n = 0;
    for (int alone = 0; alone < 2 && st == JPT_OK && n == 0; alone++) {
        jpt_buf text = {0};
        jpt_ids ids = {0};
        int32_t before = alone ? 0 : s->history.n < BEFORE ? s->history.n : BEFORE;
        st = jpt_tokenizer_decode(tok, s->history.p + s->history.n - before, (size_t)before, JPT_DECODE_CONTINUE, &text, err);
        jpt_buf_add(&text, more->p, more->n);
        if (st == JPT_OK)
            st = text.oom ? JPT_FAIL(err, NOMEM, "out of memory for a draft's text") : jpt_tokenizer_encode(tok, text.p, text.n, 0, &ids, err);
        if (st == JPT_OK)
            n = ids_of_last_bytes(tok, &ids, more->n);
        for (size_t i = 0; i < n && s->n_guess < most; i++)
            s->guess[++s->n_guess] = ids.p[ids.n - n + i];
        jpt_buf_fini(&text);
        jpt_ids_fini(&ids);
    }
    return st;
}

/* The draft model goes on from the text in its own tokens, as much as its cache does not hold yet; greedy, for its draws could
 * not be the model's. */
static jpt_status continue_text(spec_state *s, const jpt_strategy_ctx *ctx, int32_t most, jpt_ids *own, jpt_buf *more, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(s->draft));
    const int32_t       *held = jpt_seq_tokens(s->draft, s->draft_seq);
    int32_t              n = (int32_t)own->n, known = 0, length = jpt_seq_length(s->draft, s->draft_seq);
    while (known < length && known < n - 1 && held[known] == own->p[known])
        known++;
    JPT_TRY(jpt_seq_truncate(s->draft, s->draft_seq, known, err));
    for (int32_t i = 0, at = known; i < most && (int32_t)own->n < jpt_session_n_ctx(s->draft); i++) {
        jpt_batch_item  item = {.seq = s->draft_seq, .tokens = own->p + at, .n_tokens = (int32_t)own->n - at, .logits = JPT_ROWS_LAST};
        jpt_batch       batch = {.items = &item, .n_items = 1};
        jpt_select_item pick = {0};
        jpt_selected    chosen;
        JPT_TRY(jpt_session_forward(s->draft, &batch, err));
        ctx->work->draft_forwards++;
        ctx->work->draft_positions += (uint64_t)item.n_tokens;
        at = (int32_t)own->n;
        pick.row = item.logits_row;
        JPT_TRY(jpt_session_select(s->draft, &pick, 1, &chosen, err));
        if (jpt_tokenizer_is_eog(tok, chosen.token) || !jpt_ids_push(own, chosen.token))
            break;
        if (chosen.kept_prob < s->threshold)
            break;
    }
    return jpt_tokenizer_decode(tok, own->p + n, own->n - (size_t)n, JPT_DECODE_CONTINUE | JPT_DECODE_SKIP_SPECIAL, more, err);
}

static jpt_status draft_by_text(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(ctx->session)), *theirs = jpt_model_tokenizer(jpt_session_model(s->draft));
    int32_t              most = s->width < room ? s->width : room;
    double               begun = jpt_now_s();
    jpt_buf              text = {0}, more = {0};
    jpt_ids              own = {0};
    s->n_guess = 0;
    if (most < 1)
        return JPT_OK;
    jpt_session_set_phase(s->draft, JPT_PHASE_DRAFT);
    /* the prompt's begin-of-sequence id has a text that is none; the draft model gets its own */
    int32_t    skip = s->history.n > 1 && s->history.p[0] == jpt_tokenizer_bos(tok);
    jpt_status st = jpt_tokenizer_decode(tok, s->history.p + skip, (size_t)(s->history.n - skip), 0, &text, err);
    if (st == JPT_OK)
        st = text.oom ? JPT_FAIL(err, NOMEM, "out of memory for a draft's text")
                      : jpt_tokenizer_encode(theirs, text.p ? text.p : "", text.n, JPT_ENCODE_ADD_SPECIAL | JPT_ENCODE_PARSE_SPECIAL, &own, err);
    if (st == JPT_OK && own.n > 0 && own.n < (size_t)jpt_session_n_ctx(s->draft))
        st = continue_text(s, ctx, most, &own, &more, err);
    if (st == JPT_OK && more.n > 0)
        st = take_text(s, tok, &more, most, err);
    jpt_buf_fini(&text);
    jpt_buf_fini(&more);
    jpt_ids_fini(&own);
    if (s->n_guess > 0) {
        double one = (jpt_now_s() - begun) / s->n_guess;
        s->t_draft_s = s->t_draft_s > 0 ? 0.9 * s->t_draft_s + 0.1 * one : one;
    }
    return st;
}

jpt_status jpt_draft_run(spec_state *s, const jpt_strategy_ctx *ctx, int32_t room, jpt_error *err) {
    return s->foreign ? draft_by_text(s, ctx, room, err) : draft(s, ctx, room, err);
}
