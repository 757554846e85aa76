/* Depthwise, 16 channels at a time: four taps are interleaved by byte and word unpacks to (channel, tap) order, widened to 16
 * bits and multiplied by vpmaddwd, which leaves two partial sums a channel as in the product kernel. */
#include "isa/avx2/avx2.h"

EZ_INLINE void add_group(__m256i acc[4], const uint8_t *const *a, int32_t first, int32_t taps, int32_t c, const int8_t *w) {
  __m128i x[4];
  for (int i = 0; i < 4; i++) /* a tap past the end has zero weights: any readable bytes do */
    x[i] = _mm_loadu_si128((const __m128i *)(a[first + i < taps ? first + i : 0] + c));
  const __m128i low01 = _mm_unpacklo_epi8(x[0], x[1]), high01 = _mm_unpackhi_epi8(x[0], x[1]);
  const __m128i low23 = _mm_unpacklo_epi8(x[2], x[3]), high23 = _mm_unpackhi_epi8(x[2], x[3]);
  const __m128i quads[4] = {_mm_unpacklo_epi16(low01, low23), _mm_unpackhi_epi16(low01, low23), _mm_unpacklo_epi16(high01, high23),
                            _mm_unpackhi_epi16(high01, high23)};
  for (int i = 0; i < 4; i++) {
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * i)));
    acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(quads[i]), b));
  }
}

void ez_avx2_depthwise_s8(const ez_depthwise_s8_args *d) {
  const int32_t groups = (d->taps + 3) / 4;
  const ez_requant256 q = ez_requant256_of(d->lo, d->hi, d->zero_point);
  for (int32_t c = 0; c < d->channels; c += 16) {
    const int8_t *w = d->w + (size_t)(c / 16) * groups * 64;
    for (int32_t p = 0; p < d->pixels; p++) {
      __m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
      for (int32_t g = 0; g < groups; g++) add_group(acc, d->a + (size_t)p * d->taps, 4 * g, d->taps, c, w + 64 * g);
      ez_store_bytes(d->y + (size_t)p * d->y_stride + c, ez_finish256(&q, acc, d->bias + c, d->mult + c), d->channels - c);
    }
  }
}

void ez_avx2_depthwise_f32(const ez_depthwise_f32_args *d) {
  const __m256 lo = _mm256_set1_ps(d->lo), hi = _mm256_set1_ps(d->hi);
  for (int32_t c = 0; c < d->channels; c += 8) {
    const float *w = d->w + (size_t)(c / 16) * 16 * d->taps + c % 16;
    const __m256 bias = _mm256_loadu_ps(d->bias + c);
    for (int32_t p = 0; p < d->pixels; p++) {
      const float *const *a = d->a + (size_t)p * d->taps;
      __m256 acc = _mm256_setzero_ps();
      for (int32_t t = 0; t < d->taps; t++) acc = _mm256_fmadd_ps(_mm256_loadu_ps(a[t] + c), _mm256_loadu_ps(w + 16 * t), acc);
      const __m256 y = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(acc, bias), lo), hi);
      ez_store_floats(d->y + (size_t)p * d->y_stride + c, y, d->channels - c);
    }
  }
}
