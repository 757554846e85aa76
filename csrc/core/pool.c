#include "core/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/futex.h"

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb" ::: "memory") /* about 10 ns; `yield` is nothing on most cores */
#else
#define PAUSE() ((void)0)
#endif
#define TURNS_PER_LOOK 16 /* turns of a spin loop between two looks at the clock */
#define CHUNKS_PER_THREAD 8

/* IDLE -> ASLEEP by the worker; either -> ASSIGNED by the caller; ASSIGNED -> RUNNING by the worker, or back to IDLE by the
 * caller when nothing is left to do; RUNNING -> AWAITED by a caller that goes to sleep; either -> IDLE by the worker. */
enum { IDLE, ASLEEP, ASSIGNED, RUNNING, AWAITED, STOP };

/* One thread, on a cache line of its own: the caller hands over a round by touching nothing else. The fields of the round are written while
 * the worker is not RUNNING. Entry 0 is the caller. */
typedef struct ez_worker {
  _Alignas(64) atomic_uint state;
  atomic_uint next; /* first item of its share that nobody took */
  uint32_t end;
  uint32_t chunk;
  int32_t threads; /* of this round */
  int32_t index;
  ez_pool_fn fn;
  void *context;
  ez_pool *pool;
  pthread_t handle;
} ez_worker;

struct ez_pool {
  int32_t threads, limit, started;
  uint64_t spin_ns;
  ez_affinity affinity;
  ez_worker workers[EZ_MAX_THREADS];
};

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned state_of(const ez_worker *worker) { return atomic_load_explicit(&worker->state, memory_order_acquire); }

static int change(ez_worker *worker, unsigned from, unsigned to) {
  return atomic_compare_exchange_strong_explicit(&worker->state, &from, to, memory_order_acq_rel, memory_order_acquire);
}

/* Looks until the state is neither `a` nor `b`, for the pool's spin time; the state at last. */
static unsigned spin_while(const ez_worker *worker, unsigned a, unsigned b) {
  const uint64_t spin_ns = worker->pool->spin_ns, end = spin_ns ? now_ns() + spin_ns : 0;
  unsigned state = state_of(worker);
  while ((state == a || state == b) && spin_ns) {
    for (int turn = 0; turn < TURNS_PER_LOOK && (state == a || state == b); turn++) {
      PAUSE();
      state = state_of(worker);
    }
    if (now_ns() > end) break;
  }
  return state;
}

static unsigned wait_for_round(ez_worker *worker) {
  for (;;) {
    const unsigned state = spin_while(worker, IDLE, IDLE);
    if (state == ASSIGNED || state == STOP) return state;
    if (!change(worker, IDLE, ASLEEP)) continue;
    while (state_of(worker) == ASLEEP) ez_futex_wait(&worker->state, ASLEEP);
  }
}

static void take_share(ez_worker *from, const ez_worker *mine) {
  const uint32_t chunk = mine->chunk;
  for (;;) {
    if (atomic_load_explicit(&from->next, memory_order_relaxed) >= from->end) return;
    const uint32_t first = atomic_fetch_add_explicit(&from->next, chunk, memory_order_relaxed);
    const uint32_t end = from->end;
    for (uint32_t item = first; item < end && item - first < chunk; item++) mine->fn(mine->context, (int32_t)item, mine->index);
  }
}

/* Its own share first, then what others have left. Shares are the same from step to step, so that a thread finds the part of the image that
 * it wrote in its own cache: with one counter for all, 2 threads made depthwise steps of EfficientNet-Lite0 no faster (2026-11-24). */
static void take_items(ez_worker *mine) {
  for (int32_t turn = 0; turn < mine->threads; turn++) take_share(&mine->pool->workers[(mine->index + turn) % mine->threads], mine);
}

static void *work(void *argument) {
  ez_worker *worker = argument;
  ez_affinity_bind(&worker->pool->affinity, worker->index);
  for (;;) {
    if (wait_for_round(worker) == STOP) return NULL;
    if (!change(worker, ASSIGNED, RUNNING)) continue; /* sent back in this moment */
    take_items(worker);
    if (atomic_exchange_explicit(&worker->state, IDLE, memory_order_acq_rel) == AWAITED) ez_futex_wake(&worker->state);
  }
}

static void give(ez_worker *worker, unsigned state) {
  if (atomic_exchange_explicit(&worker->state, state, memory_order_acq_rel) == ASLEEP) ez_futex_wake(&worker->state);
}

/* Kernels keep tiles on the stack, up to 80 KiB; musl's threads have 128 KiB unless told otherwise. */
#define STACK_BYTES (1024 * 1024)

static int start(ez_worker *worker) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return -1;
  int failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
  if (!failed) failed = pthread_create(&worker->handle, &attributes, work, worker);
  pthread_attr_destroy(&attributes);
  return failed;
}

ez_pool *ez_pool_create(int32_t threads, int32_t spin_us, const ez_affinity *affinity) {
  if (threads < 1 || threads > EZ_MAX_THREADS || spin_us < 0) return NULL;
  ez_pool *pool = aligned_alloc(64, sizeof *pool);
  if (!pool) return NULL;
  memset(pool, 0, sizeof *pool);
  pool->threads = pool->limit = threads;
  pool->spin_ns = (uint64_t)spin_us * 1000;
  if (affinity) pool->affinity = *affinity;
  for (int32_t i = 0; i < threads; i++) {
    ez_worker *worker = &pool->workers[i];
    worker->pool = pool;
    worker->index = i;
    if (i == 0) continue;
    if (start(worker)) {
      ez_pool_destroy(pool);
      return NULL;
    }
    pool->started++;
  }
  return pool;
}

void ez_pool_destroy(ez_pool *pool) {
  if (!pool) return;
  for (int32_t i = 1; i <= pool->started; i++) give(&pool->workers[i], STOP);
  for (int32_t i = 1; i <= pool->started; i++) pthread_join(pool->workers[i].handle, NULL);
  free(pool);
}

void ez_pool_limit(ez_pool *pool, int32_t threads) { pool->limit = threads; }
int32_t ez_pool_threads(const ez_pool *pool) { return pool->limit; }

/* Back to IDLE: sent back, or waited for. */
static void retire(ez_worker *worker) {
  if (change(worker, ASSIGNED, IDLE)) return;
  if (spin_while(worker, RUNNING, RUNNING) != RUNNING || !change(worker, RUNNING, AWAITED)) return;
  while (state_of(worker) == AWAITED) ez_futex_wait(&worker->state, AWAITED);
}

void ez_pool_run(ez_pool *pool, int32_t items, ez_pool_fn fn, void *context) {
  const int32_t threads = items < pool->limit ? items : pool->limit;
  if (threads <= 1) {
    for (int32_t item = 0; item < items; item++) fn(context, item, 0);
    return;
  }
  const uint32_t pieces = (uint32_t)threads * CHUNKS_PER_THREAD, chunk = ((uint32_t)items + pieces - 1) / pieces;
  for (int32_t i = 0; i < threads; i++) {
    ez_worker *worker = &pool->workers[i];
    const uint32_t first = (uint32_t)((int64_t)items * i / threads);
    worker->end = (uint32_t)((int64_t)items * (i + 1) / threads);
    worker->chunk = chunk;
    worker->threads = threads;
    worker->fn = fn;
    worker->context = context;
    atomic_store_explicit(&worker->next, first, memory_order_relaxed);
  }
  for (int32_t i = 1; i < threads; i++) give(&pool->workers[i], ASSIGNED);
  take_items(&pool->workers[0]);
  for (int32_t i = 1; i < threads; i++) retire(&pool->workers[i]);
}
