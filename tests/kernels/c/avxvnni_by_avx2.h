/* vpdpbusd by AVX2, exactly: so that the AVX-VNNI folder is checked on a processor without it. Included before its sources. */
#ifndef AVXVNNI_BY_AVX2_H
#define AVXVNNI_BY_AVX2_H

#include <immintrin.h>

static inline __m256i dpbusd_by_avx2(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
  const __m256i even_x = _mm256_and_si256(unsigned_bytes, _mm256_set1_epi16(255)), odd_x = _mm256_srli_epi16(unsigned_bytes, 8);
  const __m256i even_w = _mm256_srai_epi16(_mm256_slli_epi16(signed_bytes, 8), 8), odd_w = _mm256_srai_epi16(signed_bytes, 8);
  return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(even_x, even_w), _mm256_madd_epi16(odd_x, odd_w)));
}
#define _mm256_dpbusd_avx_epi32 dpbusd_by_avx2

#endif
