/* The HTML page: one file, no network, drawn by this code; every text is escaped.  Works without its script; the script (page.js)
 * filters, sorts, swaps texts, and tells what is under the pointer or the arrow keys. */
#include "svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- small pieces --------------------------------------------------------------------------------- */

static void key_with(const report *r, jpt_buf *b, const cell *c, const char *name) {
    int colour = report_colour(r, c->strategy);
    jpt_buf_printf(b, "<svg class=\"key s%d\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">", colour % N_COLOURS);
    report_mark(b, colour, 7, 7, 4.6, "class=\"mark\"");
    jpt_buf_addz(b, "</svg>");
    report_escape(b, name);
}
static void key_of(const report *r, jpt_buf *b, const cell *c) { key_with(r, b, c, c->label); }

/* A verdict's sentences: what is compared with, and the count at the end, stand back. */
static void sentences(jpt_buf *b, const char *text) {
    for (const char *end; text && *text; text = *end ? end + 1 : end) {
        end = text + strcspn(text, "\n");
        char line[1200];
        snprintf(line, sizeof line, "%.*s", (int)(end - text), text);
        jpt_buf_addz(b, strncmp(line, "Of ", 3) == 0 ? "<li class=\"count\">" : strstr(line, " J a token") || strstr(line, "; energy not measured") ? "<li class=\"base\">" : "<li>");
        report_escape(b, line);
        jpt_buf_addz(b, "</li>");
    }
}

/* Text for a script element of JSON: also safe there. */
static void json_text(jpt_buf *b, const char *z, size_t most) {
    size_t n = z ? strlen(z) : 0, whole;
    if (n > most)
        n = most;
    jpt_buf_addc(b, '"');
    for (size_t i = 0; i < n;) {
        whole = jpt_utf8_valid_prefix(z + i, n - i);
        for (size_t k = 0; k < whole; k++) {
            unsigned char c = (unsigned char)z[i + k];
            if (c == '"' || c == '\\')
                jpt_buf_printf(b, "\\%c", c);
            else if (c < 32 || c == '<' || c == '>' || c == '&' || c == 127)
                jpt_buf_printf(b, "\\u%04x", c);
            else
                jpt_buf_addc(b, (char)c);
        }
        i += whole;
        if (i < n) { /* not UTF-8, or cut within a character */
            if (n < most || i + 4 < n)
                jpt_buf_addz(b, "\\ufffd");
            i++;
        }
    }
    if (z && strlen(z) > most)
        jpt_buf_addz(b, " \\u2026");
    jpt_buf_addc(b, '"');
}

static void panel_id(jpt_buf *b, const panel *p) { jpt_buf_printf(b, "p%lld-%lld", (long long)p->task->id, (long long)p->meter->id); }

/* ---- first screen --------------------------------------------------------------------------------- */

static void header(const report *r, jpt_buf *b) {
    int requests = 0, settings = 0;
    for (int i = 0; i < r->n_cells; i++)
        requests += r->cells[i].n_requests, settings += r->cells[i].n_requests > 0;
    jpt_buf_addz(b, "<a class=\"skip\" href=\"#verdict\">to the verdict</a><header><div><h1>Joules per token</h1><p>");
    for (int i = 0; i < r->n_models; i++) {
        jpt_buf_addz(b, i ? ", " : "");
        report_escape(b, r->models[i].name);
    }
    jpt_buf_printf(b, " · %d task%s · %d settings · %d requests · energy: ", r->n_tasks, r->n_tasks == 1 ? "" : "s", settings, requests);
    for (int i = 0; i < r->n_meters; i++) {
        bool told = false; /* two meters of one kind: a study resumed in another place */
        for (int k = 0; k < i; k++)
            told = told || report_same(r->meters[k].source, r->meters[i].source);
        if (told)
            continue;
        jpt_buf_addz(b, i ? ", " : "");
        report_escape(b, r->meters[i].source);
    }
    jpt_buf_addz(b, "</p></div><button id=\"theme\" type=\"button\" hidden>dark / light</button></header>");
    if (r->modelled)
        jpt_buf_addz(b, "<p class=\"warn\">Energy here is modelled, not measured: good for comparing work on one machine, no statement on its power.</p>");
}

static void verdicts(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"verdict\" aria-label=\"verdict\"><div class=\"verdicts\">");
    for (int i = 0; i < r->n_panels; i++) {
        jpt_buf words = {0};
        report_verdict(&r->panels[i], &words);
        jpt_buf_printf(b, "<article data-t=\"%lld\"><h2><a href=\"#", (long long)r->panels[i].task->id);
        panel_id(b, &r->panels[i]);
        jpt_buf_addz(b, "\">");
        report_escape(b, r->panels[i].title);
        jpt_buf_addz(b, "</a></h2><ul>");
        sentences(b, words.p);
        jpt_buf_addz(b, "</ul></article>");
        b->oom = b->oom || words.oom;
        jpt_buf_fini(&words);
    }
    jpt_buf_addz(b, "</div></section>");
}

