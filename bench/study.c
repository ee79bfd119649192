/* A made-up study in a results file, for tests and timings of jpt report and jpt audit: 60 configurations in the strategies of
 * arXiv 2502.11723 x tasks x blocks x items, with joules, phases, texts and scores that hang together.
 *
 *   bench-study OUT.db [CONFIGURATIONS [TASKS [BLOCKS [ITEMS [MODELS]]]]]
 *
 * Nothing in it was measured: the meter is called "made up" and every row says that its joules are modelled. */
#include <jpt/store.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct setting {
    const char *spec, *strategy, *params;
    double      cost, gain, per_draw; /* joules and quality over greedy's; how much each draw differs */
    double      waste, draft;         /* shares of positions thrown away; computed by a draft */
} setting;

enum { MAX_SETTINGS = 80 };
static setting settings[MAX_SETTINGS];
static int     n_settings;
static char    room[MAX_SETTINGS][2][120];

static void add(const char *strategy, const char *parameters, double cost, double gain, double per_draw, double waste, double draft) {
    setting *s = &settings[n_settings];
    char    *spec = room[n_settings][0], *params = room[n_settings][1];
    snprintf(spec, 120, "%s%s%s", strategy, *parameters ? ":" : "", parameters);
    int n = snprintf(params, 120, "{");
    for (const char *at = parameters; *at;) {
        int key = (int)strcspn(at, "="), value = (int)strcspn(at + key + 1, ",");
        n += snprintf(params + n, (size_t)(120 - n), "%s\"%.*s\":%.*s", n > 1 ? "," : "", key, at, value, at + key + 1);
        at += key + 1 + value + (at[key + 1 + value] == ',');
    }
    snprintf(params + n, (size_t)(120 - n), "}");
    *s = (setting){spec, strategy, params, cost, gain, per_draw, waste, draft};
    n_settings++;
}

static void grid(void) {
    char p[100];
    add("greedy", "", 1, 0, 0, 0, 0);
    const int look[] = {2, 5, 10};
    for (int i = 0; i < 3; i++)
        snprintf(p, sizeof p, "prompt_lookup_num_tokens=%d", look[i]), add("prompt-lookup", p, .84 - .03 * i, 0, 0, .1 + .1 * i, .2 + .1 * i);
    for (int i = 0; i < 3; i++)
        snprintf(p, sizeof p, "num_beams=%d", look[i]), add("beam", p, 1.06 + .08 * look[i] / 2, .03 + .004 * look[i] - .0007 * look[i] * look[i], 0, 1 - 1.0 / look[i], 0);
    const int groups[][2] = {{4, 2}, {5, 5}, {10, 2}, {10, 5}};
    for (int i = 0; i < 4; i++)
        snprintf(p, sizeof p, "num_beams=%d,num_beam_groups=%d", groups[i][0], groups[i][1]), add("diverse-beam", p, 1.2 + .1 * i, .01, 0, 1 - 1.0 / groups[i][0], 0);
    add("dola", "dola_layers=\"high\"", 1.41, .015, 0, 0, 0), add("dola", "dola_layers=\"low\"", 1.4, -.01, 0, 0, 0);
    for (int k = 5; k <= 25; k += 20)
        for (int a = 1; a <= 5; a++)
            snprintf(p, sizeof p, "penalty_alpha=%.1f,top_k=%d", a / 5.0, k), add("contrastive", p, 1.15 + .022 * k, .02 - .004 * a * a, 0, 1 - 1.0 / k, 0);
    const double t[] = {.1, .3, .5, .7, .9, 1, 1.2, 1.5, 2}, top_p[] = {.3, .5, .7, .8, .9, .95}, min_p[] = {.02, .05, .1, .2, .3}, mass[] = {.2, .5, .8, .9, .95}, eps[] = {3e-4, 6e-4, 9e-4, 2e-3, 4e-3};
    for (int i = 0; i < 9; i++)
        snprintf(p, sizeof p, "temperature=%g", t[i]), add("sample", p, 1 + .01 * t[i] * t[i], -.06 * t[i] * t[i], .02 + .05 * t[i], 0, 0);
    const int top_k[] = {1, 5, 25, 50, 100, 250, 500};
    for (int i = 0; i < 7; i++)
        snprintf(p, sizeof p, "top_k=%d", top_k[i]), add("top-k", p, 1.01, -.012 * i, i ? .06 : 0, 0, 0);
    for (int i = 0; i < 6; i++)
        snprintf(p, sizeof p, "top_p=%g", top_p[i]), add("top-p", p, 1.01, -.05 * top_p[i] * top_p[i], .05 * top_p[i], 0, 0);
    for (int i = 0; i < 5; i++)
        snprintf(p, sizeof p, "min_p=%g", min_p[i]), add("min-p", p, 1.01, -.06 + .1 * min_p[i], .06 - .1 * min_p[i], 0, 0);
    for (int i = 0; i < 5; i++)
        snprintf(p, sizeof p, "typical_p=%g", mass[i]), add("typical", p, 1.02, -.05 * mass[i], .06, 0, 0);
    for (int i = 0; i < 5; i++)
        snprintf(p, sizeof p, "epsilon_cutoff=%g", eps[i]), add("epsilon", p, 1.01, -.05, .06, 0, 0);
}

