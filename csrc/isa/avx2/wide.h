/* Products in 16 bits: vpmaddwd on operands that were widened before. */
#ifndef EDGEZIP_AVX2_WIDE_H
#define EDGEZIP_AVX2_WIDE_H

#include "isa/avx2/avx2.h"

#define EZ_WIDE_ROWS 6 /* the most of one register block */

EZ_INLINE __m256i ez_four_bytes(const uint8_t *at) {
  int32_t four;
  memcpy(&four, at, 4);
  return _mm256_set1_epi32(four);
}

/* Else gcc 12 adds the products of successive steps to each other first, or gives the epilogue's constants registers that the loop needs. */
EZ_INLINE void ez_keep(__m256i acc[EZ_WIDE_ROWS][2], const int R) {
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) __asm__("" : "+x"(acc[r][0]), "+x"(acc[r][1]));
}

/* `steps` steps of 4 k of a panel's 16 columns: wide[k] holds the words (w0, w2) of columns 0-7 and 8-15, then (w1, w3). Row r has the
 * words (x0, x2) of each step at x + r * pitch, (x1, x3) `odd` bytes further. */
EZ_INLINE void ez_add_wide(__m256i acc[EZ_WIDE_ROWS][2], const __m256i (*wide)[4], int32_t steps, const uint8_t *x, size_t pitch, size_t odd,
                           const int R) {
  for (int32_t k = 0; k < steps; k++, x += 4) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const __m256i b0 = wide[k][2 * half], b1 = wide[k][2 * half + 1];
      const uint8_t *at = x + (half ? odd : 0);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m256i two = ez_four_bytes(at + (size_t)r * pitch);
        acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(two, b0));
        acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(two, b1));
      }
      ez_keep(acc, R);
    }
  }
}

/* 32 bytes as the words of their even and odd places. */
EZ_INLINE __m256i ez_even_words(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi16(0xff)); }
EZ_INLINE __m256i ez_odd_words(__m256i x) { return _mm256_srli_epi16(x, 8); }

/* The same of signed weights. */
EZ_INLINE __m256i ez_even_weights(__m256i w) { return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8); }
EZ_INLINE __m256i ez_odd_weights(__m256i w) { return _mm256_srai_epi16(w, 8); }

#endif
