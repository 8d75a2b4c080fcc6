"""The wasmtime C API as spinrt uses it; see include/engine_abi.h."""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "include/engine_abi.h" nogil:
    ctypedef struct spin_config:
        pass
    ctypedef struct spin_engine:
        pass
    ctypedef struct spin_store:
        pass
    ctypedef struct spin_context:
        pass
    ctypedef struct spin_module:
        pass
    ctypedef struct spin_error:
        pass
    ctypedef struct spin_trap:
        pass
    ctypedef struct spin_caller:
        pass
    ctypedef struct spin_functype:
        pass
    ctypedef struct spin_valtype:
        pass
    ctypedef struct spin_externtype:
        pass
    ctypedef struct spin_importtype:
        pass
    ctypedef struct spin_exporttype:
        pass

    ctypedef struct spin_bytes:
        size_t size
        char *data
    ctypedef struct spin_valtypes:
        size_t size
        spin_valtype **data
    ctypedef struct spin_importtypes:
        size_t size
        spin_importtype **data
    ctypedef struct spin_exporttypes:
        size_t size
        spin_exporttype **data

    ctypedef struct spin_func:
        uint64_t store_id
        void *opaque
    ctypedef struct spin_instance:
        uint64_t store_id
        size_t opaque
    ctypedef struct spin_memory:
        pass
    ctypedef struct spin_global:
        pass
    ctypedef struct spin_table:
        pass
    ctypedef union spin_raw:
        int32_t i32
        int64_t i64
        uint32_t u32
        uint64_t u64
        float f32
        double f64
    ctypedef union spin_extern_of:
        spin_func func
        spin_memory memory
        spin_global global_ "global"
        spin_table table
    ctypedef union spin_value_of:
        int32_t i32
        int64_t i64
        spin_func func
        uint8_t v128[16]
    ctypedef struct spin_value:
        uint8_t kind
        spin_value_of of
    void spin_raw_set(spin_raw *raw, uint64_t bits)

    ctypedef struct spin_extern:
        uint8_t kind
        spin_extern_of of

    ctypedef spin_trap *(*spin_callback)(void *, spin_caller *, spin_raw *, size_t) noexcept

    ctypedef spin_error *(*spin_tick_callback)(spin_context *, void *, uint64_t *, uint8_t *) noexcept

    int SPIN_VALUE_FUNC
    int SPIN_EXTERN_FUNC
    int SPIN_EXTERN_GLOBAL
    int SPIN_EXTERN_TABLE
    int SPIN_EXTERN_MEMORY

    ctypedef struct spin_trace_frame:
        pass
    ctypedef struct spin_frames:
        size_t size
        spin_trace_frame **data

    struct spin_api:
        spin_config *(*config_new)()
        void (*config_epoch)(spin_config *, bint)
        void (*config_stack)(spin_config *, size_t)
        void (*config_parallel)(spin_config *, bint)
        void (*config_signals)(spin_config *, bint)
        void (*config_may_move)(spin_config *, bint)
        void (*config_reservation)(spin_config *, uint64_t)
        void (*config_shared_memory)(spin_config *, bint)
        void (*config_threads)(spin_config *, bint)
        void (*config_memory64)(spin_config *, bint)
        void (*config_gc)(spin_config *, bint)
        void (*config_function_references)(spin_config *, bint)
        void (*config_relaxed_simd)(spin_config *, bint)
        void (*config_exceptions)(spin_config *, bint)
        void (*config_stack_switching)(spin_config *, bint)
        void (*config_wide_arithmetic)(spin_config *, bint)
        void (*config_custom_page_sizes)(spin_config *, bint)
        void (*config_multi_memory)(spin_config *, bint)
        spin_engine *(*engine_new_with_config)(spin_config *)
        void (*engine_increment_epoch)(spin_engine *)
        spin_store *(*store_new)(spin_engine *, void *, void (*)(void *))
        void (*store_delete)(spin_store *)
        spin_context *(*store_context)(spin_store *)
        void (*store_limiter)(spin_store *, int64_t, int64_t, int64_t, int64_t, int64_t)
        void (*store_on_tick)(spin_store *, spin_tick_callback, void *, void (*)(void *))
        void (*context_set_epoch_deadline)(spin_context *, uint64_t)
        spin_error *(*module_new)(spin_engine *, const uint8_t *, size_t, spin_module **)
        spin_error *(*module_serialize)(spin_module *, spin_bytes *)
        spin_error *(*module_deserialize)(spin_engine *, const uint8_t *, size_t, spin_module **)
        void (*module_delete)(spin_module *)
        void (*module_imports)(const spin_module *, spin_importtypes *)
        void (*module_exports)(const spin_module *, spin_exporttypes *)
        void (*importtypes_delete)(spin_importtypes *)
        void (*exporttypes_delete)(spin_exporttypes *)
        const spin_bytes *(*importtype_module)(const spin_importtype *)
        const spin_bytes *(*importtype_name)(const spin_importtype *)
        const spin_externtype *(*importtype_type)(const spin_importtype *)
        const spin_bytes *(*exporttype_name)(const spin_exporttype *)
        const spin_externtype *(*exporttype_type)(const spin_exporttype *)
        uint8_t (*externtype_kind)(const spin_externtype *)
        const spin_functype *(*externtype_as_functype)(const spin_externtype *)
        const spin_valtypes *(*functype_params)(const spin_functype *)
        const spin_valtypes *(*functype_results)(const spin_functype *)
        uint8_t (*valtype_kind)(const spin_valtype *)
        spin_valtype *(*valtype_vector)()
        bint (*valtype_equal)(const spin_valtype *, const spin_valtype *)
        spin_valtype *(*valtype_new)(uint8_t)
        void (*valtypes_new)(spin_valtypes *, size_t, spin_valtype *const *)
        spin_functype *(*functype_new)(spin_valtypes *, spin_valtypes *)
        void (*functype_delete)(spin_functype *)
        void (*func_new_unchecked)(spin_context *, const spin_functype *, spin_callback, void *, void (*)(void *), spin_func *)
        # Runs guest code, which calls back into Python: the GIL stays with the caller.
        spin_error *(*func_call_unchecked)(spin_context *, const spin_func *, spin_raw *, size_t, spin_trap **)
        spin_error *(*instance_new)(spin_context *, const spin_module *, const spin_extern *, size_t, spin_instance *, spin_trap **)
        bint (*instance_export_get)(spin_context *, const spin_instance *, const char *, size_t, spin_extern *)
        uint8_t *(*memory_data)(const spin_context *, const spin_memory *)
        size_t (*memory_data_size)(const spin_context *, const spin_memory *)
        spin_error *(*memory_grow)(spin_context *, const spin_memory *, uint64_t, uint64_t *)
        void (*global_get)(spin_context *, const spin_global *, spin_value *)
        spin_error *(*global_set)(spin_context *, const spin_global *, const spin_value *)
        bint (*table_get)(spin_context *, const spin_table *, uint64_t, spin_value *)
        spin_error *(*table_set)(spin_context *, const spin_table *, uint64_t, const spin_value *)
        spin_error *(*table_grow)(spin_context *, const spin_table *, uint64_t, const spin_value *, uint64_t *)
        spin_error *(*error_new)(const char *) nogil
        void (*error_message)(const spin_error *, spin_bytes *)
        void (*error_delete)(spin_error *)
        void (*trap_message)(const spin_trap *, spin_bytes *)
        void (*trap_delete)(spin_trap *)
        bint (*trap_code)(const spin_trap *, uint8_t *)
        spin_trap *(*trap_new)(const char *, size_t)
        void (*bytes_delete)(spin_bytes *)
        void (*trap_trace)(const spin_trap *, spin_frames *)
        void (*error_trace)(const spin_error *, spin_frames *)
        void (*frames_delete)(spin_frames *)
        uint32_t (*frame_function)(const spin_trace_frame *)
        size_t (*frame_offset)(const spin_trace_frame *)
        const spin_bytes *(*frame_module)(const spin_trace_frame *)


