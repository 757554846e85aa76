/* Maximum and average over windows, NHWC: the result is a row operation over what its windows see. Pixels whose windows lie inside go
 * together: as one long row where windows move by one pixel, else by one call that steps from pixel to pixel; those at the borders go one by
 * one. A large window's maximum is taken down first, into a line of scratch, then across: 5 + 5 reads instead of 25. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"

#define TAPS 64      /* pointers gathered before a row kernel is called */
#define CHANNELS 512 /* sums kept on the stack */

static ez_status check_geometry(ez_check *check, const ez_pool_params *p) {
  const int32_t positive[] = {p->kernel_h, p->kernel_w, p->stride_h, p->stride_w, p->dilation_h, p->dilation_w};
  const int32_t pads[] = {p->pad_top, p->pad_left, p->pad_bottom, p->pad_right};
  for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
    if (positive[i] < 1 || positive[i] > 65536) return ez_check_fail(check, -1, "kernel_h", "kernel, stride and dilation must be in [1, 65536]; value %zu is %d", i, positive[i]);
  for (size_t i = 0; i < sizeof pads / sizeof *pads; i++)
    if (pads[i] < -(1 << 24) || pads[i] > 1 << 24) return ez_check_fail(check, -1, "pad_top", "padding %d is out of range", pads[i]);
  if ((int64_t)p->kernel_h * p->kernel_w > 1 << 22) return ez_check_fail(check, -1, "kernel_h", "more than 2^22 taps");
  const ez_tensor *x = ez_input_of(check, 0), *y = ez_output_of(check);
  if (x->rank != 4 || y->rank != 4) return ez_check_fail(check, check->step->inputs[0], "rank", "expected NHWC, got %d and %d axes", x->rank, y->rank);
  if (x->dims[0] != y->dims[0] || x->dims[3] != y->dims[3])
    return ez_check_fail(check, check->step->outputs[0], "dims", "batch and channels must be those of the input, %d and %d", x->dims[0], x->dims[3]);
  if ((int64_t)y->dims[0] * y->dims[1] > 1 << 30) return ez_check_fail(check, check->step->outputs[0], "dims", "more than 2^30 rows");
  return EZ_OK;
}

/* Whether maxima are taken down and then across: fewer reads for a pixel, the line's own included. */
static int goes_down_first(const ez_pool_params *p) {
  const int64_t at_once = (int64_t)p->kernel_h * p->kernel_w, apart = (int64_t)(p->kernel_h + 1) * p->stride_w + p->kernel_w;
  return p->kind == EZ_POOL_MAX && p->kernel_h > 1 && p->kernel_w > 1 && p->kernel_h <= TAPS && p->kernel_w < TAPS && at_once > apart;
}

static ez_status check_pool(ez_check *check) {
  ez_pool_params p;
  memcpy(&p, check->step->params, sizeof p);
  if (p.kind != EZ_POOL_MAX && p.kind != EZ_POOL_AVERAGE) return ez_check_fail(check, -1, "kind", "unknown pooling %d", p.kind);
  ez_status status = ez_check_operands(check, 1, 1);
  if (status) return status;
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dtype = check->tensors[in].dtype;
  if (dtype != EZ_DTYPE_F32 && dtype != EZ_DTYPE_S8) return ez_check_fail(check, in, "dtype", "expected f32 or s8, got %d", dtype);
  status = ez_check_dtype(check, out, dtype);
  if (!status) status = check_geometry(check, &p);
  if (!status) status = ez_check_stored(check, in);
  if (!status) status = ez_check_stored(check, out);
  if (!status && dtype == EZ_DTYPE_S8) status = ez_check_requantize(check, p.kind == EZ_POOL_MAX ? 1 : p.scale, p.lo, p.hi);
  if (!status && dtype == EZ_DTYPE_S8 && p.kind == EZ_POOL_MAX) status = ez_check_same_scale(check, in);
  const ez_tensor *x = &check->tensors[in];
  if (!status && goes_down_first(&p)) check->scratch_needed = (uint64_t)x->dims[2] * (uint64_t)x->dims[3] * ez_element_bytes(dtype) + EZ_OVERREAD;
  return status;
}

