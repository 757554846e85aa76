/* float32 <-> int8.
 *
 * A quotient by one divisor s costs a product and two fused multiply-adds: q = x * r, then q + (x - q * s) * r with r = 1 / s. That is
 * the correctly rounded quotient: the remainder is exact, and what it leaves is far below half a unit. Checked against division
 * for all 2^23 mantissas of s at every half integer up to 255.5 (where rounding decides), and over every x for 400 of them.
 * A register of vdivps takes 16 cycles here, this takes 1.5. Beside it x is held in [(lo - zy) * s, (hi - zy) * s] beforehand:
 * what lies outside ends at the same bound, and so infinities never meet the remainder. NaN becomes lo, as the contract says. */
#include "isa/avx512vnni/bytes.h"
#include "isa/avx512vnni/rows.h"

typedef struct quantizer {
  __m512 lo, hi, scale, reciprocal;
  __m512 step_lo, step_hi;
} quantizer;

EZ_INLINE quantizer quantizer_of(float scale, int32_t zero_point, int32_t lo, int32_t hi) {
  const float least = (float)(lo - zero_point), most = (float)(hi - zero_point);
  return (quantizer){_mm512_set1_ps(least * scale), _mm512_set1_ps(most * scale), _mm512_set1_ps(scale), _mm512_set1_ps(1.0f / scale),
                     _mm512_set1_ps(least), _mm512_set1_ps(most)};
}

/* A scale with which remainder or reciprocal could leave the normal floats: then it is divided after all. */
EZ_INLINE int is_extreme(float scale) { return !(scale > 1e-30f && scale < 1e30f); }

EZ_INLINE __m512i quantized(__m512 x, const quantizer *q, const int divides) {
  if (divides) return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_div_ps(x, q->scale), q->step_lo), q->step_hi));
  x = _mm512_min_ps(_mm512_max_ps(x, q->lo), q->hi);
  const __m512 about = _mm512_mul_ps(x, q->reciprocal);
  return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_fnmadd_ps(about, q->scale, x), q->reciprocal, about));
}

EZ_INLINE void quantize_row(const float *x, uint8_t *y, size_t n, const quantizer *q, const byte_sink *sink, int32_t zy, const int divides) {
  __m512i steps[4];
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) steps[k] = quantized(_mm512_loadu_ps(x + i + 16 * k), q, divides);
    _mm512_storeu_si512(y + i, stored_in_order(steps, sink));
  }
  for (; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512i bytes = _mm512_add_epi32(quantized(_mm512_maskz_loadu_ps(rest, x + i), q, divides), _mm512_set1_epi32(zy + 128));
    _mm_mask_storeu_epi8(y + i, rest, _mm_xor_si128(_mm512_cvtepi32_epi8(bytes), _mm512_castsi512_si128(sink->flip)));
  }
}

void ez_avx512vnni_quantize(const float *x, uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi) {
  const quantizer q = quantizer_of(scale, zy, lo, hi);
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);
  if (is_extreme(scale)) quantize_row(x, y, n, &q, &sink, zy, 1);
  else quantize_row(x, y, n, &q, &sink, zy, 0);
}

/* Largest magnitude: maxps takes its second operand where one is NaN, so the sums stand there. */
float ez_avx512vnni_quantize_row(const float *x, uint8_t *y, size_t n, uint32_t act_sign) {
  __m512 most = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 16) most = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(mask_16(n - i), x + i)), most);
  const float unit = _mm512_reduce_max_ps(most) / 127.0f, scale = unit > 0.0f ? unit : 1.0f;
  ez_avx512vnni_quantize(x, y, n, act_sign, scale, 0, -127, 127);
  return scale;
}

/* 16 pixels: three dword vectors joined into one of (r, g, b, 0), then the zero bytes squeezed out. */
EZ_INLINE __m512i pixels_of(const float *const planes[3], size_t i, __mmask16 rest, const quantizer *q, __m512i shift, const int divides) {
  const __m512i squeeze = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i close = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
  __m512i c[3];
#pragma GCC unroll 3
  for (int k = 0; k < 3; k++) c[k] = quantized(_mm512_maskz_loadu_ps(rest, planes[k] + i), q, divides);
  const __m512i joined = _mm512_add_epi32(_mm512_add_epi32(c[0], shift), _mm512_add_epi32(_mm512_slli_epi32(c[1], 8), _mm512_slli_epi32(c[2], 16)));
  return _mm512_permutexvar_epi32(close, _mm512_shuffle_epi8(joined, squeeze));
}

EZ_INLINE void quantize_pixels(const float *const planes[3], uint8_t *y, size_t n, const quantizer *q, __m512i shift, __m512i flip, const int divides) {
  for (size_t i = 0; i < n; i += 16) {
    const size_t bytes = n - i < 16 ? 3 * (n - i) : 48;
    const __m512i pixels = pixels_of(planes, i, mask_16(n - i), q, shift, divides);
    _mm512_mask_storeu_epi8(y + 3 * i, (1ull << bytes) - 1, _mm512_xor_si512(pixels, flip));
  }
}

void ez_avx512vnni_quantize_planes(const float *const planes[3], uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo,
                                   int32_t hi) {
  const quantizer q = quantizer_of(scale, zy, lo, hi);
  const __m512i shift = _mm512_set1_epi32((zy + 128) * 0x010101), flip = flip_of(act_sign);
  if (is_extreme(scale)) quantize_pixels(planes, y, n, &q, shift, flip, 1);
  else quantize_pixels(planes, y, n, &q, shift, flip, 0);
}

void ez_avx512vnni_dequantize(const uint8_t *x, float *y, size_t n, uint32_t act_sign, float scale, int32_t zx) {
  const __m512i minus_zx = minus_zero_point(zx);
  const __m512 wide_scale = _mm512_set1_ps(scale);
  const __m128i flip = _mm512_castsi512_si128(flip_of(act_sign));
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_xor_si128(_mm_maskz_loadu_epi8(rest, x + i), flip));
    _mm512_mask_storeu_ps(y + i, rest, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(wide, minus_zx)), wide_scale));
  }
}
