# Exports: functions of an instance, ready to be called with Python values.

# Stands for: looked up in no store that there is now.
cdef uint64_t GENERATION_UNKNOWN = 0xFFFFFFFFFFFFFFFF


@cython.final
cdef class Export:
    """One exported function of one instance, ready to be called."""

    cdef readonly Instance guest
    cdef readonly str name
    cdef readonly FunctionPlan plan
    cdef uint64_t generation    # of the store, when `function` was found
    cdef spin_func function
    cdef spin_func post
    cdef bint has_post
    cdef object __weakref__

    def __init__(self, Instance guest not None, str name not None, FunctionPlan plan not None):
        self.name, self.plan = name, plan
        self.rebind(guest)

    def rebind(self, Instance guest not None):
        """Mean the same function of another instance from now on."""
        cdef Instance before = self.guest
        self._find(guest)
        if before is not None:
            before.store.retire(before)
            if before.store is not guest.store:
                spin_new_version(&before.store.state)
        self.guest = guest
        guest.exports.add(self)
        spin_new_version(&guest.store.state)

    cdef int _find(self, Instance guest) except -1:
        results = self.plan.export_signature.partition(":")[2]
        if not guest._find_function(self.name, self.plan.export_signature, &self.function):
            raise LinkError(f"extension {guest.name}: found no exported function {self.name}, expected one")
        self.has_post = guest._find_function(f"cabi_post_{self.name}", f"{results}:", &self.post)
        self.generation = guest.store.state.generation
        return 0

    cdef Instance wanted(self):
        """The instance that it means, for whoever is about to enter it; one in quarantine may leave that now."""
        cdef Instance other
        if self.guest.g.state & SPIN_QUARANTINED:
            self.guest.ask_for()
        for other in self.guest.linked:
            other.ask_for()
        return self.guest

    cdef inline int refresh(self) except -1:
        """Look again after the store was collected.

        Raises:
            SpinError: The instance could not be entered then, and was left behind.
        """
        if self.generation != self.guest.store.state.generation:
            if not self.guest.is_there():
                self.guest.refuse()
            self._find(self.guest)
        return 0

    def __call__(self, Call call, *arguments):
        """Call the guest.

        Args:
            call: The running call, which host functions get; ``None`` outside of one.
            arguments: One for each parameter.

        Raises:
            ExtensionError, CapabilityError: The guest failed; its instance is ``broken`` and its handles are gone.
            UsageError: An argument has the wrong type; nothing ran.
        """
        return self.invoke(call, arguments)

    def call_within(self, uint32_t quantum_ticks, Call call, *arguments):
        """Call the guest, and end it after so many ticks unless its deadline is earlier; for the reference dispatcher."""
        return self.invoke(call, arguments, quantum_ticks)

    cdef object invoke(self, Call call, tuple arguments, uint32_t quantum_ticks=0):
        """Call it inside a call; `quantum_ticks` shortens its deadline. When it fails, nothing of what it did is left."""
        cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
        cdef spin_frame frame
        cdef spin_slot slot
        cdef Instance guest = self.guest
        cdef Touches touches = None if call is None else call.touches
        cdef Py_ssize_t effects = 0, touched = 0
        cdef Savepoint before
        cdef list linked
        if guest.g.state or guest.linked:
            guest = self.wanted()
        self.refresh()
        guest.enter(&frame, &slot, touches)
        before = _savepoint(guest)
        linked = _linked_savepoints(guest) if guest.linked else None
        if quantum_ticks:
            slot.ticks = min(slot.ticks, quantum_ticks)
        guest.call = call
        frame.call = <void *>call
        if call is not None:
            effects, touched = len(call.journal.effects), len(touches.guests)
        try:
            self._lower(arguments, raw)
            answer = self._run(raw)
            guest.handles.end_borrows()
            if linked is not None or spin_is_changed(&guest.g):
                _settle(guest, before, linked, touches)
            return answer
        except BaseException as failure:
            guest.handles.end_borrows()
            if call is not None:
                call.go_back(effects, touched)
            # An argument of the host's was wrong: nothing failed in the guest, but room may have been made for others.
            _take_back(guest, before, linked, type(failure) is not UsageError and type(failure) is not RevokedArgument)
            raise
        finally:
            guest.call = None
            guest.leave(&frame)

    cdef int _lower(self, tuple arguments, spin_raw *raw) except -1:
        cdef FunctionPlan plan = self.plan
        cdef uint32_t pointer
        if len(arguments) != plan.parameter_count:
            raise UsageError(f"{plan.name}: found {len(arguments)} arguments, expected {plan.parameter_count}")
        if plan.parameters is None:
            return 0
        if not plan.parameters_in_memory:
            return plan.parameters.lower(self.guest, arguments, raw)
        pointer = self.guest.allocate(plan.parameters.align, plan.parameters.size)
        plan.parameters.store(self.guest, arguments, pointer)
        raw[0].u64 = pointer
        return 0

    cdef object _run(self, spin_raw *raw):
        cdef Instance guest = self.guest
        cdef FunctionPlan plan = self.plan
        cdef spin_raw returned
        cdef spin_trap *trap = NULL
        cdef spin_error *error = api.func_call_unchecked(guest.context, &self.function, raw, FLAT_PARAMS_MAX + 1, &trap)
        if error != NULL or trap != NULL:
            raise guest.fault(plan.name, error, trap)
        returned = raw[0]
        answer = None
        if plan.result is not None:
            answer = self._load(raw[0].u32) if plan.result_in_memory else plan.result.lift(guest, raw)
        if self.has_post:
            self._clean_up(&returned)
        return answer

    cdef object _load(self, uint32_t pointer):
        cdef Plan result = self.plan.result
        _check_aligned(pointer, result.align)
        self.guest.span(pointer, result.size)
        return result.load(self.guest, pointer)

    cdef int _clean_up(self, spin_raw *returned) except -1:
        """Call `cabi_post_…` with what the function returned; it may not call out."""
        cdef Instance guest = self.guest
        cdef spin_raw raw[2]
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        raw[0] = returned[0]
        guest.g.may_leave = False
        error = api.func_call_unchecked(guest.context, &self.post, raw, 2, &trap)
        guest.g.may_leave = True
        if error != NULL or trap != NULL:
            raise guest.fault(f"cabi_post of {self.plan.name}", error, trap)
        return 0


