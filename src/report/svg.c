/* Scales, escaping and marks. */
#include "svg.h"
#include <math.h>
#include <string.h>

void report_escape(jpt_buf *b, const char *z) {
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

static void linear_ticks(scale *s, int n) {
    double raw = (s->high - s->low) / n, base = pow(10, floor(log10(raw))), f = raw / base;
    double step = base * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
    for (double v = ceil(s->low / step - 1e-9) * step; v <= s->high + step * 1e-9 && s->n_ticks < 24; v += step)
        s->ticks[s->n_ticks++] = fabs(v) < step / 2 ? 0 : v;
}

static void log_ticks(scale *s, int n) {
    static const double within[] = {1, 2, 5};
    for (int every = 3; every >= 1 && s->n_ticks == 0; every -= 2) { /* 1, 2, 5; powers alone where that is too many */
        double decades = log10(s->high / s->low);
        if (every == 3 && decades * 3 > n + 2)
            continue;
        for (double d = floor(log10(s->low)); d <= log10(s->high); d++)
            for (int k = 0; k < every; k++) {
                double v = within[k] * pow(10, d);
                if (v >= s->low * (1 - 1e-9) && v <= s->high * (1 + 1e-9) && s->n_ticks < 24)
                    s->ticks[s->n_ticks++] = v;
            }
    }
}

scale report_scale(double low, double high, double floor_at, double ceil_at, bool as_log, double from, double to, int n) {
    scale s = {.from = from, .to = to, .log = as_log && low > 0 && high / low > 3};
    if (s.log) {
        double pad = pow(high / low, .06);
        s.low = low / pad, s.high = high * pad;
        log_ticks(&s, n);
        return s;
    }
    double pad = high > low ? (high - low) * .07 : fabs(low) * .1 + 1e-9;
    s.low = fmax(low - pad, floor_at), s.high = fmin(high + pad, ceil_at);
    if (!(s.high > s.low))
        s.low = low - pad, s.high = high + pad;
    linear_ticks(&s, n);
    return s;
}

double report_at(const scale *s, double v) {
    double share = s->log ? log(fmax(v, s->low * 1e-3) / s->low) / log(s->high / s->low) : (v - s->low) / (s->high - s->low);
    return s->from + share * (s->to - s->from);
}

int report_colour(const report *r, const char *strategy) {
    int place = 0;
    for (int i = 0; i < r->n_cells; i++) { /* in order of first appearance */
        bool first = r->cells[i].n_requests > 0;
        for (int k = 0; k < i && first; k++)
            first = !(r->cells[k].n_requests && strcmp(r->cells[k].strategy, r->cells[i].strategy) == 0);
        if (r->cells[i].n_requests && strcmp(r->cells[i].strategy, strategy) == 0)
            return place;
        place += first;
    }
    return place;
}

void report_mark(jpt_buf *b, int colour, double x, double y, double size, const char *attributes) {
    double s = size;
    switch (colour % 5) { /* shape and colour together: neither alone has to tell 13 strategies apart */
    case 0: jpt_buf_printf(b, "<circle %s cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", attributes, x, y, s); break;
    case 1: jpt_buf_printf(b, "<rect %s x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", attributes, x - s * .88, y - s * .88, s * 1.76, s * 1.76); break;
    case 2: jpt_buf_printf(b, "<path %s d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", attributes, x, y - s * 1.2, s * 1.2, s * 2.1, -s * 2.4); break;
    case 3: jpt_buf_printf(b, "<path %s d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"/>", attributes, x, y - s * 1.3, s * 1.3, s * 1.3, -s * 1.3, s * 1.3, -s * 1.3, -s * 1.3); break;
    default: jpt_buf_printf(b, "<path %s d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"/>", attributes, x, y + s * 1.2, s * 1.2, -s * 2.1, -s * 2.4); break;
    }
}
