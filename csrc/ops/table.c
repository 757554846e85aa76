/* A function of one int8 tensor, as a table of 256 stored bytes made on the host (EZ-N1 rule 7). */
#include "ops/operands.h"

static ez_status check_table(ez_check *check) {
  ez_status status = ez_check_operands(check, 2, 2);
  if (!status) status = ez_check_dtype(check, check->step->inputs[0], EZ_DTYPE_S8);
  if (!status) status = ez_check_elementwise(check);
  if (!status) status = ez_check_constant(check, 1, EZ_DTYPE_U8, 256);
  check->in_place_inputs = 1;
  return status;
}

typedef struct job {
  const ez_run *run;
  int64_t total;
  int32_t pieces;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const int64_t start = ez_piece_start(j->total, j->pieces, piece), end = ez_piece_start(j->total, j->pieces, piece + 1);
  j->run->kernels->rows.table_s8(j->run->data[s->inputs[0]] + start, j->run->data[s->inputs[1]], j->run->data[s->outputs[0]] + start, (size_t)(end - start));
}

static void run_table(const ez_run *run) {
  job j = {.run = run, .total = ez_extent(&run->tensors[run->step->inputs[0]])};
  j.pieces = ez_pieces(run, j.total, 1 << 14);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_table = {"table", check_table, run_table, NULL, 0};
