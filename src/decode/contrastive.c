/* Strategies that look back: contrastive search and its adaptive form, which look at hidden states, and frustratingly simple
 * decoding, whose anti-model is an n-gram table (FSD-d) or similar hidden states (FSD). */
#include "decode_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum method { CONTRASTIVE, ADAPTIVE, FSD, FSD_D } method;

/* Products of hidden states that one step needs. */
typedef struct dot_list {
    int32_t *a, *b, n, cap;
    float   *value;
} dot_list;

typedef struct look_state {
    built_chain chain;
    method      method;
    int32_t     k, n_gram;
    float       alpha, beta, q;
    const int32_t *stop_words; /* FSD: ids whose penalty is multiplied by sw_coeff */
    int32_t     n_stop_words;
    float       sw_coeff;
    bool        prefilled;
    token_list  history;
    int32_t     V;
    jpt_states *hidden; /* of all positions: unit rows for contrastive search, as they are for FSD */
    float      *norm2;  /* FSD: squared norms, -1: not known yet */
    dot_list    dots;   /* FSD: products asked for */
    jpt_seq     main;   /* the text's sequence; the request's own at first */
    /* candidates of the next token */
    int32_t     n_cand, *cand;
    int32_t    *index; /* of jpt_session_topk, always 0 */
    float      *logp;  /* processed log-probabilities */
    jpt_seq    *seq;   /* the candidates' sequences, between propose and consume */
    float      *similar; /* [k] their largest cosines with the text's states */
    float      *entropies, *entropies_k, *sorted; /* ADAPTIVE: of earlier steps */
    int32_t     n_steps;
    int32_t     token; /* FSD: the last token, the next to be run */
} look_state;

static bool looks_ahead(const look_state *s) { return s->method == CONTRASTIVE || s->method == ADAPTIVE; }

static jpt_status look_open_as(method m, void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    look_state           *s = state;
    const jpt_model_info *info = jpt_model_get_info(jpt_session_model(ctx->session));
    int64_t               longest = (int64_t)ctx->request->n_prompt + ctx->request->max_new_tokens + 1;
    int32_t               n_ctx = jpt_session_n_ctx(ctx->session);
    size_t                cap = longest < n_ctx ? (size_t)longest : (size_t)n_ctx;
    s->method = m;
    s->main = ctx->seq;
    s->V = info->n_vocab;
    s->k = m == ADAPTIVE ? 15 : (int32_t)spec_value(spec, "top_k", 5);
    s->alpha = (float)spec_value(spec, "penalty_alpha", 0.6);
    s->n_gram = (int32_t)spec_value(spec, "ngram", 2);
    s->beta = (float)spec_value(spec, "beta", 0.9);
    s->q = (float)spec_value(spec, "q", 1);
    JPT_TRY(jpt_chain_build(spec, ctx, false, &s->chain, err));
    JPT_TRY(token_list_init(&s->history, ctx, err));
    jpt_arena *a = &s->chain.arena;
    s->sw_coeff = (float)spec_value(spec, "sw_coeff", 1);
    if (m == FSD || m == FSD_D)
        JPT_TRY(jpt_ids_param(spec, "stop_words_ids", s->V, a, &s->stop_words, &s->n_stop_words, err));
    s->cand = jpt_arena_alloc(a, (size_t)s->k * sizeof *s->cand);
    s->index = jpt_arena_alloc(a, (size_t)s->k * sizeof *s->index);
    s->logp = jpt_arena_alloc(a, (size_t)s->k * sizeof *s->logp);
    s->seq = jpt_arena_alloc(a, (size_t)s->k * sizeof *s->seq);
    for (int32_t i = 0; s->seq && i < s->k; i++)
        s->seq[i] = -1;
    bool ok = s->cand && s->index && s->logp && s->seq && (s->similar = jpt_arena_alloc(a, (size_t)s->k * sizeof *s->similar));
    if (m == FSD)
        ok = (s->norm2 = jpt_arena_alloc(a, cap * sizeof *s->norm2)) && ok;
    for (size_t i = 0; s->norm2 && i < cap; i++)
        s->norm2[i] = -1;
    if (m == ADAPTIVE)
        ok = (s->entropies = jpt_arena_alloc(a, cap * sizeof *s->entropies)) && (s->entropies_k = jpt_arena_alloc(a, cap * sizeof *s->entropies_k)) &&
             (s->sorted = jpt_arena_alloc(a, cap * sizeof *s->sorted)) && ok;
    if (!ok)
        return JPT_FAIL(err, NOMEM, "out of memory for a text of %zu positions", cap);
    return m == FSD_D ? JPT_OK : jpt_states_new(ctx->session, (int32_t)cap, looks_ahead(s), &s->hidden, err);
}

