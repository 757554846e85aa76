/* x with the elements that an index tensor names replaced, or joined with others; in order, so a later row wins. */
#include "ops/folded.h"
#include "ops/indexed.h"

static ez_status check_scatter(ez_check *check) {
  ez_indexed_params p;
  memcpy(&p, check->step->params, sizeof p);
  ez_status status = ez_check_operands(check, 3, 3);
  const ez_step *s = check->step;
  if (status) return status;
  const ez_tensor *x = ez_input_of(check, 0);
  if (p.reduction < EZ_SCATTER_SET || p.reduction > EZ_SCATTER_MAX) return ez_check_fail(check, -1, "reduction", "unknown reduction %d", p.reduction);
  if (p.reduction && (x->dtype == EZ_DTYPE_S8 || x->dtype == EZ_DTYPE_BOOL)) return ez_check_fail(check, s->inputs[0], "dtype", "%d cannot be reduced", x->dtype);
  status = ez_check_dtype(check, s->outputs[0], x->dtype);
  if (!status) status = ez_check_dtype(check, s->inputs[2], x->dtype);
  if (!status) status = ez_check_elements(check, s->outputs[0], ez_rows_of(x) * ez_columns_of(x));
  if (!status) status = ez_check_stored(check, s->outputs[0]);
  if (!status) status = ez_check_indexed(check, s->inputs[0], s->inputs[1], s->inputs[2]);
  if (!status && x->dtype == EZ_DTYPE_S8) status = ez_check_same_scale(check, s->inputs[0]);
  if (!status && x->dtype == EZ_DTYPE_S8) status = ez_check_same_scale(check, s->inputs[2]);
  return status;
}

static float join_floats(int32_t reduction, float a, float b) {
  switch (reduction) {
    case EZ_SCATTER_ADD: return a + b;
    case EZ_SCATTER_MUL: return a * b;
    case EZ_SCATTER_MIN: return a < b ? a : b;
    default: return a > b ? a : b;
  }
}

static uint64_t join_whole(int32_t reduction, int64_t a, int64_t b) {
  switch (reduction) {
    case EZ_SCATTER_ADD: return (uint64_t)a + (uint64_t)b;
    case EZ_SCATTER_MUL: return (uint64_t)a * (uint64_t)b;
    case EZ_SCATTER_MIN: return (uint64_t)(a < b ? a : b);
    default: return (uint64_t)(a > b ? a : b);
  }
}

static void run_scatter(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_indexed_params *p = (const ez_indexed_params *)(const void *)s->params;
  const ez_tensor *out = &run->tensors[s->outputs[0]];
  const size_t element = ez_element_bytes(out->dtype);
  const uint8_t *updates = run->data[s->inputs[2]];
  uint8_t *y = run->data[s->outputs[0]];
  memcpy(y, run->data[s->inputs[0]], (size_t)out->bytes);
  for (int64_t row = 0; row < p->rows; row++) {
    const int64_t at = ez_address(p, run->data[s->inputs[1]], run->tensors[s->inputs[1]].dtype, row), from = row * p->inner;
    if (p->reduction == EZ_SCATTER_SET) memcpy(y + (size_t)at * element, updates + (size_t)from * element, element * (size_t)p->inner);
    else if (out->dtype == EZ_DTYPE_F32)
      for (int64_t i = 0; i < p->inner; i++) {
        float *target = (float *)(void *)y + at + i;
        *target = join_floats(p->reduction, *target, ((const float *)(const void *)updates)[from + i]);
      }
    else
      for (int64_t i = 0; i < p->inner; i++)
        ez_set_whole(y, at + i, out->dtype, join_whole(p->reduction, ez_whole_at(y, at + i, out->dtype), ez_whole_at(updates, from + i, out->dtype)));
  }
}

const ez_op ez_op_scatter = {"scatter", check_scatter, run_scatter, NULL, sizeof(ez_indexed_params)};
