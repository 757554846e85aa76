/* ez_run verify: the bundled vectors, byte for byte; with --per-step also every step of them against the hashes that the host's reference
 * computed, so that the first step that differs has a name.
 *
 * The file of hashes is text: "edgezip-steps 1 PROGRAM VECTORS LINES", where PROGRAM is the CRC-32 in the program's header (a file made for another
 * program is refused), then for each vector and each step (how many may change with the vector's sizes) a line with the CRC-32 of its outputs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/runner.h"

#define MAX_HASHES (1u << 26)

typedef struct step_hashes {
  uint32_t *wanted; /* of each vector, of each step; NULL without --per-step */
  uint64_t count, at;
  uint64_t checked;
  int has_difference;
  uint32_t vector, step; /* of the first difference */
} step_hashes;

static int stale(const char *path, const char *why) {
  fprintf(stderr, "ez_run: %s: %s: make it again from this very program\n", path, why);
  return EXIT_ERROR;
}

/* The number at *text, which it moves on; at most 32 bits. scanf would cost 3 kB in every binary. */
static int number(const char **text, int base, uint32_t *out) {
  char *end;
  errno = 0;
  const unsigned long long value = strtoull(*text, &end, base);
  if (end == *text || errno || value > UINT32_MAX || (*end && *end != ' ' && *end != '\n')) return 0;
  *text = end;
  *out = (uint32_t)value;
  return 1;
}

static const char HEADING[] = "edgezip-steps 1 ";

static int read_heading(FILE *file, uint32_t *program, uint32_t *vectors, uint32_t *lines) {
  char line[80];
  if (!fgets(line, sizeof line, file) || strncmp(line, HEADING, sizeof HEADING - 1)) return 0;
  const char *at = line + sizeof HEADING - 1;
  return number(&at, 16, program) && number(&at, 10, vectors) && number(&at, 10, lines);
}

static int read_lines(FILE *file, const char *path, const loaded *l, step_hashes *h) {
  uint32_t program, vectors, lines;
  char line[16];
  if (!read_heading(file, &program, &vectors, &lines)) return stale(path, "not a file of step hashes");
  if (program != l->info.crc32 || vectors != l->info.n_vectors || (!l->info.n_symbols && lines != (uint64_t)vectors * l->info.n_steps)) return stale(path, "belongs to another program");
  if (lines > MAX_HASHES) return stale(path, "has too many steps");
  h->count = lines;
  h->wanted = malloc((size_t)lines * sizeof *h->wanted);
  if (!h->wanted) return complain("out of memory", path);
  for (uint64_t i = 0; i < h->count; i++) {
    const char *at = line;
    if (!fgets(line, sizeof line, file) || !number(&at, 16, &h->wanted[i])) return stale(path, "is cut short");
  }
  return EXIT_OK;
}

static int read_hashes(const char *path, const loaded *l, step_hashes *h) {
  errno = 0;
  FILE *file = fopen(path, "r");
  if (!file) return complain("cannot read", path);
  const int code = read_lines(file, path, l, h);
  fclose(file);
  return code;
}

/* Step by step up to the first difference. */
static int check_steps(loaded *l, uint32_t vector, step_hashes *h) {
  if (ez_session_begin(l->session, (const void *const *)l->inputs, l->outputs)) return 1;
  for (uint32_t i = 0; i < l->info.n_steps; i++) {
    uint32_t crc;
    if (ez_session_step(l->session, i) || ez_session_step_crc32(l->session, i, &crc)) return 1;
    h->checked++;
    if (h->at < h->count && crc == h->wanted[h->at++]) continue;
    h->has_difference = 1;
    h->vector = vector;
    h->step = i;
    return 0;
  }
  return 0;
}

static uint64_t differing_bytes(const loaded *l, uint32_t vector) {
  uint64_t differ = 0;
  for (uint32_t i = 0; i < l->info.n_outputs; i++) {
    const void *data;
    size_t bytes;
    ez_program_vector(l->program, vector, 1, i, &data, &bytes);
    if (bytes != l->output_bytes[i]) differ += bytes; /* of another shape */
    for (size_t b = 0; b < bytes && bytes == l->output_bytes[i]; b++) differ += ((const uint8_t *)data)[b] != ((const uint8_t *)l->outputs[i])[b];
  }
  return differ;
}

static void print_steps(const loaded *l, const step_hashes *h) {
  printf(", \"steps_checked\": %" PRIu64 ", \"first_difference\": ", h->checked);
  if (!h->has_difference) {
    printf("null");
    return;
  }
  ez_step_info step;
  ez_session_step_info(l->session, h->step, &step);
  printf("{\"vector\": %" PRIu32 ", \"step\": %" PRIu32 ", \"name\": ", h->vector, h->step);
  print_string(step.name, step.name_bytes);
  printf(", \"op\": \"%s\", \"kernel\": \"%s\"}", step.op, step.kernel);
}

static int check_vectors(loaded *l, step_hashes *h) {
  uint32_t passed = 0;
  uint64_t wrong = 0;
  ez_session_reset(l->session); /* vectors follow each other from the initial states on; steps do not advance them, the whole run does */
  for (uint32_t v = 0; v < l->info.n_vectors; v++) {
    if (fill_from_vector(l, v)) return EXIT_ERROR;
    if (h->wanted && !h->has_difference && check_steps(l, v, h)) return complain("the runtime refused the steps", "verify");
    if (run_once(l)) return complain("the runtime refused the run", "verify");
    const uint64_t differ = differing_bytes(l, v);
    passed += !differ;
    wrong += differ;
  }
  print_common(l, "verify");
  printf(", \"vectors\": %" PRIu32 ", \"passed\": %" PRIu32 ", \"mismatched_bytes\": %" PRIu64, l->info.n_vectors, passed, wrong);
  if (h->wanted) print_steps(l, h);
  printf("}\n");
  if (!l->info.n_vectors) fprintf(stderr, "ez_run: the program carries no test vectors: nothing was proved\n");
  return passed == l->info.n_vectors && l->info.n_vectors && !h->has_difference ? EXIT_OK : EXIT_GATE;
}

int verb_verify(const options *o, loaded *l) {
  step_hashes h = {0};
  int code = o->per_step ? read_hashes(o->per_step, l, &h) : EXIT_OK;
  if (!code) code = check_vectors(l, &h);
  free(h.wanted);
  return code;
}