typedef struct job {
  const ez_run *run;
  const ez_pool_params *p;
  const ez_tensor *x, *y;
  const uint8_t *x_data;
  uint8_t *y_data;
  size_t element, pixel_x, pixel_y; /* bytes */
  uint32_t sign;
} job;

/* Taps of one axis that lie inside [0, size): first and one past the last. */
static void inside(int64_t origin, int32_t kernel, int32_t dilation, int32_t size, int32_t *first, int32_t *end) {
  int64_t low = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  int64_t high = origin >= size ? 0 : ((int64_t)size - 1 - origin) / dilation + 1;
  if (high > kernel) high = kernel;
  if (low > high) low = high;
  *first = (int32_t)low;
  *end = (int32_t)high;
}

/* A window, as a walk over its pixels inside of x. */
typedef struct window {
  const uint8_t *corner; /* pixel of the first tap inside */
  size_t step_h, step_w; /* bytes from tap to tap */
  int32_t rows, columns;
} window;

/* Addresses of the taps from `from` on, `offset` bytes into each pixel; how many there are. */
static int32_t next_taps(const window *w, int32_t from, size_t offset, const uint8_t **out, int32_t room) {
  const int32_t left = w->rows * w->columns - from, count = left < room ? left : room;
  if (count <= 0) return 0;
  int32_t column = from % w->columns;
  const uint8_t *row = w->corner + (size_t)(from / w->columns) * w->step_h + offset;
  for (int32_t i = 0; i < count; i++) {
    out[i] = row + (size_t)column * w->step_w;
    if (++column == w->columns) column = 0, row += w->step_h;
  }
  return count;
}

static void clip_s8(uint8_t *y, size_t n, uint32_t sign, int32_t lo, int32_t hi) {
  for (size_t i = 0; i < n; i++) {
    const int32_t v = (int8_t)(y[i] ^ sign);
    y[i] = (uint8_t)((uint32_t)(v < lo ? lo : v > hi ? hi : v) ^ sign);
  }
}

/* Maxima of n elements behind each of the taps, `pixels` times; steps in bytes. */
static void maxima(const job *j, const uint8_t *const *taps, int32_t count, uint8_t *y, size_t n, size_t pixels, size_t step_x, size_t step_y) {
  const ez_rows *rows = &j->run->kernels->rows;
  if (j->element == 1) rows->max_s8(taps, count, y, n, pixels, step_x, step_y, j->sign);
  else rows->max_f32((const float *const *)(const void *)taps, count, (float *)(void *)y, n, pixels, step_x / 4, step_y / 4);
}

static void max_pixel(const job *j, const window *w, uint8_t *y, size_t n) {
  const int32_t taps = w->rows * w->columns;
  const uint8_t *seen[TAPS];
  if (!taps) {
    if (j->element == 1) memset(y, (int)((0x80u ^ j->sign) & 0xff), n);
    else
      for (size_t c = 0; c < n; c++) ((float *)(void *)y)[c] = -INFINITY;
  }
  for (int32_t t = 0; t < taps;) {
    const int32_t kept = t > 0; /* the maximum so far takes part as a row of its own */
    seen[0] = y;
    const int32_t count = next_taps(w, t, 0, seen + kept, TAPS - kept);
    maxima(j, seen, count + kept, y, n, 1, 0, 0);
    t += count;
  }
}

