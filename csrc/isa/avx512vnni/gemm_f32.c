/* float32 product: one fma chain in ascending k per output, tiles as in gemm_s8.c: up to 6 rows by 4 panels of 16, or 12 by 2. Long
 * chains go by 14 rows and 2 panels (four panels leave the first-level cache, two need half the loads a multiply), two panels alone too. */
#include "isa/avx512vnni/avx512vnni.h"

#define MAX_ROWS 14
#define LONG_K 1152    /* 196x256x2304: 78 -> 82 GMAC/s, 49x512x4608: 65 -> 80 */
#define FEW_ROWS 64    /* which use a weight too seldom to wait for it: */
#define FEW_ROWS_K 160 /* 49x1280x320: 70 -> 77 */
#define PAIR_K 24      /* of two panels alone: 2400x32x288: 71 -> 77, 2400x24x864: 56 -> 61 */
#define AHEAD 512      /* floats of a panel that are fetched beforehand then: the first tile comes from memory */

/* One k: P vectors of weights by R rows. */
EZ_INLINE void step(const float *w, const float *const a[MAX_ROWS], size_t c, size_t panel_floats, const int R, const int P, const int is_long,
                    __m512 acc[MAX_ROWS][4]) {
  __m512 b[4];
  for (int p = 0; p < P; p++) b[p] = _mm512_loadu_ps(w + (size_t)p * panel_floats);
  for (int p = 0; p < P; p++)
    if (is_long) _mm_prefetch((const char *)(w + (size_t)p * panel_floats + AHEAD), _MM_HINT_T0);
#pragma GCC unroll 14
  for (int r = 0; r < R; r++) {
    const __m512 x = _mm512_set1_ps(a[r][c]);
    for (int p = 0; p < P; p++) acc[r][p] = _mm512_fmadd_ps(x, b[p], acc[r][p]);
  }
}

/* Sums of R rows and P panels; `rows` points at the pointers of the first tap. */
EZ_INLINE void multiply(const ez_gemm_f32_args *g, const float *const *rows, const int R, const int P, const int is_long,
                        __m512 acc[MAX_ROWS][4]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 14
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_setzero_ps();
  const float *w = g->w;
  const size_t channels = (size_t)g->channels, panel_floats = g->panel_floats;
  const float *const *const end = rows + (size_t)g->taps * g->a_stride;
  for (; rows != end; rows += g->a_stride) {
    const float *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = rows[r];
    size_t c = 0;
    if (is_long) {
#pragma GCC unroll 2 /* counting competes with fmas for their ports */
      for (; c < channels; c++, w += 16) step(w, a, c, panel_floats, R, P, 1, acc);
    } else {
      for (; c < channels; c++, w += 16) step(w, a, c, panel_floats, R, P, 0, acc);
    }
  }
#pragma GCC unroll 14
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
#pragma GCC unroll 14
    for (int r = 0; r < R; r++)
      _mm512_mask_storeu_ps(y + (size_t)r * g->y_stride + 16 * p, mask, _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc[r][p], bias), lo), hi));
  }
}

/* Tiles of R rows, from row0 on, `tiles` of them. */
EZ_INLINE void tiles_of(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles, const int R, const int P, const int is_long) {
  const float *const *a = g->a + row0;
  float *y = g->y + (size_t)row0 * g->y_stride;
  for (int32_t i = 0; i < tiles; i++, a += R, y += (size_t)R * g->y_stride) {
    __m512 acc[MAX_ROWS][4];
    multiply(g, a, R, P, is_long, acc);
    store_tile(g, y, R, P, acc);
  }
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void tiles_##R##x##P(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles) { tiles_of(g, row0, tiles, R, P, 0); }
#define ROWS_1_TO_6(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
#define ROWS_7_TO_12(P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
ROWS_1_TO_6(1) ROWS_1_TO_6(2) ROWS_1_TO_6(3) ROWS_1_TO_6(4) ROWS_7_TO_12(1) ROWS_7_TO_12(2)

typedef void (*tiles_fn)(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles);
#define NAMES_6(P) tiles_1x##P, tiles_2x##P, tiles_3x##P, tiles_4x##P, tiles_5x##P, tiles_6x##P
#define NAMES_12(P) NAMES_6(P), tiles_7x##P, tiles_8x##P, tiles_9x##P, tiles_10x##P, tiles_11x##P, tiles_12x##P
static const tiles_fn tiles_by_size[4][12] = {{NAMES_12(1)}, {NAMES_12(2)}, {NAMES_6(3)}, {NAMES_6(4)}};

#define LONG_INSTANCE(R, P) \
  static __attribute__((noinline)) void long_##R##x##P(const ez_gemm_f32_args *g, int32_t row0, int32_t tiles) { tiles_of(g, row0, tiles, R, P, 1); }
#define LONG_INSTANCES(P) \
  LONG_INSTANCE(1, P) LONG_INSTANCE(2, P) LONG_INSTANCE(3, P) LONG_INSTANCE(4, P) LONG_INSTANCE(5, P) LONG_INSTANCE(6, P) LONG_INSTANCE(7, P) \
  LONG_INSTANCE(8, P) LONG_INSTANCE(9, P) LONG_INSTANCE(10, P) LONG_INSTANCE(11, P) LONG_INSTANCE(12, P) LONG_INSTANCE(13, P) LONG_INSTANCE(14, P)
LONG_INSTANCES(1) LONG_INSTANCES(2)
#define LONG_NAMES(P) long_1x##P, long_2x##P, long_3x##P, long_4x##P, long_5x##P, long_6x##P, long_7x##P, \
  long_8x##P, long_9x##P, long_10x##P, long_11x##P, long_12x##P, long_13x##P, long_14x##P
static const tiles_fn long_by_size[2][MAX_ROWS] = {{LONG_NAMES(1)}, {LONG_NAMES(2)}};

/* Two panels after two, all rows of them in tiles of nearly equal height. */
static void long_chains(const ez_gemm_f32_args *g) {
  ez_gemm_f32_args part = *g;
  const int32_t tiles = (g->rows + MAX_ROWS - 1) / MAX_ROWS, height = g->rows / tiles, taller = g->rows % tiles;
  for (; part.columns > 0; part.columns -= 32, part.w += 2 * part.panel_floats, part.bias += 32, part.y += 32) {
    const tiles_fn *by_rows = long_by_size[part.columns > 16];
    if (taller) by_rows[height](&part, 0, taller);
    by_rows[height - 1](&part, taller * (height + 1), tiles - taller);
  }
}

static int is_long(const ez_gemm_f32_args *g) {
  const int64_t k = (int64_t)g->taps * g->channels;
  const int is_pair = g->columns > 16 && g->columns <= 32;
  return k >= LONG_K || (g->rows <= FEW_ROWS && k >= FEW_ROWS_K) || (is_pair && k >= PAIR_K);
}

void ez_avx512vnni_gemm_f32(const ez_gemm_f32_args *g) {
  if (is_long(g)) {
    long_chains(g);
    return;
  }
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
