/* A work item is a block of output pixels by a range of panels. Its scratch: the block's pointers (taps, rows), one row of
 * padding, and, with a residual, the block's result before the add (y may be the residual's own memory).
 * Within the block a group of panels meets all rows before the next group: that part of the weights stays in L1 or L2. */
#include "core/conv_driver.h"

#include <string.h>

#include "core/conv_grid.h"
#include "core/numerics.h"
#include "core/pool.h"

#define POINTER_BUDGET (128 * 1024) /* bytes of pointers a block: part of L2, for kernels of many taps */

typedef struct conv_job {
  ez_conv_grid grid;
  const ez_run *run;
  const uint8_t *w;
  const int32_t *bias_s32;
  const float *bias_f32, *mult;
  size_t panel_bytes, pointer_bytes, outside_bytes;
  int32_t channels, outputs, panels; /* of one group */
  int32_t rows, blocks;              /* pixels of a block, blocks of a segment */
  int32_t chunks, chunk_panels;      /* the panels are cut into chunks */
  int has_padding;
} conv_job;

static int32_t most_rows(int64_t taps) {
  const int64_t fit = POINTER_BUDGET / 8 / taps;
  return fit >= EZ_ROW_BLOCK ? EZ_ROW_BLOCK : fit < 8 ? 8 : (int32_t)fit;
}

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

uint64_t ez_conv_scratch_bytes(const ez_conv_params *p, const ez_tensor *x, const ez_tensor *y, int has_residual) {
  const uint64_t taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w;
  const uint64_t rows = (uint64_t)most_rows((int64_t)taps);
  const uint64_t channels = (uint64_t)(x->dims[3] / p->groups), outputs = (uint64_t)(y->dims[3] / p->groups);
  const uint64_t element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  return align64(taps * rows * sizeof(void *)) + align64(channels * element + EZ_OVERREAD) + (has_residual ? align64(rows * outputs) : 0);
}

static void product_s8(const conv_job *job, const uint8_t *const *a, int32_t rows, int32_t group, int32_t panel, int32_t columns,
                       uint8_t *y, size_t y_stride) {
  const ez_isa *isa = job->run->kernels->gemm_s8;
  const ez_conv_params *p = job->grid.params;
  const size_t first = (size_t)group * (size_t)job->panels + (size_t)panel;
  ez_gemm_s8_args args = {
      .a_stride = (size_t)job->rows, .columns = columns, .taps = job->grid.taps, .channels = job->channels,
      .w = (const int8_t *)job->w + first * job->panel_bytes, .panel_bytes = job->panel_bytes,
      .bias = job->bias_s32 + first * 16, .mult = job->mult + first * 16, .y_stride = y_stride,
      .lo = p->lo, .hi = p->hi, .zero_point = p->zero_point_mid, .small_sums = p->small_sums,
      .layout = (int32_t)job->run->kernels->layout, .act_sign = job->run->kernels->act_sign,
  };
  for (int32_t r = 0; r < rows; r += isa->gemm_s8_rows) {
    args.a = a + r;
    args.rows = rows - r < isa->gemm_s8_rows ? rows - r : isa->gemm_s8_rows;
    args.y = y + (size_t)r * y_stride;
    isa->gemm_s8(&args);
  }
}

static void product_f32(const conv_job *job, const uint8_t *const *a, int32_t rows, int32_t group, int32_t panel, int32_t columns,
                        uint8_t *y, size_t y_stride) {
  const ez_isa *isa = job->run->kernels->gemm_f32;
  const ez_conv_params *p = job->grid.params;
  const size_t first = (size_t)group * (size_t)job->panels + (size_t)panel;
  ez_gemm_f32_args args = {
      .a_stride = (size_t)job->rows, .columns = columns, .taps = job->grid.taps, .channels = job->channels,
      .w = (const float *)(const void *)(job->w + first * job->panel_bytes), .panel_floats = job->panel_bytes / 4,
      .bias = job->bias_f32 + first * 16, .y_stride = y_stride / 4, .lo = p->float_lo, .hi = p->float_hi,
  };
  for (int32_t r = 0; r < rows; r += isa->gemm_f32_rows) {
    args.a = (const float *const *)(const void *)(a + r);
    args.rows = rows - r < isa->gemm_f32_rows ? rows - r : isa->gemm_f32_rows;
    args.y = (float *)(void *)(y + (size_t)r * y_stride);
    isa->gemm_f32(&args);
  }
}

