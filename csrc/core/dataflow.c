#include "core/dataflow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_GRAINS (1ull << 18) /* 32 kB of bits; a step that names the whole arena costs 4096 words */

static ez_status refuse(ez_error *error, int32_t step, int32_t tensor, const char *field, const char *message) {
  if (error) {
    *error = (ez_error){.status = EZ_BAD_PROGRAM, .step = step, .tensor = tensor};
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return EZ_BAD_PROGRAM;
}

static size_t words_of(const ez_dataflow *flow, const ez_program *program) { return (size_t)(program->header->arena_bytes / flow->grain_bytes / 64 + 1); }

int ez_dataflow_start(ez_dataflow *flow, const ez_program *program) {
  flow->grain_bytes = program->header->arena_bytes / MOST_GRAINS + 64;
  flow->written = calloc(words_of(flow, program), sizeof *flow->written);
  flow->has_output = calloc(program->n_outputs, 1);
  return flow->written && flow->has_output;
}

void ez_dataflow_reset(ez_dataflow *flow, const ez_program *program) {
  memset(flow->written, 0, words_of(flow, program) * sizeof *flow->written);
  memset(flow->has_output, 0, program->n_outputs);
}

void ez_dataflow_end(ez_dataflow *flow) {
  free(flow->written);
  free(flow->has_output);
}

/* --- overlap --------------------------------------------------------------------------------------------------------------- */

static uint64_t row_bytes(const ez_tensor *t) { return (uint64_t)(t->rank ? t->dims[t->rank - 1] : 1) * ez_element_bytes(t->dtype); }

/* Parts of a concatenation lie side by side in common rows: their extents cross, their bytes do not. */
static int is_interleaved(const ez_tensor *a, const ez_tensor *b) {
  const uint64_t stride = (uint64_t)a->row_stride * ez_element_bytes(a->dtype);
  if (stride != (uint64_t)b->row_stride * ez_element_bytes(b->dtype)) return 0;
  const ez_tensor *first = a->offset <= b->offset ? a : b, *second = first == a ? b : a;
  const uint64_t shift = (second->offset - first->offset) % stride;
  return shift >= row_bytes(first) && shift + row_bytes(second) <= stride;
}

/* Whether two tensors share bytes. Weights and inputs are never written, so only arena and outputs matter. */
static int overlap(const ez_tensor *a, const ez_tensor *b) {
  if (a->place != b->place) return 0;
  if (a->place == EZ_IN_OUTPUT) return a->offset == b->offset;
  return a->place == EZ_IN_ARENA && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes && !is_interleaved(a, b);
}

static int same_region(const ez_tensor *a, const ez_tensor *b) {
  return a->offset == b->offset && a->bytes == b->bytes && a->row_stride == b->row_stride && a->dtype == b->dtype;
}

static ez_status check_overlap(const ez_program *p, int32_t i, uint32_t in_place, ez_error *error) {
  const ez_step *s = &p->steps[i];
  for (int o = 0; o < s->n_outputs; o++) {
    const ez_tensor *y = &p->tensors[s->outputs[o]];
    for (int k = 0; k < s->n_inputs; k++) {
      if (s->inputs[k] < 0 || !overlap(y, &p->tensors[s->inputs[k]])) continue;
      if (!(in_place >> k & 1) || !same_region(y, &p->tensors[s->inputs[k]])) return refuse(error, i, s->outputs[o], "offset", "result overlaps an operand");
    }
    for (int k = 0; k < o; k++)
      if (overlap(y, &p->tensors[s->outputs[k]])) return refuse(error, i, s->outputs[o], "offset", "results overlap");
  }
  return EZ_OK;
}

/* --- written before read --------------------------------------------------------------------------------------------------- */

typedef struct grains {
  uint64_t first, last;
} grains;

static grains grains_of(const ez_dataflow *flow, const ez_tensor *t) {
  return (grains){t->offset / flow->grain_bytes, (t->offset + t->bytes - 1) / flow->grain_bytes};
}

/* Those of a range that are in one word. Word by word: bit by bit, 3 MB of hostile steps took 26 s. */
static uint64_t bits_of_word(grains g, uint64_t word) {
  const uint64_t from = word == g.first / 64 ? g.first % 64 : 0, to = word == g.last / 64 ? g.last % 64 : 63;
  return ~0ull << from & ~0ull >> (63 - to);
}

static void mark(ez_dataflow *flow, const ez_tensor *t) {
  const grains g = grains_of(flow, t);
  for (uint64_t word = g.first / 64; word <= g.last / 64; word++) flow->written[word] |= bits_of_word(g, word);
}

static int is_marked(const ez_dataflow *flow, const ez_tensor *t) {
  const grains g = grains_of(flow, t);
  uint64_t missing = 0;
  for (uint64_t word = g.first / 64; word <= g.last / 64; word++) missing |= ~flow->written[word] & bits_of_word(g, word);
  return !missing;
}

ez_status ez_dataflow_step(ez_dataflow *flow, const ez_program *p, int32_t i, uint32_t in_place, ez_error *error) {
  const ez_step *s = &p->steps[i];
  const ez_status status = check_overlap(p, i, in_place, error);
  if (status) return status;
  for (int k = 0; k < s->n_inputs; k++) {
    if (s->inputs[k] < 0) continue;
    const ez_tensor *x = &p->tensors[s->inputs[k]];
    if (x->place == EZ_IN_ARENA && !is_marked(flow, x)) return refuse(error, i, s->inputs[k], "inputs", "bytes are read that no earlier step wrote");
    if (x->place == EZ_IN_OUTPUT && !flow->has_output[x->offset]) return refuse(error, i, s->inputs[k], "inputs", "a graph output is read before it is written");
  }
  for (int o = 0; o < s->n_outputs; o++) {
    const ez_tensor *y = &p->tensors[s->outputs[o]];
    if (y->place == EZ_IN_ARENA) mark(flow, y);
    else flow->has_output[y->offset] = 1;
  }
  return EZ_OK;
}

ez_status ez_dataflow_outputs(const ez_dataflow *flow, const ez_program *p, ez_error *error) {
  for (uint32_t k = 0; k < p->n_outputs; k++)
    if (!flow->has_output[k] && p->tensors[p->io[p->n_inputs + k]].bytes) return refuse(error, -1, (int32_t)p->io[p->n_inputs + k], "outputs", "no step writes this graph output");
  return EZ_OK;
}
