/* Which CPUs the threads of a session run on. */
#ifndef EDGEZIP_AFFINITY_H
#define EDGEZIP_AFFINITY_H

#include "edgezip/ez.h"

#define EZ_MAX_CPUS 1024
#define EZ_AFFINITY_TEXT 64

typedef struct ez_cpu_set {
  uint64_t bits[EZ_MAX_CPUS / 64];
} ez_cpu_set;

typedef struct ez_affinity {
  int32_t is_bound;            /* 0: threads go where the system puts them */
  int32_t is_each;             /* thread i has one CPU of the set to itself: number i, round and round */
  int32_t binds_caller;        /* the user named it, so the thread that calls ez_session_run is bound too, while it is in there */
  ez_cpu_set cpus;
  char text[EZ_AFFINITY_TEXT]; /* "none", or the CPUs: "4-7" */
} ez_affinity;

/* CPUs that this process may use; empty where the system does not say. */
ez_cpu_set ez_cpus_allowed(void);

/* What `wanted` means on this machine: "none"; "big", the fastest kind of `allowed` cores; "all" of them; or a list such as
 * "0,2-3", one CPU a thread. NULL: "big" for the workers when the allowed cores differ, else "none".
 * Kinds are told by sysfs below `root` ("" is this machine; tests bring recorded trees). EZ_BAD_ARGUMENT for another text, and for a
 * list that names a CPU outside of `allowed`. */
ez_status ez_affinity_resolve(const char *wanted, const char *root, const ez_cpu_set *allowed, ez_affinity *out, ez_error *error);

/* Binds the calling thread as thread `index` of the session. What the system refuses stays as it was. */
void ez_affinity_bind(const ez_affinity *affinity, int32_t index);

/* Around a run, for a caller that is bound: as thread 0, and back to the CPUs that it had. */
ez_cpu_set ez_affinity_enter(const ez_affinity *affinity);
void ez_affinity_leave(const ez_cpu_set *before);

#endif
