/* Samplers with a memory: mirostat aims at a surprise, adaptive-p at a probability, GUARD follows the entropy.  Each is a link at the end of
 * a chain, whose aim moves with what was drawn: no row is fetched.  And classifier-free guidance, which samples from the
 * difference that the prompt makes.  Their state is the request's own. */
#include "decode_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum way { MIROSTAT_1, MIROSTAT_2, ADAPTIVE_P, GUARD, GUIDANCE } way;

typedef struct feedback_state {
    built_chain chain;
    way         way;
    bool        prefilled, paper, sampling; /* paper: mirostat learns from the whole distribution's surprise */
    int32_t     V, token, n_emitted;
    token_list  history;
    double      mu, tau, eta;               /* mirostat */
    double      target, decay, sum, weight; /* adaptive-p */
    float      *entropies;                  /* GUARD: all so far */
    int32_t     n_entropies, window;
    float       scale; /* guidance */
    float      *with, *other; /* [V]: log-probabilities of the text's context, and of the other */
    jpt_seq     without;
    jpt_ids     negative; /* the other context's beginning */
} feedback_state;

/* The link that the sampler moves. */
static jpt_link *aim_of(feedback_state *s) { return &s->chain.chain.link[s->chain.chain.n_links - 1]; }

static jpt_status add_aim(feedback_state *s, const jpt_spec *spec, jpt_error *err) {
    static const jpt_link_kind kinds[] = {[MIROSTAT_1] = JPT_LINK_ZIPF, [MIROSTAT_2] = JPT_LINK_SURPRISE, [ADAPTIVE_P] = JPT_LINK_AIM, [GUARD] = JPT_LINK_GUARD};
    const char                *form = spec_string(spec, "form");
    jpt_zipf_form              zipf = strcmp(form, "paper") == 0 ? JPT_ZIPF_PAPER : strcmp(form, "shi") == 0 ? JPT_ZIPF_SHI : JPT_ZIPF_LLAMA_CPP;
    if (s->chain.chain.n_links == JPT_CHAIN_MAX)
        return JPT_FAIL(err, ARG, "%s: the chain has %d links already", spec->strategy->name, JPT_CHAIN_MAX);
    s->chain.chain.n_links++;
    *aim_of(s) = (jpt_link){.kind = kinds[s->way], .count = s->way == GUARD ? s->window : (int32_t)zipf};
    s->paper = s->way == MIROSTAT_1 && zipf != JPT_ZIPF_LLAMA_CPP;
    if (s->way == GUARD && !(s->entropies = jpt_arena_alloc(&s->chain.arena, (size_t)s->history.cap * sizeof *s->entropies)))
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    return JPT_OK;
}

static jpt_status feedback_open_as(way w, void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    feedback_state *s = state;
    s->way = w;
    s->without = -1;
    s->V = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab;
    s->tau = spec_value(spec, "tau", 5);
    s->eta = spec_value(spec, "eta", 0.1);
    s->mu = 2 * s->tau;
    s->target = spec_value(spec, "target", 0.5);
    s->decay = spec_value(spec, "decay", 0.9);
    s->sum = s->target / (1 - s->decay);
    s->weight = 1 / (1 - s->decay);
    s->window = (int32_t)spec_value(spec, "window", 4);
    s->scale = (float)spec_value(spec, "guidance_scale", 1.5);
    s->sampling = w != GUIDANCE || spec_value(spec, "do_sample", 0) != 0;
    JPT_TRY(jpt_chain_build(spec, ctx, s->sampling, &s->chain, err));
    JPT_TRY(token_list_init(&s->history, ctx, err));
    if (w != GUIDANCE)
        return add_aim(s, spec, err);
    s->with = malloc((size_t)s->V * sizeof *s->with);
    s->other = malloc((size_t)s->V * sizeof *s->other);
    if (!s->with || !s->other)
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    const char *negative = spec_string(spec, "negative_prompt");
    if (*negative)
        JPT_TRY(jpt_tokenizer_encode(jpt_model_tokenizer(jpt_session_model(ctx->session)), negative, strlen(negative), JPT_ENCODE_ADD_SPECIAL, &s->negative, err));
    else if (!jpt_ids_push(&s->negative, ctx->request->prompt[ctx->request->n_prompt - 1])) /* as UnbatchedClassifierFreeGuidance does */
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    if (s->negative.n + (size_t)jpt_text_limit(ctx) > (size_t)jpt_session_n_ctx(ctx->session) + 1)
        return JPT_FAIL(err, CTX_FULL, "negative_prompt: its %zu tokens and a text of %d do not fit the context of %d", s->negative.n, jpt_text_limit(ctx), jpt_session_n_ctx(ctx->session));
    return jpt_seq_new(ctx->session, &s->without, err);
}
#define OPEN(id, w)                                                                                                                  \
    static jpt_status id##_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {                    \
        return feedback_open_as(w, state, ctx, spec, err);                                                                           \
    }
