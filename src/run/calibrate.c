/* What a device pays at rest, for a byte, for a FLOP, and while it waits for launches. */
#include "run_priv.h"
#include <jansson.h>
#include <time.h>

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

enum { WIDTHS = 4, MOST = 512, AMPLIFY = 33 };
static const int32_t width[WIDTHS] = {1, 8, 64, MOST};

typedef struct point {
    double watts, seconds; /* mean power; a forward */
    double bytes, flops;
    double energy_j, error_j, n; /* of the window; its forwards */
} point;

/* Forwards of n rows (n_layers of them; 0: all), each with so many choices from its last row, for so long, in one window. */
static jpt_status measure(jpt_session *s, jpt_meter *m, int32_t n, int32_t n_layers, int32_t n_choices, double seconds, point *out, jpt_error *err) {
    jpt_seq    seq;
    int32_t    tokens[MOST], n_vocab = jpt_model_get_info(jpt_session_model(s))->n_vocab, count = 0;
    jpt_window w;
    jpt_energy e;
    for (int32_t i = 0; i < n; i++)
        tokens[i] = (i * 37 + 11) % n_vocab;
    JPT_TRY(jpt_seq_new(s, &seq, err));
    jpt_status st = JPT_OK;
    double     begun = jpt_now_s();
    for (int phase = 0; phase < 2 && st == JPT_OK; phase++) { /* wakes first, then is measured */
        if (phase == 1)
            jpt_window_begin_aligned(&w, m);
        begun = jpt_now_s();
        for (count = 0; st == JPT_OK && (count < 2 || jpt_now_s() - begun < (phase ? seconds : fmin(0.5, 0.2 * seconds))); count++) {
            jpt_batch_item item = {.seq = seq, .tokens = tokens, .n_tokens = n, .logits = JPT_ROWS_LAST};
            jpt_batch      batch = {.items = &item, .n_items = 1, .n_layers = n_layers};
            st = jpt_session_forward(s, &batch, err);
            for (int32_t k = 0; st == JPT_OK && k < n_choices; k++) {
                jpt_select_item choice = {.row = item.logits_row, .history = tokens, .n_history = n, .n_prompt = n, .sample = true, .key = {1, (uint32_t)count, 0, (uint32_t)k}};
                jpt_selected    chosen;
                st = jpt_session_select(s, &choice, 1, &chosen, err);
            }
            jpt_session_wait(s); /* what is counted is done */
            if (st == JPT_OK)
                st = jpt_seq_truncate(s, seq, 0, err);
        }
    }
    if (st == JPT_OK)
        jpt_window_end(&w, NAN, &e);
    jpt_seq_free(s, seq);
    JPT_TRY(st);
    if (!e.valid)
        return JPT_FAIL(err, METER, "a window of the calibration is not valid: %s", e.reasons);
    out->watts = e.mean_w;
    out->seconds = e.duration_s / count;
    out->energy_j = e.energy_j;
    out->error_j = e.error_j;
    out->n = count;
    double once; /* of memory, keys and values of a prompt are read once; each position computes with all those before it */
    jpt_run_cost(jpt_session_model(s), 1, n, 1, n, &out->bytes, &once);
    jpt_run_cost(jpt_session_model(s), 1, n, 1, 0.5 * n * (n - 1), &once, &out->flops);
    return JPT_OK;
}

/* Joules above idle of each width as bytes and FLOPs: least squares in shares, so that the small ones count too. */
static void fit(const point *p, double idle_w, jpt_calibration *out) {
    double a[WIDTHS * 2], b[WIDTHS], x[2];
    for (int i = 0; i < WIDTHS; i++) {
        double joules = (p[i].watts - idle_w) * p[i].seconds;
        if (!(joules > 0)) {
            out->residual = NAN;
            return;
        }
        a[2 * i] = p[i].bytes * 1e-12 / joules;
        a[2 * i + 1] = p[i].flops * 1e-12 / joules;
        b[i] = 1;
        out->bytes_per_s = fmax(out->bytes_per_s, p[i].bytes / p[i].seconds);
        out->flops_per_s = fmax(out->flops_per_s, p[i].flops / p[i].seconds);
    }
    out->residual = jpt_nnls(a, b, WIDTHS, 2, x) / sqrt(WIDTHS);
    out->pj_per_byte = x[0];
    out->pj_per_flop = x[1];
}

