/* Product of float rows, quantised here each with its own scale (EZ-N1 rule 8), with weights of 4 or 2 bits that stay packed.
 *
 * Few rows (the table of the instruction set says how many): its kernel multiplies the codes as they are. More rows: a block of K of some
 * panels is unpacked into scratch once for up to MOST_ROWS rows, multiplied by the int8 kernel, and added with its scales. Either way the
 * sums of a block are exact and blocks come in their order, so both give the same bits. A work item is a block of rows by a range of
 * panels. */
#include "isa/codes.h"

#include <string.h>

#include "ops/operands.h"

enum { X, CODES, MULT, ADDEND };

#define MOST_ROWS 96                /* of a block */
#define BLOCK_BYTES (256 * 1024)    /* of quantised rows, unless EZ_CODES_ROWS need more */
#define UNPACKED_BYTES (32 * 1024)  /* of unpacked weights, unless one panel needs more */
#define MOST_PANELS 8

typedef struct plan {
  ez_codes_form form;
  int64_t rows;
  int32_t k, n, blocks, panels; /* blocks of K, panels of N */
  int32_t block_rows, block_panels;
  uint64_t pitch, panel_bytes;
} plan;

static int32_t entry_of(const ez_codes_params *p, int32_t code) { return code < 8 ? p->low[code] : p->high[code - 8]; }

static ez_codes_form form_of(const ez_step *step) {
  const ez_codes_params *p = (const ez_codes_params *)(const void *)step->params;
  ez_codes_form form = {.bits = p->bits, .block = p->block, .is_uniform = 1, .offset = -p->low[0]};
  for (int32_t i = 0; i < 16; i++) {
    form.table[i] = (int8_t)entry_of(p, i);
    if (i < 1 << form.bits && form.table[i] != i - form.offset) form.is_uniform = 0;
  }
  return form;
}

static int32_t within(int64_t n, int32_t least, int32_t most) { return n < least ? least : n > most ? most : (int32_t)n; }

static plan plan_of(const ez_step *step, const ez_tensor *x, const ez_tensor *y) {
  plan p = {.form = form_of(step), .rows = ez_rows_of(x), .k = ez_columns_of(x), .n = ez_columns_of(y)};
  p.blocks = (p.k + p.form.block - 1) / p.form.block, p.panels = (p.n + 15) / 16;
  p.pitch = (uint64_t)p.blocks * (uint64_t)p.form.block + 64; /* never a multiple of 4096 for powers of two */
  p.panel_bytes = (uint64_t)p.blocks * ez_codes_block_bytes(p.form.bits, p.form.block);
  p.block_rows = within((int64_t)(BLOCK_BYTES / p.pitch), EZ_CODES_ROWS, MOST_ROWS);
  p.block_panels = within(UNPACKED_BYTES / (16 * p.form.block), 1, MOST_PANELS);
  return p;
}

static uint64_t up64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

#define POINTER_ROOM 8 /* the same on 32 bits: a file states its scratch for every processor */

/* Scratch: pointers, scales and sums of rows; quantised rows; then unpacked weights, their products and their sum so far. */
static uint64_t rows_offset(const plan *p) {
  return up64(MOST_ROWS * (POINTER_ROOM + sizeof(float)) + (uint64_t)p->block_rows * (uint64_t)p->blocks * sizeof(int32_t));
}
static uint64_t unpacked_offset(const plan *p) { return rows_offset(p) + up64((uint64_t)p->block_rows * p->pitch); }
static uint64_t products_offset(const plan *p) { return unpacked_offset(p) + up64((uint64_t)p->block_panels * 16 * (uint64_t)p->form.block + EZ_OVERREAD); }
static uint64_t products_bytes(const plan *p) { return (uint64_t)p->block_rows * 16 * (uint64_t)p->block_panels * sizeof(float); }

