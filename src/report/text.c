/* Markdown, LaTeX, CSV and JSON of a loaded report, and the files of jpt report. */
#include "data.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_estimate(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "–");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "%.4g", e.mean);
    else
        jpt_buf_printf(b, "%.4g [%.3g, %.3g]", e.mean, e.low, e.high);
}

/* ---- Markdown ---------------------------------------------------------------------------------- */

static void md_cell(jpt_buf *b, const char *z);

/* The file's other scores of each setting: METRIC@MODEL by jpt evaluate. */
static void md_scores(const panel *p, jpt_buf *b) {
    const char *name[SCORES_MOST];
    int         n = report_score_names(p, name, SCORES_MOST);
    if (n == 0)
        return;
    jpt_buf_addz(b, "\n| strategy | model |");
    for (int k = 0; k < n; k++)
        jpt_buf_addc(b, ' '), md_cell(b, name[k]), jpt_buf_addz(b, " |");
    jpt_buf_addz(b, "\n|---|---|");
    for (int k = 0; k < n; k++)
        jpt_buf_addz(b, "--:|");
    for (int i = 0; i < p->n_cells; i++) {
        jpt_buf_addz(b, "\n| ");
        md_cell(b, p->cells[i]->label), jpt_buf_addz(b, " | "), md_cell(b, p->cells[i]->model), jpt_buf_addz(b, " |");
        for (int k = 0; k < n; k++) {
            const cell_score *s = report_score(p->cells[i], name[k]);
            jpt_buf_addc(b, ' ');
            add_estimate(b, s && !report_score_partial(p->cells[i], s) ? s->of : (estimate){NAN, NAN, NAN, 0});
            jpt_buf_addz(b, " |");
        }
    }
    jpt_buf_addc(b, '\n');
}

/* Licence and citation of what was asked. */
static void data_sets(const report *r, jpt_buf *b, const char *before, void (*add)(jpt_buf *, const char *)) {
    for (int i = 0; i < r->n_tasks; i++) {
        jpt_buf_addz(b, before);
        add(b, r->tasks[i].name), jpt_buf_addz(b, ": licence "), add(b, r->tasks[i].license ? r->tasks[i].license : "not stated");
        if (r->tasks[i].citation)
            jpt_buf_addz(b, "; cite "), add(b, r->tasks[i].citation);
        jpt_buf_addc(b, '\n');
    }
}

/* A pipe ends a cell of a Markdown table, and HTML is HTML in Markdown. */
static void md_cell(jpt_buf *b, const char *z) {
    for (z = z ? z : "–"; *z; z++) {
        if (strchr("|<\\`", *z))
            jpt_buf_addc(b, '\\');
        jpt_buf_addc(b, *z == '\n' ? ' ' : *z);
    }
}

static void lines_as_list(jpt_buf *b, const char *text, const char *before) {
    for (const char *end; text && *text; text = *end ? end + 1 : end) {
        end = text + strcspn(text, "\n");
        jpt_buf_printf(b, "%s%.*s\n", before, (int)(end - text), text);
    }
}

static const figure shown[] = {QUALITY, J_TOKEN, NET_J_TOKEN, J_REQUEST, NET_J_REQUEST, LATENCY};
enum { N_SHOWN = sizeof shown / sizeof *shown };

/* Joules a request at the device's prices; NAN: not calibrated. */
static double floor_of(const report *r, const cell *c) {
    const jpt_floor_row *f = report_floor(r, c);
    return f ? f->floor_j : NAN;
}

