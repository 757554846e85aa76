/* Products with weights of 4 or 2 bits: indices into a table of int8, packed as EZ_OP_CODES in ez_format.h says.
 *
 * Sums of a block are exact integers; y = fmaf(f32(sum), scale of the block, y) in ascending blocks (EZ-N1 rule 1). */
#ifndef EDGEZIP_CODES_H
#define EDGEZIP_CODES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EZ_CODES_ROWS 4        /* of gemv */
#define EZ_CODES_SCALE_BYTES 32 /* f16 of 16 columns, before the codes of a block */

typedef struct ez_codes_form {
  int32_t bits, block;
  int32_t is_uniform, offset; /* table[i] == i - offset for every code */
  int8_t table[16];
} ez_codes_form;

typedef struct ez_codes_args {
  ez_codes_form form;
  int32_t rows, columns, blocks; /* 1 .. EZ_CODES_ROWS; written; of K, the last one padded */
  const int8_t *a;               /* logical values in [-127, 127], row r at a + r * a_stride, zeros up to blocks * block */
  size_t a_stride;
  const int32_t *sums; /* (rows, blocks): of a over each block */
  const float *row_scale;
  const uint8_t *w;
  size_t panel_bytes;
  const float *mult, *addend; /* padded to 16 */
  float *y;                   /* (f32 sum * row_scale) * mult + addend, each rounded */
  size_t y_stride;
} ez_codes_args;

/* A table's kernels: all or none. */
typedef struct ez_codes_kernels {
  const char *name;
  int32_t most_uniform, most_codebook; /* rows of a block that gemv serves faster than decode and the int8 product; measured */
  void (*gemv)(const ez_codes_args *args);
  /* One block of a panel as int8 in the program's layout, and the sum of each column. */
  void (*decode)(const ez_codes_form *form, const uint8_t *codes, uint32_t layout, int8_t *out, int32_t sums[16]);
  /* y[r * y_stride + n] = fmaf(t[r * t_stride + n], scale[n], y[...]) for rows of 16. */
  void (*add_block)(const uint8_t *scales, const float *t, size_t t_stride, float *y, size_t y_stride, int32_t rows);
} ez_codes_kernels;

static inline size_t ez_codes_block_bytes(int32_t bits, int32_t block) { return EZ_CODES_SCALE_BYTES + 2 * (size_t)bits * (size_t)block; }

/* A half of which any bits are a finite number >= 0: the format's own for all that a packer writes. */
static inline float ez_codes_scale(const uint8_t *at) {
  const uint32_t bits = ((uint32_t)at[0] | (uint32_t)at[1] << 8) << 13;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value * 0x1p112f;
}

/* The code of element k of a block in column n. */
static inline int32_t ez_code_at(const uint8_t *codes, int32_t bits, int32_t k, int32_t n) {
  const int32_t planes = 8 / bits, step = 4 * planes;
  return codes[k / step * 64 + n * 4 + k % 4] >> (bits * (k % step / 4)) & ((1 << bits) - 1);
}

/* Where element k of column n lies in an int8 panel. */
static inline size_t ez_panel_at(uint32_t layout, int32_t k, int32_t n) {
  const int32_t step = layout == 2 ? 8 : 4; /* EZ_LAYOUT_K8N16 */
  return (size_t)(k / step * 16 * step + n * step + k % step);
}

#endif
