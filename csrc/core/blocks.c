#include "core/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "core/program.h"

#define MOST_BYTES (2 * EZ_MAX_EXPANDED) /* of all expansions of a session */
#define W 1                              /* input of a CONV or LINEAR step */

static uint64_t group_bytes(uint32_t layout) { return layout == EZ_LAYOUT_K8N16 ? 128 : 64; }

/* Bytes before the groups themselves. */
static uint64_t lists_bytes(uint64_t panels, uint64_t groups) { return ez_round_64(sizeof(ez_blocks_head) + (panels + 1) * 4 + groups * 2); }

ez_blocks ez_blocks_of(const ez_blocks_head *head) {
  const uint8_t *base = (const uint8_t *)head;
  ez_blocks b = {.head = head, .starts = (const uint32_t *)(const void *)(head + 1)};
  b.index = (const uint16_t *)(const void *)(b.starts + head->panels + 1);
  b.values = (const int8_t *)(base + lists_bytes(head->panels, head->groups));
  return b;
}

#define FAIL(...) return ez_check_fail(check, tensor, "blocks", __VA_ARGS__)

static ez_status check_head(ez_check *check, int32_t tensor, const ez_blocks_head *head, uint64_t panels, uint64_t steps) {
  const ez_tensor *t = &check->tensors[tensor];
  if (head->panels != panels || head->steps != steps)
    FAIL("expected %llu panels of %llu steps, got %u of %u", (unsigned long long)panels, (unsigned long long)steps, head->panels, head->steps);
  if (steps > EZ_MAX_BLOCK_STEPS) FAIL("more than %d steps", EZ_MAX_BLOCK_STEPS);
  if (panels * steps > EZ_MAX_EXPANDED / group_bytes(check->header->layout)) FAIL("would be more than 2^30 bytes of panels");
  if (head->dense_on & ~(uint32_t)EZ_ON_ALL || !ez_all_zero(head->reserved, sizeof head->reserved)) FAIL("unknown ISA, or a reserved field is not zero");
  if (head->groups > panels * steps) FAIL("%u groups are more than there can be", head->groups);
  const uint64_t bytes = lists_bytes(panels, head->groups) + head->groups * group_bytes(check->header->layout);
  if (t->bytes != bytes) FAIL("%u groups take %llu bytes, got %llu", head->groups, (unsigned long long)bytes, (unsigned long long)t->bytes);
  return EZ_OK;
}

static ez_status check_lists(ez_check *check, int32_t tensor, const ez_blocks *b) {
  const uint32_t panels = b->head->panels, groups = b->head->groups;
  if (b->starts[0] || b->starts[panels] != groups) FAIL("the panels' groups begin at %u and end at %u of %u", b->starts[0], b->starts[panels], groups);
  for (uint32_t p = 0; p < panels; p++) {
    const uint32_t first = b->starts[p], end = b->starts[p + 1];
    if (first > end || end > groups) FAIL("groups %u to %u of panel %u are no range", first, end, p);
    for (uint32_t i = first; i < end; i++)
      if (b->index[i] >= b->head->steps || (i > first && b->index[i] <= b->index[i - 1])) FAIL("step %u of panel %u is out of range or order", b->index[i], p);
  }
  const uint8_t *gap = (const uint8_t *)(b->index + groups);
  if (!ez_all_zero(gap, (uint64_t)((const uint8_t *)b->values - gap))) FAIL("gap before the groups is not zero");
  return EZ_OK;
}

ez_status ez_check_blocks(ez_check *check, int which, uint64_t panels, uint64_t steps) {
  const int32_t tensor = check->step->inputs[which];
  const ez_tensor *t = &check->tensors[tensor];
  if (t->place != EZ_IN_WEIGHTS || t->dtype != EZ_DTYPE_U8 || t->rank != 1 || t->bytes < sizeof(ez_blocks_head)) FAIL("are too short for their head");
  const uint8_t *base = check->weights ? check->weights + t->offset : check->data[tensor];
  const ez_blocks_head *head = (const ez_blocks_head *)(const void *)base;
  const ez_status status = check_head(check, tensor, head, panels, steps);
  if (status) return status;
  const ez_blocks b = ez_blocks_of(head);
  return check_lists(check, tensor, &b);
}

static uint32_t bit_of(const char *isa) {
  static const char *const names[] = {"portable", "avx2", "avxvnni", "avx512vnni", "avx512vbmi", "amx", "neon", "dotprod", "i8mm"};
  for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(isa, names[i])) return 1u << i;
  return 0;
}

int ez_blocks_serve(const ez_blocks_head *head, const ez_kernels *kernels) {
  return kernels->gemm_s8->blocks_s8 && !(head->dense_on & bit_of(kernels->gemm_s8->name));
}

const ez_blocks_head *ez_blocks_of_step(const ez_step *step, const ez_tensor *tensors, const uint8_t *weights, uint8_t *const *data,
                                        const ez_kernels *kernels) {
  if ((step->op != EZ_OP_CONV && step->op != EZ_OP_LINEAR) || tensors[step->inputs[W]].form != EZ_FORM_BLOCKS) return NULL;
  const uint8_t *base = weights ? weights + tensors[step->inputs[W]].offset : data[step->inputs[W]];
  const ez_blocks_head *head = (const ez_blocks_head *)(const void *)base;
  return ez_blocks_serve(head, kernels) ? head : NULL;
}

double ez_blocks_share(const ez_blocks_head *head) { return head ? (double)head->groups / ((double)head->panels * head->steps) : 1; }

typedef struct ez_expansion {
  struct ez_expansion *next;
  uint64_t offset;
  ez_block panels;
} ez_expansion;

static void put_groups(const ez_blocks *b, size_t size, uint8_t *out) {
  for (uint32_t p = 0; p < b->head->panels; p++, out += b->head->steps * size)
    for (uint32_t i = b->starts[p]; i < b->starts[p + 1]; i++) memcpy(out + b->index[i] * size, b->values + i * size, size);
}

uint8_t *ez_expand(ez_expanded *expanded, uint64_t offset, const ez_blocks_head *head, uint32_t layout) {
  for (ez_expansion *e = expanded->list; e; e = e->next)
    if (e->offset == offset) return e->panels.bytes;
  const ez_blocks b = ez_blocks_of(head);
  const uint64_t bytes = (uint64_t)head->panels * head->steps * group_bytes(layout);
  ez_expansion *made = bytes <= MOST_BYTES - expanded->bytes ? calloc(1, sizeof *made) : NULL;
  if (!made) return NULL;
  if (!ez_block_create(&made->panels, (size_t)bytes + EZ_OVERREAD)) {
    free(made);
    return NULL;
  }
  put_groups(&b, (size_t)group_bytes(layout), made->panels.bytes);
  made->offset = offset, made->next = expanded->list;
  expanded->list = made, expanded->bytes += bytes;
  return made->panels.bytes;
}

void ez_expanded_destroy(ez_expanded *expanded) {
  for (ez_expansion *e = expanded->list, *next; e; e = next) {
    next = e->next;
    ez_block_destroy(&e->panels);
    free(e);
  }
  expanded->list = NULL;
}
