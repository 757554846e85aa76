/* Where the extreme of an axis is: (outer, n, inner) -> s64 (outer, inner). */
#include <string.h>

#include "ops/folded.h"

#define BLOCK 64 /* inner elements walked together, row by row: n strides through memory once */

static ez_status check_arg(ez_check *check) {
  ez_arg_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind != EZ_REDUCE_MAX && p.kind != EZ_REDUCE_MIN) return ez_check_fail(check, -1, "kind", "unknown extreme %d", p.kind);
  if (p.last != 0 && p.last != 1) return ez_check_fail(check, -1, "last", "expected 0 or 1, got %d", p.last);
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0];
  const int dtype = check->tensors[in].dtype;
  if (dtype == EZ_DTYPE_BOOL) return ez_check_fail(check, in, "dtype", "bool has no order");
  status = ez_check_dtype(check, check->step->outputs[0], EZ_DTYPE_S64);
  if (!status) status = ez_check_stored(check, in);
  if (!status) status = ez_check_folded(check, in, check->step->outputs[0], p.outer, p.n, p.inner, 1);
  return status;
}

typedef struct job {
  const ez_arg_params *p;
  const uint8_t *x;
  int64_t *y;
  int dtype;
  uint8_t flip; /* stored byte of an s8 -> byte that orders as unsigned */
  int64_t blocks, units;
  int32_t pieces;
} job;

/* One block: `best` follows the rows. last: an equal later element wins. */
#define SCAN(type, load)                                                                          \
  do {                                                                                            \
    type best[BLOCK];                                                                             \
    for (int32_t i = 0; i < count; i++) best[i] = load(at + i);                                   \
    for (int32_t r = 1; r < p->n; r++)                                                            \
      for (int32_t i = 0; i < count; i++) {                                                       \
        const type v = load(at + (int64_t)r * p->inner + i);                                      \
        const int better = is_max ? v > best[i] : v < best[i];                                    \
        const int taken = better | (p->last & (v == best[i]));                                    \
        best[i] = taken ? v : best[i];                                                            \
        y[i] = taken ? r : y[i];                                                                  \
      }                                                                                           \
  } while (0)

static void run_unit(const job *j, int64_t unit) {
  const ez_arg_params *p = j->p;
  const int64_t outer = unit / j->blocks, start = unit % j->blocks * BLOCK, at = outer * p->n * p->inner + start;
  const int32_t count = (int32_t)(p->inner - start < BLOCK ? p->inner - start : BLOCK), is_max = p->kind == EZ_REDUCE_MAX;
  int64_t *y = j->y + outer * p->inner + start;
  memset(y, 0, (size_t)count * sizeof *y);
#define FLOAT(i) ((const float *)(const void *)j->x)[i]
#define BYTE(i) (uint8_t)(j->x[i] ^ j->flip)
#define WHOLE(i) ez_whole_at(j->x, i, j->dtype)
  if (j->dtype == EZ_DTYPE_F32) SCAN(float, FLOAT);
  else if (j->dtype == EZ_DTYPE_S8 || j->dtype == EZ_DTYPE_U8) SCAN(uint8_t, BYTE);
  else SCAN(int64_t, WHOLE);
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  for (int64_t unit = ez_piece_start(j->units, j->pieces, piece); unit < ez_piece_start(j->units, j->pieces, piece + 1); unit++) run_unit(j, unit);
}

static void run_arg(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_arg_params *p = (const ez_arg_params *)(const void *)s->params;
  const int dtype = run->tensors[s->inputs[0]].dtype;
  job j = {.p = p, .x = run->data[s->inputs[0]], .y = (int64_t *)(void *)run->data[s->outputs[0]], .dtype = dtype, .blocks = (p->inner - 1) / BLOCK + 1,
           .flip = (uint8_t)(dtype == EZ_DTYPE_S8 ? run->kernels->act_sign ^ 0x80 : 0)};
  j.units = p->outer * j.blocks;
  j.pieces = ez_pieces(run, j.units, (1 << 13) / p->n + 1);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_arg = {"arg", check_arg, run_arg, NULL, sizeof(ez_arg_params)};