cdef list _linked_savepoints(Instance guest):
    """How far the logs of those are that it calls directly."""
    cdef Instance other
    cdef Savepoint now
    found = []
    for other in guest.linked:
        now = _savepoint(other)
        found.append((other, now.state, now.handles))
    return found


cdef int _settle(Instance guest, Savepoint before, list linked, Touches touches) except -1:
    """A call succeeded: what it changed waits for the end of its transaction, or stays for good if there is none."""
    cdef Instance other
    cdef Savepoint then
    if spin_is_changed(&guest.g):
        _note_or_keep(guest, before, touches)
    for other, then.state, then.handles in linked or ():
        if spin_is_changed(&other.g):
            _note_or_keep(other, then, touches)
    return 0


cdef inline int _note_or_keep(Instance guest, Savepoint before, Touches touches) except -1:
    if touches is None:
        _keep(guest)
        return 0
    if guest.g.log.state != before.state or guest.handles.changes != before.handles:
        touches.note(guest, before)
    return 0


cdef int _take_back(Instance guest, Savepoint before, list linked, bint failed) except -1:
    """A call did not succeed: put back what it changed. Where that cannot be, and the guest failed, it is broken."""
    cdef Instance other
    cdef Savepoint then
    if failed:
        _recover(guest, before)
    else:
        _roll_back(guest, before)
    for other, then.state, then.handles in linked or ():
        if failed:
            _recover(other, then)
        else:
            _roll_back(other, then)
    return 0