/* Panels [panel, panel + n) of one group for a block of rows whose pointers stand at `a`. */
static void block_group(const conv_job *job, const uint8_t *const *a, int32_t segment, int32_t first, int32_t rows, int32_t group,
                        int32_t panel, int32_t end, uint8_t *tile) {
  const ez_conv_grid *grid = &job->grid;
  const int is_f32 = grid->element_bytes == 4;
  const int32_t step = is_f32 ? job->run->kernels->gemm_f32->gemm_f32_panels : job->run->kernels->gemm_s8->gemm_s8_panels;
  const int32_t column = panel * 16, last = end * 16 < job->outputs ? end * 16 : job->outputs;
  size_t stride = 0;
  uint8_t *to = ez_conv_grid_output(grid, segment, first, &stride) + (size_t)(group * job->outputs + column) * grid->element_bytes;
  if (grid->residual) {
    to = tile;
    stride = (size_t)(last - column);
  }
  for (int32_t q = panel; q < end; q += step) {
    const int32_t n0 = q * 16, n1 = n0 + 16 * step < last ? n0 + 16 * step : last;
    uint8_t *part = to + (size_t)(n0 - column) * grid->element_bytes;
    if (is_f32)
      product_f32(job, a, rows, group, q, n1 - n0, part, stride);
    else
      product_s8(job, a, rows, group, q, n1 - n0, part, stride);
  }
  if (grid->table || grid->residual)
    ez_conv_grid_finish(grid, segment, first, rows, group * job->outputs + column, last - column, to, stride);
}

static void item(void *context, int32_t index, int32_t thread) {
  const conv_job *job = context;
  const ez_conv_grid *grid = &job->grid;
  const int32_t chunk = index % job->chunks, block = index / job->chunks;
  const int32_t segment = block / job->blocks, first = block % job->blocks * job->rows;
  const int32_t rows = grid->length - first < job->rows ? grid->length - first : job->rows;
  const int32_t panel = chunk * job->chunk_panels;
  const int32_t end = panel + job->chunk_panels < job->panels ? panel + job->chunk_panels : job->panels;
  uint8_t *scratch = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const uint8_t **pointers = (const uint8_t **)(void *)scratch;
  uint8_t *outside = scratch + job->pointer_bytes, *tile = outside + job->outside_bytes;
  if (job->has_padding) memset(outside, grid->outside_value, (size_t)job->channels * grid->element_bytes + EZ_OVERREAD);
  for (int32_t group = 0; group < grid->params->groups; group++) {
    const size_t channel = (size_t)group * (size_t)job->channels * grid->element_bytes;
    ez_conv_grid_pointers(grid, segment, first, rows, channel, outside, EZ_BY_TAP, (size_t)job->rows, pointers);
    block_group(job, pointers, segment, first, rows, group, panel, end, tile);
  }
}

void ez_conv_run(const ez_run *run) {
  const ez_step *step = run->step;
  conv_job job = {.grid = ez_conv_grid_of(run), .run = run};
  const ez_conv_grid *grid = &job.grid;
  const ez_conv_params *p = grid->params;
  const int is_f32 = grid->element_bytes == 4;
  job.w = run->data[step->inputs[1]];
  job.bias_s32 = (const int32_t *)(const void *)run->data[step->inputs[2]];
  job.bias_f32 = (const float *)(const void *)run->data[step->inputs[2]];
  if (!is_f32) job.mult = (const float *)(const void *)run->data[step->inputs[3]];
  job.channels = grid->in_channels / p->groups;
  job.outputs = grid->out_channels / p->groups;
  job.panels = (job.outputs + 15) / 16;
  const int32_t k_step = run->kernels->layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  job.panel_bytes = 16 * (size_t)grid->taps * (is_f32 ? 4 * (size_t)job.channels : (size_t)((job.channels + k_step - 1) / k_step * k_step));
  const int32_t threads = ez_pool_threads(run->pool), most = most_rows(grid->taps);
  job.rows = ez_conv_grid_block(grid, most, 12, threads);
  job.blocks = (grid->length + job.rows - 1) / job.rows;
  job.pointer_bytes = (size_t)align64((uint64_t)grid->taps * (uint64_t)most * sizeof(void *));
  job.outside_bytes = (size_t)align64((uint64_t)job.channels * grid->element_bytes + EZ_OVERREAD);
  job.has_padding = ez_conv_grid_has_padding(grid);
  /* Too few blocks to go round (a fully connected layer has one): cut the outputs as well, at kernel-sized groups of panels. */
  const int32_t group = is_f32 ? run->kernels->gemm_f32->gemm_f32_panels : run->kernels->gemm_s8->gemm_s8_panels;
  const int32_t units = (job.panels + group - 1) / group, items = grid->segments * job.blocks;
  const int32_t cuts = threads == 1 || items >= 2 * threads ? 1 : (2 * threads + items - 1) / items;
  job.chunk_panels = (units + cuts - 1) / cuts * group;
  job.chunks = (job.panels + job.chunk_panels - 1) / job.chunk_panels;
  ez_pool_run(run->pool, items * job.chunks, item, &job);
}
