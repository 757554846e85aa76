/* The thread pool under load: every item once, threads told apart, waking, sleeping, sending back; built plain and with sanitizers.
 *
 *   pool_check [--rounds N] [--plant race]
 *
 * Exit code 0 when all rounds were right. --plant race lets two threads add to one plain counter: ThreadSanitizer must see it. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/pool.h"

#define MOST_ITEMS 2000

static uint64_t state = 88172645463325252ull;
static uint32_t draw(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static int plant_race;
static uint64_t shared_sum; /* only written when a race is planted */

typedef struct job {
  uint32_t given; /* what the caller wrote before the round: workers must see it */
  int32_t limit;
  uint32_t seen[MOST_ITEMS]; /* plain memory: an item is written by one thread, and read by the caller after the round */
  atomic_int inside[EZ_MAX_THREADS], wrong;
} job;

static void item(void *context, int32_t index, int32_t thread) {
  job *j = context;
  if (thread < 0 || thread >= j->limit || atomic_fetch_add(&j->inside[thread], 1)) atomic_fetch_add(&j->wrong, 1);
  j->seen[index] += j->given + (uint32_t)index;
  if (plant_race) shared_sum += j->given;
  atomic_fetch_sub(&j->inside[thread], 1);
}

static int check_round(ez_pool *pool, job *j, int32_t items, int32_t limit) {
  memset(j->seen, 0, sizeof j->seen);
  j->given = draw();
  j->limit = limit;
  ez_pool_limit(pool, limit);
  ez_pool_run(pool, items, item, j);
  int wrong = atomic_load(&j->wrong);
  for (int32_t i = 0; i < MOST_ITEMS; i++) wrong += j->seen[i] != (i < items ? j->given + (uint32_t)i : 0);
  return wrong;
}

static void nap(long ns) { nanosleep(&(struct timespec){.tv_nsec = ns}, NULL); }

static int check_pool(int32_t threads, int32_t spin_us, int rounds) {
  static job j;
  ez_pool *pool = ez_pool_create(threads, spin_us, NULL);
  if (!pool) return 1;
  int wrong = 0;
  for (int i = 0; i < rounds; i++) {
    if (draw() % 16 == 0) nap(draw() % 200000); /* workers fall asleep, or are about to */
    wrong += check_round(pool, &j, (int32_t)(draw() % (draw() % 2 ? 8 : MOST_ITEMS)), 1 + (int32_t)(draw() % (uint32_t)threads));
  }
  ez_pool_destroy(pool);
  return wrong;
}

int main(int argc, char **argv) {
  int rounds = 300;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--rounds")) rounds = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--plant")) plant_race = !strcmp(argv[i + 1], "race");
  }
  int wrong = 0;
  static const int32_t spins[] = {0, 1, 50, 2000};
  for (int32_t threads = 1; threads <= 8; threads++)
    for (int s = 0; s < 4; s++) wrong += check_pool(threads, spins[s], rounds);
  for (int i = 0; i < 50; i++) wrong += check_pool(1 + (int32_t)(draw() % 8), 50, (int)(draw() % 3)); /* made and unmade, hardly used */
  wrong += ez_pool_create(0, 0, NULL) != NULL || ez_pool_create(EZ_MAX_THREADS + 1, 0, NULL) != NULL || ez_pool_create(2, -1, NULL) != NULL;
  printf("wrong=%d sum=%llu\n", wrong, (unsigned long long)shared_sum);
  return wrong != 0;
}
