/* Chains of links as the card runs them (choose.cu, rank.cu).
 *
 * What a processor does depends on the text, not on the scores, so it goes over as a list of edits of single ids.  Edits of one link
 * happen at once: an id's second edit in a list is a link of its own. */
#include "cuda.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_edit(edits *l, int32_t id, int32_t V, int op, float value) {
    if (id < 0 || id >= V)
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        edit  *grown = realloc(l->e, cap * sizeof *grown);
        l->oom = l->oom || !grown;
        if (!grown)
            return;
        l->e = grown;
        l->cap = cap;
    }
    l->e[l->n++] = (edit){id, op, value};
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Each distinct id of ids[0..n) once, with its count. */
static void count_ids(edits *l, const int32_t *ids, int32_t n, int32_t V, int op, float value, float each) {
    int32_t *sorted = malloc((size_t)(n > 0 ? n : 1) * sizeof *sorted);
    l->oom = l->oom || !sorted;
    if (!sorted)
        return;
    memcpy(sorted, ids, (size_t)(n > 0 ? n : 0) * sizeof *ids);
    qsort(sorted, (size_t)(n > 0 ? n : 0), sizeof *sorted, by_id);
    for (int32_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && sorted[k] == sorted[i]; k++)
            ;
        add_edit(l, sorted[i], V, op, op == E_PENALTY ? value : value + each * (float)(k - i));
    }
    free(sorted);
}

/* Where the window of a penalty begins: its own rule with count2 = 0, else so many last tokens. */
static int32_t window_from(const jpt_link *l, const jpt_select_item *it, int32_t own_rule) {
    return l->count2 == 0 ? own_rule : l->count2 < 0 || l->count2 > it->n_history ? 0 : it->n_history - l->count2;
}

/* Do the ids before a sequence's last end the text? */
static bool ends_with(const jpt_select_item *it, const int32_t *ids, int32_t len) {
    return len >= 1 && len - 1 <= it->n_history && memcmp(it->history + it->n_history - (len - 1), ids, (size_t)(len - 1) * sizeof *ids) == 0;
}

/* DRY depends on the text alone: the definition on a row of zeros, read where the text's ids are. */
static jpt_status dry_edits(cuda_backend *c, const jpt_link *l, const jpt_select_item *it, int32_t V, edits *out, jpt_error *err) {
    jpt_chain one = {.n_links = 1, .min_tokens_to_keep = 1, .link = {*l}};
    JPT_TRY(host_select_room(&c->host, V, err));
    float *z = c->host.select_work;
    for (int32_t i = 0; i < it->n_history; i++)
        if (it->history[i] >= 0 && it->history[i] < V)
            z[it->history[i]] = 0;
    JPT_TRY(jpt_chain_apply(&one, it, z, V, c->host.select_scratch, err));
    for (int32_t i = 0; i < it->n_history; i++)
        if (it->history[i] >= 0 && it->history[i] < V && z[it->history[i]] != 0) {
            add_edit(out, it->history[i], V, E_ADD, z[it->history[i]]);
            z[it->history[i]] = 0;
        }
    return JPT_OK;
}

