/* Which bytes a step reads and writes: nothing is read before it was written, no result runs into an operand. */
#ifndef EDGEZIP_DATAFLOW_H
#define EDGEZIP_DATAFLOW_H

#include "core/program.h"

typedef struct ez_dataflow {
  uint64_t *written;    /* one bit for each grain of the arena */
  uint8_t *has_output;  /* for each graph output */
  uint64_t grain_bytes;
} ez_dataflow;

/* 0 when memory is out. At most 32 kB and a byte for each graph output, however large the arena. */
int ez_dataflow_start(ez_dataflow *flow, const ez_program *program);
/* Nothing is written yet. */
void ez_dataflow_reset(ez_dataflow *flow, const ez_program *program);
void ez_dataflow_end(ez_dataflow *flow);

/* Take in step i, whose operator reads the inputs of mask `in_place` just where it writes. */
ez_status ez_dataflow_step(ez_dataflow *flow, const ez_program *program, int32_t i, uint32_t in_place, ez_error *error);
/* After the last step: every graph output was written. */
ez_status ez_dataflow_outputs(const ez_dataflow *flow, const ez_program *program, ez_error *error);

#endif
