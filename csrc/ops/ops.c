/* The list of operators. */
#include "ops/op.h"

extern const ez_op ez_op_conv, ez_op_depthwise, ez_op_binary, ez_op_unary, ez_op_table, ez_op_pool, ez_op_reduce, ez_op_softmax, ez_op_resize,
    ez_op_copy, ez_op_gather, ez_op_prelu, ez_op_where, ez_op_matmul, ez_op_norm, ez_op_recurrent,
    ez_op_linear, ez_op_attention, ez_op_integer, ez_op_math, ez_op_arg, ez_op_take, ez_op_scatter, ez_op_fold, ez_op_cumulate,
    ez_op_window, ez_op_interpolate, ez_op_grid_sample, ez_op_nms, ez_op_topk, ez_op_roi_align, ez_op_places, ez_op_unique, ez_op_codes;

static const ez_op *const ops[] = {
    [EZ_OP_CONV] = &ez_op_conv,       [EZ_OP_DEPTHWISE] = &ez_op_depthwise, [EZ_OP_BINARY] = &ez_op_binary, [EZ_OP_UNARY] = &ez_op_unary,
    [EZ_OP_TABLE] = &ez_op_table,     [EZ_OP_POOL] = &ez_op_pool,           [EZ_OP_REDUCE] = &ez_op_reduce, [EZ_OP_SOFTMAX] = &ez_op_softmax,
    [EZ_OP_RESIZE] = &ez_op_resize,   [EZ_OP_COPY] = &ez_op_copy,           [EZ_OP_GATHER] = &ez_op_gather, [EZ_OP_PRELU] = &ez_op_prelu,
    [EZ_OP_WHERE] = &ez_op_where,     [EZ_OP_MATMUL] = &ez_op_matmul,       [EZ_OP_NORM] = &ez_op_norm,
    [EZ_OP_RECURRENT] = &ez_op_recurrent,
    [EZ_OP_LINEAR] = &ez_op_linear,
    [EZ_OP_ATTENTION] = &ez_op_attention,
    [EZ_OP_INTEGER] = &ez_op_integer, [EZ_OP_MATH] = &ez_op_math,           [EZ_OP_ARG] = &ez_op_arg,       [EZ_OP_TAKE] = &ez_op_take,
    [EZ_OP_SCATTER] = &ez_op_scatter, [EZ_OP_FOLD] = &ez_op_fold,           [EZ_OP_CUMULATE] = &ez_op_cumulate,
    [EZ_OP_WINDOW] = &ez_op_window,   [EZ_OP_INTERPOLATE] = &ez_op_interpolate, [EZ_OP_GRID_SAMPLE] = &ez_op_grid_sample,
    [EZ_OP_NMS] = &ez_op_nms,         [EZ_OP_TOPK] = &ez_op_topk,           [EZ_OP_ROI_ALIGN] = &ez_op_roi_align,
    [EZ_OP_PLACES] = &ez_op_places,   [EZ_OP_UNIQUE] = &ez_op_unique,
    [EZ_OP_CODES] = &ez_op_codes,
};

const ez_op *ez_op_find(uint16_t opcode) { return opcode < sizeof ops / sizeof *ops ? ops[opcode] : NULL; }
