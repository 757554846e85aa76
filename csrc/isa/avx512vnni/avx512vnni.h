/* Kernels of this folder. Activations are unsigned bytes (act_sign 0x80), weights K4N16. */
#ifndef EDGEZIP_AVX512VNNI_H
#define EDGEZIP_AVX512VNNI_H

#include <immintrin.h>

#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

void ez_avx512vnni_gemm_s8(const ez_gemm_s8_args *args);
void ez_avx512vnni_blocks_s8(const ez_gemm_s8_args *args);
void ez_avx512vnni_gemm_f32(const ez_gemm_f32_args *args);
void ez_avx512vnni_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *args);

#endif
