/* Thread pool: see pool.h.  A generation counter announces work; chunks are taken from an atomic counter. */
#include <jpt/pool.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPIN_NS = 40000, MAX_THREADS = 1024 };

typedef struct worker {
    jpt_pool *pool;
    int32_t   index;
    pthread_t thread;
} worker;

struct jpt_pool {
    int             n_threads, n_started;
    worker         *workers; /* n_threads - 1 */
    jpt_pool_fn     fn;
    void           *ud;
    int32_t         n_chunks;
    atomic_int      next_chunk, n_running, n_sleeping;
    atomic_uint     generation;
    atomic_bool     stop;
    pthread_mutex_t mutex;
    pthread_cond_t  wake;
};

static void work(jpt_pool *p, int32_t thread) {
    int32_t chunk;
    while ((chunk = atomic_fetch_add(&p->next_chunk, 1)) < p->n_chunks)
        p->fn(p->ud, chunk, thread);
}

/* Wait for a generation other than `seen`: spin, then sleep. */
static unsigned await_work(jpt_pool *p, unsigned seen) {
    int64_t until = jpt_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            unsigned g = atomic_load(&p->generation);
            if (g != seen)
                return g;
            jpt_cpu_relax();
        }
    } while (jpt_now_ns() < until);
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_sleeping, 1);
    while (atomic_load(&p->generation) == seen)
        pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->n_sleeping, 1);
    pthread_mutex_unlock(&p->mutex);
    return atomic_load(&p->generation);
}

static void *worker_main(void *ud) {
    worker   *w = ud;
    jpt_pool *p = w->pool;
    for (unsigned seen = 0;;) {
        seen = await_work(p, seen);
        if (atomic_load(&p->stop))
            return NULL;
        work(p, w->index);
        atomic_fetch_sub(&p->n_running, 1);
    }
}

static void announce(jpt_pool *p) {
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->n_sleeping)) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
}

int jpt_cpu_count(void) {
    cpu_set_t set;
    int       n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? n : 1;
}

jpt_status jpt_pool_open(int n_threads, jpt_pool **out, jpt_error *err) {
    if (n_threads <= 0)
        n_threads = jpt_cpu_count();
    if (n_threads > MAX_THREADS)
        n_threads = MAX_THREADS;
    jpt_pool *p = calloc(1, sizeof *p);
    worker   *w = calloc((size_t)n_threads, sizeof *w);
    if (!p || !w) {
        free(p);
        free(w);
        return JPT_FAIL(err, NOMEM, "out of memory for %d threads", n_threads);
    }
    p->workers = w;
    p->n_threads = n_threads;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (; p->n_started < n_threads - 1; p->n_started++) {
        worker *x = &w[p->n_started];
        x->pool = p;
        x->index = p->n_started + 1;
        if (pthread_create(&x->thread, NULL, worker_main, x) != 0) {
            jpt_pool_close(p);
            return JPT_FAIL(err, NOMEM, "cannot start %d threads; try --threads with a smaller number", n_threads);
        }
    }
    *out = p;
    return JPT_OK;
}

void jpt_pool_close(jpt_pool *p) {
    if (!p)
        return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->generation, 1);
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->wake);
    free(p->workers);
    free(p);
}

int jpt_pool_threads(const jpt_pool *p) { return p->n_threads; }

void jpt_pool_run(jpt_pool *p, jpt_pool_fn fn, void *ud, int32_t n_chunks) {
    if (p->n_threads == 1 || n_chunks <= 1) {
        for (int32_t c = 0; c < n_chunks; c++)
            fn(ud, c, 0);
        return;
    }
    p->fn = fn;
    p->ud = ud;
    p->n_chunks = n_chunks;
    atomic_store(&p->n_running, p->n_threads - 1);
    atomic_store(&p->next_chunk, 0);
    announce(p);
    work(p, 0);
    for (int spins = 0; atomic_load(&p->n_running) > 0; spins++)
        if (spins > 20000)
            sched_yield(); /* a worker has lost its processor */
        else
            jpt_cpu_relax();
}
