#include "core/conv_grid.h"

#include <string.h>

#define MOST_MOVES 128 /* taps of a depthwise kernel up to which neighbours are derived from each other */

static const uint8_t *optional(const ez_run *run, int position) {
  if (position >= run->step->n_inputs || run->step->inputs[position] < 0) return NULL;
  return run->data[run->step->inputs[position]];
}

ez_conv_grid ez_conv_grid_of(const ez_run *run) {
  const ez_step *step = run->step;
  const ez_tensor *x = &run->tensors[step->inputs[0]], *y = &run->tensors[step->outputs[0]];
  ez_conv_grid grid = {
      .params = (const ez_conv_params *)step->params,
      .kernels = run->kernels,
      .rows = &run->kernels->rows,
      .x = run->data[step->inputs[0]],
      .in_h = x->dims[1],
      .in_w = x->dims[2],
      .in_channels = x->dims[3],
      .y = run->data[step->outputs[0]],
      .y_h = y->dims[1],
      .y_w = y->dims[2],
      .out_channels = y->dims[3],
      .zero_point_y = y->zero_point,
      .residual = optional(run, 4),
      .table = optional(run, 5),
  };
  const ez_conv_params *p = grid.params;
  grid.element_bytes = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  grid.pixel_bytes_x = (size_t)x->row_stride * grid.element_bytes;
  grid.pixel_bytes_y = (size_t)y->row_stride * grid.element_bytes;
  grid.taps = p->kernel_h * p->kernel_w;
  const int whole = p->out_h == y->dims[1] && p->out_w == y->dims[2] && p->out_step_h == 1 && p->out_step_w == 1;
  grid.segments = whole ? 1 : y->dims[0] * p->out_h;
  grid.length = whole ? y->dims[0] * p->out_h * p->out_w : p->out_w;
  grid.outside_value = x->dtype == EZ_DTYPE_F32 ? 0 : (int32_t)((uint32_t)(x->zero_point & 0xff) ^ run->kernels->act_sign);
  if (grid.residual) {
    const ez_tensor *residual = &run->tensors[step->inputs[4]];
    grid.pixel_bytes_residual = (size_t)residual->row_stride;
    grid.zero_point_residual = residual->zero_point;
  }
  return grid;
}

int ez_conv_grid_has_padding(const ez_conv_grid *grid) {
  const ez_conv_params *p = grid->params;
  const int64_t last_h = (int64_t)(p->out_h - 1) * p->stride_h - p->pad_top + (int64_t)(p->kernel_h - 1) * p->dilation_h;
  const int64_t last_w = (int64_t)(p->out_w - 1) * p->stride_w - p->pad_left + (int64_t)(p->kernel_w - 1) * p->dilation_w;
  return p->pad_top > 0 || p->pad_left > 0 || last_h >= grid->in_h || last_w >= grid->in_w || -(int64_t)p->pad_top >= grid->in_h ||
         -(int64_t)p->pad_left >= grid->in_w;
}

/* ceil(n / stride) for n >= 0; a division would cost more than the few pointers it is made for. */
static int64_t steps_to_cover(int64_t n, int32_t stride) {
  return stride == 1 ? n : stride == 2 ? (n + 1) >> 1 : (n + stride - 1) / stride;
}

/* The grid columns at which tap column kx is inside: first one, and one past the last. */
static void inside_columns(const ez_conv_grid *grid, int32_t kx, int64_t *from, int64_t *to) {
  const ez_conv_params *p = grid->params;
  const int64_t shift = (int64_t)kx * p->dilation_w - p->pad_left; /* ix = j * stride + shift */
  *from = shift >= 0 ? 0 : steps_to_cover(-shift, p->stride_w);
  *to = grid->in_w > shift ? steps_to_cover(grid->in_w - shift, p->stride_w) : 0;
}

