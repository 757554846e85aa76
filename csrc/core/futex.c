#include "core/futex.h"

#include <limits.h>
#include <stddef.h>

#if defined(__linux__) && !defined(EZ_NO_FUTEX)
#include <sys/syscall.h>
#include <unistd.h>

enum { WAIT = 0 | 128, WAKE = 1 | 128 }; /* Linux uapi: FUTEX_WAIT and FUTEX_WAKE with FUTEX_PRIVATE_FLAG */
_Static_assert(sizeof(atomic_uint) == 4, "the kernel compares 32 bits");

void ez_futex_wait(atomic_uint *word, unsigned value) { syscall(SYS_futex, word, WAIT, value, NULL, NULL, 0); }
void ez_futex_wake(atomic_uint *word) { syscall(SYS_futex, word, WAKE, INT_MAX, NULL, NULL, 0); }

#else
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void ez_futex_wait(atomic_uint *word, unsigned value) {
  pthread_mutex_lock(&mutex);
  while (atomic_load(word) == value) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
}

void ez_futex_wake(atomic_uint *word) {
  (void)word;
  pthread_mutex_lock(&mutex);
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
}
#endif
