/* Intervals of a panel: one bootstrap crossed over items and blocks for all its cells. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const ratio_of report_figures[N_FIGURES] = {
    [QUALITY] = {SUM_SCORE, SUM_SCORES, "quality", ""},
    [J_TOKEN] = {SUM_TOKENS_ENERGY, SUM_TOKENS, "J/token", "J"},
    [NET_J_TOKEN] = {SUM_TOKENS_NET, SUM_NET_TOKENS, "J/token net", "J"},
    [J_REQUEST] = {SUM_ENERGY, SUM_ENERGIES, "J/request", "J"},
    [NET_J_REQUEST] = {SUM_NET, SUM_NETS, "J/request net", "J"},
    [LATENCY] = {SUM_SECONDS, SUM_DURATIONS, "s/request", "s"},
    [TTFT] = {SUM_TTFT, SUM_TTFTS, "time to first token", "s"},
};

/* ---- Student's t ------------------------------------------------------------------------------- */

/* Regularised incomplete beta function by Lentz's continued fraction (Abramowitz and Stegun 26.5.8). */
static double incomplete_beta(double a, double b, double x) {
    if (x <= 0 || x >= 1)
        return x >= 1;
    if (x > (a + 1) / (a + b + 2))
        return 1 - incomplete_beta(b, a, 1 - x);
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
    double f = d;
    for (int m = 1; m < 300; m++)
        for (int odd = 0; odd < 2; odd++) {
            double k = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + k * d, c = 1 + k / c;
            d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d), c = fabs(c) < 1e-300 ? 1e-300 : c;
            f *= c * d;
            if (odd && fabs(c * d - 1) < 1e-14)
                return front * f;
        }
    return front * f;
}

double report_student_p(double t, double df) { return isfinite(t) ? incomplete_beta(df / 2, .5, df / (df + t * t)) : isnan(t) ? (double)NAN : 0; }

double report_student_quantile(double df) {
    double low = 0, high = 700; /* df 0.5 and less has no use here */
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;
        *(report_student_p(mid, df) > .05 ? &low : &high) = mid;
    }
    return high;
}

/* ---- variance ---------------------------------------------------------------------------------- */

typedef struct spread { double se, df; int n_items, n_blocks; } spread; /* se NAN: nothing to vary */

/* Standard error of a sum of influences z[item][block], by clusters of items and of blocks. */
static spread spread_of(const double *z, const bool *there, int n_items, int n_blocks) {
    double of_items = 0, of_blocks = 0, single = 0;
    int    items = 0, blocks = 0;
    for (int b = 0; b < n_blocks; b++) {
        double t = 0;
        bool   any = false;
        for (int i = 0; i < n_items; i++)
            if (there[i * n_blocks + b])
                t += z[i * n_blocks + b], any = true;
        of_blocks += t * t, blocks += any;
    }
    for (int i = 0; i < n_items; i++) {
        double t = 0;
        bool   any = false;
        for (int b = 0; b < n_blocks; b++)
            if (there[i * n_blocks + b]) {
                double v = z[i * n_blocks + b];
                t += v, single += v * v, any = true;
            }
        of_items += t * t, items += any;
    }
    spread s = {NAN, NAN, items, blocks};
    if (items < 2 && blocks < 2)
        return s;
    of_items = items < 2 ? 0 : of_items * items / (items - 1);
    of_blocks = blocks < 2 ? 0 : of_blocks * blocks / (blocks - 1);
    if (items < 2 || blocks < 2)
        single = 0;
    double v = fmax(fmax(of_items, of_blocks), of_items + of_blocks - single);
    double a = items < 2 ? 0 : of_items * of_items / (items - 1), b = blocks < 2 ? 0 : of_blocks * of_blocks / (blocks - 1);
    s.se = sqrt(v);
    s.df = a + b > 0 ? fmax(1, (of_items + of_blocks) * (of_items + of_blocks) / (a + b)) : fmax(items, blocks) - 1;
    return s;
}

