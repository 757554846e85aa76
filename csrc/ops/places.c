/* Where a condition holds: the places in ascending order, or their indices, and how many; entries beyond the count are 0. */
#include <string.h>

#include "ops/operands.h"

static ez_status check_places(ez_check *check) {
  ez_places_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.rank < 0 || p.rank > EZ_MAX_RANK) return ez_check_fail(check, -1, "rank", "expected 0 to %d, got %d", EZ_MAX_RANK, p.rank);
  int64_t elements = 1;
  for (int32_t axis = 0; axis < p.rank; axis++) {
    if (p.dims[axis] < 1 || (elements *= p.dims[axis]) > INT32_MAX) return ez_check_fail(check, -1, "dims", "out of range: %d", p.dims[axis]);
  }
  if (p.rank && elements != p.n) return ez_check_fail(check, -1, "dims", "expected a product of %d", p.n);
  if (p.n < 1) return ez_check_fail(check, -1, "n", "must be positive, got %d", p.n);
  if (s->n_inputs != 1 || s->inputs[0] < 0 || s->n_outputs != 2) return ez_check_fail(check, -1, "n_outputs", "expected one input and two outputs");
  ez_status status = ez_check_dtype(check, s->inputs[0], EZ_DTYPE_BOOL);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_dtype(check, s->outputs[i], EZ_DTYPE_S64);
  if (!status) status = ez_check_elements(check, s->inputs[0], p.n);
  if (!status) status = ez_check_elements(check, s->outputs[0], (int64_t)p.n * (p.rank ? p.rank : 1));
  if (!status) status = ez_check_elements(check, s->outputs[1], 1);
  return status;
}

/* Indices instead of places, in the rows of `y`, the last axis first: its row holds the places. */
static void unravel(const ez_places_params *p, int64_t *y, int64_t count) {
  for (int32_t axis = p->rank - 1; axis > 0; axis--) {
    int64_t *row = y + (size_t)axis * (size_t)p->n, *before = row - p->n;
    for (int64_t i = 0; i < count; i++) {
      before[i] = row[i] / p->dims[axis];
      row[i] -= before[i] * p->dims[axis];
    }
    memset(before + count, 0, (size_t)(p->n - count) * sizeof *before);
  }
}

static void run_places(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_places_params *p = (const ez_places_params *)(const void *)s->params;
  const uint8_t *holds = run->data[s->inputs[0]];
  int64_t *indices = (int64_t *)(void *)run->data[s->outputs[0]], count = 0;
  int64_t *y = indices + (p->rank ? (size_t)(p->rank - 1) * (size_t)p->n : 0);
  for (int32_t i = 0; i < p->n; i++)
    if (holds[i]) y[count++] = i;
  *(int64_t *)(void *)run->data[s->outputs[1]] = count;
  memset(y + count, 0, (size_t)(p->n - count) * sizeof *y);
  unravel(p, indices, count);
}

const ez_op ez_op_places = {"places", check_places, run_places, NULL, sizeof(ez_places_params)};
