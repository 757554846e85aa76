/* The strict verifier. A file is accepted only if every bit of it is accounted for: fixed fields have their one value, sections
 * stand in order with zero gaps, each has its CRC-32, every index, size, offset and parameter is proved against the others.
 * All arithmetic is in 64 bits on values capped beforehand, so nothing can wrap. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32.h"
#include "core/dataflow.h"
#include "core/program.h"
#include "core/shapes.h"
#include "ops/op.h"

#define MAX_ELEMENTS (1ull << 40)
#define MAX_ARENA (1ull << 36)
#define MAX_SCRATCH (1ull << 30)
#define MAX_COUNT 1000000u
#define MAX_IO 1024u /* graph inputs, graph outputs, states */
#define HEADER_START (offsetof(ez_header, format_version) + 4)

static const char magic[8] = {'E', 'D', 'G', 'E', 'Z', 'I', 'P', 0x1a};

static ez_status fail(ez_error *error, ez_status status, int32_t step, int32_t tensor, const char *field, const char *format, ...) {
  if (error) {
    *error = (ez_error){.status = status, .step = step, .tensor = tensor};
    snprintf(error->field, sizeof error->field, "%s", field);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return status;
}

#define BAD(step, tensor, field, ...) return fail(error, EZ_BAD_PROGRAM, step, tensor, field, __VA_ARGS__)
#define TRY(call)                  \
  do {                             \
    const ez_status status = call; \
    if (status) return status;     \
  } while (0)

int ez_all_zero(const void *bytes, uint64_t size) {
  uint8_t any = 0;
  for (uint64_t i = 0; i < size; i++) any |= ((const uint8_t *)bytes)[i];
  return !any;
}

static ez_status check_header(const uint8_t *bytes, size_t size, ez_error *error) {
  /* The version first: the header of another one has another size. */
  if (size < HEADER_START) BAD(-1, -1, "size", "file has %zu bytes, not even a header", size);
  const ez_header *h = (const ez_header *)(const void *)bytes;
  if (memcmp(h->magic, magic, sizeof magic)) BAD(-1, -1, "magic", "not an EdgeZip program");
  if (h->format_version != EZ_FORMAT_VERSION)
    return fail(error, EZ_BAD_VERSION, -1, -1, "format_version", "expected %u, got %u: compile the model again", EZ_FORMAT_VERSION, h->format_version);
  if (size < sizeof(ez_header)) BAD(-1, -1, "size", "file has %zu bytes, the header alone needs %zu", size, sizeof(ez_header));
  if (ez_crc32(bytes, sizeof *h - 4) != h->crc32) BAD(-1, -1, "crc32", "header is damaged");
  if (h->numerics != EZ_NUMERICS_EZN1) return fail(error, EZ_BAD_VERSION, -1, -1, "numerics", "expected EZN1, got %#x", h->numerics);
  if (h->header_bytes != sizeof *h || h->file_bytes != size) BAD(-1, -1, "file_bytes", "expected %llu, got %zu", (unsigned long long)h->file_bytes, size);
  if (h->layout != EZ_LAYOUT_K4N16 && h->layout != EZ_LAYOUT_K8N16) BAD(-1, -1, "layout", "unknown layout %u", h->layout);
  if (h->act_sign != 0 && h->act_sign != 0x80) BAD(-1, -1, "act_sign", "expected 0 or 128, got %u", h->act_sign);
  if (h->arena_bytes > MAX_ARENA || h->arena_bytes % EZ_ARENA_ALIGN || h->arena_bytes < EZ_OVERREAD) BAD(-1, -1, "arena_bytes", "out of range");
  if (h->scratch_bytes > MAX_SCRATCH || h->scratch_bytes % EZ_ARENA_ALIGN) BAD(-1, -1, "scratch_bytes", "out of range");
  if (h->n_steps > MAX_COUNT || !h->n_tensors || h->n_tensors > MAX_COUNT || h->n_inputs > h->n_tensors || h->n_inputs > MAX_IO || !h->n_outputs ||
      h->n_outputs > h->n_tensors || h->n_outputs > MAX_IO || h->n_vectors > MAX_COUNT || h->n_states > MAX_IO)
    BAD(-1, -1, "counts", "out of range");
  if (h->solo_us < -1 || h->solo_us > EZ_MAX_WAIT_US || h->spin_us < -1 || h->spin_us > EZ_MAX_WAIT_US) BAD(-1, -1, "solo_us", "solo_us and spin_us are -1 to a second");
  if (h->reserved0 || !ez_all_zero(h->reserved, sizeof h->reserved)) BAD(-1, -1, "reserved", "is not zero");
  return EZ_OK;
}

static ez_status check_sections(const uint8_t *bytes, size_t size, ez_error *error) {
  static const char *const names[EZ_SECTION_COUNT] = {"steps", "tensors", "io", "strings", "weights", "metadata", "vectors", "shapes"};
  const ez_header *h = (const ez_header *)(const void *)bytes;
  uint64_t end = sizeof *h;
  for (int i = 0; i < EZ_SECTION_COUNT; i++) {
    const ez_section *s = &h->sections[i];
    const uint64_t start = ez_round_64(end);
    if (s->reserved) BAD(-1, -1, names[i], "reserved field is not zero");
    if (s->offset != start || s->offset > size || s->bytes > size - s->offset) BAD(-1, -1, names[i], "section is not where it must be");
    if (!ez_all_zero(bytes + end, start - end)) BAD(-1, -1, names[i], "gap before the section is not zero");
    if (ez_crc32(bytes + s->offset, s->bytes) != s->crc32) BAD(-1, -1, names[i], "section is damaged (CRC-32 differs)");
    end = s->offset + s->bytes;
  }
  if (end != size) BAD(-1, -1, "size", "bytes behind the last section");
  return EZ_OK;
}

/* After ez_shapes_open: io holds one list a variant. */
static ez_status check_counts(const ez_program *p, ez_error *error) {
  static const char *const names[] = {"steps", "tensors", "io"};
  const ez_header *h = p->header;
  const uint64_t variants = p->shapes.head ? p->shapes.head->n_variants : 1;
  const uint64_t wanted[3] = {(uint64_t)h->n_steps * sizeof(ez_step), (uint64_t)h->n_tensors * sizeof(ez_tensor),
                              ((uint64_t)p->n_inputs + p->n_outputs + h->n_states) * 4 * variants};
  for (int i = 0; i < 3; i++)
    if (h->sections[i].bytes != wanted[i]) BAD(-1, -1, names[i], "expected %llu bytes, got %llu", (unsigned long long)wanted[i], (unsigned long long)h->sections[i].bytes);
  return EZ_OK;
}

/* UTF-8 without control characters: names are printed on terminals and into JSON. */
static int is_clean_text(const uint8_t *s, uint64_t n) {
  for (uint64_t i = 0; i < n;) {
    const uint8_t c = s[i];
    const int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
    if (more < 0 || c < 0x20 || c == 0x7f || i + (uint64_t)more >= n) return 0;
    for (int k = 1; k <= more; k++)
      if ((s[i + (uint64_t)k] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) || (c == 0xf0 && s[i + 1] < 0x90) || (c == 0xf4 && s[i + 1] > 0x8f)) return 0;
    i += (uint64_t)more + 1;
  }
  return 1;
}

/* Between two characters of the strings section. */
static int is_border(const ez_program *p, uint64_t at) {
  return at == p->header->sections[EZ_SECTION_STRINGS].bytes || ((uint8_t)p->strings[at] & 0xc0) != 0x80;
}

/* The section is clean text as a whole (proved once: names may share bytes, and a million of them may name all of it), so a name is
 * clean when it begins and ends between characters. */
int ez_is_name(const ez_program *p, uint32_t offset, uint32_t bytes) {
  const uint64_t size = p->header->sections[EZ_SECTION_STRINGS].bytes;
  return bytes <= EZ_MAX_NAME && offset <= size && bytes <= size - offset && is_border(p, offset) && is_border(p, (uint64_t)offset + bytes);
}

static int same_name(const ez_program *p, const ez_tensor *a, const ez_tensor *b) {
  return a->name_bytes == b->name_bytes && !memcmp(p->strings + a->name_offset, p->strings + b->name_offset, a->name_bytes);
}

static ez_status check_shape(const ez_tensor *t, int32_t i, ez_error *error) {
  if (t->dtype < EZ_DTYPE_F32 || t->dtype > EZ_DTYPE_BOOL) BAD(-1, i, "dtype", "unknown dtype %u", t->dtype);
  if (t->rank > EZ_MAX_RANK) BAD(-1, i, "rank", "expected at most %d, got %u", EZ_MAX_RANK, t->rank);
  if (t->form > EZ_FORM_BLOCKS || (t->form && (t->place != EZ_IN_WEIGHTS || t->dtype != EZ_DTYPE_U8 || t->rank != 1)))
    BAD(-1, i, "form", "unknown form %u, or not one of a constant of bytes", t->form);
  if (!ez_all_zero(t->reserved1, sizeof t->reserved1)) BAD(-1, i, "reserved", "is not zero");
  const int32_t least = t->place == EZ_IN_OUTPUT ? 0 : 1; /* a result may have no elements; then no step touches it */
  uint64_t rows = 1;
  int is_empty = 0;
  for (int d = 0; d < EZ_MAX_RANK; d++) {
    if (t->dims[d] < least || (d >= t->rank && t->dims[d] != 1)) BAD(-1, i, "dims", "dimension %d is %d", d, t->dims[d]);
    is_empty |= !t->dims[d];
    if (d + 1 < t->rank) rows *= (uint64_t)t->dims[d];
    if (rows > MAX_ELEMENTS) BAD(-1, i, "dims", "more than 2^40 elements");
  }
  const int32_t columns = t->rank ? t->dims[t->rank - 1] : 1;
  if (t->row_stride < columns) BAD(-1, i, "row_stride", "expected at least %d, got %d", columns, t->row_stride);
  if (is_empty) {
    if (t->bytes || t->row_stride != columns) BAD(-1, i, "bytes", "a tensor without elements has no bytes");
    return EZ_OK;
  }
  if (rows > MAX_ELEMENTS / (uint64_t)t->row_stride) BAD(-1, i, "dims", "more than 2^40 elements");
  const uint64_t bytes = ((rows - 1) * (uint64_t)t->row_stride + (uint64_t)columns) * ez_element_bytes(t->dtype);
  if (t->bytes != bytes) BAD(-1, i, "bytes", "expected %llu, got %llu", (unsigned long long)bytes, (unsigned long long)t->bytes);
  return EZ_OK;
}

static ez_status check_params(const ez_tensor *t, int32_t i, ez_error *error) {
  if (t->dtype != EZ_DTYPE_S8) {
    if (t->zero_point || t->scale != 0 || signbit(t->scale)) BAD(-1, i, "scale", "only s8 tensors have a scale and a zero point");
    return EZ_OK;
  }
  if (!isfinite(t->scale) || t->scale < 1.17549435e-38f) BAD(-1, i, "scale", "must be a positive normal number");
  if (t->zero_point < -128 || t->zero_point > 127) BAD(-1, i, "zero_point", "expected -128..127, got %d", t->zero_point);
  return EZ_OK;
}

static ez_status check_place(const ez_program *p, int32_t i, ez_error *error) {
  const ez_tensor *t = &p->tensors[i];
  const ez_header *h = p->header;
  switch (t->place) {
    case EZ_IN_ARENA:
    case EZ_IN_WEIGHTS: {
      const uint64_t size = t->place == EZ_IN_ARENA ? h->arena_bytes : h->sections[EZ_SECTION_WEIGHTS].bytes;
      const uint64_t align = t->place == EZ_IN_ARENA ? ez_element_bytes(t->dtype) : EZ_SECTION_ALIGN;
      if (t->offset % align) BAD(-1, i, "offset", "expected a multiple of %llu", (unsigned long long)align);
      if (size < EZ_OVERREAD || t->offset > size - EZ_OVERREAD || t->bytes > size - EZ_OVERREAD - t->offset) BAD(-1, i, "offset", "tensor leaves its section");
      return EZ_OK;
    }
    case EZ_IN_INPUT:
    case EZ_IN_OUTPUT: {
      const uint32_t count = t->place == EZ_IN_INPUT ? p->n_inputs : p->n_outputs;
      if (t->offset >= count) BAD(-1, i, "offset", "graph %s %llu does not exist", t->place == EZ_IN_INPUT ? "input" : "output", (unsigned long long)t->offset);
      const uint32_t declared = p->io[(t->place == EZ_IN_INPUT ? 0 : p->n_inputs) + t->offset];
      if (declared >= p->n_tensors) BAD(-1, i, "io", "tensor %u does not exist", declared);
      const ez_tensor *io = &p->tensors[declared];
      if (io->place != t->place || io->offset != t->offset) BAD(-1, i, "io", "graph inputs and outputs must be listed in order");
      if (io->dtype != t->dtype || io->bytes != t->bytes || t->row_stride != (t->rank ? t->dims[t->rank - 1] : 1))
        BAD(-1, i, "bytes", "a view of a graph input or output must cover it, contiguous and of its dtype");
      return EZ_OK;
    }
    default: BAD(-1, i, "place", "unknown place %u", t->place);
  }
}

static ez_status check_tensors(const ez_program *p, ez_error *error) {
  for (int32_t i = 0; i < (int32_t)p->n_tensors; i++) {
    TRY(check_shape(&p->tensors[i], i, error));
    TRY(check_params(&p->tensors[i], i, error));
    TRY(check_place(p, i, error));
    if (!ez_is_name(p, p->tensors[i].name_offset, p->tensors[i].name_bytes)) BAD(-1, i, "name", "is not a range of whole UTF-8 characters of the strings, of at most %d bytes", EZ_MAX_NAME);
  }
  for (uint32_t k = 0; k < p->n_inputs + p->n_outputs; k++) {
    const int is_input = k < p->n_inputs;
    const uint32_t index = p->io[k];
    if (index >= p->n_tensors) BAD(-1, -1, "io", "tensor %u does not exist", index);
    const ez_tensor *t = &p->tensors[index];
    if (t->place != (is_input ? EZ_IN_INPUT : EZ_IN_OUTPUT) || t->offset != (is_input ? k : k - p->n_inputs))
      BAD(-1, (int32_t)index, "io", "is not graph %s %u", is_input ? "input" : "output", is_input ? k : k - p->n_inputs);
    for (uint32_t other = is_input ? 0 : p->n_inputs; other < k; other++)
      if (same_name(p, t, &p->tensors[p->io[other]])) BAD(-1, (int32_t)index, "name", "two graph %s have this name", is_input ? "inputs" : "outputs");
  }
  return EZ_OK;
}

/* Dims, dtype, scale and zero point agree; names and places do not matter. */
static int same_kind(const ez_tensor *a, const ez_tensor *b) {
  return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, sizeof a->dims) && a->scale == b->scale && a->zero_point == b->zero_point &&
         a->bytes == b->bytes;
}

