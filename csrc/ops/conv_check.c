#include "ops/conv_check.h"

#include <math.h>
#include <string.h>

#include "ops/operands.h"

#define FAIL(tensor, field, ...) return ez_check_fail(check, tensor, field, __VA_ARGS__)

enum { X, W, BIAS, MULT, RESIDUAL, TABLE };

static ez_status check_ranges(ez_check *check, const ez_conv_params *p) {
  const int32_t positive[] = {p->kernel_h, p->kernel_w, p->stride_h, p->stride_w, p->dilation_h, p->dilation_w, p->out_h, p->out_w,
                              p->out_step_h, p->out_step_w, p->groups};
  for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
    if (positive[i] < 1) FAIL(-1, "params", "kernel, stride, dilation, grid, step and groups must be positive; value %zu is %d", i, positive[i]);
  if (p->kernel_h > 4096 || p->kernel_w > 4096 || p->stride_h > 65536 || p->stride_w > 65536 || p->dilation_h > 65536 || p->dilation_w > 65536)
    FAIL(-1, "params", "kernel over 4096, or stride or dilation over 65536");
  if (p->pad_top < -(1 << 24) || p->pad_top > 1 << 24 || p->pad_left < -(1 << 24) || p->pad_left > 1 << 24) FAIL(-1, "pad", "out of range");
  if ((uint64_t)p->kernel_h * (uint64_t)p->kernel_w > 1u << 20) FAIL(-1, "kernel_h", "more than 2^20 taps");
  if ((int64_t)p->out_w * p->stride_w + (int64_t)p->kernel_w * p->dilation_w >= 1 << 30) FAIL(-1, "out_w", "the grid leaves 2^30 input columns");
  if (p->out_offset_h < 0 || p->out_offset_w < 0) FAIL(-1, "out_offset", "is negative");
  if (isnan(p->float_lo) || isnan(p->float_hi) || p->float_lo > p->float_hi) FAIL(-1, "float_lo", "clamp is empty or NaN");
  return EZ_OK;
}

static ez_status check_int8(ez_check *check, const ez_conv_params *p) {
  if (p->lo < -128 || p->hi > 127 || p->lo > p->hi) FAIL(-1, "lo", "clamp [%d, %d] is not inside [-128, 127]", p->lo, p->hi);
  if (p->add_lo < -128 || p->add_hi > 127 || p->add_lo > p->add_hi) FAIL(-1, "add_lo", "clamp [%d, %d] is not inside [-128, 127]", p->add_lo, p->add_hi);
  if (p->zero_point_mid < -128 || p->zero_point_mid > 127 || p->zero_point_mid_out < -128 || p->zero_point_mid_out > 127)
    FAIL(-1, "zero_point_mid", "is not in [-128, 127]");
  if (p->act || p->affine) FAIL(-1, "act", "an s8 convolution has a table instead of act and affine");
  if (p->small_sums < 0 || p->small_sums > 1) FAIL(-1, "small_sums", "is %d, not 0 or 1", p->small_sums);
  if (!isfinite(p->scale_a) || !isfinite(p->scale_b) || p->scale_a < 0 || p->scale_b < 0) FAIL(-1, "scale_a", "is negative or not finite");
  return EZ_OK;
}

static ez_status check_float(ez_check *check, const ez_conv_params *p) {
  if (p->act && (p->act < EZ_UNARY_CLIP || p->act > EZ_UNARY_GELU_TANH || p->act == EZ_UNARY_NOT)) FAIL(-1, "act", "unknown function %d", p->act);
  if (isnan(p->act_alpha) || isnan(p->act_beta)) FAIL(-1, "act_alpha", "is not a number");
  if (p->affine < 0 || p->affine > 1) FAIL(-1, "affine", "is %d, not 0 or 1", p->affine);
  if (isnan(p->factor) || isnan(p->shift)) FAIL(-1, "factor", "is not a number");
  if (isnan(p->sum_lo) || isnan(p->sum_hi) || p->sum_lo > p->sum_hi) FAIL(-1, "sum_lo", "clamp is empty or NaN");
  return EZ_OK;
}

