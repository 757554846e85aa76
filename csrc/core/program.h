/* A verified program: pointers into the caller's bytes. Internal to core. */
#ifndef EDGEZIP_PROGRAM_H
#define EDGEZIP_PROGRAM_H

#include "edgezip/ez.h"
#include "edgezip/ez_format.h"

struct ez_program {
  const uint8_t *bytes;
  size_t size;
  int mapped; /* ez_program_close unmaps */
  const ez_header *header;
  const ez_step *steps;
  const ez_tensor *tensors;
  uint32_t n_steps, n_tensors;
  uint32_t n_inputs, n_outputs; /* those of the states included, behind the caller's */
  const uint32_t *io;           /* inputs, outputs, initial values of the states */
  const char *strings;
  const uint8_t *weights, *metadata, *vectors;
};

/* Proves the whole file and fills *program (which borrows `bytes`). The one gate: nothing is used before it passed. */
ez_status ez_verify(const void *bytes, size_t size, ez_program *program, ez_error *error);

/* Of the first `arrays` of a test vector, as they lie in the file. */
uint64_t ez_vector_bytes(const ez_program *program, uint32_t arrays);

static inline uint64_t ez_element_bytes(int dtype) { return dtype == EZ_DTYPE_F32 || dtype == EZ_DTYPE_S32 ? 4 : dtype == EZ_DTYPE_S64 ? 8 : 1; }
static inline uint64_t ez_round_64(uint64_t value) { return (value + 63) / 64 * 64; }

#endif
