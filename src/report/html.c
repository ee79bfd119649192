/* The HTML page: one file, no network, drawn by this code; every text is escaped. */
#include "data.h"
#include <math.h>
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
    "content=\"width=device-width,initial-scale=1\"><title>jpt report</title><style>"
    ":root{color-scheme:light dark;--bg:#fcfcfa;--fg:#1d2126;--dim:#5c6570;--line:#d9dce0;--a:#0b62a4;--w:#8a4b00}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e8eaed;--dim:#a0a8b2;--line:#363c43;--a:#6cb6f0;--w:#f0b46c}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1120px;padding:24px 16px 64px;background:var(--bg);color:var(--fg);"
    "font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h2{margin-top:40px;border-top:1px solid var(--line);padding-top:20px}"
    ".warn{border-left:4px solid var(--w);padding:6px 12px;color:var(--w);font-weight:600}.box{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "td,th{padding:6px 12px;border-bottom:1px solid var(--line);text-align:right}td:first-child,th:first-child{text-align:left}"
    "th button{font:inherit;font-weight:600;color:inherit;background:none;border:0;padding:0;cursor:pointer}"
    "th[aria-sort=ascending] button:after{content:' \\2191'}th[aria-sort=descending] button:after{content:' \\2193'}"
    ".charts,.texts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:20px}"
    "svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--fg)}.axis{stroke:var(--line)}.bar{stroke:var(--a);opacity:.45}"
    ".pt{fill:var(--bg);stroke:var(--a);stroke-width:2}.on{fill:var(--a)}.front{fill:none;stroke:var(--a);stroke-dasharray:4 4}"
    "pre{white-space:pre-wrap;border:1px solid var(--line);padding:10px;margin:4px 0;max-height:320px;overflow:auto;font-size:13px}"
    "dt{color:var(--dim)}dd{margin:0 0 8px}@media print{pre{max-height:none}}</style></head><body><h1>Joules per token</h1>";

static const char script[] =
    "<script>document.querySelectorAll('th button').forEach(function(x){x.onclick=function(){var h=x.parentNode,t=h.closest('table'),"
    "u=h.getAttribute('aria-sort')!=='ascending',i=h.cellIndex,o=t.tBodies[0];t.querySelectorAll('th').forEach(function(e){"
    "e.removeAttribute('aria-sort')});h.setAttribute('aria-sort',u?'ascending':'descending');Array.from(o.rows).sort(function(a,b){"
    "var p=a.cells[i].dataset.v,q=b.cells[i].dataset.v;if(p===''||q==='')return(p==='')-(q==='');var d=p-q;"
    "if(isNaN(d))d=p<q?-1:p>q?1:0;return u?d:-d}).forEach(function(e){o.appendChild(e)})}});"
    "document.querySelectorAll('select').forEach(function(s){s.onchange=function(){s.closest('section').querySelectorAll('[data-item]')"
    ".forEach(function(e){e.hidden=e.dataset.item!==s.value})};s.onchange()})</script></body></html>\n";

enum { W = 520, H = 360, LEFT = 60, RIGHT = 20, TOP = 20, BOTTOM = 50 };

