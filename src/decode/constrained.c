/* Constrained beam search: words that the text must hold (Hokamp and Liu 2017, as transformers 4.46's ConstrainedBeamSearchScorer
 * does it).  Beside the likeliest continuations stand those that begin or go on with a word; all are put into banks by how far
 * they have come, and the next beams are taken from the banks in turn, the furthest bank first.
 *
 * Unlike there, words in the prompt do not count, a text without all words is an answer only when there is none with them, banks
 * come strictly before likelihood, and beams that hold all words are not lost to likelier ones (push_progress, which exists there
 * but cannot be switched on). */
#include "beam.h"
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 16, ALTERNATIVES_MAX = 8 };

typedef struct phrase {
    int32_t *ids, n;
} phrase;

typedef struct word {
    phrase  alt[ALTERNATIVES_MAX];
    int32_t n_alt, longest;
} word;

/* How far a text has come: words done, the one begun (its tokens are the text's last `depth`), and the others in turn. */
typedef struct progress {
    int32_t n_done, begun, depth, n_waiting, waiting[WORDS_MAX];
} progress;

typedef struct candidate {
    int32_t index, token, bank, rank;
    float   score;
} candidate;

typedef struct forced_words {
    word       word[WORDS_MAX];
    int32_t    n, longest, n_alternatives;
    bool       push; /* keep beams that hold all words in the race */
    jpt_chain *chain; /* [width] with the tokens that go on with a word */
    int32_t   *allowed; /* [width][n_alternatives] */
    candidate *cand;  /* [width * (1 + n_alternatives)] */
    int32_t   *index, *token; /* of jpt_session_topk, [width * n_alternatives] */
    float     *score;
} forced_words;

/* ---- progress ----------------------------------------------------------------------------------------------- */

static progress at_start(const forced_words *f) {
    progress p = {.begun = -1, .n_waiting = f->n};
    for (int32_t i = 0; i < f->n; i++)
        p.waiting[i] = i;
    return p;
}

/* Whether `token` after path[depth] goes on with the word; *complete when it ends an alternative. */
static bool goes_on(const word *w, const int32_t *path, int32_t depth, int32_t token, bool *complete) {
    bool on = false;
    *complete = false;
    for (int32_t a = 0; a < w->n_alt; a++) {
        const phrase *x = &w->alt[a];
        if (x->n <= depth || memcmp(x->ids, path, (size_t)depth * sizeof *path) != 0 || x->ids[depth] != token)
            continue;
        on = true;
        *complete = *complete || x->n == depth + 1;
    }
    return on;
}

/* tokens[at] is the new one.  A token that breaks a word off does not begin another: as the reference has it. */
static void step(const forced_words *f, progress *p, const int32_t *tokens, int32_t at) {
    bool complete;
    if (p->begun >= 0) {
        bool on = goes_on(&f->word[p->begun], tokens + at - p->depth, p->depth, tokens[at], &complete);
        if (!on)
            p->waiting[p->n_waiting++] = p->begun;
        p->n_done += complete;
        p->depth = on && !complete ? p->depth + 1 : 0;
        p->begun = on && !complete ? p->begun : -1;
        return;
    }
    for (int32_t i = 0; i < p->n_waiting; i++) {
        if (!goes_on(&f->word[p->waiting[i]], tokens, 0, tokens[at], &complete))
            continue;
        p->begun = complete ? -1 : p->waiting[i];
        p->depth = !complete;
        p->n_done += complete;
        memmove(p->waiting + i, p->waiting + i + 1, (size_t)(p->n_waiting - i - 1) * sizeof *p->waiting);
        p->n_waiting--;
        return;
    }
}

static progress progress_of(const forced_words *f, const int32_t *tokens, int32_t n) {
    progress p = at_start(f);
    for (int32_t i = 0; i < n && p.n_done < f->n; i++)
        step(f, &p, tokens, i);
    return p;
}

bool jpt_forced_words_met(const forced_words *f, const int32_t *tokens, int32_t n) { return progress_of(f, tokens, n).n_done == f->n; }

static int32_t bank_of(const forced_words *f, const progress *p) {
    return p->n_done * f->longest + (p->begun >= 0 ? f->longest - (f->word[p->begun].longest - p->depth) : 0);
}

/* Tokens that go on with the begun word, or begin a waiting one, each once. */
static int32_t next_tokens(const forced_words *f, const progress *p, const int32_t *tokens, int32_t n, int32_t *out) {
    int32_t count = 0, words = p->begun >= 0 ? 1 : p->n_waiting;
    for (int32_t i = 0; i < words; i++) {
        const word *w = &f->word[p->begun >= 0 ? p->begun : p->waiting[i]];
        for (int32_t a = 0; a < w->n_alt; a++) {
            const phrase *x = &w->alt[a];
            bool          known = false;
            if (x->n <= p->depth || memcmp(x->ids, tokens + n - p->depth, (size_t)p->depth * sizeof *tokens) != 0)
                continue;
            for (int32_t k = 0; k < count; k++)
                known = known || out[k] == x->ids[p->depth];
            if (!known)
                out[count++] = x->ids[p->depth];
        }
    }
    return count;
}

