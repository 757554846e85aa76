/* int8 product with sdot by lane: up to 8 rows by 8 outputs; 16 accumulators, 8 registers of A, 2 of B. */
#include "isa/dotprod/dotprod.h"

/* One k-step: lane `L` of each row's 16 bytes by 8 columns. */
#define STEP(L)                                                                          \
  do {                                                                                   \
    const int8x16_t b0 = vld1q_s8(w), b1 = vld1q_s8(w + 16);                             \
    for (int r = 0; r < R; r++) {                                                        \
      acc[r][0] = vdotq_laneq_s32(acc[r][0], b0, x[r], L);                               \
      acc[r][1] = vdotq_laneq_s32(acc[r][1], b1, x[r], L);                               \
    }                                                                                    \
    w += 64;                                                                             \
  } while (0)

EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, int32_t row0, int32_t n0, const int R) {
  int32x4_t acc[8][2];
  const int32x4_t bias0 = vaddq_s32(vld1q_s32(g->bias + n0), q->bias_offset), bias1 = vaddq_s32(vld1q_s32(g->bias + n0 + 4), q->bias_offset);
  for (int r = 0; r < R; r++) acc[r][0] = bias0, acc[r][1] = bias1;
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes + (size_t)(n0 % 16) * 4;
  const uint8_t *const *pointers = g->a + row0;
  for (int32_t t = g->taps; t > 0; t--, pointers += g->a_stride) {
    const uint8_t *a[8];
    int8x16_t x[8];
    for (int r = 0; r < R; r++) a[r] = pointers[r];
    int32_t left = g->channels;
    size_t at = 0;
    for (; left > 12; left -= 16, at += 16) {
      for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u8(vld1q_u8(a[r] + at));
      STEP(0);
      STEP(1);
      STEP(2);
      STEP(3);
    }
    if (left <= 0) continue;
    for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u8(vld1q_u8(a[r] + at)); /* lanes past the last channel are not used */
    STEP(0);
    if (left > 4) STEP(1);
    if (left > 8) STEP(2);
  }
  const float32x4_t m0 = vld1q_f32(g->mult + n0), m1 = vld1q_f32(g->mult + n0 + 4);
  int16x8_t results[8];
  if (q->small_sums)
    for (int r = 0; r < R; r++) results[r] = ez_scale8_small_neon(q, acc[r][0], acc[r][1], m0, m1);
  else
    for (int r = 0; r < R; r++) results[r] = ez_scale8_neon(acc[r][0], acc[r][1], m0, m1);
  if (q->adds)
    for (int r = 0; r < R; r++) results[r] = vqaddq_s16(results[r], q->zero_point);
  ez_store_rows8_neon(q, results, R, g->y + (size_t)row0 * g->y_stride + n0, g->y_stride, g->columns - n0);
}

void ez_dotprod_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  const int32_t by_seven = g->rows % 8 && g->rows % 7 == 0 ? g->rows : 0; /* 7 x 7 pixels: no rows left over */
  for (int32_t n0 = 0; n0 < g->columns; n0 += 8) {
    int32_t row = 0;
    for (; row < by_seven; row += 7) block(g, &q, row, n0, 7);
    for (; row + 8 <= g->rows; row += 8) block(g, &q, row, n0, 8);
    if (g->rows - row >= 4) block(g, &q, row, n0, 4), row += 4;
    if (g->rows - row >= 2) block(g, &q, row, n0, 2), row += 2;
    if (g->rows - row >= 1) block(g, &q, row, n0, 1);
  }
}