static jpt_status contrastive_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return look_open_as(CONTRASTIVE, state, ctx, spec, err);
}
static jpt_status adaptive_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return look_open_as(ADAPTIVE, state, ctx, spec, err);
}
static jpt_status fsd_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return look_open_as(FSD, state, ctx, spec, err);
}
static jpt_status fsd_d_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return look_open_as(FSD_D, state, ctx, spec, err);
}

static jpt_status look_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    look_state        *s = state;
    const jpt_request *r = ctx->request;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (!s->prefilled)
        return jpt_propose(p, s->main, r->prompt, r->n_prompt, JPT_ROWS_LAST, s->method == FSD_D ? JPT_ROWS_NONE : JPT_ROWS_ALL, err);
    if (!looks_ahead(s))
        return jpt_propose(p, s->main, &s->token, 1, JPT_ROWS_LAST, s->method == FSD ? JPT_ROWS_LAST : JPT_ROWS_NONE, err);
    for (int32_t i = 0; i < s->n_cand; i++) {
        JPT_TRY(jpt_seq_fork(ctx->session, s->main, &s->seq[i], err));
        JPT_TRY(jpt_propose(p, s->seq[i], &s->cand[i], 1, JPT_ROWS_LAST, JPT_ROWS_LAST, err));
    }
    return JPT_OK;
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

