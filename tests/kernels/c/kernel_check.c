/* Every compiled ISA table that this CPU supports, against scalar loops over core/numerics.h, byte for byte.
 *
 *   kernel_check [--isa NAME] [--cases N] [--seed N] [--plant weight|bias]
 *
 * Prints one line a kernel: isa, kernel, cases, bytes that differ. Exit code 0 if none does. --plant changes one weight or one bias
 * behind the oracle's back, so that every kernel must differ. Input buffers end 64 bytes (EZ_OVERREAD) before an unmapped page,
 * outputs right before one; bytes between the rows of the output must stay as they were. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/dispatch.h"
#include "core/float_functions.h"
#include "core/numerics.h"
#include "isa/codes.h"

static uint64_t state = 88172645463325252ull;
static uint32_t draw(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 16);
}
static int32_t draw_in(int32_t lo, int32_t hi) { return lo + (int32_t)(draw() % (uint32_t)(hi - lo + 1)); }
#define PICK(list) (list)[draw() % (sizeof(list) / sizeof *(list))]

typedef enum { PLANT_NONE, PLANT_WEIGHT, PLANT_BIAS } plant_kind;
static plant_kind plant = PLANT_NONE;

/* --- memory that faults one byte too far --------------------------------------------------------------------------------- */

typedef struct region {
  uint8_t *base, *at;
  size_t mapped, bytes;
} region;

static region guard(size_t bytes, size_t room) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + room + page - 1) / page * page;
  region r = {.mapped = body + 2 * page, .bytes = bytes};
  r.base = mmap(NULL, r.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (r.base == MAP_FAILED) perror("mmap"), exit(2);
  mprotect(r.base, page, PROT_NONE);
  mprotect(r.base + page + body, page, PROT_NONE);
  r.at = r.base + page + body - bytes - room;
  memset(r.base + page, 0xa5, body);
  return r;
}
static void release(region r) { munmap(r.base, r.mapped); }

/* --- one random product and its packed operands -------------------------------------------------------------------------- */

typedef enum { MODE_RANDOM, MODE_EXTREME, MODE_TIES, MODE_LARGE, MODE_COUNT } case_mode;

typedef struct product {
  int32_t rows, columns, taps, channels, padded; /* padded columns */
  case_mode mode;
  region a, pointers, w, bias, mult, y, row_scale, addend; /* the last two of float results only */
  int8_t *weights; /* (columns, taps, channels) logical */
  size_t y_stride, a_pixel, step;
  int32_t lo, hi, zero_point, small_sums;
} product;

static int32_t up(int32_t n, int32_t step) { return (n + step - 1) / step * step; }

static uint8_t draw_byte(case_mode mode) {
  static const uint8_t ends[] = {0, 255, 127, 128, 255};
  return mode == MODE_EXTREME || (mode == MODE_TIES && draw() % 4) ? PICK(ends) : (uint8_t)draw();
}

static int8_t draw_weight(case_mode mode) {
  /* Pairs around the last that vpmaddubsw can add without saturating (64 + 64, times 255), in steps with and without a worse one. */
  static const int8_t edge[] = {64, 64, 64, 64, -64, -64, -64, 63, -63, 1};
  if (mode == MODE_EXTREME) return draw() % 8 ? 127 : -127;
  if (mode == MODE_TIES) return draw() % 40 ? PICK(edge) : draw() % 2 ? 65 : -65;
  return (int8_t)draw_in(-127, 127);
}

static void draw_epilogue(product *p) {
  int32_t *bias = (int32_t *)(void *)p->bias.at;
  float *mult = (float *)(void *)p->mult.at;
  for (int32_t n = 0; n < p->padded; n++) {
    static const int32_t large[] = {1 << 24, (1 << 24) + 1, -(1 << 24) - 1, 2000000000, -2000000000, 2147000000};
    static const float unusual[] = {0x1p-24f, 1e-38f, 1.0f, 3.0f, 1e30f, 0x1.fffffep-10f};
    bias[n] = p->mode == MODE_LARGE ? PICK(large) : draw_in(-3000, 3000);
    mult[n] = p->mode == MODE_TIES ? 0.5f : p->mode == MODE_LARGE ? PICK(unusual) : 0.0001f + (float)(draw() % 1000) * 2e-6f;
  }
  static const int32_t zeros[] = {-128, -1, 0, 3, 127};
  p->zero_point = PICK(zeros);
  p->lo = draw() % 3 ? -128 : draw_in(-128, 20);
  p->hi = draw() % 3 ? 127 : draw_in(21, 127);
}

static void release_product(product *p) {
  release(p->a), release(p->pointers), release(p->w), release(p->bias), release(p->mult), release(p->y);
  if (p->row_scale.at) release(p->row_scale), release(p->addend);
  free(p->weights);
}

/* Bytes of y that are not what `want` (rows, columns) says, gaps included. */
static size_t differences(const product *p, const uint8_t *want, size_t element) {
  size_t wrong = 0;
  const size_t row_bytes = (size_t)p->columns * element;
  for (int32_t r = 0; r < p->rows; r++) {
    const uint8_t *got = p->y.at + (size_t)r * p->y_stride * element;
    for (size_t i = 0; i < row_bytes; i++) wrong += got[i] != want[(size_t)r * row_bytes + i];
    if (r + 1 < p->rows)
      for (size_t i = row_bytes; i < p->y_stride * element; i++) wrong += got[i] != 0xa5;
  }
  return wrong;
}

static void plant_fault(const product *p, size_t w_at) {
  if (plant == PLANT_WEIGHT) p->w.at[w_at] ^= 0x40;
  if (plant == PLANT_BIAS) ((int32_t *)(void *)p->bias.at)[0] ^= 0x2000;
}

/* --- int8 ----------------------------------------------------------------------------------------------------------------- */

/* Bytes, or floats (isa.h) where the product has row scales. */
static void oracle_s8(const product *p, const uint8_t *const *a, size_t row_step, size_t tap_step, int depthwise, uint32_t sign, void *result) {
  const int32_t *bias = (const int32_t *)(const void *)p->bias.at;
  const float *mult = (const float *)(const void *)p->mult.at, *scale = (const float *)(const void *)p->row_scale.at;
  const float *addend = (const float *)(const void *)p->addend.at;
  uint8_t *want = result;
  for (int32_t r = 0; r < p->rows; r++)
    for (int32_t n = 0; n < p->columns; n++) {
      int32_t acc = bias[n];
      for (int32_t t = 0; t < p->taps; t++) {
        const uint8_t *x = a[(size_t)t * tap_step + (size_t)r * row_step];
        const int32_t channels = depthwise ? 1 : p->channels;
        for (int32_t c = 0; c < channels; c++)
          acc = ez_mac(acc, ez_operand(x[depthwise ? n : c], sign), p->weights[((size_t)n * (size_t)p->taps + (size_t)t) * (size_t)channels + (size_t)c]);
      }
      const size_t at = (size_t)r * (size_t)p->columns + (size_t)n;
      if (scale) ((float *)result)[at] = ((float)acc * scale[r]) * mult[n] + addend[n];
      else want[at] = ez_store(ez_requantize_s32(acc, mult[n], p->lo, p->hi, p->zero_point), sign);
    }
}

