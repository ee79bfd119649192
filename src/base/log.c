#include <jpt/base.h>

static void (*log_sink)(void *, jpt_log_level, const char *);
static void *log_ud;

void jpt_log_set(void (*sink)(void *ud, jpt_log_level level, const char *line), void *ud) {
    log_sink = sink;
    log_ud = ud;
}

void jpt_log(jpt_log_level level, const char *fmt, ...) {
    if (!log_sink)
        return;
    char    line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log_sink(log_ud, level, line);
}
