/* Looking back at hidden states and at earlier layers: the definition of contrastive search's similarity and of contrasted
 * distributions.  cpu runs the same code on its threads: they share out history rows or layers, never one sum. */
#include "../host.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- hidden states ------------------------------------------------------------------------------------------- */

void host_keep_rows(jpt_backend *be, const float *x, int32_t n, int32_t D, bool unit, float *y) {
    (void)be;
    memcpy(y, x, (size_t)n * (size_t)D * sizeof *y);
    for (int32_t i = 0; unit && i < n; i++)
        jpt_unit_row(y + (size_t)i * (size_t)D, D);
}

enum { HISTORY_CHUNK = 64 };

typedef struct similarity_job {
    const float *x, *h; /* unit rows */
    float       *most;  /* [chunks, n] */
    int32_t      n, D, m;
} similarity_job;

static void similarity_chunk(void *ud, int32_t chunk, int32_t thread) {
    (void)thread;
    const similarity_job *j = ud;
    int32_t               from = chunk * HISTORY_CHUNK, to = j->m - from < HISTORY_CHUNK ? j->m : from + HISTORY_CHUNK;
    float                *most = j->most + (size_t)chunk * (size_t)j->n;
    for (int32_t i = 0; i < j->n; i++)
        most[i] = -INFINITY;
    for (int32_t k = from; k < to; k++) /* candidates share a reading of the history */
        for (int32_t i = 0; i < j->n; i++) {
            float c = jpt_dot(j->x + (size_t)i * (size_t)j->D, j->h + (size_t)k * (size_t)j->D, j->D);
            most[i] = c > most[i] ? c : most[i];
        }
}

jpt_status host_similarity(host_backend *b, jpt_pool *pool, const float *x, int32_t n, int32_t D, const float *h, int32_t m, float *out, jpt_error *err) {
    int32_t chunks = (m + HISTORY_CHUNK - 1) / HISTORY_CHUNK;
    size_t  need = (size_t)n * ((size_t)D + (size_t)chunks);
    if (need > b->look_cap) {
        free(b->look);
        b->look_cap = 2 * need;
        b->look = malloc(b->look_cap * sizeof *b->look);
        if (!b->look) {
            b->look_cap = 0;
            return JPT_FAIL(err, NOMEM, "out of memory for %d candidates' states", n);
        }
    }
    similarity_job job = {b->look, h, b->look + (size_t)n * (size_t)D, n, D, m};
    host_keep_rows(NULL, x, n, D, true, b->look);
    if (pool)
        jpt_pool_run(pool, similarity_chunk, &job, chunks);
    for (int32_t c = 0; !pool && c < chunks; c++)
        similarity_chunk(&job, c, 0);
    for (int32_t i = 0; i < n; i++) {
        out[i] = -INFINITY;
        for (int32_t c = 0; c < chunks; c++)
            out[i] = job.most[(size_t)c * (size_t)n + (size_t)i] > out[i] ? job.most[(size_t)c * (size_t)n + (size_t)i] : out[i];
    }
    return JPT_OK;
}

jpt_status host_row_dots(jpt_backend *be, const float *h, int32_t D, const int32_t *a, const int32_t *b, int32_t n, float *out, jpt_error *err) {
    (void)be;
    (void)err;
    for (int32_t i = 0; i < n; i++)
        out[i] = jpt_dot(h + (size_t)a[i] * (size_t)D, h + (size_t)b[i] * (size_t)D, D);
    return JPT_OK;
}

/* ---- contrast ----------------------------------------------------------------------------------------------------- */

double jpt_dola_divergence(const float *log_m, const float *log_p, int32_t n) {
    double sum = 0;
    for (int32_t v = 0; v < n; v++) {
        double a = 0.5 * (exp((double)log_m[v]) + exp((double)log_p[v]));
        if (a > 0)
            sum += a * (log(a) - (double)log_m[v]) + a * (log(a) - (double)log_p[v]);
    }
    return 0.5 * sum / n;
}

static float largest(const float *v, int32_t n) {
    float top = -INFINITY;
    for (int32_t i = 0; i < n; i++)
        top = v[i] > top ? v[i] : top;
    return top;
}

jpt_status jpt_contrast_row(const jpt_contrast *how, float *z, float *base, int32_t V, float *logp, jpt_error *err) {
    if (!jpt_log_softmax(z, V, logp))
        return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
    if (how->form == JPT_CONTRAST_LOGPROBS) {
        for (int32_t v = 0; v < V; v++)
            base[v] /= how->temperature;
        if (!jpt_log_softmax(base, V, base))
            return JPT_FAIL(err, DEVICE, "the amateur gives no finite logit");
    }
    float bound = largest(logp, V) + logf(how->relative_top), beta = how->beta;
    for (int32_t v = 0; v < V; v++) {
        float c = how->form == JPT_CONTRAST_DOLA ? logp[v] - base[v] : how->form == JPT_CONTRAST_LOGITS ? (1 + beta) * z[v] - beta * base[v] : logp[v] - beta * base[v];
        z[v] = logp[v] < bound ? -INFINITY : c;
    }
    return JPT_OK;
}

typedef struct layers_job {
    float       *base; /* layer e at base + e * step */
    size_t       step;
    const float *logp;
    int32_t      V, n;
    double       js[JPT_CONTRAST_BASES];
    bool         fails[JPT_CONTRAST_BASES];
} layers_job;

static void look_at_layer(void *ud, int32_t e, int32_t thread) {
    (void)thread;
    layers_job *j = ud;
    float      *row = j->base + (size_t)e * j->step;
    j->fails[e] = !jpt_log_softmax(row, j->V, row);
    j->js[e] = !j->fails[e] && j->n > 1 ? jpt_dola_divergence(j->logp, row, j->V) : 0;
}

/* The layer that differs most from the last one's logp; all become log-probabilities. */
static jpt_status premature_layer(jpt_pool *pool, layers_job *j, float **out, jpt_error *err) {
    int32_t best = 0;
    if (pool)
        jpt_pool_run(pool, look_at_layer, j, j->n);
    for (int32_t e = 0; !pool && e < j->n; e++)
        look_at_layer(j, e, 0);
    for (int32_t e = 0; e < j->n; e++) {
        if (j->fails[e])
            return JPT_FAIL(err, DEVICE, "an early layer gives no finite logit");
        best = j->js[e] > j->js[best] ? e : best;
    }
    *out = j->base + (size_t)best * j->step;
    return JPT_OK;
}

jpt_status host_contrast(jpt_pool *pool, const jpt_contrast *how, float *logits, int32_t V, const int32_t *rows, int32_t n, float *base, int32_t n_base, int32_t stride,
                         const int32_t *base_rows, float *logp, jpt_error *err) {
    JPT_ASSERT(n_base >= 1 && n_base <= JPT_CONTRAST_BASES);
    for (int32_t i = 0; i < n; i++) {
        float *z = logits + (size_t)rows[i] * (size_t)V, *own = logp + (size_t)rows[i] * (size_t)V, *other = base + (size_t)base_rows[i] * (size_t)V;
        if (how->form == JPT_CONTRAST_DOLA) {
            layers_job j = {.base = other, .step = (size_t)stride * (size_t)V, .logp = own, .V = V, .n = n_base};
            if (!jpt_log_softmax(z, V, own))
                return JPT_FAIL(err, DEVICE, "the model produced no finite logit");
            JPT_TRY(premature_layer(pool, &j, &other, err));
        }
        JPT_TRY(jpt_contrast_row(how, z, other, V, own, err));
    }
    return JPT_OK;
}
