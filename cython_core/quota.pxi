# Rates: what may be done per minute, however many calls it is spread over. A meter takes one token for each host call that reaches
# the outside, so it runs for every record that an extension logs.

cdef double MINUTE_S = 60.0


@cython.final
cdef class Rate:
    """A bucket of tokens: a minute's worth at the start, and they come back evenly.

    Args:
        per_minute: How many it holds, and how many come back in a minute.
        clock: Only its monotonic time is used.

    Attributes:
        per_minute: As given.
    """

    cdef readonly uint64_t per_minute
    cdef object monotonic_s
    cdef double tokens
    cdef double seen_s

    def __init__(self, uint64_t per_minute, object clock not None):
        self.per_minute = per_minute
        self.monotonic_s = clock.monotonic_s
        self.tokens = per_minute
        self.seen_s = self.monotonic_s()

    @property
    def left(self):
        """Uses that would be allowed now."""
        self.refill()
        return int(self.tokens)

    cpdef bint take(self) except -1:
        """Take a token; false when there is none."""
        self.refill()
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    cdef int refill(self) except -1:
        cdef double now_s = self.monotonic_s()
        cdef double elapsed_s = now_s - self.seen_s
        self.seen_s = now_s
        if elapsed_s > 0:
            self.tokens = min(<double>self.per_minute, self.tokens + elapsed_s * self.per_minute / MINUTE_S)
        return 0


@cython.final
cdef class Meter:
    """Takes a token for each call of a function that reaches the outside, or refuses the call.

    Args:
        rate: Where tokens come from.
        extension: Whose calls these are, for the error.
        function: ``interface#function``, for the error.
    """

    cdef Rate rate
    cdef str extension
    cdef str function

    def __init__(self, Rate rate not None, str extension not None, str function not None):
        self.rate, self.extension, self.function = rate, extension, function

    def __call__(self):
        """Take a token.

        Raises:
            QuotaExceeded: There is none.
        """
        self.take()

    cdef int take(self) except -1:
        if self.rate.take():
            return 0
        raise QuotaExceeded(
            f"extension {self.extension}: found more than {self.rate.per_minute} calls that reach the outside, with "
            f"{self.function} in a minute, expected at most that",
            hint="raise limits.outside_calls_per_minute",
        )
