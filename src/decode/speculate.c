/* Speculation without loss: guess several tokens, verify them in one forward, keep what the model itself would have chosen.
 *
 * Every row is chosen from as plain decoding would: same chain, same history, same random key (seed, prompt, step).  A guess
 * is accepted when it equals that choice.  So the text is the text of greedy search or of plain sampling with that seed,
 * token for token, and no rule of acceptance is needed to keep the distribution.  A drafting model draws with the same keys:
 * where it agrees with the model, its draw is the model's draw (common random numbers).  acceptance=ratio is the rule of the
 * literature instead. */
#include "speculate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static jpt_status make_room(spec_state *s, jpt_error *err) {
    size_t n = (size_t)(s->schedule == HEURISTIC ? GUESS_MAX : s->most), V = (size_t)s->V, wide = V;
    if (s->draft && (wide = (size_t)jpt_model_get_info(jpt_session_model(s->draft))->n_vocab) < V) {
        s->V_draft = (int32_t)wide;
        wide = V;
    }
    s->row = wide;
    s->q = malloc(n * wide * sizeof *s->q);
    s->p = malloc(V * sizeof *s->p);
    s->logp = malloc(V * sizeof *s->logp);
    s->scratch = malloc(jpt_select_scratch_bytes(s->V));
    return s->q && s->p && s->logp && s->scratch ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for the distributions of %zu guesses", n);
}

static jpt_status spec_open_as(drafter d, void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    spec_state        *s = state;
    const jpt_request *r = ctx->request;
    int32_t            room = jpt_session_n_ctx(ctx->session) - r->n_prompt, L = jpt_model_get_info(jpt_session_model(ctx->session))->n_layers;
    const char        *when = spec_string(spec, "num_assistant_tokens_schedule");
    s->drafter = d;
    s->draft_seq = -1;
    s->limit = r->max_new_tokens < room ? r->max_new_tokens : room;
    s->sampling = spec_value(spec, "do_sample", 0) != 0;
    s->schedule = strcmp(when, "heuristic") == 0 ? HEURISTIC : strcmp(when, "energy") == 0 ? ENERGY : CONSTANT;
    s->most = (int32_t)spec_value(spec, d == PROMPT_LOOKUP ? "prompt_lookup_num_tokens" : "num_assistant_tokens", 5);
    s->width = s->most;
    s->max_ngram = (int32_t)spec_value(spec, "max_matching_ngram_size", 2);
    s->last_match = strcmp(spec_string(spec, "match"), "last") == 0;
    s->threshold = (float)spec_value(spec, "assistant_confidence_threshold", 0);
    s->ratio = s->sampling && strcmp(spec_string(spec, "acceptance"), "ratio") == 0;
    s->V = s->V_draft = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab;
    JPT_TRY(jpt_chain_build(spec, ctx, s->sampling, &s->chain, err));
    JPT_TRY(token_list_init(&s->history, ctx, err));
    if (d == DRAFT_MODEL) {
        if (!(s->draft = jpt_session_assistant(ctx->session)))
            return JPT_FAIL(err, ARG, "assisted decoding needs a second model: --draft-model MODEL");
        s->foreign = !jpt_session_assistant_shares_tokens(ctx->session);
        if (s->foreign && s->ratio)
            return JPT_FAIL(err, ARG, "acceptance=ratio needs a draft model with the model's own tokenizer");
        JPT_TRY(jpt_seq_new(s->draft, &s->draft_seq, err));
    }
    if (s->ratio)
        JPT_TRY(make_room(s, err));
    if (d == FIRST_LAYERS) {
        s->exit_layer = (int32_t)spec_value(spec, "exit_layer", 0);
        if (s->exit_layer == 0)
            s->exit_layer = L / 2 > 0 ? L / 2 : 1;
        if (s->exit_layer >= L)
            return JPT_FAIL(err, ARG, "exit_layer=%d: expected a layer below the last, %d", s->exit_layer, L);
    }
    return JPT_OK;
}

static jpt_status lookup_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return spec_open_as(PROMPT_LOOKUP, state, ctx, spec, err);
}
static jpt_status assisted_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return spec_open_as(DRAFT_MODEL, state, ctx, spec, err);
}
static jpt_status self_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    return spec_open_as(FIRST_LAYERS, state, ctx, spec, err);
}

