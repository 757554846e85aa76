/* Depthwise: int8 in words (vpmaddubsw would saturate), float32 plainly. */
#include "isa/avx2/avx2.h"

#define EZ_T 2
#define EZ_DEPTHWISE_NAME ez_avx2_depthwise_s8
#define EZ_COLUMN(x, out) ((out)[0] = _mm256_unpacklo_epi16((x)[0], (x)[1]), (out)[1] = _mm256_unpackhi_epi16((x)[0], (x)[1]))
#define EZ_DOT(acc, x, w) _mm256_add_epi32(acc, _mm256_madd_epi16(x, w))
#define EZ_WEIGHTS(dwords, part) words_of(_mm256_srli_epi32(dwords, 8 * (part)))

/* Bytes 0 and 1 of each dword, widened. */
static inline __m256i words_of(__m256i dwords) {
  const __m256i first = _mm256_srai_epi16(_mm256_slli_epi32(dwords, 8), 8), second = _mm256_srai_epi16(_mm256_slli_epi32(dwords, 16), 8);
  return _mm256_blend_epi16(first, second, 0xaa);
}

#include "isa/avx2/depthwise_columns.inc"

static void line_f32(const ez_depthwise_f32_args *d) {
  const float *taps[EZ_DEPTHWISE_MOST_TAPS];
  const int32_t n = d->kernel_h * d->kernel_w;
  if (n > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_f32(d);
    return;
  }
  const __m256 lo = _mm256_set1_ps(d->lo), hi = _mm256_set1_ps(d->hi);
  for (int32_t p = 0; p < d->pixels; p++) {
    ez_depthwise_f32_taps(d, p, taps);
    for (int32_t c = 0; c < d->channels; c += 8) {
      const float *w = d->w + (size_t)(c / 16) * 16 * (size_t)n + c % 16;
      __m256 acc = _mm256_setzero_ps();
      for (int32_t t = 0; t < n; t++) acc = _mm256_fmadd_ps(_mm256_loadu_ps(taps[t] + c), _mm256_loadu_ps(w + 16 * t), acc);
      const __m256 y = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(acc, _mm256_loadu_ps(d->bias + c)), lo), hi);
      ez_store_floats(d->y + (size_t)p * d->y_stride + c, y, d->channels - c);
    }
  }
}

void ez_avx2_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
