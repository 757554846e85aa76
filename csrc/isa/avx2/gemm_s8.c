/* int8 product for CPUs without VNNI, exact whatever the weights: vpmaddubsw does 32 MACs in one instruction but saturates at 16 bits.
 *
 * A prepared panel (pairs.h) is multiplied by vpmaddubsw throughout, 32 MACs a cycle on two multiply ports; its activations are shuffled as
 * its k were. What is not prepared, or could not be paired well, is multiplied in 16 bits, 24 MACs a cycle: weights and
 * activations are widened on the way to the stack.
 *
 * K is cut into chunks; 30 rows of a chunk are brought to the stack, where the panel's blocks of 6 rows find them in L1, and those of a
 * second panel that shares the pairing. Between chunks the sums wait in `sums`. */
#include "isa/avx2/avx2.h"
#include "isa/avx2/few_rows.h"
#include "isa/avx2/pairs.h"
#include "isa/avx2/requant.h"
#include "isa/avx2/wide.h"

#define GROUP 30         /* rows that are brought at a time */
#define BLOCK EZ_WIDE_ROWS
#define PAIRED_STEPS 128 /* of 4 k, in a chunk */
#define WIDE_STEPS 64
#define ROOM_STEPS 256   /* of widened weights: as many panels side by side */
#define MOST_PANELS 8
#define SHARING 2        /* the most panels of one pairing */
#define ODD 288   /* bytes: (x0, x2) of each step in 16 bits; (x1, x3) follow behind room for stores of whole registers */
#define PITCH 576 /* bytes from row to row */

typedef struct scratch {
  uint8_t rows[GROUP][PITCH] __attribute__((aligned(64)));
  int32_t sums[SHARING][EZ_ROW_BLOCK][16] __attribute__((aligned(64)));
  __m256i wide[ROOM_STEPS][4]; /* (w0, w2) of columns 0-7, 8-15, then (w1, w3) */
} scratch;

/* A chunk of one panel. */
typedef struct panel_chunk {
  const ez_paired_window *windows, *end; /* paired: of these windows, else of steps from `first` on */
  int32_t first;
  const int8_t *w;
  const __m256i (*wide)[4];
  int32_t steps, column, is_first, is_last;
  int32_t (*sums)[16]; /* of the call's rows */
  ez_requant_rows requant;
} panel_chunk;

EZ_INLINE __m256i bytes32(const uint8_t *at) { return _mm256_loadu_si256((const __m256i *)(const void *)at); }
EZ_INLINE __m128i bytes16(const uint8_t *at) { return _mm_loadu_si128((const __m128i *)(const void *)at); }

/* The next window follows in memory and in the row. */
static int is_joined(const ez_paired_window *v, const ez_paired_window *end) {
  return v->steps == 4 && v + 1 != end && v[1].tap == v->tap && v[1].first == v->first + 16;
}

static void shuffle_rows(scratch *s, const ez_gemm_s8_args *g, const panel_chunk *c, int32_t row0, int32_t rows) {
  uint8_t *column = s->rows[0];
  for (const ez_paired_window *v = c->windows; v != c->end; v++) {
    const uint8_t *const *a = g->a + (size_t)v->tap * g->a_stride + (size_t)row0;
    const size_t first = (size_t)v->first;
    uint8_t *to = column;
    if (is_joined(v, c->end)) {
      const __m256i from = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes16(v[0].from)), bytes16(v[1].from), 1);
#pragma GCC unroll 2
      for (int32_t r = 0; r < rows; r++, to += PITCH)
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_shuffle_epi8(bytes32(a[r] + first), from));
      column += 4 * v->steps, v++;
    } else {
      const __m128i from = bytes16(v->from);
#pragma GCC unroll 2
      for (int32_t r = 0; r < rows; r++, to += PITCH) _mm_storeu_si128((__m128i *)(void *)to, _mm_shuffle_epi8(bytes16(a[r] + first), from));
    }
    column += 4 * v->steps;
  }
}

