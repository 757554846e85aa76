/* Products of bytes widen to 16 bits and are added in pairs. */
#include <arm_neon.h>

#define CODES(name) name
typedef int32x4x2_t accumulator; /* two sums a column, which lie side by side */
#define ADD_PRODUCTS(acc, w, x) add_products(&(acc), w, x)
#define SUM_OF(acc) vpaddq_s32((acc).val[0], (acc).val[1])

static inline __attribute__((always_inline)) void add_products(accumulator *acc, int8x16_t w, int8x16_t x) {
  acc->val[0] = vpadalq_s16(acc->val[0], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
  acc->val[1] = vpadalq_s16(acc->val[1], vmull_high_s8(w, x));
}

#include "isa/neon/codes.inc"
#include "isa/neon/neon.h"

const ez_codes_kernels ez_neon_codes = {.name = "neon", .most_uniform = 4, .most_codebook = 4, .gemv = gemv, .decode = decode, .add_block = add_block};
