/* What every report format reads: cells with sums an item and block, their figures with intervals, and the panels in which
 * they may be compared. */
#ifndef JPT_REPORT_DATA_H
#define JPT_REPORT_DATA_H

#include <jpt/report.h>

typedef struct estimate { double mean, low, high; int n; } estimate; /* NAN when absent; n: items behind it */

/* Every figure is a ratio of two sums over requests. */
typedef enum sum_of {
    SUM_SCORE, SUM_SCORES, SUM_ENERGY, SUM_ENERGIES, SUM_TOKENS_ENERGY, SUM_TOKENS, SUM_NET, SUM_NETS, SUM_TOKENS_NET, SUM_NET_TOKENS, SUM_SECONDS, SUM_DURATIONS,
    SUM_TTFT, SUM_TTFTS, N_SUMS
} sum_of;
typedef enum figure { QUALITY, J_TOKEN, NET_J_TOKEN, J_REQUEST, NET_J_REQUEST, LATENCY, TTFT, N_FIGURES } figure;
typedef struct ratio_of { sum_of num, den; const char *name, *unit; } ratio_of;
extern const ratio_of report_figures[N_FIGURES];

enum { PREFILL, DECODE, DRAFT, VERIFY, SELECT, KV, OTHER, N_PHASES };
enum { KEPT, REJECTED, PRUNED, PAST_STOP, N_FATES };
extern const char *const report_phases[N_PHASES], *const report_fates[N_FATES];

/* One item in one block (its seeds together). */
typedef struct observation { int64_t item, block; double sum[N_SUMS]; } observation;

typedef struct shown_text { int64_t item; const char *text; double score; int64_t tokens; double energy_j; } shown_text;

/* A score of a whole cell as the file has it; its n is of texts, of self_bleu and MAUVE of items. */
typedef struct cell_score { const char *metric; estimate of; } cell_score;

typedef struct cell {
    jpt_cell_row row;
    int          number;    /* 1.. in its panel */
    const char  *label;     /* the spec, and what tells this cell from others of the same spec in its panel */
    const char  *short_label; /* "top-p 0.9" */
    const char  *strategy, *model; /* names; strategy is never NULL */
    observation *seen;      /* sorted by item, then block */
    int          n_seen, cap;
    double     (*sums)[N_SUMS]; /* [items of the panel][blocks of the panel] */
    bool        *there;     /* [the same] it has a request there */
    shown_text  *texts;     /* the first request of each item, by item */
    int          n_texts, texts_cap;
    int          n_items, n_requests, n_failed, n_invalid, n_metered; /* invalid: metered but not valid, left out of J */
    double       tokens, seconds;
    double       computed, discarded, drafted; /* positions put through the model; thrown away; by a draft */
    double       phase_j[N_PHASES], phases_of; /* joules of valid requests that have all phases; how many those are */
    double       fate_j[N_FATES], fates_of;
    double       best_score, worst_score; /* of single requests */
    bool         modelled, corpus; /* corpus: quality is of the corpus (BLEU, chrF), not a mean over items */
    bool         partial;          /* a corpus metric whose value is not of all requests: left out */
    double       corpus_scale;     /* of a deviation of the mean over segments, to that of the corpus score */
    const char  *energy_source;
    estimate     fig[N_FIGURES];
    double      *rep[N_FIGURES];   /* [REPLICATES] of the panel's bootstrap, NULL when the figure is absent */
    bool         front[2];         /* on the Pareto front by J/token, by J/request */
    double       p_front[2];       /* share of replicates in which it is; NAN when absent */
    double       sd[2], cov[2];    /* of joules (token, request) and with quality, over replicates: the ellipse */
    double       sd_quality;
    cell_score  *scores;           /* all metrics, the primary one too */
    int          n_scores;
} cell;