cdef extern from "include/stack.h" nogil:
    bint spin_stack_find(size_t *low, size_t *size)


cdef extern from "include/ticker.h" nogil:
    void spin_ticker_init(void (*increment)(void *), void *engine)
    int spin_ticker_touch()


cdef extern from "include/frame.h" nogil:
    int SPIN_UNSEEN
    int SPIN_RUNS, SPIN_ENDED_DEADLINE, SPIN_ENDED_KILL, SPIN_ENDED_SIGNAL, SPIN_ENDED_OUTER
    int SPIN_BUSY, SPIN_BROKEN, SPIN_CLOSED, SPIN_STALE, SPIN_HELD, SPIN_QUARANTINED
    int SPIN_STAMP_SHIFT, SPIN_FLAGS_AT
    uint64_t SPIN_STAMP_ONE

    ctypedef struct spin_log_at:
        uint32_t head, moved
    ctypedef struct spin_log:
        spin_log_at at
        uint64_t state
        uint64_t stamp
        uint32_t bytes_head, functions_head, externs_head, bytes_next
        uint64_t countdown
        uint32_t dead_below
    ctypedef struct spin_guest:
        uint32_t state
        uint32_t host_calls_left
        uint64_t lift_left
        uint64_t budget_seq
        uint32_t budget_progress
        uint32_t host_calls
        uint64_t lift_bytes
        uint32_t deadline_ticks
        bint outside
        bint may_leave
        bint killed
        void *owner
        spin_log *log
        spin_log idle
    ctypedef struct spin_slot:
        spin_guest *guest
        uint32_t ticks
        uint32_t ephemeral
    ctypedef struct spin_what:
        const spin_slot *slots
        const uint32_t *progress
        void *rows
        void *dispatcher
        void *walk
    ctypedef struct spin_frame:
        spin_frame *outer
        void *call
        uint64_t seq
        spin_frame *below
        const spin_what *what
        uint32_t marked
        uint32_t settled
        uint32_t seen
        int64_t mark, touch_mark
        uint64_t seen_tick
        uint64_t seen_cpu_ns
        uint64_t looked_tick
        spin_what own
    ctypedef struct spin_state:
        spin_frame *frame
        uint64_t seq
        uint64_t generation
        uint64_t version
        uint64_t ready
        size_t stack_low
        size_t stack_span
        void *released
        uint32_t *stub_end
        uint32_t attention
        uint32_t held
        uint32_t ended
        bint (*signalled)(spin_state *) noexcept
        void (*sample)(spin_state *) noexcept nogil
        void *profile
        void *owner

    uint32_t spin_mark_busy(spin_guest *guest)
    void spin_mark_idle(spin_guest *guest, uint32_t was)
    void spin_push(spin_state *state, spin_frame *frame, const spin_slot *slots, const uint32_t *progress, void *call)
    uint64_t spin_number(spin_state *state, spin_frame *frame)
    void spin_pop(spin_state *state, const spin_frame *frame)
    uint64_t spin_cpu_ns()
    spin_frame *spin_running()
    uint64_t spin_tick_now()
    bint spin_must_look(spin_frame *frame)
    bint spin_is_over(const spin_frame *frame, uint64_t cpu_ns)
    void spin_make_late(spin_frame *frame)
    uint32_t spin_look(spin_state *state)
    bint spin_may_enter(const spin_state *state)
    void spin_end_stub(spin_state *state)
    void spin_hold(spin_state *state) noexcept
    void spin_let_go(spin_state *state) noexcept
    void spin_new_version(spin_state *state)
    bint spin_is_changed(const spin_guest *guest)
    bint spin_keep(spin_guest *guest)
    enum: SPIN_LOG_KEPT_BYTES


