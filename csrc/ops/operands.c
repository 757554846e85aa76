#include "ops/operands.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/blocks.h"

#define FAIL(tensor, field, ...) return ez_check_fail(check, tensor, field, __VA_ARGS__)
#define MOST_ELEMENTS ((int64_t)1 << 40)

ez_status ez_check_fail(ez_check *check, int32_t tensor, const char *field, const char *format, ...) {
  ez_error *error = check->error;
  va_list arguments;
  if (!error) return EZ_BAD_PROGRAM;
  *error = (ez_error){.status = EZ_BAD_PROGRAM, .step = check->step_index, .tensor = tensor};
  snprintf(error->field, sizeof error->field, "%s", field);
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return EZ_BAD_PROGRAM;
}

const ez_tensor *ez_input_of(const ez_check *check, int which) {
  const ez_step *s = check->step;
  return which < s->n_inputs && s->inputs[which] >= 0 ? &check->tensors[s->inputs[which]] : NULL;
}

const ez_tensor *ez_output_of(const ez_check *check) { return &check->tensors[check->step->outputs[0]]; }

size_t ez_element_bytes(int dtype) {
  switch (dtype) {
    case EZ_DTYPE_F32:
    case EZ_DTYPE_S32: return 4;
    case EZ_DTYPE_S64: return 8;
    default: return 1;
  }
}

int64_t ez_extent(const ez_tensor *tensor) { return (int64_t)(tensor->bytes / ez_element_bytes(tensor->dtype)); }

int64_t ez_rows_of(const ez_tensor *tensor) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < tensor->rank; i++) rows *= tensor->dims[i];
  return rows;
}

int32_t ez_columns_of(const ez_tensor *tensor) { return tensor->rank ? tensor->dims[tensor->rank - 1] : 1; }

uint32_t ez_sign_of(const ez_tensor *tensor, uint32_t act_sign) {
  return tensor->dtype == EZ_DTYPE_S8 && (tensor->place == EZ_IN_ARENA || tensor->place == EZ_IN_WEIGHTS) ? act_sign : 0;
}

ez_status ez_check_operands(ez_check *check, int required, int allowed) {
  const ez_step *s = check->step;
  if (s->n_outputs != 1) FAIL(-1, "n_outputs", "expected 1, got %d", s->n_outputs);
  if (s->n_inputs < required || s->n_inputs > allowed) FAIL(-1, "n_inputs", "expected %d to %d, got %d", required, allowed, s->n_inputs);
  for (int i = 0; i < required; i++)
    if (s->inputs[i] < 0) FAIL(-1, "inputs", "input %d is missing", i);
  return EZ_OK;
}

ez_status ez_check_dtype(ez_check *check, int32_t tensor, int dtype) {
  if (check->tensors[tensor].dtype != dtype) FAIL(tensor, "dtype", "expected %d, got %d", dtype, check->tensors[tensor].dtype);
  return EZ_OK;
}

ez_status ez_check_contiguous(ez_check *check, int32_t tensor) {
  const ez_tensor *t = &check->tensors[tensor];
  if (ez_rows_of(t) > 1 && t->row_stride != ez_columns_of(t)) FAIL(tensor, "row_stride", "expected %d (contiguous), got %d", ez_columns_of(t), t->row_stride);
  return EZ_OK;
}

ez_status ez_check_stored(ez_check *check, int32_t tensor) {
  const ez_tensor *t = &check->tensors[tensor];
  if (t->dtype == EZ_DTYPE_S8 && t->place != EZ_IN_ARENA && t->place != EZ_IN_WEIGHTS)
    FAIL(tensor, "place", "expected the arena or the weights for s8, got place %d", t->place);
  return EZ_OK;
}

ez_status ez_check_elements(ez_check *check, int32_t tensor, int64_t elements) {
  const ez_tensor *t = &check->tensors[tensor];
  const int64_t held = ez_rows_of(t) * ez_columns_of(t);
  if (held != elements) FAIL(tensor, "dims", "expected %" PRId64 " elements, got %" PRId64, elements, held);
  return ez_check_contiguous(check, tensor);
}

ez_status ez_check_constant(ez_check *check, int which, int dtype, int64_t elements) {
  const int32_t tensor = check->step->inputs[which];
  const ez_tensor *t = &check->tensors[tensor];
  if (t->place != EZ_IN_WEIGHTS) FAIL(tensor, "place", "expected the weights section, got place %d", t->place);
  return ez_check_table(check, which, dtype, elements);
}

ez_status ez_check_table(ez_check *check, int which, int dtype, int64_t elements) {
  const int32_t tensor = check->step->inputs[which];
  const ez_tensor *t = &check->tensors[tensor];
  if (t->place != EZ_IN_WEIGHTS && t->place != EZ_IN_ARENA) FAIL(tensor, "place", "expected the weights section or the arena, got place %d", t->place);
  const ez_status status = ez_check_dtype(check, tensor, dtype);
  return status ? status : ez_check_elements(check, tensor, elements);
}

ez_status ez_check_weights(ez_check *check, int which, uint64_t panels, uint64_t steps) {
  const uint64_t step_bytes = check->header->layout == EZ_LAYOUT_K8N16 ? 128 : 64;
  if (check->tensors[check->step->inputs[which]].form == EZ_FORM_BLOCKS) return ez_check_blocks(check, which, panels, steps);
  return ez_check_constant(check, which, EZ_DTYPE_U8, (int64_t)(panels * steps * step_bytes));
}

