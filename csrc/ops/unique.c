/* The different slices of an axis: where each stands first, which one each slice is, how often each occurs, and how many there are.
 * Slices are compared element by element; NaN is equal to NaN and behind all numbers. A heap sort: n log n comparisons. */
#include <math.h>
#include <string.h>

#include "ops/folded.h"

static ez_status check_unique(ez_check *check) {
  ez_unique_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.sorted & ~1) return ez_check_fail(check, -1, "sorted", "expected 0 or 1, got %d", p.sorted);
  if (s->n_inputs != 1 || s->inputs[0] < 0 || s->n_outputs != 4) return ez_check_fail(check, -1, "n_outputs", "expected one input and four outputs");
  if (check->tensors[s->inputs[0]].dtype == EZ_DTYPE_S8) return ez_check_fail(check, s->inputs[0], "dtype", "s8 has no order here");
  ez_status status = ez_check_folded(check, s->inputs[0], s->inputs[0], p.outer, p.n, p.inner, p.n);
  for (int i = 0; i < 4 && !status; i++) {
    status = ez_check_dtype(check, s->outputs[i], EZ_DTYPE_S64);
    if (!status) status = ez_check_elements(check, s->outputs[i], i < 3 ? p.n : 1);
  }
  check->scratch_needed = (uint64_t)(p.n < 1 ? 0 : p.n) * sizeof(int32_t);
  return status;
}

typedef struct slices {
  const void *x;
  int64_t outer, n, inner;
  int dtype;
} slices;

/* -1, 0 or 1 */
static int compare_at(const slices *s, int64_t i, int64_t j) {
  if (s->dtype == EZ_DTYPE_F32) {
    const float u = ((const float *)s->x)[i], v = ((const float *)s->x)[j];
    if (isnan(u) || isnan(v)) return !!isnan(u) - !!isnan(v);
    return (u > v) - (u < v);
  }
  const int64_t u = ez_whole_at(s->x, i, s->dtype), v = ez_whole_at(s->x, j, s->dtype);
  return (u > v) - (u < v);
}

static int compare(const slices *s, int32_t a, int32_t b) {
  for (int64_t o = 0; o < s->outer; o++)
    for (int64_t i = 0; i < s->inner; i++) {
      const int found = compare_at(s, (o * s->n + a) * s->inner + i, (o * s->n + b) * s->inner + i);
      if (found) return found;
    }
  return 0;
}

/* Whether slice a stands before slice b: of equal ones the lower index. */
static int is_before(const slices *s, int32_t a, int32_t b) {
  const int found = compare(s, a, b);
  return found ? found < 0 : a < b;
}

static void sink(const slices *s, int32_t *heap, int64_t count, int64_t i) {
  for (;;) {
    int64_t child = 2 * i + 1;
    if (child >= count) return;
    if (child + 1 < count && is_before(s, heap[child], heap[child + 1])) child++;
    if (is_before(s, heap[child], heap[i])) return;
    const int32_t held = heap[i];
    heap[i] = heap[child];
    heap[child] = held;
    i = child;
  }
}

static void sort(const slices *s, int32_t *order) {
  for (int64_t i = 0; i < s->n; i++) order[i] = (int32_t)i;
  for (int64_t i = s->n / 2 - 1; i >= 0; i--) sink(s, order, s->n, i);
  for (int64_t end = s->n - 1; end > 0; end--) {
    const int32_t held = order[0];
    order[0] = order[end];
    order[end] = held;
    sink(s, order, end, 0);
  }
}

/* Numbers the groups by their first slices; inverse[i] holds the first slice that equals slice i. */
static int64_t by_occurrence(int64_t n, int32_t *number, int64_t *first, int64_t *inverse, int64_t *counts) {
  int64_t groups = 0;
  for (int64_t i = 0; i < n; i++) {
    if (inverse[i] == i) {
      number[i] = (int32_t)groups;
      first[groups] = i;
      counts[groups++] = 0;
    }
    inverse[i] = number[inverse[i]];
    counts[inverse[i]]++;
  }
  return groups;
}

static void run_unique(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_unique_params *p = (const ez_unique_params *)(const void *)s->params;
  const slices held = {run->data[s->inputs[0]], p->outer, p->n, p->inner, run->tensors[s->inputs[0]].dtype};
  int64_t *first = (int64_t *)(void *)run->data[s->outputs[0]], *inverse = (int64_t *)(void *)run->data[s->outputs[1]];
  int64_t *counts = (int64_t *)(void *)run->data[s->outputs[2]], groups = 0;
  int32_t *order = (int32_t *)(void *)run->scratch;
  sort(&held, order);
  for (int64_t k = 0, start = 0; k < held.n; k++) {
    const int is_new = !k || compare(&held, order[k - 1], order[k]);
    if (is_new) start = k;
    if (!p->sorted) {
      inverse[order[k]] = order[start];
      continue;
    }
    if (is_new) {
      first[groups] = order[k];
      counts[groups++] = 0;
    }
    inverse[order[k]] = groups - 1;
    counts[groups - 1]++;
  }
  if (!p->sorted) groups = by_occurrence(held.n, order, first, inverse, counts);
  for (int64_t g = groups; g < held.n; g++) first[g] = counts[g] = 0;
  *(int64_t *)(void *)run->data[s->outputs[3]] = groups;
}

const ez_op ez_op_unique = {"unique", check_unique, run_unique, NULL, sizeof(ez_unique_params)};
