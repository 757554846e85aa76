/* Rare functions of one float, computed in double with plain multiplies and adds in a fixed order and rounded once at the end: the same
 * bits on every machine, error below one unit of float32. kernels/double_functions.py is their twin; change both or none.
 * Speed does not matter here; what does is in float_functions.h. Sines of more than 2^26 are bounded nonsense. */
#ifndef EDGEZIP_DOUBLE_FUNCTIONS_H
#define EDGEZIP_DOUBLE_FUNCTIONS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x for results that fit float32: below -110 as at -110, above 90 as at 90. */
static inline double ez_exp(double x) {
  x = x > -110.0 ? x : -110.0;
  x = x < 90.0 ? x : 90.0;
  const double n = rint(x * 1.4426950408889634);
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  static const double c[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0, 1.0 / 5040.0, 1.0 / 720.0,
                             1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0};
  for (int i = 0; i < 13; i++) p = p * r + c[i];
  const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
  double power;
  memcpy(&power, &bits, 8);
  return p * power;
}

/* Natural logarithm of a positive normal double. */
static inline double ez_log(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  const uint64_t shifted = bits - 0x3fe6a09e667f3bcdull; /* mantissa into [sqrt(1/2), sqrt(2)) */
  const double e = (double)((int64_t)shifted >> 52);
  const uint64_t mantissa = (shifted & 0x000fffffffffffffull) + 0x3fe6a09e667f3bcdull;
  double m;
  memcpy(&m, &mantissa, 8);
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.0 / 21.0;
  for (int k = 19; k > 0; k -= 2) p = p * z + 1.0 / k;
  return e * 0.693147180559945309417 + 2.0 * s * p;
}

/* Sine of x plus `quarter` right angles. */
static inline double ez_sine(double x, int quarter) {
  const double n = rint(x * 0.63661977236758134308);
  double r = ((x - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21;
  r = r > -0.9 ? r : -0.9;
  r = r < 0.9 ? r : 0.9;
  const double z = r * r, turn = n + quarter, place = turn - 4.0 * floor(turn * 0.25);
  double s = 1.0, c = 1.0;
  for (int k = 16; k > 0; k -= 2) s = 1.0 - s * z / (k * (k + 1));
  for (int k = 17; k > 0; k -= 2) c = 1.0 - c * z / (k * (k + 1));
  s = place == 1.0 || place == 3.0 ? c : r * s;
  return place >= 2.0 ? -s : s;
}

/* Two halvings of the angle bring it below 0.2. */
static inline double ez_arctangent(double x) {
  const double a = fabs(x), t = a > 1.0 ? 1.0 / a : a;
  const double h = t / (1.0 + sqrt(1.0 + t * t)), q = h / (1.0 + sqrt(1.0 + h * h)), z = q * q;
  double p = 1.0 / 27.0;
  for (int k = 25; k > 0; k -= 2) p = 1.0 / k - p * z;
  const double angle = 4.0 * (q * p);
  return copysign(a > 1.0 ? 1.57079632679489661923 - angle : angle, x);
}

static inline double ez_arcsine(double x) { return ez_arctangent(x / sqrt((1.0 - x) * (1.0 + x))); }

static inline double ez_sinh(double x) {
  const double z = x * x;
  return fabs(x) < 0.03 ? x * (1.0 + z * (1.0 / 6.0 + z / 120.0)) : (ez_exp(x) - ez_exp(-x)) * 0.5;
}
static inline double ez_cosh(double x) { return (ez_exp(x) + ez_exp(-x)) * 0.5; }
static inline double ez_asinh(double x) {
  const double a = fabs(x), z = x * x;
  return a < 0.03 ? x * (1.0 - z * (1.0 / 6.0 - z * (3.0 / 40.0))) : copysign(ez_log(a + sqrt(z + 1.0)), x);
}
static inline double ez_acosh(double x) { return x >= 1.0 ? ez_log(x + sqrt((x - 1.0) * (x + 1.0))) : NAN; }
static inline double ez_atanh(double x) {
  const double a = fabs(x), z = x * x;
  if (a < 0.03) return x * (1.0 + z * (1.0 / 3.0 + z * 0.2));
  return a < 1.0 ? 0.5 * ez_log((1.0 + x) / (1.0 - x)) : a == 1.0 ? copysign(INFINITY, x) : NAN;
}

/* a^b of floats, as C's pow has the special cases. */
static inline double ez_pow(double a, double b) {
  if (b == 0.0 || a == 1.0) return 1.0;
  if (isnan(a) || isnan(b)) return NAN;
  const double size = fabs(a);
  const int whole = b == rint(b), odd = whole && fabs(b) < 9007199254740992.0 && b * 0.5 != rint(b * 0.5);
  if (a < 0.0 && !whole) return NAN;
  double y = size == 1.0 ? 1.0 : 0.0;
  if (size == 0.0 || isinf(size)) y = (size == 0.0) == (b > 0.0) ? 0.0 : INFINITY;
  else if (size != 1.0) y = ez_exp(b * ez_log(size));
  return signbit(a) && odd ? -y : y;
}

#endif
