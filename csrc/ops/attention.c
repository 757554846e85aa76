/* softmax(factor * q k + mask) v of one head after another: a block of score rows lives and dies in scratch. The arithmetic is that of the
 * steps it stands for (matmul, binary, softmax, copy, matmul), with the panels of K and V packed once a piece of work. */
#include <math.h>
#include <string.h>

#include "core/panels.h"
#include "ops/operands.h"

enum { Q, K, V, MASK };
enum { OUTER, INNER, ROW, COLUMN };

#define ROWS 48 /* of scores at a time: with 512 keys 96 KiB, in the second-level cache */

static uint64_t align64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Offsets into scratch. */
typedef struct rooms {
  uint64_t k, v, scores, bytes, constants, all;
  size_t score_pitch, byte_pitch, wide; /* floats, bytes; floats of one array of constants */
} rooms;

static rooms rooms_of(const ez_attention_params *p, int qk_is_f32, int v_is_f32, uint32_t layout) {
  rooms r = {.score_pitch = (size_t)align64((uint64_t)p->N * 4) / 4 + 16, .byte_pitch = (size_t)align64((uint64_t)p->N) + 64};
  r.wide = (size_t)align64((uint64_t)(p->N > p->D ? p->N : p->D) * 4) / 4;
  r.v = qk_is_f32 ? ez_panels_f32_bytes(p->K, p->N) : ez_panels_s8_bytes(p->K, p->N, layout);
  r.scores = r.v + (v_is_f32 ? ez_panels_f32_bytes(p->N, p->D) : ez_panels_s8_bytes(p->N, p->D, layout));
  r.bytes = r.scores + ROWS * r.score_pitch * 4;
  r.constants = r.bytes + (v_is_f32 ? 0 : ROWS * r.byte_pitch);
  r.all = r.constants + 3 * r.wide * 4 + align64(ROWS * 4);
  return r;
}

static ez_status check_walk(ez_check *check, int32_t tensor, const char *field, const ez_attention_params *p, const int32_t *strides, int32_t rows, int32_t columns) {
  const int32_t dims[4] = {p->outer, p->inner, rows, columns};
  if (tensor == check->step->outputs[0]) return ez_check_walk_output(check, 4, dims, strides, 0);
  for (int i = 0; i < 4; i++)
    if (strides[i] < 0) return ez_check_fail(check, tensor, field, "stride %d is negative", i);
  return ez_check_walk(check, tensor, field, 4, dims, strides, 0);
}

static ez_status check_dtypes(ez_check *check) {
  const ez_tensor *q = ez_input_of(check, Q), *k = ez_input_of(check, K), *v = ez_input_of(check, V), *mask = ez_input_of(check, MASK), *y = ez_output_of(check);
  const ez_tensor *operands[3] = {q, k, v};
  for (int i = 0; i < 3; i++) {
    if (operands[i]->dtype != EZ_DTYPE_F32 && operands[i]->dtype != EZ_DTYPE_S8) return ez_check_fail(check, check->step->inputs[i], "dtype", "expected f32 or s8");
    if (operands[i]->dtype == EZ_DTYPE_S8 && operands[i]->place > EZ_IN_WEIGHTS) return ez_check_fail(check, check->step->inputs[i], "place", "s8 operands must be in the arena or the weights");
  }
  if (q->dtype != k->dtype) return ez_check_fail(check, check->step->inputs[K], "dtype", "differs from that of q");
  if (mask && mask->dtype != EZ_DTYPE_F32) return ez_check_fail(check, check->step->inputs[MASK], "dtype", "expected f32, got %d", mask->dtype);
  if (y->dtype != EZ_DTYPE_F32 && (v->dtype == EZ_DTYPE_F32 || y->dtype != EZ_DTYPE_S8)) return ez_check_fail(check, check->step->outputs[0], "dtype", "an f32 v gives f32, an s8 v s8 or f32");
  return ez_check_stored(check, check->step->outputs[0]);
}