/* Pointers of pixels [j0, j1) of one grid row. */
static void row_pointers(const ez_conv_grid *grid, int32_t image, int32_t i, int32_t j0, int32_t j1, const uint8_t *outside,
                         const uint8_t **out) {
  const ez_conv_params *p = grid->params;
  const size_t pixel_step = (size_t)grid->taps;
  for (int32_t ky = 0; ky < p->kernel_h; ky++) {
    const int64_t iy = (int64_t)i * p->stride_h - p->pad_top + (int64_t)ky * p->dilation_h;
    const int row_inside = iy >= 0 && iy < grid->in_h;
    for (int32_t kx = 0; kx < p->kernel_w; kx++) {
      const uint8_t **to = out + (ky * p->kernel_w + kx);
      int64_t from_j = j1, to_j = j1;
      if (row_inside) {
        inside_columns(grid, kx, &from_j, &to_j);
        from_j = from_j < j0 ? j0 : from_j > j1 ? j1 : from_j;
        to_j = to_j < from_j ? from_j : to_j > j1 ? j1 : to_j;
      }
      int64_t j = j0;
      for (; j < from_j; j++, to += pixel_step) *to = outside;
      if (j < to_j) {
        const int64_t ix = j * p->stride_w - p->pad_left + (int64_t)kx * p->dilation_w;
        const uint8_t *at = grid->x + ((size_t)image * (size_t)grid->in_h + (size_t)iy) * (size_t)grid->in_w * grid->pixel_bytes_x +
                            (size_t)ix * grid->pixel_bytes_x;
        const size_t move = (size_t)p->stride_w * grid->pixel_bytes_x;
        const int64_t n = to_j - j;
        for (int64_t k = 0; k < n; k++) to[(size_t)k * pixel_step] = at + (size_t)k * move;
        to += (size_t)n * pixel_step;
        j = to_j;
      }
      for (; j < j1; j++, to += pixel_step) *to = outside;
    }
  }
}

/* Pixels after the first of `count`: each pointer of a pixel is that of its left neighbour, moved. */
static inline void slide(const uint8_t **out, int32_t count, int32_t taps, const size_t *moves) {
  for (int32_t i = 1; i < count; i++, out += taps)
    for (int32_t t = 0; t < taps; t++) out[taps + t] = out[t] + moves[t];
}

/* As slide, with the pixel held in registers. */
#define SLIDE_TAPS(TAPS)                                                                              \
  static void slide_##TAPS(const uint8_t **out, int32_t count, const size_t *moves) {                 \
    uintptr_t at[TAPS];                                                                               \
    for (int t = 0; t < TAPS; t++) at[t] = (uintptr_t)out[t];                                         \
    for (int32_t i = 1; i < count; i++) {                                                             \
      out += TAPS;                                                                                    \
      for (int t = 0; t < TAPS; t++) at[t] += moves[t];                                               \
      for (int t = 0; t < TAPS; t++) out[t] = (const uint8_t *)at[t];                                 \
    }                                                                                                 \
  }
SLIDE_TAPS(9)

/* One grid row: borders tap by tap, the pixels between them by sliding. */
static void sliding_row(const ez_conv_grid *grid, int32_t image, int32_t i, int32_t j0, int32_t j1, const uint8_t *outside,
                                  const uint8_t **out) {
  const ez_conv_params *p = grid->params;
  const size_t taps = (size_t)grid->taps;
  int64_t first, last, unused; /* between them no tap leaves the row */
  inside_columns(grid, 0, &first, &unused);
  inside_columns(grid, p->kernel_w - 1, &unused, &last);
  const int32_t a = first < j0 ? j0 : first > j1 ? j1 : (int32_t)first, b = last < a ? a : last > j1 ? j1 : (int32_t)last;
  if (b - a < 2 || taps > MOST_MOVES) {
    row_pointers(grid, image, i, j0, j1, outside, out);
    return;
  }
  size_t moves[MOST_MOVES];
  for (int32_t ky = 0; ky < p->kernel_h; ky++) {
    const int64_t iy = (int64_t)i * p->stride_h - p->pad_top + (int64_t)ky * p->dilation_h;
    const size_t move = iy >= 0 && iy < grid->in_h ? (size_t)p->stride_w * grid->pixel_bytes_x : 0;
    for (int32_t kx = 0; kx < p->kernel_w; kx++) moves[ky * p->kernel_w + kx] = move;
  }
  row_pointers(grid, image, i, j0, a + 1, outside, out);
  const uint8_t **from = out + (size_t)(a - j0) * taps;
  if (taps == 9)
    slide_9(from, b - a, moves);
  else
    slide(from, b - a, (int32_t)taps, moves);
  if (b < j1) row_pointers(grid, image, i, b, j1, outside, out + (size_t)(b - j0) * taps);
}

