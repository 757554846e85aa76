/* float32 product: one fma chain in ascending k per output, 6 rows by 16 outputs. */
#include "isa/avx2/avx2.h"

EZ_INLINE void block(const ez_gemm_f32_args *g, int32_t n0, const int R) {
  __m256 acc[6][2];
  for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  const float *w = g->w + (size_t)(n0 / 16) * g->panel_floats;
  for (int32_t t = 0; t < g->taps; t++) {
    const float *a[6];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + r];
    for (int32_t c = 0; c < g->channels; c++, w += 16) {
      const __m256 b0 = _mm256_loadu_ps(w), b1 = _mm256_loadu_ps(w + 8);
      for (int r = 0; r < R; r++) {
        const __m256 x = _mm256_broadcast_ss(a[r] + c);
        acc[r][0] = _mm256_fmadd_ps(x, b0, acc[r][0]);
        acc[r][1] = _mm256_fmadd_ps(x, b1, acc[r][1]);
      }
    }
  }
  const __m256 lo = _mm256_set1_ps(g->lo), hi = _mm256_set1_ps(g->hi);
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    const int32_t left = g->columns - n0 - 8 * i;
    if (left <= 0) return;
    const __m256 bias = _mm256_loadu_ps(g->bias + n0 + 8 * i);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256 y = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(acc[r][i], bias), lo), hi);
      ez_store_floats(g->y + (size_t)r * g->y_stride + n0 + 8 * i, y, left);
    }
  }
}

void ez_avx2_gemm_f32(const ez_gemm_f32_args *g) {
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    switch (g->rows) {
      case 1: block(g, n0, 1); break;
      case 2: block(g, n0, 2); break;
      case 3: block(g, n0, 3); break;
      case 4: block(g, n0, 4); break;
      case 5: block(g, n0, 5); break;
      default: block(g, n0, 6); break;
    }
  }
}
