/* Float results of int8 products (ez_gemm_s8_args). In a file of its own: where its loops are not unrolled, clang would keep the sums
 * of the product's inner loop in memory for them (dotprod on MobileNet-v1: 23 M cycles became 64). */
#include "isa/neon/neon.h"

static void store_four(const ez_gemm_s8_args *g, ptrdiff_t row, ptrdiff_t n, int32x4_t sums) {
  const int32_t left = g->columns - (int32_t)n;
  if (left <= 0) return;
  const float32x4_t t = vmulq_f32(vmulq_n_f32(vcvtq_f32_s32(sums), g->row_scale[row]), vld1q_f32(g->mult + n));
  ez_store4_neon(g->y_f32 + row * (ptrdiff_t)g->y_stride + n, vaddq_f32(t, vld1q_f32(g->addend + n)), left);
}

void ez_neon_store_floats(const ez_gemm_s8_args *g, ptrdiff_t row, ptrdiff_t n, const int32x4_t *sums, int32_t rows, int32_t fours) {
  for (int32_t r = 0; r < rows; r++)
    for (int32_t i = 0; i < fours; i++) store_four(g, row + r, n + 4 * i, sums[r * fours + i]);
}
