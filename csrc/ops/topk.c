/* The k largest or smallest of an axis, best first; of equal ones the lower index first. NaN counts as the largest number.
 * A heap of the k best so far: n log k comparisons. */
#include <math.h>
#include <string.h>

#include "ops/folded.h"

static ez_status check_topk(ez_check *check) {
  ez_topk_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.k < 1 || p.k > p.n) return ez_check_fail(check, -1, "k", "expected 1 to %d, got %d", p.n, p.k);
  if (p.largest & ~1) return ez_check_fail(check, -1, "largest", "expected 0 or 1, got %d", p.largest);
  if (s->n_inputs != 1 || s->inputs[0] < 0 || s->n_outputs != 2) return ez_check_fail(check, -1, "n_outputs", "expected one input and two outputs");
  const int dtype = check->tensors[s->inputs[0]].dtype;
  if (dtype == EZ_DTYPE_S8 || dtype == EZ_DTYPE_BOOL) return ez_check_fail(check, s->inputs[0], "dtype", "%d has no order here", dtype);
  ez_status status = ez_check_dtype(check, s->outputs[0], dtype);
  if (!status) status = ez_check_dtype(check, s->outputs[1], EZ_DTYPE_S64);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_folded(check, s->inputs[0], s->outputs[i], p.outer, p.n, p.inner, p.k);
  check->scratch_needed = (uint64_t)p.k * sizeof(int32_t);
  return status;
}

typedef struct line {
  const void *x;
  int64_t first, inner;
  int dtype, largest;
} line;

/* Whether element a of the line stands before element b. */
static int is_before(const line *l, int32_t a, int32_t b) {
  const int64_t i = l->first + a * l->inner, j = l->first + b * l->inner;
  int less, more;
  if (l->dtype == EZ_DTYPE_F32) {
    const float u = ((const float *)l->x)[i], v = ((const float *)l->x)[j];
    more = u > v || (isnan(u) && !isnan(v));
    less = v > u || (isnan(v) && !isnan(u));
  } else {
    const int64_t u = ez_whole_at(l->x, i, l->dtype), v = ez_whole_at(l->x, j, l->dtype);
    more = u > v;
    less = u < v;
  }
  return more != less ? (l->largest ? more : less) : a < b;
}

/* heap[0] is the worst kept; children of i at 2i + 1 and 2i + 2. */
static void sink(const line *l, int32_t *heap, int32_t count, int32_t i) {
  for (;;) {
    const int64_t child = 2 * (int64_t)i + 1;
    if (child >= count) return;
    int32_t worst = (int32_t)child;
    if (child + 1 < count && is_before(l, heap[child], heap[child + 1])) worst = (int32_t)child + 1;
    if (!is_before(l, heap[i], heap[worst])) return;
    const int32_t held = heap[i];
    heap[i] = heap[worst];
    heap[worst] = held;
    i = worst;
  }
}

static void best_of(const line *l, int32_t n, int32_t k, int32_t *heap) {
  for (int32_t i = 0; i < k; i++) heap[i] = i;
  for (int32_t i = k / 2 - 1; i >= 0; i--) sink(l, heap, k, i);
  for (int32_t i = k; i < n; i++)
    if (is_before(l, i, heap[0])) {
      heap[0] = i;
      sink(l, heap, k, 0);
    }
  for (int32_t left = k - 1; left > 0; left--) { /* the worst goes to the end */
    const int32_t held = heap[0];
    heap[0] = heap[left];
    heap[left] = held;
    sink(l, heap, left, 0);
  }
}

typedef struct job {
  const ez_run *run;
  const ez_topk_params *p;
  int dtype;
  int32_t pieces;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  const job *j = context;
  const ez_topk_params *p = j->p;
  const ez_step *s = j->run->step;
  int32_t *heap = (int32_t *)(void *)(j->run->scratch + (size_t)thread * j->run->scratch_bytes);
  const size_t element = ez_element_bytes(j->dtype);
  const int64_t lines = (int64_t)p->outer * p->inner;
  for (int64_t at = ez_piece_start(lines, j->pieces, piece); at < ez_piece_start(lines, j->pieces, piece + 1); at++) {
    const int64_t o = at / p->inner, i = at % p->inner;
    const line l = {j->run->data[s->inputs[0]], o * p->n * p->inner + i, p->inner, j->dtype, p->largest};
    best_of(&l, p->n, p->k, heap);
    for (int64_t r = 0; r < p->k; r++) {
      const int64_t to = (o * p->k + r) * p->inner + i;
      memcpy(j->run->data[s->outputs[0]] + (size_t)to * element, (const uint8_t *)l.x + (size_t)(l.first + heap[r] * p->inner) * element, element);
      ((int64_t *)(void *)j->run->data[s->outputs[1]])[to] = heap[r];
    }
  }
}

static void run_topk(const ez_run *run) {
  job j = {.run = run, .p = (const ez_topk_params *)(const void *)run->step->params, .dtype = run->tensors[run->step->inputs[0]].dtype};
  const int64_t lines = (int64_t)j.p->outer * j.p->inner;
  j.pieces = ez_pieces(run, lines * j.p->n, 1 << 12);
  if (j.pieces > lines) j.pieces = (int32_t)lines;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_topk = {"topk", check_topk, run_topk, NULL, sizeof(ez_topk_params)};
