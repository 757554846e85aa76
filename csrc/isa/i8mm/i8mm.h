/* Kernels for ARMv8.6 with int8 matrix products (A510, A710, X2, Neoverse N2 and V1). Activations are signed bytes (act_sign 0), weights
 * K8N16. */
#ifndef EDGEZIP_I8MM_H
#define EDGEZIP_I8MM_H

#include "isa/neon/neon.h"

void ez_i8mm_gemm_s8(const ez_gemm_s8_args *args);
void ez_i8mm_blocks_s8(const ez_gemm_s8_args *args);
void ez_i8mm_depthwise_s8(const ez_depthwise_s8_args *args);

#endif
