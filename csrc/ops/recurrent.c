/* RNN, GRU and LSTM: the products of the state and the cells, step by step. The input's product stands before it as one product over
 * all steps. Directions and groups of sequences are independent, so threads share those. */
#include <math.h>
#include <string.h>

#include "ops/operands.h"
#include "ops/recurrent_cells.h"

#define MOST_ROWS 16 /* sequences that share one reading of the weights */

enum { GATES, R, BIAS, H0, C0, PEEPHOLE, LENGTHS, FOLD, INPUTS };
enum { Y, H, C };

#define FAIL(tensor, field, ...) return ez_check_fail(check, tensor, field, __VA_ARGS__)
#define TRY(call)                  \
  do {                             \
    const ez_status status = call; \
    if (status) return status;     \
  } while (0)

static int32_t gates_of(const ez_recurrent_params *p) { return p->kind == EZ_RECURRENT_LSTM ? 4 : p->kind == EZ_RECURRENT_GRU ? 3 : 1; }

/* Columns that one reading of the state serves, each part from a panel of its own on. */
typedef struct parts {
  int32_t count, columns[2], panels[2];
} parts;

static parts parts_of(const ez_recurrent_params *p) {
  const int is_two = p->kind == EZ_RECURRENT_GRU && !p->linear_before_reset;
  parts found = {.count = is_two ? 2 : 1, .columns = {is_two ? 2 * p->hidden : gates_of(p) * p->hidden, is_two ? p->hidden : 0}};
  for (int i = 0; i < 2; i++) found.panels[i] = (found.columns[i] + 15) / 16;
  return found;
}

/* --- check ----------------------------------------------------------------------------------------------------------------- */

static ez_status check_activations(ez_check *check, const ez_recurrent_params *p) {
  const int used = p->kind == EZ_RECURRENT_LSTM ? 3 : p->kind == EZ_RECURRENT_GRU ? 2 : 1;
  for (int i = 0; i < p->directions * EZ_CELL_ACTIVATIONS; i++) {
    if (i % EZ_CELL_ACTIVATIONS >= used) continue;
    switch (p->activation[i]) {
      case EZ_UNARY_CLIP:
      case EZ_UNARY_SIGMOID:
      case EZ_UNARY_TANH:
      case EZ_UNARY_HARD_SIGMOID:
      case EZ_UNARY_LEAKY_RELU:
      case EZ_UNARY_ELU:
      case EZ_UNARY_SOFTPLUS: break;
      default: FAIL(-1, "activation", "unknown function %d", p->activation[i]);
    }
    if (isnan(p->alpha[i]) || isnan(p->beta[i])) FAIL(-1, "alpha", "is not a number");
  }
  return EZ_OK;
}

static ez_status check_params(ez_check *check, const ez_recurrent_params *p) {
  if (p->kind < EZ_RECURRENT_RNN || p->kind > EZ_RECURRENT_LSTM) FAIL(-1, "kind", "unknown kind %d", p->kind);
  if (p->hidden < 1 || p->hidden > 1 << 16) FAIL(-1, "hidden", "expected 1 to 2^16, got %d", p->hidden);
  if (p->directions < 1 || p->directions > 2) FAIL(-1, "directions", "expected 1 or 2, got %d", p->directions);
  if ((p->reverse & ~1) || (p->reverse && p->directions == 2)) FAIL(-1, "reverse", "is %d", p->reverse);
  if ((p->linear_before_reset & ~1) || (p->input_forget & ~1)) FAIL(-1, "linear_before_reset", "is not 0 or 1");
  if (!(p->cell_clip > 0)) FAIL(-1, "cell_clip", "expected a positive number, got %g", (double)p->cell_clip);
  if (!(p->clip > 0)) FAIL(-1, "clip", "expected a positive number, got %g", (double)p->clip);
  return check_activations(check, p);
}

/* An optional f32 operand anywhere. */
static ez_status check_floats(ez_check *check, int which, int64_t elements) {
  if (!ez_input_of(check, which)) return EZ_OK;
  TRY(ez_check_dtype(check, check->step->inputs[which], EZ_DTYPE_F32));
  return ez_check_elements(check, check->step->inputs[which], elements);
}

static ez_status check_lengths(ez_check *check, int32_t batch) {
  if (!ez_input_of(check, LENGTHS)) return EZ_OK;
  TRY(ez_check_dtype(check, check->step->inputs[LENGTHS], EZ_DTYPE_S32));
  return ez_check_elements(check, check->step->inputs[LENGTHS], batch);
}

