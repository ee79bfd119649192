/* Bringing a data set into the cache: from its own addresses, a mirror, or a folder. */
#include "dataset_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct pulling {
    const jpt_pull_options *o;
    const jpt_dataset_file *f;
} pulling;

static void on_bytes(void *ud, uint64_t done, uint64_t total) {
    pulling *p = ud;
    if (p->o->on_progress)
        p->o->on_progress(p->o->ud, p->f->path, done, total);
}

static bool right(const jpt_dataset_file *f, const char *path) {
    struct stat sb;
    char        sha[65];
    return stat(path, &sb) == 0 && (uint64_t)sb.st_size == f->bytes && jpt_sha256_file(path, sha, NULL) == JPT_OK && strcmp(sha, f->sha256) == 0;
}

/* Check what was made or copied, then give it its name. */
static jpt_status keep(const jpt_dataset_file *f, const char *from, const jpt_buf *b, const char *target, jpt_error *err) {
    char       sha[65];
    jpt_sha256 s;
    jpt_sha256_init(&s);
    jpt_sha256_update(&s, b->p ? b->p : "", b->n);
    jpt_sha256_final(&s, sha);
    if (b->n < f->bytes && f->recipe == JPT_RECIPE_AS_IS)
        return JPT_FAIL(err, FORMAT, "%s: has %zu of %llu bytes: half a file", from, b->n, (unsigned long long)f->bytes);
    if (strcmp(sha, f->sha256) != 0)
        return JPT_FAIL(err, FORMAT, "%s: SHA-256 is %s, expected %s: not the file that jpt knows", from, sha, f->sha256);
    return jpt_file_write(target, b->p ? b->p : "", b->n, err);
}

static jpt_status from_folder(const jpt_dataset_file *f, const char *dir, const char *target, jpt_error *err) {
    char       path[4096];
    jpt_buf    b = {0};
    jpt_error  why = {0};
    const char *base = strrchr(f->path, '/') + 1;
    struct stat sb;
    if (stat(dir, &sb) != 0 || !S_ISDIR(sb.st_mode))
        return JPT_FAIL(err, NOT_FOUND, "%s: no such folder", dir);
    snprintf(path, sizeof path, "%s/%s", dir, f->path);
    if (access(path, F_OK) != 0) /* the files alone, without their folder */
        snprintf(path, sizeof path, "%s/%s", dir, base);
    if (access(path, F_OK) != 0)
        return JPT_FAIL(err, NOT_FOUND, "%s: holds neither %s nor %s", dir, f->path, base);
    if (stat(path, &sb) != 0 || !S_ISREG(sb.st_mode))
        return JPT_FAIL(err, FORMAT, "%s: not a regular file", path);
    jpt_status st = jpt_file_read(path, &b, &why);
    if (st == JPT_OK) {
        jpt_dataset_file as_is = *f;
        as_is.recipe = JPT_RECIPE_AS_IS;
        st = keep(&as_is, path, &b, target, &why);
    }
    jpt_buf_fini(&b);
    if (st != JPT_OK && err && err->code == JPT_OK)
        *err = why;
    return st;
}

static jpt_status from_mirror(pulling *p, const char *target, jpt_error *err) {
    char      url[4096];
    jpt_fetch f = {.url = url, .path = target, .bytes = p->f->bytes, .sha256 = p->f->sha256, .on_progress = on_bytes, .ud = p};
    size_t    n = strlen(p->o->mirror);
    snprintf(url, sizeof url, "%s%s%s", p->o->mirror, n && p->o->mirror[n - 1] == '/' ? "" : "/", p->f->path);
    return jpt_fetch_file(&f, err);
}

static jpt_status from_source(pulling *p, const char *name, const char *target, jpt_error *err) {
    const jpt_dataset_file *f = p->f;
    if (f->recipe == JPT_RECIPE_FOLDER)
        return JPT_FAIL(err, NOT_FOUND, "%s: has no public address that jpt could fetch it from: jpt pull %s --from DIR", f->path, name);
    if (f->recipe == JPT_RECIPE_AS_IS) {
        jpt_fetch fetch = {.url = f->url, .path = target, .bytes = f->bytes, .sha256 = f->sha256, .on_progress = on_bytes, .ud = p};
        return jpt_fetch_file(&fetch, err);
    }
    char       source[4200], source2[4200];
    jpt_buf    b = {0};
    jpt_fetch  fetch = {.url = f->url, .path = source, .on_progress = on_bytes, .ud = p};
    snprintf(source, sizeof source, "%s.source", target);
    snprintf(source2, sizeof source2, "%s.source2", target);
    jpt_status st = jpt_fetch_file(&fetch, err);
    if (st == JPT_OK && f->url2) {
        fetch.url = f->url2;
        fetch.path = source2;
        st = jpt_fetch_file(&fetch, err);
    }
    if (st == JPT_OK)
        st = dataset_make(f, source, source2, &b, err);
    if (st == JPT_OK)
        st = keep(f, f->url, &b, target, err);
    unlink(source);
    unlink(source2);
    jpt_buf_fini(&b);
    return st;
}

jpt_status jpt_dataset_pull(const jpt_dataset *d, const jpt_pull_options *o, jpt_error *err) {
    char home[2048], target[4096], folder[4096];
    JPT_TRY(jpt_home(home, sizeof home, err));
    for (size_t i = 0; i < d->n_files; i++) {
        pulling p = {o, &d->file[i]};
        if (snprintf(target, sizeof target, "%s/data/%s", home, p.f->path) >= (int)sizeof target)
            return JPT_FAIL(err, ARG, "JPT_HOME is too long");
        if (!o->force && right(p.f, target))
            continue;
        snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(target, '/') - target), target);
        JPT_TRY(jpt_mkdirs(folder, err));
        if (o->from)
            JPT_TRY(from_folder(p.f, o->from, target, err));
        else if (o->mirror)
            JPT_TRY(from_mirror(&p, target, err));
        else
            JPT_TRY(from_source(&p, d->name, target, err));
    }
    return JPT_OK;
}
