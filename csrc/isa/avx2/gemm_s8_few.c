/* A few rows: nothing may be spent on a panel that is read once, so the activation is split instead of the weights sorted.
 * x = 2 * (x >> 1) + (x & 1): |(x >> 1) * w| of a pair is at most 2 * 127 * 127 = 32258, so vpmaddubsw cannot saturate, and
 * vpmaddwd by two doubles it; the low bits add at most 254 a step and pair, 128 steps of which fit 16 bits. */
#include "isa/avx2/avx2.h"
#include "isa/avx2/few_rows.h"
#include "isa/avx2/requant.h"

#define LOW_STEPS 128

typedef struct few_sums {
  __m256i high[2], low[2]; /* 32-bit sums of columns 0-7 and 8-15; 16-bit pairs of the low bits */
} few_sums;

EZ_INLINE void add_step(few_sums *sums, const uint8_t *x, const __m256i b[2]) {
  int32_t four;
  memcpy(&four, x, 4);
  const __m256i bytes = _mm256_set1_epi32(four);
  const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi8(1));
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 1), _mm256_set1_epi8(0x7f));
  for (int i = 0; i < 2; i++) {
    const __m256i pairs = _mm256_maddubs_epi16(high, b[i]);
    sums->high[i] = _mm256_add_epi32(sums->high[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(2)));
    sums->low[i] = _mm256_add_epi16(sums->low[i], _mm256_maddubs_epi16(low, b[i]));
  }
}

EZ_INLINE void flush_low(few_sums *sums) {
  for (int i = 0; i < 2; i++) {
    sums->high[i] = _mm256_add_epi32(sums->high[i], _mm256_madd_epi16(sums->low[i], _mm256_set1_epi16(1)));
    sums->low[i] = _mm256_setzero_si256();
  }
}

/* R rows by P panels. */
EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, int32_t n0, const int R, const int P) {
  few_sums sums[2][2];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++)
      for (int i = 0; i < 2; i++) {
        sums[r][p].high[i] = _mm256_loadu_si256((const __m256i *)(const void *)(g->bias + n0 + 16 * p + 8 * i));
        sums[r][p].low[i] = _mm256_setzero_si256();
      }
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes;
  const size_t panel_bytes = g->panel_bytes, tap_bytes = ((size_t)g->channels + 3) / 4 * 4;
  const uint8_t *const *rows = g->a + row0;
  size_t left = LOW_STEPS;
  for (int32_t t = 0; t < g->taps; t++, rows += g->a_stride)
    for (size_t k = 0; k < tap_bytes;) {
      const size_t steps = (tap_bytes - k) / 4 < left ? (tap_bytes - k) / 4 : left, end = k + 4 * steps;
      left -= steps;
      for (; k < end; k += 4, w += 64)
        for (int p = 0; p < P; p++) {
          const __m256i *at = (const __m256i *)(const void *)(w + (size_t)p * panel_bytes);
          const __m256i b[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
          for (int r = 0; r < R; r++) add_step(&sums[r][p], rows[r] + k, b);
        }
      if (left) continue;
      left = LOW_STEPS;
      for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++) flush_low(&sums[r][p]);
    }
  for (int p = 0; p < P; p++) {
    const int32_t n = n0 + 16 * p;
    const ez_requant_rows q = ez_requant_rows_of(g, g->mult + n);
    __m256i acc[2][2];
    for (int r = 0; r < R; r++) {
      flush_low(&sums[r][p]);
      acc[r][0] = sums[r][p].high[0], acc[r][1] = sums[r][p].high[1];
    }
    if (g->y_f32)
      ez_store_float_panel(g, acc, row0, n, R);
    else
      ez_store_panel(&q, acc, g->y + (size_t)row0 * g->y_stride + n, g->y_stride, g->columns - n, R, 0);
  }
}

void ez_avx2_gemm_s8_few(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16;
  int32_t p = 0;
  if (g->rows == 1)
    for (; p + 2 <= panels; p += 2) block(g, 0, 16 * p, 1, 2);
  for (; p < panels; p++) {
    int32_t row = 0;
    for (; row + 2 <= g->rows; row += 2) block(g, row, 16 * p, 2, 1);
    if (row < g->rows) block(g, row, 16 * p, 1, 1);
  }
}
