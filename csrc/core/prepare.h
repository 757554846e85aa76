/* Weights in a kernel's own form (prepare_gemm_s8 in isa/isa.h), made when a session first runs the step. */
#ifndef EDGEZIP_PREPARE_H
#define EDGEZIP_PREPARE_H

#include "ops/op.h"

/* Bytes that a step's weights may take, a multiple of 64; 0 where the kernel reads what is packed. The step is verified. */
size_t ez_prepared_room(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels);

/* Writes them to `out`, on 64 bytes; returns what they took, a multiple of 64. */
size_t ez_prepare(const ez_run *run, uint8_t *out);

#endif
