/* A session: one arena, scratch for each thread, resolved kernels, and the loop over the steps. Whatever does not change from run to run
 * is worked out when it is created, but for the kernels' own form of weights: each step's is made when it first runs. */
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/affinity.h"
#include "core/block.h"
#include "core/blocks.h"
#include "core/carry.h"
#include "core/crc32.h"
#include "core/dispatch.h"
#include "core/dataflow.h"
#include "core/pool.h"
#include "core/prepare.h"
#include "core/program.h"
#include "core/shapes.h"
#include "core/winograd_driver.h"
#include "core/work.h"

/* A step ready to go. */
typedef struct planned_step {
  const ez_op *op;
  int32_t threads; /* as many as its work is worth */
  int32_t unprepared; /* its kernel wants the weights in a form of its own, which is not there yet */
  ez_run run;
} planned_step;

/* A tensor whose place is a buffer of the caller. */
typedef struct outside_tensor {
  uint32_t tensor, index;
} outside_tensor;

/* What a session of a program with dynamic shapes has beside: the records of the present size. */
typedef struct resized {
  const ez_program *source;
  ez_program view; /* of `records` */
  ez_records records;
  ez_dataflow flow;
  int32_t sizes[EZ_MAX_SYMBOLS];
  int is_valid; /* the last resize succeeded */
} resized;

struct ez_session {
  const ez_program *program; /* the records in force: of a dynamic one, resized->view */
  resized *resized;          /* NULL with static shapes */
  size_t scratch_bytes; /* of a thread */
  ez_block arena, scratch, prepared; /* the last: weights in the kernels' own form */
  uint8_t *prepared_end;
  ez_expanded expanded; /* panels made of block-sparse weights that these kernels do not skip */
  ez_carry carry;
  uint8_t **data; /* one pointer a tensor; those of graph inputs and outputs change with every run */
  outside_tensor *outside; /* tensors in graph inputs, then those in graph outputs */
  uint32_t n_from_inputs, n_outside;
  planned_step *steps;
  uint64_t *ns; /* NULL without profile */
  ez_kernels kernels;
  const char *isa;
  ez_affinity affinity;
  int32_t threads, solo_us;
  ez_pool *pool;
  int has_buffers; /* of a caller: begin was called */
};

/* Not after a resize that failed: its records are not proved. */
static int is_usable(const ez_session *s) { return s && (!s->resized || s->resized->is_valid); }

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

static int allocate(ez_session *s, int32_t spin_us, int profile) {
  const ez_header *h = s->program->header;
  if (!ez_block_create(&s->arena, h->arena_bytes) || !ez_block_create(&s->scratch, s->scratch_bytes * (size_t)s->threads)) return 0;
  if (!ez_carry_create(&s->carry, s->program)) return 0;
  const uint32_t n_tensors = s->resized ? s->program->shapes.most_tensors : s->program->n_tensors, n_steps = s->resized ? s->program->shapes.most_steps : s->program->n_steps;
  s->data = calloc(n_tensors, sizeof *s->data);
  s->outside = calloc(n_tensors, sizeof *s->outside);
  s->steps = calloc(n_steps + 1, sizeof *s->steps); /* a program of empty results has no step, and calloc(0) may give NULL */
  s->ns = profile ? calloc(n_steps + 1, sizeof *s->ns) : NULL;
  s->pool = ez_pool_create(s->threads, spin_us, &s->affinity);
  return s->data && s->outside && s->steps && (s->ns || !profile) && s->pool;
}

static void list_outside(ez_session *s, uint8_t place) {
  for (uint32_t i = 0; i < s->program->n_tensors; i++)
    if (s->program->tensors[i].place == place) s->outside[s->n_outside++] = (outside_tensor){i, (uint32_t)s->program->tensors[i].offset};
}

/* A constant as the kernels read it; NULL when memory is out. Steps never write into the weights (verified), so the mapped file can stay
 * read-only. */
static uint8_t *place_constant(ez_session *s, const ez_tensor *t) {
  const uint8_t *at = s->program->weights + t->offset;
  const ez_blocks_head *head = (const ez_blocks_head *)(const void *)at;
  if (t->form != EZ_FORM_BLOCKS || ez_blocks_serve(head, &s->kernels)) return (uint8_t *)(uintptr_t)at;
  return ez_expand(&s->expanded, t->offset, head, s->kernels.layout);
}

