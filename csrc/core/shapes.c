#include "core/shapes.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 10000000u
#define MAX_QUANTITY (1ll << 40)

static ez_status refuse(ez_error *error, ez_status status, const char *field, const char *message) {
  if (error) {
    *error = (ez_error){.status = status, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "%s", field);
    snprintf(error->message, sizeof error->message, "%s", message);
  }
  return status;
}

#define BAD(field, message) return refuse(error, EZ_BAD_PROGRAM, field, message)

/* --- proving the section ----------------------------------------------------------------------------------------------------- */

static ez_status divide_section(ez_program *p, ez_error *error) {
  const ez_section *section = &p->header->sections[EZ_SECTION_SHAPES];
  const uint8_t *at = p->bytes + section->offset;
  const ez_shapes_head *h = (const ez_shapes_head *)(const void *)at;
  if (section->bytes < sizeof *h) BAD("shapes", "section is cut short");
  if (!h->n_symbols || h->n_symbols > EZ_MAX_SYMBOLS || !h->n_boxes || h->n_boxes > MAX_ENTRIES || !h->n_variants || h->n_variants > MAX_ENTRIES ||
      h->n_derived > MAX_ENTRIES || h->n_patches > MAX_ENTRIES || h->n_terms > MAX_ENTRIES || !ez_all_zero(h->reserved, sizeof h->reserved))
    BAD("shapes", "counts are out of range");
  ez_shapes *s = &p->shapes;
  s->head = h;
  s->symbols = (const ez_symbol *)(const void *)(at + sizeof *h);
  s->boxes = (const ez_box *)(const void *)(s->symbols + h->n_symbols);
  s->variants = (const ez_variant *)(const void *)(s->boxes + h->n_boxes);
  s->derived = (const ez_derived *)(const void *)(s->variants + h->n_variants);
  s->patches = (const ez_patch *)(const void *)(s->derived + h->n_derived);
  s->terms = (const ez_term *)(const void *)(s->patches + h->n_patches);
  const uint64_t whole = sizeof *h + h->n_symbols * sizeof *s->symbols + h->n_boxes * sizeof *s->boxes + h->n_variants * sizeof *s->variants +
                         h->n_derived * sizeof *s->derived + h->n_patches * sizeof *s->patches + h->n_terms * sizeof *s->terms;
  if (section->bytes != whole) BAD("shapes", "section has another size than its counts say");
  return EZ_OK;
}

static ez_status check_symbols(const ez_program *p, ez_error *error) {
  const ez_shapes *s = &p->shapes;
  for (uint32_t i = 0; i < s->head->n_symbols; i++) {
    const ez_symbol *y = &s->symbols[i];
    if (!ez_is_name(p, y->name_offset, y->name_bytes)) BAD("symbols", "a name is not a range of whole UTF-8 characters");
    if (y->low < 1 || y->high < y->low || y->step < 1 || (y->high - y->low) % y->step || y->input >= p->header->n_inputs || y->axis >= EZ_MAX_RANK) BAD("symbols", "bounds or step are out of range");
  }
  for (uint32_t i = 0; i < s->head->n_boxes; i++) {
    const ez_box *b = &s->boxes[i];
    if (b->variant >= s->head->n_variants || b->reserved) BAD("boxes", "variant does not exist");
    for (uint32_t k = 0; k < EZ_MAX_SYMBOLS; k++) {
      const int32_t least = k < s->head->n_symbols ? s->symbols[k].low : 0, most = k < s->head->n_symbols ? s->symbols[k].high : 0;
      if (b->low[k] < least || b->high[k] > most || b->low[k] > b->high[k]) BAD("boxes", "range leaves the bounds of its symbol");
    }
  }
  return EZ_OK;
}

static ez_status check_variants(ez_program *p, ez_error *error) {
  ez_shapes *s = &p->shapes;
  uint64_t steps = 0, tensors = 0, patches = 0;
  for (uint32_t i = 0; i < s->head->n_variants; i++) {
    const ez_variant *v = &s->variants[i];
    if (!v->n_steps || !v->n_tensors || v->reserved) BAD("variants", "counts are out of range");
    steps += v->n_steps, tensors += v->n_tensors, patches += v->n_patches;
    if (v->n_steps > s->most_steps) s->most_steps = v->n_steps;
    if (v->n_tensors > s->most_tensors) s->most_tensors = v->n_tensors;
  }
  if (steps != p->header->n_steps || tensors != p->header->n_tensors || patches != s->head->n_patches) BAD("variants", "counts differ from those of the program");
  return EZ_OK;
}

