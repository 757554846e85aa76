/* int8 product without dot-product instructions: 2 rows by 8 outputs.
 *
 * Two k-steps of 8 are multiplied into the same 16-bit lanes (|x| <= 128, |w| <= 127: two products reach 32512 < 32768), then
 * sadalp adds pairs into four 32-bit partial sums a column. A72 multiplies on one pipe and adds on the other: 8 MACs a cycle,
 * which this loop reaches (32.1 cycles for 256, llvm-mca 19). It is written in assembly because compilers load all weights of a
 * step first and then spill sums, and for the in-order A53: eight instructions stand between a product and its next use. */
#include "isa/neon/products.h"

#define TWO_STEPS(ADD)                                                                                           \
  "ldp q4, q5, [%[w]]\n ld1r {v0.2d}, [%[x0]], #8\n ld1r {v1.2d}, [%[x1]], #8\n"                                   \
  "ldp q6, q7, [%[w], #128]\n ld1r {v2.2d}, [%[x0]], #8\n ld1r {v3.2d}, [%[x1]], #8\n"                             \
  FIRST_PRODUCTS "ldp q4, q5, [%[w], #32]\n" SECOND_PRODUCTS "ldp q6, q7, [%[w], #160]\n" SUMS_OF_COLUMNS_0_TO_3(ADD) \
  FIRST_PRODUCTS SECOND_PRODUCTS SUMS_OF_COLUMNS_4_TO_7(ADD) "add %[w], %[w], #256\n"
#define ONE_STEP(ADD)                                                                                            \
  "ldp q4, q5, [%[w]]\n ld1r {v0.2d}, [%[x0]]\n ld1r {v1.2d}, [%[x1]]\n"                                           \
  FIRST_PRODUCTS "ldp q4, q5, [%[w], #32]\n" SUMS_OF_COLUMNS_0_TO_3(ADD) FIRST_PRODUCTS SUMS_OF_COLUMNS_4_TO_7(ADD)     \
  "add %[w], %[w], #128\n"
#define NEXT_TAP "ldp %[x0], %[x1], [%[a]]\n add %[a], %[a], %[a_step]\n"

/* Sums of two rows by the 8 columns at w: columns 0..3 and 4..7 of row 0, then of row 1. The pointers of a tap are a[0] and a[1],
 * those of the next tap stand a_step bytes further. `steps`: k-steps of 8 a tap, at least 1. */
EZ_INLINE void sums_2x8(const uint8_t *const *a, size_t a_step, int32_t taps, int32_t steps, const int8_t *w, int32x4_t sums[4]) {
  register int32x4_t r0_low __asm__("v16"), r0_high __asm__("v20"), r1_low __asm__("v24"), r1_high __asm__("v28");
  const uint8_t *x0, *x1;
  int32_t pairs = steps / 2, left;
  __asm__ volatile(
      NEXT_TAP "mov %w[left], %w[pairs]\n"
      "cbz %w[pairs], 4f\n" TWO_STEPS("saddlp") "b 3f\n"
      "4:\n" ONE_STEP("saddlp") "b 6f\n"
      "1:\n" NEXT_TAP "mov %w[left], %w[pairs]\n"
      "cbz %w[pairs], 5f\n"
      "2:\n" TWO_STEPS("sadalp")
      "3: subs %w[left], %w[left], #1\n b.ne 2b\n"
      "tbz %w[steps], #0, 6f\n"
      "5:\n" ONE_STEP("sadalp")
      "6: subs %w[taps], %w[taps], #1\n b.ne 1b\n" JOIN_PARTS
      : "=w"(r0_low), "=w"(r0_high), "=w"(r1_low), "=w"(r1_high), [a] "+r"(a), [taps] "+r"(taps), [w] "+r"(w),
        [x0] "=&r"(x0), [x1] "=&r"(x1), [left] "=&r"(left)
      : [a_step] "r"(a_step), [pairs] "r"(pairs), [steps] "r"(steps)
      : VECTORS, "cc", "memory");
  sums[0] = r0_low, sums[1] = r0_high, sums[2] = r1_low, sums[3] = r1_high;
}

/* The same for one tap of an even number of steps, at least 4. The last steps flow into what the caller does with the sums: its
 * additions and conversions fill the pipe that products leave idle. */
