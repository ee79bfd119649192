/* The HTML page: one file, no network, drawn by this code; every text is escaped. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void esc(jpt_buf *b, const char *z) {
    for (z = z ? z : "–"; *z; z++)
        switch (*z) {
        case '<': jpt_buf_addz(b, "&lt;"); break;
        case '>': jpt_buf_addz(b, "&gt;"); break;
        case '&': jpt_buf_addz(b, "&amp;"); break;
        case '"': jpt_buf_addz(b, "&quot;"); break;
        case '\'': jpt_buf_addz(b, "&#39;"); break;
        default: jpt_buf_addc(b, (unsigned char)*z < 32 && *z != '\n' && *z != '\t' ? '?' : *z);
        }
}

static const char head[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width,initial-scale=1\"><title>jpt: joules per token</title><style>"
    ":root{color-scheme:light dark;--bg:#fcfcfa;--card:#fff;--fg:#1d2126;--dim:#5c6570;--line:#dfe2e6;--w:#8a4b00;"
    "--c0:#0b62a4;--c1:#b3430a;--c2:#0a7a52;--c3:#a13a78;--c4:#6b5b00;--c5:#5a4fcf;--c6:#007a8a;--c7:#7a3b2e}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f23;--fg:#e8eaed;--dim:#a0a8b2;--line:#363c43;--w:#f0b46c;"
    "--c0:#6cb6f0;--c1:#f29b6c;--c2:#5fcfa0;--c3:#e38fc0;--c4:#d9c65a;--c5:#a9a1ff;--c6:#5fcbd8;--c7:#d3a092}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1160px;padding:28px 16px 64px;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h1{margin:0 0 4px}h2{margin:0 0 8px}h3{margin:24px 0 6px}"
    "header p{margin:2px 0;color:var(--dim)}section{margin-top:36px;border-top:1px solid var(--line);padding-top:20px}"
    ".warn{border-left:4px solid var(--w);padding:6px 12px;margin:14px 0;color:var(--w);font-weight:600}"
    ".note{color:var(--dim);font-size:14px;margin:8px 0}.box{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;white-space:nowrap;min-width:100%}"
    "td,th{padding:6px 8px;border-bottom:1px solid var(--line);text-align:right}td i{font-style:normal;color:var(--dim)}"
    "td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:var(--bg)}"
    "tbody tr:hover td{background:var(--card)}"
    "th button{font:inherit;font-weight:600;color:inherit;background:none;border:0;padding:0;cursor:pointer}"
    "th[aria-sort=ascending] button:after{content:' \\2191'}th[aria-sort=descending] button:after{content:' \\2193'}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:20px}"
    ".texts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:14px}"
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px}"
    "svg{display:block;width:100%;height:auto}svg text{font-size:13px;fill:var(--dim)}.grid{stroke:var(--line)}"
    ".bar{stroke:var(--k);opacity:.35;stroke-width:1.5}.lead{stroke:var(--k);opacity:.6}.pt{fill:var(--card);stroke:var(--k);stroke-width:2}"
    ".on{fill:var(--k)}.front{fill:none;stroke:var(--dim);stroke-dasharray:5 4}.tag{fill:var(--k)}"
    "svg .num{fill:var(--card);font-size:11px;font-weight:700;text-anchor:middle}"
    "@media(max-width:600px){td:first-child,th:first-child{white-space:normal;min-width:140px}svg text{font-size:17px}svg .num{font-size:12px}}"
    "svg.faded g{opacity:.15}svg.faded g.lit{opacity:1}"
    ".keys{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;padding:0;margin:12px 0;font-size:14px}"
    ".key{display:inline-block;min-width:20px;border-radius:10px;padding:0 5px;margin-right:6px;background:var(--k);color:var(--card);"
    "font-size:12px;line-height:20px;font-weight:700;text-align:center}"
    ".asked{border-style:dashed;max-height:160px}"
    "pre{white-space:pre-wrap;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px;margin:4px 0;"
    "max-height:320px;overflow:auto;font-size:13px}label{display:inline-block;margin-bottom:8px}select{font:inherit;max-width:100%}"
    ".method{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));gap:16px}"
    ".method div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:4px 14px}"
    "dl{font-size:14px;margin:0 0 8px}dt{color:var(--dim)}dd{margin:0 0 6px}"
    "@media print{pre{max-height:none}section{break-inside:avoid-page}}</style></head><body>";

static const char script[] =
    "<script>document.querySelectorAll('th button').forEach(function(x){x.onclick=function(){var h=x.parentNode,t=h.closest('table'),"
    "u=h.getAttribute('aria-sort')!=='ascending',i=h.cellIndex,o=t.tBodies[0];t.querySelectorAll('th').forEach(function(e){"
    "e.removeAttribute('aria-sort')});h.setAttribute('aria-sort',u?'ascending':'descending');Array.from(o.rows).sort(function(a,b){"
    "var p=a.cells[i].dataset.v,q=b.cells[i].dataset.v;if(p===''||q==='')return(p==='')-(q==='');var d=p-q;"
    "if(isNaN(d))d=p<q?-1:p>q?1:0;return u?d:-d}).forEach(function(e){o.appendChild(e)})}});"
    "document.querySelectorAll('select').forEach(function(s){s.onchange=function(){s.closest('section').querySelectorAll('[data-item]')"
    ".forEach(function(e){e.hidden=e.dataset.item!==s.value})};s.onchange()});"
    "document.querySelectorAll('[data-n]').forEach(function(e){if(e.tagName==='g')return;var s=e.closest('section');"
    "e.onmouseenter=function(){s.querySelectorAll('svg').forEach(function(v){v.classList.add('faded');v.querySelectorAll('g').forEach("
    "function(g){g.classList.toggle('lit',g.dataset.n===e.dataset.n)})})};e.onmouseleave=function(){s.querySelectorAll('svg').forEach("
    "function(v){v.classList.remove('faded')})}})</script></body></html>\n";

/* ---- chart ----------------------------------------------------------------------------------------------- */

