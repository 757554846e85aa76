/* One step on the caller's arrays, without a program file: what tests and kernel benchmarks call. Not part of the public API. */
#ifndef EDGEZIP_EZ_KERNELS_H
#define EDGEZIP_EZ_KERNELS_H

#include "edgezip/ez.h"

/* cffi-begin */

/* Check and run one step. `step` is an ez_step, `tensors` n_tensors ez_tensor records (ez_format.h); data[i] holds the elements
 * of tensor i, readable EZ_OVERREAD bytes past its end. `repeats` runs are made; *ns, if not NULL, receives the shortest.
 * `isa` as in ez_session_options. */
ez_status ez_kernel_step(const char *isa, uint32_t layout, uint32_t act_sign, int32_t threads, const void *step, const void *tensors,
                         uint32_t n_tensors, void *const *data, int32_t repeats, uint64_t *ns, ez_error *error);

/* cffi-end */

#endif
