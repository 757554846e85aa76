/* Pairs k whose weights vpmaddubsw can add (pairs.h). */
#include "isa/avx2/pairs.h"

#include "isa/avx2/avx2.h"
#include "isa/avx2/few_rows.h"

#define WINDOW 16
#define NOBODY 16

typedef struct window_rows {
  __m256i w[WINDOW + 1]; /* words of each k: columns 0-3 8-11, then 4-7 12-15; the last is zeros */
} window_rows;

/* Byte i of each dword, as words. */
EZ_INLINE __m256i words_of(__m256i b0, __m256i b1, const int i) {
  return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_slli_epi32(b0, 24 - 8 * i), 24), _mm256_srai_epi32(_mm256_slli_epi32(b1, 24 - 8 * i), 24));
}

static void load_rows(window_rows *rows, const int8_t *w, int32_t steps) {
  for (int32_t s = 0; s < steps; s++, w += 64) {
    const __m256i b0 = _mm256_loadu_si256((const __m256i *)(const void *)w), b1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
    __m256i *to = rows->w + 4 * s;
    to[0] = words_of(b0, b1, 0), to[1] = words_of(b0, b1, 1), to[2] = words_of(b0, b1, 2), to[3] = words_of(b0, b1, 3);
  }
  rows->w[WINDOW] = _mm256_setzero_si256();
}

static int may_meet(const window_rows *rows, int32_t a, int32_t b) {
  const __m256i over = _mm256_cmpgt_epi16(_mm256_abs_epi16(_mm256_add_epi16(rows->w[a], rows->w[b])), _mm256_set1_epi16(128));
  return _mm256_testz_si256(over, over);
}

/* A pair of k, or one k and NOBODY. */
typedef struct pairing {
  uint8_t of[2 * WINDOW];
  int32_t count;
} pairing;

static void add_pair(pairing *p, int32_t a, int32_t b) {
  p->of[2 * p->count] = (uint8_t)a;
  p->of[2 * p->count++ + 1] = (uint8_t)b;
}

static int is_good(const window_rows *rows, const uint8_t *pair) { return may_meet(rows, pair[0], pair[1]); }

/* Changes partners with another pair, if both are good then. */
static int swaps(const window_rows *rows, uint8_t *pair, uint8_t *other) {
  for (int i = 0; i < 2; i++)
    if (may_meet(rows, pair[0], other[i]) && may_meet(rows, pair[1], other[1 - i])) {
      const uint8_t second = pair[1];
      pair[1] = other[i], other[i] = second;
      return 1;
    }
  return 0;
}

/* Neighbours stay together, or change partners with a later or earlier pair: nearly always enough. Returns whether it was. */
static int pair_neighbours(const window_rows *rows, int32_t n, pairing *p) {
  for (int32_t k = 0; k < n; k += 2) add_pair(p, k, k + 1);
  for (int32_t i = 0; i < p->count; i++) {
    int good = is_good(rows, p->of + 2 * i);
    for (int32_t j = 1; j < p->count && !good; j++) good = swaps(rows, p->of + 2 * i, p->of + 2 * ((i + j) % p->count));
    if (!good) return 0;
  }
  return 1;
}

static int32_t fewest(const uint16_t *partners, uint32_t among, uint32_t left) {
  int32_t best = -1, least = WINDOW + 1;
  for (uint32_t rest = among; rest; rest &= rest - 1) {
    const int32_t k = __builtin_ctz(rest), count = __builtin_popcount(partners[k] & left);
    if (count < least) best = k, least = count;
  }
  return best;
}

/* Those with the fewest possible partners choose first, the partner that has the fewest itself. */
static pairing pair_up(const window_rows *rows, int32_t n) {
  pairing p = {.count = 0};
  if (pair_neighbours(rows, n, &p)) return p;
  p.count = 0;
  uint16_t partners[WINDOW] = {0};
  for (int32_t a = 0; a < n; a++)
    for (int32_t b = a + 1; b < n; b++)
      if (may_meet(rows, a, b)) partners[a] |= (uint16_t)(1u << b), partners[b] |= (uint16_t)(1u << a);
  for (uint32_t left = (1u << n) - 1; left;) {
    const int32_t a = fewest(partners, left, left);
    left &= ~(1u << a);
    const uint32_t possible = partners[a] & left;
    const int32_t b = possible ? fewest(partners, possible, left) : NOBODY;
    add_pair(&p, a, b);
    left &= ~(1u << b);
  }
  if (p.count % 2) add_pair(&p, NOBODY, NOBODY);
  return p;
}

