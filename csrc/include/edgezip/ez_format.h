/* The .ez program file, format version 3: fixed-size little-endian records.
 *
 *   header | steps | tensors | io | strings | weights | metadata | vectors | shapes
 *
 * Sections follow each other in this order, each starts at the next multiple of 64 bytes, gaps are zero, the file ends with
 * the last section. Reserved fields are zero. So every bit of a file is either covered by a CRC-32 or known to be zero, and
 * a single flipped bit anywhere is refused. `edgezip/program.py` is the writer; a test holds both to the same offsets.
 *
 * io: u32 tensor index of each input and then of the input of each state, of each output and then of the output of each state, then the
 * initial value of each state (a constant) or EZ_ZEROS. A state is a graph input that the session owns: what the run left in the paired
 * graph output is there in the next run. Both have the same dtype, dims, scale and zero point. Counting from 0, the graph input or output
 * of state k is number n_inputs + k or n_outputs + k.
 * vectors: for each vector, for each input then each output: the bytes of the tensor, padded with zeros to 64. In a program with dynamic
 * shapes each vector begins with i32 sizes[EZ_MAX_SYMBOLS] and, for each of those arrays, u64 bytes, padded with zeros to 64.
 * shapes: empty, or what makes the records of any size (see ez_shapes_head). The program's steps and tensors are then those of all variants
 * one after another, and io holds one list a variant.
 * Names are ranges of the strings section (UTF-8, no terminator).
 */
#ifndef EDGEZIP_EZ_FORMAT_H
#define EDGEZIP_EZ_FORMAT_H

#include <stdint.h>

#define EZ_FORMAT_VERSION 3u
#define EZ_NUMERICS_EZN1 0x314e5a45u /* "EZN1" read as little-endian */
#define EZ_SECTION_ALIGN 64u
#define EZ_ARENA_ALIGN 64u
/* Kernels may read this many bytes past the end of an arena tensor or a packed weight tensor (never write). The planner
 * keeps that much room at the end of the arena, the writer keeps it at the end of the weights section. */
#define EZ_OVERREAD 64u
#define EZ_MAX_WAIT_US 1000000 /* spin_us and solo_us */
#define EZ_MAX_RANK 8
#define EZ_MAX_NAME 4096 /* bytes of a name */
#define EZ_MAX_STEP_INPUTS 8
#define EZ_MAX_STEP_OUTPUTS 4
#define EZ_ZEROS 0xffffffffu /* a state that starts as zeros (s8: as its zero point) */

#define EZ_MAX_SYMBOLS 2

enum { EZ_SECTION_STEPS, EZ_SECTION_TENSORS, EZ_SECTION_IO, EZ_SECTION_STRINGS, EZ_SECTION_WEIGHTS, EZ_SECTION_METADATA,
       EZ_SECTION_VECTORS, EZ_SECTION_SHAPES, EZ_SECTION_COUNT };

/* How int8 weights are packed. gemm: K4N16 = (N/16, K/4, 16, 4); K8N16 = (N/16, K/8, 16, 8), k fastest, N padded to 16 and
 * each span padded to 4 or 8 with zero weights. A span is a row of the kernel (kx outermost, then channels: kernel_w * C) when
 * groups and dilation_w are 1, else the C channels of one tap; K runs over spans (ky, or ky and kx) outermost. Depthwise: (C/16,
 * ceil(kernel_h/4), kernel_w, 16, 4) for K4N16, four vertical taps of a column together, or (C/16, ceil(kernel_w/4), 16, 4) when
 * kernel_h is 1, padded with zero weights; (C/16, taps, 16) for K8N16. Float: K1N16 = (N/16, K, 16), K = taps * C unpadded; depthwise float (C/16, taps, 16). */
enum { EZ_LAYOUT_K4N16 = 1, EZ_LAYOUT_K8N16 = 2 };

enum { EZ_DTYPE_F32 = 1, EZ_DTYPE_S8 = 2, EZ_DTYPE_U8 = 3, EZ_DTYPE_S32 = 4, EZ_DTYPE_S64 = 5, EZ_DTYPE_BOOL = 6 };
/* S8 is a quantised activation: logical s8, stored XOR act_sign (except graph inputs and outputs, and constant tensors of
 * raw bytes, which are U8). */

enum { EZ_IN_ARENA = 1, EZ_IN_WEIGHTS = 2, EZ_IN_INPUT = 3, EZ_IN_OUTPUT = 4 };

/* How the bytes of a constant are to be read. BLOCKS: packed int8 weights of a CONV or LINEAR step (u8, rank 1) without their empty groups; a
 * group is a k-step of the layout by the 16 outputs of a panel, 64 or 128 bytes. ez_blocks_head | u32 starts[panels + 1], of each panel's
 * groups | u16 index[groups], the k-step of each, ascending within a panel | zeros to a multiple of 64 | the groups themselves. */
