#include "core/program.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/coded.h"
#include "core/dispatch.h"

/* All of it is read at once for the checksums: one call instead of a page fault for each 64 kB. */
#ifdef MAP_POPULATE
#define POPULATE MAP_POPULATE
#else
#define POPULATE 0
#endif

#ifndef EZ_VERSION
#define EZ_VERSION "0.1.0"
#endif

const char *ez_version(void) { return EZ_VERSION; }

const char *ez_status_text(ez_status status) {
  static const char *const texts[] = {"ok", "bad argument", "bad program", "unknown version", "ISA not available", "out of memory", "file error",
                                      "unusable environment"};
  return (unsigned)status < sizeof texts / sizeof *texts ? texts[status] : "unknown status";
}

static ez_status refuse(ez_error *error, ez_status status, const char *field, const char *message) {
  if (error) {
    *error = (ez_error){.status = status, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return status;
}

/* Of a coded file, the plain one that it holds; else nothing. */
static ez_status decode(ez_program *program, const void **bytes, size_t *size, ez_error *error) {
  if (!ez_is_coded(*bytes, *size)) return EZ_OK;
  if ((uintptr_t)*bytes % EZ_SECTION_ALIGN) return refuse(error, EZ_BAD_ARGUMENT, "bytes", "must be 64-byte aligned");
  const ez_status status = ez_decode_program(*bytes, *size, &program->decoded, size, error);
  if (!status) *bytes = program->decoded.bytes;
  return status;
}

ez_status ez_program_open(const void *bytes, size_t size, ez_program **out, ez_error *error) {
  if (!bytes || !out) return refuse(error, EZ_BAD_ARGUMENT, "bytes", "NULL pointer");
  *out = NULL;
  ez_program *program = calloc(1, sizeof *program);
  if (!program) return refuse(error, EZ_NO_MEMORY, "program", "out of memory");
  ez_status status = decode(program, &bytes, &size, error);
  if (!status) status = ez_verify(bytes, size, program, error);
  if (status) {
    ez_program_close(program);
    return status;
  }
  *out = program;
  return EZ_OK;
}

#ifndef EZ_EMBEDDED /* where there are no files */
static ez_status map_file(const char *path, void **bytes, size_t *size, ez_error *error) {
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer is to be refused, not waited for */
  if (file < 0) return refuse(error, EZ_IO, "path", "cannot open the file");
  struct stat info;
  ez_status status = EZ_OK;
  if (fstat(file, &info) || !S_ISREG(info.st_mode)) {
    status = refuse(error, EZ_IO, "path", "not a regular file");
  } else if (info.st_size <= 0) {
    status = refuse(error, EZ_BAD_PROGRAM, "size", "file is empty");
  } else {
    *size = (size_t)info.st_size;
    *bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | POPULATE, file, 0);
    if (*bytes == MAP_FAILED) status = refuse(error, EZ_IO, "path", "cannot map the file");
  }
  close(file);
  return status;
}

ez_status ez_program_open_file(const char *path, ez_program **out, ez_error *error) {
  if (!path || !out) return refuse(error, EZ_BAD_ARGUMENT, "path", "NULL pointer");
  *out = NULL;
  void *bytes;
  size_t size;
  ez_status status = map_file(path, &bytes, &size, error);
  if (status) return status;
  status = ez_program_open(bytes, size, out, error);
  if (status || (*out)->decoded.bytes) { /* what was decoded needs the file no more */
    munmap(bytes, size);
    return status;
  }
  (*out)->mapped = bytes;
  (*out)->mapped_bytes = size;
  return EZ_OK;
}

static void unmap(ez_program *program) {
  if (program->mapped) munmap(program->mapped, program->mapped_bytes);
}
#else
static void unmap(ez_program *program) { (void)program; }
#endif

void ez_program_close(ez_program *program) {
  if (!program) return;
  unmap(program);
  ez_block_destroy(&program->decoded);
  free(program);
}

void ez_program_get_info(const ez_program *program, ez_program_info *info) {
  const ez_header *h = program->header;
  *info = (ez_program_info){.format_version = h->format_version, .numerics = h->numerics, .layout = h->layout, .act_sign = h->act_sign,
                            .n_steps = program->n_steps, .n_tensors = program->n_tensors, .n_inputs = h->n_inputs, .n_outputs = h->n_outputs,
                            .n_vectors = h->n_vectors, .n_states = h->n_states, .n_symbols = program->shapes.head ? program->shapes.head->n_symbols : 0, .crc32 = h->crc32, .file_bytes = h->file_bytes, .arena_bytes = h->arena_bytes, .scratch_bytes = h->scratch_bytes};
}

ez_status ez_program_symbol(const ez_program *program, uint32_t index, ez_symbol_info *info) {
  if (!program || !info || !program->shapes.head || index >= program->shapes.head->n_symbols) return EZ_BAD_ARGUMENT;
  const ez_symbol *y = &program->shapes.symbols[index];
  *info = (ez_symbol_info){.name = program->strings + y->name_offset, .name_bytes = y->name_bytes, .low = y->low, .high = y->high, .step = y->step, .input = y->input, .axis = y->axis};
  return EZ_OK;
}

ez_status ez_program_tensor(const ez_program *program, uint32_t index, ez_tensor_info *info) {
  if (!program || !info || index >= program->n_tensors) return EZ_BAD_ARGUMENT;
  const ez_tensor *t = &program->tensors[index];
  *info = (ez_tensor_info){.name = program->strings + t->name_offset, .name_bytes = t->name_bytes, .dtype = t->dtype, .rank = t->rank,
                           .scale = t->scale, .zero_point = t->zero_point, .bytes = t->bytes};
  memcpy(info->dims, t->dims, sizeof info->dims);
  return EZ_OK;
}

ez_status ez_program_input(const ez_program *program, uint32_t index, ez_tensor_info *info) {
  return program && index < program->header->n_inputs ? ez_program_tensor(program, program->io[index], info) : EZ_BAD_ARGUMENT;
}

ez_status ez_program_output(const ez_program *program, uint32_t index, ez_tensor_info *info) {
  return program && index < program->header->n_outputs ? ez_program_tensor(program, program->io[program->n_inputs + index], info) : EZ_BAD_ARGUMENT;
}

ez_status ez_program_state(const ez_program *program, uint32_t index, ez_tensor_info *info) {
  return program && index < program->header->n_states ? ez_program_tensor(program, program->io[program->header->n_inputs + index], info) : EZ_BAD_ARGUMENT;
}

const char *ez_program_metadata(const ez_program *program, size_t *bytes) {
  *bytes = program->header->sections[EZ_SECTION_METADATA].bytes;
  return (const char *)program->metadata;
}
