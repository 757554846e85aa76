/* Depthwise, 16 channels at a time: four taps are interleaved by byte and word unpacks to (channel, tap) order, widened to 16
 * bits and multiplied by vpmaddwd, which leaves two partial sums a channel as in the product kernel. */
#include "isa/avx2/avx2.h"
#include "isa/depthwise.h"
#include "isa/portable/portable.h"

/* taps: four of the pixel's pointers, NULL where the weights are zero. */
EZ_INLINE void add_group(__m256i acc[4], const uint8_t *const taps[4], int32_t c, const int8_t *w) {
  __m128i x[4];
  for (int i = 0; i < 4; i++) x[i] = taps[i] ? _mm_loadu_si128((const __m128i *)(taps[i] + c)) : _mm_setzero_si128();
  const __m128i low01 = _mm_unpacklo_epi8(x[0], x[1]), high01 = _mm_unpackhi_epi8(x[0], x[1]);
  const __m128i low23 = _mm_unpacklo_epi8(x[2], x[3]), high23 = _mm_unpackhi_epi8(x[2], x[3]);
  const __m128i quads[4] = {_mm_unpacklo_epi16(low01, low23), _mm_unpackhi_epi16(low01, low23), _mm_unpacklo_epi16(high01, high23),
                            _mm_unpackhi_epi16(high01, high23)};
  for (int i = 0; i < 4; i++) {
    const __m256i b = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16 * i)));
    acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_cvtepu8_epi16(quads[i]), b));
  }
}

static void line_s8(const ez_depthwise_s8_args *d) {
  const uint8_t *taps[EZ_DEPTHWISE_MOST_TAPS], *grouped[4 * EZ_DEPTHWISE_MOST_TAPS];
  if (d->kernel_h * d->kernel_w > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  const int32_t groups = ez_depthwise_groups(d->kernel_h, d->kernel_w);
  const ez_requant256 q = ez_requant256_of(d->lo, d->hi, d->zero_point);
  for (int32_t p = 0; p < d->pixels; p++) {
    ez_depthwise_s8_taps(d, p, taps);
    for (int32_t i = 0; i < 4 * groups; i++) {
      const int32_t tap = ez_depthwise_tap(d->kernel_h, d->kernel_w, i / 4, i % 4);
      grouped[i] = tap < 0 ? NULL : taps[tap];
    }
    for (int32_t c = 0; c < d->channels; c += 16) {
      const int8_t *w = d->w + (size_t)(c / 16) * (size_t)groups * 64;
      __m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
      for (int32_t g = 0; g < groups; g++) add_group(acc, grouped + 4 * g, c, w + 64 * g);
      ez_store_bytes(d->y + (size_t)p * d->y_stride + c, ez_finish256(&q, acc, d->bias + c, d->mult + c), d->channels - c);
    }
  }
}

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

void ez_avx2_depthwise_s8(const ez_depthwise_s8_args *d) { ez_depthwise_s8_each_line(d, line_s8); }

void ez_avx2_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
