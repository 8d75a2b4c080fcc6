# Entries and tables: the handlers of one event as flat rows.
#
# `_Rows` is a list that only ever grows; a `Table` is a prefix of it. Appending shares the rows, so that installing at the end costs the same
# however many there are, and a raise that is under way walks the prefix that it began with. Any other change makes new rows.

cdef enum:
    LATENCY_BUCKETS = 160
    EFFECTS_MAX_HOST = 0xFFFFFFFF


@cython.final
cdef class Entry:
    """One handler of one event, as the dispatcher sees it (docs/design/dispatch.md, "An entry").

    Args:
        handler: An `Export`, or a Python callable ``handler(call[, closure], *arguments)``.
        domain: Whom it belongs to; what ``on_fault`` is told.
        effects_max: Effects that it may have in one call.
        closure: Passed in front of the arguments, unless it is ``NO_CLOSURE``.
        guards: All must hold for it to run.
        filters: Its result is the arguments for those behind it.
        cancels: When it ran, those behind it do not.
        enqueue: Called as ``enqueue(call, entry, arguments)`` instead of the handler.
        quantum_ticks: When it is ended, which is then no fault; 0: at its domain's deadline.
        tally: Of its domain: where traps are noted that nobody needs to be told of.

    Attributes:
        raises: How often it ran.
        guarded: How often a guard held it back; in a table with an index only those are counted whose guard was asked.
        faults: How often it failed.
        ended: How often it was ended by its quantum.
    """

    cdef readonly object handler, domain, closure, enqueue
    cdef readonly tuple guards
    cdef Tally tally
    cdef readonly uint32_t effects_max, quantum_ticks
    cdef readonly bint filters, cancels
    cdef bint decided           # the index of its rows says alone whether its guards hold
    cdef public uint64_t guarded, faults, ended
    cdef uint64_t counted       # raises that were counted here …
    cdef _Rows rows              # … and there, since `since`
    cdef uint64_t since
    cdef uint32_t *latencies

    def __init__(
        self, object handler not None, object domain=None, uint32_t effects_max=EFFECTS_MAX_HOST, *, object closure=NO_CLOSURE,
        tuple guards=(), bint filters=False, bint cancels=False, object enqueue=None, uint32_t quantum_ticks=0,
        Tally tally=None,
    ):
        if quantum_ticks and not isinstance(handler, Export):
            raise UsageError("entry: found a quantum for a handler in Python, expected one only for an extension's handler")
        self.handler, self.domain, self.closure, self.enqueue = handler, domain, closure, enqueue
        self.guards, self.tally = guards, tally
        self.effects_max, self.quantum_ticks = effects_max, quantum_ticks
        self.filters, self.cancels = filters, cancels

    def __dealloc__(self):
        free(self.latencies)

    @property
    def raises(self):
        return self.counted + self._shared_raises()

    @raises.setter
    def raises(self, uint64_t count):
        self.counted = count - self._shared_raises()

    cdef uint64_t _shared_raises(self) noexcept:
        return 0 if self.rows is None else self.rows.single.walks - self.since

    def latency(self):
        """Sampled run times as (upper bound in ns, count) of each bucket that is not empty; one raise in 1,024 is sampled."""
        cdef int bucket
        if self.latencies == NULL:
            return []
        return [(_bucket_top(bucket), self.latencies[bucket]) for bucket in range(LATENCY_BUCKETS) if self.latencies[bucket]]

    cdef int note_latency(self, uint64_t taken_ns) except -1:
        if self.latencies == NULL:
            self.latencies = <uint32_t *>calloc(LATENCY_BUCKETS, sizeof(uint32_t))
            if self.latencies == NULL:
                raise MemoryError
        self.latencies[_bucket_of(taken_ns)] += 1
        return 0

    cdef bint is_flat(self, str signature) except -1:
        """Whether the stub may run it: a function of flat values only, with guards that compare them."""
        cdef Export export
        if not isinstance(self.handler, Export) or self.closure is not _no_closure or self.filters or self.enqueue is not None:
            return False
        export = self.handler
        if not export.plan.is_flat or export.has_post or export.plan.export_signature != signature or export.guest.linked:
            return False
        for guard in self.guards:
            if not isinstance(guard, FieldGuard) or len((<FieldGuard>guard).path) != 1:
                return False
        return True


