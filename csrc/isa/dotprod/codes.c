/* One sdot for each four elements of four columns. */
#include <arm_neon.h>

#define CODES(name) name
typedef int32x4_t accumulator;
#define ADD_PRODUCTS(acc, w, x) ((acc) = vdotq_s32(acc, w, x))
#define SUM_OF(acc) (acc)

#include "isa/dotprod/dotprod.h"
#include "isa/neon/codes.inc"

const ez_codes_kernels ez_dotprod_codes = {.name = "dotprod", .most_uniform = 4, .most_codebook = 4, .gemv = gemv, .decode = decode, .add_block = add_block};
