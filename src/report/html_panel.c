/* The page's tables and bars: heat map, ledger, all numbers, texts; and a task's section. */
#include "html.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- heat map ------------------------------------------------------------------------------------- */

/* Of a ratio to greedy: blue is good, orange is bad, full colour at half or twice. */
static void heat(jpt_buf *b, double ratio, bool more_is_better, const char *format, double shown) {
    double bend = isfinite(ratio) && ratio > 0 ? fmax(-1, fmin(1, log2(ratio))) : 0;
    if (!isfinite(shown)) {
        jpt_buf_addz(b, "<td class=\"none\">–</td>");
        return;
    }
    bool good = (bend > 0) == more_is_better;
    jpt_buf_printf(b, "<td data-v=\"%.9g\" class=\"%s\" style=\"--h:%.0f%%\">", shown, fabs(bend) < .004 ? "" : good ? "good" : "bad", 100 * fmin(1, sqrt(fabs(bend))) * .7);
    jpt_buf_printf(b, format, shown);
    jpt_buf_addz(b, "</td>");
}

static const cell *in_panel(const panel *p, const cell *like) {
    for (int i = 0; i < p->n_cells; i++)
        if (p->cells[i]->row.model == like->row.model && p->cells[i]->row.batch == like->row.batch && strcmp(p->cells[i]->label, like->label) == 0)
            return p->cells[i];
    return NULL;
}

static void sort_heading(jpt_buf *b, const char *text, const char *more) {
    jpt_buf_addz(b, "<th scope=\"col\"><button type=\"button\">");
    report_escape(b, text);
    if (*more) {
        jpt_buf_addz(b, " <small>");
        report_escape(b, more);
        jpt_buf_addz(b, "</small>");
    }
    jpt_buf_addz(b, "</button></th>");
}

void report_heat_map(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"heat\"><h2>Every setting on every task</h2><p class=\"note\">Joules a request and quality, each as a multiple of greedy's on the same task and model. Blue is "
                    "better than greedy, orange worse; full colour at half or twice. Plain numbers stand where there is no greedy.</p>"
                    "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"heat map\"><table class=\"heat\"><thead><tr>");
    sort_heading(b, "setting", "");
    for (int i = 0; i < r->n_panels; i++) {
        sort_heading(b, r->panels[i].title, r->panels[i].modelled ? "J/request, modelled" : "J/request");
        sort_heading(b, r->panels[i].title, report_metric(r->panels[i].task));
    }
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < r->n_panels; i++)
        for (int k = 0; k < r->panels[i].n_cells; k++) {
            const cell *c = r->panels[i].cells[k];
            bool        seen = false;
            for (int o = 0; o < i && !seen; o++)
                seen = in_panel(&r->panels[o], c) != NULL;
            if (seen)
                continue;
            jpt_buf_printf(b, "<tr data-c=\"%lld\"><th scope=\"row\" data-v=\"", (long long)c->row.id);
            report_escape(b, c->label);
            jpt_buf_addz(b, "\">");
            report_key(r, b, c, c->short_label);
            if (r->n_models > 1) {
                jpt_buf_addz(b, " <small>");
                report_escape(b, c->model);
                jpt_buf_addz(b, "</small>");
            }
            jpt_buf_addz(b, "</th>");
            for (int o = 0; o < r->n_panels; o++) {
                const panel *p = &r->panels[o];
                const cell  *at = o == i ? c : in_panel(p, c), *of = at ? report_reference(p, at) : NULL;
                double       j = at ? at->fig[J_REQUEST].mean : NAN, q = at ? at->fig[QUALITY].mean : NAN;
                double       rj = of ? j / of->fig[J_REQUEST].mean : NAN, rq = of && of->fig[QUALITY].mean > 0 ? q / of->fig[QUALITY].mean : NAN;
                heat(b, rj, false, isfinite(rj) ? "%.2f×" : "%.3g", isfinite(rj) ? rj : j);
                heat(b, rq, p->task->higher_is_better != 0, isfinite(rq) ? "%.2f×" : "%.3g", isfinite(rq) ? rq : q);
            }
            jpt_buf_addz(b, "</tr>");
        }
    jpt_buf_addz(b, "</tbody></table></div></section>");
}

/* ---- ledger --------------------------------------------------------------------------------------- */

