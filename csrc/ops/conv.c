/* Convolution in place, without im2col: 1x1, k x k, grouped, strided, dilated, the phases of a transposed one, Gemm and MatMul
 * with constant weights are all this step. */
#include "core/conv_driver.h"
#include "core/conv_spans.h"
#include "ops/conv_check.h"
#include "ops/operands.h"

static ez_status check_conv(ez_check *check) {
  ez_status status = ez_check_conv_geometry(check);
  if (status) return status;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)check->step->params;
  const ez_tensor *x = &check->tensors[check->step->inputs[0]], *y = &check->tensors[check->step->outputs[0]];
  const uint64_t groups = (uint64_t)p->groups, channels = (uint64_t)(x->dims[3] / p->groups), outputs = (uint64_t)(y->dims[3] / p->groups);
  const uint64_t taps = (uint64_t)p->kernel_h * (uint64_t)p->kernel_w, panels = (outputs + 15) / 16;
  if (taps * channels > 1u << 26) return ez_check_fail(check, -1, "kernel_h", "more than 2^26 products for one output");
  if (groups * panels > 1u << 26) return ez_check_fail(check, -1, "groups", "more than 2^30 outputs");
  const uint64_t element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  const uint64_t panel_bytes = ez_packed_panel_bytes(p, x, check->header->layout), step_bytes = check->header->layout == EZ_LAYOUT_K8N16 ? 128 : 64;
  status = element == 1 ? ez_check_weights(check, 1, groups * panels, panel_bytes / step_bytes)
                        : ez_check_constant(check, 1, EZ_DTYPE_F32, (int64_t)(groups * panels * (panel_bytes / element)));
  if (status) return status;
  check->scratch_needed = ez_conv_scratch_bytes(p, x, y, check->header->layout, element == 1 && ez_conv_has_post_ops(check->step));
  return ez_check_conv_operands(check, groups * panels * 16);
}

static const char *conv_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_S8 ? kernels->gemm_s8->name : kernels->gemm_f32->name;
}

const ez_op ez_op_conv = {"conv", check_conv, ez_conv_run, conv_kernel, sizeof(ez_conv_params)};
