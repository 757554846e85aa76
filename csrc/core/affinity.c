/* Kinds of cores. Linux tells the relative speed of each CPU of a big.LITTLE machine as cpu_capacity (1024 is the fastest); where it is
 * missing, the highest clock stands in, and Intel's hybrids name their fast cores in a file of their own. "Big" is every core of at least
 * half the greatest capacity: the middle cores of a phone belong to it, the small ones (a Cortex-A55 has 0.39 of an A76) do not. */
#include "core/affinity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include "edgezip/ez_kernels.h"

#define CAPACITY_SHARE 0.5
#define CLOCK_SHARE 0.8 /* an RK3399's small cores clock at 0.79 of its big ones; favoured cores of one kind differ by less than 10 % */

static int has(const ez_cpu_set *set, int cpu) { return (int)(set->bits[cpu / 64] >> (cpu % 64) & 1u); }
static void add(ez_cpu_set *set, int cpu) { set->bits[cpu / 64] |= (uint64_t)1 << (cpu % 64); }

static int count(const ez_cpu_set *set) {
  int n = 0;
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++) n += has(set, cpu);
  return n;
}

static ez_status refuse(ez_error *error, const char *wanted, const char *why) {
  if (error) {
    *error = (ez_error){.status = EZ_BAD_ARGUMENT, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "affinity");
    snprintf(error->message, sizeof error->message, "expected none, big, all or a list of CPUs such as 0,2-3; %.60s %s", wanted, why);
  }
  return EZ_BAD_ARGUMENT;
}

/* --- lists: "0,2-3" ----------------------------------------------------------------------------------------------------------- */

static int number(const char **text, int *out) {
  if (**text < '0' || **text > '9') return 0;
  char *end;
  errno = 0;
  const long value = strtol(*text, &end, 10);
  *text = end;
  *out = (int)value;
  return !errno && value < EZ_MAX_CPUS;
}

/* Up to the end or a line break; 0 when it is not a list. */
static int parse_list(const char *text, ez_cpu_set *out) {
  memset(out, 0, sizeof *out);
  do {
    int first, last;
    if (!number(&text, &first)) return 0;
    last = first;
    if (*text == '-' && (text++, !number(&text, &last))) return 0;
    if (last < first) return 0;
    for (int cpu = first; cpu <= last; cpu++) add(out, cpu);
  } while (*text == ',' && text++);
  return *text == 0 || *text == '\n';
}

static void print_list(const ez_cpu_set *set, char *text, size_t room) {
  size_t used = 0;
  text[0] = 0;
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++) {
    if (!has(set, cpu)) continue;
    const int first = cpu;
    while (cpu + 1 < EZ_MAX_CPUS && has(set, cpu + 1)) cpu++;
    const int wrote = snprintf(text + used, room - used, first == cpu ? "%s%d" : "%s%d-%d", used ? "," : "", first, cpu);
    if (wrote < 0 || (size_t)wrote >= room - used) {
      snprintf(text + (room > 4 ? room - 4 : 0), 4, "...");
      return;
    }
    used += (size_t)wrote;
  }
}

/* --- kinds of cores -------------------------------------------------------------------------------------------------------------- */

static int read_text(const char *root, const char *path, char *text, size_t room) {
  char whole[512];
  if (snprintf(whole, sizeof whole, "%s%s", root, path) >= (int)sizeof whole) return 0;
  FILE *file = fopen(whole, "r");
  if (!file) return 0;
  const int got = fgets(text, (int)room, file) != NULL;
  fclose(file);
  return got;
}

/* The number that `file` holds for each CPU of the set; 0 when one of them has none. */
static int read_each(const char *root, const char *file, const ez_cpu_set *cpus, double *values) {
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++) {
    if (!has(cpus, cpu)) continue;
    char path[96], text[32];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, file);
    if (!read_text(root, path, text, sizeof text)) return 0;
    values[cpu] = strtod(text, NULL);
    if (!(values[cpu] > 0)) return 0;
  }
  return 1;
}

static ez_cpu_set fastest(const ez_cpu_set *cpus, const double *values, double share) {
  double most = 0;
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
    if (has(cpus, cpu) && values[cpu] > most) most = values[cpu];
  ez_cpu_set out = {{0}};
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
    if (has(cpus, cpu) && values[cpu] >= share * most) add(&out, cpu);
  return out;
}

