/* The proof that conv and depthwise share: geometry, places, sizes. */
#ifndef EDGEZIP_CONV_CHECK_H
#define EDGEZIP_CONV_CHECK_H

#include "ops/op.h"

/* Pixels of a block: A's rows stay in L1 while all panels pass. Large kernels take one tile of rows, to bound the pointers. */
#define EZ_CONV_BLOCK 48
#define EZ_CONV_MAX_ROWS 12 /* no table takes more rows at once */

static inline int32_t ez_conv_block(const ez_conv_params *p) { return p->kernel_h * p->kernel_w <= 64 ? EZ_CONV_BLOCK : EZ_CONV_MAX_ROWS; }

/* Bytes at the start of a thread's scratch that hold one pixel of padding, over-read included. */
static inline size_t ez_pad_bytes(size_t channel_bytes) { return (channel_bytes + EZ_OVERREAD + 63) / 64 * 64; }

/* Proves everything but the weights' size; sets scratch_needed. */
ez_status ez_check_conv_geometry(ez_check *check);
/* Bias, multipliers, residual and table, given the number of padded outputs. */
ez_status ez_check_conv_operands(ez_check *check, uint64_t weight_bytes, uint64_t padded_outputs);

/* How the output grid is cut: dense grids are one long row of pixels, others one segment for each grid row. */
typedef struct ez_grid {
  int32_t dense;
  int64_t segments, length; /* pixels of a segment */
  int64_t blocks;           /* blocks of a segment */
  int32_t block;
} ez_grid;

ez_grid ez_grid_of(const ez_conv_params *p, const ez_tensor *y, int32_t block);

/* The table, then the residual add, on `rows` rows of `columns` bytes just written at y (row stride y_stride) which start at
 * pixel `first` (a row of `y` and of the residual) and channel `channel`. */
void ez_conv_post_ops(const ez_run *run, uint8_t *y, size_t y_stride, int64_t pixel, int64_t pixel_step, int64_t rows, int32_t channel,
                      int32_t columns);

#endif