static void stack(jpt_buf *b, const double *part, int n, const char *const *names, const char *kind, double most) {
    double sum = 0;
    for (int k = 0; k < n; k++)
        sum += part[k];
    jpt_buf_printf(b, "<span class=\"stack\" style=\"width:%.2f%%\">", 100 * sum / most);
    for (int k = 0; k < n; k++)
        if (part[k] > 0)
            jpt_buf_printf(b, "<i class=\"%s%d\" style=\"flex-grow:%.5g\" title=\"%s %.3g J, %.1f %%\"></i>", kind, k, part[k] / sum, names[k], part[k], 100 * part[k] / sum);
    jpt_buf_addz(b, "</span>");
}

static void ledger_key(jpt_buf *b, const char *const *names, int n, const char *kind) {
    for (int k = 0; k < n; k++)
        jpt_buf_printf(b, "<span><i class=\"swatch %s%d\"></i>%s</span> ", kind, k, names[k]);
}

static int by_joules(const void *a, const void *b) {
    double x = (*(const cell *const *)a)->fig[J_REQUEST].mean, y = (*(const cell *const *)b)->fig[J_REQUEST].mean;
    return isnan(x) || isnan(y) ? isnan(x) - isnan(y) : (x > y) - (x < y);
}

static void ledger(const report *r, const panel *p, jpt_buf *b) {
    static const char *const fates[] = {"kept", "rejected drafts", "pruned beams and candidates", "past the stop"};
    const cell             **v = malloc((size_t)p->n_cells * sizeof *v);
    double                   most = 0;
    bool                     any = false, fate_known = false;
    for (int i = 0; v && i < p->n_cells; i++) {
        v[i] = p->cells[i];
        most = fmax(most, isfinite(v[i]->fig[J_REQUEST].mean) ? v[i]->fig[J_REQUEST].mean : 0);
        any = any || v[i]->phases_of > 0, fate_known = fate_known || v[i]->fates_of > 0;
    }
    jpt_buf_printf(b, "<h3>Where the joules go%s</h3>", p->modelled ? " (modelled)" : "");
    if (!v || !any || !(most > 0)) {
        jpt_buf_addz(b, "<p class=\"none\">By phase: not measured.</p>");
        free(v);
        return;
    }
    qsort(v, (size_t)p->n_cells, sizeof *v, by_joules);
    jpt_buf_addz(b, "<p class=\"note\">Joules a request, cheapest first. Upper bar, by phase: ");
    ledger_key(b, report_phases, N_PHASES, "ph");
    if (fate_known) {
        jpt_buf_addz(b, "<br>Lower bar, by fate, in the shares of the decoded positions (the table's \"thrown away\" counts the prompt's too): ");
        ledger_key(b, fates, N_FATES, "fa");
    } else
        jpt_buf_addz(b, "<br>By fate: joules not measured; the share of positions thrown away stands at the right");
    jpt_buf_addz(b, "</p><div class=\"ledger\" role=\"list\">");
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = v[i];
        double      part[N_PHASES + N_FATES];
        if (!isfinite(c->fig[J_REQUEST].mean))
            continue;
        jpt_buf_printf(b, "<div role=\"listitem\" data-c=\"%lld\"><b>", (long long)c->row.id);
        report_key(r, b, c, c->short_label);
        jpt_buf_addz(b, "</b><span class=\"bars\">");
        for (int k = 0; k < N_PHASES; k++)
            part[k] = c->phases_of > 0 ? c->phase_j[k] / c->phases_of : 0;
        if (c->phases_of > 0)
            stack(b, part, N_PHASES, report_phases, "ph", most);
        else
            jpt_buf_addz(b, "<small>phases not measured</small>");
        for (int k = 0; k < N_FATES; k++)
            part[k] = c->fates_of > 0 ? c->fate_j[k] / c->fates_of : 0;
        if (c->fates_of > 0)
            stack(b, part, N_FATES, fates, "fa", most);
        jpt_buf_printf(b, "</span><span class=\"num\">%.3g J", c->fig[J_REQUEST].mean);
        double lost = c->fates_of > 0 ? 100 * (1 - part[KEPT] / (part[KEPT] + part[REJECTED] + part[PRUNED] + part[PAST_STOP])) : c->computed > 0 ? 100 * c->discarded / c->computed : NAN;
        if (isfinite(lost))
            jpt_buf_printf(b, " <small>%.*f %% lost</small>", lost < 10 ? 1 : 0, fabs(lost));
        jpt_buf_addz(b, "</span></div>");
    }
    jpt_buf_addz(b, "</div>");
    free(v);
}

