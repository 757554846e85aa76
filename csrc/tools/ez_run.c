/* ez_run: runs a program (.ez) on a device. One JSON object on stdout, messages on stderr.
 *
 *   ez_run info   MODEL.ez
 *   ez_run verify MODEL.ez [--threads N]                      bundled test vectors, byte for byte
 *   ez_run run    MODEL.ez IN0.bin [IN1.bin ...] --output DIR  raw little-endian tensors; writes OUT_<i>.bin
 *   ez_run bench  MODEL.ez [--threads N] [--warmup N] [--runs N] [--min-time S] [--per-layer]
 *
 * Every verb takes --affinity none|big|all|LIST (default big), --spin-us N and --solo-us N (ez_session_options; -1 is none).
 * EDGEZIP_ISA forces a kernel path. Exit codes: 0 ok, 1 error, 2 usage, 3 a test vector differs. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgezip/ez.h"
#include "edgezip/ez_format.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_GATE = 3 };
#define MAX_IO 64
#define MAX_RUNS 1000000

typedef struct options {
  const char *verb, *model, *output, *affinity;
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

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int usage(const char *why, const char *what) {
  fprintf(stderr, "ez_run: %s%s%s\n", why, *what ? ": " : "", what);
  fprintf(stderr,
          "usage: ez_run info|verify|run|bench MODEL.ez [IN.bin ...] [--threads N] [--warmup N] [--runs N] [--min-time S] [--per-layer] [--output DIR]\n"
          "       [--affinity none|big|all|LIST] [--spin-us N] [--solo-us N]\n");
  return EXIT_USAGE;
}

static int complain(const char *what, const char *where) {
  fprintf(stderr, "ez_run: %s: %s%s%s\n", where, what, errno ? ": " : "", errno ? strerror(errno) : "");
  return EXIT_ERROR;
}

/* --- JSON ------------------------------------------------------------------------------------------------------------------ */

static void print_string(const char *text, size_t size) {
  putchar('"');
  for (size_t i = 0; i < size; i++) {
    const unsigned char c = (unsigned char)text[i];
    if (c == '"' || c == '\\') putchar('\\');
    if (c < 0x20)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static const char *dtype_name(int32_t dtype) {
  static const char *const names[] = {"", "float32", "int8", "uint8", "int32", "int64", "bool"};
  return dtype >= 1 && dtype <= 6 ? names[dtype] : "unknown";
}

static void print_tensors(const loaded *l, int is_output) {
  const uint32_t n = is_output ? l->info.n_outputs : l->info.n_inputs;
  printf("[");
  for (uint32_t i = 0; i < n; i++) {
    ez_tensor_info t;
    is_output ? ez_program_output(l->program, i, &t) : ez_program_input(l->program, i, &t);
    printf("%s{\"name\": ", i ? ", " : "");
    print_string(t.name, t.name_bytes);
    printf(", \"dtype\": \"%s\", \"shape\": [", dtype_name(t.dtype));
    for (int32_t d = 0; d < t.rank; d++) printf("%s%" PRId32, d ? ", " : "", t.dims[d]);
    printf("], \"bytes\": %" PRIu64 "}", t.bytes);
  }
  printf("]");
}

/* VmHWM starts anew at exec; ru_maxrss would still hold the peak of the process that started us. 0 where /proc is not mounted. */
static long peak_memory_bytes(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long kb = 0;
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "VmHWM: %ld kB", &kb) == 1) break;
  if (file) fclose(file);
  return kb * 1024;
}

static void print_common(const loaded *l, const char *verb) {
  printf("{\"ez_run\": \"%s\", \"verb\": \"%s\", \"isa\": \"%s\", \"threads\": %" PRId32 ", \"affinity\": \"%s\", \"load_us\": %.1f, \"arena_bytes\": %" PRIu64
         ", \"file_bytes\": %" PRIu64,
         ez_version(), verb, ez_session_isa(l->session), ez_session_threads(l->session), ez_session_affinity(l->session), (double)l->load_ns / 1e3, l->info.arena_bytes, l->info.file_bytes);
}

/* --- loading ---------------------------------------------------------------------------------------------------------------- */

