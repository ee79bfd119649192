#include <jpt/base.h>
#include <stdatomic.h>
#include <time.h>

int64_t jpt_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double jpt_now_s(void) { return (double)jpt_now_ns() * 1e-9; }

double jpt_process_cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void jpt_wall_iso8601(char out[32]) {
    time_t    now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static atomic_bool stop_flag;
void jpt_stop_request(void) { atomic_store(&stop_flag, true); }
bool jpt_stop_requested(void) { return atomic_load_explicit(&stop_flag, memory_order_relaxed); }
void jpt_stop_clear(void) { atomic_store(&stop_flag, false); }
