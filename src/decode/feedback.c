/* Samplers with a memory: mirostat aims at a surprise, adaptive-p at a probability, GUARD follows the entropy; and
 * classifier-free guidance, which samples from the difference that the prompt makes.  Their state is the request's own. */
#include "decode_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum way { MIROSTAT_1, MIROSTAT_2, ADAPTIVE_P, GUARD, GUIDANCE } way;

typedef struct feedback_state {
    built_chain chain;
    way         way;
    bool        prefilled, paper, shi, sampling; /* shi: paper too */
    int32_t     V, token, n_emitted;
    token_list  history;
    float      *z, *logp; /* [V]: scores after the chain; the model's own log-probabilities */
    void       *scratch;  /* of chains and of finding the best */
    double      mu, tau, eta;               /* mirostat */
    double      target, decay, sum, weight; /* adaptive-p */
    float      *entropies;                  /* GUARD: all so far */
    int32_t     n_entropies, window;
    float       scale; /* guidance */
    jpt_seq     without;
    jpt_ids     negative; /* the other context's beginning */
    float      *other; /* [V]: the other context's; else log-probabilities after the chain, where there is one */
} feedback_state;

static jpt_status feedback_open_as(way w, void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    feedback_state *s = state;
    s->way = w;
    s->without = -1;
    s->V = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab;
    s->shi = strcmp(spec_string(spec, "form"), "shi") == 0;
    s->paper = s->shi || strcmp(spec_string(spec, "form"), "paper") == 0;
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
    if (w == MIROSTAT_2) { /* a link of the chain, whose bound follows mu: no row leaves the device */
        if (s->chain.chain.n_links == JPT_CHAIN_MAX)
            return JPT_FAIL(err, ARG, "mirostat-v2: the chain has %d links already", JPT_CHAIN_MAX);
        s->chain.chain.link[s->chain.chain.n_links++] = (jpt_link){.kind = JPT_LINK_SURPRISE, .value = s->mu};
        return token_list_init(&s->history, ctx, err);
    }
    JPT_TRY(token_list_init(&s->history, ctx, err));
    size_t V = (size_t)s->V;
    s->z = malloc(V * sizeof *s->z);
    s->logp = malloc(V * sizeof *s->logp);
    s->scratch = malloc(jpt_select_scratch_bytes(s->V));
    bool ok = s->z && s->logp && s->scratch;
    if (w == GUARD)
        ok = (s->entropies = jpt_arena_alloc(&s->chain.arena, (size_t)s->history.cap * sizeof *s->entropies)) && ok;
    if (w == GUIDANCE || s->chain.chain.n_links > 0)
        ok = (s->other = malloc(V * sizeof *s->other)) && ok;
    if (!ok)
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    if (w != GUIDANCE)
        return JPT_OK;
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

/* ---- what stays, and what is learnt from the draw ------------------------------------------------------------- */

double jpt_mirostat_k(const float *p, int32_t n, int32_t terms, bool guarded, double vocabulary, double mu) {
    double tb = 0, tt = 0;
    for (int32_t i = 0; i < terms && i + 1 < n && (guarded || p[i + 1] > 0); i++) {
        double t = log((i + 2.0) / (i + 1.0)), ratio = (double)p[i] / ((double)p[i + 1] + (guarded ? 1e-9 : 0)), b = log(guarded && ratio < 1 ? 1 : ratio);
        tb += t * b;
        tt += t * t;
    }
    double zipf = tt > 0 ? tb / tt : 0, e = zipf - 1;
    if (zipf <= 0)
        return INFINITY;
    if (fabs(e) < 1e-9)
        return pow(pow(2, mu) / log(vocabulary), 1 / zipf);
    return pow(e * pow(2, mu) / (1 - pow(vocabulary, -e)), 1 / zipf);
}

/* paper: the authors' code (100 terms, N = 50,000, k rounded + 1); shi: that with guarded ratios and N = V; llama.cpp: 99 terms, N = V,
 * k truncated.  All keep everything where the arithmetic fails. */
static int32_t mirostat_keeps(const feedback_state *s, const float *logp) {
    float   p[101] = {0};
    int32_t id[101], n = s->V < 101 ? s->V : 101, found = jpt_best_scores(logp, s->V, n, s->scratch, id);
    for (int32_t i = 0; i < found; i++)
        p[i] = expf(logp[id[i]]);
    double k = jpt_mirostat_k(p, n, s->paper ? 100 : 99, s->shi, s->paper && !s->shi ? 50000 : s->V, s->mu);
    if (!(k <= s->V))
        return s->V;
    int32_t whole = s->paper ? (int32_t)round(k) + 1 : (int32_t)k;
    return whole < 1 ? 1 : whole > s->V ? s->V : whole;
}

static int by_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* torch's median: of an even number the lower of the two middle values. */
static double lower_median(const float *v, int32_t n, float *room) {
    memcpy(room, v, (size_t)n * sizeof *v);
    qsort(room, (size_t)n, sizeof *room, by_float);
    return (double)room[(n - 1) / 2];
}

static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* GUARD's blend of a local and a global change of entropy, both in units of log(scale). */
static double guard_value(double local, double global, double q) {
    double l = q * atanh(clamp(local, -1 + 1e-4, 1 - 1e-4)), g = q * atanh(clamp(global, -1 + 1e-4, 1 - 1e-4));
    double share = fabs(l) / (fabs(g) + fabs(l) + 1e-4), x = share * l + (1 - share) * g;
    return 1 / (1 + exp(-x));
}

void jpt_guard_step(const float *entropies, int32_t t, int32_t w, int32_t n_vocab, double *k, double *alpha) {
    double sum = 0, weight = 0, h = (double)entropies[t - 1];
    float  room[64];
    for (int32_t i = 0; i < t; i++) {
        sum += pow(0.95, t - 1 - i) * (double)entropies[i];
        weight += pow(0.95, t - 1 - i);
    }
    double global = sum / weight, local, far = 0, q = 0;
    if (t < w) {
        local = h - lower_median(entropies, t, room);
    } else {
        double brief = lower_median(entropies + t - (w - 1), w - 1, room);
        local = h - lower_median(entropies + t - w, w, room);
        far = brief - global;
        q += clamp(fabs(brief - global) / (brief + 1e-4), 0, 1);
    }
    if (t > 1)
        q += clamp(fabs(h - (double)entropies[t - 2]) / ((double)entropies[t - 2] + 1e-4), 0, 1);
    q = 0.9 + 0.1 * (1 + q);
    *k = 10 * guard_value(local / log(n_vocab), far / log(n_vocab), q) + 5;
    double scale = log(*k + 1e-4);
    *alpha = clamp(guard_value(local / scale, far / scale, q), 0, 1);
}

/* p times alpha^count, the k best of the original p. */
static void guard_filter(feedback_state *s, const float *logp) {
    double  k, alpha;
    int32_t id[16]; /* k <= 15 */
    float   kept[16];
    s->entropies[s->n_entropies++] = (float)jpt_entropy_eps(logp, s->V, 1e-5f);
    jpt_guard_step(s->entropies, s->n_entropies, s->window, s->V, &k, &alpha);
    int32_t n = jpt_best_scores(logp, s->V, (int32_t)floor(k), s->scratch, id);
    for (int32_t i = 0; i < n; i++) {
        int32_t count = 0;
        for (int32_t j = 0; j < s->history.n; j++)
            count += s->history.p[j] == id[i];
        kept[i] = logp[id[i]] + (count > 0 ? (float)(count * log(alpha > 1e-30 ? alpha : 1e-30)) : 0);
    }
    for (int32_t v = 0; v < s->V; v++)
        s->z[v] = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        s->z[id[i]] = kept[i];
}

/* z: what is left of the log-probabilities. */
static void filter(feedback_state *s, const float *logp) {
    switch (s->way) {
    case MIROSTAT_1:
        memcpy(s->z, logp, (size_t)s->V * sizeof *s->z);
        jpt_keep_best(s->z, s->V, mirostat_keeps(s, logp), s->scratch);
        break;
    case ADAPTIVE_P: jpt_aim_row(logp, s->V, (float)clamp(2 * s->target - s->sum / s->weight, 0, 1), s->z); break;
    case GUARD: guard_filter(s, logp); break;
    case MIROSTAT_2: /* a link */
    case GUIDANCE: break;
    }
}

/* after: log-probabilities before the filter; kept: probability of the draw among what was left. */
static void learn(feedback_state *s, double p_before, double p_kept) {
    if (s->way == MIROSTAT_1 || s->way == MIROSTAT_2) {
        double p = s->paper ? p_before : p_kept;
        s->mu -= s->eta * (-log2(p > 1e-30 ? p : 1e-30) - s->tau);
    } else if (s->way == ADAPTIVE_P) {
        s->sum = p_before + s->decay * s->sum;
        s->weight = 1 + s->decay * s->weight;
    }
}

static jpt_status advance(feedback_state *s, int32_t token, float logprob, jpt_emission *e, jpt_error *err) {
    s->prefilled = true;
    s->token = token;
    s->n_emitted++;
    token_list_add(&s->history, token);
    return jpt_emit(e, token, logprob, err);
}

static jpt_status choose_by_surprise(feedback_state *s, const jpt_strategy_ctx *ctx, int32_t row, jpt_emission *e, jpt_error *err) {
    jpt_selected chosen;
    s->chain.chain.link[s->chain.chain.n_links - 1].value = s->mu;
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, true, s->n_emitted);
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    learn(s, 0, (double)chosen.kept_prob);
    return advance(s, chosen.token, chosen.logprob, e, err);
}

