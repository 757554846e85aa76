/* Two operands of whole numbers with broadcasting, one element after another; powers and remainders of floats. Not for hot loops. */
#include "core/double_functions.h"
#include "ops/operands.h"

static int is_comparison(int32_t kind) { return kind >= EZ_INTEGER_EQUAL && kind <= EZ_INTEGER_GREATER_EQUAL; }

static int fits(int dtype, int32_t kind) {
  if (dtype == EZ_DTYPE_F32) return kind == EZ_INTEGER_MOD || kind == EZ_INTEGER_FMOD || kind == EZ_INTEGER_POW;
  if (dtype == EZ_DTYPE_BOOL) return kind == EZ_INTEGER_XOR || is_comparison(kind);
  return dtype == EZ_DTYPE_S32 || dtype == EZ_DTYPE_S64 || dtype == EZ_DTYPE_U8;
}

static ez_status check_integer(ez_check *check) {
  ez_integer_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_INTEGER_ADD || p.kind > EZ_INTEGER_POW) return ez_check_fail(check, -1, "kind", "unknown operation %d", p.kind);
  const ez_step *s = check->step;
  ez_status status = ez_check_operands(check, 2, 2);
  if (status) return status;
  const int dtype = ez_input_of(check, 0)->dtype;
  if (!fits(dtype, p.kind)) return ez_check_fail(check, s->inputs[0], "dtype", "%d does not go with kind %d", dtype, p.kind);
  status = ez_check_dtype(check, s->inputs[1], dtype);
  if (!status) status = ez_check_dtype(check, s->outputs[0], is_comparison(p.kind) ? EZ_DTYPE_BOOL : dtype);
  if (!status) status = ez_check_walk(check, s->inputs[0], "stride_a", p.rank, p.dims, p.stride_a, 0);
  if (!status) status = ez_check_walk(check, s->inputs[1], "stride_b", p.rank, p.dims, p.stride_b, 0);
  if (!status) status = ez_check_walk_output(check, p.rank, p.dims, p.stride_y, 0);
  return status;
}

static uint64_t power(int64_t a, int64_t b) {
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? UINT64_MAX : 1) : 0;
  uint64_t y = 1, factor = (uint64_t)a;
  for (; b; b >>= 1, factor *= factor)
    if (b & 1) y *= factor;
  return y;
}

static uint64_t compute(int32_t kind, int64_t a, int64_t b, int bits) {
  const uint64_t u = (uint64_t)a, v = (uint64_t)b;
  switch (kind) {
    case EZ_INTEGER_ADD: return u + v;
    case EZ_INTEGER_SUB: return u - v;
    case EZ_INTEGER_MUL: return u * v;
    case EZ_INTEGER_DIV: return b == 0 ? 0 : b == -1 ? 0 - u : (uint64_t)(a / b);
    case EZ_INTEGER_MIN: return a < b ? u : v;
    case EZ_INTEGER_MAX: return a > b ? u : v;
    case EZ_INTEGER_EQUAL: return a == b;
    case EZ_INTEGER_LESS: return a < b;
    case EZ_INTEGER_LESS_EQUAL: return a <= b;
    case EZ_INTEGER_GREATER: return a > b;
    case EZ_INTEGER_GREATER_EQUAL: return a >= b;
    case EZ_INTEGER_AND: return u & v;
    case EZ_INTEGER_OR: return u | v;
    case EZ_INTEGER_XOR: return u ^ v;
    case EZ_INTEGER_MOD: {
      if (b == 0 || b == -1) return 0;
      const int64_t rest = a % b;
      return (uint64_t)(rest && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    case EZ_INTEGER_FMOD: return b == 0 || b == -1 ? 0 : (uint64_t)(a % b);
    case EZ_INTEGER_SHIFT_LEFT: return b < 0 || b >= bits ? 0 : u << b;
    case EZ_INTEGER_SHIFT_RIGHT: return (uint64_t)(a >> (b < 0 || b > 63 ? 63 : b));
    default: return power(a, b);
  }
}

/* The remainder with the sign of b, zeros too: an exact fmodf, and one b more where the signs differ. */
static float mod(float a, float b) {
  const float rest = fmodf(a, b);
  if (rest == 0.0f) return copysignf(0.0f, b);
  return (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
}

static float of_floats(int32_t kind, float a, float b) {
  const float y = kind == EZ_INTEGER_MOD ? mod(a, b) : kind == EZ_INTEGER_FMOD ? fmodf(a, b) : (float)ez_pow(a, b);
  return isnan(y) ? NAN : y;
}

typedef struct job {
  const ez_run *run;
  const ez_integer_params *p;
  int dtype, compares;
  int64_t total;
  int32_t pieces;
} job;

static int64_t load(const void *x, int64_t i, int dtype) {
  if (dtype == EZ_DTYPE_S32) return ((const int32_t *)x)[i];
  if (dtype == EZ_DTYPE_S64) return ((const int64_t *)x)[i];
  return ((const uint8_t *)x)[i];
}

static void element(const job *j, int64_t a, int64_t b, int64_t y) {
  const ez_step *s = j->run->step;
  const void *left = j->run->data[s->inputs[0]], *right = j->run->data[s->inputs[1]];
  void *out = j->run->data[s->outputs[0]];
  if (j->dtype == EZ_DTYPE_F32) {
    ((float *)out)[y] = of_floats(j->p->kind, ((const float *)left)[a], ((const float *)right)[b]);
    return;
  }
  const int bits = (int)ez_element_bytes(j->dtype) * 8;
  const uint64_t made = compute(j->p->kind, load(left, a, j->dtype), load(right, b, j->dtype), bits);
  if (j->compares || bits == 8) ((uint8_t *)out)[y] = (uint8_t)made;
  else if (bits == 32) ((uint32_t *)out)[y] = (uint32_t)made;
  else ((uint64_t *)out)[y] = made;
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_integer_params *p = j->p;
  const int64_t end = ez_piece_start(j->total, j->pieces, piece + 1);
  for (int64_t i = ez_piece_start(j->total, j->pieces, piece); i < end; i++) {
    int64_t rest = i, a = 0, b = 0, y = 0;
    for (int32_t axis = p->rank - 1; axis >= 0; axis--) {
      const int64_t index = rest % p->dims[axis];
      rest /= p->dims[axis];
      a += index * p->stride_a[axis];
      b += index * p->stride_b[axis];
      y += index * p->stride_y[axis];
    }
    element(j, a, b, y);
  }
}

static void run_integer(const ez_run *run) {
  job j = {.run = run, .p = (const ez_integer_params *)(const void *)run->step->params, .dtype = run->tensors[run->step->inputs[0]].dtype, .total = 1};
  j.compares = is_comparison(j.p->kind);
  for (int32_t i = 0; i < j.p->rank; i++) j.total *= j.p->dims[i];
  j.pieces = ez_pieces(run, j.total, 1 << 11);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_integer = {"integer", check_integer, run_integer, NULL, sizeof(ez_integer_params)};
