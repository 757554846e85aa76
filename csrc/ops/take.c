/* Elements, or runs of them, that an index tensor names one by one. */
#include "ops/indexed.h"

static ez_status check_take(ez_check *check) {
  ez_status status = ez_check_operands(check, 2, 2);
  const ez_step *s = check->step;
  if (!status) status = ez_check_dtype(check, s->outputs[0], ez_input_of(check, 0)->dtype);
  if (!status) status = ez_check_indexed(check, s->inputs[0], s->inputs[1], s->outputs[0]);
  if (!status && ez_output_of(check)->dtype == EZ_DTYPE_S8) status = ez_check_same_scale(check, s->inputs[0]);
  return status;
}

static void run_take(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_indexed_params *p = (const ez_indexed_params *)(const void *)s->params;
  const size_t element = ez_element_bytes(run->tensors[s->outputs[0]].dtype), bytes = element * (size_t)p->inner;
  const int dtype = run->tensors[s->inputs[1]].dtype;
  for (int64_t row = 0; row < p->rows; row++)
    memcpy(run->data[s->outputs[0]] + (size_t)row * bytes, run->data[s->inputs[0]] + (size_t)ez_address(p, run->data[s->inputs[1]], dtype, row) * element, bytes);
}

const ez_op ez_op_take = {"take", check_take, run_take, NULL, sizeof(ez_indexed_params)};
