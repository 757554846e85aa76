/* EZ-N1 in scalar C: what a quantised step computes, to the bit. The oracle of every vector path.
 *
 * Needs round-to-nearest mode, -ffp-contract=off and no -ffast-math. Written so that a compiler vectorises it.
 */
#ifndef EDGEZIP_NUMERICS_H
#define EDGEZIP_NUMERICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* t limited to [lo, hi]; NaN gives lo (the order of maxps, minps). */
static inline float ez_clamp(float t, float lo, float hi) {
  t = t > lo ? t : lo;
  return t < hi ? t : hi;
}

/* Round half to even for |t| < 2^22: after the addition the integer stands in the low bits of the mantissa. This form
 * becomes an add and a subtract on every vector unit, also where no rounding conversion exists (SSE2, ARMv7). */
static inline int32_t ez_rne(float t) {
  float shifted = t + 12582912.0f; /* 1.5 * 2^23 */
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4b400000;
}

/* t in steps of the output scale -> logical s8 in [lo, hi]: clamped before the conversion. */
static inline int32_t ez_to_s8(float t, int32_t lo, int32_t hi, int32_t zero_point) {
  return ez_rne(ez_clamp(t, (float)(lo - zero_point), (float)(hi - zero_point))) + zero_point;
}

/* Rule 4: accumulator and per-channel multiplier -> logical s8. */
static inline int32_t ez_requantize_acc(int32_t acc, float mult, int32_t lo, int32_t hi, int32_t zero_point) {
  return ez_to_s8((float)acc * mult, lo, hi, zero_point);
}

/* Stored byte <-> logical value. act_sign is 0 or 0x80. */
static inline int32_t ez_logical(uint8_t stored, uint32_t act_sign) { return (int8_t)(uint8_t)(stored ^ act_sign); }
static inline uint8_t ez_stored(int32_t logical, uint32_t act_sign) { return (uint8_t)((uint32_t)logical ^ act_sign); }

/* What a product kernel multiplies: x86 reads stored bytes as unsigned, ARM as signed. */
static inline int32_t ez_operand(uint8_t stored, uint32_t act_sign) { return act_sign ? (int32_t)stored : (int32_t)(int8_t)stored; }

/* s8 at one scale -> s8 at another; m = f32(f64(sx) / f64(sy)). */
static inline int32_t ez_requantize(int32_t x, float m, int32_t zx, int32_t zy, int32_t lo, int32_t hi) {
  return ez_to_s8((float)(x - zx) * m, lo, hi, zy);
}

/* float32 -> s8 by division. */
static inline int32_t ez_quantize(float x, float scale, int32_t zy, int32_t lo, int32_t hi) { return ez_to_s8(x / scale, lo, hi, zy); }

static inline float ez_dequantize(int32_t x, float scale, int32_t zx) { return (float)(x - zx) * scale; }

/* Rule 6: each operand scaled and rounded, then the sum (or difference). */
static inline int32_t ez_add(int32_t a, int32_t b, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi) {
  float scaled_a = (float)(a - za) * ma, scaled_b = (float)(b - zb) * mb;
  return ez_to_s8(scaled_a + scaled_b, lo, hi, zy);
}
static inline int32_t ez_sub(int32_t a, int32_t b, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi) {
  float scaled_a = (float)(a - za) * ma, scaled_b = (float)(b - zb) * mb;
  return ez_to_s8(scaled_a - scaled_b, lo, hi, zy);
}
static inline int32_t ez_mul(int32_t a, int32_t b, int32_t za, int32_t zb, float m, int32_t zy, int32_t lo, int32_t hi) {
  return ez_to_s8(((float)(a - za) * (float)(b - zb)) * m, lo, hi, zy);
}

/* Average: sum of centred values over count, in output steps. */
static inline int32_t ez_average(int32_t sum, float count, float m, int32_t zy, int32_t lo, int32_t hi) {
  return ez_to_s8(((float)sum / count) * m, lo, hi, zy);
}

static inline int32_t ez_round_up(int32_t n, int32_t step) { return (n + step - 1) / step * step; }

#endif
