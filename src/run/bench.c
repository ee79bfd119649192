/* The bench loop: blocks of cells in random order, requests in metered windows, each finished window in the store at once. */
#include "run_priv.h"

/* ---- rules of windows ------------------------------------------------------------------------------------- */

jpt_run_windows run_window_rule(const jpt_run_options *o, const jpt_meter *m) {
    const jpt_meter_limits *l = jpt_meter_get_limits(m);
    jpt_run_windows         w = o->windows;
    bool                    card = l->shortest_s >= 2;
    w.seconds = w.seconds > 0 ? w.seconds : card ? l->short_s : 2;
    w.idle_s = w.idle_s > 0 ? w.idle_s : card ? 3 : 1;
    w.warm_up_s = w.warm_up_s > 0 ? w.warm_up_s : card ? 60 : 10;
    w.repeats = w.repeats > 0 ? w.repeats : 2;
    return w;
}

bool run_wants_sentinel(const engine *e) { return e->rule.sentinel > 0 || (e->rule.sentinel == 0 && e->counts); }

static jpt_request request_of(const bench *b, const cell *c, int32_t item, uint64_t seed, const jpt_ids *ids) {
    const jpt_task_info *t = jpt_task_get_info(c->task);
    int32_t              cap = c->max_new_tokens, left = t->max_total_tokens - (int32_t)ids->n;
    if (t->max_total_tokens && left < cap)
        cap = left < 1 ? 1 : left;
    return (jpt_request){.spec = c->spec, .prompt = ids->p, .n_prompt = (int32_t)ids->n, .max_new_tokens = cap,
                         .min_new_tokens = t->min_new_tokens < cap ? t->min_new_tokens : cap, .stop = t->stop, .n_stop = t->n_stop, .seed = seed, .prompt_index = (uint32_t)item,
                         .max_joules = b->opt->max_joules};
}

static void note(bench *b, const char *text) {
    b->progress.note = text;
    if (b->opt->on_progress)
        b->opt->on_progress(b->opt->ud, &b->progress);
    b->progress.note = NULL;
}

/* Requests of a task, ready to be generated. */
typedef struct requests {
    int32_t         n;
    jpt_ids        *ids;
    jpt_request    *q;
    jpt_generation *g;
    int32_t        *n_prompt;
} requests;

static void requests_fini(requests *r) {
    for (int32_t i = 0; i < r->n; i++) {
        if (r->g)
            jpt_generation_fini(&r->g[i]);
        if (r->ids)
            jpt_ids_fini(&r->ids[i]);
    }
    free(r->ids);
    free(r->q);
    free(r->g);
    free(r->n_prompt);
}

static void forget_answers(requests *r, int32_t from, int32_t n) {
    for (int32_t i = from; i < from + n; i++) {
        jpt_generation_fini(&r->g[i]);
        r->g[i] = (jpt_generation){0};
    }
}

static jpt_status requests_init(requests *r, const bench *b, const cell *c, const int32_t *item, const uint64_t *seed, int32_t n, jpt_error *err) {
    const jpt_task_info *t = jpt_task_get_info(c->task);
    *r = (requests){.n = n, .ids = calloc((size_t)n, sizeof *r->ids), .q = calloc((size_t)n, sizeof *r->q), .g = calloc((size_t)n, sizeof *r->g),
                    .n_prompt = calloc((size_t)n, sizeof *r->n_prompt)};
    if (!r->ids || !r->q || !r->g || !r->n_prompt)
        return JPT_FAIL(err, NOMEM, "out of memory for %d requests", n);
    for (int32_t i = 0; i < n; i++) {
        JPT_TRY(jpt_run_encode_prompt(c->e->e->model, t->system, jpt_task_get_item(c->task, (size_t)item[i])->prompt, t->chat, &r->ids[i], err));
        r->q[i] = request_of(b, c, item[i], seed[i], &r->ids[i]);
        r->n_prompt[i] = (int32_t)r->ids[i].n;
    }
    return JPT_OK;
}

/* ---- before a window ------------------------------------------------------------------------------------------- */