/* What the packer proves about the sums (small_sums of ez_conv_params), from every logical input byte. */
static int sums_are_small(const product *p, int32_t channels, uint32_t sign) {
  const int32_t *bias = (const int32_t *)(const void *)p->bias.at, low = sign ? 0 : -128, high = sign ? 255 : 127;
  const float *mult = (const float *)(const void *)p->mult.at;
  const size_t k = (size_t)p->taps * (size_t)channels;
  for (int32_t n = 0; n < p->columns; n++) {
    double most = bias[n], least = bias[n];
    for (size_t i = 0; i < k; i++) {
      const double w = p->weights[(size_t)n * k + i];
      most += w * (w > 0 ? high : low);
      least += w * (w > 0 ? low : high);
    }
    const double reach = fmax(fabs(most), fabs(least));
    if (reach >= 1 << 22 || reach * fabs((double)mult[n]) >= 32512) return 0;
  }
  return 1;
}

static int mults_are_small(const product *p) {
  const float *mult = (const float *)(const void *)p->mult.at;
  for (int32_t n = 0; n < p->padded; n++)
    if (!(fabsf(mult[n]) < 1)) return 0;
  return 1;
}

/* Rows of A: several pixels may share memory, as in a convolution; or every row is the next pixel. */
static void draw_activations(product *p, int32_t pixels, int even, int32_t channels, size_t row_step, size_t tap_step, size_t pointers, size_t element) {
  p->a_pixel = (size_t)channels + (draw() % 2 ? 0 : draw() % 9);
  p->a = guard(((size_t)(pixels - 1) * p->a_pixel + (size_t)channels) * element, 64);
  p->pointers = guard(pointers * sizeof(void *), 0);
  if (element == 1)
    for (size_t i = 0; i < p->a.bytes; i++) p->a.at[i] = draw_byte(p->mode);
  const uint8_t **to = (const uint8_t **)(void *)p->pointers.at;
  for (int32_t t = 0; t < p->taps; t++)
    for (int32_t r = 0; r < p->rows; r++) {
      const int32_t pixel = even ? r : t == 0 && r == 0 ? pixels - 1 : draw_in(0, pixels - 1);
      to[(size_t)t * tap_step + (size_t)r * row_step] = p->a.at + (size_t)pixel * p->a_pixel * element;
    }
}

static void draw_product_s8(product *p, int depthwise, int32_t layout) {
  const int32_t channels = depthwise ? 1 : p->channels;
  p->padded = up(p->columns, 16);
  p->step = layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  p->weights = malloc((size_t)p->columns * (size_t)p->taps * (size_t)channels);
  const int calm = p->mode == MODE_TIES && draw() % 2; /* as of trained layers: several panels can be paired alike (isa/avx2/pairs.h) */
  for (size_t i = 0; i < (size_t)p->columns * (size_t)p->taps * (size_t)channels; i++) p->weights[i] = calm ? (int8_t)draw_in(-66, 66) : draw_weight(p->mode);
  p->bias = guard((size_t)p->padded * 4, 0);
  p->mult = guard((size_t)p->padded * 4, 0);
  draw_epilogue(p);
  p->y_stride = (size_t)p->columns + (draw() % 2 ? 0 : draw() % 70);
  p->y = guard((size_t)(p->rows - 1) * p->y_stride + (size_t)p->columns, 0);
}

static void draw_float_result(product *p) {
  p->row_scale = guard((size_t)p->rows * 4, 0);
  p->addend = guard((size_t)p->padded * 4, 0);
  for (int32_t r = 0; r < p->rows; r++) ((float *)(void *)p->row_scale.at)[r] = draw() % 4 ? 0.001f + (float)(draw() % 1000) * 1e-3f : 1.0f;
  for (int32_t n = 0; n < p->padded; n++) ((float *)(void *)p->addend.at)[n] = (float)draw_in(-1000, 1000) * 0.01f;
  release(p->y);
  p->y = guard(((size_t)(p->rows - 1) * p->y_stride + (size_t)p->columns) * 4, 0);
}

/* Half of the time, what the kernel makes of the packed weights beforehand. */
static region prepare(const product *p, const ez_isa *isa, size_t panel_bytes) {
  const int32_t panels = p->padded / 16;
  const size_t room = isa->prepared_room && draw() % 2 ? isa->prepared_room(panels, p->taps, p->channels, p->rows) : 0;
  if (!room) return (region){0};
  region prepared = guard((room + 63) / 64 * 64, 0);
  isa->prepare_gemm_s8((const int8_t *)p->w.at, panel_bytes, panels, p->taps, p->channels, prepared.at);
  return prepared;
}

/* In panels, each tap padded to a step; returns the bytes of a panel. */
static size_t pack_weights(product *p) {
  const size_t step = p->step, padded = (size_t)up(p->channels, (int32_t)step), panel_bytes = (size_t)p->taps * padded * 16;
  p->w = guard(panel_bytes * (size_t)(p->padded / 16), 64);
  memset(p->w.at, 0, p->w.bytes);
  for (int32_t n = 0; n < p->columns; n++)
    for (int32_t t = 0; t < p->taps; t++)
      for (int32_t c = 0; c < p->channels; c++) {
        const size_t k = (size_t)t * padded + (size_t)c;
        p->w.at[(size_t)(n / 16) * panel_bytes + k / step * 16 * step + (size_t)(n % 16) * step + k % step] =
            (uint8_t)p->weights[((size_t)n * (size_t)p->taps + (size_t)t) * (size_t)p->channels + (size_t)c];
      }
  return panel_bytes;
}

/* Weights without some of the groups (16 outputs of a panel by a k-step), and the lists of those that are left. */
typedef struct thinned {
  region starts, index, values;
} thinned;

static void drop_groups(product *p) {
  static const int32_t shares[] = {0, 1, 4, 8, 8, 12, 16};
  const int32_t share = PICK(shares), step = (int32_t)p->step;
  for (int32_t n = 0; n < p->padded; n += 16)
    for (int32_t t = 0; t < p->taps; t++)
      for (int32_t c = 0; c < p->channels; c += step) {
        if (draw_in(0, 15) < share) continue;
        for (int32_t o = n; o < n + 16 && o < p->columns; o++)
          memset(p->weights + ((size_t)o * (size_t)p->taps + (size_t)t) * (size_t)p->channels + c, 0, (size_t)(p->channels - c < step ? p->channels - c : step));
      }
}

