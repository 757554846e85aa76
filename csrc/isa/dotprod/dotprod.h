/* Kernels for ARMv8.2 with dot product (A55, A76 and later). Activations are signed bytes (act_sign 0), weights K4N16. */
#ifndef EDGEZIP_DOTPROD_H
#define EDGEZIP_DOTPROD_H

#include "isa/codes.h"
#include "isa/neon/neon.h"

void ez_dotprod_gemm_s8(const ez_gemm_s8_args *args);
void ez_dotprod_blocks_s8(const ez_gemm_s8_args *args);
void ez_dotprod_depthwise_s8(const ez_depthwise_s8_args *args);

extern const ez_codes_kernels ez_dotprod_codes; /* codes.c */

#endif