static void option(jpt_buf *b, const char *value, const char *text) {
    jpt_buf_addz(b, "<option value=\"");
    report_escape(b, value);
    jpt_buf_addz(b, "\">");
    report_escape(b, text);
    jpt_buf_addz(b, "</option>");
}

static void filters(const report *r, jpt_buf *b) {
    char value[32];
    jpt_buf_addz(b, "<form id=\"filters\" class=\"filters\" aria-label=\"filters\" hidden><label>task<select id=\"ft\"><option value=\"\">all</option>");
    for (int i = 0; i < r->n_tasks; i++)
        snprintf(value, sizeof value, "%lld", (long long)r->tasks[i].id), option(b, value, r->tasks[i].name);
    jpt_buf_addz(b, "</select></label><label>model<select id=\"fm\"><option value=\"\">all</option>");
    for (int i = 0; i < r->n_models; i++)
        snprintf(value, sizeof value, "%lld", (long long)r->models[i].id), option(b, value, r->models[i].name);
    jpt_buf_addz(b, "</select></label><label>family<select id=\"fs\"><option value=\"\">all</option>");
    for (int i = 0; i < r->n_cells; i++) {
        bool known = r->cells[i].n_requests == 0;
        for (int k = 0; k < i && !known; k++)
            known = r->cells[k].n_requests && strcmp(r->cells[k].strategy, r->cells[i].strategy) == 0;
        if (!known)
            option(b, r->cells[i].strategy, r->cells[i].strategy);
    }
    jpt_buf_addz(b, "</select></label><label>batch<select id=\"fb\"><option value=\"\">all</option>");
    for (int i = 0; i < r->n_cells; i++) {
        int64_t batch = r->cells[i].row.batch < 1 ? 1 : r->cells[i].row.batch;
        bool    known = false;
        for (int k = 0; k < i && !known; k++)
            known = (r->cells[k].row.batch < 1 ? 1 : r->cells[k].row.batch) == batch;
        if (!known)
            snprintf(value, sizeof value, "%lld", (long long)batch), option(b, value, value);
    }
    jpt_buf_addz(b, "</select></label><label>joules a<select id=\"fj\"><option>request</option><option>token</option></select></label>"
                    "<button type=\"reset\">show all</button><output id=\"shown\" aria-live=\"polite\"></output></form>");
}

static void legend(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<ul class=\"keys\" id=\"legend\">");
    for (int i = 0; i < r->n_cells; i++) {
        bool known = r->cells[i].n_requests == 0;
        for (int k = 0; k < i && !known; k++)
            known = r->cells[k].n_requests && strcmp(r->cells[k].strategy, r->cells[i].strategy) == 0;
        if (known)
            continue;
        int colour = report_colour(r, r->cells[i].strategy);
        jpt_buf_addz(b, "<li><button type=\"button\" aria-pressed=\"false\" data-s=\"");
        report_escape(b, r->cells[i].strategy);
        jpt_buf_printf(b, "\"><svg class=\"key s%d\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">", colour % N_COLOURS);
        report_mark(b, colour, 7, 7, 4.6, "class=\"mark\"");
        jpt_buf_addz(b, "</svg>");
        report_escape(b, r->cells[i].strategy);
        jpt_buf_addz(b, "</button></li>");
    }
    jpt_buf_addz(b, "</ul>");
}

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

