/* One line a document of lm-evaluation-harness's samples_*.jsonl. */
#ifndef JPT_IMPORT_HARNESS_H
#define JPT_IMPORT_HARNESS_H

#include <jpt/import.h>
#include <jpt/metric.h>

enum { HARNESS_SCORES = 12 };

typedef struct harness_doc {
    int64_t doc_id;
    char   *prompt, *text, *reference; /* reference: of a corpus metric, NULL */
    int     n_scores;
    char    names[HARNESS_SCORES][48];
    double  scores[HARNESS_SCORES];
} harness_doc;

typedef struct harness_log {
    harness_doc *doc;
    size_t       n;
    int64_t      n_bad;
    char         filter[64];
} harness_log;

/* filter NULL: that of the first line.  Lines that are no JSON object with doc_id and resps are counted as bad.  JPT_FORMAT: no good line. */
jpt_status harness_read(const char *path, const char *filter, harness_log *out, jpt_error *err);
void       harness_fini(harness_log *l);

#endif
