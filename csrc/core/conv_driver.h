/* Convolution, Gemm and constant MatMul: blocking, tails and threads, around the product kernels of an ISA table. */
#ifndef EDGEZIP_CONV_DRIVER_H
#define EDGEZIP_CONV_DRIVER_H

#include "ops/op.h"

/* Scratch that one thread needs; 0 when it does not fit 64 bits. Does not depend on the ISA. */
uint64_t ez_conv_scratch_bytes(const ez_conv_params *params, const ez_tensor *x, const ez_tensor *y, uint32_t layout, int has_post_ops);
void ez_conv_run(const ez_run *run);

#endif
