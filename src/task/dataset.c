/* Finding data sets and their files; only files with the pinned hash are handed out. */
#include "dataset_priv.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAMES_MAX = 64 };

size_t             jpt_dataset_count(void) { return dataset_table_n; }
const jpt_dataset *jpt_dataset_at(size_t i) { return i < dataset_table_n ? &dataset_table[i] : NULL; }

const jpt_dataset *jpt_dataset_find(const char *name) {
    for (size_t i = 0; i < dataset_table_n; i++)
        if (strcmp(dataset_table[i].name, name) == 0)
            return &dataset_table[i];
    return NULL;
}

const char *jpt_dataset_nearest(const char *name) {
    const char *names[NAMES_MAX];
    size_t      n = 0;
    for (; n < dataset_table_n && n < NAMES_MAX; n++)
        names[n] = dataset_table[n].name;
    return jpt_nearest(name, names, n);
}

/* Candidate i: 0 under $JPT_DATA, 1 in the cache; false when there is no such folder. */
static bool candidate(int i, const char *path, char *out, size_t cap) {
    const char *data = getenv("JPT_DATA");
    char        home[2048];
    if (i == 0)
        return data && *data && snprintf(out, cap, "%s/%s", data, path) < (int)cap;
    return jpt_home(home, sizeof home, NULL) == JPT_OK && snprintf(out, cap, "%s/data/%s", home, path) < (int)cap;
}

static const jpt_dataset_file *file_of(const jpt_dataset *d, const char *path) {
    for (size_t i = 0; i < d->n_files; i++)
        if (strcmp(d->file[i].path, path) == 0)
            return &d->file[i];
    return NULL;
}

static jpt_status verify(const jpt_dataset *d, const jpt_dataset_file *f, const char *path, uint64_t bytes, jpt_error *err) {
    char sha[65];
    if (bytes < f->bytes)
        return JPT_FAIL(err, FORMAT, "%s: has %llu of %llu bytes: half a download? jpt pull %s --force fetches it again", path,
                        (unsigned long long)bytes, (unsigned long long)f->bytes, d->name);
    JPT_TRY(jpt_sha256_file(path, sha, err));
    if (strcmp(sha, f->sha256) != 0)
        return JPT_FAIL(err, FORMAT, "%s: SHA-256 is %.12s..., expected %.12s...: not the data set's file; jpt pull %s --force fetches it, or name your own file as -t TASK=FILE",
                        path, sha, f->sha256, d->name);
    return JPT_OK;
}

jpt_status jpt_dataset_locate(const jpt_dataset *d, const char *path, char *out, size_t cap, jpt_error *err) {
    const jpt_dataset_file *f = file_of(d, path);
    struct stat             sb;
    if (!f)
        return JPT_FAIL(err, FORMAT, "data set '%s' has no file '%s' (jpt list datasets %s)", d->name, path, d->name);
    jpt_error why = {0}; /* of the first that is there and wrong: a whole one in the cache still does */
    for (int i = 0; i < 2; i++)
        if (candidate(i, path, out, cap) && stat(out, &sb) == 0 && S_ISREG(sb.st_mode)) {
            jpt_error here = {0};
            if (verify(d, f, out, (uint64_t)sb.st_size, &here) == JPT_OK)
                return JPT_OK;
            why = why.code == JPT_OK ? here : why;
        }
    if (why.code != JPT_OK)
        return err ? *err = why, why.code : why.code;
    const char *data = getenv("JPT_DATA");
    return JPT_FAIL(err, NOT_FOUND, "data set '%s' is not here (%s; JPT_DATA is %s%s): jpt pull %s fetches it, or takes it --from a DIR", d->name, path, data && *data ? "" : "not set", data ? data : "", d->name);
}

bool jpt_dataset_is_here(const jpt_dataset *d) {
    char        path[4096];
    struct stat sb;
    for (size_t k = 0; k < d->n_files; k++) {
        bool here = false;
        for (int i = 0; i < 2 && !here; i++)
            here = candidate(i, d->file[k].path, path, sizeof path) && stat(path, &sb) == 0 && (uint64_t)sb.st_size == d->file[k].bytes;
        if (!here)
            return false;
    }
    return true;
}
