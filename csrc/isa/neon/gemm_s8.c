/* int8 product without dot-product instructions: 2 rows by 8 outputs.
 *
 * Two k-steps of 8 are multiplied into the same 16-bit lanes (|x| <= 128, |w| <= 127: two products reach 32512 < 32768), then
 * sadalp adds pairs into four 32-bit partial sums a column. A72 multiplies on one pipe and adds on the other: 8 MACs a cycle. */
#include "isa/neon/neon.h"

/* Compilers like to load all weights of a step first, and then spill sums for want of registers. */
#define EZ_KEEP_LOADS_HERE __asm__ volatile("" ::: "memory")

/* Columns 2i and 2i+1 of one row: the low and the high half of a weight register. `x` holds the same 8 bytes in both halves. */
EZ_INLINE void add_two_steps(int32x4_t acc[2], int8x16_t x0, int8x16_t x1, int8x16_t w0, int8x16_t w1) {
  acc[0] = vpadalq_s16(acc[0], vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1)));
  acc[1] = vpadalq_s16(acc[1], vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1));
}

EZ_INLINE void add_one_step(int32x4_t acc[2], int8x16_t x, int8x16_t w) {
  acc[0] = vpadalq_s16(acc[0], vmull_s8(vget_low_s8(x), vget_low_s8(w)));
  acc[1] = vpadalq_s16(acc[1], vmull_high_s8(x, w));
}

EZ_INLINE int8x16_t load_twice(const uint8_t *a) {
  return vreinterpretq_s8_u64(vld1q_dup_u64((const uint64_t *)(const void *)a));
}

EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, int32_t row0, int32_t n0, const int R) {
  int32x4_t acc[2][8];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < 8; n++) acc[r][n] = vdupq_n_s32(0);
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes + (size_t)(n0 % 16) * 8;
  const int32_t steps = (g->channels + 7) / 8;
  for (int32_t t = 0; t < g->taps; t++) {
    const uint8_t *a[2];
    for (int r = 0; r < R; r++) a[r] = g->a[(size_t)t * g->a_stride + row0 + r];
    int32_t k = 0;
    for (; k + 2 <= steps; k += 2, w += 256) {
      int8x16_t x0[2], x1[2];
      for (int r = 0; r < R; r++) x0[r] = load_twice(a[r] + 8 * k), x1[r] = load_twice(a[r] + 8 * k + 8);
      for (int i = 0; i < 4; i++) {
        EZ_KEEP_LOADS_HERE;
        const int8x16_t w0 = vld1q_s8(w + 16 * i), w1 = vld1q_s8(w + 128 + 16 * i);
        for (int r = 0; r < R; r++) add_two_steps(&acc[r][2 * i], x0[r], x1[r], w0, w1);
      }
    }
    if (k < steps) {
      int8x16_t x[2];
      for (int r = 0; r < R; r++) x[r] = load_twice(a[r] + 8 * k);
      for (int i = 0; i < 4; i++) {
        const int8x16_t w0 = vld1q_s8(w + 16 * i);
        for (int r = 0; r < R; r++) add_one_step(&acc[r][2 * i], x[r], w0);
      }
      w += 128;
    }
  }
  int16x8_t results[2];
  const float32x4_t m0 = vld1q_f32(g->mult + n0), m1 = vld1q_f32(g->mult + n0 + 4);
  for (int r = 0; r < R; r++) {
    int32x4_t sums[2];
    for (int h = 0; h < 2; h++) {
      const int32x4_t *c = &acc[r][4 * h];
      sums[h] = vaddq_s32(vpaddq_s32(vpaddq_s32(c[0], c[1]), vpaddq_s32(c[2], c[3])), vld1q_s32(g->bias + n0 + 4 * h));
    }
    results[r] = ez_scale8_neon(sums[0], sums[1], m0, m1);
  }
  ez_store_rows8_neon(q, results, R, g->y + (size_t)row0 * g->y_stride + n0, g->y_stride, g->columns - n0);
}

void ez_neon_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, 0); /* conversions are cheap on these cores */
  for (int32_t n0 = 0; n0 < g->columns; n0 += 8) {
    int32_t row = 0;
    for (; row + 2 <= g->rows; row += 2) block(g, &q, row, n0, 2);
    if (row < g->rows) block(g, &q, row, n0, 1);
  }
}
