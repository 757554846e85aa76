#include "isa/portable/portable.h"

#include "isa/depthwise_f32.inc"

void ez_portable_depthwise_f32(const ez_depthwise_f32_args *args) { depthwise_f32(args); }
