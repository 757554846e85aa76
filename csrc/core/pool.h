/* One thread pool per session. Work is a number of independent items; which thread takes which never changes a result.
 *
 * Each worker has a word of its own: the caller gives it the round there, so no lock is shared and only as many workers are
 * woken as there is work for. A worker without work spins for a moment, then sleeps. A worker that did not begin before the
 * items ran out is sent back: a sleeper that wakes slowly never makes a round longer. */
#ifndef EDGEZIP_POOL_H
#define EDGEZIP_POOL_H

#include <stdint.h>

#include "core/affinity.h"

#define EZ_MAX_THREADS 64
/* How long a worker without work looks for it before it sleeps. Longer than the steps of a network that run on one thread
 * (EZ_SOLO_US), so that a run wakes its workers once; short enough that an idle program burns nothing. */
#define EZ_SPIN_US 50

typedef struct ez_pool ez_pool;
typedef void (*ez_pool_fn)(void *context, int32_t item, int32_t thread);

/* `threads` counts the caller. Workers (not the caller) are bound as `affinity` says; NULL: not at all. spin_us 0: sleep at once.
 * NULL when memory or threads run out. */
ez_pool *ez_pool_create(int32_t threads, int32_t spin_us, const ez_affinity *affinity);
void ez_pool_destroy(ez_pool *pool);

/* Threads that ez_pool_run may use from now on: 1 .. those of ez_pool_create, which is also where it starts. */
void ez_pool_limit(ez_pool *pool, int32_t threads);
int32_t ez_pool_threads(const ez_pool *pool);

/* fn(context, item, thread) for every item in [0, items); returns when all are done. thread is in [0, threads) and unique
 * among concurrent calls. No allocation. One caller at a time. */
void ez_pool_run(ez_pool *pool, int32_t items, ez_pool_fn fn, void *context);

#endif