/* 0 when memory is out. */
static int place_tensors(ez_session *s) {
  const ez_program *p = s->program;
  for (uint32_t i = 0; i < p->n_tensors; i++) {
    const ez_tensor *t = &p->tensors[i];
    s->data[i] = NULL; /* those of the caller come with each run */
    if (t->place == EZ_IN_ARENA) s->data[i] = s->arena.bytes + t->offset;
    if (t->place == EZ_IN_WEIGHTS && !(s->data[i] = place_constant(s, t))) return 0;
  }
  s->n_outside = 0;
  list_outside(s, EZ_IN_INPUT);
  s->n_from_inputs = s->n_outside;
  list_outside(s, EZ_IN_OUTPUT);
  return 1;
}

static void plan_steps(ez_session *s) {
  const ez_program *p = s->program;
  for (uint32_t i = 0; i < p->n_steps; i++) {
    const ez_step *step = &p->steps[i];
    const ez_blocks_head *blocks = ez_blocks_of_step(step, p->tensors, p->weights, NULL, &s->kernels);
    const double work_us = ez_step_work_us(step, p->tensors, &s->kernels) * ez_blocks_share(blocks);
    s->steps[i] = (planned_step){.op = ez_op_find(step->op), .threads = ez_step_threads(work_us, s->solo_us, s->threads),
                                 .run = {.step = step, .blocks = blocks, .tensors = p->tensors, .data = s->data, .kernels = &s->kernels, .pool = s->pool,
                                         .scratch = s->scratch.bytes, .scratch_bytes = s->scratch_bytes}};
  }
}

#define ROOM_LIMIT 8 /* times the packed weights */

/* Room for the weights of step i, added to `total`; none beyond what honest programs need: a hostile one may have many steps share weights. */
static size_t room_for(const ez_session *s, uint32_t i, size_t *total) {
  const ez_program *p = s->program;
  const size_t room = s->steps[i].run.blocks ? 0 : ez_prepared_room(&p->steps[i], p->tensors, &s->kernels);
  if (room > ROOM_LIMIT * p->header->sections[EZ_SECTION_WEIGHTS].bytes - *total) return 0;
  *total += room;
  return room;
}

/* Rooms are larger than what comes to lie in them, one behind the other; the rest is never touched and takes no memory. */
static int reserve_prepared(ez_session *s) {
  const uint32_t n = s->program->n_steps;
  size_t total = 0;
  for (uint32_t i = 0; i < n; i++) s->steps[i].unprepared = room_for(s, i, &total) != 0;
  if (!total) return 1;
  if (!ez_block_create(&s->prepared, total)) return 0;
  s->prepared_end = s->prepared.bytes;
  return 1;
}

static void prepare_step(ez_session *s, planned_step *step) {
  uint8_t *const to = s->prepared_end;
  s->prepared_end += ez_prepare(&step->run, to);
  step->run.prepared = to;
  step->unprepared = 0;
}

/* What the program states, or more where the chosen kernels want it; not where sizes, and with them the need, may change. */
static size_t scratch_of_a_thread(const ez_session *s) {
  const ez_program *p = s->program;
  uint64_t most = p->header->scratch_bytes;
  for (uint32_t i = 0; i < p->n_steps && !s->resized; i++) {
    const uint64_t bytes = ez_winograd_scratch_bytes(&p->steps[i], p->tensors, &s->kernels);
    most = bytes > most ? bytes : most;
  }
  return (size_t)most;
}

/* 0 leaves the choice to the next: option, program, default. A negative number means none. */
static int32_t chosen(int32_t option, int32_t program, int32_t usual) {
  const int32_t stated = option ? option : program ? program : usual;
  return stated < 0 ? 0 : stated;
}

static ez_status fill(ez_session *s, const ez_session_options *o, ez_error *error) {
  const ez_header *h = s->program->header;
  ez_status status = ez_kernels_resolve(o->isa, h->layout, h->act_sign, &s->kernels, &s->isa, error);
  const ez_cpu_set allowed = ez_cpus_allowed();
  if (!status) status = ez_affinity_resolve(o->affinity, "", &allowed, &s->affinity, error);
  if (status) return status;
  s->scratch_bytes = scratch_of_a_thread(s);
  if (!allocate(s, chosen(o->spin_us, h->spin_us, EZ_SPIN_US), o->profile)) return refuse(error, EZ_NO_MEMORY, "arena", "out of memory, or of threads");
  s->solo_us = chosen(o->solo_us, h->solo_us, EZ_SOLO_US);
  if (!place_tensors(s)) return refuse(error, EZ_NO_MEMORY, "weights", "out of memory for block-sparse weights that this ISA reads as panels");
  plan_steps(s);
  if (!s->resized && !reserve_prepared(s)) return refuse(error, EZ_NO_MEMORY, "weights", "out of memory for the kernels' own form of the weights");
  return EZ_OK;
}

