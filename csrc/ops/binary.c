/* Two operands with broadcasting: arithmetic, comparisons, logic.
 *
 * The innermost axis is walked in blocks; an operand that does not lie contiguous there is first brought into a block buffer,
 * so that every kind has one contiguous kernel. */
#include <math.h>
#include <string.h>

#include "core/numerics.h"
#include "isa/vector.h"
#include "ops/operands.h"

#define BLOCK 512

static int is_comparison(int32_t kind) { return kind >= EZ_BINARY_EQUAL && kind <= EZ_BINARY_GREATER_EQUAL; }
static int is_logic(int32_t kind) { return kind == EZ_BINARY_AND || kind == EZ_BINARY_OR; }

static ez_status check_types(ez_check *check, const ez_binary_params *p) {
  const ez_step *s = check->step;
  const int dtype = ez_input_of(check, 0)->dtype;
  const int fits = dtype == EZ_DTYPE_BOOL ? is_logic(p->kind) || p->kind == EZ_BINARY_EQUAL : (dtype == EZ_DTYPE_F32 || dtype == EZ_DTYPE_S8) && !is_logic(p->kind);
  if (!fits) return ez_check_fail(check, s->inputs[0], "dtype", "%d does not go with kind %d", dtype, p->kind);
  ez_status status = ez_check_dtype(check, s->inputs[1], dtype);
  if (!status) status = ez_check_dtype(check, s->outputs[0], is_comparison(p->kind) || is_logic(p->kind) ? EZ_DTYPE_BOOL : dtype);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_stored(check, s->inputs[i]);
  if (!status) status = ez_check_stored(check, s->outputs[0]);
  return status;
}

static ez_status check_numbers(ez_check *check, const ez_binary_params *p) {
  const int dtype = ez_input_of(check, 0)->dtype;
  if (dtype == EZ_DTYPE_S8) {
    const int one_scale = p->kind == EZ_BINARY_MUL || p->kind == EZ_BINARY_DIV;
    const ez_status status = ez_check_requantize(check, p->scale_a, p->lo, p->hi);
    return status || one_scale ? status : ez_check_requantize(check, p->scale_b, p->lo, p->hi);
  }
  if (isnan(p->float_lo) || isnan(p->float_hi) || p->float_lo > p->float_hi) return ez_check_fail(check, -1, "float_lo", "clamp is empty or not a number");
  return EZ_OK;
}

/* Whether an operand is read exactly where the result is written. */
static int walks_alike(const ez_binary_params *p, const int32_t *stride) {
  for (int32_t i = 0; i < p->rank; i++)
    if (p->dims[i] > 1 && stride[i] != p->stride_y[i]) return 0;
  return 1;
}

static ez_status check_binary(ez_check *check) {
  ez_binary_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_BINARY_ADD || p.kind > EZ_BINARY_OR) return ez_check_fail(check, -1, "kind", "unknown operation %d", p.kind);
  const ez_step *s = check->step;
  ez_status status = ez_check_operands(check, 2, 2);
  if (!status) status = check_types(check, &p);
  if (!status) status = check_numbers(check, &p);
  if (!status) status = ez_check_walk(check, s->inputs[0], "stride_a", p.rank, p.dims, p.stride_a, 0);
  if (!status) status = ez_check_walk(check, s->inputs[1], "stride_b", p.rank, p.dims, p.stride_b, 0);
  if (!status) status = ez_check_walk_output(check, p.rank, p.dims, p.stride_y, 0);
  if (status) return status;
  /* elements of one size only: a bool result over a float operand would overtake the reading */
  if (ez_element_bytes(ez_output_of(check)->dtype) == ez_element_bytes(ez_input_of(check, 0)->dtype))
    check->in_place_inputs = (uint32_t)(walks_alike(&p, p.stride_a) | walks_alike(&p, p.stride_b) << 1);
  return EZ_OK;
}

typedef struct job {
  const ez_run *run;
  const ez_binary_params *p;
  const ez_rows *rows;
  uint32_t sign;
  int32_t za, zb, zy;
  size_t bytes_x, bytes_y;
  int32_t dtype, axis, pieces; /* axis: the one that is cut among threads */
} job;

