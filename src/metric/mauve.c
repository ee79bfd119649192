#include "eigen.h"
#include "kmeans.h"
#include <jpt/mauve.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- from histograms to numbers -------------------------------------------------------------------------- */

enum { POINTS = 25, CURVE = POINTS + 2 };
static const double SCALING = 5;

typedef struct point {
    double x, y;
} point;

static double divergence(const double *p, const double *r, int32_t n) { /* Kullback-Leibler; r > 0 wherever p is */
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (p[i] > 0)
            sum += p[i] * log(p[i] / r[i]);
    return sum;
}

/* The curve falls, so of points above each other the highest comes first: equal sets then have the area 1, where the package's
 * sort may give 0.75. */
static int along_curve(const void *a, const void *b) {
    const point *p = a, *q = b;
    return p->x != q->x ? (p->x > q->x) - (p->x < q->x) : (p->y < q->y) - (p->y > q->y);
}

/* Trapezoids under the points by rising x. */
static double area(const point *curve) {
    point  c[CURVE];
    double sum = 0;
    memcpy(c, curve, sizeof c);
    qsort(c, CURVE, sizeof *c, along_curve);
    for (int i = 1; i < CURVE; i++)
        sum += (c[i].x - c[i - 1].x) * (c[i].y + c[i - 1].y) / 2;
    return sum;
}

static double area_of_curve(const double *p, const double *q, double *r, int32_t n) {
    point        c[CURVE] = {{1, 0}}, turned[CURVE];
    const double first = 1e-6, last = 1 - 1e-6;
    for (int i = 0; i < POINTS; i++) {
        double w = i == POINTS - 1 ? last : first + i * ((last - first) / (POINTS - 1));
        for (int32_t b = 0; b < n; b++)
            r[b] = w * p[b] + (1 - w) * q[b];
        c[i + 1] = (point){exp(-SCALING * divergence(q, r, n)), exp(-SCALING * divergence(p, r, n))};
    }
    c[CURVE - 1] = (point){0, 1};
    for (int i = 0; i < CURVE; i++)
        turned[i] = (point){c[i].y, c[i].x};
    return 0.5 * (area(c) + area(turned));
}

static double frontier_integral(const double *p, const double *q, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (p[i] == 0 || q[i] == 0)
            sum += (p[i] + q[i]) / 4;
        else if (fabs(p[i] - q[i]) > 1e-8)
            sum += 0.25 * (p[i] + q[i]) - 0.5 * (p[i] * q[i] * (log(p[i]) - log(q[i])) / (p[i] - q[i]));
    return 2 * sum;
}

jpt_status jpt_mauve_of_counts(const int64_t *p, const int64_t *q, int32_t n, jpt_mauve *out, jpt_error *err) {
    int64_t total_p = 0, total_q = 0;
    for (int32_t i = 0; i < n; i++) {
        if (p[i] < 0 || q[i] < 0)
            return JPT_FAIL(err, ARG, "MAUVE: bucket %d has a negative count", i);
        total_p += p[i];
        total_q += q[i];
    }
    if (n < 1 || total_p == 0 || total_q == 0)
        return JPT_FAIL(err, ARG, "MAUVE compares two sets of texts: here are %lld and %lld", (long long)total_p,
                        (long long)total_q);
    double *h = malloc(3 * (size_t)n * sizeof *h), *hq = h + n, *r = h + 2 * (size_t)n;
    if (!h)
        return JPT_FAIL(err, NOMEM, "out of memory for %d buckets", n);
    *out = (jpt_mauve){.n_buckets = n};
    for (int smoothed = 0; smoothed < 2; smoothed++) {
        double add = smoothed ? 0.5 : 0; /* Krichevsky & Trofimov */
        for (int32_t i = 0; i < n; i++) {
            h[i] = ((double)p[i] + add) / ((double)total_p + add * n);
            hq[i] = ((double)q[i] + add) / ((double)total_q + add * n);
        }
        double m = area_of_curve(h, hq, r, n), f = frontier_integral(h, hq, n);
        *(smoothed ? &out->mauve_star : &out->mauve) = m;
        *(smoothed ? &out->frontier_integral_star : &out->frontier_integral) = f;
    }
    free(h);
    return JPT_OK;
}

