/* What the files of ez_run share: options, the loaded program, JSON. */
#ifndef EDGEZIP_RUNNER_H
#define EDGEZIP_RUNNER_H

#include <stddef.h>
#include <stdint.h>

#include "edgezip/ez.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_GATE = 3 };
#define MAX_IO 64
#define MAX_RUNS 1000000

typedef struct options {
  const char *verb, *model, *output, *affinity, *per_step, *sizes;
  const char *inputs[MAX_IO];
  int32_t n_inputs, threads, warmup, runs, per_layer, spin_us, solo_us;
  double min_time_s;
} options;

typedef struct loaded {
  ez_program *program;
  ez_session *session;
  ez_program_info info;
  uint64_t load_ns;
  void *inputs[MAX_IO], *outputs[MAX_IO];
  size_t input_bytes[MAX_IO], output_bytes[MAX_IO];
} loaded;

/* The program inside, on 64 bytes; none when the size is 0. */
extern const uint8_t ez_embedded[];
extern const uint64_t ez_embedded_bytes;

uint64_t now_ns(void);
/* Message on stderr; returns EXIT_USAGE, EXIT_ERROR. */
int usage(const char *why, const char *what);
int complain(const char *what, const char *where);

/* Pieces of the one JSON object on stdout. */
void print_string(const char *text, size_t size);
void print_common(const loaded *l, const char *verb);

/* Dynamic shapes: resize, and what the buffers then hold; non-zero with a message when the runtime refused. */
int resize(loaded *l, const int32_t *sizes, const char *where);
/* Also resizes to the vector's sizes. Non-zero with a message. */
int fill_from_vector(loaded *l, uint32_t vector);
/* Non-zero when the runtime refused. */
int run_once(loaded *l);

/* Verbs with a file of their own; each returns the exit code. */
int verb_verify(const options *o, loaded *l);
int verb_bench(const options *o, loaded *l);

#endif
