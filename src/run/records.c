/* The rows of a study: what was run, and what came out of a window. */
#include "run_priv.h"
#include <fnmatch.h>

/* ---- what the rows refer to -------------------------------------------------------------------------- */

static void cpu_name(char out[128]) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    char  line[512];
    snprintf(out, 128, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(out, 128, "%.120s", strchr(line, ':') + 2);
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    if (f)
        fclose(f);
}

static jpt_status put_study(bench *b, jpt_error *err) {
    const jpt_run_windows *w = &b->opt->windows;
    jpt_study_row          r;
    char                   cpu[128], protocol[900];
    jpt_study_row_init(&r);
    cpu_name(cpu);
    snprintf(protocol, sizeof protocol,
             "blocks hold each cell once, order drawn from the seed; meters that count joules: windows of several requests, idle baselines between them, greedy at both ends of "
             "a block, invalid windows repeated (seconds %g, idle %g, warm-up %g, repeats %d, sentinel %d; 0: by the meter); others: a window a request, or a few rounds of a "
             "batch; shares: " JPT_RUN_SHARE,
             w->seconds, w->idle_s, w->warm_up_s, w->repeats, w->sentinel);
    r.jpt_version = JPT_VERSION;
    r.cpu = cpu; /* the host's name and kernel change from one container to the next and are no part of a cell's identity */
    r.sampler_order = "as the cell's chain= says; by default Hugging Face's: processors, min_new_tokens, temperature, then the cuts";
    r.protocol = protocol;
    r.leaves_out = "model loading, tokenisation of the prompt, scoring";
    return jpt_store_put_study(b->store, &r, &b->study, err);
}

/* The file's stem tells quantisations apart; GGUF's general.name does not. */
void run_model_name(const jpt_model *m, char out[256]) {
    const char *path = jpt_model_get_info(m)->path, *slash = strrchr(path, '/');
    snprintf(out, 256, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot && dot != out)
        *dot = '\0';
}