EZ_INLINE void sums_2x8_plain(const uint8_t *const *a, int32_t steps, const int8_t *w, int32x4_t sums[4]) {
  register int32x4_t r0_low __asm__("v16"), r0_high __asm__("v20"), r1_low __asm__("v24"), r1_high __asm__("v28");
  const uint8_t *x0 = a[0], *x1 = a[1];
  int32_t left = steps / 2 - 2;
  __asm__ volatile(TWO_STEPS("saddlp") "cbz %w[left], 2f\n"
                   "1: subs %w[left], %w[left], #1\n" TWO_STEPS("sadalp") "b.ne 1b\n"
                   "2:\n" TWO_STEPS("sadalp") JOIN_PARTS
                   : "=w"(r0_low), "=w"(r0_high), "=w"(r1_low), "=w"(r1_high), [w] "+r"(w), [x0] "+r"(x0), [x1] "+r"(x1), [left] "+r"(left)
                   :
                   : VECTORS, "cc", "memory");
  sums[0] = r0_low, sums[1] = r0_high, sums[2] = r1_low, sums[3] = r1_high;
}

/* One row: as many weights to load as products, so a plain loop does. */
EZ_INLINE void sums_1x8(const uint8_t *const *a, size_t a_stride, int32_t taps, int32_t steps, const int8_t *w, int32x4_t sums[2]) {
  int32x4_t acc[8];
  for (int n = 0; n < 8; n++) acc[n] = vdupq_n_s32(0);
  for (; taps > 0; taps--, a += a_stride) {
    const uint8_t *x = *a;
    for (int32_t k = 0; k < steps; k++, w += 128) {
      const int8x16_t twice = vreinterpretq_s8_u64(vld1q_dup_u64((const uint64_t *)(const void *)(x + 8 * k)));
      for (int i = 0; i < 4; i++) {
        const int8x16_t columns = vld1q_s8(w + 16 * i);
        acc[2 * i] = vpadalq_s16(acc[2 * i], vmull_s8(vget_low_s8(twice), vget_low_s8(columns)));
        acc[2 * i + 1] = vpadalq_s16(acc[2 * i + 1], vmull_high_s8(twice, columns));
      }
    }
  }
  for (int h = 0; h < 2; h++) sums[h] = vpaddq_s32(vpaddq_s32(acc[4 * h], acc[4 * h + 1]), vpaddq_s32(acc[4 * h + 2], acc[4 * h + 3]));
}

typedef enum { ONE_ROW, TWO_ROWS, TWO_ROWS_PLAIN } rows_kind;

/* One or two rows by 8 columns; w, bias and mult stand at the first column. `floats` is known when this is compiled: a branch between the
 * sums and what becomes of them would keep the last products from flowing into it. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const uint8_t *const *a, const int8_t *w, const int32_t *bias,
                     const float *mult, uint8_t *y, int32_t left, const rows_kind kind, const int floats) {
  const int32_t steps = (int32_t)(((uint32_t)g->channels + 7) / 8), rows = kind == ONE_ROW ? 1 : 2;
  int32x4_t sums[4];
  if (kind == TWO_ROWS_PLAIN)
    sums_2x8_plain(a, steps, w, sums);
  else if (kind == TWO_ROWS)
    sums_2x8(a, g->a_stride * sizeof *a, g->taps, steps, w, sums);
  else
    sums_1x8(a, g->a_stride, g->taps, steps, w, sums);
  ez_neon_finish_8(g, q, a - g->a, bias, mult, sums, rows, y, left, floats);
}

/* All rows by 8 columns. */
EZ_INLINE void column_block(const ez_gemm_s8_args *g, const ez_requant_neon *q, int32_t n0, const rows_kind kind, const int floats) {
  const int8_t *w = g->w + (size_t)(n0 / 16) * g->panel_bytes + (size_t)(n0 % 16) * 8;
  const uint8_t *const *a = g->a;
  uint8_t *y = g->y + n0;
  int32_t rows = g->rows;
  for (; rows >= 2; rows -= 2, a += 2, y += 2 * g->y_stride) block(g, q, a, w, g->bias + n0, g->mult + n0, y, g->columns - n0, kind, floats);
  if (rows) block(g, q, a, w, g->bias + n0, g->mult + n0, y, g->columns - n0, ONE_ROW, floats);
}

void ez_neon_gemm_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, 0); /* conversions are cheap on these cores */
  const int32_t steps = (g->channels + 7) / 8, plain = g->taps == 1 && steps % 2 == 0 && steps >= 4;
  for (int32_t n0 = 0; n0 < g->columns; n0 += 8) {
    if (g->y_f32)
      column_block(g, &q, n0, TWO_ROWS, 1);
    else if (plain)
      column_block(g, &q, n0, TWO_ROWS_PLAIN, 0);
    else
      column_block(g, &q, n0, TWO_ROWS, 0);
  }
}
