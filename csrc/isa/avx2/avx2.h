/* Kernels of this folder. Activations are unsigned bytes (act_sign 0x80), weights K4N16. vpmaddubsw is used
 * only where it cannot saturate (gemm_s8.c, gemm_s8_few.c), else products are formed in 16 bits (vpmaddwd after widening). */
#ifndef EDGEZIP_AVX2_H
#define EDGEZIP_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "isa/codes.h"
#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

void ez_avx2_gemm_s8(const ez_gemm_s8_args *args);
void ez_avx2_blocks_s8(const ez_gemm_s8_args *args);
void ez_avx2_winograd_s8(const ez_winograd_s8_args *args);
size_t ez_avx2_winograd_scratch(int32_t tiles, int32_t channels);
void ez_avx2_gemm_f32(const ez_gemm_f32_args *args);
void ez_avx2_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_avx2_depthwise_f32(const ez_depthwise_f32_args *args);

typedef struct ez_requant256 {
  __m256 lo, hi;
  __m256i zero_point;
} ez_requant256;

EZ_INLINE ez_requant256 ez_requant256_of(int32_t lo, int32_t hi, int32_t zero_point) {
  return (ez_requant256){_mm256_set1_ps((float)(lo - zero_point)), _mm256_set1_ps((float)(hi - zero_point)), _mm256_set1_epi32(zero_point)};
}

EZ_INLINE __m256i ez_requant256_apply(const ez_requant256 *q, __m256i acc, __m256 mult) {
  __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), mult);
  t = _mm256_min_ps(_mm256_max_ps(t, q->lo), q->hi);
  return _mm256_add_epi32(_mm256_cvtps_epi32(t), q->zero_point);
}

/* Four registers of (4 columns x 2 partial sums) -> 16 sums in order, bias added, requantised, as 16 stored bytes. */
EZ_INLINE __m128i ez_finish256(const ez_requant256 *q, const __m256i acc[4], const int32_t *bias, const float *mult) {
  __m256i half[2];
  for (int i = 0; i < 2; i++) {
    const __m256i pairs = _mm256_hadd_epi32(acc[2 * i], acc[2 * i + 1]); /* columns 0 1 4 5 | 2 3 6 7 */
    const __m256i sums = _mm256_permute4x64_epi64(pairs, 0xd8);
    const __m256i total = _mm256_add_epi32(sums, _mm256_loadu_si256((const __m256i *)(bias + 8 * i)));
    half[i] = ez_requant256_apply(q, total, _mm256_loadu_ps(mult + 8 * i));
  }
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(half[0], half[1]), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80));
}

EZ_INLINE void ez_store_bytes(uint8_t *y, __m128i bytes, int32_t left) {
  if (left >= 16) {
    _mm_storeu_si128((__m128i *)y, bytes);
    return;
  }
  uint8_t tail[16];
  _mm_storeu_si128((__m128i *)tail, bytes);
  memcpy(y, tail, (size_t)left);
}

EZ_INLINE void ez_store_floats(float *y, __m256 values, int32_t left) {
  if (left >= 8) {
    _mm256_storeu_ps(y, values);
    return;
  }
  float tail[8];
  _mm256_storeu_ps(tail, values);
  memcpy(y, tail, (size_t)left * sizeof(float));
}

extern const ez_codes_kernels ez_avx2_codes; /* codes.c */

#endif
