/* How long a step will take, roughly: enough to decide how many threads are worth waking for it. */
#ifndef EDGEZIP_WORK_H
#define EDGEZIP_WORK_H

#include "ops/op.h"

/* A step shorter than this stays on one thread, unless the session's options say otherwise; each thread of a longer one gets at least
 * half of it. EZ_SOLO_US is where two threads begin to win (csrc/core/work.c has the measurement). */
#define EZ_SOLO_US 10

/* Microseconds on one thread of a core like those that the ISA table's rates were measured on; within a factor of about 3. */
double ez_step_work_us(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels);

/* 1 .. most: threads for a step of that length. */
int32_t ez_step_threads(double work_us, double solo_us, int32_t most);

#endif