static void average_pixel_s8(const job *j, const window *w, float count, uint8_t *y, size_t channels) {
  const ez_rows *rows = &j->run->kernels->rows;
  const int32_t taps = w->rows * w->columns;
  const uint8_t *seen[TAPS];
  int32_t sums[CHANNELS];
  for (size_t c = 0; c < channels; c += CHANNELS) {
    const size_t n = channels - c < CHANNELS ? channels - c : CHANNELS;
    memset(sums, 0, n * sizeof *sums);
    for (int32_t t = 0; t < taps;) {
      const int32_t got = next_taps(w, t, c, seen, TAPS);
      rows->sum_s8(seen, got, sums, n, j->sign, j->x->zero_point);
      t += got;
    }
    rows->scale_s32(sums, y + c, n, j->sign, count, j->p->scale, j->y->zero_point, j->p->lo, j->p->hi);
  }
}

static void average_pixel_f32(const job *j, const window *w, float count, float *y, size_t channels) {
  const int32_t taps = w->rows * w->columns;
  const uint8_t *seen[TAPS];
  memset(y, 0, channels * sizeof *y);
  for (int32_t t = 0; t < taps;) {
    const int32_t got = next_taps(w, t, 0, seen, TAPS);
    j->run->kernels->rows.sum_f32((const float *const *)(const void *)seen, got, y, channels);
    t += got;
  }
  for (size_t c = 0; c < channels; c++) y[c] /= count;
}

/* What one row of the result sees: the rows of x inside its windows, or the line that their maxima were gathered in. */
typedef struct band {
  const uint8_t *start; /* pixel 0 of the first row */
  size_t step_h, pixel; /* bytes from tap to tap of a column, from pixel to pixel */
  int32_t rows;
} band;

/* Columns [first, end) of the result whose windows lie inside. */
static void whole_windows(const job *j, int32_t *first, int32_t *end) {
  const ez_pool_params *p = j->p;
  const int64_t reach = (int64_t)(p->kernel_w - 1) * p->dilation_w, room = (int64_t)j->x->dims[2] - 1 + p->pad_left - reach;
  int64_t low = p->pad_left > 0 ? ((int64_t)p->pad_left + p->stride_w - 1) / p->stride_w : 0, high = room < 0 ? 0 : room / p->stride_w + 1;
  if (high > j->y->dims[2]) high = j->y->dims[2];
  if (low > high) low = high;
  *first = (int32_t)low;
  *end = (int32_t)high;
}

static void average_pixel(const job *j, const window *w, int32_t rows, uint8_t *y, size_t n) {
  const ez_pool_params *p = j->p;
  const float count = p->count_include_pad ? (float)(p->kernel_h * p->kernel_w) : (float)(rows * w->columns);
  if (j->element == 1) average_pixel_s8(j, w, count, y, n);
  else average_pixel_f32(j, w, count, (float *)(void *)y, n);
}

/* The window of column k, and one result behind another for n elements: a pixel, or many that touch. */
static void one_window(const job *j, const band *b, int32_t k, uint8_t *y, size_t n) {
  const ez_pool_params *p = j->p;
  const int64_t column = (int64_t)k * p->stride_w - p->pad_left;
  int32_t first, end;
  inside(column, p->kernel_w, p->dilation_w, j->x->dims[2], &first, &end);
  window w = {.rows = b->rows, .columns = end - first, .step_h = b->step_h, .step_w = (size_t)p->dilation_w * b->pixel};
  if (w.rows && w.columns) w.corner = b->start + (size_t)(column + (int64_t)first * p->dilation_w) * b->pixel;
  if (p->kind == EZ_POOL_MAX) max_pixel(j, &w, y, n);
  else average_pixel(j, &w, b->rows, y, n);
}