/* An unmeasured short answer of a cell: its kernels, graphs and pages exist before its window. */
static jpt_status wake(const cell *c, const jpt_request *q, int32_t n_tokens, double *step_s, jpt_error *err) {
    jpt_generation g = {0};
    jpt_request    brief = *q;
    brief.max_new_tokens = n_tokens < q->max_new_tokens ? n_tokens : q->max_new_tokens;
    brief.min_new_tokens = 0;
    brief.max_joules = 0;
    jpt_status st = jpt_generate(c->e->session, &brief, 1, 1, &g, NULL, NULL, err);
    if (st == JPT_OK && step_s)
        *step_s = g.decode_s / (double)(g.work.forwards > 1 ? g.work.forwards - 1 : 1);
    jpt_generation_fini(&g);
    return st;
}

static double temperature(jpt_meter *m) {
    jpt_card_state s;
    jpt_meter_card_state(m, false, &s);
    return s.temp_c;
}

/* Until the last five answers' step times vary by less than 5 % and the card warms by less than a degree in 10 s; at most warm_up_s. */
static jpt_status warm_up(bench *b, const cell *c, const jpt_request *q, jpt_error *err) {
    enum { LAST = 5 };
    engine *e = c->e;
    double  step[LAST] = {0}, begun = jpt_now_s(), looked_s = begun, looked_c = temperature(e->e->meter);
    bool    settled = isnan(looked_c);
    e->warm = true;
    e->steady = false;
    for (int32_t n = 0; !e->steady; n++) {
        if (jpt_stop_requested())
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
        JPT_TRY(wake(c, q, 16, &step[n % LAST], err));
        if (!e->counts)
            return JPT_OK; /* a modelled meter minds neither */
        double mean = 0, var = 0, now = jpt_now_s();
        for (int i = 0; i < LAST; i++)
            mean += step[i] / LAST;
        for (int i = 0; i < LAST; i++)
            var += (step[i] - mean) * (step[i] - mean) / (LAST - 1);
        if (now - looked_s >= 10) {
            double c10 = temperature(e->e->meter);
            settled = isnan(c10) || fabs(c10 - looked_c) < 1;
            looked_s = now;
            looked_c = c10;
        }
        e->steady = n + 1 >= LAST && settled && sqrt(var) < 0.05 * mean;
        if (now - begun > e->rule.warm_up_s)
            break;
    }
    e->warm_up_s = jpt_now_s() - begun;
    if (!e->steady)
        note(b, "warming up did not come to rest in its time; going on");
    return JPT_OK;
}

/* An idle baseline with everything resident, kept as a window of its own. */
static jpt_status idle_window(bench *b, engine *e, int32_t block, int32_t order, jpt_error *err) {
    jpt_energy energy;
    double     begun;
    if (jpt_meter_get_limits(e->e->meter)->second)
        jpt_sleep_s(0.3); /* the card settles from what ran before */
    JPT_TRY(jpt_meter_idle_window(e->e->meter, e->rule.idle_s, &energy, &begun, err));
    b->window.window.facts.begin.t_s = begun;
    b->window.n_samples = jpt_meter_samples(e->e->meter, begun - 0.5, begun + energy.duration_s + 0.5, b->window.samples, RUN_SAMPLES);
    window_facts f = {.kind = "idle", .cell = -1, .block = block, .order = order, .attempt = 0, .replications = -1, .n = -1, .idle_before_w = NAN, .idle_after_w = NAN};
    e->idle_w = energy.valid ? energy.mean_w : NAN;
    if (isfinite(energy.energy_j))
        b->spent_j += energy.energy_j;
    b->spent_s += energy.duration_s;
    b->last = e;
    if (!energy.valid)
        note(b, "an idle baseline is not valid; net joules are left out beside it");
    return run_put_window(b, e, NULL, &f, NULL, false, &energy, NULL, err);
}

/* ---- one window ---------------------------------------------------------------------------------------------------- */

static bool over_budget(const bench *b) {
    return (b->opt->max_joules_total > 0 && b->spent_j >= b->opt->max_joules_total) || (b->opt->max_hours > 0 && b->spent_s >= 3600 * b->opt->max_hours);
}

/* Requests generated between two looks at the clock: a few rounds of the batch, so that slots seldom stand empty. */
static int32_t chunk_of(const cell *c) { return c->n_batch > 1 ? 8 * c->n_batch : 1; }