/* ---- choosing the next beams ---------------------------------------------------------------------------------- */

static int by_bank(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->bank != y->bank)
        return x->bank < y->bank ? 1 : -1;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->rank > y->rank) - (x->rank < y->rank);
}
static int by_turn(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    return x->bank != y->bank ? (x->bank > y->bank) - (x->bank < y->bank) : (x->rank > y->rank) - (x->rank < y->rank);
}

static void add_candidate(forced_words *f, const beam *parent, int32_t n, int32_t index, int32_t token, float score) {
    progress p = progress_of(f, parent->h.tokens, parent->h.n);
    int32_t *room = parent->h.tokens; /* [limit]: there is room for the token that comes next */
    room[parent->h.n] = token;
    if (p.n_done < f->n)
        step(f, &p, room, parent->h.n);
    f->cand[n] = (candidate){index, token, bank_of(f, &p), n, score};
}

/* Scores of the tokens that words want, through the same processors; they join the candidates unless they are there. */
static jpt_status add_wanted(beam_state *s, const jpt_strategy_ctx *ctx, const group *q, int32_t *n, jpt_error *err) {
    forced_words *f = s->forced;
    int32_t       wanted = 0, rows = 0, found, picked = *n;
    for (int32_t i = 0; i < q->n_run; i++) {
        const beam *b = &q->run[i];
        progress    p = progress_of(f, b->h.tokens, b->h.n);
        if (p.n_done == f->n)
            continue;
        int32_t *ids = f->allowed + (size_t)i * (size_t)f->n_alternatives, n_ids = next_tokens(f, &p, b->h.tokens, b->h.n, ids);
        f->chain[i] = s->chain.chain;
        JPT_ASSERT(f->chain[i].n_links < JPT_CHAIN_MAX); /* chains hold each link once and the one for diversity */
        f->chain[i].link[f->chain[i].n_links++] = (jpt_link){.kind = JPT_LINK_ALLOWED, .ids = ids, .n_ids = n_ids};
        s->items[rows] = beam_score_item(s, ctx->request, b, i, &f->chain[i]);
        f->cand[picked + rows++].index = i; /* which beam a row is, for now */
        wanted += n_ids;
    }
    if (rows == 0)
        return JPT_OK;
    JPT_TRY(jpt_session_topk(ctx->session, s->items, rows, wanted, f->index, f->token, f->score, &found, err));
    for (int32_t k = 0; k < found; k++)
        f->index[k] = f->cand[picked + f->index[k]].index;
    for (int32_t k = 0; k < found; k++) {
        bool there = is_eos(ctx, f->token[k]);
        for (int32_t i = 0; i < picked; i++)
            there = there || (f->cand[i].index == f->index[k] && f->cand[i].token == f->token[k]);
        if (there)
            continue;
        add_candidate(f, &q->run[f->index[k]], *n, f->index[k], f->token[k], f->score[k]);
        ++*n;
    }
    return JPT_OK;
}

/* The best continuation of a beam that holds all words: nothing else would keep it among likelier ones without them. */
static jpt_status push_met(beam_state *s, const jpt_strategy_ctx *ctx, const group *q, int32_t *n, jpt_error *err) {
    forced_words *f = s->forced;
    for (int32_t i = 0; i < q->n_run; i++) {
        const beam *b = &q->run[i];
        int32_t     found;
        bool        there = false;
        if (!jpt_forced_words_met(f, b->h.tokens, b->h.n))
            continue;
        f->chain[i] = s->chain.chain;
        f->chain[i].link[f->chain[i].n_links++] = (jpt_link){.kind = JPT_LINK_MIN_NEW_TOKENS, .count = INT32_MAX}; /* no end */
        s->items[0] = beam_score_item(s, ctx->request, b, i, &f->chain[i]);
        JPT_TRY(jpt_session_topk(ctx->session, s->items, 1, 1, f->index, f->token, f->score, &found, err));
        for (int32_t k = 0; k < *n; k++)
            there = there || (f->cand[k].index == i && f->cand[k].token == f->token[0]);
        if (found && !there)
            add_candidate(f, b, (*n)++, i, f->token[0], f->score[0]);
    }
    return JPT_OK;
}

