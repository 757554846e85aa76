/* The product of gemm_s8.c without the empty groups of its weights (EZ_FORM_BLOCKS): 2 rows by 8 outputs, two groups at a time.
 *
 * Each group brings its place, and its activations are read where they lie. The additions and loads for that run on pipes that the
 * products leave idle, so a group costs what a k-step of the dense kernel does. */
#include "isa/neon/products.h"
#include "isa/places.h"

/* Pointers of the next group into both rows. */
#define NEXT_GROUP(X0, X1)                                                                                       \
  "ldp %w[tap], %w[offset], [%[places]], #8\n add %[tap], %[tap], %[a]\n ldp %[" X0 "], %[" X1 "], [%[tap]]\n"    \
  "add %[" X0 "], %[" X0 "], %[offset]\n add %[" X1 "], %[" X1 "], %[offset]\n"
#define TWO_GROUPS(ADD)                                                                                          \
  NEXT_GROUP("x0", "x1") NEXT_GROUP("x2", "x3")                                                                  \
  "ldp q4, q5, [%[w]]\n ld1r {v0.2d}, [%[x0]]\n ld1r {v1.2d}, [%[x1]]\n"                                           \
  "ldp q6, q7, [%[w], #128]\n ld1r {v2.2d}, [%[x2]]\n ld1r {v3.2d}, [%[x3]]\n"                                     \
  FIRST_PRODUCTS "ldp q4, q5, [%[w], #32]\n" SECOND_PRODUCTS "ldp q6, q7, [%[w], #160]\n" SUMS_OF_COLUMNS_0_TO_3(ADD) \
  FIRST_PRODUCTS SECOND_PRODUCTS SUMS_OF_COLUMNS_4_TO_7(ADD) "add %[w], %[w], #256\n"
#define ONE_GROUP(ADD)                                                                                           \
  NEXT_GROUP("x0", "x1")                                                                                         \
  "ldp q4, q5, [%[w]]\n ld1r {v0.2d}, [%[x0]]\n ld1r {v1.2d}, [%[x1]]\n"                                           \
  FIRST_PRODUCTS "ldp q4, q5, [%[w], #32]\n" SUMS_OF_COLUMNS_0_TO_3(ADD) FIRST_PRODUCTS SUMS_OF_COLUMNS_4_TO_7(ADD)