enum { EZ_FORM_PLAIN = 0, EZ_FORM_BLOCKS = 1 };
#define EZ_MAX_BLOCK_STEPS 65536
#define EZ_MAX_EXPANDED (UINT64_C(1) << 30) /* bytes of the panels that blocks stand for */

/* Bits of ez_blocks_head.dense_on: ISAs on which the expanded panels are the faster ones (the target's break-even table knows). */
enum { EZ_ON_PORTABLE = 1, EZ_ON_AVX2 = 2, EZ_ON_AVXVNNI = 4, EZ_ON_AVX512VNNI = 8, EZ_ON_AVX512VBMI = 16, EZ_ON_AMX = 32, EZ_ON_NEON = 64,
       EZ_ON_DOTPROD = 128, EZ_ON_I8MM = 256, EZ_ON_ALL = 511 };

typedef struct ez_blocks_head { /* 64 bytes */
  uint32_t panels, steps; /* of a panel when nothing is missing, at most EZ_MAX_BLOCK_STEPS */
  uint32_t groups;        /* of all panels */
  uint32_t dense_on;
  uint32_t reserved[12];
} ez_blocks_head;

typedef struct ez_section {
  uint64_t offset;
  uint64_t bytes;
  uint32_t crc32; /* IEEE 802.3 (zlib) of the section's bytes */
  uint32_t reserved;
} ez_section;

typedef struct ez_header { /* 320 bytes */
  char magic[8];           /* "EDGEZIP" and 0x1a */
  uint32_t format_version;
  uint32_t numerics;
  uint32_t header_bytes;
  uint32_t layout;
  uint64_t file_bytes;
  uint64_t arena_bytes;   /* multiple of 64; includes EZ_OVERREAD at its end */
  uint64_t scratch_bytes; /* per thread, multiple of 64; what the steps need beside the arena */
  uint32_t act_sign;
  uint32_t n_steps, n_tensors, n_inputs, n_outputs, n_vectors; /* inputs and outputs that the caller gives: without those of states */
  uint32_t n_states, reserved0;
  ez_section sections[EZ_SECTION_COUNT];
  int32_t solo_us, spin_us; /* the target's, for sessions whose options leave them 0; the same convention: 0 the default, -1 none */
  uint32_t reserved[9];
  uint32_t crc32; /* of the 316 bytes before */
} ez_header;

typedef struct ez_tensor { /* 96 bytes */
  uint8_t dtype, place, rank, form; /* form: EZ_FORM_* */
  int32_t zero_point;
  float scale;
  int32_t row_stride; /* elements from one innermost row to the next, >= dims[rank-1]; larger in views (slices of a concat).
                         Row r starts at offset + r * row_stride * element size. rank 0: 1 */
  int32_t dims[EZ_MAX_RANK]; /* unused ones are 1 */
  uint64_t offset; /* arena: bytes from its start; weights: bytes from the section's start, multiple of 64;
                      input, output: index of the graph input or output */
  uint64_t bytes;  /* extent: ((rows - 1) * row_stride + dims[rank-1]) * element size */
  uint32_t name_offset, name_bytes;
  uint32_t reserved1[6];
} ez_tensor;

typedef struct ez_step { /* 320 bytes */
  uint16_t op;           /* EZ_OP_* */
  uint8_t n_inputs, n_outputs;
  uint32_t name_offset, name_bytes;
  uint32_t reserved;
  int32_t inputs[EZ_MAX_STEP_INPUTS];   /* tensor index, -1 = absent optional input */
  int32_t outputs[EZ_MAX_STEP_OUTPUTS];
  uint8_t params[256]; /* one of the structs below, rest zero */
} ez_step;

/* Section shapes: head | symbols | boxes | variants | derived | patches | terms, all 8-byte aligned, without gaps.
 *
 * A symbol is a dimension that is chosen when the session is resized: low, low + step, ..., high. A box (a range of each symbol; an absent
 * symbol is 0..0) says which variant serves it. A variant is a program of its own with its records as the largest size of its boxes has them;
 * patches turn them into those of another size: a field becomes the sum of coefficient * product of quantities. Quantities are the symbols
 * and then the derived ones, floor((multiply * source + add) / divide) of an earlier quantity. Bytes of tensors follow from their dims. */
typedef struct ez_shapes_head {
  uint32_t n_symbols, n_boxes, n_variants, n_derived, n_patches, n_terms;
  uint32_t reserved[2];
} ez_shapes_head;

typedef struct ez_symbol {
  uint32_t name_offset, name_bytes;
  int32_t low, high, step;
  uint16_t input, axis; /* the dimension of a graph input that shows its size */
} ez_symbol;

