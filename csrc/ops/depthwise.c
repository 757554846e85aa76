/* Depthwise convolution: one filter a channel. */
#include "core/depthwise_driver.h"
#include "isa/depthwise.h"
#include "ops/conv_check.h"
#include "ops/operands.h"

static uint64_t packed_elements(int is_f32, uint32_t layout, const ez_conv_params *p, uint64_t panels) {
  const uint64_t taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w;
  if (is_f32 || layout == EZ_LAYOUT_K8N16) return panels * taps * 16;
  return panels * 64 * (uint64_t)ez_depthwise_groups(p->kernel_h, p->kernel_w);
}

static ez_status check_depthwise(ez_check *check) {
  ez_status status = ez_check_conv_geometry(check);
  if (status) return status;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)check->step->params;
  const ez_tensor *x = &check->tensors[check->step->inputs[0]], *y = &check->tensors[check->step->outputs[0]];
  if (p->groups != x->dims[3] || y->dims[3] != x->dims[3])
    return ez_check_fail(check, -1, "groups", "depthwise needs groups = inputs = outputs, got %d, %d, %d", p->groups, x->dims[3], y->dims[3]);
  const uint64_t panels = ((uint64_t)x->dims[3] + 15) / 16;
  check->scratch_needed = ez_depthwise_scratch_bytes(p, x, x->dtype == EZ_DTYPE_S8 && ez_conv_has_residual(check->step));
  const int is_f32 = x->dtype == EZ_DTYPE_F32;
  status = ez_check_constant(check, 1, is_f32 ? EZ_DTYPE_F32 : EZ_DTYPE_U8, (int64_t)packed_elements(is_f32, check->header->layout, p, panels));
  return status ? status : ez_check_conv_operands(check, panels * 16);
}

static const char *depthwise_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_S8 ? kernels->depthwise_s8->name : kernels->depthwise_f32->name;
}

const ez_op ez_op_depthwise = {"depthwise", check_depthwise, ez_depthwise_run, depthwise_kernel, sizeof(ez_conv_params)};
