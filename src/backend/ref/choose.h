/* Finding the k-th largest and the place where a running mass passes a limit, without sorting a vocabulary. */
#ifndef JPT_REF_CHOOSE_H
#define JPT_REF_CHOOSE_H

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

/* The same over a whole row of keys, in O(n): false when no entry passes the limit.  weight == NULL: ones.  Keys are told
 * apart by 1024 bins that start at `low`, `step` a unit, and exactly within the bin that counts.  e [n] and bin [n] are room. */
bool jpt_mass_boundary(const float *key, const float *weight, int32_t n, float low, float step, float limit, bool reach, entry *e, int32_t *bin,
                       entry *at);

/* A lower bound of the k-th largest of z that is near it when k is small: the k-th largest among the maxima of groups of 64.
 * -INFINITY when there are fewer groups.  room: 2 * (n / 64 + 1) floats. */
float jpt_kth_bound(const float *z, int32_t n, int32_t k, float *room);

#endif
