/* Tasks: prompts, stop rules and scoring.
 *
 * A task is a YAML file (tasks/README.md: prompt template, examples, stop strings, metrics) with its items in a public data set
 * (jpt/dataset.h) or beside it, or a bare JSON-lines file of a user: one object a line with "prompt" and, where there is one,
 * "reference" (a string, a number, or a list).  Messages name the file and the line. */
#ifndef JPT_TASK_H
#define JPT_TASK_H

#include <jpt/base.h>

typedef struct jpt_task jpt_task;

typedef struct jpt_task_item {
    const char        *id;
    const char        *prompt; /* template filled in; the user's message when the task is a chat */
    const char *const *references;
    size_t             n_references;
} jpt_task_item;

typedef struct jpt_task_info {
    const char *name, *description, *license, *path;
    const char *citation; /* of the items: of the data set, or the YAML's; NULL: none */
    const char *dataset; /* its data set's name; NULL: the items are beside the YAML or a user's */
    const char *system; /* NULL: none */
    bool        chat;   /* wrap the prompt in the model's chat template where it has one */
    const char *const *stop;
    int32_t            n_stop, max_new_tokens, min_new_tokens;
    int32_t            max_total_tokens; /* of prompt and answer together; 0: no such cap */
    size_t             n_items;
    const char        *primary_metric;
    bool               higher_is_better;
    char               sha256[65]; /* of the YAML and the items: what was asked */
} jpt_task_info;

typedef struct jpt_task_options {
    /* "paper": as the study behind jpt (Nik et al. 2025) asked: the task that the YAML's `paper` names, or, where it names none, the same
     * prompts without chat template, 256 new tokens at most, ended by "</s>" and "<|im_end|>" too.  NULL: the task's own form. */
    const char *compat;
    bool        header_only; /* no items: the data set need not be here */
} jpt_task_options;

/* name_or_path: a .yaml or .jsonl file, or a name found in $JPT_TASKS, the installed folder, or the source tree; NAME=FILE puts a
 * user's items (JSON lines, a JSON list, or lines of text as field "text") into the task's form.  opt NULL: neither.
 * Errors: JPT_NOT_FOUND (nearest name suggested; a data set that is not here, with the command that fetches it), JPT_FORMAT (file, line). */
jpt_status           jpt_task_open(const char *name_or_path, jpt_task **out, jpt_error *err);
jpt_status           jpt_task_open_with(const char *name_or_path, const jpt_task_options *opt, jpt_task **out, jpt_error *err);
void                 jpt_task_close(jpt_task *t);
const jpt_task_info *jpt_task_get_info(const jpt_task *t);
const jpt_task_item *jpt_task_get_item(const jpt_task *t, size_t i);
/* Whether this machine can score the task's answers, asked before any joule is spent: a task that runs code needs a
 * working sandbox (JPT_SANDBOX says what is missing). */
jpt_status           jpt_task_check(const jpt_task *t, jpt_error *err);

/* Whether a task with this primary metric is judged without references and tests: text that may go on as it likes. */
bool jpt_task_open_ended(const char *primary_metric);

/* Names of the tasks that can be found by name, sorted; release with jpt_task_list_free.  JPT_NOMEM. */
jpt_status jpt_task_list(char ***names, size_t *n, jpt_error *err);
void       jpt_task_list_free(char **names, size_t n);

enum { JPT_TASK_SCORES_MAX = 12, JPT_TASK_CELL_SCORES_MAX = 20 };
typedef struct jpt_task_score {
    const char *name;
    double      value; /* NAN: does not apply to this text */
    double      ci_low, ci_high; /* of a whole task: 95 % bootstrap over items; else NAN */
    int32_t     n;
} jpt_task_score;

/* Metrics of one text.  "passed" runs the item's tests in the sandbox (20 s of CPU time, 60 s of the
 * clock; JPT_SANDBOX where that is refused); it may be called from several threads at a time. */
jpt_status jpt_task_score_item(const jpt_task *t, size_t item, jpt_str text, jpt_task_score out[JPT_TASK_SCORES_MAX], int32_t *n,
                               jpt_error *err);
/* n = 0 gives the names alone.  Metrics of many texts: corpus BLEU and chrF, means of the others.  item_scores [n] in the order of texts, as
 * jpt_task_score_item gave them (n_item_scores each), for what cannot be had from the text again (tests).  Intervals resample items with
 * all their texts; self_bleu and zipf take the first text of each item.  Where `passed` is a metric and every item has k texts and more, pass@k
 * for k = 2, 5, 10, 25, 50, 100 comes after the task's metrics.  JPT_NOMEM, and what
 * a metric refuses. */
jpt_status jpt_task_score_all(const jpt_task *t, const int32_t *item, const jpt_str *text, const jpt_task_score *item_scores,
                              int32_t n_item_scores, int32_t n, jpt_task_score out[JPT_TASK_CELL_SCORES_MAX], int32_t *n_out, jpt_error *err);

#endif
