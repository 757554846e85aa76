/* Sum, mean and extremes over one axis: (outer, n, inner) -> (outer, inner). */
#include <string.h>

#include "core/numerics.h"
#include "ops/operands.h"
#include "core/sums.h"

#define BLOCK 512 /* inner elements of one piece of work */
#define ROWS 64

static int is_sum(int32_t kind) { return kind == EZ_REDUCE_MEAN || kind == EZ_REDUCE_SUM; }

static ez_status check_reduce(ez_check *check) {
  ez_reduce_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind < EZ_REDUCE_MEAN || p.kind > EZ_REDUCE_MIN) return ez_check_fail(check, -1, "kind", "unknown reduction %d", p.kind);
  if (p.outer < 1 || p.n < 1 || p.inner < 1) return ez_check_fail(check, -1, "outer", "sizes must be positive, got %d, %d, %d", p.outer, p.n, p.inner);
  if ((int64_t)p.outer * p.n > ((int64_t)1 << 40) / p.inner) return ez_check_fail(check, -1, "n", "too many elements");
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dtype = check->tensors[in].dtype;
  if (dtype != EZ_DTYPE_F32 && dtype != EZ_DTYPE_S8) return ez_check_fail(check, in, "dtype", "expected f32 or s8, got %d", dtype);
  status = ez_check_dtype(check, out, dtype);
  if (!status) status = ez_check_elements(check, in, (int64_t)p.outer * p.n * p.inner);
  if (!status) status = ez_check_elements(check, out, (int64_t)p.outer * p.inner);
  if (!status) status = ez_check_stored(check, in);
  if (!status) status = ez_check_stored(check, out);
  if (status || dtype == EZ_DTYPE_F32) return status;
  if (!is_sum(p.kind)) return ez_check_same_scale(check, in);
  if (p.n > 1 << 22) return ez_check_fail(check, -1, "n", "%d summands may leave 32 bits; 2^22 are the limit", p.n);
  return ez_check_requantize(check, p.scale, p.lo, p.hi);
}

typedef struct job {
  const ez_run *run;
  const ez_reduce_params *p;
  const uint8_t *x;
  uint8_t *y;
  uint32_t sign;
  int32_t zx, zy;
  int64_t blocks, units; /* of one outer index; in all */
  int32_t pieces;
} job;

static float extreme_f32(const float *x, int64_t n, int64_t stride, int is_max) {
  float best = x[0];
  for (int64_t i = 1; i < n; i++) {
    const float v = x[i * stride];
    best = is_max ? (v > best ? v : best) : v < best ? v : best;
  }
  return best;
}

static void rows_f32(const job *j, const float *x, float *y, int32_t n) {
  const ez_reduce_params *p = j->p;
  if (!is_sum(p->kind)) {
    memcpy(y, x, (size_t)n * sizeof *y);
    for (int64_t r = 1; r < p->n; r++) {
      const float *row = x + r * p->inner;
      if (p->kind == EZ_REDUCE_MAX)
        for (int32_t i = 0; i < n; i++) y[i] = row[i] > y[i] ? row[i] : y[i];
      else
        for (int32_t i = 0; i < n; i++) y[i] = row[i] < y[i] ? row[i] : y[i];
    }
    return;
  }
  memset(y, 0, (size_t)n * sizeof *y);
  for (int64_t r = 0; r < p->n; r++) {
    const float *row = x + r * p->inner;
    for (int32_t i = 0; i < n; i++) y[i] += row[i];
  }
  if (p->kind == EZ_REDUCE_MEAN)
    for (int32_t i = 0; i < n; i++) y[i] /= (float)p->n;
}

static void one_f32(const job *j, const float *x, float *y) {
  const ez_reduce_params *p = j->p;
  if (!is_sum(p->kind)) *y = extreme_f32(x, p->n, 1, p->kind == EZ_REDUCE_MAX);
  else *y = p->kind == EZ_REDUCE_MEAN ? ez_sum_in_tree(x, p->n) / (float)p->n : ez_sum_in_tree(x, p->n);
}

