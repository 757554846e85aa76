/* A table of 256 bytes by vpshufb, 16 entries a look-up.
 *
 * vpshufb gives zero for an index whose top bit is set. Row k of the table (entries 16 k ..) is kept as its difference (XOR) to the row
 * before, and the index goes down by 16 a row, saturating, so that it stays negative once it is: the differences of rows 0 .. x / 16 are
 * what is left, and their XOR is the entry. One chain for the lower half of the table, one for the upper. 1.6 times as fast as loads of
 * single bytes (Sapphire Rapids VM, one core, 2026-11-24). */
#include <immintrin.h>

#include "isa/avx2/rows.h"

void ez_avx2_table_s8(const uint8_t *x, const uint8_t *table, uint8_t *y, size_t n) {
  __m256i low[8], high[8];
  __m128i before_low = _mm_setzero_si128(), before_high = before_low;
  for (int k = 0; k < 8; k++) {
    const __m128i l = _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * k));
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(table + 128 + 16 * k));
    low[k] = _mm256_broadcastsi128_si256(_mm_xor_si128(l, before_low));
    high[k] = _mm256_broadcastsi128_si256(_mm_xor_si128(h, before_high));
    before_low = l, before_high = h;
  }
  const __m256i row = _mm256_set1_epi8(16), top = _mm256_set1_epi8((char)0x80);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(x + i)), b = _mm256_xor_si256(a, top);
    __m256i of_low = _mm256_shuffle_epi8(low[0], a), of_high = _mm256_shuffle_epi8(high[0], b);
#pragma GCC unroll 7
    for (int k = 1; k < 8; k++) {
      a = _mm256_subs_epi8(a, row), b = _mm256_subs_epi8(b, row);
      of_low = _mm256_xor_si256(of_low, _mm256_shuffle_epi8(low[k], a));
      of_high = _mm256_xor_si256(of_high, _mm256_shuffle_epi8(high[k], b));
    }
    _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_xor_si256(of_low, of_high));
  }
  for (; i < n; i++) y[i] = table[x[i]];
}
