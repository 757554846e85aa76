/* Depthwise, 16 channels at a time, weights (C/16, taps, 16): two taps share a 16-bit lane, then widen into 32 bits. */
#include "isa/depthwise.h"
#include "isa/neon/neon.h"
#include "isa/portable/portable.h"

EZ_INLINE void widen(int32x4_t acc[4], int16x8_t low, int16x8_t high) {
  acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
  acc[1] = vaddw_high_s16(acc[1], low);
  acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
  acc[3] = vaddw_high_s16(acc[3], high);
}

EZ_INLINE int8x16_t load16(const uint8_t *a) { return vreinterpretq_s8_u8(vld1q_u8(a)); }

static void line_s8(const ez_depthwise_s8_args *d) {
  const uint8_t *a[EZ_DEPTHWISE_MOST_TAPS];
  const int32_t taps = d->kernel_h * d->kernel_w;
  if (taps > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  const ez_requant_neon q = ez_requant_neon_of(d->lo, d->hi, d->zero_point, 0);
  for (int32_t p = 0; p < d->pixels; p++) {
    ez_depthwise_s8_taps(d, p, a);
    for (int32_t c = 0; c < d->channels; c += 16) {
      const int8_t *w = d->w + (size_t)c * (size_t)taps;
      int32x4_t acc[4];
      for (int i = 0; i < 4; i++) acc[i] = vld1q_s32(d->bias + c + 4 * i);
      int32_t t = 0;
      for (; t + 2 <= taps; t += 2) {
        const int8x16_t x0 = load16(a[t] + c), x1 = load16(a[t + 1] + c), w0 = vld1q_s8(w + 16 * t), w1 = vld1q_s8(w + 16 * t + 16);
        widen(acc, vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1)),
              vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1));
      }
      if (t < taps) {
        const int8x16_t x = load16(a[t] + c), w0 = vld1q_s8(w + 16 * t);
        widen(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w0)), vmull_high_s8(x, w0));
      }
      uint8_t *y = d->y + (size_t)p * d->y_stride + c;
      int16x8_t low = ez_scale8_neon(acc[0], acc[1], vld1q_f32(d->mult + c), vld1q_f32(d->mult + c + 4));
      int16x8_t high = ez_scale8_neon(acc[2], acc[3], vld1q_f32(d->mult + c + 8), vld1q_f32(d->mult + c + 12));
      low = vqaddq_s16(low, q.zero_point), high = vqaddq_s16(high, q.zero_point);
      ez_store_rows8_neon(&q, &low, 1, y, 0, d->channels - c);
      if (d->channels - c > 8) ez_store_rows8_neon(&q, &high, 1, y + 8, 0, d->channels - c - 8);
    }
  }
}

static void line_f32(const ez_depthwise_f32_args *d) {
  const float *a[EZ_DEPTHWISE_MOST_TAPS];
  const int32_t taps = d->kernel_h * d->kernel_w;
  if (taps > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_f32(d);
    return;
  }
  const float32x4_t lo = vdupq_n_f32(d->lo), hi = vdupq_n_f32(d->hi);
  for (int32_t p = 0; p < d->pixels; p++) {
    ez_depthwise_f32_taps(d, p, a);
    for (int32_t c = 0; c < d->channels; c += 4) {
      const float *w = d->w + (size_t)(c / 16) * 16 * (size_t)taps + c % 16;
      float32x4_t acc = vdupq_n_f32(0);
      for (int32_t t = 0; t < taps; t++) acc = vfmaq_f32(acc, vld1q_f32(a[t] + c), vld1q_f32(w + 16 * t));
      const float32x4_t y = ez_clamp_neon(vaddq_f32(acc, vld1q_f32(d->bias + c)), lo, hi);
      ez_store4_neon(d->y + (size_t)p * d->y_stride + c, y, d->channels - c);
    }
  }
}

void ez_neon_depthwise_s8(const ez_depthwise_s8_args *d) {
  if (!ez_neon_slide_s8(d)) ez_depthwise_s8_each_line(d, line_s8);
}

void ez_neon_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