/* `steps` steps of one tap. What is brought too much is readable, and the next piece covers it. */
static void widen_piece(const uint8_t *from, int32_t steps, uint8_t *to) {
  int32_t b = 0;
  for (; b + 16 < 4 * steps; b += 32) {
    const __m256i x = bytes32(from + b);
    _mm256_storeu_si256((__m256i *)(void *)(to + b), ez_even_words(x));
    _mm256_storeu_si256((__m256i *)(void *)(to + ODD + b), ez_odd_words(x));
  }
  if (b >= 4 * steps) return;
  const __m128i x = bytes16(from + b);
  _mm_storeu_si128((__m128i *)(void *)(to + b), _mm_and_si128(x, _mm_set1_epi16(0xff)));
  _mm_storeu_si128((__m128i *)(void *)(to + ODD + b), _mm_srli_epi16(x, 8));
}

/* A chunk of rows, the pieces of its taps one behind the other. */
static void widen_rows(scratch *s, const ez_gemm_s8_args *g, const panel_chunk *c, int32_t row0, int32_t rows) {
  const int32_t tap_steps = (g->channels + 3) / 4;
  const uint8_t *const *a = g->a + (size_t)(c->first / tap_steps) * g->a_stride + (size_t)row0;
  uint8_t *column = s->rows[0];
  for (int32_t at = c->first % tap_steps, left = c->steps; left > 0; at = 0, a += g->a_stride) {
    const int32_t n = tap_steps - at < left ? tap_steps - at : left;
    for (int32_t r = 0; r < rows; r++) widen_piece(a[r] + 4 * (size_t)at, n, column + (size_t)r * PITCH);
    column += 4 * n;
    left -= n;
  }
}

static void widen_weights(const int8_t *weights, int32_t steps, __m256i (*wide)[4]) {
  const __m256i *w = (const __m256i *)(const void *)weights;
  for (int32_t k = 0; k < steps; k++, w += 2) {
    const __m256i b0 = _mm256_loadu_si256(w), b1 = _mm256_loadu_si256(w + 1);
    wide[k][0] = ez_even_weights(b0);
    wide[k][1] = ez_even_weights(b1);
    wide[k][2] = ez_odd_weights(b0);
    wide[k][3] = ez_odd_weights(b1);
  }
}

/* Half of the columns at a time: both halves' weights and 12 sums do not fit 16 registers. HALVES 1: the panel's last 8 are padding. */
EZ_INLINE void add_paired(__m256i acc[BLOCK][2], const panel_chunk *c, const uint8_t *x, const int R, const int HALVES) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int8_t *w = c->w;
  for (int32_t k = 0; k < c->steps; k++, w += 64, x += 4) {
#pragma GCC unroll 2
    for (int half = 0; half < HALVES; half++) {
      const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * half));
#pragma GCC unroll 6
      for (int r = 0; r < R; r++)
        acc[r][half] = _mm256_add_epi32(acc[r][half], _mm256_madd_epi16(_mm256_maddubs_epi16(ez_four_bytes(x + r * PITCH), b), ones));
      ez_keep(acc, R);
      __asm__("" : "+r"(x)); /* else gcc 12 keeps what it read of x for the other half, and spills sums for it */
    }
  }
}

EZ_INLINE void begin(const ez_gemm_s8_args *g, const panel_chunk *c, int32_t at, __m256i acc[BLOCK][2], const int R) {
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
      acc[r][i] = _mm256_loadu_si256((const __m256i *)(const void *)((c->is_first ? g->bias + c->column : c->sums[at + r]) + 8 * i));
}

EZ_INLINE void end(const ez_gemm_s8_args *g, const panel_chunk *c, int32_t at, __m256i acc[BLOCK][2], const int R) {
  ez_keep(acc, R);
  if (!c->is_last) {
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) _mm256_store_si256((__m256i *)(void *)(c->sums[at + r] + 8 * i), acc[r][i]);
    return;
  }
  if (__builtin_expect(g->y_f32 != NULL, 0)) {
    ez_store_float_panel(g, acc, at, c->column, R);
    return;
  }
  uint8_t *y = g->y + (size_t)at * g->y_stride + c->column;
  if (g->small_mult)
    ez_store_panel(&c->requant, acc, y, g->y_stride, g->columns - c->column, R, 1);
  else
    ez_store_panel(&c->requant, acc, y, g->y_stride, g->columns - c->column, R, 0);
}

