/* Functions that models have seldom, through double (core/double_functions.h), and a few of whole numbers. */
#include "core/double_functions.h"
#include "ops/operands.h"

static int is_question(int32_t kind) { return kind == EZ_MATH_IS_NAN || kind == EZ_MATH_IS_INF; }

static ez_status check_math(ez_check *check) {
  ez_math_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_MATH_SIN || p.kind > EZ_MATH_BIT_NOT) return ez_check_fail(check, -1, "kind", "unknown function %d", p.kind);
  if (isnan(p.alpha) || isnan(p.beta)) return ez_check_fail(check, -1, "alpha", "is not a number");
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dtype = check->tensors[in].dtype;
  const int whole = dtype == EZ_DTYPE_S32 || dtype == EZ_DTYPE_S64 || dtype == EZ_DTYPE_U8;
  const int fits = whole ? p.kind == EZ_MATH_SIGN || p.kind >= EZ_MATH_ABS : dtype == EZ_DTYPE_F32 && p.kind != EZ_MATH_BIT_NOT;
  if (!fits) return ez_check_fail(check, in, "dtype", "%d does not go with kind %d", dtype, p.kind);
  status = ez_check_dtype(check, out, is_question(p.kind) ? EZ_DTYPE_BOOL : dtype);
  if (!status) status = ez_check_contiguous(check, in);
  if (!status) status = ez_check_elements(check, out, ez_rows_of(&check->tensors[in]) * ez_columns_of(&check->tensors[in]));
  return status;
}

static double through_double(int32_t kind, double x, double a, double b) {
  switch (kind) {
    case EZ_MATH_SIN: return ez_sine(x, 0);
    case EZ_MATH_COS: return ez_sine(x, 1);
    case EZ_MATH_TAN: return ez_sine(x, 0) / ez_sine(x, 1);
    case EZ_MATH_ASIN: return ez_arcsine(x);
    case EZ_MATH_ACOS: return 1.57079632679489661923 - ez_arcsine(x);
    case EZ_MATH_ATAN: return ez_arctangent(x);
    case EZ_MATH_SINH: return ez_sinh(x);
    case EZ_MATH_COSH: return ez_cosh(x);
    case EZ_MATH_ASINH: return ez_asinh(x);
    case EZ_MATH_ACOSH: return ez_acosh(x);
    case EZ_MATH_ATANH: return ez_atanh(x);
    case EZ_MATH_ROUND: return rint(x);
    case EZ_MATH_SIGN: return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x;
    case EZ_MATH_SELU: return b * (x > 0.0 ? x : a * (ez_exp(x) - 1.0));
    case EZ_MATH_CELU: return x > 0.0 ? x : a * (ez_exp(x / a) - 1.0);
    case EZ_MATH_THRESHOLDED: return x > a ? x : 0.0;
    case EZ_MATH_SOFTSIGN: return x / (1.0 + fabs(x));
    case EZ_MATH_MISH: {
      const double e = ez_exp(x), t = e * (e + 2.0); /* tanh(log(1 + e)) = t / (t + 2) */
      return x > 40.0 ? x : x * (t / (t + 2.0));
    }
    case EZ_MATH_SHRINK: return x < -b ? x + a : x > b ? x - a : 0.0;
    case EZ_MATH_ABS: return fabs(x);
    case EZ_MATH_NEG: return -x;
    default: return x;
  }
}

static uint64_t of_whole(int32_t kind, int64_t x) {
  switch (kind) {
    case EZ_MATH_SIGN: return (uint64_t)((x > 0) - (x < 0));
    case EZ_MATH_ABS: return x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    case EZ_MATH_NEG: return 0 - (uint64_t)x;
    default: return ~(uint64_t)x;
  }
}

typedef struct job {
  const ez_math_params *p;
  const void *x;
  void *y;
  int dtype;
  int64_t total;
  int32_t pieces;
} job;

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_math_params *p = j->p;
  const int64_t end = ez_piece_start(j->total, j->pieces, piece + 1);
  for (int64_t i = ez_piece_start(j->total, j->pieces, piece); i < end; i++) {
    if (j->dtype == EZ_DTYPE_S32) ((uint32_t *)j->y)[i] = (uint32_t)of_whole(p->kind, ((const int32_t *)j->x)[i]);
    else if (j->dtype == EZ_DTYPE_S64) ((uint64_t *)j->y)[i] = of_whole(p->kind, ((const int64_t *)j->x)[i]);
    else if (j->dtype == EZ_DTYPE_U8) ((uint8_t *)j->y)[i] = (uint8_t)of_whole(p->kind, ((const uint8_t *)j->x)[i]);
    else {
      const float x = ((const float *)j->x)[i];
      if (p->kind == EZ_MATH_IS_NAN) ((uint8_t *)j->y)[i] = isnan(x) != 0;
      else if (p->kind == EZ_MATH_IS_INF) ((uint8_t *)j->y)[i] = isinf(x) && (x < 0 ? p->alpha != 0.0f : p->beta != 0.0f);
      else {
        const float y = (float)through_double(p->kind, x, p->alpha, p->beta);
        ((float *)j->y)[i] = isnan(y) ? NAN : y;
      }
    }
  }
}

static void run_math(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.p = (const ez_math_params *)(const void *)s->params, .x = run->data[s->inputs[0]], .y = run->data[s->outputs[0]],
           .dtype = run->tensors[s->inputs[0]].dtype, .total = ez_extent(&run->tensors[s->inputs[0]])};
  j.pieces = ez_pieces(run, j.total, 1 << 10);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_math = {"math", check_math, run_math, NULL, sizeof(ez_math_params)};