/* d(num/den) of each item and block, added to z with a sign; false when the figure is absent. */
static bool influence(const panel *p, const cell *c, figure f, const bool *mask, double sign, double *z, bool *there, double *value) {
    const ratio_of *r = &report_figures[f];
    int             n = p->n_items * p->n_blocks;
    double          num = 0, den = 0;
    for (int k = 0; k < n; k++)
        if (!mask || mask[k])
            num += c->sums[k][r->num], den += c->sums[k][r->den];
    if (!(den > 0))
        return false;
    *value = num / den;
    double scale = sign * (f == QUALITY ? c->corpus_scale : 1) / den;
    for (int k = 0; k < n; k++)
        if ((!mask || mask[k]) && c->sums[k][r->den] > 0) {
            z[k] += scale * (c->sums[k][r->num] - *value * c->sums[k][r->den]);
            there[k] = true;
        }
    return true;
}

/* ---- replicates -------------------------------------------------------------------------------- */

/* How often each item in each block is drawn in replicate r: the product of two draws with replacement. */
static void draw(const panel *p, int r, float *weight, int *of_item, int *of_block) {
    memset(of_item, 0, (size_t)p->n_items * sizeof *of_item);
    memset(of_block, 0, (size_t)p->n_blocks * sizeof *of_block);
    for (int i = 0; i < p->n_items; i++)
        of_item[(int)(jpt_rng_uniform((jpt_rng_key){REPORT_SEED, (uint32_t)r, 0x17e3u, (uint32_t)i}, 0) * p->n_items)]++;
    for (int b = 0; b < p->n_blocks; b++)
        of_block[(int)(jpt_rng_uniform((jpt_rng_key){REPORT_SEED, (uint32_t)r, 0xb10cu, (uint32_t)b}, 0) * p->n_blocks)]++;
    for (int i = 0, k = 0; i < p->n_items; i++)
        for (int b = 0; b < p->n_blocks; b++)
            weight[k++] = (float)(of_item[i] * of_block[b]);
}

typedef struct room { /* for draw and influence, [items x blocks] and smaller */
    float  *weight;
    int    *of_item, *of_block;
    double *z, *sorted;
    bool   *there, *mask;
} room;

static bool room_init(room *m, const panel *p) {
    size_t n = (size_t)p->n_items * (size_t)p->n_blocks + 1;
    *m = (room){malloc(n * sizeof *m->weight), malloc((size_t)p->n_items * sizeof(int)), malloc((size_t)p->n_blocks * sizeof(int)),
                malloc(n * sizeof *m->z), malloc(REPLICATES * sizeof *m->sorted), malloc(n), malloc(n)};
    return m->weight && m->of_item && m->of_block && m->z && m->sorted && m->there && m->mask;
}