jpt_status jpt_forced_words_steer(beam_state *s, const jpt_strategy_ctx *ctx, const group *q, int32_t *n, jpt_error *err) {
    forced_words *f = s->forced;
    int32_t       total = *n, turn = -1, bank = -1;
    for (int32_t i = 0; i < *n; i++)
        add_candidate(f, &q->run[s->c_index[i]], i, s->c_index[i], s->c_token[i], s->c_score[i]);
    JPT_TRY(add_wanted(s, ctx, q, &total, err));
    if (f->push)
        JPT_TRY(push_met(s, ctx, q, &total, err));
    if (total == *n)
        return JPT_OK; /* nothing new: the likeliest stay in their order */
    qsort(f->cand, (size_t)total, sizeof *f->cand, by_bank);
    for (int32_t i = 0; i < total; i++) { /* first of each bank, then the second of each ... */
        turn = f->cand[i].bank == bank ? turn + 1 : 0;
        bank = f->cand[i].bank;
        f->cand[i].bank = turn;
        f->cand[i].rank = i;
    }
    qsort(f->cand, (size_t)total, sizeof *f->cand, by_turn);
    *n = total < s->width ? total : s->width;
    for (int32_t i = 0; i < *n; i++) {
        s->c_index[i] = f->cand[i].index;
        s->c_token[i] = f->cand[i].token;
        s->c_score[i] = f->cand[i].score;
    }
    return JPT_OK;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* One alternative, as it is and with a space before it, as it stands inside a text. */
static jpt_status add_alternative(forced_words *f, jpt_arena *arena, const jpt_tokenizer *tok, word *w, const char *text, size_t len, jpt_error *err) {
    for (int spaced = 0; spaced < 2; spaced++) {
        jpt_ids ids = {0};
        jpt_buf b = {0};
        jpt_buf_printf(&b, "%s%.*s", spaced ? " " : "", (int)len, text);
        jpt_status st = b.oom ? JPT_FAIL(err, NOMEM, "out of memory") : jpt_tokenizer_encode(tok, b.p, b.n, 0, &ids, err);
        bool       known = ids.n == 0; /* SentencePiece writes both the same way */
        for (int32_t a = 0; a < w->n_alt; a++)
            known = known || ((size_t)w->alt[a].n == ids.n && memcmp(w->alt[a].ids, ids.p, ids.n * sizeof *ids.p) == 0);
        if (st == JPT_OK && !known) {
            phrase *x = &w->alt[w->n_alt];
            if (!(x->ids = jpt_arena_alloc(arena, ids.n * sizeof *ids.p))) {
                st = JPT_FAIL(err, NOMEM, "out of memory for force_words");
            } else {
                memcpy(x->ids, ids.p, ids.n * sizeof *ids.p);
                x->n = (int32_t)ids.n;
                w->longest = x->n > w->longest ? x->n : w->longest;
                w->n_alt++;
                f->n_alternatives++;
            }
        }
        jpt_buf_fini(&b);
        jpt_ids_fini(&ids);
        JPT_TRY(st);
    }
    return JPT_OK;
}

jpt_status jpt_forced_words_open(const jpt_spec *spec, const jpt_strategy_ctx *ctx, beam_state *s, forced_words **out, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(ctx->session));
    jpt_arena           *arena = &s->chain.arena;
    const char          *text = spec_string(spec, "force_words");
    *out = NULL;
    if (!*text)
        return JPT_OK;
    forced_words *f = jpt_arena_alloc(arena, sizeof *f);
    if (!f)
        return JPT_FAIL(err, NOMEM, "out of memory for force_words");
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "/|");
        if (len) {
            if (f->n == WORDS_MAX)
                return JPT_FAIL(err, ARG, "force_words: more than %d words", WORDS_MAX);
            word *w = &f->word[f->n];
            if (w->n_alt + 2 > ALTERNATIVES_MAX)
                return JPT_FAIL(err, ARG, "force_words: more than %d alternatives of one word", ALTERNATIVES_MAX / 2);
            JPT_TRY(add_alternative(f, arena, tok, w, p, len, err));
        }
        p += len;
        if (*p != '|' && f->word[f->n].n_alt) {
            f->longest = f->word[f->n].longest > f->longest ? f->word[f->n].longest : f->longest;
            f->n++;
        }
        p += *p != 0;
    }
    f->push = spec_value(spec, "push_progress", 1) != 0;
    size_t w = (size_t)s->width, most = w * (size_t)f->n_alternatives;
    f->chain = jpt_arena_alloc(arena, w * sizeof *f->chain);
    f->allowed = jpt_arena_alloc(arena, most * sizeof *f->allowed);
    f->cand = jpt_arena_alloc(arena, (3 * w + most) * sizeof *f->cand);
    f->index = jpt_arena_alloc(arena, most * sizeof *f->index);
    f->token = jpt_arena_alloc(arena, most * sizeof *f->token);
    f->score = jpt_arena_alloc(arena, most * sizeof *f->score);
    *out = f;
    return f->chain && f->allowed && f->cand && f->index && f->token && f->score ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for force_words");
}
