/* Search over whole answers: n samples of one prompt side by side (shared prefix, one forward a step for all), and a rule
 * that picks one: none, the most likely, the majority, or the one most like the others. */
#include "decode_priv.h"
#include "text.h"
#include "vote.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum rule { FIRST, LIKELIEST, MAJORITY, CONSENSUS } rule;
typedef enum utility { CHRF, BLEU, EXACT, EMBEDDING } utility;
typedef enum early { NEVER, DECIDED, LIKELY } early;

typedef struct answer {
    jpt_seq  seq;
    int32_t *tokens; /* [limit] */
    float   *logprobs;
    int32_t *history; /* [n_prompt + limit] */
    int32_t  n, row;
    double   sum;
    bool     started, done, abandoned; /* abandoned: cut off because the vote was settled */
    jpt_text text;
    jpt_buf  out, key; /* key: what the text answers */
    double   score;
    float   *state; /* [D] EMBEDDING: sum of the hidden states of its tokens, later their direction */
} answer;

typedef struct answers_state {
    built_chain chain;
    rule        rule;
    utility     utility;
    jpt_answer_kind kind;
    early       early;
    double      certainty;
    bool        prefilled;
    int32_t     n, parallel, n_started, limit, D;
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
    s->kind = jpt_answer_kind_named(spec_string(spec, "answer"));
    s->early = strcmp(spec_string(spec, "early_stop"), "decided") == 0 ? DECIDED : strcmp(spec_string(spec, "early_stop"), "likely") == 0 ? LIKELY : NEVER;
    s->certainty = spec_value(spec, "certainty", 0.95);
    s->limit = r->max_new_tokens < room ? r->max_new_tokens : room;
    JPT_TRY(jpt_chain_build(spec, ctx, true, &s->chain, err));
    jpt_arena *arena = &s->chain.arena;
    int32_t    n = (int32_t)spec_value(spec, "n", 8);
    if (!(s->a = jpt_arena_alloc(arena, (size_t)n * sizeof *s->a)))
        return JPT_FAIL(err, NOMEM, "out of memory for %d answers", n);
    s->n = n;
    s->parallel = (int32_t)spec_value(spec, "parallel", 0);
    s->parallel = s->parallel == 0 || s->parallel > n ? n : s->parallel;
    s->D = jpt_model_get_info(jpt_session_model(ctx->session))->n_embd;
    if (s->utility == EMBEDDING && !(s->hidden = jpt_arena_alloc(arena, (size_t)s->D * sizeof *s->hidden)))
        return JPT_FAIL(err, NOMEM, "out of memory for a hidden state");
    for (int32_t i = 0; i < n; i++) {
        answer *a = &s->a[i];
        a->seq = -1;
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

/* Samples whose turn it is fork the prompt; the last one takes the request's own sequence. */
static jpt_status start_more(answers_state *s, const jpt_strategy_ctx *ctx, jpt_error *err) {
    int32_t running = 0, waiting = 0;
    for (int32_t i = 0; i < s->n; i++) {
        running += s->a[i].started && !s->a[i].done;
        waiting += !s->a[i].started && !s->a[i].done;
    }
    for (int32_t i = 0; i < s->n && running < s->parallel; i++) {
        answer *a = &s->a[i];
        if (a->started || a->done)
            continue;
        if (waiting-- > 1)
            JPT_TRY(jpt_seq_fork(ctx->session, ctx->seq, &a->seq, err));
        else
            a->seq = ctx->seq;
        a->started = true;
        running++;
    }
    return JPT_OK;
}

static jpt_status answers_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    answers_state     *s = state;
    const jpt_request *r = ctx->request;
    p->phase = s->prefilled ? JPT_PHASE_DECODE : JPT_PHASE_PREFILL;
    if (!s->prefilled)
        return jpt_propose(p, ctx->seq, r->prompt, r->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    JPT_TRY(start_more(s, ctx, err));
    for (int32_t i = 0; i < s->n; i++)
        if (s->a[i].started && !s->a[i].done)
            JPT_TRY(jpt_propose(p, s->a[i].seq, &s->a[i].tokens[s->a[i].n - 1], 1, JPT_ROWS_LAST, s->utility == EMBEDDING ? JPT_ROWS_LAST : JPT_ROWS_NONE, err));
    return JPT_OK;
}

static jpt_str text_of(const answer *a) { return (jpt_str){a->out.p ? a->out.p : "", a->out.n}; }

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
    if (a->done)
        jpt_answer_of(s->kind, text_of(a), &a->key);
    if (a->key.oom)
        return JPT_FAIL(err, NOMEM, "out of memory for an answer");
    if (a->done && a->seq != ctx->seq && a->seq >= 0) { /* its positions are free for others */
        jpt_seq_free(ctx->session, a->seq);
        a->seq = -1;
    }
    return JPT_OK;
}

/* ---- choosing among answers -------------------------------------------------------------------------------------- */

/* No answer is an answer too, as lm-evaluation-harness counts. */
static bool same_answer(const answer *a, const answer *b) { return a->key.n == b->key.n && (a->key.n == 0 || memcmp(a->key.p, b->key.p, a->key.n) == 0); }

/* Whether the samples that still run or wait cannot, or will hardly, change the vote. */
static bool settled(const answers_state *s) {
    int32_t first = 0, second = 0, open = 0;
    for (int32_t i = 0; i < s->n; i++) {
        int32_t votes = 0;
        bool    known = false;
        open += !s->a[i].done;
        for (int32_t k = 0; k < i && s->a[i].done; k++)
            known = known || (s->a[k].done && same_answer(&s->a[i], &s->a[k]));
        for (int32_t k = i; k < s->n && s->a[i].done && !known; k++)
            votes += s->a[k].done && same_answer(&s->a[i], &s->a[k]);
        second = votes > first ? first : votes > second ? votes : second;
        first = votes > first ? votes : first;
    }
    if (open == 0 || s->early == NEVER)
        return open == 0;
    return first > second + open || (s->early == LIKELY && first > 0 && jpt_vote_certainty(first, second) >= s->certainty);
}

static void abandon_open(answers_state *s) {
    for (int32_t i = 0; i < s->n; i++)
        if (!s->a[i].done)
            s->a[i].done = s->a[i].abandoned = true;
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
        *out = same_answer(a, b);
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
    int32_t n = 0;
    *best = -1;
    for (int32_t i = 0; i < s->n; i++)
        n += !s->a[i].abandoned;
    if (s->rule == CONSENSUS && s->utility == EMBEDDING)
        embed(s);
    for (int32_t i = 0; i < s->n; i++) {
        answer *a = &s->a[i];
        a->score = s->rule == LIKELIEST ? a->sum / a->n : 0;
        if (a->abandoned)
            continue;
        for (int32_t k = 0; k < s->n && (s->rule == MAJORITY || s->rule == CONSENSUS); k++) {
            double u = 1;
            if (s->a[k].abandoned)
                continue;
            if (s->rule == MAJORITY)
                u = same_answer(a, &s->a[k]);
            else if (k != i) /* a text is not its own witness */
                JPT_TRY(likeness(s, a, &s->a[k], &u, err));
            else
                u = 0;
            a->score += u / (s->rule == MAJORITY ? n : n > 1 ? n - 1 : 1);
        }
        if (*best < 0 || a->score > s->a[*best].score)
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
        else if (s->a[i].started && !s->a[i].done) {
            if (s->utility == EMBEDDING)
                JPT_TRY(add_state(s, ctx, &s->a[i], p->items[at].hidden_row, err));
            s->a[i].row = p->items[at++].logits_row;
        }
    for (int32_t i = 0; i < s->n; i++) /* all have their first token at once, from the prompt's row */
        if (!s->a[i].done && (s->a[i].started || !s->prefilled))
            JPT_TRY(draw(s, ctx, i, err));
    s->prefilled = true;
    for (int32_t i = 0; i < s->n; i++)
        left += s->a[i].started && !s->a[i].done;
    if (s->early != NEVER ? settled(s) : ctx->spent >= 1 && left == 0)
        abandon_open(s);
    for (int32_t i = 0; i < s->n; i++)
        if (!s->a[i].done)
            return JPT_OK;
    JPT_TRY(judge(s, &best, err));
    for (int32_t k = 0; k < s->a[best].n; k++)
        JPT_TRY(jpt_emit(e, s->a[best].tokens[k], s->a[best].logprobs[k], err));
    for (int32_t i = 0; i < s->n; i++) {
        const answer *a = &s->a[i ? (i <= best ? i - 1 : i) : best]; /* the chosen one first, the others in their order */
        if (!a->abandoned)
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
        jpt_buf_fini(&s->a[i].key);
    }
    jpt_chain_fini(&s->chain);
}

static void answers_needs(const jpt_spec *spec, jpt_needs *needs) {
    int32_t n = (int32_t)spec_value(spec, "n", 8), parallel = (int32_t)spec_value(spec, "parallel", 0);
    needs->n_seqs = needs->n_outputs = parallel == 0 || parallel >= n ? n : parallel + 1; /* the prompt waits beside them */
}

static jpt_status answers_check(const jpt_spec *spec, jpt_error *err) {
    const char *u = spec_string(spec, "utility"), *a = spec_string(spec, "answer");
    if (*u && strcmp(u, "chrf") != 0 && strcmp(u, "bleu") != 0 && strcmp(u, "exact") != 0 && strcmp(u, "embedding") != 0)
        return JPT_FAIL(err, ARG, "utility=%.32s: expected chrf, bleu, embedding or exact", u);
    if (*a && jpt_answer_kind_named(a) == JPT_ANSWER_KINDS)
        return JPT_FAIL(err, ARG, "answer=%.32s: expected number, string, choice, boolean or text", a);
    const char *stop = spec_string(spec, "early_stop");
    if (*stop && strcmp(stop, "never") != 0 && strcmp(stop, "decided") != 0 && strcmp(stop, "likely") != 0)
        return JPT_FAIL(err, ARG, "early_stop=%.32s: expected never, decided or likely", stop);
    return jpt_chain_check(spec, err);
}

#define N_ANSWERS(def) {"n", JPT_PARAM_INT, 1, 1024, false, false, def, "samples"}, {"parallel", JPT_PARAM_INT, 0, 1024, false, false, "0", "samples run side by side at most; 0: all"}
#define SAMPLING                                                                                                                     \
    JPT_PARAM_TEMPERATURE, {"top_k", JPT_PARAM_INT, 0, 1 << 24, false, false, "0", "keeps the k best; 0: all"},                      \
        {"top_p", JPT_PARAM_FLOAT, 0, 1, false, false, "1", "keeps the smallest set of at least this mass"},                         \
        {"min_p", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "keeps p >= min_p * max p"},                                             \
        {"epsilon_cutoff", JPT_PARAM_FLOAT, 0, 1, false, true, "0", "keeps p >= epsilon"}, JPT_PARAMS_PROCESSORS
#define ANSWER {"answer", JPT_PARAM_STRING, 0, 0, false, false, "number", "what is compared: number, the last one's value; string, as it is written; choice, the last letter alone; boolean, the last yes or no; text, all"}
static const jpt_param_def samples_params[] = {N_ANSWERS("4"), SAMPLING};
static const jpt_param_def best_of_params[] = {N_ANSWERS("8"), SAMPLING};
static const jpt_param_def consistency_params[] = {N_ANSWERS("8"), ANSWER,
                                                   {"early_stop", JPT_PARAM_STRING, 0, 0, false, false, "never", "drop the other samples: decided, when they cannot change the vote; likely, when they hardly will (see certainty)"},
                                                   {"certainty", JPT_PARAM_FLOAT, 0.5, 1, false, true, "0.95", "of early_stop=likely: probability that the leader is the likeliest answer"}, SAMPLING};
static const jpt_param_def mbr_params[] = {N_ANSWERS("16"), {"utility", JPT_PARAM_STRING, 0, 0, false, false, "chrf", "chrf, bleu, embedding (cosine of mean hidden states, centred) or exact"}, ANSWER, SAMPLING};

#define ANSWERS(id, cli_name, host, text, origin)                                                                                          \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "answers", .summary = (text), .source = (origin), .cost = "1 forward of n rows a token", .on_host = host, \
                                            .params = id##_params, .n_params = sizeof(id##_params) / sizeof(id##_params)[0], .samples = true,              \
                                            .state_bytes = sizeof(answers_state), .check = answers_check, .open = id##_open, .propose = answers_propose,    \
                                            .consume = answers_consume, .close = answers_close, .needs = answers_needs}
ANSWERS(samples, "samples", NULL, "n samples side by side; the first is the text", "transformers num_return_sequences; vLLM n");
ANSWERS(best_of, "best-of-n", NULL, "the sample with the best mean log-probability", "vLLM best_of");
ANSWERS(consistency, "self-consistency", NULL, "the sample whose answer most samples give", "Wang et al. 2022; early_stop: Aggarwal et al. 2023");
ANSWERS(mbr, "mbr", "the utilities of finished texts", "the sample most like the others: minimum Bayes risk", "Eikema and Aziz 2020");
