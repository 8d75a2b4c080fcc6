# The wasmtime library of the `wasmtime` wheel: found, checked and configured once per process.
#
# One engine serves the process. Proposals that extensions do not need are off; traps come without signals, so that they
# are cheap and other users of SIGSEGV (faulthandler) are left alone; compilation uses one thread, so that a forked child
# can compile; linear memories are reserved at 4 GiB and never move, so that their base can be kept.

import ctypes as _ctypes

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)
    char *dlerror()
    int RTLD_NOW

# Majors whose struct layouts are those of include/engine_abi.h. A new one is added here after `make test` ran with it.
SUPPORTED_MAJORS = (50,)

# Stack that a guest may use, and what must be left of the thread's when it is entered: that and the host functions it calls.
cdef enum:
    WASM_STACK_BYTES = 512 * 1024
    STACK_NEEDED_BYTES = WASM_STACK_BYTES + 256 * 1024

# Where the frame of a call that runs alone says that its first and only slot runs.
cdef uint32_t _first_slot = 0

cdef spin_api api
cdef spin_engine *engine = NULL

TICK_NS = 1_000_000


cdef void *_symbol(void *library, bytes name) except NULL:
    cdef void *found = dlsym(library, name)
    if found == NULL:
        raise InternalError(
            f"wasmtime library: found no symbol {name.decode()}, expected one",
            hint="install the wasmtime version that pyproject.toml names",
        )
    return found


cdef void *_open_library() except NULL:
    from importlib.metadata import version

    from wasmtime._ffi import dll

    found = version("wasmtime")
    if int(found.split(".")[0]) not in SUPPORTED_MAJORS:
        raise InternalError(
            f"wasmtime package: found version {found}, expected major {' or '.join(map(str, SUPPORTED_MAJORS))}",
            hint="install the wasmtime version that spinrt asks for",
        )
    path = str(dll._name).encode()
    cdef void *library = dlopen(path, RTLD_NOW)
    if library == NULL:
        raise InternalError(f"wasmtime library {path.decode()}: {dlerror().decode()}")
    return library


def _check_layout():
    """Compare the struct sizes compiled in with those that the wheel's own binding declares."""
    from wasmtime import _bindings as theirs

    ours = {
        "wasmtime_func": sizeof(spin_func),
        "wasmtime_instance": sizeof(spin_instance),
        "wasmtime_memory": sizeof(spin_memory),
        "wasmtime_global": sizeof(spin_global),
        "wasmtime_table": sizeof(spin_table),
        "wasmtime_extern": sizeof(spin_extern),
        "wasmtime_val": sizeof(spin_value),
        "wasmtime_val_raw": sizeof(spin_raw),
        "wasm_byte_vec_t": sizeof(spin_bytes),
    }
    for name, size in ours.items():
        declared = _ctypes.sizeof(getattr(theirs, name))
        if declared != size:
            raise InternalError(
                f"wasmtime struct {name}: found {declared} bytes, expected {size}",
                hint="this build of spinrt does not fit the installed wasmtime; install the version it asks for",
            )


cdef int _fill_api(void *library) except -1:
    (<void **>&api.config_new)[0] = _symbol(library, b"wasm_config_new")
    (<void **>&api.config_epoch)[0] = _symbol(library, b"wasmtime_config_epoch_interruption_set")
    (<void **>&api.config_stack)[0] = _symbol(library, b"wasmtime_config_max_wasm_stack_set")
    _fill_switches(library)
    (<void **>&api.config_reservation)[0] = _symbol(library, b"wasmtime_config_memory_reservation_set")
    (<void **>&api.engine_new_with_config)[0] = _symbol(library, b"wasm_engine_new_with_config")
    (<void **>&api.engine_increment_epoch)[0] = _symbol(library, b"wasmtime_engine_increment_epoch")
    _fill_store(library)
    _fill_reflection(library)
    _fill_calls(library)
    return 0


