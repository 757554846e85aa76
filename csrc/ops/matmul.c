/* Product of two activations, batched. float32 goes panel by panel through the product kernel; int8 is plain C for now (attention
 * comes with the transformer operators). */
#include <math.h>
#include <string.h>

#include "core/numerics.h"
#include "core/pool.h"
#include "ops/op.h"

static ez_status check_matmul(ez_check *check) {
  const ez_step *s = check->step;
  ez_matmul_params p;
  memcpy(&p, s->params, sizeof p);
  if (s->n_inputs != 2 || s->n_outputs != 1 || s->inputs[0] < 0 || s->inputs[1] < 0) return ez_check_fail(check, -1, "n_inputs", "needs a, b and one output");
  const ez_tensor *a = &check->tensors[s->inputs[0]], *b = &check->tensors[s->inputs[1]], *y = &check->tensors[s->outputs[0]];
  if (a->dtype != b->dtype || a->dtype != y->dtype || (a->dtype != EZ_DTYPE_F32 && a->dtype != EZ_DTYPE_S8)) return ez_check_fail(check, s->inputs[0], "dtype", "a, b and y must all be f32 or all s8");
  if (p.batch < 1 || p.M < 1 || p.N < 1 || p.K < 1 || p.batch_stride_a < 0 || p.batch_stride_b < 0 || p.batch_stride_y < 0 || (p.transpose_b & ~1))
    return ez_check_fail(check, -1, "M", "sizes must be positive, strides not negative");
  if (a->dtype == EZ_DTYPE_S8 && (a->place > EZ_IN_WEIGHTS || b->place > EZ_IN_WEIGHTS || y->place != EZ_IN_ARENA))
    return ez_check_fail(check, s->inputs[0], "place", "s8 operands must be in the arena or the weights, the result in the arena");
  if (p.K > 1 << 24 || (int64_t)p.batch * p.M > 1 << 30 || (int64_t)p.batch * ((p.N + 15ll) / 16) > 1 << 30)
    return ez_check_fail(check, -1, "batch", "more than 2^24 summands, or than 2^30 pieces of work");
  const ez_tensor *all[3] = {a, b, y};
  const int64_t strides[3] = {p.batch_stride_a, p.batch_stride_b, p.batch_stride_y};
  const int64_t sizes[3] = {(int64_t)p.M * p.K, (int64_t)p.K * p.N, (int64_t)p.M * p.N};
  for (int i = 0; i < 3; i++) {
    const uint64_t element = a->dtype == EZ_DTYPE_F32 ? 4 : 1;
    const uint64_t needed = ((uint64_t)(p.batch - 1) * (uint64_t)strides[i] + (uint64_t)sizes[i]) * element;
    if (all[i]->rank && all[i]->row_stride != all[i]->dims[all[i]->rank - 1]) return ez_check_fail(check, i < 2 ? s->inputs[i] : s->outputs[0], "row_stride", "must be contiguous");
    if (all[i]->bytes < needed) return ez_check_fail(check, i < 2 ? s->inputs[i] : s->outputs[0], "bytes", "the product leaves the tensor");
  }
  if (p.batch > 1 && p.batch_stride_y < (int64_t)p.M * p.N) return ez_check_fail(check, s->outputs[0], "batch_stride_y", "results overlap");
  if (a->dtype == EZ_DTYPE_S8 && (!isfinite(p.scale) || p.scale <= 0 || p.lo < -128 || p.hi > 127 || p.lo > p.hi)) return ez_check_fail(check, -1, "scale", "scale or clamp out of range");
  if (a->dtype == EZ_DTYPE_S8 && (int64_t)p.K * 255 * 255 >= 1ll << 31) return ez_check_fail(check, -1, "K", "%d products may leave 32 bits", p.K);
  check->scratch_needed = ((uint64_t)p.K * 16 + 16) * 4;
  return EZ_OK;
}

typedef struct ez_matmul_job {
  const ez_run *run;
  const ez_matmul_params *p;
} ez_matmul_job;

