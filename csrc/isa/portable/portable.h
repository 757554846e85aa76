/* Kernels in plain C: the end of every chain. */
#ifndef EDGEZIP_ISA_PORTABLE_H
#define EDGEZIP_ISA_PORTABLE_H

#include "isa/isa.h"

void ez_portable_gemm_s8(const ez_gemm_s8_args *args);
void ez_portable_gemm_f32(const ez_gemm_f32_args *args);
void ez_portable_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_portable_depthwise_f32(const ez_depthwise_f32_args *args);
extern const ez_rows ez_rows_portable; /* rows.c */

#endif
