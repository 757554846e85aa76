/* Spans out of padded copies of whole input rows: a few narrow rows are copied faster than the spans at their ends one by one
 * (stem of DS-CNN, 10x4 over rows of 10 pixels: 8 us, most of it copies). */
#ifndef EDGEZIP_CONV_HALO_H
#define EDGEZIP_CONV_HALO_H

#include "core/conv_spans.h"

/* One block of output pixels: `count` from column j of output row i of an image on. */
typedef struct ez_halo_block {
  int32_t image, i, j, count;
} ez_halo_block;

/* Whether the block's input rows are worth a copy and fit the scratch that copied spans have. */
int ez_halo_serves(const ez_conv_grid *grid, const ez_span_plan *plan, const ez_halo_block *block);

/* As ez_span_pointers. */
size_t ez_halo_pointers(const ez_conv_grid *grid, const ez_span_plan *plan, const ez_halo_block *block, const ez_span_memory *memory);

#endif
