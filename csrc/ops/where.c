/* condition ? a : b, with broadcasting; moves elements of any size unchanged. */
#include <string.h>

#include "ops/operands.h"

static ez_status check_where(ez_check *check) {
  ez_where_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  ez_status status = ez_check_operands(check, 3, 3);
  if (!status) status = ez_check_dtype(check, s->inputs[0], EZ_DTYPE_BOOL);
  const int dtype = ez_output_of(check)->dtype;
  for (int i = 1; i < 3 && !status; i++) {
    status = ez_check_dtype(check, s->inputs[i], dtype);
    if (!status) status = ez_check_stored(check, s->inputs[i]);
    if (!status && dtype == EZ_DTYPE_S8) status = ez_check_same_scale(check, s->inputs[i]);
  }
  if (!status) status = ez_check_stored(check, s->outputs[0]);
  if (!status) status = ez_check_walk(check, s->inputs[0], "stride_c", p.rank, p.dims, p.stride_c, 0);
  if (!status) status = ez_check_walk(check, s->inputs[1], "stride_a", p.rank, p.dims, p.stride_a, 0);
  if (!status) status = ez_check_walk(check, s->inputs[2], "stride_b", p.rank, p.dims, p.stride_b, 0);
  if (!status) status = ez_check_walk_output(check, p.rank, p.dims, p.stride_y, 0);
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_where_params *p;
  size_t bytes;
  int32_t pieces;
} job;

#define ROW(type)                                                                                            \
  do {                                                                                                       \
    const type *ta = (const type *)(const void *)a, *tb = (const type *)(const void *)b;                     \
    type *ty = (type *)(void *)y;                                                                            \
    for (int64_t i = 0; i < n; i++) ty[i * sy] = c[i * sc] ? ta[i * sa] : tb[i * sb];                        \
  } while (0)

static void run_row(const job *j, const uint8_t *c, const uint8_t *a, const uint8_t *b, uint8_t *y) {
  const int32_t last = j->p->rank - 1;
  const int64_t n = j->p->dims[last], sc = j->p->stride_c[last], sa = j->p->stride_a[last], sb = j->p->stride_b[last], sy = j->p->stride_y[last];
  if (j->bytes == 1) ROW(ez_word8);
  else if (j->bytes == 4) ROW(ez_word32);
  else ROW(ez_word64);
}

/* One index of the first axis an item when there are several axes. */
static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_where_params *p = j->p;
  const ez_step *s = j->run->step;
  const int32_t last = p->rank - 1, split = last > 0;
  int32_t index[EZ_MAX_RANK] = {0};
  const int32_t first = split ? (int32_t)ez_piece_start(p->dims[0], j->pieces, piece) : 0;
  const int32_t end = split ? (int32_t)ez_piece_start(p->dims[0], j->pieces, piece + 1) : 1;
  index[0] = first;
  for (;;) {
    int64_t c = 0, a = 0, b = 0, y = 0;
    for (int32_t i = 0; i < last; i++) {
      c += (int64_t)index[i] * p->stride_c[i];
      a += (int64_t)index[i] * p->stride_a[i];
      b += (int64_t)index[i] * p->stride_b[i];
      y += (int64_t)index[i] * p->stride_y[i];
    }
    const int64_t bytes = (int64_t)j->bytes;
    run_row(j, j->run->data[s->inputs[0]] + c, j->run->data[s->inputs[1]] + a * bytes, j->run->data[s->inputs[2]] + b * bytes,
            j->run->data[s->outputs[0]] + y * bytes);
    int32_t axis = last - 1;
    for (; axis >= 0; axis--) {
      if (++index[axis] < (axis == 0 ? end : p->dims[axis])) break;
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

static void run_where(const ez_run *run) {
  job j = {.run = run, .p = (const ez_where_params *)(const void *)run->step->params, .bytes = ez_element_bytes(run->tensors[run->step->outputs[0]].dtype)};
  j.pieces = j.p->rank > 1 ? ez_pieces(run, ez_extent(&run->tensors[run->step->outputs[0]]), 1 << 13) : 1;
  if (j.pieces > j.p->dims[0]) j.pieces = j.p->dims[0];
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_where = {"where", check_where, run_where, NULL, sizeof(ez_where_params)};
