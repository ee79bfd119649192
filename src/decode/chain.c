/* From a spec's parameters to a chain of links, in a named order. */
#include "decode_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

double spec_value(const jpt_spec *spec, const char *name, double neutral) {
    for (int32_t i = 0; i < spec->n_values; i++)
        if (strcmp(spec->value[i].def->name, name) == 0)
            return spec->value[i].number;
    return neutral;
}

const char *spec_string(const jpt_spec *spec, const char *name) {
    for (int32_t i = 0; i < spec->n_values; i++)
        if (strcmp(spec->value[i].def->name, name) == 0)
            return spec->value[i].text ? spec->value[i].text : "";
    return "";
}

bool is_eos(const jpt_strategy_ctx *c, int32_t token) {
    for (int32_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] == token)
            return true;
    return false;
}

jpt_status token_list_init(token_list *l, const jpt_strategy_ctx *ctx, jpt_error *err) {
    const jpt_request *r = ctx->request;
    *l = (token_list){.cap = jpt_session_n_ctx(ctx->session)}; /* prompt and text fit the context */
    l->p = malloc((size_t)l->cap * sizeof *l->p);
    if (!l->p)
        return JPT_FAIL(err, NOMEM, "out of memory for a request");
    memcpy(l->p, r->prompt, (size_t)r->n_prompt * sizeof *l->p);
    l->n = r->n_prompt;
    return JPT_OK;
}

int32_t jpt_text_limit(const jpt_strategy_ctx *ctx) {
    int32_t room = jpt_session_n_ctx(ctx->session) - ctx->request->n_prompt;
    return ctx->request->max_new_tokens < room ? ctx->request->max_new_tokens : room;
}

void token_list_add(token_list *l, int32_t token) {
    if (l->n < l->cap)
        l->p[l->n++] = token;
}

/* ---- links ----------------------------------------------------------------------------------------------- */

typedef struct link_def {
    const char   *name;  /* in chain= */
    jpt_link_kind kind;
    const char   *param; /* the parameter that switches it on */
    double        neutral;
    bool          warper;
    const char   *value2, *value3; /* further parameters, NULL: none */
} link_def;

/* In HF's order (transformers' _get_logits_processor); what HF lacks stands where it does no harm to what HF has:
 * penalties after the repetition penalty, shapers of the whole distribution by the temperature, top-n-sigma before the cuts
 * by probability, XTC last. */