enum { W = 540, H = 380, LEFT = 58, RIGHT = 18, TOP = 34, BOTTOM = 52, BADGE = 10, N_COLOURS = 8 };

typedef struct axis {
    double low, high, step;
} axis;

/* Bounds and a step of 1, 2 or 5 times a power of ten, four to eight steps. */
static axis nice_axis(double low, double high, double floor_at, double ceil_at) {
    double pad = high > low ? (high - low) * .07 : fabs(low) * .1 + 1e-9;
    axis   a = {fmax(low - pad, floor_at), fmin(high + pad, ceil_at), 0};
    if (!(a.high > a.low))
        a.low = low - pad, a.high = high + pad;
    double raw = (a.high - a.low) / 5, base = pow(10, floor(log10(raw))), f = raw / base;
    a.step = base * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
    return a;
}

typedef struct point {
    const cell *c;
    estimate    x, y;
    double      px, py, bx, by; /* the dot, its numbered badge */
    int         number;
    bool        front;
} point;

static double overlap(double ax, double ay, double bx, double by, double r) {
    double d = hypot(ax - bx, ay - by);
    return d < r ? r - d : 0;
}

/* Each badge goes to the nearest place around its dot that covers least of the dots and of the badges before it. */
static void place_badges(point *p, int n) {
    for (int i = 0; i < n; i++) {
        double best = INFINITY;
        for (int ring = 0; ring < 4; ring++)
            for (int k = 0; k < 12; k++) {
                double angle = (k + .5) * 3.14159265358979 / 6, r = 17 + 13 * ring;
                double x = p[i].px + r * cos(angle), y = p[i].py - r * sin(angle), cost = ring * 2 + (k % 6 > 2);
                if (x < LEFT + BADGE || x > W - RIGHT - BADGE || y < TOP + BADGE || y > H - BOTTOM - BADGE)
                    cost += 100;
                for (int j = 0; j < n; j++) {
                    cost += 3 * overlap(x, y, p[j].px, p[j].py, BADGE + 7);
                    if (j < i)
                        cost += 5 * overlap(x, y, p[j].bx, p[j].by, 2 * BADGE + 1);
                }
                if (cost < best)
                    best = cost, p[i].bx = x, p[i].by = y;
            }
    }
}

