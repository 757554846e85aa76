/* int8 3x3 convolutions of stride 1 by Winograd's tiles, where the kernels of the ISA have them. */
#ifndef EDGEZIP_WINOGRAD_DRIVER_H
#define EDGEZIP_WINOGRAD_DRIVER_H

#include "ops/op.h"

/* Whether a verified step goes by tiles. */
int ez_winograd_serves(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels);

/* Scratch a thread needs for it, which no program knows of: the kernels are chosen when a session is created. 0 for other steps. */
uint64_t ez_winograd_scratch_bytes(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels);

void ez_winograd_run(const ez_run *run);

#endif
