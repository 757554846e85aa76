/* What this folder's int8 products share: constants of a panel in the order of smmla's sums, and what follows the sums. */
#ifndef EDGEZIP_I8MM_PRODUCTS_H
#define EDGEZIP_I8MM_PRODUCTS_H

#include "isa/i8mm/i8mm.h"

enum { EZ_I8MM_ROWS = 4 };

typedef struct ez_i8mm_constants {
  int32x4_t bias[8]; /* of columns 2i, 2i+1, 2i, 2i+1 */
  float32x4_t mult[8];
} ez_i8mm_constants;

EZ_INLINE ez_i8mm_constants ez_i8mm_constants_of(const ez_gemm_s8_args *g, const ez_requant_neon *q, int32_t n0) {
  ez_i8mm_constants constants;
  for (int i = 0; i < 8; i++) {
    const int64_t *bias = (const int64_t *)(const void *)(g->bias + n0 + 2 * i), *mult = (const int64_t *)(const void *)(g->mult + n0 + 2 * i);
    constants.bias[i] = vaddq_s32(vreinterpretq_s32_s64(vld1q_dup_s64(bias)), q->bias_offset);
    constants.mult[i] = vreinterpretq_f32_s64(vld1q_dup_s64(mult));
  }
  return constants;
}

/* Sums of pairs of rows from `row` on, with their bias and q's offset, by 16 columns at y, of which `left` are there. */
EZ_INLINE void ez_i8mm_finish(const ez_gemm_s8_args *g, const ez_requant_neon *q, const ez_i8mm_constants *constants, ptrdiff_t row,
                              int32x4_t acc[EZ_I8MM_ROWS / 2][8], uint8_t *y, int32_t left, const int ROWS) {
  const int PAIRS = (ROWS + 1) / 2;
  if (g->y_f32) {
    int32x4_t sums[EZ_I8MM_ROWS][4];
    for (int r = 0; r < ROWS; r++)
      for (int i = 0; i < 4; i++) {
        const int32x4_t low = acc[r / 2][2 * i], high = acc[r / 2][2 * i + 1];
        sums[r][i] = r % 2 ? vcombine_s32(vget_high_s32(low), vget_high_s32(high)) : vcombine_s32(vget_low_s32(low), vget_low_s32(high));
      }
    ez_neon_store_floats(g, row, g->columns - left, sums[0], ROWS, 4);
    return;
  }
  EZ_LOAD_AGAIN(constants);
  int16x8_t joined[EZ_I8MM_ROWS / 2][4]; /* (row 0, columns 0 and 1), (row 1, the same), (row 0, columns 2 and 3), ... */
  const float32x4_t *m = constants->mult;
  if (q->small_sums) {
    for (int p = 0; p < PAIRS; p++)
      for (int i = 0; i < 4; i++) joined[p][i] = ez_scale8_small_neon(q, acc[p][2 * i], acc[p][2 * i + 1], m[2 * i], m[2 * i + 1]);
  } else {
    for (int p = 0; p < PAIRS; p++)
      for (int i = 0; i < 4; i++) joined[p][i] = ez_scale8_neon(acc[p][2 * i], acc[p][2 * i + 1], m[2 * i], m[2 * i + 1]);
  }
  int16x8_t results[EZ_I8MM_ROWS][2];
  for (int p = 0; p < PAIRS; p++)
    for (int h = 0; h < 2; h++) {
      const int32x4_t low = vreinterpretq_s32_s16(joined[p][2 * h]), high = vreinterpretq_s32_s16(joined[p][2 * h + 1]);
      results[2 * p][h] = vreinterpretq_s16_s32(vuzp1q_s32(low, high));
      results[2 * p + 1][h] = vreinterpretq_s16_s32(vuzp2q_s32(low, high));
    }
  ez_store_rows16_neon(q, results, ROWS, y, g->y_stride, left);
}

#endif