static int by_joules(const void *a, const void *b) {
    double x = ((const point *)a)->x.mean, y = ((const point *)b)->x.mean;
    return (x > y) - (x < y);
}

static void draw_front(const point *sorted, int n, bool higher_is_better, jpt_buf *b) {
    bool   begun = false;
    double last = 0;
    for (int i = 0; i < n; i++) {
        if (!sorted[i].front)
            continue;
        if (!begun)
            jpt_buf_printf(b, "<path class=\"front\" d=\"M%.1f %d", sorted[i].px, higher_is_better ? H - BOTTOM : TOP);
        else
            jpt_buf_printf(b, "H%.1f", sorted[i].px);
        jpt_buf_printf(b, "V%.1f", sorted[i].py);
        begun = true, last = sorted[i].py;
    }
    if (begun)
        jpt_buf_printf(b, "V%.1fH%d\"/>", last, W - RIGHT);
}

static void chart(const panel *of, bool per_request, jpt_buf *b) {
    const jpt_task_row *t = of->task;
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    int    n = 0;
    point *p = calloc((size_t)of->n_cells + 1, sizeof *p);
    if (p == NULL) {
        b->oom = true;
        return;
    }
    for (int i = 0; i < of->n_cells; i++) {
        const cell    *c = of->cells[i];
        const estimate x = per_request ? c->j_request : c->j_token, y = c->quality;
        if (!isfinite(x.mean) || !isfinite(y.mean))
            continue;
        p[n++] = (point){.c = c, .x = x, .y = y, .number = i + 1, .front = per_request ? c->front_request : c->front_token};
        x0 = fmin(x0, fmin(x.mean, x.low)), x1 = fmax(x1, fmax(x.mean, x.high));
        y0 = fmin(y0, fmin(y.mean, y.low)), y1 = fmax(y1, fmax(y.mean, y.high));
    }
    if (n == 0) {
        jpt_buf_addz(b, "<p>No setting has both a score and valid energy.</p>");
        free(p);
        return;
    }
    /* shares stay within 0 and 1, nothing that is positive gets a negative axis */
    bool share = y0 >= 0 && y1 <= 1;
    axis ax = nice_axis(x0, x1, x0 >= 0 ? 0 : -INFINITY, INFINITY), ay = nice_axis(y0, y1, y0 >= 0 ? (share ? -.03 : 0) : -INFINITY, share ? 1.03 : INFINITY);
#define X(v) (LEFT + ((v)-ax.low) / (ax.high - ax.low) * (W - LEFT - RIGHT))
#define Y(v) (H - BOTTOM - ((v)-ay.low) / (ay.high - ay.low) * (H - TOP - BOTTOM))
    jpt_buf_printf(b, "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
    esc(b, t->primary_metric);
    jpt_buf_printf(b, " against joules a %s; the table below has the same numbers\">", per_request ? "request" : "token");
    for (double v = ceil(ay.low / ay.step) * ay.step; v <= ay.high; v += ay.step)
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>", LEFT, Y(v), W - RIGHT,
                       LEFT - 7, Y(v) + 4, fabs(v) < ay.step / 2 ? 0 : v);
    for (double v = ceil(ax.low / ax.step) * ax.step; v <= ax.high; v += ax.step)
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>", X(v), TOP, H - BOTTOM, X(v),
                       H - BOTTOM + 19, fabs(v) < ax.step / 2 ? 0 : v);
    for (int i = 0; i < n; i++)
        p[i].px = X(p[i].x.mean), p[i].py = Y(p[i].y.mean);
    qsort(p, (size_t)n, sizeof *p, by_joules);
    place_badges(p, n);
    draw_front(p, n, t->higher_is_better != 0, b);
    for (int i = 0; i < n; i++) {
        jpt_buf_printf(b, "<g data-n=\"%d\" style=\"--k:var(--c%d)\"><title>", p[i].number, (p[i].number - 1) % N_COLOURS);
        esc(b, p[i].c->label);
        jpt_buf_printf(b, ": %.4g at %.4g J</title>", p[i].y.mean, p[i].x.mean);
        if (isfinite(p[i].x.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fH%.1f\"/>", X(p[i].x.low), p[i].py, X(p[i].x.high));
        if (isfinite(p[i].y.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fV%.1f\"/>", p[i].px, Y(p[i].y.low), Y(p[i].y.high));
        jpt_buf_printf(b,
                       "<path class=\"lead\" d=\"M%.1f %.1fL%.1f %.1f\"/><circle class=\"pt%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>"
                       "<circle class=\"tag\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/><text class=\"num\" x=\"%.1f\" y=\"%.1f\">%d</text></g>",
                       p[i].px, p[i].py, p[i].bx, p[i].by, p[i].front ? " on" : "", p[i].px, p[i].py, p[i].bx, p[i].by, BADGE, p[i].bx, p[i].by + 4,
                       p[i].number);
    }
    jpt_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">J a %s, gross%s</text><text x=\"8\" y=\"20\">", (W + LEFT) / 2, H - 10,
                   per_request ? "request" : "kept token", of->modelled ? " (modelled, not measured)" : "");
    esc(b, t->primary_metric);
    jpt_buf_addz(b, t->higher_is_better != 0 ? " (more is better)</text></svg></figure>" : " (less is better)</text></svg></figure>");
    free(p);
#undef X
#undef Y
}

