/* MAUVE of texts against people's: features from the loaded model, the package's arithmetic, an interval over items. */
#include <jpt/evaluate.h>
#include <jpt/stats.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MOST = 1024, RESAMPLES = 1000, SEED = 12345, MAUVE_SEED = 25 };

/* [n, n_embd] features as doubles, n_batch texts a pass. */
static jpt_status features(jpt_session *s, const jpt_str *text, size_t n, double *out, jpt_error *err) {
    size_t     D = (size_t)jpt_model_get_info(jpt_session_model(s))->n_embd;
    float     *v = malloc(JPT_EVALUATE_BATCH * D * sizeof *v);
    jpt_status st = v ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for the features of %zu texts", n);
    for (size_t at = 0; st == JPT_OK && at < n; at += JPT_EVALUATE_BATCH) {
        size_t part = n - at < JPT_EVALUATE_BATCH ? n - at : JPT_EVALUATE_BATCH;
        st = jpt_stop_requested() ? JPT_FAIL(err, INTERRUPTED, "interrupted")
                                  : jpt_model_features(s, text + at, (int32_t)part, JPT_EVALUATE_BATCH, TOKENS_MOST, v, NULL, err);
        for (size_t i = 0; st == JPT_OK && i < part * D; i++)
            out[at * D + i] = (double)v[i];
    }
    free(v);
    return st;
}

typedef struct clusters {
    const int32_t *p, *q; /* of item i */
    int64_t       *count; /* [2, n_buckets] */
    int32_t        n_buckets;
} clusters;

static double resampled(void *ud, const int32_t *index, int32_t n) {
    clusters *c = ud;
    jpt_mauve m;
    memset(c->count, 0, 2 * (size_t)c->n_buckets * sizeof *c->count);
    for (int32_t i = 0; i < n; i++) {
        c->count[c->p[index[i]]]++;
        c->count[c->n_buckets + c->q[index[i]]]++;
    }
    return jpt_mauve_of_counts(c->count, c->count + c->n_buckets, c->n_buckets, &m, NULL) == JPT_OK ? m.mauve : NAN;
}

/* Keeps what is resampled, so that its mean is known. */
typedef struct recorded {
    clusters c;
    double   sum;
    int32_t  n;
} recorded;
static double recording(void *ud, const int32_t *index, int32_t n) {
    recorded *r = ud;
    double    v = resampled(&r->c, index, n);
    if (isfinite(v))
        r->sum += v, r->n++;
    return v;
}

static jpt_status interval(const int32_t *p, const int32_t *q, size_t n, jpt_evaluation_mauve *out, jpt_error *err) {
    recorded r = {.c = {.p = p, .q = q, .n_buckets = out->mauve.n_buckets}};
    r.c.count = malloc(2 * (size_t)r.c.n_buckets * sizeof *r.c.count);
    jpt_status st = r.c.count ? jpt_bootstrap(recording, &r, (int32_t)n, RESAMPLES, SEED, &out->ci_low, &out->ci_high, err)
                              : JPT_FAIL(err, NOMEM, "out of memory for %d buckets", r.c.n_buckets);
    double bias = r.n ? r.sum / r.n - out->mauve.mauve : NAN; /* resampled sets are rougher than the sets: always further apart */
    out->ci_low = fmax(0, fmin(out->ci_low - bias, out->mauve.mauve));
    out->ci_high = fmin(1, fmax(out->ci_high - bias, out->mauve.mauve));
    free(r.c.count);
    return st;
}

jpt_status jpt_evaluate_mauve(const jpt_evaluate_options *opt, const jpt_str *human, const jpt_str *text, size_t n, double *human_features,
                              bool known, jpt_evaluation_mauve *out, jpt_error *err) {
    size_t   D = (size_t)jpt_model_get_info(jpt_session_model(opt->evaluator))->n_embd;
    double  *q = malloc((n + 1) * D * sizeof *q), *p = human_features ? human_features : malloc((n + 1) * D * sizeof *p);
    int32_t *label = malloc((2 * n + 1) * sizeof *label);
    *out = (jpt_evaluation_mauve){.ci_low = NAN, .ci_high = NAN};
    jpt_status st = p && q && label ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for the features of %zu texts", n);
    if (st == JPT_OK && n > INT32_MAX / 2)
        st = JPT_FAIL(err, ARG, "MAUVE of %zu texts: too many", n);
    if (st == JPT_OK && !known)
        st = features(opt->evaluator, human, n, p, err);
    if (st == JPT_OK)
        st = features(opt->evaluator, text, n, q, err);
    if (st == JPT_OK)
        st = jpt_mauve_of_features(p, (int32_t)n, q, (int32_t)n, (int32_t)D, &(jpt_mauve_options){.seed = MAUVE_SEED}, &out->mauve, label, label + n, err);
    if (st == JPT_OK)
        st = interval(label, label + n, n, out, err);
    free(q);
    free(human_features ? NULL : p);
    free(label);
    return st;
}