static ez_status check_form(ez_check *check) {
  const ez_codes_params *p = (const ez_codes_params *)(const void *)check->step->params;
  if (p->bits != 4 && p->bits != 2) return ez_check_fail(check, -1, "bits", "expected 4 or 2, got %d", p->bits);
  if (p->block < 32 || p->block % 32 || p->block > EZ_MOST_CODES_BLOCK)
    return ez_check_fail(check, -1, "block", "expected a multiple of 32 up to %d, got %d", EZ_MOST_CODES_BLOCK, p->block);
  for (int32_t i = 0; i < 16; i++) {
    const int32_t entry = entry_of(p, i), most = i < 1 << p->bits ? 127 : 0;
    if (entry < -most || entry > most) return ez_check_fail(check, -1, "table", "entry %d is %d, expected -%d to %d", i, entry, most, most);
  }
  return EZ_OK;
}

static ez_status check_codes(ez_check *check) {
  ez_status status = ez_check_operands(check, ADDEND + 1, ADDEND + 1);
  if (!status) status = check_form(check);
  if (status) return status;
  const int32_t in = check->step->inputs[X], out = check->step->outputs[0];
  const ez_tensor *x = ez_input_of(check, X), *y = ez_output_of(check);
  status = ez_check_dtype(check, in, EZ_DTYPE_F32);
  if (!status) status = ez_check_dtype(check, out, EZ_DTYPE_F32);
  if (status) return status;
  if (ez_columns_of(x) > 1 << 24 || ez_columns_of(y) > (1 << 28) - 16)
    return ez_check_fail(check, -1, "dims", "%d by %d weights are too many", ez_columns_of(x), ez_columns_of(y));
  if (ez_rows_of(x) != ez_rows_of(y)) return ez_check_fail(check, out, "dims", "rows differ from those of the input");
  if (ez_rows_of(x) > 1 << 30) return ez_check_fail(check, in, "dims", "more than 2^30 rows");
  const plan p = plan_of(check->step, x, y);
  status = ez_check_constant(check, CODES, EZ_DTYPE_U8, (int64_t)((uint64_t)p.panels * p.panel_bytes));
  if (!status) status = ez_check_constant(check, MULT, EZ_DTYPE_F32, (int64_t)p.panels * 16);
  if (!status) status = ez_check_constant(check, ADDEND, EZ_DTYPE_F32, (int64_t)p.panels * 16);
  check->scratch_needed = products_offset(&p) + 2 * products_bytes(&p);
  return status;
}

typedef struct job {
  const ez_run *run;
  plan plan;
  size_t x_stride, y_stride;
  int32_t blocks, chunk, chunks; /* blocks of rows; panels of a chunk, chunks of a block */
} job;

/* One item's view of its scratch and operands. */
typedef struct item {
  const plan *plan;
  const ez_kernels *kernels;
  int32_t count; /* of rows */
  const uint8_t **a;
  float *scales, *products, *sum;
  int32_t *sums;
  uint8_t *rows;
  int8_t *unpacked;
  const uint8_t *codes;
  const float *mult, *addend;
  float *y; /* of its first row */
  size_t y_stride;
} item;

/* Rows in int8 with zeros up to the end of the last block; `sign` is XORed in. */
static void quantise(const item *it, const float *x, size_t stride, uint32_t sign) {
  const plan *p = it->plan;
  for (int32_t r = 0; r < it->count; r++) {
    uint8_t *row = it->rows + (size_t)r * p->pitch;
    it->scales[r] = it->kernels->rows.quantize_row(x + (size_t)r * stride, row, (size_t)p->k, sign);
    memset(row + p->k, (int)sign, (size_t)(p->pitch - (uint64_t)p->k));
    it->a[r] = row;
  }
}

