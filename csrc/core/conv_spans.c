#include "core/conv_spans.h"

#include <string.h>

#include "core/conv_halo.h"

#define BLOCK_BUDGET (128 * 1024) /* bytes of pointers and copies a block: part of L2, for kernels of many taps */
#define LEAST_ROWS 4
#define ROW_LIMIT 1024 /* longer rows of taps gain nothing from being one span, and copies at the borders would cost */
#define SLOT_ALIGN 16

static size_t up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

ez_span_shape ez_packed_spans(const ez_conv_params *p, int32_t in_channels) {
  const int32_t channels = in_channels / p->groups;
  if (p->groups == 1 && p->dilation_w == 1) return (ez_span_shape){p->kernel_h, p->kernel_w * channels};
  return (ez_span_shape){p->kernel_h * p->kernel_w, channels};
}

static int32_t k_step(const ez_tensor *x, uint32_t layout) { return x->dtype == EZ_DTYPE_F32 ? 1 : layout == EZ_LAYOUT_K8N16 ? 8 : 4; }

uint64_t ez_packed_panel_bytes(const ez_conv_params *p, const ez_tensor *x, uint32_t layout) {
  const ez_span_shape spans = ez_packed_spans(p, x->dims[3]);
  const uint64_t element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  return 16 * element * (uint64_t)spans.count * up((size_t)spans.elements, (size_t)k_step(x, layout));
}

ez_span_plan ez_span_plan_of(const ez_conv_params *p, const ez_tensor *x, uint32_t layout) {
  const size_t element = x->dtype == EZ_DTYPE_F32 ? 4 : 1;
  const int32_t channels = x->dims[3] / p->groups;
  ez_span_plan plan = {.shape = {p->kernel_h * p->kernel_w, channels}};
  const int back_to_back = x->row_stride == x->dims[3];
  if (p->groups == 1 && p->dilation_w == 1 && p->kernel_w > 1) {
    const ez_span_shape rows = ez_packed_spans(p, x->dims[3]);
    plan.by_rows = channels % k_step(x, layout) || (back_to_back && (size_t)rows.elements * element <= ROW_LIMIT);
    if (plan.by_rows) plan.shape = rows;
    plan.must_copy = plan.by_rows && !back_to_back;
  }
  const size_t span_bytes = (size_t)plan.shape.elements * element;
  plan.slot_bytes = plan.by_rows ? up(span_bytes, SLOT_ALIGN) : 0;
  const size_t fit = BLOCK_BUDGET / ((size_t)plan.shape.count * (sizeof(void *) + plan.slot_bytes));
  plan.rows = fit >= EZ_ROW_BLOCK ? EZ_ROW_BLOCK : fit < LEAST_ROWS ? LEAST_ROWS : (int32_t)fit;
  const size_t pointers = (size_t)plan.shape.count * (size_t)plan.rows;
  plan.pointer_bytes = up(pointers * sizeof(void *), 64);
  plan.outside_bytes = up(span_bytes + EZ_OVERREAD, 64);
  plan.copy_bytes = plan.by_rows ? up(pointers * plan.slot_bytes + EZ_OVERREAD, 64) : 0;
  return plan;
}

static void fill_same(const uint8_t **out, const uint8_t *at, int64_t n) {
  for (int64_t i = 0; i < n; i++) out[i] = at;
}

static void fill_steps(const uint8_t **out, const uint8_t *at, size_t step, int64_t n) {
  uintptr_t next = (uintptr_t)at;
  for (int64_t i = 0; i < n; i++, next += step) out[i] = (const uint8_t *)next;
}

static int64_t within(int64_t value, int64_t low, int64_t high) { return value < low ? low : value > high ? high : value; }

/* ceil(n / stride) for n >= 0; a division would cost more than the few pointers it is made for. */
static int64_t steps_to_cover(int64_t n, int32_t stride) {
  return stride == 1 ? n : stride == 2 ? (n + 1) >> 1 : (n + stride - 1) / stride;
}