static ez_status check_attention(ez_check *check) {
  const ez_step *s = check->step;
  ez_attention_params p;
  memcpy(&p, s->params, sizeof p);
  ez_status status = ez_check_operands(check, V + 1, MASK + 1);
  if (!status) status = check_dtypes(check);
  if (status) return status;
  const int qk_is_f32 = ez_input_of(check, Q)->dtype == EZ_DTYPE_F32, v_is_f32 = ez_input_of(check, V)->dtype == EZ_DTYPE_F32;
  if (p.outer < 1 || p.inner < 1 || p.M < 1 || p.N < 1 || p.K < 1 || p.D < 1) return ez_check_fail(check, -1, "M", "sizes must be positive");
  if ((int64_t)p.outer * p.inner > 1 << 24 || p.M > 1 << 28 || p.N > 1 << 24 || p.K > 1 << 24 || p.D > 1 << 24) return ez_check_fail(check, -1, "M", "too many matrices, rows or columns");
  if ((!qk_is_f32 && (int64_t)p.K * 65025 >= 1ll << 31) || (!v_is_f32 && (int64_t)p.N * 65025 >= 1ll << 31)) return ez_check_fail(check, -1, "K", "products may leave 32 bits");
  if (p.stride_q[COLUMN] != 1 || p.stride_y[COLUMN] != 1) return ez_check_fail(check, -1, "stride_q", "columns of q and y must lie side by side");
  if (ez_input_of(check, MASK) && p.stride_mask[COLUMN] != 1) return ez_check_fail(check, -1, "stride_mask", "columns of the mask must lie side by side");
  if (!isfinite(p.factor) || p.divides < 0 || p.divides > 1) return ez_check_fail(check, -1, "factor", "must be finite, and divides 0 or 1");
  status = check_walk(check, s->inputs[Q], "stride_q", &p, p.stride_q, p.M, p.K);
  if (!status) status = check_walk(check, s->inputs[K], "stride_k", &p, p.stride_k, p.K, p.N);
  if (!status) status = check_walk(check, s->inputs[V], "stride_v", &p, p.stride_v, p.N, p.D);
  if (!status && ez_input_of(check, MASK)) status = check_walk(check, s->inputs[MASK], "stride_mask", &p, p.stride_mask, p.M, p.N);
  if (!status) status = check_walk(check, s->outputs[0], "stride_y", &p, p.stride_y, p.M, p.D);
  if (!status && !qk_is_f32) status = ez_check_requantize(check, p.scale_scores, p.lo, p.hi);
  if (!status && !v_is_f32) status = ez_check_requantize(check, p.scale, p.lo, p.hi);
  if (!status && !v_is_f32) status = ez_check_requantize(check, p.scale_p, p.zero_p, p.zero_p);
  check->scratch_needed = rooms_of(&p, qk_is_f32, v_is_f32, check->header->layout).all;
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_attention_params *p;
  rooms rooms;
  int32_t chunk, chunks; /* rows of a piece of work, pieces of a head */
} job;

/* One head at work. */
typedef struct head {
  const job *job;
  uint8_t *scratch;
  const uint8_t *q;
  const float *mask;
  uint8_t *y;
  ez_panels_s8 k_panels, v_panels;
  const float *k_floats, *v_floats;
  float *scale_scores, *scale_y, *zeros, *unit;
} head;

static const ez_tensor *tensor_of(const job *j, int which) { return &j->run->tensors[j->run->step->inputs[which]]; }
static int is_f32(const ez_tensor *t) { return t->dtype == EZ_DTYPE_F32; }

static uint8_t *start_of(const job *j, int32_t tensor, const int32_t *strides, int32_t index) {
  const size_t at = (size_t)(index / j->p->inner) * (size_t)strides[OUTER] + (size_t)(index % j->p->inner) * (size_t)strides[INNER];
  return j->run->data[tensor] + at * ez_element_bytes(j->run->tensors[tensor].dtype);
}

static void fill(float *to, size_t n, float value) {
  for (size_t i = 0; i < n; i++) to[i] = value;
}