static void heat_map(const report *r, jpt_buf *b) {
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
            key_with(r, b, c, c->short_label);
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
        jpt_buf_addz(b, "<br>Lower bar, by fate: ");
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
        key_with(r, b, c, c->short_label);
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
    for (figure k = 0; k < N_FIGURES; k++)
        if (shown[k])
            sort_heading(b, k == QUALITY ? report_metric(p->task) : report_figures[k].name, k >= J_TOKEN && k <= NET_J_REQUEST && p->modelled ? "modelled" : "");
    sort_heading(b, "on the front", "");
    if (floors)
        sort_heading(b, "% of floor", "");
    static const char *const last[] = {"thrown away", "drafted", "tokens", "items", "failed", "energy left out", "energy source"};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        sort_heading(b, last[i], "");
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < p->n_cells; i++) {
        const cell          *c = p->cells[i];
        const jpt_floor_row *floor = report_floor(r, c);
        jpt_buf_printf(b, "<tr data-c=\"%lld\"><th scope=\"row\" data-v=\"", (long long)c->row.id);
        report_escape(b, c->label);
        jpt_buf_addz(b, "\">");
        key_of(r, b, c);
        jpt_buf_addz(b, "</th>");
        if (p->many_models)
            text_cell(b, c->model);
        if (p->many_batches)
            count(b, (double)(c->row.batch < 1 ? 1 : c->row.batch), "%.0f");
        for (figure k = 0; k < N_FIGURES; k++)
            if (shown[k])
                number(b, c->fig[k]);
        if (isfinite(c->p_front[1]))
            count(b, 100 * c->p_front[1], c->front[1] ? "<b>%.0f %%</b>" : "%.0f %%");
        else
            jpt_buf_addz(b, "<td data-v=\"\">–</td>");
        if (floors && floor && floor->floor_j > 0 && isfinite(c->fig[J_REQUEST].mean))
            count(b, 100 * c->fig[J_REQUEST].mean / floor->floor_j, "%.0f %%");
        else if (floors)
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

/* ---- texts ---------------------------------------------------------------------------------------- */

enum { SHOWN_ITEMS = 12, TEXT_MOST = 1500, TEXTS_BYTES = 1100000 };

/* The first item, for a page without its script. */
static void texts_static(const report *r, const panel *p, jpt_buf *b) {
    const char *id, *prompt = report_prompt(r, p->task->id, p->items[0], &id);
    jpt_buf_addz(b, "<details class=\"texts\" data-p=\"");
    panel_id(b, p);
    jpt_buf_addz(b, "\"><summary>Texts side by side</summary><label class=\"pick\" hidden>item <select></select></label><pre class=\"asked\">");
    report_escape(b, prompt);
    jpt_buf_addz(b, "</pre><div class=\"grid\">");
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        if (c->n_texts == 0 || c->texts[0].item != p->items[0])
            continue;
        jpt_buf_printf(b, "<div data-c=\"%lld\"><b>", (long long)c->row.id);
        key_of(r, b, c);
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
static void texts_json(const report *r, jpt_buf *b) {
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
                    json_text(&texts, t->text, TEXT_MOST);
                    known[n_texts++] = t->text;
                }
                jpt_buf_printf(&of_item[n_items], "%s\"%lld\":[%zu,", of_item[n_items].n ? "," : "", (long long)at->row.id, place);
                jpt_buf_printf(&of_item[n_items], isfinite(t->score) ? "%.5g," : "null,", t->score);
                jpt_buf_printf(&of_item[n_items], t->tokens >= 0 ? "%lld," : "null,", (long long)t->tokens);
                jpt_buf_printf(&of_item[n_items], isfinite(t->energy_j) ? "%.4g]" : "null]", t->energy_j);
            }
        }
        jpt_buf_addz(b, i ? ",\"" : "\"");
        panel_id(b, p);
        jpt_buf_addz(b, "\":{\"items\":[");
        for (int k = 0; k < n_items; k++) {
            const char *id, *prompt = report_prompt(r, p->task->id, p->items[k], &id);
            jpt_buf_addz(b, k ? ",[" : "[");
            json_text(b, id[0] ? id : NULL, 200);
            jpt_buf_addc(b, ',');
            json_text(b, prompt, 4 * TEXT_MOST);
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

static void panel_section(const report *r, const panel *p, jpt_buf *b) {
    jpt_buf_addz(b, "<section class=\"panel\" id=\"");
    panel_id(b, p);
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
    texts_static(r, p, b);
    jpt_buf_addz(b, "</section>");
}

/* ---- validity ------------------------------------------------------------------------------------- */

typedef struct reason { char text[160]; int n; } reason;
enum { REASONS = 40 };

/* "counter and integral differ by 12 %; short" : each part once, numbers blanked so that like goes to like. */
static void count_reasons(reason *v, int *n, const char *text, const char *prefix) {
    for (const char *end; text && *text; text = *end ? end + 1 : end) {
        end = text + strcspn(text, ";");
        char   one[160];
        size_t k = (size_t)snprintf(one, sizeof one, "%s", prefix);
        for (const char *c = text + (*text == ' '); c < end && k + 4 < sizeof one; c++) {
            bool digit = *c >= '0' && *c <= '9';
            if (digit && k && one[k - 1] == '#')
                continue;
            if (*c == '.' && k && one[k - 1] == '#' && c + 1 < end && c[1] >= '0' && c[1] <= '9')
                continue;
            one[k++] = digit ? '#' : *c;
        }
        one[k] = '\0';
        int at = 0;
        while (at < *n && strcmp(v[at].text, one) != 0)
            at++;
        if (at == REASONS)
            continue;
        if (at == *n)
            snprintf(v[(*n)++].text, 160, "%s", one);
        v[at].n++;
    }
}

static int doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void validity(const report *r, jpt_buf *b) {
    int     requests = 0, failed = 0, invalid = 0, unmetered = 0, kinds = 0, bad[8] = {0}, all[8] = {0}, warned[8] = {0}, n_reasons = 0, n_res = 0, open_books = 0, books = 0;
    const char *kind[8];
    reason *why = calloc(REASONS, sizeof *why);
    double *residual = malloc(((size_t)r->n_windows + 1) * sizeof *residual);
    for (int i = 0; i < r->n_cells; i++)
        requests += r->cells[i].n_requests, failed += r->cells[i].n_failed, invalid += r->cells[i].n_invalid, unmetered += r->cells[i].n_requests - r->cells[i].n_metered - r->cells[i].n_invalid;
    for (int i = 0; why && residual && i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        int                   k = 0;
        while (k < kinds && !report_same(kind[k], w->kind))
            k++;
        if (k == 8)
            continue;
        if (k == kinds)
            kind[kinds++] = w->kind;
        all[k]++, bad[k] += w->valid == 0, warned[k] += w->valid == 1 && w->reasons && *w->reasons;
        count_reasons(why, &n_reasons, w->reasons, w->valid == 0 ? "" : "warning: ");
        if (isfinite(w->residual) && w->valid != 0)
            residual[n_res++] = fabs(w->residual);
        double sum = w->prefill_energy_j + w->decode_energy_j + w->draft_energy_j + w->verify_energy_j + w->select_energy_j + w->kv_energy_j + w->host_energy_j +
                     (isfinite(w->idle_energy_j) ? w->idle_energy_j : 0) + w->residual_energy_j;
        if (isfinite(sum) && isfinite(w->energy_j))
            books++, open_books += fabs(sum - w->energy_j) > 1e-6 * fmax(1, fabs(w->energy_j));
    }
    for (const char *line = r->reasons.p; why && line && *line;) {
        char   one[400];
        size_t n = strcspn(line, "\n");
        snprintf(one, sizeof one, "%.*s", (int)n, line);
        bool warning = strncmp(one, "warning: ", 9) == 0;
        count_reasons(why, &n_reasons, one + (warning ? 9 : 0), warning ? "warning: " : "");
        line += n + (line[n] == '\n');
    }
    jpt_buf_printf(b, "<section id=\"validity\"><h2>Is it valid?</h2><div class=\"method\"><div><h3>requests</h3><dl><dt>finished</dt><dd>%d</dd><dt>failed, kept in the file</dt><dd>%d</dd>"
                      "<dt>energy not valid: left out of every mean, kept in the file</dt><dd>%d</dd><dt>energy not measured</dt><dd>%d</dd></dl></div>",
                   requests, failed, invalid, unmetered < 0 ? 0 : unmetered);
    jpt_buf_addz(b, "<div><h3>windows</h3>");
    if (kinds == 0)
        jpt_buf_addz(b, "<p>None in this file: each request was its own.</p>");
    else
        jpt_buf_addz(b, "<table class=\"small\"><thead><tr><th scope=\"col\">kind</th><th scope=\"col\">all</th><th scope=\"col\">not valid</th><th scope=\"col\">warned</th></tr></thead><tbody>");
    for (int k = 0; k < kinds; k++) {
        jpt_buf_addz(b, "<tr><th scope=\"row\">");
        report_escape(b, kind[k]);
        jpt_buf_printf(b, "</th><td>%d</td><td>%d</td><td>%d</td></tr>", all[k], bad[k], warned[k]);
    }
    if (kinds)
        jpt_buf_addz(b, "</tbody></table>");
    jpt_buf_addz(b, "</div><div><h3>cross-checks</h3><dl><dt>counter against integrated power, median and largest residual</dt><dd>");
    if (n_res) {
        qsort(residual, (size_t)n_res, sizeof *residual, doubles);
        jpt_buf_printf(b, "%.2f %% and %.2f %% (%d windows)", 100 * residual[n_res / 2], 100 * residual[n_res - 1], n_res);
    } else
        jpt_buf_addz(b, "not measured: one instrument only");
    jpt_buf_addz(b, "</dd><dt>phases + idle + residual = counter</dt><dd>");
    if (books)
        jpt_buf_printf(b, "%s in %d windows", open_books ? "broken" : "holds", open_books ? open_books : books);
    else
        jpt_buf_addz(b, "no ledger in this file");
    jpt_buf_addz(b, "</dd></dl><p class=\"note\">jpt audit checks every row.</p></div><div><h3>reasons</h3><dl>");
    for (int k = 0; k < n_reasons; k++) {
        jpt_buf_addz(b, "<dt>");
        report_escape(b, why[k].text);
        jpt_buf_printf(b, "</dt><dd>%d</dd>", why[k].n);
    }
    jpt_buf_addz(b, n_reasons ? "</dl></div></div></section>" : "<dt>none</dt><dd>no window is doubtful</dd></dl></div></div></section>");
    free(why);
    free(residual);
}

/* ---- cost ----------------------------------------------------------------------------------------- */

static void cost(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"cost\"><h2>What it costs</h2><p>kWh = joules / 3,600,000; CO₂e = kWh × PUE × g/kWh; money = kWh × PUE × price. Joules are the meter's alone: hosts, networks and what else the "
                    "meter leaves out are not in it. Set the factors to your own place:</p><form class=\"filters\" id=\"factors\" aria-label=\"factors\">"
                    "<label>price a kWh<input id=\"price\" type=\"number\" min=\"0\" step=\"0.01\" value=\"0.25\"></label><label>PUE<input id=\"pue\" type=\"number\" min=\"1\" step=\"0.01\" value=\"1.20\"></label>"
                    "<label>g CO₂e a kWh<input id=\"grams\" type=\"number\" min=\"0\" step=\"1\" value=\"475\"></label><label>requests<input id=\"many\" type=\"number\" min=\"1\" step=\"1\" value=\"1000000\"></label></form>"
                    "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"cost\"><table id=\"costs\"><thead><tr><th scope=\"col\">task and setting</th><th scope=\"col\">J a request</th>"
                    "<th scope=\"col\">kWh, all requests</th><th scope=\"col\">money</th><th scope=\"col\">kg CO₂e</th></tr></thead><tbody>");
    for (int i = 0; i < r->n_panels; i++)
        for (int k = 0; k < r->panels[i].n_cells; k++) {
            const panel *p = &r->panels[i];
            const cell  *c = p->cells[k];
            double       j = c->fig[J_REQUEST].mean, kwh = j * 1e6 / 3.6e6 * 1.2;
            if (!isfinite(j) || !(c->front[1] || report_reference(p, c) == c))
                continue;
            jpt_buf_printf(b, "<tr data-c=\"%lld\" data-j=\"%.9g\"><th scope=\"row\">", (long long)c->row.id, j);
            report_escape(b, p->title);
            jpt_buf_addz(b, ": ");
            report_escape(b, c->label);
            if (p->many_models && c->model) {
                jpt_buf_addz(b, ", ");
                report_escape(b, c->model);
            }
            jpt_buf_printf(b, "</th><td>%.4g%s</td><td>%.4g</td><td>%.4g</td><td>%.4g</td></tr>", j, c->modelled ? " (modelled)" : "", kwh, kwh * .25, kwh * .475);
        }
    jpt_buf_addz(b, "</tbody></table></div><p class=\"note\">Greedy and the settings on the front. 475 g/kWh is a world mean of generation, 1.20 and 0.25 are examples: none of the three was measured here.</p></section>");
}

