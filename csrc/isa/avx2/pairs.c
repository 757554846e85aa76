/* Pairs k whose weights vpmaddubsw can add (pairs.h). */
#include "isa/avx2/pairs.h"

#include "isa/avx2/avx2.h"
#include "isa/avx2/few_rows.h"

#define WINDOW 16
#define NOBODY 16
#define MOST_SHARING 2 /* panels of one pairing */

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

/* Bit 2 k of partners[a]: whether k and a may meet. The mean of two bytes of offset 128 is within 65..192 if their sum is within
 * -127..128. */
static void find_partners(const window_rows *rows, int32_t n, uint32_t *partners) {
  __m256i bytes[WINDOW / 2]; /* two k each, 16 columns in any order */
  for (int32_t i = 0; i < WINDOW / 2; i++) {
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(rows->w[2 * i], rows->w[2 * i + 1]), 0xd8);
    bytes[i] = _mm256_xor_si256(both, _mm256_set1_epi8((char)0x80));
  }
  for (int32_t a = 0; a < n; a++) {
    const __m256i of = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)bytes + a));
    uint32_t halves = 0;
    for (int32_t i = 0; i < n / 2; i++) {
      const __m256i above = _mm256_sub_epi8(_mm256_avg_epu8(of, bytes[i]), _mm256_set1_epi8(65));
      const __m256i fits = _mm256_cmpeq_epi64(_mm256_subs_epu8(above, _mm256_set1_epi8(127)), _mm256_setzero_si256());
      halves |= (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(fits)) << 4 * i;
    }
    partners[a] = halves & halves >> 1 & 0x55555555 & ~(1u << 2 * a);
  }
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

/* `mate` of each k of `paired`; `free` are still to be asked. Bit 2 k stands for k. */
typedef struct matching {
  uint8_t mate[WINDOW];
  uint32_t paired, free;
} matching;

static void marry(matching *m, int32_t a, int32_t b) {
  m->mate[a] = (uint8_t)b, m->mate[b] = (uint8_t)a;
  m->paired |= 1u << 2 * a | 1u << 2 * b;
  m->free &= ~m->paired;
}

static int32_t first_of(uint32_t bits) { return __builtin_ctz(bits) / 2; }

/* A free partner of a, or a paired one whose mate finds another, and so on: an augmenting path. `tried` are those who were asked. */
static int finds_partner(matching *m, const uint32_t *partners, int32_t a, uint32_t *tried) {
  *tried |= 1u << 2 * a;
  const uint32_t others = partners[a] & m->free & ~*tried;
  if (others) return marry(m, a, first_of(others)), 1;
  for (uint32_t left; (left = partners[a] & m->paired & ~*tried) != 0;) {
    const int32_t b = first_of(left);
    *tried |= 1u << 2 * b;
    if (!finds_partner(m, partners, m->mate[b], tried)) continue;
    marry(m, a, b);
    return 1;
  }
  return 0;
}

