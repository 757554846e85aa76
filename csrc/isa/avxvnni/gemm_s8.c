/* int8 product with vpdpbusd on ymm: 6 rows by one panel (12 accumulators, 2 registers of weights, 1 of activations); fewer rows than 4
 * take more panels at once, so that 8 chains or more hide the latency of five cycles.
 * 196x256x256 with requantisation: 339 GOPS, 49x512x512: 379, of 388-400 that registers alone reach (Sapphire Rapids VM, one core, 2026-11-24). */
#include "isa/avxvnni/avxvnni.h"

#include "isa/avx2/requant.h"

#define MAX_ROWS 6

EZ_INLINE void store_block(const ez_gemm_s8_args *g, int32_t row0, int32_t n0, const int R, const int P, __m256i acc[4][MAX_ROWS][2],
                           const int small) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const int32_t n = n0 + 16 * p;
    const ez_requant_rows q = ez_requant_rows_of(g, g->mult + n);
    ez_store_panel(&q, acc[p], g->y + (size_t)row0 * g->y_stride + n, g->y_stride, g->columns - n, R, small);
  }
}

EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, int32_t n0, const int R, const int P) {
  __m256i acc[4][MAX_ROWS][2];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
      for (int i = 0; i < 2; i++) acc[p][r][i] = _mm256_loadu_si256((const __m256i *)(const void *)(g->bias + n0 + 16 * p + 8 * i));
  const size_t steps = (size_t)(g->channels + 3) / 4, panel_bytes = g->panel_bytes, a_stride = g->a_stride;
  const int8_t *w = g->w + (size_t)(n0 / 16) * panel_bytes;
  const uint8_t *const *rows = g->a + row0, *const *const end = rows + (size_t)g->taps * a_stride;
  for (; rows != end; rows += a_stride) {
    const uint8_t *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = rows[r];
    for (size_t k = 0; k < steps; k++, w += 64) {
      __m256i x[MAX_ROWS];
      if (P > 1)
        for (int r = 0; r < R; r++) {
          int32_t four;
          memcpy(&four, a[r] + 4 * k, 4);
          x[r] = _mm256_set1_epi32(four);
        }
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) {
        const __m256i *at = (const __m256i *)(const void *)(w + (size_t)p * panel_bytes);
        const __m256i b0 = _mm256_loadu_si256(at), b1 = _mm256_loadu_si256(at + 1);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
          if (P == 1) {
            int32_t four;
            memcpy(&four, a[r] + 4 * k, 4);
            x[r] = _mm256_set1_epi32(four);
          }
          acc[p][r][0] = _mm256_dpbusd_avx_epi32(acc[p][r][0], x[r], b0);
          acc[p][r][1] = _mm256_dpbusd_avx_epi32(acc[p][r][1], x[r], b1);
        }
      }
    }
  }
  /* Keeps gcc from giving the epilogue's constants registers that the loop needs. */
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) __asm__ volatile("" : "+x"(acc[p][r][0]), "+x"(acc[p][r][1]));
  if (__builtin_expect(g->y_f32 != NULL, 0)) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) ez_store_float_panel(g, acc[p], row0, n0 + 16 * p, R);
  } else if (g->small_mult)
    store_block(g, row0, n0, R, P, acc, 1);
  else
    store_block(g, row0, n0, R, P, acc, 0);
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void block_##R##x##P(const ez_gemm_s8_args *g, int32_t row0, int32_t n0) { block(g, row0, n0, R, P); }
INSTANCE(1, 1) INSTANCE(2, 1) INSTANCE(3, 1) INSTANCE(4, 1) INSTANCE(5, 1) INSTANCE(6, 1)
INSTANCE(1, 2) INSTANCE(2, 2) INSTANCE(3, 2)
INSTANCE(1, 4)

typedef void (*block_fn)(const ez_gemm_s8_args *g, int32_t row0, int32_t n0);
static const block_fn one_panel[MAX_ROWS + 1] = {NULL, block_1x1, block_2x1, block_3x1, block_4x1, block_5x1, block_6x1};
static const block_fn two_panels[4] = {NULL, block_1x2, block_2x2, block_3x2};

/* One, two or three rows in all: as many panels at once as keep the sums in registers. */
static void few_rows(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16;
  int32_t p = 0;
  if (g->rows == 1)
    for (; p + 4 <= panels; p += 4) block_1x4(g, 0, 16 * p);
  for (; p + 2 <= panels; p += 2) two_panels[g->rows](g, 0, 16 * p);
  if (p < panels) one_panel[g->rows](g, 0, 16 * p);
}

void ez_avxvnni_gemm_s8(const ez_gemm_s8_args *g) {
  if (g->rows <= 3) {
    few_rows(g);
    return;
  }
  const int32_t blocks = (g->rows + MAX_ROWS - 1) / MAX_ROWS; /* of nearly equal height: 49 rows are 4 x 6 + 5 x 5, not 8 x 6 + 1 */
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16)
    for (int32_t i = 0; i < blocks; i++) {
      const int32_t row = i * g->rows / blocks, next = (i + 1) * g->rows / blocks;
      one_panel[next - row](g, row, n0);
    }
}