/* R rows from `row` of the group, `at` of the call. */
#define INSTANCE(R)                                                                                                                            \
  static __attribute__((noinline)) void paired_##R(const ez_gemm_s8_args *g, scratch *s, const panel_chunk *c, int32_t row, int32_t at) {      \
    __m256i acc[BLOCK][2];                                                                                                                     \
    begin(g, c, at, acc, R);                                                                                                                   \
    add_paired(acc, c, s->rows[row], R, 2);                                                                                                    \
    end(g, c, at, acc, R);                                                                                                                     \
  }                                                                                                                                            \
  static __attribute__((noinline)) void half_##R(const ez_gemm_s8_args *g, scratch *s, const panel_chunk *c, int32_t row, int32_t at) {        \
    __m256i acc[BLOCK][2];                                                                                                                     \
    begin(g, c, at, acc, R);                                                                                                                   \
    add_paired(acc, c, s->rows[row], R, 1);                                                                                                    \
    end(g, c, at, acc, R);                                                                                                                     \
  }                                                                                                                                            \
  static __attribute__((noinline)) void wide_##R(const ez_gemm_s8_args *g, scratch *s, const panel_chunk *c, int32_t row, int32_t at) {        \
    __m256i acc[BLOCK][2];                                                                                                                     \
    begin(g, c, at, acc, R);                                                                                                                   \
    ez_add_wide(acc, c->wide, c->steps, s->rows[row], PITCH, ODD, R);                                                                                  \
    end(g, c, at, acc, R);                                                                                                                     \
  }
INSTANCE(1) INSTANCE(2) INSTANCE(3) INSTANCE(4) INSTANCE(5) INSTANCE(6)

typedef void (*block_fn)(const ez_gemm_s8_args *g, scratch *s, const panel_chunk *c, int32_t row, int32_t at);
static const block_fn paired_blocks[BLOCK + 1] = {NULL, paired_1, paired_2, paired_3, paired_4, paired_5, paired_6};
static const block_fn half_blocks[BLOCK + 1] = {NULL, half_1, half_2, half_3, half_4, half_5, half_6};
static const block_fn wide_blocks[BLOCK + 1] = {NULL, wide_1, wide_2, wide_3, wide_4, wide_5, wide_6};

static void group_of_rows(const ez_gemm_s8_args *g, scratch *s, const panel_chunk *c, const block_fn *by_rows, int32_t row0, int32_t rows) {
  const int32_t parts = (rows + BLOCK - 1) / BLOCK;
  for (int32_t i = 0, row = 0, next; i < parts; i++, row = next) {
    next = (i + 1) * rows / parts;
    by_rows[next - row](g, s, c, row, row0 + row);
  }
}

static int32_t rows_from(const ez_gemm_s8_args *g, int32_t row0) { return g->rows - row0 < GROUP ? g->rows - row0 : GROUP; }

/* `n` panels of one pairing: c[0] is the first. */
EZ_INLINE void paired_panels(const ez_gemm_s8_args *g, scratch *s, panel_chunk *c, const ez_paired_panel *const *panels, const int n) {
  const ez_paired_window *const last = ez_paired_windows(panels[0]) + panels[0]->windows;
  const ez_paired_window *end = ez_paired_windows(panels[0]);
  for (int32_t i = 0; i < n; i++) c[i].w = ez_paired_weights(panels[i]), c[i].sums = s->sums[i], c[i].is_first = 1;
  while (end != last) {
    const ez_paired_window *const windows = end;
    int32_t steps = 0;
    for (; end != last && steps + end->steps <= PAIRED_STEPS; end++) steps += end->steps;
    for (int32_t i = 0; i < n; i++) c[i].windows = windows, c[i].end = end, c[i].steps = steps, c[i].is_last = end == last;
    for (int32_t row0 = 0; row0 < g->rows; row0 += GROUP) {
      shuffle_rows(s, g, c, row0, rows_from(g, row0));
      for (int32_t i = 0; i < n; i++)
        group_of_rows(g, s, &c[i], g->columns - c[i].column <= 8 ? half_blocks : paired_blocks, row0, rows_from(g, row0));
    }
    for (int32_t i = 0; i < n; i++) c[i].is_first = 0, c[i].w += 64 * (size_t)steps;
  }
}