cdef extern from "include/quick.h":
    ctypedef struct spin_single:
        uint64_t version
        uint64_t walks
        spin_state *state
        spin_guest *guest
        spin_context *context
        spin_func function
        spin_what what
        spin_frame frame
    ctypedef struct spin_scalar:
        int64_t low
        uint64_t count
    ctypedef struct spin_kept:
        PyObject **objects
        uint32_t limit
        bint none
    ctypedef struct spin_quick:
        spin_single *single
        Py_ssize_t count
        spin_kept result
        uint64_t sample_at
        spin_scalar scalars[16]
    ctypedef struct spin_run:
        spin_frame *frame
        spin_guest *guest
        spin_error *error
        spin_trap *trap
    struct spin_all_ways:
        spin_error *(*call)(spin_context *, const spin_func *, spin_raw *, size_t, spin_trap **)
        object (*raise_ "raise")(PyObject *, PyObject **, Py_ssize_t)
        object (*lift)(PyObject *, uint64_t)
        int (*end)(const spin_run *, spin_raw *) except -1
        object (*on_nothing)(PyObject *)

    int SPIN_SMALL_INTS
    PyObject *spin_small_ints[]
    PyObject *spin_bools[]
    spin_all_ways spin_ways

    int spin_keep_results() except -1
    void spin_prepare(spin_single *single) noexcept
    bint spin_begin(spin_quick *quick) noexcept
    bint spin_is_done(spin_run run, const spin_state *state) noexcept
    bint spin_raise_begun(spin_quick *quick, spin_raw *raw) except -1
    PyObject *spin_raise(spin_quick *quick, PyObject *event, PyObject **arguments, Py_ssize_t count) noexcept
    PyObject *spin_raise_one(spin_quick *quick, PyObject *event, PyObject *argument) noexcept
