/* Other people's runs as rows of a results file: power traces of nvidia-smi and sample logs of lm-evaluation-harness, with the
 * rules of their analysis chosen and named in every row.  A trace tells no requests apart: its joules are shared in equal parts,
 * and the row says so.  What a file does not tell stays absent. */
#ifndef JPT_IMPORT_H
#define JPT_IMPORT_H

#include <jpt/meter.h>
#include <jpt/store.h>

typedef enum jpt_integration {
    JPT_TRAPEZOID, /* by time stamps */
    JPT_SUM        /* each sample stands for `period_s`: what many scripts do, arXiv 2502.11723 among them */
} jpt_integration;
typedef enum jpt_segment {
    JPT_SEGMENT_ALL,    /* the whole trace */
    JPT_SEGMENT_BUSY,   /* from the first to the last sample with utilisation above 0 */
    JPT_SEGMENT_LONGEST /* the longest stretch of samples with utilisation above 0 (arXiv 2502.11723) */
} jpt_segment;
typedef enum jpt_idle_rule {
    JPT_IDLE_NONE,   /* no net joules */
    JPT_IDLE_GIVEN,  /* idle_w, of all cards together */
    JPT_IDLE_OUTSIDE /* median power where utilisation is 0, before and after the segment */
} jpt_idle_rule;

typedef struct jpt_trace_rules {
    jpt_integration integration;
    jpt_segment     segment;
    jpt_idle_rule   idle;
    double          idle_w, period_s; /* period_s <= 0: the median gap between samples */
    const char     *gpu;              /* index, UUID or bus id as the trace has it; NULL: all cards, added up */
    const char     *columns;          /* of a trace without a header, "timestamp,index,power.draw"; NULL: it has one */
} jpt_trace_rules;

typedef struct jpt_trace {
    double            t_start_s, t_end_s, duration_s; /* of the segment; seconds since the first sample */
    double            energy_j, idle_w, net_energy_j, mean_w, peak_w, max_gap_s; /* NAN: not to be had by these rules */
    int32_t           n_samples, n_gpus, n_bad, n_repeated; /* samples in the segment; lines left out, of bad values and of a repeated or earlier time */
    jpt_power_sample *sample; /* of the first card, all of them; release with jpt_trace_fini */
    size_t            n;
    char              reasons[JPT_REASONS_MAX]; /* "; "-separated: what makes it doubtful */
    bool              valid;
} jpt_trace;

/* A CSV of `nvidia-smi --query-gpu=timestamp,...,power.draw --format=csv[,nounits]`, one or several cards.  Bad lines are left out and
 * counted.  Errors: JPT_FORMAT names file, line and what was expected (no column of time or power, no two good lines, a segment by
 * utilisation without that column); JPT_NOT_FOUND: no such gpu; JPT_IO. */
jpt_status jpt_trace_read(const char *path, const jpt_trace_rules *rules, jpt_trace *out, jpt_error *err);
void       jpt_trace_fini(jpt_trace *t);
/* "trapezoid, longest busy stretch, idle outside of it" */
void jpt_trace_rules_text(const jpt_trace_rules *r, char *out, size_t cap);

typedef struct jpt_import {
    const char     *task, *spec, *model, *device; /* device may be NULL */
    int32_t         batch, block;
    const char     *trace;   /* nvidia-smi CSV; NULL: no energy */
    const char     *samples; /* samples_*.jsonl of lm-evaluation-harness; NULL: one request that is the whole run */
    const char     *filter;  /* of the log; NULL: that of its first line */
    const char     *metric;  /* primary metric; NULL: the log's first number, else chrf of its texts */
    int64_t         output_tokens; /* of the whole run, where known; -1 */
    jpt_trace_rules rules;
} jpt_import;

typedef struct jpt_import_summary {
    int64_t   n_requests, n_bad_lines; /* of the log */
    double    score;                   /* mean primary metric, or of the corpus; NAN */
    jpt_trace trace;                   /* sample is NULL */
    char      metric[64];
} jpt_import_summary;

/* Add one run to the store: cell, window with its samples, requests with scores, one transaction.  Errors: of the files;
 * JPT_ARG when that block of the cell is there already, or neither file is given. */
jpt_status jpt_import_run(jpt_store *s, const jpt_import *i, jpt_import_summary *out, jpt_error *err);

#endif