static int report(const ez_error *error, const char *model) {
  fprintf(stderr, "ez_run: %s: %s", model, ez_status_text(error->status));
  if (error->step >= 0) fprintf(stderr, ", step %" PRId32, error->step);
  if (error->tensor >= 0) fprintf(stderr, ", tensor %" PRId32, error->tensor);
  fprintf(stderr, ": %s: %s\n", error->field, error->message);
  return error->status == EZ_BAD_ISA || error->status == EZ_BAD_ARGUMENT ? EXIT_USAGE : EXIT_ERROR;
}

static int allocate(loaded *l) {
  if (l->info.n_inputs > MAX_IO || l->info.n_outputs > MAX_IO) return complain("more than 64 inputs or outputs", "program");
  for (uint32_t i = 0; i < l->info.n_inputs + l->info.n_outputs; i++) {
    const int is_output = i >= l->info.n_inputs;
    const uint32_t k = is_output ? i - l->info.n_inputs : i;
    ez_tensor_info t;
    is_output ? ez_program_output(l->program, k, &t) : ez_program_input(l->program, k, &t);
    void *block = calloc(1, t.bytes);
    if (!block) return complain("out of memory", "program");
    *(is_output ? &l->outputs[k] : &l->inputs[k]) = block;
    *(is_output ? &l->output_bytes[k] : &l->input_bytes[k]) = t.bytes;
  }
  return EXIT_OK;
}

static int load(const options *o, loaded *l) {
  ez_error error;
  const uint64_t start = now_ns();
  if (ez_program_open_file(o->model, &l->program, &error)) return report(&error, o->model);
  const ez_session_options wanted = {.threads = o->threads, .profile = o->per_layer, .affinity = o->affinity, .spin_us = o->spin_us, .solo_us = o->solo_us};
  if (ez_session_create(l->program, &wanted, &l->session, &error)) return report(&error, o->model);
  l->load_ns = now_ns() - start;
  ez_program_get_info(l->program, &l->info);
  return allocate(l);
}

static void unload(loaded *l) {
  for (int i = 0; i < MAX_IO; i++) {
    free(l->inputs[i]);
    free(l->outputs[i]);
  }
  ez_session_destroy(l->session);
  ez_program_close(l->program);
}

static void fill_from_vector(loaded *l, uint32_t vector) {
  for (uint32_t i = 0; i < l->info.n_inputs; i++) {
    const void *data;
    size_t bytes;
    if (!ez_program_vector(l->program, vector, 0, i, &data, &bytes)) memcpy(l->inputs[i], data, bytes);
  }
}

static int run_once(loaded *l) { return ez_session_run(l->session, (const void *const *)l->inputs, l->outputs) != EZ_OK; }

/* --- verbs -------------------------------------------------------------------------------------------------------------------- */

static int verb_info(loaded *l) {
  print_common(l, "info");
  printf(", \"numerics\": \"EZN1\", \"layout\": \"%s\", \"act_sign\": %" PRIu32 ", \"steps\": %" PRIu32 ", \"vectors\": %" PRIu32,
         l->info.layout == EZ_LAYOUT_K8N16 ? "k8n16" : "k4n16", l->info.act_sign, l->info.n_steps, l->info.n_vectors);
  printf(", \"isas\": [");
  for (int32_t i = 0; i < ez_isa_count(); i++)
    printf("%s{\"name\": \"%s\", \"supported\": %s}", i ? ", " : "", ez_isa_name(i), ez_isa_supported(i) ? "true" : "false");
  printf("], \"inputs\": ");
  print_tensors(l, 0);
  printf(", \"outputs\": ");
  print_tensors(l, 1);
  printf("}\n");
  return EXIT_OK;
}

static int verb_verify(loaded *l) {
  uint32_t passed = 0;
  uint64_t wrong = 0;
  for (uint32_t v = 0; v < l->info.n_vectors; v++) {
    fill_from_vector(l, v);
    if (run_once(l)) return complain("the runtime refused the run", "verify");
    uint64_t differ = 0;
    for (uint32_t i = 0; i < l->info.n_outputs; i++) {
      const void *data;
      size_t bytes;
      ez_program_vector(l->program, v, 1, i, &data, &bytes);
      for (size_t b = 0; b < bytes; b++) differ += ((const uint8_t *)data)[b] != ((const uint8_t *)l->outputs[i])[b];
    }
    passed += !differ;
    wrong += differ;
  }
  print_common(l, "verify");
  printf(", \"vectors\": %" PRIu32 ", \"passed\": %" PRIu32 ", \"mismatched_bytes\": %" PRIu64 "}\n", l->info.n_vectors, passed, wrong);
  if (!l->info.n_vectors) fprintf(stderr, "ez_run: the program carries no test vectors: nothing was proved\n");
  return passed == l->info.n_vectors && l->info.n_vectors ? EXIT_OK : EXIT_GATE;
}