static jpt_status spec_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    spec_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_VERIFY : JPT_PHASE_PREFILL;
    if (!s->prefilled)
        return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    int32_t room = s->limit - s->n_emitted - 1, left = jpt_session_n_ctx(ctx->session) - s->history.n;
    room = room < left ? room : left;
    room = room < 0 ? 0 : room;
    if (ctx->spent >= 0.5 && s->width > 0 && s->offered > 4 && s->accepted < 0.5 * s->offered) { /* most guesses are paid for in vain */
        s->width = s->most = 0;
        jpt_budget_note(ctx, "dropped the drafts");
    }
    if (s->most == 0) {
        s->n_guess = 0;
        room = 0;
    }
    if (s->drafter == PROMPT_LOOKUP)
        jpt_draft_lookup(s, ctx, room);
    else
        JPT_TRY(jpt_draft_run(s, ctx, room, err));
    s->guess[0] = s->token;
    s->t_sent_s = jpt_now_s();
    if (s->n_guess == 0)
        p->phase = JPT_PHASE_DECODE;
    return jpt_propose(p, ctx->seq, s->guess, 1 + s->n_guess, JPT_ROWS_ALL, JPT_ROWS_NONE, err);
}

/* ---- verification ----------------------------------------------------------------------------------------------- */

/* Choices along one line of guesses: chosen[0..*n) is what the model says, *n - 1 guesses were right.  The history grows by
 * what is right and is put back. */
static jpt_status verify(spec_state *s, const jpt_strategy_ctx *ctx, const int32_t *guess, int32_t n_guess, int32_t row, jpt_selected *chosen, int32_t *n, jpt_error *err) {
    int32_t base = s->history.n;
    *n = 0;
    for (int32_t i = 0;; i++) {
        JPT_TRY(jpt_spec_choose(s, ctx, ctx->session, row + i, i, &chosen[i], err));
        *n = i + 1;
        if (i == n_guess || chosen[i].token != guess[1 + i] || is_eos(ctx, chosen[i].token))
            break;
        s->history.p[s->history.n++] = chosen[i].token;
    }
    s->history.n = base;
    return JPT_OK;
}

/* Leviathan et al. 2023, Chen et al. 2023: a guess x stays with probability p(x)/q(x); what takes the place of the first that goes
 * is drawn from what p has more than q.  Random numbers of its own, so the text is another than without, its distribution the same. */
static jpt_status verify_by_ratio(spec_state *s, const jpt_strategy_ctx *ctx, int32_t row, jpt_selected *chosen, int32_t *n, jpt_error *err) {
    const jpt_request *r = ctx->request;
    int32_t            base = s->history.n;
    bool               more = true;
    *n = 0;
    for (int32_t i = 0; more; i++) {
        jpt_rng_key own = {r->seed, r->prompt_index, 0, (uint32_t)(s->n_emitted + i)}, key = own;
        key.sequence = KEY_ACCEPT;
        JPT_TRY(jpt_spec_distribution(s, ctx, ctx->session, row + i, i, s->p, s->logp, err));
        ctx->work->selects++;
        int32_t token = i < s->n_guess ? s->guess[1 + i] : -1;
        if (token < 0) {
            token = jpt_spec_draw(s->p, s->V, jpt_rng_uniform(own, 0));
            more = false;
        } else if (jpt_rng_uniform(key, 0) * (double)s->q[(size_t)i * s->row + (size_t)token] >= (double)s->p[token]) {
            const float *q = s->q + (size_t)i * s->row;
            for (int32_t v = 0; v < s->V; v++)
                s->p[v] = s->p[v] > q[v] ? s->p[v] - q[v] : 0;
            token = jpt_spec_draw(s->p, s->V, jpt_rng_uniform(key, 1));
            more = false;
        }
        chosen[i] = (jpt_selected){.token = token, .logprob = s->logp[token]};
        *n = i + 1;
        more = more && !is_eos(ctx, token);
        if (more)
            s->history.p[s->history.n++] = token;
    }
    s->history.n = base;
    return JPT_OK;
}

/* Expected tokens a second of gamma guesses with acceptance a: (1 - a^(gamma+1)) / (1 - a) over gamma drafts and a verify step of
 * gamma + 1 rows; docs/energy-aware.md has the derivation.  Widths never tried are judged by the nearest tried one. */
