/* A slope for each channel (last axis) on negative values. */
#include <string.h>

#include "ops/operands.h"

static ez_status check_prelu(ez_check *check) {
  ez_prelu_params p;
  memcpy(&p, check->step->params, sizeof p);
  ez_status status = ez_check_operands(check, 2, 2);
  if (!status) status = ez_check_elementwise(check);
  if (status) return status;
  const ez_tensor *x = ez_input_of(check, 0);
  if (x->dtype != EZ_DTYPE_F32 && x->dtype != EZ_DTYPE_S8) return ez_check_fail(check, check->step->inputs[0], "dtype", "expected f32 or s8, got %d", x->dtype);
  if (p.channels != ez_columns_of(x)) return ez_check_fail(check, -1, "channels", "expected %d, got %d", ez_columns_of(x), p.channels);
  if (x->dtype == EZ_DTYPE_S8) status = ez_check_requantize(check, 1, p.lo, p.hi);
  if (!status) status = ez_check_constant(check, 1, EZ_DTYPE_F32, (int64_t)p.channels * (x->dtype == EZ_DTYPE_S8 ? 2 : 1));
  check->in_place_inputs = 1;
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_prelu_params *p;
  int64_t rows;
  int32_t pieces;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const uint8_t *x = j->run->data[s->inputs[0]];
  uint8_t *y = j->run->data[s->outputs[0]];
  const float *factors = (const float *)(const void *)j->run->data[s->inputs[1]];
  const size_t channels = (size_t)j->p->channels;
  const ez_rows *rows = &j->run->kernels->rows;
  const int32_t zx = j->run->tensors[s->inputs[0]].zero_point, zy = j->run->tensors[s->outputs[0]].zero_point;
  for (int64_t r = ez_piece_start(j->rows, j->pieces, piece); r < ez_piece_start(j->rows, j->pieces, piece + 1); r++) {
    const size_t at = (size_t)r * channels;
    if (j->run->tensors[s->inputs[0]].dtype == EZ_DTYPE_F32) rows->prelu_f32((const float *)(const void *)x + at, factors, (float *)(void *)y + at, channels);
    else rows->prelu_s8(x + at, factors, factors + channels, y + at, channels, j->run->kernels->act_sign, zx, zy, j->p->lo, j->p->hi);
  }
}

static void run_prelu(const ez_run *run) {
  job j = {.run = run, .p = (const ez_prelu_params *)(const void *)run->step->params, .rows = ez_rows_of(&run->tensors[run->step->inputs[0]])};
  j.pieces = ez_pieces(run, j.rows * j.p->channels, 1 << 13);
  if (j.pieces > j.rows) j.pieces = (int32_t)j.rows;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_prelu = {"prelu", check_prelu, run_prelu, NULL, sizeof(ez_prelu_params)};
