/* The bundled test vectors: where they lie. */
#include <stdio.h>

#include "core/program.h"

/* Of a vector's arrays: the caller's inputs, then the caller's outputs. */
static uint32_t array_count(const ez_program *p) { return p->header->n_inputs + p->header->n_outputs; }

/* What stands before the arrays of each vector of a program with dynamic shapes. */
static uint64_t head_bytes(const ez_program *p) { return p->shapes.head ? ez_round_64(EZ_MAX_SYMBOLS * 4 + (uint64_t)array_count(p) * 8) : 0; }

static uint64_t array_bytes(const ez_program *p, const uint8_t *vector, uint32_t k) {
  if (p->shapes.head) return ((const uint64_t *)(const void *)(vector + EZ_MAX_SYMBOLS * 4))[k];
  const uint32_t n = p->header->n_inputs;
  return p->tensors[p->io[k < n ? k : p->n_inputs + k - n]].bytes;
}

/* From the start of a vector to its array k. */
static uint64_t start_of(const ez_program *p, const uint8_t *vector, uint32_t k) {
  uint64_t bytes = head_bytes(p);
  for (uint32_t i = 0; i < k; i++) bytes += ez_round_64(array_bytes(p, vector, i));
  return bytes;
}

static ez_status refuse(ez_error *error, const char *message) {
  if (error) {
    *error = (ez_error){.status = EZ_BAD_PROGRAM, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "vectors");
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return EZ_BAD_PROGRAM;
}

ez_status ez_check_vectors(const ez_program *p, ez_error *error) {
  const uint64_t size = p->header->sections[EZ_SECTION_VECTORS].bytes;
  uint64_t at = 0;
  for (uint32_t v = 0; v < p->header->n_vectors; v++) {
    if (head_bytes(p) > size - at) return refuse(error, "section is cut short");
    uint64_t left = size - at;
    for (uint32_t k = 0; k < array_count(p); k++)
      if (array_bytes(p, p->vectors + at, k) > left) return refuse(error, "section is cut short");
    const uint64_t bytes = start_of(p, p->vectors + at, array_count(p)); /* no sum can wrap: 2048 arrays, each no larger than the file */
    if (bytes > left) return refuse(error, "section is cut short");
    if (!bytes) return refuse(error, "a vector holds no bytes"); /* or a few bytes could state a million of them */
    at += bytes;
  }
  return at == size ? EZ_OK : refuse(error, "section has another size than its vectors");
}

static const uint8_t *vector_at(const ez_program *p, uint32_t vector) {
  const uint8_t *at = p->vectors;
  for (uint32_t v = 0; v < vector; v++) at += start_of(p, at, array_count(p));
  return at;
}

ez_status ez_program_vector(const ez_program *program, uint32_t vector, int32_t is_output, uint32_t index, const void **data, size_t *bytes) {
  if (!program || !data || !bytes) return EZ_BAD_ARGUMENT;
  const ez_header *h = program->header;
  if (vector >= h->n_vectors || index >= (is_output ? h->n_outputs : h->n_inputs)) return EZ_BAD_ARGUMENT;
  const uint32_t wanted = (is_output ? h->n_inputs : 0) + index;
  const uint8_t *start = vector_at(program, vector);
  *data = start + start_of(program, start, wanted);
  *bytes = (size_t)array_bytes(program, start, wanted);
  return EZ_OK;
}

ez_status ez_program_vector_sizes(const ez_program *program, uint32_t vector, int32_t *sizes, uint32_t n) {
  if (!program || (!sizes && n) || vector >= program->header->n_vectors || n != (program->shapes.head ? program->shapes.head->n_symbols : 0)) return EZ_BAD_ARGUMENT;
  const int32_t *stored = (const int32_t *)(const void *)vector_at(program, vector);
  for (uint32_t i = 0; i < n; i++) sizes[i] = stored[i];
  return EZ_OK;
}
