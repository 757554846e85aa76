/* What all depthwise kernels share: where a tap's input lies, and which taps a dword of packed weights holds. */
#ifndef EDGEZIP_ISA_DEPTHWISE_H
#define EDGEZIP_ISA_DEPTHWISE_H

#include "isa/isa.h"

/* K4N16: four vertical taps of one column a dword, (C/16, ceil(kernel_h/4), kernel_w, 16, 4), so that a kernel that slides along a
 * row interleaves each input column once and uses it kernel_w times. A kernel of one row has four horizontal taps a dword. */
static inline int32_t ez_depthwise_groups(int32_t kernel_h, int32_t kernel_w) {
  return kernel_h == 1 ? (kernel_w + 3) / 4 : (kernel_h + 3) / 4 * kernel_w;
}

/* Tap number i (0..3) of group g: ky * kernel_w + kx, or -1 where the weights are padding. */
static inline int32_t ez_depthwise_tap(int32_t kernel_h, int32_t kernel_w, int32_t g, int32_t i) {
  if (kernel_h == 1) return 4 * g + i < kernel_w ? 4 * g + i : -1;
  const int32_t ky = g / kernel_w * 4 + i;
  return ky < kernel_h ? ky * kernel_w + g % kernel_w : -1;
}

/* Channel 0 of what a row shows at input column ix. */
static inline const uint8_t *ez_depthwise_s8_at(const ez_depthwise_s8_args *d, int32_t ky, int32_t ix) {
  return (uint32_t)ix < (uint32_t)d->in_w ? d->rows[ky] + (size_t)ix * d->steps[ky] : d->outside;
}

static inline const float *ez_depthwise_f32_at(const ez_depthwise_f32_args *d, int32_t ky, int32_t ix) {
  return (uint32_t)ix < (uint32_t)d->in_w ? d->rows[ky] + (size_t)ix * d->steps[ky] : d->outside;
}

/* Taps of one pixel to pointers, in the order of `tap = ky * kernel_w + kx`. */
static inline void ez_depthwise_s8_taps(const ez_depthwise_s8_args *d, int32_t pixel, const uint8_t **out) {
  for (int32_t ky = 0; ky < d->kernel_h; ky++)
    for (int32_t kx = 0; kx < d->kernel_w; kx++)
      *out++ = ez_depthwise_s8_at(d, ky, d->column + pixel * d->stride + kx * d->dilation);
}

static inline void ez_depthwise_f32_taps(const ez_depthwise_f32_args *d, int32_t pixel, const float **out) {
  for (int32_t ky = 0; ky < d->kernel_h; ky++)
    for (int32_t kx = 0; kx < d->kernel_w; kx++)
      *out++ = ez_depthwise_f32_at(d, ky, d->column + pixel * d->stride + kx * d->dilation);
}

/* Calls a kernel of one line for each line. */
static inline void ez_depthwise_s8_each_line(const ez_depthwise_s8_args *d, void (*line)(const ez_depthwise_s8_args *)) {
  ez_depthwise_s8_args one = *d;
  one.lines = 1;
  for (int32_t i = 0; i < d->lines; i++, one.rows += d->kernel_h, one.steps += d->kernel_h, one.y += d->y_line_stride) line(&one);
}

static inline void ez_depthwise_f32_each_line(const ez_depthwise_f32_args *d, void (*line)(const ez_depthwise_f32_args *)) {
  ez_depthwise_f32_args one = *d;
  one.lines = 1;
  for (int32_t i = 0; i < d->lines; i++, one.rows += d->kernel_h, one.steps += d->kernel_h, one.y += d->y_line_stride) line(&one);
}

/* Taps up to which a kernel keeps a pixel's pointers on its stack; larger kernels go to portable C. */
#define EZ_DEPTHWISE_MOST_TAPS 64

#endif