void report_md(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "# jpt report\n\n");
    if (r->modelled)
        jpt_buf_addz(b, "**Energy here is modelled, not measured.**\n\n");
    jpt_buf_addz(b, "J/token is joules a kept output token. Estimate and [95 % interval over items and blocks]; – is absent, never zero. "
                    "Of floor: joules a request over what its bytes and FLOPs cost at the device's calibrated prices. Thrown away: share of the computed positions that are in no text. Front: on the Pareto front of quality against joules a request, and in what share of resamples.\n");
    for (int i = 0; i < r->n_panels; i++) {
        const panel *p = &r->panels[i];
        jpt_buf      words = {0};
        jpt_buf_addz(b, "\n## ");
        md_cell(b, p->title);
        jpt_buf_addz(b, "\n\n");
        report_verdict(p, &words);
        lines_as_list(b, words.p, "- ");
        b->oom = b->oom || words.oom;
        jpt_buf_fini(&words);
        jpt_buf_printf(b, "\n| strategy | model | %s | J/token gross | J/token net | J/request gross | J/request net | s/request | of floor | thrown away | front | items | energy |\n"
                          "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
                       report_metric(p->task));
        for (int k = 0; k < p->n_cells; k++) {
            const cell *c = p->cells[k];
            jpt_buf_addz(b, "| ");
            md_cell(b, c->label);
            jpt_buf_addz(b, " | ");
            md_cell(b, c->model);
            jpt_buf_addz(b, " | ");
            for (int e = 0; e < N_SHOWN; e++) {
                add_estimate(b, c->fig[shown[e]]);
                jpt_buf_addz(b, " | ");
            }
            double floor_j = floor_of(r, c);
            if (floor_j > 0 && isfinite(c->fig[J_REQUEST].mean))
                jpt_buf_printf(b, "%.0f %% of %.4g J | ", 100 * c->fig[J_REQUEST].mean / floor_j, floor_j);
            else
                jpt_buf_addz(b, "– | ");
            if (c->computed > 0)
                jpt_buf_printf(b, "%.0f %% | ", 100 * c->discarded / c->computed);
            else
                jpt_buf_addz(b, "– | ");
            jpt_buf_addz(b, c->front[1] ? "yes" : "");
            if (isfinite(c->p_front[1]))
                jpt_buf_printf(b, "%s%.0f %%", c->front[1] ? ", " : "", 100 * c->p_front[1]);
            jpt_buf_printf(b, " | %d | %s |\n", c->n_items, report_source(c));
        }
        md_scores(p, b);
    }
    jpt_buf_addz(b, "\n## Data\n\n");
    data_sets(r, b, "- ", md_cell);
}

/* ---- LaTeX ------------------------------------------------------------------------------------- */

static void tex(jpt_buf *b, const char *z) {
    for (z = z ? z : "--"; *z; z++) {
        if (strchr("&%$#_{}", *z))
            jpt_buf_printf(b, "\\%c", *z);
        else if (*z == '\\')
            jpt_buf_addz(b, "\\textbackslash{}");
        else if (*z == '~' || *z == '^')
            jpt_buf_printf(b, "\\%c{}", *z);
        else if (*z == '<' || *z == '>')
            jpt_buf_printf(b, "$%c$", *z);
        else
            jpt_buf_addc(b, *z == '\n' ? ' ' : *z);
    }
}

/* 24.03 with half its interval; siunitx is not needed. */
static void tex_estimate(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "--");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "$%.4g$", e.mean);
    else
        jpt_buf_printf(b, "$%.4g\\,{\\scriptstyle[%.3g,\\,%.3g]}$", e.mean, e.low, e.high);
}

void report_latex(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "% \\usepackage{booktabs}\n");
    for (int i = 0; i < r->n_panels; i++) {
        const panel *p = &r->panels[i];
        jpt_buf_printf(b, "\n\\begin{table}\n  \\centering\\small\n  \\caption{");
        tex(b, p->title);
        jpt_buf_addz(b, ": quality against energy");
        if (p->modelled)
            jpt_buf_addz(b, " (modelled, not measured)");
        jpt_buf_addz(b, ". Brackets: 95\\,\\% intervals over items");
        jpt_buf_addz(b, p->n_blocks > 1 ? " and blocks. " : ". ");
        jpt_buf_addz(b, "Bold: on the Pareto front of quality against joules a request.}\n");
        jpt_buf_printf(b, "  \\begin{tabular}{l%srrrr}\n    \\toprule\n    Strategy%s & ", p->many_models ? "l" : "", p->many_models ? " & Model" : "");
        tex(b, report_metric(p->task));
        jpt_buf_addz(b, " & J/token & J/request & J/request net \\\\\n    \\midrule\n");
        for (int k = 0; k < p->n_cells; k++) {
            const cell *c = p->cells[k];
            jpt_buf_addz(b, c->front[1] ? "    \\textbf{" : "    ");
            tex(b, c->label);
            jpt_buf_addz(b, c->front[1] ? "}" : "");
            if (p->many_models) {
                jpt_buf_addz(b, " & ");
                tex(b, c->model);
            }
            const figure columns[] = {QUALITY, J_TOKEN, J_REQUEST, NET_J_REQUEST};
            for (int e = 0; e < 4; e++) {
                jpt_buf_addz(b, " & ");
                tex_estimate(b, c->fig[columns[e]]);
            }
            jpt_buf_addz(b, " \\\\\n");
        }
        jpt_buf_addz(b, "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n");
    }
    jpt_buf_addz(b, "\n% data\n");
    data_sets(r, b, "%   ", tex);
}