static head head_of(const job *j, int32_t index, uint8_t *scratch) {
  const ez_attention_params *p = j->p;
  const ez_step *s = j->run->step;
  const ez_kernels *kernels = j->run->kernels;
  const rooms *r = &j->rooms;
  head h = {.job = j, .scratch = scratch, .q = start_of(j, s->inputs[Q], p->stride_q, index), .y = start_of(j, s->outputs[0], p->stride_y, index)};
  if (s->n_inputs > MASK && s->inputs[MASK] >= 0) h.mask = (const float *)(const void *)start_of(j, s->inputs[MASK], p->stride_mask, index);
  const ez_matrix k = {start_of(j, s->inputs[K], p->stride_k, index), (size_t)p->stride_k[ROW], (size_t)p->stride_k[COLUMN], p->K, p->N};
  const ez_matrix v = {start_of(j, s->inputs[V], p->stride_v, index), (size_t)p->stride_v[ROW], (size_t)p->stride_v[COLUMN], p->N, p->D};
  h.k_floats = (const float *)(const void *)scratch, h.v_floats = (const float *)(const void *)(scratch + r->v);
  if (is_f32(tensor_of(j, K))) ez_pack_panels_f32(kernels, &k, (float *)(void *)scratch);
  else h.k_panels = ez_pack_panels_s8(kernels, &k, tensor_of(j, Q)->zero_point, tensor_of(j, K)->zero_point, scratch);
  if (is_f32(tensor_of(j, V))) ez_pack_panels_f32(kernels, &v, (float *)(void *)(scratch + r->v));
  else h.v_panels = ez_pack_panels_s8(kernels, &v, p->zero_p, tensor_of(j, V)->zero_point, scratch + r->v);
  float *constants = (float *)(void *)(scratch + r->constants);
  h.scale_scores = constants, h.scale_y = constants + r->wide, h.zeros = constants + 2 * r->wide, h.unit = constants + 3 * r->wide;
  fill(h.scale_scores, r->wide, p->scale_scores), fill(h.scale_y, r->wide, p->scale), fill(h.zeros, r->wide, 0.0f), fill(h.unit, ROWS, 1.0f);
  return h;
}

/* rows[r] (count of them, K floats each) by N columns. */
static void multiply_f32(const head *h, const float *const *rows, int32_t count, int32_t depth, int32_t columns, const float *w, float *y, size_t stride) {
  const ez_isa *isa = h->job->run->kernels->gemm_f32;
  const int32_t width = 16 * isa->gemm_f32_panels;
  ez_gemm_f32_args args = {.a_stride = ROWS, .taps = 1, .channels = depth, .panel_floats = (size_t)depth * 16, .bias = h->zeros, .y_stride = stride,
                           .lo = -INFINITY, .hi = INFINITY};
  for (int32_t n0 = 0; n0 < columns; n0 += width) {
    args.columns = columns - n0 < width ? columns - n0 : width, args.w = w + (size_t)n0 * (size_t)depth;
    for (int32_t r = 0; r < count; r += isa->gemm_f32_rows) {
      args.a = rows + r, args.rows = count - r < isa->gemm_f32_rows ? count - r : isa->gemm_f32_rows, args.y = y + (size_t)r * stride + n0;
      isa->gemm_f32(&args);
    }
  }
}

/* The same of bytes. The result goes to `floats`, or as int8 to `bytes`. */
static void multiply_s8(const head *h, const uint8_t *const *rows, size_t row_step, int32_t count, int32_t depth, int32_t columns, const ez_panels_s8 *w,
                        const float *mult, float *floats, uint8_t *bytes, size_t stride) {
  const ez_kernels *kernels = h->job->run->kernels;
  const ez_isa *isa = kernels->gemm_s8;
  const ez_attention_params *p = h->job->p;
  const int32_t width = 16 * isa->gemm_s8_panels;
  ez_gemm_s8_args args = {.a_stride = ROWS, .row_step = row_step, .taps = w->taps, .channels = depth, .panel_bytes = w->panel_bytes, .row_scale = h->unit,
                          .addend = h->zeros, .y_stride = stride, .lo = p->lo, .hi = p->hi,
                          .zero_point = h->job->run->tensors[h->job->run->step->outputs[0]].zero_point, .small_mult = mult[0] < 1.0f,
                          .layout = (int32_t)kernels->layout, .act_sign = kernels->act_sign};
  for (int32_t n0 = 0; n0 < columns; n0 += width) {
    args.columns = columns - n0 < width ? columns - n0 : width, args.w = w->w + (size_t)(n0 / 16) * w->panel_bytes;
    args.bias = w->bias + n0, args.mult = mult + n0;
    for (int32_t r = 0; r < count; r += isa->gemm_s8_rows) {
      args.a = rows + r, args.rows = count - r < isa->gemm_s8_rows ? count - r : isa->gemm_s8_rows;
      const size_t at = (size_t)r * stride + (size_t)n0;
      args.y_f32 = floats ? floats + at : NULL, args.y = bytes ? bytes + at : NULL;
      isa->gemm_s8(&args);
    }
  }
}