OPEN(mirostat, MIROSTAT_1)
OPEN(mirostat_2, MIROSTAT_2)
OPEN(adaptive_p, ADAPTIVE_P)
OPEN(guard, GUARD)
OPEN(guidance, GUIDANCE)

static jpt_status feedback_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    feedback_state    *s = state;
    const jpt_request *r = ctx->request;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    JPT_TRY(s->prefilled ? jpt_propose(p, ctx->seq, &s->token, 1, JPT_ROWS_LAST, JPT_ROWS_NONE, err)
                         : jpt_propose(p, ctx->seq, r->prompt, r->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err));
    if (s->way != GUIDANCE)
        return JPT_OK;
    int32_t n = s->prefilled ? 1 : (int32_t)s->negative.n;
    ctx->work->positions_discarded += (uint64_t)n;
    return jpt_propose(p, s->without, s->prefilled ? &s->token : s->negative.p, n, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
}

/* ---- the aim, and what is learnt from the draw ------------------------------------------------------------------ */

static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

static void move_aim(feedback_state *s) {
    jpt_link *l = aim_of(s);
    if (s->way == ADAPTIVE_P)
        l->value = clamp(2 * s->target - s->sum / s->weight, 0, 1);
    else if (s->way == GUARD)
        l->values = s->entropies, l->n_ids = s->n_entropies;
    else
        l->value = s->mu;
}

static void learn(feedback_state *s, const jpt_selected *drawn) {
    double seen = exp((double)drawn->seen_logprob);
    if (s->way == ADAPTIVE_P) {
        s->sum = seen + s->decay * s->sum;
        s->weight = 1 + s->decay * s->weight;
    } else if (s->way == GUARD) {
        s->entropies[s->n_entropies++] = drawn->seen_entropy;
    } else {
        double p = s->paper ? seen : (double)drawn->kept_prob;
        s->mu -= s->eta * (-log2(p > 1e-30 ? p : 1e-30) - s->tau);
    }
}

static jpt_status advance(feedback_state *s, int32_t token, float logprob, jpt_emission *e, jpt_error *err) {
    s->prefilled = true;
    s->token = token;
    s->n_emitted++;
    token_list_add(&s->history, token);
    return jpt_emit(e, token, logprob, err);
}

static jpt_status choose_and_learn(feedback_state *s, const jpt_strategy_ctx *ctx, int32_t row, jpt_emission *e, jpt_error *err) {
    jpt_selected drawn;
    move_aim(s);
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, true, s->n_emitted);
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &drawn, err));
    learn(s, &drawn);
    return advance(s, drawn.token, drawn.logprob, e, err);
}

static jpt_status log_probabilities(const jpt_strategy_ctx *ctx, int32_t row, int32_t V, float *out, jpt_error *err) {
    JPT_TRY(jpt_session_logits(ctx->session, row, out, err));
    return jpt_log_softmax(out, V, out) ? JPT_OK : JPT_FAIL(err, DEVICE, "the model produced no finite logit");
}

static jpt_status feedback_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    feedback_state *s = state;
    int32_t         row = p->items[0].logits_row;
    jpt_selected    chosen;
    if (s->way != GUIDANCE)
        return choose_and_learn(s, ctx, row, e, err);
    JPT_TRY(log_probabilities(ctx, row, s->V, s->with, err));
    JPT_TRY(log_probabilities(ctx, p->items[1].logits_row, s->V, s->other, err));
    for (int32_t v = 0; v < s->V; v++)
        s->other[v] = s->scale * (s->with[v] - s->other[v]) + s->other[v];
    JPT_TRY(jpt_session_set_logits(ctx->session, row, s->other, err));
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, s->sampling, s->n_emitted);
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    return advance(s, chosen.token, s->with[chosen.token], e, err);
}

