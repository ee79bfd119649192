#include <errno.h>
#include <fcntl.h>
#include <jpt/base.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

jpt_status jpt_file_read(const char *path, jpt_buf *out, jpt_error *err) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!f)
        return JPT_FAIL(err, IO, "%s: cannot read: %s", path, strerror(errno));
    jpt_status st = JPT_OK;
    char       chunk[65536];
    size_t     n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        jpt_buf_add(out, chunk, n);
    if (ferror(f))
        st = JPT_FAIL(err, IO, "%s: reading failed: %s", path, strerror(errno));
    else if (out->oom)
        st = JPT_FAIL(err, NOMEM, "%s: out of memory while reading", path);
    if (f != stdin)
        fclose(f);
    return st;
}

jpt_status jpt_text_read(const char *path, jpt_buf *out, jpt_error *err) {
    size_t at = out->n;
    JPT_TRY(jpt_file_read(path, out, err));
    if (out->n - at >= 3 && memcmp(out->p + at, "\xef\xbb\xbf", 3) == 0) {
        memmove(out->p + at, out->p + at + 3, out->n - at - 3 + 1);
        out->n -= 3;
    }
    return JPT_OK;
}

jpt_status jpt_file_write(const char *path, const void *p, size_t n, jpt_error *err) {
    char        tmp[4096], *real = NULL;
    struct stat sb;
    bool        there = stat(path, &sb) == 0, in_place = there && !S_ISREG(sb.st_mode); /* a device or a pipe is not replaced */
    if (there && !in_place)
        real = realpath(path, NULL); /* a link's target is replaced, not the link */
    const char *target = real ? real : path;
    int         len = in_place ? snprintf(tmp, sizeof tmp, "%s", target) : snprintf(tmp, sizeof tmp, "%s.tmp.%ld", target, (long)getpid());
    if (len >= (int)sizeof tmp) {
        free(real);
        return JPT_FAIL(err, ARG, "path too long: %.80s...", path);
    }
    FILE *f = fopen(tmp, "wb");
    bool  ok = f != NULL;
    int   why = errno;
    if (ok) {
        ok = fwrite(p, 1, n, f) == n;
        ok = fflush(f) == 0 && ok;
        ok = (in_place || fsync(fileno(f)) == 0 || errno == EINVAL || errno == EROFS) && ok;
        why = errno;
        ok = fclose(f) == 0 && ok;
        if (ok && !in_place && rename(tmp, target) != 0) {
            why = errno;
            ok = false;
        }
        if (!ok && !in_place)
            unlink(tmp);
    }
    free(real);
    return ok ? JPT_OK : JPT_FAIL(err, IO, "%s: cannot write: %s", path, strerror(why));
}

jpt_status jpt_mkdirs(const char *path, jpt_error *err) {
    char buf[4096];
    if (snprintf(buf, sizeof buf, "%s", path) >= (int)sizeof buf)
        return JPT_FAIL(err, ARG, "path too long: %.80s...", path);
    for (char *s = buf + 1;; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char c = *s;
        *s = '\0';
        if (mkdir(buf, 0777) != 0 && errno != EEXIST)
            return JPT_FAIL(err, IO, "%s: cannot create the folder: %s", buf, strerror(errno));
        *s = c;
        if (!c)
            break;
    }
    struct stat sb;
    if (stat(path, &sb) != 0 || !S_ISDIR(sb.st_mode))
        return JPT_FAIL(err, IO, "%s: exists and is no folder", path);
    return JPT_OK;
}

jpt_status jpt_map_file(const char *path, jpt_mapping *out, jpt_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return JPT_FAIL(err, IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat sb;
    jpt_status  st = JPT_OK;
    if (fstat(fd, &sb) != 0)
        st = JPT_FAIL(err, IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (!S_ISREG(sb.st_mode))
        st = JPT_FAIL(err, IO, "%s: is not a regular file", path);
    else if (sb.st_size == 0)
        st = JPT_FAIL(err, FORMAT, "%s: the file is empty", path);
    else {
        void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            st = JPT_FAIL(err, IO, "%s: cannot map %lld bytes: %s", path, (long long)sb.st_size, strerror(errno));
        else
            *out = (jpt_mapping){p, (size_t)sb.st_size};
    }
    close(fd);
    return st;
}

void jpt_unmap(jpt_mapping *m) {
    if (m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
    *m = (jpt_mapping){0};
}

jpt_status jpt_home(char *out, size_t cap, jpt_error *err) {
    const char *dir = getenv("JPT_HOME"), *tail = "";
    if (!dir || !*dir) {
        dir = getenv("XDG_CACHE_HOME");
        tail = "/jpt";
        if (!dir || !*dir) {
            dir = getenv("HOME");
            tail = "/.cache/jpt";
        }
    }
    if (!dir || !*dir)
        return JPT_FAIL(err, ARG, "no cache folder: set JPT_HOME");
    if (snprintf(out, cap, "%s%s", dir, tail) >= (int)cap)
        return JPT_FAIL(err, ARG, "JPT_HOME is too long");
    return JPT_OK;
}