/* ---- method --------------------------------------------------------------------------------------- */

#define SHOW_KEY(f)
#define SHOW_INT(f) if (row->f >= 0) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%lld</dd>", (long long)row->f);
#define SHOW_REAL(f) if (isfinite(row->f)) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%.6g</dd>", row->f);
#define SHOW_TEXT(f) if (row->f) { jpt_buf_addz(b, "<dt>" #f "</dt><dd>"); report_escape(b, row->f); jpt_buf_addz(b, "</dd>"); }
#define SHOW(k, f) SHOW_##k(f)
#define SHOW_ALL(name, plural, MAP)                                                                           \
    for (int i = 0; i < r->n_##plural; i++) {                                                                 \
        const jpt_##name##_row *row = &r->plural[i];                                                          \
        jpt_buf_addz(b, "<div><h3>" #name "</h3><dl>");                                                       \
        MAP(SHOW)                                                                                             \
        jpt_buf_addz(b, "</dl></div>");                                                                       \
    }

/* Each setting once, whatever its tasks. */
static void settings(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<div><h3>settings</h3><dl>");
    for (int i = 0; i < r->n_cells; i++) {
        const jpt_cell_row *c = &r->cells[i].row;
        bool                seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = report_same(r->cells[k].row.spec, c->spec) && report_same(r->cells[k].row.seeds, c->seeds);
        if (seen)
            continue;
        jpt_buf_addz(b, "<dt>");
        report_escape(b, c->spec);
        jpt_buf_addz(b, "</dt><dd>");
        report_escape(b, c->params_json);
        jpt_buf_addz(b, "; seeds ");
        report_escape(b, c->seeds);
        jpt_buf_addz(b, "</dd>");
    }
    jpt_buf_addz(b, "</dl></div>");
}

/* min to max of what the windows of requests say. */
static void window_facts(const report *r, jpt_buf *b) {
    double low[5], high[5];
    int    n = 0;
    for (int k = 0; k < 5; k++)
        low[k] = INFINITY, high[k] = -INFINITY;
    for (int i = 0; i < r->n_windows; i++) {
        const jpt_window_row *w = &r->windows[i];
        if (!w->kind || strcmp(w->kind, "requests") != 0)
            continue;
        n++;
        const double v[] = {w->duration_s, w->idle_before_w, w->temp_start_c, w->sm_mhz_start, w->replications > 0 ? (double)w->replications : NAN};
        for (int k = 0; k < 5; k++)
            low[k] = fmin(low[k], v[k]), high[k] = fmax(high[k], v[k]);
        low[2] = fmin(low[2], w->temp_end_c), high[2] = fmax(high[2], w->temp_end_c);
    }
    if (n == 0)
        return;
    static const char *const names[] = {"length, s", "idle power before, W", "temperature, °C", "SM clock, MHz", "replications"};
    jpt_buf_printf(b, "<div><h3>windows</h3><dl><dt>of requests</dt><dd>%d</dd>", n);
    for (int k = 0; k < 5; k++) {
        jpt_buf_printf(b, "<dt>%s</dt><dd>", names[k]);
        if (high[k] >= low[k])
            jpt_buf_printf(b, "%.4g to %.4g</dd>", low[k], high[k]);
        else
            jpt_buf_addz(b, "not measured</dd>");
    }
    jpt_buf_addz(b, "</dl></div>");
}

static void method(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<section id=\"method\"><h2>How it was done</h2><p>Joules a kept output token: energy of whole requests over the tokens they kept. Gross is what the meter moved; net takes the idle power off. "
                    "– is absent, never zero. Intervals are 95 %: a bootstrap crossed over items and blocks, the same draws for every setting, scaled to the two-way cluster-robust standard error with Student's t. "
                    "A corpus score (BLEU, chrF) moves as the mean of its segments does, to scale. Differences are paired; several at once are judged by Holm's p values. An interval is no accuracy: the sensor's own gain "
                    "(about ± 5 % on a card) is the same for all rows of one card and in none of the intervals.</p><div class=\"method\">");
    SHOW_ALL(meter, meters, JPT_METER_MAP)
    window_facts(r, b);
    SHOW_ALL(model, models, JPT_MODEL_MAP)
    SHOW_ALL(study, studies, JPT_STUDY_MAP)
    SHOW_ALL(calibration, calibrations, JPT_CALIBRATION_MAP)
    for (int i = 0; i < r->n_tasks; i++) {
        const jpt_task_row *row = &r->tasks[i];
        jpt_buf_addz(b, "<div><h3>task</h3><dl>");
        JPT_TASK_MAP(SHOW)
        jpt_buf_addz(b, "</dl></div>");
    }
    if (r->n_ledgers) {
        jpt_buf_addz(b, "<div><h3>second opinions on phases</h3><dl>");
        for (int i = 0; i < r->n_ledgers; i++) {
            const jpt_ledger_row *l = &r->ledgers[i];
            jpt_buf_addz(b, "<dt>");
            report_escape(b, l->method), jpt_buf_addz(b, ", "), report_escape(b, l->entry);
            jpt_buf_printf(b, "</dt><dd>%.4g ± %.2g ", l->value, l->error_value);
            report_escape(b, l->unit);
            jpt_buf_addz(b, "</dd>");
        }
        jpt_buf_addz(b, "</dl></div>");
    }
    if (r->n_looks) {
        jpt_buf_addz(b, "<div><h3>sequential stopping</h3><dl>");
        for (int i = 0; i < r->n_looks; i++) {
            const jpt_look_row *l = &r->looks[i];
            jpt_buf_printf(b, "<dt>after %lld blocks, ", (long long)l->blocks);
            report_escape(b, l->spec_b), jpt_buf_addz(b, " to "), report_escape(b, l->spec_a);
            jpt_buf_printf(b, "</dt><dd>%+.2f %% [%+.2f, %+.2f]: ", 100 * l->difference, 100 * l->ci_low, 100 * l->ci_high);
            report_escape(b, l->decision);
            jpt_buf_addz(b, "</dd>");
        }
        jpt_buf_addz(b, "</dl></div>");
    }
    settings(r, b);
    jpt_buf_addz(b, "</div></section>");
}

