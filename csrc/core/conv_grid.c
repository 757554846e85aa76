#include "core/conv_grid.h"

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
