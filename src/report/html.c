/* The HTML page: one file, no network, drawn by this code; every text is escaped.  Works without its script; the script (page.js)
 * filters, sorts, swaps texts, and tells what is under the pointer or the arrow keys.  Here: the first screen and the whole;
 * html_panel.c has what is of a task, html_method.c validity, cost and method. */
#include "html.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- small pieces --------------------------------------------------------------------------------- */

void report_key(const report *r, jpt_buf *b, const cell *c, const char *name) {
    int colour = report_colour(r, c->strategy);
    jpt_buf_printf(b, "<svg class=\"key s%d\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">", colour % N_COLOURS);
    report_mark(b, colour, 7, 7, 4.6, "class=\"mark\"");
    jpt_buf_addz(b, "</svg>");
    report_escape(b, name);
}

/* Text for a script element of JSON: also safe there. */
void report_json_text(jpt_buf *b, const char *z, size_t most) {
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

void report_panel_id(jpt_buf *b, const panel *p) { jpt_buf_printf(b, "p%lld-%lld", (long long)p->task->id, (long long)p->meter->id); }

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
        report_panel_id(b, &r->panels[i]);
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
        report_json_text(b, c->strategy, 200);
        jpt_buf_printf(b, ",%lld,", (long long)(c->row.batch < 1 ? 1 : c->row.batch));
        report_json_text(b, c->label, 400);
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
            report_heat_map(r, b);
        report_panel_section(r, &r->panels[i], b);
    }
    if (r->n_panels == 1)
        report_heat_map(r, b);
    jpt_buf_addz(b, "<section id=\"power\"><h2>Power over time</h2>");
    report_chart_power(r, b);
    report_chart_drift(r, b);
    jpt_buf_addz(b, "</section>");
    report_validity(r, b);
    report_cost(r, b);
    report_method(r, b);
    jpt_buf_addz(b, "</main><footer>jpt " JPT_VERSION ": everything here is computed from one results file; jpt audit computes it again.</footer>"
                    "<div id=\"tip\" role=\"status\" aria-live=\"polite\" hidden></div>");
    cells_json(r, b);
    report_texts_json(r, b);
    jpt_buf_addz(b, "<script>");
    jpt_buf_addz(b, report_page_js);
    jpt_buf_addz(b, "</script></body></html>\n");
}
