/* HumanEval's and MBPP's own solutions pass in the sandbox, several at a time, and changed ones fail.  Needs JPT_DATA and a sandbox (77). */
#include <jansson.h>
#include <jpt/sandbox.h>
#include <jpt/task.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_A_TIME = 4 };

/* Every function of the program gives back a pair: no test may accept that. */
static const char wrong[] = "\nimport types as _t\n"
                            "def _wrap(f):\n    return lambda *a, **k: (f(*a, **k), 'wrong')\n"
                            "for _n, _v in list(globals().items()):\n"
                            "    if isinstance(_v, _t.FunctionType) and _n != '_wrap': globals()[_n] = _wrap(_v)\n";

typedef struct job {
    const jpt_task *task;
    const char     *name, *fence;  /* around the answer */
    char          **answer;
    double         *passed;
    size_t          n, next;
    pthread_mutex_t lock;
    jpt_error       err;
} job;

static void *work(void *ud) {
    job *j = ud;
    for (;;) {
        jpt_task_score s[JPT_TASK_SCORES_MAX];
        jpt_error      err = {0};
        int32_t        n_scores;
        pthread_mutex_lock(&j->lock);
        size_t i = j->next++;
        pthread_mutex_unlock(&j->lock);
        if (i >= j->n)
            return NULL;
        if (jpt_task_score_item(j->task, i, jpt_str_z(j->answer[i]), s, &n_scores, &err) == JPT_OK) {
            j->passed[i] = s[0].value;
        } else {
            pthread_mutex_lock(&j->lock);
            j->err = err;
            pthread_mutex_unlock(&j->lock);
        }
    }
}

/* Run all answers; how many passed, or -1. */
static int run(job *j, const char *what, bool want) {
    pthread_t thread[AT_A_TIME];
    int       passed = 0;
    double    t0 = jpt_now_s();
    j->next = 0;
    j->err = (jpt_error){0};
    j->passed = calloc(j->n, sizeof *j->passed);
    pthread_mutex_init(&j->lock, NULL);
    for (int i = 0; i < AT_A_TIME; i++)
        pthread_create(&thread[i], NULL, work, j);
    for (int i = 0; i < AT_A_TIME; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < j->n; i++) {
        passed += j->passed[i] == 1;
        if ((j->passed[i] == 1) != want)
            fprintf(stderr, "%s: %s (%s) %s\n", j->name, jpt_task_get_item(j->task, i)->id, what, j->passed[i] == 1 ? "passed" : "failed");
    }
    printf("golden: %s, %s: %d of %zu pass, %d at a time, %.0f s\n", j->name, what, passed, j->n, AT_A_TIME, jpt_now_s() - t0);
    free(j->passed);
    if (j->err.code != JPT_OK)
        fprintf(stderr, "%s\n", j->err.msg);
    return j->err.code == JPT_OK ? passed : -1;
}

/* The solutions of a data set's file, in the order of the task's items: before + its field + after. */
static char **solutions(const char *path, const char *field, const char *with, const char *after, size_t *n) {
    char         full[4096];
    jpt_buf      text = {0};
    json_error_t je;
    json_t      *all = json_array(), *o;
    size_t       i;
    snprintf(full, sizeof full, "%s/%s", getenv("JPT_DATA"), path);
    if (jpt_file_read(full, &text, NULL) != JPT_OK)
        exit(1);
    if (text.p[0] == '[') {
        json_decref(all);
        all = json_loads(text.p, 0, &je);
    } else {
        char *save = NULL;
        for (char *line = strtok_r(text.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            json_array_append_new(all, json_loads(line, 0, &je));
    }
    char **answer = calloc(json_array_size(all), sizeof *answer);
    *n = json_array_size(all);
    json_array_foreach(all, i, o) {
        jpt_buf b = {0};
        jpt_buf_printf(&b, "%s%s%s", with ? json_string_value(json_object_get(o, with)) : "", json_string_value(json_object_get(o, field)), after);
        answer[i] = b.p;
    }
    json_decref(all);
    jpt_buf_fini(&text);
    return answer;
}

static void release(char **answer, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(answer[i]);
    free(answer);
}

/* Returns the number of complaints. */
static int check(const char *name, const char *path, const char *field, const char *with, int may_fail) {
    jpt_task *t;
    jpt_error err = {0};
    int       bad = 0;
    if (jpt_task_open(name, &t, &err) != JPT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    job j = {.task = t, .name = name};
    j.answer = solutions(path, field, with, "\n", &j.n);
    bad += run(&j, "as published", true) < (int)j.n - may_fail;
    release(j.answer, j.n);
    j.answer = solutions(path, field, with, wrong, &j.n);
    bad += run(&j, "changed", false) != 0;
    release(j.answer, j.n);
    jpt_task_close(t);
    return bad;
}

int main(void) {
    const char *data = getenv("JPT_DATA");
    jpt_error   err = {0};
    if (!data || !*data || jpt_sandbox_probe(&err) != JPT_OK) {
        fprintf(stderr, "skipped: %s\n", err.msg[0] ? err.msg : "JPT_DATA is not set");
        return 77;
    }
    setenv("JPT_TASKS", JPT_SOURCE_DIR "/tasks", 1);
    int bad = check("humaneval", "humaneval/HumanEval.jsonl", "canonical_solution", NULL, 0);
    if (!getenv("JPT_SKIP_SLOW"))
        bad += check("humaneval-chat", "humaneval/HumanEval.jsonl", "canonical_solution", "prompt", 0);
    bad += check("mbpp-sanitized", "mbpp/sanitized-mbpp.json", "code", NULL, 0);
    if (!getenv("JPT_SKIP_SLOW"))
        bad += check("mbpp", "mbpp/mbpp_test500.jsonl", "code", NULL, 500);
    return bad ? 1 : 0;
}