/* ---- CSV --------------------------------------------------------------------------------------- */

void report_csv_field(jpt_buf *b, const char *z) {
    if (z == NULL)
        return;
    if (strpbrk(z, ",\"\r\n") == NULL) {
        jpt_buf_addz(b, z);
        return;
    }
    jpt_buf_addc(b, '"');
    for (; *z; z++) {
        if (*z == '"')
            jpt_buf_addc(b, '"');
        jpt_buf_addc(b, *z);
    }
    jpt_buf_addc(b, '"');
}

static void csv_real(jpt_buf *b, double v) {
    if (isfinite(v))
        jpt_buf_printf(b, "%.9g", v);
}

void report_csv(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "task,strategy,model,batch,metric,quality,quality_ci_low,quality_ci_high,j_per_token,j_per_token_ci_low,"
                    "j_per_token_ci_high,net_j_per_token,j_per_request,j_per_request_ci_low,j_per_request_ci_high,"
                    "net_j_per_request,s_per_request,ttft_s,p_front_token,p_front_request,positions_computed,positions_discarded,draft_positions,n_items,n_requests,n_failed,"
                    "n_energy_invalid,energy_source,modelled,floor_j_per_request\r\n");
    for (int i = 0; i < r->n_cells; i++) {
        const cell         *c = &r->cells[i];
        const jpt_task_row *t = report_task(r, c->row.task);
        if (c->n_requests == 0)
            continue;
        report_csv_field(b, t->name), jpt_buf_addc(b, ',');
        report_csv_field(b, c->label), jpt_buf_addc(b, ',');
        report_csv_field(b, c->model);
        jpt_buf_printf(b, ",%lld,", (long long)(c->row.batch < 1 ? 1 : c->row.batch));
        report_csv_field(b, t->primary_metric), jpt_buf_addc(b, ',');
        const estimate *f = c->fig;
        const double    values[] = {f[QUALITY].mean, f[QUALITY].low, f[QUALITY].high, f[J_TOKEN].mean, f[J_TOKEN].low, f[J_TOKEN].high, f[NET_J_TOKEN].mean, f[J_REQUEST].mean,
                                    f[J_REQUEST].low, f[J_REQUEST].high, f[NET_J_REQUEST].mean, f[LATENCY].mean, f[TTFT].mean, c->p_front[0], c->p_front[1]};
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            csv_real(b, values[k]);
            jpt_buf_addc(b, ',');
        }
        jpt_buf_printf(b, "%.0f,%.0f,%.0f,", c->computed, c->discarded, c->drafted);
        jpt_buf_printf(b, "%d,%d,%d,%d,", c->n_items, c->n_requests, c->n_failed, c->n_invalid);
        report_csv_field(b, report_source(c));
        jpt_buf_printf(b, ",%d,", c->modelled);
        csv_real(b, floor_of(r, c));
        jpt_buf_addz(b, "\r\n");
    }
}

#define HEAD(k, f) #f ","
#define CSV_KEY(f) jpt_buf_printf(b, "%lld,", (long long)q->f);
#define CSV_INT(f) if (q->f >= 0) jpt_buf_printf(b, "%lld", (long long)q->f); jpt_buf_addc(b, ',');
#define CSV_REAL(f) csv_real(b, q->f); jpt_buf_addc(b, ',');
#define CSV_TEXT(f) report_csv_field(b, q->f); jpt_buf_addc(b, ',');
#define CSV(k, f) CSV_##k(f)
static jpt_status csv_request(void *ud, const jpt_request_row *q) {
    jpt_buf *b = ud;
    JPT_REQUEST_MAP(CSV)
    jpt_buf_printf(b, "%lld\r\n", (long long)q->id);
    return JPT_OK;
}
jpt_status report_requests_csv(const report *r, jpt_buf *b, jpt_error *err) {
    jpt_buf_addz(b, JPT_REQUEST_MAP(HEAD) "id\r\n");
    return jpt_store_each_request(r->store, -1, csv_request, b, err);
}

/* ---- JSON: results.json of reference formats ------------------------------------------------------ */

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }
static json_t *text_or_null(const char *z) {
    json_t *t = z ? json_string(z) : json_null();
    return t ? t : json_string_nocheck("(not UTF-8)");
}

