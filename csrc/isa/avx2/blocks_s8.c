/* int8 product without the empty groups of its weights (EZ_FORM_BLOCKS), exact: 16-bit products as in gemm_s8.c.
 *
 * Six rows of a piece of K are widened to the stack once for all panels of the call; a panel then walks its list, and a group's place in K
 * is a place in those rows. Weights are read as they are in the file and widened in registers, for six rows at once: 54 vector
 * operations for 384 products, where the dense kernels need 36 to 48. Between pieces of K the sums of the six rows wait in `sums`. */
#include "isa/avx2/avx2.h"
#include "isa/avx2/requant.h"
#include "isa/avx2/wide.h"
#include "isa/pieces.h"

#define ROWS EZ_WIDE_ROWS
#define MOST_PANELS 8
#define ODD (4 * EZ_PIECE + 32) /* bytes: (x0, x2) of each step in 16 bits; (x1, x3) follow behind room for stores of whole registers */
#define PITCH (2 * ODD)

typedef struct scratch {
  uint8_t rows[ROWS][PITCH] __attribute__((aligned(64)));
  int32_t sums[MOST_PANELS][ROWS][16] __attribute__((aligned(64)));
  ez_requant_rows requant[MOST_PANELS];
  uint32_t next[MOST_PANELS]; /* the first group of each panel that the next piece may hold */
} scratch;

EZ_INLINE __m256i load(const void *at) { return _mm256_loadu_si256((const __m256i *)at); }

/* `steps` steps of one span. What is brought too much is readable, and the next span covers it. */
static void widen_span(const uint8_t *from, int32_t steps, uint8_t *to) {
  for (int32_t b = 0; b < 4 * steps; b += 32) {
    const __m256i x = load(from + b);
    _mm256_storeu_si256((__m256i *)(void *)(to + b), ez_even_words(x));
    _mm256_storeu_si256((__m256i *)(void *)(to + ODD + b), ez_odd_words(x));
  }
}

EZ_INLINE void begin(const ez_gemm_s8_args *g, const scratch *s, const ez_piece *p, __m256i acc[ROWS][2], const int R) {
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) acc[r][i] = load((p->is_first ? g->bias + 16 * p->panel : s->sums[p->panel][r]) + 8 * i);
}

EZ_INLINE void end(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p, __m256i acc[ROWS][2], const int R) {
  const int32_t n = 16 * p->panel;
  if (!p->is_last) {
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) _mm256_store_si256((__m256i *)(void *)(s->sums[p->panel][r] + 8 * i), acc[r][i]);
    return;
  }
  if (__builtin_expect(g->y_f32 != NULL, 0)) {
    ez_store_float_panel(g, acc, p->row, n, R);
    return;
  }
  uint8_t *y = g->y + (size_t)p->row * g->y_stride + n;
  if (g->small_mult)
    ez_store_panel(&s->requant[p->panel], acc, y, g->y_stride, g->columns - n, R, 1);
  else
    ez_store_panel(&s->requant[p->panel], acc, y, g->y_stride, g->columns - n, R, 0);
}

/* One group: `x` is its place in row 0. */
EZ_INLINE void add_group(__m256i acc[ROWS][2], const int8_t *w, const uint8_t *x, const int R) {
  const __m256i b0 = load(w), b1 = load(w + 32);
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    const __m256i w0 = half ? ez_odd_weights(b0) : ez_even_weights(b0), w1 = half ? ez_odd_weights(b1) : ez_even_weights(b1);
    const uint8_t *at = x + (half ? ODD : 0);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256i two = ez_four_bytes(at + r * PITCH);
      acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(two, w0));
      acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(two, w1));
    }
    ez_keep(acc, R);
  }
}

#define INSTANCE(R)                                                                                                    \
  static __attribute__((noinline)) void rows_##R(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p) {                \
    __m256i acc[ROWS][2];                                                                                              \
    begin(g, s, p, acc, R);                                                                                            \
    const int8_t *w = p->w;                                                                                            \
    const uint8_t *x = s->rows[0] - 4 * (ptrdiff_t)p->first;                                                           \
    for (const uint16_t *i = p->index; i != p->end; i++, w += 64) add_group(acc, w, x + 4 * (ptrdiff_t)*i, R);         \
    end(g, s, p, acc, R);                                                                                              \
  }
INSTANCE(1) INSTANCE(2) INSTANCE(3) INSTANCE(4) INSTANCE(5) INSTANCE(6)

typedef void (*block_fn)(const ez_gemm_s8_args *g, scratch *s, const ez_piece *p);
static const block_fn blocks[ROWS + 1] = {NULL, rows_1, rows_2, rows_3, rows_4, rows_5, rows_6};

static void row_block(const ez_gemm_s8_args *g, scratch *s, int32_t panels, int32_t row0, int32_t rows) {
  const int32_t steps = g->taps * ((g->channels + 3) / 4);
  memcpy(s->next, g->starts, (size_t)panels * sizeof *s->next);
  for (int32_t first = 0, n; first < steps; first += n) {
    n = ez_piece_steps(g, first);
    const int is_last = first + n == steps;
    ez_bring_rows(g, first, n, row0, rows, s->rows[0], PITCH, widen_span);
    for (int32_t p = 0; p < panels; p++) {
      const uint32_t from = s->next[p], to = is_last ? g->starts[p + 1] : ez_groups_before(g, p, from, first + n);
      const ez_piece one = {g->index + from, g->index + to, g->w + 64 * (size_t)from, first, p, row0, first == 0, is_last};
      blocks[rows](g, s, &one);
      s->next[p] = to;
    }
  }
}

void ez_avx2_blocks_s8(const ez_gemm_s8_args *g) {
  const int32_t panels = (g->columns + 15) / 16, parts = (g->rows + ROWS - 1) / ROWS;
  scratch s;
  for (int32_t p = 0; p < panels; p++) s.requant[p] = ez_requant_rows_of(g, g->mult + 16 * p);
  for (int32_t i = 0, row = 0, next; i < parts; i++, row = next) {
    next = (i + 1) * g->rows / parts;
    row_block(g, &s, panels, row, next - row);
  }
}
