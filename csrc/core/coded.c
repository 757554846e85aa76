/* Reads a coded file. Nothing in it is trusted: the declared size is the limit of what is written and of the work, every number is checked before use,
 * every model proved, every stream must end where and as it must. */
#include "core/coded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32.h"
#include "core/program.h"
#include "core/rans.h"

#define MAX_MODELS 65535u
#define MAX_SEGMENTS 1000000u
#define MAX_PLAIN (1ull << 40)

static const char magic[8] = {'E', 'D', 'G', 'E', 'Z', 'I', 'P', 'C'};

/* Bytes that are read in order; a read past the end sets is_bad and gives zeros. */
typedef struct reader {
  const uint8_t *at, *end;
  int is_bad;
} reader;

static uint8_t next_byte(reader *r) {
  if (r->at == r->end) {
    r->is_bad = 1;
    return 0;
  }
  return *r->at++;
}

static uint64_t next_number(reader *r) {
  uint64_t value = 0;
  for (uint32_t shift = 0; shift < 63; shift += 7) {
    const uint8_t byte = next_byte(r);
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  r->is_bad = 1;
  return 0;
}

/* The values of a model's symbols; their number, 0 when it is damaged. */
static uint32_t read_symbols(reader *r, uint8_t symbols[256]) {
  const uint32_t count = (uint32_t)next_byte(r) + 1;
  if (count <= 32) {
    for (uint32_t i = 0; i < count; i++) {
      symbols[i] = next_byte(r);
      if (i && symbols[i] <= symbols[i - 1]) return 0;
    }
    return count;
  }
  uint32_t found = 0;
  for (uint32_t i = 0; i < 32; i++) {
    const uint8_t present = next_byte(r);
    for (uint32_t bit = 0; bit < 8; bit++)
      if (present >> bit & 1) {
        if (found == count) return 0;
        symbols[found++] = (uint8_t)(8 * i + bit);
      }
  }
  return found == count ? count : 0;
}

static int read_context(reader *r, ez_rans_table *t, uint32_t context, const uint8_t *symbols, uint32_t count) {
  const uint32_t total = 1u << t->bits;
  uint8_t *slots = t->symbols + ((size_t)context << t->bits);
  uint32_t start = 0;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t frequency = next_number(r);
    if (frequency > total - start) return 0;
    t->cells[context][symbols[i]] = (uint32_t)frequency | start << 16;
    memset(slots + start, symbols[i], frequency);
    start += (uint32_t)frequency;
  }
  return start == total;
}

/* Fills the table; 0 when the model is damaged. */
static int read_model(reader *r, ez_rans_table *t) {
  t->bits = next_byte(r);
  t->contexts = next_byte(r);
  if (t->bits < 8 || t->bits > EZ_CODED_MAX_BITS || !t->contexts || t->contexts > EZ_CODED_MAX_CONTEXTS) return 0;
  memset(t->context_of_level, 0, sizeof t->context_of_level);
  for (uint32_t i = 0; t->contexts > 1 && i < 16; i += 2) {
    const uint8_t pair = next_byte(r);
    t->context_of_level[i] = pair & 15;
    t->context_of_level[i + 1] = pair >> 4;
    if ((pair & 15u) >= t->contexts || pair >> 4 >= (int)t->contexts) return 0;
  }
  uint8_t symbols[256];
  const uint32_t count = read_symbols(r, symbols);
  for (uint32_t context = 0; count && context < t->contexts; context++)
    if (!read_context(r, t, context, symbols, count)) return 0;
  return count && !r->is_bad;
}

/* What decoding a file needs beside its bytes. */
typedef struct decoder {
  const ez_coded_header *header;
  const uint8_t *models;      /* the section */
  uint32_t *model_at;         /* byte of each model in it */
  ez_rans_table *table;       /* of model `in_table` */
  uint64_t in_table;
  reader segments, streams;
  uint8_t *plain;
  uint64_t end;  /* of the segment before */
  uint64_t work; /* symbols so far */
} decoder;