static int32_t best_width(const spec_state *s) {
    double  a = (s->accepted + 1) / (s->offered + 2), best = -1, known = 0;
    int32_t width = 0;
    for (int32_t g = 0; g <= s->most; g++) {
        known = s->t_verify_s[g] > 0 ? s->t_verify_s[g] : known;
        double cost = g * s->t_draft_s + known, tokens = (1 - pow(a, g + 1)) / (1 - a);
        if (known > 0 && tokens / cost > best * 1.0001) {
            best = tokens / cost;
            width = g;
        }
    }
    return width;
}

static void learn(spec_state *s, int32_t right) {
    double spent = jpt_now_s() - s->t_sent_s, *t = &s->t_verify_s[s->n_guess];
    *t = *t > 0 ? 0.9 * *t + 0.1 * spent : spent;
    s->accepted = 0.98 * s->accepted + right;
    s->offered = 0.98 * s->offered + (right < s->n_guess ? right + 1 : right); /* what came after a wrong guess was not tested */
    if (s->schedule == HEURISTIC)
        s->width = right == s->n_guess ? s->width + 2 : s->width > 1 ? s->width - 1 : 1;
    else if (s->schedule == ENERGY)
        s->width = s->n_emitted < 8 ? 1 + s->n_emitted % s->most : best_width(s);
    s->width = s->width > s->most && s->schedule == ENERGY ? s->most : s->width > GUESS_MAX ? GUESS_MAX : s->width;
    if (s->schedule == ENERGY && s->width == 0 && s->n_emitted % 16 == 0)
        s->width = 1; /* ask again now and then */
}

static jpt_status spec_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    spec_state  *s = state;
    jpt_selected chosen[GUESS_MAX + 1];
    int32_t      n, length = s->history.n; /* positions of the text that are in the cache, but for its last token */
    if (!s->prefilled) {
        s->n_guess = 0;
        s->prefilled = true;
        JPT_TRY(verify(s, ctx, s->guess, 0, p->items[0].logits_row, chosen, &n, err));
    } else {
        JPT_TRY(s->ratio ? verify_by_ratio(s, ctx, p->items[0].logits_row, chosen, &n, err)
                         : verify(s, ctx, s->guess, s->n_guess, p->items[0].logits_row, chosen, &n, err));
        ctx->work->positions_discarded += (uint64_t)(s->n_guess - (n - 1));
        JPT_TRY(jpt_seq_truncate(ctx->session, ctx->seq, length + n - 1, err));
        learn(s, n - 1);
    }
    for (int32_t i = 0; i < n; i++) {
        token_list_add(&s->history, chosen[i].token);
        JPT_TRY(jpt_emit(e, chosen[i].token, chosen[i].logprob, err));
    }
    s->n_emitted += n;
    s->token = chosen[n - 1].token;
    if (s->draft && s->draft_len > length + n - 1) { /* wrong guesses leave the draft's cache too */
        s->draft_len = length + n - 1;
        JPT_TRY(jpt_seq_truncate(s->draft, s->draft_seq, s->draft_len, err));
    }
    return JPT_OK;
}

static void spec_close(void *state, const jpt_strategy_ctx *ctx) {
    (void)ctx;
    spec_state *s = state;
    if (s->draft && s->draft_seq >= 0)
        jpt_seq_free(s->draft, s->draft_seq);
    free(s->q);
    free(s->p);
    free(s->logp);
    free(s->scratch);
    free(s->history.p);
    jpt_chain_fini(&s->chain);
}

static jpt_status spec_check(const jpt_spec *spec, jpt_error *err) {
    const char *when = spec_string(spec, "num_assistant_tokens_schedule"), *match = spec_string(spec, "match");
    if (*when && strcmp(when, "constant") != 0 && strcmp(when, "heuristic") != 0 && strcmp(when, "energy") != 0)
        return JPT_FAIL(err, ARG, "num_assistant_tokens_schedule=%.32s: expected constant, heuristic or energy", when);
    if (*match && strcmp(match, "first") != 0 && strcmp(match, "last") != 0)
        return JPT_FAIL(err, ARG, "match=%.32s: expected first or last", match);
    const char *rule = spec_string(spec, "acceptance");
    if (*rule && strcmp(rule, "draw") != 0 && strcmp(rule, "ratio") != 0)
        return JPT_FAIL(err, ARG, "acceptance=%.32s: expected draw or ratio", rule);
    if (strcmp(rule, "ratio") == 0 && spec_value(spec, "do_sample", 0) == 0)
        return JPT_FAIL(err, ARG, "acceptance=ratio is a rule of sampling: add do_sample=true");
    return jpt_chain_check(spec, err);
}

