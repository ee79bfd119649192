/* What the parts of `jpt score` share. */
#ifndef JPT_CLI_SCORE_H
#define JPT_CLI_SCORE_H

#include "cli.h"
#include <jansson.h>
#include <jpt/metric.h>

enum { SCORE_FILES_MAX = 32 };

/* A file's segments: a line each, or, from a .jsonl file, a string, the field of an object, or a list of strings (several
 * answers to one question). */
typedef struct score_file {
    const char *path;
    jpt_buf     text;    /* the lines; of .jsonl: unused */
    json_t     *json;    /* owner of the strings of .jsonl */
    jpt_str    *segment; /* [n_segments] */
    size_t     *first;   /* [n + 1] first segment of an item; one each but for lists */
    size_t      n, n_segments;
} score_file;

typedef enum score_role { SCORE_HYP, SCORE_REF, SCORE_NUMBERS } score_role; /* numbers: references that are answers; 18 is "18" */

/* field NULL: "text", or of a reference file "reference" or "answer".  Trailing white space of plain lines is dropped, as
 * sacreBLEU does.  Errors name the file and the line. */
jpt_status score_file_read(const char *path, const char *field, score_role role, score_file *out, jpt_error *err);
void       score_file_free(score_file *f);

/* Features, row-major [*n, *d]: .npy (2 dimensions, little-endian f4 or f8, C order) or text, a row a line. */
jpt_status score_features_read(const char *path, double **out, int32_t *n, int32_t *d, jpt_error *err);

typedef struct score_options {
    const char        *metric; /* as on the command line */
    jpt_corpus_metric *corpus; /* [n_corpus] for bleu, chrf, chrf++, ter */
    int                n_corpus;
    bool               json, sentence, stem;
    int32_t            n_confidence, n_paired_bs, n_paired_ar; /* 0: not asked for */
    uint64_t           seed;
    long long          k[16], cap, buckets;
    int                n_k;
} score_options;

/* Each prints its result and returns a status. */
jpt_status score_corpus(const score_options *o, const score_file *hyp, size_t n_hyp, const score_file *ref, size_t n_refs,
                        jpt_error *err);
jpt_status score_rouge(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err);
jpt_status score_code_bleu(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err);
jpt_status score_gsm8k(const score_options *o, const score_file *hyp, const score_file *ref, jpt_error *err);
jpt_status score_exact(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err);
jpt_status score_self_bleu(const score_options *o, const score_file *hyp, jpt_error *err);
jpt_status score_diversity(const score_options *o, const score_file *hyp, jpt_error *err);
jpt_status score_pass(const score_options *o, const char *path, jpt_error *err);
jpt_status score_mauve(const score_options *o, const char *hyp, const char *ref, jpt_error *err);

/* Prints an object as one line of JSON, or its numbers and strings as "key value" lines; takes the object over. */
void score_print(const score_options *o, json_t *out);
/* Sets key to v, null for NAN. */
void score_put(json_t *j, const char *key, double v);

#endif
