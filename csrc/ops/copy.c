/* Strided copy with conversion: transpose, slice, part of a concat, expand, pad, quantise, dequantise, cast.
 *
 * Three ways. Where the innermost axis is contiguous on both sides, rows are moved; where something is converted on the way, short
 * rows are brought together first (parts of a concat have 16 to 96 channels, a call for each costs more than the work). Where
 * another axis is contiguous in x (NCHW <-> NHWC), tiles are turned through a buffer that stays in the first-level cache,
 * converted on the side where they are contiguous. Everything else goes through gathered blocks. */
#include <math.h>
#include <string.h>

#include "ops/convert.h"
#include "ops/operands.h"

#define BLOCK 256 /* elements gathered at once */
#define TILE 64   /* edge of a turned tile: 64 kinds of line in flight, 4 kB of bytes */
#define GATHERED 2048 /* elements of short rows brought together for one conversion */
#define LONG_ROW 256  /* bytes, or elements, from which a row is worth a call of its own */
#define OVERREAD_WORDS (EZ_OVERREAD / 8)

static ez_status check_conversion(ez_check *check, const ez_copy_params *p) {
  const int32_t in = check->step->inputs[0], out = check->step->outputs[0];
  const int dx = check->tensors[in].dtype, dy = check->tensors[out].dtype;
  const int from_s8 = p->convert == EZ_CONVERT_DEQUANTIZE || p->convert == EZ_CONVERT_REQUANTIZE;
  const int to_s8 = p->convert == EZ_CONVERT_QUANTIZE || p->convert == EZ_CONVERT_REQUANTIZE;
  switch (p->convert) {
    case EZ_CONVERT_NONE: return dx == dy && dx == EZ_DTYPE_S8 ? ez_check_same_scale(check, in) : ez_check_dtype(check, out, dx);
    case EZ_CONVERT_CAST:
      if (dx == EZ_DTYPE_S8 || dy == EZ_DTYPE_S8) return ez_check_fail(check, out, "dtype", "a cast does not go with s8");
      return EZ_OK;
    case EZ_CONVERT_BITS:
      if (ez_element_bytes(dx) != ez_element_bytes(dy) || dx == EZ_DTYPE_BOOL || dy == EZ_DTYPE_BOOL)
        return ez_check_fail(check, out, "dtype", "%d and %d have no bits in common", dx, dy);
      return EZ_OK;
    case EZ_CONVERT_QUANTIZE:
    case EZ_CONVERT_DEQUANTIZE:
    case EZ_CONVERT_REQUANTIZE: break;
    default: return ez_check_fail(check, -1, "convert", "unknown conversion %d", p->convert);
  }
  ez_status status = ez_check_dtype(check, in, from_s8 ? EZ_DTYPE_S8 : EZ_DTYPE_F32);
  if (!status) status = ez_check_dtype(check, out, to_s8 ? EZ_DTYPE_S8 : EZ_DTYPE_F32);
  if (!status && to_s8) status = ez_check_requantize(check, p->convert == EZ_CONVERT_REQUANTIZE ? p->scale : 1, p->lo, p->hi);
  return status;
}

static ez_status check_copy(ez_check *check) {
  ez_copy_params p;
  memcpy(&p, check->step->params, sizeof p);
  ez_status status = ez_check_operands(check, 1, 1);
  if (!status) status = check_conversion(check, &p);
  if (!status) status = ez_check_walk(check, check->step->inputs[0], "x_stride", p.rank, p.dims, p.x_stride, p.x_offset);
  if (!status) status = ez_check_walk_output(check, p.rank, p.dims, p.y_stride, p.y_offset);
  if (!status && (p.fill & ~1)) return ez_check_fail(check, -1, "fill", "expected 0 or 1, got %d", p.fill);
  if (!status && p.fill && ez_output_of(check)->dtype == EZ_DTYPE_S8 && (p.fill_value < -128 || p.fill_value > 127))
    return ez_check_fail(check, -1, "fill_value", "%d is not in [-128, 127]", p.fill_value);
  return status;
}

/* --- fill ------------------------------------------------------------------------------------------------------------------ */

