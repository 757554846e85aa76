/* An operator of the runtime: how to prove a step, and how to run it.
 *
 * `check` sees the raw record of a file that nobody trusts: it must prove every parameter, shape, dtype, place and index
 * against the tensors so that `run` can go without a single test. `run` is called with resolved pointers, never fails,
 * never allocates; work may be split with ez_pool_run over outputs, never over sums.
 * To add an operator: one file here, one line in ops.c, one lowering rule in edgezip/pack/lower/, one reference in kernels/reference.py.
 */
#ifndef EDGEZIP_OP_H
#define EDGEZIP_OP_H

#include "edgezip/ez.h"
#include "edgezip/ez_format.h"
#include "isa/isa.h"

struct ez_pool;

/* What a step may call: slots already resolved along the ISA chain for this program's layout and sign. */
typedef struct ez_kernels {
  uint32_t act_sign, layout;
  const ez_isa *gemm_s8, *gemm_f32, *depthwise_s8, *depthwise_f32; /* table whose slot is used (with its block sizes) */
  const struct ez_codes_kernels *codes;
  ez_rows rows;
} ez_kernels;

/* Read-only view used by check: the tables of the file. */
typedef struct ez_check {
  const ez_header *header;
  const ez_tensor *tensors;
  const ez_step *step;
  int32_t step_index;
  const uint8_t *weights; /* the section, or NULL where tensors have places of their own: */
  uint8_t *const *data;
  uint64_t scratch_needed; /* check sets: bytes of per-thread scratch that run uses */
  uint32_t in_place_inputs; /* check sets: bit i = input i may be exactly the region of the output */
  ez_error *error;
} ez_check;

typedef struct ez_run {
  const ez_step *step;
  const ez_tensor *tensors;
  uint8_t *const *data; /* one pointer per tensor, resolved: arena, weights, input or output */
  const ez_kernels *kernels;
  struct ez_pool *pool;
  uint8_t *scratch; /* thread i owns scratch + i * scratch_bytes */
  size_t scratch_bytes;
  const ez_blocks_head *blocks; /* the weights are these, and the kernel skips what they leave out; NULL: packed panels */
  const uint8_t *prepared; /* weights in the kernel's own form (core/prepare.h), or NULL */
} ez_run;

typedef struct ez_op {
  const char *name;
  ez_status (*check)(ez_check *check);
  void (*run)(const ez_run *run);
  const char *(*kernel)(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels); /* name of the ISA path taken; NULL: the session's */
  size_t params_bytes; /* of the params struct; the verifier proves that the rest of the record is zero */
} ez_op;

/* NULL when the opcode is unknown. */
const ez_op *ez_op_find(uint16_t opcode);

/* Helpers for check. Each returns EZ_OK or fills check->error (step, tensor, field, message) and returns EZ_BAD_PROGRAM. */
ez_status ez_check_fail(ez_check *check, int32_t tensor, const char *field, const char *format, ...);

#endif
