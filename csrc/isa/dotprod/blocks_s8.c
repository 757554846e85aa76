/* The product of gemm_s8.c without the empty groups of its weights (EZ_FORM_BLOCKS): 4 rows by 16 outputs, a group a step. The four
 * bytes that a row has of a group are loaded into lane 0: as many loads as A76-class cores do beside 16 products. */
#include "isa/dotprod/products.h"
#include "isa/places.h"

/* Some of the groups of a panel. */
typedef struct piece {
  const ez_place *places;
  const int8_t *w;
  uint32_t groups;
  int32_t is_first, is_last;
  const int32x4_t *bias; /* with q's bias offset */
} piece;

EZ_INLINE int8x16_t four_bytes(const uint8_t *at) {
  int32_t four;
  memcpy(&four, at, 4);
  return vreinterpretq_s8_s32(vsetq_lane_s32(four, vdupq_n_s32(0), 0));
}

/* R rows from `row` on by the 16 columns from n0 on; sums of earlier pieces wait in `waiting`. ONE_TAP: row pointers do not change. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t row, int32_t n0, int32x4_t (*waiting)[4],
                     const int R, const int ONE_TAP) {
  int32x4_t acc[4][4];
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 4; i++) acc[r][i] = p->is_first ? p->bias[i] : waiting[row + r][i];
  const uint8_t *a[4];
  for (int r = 0; r < R; r++) a[r] = g->a[row + r];
  const int8_t *w = p->w;
  for (const ez_place *at = p->places, *end = at + p->groups; at != end; at++, w += 64) {
    const uint8_t *const *pointers = (const uint8_t *const *)(const void *)((const uint8_t *)(g->a + row) + at->tap);
    int8x16_t x[4];
    for (int r = 0; r < R; r++) x[r] = four_bytes((ONE_TAP ? a[r] : pointers[r]) + at->offset);
    for (int h = 0; h < 2; h++) {
      EZ_KEEP_LOADS_HERE;
      const int8x16_t b0 = vld1q_s8(w + 32 * h), b1 = vld1q_s8(w + 32 * h + 16);
      for (int r = 0; r < R; r++) {
        acc[r][2 * h] = vdotq_laneq_s32(acc[r][2 * h], b0, x[r], 0);
        acc[r][2 * h + 1] = vdotq_laneq_s32(acc[r][2 * h + 1], b1, x[r], 0);
      }
    }
  }
  if (p->is_last) {
    ez_dotprod_finish(g, q, row, g->mult + n0, acc, g->y + (size_t)row * g->y_stride + n0, g->columns - n0, R);
    return;
  }
  for (int r = 0; r < R; r++)
    for (int i = 0; i < 4; i++) waiting[row + r][i] = acc[r][i];
}

EZ_INLINE void rows_of_piece(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t n0, int32x4_t (*waiting)[4],
                             const int ONE_TAP) {
  int32_t row = 0;
  for (; row + 4 <= g->rows; row += 4) block(g, q, p, row, n0, waiting, 4, ONE_TAP);
  if (row + 2 <= g->rows) block(g, q, p, row, n0, waiting, 2, ONE_TAP), row += 2;
  if (row < g->rows) block(g, q, p, row, n0, waiting, 1, ONE_TAP);
}

void ez_dotprod_blocks_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, g->small_sums);
  ez_place places[EZ_MOST_PLACES];
  int32x4_t waiting[EZ_ROW_BLOCK][4];
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    int32x4_t bias[4];
    for (int i = 0; i < 4; i++) bias[i] = vaddq_s32(vld1q_s32(g->bias + n0 + 4 * i), q.bias_offset);
    const uint32_t end = g->starts[n0 / 16 + 1];
    uint32_t first = g->starts[n0 / 16];
    piece p = {.places = places, .is_first = 1, .bias = bias};
    do {
      p.groups = end - first < EZ_MOST_PLACES ? end - first : EZ_MOST_PLACES;
      p.is_last = first + p.groups == end;
      p.w = g->w + 64 * (size_t)first;
      ez_find_places(g, first, p.groups, 4, places);
      if (g->taps == 1) rows_of_piece(g, &q, &p, n0, waiting, 1);
      else rows_of_piece(g, &q, &p, n0, waiting, 0);
      first += p.groups, p.is_first = 0;
    } while (!p.is_last);
  }
}