#define EACH_BOOL(expression)                                                  \
  for (size_t i = 0; i < n; i++) {                                             \
    const float u = a[i], v = b[i];                                            \
    y[i] = (expression);                                                       \
  }                                                                            \
  break

static void compare_f32(int32_t kind, const float *a, const float *b, uint8_t *y, size_t n) {
  switch (kind) {
    case EZ_BINARY_EQUAL: EACH_BOOL(u == v);
    case EZ_BINARY_LESS: EACH_BOOL(u < v);
    case EZ_BINARY_LESS_EQUAL: EACH_BOOL(u <= v);
    case EZ_BINARY_GREATER: EACH_BOOL(u > v);
    case EZ_BINARY_GREATER_EQUAL: EACH_BOOL(u >= v);
    default: break;
  }
}

#define EACH_S8(expression)                                                                         \
  EZ_VECTOR_LOOP                                                                                    \
  for (size_t i = 0; i < n; i++) {                                                                  \
    const float u = ez_centred(a[i], sign, j->za), v = ez_centred(b[i], sign, j->zb);               \
    y[i] = ez_store(ez_to_s8((expression), lo, hi, j->zy), sign);                                   \
  }                                                                                                 \
  break

static void arithmetic_s8(const job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
  const uint32_t sign = j->sign;
  const int32_t lo = j->p->lo, hi = j->p->hi;
  const float ma = j->p->scale_a, mb = j->p->scale_b;
  switch (j->p->kind) {
    case EZ_BINARY_ADD: j->rows->add_s8(a, b, y, n, sign, j->za, j->zb, ma, mb, j->zy, lo, hi); break;
    case EZ_BINARY_SUB: j->rows->sub_s8(a, b, y, n, sign, j->za, j->zb, ma, mb, j->zy, lo, hi); break;
    case EZ_BINARY_MUL: j->rows->mul_s8(a, b, y, n, sign, j->za, j->zb, ma, j->zy, lo, hi); break;
    case EZ_BINARY_DIV: EACH_S8((u / v) * ma);
    case EZ_BINARY_MIN: EACH_S8(u * ma < v * mb ? u * ma : v * mb);
    case EZ_BINARY_MAX: EACH_S8(u * ma > v * mb ? u * ma : v * mb);
    default: break;
  }
}

static void compare_s8(const job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
  float u[BLOCK], v[BLOCK];
  for (size_t i = 0; i < n; i++) u[i] = ez_centred(a[i], j->sign, j->za) * j->p->scale_a;
  for (size_t i = 0; i < n; i++) v[i] = ez_centred(b[i], j->sign, j->zb) * j->p->scale_b;
  compare_f32(j->p->kind, u, v, y, n);
}

static void logic(int32_t kind, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
  if (kind == EZ_BINARY_AND)
    for (size_t i = 0; i < n; i++) y[i] = (a[i] != 0) & (b[i] != 0);
  else if (kind == EZ_BINARY_OR)
    for (size_t i = 0; i < n; i++) y[i] = (a[i] != 0) | (b[i] != 0);
  else
    for (size_t i = 0; i < n; i++) y[i] = (a[i] != 0) == (b[i] != 0);
}

static void contiguous(const job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
  const float *fa = (const float *)(const void *)a, *fb = (const float *)(const void *)b;
  if (j->dtype == EZ_DTYPE_BOOL) logic(j->p->kind, a, b, y, n);
  else if (j->dtype == EZ_DTYPE_F32 && is_comparison(j->p->kind)) compare_f32(j->p->kind, fa, fb, y, n);
  else if (j->dtype == EZ_DTYPE_F32) j->rows->binary_f32(j->p->kind, fa, fb, (float *)(void *)y, n, j->p->float_lo, j->p->float_hi);
  else if (is_comparison(j->p->kind)) compare_s8(j, a, b, y, n);
  else arithmetic_s8(j, a, b, y, n);
}