static jpt_status put_engine(bench *b, engine *e, jpt_error *err) {
    const jpt_model_info   *i = jpt_model_get_info(e->e->model);
    const jpt_meter_limits *l = jpt_meter_get_limits(e->e->meter);
    const jpt_card_info    *card = jpt_meter_card(e->e->meter);
    jpt_model_row           r;
    jpt_meter_row           m;
    char                    sha[65];
    jpt_model_row_init(&r);
    if (!e->e->model_sha256)
        JPT_TRY(jpt_sha256_file(i->path, sha, err));
    r.file = strrchr(i->path, '/') ? strrchr(i->path, '/') + 1 : i->path;
    r.name = e->name;
    r.sha256 = e->e->model_sha256 ? e->e->model_sha256 : sha;
    r.architecture = i->architecture;
    r.n_params = (int64_t)i->n_params;
    r.file_bytes = (int64_t)i->file_bytes;
    r.dtype = i->quantization;
    r.backend = i->backend;
    r.compute_dtype = i->compute;
    JPT_TRY(jpt_store_put_model(b->store, &r, &e->model, err));
    jpt_meter_row_init(&m);
    m.kind = m.source = l->name;
    m.modelled = l->modelled;
    m.coverage = l->coverage;
    m.accuracy = l->modelled || l->kind == JPT_METER_NONE ? l->accuracy : NULL; /* measured steps differ from run to run: windows have them */
    m.declared_w = l->declared_w;
    if (card) {
        m.card = card->name;
        m.card_uuid = card->uuid;
        m.driver = card->driver;
        m.power_limit_w = card->power_limit_w;
    }
    JPT_TRY(jpt_store_put_meter(b->store, &m, &e->meter, err));
    e->calibration = -1;
    if (e->e->calibration) {
        const jpt_calibration *c = e->e->calibration;
        jpt_calibration_row    cr;
        jpt_calibration_row_init(&cr);
        cr.device = c->device, cr.backend = c->backend, cr.card_uuid = c->card_uuid, cr.model_sha256 = c->model_sha256, cr.energy_source = c->energy_source;
        cr.modelled = c->modelled;
        cr.idle_w = c->idle_w, cr.pj_per_byte = c->pj_per_byte, cr.pj_per_flop = c->pj_per_flop, cr.launch_w = c->launch_w;
        cr.bytes_per_s = c->bytes_per_s, cr.flops_per_s = c->flops_per_s, cr.launch_s = c->launch_s, cr.residual = c->residual;
        cr.jpt_version = JPT_VERSION;
        cr.taken = c->taken;
        JPT_TRY(jpt_store_put_calibration(b->store, &cr, &e->calibration, err));
    }
    if (!e->e->draft)
        return JPT_OK;
    const char *path = jpt_model_get_info(e->e->draft)->path;
    JPT_TRY(jpt_sha256_file(path, sha, err));
    snprintf(e->draft_model, sizeof e->draft_model, "%.100s %.64s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path, sha);
    return JPT_OK;
}

int32_t run_n_items(const jpt_run_options *o, const jpt_task *t) {
    int32_t n = (int32_t)jpt_task_get_info(t)->n_items;
    return o->limit > 0 && o->limit < n ? o->limit : n;
}

static jpt_status put_task(bench *b, size_t t, jpt_error *err) {
    const jpt_task_info *ti = jpt_task_get_info(b->opt->tasks[t]);
    jpt_task_row         tr;
    jpt_task_row_init(&tr);
    tr.name = ti->name;
    tr.sha256 = ti->sha256;
    tr.n_items = (int64_t)ti->n_items;
    tr.primary_metric = ti->primary_metric;
    tr.higher_is_better = ti->higher_is_better;
    tr.license = ti->license;
    tr.citation = ti->citation;
    JPT_TRY(jpt_store_put_task(b->store, &tr, &b->task[t], err));
    for (int32_t i = 0; i < run_n_items(b->opt, b->opt->tasks[t]); i++) {
        const jpt_task_item *it = jpt_task_get_item(b->opt->tasks[t], (size_t)i);
        jpt_item_row         row;
        int64_t              id;
        jpt_item_row_init(&row);
        row.task = b->task[t], row.item_index = i, row.item_id = it->id, row.prompt = it->prompt;
        JPT_TRY(jpt_store_put_item(b->store, &row, &id, err));
    }
    return JPT_OK;
}

/* "smollm2-135m" matches the model's name, "smollm2*" its beginning. */
static bool matches(const char *pattern, const char *name) { return !pattern || fnmatch(pattern, name, 0) == 0; }

bool run_excluded(const jpt_run_options *o, const char *model, const char *device, const char *task, const char *spec, int32_t batch) {
    for (size_t i = 0; i < o->n_exclude; i++) {
        const jpt_run_exclusion *x = &o->exclude[i];
        char                     name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(spec, ":"), spec);
        if (matches(x->model, model) && matches(x->device, device) && matches(x->task, task) && (matches(x->strategy, spec) || matches(x->strategy, name)) &&
            (x->batch == 0 || x->batch == batch))
            return true;
    }
    return false;
}

uint64_t run_seed(const bench *b, const cell *c, int32_t block, int32_t i) {
    return (b->opt->n_seeds ? b->opt->seeds[i] : 0) + (uint64_t)block * (c->n_seeds > 1 ? b->seed_stride : 1);
}

static jpt_status put_cell(bench *b, engine *e, size_t t, const jpt_spec *spec, int32_t n_batch, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    const jpt_task_info   *ti = jpt_task_get_info(o->tasks[t]);
    cell                  *c = &b->cell[b->n_cells];
    jpt_cell_row           r;
    jpt_buf                json = {0}, seeds = {0};
    *c = (cell){.e = e, .task = o->tasks[t], .spec = spec, .n_items = run_n_items(o, o->tasks[t]), .n_batch = n_batch};
    c->n_seeds = spec->strategy->samples && o->n_seeds > 1 ? (int32_t)o->n_seeds : 1;
    c->max_new_tokens = o->max_new_tokens > 0 ? o->max_new_tokens : ti->max_new_tokens;
    c->block = calloc((size_t)b->most_blocks, sizeof *c->block);
    if (!c->block)
        return JPT_FAIL(err, NOMEM, "out of memory for %d blocks", b->most_blocks);
    b->n_cells++;
    jpt_spec_json(c->spec, &json);
    for (int32_t i = 0; i < c->n_seeds; i++)
        jpt_buf_printf(&seeds, "%s%llu", i ? "," : "", (unsigned long long)run_seed(b, c, 0, i));
    jpt_cell_row_init(&r);
    r.study = b->study;
    r.model = e->model;
    r.task = b->task[t];
    r.meter = e->meter;
    r.spec = c->spec->text;
    r.strategy = c->spec->strategy->name;
    r.params_json = json.p;
    r.device = e->e->device;
    r.batch = n_batch;
    r.seeds = seeds.p;
    r.max_new_tokens = c->max_new_tokens;
    r.max_joules = o->max_joules > 0 ? o->max_joules : NAN;
    r.draft_model = e->draft_model[0] ? e->draft_model : NULL;
    jpt_status st = json.oom || seeds.oom ? JPT_FAIL(err, NOMEM, "out of memory") : jpt_store_put_cell(b->store, &r, &c->id, err);
    jpt_buf_fini(&json);
    jpt_buf_fini(&seeds);
    b->progress.total += (int64_t)c->n_items * c->n_seeds * o->n_blocks;
    return st;
}