/* --- dynamic shapes ---------------------------------------------------------------------------------------------------------- */

/* Room for the records of any size, and those of the largest in it. */
static ez_status make_resizable(ez_session *s, const ez_program *program, ez_error *error) {
  resized *r = s->resized = calloc(1, sizeof *r);
  if (!r || !ez_records_create(&r->records, &program->shapes) || !ez_dataflow_start(&r->flow, program)) return refuse(error, EZ_NO_MEMORY, "shapes", "out of memory");
  r->source = program;
  for (uint32_t i = 0; i < program->shapes.head->n_symbols; i++) r->sizes[i] = program->shapes.symbols[i].high;
  ez_status status = ez_records_make(&r->records, program, r->sizes, &r->view, error);
  if (!status) status = ez_verify_records(&r->view, &r->flow, error);
  s->program = &r->view;
  r->is_valid = !status;
  return status;
}

static void destroy_resized(resized *r) {
  if (!r) return;
  ez_records_destroy(&r->records);
  ez_dataflow_end(&r->flow);
  free(r);
}

ez_status ez_session_resize(ez_session *s, const int32_t *sizes, uint32_t n, ez_error *error) {
  if (!s || (!sizes && n)) return refuse(error, EZ_BAD_ARGUMENT, "sizes", "NULL pointer");
  resized *r = s->resized;
  if (n != (r ? r->source->shapes.head->n_symbols : 0)) return refuse(error, EZ_BAD_ARGUMENT, "sizes", "one size is needed for each symbol");
  if (!r || (r->is_valid && !memcmp(sizes, r->sizes, n * sizeof *sizes))) return EZ_OK;
  ez_status status = ez_records_make(&r->records, r->source, sizes, &r->view, error);
  if (status == EZ_BAD_ARGUMENT) return status; /* sizes out of bounds: the present ones stay */
  s->has_buffers = 0;
  if (!status) status = ez_verify_records(&r->view, &r->flow, error);
  if (!status && !ez_carry_fits(&s->carry, &r->view)) status = refuse(error, EZ_BAD_PROGRAM, "states", "a state has another size");
  r->is_valid = !status;
  if (status) return status;
  memcpy(r->sizes, sizes, n * sizeof *sizes);
  r->is_valid = place_tensors(s);
  if (!r->is_valid) return refuse(error, EZ_NO_MEMORY, "weights", "out of memory for block-sparse weights that this ISA reads as panels");
  plan_steps(s);
  return EZ_OK;
}

ez_status ez_session_tensor_info(const ez_session *s, uint32_t index, ez_tensor_info *info) { return is_usable(s) ? ez_program_tensor(s->program, index, info) : EZ_BAD_ARGUMENT; }
ez_status ez_session_input(const ez_session *s, uint32_t index, ez_tensor_info *info) { return is_usable(s) ? ez_program_input(s->program, index, info) : EZ_BAD_ARGUMENT; }
ez_status ez_session_output(const ez_session *s, uint32_t index, ez_tensor_info *info) { return is_usable(s) ? ez_program_output(s->program, index, info) : EZ_BAD_ARGUMENT; }
uint32_t ez_session_steps(const ez_session *s) { return is_usable(s) ? s->program->n_steps : 0; }

/* --- life ------------------------------------------------------------------------------------------------------------------- */

