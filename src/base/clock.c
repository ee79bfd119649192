#include <jpt/base.h>
#include <stdatomic.h>
#include <time.h>

static int64_t (*other_now)(void *);
static void (*other_sleep)(void *, int64_t);
static void *other_ud;

void jpt_clock_replace(int64_t (*now_ns)(void *), void (*sleep_ns)(void *, int64_t), void *ud) {
    other_now = now_ns;
    other_sleep = sleep_ns;
    other_ud = ud;
}

int64_t jpt_now_ns(void) {
    if (other_now)
        return other_now(other_ud);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double jpt_now_s(void) { return (double)jpt_now_ns() * 1e-9; }

void jpt_sleep_s(double seconds) {
    if (other_sleep) {
        other_sleep(other_ud, (int64_t)(seconds * 1e9));
        return;
    }
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

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