static const link_def links[] = {
    {"logit_bias", JPT_LINK_BIAS, "logit_bias", 0, false, NULL, NULL},
    {"sequence_bias", JPT_LINK_SEQUENCE_BIAS, "sequence_bias", 0, false, NULL, NULL},
    {"encoder_repetition_penalty", JPT_LINK_ENCODER_REPETITION_PENALTY, "encoder_repetition_penalty", 1, false, NULL, NULL},
    {"repetition_penalty", JPT_LINK_REPETITION_PENALTY, "repetition_penalty", 1, false, NULL, NULL},
    {"frequency_penalty", JPT_LINK_FREQUENCY_PENALTY, "frequency_penalty", 0, false, NULL, NULL},
    {"presence_penalty", JPT_LINK_PRESENCE_PENALTY, "presence_penalty", 0, false, NULL, NULL},
    {"dry", JPT_LINK_DRY, "dry_multiplier", 0, false, "dry_base", NULL},
    {"no_repeat_ngram", JPT_LINK_NO_REPEAT_NGRAM, "no_repeat_ngram_size", 0, false, NULL, NULL},
    {"encoder_no_repeat_ngram", JPT_LINK_ENCODER_NO_REPEAT_NGRAM, "encoder_no_repeat_ngram_size", 0, false, NULL, NULL},
    {"bad_words", JPT_LINK_BAD_WORDS, "bad_words", 0, false, NULL, NULL},
    {"min_new_tokens", JPT_LINK_MIN_NEW_TOKENS, NULL, 0, false, NULL, NULL}, /* and min_length */
    {"forced_bos", JPT_LINK_FORCED, "forced_bos_token_id", -1, false, NULL, NULL},
    {"forced_eos", JPT_LINK_FORCED, "forced_eos_token_id", -1, false, NULL, NULL},
    {"exponential_decay", JPT_LINK_EXPONENTIAL_DECAY, "exponential_decay_length_penalty", 0, false, NULL, NULL},
    {"suppress_tokens", JPT_LINK_SUPPRESS, "suppress_tokens", 0, false, NULL, NULL},
    {"begin_suppress_tokens", JPT_LINK_SUPPRESS, "begin_suppress_tokens", 0, false, NULL, NULL},
    {"temperature", JPT_LINK_TEMPERATURE, "temperature", 1, true, NULL, NULL},
    {"smoothing", JPT_LINK_SMOOTHING, "smoothing_factor", 0, true, "smoothing_curve", NULL},
    {"top_n_sigma", JPT_LINK_TOP_N_SIGMA, "top_n_sigma", 0, true, NULL, NULL},
    {"top_h", JPT_LINK_TOP_H, "top_h", 1, true, NULL, NULL},
    {"top_k", JPT_LINK_TOP_K, "top_k", 0, true, NULL, NULL},
    {"top_p", JPT_LINK_TOP_P, "top_p", 1, true, NULL, NULL},
    {"min_p", JPT_LINK_MIN_P, "min_p", 0, true, NULL, NULL},
    {"top_a", JPT_LINK_TOP_A, "top_a", 0, true, NULL, NULL},
    {"p_less", JPT_LINK_P_LESS, "p_less", 0, true, NULL, NULL},
    {"typical", JPT_LINK_TYPICAL, "typical_p", 1, true, NULL, NULL},
    {"epsilon", JPT_LINK_EPSILON, "epsilon_cutoff", 0, true, NULL, NULL},
    {"eta", JPT_LINK_ETA, "eta_cutoff", 0, true, NULL, NULL},
    {"xtc", JPT_LINK_XTC, "xtc_probability", 0, true, "xtc_threshold", NULL},
    {"renormalize", JPT_LINK_NORMALIZE, "renormalize_logits", 0, false, NULL, NULL},
};
enum { N_LINKS = sizeof links / sizeof links[0] };

static const struct {
    const char *name, *order;
} presets[] = {
    {"hf", ""}, /* the table's */
    {"llama.cpp", "logit_bias+repetition_penalty+frequency_penalty+presence_penalty+no_repeat_ngram+bad_words+min_new_tokens+dry+top_n_sigma+top_k+typical+top_p+min_p+"
                  "xtc+temperature"},
    {"vllm", "bad_words+min_new_tokens+logit_bias+repetition_penalty+frequency_penalty+presence_penalty+temperature+min_p+top_k+top_p"},
};

static const link_def *link_named(const char *p, size_t n) {
    for (int i = 0; i < N_LINKS; i++)
        if (strlen(links[i].name) == n && memcmp(links[i].name, p, n) == 0)
            return &links[i];
    return NULL;
}

