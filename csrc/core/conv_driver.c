/* A work item is a block of output pixels by a range of panels. Its scratch: the block's spans (conv_spans.h) and, with a
 * table or residual, the block's result before them and a spare for narrow residuals.
 * Within the block a group of panels meets all rows before the next group: that part of the weights stays in L1 or L2. */
#include "core/conv_driver.h"

#include "core/blocks.h"
#include "core/conv_grid.h"
#include "core/conv_spans.h"
#include "core/numerics.h"
#include "core/pool.h"
#include "core/winograd_driver.h"

#include <string.h>

/* Rows of a block: 96 keep a block's activations near (1.35x on 1024^3 against none). Weights that the second-level cache cannot hold
 * are fetched anew for each block, so those get larger ones (128x1536x384 in float: 937 -> 903 us). */
#define NEAR_ROWS 96
#define NEAR_WEIGHTS (512 * 1024)
#define NEAR_BYTES (32 * 1024) /* of float results that are finished in one call, the first-level cache still holding them */

typedef struct conv_job {
  ez_conv_grid grid;
  ez_span_plan spans;
  const ez_run *run;
  const uint8_t *w;
  const int32_t *bias_s32;
  const float *bias_f32, *mult;
  size_t panel_bytes, tile_bytes;
  int32_t channels, outputs, panels; /* of one group */
  int32_t rows, blocks;              /* pixels of a block, blocks of a segment */
  int32_t chunks, chunk_panels;      /* the panels are cut into chunks */
  int32_t small_mult, has_padding;
  ez_blocks sparse; /* head is NULL with packed panels */
  void (*product)(const ez_gemm_s8_args *);
} conv_job;

/* The rows of one block: where they read, and where their outputs go. */
typedef struct conv_block {
  const uint8_t *const *a;
  size_t row_step;
  int32_t segment, first, rows;
} conv_block;

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

uint64_t ez_conv_scratch_bytes(const ez_conv_params *p, const ez_tensor *x, const ez_tensor *y, uint32_t layout, int has_post_ops) {
  const ez_span_plan plan = ez_span_plan_of(p, x, layout);
  const uint64_t outputs = (uint64_t)(y->dims[3] / p->groups);
  const uint64_t rows = (uint64_t)plan.rows, tiles = align64(rows * outputs) + align64(rows * EZ_NARROW);
  return plan.pointer_bytes + plan.outside_bytes + plan.copy_bytes + (has_post_ops ? tiles : 0);
}

static void product_s8(const conv_job *job, const conv_block *block, int32_t group, int32_t panel, int32_t columns, uint8_t *y,
                       size_t y_stride) {
  const ez_isa *isa = job->run->kernels->gemm_s8;
  const ez_conv_params *p = job->grid.params;
  const size_t first = (size_t)group * (size_t)job->panels + (size_t)panel;
  ez_gemm_s8_args args = {
      .a_stride = (size_t)job->spans.rows, .columns = columns, .taps = job->spans.shape.count, .channels = job->spans.shape.elements,
      .w = job->sparse.head ? job->sparse.values : (const int8_t *)job->w + first * job->panel_bytes, .panel_bytes = job->panel_bytes,
      .bias = job->bias_s32 + first * 16, .mult = job->mult + first * 16, .y_stride = y_stride,
      .lo = p->lo, .hi = p->hi, .zero_point = p->zero_point_mid, .small_sums = p->small_sums, .small_mult = job->small_mult,
      .row_step = block->row_step,
      .layout = (int32_t)job->run->kernels->layout, .act_sign = job->run->kernels->act_sign, .prepared = job->run->prepared, .panel = (int32_t)first,
      .starts = job->sparse.head ? job->sparse.starts + first : NULL, .index = job->sparse.index,
  };
  for (int32_t r = 0; r < block->rows; r += isa->gemm_s8_rows) {
    args.a = block->a + r;
    args.rows = block->rows - r < isa->gemm_s8_rows ? block->rows - r : isa->gemm_s8_rows;
    args.y = y + (size_t)r * y_stride;
    job->product(&args);
  }
}

