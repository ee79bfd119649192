/* Intel and AMD RAPL through the kernel's powercap files: one zone a package, and DRAM where it is a sub-zone.
 * energy_uj wraps at max_energy_range_uj; since Linux 5.10 only root may read it (PLATYPUS). */
#include "meter_priv.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ZONES_MAX = 64 };

typedef struct zone {
    char     path[512]; /* energy_uj */
    uint64_t range_uj, last_uj;
} zone;

/* A counter of 65 kJ wraps in minutes, and two readings cannot tell one wrap from two: a keeper thread reads often enough,
 * whatever the windows do. */
enum { MOST_WATTS = 4000 };

typedef struct rapl {
    zone            zone[ZONES_MAX];
    int             n;
    uint64_t        total_uj;
    pthread_t       keeper;
    bool            kept, stop;
    double          period_s;
    pthread_mutex_t lock;
    pthread_cond_t  wake;
} rapl;

static jpt_status read_u64(const char *path, uint64_t *out, jpt_error *err) {
    FILE *f = fopen(path, "r");
    if (!f)
        return JPT_FAIL(err, METER, "%s: %s%s", path, strerror(errno), errno == EACCES ? " (RAPL is for root only; run as root or relax the file's permissions)" : "");
    unsigned long long v;
    int                ok = fscanf(f, "%llu", &v);
    fclose(f);
    if (ok != 1)
        return JPT_FAIL(err, METER, "%s: holds no number", path);
    *out = v;
    return JPT_OK;
}

/* "package-0", "dram", ... of a zone folder; empty when absent. */
static void zone_name(const char *folder, char out[64]) {
    char path[600];
    snprintf(path, sizeof path, "%s/name", folder);
    FILE *f = fopen(path, "r");
    out[0] = '\0';
    if (f && fgets(out, 64, f))
        out[strcspn(out, "\n")] = '\0';
    if (f)
        fclose(f);
}

static jpt_status add_zone(rapl *r, const char *folder, jpt_error *err) {
    if (r->n == ZONES_MAX)
        return JPT_FAIL(err, METER, "more than %d RAPL zones", ZONES_MAX);
    zone *z = &r->zone[r->n];
    char  range[600];
    snprintf(z->path, sizeof z->path, "%.480s/energy_uj", folder);
    snprintf(range, sizeof range, "%.480s/max_energy_range_uj", folder);
    JPT_TRY(read_u64(range, &z->range_uj, err));
    JPT_TRY(read_u64(z->path, &z->last_uj, err));
    if (z->range_uj == 0)
        return JPT_FAIL(err, METER, "%s: is 0", range);
    r->n++;
    return JPT_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static jpt_status find_zones(rapl *r, const char *root, int *n_dram, jpt_error *err) {
    DIR  *d = opendir(root);
    char *name[256];
    int   n = 0;
    if (!d)
        return JPT_FAIL(err, METER, "no RAPL: %s: %s", root, strerror(errno));
    for (struct dirent *e; (e = readdir(d)) && n < 256;)
        if (strncmp(e->d_name, "intel-rapl:", 11) == 0 && (name[n] = strdup(e->d_name)))
            n++;
    closedir(d);
    qsort(name, (size_t)n, sizeof *name, by_name);
    jpt_status st = JPT_OK;
    for (int i = 0; i < n; i++) {
        char folder[512], kind[64];
        snprintf(folder, sizeof folder, "%.240s/%.200s", root, name[i]);
        zone_name(folder, kind);
        bool top = strchr(name[i] + 11, ':') == NULL;
        bool package = top && strncmp(kind, "package-", 8) == 0; /* not psys, which holds the packages again */
        bool dram = !top && strcmp(kind, "dram") == 0;
        if (st == JPT_OK && (package || dram)) {
            st = add_zone(r, folder, err);
            *n_dram += dram;
        }
        free(name[i]);
    }
    if (st == JPT_OK && r->n == 0)
        st = JPT_FAIL(err, METER, "no RAPL: %s has no package zone", root);
    return st;
}

static jpt_status add_up(rapl *r, jpt_error *err) {
    for (int i = 0; i < r->n; i++) {
        uint64_t now;
        JPT_TRY(read_u64(r->zone[i].path, &now, err));
        uint64_t last = r->zone[i].last_uj;
        r->total_uj += now >= last ? now - last : now + (r->zone[i].range_uj - last);
        r->zone[i].last_uj = now;
    }
    return JPT_OK;
}

static void *keep_up(void *arg) {
    rapl *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        double at = (double)until.tv_sec + 1e-9 * (double)until.tv_nsec + r->period_s;
        until.tv_sec = (time_t)at;
        until.tv_nsec = (long)((at - (double)until.tv_sec) * 1e9);
        pthread_cond_timedwait(&r->wake, &r->lock, &until);
        (void)add_up(r, NULL); /* a failure shows at the next reading */
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void rapl_close(jpt_meter *m) {
    rapl *r = m->state;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    if (r->kept)
        pthread_join(r->keeper, NULL);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static jpt_status rapl_open(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err) {
    int   n_dram = 0;
    rapl *r = calloc(1, sizeof *r);
    if (!r)
        return JPT_FAIL(err, NOMEM, "out of memory for a meter");
    jpt_status st = find_zones(r, opt->powercap_root ? opt->powercap_root : "/sys/class/powercap", &n_dram, err);
    if (st != JPT_OK) {
        free(r);
        return st;
    }
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < r->n; i++)
        least = r->zone[i].range_uj < least ? r->zone[i].range_uj : least;
    r->period_s = (double)least * 1e-6 / MOST_WATTS / 2;
    r->period_s = r->period_s < 0.02 ? 0.02 : r->period_s > 10 ? 10 : r->period_s;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wake, NULL);
    r->kept = pthread_create(&r->keeper, NULL, keep_up, r) == 0;
    m->state = r;
    m->limits.step_s = 0.001;
    snprintf(m->limits.coverage, sizeof m->limits.coverage, "%d CPU package%s%s; not GPU, board, disks or power supply", r->n - n_dram,
             r->n - n_dram == 1 ? "" : "s", n_dram ? " and DRAM" : " (no DRAM zone)");
    snprintf(m->limits.accuracy, sizeof m->limits.accuracy, "counter of the whole package: other processes are in it");
    return JPT_OK;
}

static jpt_status rapl_read(jpt_meter *m, double *energy_j, jpt_error *err) {
    rapl *r = m->state;
    pthread_mutex_lock(&r->lock);
    jpt_status st = r->kept ? add_up(r, err) : JPT_FAIL(err, METER, "RAPL: no thread to watch the counter's wrap");
    *energy_j = st == JPT_OK ? (double)r->total_uj * 1e-6 : NAN;
    pthread_mutex_unlock(&r->lock);
    return st;
}

const meter_ops meter_rapl = {.kind = JPT_METER_RAPL, .open = rapl_open, .read = rapl_read, .close = rapl_close};
