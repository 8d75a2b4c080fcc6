# What a handler can say about the raise that it runs in, and what is left of its quotas: served without any Python.

cdef enum:
    CONTROL_CANCEL = 0
    CONTROL_CALLS_LEFT = 1

_CONTROLS = {"cancel": (CONTROL_CANCEL, ":"), "host-calls-left": (CONTROL_CALLS_LEFT, ":i")}


@cython.final
cdef class ControlFunction(NativeFunction):
    """A function of ``spinrt:extension/control``, by its WIT name.

    Args:
        name: ``cancel`` or ``host-calls-left``.
        closure: Serves it where no raise is under way.
    """

    cdef int which

    def __init__(self, str name not None, object closure not None):
        self.which, signature = _CONTROLS[name]
        self._set(signature, closure)
        self.quick = _control_quickly

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        if self.which == CONTROL_CANCEL and guest.store.state.frame.call == NULL:
            return 0
        _control_quickly(<PyObject *>self, &guest.store.state, &guest.g, raw)
        return 1


cdef void _control_quickly(PyObject *function, spin_state *state, spin_guest *guest, spin_raw *raw) noexcept:
    if (<ControlFunction>function).which == CONTROL_CALLS_LEFT:
        raw[0].u64 = guest.host_calls_left
        return
    if state.frame.call != NULL:
        (<Call>state.frame.call).cancelled = True
    if state.stub_end != NULL:
        state.stub_end[0] = 0