/* Output columns [from, to) of [j0, j1) at which input columns [shift, shift + width) + j * stride_w are inside. */
static void inside_columns(const ez_conv_grid *grid, int64_t shift, int32_t width, int64_t j0, int64_t j1, int64_t *from, int64_t *to) {
  const int32_t stride = grid->params->stride_w;
  const int64_t room = grid->in_w - width + 1 - shift;
  *from = within(shift >= 0 ? 0 : steps_to_cover(-shift, stride), j0, j1);
  *to = within(room > 0 ? steps_to_cover(room, stride) : 0, *from, j1);
}

/* No calls for what is mostly a few dozen bytes (7x7 stem of ResNet-18: 481 -> 456 us). */
static void copy_bytes(uint8_t *to, const uint8_t *from, size_t n) {
  for (; n >= 8; n -= 8, to += 8, from += 8) memcpy(to, from, 8);
  if (n >= 4) {
    memcpy(to, from, 4);
    n -= 4, to += 4, from += 4;
  }
  for (; n; n--) *to++ = *from++;
}

/* Copies of the rows of taps of columns [j0, j1), padding filled in; `row` is the input row. */
static void copy_spans(const ez_conv_grid *grid, const ez_span_plan *plan, const uint8_t *row, int64_t j0, int64_t j1,
                       const uint8_t **out, uint8_t *slot) {
  const ez_conv_params *p = grid->params;
  const size_t pixel = (size_t)grid->in_channels * grid->element_bytes;
  for (int64_t j = j0; j < j1; j++, slot += plan->slot_bytes) {
    const int64_t ix = j * p->stride_w - p->pad_left;
    const int64_t left = within(-ix, 0, p->kernel_w), right = within(grid->in_w - ix, left, p->kernel_w);
    for (size_t i = 0; i < plan->slot_bytes; i += SLOT_ALIGN) memset(slot + i, grid->outside_value, SLOT_ALIGN);
    *out++ = slot;
    if (left == right) continue;
    const uint8_t *from = row + (size_t)(ix + left) * grid->pixel_bytes_x;
    if (pixel == grid->pixel_bytes_x) {
      copy_bytes(slot + (size_t)left * pixel, from, (size_t)(right - left) * pixel);
    } else {
      for (int64_t k = left; k < right; k++, from += grid->pixel_bytes_x) copy_bytes(slot + (size_t)k * pixel, from, pixel);
    }
  }
}

/* The spans of one input row for output columns [j0, j1). Returns whether all of them lie in x. */
static int row_of_taps(const ez_conv_grid *grid, const ez_span_plan *plan, const uint8_t *row, int64_t j0, int64_t j1,
                       const uint8_t **out, uint8_t *slots) {
  const ez_conv_params *p = grid->params;
  int64_t from = j1, to = j1;
  if (!plan->must_copy) inside_columns(grid, -(int64_t)p->pad_left, p->kernel_w, j0, j1, &from, &to);
  copy_spans(grid, plan, row, j0, from, out, slots);
  copy_spans(grid, plan, row, to, j1, out + (to - j0), slots + (size_t)(to - j0) * plan->slot_bytes);
  if (from < to)
    fill_steps(out + (from - j0), row + (from * p->stride_w - p->pad_left) * (int64_t)grid->pixel_bytes_x,
               (size_t)p->stride_w * grid->pixel_bytes_x, to - from);
  return from == j0 && to == j1;
}

/* The same for a single tap, which lies `shift` input columns right of the output column. */
static int row_of_tap(const ez_conv_grid *grid, const uint8_t *row, int64_t shift, int64_t j0, int64_t j1, const uint8_t *outside,
                      const uint8_t **out) {
  const int32_t stride = grid->params->stride_w;
  int64_t from, to;
  inside_columns(grid, shift, 1, j0, j1, &from, &to);
  fill_same(out, outside, from - j0);
  fill_same(out + (to - j0), outside, j1 - to);
  if (from < to)
    fill_steps(out + (from - j0), row + (from * stride + shift) * (int64_t)grid->pixel_bytes_x, (size_t)stride * grid->pixel_bytes_x,
               to - from);
  return from == j0 && to == j1;
}

