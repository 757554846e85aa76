/* Matrices of elements turned over a diagonal, in plain C: out[c * out_step + r] = in[r * in_step + c], steps in elements. What the
 * row kernels of rows.inc are, and what hand-written ones leave to narrow matrices. */
#ifndef EDGEZIP_ISA_TURN_H
#define EDGEZIP_ISA_TURN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) ez_word32;

static inline void ez_turn_single_bytes(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step, size_t rows, size_t columns) {
  for (size_t i = 0; i < columns; i++)
    for (size_t r = 0; r < rows; r++) out[i * out_step + r] = in[r * in_step + i];
}

static inline void ez_turn_words(const ez_word32 *in, size_t in_step, ez_word32 *out, size_t out_step, size_t rows, size_t columns) {
  if (rows == 3 && out_step == 3) { /* planes of a picture to pixels */
    const ez_word32 *a = in, *b = in + in_step, *c = b + in_step;
    for (size_t i = 0; i < columns; i++) out[3 * i] = a[i], out[3 * i + 1] = b[i], out[3 * i + 2] = c[i];
    return;
  }
  for (size_t i = 0; i < columns; i++)
    for (size_t r = 0; r < rows; r++) out[i * out_step + r] = in[r * in_step + i];
}

/* Halves that stand crosswise in two rows change places: `bits` apart in a word, those of `mask`. */
static inline void ez_swap_halves(uint64_t *a, uint64_t *b, int bits, uint64_t mask) {
  const uint64_t crossed = (*a >> bits ^ *b) & mask;
  *b ^= crossed;
  *a ^= crossed << bits;
}

/* 8 x 8 bytes in eight words: 4x4 blocks, then 2x2, then single bytes change places. */
static inline void ez_turn_8x8(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step) {
  uint64_t rows[8];
  for (size_t r = 0; r < 8; r++) memcpy(&rows[r], in + r * in_step, 8);
  for (int r = 0; r < 4; r++) ez_swap_halves(&rows[r], &rows[r + 4], 32, 0x00000000ffffffffu);
  for (int r = 0; r < 8; r += r % 4 ? 3 : 1) ez_swap_halves(&rows[r], &rows[r + 2], 16, 0x0000ffff0000ffffu);
  for (int r = 0; r < 8; r += 2) ez_swap_halves(&rows[r], &rows[r + 1], 8, 0x00ff00ff00ff00ffu);
  for (size_t r = 0; r < 8; r++) memcpy(out + r * out_step, &rows[r], 8);
}

/* Three planes to pixels: a word a pixel, whose fourth byte the next pixel overwrites; the last one is written exactly. */
static inline void ez_turn_picture(const uint8_t *in, size_t in_step, uint8_t *out, size_t columns) {
  const uint8_t *a = in, *b = in + in_step, *c = b + in_step;
  for (size_t i = 0; i + 1 < columns; i++) {
    const uint32_t pixel = a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16;
    memcpy(out + 3 * i, &pixel, 4);
  }
  const size_t last = columns - 1;
  out[3 * last] = a[last], out[3 * last + 1] = b[last], out[3 * last + 2] = c[last];
}

static inline void ez_turn_bytes(const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step, size_t rows, size_t columns) {
  if (rows == 3 && out_step == 3) {
    ez_turn_picture(in, in_step, out, columns);
    return;
  }
  const size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
  for (size_t r = 0; r < whole_rows; r += 8)
    for (size_t c = 0; c < whole_columns; c += 8) ez_turn_8x8(in + r * in_step + c, in_step, out + c * out_step + r, out_step);
  ez_turn_single_bytes(in + whole_columns, in_step, out + whole_columns * out_step, out_step, whole_rows, columns - whole_columns);
  ez_turn_single_bytes(in + whole_rows * in_step, in_step, out + whole_rows, out_step, rows - whole_rows, columns);
}

#endif