static ez_status check_results(ez_check *check, const ez_recurrent_params *p, int32_t steps, int32_t batch) {
  const ez_step *s = check->step;
  const int wanted = p->kind == EZ_RECURRENT_LSTM ? 3 : 2;
  if (s->n_outputs != wanted) FAIL(-1, "n_outputs", "expected %d, got %d", wanted, s->n_outputs);
  const int64_t state = (int64_t)p->directions * batch * p->hidden;
  for (int i = 0; i < wanted; i++) {
    TRY(ez_check_dtype(check, s->outputs[i], EZ_DTYPE_F32));
    TRY(ez_check_elements(check, s->outputs[i], i == Y ? state * steps : state));
  }
  return EZ_OK;
}

static uint64_t pitch_of(int32_t hidden) { return ((uint64_t)hidden + 63) / 64 * 64 + EZ_OVERREAD; } /* bytes of a quantised state */

static size_t panel_bytes(int32_t hidden, uint32_t layout) {
  const size_t step = layout == EZ_LAYOUT_K8N16 ? 8 : 4;
  return ((size_t)hidden + step - 1) / step * step * 16;
}

/* Float panels, or int8 ones with what their product needs besides. `columns` of all directions, padding included. */
static ez_status check_weights(ez_check *check, const ez_recurrent_params *p, int64_t columns) {
  const int is_s8 = ez_input_of(check, R)->dtype == EZ_DTYPE_U8;
  TRY(ez_check_constant(check, BIAS, EZ_DTYPE_F32, columns * (is_s8 ? 2 : 1)));
  if (!is_s8) {
    if (ez_input_of(check, FOLD)) FAIL(check->step->inputs[FOLD], "inputs", "float weights have nothing to fold");
    return ez_check_constant(check, R, EZ_DTYPE_F32, columns * p->hidden);
  }
  if (!ez_input_of(check, FOLD)) FAIL(-1, "inputs", "int8 weights need their column sums");
  TRY(ez_check_constant(check, FOLD, EZ_DTYPE_S32, columns));
  return ez_check_constant(check, R, EZ_DTYPE_U8, columns / 16 * (int64_t)panel_bytes(p->hidden, check->header->layout));
}

static ez_status check_recurrent(ez_check *check) {
  const ez_step *s = check->step;
  ez_recurrent_params p;
  memcpy(&p, s->params, sizeof p);
  TRY(check_params(check, &p));
  if (s->n_inputs <= BIAS || s->n_inputs > INPUTS) FAIL(-1, "n_inputs", "expected %d to %d, got %d", BIAS + 1, INPUTS, s->n_inputs);
  for (int i = 0; i <= BIAS; i++)
    if (s->inputs[i] < 0) FAIL(-1, "inputs", "input %d is missing", i);
  if (p.kind != EZ_RECURRENT_LSTM && (ez_input_of(check, C0) || ez_input_of(check, PEEPHOLE))) FAIL(-1, "inputs", "only an LSTM has a cell state and peepholes");
  const ez_tensor *gates = ez_input_of(check, GATES);
  if (gates->rank != 3) FAIL(s->inputs[GATES], "rank", "expected 3, got %d", gates->rank);
  const int32_t steps = gates->dims[0], batch = gates->dims[1];
  if ((int64_t)steps * batch > (1 << 30) / p.hidden) FAIL(s->inputs[GATES], "dims", "more than 2^30 states");
  const parts columns = parts_of(&p);
  const int64_t padded = (int64_t)p.directions * (columns.panels[0] + columns.panels[1]) * 16;
  TRY(check_floats(check, GATES, (int64_t)steps * batch * p.directions * gates_of(&p) * p.hidden));
  TRY(check_weights(check, &p, padded));
  TRY(check_floats(check, H0, (int64_t)p.directions * batch * p.hidden));
  TRY(check_floats(check, C0, (int64_t)p.directions * batch * p.hidden));
  TRY(check_floats(check, PEEPHOLE, (int64_t)p.directions * 3 * p.hidden));
  TRY(check_lengths(check, batch));
  TRY(check_results(check, &p, steps, batch));
  const uint64_t rows = (uint64_t)(batch < MOST_ROWS ? batch : MOST_ROWS);
  check->scratch_needed = ((rows * ((uint64_t)gates_of(&p) + 1) + 1) * (uint64_t)p.hidden * 4 + 63) / 64 * 64;
  if (ez_input_of(check, R)->dtype == EZ_DTYPE_U8) check->scratch_needed += rows * pitch_of(p.hidden);
  return EZ_OK;
}