typedef struct ez_box {
  int32_t low[EZ_MAX_SYMBOLS], high[EZ_MAX_SYMBOLS];
  uint32_t variant, reserved;
} ez_box;

typedef struct ez_variant {
  uint32_t n_steps, n_tensors, n_patches; /* variants, steps, tensors and patches stand in the same order */
  uint32_t reserved;
} ez_variant;

typedef struct ez_derived {
  int32_t source; /* number of an earlier quantity */
  int32_t divide; /* at least 1 */
  int64_t multiply, add;
} ez_derived;

enum { EZ_PATCH_TENSOR = 1, EZ_PATCH_STEP = 2 };
typedef struct ez_patch {
  uint16_t kind;  /* EZ_PATCH_*: dims, row_stride or offset of a tensor; an integer of a step's params */
  uint16_t field; /* byte of the record */
  uint16_t bytes; /* 4 or 8 */
  uint16_t n_terms; /* patches and terms stand in the same order */
  uint32_t index; /* of the record in its variant */
  uint32_t reserved;
} ez_patch;

typedef struct ez_term {
  int64_t coefficient;
  int32_t factors[3]; /* numbers of quantities, -1 = none */
  uint32_t reserved;
} ez_term;

enum {
  EZ_OP_CONV = 1,      /* x, w, bias, [mult], [residual], [table] -> y      NHWC; also Gemm and MatMul with constant weights */
  EZ_OP_DEPTHWISE = 2, /* the same inputs; groups == channels == outputs */
  EZ_OP_BINARY = 3,    /* a, b -> y */
  EZ_OP_UNARY = 4,     /* x -> y                                             f32 */
  EZ_OP_TABLE = 5,     /* x, table -> y                                      s8, 256 stored bytes indexed by the stored byte */
  EZ_OP_POOL = 6,      /* x -> y                                             NHWC */
  EZ_OP_REDUCE = 7,    /* x -> y                                             (outer, n, inner) -> (outer, inner) */
  EZ_OP_SOFTMAX = 8,   /* x, [exp table f32 256] -> y                        last axis */
  EZ_OP_RESIZE = 9,    /* x, index_h s32 [2,OH], weight_h f32 [OH], index_w s32 [2,OW], weight_w f32 [OW] -> y   NHWC linear */
  EZ_OP_COPY = 10,     /* x -> y                                             strided copy with conversion */
  EZ_OP_GATHER = 11,   /* x, index s32|s64 -> y                              (outer, n, inner) by index -> (outer, m, inner) */
  EZ_OP_PRELU = 12,    /* x, slope f32 [C] (f32) | multipliers f32 [2, C]: positive, negative (s8) -> y   last axis */
  EZ_OP_WHERE = 13,    /* condition bool, a, b -> y                          same dtype and scale of a, b, y */
  EZ_OP_MATMUL = 14,   /* a, b -> y                                          two activations, batched; f32 or s8 */
  EZ_OP_NORM = 15,     /* x, scale f32 [C], [bias f32 [C]], [more] -> results  last axis; x and more f32 or s8 */
  EZ_OP_ATTENTION = 17,/* q, k, v, [mask f32] -> y                           softmax(factor * q k + mask) v, head by head */
  EZ_OP_LINEAR = 16,   /* x, w, bias, mult, addend -> y                      rows of x s8 or f32, y f32; no parameters */
  EZ_OP_RECURRENT = 20, /* gates, r, bias, [h0], [c0], [peephole], [lengths], [fold] -> y, h, [c]   all time steps of an RNN, GRU or LSTM */
  EZ_OP_INTEGER = 25,  /* a, b -> y                                          whole numbers, bits, comparisons; f32: powers and remainders */
  EZ_OP_MATH = 26,     /* x -> y                                             rare functions of f32 (through double), of whole numbers */
  EZ_OP_ARG = 27,      /* x -> y s64                                         where the extreme is: (outer, n, inner) -> (outer, inner) */
  EZ_OP_TAKE = 28,     /* x, index -> y                                      elements picked one by one */
  EZ_OP_SCATTER = 29,  /* x, index, updates -> y                             x with elements replaced or added to */
  EZ_OP_FOLD = 30,     /* x -> y                                             whole numbers, products: (outer, n, inner) -> (outer, inner) */
  EZ_OP_CUMULATE = 31, /* x -> y                                             running sums and products */
  EZ_OP_WINDOW = 32,   /* x -> y, [indices s64]                              pooling in plain order over up to three axes */
  EZ_OP_INTERPOLATE = 33, /* x, index s32 [m,taps], weight f32 [m,taps], base f32 [m] -> y   weighted sums along one axis */
  EZ_OP_GRID_SAMPLE = 34, /* x, grid -> y                                    plain order */
  EZ_OP_NMS = 35,      /* boxes, scores -> selected s64 [bound,3], count s64 [1] */
  EZ_OP_TOPK = 36,     /* x -> values, indices s64                           (outer, n, inner) -> (outer, k, inner) */
  EZ_OP_ROI_ALIGN = 37, /* x, rois f32 [R,4], batch s64 [R] -> y             plain order */
  EZ_OP_PLACES = 38,   /* condition bool [n] -> places s64 [n] or [rank,n], count s64 [1]   where it holds; 0 beyond the count */
  EZ_OP_UNIQUE = 39,   /* x -> first s64 [n], inverse s64 [n], counts s64 [n], count s64 [1]   different slices of (outer, n, inner) */
  EZ_OP_CODES = 40     /* x f32, codes, mult, addend -> y f32                 rows of x by weights of 4 or 2 bits with block scales */
};