/* The edits of a processor, each id once. */
static jpt_status edits_of(cuda_backend *c, const jpt_link *l, const jpt_chain *chain, const jpt_select_item *it, int32_t V, edits *out, jpt_error *err) {
    const int32_t *h = it->history, n = it->n_history, own = n - it->n_prompt, from = window_from(l, it, l->kind == JPT_LINK_REPETITION_PENALTY ? 0 : it->n_prompt);
    switch (l->kind) {
    case JPT_LINK_REPETITION_PENALTY: count_ids(out, h + from, n - from, V, E_PENALTY, (float)l->value, 0); break;
    case JPT_LINK_ENCODER_REPETITION_PENALTY: count_ids(out, h, it->n_prompt, V, E_PENALTY, (float)(1 / l->value), 0); break;
    case JPT_LINK_FREQUENCY_PENALTY: count_ids(out, h + from, n - from, V, E_ADD, 0, -(float)l->value); break;
    case JPT_LINK_PRESENCE_PENALTY: count_ids(out, h + from, n - from, V, E_ADD, -(float)l->value, 0); break;
    case JPT_LINK_DRY: return dry_edits(c, l, it, V, out, err);
    case JPT_LINK_NO_REPEAT_NGRAM:
    case JPT_LINK_ENCODER_NO_REPEAT_NGRAM:
        if (n + 1 >= l->count)
            for (int32_t i = 0; i + l->count <= (l->kind == JPT_LINK_NO_REPEAT_NGRAM ? n : it->n_prompt); i++)
                if (memcmp(h + i, h + n - (l->count - 1), (size_t)(l->count - 1) * sizeof *h) == 0)
                    add_edit(out, h[i + l->count - 1], V, E_BAN, 0);
        break;
    case JPT_LINK_BAD_WORDS:
        for (int32_t at = 0; at < l->n_ids; at += 1 + l->ids[at])
            if (ends_with(it, l->ids + at + 1, l->ids[at]))
                add_edit(out, l->ids[at + l->ids[at]], V, E_BAN, 0);
        break;
    case JPT_LINK_MIN_NEW_TOKENS:
        for (int32_t i = 0; i < chain->n_eos && own < l->count; i++)
            add_edit(out, chain->eos[i], V, E_BAN, 0);
        break;
    case JPT_LINK_SUPPRESS:
        for (int32_t i = 0; i < l->n_ids && (l->count < 0 || own == l->count); i++)
            add_edit(out, l->ids[i], V, E_BAN, 0);
        break;
    default: break;
    }
    return JPT_OK;
}

/* ---- links ------------------------------------------------------------------------------------------------------------------ */

typedef struct list {
    dev_link *link;
    int      *n;
    edits    *e;
    int32_t   V;
    bool     *known; /* false: it has no room for a link */
} list;

static void add_link(list *to, dev_link l) {
    if (*to->n == DEV_LINKS)
        *to->known = false;
    else
        to->link[(*to->n)++] = l;
}

/* The edits from `first` on as a link; none: no link. */
static void add_edits(list *to, size_t first) {
    if (to->e->n > first)
        add_link(to, (dev_link){.kind = D_EDITS, .first = (int)first, .count = (int)(to->e->n - first)});
}

/* op of ids[i] with values[i], in this order. */
static void add_in_order(list *to, const int32_t *ids, const float *values, int32_t n, int op) {
    int32_t left = n;
    for (int32_t time = 0; left > 0 && *to->known; time++) { /* an id's first edit, its second, ... */
        size_t first = to->e->n;
        for (int32_t i = 0; i < n; i++) {
            int32_t earlier = 0;
            for (int32_t k = 0; k < i; k++)
                earlier += ids[k] == ids[i];
            if (earlier == time) {
                add_edit(to->e, ids[i], to->V, op, values[i]);
                left--;
            }
        }
        add_edits(to, first);
    }
}

static jpt_status sequence_bias(list *to, const jpt_link *l, const jpt_select_item *it, jpt_error *err) {
    size_t   cap = (size_t)(l->n_ids > 0 ? l->n_ids : 1);
    int32_t *ids = malloc(cap * sizeof *ids), n = 0;
    float   *values = malloc(cap * sizeof *values);
    bool     room = ids && values;
    for (int32_t at = 0, k = 0; room && at < l->n_ids; at += 1 + l->ids[at], k++)
        if (ends_with(it, l->ids + at + 1, l->ids[at]))
            ids[n] = l->ids[at + l->ids[at]], values[n++] = l->values[k];
    if (room)
        add_in_order(to, ids, values, n, E_ADD);
    free(ids);
    free(values);
    return room ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for biases");
}

/* Only ids stay; `forced`: at score 0. */
static void add_only(list *to, const jpt_link *l, bool forced) {
    size_t first = to->e->n;
    for (int32_t i = 0; i < l->n_ids; i++)
        add_edit(to->e, l->ids[i], to->V, E_SET, 0);
    dev_link d = {.kind = D_ALLOWED, .first = (int)first, .count = (int)(to->e->n - first)};
    add_link(to, d);
    d.kind = D_EDITS;
    if (forced && d.count)
        add_link(to, d);
}

static void grow_ends(list *to, const jpt_link *l, const jpt_chain *chain, int32_t over) {
    float by[JPT_EOS_MAX];
    for (int32_t i = 0; i < chain->n_eos; i++)
        by[i] = (float)fmin(1e30, pow(l->value, over) - 1);
    if (over > 0)
        add_in_order(to, chain->eos, by, chain->n_eos, E_GROW);
}

