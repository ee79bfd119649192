/* What a session offers to strategies that compare: lists of hidden states, and contrasted logits. */
#include "model_priv.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- hidden states ------------------------------------------------------------------------------------------- */

struct jpt_states {
    jpt_session *s;
    float       *d; /* [room, D] */
    int32_t      n, room;
    bool         unit;
    jpt_states  *next; /* spare */
};

jpt_status jpt_states_new(jpt_session *s, int32_t room, bool unit, jpt_states **out, jpt_error *err) {
    jpt_backend *be = s->model->be;
    jpt_states  *h = NULL;
    size_t       D = (size_t)s->model->file.hp.n_embd;
    for (jpt_states **at = &s->spare; *at; at = &(*at)->next)
        if ((*at)->room >= room) {
            h = *at;
            *at = h->next;
            break;
        }
    if (!h) {
        h = calloc(1, sizeof *h);
        int32_t cap = (room + 1023) & ~1023; /* so that the next one may do with it */
        if (h && !(h->d = be->ops->alloc(be, (size_t)cap * D * sizeof *h->d))) {
            free(h);
            h = NULL;
        }
        if (!h)
            return JPT_FAIL(err, NOMEM, "out of memory for the hidden states of %d positions", room);
        h->room = cap;
    }
    h->s = s;
    h->n = 0;
    h->unit = unit;
    h->next = NULL;
    *out = h;
    return JPT_OK;
}

void jpt_states_free(jpt_states *h) {
    if (!h)
        return;
    h->next = h->s->spare;
    h->s->spare = h;
}

void jpt_states_fini(jpt_session *s) {
    for (jpt_states *h = s->spare, *next; h; h = next) {
        next = h->next;
        s->model->be->ops->free(s->model->be, h->d);
        free(h);
    }
    s->spare = NULL;
}

int32_t jpt_states_count(const jpt_states *h) { return h->n; }

static jpt_status check_rows(const jpt_states *h, int32_t first, int32_t n, jpt_error *err) {
    if (n < 1)
        return JPT_FAIL(err, ARG, "%d hidden rows: expected at least one", n);
    JPT_TRY(jpt_check_row(first, h->s->n_hidden, "hidden", err));
    return jpt_check_row(first + n - 1, h->s->n_hidden, "hidden", err);
}

jpt_status jpt_states_add(jpt_states *h, int32_t first, int32_t n, jpt_error *err) {
    jpt_backend *be = h->s->model->be;
    int32_t      D = h->s->model->file.hp.n_embd;
    JPT_TRY(check_rows(h, first, n, err));
    if (n > h->room - h->n)
        return JPT_FAIL(err, CTX_FULL, "%d hidden states after %d do not fit the list's %d", n, h->n, h->room);
    be->ops->keep_rows(be, h->s->d_hidden + (size_t)first * (size_t)D, n, D, h->unit, h->d + (size_t)h->n * (size_t)D);
    h->n += n;
    return JPT_OK;
}

jpt_status jpt_states_similarity(const jpt_states *h, int32_t first, int32_t n, float *out, jpt_error *err) {
    jpt_session *s = h->s;
    jpt_backend *be = s->model->be;
    int32_t      D = s->model->file.hp.n_embd;
    JPT_TRY(check_rows(h, first, n, err));
    if (h->n < 1 || !h->unit)
        return JPT_FAIL(err, ARG, "a similarity needs unit rows to compare with");
    jpt_session_event(s, JPT_PHASE_SELECT, true);
    jpt_status st = be->ops->similarity(be, s->d_hidden + (size_t)first * (size_t)D, n, D, h->d, h->n, out, err);
    jpt_session_waited(s, JPT_PHASE_SELECT);
    return st;
}

jpt_status jpt_states_dots(const jpt_states *h, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err) {
    jpt_session *s = h->s;
    jpt_backend *be = s->model->be;
    for (int32_t i = 0; i < n; i++) {
        JPT_TRY(jpt_check_row(a[i], h->n, "kept", err));
        JPT_TRY(jpt_check_row(b[i], h->n, "kept", err));
    }
    if (n < 1)
        return JPT_OK;
    jpt_session_event(s, JPT_PHASE_SELECT, true);
    jpt_status st = be->ops->row_dots(be, h->d, s->model->file.hp.n_embd, a, b, n, out, err);
    jpt_session_waited(s, JPT_PHASE_SELECT);
    return st;
}

/* ---- contrast ----------------------------------------------------------------------------------------------------- */