/* After check_tensors: io names tensors that are there. */
static ez_status check_states(const ez_program *p, ez_error *error) {
  for (uint32_t k = 0; k < p->header->n_states; k++) {
    const uint32_t input = p->io[p->header->n_inputs + k], output = p->io[p->n_inputs + p->header->n_outputs + k], initial = p->io[p->n_inputs + p->n_outputs + k];
    if (!same_kind(&p->tensors[input], &p->tensors[output])) BAD(-1, (int32_t)input, "states", "state %u: input and output differ in dtype, dims or scale", k);
    if (initial == EZ_ZEROS) continue;
    if (initial >= p->n_tensors || p->tensors[initial].place != EZ_IN_WEIGHTS || !same_kind(&p->tensors[input], &p->tensors[initial]))
      BAD(-1, (int32_t)input, "states", "state %u: the initial value is not a constant of its dtype, dims and scale", k);
  }
  return EZ_OK;
}

static ez_status check_operands(const ez_program *p, int32_t i, ez_error *error) {
  const ez_step *s = &p->steps[i];
  if (s->n_inputs > EZ_MAX_STEP_INPUTS || !s->n_outputs || s->n_outputs > EZ_MAX_STEP_OUTPUTS) BAD(i, -1, "n_inputs", "out of range");
  if (s->reserved) BAD(i, -1, "reserved", "is not zero");
  if (!ez_is_name(p, s->name_offset, s->name_bytes)) BAD(i, -1, "name", "is not a range of whole UTF-8 characters of the strings, of at most %d bytes", EZ_MAX_NAME);
  const int64_t n = p->n_tensors;
  for (int k = 0; k < EZ_MAX_STEP_INPUTS; k++)
    if (s->inputs[k] < -1 || s->inputs[k] >= n || (k >= s->n_inputs && s->inputs[k] != -1)) BAD(i, -1, "inputs", "input %d is %d", k, s->inputs[k]);
  for (int k = 0; k < EZ_MAX_STEP_OUTPUTS; k++)
    if (s->outputs[k] < (k < s->n_outputs ? 0 : -1) || s->outputs[k] >= n || (k >= s->n_outputs && s->outputs[k] != -1))
      BAD(i, -1, "outputs", "output %d is %d", k, s->outputs[k]);
  for (int k = 0; k < s->n_inputs; k++)
    if (s->inputs[k] >= 0 && p->tensors[s->inputs[k]].form && (k != 1 || (s->op != EZ_OP_CONV && s->op != EZ_OP_LINEAR)))
      BAD(i, s->inputs[k], "form", "only the weights of a conv or linear step have a form");
  for (int k = 0; k < s->n_inputs; k++)
    if (s->inputs[k] >= 0 && !p->tensors[s->inputs[k]].bytes) BAD(i, s->inputs[k], "bytes", "an operand has no elements");
  for (int o = 0; o < s->n_outputs; o++) {
    if (!p->tensors[s->outputs[o]].bytes) BAD(i, s->outputs[o], "bytes", "a result of a step has no elements");
    const uint8_t place = p->tensors[s->outputs[o]].place;
    if (place != EZ_IN_ARENA && place != EZ_IN_OUTPUT) BAD(i, s->outputs[o], "place", "a result must be in the arena or a graph output");
  }
  return EZ_OK;
}