static int cut_of(jpt_link_kind k) {
    switch (k) {
    case JPT_LINK_TEMPERATURE: return D_TEMPERATURE;
    case JPT_LINK_DYNAMIC_TEMPERATURE: return D_DYNAMIC_TEMPERATURE;
    case JPT_LINK_SMOOTHING: return D_SMOOTHING;
    case JPT_LINK_TOP_K: return D_TOP_K;
    case JPT_LINK_TOP_N_SIGMA: return D_TOP_N_SIGMA;
    case JPT_LINK_TOP_P: return D_TOP_P;
    case JPT_LINK_MIN_P: return D_MIN_P;
    case JPT_LINK_TOP_A: return D_TOP_A;
    case JPT_LINK_P_LESS: return D_P_LESS;
    case JPT_LINK_TOP_H: return D_TOP_H;
    case JPT_LINK_TYPICAL: return D_TYPICAL;
    case JPT_LINK_EPSILON: return D_EPSILON;
    case JPT_LINK_ETA: return D_ETA;
    case JPT_LINK_XTC: return D_XTC;
    case JPT_LINK_NORMALIZE: return D_NORMALIZE;
    case JPT_LINK_SURPRISE: return D_SURPRISE;
    case JPT_LINK_ZIPF: return D_ZIPF;
    case JPT_LINK_AIM: return D_AIM;
    default: return -1;
    }
}

static void add_guard(list *to, const jpt_link *l, const jpt_select_item *it) {
    JPT_ASSERT(l->count >= 2 && l->count <= JPT_GUARD_WINDOW);
    dev_link d = {.kind = D_GUARD, .first = (int)to->e->n, .value = (float)l->count, .second = l->n_ids};
    count_ids(to->e, it->history, it->n_history, to->V, E_ADD, 0, 1);
    d.count = (int)to->e->n - d.first;
    for (int32_t i = 0; i < l->n_ids; i++) {
        d.mass = 0.95 * d.mass + (double)l->values[i];
        d.third = 0.95 * d.third + 1;
        if (i >= l->n_ids - l->count)
            add_edit(to->e, 0, to->V, E_ADD, l->values[i]);
    }
    add_link(to, d);
}

jpt_status cuda_links(cuda_backend *c, const jpt_select_item *it, int32_t V, dev_link *link, int *n, edits *e, bool *known, jpt_error *err) {
    list to = {link, n, e, V, known};
    *n = 0;
    for (int32_t i = 0; it->chain && *known && i < it->chain->n_links; i++) {
        const jpt_link *l = &it->chain->link[i];
        size_t          first = e->n;
        int32_t         own = it->n_history - it->n_prompt;
        int             cut = cut_of(l->kind);
        if (l->kind == JPT_LINK_XTC && (l->value <= 0 || l->value2 > 0.5 || jpt_rng_uniform(it->key, 1) > l->value))
            continue; /* the draw says no */
        if (cut >= 0) {
            double mass = cut == D_SURPRISE ? exp2(-l->value) : l->value;
            add_link(&to, (dev_link){.kind = cut, .count = l->count, .value = (float)l->value, .mass = mass, .second = l->value2, .third = l->value3});
            continue;
        }
        switch (l->kind) {
        case JPT_LINK_BIAS: add_in_order(&to, l->ids, l->values, l->n_ids, E_ADD); break;
        case JPT_LINK_SEQUENCE_BIAS: JPT_TRY(sequence_bias(&to, l, it, err)); break;
        case JPT_LINK_ALLOWED: add_only(&to, l, false); break;
        case JPT_LINK_FORCED:
            if (own == l->count)
                add_only(&to, l, true);
            break;
        case JPT_LINK_EXPONENTIAL_DECAY: grow_ends(&to, l, it->chain, own - l->count); break;
        case JPT_LINK_GUARD: add_guard(&to, l, it); break;
        default:
            JPT_TRY(edits_of(c, l, it->chain, it, V, e, err));
            add_edits(&to, first);
        }
    }
    return e->oom ? JPT_FAIL(err, NOMEM, "out of memory for edits of scores") : JPT_OK;
}