/* Columns [j0, j1) of one output row, the `i0`-th and following of the block. Returns whether all spans lie in x. */
static int row_spans(const ez_conv_grid *grid, const ez_span_plan *plan, int32_t image, int32_t i, int64_t j0, int64_t j1, int32_t i0,
                     size_t channel_offset, const ez_span_memory *memory) {
  const ez_conv_params *p = grid->params;
  const int32_t spans_in_row = plan->by_rows ? 1 : p->kernel_w;
  const size_t image_bytes = (size_t)grid->in_h * (size_t)grid->in_w * grid->pixel_bytes_x;
  int inside = 1;
  for (int32_t ky = 0; ky < p->kernel_h; ky++) {
    const int64_t iy = (int64_t)i * p->stride_h - p->pad_top + (int64_t)ky * p->dilation_h;
    const int row_inside = iy >= 0 && iy < grid->in_h;
    const uint8_t *row = grid->x + (size_t)image * image_bytes + (row_inside ? (size_t)iy * (size_t)grid->in_w * grid->pixel_bytes_x : 0);
    inside &= row_inside;
    for (int32_t k = 0; k < spans_in_row; k++) {
      const size_t at = (size_t)(ky * spans_in_row + k) * (size_t)plan->rows + (size_t)i0;
      const uint8_t **out = memory->pointers + at;
      if (!row_inside)
        fill_same(out, memory->outside, j1 - j0);
      else if (plan->by_rows)
        inside &= row_of_taps(grid, plan, row, j0, j1, out, memory->copies + at * plan->slot_bytes);
      else
        inside &= row_of_tap(grid, row + channel_offset, (int64_t)k * p->dilation_w - p->pad_left, j0, j1, memory->outside, out);
    }
  }
  return inside;
}

/* Whether output pixel n reads input pixel n and nothing else. */
static int is_pixelwise(const ez_conv_grid *grid) {
  const ez_conv_params *p = grid->params;
  return grid->taps == 1 && p->stride_h == 1 && p->stride_w == 1 && p->pad_top == 0 && p->pad_left == 0 && p->out_h == grid->in_h &&
         p->out_w == grid->in_w;
}

size_t ez_span_pointers(const ez_conv_grid *grid, const ez_span_plan *plan, int32_t segment, int32_t first, int32_t count,
                        size_t channel_offset, const ez_span_memory *memory) {
  const ez_conv_params *p = grid->params;
  const int64_t pixel = (int64_t)segment * grid->length + first;
  if (is_pixelwise(grid)) {
    fill_steps(memory->pointers, grid->x + (size_t)pixel * grid->pixel_bytes_x + channel_offset, grid->pixel_bytes_x, count);
    return grid->pixel_bytes_x;
  }
  int32_t j = (int32_t)(pixel % p->out_w), row = (int32_t)(pixel / p->out_w);
  const ez_halo_block block = {.image = row / p->out_h, .i = row % p->out_h, .j = j, .count = count};
  if (ez_halo_serves(grid, plan, &block)) return ez_halo_pointers(grid, plan, &block, memory);
  int even = j + count <= p->out_w;
  for (int32_t i0 = 0; i0 < count; row++, j = 0) {
    const int32_t n = p->out_w - j < count - i0 ? p->out_w - j : count - i0;
    even &= row_spans(grid, plan, row / p->out_h, row % p->out_h, j, j + n, i0, channel_offset, memory);
    i0 += n;
  }
  return even ? (size_t)p->stride_w * grid->pixel_bytes_x : 0;
}
