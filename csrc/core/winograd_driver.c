/* A work item is some rows of tiles by a range of panels: two output rows a row of tiles, so that what follows the product finds
 * pixels side by side. Its scratch: the kernel's, pointers to what tiles see and make, a pixel of padding, and, with a table or
 * residual, the item's result before them and a spare for narrow residuals. */
#include "core/winograd_driver.h"

#include <string.h>

#include "core/conv_grid.h"
#include "core/conv_spans.h"
#include "core/pool.h"

#define TILE_BYTES (512 * 1024)       /* of transformed inputs: part of the second-level cache */
#define MOST_TILE_BYTES (1024 * 1024) /* of one row of tiles */
#define LEAST_CHANNELS 16             /* fewer are not worth the transforms */
#define LEAST_TILES 9

typedef struct tile_plan {
  int32_t across, down; /* tiles of an image */
  int32_t rows, blocks; /* rows of tiles in an item, items down an image */
} tile_plan;

static tile_plan plan_of(const ez_conv_params *p, int32_t channels) {
  tile_plan plan = {.across = (p->out_w + 1) / 2, .down = (p->out_h + 1) / 2};
  const int64_t row_bytes = (int64_t)plan.across * channels * 32, fit = TILE_BYTES / (row_bytes ? row_bytes : 1);
  const int32_t most = fit < 1 ? 1 : fit < plan.down ? (int32_t)fit : plan.down;
  plan.blocks = (plan.down + most - 1) / most;
  plan.rows = (plan.down + plan.blocks - 1) / plan.blocks;
  return plan;
}

int ez_winograd_serves(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  if (step->op != EZ_OP_CONV || !kernels->gemm_s8->winograd_s8 || kernels->layout != EZ_LAYOUT_K4N16) return 0;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)step->params;
  const ez_tensor *x = &tensors[step->inputs[0]], *y = &tensors[step->outputs[0]];
  if (x->dtype != EZ_DTYPE_S8 || p->kernel_h != 3 || p->kernel_w != 3 || p->stride_h != 1 || p->stride_w != 1 || p->groups != 1) return 0;
  if (p->dilation_h != 1 || p->dilation_w != 1 || p->out_step_h != 1 || p->out_step_w != 1) return 0;
  if (p->out_h != y->dims[1] || p->out_w != y->dims[2] || p->out_h > 1 << 14 || p->out_w > 1 << 14) return 0;
  const int32_t channels = x->dims[3];
  if (channels % 4 || channels < LEAST_CHANNELS || channels > EZ_WINOGRAD_CHANNELS) return 0;
  const tile_plan plan = plan_of(p, channels);
  const int64_t tiles = (int64_t)plan.across * plan.down, pixels = (int64_t)p->out_h * p->out_w;
  return tiles >= LEAST_TILES && 2 * tiles <= pixels && (int64_t)plan.across * channels * 32 <= MOST_TILE_BYTES;
}

static uint64_t up64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Where an item's scratch is cut; tiles are those of a whole item. */
typedef struct item_memory {
  uint64_t inputs, outputs, outside, tile, spare, end; /* offsets; the kernel's part comes first */
} item_memory;

static item_memory memory_of(const ez_conv_params *p, const ez_tensor *x, const ez_tensor *y, const ez_isa *isa, const tile_plan *plan) {
  const int32_t tiles = plan->rows * plan->across;
  const uint64_t pixels = 2 * (uint64_t)plan->rows * (uint64_t)p->out_w;
  item_memory m = {.inputs = up64(isa->winograd_scratch(tiles, x->dims[3]))};
  m.outputs = m.inputs + (uint64_t)tiles * 16 * sizeof(void *);
  m.outside = up64(m.outputs + (uint64_t)tiles * 4 * sizeof(void *));
  m.tile = up64(m.outside + (uint64_t)x->dims[3] + EZ_OVERREAD);
  m.spare = up64(m.tile + pixels * (uint64_t)y->dims[3]);
  m.end = up64(m.spare + pixels * EZ_NARROW);
  return m;
}

uint64_t ez_winograd_scratch_bytes(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  if (!ez_winograd_serves(step, tensors, kernels)) return 0;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)step->params;
  const ez_tensor *x = &tensors[step->inputs[0]];
  const tile_plan plan = plan_of(p, x->dims[3]);
  return memory_of(p, x, &tensors[step->outputs[0]], kernels->gemm_s8, &plan).end;
}

typedef struct winograd_job {
  ez_conv_grid grid;
  const ez_run *run;
  tile_plan plan;
  item_memory memory;
  ez_winograd_s8_args args; /* of the first panel, without an item's memory */
  int32_t panels, chunk_panels, chunks;
} winograd_job;

/* The 16 pixels that a tile of an image sees. */
static void see_pixels(const ez_conv_grid *grid, int32_t image, int32_t row, int32_t column, const uint8_t *outside, const uint8_t **out) {
  const ez_conv_params *p = grid->params;
  const uint8_t *pixels = grid->x + (size_t)image * (size_t)grid->in_h * (size_t)grid->in_w * grid->pixel_bytes_x;
  for (int32_t i = 0; i < 4; i++) {
    const int64_t iy = (int64_t)2 * row + i - p->pad_top;
    for (int32_t j = 0; j < 4; j++) {
      const int64_t ix = (int64_t)2 * column + j - p->pad_left;
      const int inside = iy >= 0 && iy < grid->in_h && ix >= 0 && ix < grid->in_w;
      *out++ = inside ? pixels + ((size_t)iy * (size_t)grid->in_w + (size_t)ix) * grid->pixel_bytes_x : outside;
    }
  }
}