/* Links in the order of a chain= text, and those it does not name.  JPT_ARG: unknown name. */
static jpt_status order_of(const char *text, const link_def *out[N_LINKS], jpt_error *err) {
    int n = 0;
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (strcmp(text, presets[i].name) == 0)
            text = presets[i].order;
    for (const char *p = text; *p;) {
        size_t          len = strcspn(p, "+");
        const link_def *l = link_named(p, len);
        if (!l) {
            const char *names[N_LINKS + 3];
            char        word[65];
            for (int i = 0; i < N_LINKS; i++)
                names[i] = links[i].name;
            for (int i = 0; i < 3; i++)
                names[N_LINKS + i] = presets[i].name;
            snprintf(word, sizeof word, "%.*s", (int)(len < 64 ? len : 64), p);
            const char *near = jpt_nearest(word, names, N_LINKS + 3);
            return JPT_FAIL(err, ARG, "chain: no link or order '%s'%s%s%s (orders: hf, llama.cpp, vllm; or links joined by +)", word,
                            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        }
        for (int i = 0; i < n; i++)
            if (out[i] == l)
                return JPT_FAIL(err, ARG, "chain: '%s' stands in it twice", l->name);
        out[n++] = l;
        p += len;
        p += *p == '+';
    }
    /* what the text does not name: processors before, warpers after, in HF's order; renormalisation last of all */
    const link_def *named[N_LINKS];
    int             n_named = n;
    memcpy(named, out, (size_t)n * sizeof *named);
    n = 0;
    for (int part = 0; part < 3; part++) {
        for (int i = 0; i < N_LINKS; i++) {
            bool there = false;
            int  goes = links[i].kind == JPT_LINK_NORMALIZE ? 2 : links[i].warper;
            for (int k = 0; k < n_named; k++)
                there = there || named[k] == &links[i];
            if (!there && goes == part)
                out[n++] = &links[i];
        }
        for (int k = 0; part == 0 && k < n_named; k++)
            out[n++] = named[k];
    }
    return JPT_OK;
}

/* Ids of a text: "id/id", or with_bias "id:bias/id:bias", or with sequences "id+id:bias/id:bias" (written as length, ids, length,
 * ids, ...).  Room: ids has place for one more than the text has characters, values for as many.  JPT_ARG: not of that form, or an id that
 * the vocabulary of n_vocab does not hold. */
typedef enum ids_form { IDS, IDS_BIAS, SEQUENCES_BIAS } ids_form;
static jpt_status read_ids(const char *name, const char *text, ids_form form, int32_t n_vocab, int32_t *ids, float *values, int32_t *n, jpt_error *err) {
    static const char *const forms[] = {"id/id, ids from 0", "id:bias/id:bias, ids from 0, biases in [-1e6, 1e6]", "id+id:bias/id:bias, ids from 0, biases in [-1e6, 1e6]"};
    int32_t n_values = 0;
    *n = 0;
    for (const char *p = text; *p;) {
        int32_t at = *n, len = 0;
        bool    ok = true;
        char   *end;
        *n += form == SEQUENCES_BIAS;
        do {
            p += len > 0; /* past the '+' */
            long id = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : -1;
            ok = id >= 0 && id < INT32_MAX;
            if (ok && id >= n_vocab)
                return JPT_FAIL(err, ARG, "%s=%.64s: the model has %d tokens, there is no id %ld", name, text, n_vocab, id);
            if (ok) {
                ids[(*n)++] = (int32_t)id;
                p = end;
                len++;
            }
        } while (ok && form == SEQUENCES_BIAS && *p == '+');
        if (ok && form != IDS) {
            double v = *p == ':' && p[1] && p[1] != '/' ? strtod(p + 1, &end) : NAN;
            ok = v >= -1e6 && v <= 1e6;
            values[n_values++] = (float)v;
            p = ok ? end : p;
        }
        if (!ok || (*p && (*p != '/' || !p[1])))
            return JPT_FAIL(err, ARG, "%s=%.64s: expected %s", name, text, forms[form]);
        if (form == SEQUENCES_BIAS)
            ids[at] = len;
        p += *p == '/';
    }
    return JPT_OK;
}

static const struct {
    const char *name;
    ids_form    form;
} id_params[] = {{"logit_bias", IDS_BIAS}, {"sequence_bias", SEQUENCES_BIAS}, {"suppress_tokens", IDS}, {"begin_suppress_tokens", IDS}, {"stop_words_ids", IDS}};

/* "start/factor" */
static jpt_status read_decay(const char *text, int32_t *start, double *factor, jpt_error *err) {
    char *end = NULL;
    long  from = strtol(text, &end, 10);
    *factor = end != text && *end == '/' && end[1] ? strtod(end + 1, &end) : NAN;
    if (*end || from < 0 || from > 1 << 24 || !(*factor > 0 && *factor <= 100))
        return JPT_FAIL(err, ARG, "exponential_decay_length_penalty=%.64s: expected start/factor, start from 0, factor in (0, 100]", text);
    *start = (int32_t)from;
    return JPT_OK;
}

jpt_status jpt_chain_check(const jpt_spec *spec, jpt_error *err) {
    const link_def *order[N_LINKS];
    int32_t         ids[sizeof spec->text], n;
    float           values[sizeof spec->text];
    double          factor;
    JPT_TRY(order_of(spec_string(spec, "chain"), order, err));
    for (size_t i = 0; i < sizeof id_params / sizeof *id_params; i++)
        JPT_TRY(read_ids(id_params[i].name, spec_string(spec, id_params[i].name), id_params[i].form, INT32_MAX, ids, values, &n, err));
    const char *decay = spec_string(spec, "exponential_decay_length_penalty");
    return *decay ? read_decay(decay, &n, &factor, err) : JPT_OK;
}

jpt_status jpt_ids_param(const jpt_spec *spec, const char *name, int32_t n_vocab, jpt_arena *arena, const int32_t **ids, int32_t *n, jpt_error *err) {
    const char *text = spec_string(spec, name);
    int32_t    *room = jpt_arena_alloc(arena, (strlen(text) + 1) * sizeof *room);
    *ids = room;
    return room ? read_ids(name, text, IDS, n_vocab, room, NULL, n, err) : JPT_FAIL(err, NOMEM, "out of memory for %s", name);
}

static jpt_status ids_link(const char *name, const char *text, int32_t n_vocab, built_chain *c, jpt_link *l, jpt_error *err) {
    size_t   cap = strlen(text) + 1;
    int32_t *ids = jpt_arena_alloc(&c->arena, cap * sizeof *ids);
    float   *values = jpt_arena_alloc(&c->arena, cap * sizeof *values);
    if (!ids || !values)
        return JPT_FAIL(err, NOMEM, "out of memory for %s", name);
    l->ids = ids, l->values = values;
    for (size_t i = 0; i < sizeof id_params / sizeof *id_params; i++)
        if (strcmp(id_params[i].name, name) == 0)
            JPT_TRY(read_ids(name, text, id_params[i].form, n_vocab, ids, values, &l->n_ids, err));
    return JPT_OK;
}

/* Each word twice: as it is, and with a space before it, as it stands inside a text. */
static jpt_status bad_words_link(const char *text, const jpt_tokenizer *tok, built_chain *c, jpt_link *l, jpt_error *err) {
    size_t   cap = 4 * strlen(text) + 64; /* a token has at least a byte of the word; prefixes of SentencePiece add a few */
    int32_t *ids = jpt_arena_alloc(&c->arena, cap * sizeof *ids), n = 0;
    if (!ids)
        return JPT_FAIL(err, NOMEM, "out of memory for bad_words");
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, "/");
        for (int spaced = 0; spaced < 2 && len; spaced++) {
            jpt_ids    word = {0};
            jpt_buf    b = {0};
            jpt_buf_printf(&b, "%s%.*s", spaced ? " " : "", (int)len, p);
            jpt_status st = b.oom ? JPT_FAIL(err, NOMEM, "out of memory") : jpt_tokenizer_encode(tok, b.p, b.n, 0, &word, err);
            if (st == JPT_OK && word.n && (size_t)n + word.n + 1 <= cap) {
                ids[n++] = (int32_t)word.n;
                memcpy(ids + n, word.p, word.n * sizeof *ids);
                n += (int32_t)word.n;
            }
            jpt_buf_fini(&b);
            jpt_ids_fini(&word);
            JPT_TRY(st);
        }
        p += len;
        p += *p == '/';
    }
    l->ids = ids, l->n_ids = n;
    return JPT_OK;
}