ez_status ez_session_create(const ez_program *program, const ez_session_options *options, ez_session **out, ez_error *error) {
  if (!program || !out) return refuse(error, EZ_BAD_ARGUMENT, "program", "NULL pointer");
  *out = NULL;
  const ez_session_options usual = {.threads = 1}, *o = options ? options : &usual;
  if (o->threads < 0 || o->threads > EZ_MAX_THREADS) return refuse(error, EZ_BAD_ARGUMENT, "threads", "must be 1 to 64");
  if (o->spin_us > EZ_MAX_WAIT_US || o->solo_us > EZ_MAX_WAIT_US) return refuse(error, EZ_BAD_ARGUMENT, "spin_us", "spin_us and solo_us are at most a second");
  if (fegetround() != FE_TONEAREST) return refuse(error, EZ_BAD_ENVIRONMENT, "rounding", "the rounding mode is not to-nearest (EZ-N1 rule 5)");
  ez_session *s = calloc(1, sizeof *s);
  if (!s) return refuse(error, EZ_NO_MEMORY, "session", "out of memory");
  s->program = program;
  s->threads = o->threads ? o->threads : 1;
  ez_status status = program->shapes.head ? make_resizable(s, program, error) : EZ_OK;
  if (!status) status = fill(s, o, error);
  if (status) {
    ez_session_destroy(s);
    return status;
  }
  *out = s;
  return EZ_OK;
}

void ez_session_destroy(ez_session *s) {
  if (!s) return;
  ez_pool_destroy(s->pool);
  free(s->ns);
  free(s->steps);
  free(s->outside);
  free(s->data);
  ez_block_destroy(&s->prepared);
  ez_expanded_destroy(&s->expanded);
  ez_carry_destroy(&s->carry);
  destroy_resized(s->resized);
  ez_block_destroy(&s->scratch);
  ez_block_destroy(&s->arena);
  free(s);
}

/* Graph inputs and outputs behind the caller's are those of the states. Inputs are read only: no step writes one (verified). */
static uint8_t *input_buffer(const ez_session *s, uint32_t index, const void *const *inputs) {
  const uint32_t own = s->program->header->n_inputs;
  return index < own ? (uint8_t *)(uintptr_t)inputs[index] : s->carry.states[index - own].now;
}

static uint8_t *output_buffer(const ez_session *s, uint32_t index, void *const *outputs) {
  const uint32_t own = s->program->header->n_outputs;
  return index < own ? outputs[index] : s->carry.states[index - own].next;
}

ez_status ez_session_begin(ez_session *s, const void *const *inputs, void *const *outputs) {
  if (!is_usable(s) || (!inputs && s->program->header->n_inputs) || !outputs) return EZ_BAD_ARGUMENT;
  const ez_program *p = s->program;
  for (uint32_t k = 0; k < p->header->n_inputs; k++)
    if (!inputs[k]) return EZ_BAD_ARGUMENT;
  for (uint32_t k = 0; k < p->header->n_outputs; k++)
    if (!outputs[k]) return EZ_BAD_ARGUMENT;
  for (uint32_t k = 0; k < s->n_outside; k++)
    s->data[s->outside[k].tensor] = k < s->n_from_inputs ? input_buffer(s, s->outside[k].index, inputs) : output_buffer(s, s->outside[k].index, outputs);
  s->has_buffers = 1;
  return EZ_OK;
}

static void run_step(ez_session *s, uint32_t i) {
  planned_step *step = &s->steps[i];
  if (step->unprepared) prepare_step(s, step);
  ez_pool_limit(s->pool, step->threads);
  step->op->run(&step->run);
}

ez_status ez_session_step(ez_session *s, uint32_t i) {
  if (!is_usable(s) || !s->has_buffers || i >= s->program->n_steps) return EZ_BAD_ARGUMENT;
  run_step(s, i);
  return EZ_OK;
}

ez_status ez_session_end(ez_session *s) {
  if (!is_usable(s) || !s->has_buffers) return EZ_BAD_ARGUMENT;
  ez_carry_turn(&s->carry, s->program);
  s->has_buffers = 0; /* those of the states have changed places */
  return EZ_OK;
}

static void run_steps(ez_session *s) {
  for (uint32_t i = 0; i < s->program->n_steps; i++) run_step(s, i);
}

static void run_timed(ez_session *s) {
  uint64_t before = now_ns();
  for (uint32_t i = 0; i < s->program->n_steps; i++) {
    run_step(s, i);
    const uint64_t after = now_ns();
    s->ns[i] = after - before;
    before = after;
  }
}

ez_status ez_session_run(ez_session *s, const void *const *inputs, void *const *outputs) {
  const ez_status status = ez_session_begin(s, inputs, outputs);
  if (status) return status;
  ez_cpu_set before;
  if (s->affinity.binds_caller) before = ez_affinity_enter(&s->affinity);
  (s->ns ? run_timed : run_steps)(s);
  if (s->affinity.binds_caller) ez_affinity_leave(&before);
  ez_carry_turn(&s->carry, s->program);
  return EZ_OK;
}

