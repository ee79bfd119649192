#include "kmeans.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Mersenne twister (Matsumoto & Nishimura 1998), as std::mt19937 ------------------------------------------ */

typedef struct twister {
    uint32_t s[624];
    int      at;
} twister;

static void twister_seed(twister *t, uint32_t seed) {
    t->s[0] = seed;
    for (int i = 1; i < 624; i++)
        t->s[i] = 1812433253u * (t->s[i - 1] ^ t->s[i - 1] >> 30) + (uint32_t)i;
    t->at = 624;
}

static uint32_t twister_next(twister *t) {
    if (t->at == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (t->s[i] & 0x80000000u) | (t->s[(i + 1) % 624] & 0x7fffffffu);
            t->s[i] = t->s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        t->at = 0;
    }
    uint32_t y = t->s[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* As faiss to 1.15 draws, by remainder. */
static void permute(int32_t *perm, int32_t n, uint32_t seed) {
    twister t;
    twister_seed(&t, seed);
    for (int32_t i = 0; i < n; i++)
        perm[i] = i;
    for (int32_t i = 0; i + 1 < n; i++) {
        int32_t j = i + (int32_t)(twister_next(&t) % (uint32_t)(n - i)), swap = perm[i];
        perm[i] = perm[j];
        perm[j] = swap;
    }
}

/* ---- one step ------------------------------------------------------------------------------------------------ */

typedef struct work {
    int32_t n, d, k;
    float *by_column; /* [d, k] the centres, a coordinate a row, so that the sum over coordinates runs over all centres at once */
    float *norm;      /* [k] of the centres */
    float *product;   /* [k] */
    float *count;     /* [k] points a cluster */
} work;

/* Nearest centre of every point (the first of equals) and the sum of the squared distances. */
static float assign(work *w, const float *x, int32_t n, const float *centre, int32_t *label) {
    size_t d = (size_t)w->d, k = (size_t)w->k;
    float  sum = 0;
    for (size_t c = 0; c < k; c++) {
        w->norm[c] = 0;
        for (size_t j = 0; j < d; j++) {
            float v = centre[c * d + j];
            w->by_column[j * k + c] = v;
            w->norm[c] += v * v;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        const float *p = x + (size_t)i * d;
        float        own = 0, best = INFINITY;
        memset(w->product, 0, k * sizeof *w->product);
        for (size_t j = 0; j < d; j++) {
            const float *row = w->by_column + j * k;
            float        v = p[j];
            own += v * v;
            for (size_t c = 0; c < k; c++)
                w->product[c] += v * row[c];
        }
        label[i] = 0;
        for (size_t c = 0; c < k; c++) {
            float dist = own + w->norm[c] - 2 * w->product[c];
            if (dist < best) {
                best = dist;
                label[i] = (int32_t)c;
            }
        }
        sum += best > 0 ? best : 0;
    }
    return sum;
}

static void means(work *w, const float *x, int32_t n, const int32_t *label, float *centre) {
    size_t d = (size_t)w->d;
    memset(centre, 0, (size_t)w->k * d * sizeof *centre);
    memset(w->count, 0, (size_t)w->k * sizeof *w->count);
    for (int32_t i = 0; i < n; i++) {
        float *c = centre + (size_t)label[i] * d;
        w->count[label[i]]++;
        for (size_t j = 0; j < d; j++)
            c[j] += x[(size_t)i * d + j];
    }
    for (int32_t c = 0; c < w->k; c++)
        for (size_t j = 0; w->count[c] > 0 && j < d; j++)
            centre[(size_t)c * d + j] *= 1 / w->count[c];
}

/* An empty cluster takes half of one drawn by its size: both centres move a little apart.  Returns how many. */
static int32_t split(work *w, int32_t n, float *centre) {
    twister t;
    int32_t splits = 0;
    size_t  d = (size_t)w->d;
    twister_seed(&t, 1234);
    for (int32_t c = 0; c < w->k; c++) {
        if (w->count[c] != 0)
            continue;
        int32_t from = 0;
        for (;; from = (from + 1) % w->k) {
            float p = (float)((w->count[from] - 1.0) / (double)(float)(n - w->k)), r = (float)twister_next(&t) / 4294967296.0f;
            if (r < p)
                break;
        }
        for (size_t j = 0; j < d; j++) {
            float *empty = centre + (size_t)c * d + j, *full = centre + (size_t)from * d + j;
            double up = 1 + 1 / 1024.0, down = 1 - 1 / 1024.0;
            *empty = (float)((double)*full * (j % 2 ? down : up));
            *full = (float)((double)*full * (j % 2 ? up : down));
        }
        w->count[c] = w->count[from] / 2;
        w->count[from] -= w->count[c];
        splits++;
    }
    return splits;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

static jpt_status run(work *w, const float *x, int32_t n, int32_t n_redo, int32_t max_iter, int32_t seed, int32_t *perm,
                      int32_t *label, int32_t *before, float *now, float *best, jpt_error *err) {
    size_t d = (size_t)w->d, size = (size_t)w->k * d;
    float  least = INFINITY;
    for (int32_t redo = 0; redo < n_redo; redo++) {
        float distortion = 0;
        permute(perm, n, (uint32_t)seed + 1 + (uint32_t)redo * 15486557u);
        for (int32_t c = 0; c < w->k; c++)
            memcpy(now + (size_t)c * d, x + (size_t)perm[c] * d, d * sizeof *now);
        for (int32_t i = 0; i < max_iter; i++) {
            if (jpt_stop_requested())
                return JPT_FAIL(err, INTERRUPTED, "interrupted in clustering");
            distortion = assign(w, x, n, now, label);
            bool same = i > 0 && memcmp(label, before, (size_t)n * sizeof *label) == 0;
            means(w, x, n, label, now);
            if (split(w, n, now) == 0 && same)
                break; /* nothing changes any more */
            memcpy(before, label, (size_t)n * sizeof *label);
        }
        if (distortion < least) {
            least = distortion;
            memcpy(best, now, size * sizeof *best);
        }
    }
    return JPT_OK;
}

jpt_status kmeans(const float *x, int32_t n, int32_t d, int32_t k, int32_t n_redo, int32_t max_iter, int32_t seed, float *centre,
                  int32_t *label, jpt_error *err) {
    enum { POINTS_A_CENTRE_MAX = 256 }; /* faiss trains on a sample of so many */
    size_t     size = (size_t)k * (size_t)d;
    float     *floats = malloc((2 * size + 3 * (size_t)k) * sizeof *floats), *sample = NULL;
    int32_t   *ints = malloc(2 * (size_t)n * sizeof *ints), n_train = n;
    jpt_status st = floats && ints ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d clusters of %d texts", k, n);
    work       w = {.n = n, .d = d, .k = k};
    if (st == JPT_OK && (int64_t)n > (int64_t)k * POINTS_A_CENTRE_MAX) {
        n_train = k * POINTS_A_CENTRE_MAX;
        sample = malloc((size_t)n_train * (size_t)d * sizeof *sample);
        st = sample ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d texts", n_train);
        if (st == JPT_OK) {
            permute(ints, n, (uint32_t)seed);
            for (int32_t i = 0; i < n_train; i++)
                memcpy(sample + (size_t)i * (size_t)d, x + (size_t)ints[i] * (size_t)d, (size_t)d * sizeof *sample);
        }
    }
    if (st == JPT_OK) {
        float *now = floats + size;
        w.by_column = floats;
        w.norm = floats + 2 * size;
        w.product = w.norm + k;
        w.count = w.product + k;
        if (n_train == k)
            memcpy(centre, sample ? sample : x, size * sizeof *centre); /* each its own centre */
        else
            st = run(&w, sample ? sample : x, n_train, n_redo, max_iter, seed, ints, label, ints + n, now, centre, err);
        if (st == JPT_OK)
            assign(&w, x, n, centre, label);
    }
    free(floats);
    free(ints);
    free(sample);
    return st;
}
