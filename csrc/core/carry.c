#include "core/carry.h"

#include <stdlib.h>
#include <string.h>

const ez_tensor *ez_carry_tensor(const ez_program *p, uint32_t index) {
  return index < p->header->n_states ? &p->tensors[p->io[p->header->n_inputs + index]] : NULL;
}

/* Kernels may read EZ_OVERREAD bytes past a tensor. */
static uint64_t room_of(const ez_tensor *t) { return ez_round_64(t->bytes) + EZ_OVERREAD; }

int ez_carry_create(ez_carry *carry, const ez_program *p) {
  const uint32_t n = p->header->n_states;
  uint64_t bytes = 0;
  if (!n) return 1;
  for (uint32_t k = 0; k < n; k++) bytes += 2 * room_of(ez_carry_tensor(p, k));
  carry->states = calloc(n, sizeof *carry->states);
  if (!carry->states || !ez_block_create(&carry->memory, bytes)) return 0;
  uint8_t *at = carry->memory.bytes;
  for (uint32_t k = 0; k < n; k++) {
    const uint64_t room = room_of(ez_carry_tensor(p, k));
    carry->states[k] = (ez_carried){.now = at, .next = at + room, .bytes = ez_carry_tensor(p, k)->bytes};
    at += 2 * room;
  }
  ez_carry_reset(carry, p);
  return 1;
}

void ez_carry_destroy(ez_carry *carry) {
  free(carry->states);
  ez_block_destroy(&carry->memory);
}

int ez_carry_fits(const ez_carry *carry, const ez_program *p) {
  for (uint32_t k = 0; k < p->header->n_states; k++)
    if (ez_carry_tensor(p, k)->bytes != carry->states[k].bytes) return 0;
  return 1;
}

void ez_carry_reset(ez_carry *carry, const ez_program *p) {
  for (uint32_t k = 0; k < p->header->n_states; k++) {
    const ez_tensor *t = ez_carry_tensor(p, k);
    const uint32_t initial = p->io[p->n_inputs + p->n_outputs + k];
    uint8_t *now = carry->states[k].now;
    if (initial == EZ_ZEROS) {
      memset(now, t->dtype == EZ_DTYPE_S8 ? (uint8_t)t->zero_point : 0, t->bytes);
      continue;
    }
    const uint8_t *given = p->weights + p->tensors[initial].offset;
    const uint8_t sign = t->dtype == EZ_DTYPE_S8 ? (uint8_t)p->header->act_sign : 0; /* constants carry it, graph inputs do not */
    for (uint64_t i = 0; i < t->bytes; i++) now[i] = given[i] ^ sign;
  }
}

void ez_carry_turn(ez_carry *carry, const ez_program *p) {
  for (uint32_t k = 0; k < p->header->n_states; k++) {
    ez_carried *state = &carry->states[k];
    *state = (ez_carried){.now = state->next, .next = state->now, .bytes = state->bytes};
  }
}
