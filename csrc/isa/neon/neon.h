/* Kernels for ARMv8.0 (A53, A72): no dot product. Activations are signed bytes (act_sign 0), weights K8N16. */
#ifndef EDGEZIP_NEON_H
#define EDGEZIP_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "isa/codes.h"
#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

/* Compilers like to load all weights of a step first, and constants before the loop, and then spill sums for want of registers. */
#define EZ_KEEP_LOADS_HERE __asm__ volatile("" ::: "memory")
/* The same for what `pointer` points to, a local array included. */
#define EZ_LOAD_AGAIN(pointer) __asm__ volatile("" : "+r"(pointer)::"memory")

void ez_neon_gemm_s8(const ez_gemm_s8_args *args);
void ez_neon_blocks_s8(const ez_gemm_s8_args *args);
void ez_neon_gemm_f32(const ez_gemm_f32_args *args);
void ez_neon_depthwise_s8(const ez_depthwise_s8_args *args);
/* Whether the shape was one that slides (3 x 3, stride 1 or 2, no dilation), and is done. */
int ez_neon_slide_s8(const ez_depthwise_s8_args *args);
void ez_neon_depthwise_f32(const ez_depthwise_f32_args *args);
/* Float results (isa.h) of `rows` rows from `row` on, of 4 * `fours` columns from n on. */
void ez_neon_store_floats(const ez_gemm_s8_args *g, ptrdiff_t row, ptrdiff_t n, const int32x4_t *sums, int32_t rows, int32_t fours);

/* Rule 4 of EZ-N1 in vectors. Rounding is monotone and keeps whole numbers, so clamping after it, by narrowing with saturation,
 * gives the same bytes as the rule's clamp before it, whatever the sum. (Multipliers are finite: there is no NaN to order.)
 *
 * small_sums (ez_format.h): conversions by adding 1.5 * 2^23. They cost A76-class cores two cycles a vector on one pipe, an
 * addition half a cycle. The sums then start from bias + EZ_MAGIC_BITS, so they are floats already, and the low 16 bits of the
 * rounded float are the result. An even zero point is added by the same addition (an odd one would turn ties around). */
#define EZ_MAGIC 12582912.0f
#define EZ_MAGIC_BITS 0x4b400000

typedef struct ez_requant_neon {
  float32x4_t round;     /* EZ_MAGIC, plus the zero point where that is even */
  int16x8_t zero_point;  /* what is still to be added to 16-bit results */
  int32x4_t bias_offset; /* to be added to every bias */
  int8x16_t lo, hi;
  int32_t small_sums, adds, clamps; /* adds: zero_point is not 0; clamps: lo or hi cut more than a byte does */
  int32_t simple;                   /* small_sums, and neither adds nor clamps */
} ez_requant_neon;

EZ_INLINE ez_requant_neon ez_requant_neon_of(int32_t lo, int32_t hi, int32_t zero_point, int32_t small_sums) {
  const int folded = small_sums && zero_point % 2 == 0;
  return (ez_requant_neon){
      .round = vdupq_n_f32(EZ_MAGIC + (folded ? (float)zero_point : 0.0f)),
      .zero_point = vdupq_n_s16(folded ? 0 : (int16_t)zero_point),
      .bias_offset = vdupq_n_s32(small_sums ? EZ_MAGIC_BITS : 0),
      .lo = vdupq_n_s8((int8_t)lo), .hi = vdupq_n_s8((int8_t)hi),
      .small_sums = small_sums, .adds = !folded && zero_point, .clamps = lo > -128 || hi < 127,
      .simple = folded && lo == -128 && hi == 127,
  };
}

/* Eight sums -> results before the zero point, for sums that started from the plain bias. */
EZ_INLINE int16x8_t ez_scale8_neon(int32x4_t low, int32x4_t high, float32x4_t m0, float32x4_t m1) {
  const int32x4_t a = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(low), m0)), b = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(high), m1));
  return vqmovn_high_s32(vqmovn_s32(a), b);
}

