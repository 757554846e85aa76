/* Regions of pictures brought to one size: means or maxima of linear samples, x (N, C, H, W) in plain order. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

#define MOST_SAMPLES 256 /* along an axis of a bin: a hostile region must not become a hang */

static ez_status check_roi_align(ez_check *check) {
  ez_roi_align_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  const int32_t sizes[] = {p.batch, p.channels, p.height, p.width, p.rois, p.out_h, p.out_w};
  for (int i = 0; i < 7; i++)
    if (sizes[i] < 1 || sizes[i] > 1 << 20) return ez_check_fail(check, -1, "batch", "size %d is out of range", sizes[i]);
  if (p.sampling < 0 || p.sampling > MOST_SAMPLES || (p.is_max & ~1)) return ez_check_fail(check, -1, "sampling", "out of range: %d", p.sampling);
  if (!isfinite(p.scale) || !(p.scale > 0.0f) || !isfinite(p.offset)) return ez_check_fail(check, -1, "scale", "expected a positive number");
  const int64_t planes = (int64_t)p.batch * p.channels, made = (int64_t)p.rois * p.channels;
  if (planes > ((int64_t)1 << 40) / p.height / p.width || made > ((int64_t)1 << 40) / p.out_h / p.out_w) return ez_check_fail(check, -1, "batch", "too many elements");
  ez_status status = ez_check_operands(check, 3, 3);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_dtype(check, s->inputs[i], EZ_DTYPE_F32);
  if (!status) status = ez_check_dtype(check, s->inputs[2], EZ_DTYPE_S64);
  if (!status) status = ez_check_dtype(check, s->outputs[0], EZ_DTYPE_F32);
  if (!status) status = ez_check_elements(check, s->inputs[0], planes * p.height * p.width);
  if (!status) status = ez_check_elements(check, s->inputs[1], (int64_t)p.rois * 4);
  if (!status) status = ez_check_elements(check, s->inputs[2], p.rois);
  if (!status) status = ez_check_elements(check, s->outputs[0], made * p.out_h * p.out_w);
  return status;
}

/* Corners and weights of a linear sample; outside by more than a pixel it is zero. */
typedef struct spot {
  int32_t low, high;
  float weight; /* of high */
  int is_out;
} spot;

static spot spot_of(float x, int32_t size) {
  if (!(x >= -1.0f && x <= (float)size)) return (spot){0, 0, 0.0f, 1};
  x = x > 0.0f ? x : 0.0f;
  int32_t low = (int32_t)x;
  if (low >= size - 1) return (spot){size - 1, size - 1, 0.0f, 0};
  return (spot){low, low + 1, x - (float)low, 0};
}

typedef struct job {
  const ez_roi_align_params *p;
  const float *x, *rois;
  const int64_t *batch;
  float *y;
  int32_t pieces;
} job;

static float sample(const float *plane, int32_t width, const spot *row, const spot *column, int is_max) {
  if (row->is_out || column->is_out) return 0.0f;
  const float *top = plane + (int64_t)row->low * width, *bottom = plane + (int64_t)row->high * width;
  const float h = row->weight, w = column->weight, g = 1.0f - h, v = 1.0f - w;
  const float a = (g * v) * top[column->low], b = (g * w) * top[column->high], c = (h * v) * bottom[column->low], d = (h * w) * bottom[column->high];
  if (!is_max) return ((a + b) + c) + d;
  const float u = a > b ? a : b, l = c > d ? c : d;
  return u > l ? u : l;
}

/* Samples along an axis of one bin: as asked, or one a pixel, at most MOST_SAMPLES. */
static int32_t samples_of(float bin, int32_t asked) {
  if (asked) return asked;
  const float wanted = ceilf(bin);
  return wanted > 1.0f ? (wanted < (float)MOST_SAMPLES ? (int32_t)wanted : MOST_SAMPLES) : 1;
}

static void one_roi(const job *j, int64_t r) {
  const ez_roi_align_params *p = j->p;
  const float *roi = j->rois + 4 * r;
  const int64_t n = j->batch[r] < 0 ? 0 : j->batch[r] < p->batch ? j->batch[r] : p->batch - 1;
  const float left = roi[0] * p->scale - p->offset, top = roi[1] * p->scale - p->offset;
  float width = (roi[2] * p->scale - p->offset) - left, height = (roi[3] * p->scale - p->offset) - top;
  if (p->offset == 0.0f) { /* the older rule: at least one pixel */
    width = width > 1.0f ? width : 1.0f;
    height = height > 1.0f ? height : 1.0f;
  }
  const float bin_h = height / (float)p->out_h, bin_w = width / (float)p->out_w;
  const int32_t down = samples_of(bin_h, p->sampling), across = samples_of(bin_w, p->sampling);
  for (int64_t c = 0; c < p->channels; c++) {
    const float *plane = j->x + (n * p->channels + c) * p->height * p->width;
    float *y = j->y + (r * p->channels + c) * p->out_h * p->out_w;
    for (int32_t oy = 0; oy < p->out_h; oy++)
      for (int32_t ox = 0; ox < p->out_w; ox++) {
        float total = 0.0f;
        for (int32_t a = 0; a < down; a++) {
          const spot row = spot_of((top + (float)oy * bin_h) + ((float)a + 0.5f) * bin_h / (float)down, p->height);
          for (int32_t b = 0; b < across; b++) {
            const spot column = spot_of((left + (float)ox * bin_w) + ((float)b + 0.5f) * bin_w / (float)across, p->width);
            const float v = sample(plane, p->width, &row, &column, p->is_max);
            total = !p->is_max ? total + v : (a | b) == 0 || v > total ? v : total;
          }
        }
        const float made = p->is_max ? total : total / (float)(down * across);
        y[oy * p->out_w + ox] = isnan(made) ? NAN : made;
      }
  }
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  for (int64_t r = ez_piece_start(j->p->rois, j->pieces, piece); r < ez_piece_start(j->p->rois, j->pieces, piece + 1); r++) one_roi(j, r);
}

static void run_roi_align(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.p = (const ez_roi_align_params *)(const void *)s->params,
           .x = (const float *)(const void *)run->data[s->inputs[0]],
           .rois = (const float *)(const void *)run->data[s->inputs[1]],
           .batch = (const int64_t *)(const void *)run->data[s->inputs[2]],
           .y = (float *)(void *)run->data[s->outputs[0]]};
  j.pieces = ez_pieces(run, j.p->rois, 1);
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_roi_align = {"roi_align", check_roi_align, run_roi_align, NULL, sizeof(ez_roi_align_params)};