ez_status ez_check_elementwise(ez_check *check) {
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const ez_tensor *x = &check->tensors[in], *y = &check->tensors[out];
  ez_status status = ez_check_dtype(check, out, x->dtype);
  if (!status) status = ez_check_contiguous(check, in);
  if (!status) status = ez_check_elements(check, out, ez_rows_of(x) * ez_columns_of(x));
  if (!status) status = ez_check_stored(check, in);
  if (!status) status = ez_check_stored(check, out);
  if (!status && ez_columns_of(x) != ez_columns_of(y)) FAIL(out, "dims", "expected %d in the last axis, got %d", ez_columns_of(x), ez_columns_of(y));
  return status;
}

ez_status ez_check_requantize(ez_check *check, float scale, int32_t lo, int32_t hi) {
  if (!isfinite(scale) || scale <= 0) FAIL(-1, "scale", "expected a positive number, got %g", (double)scale);
  if (lo < -128 || hi > 127 || lo > hi) FAIL(-1, "lo", "expected a range inside [-128, 127], got [%d, %d]", lo, hi);
  return EZ_OK;
}

ez_status ez_check_same_scale(ez_check *check, int32_t tensor) {
  const ez_tensor *t = &check->tensors[tensor], *y = ez_output_of(check);
  if (t->scale != y->scale || t->zero_point != y->zero_point)
    FAIL(tensor, "scale", "expected that of the output (%g, %d), got (%g, %d)", (double)y->scale, y->zero_point, (double)t->scale, t->zero_point);
  return EZ_OK;
}

/* What lies between the rows of a view belongs to other tensors, perhaps to an operand of this very step. Axes that go from row to
 * row aside, the walk must stay among the columns of a row. */
static ez_status check_rows(ez_check *check, int32_t tensor, const char *field, int32_t rank, const int32_t *dims, const int32_t *strides, int64_t offset) {
  const ez_tensor *t = &check->tensors[tensor];
  if (ez_rows_of(t) == 1 || t->row_stride == ez_columns_of(t)) return EZ_OK;
  int64_t first = offset % t->row_stride, last = first;
  for (int32_t i = 0; i < rank; i++) {
    if (strides[i] % t->row_stride == 0) continue;
    const int64_t reach = (int64_t)(dims[i] - 1) * strides[i];
    if (reach < 0) first += reach;
    else last += reach;
  }
  if (first < 0 || last >= ez_columns_of(t)) FAIL(tensor, field, "columns %" PRId64 " to %" PRId64 " leave the rows of the view (%d)", first, last, ez_columns_of(t));
  return EZ_OK;
}

ez_status ez_check_walk(ez_check *check, int32_t tensor, const char *field, int32_t rank, const int32_t *dims, const int32_t *strides, int64_t offset) {
  if (rank < 1 || rank > EZ_MAX_RANK) FAIL(-1, "rank", "expected 1 to %d, got %d", EZ_MAX_RANK, rank);
  if (offset < 0 || offset > MOST_ELEMENTS) FAIL(tensor, field, "offset %" PRId64 " is out of range", offset);
  int64_t lowest = offset, highest = offset;
  for (int32_t i = 0; i < rank; i++) {
    if (dims[i] < 1) FAIL(-1, "dims", "axis %d has size %d", i, dims[i]);
    const int64_t reach = (int64_t)(dims[i] - 1) * strides[i];
    if (reach > MOST_ELEMENTS || reach < -MOST_ELEMENTS) FAIL(tensor, field, "axis %d reaches %" PRId64 " elements", i, reach);
    if (reach < 0) lowest += reach;
    else highest += reach;
  }
  if (lowest < 0 || highest >= ez_extent(&check->tensors[tensor]))
    FAIL(tensor, field, "elements %" PRId64 " to %" PRId64 " leave the tensor (%" PRId64 ")", lowest, highest, ez_extent(&check->tensors[tensor]));
  return check_rows(check, tensor, field, rank, dims, strides, offset);
}

ez_status ez_check_walk_output(ez_check *check, int32_t rank, const int32_t *dims, const int32_t *strides, int64_t offset) {
  const int32_t out = check->step->outputs[0];
  const ez_status status = ez_check_walk(check, out, "stride_y", rank, dims, strides, offset);
  if (status) return status;
  uint32_t taken = 0;
  int64_t covered = 1; /* elements that the axes so far reach over, the nearest first */
  for (int32_t round = 0; round < rank; round++) {
    int32_t nearest = -1;
    for (int32_t i = 0; i < rank; i++)
      if (!(taken >> i & 1u) && (nearest < 0 || strides[i] < strides[nearest])) nearest = i;
    taken |= 1u << nearest;
    if (dims[nearest] == 1) continue;
    if (strides[nearest] < covered) FAIL(out, "stride_y", "axis %d (stride %d) writes elements twice", nearest, strides[nearest]);
    covered += (int64_t)(dims[nearest] - 1) * strides[nearest];
  }
  return EZ_OK;
}

int32_t ez_pieces(const ez_run *run, int64_t total, int64_t least) {
  const int64_t threads = ez_pool_threads(run->pool), most = total / (least > 0 ? least : 1);
  const int64_t pieces = most < threads ? most : threads;
  return pieces > 1 ? (int32_t)pieces : 1;
}
