/* Pooling in plain order over up to three axes: what the fast pooling of pool.c does not take (volumes, norms, indices of maxima). */
#include "core/double_functions.h"
#include "ops/operands.h"

#define MOST_TAPS (1 << 14) /* of a window: a hostile kernel must not become a hang */

static ez_status check_axis(ez_check *check, const ez_window_params *p, int axis) {
  const int32_t sizes[] = {p->in[axis], p->out[axis], p->kernel[axis], p->stride[axis], p->dilation[axis]};
  for (int i = 0; i < 5; i++)
    if (sizes[i] < 1) return ez_check_fail(check, -1, "kernel", "axis %d has a size of %d", axis, sizes[i]);
  if (p->pad[axis] < 0 || p->pad_end[axis] < 0) return ez_check_fail(check, -1, "pad", "axis %d has a negative pad", axis);
  const int64_t last = (int64_t)(p->out[axis] - 1) * p->stride[axis] - p->pad[axis], reach = (int64_t)(p->kernel[axis] - 1) * p->dilation[axis];
  if (last >= p->in[axis] || last + reach > INT32_MAX || reach > INT32_MAX || (int64_t)p->in[axis] + p->pad[axis] + p->pad_end[axis] > INT32_MAX)
    return ez_check_fail(check, -1, "out", "axis %d: the last window lies outside", axis);
  return EZ_OK;
}

static ez_status check_window(ez_check *check) {
  ez_window_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.kind < EZ_WINDOW_MAX || p.kind > EZ_WINDOW_LP) return ez_check_fail(check, -1, "kind", "unknown pooling %d", p.kind);
  if (p.planes < 1 || p.power < 1 || (p.include | p.column_major) & ~1) return ez_check_fail(check, -1, "planes", "out of range");
  if (s->n_inputs != 1 || s->inputs[0] < 0 || s->n_outputs < 1 || s->n_outputs > 2) return ez_check_fail(check, -1, "n_outputs", "expected one input, one or two outputs");
  int64_t elements = p.planes, made = p.planes, taps = 1;
  for (int axis = 0; axis < 3; axis++) {
    const ez_status status = check_axis(check, &p, axis);
    if (status) return status;
    if ((taps *= p.kernel[axis]) > MOST_TAPS) return ez_check_fail(check, -1, "kernel", "more than %d taps", MOST_TAPS);
    if (elements > ((int64_t)1 << 40) / p.in[axis] || made > ((int64_t)1 << 40) / p.out[axis]) return ez_check_fail(check, -1, "in", "too many elements");
    elements *= p.in[axis];
    made *= p.out[axis];
  }
  const int dtype = check->tensors[s->inputs[0]].dtype;
  if (dtype != EZ_DTYPE_F32 && !(dtype == EZ_DTYPE_U8 && p.kind == EZ_WINDOW_MAX)) return ez_check_fail(check, s->inputs[0], "dtype", "%d does not go with kind %d", dtype, p.kind);
  ez_status status = ez_check_dtype(check, s->outputs[0], dtype);
  if (!status) status = ez_check_elements(check, s->inputs[0], elements);
  if (!status) status = ez_check_elements(check, s->outputs[0], made);
  if (status || s->n_outputs == 1) return status;
  if (p.kind != EZ_WINDOW_MAX) return ez_check_fail(check, -1, "n_outputs", "only maxima have indices");
  status = ez_check_dtype(check, s->outputs[1], EZ_DTYPE_S64);
  return status ? status : ez_check_elements(check, s->outputs[1], made);
}

typedef struct job {
  const ez_window_params *p;
  const uint8_t *x;
  uint8_t *y;
  int64_t *indices; /* or NULL */
  int is_byte;
  int32_t pieces;
} job;

static float value_at(const job *j, int64_t i) { return j->is_byte ? (float)j->x[i] : ((const float *)(const void *)j->x)[i]; }

/* One output: maximum (with its place), mean or norm over the taps inside x, ascending. */
static float pool(const job *j, int64_t plane, const int32_t at[3], int64_t *place) {
  const ez_window_params *p = j->p;
  const int64_t size = (int64_t)p->in[0] * p->in[1] * p->in[2];
  float total = 0.0f, best = -INFINITY;
  int32_t inside = 0, padded = 0;
  *place = -1;
  for (int32_t a = 0; a < p->kernel[0]; a++)
    for (int32_t b = 0; b < p->kernel[1]; b++)
      for (int32_t c = 0; c < p->kernel[2]; c++) {
        const int32_t taps[3] = {a, b, c};
        int64_t index = 0;
        int is_in = 1, is_padded = 1;
        int32_t where[3];
        for (int k = 0; k < 3; k++) {
          where[k] = at[k] * p->stride[k] - p->pad[k] + taps[k] * p->dilation[k];
          is_in &= where[k] >= 0 && where[k] < p->in[k];
          is_padded &= where[k] < p->in[k] + p->pad_end[k];
          index = index * p->in[k] + where[k];
        }
        padded += is_padded;
        if (!is_in) continue;
        inside++;
        const float v = value_at(j, plane * size + index);
        if (p->kind == EZ_WINDOW_MAX) {
          if (*place >= 0 && !(v > best)) continue;
          best = v;
          *place = plane * size + (p->column_major ? ((int64_t)where[2] * p->in[1] + where[1]) * p->in[0] + where[0] : index);
        } else if (p->kind == EZ_WINDOW_AVERAGE) total += v;
        else if (p->power == 1) total += fabsf(v);
        else if (p->power == 2) total += v * v;
        else total += (float)ez_pow(fabsf(v), p->power);
      }
  if (p->kind == EZ_WINDOW_MAX) return best;
  if (p->kind == EZ_WINDOW_AVERAGE) {
    const int32_t count = p->include ? padded : inside;
    return total / (float)(count ? count : 1);
  }
  return p->power == 1 ? total : p->power == 2 ? sqrtf(total) : (float)ez_pow(total, 1.0 / p->power);
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_window_params *p = j->p;
  int64_t to = ez_piece_start(p->planes, j->pieces, piece) * p->out[0] * p->out[1] * p->out[2], place;
  for (int64_t plane = ez_piece_start(p->planes, j->pieces, piece); plane < ez_piece_start(p->planes, j->pieces, piece + 1); plane++)
    for (int32_t a = 0; a < p->out[0]; a++)
      for (int32_t b = 0; b < p->out[1]; b++)
        for (int32_t c = 0; c < p->out[2]; c++, to++) {
          const int32_t at[3] = {a, b, c};
          const float made = pool(j, plane, at, &place);
          if (j->is_byte) j->y[to] = (uint8_t)(place >= 0 ? made : 0.0f);
          else ((float *)(void *)j->y)[to] = made;
          if (j->indices) j->indices[to] = place;
        }
}

static void run_window(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.p = (const ez_window_params *)(const void *)s->params, .x = run->data[s->inputs[0]], .y = run->data[s->outputs[0]],
           .indices = s->n_outputs > 1 ? (int64_t *)(void *)run->data[s->outputs[1]] : NULL, .is_byte = run->tensors[s->inputs[0]].dtype == EZ_DTYPE_U8};
  j.pieces = ez_pieces(run, j.p->planes, 1);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_window = {"window", check_window, run_window, NULL, sizeof(ez_window_params)};
