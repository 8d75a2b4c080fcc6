# Exports: functions of an instance, ready to be called with Python values.

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
        spin_new_version(&guest.store.state)

    cdef int _find(self, Instance guest) except -1:
        results = self.plan.export_signature.partition(":")[2]
        if not guest._find_function(self.name, self.plan.export_signature, &self.function):
            raise LinkError(f"extension {guest.name}: found no exported function {self.name}, expected one")
        self.has_post = guest._find_function(f"cabi_post_{self.name}", f"{results}:", &self.post)
        self.generation = guest.store.state.generation
        return 0

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
        """Call it inside a call; `quantum_ticks` shortens its deadline."""
        cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
        cdef spin_frame frame
        cdef spin_slot slot
        cdef Instance guest = self.guest
        self.refresh()
        guest.enter(&frame, &slot)
        if quantum_ticks:
            slot.ticks = min(slot.ticks, quantum_ticks)
        guest.call = call
        frame.call = <void *>call
        try:
            self._lower(arguments, raw)
            return self._run(raw)
        except UsageError:
            raise  # an argument of the host's; had the guest failed, `fault` would have marked it
        except BaseException:
            guest.mark_broken()
            raise
        finally:
            guest.handles.end_borrows()
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
