/* What convolution and depthwise share: which input bytes an output pixel sees, where the pixel is stored, and what follows
 * the product (table, residual add).
 *
 * Output pixels are numbered through (batch, out_h, out_w). They are cut into segments inside which the pixels are equally
 * spaced in y: one segment for a whole ordinary output, one segment per grid row when the grid covers only part of y (the
 * phases of a transposed convolution).
 */
#ifndef EDGEZIP_CONV_GRID_H
#define EDGEZIP_CONV_GRID_H

#include "ops/op.h"

typedef struct ez_conv_grid {
  const ez_conv_params *params;
  const ez_kernels *kernels;
  const ez_rows *rows;
  const uint8_t *x;     /* (batch, in_h, in_w) pixels, pixel_bytes_x apart */
  size_t pixel_bytes_x, element_bytes;
  int32_t in_h, in_w, in_channels;
  uint8_t *y;           /* (batch, y_h, y_w) pixels, pixel_bytes_y apart */
  size_t pixel_bytes_y;
  int32_t y_h, y_w, out_channels, zero_point_y;
  const uint8_t *table; /* 256 stored bytes, or NULL */
  const uint8_t *residual; /* (batch, out_h, out_w) pixels, pixel_bytes_residual apart, or NULL */
  size_t pixel_bytes_residual;
  int32_t zero_point_residual;
  int32_t has_post_ops;
  int32_t taps, segments, length; /* length: pixels of a segment */
  int32_t outside_value;          /* the stored byte that padding reads as: zero point of x */
} ez_conv_grid;

ez_conv_grid ez_conv_grid_of(const ez_run *run);

/* Non-zero when some tap of some pixel lies outside of x. */
int ez_conv_grid_has_padding(const ez_conv_grid *grid);

/* Address in y of a pixel, and the distance in bytes from it to the next one of its segment. */
uint8_t *ez_conv_grid_output(const ez_conv_grid *grid, int32_t segment, int32_t pixel, size_t *stride);

/* Post-ops of `count` pixels by `columns` stored bytes: table, then the residual add into y. The product left them at `tile`, rows back
 * to back (y may be the residual's own memory), or, with tile NULL, at y, where only a table can follow. `spare`: room for count *
 * min(columns, EZ_NARROW) bytes, or NULL; with it narrow rows that lie apart are added in one go. */
#define EZ_NARROW 64
void ez_conv_grid_finish(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, int32_t column, int32_t columns,
                         uint8_t *tile, uint8_t *spare);

/* The same of float32 results that lie at y: activation, factor and shift, residual add. */
void ez_conv_grid_finish_f32(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, int32_t column, int32_t columns);

/* Whether every |mult| is below 1 (false for NaN): small_mult of the product kernels. */
int32_t ez_conv_mults_are_small(const float *mult, size_t n);

/* Pixels that one work item takes: at most `most`, even blocks, a multiple of `step`, and enough items for every thread. */
int32_t ez_conv_grid_block(const ez_conv_grid *grid, int32_t most, int32_t step, int32_t threads);

#endif