static jpt_status rank(look_state *s, const jpt_strategy_ctx *ctx, int32_t row, int32_t k, jpt_error *err) {
    jpt_score_item item = {.from = {.row = row, .chain = s->chain.chain.n_links ? &s->chain.chain : NULL, .history = s->history.p, .n_history = s->history.n,
                                    .n_prompt = ctx->request->n_prompt}};
    JPT_TRY(jpt_session_topk(ctx->session, &item, 1, k, s->index, s->cand, s->logp, &s->n_cand, err));
    return s->n_cand > 0 ? JPT_OK : JPT_FAIL(err, DEVICE, "the chain of processors left no token to choose from");
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Mean of the two middle values of v[0..n); v stays as it is, room [n] is used. */
double jpt_median(const float *v, int32_t n, float *room) {
    memcpy(room, v, (size_t)n * sizeof *v);
    qsort(room, (size_t)n, sizeof *room, by_value);
    return n % 2 ? (double)room[n / 2] : 0.5 * ((double)room[n / 2 - 1] + (double)room[n / 2]);
}

double jpt_acs_squash(double q, double delta) {
    delta = delta > 1 - 1e-9 ? 1 - 1e-9 : delta < -1 + 1e-9 ? -1 + 1e-9 : delta;
    return 1 / (1 + exp(-q / 2 * log((1 + delta) / (1 - delta))));
}

/* Garces Arias et al. 2024: k from the entropy against its median so far, then alpha from that of the k best. */
static jpt_status adapt(look_state *s, const jpt_strategy_ctx *ctx, int32_t row, jpt_error *err) {
    jpt_selected own; /* the row's entropy comes with a choice from it */
    JPT_TRY(jpt_session_select(ctx->session, &(jpt_select_item){.row = row}, 1, &own, err));
    double  h = (double)own.entropy, delta = s->n_steps ? (h - jpt_median(s->entropies, s->n_steps, s->sorted)) / log(s->V) : 0;
    int32_t k = (int32_t)rint(10 * jpt_acs_squash((double)s->q, delta) + 5);
    JPT_TRY(rank(s, ctx, row, k < s->k ? k : s->k, err));
    double total = 0, hk = 0;
    for (int32_t i = 0; i < s->n_cand; i++)
        total += exp((double)s->logp[i]);
    for (int32_t i = 0; i < s->n_cand; i++) {
        double p = exp((double)s->logp[i]) / total;
        hk -= p > 0 ? p * log(p) : 0;
    }
    delta = s->n_steps && s->n_cand > 1 ? (hk - jpt_median(s->entropies_k, s->n_steps, s->sorted)) / log(s->n_cand) : 0;
    s->alpha = (float)(rint(100 * jpt_acs_squash((double)s->q, delta)) / 100);
    s->entropies[s->n_steps] = (float)h;
    s->entropies_k[s->n_steps++] = (float)hk;
    return JPT_OK;
}

/* ---- contrastive search ----------------------------------------------------------------------------------- */

static void release(const jpt_strategy_ctx *ctx, jpt_seq *seq) {
    if (*seq == ctx->seq)
        (void)jpt_seq_truncate(ctx->session, *seq, 0, NULL);
    else if (*seq >= 0)
        jpt_seq_free(ctx->session, *seq);
    *seq = -1;
}

/* Su et al. 2022: (1 - alpha) p(v) - alpha max_j cos(h_v, h_j), all earlier positions; the first best wins. */
static jpt_status choose_candidate(look_state *s, const jpt_proposal *p, int32_t *best, jpt_error *err) {
    float top = -INFINITY;
    if (s->n_cand > 1) /* the candidates' rows stand in their order */
        JPT_TRY(jpt_states_similarity(s->hidden, p->items[0].hidden_row, s->n_cand, s->similar, err));
    for (int32_t i = 0; i < s->n_cand && s->n_cand > 1; i++) {
        float score = (1 - s->alpha) * expf(s->logp[i]) - s->alpha * s->similar[i];
        if (score > top) {
            top = score;
            *best = i;
        }
    }
    return JPT_OK;
}

static jpt_status contrastive_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    look_state *s = state;
    int32_t     row = p->items[0].logits_row, best = 0;
    if (s->prefilled) {
        JPT_TRY(choose_candidate(s, p, &best, err));
        row = p->items[best].logits_row;
        JPT_TRY(jpt_states_add(s->hidden, p->items[best].hidden_row, 1, err));
        token_list_add(&s->history, s->cand[best]);
        JPT_TRY(jpt_emit(e, s->cand[best], s->logp[best], err));
        ctx->work->positions_discarded += (uint64_t)(s->n_cand - 1);
        release(ctx, &s->main);
        s->main = s->seq[best];
        s->seq[best] = -1;
        for (int32_t i = 0; i < s->n_cand; i++)
            release(ctx, &s->seq[i]);
    } else {
        JPT_TRY(jpt_states_add(s->hidden, p->items[0].hidden_row, ctx->request->n_prompt, err));
        s->prefilled = true;
    }
    if (s->method == ADAPTIVE)
        return adapt(s, ctx, row, err);
    return rank(s, ctx, row, s->alpha > 0 ? s->k : 1, err); /* without a penalty the best candidate wins unseen */
}

/* ---- frustratingly simple decoding -------------------------------------------------------------------------- */

/* The n-gram anti-model of FSD-d: longer contexts first, each takes beta of what is left (Yang et al. 2024). */
double jpt_ngram_penalty(const int32_t *h, int32_t t, int32_t n_gram, double beta, int32_t token) {
    double left = 1, penalty = 0;
    if (t < n_gram - 1)
        return 0;
    for (int32_t i = n_gram - 1; i >= 0; i--) {
        int32_t count = 0, total = 0;
        for (int32_t j = i; j < t; j++)
            if (memcmp(h + j - i, h + t - i, (size_t)i * sizeof *h) == 0) {
                total++;
                count += h[j] == token;
            }
        if (count == 0)
            continue; /* nothing is taken from what is left: as the authors' code has it */
        penalty += left * (i == 0 ? (double)count / total : beta * count / (total + 1));
        left *= 1 - beta;
    }
    return penalty;
}

static bool ask_dot(dot_list *l, int32_t a, int32_t b) {
    if (l->n == l->cap) {
        int32_t cap = l->cap ? 2 * l->cap : 256, *x = realloc(l->a, (size_t)cap * sizeof *x);
        l->a = x ? x : l->a;
        int32_t *y = realloc(l->b, (size_t)cap * sizeof *y);
        l->b = y ? y : l->b;
        float *v = realloc(l->value, (size_t)cap * sizeof *v);
        l->value = v ? v : l->value;
        if (!x || !y || !v)
            return false;
        l->cap = cap;
    }
    l->a[l->n] = a, l->b[l->n++] = b;
    return true;
}

