/* The pool and the choice of CPUs where there is one thread: everything runs in the caller. Instead of pool.c, affinity.c, futex.c. */
#include "core/affinity.h"
#include "core/pool.h"

struct ez_pool {
  int32_t threads;
};

static ez_pool only = {1};

ez_pool *ez_pool_create(int32_t threads, int32_t spin_us, const ez_affinity *affinity) {
  (void)spin_us;
  (void)affinity;
  return threads == 1 ? &only : NULL;
}

void ez_pool_destroy(ez_pool *pool) { (void)pool; }
void ez_pool_limit(ez_pool *pool, int32_t threads) {
  (void)pool;
  (void)threads;
}
int32_t ez_pool_threads(const ez_pool *pool) { return pool->threads; }

void ez_pool_run(ez_pool *pool, int32_t items, ez_pool_fn fn, void *context) {
  (void)pool;
  for (int32_t item = 0; item < items; item++) fn(context, item, 0);
}

ez_cpu_set ez_cpus_allowed(void) { return (ez_cpu_set){{0}}; }

ez_status ez_affinity_resolve(const char *wanted, const char *root, const ez_cpu_set *allowed, ez_affinity *out, ez_error *error) {
  (void)wanted;
  (void)root;
  (void)allowed;
  (void)error;
  *out = (ez_affinity){.text = "none"};
  return EZ_OK;
}

void ez_affinity_bind(const ez_affinity *affinity, int32_t index) {
  (void)affinity;
  (void)index;
}
ez_cpu_set ez_affinity_enter(const ez_affinity *affinity) {
  (void)affinity;
  return (ez_cpu_set){{0}};
}
void ez_affinity_leave(const ez_cpu_set *before) { (void)before; }
