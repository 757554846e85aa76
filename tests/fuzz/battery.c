/* The battery of damaged programs, run under sanitizers. Prints one line of counts; any crash is the sanitizer's exit.
 *
 *   battery damage FILE              every prefix and every single-bit flip: all must be refused
 *   battery mutate FILE SEED COUNT   records changed at random, checksums repaired: no crash, whatever is accepted is run
 *   battery allocations FILE         heap calls during runs of a session: there must be none
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/coded.h"
#include "edgezip/ez_format.h"
#include "fuzz_program.h"

int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t), void (*on_free)(const volatile void *));

static uint8_t *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  void *bytes;
  if (!file) exit(2);
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  if (posix_memalign(&bytes, 64, *size) || fread(bytes, 1, *size, file) != *size) exit(2);
  fclose(file);
  return bytes;
}

static void damage(uint8_t *bytes, size_t size) {
  size_t counts[4] = {0}, prefixes[4] = {0};
  for (size_t n = 0; n < size; n++) {
    void *part;
    if (posix_memalign(&part, 64, n ? n : 1)) exit(2);
    memcpy(part, bytes, n);
    prefixes[try_program(part, n, NULL, 1)]++;
    free(part);
  }
  for (size_t bit = 0; bit < size * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    counts[try_program(bytes, size, NULL, 1)]++;
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  printf("prefixes %zu prefixes_refused %zu flips %zu flips_refused %zu whole %d\n", size, prefixes[REFUSED], size * 8, counts[REFUSED],
         try_program(bytes, size, NULL, 1) == RAN);
}

static uint64_t state;
static uint32_t next(uint32_t below) { /* xorshift64* */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return (uint32_t)((state * 2685821657736338717ull) >> 33) % below;
}

static void change_word(uint8_t *word) {
  static const int32_t edges[] = {0, 1, -1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 64, 127, 128, -128, -129, 255, 256, 4096, 65536, 1 << 24, 1 << 30,
                                  INT32_MAX, INT32_MIN, 0x7f800000, 0x7fc00000, 0x3f800000};
  int32_t value;
  memcpy(&value, word, 4);
  switch (next(5)) {
    case 0: value = edges[next(sizeof edges / sizeof *edges)]; break;
    case 1: value = (int32_t)((uint32_t)value + next(9) - 4); break;
    case 2: value ^= (int32_t)(1u << next(32)); break;
    case 3: value = (int32_t)((uint32_t)value * 2); break;
    default: ((uint8_t *)&value)[next(4)] = (uint8_t)next(256);
  }
  memcpy(word, &value, 4);
}

/* One to four words of the header, models and segments, or (one time in four) the streams. */
static void mutate_coded(uint8_t *bytes, size_t size) {
  const size_t tables = sizeof(ez_coded_header) + ((const ez_coded_header *)(const void *)bytes)->model_bytes + ((const ez_coded_header *)(const void *)bytes)->segment_bytes;
  for (uint32_t n = 1 + next(4); n; n--) {
    const size_t start = next(4) ? 8 : tables, end = start == tables ? size : tables;
    change_word(bytes + start + next((uint32_t)(end - start - 3)));
  }
}

/* One to four words of header, steps, tensors, io or weights. Records get most of it. */
static void mutate_once(uint8_t *bytes, size_t size) {
  ez_header header;
  memcpy(&header, bytes, sizeof header);
  for (uint32_t n = 1 + next(4); n; n--) {
    static const int favoured[] = {EZ_SECTION_STEPS, EZ_SECTION_STEPS, EZ_SECTION_STEPS, EZ_SECTION_TENSORS, EZ_SECTION_TENSORS, EZ_SECTION_IO, EZ_SECTION_WEIGHTS, EZ_SECTION_STRINGS};
    const int is_dynamic = header.sections[EZ_SECTION_SHAPES].bytes && next(2);
    const ez_section *s = &header.sections[is_dynamic ? EZ_SECTION_SHAPES : favoured[next(8)]];
    const size_t start = next(12) ? (size_t)s->offset : 0, length = start ? (size_t)s->bytes : sizeof header;
    const size_t at = start + next((uint32_t)(length / 4)) * 4;
    if (next(8) == 0 && at + 8 <= size) memcpy(bytes + at, bytes + start + next((uint32_t)(length / 4)) * 4, 4);
    else change_word(bytes + at);
  }
}

