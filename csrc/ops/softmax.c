/* Softmax of the last axis. int8 goes through a float table of exp(-d * sx), d = max - x. */
#include <string.h>

#include "ops/operands.h"

static ez_status check_softmax(ez_check *check) {
  ez_softmax_params p;
  memcpy(&p, check->step->params, sizeof p);
  ez_status status = ez_check_operands(check, 1, 2);
  if (!status) status = ez_check_elementwise(check);
  if (status) return status;
  const ez_tensor *x = ez_input_of(check, 0);
  if (x->dtype == EZ_DTYPE_F32) return EZ_OK;
  if (x->dtype != EZ_DTYPE_S8) return ez_check_fail(check, check->step->inputs[0], "dtype", "expected f32 or s8, got %d", x->dtype);
  if (!ez_input_of(check, 1)) return ez_check_fail(check, -1, "inputs", "int8 needs the table of exponentials");
  status = ez_check_constant(check, 1, EZ_DTYPE_F32, 256);
  return status ? status : ez_check_requantize(check, p.scale, -128, 127);
}

typedef struct job {
  const ez_run *run;
  int64_t rows;
  int32_t columns, pieces;
  float scale;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const uint8_t *x = j->run->data[s->inputs[0]];
  uint8_t *y = j->run->data[s->outputs[0]];
  const ez_rows *rows = &j->run->kernels->rows;
  const size_t n = (size_t)j->columns;
  for (int64_t r = ez_piece_start(j->rows, j->pieces, piece); r < ez_piece_start(j->rows, j->pieces, piece + 1); r++) {
    const size_t at = (size_t)r * n;
    if (j->run->tensors[s->inputs[0]].dtype == EZ_DTYPE_F32) rows->attend_f32((const float *)(const void *)x + at, NULL, 1.0f, 0, (float *)(void *)y + at, n);
    else
      rows->softmax_s8(x + at, (const float *)(const void *)j->run->data[s->inputs[1]], y + at, n, j->run->kernels->act_sign, j->scale,
                       j->run->tensors[s->outputs[0]].zero_point);
  }
}

static void run_softmax(const ez_run *run) {
  const ez_tensor *x = &run->tensors[run->step->inputs[0]];
  job j = {.run = run, .rows = ez_rows_of(x), .columns = ez_columns_of(x), .scale = ((const ez_softmax_params *)(const void *)run->step->params)->scale};
  j.pieces = ez_pieces(run, j.rows * j.columns, 1 << 11);
  if (j.pieces > j.rows) j.pieces = (int32_t)j.rows;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_softmax = {"softmax", check_softmax, run_softmax, NULL, sizeof(ez_softmax_params)};