/* --- run ------------------------------------------------------------------------------------------------------------------- */

typedef struct job {
  const ez_run *run;
  const ez_recurrent_params *p;
  parts parts;
  int32_t steps, batch, gates, rows; /* rows: sequences of an item */
  int is_s8;
  int32_t blocks;                    /* items of a direction */
} job;

/* What one item works on. */
typedef struct block {
  ez_cell cell;
  const uint8_t *w;           /* of the direction */
  const float *bias, *multipliers;
  const int32_t *fold;
  const float *gates;         /* of its first sequence, step 0 */
  float *y, *h, *c;           /* of its first sequence */
  const int32_t *lengths;     /* or NULL */
  float *products, *reset, *spare;
  uint8_t *quantised;         /* (rows, pitch) */
  int32_t rows, is_reverse;
} block;

static float *floats_of(const ez_run *run, int32_t tensor) { return (float *)(void *)run->data[tensor]; }
static const float *input_of(const ez_run *run, int which) {
  const ez_step *s = run->step;
  return which < s->n_inputs && s->inputs[which] >= 0 ? floats_of(run, s->inputs[which]) : NULL;
}

/* The same as below through int8. */
static void multiply_s8(const job *j, const block *b, int part, const float *state, float *products) {
  const ez_isa *isa = j->run->kernels->gemm_s8;
  const uint32_t act_sign = j->run->kernels->act_sign, layout = j->run->kernels->layout;
  const size_t hidden = (size_t)j->p->hidden, stride = (size_t)j->gates * hidden, first = part ? (size_t)j->parts.panels[0] : 0;
  const size_t bytes = panel_bytes(j->p->hidden, layout), pitch = (size_t)pitch_of(j->p->hidden);
  const uint8_t *rows[MOST_ROWS];
  float scales[MOST_ROWS];
  for (int32_t r = 0; r < b->rows; r++) {
    rows[r] = b->quantised + (size_t)r * pitch;
    scales[r] = j->run->kernels->rows.quantize_row(state + (size_t)r * hidden, b->quantised + (size_t)r * pitch, hidden, act_sign);
  }
  for (int32_t panel = 0; panel < j->parts.panels[part]; panel += isa->gemm_s8_panels) {
    const int32_t left = j->parts.columns[part] - panel * 16, most = isa->gemm_s8_panels * 16;
    const size_t at = first + (size_t)panel;
    ez_gemm_s8_args args = {.a_stride = MOST_ROWS, .columns = left < most ? left : most, .taps = 1, .channels = j->p->hidden,
                            .w = (const int8_t *)b->w + at * bytes, .panel_bytes = bytes, .bias = b->fold + at * 16,
                            .mult = b->multipliers + at * 16, .addend = b->bias + at * 16, .y_stride = stride,
                            .row_step = b->rows > 1 ? pitch : 0, .layout = (int32_t)layout, .act_sign = act_sign};
    for (int32_t r = 0; r < b->rows; r += isa->gemm_s8_rows) {
      args.a = rows + r, args.row_scale = scales + r;
      args.rows = b->rows - r < isa->gemm_s8_rows ? b->rows - r : isa->gemm_s8_rows;
      args.y_f32 = products + (size_t)r * stride + (size_t)panel * 16;
      isa->gemm_s8(&args);
    }
  }
}

/* products (rows, columns of the part) = state (rows, H) by the weights of a part. */
static void multiply_f32(const job *j, const block *b, int part, const float *state, float *products) {
  const ez_isa *isa = j->run->kernels->gemm_f32;
  const size_t hidden = (size_t)j->p->hidden, stride = (size_t)j->gates * hidden, first = part ? (size_t)j->parts.panels[0] : 0;
  const float *rows[MOST_ROWS];
  for (int32_t r = 0; r < b->rows; r++) rows[r] = state + (size_t)r * hidden;
  for (int32_t panel = 0; panel < j->parts.panels[part]; panel += isa->gemm_f32_panels) {
    const int32_t left = j->parts.columns[part] - panel * 16, most = isa->gemm_f32_panels * 16;
    const size_t at = first + (size_t)panel;
    ez_gemm_f32_args args = {.a_stride = MOST_ROWS, .columns = left < most ? left : most, .taps = 1, .channels = j->p->hidden,
                             .w = (const float *)(const void *)b->w + at * 16 * hidden, .panel_floats = 16 * hidden, .bias = b->bias + at * 16,
                             .y_stride = stride, .lo = -INFINITY, .hi = INFINITY};
    for (int32_t r = 0; r < b->rows; r += isa->gemm_f32_rows) {
      args.a = rows + r;
      args.rows = b->rows - r < isa->gemm_f32_rows ? b->rows - r : isa->gemm_f32_rows;
      args.y = products + (size_t)r * stride + (size_t)panel * 16;
      isa->gemm_f32(&args);
    }
  }
}

