/* The int8 product of a few rows: weights are read once, nothing is copied. */
#ifndef EDGEZIP_AVX2_FEW_ROWS_H
#define EDGEZIP_AVX2_FEW_ROWS_H

#include "isa/isa.h"

#define EZ_AVX2_FEW_ROWS 5 /* the most rows that it is meant for; it takes any number */

void ez_avx2_gemm_s8_few(const ez_gemm_s8_args *args);

#endif
