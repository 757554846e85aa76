/* Kernels of this folder. Activations are unsigned bytes (act_sign 0x80), weights K4N16. */
#ifndef EDGEZIP_AVX512VNNI_H
#define EDGEZIP_AVX512VNNI_H

#include <immintrin.h>

#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

void ez_avx512vnni_gemm_s8(const ez_gemm_s8_args *args);
void ez_avx512vnni_gemm_f32(const ez_gemm_f32_args *args);
void ez_avx512vnni_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *args);

/* The constants of one requantisation. `shift` turns steps into stored bytes: zero point plus 128, taken modulo 256. */
typedef struct ez_requant512 {
  __m512 lo, hi;
  __m512i shift;
} ez_requant512;

EZ_INLINE ez_requant512 ez_requant512_of(int32_t lo, int32_t hi, int32_t zero_point) {
  return (ez_requant512){_mm512_set1_ps((float)(lo - zero_point)), _mm512_set1_ps((float)(hi - zero_point)), _mm512_set1_epi32(zero_point + 128)};
}

/* Rule 4 without the narrowing: s32 sums -> s32 whose low byte is the stored byte. */
EZ_INLINE __m512i ez_requant512_apply(const ez_requant512 *q, __m512i acc, __m512 mult) {
  __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), mult);
  t = _mm512_min_ps(_mm512_max_ps(t, q->lo), q->hi);
  return _mm512_add_epi32(_mm512_cvtps_epi32(t), q->shift);
}

#endif