static bool ask_norm(look_state *s, int32_t j) {
    if (s->norm2[j] >= 0)
        return true;
    s->norm2[j] = 0; /* asked for */
    return ask_dot(&s->dots, j, j);
}

static bool follows(const look_state *s, int32_t j, int32_t token) { return s->history.p[j + 1] == token; }

/* The products that the candidates' penalties need, all in one call: norms to norm2, the others stay in the list's order. */
static jpt_status ask_products(look_state *s, jpt_error *err) {
    int32_t w = s->n_gram - 1, t = jpt_states_count(s->hidden);
    bool    ok = true, any = false;
    s->dots.n = 0;
    if (s->history.n < s->n_gram)
        return JPT_OK;
    for (int32_t c = 0; c < s->n_cand; c++)
        for (int32_t j = w - 1; j + 1 < t; j++)
            for (int32_t i = 0; follows(s, j, s->cand[c]) && ok && i < w; i++, any = true)
                ok = ask_dot(&s->dots, t - 1 - i, j - i);
    for (int32_t i = 0; any && ok && i < w; i++)
        ok = ask_norm(s, t - 1 - i);
    for (int32_t c = 0; c < s->n_cand; c++)
        for (int32_t j = w - 1; j + 1 < t; j++)
            for (int32_t i = 0; follows(s, j, s->cand[c]) && ok && i < w; i++)
                ok = ask_norm(s, j - i);
    if (!ok)
        return JPT_FAIL(err, NOMEM, "out of memory for the likeness of %d states", t);
    JPT_TRY(jpt_states_dots(s->hidden, s->dots.a, s->dots.b, s->dots.n, s->dots.value, err));
    for (int32_t i = 0; i < s->dots.n; i++)
        if (s->dots.a[i] == s->dots.b[i])
            s->norm2[s->dots.a[i]] = s->dots.value[i];
    return JPT_OK;
}

/* FSD's dense form: the largest cosine of the last n - 1 states with those before an earlier occurrence of the token.  *at: the
 * token's products in the list, in and out. */
static float dense_penalty(const look_state *s, int32_t token, int32_t *at) {
    int32_t w = s->n_gram - 1, t = jpt_states_count(s->hidden); /* states of positions 0..t-1; the last window has no follower yet */
    float   best = 0, own = 0;
    if (s->history.n < s->n_gram)
        return 0;
    for (int32_t i = 0; i < w; i++)
        own += s->norm2[t - 1 - i];
    for (int32_t j = w - 1; j + 1 < t; j++) { /* window ends at j, its follower stands at j + 1 */
        if (!follows(s, j, token))
            continue;
        float dot = 0, norm = 0;
        for (int32_t i = 0; i < w; i++) {
            dot += s->dots.value[(*at)++];
            norm += s->norm2[j - i];
        }
        float c = own > 0 && norm > 0 ? dot / sqrtf(own * norm) : 0;
        best = c > best ? c : best;
    }
    return best < 1 ? best : 1;
}

static jpt_status fsd_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    look_state *s = state;
    if (s->method == FSD)
        JPT_TRY(jpt_states_add(s->hidden, p->items[0].hidden_row, s->prefilled ? 1 : ctx->request->n_prompt, err));
    s->prefilled = true;
    JPT_TRY(rank(s, ctx, p->items[0].logits_row, s->alpha > 0 ? s->k : 1, err));
    if (s->method == FSD)
        JPT_TRY(ask_products(s, err));
    float   top = -INFINITY;
    int32_t best = 0, at = 0;
    for (int32_t i = 0; i < s->n_cand; i++) {
        float penalty = s->method == FSD ? dense_penalty(s, s->cand[i], &at) : (float)jpt_ngram_penalty(s->history.p, s->history.n, s->n_gram, (double)s->beta, s->cand[i]);
        for (int32_t k = 0; k < s->n_stop_words; k++)
            penalty *= s->stop_words[k] == s->cand[i] ? s->sw_coeff : 1;
        float score = (1 - s->alpha) * expf(s->logp[i]) - s->alpha * penalty;
        if (score > top) {
            top = score;
            best = i;
        }
    }
    s->token = s->cand[best];
    token_list_add(&s->history, s->token);
    return jpt_emit(e, s->token, s->logp[best], err);
}