static thinned list_groups(const product *p, size_t panel_bytes) {
  const size_t size = 16 * p->step, panels = (size_t)p->padded / 16, steps = panel_bytes / size;
  static const uint8_t zeros[128];
  size_t groups = 0;
  for (size_t i = 0; i < panels * steps; i++) groups += memcmp(p->w.at + i * size, zeros, size) != 0;
  thinned t = {.starts = guard((panels + 1) * 4, 0), .index = guard(groups * 2, 0), .values = guard(groups * size, 0)};
  uint32_t *starts = (uint32_t *)(void *)t.starts.at;
  uint16_t *index = (uint16_t *)(void *)t.index.at;
  starts[0] = 0, groups = 0;
  for (size_t i = 0; i < panels * steps; i++) {
    if (memcmp(p->w.at + i * size, zeros, size)) {
      memcpy(t.values.at + groups * size, p->w.at + i * size, size);
      index[groups++] = (uint16_t)(i % steps);
    }
    starts[i / steps + 1] = (uint32_t)groups;
  }
  return t;
}

static size_t check_product_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode, int blocks) {
  static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 24, 25, 31, 96}, taps[] = {1, 1, 2, 3, 9};
  static const int32_t columns[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 113, 128};
  static const int32_t channels[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 31, 32, 33, 63, 64, 65, 127, 130};
  product p = {.mode = mode, .rows = PICK(rows), .taps = PICK(taps), .columns = PICK(columns), .channels = PICK(channels)};
  if (p.columns > 16 * isa->gemm_s8_panels) p.columns = 16 * isa->gemm_s8_panels;
  if (p.rows > isa->gemm_s8_rows) p.rows = isa->gemm_s8_rows;
  if (blocks && draw() % 32 == 0) p.channels = 8301, p.taps = 1, p.columns = p.columns % 17 + 1, p.rows = p.rows % 5 + 1; /* long lists */
  draw_product_s8(&p, 0, layout);
  if (blocks) drop_groups(&p);
  const int is_float = draw() % 3 == 0;
  if (is_float) draw_float_result(&p);
  const size_t a_stride = (size_t)p.rows + draw() % 3;
  const int even = draw() % 3 == 0;
  draw_activations(&p, even ? p.rows : draw_in(1, 12), even, p.channels, 1, a_stride, a_stride * (size_t)(p.taps - 1) + (size_t)p.rows, 1);
  const size_t panel_bytes = pack_weights(&p);
  const uint8_t *const *a = (const uint8_t *const *)(const void *)p.pointers.at;
  uint8_t *want = malloc((size_t)p.rows * (size_t)p.columns * 4);
  oracle_s8(&p, a, 1, a_stride, 0, sign, want);
  p.small_sums = !is_float && sums_are_small(&p, p.channels, sign);
  plant_fault(&p, 0);
  const region prepared = blocks ? (region){0} : prepare(&p, isa, panel_bytes);
  ez_gemm_s8_args args = {.a = a, .a_stride = a_stride, .row_step = even ? p.a_pixel : 0, .small_mult = draw() % 2 && mults_are_small(&p), .rows = p.rows, .columns = p.columns, .taps = p.taps, .channels = p.channels,
                                .w = (const int8_t *)p.w.at, .panel_bytes = panel_bytes, .bias = (const int32_t *)(const void *)p.bias.at,
                                .mult = (const float *)(const void *)p.mult.at, .y = p.y.at, .y_stride = p.y_stride, .lo = p.lo, .hi = p.hi,
                                .zero_point = p.zero_point, .small_sums = p.small_sums, .layout = layout, .act_sign = sign, .prepared = prepared.at};
  if (is_float) {
    args.y_f32 = (float *)(void *)p.y.at, args.y = NULL;
    args.row_scale = (const float *)(const void *)p.row_scale.at, args.addend = (const float *)(const void *)p.addend.at;
  }
  thinned t = {0};
  if (blocks) {
    t = list_groups(&p, panel_bytes);
    args.starts = (const uint32_t *)(const void *)t.starts.at, args.index = (const uint16_t *)(const void *)t.index.at;
    args.w = (const int8_t *)t.values.at;
  }
  (blocks ? isa->blocks_s8 : isa->gemm_s8)(&args);
  const size_t wrong = differences(&p, want, is_float ? 4 : 1);
  if (blocks) release(t.starts), release(t.index), release(t.values);
  free(want);
  if (prepared.at) release(prepared);
  release_product(&p);
  return wrong;
}

static size_t check_gemm_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  return check_product_s8(isa, layout, sign, mode, 0);
}

static size_t check_blocks_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  return check_product_s8(isa, layout, sign, mode, 1);
}

/* Tiles of 2 x 2 outputs of a 3 x 3 kernel, each of 16 pixels from anywhere; some outputs do not exist. */
static size_t check_winograd_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  static const int32_t some_tiles[] = {1, 2, 5, 6, 7, 13, 23, 24, 25, 49}, columns[] = {1, 7, 15, 16, 17, 32, 33, 64};
  static const int32_t channels[] = {4, 8, 16, 20, 28, 32, 36, 64, 68, 100};
  const int32_t tiles = PICK(some_tiles);
  product p = {.mode = mode, .rows = 4 * tiles, .taps = 9, .columns = PICK(columns), .channels = PICK(channels)};
  draw_product_s8(&p, 0, layout);
  p.rows = tiles, p.taps = 16;
  draw_activations(&p, draw_in(1, 40), 0, p.channels, 16, 1, 16 * (size_t)tiles, 1);
  p.rows = 4 * tiles, p.taps = 9;
  const size_t panel_bytes = pack_weights(&p);
  const uint8_t *const *a = (const uint8_t *const *)(const void *)p.pointers.at, **seen = malloc((size_t)p.rows * 9 * sizeof *seen);
  region y = guard((size_t)p.rows * sizeof(void *), 0), scratch = guard((isa->winograd_scratch(tiles, p.channels) + 63) / 64 * 64, 0);
  uint8_t *want = malloc((size_t)p.rows * (size_t)p.columns), **to = (uint8_t **)(void *)y.at;
  for (int32_t r = 0; r < p.rows; r++)
    for (int32_t t = 0; t < 9; t++) seen[9 * r + t] = a[r / 4 * 16 + (r % 4 / 2 + t / 3) * 4 + r % 2 + t % 3];
  oracle_s8(&p, seen, 9, 1, 0, sign, want);
  for (int32_t r = 0; r < p.rows; r++) {
    to[r] = draw() % 8 ? p.y.at + (size_t)r * p.y_stride : NULL;
    if (!to[r]) memset(want + (size_t)r * (size_t)p.columns, 0xa5, (size_t)p.columns);
  }
  plant_fault(&p, 0);
  const ez_winograd_s8_args args = {.a = a, .y = to, .tiles = tiles, .channels = p.channels, .columns = p.columns, .w = (const int8_t *)p.w.at,
                                    .panel_bytes = panel_bytes, .bias = (const int32_t *)(const void *)p.bias.at,
                                    .mult = (const float *)(const void *)p.mult.at, .lo = p.lo, .hi = p.hi, .zero_point = p.zero_point,
                                    .small_mult = draw() % 2 && mults_are_small(&p), .scratch = scratch.at};
  isa->winograd_s8(&args);
  const size_t wrong = differences(&p, want, 1);
  free(want), free(seen);
  release(y), release(scratch);
  release_product(&p);
  return wrong;
}

