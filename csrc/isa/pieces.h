/* Block-sparse products over rows that are brought to the stack a piece of K at a time: a group's place in K is then a place in those rows,
 * whatever the taps. For folders with few address registers. */
#ifndef EDGEZIP_PIECES_H
#define EDGEZIP_PIECES_H

#include "isa/isa.h"

#define EZ_PIECE 256 /* k-steps of 4 */

/* The groups of a panel that lie in a piece of K. */
typedef struct ez_piece {
  const uint16_t *index, *end;
  const int8_t *w;
  int32_t first; /* k-step that the rows begin with */
  int32_t panel, row;
  int32_t is_first, is_last;
} ez_piece;

/* Calls `bring` for the parts of spans that make k-steps [first, first + steps) of rows [row0, row0 + rows); row r goes to to + r * pitch, 4
 * bytes of room a step. */
static inline __attribute__((always_inline)) void ez_bring_rows(const ez_gemm_s8_args *g, int32_t first, int32_t steps, int32_t row0, int32_t rows,
                                                                 uint8_t *to, size_t pitch,
                                                                 void (*bring)(const uint8_t *from, int32_t steps, uint8_t *to)) {
  const int32_t span = (g->channels + 3) / 4;
  for (int32_t r = 0; r < rows; r++, to += pitch) {
    const uint8_t *const *a = g->a + (size_t)(first / span) * g->a_stride + (size_t)(row0 + r);
    uint8_t *next = to;
    for (int32_t at = first % span, left = steps; left > 0; at = 0, a += g->a_stride) {
      const int32_t n = span - at < left ? span - at : left;
      bring(*a + 4 * (size_t)at, n, next);
      next += 4 * n, left -= n;
    }
  }
}

/* The first group of `panel` from `next` on that lies at step `end` or behind. */
static inline uint32_t ez_groups_before(const ez_gemm_s8_args *g, int32_t panel, uint32_t next, int32_t end) {
  const uint32_t last = g->starts[panel + 1];
  while (next < last && g->index[next] < end) next++;
  return next;
}

static inline int32_t ez_piece_steps(const ez_gemm_s8_args *g, int32_t first) {
  const int32_t left = g->taps * ((g->channels + 3) / 4) - first;
  return left < EZ_PIECE ? left : EZ_PIECE;
}

#endif
