#include "eigen.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double dot(const double *a, const double *b, size_t n) {
    double s[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            s[k] += a[i + (size_t)k] * b[i + (size_t)k];
    for (; i < n; i++)
        s[0] += a[i] * b[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* Step k mirrors the rest of row k onto its first element, by H = 1 - beta v v^T; the rest of the matrix becomes H A H.  The
 * vectors v stay in the rows of a, beta in `beta`. */
static void tridiagonal(double *a, size_t n, double *diagonal, double *off, double *beta, double *work) {
    for (size_t k = 0; k < n; k++) {
        double *v = a + k * n + k + 1;
        size_t  m = n - k - 1;
        diagonal[k] = a[k * n + k];
        off[k] = beta[k] = 0;
        if (m == 0)
            continue;
        double rest = m > 1 ? dot(v + 1, v + 1, m - 1) : 0;
        if (rest == 0) { /* nothing to mirror away */
            off[k] = v[0];
            continue;
        }
        double length = sqrt(v[0] * v[0] + rest);
        off[k] = v[0] > 0 ? -length : length;
        v[0] -= off[k];
        beta[k] = 2 / (v[0] * v[0] + rest);
        for (size_t i = 0; i < m; i++)
            work[i] = beta[k] * dot(a + (k + 1 + i) * n + k + 1, v, m);
        double half = beta[k] / 2 * dot(work, v, m);
        for (size_t i = 0; i < m; i++)
            work[i] -= half * v[i];
        for (size_t i = 0; i < m; i++) {
            double *row = a + (k + 1 + i) * n + k + 1, vi = v[i], wi = work[i];
            for (size_t j = 0; j < m; j++)
                row[j] -= vi * work[j] + wi * v[j];
        }
    }
}

/* The product of the mirrors, the last one first, in q: its rows turn into the eigenvectors. */
static void gather(const double *a, size_t n, const double *beta, double *q) {
    memset(q, 0, n * n * sizeof *q);
    for (size_t i = 0; i < n; i++)
        q[i * n + i] = 1;
    for (size_t k = n; k-- > 0;) {
        if (beta[k] == 0)
            continue;
        const double *v = a + k * n + k + 1;
        size_t        m = n - k - 1;
        /* q H: rows above the block are still those of the identity */
        for (size_t i = 0; i < m; i++) {
            double *row = q + (k + 1 + i) * n + k + 1, s = beta[k] * dot(row, v, m);
            for (size_t j = 0; j < m; j++)
                row[j] -= s * v[j];
        }
    }
}

/* Turns rows i and i+1 of q. */
static void turn(double *q, size_t n, size_t i, double c, double s) {
    double *low = q + i * n, *high = low + n;
    for (size_t k = 0; k < n; k++) {
        double x = low[k], y = high[k];
        high[k] = s * x + c * y;
        low[k] = c * x - s * y;
    }
}

static bool diagonalise(double *d, double *e, size_t n, double *q) {
    enum { STEPS_MAX = 100 };
    for (size_t l = 0; l < n; l++)
        for (int steps = 0;; steps++) {
            size_t m = l;
            while (m + 1 < n && fabs(e[m]) > DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])))
                m++;
            if (m == l)
                break;
            if (steps == STEPS_MAX)
                return false;
            /* the shift is the eigenvalue of the leading 2 x 2 block that is nearer to d[l] */
            double g = (d[l + 1] - d[l]) / (2 * e[l]), c = 1, s = 1, p = 0;
            g = d[m] - d[l] + e[l] / (g + copysign(hypot(g, 1), g));
            bool split = false;
            for (size_t i = m; i-- > l;) {
                double f = s * e[i], b = c * e[i], r = hypot(f, g);
                e[i + 1] = r;
                if (r == 0) { /* falls apart here */
                    d[i + 1] -= p;
                    e[m] = 0;
                    split = true;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                turn(q, n, i, c, s);
            }
            if (split)
                continue;
            d[l] -= p;
            e[l] = g;
            e[m] = 0;
        }
    return true;
}

typedef struct ranked {
    double value;
    size_t row;
} ranked;

static int falling(const void *a, const void *b) {
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x < y) - (x > y);
}

bool symmetric_eigen(double *a, size_t n, double *value) {
    double *q = malloc(n * n * sizeof *q), *v = malloc(4 * n * sizeof *v);
    ranked *order = malloc(n * sizeof *order);
    bool    ok = q && v && order;
    if (ok) {
        double *off = v + n, *beta = v + 2 * n, *work = v + 3 * n;
        tridiagonal(a, n, v, off, beta, work);
        gather(a, n, beta, q);
        ok = diagonalise(v, off, n, q);
    }
    if (ok) {
        for (size_t i = 0; i < n; i++)
            order[i] = (ranked){v[i], i};
        qsort(order, n, sizeof *order, falling);
        for (size_t i = 0; i < n; i++) {
            value[i] = order[i].value;
            memcpy(a + i * n, q + order[i].row * n, n * sizeof *a);
        }
    }
    free(q);
    free(v);
    free(order);
    return ok;
}
