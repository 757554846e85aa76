/* int8 product with vpdpbusd: up to 6 rows by 4 panels, or 12 rows by 2 panels, 24 accumulators each.
 *
 * A is broadcast four bytes at a time, so rows need not be packed; B is one zmm a panel and k-step, read as independent
 * streams (no interleave of panels: it would bring 2 %, measured for the design on Sapphire Rapids, 2026-11). */
#include <string.h>

#include "isa/avx512vnni/avx512vnni.h"

#define MAX_ROWS 12

EZ_INLINE void store_block(const ez_gemm_s8_args *g, int32_t row0, const int R, const int P, __m512i acc[MAX_ROWS][4]) {
  const ez_requant512 q = ez_requant512_of(g->lo, g->hi, g->zero_point);
  for (int p = 0; p < P; p++) {
    const __m512 mult = _mm512_loadu_ps(g->mult + 16 * p);
    const int32_t left = g->columns - 16 * p;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
    for (int r = 0; r < R; r++) {
      const __m128i bytes = _mm512_cvtepi32_epi8(ez_requant512_apply(&q, acc[r][p], mult));
      _mm_mask_storeu_epi8(g->y + (size_t)(row0 + r) * g->y_stride + 16 * p, mask, bytes);
    }
  }
}

EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, const int R, const int P) {
  __m512i acc[MAX_ROWS][4];
  for (int p = 0; p < P; p++)
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_loadu_si512(g->bias + 16 * p);
  const int8_t *w = g->w;
  const size_t steps = (size_t)(g->channels + 3) / 4;
  for (int32_t t = 0; t < g->taps; t++) {
    const uint8_t *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + row0 + r];
#pragma GCC unroll 2
    for (size_t k = 0; k < steps; k++, w += 64) {
      __m512i b[4];
      for (int p = 0; p < P; p++) b[p] = _mm512_loadu_si512(w + p * g->panel_bytes);
      for (int r = 0; r < R; r++) {
        int32_t four;
        memcpy(&four, a[r] + 4 * k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        for (int p = 0; p < P; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, b[p]);
      }
    }
  }
  store_block(g, row0, R, P, acc);
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void block_##R##x##P(const ez_gemm_s8_args *g, int32_t row0) { block(g, row0, R, P); }
#define ROWS_1_TO_6(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
#define ROWS_7_TO_12(P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
ROWS_1_TO_6(1) ROWS_1_TO_6(2) ROWS_1_TO_6(3) ROWS_1_TO_6(4) ROWS_7_TO_12(1) ROWS_7_TO_12(2)

typedef void (*block_fn)(const ez_gemm_s8_args *g, int32_t row0);
#define NAMES_6(P) block_1x##P, block_2x##P, block_3x##P, block_4x##P, block_5x##P, block_6x##P
#define NAMES_12(P) NAMES_6(P), block_7x##P, block_8x##P, block_9x##P, block_10x##P, block_11x##P, block_12x##P
static const block_fn blocks[4][MAX_ROWS] = {{NAMES_12(1)}, {NAMES_12(2)}, {NAMES_6(3)}, {NAMES_6(4)}};

void ez_avx512vnni_gemm_s8(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16;
  const int32_t most = panels <= 2 ? 12 : 6;
  for (int32_t row = 0; row < g->rows; row += most) {
    const int32_t rows = g->rows - row < most ? g->rows - row : most;
    blocks[panels - 1][rows - 1](g, row);
  }
}