cdef int _fill_switches(void *library) except -1:
    (<void **>&api.config_parallel)[0] = _symbol(library, b"wasmtime_config_parallel_compilation_set")
    (<void **>&api.config_signals)[0] = _symbol(library, b"wasmtime_config_signals_based_traps_set")
    (<void **>&api.config_may_move)[0] = _symbol(library, b"wasmtime_config_memory_may_move_set")
    (<void **>&api.config_shared_memory)[0] = _symbol(library, b"wasmtime_config_shared_memory_set")
    (<void **>&api.config_threads)[0] = _symbol(library, b"wasmtime_config_wasm_threads_set")
    (<void **>&api.config_memory64)[0] = _symbol(library, b"wasmtime_config_wasm_memory64_set")
    (<void **>&api.config_gc)[0] = _symbol(library, b"wasmtime_config_wasm_gc_set")
    (<void **>&api.config_function_references)[0] = _symbol(library, b"wasmtime_config_wasm_function_references_set")
    (<void **>&api.config_relaxed_simd)[0] = _symbol(library, b"wasmtime_config_wasm_relaxed_simd_set")
    (<void **>&api.config_exceptions)[0] = _symbol(library, b"wasmtime_config_wasm_exceptions_set")
    (<void **>&api.config_stack_switching)[0] = _symbol(library, b"wasmtime_config_wasm_stack_switching_set")
    (<void **>&api.config_wide_arithmetic)[0] = _symbol(library, b"wasmtime_config_wasm_wide_arithmetic_set")
    (<void **>&api.config_custom_page_sizes)[0] = _symbol(library, b"wasmtime_config_wasm_custom_page_sizes_set")
    (<void **>&api.config_multi_memory)[0] = _symbol(library, b"wasmtime_config_wasm_multi_memory_set")
    return 0


cdef int _fill_store(void *library) except -1:
    (<void **>&api.store_new)[0] = _symbol(library, b"wasmtime_store_new")
    (<void **>&api.store_delete)[0] = _symbol(library, b"wasmtime_store_delete")
    (<void **>&api.store_context)[0] = _symbol(library, b"wasmtime_store_context")
    (<void **>&api.store_limiter)[0] = _symbol(library, b"wasmtime_store_limiter")
    (<void **>&api.store_on_tick)[0] = _symbol(library, b"wasmtime_store_epoch_deadline_callback")
    (<void **>&api.context_set_epoch_deadline)[0] = _symbol(library, b"wasmtime_context_set_epoch_deadline")
    (<void **>&api.module_new)[0] = _symbol(library, b"wasmtime_module_new")
    (<void **>&api.module_serialize)[0] = _symbol(library, b"wasmtime_module_serialize")
    (<void **>&api.module_deserialize)[0] = _symbol(library, b"wasmtime_module_deserialize")
    (<void **>&api.module_delete)[0] = _symbol(library, b"wasmtime_module_delete")
    return 0


cdef int _fill_reflection(void *library) except -1:
    (<void **>&api.module_imports)[0] = _symbol(library, b"wasmtime_module_imports")
    (<void **>&api.module_exports)[0] = _symbol(library, b"wasmtime_module_exports")
    (<void **>&api.importtypes_delete)[0] = _symbol(library, b"wasm_importtype_vec_delete")
    (<void **>&api.exporttypes_delete)[0] = _symbol(library, b"wasm_exporttype_vec_delete")
    (<void **>&api.importtype_module)[0] = _symbol(library, b"wasm_importtype_module")
    (<void **>&api.importtype_name)[0] = _symbol(library, b"wasm_importtype_name")
    (<void **>&api.importtype_type)[0] = _symbol(library, b"wasm_importtype_type")
    (<void **>&api.exporttype_name)[0] = _symbol(library, b"wasm_exporttype_name")
    (<void **>&api.exporttype_type)[0] = _symbol(library, b"wasm_exporttype_type")
    (<void **>&api.externtype_kind)[0] = _symbol(library, b"wasm_externtype_kind")
    (<void **>&api.externtype_as_functype)[0] = _symbol(library, b"wasm_externtype_as_functype_const")
    (<void **>&api.functype_params)[0] = _symbol(library, b"wasm_functype_params")
    (<void **>&api.functype_results)[0] = _symbol(library, b"wasm_functype_results")
    (<void **>&api.valtype_kind)[0] = _symbol(library, b"wasm_valtype_kind")
    (<void **>&api.valtype_vector)[0] = _symbol(library, b"wasmtime_wasm_valtype_v128")
    (<void **>&api.valtype_equal)[0] = _symbol(library, b"wasmtime_wasm_valtype_equal")
    (<void **>&api.valtype_new)[0] = _symbol(library, b"wasm_valtype_new")
    (<void **>&api.valtypes_new)[0] = _symbol(library, b"wasm_valtype_vec_new")
    (<void **>&api.functype_new)[0] = _symbol(library, b"wasm_functype_new")
    (<void **>&api.functype_delete)[0] = _symbol(library, b"wasm_functype_delete")
    return 0