/* Output pixel (i, j) of the out_h x out_w grid goes to (out_offset_h + i*out_step_h, out_offset_w + j*out_step_w) of y:
 * 1 and 0 for a convolution, the phase and the stride for the parts that a transposed convolution is made of.
 * Input row of tap ky at grid row i: i*stride_h - pad_top + ky*dilation_h; outside [0, H): the stored zero point of x.
 * groups > 1: weights are groups packed panels sets one after another, each N/groups outputs padded to 16; bias and mult
 * likewise hold groups * round_up(N/groups, 16) entries.
 * s8: bias is s32, already folded: bias32 - (zx + (act_sign ? 128 : 0)) * column_sum(w). mult f32: sx*sw/sy_mid.
 * f32: bias f32, no mult and no table, lo/hi are float_lo/float_hi; then act, affine, and y = clamp(value + residual, sum_lo, sum_hi),
 * where the residual lies apart from y.
 * Post-ops in this order: q = rne(clamp(acc * mult, lo - zero_point_mid, hi - zero_point_mid)) + zero_point_mid; q = table[q];
 * with a residual: y = add rule (a = q with zero_point_mid, scale_a; b = residual, scale_b; add_lo, add_hi, y's zero point).
 * With a table but no residual, table gives y. Without either, zero_point_mid is y's zero point.
 * With a table, zero_point_mid_out is the zero point of the table's result (else equal to zero_point_mid). */
typedef struct ez_conv_params {
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  int32_t out_h, out_w, out_offset_h, out_offset_w, out_step_h, out_step_w;
  int32_t groups;
  int32_t lo, hi; /* logical s8 clamp of the requantised value */
  int32_t zero_point_mid, zero_point_mid_out;
  float float_lo, float_hi; /* f32 only; -inf and +inf when there is no clamp */
  float scale_a, scale_b;   /* residual add: f32(s_mid_out/sy), f32(s_residual/sy) */
  int32_t add_lo, add_hi;
  int32_t small_sums; /* s8: 1 when for every input |sum| < 2^22 and |sum * mult| < 32512 in each output (sum: bias included,
                         before rounding): kernels may convert by adding 1.5 * 2^23. 0: nothing is known */
  int32_t act;           /* f32, as all that follow: 0, or EZ_UNARY_* of the clamped value, with act_alpha and act_beta */
  float act_alpha, act_beta;
  int32_t affine; /* 1: times `factor`, plus `shift`, each rounded */
  float factor, shift;
  float sum_lo, sum_hi; /* with a residual: its sum is clamped to them */
} ez_conv_params;

enum { EZ_BINARY_ADD = 1, EZ_BINARY_SUB, EZ_BINARY_MUL, EZ_BINARY_DIV, EZ_BINARY_MIN, EZ_BINARY_MAX, EZ_BINARY_EQUAL, EZ_BINARY_LESS,
       EZ_BINARY_LESS_EQUAL, EZ_BINARY_GREATER, EZ_BINARY_GREATER_EQUAL, EZ_BINARY_AND, EZ_BINARY_OR };
/* y has dims[0..rank) (y's own dims collapsed by the packer); stride in elements, 0 where broadcast. s8: see BRIEF rules; scale_a, scale_b
 * for add, sub, min, max and comparisons; scale_a alone is m for mul and div. Comparisons give bool. f32: lo/hi are the float ones. */
typedef struct ez_binary_params {
  int32_t kind, rank;
  int32_t dims[EZ_MAX_RANK], stride_a[EZ_MAX_RANK], stride_b[EZ_MAX_RANK], stride_y[EZ_MAX_RANK];
  float scale_a, scale_b;
  int32_t lo, hi;
  float float_lo, float_hi;
} ez_binary_params;

