# Host functions: what guests call. An import is bound to one closure, or to something that the core serves by itself.

@cython.final
cdef class HostFunction:
    """One import of one instance: a plan and the closure that serves it, called as ``closure(call, *arguments)``.

    A `NativeFunction` is asked first, and its own closure serves what it does not. A ``meter`` is called before each call,
    whoever serves it, and may refuse it. ``on_error`` is called with each ``Err`` that the closure answered.
    """

    cdef FunctionPlan plan
    cdef object closure
    cdef object meter
    cdef object on_error
    cdef NativeFunction native
    cdef bint is_quick      # the native function needs nothing of what `_admit` does but the quota
    cdef void *guest        # the Instance; it owns this object
    cdef spin_guest *g      # its part that every call looks at
    cdef spin_state *state  # its store's

    def __init__(self, FunctionPlan plan not None, object closure not None, object meter=None, object on_error=None):
        self.plan = plan
        self.closure = closure
        self.meter = meter
        self.on_error = on_error
        if isinstance(closure, NativeFunction):
            self.native = closure
            self.native.check(plan)
            self.closure = self.native.closure
            self.is_quick = self.native.quick != NULL and meter is None


@cython.final
cdef class DropFunction:
    """The ``[resource-drop]`` import of a resource type."""

    cdef uint32_t type_id
    cdef void *guest
    cdef spin_state *state

    def __init__(self, str resource not None):
        self.type_id = resource_id(resource)


cdef str _bind_import(object function, Instance guest, spin_callback *callback, void **env):
    """Make a function serve that instance; the core type that it has."""
    env[0] = <void *>function
    if isinstance(function, HostFunction):
        (<HostFunction>function).guest = <void *>guest
        (<HostFunction>function).g = &guest.g
        (<HostFunction>function).state = &guest.store.state
        callback[0] = <spin_callback><void *>_call_host
        return (<HostFunction>function).plan.import_signature
    (<DropFunction?>function).guest = <void *>guest
    (<DropFunction>function).state = &guest.store.state
    callback[0] = <spin_callback><void *>_drop_handle
    return "i:"


cdef spin_trap *_trap_with(Instance guest, object failure) noexcept:
    """Leave the guest with `failure` as the reason."""
    guest.store.pending = failure
    return api.trap_new(b"host function failed", 20)


cdef spin_trap *_call_host(void *env, spin_caller *caller, spin_raw *raw, size_t count) noexcept:
    cdef PyThreadState *released
    cdef spin_trap *trap
    cdef uint32_t was
    if (<HostFunction>env).is_quick and _serve_quickly(<HostFunction>env, raw):
        return NULL
    released = take_lock((<HostFunction>env).state)
    was = spin_mark_busy((<HostFunction>env).g)
    trap = _call_held(<HostFunction>env, raw)
    spin_mark_idle((<HostFunction>env).g, was)
    spin_ticker_touch()  # it may have taken long enough for the ticker to park
    if released != NULL:
        give_lock((<HostFunction>env).state)
    return trap


cdef inline bint _serve_quickly(HostFunction function, spin_raw *raw) noexcept:
    """Serve a call of which nothing but its quota is to be looked at; the first call of a handler is not one of these."""
    cdef spin_guest *guest = function.g
    cdef spin_frame *frame = function.state.frame
    cdef uint32_t progress = frame.what.progress[0]
    if (
        guest.budget_seq != frame.seq or guest.budget_progress != progress or guest.host_calls_left == 0
        or spin_must_look(frame) or not guest.may_leave or function.state.released != NULL
    ):
        return False
    guest.host_calls_left -= 1
    function.native.quick(<PyObject *>function.native, function.state, guest, raw)
    return True


cdef spin_trap *_call_held(HostFunction function, spin_raw *raw) noexcept:
    cdef Instance guest = <Instance>function.guest
    try:
        _admit(function, guest)
        _serve(function, guest, raw)
        if guest.call is not None and (<Call>guest.call).cancelled:
            spin_end_stub(function.state)
        return NULL
    except BaseException as failure:
        return _trap_with(guest, _host_failure(function, guest, failure))


cdef inline PyThreadState *take_lock(spin_state *state) noexcept:
    """Take the interpreter's lock if a long call has given it up; NULL when it is held."""
    cdef PyThreadState *released = <PyThreadState *>state.released
    if released != NULL:
        state.released = NULL
        PyEval_RestoreThread(released)
    return released


cdef inline void give_lock(spin_state *state) noexcept:
    state.released = <void *>PyEval_SaveThread()


