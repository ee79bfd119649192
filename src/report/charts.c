/* Scatter charts: the quality-energy frontier, latency against energy. */
#include "svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 560, H = 420, LEFT = 58, RIGHT = 16, TOP = 34, BOTTOM = 54, N_PLACES = 16, FEW = 12 };

typedef struct point {
    const cell *c;
    estimate    x, y;
    double      px, py;
    bool        named;
    double      lx, ly, lw; /* label: left end of its base line, width */
    const char *anchor;
} point;

typedef struct scatter {
    const report *r;
    const panel  *p;
    point        *v;
    int           n;
    scale         x, y;
} scatter;

static const char *quality_direction(const panel *p) { return p->task->higher_is_better != 0 ? "more is better" : "less is better"; }

/* An interval of few blocks may be very wide: the axis keeps to what the estimates span, and some room. */
static void bound(double least, double most, double *low, double *high) {
    if (least > 0) {
        double room = fmax(2, most / least);
        *low = fmax(*low, least / room), *high = fmin(*high, most * room);
    }
}
static double within(double v, double a, double b) { return fmax(fmin(a, b), fmin(fmax(a, b), v)); }
static double inside(const scale *s, double v) { return within(report_at(s, v), s->from, s->to); }

static bool scatter_init(scatter *s, const report *r, const panel *p, figure fx, figure fy, bool log_y) {
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY, least[2] = {INFINITY, INFINITY}, most[2] = {-INFINITY, -INFINITY};
    *s = (scatter){.r = r, .p = p, .v = calloc((size_t)p->n_cells + 1, sizeof(point))};
    for (int i = 0; s->v && i < p->n_cells; i++) {
        const cell    *c = p->cells[i];
        const estimate x = c->fig[fx], y = c->fig[fy];
        if (!isfinite(x.mean) || !isfinite(y.mean))
            continue;
        s->v[s->n++] = (point){.c = c, .x = x, .y = y};
        x0 = fmin(x0, fmin(x.mean, x.low)), x1 = fmax(x1, fmax(x.mean, x.high));
        y0 = fmin(y0, fmin(y.mean, y.low)), y1 = fmax(y1, fmax(y.mean, y.high));
        least[0] = fmin(least[0], x.mean), most[0] = fmax(most[0], x.mean), least[1] = fmin(least[1], y.mean), most[1] = fmax(most[1], y.mean);
    }
    if (s->n == 0)
        return false;
    bound(least[0], most[0], &x0, &x1);
    if (fy != QUALITY)
        bound(least[1], most[1], &y0, &y1);
    bool share = fy == QUALITY && y0 >= 0 && y1 <= 1; /* stays within 0 and 1; nothing positive gets a negative axis */
    s->x = report_scale(x0, x1, x0 >= 0 ? 0 : -INFINITY, INFINITY, true, LEFT, W - RIGHT, 6);
    s->y = report_scale(y0, y1, y0 >= 0 ? (share ? -.03 : 0) : -INFINITY, share ? 1.03 : INFINITY, log_y, H - BOTTOM, TOP, 6);
    for (int i = 0; i < s->n; i++)
        s->v[i].px = report_at(&s->x, s->v[i].x.mean), s->v[i].py = report_at(&s->y, s->v[i].y.mean);
    return true;
}

static void frame(const scatter *s, const char *x_title, const char *y_title, jpt_buf *b) {
    for (int i = 0; i < s->y.n_ticks; i++) {
        double y = report_at(&s->y, s->y.ticks[i]);
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>", LEFT, y, W - RIGHT, LEFT - 7, y + 4, s->y.ticks[i]);
    }
    for (int i = 0; i < s->x.n_ticks; i++) {
        double x = report_at(&s->x, s->x.ticks[i]);
        jpt_buf_printf(b, "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>", x, TOP, H - BOTTOM, x, H - BOTTOM + 19, s->x.ticks[i]);
    }
    jpt_buf_printf(b, "<text class=\"axis\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s%s</text><text class=\"axis\" x=\"6\" y=\"18\">", (W + LEFT) / 2, H - 10, x_title, s->x.log ? ", log scale" : "");
    report_escape(b, y_title);
    jpt_buf_addz(b, "</text>");
}

static double overlap(double a0, double a1, double b0, double b1) { return fmax(0, fmin(a1, b1) - fmax(a0, b0)); }