enum { EZ_UNARY_CLIP = 1, EZ_UNARY_SIGMOID, EZ_UNARY_TANH, EZ_UNARY_EXP, EZ_UNARY_ERF, EZ_UNARY_GELU, EZ_UNARY_SILU, EZ_UNARY_HARD_SIGMOID,
       EZ_UNARY_HARD_SWISH, EZ_UNARY_LEAKY_RELU, EZ_UNARY_ELU, EZ_UNARY_SQRT, EZ_UNARY_NEG, EZ_UNARY_ABS, EZ_UNARY_RECIPROCAL,
       EZ_UNARY_FLOOR, EZ_UNARY_CEIL, EZ_UNARY_SOFTPLUS, EZ_UNARY_NOT, EZ_UNARY_LOG,
       EZ_UNARY_GELU_TANH };
/* alpha, beta: Clip lo, hi (Relu = 0, +inf); HardSigmoid alpha, beta; LeakyRelu and Elu alpha. NOT is on bool. */
typedef struct ez_unary_params {
  int32_t kind;
  float alpha, beta;
} ez_unary_params;

enum { EZ_POOL_MAX = 1, EZ_POOL_AVERAGE = 2 };
typedef struct ez_pool_params {
  int32_t kind;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, pad_bottom, pad_right;
  int32_t count_include_pad;
  float scale; /* average s8: sx/sy; max needs x and y of one scale */
  int32_t lo, hi;
} ez_pool_params;

enum { EZ_REDUCE_MEAN = 1, EZ_REDUCE_SUM, EZ_REDUCE_MAX, EZ_REDUCE_MIN };
/* s8 mean and sum: t = f32(sum(x - zx)) [/ f32(n)] * scale. f32 with inner == 1: 16 partial sums and the tree; with inner > 1:
 * ascending n for every inner index; mean divides the sum by f32(n). Max and min: one scale. */
typedef struct ez_reduce_params {
  int32_t kind;
  int32_t outer, n, inner;
  float scale;
  int32_t lo, hi;
} ez_reduce_params;

/* scale: s8 output m = 1/sy */
typedef struct ez_softmax_params {
  float scale;
} ez_softmax_params;

/* Linear: rows r0 = index_h[0][i], r1 = index_h[1][i]; f32: top = x[r0][c0] + (x[r0][c1] - x[r0][c0]) * weight_w[j]; bottom the same in r1;
 * v = top + (bottom - top) * weight_h[i]. s8: x means f32(x - zx), then y = rne(clamp(v * scale, lo - zy, hi - zy)) + zy. */
typedef struct ez_resize_params {
  float scale;
  int32_t lo, hi;
} ez_resize_params;

/* BITS: the same bits as another type of their width, f32 and s32, u8 and s8 */
enum { EZ_CONVERT_NONE = 0, EZ_CONVERT_QUANTIZE = 1, EZ_CONVERT_DEQUANTIZE = 2, EZ_CONVERT_REQUANTIZE = 3, EZ_CONVERT_CAST = 4, EZ_CONVERT_BITS = 5 };
/* for every index of dims: y[y_offset + sum i*y_stride] = convert(x[x_offset + sum i*x_stride]). Offsets and strides in elements, strides may be
 * zero (expand) or negative (flip) for x; for y all positive. fill != 0: y is first filled with fill_value (s8: logical; f32: fill_float).
 * Quantize and dequantize use x's / y's own scale and zero point; requantize uses `scale` = sx/sy. CAST: between f32, s32, s64, u8, bool
 * (f32 -> integer truncates towards zero and saturates, NaN is 0; anything -> bool is != 0). */
typedef struct ez_copy_params {
  int32_t convert, rank;
  int32_t dims[EZ_MAX_RANK], x_stride[EZ_MAX_RANK], y_stride[EZ_MAX_RANK];
  int32_t fill, fill_value;
  float fill_float;
  float scale;
  int32_t lo, hi;
  int64_t x_offset, y_offset;
} ez_copy_params;

/* index may be negative (counted from n); out of range at run time: clamped to the ends, never out of bounds. */
typedef struct ez_gather_params {
  int32_t outer, n, inner, m;
} ez_gather_params;

/* s8: t = f32(x - zx) * (x < zx ? negative[c] : positive[c]), m already divided by sy. */
typedef struct ez_prelu_params {
  int32_t channels, lo, hi;
} ez_prelu_params;

typedef struct ez_where_params {
  int32_t rank;
  int32_t dims[EZ_MAX_RANK], stride_c[EZ_MAX_RANK], stride_a[EZ_MAX_RANK], stride_b[EZ_MAX_RANK], stride_y[EZ_MAX_RANK];
} ez_where_params;