#define JSON_KEY(f) json_object_set_new(o, #f, json_integer(row->f));
#define JSON_INT(f) json_object_set_new(o, #f, row->f >= 0 ? json_integer(row->f) : json_null());
#define JSON_REAL(f) json_object_set_new(o, #f, real_or_null(row->f));
#define JSON_TEXT(f) json_object_set_new(o, #f, text_or_null(row->f));
#define JSON(k, f) JSON_##k(f)
#define ROWS(name, plural, MAP)                                                     \
    static json_t *plural##_json(const report *r) {                                 \
        json_t *all = json_array();                                                 \
        for (int i = 0; i < r->n_##plural; i++) {                                   \
            const jpt_##name##_row *row = &r->plural[i];                            \
            json_t                 *o = json_object();                              \
            json_object_set_new(o, "id", json_integer(row->id));                    \
            MAP(JSON)                                                               \
            json_array_append_new(all, o);                                          \
        }                                                                           \
        return all;                                                                 \
    }
ROWS(study, studies, JPT_STUDY_MAP)
ROWS(model, models, JPT_MODEL_MAP)
ROWS(task, tasks, JPT_TASK_MAP)
ROWS(meter, meters, JPT_METER_MAP)

static json_t *estimate_json(estimate e) {
    return json_pack("{s:o, s:o, s:o, s:i}", "mean", real_or_null(e.mean), "ci_low", real_or_null(e.low), "ci_high", real_or_null(e.high), "n", e.n);
}

static json_t *cell_json(const report *r, const cell *c) {
    static const char *const names[N_FIGURES] = {"quality", "joules_per_output_token", "net_joules_per_output_token", "joules_per_request", "net_joules_per_request", "s_per_request", "ttft_s"};
    json_t *o = json_object(), *phases = json_object();
    json_object_set_new(o, "cell", json_integer(c->row.id));
    json_object_set_new(o, "task", text_or_null(report_task(r, c->row.task)->name));
    json_object_set_new(o, "model", text_or_null(c->model));
    json_object_set_new(o, "spec", text_or_null(c->row.spec));
    json_object_set_new(o, "strategy", text_or_null(c->strategy));
    json_object_set_new(o, "params", c->row.params_json ? json_loads(c->row.params_json, JSON_DECODE_ANY, NULL) : NULL);
    json_object_set_new(o, "batch", json_integer(c->row.batch < 1 ? 1 : c->row.batch));
    json_object_set_new(o, "device", text_or_null(c->row.device));
    json_object_set_new(o, "quality_metric", text_or_null(report_task(r, c->row.task)->primary_metric));
    for (figure f = 0; f < N_FIGURES; f++)
        json_object_set_new(o, names[f], estimate_json(c->fig[f]));
    json_t *scores = json_object();
    for (int k = 0; k < c->n_scores; k++)
        json_object_set_new(scores, c->scores[k].metric, estimate_json(c->scores[k].of));
    json_object_set_new(o, "scores", scores);
    json_object_set_new(o, "floor_joules_per_request", real_or_null(floor_of(r, c)));
    json_object_set_new(o, "p_front_token", real_or_null(c->p_front[0]));
    json_object_set_new(o, "p_front_request", real_or_null(c->p_front[1]));
    for (int k = 0; k < N_PHASES; k++)
        json_object_set_new(phases, report_phases[k], c->phases_of > 0 ? json_real(c->phase_j[k] / c->phases_of) : json_null());
    json_object_set_new(o, "phase_joules_per_request", phases);
    json_object_set_new(o, "positions_computed", json_real(c->computed));
    json_object_set_new(o, "positions_discarded", json_real(c->discarded));
    json_object_set_new(o, "draft_positions", json_real(c->drafted));
    json_object_set_new(o, "n_items", json_integer(c->n_items));
    json_object_set_new(o, "requests_ok", json_integer(c->n_requests - c->n_failed));
    json_object_set_new(o, "requests_failed", json_integer(c->n_failed));
    json_object_set_new(o, "n_energy_invalid", json_integer(c->n_invalid));
    json_object_set_new(o, "energy_source", text_or_null(c->energy_source));
    json_object_set_new(o, "modelled", json_boolean(c->modelled));
    return o;
}