static void fill_row(const ez_copy_params *p, int dtype, uint32_t sign, uint8_t *y, int64_t n) {
  switch (dtype) {
    case EZ_DTYPE_F32: for (int64_t i = 0; i < n; i++) ((float *)(void *)y)[i] = p->fill_float; break;
    case EZ_DTYPE_S32: for (int64_t i = 0; i < n; i++) ((int32_t *)(void *)y)[i] = p->fill_value; break;
    case EZ_DTYPE_S64: for (int64_t i = 0; i < n; i++) ((int64_t *)(void *)y)[i] = p->fill_value; break;
    case EZ_DTYPE_BOOL: memset(y, p->fill_value != 0, (size_t)n); break;
    default: memset(y, (int)(((uint32_t)p->fill_value ^ sign) & 0xff), (size_t)n);
  }
}

static void fill(const ez_copy_params *p, const ez_tensor *y, uint32_t sign, uint8_t *data) {
  const int64_t rows = ez_rows_of(y), columns = ez_columns_of(y), step = (int64_t)y->row_stride * (int64_t)ez_element_bytes(y->dtype);
  if (y->row_stride == columns) fill_row(p, y->dtype, sign, data, rows * columns);
  else
    for (int64_t r = 0; r < rows; r++) fill_row(p, y->dtype, sign, data + r * step, columns);
}

/* --- the walk -------------------------------------------------------------------------------------------------------------- */

/* Axes of size 1 dropped, axes that continue each other joined. */
typedef struct walk {
  int32_t rank;
  int64_t dims[EZ_MAX_RANK], x[EZ_MAX_RANK], y[EZ_MAX_RANK]; /* sizes; strides in elements */
} walk;

static walk simplest(const ez_copy_params *p) {
  walk w = {.rank = 0};
  for (int32_t i = 0; i < p->rank; i++) {
    if (p->dims[i] == 1) continue;
    const int32_t last = w.rank - 1;
    if (w.rank && w.x[last] == (int64_t)p->x_stride[i] * p->dims[i] && w.y[last] == (int64_t)p->y_stride[i] * p->dims[i]) {
      w.dims[last] *= p->dims[i], w.x[last] = p->x_stride[i], w.y[last] = p->y_stride[i];
    } else {
      w.dims[w.rank] = p->dims[i], w.x[w.rank] = p->x_stride[i], w.y[w.rank] = p->y_stride[i];
      w.rank++;
    }
  }
  if (!w.rank) w = (walk){.rank = 1, .dims = {1}, .x = {1}, .y = {1}};
  return w;
}

static void move_to_end(walk *w, int32_t axis) {
  const int64_t dim = w->dims[axis], x = w->x[axis], y = w->y[axis];
  for (int32_t i = axis; i + 1 < w->rank; i++) w->dims[i] = w->dims[i + 1], w->x[i] = w->x[i + 1], w->y[i] = w->y[i + 1];
  w->dims[w->rank - 1] = dim, w->x[w->rank - 1] = x, w->y[w->rank - 1] = y;
}

static int32_t contiguous_axis(const walk *w, const int64_t *strides) {
  for (int32_t i = w->rank - 1; i >= 0; i--)
    if (strides[i] == 1) return i;
  return -1;
}

typedef struct job {
  ez_converter converter;
  walk w;
  int32_t inner; /* axes at the end that one call of `move` takes: 1 to 3 */
  void (*move)(const struct job *j, const uint8_t *x, uint8_t *y, const int64_t *sizes);
  const uint8_t *x;
  uint8_t *y;
  int64_t x_bytes, y_bytes;
  int32_t axis, pieces; /* the axis that is cut among threads */
} job;

/* --- rows ------------------------------------------------------------------------------------------------------------------ */

/* One row; sixteen bytes at a time, the last ones laid over what was written: no tail loop, no call for the lengths that occur. */
static inline void copy_row(const uint8_t *x, uint8_t *y, int64_t bytes) {
  if (bytes >= LONG_ROW) {
    memcpy(y, x, (size_t)bytes);
  } else if (bytes >= 16) {
    for (int64_t i = 0; i + 16 < bytes; i += 16) memcpy(y + i, x + i, 16);
    memcpy(y + bytes - 16, x + bytes - 16, 16);
  } else if (bytes >= 8) {
    memcpy(y, x, 8);
    memcpy(y + bytes - 8, x + bytes - 8, 8);
  } else if (bytes >= 4) {
    memcpy(y, x, 4);
    memcpy(y + bytes - 4, x + bytes - 4, 4);
  } else {
    for (int64_t i = 0; i < bytes; i++) y[i] = x[i];
  }
}