static void key_of(jpt_buf *b, int number, const char *spec) {
    jpt_buf_printf(b, "<span class=\"key\" style=\"--k:var(--c%d)\">%d</span>", (number - 1) % N_COLOURS, number);
    esc(b, spec);
}

/* ---- table ----------------------------------------------------------------------------------------------- */

typedef enum column { QUALITY, J_TOKEN, NET_J_TOKEN, J_REQUEST, NET_J_REQUEST, N_ESTIMATES } column;

static estimate estimate_of(const cell *c, column k) {
    const estimate e[] = {c->quality, c->j_token, c->net_j_token, c->j_request, c->net_j_request};
    return e[k];
}

static void number(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "<td data-v=\"\">–</td>");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g</td>", e.mean, e.mean);
    else
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g <i>[%.3g, %.3g]</i></td>", e.mean, e.mean, e.low, e.high);
}

static void heading(jpt_buf *b, const char *text, const char *more) {
    jpt_buf_addz(b, "<th scope=\"col\"><button>");
    esc(b, text);
    jpt_buf_addz(b, more);
    jpt_buf_addz(b, "</button></th>");
}

static void rows(const report *r, const panel *p, jpt_buf *b) {
    const jpt_task_row      *t = p->task;
    static const char *const energy[] = {NULL, "J/token", "J/token net", "J/request", "J/request net"};
    bool                     shown[N_ESTIMATES] = {[QUALITY] = true, [J_TOKEN] = true, [J_REQUEST] = true};
    for (int i = 0; i < p->n_cells; i++)
        for (column k = 0; k < N_ESTIMATES; k++)
            shown[k] = shown[k] || isfinite(estimate_of(p->cells[i], k).mean);
    jpt_buf_addz(b, "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table><thead><tr>");
    heading(b, "strategy", "");
    if (p->many_models)
        heading(b, "model", "");
    for (column k = 0; k < N_ESTIMATES; k++)
        if (shown[k])
            heading(b, k == QUALITY ? (t->primary_metric ? t->primary_metric : "score") : energy[k], k != QUALITY && p->modelled ? " (modelled)" : "");
    static const char *const last[] = {"thrown away", "drafted", "tokens", "seconds", "items", "failed", "energy left out", "energy source"};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        heading(b, last[i], "");
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < p->n_cells; i++) {
        const cell *c = p->cells[i];
        jpt_buf_printf(b, "<tr data-n=\"%d\"><td data-v=\"", i + 1);
        esc(b, c->label);
        jpt_buf_addz(b, "\">");
        key_of(b, i + 1, c->label);
        jpt_buf_addz(b, "</td>");
        if (p->many_models) {
            jpt_buf_addz(b, "<td data-v=\"");
            esc(b, report_model(r, c->row.model)->name);
            jpt_buf_addz(b, "\">");
            esc(b, report_model(r, c->row.model)->name);
            jpt_buf_addz(b, "</td>");
        }
        for (column k = 0; k < N_ESTIMATES; k++)
            if (shown[k])
                number(b, estimate_of(c, k));
        double share = c->computed > 0 ? 100 * c->discarded / c->computed : 0;
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.3g %%</td><td data-v=\"%.9g\">%.0f</td>", share, share, c->drafted, c->drafted);
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.0f</td><td data-v=\"%.9g\">%.3g</td>", c->tokens, c->tokens, c->seconds, c->seconds);
        jpt_buf_printf(b, "<td data-v=\"%d\">%d</td><td data-v=\"%d\">%d</td><td data-v=\"%d\">%d</td><td data-v=\"", c->n_items,
                       c->n_items, c->n_failed, c->n_failed, c->n_invalid, c->n_invalid);
        esc(b, report_source(c));
        jpt_buf_addz(b, "\">");
        esc(b, report_source(c));
        jpt_buf_addz(b, "</td></tr>");
    }
    jpt_buf_addz(b, "</tbody></table></div>");
}