/* ---- table ---------------------------------------------------------------------------------------- */

static void number(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "<td data-v=\"\" title=\"not measured\">–</td>");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g</td>", e.mean, e.mean);
    else
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g <i>[%.3g, %.3g]</i></td>", e.mean, e.mean, e.low, e.high);
}

static void count(jpt_buf *b, double v, const char *format) {
    jpt_buf_printf(b, "<td data-v=\"%.9g\">", v);
    jpt_buf_printf(b, format, v);
    jpt_buf_addz(b, "</td>");
}

static void text_cell(jpt_buf *b, const char *text) {
    jpt_buf_addz(b, "<td class=\"l\" data-v=\"");
    report_escape(b, text);
    jpt_buf_addz(b, "\">");
    report_escape(b, text);
    jpt_buf_addz(b, "</td>");
}

/* A row of a table of settings, up to its figures. */
static void row_begins(const report *r, const panel *p, const cell *c, jpt_buf *b) {
    jpt_buf_printf(b, "<tr data-c=\"%lld\"><th scope=\"row\" data-v=\"", (long long)c->row.id);
    report_escape(b, c->label);
    jpt_buf_addz(b, "\">");
    report_key(r, b, c, c->label);
    jpt_buf_addz(b, "</th>");
    if (p->many_models)
        text_cell(b, c->model);
}

/* What a request's bytes and FLOPs cost at the device's prices, and what it took over that. */
static void floor_cells(jpt_buf *b, const cell *c, const jpt_floor_row *floor) {
    bool there = floor && floor->floor_j > 0;
    if (there)
        count(b, floor->floor_j, "%.4g");
    else
        jpt_buf_addz(b, "<td data-v=\"\">–</td>");
    if (there && isfinite(c->fig[J_REQUEST].mean))
        count(b, 100 * c->fig[J_REQUEST].mean / floor->floor_j, "%.0f %%");
    else
        jpt_buf_addz(b, "<td data-v=\"\">–</td>");
}

static void table(const report *r, const panel *p, jpt_buf *b) {
    bool shown[N_FIGURES] = {[QUALITY] = true, [J_TOKEN] = true, [J_REQUEST] = true}, floors = false;
    for (int i = 0; i < p->n_cells; i++) {
        for (figure k = 0; k < N_FIGURES; k++)
            shown[k] = shown[k] || isfinite(p->cells[i]->fig[k].mean);
        floors = floors || report_floor(r, p->cells[i]);
    }
    jpt_buf_addz(b, "<h3>All numbers</h3><div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"table of all settings\"><table><thead><tr>");
    sort_heading(b, "setting", "");
    if (p->many_models)
        sort_heading(b, "model", "");
    if (p->many_batches)
        sort_heading(b, "batch", "");
    for (figure k = 0; k < N_FIGURES; k++) {
        if (shown[k])
            sort_heading(b, k == QUALITY ? report_metric(p->task) : report_figures[k].name, k >= J_TOKEN && k <= NET_J_REQUEST && p->modelled ? "modelled" : "");
        if (k == J_REQUEST && floors) {
            sort_heading(b, "floor, J/request", "");
            sort_heading(b, "% of floor", "");
        }
    }
    sort_heading(b, "on the front", "");
    static const char *const last[] = {"thrown away", "drafted", "tokens", "items", "failed", "energy left out", "energy source"};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        sort_heading(b, last[i], "");
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < p->n_cells; i++) {
        const cell          *c = p->cells[i];
        const jpt_floor_row *floor = report_floor(r, c);
        row_begins(r, p, c, b);
        if (p->many_batches)
            count(b, (double)(c->row.batch < 1 ? 1 : c->row.batch), "%.0f");
        for (figure k = 0; k < N_FIGURES; k++) {
            if (shown[k])
                number(b, c->fig[k]);
            if (k == J_REQUEST && floors)
                floor_cells(b, c, floor);
        }
        if (isfinite(c->p_front[1]))
            count(b, 100 * c->p_front[1], c->front[1] ? "<b>%.0f %%</b>" : "%.0f %%");
        else
            jpt_buf_addz(b, "<td data-v=\"\">–</td>");
        count(b, c->computed > 0 ? 100 * c->discarded / c->computed : 0, "%.3g %%");
        count(b, c->drafted, "%.0f");
        count(b, c->tokens, "%.0f");
        count(b, c->n_items, "%.0f");
        count(b, c->n_failed, "%.0f");
        count(b, c->n_invalid, "%.0f");
        text_cell(b, report_source(c));
        jpt_buf_addz(b, "</tr>");
    }
    jpt_buf_addz(b, "</tbody></table></div><p class=\"note\">[Brackets]: 95 % intervals over items");
    jpt_buf_addz(b, p->n_blocks > 1 ? " and blocks. " : ". ");
    jpt_buf_addz(b, "On the front: share of resamples in which nothing is at least as good for at most the joules a request; bold where that holds for the estimates. "
                    "Thrown away: share of the computed positions that are in no text (losing beams and candidates, wrong guesses).</p>");
}