/* A depthwise call: rows of input behind guard pages, some of them outside, and pixels that start left or right of the image. Lines
 * see the same rows as the one above, one or two further down, or none of them. Every third call is what networks do most: 3 x 3, stride
 * 1, several lines one below the other. */
typedef struct window {
  int32_t kernel_h, kernel_w, stride, dilation, column, in_w, lines, pixels;
  region rows, steps, outside;
  const uint8_t **taps; /* (lines, pixels, taps): where each one really lies */
} window;

static window draw_window(product *p, size_t element) {
  static const int32_t kernels[][2] = {{1, 1}, {1, 3}, {1, 9}, {3, 1}, {9, 1}, {3, 3}, {3, 3}, {3, 3}, {5, 5}, {5, 5}, {4, 2}, {2, 5}, {7, 7}, {13, 5}};
  const int32_t *kernel = PICK(kernels);
  window v = {.kernel_h = kernel[0], .kernel_w = kernel[1], .stride = draw_in(0, 9) ? draw_in(1, 2) : 3, .dilation = draw_in(0, 5) ? 1 : 2,
              .column = draw_in(-6, 3), .in_w = draw_in(1, 24)};
  static const int32_t lines[] = {1, 1, 2, 3, 5};
  v.lines = PICK(lines), v.pixels = p->rows;
  const int is_usual = draw_in(0, 2) == 0;
  if (is_usual) v.kernel_h = 3, v.kernel_w = 3, v.stride = 1, v.dilation = 1, v.lines = draw_in(2, 5);
  const int32_t down_by[] = {1, 1, 2, v.kernel_h}, down = is_usual ? 1 : PICK(down_by), in_h = v.kernel_h + (v.lines - 1) * down;
  p->taps = v.kernel_h * v.kernel_w;
  p->rows = v.lines * v.pixels;
  p->a_pixel = (size_t)p->columns + (draw() % 2 ? 0 : draw() % 9);
  const size_t row = (size_t)v.in_w * p->a_pixel, all = row * (size_t)in_h - p->a_pixel + (size_t)p->columns;
  p->a = guard(all * element, 64);
  p->pointers = guard(sizeof(void *), 0);
  v.outside = guard((size_t)p->columns * element, 64);
  v.rows = guard((size_t)(v.lines * v.kernel_h) * sizeof(void *), 0);
  v.steps = guard((size_t)(v.lines * v.kernel_h) * sizeof(size_t), 0);
  const uint8_t **rows = (const uint8_t **)(void *)v.rows.at;
  size_t *steps = (size_t *)(void *)v.steps.at;
  for (int32_t iy = 0; iy < in_h; iy++) {
    const int out = draw() % 5 == 0;
    for (int32_t l = 0; l < v.lines; l++) {
      const int32_t ky = iy - l * down;
      if (ky < 0 || ky >= v.kernel_h) continue;
      rows[l * v.kernel_h + ky] = out ? v.outside.at : p->a.at + (size_t)(in_h - 1 - iy) * row * element;
      steps[l * v.kernel_h + ky] = out ? 0 : p->a_pixel;
    }
  }
  v.taps = malloc((size_t)p->rows * (size_t)p->taps * sizeof(void *));
  for (int32_t r = 0; r < p->rows; r++)
    for (int32_t t = 0; t < p->taps; t++) {
      const int32_t at = r / v.pixels * v.kernel_h + t / v.kernel_w, ix = v.column + r % v.pixels * v.stride + t % v.kernel_w * v.dilation;
      const int inside = ix >= 0 && ix < v.in_w;
      v.taps[r * p->taps + t] = inside ? rows[at] + (size_t)ix * steps[at] * element : v.outside.at;
    }
  return v;
}

static void release_window(window *v) {
  release(v->rows), release(v->steps), release(v->outside);
  free((void *)v->taps);
}

/* Where the packed weight of channel c and tap t lies (ez_format.h). */
static size_t depthwise_place(const window *v, int32_t layout, int32_t c, int32_t t) {
  const size_t lane = (size_t)(c % 16), panel = (size_t)(c / 16);
  if (layout == EZ_LAYOUT_K8N16) return (panel * (size_t)(v->kernel_h * v->kernel_w) + (size_t)t) * 16 + lane;
  if (v->kernel_h == 1) return (panel * (size_t)up(v->kernel_w, 4) / 4 + (size_t)(t / 4)) * 64 + lane * 4 + (size_t)(t % 4);
  const size_t ky = (size_t)(t / v->kernel_w), kx = (size_t)(t % v->kernel_w), groups = (size_t)up(v->kernel_h, 4) / 4;
  return ((panel * groups + ky / 4) * (size_t)v->kernel_w + kx) * 64 + lane * 4 + ky % 4;
}

static size_t depthwise_depth(const window *v, int32_t layout) {
  if (layout == EZ_LAYOUT_K8N16) return (size_t)(v->kernel_h * v->kernel_w);
  return v->kernel_h == 1 ? (size_t)up(v->kernel_w, 4) : (size_t)up(v->kernel_h, 4) * (size_t)v->kernel_w;
}

static const int32_t depthwise_pixels[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 23};
static const int32_t depthwise_channels[] = {1, 3, 8, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 80, 96, 97, 112, 130, 144};