static void rows_s8(const job *j, const uint8_t *x, uint8_t *y, int32_t n) {
  const ez_reduce_params *p = j->p;
  const ez_rows *rows = &j->run->kernels->rows;
  const uint8_t *seen[ROWS];
  int32_t sums[BLOCK] = {0};
  for (int32_t r = 0; r < p->n;) {
    const int32_t count = p->n - r < ROWS ? p->n - r : ROWS;
    for (int32_t i = 0; i < count; i++) seen[i] = x + (size_t)(r + i) * (size_t)p->inner;
    rows->sum_s8(seen, count, sums, (size_t)n, j->sign, j->zx);
    r += count;
  }
  rows->scale_s32(sums, y, (size_t)n, j->sign, p->kind == EZ_REDUCE_MEAN ? (float)p->n : 1.0f, p->scale, j->zy, p->lo, p->hi);
}

static void one_s8(const job *j, const uint8_t *x, uint8_t *y) {
  const ez_reduce_params *p = j->p;
  const int32_t n = p->n;
  const uint8_t flip = (uint8_t)(j->sign ^ 0x80);
  int32_t sum = 0;
  for (int32_t i = 0; i < n; i++) sum += (uint8_t)(x[i] ^ flip);
  sum -= n * (j->zx + 128);
  j->run->kernels->rows.scale_s32(&sum, y, 1, j->sign, p->kind == EZ_REDUCE_MEAN ? (float)p->n : 1.0f, p->scale, j->zy, p->lo, p->hi);
}

/* Bytes order like their values once brought to excess 128; the minimum is the maximum of the complement. */
static void extremes_s8(const job *j, const uint8_t *x, uint8_t *y, int32_t n) {
  const ez_reduce_params *p = j->p;
  const uint8_t flip = (uint8_t)(j->sign ^ 0x80 ^ (p->kind == EZ_REDUCE_MIN ? 0xff : 0));
  for (int32_t i = 0; i < n; i++) y[i] = x[i] ^ flip;
  for (int64_t r = 1; r < p->n; r++) {
    const uint8_t *row = x + r * p->inner;
    for (int32_t i = 0; i < n; i++) {
      const uint8_t v = row[i] ^ flip;
      y[i] = v > y[i] ? v : y[i];
    }
  }
  for (int32_t i = 0; i < n; i++) y[i] ^= flip;
}

static void run_unit(const job *j, int64_t unit) {
  const ez_reduce_params *p = j->p;
  const int64_t outer = unit / j->blocks, start = unit % j->blocks * BLOCK;
  const int32_t n = (int32_t)(p->inner - start < BLOCK ? p->inner - start : BLOCK);
  const int64_t from = outer * p->n * p->inner + start, to = outer * p->inner + start;
  const float *xf = (const float *)(const void *)j->x + from;
  float *yf = (float *)(void *)j->y + to;
  if (j->run->tensors[j->run->step->inputs[0]].dtype == EZ_DTYPE_F32) {
    if (p->inner == 1) one_f32(j, xf, yf);
    else rows_f32(j, xf, yf, n);
  } else if (!is_sum(p->kind)) {
    extremes_s8(j, j->x + from, j->y + to, n);
  } else if (p->inner == 1) {
    one_s8(j, j->x + from, j->y + to);
  } else {
    rows_s8(j, j->x + from, j->y + to, n);
  }
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  for (int64_t unit = ez_piece_start(j->units, j->pieces, piece); unit < ez_piece_start(j->units, j->pieces, piece + 1); unit++) run_unit(j, unit);
}

static void run_reduce(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_reduce_params *p = (const ez_reduce_params *)(const void *)s->params;
  job j = {.run = run, .p = p, .x = run->data[s->inputs[0]], .y = run->data[s->outputs[0]], .sign = run->kernels->act_sign,
           .zx = run->tensors[s->inputs[0]].zero_point, .zy = run->tensors[s->outputs[0]].zero_point, .blocks = (p->inner - 1) / BLOCK + 1};
  j.units = p->outer * j.blocks;
  j.pieces = ez_pieces(run, j.units, (1 << 14) / ((int64_t)p->n * (p->inner < BLOCK ? p->inner : BLOCK)) + 1);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_reduce = {"reduce", check_reduce, run_reduce, NULL, sizeof(ez_reduce_params)};
