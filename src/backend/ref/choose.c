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

enum { BINS = 1024 };

bool jpt_mass_boundary(const float *key, const float *weight, int32_t n, float low, float step, float limit, bool reach, entry *e, int32_t *bin,
                       entry *at) {
    double mass[2][BINS] = {{0}}, base = 0; /* two, so that neighbours in one bin do not wait for each other */
    rows()->bins(key, n, low, step, BINS - 1, bin);
    for (int32_t i = 0; i < n; i++)
        mass[i % 2][bin[i]] += weight ? (double)weight[i] : 1;
    for (int32_t b = 0; b < BINS; b++) {
        double with = base + (mass[0][b] + mass[1][b]);
        if (reach ? (float)with >= limit : (float)with > limit) {
            int32_t m = 0;
            for (int32_t i = 0; i < n; i++)
                if (bin[i] == b)
                    e[m++] = (entry){key[i], weight ? weight[i] : 1, i};
            int32_t cut = jpt_mass_cut(e, m, base, limit, reach);
            if (cut < m) {
                *at = e[cut];
                return true;
            }
        }
        base = with;
    }
    return false;
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