static const char *kernel_of(const planned_step *step, const ez_session *s) {
  if (step->run.blocks) return s->kernels.gemm_s8->blocks_name;
  return step->op->kernel ? step->op->kernel(step->run.step, s->program->tensors, &s->kernels) : s->isa;
}

ez_status ez_session_step_info(const ez_session *s, uint32_t i, ez_step_info *info) {
  if (!is_usable(s) || !info || i >= s->program->n_steps) return EZ_BAD_ARGUMENT;
  const ez_step *step = &s->program->steps[i];
  *info = (ez_step_info){.name = s->program->strings + step->name_offset, .name_bytes = step->name_bytes, .op = s->steps[i].op->name,
                         .kernel = kernel_of(&s->steps[i], s),
                         .threads = s->steps[i].threads, .n_outputs = step->n_outputs};
  memcpy(info->outputs, step->outputs, sizeof info->outputs);
  return EZ_OK;
}

/* A tensor as its innermost rows: contiguous bytes each, some distance apart. */
typedef struct stored_rows {
  const uint8_t *first;
  uint64_t rows, row_bytes, distance;
} stored_rows;

static stored_rows rows_of(const ez_session *s, uint32_t index) {
  const ez_tensor *t = &s->program->tensors[index];
  const uint64_t size = ez_element_bytes(t->dtype);
  stored_rows r = {.first = s->data[index], .rows = 1, .row_bytes = (uint64_t)(t->rank ? t->dims[t->rank - 1] : 1) * size, .distance = (uint64_t)t->row_stride * size};
  for (int d = 0; d + 1 < t->rank; d++) r.rows *= (uint64_t)t->dims[d];
  return r;
}

ez_status ez_session_tensor(const ez_session *s, uint32_t index, void *data, size_t bytes) {
  if (!is_usable(s) || !data || index >= s->program->n_tensors || !s->data[index]) return EZ_BAD_ARGUMENT;
  const stored_rows r = rows_of(s, index);
  if (bytes != r.rows * r.row_bytes) return EZ_BAD_ARGUMENT;
  for (uint64_t i = 0; i < r.rows; i++) memcpy((uint8_t *)data + i * r.row_bytes, r.first + i * r.distance, r.row_bytes);
  return EZ_OK;
}

ez_status ez_session_step_crc32(const ez_session *s, uint32_t i, uint32_t *crc) {
  if (!is_usable(s) || !crc || !s->has_buffers || i >= s->program->n_steps) return EZ_BAD_ARGUMENT;
  const ez_step *step = &s->program->steps[i];
  *crc = 0;
  for (int o = 0; o < step->n_outputs; o++) {
    const stored_rows r = rows_of(s, (uint32_t)step->outputs[o]);
    for (uint64_t k = 0; k < r.rows; k++) *crc = ez_crc32_more(*crc, r.first + k * r.distance, r.row_bytes);
  }
  return EZ_OK;
}

ez_status ez_session_profile(const ez_session *s, uint64_t *ns, uint32_t n_steps) {
  if (!is_usable(s) || !s->ns || !ns || n_steps != s->program->n_steps) return EZ_BAD_ARGUMENT;
  memcpy(ns, s->ns, n_steps * sizeof *ns);
  return EZ_OK;
}

ez_status ez_session_state_get(const ez_session *s, uint32_t index, void *data, size_t bytes) {
  const ez_tensor *t = is_usable(s) && data ? ez_carry_tensor(s->program, index) : NULL;
  if (!t || bytes != t->bytes) return EZ_BAD_ARGUMENT;
  memcpy(data, s->carry.states[index].now, bytes);
  return EZ_OK;
}

ez_status ez_session_state_set(ez_session *s, uint32_t index, const void *data, size_t bytes) {
  const ez_tensor *t = is_usable(s) && data ? ez_carry_tensor(s->program, index) : NULL;
  if (!t || bytes != t->bytes) return EZ_BAD_ARGUMENT;
  memcpy(s->carry.states[index].now, data, bytes);
  return EZ_OK;
}

ez_status ez_session_reset(ez_session *s) {
  if (!is_usable(s)) return EZ_BAD_ARGUMENT;
  ez_carry_reset(&s->carry, s->program);
  return EZ_OK;
}

const char *ez_session_isa(const ez_session *s) { return s->isa; }
int32_t ez_session_threads(const ez_session *s) { return s->threads; }
const char *ez_session_affinity(const ez_session *s) { return s->affinity.text; }