/* ---- other scores --------------------------------------------------------------------------------- */

static void scores(const report *r, const panel *p, jpt_buf *b) {
    const char *name[SCORES_MOST];
    int         n = report_score_names(p, name, SCORES_MOST);
    bool        of_model = false;
    if (n == 0)
        return;
    jpt_buf_addz(b, "<h3>Other scores</h3><div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"table of other scores\"><table class=\"scores\"><thead><tr>");
    sort_heading(b, "setting", "");
    if (p->many_models)
        sort_heading(b, "model", "");
    for (int k = 0; k < n; k++) {
        const char *at = strchr(name[k], '@');
        char        metric[64];
        snprintf(metric, sizeof metric, "%.*s", at ? (int)(at - name[k]) : 63, name[k]);
        sort_heading(b, metric, at ? at : "");
        of_model = of_model || at;
    }
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        row_begins(r, p, c, b);
        for (int k = 0; k < n; k++) {
            const cell_score *s = report_score(c, name[k]);
            if (s && report_score_partial(c, s))
                jpt_buf_printf(b, "<td data-v=\"\" title=\"of %d texts only: run it again\">–</td>", s->of.n);
            else
                number(b, s ? s->of : (estimate){NAN, NAN, NAN, 0});
        }
        jpt_buf_addz(b, "</tr>");
    }
    jpt_buf_addz(b, "</tbody></table></div><p class=\"note\">[Brackets]: 95 % bootstrap intervals over items.");
    jpt_buf_addz(b, of_model ? " @MODEL: by jpt evaluate, and comparable under that model alone. MAUVE is noise below some 1,000 texts.</p>" : "</p>");
}

/* ---- texts ---------------------------------------------------------------------------------------- */

enum { SHOWN_ITEMS = 12, TEXT_MOST = 1500, TEXTS_BYTES = 1100000 };

/* The first item, for a page without its script. */
static void texts_static(const report *r, const panel *p, jpt_buf *b) {
    const char *id, *prompt = report_prompt(r, p->task->id, p->items[0], &id);
    jpt_buf_addz(b, "<details class=\"texts\" data-p=\"");
    report_panel_id(b, p);
    jpt_buf_addz(b, "\"><summary>Texts side by side</summary><label class=\"pick\" hidden>item <select></select></label><pre class=\"asked\">");
    report_escape(b, prompt);
    jpt_buf_addz(b, "</pre><div class=\"grid\">");
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        if (c->n_texts == 0 || c->texts[0].item != p->items[0])
            continue;
        jpt_buf_printf(b, "<div data-c=\"%lld\"><b>", (long long)c->row.id);
        report_key(r, b, c, c->label);
        jpt_buf_addz(b, "</b> <small></small><pre>");
        char cut[TEXT_MOST + 8];
        const char *text = c->texts[0].text ? c->texts[0].text : "";
        size_t      n = strlen(text) > TEXT_MOST ? jpt_utf8_valid_prefix(text, TEXT_MOST) : strlen(text);
        snprintf(cut, sizeof cut, "%.*s%s", (int)n, text, text[n] ? " …" : "");
        report_escape(b, cut);
        jpt_buf_addz(b, "</pre></div>");
    }
    jpt_buf_addz(b, "</div></details>");
}