/* Steps in bytes. */
static void copy_rows(const uint8_t *x, int64_t x_step, uint8_t *y, int64_t y_step, int64_t rows, int64_t bytes) {
  for (int64_t r = 0; r < rows; r++) copy_row(x + r * x_step, y + r * y_step, bytes);
}

/* rows x columns, converted. Short rows are gathered before and scattered after one conversion of all of them. */
static void convert_rows(const job *j, const uint8_t *x, int64_t x_step, uint8_t *y, int64_t y_step, int64_t rows, int64_t columns) {
  uint64_t from[GATHERED + OVERREAD_WORDS], to[GATHERED];
  const int64_t x_row = columns * j->x_bytes, y_row = columns * j->y_bytes;
  const int x_flat = x_step == x_row, y_flat = y_step == y_row;
  if (x_flat && y_flat) {
    ez_convert_run(&j->converter, x, y, (size_t)(rows * columns));
    return;
  }
  const int64_t together = columns < LONG_ROW ? GATHERED / columns : 1;
  for (int64_t r = 0; r < rows; r += together) {
    const int64_t count = rows - r < together ? rows - r : together;
    const int direct_x = x_flat || count == 1, direct_y = y_flat || count == 1;
    const uint8_t *source = direct_x ? x + r * x_step : (const uint8_t *)from;
    uint8_t *target = direct_y ? y + r * y_step : (uint8_t *)to;
    if (!direct_x) copy_rows(x + r * x_step, x_step, (uint8_t *)from, x_row, count, x_row);
    ez_convert_run(&j->converter, source, target, (size_t)(count * columns));
    if (!direct_y) copy_rows((const uint8_t *)to, y_row, y + r * y_step, y_step, count, y_row);
  }
}

/* The last three axes, the last one contiguous on both sides. */
static void move_rows(const job *j, const uint8_t *x, uint8_t *y, const int64_t *sizes) {
  const int32_t rows = j->w.rank - 2, planes = j->w.rank - 3;
  const int64_t x_step = j->w.x[rows] * j->x_bytes, y_step = j->w.y[rows] * j->y_bytes;
  for (int64_t i = 0; i < sizes[0]; i++) {
    const uint8_t *from = x + i * j->w.x[planes] * j->x_bytes;
    uint8_t *to = y + i * j->w.y[planes] * j->y_bytes;
    if (ez_converts(&j->converter)) convert_rows(j, from, x_step, to, y_step, sizes[1], sizes[2]);
    else copy_rows(from, x_step, to, y_step, sizes[1], sizes[2] * j->x_bytes);
  }
}

/* --- no common contiguous axis --------------------------------------------------------------------------------------------- */

static void gather(const uint8_t *x, int64_t step, int64_t bytes, uint8_t *out, int64_t n) {
  switch (bytes) {
    case 1: for (int64_t i = 0; i < n; i++) out[i] = x[i * step]; break;
    case 4: for (int64_t i = 0; i < n; i++) memcpy(out + i * 4, x + i * step * 4, 4); break;
    default: for (int64_t i = 0; i < n; i++) memcpy(out + i * 8, x + i * step * 8, 8);
  }
}

static void scatter(const uint8_t *in, uint8_t *y, int64_t step, int64_t bytes, int64_t n) {
  switch (bytes) {
    case 1: for (int64_t i = 0; i < n; i++) y[i * step] = in[i]; break;
    case 4: for (int64_t i = 0; i < n; i++) memcpy(y + i * step * 4, in + i * 4, 4); break;
    default: for (int64_t i = 0; i < n; i++) memcpy(y + i * step * 8, in + i * 8, 8);
  }
}

static void move_strided(const job *j, const uint8_t *x, uint8_t *y, const int64_t *sizes) {
  const int64_t sx = j->w.x[j->w.rank - 1], sy = j->w.y[j->w.rank - 1];
  uint64_t from[BLOCK], to[BLOCK];
  for (int64_t i = 0; i < sizes[0]; i += BLOCK) {
    const int64_t n = sizes[0] - i < BLOCK ? sizes[0] - i : BLOCK;
    gather(x + i * sx * j->x_bytes, sx, j->x_bytes, (uint8_t *)from, n);
    ez_convert_run(&j->converter, (const uint8_t *)from, (uint8_t *)to, (size_t)n);
    scatter((const uint8_t *)to, y + i * sy * j->y_bytes, sy, j->y_bytes, n);
  }
}

