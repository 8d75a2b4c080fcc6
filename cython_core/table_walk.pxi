# The walk of a table: every handler in its turn (tier 1; docs/design/dispatch.md, "The walk").

from time import perf_counter_ns as _clock_ns


@cython.final
cdef class Raises:
    """The raises of one runtime that go through the walk now, one inside the other. Flat ones show in `Store.running`.

    Args:
        waiting: What is to be done when none is left; only looked at.
        on_idle: Called when the outermost ends and something waits.
    """

    cdef public uint32_t depth
    cdef readonly object waiting, on_idle

    def __init__(self, object waiting, object on_idle):
        self.waiting, self.on_idle = waiting, on_idle

    cpdef int end(self) except -1:
        """One ends."""
        self.depth -= 1
        if self.waiting:
            self.on_idle()
        return 0


@cython.final
@cython.freelist(16)
cdef class _Walk:
    """One raise under way: the results so far, and where its effects of the running handler begin."""

    cdef Call call
    cdef tuple arguments
    cdef object on_fault
    cdef list results
    cdef bint timed

    cdef int guard_fault(self, object domain, object error) except -1:
        self.call.cancelled = False
        self.on_fault(domain, error)
        if not isinstance(error, SpinError):
            raise error
        return 0

    cdef bint passes(self, Entry entry) except -1:
        """Whether all of an entry's guards hold; nothing of what they did is left."""
        for guard in entry.guards:
            if not self._holds(guard):
                entry.guarded += 1
                return False
        return True

    cdef bint _holds(self, Guard guard) except -1:
        cdef Journal journal = self.call.journal
        cdef Py_ssize_t effects = len(journal.effects), touches = len(self.call.touches.guests)
        cdef uint32_t room = journal.room
        if not isinstance(guard, CallGuard):
            return guard.holds(self.arguments)
        outer = self.call.domain
        self.call.domain = (<CallGuard>guard).domain
        journal.room = EFFECTS_MAX_HOST
        try:
            return (<CallGuard>guard).ask(self.call, self.arguments)
        except BaseException as error:
            self.call.go_back(effects, touches)
            self.guard_fault((<CallGuard>guard).domain, error)
            return False
        finally:
            self.call.go_back(effects, touches)
            journal.room, self.call.domain, self.call.cancelled = room, outer, False

    cdef bint run(self, Entry entry) except -1:
        """Run one handler; whether the walk ends behind it."""
        cdef Journal journal = self.call.journal
        cdef Py_ssize_t effects = len(journal.effects), touches = len(self.call.touches.guests)
        cdef bint ran = True
        self.call.domain = entry.domain
        self.call.cancelled = False
        journal.room = entry.effects_max
        began = _clock_ns() if self.timed else 0
        try:
            answer = _run_handler(entry, self.call, self.arguments)
            if entry.enqueue is None:
                self._keep(entry, answer)
        except BaseException as error:
            self.call.go_back(effects, touches)
            ran = not _is_raisers(entry, error)
            self._fault(entry, error)
            return False
        finally:
            entry.counted += ran
        if self.timed:
            entry.note_latency(_clock_ns() - began)
        return entry.cancels or self.call.cancelled

    cdef int _fault(self, Entry entry, object error) except -1:
        if entry.quantum_ticks and isinstance(error, DeadlineExceeded):
            entry.ended += 1
            if entry.domain is not None:
                entry.domain.restore()
            return 0
        return _note_fault(self.on_fault, entry, error, self.call, self.arguments)

    cdef int _keep(self, Entry entry, object answer) except -1:
        if not entry.filters:
            self.results.append(answer)
            return 0
        if len(self.arguments) == 1:
            answer = (answer,)
        if not isinstance(answer, (tuple, list)) or len(answer) != len(self.arguments):
            raise UsageError(f"filter: found {answer!r:.80}, expected a tuple of {len(self.arguments)} arguments")
        self.arguments = tuple(answer)
        return 0


cdef int _note_fault(object on_fault, Entry entry, object error, Call call, tuple arguments) except -1:
    """Tell of a handler that failed with those arguments; the walk goes on when this returns. Ctrl-C and the like are nobody's fault and go on up."""
    if not isinstance(error, SpinError):
        on_fault(entry.domain, error)
        raise error
    if not isinstance(error, Quarantined) and not _is_raisers(entry, error):
        entry.faults += 1
        error.attempt = (entry, call, arguments)
    on_fault(entry.domain, error)
    return 0


cdef bint _is_raisers(Entry entry, object error) noexcept:
    """Whether it is a mistake of whoever raised, and the handler did not run. One in Python ran: its arguments were checked before."""
    if type(error) is not UsageError and type(error) is not RevokedArgument:
        return False
    return entry.enqueue is not None or isinstance(entry.handler, Export)


cdef object _run_handler(Entry entry, Call call, tuple arguments):
    if entry.enqueue is not None:
        return entry.enqueue(call, entry, arguments)
    if entry.closure is not _no_closure:
        arguments = (entry.closure, *arguments)
    if isinstance(entry.handler, Export):
        return (<Export>entry.handler).invoke(call, arguments, entry.quantum_ticks)
    return entry.handler(call, *arguments)


cdef list _walk(Table table, Call call, tuple arguments, object on_fault, bint timed):
    """Tier 1: every handler in its turn."""
    cdef _Walk walk = _Walk()
    cdef Journal journal = call.journal
    cdef Entry entry
    outer, room, cancelled = call.domain, journal.room, call.cancelled
    walk.call, walk.arguments, walk.on_fault, walk.results, walk.timed = call, arguments, on_fault, [], timed
    try:
        for entry in _passing(table, walk):
            if walk.run(entry):
                break
    finally:
        call.domain, journal.room, call.cancelled = outer, room, cancelled
    return walk.results


cdef list _passing(Table table, _Walk walk):
    """The entries whose guards hold, in order."""
    cdef _Rows rows = table.rows
    cdef uint32_t found, number
    cdef uint32_t *positions
    cdef Entry entry
    if not rows.guarded:
        return rows.entries[: table.count]
    rows.bring_index()
    positions = <uint32_t *>malloc((len(rows.entries) + 1) * sizeof(uint32_t))
    if positions == NULL:
        raise MemoryError
    passing = []
    try:
        found = rows.index.candidates(_value_at(rows.index.path, walk.arguments), table.count, positions)
        candidates = [rows.entries[positions[number]] for number in range(found)]
    finally:
        free(positions)
    for entry in candidates:
        if not entry.guards or walk.passes(entry):
            passing.append(entry)
    return passing


cdef object _value_at(tuple path, tuple arguments):
    cdef object found = arguments
    for step in path:
        if not isinstance(found, tuple) or step >= len(found):
            return None
        found = found[step]
    return found
