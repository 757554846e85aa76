#include "core/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"

/* Each compiled folder csrc/isa/<name>/ brings EZ_HAVE_<NAME> and its table. */
extern const ez_isa ez_isa_portable;
#ifdef EZ_HAVE_AVX2
extern const ez_isa ez_isa_avx2;
#endif
#ifdef EZ_HAVE_AMX
extern const ez_isa ez_isa_amx;
#endif
#ifdef EZ_HAVE_AVXVNNI
extern const ez_isa ez_isa_avxvnni;
#endif
#ifdef EZ_HAVE_AVX512VBMI
extern const ez_isa ez_isa_avx512vbmi;
#endif
#ifdef EZ_HAVE_AVX512VNNI
extern const ez_isa ez_isa_avx512vnni;
#endif
#ifdef EZ_HAVE_NEON
extern const ez_isa ez_isa_neon;
#endif
#ifdef EZ_HAVE_I8MM
extern const ez_isa ez_isa_i8mm;
#endif
#ifdef EZ_HAVE_DOTPROD
extern const ez_isa ez_isa_dotprod;
#endif

static const ez_isa *const tables[] = {
#ifdef EZ_HAVE_AMX
    &ez_isa_amx,
#endif
#ifdef EZ_HAVE_AVX512VBMI
    &ez_isa_avx512vbmi,
#endif
#ifdef EZ_HAVE_AVX512VNNI
    &ez_isa_avx512vnni,
#endif
#ifdef EZ_HAVE_AVXVNNI
    &ez_isa_avxvnni,
#endif
#ifdef EZ_HAVE_AVX2
    &ez_isa_avx2,
#endif
#ifdef EZ_HAVE_I8MM
    &ez_isa_i8mm,
#endif
#ifdef EZ_HAVE_DOTPROD
    &ez_isa_dotprod,
#endif
#ifdef EZ_HAVE_NEON
    &ez_isa_neon,
#endif
    &ez_isa_portable,
};

int32_t ez_isa_table_count(void) { return (int32_t)(sizeof tables / sizeof *tables); }

const ez_isa *ez_isa_table(int32_t index) { return index >= 0 && index < ez_isa_table_count() ? tables[index] : NULL; }

const ez_isa *ez_isa_find(const char *name) {
  for (int32_t i = 0; i < ez_isa_table_count(); i++)
    if (!strcmp(tables[i]->name, name)) return tables[i];
  return NULL;
}

int ez_isa_runs_here(const ez_isa *isa) { return (ez_cpu_features() & isa->features) == isa->features; }

int32_t ez_isa_count(void) { return ez_isa_table_count(); }
const char *ez_isa_name(int32_t index) { return ez_isa_table(index) ? tables[index]->name : NULL; }
int32_t ez_isa_supported(int32_t index) { return ez_isa_table(index) ? ez_isa_runs_here(tables[index]) : 0; }

static int reads(const ez_isa *isa, uint32_t layout, uint32_t act_sign) {
  return (isa->layouts >> layout & 1u) && (isa->act_signs >> (act_sign ? 1 : 0) & 1u);
}

/* The next table of the chain; a link to a folder that was not compiled falls to portable. */
static const ez_isa *next_of(const ez_isa *isa) {
  if (!isa->next) return NULL;
  const ez_isa *next = ez_isa_find(isa->next);
  return next ? next : &ez_isa_portable;
}

static ez_status refuse(ez_error *error, const char *isa, const char *why) {
  if (error) {
    *error = (ez_error){.status = EZ_BAD_ISA, .step = -1, .tensor = -1};
    snprintf(error->field, sizeof error->field, "isa");
    snprintf(error->message, sizeof error->message, "ISA %.40s %s", isa, why);
  }
  return EZ_BAD_ISA;
}

/* Row kernels that are still missing, from the next table of the chain. */
static void fill_rows(ez_rows *rows, const ez_rows *more) {
  typedef void (*slot)(void);
  slot have[sizeof *rows / sizeof(slot)], offered[sizeof *rows / sizeof(slot)];
  if (!more) return;
  memcpy(have, rows, sizeof *rows);
  memcpy(offered, more, sizeof *more);
  for (size_t i = 0; i < sizeof have / sizeof *have; i++)
    if (!have[i]) have[i] = offered[i];
  memcpy(rows, have, sizeof *rows);
}

ez_status ez_kernels_resolve(const char *isa, uint32_t layout, uint32_t act_sign, ez_kernels *out, const char **name, ez_error *error) {
  const char *wanted = isa ? isa : getenv("EDGEZIP_ISA");
  const ez_isa *first = NULL;
  if (wanted && *wanted) {
    first = ez_isa_find(wanted);
    if (!first) return refuse(error, wanted, "is not built into this runtime");
    if (!ez_isa_runs_here(first)) return refuse(error, wanted, "is not offered by this CPU");
  } else {
    for (int32_t i = 0; !first; i++)
      if (ez_isa_runs_here(tables[i]) && (reads(tables[i], layout, act_sign) || !tables[i]->next)) first = tables[i];
  }
  memset(out, 0, sizeof *out);
  out->act_sign = act_sign;
  out->layout = layout;
  for (const ez_isa *t = first; t; t = next_of(t)) {
    if (!ez_isa_runs_here(t)) continue;
    const int fits = reads(t, layout, act_sign);
    if (!out->gemm_s8 && t->gemm_s8 && fits) out->gemm_s8 = t;
    if (!out->depthwise_s8 && t->depthwise_s8 && fits) out->depthwise_s8 = t;
    if (!out->codes && t->codes && fits) out->codes = t->codes;
    if (!out->gemm_f32 && t->gemm_f32) out->gemm_f32 = t;
    if (!out->depthwise_f32 && t->depthwise_f32) out->depthwise_f32 = t;
    fill_rows(&out->rows, t->rows);
    fill_rows(&out->rows, t->compiled_rows);
  }
  *name = first->name;
  return EZ_OK;
}
