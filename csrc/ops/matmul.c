/* Product of two activations, batched over two levels (images and heads): operands are walked by strides, so that transposes and splits
 * into heads cost no copy. B is packed into panels of the product kernels on the way: a group of panels is one piece of work. */
#include <math.h>
#include <string.h>

#include "core/panels.h"
#include "ops/operands.h"

enum { OUTER, INNER, ROW, COLUMN };

#define MOST_PANELS 4 /* of a piece of work */
#define ROWS 48       /* pointers at a time */

static uint64_t room_of(const ez_matmul_params *p, int is_f32, uint32_t layout) {
  const int32_t columns = p->N < 16 * MOST_PANELS ? p->N : 16 * MOST_PANELS;
  return is_f32 ? ez_panels_f32_bytes(p->K, columns) : ez_panels_s8_bytes(p->K, columns, layout);
}

/* Walks (outer, inner, rows, columns) of an operand; a result must not write twice. */
static ez_status check_walk(ez_check *check, int32_t tensor, const char *field, const ez_matmul_params *p, const int32_t *strides, int32_t rows, int32_t columns) {
  const int32_t dims[4] = {p->outer, p->inner, rows, columns};
  if (tensor == check->step->outputs[0]) return ez_check_walk_output(check, 4, dims, strides, 0);
  for (int i = 0; i < 4; i++)
    if (strides[i] < 0) return ez_check_fail(check, tensor, field, "stride %d is negative", i);
  return ez_check_walk(check, tensor, field, 4, dims, strides, 0);
}

static ez_status check_quantised(ez_check *check, const ez_matmul_params *p, const ez_tensor *y) {
  const ez_tensor *a = ez_input_of(check, 0), *b = ez_input_of(check, 1);
  if (a->place > EZ_IN_WEIGHTS || b->place > EZ_IN_WEIGHTS || (y->dtype == EZ_DTYPE_S8 && y->place != EZ_IN_ARENA))
    return ez_check_fail(check, check->step->inputs[0], "place", "s8 operands must be in the arena or the weights, an s8 result in the arena");
  if ((int64_t)p->K * 255 * 255 >= 1ll << 31) return ez_check_fail(check, -1, "K", "%d products may leave 32 bits", p->K);
  return ez_check_requantize(check, p->scale, p->lo, p->hi);
}

static ez_status check_matmul(ez_check *check) {
  const ez_step *s = check->step;
  ez_matmul_params p;
  memcpy(&p, s->params, sizeof p);
  ez_status status = ez_check_operands(check, 2, 2);
  if (status) return status;
  const ez_tensor *a = ez_input_of(check, 0), *b = ez_input_of(check, 1), *y = ez_output_of(check);
  const int is_f32 = a->dtype == EZ_DTYPE_F32;
  if (a->dtype != b->dtype || (!is_f32 && a->dtype != EZ_DTYPE_S8)) return ez_check_fail(check, s->inputs[0], "dtype", "a and b must both be f32 or both s8");
  if (y->dtype != EZ_DTYPE_F32 && (is_f32 || y->dtype != EZ_DTYPE_S8)) return ez_check_fail(check, s->outputs[0], "dtype", "the result of f32 is f32, that of s8 is s8 or f32");
  if (p.outer < 1 || p.inner < 1 || p.M < 1 || p.N < 1 || p.K < 1) return ez_check_fail(check, -1, "M", "sizes must be positive");
  if (p.K > 1 << 24 || (int64_t)p.outer * p.inner > 1 << 24 || (int64_t)p.outer * p.inner * ((p.N + 63ll) / 64) > 1 << 30)
    return ez_check_fail(check, -1, "outer", "more than 2^24 summands or matrices, or than 2^30 pieces of work");
  if (p.stride_a[COLUMN] != 1 || p.stride_y[COLUMN] != 1) return ez_check_fail(check, -1, "stride_a", "columns of a and y must lie side by side");
  status = check_walk(check, s->inputs[0], "stride_a", &p, p.stride_a, p.M, p.K);
  if (!status) status = check_walk(check, s->inputs[1], "stride_b", &p, p.stride_b, p.K, p.N);
  if (!status) status = check_walk(check, s->outputs[0], "stride_y", &p, p.stride_y, p.M, p.N);
  if (!status && !is_f32) status = check_quantised(check, &p, y);
  check->scratch_needed = room_of(&p, is_f32, check->header->layout);
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_matmul_params *p;
  int32_t groups, panels; /* of one matrix; of a group */
} job;

/* Where matrix `index` of an operand begins. */
static uint8_t *start_of(const job *j, int32_t tensor, const int32_t *strides, int32_t index, size_t element) {
  const size_t at = (size_t)(index / j->p->inner) * (size_t)strides[OUTER] + (size_t)(index % j->p->inner) * (size_t)strides[INNER];
  return j->run->data[tensor] + at * element;
}

