/* What every report format reads: cells with their per-item sums and intervals. */
#ifndef JPT_REPORT_DATA_H
#define JPT_REPORT_DATA_H

#include <jpt/report.h>

typedef struct estimate { double mean, low, high; int n; } estimate; /* NAN when absent */

/* Sums over the blocks and seeds of one item. */
typedef struct item {
    int64_t     index;
    double      score, energy_j, net_j, energy_tokens, net_tokens; /* tokens of the requests with that energy */
    int         n_scores, n_energy, n_net;
    const char *text; /* of the first request */
} item;

typedef struct cell {
    jpt_cell_row  row;
    const char   *label; /* the spec, and what tells this cell from others of the same spec in its panel */
    item         *items;
    int           n_items, cap;
    int           n_requests, n_failed, n_invalid; /* invalid: metered but not valid, left out of J */
    double        tokens, seconds;
    double        computed, discarded, drafted; /* positions put through the model; thrown away; by a draft */
    int           n_tokens, n_seconds;
    bool          modelled, corpus; /* corpus: quality is of the corpus (BLEU, chrF), not a mean over items */
    bool          partial;          /* a corpus metric whose value is not of all requests: left out */
    const char   *energy_source;
    estimate      quality, j_token, net_j_token, j_request, net_j_request;
    bool          front_token, front_request;
} cell;

/* What may be compared: cells of one task under one meter. */
typedef struct panel {
    const jpt_task_row  *task;
    const jpt_meter_row *meter;
    const char          *title; /* the task, and the meter where a task has several */
    cell               **cells;
    int                  n_cells;
    bool                 modelled, many_models;
} panel;

typedef struct report {
    jpt_arena      arena;
    panel         *panels;
    int            n_panels;
    jpt_item_row  *items;
    int            n_items;
    jpt_store     *store;
    cell          *cells;
    jpt_task_row  *tasks;
    jpt_model_row *models;
    jpt_meter_row *meters;
    jpt_study_row *studies;
    int            n_cells, n_tasks, n_models, n_meters, n_studies;
    bool           modelled; /* any */
} report;

jpt_status report_load(report *r, jpt_store *s, jpt_error *err);
void       report_free(report *r);
const jpt_task_row *report_task(const report *r, int64_t id); /* never NULL after report_load */
const jpt_model_row *report_model(const report *r, int64_t id);
const char *report_prompt(const report *r, int64_t task, int64_t item_index, const char **id); /* "" when absent */

/* a - b over the items that both have.  Quality of corpus metrics is compared by its mean over segments. */
typedef enum compared { COMPARED_QUALITY, COMPARED_J_TOKEN, COMPARED_J_REQUEST } compared;
estimate    report_difference(const cell *a, const cell *b, compared what);
bool        report_separable(estimate e); /* the interval does not hold zero */
const char *report_source(const cell *c); /* "modelled, not measured", or the meter */

/* ratio = sum(num)/sum(den) over n items, 95 % bootstrap; items with den <= 0 must be left out before. */
estimate report_bootstrap(const double *num, const double *den, int n);
/* mean difference of ratios, the same resample for both sides. */
estimate report_paired(const double *na, const double *da, const double *nb, const double *db, int n);
/* front[i]: no other point has at least the quality for at most the joules and is better in one.
 * Absent (NAN) points are never on it. */
void report_pareto(const double *quality, const double *joules, int n, bool higher_is_better, bool *front);

void report_html(const report *r, jpt_buf *b);
void report_md(const report *r, jpt_buf *b);
void report_csv(const report *r, jpt_buf *b);
jpt_status report_requests_csv(const report *r, jpt_buf *b, jpt_error *err);
void report_csv_field(jpt_buf *b, const char *text); /* RFC 4180 quoting; NULL is empty */
void report_verdict(const panel *p, jpt_buf *b);

#endif
