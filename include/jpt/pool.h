/* A fixed pool of threads for short parallel steps.
 *
 * Workers wait by spinning for a few microseconds and then sleep, so that a chain of small steps stays fast
 * and two processes on one machine do not burn each other's time.  Work is split by chunk number, never by
 * thread, so results cannot depend on the number of threads.  Nothing is allocated per call. */
#ifndef JPT_POOL_H
#define JPT_POOL_H

#include <jpt/base.h>

typedef struct jpt_pool jpt_pool;

/* chunk: 0 <= chunk < n_chunks, each run once; thread: 0 <= thread < jpt_pool_threads, for scratch. */
typedef void (*jpt_pool_fn)(void *ud, int32_t chunk, int32_t thread);

/* n_threads 0: the processors this process may run on.  The caller is one of the threads. */
jpt_status jpt_pool_open(int n_threads, jpt_pool **out, jpt_error *err);
void       jpt_pool_close(jpt_pool *p); /* NULL accepted */
int        jpt_pool_threads(const jpt_pool *p);

/* Run fn for every chunk and return when all are done.  One caller at a time. */
void jpt_pool_run(jpt_pool *p, jpt_pool_fn fn, void *ud, int32_t n_chunks);

/* Processors this process may run on (affinity mask), at least 1. */
int jpt_cpu_count(void);

#endif
