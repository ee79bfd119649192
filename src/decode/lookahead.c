/* Lookahead decoding (Fu et al. 2024): several future tokens are guessed at once by Jacobi iteration, and the n-grams that these
 * guesses run through are kept in a pool and verified like drafts.  Lossless: every kept token is what the model chooses.
 *
 * The grid has N - 1 levels of W guesses.  Level 0 is a line after the text's last token; a guess of a later level stands after
 * its neighbour of the level before, so that each column is a path in time:
 *
 *     last -- g0[1] -- g0[2] -- g0[3]         level 0
 *       |       |        |        |
 *     g1[0]   g1[1]    g1[2]    g1[3]         level 1: parent g0[i]
 *       |       |        |        |
 *     g2[0]   g2[1]    g2[2]    g2[3]         level 2
 *
 * One forward takes the tree of grid and pooled n-grams together.  The last level's choices become the new last level, the
 * others move up, and each column (with its choice) is an n-gram for the pool.  Shapes as in llama.cpp's lookahead example. */
#include "decode_priv.h"
#include <stdlib.h>
#include <string.h>

enum { N_MAX = 16, POOL_MAX = 4096, ROWS_MAX = 512 };

typedef struct ngram {
    int32_t first, next[N_MAX - 1];
} ngram;

typedef struct look_state {
    built_chain chain;
    token_list  history;
    bool        sampling, prefilled, dropped;
    int32_t     limit, n_emitted, token;
    int32_t     W, N, G;      /* window, n-gram, n-grams verified */
    int32_t     levels;       /* N - 1 */
    int32_t    *grid, *top;   /* [levels][W] and the new last level [W] */
    int32_t    *row;          /* [levels][W]: the tree's row of a guess, -1: none */
    ngram      *pool;         /* a ring, the newest at pool_at - 1 */
    int32_t     n_pool, pool_at;
    /* the tree: tokens, parents, depths, which rows get logits, and their number among these */
    int32_t     n, n_verify, n_marked, tok[ROWS_MAX], parent[ROWS_MAX], depth[ROWS_MAX], out[ROWS_MAX];
    bool        marked[ROWS_MAX];
    double      tried, right; /* steps with a pooled n-gram, and those in which one was right, as running sums */
} look_state;

static int32_t tree_rows(int32_t W, int32_t N, int32_t G) { return 1 + G * (N - 1) + (W - 1) + (N - 2) * W; }

static jpt_status look_open(void *state, const jpt_strategy_ctx *ctx, const jpt_spec *spec, jpt_error *err) {
    look_state        *s = state;
    const jpt_request *r = ctx->request;
    int32_t            room = jpt_session_n_ctx(ctx->session) - r->n_prompt;
    s->limit = r->max_new_tokens < room ? r->max_new_tokens : room;
    s->sampling = spec_value(spec, "do_sample", 0) != 0;
    s->W = (int32_t)spec_value(spec, "window", 15);
    s->N = (int32_t)spec_value(spec, "ngram", 5);
    s->G = (int32_t)spec_value(spec, "guess_set", 15);
    s->levels = s->N - 1;
    JPT_TRY(jpt_chain_build(spec, ctx, s->sampling, &s->chain, err));
    JPT_TRY(token_list_init(&s->history, ctx, err));
    size_t     cells = (size_t)s->levels * (size_t)s->W;
    jpt_arena *a = &s->chain.arena;
    s->grid = jpt_arena_alloc(a, cells * sizeof *s->grid);
    s->row = jpt_arena_alloc(a, cells * sizeof *s->row);
    s->top = jpt_arena_alloc(a, (size_t)s->W * sizeof *s->top);
    s->pool = jpt_arena_alloc(a, POOL_MAX * sizeof *s->pool);
    if (!s->grid || !s->row || !s->top || !s->pool)
        return JPT_FAIL(err, NOMEM, "out of memory for the pool of n-grams");
    for (size_t i = 0; i < cells; i++) /* any guess will do to begin with */
        s->grid[i] = r->prompt[i % (size_t)r->n_prompt];
    return JPT_OK;
}

/* ---- the tree ------------------------------------------------------------------------------------------------- */

static int32_t child_of(const look_state *s, int32_t row, int32_t token, int32_t end) {
    for (int32_t k = row + 1; k < end; k++)
        if (s->parent[k] == row && s->tok[k] == token)
            return k;
    return -1;
}

/* A row after `parent` (-1: the text), unless it would pass `room`. */
static int32_t add_row(look_state *s, int32_t parent, int32_t token, bool marked, int32_t room) {
    int32_t depth = parent < 0 ? 0 : s->depth[parent] + 1, k = s->n;
    if (depth > room)
        return -1;
    s->tok[k] = token;
    s->parent[k] = parent;
    s->depth[k] = depth;
    s->marked[k] = marked;
    s->out[k] = marked ? s->n_marked++ : -1;
    s->n++;
    return k;
}