cdef inline int _bucket_of(uint64_t ns) noexcept:
    """Four buckets for each doubling: a value is known to a quarter."""
    cdef int exponent
    if ns < 4:
        return <int>ns
    exponent = 63 - __builtin_clzll(ns)
    return min(LATENCY_BUCKETS - 1, (exponent - 1) * 4 + <int>((ns >> (exponent - 2)) & 3))


cdef uint64_t _bucket_top(int bucket):
    if bucket < 4:
        return bucket
    return ((<uint64_t>(bucket & 3) + 5) << (bucket // 4 - 1)) - 1


@cython.final
cdef class _Rows:
    """The entries of tables that share them, in order."""

    cdef list entries
    cdef spin_slot *slots
    cdef list outgrown          # buffers of slots that a raise under way may still look at
    cdef uint32_t capacity
    cdef str signature          # of the event, when all entries are flat …
    cdef Store store            # … and in this store; else None
    cdef bint flat, guarded, cancelling
    cdef bint hosted            # one of them is the host's own, which takes arguments as they come
    cdef bint logged            # one of them has an undo log
    cdef bint repeated          # two of them are in one instance: the log does not tell them apart
    cdef set instances          # addresses of those that they were in when they were added
    cdef spin_single single     # the first row, when it is the only one, and how often all rows ran …
    cdef Instance single_guest  # … and whose it is: `single` points into it and into its store
    cdef GuardIndex index
    cdef uint32_t indexed
    cdef uint32_t *positions    # room for what a flat raise finds; one at a time
    cdef uint32_t positions_max

    def __cinit__(self):
        self.entries, self.outgrown, self.instances = [], [], set()
        self.flat = True
        spin_prepare(&self.single)

    def __dealloc__(self):
        free(self.slots)
        free(self.positions)
        for address in self.outgrown or ():
            free(<void *><size_t>address)

    cdef int add(self, Entry entry) except -1:
        cdef uint32_t position = len(self.entries)
        cdef spin_slot *wider
        if position == self.capacity:
            wider = <spin_slot *>malloc(max(4, 2 * self.capacity) * sizeof(spin_slot))
            if wider == NULL:
                raise MemoryError
            if self.slots != NULL:
                memcpy(wider, self.slots, self.capacity * sizeof(spin_slot))
                self.outgrown.append(<size_t>self.slots)
            self.slots, self.capacity = wider, max(4, 2 * self.capacity)
        self.entries.append(entry)
        self.guarded = self.guarded or bool(entry.guards)
        self.cancelling = self.cancelling or entry.cancels
        self.hosted = self.hosted or entry.domain is None
        self._note_flat(entry)
        if self.flat:
            self.set_slot(position)
        if entry.rows is not None:
            entry.counted += entry.rows.single.walks - entry.since
        entry.rows, entry.since = self, self.single.walks
        return 0

    cdef int _note_flat(self, Entry entry) except -1:
        cdef Export export
        if not self.flat or not isinstance(entry.handler, Export):
            self.flat = False
            return 0
        export = entry.handler
        if self.store is None:
            self.store, self.signature = export.guest.store, export.plan.export_signature
            self.single.state = &self.store.state  # of version 0: it is looked up before it runs
        self.flat = export.guest.store is self.store and entry.is_flat(self.signature)
        self.repeated = self.repeated or <size_t><void *>export.guest in self.instances
        self.instances.add(<size_t><void *>export.guest)
        return 0

    cdef inline int set_slot(self, uint32_t position) except -1:
        """Write down whom a row runs now."""
        cdef Entry entry = self.entries[position]
        cdef Instance guest = (<Export>entry.handler).guest
        self.logged = self.logged or guest.log_base != NULL
        self.slots[position].guest = &guest.g
        self.slots[position].ticks = guest.g.deadline_ticks
        self.slots[position].ephemeral = entry.quantum_ticks
        if entry.quantum_ticks:
            self.slots[position].ticks = min(entry.quantum_ticks, guest.g.deadline_ticks)
        return 0

    cdef uint32_t *room_for_positions(self) except NULL:
        cdef uint32_t *wider
        if self.positions_max < len(self.entries):
            wider = <uint32_t *>realloc(self.positions, 2 * len(self.entries) * sizeof(uint32_t))
            if wider == NULL:
                raise MemoryError
            self.positions, self.positions_max = wider, 2 * len(self.entries)
        return self.positions

    cdef int find_single(self, uint32_t row) except -1:
        """Look up a row as it is now; what is found of the first one is kept in `single`.

        Raises:
            SpinError: It cannot be entered now.
        """
        cdef Export export = (<Entry>self.entries[row]).handler
        cdef Instance guest = export.wanted()
        if not spin_may_enter(&guest.store.state):
            guest.store.refuse_entry(guest.name)
        if guest.g.state & ~<uint32_t>SPIN_HELD or (guest.g.state and not _is_held_here(guest)):
            guest.refuse()
        export.refresh()
        self.set_slot(row)
        if guest.linked:
            self.flat = False  # it calls others directly since it was installed: only tier 1 marks them as running
        if row:
            return 0
        self.single_guest = guest
        self.single.state = &guest.store.state
        self.single.guest = &guest.g
        self.single.what.slots, self.single.what.progress, self.single.what.rows = self.slots, &_first_slot, <void *>self
        self.single.context = guest.context
        self.single.function = export.function
        self.single.version = guest.store.state.version
        return 0

    cdef bint belong_to(self, void *dispatcher) noexcept:
        """Whether that dispatcher may run them the quick way: one alone is told of what fails there, the first that asks."""
        if self.single.what.dispatcher == NULL:
            self.single.what.dispatcher = dispatcher
        return self.single.what.dispatcher == dispatcher

    cdef int outlive_raise(self) except -1:
        """They are no longer used; one that runs now may still look at them."""
        if self.single_guest is not None:
            self.single_guest.store.retire(self)
        return 0

    cdef int settle(self) except -1:
        """Give each entry its share of `walks`: the rows are no longer used."""
        cdef Entry entry
        for entry in self.entries:
            if entry.rows is self:
                entry.counted += self.single.walks - entry.since
                entry.rows = None
        return 0

    cdef int bring_index(self) except -1:
        """Index what was appended since; the path is that of most entries when the index is made."""
        cdef Entry entry
        if self.index is None:
            self.index = GuardIndex(_usual_path(self.entries))
        while self.indexed < len(self.entries):
            entry = self.entries[self.indexed]
            entry.decided = self.index.add(self.indexed, entry.guards)
            self.indexed += 1
        return 0


cdef bint _is_held_here(Instance guest) except -1:
    """Whether the transaction that holds an instance is the one that runs. (One that is passed along looks for itself.)"""
    cdef Call call = _call_within(spin_running())
    return call is None or guest.holder is call.touches


cdef tuple _usual_path(list entries):
    counts = {}
    for entry in entries:
        for path in {(<FieldGuard>guard).path for guard in (<Entry>entry).guards if isinstance(guard, (EqualGuard, RangeGuard))}:
            counts[path] = counts.get(path, 0) + 1
    return max(counts, key=counts.get) if counts else (0,)


@cython.final
cdef class Table:
    """The handlers of an event in their order; immutable."""

    cdef _Rows rows
    cdef uint32_t count
    cdef bint sealed            # something was appended to it: appending again needs rows of its own

    def __init__(self, object entries not None=()):
        self.rows = _Rows()
        for entry in entries:
            self.rows.add(<Entry?>entry)
        self.count = len(entries)

    def __len__(self):
        return self.count

    @property
    def entries(self):
        return tuple(self.rows.entries[: self.count])

    def append(self, Entry entry not None):
        """A table with one entry more, which shares the others. Cost: the same for any length."""
        cdef Table longer = Table.__new__(Table)
        if self.sealed or self.count != len(self.rows.entries):
            return Table((*self.entries, entry))
        self.rows.add(entry)
        self.sealed = True
        longer.rows, longer.count = self.rows, self.count + 1
        return longer

    def walk(self, Call call not None, tuple arguments not None, object on_fault not None):
        """Run what passes its guards, one after the other, inside a call; the results in order.

        A handler that fails loses its effects; then ``on_fault(domain, error)`` is called, and if it returns, the walk
        goes on behind the handler, which gives no result. What is no `SpinError` (KeyboardInterrupt, say) ends the walk.
        """
        return _walk(self, call, arguments, on_fault, False)

    def retire(self):
        """The event uses other rows from now on: the entries get their share of what was counted together."""
        self.rows.settle()
