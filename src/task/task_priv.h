#ifndef JPT_TASK_PRIV_H
#define JPT_TASK_PRIV_H

#include <jpt/task.h>

/* What a metric's name in a YAML file may be. */
typedef enum task_metric { METRIC_CHRF, METRIC_CHRF_WORDS, METRIC_BLEU, METRIC_EXACT_MATCH, /* these need a reference */
                           METRIC_PASSED, METRIC_DIVERSITY, METRIC_DISTINCT_1, METRIC_DISTINCT_2, METRIC_DISTINCT_3,
                           METRIC_REP_2, METRIC_REP_3, METRIC_REP_4, METRIC_WORDS, METRIC_COUNT } task_metric;
extern const char *const task_metric_names[METRIC_COUNT];

typedef struct task_item {
    jpt_task_item pub;
    const char   *tests;       /* Python, NULL: none */
    const char   *entry_point; /* function that the tests call */
} task_item;

struct jpt_task {
    jpt_task_info info;
    task_item    *item;
    size_t        cap;
    task_metric   metric[JPT_TASK_SCORES_MAX];
    int32_t       n_metrics;
    jpt_arena     arena;
};

/* Path of a task's file by name. */
jpt_status task_find(const char *name, char *out, size_t cap, jpt_error *err);

#endif
