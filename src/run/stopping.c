/* When are there blocks enough?  An interval that may be looked at after each block. */
#include "run_priv.h"

/* The mixture t interval: for every mean m, the likelihood ratio of "effect drawn from N(0, tau^2) in units of the standard deviation"
 * against "mean m", the scale integrated out by the right Haar measure, is a non-negative martingale under m, and by Ville's inequality
 * passes 1/alpha at any time with probability at most alpha.  The interval is all m that did not (docs/energy-method.md). */
void jpt_stopping_interval(const double *x, int32_t n, double alpha, double *low, double *high) {
    const double tau2 = 10; /* tight when a few blocks settle the matter; any value is valid */
    double       mean = 0, square = 0;
    *low = -INFINITY;
    *high = INFINITY;
    for (int32_t i = 0; i < n; i++) {
        double d = x[i] - mean;
        mean += d / (i + 1);
        square += d * (x[i] - mean);
    }
    if (n < 5) /* on fewer it leans on the bell shape too much: with flat noise it missed 6 % instead of 5 */
        return;
    double k = 1 + n * tau2, r = pow(sqrt(k) / alpha, 2.0 / n);
    if (!(r < k))
        return;
    double half = sqrt((r - 1) / (1 - r / k) * square / n); /* |t| = sqrt((n - 1) (r - 1) / (1 - r / k)) times s / sqrt(n) */
    *low = mean - half;
    *high = mean + half;
}

/* J/token of a setting in a block, over the cells that the rule is about. */
static double joules_per_token(const bench *b, const char *spec, int32_t block) {
    double joules = 0, tokens = 0;
    for (size_t i = 0; i < b->n_cells; i++) {
        const cell *c = &b->cell[i];
        if (strcmp(c->spec->text, spec) != 0 || (b->opt->stop.task && strcmp(jpt_task_get_info(c->task)->name, b->opt->stop.task) != 0))
            continue;
        if (!(c->block[block].tokens > 0))
            return NAN; /* a cell without a valid window: the pair is not whole */
        joules += c->block[block].joules;
        tokens += c->block[block].tokens;
    }
    return tokens > 0 ? joules / tokens : NAN;
}

jpt_status run_look(bench *b, int32_t blocks, bool budget_spent, bool *done, jpt_error *err) {
    const jpt_run_stop *s = &b->opt->stop;
    double             *x = malloc((size_t)(blocks ? blocks : 1) * sizeof *x), low, high, sum = 0;
    int32_t             n = 0;
    if (!x)
        return JPT_FAIL(err, NOMEM, "out of memory for %d blocks", blocks);
    for (int32_t i = 0; i < blocks; i++) {
        x[n] = log(joules_per_token(b, s->b, i) / joules_per_token(b, s->a, i));
        sum += isfinite(x[n]) ? x[n] : 0;
        n += isfinite(x[n]);
    }
    jpt_stopping_interval(x, n, 0.05, &low, &high);
    free(x);
    *done = false;
    if (n == 0)
        return JPT_OK;
    b->sum->difference = exp(sum / n) - 1;
    b->sum->ci_low = exp(low) - 1;
    b->sum->ci_high = exp(high) - 1;
    b->progress.width = b->sum->ci_high - b->sum->ci_low;
    *done = b->progress.width < s->width;
    b->sum->narrow_enough = *done;
    jpt_look_row r;
    int64_t      id;
    jpt_look_row_init(&r);
    r.study = b->study;
    for (size_t t = 0; s->task && t < b->opt->n_tasks; t++)
        if (strcmp(jpt_task_get_info(b->opt->tasks[t])->name, s->task) == 0)
            r.task = b->task[t];
    r.spec_a = s->a;
    r.spec_b = s->b;
    r.quantity = "j_per_token";
    r.blocks = n;
    r.difference = b->sum->difference;
    r.ci_low = b->sum->ci_low; /* an infinite one is stored as absent */
    r.ci_high = b->sum->ci_high;
    r.wanted_width = s->width;
    r.decision = *done ? "narrow enough" : budget_spent ? "budget spent" : "go on";
    return jpt_store_put_look(b->store, &r, &id, err);
}
