/* Row kernels by hand, for every ISA of ARM. Contracts: ez_rows in isa/isa.h. */
#ifndef EDGEZIP_NEON_ROWS_H
#define EDGEZIP_NEON_ROWS_H

#include "isa/isa.h"

void ez_neon_quantize(const float *x, uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi);
void ez_neon_quantize_planes(const float *const planes[3], uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi);

#define EZ_NEON_OWN_ROWS .quantize = ez_neon_quantize, .quantize_planes = ez_neon_quantize_planes

#endif