static void multiply(const job *j, const block *b, int part, const float *state, float *products) {
  if (j->is_s8) multiply_s8(j, b, part, state, products);
  else multiply_f32(j, b, part, state, products);
}

static int32_t length_of(const job *j, const block *b, int32_t row) {
  if (!b->lengths) return j->steps;
  const int32_t length = b->lengths[row];
  return length < 0 ? 0 : length < j->steps ? length : j->steps;
}

/* The step of the sequence that is its `number`th; -1 behind its end. */
static int32_t time_of(const job *j, const block *b, int32_t row, int32_t number) {
  const int32_t length = length_of(j, b, row);
  return number >= length ? -1 : b->is_reverse ? length - 1 - number : number;
}

static const float *gates_at(const job *j, const block *b, int32_t row, int32_t time) {
  const size_t each = (size_t)j->p->directions * (size_t)j->gates * (size_t)j->p->hidden;
  return b->gates + ((size_t)time * (size_t)j->batch + (size_t)row) * each;
}

static float *y_at(const job *j, const block *b, int32_t row, int32_t time) {
  const size_t hidden = (size_t)j->p->hidden;
  return b->y + ((size_t)time * (size_t)j->p->directions * (size_t)j->batch + (size_t)row) * hidden;
}

static void run_gru_step(const job *j, const block *b, int32_t number) {
  const size_t hidden = (size_t)j->p->hidden;
  for (int32_t r = 0; r < b->rows; r++) {
    const int32_t time = time_of(j, b, r, number);
    float *products = b->products + (size_t)r * 3 * hidden;
    if (time >= 0) ez_cell_gru_gates(&b->cell, products, gates_at(j, b, r, time));
    if (j->parts.count == 2) ez_cell_gru_reset(&b->cell, products, b->h + (size_t)r * hidden, b->reset + (size_t)r * hidden);
  }
  if (j->parts.count == 2) multiply(j, b, 1, b->reset, b->products + 2 * hidden);
  for (int32_t r = 0; r < b->rows; r++) {
    const int32_t time = time_of(j, b, r, number);
    if (time >= 0) ez_cell_gru(&b->cell, b->products + (size_t)r * 3 * hidden, gates_at(j, b, r, time), b->h + (size_t)r * hidden);
  }
}

static void run_step(const job *j, const block *b, int32_t number) {
  const size_t hidden = (size_t)j->p->hidden;
  multiply(j, b, 0, b->h, b->products);
  if (j->p->kind == EZ_RECURRENT_GRU) run_gru_step(j, b, number);
  for (int32_t r = 0; r < b->rows; r++) {
    const int32_t time = time_of(j, b, r, number);
    if (time < 0) continue;
    float *products = b->products + (size_t)r * (size_t)j->gates * hidden, *h = b->h + (size_t)r * hidden;
    if (j->p->kind == EZ_RECURRENT_LSTM)
      ez_cell_lstm(&b->cell, products, gates_at(j, b, r, time), h, b->c + (size_t)r * hidden, b->spare);
    else if (j->p->kind == EZ_RECURRENT_RNN)
      ez_cell_rnn(&b->cell, products, gates_at(j, b, r, time), h);
    memcpy(y_at(j, b, r, time), h, hidden * sizeof *h);
  }
}

/* A sequence without steps ends at zero, whatever it was given: so does ONNX Runtime. */
static void start(const job *j, const block *b, float *state, const float *given) {
  const size_t hidden = (size_t)j->p->hidden;
  for (int32_t r = 0; r < b->rows; r++) {
    if (given && length_of(j, b, r)) memcpy(state + (size_t)r * hidden, given + (size_t)r * hidden, hidden * sizeof *state);
    else memset(state + (size_t)r * hidden, 0, hidden * sizeof *state);
  }
}

