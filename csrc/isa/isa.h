/* The table that an instruction set fills: one folder, one table.
 *
 * A slot left NULL falls to the next ISA of the chain that reads the same packed layout and activation sign, and at last to
 * portable C, which reads all. Kernels are stateless: no allocation, no threads, no globals. They may read up to EZ_OVERREAD
 * bytes past a buffer's end and never write outside of it. All of them compute EZ-N1 to the bit (core/numerics.h).
 * Multipliers are finite.
 */
#ifndef EDGEZIP_ISA_H
#define EDGEZIP_ISA_H

#include <stddef.h>
#include <stdint.h>

/* Rows that a product kernel takes in one call: it tiles them itself, so that one panel of weights serves all of them from the
 * first-level cache while the activations of the block stay in the second. */
#define EZ_ROW_BLOCK 192

/* One block of an int8 product: rows x (panels * 16) outputs.
 * acc[r][n] = bias[n] + sum over taps t, channels c of a[t * a_stride + r][c] * w(n, t, c); x86 reads a as unsigned
 * (stored = logical + 128), ARM as signed (act_sign says which); portable obeys act_sign.
 * Here a tap is any run of contiguous input that a packed panel pads once: one tap of the kernel, or a whole row of them
 * (core/conv_spans.h), then of kernel_w * C "channels". */
typedef struct ez_gemm_s8_args {
  const uint8_t *const *a; /* (taps, a_stride) pointers to `channels` stored bytes each; readable 64 bytes past the end */
  size_t a_stride;
  size_t row_step;  /* not 0: a[t * a_stride + r] == a[t * a_stride] + r * row_step for every t and r, if a kernel can use that */
  int32_t rows;     /* 1 .. mr of the table */
  int32_t columns;  /* 1 .. panels * 16 of the table: columns really written; bias and mult are padded to 16 */
  int32_t taps;
  int32_t channels; /* of one tap; packed weights pad it to 4 or 8 with zeros */
  const int8_t *w;  /* first panel; the next panel starts panel_bytes further */
  size_t panel_bytes;
  const int32_t *bias;
  const float *mult;
  uint8_t *y; /* stored bytes, row r at y + r * y_stride */
  size_t y_stride;
  int32_t lo, hi, zero_point; /* logical */
  int32_t small_sums;         /* as in ez_conv_params */
  int32_t small_mult;         /* every |mult| < 1: no product leaves int32, so it may be rounded first, then clamped by saturation */
  int32_t layout;             /* EZ_LAYOUT_*; only portable reads more than one */
  uint32_t act_sign;          /* 0 or 0x80 */
  /* Float result instead of bytes: y_f32[r * y_stride + n] = (f32(acc) * row_scale[r]) * mult[n] + addend[n], each operation rounded
   * on its own. Then y, lo, hi, zero_point are not used, small_sums is 0, y_stride counts floats, addend is padded to 16. */
  float *y_f32;
  const float *row_scale, *addend;
  const uint8_t *prepared;    /* what prepare_gemm_s8 of the table made of these weights, or NULL */
  int32_t panel;              /* number of the panel at w among the prepared ones */
  /* blocks_s8 only: groups [starts[p], starts[p + 1]) are panel p's of this call, group i its k-step index[i], ascending; then w is group 0's
   * 16 by k-step bytes, and panel_bytes is not used. */
  const uint32_t *starts;
  const uint16_t *index;
} ez_gemm_s8_args;

typedef struct ez_gemm_f32_args {
  const float *const *a; /* (taps, a_stride) pointers to `channels` floats */
  size_t a_stride;
  int32_t rows, columns, taps, channels;
  const float *w; /* (panel, taps*channels, 16) */
  size_t panel_floats;
  const float *bias;
  float *y;
  size_t y_stride; /* floats */
  float lo, hi;
} ez_gemm_f32_args;

/* 3x3 convolution of stride 1 by tiles of 2x2 outputs (Winograd, F(2x2, 3x3): 16 products where there were 36), exact: see
 * isa/avx2/winograd_s8.c. channels are a multiple of 4, at most EZ_WINOGRAD_CHANNELS. */
#define EZ_WINOGRAD_CHANNELS 1024
typedef struct ez_winograd_s8_args {
  const uint8_t *const *a; /* (tiles, 4, 4) input pixels that a tile sees, `channels` stored bytes each, readable 64 bytes past the end */
  uint8_t *const *y;       /* (tiles, 2, 2) where its outputs go, or NULL for one that there is not */
  int32_t tiles, channels;
  int32_t columns; /* outputs; bias and mult are padded to 16 */
  const int8_t *w; /* K4N16 panels of rows of taps: (kernel row, kernel column, channel) */
  size_t panel_bytes;
  const int32_t *bias;
  const float *mult;
  int32_t lo, hi, zero_point, small_mult;
  uint8_t *scratch; /* winograd_scratch(tiles, channels) bytes, on 64 */
} ez_winograd_s8_args;

