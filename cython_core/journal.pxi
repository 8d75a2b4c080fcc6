# The running call and its journal of effects.
#
# A host function that changes something appends an effect instead of doing it. When the raise succeeded, whoever raised
# commits the effects in their order; when a handler fails, the journal goes back to the mark taken before it.

cdef class Wish:
    """An effect of which nothing is left to do when it is applied: whoever raised the event reads it from the journal."""

    def apply(self):
        """Nothing."""


@cython.final
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
cdef class Call:
    """One raise, as its handlers and the host functions that they call see it.

    Attributes:
        event: Name of the event.
        context: What the raiser passed along for host functions; never seen by a guest.
        journal: The effects so far.
        domain: The domain whose handler is running.
        cancelled: Whether a handler of the raise that is under way asked that those behind it do not run.
    """

    cdef public str event
    cdef public object context
    cdef readonly Journal journal
    cdef public object domain
    cdef public bint cancelled
    cdef list joined            # instances that hold this call while a flat raise runs

    def __init__(self, str event not None="", object context=None):
        self.event = event
        self.context = context
        self.journal = Journal()
        self.domain = None

    def cancel(self):
        """End the raise behind the handler that runs; what ran before keeps its result and effects. Of one that fails, nothing is left."""
        self.cancelled = True