static jpt_status rows_of_logits(jpt_session *s, float **d, jpt_error *err) {
    if (!*d)
        *d = s->model->be->ops->alloc(s->model->be, (size_t)s->opt.n_outputs * (size_t)s->model->file.hp.n_vocab * sizeof(float));
    return *d ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d rows of contrasted logits", s->opt.n_outputs);
}

/* Can one read where the other computes?  Host memory, or one card: addresses hold in its one context. */
static bool share_memory(const jpt_backend *a, const jpt_backend *b) {
    if (a->ops != b->ops || !a->ops->gpu_uuid)
        return a->ops == b->ops;
    const char *x = a->ops->gpu_uuid(a), *y = b->ops->gpu_uuid(b);
    return a == b || (x && y && *x && strcmp(x, y) == 0);
}

/* Rows of an amateur on another device, or of another length (padding), to d_amateur, each where the expert's row has its number.
 * Ids that the amateur's smaller vocabulary lacks are gone from both. */
static jpt_status bring(jpt_session *s, jpt_session *amateur, const int32_t *rows, const int32_t *from, int32_t n, jpt_error *err) {
    jpt_backend *be = s->model->be;
    size_t       V = (size_t)s->model->file.hp.n_vocab, own = (size_t)amateur->model->file.hp.n_vocab;
    float       *z = malloc((V > own ? V : own) * sizeof *z);
    if (!z)
        return JPT_FAIL(err, NOMEM, "out of memory for the amateur's logits");
    jpt_status st = rows_of_logits(s, &s->d_amateur, err);
    for (int32_t i = 0; st == JPT_OK && i < n; i++) {
        st = jpt_session_logits(amateur, from[i], z, err);
        for (size_t v = own; v < V; v++)
            z[v] = -INFINITY;
        if (st == JPT_OK)
            be->ops->upload(be, s->d_amateur + (size_t)rows[i] * V, z, V * sizeof *z);
        if (st == JPT_OK && own < V)
            be->ops->upload(be, s->d_logits + (size_t)rows[i] * V + own, z + own, (V - own) * sizeof *z);
    }
    free(z);
    return st;
}

jpt_status jpt_session_contrast(jpt_session *s, const jpt_contrast *how, const int32_t *rows, int32_t n, jpt_session *amateur, const int32_t *amateur_rows, jpt_error *err) {
    jpt_backend *be = s->model->be;
    int32_t      V = s->model->file.hp.n_vocab, n_base = 1, stride = 0;
    for (int32_t i = 0; i < n; i++) {
        JPT_TRY(jpt_check_row(rows[i], s->n_logits, "logits", err));
        if (amateur)
            JPT_TRY(jpt_check_row(amateur_rows[i], amateur->n_logits, "the amateur's logits", err));
    }
    if (!amateur && s->n_exit < 1)
        return JPT_FAIL(err, ARG, "a contrast needs an early exit or an amateur");
    JPT_TRY(rows_of_logits(s, &s->d_expert, err));
    const int32_t *base_rows = rows;
    float         *d_base = s->d_logits + (size_t)s->n_logits * (size_t)V;
    jpt_session_event(s, JPT_PHASE_SELECT, true);
    jpt_status st = JPT_OK;
    if (!amateur) {
        n_base = how->form == JPT_CONTRAST_DOLA ? s->n_exit : 1;
        stride = s->n_logits;
    } else if (share_memory(be, amateur->model->be) && amateur->model->file.hp.n_vocab == V) {
        amateur->model->be->ops->sync(amateur->model->be);
        d_base = amateur->d_logits;
        base_rows = amateur_rows;
    } else {
        st = bring(s, amateur, rows, amateur_rows, n, err);
        d_base = s->d_amateur;
    }
    if (st == JPT_OK)
        st = be->ops->contrast(be, how, s->d_logits, V, rows, n, d_base, n_base, stride, base_rows, s->d_expert, err);
    jpt_session_event(s, JPT_PHASE_SELECT, false);
    return st;
}

jpt_status jpt_session_expert(jpt_session *s, int32_t row, int32_t token, float *logprob, jpt_error *err) {
    int32_t V = s->model->file.hp.n_vocab;
    JPT_TRY(jpt_check_row(row, s->n_logits, "logits", err));
    JPT_TRY(jpt_check_row(token, V, "token", err));
    if (!s->d_expert)
        return JPT_FAIL(err, ARG, "no row was contrasted");
    s->model->be->ops->download(s->model->be, logprob, s->d_expert + (size_t)row * (size_t)V + (size_t)token, sizeof *logprob);
    return jpt_device_status(s, err);
}