/* Names go beside their points: of these places the one that covers least of names and points. */
static void place_names(scatter *s) {
    for (int i = 0; i < s->n; i++) {
        point *p = &s->v[i];
        if (!p->named)
            continue;
        double best = INFINITY;
        p->lw = 7.5 * (double)strlen(p->c->short_label) + 4;
        for (int k = 0; k < N_PLACES; k++) {
            static const double dx[N_PLACES] = {9, 9, 9, -9, -9, -9, 0, 0, 0, 0, 14, -14, 0, 0, 14, -14}, dy[N_PLACES] = {-7, 4, 16, -7, 4, 16, -12, 21, -30, 38, -30, -30, -48, 56, 44, 44};
            double              x = p->px + dx[k] - (dx[k] < 0 ? p->lw : dx[k] > 0 ? 0 : p->lw / 2), y = p->py + dy[k], cost = k * 2;
            if (x < LEFT || x + p->lw > W - 2 || y < TOP + 8 || y > H - BOTTOM - 2)
                cost += 400;
            for (int j = 0; j < s->n; j++) {
                const point *o = &s->v[j];
                cost += .5 * overlap(x, x + p->lw, o->px - 6, o->px + 6) * overlap(y - 11, y + 3, o->py - 6, o->py + 6);
                if (j < i && o->named)
                    cost += overlap(x, x + p->lw, o->lx, o->lx + o->lw) * overlap(y - 11, y + 3, o->ly - 11, o->ly + 3);
            }
            if (cost < best)
                best = cost, p->lx = x, p->ly = y;
        }
    }
}

/* The 95 % region of quality and joules together, of a normal distribution with the replicates' covariance. */
static void ellipse(const scatter *s, const point *p, int per, jpt_buf *b) {
    double sx = p->c->sd[per], sy = p->c->sd_quality, cov = p->c->cov[per];
    if (!isfinite(sx) || !isfinite(sy) || (sx == 0 && sy == 0))
        return;
    double e = fmax(1e-6, 1e-3 * sx), gx = (report_at(&s->x, p->x.mean + e) - p->px) / e, gy = (report_at(&s->y, p->y.mean + 1e-3 * fmax(sy, 1e-9)) - p->py) / (1e-3 * fmax(sy, 1e-9));
    double vx = sx * sx * gx * gx, vy = sy * sy * gy * gy, c = cov * gx * gy;
    double mid = (vx + vy) / 2, half = hypot((vx - vy) / 2, c), r1 = sqrt(5.991 * (mid + half)), r2 = sqrt(5.991 * fmax(0, mid - half));
    double angle = half > 0 ? .5 * atan2(2 * c, vx - vy) * 180 / 3.14159265358979 : 0;
    jpt_buf_printf(b, "<ellipse class=\"both\" cx=\"%.1f\" cy=\"%.1f\" rx=\"%.1f\" ry=\"%.1f\" transform=\"rotate(%.1f %.1f %.1f)\"/>", p->px, p->py, fmax(r1, 1), fmax(r2, 1), angle,
                   p->px, p->py);
}

static void tip(const point *p, const char *x_unit, const char *what, int per, jpt_buf *b) {
    report_escape(b, p->c->label);
    jpt_buf_addz(b, ": ");
    report_escape(b, what);
    jpt_buf_printf(b, " %.4g", p->y.mean);
    if (isfinite(p->y.low))
        jpt_buf_printf(b, " [%.3g, %.3g]", p->y.low, p->y.high);
    jpt_buf_printf(b, ", %.4g %s", p->x.mean, x_unit);
    if (isfinite(p->x.low))
        jpt_buf_printf(b, " [%.3g, %.3g]", p->x.low, p->x.high);
    if (per >= 0 && isfinite(p->c->p_front[per]))
        jpt_buf_printf(b, "; on the front in %.0f %% of resamples", 100 * p->c->p_front[per]);
}

static int by_x(const void *a, const void *b) {
    double x = ((const point *)a)->x.mean, y = ((const point *)b)->x.mean;
    return (x > y) - (x < y);
}

