/* Depthwise of K4N16: kernels of 3 x 3 and 5 x 5 slide along the row; of any other shape, pixel by pixel, 16 channels at a time:
 * four taps zipped to (channel, tap) order, one sdot for four channels. */
#include "isa/dotprod/dotprod.h"
#include "isa/dotprod/slide.h"
#include "isa/portable/portable.h"

/* taps: four of the pixel's pointers, NULL where the weights are zero. */
EZ_INLINE void add_group(int32x4_t acc[4], const uint8_t *const taps[4], int32_t c, const int8_t *w) {
  int8x16_t x[4];
  for (int i = 0; i < 4; i++) x[i] = taps[i] ? vreinterpretq_s8_u8(vld1q_u8(taps[i] + c)) : vdupq_n_s8(0);
  const int16x8_t low01 = vreinterpretq_s16_s8(vzip1q_s8(x[0], x[1])), high01 = vreinterpretq_s16_s8(vzip2q_s8(x[0], x[1]));
  const int16x8_t low23 = vreinterpretq_s16_s8(vzip1q_s8(x[2], x[3])), high23 = vreinterpretq_s16_s8(vzip2q_s8(x[2], x[3]));
  acc[0] = vdotq_s32(acc[0], vreinterpretq_s8_s16(vzip1q_s16(low01, low23)), vld1q_s8(w));
  acc[1] = vdotq_s32(acc[1], vreinterpretq_s8_s16(vzip2q_s16(low01, low23)), vld1q_s8(w + 16));
  acc[2] = vdotq_s32(acc[2], vreinterpretq_s8_s16(vzip1q_s16(high01, high23)), vld1q_s8(w + 32));
  acc[3] = vdotq_s32(acc[3], vreinterpretq_s8_s16(vzip2q_s16(high01, high23)), vld1q_s8(w + 48));
}

/* The packed weights are what the window needs: dwords of four rows of a column. */
EZ_INLINE void as_packed(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2], const int DWORDS) {
  const int8_t *from = d->w + (size_t)(c / 16) * (size_t)DWORDS * 64 + (size_t)(c % 16) * 4;
  for (int i = 0; i < DWORDS; i++) w[i][0] = vld1q_s8(from + 64 * i), w[i][1] = vld1q_s8(from + 64 * i + 16);
}
EZ_INLINE void as_packed_3(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2]) { as_packed(d, c, w, 3); }
EZ_INLINE void as_packed_5(const ez_depthwise_s8_args *d, int32_t c, int8x16_t w[][2]) { as_packed(d, c, w, 10); }

static void line_s8(const ez_depthwise_s8_args *d) {
  const uint8_t *taps[EZ_DEPTHWISE_MOST_TAPS], *grouped[4 * EZ_DEPTHWISE_MOST_TAPS];
  if (d->kernel_h * d->kernel_w > EZ_DEPTHWISE_MOST_TAPS) {
    ez_portable_depthwise_s8(d);
    return;
  }
  const int32_t groups = ez_depthwise_groups(d->kernel_h, d->kernel_w);
  const ez_requant_neon q = ez_requant_neon_of(d->lo, d->hi, d->zero_point, 0);
  for (int32_t p = 0; p < d->pixels; p++) {
    ez_depthwise_s8_taps(d, p, taps);
    for (int32_t i = 0; i < 4 * groups; i++) {
      const int32_t tap = ez_depthwise_tap(d->kernel_h, d->kernel_w, i / 4, i % 4);
      grouped[i] = tap < 0 ? NULL : taps[tap];
    }
    for (int32_t c = 0; c < d->channels; c += 16) {
      const int8_t *w = d->w + (size_t)(c / 16) * (size_t)groups * 64;
      int32x4_t acc[4];
      for (int i = 0; i < 4; i++) acc[i] = vld1q_s32(d->bias + c + 4 * i);
      for (int32_t g = 0; g < groups; g++) add_group(acc, grouped + 4 * g, c, w + 64 * g);
      uint8_t *y = d->y + (size_t)p * d->y_stride + c;
      int16x8_t low = ez_scale8_neon(acc[0], acc[1], vld1q_f32(d->mult + c), vld1q_f32(d->mult + c + 4));
      int16x8_t high = ez_scale8_neon(acc[2], acc[3], vld1q_f32(d->mult + c + 8), vld1q_f32(d->mult + c + 12));
      low = vqaddq_s16(low, q.zero_point), high = vqaddq_s16(high, q.zero_point);
      ez_store_rows8_neon(&q, &low, 1, y, 0, d->channels - c);
      if (d->channels - c > 8) ez_store_rows8_neon(&q, &high, 1, y + 8, 0, d->channels - c - 8);
    }
  }
}

void ez_dotprod_depthwise_s8(const ez_depthwise_s8_args *d) {
  if (!slide_s8(d, as_packed_3, as_packed_5)) ez_depthwise_s8_each_line(d, line_s8);
}