static double uniform(int a, int b, int c, int d) { return jpt_rng_uniform((jpt_rng_key){4711, (uint32_t)a, (uint32_t)b, (uint32_t)c}, (uint32_t)d); }
static double normal(int a, int b, int c, int d) { return sqrt(-2 * log(1 - uniform(a, b, c, d))) * cos(6.283185307179586 * uniform(a, b, c, d + 1)); }

#define CHECK(call)                                                             \
    do {                                                                        \
        jpt_error err_ = {0}, *err = &err_;                                     \
        if ((call) != JPT_OK) {                                                 \
            fprintf(stderr, "bench-study: %s\n", err_.msg);                     \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static const char *const task_names[] = {"translation", "maths", "summary", "code", "open-ended"};
static const char *const metrics[] = {"chrf", "exact_match", "chrf", "pass@1", "chrf"};
static const char *const words[] = {"the", "house", "of", "a", "river", "stands", "under", "light", "and", "many", "people", "walk", "there", "every", "morning"};

static void make_text(char *out, size_t cap, int n_tokens, int a, int b) {
    size_t n = 0;
    for (int i = 0; i < n_tokens && n + 16 < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? " " : "", words[(int)(uniform(a, b, i, 9) * 15)]);
}

static double t_s = 0;

static double one_request(jpt_store *s, int64_t cell, int m, int t, int c, int b, int i, int place, jpt_window_row *w_sum, bool keep) {
    const setting  *o = &settings[c];
    jpt_request_row r;
    jpt_score_row   score[1];
    char            text[2048], ids[4096];
    bool            share = strcmp(metrics[t], "chrf") != 0;
    int             draw = o->per_draw > 0 ? 1 + b : 0, n = 24 + (int)(60 * uniform(t, i, 0, 0)) + (int)(o->per_draw * 60 * normal(c, i, draw, 1)), prompt = 40 + (int)(80 * uniform(t, i, 1, 0));
    n = n < 1 ? 1 : n > 160 ? 160 : n;
    make_text(text, sizeof text, n, i * 7 + t, o->per_draw > 0 ? c * 50 + b : c);
    size_t w = 0;
    for (int k = 0; k < n; k++)
        w += (size_t)snprintf(ids + w, sizeof ids - w, "%s%d", k ? "," : "[", (int)(1000 * uniform(i, k, c, 3)));
    snprintf(ids + w, sizeof ids - w, "]");
    char name[32];
    snprintf(name, sizeof name, "%s-%d", task_names[t], i);
    jpt_request_row_init(&r);
    r.item_id = name, r.cell = cell, r.block = b, r.item_index = i, r.seed = 1 + b, r.order_in_block = place, r.prompt_tokens = prompt, r.output_tokens = n, r.stop_reason = "eos";
    r.text = text, r.token_ids_json = ids, r.failed = 0, r.idle_w = 20, r.modelled = 1, r.energy_source = "model", r.energy_valid = 1;
    double size = m ? 1.9 : 1, step = .016 * size, noise = 1 + .004 * normal(m * 100 + c, t * 1000 + i, b, 5) + .003 * normal(m * 100 + c, t, b, 7);
    r.duration_s = (prompt * .0006 * size + n * step * o->cost) * noise, r.prefill_s = prompt * .0006 * size, r.decode_s = r.duration_s - r.prefill_s, r.ttft_s = r.prefill_s + step;
    r.t_start_s = t_s, t_s += r.duration_s + .01;
    r.energy_j = r.duration_s * (105 + 12 * uniform(c, 0, 0, 2)), r.energy_error_j = .005 * r.energy_j, r.net_energy_j = r.energy_j - 20 * r.duration_s;
    r.prefill_energy_j = r.energy_j * r.prefill_s / r.duration_s, r.draft_energy_j = o->draft * .2 * r.energy_j, r.verify_energy_j = o->draft > 0 ? .5 * r.energy_j : 0;
    r.select_energy_j = .03 * r.energy_j, r.kv_energy_j = .01 * r.energy_j, r.other_energy_j = .02 * r.energy_j;
    r.decode_energy_j = r.energy_j - r.prefill_energy_j - r.draft_energy_j - r.verify_energy_j - r.select_energy_j - r.kv_energy_j - r.other_energy_j;
    r.fate_rule = "positions", r.rejected_energy_j = o->draft > 0 ? o->waste * r.energy_j : 0, r.pruned_energy_j = o->draft > 0 ? 0 : .6 * o->waste * r.energy_j;
    r.past_stop_energy_j = .004 * r.energy_j, r.kept_energy_j = r.energy_j - r.rejected_energy_j - r.pruned_energy_j - r.past_stop_energy_j;
    r.window = w_sum->id, r.share_rule = "made up";
    w_sum->energy_j += r.energy_j, w_sum->duration_s += r.duration_s, w_sum->output_tokens += n, w_sum->n_requests++;
    int64_t kept = prompt + n - 1;
    r.positions_discarded = (int64_t)(kept * o->waste / (1 - o->waste)), r.positions_computed = kept + r.positions_discarded, r.draft_positions = (int64_t)(o->draft * n);
    r.forwards = n, r.logits_rows = n, r.kv_bytes_moved = 0, r.draft_forwards = 0;
    if (!keep)
        return 0;
    if (w_sum->valid == 0)
        r.energy_valid = 0, r.energy_reasons = w_sum->reasons;
    double level = .35 + .1 * t + o->gain + (m ? .06 : 0) + .22 * normal(t, i, 2, 0) + (o->per_draw + .02) * 1.5 * normal(c, i, draw, 8);
    score[0] = (jpt_score_row){.metric = metrics[t], .value = share ? level > .45 : fmin(100, fmax(0, 100 * level)), .ci_low = NAN, .ci_high = NAN, .n = -1};
    int64_t id;
    CHECK(jpt_store_put_request(s, &r, score, 1, &id, err));
    return score[0].value;
}

/* The window's own sums, with a ledger that closes, and samples of power twice a second. */
static void finish(jpt_window_row *w, double t0) {
    double above = w->energy_j - 20 * w->duration_s;
    w->t_start_s = t0, w->t_end_s = t0 + w->duration_s, w->mean_w = w->energy_j / w->duration_s, w->peak_w = w->mean_w + 9, w->net_energy_j = above;
    w->idle_before_w = w->idle_after_w = 20, w->idle_energy_j = 20 * w->duration_s, w->integral_j = w->energy_j * 1.004, w->residual = -.004, w->energy_error_j = .003 * w->energy_j;
    w->prefill_energy_j = .12 * above, w->decode_energy_j = .8 * above, w->draft_energy_j = 0, w->verify_energy_j = 0, w->select_energy_j = .04 * above, w->kv_energy_j = .01 * above;
    w->host_energy_j = .02 * above, w->residual_energy_j = w->energy_j - w->idle_energy_j - .99 * above, w->ledger_method = "time";
    w->replications = 1, w->attempt = 0, w->energy_source = "model", w->modelled = 1, w->temp_start_c = 48, w->temp_end_c = 51;
}
static void put_window(jpt_store *s, jpt_window_row *w, double t0, int64_t *id) {
    jpt_power_row *power = calloc((size_t)(2 * w->duration_s) + 12, sizeof *power);
    size_t         n = 0;
    finish(w, t0);
    const double t1 = t0 + w->duration_s, before[] = {t0 - .5, t0 - .01}, after[] = {t1, t1 + .01, t1 + .5};
    for (int i = 0; power && i < 2; i++)
        power[n++] = (jpt_power_row){.t_s = before[i], .power_w = 20};
    for (double t = t0; power && t < t1 - 1e-3; t += .5)
        power[n++] = (jpt_power_row){.t_s = t, .power_w = w->mean_w + 3 * normal((int)(2 * t), 1, 1, 1)};
    for (int i = 0; power && i < 3; i++)
        power[n++] = (jpt_power_row){.t_s = after[i], .power_w = i ? 20 : w->mean_w};
    w->n_samples = (int64_t)n;
    CHECK(jpt_store_put_window(s, w, power, n, id, err));
    free(power);
}
/* Greedy at the ends of a block, drifting by half a per cent a block. */
static void sentinel(jpt_store *s, jpt_window_row of, int b, bool after) {
    int64_t id;
    of.kind = after ? "sentinel_after" : "sentinel_before", of.cell = -1, of.block = b, of.duration_s = 12, of.output_tokens = 740, of.n_requests = 20;
    of.energy_j = 12 * 109 * (1 + .005 * b + .002 * after + .001 * normal(b, after, 0, 0));
    put_window(s, &of, t_s, &id);
    t_s += of.duration_s + 1;
}

/* A row of everything else: plan, calibration, second opinions, a look. */
static void other_rows(jpt_store *s, int64_t study, int n_cells, int n_requests, int blocks, int64_t *calibration) {
    jpt_plan_row        plan;
    jpt_calibration_row c;
    jpt_ledger_row      l;
    jpt_look_row        look;
    int64_t             id;
    jpt_plan_row_init(&plan), jpt_calibration_row_init(&c), jpt_ledger_row_init(&l), jpt_look_row_init(&look);
    plan.study = study, plan.name = "made up", plan.text = "none", plan.blocks = blocks, plan.n_cells = n_cells, plan.n_requests = n_requests;
    CHECK(jpt_store_put_plan(s, &plan, &id, err));
    c.device = "made up", c.energy_source = "model", c.modelled = 1, c.idle_w = 20, c.pj_per_byte = 40, c.pj_per_flop = .6, c.launch_w = 60, c.bytes_per_s = 1e12, c.flops_per_s = 1e14;
    CHECK(jpt_store_put_calibration(s, &c, calibration, err));
    l.study = study, l.method = "nnls", l.unit = "W", l.error_value = 1.5, l.n = 100, l.condition = 20, l.residual = .01;
    l.entry = "prefill", l.value = 140;
    CHECK(jpt_store_add_ledger(s, &l, err));
    l.entry = "decode", l.value = 90;
    CHECK(jpt_store_add_ledger(s, &l, err));
    look.study = study, look.spec_a = "greedy", look.spec_b = "top-p:top_p=0.9", look.quantity = "j_per_token", look.blocks = blocks, look.difference = .004, look.ci_low = -.002, look.ci_high = .01;
    look.wanted_width = .02, look.decision = "narrow enough";
    CHECK(jpt_store_put_look(s, &look, &id, err));
}

int main(int argc, char **argv) {
    int number[] = {60, 4, 3, 20, 1}; /* configurations, tasks, blocks, items, models */
    if (argc < 2) {
        fputs("usage: bench-study OUT.db [CONFIGURATIONS [TASKS [BLOCKS [ITEMS [MODELS]]]]]\n", stderr);
        return 2;
    }
    for (int i = 0; i < 5 && i + 2 < argc; i++)
        number[i] = atoi(argv[i + 2]);
    grid();
    const int n_configs = number[0] < n_settings ? number[0] : n_settings, n_tasks = number[1] < 5 ? number[1] : 5;
    jpt_store    *s = NULL;
    jpt_study_row study;
    jpt_meter_row meter;
    int64_t       study_id, meter_id, id;
    CHECK(jpt_store_open(argv[1], JPT_STORE_CREATE, &s, err));
    jpt_study_row_init(&study), jpt_meter_row_init(&meter);
    study.jpt_version = JPT_VERSION, study.cpu = "none", study.threads = 1, study.protocol = "made up by bench/study.c", study.leaves_out = "everything: nothing was run";
    meter.kind = "model", meter.source = "made up", meter.modelled = 1, meter.coverage = "nothing", meter.accuracy = "none: made up", meter.declared_w = 110;
    CHECK(jpt_store_put_study(s, &study, &study_id, err));
    CHECK(jpt_store_put_meter(s, &meter, &meter_id, err));
    int64_t calibration;
    for (int m = 0; m < number[4]; m++)
        for (int t = 0; t < n_tasks; t++) {
            jpt_model_row model;
            jpt_task_row  task;
            int64_t       model_id, task_id, cell[MAX_SETTINGS];
            double        sum[MAX_SETTINGS] = {0};
            jpt_model_row_init(&model), jpt_task_row_init(&task);
            model.name = m ? "made-up-large" : "made-up-small", model.architecture = "none", model.n_params = m ? 14000000000 : 7000000000, model.dtype = "none";
            task.name = task_names[t], task.n_items = number[3], task.primary_metric = metrics[t], task.higher_is_better = 1, task.license = "none";
            CHECK(jpt_store_put_model(s, &model, &model_id, err));
            CHECK(jpt_store_put_task(s, &task, &task_id, err));
            for (int i = 0; i < number[3]; i++) {
                jpt_item_row item;
                char         name[32], prompt[600];
                jpt_item_row_init(&item);
                snprintf(name, sizeof name, "%s-%d", task_names[t], i);
                make_text(prompt, sizeof prompt, 40, t * 1000 + i, 77);
                item.task = task_id, item.item_index = i, item.item_id = name, item.prompt = prompt;
                CHECK(jpt_store_put_item(s, &item, &id, err));
            }
            for (int c = 0; c < n_configs; c++) {
                jpt_cell_row row;
                jpt_cell_row_init(&row);
                row.study = study_id, row.model = model_id, row.task = task_id, row.meter = meter_id, row.spec = settings[c].spec, row.strategy = settings[c].strategy;
                row.params_json = settings[c].params, row.device = "cpu", row.batch = 1, row.seeds = "1", row.max_new_tokens = 160;
                CHECK(jpt_store_put_cell(s, &row, &cell[c], err));
            }
            for (int b = 0; b < number[2]; b++)
                for (int k = 0; k < n_configs; k++) { /* any order that differs from block to block */
                    int c = (k * 7 + b * 13) % n_configs;
                    if (n_configs % 7 == 0)
                        c = (k + b) % n_configs;
                    jpt_window_row w;
                    int64_t        window;
                    double         t0 = t_s;
                    jpt_window_row_init(&w);
                    w.study = study_id, w.meter = meter_id;
                    if (k == 0)
                        CHECK(jpt_store_begin(s, err));
                    if (k == 0 && t == 0 && m == 0)
                        sentinel(s, w, b, false), t0 = t_s;
                    w.kind = "requests", w.cell = cell[c], w.block = b, w.order_in_block = k, w.energy_j = w.duration_s = 0, w.output_tokens = w.n_requests = 0;
                    w.valid = uniform(c, t, b, 100) > .02, w.reasons = w.valid ? NULL : "counter and integral differ by 12 %";
                    for (int i = 0; i < number[3]; i++) /* what is in it, then the window, then the rows that name it */
                        one_request(s, cell[c], m, t, c, b, i, k, &w, false);
                    put_window(s, &w, t0, &window);
                    t_s = t0, w.id = window;
                    for (int i = 0; i < number[3]; i++)
                        sum[c] += one_request(s, cell[c], m, t, c, b, i, k, &w, true);
                    t_s += 1;
                    if (k == n_configs - 1 && t == n_tasks - 1 && m == number[4] - 1)
                        sentinel(s, w, b, true);
                    if (k == n_configs - 1)
                        CHECK(jpt_store_end(s, JPT_OK, err));
                }
            for (int c = 0; c < n_configs; c++) {
                double        mean = sum[c] / (number[2] * number[3]), value = strcmp(metrics[t], "chrf") == 0 ? 1.04 * mean : mean;
                jpt_score_row score = {.metric = metrics[t], .value = value, .ci_low = value * .9, .ci_high = value * 1.1, .n = number[2] * number[3]};
                CHECK(jpt_store_put_cell_scores(s, cell[c], &score, 1, err));
            }
            if (t == 0 && m == 0) {
                other_rows(s, study_id, n_configs, n_configs * number[2] * number[3], number[2], &calibration);
                for (int c = 0; c < n_configs; c++) {
                    jpt_floor_row f;
                    jpt_floor_row_init(&f);
                    f.cell = cell[c], f.calibration = calibration, f.bytes = 1e12, f.bytes_j = 40, f.flops = 1e12, f.flops_j = .6, f.idle_j = 20, f.floor_j = 60.6, f.seconds = 1, f.n = number[3];
                    CHECK(jpt_store_add_floor(s, &f, err));
                }
            }
        }
    jpt_store_close(s);
    return 0;
}
