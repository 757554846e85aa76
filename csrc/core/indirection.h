/* Pointers from output pixels to what they see: the indirection that lets a product kernel do any convolution in place.
 *
 * XNNPACK and QNNPACK keep such a table for the whole layer; here it is made for one block of pixels at a time, in L1. */
#ifndef EDGEZIP_INDIRECTION_H
#define EDGEZIP_INDIRECTION_H

#include <stddef.h>
#include <stdint.h>

#include "edgezip/ez_format.h"

/* One image (or group of channels) and the geometry of the taps; distances in bytes. */
typedef struct ez_taps {
  const uint8_t *x;   /* (H, W) pixels of pixel_bytes each */
  const uint8_t *pad; /* what a tap outside of the image reads */
  int32_t height, width;
  size_t pixel_bytes;
  const ez_conv_params *p;
} ez_taps;

/* out[j * pixel_step] for `count` pixels (i, j0 + j) of the output grid, tap (ky, kx). */
static inline void ez_fill_tap(const ez_taps *taps, int32_t ky, int32_t kx, int32_t i, int32_t j0, int32_t count, const uint8_t **out,
                               size_t pixel_step) {
  const ez_conv_params *p = taps->p;
  const int64_t row = (int64_t)i * p->stride_h - p->pad_top + (int64_t)ky * p->dilation_h;
  const int64_t column = (int64_t)j0 * p->stride_w - p->pad_left + (int64_t)kx * p->dilation_w;
  int32_t first = 0, last = count; /* pixels [first, last) see the image */
  if (row < 0 || row >= taps->height) last = 0;
  if (column < 0) first = (int32_t)((-column + p->stride_w - 1) / p->stride_w);
  if (column >= taps->width)
    last = 0;
  else if (column + (int64_t)(count - 1) * p->stride_w >= taps->width && last)
    last = (int32_t)((taps->width - 1 - column) / p->stride_w + 1);
  if (first > last) first = last;
  for (int32_t j = 0; j < first; j++) out[(size_t)j * pixel_step] = taps->pad;
  if (first < last) {
    const size_t step = (size_t)p->stride_w * taps->pixel_bytes;
    const uint8_t *from = taps->x + ((size_t)row * (size_t)taps->width + (size_t)(column + (int64_t)first * p->stride_w)) * taps->pixel_bytes;
    for (int32_t j = first; j < last; j++, from += step) out[(size_t)j * pixel_step] = from;
  }
  for (int32_t j = last > first ? last : first; j < count; j++) out[(size_t)j * pixel_step] = taps->pad;
}

#endif