static int read_file(const char *path, void *data, size_t bytes) {
  errno = 0;
  FILE *file = fopen(path, "rb");
  if (!file) return complain("cannot read", path);
  const size_t got = fread(data, 1, bytes, file);
  const int more = fgetc(file) != EOF;
  fclose(file);
  if (got == bytes && !more) return EXIT_OK;
  fprintf(stderr, "ez_run: %s: expected %zu bytes, got %zu%s\n", path, bytes, got, more ? " and more" : "");
  return EXIT_ERROR;
}

static int write_file(const char *folder, uint32_t index, const void *data, size_t bytes) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/OUT_%" PRIu32 ".bin", folder, index) >= (int)sizeof path) return complain("path is too long", folder);
  errno = 0;
  FILE *file = fopen(path, "wb");
  if (!file) return complain("cannot write", path);
  const size_t written = fwrite(data, 1, bytes, file);
  if (fclose(file) || written != bytes) {
    remove(path);
    return complain("cannot write", path);
  }
  return EXIT_OK;
}

static int verb_run(const options *o, loaded *l) {
  if ((uint32_t)o->n_inputs != l->info.n_inputs) return usage("wrong number of input files", o->model);
  if (!o->output) return usage("run needs --output DIR", "");
  for (uint32_t i = 0; i < l->info.n_inputs; i++)
    if (read_file(o->inputs[i], l->inputs[i], l->input_bytes[i])) return EXIT_ERROR;
  const uint64_t start = now_ns();
  if (run_once(l)) return complain("the runtime refused the run", "run");
  const uint64_t took = now_ns() - start;
  for (uint32_t i = 0; i < l->info.n_outputs; i++)
    if (write_file(o->output, i, l->outputs[i], l->output_bytes[i])) return EXIT_ERROR;
  print_common(l, "run");
  printf(", \"run_us\": %.1f, \"outputs\": ", (double)took / 1e3);
  print_tensors(l, 1);
  printf("}\n");
  return EXIT_OK;
}

