/* float32 product: one fma chain in ascending k per output, tiles as in gemm_s8.c: up to 6 rows by 4 panels of 16, or 12 by 2. */
#include "isa/avx512vnni/avx512vnni.h"

#define MAX_ROWS 12

/* Sums of R rows and P panels; `rows` points at the pointers of the first tap. */
EZ_INLINE void multiply(const ez_gemm_f32_args *g, const float *const *rows, const int R, const int P, __m512 acc[MAX_ROWS][4]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_setzero_ps();
  const float *w = g->w;
  const size_t channels = (size_t)g->channels, panel_floats = g->panel_floats;
  const float *const *const end = rows + (size_t)g->taps * g->a_stride;
  for (; rows != end; rows += g->a_stride) {
    const float *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = rows[r];
    for (size_t c = 0; c < channels; c++, w += 16) {
      __m512 b[4];
      for (int p = 0; p < P; p++) b[p] = _mm512_loadu_ps(w + (size_t)p * panel_floats);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        const __m512 x = _mm512_set1_ps(a[r][c]);
        for (int p = 0; p < P; p++) acc[r][p] = _mm512_fmadd_ps(x, b[p], acc[r][p]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) __asm__ volatile("" : "+v"(acc[r][p])); /* as in gemm_s8.c: no second copy of the sums for the epilogue */
}

EZ_INLINE void store_tile(const ez_gemm_f32_args *g, float *y, const int R, const int P, __m512 acc[MAX_ROWS][4]) {
  const __m512 lo = _mm512_set1_ps(g->lo), hi = _mm512_set1_ps(g->hi);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const __m512 bias = _mm512_loadu_ps(g->bias + 16 * p);
    const int32_t left = g->columns - 16 * p;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
      _mm512_mask_storeu_ps(y + (size_t)r * g->y_stride + 16 * p, mask, _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc[r][p], bias), lo), hi));
  }
}

/* Tiles of R rows, from row0 on, `tiles` of them. */
EZ_INLINE void tiles_of(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles, const int R, const int P) {
  const float *const *a = g->a + row0;
  float *y = g->y + (size_t)row0 * g->y_stride;
  for (int32_t i = 0; i < tiles; i++, a += R, y += (size_t)R * g->y_stride) {
    __m512 acc[MAX_ROWS][4];
    multiply(g, a, R, P, acc);
    store_tile(g, y, R, P, acc);
  }
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void tiles_##R##x##P(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles) { tiles_of(g, row0, tiles, R, P); }
#define ROWS_1_TO_6(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
#define ROWS_7_TO_12(P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
ROWS_1_TO_6(1) ROWS_1_TO_6(2) ROWS_1_TO_6(3) ROWS_1_TO_6(4) ROWS_7_TO_12(1) ROWS_7_TO_12(2)

typedef void (*tiles_fn)(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles);
#define NAMES_6(P) tiles_1x##P, tiles_2x##P, tiles_3x##P, tiles_4x##P, tiles_5x##P, tiles_6x##P
#define NAMES_12(P) NAMES_6(P), tiles_7x##P, tiles_8x##P, tiles_9x##P, tiles_10x##P, tiles_11x##P, tiles_12x##P
static const tiles_fn tiles_by_size[4][MAX_ROWS] = {{NAMES_12(1)}, {NAMES_12(2)}, {NAMES_6(3)}, {NAMES_6(4)}};

void ez_avx512vnni_gemm_f32(const ez_gemm_f32_args *g) {
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