/* {"p1-1":{"items":[[id,prompt]...],"texts":[...],"of":{"cell":[[text,score,tokens,J]...]}}}: each text once. */
void report_texts_json(const report *r, jpt_buf *b) {
    size_t each = r->n_panels ? TEXTS_BYTES / (size_t)r->n_panels : 0;
    jpt_buf_addz(b, "<script type=\"application/json\" id=\"texts\">{");
    for (int i = 0; i < r->n_panels; i++) {
        const panel *p = &r->panels[i];
        size_t       n_texts = 0, cap = (size_t)p->n_cells * SHOWN_ITEMS + 1;
        const char **known = malloc(cap * sizeof *known);
        jpt_buf      texts = {0}, of_item[SHOWN_ITEMS] = {{0}};
        int          n_items = 0;
        for (; known && n_items < p->n_items && n_items < SHOWN_ITEMS; n_items++) {
            if (n_items && texts.n > each)
                break;
            for (int c = 0; c < p->n_cells; c++) {
                const cell       *at = p->cells[c];
                const shown_text *t = NULL;
                for (int k = 0; k < at->n_texts && !t; k++)
                    t = at->texts[k].item == p->items[n_items] ? &at->texts[k] : NULL;
                if (!t || !t->text)
                    continue;
                size_t place = 0;
                while (place < n_texts && strcmp(known[place], t->text) != 0)
                    place++;
                if (place == n_texts) {
                    jpt_buf_addz(&texts, n_texts ? "," : "");
                    report_json_text(&texts, t->text, TEXT_MOST);
                    known[n_texts++] = t->text;
                }
                jpt_buf_printf(&of_item[n_items], "%s\"%lld\":[%zu,", of_item[n_items].n ? "," : "", (long long)at->row.id, place);
                jpt_buf_printf(&of_item[n_items], isfinite(t->score) ? "%.5g," : "null,", t->score);
                jpt_buf_printf(&of_item[n_items], t->tokens >= 0 ? "%lld," : "null,", (long long)t->tokens);
                jpt_buf_printf(&of_item[n_items], isfinite(t->energy_j) ? "%.4g]" : "null]", t->energy_j);
            }
        }
        jpt_buf_addz(b, i ? ",\"" : "\"");
        report_panel_id(b, p);
        jpt_buf_addz(b, "\":{\"items\":[");
        for (int k = 0; k < n_items; k++) {
            const char *id, *prompt = report_prompt(r, p->task->id, p->items[k], &id);
            jpt_buf_addz(b, k ? ",[" : "[");
            report_json_text(b, id[0] ? id : NULL, 200);
            jpt_buf_addc(b, ',');
            report_json_text(b, prompt, 4 * TEXT_MOST);
            jpt_buf_addz(b, ",{");
            jpt_buf_addz(b, of_item[k].p ? of_item[k].p : "");
            jpt_buf_addz(b, "}]");
            b->oom = b->oom || of_item[k].oom;
            jpt_buf_fini(&of_item[k]);
        }
        jpt_buf_addz(b, "],\"texts\":[");
        jpt_buf_addz(b, texts.p ? texts.p : "");
        jpt_buf_printf(b, "],\"more\":%d}", p->n_items - n_items);
        b->oom = b->oom || texts.oom || !known;
        jpt_buf_fini(&texts);
        free(known);
    }
    jpt_buf_addz(b, "}</script>");
}

/* ---- a task --------------------------------------------------------------------------------------- */

void report_panel_section(const report *r, const panel *p, jpt_buf *b) {
    jpt_buf_addz(b, "<section class=\"panel\" id=\"");
    report_panel_id(b, p);
    jpt_buf_printf(b, "\" data-t=\"%lld\"><h2>", (long long)p->task->id);
    report_escape(b, p->title);
    jpt_buf_addz(b, "</h2><div class=\"charts\">");
    report_chart_front(r, p, 1, b);
    report_chart_front(r, p, 0, b);
    report_chart_latency(r, p, b);
    jpt_buf_addz(b, "</div><p class=\"note\">Dashed steps: the Pareto front. The fuller a mark, the more surely it is on the front. Shaded: the 95 % region of quality and joules together, bars: of each; "
                    "where settings are many, they show under the pointer. Most of their width is what items differ by, which all settings share: the verdicts are paired and sharper. "
                    "Dotted lines at the right: equal mean power.</p>");
    report_chart_curves(r, p, b);
    ledger(r, p, b);
    table(r, p, b);
    scores(r, p, b);
    texts_static(r, p, b);
    jpt_buf_addz(b, "</section>");
}
