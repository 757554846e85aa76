/* Running sums and products along one axis of (outer, n, inner), one addition after another. */
#include <string.h>

#include "ops/folded.h"

static ez_status check_cumulate(ez_check *check) {
  ez_cumulate_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind != EZ_FOLD_SUM && p.kind != EZ_FOLD_PRODUCT) return ez_check_fail(check, -1, "kind", "unknown operation %d", p.kind);
  if ((p.exclusive | p.reverse) & ~1) return ez_check_fail(check, -1, "exclusive", "expected 0 or 1, got %d, %d", p.exclusive, p.reverse);
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dtype = check->tensors[in].dtype;
  if (dtype != EZ_DTYPE_F32 && dtype != EZ_DTYPE_S32 && dtype != EZ_DTYPE_S64) return ez_check_fail(check, in, "dtype", "expected f32, s32 or s64, got %d", dtype);
  status = ez_check_dtype(check, out, dtype);
  return status ? status : ez_check_folded(check, in, out, p.outer, p.n, p.inner, p.n);
}

static void run_line(const ez_cumulate_params *p, const void *x, void *y, int dtype, int64_t first) {
  const int is_sum = p->kind == EZ_FOLD_SUM;
  uint64_t total = is_sum ? 0 : 1;
  float sum = is_sum ? 0.0f : 1.0f;
  for (int64_t r = 0; r < p->n; r++) {
    const int64_t at = first + (p->reverse ? p->n - 1 - r : r) * p->inner;
    if (dtype == EZ_DTYPE_F32) {
      const float value = ((const float *)x)[at], next = is_sum ? sum + value : sum * value;
      ((float *)y)[at] = p->exclusive ? sum : next;
      sum = next;
    } else {
      const uint64_t value = (uint64_t)ez_whole_at(x, at, dtype), next = is_sum ? total + value : total * value;
      ez_set_whole(y, at, dtype, p->exclusive ? total : next);
      total = next;
    }
  }
}

static void run_cumulate(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_cumulate_params *p = (const ez_cumulate_params *)(const void *)s->params;
  for (int64_t o = 0; o < p->outer; o++)
    for (int64_t i = 0; i < p->inner; i++)
      run_line(p, run->data[s->inputs[0]], run->data[s->outputs[0]], run->tensors[s->inputs[0]].dtype, o * p->n * p->inner + i);
}

const ez_op ez_op_cumulate = {"cumulate", check_cumulate, run_cumulate, NULL, sizeof(ez_cumulate_params)};
