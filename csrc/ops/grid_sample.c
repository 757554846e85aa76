/* Pictures or volumes read at computed places: x (N, C, D, H, W) by a grid in [-1, 1], plain order, taps ascending, no fma. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

static ez_status check_grid_sample(ez_check *check) {
  ez_grid_sample_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.mode < EZ_SAMPLE_LINEAR || p.mode > EZ_SAMPLE_CUBIC) return ez_check_fail(check, -1, "mode", "unknown mode %d", p.mode);
  if (p.border < EZ_BORDER_ZEROS || p.border > EZ_BORDER_REFLECTION) return ez_check_fail(check, -1, "border", "unknown rule %d", p.border);
  if ((p.align & ~1) || (p.axes != 2 && p.axes != 3) || (p.axes == 2 && p.in[0] != 1)) return ez_check_fail(check, -1, "axes", "out of range: %d", p.axes);
  int64_t elements = 1;
  const int32_t sizes[] = {p.batch, p.channels, p.in[0], p.in[1], p.in[2], p.points};
  for (int i = 0; i < 6; i++) {
    if (sizes[i] < 1 || sizes[i] >= 1 << 24) return ez_check_fail(check, -1, "in", "size %d is out of range", sizes[i]);
    if (i < 5 && (elements *= sizes[i]) > (int64_t)1 << 36) return ez_check_fail(check, -1, "in", "too many elements");
  }
  ez_status status = ez_check_operands(check, 2, 2);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_dtype(check, s->inputs[i], EZ_DTYPE_F32);
  if (!status) status = ez_check_dtype(check, s->outputs[0], EZ_DTYPE_F32);
  if (!status) status = ez_check_elements(check, s->inputs[0], elements);
  if (!status) status = ez_check_elements(check, s->inputs[1], (int64_t)p.batch * p.points * p.axes);
  if (!status) status = ez_check_elements(check, s->outputs[0], (int64_t)p.batch * p.channels * p.points);
  return status;
}

typedef struct job {
  const ez_grid_sample_params *p;
  const float *x, *grid;
  float *y;
  int32_t pieces;
} job;

/* Folded back at the ends until it lies inside. */
static float reflected(float x, float low, float high) {
  const float range = high - low;
  if (!(range > 0.0f)) return low;
  const float away = x < low ? low - x : x > high ? x - high : 0.0f;
  if (away == 0.0f) return x;
  const float turns = truncf(away / range), rest = away - turns * range, half = turns * 0.5f;
  const int is_odd = half != truncf(half);
  return (x < low) == !is_odd ? low + rest : high - rest;
}

/* Place of a coordinate, in pixels; NaN is the left border, far away is brought near, so that it fits an int. */
static float place_of(const ez_grid_sample_params *p, float g, int32_t size) {
  float x = p->align ? (g + 1.0f) * 0.5f * (float)(size - 1) : ((g + 1.0f) * (float)size - 1.0f) * 0.5f;
  x = x > -16777216.0f ? x : -16777216.0f;
  x = x < 16777216.0f ? x : 16777216.0f;
  const float low = p->align ? 0.0f : -0.5f, high = p->align ? (float)(size - 1) : (float)size - 0.5f;
  if (p->border == EZ_BORDER_EDGE && p->mode != EZ_SAMPLE_CUBIC) {
    x = x > 0.0f ? x : 0.0f;
    x = x < (float)(size - 1) ? x : (float)(size - 1);
  } else if (p->border == EZ_BORDER_REFLECTION && p->mode != EZ_SAMPLE_CUBIC) {
    x = reflected(x, low, high);
  }
  return x;
}

/* Index of a tap, or -1 for one that reads zero. */
static int32_t tap_of(const ez_grid_sample_params *p, int32_t i, int32_t size) {
  if (i >= 0 && i < size) return i;
  if (p->border == EZ_BORDER_ZEROS) return -1;
  if (p->border == EZ_BORDER_REFLECTION) i = (int32_t)reflected((float)i, p->align ? 0.0f : -0.5f, p->align ? (float)(size - 1) : (float)size - 0.5f);
  return i < 0 ? 0 : i < size ? i : size - 1;
}