static void mutate(const uint8_t *bytes, size_t size, uint64_t seed, long count) {
  size_t counts[4] = {0};
  void *copy;
  if (posix_memalign(&copy, 64, size)) exit(2);
  state = seed * 0x9e3779b97f4a7c15ull + 1;
  for (long i = 0; i < count; i++) {
    memcpy(copy, bytes, size);
    if (ez_is_coded(bytes, size))
      mutate_coded(copy, size);
    else
      mutate_once(copy, size);
    repair(copy, size);
    static const char *const isas[] = {NULL, "portable", "avx2"};
    counts[try_program(copy, size, isas[i % 3], 1 + (i % 16 == 0))]++;
  }
  free(copy);
  printf("mutations %ld refused %zu silent %zu ran %zu too_large %zu\n", count, counts[REFUSED], counts[SILENT], counts[RAN], counts[TOO_LARGE]);
}

static long heap_calls;
static void on_malloc(const volatile void *p, size_t n) { (void)p, (void)n, heap_calls++; }
static void on_free(const volatile void *p) { (void)p, heap_calls++; }

static void allocations(const uint8_t *bytes, size_t size) {
  ez_program *program;
  ez_session *session;
  ez_error error;
  const ez_session_options options = {.threads = 2, .profile = 1, .solo_us = -1};
  if (ez_program_open(bytes, size, &program, &error) || ez_session_create(program, &options, &session, &error)) exit(2);
  ez_program_info info;
  ez_program_get_info(program, &info);
  const void **inputs = calloc(info.n_inputs, sizeof *inputs);
  void **outputs = calloc(info.n_outputs, sizeof *outputs);
  ez_tensor_info tensor;
  for (uint32_t i = 0; i < info.n_inputs; i++) ez_program_input(program, i, &tensor), inputs[i] = calloc(1, tensor.bytes);
  for (uint32_t i = 0; i < info.n_outputs; i++) ez_program_output(program, i, &tensor), outputs[i] = calloc(1, tensor.bytes);
  usleep(300000); /* the sanitizer itself allocates when a thread starts: let the workers start first */
  __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
  void *volatile one = malloc(1); /* proves that the hooks count */
  free(one);
  const long counted = heap_calls;
  for (int i = 0; i < 20; i++) {
    int32_t sizes[EZ_MAX_SYMBOLS];
    for (uint32_t k = 0; k < info.n_symbols; k++) {
      ez_symbol_info symbol;
      ez_program_symbol(program, k, &symbol);
      sizes[k] = symbol.low + (symbol.high - symbol.low) / symbol.step * (i % 3) / 2 * symbol.step;
    }
    if (ez_session_resize(session, sizes, info.n_symbols, &error) || ez_session_run(session, inputs, outputs)) exit(2);
  }
  printf("hooks %ld runs 20 heap_calls %ld\n", counted, heap_calls - counted);
  for (uint32_t i = 0; i < info.n_inputs; i++) free((void *)(uintptr_t)inputs[i]);
  for (uint32_t i = 0; i < info.n_outputs; i++) free(outputs[i]);
  free(inputs);
  free(outputs);
  ez_session_destroy(session);
  ez_program_close(program);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  size_t size;
  uint8_t *bytes = read_file(argv[2], &size);
  if (!strcmp(argv[1], "damage")) damage(bytes, size);
  else if (!strcmp(argv[1], "allocations")) allocations(bytes, size);
  else if (!strcmp(argv[1], "mutate") && argc == 5) mutate(bytes, size, strtoull(argv[3], NULL, 10), atol(argv[4]));
  else return 2;
  free(bytes);
  return 0;
}
