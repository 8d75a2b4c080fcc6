# The running call: its journal of effects, and what it has touched.
#
# A host function that changes something appends an effect instead of doing it, and what guests change is noted (``undo``). When the
# raise succeeded, whoever raised commits both; when a handler fails, both go back to the savepoint taken before it. A raise that begins
# while another runs shares the journal and the touches of that one, which commits them.

cdef class Wish:
    """An effect of which nothing is left to do when it is applied: whoever raised the event reads it from the journal."""

    def apply(self):
        """Nothing."""


@cython.final
@cython.freelist(16)
cdef class Journal:
    """Effects of one call, in order; each handler may add at most its domain's limit.

    Attributes:
        effects: The effects.
        room: How many more the handler that runs may add.
    """

    cdef readonly list effects
    cdef public uint32_t room

    def __cinit__(self):
        self.effects = []
        self.room = 0xFFFFFFFF

    def append(self, object effect):
        """Add one effect.

        Raises:
            QuotaExceeded: The handler that runs has used up its limit of effects.
        """
        if self.room == 0:
            raise QuotaExceeded("journal: found one effect more than limits.effects allows", hint="raise limits.effects")
        self.add(effect)

    def __len__(self):
        return len(self.effects)

    def apply(self):
        """Apply all effects in their order."""
        for effect in self.effects:
            if not isinstance(effect, Wish):
                effect.apply()

    cdef inline int add(self, object effect) except -1:
        """`append` for those who looked that there is room."""
        self.room -= 1
        self.effects.append(effect)
        return 0

    cpdef int roll_back(self, Py_ssize_t mark) except -1:
        """Drop all effects behind the first `mark`."""
        del self.effects[mark:]
        return 0


@cython.final
@cython.freelist(16)
cdef class Call:
    """One raise, as its handlers and the host functions that they call see it.

    Args:
        within: The call that it is part of: what it does is committed and rolled back with that.

    Attributes:
        event: Name of the event.
        context: What the raiser passed along for host functions; never seen by a guest.
        journal: The effects so far, those of the call that it is part of included.
        domain: The domain whose handler is running.
        cancelled: Whether a handler of the raise that is under way asked that those behind it do not run.
    """

    cdef public str event
    cdef public object context
    cdef readonly Journal journal
    cdef public object domain
    cdef public bint cancelled
    cdef list joined            # instances that hold this call while a flat raise runs
    cdef Touches touches
    cdef bint nested
    cdef Py_ssize_t effects_before, touches_before
    cdef uint32_t room_before   # what the handler that it runs in may still add: those of this call have limits of their own

    def __init__(self, str event not None="", object context=None, Call within=None):
        self.begin(event, context, within)

    cdef int begin(self, str event, object context, Call within) except -1:
        self.event = event
        self.context = context
        self.nested = within is not None
        self.journal = Journal() if within is None else within.journal
        self.touches = Touches() if within is None else within.touches
        self.effects_before, self.touches_before = len(self.journal.effects), len(self.touches.guests)
        self.room_before = self.journal.room
        self.domain = None
        return 0

    @property
    def effects(self):
        """Its own effects so far, in order; a copy."""
        return self.journal.effects[self.effects_before:]

    def savepoint(self):
        """Return where it is now, for `roll_back`."""
        return len(self.journal.effects), len(self.touches.guests)

    def roll_back(self, tuple savepoint=None):
        """Take back what was promised and changed behind a savepoint, or all that it did itself."""
        if savepoint is None:
            savepoint = self.effects_before, self.touches_before
            self.journal.room = self.room_before
        self.go_back(savepoint[0], savepoint[1])

    cdef int go_back(self, Py_ssize_t effects, Py_ssize_t touches) except -1:
        self.journal.roll_back(effects)
        if len(self.touches.guests) > touches:
            self.touches.roll_back(touches)
        return 0

    def keep(self):
        """Make what its guests changed permanent, and leave its effects to whoever applies them. Part of another call: that one does it."""
        self.journal.room = self.room_before
        if not self.nested:
            self.touches.keep()

    def commit(self):
        """Make what its guests changed permanent and apply its effects in order. Part of another call: that one does it."""
        self.keep()
        if not self.nested:
            self.journal.apply()

    def cancel(self):
        """End the raise behind the handler that runs; what ran before keeps its result and effects. Of one that fails, nothing is left."""
        self.cancelled = True


cdef Call _new_call(str event, object context):
    """The call of a raise that begins now."""
    cdef Call call = Call.__new__(Call)
    call.begin(event, context, running_call())
    return call


cdef Call _call_within(spin_frame *frame):
    """The call that a frame runs in, made if it has none yet; none where there is nothing to be part of."""
    if frame == NULL or (frame.call == NULL and frame.what.dispatcher == NULL):
        return None
    return _call_of(frame)


cpdef Call running_call():
    """The call that this thread runs now, or ``None``: what is raised meanwhile is part of it."""
    return _call_within(spin_running())