static const float *behind(const float *array, size_t offset) { return array ? array + offset : NULL; }

static void run_block(const job *j, const block *b) {
  int32_t longest = 0;
  for (int32_t r = 0; r < b->rows; r++) longest = length_of(j, b, r) > longest ? length_of(j, b, r) : longest;
  for (int32_t number = 0; number < longest; number++) run_step(j, b, number);
  for (int32_t r = 0; r < b->rows; r++)
    for (int32_t time = length_of(j, b, r); time < j->steps; time++) memset(y_at(j, b, r, time), 0, (size_t)j->p->hidden * sizeof(float));
}

static void run_item(void *context, int32_t item, int32_t thread) {
  const job *j = context;
  const ez_run *run = j->run;
  const int32_t direction = item / j->blocks, row = item % j->blocks * j->rows;
  const size_t hidden = (size_t)j->p->hidden, panels = (size_t)(j->parts.panels[0] + j->parts.panels[1]);
  const size_t state = ((size_t)direction * (size_t)j->batch + (size_t)row) * hidden;
  const float *peephole = behind(input_of(run, PEEPHOLE), (size_t)direction * 3 * hidden);
  block b = {.cell = {j->p, &run->kernels->rows, peephole, direction, hidden},
             .rows = j->batch - row < j->rows ? j->batch - row : j->rows, .is_reverse = direction || j->p->reverse};
  const size_t each = j->is_s8 ? panel_bytes(j->p->hidden, run->kernels->layout) : 16 * hidden * sizeof(float);
  b.w = run->data[run->step->inputs[R]] + (size_t)direction * panels * each;
  b.bias = input_of(run, BIAS) + (size_t)direction * panels * 16;
  if (j->is_s8) {
    b.multipliers = b.bias + (size_t)j->p->directions * panels * 16;
    b.fold = (const int32_t *)(const void *)input_of(run, FOLD) + (size_t)direction * panels * 16;
  }
  b.gates = input_of(run, GATES) + (size_t)row * (size_t)j->p->directions * (size_t)j->gates * hidden + (size_t)direction * (size_t)j->gates * hidden;
  b.y = floats_of(run, run->step->outputs[Y]) + state;
  b.h = floats_of(run, run->step->outputs[H]) + state;
  b.lengths = (const int32_t *)(const void *)input_of(run, LENGTHS);
  if (b.lengths) b.lengths += row;
  start(j, &b, b.h, behind(input_of(run, H0), state));
  if (j->p->kind == EZ_RECURRENT_LSTM) {
    b.c = floats_of(run, run->step->outputs[C]) + state;
    start(j, &b, b.c, behind(input_of(run, C0), state));
  }
  b.products = (float *)(void *)(run->scratch + (size_t)thread * run->scratch_bytes);
  b.reset = b.products + (size_t)j->rows * (size_t)j->gates * hidden;
  b.spare = b.reset + (size_t)j->rows * hidden;
  const size_t floats = (size_t)j->rows * ((size_t)j->gates + 1) * hidden + hidden;
  b.quantised = (uint8_t *)b.products + (floats * sizeof(float) + 63) / 64 * 64;
  run_block(j, &b);
}

static void run_recurrent(const ez_run *run) {
  const ez_recurrent_params *p = (const ez_recurrent_params *)(const void *)run->step->params;
  const ez_tensor *gates = &run->tensors[run->step->inputs[GATES]];
  job j = {.run = run, .p = p, .parts = parts_of(p), .steps = gates->dims[0], .batch = gates->dims[1], .gates = gates_of(p),
           .is_s8 = run->tensors[run->step->inputs[R]].dtype == EZ_DTYPE_U8};
  const int32_t each = (j.batch + ez_pool_threads(run->pool) - 1) / ez_pool_threads(run->pool);
  j.rows = each < MOST_ROWS ? each : MOST_ROWS;
  j.blocks = (j.batch + j.rows - 1) / j.rows;
  ez_pool_run(run->pool, p->directions * j.blocks, run_item, &j);
}

static const char *recurrent_kernel(const ez_step *step, const ez_tensor *tensors, const ez_kernels *kernels) {
  return (tensors[step->inputs[R]].dtype == EZ_DTYPE_U8 ? kernels->gemm_s8 : kernels->gemm_f32)->name;
}

const ez_op ez_op_recurrent = {"recurrent", check_recurrent, run_recurrent, recurrent_kernel, sizeof(ez_recurrent_params)};
