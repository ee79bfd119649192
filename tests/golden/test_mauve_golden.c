/* MAUVE against the mauve-text package (tools/golden/mauve_text.py): from counts, and from features with the clustering; and
 * what both stand on, eigenvectors. */
#include <jansson.h>
#include <jpt/mauve.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>
#include "metric/eigen.h"

static json_t *all;

static int load(void **state) {
    (void)state;
    all = json_load_file(JPT_SOURCE_DIR "/tests/golden/mauve.json", 0, NULL);
    return all ? 0 : -1;
}

static int unload(void **state) {
    (void)state;
    json_decref(all);
    return 0;
}

static const char *version(const char *package) {
    return json_string_value(json_object_get(json_object_get(all, "versions"), package));
}

static double differ(const jpt_mauve *m, json_t *want) {
    const double got[] = {m->mauve, m->frontier_integral, m->mauve_star, m->frontier_integral_star};
    double       worst = 0;
    for (size_t i = 0; i < 4; i++)
        worst = fmax(worst, fabs(got[i] - json_number_value(json_array_get(want, i))));
    return worst;
}

static void from_counts(void **unused) {
    (void)unused;
    json_t *row, *v;
    size_t  r, i;
    double  worst = 0;
    json_array_foreach(json_object_get(all, "counts"), r, row) {
        int64_t p[256], q[256];
        size_t  n = json_array_size(json_object_get(row, "p"));
        assert_true(n <= 256);
        json_array_foreach(json_object_get(row, "p"), i, v) p[i] = json_integer_value(v);
        json_array_foreach(json_object_get(row, "q"), i, v) q[i] = json_integer_value(v);
        jpt_mauve m;
        assert_int_equal(jpt_mauve_of_counts(p, q, (int32_t)n, &m, NULL), JPT_OK);
        worst = fmax(worst, differ(&m, json_object_get(row, "want")));
        assert_true(worst <= 1e-9);
    }
    const int64_t p[] = {0, 7, 0}, q[] = {0, 1, 0};
    jpt_mauve     m;
    assert_int_equal(jpt_mauve_of_counts(p, q, 3, &m, NULL), JPT_OK); /* equal shares: the package says 0.75 */
    assert_true(fabs(m.mauve - 1) < 1e-12 && m.frontier_integral == 0);
    printf("golden: MAUVE, frontier integral and their smoothed forms from counts against mauve-text %s: %zu cases, largest "
           "difference %.1e\n",
           version("mauve-text"), r, worst);
}

static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static double unit(uint64_t a, uint64_t i, uint64_t j) { return (double)(mix(mix(mix(a) ^ i) ^ j) >> 11) * 0x1p-53 - 0.5; }

/* As features() of the maker. */
static double *features(uint64_t seed, uint64_t set, int32_t n, int32_t d, int32_t groups) {
    double *out = malloc((size_t)n * (size_t)d * sizeof *out);
    assert_non_null(out);
    for (int32_t i = 0; i < n; i++) {
        double   u = unit(seed, 1000 + set, (uint64_t)i) + 0.5, scale = 1;
        uint64_t group = (uint64_t)((set ? u * u : u) * groups);
        for (int32_t j = 0; j < d; j++) {
            out[i * d + j] =
                scale * (unit(seed, 7, group * 4096 + (uint64_t)j) * 2 + unit(seed, 10 + set, (uint64_t)i * 4096 + (uint64_t)j));
            scale *= 0.9;
        }
    }
    return out;
}

