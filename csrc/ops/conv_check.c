#include "ops/conv_check.h"

#include <math.h>
#include <string.h>

#define FAIL(tensor, field, ...) return ez_check_fail(check, tensor, field, __VA_ARGS__)

enum { X, W, BIAS, MULT, RESIDUAL, TABLE };

static const ez_tensor *operand(const ez_check *check, int which) {
  const ez_step *s = check->step;
  return which < s->n_inputs && s->inputs[which] >= 0 ? &check->tensors[s->inputs[which]] : NULL;
}

static ez_status check_ranges(ez_check *check, const ez_conv_params *p) {
  const int32_t positive[] = {p->kernel_h, p->kernel_w, p->stride_h, p->stride_w, p->dilation_h, p->dilation_w, p->out_h, p->out_w,
                              p->out_step_h, p->out_step_w, p->groups};
  for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
    if (positive[i] < 1) FAIL(-1, "params", "kernel, stride, dilation, grid, step and groups must be positive; value %zu is %d", i, positive[i]);
  if (p->kernel_h > 4096 || p->kernel_w > 4096 || p->stride_h > 65536 || p->stride_w > 65536 || p->dilation_h > 65536 || p->dilation_w > 65536)
    FAIL(-1, "params", "kernel over 4096, or stride or dilation over 65536");
  if (p->pad_top < -(1 << 24) || p->pad_top > 1 << 24 || p->pad_left < -(1 << 24) || p->pad_left > 1 << 24) FAIL(-1, "pad", "out of range");
  if ((uint64_t)p->kernel_h * (uint64_t)p->kernel_w > 1u << 20) FAIL(-1, "kernel_h", "more than 2^20 taps");
  if (p->out_offset_h < 0 || p->out_offset_w < 0) FAIL(-1, "out_offset", "is negative");
  if (isnan(p->float_lo) || isnan(p->float_hi) || p->float_lo > p->float_hi) FAIL(-1, "float_lo", "clamp is empty or NaN");
  return EZ_OK;
}

static ez_status check_int8(ez_check *check, const ez_conv_params *p) {
  if (p->lo < -128 || p->hi > 127 || p->lo > p->hi) FAIL(-1, "lo", "clamp [%d, %d] is not inside [-128, 127]", p->lo, p->hi);
  if (p->add_lo < -128 || p->add_hi > 127 || p->add_lo > p->add_hi) FAIL(-1, "add_lo", "clamp [%d, %d] is not inside [-128, 127]", p->add_lo, p->add_hi);
  if (p->zero_point_mid < -128 || p->zero_point_mid > 127 || p->zero_point_mid_out < -128 || p->zero_point_mid_out > 127)
    FAIL(-1, "zero_point_mid", "is not in [-128, 127]");
  if (!isfinite(p->scale_a) || !isfinite(p->scale_b) || p->scale_a < 0 || p->scale_b < 0) FAIL(-1, "scale_a", "is negative or not finite");
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
  if (s->n_inputs < 3 || s->n_outputs != 1) FAIL(-1, "n_inputs", "needs x, weights and bias and one output");
  const ez_tensor *x = operand(check, X), *y = &check->tensors[s->outputs[0]];
  if (!x || !operand(check, W) || !operand(check, BIAS)) FAIL(-1, "inputs", "x, weights or bias is missing");
  if (x->rank != 4 || y->rank != 4) FAIL(s->inputs[0], "rank", "x and y must be NHWC, rank 4");
  if (x->dtype != y->dtype || (x->dtype != EZ_DTYPE_S8 && x->dtype != EZ_DTYPE_F32)) FAIL(s->inputs[0], "dtype", "x and y must both be s8 or both f32");
  if (y->dtype == EZ_DTYPE_S8 && y->place != EZ_IN_ARENA) FAIL(s->outputs[0], "place", "an s8 result must be in the arena");
  if (x->place != EZ_IN_ARENA && x->place != EZ_IN_WEIGHTS && (x->dtype == EZ_DTYPE_S8 || s->op == EZ_OP_DEPTHWISE))
    FAIL(s->inputs[0], "place", "kernels read past its end: x must be in the arena or the weights");
  ez_status status = check_ranges(check, &p);
  if (!status && x->dtype == EZ_DTYPE_S8) status = check_int8(check, &p);
  if (!status) status = check_grid(check, &p, x, y);
  return status;
}

static ez_status check_constant(ez_check *check, int which, int dtype, uint64_t bytes, const char *field) {
  const ez_tensor *t = operand(check, which);
  if (!t) FAIL(-1, field, "is missing");
  if (t->place != EZ_IN_WEIGHTS) FAIL(check->step->inputs[which], field, "must be in the weights section");
  if (t->dtype != dtype || t->bytes != bytes)
    FAIL(check->step->inputs[which], field, "expected dtype %d and %llu bytes, got dtype %d and %llu", dtype, (unsigned long long)bytes, t->dtype,
         (unsigned long long)t->bytes);
  const int32_t columns = t->rank ? t->dims[t->rank - 1] : 1;
  if (t->row_stride != columns) FAIL(check->step->inputs[which], field, "must be contiguous");
  return EZ_OK;
}

ez_status ez_check_conv_operands(ez_check *check, uint64_t weight_bytes, uint64_t padded) {
  const ez_step *s = check->step;
  const ez_tensor *x = operand(check, X), *y = &check->tensors[s->outputs[0]], *residual = operand(check, RESIDUAL);
  const int quantised = x->dtype == EZ_DTYPE_S8;
  ez_status status = check_constant(check, W, quantised ? EZ_DTYPE_U8 : EZ_DTYPE_F32, weight_bytes, "weights");
  if (!status) status = check_constant(check, BIAS, quantised ? EZ_DTYPE_S32 : EZ_DTYPE_F32, padded * 4, "bias");
  if (status) return status;
  if (!quantised) {
    if (operand(check, MULT) || residual || operand(check, TABLE)) FAIL(-1, "inputs", "a float convolution has no multipliers, residual or table");
    return EZ_OK;
  }
  status = check_constant(check, MULT, EZ_DTYPE_F32, padded * 4, "mult");
  if (!status && operand(check, TABLE)) status = check_constant(check, TABLE, EZ_DTYPE_U8, 256, "table");
  if (status || !residual) return status;
  if (residual->dtype != EZ_DTYPE_S8 || residual->rank != 4 || memcmp(residual->dims, y->dims, sizeof y->dims))
    FAIL(s->inputs[RESIDUAL], "residual", "must be s8 and of the output's shape");
  const ez_conv_params *p = (const ez_conv_params *)(const void *)s->params;
  if (p->out_h != y->dims[1] || p->out_w != y->dims[2]) FAIL(s->inputs[RESIDUAL], "residual", "needs a grid that covers the whole output");
  if (residual->place != EZ_IN_ARENA && residual->place != EZ_IN_WEIGHTS) FAIL(s->inputs[RESIDUAL], "residual", "must be in the arena or the weights");
  return EZ_OK;
}

int ez_conv_has_residual(const ez_step *step) { return step->n_inputs > RESIDUAL && step->inputs[RESIDUAL] >= 0; }