static int index_models(decoder *d) {
  reader r = {.at = d->models, .end = d->models + d->header->model_bytes};
  for (uint32_t i = 0; i < d->header->n_models; i++) {
    d->model_at[i] = (uint32_t)(r.at - d->models);
    if (!read_model(&r, d->table)) return 0;
  }
  return r.at == r.end;
}

static void load_model(decoder *d, uint64_t model) {
  if (d->in_table == model) return;
  reader r = {.at = d->models + d->model_at[model], .end = d->models + d->header->model_bytes};
  read_model(&r, d->table); /* proved by index_models */
  d->in_table = model;
}

enum { MOST_PLANES = EZ_CODED_MAX_STRIDE };

/* A record of the segments section. */
typedef struct segment {
  uint64_t start, count, stride, panel, step;
  uint64_t model[MOST_PLANES], bytes[MOST_PLANES]; /* of each plane; model 0: stored */
} segment;

static int has_contexts(decoder *d, const segment *g) {
  for (uint64_t p = 0; p < g->stride; p++)
    if (g->model[p] && d->models[d->model_at[g->model[p] - 1] + 1] > 1) return 1;
  return 0;
}

/* Reads the next segment; 0 when it does not lie in the plain file, or asks for what is not there. */
static int read_segment(decoder *d, segment *g) {
  reader *r = &d->segments;
  const uint64_t gap = next_number(r), room = d->header->plain_bytes - d->end;
  *g = (segment){.start = d->end + gap, .count = next_number(r), .stride = next_number(r)};
  if (r->is_bad || gap > room || !g->count || g->count > room - gap || !g->stride || g->stride > MOST_PLANES) return 0;
  if (g->count > (room - gap) / g->stride) return 0;
  for (uint64_t p = 0; p < g->stride; p++) {
    g->model[p] = next_number(r);
    g->bytes[p] = next_number(r);
    if (g->model[p] > d->header->n_models || (!g->model[p] && g->bytes[p] != g->count)) return 0;
  }
  if (!has_contexts(d, g)) return !r->is_bad;
  g->panel = next_number(r);
  g->step = next_number(r);
  return !r->is_bad && (g->step == 4 || g->step == 8) && g->panel && g->panel % (16 * g->step) == 0 && g->count % g->panel == 0;
}

static int decode_coded(decoder *d, const segment *g, uint64_t p, const uint8_t *bytes) {
  load_model(d, g->model[p] - 1);
  ez_rans_stream stream = {.bytes = bytes, .size = g->bytes[p], .out = d->plain + g->start + p, .count = g->count, .stride = g->stride, .panel = g->panel, .step = g->step};
  if (d->table->contexts == 1) return ez_rans_decode(d->table, &stream);
  stream.activity = calloc(g->panel / 16, sizeof *stream.activity);
  const int is_good = stream.activity && ez_rans_decode(d->table, &stream);
  free(stream.activity);
  return is_good;
}

static int decode_segment(decoder *d, const segment *g) {
  for (uint64_t p = 0; p < g->stride; p++) {
    const uint8_t *bytes = d->streams.at;
    if (g->bytes[p] > (uint64_t)(d->streams.end - bytes)) return 0;
    d->streams.at += g->bytes[p];
    if (!g->model[p])
      for (uint64_t i = 0; i < g->count; i++) d->plain[g->start + p + i * g->stride] = bytes[i];
    else if (!decode_coded(d, g, p, bytes))
      return 0;
  }
  d->end = g->start + g->count * g->stride;
  return 1;
}

