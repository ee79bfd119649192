#ifndef JPT_TASK_PRIV_H
#define JPT_TASK_PRIV_H

#include <jansson.h>
#include <jpt/metric.h>
#include <jpt/task.h>

/* What a metric's name in a YAML file may be, in metrics.c's order. */
typedef enum task_metric {
    METRIC_CHRF, METRIC_CHRF_WORDS, METRIC_BLEU, METRIC_BLEU_ZH, METRIC_TER, /* of a corpus: statistics are added up */
    METRIC_SMOOTHED_BLEU_4, METRIC_ROUGE_1, METRIC_ROUGE_2, METRIC_ROUGE_L, METRIC_ROUGE_LSUM, METRIC_EXACT_MATCH, METRIC_GSM8K_STRICT,
    METRIC_GSM8K_FLEXIBLE, METRIC_GSM8K_COT, METRIC_GSM8K_INVALID, METRIC_PASSED, METRIC_DIVERSITY, METRIC_DISTINCT_1, METRIC_DISTINCT_2,
    METRIC_DISTINCT_3, METRIC_REP_2, METRIC_REP_3, METRIC_REP_4, METRIC_SELF_BLEU, METRIC_ZIPF, METRIC_WORDS, METRIC_COUNT
} task_metric;
typedef struct task_metric_def {
    const char *name;
    bool        corpus, needs_reference, lower_is_better;
} task_metric_def;
extern const task_metric_def task_metrics[METRIC_COUNT];
/* By name; METRIC_COUNT when unknown, and *near a name worth suggesting or NULL. */
task_metric task_metric_named(const char *name, const char **near);

/* What of an answer is scored as code. */
typedef enum task_extract { EXTRACT_CODE /* the first fenced block, else all */, EXTRACT_NONE } task_extract;

typedef struct task_item {
    jpt_task_item pub;
    const char   *before, *tests; /* Python around the answer's code; tests NULL: none */
    int           line; /* of the items' file */
} task_item;

struct jpt_task {
    jpt_task_info info;
    task_item    *item;
    const char   *items_path;
    size_t        cap;
    task_metric   metric[JPT_TASK_SCORES_MAX];
    int32_t       n_metrics;
    task_extract  extract;
    jpt_arena     arena;
};

/* A task's YAML file.  All texts live in the loaded document. */
typedef struct task_form {
    char    *name, *description, *license, *citation, *dataset, *items, *prompt, *system, *id, *reference, *program, *extract, *prefix, *paper;
    bool     chat;
    char   **stop, **metrics;
    unsigned stop_count, metrics_count;
    int      max_new_tokens, min_new_tokens, max_total_tokens;
    struct task_parallel {
        char    *source, **references;
        unsigned references_count;
    } *parallel;
    struct task_shots {
        char *items, *draw, *template;
        int   n, seed;
    } *shots;
} task_form;
jpt_status task_form_load(const char *path, const jpt_buf *text, task_form **out, jpt_error *err);
void       task_form_free(task_form *f); /* NULL accepted */

/* A metric of one text.  "self_bleu" and "zipf" are of several texts: NAN. */
jpt_status task_score_text(const jpt_task *t, size_t item, task_metric m, jpt_str text, double *out, jpt_error *err);
/* Of a corpus metric: what to call jpt_corpus_* with, and the statistics of a text. */
void       task_corpus_metric(task_metric m, jpt_corpus_metric *out);
jpt_status task_corpus_stats(const task_item *it, const jpt_corpus_metric *m, jpt_str text, double *stats, jpt_error *err);

/* Path of a task's file by name. */
jpt_status task_find(const char *name, char *out, size_t cap, jpt_error *err);

/* ---- items.c ------------------------------------------------------------------------------------------------------ */

/* All items of a file as an array of objects (release with json_decref), each with its line as "" -> integer: .json one list, .jsonl an
 * object a line, anything else a line of text as {"text": ...}.  Bytes go into the hash.  Errors name file and line. */
jpt_status task_items_read(const char *path, jpt_sha256 *sha, json_t **out, jpt_error *err);
int        task_item_line(json_t *item);

/* ---- template.c ----------------------------------------------------------------------------------------------------- */

/* Append `template` with {field} replaced by the item's value: a string, a whole number, or a list of strings (lines).
 * {field[2]} takes one of a list; {field|strip} without white space at both ends; {field|lf} with plain line ends;
 * {field|after:other} without what `other` holds at its beginning.  {{ and }} are braces. */
jpt_status task_fill(const char *template, json_t *item, const char *path, jpt_buf *out, jpt_error *err);

/* ---- shots.c ---------------------------------------------------------------------------------------------------------- */

/* Examples before an item's question.  Python's Mersenne Twister, seeded as random.Random(seed), and its sample(): what
 * lm-evaluation-harness draws. */
typedef struct task_random {
    uint32_t state[624];
    int      at;
} task_random;
void   task_random_seed(task_random *r, uint32_t seed);
void   task_random_sample(task_random *r, size_t n, size_t k, size_t *out); /* k of 0..n-1 as random.sample(range(n), k), k <= n */

#endif