static jpt_status put_plan(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    jpt_plan_row           r;
    int64_t                id;
    char                   rule[400];
    jpt_plan_row_init(&r);
    r.study = b->study;
    r.name = o->plan_name;
    r.text = o->plan_text;
    r.blocks = o->n_blocks;
    r.n_cells = (int64_t)b->n_cells;
    r.n_requests = b->progress.total;
    r.max_joules_total = o->max_joules_total > 0 ? o->max_joules_total : NAN;
    r.max_hours = o->max_hours > 0 ? o->max_hours : NAN;
    if (o->stop.a) {
        snprintf(rule, sizeof rule, "%.120s against %.120s, %.60s: interval of J/token narrower than %g %%, at most %d blocks", o->stop.b, o->stop.a,
                 o->stop.task ? o->stop.task : "all tasks", 100 * o->stop.width, b->most_blocks);
        r.stop_rule = rule;
    }
    return jpt_store_put_plan(b->store, &r, &id, err);
}

jpt_status run_put_all(bench *b, jpt_error *err) {
    const jpt_run_options *o = b->opt;
    JPT_TRY(put_study(b, err));
    for (size_t i = 0; i < o->n_engines; i++) {
        run_model_name(o->engines[i].model, b->engine[i].name);
        JPT_TRY(put_engine(b, &b->engine[i], err));
    }
    for (size_t t = 0; t < o->n_tasks; t++)
        JPT_TRY(put_task(b, t, err));
    for (size_t i = 0; i < o->n_engines; i++)
        for (size_t k = 0; k < (o->n_batches ? o->n_batches : 1); k++)
            for (size_t t = 0; t < o->n_tasks; t++)
                for (size_t s = 0; s < o->specs->n; s++) {
                    int32_t n_batch = o->n_batches ? o->batches[k] : 1;
                    if (!run_excluded(o, b->engine[i].name, b->engine[i].e->device, jpt_task_get_info(o->tasks[t])->name, o->specs->spec[s].text, n_batch))
                        JPT_TRY(put_cell(b, &b->engine[i], t, &o->specs->spec[s], n_batch, err));
                }
    if (b->n_cells == 0)
        return JPT_FAIL(err, ARG, "the exclusions leave no cell to run");
    return put_plan(b, err);
}

/* ---- what came out --------------------------------------------------------------------------------------- */

