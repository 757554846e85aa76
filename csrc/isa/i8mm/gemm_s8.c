/* int8 product with smmla, which adds two rows of 8 by two columns of 8 to a 2 x 2 block: up to 4 rows by 16 outputs.
 *
 * A weight register of K8N16 holds two columns as they are; two rows of A are joined by zip. An accumulator holds
 * (row 0, column 0), (0, 1), (1, 0), (1, 1); bias and multipliers stand in memory in that order too, once for all rows of a
 * panel, and the results are put in order as 16-bit pairs. */
#include "isa/i8mm/products.h"

/* PAIRS of rows by the 16 columns at w; with ONE_ROW the second row of the pair is the first again and is not stored. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const ez_i8mm_constants *constants, const uint8_t *const *pointers,
                     const int8_t *w, uint8_t *y, int32_t left, const int ROWS) {
  const int PAIRS = (ROWS + 1) / 2;
  const ptrdiff_t row = pointers - g->a;
  int32x4_t acc[EZ_I8MM_ROWS / 2][8];
  EZ_LOAD_AGAIN(constants);
  for (int p = 0; p < PAIRS; p++)
    for (int i = 0; i < 8; i++) acc[p][i] = constants->bias[i];
  for (int32_t t = g->taps; t > 0; t--, pointers += g->a_stride) {
    const uint8_t *a[EZ_I8MM_ROWS];
    for (int r = 0; r < 2 * PAIRS; r++) a[r] = pointers[r < ROWS ? r : 0];
    int32_t channels = g->channels;
    size_t at = 0;
    for (; channels > 8; channels -= 16, at += 16, w += 256) {
      int8x16_t x[EZ_I8MM_ROWS / 2][2];
      for (int p = 0; p < PAIRS; p++) {
        const int64x2_t x0 = vreinterpretq_s64_u8(vld1q_u8(a[2 * p] + at)), x1 = vreinterpretq_s64_u8(vld1q_u8(a[2 * p + 1] + at));
        x[p][0] = vreinterpretq_s8_s64(vzip1q_s64(x0, x1)), x[p][1] = vreinterpretq_s8_s64(vzip2q_s64(x0, x1));
      }
      for (int k = 0; k < 2; k++)
        for (int i = 0; i < 8; i += 2) {
          EZ_KEEP_LOADS_HERE;
          const int8x16_t even = vld1q_s8(w + 128 * k + 16 * i), odd = vld1q_s8(w + 128 * k + 16 * i + 16);
          for (int p = 0; p < PAIRS; p++) acc[p][i] = vmmlaq_s32(acc[p][i], x[p][k], even);
          for (int p = 0; p < PAIRS; p++) acc[p][i + 1] = vmmlaq_s32(acc[p][i + 1], x[p][k], odd);
        }
    }
    if (channels <= 0) continue;
    for (int p = 0; p < PAIRS; p++) {
      const int8x16_t x = vreinterpretq_s8_u8(vcombine_u8(vld1_u8(a[2 * p] + at), vld1_u8(a[2 * p + 1] + at)));
      for (int i = 0; i < 8; i++) acc[p][i] = vmmlaq_s32(acc[p][i], x, vld1q_s8(w + 16 * i));
    }
    w += 128;
  }
  ez_i8mm_finish(g, q, constants, row, acc, y, left, ROWS);
}

void ez_i8mm_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    const ez_i8mm_constants constants = ez_i8mm_constants_of(g, &q, n0);
    const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes;
    const uint8_t *const *a = g->a;
    uint8_t *y = g->y + n0;
    const int32_t left = g->columns - n0;
    int32_t rows = g->rows;
    for (; rows >= 4; rows -= 4, a += 4, y += 4 * g->y_stride) block(g, &q, &constants, a, w, y, left, 4);
    if (rows >= 2) block(g, &q, &constants, a, w, y, left, 2), rows -= 2, a += 2, y += 2 * g->y_stride;
    if (rows) block(g, &q, &constants, a, w, y, left, 1);
  }
}
