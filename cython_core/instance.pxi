# Instances: a module at work in a store of its own, its exports to call and the host functions it imports.

@cython.final
cdef class InstanceLimits:
    """What one instance may use.

    Attributes:
        memory_bytes: Linear memory.
        table_entries: Entries of each table.
        handles: Live resource handles.
        deadline_ticks: Length of one call, in ticks of ``TICK_NS``; a call may run up to one tick longer.
        effects: Effects of one handler in one call.
        host_calls: Host calls of one call.
        lift_bytes: Bytes (and 16 for each list element) that one call may pass to the host.
    """

    cdef readonly uint64_t memory_bytes, lift_bytes
    cdef readonly uint32_t table_entries, handles, deadline_ticks, effects, host_calls

    def __init__(self, *, memory_bytes, table_entries, handles, deadline_ticks, effects, host_calls, lift_bytes):
        self.memory_bytes = memory_bytes
        self.table_entries = table_entries
        self.handles = handles
        self.deadline_ticks = deadline_ticks
        self.effects = effects
        self.host_calls = host_calls
        self.lift_bytes = lift_bytes


@cython.final
cdef class HostFunction:
    """One import of one instance: a plan and the closure that serves it, called as ``closure(call, *arguments)``.

    A `NativeFunction` is asked first, and its own closure serves what it does not.
    """

    cdef FunctionPlan plan
    cdef object closure
    cdef NativeFunction native
    cdef void *guest  # the Instance; it owns this object

    def __init__(self, FunctionPlan plan not None, object closure not None):
        self.plan = plan
        self.closure = closure
        if isinstance(closure, NativeFunction):
            self.native = closure
            self.native.check(plan)
            self.closure = self.native.closure


@cython.final
cdef class DropFunction:
    """The ``[resource-drop]`` import of a resource type."""

    cdef uint32_t type_id
    cdef void *guest

    def __init__(self, str resource not None):
        self.type_id = resource_id(resource)


cdef int _check_signature(str what, str found, str expected) except -1:
    """What crosses the boundary unchecked has exactly the core type that its plan was made for."""
    if found != expected:
        raise SignatureMismatch(f"{what}: found core type ({found}), expected ({expected})")
    return 0


cdef spin_functype *_function_type(str signature) except NULL:
    letters, given = signature.split(":")
    cdef spin_valtypes parameters, results
    _value_types(letters, &parameters)
    _value_types(given, &results)
    return api.functype_new(&parameters, &results)


cdef int _value_types(str letters, spin_valtypes *types) except -1:
    cdef spin_valtype *made[FLAT_MAX]
    cdef int position
    for position in range(len(letters)):
        made[position] = api.valtype_new("ilfd".index(letters[position]))
    api.valtypes_new(types, len(letters), made)
    return 0


# What guests point at when they have no memory: every span of length 0 is valid, none longer.
cdef uint8_t _no_memory[1]


