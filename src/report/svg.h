/* SVG by hand: scales, axes, escaped text, and the charts of the HTML page. */
#ifndef JPT_REPORT_SVG_H
#define JPT_REPORT_SVG_H

#include "data.h"

/* A value to a pixel.  Ticks are 1, 2 or 5 times a power of ten. */
typedef struct scale {
    double low, high, from, to; /* values; pixels */
    bool   log;
    double ticks[24];
    int    n_ticks;
} scale;

/* low..high widened a little; within [floor_at, ceil_at]; about n ticks.  log: only where low > 0 and high / low > 3. */
scale  report_scale(double low, double high, double floor_at, double ceil_at, bool log, double from, double to, int n);
double report_at(const scale *s, double v);

void report_escape(jpt_buf *b, const char *z); /* NULL: a dash */
int  report_colour(const report *r, const char *strategy); /* its place among the report's strategies */
void report_mark(jpt_buf *b, int colour, double x, double y, double size, const char *attributes); /* its shape */

void report_chart_front(const report *r, const panel *p, int per_request, jpt_buf *b);
void report_chart_latency(const report *r, const panel *p, jpt_buf *b);
void report_chart_curves(const report *r, const panel *p, jpt_buf *b);
void report_chart_power(const report *r, jpt_buf *b);
void report_chart_drift(const report *r, jpt_buf *b);

enum { N_COLOURS = 12 };

extern const char report_page_css[], report_page_js[];

#endif
