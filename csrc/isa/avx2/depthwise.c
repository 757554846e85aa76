/* int8 depthwise in words: vpmaddubsw would saturate. */
#include "isa/avx2/avx2.h"

#define EZ_T 2
#define EZ_TWO_LINES 1
#define EZ_DEPTHWISE_NAME ez_avx2_depthwise_s8
#define EZ_COLUMN(x, out) ((out)[0] = _mm256_unpacklo_epi16((x)[0], (x)[1]), (out)[1] = _mm256_unpackhi_epi16((x)[0], (x)[1]))
#define EZ_DOT(acc, x, w) _mm256_add_epi32(acc, _mm256_madd_epi16(x, w))
#define EZ_WEIGHTS(dwords, part) words_of(_mm256_srli_epi32(dwords, 8 * (part)))

/* Bytes 0 and 1 of each dword, widened. */
static inline __m256i words_of(__m256i dwords) {
  const __m256i first = _mm256_srai_epi16(_mm256_slli_epi32(dwords, 8), 8), second = _mm256_srai_epi16(_mm256_slli_epi32(dwords, 16), 8);
  return _mm256_blend_epi16(first, second, 0xaa);
}

#include "isa/avx2/depthwise_columns.inc"
