/* EZ-N1 in scalar C: the oracle that every vector path is held to, bit for bit (numerics of the design, rules 2-6).
 *
 * Needs -ffp-contract=off and round-to-nearest. Clamps keep the operand order of maxps/minps, so NaN becomes `lo` everywhere. */
#ifndef EDGEZIP_NUMERICS_H
#define EDGEZIP_NUMERICS_H

#include <math.h>
#include <stdint.h>

static inline float ez_clamp(float t, float lo, float hi) {
  t = t > lo ? t : lo;
  return t < hi ? t : hi;
}

/* Round half to even for |t| < 2^22. SSE2 has no rounding instruction: rintf would be a call, and no loop around it a vector loop. */
static inline float ez_round(float t) { return (t + 12582912.0f) - 12582912.0f; }

/* t in steps of the output scale -> logical int8. The clamp comes before the conversion: x86 and ARM convert out-of-range
 * values differently. */
static inline int32_t ez_to_s8(float t, int32_t lo, int32_t hi, int32_t zero_point) {
  return (int32_t)ez_round(ez_clamp(t, (float)(lo - zero_point), (float)(hi - zero_point))) + zero_point;
}

/* The stored byte of a logical int8, and back. */
static inline uint8_t ez_store(int32_t logical, uint32_t act_sign) { return (uint8_t)((uint32_t)logical ^ act_sign); }
static inline int32_t ez_load(uint8_t stored, uint32_t act_sign) { return (int8_t)(uint8_t)(stored ^ act_sign); }

/* What a product kernel multiplies (rule 3): x86 reads stored bytes as unsigned, ARM as signed. */
static inline int32_t ez_operand(uint8_t stored, uint32_t act_sign) { return act_sign ? (int32_t)stored : (int32_t)(int8_t)stored; }

/* Steps from the zero point. */
static inline float ez_centred(uint8_t stored, uint32_t act_sign, int32_t zero_point) {
  return (float)(ez_load(stored, act_sign) - zero_point);
}

/* Rule 4: exact s32 sum -> int8. f32(acc) rounds to nearest even. */
static inline int32_t ez_requantize_s32(int32_t acc, float mult, int32_t lo, int32_t hi, int32_t zero_point) {
  return ez_to_s8((float)acc * mult, lo, hi, zero_point);
}

static inline int32_t ez_quantize_f32(float x, float scale, int32_t lo, int32_t hi, int32_t zero_point) {
  return ez_to_s8(x / scale, lo, hi, zero_point);
}

/* Rule 3: sums wrap modulo 2^32 on the way; unsigned arithmetic keeps that defined. */
static inline int32_t ez_mac(int32_t acc, int32_t x, int32_t w) { return (int32_t)((uint32_t)acc + (uint32_t)(x * w)); }

#endif
