/* What follows the sums of this folder's int8 products. */
#ifndef EDGEZIP_DOTPROD_PRODUCTS_H
#define EDGEZIP_DOTPROD_PRODUCTS_H

#include "isa/dotprod/dotprod.h"

/* Sums of R rows from `row` on, with their bias and q's offset, by the 16 columns of `mult` and y, of which `left` are there. */
EZ_INLINE void ez_dotprod_finish(const ez_gemm_s8_args *g, const ez_requant_neon *q, ptrdiff_t row, const float *mult, int32x4_t acc[4][4],
                                 uint8_t *y, int32_t left, const int R) {
  if (g->y_f32) {
    int32x4_t sums[4][4];
    for (int r = 0; r < R; r++)
      for (int i = 0; i < 4; i++) sums[r][i] = acc[r][i];
    ez_neon_store_floats(g, row, mult - g->mult, sums[0], R, 4);
    return;
  }
  EZ_LOAD_AGAIN(mult);
  const float32x4_t m[4] = {vld1q_f32(mult), vld1q_f32(mult + 4), vld1q_f32(mult + 8), vld1q_f32(mult + 12)};
  int16x8_t results[4][2];
  if (q->simple && left >= 16) {
    for (int r = 0; r < R; r++)
      for (int h = 0; h < 2; h++) results[r][h] = ez_scale8_small_neon(q, acc[r][2 * h], acc[r][2 * h + 1], m[2 * h], m[2 * h + 1]);
    for (int r = 0; r < R; r++, y += g->y_stride) vst1q_s8((int8_t *)y, vqmovn_high_s16(vqmovn_s16(results[r][0]), results[r][1]));
    return;
  }
  if (q->small_sums) {
    for (int r = 0; r < R; r++)
      for (int h = 0; h < 2; h++) results[r][h] = ez_scale8_small_neon(q, acc[r][2 * h], acc[r][2 * h + 1], m[2 * h], m[2 * h + 1]);
  } else {
    for (int r = 0; r < R; r++)
      for (int h = 0; h < 2; h++) results[r][h] = ez_scale8_neon(acc[r][2 * h], acc[r][2 * h + 1], m[2 * h], m[2 * h + 1]);
  }
  ez_store_rows16_neon(q, results, R, y, g->y_stride, left);
}

#endif
