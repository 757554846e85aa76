/* ez_run: runs a program (.ez) on a device. One JSON object on stdout, messages on stderr.
 *
 *   ez_run info   MODEL.ez
 *   ez_run verify MODEL.ez [--threads N] [--per-step HASHES]   bundled test vectors, byte for byte; each step too
 *   ez_run run    MODEL.ez IN0.bin [IN1.bin ...] --output DIR  raw little-endian tensors; writes OUT_<i>.bin
 *   ez_run bench  MODEL.ez [--threads N] [--warmup N] [--runs N] [--min-time S] [--per-layer]
 *
 * run and bench of a program with dynamic shapes take --sizes N[,N]: the size of each dynamic dimension (default: the largest).
 * Every verb takes --affinity none|big|all|LIST (default big), --spin-us N and --solo-us N (ez_session_options; -1 is none).
 * A runner with a program inside (edgezip compile --emit exe) takes no MODEL.ez. EDGEZIP_ISA forces a kernel path.
 * Exit codes: 0 ok, 1 error, 2 usage, 3 a test vector differs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgezip/ez_format.h"
#include "tools/runner.h"

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int usage(const char *why, const char *what) {
  fprintf(stderr, "ez_run: %s%s%s\n", why, *what ? ": " : "", what);
  fprintf(stderr,
          "usage: ez_run info|verify|run|bench MODEL.ez [IN.bin ...] [--threads N] [--warmup N] [--runs N] [--min-time S] [--per-layer] [--per-step FILE] [--output DIR] [--sizes N[,N]]\n"
          "       [--affinity none|big|all|LIST] [--spin-us N] [--solo-us N]\n");
  return EXIT_USAGE;
}

int complain(const char *what, const char *where) {
  fprintf(stderr, "ez_run: %s: %s%s%s\n", where, what, errno ? ": " : "", errno ? strerror(errno) : "");
  return EXIT_ERROR;
}

/* --- JSON ------------------------------------------------------------------------------------------------------------------ */

void print_string(const char *text, size_t size) {
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

typedef ez_status info_of(const loaded *l, uint32_t index, ez_tensor_info *info);
static ez_status input_info(const loaded *l, uint32_t i, ez_tensor_info *info) { return ez_session_input(l->session, i, info); }
static ez_status output_info(const loaded *l, uint32_t i, ez_tensor_info *info) { return ez_session_output(l->session, i, info); }
static ez_status state_info(const loaded *l, uint32_t i, ez_tensor_info *info) { return ez_program_state(l->program, i, info); }

static void print_tensors(const loaded *l, uint32_t n, info_of *get) {
  printf("[");
  for (uint32_t i = 0; i < n; i++) {
    ez_tensor_info t;
    get(l, i, &t);
    printf("%s{\"name\": ", i ? ", " : "");
    print_string(t.name, t.name_bytes);
    printf(", \"dtype\": \"%s\", \"shape\": [", dtype_name(t.dtype));
    for (int32_t d = 0; d < t.rank; d++) printf("%s%" PRId32, d ? ", " : "", t.dims[d]);
    printf("], \"bytes\": %" PRIu64 "}", t.bytes);
  }
  printf("]");
}

void print_common(const loaded *l, const char *verb) {
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
    void *block = calloc(1, t.bytes ? t.bytes : 1);
    if (!block) return complain("out of memory", "program");
    *(is_output ? &l->outputs[k] : &l->inputs[k]) = block;
    *(is_output ? &l->output_bytes[k] : &l->input_bytes[k]) = t.bytes;
  }
  return EXIT_OK;
}

