/* A work item is some rows of output pixels, or a piece of one row. Its scratch: row pointers and steps, a pixel of padding, and
 * with a residual the piece's result before the add. */
#include "core/depthwise_driver.h"

#include <string.h>

#include "core/conv_grid.h"
#include "core/pool.h"

#define MOST_PIXELS 256 /* of a line: its result stays in the first-level cache for the post-ops */
#define MOST_LINES 16   /* of one kernel call: it sets up the weights of a block of channels once for all of them */
#define LEAST_PIXELS 16 /* of a piece that a row is cut into for more threads */

typedef struct depthwise_job {
  ez_conv_grid grid;
  const ez_run *run;
  const void *w, *bias;
  const float *mult;
  size_t pointer_bytes, outside_bytes;
  int32_t lines;          /* output rows, over all images */
  int32_t pixels, pieces; /* pixels of a piece, pieces of a row */
  int32_t lines_per_item, lines_per_call;
} depthwise_job;

static int32_t most_pixels(const ez_conv_params *p) { return p->out_w < MOST_PIXELS ? p->out_w : MOST_PIXELS; }

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

static uint64_t pointer_bytes(const ez_conv_params *p) { return align64(MOST_LINES * (uint64_t)p->kernel_h * (sizeof(void *) + sizeof(size_t))); }

uint64_t ez_depthwise_scratch_bytes(const ez_conv_params *p, const ez_tensor *x, int has_residual) {
  const uint64_t channels = (uint64_t)x->dims[3], element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  return pointer_bytes(p) + align64(channels * element + EZ_OVERREAD) + (has_residual ? align64((uint64_t)most_pixels(p) * channels) : 0);
}

typedef struct piece {
  const uint8_t **rows;
  size_t *steps;
  const uint8_t *outside;
  int32_t column, lines, pixels;
  uint8_t *y;
  size_t y_stride, y_line_stride;
} piece;

static void product(const depthwise_job *job, const piece *at) {
  const ez_conv_grid *grid = &job->grid;
  const ez_conv_params *p = grid->params;
  const ez_kernels *kernels = job->run->kernels;
  if (grid->element_bytes == 4) {
    for (int32_t i = 0; i < at->lines * p->kernel_h; i++) at->steps[i] /= 4;
    const ez_depthwise_f32_args args = {
        .rows = (const float *const *)(const void *)at->rows, .steps = at->steps, .outside = (const float *)(const void *)at->outside,
        .column = at->column, .in_w = grid->in_w, .lines = at->lines, .pixels = at->pixels, .stride = p->stride_w,
        .dilation = p->dilation_w, .kernel_h = p->kernel_h, .kernel_w = p->kernel_w, .channels = grid->in_channels, .w = job->w,
        .bias = job->bias, .y = (float *)(void *)at->y, .y_stride = at->y_stride / 4, .y_line_stride = at->y_line_stride / 4, .lo = p->float_lo, .hi = p->float_hi,
    };
    kernels->depthwise_f32->depthwise_f32(&args);
  } else {
    const ez_depthwise_s8_args args = {
        .rows = at->rows, .steps = at->steps, .outside = at->outside, .column = at->column, .in_w = grid->in_w,
        .lines = at->lines, .pixels = at->pixels, .stride = p->stride_w, .dilation = p->dilation_w, .kernel_h = p->kernel_h, .kernel_w = p->kernel_w,
        .channels = grid->in_channels, .w = job->w, .bias = job->bias, .mult = job->mult, .y = at->y, .y_stride = at->y_stride,
        .y_line_stride = at->y_line_stride,
        .lo = p->lo, .hi = p->hi, .zero_point = p->zero_point_mid, .small_sums = p->small_sums, .layout = (int32_t)kernels->layout,
        .act_sign = kernels->act_sign,
    };
    kernels->depthwise_s8->depthwise_s8(&args);
  }
}

/* The input rows that an output row sees. */
static void see_rows(const ez_conv_grid *grid, int32_t line, const uint8_t *outside, const uint8_t **rows, size_t *steps) {
  const ez_conv_params *p = grid->params;
  const size_t image = (size_t)(line / p->out_h) * (size_t)grid->in_h;
  for (int32_t ky = 0; ky < p->kernel_h; ky++) {
    const int64_t iy = (int64_t)(line % p->out_h) * p->stride_h - p->pad_top + (int64_t)ky * p->dilation_h;
    const int inside = iy >= 0 && iy < grid->in_h;
    rows[ky] = inside ? grid->x + (image + (size_t)iy) * (size_t)grid->in_w * grid->pixel_bytes_x : outside;
    steps[ky] = inside ? grid->pixel_bytes_x : 0;
  }
}