static size_t check_depthwise_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  product p = {.mode = mode, .rows = PICK(depthwise_pixels), .columns = PICK(depthwise_channels)};
  window v = draw_window(&p, 1);
  for (size_t i = 0; i < p.a.bytes; i++) p.a.at[i] = draw_byte(mode);
  memset(v.outside.at, (int)draw_byte(mode), v.outside.bytes);
  draw_product_s8(&p, 1, layout);
  p.w = guard(depthwise_depth(&v, layout) * (size_t)p.padded, 64);
  memset(p.w.at, 0, p.w.bytes);
  for (int32_t c = 0; c < p.columns; c++)
    for (int32_t t = 0; t < p.taps; t++)
      p.w.at[depthwise_place(&v, layout, c, t)] = (uint8_t)p.weights[(size_t)c * (size_t)p.taps + (size_t)t];
  uint8_t *want = malloc((size_t)p.rows * (size_t)p.columns);
  oracle_s8(&p, v.taps, (size_t)p.taps, 1, 1, sign, want);
  p.small_sums = sums_are_small(&p, 1, sign);
  plant_fault(&p, 0);
  const ez_depthwise_s8_args args = {
      .rows = (const uint8_t *const *)(const void *)v.rows.at, .steps = (const size_t *)(const void *)v.steps.at, .outside = v.outside.at,
      .column = v.column, .in_w = v.in_w, .lines = v.lines, .pixels = v.pixels, .stride = v.stride, .dilation = v.dilation, .kernel_h = v.kernel_h,
      .kernel_w = v.kernel_w, .channels = p.columns, .w = (const int8_t *)p.w.at, .bias = (const int32_t *)(const void *)p.bias.at,
      .mult = (const float *)(const void *)p.mult.at, .y = p.y.at, .y_stride = p.y_stride,
      .y_line_stride = (size_t)v.pixels * p.y_stride, .lo = p.lo, .hi = p.hi,
      .zero_point = p.zero_point, .small_sums = p.small_sums, .layout = layout, .act_sign = sign,
  };
  isa->depthwise_s8(&args);
  const size_t wrong = differences(&p, want, 1);
  free(want);
  release_window(&v);
  release_product(&p);
  return wrong;
}

/* --- float ---------------------------------------------------------------------------------------------------------------- */

static float draw_float(case_mode mode) {
  static const float unusual[] = {0.0f, -0.0f, 0x1p-149f, -0x1p-126f, 1e38f, -1e38f, INFINITY, -INFINITY, NAN, 1.0f};
  if (mode == MODE_EXTREME && draw() % 16 == 0) return PICK(unusual);
  return ldexpf((float)draw_in(-8388607, 8388607), draw_in(-30, -18));
}

static void draw_clamp(float *lo, float *hi) {
  static const float pairs[][2] = {{-INFINITY, INFINITY}, {0.0f, INFINITY}, {-0.0f, 0.0f}, {0.0f, 6.0f}, {-1.5f, 2.25f}};
  const float *pair = PICK(pairs);
  *lo = pair[0], *hi = pair[1];
}

/* Weights (panels, k, 16), bias and clamp of a float product, and its y. */
static void draw_product_f32(product *p, size_t k, float *lo, float *hi) {
  p->padded = up(p->columns, 16);
  p->w = guard(k * (size_t)p->padded * 4, 64);
  p->bias = guard((size_t)p->padded * 4, 0);
  p->mult = guard(4, 0);
  float *w = (float *)(void *)p->w.at, *bias = (float *)(void *)p->bias.at;
  for (size_t i = 0; i < k * (size_t)p->padded; i++) w[i] = draw_float(p->mode);
  for (int32_t i = 0; i < p->padded; i++) bias[i] = draw_float(p->mode);
  draw_clamp(lo, hi);
  p->y_stride = (size_t)p->columns + (draw() % 2 ? 0 : draw() % 20);
  p->y = guard(((size_t)(p->rows - 1) * p->y_stride + (size_t)p->columns) * 4, 0);
}

static void fill_floats(region *b, case_mode mode) {
  float *x = (float *)(void *)b->at;
  for (size_t i = 0; i < b->bytes / 4; i++) x[i] = draw_float(mode);
}

/* a: pointers as oracle_s8 takes them. */
static void oracle_f32(const product *p, const float *const *a, size_t row_step, size_t tap_step, int depthwise, float lo, float hi, float *want) {
  const float *w = (const float *)(const void *)p->w.at, *bias = (const float *)(const void *)p->bias.at;
  const size_t k = (size_t)p->taps * (size_t)p->channels;
  for (int32_t r = 0; r < p->rows; r++)
    for (int32_t n = 0; n < p->columns; n++) {
      const float *column = w + (size_t)(n / 16) * k * 16 + n % 16;
      float acc = 0;
      for (int32_t t = 0; t < p->taps; t++)
        for (int32_t c = 0; c < p->channels; c++)
          acc = fmaf(a[(size_t)t * tap_step + (size_t)r * row_step][depthwise ? n : c], column[((size_t)t * (size_t)p->channels + (size_t)c) * 16], acc);
      want[(size_t)r * (size_t)p->columns + (size_t)n] = ez_clamp(acc + bias[n], lo, hi);
    }
}

static void plant_fault_f32(const product *p) {
  if (plant == PLANT_WEIGHT) ((float *)(void *)p->w.at)[0] += 3.0f;
  if (plant == PLANT_BIAS) ((float *)(void *)p->bias.at)[0] += 3.0f;
}

static size_t check_gemm_f32(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 25, 96}, taps[] = {1, 1, 2, 9}, columns[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 48, 50, 64};
  static const int32_t channels[] = {1, 2, 3, 4, 5, 8, 15, 16, 33, 65, 257};
  (void)layout, (void)sign;
  product p = {.mode = mode, .rows = PICK(rows), .taps = PICK(taps), .columns = PICK(columns), .channels = PICK(channels)};
  if (p.columns > 16 * isa->gemm_f32_panels) p.columns = 16 * isa->gemm_f32_panels;
  if (p.rows > isa->gemm_f32_rows) p.rows = isa->gemm_f32_rows;
  const size_t k = (size_t)p.taps * (size_t)p.channels;
  float lo, hi;
  draw_activations(&p, draw_in(1, 9), 0, p.channels, 1, (size_t)p.rows, (size_t)p.taps * (size_t)p.rows, 4);
  fill_floats(&p.a, mode);
  draw_product_f32(&p, k, &lo, &hi);
  const float *const *a = (const float *const *)(const void *)p.pointers.at;
  float *want = malloc((size_t)p.rows * (size_t)p.columns * 4);
  oracle_f32(&p, a, 1, (size_t)p.rows, 0, lo, hi, want);
  plant_fault_f32(&p);
  const ez_gemm_f32_args args = {.a = a, .a_stride = (size_t)p.rows, .rows = p.rows, .columns = p.columns, .taps = p.taps, .channels = p.channels,
                                 .w = (const float *)(const void *)p.w.at, .panel_floats = k * 16, .bias = (const float *)(const void *)p.bias.at,
                                 .y = (float *)(void *)p.y.at, .y_stride = p.y_stride, .lo = lo, .hi = hi};
  isa->gemm_f32(&args);
  const size_t wrong = differences(&p, (const uint8_t *)want, 4);
  free(want);
  release_product(&p);
  return wrong;
}