@cython.final
cdef class Instance:
    """A module linked with its imports, in a store of its own.

    Args:
        module: The compiled module.
        imports: A `HostFunction` or `DropFunction` for each import, in the module's order; each serves this instance only.
        limits: What it may use.
        name: Who it is, in messages.

    Raises:
        LinkError: The engine refuses to link.
        MemoryExceeded: Its memory or tables do not fit into the limits.
        ExtensionError: Its start function failed.
    """

    cdef spin_store *store
    cdef spin_context *context
    cdef spin_instance handle
    cdef spin_memory memory
    cdef spin_func realloc
    cdef bint has_memory, has_realloc
    cdef uint8_t *base
    cdef size_t memory_bytes
    cdef uint64_t lift_left
    cdef uint32_t host_calls_left
    cdef long thread        # the one that made it, and may call it
    cdef bint busy          # a call is running: the guest may not be entered again
    cdef bint may_leave     # host functions may be called (not from within cabi_realloc or cabi_post)
    cdef readonly bint broken  # a call failed half-way: nothing more runs in this instance
    cdef object pending     # exception of a host function on its way through the guest
    cdef object call        # the running Call
    cdef readonly Module module
    cdef readonly str name
    cdef readonly InstanceLimits limits
    cdef HandleTable handles
    cdef tuple imports

    def __cinit__(self, Module module not None, tuple imports not None, InstanceLimits limits not None, str name not None):
        self.module, self.imports, self.limits, self.name = module, imports, limits, name
        self.thread = PyThread_get_thread_ident()
        self.handles = HandleTable(limits.handles)
        self.may_leave = True
        self.base = _no_memory
        self.store = api.store_new(engine, NULL, NULL)
        self.context = api.store_context(self.store)
        api.store_limiter(self.store, <int64_t>limits.memory_bytes, limits.table_entries, 1, 8, 1)
        self._instantiate()
        self._find_memory()

    def __dealloc__(self):
        if self.store != NULL:
            api.store_delete(self.store)

    cdef int _instantiate(self) except -1:
        cdef spin_extern *externs = <spin_extern *>calloc(len(self.imports) + 1, sizeof(spin_extern))
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        if externs == NULL:
            raise MemoryError
        if len(self.imports) != len(self.module.imports):
            free(externs)
            raise InternalError(f"extension {self.name}: found {len(self.imports)} imports, expected {len(self.module.imports)}")
        try:
            for position, function in enumerate(self.imports):
                self._make_import(function, self.module.imports[position][3], &externs[<Py_ssize_t>position])
            self._begin()
            error = api.instance_new(self.context, self.module.pointer, externs, len(self.imports), &self.handle, &trap)
            self.busy = False
        finally:
            free(externs)
        if error != NULL or trap != NULL:
            raise self._link_failure(error, trap)
        return 0

    cdef object _link_failure(self, spin_error *error, spin_trap *trap):
        if error != NULL and self.pending is None and trap == NULL:
            message = _take_error(error)
            if "exceeds" in message or "limit" in message:
                return MemoryExceeded(
                    f"extension {self.name}: {_first_line(message)}",
                    hint=f"its limits are {self.limits.memory_bytes} bytes of memory and {self.limits.table_entries} table entries",
                )
            return LinkError(f"extension {self.name}: {_first_line(message)}")
        return self.fault("start function", error, trap)

    cdef int _make_import(self, object function, str signature, spin_extern *made) except -1:
        cdef str expected = (<HostFunction>function).plan.import_signature if isinstance(function, HostFunction) else "i:"
        _check_signature(f"extension {self.name}, import", signature, expected)
        cdef spin_functype *type = _function_type(signature)
        made.kind = SPIN_EXTERN_FUNC
        if isinstance(function, HostFunction):
            (<HostFunction>function).guest = <void *>self
            api.func_new_unchecked(self.context, type, <spin_callback><void *>_call_host, <void *>function, NULL, &made.of.func)
        else:
            (<DropFunction?>function).guest = <void *>self
            api.func_new_unchecked(self.context, type, <spin_callback><void *>_drop_handle, <void *>function, NULL, &made.of.func)
        api.functype_delete(type)
        return 0

    cdef int _find_memory(self) except -1:
        cdef spin_extern found
        if api.instance_export_get(self.context, &self.handle, b"memory", 6, &found) and found.kind == SPIN_EXTERN_MEMORY:
            self.memory = found.of.memory
            self.has_memory = True
            self.base = api.memory_data(self.context, &self.memory)
            self.memory_bytes = api.memory_data_size(self.context, &self.memory)
        self.has_realloc = self._find_function("cabi_realloc", "iiii:i", &self.realloc)
        return 0

    cdef bint _find_function(self, str name, str signature, spin_func *function) except -1:
        """Find an exported function of that core type; false when nothing of that name is exported."""
        cdef spin_extern found
        if name in self.module.exports:
            _check_signature(f"extension {self.name}, export {name}", self.module.exports[name][1], signature)
        cdef bytes text = name.encode()
        if not api.instance_export_get(self.context, &self.handle, text, len(text), &found):
            return False
        if found.kind != SPIN_EXTERN_FUNC:
            return False
        function[0] = found.of.func
        return True

    # -------------------------------------------------------------------------------------------------- guest memory

    cdef inline uint8_t *span(self, uint32_t pointer, uint64_t length) except NULL:
        """The guest's bytes from `pointer`, checked; valid until the guest runs again."""
        if <uint64_t>pointer + length > self.memory_bytes:
            self._refresh(pointer, length)
        return self.base + pointer

    cdef int _refresh(self, uint32_t pointer, uint64_t length) except -1:
        """Look again: the guest may have grown its memory."""
        if self.has_memory:
            self.memory_bytes = api.memory_data_size(self.context, &self.memory)
        if <uint64_t>pointer + length > self.memory_bytes:
            raise AbiError(
                f"extension {self.name}: found {length} bytes at {pointer:#x}, expected them inside its memory of {self.memory_bytes} bytes"
            )
        return 0

    cdef int take_lift(self, uint64_t cost) except -1:
        if cost > self.lift_left:
            raise QuotaExceeded(
                f"extension {self.name}: found more than {self.limits.lift_bytes} bytes passed to the host in one call, expected at most that",
                hint="raise limits.lift_bytes",
            )
        self.lift_left -= cost
        return 0

    cdef uint32_t allocate(self, uint32_t align, uint64_t size) except? 0xFFFFFFFF:
        """Ask the guest's `cabi_realloc` for room; what it answers is checked like any pointer of a guest."""
        cdef spin_raw raw[4]
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        cdef bint could_leave = self.may_leave
        if size == 0:
            return align
        if not self.has_realloc or size > self.limits.memory_bytes:
            raise QuotaExceeded(f"extension {self.name}: found {size} bytes to pass in, expected them to fit into its memory")
        raw[0].u64 = 0
        raw[1].u64 = 0
        raw[2].u64 = align
        raw[3].u64 = size
        self.may_leave = False
        error = api.func_call_unchecked(self.context, &self.realloc, raw, 4, &trap)
        self.may_leave = could_leave
        if error != NULL or trap != NULL:
            raise self.fault("cabi_realloc", error, trap)
        _check_aligned(raw[0].u32, align)
        self.span(raw[0].u32, size)
        return raw[0].u32

    cdef uint32_t put_bytes(self, const uint8_t *data, uint64_t size) except? 0xFFFFFFFF:
        cdef uint32_t pointer = self.allocate(1, size)
        if size:
            memcpy(self.span(pointer, size), data, size)
        return pointer

    # --------------------------------------------------------------------------------------------------------- calls

    cdef int _begin(self) except -1:
        """Enter the guest: no call inside a call, fresh quotas, a deadline."""
        if self.broken:
            raise StateError(f"extension {self.name}: this instance was closed, or a call failed in it, expected a fresh one")
        if self.thread != PyThread_get_thread_ident():
            raise UsageError(f"extension {self.name}: found a call from another thread, expected the one that loaded it")
        if not spin_stack_has(STACK_NEEDED_BYTES):
            raise QuotaExceeded(
                f"extension {self.name}: found less than {STACK_NEEDED_BYTES} bytes of the thread's stack left, expected more",
                hint="nest fewer raises, or give the thread a larger stack",
            )
        if self.busy:
            raise StateError(f"extension {self.name}: found a call while one is running in it, expected it to be entered once at a time")
        if spin_ticker_need(self.limits.deadline_ticks + 1):
            raise InternalError("deadline ticker: its thread could not be started")
        self.busy = True
        self.lift_left = self.limits.lift_bytes
        self.host_calls_left = self.limits.host_calls
        api.context_set_epoch_deadline(self.context, self.limits.deadline_ticks + 1)
        return 0

    def close(self):
        """Run nothing more in it; a call that is under way runs to its end."""
        self.broken = True

    cdef object fault(self, str where, spin_error *error, spin_trap *trap):
        """What went wrong, as an error; both arguments are consumed and the instance is broken from here on."""
        self.broken = True
        if self.pending is not None:
            failure, self.pending = self.pending, None
            if error != NULL:
                api.error_delete(error)
            if trap != NULL:
                api.trap_delete(trap)
            return failure
        if trap != NULL:
            return _take_trap(trap, f"extension {self.name}, {where}")
        return Trapped(f"extension {self.name}, {where}: {_trap_reason(_take_error(error))}")