static int load(const options *o, loaded *l) {
  ez_error error;
  const uint64_t start = now_ns();
  const ez_status status = ez_embedded_bytes ? ez_program_open(ez_embedded, (size_t)ez_embedded_bytes, &l->program, &error) : ez_program_open_file(o->model, &l->program, &error);
  if (status) return report(&error, o->model);
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

/* A buffer of another size. */
static int hold(void **block, size_t *bytes, size_t wanted) {
  if (wanted > *bytes) {
    free(*block);
    *block = calloc(1, wanted);
  }
  *bytes = wanted;
  return *block != NULL;
}

int resize(loaded *l, const int32_t *sizes, const char *where) {
  ez_error error;
  if (ez_session_resize(l->session, sizes, l->info.n_symbols, &error)) return report(&error, where);
  ez_tensor_info t;
  int is_there = 1;
  for (uint32_t i = 0; i < l->info.n_inputs; i++)
    if (!input_info(l, i, &t)) is_there &= hold(&l->inputs[i], &l->input_bytes[i], t.bytes);
  for (uint32_t i = 0; i < l->info.n_outputs; i++)
    if (!output_info(l, i, &t)) is_there &= hold(&l->outputs[i], &l->output_bytes[i], t.bytes);
  if (!is_there) return complain("out of memory", where);
  l->info.n_steps = ez_session_steps(l->session);
  return EXIT_OK;
}

int fill_from_vector(loaded *l, uint32_t vector) {
  int32_t sizes[EZ_MAX_SYMBOLS] = {0};
  if (l->info.n_symbols) {
    ez_program_vector_sizes(l->program, vector, sizes, l->info.n_symbols);
    const int code = resize(l, sizes, "test vector");
    if (code) return code;
  }
  for (uint32_t i = 0; i < l->info.n_inputs; i++) {
    const void *data;
    size_t bytes;
    if (ez_program_vector(l->program, vector, 0, i, &data, &bytes) || bytes != l->input_bytes[i]) return complain("a test vector does not fit its sizes", "program");
    memcpy(l->inputs[i], data, bytes);
  }
  return EXIT_OK;
}

int run_once(loaded *l) { return ez_session_run(l->session, (const void *const *)l->inputs, l->outputs) != EZ_OK; }

/* --- verbs -------------------------------------------------------------------------------------------------------------------- */

static int verb_info(loaded *l) {
  print_common(l, "info");
  printf(", \"numerics\": \"EZN1\", \"layout\": \"%s\", \"act_sign\": %" PRIu32 ", \"steps\": %" PRIu32 ", \"vectors\": %" PRIu32,
         l->info.layout == EZ_LAYOUT_K8N16 ? "k8n16" : "k4n16", l->info.act_sign, l->info.n_steps, l->info.n_vectors);
  printf(", \"isas\": [");
  for (int32_t i = 0; i < ez_isa_count(); i++)
    printf("%s{\"name\": \"%s\", \"supported\": %s}", i ? ", " : "", ez_isa_name(i), ez_isa_supported(i) ? "true" : "false");
  printf("], \"dims\": [");
  for (uint32_t i = 0; i < l->info.n_symbols; i++) {
    ez_symbol_info s;
    ez_program_symbol(l->program, i, &s);
    printf("%s{\"name\": ", i ? ", " : "");
    print_string(s.name, s.name_bytes);
    printf(", \"low\": %" PRId32 ", \"high\": %" PRId32 ", \"step\": %" PRId32 "}", s.low, s.high, s.step);
  }
  printf("], \"inputs\": ");
  print_tensors(l, l->info.n_inputs, input_info);
  printf(", \"outputs\": ");
  print_tensors(l, l->info.n_outputs, output_info);
  printf(", \"states\": ");
  print_tensors(l, l->info.n_states, state_info);
  printf("}\n");
  return EXIT_OK;
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
  print_tensors(l, l->info.n_outputs, output_info);
  printf("}\n");
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

/* --sizes N[,N] */
static int apply_sizes(const options *o, loaded *l) {
  int32_t sizes[EZ_MAX_SYMBOLS];
  uint32_t n = 0;
  for (const char *at = o->sizes; at && n < EZ_MAX_SYMBOLS; n++) {
    char *end;
    const long value = strtol(at, &end, 10);
    if (end == at || value < 1 || value > INT32_MAX || (*end && *end != ',')) return usage("bad flag or value", "--sizes");
    sizes[n] = (int32_t)value;
    at = *end ? end + 1 : NULL;
  }
  if (n != l->info.n_symbols) return usage("one size is needed for each dynamic dimension", "--sizes");
  return resize(l, sizes, "--sizes");
}

static int parse_flag(options *o, const char *flag, const char *value) {
  if (!strcmp(flag, "--threads")) return whole(value, 1, 64, &o->threads);
  if (!strcmp(flag, "--warmup")) return whole(value, 0, MAX_RUNS, &o->warmup);
  if (!strcmp(flag, "--runs")) return whole(value, 1, MAX_RUNS, &o->runs);
  if (!strcmp(flag, "--output")) return o->output = value, 1;
  if (!strcmp(flag, "--per-step")) return o->per_step = value, 1;
  if (!strcmp(flag, "--sizes")) return o->sizes = value, 1;
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
  const int first = ez_embedded_bytes ? 2 : 3;
  if (argc < first) return usage(ez_embedded_bytes ? "a verb is needed" : "a verb and a program are needed", "");
  o->verb = argv[1];
  o->model = ez_embedded_bytes ? "the program inside" : argv[2];
  for (int i = first; i < argc; i++) {
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
  if (!strcmp(o->verb, "verify")) return verb_verify(o, l);
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
  if (!code && o.sizes) code = apply_sizes(&o, &l);
  if (!code) code = dispatch(&o, &l);
  unload(&l);
  if (fflush(stdout)) return complain("cannot write the result", "stdout");
  return code;
}
