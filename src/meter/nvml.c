/* NVIDIA GPUs through NVML, loaded at run time with own declarations (the header is no Debian package; the ABI is
 * additive).  Two meters: the total energy counter (Volta and later), and the integral of POWER_INSTANT (field 186),
 * sampled by a thread, for boards without the counter. */
#include "meter_priv.h"
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct nvml_device_handle *nvml_device;

enum { NVML_SUCCESS = 0, FI_POWER_INSTANT = 186 };
enum { VALUE_DOUBLE, VALUE_UINT, VALUE_ULONG, VALUE_ULONGLONG, VALUE_LONGLONG, VALUE_INT };

/* nvmlFieldValue_t */
typedef struct field_value {
    unsigned  field_id, scope_id;
    long long timestamp_us, latency_us;
    int       value_type, status;
    union {
        double             d;
        unsigned           ui;
        unsigned long      ul;
        unsigned long long ull;
        long long          ll;
        int                i;
    } value;
} field_value;

typedef struct nvml {
    void *lib;
    nvml_device device;
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_string)(int);
    int (*count)(unsigned *);
    int (*by_index)(unsigned, nvml_device *);
    int (*device_name)(nvml_device, char *, unsigned);
    int (*energy)(nvml_device, unsigned long long *);
    int (*fields)(nvml_device, int, field_value *);
    bool initialised;
    /* sampler of the instant meter */
    pthread_t       thread;
    bool            has_thread;
    atomic_bool     stop;
    pthread_mutex_t mutex;
    double          period_s, joules, last_t, last_w, largest_gap_s;
    int             n_failed;
    char            why[160];
} nvml;

static const char *text_of(const nvml *n, int code) { return n->error_string ? n->error_string(code) : "unknown error"; }

static void nvml_close(jpt_meter *m) {
    nvml *n = m->state;
    if (!n)
        return;
    if (n->has_thread) {
        atomic_store(&n->stop, true);
        pthread_join(n->thread, NULL);
        pthread_mutex_destroy(&n->mutex);
    }
    if (n->initialised)
        n->shutdown();
    if (n->lib)
        dlclose(n->lib);
    free(n);
    m->state = NULL;
}

/* dlsym returns an object pointer; POSIX says it may hold a function. */
static void symbol(nvml *n, const char *name, void *slot) {
    void *p = dlsym(n->lib, name);
    memcpy(slot, &p, sizeof p);
}

static jpt_status nvml_start(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    nvml *n = calloc(1, sizeof *n);
    if (!n)
        return JPT_FAIL(err, NOMEM, "out of memory for a meter");
    m->state = n;
    const char *path = opt->nvml_library ? opt->nvml_library : getenv("JPT_NVML_LIB");
    if (!path || !*path)
        path = "libnvidia-ml.so.1";
    n->lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!n->lib)
        return JPT_FAIL(err, METER, "no NVML: %s", dlerror());
    symbol(n, "nvmlInit_v2", &n->init);
    symbol(n, "nvmlShutdown", &n->shutdown);
    symbol(n, "nvmlErrorString", &n->error_string);
    symbol(n, "nvmlDeviceGetCount_v2", &n->count);
    symbol(n, "nvmlDeviceGetHandleByIndex_v2", &n->by_index);
    symbol(n, "nvmlDeviceGetName", &n->device_name);
    symbol(n, "nvmlDeviceGetTotalEnergyConsumption", &n->energy);
    symbol(n, "nvmlDeviceGetFieldValues", &n->fields);
    if (!n->init || !n->shutdown || !n->count || !n->by_index)
        return JPT_FAIL(err, METER, "NVML: %s lacks the functions jpt needs", path);
    int rc = n->init();
    if (rc != NVML_SUCCESS)
        return JPT_FAIL(err, METER, "NVML does not start: %s", text_of(n, rc));
    n->initialised = true;
    unsigned count = 0;
    rc = n->count(&count);
    if (rc != NVML_SUCCESS || count == 0)
        return JPT_FAIL(err, METER, "NVML sees no GPU%s%s", rc ? ": " : "", rc ? text_of(n, rc) : "");
    if (opt->gpu < 0 || (unsigned)opt->gpu >= count)
        return JPT_FAIL(err, METER, "NVML sees %u GPU%s; there is no GPU %d", count, count == 1 ? "" : "s", opt->gpu);
    rc = n->by_index((unsigned)opt->gpu, &n->device);
    if (rc != NVML_SUCCESS)
        return JPT_FAIL(err, METER, "NVML: GPU %d: %s", opt->gpu, text_of(n, rc));
    char name[96] = "GPU";
    if (n->device_name && n->device_name(n->device, name, sizeof name) != NVML_SUCCESS)
        snprintf(name, sizeof name, "GPU");
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "GPU %d (%.80s), board; not the host", opt->gpu, name);
    return JPT_OK;
}

/* ---- counter ---------------------------------------------------------------------------------------------- */

static jpt_status counter_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    nvml              *n = m->state;
    unsigned long long mj = 0;
    int                rc = n->energy(n->device, &mj);
    if (rc != NVML_SUCCESS)
        return JPT_FAIL(err, METER, "NVML energy counter: %s", text_of(n, rc));
    *energy_j = (double)mj * 1e-3;
    return JPT_OK;
}