cdef spin_trap *_trap_with(Instance guest, object failure) noexcept:
    """Leave the guest with `failure` as the reason."""
    guest.pending = failure
    return api.trap_new(b"host function failed", 20)


cdef spin_trap *_call_host(void *env, spin_caller *caller, spin_raw *raw, size_t count) noexcept:
    cdef HostFunction function = <HostFunction>env
    cdef Instance guest = <Instance>function.guest
    try:
        _serve(function, guest, raw)
        return NULL
    except BaseException as failure:
        return _trap_with(guest, _host_failure(function, failure))


cdef object _host_failure(HostFunction function, object failure):
    """What a host function raised, as the guest's caller sees it: a mistake of the host is named as one."""
    if isinstance(failure, Exception) and (type(failure) is UsageError or not isinstance(failure, SpinError)):
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
    if not guest.may_leave:
        raise AbiError(f"extension {guest.name}: found a call of {plan.name} from within its allocator, expected none there")
    if guest.host_calls_left == 0:
        raise QuotaExceeded(f"extension {guest.name}: found more than {guest.limits.host_calls} host calls in one call, expected at most that", hint="raise limits.host_calls")
    guest.host_calls_left -= 1
    if plan.result_in_memory:
        pointer = raw[1 if plan.parameters_in_memory else _flat_count(plan)].u32
        _check_aligned(pointer, result.align)
        guest.span(pointer, result.size)
    if function.native is not None and function.native.serve(guest, raw, pointer):
        return 0
    answer = _ask(function, guest, raw)
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
    cdef DropFunction function = <DropFunction>env
    cdef Instance guest = <Instance>function.guest
    cdef uint32_t slot
    try:
        slot = guest.handles.find(raw[0].u32, function.type_id)
        guest.handles.release(slot)
        return NULL
    except BaseException as failure:
        return _trap_with(guest, failure)