static void chart(const report *r, const jpt_task_row *t, bool per_request, jpt_buf *b) {
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    int    n = 0;
    for (int i = 0; i < r->n_cells; i++) {
        const cell    *c = &r->cells[i];
        const estimate x = per_request ? c->j_request : c->j_token, y = c->quality;
        if (c->row.task != t->id || !isfinite(x.mean) || !isfinite(y.mean))
            continue;
        x0 = fmin(x0, fmin(x.mean, x.low)), x1 = fmax(x1, fmax(x.mean, x.high));
        y0 = fmin(y0, fmin(y.mean, y.low)), y1 = fmax(y1, fmax(y.mean, y.high));
        n++;
    }
    if (n == 0) {
        jpt_buf_addz(b, "<p>No point has both a score and valid energy.</p>");
        return;
    }
    double px = x1 > x0 ? (x1 - x0) * .08 : fabs(x0) * .1 + 1e-9, py = y1 > y0 ? (y1 - y0) * .08 : fabs(y0) * .1 + .01;
    x0 -= px, x1 += px, y0 -= py, y1 += py;
#define X(v) (LEFT + ((v)-x0) / (x1 - x0) * (W - LEFT - RIGHT))
#define Y(v) (H - BOTTOM - ((v)-y0) / (y1 - y0) * (H - TOP - BOTTOM))
    jpt_buf_printf(b, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"quality against joules\">", W, H);
    for (int k = 0; k <= 4; k++) {
        double x = x0 + (x1 - x0) * k / 4, y = y0 + (y1 - y0) * k / 4;
        jpt_buf_printf(b, "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>"
                          "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.3g</text>",
                       LEFT, Y(y), W - RIGHT, LEFT - 6, Y(y) + 4, y, X(x), H - BOTTOM + 18, x);
    }
    double last_y[64];
    int    drawn = 0;
    for (int i = 0; i < r->n_cells; i++) {
        const cell    *c = &r->cells[i];
        const estimate x = per_request ? c->j_request : c->j_token, y = c->quality;
        if (c->row.task != t->id || !isfinite(x.mean) || !isfinite(y.mean))
            continue;
        bool right = X(x.mean) > W * .6;
        /* A label moves down until no earlier label is on its line. */
        double ly = Y(y.mean) - 7;
        for (int k = 0; k < drawn; k++)
            if (fabs(last_y[k] - ly) < 13)
                ly = last_y[k] + 13, k = -1;
        if (drawn < 64)
            last_y[drawn++] = ly;
        if (isfinite(x.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fH%.1f\"/>", X(x.low), Y(y.mean), X(x.high));
        if (isfinite(y.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fV%.1f\"/>", X(x.mean), Y(y.low), Y(y.high));
        jpt_buf_printf(b, "<circle class=\"pt%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>",
                       (per_request ? c->front_request : c->front_token) ? " on" : "", X(x.mean), Y(y.mean));
        esc(b, c->row.spec);
        jpt_buf_printf(b, ": %.4g at %.4g J</title></circle><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", y.mean, x.mean,
                       X(x.mean) + (right ? -8 : 8), ly, right ? "end" : "start");
        esc(b, c->row.spec);
        jpt_buf_addz(b, "</text>");
    }
    jpt_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">J/%s, gross%s</text><text x=\"4\" y=\"12\">", W / 2, H - 8,
                   per_request ? "request" : "token", r->modelled ? " (modelled, not measured)" : "");
    esc(b, t->primary_metric);
    jpt_buf_addz(b, "</text></svg>");
}

static void number(jpt_buf *b, estimate e) {
    if (!isfinite(e.mean))
        jpt_buf_addz(b, "<td data-v=\"\">–</td>");
    else if (!isfinite(e.low))
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g</td>", e.mean, e.mean);
    else
        jpt_buf_printf(b, "<td data-v=\"%.9g\">%.4g [%.3g, %.3g]</td>", e.mean, e.mean, e.low, e.high);
}

static void rows(const report *r, const jpt_task_row *t, jpt_buf *b) {
    static const char *const names[] = {"strategy", "model", "quality", "J/token gross", "J/token net", "J/request gross",
                                        "J/request net", "items", "failed", "energy left out", "source"};
    jpt_buf_addz(b, "<div class=\"box\" tabindex=\"0\"><table><thead><tr>");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        jpt_buf_printf(b, "<th scope=\"col\"><button>%s</button></th>", names[i]);
    jpt_buf_addz(b, "</tr></thead><tbody>");
    for (int i = 0; i < r->n_cells; i++) {
        const cell *c = &r->cells[i];
        if (c->row.task != t->id)
            continue;
        const char *text[] = {c->row.spec, report_model(r, c->row.model)->name};
        jpt_buf_addz(b, "<tr>");
        for (int k = 0; k < 2; k++) {
            jpt_buf_addz(b, "<td data-v=\"");
            esc(b, text[k]);
            jpt_buf_addz(b, "\">");
            esc(b, text[k]);
            jpt_buf_addz(b, "</td>");
        }
        number(b, c->quality);
        number(b, c->j_token);
        number(b, c->net_j_token);
        number(b, c->j_request);
        number(b, c->net_j_request);
        jpt_buf_printf(b, "<td data-v=\"%d\">%d</td><td data-v=\"%d\">%d</td><td data-v=\"%d\">%d</td><td data-v=\"", c->n_items,
                       c->n_items, c->n_failed, c->n_failed, c->n_invalid, c->n_invalid);
        const char *source = c->modelled ? "modelled, not measured" : c->energy_source;
        esc(b, source);
        jpt_buf_addz(b, "\">");
        esc(b, source);
        jpt_buf_addz(b, "</td></tr>");
    }
    jpt_buf_addz(b, "</tbody></table></div>");
}

static void texts(const report *r, const jpt_task_row *t, jpt_buf *b) {
    const cell *first = NULL;
    for (int i = 0; i < r->n_cells && first == NULL; i++)
        if (r->cells[i].row.task == t->id)
            first = &r->cells[i];
    if (first == NULL)
        return;
    jpt_buf_addz(b, "<h3>Texts side by side</h3><label>item <select>");
    for (int k = 0; k < first->n_items; k++)
        jpt_buf_printf(b, "<option>%lld</option>", (long long)first->items[k].index);
    jpt_buf_addz(b, "</select></label><div class=\"texts\">");
    for (int i = 0; i < r->n_cells; i++)
        for (int k = 0; r->cells[i].row.task == t->id && k < r->cells[i].n_items; k++) {
            jpt_buf_printf(b, "<div data-item=\"%lld\"><b>", (long long)r->cells[i].items[k].index);
            esc(b, r->cells[i].row.spec);
            jpt_buf_addz(b, "</b><pre>");
            esc(b, r->cells[i].items[k].text);
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
        jpt_buf_addz(b, "<h3>" #name "</h3><dl>");                                                            \
        MAP(SHOW)                                                                                             \
        jpt_buf_addz(b, "</dl>");                                                                             \
    }

void report_html(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, head);
    if (r->modelled)
        jpt_buf_addz(b, "<p class=\"warn\">Energy here is modelled, not measured.</p>");
    for (int i = 0; i < r->n_tasks; i++) {
        const jpt_task_row *t = &r->tasks[i];
        jpt_buf words = {0};
        jpt_buf_addz(b, "<section><h2>");
        esc(b, t->name);
        jpt_buf_addz(b, "</h2><p>");
        report_verdict(r, t->id, &words);
        esc(b, words.p);
        b->oom = b->oom || words.oom;
        jpt_buf_fini(&words);
        jpt_buf_addz(b, "</p><div class=\"charts\">");
        chart(r, t, false, b);
        chart(r, t, true, b);
        jpt_buf_addz(b, "</div><p>Filled points are on the Pareto front; bars are 95 % bootstrap intervals over items.</p>");
        rows(r, t, b);
        texts(r, t, b);
        jpt_buf_addz(b, "</section>");
    }
    jpt_buf_addz(b, "<section><h2>Method</h2><p>J/token is joules a kept output token. Net is gross less idle. – is absent.</p>");
    SHOW_ALL(meter, meters, JPT_METER_MAP)
    SHOW_ALL(model, models, JPT_MODEL_MAP)
    SHOW_ALL(study, studies, JPT_STUDY_MAP)
    jpt_buf_addz(b, "</section>");
    jpt_buf_addz(b, script);
}