jpt_status jpt_run_calibrate(const jpt_run_engine *e, double seconds, jpt_calibration *out, jpt_error *err) {
    const jpt_model_info   *i = jpt_model_get_info(e->model);
    const jpt_meter_limits *l = jpt_meter_get_limits(e->meter);
    jpt_session_options     so = {.n_ctx = MOST, .n_outputs = 1};
    jpt_session            *s;
    point                   p[WIDTHS], launch, one, many;
    time_t                  now = time(NULL);
    struct tm               utc;
    *out = (jpt_calibration){.modelled = l->modelled, .idle_w = NAN, .launch_w = NAN, .launch_s = NAN};
    if (l->kind == JPT_METER_NONE)
        return JPT_FAIL(err, METER, "there is no meter to calibrate with");
    if (i->n_ctx_train < MOST)
        so.n_ctx = i->n_ctx_train;
    snprintf(out->device, sizeof out->device, "%s", e->device);
    snprintf(out->backend, sizeof out->backend, "%s", i->backend);
    snprintf(out->card_uuid, sizeof out->card_uuid, "%s", i->gpu_uuid);
    snprintf(out->energy_source, sizeof out->energy_source, "%s", l->name);
    strftime(out->taken, sizeof out->taken, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    if (e->model_sha256)
        snprintf(out->model_sha256, sizeof out->model_sha256, "%s", e->model_sha256);
    else
        JPT_TRY(jpt_sha256_file(i->path, out->model_sha256, err));
    double each_s = seconds / (WIDTHS + 5) * (l->modelled ? 0.1 : 1);
    JPT_TRY(jpt_session_open(e->model, &so, &s, err));
    jpt_status st = measure(s, e->meter, 1, 0, 0, fmax(each_s, l->shortest_s), &launch, err); /* awake and warm before anything counts */
    if (st == JPT_OK && !l->modelled)
        st = jpt_meter_idle(e->meter, fmax(each_s, l->shortest_s + 0.5), &out->idle_w, err);
    for (int k = 0; st == JPT_OK && k < WIDTHS; k++)
        st = measure(s, e->meter, width[k] < so.n_ctx ? width[k] : so.n_ctx, 0, 0, fmax(each_s, l->shortest_s), &p[k], err);
    if (st == JPT_OK)
        st = measure(s, e->meter, 1, 1, 0, fmax(each_s, l->shortest_s), &launch, err); /* one layer and the output matrix: of a small model hardly a byte a launch */
    if (st == JPT_OK)
        st = measure(s, e->meter, 1, 0, 1, fmax(each_s, l->shortest_s), &one, err);
    if (st == JPT_OK)
        st = measure(s, e->meter, 1, 0, AMPLIFY, fmax(each_s, l->shortest_s), &many, err);
    jpt_session_close(s);
    JPT_TRY(st);
    double rest_w = isnan(out->idle_w) ? 0 : out->idle_w; /* a step with a choice more takes longer, and idling is paid either way */
    out->decode_j = (p[0].watts - rest_w) * p[0].seconds;
    out->prefill_j = (p[WIDTHS - 1].watts - rest_w) * p[WIDTHS - 1].seconds / (so.n_ctx < MOST ? so.n_ctx : MOST);
    out->select_j = jpt_amplify((one.watts - rest_w) * one.seconds, one.error_j / one.n, (many.watts - rest_w) * many.seconds, many.error_j / many.n, AMPLIFY, 1,
                                &out->select_error_j);
    out->launch_w = launch.watts;
    out->launch_s = launch.seconds;
    fit(p, isnan(out->idle_w) ? 0 : out->idle_w, out);
    return isfinite(out->residual) ? JPT_OK : JPT_FAIL(err, METER, "the calibration's forwards take no more than idling: nothing can be told of bytes and FLOPs");
}

/* ---- keeping ----------------------------------------------------------------------------------------------------------- */

static jpt_status file_name(char out[4096], jpt_error *err) {
    char home[4000];
    JPT_TRY(jpt_home(home, sizeof home, err));
    JPT_TRY(jpt_mkdirs(home, err));
    snprintf(out, 4096, "%s/calibration.jsonl", home);
    return JPT_OK;
}

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

jpt_status jpt_calibration_save(const jpt_calibration *c, jpt_error *err) {
    char       path[4096];
    jpt_buf    text = {0};
    JPT_TRY(file_name(path, err));
    (void)jpt_file_read(path, &text, NULL); /* there may be none yet */
    json_t *o = json_object();
    json_object_set_new(o, "device", json_string(c->device));
    json_object_set_new(o, "backend", json_string(c->backend));
    json_object_set_new(o, "card_uuid", json_string(c->card_uuid));
    json_object_set_new(o, "model_sha256", json_string(c->model_sha256));
    json_object_set_new(o, "energy_source", json_string(c->energy_source));
    json_object_set_new(o, "taken", json_string(c->taken));
    json_object_set_new(o, "modelled", json_boolean(c->modelled));
    json_object_set_new(o, "idle_w", number(c->idle_w));
    json_object_set_new(o, "pj_per_byte", number(c->pj_per_byte));
    json_object_set_new(o, "pj_per_flop", number(c->pj_per_flop));
    json_object_set_new(o, "launch_w", number(c->launch_w));
    json_object_set_new(o, "bytes_per_s", number(c->bytes_per_s));
    json_object_set_new(o, "flops_per_s", number(c->flops_per_s));
    json_object_set_new(o, "launch_s", number(c->launch_s));
    json_object_set_new(o, "residual", number(c->residual));
    json_object_set_new(o, "prefill_j", number(c->prefill_j));
    json_object_set_new(o, "decode_j", number(c->decode_j));
    json_object_set_new(o, "select_j", number(c->select_j));
    json_object_set_new(o, "select_error_j", number(c->select_error_j));
    char *line = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (line) {
        jpt_buf_addz(&text, line);
        jpt_buf_addc(&text, '\n');
    }
    jpt_status st = !line || text.oom ? JPT_FAIL(err, NOMEM, "%s: out of memory", path) : jpt_file_write(path, text.p, text.n, err);
    free(line);
    jpt_buf_fini(&text);
    return st;
}

static void copy_text(const json_t *o, const char *key, char *out, size_t cap) {
    const char *v = json_string_value(json_object_get(o, key));
    snprintf(out, cap, "%s", v ? v : "");
}

static double copy_number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

jpt_status jpt_calibration_find(const char *device, const char *card_uuid, const char *energy_source, const char *model_sha256, jpt_calibration *out, jpt_error *err) {
    char       path[4096];
    jpt_buf    text = {0};
    bool       found = false, same_model = false;
    double     poor = 0; /* a fit that would be this one's, were it better */
    JPT_TRY(file_name(path, err));
    if (jpt_file_read(path, &text, NULL) == JPT_OK && text.n)
        for (const char *p = text.p; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
            json_t         *o = json_loadb(p, strcspn(p, "\n"), 0, NULL);
            jpt_calibration c = {0};
            copy_text(o, "device", c.device, sizeof c.device);
            copy_text(o, "backend", c.backend, sizeof c.backend);
            copy_text(o, "card_uuid", c.card_uuid, sizeof c.card_uuid);
            copy_text(o, "model_sha256", c.model_sha256, sizeof c.model_sha256);
            copy_text(o, "energy_source", c.energy_source, sizeof c.energy_source);
            copy_text(o, "taken", c.taken, sizeof c.taken);
            c.modelled = json_is_true(json_object_get(o, "modelled"));
            c.idle_w = copy_number(o, "idle_w"), c.pj_per_byte = copy_number(o, "pj_per_byte"), c.pj_per_flop = copy_number(o, "pj_per_flop");
            c.launch_w = copy_number(o, "launch_w"), c.bytes_per_s = copy_number(o, "bytes_per_s"), c.flops_per_s = copy_number(o, "flops_per_s");
            c.launch_s = copy_number(o, "launch_s"), c.residual = copy_number(o, "residual");
            c.prefill_j = copy_number(o, "prefill_j"), c.decode_j = copy_number(o, "decode_j"), c.select_j = copy_number(o, "select_j");
            c.select_error_j = copy_number(o, "select_error_j");
            bool usable = o && strcmp(c.device, device) == 0 && strcmp(c.card_uuid, card_uuid) == 0 && strcmp(c.energy_source, energy_source) == 0 && c.pj_per_byte >= 0 &&
                          c.pj_per_flop >= 0 && c.bytes_per_s > 0 && c.flops_per_s > 0;
            if (usable && !(c.residual < JPT_CALIBRATION_RESIDUAL)) {
                poor = c.residual;
                usable = false;
            }
            bool same = strcmp(c.model_sha256, model_sha256) == 0;
            if (usable && (same || !same_model)) { /* the last line stands */
                *out = c;
                found = true;
                same_model = same;
            }
            json_decref(o);
        }
    jpt_buf_fini(&text);
    if (!found && poor > 0)
        return JPT_FAIL(err, METER, "the calibration of '%s' leaves %.0f %% of the joules unexplained: no cell gets a floor; jpt calibrate with a larger model makes a better one", device, 100 * poor);
    return found ? JPT_OK : JPT_FAIL(err, NOT_FOUND, "no calibration of '%s' with meter '%s' yet: jpt calibrate makes one", device, energy_source);
}