static ez_status check_grid(ez_check *check, const ez_conv_params *p, const ez_tensor *x, const ez_tensor *y) {
  const int64_t last_row = p->out_offset_h + ((int64_t)p->out_h - 1) * p->out_step_h;
  const int64_t last_column = p->out_offset_w + ((int64_t)p->out_w - 1) * p->out_step_w;
  if (last_row >= y->dims[1] || last_column >= y->dims[2]) FAIL(check->step->outputs[0], "out_h", "grid leaves the output (%d x %d)", y->dims[1], y->dims[2]);
  if (x->dims[0] != y->dims[0]) FAIL(check->step->outputs[0], "dims", "batch differs: %d in, %d out", x->dims[0], y->dims[0]);
  if ((uint64_t)p->out_h * (uint64_t)p->out_w > (1u << 30) / (uint64_t)y->dims[0]) FAIL(-1, "out_h", "more than 2^30 output pixels");
  if (x->dims[3] % p->groups || y->dims[3] % p->groups) FAIL(-1, "groups", "%d do not divide %d inputs and %d outputs", p->groups, x->dims[3], y->dims[3]);
  return EZ_OK;
}

ez_status ez_check_conv_geometry(ez_check *check) {
  const ez_step *s = check->step;
  ez_conv_params p;
  memcpy(&p, s->params, sizeof p);
  ez_status status = ez_check_operands(check, BIAS + 1, TABLE + 1);
  if (status) return status;
  const ez_tensor *x = ez_input_of(check, X), *y = ez_output_of(check);
  if (x->rank != 4 || y->rank != 4) FAIL(s->inputs[X], "rank", "x and y must be NHWC, rank 4");
  if (x->dtype != y->dtype || (x->dtype != EZ_DTYPE_S8 && x->dtype != EZ_DTYPE_F32)) FAIL(s->inputs[X], "dtype", "x and y must both be s8 or both f32");
  if (y->dtype == EZ_DTYPE_S8 && y->place != EZ_IN_ARENA) FAIL(s->outputs[0], "place", "an s8 result must be in the arena");
  if (x->place != EZ_IN_ARENA && x->place != EZ_IN_WEIGHTS && (x->dtype == EZ_DTYPE_S8 || s->op == EZ_OP_DEPTHWISE))
    FAIL(s->inputs[X], "place", "kernels read past its end: x must be in the arena or the weights");
  status = check_ranges(check, &p);
  if (!status) status = x->dtype == EZ_DTYPE_S8 ? check_int8(check, &p) : check_float(check, &p);
  return status ? status : check_grid(check, &p, x, y);
}

static ez_status check_residual(ez_check *check, const ez_conv_params *p) {
  const ez_tensor *y = ez_output_of(check), *residual = ez_input_of(check, RESIDUAL);
  const int32_t index = check->step->inputs[RESIDUAL];
  if (residual->dtype != y->dtype || residual->rank != 4 || memcmp(residual->dims, y->dims, sizeof y->dims))
    FAIL(index, "residual", "must be of the output's dtype and shape");
  if (p->out_h != y->dims[1] || p->out_w != y->dims[2]) FAIL(index, "residual", "needs a grid that covers the whole output");
  return ez_check_stored(check, index);
}

ez_status ez_check_conv_operands(ez_check *check, uint64_t padded) {
  const int quantised = ez_input_of(check, X)->dtype == EZ_DTYPE_S8;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)check->step->params;
  ez_status status = ez_check_constant(check, BIAS, quantised ? EZ_DTYPE_S32 : EZ_DTYPE_F32, (int64_t)padded);
  if (status) return status;
  if (!quantised) {
    if (ez_input_of(check, MULT) || ez_input_of(check, TABLE)) FAIL(-1, "inputs", "a float convolution has no multipliers and no table");
    return ez_input_of(check, RESIDUAL) ? check_residual(check, p) : EZ_OK;
  }
  if (!ez_input_of(check, MULT)) FAIL(-1, "mult", "is missing");
  status = ez_check_constant(check, MULT, EZ_DTYPE_F32, (int64_t)padded);
  if (!status && ez_input_of(check, TABLE)) status = ez_check_constant(check, TABLE, EZ_DTYPE_U8, 256);
  return !status && ez_input_of(check, RESIDUAL) ? check_residual(check, p) : status;
}

int ez_conv_has_residual(const ez_step *step) { return step->n_inputs > RESIDUAL && step->inputs[RESIDUAL] >= 0; }

int ez_conv_has_post_ops(const ez_step *step) {
  return ez_conv_has_residual(step) || (step->n_inputs > TABLE && step->inputs[TABLE] >= 0);
}
