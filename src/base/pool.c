/* Thread pool: see pool.h.  A generation counter announces work; chunks are taken from an atomic counter.
 *
 * A worker enters a piece of work or comes too late: who runs it closes the door when no chunk is left and waits only for
 * those inside.  So a worker without a processor (two jpt on one machine) holds up nothing but the chunk it has taken. */
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
    atomic_int      next_chunk, n_sleeping;
    _Atomic uint64_t state;   /* generation * GENERATION + (OPEN) + workers inside */
    atomic_bool     stop, waiting; /* waiting: the caller sleeps until the last worker leaves */
    pthread_mutex_t mutex;
    pthread_cond_t  wake, left;
};

#define OPEN       (UINT64_C(1) << 31)
#define GENERATION (UINT64_C(1) << 32)
static uint32_t generation_of(uint64_t state) { return (uint32_t)(state >> 32); }
static uint32_t inside(uint64_t state) { return (uint32_t)(state & (OPEN - 1)); }

static void work(jpt_pool *p, int32_t thread) {
    int32_t chunk;
    while ((chunk = atomic_fetch_add(&p->next_chunk, 1)) < p->n_chunks)
        p->fn(p->ud, chunk, thread);
}

/* Wait for a generation other than `seen`: spin, then sleep. */
static uint32_t await_work(jpt_pool *p, uint32_t seen) {
    int64_t until = jpt_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            uint32_t g = generation_of(atomic_load(&p->state));
            if (g != seen)
                return g;
            jpt_cpu_relax();
        }
    } while (jpt_now_ns() < until);
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_sleeping, 1);
    while (generation_of(atomic_load(&p->state)) == seen)
        pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->n_sleeping, 1);
    pthread_mutex_unlock(&p->mutex);
    return generation_of(atomic_load(&p->state));
}

static bool enter(jpt_pool *p, uint32_t generation) {
    uint64_t state = atomic_load(&p->state);
    while (generation_of(state) == generation && (state & OPEN))
        if (atomic_compare_exchange_weak(&p->state, &state, state + 1))
            return true;
    return false;
}

static void leave(jpt_pool *p) {
    uint64_t state = atomic_fetch_sub(&p->state, 1);
    if (inside(state) == 1 && !(state & OPEN) && atomic_load(&p->waiting)) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_signal(&p->left);
        pthread_mutex_unlock(&p->mutex);
    }
}

/* Nobody else comes in; wait for those inside: spin, then sleep. */
static void close_door(jpt_pool *p) {
    atomic_fetch_and(&p->state, ~OPEN);
    for (int64_t until = 0; inside(atomic_load(&p->state));) {
        for (int i = 0; i < 64 && inside(atomic_load(&p->state)); i++)
            jpt_cpu_relax();
        int64_t now = jpt_now_ns();
        until = until ? until : now + SPIN_NS;
        if (now < until)
            continue;
        pthread_mutex_lock(&p->mutex);
        atomic_store(&p->waiting, true);
        while (inside(atomic_load(&p->state)))
            pthread_cond_wait(&p->left, &p->mutex);
        atomic_store(&p->waiting, false);
        pthread_mutex_unlock(&p->mutex);
    }
}

static void *worker_main(void *ud) {
    worker   *w = ud;
    jpt_pool *p = w->pool;
    for (uint32_t seen = 0;;) {
        seen = await_work(p, seen);
        if (atomic_load(&p->stop))
            return NULL;
        if (enter(p, seen)) {
            work(p, w->index);
            leave(p);
        }
    }
}

static void announce(jpt_pool *p, uint64_t open) {
    uint64_t state = atomic_load(&p->state);
    atomic_store(&p->state, (state & ~(GENERATION - 1)) + GENERATION + open);
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
    pthread_cond_init(&p->left, NULL);
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
    announce(p, 0);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->left);
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
    atomic_store(&p->next_chunk, 0);
    announce(p, OPEN);
    work(p, 0);
    close_door(p);
}
