/* Depthwise convolution: one filter a channel. Blocks of pixels, pointers (pixel, tap), all channels at once. */
#include <string.h>

#include "core/indirection.h"
#include "core/pool.h"
#include "ops/conv_check.h"

static uint64_t weight_bytes(int quantised, uint32_t layout, uint64_t taps, uint64_t panels) {
  if (!quantised) return panels * taps * 16 * 4;
  return panels * 16 * (layout == EZ_LAYOUT_K8N16 ? taps : (taps + 3) / 4 * 4);
}

static ez_status check_depthwise(ez_check *check) {
  ez_status status = ez_check_conv_geometry(check);
  if (status) return status;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)check->step->params;
  const ez_tensor *x = &check->tensors[check->step->inputs[0]], *y = &check->tensors[check->step->outputs[0]];
  if (p->groups != x->dims[3] || y->dims[3] != x->dims[3])
    return ez_check_fail(check, -1, "groups", "depthwise needs groups = inputs = outputs, got %d, %d, %d", p->groups, x->dims[3], y->dims[3]);
  const uint64_t panels = ((uint64_t)x->dims[3] + 15) / 16, taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w;
  return ez_check_conv_operands(check, weight_bytes(x->dtype == EZ_DTYPE_S8, check->header->layout, taps, panels), panels * 16);
}

typedef struct ez_depthwise_job {
  const ez_run *run;
  const ez_conv_params *p;
  const ez_tensor *x, *y;
  ez_grid grid; /* always cut by grid rows: a block never wraps */
  int quantised;
  size_t size;
  int32_t taps;
} ez_depthwise_job;

static void multiply(const ez_depthwise_job *job, const uint8_t **a, int32_t count, uint8_t *y, size_t y_stride) {
  const ez_run *run = job->run;
  const ez_step *s = run->step;
  if (job->quantised) {
    const ez_depthwise_s8_args d = {.a = a, .pixels = count, .taps = job->taps, .channels = job->x->dims[3],
                                    .w = (const int8_t *)run->data[s->inputs[1]], .bias = (const int32_t *)(const void *)run->data[s->inputs[2]],
                                    .mult = (const float *)(const void *)run->data[s->inputs[3]], .y = y, .y_stride = y_stride, .lo = job->p->lo,
                                    .hi = job->p->hi, .zero_point = job->p->zero_point_mid, .layout = (int32_t)run->kernels->layout,
                                    .act_sign = run->kernels->act_sign};
    run->kernels->depthwise_s8->depthwise_s8(&d);
  } else {
    const ez_depthwise_f32_args d = {.a = (const float *const *)(const void *)a, .pixels = count, .taps = job->taps, .channels = job->x->dims[3],
                                     .w = (const float *)(const void *)run->data[s->inputs[1]], .bias = (const float *)(const void *)run->data[s->inputs[2]],
                                     .y = (float *)(void *)y, .y_stride = y_stride, .lo = job->p->float_lo, .hi = job->p->float_hi};
    run->kernels->depthwise_f32->depthwise_f32(&d);
  }
}

static void run_item(void *context, int32_t item, int32_t thread) {
  const ez_depthwise_job *job = context;
  const ez_conv_params *p = job->p;
  const int64_t row = item / job->grid.blocks, image = row / p->out_h;
  const int32_t i = (int32_t)(row % p->out_h), j = (int32_t)(item % job->grid.blocks) * job->grid.block;
  const int32_t count = p->out_w - j < job->grid.block ? p->out_w - j : job->grid.block;
  uint8_t *pad = job->run->scratch + (size_t)thread * job->run->scratch_bytes;
  const size_t pad_bytes = ez_pad_bytes((size_t)job->x->dims[3] * job->size);
  memset(pad, job->quantised ? (int)(uint8_t)((uint32_t)job->x->zero_point ^ job->run->kernels->act_sign) : 0, pad_bytes);
  const uint8_t **a = (const uint8_t **)(void *)(pad + pad_bytes);
  const size_t pixel_bytes = (size_t)job->x->row_stride * job->size;
  const ez_taps taps = {.x = job->run->data[job->run->step->inputs[0]] + (size_t)image * (size_t)job->x->dims[1] * (size_t)job->x->dims[2] * pixel_bytes,
                        .pad = pad, .height = job->x->dims[1], .width = job->x->dims[2], .pixel_bytes = pixel_bytes, .p = p};
  for (int32_t t = 0; t < job->taps; t++) ez_fill_tap(&taps, t / p->kernel_w, t % p->kernel_w, i, j, count, a + t, (size_t)job->taps);
  const int64_t pixel = (image * job->y->dims[1] + p->out_offset_h + (int64_t)i * p->out_step_h) * job->y->dims[2] + p->out_offset_w + (int64_t)j * p->out_step_w;
  const size_t y_stride = (size_t)p->out_step_w * (size_t)job->y->row_stride;
  uint8_t *y = job->run->data[job->run->step->outputs[0]] + (size_t)pixel * (size_t)job->y->row_stride * job->size;
  multiply(job, a, count, y, y_stride);
  if (job->quantised) ez_conv_post_ops(job->run, y, y_stride, pixel, p->out_step_w, count, 0, job->y->dims[3]);
}

static void run_depthwise(const ez_run *run) {
  ez_depthwise_job job = {.run = run, .p = (const ez_conv_params *)(const void *)run->step->params};
  job.x = &run->tensors[run->step->inputs[0]];
  job.y = &run->tensors[run->step->outputs[0]];
  job.quantised = job.x->dtype == EZ_DTYPE_S8;
  job.size = job.quantised ? 1 : 4;
  job.taps = job.p->kernel_h * job.p->kernel_w;
  job.grid = (ez_grid){.block = ez_conv_block(job.p)};
  job.grid.blocks = (job.p->out_w + job.grid.block - 1) / job.grid.block;
  ez_pool_run(run->pool, (int32_t)((int64_t)job.y->dims[0] * job.p->out_h * job.grid.blocks), run_item, &job);
}

static const char *depthwise_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_S8 ? kernels->depthwise_s8->name : kernels->depthwise_f32->name;
}

const ez_op ez_op_depthwise = {"depthwise", check_depthwise, run_depthwise, depthwise_kernel};
