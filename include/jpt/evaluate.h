/* Metrics that take a model: how likely a text is after its prompt, and how near its meaning is to the prompt and the reference.
 *
 *   coherence      mean log-probability of the text's tokens after the prompt, under an evaluator model (Su and Xu 2022)
 *   ppl            perplexity of the text alone under the evaluator, exp of the mean negative log-probability of its tokens
 *   bits_per_byte  of the text alone: negative log-probability / (bytes ln 2); comparable over vocabularies
 *   cos_prompt     cosine of the text's and the prompt's sentence vectors
 *   cos_reference  the same with the reference; of several the nearest counts
 *
 * The numbers mean nothing without the model's name, so that a stored metric carries it: "coherence@smollm2-135m". */
#ifndef JPT_EVALUATE_H
#define JPT_EVALUATE_H

#include <jpt/encoder.h>
#include <jpt/model.h>
#include <jpt/task.h>

typedef struct jpt_evaluate_options {
    jpt_session *evaluator; /* n_outputs >= 64; NULL: no coherence, ppl and bits_per_byte */
    jpt_encoder *embedder;  /* NULL: no cosines */
    const char  *evaluator_name, *embedder_name; /* short: a known name, or the file's */
    jpt_task *const *tasks; /* [n_tasks] of the results file, where they are not found by name */
    size_t           n_tasks;
    void (*on_progress)(void *ud, int64_t done, int64_t total); /* texts; NULL: none */
    void *ud;
} jpt_evaluate_options;

typedef struct jpt_evaluate_item {
    jpt_str        text;
    const jpt_str *prompt;     /* NULL: none, and no cos_prompt; coherence is then that of the text alone */
    const jpt_str *references; /* [n_references] */
    size_t         n_references;
} jpt_evaluate_item;

/* NAN where it does not apply: an empty text has no tokens. */
typedef struct jpt_evaluation {
    double  coherence, ppl, bits_per_byte, cos_prompt, cos_reference;
    double  prompted_nll, nll; /* sums behind coherence, and behind ppl and bits_per_byte */
    int32_t n_tokens, n_alone_tokens; /* tokens scored of the two */
} jpt_evaluation;

/* out [n].  JPT_INTERRUPTED when jpt_stop_requested() turned true. */
jpt_status jpt_evaluate(const jpt_evaluate_options *opt, const jpt_evaluate_item *item, size_t n, jpt_evaluation *out, jpt_error *err);

typedef struct jpt_evaluate_summary {
    int64_t requests, scored, had; /* with text; scored now; had the scores before */
    int64_t without_reference;     /* scored, with no reference to be had */
    char    missing_task[128];     /* a task whose references cannot be had, "" when there is none */
} jpt_evaluate_summary;

/* Add the scores to a results file: a row a request and metric, a row a cell and metric with its 95 % bootstrap over items
 * (perplexity and bits per byte of all its texts together).  What a request has already is left as it is, so that a run can be
 * interrupted and repeated.  References are the task's, when it is one of opt->tasks or can be opened by its
 * name and has the content that was asked (SHA-256).
 * Errors: of the store (jpt_store_open), JPT_INTERRUPTED (what was scored is kept). */
jpt_status jpt_evaluate_store(const char *path, const jpt_evaluate_options *opt, jpt_evaluate_summary *out, jpt_error *err);

#endif
