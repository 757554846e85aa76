/* QEMU plugin: how often each block of guest instructions runs, by phase. A phase begins whenever the guest enters one of the
 * functions whose addresses are given, so the program that is counted needs no marks of its own.
 *
 *   qemu-aarch64 -plugin ./count_blocks.so,out=FILE,mark=401234,mark=405678 PROGRAM ...
 *
 * FILE is text:  phase ADDRESS     the entry that began what follows (0: the start of the program)
 *                BLOCK RUNS        of each block that ran in it
 *                block BLOCK ADDRESS CODE    of each block, at the end; CODE: its instructions as 8 hex digits each
 *
 * Exact for one guest thread: counters are raised without a lock by code that QEMU emits inline (overhead under 15 %). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_api.h"

#define EXPORT __attribute__((visibility("default")))
#define MOST_MARKS 16

typedef struct block {
  uint64_t runs, before; /* until now, and until the present phase began */
  uint64_t address;
  size_t count;
  uint32_t *code;
  struct block *older;
} block;

EXPORT int qemu_plugin_version = 1;
static FILE *out;
static block *newest;
static uint64_t marks[MOST_MARKS];
static int n_marks, n_blocks;

static void close_phase(void) {
  int number = n_blocks;
  for (block *b = newest; b; b = b->older) {
    number--;
    if (b->runs > b->before) fprintf(out, "%d %" PRIu64 "\n", number, b->runs - b->before);
    b->before = b->runs;
  }
}

static void enter_phase(unsigned cpu, void *address) {
  (void)cpu;
  close_phase();
  fprintf(out, "phase %" PRIx64 "\n", *(uint64_t *)address);
}

static void translated(qemu_id id, qemu_block *tb) {
  (void)id;
  block *b = calloc(1, sizeof *b);
  b->count = qemu_plugin_tb_n_insns(tb);
  b->address = qemu_plugin_tb_vaddr(tb);
  b->code = malloc(b->count * sizeof *b->code);
  for (size_t i = 0; i < b->count; i++) memcpy(&b->code[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
  b->older = newest;
  newest = b;
  n_blocks++;
  for (int i = 0; i < n_marks; i++)
    if (marks[i] == b->address) qemu_plugin_register_vcpu_tb_exec_cb(tb, enter_phase, QEMU_NO_REGISTERS, &marks[i]);
  qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_ADD_U64, &b->runs, 1);
}

static void ended(qemu_id id, void *context) {
  (void)id, (void)context;
  close_phase();
  int number = n_blocks;
  for (block *b = newest; b; b = b->older) {
    fprintf(out, "block %d %" PRIx64 " ", --number, b->address);
    for (size_t i = 0; i < b->count; i++) fprintf(out, "%08" PRIx32, b->code[i]);
    fputc('\n', out);
  }
  fclose(out);
}

EXPORT int qemu_plugin_install(qemu_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!strncmp(argv[i], "mark=", 5) && n_marks < MOST_MARKS) marks[n_marks++] = strtoull(argv[i] + 5, NULL, 16);
  }
  if (!out) {
    fprintf(stderr, "count_blocks: out=FILE is missing or cannot be written\n");
    return -1;
  }
  fprintf(out, "phase 0\n");
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
