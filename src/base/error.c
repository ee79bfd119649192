#include <errno.h>
#include <jpt/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

jpt_status jpt_fail(jpt_error *err, jpt_status code, const char *file, int line, const char *fmt, ...) {
    int saved = errno;
    if (!err || err->code != JPT_OK)
        return code;
    err->code = code;
    err->sys_errno = saved;
    err->file = file;
    err->line = line;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    for (unsigned char *c = (unsigned char *)err->msg; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
    errno = saved;
    return code;
}

const char *jpt_status_text(jpt_status code) {
    switch (code) {
#define CASE(name, value, text) \
    case JPT_##name:            \
        return text;
        JPT_STATUS_MAP(CASE)
#undef CASE
    }
    return "unknown error";
}

_Noreturn void jpt_assert_fail(const char *cond, const char *file, int line) {
    fprintf(stderr, "jpt: internal error: %s:%d: %s is false; please report it\n", file, line, cond);
    abort();
}
