/* The few functions of QEMU's TCG plugin interface that count_blocks.c calls. Debian's qemu-user ships no header, so they are
 * declared here: version 1 of the interface, which QEMU 6.0 to 8.x speak. */
#ifndef QEMU_API_H
#define QEMU_API_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t qemu_id;
typedef struct qemu_plugin_tb qemu_block;     /* a run of guest instructions that QEMU translates as one */
typedef struct qemu_plugin_insn qemu_instruction;
enum { QEMU_NO_REGISTERS = 0, QEMU_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_id id, void (*translated)(qemu_id id, qemu_block *block));
void qemu_plugin_register_vcpu_tb_exec_cb(qemu_block *block, void (*entered)(unsigned cpu, void *context), int registers, void *context);
void qemu_plugin_register_vcpu_tb_exec_inline(qemu_block *block, int operation, void *counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(qemu_id id, void (*ended)(qemu_id id, void *context), void *context);
size_t qemu_plugin_tb_n_insns(const qemu_block *block);
uint64_t qemu_plugin_tb_vaddr(const qemu_block *block);
qemu_instruction *qemu_plugin_tb_get_insn(const qemu_block *block, size_t index);
const void *qemu_plugin_insn_data(const qemu_instruction *instruction);

#endif