/* Lines [line, line + at->lines), from pixel `first` of each on. With a residual it is one line, since the tile holds one. */
static void some_lines(const depthwise_job *job, int32_t line, int32_t first, piece *at, uint8_t *tile) {
  const ez_conv_grid *grid = &job->grid;
  const ez_conv_params *p = grid->params;
  const int32_t segment = grid->segments == 1 ? 0 : line, pixel = grid->segments == 1 ? line * p->out_w + first : first;
  for (int32_t i = 0; i < at->lines; i++)
    see_rows(grid, line + i, at->outside, at->rows + i * p->kernel_h, at->steps + i * p->kernel_h);
  at->column = first * p->stride_w - p->pad_left;
  at->y = ez_conv_grid_output(grid, segment, pixel, &at->y_stride);
  at->y_line_stride = (size_t)p->out_w * at->y_stride;
  if (grid->element_bytes == 4) {
    product(job, at);
    for (int32_t i = 0; grid->has_post_ops && i < at->lines; i++)
      ez_conv_grid_finish_f32(grid, segment, pixel + i * p->out_w, at->pixels, 0, grid->in_channels);
    return;
  }
  if (grid->residual) {
    at->y = tile;
    at->y_stride = (size_t)grid->in_channels;
  }
  product(job, at);
  if (!grid->table && !grid->residual) return;
  for (int32_t i = 0; i < at->lines; i++)
    ez_conv_grid_finish(grid, segment, pixel + i * p->out_w, at->pixels, 0, grid->in_channels, grid->residual ? tile : NULL, NULL);
}

static void item(void *context, int32_t index, int32_t thread) {
  const depthwise_job *job = context;
  const ez_conv_grid *grid = &job->grid;
  const int32_t first = index % job->pieces * job->pixels, line = index / job->pieces * job->lines_per_item;
  const int32_t end = line + job->lines_per_item < job->lines ? line + job->lines_per_item : job->lines;
  uint8_t *scratch = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  uint8_t *outside = scratch + job->pointer_bytes, *tile = outside + job->outside_bytes;
  piece at = {.rows = (const uint8_t **)(void *)scratch, .outside = outside};
  at.steps = (size_t *)(void *)(scratch + MOST_LINES * (size_t)grid->params->kernel_h * sizeof(void *));
  at.pixels = grid->params->out_w - first < job->pixels ? grid->params->out_w - first : job->pixels;
  memset(outside, grid->outside_value, job->outside_bytes);
  for (int32_t i = line; i < end; i += at.lines) {
    at.lines = end - i < job->lines_per_call ? end - i : job->lines_per_call;
    some_lines(job, i, first, &at, tile);
  }
}

/* Whole rows while they go round; else pieces of rows (a convolution in time has one row). */
static void cut(depthwise_job *job, int32_t threads) {
  const ez_conv_params *p = job->grid.params;
  const int32_t wanted = threads == 1 ? 1 : 4 * threads;
  int32_t pieces = (p->out_w + MOST_PIXELS - 1) / MOST_PIXELS;
  if (job->lines < wanted) {
    const int32_t finest = (p->out_w + LEAST_PIXELS - 1) / LEAST_PIXELS, more = (wanted + job->lines - 1) / job->lines;
    if (pieces < more) pieces = more < finest ? more : finest;
  }
  job->pixels = (p->out_w + pieces - 1) / pieces;
  job->pieces = (p->out_w + job->pixels - 1) / job->pixels;
  const int32_t items = wanted / job->pieces > 1 ? wanted / job->pieces : 1;
  job->lines_per_item = (job->lines + items - 1) / items;
}

void ez_depthwise_run(const ez_run *run) {
  const ez_step *step = run->step;
  depthwise_job job = {.grid = ez_conv_grid_of(run), .run = run, .w = run->data[step->inputs[1]], .bias = run->data[step->inputs[2]]};
  const ez_conv_grid *grid = &job.grid;
  if (grid->element_bytes == 1) job.mult = (const float *)(const void *)run->data[step->inputs[3]];
  job.pointer_bytes = (size_t)pointer_bytes(grid->params);
  job.outside_bytes = (size_t)align64((uint64_t)grid->in_channels * grid->element_bytes + EZ_OVERREAD);
  job.lines = run->tensors[step->outputs[0]].dims[0] * grid->params->out_h;
  cut(&job, ez_pool_threads(run->pool));
  const int one = grid->residual || grid->segments > 1 || (grid->element_bytes == 4 && grid->has_post_ops);
  job.lines_per_call = one ? 1 : MOST_LINES;
  ez_pool_run(run->pool, (job.lines + job.lines_per_item - 1) / job.lines_per_item * job.pieces, item, &job);
}
