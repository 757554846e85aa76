/* Weighted sums along one axis of (outer, n, inner): resizing by any rule, its indices and weights made by the packer. */
#include <math.h>
#include <string.h>

#include "ops/folded.h"

static ez_status check_interpolate(ez_check *check) {
  ez_interpolate_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  ez_status status = ez_check_operands(check, 4, 4);
  if (status) return status;
  if (p.taps < 1 || p.m < 1 || (int64_t)p.taps * p.m > INT32_MAX) return ez_check_fail(check, -1, "taps", "out of range: %d by %d", p.m, p.taps);
  status = ez_check_dtype(check, s->inputs[0], EZ_DTYPE_F32);
  if (!status) status = ez_check_dtype(check, s->outputs[0], EZ_DTYPE_F32);
  if (!status) status = ez_check_folded(check, s->inputs[0], s->outputs[0], p.outer, p.n, p.inner, p.m);
  if (!status) status = ez_check_table(check, 1, EZ_DTYPE_S32, (int64_t)p.m * p.taps);
  if (!status) status = ez_check_table(check, 2, EZ_DTYPE_F32, (int64_t)p.m * p.taps);
  if (!status) status = ez_check_table(check, 3, EZ_DTYPE_F32, p.m);
  return status;
}

typedef struct job {
  const ez_interpolate_params *p;
  const float *x, *weight, *base;
  const int32_t *index;
  float *y;
  int32_t pieces;
} job;

/* Constants are not looked at by `check`: an index out of range is clamped. */
static int64_t inside(int32_t index, int32_t n) { return index < 0 ? 0 : index < n ? index : n - 1; }

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_interpolate_params *p = j->p;
  const int64_t units = (int64_t)p->outer * p->m;
  for (int64_t unit = ez_piece_start(units, j->pieces, piece); unit < ez_piece_start(units, j->pieces, piece + 1); unit++) {
    const int64_t o = unit / p->m, row = unit % p->m;
    float *y = j->y + unit * p->inner;
    for (int64_t i = 0; i < p->inner; i++) y[i] = j->base[row];
    for (int32_t t = 0; t < p->taps; t++) {
      const float w = j->weight[row * p->taps + t];
      if (w == 0.0f) continue; /* what weighs nothing is not read: an infinity there must not become a NaN */
      const float *x = j->x + (o * p->n + inside(j->index[row * p->taps + t], p->n)) * p->inner;
      for (int64_t i = 0; i < p->inner; i++) y[i] = y[i] + w * x[i];
    }
  }
}

static void run_interpolate(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.p = (const ez_interpolate_params *)(const void *)s->params,
           .x = (const float *)(const void *)run->data[s->inputs[0]],
           .index = (const int32_t *)(const void *)run->data[s->inputs[1]],
           .weight = (const float *)(const void *)run->data[s->inputs[2]],
           .base = (const float *)(const void *)run->data[s->inputs[3]],
           .y = (float *)(void *)run->data[s->outputs[0]]};
  const int64_t units = (int64_t)j.p->outer * j.p->m;
  j.pieces = ez_pieces(run, units * j.p->inner, 1 << 12);
  if (j.pieces > units) j.pieces = (int32_t)units;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_interpolate = {"interpolate", check_interpolate, run_interpolate, NULL, sizeof(ez_interpolate_params)};