/* y (M,N) = a (M,K) x b (K,N) for each of outer x inner matrices. Strides in elements: outer, inner, row, column (of b: k, n); 0 = shared;
 * columns of a and y lie side by side. s8: acc = sum (a-za)*(b-zb) exact s32, y s8 = rne(clamp(f32(acc) * scale, ...)) + zy, or
 * y f32 = f32(acc) * scale + 0. f32: fmaf chain ascending k, + 0. */
typedef struct ez_matmul_params {
  int32_t outer, inner, M, N, K;
  int32_t stride_a[EZ_MAX_RANK], stride_b[EZ_MAX_RANK], stride_y[EZ_MAX_RANK]; /* four each */
  float scale;
  int32_t lo, hi;
} ez_matmul_params;

/* EZ_OP_LINEAR: y[r][n] = (f32(acc) * s) * mult[n] + addend[n], each operation rounded on its own, for each row of the last axis.
 * x s8: acc = bias[n] + sum x_stored * w, as a convolution (bias folded), s = 1, mult = sx * sw.
 * x f32: rule 8: s = max|x| / 127 of the row (1 where that is 0), q = rne(x / s) in [-127, 127], stored q XOR act_sign multiplied; mult = sw;
 * bias = -(act_sign ? 128 : 0) * column_sum(w). w as for a 1x1 convolution; bias s32, mult and addend f32, N padded to 16. */

/* EZ_OP_CODES: y[r][n] = (v * s) * mult[n] + addend[n], each operation rounded on its own; q and s of a row as in EZ_OP_LINEAR. v starts at 0
 * and is fmaf(f32(sum over the block of q * table[code]), f32(scale of block and column), v) for each block of K, ascending.
 * codes u8: for each panel of 16 columns and each block of `block` elements of K (the last one padded): 16 scales (f16, not negative)
 * and then, for each 4 * (8 / bits) elements of K, 64 bytes: byte n * 4 + j holds in bits [bits * p, bits * (p + 1)) the code of element 4 * p + j
 * in column n. mult and addend f32, N padded to 16. table: entry of each code, -127 to 127; those beyond 2^bits are 0. */
typedef struct ez_codes_params {
  int32_t bits;  /* 4 or 2 */
  int32_t block; /* a multiple of 32, at most EZ_MOST_CODES_BLOCK */
  int32_t low[EZ_MAX_RANK], high[EZ_MAX_RANK]; /* table of codes 0-7 and 8-15 */
} ez_codes_params;
#define EZ_MOST_CODES_BLOCK 131072 /* 127 * 127 * this fits 32 bits */

/* For each of outer x inner heads: s (M,N) = q (M,K) x k (K,N) as in EZ_OP_MATMUL (s8 q and k: f32(acc) * scale_scores + 0, else float);
 * t = s * factor, or s / factor where divides is 1, then + mask (M,N); e = exp(t - max t) of each row, p = e * (1 / tree(e)).
 * v f32: y (M,D) = p x v in float. v s8: p is quantised with scale_p and zero_p, y as in EZ_OP_MATMUL with `scale`, s8 or f32.
 * Strides in elements, four each: outer, inner, row, column (of k: k, n; of v: n, d). Columns of q, y and mask lie side by side. */
typedef struct ez_attention_params {
  int32_t outer, inner, M, N, K, D;
  int32_t stride_q[EZ_MAX_RANK], stride_k[EZ_MAX_RANK], stride_v[EZ_MAX_RANK], stride_y[EZ_MAX_RANK], stride_mask[EZ_MAX_RANK];
  float scale_scores, factor;
  int32_t divides;
  float scale_p;
  int32_t zero_p;
  float scale;
  int32_t lo, hi;
} ez_attention_params;

enum { EZ_NORM_LAYER = 1, EZ_NORM_RMS = 2 };
enum { EZ_NORM_F32 = 1, EZ_NORM_S8 = 2, EZ_NORM_SUM = 4 };
/* Of each row s = x [+ more] (s8 operands dequantised first): layer: mean = tree(s) / n, d = s - mean; rms: d = s. Then
 * y = (d * (1 / sqrt(tree(d * d) / n + epsilon))) * scale [+ bias]. tree: 16 partial sums and the tree of rule 9.
 * `results` says which the step has, in this order: y in f32, y quantised, s (needs more) in f32. */
typedef struct ez_norm_params {
  int32_t kind, results;
  float epsilon;
} ez_norm_params;

