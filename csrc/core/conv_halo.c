#include "core/conv_halo.h"

#include <string.h>

#define ROW_LIMIT 1536 /* bytes of a padded row; beyond, the few spans at its ends cost less than the row */

static size_t pixel_bytes(const ez_conv_grid *grid) { return (size_t)grid->in_channels * grid->element_bytes; }

/* Pixels of a row with its padding: what the spans of one output row reach. */
static int64_t padded_width(const ez_conv_params *p) { return (int64_t)(p->out_w - 1) * p->stride_w + p->kernel_w; }

static size_t pitch_of(const ez_conv_grid *grid) { return ((size_t)padded_width(grid->params) * pixel_bytes(grid) + 15) / 16 * 16; }

int ez_halo_serves(const ez_conv_grid *grid, const ez_span_plan *plan, const ez_halo_block *block) {
  const ez_conv_params *p = grid->params;
  if (!plan->by_rows || plan->must_copy || p->dilation_h != 1 || p->stride_h > p->kernel_h || p->pad_left < 0) return 0;
  const int64_t width = padded_width(p), rows = (block->j + block->count - 1) / p->out_w + 1;
  if (p->pad_left == 0 && width <= grid->in_w) return 0; /* nothing leaves a row */
  if (width > ROW_LIMIT || pitch_of(grid) > ROW_LIMIT || block->i + rows > p->out_h) return 0;
  return (uint64_t)((rows - 1) * p->stride_h + p->kernel_h) * pitch_of(grid) + EZ_OVERREAD <= plan->copy_bytes;
}

static void copy_row(const ez_conv_grid *grid, int32_t image, int64_t iy, uint8_t *to) {
  const ez_conv_params *p = grid->params;
  const size_t pixel = pixel_bytes(grid);
  const int64_t width = padded_width(p), left = p->pad_left < width ? p->pad_left : width;
  const int64_t inside = grid->in_w < width - left ? grid->in_w : width - left;
  memset(to, grid->outside_value, (size_t)left * pixel);
  memcpy(to + (size_t)left * pixel, grid->x + ((size_t)image * (size_t)grid->in_h + (size_t)iy) * (size_t)grid->in_w * pixel, (size_t)inside * pixel);
  memset(to + (size_t)(left + inside) * pixel, grid->outside_value, (size_t)(width - left - inside) * pixel);
}

size_t ez_halo_pointers(const ez_conv_grid *grid, const ez_span_plan *plan, const ez_halo_block *block, const ez_span_memory *memory) {
  const ez_conv_params *p = grid->params;
  const size_t pitch = pitch_of(grid), move = (size_t)p->stride_w * pixel_bytes(grid);
  const int64_t top = (int64_t)block->i * p->stride_h - p->pad_top; /* input row of the first copy */
  int64_t ready = top < 0 ? 0 : top;                                /* rows before it are copied */
  int inside = block->j + block->count <= p->out_w;
  int32_t i = block->i, j = block->j;
  for (int32_t done = 0, n; done < block->count; done += n, i++, j = 0) {
    n = p->out_w - j < block->count - done ? p->out_w - j : block->count - done;
    for (int32_t ky = 0; ky < p->kernel_h; ky++) {
      const int64_t iy = (int64_t)i * p->stride_h - p->pad_top + ky;
      const int row_inside = iy >= 0 && iy < grid->in_h;
      for (; ready <= iy && ready < grid->in_h; ready++) copy_row(grid, block->image, ready, memory->copies + (size_t)(ready - top) * pitch);
      uintptr_t at = (uintptr_t)(row_inside ? memory->copies + (size_t)(iy - top) * pitch + (size_t)j * move : memory->outside);
      const uint8_t **out = memory->pointers + (size_t)ky * (size_t)plan->rows + (size_t)done;
      for (int32_t k = 0; k < n; k++, at += row_inside ? move : 0) out[k] = (const uint8_t *)at;
      inside &= row_inside;
    }
  }
  return inside ? move : 0;
}
