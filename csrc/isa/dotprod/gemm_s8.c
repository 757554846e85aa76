/* int8 product with sdot by lane: 8 rows by 8 outputs; 16 accumulators, 8 registers of A, 2 of B. */
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

EZ_INLINE void block(const ez_gemm_s8_args *g, int32_t row0, int32_t n0, const int R) {
  int32x4_t acc[8][2];
  for (int r = 0; r < R; r++) acc[r][0] = vld1q_s32(g->bias + n0), acc[r][1] = vld1q_s32(g->bias + n0 + 4);
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes + (size_t)(n0 % 16) * 4;
  const int32_t steps = (g->channels + 3) / 4;
  for (int32_t t = 0; t < g->taps; t++) {
    const uint8_t *a[8];
    int8x16_t x[8];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + row0 + r];
    int32_t k = 0;
    for (; k + 4 <= steps; k += 4) {
      for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u8(vld1q_u8(a[r] + 4 * k));
      STEP(0);
      STEP(1);
      STEP(2);
      STEP(3);
    }
    for (; k < steps; k++) {
      for (int r = 0; r < R; r++) x[r] = vreinterpretq_s8_u32(vld1q_dup_u32((const uint32_t *)(const void *)(a[r] + 4 * k)));
      STEP(0);
    }
  }
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point);
  for (int r = 0; r < R; r++)
    ez_store8_neon(g->y + (size_t)(row0 + r) * g->y_stride + n0, ez_finish8_neon(&q, acc[r][0], acc[r][1], g->mult + n0), g->columns - n0);
}

void ez_dotprod_gemm_s8(const ez_gemm_s8_args *g) {
  for (int32_t n0 = 0; n0 < g->columns; n0 += 8) {
    int32_t row = 0;
    for (; row + 8 <= g->rows; row += 8) block(g, row, n0, 8);
    if (g->rows - row >= 4) block(g, row, n0, 4), row += 4;
    if (g->rows - row >= 2) block(g, row, n0, 2), row += 2;
    if (g->rows - row >= 1) block(g, row, n0, 1);
  }
}
