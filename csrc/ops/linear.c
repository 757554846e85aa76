/* Product of rows with constant int8 weights, result in float: rows that are int8 already, or float rows that are quantised here, each
 * with its own scale (EZ-N1 rule 8). A work item is a block of rows by a range of panels; what is quantised stays in its scratch. */
#include <string.h>

#include "core/blocks.h"
#include "ops/operands.h"

enum { X, W, BIAS, MULT, ADDEND };

#define MOST_ROWS 96             /* of a block, as in core/conv_driver.c */
#define LEAST_ROWS 12
#define BLOCK_BYTES (256 * 1024) /* of quantised rows, unless LEAST_ROWS need more */

static uint64_t pitch_of(int32_t k) { return ((uint64_t)k + 63) / 64 * 64 + 64; } /* never a multiple of 4096 for powers of two */

static int32_t block_rows(int32_t k) {
  const uint64_t rows = BLOCK_BYTES / pitch_of(k);
  return rows < LEAST_ROWS ? LEAST_ROWS : rows > MOST_ROWS ? MOST_ROWS : (int32_t)rows;
}

static uint64_t k_steps(int32_t k, uint32_t layout) {
  const uint64_t step = layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  return ((uint64_t)k + step - 1) / step;
}

static uint64_t panel_bytes(int32_t k, uint32_t layout) { return k_steps(k, layout) * (layout == EZ_LAYOUT_K8N16 ? 128 : 64); }

static ez_status check_linear(ez_check *check) {
  ez_status status = ez_check_operands(check, ADDEND + 1, ADDEND + 1);
  if (status) return status;
  const int32_t in = check->step->inputs[X], out = check->step->outputs[0];
  const ez_tensor *x = ez_input_of(check, X), *y = ez_output_of(check);
  const int32_t k = ez_columns_of(x), n = ez_columns_of(y);
  const uint64_t panels = ((uint64_t)n + 15) / 16;
  if (x->dtype != EZ_DTYPE_S8 && x->dtype != EZ_DTYPE_F32) return ez_check_fail(check, in, "dtype", "expected s8 or f32, got %d", x->dtype);
  status = ez_check_dtype(check, out, EZ_DTYPE_F32);
  if (!status) status = ez_check_stored(check, in);
  if (status) return status;
  if (k > 1 << 24 || panels * 16 > 1u << 28) return ez_check_fail(check, -1, "dims", "%d by %d weights are too many", k, n);
  if (ez_rows_of(x) != ez_rows_of(y)) return ez_check_fail(check, out, "dims", "rows differ from those of the input");
  if (ez_rows_of(x) > 1 << 30) return ez_check_fail(check, in, "dims", "more than 2^30 rows");
  status = ez_check_weights(check, W, panels, k_steps(k, check->header->layout));
  if (!status) status = ez_check_constant(check, BIAS, EZ_DTYPE_S32, (int64_t)panels * 16);
  if (!status) status = ez_check_constant(check, MULT, EZ_DTYPE_F32, (int64_t)panels * 16);
  if (!status) status = ez_check_constant(check, ADDEND, EZ_DTYPE_F32, (int64_t)panels * 16);
  check->scratch_needed = MOST_ROWS * (sizeof(void *) < 8 ? 8 : sizeof(void *)) + MOST_ROWS * sizeof(float);
  if (x->dtype == EZ_DTYPE_F32) check->scratch_needed += (uint64_t)block_rows(k) * pitch_of(k);
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_tensor *x, *y;
  int64_t rows;
  int32_t k, n, block, blocks, panels, chunk, chunks;
} job;

/* Pointers to the rows of a block, and their scales. */
static void prepare_rows(const job *j, int64_t first, int32_t count, uint8_t *scratch, const uint8_t **a, float *scales) {
  const uint8_t *x = j->run->data[j->run->step->inputs[X]];
  const size_t stride = (size_t)j->x->row_stride, pitch = (size_t)pitch_of(j->k);
  for (int32_t r = 0; r < count; r++) {
    const size_t at = ((size_t)first + (size_t)r) * stride;
    a[r] = j->x->dtype == EZ_DTYPE_S8 ? x + at : scratch + (size_t)r * pitch;
    scales[r] = 1.0f;
    if (j->x->dtype == EZ_DTYPE_F32)
      scales[r] = j->run->kernels->rows.quantize_row((const float *)(const void *)x + at, scratch + (size_t)r * pitch, (size_t)j->k, j->run->kernels->act_sign);
  }
}

