/* Non-maximum suppression: of each class the best boxes that overlap no better one by more than the threshold. The result has room
 * for the most there can be; rows beyond the count are -1. Candidates are taken best first by search: boxes * kept comparisons. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

static ez_status check_nms(ez_check *check) {
  ez_nms_params p;
  memcpy(&p, check->step->params, sizeof p);
  const ez_step *s = check->step;
  if (p.batch < 1 || p.boxes < 1 || p.classes < 1 || p.most < 1 || (p.center & ~1)) return ez_check_fail(check, -1, "boxes", "sizes must be positive");
  if ((int64_t)p.batch * p.classes > ((int64_t)1 << 32) / p.boxes) return ez_check_fail(check, -1, "boxes", "too many boxes");
  const int64_t bound = (int64_t)p.batch * p.classes * (p.most < p.boxes ? p.most : p.boxes);
  if (p.bound != bound) return ez_check_fail(check, -1, "bound", "expected %lld, got %d", (long long)bound, p.bound);
  if (isnan(p.iou) || isnan(p.score)) return ez_check_fail(check, -1, "iou", "is not a number");
  if (s->n_inputs != 2 || s->inputs[0] < 0 || s->inputs[1] < 0 || s->n_outputs != 2) return ez_check_fail(check, -1, "n_outputs", "expected two inputs and two outputs");
  ez_status status = EZ_OK;
  for (int i = 0; i < 2 && !status; i++) status = ez_check_dtype(check, s->inputs[i], EZ_DTYPE_F32);
  for (int i = 0; i < 2 && !status; i++) status = ez_check_dtype(check, s->outputs[i], EZ_DTYPE_S64);
  if (!status) status = ez_check_elements(check, s->inputs[0], (int64_t)p.batch * p.boxes * 4);
  if (!status) status = ez_check_elements(check, s->inputs[1], (int64_t)p.batch * p.classes * p.boxes);
  if (!status) status = ez_check_elements(check, s->outputs[0], (int64_t)p.bound * 3);
  if (!status) status = ez_check_elements(check, s->outputs[1], 1);
  check->scratch_needed = (uint64_t)p.boxes;
  return status;
}

typedef struct box {
  float top, left, bottom, right;
} box;

static box box_of(const float *b, int is_centre) {
  if (is_centre) return (box){b[1] - b[3] * 0.5f, b[0] - b[2] * 0.5f, b[1] + b[3] * 0.5f, b[0] + b[2] * 0.5f};
  return (box){b[0] < b[2] ? b[0] : b[2], b[1] < b[3] ? b[1] : b[3], b[0] > b[2] ? b[0] : b[2], b[1] > b[3] ? b[1] : b[3]};
}

static int overlaps(const box *a, const box *b, float threshold) {
  const float top = a->top > b->top ? a->top : b->top, left = a->left > b->left ? a->left : b->left;
  const float bottom = a->bottom < b->bottom ? a->bottom : b->bottom, right = a->right < b->right ? a->right : b->right;
  const float height = bottom - top, width = right - left;
  if (!(height > 0.0f) || !(width > 0.0f)) return 0;
  const float shared = height * width;
  const float area_a = (a->bottom - a->top) * (a->right - a->left), area_b = (b->bottom - b->top) * (b->right - b->left);
  return shared / ((area_a + area_b) - shared) > threshold;
}

/* Kept boxes of one class as rows of three; returns their number. */
static int32_t one_class(const ez_nms_params *p, const float *boxes, const float *scores, uint8_t *gone, int64_t *rows, int64_t n, int64_t c) {
  int32_t kept = 0;
  for (int32_t i = 0; i < p->boxes; i++) gone[i] = !(scores[i] > p->score);
  while (kept < p->most) {
    int32_t best = -1;
    for (int32_t i = 0; i < p->boxes; i++)
      if (!gone[i] && (best < 0 || scores[i] > scores[best])) best = i;
    if (best < 0) break;
    gone[best] = 1;
    const box mine = box_of(boxes + 4 * (int64_t)best, p->center);
    rows[3 * (int64_t)kept] = n;
    rows[3 * (int64_t)kept + 1] = c;
    rows[3 * (int64_t)kept + 2] = best;
    kept++;
    for (int32_t i = 0; i < p->boxes; i++) {
      if (gone[i]) continue;
      const box other = box_of(boxes + 4 * (int64_t)i, p->center);
      gone[i] = (uint8_t)overlaps(&mine, &other, p->iou);
    }
  }
  return kept;
}

static void run_nms(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_nms_params *p = (const ez_nms_params *)(const void *)s->params;
  const float *boxes = (const float *)(const void *)run->data[s->inputs[0]], *scores = (const float *)(const void *)run->data[s->inputs[1]];
  int64_t *rows = (int64_t *)(void *)run->data[s->outputs[0]], count = 0;
  for (int64_t n = 0; n < p->batch; n++)
    for (int64_t c = 0; c < p->classes; c++)
      count += one_class(p, boxes + n * p->boxes * 4, scores + (n * p->classes + c) * p->boxes, run->scratch, rows + 3 * count, n, c);
  for (int64_t i = 3 * count; i < 3 * (int64_t)p->bound; i++) rows[i] = -1;
  *(int64_t *)(void *)run->data[s->outputs[1]] = count;
}

const ez_op ez_op_nms = {"nms", check_nms, run_nms, NULL, sizeof(ez_nms_params)};
