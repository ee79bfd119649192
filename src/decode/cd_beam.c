/* Contrastive decoding in its published form (Li et al. 2023): a beam search whose step score is the expert's log-probability
 * minus beta times the amateur's, over tokens that the expert finds plausible.  The authors' code picks candidates by the expert's
 * sum and ranks them anew; here, as in the paper, the contrasted score itself is searched. */
#include "beam.h"
#include <stdlib.h>

typedef struct contrast {
    jpt_session    *amateur; /* NULL: the exit after `layer` */
    int32_t         layer, V, from; /* from: first token of the prompt that the amateur sees */
    float           beta, temperature, relative_top;
    float          *z, *base, *logp; /* [V], [V], [width, V] */
    jpt_batch_item *items; /* [width] */
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
    c->V = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab;
    c->beta = (float)spec_value(spec, "beta", 0.5);
    c->temperature = (float)spec_value(spec, "amateur_temperature", 1);
    c->relative_top = (float)spec_value(spec, "relative_top", 0.1);
    size_t V = (size_t)c->V, w = (size_t)s->width;
    c->z = malloc(V * sizeof *c->z);
    size_t wide = c->amateur ? (size_t)jpt_model_get_info(jpt_session_model(c->amateur))->n_vocab : 0;
    c->base = malloc((wide > V ? wide : V) * sizeof *c->base);
    c->logp = malloc(w * V * sizeof *c->logp);
    c->items = jpt_arena_alloc(&s->chain.arena, w * sizeof *c->items);
    if (!c->z || !c->base || !c->logp || !c->items)
        return JPT_FAIL(err, NOMEM, "out of memory for the scores of %d beams", s->width);
    return c->amateur ? jpt_seq_new(c->amateur, &s->group[0].run[0].amateur, err) : JPT_OK;
}

void jpt_contrast_close(contrast *c) {
    if (!c)
        return;
    free(c->z);
    free(c->base);
    free(c->logp);
}

int32_t jpt_contrast_layer(const contrast *c, jpt_session **amateur) {
    if (amateur)
        *amateur = c->amateur;
    return c->layer;
}

float jpt_contrast_logprob(const contrast *c, int32_t i, int32_t token) { return c->logp[(size_t)i * (size_t)c->V + (size_t)token]; }

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
        int32_t row = q->run[i].row;
        JPT_TRY(jpt_session_logits(ctx->session, row, c->z, err));
        JPT_TRY(c->amateur ? jpt_session_logits(c->amateur, c->items[i].logits_row, c->base, err) : jpt_session_exit_logits(ctx->session, 0, row, c->base, err));
        if (c->amateur)
            jpt_trim_to_common(c->z, c->base, c->V, jpt_model_get_info(jpt_session_model(c->amateur))->n_vocab);
        JPT_TRY(jpt_contrast_li(c->z, c->base, c->V, c->beta, c->temperature, c->relative_top, c->logp + (size_t)i * (size_t)c->V, err));
        JPT_TRY(jpt_session_set_logits(ctx->session, row, c->z, err));
    }
    return JPT_OK;
}