/* n elements `stride` apart, brought together; a contiguous operand is used where it is. */
static const uint8_t *brought(const uint8_t *x, int64_t stride, size_t bytes, uint8_t *buffer, size_t n) {
  if (stride == 1) return x;
  for (size_t i = 0; i < n; i++) {
    const uint8_t *from = x + (int64_t)i * stride * (int64_t)bytes;
    if (bytes == 4) memcpy(buffer + i * 4, from, 4);
    else buffer[i] = *from;
  }
  return buffer;
}

static void run_row(const job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, int64_t start, int64_t end) {
  const int32_t last = j->p->rank - 1;
  const int64_t sa = j->p->stride_a[last], sb = j->p->stride_b[last], sy = j->p->stride_y[last];
  float buffer_a[BLOCK], buffer_b[BLOCK], buffer_y[BLOCK];
  for (int64_t i = start; i < end; i += BLOCK) {
    const size_t n = (size_t)(end - i < BLOCK ? end - i : BLOCK);
    const uint8_t *pa = sa || i == start ? brought(a + i * sa * (int64_t)j->bytes_x, sa, j->bytes_x, (uint8_t *)buffer_a, n) : (uint8_t *)buffer_a;
    const uint8_t *pb = sb || i == start ? brought(b + i * sb * (int64_t)j->bytes_x, sb, j->bytes_x, (uint8_t *)buffer_b, n) : (uint8_t *)buffer_b;
    if (sy == 1) {
      contiguous(j, pa, pb, y + i * (int64_t)j->bytes_y, n);
      continue;
    }
    contiguous(j, pa, pb, (uint8_t *)buffer_y, n);
    for (size_t k = 0; k < n; k++) memcpy(y + (i + (int64_t)k) * sy * (int64_t)j->bytes_y, (uint8_t *)buffer_y + k * j->bytes_y, j->bytes_y);
  }
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_binary_params *p = j->p;
  const int32_t last = p->rank - 1;
  const ez_step *s = j->run->step;
  int32_t index[EZ_MAX_RANK] = {0}, end[EZ_MAX_RANK];
  for (int32_t i = 0; i < p->rank; i++) end[i] = p->dims[i];
  const int32_t first = (int32_t)ez_piece_start(p->dims[j->axis], j->pieces, piece);
  index[j->axis] = first;
  end[j->axis] = (int32_t)ez_piece_start(p->dims[j->axis], j->pieces, piece + 1);
  for (;;) {
    int64_t a = 0, b = 0, y = 0;
    for (int32_t i = 0; i < last; i++) {
      a += (int64_t)index[i] * p->stride_a[i];
      b += (int64_t)index[i] * p->stride_b[i];
      y += (int64_t)index[i] * p->stride_y[i];
    }
    run_row(j, j->run->data[s->inputs[0]] + a * (int64_t)j->bytes_x, j->run->data[s->inputs[1]] + b * (int64_t)j->bytes_x,
            j->run->data[s->outputs[0]] + y * (int64_t)j->bytes_y, index[last], end[last]);
    int32_t axis = last - 1;
    for (; axis >= 0; axis--) {
      if (++index[axis] < end[axis]) break;
      index[axis] = axis == j->axis ? first : 0;
    }
    if (axis < 0) return;
  }
}

static void run_binary(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_tensor *a = &run->tensors[s->inputs[0]], *b = &run->tensors[s->inputs[1]], *y = &run->tensors[s->outputs[0]];
  job j = {.run = run, .p = (const ez_binary_params *)(const void *)s->params, .rows = &run->kernels->rows, .sign = run->kernels->act_sign,
           .za = a->zero_point, .zb = b->zero_point, .zy = y->zero_point, .bytes_x = ez_element_bytes(a->dtype),
           .bytes_y = ez_element_bytes(y->dtype), .dtype = a->dtype};
  int64_t total = 1;
  for (int32_t i = 0; i < j.p->rank; i++) {
    total *= j.p->dims[i];
    if (j.p->dims[i] > j.p->dims[j.axis]) j.axis = i;
  }
  j.pieces = ez_pieces(run, total, 1 << 13);
  if (j.pieces > j.p->dims[j.axis]) j.pieces = j.p->dims[j.axis];
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_binary = {"binary", check_binary, run_binary, NULL, sizeof(ez_binary_params)};