static jpt_status feedback_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    feedback_state *s = state;
    int32_t         row = p->items[0].logits_row;
    if (s->way == MIROSTAT_2)
        return choose_by_surprise(s, ctx, row, e, err);
    JPT_TRY(jpt_session_logits(ctx->session, row, s->z, err));
    if (!jpt_log_softmax(s->z, s->V, s->logp))
        return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
    if (s->way == GUIDANCE) {
        JPT_TRY(jpt_session_logits(ctx->session, p->items[1].logits_row, s->other, err));
        if (!jpt_log_softmax(s->other, s->V, s->other))
            return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
        for (int32_t v = 0; v < s->V; v++)
            s->z[v] = s->scale * (s->logp[v] - s->other[v]) + s->other[v];
    }
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, s->sampling, s->n_emitted);
    const float    *before = s->logp; /* the filter writes over z */
    double          p_before = 0;
    if (s->way != GUIDANCE) { /* processors and temperature come first: the filter sees what they leave */
        item.chain = NULL;
        if (s->chain.chain.n_links > 0) {
            JPT_TRY(jpt_chain_apply(&s->chain.chain, &item, s->z, s->V, s->scratch, err));
            if (!jpt_log_softmax(s->z, s->V, s->other))
                return JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
            before = s->other;
        }
        filter(s, before);
    }
    JPT_TRY(jpt_session_set_logits(ctx->session, row, s->z, err));
    jpt_selected chosen;
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    if (s->way != GUIDANCE)
        p_before = exp((double)before[chosen.token]);
    learn(s, p_before, (double)chosen.kept_prob);
    return advance(s, chosen.token, s->logp[chosen.token], e, err);
}

