/* Metrics that take a model: how likely a text is after its prompt, and how near its meaning is to the prompt and the reference.
 *
 *   coherence      mean log-probability of the text's tokens after the prompt, under an evaluator model (Su and Xu 2022)
 *   ppl            perplexity of the text alone under the evaluator, exp of the mean negative log-probability of its tokens
 *   bits_per_byte  of the text alone: negative log-probability / (bytes ln 2); comparable over vocabularies
 *   cos_prompt     cosine of the text's and the prompt's sentence vectors
 *   cos_reference  the same with the reference; of several the nearest counts
 *   mauve          of many texts: how near they are to people's (jpt/mauve.h), by the evaluator's last hidden states
 *
 * The numbers mean nothing without the model's name, so that a stored metric carries it: "coherence@smollm2-135m". */
#ifndef JPT_EVALUATE_H
#define JPT_EVALUATE_H

#include <jpt/encoder.h>
#include <jpt/mauve.h>
#include <jpt/model.h>
#include <jpt/task.h>

enum { JPT_EVALUATE_BATCH = 4 }; /* texts whose features share a pass over the weights */
typedef struct jpt_evaluate_options {
    jpt_session *evaluator; /* n_outputs >= 64, n_seqs and n_hidden >= JPT_EVALUATE_BATCH; NULL: no coherence, ppl, bits_per_byte, mauve */
    jpt_encoder *embedder;  /* NULL: no cosines */
    const char  *evaluator_name, *embedder_name; /* short: a known name, or the file's */
    jpt_task *const *tasks; /* [n_tasks] of the results file, where they are not found by name */
    size_t           n_tasks;
    bool             no_mauve; /* of a results file: its open-ended tasks have none */
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

typedef struct jpt_evaluation_mauve {
    jpt_mauve mauve;
    double    ci_low, ci_high; /* 95 %, of mauve.mauve: bootstrap over items (both their texts) with the clusters held, centred */
} jpt_evaluation_mauve;

/* MAUVE of text [n] against human [n], an item's two texts each (prompt and continuation in one, cut at 1,024 tokens), with the package's
 * defaults.  human_features [n, n_embd] is filled, or read when `known`: several settings share them; NULL: not wanted.
 * JPT_ARG: n < 1; JPT_INTERRUPTED. */
jpt_status jpt_evaluate_mauve(const jpt_evaluate_options *opt, const jpt_str *human, const jpt_str *text, size_t n, double *human_features,
                              bool known, jpt_evaluation_mauve *out, jpt_error *err);

typedef struct jpt_evaluate_summary {
    int64_t requests, scored, had; /* with text; scored now; had the scores before */
    int64_t without_reference;     /* scored, with no reference to be had */
    char    missing_task[128];     /* a task whose references cannot be had, "" when there is none */
} jpt_evaluate_summary;

/* Add the scores to a results file: a row a request and metric, a row a cell and metric with its 95 % bootstrap over items
 * (perplexity and bits per byte of all its texts together).  Open-ended tasks (jpt_task_open_ended) with references get a MAUVE a cell: the
 * first text of each item with its prompt before it, against the item's first reference with the same.  What a request has already is left as it is, so that a run can be
 * interrupted and repeated.  References are the task's, when it is one of opt->tasks or can be opened by its
 * name and has the content that was asked (SHA-256).
 * Errors: of the store (jpt_store_open), JPT_INTERRUPTED (what was scored is kept). */
jpt_status jpt_evaluate_store(const char *path, const jpt_evaluate_options *opt, jpt_evaluate_summary *out, jpt_error *err);

#endif