/* Sums of two rows by the 8 columns at w over `groups` groups, at least 1. a[0] and a[1] are the pointers of the first tap. */
EZ_INLINE void sums_2x8(const uint8_t *const *a, const ez_place *places, uint32_t groups, const int8_t *w, int32x4_t sums[4]) {
  register int32x4_t r0_low __asm__("v16"), r0_high __asm__("v20"), r1_low __asm__("v24"), r1_high __asm__("v28");
  const uint8_t *x0, *x1, *x2, *x3;
  uint64_t tap, offset;
  uint32_t pairs = groups / 2;
  __asm__ volatile(
      "cbz %w[pairs], 3f\n" TWO_GROUPS("saddlp") "b 2f\n"
      "1:\n" TWO_GROUPS("sadalp")
      "2: subs %w[pairs], %w[pairs], #1\n b.ne 1b\n"
      "tbz %w[groups], #0, 4f\n" ONE_GROUP("sadalp") "b 4f\n"
      "3:\n" ONE_GROUP("saddlp")
      "4:\n" JOIN_PARTS
      : "=w"(r0_low), "=w"(r0_high), "=w"(r1_low), "=w"(r1_high), [places] "+r"(places), [w] "+r"(w), [pairs] "+r"(pairs), [x0] "=&r"(x0),
        [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "=&r"(x3), [tap] "=&r"(tap), [offset] "=&r"(offset)
      : [a] "r"(a), [groups] "r"(groups)
      : VECTORS, "cc", "memory");
  sums[0] = r0_low, sums[1] = r0_high, sums[2] = r1_low, sums[3] = r1_high;
}

static const uint8_t *at_place(const uint8_t *const *a, ez_place place) {
  return *(const uint8_t *const *)(const void *)((const uint8_t *)a + place.tap) + place.offset;
}

/* One row: as many weights to load as products, so a plain loop does. */
EZ_INLINE void sums_1x8(const uint8_t *const *a, const ez_place *places, uint32_t groups, const int8_t *w, int32x4_t sums[2]) {
  int32x4_t acc[8];
  for (int n = 0; n < 8; n++) acc[n] = vdupq_n_s32(0);
  for (uint32_t k = 0; k < groups; k++, w += 128) {
    const int8x16_t twice = vreinterpretq_s8_u64(vld1q_dup_u64((const uint64_t *)(const void *)at_place(a, places[k])));
    for (int i = 0; i < 4; i++) {
      const int8x16_t columns = vld1q_s8(w + 16 * i);
      acc[2 * i] = vpadalq_s16(acc[2 * i], vmull_s8(vget_low_s8(twice), vget_low_s8(columns)));
      acc[2 * i + 1] = vpadalq_s16(acc[2 * i + 1], vmull_high_s8(twice, columns));
    }
  }
  for (int h = 0; h < 2; h++) sums[h] = vpaddq_s32(vpaddq_s32(acc[4 * h], acc[4 * h + 1]), vpaddq_s32(acc[4 * h + 2], acc[4 * h + 3]));
}

/* Some of the groups of a panel. */
typedef struct piece {
  const ez_place *places;
  const int8_t *w;
  uint32_t groups;
  int32_t is_first, is_last;
} piece;

/* Rows `row` and, with ROWS 2, the next by the 8 columns from n0 on; sums of earlier pieces wait in `sums`. */
EZ_INLINE void block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t row, int32_t n0, int32x4_t (*waiting)[2],
                     const int ROWS, const int floats) {
  int32x4_t sums[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  if (p->groups && ROWS == 2) sums_2x8(g->a + row, p->places, p->groups, p->w, sums);
  if (p->groups && ROWS == 1) sums_1x8(g->a + row, p->places, p->groups, p->w, sums);
  if (!p->is_first)
    for (int i = 0; i < 2 * ROWS; i++) sums[i] = vaddq_s32(sums[i], waiting[row + i / 2][i % 2]);
  if (p->is_last) {
    uint8_t *y = floats ? NULL : g->y + (size_t)row * g->y_stride + n0;
    ez_neon_finish_8(g, q, row, g->bias + n0, g->mult + n0, sums, ROWS, y, g->columns - n0, floats);
    return;
  }
  for (int i = 0; i < 2 * ROWS; i++) waiting[row + i / 2][i % 2] = sums[i];
}

EZ_INLINE void column_block(const ez_gemm_s8_args *g, const ez_requant_neon *q, const piece *p, int32_t n0, int32x4_t (*waiting)[2],
                            const int floats) {
  int32_t row = 0;
  for (; row + 2 <= g->rows; row += 2) block(g, q, p, row, n0, waiting, 2, floats);
  if (row < g->rows) block(g, q, p, row, n0, waiting, 1, floats);
}

void ez_neon_blocks_s8(const ez_gemm_s8_args *g) {
  const ez_requant_neon q = ez_requant_neon_of(g->lo, g->hi, g->zero_point, 0);
  ez_place places[EZ_MOST_PLACES];
  int32x4_t waiting[2][EZ_ROW_BLOCK][2]; /* by half of the panel */
  for (int32_t n0 = 0; n0 < g->columns; n0 += 16) {
    const uint32_t end = g->starts[n0 / 16 + 1];
    uint32_t first = g->starts[n0 / 16];
    piece p = {.places = places, .is_first = 1};
    do {
      p.groups = end - first < EZ_MOST_PLACES ? end - first : EZ_MOST_PLACES;
      p.is_last = first + p.groups == end;
      ez_find_places(g, first, p.groups, 8, places);
      for (int32_t half = 0; half < 2 && n0 + 8 * half < g->columns; half++) {
        p.w = g->w + 128 * (size_t)first + 64 * half;
        if (g->y_f32) column_block(g, &q, &p, n0 + 8 * half, waiting[half], 1);
        else column_block(g, &q, &p, n0 + 8 * half, waiting[half], 0);
      }
      first += p.groups, p.is_first = 0;
    } while (!p.is_last);
  }
}