static ez_status check_steps(const ez_program *p, ez_dataflow *flow, ez_error *error) {
  for (int32_t i = 0; i < (int32_t)p->n_steps; i++) {
    const ez_step *s = &p->steps[i];
    const ez_op *op = ez_op_find(s->op);
    if (!op) BAD(i, -1, "op", "unknown operator %u", s->op);
    if (!ez_all_zero(s->params + op->params_bytes, sizeof s->params - op->params_bytes)) BAD(i, -1, "params", "unused bytes are not zero");
    TRY(check_operands(p, i, error));
    ez_error ignored;
    ez_check check = {.header = p->header, .tensors = p->tensors, .step = s, .step_index = i, .weights = p->weights, .error = error ? error : &ignored};
    TRY(op->check(&check));
    TRY(ez_dataflow_step(flow, p, i, check.in_place_inputs, error));
    if (check.scratch_needed > p->header->scratch_bytes)
      BAD(i, -1, "scratch_bytes", "step needs %llu, the program gives %llu", (unsigned long long)check.scratch_needed, (unsigned long long)p->header->scratch_bytes);
  }
  return ez_dataflow_outputs(flow, p, error);
}

ez_status ez_verify_records(const ez_program *p, ez_dataflow *flow, ez_error *error) {
  TRY(check_tensors(p, error));
  TRY(check_states(p, error));
  ez_dataflow_reset(flow, p);
  return check_steps(p, flow, error);
}

