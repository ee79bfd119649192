/* Finding the k-th largest and the place where a running mass passes a limit, without sorting a vocabulary. */
#ifndef JPT_REF_CHOOSE_H
#define JPT_REF_CHOOSE_H

#include <jpt/select.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct entry {
    float   key, weight;
    int32_t id;
} entry;

/* (key, id) in ascending order */
static inline bool entry_before(const entry *a, const entry *b) { return a->key < b->key || (a->key == b->key && a->id < b->id); }

/* With e[0..n) ordered by (key, id): the first entry at which the running weight, rounded to float32, exceeds
 * `limit` (or reaches it, when `reach`), begun at `base`; n when none does.  Reorders e: entries before the result come first. */
int32_t jpt_mass_cut(entry *e, int32_t n, double base, float limit, bool reach);

/* A lower bound of the k-th largest of z that is near it when k is small: the k-th largest among the maxima of groups of 64.
 * -INFINITY when there are fewer groups.  room: 2 * (n / 64 + 1) floats. */
float jpt_kth_bound(const float *z, int32_t n, int32_t k, float *room);

/* What a link works with, in the scratch of jpt_chain_apply. */
typedef struct select_room {
    entry   *e;   /* [jpt_scratch_entries(n)] */
    float   *p;   /* [n] probabilities, where the link reads them */
    float   *key; /* [n] */
    int32_t *bin; /* [n] */
    /* of the row that p is the softmax of: its largest score, sum of exp(z - max) and of that times (z - max) */
    float  max;
    double sum, dot;
    bool   measured, known; /* these are of the row as it is; and p holds exp(z - max), not divided yet */
    bool   aimed;           /* the last link was one of those in aim.c: p holds the log-probabilities that it saw */
    float  entropy;         /* and JPT_LINK_GUARD this entropy */
} select_room;

/* The same over a whole row of keys, in O(n): false when no entry passes the limit.  weight == NULL: ones.  The key is narrowed
 * down by halving [low, high), where it is likely to be found (it need not be), and told exactly among the few that are left. */
bool jpt_mass_boundary(const float *key, const float *weight, int32_t n, float low, float high, float limit, bool reach, const select_room *r, entry *at);

/* Entries of the scratch: one a token of the vocabulary, or of DRY's window where that is larger. */
int32_t     jpt_scratch_entries(int32_t n_vocab);
select_room jpt_select_room(void *scratch, int32_t n_vocab);

/* jpt_chain_apply, for who has begun the first softmax already; and does a link need one? */
jpt_status jpt_chain_run(const jpt_chain *chain, const jpt_select_item *item, float *z, int32_t n, select_room *r, jpt_error *err);
bool       jpt_link_reads_p(jpt_link_kind k);

/* A link that jpt_link_aims on z[n]; p and entropy are set.  false: no token is left. */
bool jpt_aim(const jpt_link *l, const jpt_select_item *it, float *z, int32_t n, select_room *r);

/* [Basu et al. 2021] How many tokens keep a surprise of mu bits by Zipf's law, its exponent estimated from the first `terms` ratios of p[n],
 * descending; `guarded`: ratios of at least 1.  INFINITY: the arithmetic fails. */
double jpt_mirostat_k(const float *p, int32_t n, int32_t terms, bool guarded, double vocabulary, double mu);
/* [GUARD 2025] k and alpha at this step: before[n] entropies of the steps before, `now` of this one; 2 <= window <= JPT_GUARD_WINDOW. */
void jpt_guard_step(const float *before, int32_t n, float now, int32_t window, int32_t n_vocab, double *k, double *alpha);

enum { SPAN_NATS = 32, LIKELY_NATS = 8 }; /* a boundary is looked for within so many nats of the best; where it mostly is */

/* The k-th largest score as (score, id), ties ordered by id: of k equal ones the lowest id is the k-th.  And its value alone; 1 <= k <= n. */
entry jpt_kth_entry(const float *z, int32_t n, int32_t k, const select_room *r);
float jpt_kth_largest(const float *z, int32_t n, int32_t k, const select_room *r);
/* The k best scores above -INFINITY, best first (ties: lower id first), as entries with key = -score in r->e; returns how many. */
int32_t jpt_best_entries(const float *z, int32_t n, int32_t k, const select_room *r);
/* jpt_keep_best, in this room. */
void jpt_keep_best_in(float *z, int32_t n, int32_t k, const select_room *r);

#endif
