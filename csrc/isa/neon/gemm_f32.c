/* float32 product: one fma chain in ascending k per output, 4 rows by 16 outputs. */
#include "isa/neon/neon.h"

EZ_INLINE void block(const ez_gemm_f32_args *g, int32_t n0, const int R) {
  float32x4_t acc[4][4];
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 4; i++) acc[r][i] = vdupq_n_f32(0);
  const float *w = g->w + (size_t)(n0 / 16) * g->panel_floats;
  for (int32_t t = 0; t < g->taps; t++) {
    const float *a[4];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + r];
    for (int32_t c = 0; c < g->channels; c++, w += 16) {
      float32x4_t x[4];
      for (int r = 0; r < R; r++) x[r] = vld1q_dup_f32(a[r] + c);
      for (int i = 0; i < 4; i++) {
        const float32x4_t b = vld1q_f32(w + 4 * i);
        for (int r = 0; r < R; r++) acc[r][i] = vfmaq_f32(acc[r][i], x[r], b);
      }
    }
  }
  const float32x4_t lo = vdupq_n_f32(g->lo), hi = vdupq_n_f32(g->hi);
  for (int i = 0; i < 4; i++) {
    const int32_t left = g->columns - n0 - 4 * i;
    if (left <= 0) return;
    const float32x4_t bias = vld1q_f32(g->bias + n0 + 4 * i);
    for (int r = 0; r < R; r++)
      ez_store4_neon(g->y + (size_t)r * g->y_stride + n0 + 4 * i, ez_clamp_neon(vaddq_f32(acc[r][i], bias), lo, hi), left);
  }
}

void ez_neon_gemm_f32(const ez_gemm_f32_args *g) {
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    switch (g->rows) {
      case 1: block(g, n0, 1); break;
      case 2: block(g, n0, 2); break;
      case 3: block(g, n0, 3); break;
      default: block(g, n0, 4); break;
    }
  }
}
