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
    if not guest.is_there():
        raise ClosedError(f"extension {guest.name}: found its memory gone with its store, expected one that lives")
    return PyBytes_FromStringAndSize(<char *>guest.span(pointer, length), length)


cdef extern from *:
    """
    static int64_t spin_next(int64_t value) { return value + 1; }
    /* Volatile: read anew for each call, so the compiler does not know whom it calls. */
    static int64_t (*volatile spin_indirect)(int64_t) = spin_next;
    """
    int64_t (*spin_indirect)(int64_t) noexcept


def time_indirect_call(uint64_t rounds):
    """Nanoseconds of `rounds` calls through a C function pointer, of one integer each: what a call costs the machine."""
    cdef int64_t value = 0
    cdef uint64_t round
    began = _now_ns()
    for round in range(rounds):
        value = spin_indirect(value)
    taken = _now_ns() - began
    if <uint64_t>value != rounds:
        raise InternalError(f"indirect calls: found {value}, expected {rounds}")
    return taken


def time_raise(Dispatcher event not None, tuple arguments not None, uint64_t rounds):
    """Nanoseconds of `rounds` raises of a flat event from Cython; the arguments are integers."""
    cdef spin_raw raw[RAW_MAX]
    cdef spin_raw given[RAW_MAX]
    cdef uint64_t round
    cdef size_t size = max(1, len(arguments)) * sizeof(spin_raw)
    _take_integers(arguments, given)
    began = _now_ns()
    for round in range(rounds):
        memcpy(raw, given, size)
        event.raise_flat(raw)
    return _now_ns() - began


def time_raises(Dispatcher event not None, tuple given not None, uint64_t rounds):
    """Nanoseconds of `rounds` times these raises of a flat event, one after the other; `given` are their arguments, tuples of integers.

    Handlers that fail are the event's to answer for: one that does not skip them ends it.
    """
    cdef spin_raw raw[RAW_MAX]
    cdef spin_raw row[RAW_MAX]
    cdef bytes rows = b""
    cdef const char *kept
    cdef uint64_t round
    cdef size_t at
    for arguments in given:
        _take_integers(arguments, row)
        rows += PyBytes_FromStringAndSize(<char *>row, sizeof(row))
    kept = PyBytes_AS_STRING(rows)
    began = _now_ns()
    for round in range(rounds):
        for at in range(0, <size_t>PyBytes_GET_SIZE(rows), sizeof(raw)):
            memcpy(raw, kept + at, sizeof(raw))
            event.raise_flat(raw)
    return _now_ns() - began


def time_engine_call(Export export not None, tuple arguments not None, uint64_t rounds, *, bint copied=False):
    """Nanoseconds of `rounds` bare unchecked engine calls of the same function: the floor of `time_raise`. Its undo log must hold all of them.

    With `copied` its whole memory is copied before each.
    """
    cdef bytes kept = bytes(export.guest.memory_size if copied else 0)
    cdef spin_raw raw[RAW_MAX]
    cdef spin_raw given[RAW_MAX]
    cdef spin_frame frame
    cdef spin_slot slot
    cdef spin_trap *trap = NULL
    cdef spin_error *error
    cdef uint64_t round
    cdef size_t size = max(1, len(arguments)) * sizeof(spin_raw)
    cdef spin_context *context = export.guest.context
    _take_integers(arguments, given)
    export.refresh()
    export.guest.enter(&frame, &slot, None)
    slot.ticks = 1 << 30
    began = _now_ns()
    for round in range(rounds):
        memcpy(raw, given, size)
        if copied:
            memcpy(PyBytes_AS_STRING(kept), export.guest.base, PyBytes_GET_SIZE(kept))
        error = api.func_call_unchecked(context, &export.function, raw, RAW_MAX, &trap)
        if error != NULL or trap != NULL:
            export.guest.mark_broken()
            raise export.guest.fault(export.plan.name, error, trap)
    taken = _now_ns() - began
    export.guest.leave(&frame)
    _keep(export.guest)
    return taken


cdef int _take_integers(tuple arguments, spin_raw *given) except -1:
    memset(given, 0, RAW_MAX * sizeof(spin_raw))
    for position, value in enumerate(arguments):
        given[<int>position].i64 = value
    return 0