static ez_status check_quantities(const ez_shapes *s, ez_error *error) {
  const int64_t symbols = s->head->n_symbols, all = symbols + s->head->n_derived;
  for (uint32_t i = 0; i < s->head->n_derived; i++) {
    const ez_derived *d = &s->derived[i];
    if (d->source < 0 || d->source >= symbols + i || d->divide < 1) BAD("derived", "source or divisor is out of range");
  }
  for (uint32_t i = 0; i < s->head->n_terms; i++) {
    const ez_term *t = &s->terms[i];
    for (int k = 0; k < 3; k++)
      if (t->factors[k] < -1 || t->factors[k] >= all) BAD("terms", "quantity does not exist");
    if (t->reserved) BAD("terms", "reserved field is not zero");
  }
  return EZ_OK;
}

/* Whether a patch may write there. What it writes is proved with the rest of the record. */
static int is_patchable(const ez_patch *patch, const ez_variant *v) {
  const uint64_t first = patch->field, end = first + patch->bytes;
  if ((patch->bytes != 4 && patch->bytes != 8) || first % patch->bytes || patch->reserved) return 0;
  if (patch->kind == EZ_PATCH_STEP) return patch->index < v->n_steps && first >= offsetof(ez_step, params) && end <= sizeof(ez_step);
  if (patch->kind != EZ_PATCH_TENSOR || patch->index >= v->n_tensors) return 0;
  if (patch->bytes == 8) return first == offsetof(ez_tensor, offset);
  return first >= offsetof(ez_tensor, row_stride) && end <= offsetof(ez_tensor, offset);
}

static ez_status check_patches(const ez_shapes *s, ez_error *error) {
  uint64_t terms = 0;
  const ez_patch *patch = s->patches;
  for (uint32_t i = 0; i < s->head->n_variants; i++)
    for (uint32_t k = 0; k < s->variants[i].n_patches; k++, patch++) {
      if (!is_patchable(patch, &s->variants[i])) BAD("patches", "field cannot be patched");
      terms += patch->n_terms;
    }
  if (terms != s->head->n_terms) BAD("patches", "counts of terms differ");
  return EZ_OK;
}

ez_status ez_shapes_open(ez_program *p, ez_error *error) {
  if (!p->header->sections[EZ_SECTION_SHAPES].bytes) return EZ_OK;
  ez_status status = divide_section(p, error);
  if (!status) status = check_symbols(p, error);
  if (!status) status = check_variants(p, error);
  if (!status) status = check_quantities(&p->shapes, error);
  if (!status) status = check_patches(&p->shapes, error);
  if (status) return status;
  p->n_steps = p->shapes.variants[0].n_steps;
  p->n_tensors = p->shapes.variants[0].n_tensors;
  return EZ_OK;
}

/* --- the records of one size -------------------------------------------------------------------------------------------------- */

int ez_records_create(ez_records *records, const ez_shapes *s) {
  records->steps = calloc(s->most_steps, sizeof *records->steps);
  records->tensors = calloc(s->most_tensors, sizeof *records->tensors);
  records->quantities = calloc(s->head->n_symbols + s->head->n_derived, sizeof *records->quantities);
  return records->steps && records->tensors && records->quantities;
}

void ez_records_destroy(ez_records *records) {
  free(records->steps);
  free(records->tensors);
  free(records->quantities);
}

static int64_t floor_divide(int64_t value, int64_t by) { return value / by - (value % by < 0); }

static int evaluate_quantities(const ez_shapes *s, const int32_t *sizes, int64_t *quantities) {
  const uint32_t symbols = s->head->n_symbols;
  for (uint32_t i = 0; i < symbols; i++) quantities[i] = sizes[i];
  for (uint32_t i = 0; i < s->head->n_derived; i++) {
    const ez_derived *d = &s->derived[i];
    int64_t value;
    if (__builtin_mul_overflow(d->multiply, quantities[d->source], &value) || __builtin_add_overflow(value, d->add, &value)) return 0;
    value = floor_divide(value, d->divide);
    if (value > MAX_QUANTITY || value < -MAX_QUANTITY) return 0;
    quantities[symbols + i] = value;
  }
  return 1;
}

