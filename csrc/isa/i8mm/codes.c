/* smmla would need two rows; a row or two are a matter of reading, so the dot product serves. */
#include <arm_neon.h>

#define CODES(name) name
typedef int32x4_t accumulator;
#define ADD_PRODUCTS(acc, w, x) ((acc) = vdotq_s32(acc, w, x))
#define SUM_OF(acc) (acc)

#include "isa/neon/codes.inc"

extern const ez_codes_kernels ez_i8mm_codes;
const ez_codes_kernels ez_i8mm_codes = {.name = "i8mm", .most_uniform = 4, .most_codebook = 4, .gemv = gemv, .decode = decode, .add_block = add_block};