/* The newest n-grams that begin with the last token, as branches that share their beginnings. */
static void add_pooled(look_state *s, int32_t room) {
    int32_t taken = 0;
    for (int32_t k = 0; k < s->n_pool && taken < s->G; k++) {
        const ngram *g = &s->pool[(s->pool_at - 1 - k + 2 * POOL_MAX) % POOL_MAX];
        int32_t      at = 0, before = s->n;
        if (g->first != s->token)
            continue;
        for (int32_t i = 0; i < s->N - 1 && at >= 0; i++) {
            int32_t child = child_of(s, at, g->next[i], s->n);
            at = child >= 0 ? child : add_row(s, at, g->next[i], true, room);
        }
        taken += s->n > before;
    }
    s->n_verify = s->n;
}

static void add_grid(look_state *s, int32_t room) {
    for (int32_t j = 0; j < s->levels; j++)
        for (int32_t i = 0; i < s->W; i++) {
            int32_t *row = &s->row[j * s->W + i], above = j > 0 ? s->row[(j - 1) * s->W + i] : i > 0 ? s->row[i - 1] : -1;
            if (j == 0 && i == 0) {
                s->grid[0] = s->token;
                *row = 0;
            } else {
                *row = above < 0 ? -1 : add_row(s, above, s->grid[j * s->W + i], j == s->levels - 1, room);
            }
        }
}

static jpt_status look_propose(void *state, const jpt_strategy_ctx *ctx, jpt_proposal *p, jpt_error *err) {
    look_state *s = state;
    p->phase = s->prefilled ? JPT_PHASE_VERIFY : JPT_PHASE_PREFILL;
    if (!s->prefilled)
        return jpt_propose(p, ctx->seq, ctx->request->prompt, ctx->request->n_prompt, JPT_ROWS_LAST, JPT_ROWS_NONE, err);
    if (ctx->spent >= 0.5 && !s->dropped && s->tried > 4 && s->right < 0.5 * s->tried) { /* most guesses are paid for in vain */
        s->dropped = true;
        jpt_budget_note(ctx, "dropped the drafts");
    }
    int32_t room = s->limit - s->n_emitted - 1, left = jpt_session_n_ctx(ctx->session) - s->history.n;
    room = s->dropped ? 0 : room < left ? room : left;
    s->n = s->n_marked = 0;
    add_row(s, -1, s->token, true, 0);
    add_pooled(s, room);
    add_grid(s, room);
    if (s->n == 1)
        p->phase = JPT_PHASE_DECODE;
    return jpt_propose_tree(p, ctx->seq, s->tok, s->parent, s->marked, s->n, err);
}

/* ---- verification --------------------------------------------------------------------------------------------- */

static jpt_status choose(look_state *s, const jpt_strategy_ctx *ctx, int32_t row, int32_t ahead, jpt_selected *out, jpt_error *err) {
    jpt_select_item item = jpt_pick(&s->chain, ctx, &s->history, row, s->sampling, s->n_emitted + ahead);
    return jpt_session_select(ctx->session, &item, 1, out, err);
}

/* Down the tree as long as the model's choice stands there: chosen[0..*n), the first *n rows of `path` are right. */
static jpt_status walk(look_state *s, const jpt_strategy_ctx *ctx, int32_t first, jpt_selected chosen[N_MAX + 1], int32_t path[N_MAX + 1], int32_t *n, jpt_error *err) {
    int32_t base = s->history.n;
    path[0] = 0;
    *n = 0;
    for (int32_t row = 0; row >= 0;) {
        JPT_TRY(choose(s, ctx, first + s->out[row], *n, &chosen[*n], err));
        path[*n] = row;
        int32_t token = chosen[(*n)++].token;
        row = is_eos(ctx, token) || *n > s->N - 1 ? -1 : child_of(s, row, token, s->n_verify);
        token_list_add(&s->history, token);
    }
    s->history.n = base;
    return JPT_OK;
}

/* New guesses after the last level; whole columns go to the pool.  The history is the text's: guesses need not be exact. */
static jpt_status refine(look_state *s, const jpt_strategy_ctx *ctx, int32_t first, jpt_error *err) {
    const int32_t *last = s->row + (s->levels - 1) * s->W;
    for (int32_t i = 0; i < s->W; i++) {
        jpt_selected one;
        s->top[i] = s->grid[(s->levels - 1) * s->W + i];
        if (last[i] < 0)
            continue;
        JPT_TRY(choose(s, ctx, first + s->out[last[i]], s->depth[last[i]], &one, err));
        s->top[i] = one.token;
        ngram *g = &s->pool[s->pool_at];
        g->first = s->grid[i];
        for (int32_t j = 1; j < s->levels; j++)
            g->next[j - 1] = s->grid[j * s->W + i];
        g->next[s->N - 2] = one.token;
        s->pool_at = (s->pool_at + 1) % POOL_MAX;
        s->n_pool += s->n_pool < POOL_MAX;
    }
    return JPT_OK;
}

