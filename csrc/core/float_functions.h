/* Float32 functions with fixed polynomials and a fixed order of plain multiplies and adds, or of fmaf in all of a polynomial, so
 * that every machine gives the same bits (EZ-N1 rule 9). kernels/float_functions.py is their twin; change both or none. Coefficients: least-squares fits, reweighted
 * towards the smallest largest error, made for EdgeZip. Errors against float64 are stated at each function.
 *
 * Needs -ffp-contract=off and round-to-nearest. */
#ifndef EDGEZIP_FLOAT_FUNCTIONS_H
#define EDGEZIP_FLOAT_FUNCTIONS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/numerics.h"

/* 2^n for n in [-126, 127]. */
static inline float ez_power_of_two(int32_t n) {
  const uint32_t bits = (uint32_t)(n + 127) << 23;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/* Nearest even integer for |x| < 2^22: below SSE4.1 rintf is a call, these are two additions. */
static inline float ez_nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* Relative error below 1.3e-7. NaN gives 0; above 88.72 infinity; below -86.9 zero. No denormal ever appears: one costs a hundred
 * normal operations (softmax over logits 100 apart took 17 ns an element, now 3). n and r are held separately: a clamp of v alone
 * is undone by gcc, which computes with the unclamped v and picks the constant afterwards. */
static inline float ez_expf(float v) {
  const float x = v < 89.0f ? v : 89.0f;
  float n = ez_nearest(x * 1.44269504f);
  n = n > -125.0f ? n : -125.0f;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  r = r > -0.4f ? r : -0.4f;
  float p = 1.394216140e-3f;
  p = p * r + 8.363776390e-3f;
  p = p * r + 4.166636345e-2f;
  p = p * r + 1.666657336e-1f;
  p = p * r + 5.000000029e-1f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  const int32_t whole = (int32_t)n, half = whole >> 1; /* 2^n in two factors: n may be 128 */
  const float value = (p * ez_power_of_two(half)) * ez_power_of_two(whole - half);
  return v >= -86.9f ? value : 0.0f;
}

/* Absolute error below 1.2e-7; NaN gives 1, and what lies beyond 86 what 86 does (4.5e-38 from 0 and 1). An exponential of its own, with
 * fma: networks are full of SiLU, and through ez_expf it took twice the time (9.9 ns and 19.5 ns for 16 on AVX512 and AVX2, now 4.6
 * and 7.5; Sapphire Rapids VM, 2026-11-24). exp(-x) = 2^n * p, |r| <= ln(2)/2; n sits in the low bits of `shifted`. */
static inline float ez_sigmoidf(float x) {
  float v = x < 86.0f ? x : 86.0f;
  v = v > -86.0f ? v : -86.0f;
  const float shifted = fmaf(v, -1.44269504f, 12582912.0f), n = shifted - 12582912.0f;
  const float r = fmaf(n, -2.12194440e-4f, fmaf(n, 0.693359375f, v));
  float p = -8.290288595e-3f;
  p = fmaf(p, r, 4.189807137e-2f);
  p = fmaf(p, r, -1.666763738e-1f);
  p = fmaf(p, r, 4.999914849e-1f);
  p = fmaf(p, r, -9.999997066e-1f);
  p = fmaf(p, r, 1.0f);
  uint32_t exponent, bits;
  memcpy(&exponent, &shifted, 4);
  memcpy(&bits, &p, 4);
  bits += exponent << 23;
  memcpy(&p, &bits, 4);
  return 1.0f / (1.0f + p);
}

/* Relative error below 3e-7. */
static inline float ez_tanhf(float x) {
  const float a = fabsf(x), s = x * x;
  float p = -6.113328295e-3f;
  p = p * s + 2.101017565e-2f;
  p = p * s + -5.385408984e-2f;
  p = p * s + 1.333279468e-1f;
  p = p * s + -3.333332925e-1f;
  const float small = x + x * (s * p);
  const float e = ez_expf(-2.0f * a);
  const float large = copysignf((1.0f - e) / (1.0f + e), x);
  return a < 0.625f ? small : large;
}

/* Absolute error below 2.5e-7. */
static inline float ez_erff(float x) {
  const float a = fabsf(x), s = x * x;
  float p = 7.889119796e-5f;
  p = p * s + -8.020841602e-4f;
  p = p * s + 5.189535409e-3f;
  p = p * s + -2.685444465e-2f;
  p = p * s + 1.128360018e-1f;
  p = p * s + -3.761262714e-1f;
  p = p * s + 1.128379166f;
  const float t = 1.0f / (1.0f + 0.4f * a);
  float q = -2.218075853e-1f;
  q = q * t + 8.032343402e-1f;
  q = q * t + -5.380281039e-1f;
  q = q * t + 6.226567967e-1f;
  q = q * t + 8.382599174e-2f;
  q = q * t + 2.522464568e-1f;
  q = q * t + -2.114026803e-3f;
  const float large = copysignf(1.0f - q * ez_expf(-s), x);
  return a < 1.0f ? x * p : large;
}

/* Absolute error below 3e-7 times |x|. */
static inline float ez_geluf(float x) { return (0.5f * x) * (1.0f + ez_erff(x * 0.707106781f)); }
/* The tanh form: 0.5 * x * (1 + tanh(u)) is x * sigmoid(2 u). Absolute error below 3e-7 times |x|. */
static inline float ez_gelu_tanhf(float x) { return x * ez_sigmoidf(x * (1.59576912f + 0.0713548163f * (x * x))); }
static inline float ez_siluf(float x) { return x * ez_sigmoidf(x); }

static inline float ez_hard_sigmoidf(float x, float alpha, float beta) { return ez_clamp(alpha * x + beta, 0.0f, 1.0f); }
static inline float ez_hard_swishf(float x) { return x * ez_clamp(x * 0.166666667f + 0.5f, 0.0f, 1.0f); }
static inline float ez_leaky_reluf(float x, float alpha) { return x < 0.0f ? alpha * x : x; }
static inline float ez_eluf(float x, float alpha) { return x < 0.0f ? alpha * (ez_expf(x) - 1.0f) : x; }

/* Relative error below 2e-7 away from 1, absolute there. 0 gives -inf, negative and NaN give NaN. */
static inline float ez_logf(float x) {
  const float scaled = x < 1.17549435e-38f ? x * 8388608.0f : x; /* denormals: times 2^23 */
  uint32_t bits;
  memcpy(&bits, &scaled, 4);
  const uint32_t shifted = bits - 0x3f3504f3u; /* sqrt(1/2): the mantissa ends up in [0.707, 1.414) */
  float e = (float)((int32_t)shifted >> 23);
  const uint32_t mantissa_bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
  float m;
  memcpy(&m, &mantissa_bits, 4);
  e = x < 1.17549435e-38f ? e - 23.0f : e;
  const float f = m - 1.0f, f2 = f * f;
  float p = -8.305386945e-2f;
  p = p * f + 1.279891006e-1f;
  p = p * f + -1.294342195e-1f;
  p = p * f + 1.419023643e-1f;
  p = p * f + -1.664348805e-1f;
  p = p * f + 2.000187990e-1f;
  p = p * f + -2.500028087e-1f;
  p = p * f + 3.333332654e-1f;
  const float tail = (p * f) * f2 - 0.5f * f2;
  const float value = (e * -2.12194440e-4f + tail) + (f + e * 0.693359375f);
  if (x > 3.40282347e38f) return x;
  return x > 0.0f ? value : x == 0.0f ? -INFINITY : NAN;
}

/* Absolute error below 3e-7. */
static inline float ez_softplusf(float x) { return (x > 0.0f ? x : 0.0f) + ez_logf(1.0f + ez_expf(-fabsf(x))); }

#endif