enum { EZ_RECURRENT_RNN = 1, EZ_RECURRENT_GRU, EZ_RECURRENT_LSTM };
/* One layer over all of T steps, D directions, B sequences, H units; G gates are 1 (RNN), 3 (GRU: z, r, n) or 4 (LSTM: i, o, f, g).
 * gates f32 (T, B, D*G*H): the input's product with its weights and bias, made by a step before. r f32 K1N16 panels of H rows: for each
 * direction G*H columns; a GRU without linear_before_reset has 2*H columns and, from a panel of their own on, H more. bias f32: one for each
 * of these columns, padding included. r may be u8 bytes in the program's layout instead: then the state's rows are quantised at each step
 * (rule 8), bias is f32 (2, columns), addend and multiplier, and fold s32 holds for each column -(act_sign ? 128 : 0) * column_sum(r);
 * h.r is (f32(acc) * s) * multiplier + addend, each operation rounded on its own. h0, c0 f32 (D, B, H), absent: zeros. peephole f32 (D, 3, H): i, o, f. lengths s32 (B): steps of each
 * sequence, taken into [0, T]. y f32 (T, D, B, H), zero behind a sequence's end; h, c f32 (D, B, H): the state behind the last step, or
 * zero if there is none.
 * A step of one sequence, each operation rounded on its own, a float product h.r being one fma chain of ascending k, its bias added last:
 *   RNN  h = f(bound(h.r + gates))
 *   GRU  z, r = f(bound(h.r + gates)); n = g(bound(t + gates)), t = (r * h).r, or r * (h.r) with linear_before_reset; h = (1 - z) * n + z * h
 *   LSTM i, f = f(bound((h.r + gates) + peephole * c)); g = g(bound(h.r + gates)); c = f * c + i * g;
 *        o = f(bound((h.r + gates) + peephole * c)) of the new c; h = o * h(c). input_forget: f = 1 - i instead.
 * bound clamps to [-clip, clip]; the new c of an LSTM is clamped to [-cell_clip, cell_clip]. Direction 1, and with `reverse` direction 0, runs from a sequence's last step to its first. */
typedef struct ez_recurrent_params {
  int32_t kind, hidden, directions, reverse, linear_before_reset, input_forget;
  float clip, cell_clip;                                 /* infinite: none */
  int32_t activation[EZ_MAX_RANK];                       /* EZ_UNARY_* of f, g, h at 3 * direction: CLIP, SIGMOID, TANH, HARD_SIGMOID, LEAKY_RELU, ELU or SOFTPLUS */
  float alpha[EZ_MAX_RANK], beta[EZ_MAX_RANK];           /* theirs, as in ez_unary_params */
} ez_recurrent_params;

/* s32, s64 and u8 wrap; division and remainders by zero give 0; shifts of the width or more, or of negative widths, give 0 (-1 for negative numbers
 * to the right). Comparisons and XOR of bool give bool. f32: MOD, FMOD and POW only. */
enum { EZ_INTEGER_ADD = 1, EZ_INTEGER_SUB, EZ_INTEGER_MUL, EZ_INTEGER_DIV, EZ_INTEGER_MIN, EZ_INTEGER_MAX, EZ_INTEGER_EQUAL, EZ_INTEGER_LESS,
       EZ_INTEGER_LESS_EQUAL, EZ_INTEGER_GREATER, EZ_INTEGER_GREATER_EQUAL, EZ_INTEGER_AND, EZ_INTEGER_OR, EZ_INTEGER_XOR, EZ_INTEGER_MOD,
       EZ_INTEGER_FMOD, EZ_INTEGER_SHIFT_LEFT, EZ_INTEGER_SHIFT_RIGHT, EZ_INTEGER_POW };
typedef struct ez_integer_params {
  int32_t kind, rank;
  int32_t dims[EZ_MAX_RANK], stride_a[EZ_MAX_RANK], stride_b[EZ_MAX_RANK], stride_y[EZ_MAX_RANK];
} ez_integer_params;

/* ABS, NEG, SIGN and BIT_NOT also of s32, s64 and u8; IS_NAN and IS_INF give bool (alpha, beta of IS_INF: negative, positive count).
 * alpha, beta: SELU alpha, gamma; CELU and THRESHOLDED alpha; SHRINK bias, lambda. */
enum { EZ_MATH_SIN = 1, EZ_MATH_COS, EZ_MATH_TAN, EZ_MATH_ASIN, EZ_MATH_ACOS, EZ_MATH_ATAN, EZ_MATH_SINH, EZ_MATH_COSH, EZ_MATH_ASINH,
       EZ_MATH_ACOSH, EZ_MATH_ATANH, EZ_MATH_ROUND, EZ_MATH_SIGN, EZ_MATH_SELU, EZ_MATH_CELU, EZ_MATH_THRESHOLDED, EZ_MATH_SOFTSIGN,
       EZ_MATH_MISH, EZ_MATH_SHRINK, EZ_MATH_IS_NAN, EZ_MATH_IS_INF, EZ_MATH_ABS, EZ_MATH_NEG, EZ_MATH_BIT_NOT };
typedef struct ez_math_params {
  int32_t kind;
  float alpha, beta;
} ez_math_params;