static void product_f32(const conv_job *job, const conv_block *block, int32_t group, int32_t panel, int32_t columns, uint8_t *y,
                        size_t y_stride) {
  const ez_isa *isa = job->run->kernels->gemm_f32;
  const ez_conv_params *p = job->grid.params;
  const size_t first = (size_t)group * (size_t)job->panels + (size_t)panel;
  ez_gemm_f32_args args = {
      .a_stride = (size_t)job->spans.rows, .columns = columns, .taps = job->spans.shape.count, .channels = job->spans.shape.elements,
      .w = (const float *)(const void *)(job->w + first * job->panel_bytes), .panel_floats = job->panel_bytes / 4,
      .bias = job->bias_f32 + first * 16, .y_stride = y_stride / 4, .lo = p->float_lo, .hi = p->float_hi,
  };
  for (int32_t r = 0; r < block->rows; r += isa->gemm_f32_rows) {
    args.a = (const float *const *)(const void *)(block->a + r);
    args.rows = block->rows - r < isa->gemm_f32_rows ? block->rows - r : isa->gemm_f32_rows;
    args.y = (float *)(void *)(y + (size_t)r * y_stride);
    isa->gemm_f32(&args);
  }
}

/* float32: panels [panel, end) of one group, and what follows the product while its results are in the first-level cache. */
static void block_group_f32(const conv_job *job, const conv_block *block, int32_t group, int32_t panel, int32_t end) {
  const ez_conv_grid *grid = &job->grid;
  const int32_t step = job->run->kernels->gemm_f32->gemm_f32_panels, column = panel * 16;
  const int32_t last = end * 16 < job->outputs ? end * 16 : job->outputs;
  const int at_once = (size_t)block->rows * (size_t)(last - column) * 4 <= NEAR_BYTES;
  size_t stride = 0;
  uint8_t *to = ez_conv_grid_output(grid, block->segment, block->first, &stride) + (size_t)(group * job->outputs) * 4;
  for (int32_t q = panel; q < end; q += step) {
    const int32_t n0 = q * 16, n1 = n0 + 16 * step < last ? n0 + 16 * step : last;
    product_f32(job, block, group, q, n1 - n0, to + (size_t)n0 * 4, stride);
    if (grid->has_post_ops && !at_once)
      ez_conv_grid_finish_f32(grid, block->segment, block->first, block->rows, group * job->outputs + n0, n1 - n0);
  }
  if (grid->has_post_ops && at_once)
    ez_conv_grid_finish_f32(grid, block->segment, block->first, block->rows, group * job->outputs + column, last - column);
}

/* int8: the same. What follows the product works on a tile of back-to-back rows, or in y where y is that. */
static void block_group_s8(const conv_job *job, const conv_block *block, int32_t group, int32_t panel, int32_t end, uint8_t *tile) {
  const ez_conv_grid *grid = &job->grid;
  const int32_t step = job->run->kernels->gemm_s8->gemm_s8_panels;
  const int32_t column = panel * 16, last = end * 16 < job->outputs ? end * 16 : job->outputs;
  size_t stride = 0;
  uint8_t *to = ez_conv_grid_output(grid, block->segment, block->first, &stride) + (size_t)(group * job->outputs + column);
  const int in_tile = grid->residual || (grid->table && stride != (size_t)(last - column));
  if (in_tile) {
    to = tile;
    stride = (size_t)(last - column);
  }
  for (int32_t q = panel; q < end; q += step) {
    const int32_t n0 = q * 16, n1 = n0 + 16 * step < last ? n0 + 16 * step : last;
    product_s8(job, block, group, q, n1 - n0, to + (size_t)(n0 - column), stride);
  }
  if (grid->table || grid->residual)
    ez_conv_grid_finish(grid, block->segment, block->first, block->rows, group * job->outputs + column, last - column,
                        in_tile ? tile : NULL, tile + job->tile_bytes);
}

