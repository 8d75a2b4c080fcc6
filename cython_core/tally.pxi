# Tallies: the faults of a domain, counted and kept without being put into words.
#
# Where nobody needs an error of a trap, none is made: an exception, and telling of it, takes longer than all else that a trap costs.
# docs/design/supervisor.md, "Monitor".

@cython.final
cdef class Tally:
    """Faults of one domain: how many there were, the last ones, and when.

    Args:
        kept: How many of the last ones are kept.
        times: When the last ones of its window were, in seconds; bounded by its ``maxlen``.
        now: Gives the time in seconds.
        budget: So many within the window are too many; 0: no number is.
        window_s: The window.
        recorded: Each has to be told, since crash records are kept.

    Attributes:
        faults: Calls that failed.
        unsaid: Faults since the last log line.
        line_at_s: When the next fault gets a log line.
        watched: Each has to be told, since it decides about the domain.
    """

    cdef readonly uint64_t faults
    cdef readonly object times
    cdef public uint64_t unsaid
    cdef public double line_at_s
    cdef public bint watched
    cdef bint recorded
    cdef object now
    cdef Py_ssize_t budget
    cdef double window_s
    cdef uint64_t traps     # of `faults`, those that are not in `codes`
    cdef dict codes
    cdef list ring
    cdef Py_ssize_t place   # in the ring, of the next one

    def __init__(self, Py_ssize_t kept, object times not None, object now not None, *, Py_ssize_t budget, double window_s, bint recorded):
        self.ring, self.times, self.now = [None] * kept, times, now
        self.budget, self.window_s, self.recorded = budget, window_s, recorded
        self.line_at_s = -1.0
        self.codes = {}

    @property
    def by_code(self):
        """How many there were by the code of the error."""
        found = dict(self.codes)
        if self.traps:
            found[Trapped.code] = found.get(Trapped.code, 0) + self.traps
        return found

    def last(self):
        """The last ones, the newest first: (seconds, event, code, text, hint, arguments, trace)."""
        kept = [one for one in self.ring[self.place:] + self.ring[:self.place] if one is not None]
        return [one if type(one[3]) is str else (*one[:3], f"extension {one[3][0]}, {one[1]}: {one[3][1]}", *one[4:]) for one in reversed(kept)]

    def note(self, double at_s, str event not None, str code not None, str text not None, str hint not None, object arguments, object trace):
        """Count one and keep it; its time is kept by whoever decides about the domain."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.keep((at_s, event, code, text, hint, arguments, trace))

    cdef int keep(self, tuple fault) except -1:
        self.faults += 1
        self.ring[self.place] = fault
        self.place = (self.place + 1) % len(self.ring)
        return 0

    cdef bint note_trap(self, str event, str name, str reason, tuple arguments, Trace trace) except -1:
        """Count and keep a trap of this extension; false when an error has to be made of it: it is too many, or a log line is due."""
        if self.watched or self.recorded:
            return False
        now = self.now()
        if <double>now >= self.line_at_s or self.is_last_straw(<double>now):
            return False
        self.times.append(now)
        self.unsaid += 1
        self.traps += 1
        self.keep((now, event, Trapped.code, (name, reason), "", arguments, trace))
        return True

    cdef bint is_last_straw(self, double now_s) except -1:
        """Whether one more now uses up the budget."""
        cdef Py_ssize_t count = len(self.times)
        if self.budget == 0 or count + 1 < self.budget:
            return False
        return self.budget == 1 or now_s - <double>self.times[1 + count - self.budget] < self.window_s
