#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/blocks.h"
#include "core/dispatch.h"
#include "core/pool.h"
#include "core/prepare.h"
#include "core/winograd_driver.h"
#include "edgezip/ez_kernels.h"
#include "ops/op.h"

static ez_status refuse(ez_error *error, ez_status status, const char *message) {
  *error = (ez_error){.status = status, .step = 0, .tensor = -1};
  snprintf(error->message, sizeof error->message, "%s", message);
  return status;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t shortest_run(const ez_op *op, const ez_run *run, int32_t repeats) {
  uint64_t shortest = UINT64_MAX;
  for (int32_t i = 0; i < repeats; i++) {
    const uint64_t start = now_ns();
    op->run(run);
    const uint64_t took = now_ns() - start;
    if (took < shortest) shortest = took;
  }
  return shortest;
}

static ez_status check_step(const ez_op *op, const ez_header *header, const ez_step *step, const ez_tensor *tensors, uint8_t *const *data,
                            ez_error *error, uint64_t *scratch) {
  ez_check check = {.header = header, .tensors = tensors, .step = step, .data = data, .error = error};
  for (int i = 0; i < step->n_inputs; i++)
    if (step->inputs[i] >= (int32_t)header->n_tensors) return refuse(error, EZ_BAD_ARGUMENT, "a step input has no tensor");
  for (int i = 0; i < step->n_outputs; i++)
    if (step->outputs[i] < 0 || step->outputs[i] >= (int32_t)header->n_tensors)
      return refuse(error, EZ_BAD_ARGUMENT, "a step output has no tensor");
  const ez_status status = op->check(&check);
  *scratch = (check.scratch_needed + 63) / 64 * 64;
  return status;
}

/* `data`, with panels for block-sparse weights that the kernels do not skip; NULL when memory is out. */
static uint8_t **own_pointers(const ez_step *step, const ez_tensor *tensors, uint32_t n, uint8_t *const *data, const ez_kernels *kernels,
                              ez_expanded *expanded) {
  uint8_t **own = malloc(n * sizeof *own);
  if (!own) return NULL;
  memcpy(own, data, n * sizeof *own);
  const int32_t w = step->op == EZ_OP_CONV || step->op == EZ_OP_LINEAR ? step->inputs[1] : -1;
  if (w < 0 || tensors[w].form != EZ_FORM_BLOCKS || ez_blocks_of_step(step, tensors, NULL, data, kernels)) return own;
  own[w] = ez_expand(expanded, 0, (const ez_blocks_head *)(const void *)data[w], kernels->layout);
  if (own[w]) return own;
  free(own);
  return NULL;
}

ez_status ez_kernel_step(const char *isa, uint32_t layout, uint32_t act_sign, int32_t threads, const void *step, const void *tensors,
                         uint32_t n_tensors, void *const *data, int32_t repeats, uint64_t *ns, ez_error *error) {
  const ez_step *s = step;
  const ez_op *op = ez_op_find(s->op);
  if (!op || s->n_inputs > EZ_MAX_STEP_INPUTS || s->n_outputs > EZ_MAX_STEP_OUTPUTS || repeats < 1)
    return refuse(error, EZ_BAD_ARGUMENT, "unknown opcode, too many operands, or no repeats");
  const ez_header header = {.layout = layout, .act_sign = act_sign, .n_tensors = n_tensors};
  ez_kernels kernels;
  const char *name = NULL;
  uint64_t scratch_bytes = 0;
  ez_status status = ez_kernels_resolve(isa, layout, act_sign, &kernels, &name, error);
  if (!status) status = check_step(op, &header, s, tensors, (uint8_t *const *)data, error, &scratch_bytes);
  if (status) return status;
  const uint64_t for_tiles = ez_winograd_scratch_bytes(s, tensors, &kernels);
  if (for_tiles > scratch_bytes) scratch_bytes = for_tiles;
  ez_pool *pool = ez_pool_create(threads, EZ_SPIN_US, NULL);
  uint8_t *scratch = aligned_alloc(64, (size_t)(scratch_bytes ? scratch_bytes : 64) * (size_t)(threads > 0 ? threads : 1));
  const ez_blocks_head *blocks = ez_blocks_of_step(s, tensors, NULL, (uint8_t *const *)data, &kernels);
  const size_t room = blocks ? 0 : ez_prepared_room(s, tensors, &kernels);
  uint8_t *prepared = room ? aligned_alloc(64, room) : NULL;
  ez_expanded expanded = {0};
  uint8_t **own = own_pointers(s, tensors, n_tensors, (uint8_t *const *)data, &kernels, &expanded);
  if (pool && scratch && own && (prepared || !room)) {
    ez_run run = {.step = s, .tensors = tensors, .data = own, .kernels = &kernels, .pool = pool, .blocks = blocks,
                  .scratch = scratch, .scratch_bytes = (size_t)scratch_bytes};
    if (room) ez_prepare(&run, prepared);
    run.prepared = prepared;
    const uint64_t shortest = shortest_run(op, &run, repeats);
    if (ns) *ns = shortest;
  } else {
    status = refuse(error, EZ_NO_MEMORY, "no memory or threads");
  }
  free(own);
  ez_expanded_destroy(&expanded);
  free(prepared);
  free(scratch);
  ez_pool_destroy(pool);
  return status;
}