/* Generate r's requests, at most n of them: as many as fill a window, and those again until it is full.  Without a counter: a chunk. */
static jpt_status fill(bench *b, const cell *c, requests *r, int32_t n, int32_t *done, int32_t *replications, jpt_error *err) {
    double  begun = jpt_now_s();
    int32_t chunk = chunk_of(c);
    bool    fixed = *done > 0; /* a repeat takes what the first try took */
    int32_t most = fixed ? *done : n;
    *done = 0;
    *replications = 1;
    do {
        int32_t k = most - *done < chunk ? most - *done : chunk;
        JPT_TRY(run_generate(&b->window, r->q + *done, k, c->n_batch, r->g + *done, err));
        *done += k;
    } while (*done < most && (fixed || (c->e->counts && jpt_now_s() - begun < c->e->rule.seconds)));
    while (c->e->counts && jpt_now_s() - begun < c->e->rule.seconds) {
        jpt_generation *again = calloc((size_t)*done, sizeof *again);
        jpt_status      st = again ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d answers", *done);
        for (int32_t at = 0; st == JPT_OK && at < *done; at += chunk)
            st = run_generate(&b->window, r->q + at, *done - at < chunk ? *done - at : chunk, c->n_batch, again + at, err);
        for (int32_t i = 0; again && i < *done; i++)
            jpt_generation_fini(&again[i]);
        free(again);
        JPT_TRY(st);
        ++*replications;
    }
    return JPT_OK;
}

static double relative_width(const cell *c, int32_t blocks) {
    double  mean = 0, var = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < blocks; i++)
        if (c->block[i].tokens > 0) {
            double x = c->block[i].joules / c->block[i].tokens, d = x - mean;
            mean += d / ++n;
            var += d * (x - mean);
        }
    static const double t[] = {0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26};
    return n < 2 || !(mean > 0) ? NAN : 2 * (n - 1 < 10 ? t[n - 1] : 2.1) * sqrt(var / (n - 1) / n) / mean;
}

static void tell(bench *b, const cell *c, const window_facts *f, const jpt_energy *w, const requests *r) {
    jpt_run_progress *p = &b->progress;
    double            joules = 0, tokens = 0, made = 0;
    for (int32_t i = 0; i < f->n; i++)
        made += r->g[i].n_tokens;
    if (w->valid) {
        p->tokens += (int64_t)made;
        p->energy_j += w->energy_j / f->replications;
        c->block[f->block].joules += w->energy_j;
        c->block[f->block].tokens += made * f->replications;
    }
    for (int32_t i = 0; i < b->most_blocks; i++)
        joules += c->block[i].joules, tokens += c->block[i].tokens;
    b->sum->done += f->n;
    p->done += f->n;
    p->block = f->block;
    p->task = jpt_task_get_info(c->task)->name;
    p->spec = c->spec->text;
    p->batch = c->n_batch;
    p->tokens_per_s = w->duration_s > 0 ? made * f->replications / w->duration_s : NAN;
    p->watts = w->mean_w;
    p->joules_per_token = tokens > 0 ? joules / tokens : NAN;
    if (!b->opt->stop.a)
        p->width = relative_width(c, f->block + 1);
    if (b->opt->on_progress)
        b->opt->on_progress(b->opt->ud, p);
}