/* --- turned tiles ---------------------------------------------------------------------------------------------------------- */

static void turn_64(const ez_word64 *in, int64_t in_step, ez_word64 *out, int64_t out_step, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < columns; i++)
    for (int64_t r = 0; r < rows; r++) out[i * out_step + r] = in[r * in_step + i];
}

static void turn(const job *j, int64_t bytes, const uint8_t *in, int64_t in_step, uint8_t *out, int64_t out_step, int64_t rows, int64_t columns) {
  const ez_rows *kernels = j->converter.rows;
  const void *from = in;
  void *to = out;
  if (bytes == 1) kernels->turn_8(in, (size_t)in_step, out, (size_t)out_step, (size_t)rows, (size_t)columns);
  else if (bytes == 4) kernels->turn_32(from, (size_t)in_step, to, (size_t)out_step, (size_t)rows, (size_t)columns);
  else turn_64(from, in_step, to, out_step, rows, columns);
}

/* Three planes of a float picture to quantised pixels, in one go. */
static void move_picture(const job *j, const uint8_t *x, uint8_t *y, const int64_t *sizes) {
  const ez_converter *c = &j->converter;
  const float *first = (const float *)(const void *)x;
  const int64_t step = j->w.x[j->w.rank - 1];
  const float *planes[3] = {first, first + step, first + 2 * step};
  c->rows->quantize_planes(planes, y, (size_t)sizes[0], c->y_sign, c->scale, c->zy, c->lo, c->hi);
}

/* The last two axes: the one before the last is contiguous in x, the last in y. The narrower of the two element types is turned; where
 * nothing is converted, straight from x to y. */
static void move_turned(const job *j, const uint8_t *x, uint8_t *y, const int64_t *sizes) {
  const int32_t last = j->w.rank - 1;
  const int64_t x_step = j->w.x[last], y_step = j->w.y[last - 1], xb = j->x_bytes, yb = j->y_bytes;
  const int64_t most = yb > xb ? 4 * TILE : TILE; /* converted after the turn: runs worth a call */
  const int64_t tall = sizes[1] < most ? sizes[1] : most, wide = TILE * TILE / tall; /* few rows: long ones */
  uint64_t tile[TILE * TILE];
  uint8_t *buffer = (uint8_t *)tile;
  for (int64_t c = 0; c < sizes[0]; c += wide) {
    const int64_t columns = sizes[0] - c < wide ? sizes[0] - c : wide;
    for (int64_t r = 0; r < sizes[1]; r += tall) {
      const int64_t rows = sizes[1] - r < tall ? sizes[1] - r : tall;
      const uint8_t *from = x + (r * x_step + c) * xb;
      uint8_t *to = y + (c * y_step + r) * yb;
      if (!ez_converts(&j->converter)) {
        turn(j, yb, from, x_step, to, y_step, rows, columns);
      } else if (yb <= xb) {
        for (int64_t i = 0; i < rows; i++) ez_convert_run(&j->converter, from + i * x_step * xb, buffer + i * wide * yb, (size_t)columns);
        turn(j, yb, buffer, wide, to, y_step, rows, columns);
      } else {
        turn(j, xb, from, x_step, buffer, tall, rows, columns);
        for (int64_t i = 0; i < columns; i++) ez_convert_run(&j->converter, buffer + i * tall * xb, to + i * y_step * yb, (size_t)rows);
      }
    }
  }
}

/* --- run ------------------------------------------------------------------------------------------------------------------- */

/* An axis of size 1 in front. */
static void widen(walk *w) {
  for (int32_t i = w->rank; i > 0; i--) w->dims[i] = w->dims[i - 1], w->x[i] = w->x[i - 1], w->y[i] = w->y[i - 1];
  w->dims[0] = 1, w->x[0] = w->y[0] = 0;
  w->rank++;
}

static int is_picture(const job *j) {
  const walk *w = &j->w;
  return j->converter.convert == EZ_CONVERT_QUANTIZE && w->dims[w->rank - 1] == 3 && w->y[w->rank - 2] == 3;
}