static size_t check_depthwise_f32(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)layout, (void)sign;
  product p = {.mode = mode, .rows = PICK(depthwise_pixels), .columns = PICK(depthwise_channels), .channels = 1};
  window v = draw_window(&p, 4);
  float lo, hi;
  fill_floats(&p.a, mode);
  memset(v.outside.at, 0, v.outside.bytes);
  draw_product_f32(&p, (size_t)p.taps, &lo, &hi);
  float *want = malloc((size_t)p.rows * (size_t)p.columns * 4);
  oracle_f32(&p, (const float *const *)(const void *)v.taps, (size_t)p.taps, 1, 1, lo, hi, want);
  plant_fault_f32(&p);
  const ez_depthwise_f32_args args = {
      .rows = (const float *const *)(const void *)v.rows.at, .steps = (const size_t *)(const void *)v.steps.at,
      .outside = (const float *)(const void *)v.outside.at, .column = v.column, .in_w = v.in_w, .lines = v.lines, .pixels = v.pixels, .stride = v.stride,
      .dilation = v.dilation, .kernel_h = v.kernel_h, .kernel_w = v.kernel_w, .channels = p.columns, .w = (const float *)(const void *)p.w.at,
      .bias = (const float *)(const void *)p.bias.at, .y = (float *)(void *)p.y.at, .y_stride = p.y_stride,
      .y_line_stride = (size_t)v.pixels * p.y_stride, .lo = lo, .hi = hi,
  };
  isa->depthwise_f32(&args);
  const size_t wrong = differences(&p, (const uint8_t *)want, 4);
  free(want);
  release_window(&v);
  release_product(&p);
  return wrong;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------- */

/* n stored bytes of each of two operands, at any alignment, and room for the result or one of them in place. */
typedef struct row_case {
  size_t n;
  region a, b, own;
  uint8_t *y;
  uint8_t *want;
} row_case;

static row_case draw_rows(case_mode mode) {
  static const int32_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 200, 256, 333};
  row_case r = {.n = (size_t)PICK(lengths)};
  r.a = guard(r.n, 0), r.b = guard(r.n, 0), r.own = guard(r.n, 0);
  for (size_t i = 0; i < r.n; i++) r.a.at[i] = draw_byte(mode), r.b.at[i] = draw_byte(mode);
  r.y = draw() % 2 ? r.own.at : r.a.at;
  r.want = malloc(r.n);
  return r;
}

static size_t release_rows(row_case *r) {
  size_t wrong = 0;
  for (size_t i = 0; i < r->n; i++) wrong += r->y[i] != r->want[i];
  release(r->a), release(r->b), release(r->own);
  free(r->want);
  return wrong;
}

static const ez_rows *rows_under_test; /* by hand, or those of rows.inc */

static size_t check_table_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)isa, (void)layout, (void)sign;
  row_case r = draw_rows(mode);
  region table = guard(256, 0);
  for (int i = 0; i < 256; i++) table.at[i] = (uint8_t)draw();
  for (size_t i = 0; i < r.n; i++) r.want[i] = table.at[r.a.at[i]];
  if (plant != PLANT_NONE) table.at[r.a.at[r.n - 1]] ^= 0x40;
  rows_under_test->table_s8(r.a.at, table.at, r.y, r.n);
  release(table);
  return release_rows(&r);
}

static size_t check_add_s8(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)isa, (void)layout;
  row_case r = draw_rows(mode);
  static const float scales[] = {0.0f, 0.25f, 0.5f, 0.7f, 1.0f, 1.3f, 3e4f, 3e38f};
  static const int32_t zeros[] = {-128, -1, 0, 3, 127};
  const float ma = PICK(scales), mb = PICK(scales);
  const int32_t za = PICK(zeros), zb = PICK(zeros), zy = PICK(zeros), lo = draw() % 2 ? -128 : -9, hi = draw() % 2 ? 127 : 60;
  for (size_t i = 0; i < r.n; i++)
    r.want[i] = ez_store(ez_to_s8(ez_centred(r.a.at[i], sign, za) * ma + ez_centred(r.b.at[i], sign, zb) * mb, lo, hi, zy), sign);
  if (plant != PLANT_NONE) r.b.at[r.n - 1] ^= 0x40;
  rows_under_test->add_s8(r.a.at, r.b.at, r.y, r.n, sign, za, zb, ma, mb, zy, lo, hi);
  return release_rows(&r);
}

static float function_of(int32_t act, float v, float alpha, float beta) {
  switch (act) {
    case EZ_UNARY_CLIP: return ez_clamp(v, alpha, beta);
    case EZ_UNARY_SIGMOID: return ez_sigmoidf(v);
    case EZ_UNARY_TANH: return ez_tanhf(v);
    case EZ_UNARY_GELU: return ez_geluf(v);
    case EZ_UNARY_SILU: return ez_siluf(v);
    case EZ_UNARY_HARD_SIGMOID: return ez_hard_sigmoidf(v, alpha, beta);
    case EZ_UNARY_HARD_SWISH: return ez_hard_swishf(v);
    case EZ_UNARY_LEAKY_RELU: return ez_leaky_reluf(v, alpha);
    case EZ_UNARY_ELU: return ez_eluf(v, alpha);
    case EZ_UNARY_SOFTPLUS: return ez_softplusf(v);
    default: return v;
  }
}