/* Median gap between changes of the counter, watching for at most a second. */
static double counter_step(jpt_meter *m) {
    enum { N = 5 };
    double gap[N], last, value, changed = NAN, until = jpt_now_s() + 1;
    int    n = 0;
    if (counter_read(m, &last, NULL) != JPT_OK)
        return NAN;
    while (n < N && jpt_now_s() < until && counter_read(m, &value, NULL) == JPT_OK) {
        double now = jpt_now_s();
        if (value == last)
            continue;
        if (!isnan(changed))
            gap[n++] = now - changed;
        changed = now;
        last = value;
    }
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && gap[k] < gap[k - 1]; k--) {
            double t = gap[k];
            gap[k] = gap[k - 1];
            gap[k - 1] = t;
        }
    return n ? gap[n / 2] : NAN;
}

static jpt_status counter_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    double     first;
    jpt_status st = nvml_start(m, opt, err);
    nvml      *n = m->state;
    if (st == JPT_OK && !n->energy)
        st = JPT_FAIL(err, METER, "this NVML has no energy counter; use --meter nvml_instant_integral");
    if (st == JPT_OK)
        st = counter_read(m, &first, err);
    if (st != JPT_OK) {
        nvml_close(m);
        return st;
    }
    double step = counter_step(m);
    m->limits.step_s = isnan(step) ? 0.1 : step;
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy, "steps every %.0f ms%s; the board's sensor is good to about 5 %%, constant on one card",
             m->limits.step_s * 1e3, isnan(step) ? " (assumed: it did not move in a second)" : "");
    return JPT_OK;
}

const meter_ops meter_nvml_counter = {JPT_METER_NVML_COUNTER, counter_open, counter_read, nvml_close};

/* ---- instant power ------------------------------------------------------------------------------------------ */

static bool instant_power(nvml *n, double *w) {
    field_value f = {.field_id = FI_POWER_INSTANT};
    int         rc = n->fields(n->device, 1, &f);
    if (rc != NVML_SUCCESS || f.status != NVML_SUCCESS) {
        snprintf(n->why, sizeof n->why, "NVML POWER_INSTANT: %s", text_of(n, rc != NVML_SUCCESS ? rc : f.status));
        return false;
    }
    double mw;
    switch (f.value_type) {
    case VALUE_DOUBLE: mw = f.value.d; break;
    case VALUE_UINT: mw = (double)f.value.ui; break;
    case VALUE_ULONG: mw = (double)f.value.ul; break;
    case VALUE_ULONGLONG: mw = (double)f.value.ull; break;
    case VALUE_LONGLONG: mw = (double)f.value.ll; break;
    case VALUE_INT: mw = (double)f.value.i; break;
    default:
        snprintf(n->why, sizeof n->why, "NVML POWER_INSTANT: value type %d is unknown", f.value_type);
        return false;
    }
    *w = mw * 1e-3;
    return true;
}

/* Add the trapezoid since the last sample.  Called with the mutex held. */
static bool take_sample(nvml *n) {
    double t0 = jpt_now_s(), w;
    if (!instant_power(n, &w)) {
        n->n_failed++;
        return false;
    }
    double t = 0.5 * (t0 + jpt_now_s());
    if (n->last_t > 0) {
        n->joules += 0.5 * (n->last_w + w) * (t - n->last_t);
        n->largest_gap_s = fmax(n->largest_gap_s, t - n->last_t);
    }
    n->last_t = t;
    n->last_w = w;
    return true;
}

static void *sampler_main(void *ud) {
    nvml *n = ud;
    while (!atomic_load(&n->stop)) {
        struct timespec ts = {0, (long)(n->period_s * 1e9)};
        nanosleep(&ts, NULL);
        pthread_mutex_lock(&n->mutex);
        take_sample(n);
        pthread_mutex_unlock(&n->mutex);
    }
    return NULL;
}

static jpt_status instant_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    nvml *n = m->state;
    pthread_mutex_lock(&n->mutex);
    bool   ok = take_sample(n);
    double gap = n->largest_gap_s;
    *energy_j = n->joules;
    n->largest_gap_s = 0;
    pthread_mutex_unlock(&n->mutex);
    if (!ok)
        return JPT_FAIL(err, METER, "%s", n->why);
    if (gap > 25 * n->period_s && gap > 0.5)
        return JPT_FAIL(err, METER, "the power sampler was starved: a gap of %.2f s", gap);
    return JPT_OK;
}

static jpt_status instant_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    jpt_status st = nvml_start(m, opt, err);
    nvml      *n = m->state;
    double     w;
    if (st == JPT_OK && !n->fields)
        st = JPT_FAIL(err, METER, "this NVML has no field values");
    if (st == JPT_OK && !instant_power(n, &w))
        st = JPT_FAIL(err, METER, "%s", n->why);
    if (st == JPT_OK) {
        n->period_s = opt->sample_period_s > 0 && opt->sample_period_s < 1 ? opt->sample_period_s : 0.02;
        pthread_mutex_init(&n->mutex, NULL);
        take_sample(n);
        n->has_thread = pthread_create(&n->thread, NULL, sampler_main, n) == 0;
        if (!n->has_thread) {
            pthread_mutex_destroy(&n->mutex);
            st = JPT_FAIL(err, METER, "cannot start the power sampler's thread");
        }
    }
    if (st != JPT_OK) {
        nvml_close(m);
        return st;
    }
    m->limits.step_s = 0.1;
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy,
             "POWER_INSTANT every %.0f ms; on A100 and H100 it looks at 25 ms of each 100; sensor about 5 %%", n->period_s * 1e3);
    return JPT_OK;
}

const meter_ops meter_nvml_instant = {JPT_METER_NVML_INSTANT, instant_open, instant_read, nvml_close};