/* Depthwise: `pixels` output pixels of each of `lines` output rows, all channels. In one line:
 * acc[p][c] = bias[c] + sum over ky, kx of in(ky, column + p * stride + kx * dilation)[c] * w(c, ky, kx), where in(ky, ix) lies at
 * rows[ky] + ix * steps[ky] for 0 <= ix < in_w, and is `outside` elsewhere (isa/depthwise.h). */
typedef struct ez_depthwise_s8_args {
  const uint8_t *const *rows; /* (lines, kernel_h) pixel 0 of an input row, or `outside` for a row that does not exist */
  const size_t *steps;        /* (lines, kernel_h) bytes from pixel to pixel; 0 for a row that does not exist */
  const uint8_t *outside;     /* channels stored zero points */
  int32_t column;             /* input column of pixel 0 at kx 0; negative in the left padding */
  int32_t in_w, lines, pixels, stride, dilation, kernel_h, kernel_w, channels;
  const int8_t *w; /* layout as in ez_format.h */
  const int32_t *bias;
  const float *mult;
  uint8_t *y;
  size_t y_stride, y_line_stride; /* bytes from pixel to pixel, from line to line */
  int32_t lo, hi, zero_point, small_sums, layout;
  uint32_t act_sign;
} ez_depthwise_s8_args;

typedef struct ez_depthwise_f32_args {
  const float *const *rows;
  const size_t *steps; /* floats from pixel to pixel */
  const float *outside;
  int32_t column, in_w, lines, pixels, stride, dilation, kernel_h, kernel_w, channels;
  const float *w; /* (C/16, kernel_h * kernel_w, 16) */
  const float *bias;
  float *y;
  size_t y_stride, y_line_stride; /* floats */
  float lo, hi;
} ez_depthwise_f32_args;

/* What follows a float32 product while it is still near: y = act(y) * factor + shift, then clamp(y + residual, lo, hi). */
typedef struct ez_finish_f32_args {
  float *y;
  const float *residual; /* NULL: no sum and no clamp */
  size_t rows, columns, y_stride, residual_stride;
  int32_t act; /* 0, or EZ_UNARY_* */
  float alpha, beta;
  float factor, shift; /* 1 and -0.0f leave every number as it is */
  float lo, hi;
} ez_finish_f32_args;

/* Row kernels: n contiguous elements, in place allowed where types are equal. All are written once in isa/rows.inc and compiled per
 * ISA with that folder's flags (the compiler vectorises them): compiled_rows. `rows` are hand-written ones; a slot left NULL there
 * falls to compiled_rows, then to the next table of the chain. */
