/* A hostile program file: its checksums are repaired (so that the verifier's own proofs are what is tried), and what it accepts is
 * run. Also an entry for libFuzzer: clang -fsanitize=fuzzer,address,undefined with all of csrc. */
#include "fuzz_program.h"

#include <stdlib.h>
#include <string.h>

#include "core/coded.h"
#include "core/crc32.h"
#include "edgezip/ez_format.h"

#define MOST_MEMORY (64ull << 20)

static void repair_coded(uint8_t *bytes, size_t size) {
  ez_coded_header header;
  if (size < sizeof header) return;
  memcpy(&header, bytes, sizeof header);
  header.body_crc32 = ez_crc32(bytes + sizeof header, size - sizeof header);
  header.crc32 = ez_crc32(&header, sizeof header - 4);
  memcpy(bytes, &header, sizeof header);
}

void repair(uint8_t *bytes, size_t size) {
  ez_header header;
  if (ez_is_coded(bytes, size)) {
    repair_coded(bytes, size);
    return;
  }
  if (size < sizeof header) return;
  memcpy(&header, bytes, sizeof header);
  for (int i = 0; i < EZ_SECTION_COUNT; i++) {
    ez_section *s = &header.sections[i];
    if (s->offset <= size && s->bytes <= size - s->offset) s->crc32 = ez_crc32(bytes + s->offset, (size_t)s->bytes);
  }
  header.crc32 = ez_crc32(&header, sizeof header - 4);
  memcpy(bytes, &header, sizeof header);
}

/* Exactly as large as declared, so that a byte read or written beyond is seen. */
static int buffers_of(const ez_session *session, uint32_t count, ez_status (*info_of)(const ez_session *, uint32_t, ez_tensor_info *), uint8_t **out) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; i++) {
    ez_tensor_info info;
    if (info_of(session, i, &info)) return 0;
    total += info.bytes;
    if (total > MOST_MEMORY || !(out[i] = malloc(info.bytes))) return 0;
    for (uint64_t k = 0; k < info.bytes; k++) out[i][k] = (uint8_t)(k * 37 + i);
  }
  return 1;
}

static void run_once(const ez_program_info *about, ez_session *session) {
  const ez_program_info info = *about;
  uint8_t **inputs = calloc(info.n_inputs, sizeof *inputs), **outputs = calloc(info.n_outputs, sizeof *outputs);
  if (inputs && outputs && buffers_of(session, info.n_inputs, ez_session_input, inputs) && buffers_of(session, info.n_outputs, ez_session_output, outputs))
    for (int run = 0; run < (info.n_states ? 2 : 1); run++) ez_session_run(session, (const void *const *)inputs, (void *const *)outputs);
  ez_session_reset(session);
  for (uint32_t i = 0; inputs && i < info.n_inputs; i++) free(inputs[i]);
  for (uint32_t i = 0; outputs && i < info.n_outputs; i++) free(outputs[i]);
  free(inputs);
  free(outputs);
}

/* At the largest sizes, the least, and some between. */
static void run_all(const ez_program *program, ez_session *session) {
  ez_program_info info;
  ez_program_get_info(program, &info);
  run_once(&info, session);
  for (int32_t part = 0; info.n_symbols && part < 8; part++) {
    int32_t sizes[EZ_MAX_SYMBOLS];
    for (uint32_t i = 0; i < info.n_symbols; i++) {
      ez_symbol_info symbol;
      ez_program_symbol(program, i, &symbol);
      const int64_t count = ((int64_t)symbol.high - symbol.low) / symbol.step;
      sizes[i] = symbol.low + (int32_t)(count * ((part * (int32_t)(i + 3)) % 8) / 7) * symbol.step;
    }
    ez_error error;
    if (!ez_session_resize(session, sizes, info.n_symbols, &error)) run_once(&info, session);
    ez_session_reset(session);
  }
}

enum verdict try_program(const uint8_t *bytes, size_t size, const char *isa, int32_t threads) {
  ez_program *program;
  ez_error error;
  if (ez_program_open(bytes, size, &program, &error)) return error.message[0] && error.field[0] ? REFUSED : SILENT;
  ez_program_info info;
  ez_program_get_info(program, &info);
  enum verdict verdict = TOO_LARGE;
  if (info.arena_bytes + info.scratch_bytes < MOST_MEMORY) {
    ez_session *session = NULL;
    const ez_session_options options = {.threads = threads, .isa = isa, .solo_us = -1};
    if (!ez_session_create(program, &options, &session, &error)) run_all(program, session);
    ez_session_destroy(session);
    verdict = RAN;
  }
  ez_program_close(program);
  return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  void *bytes;
  if (posix_memalign(&bytes, 64, size ? size : 1)) return 0;
  memcpy(bytes, data, size);
  repair(bytes, size);
  try_program(bytes, size, NULL, 1);
  free(bytes);
  return 0;
}
