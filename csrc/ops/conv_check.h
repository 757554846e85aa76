/* The proof that conv and depthwise share: geometry, places, sizes. */
#ifndef EDGEZIP_CONV_CHECK_H
#define EDGEZIP_CONV_CHECK_H

#include "ops/op.h"

/* Proves everything but the sizes of weights and bias. */
ez_status ez_check_conv_geometry(ez_check *check);
/* Bias, multipliers, residual and table, given the number of padded outputs. */
ez_status ez_check_conv_operands(ez_check *check, uint64_t padded_outputs);
int ez_conv_has_residual(const ez_step *step);
int ez_conv_has_post_ops(const ez_step *step); /* residual or table */

#endif
