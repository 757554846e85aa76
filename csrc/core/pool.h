/* Threads of a session: created once, asleep between jobs, woken for a list of items.
 *
 * Items are taken by an atomic counter, so which thread runs which item is not fixed; items must be independent, and then the
 * result does not depend on the number of threads. The calling thread works too, as thread 0.
 */
#ifndef EDGEZIP_POOL_H
#define EDGEZIP_POOL_H

#include <stdint.h>

#include "edgezip/ez.h"

#define EZ_MAX_THREADS 64

typedef struct ez_pool ez_pool;

/* threads 1..64 counts the caller. EZ_BAD_ARGUMENT, EZ_NO_MEMORY, or EZ_BAD_ENVIRONMENT when a thread cannot be started. */
ez_status ez_pool_create(int32_t threads, ez_pool **out, ez_error *error);
/* NULL is allowed. */
void ez_pool_destroy(ez_pool *pool);
/* 1 for NULL. */
int32_t ez_pool_threads(const ez_pool *pool);
/* Calls fn(ctx, item, thread) for each item in [0, n_items), thread in [0, threads); returns when all are done. A NULL pool or
 * a single item runs in the caller. Not reentrant: fn must not call ez_pool_run on the same pool. */
void ez_pool_run(ez_pool *pool, int32_t n_items, void (*fn)(void *ctx, int32_t item, int32_t thread), void *ctx);

#endif
