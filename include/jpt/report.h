/* Reports from a results file alone: one self-contained HTML page, Markdown, LaTeX, CSV, JSON; and paired
 * comparisons of strategies.  Knows no engine and no meter.
 *
 * Intervals are 95 %, of a bootstrap crossed over items and blocks with a fixed seed (src/report/boot.c): the same store gives the
 * same bytes. */
#ifndef JPT_REPORT_H
#define JPT_REPORT_H

#include <jpt/store.h>

enum { JPT_REPORT_HTML = 1, JPT_REPORT_MD = 2, JPT_REPORT_CSV = 4, JPT_REPORT_LATEX = 8, JPT_REPORT_JSON = 16 };

/* Write report.html, report.md, report.tex, report.csv with requests.csv, results.json into out_dir (made when missing) as
 * `formats` asks.  *paths (may be NULL) gets their paths, one a line; release with jpt_buf_fini.
 * Errors: JPT_NOT_FOUND (no finished request yet), JPT_IO, JPT_NOMEM. */
jpt_status jpt_report_write(jpt_store *s, const char *out_dir, unsigned formats, jpt_buf *paths, jpt_error *err);

/* Append to *out, in words and per task, the paired difference of each of specs[0..n-1) minus specs[n-1] (n = 1: of every other
 * setting) in the primary metric, J/token and J/request over shared items, with a verdict: lower, higher, not separable, or
 * equivalent within margin (a share of the latter's value); and the price, joules a point of quality, where both differ.  Several
 * comparisons in a task are judged by Holm's adjusted p values.  specs are canonical texts.  JPT_NOT_FOUND names a spec that the
 * store lacks; JPT_ARG: n = 0. */
jpt_status jpt_report_compare(jpt_store *s, const char *const *specs, size_t n, double margin, jpt_buf *out, jpt_error *err);

/* Append to *out, per task, the cheapest setting whose quality (mean over items) is at least min_quality (0..1] of the best one's, or
 * of the setting `of`, with the share of bootstrap resamples in which that holds.  JPT_NOT_FOUND names what is
 * missing. */
typedef struct jpt_advise_options {
    const char *task; /* NULL: all */
    const char *of;   /* canonical SPEC; NULL: the best */
    double      min_quality;
    bool        per_token; /* joules a token instead of a request */
} jpt_advise_options;
jpt_status jpt_report_advise(jpt_store *s, const jpt_advise_options *o, jpt_buf *out, jpt_error *err);

/* Check the rows against each other and the report's figures against the rows; append one line a rule, and up to three a failure;
 * last a SHA-256 of all rows of all tables, which must be `expected` (NULL: any).  *n_failed: failures over all rules. */
jpt_status jpt_report_audit(jpt_store *s, const char *expected, jpt_buf *out, int *n_failed, jpt_error *err);

/* Write runs.csv (a row a metered window; a request where it is its own), requests.jsonl, power.csv and results.json into out_dir,
 * made when missing; columns in docs/formats.md.  *paths as above.  Errors: JPT_NOT_FOUND (no finished request), JPT_IO, JPT_NOMEM. */
jpt_status jpt_report_export(jpt_store *s, const char *out_dir, jpt_buf *paths, jpt_error *err);

#endif