/* Rows by rows over one panel after another, so that it is still near when the next rows need it. */
static void run_few(const item *it, int32_t panel, int32_t end) {
  const plan *p = it->plan;
  for (int32_t r = 0; r < it->count; r++)
    for (int32_t g = 0; g < p->blocks; g++) {
      const int8_t *a = (const int8_t *)it->a[r] + (size_t)g * (size_t)p->form.block;
      int32_t total = 0;
      for (int32_t k = 0; k < p->form.block; k++) total += a[k];
      it->sums[r * p->blocks + g] = total;
    }
  const int32_t step = it->count <= EZ_CODES_ROWS ? end - panel : 1;
  for (int32_t q = panel; q < end; q += step)
    for (int32_t r = 0; r < it->count; r += EZ_CODES_ROWS) {
      const ez_codes_args args = {.form = p->form, .rows = it->count - r < EZ_CODES_ROWS ? it->count - r : EZ_CODES_ROWS,
                                  .columns = (p->n < 16 * (q + step) ? p->n : 16 * (q + step)) - 16 * q, .blocks = p->blocks,
                                  .a = (const int8_t *)it->a[r], .a_stride = (size_t)p->pitch, .sums = it->sums + r * p->blocks, .row_scale = it->scales + r,
                                  .w = it->codes + (size_t)q * p->panel_bytes, .panel_bytes = (size_t)p->panel_bytes, .mult = it->mult + 16 * q,
                                  .addend = it->addend + 16 * q, .y = it->y + (size_t)r * it->y_stride + 16 * (size_t)q, .y_stride = it->y_stride};
      it->kernels->codes->gemv(&args);
    }
}

/* Products of block g with `panels` panels from `panel` on, added to the sum. */
static void add_block(const item *it, int32_t panel, int32_t panels, int32_t g) {
  static const float one[16 * MOST_PANELS > MOST_ROWS ? 16 * MOST_PANELS : MOST_ROWS] = {
#define ONES 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1
      ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES};
  static const float zero[16 * MOST_PANELS];
  const plan *p = it->plan;
  const ez_isa *isa = it->kernels->gemm_s8;
  int32_t bias[16 * MOST_PANELS];
  const uint8_t *codes = it->codes + (size_t)panel * p->panel_bytes + (size_t)g * ez_codes_block_bytes(p->form.bits, p->form.block);
  const size_t bytes = 16 * (size_t)p->form.block, stride = 16 * (size_t)panels;
  for (int32_t i = 0; i < panels; i++)
    it->kernels->codes->decode(&p->form, codes + (size_t)i * p->panel_bytes + EZ_CODES_SCALE_BYTES, it->kernels->layout, it->unpacked + (size_t)i * bytes, bias + 16 * i);
  for (int32_t n = 0; n < 16 * panels; n++) bias[n] = it->kernels->act_sign ? (int32_t)(0u - 128u * (uint32_t)bias[n]) : 0;
  ez_gemm_s8_args args = {.a_stride = MOST_ROWS, .row_step = (size_t)p->pitch, .taps = 1, .channels = p->form.block, .panel_bytes = bytes,
                          .mult = one, .addend = zero, .row_scale = one, .y_stride = stride,
                          .layout = (int32_t)it->kernels->layout, .act_sign = it->kernels->act_sign};
  const uint8_t *a[MOST_ROWS];
  for (int32_t r = 0; r < it->count; r++) a[r] = it->a[r] + (size_t)g * (size_t)p->form.block;
  for (int32_t q = 0; q < panels; q += isa->gemm_s8_panels) {
    args.columns = 16 * (panels - q < isa->gemm_s8_panels ? panels - q : isa->gemm_s8_panels);
    args.w = it->unpacked + (size_t)q * bytes, args.bias = bias + 16 * q;
    for (int32_t r = 0; r < it->count; r += isa->gemm_s8_rows) {
      args.a = a + r, args.y_f32 = it->products + (size_t)r * stride + 16 * (size_t)q;
      args.rows = it->count - r < isa->gemm_s8_rows ? it->count - r : isa->gemm_s8_rows;
      isa->gemm_s8(&args);
    }
  }
  for (int32_t i = 0; i < panels; i++)
    it->kernels->codes->add_block(codes + (size_t)i * p->panel_bytes, it->products + 16 * i, stride, it->sum + 16 * i, stride, it->count);
}