static json_t *comparisons_json(const report *r) {
    json_t *all = json_array();
    for (int i = 0; i < r->n_panels; i++)
        for (int k = 0; k < r->panels[i].n_cells; k++) {
            const panel *p = &r->panels[i];
            const cell  *c = p->cells[k], *of = report_reference(p, c);
            if (!of || of == c)
                continue;
            json_t *o = json_pack("{s:I, s:I}", "cell", (json_int_t)c->row.id, "reference", (json_int_t)of->row.id);
            const figure f[] = {QUALITY, J_TOKEN, J_REQUEST};
            const char  *names[] = {"quality", "joules_per_output_token", "joules_per_request"};
            for (int m = 0; m < 3; m++) {
                difference d = report_difference(p, c, of, f[m]);
                json_t    *v = estimate_json(d.delta);
                json_object_set_new(v, "ratio", estimate_json(d.ratio));
                json_object_set_new(v, "p", real_or_null(d.p));
                json_object_set_new(v, "separable", isfinite(d.delta.low) ? json_boolean(report_separable(d.delta)) : json_null());
                json_object_set_new(o, names[m], v);
            }
            json_array_append_new(all, o);
        }
    return all;
}

jpt_status report_json(const report *r, jpt_buf *b, jpt_error *err) {
    json_t *top = json_object(), *cells = json_array();
    int     invalid = 0;
    json_object_set_new(top, "schema_version", json_integer(JPT_STORE_SCHEMA));
    json_object_set_new(top, "tool", json_pack("{s:s, s:s}", "name", "jpt", "version", JPT_VERSION));
    json_object_set_new(top, "environment", studies_json(r));
    json_object_set_new(top, "meter", meters_json(r));
    json_object_set_new(top, "model", models_json(r));
    json_object_set_new(top, "workload", tasks_json(r));
    for (int i = 0; i < r->n_cells; i++)
        if (r->cells[i].n_requests) {
            json_array_append_new(cells, cell_json(r, &r->cells[i]));
            invalid += r->cells[i].n_invalid;
        }
    json_object_set_new(top, "cells", cells);
    json_object_set_new(top, "comparisons", comparisons_json(r));
    json_object_set_new(top, "modelled", json_boolean(r->modelled));
    json_object_set_new(top, "n_energy_invalid", json_integer(invalid));
    char *text = json_dumps(top, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    json_decref(top);
    if (!text)
        return JPT_FAIL(err, NOMEM, "out of memory while writing JSON");
    jpt_buf_addz(b, text);
    jpt_buf_addc(b, '\n');
    free(text);
    return JPT_OK;
}

/* ---- files ------------------------------------------------------------------------------------- */

static jpt_status write_one(const char *dir, const char *name, jpt_buf *b, jpt_buf *paths, jpt_error *err) {
    jpt_buf path = {0};
    jpt_buf_printf(&path, "%s/%s", dir, name);
    jpt_status status = b->oom || path.oom ? JPT_FAIL(err, NOMEM, "out of memory while writing %s", name)
                                           : jpt_file_write(path.p, b->p ? b->p : "", b->n, err);
    if (status == JPT_OK && paths != NULL)
        jpt_buf_printf(paths, "%s\n", path.p);
    jpt_buf_fini(&path);
    jpt_buf_reset(b);
    return status;
}

jpt_status jpt_report_write(jpt_store *s, const char *dir, unsigned formats, jpt_buf *paths, jpt_error *err) {
    report     r;
    jpt_buf    b = {0};
    jpt_status status = report_load(&r, s, err);
    if (status == JPT_OK)
        status = jpt_mkdirs(dir, err);
#define FILE_OF(bit, name, call)                                \
    if (status == JPT_OK && (formats & (bit))) {                \
        call;                                                   \
        if (status == JPT_OK)                                   \
            status = write_one(dir, name, &b, paths, err);      \
    }
    FILE_OF(JPT_REPORT_HTML, "report.html", report_html(&r, &b))
    FILE_OF(JPT_REPORT_MD, "report.md", report_md(&r, &b))
    FILE_OF(JPT_REPORT_LATEX, "report.tex", report_latex(&r, &b))
    FILE_OF(JPT_REPORT_CSV, "report.csv", report_csv(&r, &b))
    FILE_OF(JPT_REPORT_CSV, "scores.csv", report_scores_csv(&r, &b))
    FILE_OF(JPT_REPORT_CSV, "requests.csv", status = report_requests_csv(&r, &b, err))
    FILE_OF(JPT_REPORT_JSON, "results.json", status = report_json(&r, &b, err))
    jpt_buf_fini(&b);
    report_free(&r);
    return status;
}
