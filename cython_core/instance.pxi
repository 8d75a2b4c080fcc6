# Instances: a module at work in a store.

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


cdef class _Moved:
    """A copy of an instance in another engine store, before it is adopted."""

    cdef spin_instance handle


@cython.final
@cython.no_gc_clear
cdef class Instance:
    """A module linked with its imports.

    Args:
        module: The compiled module.
        imports: A `HostFunction`, `DropFunction`, `ControlFunction` or (linked directly, of the same store) an `Export` for each import,
            in the module's order; all but an `Export` serve this instance only.
        limits: What it may use.
        name: Who it is, in messages.
        taken_back: What a failed call changed can be taken back (`spinrt.sandbox.rewrite.Prepared`); else such a call breaks it.
        store: Where it lives; by default a store of its own, whose memories are bounded by the limits. In a shared store the module
            itself must be bounded (``spinrt.sandbox.rewrite``).

    Raises:
        LinkError: The engine refuses to link.
        MemoryExceeded: Its memory or tables do not fit into the limits.
        ExtensionError: Its start function failed.
    """

    cdef spin_guest g
    cdef readonly Store store
    cdef spin_context *context
    cdef spin_instance handle
    cdef spin_memory memory
    cdef spin_func realloc
    cdef bint has_memory, has_realloc
    cdef uint8_t *base
    cdef size_t memory_bytes
    cdef uint64_t born
    cdef uint64_t generation  # of the store that it was last found in
    cdef bint counted       # the store counts it as live
    cdef Call call          # the running Call, or None
    cdef object death       # why it was killed: an exception
    cdef readonly Module module
    cdef readonly str name
    cdef readonly InstanceLimits limits
    cdef readonly bint taken_back
    cdef uint8_t *log_base      # of its undo log, or NULL
    cdef uint64_t log_bytes
    cdef uint8_t *bytes_base    # of what bulk operations overwrote
    cdef uint64_t undo_bytes
    cdef uint8_t *saved         # what the host overwrote, in large pieces
    cdef uint64_t saved_bytes, saved_max
    cdef Touches holder         # of the transaction that has left changes in it, or None
    cdef readonly uint64_t failures  # calls that failed and were rolled back, or broke it
    cdef HandleTable handles
    cdef object exports         # WeakSet of the `Export`s that mean it
    cdef tuple imports
    cdef readonly tuple linked  # instances that it calls directly, and those that they call
    cdef public object on_needed  # called without arguments when somebody wants to enter it in quarantine; may end that
    cdef object __weakref__

    def __cinit__(
        self, Module module not None, tuple imports not None, InstanceLimits limits not None, str name not None, Store store=None, *, bint taken_back=False
    ):
        self.taken_back = taken_back
        self.module, self.imports, self.limits, self.name = module, imports, limits, name
        self.handles = HandleTable(limits.handles)
        self.store = Store(limits.memory_bytes, limits.table_entries) if store is None else store
        self.context = self.store.context
        self.generation = self.store.state.generation
        self.base = _no_memory
        self.g.may_leave = True
        self.g.budget_seq = UINT64_MAX  # no frame's
        self.g.owner = <void *>self
        self.g.log = &self.g.idle
        self.exports = _WeakSet()
        self.g.deadline_ticks = limits.deadline_ticks
        self.g.host_calls, self.g.lift_bytes = limits.host_calls, limits.lift_bytes
        self.linked = self._linked_through(imports)
        self._start()
        self.store.born += 1
        self.born = self.store.born
        self.store.live += 1
        self.counted = True
        self.store.instances.add(self)

    def __dealloc__(self):
        self._count_out()
        free(self.saved)

    cdef int _count_out(self) noexcept:
        if self.counted:
            self.counted = False
            self.store.live -= 1
            self.store.dead += 1
            self.store.dead_bytes += self.memory_bytes
        return 0

    # ------------------------------------------------------------------------------------------------------- linking

    cdef tuple _linked_through(self, tuple imports):
        cdef Export export
        found = {}
        for one in imports:
            if isinstance(one, Export):
                export = one
                if export.guest.store is not self.store:
                    raise LinkError(f"extension {self.name}: {export.name} of {export.guest.name}: found it in another store, expected the same")
                found.update(dict.fromkeys((export.guest, *export.guest.linked)))
        return tuple(found)

    cdef int _start(self) except -1:
        """Instantiate, find what the host uses, and run the start function."""
        cdef spin_frame frame
        cdef spin_slot slot
        cdef spin_func start
        cdef spin_raw raw[1]
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        self.enter(&frame, &slot, None)
        try:
            self.handle = self._instantiate(self.context, self.imports)
            self._find_memory()
            if self.log_base != NULL:
                self.g.idle.state = self.g.log.state
            if self._find_function(START_EXPORT, ":", &start):
                error = api.func_call_unchecked(self.context, &start, raw, 1, &trap)
                if error != NULL or trap != NULL:
                    self.mark_broken()
                    raise self.fault("start function", error, trap)
            _keep(self)
        finally:
            self.leave(&frame)
        return 0

    cdef spin_instance _instantiate(self, spin_context *context, tuple imports) except *:
        cdef spin_extern *externs = <spin_extern *>calloc(len(imports) + 1, sizeof(spin_extern))
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        cdef spin_instance made
        if externs == NULL:
            raise MemoryError
        try:
            if len(imports) != len(self.module.imports):
                raise InternalError(f"extension {self.name}: found {len(imports)} imports, expected {len(self.module.imports)}")
            for position, function in enumerate(imports):
                self._make_import(context, function, self.module.imports[position][3], &externs[<Py_ssize_t>position])
            error = api.instance_new(context, self.module.pointer, externs, len(imports), &made, &trap)
        finally:
            free(externs)
        if error != NULL or trap != NULL:
            raise self._link_failure(error, trap)
        return made

    cdef object _link_failure(self, spin_error *error, spin_trap *trap):
        if error != NULL and self.store.pending is None and trap == NULL and self.store.state.ended == SPIN_RUNS:
            message = _take_error(error)
            if "exceeds" in message or "limit" in message:
                return MemoryExceeded(
                    f"extension {self.name}: {_first_line(message)}",
                    hint=f"its limits are {self.limits.memory_bytes} bytes of memory and {self.limits.table_entries} table entries",
                )
            return LinkError(f"extension {self.name}: {_first_line(message)}")
        return self.fault("start function", error, trap)

    cdef int _make_import(self, spin_context *context, object function, str signature, spin_extern *made) except -1:
        cdef spin_functype *type
        cdef spin_callback callback = NULL
        cdef void *env = NULL
        made.kind = SPIN_EXTERN_FUNC
        if function is None:
            type = _function_type(signature)
            api.func_new_unchecked(context, type, <spin_callback><void *>_call_nobody, NULL, NULL, &made.of.func)
            api.functype_delete(type)
            return 0
        if isinstance(function, Export):
            _check_signature(f"extension {self.name}, import of {(<Export>function).name}", signature, (<Export>function).plan.export_signature)
            if context == self.context:
                (<Export>function).refresh()
            made.of.func = (<Export>function).function
            return 0
        _check_signature(f"extension {self.name}, import", signature, _bind_import(function, self, &callback, &env))
        type = _function_type(signature)
        api.func_new_unchecked(context, type, callback, env, NULL, &made.of.func)
        api.functype_delete(type)
        return 0

    cdef int _find_memory(self) except -1:
        cdef spin_extern found
        if api.instance_export_get(self.context, &self.handle, b"memory", 6, &found) and found.kind == SPIN_EXTERN_MEMORY:
            self.memory = found.of.memory
            self.has_memory = True
            self.base = api.memory_data(self.context, &self.memory)
            self.memory_bytes = api.memory_data_size(self.context, &self.memory)
        self._find_log()
        self.has_realloc = self._find_function("cabi_realloc", "iiii:i", &self.realloc)
        return 0

    cdef int lose_log(self) except -1:
        """It was left behind by its store: its log is gone."""
        self.g.log = &self.g.idle
        self.log_base = NULL
        self.bytes_base = NULL
        return 0

    cdef int _find_log(self) except -1:
        cdef spin_extern found
        if api.instance_export_get(self.context, &self.handle, b"spinrt:undo", 11, &found) and found.kind == SPIN_EXTERN_MEMORY:
            self.log_base = api.memory_data(self.context, &found.of.memory)
            self.log_bytes = api.memory_data_size(self.context, &found.of.memory)
            self.g.log = <spin_log *>self.log_base
        if api.instance_export_get(self.context, &self.handle, b"spinrt:undo-bytes", 17, &found) and found.kind == SPIN_EXTERN_MEMORY:
            self.bytes_base = api.memory_data(self.context, &found.of.memory)
            self.undo_bytes = api.memory_data_size(self.context, &found.of.memory)
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

    cdef inline uint8_t *room(self, uint32_t pointer, uint64_t length) except NULL:
        """The same to be written by the host: what is there can be put back."""
        cdef uint8_t *at = self.span(pointer, length)
        if pointer + length > self.g.log.dead_below and self.log_base != NULL:
            _save(self, pointer, length)
        return at

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
        if cost > self.g.lift_left:
            raise QuotaExceeded(
                f"extension {self.name}: found more than {self.limits.lift_bytes} bytes passed to the host in one call, expected at most that",
                hint="raise limits.lift_bytes",
            )
        self.g.lift_left -= cost
        return 0

    cdef uint32_t allocate(self, uint32_t align, uint64_t size) except? 0xFFFFFFFF:
        """Ask the guest's `cabi_realloc` for room; what it answers is checked like any pointer of a guest."""
        cdef spin_raw raw[4]
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        cdef bint could_leave = self.g.may_leave
        if size == 0:
            return align
        if not self.has_realloc or size > self.limits.memory_bytes:
            raise QuotaExceeded(f"extension {self.name}: found {size} bytes to pass in, expected them to fit into its memory")
        raw[0].u64 = 0
        raw[1].u64 = 0
        raw[2].u64 = align
        raw[3].u64 = size
        self.g.may_leave = False
        error = api.func_call_unchecked(self.context, &self.realloc, raw, 4, &trap)
        self.g.may_leave = could_leave
        if error != NULL or trap != NULL:
            raise self.fault("cabi_realloc", error, trap)
        _check_aligned(raw[0].u32, align)
        self.span(raw[0].u32, size)
        return raw[0].u32

    cdef uint32_t put_bytes(self, const uint8_t *data, uint64_t size) except? 0xFFFFFFFF:
        cdef uint32_t pointer = self.allocate(1, size)
        if size:
            memcpy(self.room(pointer, size), data, size)
        return pointer

    # --------------------------------------------------------------------------------------------------------- calls

    @property
    def broken(self):
        """Whether a call failed half-way, or it was killed or closed: nothing more runs in this instance."""
        return (self.g.state & (SPIN_BROKEN | SPIN_CLOSED)) != 0

    @property
    def busy(self):
        """Whether it is running now."""
        return (self.g.state & SPIN_BUSY) != 0

    @property
    def memory_size(self):
        """Bytes of its memory now; 0 when it has been left behind by its store."""
        return api.memory_data_size(self.context, &self.memory) if self.has_memory and self.is_there() else 0

    @property
    def handle_count(self):
        """Resource handles that it holds now."""
        return self.handles.live

    def close(self):
        """Let nothing enter it any more; its store may forget it."""
        self._mark(SPIN_CLOSED)
        self._count_out()
        self.on_needed = None

    cdef bint is_there(self) noexcept:
        """Whether the engine store still has it: what cannot be entered is not moved when the store is collected."""
        return self.generation == self.store.state.generation

    def kill(self, object death not None):
        """End what runs in it at the next tick, with that exception, and let nothing enter it any more.

        Instances that call it directly end with it. May be called from a signal handler, from a host function, and from another
        thread while a long call runs without the interpreter's lock.
        """
        cdef Instance other
        for other in [self, *[one for one in self.store.instances if self in one.linked]]:
            other.death = death
            other.g.killed = True
            other._mark(SPIN_BROKEN)

    @property
    def quarantined(self):
        """Whether it is kept from running for a while."""
        return (self.g.state & SPIN_QUARANTINED) != 0

    @quarantined.setter
    def quarantined(self, bint wanted):
        self.g.state &= ~<uint32_t>SPIN_QUARANTINED
        self._mark(SPIN_QUARANTINED if wanted else 0)

    cdef int ask_for(self) except -1:
        """Somebody wants to enter it: whoever keeps it from running may think again, and put another in its place."""
        if self.g.state & SPIN_QUARANTINED and self.on_needed is not None:
            self.on_needed()
        return 0

    cdef int _mark(self, uint32_t bit) except -1:
        self.g.state |= bit
        spin_new_version(&self.store.state)
        return 0

    cdef int mark_broken(self) except -1:
        """A call failed half-way. What it may have called directly is as unsure as itself; what calls it directly has to be linked anew."""
        cdef Instance other
        self._mark(SPIN_BROKEN)
        for other in self.linked:
            other._mark(SPIN_BROKEN)
        if self.store.live > 1:
            for other in list(self.store.instances):
                if other.linked and any([one is self or one in self.linked for one in other.linked]):
                    other.lose_exporter(self)
        return 0

    cdef int lose_exporter(self, Instance exporter) except -1:
        """One that it calls directly is broken. If it is running it would go on calling it: it ends as soon as it calls out."""
        if self.g.state & SPIN_BUSY:
            if self.death is None:
                self.death = StateError(f"extension {self.name}: {exporter.name}, which it calls directly, failed while it was running")
            self.g.killed = True
            self._mark(SPIN_BROKEN)
        else:
            self._mark(SPIN_STALE)
        return 0

    @property
    def stale(self):
        """Whether something that it calls directly was replaced: `relink` brings it back with all that it has."""
        return self.g.state == SPIN_STALE

    def relink(self, tuple imports not None):
        """Serve its imports by these from now on; its memory, globals and handles stay.

        Its exports must be bound again afterwards (`Export.rebind`).

        Raises:
            StateError: It is running.
            LinkError, ExtensionError: They do not fit; it is as it was.
        """
        _relink(self, imports)

    cdef int refuse(self) except -1:
        """Say why it cannot be entered."""
        if self.death is not None:
            raise self.death.with_traceback(None)  # raised again and again: it must not gather frames
        if self.g.state & SPIN_CLOSED:
            raise ClosedError(f"extension {self.name}: found a call after it was unloaded, expected none")
        if self.g.state & SPIN_QUARANTINED:
            raise Quarantined(f"extension {self.name}: found it quarantined after too many faults, expected it to run", hint="`spinrt inspect` shows its last faults")
        if self.g.state & SPIN_STALE and not self.g.state & SPIN_BROKEN:
            raise StateError(f"extension {self.name}: found one that it calls directly failed, expected it to be linked again")
        if self.g.state & SPIN_BROKEN:
            raise StateError(f"extension {self.name}: a call failed in this instance, expected a fresh one")
        if self.g.state == SPIN_HELD:
            raise UsageError(
                f"extension {self.name}: found it with changes of a transaction that is still open, expected that to be committed or rolled back before another raise",
                hint="end a transaction before anything else runs; do not await inside of one",
            )
        raise StateError(f"extension {self.name}: found a call while one is running in it, expected it to be entered once at a time")

    cdef inline bint may_be_entered(self, Touches touches) noexcept:
        """Whether a call of this transaction may run in it: nothing is wrong with it, and no other one holds it."""
        return self.g.state == 0 or (self.g.state == SPIN_HELD and self.holder is touches)

    cdef int enter(self, spin_frame *frame, spin_slot *slot, Touches touches) except -1:
        """Begin a call: no call inside a call, fresh quotas, a deadline. Every `enter` that returned is followed by a `leave`."""
        cdef Instance other
        if not spin_may_enter(&self.store.state):
            self.store.refuse_entry(self.name)
        if not self.may_be_entered(touches):
            self.refuse()
        slot.guest = &self.g
        slot.ticks = self.g.deadline_ticks
        slot.ephemeral = 0
        for other in self.linked:
            if other.g.state & SPIN_QUARANTINED:
                raise ExporterFailed(f"extension {self.name}: found {other.name}, which it calls directly, quarantined, expected it to run")
            if not other.may_be_entered(touches):
                other.refuse()
        self.store.push(frame, slot)
        self.g.state |= SPIN_BUSY
        for other in self.linked:
            other.g.state |= SPIN_BUSY
        self.refill(frame, 0)
        return 0

    cdef int leave(self, spin_frame *frame) except -1:
        cdef Instance other
        self.g.state &= ~<uint32_t>SPIN_BUSY
        for other in self.linked:
            other.g.state &= ~<uint32_t>SPIN_BUSY
            other.call = None
        self.store.pop(frame)
        return 0

    cdef inline void refill(self, spin_frame *frame, uint32_t progress) noexcept:
        """Fresh quotas for the handler that runs."""
        self.g.budget_seq = spin_number(&self.store.state, frame)
        self.g.budget_progress = progress
        self.g.host_calls_left = self.g.host_calls
        self.g.lift_left = self.g.lift_bytes

    cdef object fault(self, str where, spin_error *error, spin_trap *trap):
        """What went wrong, as an error; both arguments are consumed. What the call changed is still there."""
        return self.failure(where, _trace_of(error, trap))

    cdef object failure(self, str where, Trace trace):
        """As `fault`, of what was kept."""
        failure = self._failure(where, trace)
        if isinstance(failure, SpinError) and failure.trace is None:
            failure.trace = trace
        return failure

    cdef str plain_trap(self, Trace trace):
        """Why it trapped, where that is all there is to say: nobody ended the call, no host function failed, its log was not full."""
        if self.store.state.ended != SPIN_RUNS or self.store.pending is not None or self.linked or _full_log(self) is not None:
            return None
        return _plain_reason(trace)

    cdef object _failure(self, str where, Trace trace):
        cdef uint32_t ended = self.store.state.ended
        self.store.state.ended = SPIN_RUNS
        failure = self.store.take_pending()
        if failure is None and ended == SPIN_ENDED_KILL and self.death is not None:
            failure = self.death
        if failure is None and ended == SPIN_ENDED_DEADLINE:
            failure = DeadlineExceeded(
                f"extension {self.name}, {where}: still running at its deadline", hint="raise limits.deadline_ms or make the handler shorter"
            )
        if failure is None and ended == SPIN_ENDED_OUTER:
            failure = CallerDeadline(f"extension {self.name}, {where}: ended at the deadline of the call that it served")
        if failure is None:
            failure = _full_log(self)
        return _failure_of(trace, f"extension {self.name}, {where}") if failure is None else failure

cdef spin_trap *_call_nobody(void *env, spin_caller *caller, spin_raw *raw, size_t count) noexcept:
    return api.trap_new(b"not linked", 10)


cdef int _discard(spin_error *error, spin_trap *trap) except -1:
    if error != NULL:
        api.error_delete(error)
    if trap != NULL:
        api.trap_delete(trap)
    return 0