/* Panels side by side; several only if K is one chunk, for there is one set of sums. */
static void wide_panels(const ez_gemm_s8_args *g, scratch *s, panel_chunk *chunks, int32_t panels) {
  const int32_t steps = g->taps * ((g->channels + 3) / 4);
  for (int32_t first = 0; first < steps; first += WIDE_STEPS) {
    for (int32_t p = 0; p < panels; p++) {
      panel_chunk *c = &chunks[p];
      c->first = first, c->steps = steps - first < WIDE_STEPS ? steps - first : WIDE_STEPS;
      c->is_first = first == 0, c->is_last = first + c->steps == steps;
      c->sums = s->sums[0];
      __m256i(*const wide)[4] = s->wide + p * c->steps;
      c->wide = (const __m256i(*)[4])wide;
      widen_weights(g->w + (size_t)(c->column / 16) * g->panel_bytes + (size_t)first * 64, c->steps, wide);
    }
    for (int32_t row0 = 0; row0 < g->rows; row0 += GROUP) {
      widen_rows(s, g, chunks, row0, rows_from(g, row0));
      for (int32_t p = 0; p < panels; p++) group_of_rows(g, s, &chunks[p], wide_blocks, row0, rows_from(g, row0));
    }
  }
}

static const ez_paired_panel *pairs_of(const ez_gemm_s8_args *g, int32_t panel) {
  const ez_paired_panel *pairs = g->prepared ? ez_paired_panel_at(g->prepared, g->panel + panel) : NULL;
  return pairs && pairs->windows ? pairs : NULL;
}

/* How many panels from `first` on share its pairing; 0: it has none. */
static int32_t panels_of_pairing(const ez_gemm_s8_args *g, int32_t first, int32_t panels, const ez_paired_panel **pairs) {
  pairs[0] = pairs_of(g, first);
  if (!pairs[0] || !pairs[0]->leads || first + 1 == panels) return pairs[0] != NULL;
  pairs[1] = pairs_of(g, first + 1);
  return 2;
}

static void set_panel(panel_chunk *c, const ez_gemm_s8_args *g, int32_t panel) {
  c->column = 16 * panel, c->requant = ez_requant_rows_of(g, g->mult + 16 * panel);
}

void ez_avx2_gemm_s8(const ez_gemm_s8_args *g) {
  if (g->rows <= EZ_AVX2_FEW_ROWS) {
    ez_avx2_gemm_s8_few(g);
    return;
  }
  const int32_t panels = (g->columns + 15) / 16, fit = ROOM_STEPS / (g->taps * ((g->channels + 3) / 4));
  const int32_t together = fit < 4 ? 1 : fit < MOST_PANELS ? fit : MOST_PANELS;
  scratch s;
  panel_chunk chunks[MOST_PANELS], paired[SHARING];
  int32_t n = 0; /* waiting to be multiplied side by side */
  for (int32_t p = 0, sharing; p < panels; p += sharing) {
    const ez_paired_panel *pairs[SHARING];
    sharing = panels_of_pairing(g, p, panels, pairs);
    if (sharing) {
      for (int32_t i = 0; i < sharing; i++) set_panel(&paired[i], g, p + i);
      if (sharing == 1)
        paired_panels(g, &s, paired, pairs, 1);
      else
        paired_panels(g, &s, paired, pairs, 2);
    } else {
      set_panel(&chunks[n++], g, p), sharing = 1;
    }
    if (n == together || (n && p + sharing == panels)) wide_panels(g, &s, chunks, n), n = 0;
  }
}