static int sum_terms(const ez_term *terms, uint32_t n, const int64_t *quantities, int64_t *sum) {
  *sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    int64_t product = terms[i].coefficient;
    for (int k = 0; k < 3; k++)
      if (terms[i].factors[k] >= 0 && __builtin_mul_overflow(product, quantities[terms[i].factors[k]], &product)) return 0;
    if (__builtin_add_overflow(*sum, product, sum)) return 0;
  }
  return 1;
}

static int write_patch(const ez_patch *patch, int64_t value, ez_records *records) {
  uint8_t *record = patch->kind == EZ_PATCH_STEP ? (uint8_t *)&records->steps[patch->index] : (uint8_t *)&records->tensors[patch->index];
  const int32_t narrow = (int32_t)value;
  if (patch->bytes == 4 && narrow != value) return 0;
  if (patch->bytes == 4)
    memcpy(record + patch->field, &narrow, 4);
  else
    memcpy(record + patch->field, &value, 8);
  return 1;
}

/* What the dims say; a contradiction is left to the verifier. */
static void set_bytes(ez_tensor *t) {
  uint64_t rows = 1;
  for (int d = 0; d + 1 < t->rank && d < EZ_MAX_RANK; d++) rows *= (uint64_t)t->dims[d];
  const uint64_t columns = t->rank && t->rank <= EZ_MAX_RANK ? (uint64_t)t->dims[t->rank - 1] : 1;
  t->bytes = ((rows - 1) * (uint64_t)t->row_stride + columns) * ez_element_bytes(t->dtype);
}

static const ez_box *box_of(const ez_shapes *s, const int32_t *sizes) {
  for (uint32_t i = 0; i < s->head->n_boxes; i++) {
    const ez_box *b = &s->boxes[i];
    int inside = 1;
    for (uint32_t k = 0; k < s->head->n_symbols; k++) inside &= sizes[k] >= b->low[k] && sizes[k] <= b->high[k];
    if (inside) return b;
  }
  return NULL;
}

static ez_status check_sizes(const ez_program *p, const int32_t *sizes, ez_error *error) {
  for (uint32_t i = 0; i < p->shapes.head->n_symbols; i++) {
    const ez_symbol *y = &p->shapes.symbols[i];
    if (sizes[i] >= y->low && sizes[i] <= y->high && (sizes[i] - y->low) % y->step == 0) continue;
    if (error) {
      refuse(error, EZ_BAD_ARGUMENT, "sizes", "");
      snprintf(error->message, sizeof error->message, "%.*s must be %d to %d in steps of %d, got %d", (int)(y->name_bytes < 64 ? y->name_bytes : 64),
               p->strings + y->name_offset, y->low, y->high, y->step, sizes[i]);
    }
    return EZ_BAD_ARGUMENT;
  }
  return EZ_OK;
}

ez_status ez_records_make(ez_records *records, const ez_program *p, const int32_t *sizes, ez_program *view, ez_error *error) {
  const ez_shapes *s = &p->shapes;
  const ez_status status = check_sizes(p, sizes, error);
  if (status) return status;
  const ez_box *box = box_of(s, sizes);
  if (!box) BAD("boxes", "no variant serves these sizes");
  if (!evaluate_quantities(s, sizes, records->quantities)) BAD("derived", "a quantity is out of range");
  uint64_t step = 0, tensor = 0;
  const ez_patch *patch = s->patches;
  const ez_term *term = s->terms;
  for (uint32_t i = 0; i < box->variant; i++) {
    for (uint32_t k = 0; k < s->variants[i].n_patches; k++) term += (patch++)->n_terms;
    step += s->variants[i].n_steps, tensor += s->variants[i].n_tensors;
  }
  const ez_variant *v = &s->variants[box->variant];
  memcpy(records->steps, p->steps + step, v->n_steps * sizeof *records->steps);
  memcpy(records->tensors, p->tensors + tensor, v->n_tensors * sizeof *records->tensors);
  for (uint32_t k = 0; k < v->n_patches; k++, term += (patch++)->n_terms) {
    int64_t value;
    if (!sum_terms(term, patch->n_terms, records->quantities, &value) || !write_patch(patch, value, records)) BAD("patches", "a value is out of range");
  }
  for (uint32_t i = 0; i < v->n_tensors; i++) set_bytes(&records->tensors[i]);
  *view = *p;
  view->steps = records->steps;
  view->tensors = records->tensors;
  view->io = p->io + (uint64_t)box->variant * (p->n_inputs + p->n_outputs + p->header->n_states);
  view->n_steps = v->n_steps;
  view->n_tensors = v->n_tensors;
  return EZ_OK;
}