/* Pixels with whole windows by one call, where that is possible; how many were done. */
static int32_t many_windows(const job *j, const band *b, int32_t k, int32_t end, uint8_t *y) {
  const ez_pool_params *p = j->p;
  const size_t channels = (size_t)j->x->dims[3], pixel = channels * j->element;
  const int32_t taps = b->rows * p->kernel_w;
  if (p->stride_w == 1 && b->pixel == pixel && j->pixel_y == pixel) {
    one_window(j, b, k, y, (size_t)(end - k) * channels);
    return end - k;
  }
  if (p->kind != EZ_POOL_MAX || !taps || taps > TAPS) return 0;
  const uint8_t *seen[TAPS];
  const window w = {.corner = b->start + (size_t)((int64_t)k * p->stride_w - p->pad_left) * b->pixel, .rows = b->rows, .columns = p->kernel_w,
                    .step_h = b->step_h, .step_w = (size_t)p->dilation_w * b->pixel};
  next_taps(&w, 0, 0, seen, TAPS);
  maxima(j, seen, taps, y, channels, (size_t)(end - k), (size_t)p->stride_w * b->pixel, j->pixel_y);
  return end - k;
}

/* The maxima of each column of the band, in the thread's line of scratch. */
static band taken_down(const job *j, const band *b, uint8_t *line) {
  const size_t channels = (size_t)j->x->dims[3], pixel = channels * j->element, width = (size_t)j->x->dims[2];
  const uint8_t *rows[TAPS];
  for (int32_t t = 0; t < b->rows; t++) rows[t] = b->start + (size_t)t * b->step_h;
  if (b->pixel == pixel) maxima(j, rows, b->rows, line, width * channels, 1, 0, 0);
  else maxima(j, rows, b->rows, line, channels, width, b->pixel, pixel);
  return (band){.start = line, .pixel = pixel, .rows = 1};
}

static void run_row(void *context, int32_t item, int32_t thread) {
  const job *j = context;
  const ez_pool_params *p = j->p;
  const int32_t n = item / j->y->dims[1], i = item % j->y->dims[1], width = j->y->dims[2];
  const size_t channels = (size_t)j->x->dims[3];
  const int64_t row = (int64_t)i * p->stride_h - p->pad_top;
  int32_t first_h, end_h, first_w, end_w;
  inside(row, p->kernel_h, p->dilation_h, j->x->dims[1], &first_h, &end_h);
  whole_windows(j, &first_w, &end_w);
  band b = {.step_h = (size_t)p->dilation_h * (size_t)j->x->dims[2] * j->pixel_x, .pixel = j->pixel_x, .rows = end_h - first_h};
  if (b.rows) b.start = j->x_data + (size_t)(((int64_t)n * j->x->dims[1] + row + (int64_t)first_h * p->dilation_h) * j->x->dims[2]) * j->pixel_x;
  if (b.rows && goes_down_first(p)) b = taken_down(j, &b, j->run->scratch + (size_t)thread * j->run->scratch_bytes);
  uint8_t *y = j->y_data + (size_t)item * (size_t)width * j->pixel_y;
  for (int32_t k = 0; k < width;) {
    int32_t done = k == first_w && end_w > first_w ? many_windows(j, &b, k, end_w, y) : 0;
    if (!done) one_window(j, &b, k, y, channels), done = 1;
    k += done, y += (size_t)done * j->pixel_y;
  }
  if (p->kind == EZ_POOL_MAX && j->element == 1 && (p->lo > -128 || p->hi < 127))
    for (int32_t k = 0; k < width; k++) clip_s8(j->y_data + ((size_t)item * (size_t)width + (size_t)k) * j->pixel_y, channels, j->sign, p->lo, p->hi);
}

static void run_pool(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_tensor *x = &run->tensors[s->inputs[0]], *y = &run->tensors[s->outputs[0]];
  const size_t element = ez_element_bytes(x->dtype);
  job j = {.run = run, .p = (const ez_pool_params *)(const void *)s->params, .x = x, .y = y, .x_data = run->data[s->inputs[0]],
           .y_data = run->data[s->outputs[0]], .element = element, .pixel_x = (size_t)x->row_stride * element,
           .pixel_y = (size_t)y->row_stride * element, .sign = run->kernels->act_sign};
  ez_pool_run(run->pool, y->dims[0] * y->dims[1], run_row, &j);
}

const ez_op ez_op_pool = {"pool", check_pool, run_pool, NULL, sizeof(ez_pool_params)};