/* Rows of float results at any distance from each other; the residual's lie at another. */
static size_t check_finish_f32(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)isa, (void)layout, (void)sign;
  static const int32_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130};
  static const int32_t acts[] = {0, EZ_UNARY_CLIP, EZ_UNARY_SIGMOID, EZ_UNARY_TANH, EZ_UNARY_GELU, EZ_UNARY_SILU, EZ_UNARY_SILU, EZ_UNARY_HARD_SIGMOID,
                                 EZ_UNARY_HARD_SWISH, EZ_UNARY_HARD_SWISH, EZ_UNARY_LEAKY_RELU, EZ_UNARY_ELU, EZ_UNARY_SOFTPLUS};
  product p = {.mode = mode, .rows = draw_in(1, 5), .columns = PICK(widths)};
  const size_t residual_stride = (size_t)p.columns + (draw() % 2 ? 0 : 3);
  p.y_stride = (size_t)p.columns + (draw() % 2 ? 0 : 5);
  p.y = guard(((size_t)(p.rows - 1) * p.y_stride + (size_t)p.columns) * 4, 0);
  region residual = guard(((size_t)(p.rows - 1) * residual_stride + (size_t)p.columns) * 4, 0);
  fill_floats(&residual, mode);
  const int has_sum = draw() % 2;
  ez_finish_f32_args args = {
      .y = (float *)(void *)p.y.at, .residual = has_sum ? (const float *)(const void *)residual.at : NULL, .rows = (size_t)p.rows,
      .columns = (size_t)p.columns, .y_stride = p.y_stride, .residual_stride = residual_stride, .act = PICK(acts), .alpha = 0.3f, .beta = 0.6f,
      .factor = draw() % 2 ? 1.0f : -0.7f, .shift = draw() % 2 ? -0.0f : 0.25f, .lo = draw() % 2 ? -INFINITY : -0.5f, .hi = draw() % 2 ? INFINITY : 1.5f,
  };
  float *want = malloc((size_t)p.rows * (size_t)p.columns * 4);
  for (int32_t r = 0; r < p.rows; r++)
    for (int32_t c = 0; c < p.columns; c++) {
      float *at = args.y + (size_t)r * p.y_stride + c;
      *at = (float)draw_in(-9000, 9000) * (mode == MODE_LARGE ? 1.0f : 1e-3f);
      const float v = function_of(args.act, *at, args.alpha, args.beta) * args.factor + args.shift;
      want[r * p.columns + c] = has_sum ? ez_clamp(v + args.residual[(size_t)r * residual_stride + (size_t)c], args.lo, args.hi) : v;
    }
  if (plant != PLANT_NONE) p.y.at[p.y.bytes - 1] ^= 0x80; /* the last one's sign */
  rows_under_test->finish_f32(&args);
  const size_t wrong = differences(&p, (const uint8_t *)want, 4);
  free(want);
  release(p.y), release(residual);
  return wrong;
}

/* --- codes of 4 and 2 bits -------------------------------------------------------------------------------------------------- */

static ez_codes_form draw_form(case_mode mode) {
  static const int32_t blocks[] = {32, 64, 96, 256};
  ez_codes_form form = {.bits = draw() % 2 ? 4 : 2, .block = PICK(blocks), .is_uniform = draw() % 2 == 0};
  const int32_t count = 1 << form.bits;
  form.offset = draw_in(0, count);
  for (int32_t i = 0; i < count; i++) form.table[i] = form.is_uniform ? (int8_t)(i - form.offset) : draw_weight(mode);
  return form;
}

static region draw_codes(const ez_codes_form *form, int32_t blocks) {
  const region w = guard((size_t)blocks * ez_codes_block_bytes(form->bits, form->block), 0);
  for (size_t i = 0; i < w.bytes; i++) w.at[i] = (uint8_t)draw();
  return w;
}

static region draw_floats(size_t count) {
  const region r = guard(count * 4, 0);
  for (size_t i = 0; i < count; i++) ((float *)(void *)r.at)[i] = (float)draw_in(-999, 999) * 0.01f;
  return r;
}

static float codes_oracle(const ez_codes_args *args, int32_t r, int32_t n) {
  const ez_codes_form *form = &args->form;
  const uint8_t *w = args->w + (size_t)(n / 16) * args->panel_bytes;
  float sum = 0;
  for (int32_t g = 0; g < args->blocks; g++, w += ez_codes_block_bytes(form->bits, form->block)) {
    int32_t acc = 0;
    for (int32_t k = 0; k < form->block; k++)
      acc += args->a[(size_t)r * args->a_stride + (size_t)(g * form->block + k)] * form->table[ez_code_at(w + EZ_CODES_SCALE_BYTES, form->bits, k, n % 16)];
    sum = fmaf((float)acc, ez_codes_scale(w + 2 * (n % 16)), sum);
  }
  return (sum * args->row_scale[r]) * args->mult[n] + args->addend[n];
}

static size_t check_codes_gemv(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  static const int32_t columns[] = {1, 7, 15, 16, 17, 33, 48};
  (void)layout, (void)sign;
  ez_codes_args args = {.form = draw_form(mode), .rows = draw_in(1, EZ_CODES_ROWS), .columns = PICK(columns), .blocks = draw_in(1, 3)};
  const size_t k = (size_t)args.blocks * (size_t)args.form.block;
  const int32_t panels = (args.columns + 15) / 16;
  product p = {.rows = args.rows, .columns = args.columns, .y_stride = (size_t)args.columns + draw() % 3};
  region w = draw_codes(&args.form, args.blocks * panels), scale = draw_floats((size_t)args.rows), mult = draw_floats((size_t)panels * 16);
  region addend = draw_floats((size_t)panels * 16), sums = guard((size_t)args.rows * (size_t)args.blocks * 4, 0);
  args.a_stride = k + draw() % 5, args.panel_bytes = w.bytes / (size_t)panels;
  region a = guard((size_t)(args.rows - 1) * args.a_stride + k, 0);
  for (size_t i = 0; i < a.bytes; i++) a.at[i] = (uint8_t)draw_weight(mode);
  args.a = (const int8_t *)a.at, args.w = w.at, args.sums = (const int32_t *)(const void *)sums.at;
  args.row_scale = (const float *)(const void *)scale.at, args.mult = (const float *)(const void *)mult.at, args.addend = (const float *)(const void *)addend.at;
  for (int32_t i = 0; i < args.rows * args.blocks; i++) {
    int32_t total = 0;
    for (int32_t j = 0; j < args.form.block; j++) total += args.a[(size_t)(i / args.blocks) * args.a_stride + (size_t)(i % args.blocks * args.form.block + j)];
    ((int32_t *)(void *)sums.at)[i] = total;
  }
  float *want = malloc((size_t)args.rows * (size_t)args.columns * 4);
  for (int32_t i = 0; i < args.rows * args.columns; i++) want[i] = codes_oracle(&args, i / args.columns, i % args.columns);
  if (plant != PLANT_NONE) ((float *)(void *)(plant == PLANT_WEIGHT ? mult.at : addend.at))[0] += 30.0f;
  p.y = guard(((size_t)(p.rows - 1) * p.y_stride + (size_t)p.columns) * 4, 0);
  args.y = (float *)(void *)p.y.at, args.y_stride = p.y_stride;
  isa->codes->gemv(&args);
  const size_t wrong = differences(&p, (const uint8_t *)want, 4);
  free(want);
  release(w), release(scale), release(mult), release(addend), release(sums), release(a), release(p.y);
  return wrong;
}