static void write_step(const window_rows *rows, const uint8_t *of, int8_t *to) {
  const __m256i low = _mm256_set1_epi16(0xff);
  const __m256i first = _mm256_or_si256(_mm256_and_si256(rows->w[of[0]], low), _mm256_slli_epi16(rows->w[of[1]], 8));
  const __m256i second = _mm256_or_si256(_mm256_and_si256(rows->w[of[2]], low), _mm256_slli_epi16(rows->w[of[3]], 8));
  _mm256_storeu_si256((__m256i *)(void *)to, _mm256_unpacklo_epi16(first, second));
  _mm256_storeu_si256((__m256i *)(void *)(to + 32), _mm256_unpackhi_epi16(first, second));
}

/* At most: if no two k may meet, a window takes eight steps, two descriptions. */
static int32_t window_count(int32_t taps, int32_t channels) { return taps * ((channels + WINDOW - 1) / WINDOW) * 2; }

static size_t panel_room(int32_t taps, int32_t channels) {
  const size_t windows = (size_t)window_count(taps, channels);
  return sizeof(ez_paired_panel) + windows * (sizeof(ez_paired_window) + 256) + 64;
}

size_t ez_avx2_prepared_room(int32_t panels, int32_t taps, int32_t channels, int32_t rows) {
  if (rows <= EZ_AVX2_FEW_ROWS) return 0;
  return (size_t)panels * (sizeof(uint64_t) + panel_room(taps, channels) + 64) + 128;
}

/* A pairing as one or two windows of up to four steps each. */
static void describe(ez_paired_panel *panel, ez_paired_window *windows, const pairing *p, int32_t tap, int32_t first) {
  for (int32_t pair = 0; pair < p->count; pair += 8) {
    ez_paired_window *w = &windows[panel->windows++];
    *w = (ez_paired_window){.tap = tap, .first = first, .steps = (p->count - pair < 8 ? p->count - pair : 8) / 2};
    for (int32_t i = 0; i < 4 * w->steps; i++) w->from[i] = p->of[2 * pair + i] == NOBODY ? 0 : p->of[2 * pair + i];
    panel->steps += w->steps;
  }
}

/* How many bytes the panel takes. */
static size_t prepare_panel(const int8_t *w, int32_t taps, int32_t channels, ez_paired_panel *panel) {
  const int32_t tap_steps = (channels + 3) / 4;
  ez_paired_window *windows = (ez_paired_window *)(void *)(panel + 1);
  *panel = (ez_paired_panel){0, 0};
  /* Weights go behind the most windows that there can be, and move up to the last one afterwards. */
  int8_t *const room = (int8_t *)(void *)(windows + window_count(taps, channels)), *to = room;
  for (int32_t t = 0; t < taps; t++)
    for (int32_t s = 0; s < tap_steps; s += WINDOW / 4) {
      const int32_t steps = tap_steps - s < WINDOW / 4 ? tap_steps - s : WINDOW / 4;
      window_rows rows;
      load_rows(&rows, w + 64 * ((size_t)t * (size_t)tap_steps + (size_t)s), steps);
      const pairing p = pair_up(&rows, 4 * steps);
      describe(panel, windows, &p, t, 4 * s);
      for (int32_t i = 0; i < p.count; i += 2, to += 64) write_step(&rows, p.of + 2 * i, to);
    }
  if (panel->steps * 5 > taps * tap_steps * 6) panel->windows = 0, to = room; /* 16-bit products cost 4/3 of a step */
  int8_t *const weights = (int8_t *)(uintptr_t)ez_paired_weights(panel);
  memmove(weights, room, (size_t)(to - room));
  return (size_t)(weights - (int8_t *)(void *)panel) + (size_t)(to - room);
}

size_t ez_avx2_prepare_gemm_s8(const int8_t *w, size_t panel_bytes, int32_t panels, int32_t taps, int32_t channels, uint8_t *out) {
  uint64_t *offsets = (uint64_t *)(void *)out;
  size_t at = ((size_t)panels * sizeof *offsets + 63) / 64 * 64;
  for (int32_t p = 0; p < panels; p++) {
    offsets[p] = at;
    at += prepare_panel(w + (size_t)p * panel_bytes, taps, channels, (ez_paired_panel *)(void *)(out + at));
    at = (at + 63) / 64 * 64;
  }
  return at;
}
