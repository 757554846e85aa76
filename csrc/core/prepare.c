#include "core/prepare.h"

#include "core/conv_spans.h"
#include "core/winograd_driver.h"

static size_t up64(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* A product as prepare_gemm_s8 sees it. */
typedef struct product {
  ez_span_shape spans;
  int32_t panels;
  size_t panel_bytes;
} product;

static product product_of_conv(const ez_step *step, const ez_tensor *tensors, uint32_t layout) {
  const ez_conv_params *p = (const ez_conv_params *)(const void *)step->params;
  const ez_tensor *x = &tensors[step->inputs[0]], *y = &tensors[step->outputs[0]];
  const int32_t outputs = y->dims[3] / p->groups;
  return (product){ez_span_plan_of(p, x, layout).shape, p->groups * ((outputs + 15) / 16), ez_packed_panel_bytes(p, x, layout)};
}

static int32_t columns_of(const ez_tensor *t) { return t->rank ? t->dims[t->rank - 1] : 1; }

static product product_of_linear(const ez_step *step, const ez_tensor *tensors, uint32_t layout) {
  const int32_t k = columns_of(&tensors[step->inputs[0]]), step_k = layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  const size_t padded = (size_t)((k + step_k - 1) / step_k * step_k);
  return (product){{1, k}, (columns_of(&tensors[step->outputs[0]]) + 15) / 16, padded * 16};
}

static product product_of(const ez_step *step, const ez_tensor *tensors, uint32_t layout) {
  return step->op == EZ_OP_LINEAR ? product_of_linear(step, tensors, layout) : product_of_conv(step, tensors, layout);
}

static double rows_of(const ez_step *step, const ez_tensor *tensors) {
  const ez_tensor *y = &tensors[step->outputs[0]];
  double rows = 1;
  for (int32_t d = 0; d + 1 < y->rank; d++) rows *= y->dims[d];
  if (step->op == EZ_OP_LINEAR) return rows;
  const ez_conv_params *p = (const ez_conv_params *)(const void *)step->params;
  return (double)p->out_h * p->out_w * y->dims[0];
}

size_t ez_prepared_room(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  const int is_int8_conv = step->op == EZ_OP_CONV && tensors[step->inputs[0]].dtype == EZ_DTYPE_S8;
  if (!kernels->gemm_s8->prepared_room || !(is_int8_conv || step->op == EZ_OP_LINEAR)) return 0;
  if (ez_winograd_serves(step, tensors, kernels)) return 0;
  const double most = rows_of(step, tensors);
  const product product = product_of(step, tensors, kernels->layout);
  const int32_t rows = most < EZ_ROW_BLOCK ? (int32_t)most : EZ_ROW_BLOCK;
  return up64(kernels->gemm_s8->prepared_room(product.panels, product.spans.count, product.spans.elements, rows));
}

size_t ez_prepare(const ez_run *run, uint8_t *out) {
  const ez_isa *isa = run->kernels->gemm_s8;
  const product p = product_of(run->step, run->tensors, run->kernels->layout);
  const int8_t *w = (const int8_t *)run->data[run->step->inputs[1]];
  return up64(isa->prepare_gemm_s8(w, p.panel_bytes, p.panels, p.spans.count, p.spans.elements, out));
}
