/* int8 product with smmla, which adds two rows of 8 by two columns of 8 to a 2 x 2 block: up to 4 rows by 16 outputs.
 *
 * A weight register of K8N16 holds two columns as they are; two rows of A are joined by zip. An accumulator holds
 * (row 0, column 0), (0, 1), (1, 0), (1, 1); bias and multipliers stand in memory in that order too, once for all rows of a
 * panel, and the results are put in order as 16-bit pairs. */
#include "isa/i8mm/i8mm.h"

typedef struct panel_constants {
  int32x4_t bias[8]; /* of columns 2i, 2i+1, 2i, 2i+1 */
  float32x4_t mult[8];
} panel_constants;

/* PAIRS of rows by the 16 columns at w; with ONE_ROW the second row of the pair is the first again and is not stored. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const panel_constants *constants, const uint8_t *const *pointers,
                     const int8_t *w, uint8_t *y, int32_t left, const int ROWS) {
  enum { MOST = 4 };
  const int PAIRS = (ROWS + 1) / 2;
  const ptrdiff_t row = pointers - g->a;
  int32x4_t acc[MOST / 2][8];
  EZ_LOAD_AGAIN(constants);
  for (int p = 0; p < PAIRS; p++)
    for (int i = 0; i < 8; i++) acc[p][i] = constants->bias[i];
  for (int32_t t = g->taps; t > 0; t--, pointers += g->a_stride) {
    const uint8_t *a[MOST];
    for (int r = 0; r < 2 * PAIRS; r++) a[r] = pointers[r < ROWS ? r : 0];
    int32_t channels = g->channels;
    size_t at = 0;
    for (; channels > 8; channels -= 16, at += 16, w += 256) {
      int8x16_t x[MOST / 2][2];
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
  if (g->y_f32) {
    int32x4_t sums[MOST][4];
    for (int r = 0; r < ROWS; r++)
      for (int i = 0; i < 4; i++) {
        const int32x4_t low = acc[r / 2][2 * i], high = acc[r / 2][2 * i + 1];
        sums[r][i] = r % 2 ? vcombine_s32(vget_high_s32(low), vget_high_s32(high)) : vcombine_s32(vget_low_s32(low), vget_low_s32(high));
      }
    ez_neon_store_floats(g, row, g->columns - left, sums[0], ROWS, 4);
    return;
  }
  EZ_LOAD_AGAIN(constants);
  int16x8_t joined[MOST / 2][4]; /* (row 0, columns 0 and 1), (row 1, the same), (row 0, columns 2 and 3), ... */
  const float32x4_t *m = constants->mult;
  if (q->small_sums) {
    for (int p = 0; p < PAIRS; p++)
      for (int i = 0; i < 4; i++) joined[p][i] = ez_scale8_small_neon(q, acc[p][2 * i], acc[p][2 * i + 1], m[2 * i], m[2 * i + 1]);
  } else {
    for (int p = 0; p < PAIRS; p++)
      for (int i = 0; i < 4; i++) joined[p][i] = ez_scale8_neon(acc[p][2 * i], acc[p][2 * i + 1], m[2 * i], m[2 * i + 1]);
  }
  int16x8_t results[MOST][2];
  for (int p = 0; p < PAIRS; p++)
    for (int h = 0; h < 2; h++) {
      const int32x4_t low = vreinterpretq_s32_s16(joined[p][2 * h]), high = vreinterpretq_s32_s16(joined[p][2 * h + 1]);
      results[2 * p][h] = vreinterpretq_s16_s32(vuzp1q_s32(low, high));
      results[2 * p + 1][h] = vreinterpretq_s16_s32(vuzp2q_s32(low, high));
    }
  ez_store_rows16_neon(q, results, ROWS, y, g->y_stride, left);
}

void ez_i8mm_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    panel_constants constants;
    for (int i = 0; i < 8; i++) {
      const int64_t *bias = (const int64_t *)(const void *)(g->bias + n0 + 2 * i), *mult = (const int64_t *)(const void *)(g->mult + n0 + 2 * i);
      constants.bias[i] = vaddq_s32(vreinterpretq_s32_s64(vld1q_dup_s64(bias)), q.bias_offset);
      constants.mult[i] = vreinterpretq_f32_s64(vld1q_dup_s64(mult));
    }
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