/* ---- all ------------------------------------------------------------------------------------------ */

/* What the script filters by: {"cell": [task, model, strategy, batch]}. */
static void cells_json(const report *r, jpt_buf *b) {
    bool begun = false;
    jpt_buf_addz(b, "<script type=\"application/json\" id=\"cells\">{");
    for (int i = 0; i < r->n_cells; i++) {
        const cell *c = &r->cells[i];
        if (c->n_requests == 0)
            continue;
        jpt_buf_printf(b, "%s\"%lld\":[%lld,%lld,", begun ? "," : "", (long long)c->row.id, (long long)c->row.task, (long long)c->row.model);
        json_text(b, c->strategy, 200);
        jpt_buf_printf(b, ",%lld,", (long long)(c->row.batch < 1 ? 1 : c->row.batch));
        json_text(b, c->label, 400);
        jpt_buf_addc(b, ']');
        begun = true;
    }
    jpt_buf_addz(b, "}</script>");
}

void report_html(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
                    "<link rel=\"icon\" href=\"data:,\"><title>jpt: joules per token</title><style>");
    jpt_buf_addz(b, report_page_css);
    jpt_buf_addz(b, "</style></head><body class=\"by-request\">");
    header(r, b);
    verdicts(r, b);
    filters(r, b);
    legend(r, b);
    jpt_buf_addz(b, "<main>");
    for (int i = 0; i < r->n_panels; i++) {
        if (i == 1)
            heat_map(r, b);
        panel_section(r, &r->panels[i], b);
    }
    if (r->n_panels == 1)
        heat_map(r, b);
    jpt_buf_addz(b, "<section id=\"power\"><h2>Power over time</h2>");
    report_chart_power(r, b);
    report_chart_drift(r, b);
    jpt_buf_addz(b, "</section>");
    validity(r, b);
    cost(r, b);
    method(r, b);
    jpt_buf_addz(b, "</main><footer>jpt " JPT_VERSION ": everything here is computed from one results file; jpt audit computes it again.</footer>"
                    "<div id=\"tip\" role=\"status\" aria-live=\"polite\" hidden></div>");
    cells_json(r, b);
    texts_json(r, b);
    jpt_buf_addz(b, "<script>");
    jpt_buf_addz(b, report_page_js);
    jpt_buf_addz(b, "</script></body></html>\n");
}