static void texts(const report *r, const panel *p, jpt_buf *b) {
    const cell *first = p->cells[0];
    const char *id;
    for (int i = 1; i < p->n_cells; i++)
        if (p->cells[i]->n_items > first->n_items)
            first = p->cells[i];
    jpt_buf_addz(b, "<h3>Texts side by side</h3><label>item <select>");
    for (int k = 0; k < first->n_items; k++) {
        report_prompt(r, p->task->id, first->items[k].index, &id);
        jpt_buf_printf(b, "<option value=\"%lld\">", (long long)first->items[k].index);
        esc(b, id[0] ? id : NULL);
        jpt_buf_addz(b, "</option>");
    }
    jpt_buf_addz(b, "</select></label>");
    for (int k = 0; k < first->n_items; k++) {
        const char *prompt = report_prompt(r, p->task->id, first->items[k].index, &id);
        jpt_buf_printf(b, "<pre class=\"asked\" data-item=\"%lld\"%s>", (long long)first->items[k].index, k ? " hidden" : "");
        esc(b, prompt);
        jpt_buf_addz(b, "</pre>");
    }
    jpt_buf_addz(b, "<div class=\"texts\">");
    for (int i = 0; i < p->n_cells; i++)
        for (int k = 0; k < p->cells[i]->n_items; k++) {
            const item *it = &p->cells[i]->items[k];
            jpt_buf_printf(b, "<div data-item=\"%lld\"%s><b>", (long long)it->index, it->index != first->items[0].index ? " hidden" : "");
            key_of(b, i + 1, p->cells[i]->label);
            jpt_buf_addz(b, "</b><pre>");
            esc(b, it->text);
            jpt_buf_addz(b, "</pre></div>");
        }
    jpt_buf_addz(b, "</div>");
}

#define SHOW_KEY(f)
#define SHOW_INT(f) if (row->f >= 0) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%lld</dd>", (long long)row->f);
#define SHOW_REAL(f) if (isfinite(row->f)) jpt_buf_printf(b, "<dt>" #f "</dt><dd>%.6g</dd>", row->f);
#define SHOW_TEXT(f) if (row->f) { jpt_buf_addz(b, "<dt>" #f "</dt><dd>"); esc(b, row->f); jpt_buf_addz(b, "</dd>"); }
#define SHOW(k, f) SHOW_##k(f)
#define SHOW_ALL(name, plural, MAP)                                                                           \
    for (int i = 0; i < r->n_##plural; i++) {                                                                 \
        const jpt_##name##_row *row = &r->plural[i];                                                          \
        jpt_buf_addz(b, "<div><h3>" #name "</h3><dl>");                                                       \
        MAP(SHOW)                                                                                             \
        jpt_buf_addz(b, "</dl></div>");                                                                       \
    }

static void keys(const panel *p, jpt_buf *b) {
    jpt_buf_addz(b, "<ul class=\"keys\">");
    for (int i = 0; i < p->n_cells; i++) {
        jpt_buf_printf(b, "<li data-n=\"%d\">", i + 1);
        key_of(b, i + 1, p->cells[i]->label);
        jpt_buf_addz(b, "</li>");
    }
    jpt_buf_addz(b, "</ul>");
}

/* Each setting once, whatever its tasks. */
static void settings(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "<div><h3>settings</h3><dl>");
    for (int i = 0; i < r->n_cells; i++) {
        const jpt_cell_row *c = &r->cells[i].row;
        bool                seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = strcmp(r->cells[k].row.spec, c->spec) == 0 && strcmp(r->cells[k].row.seeds ? r->cells[k].row.seeds : "", c->seeds ? c->seeds : "") == 0;
        if (seen)
            continue;
        jpt_buf_addz(b, "<dt>");
        esc(b, c->spec);
        jpt_buf_addz(b, "</dt><dd>");
        esc(b, c->params_json);
        jpt_buf_addz(b, "; seeds ");
        esc(b, c->seeds);
        jpt_buf_addz(b, "</dd>");
    }
    jpt_buf_addz(b, "</dl></div>");
}

