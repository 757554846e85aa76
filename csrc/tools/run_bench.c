/* ez_run bench: the latency of whole runs, and of each step on request. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/runner.h"

/* VmHWM starts anew at exec; ru_maxrss would still hold the peak of the process that started us. 0 where /proc is not mounted. */
static long peak_memory_bytes(void) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  long kb = 0;
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, "VmHWM:", 6)) kb = strtol(line + 6, NULL, 10);
  if (file) fclose(file);
  return kb * 1024;
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

int verb_bench(const options *o, loaded *l) {
  if (l->info.n_vectors && !o->sizes && fill_from_vector(l, 0)) return EXIT_ERROR;
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
