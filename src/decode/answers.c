/* Search over whole answers: n samples of one prompt side by side (shared prefix, one forward a step for all), and a rule
 * that picks one: none, the most likely, the majority, or the one most like the others. */
#include "decode_priv.h"
#include "text.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum rule { FIRST, LIKELIEST, MAJORITY, CONSENSUS } rule;
typedef enum utility { CHRF, BLEU, EXACT, EMBEDDING } utility;

typedef struct answer {
    jpt_seq  seq;
    int32_t *tokens; /* [limit] */
    float   *logprobs;
    int32_t *history; /* [n_prompt + limit] */
    int32_t  n, row;
    double   sum;
    bool     done;
    jpt_text text;
    jpt_buf  out;
    double   score;
    float   *state; /* [D] EMBEDDING: sum of the hidden states of its tokens, later their direction */
} answer;

typedef struct answers_state {
    built_chain chain;
    rule        rule;
    utility     utility;
    bool        prefilled, by_number;
    int32_t     n, limit, D;
    answer     *a;
    float      *hidden; /* [D] */
} answers_state;

static jpt_status answers_open_as(rule how, void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    answers_state       *s = state;
    const jpt_request   *r = ctx->request;
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(ctx->session));
    jpt_request          quiet = *r;
    int32_t              room = jpt_session_n_ctx(ctx->session) - r->n_prompt;
    const char          *u = spec_string(spec, "utility");
    quiet.on_text = NULL;
    s->rule = how;
    s->utility = strcmp(u, "bleu") == 0 ? BLEU : strcmp(u, "exact") == 0 ? EXACT : strcmp(u, "embedding") == 0 ? EMBEDDING : CHRF;
    s->by_number = strcmp(spec_string(spec, "answer"), "text") != 0;
    s->limit = r->max_new_tokens < room ? r->max_new_tokens : room;
    JPT_TRY(jpt_chain_build(spec, ctx, true, &s->chain, err));
    jpt_arena *arena = &s->chain.arena;
    int32_t    n = (int32_t)spec_value(spec, "n", 8);
    if (!(s->a = jpt_arena_alloc(arena, (size_t)n * sizeof *s->a)))
        return JPT_FAIL(err, NOMEM, "out of memory for %d answers", n);
    s->n = n;
    s->D = jpt_model_get_info(jpt_session_model(ctx->session))->n_embd;
    if (s->utility == EMBEDDING && !(s->hidden = jpt_arena_alloc(arena, (size_t)s->D * sizeof *s->hidden)))
        return JPT_FAIL(err, NOMEM, "out of memory for a hidden state");
    for (int32_t i = 0; i < n; i++) {
        answer *a = &s->a[i];
        a->seq = i == 0 ? ctx->seq : -1;
        jpt_text_init(&a->text, tok, &quiet);
    }
    for (int32_t i = 0; i < n; i++) {
        answer *a = &s->a[i];
        a->tokens = jpt_arena_alloc(arena, (size_t)s->limit * sizeof *a->tokens);
        a->logprobs = jpt_arena_alloc(arena, (size_t)s->limit * sizeof *a->logprobs);
        a->history = jpt_arena_alloc(arena, (size_t)(r->n_prompt + s->limit) * sizeof *a->history);
        if (!a->tokens || !a->logprobs || !a->history)
            return JPT_FAIL(err, NOMEM, "out of memory for %d answers of %d tokens", n, s->limit);
        if (s->utility == EMBEDDING && !(a->state = jpt_arena_alloc(arena, (size_t)s->D * sizeof *a->state)))
            return JPT_FAIL(err, NOMEM, "out of memory for the states of %d answers", n);
        memcpy(a->history, r->prompt, (size_t)r->n_prompt * sizeof *a->history);
    }
    return JPT_OK;
}
#define OPEN(id, how)                                                                                                                \
    static jpt_status id##_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {                    \
        return answers_open_as(how, state, ctx, spec, err);                                                                          \
    }
OPEN(samples, FIRST)
OPEN(best_of, LIKELIEST)
OPEN(consistency, MAJORITY)
OPEN(mbr, CONSENSUS)

static jpt_status answers_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    answers_state     *s = state;
    const jpt_request *r = ctx->request;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (!s->prefilled)
        return jpt_propose(p, ctx->seq, r->prompt, r->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    for (int32_t i = 0; i < s->n; i++)
        if (!s->a[i].done)
            JPT_TRY(jpt_propose(p, s->a[i].seq, &s->a[i].tokens[s->a[i].n - 1], 1, JPT_ROWS_LAST, s->utility == EMBEDDING ? JPT_ROWS_LAST : JPT_ROWS_NONE, err));
    return JPT_OK;
}