/* Levels move up by one, which is one token in time; what was accepted beyond that moves the window. */
static void move_on(look_state *s, int32_t accepted) {
    memmove(s->grid, s->grid + s->W, (size_t)(s->levels - 1) * (size_t)s->W * sizeof *s->grid);
    memcpy(s->grid + (s->levels - 1) * s->W, s->top, (size_t)s->W * sizeof *s->grid);
    for (int32_t j = 0; j < s->levels; j++)
        for (int32_t i = 0; i < s->W; i++)
            s->grid[j * s->W + i] = s->grid[j * s->W + (i + accepted - 1 < s->W ? i + accepted - 1 : s->W - 1)];
}

static jpt_status look_consume(void *state, const jpt_strategy_ctx *ctx, const jpt_proposal *p, jpt_emission *e, jpt_error *err) {
    look_state  *s = state;
    jpt_selected chosen[N_MAX + 1];
    int32_t      path[N_MAX + 1], n = 1, first = p->items[0].logits_row;
    if (!s->prefilled) {
        JPT_TRY(choose(s, ctx, first, 0, &chosen[0], err));
        s->prefilled = true;
    } else {
        JPT_TRY(walk(s, ctx, first, chosen, path, &n, err));
        JPT_TRY(refine(s, ctx, first, err));
        JPT_TRY(jpt_seq_keep(ctx->session, ctx->seq, path, n, err));
        ctx->work->positions_discarded += (uint64_t)(s->n - n);
        if (s->n_verify > 1) {
            s->tried = 0.98 * s->tried + 1;
            s->right = 0.98 * s->right + (n > 1);
        }
        move_on(s, n);
    }
    for (int32_t i = 0; i < n; i++) {
        token_list_add(&s->history, chosen[i].token);
        JPT_TRY(jpt_emit(e, chosen[i].token, chosen[i].logprob, err));
    }
    s->n_emitted += n;
    s->token = chosen[n - 1].token;
    return JPT_OK;
}

static void look_close(void *state, const jpt_strategy_ctx *ctx) {
    (void)ctx;
    look_state *s = state;
    free(s->history.p);
    jpt_chain_fini(&s->chain);
}

static void look_needs(const jpt_spec *spec, jpt_needs *needs) {
    int32_t W = (int32_t)spec_value(spec, "window", 15), N = (int32_t)spec_value(spec, "ngram", 5), G = (int32_t)spec_value(spec, "guess_set", 15);
    needs->n_tree = tree_rows(W, N, G);
    needs->n_outputs = 1 + G * (N - 1) + W;
}

static jpt_status look_check(const jpt_spec *spec, jpt_error *err) {
    int32_t W = (int32_t)spec_value(spec, "window", 15), N = (int32_t)spec_value(spec, "ngram", 5), G = (int32_t)spec_value(spec, "guess_set", 15);
    if (tree_rows(W, N, G) > ROWS_MAX)
        return JPT_FAIL(err, ARG, "window=%d, ngram=%d, guess_set=%d: %d rows a step, expected at most %d", W, N, G, tree_rows(W, N, G), ROWS_MAX);
    return jpt_chain_check(spec, err);
}

static const jpt_param_def look_params[] = {{"window", JPT_PARAM_INT, 1, 256, false, false, "15", "future tokens guessed side by side (W)"},
                                            {"ngram", JPT_PARAM_INT, 2, N_MAX, false, false, "5", "length of the n-grams, their first token counted (N)"},
                                            {"guess_set", JPT_PARAM_INT, 1, 256, false, false, "15", "n-grams verified in a step (G)"}, JPT_PARAMS_DO_SAMPLE};

const jpt_strategy jpt_strategy_lookahead = {.name = "lookahead", .family = "speculative", .summary = "guess a window of the future by Jacobi iteration, verify the n-grams seen in it",
                                             .source = "Fu et al. 2024; llama.cpp lookahead", .cost = "1/E[tokens] forwards of up to 1 + G (N - 1) + W - 1 + W (N - 2) rows",
                                             .params = look_params, .n_params = sizeof look_params / sizeof look_params[0], .samples = true,
                                             .state_bytes = sizeof(look_state), .check = look_check, .open = look_open, .propose = look_propose,
                                             .consume = look_consume, .close = look_close, .needs = look_needs};