static void run_item(void *context, int32_t item, int32_t thread) {
  const job *j = context;
  const ez_kernels *kernels = j->run->kernels;
  const ez_isa *isa = kernels->gemm_s8;
  const ez_step *s = j->run->step;
  const int64_t first = (int64_t)(item / j->chunks) * j->block;
  const int32_t count = j->rows - first < j->block ? (int32_t)(j->rows - first) : j->block;
  const int32_t panel = item % j->chunks * j->chunk, end = panel + j->chunk < j->panels ? panel + j->chunk : j->panels;
  uint8_t *scratch = j->run->scratch + (size_t)thread * j->run->scratch_bytes;
  const uint8_t **a = (const uint8_t **)(void *)scratch;
  float *scales = (float *)(void *)(scratch + MOST_ROWS * (sizeof(void *) < 8 ? 8 : sizeof(void *)));
  prepare_rows(j, first, count, (uint8_t *)(scales + MOST_ROWS), a, scales);
  const size_t bytes = (size_t)panel_bytes(j->k, kernels->layout);
  ez_gemm_s8_args args = {.a_stride = MOST_ROWS, .taps = 1, .channels = j->k, .panel_bytes = bytes, .y_stride = (size_t)j->y->row_stride,
                          .layout = (int32_t)kernels->layout, .act_sign = kernels->act_sign, .prepared = j->run->prepared};
  const ez_blocks blocks = j->run->blocks ? ez_blocks_of(j->run->blocks) : (ez_blocks){0};
  void (*const product)(const ez_gemm_s8_args *) = j->run->blocks ? isa->blocks_s8 : isa->gemm_s8;
  args.row_step = count > 1 ? (size_t)(a[1] - a[0]) : 0;
  for (int32_t q = panel; q < end; q += isa->gemm_s8_panels) {
    args.columns = j->n - 16 * q < 16 * isa->gemm_s8_panels ? j->n - 16 * q : 16 * isa->gemm_s8_panels;
    args.panel = q;
    args.w = blocks.head ? blocks.values : (const int8_t *)j->run->data[s->inputs[W]] + (size_t)q * bytes;
    args.starts = blocks.head ? blocks.starts + q : NULL, args.index = blocks.index;
    args.bias = (const int32_t *)(const void *)j->run->data[s->inputs[BIAS]] + 16 * (size_t)q;
    args.mult = (const float *)(const void *)j->run->data[s->inputs[MULT]] + 16 * (size_t)q;
    args.addend = (const float *)(const void *)j->run->data[s->inputs[ADDEND]] + 16 * (size_t)q;
    float *y = (float *)(void *)j->run->data[s->outputs[0]] + (size_t)first * args.y_stride + 16 * (size_t)q;
    for (int32_t r = 0; r < count; r += isa->gemm_s8_rows) {
      args.a = a + r, args.row_scale = scales + r, args.y_f32 = y + (size_t)r * args.y_stride;
      args.rows = count - r < isa->gemm_s8_rows ? count - r : isa->gemm_s8_rows;
      product(&args);
    }
  }
}

static void run_linear(const ez_run *run) {
  const ez_step *s = run->step;
  job j = {.run = run, .x = &run->tensors[s->inputs[X]], .y = &run->tensors[s->outputs[0]]};
  const int32_t threads = ez_pool_threads(run->pool), step = run->kernels->gemm_s8->gemm_s8_panels;
  j.rows = ez_rows_of(j.x), j.k = ez_columns_of(j.x), j.n = ez_columns_of(j.y), j.panels = (j.n + 15) / 16;
  j.block = block_rows(j.k);
  j.blocks = (int32_t)((j.rows + j.block - 1) / j.block);
  const int32_t units = (j.panels + step - 1) / step;
  const int32_t cuts = threads == 1 || j.blocks >= 2 * threads ? 1 : (2 * threads + j.blocks - 1) / j.blocks;
  j.chunk = (units + cuts - 1) / cuts * step;
  j.chunks = (j.panels + j.chunk - 1) / j.chunk;
  ez_pool_run(run->pool, j.blocks * j.chunks, run_item, &j);
}

static const char *linear_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  (void)step, (void)tensors;
  return kernels->gemm_s8->name;
}

const ez_op ez_op_linear = {"linear", check_linear, run_linear, linear_kernel, 0};