/* One window of a cell, repeated while it is not valid.  *taken: how many of the n requests it served. */
static jpt_status one_window(bench *b, const cell *c, const char *kind, int32_t block, int32_t order, const int32_t *item, const uint64_t *seed, int32_t n, int32_t *taken,
                             jpt_error *err) {
    engine      *e = c->e;
    requests     r = {0};
    bool         served = strcmp(kind, "requests") == 0;
    window_facts f = {.kind = kind, .cell = c->id, .block = block, .order = order, .attempt = -1};
    int32_t      most = c->e->counts ? 256 * c->n_batch : chunk_of(c); /* prompts made ready outside the window */
    n = n < most ? n : most;
    jpt_status st = requests_init(&r, b, c, item, seed, n, err);
    if (st == JPT_OK && !e->warm)
        st = warm_up(b, c, &r.q[0], err);
    for (bool again = true; st == JPT_OK && again;) {
        jpt_energy energy = {0};
        jpt_ledger books;
        f.attempt++;
        again = false;
        if (e->counts)
            st = wake(c, &r.q[0], 8, NULL, err);
        if (st == JPT_OK && e->counts && (isnan(e->idle_w) || b->last != e))
            st = idle_window(b, e, block, order, err);
        if (st != JPT_OK)
            break;
        f.idle_before_w = e->idle_w;
        f.idle_after_w = NAN;
        run_window_open(&b->window, e->session, e->e->meter);
        st = fill(b, c, &r, n, &f.n, &f.replications, err);
        run_window_close(&b->window, f.idle_before_w, &energy);
        if (st != JPT_OK) /* what was begun is not whole: it does not count */
            break;
        b->spent_s += energy.duration_s;
        if (isfinite(energy.energy_j))
            b->spent_j += energy.energy_j;
        /* the samples of this window are wanted after the next baseline's */
        size_t            n_samples = b->window.n_samples;
        double            begun = b->window.window.facts.begin.t_s;
        jpt_power_sample *kept = NULL;
        if (e->counts) {
            if (n_samples && !(kept = malloc(n_samples * sizeof *kept))) {
                st = JPT_FAIL(err, NOMEM, "out of memory for power samples");
                break;
            }
            if (kept)
                memcpy(kept, b->window.samples, n_samples * sizeof *kept);
            st = idle_window(b, e, block, order, err);
            f.idle_after_w = e->idle_w;
            if (kept)
                memcpy(b->window.samples, kept, n_samples * sizeof *kept);
            free(kept);
            b->window.n_samples = n_samples;
            b->window.window.facts.begin.t_s = begun;
        }
        if (st != JPT_OK)
            break;
        double idle_w = isnan(f.idle_before_w) ? f.idle_after_w : isnan(f.idle_after_w) ? f.idle_before_w : 0.5 * (f.idle_before_w + f.idle_after_w);
        run_window_books(&b->window, idle_w, &energy, &books);
        again = e->counts && !energy.valid && f.attempt < e->rule.repeats;
        asked a = {item, seed, r.n_prompt, r.g};
        bool  lost = e->counts && isnan(energy.energy_j) && !again; /* nothing came of any try: the answers wait for a meter that works */
        st = run_put_window(b, e, c, &f, &a, served && !again && !lost, &energy, &books, err);
        e->warm_up_s = NAN;
        b->last = e;
        if (st == JPT_OK && !energy.valid && e->counts) {
            char text[200];
            b->sum->windows_invalid++;
            snprintf(text, sizeof text, "block %d, %.60s: window not valid (%.90s)%s", block, c->spec->text, energy.reasons, again ? "; again" : "");
            note(b, text);
        }
        if (st == JPT_OK && lost) {
            st = JPT_FAIL(err, METER, "the meter gives no reading any more (%.120s); what is finished is kept, the same command goes on when it works again", energy.reasons);
            break;
        }
        if (again)
            forget_answers(&r, 0, f.n);
        else if (st == JPT_OK && served)
            tell(b, c, &f, &energy, &r);
    }
    *taken = f.n;
    requests_fini(&r);
    return st;
}

/* ---- blocks -------------------------------------------------------------------------------------------------------------- */