static void choose(job *j) {
  walk *w = &j->w;
  const int32_t x_axis = contiguous_axis(w, w->x), y_axis = contiguous_axis(w, w->y);
  if (x_axis >= 0 && x_axis == y_axis) {
    move_to_end(w, x_axis);
    while (w->rank < 3) widen(w);
    j->inner = 3;
    j->move = move_rows;
  } else if (x_axis >= 0 && y_axis >= 0) {
    move_to_end(w, x_axis);
    move_to_end(w, x_axis < y_axis ? y_axis - 1 : y_axis);
    j->inner = 2;
    j->move = is_picture(j) ? move_picture : move_turned;
  } else {
    j->inner = 1;
    j->move = move_strided;
  }
}

/* The longest axis, but for the three planes of a picture and the runs within rows. */
static int32_t axis_to_cut(const job *j) {
  const int32_t last = j->w.rank - 1;
  int32_t axis = 0;
  for (int32_t i = 1; i < j->w.rank; i++)
    if (j->w.dims[i] > j->w.dims[axis] && !(j->move == move_picture && i == last)) axis = i;
  return axis;
}

static void run_piece(void *context, int32_t piece, int32_t thread) {
  (void)thread;
  const job *j = context;
  const walk *w = &j->w;
  const int32_t outer = w->rank - j->inner;
  int64_t index[EZ_MAX_RANK] = {0}, start[EZ_MAX_RANK] = {0}, end[EZ_MAX_RANK], sizes[3] = {1, 1, 1};
  for (int32_t i = 0; i < w->rank; i++) end[i] = w->dims[i];
  start[j->axis] = ez_piece_start(w->dims[j->axis], j->pieces, piece);
  end[j->axis] = ez_piece_start(w->dims[j->axis], j->pieces, piece + 1);
  for (int32_t i = 0; i < w->rank; i++) index[i] = start[i];
  for (int32_t i = 0; i < j->inner; i++) sizes[i] = end[outer + i] - start[outer + i];
  for (;;) {
    int64_t x = 0, y = 0;
    for (int32_t i = 0; i < w->rank; i++) x += index[i] * w->x[i], y += index[i] * w->y[i];
    j->move(j, j->x + x * j->x_bytes, j->y + y * j->y_bytes, sizes);
    int32_t axis = outer - 1;
    for (; axis >= 0; axis--) {
      if (++index[axis] < end[axis]) break;
      index[axis] = start[axis];
    }
    if (axis < 0) return;
  }
}

static ez_converter converter_of(const ez_run *run, const ez_copy_params *p, const ez_tensor *x, const ez_tensor *y) {
  return (ez_converter){.rows = &run->kernels->rows, .convert = p->convert, .x_dtype = x->dtype, .y_dtype = y->dtype,
                        .x_sign = ez_sign_of(x, run->kernels->act_sign), .y_sign = ez_sign_of(y, run->kernels->act_sign),
                        .scale = p->convert == EZ_CONVERT_QUANTIZE ? y->scale : p->convert == EZ_CONVERT_DEQUANTIZE ? x->scale : p->scale,
                        .zx = x->zero_point, .zy = y->zero_point, .lo = p->lo, .hi = p->hi};
}

static void run_copy(const ez_run *run) {
  const ez_step *s = run->step;
  const ez_copy_params *p = (const ez_copy_params *)(const void *)s->params;
  const ez_tensor *x = &run->tensors[s->inputs[0]], *y = &run->tensors[s->outputs[0]];
  job j = {.converter = converter_of(run, p, x, y), .w = simplest(p), .x_bytes = (int64_t)ez_element_bytes(x->dtype), .y_bytes = (int64_t)ez_element_bytes(y->dtype)};
  j.x = run->data[s->inputs[0]] + p->x_offset * j.x_bytes;
  j.y = run->data[s->outputs[0]] + p->y_offset * j.y_bytes;
  if (p->fill) fill(p, y, j.converter.y_sign, run->data[s->outputs[0]]);
  choose(&j);
  int64_t total = 1;
  for (int32_t i = 0; i < j.w.rank; i++) total *= j.w.dims[i];
  j.axis = axis_to_cut(&j);
  j.pieces = ez_pieces(run, total, 1 << 14);
  if (j.pieces > j.w.dims[j.axis]) j.pieces = (int32_t)j.w.dims[j.axis];
  ez_pool_run(run->pool, j.pieces, run_piece, &j);
}

const ez_op ez_op_copy = {"copy", check_copy, run_copy, NULL, sizeof(ez_copy_params)};
