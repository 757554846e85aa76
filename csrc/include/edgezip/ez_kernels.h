/* Parts of the runtime that tests and kernel benchmarks call, such as one step on the caller's arrays. Not part of the public API. */
#ifndef EDGEZIP_EZ_KERNELS_H
#define EDGEZIP_EZ_KERNELS_H

#include "edgezip/ez.h"

/* cffi-begin */

/* Check and run one step. `step` is an ez_step, `tensors` n_tensors ez_tensor records (ez_format.h); data[i] holds the elements
 * of tensor i, readable EZ_OVERREAD bytes past its end. `repeats` runs are made; *ns, if not NULL, receives the shortest.
 * `isa` as in ez_session_options. */
ez_status ez_kernel_step(const char *isa, uint32_t layout, uint32_t act_sign, int32_t threads, const void *step, const void *tensors,
                         uint32_t n_tensors, void *const *data, int32_t repeats, uint64_t *ns, ez_error *error);

/* What an affinity text of ez_session_options means on the machine whose sysfs is below `root`, for a process that may use the CPUs of the
 * list `allowed` ("0-7"). `text` (64 bytes) receives what ez_session_affinity would give. */
ez_status ez_affinity_of(const char *affinity, const char *root, const char *allowed, char *text, ez_error *error);

/* The checksum of a program's sections, by the processor's instructions (where it has them) or by tables. */
uint32_t ez_crc32_by(int32_t is_table, const void *bytes, size_t size);

/* cffi-end */

#endif