@cython.final
cdef class Export:
    """One exported function of one instance, ready to be called."""

    cdef readonly Instance guest
    cdef readonly str name
    cdef FunctionPlan plan
    cdef spin_func function
    cdef spin_func post
    cdef bint has_post

    def __init__(self, Instance guest not None, str name not None, FunctionPlan plan not None):
        self.name, self.plan = name, plan
        self.rebind(guest)

    def rebind(self, Instance guest not None):
        """Mean the same function of another instance from now on."""
        results = self.plan.export_signature.partition(":")[2]
        if not guest._find_function(self.name, self.plan.export_signature, &self.function):
            raise LinkError(f"extension {guest.name}: found no exported function {self.name}, expected one")
        self.has_post = guest._find_function(f"cabi_post_{self.name}", f"{results}:", &self.post)
        self.guest = guest

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

    cdef object invoke(self, Call call, tuple arguments):
        cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
        cdef Instance guest = self.guest
        guest._begin()
        guest.call = call
        try:
            self._lower(arguments, raw)
            return self._run(raw)
        except UsageError:
            raise  # an argument of the host's; had the guest failed, `fault` would have marked it
        except BaseException:
            guest.broken = True
            raise
        finally:
            guest.handles.end_borrows()
            guest.call = None
            guest.busy = False

    cdef int call_flat(self, spin_raw *raw) except -1:
        """Call a function whose arguments and result are flat values already."""
        cdef Instance guest = self.guest
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        guest._begin()
        error = api.func_call_unchecked(guest.context, &self.function, raw, FLAT_PARAMS_MAX + 1, &trap)
        guest.busy = False
        if error != NULL or trap != NULL:
            raise guest.fault(self.plan.name, error, trap)
        return 0

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
        guest.may_leave = False
        error = api.func_call_unchecked(guest.context, &self.post, raw, 2, &trap)
        guest.may_leave = True
        if error != NULL or trap != NULL:
            raise guest.fault(f"cabi_post of {self.plan.name}", error, trap)
        return 0
