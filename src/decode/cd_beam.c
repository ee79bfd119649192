/* Contrastive decoding in its published form (Li et al. 2023): a beam search whose step score is the expert's log-probability
 * minus beta times the amateur's, over tokens that the expert finds plausible.  The authors' code picks candidates by the expert's
 * sum and ranks them anew; here, as in the paper, the contrasted score itself is searched. */
#include "beam.h"

typedef struct contrast {
    jpt_session    *session, *amateur; /* amateur NULL: the exit after `layer` */
    int32_t         layer, from;       /* from: first token of the prompt that the amateur sees */
    jpt_contrast    how;
    int32_t        *row, *amateur_row; /* [width] */
    jpt_batch_item *items;             /* [width] */
} contrast;

jpt_status jpt_contrast_open(const jpt_spec *spec, const jpt_strategy_ctx *ctx, beam_state *s, contrast **out, jpt_error *err) {
    *out = NULL;
    if (spec_value(spec, "amateur_layer", -1) < 0)
        return JPT_OK;
    contrast *c = jpt_arena_alloc(&s->chain.arena, sizeof *c);
    if (!c)
        return JPT_FAIL(err, NOMEM, "out of memory for a contrast");
    *out = c;
    JPT_TRY(jpt_amateur(spec, ctx, &c->amateur, &c->layer, err));
    c->from = jpt_amateur_from(spec, ctx);
    c->session = ctx->session;
    c->how = (jpt_contrast){JPT_CONTRAST_LOGPROBS, (float)spec_value(spec, "beta", 0.5), (float)spec_value(spec, "amateur_temperature", 1),
                            (float)spec_value(spec, "relative_top", 0.1)};
    size_t w = (size_t)s->width;
    c->row = jpt_arena_alloc(&s->chain.arena, w * sizeof *c->row);
    c->amateur_row = jpt_arena_alloc(&s->chain.arena, w * sizeof *c->amateur_row);
    c->items = jpt_arena_alloc(&s->chain.arena, w * sizeof *c->items);
    if (!c->row || !c->amateur_row || !c->items)
        return JPT_FAIL(err, NOMEM, "out of memory for the scores of %d beams", s->width);
    return c->amateur ? jpt_seq_new(c->amateur, &s->group[0].run[0].amateur, err) : JPT_OK;
}

int32_t jpt_contrast_layer(const contrast *c, jpt_session **amateur) {
    if (amateur)
        *amateur = c->amateur;
    return c->layer;
}

float jpt_contrast_logprob(const contrast *c, int32_t row, int32_t token) {
    float logprob = 0;
    JPT_ASSERT(jpt_session_expert(c->session, row, token, &logprob, NULL) == JPT_OK); /* a row of the round at work */
    return logprob;
}

/* One forward of the amateur for all beams: the prompt first, then each beam's last token. */
static jpt_status ask(contrast *c, const jpt_strategy_ctx *ctx, group *q, jpt_error *err) {
    jpt_batch batch = {.items = c->items, .n_items = q->n_run};
    for (int32_t i = 0; i < q->n_run; i++) {
        const hypothesis *h = &q->run[i].h;
        c->items[i] = (jpt_batch_item){.seq = q->run[i].amateur, .tokens = h->n ? &h->tokens[h->n - 1] : ctx->request->prompt + c->from,
                                       .n_tokens = h->n ? 1 : ctx->request->n_prompt - c->from, .logits = JPT_ROWS_LAST};
        ctx->work->draft_positions += (uint64_t)c->items[i].n_tokens;
    }
    JPT_TRY(jpt_session_forward(c->amateur, &batch, err));
    ctx->work->draft_forwards++;
    return JPT_OK;
}

jpt_status jpt_contrast_rows(beam_state *s, const jpt_strategy_ctx *ctx, group *q, jpt_error *err) {
    contrast *c = s->contrast;
    if (c->amateur)
        JPT_TRY(ask(c, ctx, q, err));
    for (int32_t i = 0; i < q->n_run; i++) {
        c->row[i] = q->run[i].row;
        c->amateur_row[i] = c->amateur ? c->items[i].logits_row : -1;
    }
    return jpt_session_contrast(ctx->session, &c->how, c->row, q->n_run, c->amateur, c->amateur_row, err);
}