/* Sequence i draws with its own key: the first is the plain sample of the seed. */
static jpt_status draw(answers_state *s, const jpt_strategy_ctx *ctx, int32_t i, jpt_error *err) {
    answer            *a = &s->a[i];
    const jpt_request *r = ctx->request;
    jpt_select_item    item = {.row = a->row, .chain = s->chain.chain.n_links ? &s->chain.chain : NULL, .history = a->history, .n_history = r->n_prompt + a->n,
                               .n_prompt = r->n_prompt, .sample = true, .key = {r->seed, r->prompt_index, (uint32_t)i, (uint32_t)a->n}};
    jpt_selected       chosen;
    bool               stopped = false;
    JPT_TRY(jpt_session_select(ctx->session, &item, 1, &chosen, err));
    a->history[r->n_prompt + a->n] = chosen.token;
    a->tokens[a->n] = chosen.token;
    a->logprobs[a->n++] = chosen.logprob;
    a->sum += (double)chosen.logprob;
    bool end = is_eos(ctx, chosen.token);
    if (ctx->spent >= 1) { /* every answer ends where it is; the rule chooses among what there is */
        jpt_budget_note(ctx, "stopped");
        s->limit = a->n < s->limit ? a->n : s->limit;
    }
    if (!end)
        JPT_TRY(jpt_text_push(&a->text, chosen.token, &a->out, &stopped, err));
    a->done = end || stopped || a->n >= s->limit;
    if (a->done && !stopped)
        JPT_TRY(jpt_text_flush(&a->text, &a->out, err));
    if (a->done && a->seq != ctx->seq && a->seq >= 0) { /* its positions are free for others */
        jpt_seq_free(ctx->session, a->seq);
        a->seq = -1;
    }
    return JPT_OK;
}

/* ---- choosing among answers -------------------------------------------------------------------------------------- */

static jpt_str text_of(const answer *a) { return (jpt_str){a->out.p ? a->out.p : "", a->out.n}; }

static bool same_answer(const answers_state *s, const answer *a, const answer *b) {
    double x, y;
    if (s->by_number) {
        bool has_x = jpt_last_number(text_of(a), &x), has_y = jpt_last_number(text_of(b), &y);
        if (has_x != has_y)
            return false;
        if (has_x)
            return x == y;
        return true; /* no answer is an answer too, as lm-evaluation-harness counts */
    }
    return jpt_str_eq(text_of(a), text_of(b));
}

/* Directions of the answers' mean hidden states, less what all have in common: states of one model point much the same way. */
static void embed(answers_state *s) {
    float *common = s->hidden;
    memset(common, 0, (size_t)s->D * sizeof *common);
    for (int32_t i = 0; i < s->n; i++)
        for (int32_t d = 0; d < s->D; d++) {
            s->a[i].state[d] /= (float)(s->a[i].n > 1 ? s->a[i].n - 1 : 1); /* the last token is never run */
            common[d] += s->a[i].state[d] / (float)s->n;
        }
    for (int32_t i = 0; i < s->n; i++) {
        for (int32_t d = 0; d < s->D; d++)
            s->a[i].state[d] -= common[d];
        jpt_unit_row(s->a[i].state, s->D);
    }
}

static jpt_status likeness(const answers_state *s, const answer *a, const answer *b, double *out, jpt_error *err) {
    jpt_str reference = text_of(b);
    if (s->utility == EMBEDDING) {
        *out = (double)jpt_dot(a->state, b->state, s->D);
    } else if (s->utility == EXACT) {
        *out = same_answer(s, a, b);
    } else if (s->utility == BLEU) {
        jpt_bleu_stats st = {0};
        JPT_TRY(jpt_bleu_segment(text_of(a), &reference, 1, &st, err));
        *out = jpt_bleu_score(&st, true);
    } else {
        jpt_chrf_stats st = {0};
        JPT_TRY(jpt_chrf_segment(text_of(a), &reference, 1, 0, &st, err));
        *out = jpt_chrf_score(&st, 0);
    }
    return JPT_OK;
}

/* Scores by the rule; the best one's number, the first of equals. */
static jpt_status judge(answers_state *s, int32_t *best, jpt_error *err) {
    *best = 0;
    if (s->rule == CONSENSUS && s->utility == EMBEDDING)
        embed(s);
    for (int32_t i = 0; i < s->n; i++) {
        answer *a = &s->a[i];
        a->score = s->rule == LIKELIEST ? a->sum / a->n : 0;
        for (int32_t k = 0; k < s->n && (s->rule == MAJORITY || s->rule == CONSENSUS); k++) {
            double u = 1;
            if (s->rule == MAJORITY)
                u = same_answer(s, a, &s->a[k]);
            else if (k != i) /* a text is not its own witness */
                JPT_TRY(likeness(s, a, &s->a[k], &u, err));
            else
                u = 0;
            a->score += u / (s->rule == MAJORITY ? s->n : s->n > 1 ? s->n - 1 : 1);
        }
        if (a->score > s->a[*best].score)
            *best = i;
    }
    return JPT_OK;
}

static jpt_status add_state(answers_state *s, const jpt_strategy_ctx *ctx, answer *a, int32_t row, jpt_error *err) {
    JPT_TRY(jpt_session_hidden(ctx->session, row, s->hidden, err));
    for (int32_t d = 0; d < s->D; d++)
        a->state[d] += s->hidden[d];
    return JPT_OK;
}

