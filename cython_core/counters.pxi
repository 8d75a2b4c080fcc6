# What benchmarks and tests read from the inside.

from time import perf_counter_ns as _now_ns


def struct_sizes():
    """Sizes in bytes of the structs that cross to the engine, by name."""
    return {"func": sizeof(spin_func), "extern": sizeof(spin_extern), "raw": sizeof(spin_raw), "memory": sizeof(spin_memory)}


def live_handles(Instance guest not None):
    """Number of resource handles that an instance holds now."""
    return guest.handles.live


def peek(Instance guest not None, uint32_t pointer, uint32_t length):
    """A copy of guest memory, for tests and dumps."""
    return PyBytes_FromStringAndSize(<char *>guest.span(pointer, length), length)


def time_raise(Table table not None, tuple arguments not None, uint64_t rounds):
    """Nanoseconds of `rounds` raises from Cython; the arguments are i32 values, as flat functions take them."""
    cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
    cdef spin_raw given[FLAT_PARAMS_MAX + 1]
    cdef uint64_t round
    memset(given, 0, sizeof(given))
    for position, value in enumerate(arguments):
        given[<int>position].i64 = value
    began = _now_ns()
    for round in range(rounds):
        memcpy(raw, given, 5 * sizeof(spin_raw))
        table.raise_flat(raw)
    return _now_ns() - began


def time_engine_call(Export export not None, tuple arguments not None, uint64_t rounds):
    """Nanoseconds of `rounds` bare unchecked engine calls of the same function: the floor of `time_raise`."""
    cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
    cdef spin_raw given[FLAT_PARAMS_MAX + 1]
    cdef spin_trap *trap = NULL
    cdef spin_error *error
    cdef uint64_t round
    memset(given, 0, sizeof(given))
    for position, value in enumerate(arguments):
        given[<int>position].i64 = value
    export.guest._begin()
    api.context_set_epoch_deadline(export.guest.context, 1 << 40)
    began = _now_ns()
    for round in range(rounds):
        memcpy(raw, given, 5 * sizeof(spin_raw))
        error = api.func_call_unchecked(export.guest.context, &export.function, raw, FLAT_PARAMS_MAX + 1, &trap)
        if error != NULL or trap != NULL:
            raise export.guest.fault(export.plan.name, error, trap)
    taken = _now_ns() - began
    export.guest.busy = False
    return taken
