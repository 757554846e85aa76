/* Slices of one axis picked by an index list: (outer, n, inner) -> (outer, m, inner). */
#include <string.h>

#include "ops/operands.h"

static ez_status check_gather(ez_check *check) {
  ez_gather_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.outer < 1 || p.n < 1 || p.inner < 1 || p.m < 1) return ez_check_fail(check, -1, "outer", "sizes must be positive, got %d, %d, %d, %d", p.outer, p.n, p.inner, p.m);
  if ((int64_t)p.outer * p.n > ((int64_t)1 << 40) / p.inner || (int64_t)p.outer * p.m > 1 << 30 || (int64_t)p.outer * p.m > ((int64_t)1 << 40) / p.inner)
    return ez_check_fail(check, -1, "outer", "too many elements");
  ez_status status = ez_check_operands(check, 2, 2);
  if (status) return status;
  const int index_dtype = ez_input_of(check, 1)->dtype;
  if (index_dtype != EZ_DTYPE_S32 && index_dtype != EZ_DTYPE_S64) return ez_check_fail(check, s->inputs[1], "dtype", "expected s32 or s64, got %d", index_dtype);
  status = ez_check_dtype(check, s->outputs[0], ez_input_of(check, 0)->dtype);
  if (!status) status = ez_check_elements(check, s->inputs[0], (int64_t)p.outer * p.n * p.inner);
  if (!status) status = ez_check_elements(check, s->inputs[1], p.m);
  if (!status) status = ez_check_elements(check, s->outputs[0], (int64_t)p.outer * p.m * p.inner);
  if (!status) status = ez_check_stored(check, s->inputs[0]);
  if (!status) status = ez_check_stored(check, s->outputs[0]);
  if (!status && ez_output_of(check)->dtype == EZ_DTYPE_S8) status = ez_check_same_scale(check, s->inputs[0]);
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_gather_params *p;
  int64_t slices;
  int32_t pieces;
  size_t bytes; /* of one slice */
  int wide;     /* indices of 64 bits */
} job;

static size_t index_at(const job *j, int64_t i) {
  const void *data = j->run->data[j->run->step->inputs[1]];
  int64_t index = j->wide ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
  if (index < 0) index = index < -j->p->n ? 0 : index + j->p->n;
  return (size_t)(index >= j->p->n ? j->p->n - 1 : index);
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const uint8_t *x = j->run->data[j->run->step->inputs[0]];
  uint8_t *y = j->run->data[j->run->step->outputs[0]];
  for (int64_t i = ez_piece_start(j->slices, j->pieces, piece); i < ez_piece_start(j->slices, j->pieces, piece + 1); i++) {
    const size_t from = (size_t)(i / j->p->m) * (size_t)j->p->n + index_at(j, i % j->p->m);
    memcpy(y + (size_t)i * j->bytes, x + from * j->bytes, j->bytes);
  }
}

static void run_gather(const ez_run *run) {
  const ez_gather_params *p = (const ez_gather_params *)(const void *)run->step->params;
  job j = {.run = run, .p = p, .slices = (int64_t)p->outer * p->m, .bytes = (size_t)p->inner * ez_element_bytes(run->tensors[run->step->outputs[0]].dtype),
           .wide = run->tensors[run->step->inputs[1]].dtype == EZ_DTYPE_S64};
  j.pieces = ez_pieces(run, j.slices * (int64_t)j.bytes, 1 << 15);
  if (j.pieces > j.slices) j.pieces = (int32_t)j.slices;
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_gather = {"gather", check_gather, run_gather, NULL, sizeof(ez_gather_params)};
