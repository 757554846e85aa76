/* int8 product with vpdpbusd: up to 6 rows by 4 panels, or 12 rows by 2 panels, 24 accumulators each.
 *
 * A is broadcast four bytes at a time, so rows need not be packed; B is one zmm a panel and k-step, read as independent
 * streams (no interleave of panels: it would bring 2 %). From the first-level cache: 92-98 % of the vpdpbusd peak at K >= 256, 76 %
 * at 64, 45 % at 16, where the 18 operations that requantise 64 outputs take half (Sapphire Rapids VM, one core, 2026-11-24). */
#include <string.h>

#include "isa/avx512vnni/requant.h"

#define MAX_ROWS 12

/* Sums of R rows and P panels; `rows` points at the pointers of the first tap. */
EZ_INLINE void multiply(const ez_gemm_s8_args *g, const uint8_t *const *rows, const int R, const int P, __m512i acc[MAX_ROWS][4]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_loadu_si512(g->bias + 16 * p);
  const int8_t *w = g->w;
  const size_t steps = (size_t)(g->channels + 3) / 4, panel_bytes = g->panel_bytes, a_stride = g->a_stride;
  const uint8_t *const *const end = rows + (size_t)g->taps * a_stride;
  for (; rows != end; rows += a_stride) {
    const uint8_t *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = rows[r];
    for (size_t k = 0; k < steps; k++, w += 64) {
      __m512i b[4];
      for (int p = 0; p < P; p++) b[p] = _mm512_loadu_si512(w + (size_t)p * panel_bytes);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        int32_t four;
        memcpy(&four, a[r] + 4 * k, 4);
        const __m512i x = _mm512_set1_epi32(four);
        for (int p = 0; p < P; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, b[p]);
      }
    }
  }
  /* Without this line gcc 12 gives what the epilogue reads its own registers and, having too few, stores every sum at every k-step. */
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) __asm__ volatile("" : "+v"(acc[r][p]));
}

/* Tiles of R rows, from row0 on, `tiles` of them. */
EZ_INLINE void tiles_of(const ez_gemm_s8_args *g, int32_t row0, int32_t tiles, const int R, const int P) {
  const ez_requant_zmm q = ez_requant_zmm_of(g, P);
  const uint8_t *const *a = g->a + row0;
  uint8_t *y = g->y + (size_t)row0 * g->y_stride;
  for (int32_t i = 0; i < tiles; i++, a += R, y += (size_t)R * g->y_stride) {
    __m512i acc[MAX_ROWS][4];
    multiply(g, a, R, P, acc);
    if (__builtin_expect(g->y_f32 != NULL, 0))
      ez_store_float_tile(g, row0 + i * R, R, P, acc);
    else
      ez_store_tile(g, &q, y, R, P, acc);
  }
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void tiles_##R##x##P(const ez_gemm_s8_args *g, int32_t row0, int32_t tiles) { tiles_of(g, row0, tiles, R, P); }
#define ROWS_1_TO_6(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
#define ROWS_7_TO_12(P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
ROWS_1_TO_6(1) ROWS_1_TO_6(2) ROWS_1_TO_6(3) ROWS_1_TO_6(4) ROWS_7_TO_12(1) ROWS_7_TO_12(2)

typedef void (*tiles_fn)(const ez_gemm_s8_args *g, int32_t row0, int32_t tiles);
#define NAMES_6(P) tiles_1x##P, tiles_2x##P, tiles_3x##P, tiles_4x##P, tiles_5x##P, tiles_6x##P
#define NAMES_12(P) NAMES_6(P), tiles_7x##P, tiles_8x##P, tiles_9x##P, tiles_10x##P, tiles_11x##P, tiles_12x##P
static const tiles_fn tiles_by_size[4][MAX_ROWS] = {{NAMES_12(1)}, {NAMES_12(2)}, {NAMES_6(3)}, {NAMES_6(4)}};

void ez_avx512vnni_gemm_s8(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16;
  const int32_t most = panels <= 2 ? 12 : 6;
  const tiles_fn *by_rows = tiles_by_size[panels - 1];
  int32_t full = g->rows / most, left = g->rows - full * most;
  if (left && left < 5 && full) full--, left += most; /* a few rows alone would wait for each other's sums */
  if (full) by_rows[most - 1](g, 0, full);
  const int32_t half = left > most ? (left + 1) / 2 : left;
  if (half) by_rows[half - 1](g, full * most, 1);
  if (left > half) by_rows[left - half - 1](g, full * most + half, 1);
}