static void fill_window(jpt_window_row *r, const bench *b, const engine *e, const window_facts *f, const jpt_energy *w, const jpt_ledger *l) {
    jpt_window_row_init(r);
    r->study = b->study;
    r->meter = e->meter;
    r->cell = f->cell;
    r->kind = f->kind;
    r->block = f->block;
    r->order_in_block = f->order;
    r->attempt = f->attempt;
    r->t_start_s = b->window.window.facts.begin.t_s;
    r->t_end_s = r->t_start_s + w->duration_s;
    r->duration_s = w->duration_s;
    r->replications = f->replications;
    r->n_requests = f->n;
    r->energy_source = w->source;
    r->modelled = w->modelled;
    r->energy_j = w->energy_j;
    r->energy_error_j = w->error_j;
    r->edge_correction_j = w->edge_correction_j;
    r->integral_j = w->integral_j;
    r->residual = w->residual;
    r->net_energy_j = w->net_energy_j;
    r->mean_w = w->mean_w;
    for (size_t i = 0; i < b->window.n_samples; i++)
        if (b->window.samples[i].t_s >= r->t_start_s && b->window.samples[i].t_s <= r->t_end_s && !(b->window.samples[i].power_w <= r->peak_w))
            r->peak_w = b->window.samples[i].power_w;
    r->idle_before_w = f->idle_before_w;
    r->idle_after_w = f->idle_after_w;
    r->step_s = e->counts ? jpt_meter_get_limits(e->e->meter)->step_s : NAN;
    r->n_samples = jpt_meter_get_limits(e->e->meter)->second ? w->n_samples : -1;
    r->max_gap_s = w->max_gap_s;
    r->temp_start_c = w->before.temp_c, r->temp_end_c = w->after.temp_c;
    r->sm_mhz_start = w->before.sm_mhz, r->sm_mhz_end = w->after.sm_mhz;
    r->mem_mhz_start = w->before.mem_mhz, r->mem_mhz_end = w->after.mem_mhz;
    if (jpt_meter_card(e->e->meter)) {
        r->throttle_bits = (int64_t)(w->after.throttle & INT64_MAX);
        r->other_processes = w->before.others > w->after.others ? w->before.others : w->after.others;
    }
    r->valid = w->valid;
    r->reasons = w->reasons[0] ? w->reasons : NULL;
    r->warm_up_s = e->warm_up_s;
    if (!l)
        return;
    r->ledger_method = l->method;
    r->prefill_energy_j = l->phase_j[JPT_PHASE_PREFILL], r->prefill_s = l->phase_s[JPT_PHASE_PREFILL];
    r->decode_energy_j = l->phase_j[JPT_PHASE_DECODE], r->decode_s = l->phase_s[JPT_PHASE_DECODE];
    r->draft_energy_j = l->phase_j[JPT_PHASE_DRAFT], r->draft_s = l->phase_s[JPT_PHASE_DRAFT];
    r->verify_energy_j = l->phase_j[JPT_PHASE_VERIFY], r->verify_s = l->phase_s[JPT_PHASE_VERIFY];
    r->select_energy_j = l->phase_j[JPT_PHASE_SELECT], r->select_s = l->phase_s[JPT_PHASE_SELECT];
    r->kv_energy_j = l->phase_j[JPT_PHASE_KV], r->kv_s = l->phase_s[JPT_PHASE_KV];
    r->host_energy_j = l->phase_j[JPT_PHASE_COUNT], r->host_s = l->phase_s[JPT_PHASE_COUNT];
    r->idle_energy_j = l->idle_j;
    r->residual_energy_j = l->residual_j;
}

static void fill_energy(jpt_request_row *r, const jpt_run_request_energy *e) {
    r->energy_j = e->energy.energy_j;
    r->energy_error_j = e->energy.error_j;
    r->energy_source = e->energy.source;
    r->modelled = e->energy.modelled;
    r->net_energy_j = e->energy.net_energy_j;
    r->idle_w = e->energy.idle_w;
    r->prefill_energy_j = e->phase_j[JPT_PHASE_PREFILL];
    r->decode_energy_j = e->phase_j[JPT_PHASE_DECODE];
    r->draft_energy_j = e->phase_j[JPT_PHASE_DRAFT];
    r->verify_energy_j = e->phase_j[JPT_PHASE_VERIFY];
    r->select_energy_j = e->phase_j[JPT_PHASE_SELECT];
    r->kv_energy_j = e->phase_j[JPT_PHASE_KV];
    r->other_energy_j = e->energy.energy_j - r->prefill_energy_j - r->decode_energy_j - r->draft_energy_j - r->verify_energy_j - r->select_energy_j - r->kv_energy_j;
    r->energy_valid = e->energy.valid;
    r->energy_reasons = e->energy.reasons[0] ? e->energy.reasons : NULL;
}

/* The file keeps C strings: a NUL, which a model may well write, becomes U+FFFD, as bytes that are no UTF-8 do, for the row and its scores alike. */
static void storable(const jpt_buf *text, jpt_buf *out) {
    for (size_t i = 0; i < text->n; i++)
        if (text->p[i])
            jpt_buf_addc(out, text->p[i]);
        else
            jpt_buf_addz(out, "\xEF\xBF\xBD");
}

static void fill_generation(jpt_request_row *r, const jpt_generation *g, const jpt_buf *text, jpt_buf *ids) {
    jpt_buf_addc(ids, '[');
    for (int32_t i = 0; i < g->n_tokens; i++)
        jpt_buf_printf(ids, "%s%d", i ? "," : "", g->tokens[i]);
    jpt_buf_addc(ids, ']');
    r->output_tokens = g->n_tokens;
    r->stop_reason = jpt_stop_reason_name(g->stop);
    r->text = text->p ? text->p : "";
    r->token_ids_json = ids->p;
    r->duration_s = g->duration_s;
    r->ttft_s = g->ttft_s;
    r->prefill_s = g->prefill_s;
    r->decode_s = g->decode_s;
    r->forwards = (int64_t)g->work.forwards;
    r->positions_computed = (int64_t)g->work.positions_computed;
    r->positions_discarded = (int64_t)g->work.positions_discarded;
    r->logits_rows = (int64_t)g->work.logits_rows;
    r->kv_bytes_moved = (int64_t)g->work.kv_bytes_moved;
    r->draft_forwards = (int64_t)g->work.draft_forwards;
    r->draft_positions = (int64_t)g->work.draft_positions;
    r->budget_note = g->budget_note[0] ? g->budget_note : NULL;
    r->failed = 0;
}

