/* A work item is a block of output pixels. Its scratch: pointers (pixels, taps), a row of padding, and with a residual the
 * block's result before the add. */
#include "core/depthwise_driver.h"

#include <string.h>

#include "core/conv_grid.h"
#include "core/pool.h"

#define POINTER_BUDGET (16 * 1024) /* bytes of pointers a block: read once for each 16..64 channels, so they should stay in L1 */

typedef struct depthwise_job {
  ez_conv_grid grid;
  const ez_run *run;
  const void *w, *bias;
  const float *mult;
  size_t pointer_bytes, outside_bytes;
  int32_t pixels, blocks; /* pixels of a block, blocks of a segment */
  int has_padding;
} depthwise_job;

static int32_t most_pixels(int64_t taps) {
  const int64_t fit = POINTER_BUDGET / 8 / taps;
  return fit >= EZ_ROW_BLOCK ? EZ_ROW_BLOCK : fit < 8 ? 8 : (int32_t)fit;
}

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

uint64_t ez_depthwise_scratch_bytes(const ez_conv_params *p, const ez_tensor *x, int has_residual) {
  const uint64_t taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w, pixels = (uint64_t)most_pixels((int64_t)taps);
  const uint64_t channels = (uint64_t)x->dims[3], element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  return align64(taps * pixels * sizeof(void *)) + align64(channels * element + EZ_OVERREAD) + (has_residual ? align64(pixels * channels) : 0);
}

static void product(const depthwise_job *job, const uint8_t *const *a, int32_t pixels, uint8_t *y, size_t y_stride) {
  const ez_conv_grid *grid = &job->grid;
  const ez_conv_params *p = grid->params;
  const ez_kernels *kernels = job->run->kernels;
  if (grid->element_bytes == 4) {
    const ez_depthwise_f32_args args = {
        .a = (const float *const *)(const void *)a, .pixels = pixels, .taps = grid->taps, .channels = grid->in_channels, .w = job->w,
        .bias = job->bias, .y = (float *)(void *)y, .y_stride = y_stride / 4, .lo = p->float_lo, .hi = p->float_hi,
    };
    kernels->depthwise_f32->depthwise_f32(&args);
  } else {
    const ez_depthwise_s8_args args = {
        .a = a, .pixels = pixels, .taps = grid->taps, .channels = grid->in_channels, .w = job->w, .bias = job->bias,
        .mult = job->mult, .y = y, .y_stride = y_stride, .lo = p->lo, .hi = p->hi, .zero_point = p->zero_point_mid, .small_sums = p->small_sums,
        .layout = (int32_t)kernels->layout, .act_sign = kernels->act_sign,
    };
    kernels->depthwise_s8->depthwise_s8(&args);
  }
}

static void item(void *context, int32_t index, int32_t thread) {
  const depthwise_job *job = context;
  const ez_conv_grid *grid = &job->grid;
  const int32_t segment = index / job->blocks, first = index % job->blocks * job->pixels;
  const int32_t pixels = grid->length - first < job->pixels ? grid->length - first : job->pixels;
  uint8_t *scratch = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const uint8_t **pointers = (const uint8_t **)(void *)scratch;
  uint8_t *outside = scratch + job->pointer_bytes, *tile = outside + job->outside_bytes;
  if (job->has_padding) memset(outside, grid->outside_value, (size_t)grid->in_channels * grid->element_bytes + EZ_OVERREAD);
  ez_conv_grid_pointers(grid, segment, first, pixels, outside, pointers);
  size_t stride = 0;
  uint8_t *to = ez_conv_grid_output(grid, segment, first, &stride);
  if (grid->residual) {
    to = tile;
    stride = (size_t)grid->in_channels;
  }
  product(job, pointers, pixels, to, stride);
  if (grid->table || grid->residual) ez_conv_grid_finish(grid, segment, first, pixels, 0, grid->in_channels, to, stride);
}

void ez_depthwise_run(const ez_run *run) {
  const ez_step *step = run->step;
  depthwise_job job = {.grid = ez_conv_grid_of(run), .run = run, .w = run->data[step->inputs[1]], .bias = run->data[step->inputs[2]]};
  const ez_conv_grid *grid = &job.grid;
  if (grid->element_bytes == 1) job.mult = (const float *)(const void *)run->data[step->inputs[3]];
  const int32_t most = most_pixels(grid->taps);
  job.pixels = ez_conv_grid_block(grid, most, 4, ez_pool_threads(run->pool));
  job.blocks = (grid->length + job.pixels - 1) / job.pixels;
  job.pointer_bytes = (size_t)align64((uint64_t)grid->taps * (uint64_t)most * sizeof(void *));
  job.outside_bytes = (size_t)align64((uint64_t)grid->in_channels * grid->element_bytes + EZ_OVERREAD);
  job.has_padding = ez_conv_grid_has_padding(grid);
  ez_pool_run(run->pool, grid->segments * job.blocks, item, &job);
}
