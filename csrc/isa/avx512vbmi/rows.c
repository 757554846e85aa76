/* A table of 256 bytes stands in four registers: two look-ups of 128 entries and a blend by the top bit, 4 cycles for 64 bytes
 * (loads of single bytes: 64). */
#include <immintrin.h>

#include "isa/isa.h"

static inline __m512i look_up(__m512i x, const __m512i t[4]) {
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), _mm512_permutex2var_epi8(t[0], x, t[1]), _mm512_permutex2var_epi8(t[2], x, t[3]));
}

static void table_s8(const uint8_t *x, const uint8_t *table, uint8_t *y, size_t n) {
  __m512i t[4];
  for (int i = 0; i < 4; i++) t[i] = _mm512_loadu_si512(table + 64 * i);
  size_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, look_up(_mm512_loadu_si512(x + i), t));
  if (i < n) {
    const __mmask64 rest = (1ull << (n - i)) - 1;
    _mm512_mask_storeu_epi8(y + i, rest, look_up(_mm512_maskz_loadu_epi8(rest, x + i), t));
  }
}

extern const ez_rows ez_rows_avx512vbmi;
const ez_rows ez_rows_avx512vbmi = {.table_s8 = table_s8};