void ez_conv_grid_pointers(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, const uint8_t *outside,
                           const uint8_t **out) {
  const ez_conv_params *p = grid->params;
  const int64_t pixel = (int64_t)segment * grid->length + first;
  int32_t j = (int32_t)(pixel % p->out_w), row = (int32_t)(pixel / p->out_w);
  while (count > 0) {
    const int32_t n = p->out_w - j < count ? p->out_w - j : count;
    sliding_row(grid, row / p->out_h, row % p->out_h, j, j + n, outside, out);
    out += (size_t)n * (size_t)grid->taps;
    count -= n;
    j = 0;
    row++;
  }
}

uint8_t *ez_conv_grid_output(const ez_conv_grid *grid, int32_t segment, int32_t pixel, size_t *stride) {
  const ez_conv_params *p = grid->params;
  if (grid->segments == 1 && p->out_step_w == 1 && p->out_w == grid->y_w && p->out_h == grid->y_h) {
    *stride = grid->pixel_bytes_y;
    return grid->y + (size_t)pixel * grid->pixel_bytes_y;
  }
  const size_t image = (size_t)(segment / p->out_h);
  const size_t row = (size_t)(p->out_offset_h + segment % p->out_h * p->out_step_h);
  const size_t column = (size_t)p->out_offset_w + (size_t)pixel * (size_t)p->out_step_w;
  *stride = (size_t)p->out_step_w * grid->pixel_bytes_y;
  return grid->y + ((image * (size_t)grid->y_h + row) * (size_t)grid->y_w + column) * grid->pixel_bytes_y;
}

void ez_conv_grid_finish(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, int32_t column, int32_t columns,
                         uint8_t *from, size_t stride) {
  const ez_conv_params *p = grid->params;
  size_t run = (size_t)columns;
  size_t y_stride = 0;
  uint8_t *y = ez_conv_grid_output(grid, segment, first, &y_stride) + column;
  const uint8_t *residual =
      grid->residual ? grid->residual + (size_t)((int64_t)segment * grid->length + first) * grid->pixel_bytes_residual + column : NULL;
  /* Rows that lie back to back everywhere are one long row. */
  if (stride == run && (!residual || (y_stride == run && grid->pixel_bytes_residual == run))) {
    run *= (size_t)count;
    count = 1;
  }
  for (int32_t i = 0; i < count; i++) {
    uint8_t *a = from + (size_t)i * stride;
    if (grid->table) grid->rows->table_s8(a, grid->table, a, run);
    if (residual)
      grid->rows->add_s8(a, residual + (size_t)i * grid->pixel_bytes_residual, y + (size_t)i * y_stride, run, grid->kernels->act_sign,
                         p->zero_point_mid_out, grid->zero_point_residual, p->scale_a, p->scale_b, grid->zero_point_y, p->add_lo,
                         p->add_hi);
  }
}

int32_t ez_conv_grid_block(const ez_conv_grid *grid, int32_t most, int32_t step, int32_t threads) {
  int32_t blocks = (grid->length + most - 1) / most;
  const int64_t wanted = (4 * (int64_t)threads + grid->segments - 1) / grid->segments;
  if (threads > 1 && blocks < wanted) {
    /* Rounded down: the threads take equal numbers of blocks, and the last block is the short one. 14x14 pixels for two threads are 8 blocks of
     * 24 and one of 4, 96 pixels and 100; 36 a block would be 108 and 88. */
    const int32_t size = (int32_t)(grid->length / wanted) / step * step;
    return size > step ? size : step;
  }
  const int32_t size = ((grid->length + blocks - 1) / blocks + step - 1) / step * step;
  return size < most ? size : most;
}