static jpt_status answers_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    answers_state *s = state;
    int32_t        at = 0, left = 0, best;
    for (int32_t i = 0; i < s->n; i++)
        if (!s->prefilled)
            s->a[i].row = p->items[0].logits_row;
        else if (!s->a[i].done) {
            if (s->utility == EMBEDDING)
                JPT_TRY(add_state(s, ctx, &s->a[i], p->items[at].hidden_row, err));
            s->a[i].row = p->items[at++].logits_row;
        }
    for (int32_t i = 0; i < s->n; i++) {
        if (!s->prefilled && i > 0)
            JPT_TRY(jpt_seq_fork(ctx->session, ctx->seq, &s->a[i].seq, err));
        if (!s->a[i].done)
            JPT_TRY(draw(s, ctx, i, err));
        left += !s->a[i].done;
    }
    s->prefilled = true;
    if (left > 0)
        return JPT_OK;
    JPT_TRY(judge(s, &best, err));
    for (int32_t k = 0; k < s->a[best].n; k++)
        JPT_TRY(jpt_emit(e, s->a[best].tokens[k], s->a[best].logprobs[k], err));
    for (int32_t i = 0; i < s->n; i++) {
        const answer *a = &s->a[i ? (i <= best ? i - 1 : i) : best]; /* the chosen one first, the others in their order */
        JPT_TRY(jpt_emit_alternative(e, a->tokens, a->n, a->score, err));
        ctx->work->positions_discarded += a != &s->a[best] ? (uint64_t)(a->n - 1) : 0;
    }
    e->finished = true;
    return JPT_OK;
}

static void answers_close(void *state, const jpt_strategy_ctx *ctx) {
    answers_state *s = state;
    for (int32_t i = 0; s->a && i < s->n; i++) {
        if (s->a[i].seq >= 0 && s->a[i].seq != ctx->seq)
            jpt_seq_free(ctx->session, s->a[i].seq);
        jpt_text_fini(&s->a[i].text);
        jpt_buf_fini(&s->a[i].out);
    }
    jpt_chain_fini(&s->chain);
}

static void answers_needs(const jpt_spec *spec, jpt_needs *needs) { needs->n_seqs = needs->n_outputs = (int32_t)spec_value(spec, "n", 8); }

static jpt_status answers_check(const jpt_spec *spec, jpt_error *err) {
    const char *u = spec_string(spec, "utility"), *a = spec_string(spec, "answer");
    if (*u && strcmp(u, "chrf") != 0 && strcmp(u, "bleu") != 0 && strcmp(u, "exact") != 0 && strcmp(u, "embedding") != 0)
        return JPT_FAIL(err, ARG, "utility=%.32s: expected chrf, bleu, embedding or exact", u);
    if (*a && strcmp(a, "number") != 0 && strcmp(a, "text") != 0)
        return JPT_FAIL(err, ARG, "answer=%.32s: expected number or text", a);
    return jpt_chain_check(spec, err);
}

#define N_ANSWERS(def) {"n", JPT_PARAM_INT, 1, 1024, false, false, def, "samples"}
#define SAMPLING                                                                                                                     \
    JPT_PARAM_TEMPERATURE, {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},                      \
        {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},                         \
        {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p"},                                             \
        {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= epsilon"}, JPT_PARAMS_PROCESSORS
#define ANSWER {"answer", JPT_PARAM_STRING, 0, 0, false, false, "number", "what is compared: the last number, or the whole text"}
static const jpt_param_def samples_params[] = {N_ANSWERS("4"), SAMPLING};
static const jpt_param_def best_of_params[] = {N_ANSWERS("8"), SAMPLING};
static const jpt_param_def consistency_params[] = {N_ANSWERS("8"), ANSWER, SAMPLING};
static const jpt_param_def mbr_params[] = {N_ANSWERS("16"), {"utility", JPT_PARAM_STRING, 0, 0, false, false, "chrf", "chrf, bleu, embedding (cosine of mean hidden states, centred) or exact"}, ANSWER, SAMPLING};

#define ANSWERS(id, cli_name, text, origin)                                                                                          \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "answers", .summary = (text), .source = (origin), .cost = "1 forward of n rows a token",   \
                                            .params = id##_params, .n_params = sizeof(id##_params) / sizeof(id##_params)[0], .samples = true,              \
                                            .state_bytes = sizeof(answers_state), .check = answers_check, .open = id##_open, .propose = answers_propose,    \
                                            .consume = answers_consume, .close = answers_close, .needs = answers_needs}
ANSWERS(samples, "samples", "n samples side by side; the first is the text", NULL);
ANSWERS(best_of, "best-of-n", "the sample with the best mean log-probability", "best-of-n");
ANSWERS(consistency, "self-consistency", "the sample whose answer most samples give", "Wang et al. 2022");
ANSWERS(mbr, "mbr", "the sample most like the others: minimum Bayes risk", "Eikema and Aziz 2020");
