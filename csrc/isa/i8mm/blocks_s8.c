/* The product of gemm_s8.c without the empty groups of its weights (EZ_FORM_BLOCKS): 4 rows by 16 outputs, a group a step. */
#include "isa/i8mm/products.h"
#include "isa/places.h"

/* Some of the groups of a panel. */
typedef struct piece {
  const ez_place *places;
  const int8_t *w;
  uint32_t groups;
  int32_t is_first, is_last;
  const ez_i8mm_constants *constants;
} piece;

/* ROWS rows from `row` on by the 16 columns from n0 on; sums of earlier pieces wait in `waiting`. An odd row counts twice and is stored
 * once. ONE_TAP: row pointers do not change. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t row, int32_t n0, int32x4_t (*waiting)[8],
                     const int ROWS, const int ONE_TAP) {
  const int PAIRS = (ROWS + 1) / 2;
  int32x4_t acc[EZ_I8MM_ROWS / 2][8];
  for (int k = 0; k < PAIRS; k++)
    for (int i = 0; i < 8; i++) acc[k][i] = p->is_first ? p->constants->bias[i] : waiting[row / 2 + k][i];
  const uint8_t *a[EZ_I8MM_ROWS];
  for (int r = 0; r < 2 * PAIRS; r++) a[r] = g->a[row + (r < ROWS ? r : 0)];
  const int8_t *w = p->w;
  for (const ez_place *at = p->places, *end = at + p->groups; at != end; at++, w += 128) {
    const uint8_t *const *pointers = (const uint8_t *const *)(const void *)((const uint8_t *)(g->a + row) + at->tap);
    int8x16_t x[EZ_I8MM_ROWS / 2];
    for (int k = 0; k < PAIRS; k++) {
      const uint8_t *x0 = ONE_TAP ? a[2 * k] : pointers[2 * k], *x1 = ONE_TAP ? a[2 * k + 1] : pointers[2 * k + 1 < ROWS ? 2 * k + 1 : 2 * k];
      x[k] = vreinterpretq_s8_u8(vcombine_u8(vld1_u8(x0 + at->offset), vld1_u8(x1 + at->offset)));
    }
    for (int i = 0; i < 8; i += 2) {
      EZ_KEEP_LOADS_HERE;
      const int8x16_t even = vld1q_s8(w + 16 * i), odd = vld1q_s8(w + 16 * i + 16);
      for (int k = 0; k < PAIRS; k++) acc[k][i] = vmmlaq_s32(acc[k][i], x[k], even);
      for (int k = 0; k < PAIRS; k++) acc[k][i + 1] = vmmlaq_s32(acc[k][i + 1], x[k], odd);
    }
  }
  if (p->is_last) {
    ez_i8mm_finish(g, q, p->constants, row, acc, g->y + (size_t)row * g->y_stride + n0, g->columns - n0, ROWS);
    return;
  }
  for (int k = 0; k < PAIRS; k++)
    for (int i = 0; i < 8; i++) waiting[row / 2 + k][i] = acc[k][i];
}

EZ_INLINE void rows_of_piece(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t n0, int32x4_t (*waiting)[8],
                             const int ONE_TAP) {
  int32_t row = 0;
  for (; row + 4 <= g->rows; row += 4) block(g, q, p, row, n0, waiting, 4, ONE_TAP);
  if (row + 2 <= g->rows) block(g, q, p, row, n0, waiting, 2, ONE_TAP), row += 2;
  if (row < g->rows) block(g, q, p, row, n0, waiting, 1, ONE_TAP);
}

void ez_i8mm_blocks_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  ez_place places[EZ_MOST_PLACES];
  int32x4_t waiting[EZ_ROW_BLOCK / 2][8];
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    const ez_i8mm_constants constants = ez_i8mm_constants_of(g, &q, n0);
    const uint32_t end = g->starts[n0 / 16 + 1];
    uint32_t first = g->starts[n0 / 16];
    piece p = {.places = places, .is_first = 1, .constants = &constants};
    do {
      p.groups = end - first < EZ_MOST_PLACES ? end - first : EZ_MOST_PLACES;
      p.is_last = first + p.groups == end;
      p.w = g->w + 128 * (size_t)first;
      ez_find_places(g, first, p.groups, 8, places);
      if (g->taps == 1) rows_of_piece(g, &q, &p, n0, waiting, 1);
      else rows_of_piece(g, &q, &p, n0, waiting, 0);
      first += p.groups, p.is_first = 0;
    } while (!p.is_last);
  }
}