static void feedback_close(void *state, const jpt_strategy_ctx *ctx) {
    feedback_state *s = state;
    if (s->way == GUIDANCE && s->without >= 0)
        jpt_seq_free(ctx->session, s->without);
    jpt_ids_fini(&s->negative);
    free(s->with);
    free(s->other);
    free(s->history.p);
    jpt_chain_fini(&s->chain);
}

static jpt_status mirostat_check(const jpt_spec *spec, jpt_error *err) {
    const char *form = spec_string(spec, "form");
    if (strcmp(form, "llama.cpp") != 0 && strcmp(form, "paper") != 0 && strcmp(form, "shi") != 0)
        return JPT_FAIL(err, ARG, "form=%.32s: expected llama.cpp, paper or shi", form);
    return jpt_chain_check(spec, err);
}

static void guidance_needs(const jpt_spec *spec, jpt_needs *needs) {
    (void)spec;
    needs->n_seqs = needs->n_outputs = 2;
}

#define TAU(def) {"tau", JPT_PARAM_FLOAT, 0, 100, true, false, def, "surprise aimed at, bits"}
#define ETA(def) {"eta", JPT_PARAM_FLOAT, 0, 10, true, false, def, "learning rate"}
static const jpt_param_def mirostat_params[] = {TAU("5"), ETA("0.1"), {"form", JPT_PARAM_STRING, 0, 0, false, false, "llama.cpp", "llama.cpp; paper (k + 1, N = 50,000, surprise of the whole distribution; use eta=1,tau=3); shi (paper, N = vocabulary, guarded ratios)"},
                                                JPT_PARAM_TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def mirostat_2_params[] = {TAU("5"), ETA("0.1"), JPT_PARAM_TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def adaptive_p_params[] = {{"target", JPT_PARAM_FLOAT, 0, 1, false, false, "0.5", "mean probability aimed at"},
                                                  {"decay", JPT_PARAM_FLOAT, 0, 0.99, false, false, "0.9", "memory of earlier draws"}, JPT_PARAM_TEMPERATURE,
                                                  {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best before; 0: all"},
                                                  {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p before"}, JPT_PARAMS_PROCESSORS};
static const jpt_param_def guard_params[] = {{"window", JPT_PARAM_INT, 2, 64, false, false, "4", "steps of the local median"}, JPT_PARAM_TEMPERATURE, JPT_PARAMS_PROCESSORS};
static const jpt_param_def guidance_params[] = {{"guidance_scale", JPT_PARAM_FLOAT, 0, 100, false, false, "1.5", "1: no guidance"},
                                                {"negative_prompt", JPT_PARAM_STRING, 0, 0, false, false, "", "what the other context begins with; none: the prompt's last token"},
                                                {"do_sample", JPT_PARAM_BOOL, 0, 1, false, false, "false", "draw instead of the most likely token"}, JPT_PARAM_TEMPERATURE,
                                                {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},
                                                {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"}, JPT_PARAMS_PROCESSORS};

#define FEEDBACK(id, cli_name, tells, want, price, host, text, origin)                                                                     \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "sampling", .summary = (text), .source = (origin), .cost = (price), .on_host = host, .params = id##_params, \
                                            .n_params = sizeof(id##_params) / sizeof(id##_params)[0], .samples = true, .state_bytes = sizeof(feedback_state),       \
                                            .check = tells, .open = id##_open, .propose = feedback_propose, .consume = feedback_consume, .close = feedback_close,    \
                                            .needs = want}
#define ONE "1 forward of 1 row a token"
FEEDBACK(mirostat, "mirostat", mirostat_check, NULL, ONE, NULL, "aim at a surprise, by Zipf's law", "Basu et al. 2021; llama.cpp mirostat v1");
FEEDBACK(mirostat_2, "mirostat-v2", jpt_chain_check, NULL, ONE, NULL, "aim at a surprise, by a cut on it", "Basu et al. 2021; llama.cpp mirostat v2");
FEEDBACK(adaptive_p, "adaptive-p", jpt_chain_check, NULL, ONE, NULL, "aim at a mean probability", "llama.cpp adaptive-p");
FEEDBACK(guard, "guard", jpt_chain_check, NULL, ONE, NULL, "penalise repeats as far as the entropy allows", "GUARD 2025");
FEEDBACK(guidance, "guidance", jpt_chain_check, guidance_needs, "1 forward of 2 rows a token", "the difference of the two rows", "classifier-free guidance: amplify what the prompt changes",
         "Sanchez et al. 2023; transformers UnbatchedClassifierFreeGuidance");
