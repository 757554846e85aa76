/* Linear resize, NHWC: neighbours and weights of every row and column come as tables from the host. */
#include <string.h>

#include "ops/operands.h"

static ez_status check_resize(ez_check *check) {
  ez_resize_params p;
  memcpy(&p, check->step->params, sizeof p);
  ez_status status = ez_check_operands(check, 5, 5);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const ez_tensor *x = &check->tensors[in], *y = &check->tensors[out];
  if (x->dtype != EZ_DTYPE_F32 && x->dtype != EZ_DTYPE_S8) return ez_check_fail(check, in, "dtype", "expected f32 or s8, got %d", x->dtype);
  if (x->rank != 4 || y->rank != 4) return ez_check_fail(check, in, "rank", "expected NHWC, got %d and %d axes", x->rank, y->rank);
  if (x->dims[0] != y->dims[0] || x->dims[3] != y->dims[3])
    return ez_check_fail(check, out, "dims", "batch and channels must be those of the input, %d and %d", x->dims[0], x->dims[3]);
  if ((int64_t)y->dims[0] * y->dims[1] > 1 << 30) return ez_check_fail(check, out, "dims", "more than 2^30 rows");
  status = ez_check_dtype(check, out, x->dtype);
  if (!status) status = ez_check_stored(check, in);
  if (!status) status = ez_check_stored(check, out);
  for (int axis = 0; axis < 2 && !status; axis++) {
    status = ez_check_table(check, 1 + 2 * axis, EZ_DTYPE_S32, 2 * (int64_t)y->dims[1 + axis]);
    if (!status) status = ez_check_table(check, 2 + 2 * axis, EZ_DTYPE_F32, y->dims[1 + axis]);
  }
  return status || x->dtype == EZ_DTYPE_F32 ? status : ez_check_requantize(check, p.scale, p.lo, p.hi);
}

typedef struct job {
  const ez_run *run;
  const ez_resize_params *p;
  const ez_tensor *x, *y;
  size_t pixel_x, pixel_y; /* bytes */
} job;

/* Indices come from the file unproved: they are held inside here. */
static size_t held(int32_t index, int32_t size) { return (size_t)(index < 0 ? 0 : index >= size ? size - 1 : index); }

static void run_row(void *context, int32_t item, int32_t thread) {
  (void)thread;
  const job *j = context;
  const ez_step *s = j->run->step;
  const ez_rows *rows = &j->run->kernels->rows;
  const size_t channels = (size_t)j->x->dims[3];
  const int32_t height = j->y->dims[1], width = j->y->dims[2], i = item % height;
  const int32_t *index_h = (const int32_t *)(const void *)j->run->data[s->inputs[1]], *index_w = (const int32_t *)(const void *)j->run->data[s->inputs[3]];
  const float down = ((const float *)(const void *)j->run->data[s->inputs[2]])[i], *weight_w = (const float *)(const void *)j->run->data[s->inputs[4]];
  const size_t row = (size_t)j->x->dims[2] * j->pixel_x;
  const uint8_t *image = j->run->data[s->inputs[0]] + (size_t)(item / height) * (size_t)j->x->dims[1] * row;
  const uint8_t *top = image + held(index_h[i], j->x->dims[1]) * row, *bottom = image + held(index_h[height + i], j->x->dims[1]) * row;
  uint8_t *y = j->run->data[s->outputs[0]] + (size_t)item * (size_t)width * j->pixel_y;
  for (int32_t k = 0; k < width; k++, y += j->pixel_y) {
    const size_t left = held(index_w[k], j->x->dims[2]) * j->pixel_x, right = held(index_w[width + k], j->x->dims[2]) * j->pixel_x;
    const uint8_t *corner[4] = {top + left, top + right, bottom + left, bottom + right};
    if (j->x->dtype == EZ_DTYPE_S8)
      rows->lerp_s8(corner, weight_w[k], down, y, channels, j->run->kernels->act_sign, j->x->zero_point, j->p->scale, j->y->zero_point, j->p->lo, j->p->hi);
    else rows->lerp_f32((const float *const *)(const void *)corner, weight_w[k], down, (float *)(void *)y, channels);
  }
}

static void run_resize(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_tensor *x = &run->tensors[s->inputs[0]], *y = &run->tensors[s->outputs[0]];
  const size_t element = ez_element_bytes(x->dtype);
  job j = {.run = run, .p = (const ez_resize_params *)(const void *)s->params, .x = x, .y = y, .pixel_x = (size_t)x->row_stride * element,
           .pixel_y = (size_t)y->row_stride * element};
  ez_pool_run(run->pool, y->dims[0] * y->dims[1], run_row, &j);
}

const ez_op ez_op_resize = {"resize", check_resize, run_resize, NULL, sizeof(ez_resize_params)};