static void room_fini(room *m) {
    free(m->weight), free(m->of_item), free(m->of_block), free(m->z), free(m->sorted), free(m->there), free(m->mask);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double sd_about(const double *v, double mean, int n) {
    double t = 0;
    for (int i = 0; i < n; i++)
        t += (v[i] - mean) * (v[i] - mean);
    return n > 0 ? sqrt(t / n) : NAN;
}

/* Percentiles of sorted[0..n) about `mean`, deviations widened by `by`; those of logarithms where all is positive, so that few
 * blocks, which widen much, give no negative joules. */
static void percentiles(double *sorted, int n, double mean, double by, bool as_log, double *low, double *high) {
    if (n < REPLICATES / 2 || !isfinite(by)) {
        *low = *high = NAN;
        return;
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    double a = sorted[(int)(.025 * (n - 1))], b = sorted[(int)ceil(.975 * (n - 1))];
    if (as_log && mean > 0 && a > 0)
        *low = mean * pow(a / mean, by), *high = mean * pow(b / mean, by);
    else
        *low = mean + by * (a - mean), *high = mean + by * (b - mean);
    *low = fmin(*low, mean), *high = fmax(*high, mean); /* a skew beyond the estimate itself */
}

/* What the deviations of replicates must be multiplied by; 0 when nothing varies. */
static double widening(spread s, double sd) {
    if (!isfinite(s.se))
        return NAN;
    return sd > 0 ? s.se / sd * report_student_quantile(s.df) / 1.959964 : 0;
}

static int copy_finite(const double *v, double *out) {
    int n = 0;
    for (int i = 0; i < REPLICATES; i++)
        if (isfinite(v[i]))
            out[n++] = v[i];
    return n;
}

/* Figure f of cell c from its replicates, which are then moved and scaled to what the estimate says. */
static void estimate_figure(const panel *p, cell *c, figure f, room *m) {
    int    n = p->n_items * p->n_blocks;
    double value = NAN;
    memset(m->z, 0, (size_t)n * sizeof *m->z), memset(m->there, 0, (size_t)n);
    double scale = f == QUALITY ? c->corpus_scale : 1;
    if (!influence(p, c, f, NULL, 1, m->z, m->there, &value) || c->rep[f] == NULL)
        return;
    spread s = spread_of(m->z, m->there, p->n_items, p->n_blocks);
    double mean = f == QUALITY && c->corpus ? c->fig[QUALITY].mean : value;
    for (int i = 0; i < REPLICATES; i++)
        c->rep[f][i] = mean + scale * (c->rep[f][i] - value);
    int    k = copy_finite(c->rep[f], m->sorted);
    double by = widening(s, sd_about(m->sorted, mean, k));
    estimate e = {mean, NAN, NAN, s.n_items};
    percentiles(m->sorted, k, mean, by, f != QUALITY, &e.low, &e.high);
    if (f == QUALITY && !c->corpus && isfinite(e.low)) /* no mean of scores leaves their range */
        e.low = fmax(e.low, c->worst_score), e.high = fmin(e.high, c->best_score);
    c->fig[f] = e;
    /* scaled by the standard error alone: t belongs to intervals */
    double sd = isfinite(by) && by > 0 ? s.se / sd_about(m->sorted, mean, k) : isfinite(by) ? 1 : NAN;
    if (isfinite(sd))
        for (int i = 0; i < REPLICATES; i++)
            c->rep[f][i] = mean + sd * (c->rep[f][i] - mean);
}

static jpt_status replicate(panel *p, room *m) {
    int n = p->n_items * p->n_blocks;
    for (int c = 0; c < p->n_cells; c++)
        for (figure f = 0; f < N_FIGURES; f++)
            if ((p->cells[c]->rep[f] = malloc(REPLICATES * sizeof(double))) == NULL)
                return JPT_NOMEM;
    for (int r = 0; r < REPLICATES; r++) {
        draw(p, r, m->weight, m->of_item, m->of_block);
        for (int c = 0; c < p->n_cells; c++) {
            double total[N_SUMS] = {0};
            for (int k = 0; k < n; k++) {
                double w = m->weight[k];
                if (w > 0)
                    for (int s = 0; s < N_SUMS; s++)
                        total[s] += w * p->cells[c]->sums[k][s];
            }
            for (figure f = 0; f < N_FIGURES; f++) {
                double den = total[report_figures[f].den];
                p->cells[c]->rep[f][r] = den > 0 ? total[report_figures[f].num] / den : NAN;
            }
        }
    }
    return JPT_OK;
}

void report_pareto(const double *quality, const double *joules, int n, bool higher_is_better, bool *front) {
    for (int i = 0; i < n; i++) {
        front[i] = isfinite(quality[i]) && isfinite(joules[i]);
        for (int k = 0; k < n && front[i]; k++) {
            double gain = higher_is_better ? quality[k] - quality[i] : quality[i] - quality[k];
            if (k != i && gain >= 0 && joules[k] <= joules[i] && (gain > 0 || joules[k] < joules[i]))
                front[i] = false;
        }
    }
}

/* The front of the estimates, and of each replicate. */
static jpt_status fronts(panel *p) {
    size_t  n = (size_t)p->n_cells;
    double *q = malloc(2 * n * sizeof *q), *j = q + n;
    bool   *front = malloc(n);
    int    *count = calloc(n, sizeof *count);
    bool    higher = p->task->higher_is_better != 0, ok = q && front && count;
    for (int per = 0; ok && per < 2; per++) {
        figure f = per ? J_REQUEST : J_TOKEN;
        memset(count, 0, n * sizeof *count);
        for (int r = -1; r < REPLICATES; r++) {
            for (int i = 0; i < p->n_cells; i++) {
                const cell *c = p->cells[i];
                bool        has = isfinite(c->fig[QUALITY].mean) && isfinite(c->fig[f].mean);
                q[i] = !has ? NAN : r < 0 ? c->fig[QUALITY].mean : c->rep[QUALITY][r];
                j[i] = !has ? NAN : r < 0 ? c->fig[f].mean : c->rep[f][r];
            }
            report_pareto(q, j, p->n_cells, higher, front);
            for (int i = 0; i < p->n_cells; i++)
                if (r < 0)
                    p->cells[i]->front[per] = front[i];
                else
                    count[i] += front[i];
        }
        for (int i = 0; i < p->n_cells; i++) {
            cell *c = p->cells[i];
            bool  has = isfinite(c->fig[QUALITY].low) && isfinite(c->fig[f].low);
            c->p_front[per] = has ? (double)count[i] / REPLICATES : NAN;
            double vj = 0, vq = 0, cov = 0;
            int    k = 0;
            for (int r = 0; has && r < REPLICATES; r++) {
                double dq = c->rep[QUALITY][r] - c->fig[QUALITY].mean, dj = c->rep[f][r] - c->fig[f].mean;
                if (isfinite(dq) && isfinite(dj))
                    vj += dj * dj, vq += dq * dq, cov += dq * dj, k++;
            }
            c->sd[per] = k ? sqrt(vj / k) : NAN, c->cov[per] = k ? cov / k : NAN;
            c->sd_quality = k ? sqrt(vq / k) : c->sd_quality;
        }
    }
    free(q), free(front), free(count);
    return ok ? JPT_OK : JPT_NOMEM;
}

jpt_status report_bootstrap(panel *p) {
    room       m;
    jpt_status st = room_init(&m, p) ? replicate(p, &m) : JPT_NOMEM;
    for (int c = 0; st == JPT_OK && c < p->n_cells; c++)
        for (figure f = 0; f < N_FIGURES; f++) {
            cell *at = p->cells[c];
            if (f == QUALITY && at->partial) {
                at->fig[f] = (estimate){NAN, NAN, NAN, 0};
                continue;
            }
            estimate_figure(p, at, f, &m);
        }
    if (st == JPT_OK)
        st = fronts(p);
    room_fini(&m);
    return st;
}

/* ---- differences ------------------------------------------------------------------------------- */

/* Items and blocks that both have; true when that is all that either has. */
static bool shared(const panel *p, const cell *a, const cell *b, figure f, bool *mask) {
    sum_of den = report_figures[f].den;
    bool all = true;
    for (int k = 0; k < p->n_items * p->n_blocks; k++) {
        bool x = a->sums[k][den] > 0, y = b->sums[k][den] > 0;
        mask[k] = x && y;
        all = all && x == y;
    }
    return all;
}

/* The replicates of both on the shared items alone: for a study that is not finished. */
static void replicate_shared(const panel *p, const cell *a, const cell *b, figure f, room *m, double *ra, double *rb) {
    const ratio_of *q = &report_figures[f];
    for (int r = 0; r < REPLICATES; r++) {
        double t[4] = {0};
        draw(p, r, m->weight, m->of_item, m->of_block);
        for (int k = 0; k < p->n_items * p->n_blocks; k++)
            if (m->mask[k]) {
                t[0] += m->weight[k] * a->sums[k][q->num], t[1] += m->weight[k] * a->sums[k][q->den];
                t[2] += m->weight[k] * b->sums[k][q->num], t[3] += m->weight[k] * b->sums[k][q->den];
            }
        ra[r] = t[1] > 0 && t[3] > 0 ? t[0] / t[1] : NAN;
        rb[r] = t[1] > 0 && t[3] > 0 ? t[2] / t[3] : NAN;
    }
}

difference report_difference(const panel *p, const cell *a, const cell *b, figure f) {
    difference d = {{NAN, NAN, NAN, 0}, {NAN, NAN, NAN, 0}, NAN, false};
    room       m;
    int        n = p->n_items * p->n_blocks;
    double    *ra = malloc(2 * REPLICATES * sizeof *ra), *rb = ra + REPLICATES, va, vb;
    if (!room_init(&m, p) || !ra)
        goto out;
    bool all = shared(p, a, b, f, m.mask);
    memset(m.z, 0, (size_t)n * sizeof *m.z), memset(m.there, 0, (size_t)n);
    if (!influence(p, a, f, m.mask, 1, m.z, m.there, &va) || !influence(p, b, f, m.mask, -1, m.z, m.there, &vb))
        goto out;
    bool corpus = f == QUALITY && (a->corpus || b->corpus || a->partial || b->partial);
    spread s = spread_of(m.z, m.there, p->n_items, p->n_blocks);
    d.segments = corpus && !(all && a->corpus && b->corpus);
    if (all && !d.segments && a->rep[f] && b->rep[f]) {
        memcpy(ra, a->rep[f], REPLICATES * sizeof *ra), memcpy(rb, b->rep[f], REPLICATES * sizeof *rb);
        va = a->fig[f].mean, vb = b->fig[f].mean;
    } else
        replicate_shared(p, a, b, f, &m, ra, rb);
    d.delta = (estimate){va - vb, NAN, NAN, s.n_items};
    d.ratio = (estimate){vb > 0 ? va / vb : NAN, NAN, NAN, s.n_items};
    int k = 0;
    for (int i = 0; i < REPLICATES; i++)
        if (isfinite(ra[i] - rb[i]))
            m.sorted[k++] = ra[i] - rb[i];
    double by = widening(s, sd_about(m.sorted, d.delta.mean, k));
    percentiles(m.sorted, k, d.delta.mean, by, false, &d.delta.low, &d.delta.high);
    if (isfinite(s.se))
        d.p = s.se > 1e-12 * fmax(fabs(va), fabs(vb)) ? report_student_p(d.delta.mean / s.se, s.df) : d.delta.mean == 0;
    k = 0;
    for (int i = 0; i < REPLICATES && vb > 0; i++)
        if (isfinite(ra[i]) && rb[i] > 0)
            m.sorted[k++] = ra[i] / rb[i];
    percentiles(m.sorted, k, d.ratio.mean, by, true, &d.ratio.low, &d.ratio.high);
    /* Requests of a metered window share its joules: what differs between windows shows between blocks alone. */
    if (!p->modelled && p->n_blocks < 2 && (f == J_TOKEN || f == NET_J_TOKEN || f == J_REQUEST || f == NET_J_REQUEST))
        d.delta.low = d.delta.high = d.ratio.low = d.ratio.high = d.p = NAN;
    if (va >= 0)
        d.ratio.low = isfinite(d.ratio.low) ? fmax(d.ratio.low, 0) : d.ratio.low; /* of what is never negative */
out:
    room_fini(&m);
    free(ra);
    return d;
}

bool report_separable(estimate e) { return isfinite(e.low) && (e.low > 0 || e.high < 0); }
