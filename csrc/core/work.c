#include "core/work.h"

#define UNKNOWN_RATE 8.0  /* GMAC/s of a table that gives none: a small NEON core */
#define BYTES_PER_NS 4.0  /* elementwise steps, from the second-level cache */
#define WHOLE_WORK 1e12   /* larger products cannot be told apart, nor need be */

static double product(double a, double b) { return a * b > WHOLE_WORK ? WHOLE_WORK : a * b; }

static double pixels(const ez_tensor *y, const ez_conv_params *p) { return product(y->dims[0], product(p->out_h, p->out_w)); }

static double macs(const ez_step *step, const ez_tensor *tensors) {
  const ez_conv_params *p = (const ez_conv_params *)(const void *)step->params;
  const ez_attention_params *h = (const ez_attention_params *)(const void *)step->params;
  const ez_matmul_params *m = (const ez_matmul_params *)(const void *)step->params;
  const ez_recurrent_params *r = (const ez_recurrent_params *)(const void *)step->params;
  const ez_tensor *x = &tensors[step->inputs[0]], *y = &tensors[step->outputs[0]];
  switch (step->op) {
    case EZ_OP_CONV: return product(product(pixels(y, p), y->dims[3]), product(product(p->kernel_h, p->kernel_w), (double)x->dims[3] / p->groups));
    case EZ_OP_DEPTHWISE: return product(product(pixels(y, p), y->dims[3]), product(p->kernel_h, p->kernel_w));
    case EZ_OP_MATMUL: return product(product(product(m->outer, m->inner), m->M), product(m->N, m->K));
    case EZ_OP_RECURRENT: return product(product(x->dims[0], x->dims[1]), product(x->dims[2], r->hidden));
    case EZ_OP_ATTENTION: return product(product(product(h->outer, h->inner), h->M), product(h->N, (double)h->K + h->D));
    case EZ_OP_CODES: return product((double)x->bytes / 4, y->dims[y->rank ? y->rank - 1 : 0]);
    case EZ_OP_LINEAR: return product(product((double)x->bytes / (x->dtype == EZ_DTYPE_S8 ? 1 : 4), 1), y->dims[y->rank ? y->rank - 1 : 0]);
    default: return 0;
  }
}

/* GMAC/s of the kernel that will run it. */
static double rate(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  const int is_f32 = tensors[step->inputs[0]].dtype == EZ_DTYPE_F32 && step->op != EZ_OP_LINEAR && step->op != EZ_OP_CODES;
  const ez_isa *isa = step->op == EZ_OP_DEPTHWISE ? (is_f32 ? kernels->depthwise_f32 : kernels->depthwise_s8)
                                                   : (is_f32 ? kernels->gemm_f32 : kernels->gemm_s8);
  const ez_rates *rates = &isa->rates;
  const float known = step->op == EZ_OP_DEPTHWISE ? (is_f32 ? rates->depthwise_f32 : rates->depthwise_s8) : (is_f32 ? rates->gemm_f32 : rates->gemm_s8);
  return known > 0 ? (double)known : UNKNOWN_RATE;
}

static double bytes(const ez_step *step, const ez_tensor *tensors) {
  double sum = 0;
  for (int k = 0; k < step->n_inputs; k++)
    if (step->inputs[k] >= 0) sum += (double)tensors[step->inputs[k]].bytes;
  for (int k = 0; k < step->n_outputs; k++) sum += (double)tensors[step->outputs[k]].bytes;
  return sum;
}

double ez_step_work_us(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  const double products = macs(step, tensors) / rate(step, tensors, kernels), traffic = bytes(step, tensors) / BYTES_PER_NS;
  return (products > traffic ? products : traffic) / 1e3;
}

int32_t ez_step_threads(double work_us, double solo_us, int32_t most) {
  if (work_us < solo_us) return 1;
  const double each = solo_us / 2, worth = each > 0 ? work_us / each : most;
  return worth < most ? (int32_t)worth : most;
}
