/* What spinrt uses of the wasmtime C API, declared here because the wheel carries the library without headers.
 *
 * The layouts are those of the majors listed in engine.pxi; `_check_layout` compares them at import with the ones that the
 * wheel's own Python binding declares, and refuses to start when they differ. Every function is reached through
 * `struct spin_api`, filled from the wheel's library at import.
 *
 * Source: the C API as described in the wasmtime book and declared in the wheel's `_bindings.py`.
 */
#ifndef SPINRT_ENGINE_ABI_H
#define SPINRT_ENGINE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct spin_config spin_config;
typedef struct spin_engine spin_engine;
typedef struct spin_store spin_store;
typedef struct spin_context spin_context;
typedef struct spin_module spin_module;
typedef struct spin_error spin_error;
typedef struct spin_trap spin_trap;
typedef struct spin_caller spin_caller;
typedef struct spin_functype spin_functype;
typedef struct spin_valtype spin_valtype;
typedef struct spin_externtype spin_externtype;
typedef struct spin_importtype spin_importtype;
typedef struct spin_exporttype spin_exporttype;

typedef struct { size_t size; char *data; } spin_bytes;
typedef struct { size_t size; spin_valtype **data; } spin_valtypes;
typedef struct { size_t size; spin_importtype **data; } spin_importtypes;
typedef struct { size_t size; spin_exporttype **data; } spin_exporttypes;

typedef struct { uint64_t store_id; void *opaque; } spin_func;
typedef struct { uint64_t store_id; size_t opaque; } spin_instance;
typedef struct { struct { uint64_t store_id; uint32_t opaque1; } outer; uint32_t opaque2; } spin_memory;
typedef struct { uint64_t store_id; uint32_t opaque1, opaque2, opaque3; } spin_global;

typedef union {
  int32_t i32;
  int64_t i64;
  uint32_t u32;
  uint64_t u64;
  float f32;
  double f64;
  uint8_t v128[16];
  void *funcref;
} spin_raw;

typedef struct { struct { uint64_t store_id; uint32_t opaque1; } outer; uint32_t opaque2; } spin_table;

typedef union { spin_func func; spin_global global; spin_memory memory; spin_table table; } spin_extern_of;
typedef struct { uint8_t kind; spin_extern_of of; } spin_extern;

/* All sixteen bytes in one store: the engine loads them in one, and would wait for two. */
typedef long long spin_two __attribute__((vector_size(16), aligned(8), may_alias));
static inline void spin_raw_set(spin_raw *raw, uint64_t bits) { *(spin_two *)raw = (spin_two){(long long)bits, 0}; }

/* A value with its kind, as globals and tables take it. */
typedef union { int32_t i32; int64_t i64; spin_func func; uint8_t v128[16]; uint64_t any[3]; } spin_value_of;
typedef struct { uint8_t kind; spin_value_of of; } spin_value;
enum { SPIN_VALUE_FUNC = 5 };

/* Called at the first check after the deadline: answers with an error, or with ticks to go on for. */
typedef spin_error *(*spin_tick_callback)(spin_context *, void *data, uint64_t *ticks, uint8_t *kind);

typedef spin_trap *(*spin_callback)(void *env, spin_caller *caller, spin_raw *values, size_t count);

/* Kinds of spin_extern (wasmtime) and of spin_externtype (wasm.h). */
enum { SPIN_EXTERN_FUNC = 0, SPIN_EXTERN_GLOBAL = 1, SPIN_EXTERN_TABLE = 2, SPIN_EXTERN_MEMORY = 3 };

/* Where a trap met guest code. */
typedef struct spin_trace_frame spin_trace_frame;
typedef struct { size_t size; spin_trace_frame **data; } spin_frames;

