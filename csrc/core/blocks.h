/* Block-sparse int8 weights (EZ_FORM_BLOCKS): the proof that they are sound, and the panels that they stand for. */
#ifndef EDGEZIP_BLOCKS_H
#define EDGEZIP_BLOCKS_H

#include "core/block.h"
#include "ops/op.h"

/* The parts of a constant of that form. */
typedef struct ez_blocks {
  const ez_blocks_head *head;
  const uint32_t *starts;
  const uint16_t *index;
  const int8_t *values;
} ez_blocks;

ez_blocks ez_blocks_of(const ez_blocks_head *head);

/* Input `which`, of that form, as the weights of `panels` panels of `steps` k-steps. */
ez_status ez_check_blocks(ez_check *check, int which, uint64_t panels, uint64_t steps);

/* Whether these kernels skip the empty groups: there is one for it, and the file does not say that panels are faster on this ISA. */
int ez_blocks_serve(const ez_blocks_head *head, const ez_kernels *kernels);

/* What a step's weights are: the head if the kernels skip, else NULL; and its share of products that are left, 1 without blocks.
 * `weights`: the section, or NULL where constants lie at `data`. */
const ez_blocks_head *ez_blocks_of_step(const ez_step *step, const ez_tensor *tensors, const uint8_t *weights, uint8_t *const *data,
                                        const ez_kernels *kernels);
double ez_blocks_share(const ez_blocks_head *head);

/* Panels made of blocks, each constant once; they live as long as this. */
typedef struct ez_expanded {
  struct ez_expansion *list;
  uint64_t bytes;
} ez_expanded;

/* The packed panels of a proved constant that lies `offset` bytes into the weights; NULL when memory is out. */
uint8_t *ez_expand(ez_expanded *expanded, uint64_t offset, const ez_blocks_head *head, uint32_t layout);
void ez_expanded_destroy(ez_expanded *expanded);

#endif