static pairing pair_up(const uint32_t *partners, int32_t n) {
  uint32_t alone = 0;
  matching m = {.paired = 0, .free = 0x55555555 & (uint32_t)((UINT64_C(1) << 2 * n) - 1)};
  while (m.free) {
    uint32_t tried = 0;
    const int32_t a = first_of(m.free);
    if (!finds_partner(&m, partners, a, &tried)) alone |= 1u << 2 * a, m.free &= ~(1u << 2 * a);
  }
  pairing p = {.count = 0};
  for (int32_t k = 0; k < n; k++)
    if (alone >> 2 * k & 1) add_pair(&p, k, NOBODY);
    else if (m.mate[k] > k) add_pair(&p, k, m.mate[k]);
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

/* At most: a window of more than four steps takes two descriptions. */
static int32_t window_count(int32_t taps, int32_t channels) { return taps * ((channels + WINDOW - 1) / WINDOW) * 2; }

/* More steps than these are not worth it: 16-bit products cost 4/3 of a step. */
static int32_t most_steps(int32_t taps, int32_t channels) { return (int32_t)((int64_t)taps * ((channels + 3) / 4) * 6 / 5); }

static size_t up64(size_t bytes) { return (bytes + 63) / 64 * 64; }

static size_t panel_room(int32_t taps, int32_t channels) {
  const size_t weights = (size_t)most_steps(taps, channels) * 64;
  return up64(sizeof(ez_paired_panel) + (size_t)window_count(taps, channels) * sizeof(ez_paired_window)) + weights + 64;
}

/* Columns of so few k have large weights throughout (each is scaled by its own largest): hardly a panel of them can be paired. */
#define NARROW 32

/* Beside what is kept: weights lie a room further until their place is known. */
size_t ez_avx2_prepared_room(int32_t panels, int32_t taps, int32_t channels, int32_t rows) {
  if (rows <= EZ_AVX2_FEW_ROWS || taps * channels <= NARROW) return 0;
  return (size_t)panels * (sizeof(uint64_t) + panel_room(taps, channels)) + MOST_SHARING * panel_room(taps, channels) + 128;
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

/* Panels to be paired alike. */
typedef struct sharers {
  const int8_t *w; /* packed, of the first */
  size_t panel_bytes;
  int32_t n, taps, channels;
} sharers;

/* Steps that a pairing may take. Two panels save a shuffle of the activations, worth a thirtieth of their products. */
static int32_t steps_allowed(const sharers *p) {
  const int32_t steps = p->taps * ((p->channels + 3) / 4);
  return p->n > 1 ? steps + steps / 30 : most_steps(p->taps, p->channels);
}

/* A window of all panels; gives how its k are paired. */
static pairing pair_window(const sharers *p, size_t step, int32_t steps, window_rows *rows) {
  uint32_t partners[WINDOW], of_panel[WINDOW];
  for (int32_t i = 0; i < p->n; i++) {
    load_rows(&rows[i], p->w + (size_t)i * p->panel_bytes + 64 * step, steps);
    find_partners(&rows[i], 4 * steps, i ? of_panel : partners);
    for (int32_t k = 0; i && k < 4 * steps; k++) partners[k] &= of_panel[k];
  }
  return pair_up(partners, 4 * steps);
}

/* Pairs p->n panels alike: the windows to out[0], their weights to room[i] of each. Gives the steps, 0 if there would be too many. */
static int32_t pair_panels(const sharers *p, ez_paired_panel *panel, int8_t *const *room) {
  const int32_t tap_steps = (p->channels + 3) / 4;
  ez_paired_window *const windows = (ez_paired_window *)(void *)(panel + 1);
  size_t written = 0;
  *panel = (ez_paired_panel){0, 0, 0, 0};
  for (int32_t t = 0; t < p->taps; t++)
    for (int32_t s = 0; s < tap_steps; s += WINDOW / 4) {
      const int32_t steps = tap_steps - s < WINDOW / 4 ? tap_steps - s : WINDOW / 4;
      window_rows rows[MOST_SHARING];
      const pairing pairs = pair_window(p, (size_t)t * (size_t)tap_steps + (size_t)s, steps, rows);
      describe(panel, windows, &pairs, t, 4 * s);
      if (panel->steps > steps_allowed(p)) return 0;
      for (int32_t i = 0; i < pairs.count; i += 2, written += 64)
        for (int32_t k = 0; k < p->n; k++) write_step(&rows[k], pairs.of + 2 * i, room[k] + written);
    }
  return panel->steps;
}

/* Pairs p->n panels alike at `out`; gives how many bytes they take, 0 if that takes too many steps. offsets[i]: of panel i. */
static size_t prepare_panels(const sharers *p, uint8_t *out, uint64_t *offsets) {
  ez_paired_panel *first = (ez_paired_panel *)(void *)out;
  const size_t room = panel_room(p->taps, p->channels);
  int8_t *rooms[MOST_SHARING];
  for (int32_t i = 0; i < MOST_SHARING; i++) rooms[i] = (int8_t *)(void *)(out + (size_t)(i + 1) * room);
  const size_t bytes = 64 * (size_t)pair_panels(p, first, rooms), windows = (size_t)first->windows * sizeof(ez_paired_window);
  if (!bytes) return 0;
  size_t at = 0;
  for (int32_t i = 0; i < p->n; i++) {
    ez_paired_panel *panel = (ez_paired_panel *)(void *)(out + at);
    if (i) memcpy(panel, first, sizeof *first + windows);
    panel->leads = i + 1 < p->n;
    memcpy((void *)(uintptr_t)ez_paired_weights(panel), rooms[i], bytes);
    offsets[i] = at;
    at += up64(sizeof *panel + windows) + bytes;
  }
  return at;
}

static size_t leave_panel(uint8_t *out) {
  memset(out, 0, sizeof(ez_paired_panel));
  return up64(sizeof(ez_paired_panel));
}

/* Whether the next panels may be tried together. Columns of few k hardly ever agree; else it is worth it while it mostly succeeds. */
#define LEAST_SHARED 192
typedef struct trials {
  int32_t kept, failed;
} trials;

static int is_promising(const trials *t, int32_t k) { return k >= LEAST_SHARED && t->failed <= t->kept + 1; }

size_t ez_avx2_prepare_gemm_s8(const int8_t *w, size_t panel_bytes, int32_t panels, int32_t taps, int32_t channels, uint8_t *out) {
  uint64_t *offsets = (uint64_t *)(void *)out;
  size_t at = up64((size_t)panels * sizeof *offsets);
  trials together = {0, 0};
  for (int32_t p = 0; p < panels;) {
    const int32_t most = is_promising(&together, taps * channels) ? MOST_SHARING : 1;
    sharers s = {w + (size_t)p * panel_bytes, panel_bytes, panels - p < most ? panels - p : most, taps, channels};
    size_t bytes = prepare_panels(&s, out + at, offsets + p);
    if (s.n > 1) bytes ? together.kept++ : together.failed++;
    if (!bytes && s.n > 1) s.n = 1, bytes = prepare_panels(&s, out + at, offsets + p);
    if (!bytes) offsets[p] = 0, bytes = leave_panel(out + at);
    for (int32_t i = 0; i < s.n; i++) offsets[p + i] += at;
    at += bytes, p += s.n;
  }
  return at;
}
