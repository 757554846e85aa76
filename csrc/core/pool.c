#include "core/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define EZ_PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define EZ_PAUSE() __asm__ volatile("yield")
#else
#define EZ_PAUSE() ((void)0)
#endif

/* Turns of the spin loop before a worker sleeps: about 20 us, longer than the gap between two steps of a network and short
 * enough that an idle program burns nothing. */
#define EZ_SPINS 600

typedef struct ez_worker {
  ez_pool *pool;
  int32_t index;
} ez_worker;

struct ez_pool {
  int32_t threads, started;
  ez_pool_fn fn;
  void *context;
  int32_t items;
  atomic_int next;          /* next item to take */
  atomic_int busy;          /* workers that have not finished this round */
  atomic_uint round;        /* raised by one for each ez_pool_run */
  atomic_int stop;
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  pthread_t handles[EZ_MAX_THREADS];
  ez_worker workers[EZ_MAX_THREADS];
};

static void take_items(ez_pool *pool, int32_t thread) {
  for (;;) {
    const int32_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
    if (item >= pool->items) return;
    pool->fn(pool->context, item, thread);
  }
}

static unsigned wait_for_round(ez_pool *pool, unsigned seen) {
  for (int spin = 0; spin < EZ_SPINS; spin++) {
    const unsigned now = atomic_load_explicit(&pool->round, memory_order_acquire);
    if (now != seen) return now;
    EZ_PAUSE();
  }
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load_explicit(&pool->round, memory_order_acquire) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
  return atomic_load_explicit(&pool->round, memory_order_acquire);
}

static void *work(void *argument) {
  ez_worker *worker = argument;
  ez_pool *pool = worker->pool;
  unsigned seen = 0;
  for (;;) {
    seen = wait_for_round(pool, seen);
    if (atomic_load_explicit(&pool->stop, memory_order_acquire)) return NULL;
    take_items(pool, worker->index);
    if (atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_acq_rel) == 1) {
      pthread_mutex_lock(&pool->mutex);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->mutex);
    }
  }
}

static void next_round(ez_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add_explicit(&pool->round, 1, memory_order_release);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

ez_pool *ez_pool_create(int32_t threads) {
  if (threads < 1 || threads > EZ_MAX_THREADS) return NULL;
  ez_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pool->threads = threads;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pthread_cond_init(&pool->done, NULL);
  for (int32_t i = 1; i < threads; i++) {
    pool->workers[i] = (ez_worker){pool, i};
    if (pthread_create(&pool->handles[i], NULL, work, &pool->workers[i])) {
      ez_pool_destroy(pool);
      return NULL;
    }
    pool->started++;
  }
  return pool;
}

void ez_pool_destroy(ez_pool *pool) {
  if (!pool) return;
  atomic_store_explicit(&pool->stop, 1, memory_order_release);
  next_round(pool);
  for (int32_t i = 1; i <= pool->started; i++) pthread_join(pool->handles[i], NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->mutex);
  free(pool);
}

int32_t ez_pool_threads(const ez_pool *pool) { return pool->threads; }

static void wait_for_workers(ez_pool *pool) {
  for (int spin = 0; spin < EZ_SPINS; spin++) {
    if (atomic_load_explicit(&pool->busy, memory_order_acquire) == 0) return;
    EZ_PAUSE();
  }
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load_explicit(&pool->busy, memory_order_acquire) != 0) pthread_cond_wait(&pool->done, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
}

void ez_pool_run(ez_pool *pool, int32_t items, ez_pool_fn fn, void *context) {
  if (pool->threads == 1 || items <= 1) {
    for (int32_t item = 0; item < items; item++) fn(context, item, 0);
    return;
  }
  pool->fn = fn;
  pool->context = context;
  pool->items = items;
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->busy, pool->threads - 1, memory_order_relaxed);
  next_round(pool);
  take_items(pool, 0);
  wait_for_workers(pool);
}