static void feedback_close(void *state, const jpt_strategy_ctx *ctx) {
    feedback_state *s = state;
    if (s->way == GUIDANCE && s->without >= 0)
        jpt_seq_free(ctx->session, s->without);
    jpt_ids_fini(&s->negative);
    free(s->z);
    free(s->logp);
    free(s->scratch);
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
#define ROW "the chain and the filter, from a row of logits that is sent there and back"
FEEDBACK(mirostat, "mirostat", mirostat_check, NULL, ONE, ROW, "aim at a surprise, by Zipf's law", "Basu et al. 2021; llama.cpp mirostat v1");
FEEDBACK(mirostat_2, "mirostat-v2", jpt_chain_check, NULL, ONE, NULL, "aim at a surprise, by a cut on it", "Basu et al. 2021; llama.cpp mirostat v2");
FEEDBACK(adaptive_p, "adaptive-p", jpt_chain_check, NULL, ONE, ROW, "aim at a mean probability", "llama.cpp adaptive-p");
FEEDBACK(guard, "guard", jpt_chain_check, NULL, ONE, ROW, "penalise repeats as far as the entropy allows", "GUARD 2025");
FEEDBACK(guidance, "guidance", jpt_chain_check, guidance_needs, "1 forward of 2 rows a token", "the difference of the two rows", "classifier-free guidance: amplify what the prompt changes",
         "Sanchez et al. 2023; transformers UnbatchedClassifierFreeGuidance");
