/* What the checks of operators prove in common, and how their work is cut. */
#ifndef EDGEZIP_OPERANDS_H
#define EDGEZIP_OPERANDS_H

#include "core/pool.h"
#include "isa/turn.h"
#include "ops/op.h"

/* Elements of any type, moved unchanged. */
typedef uint8_t ez_word8;
typedef uint64_t __attribute__((may_alias)) ez_word64;

/* Input `which` of the step, or NULL when it is absent. */
const ez_tensor *ez_input_of(const ez_check *check, int which);
const ez_tensor *ez_output_of(const ez_check *check);

size_t ez_element_bytes(int dtype);
/* Elements from the first to the last, gaps between rows included. */
int64_t ez_extent(const ez_tensor *tensor);
int64_t ez_rows_of(const ez_tensor *tensor); /* product of all dims but the last */
int32_t ez_columns_of(const ez_tensor *tensor);
/* The XOR between logical and stored byte of a tensor: s8 graph inputs and outputs are logical. */
uint32_t ez_sign_of(const ez_tensor *tensor, uint32_t act_sign);

/* Exactly one output; inputs [0, required) are there, none beyond `allowed`. */
ez_status ez_check_operands(ez_check *check, int required, int allowed);
ez_status ez_check_dtype(ez_check *check, int32_t tensor, int dtype);
/* Rows without gaps. */
ez_status ez_check_contiguous(ez_check *check, int32_t tensor);
/* An s8 tensor whose bytes carry the program's sign: in the arena or the weights. Other dtypes may be anywhere. */
ez_status ez_check_stored(ez_check *check, int32_t tensor);
/* A contiguous constant of `elements` in the weights section. */
ez_status ez_check_constant(ez_check *check, int which, int dtype, int64_t elements);
/* The same, in the weights or in the arena: what a step of its own cuts out for the size of the day. */
ez_status ez_check_table(ez_check *check, int which, int dtype, int64_t elements);
/* Packed int8 weights: `panels` panels of `steps` k-steps, in any form (ez_format.h). */
ez_status ez_check_weights(ez_check *check, int which, uint64_t panels, uint64_t steps);
/* A contiguous tensor of exactly `elements`. */
ez_status ez_check_elements(ez_check *check, int32_t tensor, int64_t elements);
/* x and y: the same dtype, dims and contiguous rows, s8 stored. */
ez_status ez_check_elementwise(ez_check *check);
/* scale finite and positive, -128 <= lo <= hi <= 127. */
ez_status ez_check_requantize(ez_check *check, float scale, int32_t lo, int32_t hi);
/* y has the scale and zero point of `tensor`. */
ez_status ez_check_same_scale(ez_check *check, int32_t tensor);
/* Every index of dims stays inside the tensor, and off the gaps between its rows: offset + sum index * stride. */
ez_status ez_check_walk(ez_check *check, int32_t tensor, const char *field, int32_t rank, const int32_t *dims, const int32_t *strides, int64_t offset);
/* The same for an output: strides not negative, and no element is written twice. */
ez_status ez_check_walk_output(ez_check *check, int32_t rank, const int32_t *dims, const int32_t *strides, int64_t offset);

/* Pieces that `total` units of work are cut into when each thread should get at least `least` of them. */
int32_t ez_pieces(const ez_run *run, int64_t total, int64_t least);
/* First unit of a piece; piece `pieces` is the end. */
static inline int64_t ez_piece_start(int64_t total, int32_t pieces, int32_t piece) { return total * piece / pieces; }

#endif
