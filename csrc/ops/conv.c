/* Convolution in place, without im2col: a block of output pixels at a time, pointers to what each sees, then the product kernel
 * over all panels. 1x1, k x k, grouped, strided, dilated, the phases of a transposed one, Gemm and MatMul are all this step. */
#include <string.h>

#include "core/indirection.h"
#include "core/pool.h"
#include "ops/conv_check.h"

static int32_t pack_step(uint32_t layout) { return layout == EZ_LAYOUT_K8N16 ? 8 : 4; }

/* Packed size of one panel in bytes (s8) or floats (f32). */
static uint64_t panel_size(int quantised, uint32_t layout, uint64_t taps, uint64_t channels) {
  const uint64_t step = quantised ? (uint64_t)pack_step(layout) : 1;
  return taps * ((channels + step - 1) / step * step) * 16;
}

static ez_status check_conv(ez_check *check) {
  ez_status status = ez_check_conv_geometry(check);
  if (status) return status;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)check->step->params;
  const ez_tensor *x = &check->tensors[check->step->inputs[0]], *y = &check->tensors[check->step->outputs[0]];
  const int quantised = x->dtype == EZ_DTYPE_S8;
  const uint64_t channels = (uint64_t)(x->dims[3] / p->groups), outputs = (uint64_t)(y->dims[3] / p->groups);
  const uint64_t taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w, panels = (outputs + 15) / 16;
  if (taps * channels > 1u << 26) return ez_check_fail(check, -1, "kernel_h", "more than 2^26 products for one output");
  const uint64_t weights = (uint64_t)p->groups * panels * panel_size(quantised, check->header->layout, taps, channels) * (quantised ? 1 : 4);
  return ez_check_conv_operands(check, weights, (uint64_t)p->groups * panels * 16);
}

typedef struct ez_conv_job {
  const ez_run *run;
  const ez_conv_params *p;
  const ez_tensor *x, *y;
  ez_grid grid;
  int quantised;
  int32_t taps, channels, outputs, panels; /* of one group */
  int32_t chunk, chunks;                   /* panels of a work item, items of a block */
  size_t size;                             /* bytes of an element */
  uint64_t panel;                          /* packed bytes or floats of a panel */
} ez_conv_job;

/* Pointers (taps, block) of the pixels [first, first + count) of segment `segment`, channels of group `group`. */
static void fill_pointers(const ez_conv_job *job, int64_t segment, int64_t first, int32_t count, int32_t group, const uint8_t *pad, const uint8_t **a) {
  const ez_conv_params *p = job->p;
  const size_t pixel_bytes = (size_t)job->x->row_stride * job->size;
  const size_t image_bytes = (size_t)job->x->dims[1] * (size_t)job->x->dims[2] * pixel_bytes;
  ez_taps taps = {.pad = pad, .height = job->x->dims[1], .width = job->x->dims[2], .pixel_bytes = pixel_bytes, .p = p};
  int64_t pixel = job->grid.dense ? first : segment * p->out_w + first; /* among all grid pixels */
  for (int32_t done = 0; done < count;) {
    const int64_t row = pixel / p->out_w;
    const int32_t j = (int32_t)(pixel % p->out_w), left = p->out_w - j, n = count - done < left ? count - done : left;
    taps.x = job->run->data[job->run->step->inputs[0]] + (size_t)(row / p->out_h) * image_bytes + (size_t)group * (size_t)job->channels * job->size;
    for (int32_t t = 0; t < job->taps; t++)
      ez_fill_tap(&taps, t / p->kernel_w, t % p->kernel_w, (int32_t)(row % p->out_h), j, n, a + (size_t)t * (size_t)job->grid.block + done, 1);
    done += n;
    pixel += n;
  }
}

/* Row of y (a pixel of the whole tensor) of pixel `first` of a segment, and the distance between neighbours. */
static int64_t output_pixel(const ez_conv_job *job, int64_t segment, int64_t first, int64_t *step) {
  const ez_conv_params *p = job->p;
  *step = job->grid.dense ? 1 : p->out_step_w;
  if (job->grid.dense) return first;
  const int64_t image = segment / p->out_h, row = p->out_offset_h + segment % p->out_h * p->out_step_h;
  return (image * job->y->dims[1] + row) * job->y->dims[2] + p->out_offset_w + first * p->out_step_w;
}

static void multiply_s8(const ez_conv_job *job, const uint8_t **a, int32_t rows, int32_t group, int32_t panel0, int32_t panel1, uint8_t *y, size_t y_stride) {
  const ez_step *s = job->run->step;
  const ez_isa *isa = job->run->kernels->gemm_s8;
  const size_t entry = (size_t)group * (size_t)job->panels * 16;
  ez_gemm_s8_args g = {.a_stride = (size_t)job->grid.block, .taps = job->taps, .channels = job->channels, .panel_bytes = job->panel,
                       .y_stride = y_stride, .lo = job->p->lo, .hi = job->p->hi, .zero_point = job->p->zero_point_mid,
                       .layout = (int32_t)job->run->kernels->layout, .act_sign = job->run->kernels->act_sign};
  for (int32_t panel = panel0; panel < panel1; panel += isa->gemm_s8_panels) {
    const int32_t end = panel + isa->gemm_s8_panels < panel1 ? panel + isa->gemm_s8_panels : panel1;
    g.columns = (end * 16 < job->outputs ? end * 16 : job->outputs) - panel * 16;
    g.w = (const int8_t *)job->run->data[s->inputs[1]] + ((size_t)group * (size_t)job->panels + (size_t)panel) * job->panel;
    g.bias = (const int32_t *)(const void *)job->run->data[s->inputs[2]] + entry + 16 * panel;
    g.mult = (const float *)(const void *)job->run->data[s->inputs[3]] + entry + 16 * panel;
    for (int32_t row = 0; row < rows; row += isa->gemm_s8_rows) {
      g.a = a + row;
      g.rows = rows - row < isa->gemm_s8_rows ? rows - row : isa->gemm_s8_rows;
      g.y = y + (size_t)row * y_stride + 16 * (size_t)panel;
      isa->gemm_s8(&g);
    }
  }
}