typedef struct taps {
  int32_t count, index[4];
  float weight[4];
} taps;

static taps taps_along(const ez_grid_sample_params *p, float g, int32_t size) {
  const float x = place_of(p, g, size), below = floorf(x), t = x - below;
  taps made = {1, {0}, {1.0f}};
  if (p->mode == EZ_SAMPLE_NEAREST) {
    made.index[0] = tap_of(p, (int32_t)rintf(x), size);
    return made;
  }
  const int32_t first = (int32_t)below;
  if (p->mode == EZ_SAMPLE_LINEAR) {
    made.count = 2;
    made.weight[0] = 1.0f - t;
    made.weight[1] = t;
    for (int i = 0; i < 2; i++) made.index[i] = tap_of(p, first + i, size);
    return made;
  }
  made.count = 4;
  for (int i = 0; i < 4; i++) made.index[i] = tap_of(p, first - 1 + i, size);
  const float a = -0.75f, u = t + 1.0f, v = 1.0f - t, w = 2.0f - t;
  made.weight[0] = ((a * u - 5.0f * a) * u + 8.0f * a) * u - 4.0f * a;
  made.weight[1] = ((a + 2.0f) * t - (a + 3.0f)) * t * t + 1.0f;
  made.weight[2] = ((a + 2.0f) * v - (a + 3.0f)) * v * v + 1.0f;
  made.weight[3] = ((a * w - 5.0f * a) * w + 8.0f * a) * w - 4.0f * a;
  return made;
}

static float sample(const ez_grid_sample_params *p, const float *x, const taps along[3]) {
  float total = 0.0f;
  for (int32_t a = 0; a < along[0].count; a++) {
    float plane = 0.0f;
    for (int32_t b = 0; b < along[1].count; b++) {
      float line = 0.0f;
      for (int32_t c = 0; c < along[2].count; c++) {
        const int is_zero = along[0].index[a] < 0 || along[1].index[b] < 0 || along[2].index[c] < 0;
        const float v = is_zero ? 0.0f : x[((int64_t)along[0].index[a] * p->in[1] + along[1].index[b]) * p->in[2] + along[2].index[c]];
        line = line + along[2].weight[c] * v;
      }
      plane = plane + along[1].weight[b] * line;
    }
    total = total + along[0].weight[a] * plane;
  }
  return total;
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_grid_sample_params *p = j->p;
  const int64_t points = (int64_t)p->batch * p->points, size = (int64_t)p->in[0] * p->in[1] * p->in[2];
  for (int64_t point = ez_piece_start(points, j->pieces, piece); point < ez_piece_start(points, j->pieces, piece + 1); point++) {
    const float *g = j->grid + point * p->axes;
    const int64_t n = point / p->points, at = point % p->points;
    taps along[3] = {{1, {0}, {1.0f}}, {0}, {0}};
    if (p->axes == 3) along[0] = taps_along(p, g[2], p->in[0]);
    along[1] = taps_along(p, g[1], p->in[1]);
    along[2] = taps_along(p, g[0], p->in[2]);
    for (int64_t c = n * p->channels; c < (n + 1) * p->channels; c++) {
      const float y = sample(p, j->x + c * size, along);
      j->y[c * p->points + at] = isnan(y) ? NAN : y;
    }
  }
}

static void run_grid_sample(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.p = (const ez_grid_sample_params *)(const void *)s->params,
           .x = (const float *)(const void *)run->data[s->inputs[0]],
           .grid = (const float *)(const void *)run->data[s->inputs[1]],
           .y = (float *)(void *)run->data[s->outputs[0]]};
  j.pieces = ez_pieces(run, (int64_t)j.p->batch * j.p->points, 64);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_grid_sample = {"grid_sample", check_grid_sample, run_grid_sample, NULL, sizeof(ez_grid_sample_params)};
