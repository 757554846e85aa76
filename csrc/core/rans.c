/* Eight states take turns, so that eight chains of dependent multiplications are under way at once; a symbol is looked up in 2^bits bytes and its
 * frequency in 1 kB, which stay in the L1 cache. */
#include "core/rans.h"

#include <string.h>

#define LEAST (1u << 16) /* of a state between symbols; each starts from it in the encoder */

/* What the loops carry. */
typedef struct coder {
  const uint8_t *at, *end;
  uint32_t states[EZ_CODED_STATES];
} coder;

static uint32_t states_of(size_t count) { return count < EZ_CODED_MANY ? 1 : EZ_CODED_STATES; }

static int begin(coder *c, const ez_rans_stream *s) {
  const size_t bytes = 4 * (size_t)states_of(s->count);
  *c = (coder){.at = s->bytes + bytes, .end = s->bytes + s->size};
  if (s->size < bytes) return 0;
  memcpy(c->states, s->bytes, bytes);
  return 1;
}

static int is_finished(const coder *c, uint32_t states) {
  for (uint32_t k = 0; k < states; k++)
    if (c->states[k] != LEAST) return 0;
  return c->at == c->end;
}

/* The symbol of *state, which moves on. Without a branch: whether a word is due is a coin toss. */
static inline uint8_t take(uint32_t *state, const uint8_t *symbols, const uint32_t *cells, uint32_t bits, const uint8_t **at) {
  const uint32_t slot = *state & ((1u << bits) - 1);
  const uint8_t symbol = symbols[slot];
  const uint32_t cell = cells[symbol];
  const uint32_t x = (cell & 0xffff) * (*state >> bits) + slot - (cell >> 16);
  uint16_t word;
  memcpy(&word, *at, 2);
  const uint32_t is_due = x < LEAST;
  *state = x << 16 * is_due | (word & (0 - is_due)); /* gcc makes a branch of ?: */
  *at += 2 * is_due;
  return symbol;
}

/* Symbols from..count with states in turn. Words are at most two bytes a symbol: looking at the end once in eight symbols overruns by 16 bytes, no more. */
static void decode_plain(coder *c, const ez_rans_table *t, const ez_rans_stream *s) {
  const uint32_t bits = t->bits, *const cells = t->cells[0];
  const size_t eights = s->count < EZ_CODED_MANY ? 0 : s->count / 8, stride = s->stride;
  const uint8_t *at = c->at;
  uint32_t x[EZ_CODED_STATES];
  uint8_t *out = s->out;
  memcpy(x, c->states, sizeof x);
  for (size_t i = 0; i < eights && at <= c->end; i++)
    for (int k = 0; k < EZ_CODED_STATES; k++, out += stride) *out = take(&x[k], t->symbols, cells, bits, &at);
  const uint32_t turn = states_of(s->count) - 1;
  for (size_t i = 8 * eights; i < s->count && at <= c->end; i++, out += stride) *out = take(&x[i & turn], t->symbols, cells, bits, &at);
  memcpy(c->states, x, sizeof x);
  c->at = at;
}

/* What an activity level decodes with. */
typedef struct level_table {
  const uint8_t *symbols;
  const uint32_t *cells;
} level_table;

/* One group of a panel: 16 outputs of `step` columns. Inlined with a step and a turn that the compiler knows, columns and states stay in registers. */
static inline __attribute__((always_inline)) const uint8_t *decode_group(uint32_t *states, const ez_rans_table *t, const level_table *levels, const uint8_t *at, uint8_t *activity, uint8_t *out,
                                                                        size_t stride, uint32_t step, uint32_t turn) {
  const uint32_t bits = t->bits;
  uint32_t x[EZ_CODED_STATES];
  int32_t a[8];
  memcpy(x, states, sizeof x);
  for (uint32_t k = 0; k < step; k++) a[k] = activity[k];
  for (uint32_t lane = 0; lane < 16; lane += 2)
    for (uint32_t i = 0; i < 2 * step; i++, out += stride) { /* two lanes: as many symbols as states, or twice as many */
      const uint32_t k = i % step;
      const level_table *level = &levels[a[k] >> 4];
      const uint8_t symbol = take(&x[i & turn], level->symbols, level->cells, bits, &at);
      a[k] += ((symbol ? 255 : 0) - a[k]) >> 4;
      *out = symbol;
    }
  for (uint32_t k = 0; k < step; k++) activity[k] = (uint8_t)a[k];
  memcpy(states, x, sizeof x);
  return at;
}

/* A group is up to 128 symbols and could overrun by 256 bytes: near the end it is decoded from a copy with enough zeros behind it. */
#define GROUP_WORDS 256

static void decode_contexts(coder *c, const ez_rans_table *t, const ez_rans_stream *s) {
  const uint32_t step = (uint32_t)s->step, turn = states_of(s->count) - 1;
  const size_t groups = s->panel / (16 * step);
  uint8_t tail[2 * GROUP_WORDS] = {0}, *out = s->out;
  level_table levels[16];
  for (int i = 0; i < 16; i++) levels[i] = (level_table){t->symbols + ((size_t)t->context_of_level[i] << t->bits), t->cells[t->context_of_level[i]]};
  for (size_t i = 0; i < s->count / (16 * step) && c->at <= c->end; i++, out += 16 * step * s->stride) {
    uint8_t *activity = s->activity + i % groups * step;
    const size_t left = (size_t)(c->end - c->at);
    const uint8_t *from = c->at;
    if (left < GROUP_WORDS) {
      memcpy(tail, c->at, left);
      memset(tail + left, 0, sizeof tail - left);
      from = tail;
    }
    const uint8_t *to;
    if (turn == 0)
      to = decode_group(c->states, t, levels, from, activity, out, s->stride, step, 0);
    else if (step == 4)
      to = decode_group(c->states, t, levels, from, activity, out, s->stride, 4, EZ_CODED_STATES - 1);
    else
      to = decode_group(c->states, t, levels, from, activity, out, s->stride, 8, EZ_CODED_STATES - 1);
    c->at += to - from;
  }
}

int ez_rans_decode(const ez_rans_table *table, const ez_rans_stream *stream) {
  coder c;
  if (!begin(&c, stream)) return 0;
  if (stream->activity)
    decode_contexts(&c, table, stream);
  else
    decode_plain(&c, table, stream);
  return is_finished(&c, states_of(stream->count));
}