/* How often DRY's breakers may continue, and how long they may be, as llama.cpp has it. */
enum { BREAKER_CHARS = 40, BREAKER_TAIL = 20 };

/* One breaker: every token whose bytes hold it breaks alone; one that ends like its beginning does before the tokens of the rest. */
static jpt_status add_breaker(const jpt_tokenizer *tok, const char *text, size_t len, jpt_ids *heads, jpt_ids *tails, jpt_error *err) {
    for (int32_t id = 0, V = jpt_tokenizer_n_vocab(tok); id < V; id++) {
        jpt_str piece = jpt_token_piece(tok, id);
        if (!piece.n || jpt_tokenizer_is_control(tok, id))
            continue;
        if (memmem(piece.p, piece.n, text, len)) {
            if (!jpt_ids_push(heads, id))
                return JPT_FAIL(err, NOMEM, "out of memory for DRY");
            continue;
        }
        for (size_t k = len - 1; k > 0; k--) { /* its last k bytes are the breaker's first */
            if (k > piece.n || memcmp(piece.p + piece.n - k, text, k) != 0)
                continue;
            size_t  at = tails->n;
            jpt_ids rest = {0};
            bool    ok = jpt_ids_push(tails, 0) && jpt_ids_push(tails, id);
            jpt_status st = ok ? jpt_tokenizer_encode(tok, text + k, len - k, 0, &rest, err) : JPT_FAIL(err, NOMEM, "out of memory for DRY");
            for (size_t i = 0; st == JPT_OK && ok && i < rest.n && i < BREAKER_TAIL; i++)
                ok = jpt_ids_push(tails, rest.p[i]);
            jpt_ids_fini(&rest);
            if (st != JPT_OK || !ok)
                return st != JPT_OK ? st : JPT_FAIL(err, NOMEM, "out of memory for DRY");
            tails->p[at] = (int32_t)(tails->n - at - 2);
        }
    }
    return JPT_OK;
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* "text/text", with \n, \t, \s (slash) and \\ for what cannot be written; "none": no breaker. */
static jpt_status dry_breakers(const char *list, const jpt_tokenizer *tok, built_chain *c, jpt_link *l, jpt_error *err) {
    jpt_ids    heads = {0}, tails = {0};
    jpt_status st = JPT_OK;
    for (const char *p = strcmp(list, "none") == 0 ? "" : list; st == JPT_OK && *p;) {
        char   text[BREAKER_CHARS];
        size_t n = 0;
        for (; *p && *p != '/'; p++) {
            char ch = *p;
            if (ch == '\\' && p[1])
                ch = *++p == 'n' ? '\n' : *p == 't' ? '\t' : *p == 's' ? '/' : *p;
            if (n < sizeof text)
                text[n++] = ch;
        }
        p += *p == '/';
        if (n)
            st = add_breaker(tok, text, n, &heads, &tails, err);
    }
    if (st == JPT_OK && heads.n)
        qsort(heads.p, heads.n, sizeof *heads.p, by_id);
    int32_t *ids = jpt_arena_alloc(&c->arena, (heads.n + tails.n + 1) * sizeof *ids);
    if (st == JPT_OK && !ids)
        st = JPT_FAIL(err, NOMEM, "out of memory for DRY");
    if (st == JPT_OK) {
        if (heads.n)
            memcpy(ids, heads.p, heads.n * sizeof *ids);
        if (tails.n)
            memcpy(ids + heads.n, tails.p, tails.n * sizeof *ids);
        l->ids = ids, l->n_ids = (int32_t)heads.n;
        l->tails = ids + heads.n, l->n_tails = (int32_t)tails.n;
    }
    jpt_ids_fini(&heads);
    jpt_ids_fini(&tails);
    return st;
}

/* A forced id, told apart by its parameter: the first after a prompt of one token, the last of a full text.  false: never met. */
static jpt_status forced_link(const jpt_spec *spec, const char *param, const jpt_strategy_ctx *ctx, built_chain *c, jpt_link *l, bool *met, jpt_error *err) {
    int32_t id = (int32_t)spec_value(spec, param, -1), V = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab, *ids;
    bool    first = strcmp(param, "forced_bos_token_id") == 0;
    *met = id >= 0 && (!first || ctx->request->n_prompt == 1);
    if (id >= V)
        return JPT_FAIL(err, ARG, "%s=%d: the model has %d tokens", param, id, V);
    if (!*met)
        return JPT_OK;
    if (!(ids = jpt_arena_alloc(&c->arena, sizeof *ids)))
        return JPT_FAIL(err, NOMEM, "out of memory for a forced token");
    *ids = id;
    l->ids = ids, l->n_ids = 1;
    l->count = first ? 0 : jpt_text_limit(ctx) - 1;
    return JPT_OK;
}

jpt_status jpt_chain_build(const jpt_spec *spec, const jpt_strategy_ctx *ctx, bool warpers, built_chain *out, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(ctx->session));
    const link_def      *order[N_LINKS];
    jpt_chain           *c = &out->chain;
    int32_t              V = jpt_model_get_info(jpt_session_model(ctx->session))->n_vocab;
    *out = (built_chain){.chain = {.min_tokens_to_keep = (int32_t)spec_value(spec, "min_tokens_to_keep", 1), .n_eos = ctx->n_eos}};
    memcpy(c->eos, ctx->eos, sizeof c->eos);
    JPT_TRY(order_of(spec_string(spec, "chain"), order, err));
    for (int i = 0; i < N_LINKS; i++) {
        const link_def *d = order[i];
        jpt_link        l = {.kind = d->kind};
        if (d->warper && !warpers)
            continue;
        const char *text = d->param ? spec_string(spec, d->param) : "";
        switch (d->kind) {
        case JPT_LINK_BIAS:
        case JPT_LINK_SEQUENCE_BIAS:
        case JPT_LINK_SUPPRESS:
            if (!*text)
                continue;
            JPT_TRY(ids_link(d->param, text, V, out, &l, err));
            l.count = -1;
            if (strcmp(d->param, "begin_suppress_tokens") == 0) /* behind a forced first token the second is the first */
                l.count = ctx->request->n_prompt == 1 && spec_value(spec, "forced_bos_token_id", -1) >= 0;
            break;
        case JPT_LINK_BAD_WORDS:
            if (!*text)
                continue;
            JPT_TRY(bad_words_link(text, tok, out, &l, err));
            break;
        case JPT_LINK_MIN_NEW_TOKENS: {
            int32_t total = (int32_t)spec_value(spec, "min_length", 0) - ctx->request->n_prompt;
            l.count = ctx->request->min_new_tokens > total ? ctx->request->min_new_tokens : total;
            if (l.count < 1 || ctx->n_eos < 1)
                continue;
            break;
        }
        case JPT_LINK_FORCED: {
            bool met;
            JPT_TRY(forced_link(spec, d->param, ctx, out, &l, &met, err));
            if (!met)
                continue;
            break;
        }
        case JPT_LINK_EXPONENTIAL_DECAY:
            if (!*text || ctx->n_eos < 1)
                continue;
            JPT_TRY(read_decay(text, &l.count, &l.value, err));
            break;
        default:
            l.value = spec_value(spec, d->param, d->neutral);
            l.value2 = d->value2 ? spec_value(spec, d->value2, 0) : 0;
            l.count = (int32_t)l.value;
            double range = d->kind == JPT_LINK_TEMPERATURE ? spec_value(spec, "dynatemp_range", 0) : 0;
            if (l.value == d->neutral && range == 0)
                continue;
            if (range > 0)
                l = (jpt_link){.kind = JPT_LINK_DYNAMIC_TEMPERATURE, .value = l.value, .value2 = range, .value3 = spec_value(spec, "dynatemp_exponent", 1)};
            if (d->kind == JPT_LINK_DRY) {
                l.count = (int32_t)spec_value(spec, "dry_allowed_length", 2);
                l.count2 = (int32_t)spec_value(spec, "dry_penalty_last_n", -1);
                JPT_TRY(dry_breakers(spec_string(spec, "dry_sequence_breakers"), tok, out, &l, err));
            }
            if (d->kind == JPT_LINK_REPETITION_PENALTY || d->kind == JPT_LINK_FREQUENCY_PENALTY || d->kind == JPT_LINK_PRESENCE_PENALTY)
                l.count2 = (int32_t)spec_value(spec, "penalty_last_n", 0);
        }
        c->link[c->n_links++] = l;
    }
    return JPT_OK;
}

void jpt_chain_fini(built_chain *c) { jpt_arena_fini(&c->arena); }

jpt_select_item jpt_pick(const built_chain *c, const jpt_strategy_ctx *ctx, const token_list *history, int32_t row, bool sample, int32_t step) {
    const jpt_request *r = ctx->request;
    return (jpt_select_item){.row = row, .chain = c->chain.n_links ? &c->chain : NULL, .history = history->p, .n_history = history->n, .n_prompt = r->n_prompt,
                             .sample = sample, .key = {r->seed, r->prompt_index, 0, (uint32_t)step}};
}