cdef inline int _admit(HostFunction function, Instance guest) except -1:
    """Quotas, deadline, and the running call for what may want it."""
    cdef spin_frame *frame = function.state.frame
    cdef uint32_t progress = frame.what.progress[0]
    if not function.g.may_leave:
        raise AbiError(f"extension {guest.name}: found a call of {function.plan.name} from within its allocator, expected none there")
    if function.g.budget_seq != frame.seq or function.g.budget_progress != progress:
        guest.refill(frame, progress)
        if frame.what.dispatcher != NULL:
            _note_handler(frame, progress)
    if function.g.host_calls_left == 0:
        raise QuotaExceeded(f"extension {guest.name}: found more than {guest.limits.host_calls} host calls in one call, expected at most that", hint="raise limits.host_calls")
    function.g.host_calls_left -= 1
    if spin_must_look(frame) and _is_late(frame):
        raise DeadlineExceeded(
            f"extension {guest.name}: found a call of {function.plan.name} after its deadline, expected none", hint="raise limits.deadline_ms or make the handler shorter"
        )
    if guest.call is None and (frame.call != NULL or frame.what.dispatcher != NULL):
        _join_call(frame, guest)
    return 0


cdef bint _is_late(spin_frame *frame) noexcept:
    frame.looked_tick = spin_tick_now()
    return spin_is_over(frame, spin_cpu_ns())


cdef object _host_failure(HostFunction function, Instance guest, object failure):
    """What a host function raised, as the guest's caller sees it: a mistake of the host is named as one."""
    if isinstance(failure, Exception) and (type(failure) is UsageError or not isinstance(failure, SpinError)):
        if guest.born == 0 and guest.call is None:  # the start function calls; host functions may count on a call everywhere else
            wrapped = StateError(
                f"extension {guest.name}: found a call of {function.plan.name} from a start function, "
                f"and the host function needs one ({type(failure).__name__}: {failure}); expected it in init or in a handler"
            )
            wrapped.__cause__ = failure
            return wrapped
        wrapped = InternalError(
            f"host function {function.plan.name}: {type(failure).__name__}: {failure}",
            hint="this is a mistake of the host, not of the extension",
        )
        wrapped.__cause__ = failure
        return wrapped
    if isinstance(failure, RevokedArgument):  # the guest's call fails with it; it passed nothing itself
        return CapabilityRevoked(str(failure))
    return failure


cdef int _serve(HostFunction function, Instance guest, spin_raw *raw) except -1:
    cdef FunctionPlan plan = function.plan
    cdef Plan result = plan.result
    cdef uint32_t pointer = 0
    if plan.result_in_memory:
        pointer = raw[1 if plan.parameters_in_memory else _flat_count(plan)].u32
        _check_aligned(pointer, result.align)
        guest.span(pointer, result.size)
    if function.meter is not None:
        if type(function.meter) is Meter:
            (<Meter>function.meter).take()
        else:
            function.meter()
    if function.native is not None and function.native.serve(guest, raw, pointer):
        return 0
    answer = _ask(function, guest, raw)
    if function.on_error is not None and isinstance(result, ResultPlan) and isinstance(answer, (<ResultPlan>result).err):
        function.on_error(answer)
    if function.g.killed:
        guest.refuse()
    if result is None:
        return 0
    if plan.result_in_memory:
        result.store(guest, answer, pointer)
    else:
        result.lower(guest, answer, raw)
    return 0


cdef inline int _flat_count(FunctionPlan plan) noexcept:
    return 0 if plan.parameters is None else plan.parameters.flat_count


cdef object _ask(HostFunction function, Instance guest, spin_raw *raw):
    cdef FunctionPlan plan = function.plan
    if plan.parameters is None:
        return function.closure(guest.call)
    if plan.parameters_in_memory:
        _check_aligned(raw[0].u32, plan.parameters.align)
        guest.span(raw[0].u32, plan.parameters.size)
        return function.closure(guest.call, *plan.parameters.load(guest, raw[0].u32))
    return function.closure(guest.call, *plan.parameters.lift(guest, raw))


cdef spin_trap *_drop_handle(void *env, spin_caller *caller, spin_raw *raw, size_t count) noexcept:
    cdef PyThreadState *released = take_lock((<DropFunction>env).state)
    cdef spin_guest *guest = &(<Instance>(<DropFunction>env).guest).g
    cdef uint32_t was = spin_mark_busy(guest)  # what goes with a handle may run code of the host's
    cdef spin_trap *trap = _drop_held(<DropFunction>env, raw)
    spin_mark_idle(guest, was)
    if released != NULL:
        give_lock((<DropFunction>env).state)
    return trap


cdef spin_trap *_drop_held(DropFunction function, spin_raw *raw) noexcept:
    cdef Instance guest = <Instance>function.guest
    try:
        _take_away(guest, guest.handles.find(raw[0].u32, function.type_id))
        return NULL
    except BaseException as failure:
        return _trap_with(guest, failure)
