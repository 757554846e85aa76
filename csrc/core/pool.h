/* One thread pool per session. Work is a number of independent items; which thread takes which never changes a result. */
#ifndef EDGEZIP_POOL_H
#define EDGEZIP_POOL_H

#include <stdint.h>

#define EZ_MAX_THREADS 64

typedef struct ez_pool ez_pool;
typedef void (*ez_pool_fn)(void *context, int32_t item, int32_t thread);

/* `threads` counts the caller. NULL when memory or threads run out. */
ez_pool *ez_pool_create(int32_t threads);
void ez_pool_destroy(ez_pool *pool);
int32_t ez_pool_threads(const ez_pool *pool);

/* fn(context, item, thread) for every item in [0, items); returns when all are done. thread is in [0, threads) and unique
 * among concurrent calls. No allocation. One caller at a time. */
void ez_pool_run(ez_pool *pool, int32_t items, ez_pool_fn fn, void *context);

#endif
