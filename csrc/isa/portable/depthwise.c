/* Portable depthwise: int8 in both layouts and signs, and float. */
#include <math.h>
#include <string.h>

#include "core/numerics.h"
#include "edgezip/ez_format.h"
#include "isa/depthwise.h"
#include "isa/portable/portable.h"

/* Weight of channel c at (ky, kx): K4N16 as in isa/depthwise.h, K8N16 is (C/16, taps, 16). */
static int32_t weight(const ez_depthwise_s8_args *d, int32_t c, int32_t ky, int32_t kx) {
  const int32_t lane = c % 16;
  const size_t panel = (size_t)(c / 16), taps = (size_t)d->kernel_h * (size_t)d->kernel_w;
  if (d->layout == EZ_LAYOUT_K8N16) return d->w[(panel * taps + (size_t)(ky * d->kernel_w + kx)) * 16 + (size_t)lane];
  const int32_t group = d->kernel_h == 1 ? kx / 4 : ky / 4 * d->kernel_w + kx, i = d->kernel_h == 1 ? kx % 4 : ky % 4;
  return d->w[(panel * (size_t)ez_depthwise_groups(d->kernel_h, d->kernel_w) + (size_t)group) * 64 + (size_t)(lane * 4 + i)];
}

static void line_s8(const ez_depthwise_s8_args *d) {
  for (int32_t p = 0; p < d->pixels; p++) {
    uint8_t *y = d->y + (size_t)p * d->y_stride;
    for (int32_t c = 0; c < d->channels; c++) {
      int32_t acc = d->bias[c];
      for (int32_t ky = 0; ky < d->kernel_h; ky++)
        for (int32_t kx = 0; kx < d->kernel_w; kx++) {
          const uint8_t *a = ez_depthwise_s8_at(d, ky, d->column + p * d->stride + kx * d->dilation);
          acc = ez_mac(acc, ez_operand(a[c], d->act_sign), weight(d, c, ky, kx));
        }
      y[c] = ez_store(ez_requantize_s32(acc, d->mult[c], d->lo, d->hi, d->zero_point), d->act_sign);
    }
  }
}

/* One fmaf chain a channel in ascending taps, bias last. Where the target has no fused multiply-add, fmaf is libm's: slow, exact. */
static void line_f32(const ez_depthwise_f32_args *d) {
  const size_t taps = (size_t)d->kernel_h * (size_t)d->kernel_w;
  for (int32_t c = 0; c < d->channels; c += 16) {
    const float *bias = d->bias + c;
    const size_t bytes = sizeof(float) * (size_t)(d->channels - c < 16 ? d->channels - c : 16);
    for (int32_t p = 0; p < d->pixels; p++) {
      const float *w = d->w + (size_t)c * taps; /* (taps, 16) */
      float acc[16] = {0};
      for (int32_t ky = 0; ky < d->kernel_h; ky++)
        for (int32_t kx = 0; kx < d->kernel_w; kx++, w += 16) {
          const float *a = ez_depthwise_f32_at(d, ky, d->column + p * d->stride + kx * d->dilation) + c;
          for (int i = 0; i < 16; i++) acc[i] = fmaf(a[i], w[i], acc[i]);
        }
      for (int i = 0; i < 16; i++) acc[i] = ez_clamp(acc[i] + bias[i], d->lo, d->hi);
      memcpy(d->y + (size_t)p * d->y_stride + c, acc, bytes);
    }
  }
}

void ez_portable_depthwise_s8(const ez_depthwise_s8_args *d) { ez_depthwise_s8_each_line(d, line_s8); }

void ez_portable_depthwise_f32(const ez_depthwise_f32_args *d) { ez_depthwise_f32_each_line(d, line_f32); }