/* Fisher-Yates by Philox: the same block has the same order after a resume. */
static void shuffle(size_t *order, size_t n, uint64_t seed, uint32_t block) {
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t i = n; i > 1; i--) {
        jpt_rng_key key = {seed ^ 0x6a7074u, block, 0xb10cu, (uint32_t)i};
        size_t      k = (size_t)(jpt_rng_uniform(key, 0) * (double)i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* The requests of a cell in a block that are not stored yet, window by window. */
static jpt_status run_cell(bench *b, cell *c, int32_t block, int32_t order, double block_j, double block_s, bool *fresh, jpt_error *err) {
    int32_t    most = c->n_items * c->n_seeds, n = 0, taken = 0;
    int32_t   *item = malloc((size_t)most * sizeof *item);
    uint64_t  *seed = malloc((size_t)most * sizeof *seed);
    jpt_status st = item && seed ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d requests", most);
    for (int32_t k = 0; st == JPT_OK && k < most; k++) {
        bool exists = false;
        item[n] = k / c->n_seeds;
        seed[n] = run_seed(b, c, block, k % c->n_seeds);
        st = jpt_store_request_exists(b->store, c->id, block, item[n], (int64_t)seed[n], &exists, err);
        b->progress.done += exists;
        b->progress.resumed += exists;
        b->sum->resumed += exists;
        n += !exists;
    }
    for (int32_t at = 0; st == JPT_OK && at < n; at += taken) {
        if (jpt_stop_requested()) {
            st = JPT_FAIL(err, INTERRUPTED, "interrupted");
            break;
        }
        /* a block that the budget cannot hold is not begun, and one that outgrows it is cut */
        bool fits = !*fresh || ((b->opt->max_joules_total <= 0 || b->spent_j + block_j <= b->opt->max_joules_total) &&
                                (b->opt->max_hours <= 0 || b->spent_s + block_s <= 3600 * b->opt->max_hours));
        if (over_budget(b) || !fits) {
            b->sum->budget_spent = true;
            break;
        }
        *fresh = false;
        st = one_window(b, c, "requests", block, order, item + at, seed + at, n - at, &taken, err);
    }
    free(item);
    free(seed);
    return st;
}

/* Greedy on the first items of the first task: what drifts shows in it. */
static jpt_status run_sentinels(bench *b, const char *kind, int32_t block, int32_t order, jpt_error *err) {
    enum { ITEMS = 4 };
    for (size_t i = 0; i < b->opt->n_engines && !b->sum->budget_spent; i++) {
        engine  *e = &b->engine[i];
        int64_t  n = 0, valid = 0, most = 1 + (e->counts ? e->rule.repeats : 0);
        int32_t  item[ITEMS], taken;
        uint64_t seed[ITEMS];
        if (!run_wants_sentinel(e))
            continue;
        cell c = {.e = e, .task = b->opt->tasks[0], .spec = &b->sentinel.spec[0], .id = -1, .n_batch = 1};
        c.max_new_tokens = b->opt->max_new_tokens > 0 ? b->opt->max_new_tokens : jpt_task_get_info(c.task)->max_new_tokens;
        for (size_t k = 0; k < b->n_cells && c.id < 0; k++)
            if (b->cell[k].e == e && b->cell[k].task == c.task && b->cell[k].n_batch == 1 && strcmp(b->cell[k].spec->text, "greedy") == 0)
                c.id = b->cell[k].id;
        JPT_TRY(jpt_store_n_windows(b->store, b->study, c.id, block, kind, &n, &valid, err));
        if (valid > 0 || n >= most)
            continue;
        int32_t items = run_n_items(b->opt, c.task) < ITEMS ? run_n_items(b->opt, c.task) : ITEMS;
        for (int32_t k = 0; k < items; k++)
            item[k] = k, seed[k] = run_seed(b, &c, 0, 0);
        JPT_TRY(one_window(b, &c, kind, block, order, item, seed, items, &taken, err));
    }
    return JPT_OK;
}

static jpt_status run_block(bench *b, int32_t block, size_t *order, jpt_error *err) {
    double block_j = block > 0 ? b->spent_j / block : 0, block_s = block > 0 ? b->spent_s / block : 0;
    bool   fresh = true;
    shuffle(order, b->n_cells, b->first_seed, (uint32_t)block);
    if (over_budget(b)) { /* what is missing of an earlier block stays so */
        fresh = false;
    } else if (block_j == 0 || b->opt->max_joules_total <= 0 || b->spent_j + block_j <= b->opt->max_joules_total) {
        JPT_TRY(run_sentinels(b, "sentinel_before", block, -1, err));
    }
    for (size_t k = 0; k < b->n_cells && !b->sum->budget_spent; k++)
        JPT_TRY(run_cell(b, &b->cell[order[k]], block, (int32_t)k, block_j, block_s, &fresh, err));
    if (!b->sum->budget_spent)
        JPT_TRY(run_sentinels(b, "sentinel_after", block, (int32_t)b->n_cells, err));
    return JPT_OK;
}

static jpt_status run_blocks(bench *b, jpt_error *err) {
    size_t    *order = malloc(b->n_cells * sizeof *order);
    int64_t    a_block = b->progress.total / b->opt->n_blocks;
    jpt_status st = order ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory");
    for (int32_t block = 0; st == JPT_OK && block < b->most_blocks; block++) {
        if (block >= b->opt->n_blocks) { /* one more, by the stop rule */
            b->progress.total += a_block;
            b->sum->total = b->progress.total;
        }
        st = run_block(b, block, order, err);
        b->sum->blocks += st == JPT_OK && !b->sum->budget_spent;
        bool done = b->sum->budget_spent || !b->opt->stop.a;
        if (st == JPT_OK && b->opt->stop.a)
            st = run_look(b, b->sum->blocks, b->sum->budget_spent, &done, err);
        if (b->sum->budget_spent || (done && block + 1 >= b->opt->n_blocks))
            break;
    }
    free(order);
    return st;
}

/* ---- all ----------------------------------------------------------------------------------------------------- */

static jpt_status open_sessions(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    const jpt_spec       **specs = malloc((o->specs->n + 1) * sizeof *specs);
    jpt_status             st = specs ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory");
    int32_t                n_batch = 1;
    for (size_t i = 0; i < o->n_batches; i++)
        n_batch = o->batches[i] > n_batch ? o->batches[i] : n_batch;
    for (size_t i = 0; st == JPT_OK && i < o->specs->n; i++)
        specs[i] = &o->specs->spec[i];
    for (size_t i = 0; st == JPT_OK && i < o->n_engines; i++)
        st = jpt_run_open_sessions(o->engines[i].model, o->engines[i].draft, specs, o->specs->n, n_batch, o->n_ctx, &b->engine[i].session, &b->engine[i].draft_session, err);
    free(specs);
    return st;
}

/* Every prompt fits the context: known before the first joule is spent, not after half a night. */
static jpt_status check_prompts(const bench *b, const engine *e, jpt_error *err) {
    int32_t n_ctx = jpt_session_n_ctx(e->session);
    for (size_t k = 0; k < b->opt->n_tasks; k++) {
        const jpt_task_info *t = jpt_task_get_info(b->opt->tasks[k]);
        for (int32_t i = 0; i < run_n_items(b->opt, b->opt->tasks[k]); i++) {
            const jpt_task_item *it = jpt_task_get_item(b->opt->tasks[k], (size_t)i);
            jpt_ids              ids = {0};
            jpt_status           st = jpt_run_encode_prompt(e->e->model, t->system, it->prompt, t->chat, &ids, err);
            size_t               n = ids.n;
            jpt_ids_fini(&ids);
            JPT_TRY(st);
            if (n >= (size_t)n_ctx)
                return JPT_FAIL(err, CTX_FULL, "task '%s', item '%s': the prompt has %zu tokens, but the context holds %d and the answer needs room; shorten it or use a larger --ctx",
                                t->name, it->id, n, n_ctx);
        }
    }
    return JPT_OK;
}

/* What earlier runs of this study spent, and measured. */
static jpt_status add_earlier(void *ud, const jpt_window_row *r) {
    bench *b = ud;
    if (r->study != b->study)
        return JPT_OK;
    b->spent_j += isfinite(r->energy_j) ? r->energy_j : 0;
    b->spent_s += isfinite(r->duration_s) ? r->duration_s : 0;
    for (size_t i = 0; i < b->n_cells && strcmp(r->kind, "requests") == 0 && r->valid == 1; i++)
        if (b->cell[i].id == r->cell && r->block < b->most_blocks) {
            b->cell[i].block[r->block].joules += r->energy_j;
            b->cell[i].block[r->block].tokens += (double)(r->output_tokens * r->replications);
        }
    return JPT_OK;
}

static jpt_status set_up(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    uint64_t               low = o->n_seeds ? o->seeds[0] : 0, high = low;
    for (size_t i = 0; i < o->n_seeds; i++) {
        low = o->seeds[i] < low ? o->seeds[i] : low;
        high = o->seeds[i] > high ? o->seeds[i] : high;
    }
    b->first_seed = o->n_seeds ? o->seeds[0] : 0;
    b->seed_stride = high - low + 1;
    b->most_blocks = o->n_blocks;
    if (o->stop.a && (o->stop.max_blocks > 0 ? o->stop.max_blocks : 100) > b->most_blocks)
        b->most_blocks = o->stop.max_blocks > 0 ? o->stop.max_blocks : 100;
    b->engine = calloc(o->n_engines, sizeof *b->engine);
    b->task = calloc(o->n_tasks, sizeof *b->task);
    b->cell = calloc(o->n_engines * (o->n_batches ? o->n_batches : 1) * o->n_tasks * o->specs->n, sizeof *b->cell);
    if (!b->engine || !b->task || !b->cell)
        return JPT_FAIL(err, NOMEM, "out of memory");
    for (size_t i = 0; i < o->n_engines; i++) {
        engine *e = &b->engine[i];
        e->e = &o->engines[i];
        e->counts = jpt_meter_measures(e->e->meter);
        e->rule = run_window_rule(o, e->e->meter);
        e->idle_w = e->warm_up_s = NAN;
    }
    JPT_TRY(run_window_init(&b->window, err));
    JPT_TRY(jpt_spec_parse("greedy", &b->sentinel, err));
    JPT_TRY(jpt_store_open(o->out, JPT_STORE_CREATE, &b->store, err));
    JPT_TRY(jpt_store_begin(b->store, err)); /* thousands of items in one go */
    JPT_TRY(jpt_store_end(b->store, run_put_all(b, err), err));
    for (int k = 0; k < 2 && o->stop.a; k++) {
        const char *spec = k ? o->stop.b : o->stop.a;
        bool        found = false;
        for (size_t i = 0; i < b->n_cells; i++)
            found = found || (strcmp(b->cell[i].spec->text, spec) == 0 && (!o->stop.task || strcmp(jpt_task_get_info(b->cell[i].task)->name, o->stop.task) == 0));
        if (!found)
            return JPT_FAIL(err, ARG, "the stop rule has no cell of '%s' to compare: it is excluded", spec);
    }
    JPT_TRY(open_sessions(b, err));
    for (size_t i = 0; i < o->n_engines; i++)
        JPT_TRY(check_prompts(b, &b->engine[i], err));
    return jpt_store_each_window(b->store, -1, add_earlier, b, err);
}

/* What can be said of what there is, after an interruption too. */
static jpt_status conclude(bench *b, jpt_status st, jpt_error *err) {
    jpt_error  why = {0};
    jpt_status s = JPT_OK;
    for (size_t i = 0; s == JPT_OK && i < b->n_cells; i++)
        s = run_score_cell(b, &b->cell[i], &why);
    if (s == JPT_OK)
        s = run_put_ledger(b, &why);
    if (s == JPT_OK)
        s = run_put_floors(b, &why);
    if (s != JPT_OK && st == JPT_OK) {
        st = s;
        *err = why;
    }
    for (size_t i = 0; i < b->n_cells; i++) {
        int64_t n = 0;
        if (jpt_store_n_invalid(b->store, b->cell[i].id, &n, NULL) == JPT_OK)
            b->sum->invalid_energy += n;
    }
    return st;
}

jpt_status jpt_run_bench(const jpt_run_options *opt, jpt_run_summary *out, jpt_error *err) {
    bench   b = {.opt = opt, .sum = out, .progress = {.width = NAN}};
    int64_t before = 0;
    *out = (jpt_run_summary){.difference = NAN, .ci_low = NAN, .ci_high = NAN};
    JPT_TRY(run_check_options(opt, err));
    jpt_status st = set_up(&b, err);
    out->total = b.progress.total;
    if (st == JPT_OK)
        st = jpt_store_n_requests(b.store, &before, err);
    if (st == JPT_OK) {
        st = run_blocks(&b, err);
        if (st == JPT_OK || st == JPT_INTERRUPTED || st == JPT_METER)
            st = conclude(&b, st, err);
    }
    out->others = before - out->resumed;
    for (size_t i = 0; b.engine && i < opt->n_engines; i++) {
        jpt_session_close(b.engine[i].session);
        jpt_session_close(b.engine[i].draft_session);
    }
    jpt_store_close(b.store);
    for (size_t i = 0; b.cell && i < b.n_cells; i++)
        free(b.cell[i].block);
    run_window_fini(&b.window);
    jpt_spec_list_fini(&b.sentinel);
    free(b.cell);
    free(b.task);
    free(b.engine);
    return st;
}
