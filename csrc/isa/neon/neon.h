/* Kernels for ARMv8.0 (A53, A72): no dot product. Activations are signed bytes (act_sign 0), weights K8N16. */
#ifndef EDGEZIP_NEON_H
#define EDGEZIP_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "isa/isa.h"

#define EZ_INLINE static inline __attribute__((always_inline))

void ez_neon_gemm_s8(const ez_gemm_s8_args *args);
void ez_neon_gemm_f32(const ez_gemm_f32_args *args);
void ez_neon_depthwise_s8(const ez_depthwise_s8_args *args);
void ez_neon_depthwise_f32(const ez_depthwise_f32_args *args);

typedef struct ez_requant_neon {
  float32x4_t lo, hi;
  int32x4_t zero_point;
} ez_requant_neon;

EZ_INLINE ez_requant_neon ez_requant_neon_of(int32_t lo, int32_t hi, int32_t zero_point) {
  return (ez_requant_neon){vdupq_n_f32((float)(lo - zero_point)), vdupq_n_f32((float)(hi - zero_point)), vdupq_n_s32(zero_point)};
}

/* Rule 4 for four sums. fmaxnm and fminnm give the number where the other operand is NaN, as the contract's clamp does. */
EZ_INLINE int32x4_t ez_requant_neon_apply(const ez_requant_neon *q, int32x4_t acc, float32x4_t mult) {
  float32x4_t t = vmulq_f32(vcvtq_f32_s32(acc), mult);
  t = vminnmq_f32(vmaxnmq_f32(t, q->lo), q->hi);
  return vaddq_s32(vcvtnq_s32_f32(t), q->zero_point);
}

/* Eight sums -> eight logical bytes. */
EZ_INLINE int8x8_t ez_finish8_neon(const ez_requant_neon *q, int32x4_t low, int32x4_t high, const float *mult) {
  const int16x4_t a = vmovn_s32(ez_requant_neon_apply(q, low, vld1q_f32(mult)));
  const int16x4_t b = vmovn_s32(ez_requant_neon_apply(q, high, vld1q_f32(mult + 4)));
  return vmovn_s16(vcombine_s16(a, b));
}

EZ_INLINE void ez_store8_neon(uint8_t *y, int8x8_t bytes, int32_t left) {
  if (left >= 8) {
    vst1_s8((int8_t *)y, bytes);
    return;
  }
  int8_t tail[8];
  vst1_s8(tail, bytes);
  memcpy(y, tail, (size_t)left);
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

#endif
