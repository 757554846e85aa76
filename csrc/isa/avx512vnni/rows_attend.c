/* Softmax of a row of scores, factor and mask included: three passes over a row that stays in the first-level cache. The sums of rule 9
 * are one register. Bit for bit what core/float_functions.h and isa/rows_f32.inc write. */
#include "isa/avx512vnni/bytes.h"
#include "isa/avx512vnni/rows.h"

/* ez_expf. roundscale is the rounding by 1.5 * 2^23 wherever the clamp behind it lets it through; 0.693359375 has 9 bits, so its product
 * with a whole number is exact and may be fused; what scalef makes is never subnormal, for n >= -125 and p > 0.6. */
EZ_INLINE __m512 exponential(__m512 v) {
  const __m512 x = _mm512_min_ps(v, _mm512_set1_ps(89.0f));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  n = _mm512_max_ps(n, _mm512_set1_ps(-125.0f));
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_sub_ps(r, _mm512_mul_ps(n, _mm512_set1_ps(-2.12194440e-4f)));
  r = _mm512_max_ps(r, _mm512_set1_ps(-0.4f));
  __m512 p = _mm512_set1_ps(1.394216140e-3f);
  p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(8.363776390e-3f));
  p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(4.166636345e-2f));
  p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.666657336e-1f));
  p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(5.000000029e-1f));
  p = _mm512_add_ps(_mm512_mul_ps(p, _mm512_mul_ps(r, r)), r);
  p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, _mm512_set1_ps(-86.9f), _CMP_GE_OQ), _mm512_scalef_ps(p, n));
}

/* The same of four, operation by operation. */
#define EACH _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
#define TERM(c) EACH p[k] = _mm512_add_ps(_mm512_mul_ps(p[k], r[k]), _mm512_set1_ps(c))
EZ_INLINE void exponentials(__m512 v[4]) {
  __m512 n[4], r[4], p[4];
  EACH r[k] = _mm512_min_ps(v[k], _mm512_set1_ps(89.0f));
  EACH n[k] = _mm512_roundscale_ps(_mm512_mul_ps(r[k], _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  EACH n[k] = _mm512_max_ps(n[k], _mm512_set1_ps(-125.0f));
  EACH r[k] = _mm512_fnmadd_ps(n[k], _mm512_set1_ps(0.693359375f), r[k]);
  EACH r[k] = _mm512_sub_ps(r[k], _mm512_mul_ps(n[k], _mm512_set1_ps(-2.12194440e-4f)));
  EACH r[k] = _mm512_max_ps(r[k], _mm512_set1_ps(-0.4f));
  EACH p[k] = _mm512_set1_ps(1.394216140e-3f);
  TERM(8.363776390e-3f);
  TERM(4.166636345e-2f);
  TERM(1.666657336e-1f);
  TERM(5.000000029e-1f);
  EACH p[k] = _mm512_add_ps(_mm512_mul_ps(p[k], _mm512_mul_ps(r[k], r[k])), r[k]);
  EACH p[k] = _mm512_add_ps(p[k], _mm512_set1_ps(1.0f));
  EACH v[k] = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v[k], _mm512_set1_ps(-86.9f), _CMP_GE_OQ), _mm512_scalef_ps(p[k], n[k]));
}

/* One score after factor and mask. */
EZ_INLINE __m512 prepared(const float *x, const float *mask, __mmask16 rest, __m512 factor, const int divides, const int masks) {
  __m512 t = _mm512_maskz_loadu_ps(rest, x);
  t = divides ? _mm512_div_ps(t, factor) : _mm512_mul_ps(t, factor);
  return masks ? _mm512_add_ps(t, _mm512_maskz_loadu_ps(rest, mask)) : t;
}

/* A number that is none is never the largest: maxps gives its second operand then. */
EZ_INLINE float prepare(const float *x, const float *mask, float factor, float *y, size_t n, const int divides, const int masks) {
  const __m512 wide = _mm512_set1_ps(factor);
  __m512 largest = _mm512_set1_ps(-__builtin_inff());
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512 t = prepared(x + i, mask + i, rest, wide, divides, masks);
    _mm512_mask_storeu_ps(y + i, rest, t);
    largest = _mm512_mask_max_ps(largest, rest, t, largest);
  }
  return _mm512_reduce_max_ps(largest);
}

void ez_avx512vnni_attend_f32(const float *x, const float *mask, float factor, int32_t divides, float *y, size_t n) {
  const float largest = divides ? (mask ? prepare(x, mask, factor, y, n, 1, 1) : prepare(x, y, factor, y, n, 1, 0))
                                : (mask ? prepare(x, mask, factor, y, n, 0, 1) : prepare(x, y, factor, y, n, 0, 0));
  const __m512 top = _mm512_set1_ps(largest);
  __m512 sums = _mm512_setzero_ps();
  size_t i = 0;
  for (; i + 64 <= n; i += 64) { /* four chains at a time: one waits 100 cycles for itself */
    __m512 e[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) e[k] = _mm512_sub_ps(_mm512_loadu_ps(y + i + 16 * k), top);
    exponentials(e);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      _mm512_storeu_ps(y + i + 16 * k, e[k]);
      sums = _mm512_add_ps(sums, e[k]);
    }
  }
  for (; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512 e = _mm512_maskz_mov_ps(rest, exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(rest, y + i), top)));
    _mm512_mask_storeu_ps(y + i, rest, e);
    sums = _mm512_add_ps(sums, e);
  }
  const __m512 share = _mm512_set1_ps(1.0f / sum_of_lanes(sums));
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    _mm512_mask_storeu_ps(y + i, rest, _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, y + i), share));
  }
}