static void summary(const report *r, jpt_buf *b) {
    int requests = 0;
    for (int i = 0; i < r->n_cells; i++)
        requests += r->cells[i].n_requests;
    jpt_buf_addz(b, "<header><h1>Joules per token</h1><p>");
    for (int i = 0; i < r->n_models; i++) {
        jpt_buf_addz(b, i ? ", " : "");
        esc(b, r->models[i].name);
    }
    jpt_buf_printf(b, " · %d task%s · %d requests · energy: ", r->n_tasks, r->n_tasks == 1 ? "" : "s", requests);
    for (int i = 0; i < r->n_meters; i++) {
        bool told = false; /* two meters of one kind: a study resumed in another place */
        for (int k = 0; k < i; k++)
            told = told || strcmp(r->meters[k].source, r->meters[i].source) == 0;
        if (told)
            continue;
        jpt_buf_addz(b, i ? ", " : "");
        esc(b, r->meters[i].source);
    }
    jpt_buf_addz(b, "</p></header>");
    if (r->modelled)
        jpt_buf_addz(b, "<p class=\"warn\">Energy here is modelled, not measured: good for comparing work on one machine, no statement on its power.</p>");
}

void report_html(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, head);
    summary(r, b);
    for (int i = 0; i < r->n_panels; i++) {
        const panel *p = &r->panels[i];
        jpt_buf      words = {0};
        jpt_buf_addz(b, "<section><h2>");
        esc(b, p->title);
        jpt_buf_addz(b, "</h2><p>");
        report_verdict(p, &words);
        esc(b, words.p);
        b->oom = b->oom || words.oom;
        jpt_buf_fini(&words);
        jpt_buf_addz(b, "</p><div class=\"charts\">");
        chart(p, false, b);
        chart(p, true, b);
        jpt_buf_addz(b, "</div>");
        keys(p, b);
        jpt_buf_addz(b, "<p class=\"note\">Filled dots on the dashed line are the Pareto front: nothing is better for fewer joules. "
                        "Bars and [brackets] are 95 % bootstrap intervals over items. Thrown away: share of the computed positions that "
                        "are in no text (losing beams and candidates, wrong guesses).</p>");
        rows(r, p, b);
        texts(r, p, b);
        jpt_buf_addz(b, "</section>");
    }
    jpt_buf_addz(b, "<section><h2>Method</h2><p>Joules a kept output token: energy of whole requests over the tokens they kept. Gross is what "
                    "the meter moved; net takes the idle power off. – is absent, never zero.</p><div class=\"method\">");
    SHOW_ALL(meter, meters, JPT_METER_MAP)
    SHOW_ALL(model, models, JPT_MODEL_MAP)
    SHOW_ALL(study, studies, JPT_STUDY_MAP)
    for (int i = 0; i < r->n_tasks; i++) {
        const jpt_task_row *row = &r->tasks[i];
        jpt_buf_addz(b, "<div><h3>task</h3><dl>");
        JPT_TASK_MAP(SHOW)
        jpt_buf_addz(b, "</dl></div>");
    }
    settings(r, b);
    jpt_buf_addz(b, "</div></section>");
    jpt_buf_addz(b, script);
}