static void draw_front(const scatter *s, int per, jpt_buf *b) {
    bool   begun = false, higher = s->p->task->higher_is_better != 0;
    double last = 0;
    jpt_buf_printf(b, "<path class=\"front\" data-front=\"%d %d %d %d\" d=\"", higher, H - BOTTOM, TOP, W - RIGHT);
    for (int i = 0; i < s->n; i++) {
        if (!s->v[i].c->front[per])
            continue;
        jpt_buf_printf(b, begun ? "H%.1f" : "M%.1f ", s->v[i].px);
        if (!begun)
            jpt_buf_printf(b, "%d", higher ? H - BOTTOM : TOP);
        jpt_buf_printf(b, "V%.1f", s->v[i].py);
        begun = true, last = s->v[i].py;
    }
    if (begun)
        jpt_buf_printf(b, "V%.1fH%d", last, W - RIGHT);
    jpt_buf_addz(b, "\"/>");
}

/* Names for a handful: all where there are few, else the reference and those most surely on the front. */
static void choose_names(scatter *s, int per) {
    int named = 0;
    for (int i = 0; i < s->n; i++) {
        const cell *c = s->v[i].c;
        s->v[i].named = s->n <= 9 || report_reference(s->p, c) == c;
        named += s->v[i].named;
    }
    for (double bar = .9; named < 8 && bar > .15; bar -= .15)
        for (int i = 0; i < s->n && named < 8; i++)
            if (!s->v[i].named && per >= 0 && s->v[i].c->front[per] && !(s->v[i].c->p_front[per] < bar))
                s->v[i].named = true, named++;
}

static void names(const scatter *s, jpt_buf *b) {
    for (int i = 0; i < s->n; i++)
        if (s->v[i].named) {
            const point *p = &s->v[i];
            jpt_buf_printf(b, "<text class=\"name\" data-c=\"%lld\" x=\"%.1f\" y=\"%.1f\">", (long long)p->c->row.id, p->lx, p->ly);
            report_escape(b, p->c->short_label);
            jpt_buf_addz(b, "</text>");
        }
}

static void open_svg(jpt_buf *b, const char *what, const panel *p) {
    jpt_buf_printf(b, "<svg class=\"points\" viewBox=\"0 0 %d %d\" role=\"img\" tabindex=\"0\" aria-label=\"", W, H);
    report_escape(b, p->title);
    jpt_buf_printf(b, ": %s; arrow keys go from point to point; the table below has the same numbers\">", what);
}