static void multiply_f32(const ez_conv_job *job, const uint8_t **a, int32_t rows, int32_t group, int32_t panel0, int32_t panel1, float *y, size_t y_stride) {
  const ez_step *s = job->run->step;
  const ez_isa *isa = job->run->kernels->gemm_f32;
  ez_gemm_f32_args g = {.a_stride = (size_t)job->grid.block, .taps = job->taps, .channels = job->channels, .panel_floats = job->panel,
                        .y_stride = y_stride, .lo = job->p->float_lo, .hi = job->p->float_hi};
  for (int32_t panel = panel0; panel < panel1; panel += isa->gemm_f32_panels) {
    const int32_t end = panel + isa->gemm_f32_panels < panel1 ? panel + isa->gemm_f32_panels : panel1;
    g.columns = (end * 16 < job->outputs ? end * 16 : job->outputs) - panel * 16;
    g.w = (const float *)(const void *)job->run->data[s->inputs[1]] + ((size_t)group * (size_t)job->panels + (size_t)panel) * job->panel;
    g.bias = (const float *)(const void *)job->run->data[s->inputs[2]] + (size_t)group * (size_t)job->panels * 16 + 16 * (size_t)panel;
    for (int32_t row = 0; row < rows; row += isa->gemm_f32_rows) {
      g.a = (const float *const *)(const void *)(a + row);
      g.rows = rows - row < isa->gemm_f32_rows ? rows - row : isa->gemm_f32_rows;
      g.y = y + (size_t)row * y_stride + 16 * (size_t)panel;
      isa->gemm_f32(&g);
    }
  }
}

/* One block of pixels by one chunk of panels of one group. */
static void run_item(void *context, int32_t item, int32_t thread) {
  const ez_conv_job *job = context;
  const int32_t chunk = item % job->chunks, group = item / job->chunks % job->p->groups;
  const int64_t where = item / job->chunks / job->p->groups, segment = where / job->grid.blocks, first = where % job->grid.blocks * job->grid.block;
  const int32_t count = (int32_t)(job->grid.length - first < job->grid.block ? job->grid.length - first : job->grid.block);
  uint8_t *pad = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const size_t pad_bytes = ez_pad_bytes((size_t)job->x->dims[3] * job->size);
  memset(pad, job->quantised ? (int)(uint8_t)((uint32_t)job->x->zero_point ^ job->run->kernels->act_sign) : 0, pad_bytes);
  const uint8_t **a = (const uint8_t **)(void *)(pad + pad_bytes);
  fill_pointers(job, segment, first, count, group, pad, a);
  const int32_t panel0 = chunk * job->chunk, panel1 = panel0 + job->chunk < job->panels ? panel0 + job->chunk : job->panels;
  const int32_t channel0 = group * job->outputs;
  int64_t step;
  const int64_t pixel = output_pixel(job, segment, first, &step);
  const size_t y_stride = (size_t)step * (size_t)job->y->row_stride;
  uint8_t *y = job->run->data[job->run->step->outputs[0]] + ((size_t)pixel * (size_t)job->y->row_stride + (size_t)channel0) * job->size;
  if (!job->quantised) {
    multiply_f32(job, a, count, group, panel0, panel1, (float *)(void *)y, y_stride);
    return;
  }
  multiply_s8(job, a, count, group, panel0, panel1, y, y_stride);
  const int32_t column0 = panel0 * 16, column1 = panel1 * 16 < job->outputs ? panel1 * 16 : job->outputs;
  ez_conv_post_ops(job->run, y + column0, y_stride, pixel, step, count, channel0 + column0, column1 - column0);
}

/* Few pixels (Gemm): the panels are shared out instead, four at a time, as many as a product kernel takes at once. */
static void split_panels(ez_conv_job *job, int64_t blocks) {
  job->chunk = job->panels;
  if (blocks * job->p->groups < 2 * ez_pool_threads(job->run->pool) && ez_pool_threads(job->run->pool) > 1) job->chunk = 4;
  job->chunks = (job->panels + job->chunk - 1) / job->chunk;
}

static void run_conv(const ez_run *run) {
  ez_conv_job job = {.run = run, .p = (const ez_conv_params *)(const void *)run->step->params};
  job.x = &run->tensors[run->step->inputs[0]];
  job.y = &run->tensors[run->step->outputs[0]];
  job.quantised = job.x->dtype == EZ_DTYPE_S8;
  job.size = job.quantised ? 1 : 4;
  job.taps = job.p->kernel_h * job.p->kernel_w;
  job.channels = job.x->dims[3] / job.p->groups;
  job.outputs = job.y->dims[3] / job.p->groups;
  job.panels = (job.outputs + 15) / 16;
  job.panel = panel_size(job.quantised, run->kernels->layout, (uint64_t)job.taps, (uint64_t)job.channels);
  job.grid = ez_grid_of(job.p, job.y, ez_conv_block(job.p));
  const int64_t blocks = job.grid.segments * job.grid.blocks;
  split_panels(&job, blocks);
  ez_pool_run(run->pool, (int32_t)(blocks * job.p->groups * job.chunks), run_item, &job);
}

static const char *conv_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_S8 ? kernels->gemm_s8->name : kernels->gemm_f32->name;
}

const ez_op ez_op_conv = {"conv", check_conv, run_conv, conv_kernel};
