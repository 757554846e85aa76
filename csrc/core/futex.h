/* Sleeping until a word changes: futex on Linux, one mutex and condition for all elsewhere (or with EZ_NO_FUTEX). */
#ifndef EDGEZIP_FUTEX_H
#define EDGEZIP_FUTEX_H

#include <stdatomic.h>

/* Sleeps while *word == value. May return early: the caller looks again. */
void ez_futex_wait(atomic_uint *word, unsigned value);
/* Wakes whoever sleeps on `word`, after it was changed. */
void ez_futex_wake(atomic_uint *word);

#endif