/* What may be compared: cells of one task under one meter. */
typedef struct panel {
    const jpt_task_row  *task;
    const jpt_meter_row *meter;
    const char          *title; /* the task, and the meter where a task has several */
    cell               **cells;
    int                  n_cells, n_items, n_blocks;
    int64_t             *items, *blocks; /* sorted */
    bool                 modelled, many_models, many_batches;
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
    jpt_plan_row  *plans;
    jpt_window_row *windows;
    jpt_power_row *powers;
    jpt_ledger_row *ledgers;
    jpt_calibration_row *calibrations;
    jpt_floor_row *floors;
    jpt_look_row  *looks;
    int            n_cells, n_tasks, n_models, n_meters, n_studies, n_plans, n_windows, n_powers, n_ledgers, n_calibrations, n_floors, n_looks;
    bool           modelled; /* any */
    jpt_buf        reasons;  /* of requests without a window: a line each, as stored; "warning: " before those of valid ones */
} report;

enum { REPLICATES = 1000, REPORT_SEED = 12345 };

jpt_status report_load(report *r, jpt_store *s, jpt_error *err);
void       report_free(report *r);
const jpt_task_row *report_task(const report *r, int64_t id); /* never NULL after report_load */
const jpt_model_row *report_model(const report *r, int64_t id);
const cell *report_cell(const report *r, int64_t id); /* NULL: none */
const jpt_floor_row *report_floor(const report *r, const cell *c); /* the newest; NULL: none */
const char *report_prompt(const report *r, int64_t task, int64_t item_index, const char **id); /* "" when absent */
const char *report_keep(report *r, const char *z);
const char *report_source(const cell *c); /* "modelled, not measured", or the meter */
const char *report_metric(const jpt_task_row *t);
bool        report_same(const char *a, const char *b); /* NULL is "" */

/* scores.c: what the file has of cells beside the primary metric. */
enum { SCORES_MOST = 32 };
jpt_status report_score_add(report *r, cell *c, const jpt_score_row *s);
const cell_score *report_score(const cell *c, const char *metric); /* NULL: none */
bool report_score_partial(const cell *c, const cell_score *s);     /* of an earlier, shorter run: of fewer texts than there are items */
int  report_score_names(const panel *p, const char **names, int most); /* of the panel, the primary one left out */
void report_scores_csv(const report *r, jpt_buf *b);

/* panel.c: who may be compared with whom. */
jpt_status report_panels(report *r);
bool       report_comparable(const cell *a, const cell *b); /* alike but for the strategy */
const cell *report_reference(const panel *p, const cell *of); /* plain greedy comparable with `of`, else another of its strategy; NULL: none */
/* The value of a numeric key in "name:key=value,..."; false when it has none.  keys: every one in turn. */
bool report_parameter(const char *spec, const char *key, double *value);
bool report_parameter_at(const char *spec, int i, char key[48], char value[64]);

/* boot.c: intervals.  A replicate draws the panel's items and its blocks with replacement, the same for every cell (Owen 2007);
 * deviations are scaled to the two-way cluster-robust standard error (Cameron, Gelbach and Miller 2011) times Student's t with
 * Satterthwaite's degrees of freedom, over the normal quantile. */
jpt_status report_bootstrap(panel *p);
typedef struct difference {
    estimate delta, ratio; /* a - b; a / b (NAN where b is not positive) */
    double   p;            /* two-sided, of delta = 0 */
    bool     segments;     /* of mean segment scores: a corpus score is absent */
} difference;
difference report_difference(const panel *p, const cell *a, const cell *b, figure f);
bool       report_separable(estimate e); /* the interval does not hold zero */
/* front[i]: no other point has at least the quality for at most the joules and is better in one.
 * Absent (NAN) points are never on it. */
void report_pareto(const double *quality, const double *joules, int n, bool higher_is_better, bool *front);
double report_student_p(double t, double df); /* two-sided */
double report_student_quantile(double df);    /* 97.5 % */

void       report_md(const report *r, jpt_buf *b);
void       report_latex(const report *r, jpt_buf *b);
void       report_csv(const report *r, jpt_buf *b);
jpt_status report_json(const report *r, jpt_buf *b, jpt_error *err);
jpt_status report_requests_csv(const report *r, jpt_buf *b, jpt_error *err);
void       report_csv_field(jpt_buf *b, const char *text); /* RFC 4180 quoting; NULL is empty */
void       report_html(const report *r, jpt_buf *b);
void       report_verdict(const panel *p, jpt_buf *b); /* a sentence a line */

#endif
