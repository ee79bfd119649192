/* NVIDIA GPUs through NVML, loaded at run time with own declarations (the header is no Debian package; the ABI is
 * additive).  Two meters: the total energy counter (Volta and later), with POWER_INSTANT (field 186) sampled by a thread
 * beside it as second instrument, and the integral of those samples alone, for boards without the counter. */
#include "meter_priv.h"
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct nvml_device_handle *nvml_device;

enum { NVML_SUCCESS = 0, FI_POWER_INSTANT = 186, CLOCK_SM = 1, CLOCK_MEM = 2, RING = 1 << 16 };
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

/* nvmlProcessInfo_t of the _v3 call */
typedef struct process_info {
    unsigned           pid;
    unsigned long long memory;
    unsigned           gpu_instance, compute_instance;
} process_info;

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
    int (*by_uuid)(const char *, nvml_device *);
    int (*uuid)(nvml_device, char *, unsigned);
    int (*driver)(char *, unsigned);
    int (*power_limit)(nvml_device, unsigned *);
    int (*mig)(nvml_device, unsigned *, unsigned *);
    int (*temperature)(nvml_device, int, unsigned *);
    int (*clock)(nvml_device, int, unsigned *);
    int (*reasons)(nvml_device, unsigned long long *);
    int (*processes)(nvml_device, unsigned *, process_info *);
    bool          initialised;
    jpt_card_info card;
    /* sampler of power; everything below is under the mutex */
    pthread_t         thread;
    bool              has_thread, has_sampler;
    atomic_bool       stop;
    pthread_mutex_t   mutex;
    double            period_s, joules, last_t, last_w, largest_gap_s;
    jpt_power_sample *ring;    /* [RING], the newest at n_ring - 1 */
    size_t            n_ring;  /* ever taken */
    uint64_t          throttle; /* seen since the last look at the card */
    int               n_failed;
    char              why[160];
} nvml;

static const char *text_of(const nvml *n, int code) { return n->error_string ? n->error_string(code) : "unknown error"; }

static void nvml_close(jpt_meter *m) {
    nvml *n = m->state;
    if (!n)
        return;
    if (n->has_thread) {
        atomic_store(&n->stop, true);
        pthread_join(n->thread, NULL);
    }
    if (n->has_sampler)
        pthread_mutex_destroy(&n->mutex);
    free(n->ring);
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

static void describe(nvml *n) {
    unsigned mw, mig = 0, pending;
    n->card.power_limit_w = NAN;
    if (!n->device_name || n->device_name(n->device, n->card.name, sizeof n->card.name) != NVML_SUCCESS)
        snprintf(n->card.name, sizeof n->card.name, "GPU");
    if (!n->uuid || n->uuid(n->device, n->card.uuid, sizeof n->card.uuid) != NVML_SUCCESS)
        n->card.uuid[0] = '\0';
    if (!n->driver || n->driver(n->card.driver, sizeof n->card.driver) != NVML_SUCCESS)
        n->card.driver[0] = '\0';
    if (n->power_limit && n->power_limit(n->device, &mw) == NVML_SUCCESS)
        n->card.power_limit_w = mw * 1e-3;
    n->card.mig = n->mig && n->mig(n->device, &mig, &pending) == NVML_SUCCESS && mig == 1;
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
    symbol(n, "nvmlDeviceGetHandleByUUID", &n->by_uuid);
    symbol(n, "nvmlDeviceGetUUID", &n->uuid);
    symbol(n, "nvmlSystemGetDriverVersion", &n->driver);
    symbol(n, "nvmlDeviceGetEnforcedPowerLimit", &n->power_limit);
    symbol(n, "nvmlDeviceGetMigMode", &n->mig);
    symbol(n, "nvmlDeviceGetTemperature", &n->temperature);
    symbol(n, "nvmlDeviceGetClockInfo", &n->clock);
    symbol(n, "nvmlDeviceGetCurrentClocksThrottleReasons", &n->reasons);
    symbol(n, "nvmlDeviceGetComputeRunningProcesses_v3", &n->processes);
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
    bool named = opt->gpu_uuid && *opt->gpu_uuid && n->by_uuid;
    rc = named ? n->by_uuid(opt->gpu_uuid, &n->device) : n->by_index((unsigned)opt->gpu, &n->device);
    if (rc != NVML_SUCCESS)
        return named ? JPT_FAIL(err, METER, "NVML: GPU %s: %s", opt->gpu_uuid, text_of(n, rc)) : JPT_FAIL(err, METER, "NVML: GPU %d: %s", opt->gpu, text_of(n, rc));
    describe(n);
    if (n->card.mig)
        return JPT_FAIL(err, METER, "GPU %d is split by MIG and has one energy counter for all its parts; switch MIG off, or use --meter none", opt->gpu);
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "GPU %d (%.80s), board; not the host", opt->gpu, n->card.name);
    m->limits.second_lag_s = 0.0625; /* the field moves every 100 ms and is a mean over the 25 ms before: 50 + 12.5 */
    m->limits.shortest_s = 2;
    m->limits.short_s = 10;
    return JPT_OK;
}

static const jpt_card_info *nvml_card(const jpt_meter *m) { return &((const nvml *)m->state)->card; }

static double megahertz(nvml *n, int which) {
    unsigned mhz;
    return n->clock && n->clock(n->device, which, &mhz) == NVML_SUCCESS ? mhz : NAN;
}