static void look_close(void *state, const jpt_strategy_ctx *ctx) {
    look_state *s = state;
    for (int32_t i = 0; s->seq && i < s->k; i++)
        release(ctx, &s->seq[i]);
    release(ctx, &s->main);
    jpt_states_free(s->hidden);
    free(s->dots.a);
    free(s->dots.b);
    free(s->dots.value);
    free(s->history.p);
    jpt_chain_fini(&s->chain);
}

static void contrastive_needs(const jpt_spec *spec, jpt_needs *needs) {
    int32_t k = (int32_t)spec_value(spec, "top_k", 15);
    *needs = (jpt_needs){.n_seqs = k + 2, .n_outputs = k, .all_hidden = true};
}
static void fsd_needs(const jpt_spec *spec, jpt_needs *needs) {
    (void)spec;
    needs->all_hidden = true;
}

#define TOP_K(k) {"top_k", JPT_PARAM_INT, 1, 256, false, false, k, "candidates looked at"}
#define ALPHA(a, text) {"penalty_alpha", JPT_PARAM_FLOAT, 0, 1, false, false, a, text}
static const jpt_param_def contrastive_params[] = {TOP_K("5"), ALPHA("0.6", "weight of the degeneration penalty; 0: greedy"), JPT_PARAMS_PROCESSORS};
static const jpt_param_def adaptive_params[] = {{"q", JPT_PARAM_FLOAT, 0, 100, true, false, "1", "how strongly entropy moves k and alpha"}, JPT_PARAMS_PROCESSORS};
#define STOP_WORDS                                                                                                                   \
    {"stop_words_ids", JPT_PARAM_STRING, 0, 0, false, false, "", "id/id whose penalty is scaled: words that may repeat"},            \
        {"sw_coeff", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "what the penalty of stop_words_ids is multiplied by"}
static const jpt_param_def fsd_params[] = {ALPHA("0.4", "weight of the anti-model; 0: greedy"), {"ngram", JPT_PARAM_INT, 2, 16, false, false, "2", "length of the repeats looked for"},
                                           TOP_K("5"), STOP_WORDS, JPT_PARAMS_PROCESSORS};
static const jpt_param_def fsd_d_params[] = {ALPHA("0.6", "weight of the anti-model; 0: greedy"), {"ngram", JPT_PARAM_INT, 1, 16, false, false, "3", "longest n-gram of the anti-model"},
                                             {"beta", JPT_PARAM_FLOAT, 0, 1, false, false, "0.9", "share of the longer n-grams"}, TOP_K("5"), STOP_WORDS, JPT_PARAMS_PROCESSORS};

#define LOOK(id, cli_name, table, text, origin, price, eat, want)                                                                    \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "representation", .summary = (text), .source = (origin), .cost = (price),    \
                                            .params = (table), .n_params = sizeof(table) / sizeof(table)[0], .state_bytes = sizeof(look_state),          \
                                            .check = jpt_chain_check, .open = id##_open, .propose = look_propose, .consume = eat, .close = look_close, .needs = want}
LOOK(contrastive, "contrastive", contrastive_params, "likely candidates that say something new", "Su et al. 2022; transformers 4.46 _contrastive_search",
     "1 forward of top_k rows a token", contrastive_consume, contrastive_needs);
LOOK(adaptive, "adaptive-contrastive", adaptive_params, "contrastive search whose k and alpha follow the entropy", "Garces Arias et al. 2024", "1 forward of 5 to 15 rows a token",
     contrastive_consume, contrastive_needs);
LOOK(fsd, "fsd", fsd_params, "frustratingly simple decoding: avoid tokens that followed similar states", "Yang et al. 2024 (FSD)", "1 forward of 1 row a token", fsd_consume, fsd_needs);
LOOK(fsd_d, "fsd-d", fsd_d_params, "frustratingly simple decoding, discrete: avoid the text's own n-grams", "Yang et al. 2024 (FSD-d)", "1 forward of 1 row a token", fsd_consume, NULL);
