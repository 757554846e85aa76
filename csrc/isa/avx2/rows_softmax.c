/* Softmax of long rows of bytes: at most 256 numbers and results, so tables by stored byte are made once a row. Sixteen chains of sums
 * (core/sums.h) stay in registers, an addition from memory each; the results are looked up 32 at a time. */
#include <immintrin.h>
#include <string.h>

#include "core/sums.h"
#include "isa/avx2/rows.h"

#define LEAST 256 /* elements; the tables are not worth it for fewer */

extern const ez_rows ez_rows_avx2;

/* The largest of n >= 32 bytes after `flip`. */
static uint8_t largest_of(const uint8_t *x, size_t n, uint8_t flip) {
  const __m256i flips = _mm256_set1_epi8((char)flip);
  __m256i most = _mm256_setzero_si256();
  for (size_t i = 0; i < n; i += 32) {
    const size_t at = i + 32 <= n ? i : n - 32;
    most = _mm256_max_epu8(most, _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + at)), flips));
  }
  uint8_t bytes[32], largest = 0;
  _mm256_storeu_si256((__m256i *)(void *)bytes, most);
  for (int i = 0; i < 32; i++) largest = bytes[i] > largest ? bytes[i] : largest;
  return largest;
}

static float sum_of(const uint8_t *x, const float *of_byte, size_t n) {
  float lanes[16] = {0};
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
#pragma GCC unroll 16
    for (int lane = 0; lane < 16; lane++) {
      lanes[lane] += of_byte[x[i + (size_t)lane]];
      __asm__("" : "+x"(lanes[lane])); /* else gcc 12 gathers, which takes twice as long */
    }
  for (size_t lane = 0; i < n; i++, lane++) lanes[lane] += of_byte[x[i]];
  return ez_sum_of_lanes(lanes);
}

/* rne(clamp((table[d] / sum) * m)) + zy as a stored byte, for every d. */
static void results_of(const float *table, float sum, float m, int32_t zy, uint8_t flip, uint8_t *results) {
  const __m256 by = _mm256_set1_ps(m), all = _mm256_set1_ps(sum), low = _mm256_set1_ps((float)(-128 - zy)), high = _mm256_set1_ps((float)(127 - zy));
  for (int d = 0; d < 256; d += 8) {
    const __m256 t = _mm256_mul_ps(_mm256_div_ps(_mm256_loadu_ps(table + d), all), by);
    int32_t steps[8];
    _mm256_storeu_si256((__m256i *)(void *)steps, _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(t, low), high)));
    for (int i = 0; i < 8; i++) results[d + i] = (uint8_t)((uint8_t)(steps[i] + zy + 128) ^ flip);
  }
}

void ez_avx2_softmax_s8(const uint8_t *x, const float *table, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zy) {
  if (n < LEAST) {
    ez_rows_avx2.softmax_s8(x, table, y, n, act_sign, m, zy);
    return;
  }
  const uint8_t flip = (uint8_t)(act_sign ^ 0x80u), largest = largest_of(x, n, flip);
  float number[256];
  uint8_t result[256], of_byte[256];
  for (int v = 0; v <= largest; v++) number[(uint8_t)v ^ flip] = table[largest - v];
  results_of(table, sum_of(x, number, n), m, zy, flip, result);
  memset(of_byte, 0, sizeof of_byte);
  for (int v = 0; v <= largest; v++) of_byte[(uint8_t)v ^ flip] = result[largest - v];
  ez_avx2_table_s8(x, of_byte, y, n);
}