cdef int _fill_calls(void *library) except -1:
    (<void **>&api.func_new_unchecked)[0] = _symbol(library, b"wasmtime_func_new_unchecked")
    (<void **>&api.func_call_unchecked)[0] = _symbol(library, b"wasmtime_func_call_unchecked")
    (<void **>&api.instance_new)[0] = _symbol(library, b"wasmtime_instance_new")
    (<void **>&api.instance_export_get)[0] = _symbol(library, b"wasmtime_instance_export_get")
    (<void **>&api.memory_data)[0] = _symbol(library, b"wasmtime_memory_data")
    (<void **>&api.memory_data_size)[0] = _symbol(library, b"wasmtime_memory_data_size")
    (<void **>&api.memory_grow)[0] = _symbol(library, b"wasmtime_memory_grow")
    (<void **>&api.global_get)[0] = _symbol(library, b"wasmtime_global_get")
    (<void **>&api.global_set)[0] = _symbol(library, b"wasmtime_global_set")
    (<void **>&api.table_set)[0] = _symbol(library, b"wasmtime_table_set")
    (<void **>&api.table_get)[0] = _symbol(library, b"wasmtime_table_get")
    (<void **>&api.table_grow)[0] = _symbol(library, b"wasmtime_table_grow")
    (<void **>&api.error_new)[0] = _symbol(library, b"wasmtime_error_new")
    (<void **>&api.error_message)[0] = _symbol(library, b"wasmtime_error_message")
    (<void **>&api.error_delete)[0] = _symbol(library, b"wasmtime_error_delete")
    (<void **>&api.trap_message)[0] = _symbol(library, b"wasm_trap_message")
    (<void **>&api.trap_delete)[0] = _symbol(library, b"wasm_trap_delete")
    (<void **>&api.trap_code)[0] = _symbol(library, b"wasmtime_trap_code")
    (<void **>&api.trap_new)[0] = _symbol(library, b"wasmtime_trap_new")
    (<void **>&api.bytes_delete)[0] = _symbol(library, b"wasm_byte_vec_delete")
    (<void **>&api.trap_trace)[0] = _symbol(library, b"wasm_trap_trace")
    (<void **>&api.error_trace)[0] = _symbol(library, b"wasmtime_error_wasm_trace")
    (<void **>&api.frames_delete)[0] = _symbol(library, b"wasm_frame_vec_delete")
    (<void **>&api.frame_function)[0] = _symbol(library, b"wasm_frame_func_index")
    (<void **>&api.frame_offset)[0] = _symbol(library, b"wasm_frame_module_offset")
    (<void **>&api.frame_module)[0] = _symbol(library, b"wasmtime_frame_module_name")
    return 0


cdef int _start_engine() except -1:
    global engine
    cdef spin_config *config = api.config_new()
    api.config_epoch(config, True)
    api.config_stack(config, WASM_STACK_BYTES)
    api.config_parallel(config, False)
    api.config_signals(config, False)
    api.config_may_move(config, False)
    api.config_reservation(config, <uint64_t>4 << 30)
    api.config_exceptions(config, False)
    api.config_stack_switching(config, False)
    api.config_gc(config, False)
    api.config_function_references(config, False)
    api.config_shared_memory(config, False)
    api.config_threads(config, False)
    api.config_memory64(config, False)
    api.config_relaxed_simd(config, False)
    api.config_wide_arithmetic(config, False)
    api.config_custom_page_sizes(config, False)
    api.config_multi_memory(config, True)  # for undo logs; `spinrt.sandbox.binary` refuses modules that have several of their own
    engine = api.engine_new_with_config(config)
    if engine == NULL:
        raise InternalError("wasmtime engine: could not be created with spinrt's configuration")
    spin_ticker_init(<void (*)(void *) noexcept nogil><void *>api.engine_increment_epoch, engine)
    return 0


cdef bytes _take_bytes(spin_bytes *text):
    cdef bytes copy = PyBytes_FromStringAndSize(text.data, <Py_ssize_t>text.size)
    api.bytes_delete(text)
    return copy


cdef str _take_error(spin_error *error):
    """The message of an engine error, which is deleted."""
    text = _error_text(error)
    api.error_delete(error)
    return text


cdef str _error_text(const spin_error *error):
    cdef spin_bytes text
    api.error_message(error, &text)
    return _take_bytes(&text).decode("utf-8", "replace")


cdef str _first_line(str text):
    return text.strip().split("\n", 1)[0]


cdef str _trap_reason(str message):
    """The line of the engine's trap message that says why; the lines before it are the guest's stack."""
    for line in reversed(message.splitlines()):
        if "wasm trap:" in line:
            return line.split("wasm trap:", 1)[1].strip()
    return _first_line(message)


cdef int _boot() except -1:
    cdef void *library = _open_library()
    _check_layout()
    _fill_api(library)
    _start_engine()
    spin_keep_results()
    return 0


_boot()
