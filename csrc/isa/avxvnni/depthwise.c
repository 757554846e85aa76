/* int8 depthwise with vpdpbusd on ymm: four taps a lane. */
#include "isa/avxvnni/avxvnni.h"

#include <immintrin.h>

#define EZ_T 4
#define EZ_TWO_LINES 0
#define EZ_DEPTHWISE_NAME ez_avxvnni_depthwise_s8
#define EZ_COLUMN(x, out) dwords_of(x, out)
#define EZ_DOT(acc, x, w) _mm256_dpbusd_avx_epi32(acc, x, w)
#define EZ_WEIGHTS(dwords, part) (dwords)

/* Four vectors of bytes in 16-bit lanes -> dwords of the four: channels 0-3 8-11, and 4-7 12-15. */
static inline void dwords_of(const __m256i x[4], __m256i out[2]) {
  const __m256i low = _mm256_or_si256(x[0], _mm256_slli_epi16(x[1], 8)), high = _mm256_or_si256(x[2], _mm256_slli_epi16(x[3], 8));
  out[0] = _mm256_unpacklo_epi16(low, high);
  out[1] = _mm256_unpackhi_epi16(low, high);
}

#include "isa/avx2/depthwise_columns.inc"