/* The same for sums that started from bias + EZ_MAGIC_BITS. */
EZ_INLINE int16x8_t ez_scale8_small_neon(const ez_requant_neon *q, int32x4_t low, int32x4_t high, float32x4_t m0, float32x4_t m1) {
  const float32x4_t magic = vdupq_n_f32(EZ_MAGIC);
  const float32x4_t a = vaddq_f32(vmulq_f32(vsubq_f32(vreinterpretq_f32_s32(low), magic), m0), q->round);
  const float32x4_t b = vaddq_f32(vmulq_f32(vsubq_f32(vreinterpretq_f32_s32(high), magic), m1), q->round);
  return vuzp1q_s16(vreinterpretq_s16_f32(a), vreinterpretq_s16_f32(b));
}

/* The low 8 bytes of `bytes`, or the `left` that there still are. */
EZ_INLINE void ez_store8_neon(uint8_t *y, int8x8_t bytes, int32_t left) {
  if (left >= 8) {
    vst1_s8((int8_t *)y, bytes);
    return;
  }
  int8_t tail[8];
  vst1_s8(tail, bytes);
  memcpy(y, tail, (size_t)left);
}

/* R rows (up to 8) of eight results with the zero point in them: clamp, store. */
EZ_INLINE void ez_store_rows8_neon(const ez_requant_neon *q, const int16x8_t *results, const int R, uint8_t *y, size_t stride, int32_t left) {
  int8x16_t bytes[4]; /* two rows each */
  for (int r = 0; r < R; r += 2) {
    bytes[r / 2] = vqmovn_high_s16(vqmovn_s16(results[r]), results[r + 1 < R ? r + 1 : r]);
    bytes[r / 2] = vminq_s8(vmaxq_s8(bytes[r / 2], q->lo), q->hi);
  }
  if (left >= 8) {
    for (int r = 0; r < R; r++, y += stride) {
      if (r % 2)
        vst1q_lane_s64((int64_t *)(void *)y, vreinterpretq_s64_s8(bytes[r / 2]), 1);
      else
        vst1_s8((int8_t *)y, vget_low_s8(bytes[r / 2]));
    }
  } else {
    for (int r = 0; r < R; r++, y += stride) ez_store8_neon(y, r % 2 ? vget_high_s8(bytes[r / 2]) : vget_low_s8(bytes[r / 2]), left);
  }
}

/* R rows (up to 4) of sixteen results: zero point, clamp, store. */
EZ_INLINE void ez_store_rows16_neon(const ez_requant_neon *q, int16x8_t results[][2], const int R, uint8_t *y, size_t stride, int32_t left) {
  if (q->adds)
    for (int r = 0; r < R; r++)
      for (int h = 0; h < 2; h++) results[r][h] = vqaddq_s16(results[r][h], q->zero_point);
  int8x16_t bytes[4];
  for (int r = 0; r < R; r++) bytes[r] = vqmovn_high_s16(vqmovn_s16(results[r][0]), results[r][1]);
  if (q->clamps)
    for (int r = 0; r < R; r++) bytes[r] = vminq_s8(vmaxq_s8(bytes[r], q->lo), q->hi);
  if (left >= 16) {
    for (int r = 0; r < R; r++) vst1q_s8((int8_t *)y + (size_t)r * stride, bytes[r]);
    return;
  }
  for (int r = 0; r < R; r++) {
    int8_t tail[16];
    vst1q_s8(tail, bytes[r]);
    memcpy(y + (size_t)r * stride, tail, (size_t)left);
  }
}

EZ_INLINE void ez_store4_neon(float *y, float32x4_t values, int32_t left) {
  if (left >= 4) {
    vst1q_f32(y, values);
    return;
  }
  float tail[4];
  vst1q_f32(tail, values);
  memcpy(y, tail, (size_t)left * sizeof(float));
}

/* The clamp of float outputs by compare and select: fmaxnm orders the two zeros, the contract's `t > lo ? t : lo` does not. */
EZ_INLINE float32x4_t ez_clamp_neon(float32x4_t t, float32x4_t lo, float32x4_t hi) {
  t = vbslq_f32(vcgtq_f32(t, lo), t, lo);
  return vbslq_f32(vcltq_f32(t, hi), t, hi);
}

extern const ez_codes_kernels ez_neon_codes; /* codes.c */

#endif
