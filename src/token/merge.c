/* Pair merging for both kinds of BPE: a linked list of symbols and a heap of candidate pairs.
 *
 * Byte-level BPE takes the pair of lowest rank (Sennrich et al. 2016, GPT-2), SentencePiece the pair whose union has
 * the best score; ties go to the left.  With n symbols there are at most 3n candidates ever: O(n log n). */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

void jpt_merger_fini(struct jpt_merger *m) {
    free(m->symbol);
    free(m->heap);
    *m = (struct jpt_merger){0};
}

bool jpt_merger_add(struct jpt_merger *m, size_t start, size_t len, int32_t id) {
    if (m->n_symbols == m->cap_symbols) {
        size_t             cap = m->cap_symbols ? 2 * m->cap_symbols : 64;
        struct jpt_symbol *p = cap > INT32_MAX ? NULL : realloc(m->symbol, cap * sizeof *p);
        if (!p)
            return false;
        m->symbol = p;
        m->cap_symbols = cap;
    }
    int32_t i = (int32_t)m->n_symbols++;
    m->symbol[i] = (struct jpt_symbol){start, len, id, i - 1, -1};
    if (i)
        m->symbol[i - 1].next = i;
    return true;
}

static bool heap_push(struct jpt_merger *m, struct jpt_candidate c) {
    if (m->n_heap == m->cap_heap) {
        size_t                cap = m->cap_heap ? 2 * m->cap_heap : 64;
        struct jpt_candidate *p = realloc(m->heap, cap * sizeof *p);
        if (!p)
            return false;
        m->heap = p;
        m->cap_heap = cap;
    }
    size_t i = m->n_heap++;
    for (; i && m->heap[(i - 1) / 2].order > c.order; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
    return true;
}

static struct jpt_candidate heap_pop(struct jpt_merger *m) {
    struct jpt_candidate top = m->heap[0], last = m->heap[--m->n_heap];
    size_t               i = 0;
    for (size_t k; (k = 2 * i + 1) < m->n_heap; i = k) {
        if (k + 1 < m->n_heap && m->heap[k + 1].order < m->heap[k].order)
            k++;
        if (m->heap[k].order >= last.order)
            break;
        m->heap[i] = m->heap[k];
    }
    m->heap[i] = last;
    return top;
}

/* Smaller for a better score.  Adding 0 makes -0 and 0 one. */
static uint32_t score_order(float score) {
    float    f = score + 0.0f;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u >> 31 ? u : ~(u | 0x80000000u);
}

/* Put the pair (left, its successor) on the heap when it merges into something. */
static bool consider(struct jpt_merger *m, const jpt_tokenizer *tok, const char *text, int32_t left) {
    const struct jpt_symbol *l = &m->symbol[left];
    if (l->next < 0)
        return true;
    const struct jpt_symbol *r = &m->symbol[l->next];
    struct jpt_candidate     c = {0, l->len + r->len, left, l->next, -1};
    uint32_t                 order;
    if (tok->kind == JPT_TOKEN_BPE) {
        const struct jpt_merge *merge = jpt_merge_find(tok, l->id, r->id);
        if (!merge)
            return true;
        order = merge->rank;
        c.id = merge->id;
    } else {
        if (c.len > tok->max_text)
            return true;
        c.id = jpt_tokenizer_find(tok, (jpt_str){text + l->start, c.len});
        if (c.id < 0 || tok->type[c.id] != JPT_TOKEN_NORMAL)
            return true;
        order = score_order(tok->score[c.id]);
    }
    c.order = (uint64_t)order << 32 | (uint32_t)left;
    return heap_push(m, c);
}

bool jpt_merger_run(struct jpt_merger *m, const jpt_tokenizer *tok, const char *text) {
    m->n_heap = 0;
    for (size_t i = 0; i + 1 < m->n_symbols; i++)
        if (!consider(m, tok, text, (int32_t)i))
            return false;
    while (m->n_heap) {
        struct jpt_candidate c = heap_pop(m);
        struct jpt_symbol   *l = &m->symbol[c.left], *r = &m->symbol[c.right];
        if (l->next != c.right || !l->len || l->len + r->len != c.len)
            continue; /* one of the two has grown or gone meanwhile */
        l->len = c.len;
        l->id = c.id;
        l->next = r->next;
        r->len = 0;
        r->next = -1;
        if (l->next >= 0)
            m->symbol[l->next].prev = c.left;
        if ((l->prev >= 0 && !consider(m, tok, text, l->prev)) || !consider(m, tok, text, c.left))
            return false;
    }
    return true;
}
