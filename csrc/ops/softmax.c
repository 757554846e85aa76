/* Softmax of the last axis. int8 goes through a float table of exp(-d * sx), d = max - x. */
#include <math.h>
#include <string.h>

#include "core/numerics.h"
#include "ops/float_functions.h"
#include "ops/operands.h"
#include "ops/sums.h"

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

static void row_f32(const float *x, float *y, int32_t n) {
  float largest = x[0];
  for (int32_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  for (int32_t i = 0; i < n; i++) y[i] = ez_expf(x[i] - largest);
  const float sum = ez_sum_in_tree(y, n);
  for (int32_t i = 0; i < n; i++) y[i] = y[i] / sum;
}

static void row_s8(const job *j, const uint8_t *x, const float *table, uint8_t *y) {
  const uint32_t sign = j->run->kernels->act_sign;
  const int32_t zy = j->run->tensors[j->run->step->outputs[0]].zero_point, n = j->columns;
  int32_t largest = -128;
  for (int32_t i = 0; i < n; i++) largest = ez_load(x[i], sign) > largest ? ez_load(x[i], sign) : largest;
  float lanes[16] = {0};
  for (int32_t i = 0; i < n; i++) lanes[i % 16] += table[largest - ez_load(x[i], sign)];
  const float sum = ez_sum_of_lanes(lanes);
  for (int32_t i = 0; i < n; i++) y[i] = ez_store(ez_to_s8((table[largest - ez_load(x[i], sign)] / sum) * j->scale, -128, 127, zy), sign);
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const uint8_t *x = j->run->data[s->inputs[0]];
  uint8_t *y = j->run->data[s->outputs[0]];
  for (int64_t r = ez_piece_start(j->rows, j->pieces, piece); r < ez_piece_start(j->rows, j->pieces, piece + 1); r++)
    if (j->run->tensors[s->inputs[0]].dtype == EZ_DTYPE_F32)
      row_f32((const float *)(const void *)x + r * j->columns, (float *)(void *)y + r * j->columns, j->columns);
    else
      row_s8(j, x + r * j->columns, (const float *)(const void *)j->run->data[s->inputs[1]], y + r * j->columns);
}

static void run_softmax(const ez_run *run) {
  const ez_tensor *x = &run->tensors[run->step->inputs[0]];
  job j = {.run = run, .rows = ez_rows_of(x), .columns = ez_columns_of(x), .scale = ((const ez_softmax_params *)(const void *)run->step->params)->scale};
  j.pieces = ez_pieces(run, j.rows * j.columns, 1 << 11);
  if (j.pieces > j.rows) j.pieces = (int32_t)j.rows;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_softmax = {"softmax", check_softmax, run_softmax, NULL, sizeof(ez_softmax_params)};
