/* float32 product: one fma chain in ascending k per output, up to 6 rows by 4 panels of 16. */
#include "isa/avx512vnni/avx512vnni.h"

#define MAX_ROWS 6

EZ_INLINE void block(const ez_gemm_f32_args *g, const int R, const int P) {
  __m512 acc[MAX_ROWS][4];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) acc[r][p] = _mm512_setzero_ps();
  const float *w = g->w;
  for (int32_t t = 0; t < g->taps; t++) {
    const float *a[MAX_ROWS];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + (size_t)r];
    for (int32_t c = 0; c < g->channels; c++, w += 16) {
      __m512 b[4];
      for (int p = 0; p < P; p++) b[p] = _mm512_loadu_ps(w + (size_t)p * g->panel_floats);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m512 x = _mm512_set1_ps(a[r][c]);
        for (int p = 0; p < P; p++) acc[r][p] = _mm512_fmadd_ps(x, b[p], acc[r][p]);
      }
    }
  }
  const __m512 lo = _mm512_set1_ps(g->lo), hi = _mm512_set1_ps(g->hi);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const __m512 bias = _mm512_loadu_ps(g->bias + 16 * p);
    const int32_t left = g->columns - 16 * p;
    const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      __asm__ volatile("" : "+v"(acc[r][p])); /* as in gemm_s8.c: no second copy of the sums for the epilogue */
      const __m512 y = _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc[r][p], bias), lo), hi);
      _mm512_mask_storeu_ps(g->y + (size_t)r * g->y_stride + 16 * p, mask, y);
    }
  }
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void block_##R##x##P(const ez_gemm_f32_args *g) { block(g, R, P); }
#define ROWS(P) INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P)
ROWS(1) ROWS(2) ROWS(3) ROWS(4)

#define NAMES(P) {block_1x##P, block_2x##P, block_3x##P, block_4x##P, block_5x##P, block_6x##P}
static void (*const blocks[4][MAX_ROWS])(const ez_gemm_f32_args *g) = {NAMES(1), NAMES(2), NAMES(3), NAMES(4)};

void ez_avx512vnni_gemm_f32(const ez_gemm_f32_args *g) { blocks[(g->columns + 15) / 16 - 1][g->rows - 1](g); }
