/* Functions of one float32 tensor (or NOT of one bool tensor), element by element. */
#include <math.h>
#include <string.h>

#include "isa/vector.h"
#include "ops/float_functions.h"
#include "ops/operands.h"

static ez_status check_unary(ez_check *check) {
  ez_unary_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_UNARY_CLIP || p.kind > EZ_UNARY_LOG) return ez_check_fail(check, -1, "kind", "unknown function %d", p.kind);
  if (isnan(p.alpha) || isnan(p.beta)) return ez_check_fail(check, -1, "alpha", "is not a number");
  ez_status status = ez_check_operands(check, 1, 1);
  if (!status) status = ez_check_dtype(check, check->step->inputs[0], p.kind == EZ_UNARY_NOT ? EZ_DTYPE_BOOL : EZ_DTYPE_F32);
  if (!status) status = ez_check_elementwise(check);
  check->in_place_inputs = 1;
  return status;
}

/* One loop a function, so that the compiler makes vector code of each. */
#define EACH(expression)                      \
  EZ_VECTOR_LOOP                              \
  for (int64_t i = 0; i < n; i++) {           \
    const float v = x[i];                     \
    y[i] = (expression);                      \
  }                                           \
  break

static void apply(const ez_unary_params *p, const float *x, float *y, int64_t n) {
  const float alpha = p->alpha, beta = p->beta;
  switch (p->kind) {
    case EZ_UNARY_SIGMOID: EACH(ez_sigmoidf(v));
    case EZ_UNARY_TANH: EACH(ez_tanhf(v));
    case EZ_UNARY_EXP: EACH(ez_expf(v));
    case EZ_UNARY_ERF: EACH(ez_erff(v));
    case EZ_UNARY_GELU: EACH(ez_geluf(v));
    case EZ_UNARY_SILU: EACH(ez_siluf(v));
    case EZ_UNARY_HARD_SIGMOID: EACH(ez_hard_sigmoidf(v, alpha, beta));
    case EZ_UNARY_HARD_SWISH: EACH(ez_hard_swishf(v));
    case EZ_UNARY_LEAKY_RELU: EACH(ez_leaky_reluf(v, alpha));
    case EZ_UNARY_ELU: EACH(ez_eluf(v, alpha));
    case EZ_UNARY_SQRT: EACH(sqrtf(v));
    case EZ_UNARY_NEG: EACH(-v);
    case EZ_UNARY_ABS: EACH(fabsf(v));
    case EZ_UNARY_RECIPROCAL: EACH(1.0f / v);
    case EZ_UNARY_FLOOR: EACH(floorf(v));
    case EZ_UNARY_CEIL: EACH(ceilf(v));
    case EZ_UNARY_SOFTPLUS: EACH(ez_softplusf(v));
    case EZ_UNARY_LOG: EACH(ez_logf(v));
    default: break;
  }
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
  else if (j->p->kind == EZ_UNARY_CLIP)
    j->run->kernels->rows.clip_f32((const float *)(const void *)x + start, (float *)(void *)y + start, (size_t)n, j->p->alpha, j->p->beta);
  else
    apply(j->p, (const float *)(const void *)x + start, (float *)(void *)y + start, n);
}

static void run_unary(const ez_run *run) {
  job j = {.run = run, .p = (const ez_unary_params *)(const void *)run->step->params, .total = ez_extent(&run->tensors[run->step->inputs[0]])};
  j.pieces = ez_pieces(run, j.total, 1 << 12);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_unary = {"unary", check_unary, run_unary, NULL, sizeof(ez_unary_params)};
