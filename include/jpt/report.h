/* Reports from a results file alone: one self-contained HTML page, Markdown, CSV; and the paired
 * comparison of two strategies.  Knows no engine and no meter. */
#ifndef JPT_REPORT_H
#define JPT_REPORT_H

#include <jpt/store.h>

enum { JPT_REPORT_HTML = 1, JPT_REPORT_MD = 2, JPT_REPORT_CSV = 4 };

/* Write report.html, report.md, report.csv with requests.csv into out_dir (made when
 * missing) as `formats` asks.  *paths (may be NULL) gets their paths, one a line; release with
 * jpt_buf_fini.  Intervals are 95 % bootstrap percentiles over items, fixed seed: the same store gives
 * the same bytes.  Errors: JPT_NOT_FOUND (no finished request yet), JPT_IO, JPT_NOMEM. */
jpt_status jpt_report_write(jpt_store *s, const char *out_dir, unsigned formats, jpt_buf *paths, jpt_error *err);

/* Append to *out, in words and per task, the paired difference a - b of the primary metric, J/token and
 * J/request over shared items, with a verdict: lower, higher, not separable, or equivalent within margin (a share of b's value); and
 * the price, joules a point of quality, where both differ.  JPT_NOT_FOUND names a spec that the store lacks. */
jpt_status jpt_report_compare(jpt_store *s, const char *spec_a, const char *spec_b, double margin, jpt_buf *out, jpt_error *err);

/* Append to *out, per task, the cheapest setting whose quality (mean over items) is at least min_quality (0..1] of the best one's, or
 * of the setting `of`, with the share of bootstrap resamples over items in which that holds.  JPT_NOT_FOUND names what is
 * missing. */
typedef struct jpt_advise_options {
    const char *task; /* NULL: all */
    const char *of;   /* canonical SPEC; NULL: the best */
    double      min_quality;
    bool        per_token; /* joules a token instead of a request */
} jpt_advise_options;
jpt_status jpt_report_advise(jpt_store *s, const jpt_advise_options *o, jpt_buf *out, jpt_error *err);

/* Check the rows against each other and the report's figures against the rows; append one line a rule, and up to three a failure.
 * *n_failed: failures over all rules. */
jpt_status jpt_report_audit(jpt_store *s, jpt_buf *out, int *n_failed, jpt_error *err);

#endif