struct spin_api {
  spin_config *(*config_new)(void);
  void (*config_epoch)(spin_config *, bool);
  void (*config_stack)(spin_config *, size_t);
  void (*config_parallel)(spin_config *, bool);
  void (*config_signals)(spin_config *, bool);
  void (*config_may_move)(spin_config *, bool);
  void (*config_reservation)(spin_config *, uint64_t);
  void (*config_shared_memory)(spin_config *, bool);
  void (*config_threads)(spin_config *, bool);
  void (*config_memory64)(spin_config *, bool);
  void (*config_gc)(spin_config *, bool);
  void (*config_function_references)(spin_config *, bool);
  void (*config_relaxed_simd)(spin_config *, bool);
  void (*config_exceptions)(spin_config *, bool);
  void (*config_stack_switching)(spin_config *, bool);
  void (*config_wide_arithmetic)(spin_config *, bool);
  void (*config_custom_page_sizes)(spin_config *, bool);
  void (*config_multi_memory)(spin_config *, bool);
  spin_engine *(*engine_new_with_config)(spin_config *);
  void (*engine_increment_epoch)(spin_engine *);
  spin_store *(*store_new)(spin_engine *, void *, void (*)(void *));
  void (*store_delete)(spin_store *);
  spin_context *(*store_context)(spin_store *);
  void (*store_limiter)(spin_store *, int64_t, int64_t, int64_t, int64_t, int64_t);
  void (*store_on_tick)(spin_store *, spin_tick_callback, void *, void (*)(void *));
  void (*context_set_epoch_deadline)(spin_context *, uint64_t);
  spin_error *(*module_new)(spin_engine *, const uint8_t *, size_t, spin_module **);
  spin_error *(*module_serialize)(spin_module *, spin_bytes *);
  spin_error *(*module_deserialize)(spin_engine *, const uint8_t *, size_t, spin_module **);
  void (*module_delete)(spin_module *);
  void (*module_imports)(const spin_module *, spin_importtypes *);
  void (*module_exports)(const spin_module *, spin_exporttypes *);
  void (*importtypes_delete)(spin_importtypes *);
  void (*exporttypes_delete)(spin_exporttypes *);
  const spin_bytes *(*importtype_module)(const spin_importtype *);
  const spin_bytes *(*importtype_name)(const spin_importtype *);
  const spin_externtype *(*importtype_type)(const spin_importtype *);
  const spin_bytes *(*exporttype_name)(const spin_exporttype *);
  const spin_externtype *(*exporttype_type)(const spin_exporttype *);
  uint8_t (*externtype_kind)(const spin_externtype *);
  const spin_functype *(*externtype_as_functype)(const spin_externtype *);
  const spin_valtypes *(*functype_params)(const spin_functype *);
  const spin_valtypes *(*functype_results)(const spin_functype *);
  uint8_t (*valtype_kind)(const spin_valtype *);
  spin_valtype *(*valtype_vector)(void);
  _Bool (*valtype_equal)(const spin_valtype *, const spin_valtype *);
  spin_valtype *(*valtype_new)(uint8_t);
  void (*valtypes_new)(spin_valtypes *, size_t, spin_valtype *const *);
  spin_functype *(*functype_new)(spin_valtypes *, spin_valtypes *);
  void (*functype_delete)(spin_functype *);
  void (*func_new_unchecked)(spin_context *, const spin_functype *, spin_callback, void *, void (*)(void *), spin_func *);
  spin_error *(*func_call_unchecked)(spin_context *, const spin_func *, spin_raw *, size_t, spin_trap **);
  spin_error *(*instance_new)(spin_context *, const spin_module *, const spin_extern *, size_t, spin_instance *, spin_trap **);
  bool (*instance_export_get)(spin_context *, const spin_instance *, const char *, size_t, spin_extern *);
  uint8_t *(*memory_data)(const spin_context *, const spin_memory *);
  size_t (*memory_data_size)(const spin_context *, const spin_memory *);
  spin_error *(*memory_grow)(spin_context *, const spin_memory *, uint64_t, uint64_t *);
  void (*global_get)(spin_context *, const spin_global *, spin_value *);
  spin_error *(*global_set)(spin_context *, const spin_global *, const spin_value *);
  bool (*table_get)(spin_context *, const spin_table *, uint64_t, spin_value *);
  spin_error *(*table_set)(spin_context *, const spin_table *, uint64_t, const spin_value *);
  spin_error *(*table_grow)(spin_context *, const spin_table *, uint64_t, const spin_value *, uint64_t *);
  spin_error *(*error_new)(const char *);
  void (*error_message)(const spin_error *, spin_bytes *);
  void (*error_delete)(spin_error *);
  void (*trap_message)(const spin_trap *, spin_bytes *);
  void (*trap_delete)(spin_trap *);
  bool (*trap_code)(const spin_trap *, uint8_t *);
  spin_trap *(*trap_new)(const char *, size_t);
  void (*bytes_delete)(spin_bytes *);
  void (*trap_trace)(const spin_trap *, spin_frames *);
  void (*error_trace)(const spin_error *, spin_frames *);
  void (*frames_delete)(spin_frames *);
  uint32_t (*frame_function)(const spin_trace_frame *);
  size_t (*frame_offset)(const spin_trace_frame *);
  const spin_bytes *(*frame_module)(const spin_trace_frame *);
};

#endif
