# Traces: where guest code was when it failed. The engine catches that anyway; here it is kept as it is, and read when somebody asks.

cdef enum:
    FRAMES_MAX = 64


@cython.final
cdef class Trace:
    """The frames of guest code that a failed call had on the stack."""

    cdef spin_trap *trap
    cdef spin_error *error

    def __dealloc__(self):
        if self.trap != NULL:
            api.trap_delete(self.trap)
        if self.error != NULL:
            api.error_delete(self.error)

    def frames(self):
        """Each frame as (module, function, offset), the innermost first, at most 64.

        ``module`` is the name that its name section gives it, or empty; ``function`` its index in there, imports first; ``offset`` the
        bytes from the start of the module, as it was compiled.
        """
        cdef spin_frames found
        cdef size_t position
        found.size, found.data = 0, NULL
        if self.trap != NULL:
            api.trap_trace(self.trap, &found)
        elif self.error != NULL:
            api.error_trace(self.error, &found)
        try:
            return [_read_frame(found.data[position]) for position in range(min(found.size, <size_t>FRAMES_MAX))]
        finally:
            if found.data != NULL:
                api.frames_delete(&found)


cdef tuple _read_frame(const spin_trace_frame *frame):
    cdef const spin_bytes *name = api.frame_module(frame)
    text = "" if name == NULL else PyBytes_FromStringAndSize(name.data, <Py_ssize_t>name.size).rstrip(b"\0").decode("utf-8", "replace")
    return text, api.frame_function(frame), api.frame_offset(frame)


# Codes of wasmtime's trap.h that get an error of their own; the others are named by the engine's own words.
cdef enum:
    TRAP_INTERRUPT = 10

# Code → those words: asking for them puts the whole stack into words, too.
cdef dict _reasons = {}


cdef object _failure_of(Trace trace, str where):
    """What the engine ended a call with, as an error of ours."""
    cdef uint8_t code = 255
    reason = _plain_reason(trace)
    if reason is not None:
        return Trapped(f"{where}: {reason}")
    if trace.trap == NULL:
        return Trapped(f"{where}: {_trap_reason(_error_text(trace.error))}")
    if api.trap_code(trace.trap, &code):
        return DeadlineExceeded(f"{where}: still running at its deadline", hint="raise limits.deadline_ms or make the handler shorter")
    return Trapped(f"{where}: {_trap_reason(_trap_text(trace.trap))}")


cdef str _plain_reason(Trace trace):
    """The engine's words for a trap of an instruction; none for the deadline, and for what has no code."""
    cdef uint8_t code = 255
    if trace.trap == NULL or not api.trap_code(trace.trap, &code) or code == TRAP_INTERRUPT:
        return None
    reason = _reasons.get(code)
    if reason is None:
        reason = _reasons[code] = _trap_reason(_trap_text(trace.trap))
    return reason


cdef str _trap_text(const spin_trap *trap):
    cdef spin_bytes text
    api.trap_message(trap, &text)
    return _take_bytes(&text).rstrip(b"\0").decode("utf-8", "replace")


cdef Trace _trace_of(spin_error *error, spin_trap *trap):
    """Keep both; they are consumed."""
    cdef Trace trace = Trace.__new__(Trace)
    trace.error, trace.trap = error, trap
    return trace
