/* The product of gemm_s8.c without the empty groups of its weights (EZ_FORM_BLOCKS): 12 rows of a piece of K are brought to the stack once
 * for all panels of the call, then each panel walks its list. Two panels with the same list (blocks of 4 x 32) go together: 24 sums,
 * and each broadcast serves both. */
#include <string.h>

#include "isa/avx512vnni/requant.h"
#include "isa/pieces.h"

#define ROWS 12
#define MOST_PANELS 4
#define PITCH (4 * EZ_PIECE + 64) /* bytes; whole registers are stored */

typedef struct scratch {
  uint8_t rows[ROWS][PITCH] __attribute__((aligned(64)));
  int32_t sums[MOST_PANELS][ROWS][16] __attribute__((aligned(64)));
  uint32_t next[MOST_PANELS]; /* the first group of each panel that the next piece may hold */
} scratch;

static void bring_span(const uint8_t *from, int32_t steps, uint8_t *to) {
  for (int32_t b = 0; b < 4 * steps; b += 64) _mm512_storeu_si512(to + b, _mm512_loadu_si512(from + b));
}

/* The call as panels [panel, panel + P) see it. */
EZ_INLINE ez_gemm_s8_args from_panel(const ez_gemm_s8_args *g, int32_t panel) {
  ez_gemm_s8_args one = *g;
  one.columns -= 16 * panel, one.bias += 16 * panel, one.mult += 16 * panel;
  if (g->y_f32) one.y_f32 += 16 * panel, one.addend += 16 * panel;
  else one.y += 16 * panel;
  return one;
}

EZ_INLINE void finish(const ez_gemm_s8_args *g, const ez_piece *p, __m512i acc[ROWS][4], const int R, const int P) {
  ez_gemm_s8_args one = from_panel(g, p->panel);
  if (one.columns > 16 * P) one.columns = 16 * P;
  if (__builtin_expect(g->y_f32 != NULL, 0)) {
    ez_store_float_tile(&one, p->row, R, P, acc);
    return;
  }
  const ez_requant_zmm q = ez_requant_zmm_of(&one, P);
  ez_store_tile(&one, &q, one.y + (size_t)p->row * g->y_stride, R, P, acc);
}

/* R rows by P panels, the weights of the second `apart` bytes behind those of the first. */
EZ_INLINE void block(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p, size_t apart, const int R, const int P) {
  __m512i acc[ROWS][4];
#pragma GCC unroll 2
  for (int i = 0; i < P; i++)
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) acc[r][i] = _mm512_loadu_si512(p->is_first ? g->bias + 16 * (p->panel + i) : s->sums[p->panel + i][r]);
  const int8_t *w = p->w;
  const uint8_t *rows = s->rows[0] - 4 * (ptrdiff_t)p->first;
  for (const uint16_t *k = p->index; k != p->end; k++, w += 64) {
    const uint8_t *x = rows + 4 * (ptrdiff_t)*k;
    __m512i b[2];
    for (int i = 0; i < P; i++) b[i] = _mm512_loadu_si512(w + (size_t)i * apart);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      int32_t four;
      memcpy(&four, x + r * PITCH, 4);
      const __m512i both = _mm512_set1_epi32(four);
      for (int i = 0; i < P; i++) acc[r][i] = _mm512_dpbusd_epi32(acc[r][i], both, b[i]);
    }
  }
  /* As in gemm_s8.c: else gcc 12 stores every sum at every step. */
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int i = 0; i < P; i++) __asm__ volatile("" : "+v"(acc[r][i]));
  if (p->is_last) {
    finish(g, p, acc, R, P);
    return;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int i = 0; i < P; i++) _mm512_store_si512(s->sums[p->panel + i][r], acc[r][i]);
}

#define INSTANCE(R, P) \
  static __attribute__((noinline)) void rows_##R##x##P(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p, size_t apart) { block(g, s, p, apart, R, P); }
#define INSTANCES(P)                                                                                                                  \
  INSTANCE(1, P) INSTANCE(2, P) INSTANCE(3, P) INSTANCE(4, P) INSTANCE(5, P) INSTANCE(6, P) INSTANCE(7, P) INSTANCE(8, P) INSTANCE(9, P) \
  INSTANCE(10, P) INSTANCE(11, P) INSTANCE(12, P)
#define NAMES(P)                                                                                                               \
  { rows_1x##P, rows_2x##P, rows_3x##P, rows_4x##P, rows_5x##P, rows_6x##P, rows_7x##P, rows_8x##P, rows_9x##P, rows_10x##P, \
    rows_11x##P, rows_12x##P }
INSTANCES(1) INSTANCES(2)

typedef void (*block_fn)(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p, size_t apart);
static const block_fn blocks[2][ROWS] = {NAMES(1), NAMES(2)};

/* The groups of a piece of a panel. */
static ez_piece piece_of(const ez_gemm_s8_args *g, scratch *s, int32_t panel, int32_t row, int32_t first, int32_t steps) {
  const int is_last = first + steps == g->taps * ((g->channels + 3) / 4);
  const uint32_t from = s->next[panel], to = is_last ? g->starts[panel + 1] : ez_groups_before(g, panel, from, first + steps);
  s->next[panel] = to;
  return (ez_piece){g->index + from, g->index + to, g->w + 64 * (size_t)from, first, panel, row, first == 0, is_last};
}

static int same_list(const ez_piece *a, const ez_piece *b) {
  return a->end - a->index == b->end - b->index && !memcmp(a->index, b->index, (size_t)(a->end - a->index) * sizeof *a->index);
}

static void row_block(const ez_gemm_s8_args *g, scratch *s, int32_t panels, int32_t row, int32_t rows) {
  memcpy(s->next, g->starts, (size_t)panels * sizeof *s->next);
  for (int32_t first = 0, steps; (steps = ez_piece_steps(g, first)) > 0; first += steps) {
    ez_bring_rows(g, first, steps, row, rows, s->rows[0], PITCH, bring_span);
    for (int32_t p = 0; p < panels; p++) {
      const ez_piece one = piece_of(g, s, p, row, first, steps);
      if (p + 1 < panels) {
        const ez_piece other = piece_of(g, s, p + 1, row, first, steps);
        if (same_list(&one, &other)) blocks[1][rows - 1](g, s, &one, (size_t)(other.w - one.w));
        else blocks[0][rows - 1](g, s, &one, 0), blocks[0][rows - 1](g, s, &other, 0);
        p++;
      } else {
        blocks[0][rows - 1](g, s, &one, 0);
      }
    }
  }
}

void ez_avx512vnni_blocks_s8(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16, parts = (g->rows + ROWS - 1) / ROWS;
  scratch s;
  for (int32_t i = 0, row = 0, next; i < parts; i++, row = next) {
    next = (i + 1) * g->rows / parts;
    row_block(g, &s, panels, row, next - row);
  }
}