/* Pointers to `count` rows of bytes, once for each tap. */
static void point(const uint8_t **rows, const uint8_t *first, size_t step, int32_t count, int32_t taps) {
  for (int32_t t = 0; t < taps; t++)
    for (int32_t r = 0; r < count; r++) rows[t * ROWS + r] = first + (size_t)r * step;
}

/* Rows [first, first + count) of one head. */
static void attend(const head *h, int32_t first, int32_t count) {
  const job *j = h->job;
  const ez_attention_params *p = j->p;
  const ez_rows *kernels = &j->run->kernels->rows;
  const rooms *r = &j->rooms;
  const uint8_t *rows[3 * ROWS];
  float *scores = (float *)(void *)(h->scratch + r->scores);
  uint8_t *bytes = h->scratch + r->bytes;
  const size_t step = (size_t)p->stride_q[ROW] * ez_element_bytes(tensor_of(j, Q)->dtype);
  const int scores_f32 = is_f32(tensor_of(j, Q)), values_f32 = is_f32(tensor_of(j, V));
  point(rows, h->q + (size_t)first * step, step, count, scores_f32 ? 1 : h->k_panels.taps);
  if (scores_f32) multiply_f32(h, (const float *const *)(const void *)rows, count, p->K, p->N, h->k_floats, scores, r->score_pitch);
  else multiply_s8(h, rows, step, count, p->K, p->N, &h->k_panels, h->scale_scores, scores, NULL, r->score_pitch);
  for (int32_t i = 0; i < count; i++) {
    float *row = scores + (size_t)i * r->score_pitch;
    kernels->attend_f32(row, h->mask ? h->mask + (size_t)(first + i) * (size_t)p->stride_mask[ROW] : NULL, p->factor, p->divides, row, (size_t)p->N);
    if (!values_f32) kernels->quantize(row, bytes + (size_t)i * r->byte_pitch, (size_t)p->N, j->run->kernels->act_sign, p->scale_p, p->zero_p, -128, 127);
  }
  const size_t stride = (size_t)p->stride_y[ROW], at = (size_t)first * stride;
  if (values_f32) {
    point(rows, (const uint8_t *)scores, r->score_pitch * sizeof(float), count, 1);
    multiply_f32(h, (const float *const *)(const void *)rows, count, p->N, p->D, h->v_floats, (float *)(void *)h->y + at, stride);
    return;
  }
  const int gives_f32 = is_f32(&j->run->tensors[j->run->step->outputs[0]]);
  point(rows, bytes, r->byte_pitch, count, h->v_panels.taps);
  multiply_s8(h, rows, r->byte_pitch, count, p->N, p->D, &h->v_panels, h->scale_y, gives_f32 ? (float *)(void *)h->y + at : NULL, gives_f32 ? NULL : h->y + at, stride);
}

static void run_item(void *context, int32_t item, int32_t thread) {
  const job *j = context;
  const head h = head_of(j, item / j->chunks, j->run->scratch + (size_t)thread * j->run->scratch_bytes);
  const int32_t begin = item % j->chunks * j->chunk, end = begin + j->chunk < j->p->M ? begin + j->chunk : j->p->M;
  for (int32_t row = begin; row < end; row += ROWS) attend(&h, row, end - row < ROWS ? end - row : ROWS);
}

static void run_attention(const ez_run *run) {
  job j = {.run = run, .p = (const ez_attention_params *)(const void *)run->step->params};
  const int32_t heads = j.p->outer * j.p->inner, threads = ez_pool_threads(run->pool), blocks = (j.p->M + ROWS - 1) / ROWS;
  const int32_t wanted = threads == 1 || heads >= 2 * threads ? 1 : (2 * threads + heads - 1) / heads, cuts = wanted < blocks ? wanted : blocks;
  j.rooms = rooms_of(j.p, is_f32(tensor_of(&j, Q)), is_f32(tensor_of(&j, V)), run->kernels->layout);
  j.chunk = (blocks + cuts - 1) / cuts * ROWS;
  j.chunks = (j.p->M + j.chunk - 1) / j.chunk;
  ez_pool_run(run->pool, heads * j.chunks, run_item, &j);
}

static const char *attention_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return tensors[step->inputs[V]].dtype == EZ_DTYPE_F32 ? kernels->gemm_f32->name : kernels->gemm_s8->name;
}

const ez_op ez_op_attention = {"attention", check_attention, run_attention, attention_kernel, sizeof(ez_attention_params)};