static int by_value(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Nearest-rank percentile of sorted values. */
static uint64_t percentile(const uint64_t *sorted, int32_t n, int32_t percent) {
  const int64_t rank = ((int64_t)n * percent + 99) / 100;
  return sorted[rank > 0 ? rank - 1 : 0];
}

static void print_latency(uint64_t *ns, int32_t n) {
  double sum = 0, squares = 0;
  for (int32_t i = 0; i < n; i++) sum += (double)ns[i];
  const double mean = sum / n;
  for (int32_t i = 0; i < n; i++) squares += ((double)ns[i] - mean) * ((double)ns[i] - mean);
  qsort(ns, (size_t)n, sizeof *ns, by_value);
  printf(", \"latency_us\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"min\": %.3f, \"mean\": %.3f, \"stdev\": %.3f, \"n\": %" PRId32 "}",
         (double)percentile(ns, n, 50) / 1e3, (double)percentile(ns, n, 90) / 1e3, (double)percentile(ns, n, 99) / 1e3, (double)ns[0] / 1e3, mean / 1e3,
         n > 1 ? sqrt(squares / (n - 1)) / 1e3 : 0.0, n);
}

static void print_layers(const loaded *l, const uint64_t *total, int32_t runs) {
  printf(", \"layers\": [");
  for (uint32_t i = 0; i < l->info.n_steps; i++) {
    ez_step_info step;
    ez_session_step_info(l->session, i, &step);
    printf("%s{\"name\": ", i ? ", " : "");
    print_string(step.name, step.name_bytes);
    printf(", \"op\": \"%s\", \"kernel\": \"%s\", \"threads\": %" PRId32 ", \"us\": %.3f}", step.op, step.kernel, step.threads, (double)total[i] / 1e3 / runs);
  }
  printf("]");
}

static int verb_bench(const options *o, loaded *l) {
  if (l->info.n_vectors) fill_from_vector(l, 0);
  for (int32_t i = 0; i < o->warmup; i++)
    if (run_once(l)) return complain("the runtime refused the run", "bench");
  const int32_t most = o->min_time_s > 0 ? MAX_RUNS : o->runs;
  uint64_t *ns = malloc((size_t)most * sizeof *ns), *total = calloc(2 * (size_t)l->info.n_steps, sizeof *total);
  if (!ns || !total) {
    free(ns);
    free(total);
    return complain("out of memory", "bench");
  }
  const uint64_t start = now_ns();
  int32_t n = 0;
  while (n < most && (n < o->runs || (double)(now_ns() - start) < o->min_time_s * 1e9)) {
    const uint64_t before = now_ns();
    run_once(l);
    ns[n++] = now_ns() - before;
    if (!o->per_layer) continue;
    ez_session_profile(l->session, total + l->info.n_steps, l->info.n_steps);
    for (uint32_t i = 0; i < l->info.n_steps; i++) total[i] += total[l->info.n_steps + i];
  }
  print_common(l, "bench");
  printf(", \"warmup\": %" PRId32, o->warmup);
  print_latency(ns, n);
  printf(", \"peak_memory_bytes\": %ld", peak_memory_bytes());
  if (o->per_layer) print_layers(l, total, n);
  printf("}\n");
  free(ns);
  free(total);
  return EXIT_OK;
}

/* --- arguments ------------------------------------------------------------------------------------------------------------------ */

static int whole(const char *text, int32_t low, int32_t high, int32_t *out) {
  char *end;
  errno = 0;
  const long value = strtol(text, &end, 10);
  if (errno || *end || end == text || value < low || value > high) return 0;
  *out = (int32_t)value;
  return 1;
}

static int parse_flag(options *o, const char *flag, const char *value) {
  if (!strcmp(flag, "--threads")) return whole(value, 1, 64, &o->threads);
  if (!strcmp(flag, "--warmup")) return whole(value, 0, MAX_RUNS, &o->warmup);
  if (!strcmp(flag, "--runs")) return whole(value, 1, MAX_RUNS, &o->runs);
  if (!strcmp(flag, "--output")) return o->output = value, 1;
  if (!strcmp(flag, "--affinity")) return o->affinity = value, 1;
  if (!strcmp(flag, "--spin-us")) return whole(value, -1, 1000000, &o->spin_us);
  if (!strcmp(flag, "--solo-us")) return whole(value, -1, 1000000, &o->solo_us);
  if (!strcmp(flag, "--min-time")) {
    char *end;
    o->min_time_s = strtod(value, &end);
    return end != value && !*end && o->min_time_s >= 0 && o->min_time_s < 86400;
  }
  return 0;
}

static int parse(int argc, char **argv, options *o) {
  *o = (options){.threads = 1, .warmup = 3, .runs = 20};
  if (argc < 3) return usage("a verb and a program are needed", "");
  o->verb = argv[1];
  o->model = argv[2];
  for (int i = 3; i < argc; i++) {
    if (!strcmp(argv[i], "--per-layer")) {
      o->per_layer = 1;
    } else if (!strncmp(argv[i], "--", 2)) {
      if (i + 1 >= argc || !parse_flag(o, argv[i], argv[i + 1])) return usage("bad flag or value", argv[i]);
      i++;
    } else if (o->n_inputs < MAX_IO) {
      o->inputs[o->n_inputs++] = argv[i];
    } else {
      return usage("too many input files", argv[i]);
    }
  }
  return EXIT_OK;
}

static int dispatch(const options *o, loaded *l) {
  if (!strcmp(o->verb, "info")) return verb_info(l);
  if (!strcmp(o->verb, "verify")) return verb_verify(l);
  if (!strcmp(o->verb, "run")) return verb_run(o, l);
  return verb_bench(o, l);
}

int main(int argc, char **argv) {
  options o;
  const int bad = parse(argc, argv, &o);
  if (bad) return bad;
  if (strcmp(o.verb, "info") && strcmp(o.verb, "verify") && strcmp(o.verb, "run") && strcmp(o.verb, "bench")) return usage("unknown verb", o.verb);
  static loaded l;
  int code = load(&o, &l);
  if (!code) code = dispatch(&o, &l);
  unload(&l);
  if (fflush(stdout)) return complain("cannot write the result", "stdout");
  return code;
}
