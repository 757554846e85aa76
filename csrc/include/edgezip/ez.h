/* EdgeZip runtime: the whole public C API.
 *
 * A program (.ez) is a block of bytes. `ez_program_open` proves every count, offset, shape and parameter in it before
 * anything is used, and borrows the bytes: they must stay unchanged and outlive the program. A session owns one arena and
 * one thread pool; after `ez_session_create` nothing allocates, parses or locks a file. One inference is one call.
 *
 * Threads: a program may be shared by any number of sessions; a session belongs to one caller at a time.
 * Nothing here prints, exits or aborts; every function that can fail returns an `ez_status` and fills an `ez_error`.
 * cffi reads the part between the two markers.
 */
#ifndef EDGEZIP_EZ_H
#define EDGEZIP_EZ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi-begin */

typedef enum ez_status {
  EZ_OK = 0,
  EZ_BAD_ARGUMENT = 1,   /* the caller passed something impossible */
  EZ_BAD_PROGRAM = 2,    /* the file is damaged, contradictory or hostile */
  EZ_BAD_VERSION = 3,    /* format version or numerics id that this runtime does not know */
  EZ_BAD_ISA = 4,        /* ISA unknown, not built in, or not offered by this CPU, or it cannot read the program's layout */
  EZ_NO_MEMORY = 5,
  EZ_IO = 6,             /* open, map or read failed */
  EZ_BAD_ENVIRONMENT = 7 /* rounding mode is not to-nearest, no threads, ... */
} ez_status;

/* Where and why. `step` and `tensor` are -1 when the error is not about one. Messages are English, at most one line. */
typedef struct ez_error {
  ez_status status;
  int32_t step;
  int32_t tensor;
  char field[32];
  char message[216];
} ez_error;

typedef struct ez_program ez_program;
typedef struct ez_session ez_session;

/* One tensor as the caller sees it. dims in elements, outermost first. dtype is an EZ_DTYPE_* value. */
typedef struct ez_tensor_info {
  const char *name; /* not zero-terminated: name_bytes long, UTF-8, inside the program */
  uint32_t name_bytes;
  int32_t dtype;
  int32_t rank;
  int32_t dims[8];
  float scale;        /* 0 when the tensor is not quantised */
  int32_t zero_point; /* logical, in [-128, 127] */
  uint64_t bytes;
} ez_tensor_info;

/* A dynamic dimension: low, low + step, ..., high. Dimension `axis` of graph input `input` shows its size. */
typedef struct ez_symbol_info {
  const char *name; /* not zero-terminated */
  uint32_t name_bytes;
  int32_t low, high, step;
  int32_t input, axis;
} ez_symbol_info;

typedef struct ez_step_info {
  const char *name; /* the ONNX node that the step came from; not zero-terminated */
  uint32_t name_bytes;
  const char *op;     /* "conv", "binary", ...; static, zero-terminated */
  const char *kernel; /* which ISA path runs it, e.g. "avx512vnni"; static, zero-terminated */
  int32_t threads;    /* that it uses: 1 when it is too short to share */
  int32_t n_outputs;
  int32_t outputs[4]; /* tensor indices */
} ez_step_info;

typedef struct ez_program_info {
  uint32_t format_version;
  uint32_t numerics; /* four characters, 'EZN1' */
  uint32_t layout;   /* EZ_LAYOUT_* of the packed weights */
  uint32_t act_sign; /* 0 or 0x80: stored activation byte = logical byte XOR act_sign */
  uint32_t n_steps, n_tensors, n_inputs, n_outputs, n_vectors, n_states; /* inputs and outputs: without those of states */
  uint32_t n_symbols; /* dynamic dimensions; what is said of tensors and steps holds for the largest size */
  uint32_t crc32;    /* of the header, which holds those of all sections: another file has another */
  uint64_t file_bytes, arena_bytes, scratch_bytes;
} ez_program_info;

typedef struct ez_session_options {
  int32_t threads;     /* 1..64; 0 means 1 */
  const char *isa;     /* NULL: environment EDGEZIP_ISA if set, else the best that this CPU and program allow */
  int32_t profile;     /* non-zero: keep the duration of each step of the last run */
  /* Where the threads run: "none" (the system decides); "big" (the fastest kind of cores), "all", or a list such as "0,2-3", one CPU a
   * thread. A named choice also binds the thread that calls ez_session_run, while it is in there. NULL: the workers keep to the big cores
   * where cores differ, the caller is left alone. */
  const char *affinity;
  int32_t spin_us;     /* how long an idle worker looks for work before it sleeps; 0: the program's, else 50; negative: it sleeps at once (batteries) */
  int32_t solo_us;     /* a step of less estimated work runs on one thread; 0: the program's, else 10; negative: none does */
} ez_session_options;

const char *ez_version(void);
const char *ez_status_text(ez_status status);

