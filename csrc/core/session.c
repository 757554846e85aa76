/* A session: one arena, scratch for each thread, resolved kernels, and the loop over the steps. */
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/dispatch.h"
#include "core/pool.h"
#include "core/program.h"

struct ez_session {
  const ez_program *program;
  uint8_t *arena, *scratch;
  void *arena_block, *scratch_block; /* what free wants */
  uint8_t **data; /* one pointer a tensor; those of graph inputs and outputs change with every run */
  const ez_op **ops;
  uint64_t *ns; /* NULL without profile */
  ez_kernels kernels;
  const char *isa;
  ez_pool *pool;
  int has_buffers; /* of a caller: begin was called */
};

static ez_status refuse(ez_error *error, ez_status status, const char *field, const char *message) {
  if (error) {
    *error = (ez_error){.status = status, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return status;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Zeroed, so that over-read bytes are the same in every run; untouched, so that a hostile size costs no memory until used. */
static uint8_t *aligned_block(size_t bytes, void **to_free) {
  *to_free = calloc(1, bytes + 64);
  return *to_free ? (uint8_t *)(((uintptr_t)*to_free + 63) & ~(uintptr_t)63) : NULL;
}

static int allocate(ez_session *s, int32_t threads, int profile) {
  const ez_header *h = s->program->header;
  s->arena = aligned_block(h->arena_bytes, &s->arena_block);
  s->scratch = aligned_block(h->scratch_bytes * (size_t)threads, &s->scratch_block);
  s->data = calloc(h->n_tensors, sizeof *s->data);
  s->ops = calloc(h->n_steps, sizeof *s->ops);
  s->ns = profile ? calloc(h->n_steps, sizeof *s->ns) : NULL;
  s->pool = ez_pool_create(threads);
  return s->arena && s->scratch && s->data && s->ops && (s->ns || !profile) && s->pool;
}

static void resolve(ez_session *s) {
  const ez_program *p = s->program;
  for (uint32_t i = 0; i < p->header->n_steps; i++) s->ops[i] = ez_op_find(p->steps[i].op);
  for (uint32_t i = 0; i < p->header->n_tensors; i++) {
    const ez_tensor *t = &p->tensors[i];
    if (t->place == EZ_IN_ARENA) s->data[i] = s->arena + t->offset;
    /* Steps never write into the weights (verified), so the mapped file can stay read-only. */
    if (t->place == EZ_IN_WEIGHTS) s->data[i] = (uint8_t *)(uintptr_t)(p->weights + t->offset);
  }
}

ez_status ez_session_create(const ez_program *program, const ez_session_options *options, ez_session **out, ez_error *error) {
  if (!program || !out) return refuse(error, EZ_BAD_ARGUMENT, "program", "NULL pointer");
  *out = NULL;
  const int32_t threads = options && options->threads ? options->threads : 1;
  if (threads < 1 || threads > EZ_MAX_THREADS) return refuse(error, EZ_BAD_ARGUMENT, "threads", "must be 1 to 64");
  if (fegetround() != FE_TONEAREST) return refuse(error, EZ_BAD_ENVIRONMENT, "rounding", "the rounding mode is not to-nearest (EZ-N1 rule 5)");
  ez_session *s = calloc(1, sizeof *s);
  if (!s) return refuse(error, EZ_NO_MEMORY, "session", "out of memory");
  s->program = program;
  ez_status status = ez_kernels_resolve(options ? options->isa : NULL, program->header->layout, program->header->act_sign, &s->kernels, &s->isa, error);
  if (!status && !allocate(s, threads, options && options->profile)) status = refuse(error, EZ_NO_MEMORY, "arena", "out of memory, or of threads");
  if (status) {
    ez_session_destroy(s);
    return status;
  }
  resolve(s);
  *out = s;
  return EZ_OK;
}

void ez_session_destroy(ez_session *s) {
  if (!s) return;
  ez_pool_destroy(s->pool);
  free(s->ns);
  free(s->ops);
  free(s->data);
  free(s->scratch_block);
  free(s->arena_block);
  free(s);
}

ez_status ez_session_begin(ez_session *s, const void *const *inputs, void *const *outputs) {
  if (!s || !inputs || !outputs) return EZ_BAD_ARGUMENT;
  const ez_program *p = s->program;
  for (uint32_t k = 0; k < p->header->n_inputs; k++)
    if (!inputs[k]) return EZ_BAD_ARGUMENT;
  for (uint32_t k = 0; k < p->header->n_outputs; k++)
    if (!outputs[k]) return EZ_BAD_ARGUMENT;
  for (uint32_t i = 0; i < p->header->n_tensors; i++) {
    const ez_tensor *t = &p->tensors[i];
    if (t->place == EZ_IN_INPUT) s->data[i] = (uint8_t *)(uintptr_t)inputs[t->offset]; /* read only: no step writes a graph input (verified) */
    if (t->place == EZ_IN_OUTPUT) s->data[i] = outputs[t->offset];
  }
  s->has_buffers = 1;
  return EZ_OK;
}

ez_status ez_session_step(ez_session *s, uint32_t i) {
  if (!s || !s->has_buffers || i >= s->program->header->n_steps) return EZ_BAD_ARGUMENT;
  const ez_run run = {.step = &s->program->steps[i], .tensors = s->program->tensors, .data = s->data, .kernels = &s->kernels, .pool = s->pool,
                      .scratch = s->scratch, .scratch_bytes = s->program->header->scratch_bytes};
  s->ops[i]->run(&run);
  return EZ_OK;
}

ez_status ez_session_run(ez_session *s, const void *const *inputs, void *const *outputs) {
  const ez_status status = ez_session_begin(s, inputs, outputs);
  if (status) return status;
  uint64_t before = s->ns ? now_ns() : 0;
  for (uint32_t i = 0; i < s->program->header->n_steps; i++) {
    ez_session_step(s, i);
    if (!s->ns) continue;
    const uint64_t after = now_ns();
    s->ns[i] = after - before;
    before = after;
  }
  return EZ_OK;
}

ez_status ez_session_step_info(const ez_session *s, uint32_t i, ez_step_info *info) {
  if (!s || !info || i >= s->program->header->n_steps) return EZ_BAD_ARGUMENT;
  const ez_step *step = &s->program->steps[i];
  *info = (ez_step_info){.name = s->program->strings + step->name_offset, .name_bytes = step->name_bytes, .op = s->ops[i]->name,
                         .kernel = s->ops[i]->kernel ? s->ops[i]->kernel(step, s->program->tensors, &s->kernels) : s->isa,
                         .n_outputs = step->n_outputs};
  memcpy(info->outputs, step->outputs, sizeof info->outputs);
  return EZ_OK;
}

ez_status ez_session_tensor(const ez_session *s, uint32_t index, void *data, size_t bytes) {
  if (!s || !data || index >= s->program->header->n_tensors) return EZ_BAD_ARGUMENT;
  const ez_tensor *t = &s->program->tensors[index];
  if (!s->data[index]) return EZ_BAD_ARGUMENT;
  const uint64_t size = ez_element_bytes(t->dtype), columns = (uint64_t)(t->rank ? t->dims[t->rank - 1] : 1);
  uint64_t rows = 1;
  for (int d = 0; d + 1 < t->rank; d++) rows *= (uint64_t)t->dims[d];
  if (bytes != rows * columns * size) return EZ_BAD_ARGUMENT;
  for (uint64_t r = 0; r < rows; r++) memcpy((uint8_t *)data + r * columns * size, s->data[index] + r * (uint64_t)t->row_stride * size, columns * size);
  return EZ_OK;
}

ez_status ez_session_profile(const ez_session *s, uint64_t *ns, uint32_t n_steps) {
  if (!s || !s->ns || !ns || n_steps != s->program->header->n_steps) return EZ_BAD_ARGUMENT;
  memcpy(ns, s->ns, n_steps * sizeof *ns);
  return EZ_OK;
}

const char *ez_session_isa(const ez_session *s) { return s->isa; }
int32_t ez_session_threads(const ez_session *s) { return ez_pool_threads(s->pool); }
