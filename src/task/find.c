/* Where tasks lie: $JPT_TASKS, the installed folder, the source tree. */
#include "task_priv.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FOLDERS = 3, NAMES_MAX = 512 };

static int folders(char out[FOLDERS][1024]) {
    int         n = 0;
    const char *env = getenv("JPT_TASKS");
    char        exe[900];
    if (env && *env)
        snprintf(out[n++], 1024, "%s", env);
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len > 0) {
        exe[len] = '\0';
        char *slash = strrchr(exe, '/');
        if (slash) {
            *slash = '\0';
            snprintf(out[n++], 1024, "%s/../share/jpt/tasks", exe);
        }
    }
#ifdef JPT_TASKS_DIR
    snprintf(out[n++], 1024, "%s", JPT_TASKS_DIR);
#endif
    return n;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

jpt_status jpt_task_list(char ***names, size_t *n, jpt_error *err) {
    char   folder[FOLDERS][1024];
    int    n_folders = folders(folder);
    char **list = calloc(NAMES_MAX, sizeof *list);
    *n = 0;
    if (!list)
        return JPT_FAIL(err, NOMEM, "out of memory");
    for (int i = 0; i < n_folders; i++) {
        DIR *d = opendir(folder[i]);
        for (struct dirent *e; d && (e = readdir(d)) && *n < NAMES_MAX;) {
            size_t len = strlen(e->d_name);
            if (len < 6 || strcmp(e->d_name + len - 5, ".yaml") != 0)
                continue;
            e->d_name[len - 5] = '\0';
            bool known = false;
            for (size_t k = 0; k < *n; k++)
                known = known || strcmp(list[k], e->d_name) == 0;
            if (!known && (list[*n] = strdup(e->d_name)))
                (*n)++;
        }
        if (d)
            closedir(d);
    }
    qsort(list, *n, sizeof *list, by_name);
    *names = list;
    return JPT_OK;
}

void jpt_task_list_free(char **names, size_t n) {
    for (size_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}

jpt_status task_find(const char *name, char *out, size_t cap, jpt_error *err) {
    char folder[FOLDERS][1024];
    int  n_folders = folders(folder);
    for (int i = 0; i < n_folders && !strchr(name, '/'); i++)
        if (snprintf(out, cap, "%s/%s.yaml", folder[i], name) < (int)cap && access(out, R_OK) == 0)
            return JPT_OK;
    char **names = NULL;
    size_t n = 0;
    JPT_TRY(jpt_task_list(&names, &n, err));
    const char *near = jpt_nearest(name, (const char *const *)names, n);
    jpt_status  st = JPT_FAIL(err, NOT_FOUND, "no task '%.200s': no such file, and no known name%s%s%s; jpt list tasks shows them", name,
                              near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    jpt_task_list_free(names, n);
    return st;
}