static ez_cpu_set hybrid_big(const char *root, const ez_cpu_set *allowed) {
  char text[256];
  ez_cpu_set big = {{0}};
  if (!read_text(root, "/sys/devices/cpu_core/cpus", text, sizeof text) || !parse_list(text, &big)) return (ez_cpu_set){{0}};
  for (size_t i = 0; i < sizeof big.bits / sizeof *big.bits; i++) big.bits[i] &= allowed->bits[i];
  return big;
}

static ez_cpu_set big_of(const char *root, const ez_cpu_set *allowed) {
  double values[EZ_MAX_CPUS];
  if (read_each(root, "cpu_capacity", allowed, values)) return fastest(allowed, values, CAPACITY_SHARE);
  const ez_cpu_set hybrid = hybrid_big(root, allowed);
  if (count(&hybrid)) return hybrid;
  if (read_each(root, "cpufreq/cpuinfo_max_freq", allowed, values)) return fastest(allowed, values, CLOCK_SHARE);
  return *allowed;
}

/* --- the choice ------------------------------------------------------------------------------------------------------------------ */

ez_status ez_affinity_resolve(const char *wanted, const char *root, const ez_cpu_set *allowed, ez_affinity *out, ez_error *error) {
  *out = (ez_affinity){.text = "none"};
  if (wanted && !strcmp(wanted, "none")) return EZ_OK;
  if (!count(allowed)) return wanted ? refuse(error, wanted, "needs Linux") : EZ_OK;
  if (!wanted || !strcmp(wanted, "big")) {
    out->cpus = big_of(root, allowed);
  } else if (!strcmp(wanted, "all")) {
    out->cpus = *allowed;
  } else {
    if (!parse_list(wanted, &out->cpus)) return refuse(error, wanted, "is none of these");
    for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
      if (has(&out->cpus, cpu) && !has(allowed, cpu)) return refuse(error, wanted, "names a CPU that this process may not use");
    out->is_each = 1;
  }
  out->is_bound = wanted || count(&out->cpus) < count(allowed);
  out->binds_caller = wanted != NULL;
  if (out->is_bound) print_list(&out->cpus, out->text, sizeof out->text);
  return EZ_OK;
}

ez_status ez_affinity_of(const char *affinity, const char *root, const char *allowed, char *text, ez_error *error) {
  ez_cpu_set cpus;
  ez_affinity found;
  if (!parse_list(allowed, &cpus)) return refuse(error, allowed, "is not a list");
  const ez_status status = ez_affinity_resolve(affinity, root, &cpus, &found, error);
  if (!status) snprintf(text, EZ_AFFINITY_TEXT, "%s", found.text);
  return status;
}

#if defined(__linux__)
_Static_assert(EZ_MAX_CPUS == CPU_SETSIZE, "one bit of the system's set for one of ours");

ez_cpu_set ez_cpus_allowed(void) {
  ez_cpu_set out = {{0}};
  cpu_set_t system;
  if (sched_getaffinity(0, sizeof system, &system)) return out;
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
    if (CPU_ISSET(cpu, &system)) add(&out, cpu);
  return out;
}

static void bind(const ez_cpu_set *cpus) {
  cpu_set_t system;
  CPU_ZERO(&system);
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
    if (has(cpus, cpu)) CPU_SET(cpu, &system);
  sched_setaffinity(0, sizeof system, &system);
}
#else
ez_cpu_set ez_cpus_allowed(void) { return (ez_cpu_set){{0}}; }
static void bind(const ez_cpu_set *cpus) { (void)cpus; }
#endif

static ez_cpu_set one_of(const ez_cpu_set *set, int32_t place) {
  ez_cpu_set out = {{0}};
  for (int cpu = 0; cpu < EZ_MAX_CPUS; cpu++)
    if (has(set, cpu) && place-- == 0) add(&out, cpu);
  return out;
}

void ez_affinity_bind(const ez_affinity *affinity, int32_t index) {
  if (!affinity->is_bound) return;
  const ez_cpu_set cpus = affinity->is_each ? one_of(&affinity->cpus, index % count(&affinity->cpus)) : affinity->cpus;
  bind(&cpus);
}

ez_cpu_set ez_affinity_enter(const ez_affinity *affinity) {
  const ez_cpu_set before = ez_cpus_allowed();
  ez_affinity_bind(affinity, 0);
  return before;
}

void ez_affinity_leave(const ez_cpu_set *before) { bind(before); }
