/* Floats -> stored bytes. Division is by far the slowest vector instruction of these cores (A72: 28 cycles for four floats), so the
 * quotient is a product with the reciprocal r of the scale, corrected once: t = x * r, then t + (x - t * scale) * r by fma. Its rounding is
 * that of x / scale: tried for all 2^23 mantissas of a scale, beside (3 floats to either side of) every half integer up to 257.5, which is
 * where rounding decides. x is cut to what the clamp leaves, so nothing overflows; scales with which the remainder could get denormal
 * are left to the division. */
#include "isa/neon/neon.h"
#include "isa/neon/rows.h"

#define LEAST_SCALE 0x1p-60f
#define MOST_SCALE 0x1p60f

extern const ez_rows ez_rows_neon;

typedef struct quantizer {
  float32x4_t scale, reciprocal, least, most; /* x outside of least..most ends in the clamp whatever it is */
  int16x8_t zero_point;
  int8x16_t lo, hi, flip;
} quantizer;

static quantizer quantizer_of(uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi) {
  return (quantizer){
      .scale = vdupq_n_f32(scale), .reciprocal = vdupq_n_f32(1.0f / scale),
      .least = vdupq_n_f32((float)(lo - zy - 1) * scale), .most = vdupq_n_f32((float)(hi - zy + 1) * scale),
      .zero_point = vdupq_n_s16((int16_t)zy), .lo = vdupq_n_s8((int8_t)lo), .hi = vdupq_n_s8((int8_t)hi),
      .flip = vreinterpretq_s8_u8(vdupq_n_u8((uint8_t)act_sign)),
  };
}

/* What is no number becomes the least, as by the contract's clamp. */
EZ_INLINE float32x4_t quotient(const quantizer *q, float32x4_t x) {
  x = vminq_f32(vbslq_f32(vcgtq_f32(x, q->least), x, q->least), q->most);
  const float32x4_t t = vmulq_f32(x, q->reciprocal);
  return vfmaq_f32(t, vfmsq_f32(x, t, q->scale), q->reciprocal);
}

/* The low half of t + EZ_MAGIC is t rounded to even. */
EZ_INLINE int16x8_t eight(const quantizer *q, const float *x) {
  const float32x4_t magic = vdupq_n_f32(EZ_MAGIC);
  const float32x4_t a = vaddq_f32(quotient(q, vld1q_f32(x)), magic), b = vaddq_f32(quotient(q, vld1q_f32(x + 4)), magic);
  return vaddq_s16(vuzp1q_s16(vreinterpretq_s16_f32(a), vreinterpretq_s16_f32(b)), q->zero_point);
}

EZ_INLINE int8x16_t sixteen(const quantizer *q, const float *x) {
  const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(eight(q, x)), eight(q, x + 8));
  return veorq_s8(vminq_s8(vmaxq_s8(bytes, q->lo), q->hi), q->flip);
}

void ez_neon_quantize(const float *x, uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi) {
  if (!(scale >= LEAST_SCALE && scale <= MOST_SCALE)) {
    ez_rows_neon.quantize(x, y, n, act_sign, scale, zy, lo, hi);
    return;
  }
  const quantizer q = quantizer_of(act_sign, scale, zy, lo, hi);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) vst1q_s8((int8_t *)y + i, sixteen(&q, x + i));
  if (i == n) return;
  float rest[16] = {0};
  int8_t bytes[16];
  memcpy(rest, x + i, (n - i) * sizeof *x);
  vst1q_s8(bytes, sixteen(&q, rest));
  memcpy(y + i, bytes, n - i);
}

void ez_neon_quantize_planes(const float *const planes[3], uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi) {
  size_t i = 0;
  if (scale >= LEAST_SCALE && scale <= MOST_SCALE) {
    const quantizer q = quantizer_of(act_sign, scale, zy, lo, hi);
    for (; i + 16 <= n; i += 16) {
      const int8x16x3_t pixels = {{sixteen(&q, planes[0] + i), sixteen(&q, planes[1] + i), sixteen(&q, planes[2] + i)}};
      vst3q_s8((int8_t *)y + 3 * i, pixels);
    }
  }
  if (i == n) return;
  const float *const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
  ez_rows_neon.quantize_planes(rest, y + 3 * i, n - i, act_sign, scale, zy, lo, hi);
}