/* In a container our own number is another one outside: then one of the processes is taken to be ours. */
static int32_t other_processes(nvml *n) {
    enum { MOST = 64 };
    process_info info[MOST];
    unsigned     count = MOST;
    if (!n->processes || n->processes(n->device, &count, info) != NVML_SUCCESS)
        return -1;
    return count > 0 ? (int32_t)count - 1 : 0;
}

static void nvml_card_state(jpt_meter *m, bool processes, jpt_card_state *out) {
    nvml              *n = m->state;
    unsigned           t;
    unsigned long long reasons;
    *out = (jpt_card_state){NAN, megahertz(n, CLOCK_SM), megahertz(n, CLOCK_MEM), 0, -1};
    if (n->temperature && n->temperature(n->device, 0, &t) == NVML_SUCCESS)
        out->temp_c = t;
    if (n->reasons && n->reasons(n->device, &reasons) == NVML_SUCCESS)
        out->throttle = reasons;
    if (n->has_sampler) {
        pthread_mutex_lock(&n->mutex);
        out->throttle |= n->throttle;
        n->throttle = 0;
        pthread_mutex_unlock(&n->mutex);
    }
    if (processes)
        out->others = other_processes(n);
}

/* ---- power ------------------------------------------------------------------------------------------------------ */

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
    if (!(mw > 0)) { /* seen under fast polling: no card that computes draws nothing */
        snprintf(n->why, sizeof n->why, "NVML POWER_INSTANT reads %g W", mw * 1e-3);
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
    n->ring[n->n_ring++ % RING] = (jpt_power_sample){t, w};
    unsigned long long reasons;
    if (n->reasons && n->reasons(n->device, &reasons) == NVML_SUCCESS)
        n->throttle |= reasons;
    return true;
}

static void nvml_poll(jpt_meter *m) {
    nvml *n = m->state;
    if (!n->has_sampler || n->has_thread || jpt_now_s() < n->last_t + n->period_s)
        return;
    if (pthread_mutex_trylock(&n->mutex) != 0) /* somebody is at it */
        return;
    take_sample(n);
    pthread_mutex_unlock(&n->mutex);
}

static size_t nvml_samples(jpt_meter *m, double t0, double t1, jpt_power_sample *out, size_t cap) {
    nvml  *n = m->state;
    size_t count = 0;
    if (!n->has_sampler)
        return 0;
    pthread_mutex_lock(&n->mutex);
    size_t first = n->n_ring > RING ? n->n_ring - RING : 0;
    while (first < n->n_ring && n->ring[first % RING].t_s < t0)
        first++;
    for (size_t i = first; i < n->n_ring && count < cap && n->ring[i % RING].t_s <= t1; i++)
        out[count++] = n->ring[i % RING];
    pthread_mutex_unlock(&n->mutex);
    return count;
}

static void *sampler_main(void *ud) {
    nvml *n = ud;
    while (!atomic_load(&n->stop)) {
        jpt_sleep_s(n->period_s);
        pthread_mutex_lock(&n->mutex);
        take_sample(n);
        pthread_mutex_unlock(&n->mutex);
    }
    return NULL;
}

static jpt_status start_sampler(nvml *n, double period_s, bool thread, jpt_error *err) {
    double w;
    if (!n->fields)
        return JPT_FAIL(err, METER, "this NVML has no field values");
    if (!instant_power(n, &w))
        return JPT_FAIL(err, METER, "%s", n->why);
    n->period_s = period_s;
    if (!(n->ring = malloc(RING * sizeof *n->ring)))
        return JPT_FAIL(err, NOMEM, "out of memory for power samples");
    pthread_mutex_init(&n->mutex, NULL);
    n->has_sampler = true;
    take_sample(n);
    n->has_thread = thread && pthread_create(&n->thread, NULL, sampler_main, n) == 0;
    return !thread || n->has_thread ? JPT_OK : JPT_FAIL(err, METER, "cannot start the power sampler's thread");
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
        if (value == last) {
            jpt_sleep_s(1e-4);
            continue;
        }
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
    double period = opt->sample_period_s > 0 && opt->sample_period_s < 1 ? opt->sample_period_s : 0.05;
    m->limits.second = start_sampler(n, period, !opt->no_thread, NULL) == JPT_OK; /* without it there is no cross-check */
    return JPT_OK;
}

const meter_ops meter_nvml_counter = {.kind = JPT_METER_NVML_COUNTER, .open = counter_open, .read = counter_read, .close = nvml_close, .poll = nvml_poll, .card = nvml_card,
                                      .card_state = nvml_card_state, .samples = nvml_samples};

/* ---- instant power ------------------------------------------------------------------------------------------ */

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
    if (st == JPT_OK)
        st = start_sampler(n, opt->sample_period_s > 0 && opt->sample_period_s < 1 ? opt->sample_period_s : 0.02, !opt->no_thread, err);
    if (st != JPT_OK) {
        nvml_close(m);
        return st;
    }
    m->limits.step_s = 0.1;
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy,
             "POWER_INSTANT every %.0f ms; on A100 and H100 it looks at 25 ms of each 100; sensor about 5 %%", n->period_s * 1e3);
    return JPT_OK;
}

const meter_ops meter_nvml_instant = {.kind = JPT_METER_NVML_INSTANT, .open = instant_open, .read = instant_read, .close = nvml_close, .poll = nvml_poll, .card = nvml_card,
                                      .card_state = nvml_card_state, .samples = nvml_samples};
