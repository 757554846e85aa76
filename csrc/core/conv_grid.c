#include "core/conv_grid.h"

#include <string.h>

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
    grid.pixel_bytes_residual = (size_t)residual->row_stride * grid.element_bytes;
    grid.zero_point_residual = residual->zero_point;
  }
  grid.has_post_ops = grid.table || grid.residual || p->act || p->affine;
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

/* Rows of `columns` bytes, 16 at a time: most are 16 to 64 bytes long, where a call of memcpy costs more than its copy. */
static void copy_rows(uint8_t *to, size_t to_stride, const uint8_t *from, size_t from_stride, size_t columns, int32_t count) {
  for (int32_t i = 0; i < count; i++, to += to_stride, from += from_stride) {
    if (columns < 16) {
      for (size_t c = 0; c < columns; c++) to[c] = from[c];
      continue;
    }
    for (size_t c = 0; c + 16 < columns; c += 16) memcpy(to + c, from + c, 16);
    memcpy(to + columns - 16, from + columns - 16, 16);
  }
}

/* What a tile's bytes meet: where its rows go, and the other operand of the residual add. */
typedef struct post_op {
  uint8_t *y;
  const uint8_t *residual;
  size_t y_stride, residual_stride;
} post_op;

static void add_row(const ez_conv_grid *grid, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
  const ez_conv_params *p = grid->params;
  grid->rows->add_s8(a, b, y, n, grid->kernels->act_sign, p->zero_point_mid_out, grid->zero_point_residual, p->scale_a, p->scale_b,
                     grid->zero_point_y, p->add_lo, p->add_hi);
}

static void add_tile(const ez_conv_grid *grid, const post_op *post, uint8_t *tile, size_t columns, int32_t count, uint8_t *spare) {
  if (post->y_stride == columns && post->residual_stride == columns) {
    add_row(grid, tile, post->residual, post->y, columns * (size_t)count);
  } else if (spare && columns < EZ_NARROW) {
    copy_rows(spare, columns, post->residual, post->residual_stride, columns, count);
    add_row(grid, tile, spare, tile, columns * (size_t)count);
    copy_rows(post->y, post->y_stride, tile, columns, columns, count);
  } else {
    for (int32_t i = 0; i < count; i++)
      add_row(grid, tile + (size_t)i * columns, post->residual + (size_t)i * post->residual_stride, post->y + (size_t)i * post->y_stride, columns);
  }
}

void ez_conv_grid_finish(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, int32_t column, int32_t columns,
                         uint8_t *tile, uint8_t *spare) {
  const size_t width = (size_t)columns;
  post_op post = {.residual_stride = grid->pixel_bytes_residual};
  post.y = ez_conv_grid_output(grid, segment, first, &post.y_stride) + column;
  if (!tile) { /* the product went to y */
    const int together = post.y_stride == width;
    for (int32_t i = 0; i < (together ? 1 : count); i++)
      grid->rows->table_s8(post.y + (size_t)i * post.y_stride, grid->table, post.y + (size_t)i * post.y_stride, together ? width * (size_t)count : width);
    return;
  }
  if (grid->table) grid->rows->table_s8(tile, grid->table, tile, width * (size_t)count);
  if (!grid->residual) {
    copy_rows(post.y, post.y_stride, tile, width, width, count);
    return;
  }
  post.residual = grid->residual + (size_t)((int64_t)segment * grid->length + first) * grid->pixel_bytes_residual + column;
  add_tile(grid, &post, tile, width, count, spare);
}

void ez_conv_grid_finish_f32(const ez_conv_grid *grid, int32_t segment, int32_t first, int32_t count, int32_t column, int32_t columns) {
  const ez_conv_params *p = grid->params;
  size_t stride;
  uint8_t *y = ez_conv_grid_output(grid, segment, first, &stride) + 4 * (size_t)column;
  const uint8_t *residual = grid->residual;
  if (residual) residual += (size_t)((int64_t)segment * grid->length + first) * grid->pixel_bytes_residual + 4 * (size_t)column;
  const ez_finish_f32_args args = {
      .y = (float *)(void *)y, .residual = (const float *)(const void *)residual, .rows = (size_t)count, .columns = (size_t)columns,
      .y_stride = stride / 4, .residual_stride = grid->pixel_bytes_residual / 4, .act = p->act, .alpha = p->act_alpha, .beta = p->act_beta,
      .factor = p->affine ? p->factor : 1.0f, .shift = p->affine ? p->shift : -0.0f, .lo = p->sum_lo, .hi = p->sum_hi,
  };
  grid->rows->finish_f32(&args);
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

int32_t ez_conv_mults_are_small(const float *mult, size_t n) {
  int32_t small = 1;
  for (size_t i = 0; i < n; i++) small &= mult[i] < 1.0f && mult[i] > -1.0f;
  return small;
}
