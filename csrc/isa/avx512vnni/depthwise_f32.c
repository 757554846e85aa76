/* float32 depthwise: eight pixels by 16 channels, each a chain of fmas in ascending taps; eight chains hide the latency. */
#include "isa/avx512vnni/avx512vnni.h"
#include "isa/depthwise.h"
#include "isa/portable/portable.h"

#define PIXELS 8

EZ_INLINE void block(const ez_depthwise_f32_args *d, const float *const *taps, int32_t n, int32_t first, int32_t c, const int P) {
  const __m512 lo = _mm512_set1_ps(d->lo), hi = _mm512_set1_ps(d->hi), bias = _mm512_loadu_ps(d->bias + c);
  const float *w = d->w + (size_t)c * (size_t)n;
  const __mmask16 mask = d->channels - c >= 16 ? 0xffff : (__mmask16)((1u << (d->channels - c)) - 1);
  __m512 acc[PIXELS];
#pragma GCC unroll 8
  for (int i = 0; i < P; i++) acc[i] = _mm512_setzero_ps();
  for (int32_t t = 0; t < n; t++) {
    const __m512 weight = _mm512_loadu_ps(w + 16 * t);
#pragma GCC unroll 8
    for (int i = 0; i < P; i++) acc[i] = _mm512_fmadd_ps(_mm512_loadu_ps(taps[i * n + t] + c), weight, acc[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < P; i++) {
    const __m512 y = _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc[i], bias), lo), hi);
    _mm512_mask_storeu_ps(d->y + (size_t)(first + i) * d->y_stride + c, mask, y);
  }
}

static void line_f32(const ez_depthwise_f32_args *d) {
  const float *taps[PIXELS * EZ_DEPTHWISE_MOST_TAPS];
  const int32_t n = d->kernel_h * d->kernel_w;
  if (n > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_f32(d);
    return;
  }
  for (int32_t p = 0; p < d->pixels; p += PIXELS) {
    const int32_t count = d->pixels - p < PIXELS ? d->pixels - p : PIXELS;
    for (int32_t i = 0; i < count; i++) ez_depthwise_f32_taps(d, p + i, taps + i * n);
    for (int32_t c = 0; c < d->channels; c += 16) {
      if (count == PIXELS)
        block(d, taps, n, p, c, PIXELS);
      else
        for (int32_t i = 0; i < count; i++) block(d, taps + i * n, n, p + i, c, 1);
    }
  }
}

void ez_avx512vnni_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
