/* From a spec's parameters to a chain of links, in a named order. */
#include "decode_priv.h"
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
    {"repetition_penalty", JPT_LINK_REPETITION_PENALTY, "repetition_penalty", 1, false, NULL, NULL},
    {"frequency_penalty", JPT_LINK_FREQUENCY_PENALTY, "frequency_penalty", 0, false, NULL, NULL},
    {"presence_penalty", JPT_LINK_PRESENCE_PENALTY, "presence_penalty", 0, false, NULL, NULL},
    {"dry", JPT_LINK_DRY, "dry_multiplier", 0, false, "dry_base", NULL},
    {"no_repeat_ngram", JPT_LINK_NO_REPEAT_NGRAM, "no_repeat_ngram_size", 0, false, NULL, NULL},
    {"bad_words", JPT_LINK_BAD_WORDS, "bad_words", 0, false, NULL, NULL},
    {"min_new_tokens", JPT_LINK_MIN_NEW_TOKENS, NULL, 0, false, NULL, NULL},
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

/* Links in the order of a chain= text, then those it does not name, in HF's order.  JPT_ARG: unknown name. */
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
    for (int i = 0, named = n; i < N_LINKS; i++) {
        bool there = false;
        for (int k = 0; k < named; k++)
            there = there || out[k] == &links[i];
        if (!there)
            out[n++] = &links[i];
    }
    return JPT_OK;
}

/* "id:bias/id:bias"; counts only when ids is NULL. */
static jpt_status read_bias(const char *text, int32_t *ids, float *values, int32_t *n, jpt_error *err) {
    *n = 0;
    for (const char *p = text; *p;) {
        char  *end;
        long   id = strtol(p, &end, 10);
        double v = *end == ':' && end != p ? strtod(end + 1, &end) : 0;
        if (end == p || (*end && *end != '/') || id < 0 || id > INT32_MAX || !(v >= -1e6 && v <= 1e6) || !memchr(p, ':', (size_t)(end - p)))
            return JPT_FAIL(err, ARG, "logit_bias=%.64s: expected id:bias/id:bias, ids from 0, biases in [-1e6, 1e6]", text);
        if (ids) {
            ids[*n] = (int32_t)id;
            values[*n] = (float)v;
        }
        ++*n;
        p = end + (*end == '/');
    }
    return JPT_OK;
}

jpt_status jpt_chain_check(const jpt_spec *spec, jpt_error *err) {
    const link_def *order[N_LINKS];
    int32_t         n;
    JPT_TRY(order_of(spec_string(spec, "chain"), order, err));
    return read_bias(spec_string(spec, "logit_bias"), NULL, NULL, &n, err);
}

static jpt_status bias_link(const char *text, built_chain *c, jpt_link *l, jpt_error *err) {
    int32_t n;
    JPT_TRY(read_bias(text, NULL, NULL, &n, err));
    int32_t *ids = jpt_arena_alloc(&c->arena, (size_t)n * sizeof *ids);
    float   *values = jpt_arena_alloc(&c->arena, (size_t)n * sizeof *values);
    if (!ids || !values)
        return JPT_FAIL(err, NOMEM, "out of memory for logit_bias");
    l->ids = ids, l->values = values;
    return read_bias(text, ids, values, &l->n_ids, err);
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

/* llama.cpp's breakers: newline, colon, double quote, asterisk, where they are one token. */
static jpt_status dry_breakers(const jpt_tokenizer *tok, built_chain *c, jpt_link *l, jpt_error *err) {
    static const char *const texts[] = {"\n", ":", "\"", "*"};
    int32_t                 *ids = jpt_arena_alloc(&c->arena, 4 * sizeof *ids);
    if (!ids)
        return JPT_FAIL(err, NOMEM, "out of memory for DRY");
    for (int i = 0; i < 4; i++) {
        jpt_ids    one = {0};
        jpt_status st = jpt_tokenizer_encode(tok, texts[i], 1, 0, &one, err);
        if (st == JPT_OK && one.n == 1)
            ids[l->n_ids++] = one.p[0];
        jpt_ids_fini(&one);
        JPT_TRY(st);
    }
    l->ids = ids;
    return JPT_OK;
}

jpt_status jpt_chain_build(const jpt_spec *spec, const jpt_strategy_ctx *ctx, bool warpers, built_chain *out, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(ctx->session));
    const link_def      *order[N_LINKS];
    jpt_chain           *c = &out->chain;
    *out = (built_chain){.chain = {.min_tokens_to_keep = (int32_t)spec_value(spec, "min_tokens_to_keep", 1), .n_eos = ctx->n_eos}};
    memcpy(c->eos, ctx->eos, sizeof c->eos);
    JPT_TRY(order_of(spec_string(spec, "chain"), order, err));
    for (int i = 0; i < N_LINKS; i++) {
        const link_def *d = order[i];
        jpt_link        l = {.kind = d->kind};
        if (d->warper && !warpers)
            continue;
        if (d->kind == JPT_LINK_BIAS || d->kind == JPT_LINK_BAD_WORDS) {
            const char *text = spec_string(spec, d->param);
            if (!*text)
                continue;
            JPT_TRY(d->kind == JPT_LINK_BIAS ? bias_link(text, out, &l, err) : bad_words_link(text, tok, out, &l, err));
        } else if (d->kind == JPT_LINK_MIN_NEW_TOKENS) {
            if (ctx->request->min_new_tokens < 1 || ctx->n_eos < 1)
                continue;
            l.count = ctx->request->min_new_tokens;
        } else {
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
                JPT_TRY(dry_breakers(tok, out, &l, err));
            }
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
