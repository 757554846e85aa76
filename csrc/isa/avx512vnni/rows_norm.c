/* Normalisation of a row with its sums in one register (isa/rows_norm.inc says what; the same bits). */
#include <math.h>

#include "isa/avx512vnni/bytes.h"
#include "isa/avx512vnni/rows.h"

/* Two registers, every other vector, would be another order: rule 9 has 16 partial sums, one chain of additions. Rows follow each other
 * without waiting, so the chains of two or three overlap. */
void ez_avx512vnni_norm_f32(const float *x, const float *more, float *s, const float *scale, const float *bias, float *y, size_t n, float epsilon,
                            int32_t centres) {
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  if (more) {
    for (size_t i = 0; i < n; i += 16) {
      const __mmask16 rest = mask_16(n - i);
      const __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(rest, x + i), _mm512_maskz_loadu_ps(rest, more + i));
      _mm512_mask_storeu_ps(s + i, rest, v);
      sum = _mm512_add_ps(sum, v);
    }
    x = s;
  } else if (centres) {
    for (size_t i = 0; i < n; i += 16) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask_16(n - i), x + i));
  }
  const __m512 mean = _mm512_set1_ps(centres ? sum_of_lanes(sum) / (float)n : 0.0f);
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    const __m512 d = _mm512_maskz_sub_ps(rest, _mm512_maskz_loadu_ps(rest, x + i), mean);
    squares = _mm512_add_ps(squares, _mm512_mul_ps(d, d));
  }
  const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(sum_of_lanes(squares) / (float)n + epsilon));
  for (size_t i = 0; i < n; i += 16) {
    const __mmask16 rest = mask_16(n - i);
    __m512 t = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(rest, x + i), mean), factor);
    t = _mm512_mul_ps(t, _mm512_maskz_loadu_ps(rest, scale + i));
    if (bias) t = _mm512_add_ps(t, _mm512_maskz_loadu_ps(rest, bias + i));
    _mm512_mask_storeu_ps(y + i, rest, t);
  }
}
