#include "choose.h"
#include "rows.h"
#include <math.h>
#include <string.h>

static void swap(entry *a, entry *b) {
    entry t = *a;
    *a = *b;
    *b = t;
}

int32_t jpt_mass_cut(entry *e, int32_t n, double base, float limit, bool reach) {
    int32_t lo = 0, hi = n;
    while (lo < hi) {
        /* median of three as pivot, moved to the front */
        int32_t mid = lo + (hi - lo) / 2;
        if (entry_before(&e[mid], &e[lo]))
            swap(&e[mid], &e[lo]);
        if (entry_before(&e[hi - 1], &e[lo]))
            swap(&e[hi - 1], &e[lo]);
        if (entry_before(&e[hi - 1], &e[mid]))
            swap(&e[hi - 1], &e[mid]);
        swap(&e[lo], &e[mid]);
        entry   pivot = e[lo];
        int32_t cut = lo;
        double  left = 0;
        for (int32_t i = lo + 1; i < hi; i++)
            if (entry_before(&e[i], &pivot)) {
                left += (double)e[i].weight;
                swap(&e[++cut], &e[i]);
            }
        swap(&e[lo], &e[cut]); /* pivot in its place */
        float with_left = (float)(base + left), with_pivot = (float)(base + left + (double)pivot.weight);
        if (cut > lo && (reach ? with_left >= limit : with_left > limit)) {
            hi = cut;
        } else if (reach ? with_pivot >= limit : with_pivot > limit) {
            return cut;
        } else {
            base += left + (double)pivot.weight;
            lo = cut + 1;
        }
    }
    return lo;
}

bool jpt_mass_boundary(const float *key, const float *weight, int32_t n, float low, float high, float limit, bool reach, const select_room *r, entry *at) {
    enum { FEW = 256, HALVINGS = 20 };
    float          from = -INFINITY, to = INFINITY; /* the boundary's key is in [from, to) */
    int32_t        before = 0, within = n, size = n, count;
    double         base = 0, gone = 0; /* weight below from, and of what is left out */
    const float   *k = key, *w = weight; /* what is looked through: the row, then what was left of it each time that was a quarter */
    const int32_t *id = NULL;
    float         *k_room = (float *)(r->e + n / 2), *w_room = k_room + n / 4;
    int32_t       *id_room = (int32_t *)(w_room + n / 4);
    for (int i = 0; i < HALVINGS && within - before > FEW; i++) {
        float  mid = low + (high - low) / 2;
        double mass = gone + rows()->sum_below(k, w, size, mid, &count);
        if (reach ? (float)mass >= limit : (float)mass > limit) {
            to = high = mid;
            within = count;
        } else {
            from = low = mid;
            before = count;
            base = mass;
        }
        if (within - before > size / 4)
            continue;
        size = rows()->between(k, size, from, to, r->bin);
        for (int32_t c = 0; c < size; c++) { /* ascending: what is overwritten was read */
            int32_t j = r->bin[c];
            k_room[c] = k[j];
            w_room[c] = w ? w[j] : 1;
            id_room[c] = id ? id[j] : j;
        }
        k = k_room, w = w_room, id = id_room;
        gone = base;
        before = 0, within = size;
    }
    int32_t m = rows()->between(k, size, from, to, r->bin), last = 0;
    for (int32_t i = 0; i < m; i++) {
        int32_t j = r->bin[i];
        r->e[i] = (entry){k[j], w ? w[j] : 1, id ? id[j] : j};
        last = entry_before(&r->e[last], &r->e[i]) ? i : last;
    }
    entry   end = m ? r->e[last] : (entry){0};
    int32_t cut = jpt_mass_cut(r->e, m, base, limit, reach);
    *at = cut < m ? r->e[cut] : end; /* both sums passed the limit, but only just, in another order */
    return cut < m || (m > 0 && to < INFINITY);
}

float jpt_kth_bound(const float *z, int32_t n, int32_t k, float *room) {
    int32_t groups = (n + ROW_GROUP - 1) / ROW_GROUP;
    if (k < 1 || k > groups)
        return -INFINITY;
    rows()->group_max(z, n, room);
    /* Hoare's selection, descending */
    for (int32_t lo = 0, hi = groups - 1; lo < hi;) {
        float   pivot = room[lo + (hi - lo) / 2];
        int32_t i = lo, j = hi;
        while (i <= j) {
            while (room[i] > pivot)
                i++;
            while (room[j] < pivot)
                j--;
            if (i <= j) {
                float t = room[i];
                room[i++] = room[j];
                room[j--] = t;
            }
        }
        if (k - 1 <= j)
            hi = j;
        else if (k - 1 >= i)
            lo = i;
        else
            break;
    }
    return room[k - 1];
}