static size_t check_codes_decode(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)sign;
  const ez_codes_form form = draw_form(mode);
  region w = draw_codes(&form, 1), out = guard(16 * (size_t)form.block, 0);
  int32_t sums[16];
  size_t wrong = 0;
  isa->codes->decode(&form, w.at + EZ_CODES_SCALE_BYTES, (uint32_t)layout, (int8_t *)out.at, sums);
  if (plant == PLANT_WEIGHT) out.at[0] ^= 1;
  if (plant == PLANT_BIAS) sums[15]++;
  for (int32_t n = 0; n < 16; n++) {
    for (int32_t k = 0; k < form.block; k++) {
      const int8_t entry = form.table[ez_code_at(w.at + EZ_CODES_SCALE_BYTES, form.bits, k, n)];
      wrong += (int8_t)out.at[ez_panel_at((uint32_t)layout, k, n)] != entry;
      sums[n] -= entry;
    }
    wrong += sums[n] != 0;
  }
  release(w), release(out);
  return wrong;
}

static size_t check_codes_add(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode) {
  (void)layout, (void)sign, (void)mode;
  const int32_t rows = draw_in(1, 9), stride = 16 * draw_in(1, 3);
  region scales = guard(32, 0), t = draw_floats((size_t)(rows - 1) * (size_t)stride + 16), y = draw_floats((size_t)(rows - 1) * (size_t)stride + 16);
  for (size_t i = 0; i < scales.bytes; i++) scales.at[i] = (uint8_t)draw();
  float *want = malloc(y.bytes), *held = (float *)(void *)y.at;
  memcpy(want, held, y.bytes);
  for (int32_t i = 0; i < 16 * rows; i++) {
    const int32_t at = i / 16 * stride + i % 16;
    want[at] = fmaf(((const float *)(const void *)t.at)[at], ez_codes_scale(scales.at + 2 * (i % 16)), want[at]);
  }
  if (plant != PLANT_NONE) y.at[3] ^= 0x80, t.at[3] ^= 0x80; /* the signs of the first */
  isa->codes->add_block(scales.at, (const float *)(const void *)t.at, (size_t)stride, held, (size_t)stride, rows);
  size_t wrong = 0;
  for (size_t i = 0; i < y.bytes; i++) wrong += y.at[i] != ((const uint8_t *)want)[i];
  free(want);
  release(scales), release(t), release(y);
  return wrong;
}

/* --- the table of kernels --------------------------------------------------------------------------------------------------- */

typedef size_t (*checker)(const ez_isa *isa, int32_t layout, uint32_t sign, case_mode mode);

static int run_kernel(const ez_isa *isa, const char *kernel, checker check, int32_t cases, int32_t layout, uint32_t sign) {
  size_t wrong = 0, failed = 0;
  for (int32_t i = 0; i < cases; i++) {
    const size_t bytes = check(isa, layout, sign, (case_mode)(i % MODE_COUNT));
    wrong += bytes;
    failed += bytes != 0;
  }
  printf("%s %s layout=%d sign=%u cases=%d failed=%zu bytes=%zu\n", isa->name, kernel, layout, sign, cases, failed, wrong);
  return wrong != 0;
}

static int run_table(const ez_isa *isa, int32_t cases) {
  int bad = 0;
  for (int32_t layout = EZ_LAYOUT_K4N16; layout <= EZ_LAYOUT_K8N16; layout++)
    for (int32_t sign = 0; sign < 2; sign++) {
      if (!(isa->layouts >> layout & 1u) || !(isa->act_signs >> sign & 1u)) continue;
      if (isa->gemm_s8) bad |= run_kernel(isa, "gemm_s8", check_gemm_s8, cases, layout, sign ? 0x80 : 0);
      if (isa->blocks_s8) bad |= run_kernel(isa, "blocks_s8", check_blocks_s8, cases, layout, sign ? 0x80 : 0);
      if (isa->winograd_s8) bad |= run_kernel(isa, "winograd_s8", check_winograd_s8, cases / 4, layout, sign ? 0x80 : 0);
      if (isa->depthwise_s8) bad |= run_kernel(isa, "depthwise_s8", check_depthwise_s8, cases, layout, sign ? 0x80 : 0);
    }
  if (isa->codes) {
    for (int32_t layout = EZ_LAYOUT_K4N16; layout <= EZ_LAYOUT_K8N16; layout++)
      if (isa->layouts >> layout & 1u) bad |= run_kernel(isa, "codes_decode", check_codes_decode, cases / 4, layout, 0);
    bad |= run_kernel(isa, "codes_gemv", check_codes_gemv, cases / 2, 0, 0);
    bad |= run_kernel(isa, "codes_add", check_codes_add, cases / 4, 0, 0);
  }
  if (isa->gemm_f32) bad |= run_kernel(isa, "gemm_f32", check_gemm_f32, cases, 0, 0);
  if (isa->depthwise_f32) bad |= run_kernel(isa, "depthwise_f32", check_depthwise_f32, cases, 0, 0);
  for (int by_hand = 0; by_hand < 2; by_hand++) {
    rows_under_test = by_hand ? isa->rows : isa->compiled_rows;
    if (!rows_under_test) continue;
    if (rows_under_test->table_s8) bad |= run_kernel(isa, "table_s8", check_table_s8, cases, 0, 0);
    if (rows_under_test->finish_f32) bad |= run_kernel(isa, "finish_f32", check_finish_f32, cases, 0, 0);
    for (uint32_t sign = 0; sign <= 0x80; sign += 0x80)
      if (rows_under_test->add_s8) bad |= run_kernel(isa, "add_s8", check_add_s8, cases, 0, sign);
  }
  return bad;
}

static int refuse_unsupported(void) {
  int bad = 0;
  for (int32_t i = 0; i < ez_isa_table_count(); i++) {
    ez_kernels kernels;
    const char *name = NULL;
    ez_error error;
    const ez_isa *isa = ez_isa_table(i);
    const ez_status status = ez_kernels_resolve(isa->name, EZ_LAYOUT_K4N16, 0, &kernels, &name, &error);
    printf("%s %s: %s\n", isa->name, ez_isa_runs_here(isa) ? "supported" : "unsupported", status ? error.message : name);
    bad |= (status == EZ_OK) != (ez_isa_runs_here(isa) != 0);
  }
  return bad;
}

int main(int argc, char **argv) {
  const char *only = NULL;
  int32_t cases = 400;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--isa")) only = argv[i + 1];
    if (!strcmp(argv[i], "--cases")) cases = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--seed")) state ^= strtoull(argv[i + 1], NULL, 10) * 0x9e3779b97f4a7c15ull;
    if (!strcmp(argv[i], "--plant")) plant = !strcmp(argv[i + 1], "weight") ? PLANT_WEIGHT : PLANT_BIAS;
  }
  int bad = refuse_unsupported();
  for (int32_t i = 0; i < ez_isa_table_count(); i++) {
    const ez_isa *isa = ez_isa_table(i);
    if (ez_isa_runs_here(isa) && (!only || !strcmp(only, isa->name))) bad |= run_table(isa, cases);
  }
  return bad;
}