static void product_f32(const job *j, const ez_matrix *b, const uint8_t *a, uint8_t *y, uint8_t *scratch) {
  static const float zeros[16 * MOST_PANELS];
  const ez_matmul_params *p = j->p;
  const ez_isa *isa = j->run->kernels->gemm_f32;
  const int32_t most = ROWS < isa->gemm_f32_rows ? ROWS : isa->gemm_f32_rows;
  float *w = (float *)(void *)scratch;
  const float *rows[ROWS];
  ez_pack_panels_f32(j->run->kernels, b, w);
  ez_gemm_f32_args args = {.a = rows, .a_stride = ROWS, .taps = 1, .channels = p->K, .panel_floats = (size_t)p->K * 16, .bias = zeros,
                           .y_stride = (size_t)p->stride_y[ROW], .lo = -INFINITY, .hi = INFINITY};
  for (int32_t n0 = 0; n0 < b->N; n0 += 16 * isa->gemm_f32_panels) {
    args.columns = b->N - n0 < 16 * isa->gemm_f32_panels ? b->N - n0 : 16 * isa->gemm_f32_panels;
    args.w = w + (size_t)n0 * (size_t)p->K;
    for (int32_t m = 0; m < p->M; m += most) {
      args.rows = p->M - m < most ? p->M - m : most;
      for (int32_t r = 0; r < args.rows; r++) rows[r] = (const float *)(const void *)a + (size_t)(m + r) * (size_t)p->stride_a[ROW];
      args.y = (float *)(void *)y + (size_t)m * args.y_stride + n0;
      isa->gemm_f32(&args);
    }
  }
}

static void product_s8(const job *j, const ez_matrix *b, const uint8_t *a, uint8_t *y, uint8_t *scratch) {
  const ez_matmul_params *p = j->p;
  const ez_step *s = j->run->step;
  const ez_tensor *ta = &j->run->tensors[s->inputs[0]], *tb = &j->run->tensors[s->inputs[1]], *ty = &j->run->tensors[s->outputs[0]];
  const ez_kernels *kernels = j->run->kernels;
  const ez_isa *isa = kernels->gemm_s8;
  const ez_panels_s8 w = ez_pack_panels_s8(kernels, b, ta->zero_point, tb->zero_point, scratch);
  const int32_t most = ROWS < isa->gemm_s8_rows ? ROWS : isa->gemm_s8_rows;
  const uint8_t *rows[3 * ROWS];
  float mult[16 * MOST_PANELS], addend[16 * MOST_PANELS] = {0}, unit[ROWS];
  for (int i = 0; i < 16 * MOST_PANELS; i++) mult[i] = p->scale;
  for (int i = 0; i < ROWS; i++) unit[i] = 1.0f;
  ez_gemm_s8_args args = {.a = rows, .a_stride = ROWS, .row_step = (size_t)p->stride_a[ROW], .taps = w.taps, .channels = p->K, .panel_bytes = w.panel_bytes,
                          .mult = mult, .addend = addend, .row_scale = unit, .y_stride = (size_t)p->stride_y[ROW], .lo = p->lo, .hi = p->hi,
                          .zero_point = ty->zero_point, .small_mult = p->scale < 1.0f, .layout = (int32_t)kernels->layout, .act_sign = kernels->act_sign};
  for (int32_t n0 = 0; n0 < b->N; n0 += 16 * isa->gemm_s8_panels) {
    args.columns = b->N - n0 < 16 * isa->gemm_s8_panels ? b->N - n0 : 16 * isa->gemm_s8_panels;
    args.w = w.w + (size_t)(n0 / 16) * w.panel_bytes;
    args.bias = w.bias + n0;
    for (int32_t m = 0; m < p->M; m += most) {
      args.rows = p->M - m < most ? p->M - m : most;
      for (int32_t t = 0; t < w.taps; t++)
        for (int32_t r = 0; r < args.rows; r++) rows[t * ROWS + r] = a + (size_t)(m + r) * (size_t)p->stride_a[ROW];
      const size_t at = (size_t)m * args.y_stride + (size_t)n0;
      if (ty->dtype == EZ_DTYPE_F32) args.y_f32 = (float *)(void *)y + at;
      else args.y = y + at;
      isa->gemm_s8(&args);
    }
  }
}

static void run_group(void *context, int32_t item, int32_t thread) {
  const job *j = context;
  const ez_matmul_params *p = j->p;
  const ez_step *s = j->run->step;
  const int32_t index = item / j->groups, n0 = item % j->groups * 16 * j->panels;
  const size_t element = ez_element_bytes(j->run->tensors[s->inputs[0]].dtype), result = ez_element_bytes(j->run->tensors[s->outputs[0]].dtype);
  const ez_matrix b = {.at = start_of(j, s->inputs[1], p->stride_b, index, element) + (size_t)n0 * (size_t)p->stride_b[COLUMN] * element,
                       .stride_k = (size_t)p->stride_b[ROW], .stride_n = (size_t)p->stride_b[COLUMN], .K = p->K,
                       .N = p->N - n0 < 16 * j->panels ? p->N - n0 : 16 * j->panels};
  const uint8_t *a = start_of(j, s->inputs[0], p->stride_a, index, element);
  uint8_t *y = start_of(j, s->outputs[0], p->stride_y, index, result) + (size_t)n0 * result;
  uint8_t *scratch = j->run->scratch + (size_t)thread * j->run->scratch_bytes;
  if (element == 4) product_f32(j, &b, a, y, scratch);
  else product_s8(j, &b, a, y, scratch);
}

static void run_matmul(const ez_run *run) {
  job j = {.run = run, .p = (const ez_matmul_params *)(const void *)run->step->params, .panels = MOST_PANELS};
  j.groups = (j.p->N + 16 * j.panels - 1) / (16 * j.panels);
  ez_pool_run(run->pool, j.p->outer * j.p->inner * j.groups, run_group, &j);
}

static const char *matmul_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_F32 ? kernels->gemm_f32->name : kernels->gemm_s8->name;
}

const ez_op ez_op_matmul = {"matmul", check_matmul, run_matmul, matmul_kernel, sizeof(ez_matmul_params)};