/* ISA tables compiled in, best first. `supported` is what this CPU offers. */
int32_t ez_isa_count(void);
const char *ez_isa_name(int32_t index);
int32_t ez_isa_supported(int32_t index);

/* Verify and open. `bytes` must be 64-byte aligned (mmap is) and stay until the program is closed; of an entropy-coded file (ez_coded.h) the
 * program holds the plain one instead. On failure *out is NULL and *error is filled. */
ez_status ez_program_open(const void *bytes, size_t size, ez_program **out, ez_error *error);
/* Map a file read-only and open it; closing unmaps. */
ez_status ez_program_open_file(const char *path, ez_program **out, ez_error *error);
void ez_program_close(ez_program *program);
void ez_program_get_info(const ez_program *program, ez_program_info *info);
ez_status ez_program_input(const ez_program *program, uint32_t index, ez_tensor_info *info);
ez_status ez_program_output(const ez_program *program, uint32_t index, ez_tensor_info *info);
/* What a session carries from run to run; the name is that of the graph input. */
ez_status ez_program_state(const ez_program *program, uint32_t index, ez_tensor_info *info);
ez_status ez_program_tensor(const ez_program *program, uint32_t index, ez_tensor_info *info);
/* The JSON metadata section. */
const char *ez_program_metadata(const ez_program *program, size_t *bytes);
/* Bundled test vector `vector`: pointers to the bytes of input or output `index`, in declared dtype and shape. */
ez_status ez_program_vector(const ez_program *program, uint32_t vector, int32_t is_output, uint32_t index, const void **data, size_t *bytes);
ez_status ez_program_symbol(const ez_program *program, uint32_t index, ez_symbol_info *info);
/* The size of each symbol that a bundled test vector is for; `n` is n_symbols. */
ez_status ez_program_vector_sizes(const ez_program *program, uint32_t vector, int32_t *sizes, uint32_t n);

ez_status ez_session_create(const ez_program *program, const ez_session_options *options, ez_session **out, ez_error *error);
void ez_session_destroy(ez_session *session);
/* Choose the sizes of the dynamic dimensions, one for each symbol; a session starts with the largest. Nothing is allocated: the arena is
 * planned for every size. The records of the new size are verified as those of a file are; after an error the session runs nothing until
 * a resize succeeds. */
ez_status ez_session_resize(ez_session *session, const int32_t *sizes, uint32_t n, ez_error *error);
/* Of the present size. */
ez_status ez_session_input(const ez_session *session, uint32_t index, ez_tensor_info *info);
ez_status ez_session_output(const ez_session *session, uint32_t index, ez_tensor_info *info);
ez_status ez_session_tensor_info(const ez_session *session, uint32_t index, ez_tensor_info *info);
uint32_t ez_session_steps(const ez_session *session);
/* One inference. inputs[i] and outputs[i] point to buffers of ez_tensor_info.bytes (of the present size), aligned as the dtype needs. An output shares no
 * byte with an input or with another output. A program of constants has no inputs: `inputs` may be NULL then. */
ez_status ez_session_run(ez_session *session, const void *const *inputs, void *const *outputs);

/* The same, one step at a time, for per-layer verification: begin, then step 0, 1, ...; after step i its outputs can be
 * read by ez_session_tensor until a later step reuses their place. `end` makes what the steps left in the outputs of the states the
 * states of the next run; without it that run starts from the same states again. */
ez_status ez_session_begin(ez_session *session, const void *const *inputs, void *const *outputs);
ez_status ez_session_step(ez_session *session, uint32_t step);
ez_status ez_session_end(ez_session *session);
ez_status ez_session_step_info(const ez_session *session, uint32_t step, ez_step_info *info);
/* Copies the tensor, made contiguous, as stored bytes (activations still XOR act_sign), to `data` of `bytes` capacity. */
ez_status ez_session_tensor(const ez_session *session, uint32_t tensor, void *data, size_t bytes);
/* CRC-32 (zlib) of the bytes that ez_session_tensor would give for the outputs of a step, one after another; right after that step. */
ez_status ez_session_step_crc32(const ez_session *session, uint32_t step, uint32_t *crc);
/* Nanoseconds of each step of the last run (needs options.profile). */
ez_status ez_session_profile(const ez_session *session, uint64_t *ns, uint32_t n_steps);
/* State `index` as it goes into the next run, in declared dtype and shape; `bytes` are those of ez_program_state. */
ez_status ez_session_state_get(const ez_session *session, uint32_t index, void *data, size_t bytes);
ez_status ez_session_state_set(ez_session *session, uint32_t index, const void *data, size_t bytes);
/* All states back to their initial values. */
ez_status ez_session_reset(ez_session *session);
const char *ez_session_isa(const ez_session *session);
int32_t ez_session_threads(const ez_session *session);
/* "none", or the CPUs that the threads are bound to, such as "4-7". */
const char *ez_session_affinity(const ez_session *session);

/* cffi-end */

#ifdef __cplusplus
}
#endif
#endif