static void spec_needs(const jpt_spec *spec, jpt_needs *needs) {
    (void)spec;
    needs->n_outputs = GUESS_MAX + 1;
}
static void assisted_needs(const jpt_spec *spec, jpt_needs *needs) {
    spec_needs(spec, needs);
    needs->assistant = true;
}

#define ACCEPTANCE {"acceptance", JPT_PARAM_STRING, 0, 0, false, false, "draw", "with do_sample: draw, a guess stays if the model draws it too (the text of plain sampling); ratio, with p/q (more stay, another text of the same distribution)"}
#define THRESHOLD {"assistant_confidence_threshold", JPT_PARAM_FLOAT, 0, 1, false, false, "0", "the draft stops after a token less probable than this"}
#define SCHEDULE(def) {"num_assistant_tokens_schedule", JPT_PARAM_STRING, 0, 0, false, false, def, "constant; heuristic: +2 when all were right, else -1; energy: what costs least a token"}
static const jpt_param_def lookup_params[] = {{"prompt_lookup_num_tokens", JPT_PARAM_INT, 1, GUESS_MAX, false, false, "10", "most guesses a step"},
                                              {"max_matching_ngram_size", JPT_PARAM_INT, 1, 64, false, false, "2", "longest run of tokens looked for"},
                                              {"match", JPT_PARAM_STRING, 0, 0, false, false, "first", "first or last earlier place"}, SCHEDULE("constant"), JPT_PARAMS_DO_SAMPLE};
static const jpt_param_def assisted_params[] = {{"num_assistant_tokens", JPT_PARAM_INT, 1, GUESS_MAX, false, false, "5", "guesses a step"}, SCHEDULE("constant"),
                                                THRESHOLD, ACCEPTANCE, JPT_PARAMS_DO_SAMPLE};
static const jpt_param_def self_params[] = {{"exit_layer", JPT_PARAM_INT, 0, 4096, false, false, "0", "layers of the draft; 0: half of them"},
                                            {"num_assistant_tokens", JPT_PARAM_INT, 1, GUESS_MAX, false, false, "4", "guesses a step"}, SCHEDULE("constant"),
                                            THRESHOLD, ACCEPTANCE, JPT_PARAMS_DO_SAMPLE};

#define SPECULATE(id, cli_name, text, origin, price, host, want)                                                                           \
    const jpt_strategy jpt_strategy_##id = {.name = (cli_name), .family = "speculative", .summary = (text), .source = (origin), .cost = (price), .on_host = host, \
                                            .params = id##_params, .n_params = sizeof(id##_params) / sizeof(id##_params)[0], .samples = true,             \
                                            .state_bytes = sizeof(spec_state), .check = spec_check, .open = id##_open, .propose = spec_propose,          \
                                            .consume = spec_consume, .close = spec_close, .needs = want}
SPECULATE(lookup, "prompt-lookup", "guess what followed the same words before", "Saxena 2023; transformers PromptLookupCandidateGenerator",
          "1/E[tokens] forwards of up to prompt_lookup_num_tokens + 1 rows", NULL, spec_needs);
SPECULATE(assisted, "assisted", "a smaller model guesses", "Leviathan et al. 2023; Chen et al. 2023; transformers assisted generation",
          "1/E[tokens] forwards of num_assistant_tokens + 1 rows, and so many of the draft model",
          "with acceptance=ratio, both models' rows are compared", assisted_needs);
SPECULATE(self, "self-speculation", "the model's first layers guess", "Zhang et al. 2024 (Draft & Verify); Elhoushi et al. 2024 (LayerSkip)",
          "1/E[tokens] forwards of num_assistant_tokens + 1 rows, and so many of the first layers",
          "with acceptance=ratio, both rows are compared", spec_needs);
