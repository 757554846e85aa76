/* What a product kernel reads for an output pixel: a few spans of contiguous input bytes.
 *
 * A tap's channels are one span. Where nothing stands between the taps of a kernel row (one group, dilation_w 1), NHWC memory
 * already holds kernel_w * C values in a row, and the whole row is one span: fewer pointers, longer inner loops, and weights
 * that are padded to the k step of the layout once a row (a first layer with 3 channels: 3 x 12 bytes of K instead of 9 x 4).
 * Pixels whose row of taps leaves the image at the left or right read a copy with the padding filled in.
 */
#ifndef EDGEZIP_CONV_SPANS_H
#define EDGEZIP_CONV_SPANS_H

#include "core/conv_grid.h"

/* How packed int8 weights cut K: `count` spans of `elements`, each padded to the k step. */
typedef struct ez_span_shape {
  int32_t count, elements;
} ez_span_shape;

/* The rule of the file format. `in_channels` are those of all groups. */
ez_span_shape ez_packed_spans(const ez_conv_params *params, int32_t in_channels);

/* Bytes of one packed panel of 16 outputs, int8 or float. */
uint64_t ez_packed_panel_bytes(const ez_conv_params *params, const ez_tensor *x, uint32_t layout);

/* How a run cuts K: as packed, or by taps where both are the same bytes and rows of taps bring nothing. */
typedef struct ez_span_plan {
  ez_span_shape shape;
  int32_t by_rows;       /* a span is a row of taps */
  int32_t must_copy;     /* by rows, though the pixels of x do not lie back to back */
  int32_t rows;          /* most output pixels of one block */
  size_t pointer_bytes, outside_bytes, slot_bytes, copy_bytes; /* of scratch; a slot holds one copied span */
} ez_span_plan;

ez_span_plan ez_span_plan_of(const ez_conv_params *params, const ez_tensor *x, uint32_t layout);

/* Scratch of one block. */
typedef struct ez_span_memory {
  const uint8_t **pointers; /* (count, plan.rows) */
  uint8_t *outside;         /* a span of nothing but padding */
  uint8_t *copies;          /* (count, plan.rows) slots */
} ez_span_memory;

/* Fills `memory->pointers` for pixels [first, first + count) of a segment: span s of pixel i at [s * plan->rows + i], from
 * `channel_offset` bytes of a pixel on. Returns the distance from pixel to pixel if it is the same everywhere, else 0. */
size_t ez_span_pointers(const ez_conv_grid *grid, const ez_span_plan *plan, int32_t segment, int32_t first, int32_t count,
                        size_t channel_offset, const ez_span_memory *memory);

#endif
