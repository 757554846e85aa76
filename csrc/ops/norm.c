/* Layer and RMS normalisation of the last axis, with the addition before it and the quantisation behind it in the same pass. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

enum { X, SCALE, BIAS, MORE };

/* Output position of a result of ez_norm_params.results, or -1. */
static int place_of(int32_t results, int32_t which) {
  if (!(results & which)) return -1;
  int place = 0;
  for (int32_t bit = 1; bit < which; bit *= 2) place += (results & bit) != 0;
  return place;
}

static ez_status check_rows(ez_check *check, int32_t tensor, int dtype) {
  const ez_tensor *x = ez_input_of(check, X), *t = &check->tensors[tensor];
  ez_status status = ez_check_dtype(check, tensor, dtype);
  if (!status) status = ez_check_stored(check, tensor);
  if (!status) status = ez_check_elements(check, tensor, ez_rows_of(x) * ez_columns_of(x));
  if (status || ez_columns_of(t) == ez_columns_of(x)) return status;
  return ez_check_fail(check, tensor, "dims", "expected %d in the last axis, got %d", ez_columns_of(x), ez_columns_of(t));
}

static ez_status check_operand(ez_check *check, int which) {
  const ez_tensor *t = ez_input_of(check, which);
  return check_rows(check, check->step->inputs[which], t->dtype == EZ_DTYPE_S8 ? EZ_DTYPE_S8 : EZ_DTYPE_F32);
}

static ez_status check_norm(ez_check *check) {
  const ez_step *s = check->step;
  ez_norm_params p;
  memcpy(&p, s->params, sizeof p);
  if (p.kind != EZ_NORM_LAYER && p.kind != EZ_NORM_RMS) return ez_check_fail(check, -1, "kind", "unknown normalisation %d", p.kind);
  if (!isfinite(p.epsilon) || p.epsilon < 0) return ez_check_fail(check, -1, "epsilon", "must be finite and not negative");
  if (p.results < 1 || p.results > 7) return ez_check_fail(check, -1, "results", "expected bits of 7, got %d", p.results);
  int count = 0;
  for (int32_t which = 1; which <= EZ_NORM_SUM; which *= 2) count += (p.results & which) != 0;
  if (s->n_outputs != count || s->n_inputs < 2 || s->n_inputs > 4 || s->inputs[X] < 0 || s->inputs[SCALE] < 0)
    return ez_check_fail(check, -1, "n_inputs", "needs x, scale and %d outputs", count);
  const ez_tensor *more = ez_input_of(check, MORE);
  if ((p.results & EZ_NORM_SUM) && !more) return ez_check_fail(check, -1, "results", "the sum needs a second operand");
  const int32_t columns = ez_columns_of(ez_input_of(check, X));
  ez_status status = check_operand(check, X);
  if (!status && more) status = check_operand(check, MORE);
  if (!status) status = ez_check_constant(check, SCALE, EZ_DTYPE_F32, columns);
  if (!status && ez_input_of(check, BIAS)) status = ez_check_constant(check, BIAS, EZ_DTYPE_F32, columns);
  for (int32_t which = 1; !status && which <= EZ_NORM_SUM; which *= 2)
    if (p.results & which) status = check_rows(check, s->outputs[place_of(p.results, which)], which == EZ_NORM_S8 ? EZ_DTYPE_S8 : EZ_DTYPE_F32);
  check->in_place_inputs = 1u << X | 1u << MORE;
  check->scratch_needed = 3 * (((uint64_t)columns * sizeof(float) + 63) / 64 * 64);
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_norm_params *p;
  int64_t rows;
  int32_t columns, pieces;
} job;

static uint8_t *result_of(const job *j, int32_t which) {
  const int place = place_of(j->p->results, which);
  return place < 0 ? NULL : j->run->data[j->run->step->outputs[place]];
}

/* Row r of an operand as floats, in `room` if it is int8. */
static const float *row_of(const job *j, int which, int64_t r, float *room) {
  const ez_step *s = j->run->step;
  if (which >= s->n_inputs || s->inputs[which] < 0) return NULL;
  const ez_tensor *t = &j->run->tensors[s->inputs[which]];
  const uint8_t *data = j->run->data[s->inputs[which]];
  const size_t at = (size_t)r * (size_t)j->columns;
  if (t->dtype == EZ_DTYPE_F32) return (const float *)(const void *)data + at;
  j->run->kernels->rows.dequantize(data + at, room, (size_t)j->columns, j->run->kernels->act_sign, t->scale, t->zero_point);
  return room;
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  const job *j = context;
  const ez_step *s = j->run->step;
  const ez_rows *rows = &j->run->kernels->rows;
  const size_t n = (size_t)j->columns, room = (n + 15) / 16 * 16;
  float *scratch = (float *)(void *)(j->run->scratch + (size_t)thread * j->run->scratch_bytes);
  const float *scale = (const float *)(const void *)j->run->data[s->inputs[SCALE]];
  const float *bias = s->n_inputs > BIAS && s->inputs[BIAS] >= 0 ? (const float *)(const void *)j->run->data[s->inputs[BIAS]] : NULL;
  float *all_y = (float *)(void *)result_of(j, EZ_NORM_F32), *all_sums = (float *)(void *)result_of(j, EZ_NORM_SUM);
  uint8_t *bytes = result_of(j, EZ_NORM_S8);
  const ez_tensor *q = bytes ? &j->run->tensors[s->outputs[place_of(j->p->results, EZ_NORM_S8)]] : NULL;
  for (int64_t r = ez_piece_start(j->rows, j->pieces, piece); r < ez_piece_start(j->rows, j->pieces, piece + 1); r++) {
    const size_t at = (size_t)r * n;
    const float *x = row_of(j, X, r, scratch), *more = row_of(j, MORE, r, scratch + room);
    float *y = all_y ? all_y + at : scratch + 2 * room;
    rows->norm_f32(x, more, all_sums ? all_sums + at : scratch, scale, bias, y, n, j->p->epsilon, j->p->kind == EZ_NORM_LAYER);
    if (bytes) rows->quantize(y, bytes + at, n, j->run->kernels->act_sign, q->scale, q->zero_point, -128, 127);
  }
}

static void run_norm(const ez_run *run) {
  const ez_tensor *x = &run->tensors[run->step->inputs[X]];
  job j = {.run = run, .p = (const ez_norm_params *)(const void *)run->step->params, .rows = ez_rows_of(x), .columns = ez_columns_of(x)};
  j.pieces = ez_pieces(run, j.rows * j.columns, 1 << 12);
  if (j.pieces > j.rows) j.pieces = (int32_t)j.rows;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_norm = {"norm", check_norm, run_norm, NULL, sizeof(ez_norm_params)};