/* The first of equal extremes, or the last. A NaN is never an extreme unless it is the first element. */
typedef struct ez_arg_params {
  int32_t kind; /* EZ_REDUCE_MAX or EZ_REDUCE_MIN */
  int32_t outer, n, inner, last;
} ez_arg_params;

/* axis >= 0: index has dims[rank]; its element at i stands for x at i with i[axis] replaced by it (strides of x; extents[axis]).
 * axis -1: rows of `depth` numbers, each names `inner` elements at batch * batch_stride + sum of number * strides (extents bound
 * them); batch = row / batch_rows. Negative numbers count from the end; those out of range are clamped. */
enum { EZ_SCATTER_SET = 0, EZ_SCATTER_ADD, EZ_SCATTER_MUL, EZ_SCATTER_MIN, EZ_SCATTER_MAX };
typedef struct ez_indexed_params {
  int32_t axis, rank, depth, rows, inner, batch_rows, batch_stride, reduction;
  int32_t dims[EZ_MAX_RANK], extents[EZ_MAX_RANK], strides[EZ_MAX_RANK];
} ez_indexed_params;
typedef ez_indexed_params ez_take_params, ez_scatter_params;

enum { EZ_FOLD_SUM = 1, EZ_FOLD_PRODUCT, EZ_FOLD_MAX, EZ_FOLD_MIN };
typedef struct ez_fold_params {
  int32_t kind, outer, n, inner;
} ez_fold_params;

typedef struct ez_cumulate_params {
  int32_t kind; /* EZ_FOLD_SUM or EZ_FOLD_PRODUCT */
  int32_t outer, n, inner, exclusive, reverse;
} ez_cumulate_params;

/* x (planes, in[3]) -> y (planes, out[3]). AVERAGE divides by the positions inside x, or with include by those inside x and its pads. */
enum { EZ_WINDOW_MAX = 1, EZ_WINDOW_AVERAGE, EZ_WINDOW_LP };
typedef struct ez_window_params {
  int32_t kind, planes, power, include, column_major;
  union { int32_t in[3]; struct { int32_t in_d, in_h, in_w; }; };
  union { int32_t out[3]; struct { int32_t out_d, out_h, out_w; }; };
  union { int32_t kernel[3]; struct { int32_t kernel_d, kernel_h, kernel_w; }; };
  union { int32_t stride[3]; struct { int32_t stride_d, stride_h, stride_w; }; };
  union { int32_t dilation[3]; struct { int32_t dilation_d, dilation_h, dilation_w; }; };
  union { int32_t pad[3]; struct { int32_t pad_d, pad_h, pad_w; }; };
  union { int32_t pad_end[3]; struct { int32_t pad_end_d, pad_end_h, pad_end_w; }; };
} ez_window_params;

/* y[o][j][i] = base[j] + sum over t, ascending, of weight[j][t] * x[o][index[j][t]][i]; f32, no fma. Terms of weight 0 are left out. */
typedef struct ez_interpolate_params {
  int32_t outer, n, inner, m, taps;
} ez_interpolate_params;

enum { EZ_SAMPLE_LINEAR = 1, EZ_SAMPLE_NEAREST, EZ_SAMPLE_CUBIC };
enum { EZ_BORDER_ZEROS = 1, EZ_BORDER_EDGE, EZ_BORDER_REFLECTION };
/* x (batch, channels, in[3]), grid (batch, points, axes) with the coordinate of the last axis first; axes 2 (in[0] = 1) or 3. */
typedef struct ez_grid_sample_params {
  int32_t mode, border, align, batch, channels, axes, points;
  union { int32_t in[3]; struct { int32_t in_d, in_h, in_w; }; };
} ez_grid_sample_params;

/* boxes (batch, boxes, 4), scores (batch, classes, boxes); rows beyond the count are -1. */
typedef struct ez_nms_params {
  int32_t batch, boxes, classes, bound, most, center;
  float iou, score; /* score: -inf when there is no threshold */
} ez_nms_params;

typedef struct ez_topk_params {
  int32_t outer, n, inner, k, largest;
} ez_topk_params;

typedef struct ez_roi_align_params {
  int32_t batch, channels, height, width, rois, out_h, out_w, sampling, is_max;
  float scale, offset;
} ez_roi_align_params;

/* rank 0: one list of places; else a row for each axis of `dims`, whose product is n. */
typedef struct ez_places_params {
  int32_t n, rank;
  int32_t dims[EZ_MAX_RANK];
} ez_places_params;

/* sorted: slices in ascending order, else in that of their first occurrence; entries of `first` and `counts` beyond the count are 0. */
typedef struct ez_unique_params {
  int32_t outer, n, inner, sorted;
} ez_unique_params;

#endif
