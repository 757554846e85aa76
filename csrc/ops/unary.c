/* Functions of one float32 tensor (or NOT of one bool tensor), element by element. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

static ez_status check_unary(ez_check *check) {
  ez_unary_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_UNARY_CLIP || p.kind > EZ_UNARY_GELU_TANH) return ez_check_fail(check, -1, "kind", "unknown function %d", p.kind);
  if (isnan(p.alpha) || isnan(p.beta)) return ez_check_fail(check, -1, "alpha", "is not a number");
  ez_status status = ez_check_operands(check, 1, 1);
  if (!status) status = ez_check_dtype(check, check->step->inputs[0], p.kind == EZ_UNARY_NOT ? EZ_DTYPE_BOOL : EZ_DTYPE_F32);
  if (!status) status = ez_check_elementwise(check);
  check->in_place_inputs = 1;
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_unary_params *p;
  int64_t total;
  int32_t pieces;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const int64_t start = ez_piece_start(j->total, j->pieces, piece), n = ez_piece_start(j->total, j->pieces, piece + 1) - start;
  const uint8_t *x = j->run->data[s->inputs[0]];
  uint8_t *y = j->run->data[s->outputs[0]];
  if (j->p->kind == EZ_UNARY_NOT)
    for (int64_t i = start; i < start + n; i++) y[i] = !x[i];
  else
    j->run->kernels->rows.unary_f32(j->p->kind, (const float *)(const void *)x + start, (float *)(void *)y + start, (size_t)n, j->p->alpha, j->p->beta);
}

static void run_unary(const ez_run *run) {
  job j = {.run = run, .p = (const ez_unary_params *)(const void *)run->step->params, .total = ez_extent(&run->tensors[run->step->inputs[0]])};
  j.pieces = ez_pieces(run, j.total, 1 << 12);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_unary = {"unary", check_unary, run_unary, NULL, sizeof(ez_unary_params)};
