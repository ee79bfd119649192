/* The best of a row of scores, without sorting the vocabulary; and the row measures that samplers with a memory learn from. */
#include "choose.h"
#include "rows.h"
#include <jpt/select.h>
#include <math.h>
#include <stdlib.h>

int32_t jpt_scratch_entries(int32_t n_vocab) { return n_vocab > 4096 ? n_vocab : 4096; }

size_t jpt_select_scratch_bytes(int32_t n_vocab) {
    return (size_t)jpt_scratch_entries(n_vocab) * sizeof(entry) + (size_t)n_vocab * (2 * sizeof(float) + sizeof(int32_t));
}

select_room jpt_select_room(void *scratch, int32_t n) {
    select_room r = {.e = scratch};
    r.p = (float *)(r.e + jpt_scratch_entries(n));
    r.key = r.p + n;
    r.bin = (int32_t *)(r.key + n);
    return r;
}

entry jpt_kth_entry(const float *z, int32_t n, int32_t k, const select_room *r) {
    entry at = {-INFINITY, 1, 0};
    float max = largest(z, n);
    (void)jpt_mass_boundary(z, NULL, n, max - SPAN_NATS, max, (float)(n - k), false, r, &at);
    return at;
}

float jpt_kth_largest(const float *z, int32_t n, int32_t k, const select_room *r) {
    if (k == 1)
        return largest(z, n);
    float bound = jpt_kth_bound(z, n, k, r->key);
    if (bound == -INFINITY)
        return jpt_kth_entry(z, n, k, r).key;
    int32_t m = rows()->between(z, n, bound, INFINITY, r->bin);
    for (int32_t i = 0; i < m; i++)
        r->e[i] = (entry){-z[r->bin[i]], 1, r->bin[i]};
    return -r->e[jpt_mass_cut(r->e, m, 0, (float)k, true)].key;
}

static int in_order(const void *a, const void *b) { return entry_before(a, b) ? -1 : entry_before(b, a); }

int32_t jpt_best_entries(const float *z, int32_t n, int32_t k, const select_room *r) {
    entry  *e = r->e;
    float   bound = jpt_kth_bound(z, n, k, r->key);
    int32_t m = rows()->between(z, n, bound, INFINITY, r->bin), left = 0;
    for (int32_t i = 0; i < m; i++)
        if (z[r->bin[i]] > -INFINITY)
            e[left++] = (entry){-z[r->bin[i]], 1, r->bin[i]};
    if (left > k) {
        jpt_mass_cut(e, left, 0, (float)k, true);
        left = k;
    }
    qsort(e, (size_t)left, sizeof *e, in_order);
    return left;
}

/* ---- for strategies that filter on their own ---------------------------------------------------------------- */

int32_t jpt_best_scores(const float *z, int32_t n, int32_t k, void *scratch, int32_t *id) {
    select_room r = jpt_select_room(scratch, n);
    int32_t     m = k < 1 ? 0 : jpt_best_entries(z, n, k < n ? k : n, &r);
    for (int32_t i = 0; i < m; i++)
        id[i] = r.e[i].id;
    return m;
}

void jpt_keep_best(float *z, int32_t n, int32_t k, void *scratch) {
    select_room r = jpt_select_room(scratch, n);
    jpt_keep_best_in(z, n, k, &r);
}

void jpt_keep_best_in(float *z, int32_t n, int32_t k, const select_room *r) {
    if (k >= n)
        return;
    float bound = jpt_kth_largest(z, n, k, r);
    rows()->cut_below(z, z, n, (double)bound);
    for (int32_t i = n, over = rows()->count_finite(z, n) - k; i-- > 0 && over > 0;) /* of equal ones the last go */
        if (z[i] == bound && bound > -INFINITY) {
            z[i] = -INFINITY;
            over--;
        }
}

void jpt_aim_row(const float *logp, int32_t n, float at, float *score) { rows()->aim(logp, n, at, score); }

double jpt_entropy_eps(const float *logp, int32_t n, float eps) { return rows()->entropy_eps(logp, n, eps); }