/* One panel of 16 columns of one batch. */
static void run_panel_f32(void *context, int32_t item, int32_t thread) {
  const ez_matmul_job *job = context;
  const ez_matmul_params *p = job->p;
  const int32_t panels = (p->N + 15) / 16, batch = item / panels, n0 = item % panels * 16, columns = p->N - n0 < 16 ? p->N - n0 : 16;
  const float *a = (const float *)(const void *)job->run->data[job->run->step->inputs[0]] + (size_t)batch * (size_t)p->batch_stride_a;
  const float *b = (const float *)(const void *)job->run->data[job->run->step->inputs[1]] + (size_t)batch * (size_t)p->batch_stride_b;
  float *y = (float *)(void *)job->run->data[job->run->step->outputs[0]] + (size_t)batch * (size_t)p->batch_stride_y;
  float *bias = (float *)(void *)(job->run->scratch + (size_t)thread * job->run->scratch_bytes), *w = bias + 16;
  memset(bias, 0, 16 * sizeof *bias);
  for (int32_t k = 0; k < p->K; k++)
    for (int32_t n = 0; n < 16; n++)
      w[k * 16 + n] = n >= columns ? 0 : p->transpose_b ? b[(size_t)(n0 + n) * (size_t)p->K + (size_t)k] : b[(size_t)k * (size_t)p->N + (size_t)(n0 + n)];
  const ez_isa *isa = job->run->kernels->gemm_f32;
  for (int32_t m = 0; m < p->M; m += isa->gemm_f32_rows) {
    const float *rows[EZ_ROW_BLOCK];
    const int32_t count = p->M - m < isa->gemm_f32_rows ? p->M - m : isa->gemm_f32_rows;
    for (int32_t r = 0; r < count; r++) rows[r] = a + (size_t)(m + r) * (size_t)p->K;
    const ez_gemm_f32_args g = {.a = rows, .a_stride = EZ_ROW_BLOCK, .rows = count, .columns = columns, .taps = 1, .channels = p->K, .w = w,
                                .panel_floats = (size_t)p->K * 16, .bias = bias, .y = y + (size_t)m * (size_t)p->N + n0, .y_stride = (size_t)p->N,
                                .lo = -INFINITY, .hi = INFINITY};
    isa->gemm_f32(&g);
  }
}

static void run_row_s8(void *context, int32_t item, int32_t thread) {
  (void)thread;
  const ez_matmul_job *job = context;
  const ez_matmul_params *p = job->p;
  const ez_step *s = job->run->step;
  const uint32_t sign = job->run->kernels->act_sign;
  const int32_t batch = item / p->M, m = item % p->M, zy = job->run->tensors[s->outputs[0]].zero_point;
  const int32_t za = job->run->tensors[s->inputs[0]].zero_point, zb = job->run->tensors[s->inputs[1]].zero_point;
  const uint8_t *a = job->run->data[s->inputs[0]] + (size_t)batch * (size_t)p->batch_stride_a + (size_t)m * (size_t)p->K;
  const uint8_t *b = job->run->data[s->inputs[1]] + (size_t)batch * (size_t)p->batch_stride_b;
  uint8_t *y = job->run->data[s->outputs[0]] + (size_t)batch * (size_t)p->batch_stride_y + (size_t)m * (size_t)p->N;
  for (int32_t n = 0; n < p->N; n++) {
    const uint8_t *column = p->transpose_b ? b + (size_t)n * (size_t)p->K : b + n;
    const size_t step = p->transpose_b ? 1 : (size_t)p->N;
    int32_t acc = 0;
    for (int32_t k = 0; k < p->K; k++) acc += (ez_load(a[k], sign) - za) * (ez_load(column[(size_t)k * step], sign) - zb);
    y[n] = ez_store(ez_requantize_s32(acc, p->scale, p->lo, p->hi, zy), sign);
  }
}

static void run_matmul(const ez_run *run) {
  ez_matmul_job job = {run, (const ez_matmul_params *)(const void *)run->step->params};
  if (run->tensors[run->step->inputs[0]].dtype == EZ_DTYPE_F32)
    ez_pool_run(run->pool, job.p->batch * ((job.p->N + 15) / 16), run_panel_f32, &job);
  else
    ez_pool_run(run->pool, job.p->batch * job.p->M, run_row_s8, &job);
}

static const char *matmul_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[0]].dtype == EZ_DTYPE_F32 ? kernels->gemm_f32->name : "portable";
}

const ez_op ez_op_matmul = {"matmul", check_matmul, run_matmul, matmul_kernel, sizeof(ez_matmul_params)};