static void item(void *context, int32_t index, int32_t thread) {
  const conv_job *job = context;
  const ez_conv_grid *grid = &job->grid;
  const ez_span_plan *spans = &job->spans;
  const int32_t chunk = index % job->chunks, number = index / job->chunks;
  const int32_t first = number % job->blocks * job->rows, panel = chunk * job->chunk_panels;
  const int32_t end = panel + job->chunk_panels < job->panels ? panel + job->chunk_panels : job->panels;
  uint8_t *scratch = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const ez_span_memory memory = {
      .pointers = (const uint8_t **)(void *)scratch,
      .outside = scratch + spans->pointer_bytes,
      .copies = scratch + spans->pointer_bytes + spans->outside_bytes,
  };
  uint8_t *tile = memory.copies + spans->copy_bytes;
  conv_block block = {.a = memory.pointers, .segment = number / job->blocks, .first = first};
  block.rows = grid->length - first < job->rows ? grid->length - first : job->rows;
  if (job->has_padding) memset(memory.outside, grid->outside_value, spans->outside_bytes);
  for (int32_t group = 0; group < grid->params->groups; group++) {
    const size_t channel = (size_t)group * (size_t)job->channels * grid->element_bytes;
    block.row_step = ez_span_pointers(grid, spans, block.segment, first, block.rows, channel, &memory);
    if (grid->element_bytes == 4)
      block_group_f32(job, &block, group, panel, end);
    else
      block_group_s8(job, &block, group, panel, end, tile);
  }
}

/* Too few blocks to go round (a fully connected layer has one): cut the outputs as well, at kernel-sized groups of panels. */
static void cut_outputs(conv_job *job, int32_t items, int32_t threads, int32_t group) {
  const int32_t units = (job->panels + group - 1) / group;
  const int32_t cuts = threads == 1 || items >= 2 * threads ? 1 : (2 * threads + items - 1) / items;
  job->chunk_panels = (units + cuts - 1) / cuts * group;
  job->chunks = (job->panels + job->chunk_panels - 1) / job->chunk_panels;
}

void ez_conv_run(const ez_run *run) {
  const ez_step *step = run->step;
  const uint64_t for_tiles = run->blocks ? 0 : ez_winograd_scratch_bytes(step, run->tensors, run->kernels);
  if (for_tiles && for_tiles <= run->scratch_bytes) {
    ez_winograd_run(run);
    return;
  }
  const ez_tensor *x = &run->tensors[step->inputs[0]];
  conv_job job = {.grid = ez_conv_grid_of(run), .run = run};
  const ez_conv_grid *grid = &job.grid;
  const ez_conv_params *p = grid->params;
  const int is_f32 = grid->element_bytes == 4;
  job.spans = ez_span_plan_of(p, x, run->kernels->layout);
  job.w = run->data[step->inputs[1]];
  job.bias_s32 = (const int32_t *)(const void *)run->data[step->inputs[2]];
  job.bias_f32 = (const float *)(const void *)run->data[step->inputs[2]];
  job.channels = grid->in_channels / p->groups;
  job.outputs = grid->out_channels / p->groups;
  job.panels = (job.outputs + 15) / 16;
  job.tile_bytes = (size_t)align64((uint64_t)job.spans.rows * (uint64_t)job.outputs);
  job.panel_bytes = ez_packed_panel_bytes(p, x, run->kernels->layout);
  if (!is_f32) {
    job.mult = (const float *)(const void *)run->data[step->inputs[3]];
    if (run->blocks) job.sparse = ez_blocks_of(run->blocks);
    job.product = run->blocks ? run->kernels->gemm_s8->blocks_s8 : run->kernels->gemm_s8->gemm_s8;
    job.small_mult = ez_conv_mults_are_small(job.mult, (size_t)p->groups * (size_t)job.panels * 16);
  }
  const int32_t threads = ez_pool_threads(run->pool);
  const int32_t most = job.panel_bytes * (size_t)job.panels > NEAR_WEIGHTS || job.spans.rows < NEAR_ROWS ? job.spans.rows : NEAR_ROWS;
  job.rows = ez_conv_grid_block(grid, most, 12, threads);
  job.blocks = (grid->length + job.rows - 1) / job.rows;
  job.has_padding = ez_conv_grid_has_padding(grid);
  const int32_t items = grid->segments * job.blocks;
  cut_outputs(&job, items, threads, is_f32 ? run->kernels->gemm_f32->gemm_f32_panels : run->kernels->gemm_s8->gemm_s8_panels);
  ez_pool_run(run->pool, items * job.chunks, item, &job);
}
