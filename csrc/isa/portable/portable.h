/* Kernels in plain C: the end of every chain. */
#ifndef EDGEZIP_ISA_PORTABLE_H
#define EDGEZIP_ISA_PORTABLE_H

#include "isa/codes.h"
#include "isa/isa.h"

void ez_portable_gemm_s8(const ez_gemm_s8_args *args);
void ez_portable_blocks_s8(const ez_gemm_s8_args *args);
/* Sums of columns n0 .. n0 + 15 of a row, with their bias: what follows them in either product. */
void ez_portable_store_row(const ez_gemm_s8_args *args, const int32_t *acc, int32_t row, int32_t n0);
void ez_portable_gemm_f32(const ez_gemm_f32_args *args);
void ez_portable_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_portable_depthwise_f32(const ez_depthwise_f32_args *args);
extern const ez_rows ez_rows_portable; /* rows.c */

extern const ez_codes_kernels ez_portable_codes; /* codes.c */

#endif
