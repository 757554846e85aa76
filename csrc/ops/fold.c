/* Sums, products and extremes of whole numbers, and products of floats: (outer, n, inner) -> (outer, inner), n ascending. */
#include <string.h>

#include "ops/folded.h"

static ez_status check_fold(ez_check *check) {
  ez_fold_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_FOLD_SUM || p.kind > EZ_FOLD_MIN) return ez_check_fail(check, -1, "kind", "unknown reduction %d", p.kind);
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dtype = check->tensors[in].dtype;
  const int fits = dtype == EZ_DTYPE_F32 ? p.kind == EZ_FOLD_PRODUCT : dtype == EZ_DTYPE_BOOL ? p.kind >= EZ_FOLD_MAX : dtype != EZ_DTYPE_S8;
  if (!fits) return ez_check_fail(check, in, "dtype", "%d does not go with kind %d", dtype, p.kind);
  status = ez_check_dtype(check, out, dtype);
  return status ? status : ez_check_folded(check, in, out, p.outer, p.n, p.inner, 1);
}

static uint64_t join(int32_t kind, uint64_t total, int64_t value) {
  switch (kind) {
    case EZ_FOLD_SUM: return total + (uint64_t)value;
    case EZ_FOLD_PRODUCT: return total * (uint64_t)value;
    case EZ_FOLD_MAX: return (int64_t)total > value ? total : (uint64_t)value;
    default: return (int64_t)total < value ? total : (uint64_t)value;
  }
}

static void run_fold(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_fold_params *p = (const ez_fold_params *)(const void *)s->params;
  const void *x = run->data[s->inputs[0]];
  void *y = run->data[s->outputs[0]];
  const int dtype = run->tensors[s->inputs[0]].dtype;
  for (int64_t o = 0; o < p->outer; o++)
    for (int64_t i = 0; i < p->inner; i++) {
      const int64_t first = o * p->n * p->inner + i, to = o * p->inner + i;
      if (dtype == EZ_DTYPE_F32) {
        float product = ((const float *)x)[first];
        for (int64_t r = 1; r < p->n; r++) product *= ((const float *)x)[first + r * p->inner];
        ((float *)y)[to] = product;
        continue;
      }
      uint64_t total = (uint64_t)ez_whole_at(x, first, dtype);
      for (int64_t r = 1; r < p->n; r++) total = join(p->kind, total, ez_whole_at(x, first + r * p->inner, dtype));
      ez_set_whole(y, to, dtype, total);
    }
}

const ez_op ez_op_fold = {"fold", check_fold, run_fold, NULL, sizeof(ez_fold_params)};