/* ---- from features to clusters --------------------------------------------------------------------------- */

/* x [n, d]: rows of length 1, then columns of mean 0. */
static void prepare(double *x, size_t n, size_t d, double *mean) {
    memset(mean, 0, d * sizeof *mean);
    for (size_t i = 0; i < n; i++) {
        double length = 0;
        for (size_t j = 0; j < d; j++)
            length += x[i * d + j] * x[i * d + j];
        length = length > 0 ? sqrt(length) : 1;
        for (size_t j = 0; j < d; j++) {
            x[i * d + j] /= length;
            mean[j] += x[i * d + j] / (double)n;
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++)
            x[i * d + j] -= mean[j];
}

/* x^T x or, for more features than texts, x x^T: the same eigenvalues.  Upper half by rows of x, then mirrored. */
static void products(const double *x, size_t n, size_t d, bool of_texts, double *c, size_t m) {
    memset(c, 0, m * m * sizeof *c);
    if (of_texts) {
        for (size_t a = 0; a < m; a++)
            for (size_t b = a; b < m; b++) {
                double s[8] = {0};
                size_t j = 0;
                for (; j + 8 <= d; j += 8)
                    for (size_t k = 0; k < 8; k++)
                        s[k] += x[a * d + j + k] * x[b * d + j + k];
                for (; j < d; j++)
                    s[0] += x[a * d + j] * x[b * d + j];
                c[a * m + b] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
            }
    } else {
        for (size_t i = 0; i < n; i++)
            for (size_t a = 0; a < m; a++) {
                double v = x[i * d + a];
                for (size_t b = a; b < m; b++)
                    c[a * m + b] += v * x[i * d + b];
            }
    }
    for (size_t a = 0; a < m; a++)
        for (size_t b = 0; b < a; b++)
            c[a * m + b] = c[b * m + a];
}

/* Principal components up to the first that brings the explained variance to the share; *y [n, *kept] in single precision. */
static jpt_status project(const double *x, size_t n, size_t d, double share, float **y, int32_t *kept, jpt_error *err) {
    bool    of_texts = n < d;
    size_t  m = of_texts ? n : d, bytes;
    double *c = NULL, *value = malloc(m * sizeof *value), total = 0, sum = 0;
    if (jpt_mul_size(m, m * sizeof *c, &bytes))
        c = malloc(bytes);
    jpt_status st = c && value ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for the principal components of %zu texts", n);
    if (st == JPT_OK) {
        products(x, n, d, of_texts, c, m);
        if (!symmetric_eigen(c, m, value))
            st = JPT_FAIL(err, NOMEM, "out of memory for the eigenvectors of a %zu x %zu matrix", m, m);
    }
    if (st == JPT_OK) {
        size_t k = 0;
        for (size_t i = 0; i < m; i++)
            total += value[i] > 0 ? value[i] : 0;
        do
            sum += value[k] > 0 ? value[k] : 0;
        while (++k < m && sum < share * total);
        *y = malloc(n * k * sizeof **y);
        st = *y ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu principal components", k);
        for (size_t i = 0; st == JPT_OK && i < n; i++)
            for (size_t a = 0; a < k; a++) {
                double v = 0;
                if (of_texts) /* the eigenvectors are the projections, but for their length */
                    v = c[a * m + i] * sqrt(value[a] > 0 ? value[a] : 0);
                else
                    for (size_t j = 0; j < d; j++)
                        v += c[a * m + j] * x[i * d + j];
                (*y)[i * k + a] = (float)v;
            }
        *kept = (int32_t)k;
    }
    free(c);
    free(value);
    return st;
}

static jpt_status count(const int32_t *label, int32_t n_q, int32_t n_p, int32_t k, jpt_mauve *out, jpt_error *err) {
    int64_t *counts = calloc(2 * (size_t)k, sizeof *counts);
    if (!counts)
        return JPT_FAIL(err, NOMEM, "out of memory for %d buckets", k);
    for (int32_t i = 0; i < n_q + n_p; i++)
        counts[(i < n_q ? k : 0) + label[i]]++;
    jpt_status st = jpt_mauve_of_counts(counts, counts + k, k, out, err);
    free(counts);
    return st;
}

jpt_status jpt_mauve_of_features(const double *p, int32_t n_p, const double *q, int32_t n_q, int32_t d,
                                 const jpt_mauve_options *opt, jpt_mauve *out, int32_t *label_p, int32_t *label_q,
                                 jpt_error *err) {
    jpt_mauve_options o = opt ? *opt : (jpt_mauve_options){.seed = 25};
    if (n_p < 1 || n_q < 1 || d < 1 || n_p > INT32_MAX - n_q)
        return JPT_FAIL(err, ARG, "MAUVE compares two sets of texts: here are %d and %d, of %d features", n_p, n_q, d);
    size_t n = (size_t)n_p + (size_t)n_q, cells, bytes;
    for (size_t i = 0; i < n * (size_t)d; i++) {
        size_t at = i < (size_t)n_p * (size_t)d ? i : i - (size_t)n_p * (size_t)d;
        if (!isfinite(at == i ? p[at] : q[at]))
            return JPT_FAIL(err, ARG, "MAUVE: feature %zu of text %zu of the %s set is no number", at % (size_t)d + 1,
                            at / (size_t)d + 1, at == i ? "reference" : "other");
    }
    if (o.n_buckets == 0) {
        o.n_buckets = (int32_t)rint((n_p < n_q ? n_p : n_q) / 10.0);
        o.n_buckets = o.n_buckets > 2 ? o.n_buckets : 2;
    }
    if (o.n_buckets < 1 || (size_t)o.n_buckets > n)
        return JPT_FAIL(err, ARG, "MAUVE: %d buckets for %zu texts", o.n_buckets, n);
    double    *x = NULL, *mean = malloc((size_t)d * sizeof *mean);
    float     *y = NULL, *centre = NULL;
    int32_t   *label = malloc(n * sizeof *label), kept = 0;
    jpt_status st = JPT_OK;
    if (!mean || !label || !jpt_mul_size(n, (size_t)d, &cells) || !jpt_mul_size(cells, sizeof *x, &bytes) || !(x = malloc(bytes)))
        st = JPT_FAIL(err, NOMEM, "out of memory for %zu texts of %d features", n, d);
    if (st == JPT_OK) { /* the package stacks q on p */
        memcpy(x, q, (size_t)n_q * (size_t)d * sizeof *x);
        memcpy(x + (size_t)n_q * (size_t)d, p, (size_t)n_p * (size_t)d * sizeof *x);
        prepare(x, n, (size_t)d, mean);
        st = project(x, n, (size_t)d, 0.9, &y, &kept, err);
    }
    if (st == JPT_OK && !(centre = malloc((size_t)o.n_buckets * (size_t)kept * sizeof *centre)))
        st = JPT_FAIL(err, NOMEM, "out of memory for %d buckets", o.n_buckets);
    if (st == JPT_OK)
        st = kmeans(y, (int32_t)n, kept, o.n_buckets, o.n_redo ? o.n_redo : 5, o.max_iter ? o.max_iter : 500, o.seed + 2, centre,
                    label, err);
    if (st == JPT_OK)
        st = count(label, n_q, n_p, o.n_buckets, out, err);
    if (st == JPT_OK) {
        out->n_components = kept;
        if (label_q)
            memcpy(label_q, label, (size_t)n_q * sizeof *label);
        if (label_p)
            memcpy(label_p, label + n_q, (size_t)n_p * sizeof *label);
    }
    free(x);
    free(y);
    free(mean);
    free(label);
    free(centre);
    return st;
}
