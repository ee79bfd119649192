/* Last number, repetition, bootstrap. */
#include "ngram.h"
#include <jpt/metric.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool jpt_last_number(jpt_str text, double *out) {
    /* the expression of lm-evaluation-harness: (-?[$0-9.,]{2,})|(-?[0-9]+), last match, then strip "$" and ","
     * and a final "."; a run without a digit is no number */
    bool found = false;
    for (size_t i = 0; i < text.n;) {
        size_t j = i;
        if (text.p[j] == '-')
            j++;
        size_t start = j;
        while (j < text.n && (text.p[j] == '$' || text.p[j] == '.' || text.p[j] == ',' || (text.p[j] >= '0' && text.p[j] <= '9')))
            j++;
        if (j == start) {
            i++;
            continue;
        }
        char   digits[64];
        size_t n = 0;
        bool   any = false, whole = true;
        if (start > i)
            digits[n++] = '-';
        for (size_t k = start; k < j; k++)
            if (text.p[k] != '$' && text.p[k] != ',') {
                if (n == sizeof digits - 1) {
                    whole = false; /* longer than any number worth comparing */
                    break;
                }
                digits[n++] = text.p[k];
                any = any || (text.p[k] >= '0' && text.p[k] <= '9');
            }
        while (n && digits[n - 1] == '.')
            n--;
        digits[n] = '\0';
        char  *end;
        double v = strtod(digits, &end);
        if (any && whole && *end == '\0') {
            *out = v;
            found = true;
        }
        i = j;
    }
    return found;
}

static jpt_status repetition(symbols s, bool ok, jpt_repetition *out, jpt_error *err) {
    *out = (jpt_repetition){.diversity = 1, .n_words = (int64_t)s.n};
    for (int n = 1; ok && n <= 4; n++) {
        ngram_table t;
        double      ratio = NAN;
        ok = ngram_init(&t, s.n);
        if (ok && s.n >= (size_t)n) {
            for (size_t i = 0; i + (size_t)n <= s.n; i++)
                ngram_slot(&t, ngram_join(s.h + i, n));
            ratio = (double)t.n / (double)(s.n - (size_t)n + 1);
        }
        ngram_fini(&t);
        if (n <= 3)
            out->distinct[n - 1] = ratio;
        if (n >= 2) {
            out->rep[n - 2] = 1 - ratio;
            out->diversity *= ratio;
        }
    }
    symbols_fini(&s);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for n-grams");
}

jpt_status jpt_repetition_of(jpt_str text, jpt_repetition *out, jpt_error *err) {
    symbols s = {0};
    bool    ok = symbols_words(&s, text);
    return repetition(s, ok, out, err);
}

jpt_status jpt_repetition_of_ids(const int32_t *id, size_t n, jpt_repetition *out, jpt_error *err) {
    symbols s = {0};
    bool    ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = symbols_push(&s, ngram_hash((const char *)&id[i], sizeof id[i]));
    return repetition(s, ok, out, err);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

jpt_status jpt_bootstrap(jpt_resample_fn value, void *ud, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high, jpt_error *err) {
    *low = *high = NAN;
    if (n < 2 || n_resamples < 2)
        return JPT_OK;
    int32_t *index = malloc((size_t)n * sizeof *index);
    double  *v = malloc((size_t)n_resamples * sizeof *v);
    int32_t  kept = 0;
    if (index && v) {
        for (int32_t r = 0; r < n_resamples; r++) {
            for (int32_t i = 0; i < n; i++) {
                jpt_rng_key key = {seed, (uint32_t)r, 0, (uint32_t)i};
                index[i] = (int32_t)(jpt_rng_uniform(key, 0) * n);
            }
            double x = value(ud, index, n);
            if (!isnan(x))
                v[kept++] = x;
        }
        if (kept >= 2) {
            qsort(v, (size_t)kept, sizeof *v, by_value);
            *low = v[(int32_t)(0.025 * (kept - 1) + 0.5)];
            *high = v[(int32_t)(0.975 * (kept - 1) + 0.5)];
        }
    }
    bool ok = index && v;
    free(index);
    free(v);
    return ok ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for a bootstrap of %d items", n);
}

typedef struct ratio {
    const double *a, *b;
} ratio;

static double ratio_of(void *ud, const int32_t *index, int32_t n) {
    const ratio *r = ud;
    double       a = 0, b = 0;
    for (int32_t i = 0; i < n; i++) {
        a += r->a[index[i]];
        b += r->b ? r->b[index[i]] : 1;
    }
    return b != 0 ? a / b : NAN;
}

jpt_status jpt_bootstrap_mean(const double *a, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high, jpt_error *err) {
    return jpt_bootstrap(ratio_of, &(ratio){a, NULL}, n, n_resamples, seed, low, high, err);
}

jpt_status jpt_bootstrap_ratio(const double *a, const double *b, int32_t n, int32_t n_resamples, uint64_t seed, double *low, double *high, jpt_error *err) {
    return jpt_bootstrap(ratio_of, &(ratio){a, b}, n, n_resamples, seed, low, high, err);
}
