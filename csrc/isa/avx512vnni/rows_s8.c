/* int8 arithmetic on rows: 64 elements a step, the last step masked. */
#include <math.h>

#include "isa/avx512vnni/bytes.h"
#include "isa/avx512vnni/rows.h"

/* One kernel over two rows: `round` makes the rounded sum in output steps from u (of a) and v (of b). */
#define EACH_PAIR(round)                                                                                                    \
  for (size_t i = 0; i < n; i += 64) {                                                                                           \
    const __mmask64 rest = mask_64(n - i);                                                                                       \
    const __m512i xa = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, a + i), sink.flip);                                        \
    const __m512i xb = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, b + i), sink.flip);                                        \
    __m512i steps[4];                                                                                                            \
    _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {                                                                        \
      const __m512 u = centred(xa, minus_za, k), v = centred(xb, minus_zb, k);                                                   \
      steps[k] = round;                                                                                                          \
    }                                                                                                                            \
    _mm512_mask_storeu_epi8(y + i, rest, stored(steps, &sink));                                                                  \
  }

/* The range is kept by saturation where the largest sum allows it: 8 of 50 operations less. */
#define PAIRS(largest, sum)                                                                    \
  const __m512i minus_za = minus_zero_point(za), minus_zb = minus_zero_point(zb);              \
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);                                        \
  if (fits_int32(largest)) {                                                                   \
    EACH_PAIR(nearest(sum))                                                               \
  } else {                                                                                     \
    EACH_PAIR(rounded(sum, &sink))                                                        \
  }

void ez_avx512vnni_add_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma,
                          float mb, int32_t zy, int32_t lo, int32_t hi) {
  const __m512 wide_ma = _mm512_set1_ps(ma), wide_mb = _mm512_set1_ps(mb);
  PAIRS(255.0f * (fabsf(ma) + fabsf(mb)), _mm512_add_ps(_mm512_mul_ps(u, wide_ma), _mm512_mul_ps(v, wide_mb)))
}

void ez_avx512vnni_sub_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma,
                          float mb, int32_t zy, int32_t lo, int32_t hi) {
  const __m512 wide_ma = _mm512_set1_ps(ma), wide_mb = _mm512_set1_ps(mb);
  PAIRS(255.0f * (fabsf(ma) + fabsf(mb)), _mm512_sub_ps(_mm512_mul_ps(u, wide_ma), _mm512_mul_ps(v, wide_mb)))
}

void ez_avx512vnni_mul_s8(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float m,
                          int32_t zy, int32_t lo, int32_t hi) {
  const __m512 wide_m = _mm512_set1_ps(m);
  PAIRS(255.0f * 255.0f * fabsf(m), _mm512_mul_ps(_mm512_mul_ps(u, v), wide_m))
}

void ez_avx512vnni_requantize(const uint8_t *x, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zx, int32_t zy, int32_t lo,
                              int32_t hi) {
  const __m512i minus_zx = minus_zero_point(zx);
  const __m512 wide_m = _mm512_set1_ps(m);
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);
  for (size_t i = 0; i < n; i += 64) {
    const __mmask64 rest = mask_64(n - i);
    const __m512i bytes = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x + i), sink.flip);
    __m512i steps[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) steps[k] = rounded(_mm512_mul_ps(centred(bytes, minus_zx, k), wide_m), &sink);
    _mm512_mask_storeu_epi8(y + i, rest, stored(steps, &sink));
  }
}

void ez_avx512vnni_lerp_s8(const uint8_t *const corner[4], float across, float down, uint8_t *y, size_t n, uint32_t act_sign, int32_t zx,
                           float m, int32_t zy, int32_t lo, int32_t hi) {
  const __m512i minus_zx = minus_zero_point(zx);
  const __m512 wide_across = _mm512_set1_ps(across), wide_down = _mm512_set1_ps(down), wide_m = _mm512_set1_ps(m);
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);
  for (size_t i = 0; i < n; i += 64) {
    const __mmask64 rest = mask_64(n - i);
    __m512i x[4], steps[4];
    for (int k = 0; k < 4; k++) x[k] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, corner[k] + i), sink.flip);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const __m512 a = centred(x[0], minus_zx, k), b = centred(x[1], minus_zx, k), c = centred(x[2], minus_zx, k), d = centred(x[3], minus_zx, k);
      const __m512 top = _mm512_add_ps(a, _mm512_mul_ps(_mm512_sub_ps(b, a), wide_across));
      const __m512 bottom = _mm512_add_ps(c, _mm512_mul_ps(_mm512_sub_ps(d, c), wide_across));
      const __m512 between = _mm512_add_ps(top, _mm512_mul_ps(_mm512_sub_ps(bottom, top), wide_down));
      steps[k] = rounded(_mm512_mul_ps(between, wide_m), &sink);
    }
    _mm512_mask_storeu_epi8(y + i, rest, stored(steps, &sink));
  }
}

/* Sixteen at a time, in order, for the factors lie by channel. */
void ez_avx512vnni_prelu_s8(const uint8_t *x, const float *positive, const float *negative, uint8_t *y, size_t n, uint32_t act_sign,
                            int32_t zx, int32_t zy, int32_t lo, int32_t hi) {
  const __m512i minus_zx = minus_zero_point(zx), excess = _mm512_set1_epi32(zy + 128);
  const byte_sink sink = sink_of(act_sign, zy, lo, hi);
  const __m128i flip = _mm512_castsi512_si128(sink.flip);
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_xor_si128(_mm_maskz_loadu_epi8(rest, x + i), flip));
    const __m512 steps = _mm512_cvtepi32_ps(_mm512_add_epi32(wide, minus_zx));
    const __mmask16 below = _mm512_cmp_ps_mask(steps, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 factor = _mm512_mask_loadu_ps(_mm512_maskz_loadu_ps(rest, positive + i), rest & below, negative + i);
    const __m512i sum = _mm512_add_epi32(rounded(_mm512_mul_ps(steps, factor), &sink), excess);
    _mm_mask_storeu_epi8(y + i, rest, _mm_xor_si128(_mm512_cvtepi32_epi8(sum), flip));
  }
}
