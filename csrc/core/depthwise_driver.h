/* Depthwise convolution: blocks of pixels, all channels, around the depthwise kernels of an ISA table. */
#ifndef EDGEZIP_DEPTHWISE_DRIVER_H
#define EDGEZIP_DEPTHWISE_DRIVER_H

#include "ops/op.h"

uint64_t ez_depthwise_scratch_bytes(const ez_conv_params *params, const ez_tensor *x, int has_residual);
void ez_depthwise_run(const ez_run *run);

#endif