static int falling(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The pairs of counts, in an order of their own. */
static void pairs(int64_t *out, json_t *p, json_t *q) {
    for (size_t i = 0; i < json_array_size(p); i++)
        out[i] = json_integer_value(json_array_get(p, i)) * 100000 + json_integer_value(json_array_get(q, i));
    qsort(out, json_array_size(p), sizeof *out, falling);
}

static void from_features(void **unused) {
    (void)unused;
    json_t *row;
    size_t  r, equal = 0;
    double  worst = 0;
    json_array_foreach(json_object_get(all, "features"), r, row) {
#define INT(key) (int32_t) json_integer_value(json_object_get(row, key))
        int32_t n_p = INT("n_p"), n_q = INT("n_q"), d = INT("d"), k = INT("used"),
                *label = malloc((size_t)(n_p + n_q) * sizeof *label);
        double *p = features((uint64_t)INT("seed"), 0, n_p, d, INT("groups")),
               *q = features((uint64_t)INT("seed"), 1, n_q, d, INT("groups"));
        int64_t   got[256] = {0}, want[256];
        jpt_mauve m;
        assert_true(k <= 256);
        jpt_mauve_options opt = {.seed = 25, .n_buckets = INT("buckets")};
        assert_int_equal(jpt_mauve_of_features(p, n_p, q, n_q, d, &opt, &m, label, label + n_p, NULL), JPT_OK);
        assert_int_equal(m.n_buckets, k);
        for (int32_t i = 0; i < n_p + n_q; i++)
            got[label[i]] += i < n_p ? 100000 : 1;
        qsort(got, (size_t)k, sizeof *got, falling);
        pairs(want, json_object_get(row, "p"), json_object_get(row, "q"));
        equal += memcmp(got, want, (size_t)k * sizeof *got) == 0;
        double difference = differ(&m, json_object_get(row, "want"));
        worst = fmax(worst, difference);
        if (difference > 1e-3)
            print_error("case %zu: MAUVE %.6f, mauve-text %.6f\n", r, m.mauve,
                        json_number_value(json_array_get(json_object_get(row, "want"), 0)));
        free(p);
        free(q);
        free(label);
    }
    printf("golden: MAUVE from features against mauve-text %s, faiss %s: %zu cases, %zu with equal clusters, largest difference "
           "%.1e\n",
           version("mauve-text"), version("faiss-cpu"), r, equal, worst);
    assert_true(worst <= 1e-3);
}

static void eigenvectors(void **unused) {
    (void)unused;
    enum { N = 60 };
    static double a[N * N], v[N * N], value[N];
    for (int kind = 0; kind < 3; kind++) { /* full; of low rank; diagonal with equal values */
        for (int i = 0; i < N; i++)
            for (int j = 0; j <= i; j++) {
                double x = kind == 2 ? (i == j ? i / 7 : 0) : 0;
                for (uint64_t r = 0; kind != 2 && r < (kind ? 5u : 80u); r++)
                    x += unit(1, r, (uint64_t)i) * unit(1, r, (uint64_t)j);
                a[i * N + j] = a[j * N + i] = v[i * N + j] = v[j * N + i] = x;
            }
        assert_true(symmetric_eigen(v, N, value));
        double worst = 0, trace = 0, sum = 0;
        for (int e = 0; e < N; e++) {
            trace += a[e * N + e];
            sum += value[e];
            assert_true(e == 0 || value[e] <= value[e - 1]);
            for (int i = 0; i < N; i++) {
                double av = -value[e] * v[e * N + i];
                for (int j = 0; j < N; j++)
                    av += a[i * N + j] * v[e * N + j];
                worst = fmax(worst, fabs(av));
            }
            for (int f = 0; f <= e; f++) {
                double dot = e == f ? -1 : 0;
                for (int i = 0; i < N; i++)
                    dot += v[e * N + i] * v[f * N + i];
                worst = fmax(worst, fabs(dot));
            }
        }
        assert_true(worst < 1e-12 && fabs(trace - sum) < 1e-11);
    }
}

static void refusals(void **unused) {
    (void)unused;
    const double  x[] = {1, 2, 3, 4}, bad[] = {1, 2, NAN, 4};
    const int64_t one[] = {1, 2}, none[] = {0, 0}, negative[] = {3, -1};
    jpt_mauve     m;
    jpt_error     err = {0};
    assert_int_equal(jpt_mauve_of_counts(one, none, 2, &m, NULL), JPT_ARG);
    assert_int_equal(jpt_mauve_of_counts(one, negative, 2, &m, NULL), JPT_ARG);
    assert_int_equal(jpt_mauve_of_features(x, 2, bad, 2, 2, NULL, &m, NULL, NULL, &err), JPT_ARG);
    assert_string_equal(err.msg, "MAUVE: feature 1 of text 2 of the other set is no number");
    assert_int_equal(jpt_mauve_of_features(x, 2, x, 0, 2, NULL, &m, NULL, NULL, NULL), JPT_ARG);
    assert_int_equal(jpt_mauve_of_features(x, 2, x, 2, 2, &(jpt_mauve_options){.n_buckets = 5}, &m, NULL, NULL, NULL), JPT_ARG);
    assert_int_equal(jpt_mauve_of_features(x, 2, x, 2, 2, NULL, &m, NULL, NULL, NULL), JPT_OK); /* the same texts */
    assert_true(m.mauve > 0.999 && m.n_buckets == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(from_counts), cmocka_unit_test(from_features),
                                       cmocka_unit_test(eigenvectors), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, load, unload);
}