/* Score and store a finished request. */
static jpt_status put_request(bench *b, const cell *c, const window_facts *f, int64_t window, const asked *a, int32_t i, const jpt_run_request_energy *e, jpt_error *err) {
    const jpt_generation *g = &a->g[i];
    jpt_buf               id_json = {0}, text = {0};
    jpt_task_score        scores[JPT_TASK_SCORES_MAX];
    jpt_score_row         rows[JPT_TASK_SCORES_MAX];
    int32_t               n = 0;
    int64_t               row;
    jpt_request_row       r;
    jpt_run_fates         fate;
    jpt_request_row_init(&r);
    storable(&g->text, &text);
    jpt_status st = text.oom ? JPT_FAIL(err, NOMEM, "out of memory") : jpt_task_score_item(c->task, (size_t)a->item[i], (jpt_str){text.p ? text.p : "", text.n}, scores, &n, err);
    r.cell = c->id;
    r.block = f->block;
    r.item_index = a->item[i];
    r.item_id = jpt_task_get_item(c->task, (size_t)a->item[i])->id;
    r.seed = (int64_t)a->seed[i];
    r.order_in_block = f->order;
    r.prompt_tokens = a->n_prompt[i];
    r.t_start_s = b->window.window.facts.begin.t_s;
    fill_generation(&r, g, &text, &id_json);
    fill_energy(&r, e);
    r.window = window;
    r.share_rule = f->n > 1 || f->replications > 1 ? JPT_RUN_SHARE : NULL;
    if (isfinite(r.energy_j)) {
        jpt_run_fate(c->spec, a->n_prompt[i], g, e, &fate);
        r.fate_rule = JPT_RUN_FATE;
        r.kept_energy_j = fate.kept_j, r.rejected_energy_j = fate.rejected_j, r.pruned_energy_j = fate.pruned_j, r.past_stop_energy_j = fate.past_stop_j;
    }
    for (int32_t k = 0; k < n; k++)
        rows[k] = (jpt_score_row){.metric = scores[k].name, .value = scores[k].value, .ci_low = NAN, .ci_high = NAN, .n = -1};
    if (st == JPT_OK)
        st = id_json.oom ? JPT_FAIL(err, NOMEM, "out of memory") : jpt_store_put_request(b->store, &r, rows, (size_t)n, &row, err);
    jpt_buf_fini(&id_json);
    jpt_buf_fini(&text);
    return st;
}

jpt_status run_put_window(bench *b, engine *e, const cell *c, const window_facts *f, const asked *a, bool with_requests, const jpt_energy *energy, const jpt_ledger *books,
                          jpt_error *err) {
    jpt_window_row          r;
    int64_t                 id = 0;
    jpt_run_request_energy *share = a ? calloc((size_t)f->n, sizeof *share) : NULL;
    jpt_power_row          *power = b->window.n_samples ? malloc(b->window.n_samples * sizeof *power) : NULL;
    if ((a && !share) || (b->window.n_samples && !power)) {
        free(share);
        free(power);
        return JPT_FAIL(err, NOMEM, "out of memory for a window's rows");
    }
    fill_window(&r, b, e, f, energy, books);
    r.output_tokens = a ? 0 : -1;
    for (int32_t i = 0; a && i < f->n; i++)
        r.output_tokens += a->g[i].n_tokens;
    for (size_t i = 0; i < b->window.n_samples; i++)
        power[i] = (jpt_power_row){.t_s = b->window.samples[i].t_s, .power_w = b->window.samples[i].power_w};
    if (a)
        run_share(energy, books, a->g, f->n, f->replications, share);
    jpt_status st = jpt_store_begin(b->store, err);
    if (st == JPT_OK) {
        st = jpt_store_put_window(b->store, &r, power, b->window.n_samples, &id, err);
        for (int32_t i = 0; with_requests && st == JPT_OK && i < f->n; i++)
            st = put_request(b, c, f, id, a, i, &share[i], err);
        st = jpt_store_end(b->store, st, err);
    }
    free(share);
    free(power);
    return st;
}