static ez_status fail(ez_error *error, ez_status status, const char *field, const char *message) {
  if (error) {
    *error = (ez_error){.status = status, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return status;
}

static ez_status decode_all(decoder *d, ez_error *error) {
  if (!index_models(d)) return fail(error, EZ_BAD_PROGRAM, "models", "a model of the coded file is damaged");
  for (uint32_t i = 0; i < d->header->n_segments; i++) {
    segment g;
    if (!read_segment(d, &g)) return fail(error, EZ_BAD_PROGRAM, "segments", "a segment of the coded file is damaged");
    if (!decode_segment(d, &g)) return fail(error, EZ_BAD_PROGRAM, "streams", "a stream of the coded file is damaged");
  }
  if (d->segments.at != d->segments.end || d->streams.at != d->streams.end) return fail(error, EZ_BAD_PROGRAM, "segments", "bytes that belong to no segment");
  return EZ_OK;
}

static ez_status check_header(const ez_coded_header *h, size_t size, ez_error *error) {
  if (size < sizeof *h) return fail(error, EZ_BAD_PROGRAM, "size", "the coded file is cut short");
  if (h->version != EZ_CODED_VERSION) return fail(error, EZ_BAD_VERSION, "version", "a coded file of another version: compile the model again");
  if (ez_crc32(h, sizeof *h - 4) != h->crc32) return fail(error, EZ_BAD_PROGRAM, "crc32", "header of the coded file is damaged");
  if (h->file_bytes != size || !ez_all_zero(h->reserved, sizeof h->reserved)) return fail(error, EZ_BAD_PROGRAM, "file_bytes", "the coded file is cut short, or longer than it says");
  const uint64_t tables = (uint64_t)h->model_bytes + h->segment_bytes + EZ_CODED_PADDING, body = size - sizeof *h;
  if (tables > body || h->n_models > MAX_MODELS || h->n_segments > MAX_SEGMENTS) return fail(error, EZ_BAD_PROGRAM, "counts", "out of range");
  if (!h->plain_bytes || h->plain_bytes > MAX_PLAIN || h->plain_bytes > size * (uint64_t)EZ_CODED_MAX_RATIO)
    return fail(error, EZ_BAD_PROGRAM, "plain_bytes", "more than a coded file of this size can honestly hold");
  const uint8_t *bytes = (const uint8_t *)h;
  if (ez_crc32(bytes + sizeof *h, body) != h->body_crc32) return fail(error, EZ_BAD_PROGRAM, "body_crc32", "the coded file is damaged (CRC-32 differs)");
  if (!ez_all_zero(bytes + size - EZ_CODED_PADDING, EZ_CODED_PADDING)) return fail(error, EZ_BAD_PROGRAM, "padding", "is not zero");
  return EZ_OK;
}

int ez_is_coded(const void *bytes, size_t size) { return size >= sizeof magic && !memcmp(bytes, magic, sizeof magic); }

ez_status ez_decode_program(const void *bytes, size_t size, ez_block *plain, size_t *plain_bytes, ez_error *error) {
  const ez_coded_header *h = bytes;
  ez_status status = check_header(h, size, error);
  if (status) return status;
  const uint8_t *models = (const uint8_t *)bytes + sizeof *h, *segments = models + h->model_bytes, *streams = segments + h->segment_bytes;
  decoder d = {.header = h, .models = models, .in_table = UINT64_MAX, .segments = {.at = segments, .end = streams},
               .streams = {.at = streams, .end = (const uint8_t *)bytes + size - EZ_CODED_PADDING}};
  d.model_at = calloc((size_t)h->n_models + 1, sizeof *d.model_at);
  d.table = malloc(sizeof *d.table);
  const int has_memory = d.model_at && d.table && ez_block_create(plain, h->plain_bytes);
  if (has_memory) {
    d.plain = plain->bytes;
    *plain_bytes = h->plain_bytes;
    status = decode_all(&d, error);
  }
  free(d.table);
  free(d.model_at);
  if (!has_memory) return fail(error, EZ_NO_MEMORY, "plain_bytes", "out of memory for the plain program");
  if (status) ez_block_destroy(plain);
  return status;
}