typedef struct ez_rows {
  void (*add_s8)(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi);
  void (*sub_s8)(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float ma, float mb, int32_t zy, int32_t lo, int32_t hi);
  void (*mul_s8)(const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n, uint32_t act_sign, int32_t za, int32_t zb, float m, int32_t zy, int32_t lo, int32_t hi);
  void (*table_s8)(const uint8_t *x, const uint8_t *table, uint8_t *y, size_t n);
  void (*quantize)(const float *x, uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi);
  void (*quantize_planes)(const float *const planes[3], uint8_t *y, size_t n, uint32_t act_sign, float scale, int32_t zy, int32_t lo, int32_t hi); /* to n pixels of three */
  void (*dequantize)(const uint8_t *x, float *y, size_t n, uint32_t act_sign, float scale, int32_t zx);
  void (*requantize)(const uint8_t *x, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zx, int32_t zy, int32_t lo, int32_t hi);
  void (*max_s8)(const uint8_t *const *x, int32_t taps, uint8_t *y, size_t n, size_t pixels, size_t step_x, size_t step_y, uint32_t act_sign); /* y[p * step_y + i] = max over taps of x[t][p * step_x + i]; one pixel: y may be x[0] */
  void (*sum_s8)(const uint8_t *const *x, int32_t taps, int32_t *sums, size_t n, uint32_t act_sign, int32_t zx);        /* sums[i] += over taps of (x - zx) */
  void (*scale_s32)(const int32_t *sums, uint8_t *y, size_t n, uint32_t act_sign, float count, float m, int32_t zy, int32_t lo, int32_t hi);
  void (*prelu_s8)(const uint8_t *x, const float *positive, const float *negative, uint8_t *y, size_t n, uint32_t act_sign, int32_t zx, int32_t zy, int32_t lo, int32_t hi);
  void (*lerp_s8)(const uint8_t *const corner[4], float across, float down, uint8_t *y, size_t n, uint32_t act_sign, int32_t zx, float m, int32_t zy, int32_t lo, int32_t hi);
  void (*softmax_s8)(const uint8_t *x, const float *table, uint8_t *y, size_t n, uint32_t act_sign, float m, int32_t zy); /* table[d] = exp(-d * sx) */
  void (*unary_f32)(int32_t kind, const float *x, float *y, size_t n, float alpha, float beta);               /* EZ_UNARY_* */
  void (*finish_f32)(const ez_finish_f32_args *args);
  void (*binary_f32)(int32_t kind, const float *a, const float *b, float *y, size_t n, float lo, float hi);   /* EZ_BINARY_ADD .. MAX */
  void (*prelu_f32)(const float *x, const float *slope, float *y, size_t n);
  void (*lerp_f32)(const float *const corner[4], float across, float down, float *y, size_t n);
  void (*attend_f32)(const float *x, const float *mask, float factor, int32_t divides, float *y, size_t n); /* softmax of x * factor (or x / factor) + mask; mask may be NULL */
  void (*turn_8)(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step, size_t rows, size_t columns);  /* out[c * out_step + r] = in[r * in_step + c] */
  void (*turn_32)(const void *in, size_t in_step, void *out, size_t out_step, size_t rows, size_t columns);      /* the same of 4-byte elements */
  void (*max_f32)(const float *const *x, int32_t taps, float *y, size_t n, size_t pixels, size_t step_x, size_t step_y); /* the same; numbers that are none may win or lose */
  void (*sum_f32)(const float *const *x, int32_t taps, float *sums, size_t n); /* sums[i] += ascending taps */
  int32_t (*logical_s8)(const uint8_t *x, size_t step_x, int8_t *y, size_t step_y, size_t rows, size_t n, uint32_t act_sign); /* logical bytes, -128 cut to -127; whether there was one */
  void (*quads_s8)(const int8_t *x, size_t step, size_t quads, int8_t *w); /* four rows of 16 side by side: w[k / 4 * 64 + 4 n + k % 4] = x[k * step + n] */
  float (*quantize_row)(const float *x, uint8_t *y, size_t n, uint32_t act_sign); /* rule 8: gives s = max|x| / 127 (1 where that is 0), y = rne(x / s) in [-127, 127] */
  void (*norm_f32)(const float *x, const float *more, float *s, const float *scale, const float *bias, float *y, size_t n, float epsilon, int32_t centres); /* ez_norm_params; more and bias may be NULL; s = x + more is kept if there is more, and may be x or y */
} ez_rows;

/* Typical GMAC/s of one core with the kernels of a table, over the layers of whole networks: what a step's time is guessed by, to decide how
 * many threads it is worth (core/work.h). A factor of two does no harm; 0 is taken as 8. */
typedef struct ez_rates {
  float gemm_s8, gemm_f32, depthwise_s8, depthwise_f32;
} ez_rates;

typedef struct ez_isa {
  const char *name;
  uint32_t features;                            /* EZ_CPU_* bits that must all be there (core/cpu.h) */
  uint32_t layouts;                             /* bit (1 << EZ_LAYOUT_*) that its s8 kernels read */
  uint32_t act_signs;                           /* bit 0: sign 0, bit 1: sign 0x80 */
  const char *next;                             /* next in the chain, NULL for portable */
  int32_t gemm_s8_rows, gemm_s8_panels;         /* the largest block that the kernel takes */
  void (*gemm_s8)(const ez_gemm_s8_args *args);
  /* Optional: packed weights in a form of the kernel's own, made when a step first runs. The room that they may take (0: not worth it for
   * calls of at most `rows` rows), and what they took. `out` lies on 64 bytes; taps and channels as in ez_gemm_s8_args. */
  size_t (*prepared_room)(int32_t panels, int32_t taps, int32_t channels, int32_t rows);
  size_t (*prepare_gemm_s8)(const int8_t *w, size_t panel_bytes, int32_t panels, int32_t taps, int32_t channels, uint8_t *out);
  /* The same product with the empty groups of the weights left out (EZ_FORM_BLOCKS), to the bit that of gemm_s8, in blocks of its size. */
  void (*blocks_s8)(const ez_gemm_s8_args *args);
  const char *blocks_name; /* of that kernel in reports */
  void (*winograd_s8)(const ez_winograd_s8_args *args); /* where it beats gemm_s8 */
  size_t (*winograd_scratch)(int32_t tiles, int32_t channels);
  int32_t gemm_f32_rows, gemm_f32_panels;
  void (*gemm_f32)(const ez_gemm_f32_args *args);
  void (*depthwise_s8)(const ez_depthwise_s8_args *args);
  void (*depthwise_f32)(const ez_depthwise_f32_args *args);
  const struct ez_codes_kernels *codes; /* isa/codes.h */
  const ez_rows *rows, *compiled_rows;
  ez_rates rates;
} ez_isa;

#endif
