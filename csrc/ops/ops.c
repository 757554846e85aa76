/* The list of operators. */
#include "ops/op.h"

extern const ez_op ez_op_conv, ez_op_depthwise, ez_op_binary, ez_op_unary, ez_op_table, ez_op_pool, ez_op_reduce, ez_op_softmax, ez_op_resize,
    ez_op_copy, ez_op_gather, ez_op_prelu, ez_op_where, ez_op_matmul, ez_op_norm, ez_op_recurrent,
    ez_op_linear, ez_op_attention;

static const ez_op *const ops[] = {
    [EZ_OP_CONV] = &ez_op_conv,       [EZ_OP_DEPTHWISE] = &ez_op_depthwise, [EZ_OP_BINARY] = &ez_op_binary, [EZ_OP_UNARY] = &ez_op_unary,
    [EZ_OP_TABLE] = &ez_op_table,     [EZ_OP_POOL] = &ez_op_pool,           [EZ_OP_REDUCE] = &ez_op_reduce, [EZ_OP_SOFTMAX] = &ez_op_softmax,
    [EZ_OP_RESIZE] = &ez_op_resize,   [EZ_OP_COPY] = &ez_op_copy,           [EZ_OP_GATHER] = &ez_op_gather, [EZ_OP_PRELU] = &ez_op_prelu,
    [EZ_OP_WHERE] = &ez_op_where,     [EZ_OP_MATMUL] = &ez_op_matmul,       [EZ_OP_NORM] = &ez_op_norm,
    [EZ_OP_RECURRENT] = &ez_op_recurrent,
    [EZ_OP_LINEAR] = &ez_op_linear,
    [EZ_OP_ATTENTION] = &ez_op_attention,
};

const ez_op *ez_op_find(uint16_t opcode) { return opcode < sizeof ops / sizeof *ops ? ops[opcode] : NULL; }