static void run_many(const item *it, int32_t panel, int32_t end) {
  const plan *p = it->plan;
  for (int32_t q = panel; q < end; q += p->block_panels) {
    const int32_t panels = end - q < p->block_panels ? end - q : p->block_panels, columns = p->n - 16 * q < 16 * panels ? p->n - 16 * q : 16 * panels;
    const size_t stride = 16 * (size_t)panels;
    memset(it->sum, 0, (size_t)it->count * stride * sizeof *it->sum);
    for (int32_t g = 0; g < p->blocks; g++) add_block(it, q, panels, g);
    for (int32_t r = 0; r < it->count; r++)
      for (int32_t n = 0; n < columns; n++)
        it->y[(size_t)r * it->y_stride + 16 * (size_t)q + (size_t)n] =
            it->sum[(size_t)r * stride + (size_t)n] * it->scales[r] * it->mult[16 * q + n] + it->addend[16 * q + n];
  }
}

static void run_item(void *context, int32_t index, int32_t thread) {
  const job *j = context;
  const plan *p = &j->plan;
  const ez_step *s = j->run->step;
  uint8_t *const *data = j->run->data, *scratch = j->run->scratch + (size_t)thread * j->run->scratch_bytes;
  const int64_t first = (int64_t)(index / j->chunks) * p->block_rows;
  const int32_t panel = index % j->chunks * j->chunk, end = panel + j->chunk < p->panels ? panel + j->chunk : p->panels;
  item it = {.plan = p, .kernels = j->run->kernels, .count = p->rows - first < p->block_rows ? (int32_t)(p->rows - first) : p->block_rows,
             .a = (const uint8_t **)(void *)scratch, .rows = scratch + rows_offset(p), .unpacked = (int8_t *)(scratch + unpacked_offset(p)),
             .codes = data[s->inputs[CODES]], .mult = (const float *)(const void *)data[s->inputs[MULT]],
             .addend = (const float *)(const void *)data[s->inputs[ADDEND]], .y_stride = j->y_stride};
  it.scales = (float *)(void *)(scratch + MOST_ROWS * POINTER_ROOM);
  it.sums = (int32_t *)(void *)(it.scales + MOST_ROWS);
  it.products = (float *)(void *)(scratch + products_offset(p)), it.sum = it.products + products_bytes(p) / sizeof(float);
  it.y = (float *)(void *)data[s->outputs[0]] + (size_t)first * j->y_stride;
  const int is_few = it.count <= (p->form.is_uniform ? it.kernels->codes->most_uniform : it.kernels->codes->most_codebook);
  quantise(&it, (const float *)(const void *)data[s->inputs[X]] + (size_t)first * j->x_stride, j->x_stride, is_few ? 0 : it.kernels->act_sign);
  if (is_few) run_few(&it, panel, end);
  else run_many(&it, panel, end);
}

static void run_codes(const ez_run *run) {
  const ez_tensor *x = &run->tensors[run->step->inputs[X]], *y = &run->tensors[run->step->outputs[0]];
  job j = {.run = run, .plan = plan_of(run->step, x, y), .x_stride = (size_t)x->row_stride, .y_stride = (size_t)y->row_stride};
  const int32_t threads = ez_pool_threads(run->pool), step = j.plan.block_panels;
  j.blocks = (int32_t)((j.plan.rows + j.plan.block_rows - 1) / j.plan.block_rows);
  const int32_t units = (j.plan.panels + step - 1) / step;
  const int32_t cuts = threads == 1 || j.blocks >= 2 * threads ? 1 : (2 * threads + j.blocks - 1) / j.blocks;
  j.chunk = (units + cuts - 1) / cuts * step;
  j.chunks = (j.plan.panels + j.chunk - 1) / j.chunk;
  ez_pool_run(run->pool, j.blocks * j.chunks, run_item, &j);
}

static const char *codes_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  (void)step, (void)tensors;
  return kernels->codes->name;
}

const ez_op ez_op_codes = {"codes", check_codes, run_codes, codes_kernel, sizeof(ez_codes_params)};
