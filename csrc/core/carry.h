/* The states of a session: what a run leaves in a graph output for the paired graph input of the next run.
 *
 * Each state has two buffers that change places after a run, so nothing is copied and no step writes what another still reads. */
#ifndef EDGEZIP_CARRY_H
#define EDGEZIP_CARRY_H

#include "core/block.h"
#include "core/program.h"

typedef struct ez_carried {
  uint8_t *now, *next; /* what the next run reads; where it writes */
  uint64_t bytes;
} ez_carried;

typedef struct ez_carry {
  ez_carried *states;
  ez_block memory;
} ez_carry;

/* 0 when memory is out. ez_carry_destroy is right in either case. */
int ez_carry_create(ez_carry *carry, const ez_program *program);
void ez_carry_destroy(ez_carry *carry);
/* Whether the states of `program` have the sizes that there is room for. */
int ez_carry_fits(const ez_carry *carry, const ez_program *program);
void ez_carry_reset(ez_carry *carry, const ez_program *program);
/* After a run: what was written is what the next run reads. */
void ez_carry_turn(ez_carry *carry, const ez_program *program);
/* The tensor of the graph input of state `index`; NULL when there is no such state. */
const ez_tensor *ez_carry_tensor(const ez_program *program, uint32_t index);

#endif