static ez_status check_records(const ez_program *p, ez_error *error) {
  ez_dataflow flow;
  const ez_status status = ez_dataflow_start(&flow, p) ? ez_verify_records(p, &flow, error) : fail(error, EZ_NO_MEMORY, -1, -1, "steps", "out of memory");
  ez_dataflow_end(&flow);
  return status;
}

ez_status ez_verify(const void *bytes, size_t size, ez_program *program, ez_error *error) {
  if (size && (uintptr_t)bytes % EZ_SECTION_ALIGN) return fail(error, EZ_BAD_ARGUMENT, -1, -1, "bytes", "must be 64-byte aligned");
  TRY(check_header(bytes, size, error));
  TRY(check_sections(bytes, size, error));
  const uint8_t *base = bytes;
  const ez_header *h = bytes;
  *program = (ez_program){.bytes = base, .size = size, .decoded = program->decoded, .header = h, .n_steps = h->n_steps, .n_tensors = h->n_tensors,
                          .n_inputs = h->n_inputs + h->n_states, .n_outputs = h->n_outputs + h->n_states};
  program->steps = (const ez_step *)(const void *)(base + h->sections[EZ_SECTION_STEPS].offset);
  program->tensors = (const ez_tensor *)(const void *)(base + h->sections[EZ_SECTION_TENSORS].offset);
  program->io = (const uint32_t *)(const void *)(base + h->sections[EZ_SECTION_IO].offset);
  program->strings = (const char *)(base + h->sections[EZ_SECTION_STRINGS].offset);
  program->weights = base + h->sections[EZ_SECTION_WEIGHTS].offset;
  program->metadata = base + h->sections[EZ_SECTION_METADATA].offset;
  program->vectors = base + h->sections[EZ_SECTION_VECTORS].offset;
  if (!is_clean_text((const uint8_t *)program->strings, h->sections[EZ_SECTION_STRINGS].bytes)) BAD(-1, -1, "strings", "are not UTF-8 without control characters");
  TRY(ez_shapes_open(program, error));
  TRY(check_counts(program, error));
  TRY(check_records(program, error));
  TRY(ez_check_vectors(program, error));
  return EZ_OK;
}
