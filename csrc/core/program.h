/* A verified program: pointers into the caller's bytes. Internal to core. */
#ifndef EDGEZIP_PROGRAM_H
#define EDGEZIP_PROGRAM_H

#include "core/block.h"
#include "edgezip/ez.h"
#include "edgezip/ez_format.h"

/* The section shapes; all NULL and 0 without dynamic shapes. */
typedef struct ez_shapes {
  const ez_shapes_head *head;
  const ez_symbol *symbols;
  const ez_box *boxes;
  const ez_variant *variants;
  const ez_derived *derived;
  const ez_patch *patches;
  const ez_term *terms;
  uint32_t most_steps, most_tensors; /* of a variant */
} ez_shapes;

struct ez_program {
  const uint8_t *bytes;
  size_t size;
  void *mapped;     /* the file, of mapped_bytes, that ez_program_close unmaps; NULL: the bytes are the caller's */
  size_t mapped_bytes;
  ez_block decoded; /* of a coded file: the plain one */
  const ez_header *header;
  const ez_step *steps;
  const ez_tensor *tensors;
  ez_shapes shapes;
  uint32_t n_steps, n_tensors; /* of the records in force: of a dynamic program, those of its first variant */
  uint32_t n_inputs, n_outputs; /* those of the states included, behind the caller's */
  const uint32_t *io;           /* inputs, outputs, initial values of the states */
  const char *strings;
  const uint8_t *weights, *metadata, *vectors;
};

struct ez_dataflow;

/* Proves the records in force: tensors, states, steps. `flow` was made for this program. */
ez_status ez_verify_records(const ez_program *program, struct ez_dataflow *flow, ez_error *error);
/* Proves the whole file and fills *program (which borrows `bytes`). The one gate: nothing is used before it passed. */
ez_status ez_verify(const void *bytes, size_t size, ez_program *program, ez_error *error);

/* Proves that the test vectors fill their section. */
ez_status ez_check_vectors(const ez_program *program, ez_error *error);
/* A name of the strings section: whole UTF-8 characters, not too long. */
int ez_is_name(const ez_program *program, uint32_t offset, uint32_t bytes);
/* Zero or not, of a range of bytes. */
int ez_all_zero(const void *bytes, uint64_t size);

static inline uint64_t ez_element_bytes(int dtype) { return dtype == EZ_DTYPE_F32 || dtype == EZ_DTYPE_S32 ? 4 : dtype == EZ_DTYPE_S64 ? 8 : 1; }
static inline uint64_t ez_round_64(uint64_t value) { return (value + 63) / 64 * 64; }

#endif