/* Where its outputs go: `to` is the item's first pixel. */
static void make_pixels(const ez_conv_params *p, int32_t row, int32_t column, int32_t rows, uint8_t *to, size_t stride, uint8_t **out) {
  for (int32_t i = 0; i < 2; i++)
    for (int32_t j = 0; j < 2; j++) {
      const int exists = 2 * row + i < rows && 2 * column + j < p->out_w;
      *out++ = exists ? to + ((size_t)(2 * row + i) * (size_t)p->out_w + (size_t)(2 * column + j)) * stride : NULL;
    }
}

static void item(void *context, int32_t index, int32_t thread) {
  const winograd_job *job = context;
  const ez_conv_grid *grid = &job->grid;
  const ez_conv_params *p = grid->params;
  const tile_plan *plan = &job->plan;
  const int32_t chunk = index % job->chunks, block = index / job->chunks, image = block / plan->blocks, top = block % plan->blocks * plan->rows;
  const int32_t tile_rows = plan->down - top < plan->rows ? plan->down - top : plan->rows;
  const int32_t rows = p->out_h - 2 * top < 2 * tile_rows ? p->out_h - 2 * top : 2 * tile_rows; /* of outputs */
  const int32_t first = (image * p->out_h + 2 * top) * p->out_w, panel = chunk * job->chunk_panels, column = 16 * panel;
  const int32_t most = grid->out_channels - column, columns = 16 * job->chunk_panels < most ? 16 * job->chunk_panels : most;
  uint8_t *scratch = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const uint8_t **inputs = (const uint8_t **)(void *)(scratch + job->memory.inputs);
  uint8_t **outputs = (uint8_t **)(void *)(scratch + job->memory.outputs), *outside = scratch + job->memory.outside;
  uint8_t *tile = scratch + job->memory.tile;
  size_t stride = 0;
  uint8_t *to = ez_conv_grid_output(grid, 0, first, &stride) + column;
  const int in_tile = grid->residual || (grid->table && stride != (size_t)columns);
  if (in_tile) to = tile, stride = (size_t)columns;
  memset(outside, grid->outside_value, (size_t)grid->in_channels + EZ_OVERREAD);
  for (int32_t i = 0, n = 0; i < tile_rows; i++)
    for (int32_t j = 0; j < plan->across; j++, n++) {
      see_pixels(grid, image, top + i, j, outside, inputs + 16 * (size_t)n);
      make_pixels(p, i, j, rows, to, stride, outputs + 4 * (size_t)n);
    }
  ez_winograd_s8_args args = job->args;
  args.a = inputs, args.y = outputs, args.tiles = tile_rows * plan->across, args.columns = columns, args.scratch = scratch;
  args.w += (size_t)panel * args.panel_bytes, args.bias += column, args.mult += column;
  job->run->kernels->gemm_s8->winograd_s8(&args);
  if (grid->table || grid->residual)
    ez_conv_grid_finish(grid, 0, first, rows * p->out_w, column, columns, in_tile ? tile : NULL, scratch + job->memory.spare);
}

/* For more threads: rows of tiles go round, else panels are cut as well. */
static void share_out(winograd_job *job, int32_t batch, int32_t threads) {
  tile_plan *plan = &job->plan;
  if (threads > 1 && batch * plan->blocks < 2 * threads && plan->rows > 1) {
    plan->rows = (plan->rows + 1) / 2;
    plan->blocks = (plan->down + plan->rows - 1) / plan->rows;
  }
  const int32_t items = batch * plan->blocks, cuts = threads == 1 || items >= 2 * threads ? 1 : (2 * threads + items - 1) / items;
  job->chunk_panels = (job->panels + cuts - 1) / cuts;
  job->chunks = (job->panels + job->chunk_panels - 1) / job->chunk_panels;
}

void ez_winograd_run(const ez_run *run) {
  const ez_step *step = run->step;
  const ez_tensor *x = &run->tensors[step->inputs[0]], *y = &run->tensors[step->outputs[0]];
  winograd_job job = {.grid = ez_conv_grid_of(run), .run = run};
  const ez_conv_params *p = job.grid.params;
  job.plan = plan_of(p, x->dims[3]);
  job.memory = memory_of(p, x, y, run->kernels->gemm_s8, &job.plan);
  job.panels = (y->dims[3] + 15) / 16;
  const float *mult = (const float *)(const void *)run->data[step->inputs[3]];
  job.args = (ez_winograd_s8_args){
      .channels = x->dims[3], .w = (const int8_t *)run->data[step->inputs[1]], .panel_bytes = ez_packed_panel_bytes(p, x, run->kernels->layout),
      .bias = (const int32_t *)(const void *)run->data[step->inputs[2]], .mult = mult, .lo = p->lo, .hi = p->hi,
      .zero_point = p->zero_point_mid, .small_mult = ez_conv_mults_are_small(mult, (size_t)job.panels * 16),
  };
  share_out(&job, y->dims[0], ez_pool_threads(run->pool));
  ez_pool_run(run->pool, y->dims[0] * job.plan.blocks * job.chunks, item, &job);
}
