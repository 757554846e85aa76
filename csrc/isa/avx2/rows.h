/* Hand-written row kernels of this folder (contracts: ez_rows in isa/isa.h); wider x86 tables use some of them too. */
#ifndef EDGEZIP_AVX2_ROWS_H
#define EDGEZIP_AVX2_ROWS_H

#include "isa/isa.h"

void ez_avx2_table_s8(const uint8_t *x, const uint8_t *table, uint8_t *y, size_t n);
void ez_avx2_softmax_s8(const uint8_t *x, const float *table, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zy);
void ez_avx2_turn_8(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step, size_t rows, size_t columns);
void ez_avx2_turn_32(const void *in, size_t in_step, void *out, size_t out_step, size_t rows, size_t columns);

#endif