void report_chart_front(const report *r, const panel *p, int per, jpt_buf *b) {
    scatter s;
    jpt_buf what = {0};
    bool    ok = scatter_init(&s, r, p, per ? J_REQUEST : J_TOKEN, QUALITY, false);
    jpt_buf_printf(b, "<figure class=\"per-%s\"><figcaption>Quality against energy</figcaption>", per ? "request" : "token");
    if (!ok) {
        jpt_buf_addz(b, "<p class=\"none\">Not measured: no setting has both a score and valid energy.</p></figure>");
        free(s.v);
        return;
    }
    qsort(s.v, (size_t)s.n, sizeof *s.v, by_x);
    choose_names(&s, per);
    place_names(&s);
    jpt_buf_printf(&what, "%s (%s)", report_metric(p->task), quality_direction(p));
    open_svg(b, per ? "quality against joules a request, with the Pareto front" : "quality against joules a token, with the Pareto front", p);
    char title[120];
    snprintf(title, sizeof title, "J a %s, gross%s", per ? "request" : "kept token", p->modelled ? " (modelled, not measured)" : "");
    frame(&s, title, what.p ? what.p : "", b);
    draw_front(&s, per, b);
    for (int i = 0; i < s.n; i++) {
        const point *at = &s.v[i];
        int          colour = report_colour(r, at->c->strategy);
        double       solid = isfinite(at->c->p_front[per]) ? at->c->p_front[per] : at->c->front[per];
        char         attributes[96];
        bool         calm = s.n > FEW && !at->named; /* its region shows when it is looked at */
        jpt_buf_printf(b, "<g data-c=\"%lld\" data-x=\"%.1f\" data-y=\"%.1f\" class=\"pt s%d%s\"><title>", (long long)at->c->row.id, at->px, at->py, colour % N_COLOURS, calm ? " calm" : "");
        tip(at, per ? "J a request" : "J a token", report_metric(p->task), per, b);
        jpt_buf_addz(b, "</title>");
        ellipse(&s, at, per, b);
        if (isfinite(at->x.low) && isfinite(at->y.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fH%.1fM%.1f %.1fV%.1f\"/>", inside(&s.x, at->x.low), at->py, inside(&s.x, at->x.high), at->px, inside(&s.y, at->y.low),
                           inside(&s.y, at->y.high));
        snprintf(attributes, sizeof attributes, "class=\"mark\" fill-opacity=\"%.2f\"", .08 + .92 * solid);
        report_mark(b, colour, at->px, at->py, 5, attributes);
        jpt_buf_addz(b, "</g>");
    }
    names(&s, b);
    jpt_buf_addz(b, "</svg></figure>");
    b->oom = b->oom || what.oom;
    jpt_buf_fini(&what);
    free(s.v);
}

/* Joules over seconds; dashed lines are equal mean power. */
void report_chart_latency(const report *r, const panel *p, jpt_buf *b) {
    scatter s;
    bool    ok = scatter_init(&s, r, p, LATENCY, J_REQUEST, true);
    jpt_buf_addz(b, "<figure><figcaption>Energy against latency</figcaption>");
    if (!ok) {
        jpt_buf_addz(b, "<p class=\"none\">Not measured: no setting has both a duration and valid energy.</p></figure>");
        free(s.v);
        return;
    }
    qsort(s.v, (size_t)s.n, sizeof *s.v, by_x);
    choose_names(&s, -1);
    place_names(&s);
    open_svg(b, "joules a request against seconds a request", p);
    char title[96];
    snprintf(title, sizeof title, "J a request, gross%s", p->modelled ? " (modelled, not measured)" : "");
    frame(&s, "seconds a request", title, b);
    double w0 = INFINITY, w1 = 0;
    for (int i = 0; i < s.n; i++)
        w0 = fmin(w0, s.v[i].y.mean / s.v[i].x.mean), w1 = fmax(w1, s.v[i].y.mean / s.v[i].x.mean);
    jpt_buf_printf(b, "<clipPath id=\"clip%lld-%lld\"><path d=\"M%d %dH%dV%dH%dz\"/></clipPath>", (long long)p->task->id, (long long)p->meter->id, LEFT, TOP, W - RIGHT, H - BOTTOM, LEFT);
    scale  w = report_scale(w0, w1, 0, INFINITY, true, 0, 1, 3);
    double told = -100; /* height of the last label */
    for (int i = 0; i < w.n_ticks; i++) {
        jpt_buf_printf(b, "<path class=\"iso\" clip-path=\"url(#clip%lld-%lld)\" d=\"", (long long)p->task->id, (long long)p->meter->id);
        double tx = NAN, ty = NAN;
        for (int k = 0; k <= 24; k++) {
            double x = s.x.log ? s.x.low * pow(s.x.high / s.x.low, k / 24.0) : s.x.low + (s.x.high - s.x.low) * k / 24, px = report_at(&s.x, x), py = report_at(&s.y, fmax(w.ticks[i] * x, 1e-12));
            jpt_buf_printf(b, "%c%.1f %.1f", k ? 'L' : 'M', px, fmax(-2000, fmin(3000, py)));
            if (py > TOP + 14 && py < H - BOTTOM && px < W - RIGHT - 4)
                tx = px, ty = py;
        }
        jpt_buf_addz(b, "\"/>");
        if (isfinite(tx) && fabs(ty - told) > 15)
            told = ty, jpt_buf_printf(b, "<text class=\"iso\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g W</text>", tx, ty - 5, w.ticks[i]);
    }
    for (int i = 0; i < s.n; i++) {
        const point *at = &s.v[i];
        int          colour = report_colour(r, at->c->strategy);
        jpt_buf_printf(b, "<g data-c=\"%lld\" data-x=\"%.1f\" data-y=\"%.1f\" class=\"pt s%d%s\"><title>", (long long)at->c->row.id, at->px, at->py, colour % N_COLOURS,
                       s.n > FEW && !at->named ? " calm" : "");
        tip(at, "s", "J a request", -1, b);
        jpt_buf_addz(b, "</title>");
        if (isfinite(at->x.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fH%.1f\"/>", inside(&s.x, at->x.low), at->py, inside(&s.x, at->x.high));
        if (isfinite(at->y.low))
            jpt_buf_printf(b, "<path class=\"bar\" d=\"M%.1f %.1fV%.1f\"/>", at->px, inside(&s.y, fmax(at->y.low, 1e-12)), inside(&s.y, at->y.high));
        report_mark(b, colour, at->px, at->py, 5, "class=\"mark\" fill-opacity=\".55\"");
        jpt_buf_addz(b, "</g>");
    }
    names(&s, b);
    jpt_buf_addz(b, "</svg></figure>");
    free(s.v);
}
